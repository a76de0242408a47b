"""agent-supervise with real processes: who gets a new pid, who is given up, and that nothing is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import wait_until

from agent_core.store import open_store

ROOT = Path(__file__).resolve().parents[2]
SLEEP = '["sleep", "1000"]'


class Kept:
    """A running `agent-supervise run`."""

    def __init__(self, folder, text, **env):
        """Write the pool file and start it."""
        self.folder, self.file, self.data = folder, folder / "pool.toml", folder / "data"
        self.file.write_text(text)
        self.mark = f"mark-{os.urandom(6).hex()}"
        self.env = {
            "PATH": os.defpath,
            "HOME": str(folder),
            "AGENT_DATA_DIR": str(self.data),
            "PYTHONPATH": str(ROOT),
            "MARK": self.mark,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agents.agent_supervise", "run", "pool.toml"], cwd=folder, env={**self.env, **env}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def call(self, *words):
        """Run a command of agent-supervise."""
        program = [sys.executable, "-m", "agents.agent_supervise", *words, "--json"]
        done = subprocess.run(
            program, cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        return done.returncode, json.loads(done.stdout)["data"]

    def ask(self, **request):
        """Ask the supervisor directly."""
        from agent_plugins.supervision import control

        return control.ask(str(self.data), "pool", request)

    def status(self):
        """Return its status, None while it does not answer."""
        from agent_core.errors import AgentError

        try:
            return self.ask(do="status")
        except AgentError:
            return None

    def child(self, name):
        """Return one child of the status."""
        found = self.status() or {"children": []}
        return next((each for each in found["children"] if each["name"] == name), None)

    def pids(self):
        """Return the pids, once all run."""
        assert wait_until(lambda: bool(found := self.status()) and all(each["state"] == "running" for each in found["children"])), (
            self.status()
        )
        return [each["pid"] for each in self.status()["children"]]

    def end(self, number=signal.SIGTERM):
        """Signal it and return (status, stderr)."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self):
        """Return (status, stderr) of its end."""
        _, err = self.process.communicate(timeout=20)
        return self.process.returncode, err

    def left(self):
        """Return all processes that carry our mark."""
        found = []
        for each in Path("/proc").iterdir():
            if each.name.isdecimal() and int(each.name) != self.process.pid:
                try:
                    if f"MARK={self.mark}".encode() in (each / "environ").read_bytes().split(b"\0"):
                        found.append((each / "cmdline").read_bytes())
                except OSError:
                    continue
        return found


@pytest.fixture
def keep(tmp_path):
    """Give a function that starts a supervisor of a pool file."""
    started = []

    def start(text, **env):
        started.append(Kept(tmp_path, text, **env))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.terminate()
        each.process.communicate()
        assert wait_until(lambda each=each: not each.left()), each.left()


def three(strategy="one-for-one", command=SLEEP, more=""):
    return f'strategy = "{strategy}"\n{more}' + "".join(f'[[child]]\nname = "{name}"\ncommand = {command}\n' for name in "abc")


@pytest.mark.parametrize(
    ("strategy", "new", "restarts"),
    [("one-for-one", [False, True, False], 1), ("rest-for-one", [False, True, True], 2), ("one-for-all", [True, True, True], 3)],
)
def test_the_second_of_three_is_killed_and_the_strategy_says_who_has_a_new_pid(keep, strategy, new, restarts):
    kept = keep(three(strategy))
    before = kept.pids()

    os.kill(before[1], signal.SIGKILL)

    assert wait_until(lambda: (kept.status() or {}).get("total_restarts") == restarts)
    after = kept.pids()
    assert [one != other for one, other in zip(before, after, strict=True)] == new
    assert [each["restarts"] for each in kept.status()["children"]] == [int(each) for each in new]
    assert kept.end()[0] == 143
    assert not kept.left()


def test_the_fourth_crash_within_the_window_marks_a_child_failed_and_the_others_go_on(keep):
    kept = keep(
        f'[[child]]\nname = "bad"\ncommand = ["sh", "-c", "exit 1"]\nbackoff = 0.01\n[[child]]\nname = "good"\ncommand = {SLEEP}\n'
    )

    assert wait_until(lambda: (kept.child("bad") or {}).get("state") == "failed")

    bad = kept.child("bad")
    assert (bad["restarts"], bad["pid"], bad["status"]) == (3, None, 1)
    assert "4 crashes in 5 s" in bad["reason"]
    assert kept.child("good")["state"] == "running"
    status, record = kept.call("restart", "bad")
    assert status == 0
    assert record["structuredContent"]["total_restarts"] == 3


def test_slow_crashes_are_never_too_many(keep):
    kept = keep('[[child]]\nname = "slow"\ncommand = ["sh", "-c", "exit 1"]\nbackoff = 0.05\nbackoff_max = 0.05\nwindow = 0.08\n')

    assert wait_until(lambda: (kept.child("slow") or {}).get("restarts", 0) >= 6)


def test_when_the_whole_pool_crashes_too_often_it_is_given_up_with_status_1(keep):
    crash = '["sh", "-c", "exit 1"]'
    kept = keep(three("one-for-one", crash, "max_restarts = 4\n") + f'[[child]]\nname = "good"\ncommand = {SLEEP}\n')

    status, err = kept.ended()

    assert status == 1
    assert "too many restarts" in err
    assert not kept.left()


def test_a_failed_child_takes_down_those_that_depend_on_it(keep):
    text = three("rest-for-one").replace('name = "b"\ncommand = ["sleep", "1000"]', 'name = "b"\ncommand = ["sh", "-c", "exit 78"]')
    kept = keep(text)

    assert wait_until(lambda: (kept.child("c") or {}).get("state") == "stopped")
    assert [each["state"] for each in kept.status()["children"]] == ["running", "failed", "stopped"]
    assert kept.child("c")["reason"] == "b failed"


@pytest.mark.parametrize(
    ("exit_", "restart", "state", "status"),
    [
        (0, "on-failure", "", 0),
        (3, "on-failure", "", 0),
        (78, "on-failure", "failed", 1),
        (1, "never", "failed", 1),
        (5, "on-failure", "", 5),
    ],
)
def test_a_pool_ends_when_its_children_have_and_says_how(keep, exit_, restart, state, status):
    kept = keep(f'[[child]]\nname = "a"\ncommand = ["sh", "-c", "exit {exit_}"]\nrestart = "{restart}"\n')

    found, err = kept.ended()

    assert found == status
    assert (state in err) is True
    assert not (kept.data / "supervise" / "pool.sock").exists()


def test_always_restarts_after_a_good_end_and_69_is_tried_later_without_counting_as_a_crash(keep):
    kept = keep(
        '[[child]]\nname = "good"\ncommand = ["sh", "-c", "sleep 0.05"]\nrestart = "always"\nmax_restarts = 100\n'
        '[[child]]\nname = "away"\ncommand = ["sh", "-c", "exit 69"]\nlater = 0.01\nbackoff_max = 0.02\n'
    )

    assert wait_until(lambda: (kept.child("away") or {}).get("restarts", 0) > 5)
    assert wait_until(lambda: kept.child("good")["restarts"] > 1)
    assert kept.child("away")["state"] in {"pausing", "running"}


def test_nothing_survives_groups_daemons_and_those_that_ignore_sigterm(keep):
    stubborn = '["sh", "-c", "trap \'\' TERM; setsid sleep 1000 & sleep 1000 & (setsid sh -c \'sleep 1000 & sleep 1000\' &) ; wait; sleep 1000"]'
    kept = keep(f'grace = 0.3\n[[child]]\nname = "stubborn"\ncommand = {stubborn}\n')
    kept.pids()
    assert wait_until(lambda: len(kept.left()) >= 5), kept.left()

    began = time.monotonic()
    status, err = kept.end()

    assert status == 143
    assert time.monotonic() - began < 5
    assert "killed" in err
    assert not kept.left()


def test_what_a_crashed_child_left_behind_ends_before_it_is_started_again(keep):
    kept = keep('[[child]]\nname = "a"\ncommand = ["sh", "-c", "setsid sleep 1000 & sleep 1000 & exec sleep 500"]\nbackoff = 0.3\n')
    (pid,) = kept.pids()
    assert wait_until(lambda: len(kept.left()) == 3)

    os.kill(pid, signal.SIGKILL)

    assert wait_until(lambda: not kept.left())
    assert wait_until(lambda: len(kept.left()) == 3)


def test_no_zombie_is_kept(keep):
    kept = keep('[[child]]\nname = "a"\ncommand = ["sh", "-c", "(sleep 0.1 &) ; (sleep 0.1 &) ; exec sleep 1000"]\n')
    kept.pids()
    time.sleep(0.4)

    states = [path.read_text().rpartition(")")[2].split()[:2] for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
    assert ["Z", str(kept.process.pid)] not in states


def test_when_the_supervisor_is_killed_its_children_are_told_to_end_and_a_new_one_can_begin(keep):
    kept = keep(three())
    kept.pids()

    kept.process.kill()
    kept.process.wait()

    assert wait_until(lambda: not kept.left())
    again = keep(three())
    again.pids()
    assert again.end()[0] == 143


def test_sigint_drains_too_and_dies_by_it(keep):
    kept = keep(three())
    kept.pids()

    assert kept.end(signal.SIGINT)[0] == -signal.SIGINT


def test_a_second_sigterm_does_not_wait_for_the_grace(keep):
    kept = keep('grace = 60\n[[child]]\nname = "a"\ncommand = ["sh", "-c", "trap \'\' TERM; while :; do sleep 0.1; done"]\n')
    kept.pids()
    time.sleep(0.2)
    kept.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert kept.process.poll() is None

    assert kept.end()[0] == 143


def test_sighup_reads_the_file_again_and_a_wrong_file_changes_nothing(keep):
    kept = keep(three())
    before = kept.pids()
    kept.file.write_text("nonsense")
    kept.process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert kept.pids() == before

    changed = (
        three().replace('name = "b"\ncommand = ["sleep", "1000"]', 'name = "b"\ncommand = ["sleep", "2000"]').replace('"c"', '"d"')
    )
    kept.file.write_text(changed)
    kept.process.send_signal(signal.SIGHUP)

    assert wait_until(lambda: kept.child("d") is not None and kept.child("c") is None)
    after = kept.pids()
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)
    assert kept.status()["total_restarts"] == 0
    assert wait_until(lambda: len(kept.left()) == 3)
    assert "not reloaded: pool.toml:1" in kept.end()[1]


def test_stop_and_restart_name_one_child_and_stop_without_a_name_ends_all(keep):
    kept = keep(three())
    before = kept.pids()

    status, record = kept.call("stop", "b")
    assert status == 0
    assert [each["state"] for each in record["structuredContent"]["children"]] == ["running", "stopped", "running"]
    status, record = kept.call("restart", "b")
    assert record["structuredContent"]["children"][1]["state"] == "running"
    assert record["structuredContent"]["children"][1]["pid"] != before[1]
    assert record["structuredContent"]["total_restarts"] == 0
    status, record = kept.call("restart", "nobody")
    assert status == 2
    assert "a, b, c" in json.dumps(record["error"])
    status, record = kept.call("stop")
    assert status == 0
    assert {each["state"] for each in record["structuredContent"]["children"]} == {"stopped"}
    assert kept.ended()[0] == 0


def test_output_has_the_childs_name_and_may_go_to_a_file(keep):
    text = '[[child]]\nname = "loud"\ncommand = ["sh", "-c", "echo out; echo err >&2; printf end"]\n'
    text += '[[child]]\nname = "quiet"\ncommand = ["sh", "-c", "echo kept"]\noutput = "quiet.log"\n'
    text += '[[child]]\nname = "flood"\ncommand = ["sh", "-c", "head -c 100000 /dev/zero | tr \'\\\\0\' x"]\noutput = "discard"\n'
    kept = keep(text)

    status, err = kept.ended()

    assert status == 0
    assert {"loud: out", "loud: err", "loud: end"} <= set(err.splitlines())
    assert (kept.folder / "quiet.log").read_text() == "kept\n"
    assert "kept" not in err


def test_a_stderr_that_nobody_reads_does_not_stop_the_supervisor(keep):
    kept = keep(f'[[child]]\nname = "flood"\ncommand = ["yes"]\n[[child]]\nname = "b"\ncommand = {SLEEP}\n')
    before = kept.pids()
    time.sleep(0.5)

    os.kill(before[1], signal.SIGKILL)

    assert wait_until(lambda: kept.child("b")["restarts"] == 1)


def test_words_are_never_given_to_a_shell_and_the_environment_is_the_childs_own(keep):
    text = """[[child]]\nname = "a"\ncommand = ["printf", "%s\\n", "$HOME; echo no", "`id`"]\n"""
    text += '[[child]]\nname = "b"\ncommand = ["sh", "-c", "echo $MODE $AGENT_DATA_DIR ${NOTIFY_SOCKET-none}"]\nenvironment = { MODE = "fast" }\n'
    kept = keep(text, NOTIFY_SOCKET="/nowhere")

    _, err = kept.ended()

    assert "a: $HOME; echo no" in err
    assert "a: `id`" in err
    assert f"b: fast {kept.data} none" in err


def test_systemd_hears_ready_the_watchdog_and_stopping(keep, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.settimeout(10)
        kept = keep(three(), NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="200000")

        heard = [server.recv(1000).decode() for _ in range(3)]
        kept.process.send_signal(signal.SIGTERM)
        while not (last := server.recv(1000).decode()).startswith("STOPPING=1"):
            heard.append(last)

    assert heard[0] == "READY=1\nSTATUS=3 of 3 children run"
    assert heard[1].startswith("WATCHDOG=1")


def test_what_happens_is_on_the_stream_of_the_store(keep):
    kept = keep('[[child]]\nname = "a"\ncommand = ["sh", "-c", "exit 1"]\nmax_restarts = 1\nbackoff = 0.01\n')
    assert kept.ended()[0] == 1

    store = open_store(kept.data / "agents.db")
    run = store.run("last")
    kinds = [event.kind for event in store.events(run.id)]
    store.close()

    once = ["child.started", "child.exited"]
    assert kinds == ["run.started", *once, "child.restarting", *once, "child.failed", "run.finished"]
    assert (run.agent, run.status) == ("agent-supervise", 1)


def test_a_second_supervisor_of_the_same_pool_is_refused(keep):
    kept = keep(three())
    kept.pids()

    status, record = kept.call("run", "pool.toml")

    assert status == 1
    assert "runs already" in json.dumps(record)
    assert kept.pids()
