"""alerts - thresholds on metrics, from a TOML file.

    [[alert]]
    name = "too dear"
    metric = "cost_usd"        # a number of `agent-log metrics`, or one of SPECIAL
    above = "0.50"             # or `below`
    agent = "writer"           # only that agent's
    since = "1d"               # only what happened in that time

    [[alert]]
    name = "stuck"
    metric = "stuck_runs"
    above = 0
    idle = "10m"               # a run is stuck when it has told nothing for that long, or its process is gone

A number that is not known yet (the failure rate where no tool was called) fires nothing; a cost with unknown prices counts with
what is known of it, and that is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from agent_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent_core.store import Store

IDLE = 600.0
SPECIAL = ("stuck_runs", "waiting_runs", "runs_failed", "run_failure_rate", "avg_inference_latency_ms")
PLAIN = (
    "cost_usd", "unpriced_calls", "failure_rate", "tool_failure_count", "tool_call_count", "tool_denials", "tool_calls_per_session",
    "avg_step_latency_ms", "agent_inferences_total", "agent_errors_total", "agent_memory_entries", "retries", "runs_unfinished",
    "total_steps", "total_sessions", "total_tokens_in", "total_tokens_out", "unreported_calls", "peak_memory_kb",
)  # fmt: skip
_FIELDS = frozenset({"name", "metric", "above", "below", "agent", "since", "idle"})


@dataclass(frozen=True, slots=True)
class Rule:
    """One threshold. `since` and `idle` are seconds, `since` 0: all there is."""

    name: str
    metric: str
    limit: Decimal
    above: bool = True
    agent: str = ""
    since: float = 0.0
    idle: float = IDLE


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule that fires, and the value that made it."""

    rule: Rule
    value: Decimal
    note: str = ""

    @property
    def text(self) -> str:
        """It in one line."""
        side = "above" if self.rule.above else "below"
        of = f" of {self.rule.agent}" if self.rule.agent else ""
        return f"{self.rule.name}: {self.rule.metric}{of} is {_shown(self.value)}{self.note}, {side} {_shown(self.rule.limit)}"

    def data(self) -> dict[str, Any]:
        """Return it as plain data; numbers are decimal strings."""
        rule = self.rule
        side = {"above" if rule.above else "below": _shown(rule.limit)}
        return {
            "name": rule.name, "metric": rule.metric, "agent": rule.agent or None, "value": _shown(self.value), **side,
            "text": self.text,
        }  # fmt: skip


def _shown(value: Decimal) -> str:
    from agent_plugins.observe.exposition import number

    return number(value)


def read(text: str, where: str) -> list[Rule]:
    """Return the rules of a TOML text. ConfigError for anything that is not understood: an alert that never fires is worse."""
    import tomllib

    try:
        data = tomllib.loads(text, parse_float=Decimal)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{where} is no TOML: {error}") from None
    rows = data.get("alert")
    if set(data) - {"alert"} or not isinstance(rows, list) or not rows:
        raise ConfigError(f"{where} holds no alerts", hint="one [[alert]] table for each: name, metric, above or below")
    return [_rule(row, f"{where}, alert {number}") for number, row in enumerate(rows, 1)]


def _rule(row: Any, where: str) -> Rule:
    from agent_core.options import unknown

    if not isinstance(row, dict) or not isinstance(row.get("metric"), str):
        raise ConfigError(f"{where}: metric is missing", hint=f"one of {', '.join((*SPECIAL, *PLAIN[:4]))} …")
    for name in row:
        if name not in _FIELDS:
            raise ConfigError(f"{where}: {unknown('field', name, sorted(_FIELDS)).line()}")
    metric = row["metric"]
    if metric not in (*PLAIN, *SPECIAL) and not metric.startswith("custom."):
        raise ConfigError(f"{where}: {unknown('metric', metric, (*PLAIN, *SPECIAL)).line()}")
    sides = [side for side in ("above", "below") if side in row]
    if len(sides) != 1:
        raise ConfigError(f"{where}: either `above` or `below`", hint='for example above = "0.50"')
    limit = _number(row[sides[0]], f"{where}: {sides[0]}")
    times = {name: _seconds(row[name], f"{where}: {name}") for name in ("since", "idle") if name in row}
    name = _text(row.get("name", metric), f"{where}: name")
    return Rule(name, metric, limit, sides[0] == "above", _text(row.get("agent", ""), f"{where}: agent"), **times)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{where} is no text")
    return " ".join(value.split())


def _number(value: Any, where: str) -> Decimal:
    try:
        number = Decimal(str(value)) if isinstance(value, int | str | Decimal) and not isinstance(value, bool) else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite():
        raise ConfigError(f"{where} is no number", hint='for example 3, 0.25 or "0.25"')
    return number


def _seconds(value: Any, where: str) -> float:
    from agent_core.errors import UsageError
    from agent_core.options import Option, convert

    try:
        return float(convert(Option("time", "", "seconds", low=0), str(value)))
    except UsageError:
        raise ConfigError(f"{where} is no time", hint='for example "10m", "1d" or 30') from None


def fired(rules: Iterable[Rule], store: Store, now: float) -> list[Alert]:
    """Return the alerts of the rules that fire, in their order."""
    found = [_judged(rule, store, now) for rule in rules]
    return [alert for alert in found if alert is not None]


def _judged(rule: Rule, store: Store, now: float) -> Alert | None:
    value, note = _value(rule, store, now)
    if value is None:
        return None
    fires = value > rule.limit if rule.above else value < rule.limit
    return Alert(rule, value, note) if fires else None


def _value(rule: Rule, store: Store, now: float) -> tuple[Decimal | None, str]:
    if rule.metric in {"stuck_runs", "waiting_runs"}:
        return Decimal(len(_stuck(rule, store, now) if rule.metric == "stuck_runs" else _waiting(rule, store))), ""
    from agent_plugins.observe import measured

    numbers = measured.numbers(store, now - rule.since if rule.since else 0.0, rule.agent or None)
    if rule.metric == "cost_usd" and numbers["cost_usd"] is None:
        return Decimal(numbers["known_usd"]), f" and {numbers['unpriced_calls']} calls of unknown price"
    found = _special(rule.metric, numbers) if rule.metric in SPECIAL else numbers.get(rule.metric)
    if rule.metric.startswith("custom."):
        rows = numbers["custom"].get(rule.metric.removeprefix("custom."), [])
        found = sum((Decimal(str(_plain(row["value"]))) for row in rows), Decimal(0)) if rows else None
    return (None if found is None else Decimal(str(found))), ""


def _plain(value: Any) -> Any:
    return value["count"] if isinstance(value, dict) else value


def _special(metric: str, numbers: Mapping[str, Any]) -> Any:
    from agent_plugins.observe.metrics import GOOD

    runs: Mapping[str, int] = numbers["runs"]
    failed = sum(count for status, count in runs.items() if status not in {str(each) for each in GOOD})
    ended = sum(runs.values())
    ways = {
        "runs_failed": failed, "run_failure_rate": failed / ended if ended else None,
        "avg_inference_latency_ms": numbers["agent_inference_latency_ms"]["avg"],
    }  # fmt: skip
    return ways[metric]


def _stuck(rule: Rule, store: Store, now: float) -> list[str]:
    """Return the unfinished runs that have told nothing for a while. One whose process is gone was cut off: it is stuck at once."""
    found = []
    for run in store.runs(None, rule.agent or None):
        if run.finished is None and (not rule.since or run.started >= now - rule.since):
            events = store.events(run.id)
            last = max((event.time for event in events), default=run.started)
            if now - last >= rule.idle or _is_gone(events):
                found.append(run.id)
    return found


def _is_gone(events: Any) -> bool:
    """Return whether the process that the run was last seen in has ended, as far as that can be known here."""
    from agent_core import lineage

    start = next((event for event in reversed(events) if event.kind == "run.started"), None)
    return start is not None and start.data.get("fork_at") is None and lineage.is_gone(start.data.get("lineage"))


def _waiting(rule: Rule, store: Store) -> list[str]:
    return [run.id for run in store.runs(None, rule.agent or None) if run.finished is not None and run.status == 5]
