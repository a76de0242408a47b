"""What is extracted stands in the text, is the same every time, and grows with the text, not with its square."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_plugins import extract

REPORT = """# Pipes

A pipe carries the output of one program to the input of the next. Programs in a pipe run at the same time.
When a program in the pipe fails, the programs after it may see no input at all.

- the weather was fine
- lunch was late

A shell starts the programs of a pipe and connects each pipe before the programs run. I had tea, e.g. with Dr. Smith at 5 p.m. today.

| a | b |
|---|---|
| 1 | 2 |

```
x = pipe()
```
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dr. Smith met J. R. Jones at 5 p.m. on Jan. 3. He was happy!", ["Dr. Smith met J. R. Jones at 5 p.m. on Jan. 3.", "He was happy!"]),
        ("One. two is lower case. Three", ["One. two is lower case.", "Three"]),
        ("# Title\ntext goes\non. Next.\n\n- an item\n- another", ["Title", "text goes on.", "Next.", "an item", "another"]),
        ('She said "No." Then she left…  Why?', ['She said "No."', "Then she left…", "Why?"]),
        ("日本は島国です。東京は首都です。", ["日本は島国です。", "東京は首都です。"]),
        ("```\ncode. Here.\n```\nafter", ["after"]), ("|a|b|\n|-|-|\n", []), ("----\n", []), ("", []), (" \n\t\n", []), ("...", []),
        ("3.5 is a number. 4.5 too.", ["3.5 is a number.", "4.5 too."]),
    ],
)  # fmt: skip
def test_sentences_end_where_a_reader_would_end_them(text, expected):
    assert extract.sentences(text) == expected


def test_a_summary_takes_the_central_sentences_in_the_order_of_the_text():
    found = extract.summary(REPORT, 2)

    assert len(found) == 2
    assert found[0] == "A pipe carries the output of one program to the input of the next."
    assert all("pipe" in sentence for sentence in found)
    assert [extract.sentences(REPORT).index(each) for each in found] == sorted(
        extract.sentences(REPORT).index(each) for each in found
    )


def test_words_steer_which_sentences_are_taken():
    assert "lunch was late" in extract.summary(REPORT, 2, "when was lunch?")
    assert extract.relevant(REPORT, "which programs fail?", 1) == [
        "When a program in the pipe fails, the programs after it may see no input at all."
    ]
    assert extract.relevant(REPORT, "zebra") == extract.relevant(REPORT, "the of and") == []


def test_what_was_said_already_is_not_taken_again():
    text = "The moon pulls the sea. " * 5 + "Ships wait for the tide. Harbours are built where the sea is deep."

    assert len(set(extract.summary(text, 3))) == 3


@pytest.mark.parametrize("count", [-1, 0, 1, 3, 1000])
def test_a_summary_is_never_longer_than_asked(count):
    assert len(extract.summary(REPORT, count)) == min(max(0, count), len(extract.sentences(REPORT)))


@given(st.text(alphabet=st.sampled_from("ab Cd.!?\n-#*|`…\ud800é中。1\t\x00"), max_size=400), st.integers(-2, 6))
def test_every_text_gives_sentences_of_itself(text, count):
    found = extract.summary(text, count, "ab")

    assert found == extract.summary(text, count, "ab")
    assert all(
        extract.stands_in(each, text.replace("#", "").replace("*", "").replace("-", "")) or set("#*-") & set(text) for each in found
    )


@pytest.mark.parametrize(
    ("quote", "stands"),
    [
        ("carries the output", True), ("Carries  the\noutput", True), ("carries … the next", True), ("a pipe […] of the next", True),
        ("the next … carries", False), ("carries no output", False), ("", True), ("…", True), ('"carries the output"', True),
    ],
)  # fmt: skip
def test_a_quote_counts_only_if_its_words_stand_there_in_order(quote, stands):
    assert extract.stands_in(quote, REPORT) is stands


def test_quotation_marks_and_dashes_of_all_kinds_are_the_same():
    assert extract.stands_in("don\u2019t \u201cgo\u201d \u2013 now", 'We don\'t "go" - now.')


def test_texts_with_the_same_words_are_alike_and_others_are_not():
    assert extract.similar("Errors have one class each", "each error has one class") > 0.8
    assert extract.similar("Errors have one class each", "Tests mirror the packages") == 0.0
    assert extract.similar("", "") == 0.0


def test_a_long_text_takes_seconds_not_hours():
    text = " ".join(
        f"Sentence number {number} speaks of topic {number % 97} and of matter {number % 13}." for number in range(6_000)
    )
    began = time.monotonic()

    assert len(extract.summary(text, 5)) == 5
    assert time.monotonic() - began < 6


@pytest.mark.parametrize(
    "text", ["a" * 200_000, "a " * 100_000, "." * 100_000, "- " * 50_000, "\n" * 100_000, '"' * 50_000, "#" * 50_000]
)
def test_text_that_is_no_prose_is_dealt_with_at_once(text):
    began = time.monotonic()
    extract.summary(text, 3)

    assert time.monotonic() - began < 5
