"""assignments - who does what in a coordination: a model's plan as steps that can be carried out, and what came of each. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent_core.task import compose, split

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MOST = 12
ROSTER, RESULTS, INPUT = "registered agents", "results of the agents", "input"

PLAN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "tasks": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "string", "minLength": 1},
                    "agent": {"type": "string", "description": "the name of a registered agent"},
                    "input": {"type": "string", "description": "what the agent is told, complete in itself"},
                    "needs": {"type": "array", "items": {"type": "string"}, "description": "ids of tasks; `input` is the material"},
                },
                "required": ["id", "agent", "input"],
            },
        },
        "answer": {"type": "string", "description": "only if no agent is needed"},
    },
    "required": ["tasks"],
}


@dataclass(frozen=True, slots=True)
class Step:
    """One planned task: who gets what, and the ids of the tasks whose results go with it."""

    id: str
    agent: str
    input: str
    needs: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The task in a few words."""
        return one_line(self.input) or "(no more than what it needs)"

    @property
    def name(self) -> str:
        """Its name in the progress of the run."""
        return self.agent if self.id == self.agent else f"{self.agent} {one_line(self.id)}"


@dataclass(frozen=True, slots=True)
class Done:
    """What a step came to. `cost_usd` and `run_id` are None where the carrier did not say; `mended`: a new plan made up for it."""

    step: Step
    status: int
    output: str = ""
    problem: str = ""
    cost_usd: str | None = None
    run_id: str | None = None
    mended: bool = False

    @property
    def good(self) -> bool:
        """Whether there is a result: a "no" (status 3) is one, too."""
        return not self.problem

    def row(self) -> dict[str, Any]:
        """Return the step as data."""
        return {
            "agent": self.step.agent, "task": self.step.input, "status": self.status, "cost_usd": self.cost_usd,
            "run_id": self.run_id, "output": self.output, "problem": self.problem or None,
        }  # fmt: skip


@dataclass(slots=True)
class Work:
    """A coordination as it goes: the request, who there is, what was done, what has to be said of it."""

    request: str
    materials: list[tuple[str, str]]
    agents: Mapping[str, Mapping[str, Any]]
    done: dict[str, Done] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


# --- the plan ---------------------------------------------------------------------------------------------------------


def listed(cards: Iterable[Mapping[str, Any]]) -> str:
    """Return the agents as lines for the model."""
    lines = []
    for card in cards:
        tags = f" [{', '.join(map(str, card.get('tags') or ()))}]" if card.get("tags") else ""
        lines.append(f"- {card['name']} (fits {card.get('score') or 0:.3f}): {card.get('when_to_use') or ''}{tags}")
    return "\n".join(lines)


def steps_of(plan: Mapping[str, Any], work: Work) -> list[Step]:
    """Return the steps of a plan that can be carried out; what is dropped is noted."""
    kept: dict[str, Step] = {}
    for each in plan["tasks"]:
        name, id_ = each["agent"].strip(), each["id"]
        if name not in work.agents:
            work.notes.append(f"{name[:60] or 'a task without an agent'}: no such agent is registered, its task was dropped")
        elif id_ in kept or id_ in work.done or id_ == INPUT:
            work.notes.append(f"{name}: a second task {id_[:40]!r} was dropped")
        elif len(kept) >= MOST:
            work.notes.append(f"{name}: more than {MOST} tasks, this one was dropped")
        else:
            kept[id_] = Step(id_, name, each["input"], tuple(dict.fromkeys(each.get("needs") or ())))
    return _without_circles(kept, work)


def _without_circles(kept: dict[str, Step], work: Work) -> list[Step]:
    """Return the steps in an order in which each comes after those it needs; needs of unknown tasks do not count."""
    known = {*kept, *work.done, INPUT}
    steps = {id_: replace(step, needs=tuple(need for need in step.needs if need in known)) for id_, step in kept.items()}
    ordered: list[Step] = []
    ready = {*work.done, INPUT}
    while free := [step for id_, step in steps.items() if id_ not in ready and ready.issuperset(step.needs)]:
        ordered += free
        ready.update(step.id for step in free)
    for id_ in [id_ for id_ in steps if id_ not in ready]:
        work.notes.append(f"{steps[id_].agent}: its task waits for itself in a circle and was dropped")
    return ordered


# --- what came of it --------------------------------------------------------------------------------------------------


def message_for(step: Step, work: Work) -> str:
    """Return what the agent of a step gets: its input, and as material what it needs (the request's own, if it needs nothing)."""
    needs = step.needs or (INPUT,)
    given = list(work.materials) if INPUT in needs else []
    given += [(f"answer of {work.done[need].step.agent}", work.done[need].output) for need in needs if need in work.done]
    return compose(step.input, given)


def with_facts(done: Done, outcome: Any) -> Done:
    """Return the step with what the agent's record says of its run, as far as the carrier passes that on."""
    facts = getattr(outcome, "facts", None) or {}
    cost = (facts.get("usage") or {}).get("cost_usd")
    return replace(done, status=int(facts.get("status") or done.status), cost_usd=cost, run_id=facts.get("run") or None)


def bill(done: Iterable[Done]) -> list[str]:
    """Return one line for each step: who, how it ended, what it cost."""
    lines = ["What was done:"]
    for each in done:
        state = "ok" if each.good and not each.status else "says no" if each.good else f"failed ({each.problem})"
        cost = f", ${each.cost_usd}" if each.cost_usd is not None else ""
        run = f", run {each.run_id}" if each.run_id else ""
        lines.append(f"- {each.step.agent}: {each.step.title} - {state}{cost}{run}")
    return lines


def one_line(text: str, most: int = 80) -> str:
    """Return the beginning of a text on one line."""
    flat = " ".join(split(text)[0].split())
    return flat if len(flat) <= most else f"{flat[: most - 1].rstrip()}…"
