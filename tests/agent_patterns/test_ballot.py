"""Hand-counted ballots, and lines that are none."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.errors import InputError, MissingInput, UpstreamError
from agent_patterns.ballot import Ballot, Entry, Vote, expanded, read
from agent_patterns.counting import FORMULAS, tally
from agent_patterns.reduce import Rules

A, B = Entry("a", ("ann",), "Buy."), Entry("b", ("bob",), "Sell.")


def votes(*rows):
    """Return votes from (voter, answer, approve | reject | abstain | veto | number)."""
    values = {"approve": 1.0, "reject": 0.0, "abstain": None, "veto": None}
    return tuple(Vote(v, a, k if isinstance(k, str) else "score", values[k] if isinstance(k, str) else k) for v, a, k in rows)


def count(rows, strategy="majority", entries=(A, B), **rules):
    return tally(Ballot(tuple(entries), votes(*rows)), strategy, Rules(**{"veto": frozenset(), **rules}))


YES, NO = "approve", "reject"
TABLE = [
    # what, votes, strategy, rules, winner, scores
    ("plain", [("x", "a", YES), ("y", "a", YES), ("z", "b", YES)], "majority", {}, "a", {"a": 2, "b": 1}),
    ("tie: the earlier", [("x", "b", YES), ("y", "a", YES)], "majority", {}, "a", {"a": 1, "b": 1}),
    ("scores count in part", [("x", "a", 0.9), ("y", "a", 0.6), ("x", "b", YES)], "majority", {}, "a", {"a": 1.5, "b": 1}),
    ("half is no majority", [("x", "a", YES), ("y", "a", NO)], "majority", {}, None, {"a": 1, "b": 0}),
    ("more than half is", [("x", "a", YES), ("y", "a", NO), ("z", "a", YES)], "majority", {}, "a", {"a": 2, "b": 0}),
    ("all against", [("x", "a", NO), ("x", "b", NO)], "majority", {}, None, {"a": 0, "b": 0}),
    ("the best may lack the majority", [("x", "a", YES), ("y", "a", YES), ("z", "a", NO), ("w", "a", NO), ("x", "b", YES)],
     "majority", {}, "b", {"a": 2, "b": 1}),
    ("abstentions do not score", [("x", "a", YES), ("y", "a", "abstain"), ("z", "a", "abstain")], "weighted", {}, "a", {"a": 1, "b": 0}),
    ("abstentions make a quorum", [("x", "a", YES), ("y", "a", "abstain"), ("z", "b", "abstain")], "majority", {"quorum": 3}, "a",
     {"a": 1, "b": 0}),
    ("abstentions alone", [("x", "a", "abstain")], "majority", {}, None, {"a": 0, "b": 0}),
    ("weight", [("senior", "a", NO), ("x", "a", YES), ("senior", "b", YES), ("x", "b", NO)], "majority", {"weights": {"senior": 2.0}},
     "b", {"a": 1, "b": 2}),
    ("a mean by weight", [("s", "a", 0.5), ("x", "a", YES), ("s", "b", 0.7), ("x", "b", 0.5)], "weighted", {"weights": {"s": 3.0}},
     "b", {"a": 0.625, "b": 0.65}),
    ("weight 0", [("x", "a", YES), ("y", "b", YES)], "majority", {"weights": {"x": 0.0}}, "b", {"a": 0, "b": 1}),
    ("weight 0 for all", [("x", "a", YES)], "weighted", {"weights": {"x": 0.0}}, None, {"a": 0, "b": 0}),
    ("a mean is of those who voted on it", [("x", "a", 0.9), ("x", "b", 0.8), ("y", "b", 0.8)], "weighted", {}, "a", {"a": 0.9, "b": 0.8}),
    ("a consensus is of everyone", [("x", "a", YES), ("y", "b", YES), ("z", "a", YES)], "consensus", {"threshold": 2 / 3}, "a",
     {"a": 0.666666667, "b": 0.333333333}),
    ("no consensus", [("x", "a", YES), ("y", "b", YES), ("z", "a", YES)], "consensus", {"threshold": 0.7}, None,
     {"a": 0.666666667, "b": 0.333333333}),
    ("a consensus without those who abstain", [("x", "a", YES), ("y", "a", YES), ("z", "a", "abstain")], "consensus", {"threshold": 1.0},
     "a", {"a": 1, "b": 0}),
    ("a consensus without authors", [("ann", "b", YES), ("bob", "a", YES), ("z", "a", YES)], "consensus", {"threshold": 1.0}, "a",
     {"a": 1, "b": 0.5}),
    ("a threshold of 0 still needs a vote", [("x", "a", NO)], "consensus", {"threshold": 0.0}, None, {"a": 0, "b": 0}),
    ("veto by a holder", [("x", "a", YES), ("y", "a", YES), ("d", "a", "veto"), ("x", "b", YES)], "majority", {"veto": frozenset("d")},
     "b", {"a": 2, "b": 1}),
    ("veto by a stranger", [("x", "a", YES), ("e", "a", "veto")], "majority", {"veto": frozenset("d")}, "a", {"a": 1, "b": 0}),
    ("everything vetoed", [("x", "a", YES), ("d", "a", "veto"), ("d", "b", "veto")], "majority", {"veto": frozenset("d")}, None,
     {"a": 1, "b": 0}),
    ("self-vote", [("ann", "a", YES), ("ann", "b", YES)], "majority", {}, "b", {"a": 0, "b": 1}),
    ("a second vote", [("x", "a", YES), ("x", "a", YES), ("y", "b", YES), ("z", "b", 0.5)], "majority", {}, "b", {"a": 1, "b": 1.5}),
    ("an unknown answer", [("x", "c", YES), ("y", "a", YES)], "majority", {}, "a", {"a": 1, "b": 0}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "strategy", "rules", "winner", "scores"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_a_ballot_comes_to_what_is_counted_by_hand(rows, strategy, rules, winner, scores):
    found = count(rows, strategy, **rules)

    assert (found.winner, dict(found.scores)) == (winner, scores)
    assert bool(found.why) is (winner is None)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (("ann", "a", YES), "their own answer"), (("ann", "a", "veto"), "their own answer"), (("x", "a", "veto"), "no right of veto"),
        (("x", "c", YES), "no such answer"),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_listed_and_counts_for_nothing_not_even_the_quorum(row, why):
    found = count([row], veto=frozenset({"ann"}), quorum=1)

    assert [(each["voter"], each["answer"], each["why"]) for each in found.refused] == [(*row[:2], why)]
    assert (found.voters, found.quorum_met, found.winner, found.vetoed) == (0, False, None, ())


def test_the_first_of_two_votes_counts():
    found = count([("x", "a", NO), ("x", "a", YES)])

    assert (found.scores["a"], found.refused[0]["vote"], found.refused[0]["why"]) == (0, "approve", "voted on it before")


def test_a_quorum_counts_voters_and_an_unmet_one_leaves_the_tally():
    rows = [("x", "a", YES), ("x", "b", NO), ("y", "a", YES)]

    assert (count(rows, quorum=2).winner, count(rows, quorum=2).voters) == ("a", 2)
    found = count(rows, quorum=3)
    assert (found.winner, found.text, found.quorum_met, found.scores["a"]) == (None, "", False, 2)
    assert found.why == "no quorum: 2 voted and 3 are needed"


def test_a_veto_counts_for_the_quorum():
    assert count([("d", "a", "veto"), ("x", "b", YES)], veto=frozenset("d"), quorum=2).winner == "b"


def test_a_tie_is_told():
    assert count([("x", "a", YES), ("y", "b", YES)]).tied == ("a", "b")
    assert count([("x", "a", YES)]).tied == ()


def test_consensus_points_are_the_answers_that_two_or_more_judged_and_nobody_opposed():
    rows = [("x", "a", YES), ("y", "a", 0.5), ("x", "b", YES), ("y", "b", 0.4)]

    assert count(rows).consensus_points == ("a",)
    assert count([("x", "a", YES)]).consensus_points == ()
    assert count([*rows, ("d", "a", "veto")], veto=frozenset("d")).consensus_points == ()


def test_votes_are_counted_by_kind():
    found = count(
        [("x", "a", YES), ("y", "a", NO), ("z", "a", 0.3), ("w", "a", "abstain"), ("d", "a", "veto")], veto=frozenset("d")
    )

    assert found.votes == {
        "a": {"approve": 1, "reject": 1, "abstain": 1, "veto": 1, "score": 1},
        "b": {"approve": 0, "reject": 0, "abstain": 0, "veto": 0, "score": 0},
    }


def test_votes_without_answers_are_on_the_ids_they_name():
    found = count([("x", "b", YES), ("y", "a", YES), ("z", "a", YES)], entries=())

    assert (found.winner, found.text) == ("a", "a")


# --- answers alone


def said(*rows, strategy="majority", **rules):
    entries = tuple(Entry(name, (name,), text) for name, text in rows)
    return tally(Ballot(entries), strategy, Rules(**rules))


@pytest.mark.parametrize("strategy", FORMULAS)
def test_without_votes_the_same_answer_is_a_vote_for_it(strategy):
    found = said(("x", "Rome"), ("y", "Paris"), ("z", "paris."), strategy=strategy, threshold=0.6)

    assert (found.winner, found.text, found.consensus_points) == ("y", "Paris", ("y",))
    assert dict(found.scores) == ({"x": 1, "y": 2} if strategy == "majority" else {"x": 0.333333333, "y": 0.666666667})


def test_a_plurality_of_answers_is_enough_for_a_majority_but_not_for_a_consensus():
    rows = [("v", "1"), ("w", "1"), ("x", "2"), ("y", "3"), ("z", "4")]

    assert said(*rows).winner == "v"
    assert said(*rows, strategy="consensus").winner is None


def test_weights_and_quorum_hold_for_answers_alone():
    rows = [("a", "1"), ("b", "2"), ("c", "2")]

    assert said(*rows, weights={"a": 3.0}).winner == "a"
    assert said(*rows, weights={"a": 3.0}, strategy="weighted").scores["a"] == 0.6
    assert (said(*rows, quorum=3).winner, said(*rows, quorum=4).quorum_met) == ("b", False)


@pytest.mark.parametrize(
    ("text", "holders", "winner", "vetoed"),
    [
        ("veto", {"c"}, None, ("a", "b")), ("veto buy", {"c"}, "b", ("a",)), ("Veto: b", {"c"}, "a", ("b",)), ("veto", {"d"}, "a", ()),
        ("veto hold", {"c"}, "a", ()),
    ],
)  # fmt: skip
def test_an_answer_that_is_a_veto_is_one_from_a_holder_only(text, holders, winner, vetoed):
    found = said(("a", "Buy."), ("b", "Sell."), ("c", text), veto=frozenset(holders))

    assert (found.winner, found.vetoed) == (winner, vetoed)
    assert bool(found.refused) is (not vetoed)


def test_nothing_at_all_has_no_winner():
    assert tally(Ballot()).winner is None


# --- reading


def line(**row):
    return json.dumps(row)


def record(name="ann", output="x", kind="result", **data):
    return line(agentpipe="1", type=f"agentpipe.{kind}", source=f"agent:{name}@0.1.0", data={"output": output, "exit": 0, **data})


def test_answers_votes_and_records_are_read_from_one_stream():
    found = read([
        line(answer="p", by="ann", output="Buy."), "", line(voter="bob", answer="p", vote="Approve", comment="yes"),
        line(voter="cid", answer="p", vote=0.25), record("dan", "Sell."), record("dan", "Hold."), line(by="eve", output="?"),
    ])  # fmt: skip

    assert [(e.id, e.by, e.output, e.line) for e in found.answers] == [
        ("p", ("ann",), "Buy.", 1), ("dan", ("dan",), "Sell.", 5), ("dan#2", ("dan",), "Hold.", 6), ("eve", ("eve",), "?", 7),
    ]  # fmt: skip
    assert found.votes == (Vote("bob", "p", "approve", 1.0, "yes"), Vote("cid", "p", "score", 0.25))


@pytest.mark.parametrize(
    "text",
    [
        "hello", "[]", "3", "{", "{}", '{"a": 1}', '{"answer": "a"}', '{"output": "x"}', '{"answer": "a", "output": 3}', '{"voter": "x"}',
        '{"voter": "x", "answer": "a"}', '{"voter": "", "answer": "a", "vote": 1}', '{"voter": "x", "answer": "a", "vote": true}',
        '{"voter": "x", "answer": "a", "vote": 1.01}', '{"voter": "x", "answer": "a", "vote": -0.1}',
        '{"voter": "x", "answer": "a", "vote": "maybe"}', '{"voter": "x", "answer": "a", "vote": "0.5"}',
        '{"voter": "x", "answer": "a", "vote": NaN}', '{"voter": {}, "answer": "a", "vote": 1}', "[" * 100_000, '{"answer": "a", "by": [], "output": ""}',
    ],
)  # fmt: skip
def test_a_line_that_is_neither_is_refused_with_its_number(text):
    with pytest.raises(InputError, match="line 2 of stdin"):
        read([line(answer="a", output="x", by="b"), text])


def test_the_same_answer_id_twice_is_refused():
    with pytest.raises(InputError, match="a second time"):
        read([line(answer="a", by="x", output="1"), line(answer="a", by="y", output="2")])


def test_an_answer_may_name_all_who_gave_it():
    found = read([json.dumps({"answer": "a", "output": "1", "said_by": ["x", "y"]}), record("z", "2", said_by=["z", "w"])])

    assert [entry.by for entry in found.answers] == [("x", "y"), ("z", "w")]
    assert tally(found, rules=Rules(quorum=4)).winner == "a"


@pytest.mark.parametrize(("policy", "ids"), [("skip", ["bob"]), ("use-partial", ["ann", "bob"])])
def test_a_failed_stage_ends_it_unless_told_otherwise(policy, ids):
    lines = [record("ann", "half", isError=True, exit=4, error={"code": "limit", "detail": "too long"}), record("bob")]

    with pytest.raises(UpstreamError, match="ann failed: too long"):
        read(lines)
    assert [entry.id for entry in read(lines, policy).answers] == ids


def test_a_no_is_no_failure():
    assert [entry.id for entry in read([record("ann", "rejected", exit=3)]).answers] == ["ann"]


def test_a_stream_that_breaks_off_is_told():
    lines = [record("ann"), record("bob", kind="started"), record("bob", kind="delta")]

    with pytest.raises(UpstreamError, match="cut off"):
        read(lines)
    assert len(read(lines, "skip").answers) == 1
    assert len(read([*lines, record("bob")]).answers) == 2


def test_a_record_of_agent_novel_stands_for_the_lines_it_kept():
    kept = line(answer="a", by="x", output="1") + "\n" + line(answer="b", by="y", output="2") + "\n"
    lines = [record("agent-novel", kept).encode(), line(voter="z", answer="b", vote=1).encode()]

    assert [entry.id for entry in read(expanded(lines)).answers] == ["a", "b"]


def test_an_answer_that_looks_like_votes_is_an_answer():
    hostile = line(voter="x", answer="a", vote="approve")
    found = read(expanded([record("ann", hostile).encode()]))

    assert (found.votes, found.answers[0].output) == ((), hostile)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reading(body):
    with contextlib.suppress(InputError, MissingInput):
        read(expanded(body.splitlines()))


@given(
    st.lists(
        st.tuples(st.sampled_from("abxyz"), st.sampled_from("ab"), st.sampled_from([YES, NO, "abstain", "veto", 0.3, 0.8])),
        max_size=15,
        min_size=1,
    ),
    st.sampled_from(sorted(FORMULAS)),
    st.integers(0, 4),
)
def test_a_winner_has_the_highest_score_is_not_vetoed_and_has_a_quorum(rows, strategy, wanted):
    found = count(rows, strategy, quorum=wanted, veto=frozenset("x"))

    assert len(found.refused) + sum(sum(each.values()) for each in found.votes.values()) == len(rows)
    if found.winner is not None:
        others = [score for answer, score in found.scores.items() if answer not in found.vetoed]
        assert found.quorum_met
        assert found.winner not in found.vetoed
        assert found.scores[found.winner] <= max(others)
        assert strategy == "majority" or found.scores[found.winner] == max(others)
