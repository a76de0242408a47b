"""logs - the events of a run as structured logs: one JSON object a line, filtered by part and level (`--log`, `--log-level`).

    assistant "hi" --log run.jsonl --log-level warning,model=debug,tool=info
    AGENT_LOG=info,model=debug assistant "hi"        # to stderr; so does --log -

A part is the first word of an event's kind: run, model, tool, call, wait, node, step, notice and so on. Levels: debug, info,
warning, error, off. What was said (texts, arguments) is only written for a part at debug, shortened; names, numbers and errors
always are. Secrets are taken out of everything. Each line is written at once and in one piece, so processes may share a file. A log
that cannot be written is said once on stderr; the run goes on.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent_core.events import Event

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "off": 100}
_SAME = {"trace": "debug", "warn": "warning"}
SHOWN = 2000
_AT_DEBUG = frozenset({"all.finished", "tool.started", "call.started", "node.started", "step.started", "metric"})
_PLAIN = (
    "agent", "version", "provider", "model", "name", "tool", "id", "status", "stop", "steps", "attempts", "attempt", "retry_in",
    "cached", "wall_ms", "effects", "node", "visit", "state", "by", "session", "parent", "peak_memory_kb", "type", "value",
)  # fmt: skip
_NEVER = frozenset({"lineage", "history", "settings"})


def levels(text: str) -> dict[str, int]:
    """Return the least level of each part; "" is all others'. UsageError for a level that does not exist.

    >>> levels("warning,model=debug")
    {'': 30, 'model': 10}
    """
    found = {"": LEVELS["info"]}
    for word in filter(None, (each.strip() for each in text.split(","))):
        part, equals, level = word.rpartition("=")
        level = _SAME.get(level.lower(), level.lower())
        if level not in LEVELS or (equals and not part.strip()):
            raise UsageError(f"--log-level: {word[:40]!r} is no LEVEL or PART=LEVEL", hint=f"levels: {', '.join(LEVELS)}")
        found[part.strip().lower()] = LEVELS[level]
    return found


def chosen(log: str, level: str) -> tuple[str, dict[str, int]]:
    """Return where the log goes (- for stderr) and the levels: a filter in the place of a file means stderr.

    A file that has the name of a level is `./debug`. UsageError for a level that does not exist.
    """
    try:
        return "-", levels(log)
    except UsageError:
        return log, levels(level)


def level_of(event: Event) -> str:
    """Return how important an event is."""
    match event.kind:
        case "run.finished":
            return "info" if event.data.get("status") in {0, 3, 5} else "error"
        case "effect.failed" | "call.failed":
            return "error"
        case "model.failed" | "memory.evicted":
            return "warning"
        case "tool.finished":
            return "info" if event.data.get("error") is None else "warning"
    return "debug" if event.kind in _AT_DEBUG else "info"


def moment(seconds: float) -> str:
    """Return a time (seconds since 1970) in UTC, to the millisecond.

    >>> moment(1.5)
    '1970-01-01T00:00:01.500Z'
    """
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def row(event: Event, *, whole: bool = False) -> dict[str, Any]:
    """Return an event as a row of the log; with `whole` also what was said."""
    from agent_plugins.observe.audit import cleaned

    part, _, _ = event.kind.partition(".")
    head = {"time": moment(event.time), "level": level_of(event), "part": part, "event": event.kind, "run": event.run}
    data = event.data
    plain = {name: data[name] for name in _PLAIN if data.get(name) is not None and data.get(name) != ""}
    usage = data.get("usage")
    error = data.get("error")
    more: dict[str, Any] = {"usage": dict(usage)} if isinstance(usage, dict) else {}
    more |= {} if error is None else {"error": _error(error)}
    more |= {"cost_usd": _cost(data)} if event.kind == "model.replied" else {}
    more |= {"text": str(data.get("text", ""))[:SHOWN]} if event.kind == "notice" else {}
    said = {name: _short(value) for name, value in data.items() if name not in plain and name not in more and name not in _NEVER}
    made: dict[str, Any] = cleaned({**head, "path": event.path, **plain, **more, **({"data": said} if whole and said else {})})
    return made


def _error(error: Any) -> Any:
    if not isinstance(error, dict):
        return str(error)[:SHOWN]
    return {name: error[name] for name in ("code", "detail", "http_status", "retryable") if error.get(name) is not None}


def _cost(data: Mapping[str, Any]) -> str | None:
    from agent_core import money
    from agent_core.readings import cost_of

    cost = cost_of(data)
    return None if cost is None else money.text(cost)


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= SHOWN else f"{value[:SHOWN]}…"
    if isinstance(value, dict):
        return {str(key): _short(each) for key, each in value.items()}
    return [_short(each) for each in value[:50]] if isinstance(value, list | tuple) else value


@dataclass(slots=True)
class Log:
    """A reader of events that appends them to a file. `say` tells a person what went wrong, once."""

    path: str
    wanted: Mapping[str, int]
    say: Callable[[str], None]
    _broken: list[str] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        """Write the event, if its part's level lets it through. Never fails."""
        part = event.kind.partition(".")[0]
        least = self.wanted.get(part, self.wanted[""])
        if event.kind == "delta" or self._broken or LEVELS[level_of(event)] < least:
            return
        from agent_core import records

        try:
            self._write(records.line(row(event, whole=least <= LEVELS["debug"])))
        except (OSError, ValueError, RecursionError) as error:
            self._broken.append(str(error))
            self.say(f"the log {self.path} cannot be written: {getattr(error, 'strerror', None) or error}")

    def _write(self, line: bytes) -> None:
        if self.path == "-":
            os.write(2, line)
            return
        # Opened for each line: the file may be rotated away between two, and a thousand runs need no thousand descriptors.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(line)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)
