"""A cancelled group: valid JSON with the finished answers in time, the signal's status, and no process left."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import wait_until

from agent_core import catalogue
from agent_core.store import open_store

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = {
    "quick": "cat > /dev/null; echo quick answer",
    "second": "cat > /dev/null; echo second answer",
    "patient": "cat > /dev/null; while [ ! -e started ]; do sleep 0.05; done; echo patient answer",
    "calm": "cat > /dev/null; while [ ! -e started ]; do sleep 0.05; done; echo calm answer",
    "slow": "cat > /dev/null; touch started; sleep 1000 & setsid sleep 1000 & sleep 1000",
    "stubborn": "trap '' TERM INT; cat > /dev/null; touch started; while :; do sleep 0.2; done",
    # An agent of the suite's contract that needs a moment to end, and then says what it used.
    "tidy": "trap 'sleep 0.7; cat record; touch tidied; exit 143' TERM; cat > /dev/null; touch started; while :; do sleep 0.05; done",
}
RECORD = {
    "agentpipe": "1", "type": "agentpipe.result",
    "data": {
        "output": "", "status": "error", "exit": 143, "isError": True, "stop": "cancelled", "run_id": "r-tidy",
        "usage": {"input_tokens": 7, "cached_input_tokens": 0, "output_tokens": 3, "calls": 1, "cost_usd": "0.25"},
    },
}  # fmt: skip


def register(tmp_path, data, name, body):
    path = tmp_path / name
    path.write_text(f"#!/bin/sh\ncd '{tmp_path}'\n{body}\n")
    path.chmod(0o755)
    card = {
        "schema": "agent-card/1",
        "name": name,
        "version": "1",
        "description": "x",
        "tags": [],
        "capabilities": [],
        **({} if name == "tidy" else {"kind": "program"}),
    }
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    catalogue.write(data, catalogue.Entry(name, (str(path),), digest, card, "2026-09-24T10:00:00Z", "adopt"))


@pytest.fixture
def team(tmp_path):
    """Give a function that starts agent-team with registered programs as members, and `.left`: processes that carry its mark."""
    data, mark = tmp_path / "data", os.urandom(8).hex()
    for name, body in PROGRAMS.items():
        register(tmp_path, data, name, body)
    (tmp_path / "record").write_text(json.dumps(RECORD) + "\n")
    # Peers get a scrubbed environment: HOME stays, so it is the mark.
    home = tmp_path / f"home-{mark}"
    home.mkdir()
    env = {"PATH": os.defpath, "HOME": str(home), "AGENT_DATA_DIR": str(data), "AGENT_PROVIDER": "offline", "PYTHONPATH": str(ROOT)}

    def start(*members, flags=("--grace", "1"), rows="", **more):
        chosen = [word for member in members for word in ("--member", member)]
        words = [sys.executable, "-m", "agents.agent_team", "orchestra", "say something", "--json", *flags, *chosen]
        (tmp_path / "rows").write_text(rows)
        with (tmp_path / "rows").open() as given:
            process = subprocess.Popen(
                words, cwd=tmp_path, env=env | more, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        assert wait_until((tmp_path / "started").exists, 20)
        time.sleep(0.3)
        return process

    def left():
        found = []
        for each in Path("/proc").iterdir():
            if each.name.isdecimal():
                try:
                    if f"HOME={home}".encode() in (each / "environ").read_bytes().split(b"\0"):
                        found.append((each / "cmdline").read_bytes())
                except OSError:
                    continue
        return found

    start.left = left
    return start


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, -2), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("last", ["slow", "stubborn"])
def test_a_cancelled_team_prints_the_finished_answers_and_leaves_no_process(team, number, status, last):
    process = team("quick", "second", last)

    began = time.monotonic()
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)

    assert time.monotonic() - began < 6
    assert process.returncode == status
    data = json.loads(out)["data"]
    assert (data["stop"], data["isError"]) == ("cancelled", True)
    partial = {each["agent"]: each["output"].strip() for each in data["structuredContent"]["partial"]}
    assert (partial["quick"], partial["second"]) == ("quick answer", "second answer")
    assert 0 < data["structuredContent"]["completion"] < 1
    assert wait_until(lambda: not team.left()), team.left()


def test_a_called_agent_has_the_grace_to_end_and_what_it_used_is_on_the_bill(team, tmp_path):
    process = team("quick", "tidy", flags=["--grace", "20"])
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)

    assert process.returncode == 143
    assert (tmp_path / "tidied").exists()
    data = json.loads(out)["data"]
    assert (data["stop"], data["error"]["cause"], data["usage"]["cost_usd"]) == ("cancelled", "user", "0.25")
    assert "called programs have 20 s to end" in err
    assert [each["output"].strip() for each in data["structuredContent"]["partial"]] == ["quick answer"]


def test_without_grace_programs_are_killed_at_once(team, tmp_path):
    process = team("quick", "tidy", flags=["--grace", "0"])
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)

    assert not (tmp_path / "tidied").exists()
    assert (json.loads(out)["data"]["stop"], process.returncode) == ("cancelled", 143)
    assert wait_until(lambda: not team.left()), team.left()


def test_who_is_stopped_by_its_caller_says_so(team):
    process = team("quick", "slow", AGENT_DEPTH="1")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)

    assert json.loads(out)["data"]["error"]["cause"] == "parent"


def test_who_is_stopped_because_enough_answered_is_told_of_with_the_reason_and_its_bill(team, tmp_path):
    process = team("patient", "calm", "tidy", flags=["--enough", "0.6"])
    out, err = process.communicate(timeout=30)

    assert process.returncode == 0, err
    data = json.loads(out)["data"]
    assert data["structuredContent"]["cancelled"] == ["tidy"]
    assert data["usage"]["cost_usd"] == "0.25"
    with contextlib.closing(open_store(tmp_path / "data" / "agents.db")) as store:
        failed = [event.data for event in store.events(data["run_id"]) if event.kind == "call.failed"]
    assert [(each["agent"], each["error"]["code"], each["error"]["cause"]) for each in failed] == [("tidy", "cancelled", "enough")]


def test_rows_under_way_leave_no_process_behind(team, tmp_path):
    process = team("slow", flags=["--grace", "1", "--lines", "--jobs", "2"], rows="a\nb\n")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)

    assert process.returncode == 143
    assert wait_until(lambda: not team.left()), team.left()


def test_a_second_interrupt_does_not_wait_and_leaves_no_process_either(team):
    process = team("quick", "stubborn")
    process.send_signal(signal.SIGINT)
    time.sleep(0.8)

    process.send_signal(signal.SIGINT)

    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT
    assert wait_until(lambda: not team.left()), team.left()
