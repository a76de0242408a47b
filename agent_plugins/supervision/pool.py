"""pool - what a pool file holds.

    strategy = "rest-for-one"        # one-for-one (default), one-for-all, rest-for-one
    max_restarts = 20                # of the whole pool in `window` seconds; one more and the supervisor gives up
    window = 60
    grace = 30                       # seconds from SIGTERM to SIGKILL

    [[child]]
    name = "worker"
    command = ["worker", "--fast"]   # a list of words: never a shell
    restart = "on-failure"           # always, on-failure (default), never
    max_restarts = 3                 # in `window` seconds; the next crash marks the child failed
    window = 5
    backoff = 0.1                    # first pause before a restart; it doubles up to `backoff_max`
    backoff_max = 30
    later = 1                        # first pause after status 69 or 75
    jitter = 0.2                     # a pause is up to so much longer or shorter
    output = "stderr"                # or a file it is appended to, or "discard"
    directory = "work"               # relative to the pool file
    environment = { MODE = "fast" }

`File` and `Child` are the shapes against which the data is checked; `problems` says what no shape can.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
MOST = 1000
LONGEST = 86400.0


@dataclass(frozen=True)
class Child:
    """One child: its program by words, when it is restarted and how often. Times are in seconds."""

    name: str
    command: list[str]
    restart: Literal["always", "on-failure", "never"] = "on-failure"
    max_restarts: int = 3
    window: float = 5.0
    backoff: float = 0.1
    backoff_max: float = 30.0
    later: float = 1.0
    jitter: float = 0.2
    grace: float | None = None
    output: str = "stderr"
    directory: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - pydantic reads it from the class


@dataclass(frozen=True)
class Pool:
    """What a pool file holds. `max_restarts` in `window` seconds is the limit of all children together."""

    child: list[Child]
    name: str = ""
    strategy: Literal["one-for-one", "one-for-all", "rest-for-one"] = "one-for-one"
    max_restarts: int = 20
    window: float = 60.0
    grace: float = 30.0
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - pydantic reads it from the class

    def grace_of(self, child: Child) -> float:
        """Return how long a child has to end."""
        return self.grace if child.grace is None else child.grace


Place = tuple[str | int, ...]


def problems(data: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    """Yield (where, what) of everything wrong in data whose shape is right."""
    children = data.get("child", [])
    if not 0 < len(children) <= MOST:
        yield ("child",), f"a pool has 1 to {MOST} children"
    if data.get("name") and not NAME.fullmatch(data["name"]):
        yield ("name",), "name: letters, digits, dots, dashes; at most 64"
    yield from _numbers((), data)
    seen: set[str] = set()
    for index, child in enumerate(children):
        yield from _of_child(("child", index), child)
        if child["name"] in seen:
            yield ("child", index, "name"), f"a second child is named {child['name']}"
        seen.add(child["name"])


def _of_child(place: Place, child: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    if not NAME.fullmatch(child["name"]):
        yield (*place, "name"), "name: letters, digits, dots, dashes; at most 64"
    words = child["command"]
    if not words or not words[0]:
        yield (*place, "command"), "command: the first word names the program"
    if any("\0" in word for word in (*words, child.get("output", ""), child.get("directory", ""))):
        yield (*place, "command"), "a NUL byte cannot be passed on"
    for name, value in child.get("environment", {}).items():
        if not VARIABLE.fullmatch(name) or "\0" in value:
            yield (*place, "environment"), f"environment: {name[:40]!r} is no variable"
    yield from _numbers(place, child)


def _numbers(place: Place, table: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    for key in ("window", "backoff", "backoff_max", "later", "grace"):
        value = table.get(key, 1)
        if value is not None and not 0 <= value <= LONGEST:
            yield (*place, key), f"{key}: from 0 to {LONGEST:g} seconds"
    if not 0 <= table.get("max_restarts", 0) <= 10**6:
        yield (*place, "max_restarts"), "max_restarts: from 0 to 1000000"
    if not 0 <= table.get("jitter", 0) <= 1:
        yield (*place, "jitter"), "jitter: from 0 to 1"


def pool_of(data: Mapping[str, Any]) -> Pool:
    """Return the pool of data that was checked."""
    return Pool(**{**data, "child": [Child(**each) for each in data["child"]]})
