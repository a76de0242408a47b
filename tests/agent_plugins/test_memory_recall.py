"""What is found for a question, and in which order."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_plugins.memory import recall, score
from agent_plugins.memory.items import Item, Rules

NOW = 1_800_000_000.0
HOUR = 3600.0


def item(id_, text, **more):
    return Item(id_, more.pop("kind", "semantic"), text, created=more.pop("created", NOW), **more)


def test_the_score_is_worked_out_by_hand():
    found = [
        item("a", "Ownership prevents data races", importance=0.9, created=NOW - 100 * HOUR, accesses=1),
        item("b", "Tea is hot", importance=0.2, accessed=NOW, accesses=3),
    ]
    first, second = recall.recall(found, "ownership safety", Rules(recency_per_hour=0.01), NOW)

    # text: N=2, ownership in 1, safety in 0 (as if 1): log 3 / (2 · log 3) = 1/2. vector: 1/√2 · 1/2 = 0.354. The larger is 1/2.
    assert (first.item.id, first.similarity) == ("a", pytest.approx(0.5))
    assert (first.importance, first.recency, first.frequency) == (
        0.9,
        pytest.approx(math.exp(-1)),
        pytest.approx(0.5),
    )  # log 2 / log 4
    assert first.score == pytest.approx(0.5 + 0.9 + 0.2 * math.exp(-1) + 0.1 * 0.5)
    assert (second.similarity, second.recency, second.frequency) == (0.0, 1.0, 1.0)
    assert second.score == pytest.approx(0.2 + 0.2 + 0.1)


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("racing", [0]),  # stems
        ("tea", [1, 2]),
        ("TÉA", [1, 2]),  # accents and case
        ('"hot tea"', [2]),
        ('hot "cold tea"', [1, 2]),
        ("内存", [3]),
        ("nothing of this", []),
        ("the of and", []),
        ("", []),
    ],
)
def test_full_text_knows_stems_accents_phrases_and_scripts_without_spaces(question, found):
    texts = ["Ownership prevents data races", "Tea is hot", "I like hot tea", "所有权保证内存安全"]

    assert [at for at, near in enumerate(recall.similarities(texts, question, "text")) if near > 0] == found


@pytest.mark.parametrize(
    "question",
    ['"', '""', '" OR text:*', "NEAR(a b)", "a AND NOT b*", "col:x", "\0", "'); DROP TABLE items;--", "^a", "\ud800", "x" * 10_000],
)
def test_nothing_in_a_question_is_syntax(question):
    near = recall.similarities(["a b text", "NEAR me", "drop table items"], question)

    assert len(near) == 3
    assert all(0.0 <= each <= 1.0 + 1e-9 for each in near)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=6), st.text(max_size=60), st.sampled_from(["hybrid", "text", "vector"]))
def test_any_texts_and_any_question_have_a_likeness_from_nothing_to_one(texts, question, match):
    near = recall.similarities(texts, question, match)

    assert len(near) == len(texts)
    assert all(0.0 <= each <= 1.0 + 1e-9 for each in near)


def test_what_is_the_same_as_the_question_is_like_it_altogether():
    for match in ("hybrid", "text", "vector"):
        assert recall.similarities(["ownership prevents races", "tea"], "ownership prevents races", match)[0] == pytest.approx(1.0)


def test_tags_and_keys_are_searched_too():
    found = [item("a", "x", tags=("rust",)), item("b", "Oslo", key="home"), item("c", "z")]

    assert recall.recall(found, "rust", Rules(), NOW)[0].item.id == "a"
    assert recall.recall(found, "home", Rules(), NOW)[0].item.id == "b"


def test_without_a_question_the_rest_of_the_score_decides_and_equal_ones_come_newest_first():
    found = [item("a", "x", importance=0.1), item("b", "y", importance=0.8), item("c", "z", importance=0.1, created=NOW + 1)]

    assert [hit.item.id for hit in recall.recall(found, "", Rules(), NOW)] == ["b", "c", "a"]


def test_vectors_can_be_switched_off():
    found = [item("a", "races of data")]

    assert recall.recall(found, "race", Rules(use_embeddings=False), NOW, "vector")[0].similarity == pytest.approx(1.0)
    assert recall.recall(found, "race", Rules(), NOW, "vector")[0].similarity == 0.0


@pytest.mark.parametrize(
    ("count", "tokens", "kept"),
    [(3, None, "abc"), (2, None, "ab"), (0, None, ""), (9, 11, "ab"), (9, 10, "ac"), (9, 9, "ac"), (9, 1, "c"), (9, 0, "")],
)
def test_a_recall_is_limited_by_items_and_by_tokens_of_four_bytes(count, tokens, kept):
    # 8, 3 and 1 tokens; what does not fit is passed over, not cut
    hits = recall.recall(
        [item("a", "x" * 32, importance=0.9), item("b", "y" * 12, importance=0.8), item("c", "zz", importance=0.7)],
        "",
        Rules(),
        NOW,
    )

    assert "".join(hit.item.id for hit in recall.limited(hits, count, tokens)) == kept


def test_ten_thousand_items_are_searched_in_no_time_to_speak_of():
    import time

    found = [item(f"i{n}", f"note {n} about topic{n % 97} and thing{n % 89} for person{n % 83}") for n in range(10_000)]
    began = time.process_time()
    hits = recall.recall(found, "topic5 person7", Rules(), NOW)

    assert hits[0].similarity > 0.9
    assert time.process_time() - began < 4.0
    assert score.tokens(hits[0].item.text) > 0
