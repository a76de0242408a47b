"""Secrets do not get out."""

from __future__ import annotations

import base64
import json
import re
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.redact import MARK, Redactor, redact, register

SECRET = 'zy"9/q+7&ü-Hunter2-Hunter2'
FORMS = {
    "plain": SECRET,
    "JSON": json.dumps(SECRET),
    "JSON in JSON": json.dumps(json.dumps(SECRET)),
    "JSON as UTF-8": json.dumps(SECRET, ensure_ascii=False),
    "URL": quote(SECRET, safe=""),
    "URL in lower case": re.sub("%..", lambda found: found[0].lower(), quote(SECRET, safe="")),
    "hex": SECRET.encode().hex(),
    "HEX": SECRET.encode().hex().upper(),
    "base64, offset 0": base64.b64encode(SECRET.encode() + b"tail").decode(),
    "base64, offset 1": base64.b64encode(b":" + SECRET.encode() + b"ta").decode(),
    "base64, offset 2": base64.b64encode(b"u:" + SECRET.encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(b"user:" + SECRET.encode()).decode(),
    "reversed": SECRET[::-1],
}
SHAPED = {
    "openai": "sk-proj-abcDEF0123456789_abcdef",
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "github": "ghp_0123456789abcdefghijABCDEFGHIJ",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "pem": "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nAQ==\n-----END RSA PRIVATE KEY-----",
}


def box(*secrets: str) -> Redactor:
    made = Redactor()
    for secret in secrets:
        made.add(secret)
    return made


def streamed(text: str, sizes: list[int], made: Redactor) -> str:
    stream, out, at = made.stream(), [], 0
    for size in [*sizes, len(text)]:
        out.append(stream.feed(text[at : at + size]))
        at += size
    return "".join([*out, stream.finish()])


def collapsed(text: str) -> str:
    return re.sub(rf"(?:{re.escape(MARK)})+", MARK, text)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_a_secret_is_cut_out_in_every_form_it_takes_by_accident(form):
    cleaned = box(SECRET).clean(f"before {form} after")

    assert MARK in cleaned
    # what may remain of base64 are the characters it shares with its neighbours
    assert len(cleaned) < len("before  after") + len(MARK) + 12
    assert cleaned.startswith("before ")
    assert cleaned.endswith(" after")


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_no_cut_of_a_stream_lets_a_secret_through(form):
    made = box(SECRET)
    text = f"a {form} b"
    whole = made.clean(text)
    for cut in range(len(text)):
        assert streamed(text, [cut], made) == whole


@pytest.mark.parametrize("shape", SHAPED.values(), ids=SHAPED.keys())
def test_what_is_shaped_like_a_key_is_cut_out_though_nobody_registered_it(shape):
    assert Redactor().clean(f"see {shape} there") == f"see {MARK} there"
    for cut in range(len(shape)):
        assert streamed(f"see {shape} there", [4 + cut], Redactor()) == f"see {MARK} there"


@pytest.mark.parametrize(
    "text", ["a task-force-of-seventeen-people", "sk-short", "AKIA", "eyJ", "-----BEGIN CERTIFICATE-----\nMIIB", "[redacted]"]
)
def test_ordinary_text_passes_unchanged(text):
    assert box(SECRET).clean(text) == text
    assert streamed(text, [3, 4], box(SECRET)) == text


def test_a_short_word_is_not_taken_for_a_secret():
    assert box("secret", "  abc  ", "").clean("the secret abc") == "the secret abc"


def test_the_tail_of_a_secret_that_overlaps_another_does_not_outlive_it():
    assert box("abcdefgh12", "gh12345678").clean("x abcdefgh12345678 y") == f"x {MARK} y"


@given(
    st.lists(
        st.sampled_from(
            ["hunter-2", "hunter-2hunter-2", "hunter", "-2", " ", "x", "hunte", "2-retnuh", "sk-", "ghp_", "-----BEGIN "]
        ),
        max_size=25,
    ),
    st.lists(st.integers(1, 5), max_size=60),
)
def test_a_stream_says_what_the_whole_text_would_however_it_is_cut(pieces, sizes):
    text, made = "".join(pieces), box("hunter-2", "hunter-2hunter-2")

    assert collapsed(streamed(text, sizes, made)) == collapsed(made.clean(text))


def test_a_stream_gives_out_ordinary_words_at_once():
    stream = box(SECRET).stream()

    assert stream.feed("Hello there, ") == "Hello there, "
    assert stream.feed("you. ") == "you. "


@pytest.mark.parametrize(
    "unit", ["a", "hunter-", "sk-", "eyJ", "eyJaaaaaaaa.", "-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "AKIA", "z"]
)
def test_hostile_text_costs_linear_time(unit):
    made = box("hunter-2-hunter-2", "zzzzzzzzzzzz")
    started = time.process_time()
    made.clean(unit * (500_000 // len(unit)))
    stream = made.stream()
    for _ in range(2_000):
        stream.feed(unit)
    stream.finish()

    assert time.process_time() - started < 5


def test_a_secret_registered_for_the_process_is_unknown_to_no_one():
    assert "made-up-secret" in redact("a made-up-secret-for-this-test")
    register("made-up-secret-for-this-test")

    assert redact("a made-up-secret-for-this-test") == f"a {MARK}"
