"""swarm - split a task, work on the parts in parallel, put the results together.

    answer = yield from swarm(task, Swarm([a, b, c], split="breadth", enough=0.8))

The split is made by a model (a JSON list in which a part may need earlier ones), or lexically, without one: `breadth` cuts at
commas, semicolons and "and" into independent parts; `depth` cuts at "then" and "next" into stages, each of which needs the one
before. A model's list that cannot be read is replaced by the lexical split, and that is told. Parts are given to the workers in
turn; a part starts when what it needs is done. `enough`: with that fraction of all parts done the rest is cancelled. Cost: one call
for a model's split, one for each part, one for a reducer of `reduce.MODEL`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent_core.checked import first_object
from agent_core.effects import Call, Note
from agent_core.errors import AgentError, Failed
from agent_core.members import Member
from agent_core.task import compose, split
from agent_patterns.group import Group, Talk, fan, needed, result
from agent_patterns.reduce import MODEL, Reduced, Rules, reduced_by

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent_core.effects import Pattern
    from agent_core.task import Answer, Task

MOST = 64
SPLIT = (
    "Split the task into parts that different workers can do on their own, as few as make sense and at most {most}. Look things up "
    "with the tools first where the parts depend on it (files in a folder). Each part must be understandable by itself. Answer "
    'with one JSON object and nothing else: {{"parts": [{{"id": "1", "task": "what to do", "needs": []}}]}}; `needs` names earlier '
    "parts whose result a part cannot do without."
)
PART = "This is one part of a larger task, which is given below; others do the rest. Do this part and answer with its result alone."
_QUOTED = re.compile(r"\"[^\"\n]{0,1000}\"|“[^”\n]{0,1000}”|`[^`\n]{0,1000}`|\([^()\n]{0,1000}\)")
_STAGES = re.compile(r"\s*[,;.]?\s*\b(?:and\s+)?(?:then|next|after that|afterwards)\b\s*,?\s*", re.IGNORECASE)
_LISTED = re.compile(r"\s*(?:[;,]\s*(?:and\s+)?|\s+and\s+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a task; `needs` are ids of earlier parts."""

    id: str
    task: str
    needs: tuple[str, ...] = ()


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


def read_parts(text: str, most: int = MOST) -> list[Part]:
    """Return the parts that a model's JSON names; none if it is not readable. A part can only need earlier ones: no cycles.

    >>> read_parts('{"parts": [{"id": "a", "task": "look", "needs": ["b"]}, {"id": "b", "task": "write", "needs": ["a", "z"]}]}')
    [Part(id='a', task='look', needs=()), Part(id='b', task='write', needs=('a',))]
    """
    found = first_object(text)
    rows = found.get("parts", found.get("subtasks")) if isinstance(found, dict) else found
    parts: list[Part] = []
    for number, given in enumerate(rows[:most] if isinstance(rows, list) else [], 1):
        row = given if isinstance(given, dict) else {"task": given}
        words, wanted = row.get("task"), row.get("needs")
        if not isinstance(words, str) or not words.strip():
            return []
        known = {part.id for part in parts}
        name = str(row.get("id") or number)[:40]
        listed = [str(each)[:40] for each in wanted] if isinstance(wanted, list) else []
        needs = tuple(dict.fromkeys(each for each in listed if each in known))
        parts.append(Part(name if name not in known else f"{name}#{number}", words.strip(), needs))
    return parts


def lexical(text: str, kind: str = "lexical", most: int = MOST) -> tuple[list[Part], str]:
    """Return the parts of a sentence and how they were cut (`lexical`: depth if the words ask for an order, else breadth).

    Text in double quotes, backquotes and brackets is never cut.

        >>> [part.task for part in lexical("read a, b and c")[0]]
        ['read a', 'b', 'c']
        >>> [(part.id, part.task, part.needs) for part in lexical("list a and b, then sum up")[0]]
        [('1.1', 'list a', ()), ('1.2', 'b', ()), ('2.1', 'sum up', ('1.1', '1.2'))]
    """
    quoted: list[str] = []

    def hide(found: re.Match[str]) -> str:
        quoted.append(found[0])
        return f"\x00{len(quoted) - 1}\x01"

    masked = " ".join(_QUOTED.sub(hide, text.replace("\x00", "").replace("\x01", "")).split())
    stages = [stage for stage in _STAGES.split(masked) if stage.strip(" .,;")] or [masked]
    if kind == "breadth" or (kind == "lexical" and len(stages) == 1):
        return [Part(str(number), words) for number, words in enumerate(_pieces(masked, quoted)[:most], 1)], "breadth"
    parts: list[Part] = []
    before: tuple[str, ...] = ()
    for number, stage in enumerate(stages, 1):
        made = [Part(f"{number}.{each}", words, before) for each, words in enumerate(_pieces(stage, quoted), 1)]
        parts += made
        before = tuple(part.id for part in made)
    return parts[:most], "depth"


def _pieces(text: str, quoted: Sequence[str]) -> list[str]:
    pieces = [piece.strip(" .,;\n\t") for piece in _LISTED.split(text)]
    shown = [re.sub("\x00(\\d+)\x01", lambda found: quoted[int(found[1])], piece) for piece in pieces if piece]
    return shown or [text.strip() or "the task"]


def _worked(task: Task, plan: Swarm, parts: Sequence[Part], workers: Mapping[str, Any]) -> Pattern:
    """Carry out the parts, wave by wave; return results by part and the Talk with failures and cancelled parts."""
    talk = Talk()
    results: dict[str, str] = {}
    waiting = list(parts)
    while waiting:
        left = needed(float(plan.enough), len(parts)) - len(results)
        ready = [part for part in waiting if all(need in results for need in part.needs)]
        if left <= 0 or not ready:
            break
        waiting = [part for part in waiting if part not in ready]
        calls = [Call(workers[part.id], _message(task, part, parts, results)) for part in ready]
        outcomes = yield from fan(calls, left if left < len(ready) else None, plan.limit)
        yield from _sorted(ready, outcomes, results, talk)
    for part in waiting:
        missing = next((need for need in part.needs if need in talk.failures), None)
        if missing is None:
            talk.cancelled.append(part.id)
        else:
            talk.failures[part.id] = Failed(f"not begun: part {missing} failed")
    return results, talk


def _message(task: Task, part: Part, parts: Sequence[Part], results: Mapping[str, str]) -> str:
    instruction, materials = split(task.text)
    words = {each.id: each.task for each in parts}
    done = [(f"result of {need}: {words[need]}", results[need]) for need in part.needs]
    return compose(f"{part.task}\n\n{PART}", [("the whole task", instruction), *materials, *done])


def _sorted(ready: Sequence[Part], outcomes: Sequence[Any], results: dict[str, str], talk: Talk) -> Pattern:
    for part, outcome in zip(ready, outcomes, strict=True):
        if outcome is None:
            talk.cancelled.append(part.id)
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
