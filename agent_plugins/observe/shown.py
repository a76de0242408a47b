"""shown - runs, their steps and events, pipelines and bills as plain text for people. Pure; nothing here is read by programs.

Every text that came from a model, a tool or a peer is put on one line; what reaches a terminal is cleaned there.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent_core.events import Event
    from agent_core.readings import Session, Step, Summary
    from agent_core.store import Run
    from agent_plugins.observe.audit import Entry
    from agent_plugins.observe.bills import Bill
    from agent_plugins.observe.pipelines import Pipeline, Stage
    from agent_plugins.observe.verify import Verdict

LONGEST = 400


def state(status: int | None, *, finished: bool) -> str:
    """Return what became of a run in one word."""
    if not finished:
        return "unfinished"
    return {0: "ok", 3: "no", 5: "waiting"}.get(status or 0, f"exit {status}")


def short(text: str) -> str:
    """Return a text on one line, not too long."""
    flat = " ".join(text.split())
    return flat if len(flat) <= LONGEST else f"{flat[:LONGEST]}…"


def words(error: Any) -> str:
    """Return the words of a recorded error."""
    return str(error.get("detail") or error.get("code") or "") if isinstance(error, dict) else str(error or "")


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as a table; the last column is not padded."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = ("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in rows)
    return "\n".join(lines)


def runs(found: Sequence[Run]) -> str:
    """Return a table of runs."""
    rows = [("RUN", "STARTED", "STATE", "AGENT", "SESSION", "INPUT")]
    for run in found:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.started))
        became = state(run.status, finished=run.finished is not None)
        rows.append((run.id, when, became, short(run.agent), short(run.session) or "-", run.title[:60]))
    return columns(rows)


# -- one run -----------------------------------------------------------------------------------------------------------------------


def run(summary: Summary, session: Session) -> str:
    """Return a run's steps between its head and its bill."""
    became = state(summary.status, finished=summary.finished is not None)
    took = "" if session.duration is None else f", {session.duration:.1f} s"
    origin = f", fork of {summary.parent}" if summary.parent else ""
    lines = [
        f"run {summary.run}: {summary.agent} {summary.version}, {became}{took}{origin}",
        f"model: {summary.provider} {summary.model}".rstrip(), f"input: {short(summary.input)}", "",
    ]  # fmt: skip
    for step in session.steps:
        lines += _step_lines(step)
    if session.final_answer is None:
        lines += ["", f"no answer ({words(summary.error) or summary.stop or became})"]
    return "\n".join([*lines, "", bill_line(summary.usage)])


def _step_lines(step: Step) -> list[str]:
    """Return the lines of a step, each with the number of its event: the one that `fork --at` counts."""
    place = number(step.path)
    lines = [f"{place:>3}  {'failed' if step.error else 'model '}  {short(step.error or step.thought) or '(calls)'}"]
    for action in step.actions:
        result = "…" if action.observation is None else short(action.observation)
        mark = f" [{action.error}]" if action.error else ""
        lines.append(f"{place + 1:>3}  tool    {action.tool} {short(compact(action.arguments))} ->{mark} {result}")
    return lines


def number(path: str) -> int:
    """Return the number of an event's position as people count, from 1; 0 if it has none."""
    head = path.partition(".")[0]
    return int(head) + 1 if head.isdecimal() else 0


def bill_line(usage: Mapping[str, Any]) -> str:
    """Return what a run used on one line."""
    cost = "price unknown" if usage["cost_usd"] is None else f"{usage['cost_usd']} USD"
    tokens = ["?" if usage[name] is None else f"{usage[name]:,}" for name in ("input_tokens", "output_tokens")]
    return f"{usage['calls']} model calls, {tokens[0]} tokens in, {tokens[1]} out, {cost}"


def compact(value: Any) -> str:
    """Return JSON on one line."""
    import json

    return json.dumps(value, ensure_ascii=False, default=str)


def event(one: Event) -> str:
    """Return an event on one line."""
    return f"{time.strftime('%H:%M:%S', time.localtime(one.time))}  {one.path or '-':<6} {one.kind:<15} {_gist(one)}".rstrip()


def _gist(one: Event) -> str:
    data = one.data
    match one.kind:
        case "run.started":
            from agent_core.store import text_of

            return short(f"{data.get('agent', '')}: {text_of(data.get('input'))}")
        case "model.replied":
            from agent_core import messages

            message = messages.from_json(data["message"])
            calls = ", ".join(f"{call.name}({compact(call.arguments)})" for call in message.tool_calls)
            return short(f"{message.text} {calls}")
        case "tool.started":
            return short(f"{data.get('name')} {compact(data.get('arguments'))}")
        case "run.finished":
            return short(f"{state(data.get('status'), finished=True)}: {words(data.get('error')) or data.get('output') or ''}")
    if one.kind.partition(".")[0] in {"node", "step", "call"}:
        return _part(data)
    if one.kind.partition(".")[0] in {"child", "pool"}:
        return _of_pool(data)
    return short(str(data.get("text") or data.get("output") or data.get("question") or words(data.get("error"))))


def _part(data: Mapping[str, Any]) -> str:
    """Return what an event says of a part of a run: its name, what it became, what it is about."""
    planned = data.get("steps")
    if isinstance(planned, list):
        return short(", ".join(str(row.get("id")) for row in planned if isinstance(row, dict)))
    name, became = data.get("node") or data.get("id") or data.get("agent") or "", data.get("state") or ""
    about = data.get("task") or data.get("output") or words(data.get("error")) or ""
    return short(f"{f'{name} {became}'.strip()}{f': {about}' if about else ''}")


def _of_pool(data: Mapping[str, Any]) -> str:
    """Return what an event says of a child of a supervisor, or of its children."""
    children = data.get("children")
    if isinstance(children, list):
        return short(", ".join(str(child) for child in children))
    told = [f"{key} {data[key]}" for key in ("pid", "status", "crashes", "window_s") if data.get(key) is not None]
    return short(" ".join([str(data.get("child") or ""), str(data.get("reason") or ", ".join(told))]).strip())


# -- pipelines and bills -----------------------------------------------------------------------------------------------------------


def pipeline(found: Pipeline) -> str:
    """Return a pipeline as a table in the order of its stages; agents that another one called stand beneath it."""
    depth = _depths(found.stages)
    rows = [("STAGE", "RUN", "STATE", "USD", "JOINED BY")]
    for stage in found.stages:
        became = "-" if stage.status is None and stage.started is None else state(stage.status, finished=stage.finished is not None)
        many = f" x{stage.runs}" if stage.runs > 1 else ""
        joined = {"": "-", "group": "pipe, other programs between"}.get(stage.via, stage.via)
        cost = "unknown" if stage.cost_usd is None else stage.cost_usd
        rows.append((f"{'  ' * depth[stage.run_id]}{short(stage.agent)}{many}", stage.run_id or "-", became, cost, joined))
    cost = "price unknown" if found.cost_usd is None else f"{found.cost_usd} USD"
    stages = "1 stage" if len(found.stages) == 1 else f"{len(found.stages)} stages"
    return f"{columns(rows)}\n\ntrace {found.trace}: {stages}, {cost}"


def _depths(stages: Sequence[Stage]) -> dict[str, int]:
    """Return how deep each run was called (a stage of a pipe: 0)."""
    depths: dict[str, int] = {}
    for stage in stages:
        depths[stage.run_id] = (
            depths.get(stage.after, 0) + 1 if stage.via == "peer" else depths.get(stage.after, 0) if stage.via else 0
        )
    return depths


def bills(found: Sequence[Bill], total: Bill, by: str) -> str:
    """Return bills as a table with their sum."""
    head = (by.upper(), "RUNS", "CALLS", "TOKENS IN", "TOKENS OUT", "USD")
    return columns([head, *(_bill(bill) for bill in (*found, total))])


def _bill(bill: Bill) -> tuple[str, ...]:
    tokens = ("?" if amount is None else f"{amount:,}" for amount in (bill.input_tokens, bill.output_tokens))
    calls = "1 call" if bill.unknown_calls == 1 else f"{bill.unknown_calls} calls"
    cost = bill.known_usd + (f" and {calls} of unknown price" if bill.unknown_calls else "")
    return (short(bill.name) or "-", str(bill.runs), str(bill.calls), *tokens, cost)


# -- metrics, audit, limits --------------------------------------------------------------------------------------------------------


def numbers(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return snapshots as a table: one column an agent."""
    if not rows:
        return ""
    names = [
        "total_sessions", "runs_unfinished", "total_steps", "total_tokens_in", "total_tokens_out", "tool_call_count",
        "tool_failure_count", "tool_denials", "failure_rate", "tool_calls_per_session", "most_called_tool", "avg_step_latency_ms",
        "agent_inferences_total", "agent_errors_total", "retries", "peak_memory_kb", "agent_memory_entries", "known_usd",
        "unpriced_calls",
    ]  # fmt: skip
    table = [("METRIC", *(short(str(row.get("agent") or "ALL")) for row in rows))] if len(rows) > 1 or rows[0]["agent"] else []
    return columns(
        [*table, *((name, *(_cell(row.get(name)) for row in rows)) for name in names if any(name in row for row in rows))]
    )


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else short(str(value))


def audit(found: Sequence[Entry]) -> str:
    """Return the audit as a table."""
    rows = [("TIME", "RUN", "AGENT", "WHAT", "NAME", "ALLOWED", "BY", "DETAIL")]
    for entry in found:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.time))
        allowed = {True: "yes", False: "no", None: "-"}[entry.allowed]
        name = short(entry.name) or "-"
        rows.append(
            (when, entry.run, short(entry.agent) or "-", entry.what, name, allowed, entry.by or "-", short(entry.detail)[:160])
        )
    return columns(rows)


def verdict(found: Verdict) -> str:
    """Return in one line whether the record is whole."""
    if found.bad is not None:
        bad = found.bad
        place = f"entry {bad.entry}" if bad.entry else "the store"
        where = f" (event {bad.seq}, {short(bad.kind)} of run {short(bad.run)}, step {short(bad.path) or '-'})" if bad.seq else ""
        return f"not whole: {place}{where}: {bad.reason}"
    older = f" after {found.before:,} older events" if found.before else ""
    sealed = "seals right" if found.sealed else "seals not checked"
    heads = "1 head from outside fits" if found.heads == 1 else f"{found.heads:,} heads from outside fit"
    return f"whole: {found.entries:,} entries{older}, {sealed}, {heads}"


def limits(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the readings of limits as a table."""
    rows = [("LIMIT", "OF", "USED", "CAPACITY", "PERCENT", "WAITING", "STATE")]
    for row in found:
        used, capacity = (f"{round(float(row[name]), 3):,}".removesuffix(".0") for name in ("used", "capacity"))
        percent = "-" if row["percent"] is None else f"{row['percent']:g}"
        rows.append((short(str(row["limit"])), short(str(row["of"])) or "-", used, f"{capacity} {row['unit']}", percent,
                     str(row["waiting"]), row["state"] or "-"))  # fmt: skip
    return columns(rows)
