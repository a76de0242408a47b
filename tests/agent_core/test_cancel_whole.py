"""A cancelled group: valid JSON with the finished answers in time, the signal's status, and no process left."""

from __future__ import annotations

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

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = {
    "quick": "cat > /dev/null; echo quick answer",
    "second": "cat > /dev/null; echo second answer",
    "slow": "cat > /dev/null; touch started; sleep 1000 & setsid sleep 1000 & sleep 1000",
    "stubborn": "trap '' TERM INT; cat > /dev/null; touch started; while :; do sleep 0.2; done",
}


@pytest.fixture
def team(tmp_path):
    """Give a function that starts agent-team with registered programs as members, and `.left`: processes that carry its mark."""
    data, mark = tmp_path / "data", os.urandom(8).hex()
    for name, body in PROGRAMS.items():
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
            "kind": "program",
        }
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        catalogue.write(data, catalogue.Entry(name, (str(path),), digest, card, "2026-09-24T10:00:00Z", "adopt"))
    # Peers get a scrubbed environment: HOME stays, so it is the mark.
    home = tmp_path / f"home-{mark}"
    home.mkdir()
    env = {"PATH": os.defpath, "HOME": str(home), "AGENT_DATA_DIR": str(data), "AGENT_PROVIDER": "offline", "PYTHONPATH": str(ROOT)}

    def start(*members):
        words = [word for member in members for word in ("--member", member)]
        process = subprocess.Popen(
            [sys.executable, "-m", "agents.agent_team", "orchestra", "say something", "--json", *words], cwd=tmp_path, env=env,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
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


def test_a_second_interrupt_does_not_wait_and_leaves_no_process_either(team):
    process = team("quick", "stubborn")
    process.send_signal(signal.SIGINT)
    time.sleep(0.8)

    process.send_signal(signal.SIGINT)

    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT
    assert wait_until(lambda: not team.left()), team.left()
