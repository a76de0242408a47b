"""templates - what the prompts of a graph refer to, and how templates are filled. Nothing here is ever evaluated.

    render("About {{ vars.topic }}: {{ nodes.review.output#/verdict }}", scope)

References: `{{ input }}`, `{{ item }}`, `{{ index }}`, `{{ vars.NAME }}`, `{{ nodes.NAME.output }}` (also `error`, `state`,
`visits`), each with an optional `#/json/pointer` (RFC 6901). A template is filled in one pass: what is put in is never looked at
again, so no output can add a reference.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from agent_core.task import compose

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FIELDS = ("output", "error", "state", "visits")
NAME = r"[A-Za-z_][\w-]*"
MISSING: Any = object()
_REFERENCE = re.compile(
    rf"(?:(?P<word>input|item|index)|vars\.(?P<var>{NAME})|nodes\.(?P<node>{NAME})\.(?P<field>{'|'.join(FIELDS)}))(?:\#(?P<at>/\S*))?"
)
_BRACES = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_FENCED = re.compile(r"```(?:json)?\s*\n(.*)\n```", re.DOTALL)


# -- what there is to look at ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a node: pending, completed, failed, denied (a person said no) or skipped; its last output; how many visits."""

    state: str = "pending"
    output: str = ""
    error: str = ""
    visits: int = 0
    value: Any = field(default=MISSING, repr=False)

    @property
    def data(self) -> Any:
        """The output as JSON data: the checked value, or the whole text read as JSON; a fence around it is no harm."""
        return self.value if self.value is not MISSING else _json(self.output)


PENDING = Result()


@dataclass(slots=True)
class Scope:
    """What a template or a condition can see: the run's input and variables, earlier results, and the item of a map.

    `before` is shared by everything that runs at the same time and does not change meanwhile; `own` is what this branch added.
    """

    input: str = ""
    vars: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Result] = field(default_factory=dict)
    own: dict[str, Result] = field(default_factory=dict)
    item: Any = None
    index: int = 0

    def result(self, name: str) -> Result:
        """Return the last result of a node (`PENDING` if it has none)."""
        return self.own.get(name) or self.before.get(name, PENDING)


def _json(text: str) -> Any:
    bare = text.strip()
    fenced = _FENCED.fullmatch(bare)
    try:
        return json.loads(fenced[1] if fenced else bare)
    except (ValueError, RecursionError):
        return MISSING


def pointed(data: Any, pointer: str) -> Any:
    """Return what a JSON pointer (RFC 6901) points to. LookupError if there is no such thing."""
    if data is MISSING:
        raise LookupError(pointer)
    for step in pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(data, list) and re.fullmatch(r"0|[1-9]\d{0,8}", key) and int(key) < len(data):
            data = data[int(key)]
        elif isinstance(data, dict) and key in data:
            data = data[key]
        else:
            raise LookupError(pointer)
    return data


def text_of(value: Any) -> str:
    """Return a value as text: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


# -- templates ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reference:
    """One `{{ … }}`: a word (input, item, index), a variable or a node's field; `at` points into its JSON."""

    text: str
    word: str = ""
    var: str = ""
    node: str = ""
    field: str = ""
    at: str = ""

    @property
    def trusted(self) -> bool:
        """Whether the author or caller of the graph wrote the value: it may stand in an instruction."""
        return bool(self.var) or self.word == "index" or self.field in {"state", "visits"}


@lru_cache(4096)
def parsed(template: str) -> tuple[str | Reference, ...]:
    """Return a template's pieces. ValueError for a reference that is none."""
    pieces: list[str | Reference] = []
    end = 0
    for found in _BRACES.finditer(template):
        pieces += [template[end : found.start()]] if found.start() > end else []
        match = _REFERENCE.fullmatch(found[1])
        if match is None:
            raise ValueError(
                f"{found[0]} refers to nothing: there are input, item, index, vars.NAME and nodes.NAME.{'|'.join(FIELDS)}, "
                "each with an optional #/json/pointer"
            )
        pieces.append(Reference(found[1], **{name: part or "" for name, part in match.groupdict().items()}))
        end = found.end()
    return (*pieces, template[end:]) if end < len(template) else tuple(pieces)


def references(template: str) -> Iterator[Reference]:
    """Yield the references of a template, in order."""
    return (piece for piece in parsed(template) if isinstance(piece, Reference))


def render(template: str, scope: Scope) -> str:
    """Return the template with its references filled in, once. What does not exist (yet) is empty."""
    return "".join(piece if isinstance(piece, str) else text_of(value_of(piece, scope)) for piece in parsed(template))


def message(template: str, scope: Scope, context: Mapping[str, str]) -> str:
    """Return a template as a message for a mind: what others wrote stands as marked material below the instruction.

    A reference to such text becomes its name in brackets; one that is the whole template leaves no words at all. `context` is
    more material (origin to text). Variables are the author's own words and are put in place.
    """
    pieces = parsed(template)
    material: dict[str, str] = {}
    words = ""
    for piece in pieces:
        if isinstance(piece, str):
            words += piece
        elif piece.trusted:
            words += text_of(value_of(piece, scope))
        else:
            text = text_of(value_of(piece, scope))
            material |= {piece.text: text} if text else {}
            words += f"[material {piece.text}]" if text and len(pieces) > 1 else ""
    shown = {**material, **{name: text for name, text in context.items() if text}}
    if not shown and len(pieces) == 1:
        return words
    return compose(words.strip(), tuple(shown.items()))


def filled(value: Any, scope: Scope) -> Any:
    """Return data with every text in it rendered; a text that is one reference becomes the value it stands for."""
    if isinstance(value, dict):
        return {key: filled(each, scope) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each, scope) for each in value]
    if not isinstance(value, str):
        return value
    pieces = parsed(value)
    return value_of(pieces[0], scope) if len(pieces) == 1 and isinstance(pieces[0], Reference) else render(value, scope)


def texts(value: Any) -> Iterator[str]:
    """Yield every text in data (values, not keys)."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts(each)


def listed(template: str, scope: Scope) -> list[Any]:
    """Return the items a template stands for: a JSON array, or else the lines of the text that are not blank."""
    found = filled(template, scope)
    pieces = parsed(template)
    if (
        len(pieces) == 1
        and isinstance(pieces[0], Reference)
        and pieces[0].node
        and pieces[0].field == "output"
        and not pieces[0].at
    ):
        data = scope.result(pieces[0].node).data
    else:
        data = _json(found) if isinstance(found, str) else found
    if isinstance(data, list):
        return data
    return [line.strip() for line in text_of(found).splitlines() if line.strip()]


def data_of(text: str) -> Any:
    """Return the JSON data that a whole text is, or the text itself."""
    data = _json(text)
    return text if data is MISSING else data


def value_of(reference: Reference, scope: Scope) -> Any:
    """Return what a reference stands for; "" if it does not exist (yet)."""
    if reference.node:
        return _field_of(scope.result(reference.node), reference)
    found = scope.vars.get(reference.var, "") if reference.var else getattr(scope, reference.word)
    return _inside(_json(found) if isinstance(found, str) and reference.at else found, reference.at)


def _field_of(result: Result, reference: Reference) -> Any:
    if reference.at:
        return _inside(result.data if reference.field == "output" else MISSING, reference.at)
    return getattr(result, reference.field)


def _inside(data: Any, at: str) -> Any:
    try:
        return pointed(data, at) if at else data
    except LookupError:
        return ""
