r"""chain - prompt template, model, output parser; one stage after the other.

Good for work that is always done in the same steps. Cost: one call a stage, one more where a reply cannot be parsed.

    $ assistant "Tides" --pattern chain --chain titles.toml

    [[stage]]
    name = "topics"
    prompt = "List three aspects of {input}, one a line."
    parse = "list"

    [[stage]]
    prompt = "Write one title that covers:\n{topics}"

`{input}` is the request with its material, `{last}` what the stage before came to, `{NAME}` what a named stage came to; values are
put in once and never read again as a template. Without stages the request itself is the prompt: one call. Retries, caches and
duplicates are guards and compose around any stage. A stage may name another `model`, `provider`, `system` or `temperature`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from agent_core import prompt
from agent_core.checked import first_object
from agent_core.effects import Ask
from agent_core.messages import Image, system, user
from agent_core.options import Option
from agent_core.task import DATA_RULE, Answer
from agent_patterns import tables
from agent_patterns.asks import insist

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent_core.effects import Pattern
    from agent_core.messages import Message
    from agent_core.task import Task

_BULLET = re.compile(r"^\s*(?:[-*•+]|\d{1,4}[.)])\s+")


@dataclass(frozen=True)
class Stage:
    """One stage.

    `parse`: text; json (a JSON value, as text and as value); list (one item a line, bullets dropped, or a JSON array); regex (what
    `regex` finds first: its named groups, its only group, or all of it).
    """

    prompt: str = "{input}"
    name: str = ""
    parse: Literal["text", "json", "list", "regex"] = "text"
    regex: str = ""
    system: str = ""
    model: str = ""
    provider: str = ""
    temperature: float | None = None
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - pydantic reads it from the class


@dataclass(frozen=True)
class Chain:
    """What a chain file holds."""

    stage: list[Stage] = field(default_factory=list)
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012


def problems(data: Mapping[str, Any]) -> Iterator[tables.Problem]:
    """Yield what is wrong in a chain file whose shape is right."""
    rows = data.get("stage", [])
    if not rows:
        yield tables.Problem((), "there is no [[stage]]")
    known = {"input", "last"}
    for index, row in enumerate(rows):
        missing = [name for name in prompt.placeholders(row.get("prompt", "{input}")) if name not in known]
        if missing:
            yield tables.Problem(
                ("stage", index, "prompt"), f"no value for {', '.join(missing)} (there are {', '.join(sorted(known))})"
            )
        if row.get("name") in known:
            yield tables.Problem(("stage", index, "name"), f"there is {row['name']} already")
        if row.get("parse") == "regex" and (wrong := _wrong_regex(row.get("regex", ""))):
            yield tables.Problem(("stage", index, "regex"), wrong)
        known |= {row["name"]} if row.get("name") else set()


def _wrong_regex(text: str) -> str:
    try:
        return "" if re.compile(text).pattern else 'parse = "regex" needs a regex'
    except (re.error, RecursionError, OverflowError) as error:
        return f"not a regular expression: {error}"


def load(path: str) -> dict[str, Any]:
    """Return a chain file as data; InputError names file and line."""
    return tables.load(path, Chain, problems)


OPTIONS = (Option("chain", "chain: the stages, as TOML", "path", parse=tables.flag(load), metavar="FILE"),)


def chain(task: Task, stages: Sequence[Stage] = ()) -> Pattern:
    """Return what the last stage came to; the value is what each named stage came to, and `last`.

    Raises:
        ContractError: a reply could not be parsed, twice (status 76).
    """
    declared = [Stage(**row) for row in (tables.data(task.option("chain")) or {}).get("stage", ())]
    todo = stages or declared or (Stage(),)
    texts, values = {"input": task.text}, {}
    for place, stage in enumerate(todo):
        ask = Ask(
            _messages(task, stage, prompt.fill(stage.prompt, texts).text, first=place == 0), model=stage.model,
            provider=stage.provider, temperature=stage.temperature,
        )  # fmt: skip
        (texts["last"], values["last"]), _ = yield from insist(ask, partial(parsed, stage))
        if stage.name:
            texts[stage.name], values[stage.name] = texts["last"], values["last"]
    return Answer(texts["last"], values) if stages or declared else texts["last"]


def _messages(task: Task, stage: Stage, words: str, *, first: bool) -> list[Message]:
    own = (stage.system or task.system).removesuffix(DATA_RULE).strip()
    head = "\n\n".join(part for part in (own, DATA_RULE if "<material origin=" in words else "") if part)
    images = [part for part in task.message.parts if first and isinstance(part, Image)]
    return [*([system(head)] if head else []), *(task.history if first else ()), user(words, *images)]


def parsed(stage: Stage, text: str) -> tuple[tuple[str, Any] | None, str]:
    """Return ((text, value), "") of a reply, else (None, what is wrong with it)."""
    if not text.strip():
        return None, "The answer was empty."
    match stage.parse:
        case "json":
            return _json(text)
        case "list":
            return _list(text)
        case "regex":
            return _regex(stage.regex, text)
    return (text, text), ""


def _json(text: str) -> tuple[tuple[str, Any] | None, str]:
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        value = first_object(text)
    if value is None:
        return None, "There is no JSON in the answer."
    return (json.dumps(value, ensure_ascii=False), value), ""


def _refuse(word: str) -> Any:
    raise ValueError(word)


def _list(text: str) -> tuple[tuple[str, Any] | None, str]:
    found = first_object(text) if text.lstrip()[:1] == "[" else None
    if isinstance(found, list):
        items = [each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in found]
    else:
        rows = [row for row in text.splitlines() if row.strip()]
        # A sentence that leads to the list is no item of it.
        bulleted = [row for row in rows if _BULLET.match(row)]
        items = [_BULLET.sub("", row).strip() for row in bulleted or rows]
    return (("\n".join(items), items), "") if items else (None, "There is no list in the answer.")


def _regex(pattern: str, text: str) -> tuple[tuple[str, Any] | None, str]:
    found = re.search(pattern, text)
    if found is None:
        return None, f"The answer has nothing of the form {pattern}"
    value: Any = found.groupdict() or (found[1] if found.re.groups == 1 else found[0])
    if not value:
        return None, f"The answer has nothing of the form {pattern}"
    return (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), value), ""
