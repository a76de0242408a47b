"""plan - plan, execute, verify: a plan of steps first, each step on its own, then a judgement of the whole.

Good for requests of several parts. Cost: one call for the plan, one a step (none for a tool whose arguments the plan gives), one
for the verdict: a plan of two steps makes four calls. `--planner-model` plans and verifies, `--model` executes.

    $ assistant "Research X" --pattern plan --planner-model big --model small --json

The plan is asked for as JSON against a schema; numbered lines (`1. do x tool: calc expected: 4`) are read as well. Steps that say
what they need run in waves, all at once whose needs are there; without needs they run one after another. Confidence is the
model's own word. Not achieved is status 4, and so is a verdict that cannot be read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent_core.effects import Ask
from agent_core.messages import Image, system, user
from agent_core.options import Option
from agent_core.task import DATA_RULE, Answer, compose
from agent_core.tool import cap
from agent_patterns import plans
from agent_patterns import steps as carrying
from agent_patterns.asks import insist

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_core.effects import Pattern
    from agent_core.messages import Message
    from agent_core.task import Task
    from agent_patterns.steps import Step

OPTIONS = (
    Option("planner-model", "plan: the model that plans and verifies", "text", metavar="NAME"),
    Option("planner-provider", "plan: its provider", "text", metavar="NAME"),
    Option(
        "max-plan-steps", "plan: steps that are carried out; further ones are skipped (default 20)", "int", low=1, high=plans.MOST
    ),
    Option("keep-going", "plan: go on after a step that failed"),
    Option("lenient-plan", "plan: a step with an unknown tool is answered by the model and marked unverified"),
    Option("replan", "plan: times that a new plan is made after a failure (default 0)", "int", low=0, high=10),
    Option("step-pattern", "plan: how a step without a tool is done (default once)", "text", choices=("once", "react")),
)

PLANNER = """You make plans. Break the request into the fewest steps that fulfil it, at most {most}. Do not carry them out.
Give each step: id (a number), task (what to do, complete in itself), tool (the name of one of the tools below, or "none" if \
thinking and writing is enough), arguments (the tool's arguments as a JSON object in a string, "" if they depend on earlier \
results), expected (what its result should be), needs (the ids of the steps whose results it uses; steps without needs run at once).
Answer with one JSON object: {{"steps": [...]}}.

Tools:
{tools}"""
VERIFIER = """You verify work. Compare the results of the steps with the request, strictly: what is missing, wrong or
unproven counts. Answer with one JSON object: achieved (true only if the request is fulfilled as a whole), confidence (0 to 1),
issues (a list of texts, empty if there are none), answer (the complete final answer, made from the results alone)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to plan; the fields are the flags of the same names."""

    planner_model: str = ""
    planner_provider: str = ""
    max_plan_steps: int = 20
    keep_going: bool = False
    lenient_plan: bool = False
    replan: int = 0
    step_pattern: str = "once"

    @property
    def rules(self) -> carrying.Rules:
        """How steps are carried out."""
        return carrying.Rules(self.keep_going, self.lenient_plan, self.step_pattern == "react")


def settings_of(task: Task) -> Settings:
    """Return what the flags say."""
    given = {name: task.options.get(name) for name in Settings.__dataclass_fields__}
    return Settings(**{name: value for name, value in given.items() if value is not None})


def plan(task: Task, settings: Settings | None = None) -> Pattern:
    """Return the verifier's answer; the value is {steps, counts, verified}. Status 4 unless the request was achieved."""
    rules = settings or settings_of(task)
    done: tuple[Step, ...] = ()
    for attempt in range(1, rules.replan + 2):
        fresh = yield from planned(task, rules, done, attempt)
        kept = [step for step in done if step.state == "completed"]
        finished = yield from carrying.carry_out(task, fresh, rules.rules, kept)
        done = (*done, *finished)
        failed = [step for step in finished if step.state == "failed"]
        if not failed:
            break
    if failed and not rules.keep_going:
        issues = [f"step {step.id} failed: {step.error}" for step in failed]
        verdict = {"achieved": False, "confidence": None, "issues": issues, "raw_response": ""}
    else:
        verdict = yield from verified(task, rules, done)
    return _answer(done, verdict)


def _answer(done: Sequence[Step], verdict: dict[str, Any]) -> Answer:
    text = str(verdict.pop("answer", "")) or carrying.answer(done).text
    value = {"steps": [step.data() for step in done], "counts": carrying.counts(done), "verified": verdict}
    return Answer(text, value, 0 if verdict["achieved"] else 4)


# --- planning --------------------------------------------------------------------------------------------------------------------


def planned(task: Task, rules: Settings, done: Sequence[Step] = (), attempt: int = 1) -> Pattern:
    """Return the steps of a plan; those beyond the limit are skipped already. ContractError if two replies hold none."""
    head = PLANNER.format(most=rules.max_plan_steps, tools=_tools(task))
    words = task.text if not done else compose(f"{task.text}\n\nAn earlier plan failed. Plan only what is left.", _results(done))
    ask = Ask(
        _conversation(task, head, words), schema=plans.PLAN_SCHEMA, model=rules.planner_model, provider=rules.planner_provider
    )
    steps, _ = yield from insist(ask, plans.read_plan)
    room = rules.max_plan_steps - sum(step.state in {"completed", "failed"} for step in done)
    beyond = f"beyond the limit of {rules.max_plan_steps} steps"
    limited = [step if place < room else replace(step, state="skipped", error=beyond) for place, step in enumerate(steps)]
    return limited if attempt == 1 else [_renamed(step, attempt) for step in limited]


def _renamed(step: Step, attempt: int) -> Step:
    return replace(step, id=f"{attempt}.{step.id}", needs=tuple(f"{attempt}.{need}" for need in step.needs))


def _conversation(task: Task, head: str, words: str) -> list[Message]:
    own = task.system.removesuffix(DATA_RULE).strip()
    first = system("\n\n".join(part for part in (own, head, DATA_RULE) if part))
    return [first, *task.history, user(words, *(part for part in task.message.parts if isinstance(part, Image)))]


def _tools(task: Task) -> str:
    rows = [
        f"- {tool.name}: {' '.join(tool.description.split())} Arguments: {json.dumps(tool.parameters.get('properties', {}))}"
        for tool in task.tools or ()
    ]
    return "\n".join(rows) or "none"


def _results(done: Sequence[Step]) -> list[tuple[str, str]]:
    return [(f"step {step.id}, {step.state}", _result(step)) for step in done]


def _result(step: Step) -> str:
    note = "\n(no tool checked this)" if not step.verified else ""
    return f"{step.task}\n\n{cap(step.output or step.error, carrying.SHOWN)}{note}"


# --- verifying -------------------------------------------------------------------------------------------------------------------


def verified(task: Task, rules: Settings, done: Sequence[Step]) -> Pattern:
    """Return the verdict on what the steps came to (one call)."""
    words = compose("Was the request fulfilled?", [("request", task.text), *_results(done)])
    ask = Ask(
        [system(f"{VERIFIER}\n\n{DATA_RULE}"), user(words)], schema=plans.VERDICT_SCHEMA, model=rules.planner_model,
        provider=rules.planner_provider,
    )  # fmt: skip
    reply = yield ask
    verdict = plans.read_verdict(reply.text)
    unproven = [
        f"step {step.id}: the tool {step.tool} does not exist, its result is unverified" for step in done if not step.verified
    ]
    return {**verdict, "issues": [*verdict["issues"], *unproven]}
