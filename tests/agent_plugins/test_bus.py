"""The bus: each message once to everyone it is meant for, and what is lost is counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent_core.errors import InputError, UsageError
from agent_core.store import open_store
from agent_plugins.bus.box import LARGEST, Bus, Draft

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_700_000_000.0


@pytest.fixture
def store(tmp_path):
    """Give a store."""
    made = open_store(tmp_path / "agents.db")
    yield made
    made.close()


def contents(got):
    return [message.content for message in got.messages]


def test_a_message_goes_to_all_to_one_or_to_a_role_and_to_nobody_else(store):
    bus = Bus(store)
    bus.send(Draft("me", "all", "everybody"))
    bus.send(Draft("me", "w1", "one"))
    bus.send(Draft("me", "role:writer", "writers"))

    assert contents(bus.receive("w1")) == ["everybody", "one"]
    assert contents(bus.receive("w2", ["writer", "critic"])) == ["everybody", "writers"]
    assert contents(bus.receive("w3", ["critic"])) == ["everybody"]


def test_nobody_gets_what_he_sent_to_all_but_he_gets_what_he_sent_to_himself(store):
    bus = Bus(store)
    for to in ("all", "role:writer", "me"):
        bus.send(Draft("me", to, to))

    assert contents(bus.receive("me", ["writer"])) == ["me"]


def test_nothing_is_delivered_twice_and_a_limit_leaves_the_rest_for_later(store):
    bus = Bus(store)
    for number in range(5):
        bus.send(Draft("me", "all", str(number)))

    assert contents(bus.receive("w", most=2)) == ["0", "1"]
    assert contents(bus.receive("w", most=2)) == ["2", "3"]
    assert contents(bus.receive("w")) == ["4"]
    assert bus.receive("w").empty


@pytest.mark.parametrize(("sent", "lost"), [(3, 0), (4, 1), (10, 7)])
def test_what_a_full_bus_drops_is_told_once_and_summed_up_in_stats(store, sent, lost):
    bus = Bus(store, capacity=3)
    bus.receive("slow")
    for number in range(sent):
        bus.send(Draft("me", "all", str(number)))

    got = bus.receive("slow")

    assert got.lost == lost
    assert contents(got) == [str(number) for number in range(lost, sent)]
    assert bus.receive("slow").lost == 0
    assert bus.stats()["receivers"][0] == {
        "id": "slow", "roles": [], "received": sent - lost, "waiting": 0, "lost": lost, "expired": 0,
    }  # fmt: skip


def test_what_was_fetched_or_meant_for_others_is_no_loss(store):
    bus = Bus(store, capacity=2)
    bus.receive("quick")
    bus.receive("other")
    for number in range(6):
        bus.send(Draft("me", "quick", str(number)))
        bus.receive("quick")

    assert (bus.receive("quick").lost, bus.receive("other").lost, bus.stats()["lost"]) == (0, 0, 0)


def test_a_message_by_name_that_is_dropped_before_its_first_receipt_is_counted(store):
    bus = Bus(store, capacity=1)
    bus.send(Draft("me", "late", "first"))
    bus.send(Draft("me", "late", "second"))

    got = bus.receive("late")

    assert (got.lost, contents(got)) == (1, ["second"])


def test_a_message_past_its_time_is_counted_as_expired_whoever_notices_it_first(store):
    moment = [NOW]
    bus = Bus(store, clock=lambda: moment[0])
    bus.receive("a")
    bus.receive("b")
    bus.send(Draft("me", "all", "quick", ttl=10))
    bus.send(Draft("me", "all", "lasting"))
    assert contents(bus.receive("c")) == ["quick", "lasting"]
    moment[0] += 10

    got = bus.receive("a")
    assert (got.expired, contents(got)) == (1, ["lasting"])
    bus.send(Draft("me", "all", "more"))  # takes the old one out
    got = bus.receive("b")
    assert (got.expired, contents(got)) == (1, ["lasting", "more"])
    assert bus.stats()["expired"] == 2
    assert bus.stats()["held"] == 2


def test_a_limit_before_an_expired_message_does_not_count_it_twice(store):
    moment = [NOW]
    bus = Bus(store, clock=lambda: moment[0])
    for content, ttl in (("1", None), ("2", 1), ("3", None)):
        bus.send(Draft("me", "all", content, ttl))
    moment[0] += 5

    first, second = bus.receive("a", most=1), bus.receive("a", most=1)

    assert (contents(first), contents(second)) == (["1"], ["3"])
    assert (first.expired, second.expired) == (0, 1)


def test_who_asks_only_for_what_is_new_begins_at_the_end_once(store):
    bus = Bus(store)
    bus.send(Draft("me", "all", "old"))
    bus.skip("w")
    bus.send(Draft("me", "all", "new"))
    bus.skip("w")

    assert contents(bus.receive("w")) == ["new"]


def test_buses_of_different_names_do_not_mix(store):
    Bus(store, "a").send(Draft("me", "all", "a"))

    assert Bus(store, "b").receive("w").empty


@pytest.mark.parametrize("to", ["", "role:", "a b", "role:a b", "../x", "x" * 65, "\x1b[31m", "role:role:x"])
def test_what_is_no_address_is_refused(store, to):
    with pytest.raises(UsageError):
        Bus(store).send(Draft("me", to, "x"))


@pytest.mark.parametrize("name", ["", "all", "broadcast", "a/b", "-x"])
def test_what_is_no_name_is_refused(store, name):
    with pytest.raises(UsageError):
        Bus(store).receive(name)
    with pytest.raises(UsageError):
        Bus(store).send(Draft(name, "all", "x"))


def test_a_content_beyond_the_limit_is_refused_and_one_at_the_limit_is_not(store):
    Bus(store).send(Draft("me", "all", "x" * LARGEST))
    with pytest.raises(InputError):
        Bus(store).send(Draft("me", "all", "x" * (LARGEST + 1)))


def test_a_receiver_that_left_is_forgotten(store):
    bus = Bus(store, capacity=1)
    bus.receive("w")
    assert bus.leave("w")
    assert not bus.leave("w")
    bus.send(Draft("me", "all", "1"))
    bus.send(Draft("me", "all", "2"))

    assert bus.stats()["lost"] == 0


SENDER = """
import sys; sys.path.insert(0, {root!r})
from pathlib import Path
from agent_core.store import open_store
from agent_plugins.bus.box import Bus, Draft
bus = Bus(open_store(Path(sys.argv[2])), capacity=2000)
for number in range(100):
    bus.send(Draft(sys.argv[1], "all", f"{{sys.argv[1]}}-{{number}}"))
"""
RECEIVER = """
import sys, time, json; sys.path.insert(0, {root!r})
from pathlib import Path
from agent_core.store import open_store
from agent_plugins.bus.box import Bus
bus = Bus(open_store(Path(sys.argv[2])), capacity=2000)
got, end = [], time.monotonic() + 60
while len(got) < 1000 and time.monotonic() < end:
    got += [message.content for message in bus.receive(sys.argv[1]).messages]
    time.sleep(0.02)
got += [message.content for message in bus.receive(sys.argv[1]).messages]
print(json.dumps(got))
"""


def test_ten_senders_of_a_hundred_messages_and_three_receivers_each_of_whom_gets_exactly_a_thousand(tmp_path):
    path = str(tmp_path / "agents.db")

    def start(program, name):
        words = [sys.executable, "-c", program.format(root=str(ROOT)), name, path]
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    receivers = [start(RECEIVER, f"r{number}") for number in range(3)]
    senders = [start(SENDER, f"s{number}") for number in range(10)]
    for process in senders:
        process.communicate(timeout=60)
        assert process.returncode == 0
    wanted = {f"s{sender}-{number}" for sender in range(10) for number in range(100)}
    for process in receivers:
        out, _ = process.communicate(timeout=60)
        got = json.loads(out)
        assert len(got) == 1000
        assert set(got) == wanted
        for sender in range(10):
            mine = [int(each.partition("-")[2]) for each in got if each.startswith(f"s{sender}-")]
            assert mine == list(range(100))


def test_two_processes_that_receive_as_one_share_its_messages(store, tmp_path):
    bus = Bus(store, capacity=2000)
    for number in range(300):
        bus.send(Draft("me", "w", str(number)))
    program = """
import sys; sys.path.insert(0, {root!r})
from pathlib import Path
from agent_core.store import open_store
from agent_plugins.bus.box import Bus
bus = Bus(open_store(Path(sys.argv[1])), capacity=2000)
while (got := bus.receive("w", most=5)).messages:
    print(*(message.content for message in got.messages), sep="\\n")
"""
    words = [sys.executable, "-c", program.format(root=str(ROOT)), str(tmp_path / "agents.db")]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    got = [line for process in both for line in process.communicate(timeout=60)[0].split()]

    assert sorted(map(int, got)) == list(range(300))


def test_an_agent_with_the_plugin_sends_and_receives(tmp_path, run_agent):
    env = {"AGENT_PLUGINS": "agent_plugins.bus", "AGENT_DATA_DIR": str(tmp_path / "data"), "AGENT_PROVIDER": "offline"}
    sent = run_agent(
        "assistant", "--tool", "bus_send", '{"content": "done", "to": "role:critic"}', env={**env, "AGENT_BUS_NAME": "ann"}
    )
    got = run_agent(
        "assistant", "--tool", "bus_receive", "{}", "--json", env={**env, "AGENT_BUS_NAME": "bob", "AGENT_BUS_ROLE": "critic"}
    )

    assert sent.returncode == got.returncode == 0, sent.stderr + got.stderr
    found = json.loads(got.stdout)["data"]["structuredContent"]
    assert [(each["from"], each["content"]) for each in found["messages"]] == [("ann", "done")]
