"""swarm - split a task, work on the parts in parallel, put the results together.

    answer = yield from swarm(task, Swarm([a, b, c], split="breadth", enough=0.8))

The split is made by a model (a JSON list in which a part may need earlier ones), or lexically, without one (`parts`). A list of a
model that cannot be read is replaced by the lexical split, and that is told. Parts are given to the workers in turn, in waves: all
at once whose needs are done. `enough`: with that fraction of all parts done the rest is cancelled. Cost: one call for a model's
split, one for each part, one for a reducer of `reduce.MODEL`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent_core.effects import Call, Note
from agent_core.errors import AgentError, Failed
from agent_core.members import Member
from agent_core.task import compose, split
from agent_patterns.asks import ENDS
from agent_patterns.fan_out import fan, needed
from agent_patterns.group import result
from agent_patterns.parts import MOST, Part, lexical, read_parts
from agent_patterns.reduce import MODEL, Reduced, Rules, reduced_by
from agent_patterns.steps import begun, ended, planned
from agent_patterns.talk import Group, Talk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent_core.effects import Pattern
    from agent_core.task import Answer, Task

SPLIT = (
    "Split the task into parts that different workers can do on their own, as few as make sense and at most {most}. Look things up "
    "with the tools first where the parts depend on it (files in a folder). Each part must be understandable by itself. Answer "
    'with one JSON object and nothing else: {{"parts": [{{"id": "1", "task": "what to do", "needs": []}}]}}; `needs` names earlier '
    "parts whose result a part cannot do without."
)
PART = "This is one part of a larger task, which is given below; others do the rest. Do this part and answer with its result alone."


@dataclass(frozen=True, slots=True)
class Swarm:
    """Who works on the parts, how the task is split, and when that is enough. No workers: one in this run for each part."""

    workers: Sequence[Any] = ()
    split: str = "model"
    reduce: str = "merge"
    rules: Rules = field(default_factory=Rules)
    enough: float = 1.0
    limit: int | None = None
    most: int = MOST
    splitter: Any = None


def swarm(task: Task, plan: Swarm | None = None) -> Pattern:
    """Return the merged results of the parts; status 4 if fewer than `enough` of them came."""
    plan = plan or Swarm()
    parts, how = yield from _parts(task, plan)
    carriers = plan.workers or [Member(f"worker-{number}", task.system, task.tools or ()) for number in range(1, len(parts) + 1)]
    workers = {part.id: carriers[index % len(carriers)] for index, part in enumerate(parts)}
    results, talk = yield from _worked(task, plan, parts, workers)
    if not results:
        raise next(iter(talk.failures.values()), Failed("no part was done"))
    answers = [(f"{part.id}: {part.task}", results[part.id]) for part in parts if part.id in results]
    instruction, _ = split(task.text)
    reduced = yield from reduced_by(plan.reduce, answers, replace(plan.rules, question=instruction))
    talk.messages = len(answers) if plan.reduce in MODEL and len(answers) > 1 else 0
    return _answer(plan, parts, workers, (results, talk, reduced), how)


def _parts(task: Task, plan: Swarm) -> Pattern:
    """Return the parts and how they were made: model, breadth or depth."""
    instruction, materials = split(task.text)
    if plan.split != "model":
        return lexical(instruction, plan.split, plan.most)
    splitter = plan.splitter or Member("splitter", tools=task.tools or (), max_steps=task.max_steps)
    words = compose(f"{SPLIT.format(most=plan.most)}\n\nThe task: {instruction}", materials)
    reply = yield Call(splitter, words)
    parts = read_parts(str(reply), plan.most)
    if parts:
        return parts, "model"
    yield Note("notice", {"text": "the model's split cannot be read; splitting at words instead"})
    return lexical(instruction, "lexical", plan.most)


def _worked(task: Task, plan: Swarm, parts: Sequence[Part], workers: Mapping[str, Any]) -> Pattern:
    """Carry out the parts, wave by wave; return results by part and the Talk with failures and cancelled parts."""
    talk = Talk()
    results: dict[str, str] = {}
    waiting = list(parts)
    yield planned([(part.id, part.task, part.needs) for part in parts])
    while waiting:
        left = needed(float(plan.enough), len(parts)) - len(results)
        ready = [part for part in waiting if all(need in results for need in part.needs)]
        if left <= 0 or not ready:
            break
        waiting = [part for part in waiting if part not in ready]
        works = [_followed(part, Call(workers[part.id], _message(task, part, parts, results))) for part in ready]
        outcomes = yield from fan(works, left if left < len(ready) else None, plan.limit)
        yield from _sorted(ready, outcomes, results, talk)
    for part in waiting:
        yield ended(part.id, "skipped")
        missing = next((need for need in part.needs if need in talk.failures), None)
        if missing is None:
            talk.cancelled.append(part.id)
        else:
            talk.failures[part.id] = Failed(f"not begun: part {missing} failed")
    return results, talk


def _followed(part: Part, call: Call) -> Pattern:
    """Make the call of a part and tell of it as it happens."""
    yield begun(part.id, part.task)
    try:
        answer = yield call
    except ENDS:
        raise
    except AgentError as error:
        yield ended(part.id, "failed", error.line())
        raise
    yield ended(part.id, "completed")
    return answer


def _message(task: Task, part: Part, parts: Sequence[Part], results: Mapping[str, str]) -> str:
    instruction, materials = split(task.text)
    words = {each.id: each.task for each in parts}
    done = [(f"result of {need}: {words[need]}", results[need]) for need in part.needs]
    return compose(f"{part.task}\n\n{PART}", [("the whole task", instruction), *materials, *done])


def _sorted(ready: Sequence[Part], outcomes: Sequence[Any], results: dict[str, str], talk: Talk) -> Pattern:
    for part, outcome in zip(ready, outcomes, strict=True):
        if outcome is None:
            talk.cancelled.append(part.id)
            yield ended(part.id, "skipped")
        elif isinstance(outcome, AgentError):
            talk.failures[part.id] = outcome
            yield Note("notice", {"text": f"part {part.id} failed: {outcome}"})
        else:
            results[part.id] = str(outcome)


def _answer(
    plan: Swarm, parts: Sequence[Part], workers: Mapping[str, Any], came: tuple[dict[str, str], Talk, Reduced], how: str
) -> Answer:
    """Return the swarm's answer in the form of every group's, each part in place of a member."""
    results, talk, reduced = came
    talk.rounds = [results]
    made = result(
        Group([Member(part.id) for part in parts], reduce=plan.reduce, enough=float(plan.enough), topology="star"), talk, reduced,
        parts=[_row(part, workers[part.id], results, talk) for part in parts], split=how, converged_answer=reduced.answer,
    )  # fmt: skip
    answers = [
        {"agent": str(workers[part.id].name), "part": part.id, "output": results[part.id]} for part in parts if part.id in results
    ]
    return replace(made, value={**made.value, "answers": answers})


def _row(part: Part, worker: Any, results: Mapping[str, str], talk: Talk) -> dict[str, Any]:
    state = "done" if part.id in results else "failed" if part.id in talk.failures else "cancelled"
    return {"id": part.id, "task": part.task, "needs": list(part.needs), "agent": str(worker.name), "state": state}
