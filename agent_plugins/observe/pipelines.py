"""pipelines - which runs were one pipeline: a plain-text shell pipe, a chain of records, or agents that called each other.

    for pipeline in around(store, "last"):
        print(pipeline.trace, [stage.agent for stage in pipeline.stages], pipeline.cost_usd)

Two runs are joined by the surest sign there is (`Stage.via`):

    pipe     the one's stdout is the other's stdin
    record   the one's record was the other's input
    peer     the one called the other, or both are of one trace
    group    other programs stand between: same process group, alive at the same time, both pipes made by a shell above them

Numbers of pipes and processes are used again after a while: boot, process start and the time of the runs must fit, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent_core import money
from agent_core.lineage import span_of, traceparent_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from agent_core.events import Event
    from agent_core.store import Store

TICK = 0.01
GAP = 3600.0
WINDOW = 24 * 3600.0
MOST = 1000


@dataclass(frozen=True, slots=True)
class Stage:
    """One agent in a pipeline. `cost_usd` is its own (without peers'), None if unknown; `runs` counts rows of one process.

    `via` says how it was joined to `after` (the run before it, or its caller): pipe, record, peer or group; "" for the first.
    """

    agent: str
    run_id: str
    status: int | None
    cost_usd: str | None
    via: str = ""
    after: str = ""
    started: float | None = None
    finished: float | None = None
    provider: str = ""
    model: str = ""
    calls: int = 0
    input_tokens: int | None = 0
    output_tokens: int | None = 0
    runs: int = 1


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Runs that belong together: their trace, the stages in order, and the sum of their costs (None if one is unknown)."""

    trace: str
    stages: tuple[Stage, ...]
    runs: frozenset[str] = frozenset()

    @property
    def cost_usd(self) -> str | None:
        """What all stages cost together, as a decimal string."""
        amounts = [stage.cost_usd for stage in self.stages]
        return None if None in amounts else money.text(sum(money.pico(amount) for amount in amounts if amount is not None))


@dataclass(slots=True)
class _Seen:
    """One start of a run in one process."""

    run: str
    agent: str
    facts: Mapping[str, Any]
    begun: float
    ended: float
    trace: str
    span: str
    inputs: tuple[str, ...]
    events: Sequence[Event] = field(repr=False)

    @property
    def process(self) -> tuple[Any, ...]:
        return tuple(str(self.facts.get(name)) for name in ("boot", "ns", "pid", "ticks"))

    @property
    def order(self) -> tuple[float, int, float]:
        return (self._number("start", self.begun), int(self._number("pid", 0)), self.begun)

    @property
    def start(self) -> float:
        return self._number("start", self.begun)

    def pipe(self, name: str) -> str:
        value = self.facts.get(name)
        return value if isinstance(value, str) else ""

    def above(self) -> list[tuple[Any, ...]]:
        """Return this process and those above it: (pid, ticks, stdin, stdout)."""
        rows = self.facts.get("above")
        own = (self.facts.get("pid"), self.facts.get("ticks"), self.pipe("stdin"), self.pipe("stdout"))
        return [own, *(tuple(row) for row in rows if isinstance(row, list) and len(row) == 4)] if isinstance(rows, list) else [own]

    def _number(self, name: str, default: float) -> float:
        value = self.facts.get(name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else default


@dataclass(frozen=True, slots=True)
class _Edge:
    """The stage at `source` comes before the one at `target` (both are places in a list)."""

    via: str
    source: int
    target: int


def around(store: Store, ref: str = "last") -> list[Pipeline]:
    """Return the pipelines of the day before and after a run, the run's own first, then the newest first.

    Raises:
        UsageError: there is no such run.
        StoreError: the store cannot be read.
    """
    wanted = store.run(ref)
    near = [run.id for run in store.runs(MOST) if abs(run.started - wanted.started) <= WINDOW]
    found = of_runs({run: store.events(run) for run in dict.fromkeys((wanted.id, *near))})
    return sorted(found, key=lambda each: wanted.id not in each.runs)


def of_runs(runs: Mapping[str, Sequence[Event]]) -> list[Pipeline]:
    """Return the pipelines that the events of these runs make, the newest first. Pure."""
    seen = [one for run, events in runs.items() for one in _sightings(run, events)]
    edges = list(_edges(seen))
    groups = _components(len(seen), [*edges, *_ties(seen)])
    made = [_pipeline([seen[place] for place in group], _within(group, edges)) for group in groups]
    return sorted(made, key=lambda each: -(each.stages[0].started or 0.0))


def _sightings(run: str, events: Sequence[Event]) -> Iterator[_Seen]:
    starts = [event for event in events if event.kind == "run.started"]
    for place, start in enumerate(starts):
        following = starts[place + 1].time if place + 1 < len(starts) else float("inf")
        ended = max((event.time for event in events if start.time <= event.time <= following), default=start.time)
        # A fork begins with a copy of its origin's start: process, pipes and trace in it are not its own.
        data = {"agent": start.data.get("agent")} if start.data.get("fork_at") is not None else start.data
        known = data.get("lineage")
        trace, span = span_of(traceparent_of(run, str(data.get("traceparent") or "")))
        yield _Seen(
            run, str(data.get("agent") or ""), known if isinstance(known, dict) else {}, start.time, ended, trace, span,
            tuple(_inputs(data)), events,
        )  # fmt: skip


def _inputs(data: Mapping[str, Any]) -> Iterator[str]:
    rows = data.get("provenance")
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("run_id"), str):
            yield row["run_id"]


def _edges(seen: Sequence[_Seen]) -> Iterator[_Edge]:
    piped = list(_by_pipe(seen))
    yield from piped
    yield from _by_record(seen)
    yield from _by_call(seen)
    fed, feeding = {edge.target for edge in piped}, {edge.source for edge in piped}
    yield from _by_group(seen, fed, feeding)


def _ties(seen: Sequence[_Seen]) -> Iterator[_Edge]:
    """Yield what belongs together without an order: starts of one run, and runs of one trace."""
    first: dict[str, int] = {}
    for place, one in enumerate(seen):
        for name in (f"run {one.run}", f"trace {one.trace}"):
            yield _Edge("", first.setdefault(name, place), place)


def _by_pipe(seen: Sequence[_Seen]) -> Iterator[_Edge]:
    readers: dict[str, list[int]] = {}
    for place, one in enumerate(seen):
        if ":" in one.pipe("stdin"):
            readers.setdefault(one.pipe("stdin"), []).append(place)
    for place, one in enumerate(seen):
        for reader in readers.get(one.pipe("stdout"), ()):
            other = seen[reader]
            same = one.facts.get("boot") == other.facts.get("boot") and one.process != other.process
            # An unnamed pipe is nobody's again for years, but its number is counted from zero at the next boot.
            gap = 0.0 if one.pipe("stdout").startswith("fifo") else GAP
            if same and other.start <= one.ended + gap and one.start <= other.ended + gap:
                yield _Edge("pipe", place, reader)


def _by_record(seen: Sequence[_Seen]) -> Iterator[_Edge]:
    last = {one.run: place for place, one in enumerate(seen)}
    for place, one in enumerate(seen):
        for run in one.inputs:
            if run in last and run != one.run:
                yield _Edge("record", last[run], place)


def _by_call(seen: Sequence[_Seen]) -> Iterator[_Edge]:
    callers = {one.span: place for place, one in enumerate(seen) if one.span}
    named = {_called(event): place for place, one in enumerate(seen) for event in one.events if _called(event)}
    for place, one in enumerate(seen):
        caller = callers.get(str(one.facts.get("parent") or ""), named.get(one.run))
        if caller is not None and seen[caller].run != one.run:
            yield _Edge("peer", caller, place)


def _called(event: Event) -> str:
    from agent_core.readings import facts_of

    return str(facts_of(event).get("run") or "")


def _by_group(seen: Sequence[_Seen], fed: set[int], feeding: set[int]) -> Iterator[_Edge]:
    """Yield, for each run that reads a pipe of some other program, the run that most likely stands before that program."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, one in enumerate(seen):
        if one.facts.get("pgid"):
            groups.setdefault(tuple(str(one.facts.get(name)) for name in ("boot", "ns", "sid", "pgid")), []).append(place)
    for places in groups.values():
        for target in places:
            if target in fed or not seen[target].pipe("stdin"):
                continue
            ranked = [(rank, source) for source in places if source not in feeding and (rank := _rank(seen[source], seen[target]))]
            if ranked:
                yield _Edge("group", max(ranked)[1], target)


def _rank(one: _Seen, other: _Seen) -> tuple[Any, ...] | None:
    """Return how well `one` fits as a stage before `other`, with programs between; None if it cannot be one.

    The shell that both have above them must have made the pipes by which the text leaves the one side and enters the other: what
    the shell itself was given as its stdin and stdout is no pipe of this pipeline. Of several the closest relative counts, then
    the one started last.
    """
    if not one.pipe("stdout") or one.process == other.process:
        return None
    if max(one.start, other.start) + TICK >= min(one.ended, other.ended):
        return None
    mine, its = one.above(), other.above()
    shared = next(((i, k) for k in range(1, len(its)) for i in range(1, len(mine)) if mine[i][:2] == its[k][:2]), None)
    if shared is None:
        alone = len(mine) == 1 or len(its) == 1
        return (0, 0, *one.order) if alone and one.order < other.order else None
    up, down = shared
    shell, before, after = its[down], mine[up - 1], its[down - 1]
    made_here = before[3] and before[3] != shell[3] and after[2] and after[2] != shell[2]
    return (-down, -up, *_age(before)) if made_here and _age(before) < _age(after) else None


def _age(row: Sequence[Any]) -> tuple[int, int]:
    process, ticks = (value if isinstance(value, int) else 0 for value in row[:2])
    return ticks, process


def _components(count: int, edges: Iterable[_Edge]) -> list[list[int]]:
    """Return the places that edges connect, as lists (a disjoint-set forest)."""
    root = list(range(count))

    def find(place: int) -> int:
        while root[place] != place:
            root[place] = root[root[place]]
            place = root[place]
        return place

    for edge in edges:
        root[find(edge.target)] = find(edge.source)
    groups: dict[int, list[int]] = {}
    for place in range(count):
        groups.setdefault(find(place), []).append(place)
    return list(groups.values())


def _within(group: Sequence[int], edges: Sequence[_Edge]) -> list[_Edge]:
    """Return the edges inside a group, with places in the group."""
    place = {number: index for index, number in enumerate(group)}
    return [replace(edge, source=place[edge.source], target=place[edge.target]) for edge in edges if edge.source in place]


# -- one pipeline ------------------------------------------------------------------------------------------------------------------


def _pipeline(seen: Sequence[_Seen], edges: Sequence[_Edge]) -> Pipeline:
    order = _sorted(seen, edges)
    before: dict[int, _Edge] = {}
    for edge in edges:
        # Of several signs the surest (yielded first) is shown; of several upstream records the last one is the stage before.
        known = before.get(edge.target)
        if known is None or (known.via == edge.via == "record"):
            before[edge.target] = edge
    inside = {one.run for one in seen}
    stages: list[Stage] = []
    for place in order:
        found = before.get(place)
        stages.append(_stage(seen[place], found.via if found else "", seen[found.source].run if found else ""))
        stages += _elsewhere(seen[place], inside)
    trace = next((seen[place].trace for place in order if seen[place].trace), "")
    return Pipeline(trace, tuple(_merged(stages, seen)), frozenset(inside))


def _sorted(seen: Sequence[_Seen], edges: Sequence[_Edge]) -> list[int]:
    """Return the places in pipe order: sources first, else by the start of their processes. A circle is cut at its earliest."""
    waiting = sorted(range(len(seen)), key=lambda place: seen[place].order)
    needs: dict[int, set[int]] = {place: set() for place in waiting}
    for edge in edges:
        needs[edge.target].add(edge.source)
    done: list[int] = []
    placed: set[int] = set()
    while waiting:
        ready = next((place for place in waiting if needs[place] <= placed), waiting[0])
        waiting.remove(ready)
        done.append(ready)
        placed.add(ready)
    return done


def _stage(one: _Seen, via: str, after: str) -> Stage:
    from agent_core import readings

    summary = readings.summary(one.events)
    used = summary.usage
    return Stage(
        one.agent, one.run, summary.status, used["cost_usd"], via, after, one.begun, summary.finished, summary.provider,
        summary.model, used["calls"], used["input_tokens"], used["output_tokens"],
    )  # fmt: skip


def _elsewhere(one: _Seen, inside: set[str]) -> Iterator[Stage]:
    """Yield the calls of agents whose runs are recorded somewhere else (another machine): their bill is in the caller's journal."""
    from agent_core.readings import facts_of

    for event in one.events:
        told = facts_of(event)
        used = told.get("usage")
        if isinstance(used, dict) and _called(event) not in inside:
            yield Stage(
                str(told.get("agent") or ""), _called(event), _count(told.get("status")), _amount(used.get("cost_usd")), "peer",
                one.run, None, event.time, calls=_count(used.get("calls")) or 0, input_tokens=_count(used.get("input_tokens")),
                output_tokens=_count(used.get("output_tokens")),
            )  # fmt: skip


def _amount(value: Any) -> str | None:
    try:
        return money.text(money.pico(value)) if isinstance(value, str) and len(value) < 40 else None
    except ValueError:
        return None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15 else None


def _merged(stages: Iterable[Stage], seen: Sequence[_Seen]) -> Iterator[Stage]:
    """Yield the stages, rows of one process as one stage, and several starts of one run (it was resumed) as one."""
    process = {one.run: one.process if one.facts else (one.run,) for one in seen}
    kept: dict[Any, Stage] = {}
    runs: set[str] = set()
    for place, stage in enumerate(stages):
        if stage.run_id in runs:
            continue
        runs |= {stage.run_id} - {""}
        key = (stage.agent, process.get(stage.run_id, place))
        kept[key] = _plus(kept[key], stage) if key in kept else stage
    yield from kept.values()


def _plus(one: Stage, more: Stage) -> Stage:
    known = (
        None if one.cost_usd is None or more.cost_usd is None else money.text(money.pico(one.cost_usd) + money.pico(more.cost_usd))
    )
    status = one.status if one.status == more.status else None if None in (one.status, more.status) else 4
    return replace(
        one, cost_usd=known, status=status, runs=one.runs + more.runs, calls=one.calls + more.calls,
        finished=None if one.finished is None or more.finished is None else max(one.finished, more.finished),
        input_tokens=_sum(one.input_tokens, more.input_tokens), output_tokens=_sum(one.output_tokens, more.output_tokens),
    )  # fmt: skip


def _sum(one: int | None, more: int | None) -> int | None:
    return None if one is None or more is None else one + more
