"""timeline - what happened when in a run: model calls, tools, agents, questions, parts of a graph. Pure.

rows = timeline(store.events(run))
print(bars(rows, 80))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent_core.events import Event

_PAIRS = {
    "tool.started": "tool", "call.started": "agent", "wait.asked": "question", "node.started": "node", "step.started": "step",
}  # fmt: skip
_ENDS = {
    "tool.finished": "tool", "call.finished": "agent", "call.failed": "agent", "wait.finished": "question",
    "node.finished": "node", "step.finished": "step",
}  # fmt: skip
_LABEL = 28
_KEYS = {"tool": "name", "agent": "agent", "question": "question", "node": "node", "step": "id"}


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that took time. `start` and `end`: seconds since 1970, `end` None while it goes on; `state`: ok, failed or open."""

    kind: str
    label: str
    path: str
    start: float
    end: float | None
    state: str = "ok"

    def data(self, origin: float) -> dict[str, Any]:
        """Return it as plain data with times in ms after the run's start."""
        duration = None if self.end is None else round((self.end - self.start) * 1000, 1)
        place = {"kind": self.kind, "label": self.label, "path": self.path, "state": self.state}
        return {**place, "start_ms": round((self.start - origin) * 1000, 1), "duration_ms": duration}


def timeline(events: Sequence[Event]) -> list[Row]:
    """Return the rows of a run, first come first; what a fork inherited is its origin's."""
    begun: dict[tuple[str, str], Event] = {}
    rows: list[Row] = []
    for event in events:
        if event.data.get("inherited"):
            continue
        kind = _PAIRS.get(event.kind)
        if kind is not None:
            begun.setdefault((kind, _place(event, kind)), event)
        elif event.kind in _ENDS:
            kind = _ENDS[event.kind]
            rows.append(_ended(event, kind, begun.pop((kind, _place(event, kind)), None)))
        else:
            rows += _model(event)
    rows += [Row(kind, _label(event.data, kind), event.path, event.time, None, "open") for (kind, _), event in begun.items()]
    return sorted(_once(rows), key=lambda row: (row.start, row.path))


def _place(event: Event, kind: str) -> str:
    """Return what joins a beginning and its end: the position; nodes and steps have one of their own for each event."""
    if kind in {"node", "step"}:
        return f"{event.path.rpartition('.')[0]} {_label(event.data, kind)} {event.data.get('visit', '')}"
    return event.path


def _label(data: Mapping[str, Any], kind: str) -> str:
    return " ".join(str(data.get(_KEYS[kind]) or "").split())


def _ended(event: Event, kind: str, begin: Event | None) -> Row:
    wall = event.data.get("wall_ms")
    before = wall / 1000 if isinstance(wall, int | float) and not isinstance(wall, bool) else 0.0
    start = begin.time if begin is not None else event.time - before
    state = event.data.get("state")
    failed = event.kind == "call.failed" or bool(event.data.get("error")) or state in {"failed", "denied"}
    label = _label(event.data, kind) or (_label(begin.data, kind) if begin is not None else "")
    return Row(kind, label, event.path, min(start, event.time), event.time, "failed" if failed else "ok")


def _model(event: Event) -> Iterator[Row]:
    if event.kind not in {"model.replied", "model.failed"}:
        return
    wall = event.data.get("wall_ms")
    took = wall / 1000 if isinstance(wall, int | float) and not isinstance(wall, bool) else 0.0
    failed = event.kind == "model.failed"
    label = " ".join(str(event.data.get("model") or event.data.get("provider") or "").split())
    yield Row("model", label, event.path, event.time - took, event.time, "failed" if failed else "ok")


def _once(rows: Sequence[Row]) -> Iterator[Row]:
    """Yield the rows without the story that a resumed run told again."""
    seen: set[tuple[str, str, str]] = set()
    for row in sorted(rows, key=lambda row: row.start):
        key = (row.kind, row.label, row.path)
        if row.kind not in {"node", "step"} or key not in seen:
            yield row
        seen.add(key)


def bars(rows: Sequence[Row], width: int = 100) -> str:
    """Return the rows as lines with bars, `width` characters wide at most; nothing for no rows."""
    if not rows:
        return ""
    start, end = rows[0].start, max(row.end if row.end is not None else row.start for row in rows)
    label = min(_LABEL, max(len(_head(row)) for row in rows))
    room = max(10, width - label - 14)
    scale = room / max(end - start, 1e-9)
    return "\n".join(_line(row, start, end, scale, (label, room)) for row in rows)


def _head(row: Row) -> str:
    return f"{'  ' * min(3, row.path.count('.'))}{row.kind} {row.label}"


def _line(row: Row, start: float, end: float, scale: float, sizes: tuple[int, int]) -> str:
    label, room = sizes
    head = _head(row)
    head = head if len(head) <= label else f"{head[: label - 1]}…"
    until = row.end if row.end is not None else end
    at = min(room - 1, int((row.start - start) * scale))
    length = min(room - at, max(1, round((until - row.start) * scale)))
    mark = {"ok": "█", "failed": "▒", "open": "░"}[row.state]
    took = "…" if row.end is None else _duration(row.end - row.start)
    return f"{head:<{label}}  {' ' * at}{mark * length}{' ' * (room - at - length)}  {took}".rstrip()


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
