"""Tests of matching: the two formulas of the ledger in one function, with their figures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_plugins.discovery import match as m
from agent_plugins.discovery.match import Candidate, Capability, Query, match, rank

NLP = Candidate(
    "nlp-agent", "summarise long documents", ("nlp", "summarise"), (Capability("summarise", ("nlp", "summarise"), 300, 0.005),)
)

TAGS = [
    # need, prefer, health -> score
    (("nlp",), ("summarise", "fast"), "healthy", 2 / 3),  # the example that the capability was described with: 2/3 x 1.0
    (("nlp",), ("summarise", "fast"), "degraded", 2 / 3 * 0.6),
    (("nlp",), ("summarise", "fast"), "unhealthy", 0.0),
    (("nlp",), ("summarise", "fast"), "unknown", 0.0),
    (("nlp",), ("summarise", "fast"), "made up", 0.0),
    (("nlp", "summarise"), (), "healthy", 1.0),
    (("nlp",), (), "healthy", 1 / 2),
    ((), ("fast",), "healthy", 0.0),
    ((), ("NLP",), "healthy", 1 / 2),
    ((), (), "degraded", 0.6),
]


@pytest.mark.parametrize(("need", "prefer", "health", "score"), TAGS)
def test_tags_score_jaccard_times_health(need, prefer, health, score):
    candidate = Candidate("x", tags=("nlp", "summarise"), health=health)

    assert match(candidate, Query(need=need, prefer=prefer)).score == pytest.approx(score)


def test_a_missing_required_tag_drops_whatever_else_fits():
    made = match(NLP, Query(need=("nlp", "vision"), prefer=("summarise",)))

    assert (made.score, made.dropped) == (0.0, "has no tag vision")


LIMITS = [
    ((300, 0.005), (500, 0.01), ""),
    ((300, 0.005), (300, 0.005), ""),
    ((300, 0.005), (299, None), "latency 300 ms is more than 299"),
    ((300, 0.005), (None, 0.001), "cost 0.005 USD is more than 0.001"),
    ((None, 0.005), (500, None), "latency is not known: no finished run to measure"),
    ((300, None), (None, 0.01), "cost is not known: no finished run to measure"),
    ((None, None), (None, None), ""),
]


@pytest.mark.parametrize(("figures", "limits", "dropped"), LIMITS)
def test_too_slow_too_dear_and_unknown_are_dropped(figures, limits, dropped):
    candidate = Candidate("x", tags=("nlp",), latency_ms=figures[0], cost_usd=figures[1])

    assert match(candidate, Query(need=("nlp",), max_ms=limits[0], max_usd=limits[1])).dropped == dropped


def test_of_several_capabilities_the_best_counts():
    candidate = Candidate(
        "x", tags=("a", "b", "c"), capabilities=(Capability("one", ("a",)), Capability("two", ("a", "z"), 9000.0))
    )

    assert match(candidate, Query(need=("a",))).score == 1.0
    assert match(candidate, Query(need=("a", "z"))).score == 1.0
    assert match(candidate, Query(need=("a", "z"), max_ms=10)).dropped == "latency 9000 ms is more than 10"


TEXTS = [
    # description, capabilities, text -> score = 0.5 * capabilities named + 0.5 * description words named
    ("review source code", ("review", "security"), "review code", 0.5 * 1 / 2 + 0.5 * 2 / 3),
    ("review source code", (), "review code", 0.5 * 0 + 0.5 * 2 / 3),
    ("", ("review",), "review code", 0.5),
    ("", (), "review code", 0.0),
    ("the and of", ("review",), "the and of", 0.0),
    ("review the source code", ("review",), "please review this source code for me", 1.0),
    ("review source code", ("code review",), "review", 0.5 * 0 + 0.5 * 1 / 3),
    ("review source code", ("code-review",), "code review", 0.5 * 1 + 0.5 * 2 / 3),
    ("summarise documents", ("summarisation",), "SUMMARIZE a document", 1.0),
    ("review code", ("review",), "cook dinner", 0.0),
]


@pytest.mark.parametrize(("description", "capabilities", "text", "score"), TEXTS)
def test_text_scores_half_for_capabilities_and_half_for_words(description, capabilities, text, score):
    candidate = Candidate("x", description, capabilities=tuple(map(Capability, capabilities)))

    assert match(candidate, Query(text)).score == pytest.approx(score)


def test_without_capabilities_the_tags_are_what_can_be_named():
    assert match(Candidate("x", "", ("review", "security")), Query("review")).score == pytest.approx(0.25)


def test_of_capabilities_and_tags_the_list_counts_of_which_more_is_named():
    candidate = Candidate(
        "x", tags=("text", "count"), capabilities=tuple(map(Capability, ("uppercase", "reverse", "trim", "sort_lines")))
    )

    assert match(candidate, Query("count this text")).score == pytest.approx(0.5)
    assert match(candidate, Query("reverse and trim this text and sort lines")).score == pytest.approx(0.5 * 3 / 4)
    assert match(candidate, Query("reverse this text")).score == pytest.approx(0.25)


def test_text_with_tags_is_the_mean_and_text_with_limits_alone_the_text():
    both = match(NLP, Query("summarise", need=("nlp",)))
    limited = match(NLP, Query("summarise", max_ms=500))

    assert both.score == pytest.approx((1 / 2 + (0.5 + 0.5 / 3)) / 2)
    assert limited.score == match(NLP, Query("summarise")).score
    assert match(NLP, Query("summarise", max_ms=5)).dropped


def test_below_the_least_score_there_is_no_match_and_health_0_is_none():
    weak = Candidate("weak", "one two three four five six seven eight nine ten review")
    sick = Candidate("sick", tags=("a",), health="unhealthy")

    assert rank([weak], Query("review")) == []
    assert [each.candidate.name for each in rank([weak], Query("review", min_score=0.01))] == ["weak"]
    assert rank([sick], Query(need=("a",))) == []
    assert rank([sick], Query(need=("a",), min_score=0.0)) == []


def test_the_best_come_first_ties_by_name_and_only_so_many():
    candidates = [Candidate(name, tags=tags) for name, tags in (("c", ("a",)), ("b", ("a",)), ("d", ("a", "x")))]

    assert [each.candidate.name for each in rank(candidates, Query(need=("a",)))] == ["b", "c", "d"]
    assert [each.candidate.name for each in rank(candidates, Query(need=("a",)), 1)] == ["b"]
    assert rank(candidates, Query(need=("a",)), 0) == []


def test_an_explanation_has_the_figures():
    assert m.explained(match(NLP, Query(need=("nlp",), prefer=("fast",)))) == "tags 1/3 (nlp) x health 1.0 (healthy)"
    assert m.explained(match(NLP, Query("summarising"))) == "capabilities 1/1 (summarise); description words 1/3 (summarise)"
    assert m.explained(match(NLP, Query(need=("x",)))) == "dropped: has no tag x"


SAME = [
    "summarise summarize summarizer summarising summarisation summaries summary", "translate translates translation translator",
    "document documents", "scan scanner scanning", "review reviews reviewed reviewer",
]  # fmt: skip
OTHER = [("code", "coordinate"), ("test", "text"), ("search", "seat"), ("css", "cs"), ("plan", "plant"), ("this", "thistle")]


@pytest.mark.parametrize("line", SAME)
def test_forms_of_one_word_have_one_stem(line):
    assert len({m.stem(word) for word in line.split()}) == 1


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_other_words_have_other_stems(one, other):
    assert m.stem(one) != m.stem(other)


names = st.sampled_from(["nlp", "code", "review", "fast", "vision"])
candidates = st.builds(
    Candidate, st.just("x"), st.text(), st.lists(names).map(tuple),
    st.lists(st.builds(Capability, st.text(), st.lists(names).map(tuple))).map(tuple), st.sampled_from(list(m.HEALTH)),
)  # fmt: skip


@given(candidates, st.builds(Query, st.text(), st.lists(names).map(tuple), st.lists(names).map(tuple)))
def test_a_score_is_from_0_to_1_whatever_a_card_and_a_query_say(candidate, query):
    assert 0.0 <= match(candidate, query).score <= 1.0


def test_matching_is_linear_in_the_length_of_a_query():
    import time

    began = time.process_time()
    match(NLP, Query("word " * 100_000 + "-" * 100_000 + "a" * 100_000))
    assert time.process_time() - began < 2
