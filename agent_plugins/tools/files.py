"""files - read, list, search, write and edit files, beneath what is granted.

    file_read("notes.txt")                 needs --allow file-read:notes.txt (or a folder above it)
    file_search("TODO", "src")             lines as path:number:text
    file_edit("a.txt", "old", "new")       needs file-read and file-write

Paths are relative to the working directory. Every opening is race-free (see `agent_core.beneath`); writing is atomic.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from agent_core.tool import Context, ToolError, tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_TEXT = 48 * 1024
MAX_ENTRIES = 1000
MAX_MATCHES = 200
_MAX_FILES = 20_000
_MAX_FILE = 4 * 1024 * 1024
_MAX_DEPTH = 40
_LINE = 400
_SNIFF = 8192
_SKIPPED = frozenset({".git", ".hg", "node_modules", "__pycache__", ".venv"})


@tool(needs={"file-read": "path"}, read_only=True, idempotent=True)
def file_read(path: str, context: Context, offset: int = 1, limit: int = 0) -> str:
    """Read a text file, or some lines of it.

    Args:
        path: the file.
        offset: the first line to read, counted from 1.
        limit: how many lines to read; 0 means all.
        context: opens only what is granted.
    """
    text = _text(context, path)
    if offset <= 1 and limit <= 0 and len(text) <= MAX_TEXT:
        return text
    return _window(text.splitlines(keepends=True), max(offset, 1), limit)


@tool(needs={"file-read": "path"}, read_only=True, idempotent=True)
def file_list(context: Context, path: str = ".", pattern: str = "*") -> str:
    """List a folder, one name a line; folders end in a slash.

    Args:
        path: the folder.
        pattern: which names, such as *.py; **/*.py looks in all folders below.
        context: opens only what is granted.
    """
    import fnmatch

    deep = "/" in pattern or "**" in pattern
    wanted = pattern.replace("**/", "") if pattern.startswith("**/") else pattern
    found = []
    for name, kind in _walk(context, path, deep=deep):
        whole = name if "/" in wanted else name.rpartition("/")[2]
        if fnmatch.fnmatchcase(whole, wanted):
            found.append(f"{name}/" if kind == "folder" else name)
        if len(found) > MAX_ENTRIES:
            return "\n".join([*found[:MAX_ENTRIES], f"[more than {MAX_ENTRIES} entries; use a narrower pattern]"])
    return "\n".join(found) or f"[nothing in {path} matches {pattern}]"


@tool(needs={"file-read": "path"}, read_only=True, idempotent=True, timeout=60)
def file_search(pattern: str, context: Context, path: str = ".") -> str:
    """Search files for a text or a simple regular expression; matches come as path:line:text.

    Args:
        pattern: what to look for, in one line.
        path: a file, or a folder to search with all folders below.
        context: opens only what is granted.
    """
    matches = _matcher(pattern)
    found: list[str] = []
    for name, text in _texts(context, path):
        for number, line in enumerate(text.splitlines(), 1):
            if context.remaining(1.0) <= 0 or context.cancelled():
                raise ToolError("the search took too long; search a smaller folder", "transient")
            if matches(line[:_LINE]):
                found.append(f"{name}:{number}:{line[:_LINE].rstrip()}")
            if len(found) >= MAX_MATCHES:
                return "\n".join([*found, f"[stopped at {MAX_MATCHES} matches]"])
    return "\n".join(found) or "[no match]"


@tool(needs={"file-write": "path"}, idempotent=True)
def file_write(path: str, content: str, context: Context) -> str:
    """Write a text file; what was there is replaced, folders are made as needed.

    Args:
        path: the file.
        content: all of its new text.
        context: opens only what is granted.
    """
    data = content.encode("utf-8", "replace")
    context.open_write(path, data)
    return f"wrote {len(data)} bytes to {path}"


@tool(needs={"file-read": "path", "file-write": "path"})
def file_edit(path: str, old: str, new: str, context: Context) -> str:
    """Replace one piece of a text file by another; the piece must occur exactly once.

    Args:
        path: the file.
        old: the exact text to replace, with enough around it to be unique.
        new: the text to put there.
        context: opens only what is granted.
    """
    data = context.open_read(path, limit=_MAX_FILE + 1)
    if len(data) > _MAX_FILE:
        raise ToolError(f"{path} is too large to edit", "invalid")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ToolError(f"{path} is not UTF-8 text", "invalid") from None
    count = text.count(old) if old else 0
    if count != 1:
        why = "is empty" if not old else "does not occur" if not count else f"occurs {count} times; add what is around it"
        raise ToolError(f"{path}: the text to replace {why}", "not_found" if old and not count else "invalid")
    context.open_write(path, text.replace(old, new).encode("utf-8", "replace"))
    return f"replaced 1 occurrence in {path}"


def _text(context: Context, path: str) -> str:
    data = context.open_read(path)
    if b"\0" in data[:_SNIFF]:
        raise ToolError(f"{path} is a binary file ({len(data)} bytes)", "invalid")
    return data.decode("utf-8", "replace")


def _window(lines: list[str], offset: int, limit: int) -> str:
    """Return lines from `offset` on: at most `limit` and MAX_TEXT characters, with a note where it goes on."""
    if offset > max(len(lines), 1):
        return f"[the file has {len(lines)} lines]"
    taken: list[str] = []
    room = MAX_TEXT
    for line in lines[offset - 1 : offset - 1 + limit if limit > 0 else None]:
        taken.append(line[:room])
        room -= len(line)
        if room <= 0:
            break
    end = offset + len(taken)
    text = "".join(taken)
    if end > len(lines):
        return text
    return (
        f"{text}{'' if text.endswith(chr(10)) else chr(10)}[lines {offset} to {end - 1} of {len(lines)}; go on with offset={end}]"
    )


def _walk(context: Context, path: str, *, deep: bool) -> Iterator[tuple[str, str]]:
    """Yield (name relative to path, kind); links are shown and never followed."""
    found = context.walk(path, lambda name, depth: deep and name not in _SKIPPED and depth < _MAX_DEPTH)
    return ((name, entry.kind) for name, entry in islice(found, _MAX_FILES))


def _texts(context: Context, path: str) -> Iterator[tuple[str, str]]:
    """Yield (path, text) of the text files at or below a path."""
    try:
        names = list(_walk(context, path, deep=True))
    except ToolError as error:
        if error.kind != "permanent":
            raise
        yield path, _text(context, path)  # not a folder
        return
    for name, kind in names:
        if kind == "file":
            whole = name if path in {".", "./", ""} else f"{path.rstrip('/')}/{name}"
            try:
                data = context.open_read(whole, limit=_MAX_FILE)
            except ToolError:
                continue
            if b"\0" not in data[:_SNIFF]:
                yield whole, data.decode("utf-8", "replace")


# -- patterns that cannot run away: what a model asks for must not hang the program ---------------------------------------------


def _matcher(pattern: str) -> Callable[[str], Any]:
    """Return what finds the pattern: as a regular expression where it is one of bounded cost, else literally."""
    import re
    import warnings

    if not pattern or "\n" in pattern:
        raise ToolError("the pattern must be one line and not empty", "invalid")
    if not set(pattern) & set("\\.^$*+?{}[]|()"):
        return lambda line: pattern in line
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            cost = _cost(re._parser.parse(pattern))  # type: ignore[attr-defined] # noqa: SLF001 - the one parser of this grammar
            compiled = re.compile(pattern)
        except (re.error, RecursionError, OverflowError):
            return lambda line: pattern in line
    if cost > 4 * _LINE * _LINE:
        raise ToolError("the regular expression could take for ever: use fewer repeats and no repeats inside repeats", "invalid")
    return compiled.search


def _cost(parsed: Any) -> float:
    """Return an upper bound of the ways one position can match."""
    total = 1.0
    for name, value in parsed:
        total *= _item_cost(str(name), value)
    return total


def _item_cost(name: str, value: Any) -> float:
    if name in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
        least, most, inner = value
        if int(most) > 1 and _cost(inner) > 1:  # choices inside a repeat multiply without end
            return float("inf")
        return min(float(most) - float(least), _LINE) + _cost(inner)
    if name == "BRANCH":
        return sum(_cost(option) for option in value[1])
    if name == "SUBPATTERN":
        return _cost(value[-1])
    if name in {"ASSERT", "ASSERT_NOT"}:
        return _cost(value[1])
    return float("inf") if name in {"GROUPREF", "GROUPREF_EXISTS", "ATOMIC_GROUP"} else 1.0
