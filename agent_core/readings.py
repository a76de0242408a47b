"""readings - views of a run's events: summary, steps, bill, tool counts. Pure functions; nothing else measures anything.

A step is one turn of the model: what it thought, the calls it made (actions), and what came back (observations).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent_core import money
from agent_core.events import OUTCOMES
from agent_core.ids import position
from agent_core.store import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent_core.events import Event


@dataclass(frozen=True, slots=True)
class Action:
    """One tool call: what was asked for, and what came of it (`observation` is None while it is not known)."""

    tool: str
    arguments: Mapping[str, Any]
    observation: str | None = None
    error: str | None = None
    wall_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One turn of the model, numbered from 1; `path` is its position in the journal."""

    index: int
    path: str
    thought: str
    actions: tuple[Action, ...] = ()
    model: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """A run as a sequence of steps, and the questions people ask about it."""

    steps: tuple[Step, ...] = ()
    final_answer: str | None = None
    duration: float | None = None
    memory_hits: int = 0

    @property
    def step_count(self) -> int:
        """How many turns the model took."""
        return len(self.steps)

    @property
    def has_final_answer(self) -> bool:
        """Whether the run ended with an answer."""
        return self.final_answer is not None

    @property
    def thoughts(self) -> tuple[str, ...]:
        """What the model said beside its calls, in order."""
        return tuple(step.thought for step in self.steps if step.thought)

    @property
    def actions(self) -> tuple[Action, ...]:
        """All tool calls, in order."""
        return tuple(action for step in self.steps for action in step.actions)

    @property
    def observations(self) -> tuple[str, ...]:
        """What the tool calls returned, in order."""
        return tuple(action.observation for action in self.actions if action.observation is not None)

    @property
    def failed_tool_call_count(self) -> int:
        """How many tool calls ended with an error."""
        return sum(action.error is not None for action in self.actions)

    @property
    def most_common_action(self) -> str | None:
        """The tool called most often (of equals the one called first), or None."""
        counted = Counter(action.tool for action in self.actions).most_common(1)
        return counted[0][0] if counted else None

    def step(self, index: int) -> Step | None:
        """Return step number `index` (from 1), or None."""
        return self.steps[index - 1] if 0 < index <= len(self.steps) else None


@dataclass(frozen=True, slots=True)
class ToolCount:
    """How often a tool was called, how often that failed, and how long a call took on average (None: never timed)."""

    name: str
    call_count: int
    error_count: int
    avg_latency_ms: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """One run in a few fields. `state` is finished, or unfinished: it goes on somewhere or was cut off."""

    run: str
    agent: str = ""
    version: str = ""
    session: str = ""
    parent: str = ""
    provider: str = ""
    model: str = ""
    input: str = ""
    started: float | None = None
    finished: float | None = None
    state: str = "unfinished"
    status: int | None = None
    stop: str = ""
    output: str = ""
    structured: Any = None
    error: Any = None
    steps: int = 0
    usage: Mapping[str, Any] = field(default_factory=dict)


def summary(events: Sequence[Event]) -> Summary:
    """Return the summary of one run's events."""
    start, end = _first(events, "run.started"), _end(events)
    begun = start.data if start is not None else {}
    done = end.data if end is not None else {}
    replied = [event for event in events if event.kind == "model.replied"]
    last = replied[-1].data if replied else begun
    return Summary(
        run=events[0].run if events else "",
        **{name: str(begun.get(name) or "") for name in ("agent", "version", "session", "parent")},
        provider=str(last.get("provider") or ""), model=str(last.get("model") or ""), input=text_of(begun.get("input")),
        started=start.time if start is not None else None, finished=end.time if end is not None else None,
        state="unfinished" if end is None else "finished", status=done.get("status"), stop=str(done.get("stop") or ""),
        output=str(done.get("output") or ""), structured=done.get("structured"), error=done.get("error"),
        steps=len({event.path for event in replied}), usage=usage(events),
    )  # fmt: skip


def session(events: Sequence[Event]) -> Session:
    """Return the steps of one run: a model's turn and the calls it led to, in the order of their positions."""
    outcomes = outcome_events(events)
    results = {path: event for path, event in outcomes.items() if event.kind == "tool.finished"}
    steps: list[Step] = []
    for path, event in outcomes.items():
        if event.kind == "model.replied":
            calls = _calls(event)
            found = [_action(call, results.get(f"{_following(path)}.{place}")) for place, call in enumerate(calls)]
            steps.append(Step(len(steps) + 1, path, _thought(event), tuple(found), str(event.data.get("model") or "")))
        elif event.kind == "effect.failed":
            steps.append(Step(len(steps) + 1, path, "", error=_words(event.data.get("error"))))
    start, end = _first(events, "run.started"), _end(events)
    good = end is not None and end.data.get("status") in (0, 3)
    duration = end.time - start.time if start is not None and end is not None else None
    answer = str(end.data.get("output") or "") if end is not None and good else None
    return Session(tuple(steps), answer, duration, _memory_hits(start, results.values()))


def _memory_hits(start: Event | None, results: Iterable[Event]) -> int:
    """Return how many items of memory a run was given: as it began (its provenance names them), and by the tool `recall`."""
    sources = start.data.get("provenance") or () if start is not None else ()
    given = sum(str(source.get("ref")).startswith("memory:") for source in sources)
    values = [event.data.get("value") for event in results if event.data.get("name") == "recall"]
    return given + sum(len(value["items"]) for value in values if isinstance(value, dict) and isinstance(value.get("items"), list))


def usage(events: Iterable[Event]) -> dict[str, Any]:
    """Return what the events' model calls used, with the fields of wire.md §4.

    Tokens that a service did not report, and costs without a known price, make their sum None. Calls answered from the cache
    count as calls without cost; calls that a forked run inherited are its parent's.
    """
    tokens: dict[str, int | None] = {"input_tokens": 0, "cached_input_tokens": 0, "output_tokens": 0}
    calls, wall = 0, 0.0
    cost: int | None = 0
    basis = ""
    for event in events:
        if event.kind != "model.replied" or event.data.get("inherited"):
            continue
        calls += 1
        wall += event.data.get("wall_ms") or 0
        used = event.data.get("usage") or {}
        tokens = {name: _plus(total, used.get(name)) for name, total in tokens.items()}
        cost = _plus(cost, cost_of(event.data))
        basis = str(event.data.get("basis") or event.data.get("cost_basis") or basis)
    return {
        **tokens, "calls": calls, "cost_usd": None if cost is None else money.text(cost), "cost_basis": basis or None,
        "wall_ms": round(wall),
    }  # fmt: skip


def tool_counts(events: Iterable[Event]) -> list[ToolCount]:
    """Return counts of all finished tool calls (of one run or of many), by name."""
    times: dict[str, list[float]] = {}
    calls: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for event in events:
        if event.kind != "tool.finished" or event.data.get("inherited"):
            continue
        name = str(event.data.get("name") or "")
        calls[name] += 1
        errors[name] += event.data.get("error") is not None
        if event.data.get("wall_ms") is not None:
            times.setdefault(name, []).append(float(event.data["wall_ms"]))
    averages = {name: round(sum(each) / len(each), 3) for name, each in times.items()}
    return [ToolCount(name, calls[name], errors[name], averages.get(name)) for name in sorted(calls)]


def outcome_events(events: Iterable[Event]) -> dict[str, Event]:
    """Return the outcomes by position, in the order of positions; of several for one position the newest counts."""
    found = {event.path: event for event in events if event.kind in OUTCOMES}
    return {path: found[path] for path in sorted(found, key=position)}


def _first(events: Iterable[Event], kind: str) -> Event | None:
    return next((event for event in events if event.kind == kind), None)


def _end(events: Sequence[Event]) -> Event | None:
    """Return the run's end, or None if it was started again (resumed) after it."""
    last = next((event for event in reversed(events) if event.kind in ("run.finished", "run.started")), None)
    return last if last is not None and last.kind == "run.finished" else None


def _following(path: str) -> str:
    """Return the next position on the same level: where the calls of a model's reply are run."""
    head, _, last = path.rpartition(".")
    following = str(int(last) + 1) if last.isdecimal() else last
    return f"{head}.{following}" if head else following


def _parts(event: Event, kind: str) -> list[Mapping[str, Any]]:
    message = event.data.get("message")
    parts = message.get("parts") if isinstance(message, dict) else None
    return [part for part in parts or () if isinstance(part, dict) and part.get("type") == kind]


def _calls(event: Event) -> list[Mapping[str, Any]]:
    return _parts(event, "tool_call")


def _thought(event: Event) -> str:
    return "".join(str(part.get("text") or "") for part in _parts(event, "text"))


def _action(call: Mapping[str, Any], result: Event | None) -> Action:
    name, arguments = str(call.get("name") or ""), call.get("arguments") or {}
    if result is None:
        return Action(name, arguments)
    data = result.data
    arguments = data.get("arguments") or arguments  # a person changed them
    return Action(name, arguments, str(data.get("text") or ""), data.get("error"), data.get("wall_ms"))


def _words(error: Any) -> str:
    return str(error.get("detail") or error.get("code") or "") if isinstance(error, dict) else str(error or "")


def _plus(total: int | None, more: int | None) -> int | None:
    return None if total is None or more is None else total + more


def cost_of(data: Mapping[str, Any]) -> int | None:
    """Return the cost of a model's recorded reply in pico-dollars, or None if unknown."""
    if data.get("cached"):
        return 0
    if isinstance(data.get("cost"), int):
        return int(data["cost"])
    known = data.get("cost_usd")
    return money.pico(known) if isinstance(known, str) else None


def facts_of(event: Event) -> Mapping[str, Any]:
    """Return what a called agent's record said of its run ({agent, run, status, usage}); empty for any other event."""
    found = event.data.get("facts") if event.kind in ("call.finished", "call.failed", "effect.failed") else None
    return found if isinstance(found, dict) else {}
