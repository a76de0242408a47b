"""progress - how far a run is: what is done, active, ready or blocked, and who holds up the rest. Pure: events in, numbers out.

    progress(store.events(run), time.time()).data()     {"progress": 0.67, "active": 1, "blocked": 1, "bottleneck": "searcher", …}

Parts are the nodes of a graph, else the steps of a plan, else the agents that were called, whichever the run tells of:

    graph.started {nodes: {name: [names it comes after]}, start?}     node.started, node.progress, node.finished {node, state}
    step.planned {steps: [{id, task, needs}]}                         step.started, step.finished {id, state}
    call.started, call.finished, call.failed {agent}

The bottleneck is the active part for which most others wait; if any part was finished, only one that takes `slow` times as long as
the median of those. A run that was resumed tells its story again: the same thing told twice counts once, when it was told first.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from agent_core.events import ASIDE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from agent_core.events import Event

SLOW = 1.5
DONE = frozenset({"completed", "failed", "denied", "skipped"})


@dataclass(slots=True)
class Part:
    """A node, step or agent. `state`: pending, active, completed, failed, denied, skipped or stopped; times: seconds since 1970."""

    name: str
    needs: tuple[str, ...] = ()
    state: str = "pending"
    progress: float = 0.0
    visits: int = 0
    started: float | None = None
    finished: float | None = None
    is_start: bool | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in DONE

    def begin(self, now: float) -> None:
        """Note that it began (again)."""
        self.state, self.started, self.finished, self.progress = "active", now, None, 0.0
        self.visits += 1

    def end(self, state: str, now: float) -> None:
        """Note what became of it."""
        self.state, self.finished = state if state in DONE else "completed", now


@dataclass(frozen=True, slots=True)
class Progress:
    """A run's progress, 0 to 1; None where the run tells of no parts and has not ended. `waiting`: open questions to a person."""

    run: str
    agent: str
    state: str
    progress: float | None
    elapsed_s: float | None
    parts: tuple[Part, ...]
    ready: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    bottleneck: str = ""

    @property
    def active(self) -> tuple[Part, ...]:
        """The parts that are being worked on."""
        return tuple(part for part in self.parts if part.state == "active")

    def data(self) -> dict[str, Any]:
        """Return it as plain data; `active` and `blocked` are counts, as summaries have them."""
        done = sum(part.is_done for part in self.parts)
        return {
            "run": self.run, "agent": self.agent, "state": self.state, "progress": self.progress, "elapsed_s": self.elapsed_s,
            "active": len(self.active), "blocked": len(self.blocked), "done": done, "total": len(self.parts),
            "ready": list(self.ready), "bottleneck": self.bottleneck or None, "waiting": list(self.waiting),
            "active_parts": [part.name for part in self.active], "blocked_parts": list(self.blocked),
            "failed": [part.name for part in self.parts if part.state in {"failed", "denied"}],
            "parts": [asdict(part) for part in self.parts],
        }  # fmt: skip


@dataclass(slots=True)
class _Graph:
    """A graph that was started at a position: its parts have names of their own, behind the name of an inner graph."""

    branch: str
    prefix: str
    parts: dict[str, Part]


@dataclass(slots=True)
class _Told:
    """What the events told so far."""

    graphs: list[_Graph] = field(default_factory=list)
    steps: dict[str, Part] = field(default_factory=dict)
    calls: dict[str, Part] = field(default_factory=dict)
    open_calls: dict[str, str] = field(default_factory=dict)
    questions: dict[str, str] = field(default_factory=dict)

    def parts(self) -> list[Part]:
        found = [part for graph in self.graphs for part in graph.parts.values()]
        return found or list(self.steps.values()) or list(self.calls.values())


def progress(events: Sequence[Event], now: float, slow: float = SLOW) -> Progress:
    """Return how far a run is at a moment (seconds since 1970)."""
    told = _Told()
    for event in _once(events):
        _take(told, event)
    start = next((event for event in events if event.kind == "run.started"), None)
    end = next((event for event in reversed(events) if event.kind in {"run.finished", "run.started"}), None)
    ended = end is not None and end.kind == "run.finished"
    parts = told.parts()
    status = end.data.get("status") if ended and end is not None else None
    if ended:
        _settle(parts, status)
    until = end.time if ended and end is not None else now
    return Progress(
        run=events[0].run if events else "", agent=str(start.data.get("agent") or "") if start is not None else "",
        state=_state(told, status, ended=ended), progress=_fraction(parts, status, ended=ended),
        elapsed_s=None if start is None else round(until - start.time, 3), parts=tuple(parts),
        ready=tuple(_ready(parts)) if not ended else (), blocked=tuple(_blocked(parts)) if not ended else (),
        waiting=tuple(told.questions.values()), bottleneck="" if ended else _bottleneck(parts, now, slow),
    )  # fmt: skip


def _once(events: Iterable[Event]) -> Iterator[Event]:
    """Yield the events without those that a resumed run told again."""
    seen: dict[tuple[str, str], Any] = {}
    for event in events:
        if event.kind.partition(".")[0] in {"graph", "node", "step"}:
            if seen.get((event.kind, event.path)) == event.data:
                continue
            seen[event.kind, event.path] = event.data
        yield event


def _take(told: _Told, event: Event) -> None:
    match event.kind.partition("."):
        case ("graph", _, "started"):
            _graph(told, event)
        case ("node", _, what):
            name = str(event.data.get("node") or "")
            graph = _graph_of(told, event, name)
            _moved(graph.parts.setdefault(name, Part(f"{graph.prefix}{name}")), what, event)
        case ("step", _, "planned"):
            _planned(told, event)
        case ("step", _, what):
            name = str(event.data.get("id") or "")
            needs = tuple(map(str, _list(event.data.get("needs"))))
            _moved(told.steps.setdefault(name, Part(name, needs)), what, event)
        case ("call", _, what):
            _called(told, what, event)
        case ("wait", _, "asked"):
            told.questions[event.path] = str(event.data.get("question") or "")
        case ("wait", _, "finished"):
            told.questions.pop(event.path, None)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _branch(event: Event) -> str:
    head = event.path.rpartition(".")[0]
    return f"{head}." if head else ""


def _graph(told: _Told, event: Event) -> None:
    nodes, starts = event.data.get("nodes"), event.data.get("start")
    prefix = f"{event.data.get('graph') or 'graph'}/" if told.graphs else ""
    parts = {
        str(name): Part(f"{prefix}{name}", tuple(f"{prefix}{need}" for need in _list(needs)), is_start=_begins(name, starts))
        for name, needs in (nodes.items() if isinstance(nodes, dict) else ())
    }
    told.graphs.append(_Graph(_branch(event), prefix, parts))


def _begins(name: str, starts: Any) -> bool | None:
    return name in starts if isinstance(starts, list) else None


def _graph_of(told: _Told, event: Event, name: str) -> _Graph:
    """Return the graph a node belongs to: the one begun last, on the way to where the node stands, that has it."""
    here = _branch(event)
    around = [graph for graph in reversed(told.graphs) if here.startswith(graph.branch)]
    found = next((graph for graph in around if name in graph.parts), None)
    if found is None:
        found = next(iter(around), None) or _Graph("", "", {})
        if found not in told.graphs:
            told.graphs.append(found)
    return found


def _planned(told: _Told, event: Event) -> None:
    for row in _list(event.data.get("steps")):
        if isinstance(row, dict):
            name = str(row.get("id") or "")
            told.steps.setdefault(name, Part(name, tuple(map(str, _list(row.get("needs"))))))


def _moved(part: Part, what: str, event: Event) -> None:
    if what == "started":
        part.begin(event.time)
    elif what == "progress":
        given = event.data.get("progress")
        part.progress = min(1.0, max(0.0, float(given))) if isinstance(given, int | float) else part.progress
    elif what == "finished":
        part.end(str(event.data.get("state") or ""), event.time)


def _called(told: _Told, what: str, event: Event) -> None:
    name = str(event.data.get("agent") or "")
    if name.startswith(ASIDE):
        return
    part = told.calls.setdefault(name, Part(name))
    if what == "started":
        told.open_calls[event.path] = name
        part.begin(event.time)
        return
    told.open_calls.pop(event.path, None)
    if name not in told.open_calls.values():
        part.end("completed" if what == "finished" else "failed", event.time)


def _settle(parts: Iterable[Part], status: Any) -> None:
    """Say what became of parts that a run left behind: those that were at work were stopped, others were never needed."""
    for part in parts:
        if part.state == "active":
            part.state = "stopped"
        elif part.state == "pending" and status in {0, 3}:
            part.state = "skipped"


def _state(told: _Told, status: Any, *, ended: bool) -> str:
    from agent_plugins.observe.shown import state

    if ended:
        return state(status, finished=True)
    return "waiting" if told.questions else "running"


def _fraction(parts: Sequence[Part], status: Any, *, ended: bool) -> float | None:
    if ended and status in {0, 3}:
        return 1.0
    if not parts:
        return None
    return round(sum(1.0 if part.is_done else part.progress for part in parts) / len(parts), 2)


def _ready(parts: Sequence[Part]) -> Iterator[str]:
    """Yield the parts that could start now. One that comes after nothing and is no start waits for a transition to lead to it."""
    states = {part.name: part.state for part in parts}
    begun = any(part.state != "pending" for part in parts)
    for part in parts:
        first = part.is_start if part.is_start is not None else not begun
        if part.state == "pending" and (all(states.get(need) == "completed" for need in part.needs) if part.needs else first):
            yield part.name


def _blocked(parts: Sequence[Part]) -> Iterator[str]:
    ready = set(_ready(parts))
    yield from (part.name for part in parts if part.state == "pending" and part.name not in ready)


def _bottleneck(parts: Sequence[Part], now: float, slow: float) -> str:
    took = [part.finished - part.started for part in parts if part.finished is not None and part.started is not None]
    least = slow * median(took) if took else 0.0
    waiting = {part.name: _waiting_for(part.name, parts) for part in parts if part.state == "active"}
    slow_ones = [
        part for part in parts if waiting.get(part.name) and part.started is not None and now - part.started >= least
    ]  # fmt: skip
    worst = max(slow_ones, key=lambda part: (waiting[part.name], now - (part.started or now)), default=None)
    return worst.name if worst is not None else ""


def _waiting_for(name: str, parts: Sequence[Part]) -> int:
    """Return how many parts wait for one, directly or through others."""
    after: dict[str, list[str]] = {}
    for part in parts:
        for need in part.needs:
            after.setdefault(need, []).append(part.name)
    pending = {part.name for part in parts if part.state == "pending"}
    seen: set[str] = set()
    queue = [name]
    while queue:
        for each in after.get(queue.pop(), ()):
            if each in pending and each not in seen:
                seen.add(each)
                queue.append(each)
    return len(seen)


def as_text(found: Progress, now: float) -> str:
    """Return it for people: a line, what is going on, and a table of the parts."""
    from agent_plugins.observe.shown import columns, short

    how_far = "" if found.progress is None else f", {found.progress:.0%}"
    took = "" if found.elapsed_s is None else f", {found.elapsed_s:.1f} s"
    lines = [f"run {found.run}: {short(found.agent)}, {found.state}{how_far}{took}"]
    lines += [f"waits for a person: {short(each)}" for each in found.waiting]
    if found.parts:
        counts: Mapping[str, Any] = found.data()
        lines.append(f"{counts['done']} of {counts['total']} done, {counts['active']} active, {counts['blocked']} blocked")
        lines += [f"bottleneck: {short(found.bottleneck)}"] if found.bottleneck else []
        rows = [("PART", "STATE", "SECONDS", "AFTER")]
        rows += [
            (short(part.name), _shown(part, found), _took(part, now), short(", ".join(part.needs)) or "-") for part in found.parts
        ]
        lines += ["", columns(rows)]
    return "\n".join(lines)


def _shown(part: Part, found: Progress) -> str:
    return "ready" if part.name in found.ready else "blocked" if part.name in found.blocked else part.state


def _took(part: Part, now: float) -> str:
    if part.started is None:
        return "-"
    until = part.finished if part.finished is not None else now if part.state == "active" else None
    return "-" if until is None else f"{max(0.0, until - part.started):.1f}"
