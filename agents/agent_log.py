"""agent-log - look at what agents did: runs, progress, bills, metrics, audit; replay, resume and fork runs.

    agent-log list [-n 20] [--agent NAME] [--session NAME]
    agent-log show RUN                  its steps: what was thought, called and answered
    agent-log follow RUN                the same while it happens, until the run ends
    agent-log status RUN                how far it is: done, active, ready, blocked, the bottleneck
    agent-log timeline RUN              what happened when, as bars
    agent-log checkpoints [RUN]         where to go on from: every fifth step, the newest ten of each agent
    agent-log export RUN                every event, one JSON object a line (--format csv, --format otlp)
    agent-log pipeline [RUN]            all stages of the pipe it was part of: one trace, one bill
    agent-log cost [--by agent|model|day] [--since 7d]
    agent-log metrics [--by agent] [--format prom]
    agent-log audit [--denied] [--run RUN] [--since 7d]
    agent-log audit --verify            is the record whole? names the first entry that is not (status 3)
    agent-log alerts --rules FILE       thresholds on metrics; status 3 when one fires
    agent-log limits                    how much of each limit is in use
    agent-log replay RUN                run it again without a network: the same bytes
    agent-log resume RUN                go on where it stopped; what is done is not done again
    agent-log fork RUN --at STEP        a new run that shares events 1 to STEP; prints its name

RUN is a run's name, the beginning of one, or `last`. `resume` takes a person's decision for a run that waits for one: `--approve`,
`--deny`, `--edit JSON` or `--answer TEXT`. Flags that every agent has are handed on (a run with tools of an MCP server needs its
`--mcp-server` again). `fork` takes `--set input="…"` (or system, model, provider …) to change something, and `--go` to resume the
new run at once.

    $ agent-log list --json | jq -r '.data.structuredContent[].id'
    $ agent-log pipeline last --json | jq .data.structuredContent.total
    $ agent-log metrics --format prom > /var/lib/node_exporter/agents.prom
    $ agent-log fork last --at 2 --set input="and in French?" --go
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal

from agent_core import Agent, terminal
from agent_core.errors import DeadlineError, Failed, MissingInput, UsageError
from agent_core.options import OPTIONS as AGENT_OPTIONS
from agent_core.options import Option, convert, unknown
from agent_core.task import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent_core.cli import Command
    from agent_core.events import Event
    from agent_core.readings import Session, Summary
    from agent_core.store import Run, Store
    from agent_plugins.observe.pipelines import Stage

POLL = 0.1
GRACE = 1.0  # seconds of silence after which it is asked whether a run can go on at all: it may just be beginning
CHANGEABLE = (
    "input", "provider", "model", "script", "system", "persona", "pattern", "protocol", "temperature", "max_tokens", "max_steps",
)  # fmt: skip
_UNITS = {1.0: "s", 60.0: "min", 3600.0: "h", 86400.0: "d"}
_OF_THE_START = {"provider": "route", "model": "model", "script": "script"}


# --- the store -------------------------------------------------------------------------------------------------------


def _store(command: Command) -> Store | None:
    """Return the store, None if there is none: looking must not create one."""
    from agent_core.running import store_path

    if not store_path(command.settings).exists():
        return None
    store = command.store()
    store.ready()
    for notice in store.notices:
        command.out.say(notice)
    return store


def _known(command: Command, ref: str) -> tuple[Store, Run]:
    store = _store(command)
    if store is None:
        raise UsageError(f'no run "{ref}": nothing has been recorded yet', hint="run an agent first, or name its --data-dir")
    return store, store.run(ref)


# --- list and show ---------------------------------------------------------------------------------------------------


def list_(command: Command, agent: str = "", session: str = "") -> Answer:
    """List the newest runs; `-n` says how many.

    Args:
        command: the call
        agent: only runs of this agent
        session: only runs of this session
    """
    from agent_plugins.observe import shown

    store = _store(command)
    found = store.runs(command.settings.extra.get("limit", 20), agent or None, session or None) if store is not None else []
    return Answer(shown.runs(found) if store is not None else "", [_row(run) for run in found])


def _row(run: Run) -> dict[str, Any]:
    from agent_plugins.observe import shown

    row = asdict(run)
    row["state"] = shown.state(run.status, finished=run.finished is not None)
    row["duration_s"] = None if run.finished is None else round(run.finished - run.started, 3)
    row["started"], row["finished"] = _moment(run.started), _moment(run.finished)
    return row


def _moment(seconds: float | None) -> str | None:
    from agent_core.records import timestamp

    return None if seconds is None else timestamp(seconds)


def show(run: str, command: Command) -> Answer:
    """Show a run's steps: what was thought, called and answered."""
    from agent_core import readings
    from agent_plugins.observe import shown

    store, found = _known(command, run)
    events = store.events(found.id)
    summary, session = readings.summary(events), readings.session(events)
    return Answer(shown.run(summary, session), _view(summary, session, events))


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


def _event(event: Event) -> dict[str, Any]:
    return {
        "run": event.run, "path": event.path, "kind": event.kind, "time": event.time, "fingerprint": event.fingerprint,
        "data": dict(event.data),
    }  # fmt: skip


# --- export, follow, status, timeline ---------------------------------------------------------------------------------


def export(run: str, command: Command, format: Literal["jsonl", "csv", "otlp"] = "jsonl") -> Answer:  # noqa: A002 - the flag's name
    """Print every event of a run, one JSON object a line.

    Args:
        run: which run
        command: the call
        format: jsonl, csv, or otlp (spans as OTLP/JSON, for a collector's /v1/traces)
    """
    from agent_core import records
    from agent_plugins.observe import exports

    store, found = _known(command, run)
    events = store.events(found.id)
    if format == "otlp":
        made = exports.otlp(events)
        return Answer(records.line(made).decode().rstrip("\n"), made)
    rows = [_event(event) for event in events]
    if format == "csv":
        return Answer(exports.csv(events), rows)
    for row in rows if command.out.mode == "text" else ():
        terminal.write(1, terminal.clean_json(records.line(row)) if terminal.is_terminal(1) else records.line(row))
    return Answer("", rows)


def follow(run: str, command: Command, timeout: float | None = None) -> Answer:
    """Show a run while it goes on, until it ends; status 124 when that takes longer than --timeout, 1 when it cannot go on.

    On a terminal its progress is drawn anew; elsewhere its events are printed as they happen. A fork that nobody began, and a run
    whose process is gone, do not go on by themselves.
    """
    store, found = _known(command, run)
    settings = command.settings
    if command.out.mode == "text" and terminal.is_terminal(1) and terminal.decorated(1, settings.color, settings.environment):
        return _watched(store, found.id, timeout)
    seen: list[Event] = []
    for batch in _arriving(store, found.id, timeout):
        seen += batch
        for event in batch:
            _tell(event, command)
    return Answer("", [_event(event) for event in seen])


def _watched(store: Store, run: str, timeout: float | None) -> Answer:
    from agent_plugins.observe import live

    seen: list[Event] = []
    with live.screen() as show:
        for batch in _arriving(store, run, timeout, idle=True):
            seen += batch
            show(seen)
    return Answer("")


def status(run: str, command: Command, slow: float = 1.5) -> Answer:
    """Show how far a run is: what is done, active, ready or blocked, and what holds up the rest.

    Args:
        run: which run
        command: the call
        slow: what takes so many times as long as the median can be the bottleneck
    """
    from agent_plugins.observe import progress

    store, known = _known(command, run)
    now = time.time()
    events = store.events(known.id)
    found = progress.progress(events, now, slow)
    edge = next((event for event in reversed(events) if event.kind in {"run.started", "run.finished"}), None)
    if found.state == "running" and _stopped(edge):
        found = replace(found, state="stopped")
    return Answer(progress.as_text(found, now), found.data())


def timeline(run: str, command: Command) -> Answer:
    """Show what happened when: model calls, tools, agents, questions and parts of a graph as bars."""
    from agent_plugins.observe import timeline as reading

    store, known = _known(command, run)
    rows = reading.timeline(store.events(known.id))
    value = {"run": known.id, "agent": known.agent, "rows": [row.data(known.started) for row in rows]}
    return Answer(reading.bars(rows, _width(command)), value)


def checkpoints(command: Command, run: list[str], agent: str = "", every: int = 5, keep: int = 10) -> Answer:
    """Show the places of runs to go on from: every fifth step, the newest ten of each agent.

    Every step is written down at once: `--resume` goes on at the last one, `fork RUN --at NUMBER` at any of these.

    Args:
        command: the call
        run: only these runs
        agent: only runs of this agent
        every: only each so-many-th step of a run
        keep: at most so many of each agent
    """
    from agent_plugins.observe import checkpoints as reading

    if every < 1 or keep < 1:
        raise UsageError("--every and --keep are at least 1", hint="--every 5 --keep 10")
    store = _store(command)
    named = [_known(command, ref)[1] for ref in run]
    runs = named or (store.runs(None, agent or None) if store is not None else [])
    read = (reading.checkpoints(store.events(each.id), each.agent, every) for each in runs) if store is not None else ()
    found = reading.newest((one for rows in read for one in rows), keep)
    return Answer(reading.as_text(found), [{**each.data(), "created_at": _moment(each.created_at)} for each in found])


def _width(command: Command) -> int:
    """Return the width of a terminal, COLUMNS, or 100."""
    given = command.settings.environment.get("COLUMNS", "")
    if given.isascii() and given.isdigit():
        return min(1000, max(40, int(given[:6])))
    return os.get_terminal_size(1).columns if terminal.is_terminal(1) else 100


def _arriving(store: Store, run: str, timeout: float | None, *, idle: bool = False) -> Iterator[list[Event]]:
    """Yield a run's events as they are written, until it has ended; with `idle` also nothing, while nothing happens."""
    deadline = None if timeout is None else time.monotonic() + timeout
    last, quiet = 0, time.monotonic()
    edge: Event | None = None
    while True:
        more = store.since(last, run)
        for last, event in more:  # noqa: B007 - `last` is where the next look begins
            edge = event if event.kind in {"run.started", "run.finished"} else edge
        if more or idle:
            yield [event for _, event in more]
        if more:
            quiet = time.monotonic()
            continue
        if edge is not None and edge.kind == "run.finished":
            return
        if time.monotonic() - quiet >= GRACE and (why := _stopped(edge)):
            raise Failed(f"run {run} {why}", hint=f"agent-log resume {run}")
        if deadline is not None and time.monotonic() >= deadline:
            raise DeadlineError(
                f"run {run} has not ended within {timeout:g} s", hint="it may go on, or have been killed: agent-log resume"
            )
        time.sleep(POLL)


def _stopped(start: Event | None) -> str:
    """Return why a run that has not ended does not go on by itself; "" where it may, or where that cannot be known."""
    from agent_core import lineage

    if start is None or start.kind != "run.started":
        return ""
    if "fork_at" in start.data:
        return "is a fork that nobody has begun"
    return "has not ended, and its process is gone" if lineage.is_gone(start.data.get("lineage")) else ""


def _tell(event: Event, command: Command) -> None:
    from agent_core import records
    from agent_plugins.observe import shown

    if command.out.mode == "jsonl":
        made = records.of_event(event)
        if made is not None:
            command.out.record(*made)
    elif command.out.mode == "text":
        command.out.text(shown.event(event))


# --- pipelines and bills ---------------------------------------------------------------------------------------------


def pipeline(command: Command, run: list[str]) -> Answer:
    """Show all stages of the pipe that a run was part of: one trace, one bill. Without RUN: the latest."""
    from agent_plugins.observe import pipelines, shown

    if len(run) > 1:
        raise UsageError("pipeline takes one RUN", hint="agent-log pipeline last")
    store, known = _known(command, run[0] if run else "last")
    found = pipelines.around(store, known.id)[0]
    stages = [_stage(stage) for stage in found.stages]
    total = {"cost_usd": found.cost_usd, "stages": len(stages), "calls": sum(stage.calls for stage in found.stages)}
    return Answer(shown.pipeline(found), {"trace": found.trace, "stages": stages, "total": total})


def _stage(stage: Stage) -> dict[str, Any]:
    from agent_plugins.observe import shown

    became = shown.state(stage.status, finished=stage.finished is not None)
    return {**asdict(stage), "state": became, "started": _moment(stage.started), "finished": _moment(stage.finished)}


def cost(command: Command, by: Literal["agent", "model", "day"] = "agent", since: str = "") -> Answer:
    """Show what runs cost; prices that are not known are said to be so, and what a fork inherited is not counted twice.

    Args:
        command: the call
        by: what is summed up
        since: only what was paid in that time (7d, 12h), or since that day (2026-09-01)
    """
    from agent_plugins.observe import bills, shown

    store = _store(command)
    found = list(bills.entries(store, _since(since))) if store is not None else []
    made, total = bills.bills(found, by), bills.sum_of(found)
    rows = [bills.as_data(bill) for bill in made]
    return Answer(shown.bills(made, total, by) if made else "", {"by": by, "rows": rows, "total": bills.as_data(total)})


def _since(text: str) -> float:
    """Return the moment that a duration ago, or a day, is. UsageError for anything else."""
    if not text:
        return 0.0
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%d"))
    except (ValueError, OverflowError):
        ago: float = convert(Option("since", "", "seconds", low=0), text)
        return time.time() - ago


# --- metrics, audit, alerts, limits -----------------------------------------------------------------------------------


def metrics(
    command: Command,
    by: Literal["all", "agent"] = "all",
    agent: str = "",
    since: str = "",
    format: Literal["text", "json", "prom"] = "text",  # noqa: A002 - the flag's name
    unit: Literal["s", "ms"] = "s",
) -> Answer:
    """Show numbers: steps, tokens, tool calls, failures, latencies, cost.

    Args:
        command: the call
        by: all agents together, or each
        agent: only this agent
        since: only what happened in that time (7d, 12h), or since that day (2026-09-01)
        format: text, json, or prom (Prometheus text)
        unit: prom in base units (agent_inference_latency_seconds), or in ms (agent_inference_latency_ms)
    """
    from agent_plugins.observe import exposition, measured, shown, snapshot

    store = _store(command)
    found = measured.families(store, _since(since)) if store is not None else measured.none()
    names = [agent] if agent else snapshot.agents_of(found) if by == "agent" else [None]
    rows = [snapshot.snapshot(found, name) for name in names]
    value = rows[0] if by == "all" or agent else {"agents": rows}
    if format == "prom":
        kept = snapshot.only(found, agent) if agent else found
        text = exposition.text(kept if by == "agent" else snapshot.merged(kept), milliseconds=unit == "ms")
        return Answer(text, value)
    return Answer(shown.compact(value) if format == "json" else shown.numbers(rows), value)


def audit(  # noqa: PLR0913, PLR0917 - a command's parameters are its flags
    command: Command, denied: bool = False, verify: bool = False, run: str = "", since: str = "", key: str = "",
    heads: str = "", move_key: str = "", accept: bool = False,
) -> Answer:  # fmt: skip
    """Show who was allowed what, and which models and peers were asked; or whether the record of it is whole.

    Args:
        command: the call
        denied: only what was refused
        verify: follow the chain from its beginning; status 3 and the first bad entry if it is not whole
        run: only this run
        since: only what happened in that time (7d, 12h), or since that day (2026-09-01)
        key: verify: read the first key from a file (where --move-key put it)
        heads: verify: compare with the heads in a file, too (of the system's journal, of another machine)
        move_key: put the first key into a file and forget it here, so that nobody here can make the past anew
        accept: forget stores that were here earlier (after a move, or when the data folder was emptied on purpose)
    """
    from agent_plugins.observe import audit as reading
    from agent_plugins.observe import shown

    store = _store(command)
    if verify or move_key or accept:
        return _verified(command, store, key, heads, move_key, accept=accept)
    known = store.run(run).id if store is not None and run else ""
    found = list(reading.entries(store, _since(since), known)) if store is not None else []
    found = [entry for entry in found if reading.is_denial(entry)] if denied else found
    rows = [{**reading.as_data(entry), "time": _moment(entry.time)} for entry in found]
    return Answer(shown.audit(found) if found else "", rows)


def _verified(command: Command, store: Store | None, key: str, heads: str, move_key: str, *, accept: bool) -> Answer:
    from agent_core.running import store_path
    from agent_plugins.observe import notes, shown
    from agent_plugins.observe import verify as reading

    path = store_path(command.settings)
    if move_key:
        return Answer(f"the key is in {move_key}: keep it elsewhere", {"moved": notes.move_keys(path, move_key)})
    if accept:
        return Answer("", {"forgotten": notes.forget_others(path, store)})
    known = notes.read(path, *(each for each in (key, heads) if each))
    verdict = reading.verify(store, known) if store is not None else reading.gone(known)
    if not verdict.sealed and verdict.entries:
        command.out.say("the first key is not here, so only the chain was followed: --key FILE")
    return Answer(shown.verdict(verdict), {**asdict(verdict), "whole": verdict.whole}, 0 if verdict.whole else 3)


def alerts(command: Command, rules: str = "") -> Answer:
    """Compare metrics with the thresholds of a file; print what fires (status 3), nothing if nothing does.

    Args:
        command: the call
        rules: a TOML file with [[alert]] tables: name, metric, above or below, agent, since, idle
    """
    from agent_plugins.observe import alerts as reading

    if not rules:
        raise UsageError("alerts needs --rules FILE", hint="docs/observability.md shows one")
    wanted = reading.read(_read(rules), rules)
    store = _store(command)
    found = reading.fired(wanted, store, time.time()) if store is not None else []
    return Answer("\n".join(alert.text for alert in found), [alert.data() for alert in found], 3 if found else 0)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - one file, no pathlib needed
            return file.read(1 << 20)
    except (OSError, ValueError) as error:
        raise MissingInput(f"cannot read {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}", hint="a TOML file") from None


def limits(command: Command) -> Answer:
    """Show how much of each limit is in use, and who waits."""
    from agent_plugins.observe import shown
    from agent_plugins.resources import readings, shared

    store = _store(command)
    place = shared.choose(command.settings, store)
    found = [asdict(row) for row in readings(place)] if place is not None else []
    return Answer(shown.limits(found) if found else "", found)


# --- replay, resume, fork --------------------------------------------------------------------------------------------


def replay(run: str, command: Command) -> Answer:
    """Run it again without a network: the same bytes."""
    store, found = _known(command, run)
    return _again(command, found.agent, _source(store, found), "--replay", found.id)


def resume(  # noqa: PLR0913, PLR0917 - a command's parameters are its flags
    run: str, command: Command, approve: bool = False, reject: bool = False, answer: str = "", edit: str = "", step: str = ""
) -> Answer:
    """Go on where a run stopped; what is done is not done again.

    Args:
        run: which run
        command: the call
        approve: say yes to what it waits for
        reject: say no to what it waits for (`--deny` is the same here)
        answer: answer what it waits for
        edit: allow the tool call it waits for, but with these arguments (a JSON object); they are judged anew
        step: which question is answered, if there are several
    """
    from agent_core import waiting

    store, found = _known(command, run)
    ways = (("yes", approve), ("no", reject), (answer, bool(answer)), (_edited(edit), bool(edit)))
    decisions = [word for word, given in ways if given]
    if len(decisions) > 1:
        raise UsageError("one decision at a time", hint="--approve, --deny, --edit JSON or --answer TEXT")
    if decisions:
        waiting.answer(store, found.id, decisions[0], step)
    return _again(command, found.agent, _source(store, found), "--resume", found.id)


def _edited(text: str) -> dict[str, Any]:
    """Return the decision that changes a call's arguments."""
    if not text:
        return {}
    import json

    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--edit is no JSON: {error}", hint='--edit \'{"path": "other.txt"}\'') from None
    if not isinstance(found, dict):
        raise UsageError("--edit is no JSON object", hint='--edit \'{"path": "other.txt"}\'')
    return {"arguments": found}


def fork(run: str, command: Command, at: int | None = None, set_: list[str] = (), go: bool = False) -> Answer:  # type: ignore[assignment]
    """Make a new run that shares the first events of another; print its name.

    Args:
        run: which run
        command: the call
        at: keep events 1 to this number, as `show` counts them
        set_: change a field of the start, FIELD=TEXT
        go: resume the new run at once
    """
    from agent_plugins.observe import shown

    store, found = _known(command, run)
    if at is None:
        raise UsageError("fork needs --at STEP", hint=f"agent-log show {found.id} numbers the events")
    events = store.events(found.id)
    most = max((shown.number(event.path) for event in events), default=0)
    if not 0 <= at <= most:
        raise UsageError(f"run {found.id} has {most} events, not --at {at}", hint=f"agent-log show {found.id} numbers them")
    start = next((event.data for event in events if event.kind == "run.started"), {})
    new = store.fork(found.id, str(at), changes(start, set_))
    if go:
        command.out.say(f"fork {new} of {found.id}")
        return _again(command, found.agent, str(start.get("source") or ""), "--resume", new)
    return Answer(new, {"run": new, "parent": found.id, "at": at, "kept": len(store.recorded(new))})


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


def _source(store: Store, run: Run) -> str:
    start = next((event for event in store.events(run.id) if event.kind == "run.started"), None)
    return str(start.data.get("source") or "") if start is not None else ""


def _again(command: Command, agent: str, source: str, flag: str, run: str) -> Answer:
    """Hand over to the run's own agent, with the flags that every agent has; it writes the result itself."""
    passed = [flag, run, "--no-stdin", *(f"--{name}" for name in ("json", "jsonl", "debug") if command.flag(name))]
    passed += [word for option in AGENT_OPTIONS if option.setting for word in _written(option, command.flag(option.field))]
    module = _module(agent, source)
    status = _program(agent, passed) if module is None else _main(module, passed)
    command.out.done = True
    return Answer("", status=status)


def _written(option: Option, value: Any) -> list[str]:
    """Return a flag as the command line had it; nothing for one that was not given."""
    if value is None or value is False:
        return []
    if not option.takes_value:
        return [f"--{option.name}"]
    return [f"--{option.name}={_word(option, each)}" for each in (value if option.repeat else (value,))]


def _word(option: Option, value: Any) -> str:
    return f"{value[0]:g}/{_UNITS[value[1]]}" if option.kind == "rate" else str(value)


def _main(module: Any, argv: Sequence[str]) -> int:
    """Call the agent's main function; what it prints is the result."""
    from contextlib import redirect_stdout

    try:
        with open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False) as out, redirect_stdout(out):
            module.main(argv)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _module(agent: str, source: str) -> Any:
    """Return the agent's module: of this suite by name, or from the file that the run recorded; None if there is neither.

    A file elsewhere comes first: somebody's own agent may have the name of one of the suite's.
    """
    from importlib import import_module
    from importlib.util import module_from_spec, spec_from_file_location

    name = agent.replace("-", "_")
    elsewhere = os.path.isfile(source) and os.path.basename(os.path.dirname(source)) != "agents"  # noqa: PTH113, PTH119, PTH120
    if name.isidentifier() and not (elsewhere and source.endswith(".py")):
        try:
            return import_module(f"agents.{name}")
        except ModuleNotFoundError as error:
            if error.name not in (f"agents.{name}", "agents"):
                raise
    spec = spec_from_file_location(name, source) if source.endswith(".py") and os.path.isfile(source) else None  # noqa: PTH113
    if spec is None or spec.loader is None:
        return None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module if hasattr(module, "main") else None  # a run that a plugin made for itself has no command of its own


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


COMMANDS = (
    list_, show, follow, status, timeline, checkpoints, export, pipeline, cost, metrics, audit, alerts, limits, replay, resume,
    fork,
)  # fmt: skip

agent = Agent(
    __doc__,
    stdin="none",
    tags=("log", "runs", "cost", "pipeline", "metrics", "audit"),
    when_to_use="To find out what agents did, what it cost, and to repeat or continue a run.",
    options=[Option("limit", "list: at most so many runs", "int", short="n", low=1, default=20, group="Commands")],
    commands=COMMANDS,
    default="list",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Be the command line. After `resume`, `--deny` is the answer to a question; elsewhere it is the flag every agent has."""
    words = sys.argv[1:] if argv is None else list(argv)
    if "resume" in words:
        words = ["--reject" if word == "--deny" else word for word in words]
    if argv is None:
        sys.argv[1:] = words
    agent.main(argv if argv is None else words)


if __name__ == "__main__":
    main()
