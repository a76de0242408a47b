"""What reaches a terminal, and how bytes leave the process."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core import terminal

HOSTILE = [
    "\x1b]0;title\x07", "\x1b]8;;http://evil\x1b\\x\x1b]8;;\x1b\\", "\x1b[2J", "\x1bPq#0\x1b\\", "\x9b31m", "\x1b[31", "\x08\x08\x08",
    "a\rb", "\u202etxt.exe", "\u2066x\u2069", "\u200b", "\ufeff", "\U000e0041", "\x7f", "\x00", "\x1b_x\x1b\\", "\x1b[6n", "\u2028",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_comes_out_without_a_single_control_or_invisible_character(text):
    shown = terminal.clean(text)

    assert all(letter in {"\n", "\t"} or letter.isprintable() or letter == " " for letter in shown), ascii(shown)
    assert shown


@given(st.text())
def test_no_text_whatever_leaves_an_escape_or_a_c1_control(text):
    shown = terminal.clean(text)

    assert not set(shown) & {chr(code) for code in (*range(9), *range(0xB, 0x20), *range(0x7F, 0xA0))}


def test_colour_is_dropped_and_ordinary_text_stays():
    assert terminal.clean("\x1b[1;31mred\x1b[0m, naïve 日本 👩‍💻\tx\r\ny\n") == "red, naïve 日本 👩‍💻\tx\ny\n"


def test_cleaning_is_linear_in_the_length_of_the_text():
    begun = time.perf_counter()
    terminal.clean("\x1b[" * 300_000 + "\x1b]" * 300_000)

    assert time.perf_counter() - begun < 2


def test_newlines_become_visible_where_a_line_is_wanted():
    assert terminal.clean("a\nb", keep_newlines=False) == "a␊b"


def test_bytes_that_came_undecodable_leave_as_they_came():
    assert terminal.encode(b"\xff\xfe ok".decode("utf-8", "surrogateescape")) == b"\xff\xfe ok"
    assert terminal.encode("a\ud800b") == "a\ufffdb".encode()


@pytest.mark.parametrize(
    ("color", "env", "expected"),
    [
        ("auto", {}, False), ("always", {"NO_COLOR": "1"}, True), ("auto", {"FORCE_COLOR": "1"}, True),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False), ("never", {"FORCE_COLOR": "1"}, False),
    ],
)  # fmt: skip
def test_colour_follows_flag_then_environment_then_terminal(color, env, expected):
    read, write = os.pipe()
    try:
        assert terminal.decorated(write, color, env) is expected
    finally:
        os.close(read)
        os.close(write)


def test_a_closed_stdout_is_noticed_and_cannot_become_a_later_file():
    code = "import os; os.close(1); from agent_core import terminal as t; c = t.reserve_streams(); f = os.open('/dev/null', 0); os.write(2, repr((c, f > 2)).encode())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=os.getcwd())

    assert done.stderr == b"(frozenset({1}), True)"
