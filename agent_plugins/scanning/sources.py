"""sources - the texts of files and folders, read through a `Context`.

    for loaded in folder("src", context): ...

A folder's files are those that git would commit (tracked, or new and not ignored); where git does not list them, all but `.git`,
`node_modules` and the like. Symbolic links are not followed. git is asked with hooks, file-system monitors and the caller's GIT_*
variables out of the way: listing a stranger's repository runs nothing of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent_core.tool import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agent_core.tool import Context

LARGEST = 10 * 1024 * 1024
SNIFF = 8192
SECONDS = 60.0
_SKIPPED = frozenset({
    ".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv", "venv", ".tox", ".nox", ".mypy_cache", ".ruff_cache",
    ".pytest_cache", ".eggs", ".terraform",
})  # fmt: skip
_DEPTH = 60
# ends of names whose content is never text; saves the reading
_BINARY = (
    ".png", ".jpg", ".jpeg", ".gif", ".webp", ".ico", ".pdf", ".zip", ".gz", ".xz", ".bz2", ".zst", ".7z", ".jar",
    ".whl", ".so", ".dylib", ".dll", ".exe", ".o", ".a", ".pyc", ".woff", ".woff2", ".ttf", ".otf", ".eot", ".mp3",
    ".mp4", ".mov", ".avi", ".ogg", ".wasm", ".class",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Loaded:
    """One file: its path as named from where the command stands, and its text; or why it is `skipped` (binary, link, …)."""

    path: str
    text: str = ""
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which files of a folder: also ignored ones, none that match `exclude`, none larger than `largest` bytes."""

    ignored: bool = False
    exclude: tuple[str, ...] = ()
    largest: int = LARGEST


DEFAULT = Wanted()


def text_of(data: bytes) -> str | None:
    """Return bytes as text (bytes that are not UTF-8 survive as surrogates), None for binary data. UTF-16 is known by its mark."""
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            return None
    if b"\0" in data[:SNIFF]:
        return None
    return data.decode("utf-8", "surrogateescape")


def folder(path: str, context: Context, wanted: Wanted = DEFAULT) -> Iterator[Loaded]:
    """Yield the files of a folder.

    Raises:
        ToolError: there is no such folder, or it is not granted.
    """
    context.listdir(path)
    for name in names(path, context, wanted):
        shown = name if path in {".", "./", ""} else f"{path.rstrip('/') or '/'}/{name}".replace("//", "/")
        if not excluded(name, wanted.exclude):
            yield file(shown, context, wanted)


def file(path: str, context: Context, wanted: Wanted = DEFAULT) -> Loaded:
    """Return one file."""
    if os.path.islink(_real(path, context)):  # noqa: PTH114 - a string; opening is checked again, in one step
        return Loaded(path, skipped="link")
    if path.lower().endswith(_BINARY):
        return Loaded(path, skipped="binary")
    try:
        data = context.open_read(path, limit=wanted.largest + 1)
    except ToolError as error:
        return Loaded(path, skipped="gone" if error.kind == "not_found" else f"unreadable: {error}")
    if len(data) > wanted.largest:
        return Loaded(path, skipped=f"larger than {wanted.largest} bytes")
    text = text_of(data)
    return Loaded(path, skipped="binary") if text is None else Loaded(path, text)


def _real(path: str, context: Context) -> str:
    return os.path.join(context.workspace, path)  # noqa: PTH118


def excluded(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a path, its name or a folder above it matches one of the patterns."""
    from fnmatch import fnmatchcase

    steps = name.split("/")
    above = ["/".join(steps[:count]) for count in range(1, len(steps) + 1)]
    return any(fnmatchcase(each, pattern.rstrip("/")) for pattern in patterns for each in (*above, *steps))


def names(path: str, context: Context, wanted: Wanted = DEFAULT) -> Iterator[str]:
    """Yield the names of a folder's files, relative to it, in order."""
    listed = None if wanted.ignored else listed_by_git(_real(path, context))
    if listed is None or not listed:
        yield from _walked(path, context)
        return
    for name in listed:
        below = f"{path.rstrip('/')}/{name}".rstrip("/")
        place = _real(below, context)
        if os.path.isdir(place) and not os.path.islink(place):  # noqa: PTH112, PTH114 - a submodule, or a repository of its own
            prefix = name.rstrip("/")
            yield from (f"{prefix}/{each}" for each in _inner(below, context, wanted))
        else:
            yield name


def _inner(path: str, context: Context, wanted: Wanted) -> Iterator[str]:
    try:
        yield from names(path, context, wanted)
    except (ToolError, RecursionError):
        return


def _walked(path: str, context: Context) -> Iterator[str]:
    found = context.walk(path, lambda name, depth: name not in _SKIPPED and depth < _DEPTH)
    return (name for name, entry in found if entry.kind in {"file", "link"})


def listed_by_git(path: str) -> list[str] | None:
    """Return what git would commit of a folder, relative to it, sorted; None where git cannot say (no git, no repository)."""
    import shutil
    import subprocess

    from agent_core.config import environ

    env = {name: value for name, value in environ().items() if not name.startswith("GIT_")}
    program = shutil.which("git", path=env.get("PATH", ""))
    if program is None or not program.startswith("/"):
        return None
    quiet = {**env, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    safe = ["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.untrackedCache=keep"]
    listing = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "."]
    try:
        done = subprocess.run(
            [program, *safe, *listing],
            cwd=path,
            env=quiet,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else _sorted(done.stdout.split(b"\0"))


def _sorted(names_: Sequence[bytes]) -> list[str]:
    return sorted({os.fsdecode(name) for name in names_ if name})
