"""Tests of live rows: heartbeats keep them, time ends them, measured runs give latency and cost."""

from __future__ import annotations

import json
import threading
import time

import pytest

from agent_core.errors import UsageError
from agent_core.events import Event
from agent_core.store import open_store
from agent_plugins.discovery import live
from agent_plugins.discovery.live import Advertisement


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "agents.db")
    yield store
    store.close()


def test_a_heartbeat_registers_and_the_next_one_renews(store):
    first = live.heartbeat(store, Advertisement("m-1", "monitor", ("watch",), "unix:/run/m.sock"))
    second = live.heartbeat(store, Advertisement("m-1", "monitor", ("watch",), health="degraded"))

    assert second.registered_at == first.registered_at
    assert second.last_heartbeat >= first.last_heartbeat
    (row,) = live.rows(store)
    assert (row.agent_id, row.agent_name, row.capabilities, row.health) == ("m-1", "monitor", ("watch",), "degraded")


def test_a_row_that_is_not_renewed_ends_after_60_seconds(store):
    live.heartbeat(store, Advertisement("m", "monitor"))
    now = time.time()

    assert len(live.rows(store, now + 59)) == 1
    assert live.rows(store, now + 61) == []
    assert live.evict(store, now + 61) == 1
    assert live.rows(store, now) == []


def test_a_row_that_ended_and_begins_again_has_a_new_registration(store):
    first = live.heartbeat(store, Advertisement("m", "monitor"), ttl=0.01)
    time.sleep(0.02)

    assert live.heartbeat(store, Advertisement("m", "monitor")).registered_at > first.registered_at


def test_rows_go_by_id_or_all_of_a_name(store):
    for each in ("a", "b", "c"):
        live.heartbeat(store, Advertisement(each, "monitor" if each != "c" else "other"))

    assert live.deregister(store, "a") == 1
    assert live.deregister(store, "monitor") == 1
    assert live.deregister(store, "nope") == 0
    assert [row.agent_id for row in live.rows(store)] == ["c"]


BAD = {
    "a name with a slash": (Advertisement("x", "../x"), 60),
    "an unknown health": (Advertisement("x", "x", health="fine"), 60),
    "no id": (Advertisement("", "x"), 60),
    "an endless endpoint": (Advertisement("x", "x", endpoint="u" * 501), 60),
    "no time to live": (Advertisement("x", "x"), 0),
    "no number": (Advertisement("x", "x"), float("nan")),
    "for ever": (Advertisement("x", "x"), 1e9),
}


@pytest.mark.parametrize(("advertisement", "ttl"), BAD.values(), ids=BAD)
def test_a_heartbeat_is_refused_for(advertisement, ttl, store):
    with pytest.raises(UsageError):
        live.heartbeat(store, advertisement, ttl)
    assert live.rows(store) == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"agent_id": "x", "agent_name": "../x", "capabilities": []}', '{"capabilities": 7}']
)
def test_a_row_that_somebody_else_wrote_wrongly_is_left_out(text, store):
    store.item_put(live.NAMESPACE, "bad", text)
    live.heartbeat(store, Advertisement("good", "monitor"))

    assert [row.agent_id for row in live.rows(store)] == ["good"]


def test_many_heartbeats_at_once_all_succeed(store):
    errors = []

    def beat(number):
        try:
            live.heartbeat(store, Advertisement(f"m-{number}", "monitor"))
        except Exception as error:  # noqa: BLE001 - asserted below
            errors.append(error)

    workers = [threading.Thread(target=beat, args=(number,)) for number in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert errors == []
    assert len(live.rows(store)) == 16


def ran(store, run, seconds, cost, status=0, agent="writer"):
    store.append(
        Event("run.started", run, time=1000.0, data={"agent": agent, "input": "x"}),
        Event("run.finished", run, time=1000.0 + seconds, data={"agent": agent, "status": status, "usage": {"cost_usd": cost}}),
    )


def test_latency_and_cost_are_means_of_runs_that_ended_well(store):
    ran(store, "r1", 0.2, "0.01")
    ran(store, "r2", 0.4, "0.03")
    ran(store, "r3", 90.0, "9", status=1)
    ran(store, "r4", 90.0, "9", agent="other")

    latency, cost = live.measured(store, "writer")
    assert latency == pytest.approx(300, abs=0.1)
    assert cost == pytest.approx(0.02)


def test_what_was_never_measured_is_unknown(store):
    ran(store, "r1", 0.2, None)

    assert live.measured(store, "writer")[1] is None
    assert live.measured(store, "nobody") == (None, None)


def test_a_row_is_plain_json(store):
    live.heartbeat(store, Advertisement("m", "monitor", ("a", "b")))

    assert json.loads(store.item_get(live.NAMESPACE, "m"))["capabilities"] == ["a", "b"]
