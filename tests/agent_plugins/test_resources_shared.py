"""Limits hold among processes: through the store, and through a real Redis where there is one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent_core.errors import ConfigError, StoreError
from agent_core.store import open_store
from agent_plugins.resources import gates, limits, shared
from agent_plugins.resources.readings import readings

ROOT = Path(__file__).resolve().parents[2]

WORKER = """
import sys, time
from pathlib import Path
from agent_core import guards
from agent_core.store import open_store
from agent_plugins.resources import gates, shared

kind, address, most, rounds, log = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
place = shared.in_redis(address, {}) if kind == "redis" else shared.InStore(open_store(Path(address)))
gate = gates.Places(gates.Manner(place), lambda _name: most)
for number in range(rounds):
    call = guards.Outward("ask", "m", str(number))
    while isinstance(decision := gate.before(call, 0, time.monotonic()), guards.Delay):
        time.sleep(decision.seconds)
    assert decision is guards.PROCEED, decision
    with open(log, "a") as file:
        file.write("+")
        file.flush()
        if rounds == 1:
            time.sleep(60)
        time.sleep(0.01)
        file.write("-")
    gate.after(call, "done", 0, time.monotonic())
"""


def worker(*args):
    return subprocess.Popen([sys.executable, "-c", WORKER, *map(str, args)], env={"PYTHONPATH": str(ROOT), "PATH": os.defpath})


def finish(processes):
    return [process.wait(60) for process in processes]


def deepest(marks):
    depth = most = 0
    for mark in marks:
        depth += 1 if mark == "+" else -1
        most = max(most, depth)
    return most, depth


# -- Redis ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis_address(tmp_path_factory):
    program = shutil.which("redis-server")
    pytest.importorskip("redis", reason="the extra `redis` is not installed")
    if program is None:
        pytest.skip("redis-server is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    args = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), "--requirepass", ""]
    process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(params=["store", "redis"])
def kind(request):
    return request.param


@pytest.fixture
def address(kind, tmp_path, request):
    if kind == "store":
        return str(tmp_path / "agents.db")
    found = request.getfixturevalue("redis_address")
    shared.in_redis(found, {}).client.flushall()
    return found


def opened(kind, address):
    return shared.in_redis(address, {}) if kind == "redis" else shared.InStore(open_store(Path(address)))


def test_processes_never_hold_more_places_than_there_are(kind, address, tmp_path):
    log = tmp_path / "log"
    assert finish([worker(kind, address, 2, 8, log) for _ in range(4)]) == [0] * 4

    marks = log.read_text()
    assert (len(marks), deepest(marks) <= (2, 0)) == (64, True)
    assert opened(kind, address).read("concurrency:m")["held"] == {}


def test_the_place_of_a_killed_process_is_free_at_once(kind, address, tmp_path):
    log = tmp_path / "log"
    first = worker(kind, address, 1, 1, log)
    end = time.monotonic() + 20
    while not log.exists() or not log.read_text():
        assert time.monotonic() < end
        time.sleep(0.01)
    place = opened(kind, address)
    gate = gates.Places(gates.Manner(place, waits=False), lambda _name: 1)
    from agent_core import guards

    assert isinstance(gate.before(guards.Outward("ask", "m", "k"), 0, time.monotonic()), guards.Refuse)
    first.send_signal(signal.SIGKILL)
    first.wait(10)

    assert gate.before(guards.Outward("ask", "m", "k"), 0, time.monotonic()) is guards.PROCEED


def test_no_change_is_lost_among_processes(kind, address):
    program = """
import sys
from pathlib import Path
from agent_core.store import open_store
from agent_plugins.resources import shared
place = shared.in_redis(sys.argv[2], {}) if sys.argv[1] == "redis" else shared.InStore(open_store(Path(sys.argv[2])))
for _ in range(50):
    place.change("k", lambda row: row.update(n=row.get("n", 0) + 1), 60)
"""
    args = [sys.executable, "-c", program, kind, address]
    env = {"PYTHONPATH": str(ROOT), "PATH": os.defpath}
    assert finish([subprocess.Popen(args, env=env) for _ in range(3)]) == [0] * 3

    assert opened(kind, address).read("k") == {"n": 150}


def test_rows_come_back_as_they_were_and_empty_ones_go(kind, address):
    place = opened(kind, address)
    assert place.read("rate:a") == {}
    assert place.change("rate:a", lambda row: row.update(used=1.5, queue={"é": [1]}) or "told", 60) == "told"
    assert place.read("rate:a") == place.rows()["rate:a"] == {"used": 1.5, "queue": {"é": [1]}}
    place.change("rate:a", lambda row: row.clear(), 60)
    assert place.rows() == {}


def test_a_row_ends_with_its_time(kind, address):
    place = opened(kind, address)
    place.change("k", lambda row: row.update(a=1), 0.05)
    time.sleep(0.08)

    assert place.read("k") == {}
    assert place.rows() == {}


def test_the_time_of_rows_is_seconds_since_1970(kind, address):
    assert time.monotonic() + opened(kind, address).offset == pytest.approx(time.time(), abs=2)


def test_a_change_that_fails_changes_nothing(kind, address):
    place = opened(kind, address)
    place.change("k", lambda row: row.update(a=1), 60)

    def fail(row):
        row["a"] = 2
        raise KeyError("no")

    with pytest.raises(KeyError):
        place.change("k", fail, 60)
    assert place.read("k") == {"a": 1}


def test_a_damaged_row_begins_anew(kind, address):
    place = opened(kind, address)
    if kind == "redis":
        place.client.set("agents:limits:k", b"[1,")
    else:
        place.store.item_put("limits", "k", "[1,")

    assert place.read("k") == {}
    assert place.change("k", lambda row: row.update(a=1) or dict(row), 60) == {"a": 1}


def test_readings_come_from_either(kind, address):
    place = opened(kind, address)
    now = time.time()
    place.change("rate:p/m", lambda row: limits.take(row, limits.Bucket(4, 1), 1, limits.Ticket("a", 1, now), now), 60)

    assert [(row.limit, row.of) for row in readings(place)] == [("rate", "p/m")]


def test_a_budget_of_a_day_is_kept_in_redis_too(redis_address):
    place = shared.in_redis(redis_address, {})
    place.client.flushall()
    budget = gates.daily_budget(100, None, gates.Manner(place), 0.0)
    _, row = budget.rows[0]
    assert row.reserve("a", 60, 100) is None
    assert row.reserve("b", 60, 100) == 40
    row.settle("a", 10)
    assert row.used() == 10
    assert readings(place) == []
    place.change(row.key, lambda kept: kept["open"].update(dead=[80, time.time() + 99, 4_000_000, 1, shared.me()[2]]), 60)
    assert row.used() == 10


def test_a_lease_on_another_machine_lasts_until_it_ends(redis_address):
    place = shared.in_redis(redis_address, {})

    assert place.alive([1, 1, "another-boot-pid:[1]"])
    assert place.alive(shared.me())
    assert not place.alive([4_000_000, 1, shared.me()[2]])


def test_a_lease_of_an_earlier_boot_of_this_machine_does_not(tmp_path):
    place = shared.InStore(open_store(tmp_path / "agents.db"))

    assert not place.alive([1, 1, "another-boot-pid:[1]"])
    assert place.alive(shared.me())


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1", "no address"), ("redis://", "no address"), ("redis://h:port/0", "no address"),
        ("redis://:secret@127.0.0.1:1/0", "holds a password"), ("redis://user:secret@127.0.0.1/0", "holds a password"),
        ("redis://[::1", "no address"),
    ],
)  # fmt: skip
def test_an_address_that_makes_no_sense_or_holds_a_password_is_refused_without_telling_it(url, words):
    with pytest.raises(ConfigError) as caught:
        shared.in_redis(url, {})

    assert words in str(caught.value)
    assert "secret" not in caught.value.line()


def test_a_redis_that_does_not_answer_is_an_error_not_a_missing_limit():
    pytest.importorskip("redis", reason="the extra `redis` is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(StoreError, match=r"the shared limits cannot be kept: 127\.0\.0\.1"):
        shared.in_redis(f"redis://127.0.0.1:{port}/0", {})


def test_a_password_comes_from_the_keys(redis_address):
    client = shared.in_redis(redis_address, {}).client
    client.config_set("requirepass", "pass-word-1")
    try:
        with pytest.raises(StoreError) as caught:
            shared.in_redis(redis_address, {})
        assert shared.in_redis(redis_address, {"REDIS_PASSWORD": "pass-word-1"}).read("nothing") == {}
        with pytest.raises(StoreError) as wrong:
            shared.in_redis(redis_address, {"REDIS_PASSWORD": "pass-word-2"})
        assert "pass-word" not in f"{caught.value.line()} {wrong.value.line()}"
    finally:
        shared.in_redis(redis_address, {"REDIS_PASSWORD": "pass-word-1"}).client.config_set("requirepass", "")
