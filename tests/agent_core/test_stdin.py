"""Whether stdin is read: with real pipes, real processes and a real terminal."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
import threading
import time

import pytest

from agent_core import stdin
from agent_core.errors import DeadlineError, InputError, MissingInput, UsageError
from agent_core.stdin import Rules

WITH_WORDS = Rules(instruction=True)


@pytest.fixture
def pipe():
    ends = list(os.pipe())
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def test_a_file_is_read_to_its_end_and_an_empty_one_is_no_material(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc\xff")
    with path.open("rb") as file:
        assert stdin.read(WITH_WORDS, file.fileno()) == b"abc\xff"
    with open(os.devnull, "rb") as file:
        assert stdin.read(WITH_WORDS, file.fileno()) is None


def test_a_pipe_with_bytes_is_read_and_one_at_its_end_is_no_material(pipe):
    os.write(pipe[1], b"abc")
    os.close(pipe[1])

    assert stdin.read(WITH_WORDS, pipe[0]) == b"abc"
    assert stdin.read(WITH_WORDS, pipe[0]) is None


@pytest.mark.parametrize(
    "rules", [Rules("required"), Rules("required", True), Rules(instruction=False), Rules(instruction=True, dash=True)]
)
def test_nothing_where_input_is_needed_is_66(pipe, rules):
    os.close(pipe[1])

    with pytest.raises(MissingInput, match="stdin was empty"):
        stdin.read(rules, pipe[0])


def test_stdin_none_is_never_touched(pipe):
    os.write(pipe[1], b"abc")

    assert stdin.read(Rules("none", True), pipe[0]) is None
    assert stdin.read(Rules(no_stdin=True, instruction=True), pipe[0]) is None
    assert os.read(pipe[0], 9) == b"abc"


def test_an_idle_pipe_that_only_we_and_our_ancestors_hold_is_left_alone_and_said_so(pipe):
    said: list[str] = []
    begun = time.monotonic()

    assert stdin.read(Rules(instruction=True, say=said.append), pipe[0]) is None
    assert 0.2 < time.monotonic() - begun < 2
    assert "inherited" in said[0]


def test_an_idle_pipe_that_a_slow_stage_holds_is_waited_for(pipe):
    slow = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.8); print('late')"], stdout=pipe[1])
    os.close(pipe[1])

    assert stdin.read(WITH_WORDS, pipe[0]) == b"late\n"
    slow.wait(5)


def test_a_dash_waits_for_an_idle_pipe(pipe):
    threading.Timer(0.5, lambda: (os.write(pipe[1], b"x"), os.close(pipe[1]))).start()

    assert stdin.read(Rules(instruction=True, dash=True), pipe[0]) == b"x"


def test_an_idle_socket_whose_other_side_cannot_be_known_stops_with_2_and_names_both_fixes():
    left, right = socket.socketpair()
    with left, right, pytest.raises(UsageError) as caught:
        stdin.read(WITH_WORDS, left.fileno())

    assert "`-`" in caught.value.hint
    assert "--no-stdin" in caught.value.hint


def test_a_terminal_is_a_usage_error_where_input_is_needed_and_nothing_otherwise():
    ours, theirs = pty.openpty()
    try:
        assert stdin.read(WITH_WORDS, theirs) is None
        with pytest.raises(UsageError):
            stdin.read(Rules(instruction=False), theirs)
        with pytest.raises(UsageError):
            stdin.read(Rules("required", True), theirs)
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_closed_stdin_is_no_material_or_66():
    assert stdin.read(WITH_WORDS, 999) is None
    with pytest.raises(MissingInput):
        stdin.read(Rules("required"), 999)


def test_input_beyond_the_limit_is_65(pipe):
    os.write(pipe[1], b"x" * 100)
    os.close(pipe[1])

    with pytest.raises(InputError, match="larger than 99 bytes"):
        stdin.read(Rules(limit=99), pipe[0])


def test_a_deadline_ends_the_waiting(pipe):
    with pytest.raises(DeadlineError):
        stdin.read(Rules("required", deadline=time.monotonic() + 0.2), pipe[0])


def test_after_two_seconds_it_says_that_it_waits(pipe):
    said: list[str] = []
    threading.Timer(2.4, lambda: (os.write(pipe[1], b"x"), os.close(pipe[1]))).start()

    assert stdin.read(Rules("required", say=said.append), pipe[0]) == b"x"
    assert said == ["waiting for stdin"]


def test_the_writers_of_a_pipe_and_our_ancestors_are_found(pipe):
    assert stdin.writers(pipe[0]) == {os.getpid()}
    assert {os.getpid(), os.getppid()} <= stdin.ancestors()


def test_a_dash_with_no_stdin_is_a_contradiction():
    with pytest.raises(UsageError):
        stdin.read(Rules(instruction=True, dash=True, no_stdin=True), 0)
