"""Novelty by words and numbers: 0 for a copy, 1 for nothing in common, every figure countable by hand."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_patterns.novelty import Lexicon, agreement, cosine, diversity, features, judge, mean_similarity, similarity, topics
from agent_patterns.reduce import normal

TEXT = "The roof leaks. Repair costs $12,500 and takes 3 weeks."


def alike(one, other, lexicon=None):
    rules = lexicon or Lexicon()
    return similarity(features(one, rules), features(other, rules), rules.tolerance)


@pytest.mark.parametrize("text", [TEXT, "", "?", "yes", "1", "the", "。。", "日本語 テキスト", "\x1b[31mred", "a" * 300_000])
def test_a_copy_scores_0(text):
    assert [one.score for one in judge([("a", text), ("b", text)])][1] == 0


@pytest.mark.parametrize(
    ("one", "other"), [(TEXT, "Nothing alike here"), ("4", "5"), ("yes", "no"), ("?", "!"), ("the", "5"), ("", "x")]
)
def test_texts_with_nothing_in_common_score_1(one, other):
    assert judge([("a", one), ("b", other)])[1].score == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("$500,000", "$500K"), ("500000", "$ 500k"), ("1.5 million", "1,500,000"), ("€2bn", "2,000 million"), ("12 percent", "12%"),
        ("7'000", "7000"), ("٣", "3"), ("costs 1 000", "costs 1 000"),
    ],
)  # fmt: skip
def test_a_number_is_the_same_however_it_is_written(one, other):
    assert alike(one, other) == 1


@pytest.mark.parametrize(("one", "other"), [("12%", "12"), ("5", "50"), ("$5K", "$5M"), ("v2", "2"), ("2.0.1", "201")])
def test_numbers_of_another_kind_or_size_are_not_the_same(one, other):
    assert alike(one, other) < 1


@pytest.mark.parametrize(("tolerance", "same"), [(0.01, True), (0.0099, False), (0.0, False), (0.5, True)])
def test_numbers_within_the_tolerance_of_the_larger_one_are_the_same(tolerance, same):
    assert (alike("100", "99", Lexicon(tolerance=tolerance)) == 1) is same


def test_similarity_is_counted_by_hand():
    # words: roof leaks repair | roof leaks badly -> 2 shared of 4; numbers: 3 | 3, 9 -> 1 shared; 3 / (4 + 5 - 3)
    assert alike("The roof leaks: repair 3", "roof leaks badly 3 9") == pytest.approx(3 / 6)


def test_repetition_counts():
    assert alike("no no no", "no") == pytest.approx(1 / 3)


def test_a_negation_makes_a_difference():
    assert 0 < alike("we should buy", "we should not buy") < 1


def test_synonyms_are_one_word_and_the_head_may_be_a_stop_word():
    words = Lexicon({"price": ["cost", "value", "Costs"]})

    assert alike("The COSTS of it", "its price", words) == 1
    assert alike("its value", "its cost", words) == 1
    assert alike("its value", "its cost") == 0


def test_a_judgement_names_topics_neighbours_and_what_is_left():
    answers = [("ann", "roof roof leaks"), ("bob", "cellar dry"), ("cid", "roof leaks cellar")]
    first, second, third = judge(answers, least=0.5)

    assert (first.is_novel, first.most_similar, first.score, first.redundant_topics) == (True, None, 1, ())
    assert (second.is_novel, second.most_similar, second.new_topics) == (True, ("ann", 0.0), ("dry", "cellar"))
    # roof, leaks of roof, roof, leaks and roof, leaks, cellar: 2 / (3 + 3 - 2)
    assert (third.score, third.most_similar, third.is_novel) == (0.5, ("ann", 0.5), True)
    assert (third.new_topics, set(third.redundant_topics)) == ((), {"roof", "leaks", "cellar"})
    assert third.uncovered == ("dry",)
    assert third.coverage == 0.75


def test_a_dropped_answer_is_no_neighbour_of_later_ones():
    answers = [("a", "one two three four"), ("b", "one two three five"), ("c", "two three five six")]

    assert [one.most_similar and one.most_similar[0] for one in judge(answers, least=0.6)] == [None, "a", "a"]


def test_diversity_and_agreement_are_means_over_all_pairs():
    texts = ["x y", "x y", "z"]

    assert diversity(texts) == pytest.approx(1 - (1 + 0 + 0) / 3, abs=1e-4)
    assert agreement(texts) == pytest.approx(1 / 3, abs=1e-4)
    assert (agreement(["x"]), diversity([])) == (None, None)


def test_of_many_texts_a_fixed_number_of_pairs_is_compared():
    calls = []

    assert mean_similarity(range(5000), lambda one, other: calls.append((one, other)) or 1.0) == 1.0
    assert len(calls) == 20_000
    assert len({one for one, _ in calls}) == 5000


def test_the_rarer_of_two_equally_frequent_words_is_the_better_topic():
    found = topics([features("roof cellar"), features("roof garden"), features("roof")], Lexicon(top=1))

    assert found == [("cellar",), ("garden",), ("roof",)]


def test_embeddings_replace_words_where_they_are_given():
    judged = judge([("a", "x"), ("b", "x"), ("c", "y")], vectors=[[1, 0], [0, 1], [2, 0]])

    assert [one.score for one in judged] == [1, 1, 0]
    assert cosine([1, 0], [1]) == cosine([0, 0], [1, 1]) == 0.0
    assert cosine([1, 1], [-1, -1]) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "1," * 100_000,
        "1,111" * 40_000,
        "a'" * 100_000,
        "1." * 100_000,
        "$" * 200_000,
        "9" * 200_000,
        "usd " * 50_000,
        "1 k" * 60_000,
    ],
)
def test_hostile_text_is_read_in_no_time(text):
    began = time.monotonic()
    features(text)
    normal(text)

    assert time.monotonic() - began < 2


@given(st.text(max_size=80), st.text(max_size=80))
def test_similarity_is_symmetric_between_0_and_1_and_1_for_itself(one, other):
    assert alike(one, other) == alike(other, one)
    assert 0 <= alike(one, other) <= 1
    assert alike(one, one) == 1
