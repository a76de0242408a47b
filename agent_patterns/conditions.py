"""conditions - what the edges of a graph test. Nothing here is ever evaluated.

    holds(read({"at": "/verdict", "equals": "approved"}), "review", scope)

"always", "on_success" (or "approved"), "on_failure" (or "denied"), "name:text" (the variable or output contains the text), or a
table with one test and where to look:

    {equals = "yes"}  {contains = "refund"}  {regex = "^yes"}  {exists = "/refund"}  {at_least = 0.8}  {at_most = 3}  {visits = 3}
    {and = [..., ...]}  {or = [...]}  {not = ...}
    of = "node" (else the edge's source) · at = "/json/pointer" into its structured output · var = "name" (a variable)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_patterns.templates import MISSING, NAME, pointed, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent_patterns.templates import Scope

WORDS = {
    "always": "always",
    "on_success": "on_success",
    "on_failure": "on_failure",
    "approved": "on_success",
    "denied": "on_failure",
}
TESTS = ("equals", "contains", "regex", "exists", "at_least", "at_most", "visits", "and", "or", "not")
WHERE = ("of", "at", "var")
SEARCHED = 65536  # characters of an output that a regular expression is tried on
DEEPEST = 16


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
    if colon and re.fullmatch(NAME, name.strip()) and text.strip():
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
        return _passes(condition, scope.vars.get(name, MISSING))
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
    if found is MISSING:
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
