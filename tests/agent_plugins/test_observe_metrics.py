"""Metrics: what is counted, under which names, and whether Prometheus can read it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from decimal import Decimal

import pytest

from agent_core.events import Event
from agent_core.store import open_store
from agent_plugins.observe import exposition, measured, metrics, snapshot

USAGE = {"input_tokens": 100, "output_tokens": 10, "cached_input_tokens": 40}


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "agents.db")
    yield store
    store.close()


def replied(run, path, at, wall=1000.0, cost=10**9, **more):
    data = {"provider": "p", "model": "m", "usage": USAGE, "cost": cost, "wall_ms": wall, "message": {}, **more}
    return Event("model.replied", run, path, at, data)


def tool(run, path, at, name="search", error=None, wall=500.0):
    return Event("tool.finished", run, path, at, {"name": name, "error": error, "wall_ms": wall})


def record(store, run="r1", agent="writer", status=0, at=1000.0):
    """A run of two steps: a second for the model, half a second for the slower of two tools, then a quarter of a second."""
    events = [
        Event("run.started", run, time=at, data={"agent": agent, "input": "x"}),
        replied(run, "0", at + 1),
        tool(run, "1.0", at + 1.2),
        tool(run, "1.1", at + 1.5, error="permanent"),
        Event("model.failed", run, "2", at + 1.6, {"error": {"code": "x"}, "retry_in": 0.1}),
        replied(run, "2", at + 2, wall=250.0),
    ]
    if status is not None:
        events.append(Event("run.finished", run, time=at + 2.5, data={"status": status, "peak_memory_kb": 5000}))
    store.append(*events)


def test_a_snapshot_has_the_numbers_that_people_ask_for_by_these_names(store):
    record(store)
    record(store, "r2", status=1, at=2000.0)
    found = measured.numbers(store)

    assert {name: found[name] for name in (
        "total_sessions", "total_steps", "total_tokens_in", "total_tokens_out", "tool_call_count", "tool_calls_made",
        "tool_failure_count", "tool_call_failures", "failure_rate", "failure_rate_for", "tool_calls_per_session", "top_called_tool",
        "most_called_tool", "avg_step_latency_ms", "peak_memory_kb", "session_start", "agent_inferences_total", "agent_tool_calls_total",
        "agent_errors_total", "errors", "retries", "runs", "runs_unfinished", "cost_usd", "unpriced_calls", "agent_memory_entries",
        "consolidation_runs_total", "memories_consolidated_total",
    )} == {
        "total_sessions": 2, "total_steps": 4, "total_tokens_in": 400, "total_tokens_out": 40, "tool_call_count": 4, "tool_calls_made": 4,
        "tool_failure_count": 2, "tool_call_failures": 2, "failure_rate": 0.5, "failure_rate_for": {"search": 0.5},
        "tool_calls_per_session": 2.0, "top_called_tool": "search", "most_called_tool": "search", "avg_step_latency_ms": 875.0,
        "peak_memory_kb": 5000, "session_start": 1000.0, "agent_inferences_total": 4, "agent_tool_calls_total": 4,
        "agent_errors_total": 5, "errors": {"model": 2, "run": 1, "tool": 2}, "retries": 2, "runs": {"0": 1, "1": 1},
        "runs_unfinished": 0, "cost_usd": "0.004", "unpriced_calls": 0, "agent_memory_entries": 0, "consolidation_runs_total": 0,
        "memories_consolidated_total": 0,
    }  # fmt: skip
    assert found["agent_inference_latency_ms"]["count"] == 4
    assert found["agent_inference_latency_ms"]["avg"] == 625.0
    assert json.loads(json.dumps(found)) == found


def test_one_agent_is_measured_apart_from_the_others(store):
    record(store)
    record(store, "r2", "critic", status=None)
    one = measured.numbers(store, agent="critic")

    assert (one["agent"], one["total_sessions"], one["runs_unfinished"], one["peak_memory_kb"]) == ("critic", 1, 1, None)
    assert snapshot.agents_of(measured.families(store)) == ["critic", "writer"]


def test_the_same_numbers_come_out_of_the_raw_events(store):
    for number in range(5):
        record(store, f"r{number}", status=number % 2)
    found = measured.numbers(store)
    raw = [event for run in store.runs(None) for event in store.events(run.id)]
    kinds = Counter(event.kind for event in raw)

    assert found["agent_inferences_total"] == kinds["model.replied"]
    assert found["agent_tool_calls_total"] == kinds["tool.finished"]
    assert found["total_tokens_in"] == sum(event.data["usage"]["input_tokens"] for event in raw if event.kind == "model.replied")


def test_what_a_fork_inherited_is_not_measured_twice_and_a_cached_reply_has_no_latency_and_no_cost(store):
    record(store)
    store.fork("r1", "3")
    before = measured.numbers(store)
    store.append(replied("r1", "4", 1003.0, cached=True))
    after = measured.numbers(store)

    assert before["agent_inferences_total"] == 2
    assert after["agent_inferences_total"] == 3
    assert after["agent_inference_latency_ms"]["count"] == 2
    assert after["cost_usd"] == before["cost_usd"] == "0.002"


def test_an_unknown_price_and_unreported_tokens_are_said(store):
    record(store)
    store.append(replied("r1", "4", 1003.0, cost=None, usage={"input_tokens": None, "output_tokens": None}))
    found = measured.numbers(store)

    assert (found["cost_usd"], found["known_usd"], found["unpriced_calls"], found["unreported_calls"]) == (None, "0.002", 1, 1)


def test_only_what_happened_since_a_moment_is_measured(store):
    record(store)
    record(store, "r2", at=5000.0)

    assert measured.numbers(store, since=3000.0)["total_steps"] == 2


def test_money_stays_exact_over_many_small_amounts(store):
    store.append(Event("run.started", "r", time=1.0, data={"agent": "a", "input": "x"}))
    store.append(*(replied("r", str(2 * number), 2.0, cost=1) for number in range(1000)))

    assert measured.numbers(store)["cost_usd"] == "0.000000001000"
    assert 'agent_cost_usd_total{agent="a",model="m",provider="p"} 0.000000001\n' in exposition.text(measured.families(store))


def test_memory_is_counted_by_kind_without_what_has_ended(store):
    for key, row in {"1": {"text": "a"}, "2": {"text": "b", "ended": 5.0}}.items():
        store.item_put("memory/long/writer", key, json.dumps(row))
    store.item_put("memory/kv/writer", "k", json.dumps({"text": "c"}))
    store.append(Event("memory.evicted", "", time=1.0, data={"items": [{"id": "x"}]}))
    store.append(
        Event("memory.upkeep", "", time=1.0, data={"counts": {"consolidate": 7}}), Event("memory.upkeep", "", time=1.0, data={})
    )
    found = measured.numbers(store)

    assert (found["agent_memory_entries"], found["memory_entries"]) == (2, {"kv": 1, "long": 1})
    assert (found["consolidation_runs_total"], found["memories_consolidated_total"]) == (1, 7)


# --- types, and metrics of one's own


def test_counters_gauges_and_histograms_do_what_their_names_say():
    counter, gauge = metrics.Family("c_total", "counter", ""), metrics.Family("g", "gauge", "")
    counter.inc(tool="a")
    counter.inc(4, tool="a")
    gauge.set(5)
    gauge.inc()
    gauge.dec(2)
    histogram = metrics.Family("h", "histogram", "", (1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)

    assert (counter.get(tool="a"), counter.get(tool="b"), gauge.get()) == (5, None, 4)
    assert (histogram.get().buckets, histogram.get().count, histogram.get().sum) == ([2, 1, 1], 4, 12.0)
    with pytest.raises(ValueError, match="cannot fall"):
        counter.inc(-1)


def test_a_pattern_adds_metrics_with_notes_and_a_resumed_run_that_tells_them_again_adds_nothing(store):
    notes = [
        {"name": "pages read", "type": "counter", "value": 3, "labels": {"site": "a"}, "help": "Pages."},
        {"name": "queue", "type": "gauge", "value": 7},
        {"name": "wait", "type": "histogram", "value": 0.3, "bounds": [0.1, 1]},
        {"name": "agent_tool_calls_total", "value": 5}, {"name": "queue", "type": "counter", "value": "many"},
        {"name": "x", "type": "counter", "value": -1}, {"name": "", "type": "summary", "value": 1}, {"value": float("nan")}, {"labels": 3},
    ]  # fmt: skip
    for _ in range(2):
        store.append(Event("run.started", "r", time=1.0, data={"agent": "a", "input": "x"}))
        store.append(*(Event("metric", "r", str(place), 2.0, data) for place, data in enumerate(notes)))
    found = measured.families(store)

    assert found["pages_read_total"].get(agent="a", site="a") == 3
    assert (found["queue"].kind, found["queue"].get(agent="a"), found["wait"].bounds) == ("gauge", 7, (0.1, 1.0))
    assert found["agent_tool_calls_total"].total() == 0
    assert snapshot.snapshot(found)["custom"]["pages_read_total"] == [{"labels": {"agent": "a", "site": "a"}, "value": 3}]


def test_a_flood_of_labels_is_no_flood_of_series():
    family = metrics.Family("c_total", "counter", "")
    for number in range(metrics.MOST_SERIES + 500):
        family.inc(tool=f"t{number}")

    assert len(family.series) == metrics.MOST_SERIES + 1
    assert family.total() == metrics.MOST_SERIES + 500


# --- as Prometheus text


def hostile(store):
    record(store)
    record(store, "r2", 'ev"il\\age\nnt\x1b]0;x\x07\ud800', at=2000.0)
    store.append(tool("r2", "5.0", 2001.0, name='a"b\\c\nd'), Event("metric", "r2", "7", 2.0, {"name": "9 odd-name{}", "value": 2}))
    store.item_put("memory/long/x", "1", "{}")


@pytest.mark.parametrize("by_agent", [True, False])
def test_promtool_has_nothing_to_say_about_the_exposition(store, by_agent):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    hostile(store)
    found = measured.families(store)
    text = exposition.text(found if by_agent else snapshot.merged(found))
    done = subprocess.run([promtool, "check", "metrics"], input=text.encode(), capture_output=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_exposition_has_the_names_that_were_promised(store):
    record(store)
    text = exposition.text(measured.families(store))
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}

    assert {
        "agent_inferences_total", "agent_inference_latency_seconds", "agent_memory_entries", "agent_tool_calls_total", "agent_errors_total",
        "consolidation_runs_total", "memories_consolidated_total", "agent_cost_usd_total", "agent_peak_memory_bytes",
    } <= names  # fmt: skip
    assert "agent_inference_latency_ms_bucket" in exposition.text(measured.families(store), milliseconds=True)
    assert 'agent_tool_calls_total{agent="writer",outcome="error",tool="search"} 1\n' in text
    assert 'agent_inference_latency_seconds_bucket{agent="writer",le="0.25"} 1\n' in text
    assert 'agent_inference_latency_seconds_bucket{agent="writer",le="+Inf"} 2\n' in text


def test_an_empty_store_has_zeros_and_no_gauges_that_nobody_set(store):
    text = exposition.text(measured.families(store))

    assert "agent_tool_calls_total 0\n" in text
    assert "agent_memory_entries 0\n" in text
    assert "agent_peak_memory_bytes" not in text
    assert measured.numbers(store)["failure_rate"] is None


def test_labels_cannot_leave_their_quotes_and_hold_no_secret(store):
    from agent_core import redact

    redact.register("correct horse battery")
    hostile(store)
    store.append(tool("r1", "5.0", 2001.0, name="x correct horse battery"))
    lines = exposition.text(measured.families(store)).split("\n")

    assert "correct horse" not in "\n".join(lines)
    assert all(
        line == "" or line.startswith(("# ", "agent_", "consolidation_", "memories_", "_9_odd_name___total")) for line in lines
    )
    assert any(r'tool="a\"b\\c\nd"' in line for line in lines)


@pytest.mark.parametrize(
    ("value", "shown"), [(3, "3"), (0.25, "0.25"), (1e-7, "0.0000001"), (1e20, "100000000000000000000"), (Decimal("0.10"), "0.1"), (Decimal(0), "0"), (0.0, "0")]
)  # fmt: skip
def test_numbers_are_plain_decimals(value, shown):
    assert exposition.number(value) == shown


def test_the_dashboard_asks_for_metrics_that_exist():
    import re
    from pathlib import Path

    path = Path(metrics.__file__).parent / "grafana.json"
    asked = {
        name
        for panel in json.loads(path.read_text())["panels"]
        for target in panel["targets"]
        for name in re.findall(r"agent_\w+", target["expr"])
    }

    assert asked
    assert {name.removesuffix("_bucket") for name in asked} <= metrics.OWN
