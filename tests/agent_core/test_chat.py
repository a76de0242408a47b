"""A conversation, through a pipe and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, str(Path(__file__).with_name("small_agent.py")), "--chat"]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}  # noqa: TID251 - what the fixture left of it


@pytest.fixture
def chat(tmp_path):
    def run(*args: str, stdin: bytes = b"", env=None) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*PROGRAM, *args],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            env=environment(**(env or {})),
            timeout=60,
            check=False,
        )

    return run


OWN_TERMINAL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


def openai(*more: str) -> list[str]:
    return ["--provider", "openai", "--model", "m", *more]


def said(request: dict) -> list[tuple[str, str]]:
    body = request["body"] if isinstance(request["body"], dict) else json.loads(request["body"])
    return [(message["role"], message["content"]) for message in body["messages"] if message["role"] != "system"]


def test_each_turn_knows_what_was_said_before(chat, fake_api):
    fake_api.script("first", "second")
    done = chat(*openai(), stdin=b"one\n\ntwo\nexit\nnever\n", env=fake_api.env())

    assert (done.returncode, done.stdout, done.stderr) == (0, b"first\nsecond\n", b"")
    assert said(fake_api.requests()[1]) == [("user", "one"), ("assistant", "first"), ("user", "two")]


def test_files_open_the_conversation_and_are_part_of_what_was_said(chat, fake_api, tmp_path):
    (tmp_path / "notes.txt").write_text("buy milk")
    fake_api.script("first", "second")
    done = chat(*openai("-f", "notes.txt"), stdin=b"one\ntwo\n", env=fake_api.env())
    first, second = (said(request) for request in fake_api.requests())

    assert (done.returncode, done.stdout) == (0, b"first\nsecond\n")
    assert "buy milk" in first[0][1]
    assert second == [first[0], ("assistant", "first"), ("user", "two")]


def test_a_session_is_kept_between_processes_and_continue_finds_it(chat, fake_api):
    fake_api.script("first", "second", "third")
    chat(*openai("--session", "s1"), stdin=b"one\n", env=fake_api.env())
    chat(*openai("--session", "s1"), stdin=b"two\n", env=fake_api.env())
    done = chat(*openai("--continue"), stdin=b"three\n", env=fake_api.env())

    assert done.stdout == b"third\n"
    assert [text for _, text in said(fake_api.requests()[2])] == ["one", "first", "two", "second", "three"]


def test_an_error_costs_one_line_and_not_the_conversation(chat, tmp_path):
    script = tmp_path / "script.jsonl"
    script.write_text('{"error": "auth"}\n"well"\n')
    done = chat("--provider", "scripted", "--script", str(script), stdin=b"one\ntwo\n")

    assert (done.returncode, done.stdout) == (0, b"well\n")
    assert len(done.stderr.splitlines()) == 1


def test_the_choice_of_a_provider_is_said_once_and_a_wrong_one_ends_it(chat):
    done = chat(stdin=b"one\ntwo\n", env={"OLLAMA_HOST": "127.0.0.1:9"})

    assert done.stderr.count(b"no provider set") == 1
    assert chat("--provider", "opnai", stdin=b"one\n").returncode == 2


def test_words_are_the_first_turn_and_the_end_of_input_ends_it(chat, fake_api):
    fake_api.script("a", "b")

    assert chat(*openai("hello", "there"), stdin=b"more", env=fake_api.env()).stdout == b"a\nb\n"


def test_records_of_a_conversation_are_an_item_a_turn_and_one_result(chat, fake_api):
    fake_api.script("a", "b")
    made = [json.loads(line) for line in chat("--jsonl", *openai(), stdin=b"x\ny\n", env=fake_api.env()).stdout.splitlines()]
    kinds = [record["type"].partition(".")[2] for record in made]

    assert kinds.count("item") == 2
    assert kinds[-1] == "result"
    assert kinds.count("result") == 1


def test_on_a_terminal_there_is_a_prompt_and_ctrl_c_cancels_only_the_turn(tmp_path, fake_api):
    fake_api.script("after all")
    fake_api.fault("hang")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["/usr/bin/env", sys.executable, "-c", OWN_TERMINAL, *PROGRAM, *openai("--retry", "0")],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(TERM="xterm", NO_COLOR="1", **fake_api.env()),
        cwd=tmp_path,
        start_new_session=True,
    )
    os.close(theirs)
    shown = wait_for(ours, b"small> ")
    os.write(ours, b"one\n")
    end = time.monotonic() + 10
    while not fake_api.requests() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.2)
    os.write(ours, b"\x03")
    shown += wait_for(ours, b"small> ")
    fake_api.fault("")
    os.write(ours, b"two\n")
    shown += wait_for(ours, b"small> ")
    os.write(ours, b"\x04")

    assert process.wait(10) == 0
    assert b"cancelled" in shown or b"interrupted" in shown
    assert b"after all" in shown
    os.close(ours)


def wait_for(fd: int, text: bytes, seconds: float = 15) -> bytes:
    seen = b""
    end = time.monotonic() + seconds
    while text not in seen and time.monotonic() < end:
        if select.select([fd], [], [], 0.2)[0]:
            seen += os.read(fd, 65536)
    assert text in seen, seen
    return seen
