"""snapshot - metrics as plain numbers, of one agent or of all, by the names people ask for.

snapshot(measure(store.stream(), agents), "writer")["failure_rate"]
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from agent_plugins.observe.metrics import OWN, Families, Family, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def agents_of(found: Families) -> list[str]:
    """Return the agents that anything was measured of."""
    return sorted({dict(key).get("agent", "") for family in found.values() for key in family.series} - {""})


def snapshot(found: Families, agent: str | None = None) -> dict[str, Any]:
    """Return plain numbers, of one agent or (None) of all. Rates are parts of 1; None where there was nothing to divide by."""
    mine = {"agent": agent} if agent is not None else {}
    calls, denied = found["agent_tool_calls_total"], {"outcome": "denied"}
    tool_calls = calls.total(**mine)
    failures = tool_calls - calls.total(**mine, outcome="ok")
    by_tool = _by(calls, "tool", mine)
    top = max(by_tool, key=lambda name: (by_tool[name], name), default=None)
    sessions = found["agent_sessions_total"].total(**mine)
    steps = _tally(found["agent_step_latency_seconds"], mine)
    rates = {name: _rate(count - calls.total(**mine, tool=name, outcome="ok"), count) for name, count in sorted(by_tool.items())}
    return {
        "agent": agent,
        "session_start": min(_values(found["agent_session_start_seconds"], mine), default=None),
        "total_sessions": sessions,
        "total_steps": found["agent_steps_total"].total(**mine),
        "total_tokens_in": found["agent_tokens_total"].total(**mine, direction="input"),
        "total_tokens_out": found["agent_tokens_total"].total(**mine, direction="output"),
        "unreported_calls": found["agent_unreported_calls_total"].total(**mine),
        "tool_call_count": tool_calls, "tool_calls_made": tool_calls, "agent_tool_calls_total": tool_calls,
        "tool_failure_count": failures, "tool_call_failures": failures, "tool_denials": calls.total(**mine, **denied),
        "failure_rate": _rate(failures, tool_calls),
        "failure_rate_for": rates, "tool_calls_per_session": _rate(tool_calls, sessions),
        "top_called_tool": top, "most_called_tool": top,
        "avg_step_latency_ms": round(steps.sum / steps.count * 1000, 3) if steps.count else None,
        "agent_inferences_total": found["agent_inferences_total"].total(**mine),
        "agent_inference_latency_ms": _in_ms(found["agent_inference_latency_seconds"], mine),
        "agent_errors_total": found["agent_errors_total"].total(**mine),
        "errors": _by(found["agent_errors_total"], "kind", mine),
        "retries": found["agent_retries_total"].total(**mine),
        "runs": _by(found["agent_runs_total"], "status", mine),
        "runs_unfinished": found["agent_runs_unfinished"].total(**mine),
        **_bill(found, mine),
        "peak_memory_kb": max((value // 1024 for value in _values(found["agent_peak_memory_bytes"], mine)), default=None),
        **(_of_memory(found) if agent is None else {}),
        "custom": _of_plugins(found, mine),
    }  # fmt: skip


def _bill(found: Families, mine: Mapping[str, str]) -> dict[str, Any]:
    known = format(Decimal(found["agent_cost_usd_total"].total(**mine)), "f")
    unpriced = found["agent_unpriced_calls_total"].total(**mine)
    return {"cost_usd": None if unpriced else known, "known_usd": known, "unpriced_calls": unpriced}


def _of_memory(found: Families) -> dict[str, Any]:
    entries = found["agent_memory_entries"]
    return {
        "agent_memory_entries": entries.total(), "memory_entries": _by(entries, "kind", {}),
        "consolidation_runs_total": found["consolidation_runs_total"].total(),
        "memories_consolidated_total": found["memories_consolidated_total"].total(),
    }  # fmt: skip


def _of_plugins(found: Families, mine: Mapping[str, str]) -> dict[str, Any]:
    own = (family for family in found.values() if family.name not in OWN)
    wanted = set(mine.items())
    return {
        family.name: [{"labels": dict(key), "value": _plain(value)} for key, value in family.series.items() if wanted <= set(key)]
        for family in own
    }


def _plain(value: Any) -> Any:
    return {"count": value.count, "sum": value.sum} if isinstance(value, Tally) else value


def _values(family: Family, labels: Mapping[str, str]) -> list[Any]:
    wanted = set(labels.items())
    return [value for key, value in family.series.items() if wanted <= set(key)]


def _by(family: Family, label: str, labels: Mapping[str, str]) -> dict[str, Any]:
    wanted, made = set(labels.items()), dict[str, Any]()
    for key, value in sorted(family.series.items()):
        if wanted <= set(key):
            name = dict(key).get(label, "")
            made[name] = made.get(name, 0) + value
    return made


def _tally(family: Family, labels: Mapping[str, str]) -> Tally:
    """Return the series of a histogram with these labels as one."""
    whole = Tally([0] * (len(family.bounds) + 1))
    for tally in _values(family, labels):
        whole.buckets = [one + more for one, more in zip(whole.buckets, tally.buckets, strict=True)]
        whole.count, whole.sum = whole.count + tally.count, whole.sum + tally.sum
    return whole


def _in_ms(family: Family, labels: Mapping[str, str]) -> dict[str, Any]:
    tally = _tally(family, labels)
    places = {f"{bound * 1000:g}": count for bound, count in zip(family.bounds, tally.buckets, strict=False)}
    average = round(tally.sum / tally.count * 1000, 3) if tally.count else None
    return {
        "count": tally.count,
        "sum": round(tally.sum * 1000, 3),
        "avg": average,
        "buckets": {**places, "+Inf": tally.buckets[-1]},
    }


def _rate(part: Any, whole: Any) -> float | None:
    return round(part / whole, 6) if whole else None


def merged(found: Families, without: Sequence[str] = ("agent",)) -> Families:
    """Return the families with some labels summed away; of peaks the highest counts, of starts the first."""
    made: Families = {}
    for name, family in found.items():
        whole = Family(name, family.kind, family.help, family.bounds)
        for key, value in family.series.items():
            place = tuple(pair for pair in key if pair[0] not in without)
            old = whole.series.get(place)
            whole.series[place] = value if old is None else _together(name, old, value)
        made[name] = whole
    return made


def _together(name: str, one: Any, more: Any) -> Any:
    if isinstance(one, Tally):
        buckets = [a + b for a, b in zip(one.buckets, more.buckets, strict=True)]
        return Tally(buckets, one.count + more.count, one.sum + more.sum)
    ways: dict[str, Callable[[Any, Any], Any]] = {"agent_peak_memory_bytes": max, "agent_session_start_seconds": min}
    return ways[name](one, more) if name in ways else one + more


def only(found: Families, agent: str) -> Families:
    """Return the families with the series of one agent, and those of nobody."""
    made: Families = {}
    for name, family in found.items():
        kept = {key: value for key, value in family.series.items() if dict(key).get("agent", agent) == agent}
        made[name] = Family(name, family.kind, family.help, family.bounds, kept)
    return made
