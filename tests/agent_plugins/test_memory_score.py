"""Formulas of memory, each against figures that were worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_plugins.memory import clusters, score, vectors
from agent_plugins.memory.items import Importance, Item, Rule

DAY, HOUR = score.DAY, score.HOUR


@pytest.mark.parametrize(
    ("days", "left"),
    # 0.9 · e^(-days/30): e^-1 = 0.367879, e^-0.5 = 0.606531, e^-2 = 0.135335, e^(-86.7/30) = 0.055576
    [(0, 0.9), (15, 0.545878), (30, 0.331091), (60, 0.121802), (86.7, 0.050018), (86.72, 0.049985), (-5, 0.9)],
)
def test_an_item_of_importance_0_9_fades_along_the_forgetting_curve(days, left):
    assert score.forgetting(0.9, days * DAY, 30 * DAY) == pytest.approx(left, abs=1e-6)


def test_an_item_of_importance_0_9_reads_0_331_after_30_days_and_is_below_0_05_after_86_7():
    item, rule = Item("a", "long", "x", 0.9, created=1000.0), Rule(decay="forgetting")

    assert f"{rule.importance(item, 1000.0 + 30 * DAY):.3f}" == "0.331"
    # 30 · ln 18 = 86.711 days
    assert rule.importance(item, 1000.0 + 86.71 * DAY) > 0.05 > rule.importance(item, 1000.0 + 86.72 * DAY)


def test_thirty_days_of_stability_are_20_8_days_of_half_life():
    assert score.forgetting(1.0, 30 * math.log(2) * DAY, 30 * DAY) == pytest.approx(0.5)
    assert 30 * math.log(2) == pytest.approx(20.794, abs=1e-3)


@pytest.mark.parametrize(("hours", "left"), [(0, 0.8), (24, 0.4), (48, 0.2), (12, 0.565685), (72, 0.1)])
def test_a_half_life_of_24_hours_halves_every_24_hours(hours, left):
    assert score.half_life(0.8, hours * HOUR, 24 * HOUR) == pytest.approx(left, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "keywords", "density"),
    [
        ("pay the rent today", ["rent", "pay"], 0.5),
        ("Pay pay PAY", ["pay"], 1.0),
        ("nothing here", ["rent"], 0.0),
        ("", ["rent"], 0.0),
        ("rent", [], 0.0),
    ],
)
def test_keyword_density_is_hits_over_words_and_at_most_one(text, keywords, density):
    assert score.keyword_density(text, keywords) == pytest.approx(density)


@pytest.mark.parametrize(
    ("text", "density"), [("Ada met Bob today", 0.5), ("all lower case", 0.0), ("A B", 1.0), ("", 0.0), ("Ä ö", 0.5)]
)
def test_entity_density_is_capitalised_words_over_words(text, density):
    assert score.entity_density(text) == pytest.approx(density)


@pytest.mark.parametrize(
    ("hours", "per_hour", "left"), [(0, 0.01, 1.0), (24, 0.01, 0.786628), (100, 0.01, 0.367879), (2, 0.5, 0.367879), (-3, 1, 1)]
)
def test_recency_is_e_to_the_minus_rate_times_hours(hours, per_hour, left):
    assert score.recency(hours * HOUR, per_hour) == pytest.approx(left, abs=1e-6)


@pytest.mark.parametrize(("pairs", "mean"), [([(0.8, 2), (0.2, 1)], 0.6), ([(1, 1), (0, 3)], 0.25), ([], 0.0), ([(1, 0)], 0.0)])
def test_a_composite_is_the_weighted_mean(pairs, mean):
    assert score.composite(pairs) == pytest.approx(mean)


def test_the_importance_of_a_turn_is_the_composite_of_the_three():
    how = Importance(keywords=("rent",), keyword_weight=0.5, entity_weight=0.3, recency_weight=0.2, decay_per_hour=0.01)

    # words: Ada must pay rent = 4; keyword 1/4, capitalised 1/4, 100 h old: e^-1
    assert how.of("Ada must pay rent", 100 * HOUR) == pytest.approx(0.5 * 0.25 + 0.3 * 0.25 + 0.2 * 0.367879, abs=1e-6)


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [("a b", "b c", 1 / 3), ("a", "a", 1), ("a", "b", 0), ("", "", 1), ("a b c d e f", "a b c d e f g", 6 / 7)],
)
def test_jaccard_is_shared_words_over_all_words(one, other, share):
    assert score.jaccard(one.split(), other.split()) == pytest.approx(share)


@pytest.mark.parametrize(("text", "count"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("äöü", 2), ("x" * 401, 101)])
def test_a_token_is_four_bytes_rounded_up(text, count):
    assert score.tokens(text) == count


@pytest.mark.parametrize(("uses", "most", "share"), [(0, 0, 0), (0, 7, 0), (7, 7, 1), (1, 3, 0.5)])
def test_frequency_is_from_nothing_to_one(uses, most, share):
    assert score.frequency(uses, most) == pytest.approx(share)


def test_the_hybrid_score_is_the_sum_with_the_two_weights():
    assert score.hybrid((0.5, 0.9, 0.25, 1.0), (0.2, 0.1)) == pytest.approx(0.5 + 0.9 + 0.05 + 0.1)


# --- vectors


@pytest.mark.parametrize(("count", "having", "weight"), [(1, 1, 0.693147), (3, 1, 1.386294), (4, 2, 1.098612), (10, 0, 2.397895)])
def test_idf_is_the_logarithm_of_one_plus_n_over_df(count, having, weight):
    assert vectors.idf(count, having) == pytest.approx(weight, abs=1e-6)


def test_words_are_folded_and_stop_words_are_left_out():
    assert vectors.words("The Ownership of Data, isn't it? OWNERSHIP 42") == ["ownership", "data", "isn't", "ownership", "42"]
    assert vectors.words("内存安全") == ["内存", "存安", "安全"]


def test_vectors_have_length_one_and_their_cosine_is_worked_out_by_hand():
    corpus = vectors.Corpus([["tea", "hot"], ["tea", "cold"], ["data"]])
    tea, other = math.log(2.5), math.log(4)  # N=3: tea in 2, the others in 1
    size = math.sqrt(tea**2 + other**2)

    assert corpus.vectors[0] == pytest.approx({"tea": tea / size, "hot": other / size})
    assert list(corpus.search(["tea"])) == pytest.approx([tea / size, tea / size, 0.0])
    assert vectors.cosine(corpus.vectors[0], corpus.vectors[1]) == pytest.approx(tea * tea / size**2)
    assert sum(weight * weight for weight in corpus.vectors[1].values()) == pytest.approx(1.0)


def test_a_word_that_no_text_has_makes_the_question_less_like_all_of_them():
    corpus = vectors.Corpus([["tea", "hot"], ["data", "race"]])

    assert corpus.search(["tea", "unicorn"])[0] < corpus.search(["tea"])[0]


def test_an_empty_corpus_and_an_empty_question_have_nothing_in_common():
    assert list(vectors.Corpus([]).search(["a"])) == []
    assert list(vectors.Corpus([["a"], []]).search([])) == [0.0, 0.0]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6), max_size=8), st.sampled_from([0.0, 0.3, 0.65, 0.85, 0.99]))
def test_what_is_alike_is_found_as_if_all_had_been_compared(texts, limit):
    corpus = vectors.Corpus(texts)
    for number, text in enumerate(texts):
        others = [at for at in range(len(texts)) if at == number or vectors.cosine(corpus.at(number), corpus.at(at)) > limit]
        assert corpus.alike(number, limit) == (others if text else [])


# --- clusters


def test_clusters_begin_with_the_first_vector_and_then_the_farthest():
    found = vectors.Corpus([["a", "b"], ["a", "c"], ["x", "y"], ["x", "z"], ["q"]]).vectors

    assert clusters.farthest(found, 3) == [found[0], found[2], found[4]]
    assert clusters.farthest(found, 0) == []


def test_clusters_are_the_same_every_time_and_never_more_than_the_items():
    found = vectors.Corpus([["a", "b"], ["x", "y"], ["a", "b", "c"], ["x", "y", "z"], ["a", "b", "d"]]).vectors
    once = clusters.clusters(found, 2, 10)

    assert [cluster.members for cluster in once] == [(0, 2, 4), (1, 3)]
    assert clusters.clusters(found, 2, 10) == once
    assert len(clusters.clusters(found, 50, 10)) == 5
    assert clusters.clusters([], 8, 10) == []
