"""summarizer - say in a few sentences what a text says.

    $ printf 'Pipes join programs. A pipe carries text from one program to the next. I had tea.' | summarizer -q --sentences 1
    A pipe carries text from one program to the next.

    summarizer -q --bullets --sentences 5 < report.md
    cat minutes.txt | summarizer what was decided about the budget

Stdin is the text; words say what matters to you. `--sentences N` is a limit, not a target. A text longer than
`--chunk` characters is cut at paragraphs, its parts are summarised side by side, and the summaries are joined until they fit.

Without a model (`--provider offline`, or none set up) nothing is written: the most central sentences are taken out of the text as
they stand (see agent_plugins/extract.py for the formula), words only steer which ones, and a line on stderr says so.
`--json` has {summary, points, method, parts}; `method` is "model" or "extracted".
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from agent_core import Agent
from agent_core.effects import All, Ask, Note
from agent_core.errors import ContractError, MissingInput
from agent_core.messages import system, user
from agent_core.options import Option
from agent_core.task import DATA_RULE, Answer, compose, split

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent_core.effects import Pattern
    from agent_core.task import Task

SYSTEM = """You summarise texts. Say what the text says, in its own language unless you are asked for another, most important first.
Add nothing that is not in it: no opinion, no background, no headline. Keep names, numbers and negations exact.
If the text contradicts itself, or leaves open what it seems to promise, say that."""

CHUNK = 24_000  # characters; about 6,000 tokens of English, which leaves room in the smallest windows
SIDE_BY_SIDE = 4
_FORM = re.compile(r"\(At most (\d+) (?:sentences|points)[^()]*\)\Z")
_MARK = re.compile(r"^\s*(?:[-*+\u2022\u2013]|\d{1,3}[.)])\s+")


def summarise(task: Task) -> Pattern:
    """Return the summary as an Answer; its value is {summary, points, method, parts}.

    Raises:
        MissingInput: there is nothing to summarise.
        ContractError: the model answered with nothing.
    """
    instruction, pieces = _material(task)
    count, bullets = task.option("sentences", 3), task.option("bullets", False)
    size = task.option("chunk", CHUNK)
    parts = list(chunks(pieces, size))
    first = len(parts)
    while len(parts) > 1:
        asks = [_ask(task, instruction, part, max(count, 5), bullets=True) for part in parts]
        replies = yield All(asks, limit=SIDE_BY_SIDE)
        shorter = [_shortened(points(reply.text), part) for reply, part in zip(replies, parts, strict=True)]
        parts = list(chunks([("summaries of the parts, in order", "\n\n".join(shorter))], size))
    reply = yield _ask(task, instruction, parts[0], count, bullets=bullets, history=task.history)
    answer = _answer(reply, count, first, bullets=bullets)
    if answer.value["method"] == "extracted":
        yield Note("notice", {"text": "no model: these are sentences of the text, not a summary somebody wrote"})
    return answer


def _material(task: Task) -> tuple[str, list[tuple[str, str]]]:
    """Return what to look for, and the texts; without words the message itself is the text."""
    instruction, materials = split(task.text)
    if not materials:
        instruction, materials = "", [("stdin", instruction)]
    found = [(origin, text) for origin, text in materials if text.strip()]
    if not found:
        raise MissingInput("there is no text to summarise", hint="pipe it in, or name it with --file")
    return instruction, found


def _ask(task: Task, instruction: str, part: tuple[str, str], count: int, *, bullets: bool, history: Sequence[Any] = ()) -> Ask:
    form = f"(At most {count} {'points, one a line, without numbers or dashes' if bullets else 'sentences, as running text'}.)"
    rules = task.system if DATA_RULE in task.system else f"{task.system}\n\n{DATA_RULE}".strip()
    wanted = f"{instruction or 'Summarise the text.'}\n{form}"
    return Ask([system(rules), *history, user(compose(wanted, [part]))])


def _answer(reply: Any, count: int, parts: int, *, bullets: bool) -> Answer:
    found = points(reply.text)
    extracted = reply.model == "offline"
    if not found:
        raise ContractError("the model answered with nothing", hint="try another model")
    if bullets or extracted:
        found = found[:count]
    text = "\n".join(f"- {point}" for point in found) if bullets else " ".join(found) if extracted else reply.text.strip()
    method = "extracted" if extracted else "model"
    return Answer(text, {"summary": text, "points": found, "method": method, "parts": parts})


def points(text: str) -> list[str]:
    """Return the lines of a reply without their marks; a JSON list of texts is read as such."""
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError):
            rows = None
        if isinstance(rows, list) and all(isinstance(row, str) for row in rows):
            return [" ".join(row.split()) for row in rows if row.strip()]
    lines = (_MARK.sub("", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def chunks(materials: Sequence[tuple[str, str]], size: int) -> Iterator[tuple[str, str]]:
    """Yield (origin, text) in pieces of at most `size` characters, cut at paragraphs, else lines, else sentences, else words."""
    for origin, text in _gathered(materials, size):
        cut = list(_cut(text, size))
        for number, piece in enumerate(cut, 1):
            yield (origin if len(cut) == 1 else f"{origin}, part {number} of {len(cut)}"), piece


def _gathered(materials: Sequence[tuple[str, str]], size: int) -> Sequence[tuple[str, str]]:
    """Put several small texts into one."""
    if len(materials) == 1 or sum(len(text) for _, text in materials) > size:
        return materials
    return [(", ".join(origin for origin, _ in materials), "\n\n".join(text for _, text in materials))]


def _cut(text: str, size: int) -> Iterator[str]:
    begin = 0  # the text is never copied: every piece of a long one would cost its whole length
    while len(text) - begin > size:
        ends = (text.rfind(mark, begin + size // 2, begin + size) for mark in ("\n\n", "\n", ". ", " "))
        at = next((end + 1 for end in ends if end > 0), begin + size)
        yield text[begin:at].strip("\n")
        begin = at
        while text.startswith("\n", begin):
            begin += 1
    if text[begin:].strip():
        yield text[begin:]


def _shortened(lines: Sequence[str], part: tuple[str, str]) -> str:
    """Return the points of a part, at most a third of its length: whatever a model writes, the texts get shorter every round."""
    room = len(part[1]) // 3
    kept: list[str] = []
    for line in lines:
        if kept and sum(map(len, kept)) + len(kept) + len(line) > room:
            break
        kept.append(line[: max(room, 1)])
    return "\n\n".join(kept)


def extract(instruction: str, materials: Sequence[tuple[str, str]]) -> list[str]:
    """Return the most central sentences of the material: the summary there is without a model."""
    from agent_plugins.extract import summary

    form = _FORM.search(instruction)
    about = instruction[: form.start()] if form else instruction
    return summary("\n\n".join(text for _, text in materials), int(form[1]) if form else 3, about)


agent = Agent(
    __doc__,
    SYSTEM,
    stdin="required",
    pattern=summarise,
    options=[
        Option("sentences", "at most so many sentences (or points)", "int", low=1, high=100, default=3),
        Option("bullets", "one point a line"),
        Option("chunk", "characters that are given to the model at once", "int", low=200, high=4_000_000, default=CHUNK),
    ],
    offline=extract,
    examples=["summarizer --bullets --sentences 5 < report.md", "cat minutes.txt | summarizer what was decided about the budget"],
    tags=["text", "summary", "shorten", "reading"],
    when_to_use="A long text has to be said in a few sentences or points.",
)
main = agent.main

if __name__ == "__main__":
    main()
