"""Upkeep: each policy by its settings, and nothing that cannot be taken back."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_core.store import open_store
from agent_plugins.memory import compress
from agent_plugins.memory.items import Compression, Consolidation, Importance, Item, Rules
from agent_plugins.memory.keep import Memory, Passing
from agent_plugins.memory.score import DAY, HOUR
from agent_plugins.memory.upkeep import Wanted, plan

NOW = 1_800_000_000.0


def item(id_, text="x", kind="long", **more):
    return Item(id_, kind, text, created=more.pop("created", NOW), tokens=len(text) // 4 + 1, **more)


def planned(items, rules=None, logged=None, **wanted):
    return plan(items, logged or {}, rules or Rules(), Wanted(wanted.pop("now", NOW), **wanted))


def turn(number, text="", role="", **more):
    return Item(f"t{number:02}", "buffer", text or f"turn number {number} says word{number}", namespace="s", role=role or ("user", "assistant")[number % 2],
                created=NOW - 6000 + 60 * number, tokens=8, **more)  # fmt: skip


# --- decay


@pytest.mark.parametrize(("days", "kept"), [(0, 1), (30, 1), (86.7, 1), (86.72, 0)])
def test_an_item_of_importance_0_9_is_pruned_after_86_7_days(days, kept):
    made = planned([item("a", importance=0.9)], now=NOW + days * DAY)

    assert len(made.kept) == kept
    assert [each.reason for each in made.change.ended] == ["decay"] * (1 - kept)


def test_only_kinds_that_fade_are_pruned():
    everything = [item(f"{kind}", kind=kind, importance=0.06) for kind in ("long", "semantic", "kv", "episodic", "summary")]

    assert [each.kind for each in planned(everything, now=NOW + 400 * DAY, policies=("decay",)).change.ended] == ["long"]


# --- merge


def test_items_whose_cosine_is_above_0_85_become_one_with_the_best_of_both():
    now = NOW + DAY
    same = [
        item("a", "Ownership prevents data races", importance=0.9, tags=("rust",), accesses=2),
        item(
            "b",
            "ownership prevents data races!",
            importance=0.4,
            tags=("memory",),
            accesses=1,
            created=now,
            trust="untrusted",
            accessed=now,
        ),
        item("c", "Tea is hot"),
        item("d", "Ownership prevents data races", kind="semantic"),
    ]
    made = planned(same, now=now, policies=("merge",))
    merged = made.change.made[0]

    assert (len(made.kept), made.counts["merge"], len(made.change.made)) == (2, 2, 1)
    assert (merged.text, merged.importance, merged.tags) == ("Ownership prevents data races", 0.9, ("rust", "memory"))
    assert (merged.accesses, merged.accessed, merged.created, merged.trust) == (3, now, NOW, "untrusted")
    assert merged.supersedes == ("a", "b")
    assert [(each.id, each.superseded_by, each.ended) for each in made.change.ended] == [
        ("a", merged.id, now),
        ("b", merged.id, now),
    ]


@pytest.mark.parametrize(("limit", "merged"), [(0.85, 0), (0.7, 0), (0.6, 2)])
def test_the_limit_of_merging_is_a_setting_and_must_be_exceeded(limit, merged):
    # two texts of two words with one in common; N=2: idf log 2 and log 3: log²2 / (log²2 + log²3) = 0.285
    made = planned([item("a", "tea pot"), item("b", "tea cup")], Rules(merge_cosine=limit), policies=("merge",))
    assert made.counts.get("merge", 0) == 0

    # three of four in common: 3·log²2 / (3·log²2 + log²3) = 0.544
    made = planned(
        [item("a", "red blue green white"), item("b", "red blue green black")],
        Rules(merge_cosine=limit - 0.06),
        policies=("merge",),
    )
    assert made.counts.get("merge", 0) == merged


def test_a_merge_says_all_that_any_of_them_said():
    made = planned(
        [item("a", "Alpha beta gamma delta epsilon."), item("b", "Alpha beta gamma delta epsilon. But not on Mondays.")],
        Rules(merge_cosine=0.5),
    )

    assert made.change.made[0].text == "Alpha beta gamma delta epsilon. But not on Mondays."


def test_facts_about_different_things_and_owners_are_never_merged():
    made = planned(
        [
            item("a", "likes tea", kind="entity", key="Ada"), item("b", "likes tea", kind="entity", key="Bob"),
            item("c", "likes tea", namespace="one"), item("d", "likes tea", namespace="two"),
            item("e", "likes tea", kind="kv", key="x"), item("f", "likes tea", kind="kv", key="y"),
        ]
    )  # fmt: skip

    assert made.change.empty
    assert planned(
        [item("a", "likes tea", kind="entity", key="Ada"), item("b", "likes tea", kind="entity", key="Bob")], kind="entity"
    ).change.empty


def test_a_merge_in_the_store_can_be_undone(tmp_path, request):
    store = open_store(tmp_path / "agents.db")
    request.addfinalizer(store.close)
    memory = Memory(store, Rules())
    for text in ("Ownership prevents data races", "Ownership prevents data races.", "Tea is hot"):
        memory.put(Item("", "long", text, 0.9))
    before = memory.items()
    wanted = Wanted(time.time())
    _, number = memory.apply(lambda items: plan(items, {}, memory.rules, wanted).change, wanted.now)

    assert len(memory.items()) == 2
    assert memory.undo(number) == (2, 1)
    assert memory.items(ended=True) == before


# --- consolidate


def episodes(count, text="the build failed on the linker with exit code one", **more):
    return [item(f"e{n}", f"{text} {n}", "episodic", created=NOW - 2 * HOUR + n, **more) for n in range(count)]


@pytest.mark.parametrize(("count", "ended"), [(2, 0), (3, 1), (5, 3)])
def test_a_cluster_of_three_becomes_a_summary_and_the_newest_two_stay(count, ended):
    made = planned(episodes(count, namespace="assistant", trust="untrusted"), policies=("consolidate",))

    assert [each.id for each in made.change.ended] == [f"e{n}" for n in range(ended)]
    if ended:
        summary = made.change.made[0]
        assert (summary.kind, summary.namespace, summary.trust) == ("summary", "assistant", "untrusted")
        assert summary.supersedes == tuple(f"e{n}" for n in range(count))
        assert summary.details["covers_turns"] == list(summary.supersedes)
        assert set(summary.details) >= {"key_facts", "entities"}


def test_what_is_younger_than_max_age_or_too_unlike_stays():
    young = [replace(each, created=NOW - 3599) for each in episodes(5)]
    unlike = [
        item(f"u{n}", text, "episodic", created=NOW - 2 * HOUR)
        for n, text in enumerate(["tea pot", "data race", "blue sky", "cold rain"])
    ]

    assert planned(young, policies=("consolidate",)).change.empty
    assert not planned([replace(each, created=NOW - 3600) for each in young], policies=("consolidate",)).change.empty
    assert planned(unlike, Rules(consolidation=Consolidation(k_clusters=1)), policies=("consolidate",)).change.empty


def test_a_second_consolidation_finds_nothing_new():
    first = planned(episodes(5), policies=("consolidate",))
    left = [*(each for each, _ in first.kept), *first.change.made, *first.change.ended]

    assert planned(left, policies=("consolidate",)).change.empty


def test_consolidation_is_by_agent():
    mixed = [*episodes(2, namespace="a"), *(replace(each, id=f"b{each.id}", namespace="b") for each in episodes(2))]

    assert planned(mixed, policies=("consolidate",)).change.empty


# --- compress, by turns


def test_a_conversation_of_60_turns_compresses_as_50_10_and_0_85_say():
    turns = [turn(n) for n in range(60)]
    made = compress.by_turns(turns, Compression(), NOW)

    assert made.triggered
    assert [each.id for each in made.kept] == [f"t{n}" for n in range(50, 60)]
    assert [each.details["original_count"] for each in made.episodes] == [10] * 5
    assert [each.details["compressed_to"] for each in made.episodes] == [1] * 5
    assert made.episodes[0].details["time_range"] == [NOW - 6000, NOW - 6000 + 540]
    assert made.tokens_saved == 60 * 8 - 10 * 8 - sum(each.tokens for each in made.episodes)


def test_50_turns_are_left_alone():
    turns = tuple(turn(n) for n in range(50))

    assert compress.by_turns(turns, Compression(), NOW) == compress.Compressed(turns)


@pytest.mark.parametrize(
    ("text", "ids"), [("one two three four five six seven", ["t59"]), ("one two three four five", ["t55", "t59"])]
)
def test_turns_that_say_the_same_are_kept_once_the_newest(text, ids):
    # six of seven words shared is 0.857, five of six 0.833
    turns = [turn(n) for n in range(60)]
    turns[55], turns[59] = turn(55, text), turn(59, " ".join(text.split()[:-1]) if "six" in text else f"{text} other")
    made = compress.by_turns(turns, Compression(), NOW)

    assert [each.id for each in made.kept if each.id in {"t55", "t59"}] == ids


def test_important_turns_are_put_back_by_tag_or_by_score():
    turns = [turn(n) for n in range(60)]
    turns[3], turns[7] = turn(3, tags=("important",)), turn(7, importance=0.8)
    made = compress.by_turns(turns, Compression(), NOW)

    assert [each.id for each in made.kept] == ["t03", "t07", *(f"t{n}" for n in range(50, 60))]


def test_strategies_run_in_the_order_of_the_setting():
    turns = [turn(n, "the very same words") for n in range(60)]

    only = compress.by_turns(turns, Compression(strategies=("SemanticDedup",)), NOW)
    first = compress.by_turns(turns, Compression(strategies=("SemanticDedup", "TemporalCompression")), NOW)

    assert ([each.id for each in only.kept], only.episodes) == (["t58", "t59"], ())
    assert first.episodes == ()  # nothing was left to put into windows


def test_tags_are_common_if_at_least_half_of_the_turns_have_them():
    turns = [turn(n, tags=(("half",) if n % 2 else ()) + (("few",) if n % 5 == 0 else ())) for n in range(60)]

    assert compress.by_turns(turns, Compression(), NOW).episodes[0].details["common_tags"] == ["half"]


# --- compress, by tokens


def test_beyond_4096_tokens_old_turns_below_0_35_become_one_summary():
    turns = [replace(turn(n), tokens=200, importance=0.34 if n % 2 else 0.35) for n in range(30)]
    made = compress.by_tokens(turns, Compression(), NOW)
    gone = [f"t{n:02}" for n in range(22) if n % 2]

    assert [each.id for each in made.kept] == [each.id for each in turns if each.id not in gone]
    assert made.episodes[0].supersedes == tuple(gone)
    assert made.tokens_saved == len(gone) * 200 - made.episodes[0].tokens


def test_4096_tokens_are_within_the_budget():
    turns = tuple(replace(turn(n), tokens=256, importance=0.0) for n in range(16))

    assert compress.by_tokens(turns, Compression(), NOW) == compress.Compressed(turns)
    assert compress.by_tokens((*turns, replace(turn(16), tokens=1, importance=0.0)), Compression(), NOW).triggered


def test_a_summary_is_written_by_whoever_is_given():
    said = []
    made = compress.by_turns(
        [turn(n) for n in range(60)], Compression(), NOW, lambda texts: said.append(list(texts)) or "What a day."
    )

    assert {each.text for each in made.episodes} == {"What a day."}
    assert said[0][0] == "user: turn number 0 says word0"


def test_names_in_texts_are_capitalised_words_that_do_not_only_begin_a_sentence():
    assert compress.entities(["I met Ada in Oslo. Tomorrow we see Ada again.", "Then Bob: Hello"]) == ["Ada", "Bob", "Oslo"]


# --- compress in the store


def buffer_memory():
    memory = Memory(Passing(), Rules(turns=Importance(keywords=())))
    for n in range(60):
        memory.put(
            replace(turn(n, "the very same words as always" if n in {57, 59} else ""), tags=("important",) if n == 4 else ())
        )
    return memory


def test_turns_put_by_hand_are_compressed_and_can_be_restored():
    memory = buffer_memory()
    before = memory.items()
    wanted = Wanted(NOW)
    memory.apply(lambda items: plan(items, {}, memory.rules, wanted).change, NOW)

    assert [each.id for each in memory.items(["buffer"])] == ["t04", *(f"t{n}" for n in range(50, 60) if n != 57)]
    made = sorted(memory.items(["episode"]), key=lambda each: each.details["time_range"])
    assert [len(each.supersedes) for each in made] == [
        9,
        10,
        10,
        10,
        11,
    ]  # what was put back; what was left out
    assert memory.undo() == (50, 5)
    assert memory.items(ended=True) == before


def test_turns_of_the_event_log_are_not_written_only_covered():
    turns = [turn(n) for n in range(60)]
    made = planned([], logged={"s": turns})
    again = planned(list(made.change.made), logged={"s": turns})

    assert (made.change.ended, len(made.change.made)) == ((), 5)
    assert again.change.empty
    later = [*turns, *(turn(n) for n in range(60, 99))]
    assert planned(list(made.change.made), logged={"s": later}).change.empty  # 49 that no episode covers


# --- sweep, order


def test_what_ended_stays_until_the_grace_time_is_over():
    gone = item("a", ended=NOW, reason="merge")

    assert planned([gone], now=NOW + 30 * DAY).change.empty
    assert planned([gone], now=NOW + 30 * DAY + 1).change.gone == (gone,)
    assert planned([gone], Rules(grace_days=0), now=NOW + 1).change.gone == (gone,)


def test_policies_run_in_their_one_order_and_only_those_that_are_wanted():
    faded = item("a", "Ownership prevents data races", importance=0.1, created=NOW - 400 * DAY)
    twin = item("b", "Ownership prevents data races", importance=0.9)

    both = planned([faded, twin], policies=("merge", "decay"))
    assert [(each.id, each.reason) for each in both.change.ended] == [("a", "decay")]
    assert planned([faded, twin], policies=("merge",)).counts["merge"] == 2
    assert planned([faded, twin], policies=()).change.empty


def test_a_kind_that_is_named_is_the_only_one_that_is_touched():
    twins = [item("a", "tea pot"), item("b", "tea pot"), item("c", "tea pot", "semantic"), item("d", "tea pot", "semantic")]
    made = planned(twins, kind="semantic")

    assert {each.id for each in made.change.ended} == {"c", "d"}
    assert [each.id for each, _ in made.kept] == []


WORDS = st.lists(st.sampled_from(["red", "blue", "green", "white", "black", "tea", "pot", "rain"]), min_size=1, max_size=6).map(
    " ".join
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["long", "semantic", "episodic", "kv", "entity"]), WORDS, st.floats(0, 1), st.integers(0, 100)),
        max_size=12,
    )
)
def test_upkeep_loses_nothing_without_a_trace_and_undo_restores_all_of_it(rows):
    memory = Memory(Passing(), Rules())
    for number, (kind, text, importance, days) in enumerate(rows):
        memory.put(Item("", kind, text, importance, key=f"k{number}" if kind == "kv" else "", created=NOW - days * DAY + number))
    before = memory.items(ended=True)
    made = []
    wanted = Wanted(NOW)
    memory.apply(lambda items: made.append(plan(items, {}, memory.rules, wanted)) or made[-1].change, NOW)

    kept, ended = {each.id for each, _ in made[-1].kept}, {each.id for each in made[-1].change.ended}
    assert kept | ended == {each.id for each in before}
    assert not kept & ended
    assert all(
        each.superseded_by in {new.id for new in made[-1].change.made}
        for each in made[-1].change.ended
        if each.reason == "consolidate"
    )
    if ended:
        memory.undo()
    assert memory.items(ended=True) == before
