"""metrics - counters, gauges and histograms, counted from the event stream.

    found = measure(store.stream(), agents)
    found["agent_tool_calls_total"].total(agent="writer", outcome="ok")

A pattern adds its own with an event: `yield Note("metric", {"name": "pages_read", "type": "counter", "value": 3})` (or gauge, or
histogram with `bounds`; `labels` is a table of texts). What a fork inherited was measured in its origin. A reply from the cache is
an inference without latency and cost. A step is a turn of the model with the calls it led to: its latency ends with the last one.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from agent_core import money, redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from agent_core.events import Event

Labels = tuple[tuple[str, str], ...]
LATENCIES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
GOOD = frozenset({0, 3, 5})  # statuses of runs that are no failure: done, "no", waiting for a person
MOST_SERIES = 2000
_NAME = re.compile(r"[^a-zA-Z0-9_]")


@dataclass(slots=True)
class Tally:
    """One histogram's series: how many observations fell below each bound (the last place: above all), their number and sum."""

    buckets: list[int]
    count: int = 0
    sum: float = 0.0


@dataclass(slots=True)
class Family:
    """A metric with its series. `kind` is counter, gauge or histogram; `bounds` are a histogram's, in rising order."""

    name: str
    kind: str
    help: str
    bounds: tuple[float, ...] = ()
    series: dict[Labels, Any] = field(default_factory=dict)
    _keys: dict[Labels, Labels] = field(default_factory=dict, repr=False, compare=False)

    def inc(self, amount: Any = 1, **labels: str) -> None:
        """Add to a counter or gauge; ValueError for a counter that would fall."""
        if self.kind == "counter" and amount < 0:
            raise ValueError(f"the counter {self.name} cannot fall")
        self._put(labels, lambda old: amount if old is None else old + amount)

    def dec(self, amount: Any = 1, **labels: str) -> None:
        """Take from a gauge."""
        self.inc(-amount, **labels)

    def set(self, value: Any, **labels: str) -> None:
        """Set a gauge."""
        self._put(labels, lambda _old: value)

    def observe(self, value: float, **labels: str) -> None:
        """Count an observation of a histogram."""

        def counted(old: Tally | None) -> Tally:
            tally = old or Tally([0] * (len(self.bounds) + 1))
            tally.buckets[bisect_left(self.bounds, value)] += 1
            tally.count += 1
            tally.sum += value
            return tally

        self._put(labels, counted)

    def get(self, **labels: str) -> Any:
        """Return the value of one series (a Tally of a histogram), None if there is none."""
        return self.series.get(_key(labels))

    def total(self, **labels: str) -> Any:
        """Return the sum over all series that have these labels, 0 without any."""
        wanted = set(labels.items())
        return sum((value for key, value in self.series.items() if wanted <= set(key)), 0)

    def _put(self, labels: Mapping[str, str], change: Callable[[Any], Any]) -> None:
        given = tuple(labels.items())
        key = self._keys.get(given) or self._keys.setdefault(given, _key(labels))
        # Labels come from models and files, too: a flood of them must not become a flood of series.
        if key not in self.series and len(self.series) >= MOST_SERIES:
            self._keys.pop(given)
            key = tuple((name, "(others)") for name, _ in key)
        self.series[key] = change(self.series.get(key))


def _key(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted((name, redact.redact(str(value))[:200]) for name, value in labels.items()))


Families = dict[str, Family]

DECLARED = (
    ("agent_runs_total", "counter", "Runs that ended, by exit status."),
    ("agent_runs_unfinished", "gauge", "Runs that go on somewhere, wait for a person, or were cut off."),
    ("agent_run_duration_seconds", "histogram", "From the start of a run to its end."),
    ("agent_sessions_total", "counter", "Runs that were begun."),
    ("agent_steps_total", "counter", "Turns of a model."),
    ("agent_step_latency_seconds", "histogram", "A turn of a model with the calls it led to."),
    ("agent_inferences_total", "counter", "Replies of models."),
    ("agent_inference_latency_seconds", "histogram", "Time of model calls with their retries, without replies from the cache."),
    ("agent_tokens_total", "counter", "Tokens as the services reported them."),
    ("agent_unreported_calls_total", "counter", "Replies whose tokens were not reported."),
    ("agent_cost_usd_total", "counter", "What was paid, as far as prices are known."),
    ("agent_unpriced_calls_total", "counter", "Replies whose price is not known."),
    ("agent_tool_calls_total", "counter", "Calls of tools."),
    ("agent_tool_duration_seconds", "histogram", "Time of tool calls."),
    ("agent_peer_calls_total", "counter", "Calls of other agents."),
    ("agent_errors_total", "counter", "What failed: attempts of model calls, tool calls, calls of agents, runs."),
    ("agent_retries_total", "counter", "Model calls that were tried again."),
    ("agent_questions_total", "counter", "Questions to a person."),
    ("agent_memory_entries", "gauge", "Items of memory."),
    ("agent_memory_evictions_total", "counter", "Items of memory that made room for others."),
    ("consolidation_runs_total", "counter", "Upkeeps of memory that consolidated something."),
    ("memories_consolidated_total", "counter", "Items of memory that went into summaries."),
    ("agent_peak_memory_bytes", "gauge", "The most memory that the process of a run had, as the system counts it."),
    ("agent_session_start_seconds", "gauge", "When the first of the runs began, seconds since 1970."),
)  # fmt: skip


def declared() -> Families:
    """Return all families that are always there, empty."""
    return {name: Family(name, kind, text, LATENCIES if kind == "histogram" else ()) for name, kind, text in DECLARED}


@dataclass(slots=True)
class _Measure:
    """What is known between events: whose run it is, when it began and ended, and the steps that are still open."""

    agents: Mapping[str, str]
    found: Families = field(default_factory=declared)
    began: dict[str, float] = field(default_factory=dict)
    ended: dict[str, Event] = field(default_factory=dict)
    steps: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    told: set[tuple[str, str]] = field(default_factory=set)

    def agent(self, event: Event) -> str:
        return self.agents.get(event.run, "")

    def close_steps(self) -> None:
        for (run, _), (start, end) in self.steps.items():
            self.found["agent_step_latency_seconds"].observe(max(0.0, end - start), agent=self.agents.get(run, ""))

    def close_runs(self) -> None:
        for run in self.began:
            agent, end = self.agents.get(run, ""), self.ended.get(run)
            if end is None:
                self.found["agent_runs_unfinished"].inc(agent=agent)
                continue
            status = end.data.get("status")
            self.found["agent_runs_total"].inc(agent=agent, status=str(status))
            if status not in GOOD:
                self.found["agent_errors_total"].inc(agent=agent, kind="run")
            self.found["agent_run_duration_seconds"].observe(max(0.0, end.time - self.began[run]), agent=agent)


def measure(events: Iterable[Event], agents: Mapping[str, str], memory: Mapping[str, int] | None = None) -> Families:
    """Return the families that the events make. `agents`: whose run it is; `memory`: how many items there are of each kind."""
    work = _Measure(agents)
    for event in events:
        if not event.data.get("inherited"):
            counter = _COUNT.get(event.kind)
            if counter is not None:
                counter(work, event)
    work.close_steps()
    work.close_runs()
    for kind, count in (memory or {}).items():
        work.found["agent_memory_entries"].set(count, kind=kind)
    return work.found


def _began(work: _Measure, event: Event) -> None:
    agent = work.agent(event)
    work.ended.pop(event.run, None)
    if event.run not in work.began:
        work.began[event.run] = event.time
        work.found["agent_sessions_total"].inc(agent=agent)
        first = work.found["agent_session_start_seconds"]
        first.set(min(event.time, first.get(agent=agent) or event.time), agent=agent)


def _ended(work: _Measure, event: Event) -> None:
    work.ended[event.run] = event
    kib = event.data.get("peak_memory_kb")
    if isinstance(kib, int):
        peak = work.found["agent_peak_memory_bytes"]
        peak.set(max(kib * 1024, peak.get(agent=work.agent(event)) or 0), agent=work.agent(event))


def _replied(work: _Measure, event: Event) -> None:
    from agent_core.readings import cost_of

    found, agent, data = work.found, work.agent(event), event.data
    cached, wall = bool(data.get("cached")), _seconds(data.get("wall_ms"))
    place = {"agent": agent, "provider": str(data.get("provider") or ""), "model": str(data.get("model") or "")}
    found["agent_inferences_total"].inc(**place, cached=str(cached).lower())
    found["agent_steps_total"].inc(agent=agent)
    if wall is not None and not cached:
        found["agent_inference_latency_seconds"].observe(wall, agent=agent)
    work.steps[event.run, _following(event.path)] = [event.time - (wall or 0.0), event.time]
    _tokens(found, place, data)
    cost = cost_of(data)
    if cost is None:
        found["agent_unpriced_calls_total"].inc(**place)
    else:
        found["agent_cost_usd_total"].inc(Decimal(money.text(cost)), **place)


def _tokens(found: Families, place: Mapping[str, str], data: Mapping[str, Any]) -> None:
    used = data.get("usage") or {}
    if used.get("input_tokens") is None or used.get("output_tokens") is None:
        found["agent_unreported_calls_total"].inc(**place)
    names = {"input": "input_tokens", "output": "output_tokens", "cached_input": "cached_input_tokens"}
    for direction, name in names.items():
        if isinstance(used.get(name), int):
            found["agent_tokens_total"].inc(used[name], **place, direction=direction)


def _attempted(work: _Measure, event: Event) -> None:
    work.found["agent_errors_total"].inc(agent=work.agent(event), kind="model")
    if event.data.get("retry_in") is not None:
        work.found["agent_retries_total"].inc(agent=work.agent(event))


def _tool(work: _Measure, event: Event) -> None:
    found, agent, data = work.found, work.agent(event), event.data
    tool, error, wall = str(data.get("name") or ""), data.get("error"), _seconds(data.get("wall_ms"))
    outcome = "ok" if error is None else "denied" if error == "denied" else "error"
    found["agent_tool_calls_total"].inc(agent=agent, tool=tool, outcome=outcome)
    if error is not None:
        found["agent_errors_total"].inc(agent=agent, kind="tool")
    if wall is not None:
        found["agent_tool_duration_seconds"].observe(wall, agent=agent, tool=tool)
    step = work.steps.get((event.run, event.path.rpartition(".")[0]))
    if step is not None:
        step[1] = max(step[1], event.time)


def _peer(work: _Measure, event: Event) -> None:
    failed = event.kind == "call.failed"
    peer = str(event.data.get("agent") or "")
    work.found["agent_peer_calls_total"].inc(agent=work.agent(event), peer=peer, outcome="error" if failed else "ok")
    if failed:
        work.found["agent_errors_total"].inc(agent=work.agent(event), kind="peer")


def _asked(work: _Measure, event: Event) -> None:
    work.found["agent_questions_total"].inc(agent=work.agent(event))


def _evicted(work: _Measure, event: Event) -> None:
    items = event.data.get("items")
    work.found["agent_memory_evictions_total"].inc(len(items) if isinstance(items, list) else 1)


def _upkeep(work: _Measure, event: Event) -> None:
    counts = event.data.get("counts")
    number = counts.get("consolidate") if isinstance(counts, dict) else None
    if isinstance(number, int) and number > 0:
        work.found["consolidation_runs_total"].inc()
        work.found["memories_consolidated_total"].inc(number)


def _custom(work: _Measure, event: Event) -> None:
    """Count what a pattern or tool measured itself. What is no number, or contradicts an earlier one of that name, is left out."""
    data = event.data
    if event.path and (event.run, event.path) in work.told:
        return  # a resumed run tells its notes again
    work.told.add((event.run, event.path))
    value, labels = data.get("value", 1), data.get("labels")
    kind = str(data.get("type") or "counter")
    name = custom_name(str(data.get("name") or ""), kind)
    if not _is_number(value) or kind not in {"counter", "gauge", "histogram"} or (kind == "counter" and value < 0):
        return
    bounds = _bounds(data.get("bounds")) if kind == "histogram" else ()
    text = " ".join(str(data.get("help") or "Declared by an event.").split())
    family = work.found.setdefault(name, Family(name, kind, text, bounds))
    if family.kind != kind or name in OWN:
        return
    given = {_NAME.sub("_", str(key)): str(each) for key, each in labels.items()} if isinstance(labels, dict) else {}
    ways: dict[str, Callable[..., None]] = {"counter": family.inc, "gauge": family.set, "histogram": family.observe}
    ways[kind](value, **{"agent": work.agent(event), **given})


def custom_name(name: str, kind: str) -> str:
    """Return a name as Prometheus has them: letters, digits and `_`; counters end with `_total`, nothing else does."""
    plain = _NAME.sub("_", name)[:100].removesuffix("_total") or "unnamed"
    plain = f"_{plain}" if plain[0].isdigit() else plain
    return f"{plain}_total" if kind == "counter" else plain


def _bounds(given: Any) -> tuple[float, ...]:
    good = isinstance(given, list) and 0 < len(given) < 100 and all(_is_number(each) for each in given)
    return tuple(sorted({float(each) for each in given})) if good else LATENCIES


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _seconds(wall: Any) -> float | None:
    return max(0.0, float(wall)) / 1000 if _is_number(wall) else None


def _following(path: str) -> str:
    """Return the next position on the same level: where the calls of a model's reply are run."""
    head, _, last = path.rpartition(".")
    following = str(int(last) + 1) if last.isdecimal() else last
    return f"{head}.{following}" if head else following


OWN = frozenset(name for name, _, _ in DECLARED)
_COUNT: dict[str, Callable[[_Measure, Event], None]] = {
    "run.started": _began, "run.finished": _ended, "model.replied": _replied, "model.failed": _attempted, "tool.finished": _tool,
    "call.finished": _peer, "call.failed": _peer, "wait.asked": _asked, "memory.evicted": _evicted, "memory.upkeep": _upkeep,
    "metric": _custom,
}  # fmt: skip
KINDS = tuple(_COUNT)
