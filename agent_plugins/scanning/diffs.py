r"""diffs - what a diff adds, with the line numbers of the new file.

    [*added(text)]        [Piece("app.py", "def f():\n    eval(x)\n", (10, 11), frozenset({11}), whole=False)]

Reads what git, diff -u, svn and hg write: renames, new and deleted files, names in C quotes, tabs after names, binary patches,
`\ No newline at end of file`, CRLF, combined diffs of merges (`@@@`), colours, and mail around it all. A hunk ends when its counts
are used up, so a removed line `-- x` (`--- x` in the diff) is no header. What is no diff is left alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOOKS = re.compile(r"^(?:diff --(?:git|cc|combined) |Index: \S|--- \S[^\n]*\n\+\+\+ \S)", re.MULTILINE)
_HUNK = re.compile(r"(@@+) (?:-\d{1,9}(?:,\d{1,9})? ){1,16}\+(\d{1,9})(?:,(\d{1,9}))? @@+")
_OLD = re.compile(r"-\d{1,9}(?:,(\d{1,9}))? ")
_MARKS = frozenset({"", " ", "+", "-", "\\", "\r", "\t"})
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,20}[mK]")
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|.)", re.DOTALL)
_LETTERS = {b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r"}


class Piece(NamedTuple):
    """A hunk of a file: `lines[i]` is the number in the new file of line i+1 of `text`; `added` are those that count."""

    path: str
    text: str
    lines: tuple[int, ...]
    added: frozenset[int]
    whole: bool


@dataclass(slots=True)
class Names:
    """What the headers of one file said so far."""

    old: str = ""
    new: str = ""
    prefixed: bool = True
    notes: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


def looks_like_diff(text: str) -> bool:
    """Return whether a text is, or holds, a diff."""
    return bool(_LOOKS.search(text) or ("\x1b[" in text[:400] and _LOOKS.search(_COLOUR.sub("", text))))


def added(text: str, notes: list[str] | None = None, missed: list[str] | None = None) -> Iterator[Piece]:
    """Yield the hunks that add something; binary patches are put in `notes`, what should have been read in `missed`."""
    if "\x1b[" in text and not _LOOKS.search(text):
        text = _COLOUR.sub("", text)
    names = Names(notes=notes if notes is not None else [], missed=missed if missed is not None else [])
    lines = text.split("\n")[::-1]  # the next one last: `pop` takes it, `append` gives it back
    while lines:
        line = lines.pop()
        hunk = _HUNK.match(line) if line.startswith("@@") else None
        if hunk is None:
            _header(line.removesuffix("\r"), names)
            continue
        piece = _hunk(hunk, lines, names)
        if piece.added and names.new != "/dev/null":
            yield piece


def _header(line: str, names: Names) -> None:
    if line.startswith("diff --"):
        names.old = names.new = ""
        both = line.removeprefix("diff --git ")
        names.prefixed = both == line or both[: len(both) // 2] != both[len(both) // 2 + 1 :]  # a/x b/x, not x x
    elif line.startswith("--- "):
        names.old = _name(line[4:])
    elif line.startswith("+++ "):
        names.new = _name(line[4:])
    elif line.startswith("Binary files ") or line == "GIT binary patch":
        names.notes.append(f"not read: {line[:200]}")


def _hunk(hunk: re.Match[str], lines: list[str], names: Names) -> Piece:
    """Read one hunk. Each of its lines begins with as many marks as it has parents (one, but for merges)."""
    parents, first = len(hunk[1]) - 1, int(hunk[2])
    new, old = int(hunk[3] or 1), sum(int(found or 1) for found in _OLD.findall(hunk[0]))
    code: list[str] = []
    fresh = set()
    while new > 0 or (old > 0 and parents == 1):
        line = lines.pop() if lines else None
        if line is None or line[:1] not in _MARKS:
            names.missed.append(f"{_shown(names)}: a hunk is shorter than it says")
            lines += [] if line is None else [line]
            break
        marks = line[:parents]
        if marks.startswith("\\"):
            continue
        if "-" in marks:
            old -= 1
            continue
        if "+" in marks:
            fresh.add(first + len(code))
        else:
            old -= 1
        new -= 1
        code.append(line[parents:].removesuffix("\r"))
    if lines and lines[-1].startswith("+") and not lines[-1].startswith("+++ "):
        names.missed.append(f"{_shown(names)}: a hunk is longer than it says; the rest of it is not read")
    return Piece(
        _shown(names), "\n".join([*code, ""]), tuple(range(first, first + len(code))), frozenset(fresh), names.old == "/dev/null"
    )


def _shown(names: Names) -> str:
    name = names.new or names.old or "stdin"
    prefixed = (
        names.prefixed and re.match(r"[a-z1-2]/", name) and (re.match(r"[a-z1-2]/", names.old) or names.old in {"", "/dev/null"})
    )
    return name[2:] if prefixed and len(name) > 2 else name


def _name(text: str) -> str:
    """Return a file's name from a header: without the date after a tab, C quotes undone."""
    text = text.rstrip("\r")
    if not text.startswith('"'):
        return text.split("\t", 1)[0].rstrip()
    inner = re.match(r'"((?:[^"\\]|\\.)*+)', text)
    data = (inner[1] if inner else text).encode("utf-8", "surrogateescape")
    return _ESCAPE.sub(_unescaped, data).decode("utf-8", "surrogateescape")


def _unescaped(match: re.Match[bytes]) -> bytes:
    code = match[1]
    return bytes([int(code, 8) & 0xFF]) if code[:1].isdigit() and code[:1] < b"8" else _LETTERS.get(code, code)
