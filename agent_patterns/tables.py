"""tables - TOML files that declare a chain, routes, methods or a roster; what is wrong in one is told with its line.

    load("chain.toml", Chain, problems)      -> the file's data, checked; it is plain JSON data and can be recorded

A shape is a frozen dataclass whose fields say what a file may hold. Flags call `load` while the command line is read, so a
pattern never touches a file, and a resumed run needs none: its flags were recorded with the data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_core.errors import InputError, MissingInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

LARGEST = 1024 * 1024
SHOWN = 5  # problems of one file that are told
_HEADER = re.compile(r"^\s*(\[{1,2})\s*([^\[\]]+?)\s*\]{1,2}\s*(?:#.*)?$")
_TRIPLE = re.compile(r'"""|\'\'\'')
_ROW = 1000  # characters of a line that are looked at
At = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where in the data (keys and indices) and what."""

    at: At
    text: str


def load(path: str, shape: Any, check: Callable[[Any], Iterable[Problem]] = lambda _data: ()) -> dict[str, Any]:
    """Return the data of a TOML file that fits `shape` and passes `check`.

    Raises:
        MissingInput: the file cannot be read.
        InputError: it is no TOML, or something in it is wrong; the message begins with `FILE:LINE:`.
    """
    text = read(path)
    made = parse(path, text)
    found = list(problems(made, shape, check))
    if found:
        said = [f"{path}:{line(text, each.at)}: {each.text}" for each in found[:SHOWN]]
        more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        raise InputError("; ".join([*said, *more]), hint="docs/patterns.md shows the form")
    return made


def flag(load: Callable[[str], dict[str, Any]]) -> Callable[[str], str]:
    """Return the converter of a flag that names a file: its value is the file's data as JSON text, which converts to itself."""
    import json

    return lambda text: text if text.startswith("{") else json.dumps(load(text), ensure_ascii=False)


def data(value: str | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the data that such a flag holds; None if it was not given."""
    import json

    return None if value is None else dict(json.loads(value) if isinstance(value, str) else value)


def read(path: str) -> str:
    """Return a file's text."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - no pathlib on this path
            raw = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        raise MissingInput(f"cannot read {path}: {getattr(error, 'strerror', None) or error}", hint="check the path") from None
    if len(raw) > LARGEST:
        raise InputError(f"{path} is larger than {LARGEST} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text") from None


def parse(path: str, text: str) -> dict[str, Any]:
    """Return the tables of a text; InputError `FILE:LINE:` where it is no TOML."""
    import json
    import tomllib

    try:
        # Through JSON, so that the data can be recorded: dates become text.
        return dict(json.loads(json.dumps(tomllib.loads(text), default=str)))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        place = re.search(r"\(at line (\d+), column \d+\)", str(error))
        number = place[1] if place else text.count("\n") + 1
        raise InputError(f"{path}:{number}: not TOML: {str(error).partition(' (at ')[0]}") from None


def problems(data: Any, shape: Any, check: Callable[[Any], Iterable[Problem]] = lambda _data: ()) -> Iterable[Problem]:
    """Yield everything that does not fit the shape; only if all does, what `check` says."""
    import json

    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(shape).validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        for each in error.errors(include_url=False, include_context=False, include_input=False):
            yield Problem(_known(data, each["loc"]), f"{_dotted(each['loc'])}: {_said(each)}")
        return
    yield from check(data)


def line(text: str, at: At) -> int:
    """Return the line (from 1) at which a place of the data stands: the deepest key or table header that can be found."""
    numbers = _Places(text)
    return numbers.find(at)


class _Places:
    """Where tables and keys stand. Read by line: exact for files written one key a line, the nearest header otherwise."""

    def __init__(self, text: str) -> None:
        self.rows: list[tuple[int, At, str]] = []  # line, table, key ("" for the header itself)
        counts: dict[str, int] = {}
        table: At = ()
        inside = False
        for number, row in enumerate(text.split("\n"), 1):
            if not inside and (header := _HEADER.match(row[:_ROW])) is not None:
                table = _table(header[2], counts, many=header[1] == "[[")
                self.rows.append((number, table, ""))
            elif not inside and (key := re.match(r"""\s*["']?([\w.-]+)["']?\s*=""", row[:_ROW])) is not None:
                self.rows.append((number, table, key[1]))
            inside ^= len(_TRIPLE.findall(row)) % 2 == 1

    def find(self, at: At) -> int:
        """Return the line of the deepest part of a place."""
        best, depth = 1, -1
        for number, table, key in self.rows:
            place = (*table, *key.split(".")) if key else table
            if len(place) > depth and place == at[: len(place)]:
                best, depth = number, len(place)
        return best


def _table(name: str, counts: dict[str, int], *, many: bool) -> At:
    """Return the place of a header; `[a.b]` under `[[a]]` belongs to the latest `a`."""
    parts = [part.strip().strip("\"'") for part in re.findall(r'"[^"]*"|\'[^\']*\'|[^.]+', name)]
    place: list[str | int] = []
    for depth, part in enumerate(parts, 1):
        place.append(part)
        path = ".".join(parts[:depth])
        if many and depth == len(parts):
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            place.append(counts[path])
    return tuple(place)


def _known(data: Any, loc: Sequence[str | int]) -> At:
    """Leave out of a place what is no key of the data (names of union members)."""
    place: list[str | int] = []
    for part in loc:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            continue
        place.append(part)
    return tuple(place)


def _dotted(loc: Sequence[str | int]) -> str:
    return "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".") or "the file"


def _said(error: Any) -> str:
    words = {"missing": "is missing", "unexpected_keyword_argument": "is no known key"}
    return words.get(error["type"]) or " ".join(str(error["msg"]).split())[:200]
