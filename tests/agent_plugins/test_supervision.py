"""Supervision: the rules without processes; the shape of pool files; word to systemd; the control socket against strangers."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

import pytest

from agent_core.errors import ContractError, Failed, UsageError
from agent_plugins.supervision import control, notify, rules
from agent_plugins.supervision.pool import problems


@pytest.mark.parametrize("status", [0, 3])
@pytest.mark.parametrize(("restart", "verdict"), [("always", "again"), ("on-failure", "finished"), ("never", "finished")])
def test_a_good_end_is_restarted_only_by_always(restart, status, verdict):
    assert rules.judged(restart, status) == verdict


@pytest.mark.parametrize("status", [2, 4, 6, 65, 66, 77, 78, 124])
def test_what_a_restart_cannot_mend_is_not_restarted_on_failure(status):
    assert rules.judged("on-failure", status) == "failed"
    assert rules.judged("always", status) == "again"


@pytest.mark.parametrize("status", [1, 70, 76, 127, 130, 143, -9, -15, -11])
def test_any_other_end_is_a_crash_that_on_failure_restarts_and_never_does_not(status):
    assert rules.judged("on-failure", status) == "again"
    assert rules.judged("never", status) == "failed"


@pytest.mark.parametrize("status", [69, 75])
def test_a_service_that_is_away_is_tried_again_later(status):
    assert rules.judged("on-failure", status) == rules.judged("always", status) == "later"
    assert rules.judged("never", status) == "failed"


def test_a_child_that_waits_for_a_person_is_not_restarted():
    assert rules.judged("on-failure", 5) == rules.judged("never", 5) == "waiting"


@pytest.mark.parametrize(("strategy", "restarted"), [("one-for-one", [1]), ("rest-for-one", [1, 2]), ("one-for-all", [0, 1, 2])])
def test_a_strategy_says_who_is_restarted_with_the_second_of_three(strategy, restarted):
    assert rules.affected(strategy, 1, 3) == restarted


@pytest.mark.parametrize(
    ("before", "dice", "seconds"),
    [(0, 0.5, 0.1), (1, 0.5, 0.2), (5, 0.5, 3.2), (9, 0.5, 30), (10**9, 0.5, 30), (0, 0, 0.08), (0, 1, 0.12)],
)
def test_a_pause_doubles_up_to_its_limit_with_jitter_around_it(before, dice, seconds):
    assert rules.pause(0.1, 30, before, 0.2, dice) == pytest.approx(seconds)


def test_only_crashes_within_the_window_count():
    assert rules.recent([1, 5, 5.1, 9], 10, 5) == [5, 5.1, 9]


@pytest.mark.parametrize(
    ("child", "what"),
    [
        ({"name": "../x", "command": ["x"]}, "name"),
        ({"name": "a", "command": []}, "command"),
        ({"name": "a", "command": [""]}, "command"),
        ({"name": "a", "command": ["x\0y"]}, "command"),
        ({"name": "a", "command": ["x"], "window": -1}, "window"),
        ({"name": "a", "command": ["x"], "window": float("nan")}, "window"),
        ({"name": "a", "command": ["x"], "grace": 1e9}, "grace"),
        ({"name": "a", "command": ["x"], "jitter": 2}, "jitter"),
        ({"name": "a", "command": ["x"], "max_restarts": -1}, "max_restarts"),
        ({"name": "a", "command": ["x"], "environment": {"A=B": "c"}}, "environment"),
    ],
)
def test_a_child_that_cannot_be_is_told_with_its_place(child, what):
    assert [place for place, _ in problems({"child": [child]})] == [("child", 0, what)]


def test_two_children_of_one_name_and_a_pool_without_children_are_wrong():
    twice = [{"name": "a", "command": ["x"]}] * 2

    assert [place for place, _ in problems({"child": twice})] == [("child", 1, "name")]
    assert [place for place, _ in problems({"child": []})] == [("child",)]


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_in_one_datagram(tmp_path, abstract):
    address = f"\0agents-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(address)
        server.settimeout(5)

        assert notify.tell({"NOTIFY_SOCKET": address.replace("\0", "@")}, "READY=1", "STATUS=2 of 2")
        assert server.recv(1000) == b"READY=1\nSTATUS=2 of 2"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all", "@nobody-listens-here"])
def test_without_systemd_nothing_happens(address):
    assert not notify.tell({"NOTIFY_SOCKET": address}, "READY=1")


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "x"}, None),
        ({"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_watchdog_hears_us_at_half_of_its_limit(given, seconds):
    assert notify.interval(given, 77) == seconds


def test_the_socket_is_private_works_under_a_long_path_and_a_dead_one_is_replaced(tmp_path):
    data = tmp_path / ("d" * 120)
    control.listen(str(data), "pool").close()  # as one that was killed leaves it

    server = control.listen(str(data), "pool")

    path = data / control.FOLDER / "pool.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert control.pools(str(data)) == ["pool"]
    with pytest.raises(Failed, match="runs already"):
        control.listen(str(data), "pool")
    server.close()
    control.unlink(str(data), "pool")
    assert control.pools(str(data)) == []


@pytest.mark.parametrize("heard", [b"\n", b"[]\n", b"nonsense\n", b"{" * 70000, b"[" * 60000 + b"\n", b"\xff\n"])
def test_what_is_no_request_is_refused(tmp_path, heard):
    server = control.listen(str(tmp_path), "pool")
    client = control._connected(tmp_path / control.FOLDER, "pool")
    asker = control.accept(server, time.monotonic())
    client.settimeout(0.2)
    with suppress(TimeoutError):
        client.sendall(heard)
    control.hear(asker) if len(heard) > control.LARGEST else None
    with pytest.raises(ValueError):  # noqa: PT011 - hear promises no more
        control.hear(asker)
    client.close()
    asker.connection.close()
    server.close()


@pytest.mark.parametrize("answer", [b"", b"[]", b"nonsense", b'{"value": 1}', b"[" * 100000])
def test_an_answer_that_is_none_breaks_the_contract(answer):
    with pytest.raises(ContractError):
        control._value(answer)


def test_asking_where_nobody_listens_says_so(tmp_path):
    with pytest.raises(Failed, match="no supervisor runs here"):
        control.ask(str(tmp_path), "", {"do": "status"})
    with pytest.raises(Failed, match="pool x"):
        control.ask(str(tmp_path), "x", {"do": "status"})


@pytest.mark.parametrize("pool", ["../pool", "a/b", "", ".x", "x" * 65])
def test_a_pool_is_a_name_and_no_path(tmp_path, pool):
    with pytest.raises((UsageError, Failed)):
        control.ask(str(tmp_path), pool, {"do": "status"})


def test_where_several_run_one_must_be_named(tmp_path):
    servers = [control.listen(str(tmp_path), name) for name in ("a", "b")]

    with pytest.raises(UsageError, match="several"):
        control.ask(str(tmp_path), "", {"do": "status"})
    for server in servers:
        server.close()
