"""running - one run from its preparation to its result: journal, events, totals. What it is given comes from `fittings`.

A session writes events as they come: outcomes and effects at once, what only explains them (a read-only tool that started) with
the next outcome, so one step costs one commit. A store that cannot be written costs a notice, never the answer.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent_core import agent as agents
from agent_core import fittings, lineage, messages, money, plugins, redact, taint
from agent_core.agent import Job, RunResult, Sink
from agent_core.effects import Act, Pattern
from agent_core.errors import (
    AgentError,
    Cancelled,
    DeadlineError,
    DeniedError,
    Failed,
    Interrupt,
    LimitError,
    StoreError,
    UsageError,
    WaitingError,
)
from agent_core.events import ASIDE, OUTCOMES, TRANSIENT, Event
from agent_core.interpreter import interpret
from agent_core.journal import error_to_json
from agent_core.messages import ToolCall, ToolResult
from agent_core.run import Run
from agent_core.task import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from agent_core.agent import Agent
    from agent_core.ops import Program
    from agent_core.plugins import Plugins
    from agent_core.provider import Provider
    from agent_core.store import Store
    from agent_core.task import Task
    from agent_core.tool import Tool

STORE_FILE = "agents.db"
KEPT_SETTINGS = ("temperature", "max_tokens", "system", "persona", "pattern", "protocol", "max_steps", "output_schema")
_stores: dict[Path, Store] = {}
_open: set[Session] = set()
_MANY = 64
_MANY_THRESHOLD = 50_000
_pace: list[tuple[int, int, int]] = []
_FOLLOWS_DENIAL = frozenset({4, 76, 77, 78})
# What began is written before it is waited for: `agent-log status` shows at what a run that hangs is.
_AT_ONCE = OUTCOMES | {"run.started", "run.finished", "call.started", "step.started"}


def store_path(settings: Any) -> Path:
    """Return where the runs of these settings are kept."""
    from pathlib import Path

    return Path(settings.data_dir) / STORE_FILE


def opened(path: Path) -> Store:
    """Return this process's store at a path; it stays open (closing would checkpoint after every run)."""
    found = _stores.get(path)
    if found is None:
        from agent_core.store import open_store

        found = _stores[path] = open_store(path)
    return found


@contextmanager
def session(
    agent: Agent, job: Job, settings: Any, sinks: Sequence[Sink] = (), *, providers: Any = None, store: Any = True
) -> Iterator[Session]:
    """Yield a prepared session; a failure while preparing is its result."""
    made = Session(agent, job, settings, sinks)
    _opening(made)
    try:
        try:
            made.prepare(providers, store)
        except AgentError as error:
            made.finish(None, error)
        yield made
    finally:
        _closing(made)


def _opening(made: Session) -> None:
    """Count the open runs; from 64 on collect garbage more rarely: looking through what a thousand runs hold is a fifth of them."""
    _open.add(made)
    if len(_open) == _MANY and not _pace:
        import gc

        first, second, third = gc.get_threshold()
        if 0 < first < _MANY_THRESHOLD:
            _pace.append((first, second, third))
            gc.set_threshold(_MANY_THRESHOLD, second, third)


def _closing(made: Session) -> None:
    _open.discard(made)
    if not _open and _pace:
        import gc

        gc.set_threshold(*_pace.pop())


class Session:
    """One run in the making. `settle` drives it and leaves `result`."""

    def __init__(self, agent: Agent, job: Job, settings: Any, sinks: Sequence[Sink]) -> None:
        """Keep what the run is made of."""
        self.agent, self.job, self.settings, self.sinks = agent, job, settings, tuple(sinks)
        self.result = RunResult(70, "error")
        self.run: Run | None = None
        self._store: Store | None = None
        self._waiting: list[Event] = []
        self._began = time.monotonic()
        self._ended = False
        self._read = False
        self._record: Mapping[str, Any] = {}
        self._kept: Event | None = None
        self._added: tuple[Tool, ...] = ()
        self._calls: dict[str, dict[str, Any]] = {}

    # -- before

    def prepare(self, providers: Any, store: Any) -> None:
        """Open the journal, load what a resumed run recorded, choose providers, and tell that the run started."""
        fittings.check_depth(self.settings.environment)
        run_id = self._open(store)
        settings = self.settings
        deadline = None if settings.timeout is None else self._began + settings.timeout
        live = not self.job.replay
        chosen: tuple[Provider, ...] = ()
        said: list[str] = []  # told once a model is asked: a usage error of the pattern comes first
        added = plugins.of(settings)
        if live:
            self._plug_in(added)
            self._check_tools(run_id)
            chosen = tuple(fittings.route(self.agent, settings, said.append) if providers is None else providers)
        self.job = replace(self.job, message=messages.cleaned(self.job.message, redact.known))
        recorded = self._recorded(run_id)
        started = self._started_calls(run_id, recorded) if recorded or self.job.resume else frozenset()
        policy = fittings.make_policy(settings)
        self.run = Run(
            run_id, chosen, self.agent.tools,
            decide=fittings.decider(policy, settings),
            context=fittings.contexts(policy, settings, self._charge),
            guards=fittings.make_guards(self.agent, settings, deadline, self._store),
            clock=time.monotonic, now=time.time, deadline=deadline, call_timeout=settings.call_timeout,
            temperature=settings.temperature, max_tokens=settings.max_tokens, protocol=settings.protocol,
            on_delta=self._delta if settings.stream else None,
            resolve=fittings.resolver(settings), find=fittings.finder(settings), ask_person=fittings.asker(settings),
            gained=fittings.labels(policy, settings), settings=settings,
            traceparent=self.job.traceparent, depth=fittings.depth_of(settings.environment),
            recorded=recorded, started=started, live=live, notices={chosen[0].name: said[0]} if said else {},
        )  # fmt: skip
        self._charge(self.job.charged)
        self.run.totals.seen |= taint.of_sources(self.job.provenance)
        self.run.totals.seen |= taint.inherited(settings.environment.get("AGENT_TAINT", ""))
        if live and (self.sinks or self._is_kept):
            self.tell(Event("run.started", run_id, "", time.time(), self._start_data(chosen)))

    def _charge(self, cost: int) -> None:
        """Count money that a plugin spent for the run (in a run of its own, which has the tokens) against its budgets."""
        if self.run is None or not cost:
            return
        from agent_core.ledger import SharedBudget

        for guard in self.run.guards:
            if isinstance(guard, SharedBudget):
                guard.charge(cost, own=True)

    def _plug_in(self, added: Plugins) -> None:
        """Give the run the tools, the readers and the material of its plugins."""
        if added.manager is None:
            return
        self.agent = plugins.equip(self.agent, self.settings)
        self._added = self.agent.added
        readers = added.readers(self.agent, self.settings, self._store)
        self._read = bool(readers)
        self.sinks = (*self.sinks, *readers)
        if not self.job.resume:
            self.job = added.prepared(self.agent, self.job, self.settings, self._store)

    def _check_tools(self, run_id: str) -> None:
        """A resumed run needs the tools that plugins had added: without them its requests would be others."""
        missing = [row["name"] for row in self._record.get("tools", ()) if self.agent.tools.get(row["name"]) is None]
        if missing:
            again = " and ".join(self._record.get("flags", ())) or "the flags that brought them"
            what = ", ".join(missing[:3]) + (", …" if missing[3:] else "")
            raise UsageError(f"run {run_id} had tools that are not here now: {what}", hint=f"give {again} again")

    def _recorded(self, run_id: str) -> dict[str, Event]:
        """Return what a replay or a resumed run is fed; what failed is tried again by a resumed one."""
        if self._store is None or not (self.job.resume or self.job.replay):
            return {}
        events = self._store.recorded(run_id)
        return events if self.job.replay else {path: event for path, event in events.items() if event.kind != "effect.failed"}

    def _open(self, store: Any) -> str:
        """Return the run's id; open the store, which only a resumed or replayed run needs to have."""
        from agent_core.ids import RANDOM_BYTES, new_run_id

        if store is True:
            self._store = opened(store_path(self.settings))
        else:
            self._store = store or None
        wanted = self.job.resume or self.job.replay
        if not wanted:
            return new_run_id(time.time(), os.urandom(RANDOM_BYTES))
        if self._store is None:
            raise StoreError("there is no store to resume from")
        return self._load(self._store, wanted)

    def _load(self, store: Store, wanted: str) -> str:
        """Take message, history and settings of a recorded run."""
        found = store.run(wanted, self.agent.name if wanted == "last" else None)
        events = store.events(found.id)
        start = next((event for event in events if event.kind == "run.started"), None)
        if start is None:
            raise StoreError(f"run {found.id} has no beginning", hint="it cannot be resumed")
        if start.data["agent"] != self.agent.name:
            raise UsageError(
                f"run {found.id} is one of {start.data['agent']}", hint=f"use {start.data['agent']} --resume {found.id}"
            )
        self._record = start.data
        ends = [event for event in events if event.kind == "run.finished"]
        self._kept = ends[-1] if ends else None
        history = tuple(messages.from_json(each) for each in start.data.get("history", ()))
        self.job = replace(
            self.job, message=messages.from_json(start.data["input"]), history=history, session=start.data.get("session") or "",
            provenance=tuple(start.data.get("provenance", ())),
        )  # fmt: skip
        kept = {name: value for name, value in start.data.get("settings", {}).items() if name in KEPT_SETTINGS}
        extra = {name: tuple(value) if isinstance(value, list) else value for name, value in start.data.get("extra", {}).items()}
        self.settings = replace(self.settings, **kept, extra={**self.settings.extra, **extra})
        if self.job.replay:
            self._with_recorded_tools(start.data.get("tools", ()))
        name, arguments = start.data.get("command") or ("", {})
        self.job = replace(self.job, command=(name, arguments))
        if self.job.resume and not self.settings.script and start.data.get("script"):
            self.settings = replace(self.settings, script=start.data["script"])
        if self.job.resume and not self.settings.provider:
            self.settings = replace(
                self.settings, provider=start.data.get("route") or "", model=self.settings.model or start.data.get("model") or ""
            )
        return found.id

    def _with_recorded_tools(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Give a replay the tools that plugins had added, as a model saw them: they are part of each request, and never called."""
        from agent_core.tool import Toolset, external

        missing = [row for row in rows if self.agent.tools.get(row["name"]) is None]
        if missing:
            import copy

            added = (external(row["name"], row["description"], row["parameters"], _not_replayed) for row in missing)
            self.agent = copy.copy(self.agent)
            self.agent.tools = Toolset((*self.agent.tools.tools, *added))

    def _started_calls(self, run_id: str, recorded: Mapping[str, Event]) -> frozenset[str]:
        """Return where a call with effects began and no outcome was recorded: it may or may not have happened."""
        if self._store is None:
            return frozenset()
        begun = {event.path for event in self._store.events(run_id) if event.kind == "tool.started" and event.data.get("effects")}
        return frozenset(begun - set(recorded))

    def _start_data(self, chosen: Sequence[Provider]) -> dict[str, Any]:
        settings = self.settings
        shown = {name: getattr(settings, name) for name in KEPT_SETTINGS}
        return {
            "agent": self.agent.name, "version": self.agent.version, "input": messages.to_json(self.job.message),
            "history": [messages.to_json(each) for each in self.job.history], "session": self.job.session,
            "provider": chosen[0].name if chosen else "", "model": chosen[0].model if chosen else "", "route": settings.provider,
            "settings": _clean(shown), "provenance": list(self.job.provenance), "traceparent": self.job.traceparent,
            "resumed": bool(self.job.resume), "script": settings.script, "cwd": settings.workspace, "source": self.agent.source,
            "lineage": lineage.facts(settings.environment) if self._is_kept else {}, **_clean(self._chosen()),
        }  # fmt: skip

    @property
    def _is_kept(self) -> bool:
        """Whether a journal or a plugin keeps the run: only then it is worth finding out about the process."""
        return self._store is not None or self._read

    def _chosen(self) -> dict[str, Any]:
        """Return the command, its arguments and the flags of agent and pattern, as far as there are any."""
        from agent_core.options import GENERAL
        from agent_core.tool import jsonable

        mine = {name: value for name, value in self.settings.extra.items() if name not in GENERAL}
        extra = {name: value for name, value in jsonable(mine).items() if value not in (None, "", []) and value is not False}
        name, arguments = self.job.command
        added = [{"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)} for tool in self._added]
        flags = plugins.flags(self.settings) if added else []
        chosen = {"tools": added, "flags": flags, "extra": extra, "command": [name, jsonable(dict(arguments))] if name else []}
        return {key: value for key, value in chosen.items() if value}

    # -- during

    @property
    def deadline(self) -> float | None:
        """When the run must be over (time.monotonic); None: whenever."""
        return self.run.deadline if self.run is not None else None

    def program(self) -> Program:
        """Return the run as a program for a trampoline."""
        if self.run is None:
            raise Failed("the run was not prepared")
        task = self.agent.task(self.job, self.settings, self.run.tools)
        return interpret(self.agent.steps(task, self.settings, self.job), self.run)

    def tell(self, event: Event) -> None:
        """Journal an event, then hand it to the sinks."""
        self._note_call(event)
        if self._store is not None and not self.job.replay and event.kind not in TRANSIENT:
            self._waiting.append(event)
            if event.durable or event.kind in _AT_ONCE or event.data.get("effects"):
                self._flush()
        for sink in self.sinks:
            sink(event)

    def _note_call(self, event: Event) -> None:
        """Keep what each called agent answered, for a run that is cancelled. Calls within calls belong to the outer ones."""
        if event.kind not in ("call.started", "call.finished") or str(event.data.get("agent")).startswith(ASIDE):
            return
        if any(event.path.startswith(f"{outer}.") for outer in self._calls):
            return
        row = self._calls.setdefault(event.path, {"agent": event.data.get("agent"), "output": None})
        if event.kind == "call.finished":
            row["output"] = event.data.get("output")

    def _or_partial(self, structured: Any, error: AgentError | None) -> Any:
        """Return, for a run that was stopped, {partial, completion}: the finished answers of called agents, and their share."""
        done = [row for row in self._calls.values() if row["output"] is not None]
        if structured is not None or not done or not isinstance(error, (Cancelled, DeadlineError, LimitError)):
            return structured
        return {"partial": done, "completion": round(len(done) / len(self._calls), 4)}

    def _flush(self) -> None:
        if self._store is None:
            return
        batch, self._waiting = self._waiting, []
        try:
            self._store.append(*batch)
        except StoreError as error:
            self._store = None
            self._notice(f"the run is not recorded: {error.line()}")
            return
        notices, self._store.notices[:] = list(self._store.notices), []
        for text in notices:
            self._notice(text)

    def _delta(self, event: Event) -> None:
        for sink in self.sinks:
            sink(event)

    def _notice(self, text: str) -> None:
        event = Event("notice", self.run.id if self.run else "", "", time.time(), {"text": text})
        for sink in self.sinks:
            sink(event)

    # -- after

    def settle(self, work: Callable[[], Any]) -> None:
        """Do the work and keep what came of it."""
        if self._ended:
            return
        try:
            self.finish(work(), None)
        except AgentError as error:
            self.finish(None, error)
        except (KeyboardInterrupt, Interrupt) as stop:
            self.finish(None, _cancelled(getattr(stop, "status", 130), self.settings))
        except Exception as error:
            if self.settings.debug:
                raise
            self.finish(None, AgentError(f"internal error: {type(error).__name__}: {error}", hint="--debug shows where"))

    async def asettle(self, work: Callable[[], Awaitable[Any]]) -> None:
        """Do what `settle` does for a coroutine."""
        if self._ended:
            return
        box: list[Any] = []
        try:
            box.append(await work())
        except Exception as error:  # noqa: BLE001 - judged by settle
            box.append(error)
        self.settle(lambda: _unboxed(box[0]))

    def finish(self, value: Any, error: AgentError | None) -> None:
        """Make the result and tell that the run finished."""
        self._ended = True
        if isinstance(value, Answer) and value.status == 4:
            error = LimitError(value.problem or "not all of it was done", hint="--json shows what there is")
        error = self._parked(self._denied(error))
        text, structured = _answer(self.agent, value, self.settings)
        structured = self._or_partial(structured, error)
        totals = self.run.totals if self.run else None
        stop = _stop(error)
        status = 0 if error is None else error.status
        self.result = RunResult(
            status, stop, text, structured, totals.steps if totals else 0, self.run.id if self.run else "",
            totals.provider if totals else "", totals.model if totals else "", self._usage(), error,
            (*self.job.provenance, *self._gained()), time.time(),
        )  # fmt: skip
        if isinstance(value, Answer) and error is None and value.status == 3:
            self.result = replace(self.result, status=3)
        if error is not None and totals is not None and isinstance(error, LimitError):
            self.result = replace(self.result, output=text or totals.last)
        if error is None and self.agent.verdict is not None and not self.agent.verdict(self.result, self.settings):
            self.result = replace(self.result, status=3)
        if self.job.replay and self._kept is not None:
            self.result = self._as_recorded(self._kept)
        for denial in {str(each): each for each in totals.denials}.values() if totals is not None and error is None else ():
            self._notice(denial.line())
        if self.run is not None:
            self.tell(Event("run.finished", self.run.id, "", self.result.time, self._end_data()))
            self._flush()

    def _denied(self, error: AgentError | None) -> AgentError | None:
        """A run whose last tool call was denied did not do what was asked, whatever the model says of it."""
        denied = self.run.totals.denied if self.run else None
        follows = error is None or error.status in _FOLLOWS_DENIAL
        return denied if denied is not None and follows else error

    def _parked(self, error: AgentError | None) -> AgentError | None:
        """A run that is not recorded cannot wait for a person: nobody could resume it."""
        if isinstance(error, WaitingError) and self._store is None:
            return StoreError(f"not recorded, so nobody could resume it: {error}", hint="name another --data-dir")
        return error

    def _as_recorded(self, end: Event) -> RunResult:
        """Return the result with the moment and the bill of the recorded run; what was answered is this replay's own."""
        result = self.result
        if end.data.get("output") != result.output or end.data.get("status") != result.status:
            return result
        return replace(
            result,
            time=end.time,
            traceparent=self._record.get("traceparent", ""),
            usage=end.data["usage"],
            provider=end.data["provider"],
            model=end.data["model"],
            provenance=(*self.job.provenance, *end.data.get("gained", ())),
        )

    def _gained(self) -> tuple[dict[str, Any], ...]:
        """Return the labels that the run got beyond what it began with, as provenance: they travel with its answer."""
        more = self.run.totals.seen - taint.of_sources(self.job.provenance) if self.run is not None else ()
        return (taint.row(f"run:{self.run.id}", more),) if more and self.run is not None else ()

    def _usage(self) -> dict[str, Any]:
        totals = self.run.totals if self.run else None
        wall = round((time.monotonic() - self._began) * 1000)
        if totals is None:
            return {
                "input_tokens": 0,
                "cached_input_tokens": 0,
                "output_tokens": 0,
                "calls": 0,
                "cost_usd": "0",
                "cost_basis": "",
                "wall_ms": wall,
            }
        return {
            "input_tokens": totals.input_tokens if totals.counted else None, "cached_input_tokens": totals.cached_input_tokens,
            "output_tokens": totals.output_tokens if totals.counted else None, "calls": totals.calls,
            "cost_usd": None if totals.cost is None else money.text(totals.cost), "cost_basis": totals.basis, "wall_ms": wall,
        }  # fmt: skip

    def _end_data(self) -> dict[str, Any]:
        result = self.result
        return {
            "agent": self.agent.name, "status": result.status, "stop": result.stop, "output": result.output,
            "structured": result.structured, "steps": result.steps, "usage": dict(result.usage), "provider": result.provider,
            "model": result.model, "session": self.job.session,
            "error": None if result.error is None else error_to_json(result.error),
            "peak_memory_kb": _peak_memory() if self._is_kept else 0,
            **({"gained": list(gained)} if (gained := self._gained()) else {}),
        }  # fmt: skip


def _peak_memory() -> int:
    """Return the most memory (KiB) that this process ever held, as the system counts it."""
    import resource
    import sys

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // 1024 if sys.platform == "darwin" else most  # bytes there, KiB elsewhere


def _not_replayed() -> None:
    raise Failed("a replay calls no tool")


def _clean(value: Any) -> Any:
    """Return plain data without the secrets that this process knows."""
    if isinstance(value, str):
        return redact.known(value)
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list | tuple) else value


def _unboxed(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value


def _cancelled(status: int, settings: Any) -> Cancelled:
    """Return the error of an interrupted run; its cause is who wanted it: the agent that called this one (parent), or a user."""
    error = Cancelled("interrupted", cause="parent" if status == 143 and fittings.depth_of(settings.environment) else "user")
    error.status = status
    return error


def _stop(error: AgentError | None) -> str:
    match error:
        case None:
            return "final"
        case LimitError():
            return error.stop
        case DeniedError():
            return "denied"
        case WaitingError():
            return "waiting"
        case Cancelled():
            return "cancelled"
    return "timeout" if error.status == 124 else "error"


def _answer(agent: Agent, value: Any, settings: Any) -> tuple[str, Any]:
    """Return (text, structured value) of what the pattern returned."""
    from agent_core.tool import render

    if value is None:
        return "", None
    if isinstance(value, ToolResult):
        return value.text, value.value
    if isinstance(value, Answer):
        return value.text, value.value
    if hasattr(value, "value") and hasattr(value, "text"):
        shown = agent.render(value.value) if agent.render is not None and not settings.output_schema else render(value.value)[0]
        return shown, value.value
    return value if isinstance(value, str) else render(value)[0], None


def tool_agent(agent: Agent, name: str, arguments: dict[str, Any]) -> Agent:
    """Return an agent that makes one call of one tool and answers with its result."""
    tool = agent.tools.get(name)
    if tool is None:
        near = agent.tools.nearest(name) or [each.name for each in agent.tools.tools]
        raise UsageError(f'no tool "{name}"', hint=f"there is {', '.join(near)}" if near else "this agent has no tools")

    def one_call(_task: Task) -> Pattern:
        answers = yield Act((ToolCall("call_1", name, arguments),))
        result = answers[0].parts[0]
        if result.error is None:
            return result
        if result.error == "invalid":
            raise UsageError(f"{name}: {result.text}", hint=f"see {agent.name} --list-tools")
        raise DeniedError(result.text.removeprefix("denied: ")) if result.error == "denied" else Failed(f"{name}: {result.text}")

    return agents.Agent(agent.doc, tools=agent.tools, name=agent.name, version=agent.version, pattern=one_call)  # type: ignore[arg-type]
