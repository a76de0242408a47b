"""Servers as programs: both eras, misbehaviour of every kind, deadlines, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ROOT, wait_until

from agent_core import config
from agent_core.errors import ConfigError, ContractError, DeadlineError, TransportError
from agent_plugins.mcp import client, wire
from agent_plugins.mcp.servers import Box, Server

ODD = str(Path(__file__).with_name("mcp_odd_server.py"))


@pytest.fixture
def said():
    return []


@pytest.fixture
def started(tmp_path, said):
    """Give a function that starts the odd server in a mode and returns its Client."""
    made = []

    def start(*modes, probe=True, seconds=10.0, flags=None, **rest):
        server = Server("odd", (sys.executable, "-S", ODD, *modes), cwd=str(tmp_path), **rest)
        settings = config.load(flags or {}, {"PATH": os.defpath, "HOME": str(tmp_path)}, str(tmp_path))
        made.append(client.Client(server, settings, lambda text, loud=False: said.append(text)))
        made[-1].start(time.monotonic() + seconds, probe=probe)
        return made[-1]

    yield start
    for each in made:
        each.close()


def add(one, a=2, b=3, seconds=10.0):
    return wire.result(one.call("add", {"a": a, "b": b}, time.monotonic() + seconds, {})).text


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


@contextmanager
def quick_probe():
    """Wait a moment instead of seconds for a server that does not answer its first question."""
    before, client.PROBE = client.PROBE, 0.3
    try:
        yield
    finally:
        client.PROBE = before


# --- both eras


def test_a_modern_server_lists_and_calls(started):
    one = started()

    assert one.facts.modern
    assert [tool["name"] for tool in one.listed.tools] == ["add", "slow"]
    assert add(one) == "5"


def test_a_server_of_the_old_era_lists_and_calls(started):
    one = started("old")

    assert (one.facts.modern, one.facts.version) == (False, "2025-11-25")
    assert add(one) == "5"


def test_an_old_server_that_ignores_the_first_question_is_still_used(started):
    with quick_probe():
        assert add(started("old", "mute")) == "5"


def test_an_old_server_that_dies_of_the_first_question_is_started_again_without_it(started):
    assert add(started("old", "touchy")) == "5"


def test_a_greeting_on_stdout_is_passed_over(started, said):
    assert add(started("greets")) == "5"
    assert any("no message" in text for text in said)


def test_all_pages_of_a_listing_are_read_and_an_endless_one_ends(started):
    assert [tool["name"] for tool in started("pages").listed.tools] == [f"tool{n}" for n in range(5)]
    assert len(started("endless-pages").listed.tools) == 2
    assert started("no-list").listed.tools == ()


# --- what goes wrong at the start


def test_a_program_that_is_not_there_is_78(tmp_path):
    settings = config.load({}, {"PATH": "/usr/bin", "HOME": "/"}, str(tmp_path))
    for argv in (("no-such-program-7",), ("/no/such/program",), (str(tmp_path),)):
        with pytest.raises(ConfigError, match="s cannot start"):
            client.Client(Server("s", argv, cwd=str(tmp_path)), settings, print).start(time.monotonic() + 5)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["-c", "import sys; sys.exit('no\x1b[2J key')"], "status 1 and says: no"),
        (["-c", "pass"], "ended with status 0"),
        (["-c", "import os; os.kill(os.getpid(), 9)"], "signal 9"),
    ],
)
def test_a_program_that_ends_at_once_is_69_and_its_last_words_are_shown(tmp_path, argv, says):
    settings = config.load({}, {"PATH": "/usr/bin", "HOME": "/"}, str(tmp_path))
    one = client.Client(Server("s", (sys.executable, *argv), cwd=str(tmp_path)), settings, lambda text, loud=False: None)
    with pytest.raises(TransportError) as caught:
        one.start(time.monotonic() + 5)

    assert says in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_server_that_never_answers_is_69_in_time(started):
    began = time.monotonic()
    with quick_probe(), pytest.raises(TransportError, match="odd did not answer in time"):
        started("never", seconds=0.8)

    assert time.monotonic() - began < 4


@pytest.mark.parametrize("modes", [("old", "ancient"), ("future",)])
def test_a_server_of_an_unknown_version_is_76(started, modes):
    with pytest.raises(ContractError, match="odd"):
        started(*modes)


def test_servers_start_at_once_and_one_that_is_optional_may_fail(tmp_path):
    told = []
    settings = config.load({}, {"PATH": os.defpath, "HOME": "/"}, str(tmp_path))
    slow = ("-S", "-c", f"import time, runpy, sys; time.sleep(0.5); sys.argv = ['x']; runpy.run_path({ODD!r}, run_name='__main__')")
    good = [Server(f"s{n}", (sys.executable, *slow), cwd=str(tmp_path), env=(("N", str(n)),)) for n in range(3)]
    bad = Server("bad", ("no-such-program-7",), optional=True, cwd=str(tmp_path))
    began = time.monotonic()
    try:
        found = client.connected((*good, bad), settings, lambda text, loud=False: told.append((text, loud)))
        took = time.monotonic() - began
        again = client.connected((*good, bad), settings, lambda text, loud=False: told.append((text, loud)))
    finally:
        client.close()

    assert [each.server.name for each in found] == ["s0", "s1", "s2"]
    assert again == found
    assert took < 1.4 + 3 * 0.5
    assert [loud for text, loud in told if "optional" in text] == [True]


def test_the_time_of_the_whole_run_bounds_the_start(tmp_path):
    settings = config.load({"timeout": 0.5}, {"PATH": os.defpath, "HOME": "/"}, str(tmp_path))
    try:
        with pytest.raises(DeadlineError):
            client.connected((Server("s", ("sleep", "60"), cwd=str(tmp_path)),), settings, lambda text, loud=False: None)
    finally:
        client.close()


# --- what goes wrong in a call


def test_a_server_that_dies_in_a_call_is_an_error_with_its_last_words_and_starts_again_for_the_next(started, tmp_path):
    one = started("die-once")
    with pytest.raises(TransportError, match="status 3"):
        add(one)

    assert add(one) == "5"


def test_a_server_that_always_dies_is_not_started_for_ever(started):
    one = started("die")
    for _ in range(client.RESTARTS + 1):
        with pytest.raises(TransportError, match="out of cheese"):
            add(one)
    with pytest.raises(TransportError, match="ended 3 times"):
        add(one)


def test_a_call_that_is_never_answered_ends_at_its_deadline_and_the_server_is_told(started, tmp_path):
    one = started()
    with pytest.raises(TimeoutError):
        one.call("slow", {"seconds": 30}, time.monotonic() + 0.3, {})

    assert wait_until((tmp_path / "cancelled").exists)
    assert add(one) == "5"


def test_an_answer_counts_once_and_only_under_its_own_number(started, said):
    assert add(started("twice")) == "first"
    assert add(started("wrong-id")) == "right"
    assert any("nobody asked" in text for text in said)


def test_garbage_between_messages_is_passed_over(started):
    assert add(started("garbage")) == "after the garbage"


def test_a_message_without_end_costs_its_server_the_connection_and_not_the_memory(started):
    one = started("giant")
    with pytest.raises(TransportError, match="16 MiB"):
        add(one)


def test_a_large_answer_arrives_whole(started):
    assert add(started(), "x" * 3_000_000, "y") == "x" * 3_000_000 + "y"


def test_a_server_that_does_not_read_does_not_block_us(tmp_path):
    code = "import sys, time; exec(open(sys.argv[1]).read().split('def main')[0].replace('sys.argv[1:]', '[]')); [handle(json.loads(sys.stdin.readline())) for _ in range(2)]; time.sleep(60)"
    settings = config.load({}, {"PATH": os.defpath, "HOME": "/"}, str(tmp_path))
    one = client.Client(
        Server("s", (sys.executable, "-S", "-c", code, ODD), cwd=str(tmp_path)), settings, lambda text, loud=False: None
    )
    one.start(time.monotonic() + 5)
    began = time.monotonic()
    try:
        with pytest.raises(TimeoutError):
            add(one, "x" * 1_000_000, "", seconds=0.3)
    finally:
        one.close()

    assert time.monotonic() - began < 3


def test_what_a_server_asks_of_us_is_answered_or_politely_refused(started):
    got = json.loads(add(started("old", "asks")))

    assert got == {"ping": "result", "sampling/createMessage": -32601, "elicitation/create": -32601, "roots/list": -32601}


def test_a_modern_server_that_asks_a_person_is_told_no(started):
    assert json.loads(add(started("wants-input"))) == [{"q": {"action": "decline"}}, "s1"]


def test_news_is_heard_and_a_changed_list_is_read_before_the_next_run(started, said):
    one = started("news")
    assert add(one) == "5"

    assert wait_until(lambda: one.stale)
    assert any("watch out" in text for text in said)
    one.refresh(time.monotonic() + 5)
    assert not one.stale
    assert len(one.listed.tools) == 2


def test_tools_that_change_after_they_were_listed_are_told_aloud_before_the_next_run(started, said):
    one = started("news", "morphs")
    listed = one.listed
    add(one)

    assert one.listed is listed
    assert wait_until(lambda: one.stale)
    one.refresh(time.monotonic() + 5)
    assert "the MCP server odd changed its tools: ~add, -slow, +extra" in said


def test_many_threads_share_one_server(started):
    one = started()
    found = {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: add(one, n, 1)})) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert found == {n: str(n + 1) for n in range(40)}
    assert one._waiting == {}


def test_an_unknown_tool_is_the_servers_error(started):
    with pytest.raises(wire.RpcError) as caught:
        started().call("nope", {}, time.monotonic() + 5, {})

    assert caught.value.code == -32602


# --- nothing left behind


def pids(folder):
    return [int((folder / name).read_text()) for name in ("pid", "child") if (folder / name).exists()]


def test_closing_ends_a_server_its_children_and_its_keeper(started, tmp_path):
    one = started("child", "stubborn")
    keeper = one._transport._keeper.pid
    began = time.monotonic()
    one.close()

    assert time.monotonic() - began < 4
    assert all(gone(pid) for pid in pids(tmp_path))
    assert gone(keeper)
    assert not any(thread.name == "mcp odd" for thread in threading.enumerate())
    with pytest.raises(TransportError, match="closed"):
        add(one)


PROGRAM = """
import os, sys, time
from agent_core import config
from agent_plugins.mcp import client
from agent_plugins.mcp.servers import Server
settings = config.load({}, dict(os.environ), os.getcwd())
client.connected((Server("odd", (sys.executable, "-S", sys.argv[1], "child", "stubborn"), cwd=os.getcwd()),), settings, lambda text, loud=False: None)
print("ready", flush=True)
if sys.argv[2] == "exit": os._exit(0)
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["exit", signal.SIGKILL])
def test_however_we_end_the_server_and_its_children_end_too(tmp_path, how):
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, ODD, str(how)], cwd=tmp_path, env=environment, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        assert len(pids(tmp_path)) == 2
        if how != "exit":
            process.send_signal(how)
        process.wait(5)

    assert wait_until(lambda: all(gone(pid) for pid in pids(tmp_path)), 4)


@pytest.mark.parametrize("level", ["landlock", "bubblewrap"])
def test_a_sandboxed_server_reads_only_what_it_was_given(started, tmp_path, level):
    from agent_core import sandbox

    if not sandbox.level(level).complete:
        pytest.skip(f"not possible here: {level}")
    read = (ODD, str(Path(sys.executable).resolve().parents[1]), str(Path(sys.executable).parents[1]))
    one = started("x", box=Box(read=read, write=(str(tmp_path),)), flags={"sandbox": level})

    assert add(one) == "5"
    one.close()
    with pytest.raises(TransportError, match="Permission|Read-only|No such"):
        started("x", box=Box(read=read), flags={"sandbox": level})
