"""agent-bus as processes: every message once, waiting, and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def start(tmp_path):
    """Give a function that starts agent-bus."""
    env = {"PATH": os.defpath, "HOME": str(tmp_path), "AGENT_DATA_DIR": str(tmp_path / "data"), "PYTHONPATH": str(ROOT)}

    def begin(*words):
        return subprocess.Popen(
            [sys.executable, "-m", "agents.agent_bus", *words], cwd=tmp_path, env=env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return begin


def test_a_follower_gets_messages_as_they_come_and_ends_by_its_signal(start):
    follower = start("recv", "--as", "w", "--follow")
    for text in ("one", "two"):
        assert start("send", text, "--from", "me").wait(20) == 0

    assert [follower.stdout.readline() for _ in range(2)] == ["me: one\n", "me: two\n"]
    follower.send_signal(signal.SIGTERM)
    follower.communicate(timeout=20)
    assert follower.returncode == 143


def test_senders_at_once_lose_nothing(start):
    for process in [start("send", str(number), "--from", f"s{number}") for number in range(6)]:
        process.communicate(timeout=40)
        assert process.returncode == 0

    out, _ = start("recv", "--as", "w", "--json").communicate(timeout=20)

    found = json.loads(out)["data"]["structuredContent"]["messages"]
    assert sorted(each["content"] for each in found) == [str(number) for number in range(6)]
    assert [each["id"] for each in found] == [1, 2, 3, 4, 5, 6]


def test_waiting_ends_in_time_with_124_and_nothing_on_stdout(start):
    began = time.monotonic()
    waiting = start("recv", "--as", "w", "--timeout", "0.3")
    out, err = waiting.communicate(timeout=20)

    assert (waiting.returncode, out) == (124, "")
    assert "nothing came" in err
    assert time.monotonic() - began < 10


def test_a_secret_in_a_message_is_left_out(start):
    start("send", "the key is sk-" + "a1b2" * 8, "--from", "me").wait(20)

    out, _ = start("recv", "--as", "w").communicate(timeout=20)

    assert out == "me: the key is [redacted]\n"
