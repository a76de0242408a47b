"""agent-log - look at what agents did: list, show, follow and export runs; replay, resume and fork them.

    agent-log list [-n 20] [--agent NAME] [--session NAME]
    agent-log show RUN                  its steps: what was thought, called and answered
    agent-log follow RUN                the same while it happens, until the run ends
    agent-log export RUN                every event, one JSON object a line
    agent-log replay RUN                run it again without a network: the same bytes
    agent-log resume RUN                go on where it stopped; what is done is not done again
    agent-log fork RUN --at STEP        a new run that shares events 1 to STEP; prints its name

RUN is a run's name, the beginning of one, or `last`. `fork` takes `--set input="…"` (or system, model, provider …) to change
something, and `--go` to resume the new run at once.

    $ agent-log list --json | jq -r '.data.structuredContent[].id'
    $ agent-log fork last --at 2 --set input="and in French?" --go
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from agent_core import terminal
from agent_core.cli import Out
from agent_core.errors import AgentError, Cancelled, DeadlineError, Failed, Interrupt, UsageError
from agent_core.options import OPTIONS as AGENT_OPTIONS
from agent_core.options import SCHEMA_VIEWS, Option, convert, help_text, parse, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent_core.events import Event
    from agent_core.readings import Session, Step, Summary
    from agent_core.store import Run, Store

NAME, VERSION = "agent-log", "0.1.0"
COMMANDS = ("list", "show", "follow", "export", "replay", "resume", "fork")
OPTIONS = (
    Option("limit", "list: at most so many runs", "int", short="n", low=1, default=20),
    Option("agent", "list: only runs of this agent", "text", metavar="NAME"),
    Option("session", "list: only runs of this session", "text", metavar="NAME"),
    Option("at", "fork: keep events 1 to STEP, as `show` counts them", "int", low=0, metavar="STEP"),
    Option("set", "fork: change a field of the start", "text", repeat=True, metavar="FIELD=TEXT"),
    Option("go", "fork: resume the new run at once"),
    Option("format", "export: the form", "text", choices=("jsonl",), default="jsonl"),
    Option("timeout", "follow: stop waiting; status 124", "seconds", low=0.001),
    Option("data-dir", "where runs are kept", "path", metavar="DIR"),
    Option("json", "print one JSON record, also on failure", short="j"),
    Option("jsonl", "print records as they happen, one JSON object a line"),
    Option("quiet", "nothing on stderr", short="q"),
    Option("debug", "show tracebacks"),
    Option("agent-schema", "print the card or a VIEW of it", "text", optional="card", choices=SCHEMA_VIEWS, metavar="VIEW"),
    Option("version", "print the version, and exit"),
    Option("help", "print this, and exit", short="h"),
)
POLL = 0.1
SHOWN = 400
CHANGEABLE = (
    "input", "provider", "model", "script", "system", "persona", "pattern", "protocol", "temperature", "max_tokens", "max_steps",
)  # fmt: skip
_OF_THE_START = {"provider": "route", "model": "model", "script": "script"}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Be the command line; with `argv` given leave by SystemExit."""
    closed = terminal.reserve_streams()
    words = terminal.arguments() if argv is None else list(argv)
    out = _early_out(words)
    try:
        if argv is None:
            _signals()
        status = _run(words, out, closed)
    except AgentError as error:
        status = _fail(out, error)
    except (Interrupt, KeyboardInterrupt) as stop:
        cancelled = Cancelled("interrupted")
        cancelled.status = getattr(stop, "status", 130)
        status = _fail(out, cancelled)
    except Exception as error:  # the one catch at the edge
        if out.debug:
            raise
        status = _fail(out, AgentError(f"internal error: {type(error).__name__}: {error}", hint="--debug shows where"))
    if argv is None and status == 130:
        terminal.die_by(signal.SIGINT)
    raise SystemExit(status)


def _early_out(words: Sequence[str]) -> Out:
    from agent_core import config

    mode = "jsonl" if "--jsonl" in words else "json" if {"--json", "-j"} & set(words) else "text"
    return Out(NAME, VERSION, mode, bool({"--quiet", "-q"} & set(words)), debug="--debug" in words, env=config.environ())


def _signals() -> None:
    def interrupt(number: int, _frame: Any) -> None:
        raise Interrupt(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)


def _fail(out: Out, error: AgentError) -> int:
    """Say what went wrong, as a line and, if records are wanted, as one."""
    out.say(error.line())
    if out.mode != "text":
        from agent_core import records

        stop = {124: "timeout", 130: "cancelled", 143: "cancelled"}.get(error.status, "error")
        out.finish(records.failure_data(error, error.status, stop))
    return error.status


def _run(words: list[str], out: Out, closed: frozenset[int]) -> int:
    if 1 in closed:
        raise Failed("cannot write to stdout: it is closed", hint="drop >&-")
    parsed = parse(words, OPTIONS)
    flags = parsed.values
    out.mode = "jsonl" if flags.get("jsonl") else "json" if flags.get("json") else "text"
    out.quiet, out.debug = bool(flags.get("quiet")), bool(flags.get("debug"))
    status = _about(flags, parsed.words, out)
    return _command(flags, parsed.words or ("list",), out) if status is None else status


def _about(flags: Mapping[str, Any], words: Sequence[str], out: Out) -> int | None:
    if flags.get("version"):
        return out.answer(f"{NAME} {VERSION}", {"name": NAME, "version": VERSION})
    if flags.get("agent_schema") or tuple(words) == ("__schema",):
        return _schema(flags.get("agent_schema") or "card")
    if flags.get("help"):
        return out.answer(help_text(NAME, __doc__ or "", OPTIONS))
    return None


def _command(flags: Mapping[str, Any], words: Sequence[str], out: Out) -> int:
    command, *rest = words
    if command not in COMMANDS:
        raise unknown("command", command, COMMANDS)
    wanted = 0 if command == "list" else 1
    if len(rest) != wanted:
        raise UsageError(
            f"{command} takes {'one RUN' if wanted else 'no words'}", hint=f"agent-log {command} last" if wanted else "see --help"
        )
    if command == "list":
        return _list(flags, out)
    with _store(flags, out) as store:
        run = _known(store, rest[0])
        looks = {"show": _show, "follow": _follow, "export": _export, "fork": _fork}
        if command in looks:
            return looks[command](store, run, flags, out)
    return _again(run.agent, _source(store, run), f"--{command}", run.id, flags)


def _schema(view: str) -> int:
    from agent_core import card
    from agent_core.agent import Agent

    itself = Agent(__doc__, version=VERSION, stdin="none", tags=("log", "runs"))
    terminal.write(1, terminal.encode(card.view(itself, view, OPTIONS)))
    return 0


# --- the store -------------------------------------------------------------------------------------------------------


def _path(flags: Mapping[str, Any]) -> Path:
    from agent_core import config
    from agent_core.running import store_path

    return store_path(config.load({"data_dir": flags["data_dir"]} if flags.get("data_dir") else {}))


@contextmanager
def _store(flags: Mapping[str, Any], out: Out) -> Iterator[Store]:
    from agent_core.store import open_store

    store = open_store(_path(flags))
    try:
        yield store
    finally:
        for notice in store.notices:
            out.say(notice)
        store.close()


def _known(store: Store, ref: str) -> Run:
    """Return the run; looking for one must not create a store."""
    if not store.path.exists():
        raise UsageError(f'no run "{ref}": nothing has been recorded yet', hint="run an agent first, or name its --data-dir")
    return store.run(ref)


def _source(store: Store, run: Run) -> str:
    start = next((event for event in store.events(run.id) if event.kind == "run.started"), None)
    store.close()
    return str(start.data.get("source") or "") if start is not None else ""


# --- list ------------------------------------------------------------------------------------------------------------


def _list(flags: Mapping[str, Any], out: Out) -> int:
    if not _path(flags).exists():
        return _printed(out, "", [])
    with _store(flags, out) as store:
        runs = store.runs(flags.get("limit", 20), flags.get("agent"), flags.get("session"))
    return _printed(out, _table(runs), [_row(run) for run in runs])


def _printed(out: Out, text: str, structured: Any) -> int:
    if out.mode == "text" and not text:
        return 0
    return out.answer(text, structured)


def _row(run: Run) -> dict[str, Any]:
    row = asdict(run)
    row["state"] = _state(run.status, finished=run.finished is not None)
    row["duration_s"] = None if run.finished is None else round(run.finished - run.started, 3)
    row["started"], row["finished"] = _moment(run.started), _moment(run.finished)
    return row


def _state(status: int | None, *, finished: bool) -> str:
    if not finished:
        return "unfinished"
    return {0: "ok", 3: "no"}.get(status or 0, f"exit {status}")


def _moment(seconds: float | None) -> str | None:
    from agent_core.records import timestamp

    return None if seconds is None else timestamp(seconds)


def _table(runs: Sequence[Run]) -> str:
    rows = [("RUN", "STARTED", "STATE", "AGENT", "SESSION", "INPUT")]
    for run in runs:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.started))
        state = _state(run.status, finished=run.finished is not None)
        rows.append((run.id, when, state, _short(run.agent), _short(run.session) or "-", run.title[:60]))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:5], widths, strict=True)), row[5]]).rstrip() for row in rows
    )


# --- show ------------------------------------------------------------------------------------------------------------


def _show(store: Store, run: Run, _flags: Mapping[str, Any], out: Out) -> int:
    from agent_core import readings

    events = store.events(run.id)
    summary, session = readings.summary(events), readings.session(events)
    return out.answer(_shown(summary, session), _view(summary, session, events))


def _view(summary: Summary, session: Session, events: Sequence[Event]) -> dict[str, Any]:
    from agent_core import readings

    head = asdict(summary)
    head["started"], head["finished"] = _moment(summary.started), _moment(summary.finished)
    return {
        **head, "duration": session.duration, "step_count": session.step_count, "has_final_answer": session.has_final_answer,
        "final_answer": session.final_answer, "failed_tool_call_count": session.failed_tool_call_count,
        "most_common_action": session.most_common_action, "memory_hits": session.memory_hits, "thoughts": list(session.thoughts),
        "actions": [asdict(action) for action in session.actions], "observations": list(session.observations),
        "steps": [asdict(step) for step in session.steps], "tools": [asdict(count) for count in readings.tool_counts(events)],
        "events": [_event(event) for event in readings.outcome_events(events).values()],
    }  # fmt: skip


def _shown(summary: Summary, session: Session) -> str:
    state = _state(summary.status, finished=summary.finished is not None)
    took = "" if session.duration is None else f", {session.duration:.1f} s"
    origin = f", fork of {summary.parent}" if summary.parent else ""
    lines = [
        f"run {summary.run}: {summary.agent} {summary.version}, {state}{took}{origin}",
        f"model: {summary.provider} {summary.model}".rstrip(), f"input: {_short(summary.input)}", "",
    ]  # fmt: skip
    for step in session.steps:
        lines += _step_lines(step)
    if session.final_answer is None:
        lines += ["", f"no answer ({_words(summary.error) or summary.stop or state})"]
    return "\n".join([*lines, "", _bill(summary.usage)])


def _step_lines(step: Step) -> list[str]:
    """Return the lines of a step, each with the number of its event: the one that `fork --at` counts."""
    number = _number(step.path)
    lines = [f"{number:>3}  {'failed' if step.error else 'model '}  {_short(step.error or step.thought) or '(calls)'}"]
    for action in step.actions:
        result = "…" if action.observation is None else _short(action.observation)
        mark = f" [{action.error}]" if action.error else ""
        lines.append(f"{number + 1:>3}  tool    {action.tool} {_short(_compact(action.arguments))} ->{mark} {result}")
    return lines


def _number(path: str) -> int:
    head = path.partition(".")[0]
    return int(head) + 1 if head.isdecimal() else 0


def _bill(usage: Mapping[str, Any]) -> str:
    cost = "price unknown" if usage["cost_usd"] is None else f"{usage['cost_usd']} USD"
    tokens = ["?" if usage[name] is None else f"{usage[name]:,}" for name in ("input_tokens", "output_tokens")]
    return f"{usage['calls']} model calls, {tokens[0]} tokens in, {tokens[1]} out, {cost}"


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= SHOWN else f"{flat[:SHOWN]}…"


def _compact(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False, default=str)


def _words(error: Any) -> str:
    return str(error.get("detail") or error.get("code") or "") if isinstance(error, dict) else str(error or "")


# --- follow and export -----------------------------------------------------------------------------------------------


def _event(event: Event) -> dict[str, Any]:
    return {
        "run": event.run, "path": event.path, "kind": event.kind, "time": event.time, "fingerprint": event.fingerprint,
        "data": dict(event.data),
    }  # fmt: skip


def _export(store: Store, run: Run, _flags: Mapping[str, Any], out: Out) -> int:
    from agent_core import records

    events = store.events(run.id)
    if out.mode != "text":
        return out.answer("", [_event(event) for event in events])
    for event in events:
        terminal.write(1, records.line(_event(event)))
    return 0


def _follow(store: Store, run: Run, flags: Mapping[str, Any], out: Out) -> int:
    seen: list[Event] = []
    for event in _arriving(store, run.id, flags.get("timeout")):
        seen.append(event)
        _tell(event, out)
    if out.mode != "text":
        from agent_core import records

        out.finish(records.plain_data("", [_event(event) for event in seen]))
    return 0


def _arriving(store: Store, run: str, timeout: float | None) -> Iterator[Event]:
    """Yield a run's events as they are written, until it has ended."""
    deadline = None if timeout is None else time.monotonic() + timeout
    last, ended = 0, False
    while True:
        more = store.since(last, run)
        for last, event in more:  # noqa: B007 - `last` is where the next look begins
            ended = event.kind == "run.finished" or (ended and event.kind != "run.started")
            yield event
        if more:
            continue
        if ended:
            return
        if deadline is not None and time.monotonic() >= deadline:
            raise DeadlineError(
                f"run {run} has not ended within {timeout:g} s", hint="it may go on, or have been killed: agent-log resume"
            )
        time.sleep(POLL)


def _tell(event: Event, out: Out) -> None:
    if out.mode == "jsonl":
        from agent_core import records

        made = records.of_event(event)
        if made is not None:
            out.record(*made)
    elif out.mode == "text":
        line = f"{time.strftime('%H:%M:%S', time.localtime(event.time))}  {event.path or '-':<6} {event.kind:<15} {_gist(event)}"
        out.text(line.rstrip())


def _gist(event: Event) -> str:
    data = event.data
    match event.kind:
        case "run.started":
            from agent_core.store import text_of

            return _short(f"{data.get('agent', '')}: {text_of(data.get('input'))}")
        case "model.replied":
            from agent_core import messages

            message = messages.from_json(data["message"])
            calls = ", ".join(f"{call.name}({_compact(call.arguments)})" for call in message.tool_calls)
            return _short(f"{message.text} {calls}")
        case "tool.started":
            return _short(f"{data.get('name')} {_compact(data.get('arguments'))}")
        case "run.finished":
            return _short(f"{_state(data.get('status'), finished=True)}: {_words(data.get('error')) or data.get('output') or ''}")
    return _short(str(data.get("text") or data.get("output") or _words(data.get("error"))))


# --- replay, resume, fork --------------------------------------------------------------------------------------------


def _fork(store: Store, run: Run, flags: Mapping[str, Any], out: Out) -> int:
    if "at" not in flags:
        raise UsageError("fork needs --at STEP", hint=f"agent-log show {run.id} numbers the events")
    events = store.events(run.id)
    at, most = int(flags["at"]), max((_number(event.path) for event in events), default=0)
    if at > most:
        raise UsageError(f"run {run.id} has {most} events, --at {at} is beyond them", hint=f"agent-log show {run.id} numbers them")
    start = next((event.data for event in events if event.kind == "run.started"), {})
    new = store.fork(run.id, str(at), changes(start, flags.get("set", ())))
    if flags.get("go"):
        out.say(f"fork {new} of {run.id}")
        return _again(run.agent, str(start.get("source") or ""), "--resume", new, flags)
    return out.answer(new, {"run": new, "parent": run.id, "at": at, "kept": len(store.recorded(new))})


def changes(start: Mapping[str, Any], given: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a run's start that `--set FIELD=TEXT` changes. UsageError for an unknown field or a bad value."""
    changed: dict[str, Any] = {}
    for each in given:
        name, equals, text = each.partition("=")
        name = name.replace("-", "_")
        if not equals:
            raise UsageError(f"--set needs FIELD=TEXT, not {each[:80]!r}", hint=f"fields: {', '.join(CHANGEABLE)}")
        if name not in CHANGEABLE:
            raise unknown("field", name, CHANGEABLE)
        if name == "input":
            changed["input"] = _asked(text)
        elif name in _OF_THE_START:
            changed[_OF_THE_START[name]] = text
        else:
            option = next(option for option in AGENT_OPTIONS if option.field == name)
            changed["settings"] = {**start.get("settings", {}), **changed.get("settings", {}), name: convert(option, text)}
    return changed


def _asked(text: str) -> dict[str, Any]:
    from agent_core import messages

    return messages.to_json(messages.user(text))


def _again(agent: str, source: str, flag: str, run: str, flags: Mapping[str, Any]) -> int:
    """Hand over to the run's own agent."""
    passed = [flag, run, "--no-stdin"]
    passed += [f"--{name}" for name in ("json", "jsonl", "quiet", "debug") if flags.get(name)]
    if flags.get("data_dir"):
        passed.append(f"--data-dir={flags['data_dir']}")
    module = _module(agent, source)
    if module is None:
        return _program(agent, passed)
    try:
        module.main(passed)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _module(agent: str, source: str) -> Any:
    """Return the agent's module: of this suite by name, else from the file that the run recorded; None if there is neither."""
    from importlib import import_module
    from importlib.util import module_from_spec, spec_from_file_location

    name = agent.replace("-", "_")
    if name.isidentifier():
        try:
            return import_module(f"agents.{name}")
        except ModuleNotFoundError as error:
            if error.name not in (f"agents.{name}", "agents"):
                raise
    spec = spec_from_file_location(name, source) if source.endswith(".py") and Path(source).is_file() else None
    if spec is None or spec.loader is None:
        return None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _program(agent: str, argv: Sequence[str]) -> int:
    """Run the agent's executable: beside this one (a frozen suite), else on the PATH."""
    import shutil
    import subprocess

    beside = os.path.dirname(os.path.abspath(sys.argv[0]))  # noqa: PTH100, PTH120 - a string for `which`
    found = None if "/" in agent else shutil.which(agent, path=beside) or shutil.which(agent)
    if found is None:
        raise UsageError(f"there is no agent {agent} here", hint="run it where it is installed: it takes --resume and --replay")
    status = subprocess.run([found, *argv], check=False, stdin=subprocess.DEVNULL).returncode
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    main()
