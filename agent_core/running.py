"""running - one run from its preparation to its result: providers, journal, guards, totals.

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
from agent_core import guards, lineage, messages, money, redact, taint
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
from agent_core.events import OUTCOMES, TRANSIENT, Event
from agent_core.interpreter import interpret
from agent_core.journal import error_to_json
from agent_core.messages import ToolCall, ToolResult
from agent_core.run import Consent, Decide, Run
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
_AT_ONCE = OUTCOMES | {"run.started", "run.finished"}


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
        check_depth(self.settings.environment)
        run_id = self._open(store)
        clock = time.monotonic
        deadline = None if self.settings.timeout is None else self._began + self.settings.timeout
        live = not self.job.replay
        chosen: tuple[Provider, ...] = ()
        added = _plugins(self.settings)
        if live:
            self._plug_in(added)
            chosen = tuple(route(self.agent, self.settings, self._notice) if providers is None else providers)
        self.job = replace(self.job, message=messages.cleaned(self.job.message, redact.known))
        recorded = self._recorded(run_id)
        started = self._started_calls(run_id, recorded) if recorded or self.job.resume else frozenset()
        policy = make_policy(self.settings)
        self.run = Run(
            run_id, chosen, self.agent.tools, _decider(policy, self.settings), _contexts(policy, self.settings),
            make_guards(self.settings, deadline, self._store, added), clock, time.time, deadline, self.settings.call_timeout,
            temperature=self.settings.temperature, max_tokens=self.settings.max_tokens, protocol=self.settings.protocol,
            on_delta=self._delta if self.settings.stream else None, recorded=recorded, started=started, live=live,
            resolve=_resolver(self.settings), find=_finder(self.settings), ask_person=_asker(self.settings), settings=self.settings,
            traceparent=self.job.traceparent, depth=depth_of(self.settings.environment), gained=_labels(policy, self.settings),
        )  # fmt: skip
        self.run.totals.seen |= taint.of_sources(self.job.provenance)
        self.run.totals.seen |= taint.inherited(self.settings.environment.get("AGENT_TAINT", ""))
        if live and (self.sinks or self._is_kept):
            self.tell(Event("run.started", run_id, "", time.time(), self._start_data(chosen)))

    def _plug_in(self, added: Plugins) -> None:
        """Give the run the tools, the readers and the material of its plugins."""
        if added.manager is None:
            return
        from agent_core import plugins

        own = self.agent.tools
        self.agent = plugins.equip(self.agent, self.settings)
        self._added = tuple(tool for tool in self.agent.tools if own.get(tool.name) is None)
        readers = added.readers(self.agent, self.settings, self._store)
        self._read = bool(readers)
        self.sinks = (*self.sinks, *readers)
        if not self.job.resume:
            self.job = added.prepared(self.agent, self.job, self.settings, self._store)

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
        chosen = {"tools": added, "extra": extra, "command": [name, jsonable(dict(arguments))] if name else []}
        return {key: value for key, value in chosen.items() if value}

    # -- during

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
        if event.kind not in ("call.started", "call.finished"):
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
            self.finish(None, _cancelled(getattr(stop, "status", 130)))
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
        error = self._denied(error)
        text, structured = _answer(self.agent, value, self.settings)
        structured = self._or_partial(structured, error)
        totals = self.run.totals if self.run else None
        stop = _stop(error)
        status = 0 if error is None else error.status
        self.result = RunResult(
            status, stop, text, structured, totals.steps if totals else 0, self.run.id if self.run else "",
            totals.provider if totals else "", totals.model if totals else "", self._usage(), error,
            tuple(self.job.provenance), time.time(),
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
        )

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


def _cancelled(status: int) -> Cancelled:
    error = Cancelled("interrupted")
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


# --- parts of a run ------------------------------------------------------------------------------------------------


def route(agent: Agent, settings: Any, notice: Callable[[str], None]) -> list[Provider]:
    """Return the providers to ask, in order; with none chosen the first one that is there (wire.md §3)."""
    from agent_core import choose

    names, said = choose.route(settings)
    if said:
        notice(said)
    found = [choose.resolve(name, settings) for name in names]
    return [_with_offline(agent, each) if each.name == "offline" and agent.offline is not None else each for each in found]


def _with_offline(agent: Agent, provider: Provider) -> Provider:
    """Let the agent's own model-free function answer first."""
    plain = provider.answer

    def answer(ask: Any) -> Any:
        import json

        from agent_core.provider import Reply
        from agent_core.task import split

        asked = next((message.text for message in reversed(ask.messages) if message.role == "user"), "")
        value = agent.offline(*split(asked)) if agent.offline is not None else None
        if value is None:
            return plain(ask) if plain is not None else None
        return Reply(messages.assistant(json.dumps(value, ensure_ascii=False)), model=provider.model)

    return replace(provider, answer=answer)


def _resolver(settings: Any) -> Callable[[str, str], tuple[Provider, ...]]:
    """Return what finds another provider or model than the run's; each is looked up once."""
    from functools import cache

    from agent_core import choose

    @cache
    def resolve(provider: str, model: str) -> tuple[Provider, ...]:
        names = [provider] if provider else choose.route(settings)[0]
        return tuple(choose.resolve(name, replace(settings, model=model or settings.model)) for name in names)

    return resolve


def _finder(settings: Any) -> Callable[[str], Any]:
    def find(name: str) -> Any:
        from agent_core import peers

        return peers.find(name, settings)

    return find


def _asker(settings: Any) -> Callable[..., str | None]:
    """Return what asks a person on the terminal; its answer is None where there is none, or where nobody is to be asked."""

    def ask(question: str, *, strict: bool = False) -> str | None:
        from agent_core import waiting

        return waiting.ask(question, strict=strict) if settings.ask == "tty" and not settings.quiet else None

    return ask


def check_depth(environment: Mapping[str, str]) -> None:
    """Refuse to begin in a process that was called too deeply."""
    if environment.get("AGENT_DEPTH"):
        from agent_core import peers

        peers.check_depth(environment)


def depth_of(environment: Mapping[str, str]) -> int:
    """Return how many agents called each other until this one."""
    text = environment.get("AGENT_DEPTH", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0


def make_policy(settings: Any) -> Any:
    """Return the policy that the grants make."""
    from agent_core.policy import Policy

    return Policy.of(settings.allow, settings.deny, yes=settings.yes, workspace=settings.workspace, confirm=settings.confirm)


def _decider(policy: Any, settings: Any) -> Decide:
    """Return the decision about a call: deny rules, then grants, then what the run has seen, then what is to be confirmed."""
    from agent_core import policy as deciding

    def decide(tool: Any, arguments: Mapping[str, Any], seen: set[str], consent: Consent) -> Any:
        if not (tool.needs or tool.destructive or tool.open_world):
            return None
        rules = policy.plus(consent.grants) if consent.grants else policy
        where = settings.workspace
        ways: tuple[Callable[[], Any], ...] = (
            lambda: deciding.decide(rules, tool, arguments, where),
            lambda: taint.refusal(frozenset(seen), tool, arguments, rules, where),
            lambda: deciding.confirmation(rules, tool, arguments, where),
        )
        found = (way() for way in ways)
        return next((each for each in found if each is not None and each.reason not in consent.reasons), None)

    return decide


def _labels(policy: Any, settings: Any) -> Callable[[Any, Mapping[str, Any]], frozenset[str]]:
    return lambda tool, arguments: taint.gained(tool, arguments, policy, settings.workspace)


def _contexts(policy: Any, settings: Any) -> Callable[[float | None, tuple[str, ...]], Any]:
    from agent_core.tool import Context

    return lambda deadline, grants: Context(
        policy=policy.plus(grants) if grants else policy, workspace=settings.workspace, deadline=deadline, settings=settings
    )


def _plugins(settings: Any) -> Plugins:
    from agent_core import plugins

    return plugins.of(settings)


def make_guards(settings: Any, deadline: float | None, store: Store | None, added: Plugins) -> tuple[guards.Guard, ...]:
    """Return the guards that the settings and the plugins ask for, in their one order."""
    chosen: list[guards.Guard] = [guards.Retries(settings.retry, deadline), *added.guards(settings, store)]
    if deadline is not None:
        chosen.append(guards.Deadline(deadline))
    if settings.budget is not None or settings.environment.get("AGENT_BUDGET_USD") or settings.environment.get("AGENT_BUDGET_ROW"):
        from agent_core import ledger

        chosen += filter(None, [ledger.guard(settings, store)])
    if settings.cache != "off" and store is not None:
        chosen.append(guards.Cache(Replies(store), settings.cache == "only"))
    return guards.chain(chosen)


class Replies:
    """The response cache: replies in the store's items, for a week."""

    _SECONDS = 7 * 24 * 3600.0

    def __init__(self, store: Store) -> None:
        """Keep the store."""
        self._store = store

    def get(self, key: str) -> Any:
        """Return the reply kept under `key`, or None (also when the store cannot be read)."""
        import json

        from agent_core.journal import reply_from_json

        try:
            kept = self._store.item_get("replies", key)
        except StoreError:
            return None
        return None if kept is None else reply_from_json(json.loads(kept))

    def put(self, key: str, reply: Any) -> None:
        """Keep a reply; a store that cannot be written keeps nothing."""
        import json

        from agent_core.journal import reply_to_json

        try:
            self._store.item_put("replies", key, json.dumps(reply_to_json(reply)), self._SECONDS)
        except StoreError:
            return
