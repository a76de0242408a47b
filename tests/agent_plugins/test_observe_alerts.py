"""Alerts: which rules fire, and that a rule which could never fire is refused."""

from __future__ import annotations

import os
import time
from decimal import Decimal

import pytest

from agent_core import lineage
from agent_core.errors import ConfigError
from agent_core.events import Event
from agent_core.store import open_store
from agent_plugins.observe import alerts

NOW = 10_000.0


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "agents.db")
    yield store
    store.close()


def record(store, run="r1", agent="writer", status=0, cost=2 * 10**11, at=9000.0, **start):
    store.append(
        Event("run.started", run, time=at, data={"agent": agent, "input": "x", **start}),
        Event("model.replied", run, "0", at + 1, {"model": "m", "usage": {"input_tokens": 5, "output_tokens": 1}, "cost": cost, "wall_ms": 1000.0, "message": {}}),
        Event("tool.finished", run, "1.0", at + 2, {"name": "t", "error": "permanent", "wall_ms": 1.0}),
        Event("metric", run, "2", at + 2, {"name": "pages", "value": 3}),
    )  # fmt: skip
    if status is not None:
        store.append(Event("run.finished", run, time=at + 3, data={"status": status, "peak_memory_kb": 100}))


def rule(metric, **more):
    rows = "".join(f"{name} = {value!r}\n" for name, value in {"metric": metric, **more}.items())
    return alerts.read(f"[[alert]]\n{rows}", "rules.toml")


def fired(store, metric, **more):
    return [alert.text for alert in alerts.fired(rule(metric, **more), store, NOW)]


@pytest.mark.parametrize(
    ("metric", "limit", "value"),
    [
        ("cost_usd", "0.39", "0.4"), ("failure_rate", 0.5, "1"), ("total_steps", 1, "2"), ("agent_errors_total", 2, "3"), ("runs_failed", 0, "1"),
        ("run_failure_rate", 0.4, "0.5"), ("avg_inference_latency_ms", 999, "1000"), ("custom.pages_total", 5, "6"), ("peak_memory_kb", 99, "100"),
    ],
)  # fmt: skip
def test_a_rule_fires_above_its_limit_and_not_at_it(store, metric, limit, value):
    record(store)
    record(store, "r2", status=1)

    assert fired(store, metric, above=limit) == [f"{metric}: {metric} is {value}, above {limit}"]
    assert fired(store, metric, above=value) == []
    assert fired(store, metric, below="1000000") != []


def test_money_is_compared_exactly(store):
    record(store, cost=100_000_000_001)

    assert fired(store, "cost_usd", above="0.1") == ["cost_usd: cost_usd is 0.100000000001, above 0.1"]
    assert fired(store, "cost_usd", above="0.100000000001") == []


def test_an_unknown_price_is_said_and_what_is_known_counts(store):
    record(store)
    record(store, "r2", cost=None)

    assert fired(store, "cost_usd", above="0.1") == ["cost_usd: cost_usd is 0.2 and 1 calls of unknown price, above 0.1"]
    assert fired(store, "unpriced_calls", above=0) != []


def test_a_rule_may_be_about_one_agent_and_a_time(store):
    record(store)
    record(store, "r2", "critic", at=1000.0)

    assert fired(store, "total_sessions", above=0, agent="critic") == ["total_sessions: total_sessions of critic is 1, above 0"]
    assert fired(store, "total_sessions", above=1) != []
    assert fired(store, "total_sessions", above=1, since="1h") == []
    assert fired(store, "total_sessions", above=0, agent="nobody") == []


def test_what_is_not_known_yet_fires_nothing(store):
    assert fired(store, "failure_rate", below=1) == []
    assert fired(store, "custom.nothing", below=1) == []


def test_a_run_is_stuck_when_it_tells_nothing_or_its_process_is_gone(store):
    here = lineage.facts()
    record(store, "quiet", status=None, at=NOW - 700)
    record(store, "busy", status=None, at=NOW - 60, lineage=here)
    record(store, "killed", status=None, at=NOW - 60, lineage={**here, "ticks": here["ticks"] - 1})
    record(store, "elsewhere", status=None, at=NOW - 60, lineage={**here, "boot": "other", "ns": "pid:[1]"})
    record(store, "done", at=NOW - 700)
    record(store, "parked", status=5, at=NOW - 700)

    assert fired(store, "stuck_runs", above=0) == ["stuck_runs: stuck_runs is 2, above 0"]
    assert fired(store, "stuck_runs", above=0, idle="20s") == ["stuck_runs: stuck_runs is 4, above 0"]
    assert fired(store, "waiting_runs", above=0) == ["waiting_runs: waiting_runs is 1, above 0"]
    assert os.getpid() == here["pid"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no alerts"), ("x = 1", "holds no alerts"), ("[[alert]", "is no TOML"), ("alert = 5", "holds no alerts"), ("alert = [1]", "metric is missing"),
        ('[[alert]]\nmetric = "cost"\nabove = 1', "cost_usd"), ('[[alert]]\nmetric = "cost_usd"', "above"),
        ('[[alert]]\nmetric = "cost_usd"\nabove = 1\nbelow = 2', "either"), ('[[alert]]\nmetric = "cost_usd"\nabove = "much"', "is no number"),
        ('[[alert]]\nmetric = "cost_usd"\nabove = nan', "is no number"), ('[[alert]]\nmetric = "cost_usd"\nabove = true', "is no number"),
        ('[[alert]]\nmetric = "cost_usd"\nabove = 1\nsince = "soon"', "is no time"), ('[[alert]]\nmetric = "cost_usd"\nabove = 1\nage = 1', "agent"),
        ('[[alert]]\nmetric = "cost_usd"\nabove = 1\nname = 5', "is no text"), ("a = " + "[" * 5000, "is no TOML"),
    ],
)  # fmt: skip
def test_a_rule_that_is_not_understood_is_refused(text, words):
    with pytest.raises(ConfigError) as error:
        alerts.read(text, "rules.toml")

    assert words in error.value.line()
    assert str(error.value).startswith("rules.toml")


def test_rules_are_read_with_their_defaults():
    (made,) = alerts.read('[[alert]]\nname = "too\\ndear"\nmetric = "cost_usd"\nabove = 0.10\nidle = 30\nsince = "1d"', "f")

    assert made == alerts.Rule("too dear", "cost_usd", Decimal("0.10"), idle=30.0, since=86400.0)
    assert alerts.Alert(made, Decimal("0.25")).data() == {
        "name": "too dear", "metric": "cost_usd", "agent": None, "value": "0.25", "above": "0.1", "text": "too dear: cost_usd is 0.25, above 0.1",
    }  # fmt: skip
    assert time.time() > NOW
