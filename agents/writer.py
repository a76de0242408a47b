"""writer - draft or edit a text from notes, an outline or an older version.

    writer 'a release note' --length 120 --audience 'people who run servers' < changes.txt
    writer 'tighten this, keep every number' -f draft.md < /dev/null > better.md
    writer 'a complaint about the noise' --refine 2

Words say what to write; stdin (or `-f FILE`) is what to write it from. `--length N` is in words: a draft that misses it by more
than 15 % is sent back once. `--format plain|markdown|html` is the form; a fence around the whole answer is taken off. `--refine N`
lets the agent `critic` judge the draft and the writer improve it, at most N times; what it still objects to is said on stderr.

The writer is told to invent no facts, names or figures: where the notes leave a hole the text says [missing: …]; such holes are
counted on stderr. `--json` has {text, words, missing, rounds, objections}. Writing needs a model: without one (`--provider
offline`) it fails with status 78 and writes nothing.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn

from agent_core import Agent
from agent_core.effects import Call, Note
from agent_core.errors import ConfigError, ContractError
from agent_core.messages import Message, assistant, user
from agent_core.options import Option
from agent_core.task import Answer, compose, split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_core.effects import Pattern
    from agent_core.task import Task

SYSTEM = """You write and edit texts. Write what was asked from the material you are given, for the readers that are named.
Use only facts, names, figures and quotations from the request and the material. Where one is needed and not there, write
[missing: what]. When you edit, change what was asked and leave the rest as it is.
Plain words, concrete verbs, short sentences; no preamble, no remarks about the text: answer with the text alone."""

FORMATS = {
    "plain": "plain text without any markup",
    "markdown": "Markdown",
    "html": "an HTML fragment without <html>, <head> or <body>",
}
TOLERANCE = 0.15
_FENCE = re.compile(r"\A\s*```[\w-]*\n(.*?)\n?```\s*\Z", re.DOTALL)
_MISSING = re.compile(r"\[missing: ?([^\]\n]{1,200})\]", re.IGNORECASE)


def write(task: Task) -> Pattern:
    """Return the text as an Answer; its value is {text, words, missing, rounds, objections}.

    Raises:
        ContractError: the model answered with nothing.
    """
    request, materials = split(task.text)
    wishes = _wishes(task)
    conversation: list[Message] = [*task.messages()[:-1], user(compose(f"{request}\n\n{wishes}".strip(), materials))]
    text = yield from _draft(task, conversation)
    length = task.option("length")
    if length and off(text, length):
        said = f"That text has {len(text.split())} words; about {length} are wanted. Write it again with that length."
        text = yield from _draft(task, [*conversation, assistant(text), user(said)])
    text, rounds, objections = yield from _refined(task, request, wishes, conversation, text)
    yield from _remarks(text, length, objections)
    missing = _MISSING.findall(text)
    value = {"text": text, "words": len(text.split()), "missing": missing, "rounds": rounds, "objections": objections}
    return Answer(text, value)


def _wishes(task: Task) -> str:
    length, audience, form = task.option("length"), task.option("audience"), task.option("format")
    wishes = [f"Length: about {length} words."] if length else []
    wishes += [f"Readers: {audience}."] if audience else []
    wishes += [f"Form: {FORMATS[form]}."] if form else []
    return "\n".join(wishes)


def _draft(task: Task, conversation: Sequence[Message]) -> Pattern:
    reply = yield task.ask(conversation)
    text = unfenced(reply.text)
    if not text:
        raise ContractError("the model answered with nothing", hint="try another model")
    return text


def _refined(task: Task, request: str, wishes: str, conversation: Sequence[Message], text: str) -> Pattern:
    """Return (text, rounds, objections) after the critic is content or the rounds are used up."""
    from agents.critic import agent as critic

    objections: list[dict[str, Any]] = []
    for round_ in range(task.option("refine", 0)):
        criteria = f"it is what was asked for ({request[:2000]}); nothing is invented; its readers understand it\n{wishes}".strip()
        critique = json.loads((yield Call(critic, compose(criteria, [("draft", text)]))))
        objections = critique["issues"]
        if critique["verdict"] == "pass" or not objections:
            return text, round_, []
        found = "\n".join(f"- {each['quote']!r}: {each['problem']} {each['suggestion']}" for each in objections)
        said = compose(
            "An editor read it. Mend what is right in these objections, ignore what is not, and answer with the whole text.",
            [("objections", found)],
        )
        text = yield from _draft(task, [*conversation, assistant(text), user(said)])
    return text, task.option("refine", 0), objections


def _remarks(text: str, length: int | None, objections: Sequence[dict[str, Any]]) -> Pattern:
    """Say on stderr what a reader of the text should know."""
    if length and off(text, length):
        yield Note("notice", {"text": f"{len(text.split())} words, about {length} were wanted"})
    holes = len(_MISSING.findall(text))
    if holes:
        yield Note(
            "notice", {"text": f"{holes} fact{'' if holes == 1 else 's'} missing from the notes: see [missing: …] in the text"}
        )
    for each in objections:
        yield Note("notice", {"text": f"the critic objected to the last draft it saw: {each['problem']}"})


def off(text: str, length: int) -> bool:
    """Say whether a text misses a length in words by more than the tolerance."""
    return abs(len(text.split()) - length) > max(3, length * TOLERANCE)


def unfenced(text: str) -> str:
    """Return a reply without a fence around the whole of it."""
    found = _FENCE.fullmatch(text)
    return found[1].strip("\n") if found and "\n```" not in found[1] else text.strip("\n")


def refuse(_instruction: str, _materials: Sequence[tuple[str, str]]) -> NoReturn:
    """Say that writing needs a model: a made-up text would be worse than none."""
    from agent_providers.offline import SET_UP

    raise ConfigError("writing needs a model, and none is set up", hint=SET_UP)


agent = Agent(
    __doc__,
    SYSTEM,
    pattern=write,
    options=[
        Option("length", "about so many words", "int", low=5, high=100_000),
        Option("audience", "who will read it", "text", metavar="WHO"),
        Option("format", "form of the text", "text", choices=tuple(FORMATS)),
        Option("refine", "rounds of critique and improvement", "int", low=0, high=10, default=0),
    ],
    offline=refuse,
    examples=[
        "writer 'a release note' --length 120 < changes.txt",
        "writer 'tighten this, keep every number' < draft.md > better.md",
    ],
    tags=["text", "write", "draft", "edit", "rewrite"],
    when_to_use="A text has to be written from notes or an outline, or an existing text edited.",
)
main = agent.main

if __name__ == "__main__":
    main()
