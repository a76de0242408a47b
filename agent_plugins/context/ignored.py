"""ignored - what .gitignore files leave out, by git's rules (pathspec reads the patterns; git itself is never run).

Running git in a folder that somebody else filled may run what its configuration names (core.fsmonitor), so the files are read here:
.git/info/exclude and every .gitignore from the top of the working tree down. The deepest file that speaks of a path wins.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent_core import beneath
from agent_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NAME = ".gitignore"
_SIZE = 256 * 1024
_LINES, _LENGTH = 2000, 400
# Patterns are turned into regular expressions; one with many wildcards takes for ever on a name made for it.
_WILDCARDS = re.compile(r"\*+")
_MOST_WILDCARDS = 4


@dataclass(frozen=True, slots=True)
class Rules:
    """The patterns that hold in a folder and below: (their folder, relative to the top, with its slash, check), deepest last."""

    levels: tuple[tuple[str, Callable[[str], bool | None]], ...] = ()

    def below(self, folder: str, text: bytes | None) -> Rules:
        """Return the rules with those of a file in `folder` (relative to the top; "" is the top)."""
        check = _check(text)
        return self if check is None else replace(self, levels=(*self.levels, (f"{folder}/" if folder else "", check)))

    def leave_out(self, path: str, *, folder: bool) -> bool:
        """Return whether a path (relative to the top) is left out; what lies in a folder that is left out is not asked about."""
        for base, check in reversed(self.levels):
            if path.startswith(base):
                said = check(path[len(base) :] + ("/" if folder else ""))
                if said is not None:
                    return said
        return False


def top_of(folder: str) -> str:
    """Return the top of the working tree that holds an absolute folder, or the folder itself."""
    here = folder
    while True:
        if os.path.lexists(os.path.join(here, ".git")):  # noqa: PTH118 - a walk over text paths, as the caller's
            return here
        above = os.path.dirname(here)  # noqa: PTH120
        if above == here:
            return folder
        here = above


def rules_above(top: str, rest: str) -> Rules:
    """Return the rules that the files above the folder `rest` of a working tree make; none if they leave the folder itself out.

    Who names a folder wants what is in it, whatever the files above say of it.
    """
    rules = Rules().below("", _text(top, ".git/info/exclude"))
    walked = ""
    for step in filter(None, rest.split("/")):
        rules = rules.below(walked, _text(top, f"{walked}/{NAME}".lstrip("/")))
        walked = f"{walked}/{step}".lstrip("/")
        if rules.leave_out(walked, folder=True):
            return Rules()
    return rules


def _text(root: str, rest: str) -> bytes | None:
    try:
        return beneath.read(root, rest, 0, _SIZE, links=False)
    except OSError:
        return None


def _check(text: bytes | None) -> Callable[[str], bool | None] | None:
    """Return what tells of a path (a folder's ends in a slash) whether the file leaves it out (True), takes it in, or is silent."""
    patterns = [pattern for pattern in _spec(_lines(text or b"")).patterns if pattern.regex is not None] if text else []
    if not patterns:
        return None
    last_first = patterns[::-1]
    return lambda path: next((bool(pattern.include) for pattern in last_first if _is_meant(pattern.regex, path)), None)


def _is_meant(regex: re.Pattern[str], path: str) -> bool:
    """Return whether a pattern means this very entry, as git asks; pathspec also matches what lies in a folder that is meant."""
    plain = regex.match(path.rstrip("/"))
    mark = next(iter(regex.groupindex), None)  # the slash after a folder that was matched
    if plain is not None and (mark is None or plain[mark] is None):
        return True
    whole = regex.match(path) if mark is not None and path.endswith("/") else None
    return whole is not None and mark is not None and whole.start(mark) == len(path) - 1


def _lines(text: bytes) -> Iterable[str]:
    for line in text.decode("utf-8", "surrogateescape").splitlines()[:_LINES]:
        plain = line.strip() and not line.startswith("#") and len(line) <= _LENGTH
        if plain and len(_WILDCARDS.findall(line)) <= _MOST_WILDCARDS:
            yield line


def _spec(lines: Iterable[str]) -> Any:
    spec, lines = pathspec().GitIgnoreSpec, list(lines)
    try:
        return spec.from_lines(lines)
    except (ValueError, re.error):
        return spec.from_lines(filter(lambda line: _reads(spec, line), lines))


def _reads(spec: Any, line: str) -> bool:
    """Return whether a line is a pattern at all; git passes over others."""
    try:
        spec.from_lines([line])
    except (ValueError, re.error):
        return False
    return True


def matching(pattern: str) -> Callable[[str], bool]:
    """Return what tells whether a relative path matches a glob (`*` within a name, `**` across folders), or lies in what does."""
    spec = _spec(["/" + pattern.lstrip("/")])
    return lambda path: bool(spec.match_file(path))


def pathspec() -> Any:
    """Return the module; ConfigError where it is missing."""
    try:
        import pathspec as found
    except ImportError:
        raise ConfigError("--context needs the module 'pathspec'", hint="pip install pathspec") from None
    return found
