"""conditions - what the prompts of a graph refer to and what its edges test. Nothing here is ever evaluated.

    render("About {{ vars.topic }}: {{ nodes.review.output#/verdict }}", scope)
    holds(read({"at": "/verdict", "equals": "approved"}), "review", scope)

References: `{{ input }}`, `{{ item }}`, `{{ index }}`, `{{ vars.NAME }}`, `{{ nodes.NAME.output }}` (also `error`, `state`,
`visits`), each with an optional `#/json/pointer` (RFC 6901). A template is filled in one pass: what is put in is never looked at
again, so no output can add a reference.

Conditions: "always", "on_success" (or "approved"), "on_failure" (or "denied"), "name:text" (the variable or output contains the
text), or a table with one test and where to look:

    {equals = "yes"}  {contains = "refund"}  {regex = "^yes"}  {exists = "/refund"}  {at_least = 0.8}  {at_most = 3}  {visits = 3}
    {and = [..., ...]}  {or = [...]}  {not = ...}
    of = "node" (else the edge's source) · at = "/json/pointer" into its structured output · var = "name" (a variable)
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

WORDS = {
    "always": "always",
    "on_success": "on_success",
    "on_failure": "on_failure",
    "approved": "on_success",
    "denied": "on_failure",
}
TESTS = ("equals", "contains", "regex", "exists", "at_least", "at_most", "visits", "and", "or", "not")
WHERE = ("of", "at", "var")
FIELDS = ("output", "error", "state", "visits")
SEARCHED = 65536  # characters of an output that a regular expression is tried on
DEEPEST = 16

_NAME = r"[A-Za-z_][\w-]*"
_REFERENCE = re.compile(
    rf"(?:(?P<word>input|item|index)|vars\.(?P<var>{_NAME})|nodes\.(?P<node>{_NAME})\.(?P<field>{'|'.join(FIELDS)}))(?:\#(?P<at>/\S*))?"
)
_BRACES = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_FENCED = re.compile(r"```(?:json)?\s*\n(.*)\n```", re.DOTALL)
_MISSING: Any = object()


# -- what there is to look at ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a node: pending, completed, failed, denied (a person said no) or skipped; its last output; how many visits."""

    state: str = "pending"
    output: str = ""
    error: str = ""
    visits: int = 0
    value: Any = field(default=_MISSING, repr=False)

    @property
    def data(self) -> Any:
        """The output as JSON data: the checked value, or the whole text read as JSON; a fence around it is no harm."""
        return self.value if self.value is not _MISSING else _json(self.output)


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
        return _MISSING


def pointed(data: Any, pointer: str) -> Any:
    """Return what a JSON pointer (RFC 6901) points to. LookupError if there is no such thing."""
    if data is _MISSING:
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
    return text if data is _MISSING else data


def value_of(reference: Reference, scope: Scope) -> Any:
    """Return what a reference stands for; "" if it does not exist (yet)."""
    if reference.node:
        return _field_of(scope.result(reference.node), reference)
    found = scope.vars.get(reference.var, "") if reference.var else getattr(scope, reference.word)
    return _inside(_json(found) if isinstance(found, str) and reference.at else found, reference.at)


def _field_of(result: Result, reference: Reference) -> Any:
    if reference.at:
        return _inside(result.data if reference.field == "output" else _MISSING, reference.at)
    return getattr(result, reference.field)


def _inside(data: Any, at: str) -> Any:
    try:
        return pointed(data, at) if at else data
    except LookupError:
        return ""


# -- conditions --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Condition:
    """One test of a result: its kind, the expected value, where to look, and the parts of and, or, not."""

    kind: str
    value: Any = None
    of: str = ""
    at: str = ""
    var: str = ""
    parts: tuple[Condition, ...] = ()
    either: str = ""  # "name:text": a variable or a node of that name

    @property
    def text(self) -> str:
        """The condition as a reader may see it on an edge."""
        if self.parts:
            joined = f" {self.kind} ".join(part.text for part in self.parts)
            return f"not ({joined})" if self.kind == "not" else f"({joined})"
        place = " ".join(part for part in (self.var or self.either or self.of, self.at) if part)
        return " ".join(part for part in (place, self.kind, "" if self.value is None else text_of(self.value)) if part)

    def walk(self) -> Iterator[Condition]:
        """Yield the condition and all of its parts."""
        yield self
        for part in self.parts:
            yield from part.walk()


ALWAYS, ON_SUCCESS, ON_FAILURE = (Condition(kind) for kind in ("always", "on_success", "on_failure"))


def read(data: Any, depth: int = 0) -> Condition:
    """Return the condition that TOML data declares. ValueError says what is wrong with it."""
    if depth > DEEPEST:
        raise ValueError(f"a condition is nested more than {DEEPEST} deep")
    if isinstance(data, str):
        return _word(data)
    if not isinstance(data, dict):
        raise ValueError("a condition is a word or a table")  # noqa: TRY004 - told with its line like all others
    unknown = [key for key in data if key not in TESTS and key not in WHERE]
    if unknown:
        raise ValueError(f'a condition has no "{unknown[0]}" (tests: {", ".join(TESTS)}; where: {", ".join(WHERE)})')
    tests = [key for key in TESTS if key in data]
    if len(tests) != 1:
        raise ValueError(f"a condition has one test, not {len(tests)}: combine with and = […]")
    return _table(tests[0], data, depth)


def _word(word: str) -> Condition:
    name, colon, text = word.partition(":")
    if word in WORDS:
        return Condition(WORDS[word])
    if colon and re.fullmatch(_NAME, name.strip()) and text.strip():
        return Condition("contains", text.strip(), either=name.strip())
    raise ValueError(f'no condition "{word[:60]}" (words: {", ".join(WORDS)}, or "name:text", or a table)')


def _table(test: str, data: Mapping[str, Any], depth: int) -> Condition:
    where = {key: data.get(key, "") for key in WHERE}
    if not all(isinstance(place, str) for place in where.values()):
        raise ValueError("of, at and var are text")
    if where["var"] and (where["of"] or where["at"]):
        raise ValueError("look at a variable (var) or at an output (of, at), not at both")
    value = data[test]
    if test in {"and", "or", "not"}:
        return _combined(test, value, where, depth)
    _check_value(test, value)
    if test == "exists":
        where["at"], value = value, None
    if where["at"] and not where["at"].startswith("/"):
        raise ValueError(f'a JSON pointer begins with "/": {where["at"][:60]}')
    return Condition(test, value, **where)


def _combined(test: str, value: Any, where: Mapping[str, str], depth: int) -> Condition:
    if any(where.values()):
        raise ValueError(f'"{test}" looks nowhere itself: its parts do')
    parts = [value] if test == "not" else value
    if not isinstance(parts, list) or not parts:
        raise ValueError(f'"{test}" takes a list of conditions')
    return Condition(test, parts=tuple(read(part, depth + 1) for part in parts))


def _check_value(test: str, value: Any) -> None:
    if test in {"contains", "regex", "exists"} and (not isinstance(value, str) or not value):
        raise ValueError(f"{test} takes text")
    if test in {"at_least", "at_most"} and not _is_number(value):
        raise ValueError(f"{test} takes a number")
    if test == "visits" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError("visits takes a whole number from 1")
    if test == "regex":
        _check_regex(value)


def _check_regex(pattern: str) -> None:
    """Refuse what is no regular expression, and repeats inside repeats: on some text they take for ever."""
    try:
        tree = re._parser.parse(pattern)  # type: ignore[attr-defined] # noqa: SLF001 - the one parser of this grammar
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if _nested(tree, repeated=False):
        raise ValueError("the regular expression repeats what is itself repeated: on some text that takes for ever")


def _nested(tree: Any, *, repeated: bool) -> bool:
    for name, value in tree:
        kind = str(name)
        many = kind in {"MAX_REPEAT", "MIN_REPEAT"} and int(value[1]) > 1
        if repeated and (many or kind == "BRANCH"):
            return True
        if any(_nested(inner, repeated=repeated or many) for inner in _inner(kind, value)):
            return True
    return False


def _inner(kind: str, value: Any) -> list[Any]:
    if kind == "BRANCH":
        return list(value[1])
    if kind in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
        return [value[2]]
    if kind == "SUBPATTERN":
        return [value[3]]
    return [value[1]] if kind in {"ASSERT", "ASSERT_NOT"} else []


def holds(condition: Condition, source: str, scope: Scope) -> bool:
    """Say whether a condition holds for an edge that leaves `source`.

    A node that failed, was skipped or has not run has no output to test: then neither a test of it nor its `not` holds (Kleene's
    three values), so only on_failure and always leave a failed node. A pointer to nothing is a test that is false.
    """
    return _truth(condition, source, scope) is True


def _truth(condition: Condition, source: str, scope: Scope) -> bool | None:
    match condition.kind:
        case "and" | "or":
            return _joined(condition.kind == "and", [_truth(part, source, scope) for part in condition.parts])
        case "not":
            inner = _truth(condition.parts[0], source, scope)
            return None if inner is None else not inner
        case "always":
            return True
        case "on_success":
            return scope.result(source).state == "completed"
        case "on_failure":
            return scope.result(source).state in {"failed", "denied"}
    return _tested(condition, source, scope)


def _joined(all_: bool, truths: list[bool | None]) -> bool | None:
    if (not all_) in truths:
        return not all_
    return None if None in truths else all_


def _tested(condition: Condition, source: str, scope: Scope) -> bool | None:
    name = condition.var or (condition.either if condition.either in scope.vars else "")
    if name:
        return _passes(condition, scope.vars.get(name, _MISSING))
    result = scope.result(condition.of or condition.either or source)
    if condition.kind == "visits":
        return result.visits >= int(condition.value)
    if result.state not in {"completed", "denied"}:
        return None
    if not condition.at:
        return _passes(condition, result.output if isinstance(condition.value, str) else result.data)
    try:
        return _passes(condition, pointed(result.data, condition.at))
    except LookupError:
        return False


def _passes(condition: Condition, found: Any) -> bool:
    expected = condition.value
    if found is _MISSING:
        return False
    match condition.kind:
        case "equals":
            return _equal(found, expected, loosely=bool(condition.var))
        case "contains":
            return any(_equal(each, expected) for each in found) if isinstance(found, list) else expected in text_of(found)
        case "regex":
            return re.search(expected, text_of(found)[:SEARCHED]) is not None
        case "at_least":
            return _is_number(found) and found >= expected
        case "at_most":
            return _is_number(found) and found <= expected
    return True  # exists


def _equal(found: Any, expected: Any, *, loosely: bool = False) -> bool:
    """Compare as JSON does: true is not 1, 1 is 1.0. Text ignores space around it; loosely: "3" is 3 (variables are often text)."""
    if isinstance(found, str) and isinstance(expected, str):
        return found.strip() == expected.strip()
    if loosely and isinstance(found, str) != isinstance(expected, str):
        return text_of(found) == text_of(expected)
    if isinstance(found, bool) != isinstance(expected, bool):
        return False
    return bool(found == expected)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
