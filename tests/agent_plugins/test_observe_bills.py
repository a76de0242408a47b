"""What runs cost: exact sums, unknown prices said, nothing counted twice."""

from __future__ import annotations

import pytest

from agent_core.events import Event
from agent_core.store import open_store
from agent_plugins.observe import bills


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "agents.db")
    yield store
    store.close()


def record(store, run, agent="a", at=1000.0, costs=(1,), **more):
    store.append(Event("run.started", run, time=at, data={"agent": agent, "input": "x"}))
    for place, cost in enumerate(costs):
        data = {"model": f"m-{agent}", "usage": {"input_tokens": 10, "output_tokens": 1}, "cost": cost, **more}
        store.append(Event("model.replied", run, str(place), at + place, data))


def rows(store, by="agent", since=0.0):
    return [
        (bill.name, bill.runs, bill.calls, bill.cost_usd, bill.known_usd) for bill in bills.bills(bills.entries(store, since), by)
    ]


def test_sums_are_exact_and_the_dearest_comes_first(store):
    record(store, "r1", costs=(100_000_000_001, 200_000_000_002))
    record(store, "r2", "b", costs=(1,) * 3)

    assert rows(store) == [("a", 1, 2, "0.300000000003", "0.300000000003"), ("b", 1, 3, "0.000000000003", "0.000000000003")]
    assert [name for name, *_ in rows(store, "model")] == ["m-a", "m-b"]
    assert bills.sum_of(bills.entries(store)).cost_usd == "0.300000000006"


def test_an_unknown_price_is_said_and_not_taken_for_nothing(store):
    record(store, "r1", costs=(5, None, None))
    whole = bills.sum_of(bills.entries(store))

    assert (whole.cost_usd, whole.known_usd, whole.unknown_calls) == (None, "0.000000000005", 2)


def test_what_a_fork_inherited_is_its_origins_and_an_answer_of_the_cache_is_free(store):
    record(store, "r1", costs=(5, 6))
    store.fork("r1", "1")
    record(store, "r2", costs=(7,), cached=True)

    assert bills.sum_of(bills.entries(store)).known_usd == "0.000000000011"


def test_a_bill_begins_where_it_is_told_to(store):
    record(store, "old", at=1000.0)
    record(store, "new", at=200_000.0)

    assert rows(store, "day", since=100_000.0)[0][1:3] == (1, 1)
    assert [name for name, *_ in rows(store, "day")] == sorted(name for name, *_ in rows(store, "day"))


def test_a_called_agent_is_counted_by_its_own_run_or_if_there_is_none_here_by_its_callers_note(store):
    record(store, "r1", costs=(1,))
    record(store, "peer1", "peer", costs=(2,))
    used = {"calls": 2, "cost_usd": "0.5", "input_tokens": 1, "output_tokens": 1}
    store.append(Event("call.finished", "r1", "1", 1001.0, {"facts": {"agent": "peer", "run": "peer1", "usage": used}}))
    store.append(Event("call.finished", "r1", "2", 1001.0, {"facts": {"agent": "far", "run": "elsewhere", "usage": used}}))
    odd = {"agent": "odd", "run": "", "usage": {"cost_usd": "-1", "calls": "many"}}
    store.append(
        Event("effect.failed", "r1", "3", 1001.0, {"facts": odd}), Event("effect.failed", "r1", "4", 1001.0, {"facts": "x"})
    )

    assert rows(store) == [("far", 1, 2, "0.5", "0.5"), ("peer", 1, 1, "0.000000000002", "0.000000000002"),
                           ("a", 1, 1, "0.000000000001", "0.000000000001"), ("odd", 1, 0, None, "0")]  # fmt: skip
