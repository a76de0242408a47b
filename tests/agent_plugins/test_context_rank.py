"""What fits: hand-worked BM25 scores, the order of choice, and a cap that always holds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_core.task import compose, split
from agent_plugins.context import rank, report
from agent_plugins.context.gather import Left, Piece
from agent_plugins.context.rank import Passage


def test_words_take_code_apart():
    assert rank.words("parseHTTPRequest snake_case_9 naïve Größe") == ["parse", "http", "request", "snake", "case", "9", *rank.words("naïve"), *rank.words("Größe")]  # fmt: skip
    assert rank.words("") == []


def test_scores_are_those_of_the_formula_worked_by_hand():
    # Paths have no letters, so lengths are 2, 4 and 3 words; mean 3. "cat" is in two of three, "dog" in one.
    texts = ["cat sat", "cat cat dog ran", "it just rained"]
    passages = [Passage("_", text, number) for number, text in enumerate(texts)]
    idf_cat = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    idf_dog = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    first = idf_cat * 1 * 2.5 / (1 + 1.5 * (0.25 + 0.75 * 2 / 3))
    second = idf_cat * 2 * 2.5 / (2 + 1.5 * (0.25 + 0.75 * 4 / 3)) + idf_dog * 1 * 2.5 / (1 + 1.5 * (0.25 + 0.75 * 4 / 3))

    assert rank.likeness(["cat", "dog", "cat"], passages) == pytest.approx([first, second, 0.0])
    assert first == pytest.approx(0.5529, abs=1e-4)


def test_a_word_of_the_path_counts_three_times():
    passages = [Passage("breaker.py", "x x x x x x", 0), Passage("other.py", "breaker x x x x x x x", 1)]
    by_path, by_text = rank.likeness(["breaker"], passages)

    assert by_path > by_text


def pieces(**texts):
    return [Piece(name.replace("__", "/").replace("_", "."), text) for name, text in texts.items()]


FILLER = "lorem ipsum dolor " * 60  # about 380 tokens


def names(choice):
    return [origin for origin, _ in choice.materials]


def test_all_is_taken_in_its_order_where_all_fits():
    choice = rank.choose("b", pieces(z_md="1", b_md="2", a_md="3"), 1000)

    assert (names(choice), choice.left, choice.partly) == (["z.md", "b.md", "a.md"], (), ())


def test_what_the_question_names_comes_first_then_what_is_like_it():
    texts = pieces(a_md=FILLER, b_md=FILLER + "parser", c_md=FILLER, deep__d_md=FILLER)
    assert names(rank.choose("fix the parser", texts, 450)) == ["b.md"]
    assert names(rank.choose("fix the parser as c.md says", texts, 450)) == ["c.md"]
    assert names(rank.choose("fix the parser as c.md says", texts, 900)) == ["b.md", "c.md"]
    assert rank.choose("fix the parser as c.md says", texts, 900).left == ("a.md", "deep/d.md")


def test_what_context_names_by_itself_comes_before_all():
    texts = [*pieces(b_md=FILLER + "parser"), Piece("named.md", FILLER, named=True)]

    assert names(rank.choose("the parser in b.md", texts, 450)) == ["named.md"]


@pytest.mark.parametrize(
    ("instruction", "origin", "named"),
    [
        ("look at src/a.py please", "src/a.py", True), ("look at a.py", "src/a.py", True), ("look at 'a.py'.", "src/a.py", True),
        ("look at ba.py", "src/a.py", False), ("look at a.pyx", "src/a.py", False), ("the a", "a", False), ("other/a.py", "src/a.py", False),
    ],
)  # fmt: skip
def test_a_path_is_named_as_a_whole(instruction, origin, named):
    assert rank.mentions(instruction, origin) is named


def test_of_a_large_file_the_parts_most_like_the_question_are_taken_with_their_lines():
    lines = [f"line {number} of filler text that says nothing\n" for number in range(1, 2001)]
    lines[1499] = "the breaker opens after five failures\n"
    choice = rank.choose("when does the breaker open?", pieces(big_md="".join(lines)), 2500)

    assert choice.partly == ("big.md",)
    (origin, text), *_ = choice.materials
    assert "the breaker opens after five failures" in "".join(text for _, text in choice.materials)
    first = int(origin.partition("(lines ")[2].partition("-")[0])
    assert text.startswith(lines[first - 1])


def test_parts_that_meet_become_one_and_a_whole_file_has_no_lines():
    text = "".join(f"line {number}\n" for number in range(4000))
    parts = rank.cut(Passage("f", text, 0))
    assert len(parts) > 3
    assert "".join(part.text for part in parts) == text
    joined = rank._joined(parts)
    assert len(joined) == 1
    assert names(rank._choice(joined, [Passage("f", text, 0)])) == ["f"]


def test_a_line_without_an_end_is_cut_too():
    assert all(rank.tokens_of(part.text) <= rank.PASSAGE for part in rank.cut(Passage("min.js", "x" * 100_000, 0)))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=3000)), max_size=12), st.integers(1, 3000), st.text(max_size=60))
def test_the_cap_holds_and_everything_is_accounted_for(files, cap, instruction):
    given_pieces = [Piece(f"{number}{name}", text * 5) for number, (name, text) in enumerate(files)]
    choice = rank.choose(instruction, given_pieces, cap)

    assert rank.tokens_of(compose("", choice.materials)) <= cap
    whole = len(given_pieces) - len(choice.left) - len(choice.partly)
    assert whole + len(choice.partly) <= len(choice.materials) + 0
    assert {piece.origin for piece in given_pieces} >= {*choice.left, *choice.partly}


def test_materials_can_be_read_back_whatever_they_hold():
    texts = [Piece('a"b\n', compose("", [("x", "y")])), Piece("b", "</material 0123>")]
    choice = rank.choose("q", texts, 10_000)

    assert [text for _, text in split(compose("q", choice.materials))[1]] == [piece.text for piece in texts]


def test_the_same_question_makes_the_same_choice():
    texts = pieces(**{f"f{number}_md": FILLER + str(number) for number in range(30)})

    assert len({rank.choose("lorem 7", texts, 2000) for _ in range(5)}) == 1


def test_what_was_left_out_is_said_in_words_and_nothing_else_is():
    texts = pieces(a_md=FILLER + "parser", b_md=FILLER, c_md=FILLER)
    choice = rank.choose("parser", texts, 450)
    left = [Left("x.bin", "not text in UTF-8"), *(Left(f"{n}.env", "usually secret; name one to take it") for n in range(6))]

    assert report(choice, 3, left, 450) == [
        f"context: 1 of 3 texts are whole, about {choice.tokens} of 450 tokens (--context-tokens)",
        "context: left out, least like the question: b.md, c.md",
        "context: left out, not text in UTF-8: x.bin",
        "context: left out, usually secret; name one to take it: 0.env, 1.env, 2.env, 3.env and 2 more",
    ]
    assert report(rank.choose("parser", texts, 9000), 3, [], 9000) == []
