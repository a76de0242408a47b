"""Items in the store: many writers, capacity, damage, undo."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_core.errors import ConfigError, InputError, StoreError, UsageError
from agent_core.store import open_store
from agent_plugins.memory import items as items_
from agent_plugins.memory.items import Item, Rules, from_json, rules, to_json
from agent_plugins.memory.keep import Change, Memory, Passing, place_of

ROOT = Path(__file__).resolve().parent.parent.parent
WRITER = """
import sys
from pathlib import Path
from agent_core.store import open_store
from agent_plugins.memory.items import Item, Rules
from agent_plugins.memory.keep import Memory
memory = Memory(open_store(Path(sys.argv[1])), Rules())
for number in range(int(sys.argv[3])):
    memory.put(Item("", sys.argv[4], f"writer {sys.argv[2]} says {number}"))
"""


@pytest.fixture
def memory_at(tmp_path):
    opened = []

    def make(**of):
        opened.append(open_store(tmp_path / "agents.db"))
        return Memory(opened[-1], Rules(**of))

    yield make
    for store in opened:
        store.close()


@pytest.fixture(params=["file", "process"])
def memory(request, tmp_path):
    store = open_store(tmp_path / "agents.db") if request.param == "file" else Passing()
    yield Memory(store, Rules())
    if request.param == "file":
        store.close()


def write_at_once(folder, processes, each, kind):
    """Start writers on a store that does not exist yet; return what they said on stderr."""
    path = folder / "agents.db"
    command = [sys.executable, "-c", WRITER, str(path)]
    running = [
        subprocess.Popen([*command, str(number), str(each), kind], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for number in range(processes)
    ]
    return "".join(process.communicate(timeout=600)[1] for process in running)


def test_8_processes_with_100_parallel_adds_each_give_800_items(tmp_path, memory_at):
    assert write_at_once(tmp_path, 8, 100, "long") == ""

    texts = {item.text for item in memory_at().items(["long"])}
    assert texts == {f"writer {one} says {number}" for one in range(8) for number in range(100)}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_100_processes_with_100_writes_each_lose_none_of_10_000(tmp_path, memory_at):
    assert write_at_once(tmp_path, 100, 100, "semantic") == ""

    assert len(memory_at().items(["semantic"])) == 10_000


def test_two_processes_under_one_capacity_never_remove_more_than_the_surplus(tmp_path, memory_at):
    script = WRITER.replace("Rules())", "Rules(kinds={'long': Rule(capacity=20)}))").replace("Item, Rules", "Item, Rule, Rules")
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "agents.db"), str(number), "40", "long"], cwd=ROOT)
        for number in range(2)
    ]
    assert [process.wait(60) for process in running] == [0, 0]

    assert len(memory_at().items(["long"])) == 20


def test_an_item_is_kept_with_an_id_a_time_and_its_tokens(memory):
    kept, evicted = memory.put(Item("", "long", "  Ownership prevents data races ", 0.9, ("rust", "rust", " ")))

    assert (kept.text, kept.tags, kept.tokens, evicted) == ("Ownership prevents data races", ("rust",), 8, [])
    assert abs(kept.created - time.time()) < 60
    assert memory.find(kept.id[:19]) == kept
    assert memory.items(["long"]) == [kept]


def test_an_item_reads_back_as_it_was_written():
    item = Item("a1", "entity", "x\n\u2028\x1b]0;y\x07 \U0001f600", 0.25, ("a", "b"), "k", "n", "user", 1.5, 2.5, 3, 4, "r", "untrusted", True,
                ("s",), "t", 5.0, "merge", {"covers_turns": ["a"]})  # fmt: skip

    assert from_json(to_json(item)) == item
    assert items_.of_row({"text": "bare"}) == Item("", "semantic", "bare")


@pytest.mark.parametrize(
    "row",
    [
        "[]", "3", "null", "{}", "{", '{"text": 4}', '{"text": "a", "importance": "high"}', '{"text": "a", "importance": 2}',
        '{"text": "a", "importance": NaN}', '{"text": "a", "importance": true}', '{"text": "a", "tags": "b"}', '{"text": "a", "tags": [1]}',
        '{"text": "a", "kind": "nope"}', '{"text": "a", "accesses": 1.5}', '{"text": "a", "created": Infinity}', '{"text": "a", "details": []}',
        '{"text": "a", "id": "a\\nb"}', '{"text": "a", "id": "\\u001b]0;x"}', '{"text": "a", "created": 1e300}', '{"text": "a", "ended": -1}',
        "[" * 100_000,
    ],
)  # fmt: skip
def test_a_row_that_does_not_fit_is_refused_without_a_traceback(row):
    with pytest.raises(InputError):
        from_json(row)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(items_._TYPES)),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
            max_leaves=4,
        ),
    )
)
def test_any_row_is_an_item_or_refused(row):
    try:
        item = items_.of_row({"text": "x", **row})
    except InputError:
        return
    assert from_json(to_json(item)) == item


@pytest.mark.parametrize("owner", ["a\nb", "\U0010ffff", "\x1b[2J", "\udcff"])
def test_an_owner_with_control_characters_is_refused(memory, owner):
    with pytest.raises(InputError, match="control"):
        memory.put(Item("", "long", "x", namespace=owner))


def test_trust_that_is_not_known_is_no_trust():
    assert items_.of_row({"text": "a", "trust": "very much"}).trust == "untrusted"


def test_a_damaged_row_is_passed_over_and_the_others_are_there(memory):
    kept, _ = memory.put(Item("", "long", "whole"))
    memory.store.items_write({("memory/long/", "zzz"): "not json", ("memory/long/", "yyy"): to_json(replace(kept, id="other"))})

    assert memory.items() == [kept]


def test_a_text_is_cleaned_of_secrets_and_of_what_no_database_holds(memory):
    kept, _ = memory.put(
        Item("", "long", "the key is sk-abcdefghijklmnopqrstuvwxyz and \udcff \0 end", tags=("sk-abcdefghijklmnopqrstuvwxyz",))
    )

    assert "sk-abc" not in to_json(replace(kept, tags=()))
    assert memory.items()[0].text == kept.text


@pytest.mark.parametrize(("text", "problem"), [("", "nothing"), (" \n", "nothing"), ("x" * (256 * 1024 + 1), "256 KiB")])
def test_nothing_and_too_much_are_refused(memory, text, problem):
    with pytest.raises(InputError, match=problem):
        memory.put(Item("", "long", text))


def test_a_value_under_a_key_replaces_what_was_there_and_the_default_key_is_default(memory):
    first, _ = memory.put(Item("", "kv", "Oslo", key="home"))
    memory.put(Item("", "kv", "Bergen", key="home"))
    memory.put(Item("", "kv", "Tromsø", key="home", namespace="other"))
    memory.put(Item("", "kv", "something"))

    assert [item.text for item in memory.keyed("home")] == ["Bergen"]
    assert [item.text for item in memory.keyed("default")] == ["something"]
    assert memory.keyed("home")[0].id == first.id


def test_the_least_important_item_beyond_the_capacity_goes_and_an_event_says_so(memory_at):
    memory = memory_at(kinds={"long": items_.Rule(capacity=3, decay="forgetting")})
    now = time.time()
    old, _ = memory.put(Item("", "long", "important but old", 0.9, created=now - 90 * 86400))  # 0.9 · e^-3 = 0.045
    for importance in (0.3, 0.2):
        memory.put(Item("", "long", f"worth {importance}", importance))
    _, evicted = memory.put(Item("", "long", "worth 0.1", 0.1))

    assert evicted == [old]
    assert sorted(item.importance for item in memory.items()) == [0.1, 0.2, 0.3]
    event = next(event for _, event in memory.store.since(0) if event.kind == "memory.evicted")
    assert event.data == {"items": [{"id": old.id, "kind": "long", "namespace": ""}], "capacity": 3}


def test_the_capacity_is_that_of_each_agent(memory_at):
    memory = memory_at(kinds={"episodic": items_.Rule(capacity=2)})
    for owner in ("a", "b"):
        for number in range(3):
            memory.put(Item("", "episodic", f"{number}", number / 10, namespace=owner))

    assert [(item.namespace, item.text) for item in memory.items()] == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]


def test_working_memory_keeps_the_64_pairs_that_were_used_last(memory):
    for number in range(64):
        memory.put(Item("", "working", "x", key=f"k{number:02}", namespace="s", created=1000.0 + number))
    memory.touch(memory.keyed("k00", ("working",), ("s",)), 5000.0)
    _, evicted = memory.put(Item("", "working", "x", key="new", namespace="s", created=2000.0))

    assert [item.key for item in evicted] == ["k01"]
    assert len(memory.items(["working"])) == 64


def test_long_memory_holds_a_thousand_items():
    memory = Memory(Passing(), Rules())
    memory.store.items_write(
        {place_of(item): to_json(item) for item in (Item(f"i{n}", "long", "x", 0.5, created=time.time()) for n in range(1000))}
    )

    assert memory.put(Item("", "long", "one more", 0.9))[1] != []
    assert len(memory.items(["long"])) == 1000


def test_recalling_counts_and_a_vanished_item_is_no_error(memory):
    kept, _ = memory.put(Item("", "long", "x"))
    memory.touch([kept, replace(kept, id="gone")], 99.0)

    assert (memory.find(kept.id).accesses, memory.find(kept.id).accessed) == (1, 99.0)


def test_forgetting_takes_everything_with_it_that_an_item_had_replaced(memory):
    first, _ = memory.put(Item("", "long", "secret one"))
    second, _ = memory.put(Item("", "long", "secret two"))
    merged, other = Item("m", "long", "both", supersedes=(first.id, second.id)), memory.put(Item("", "long", "other"))[0]
    ended = tuple(replace(item, ended=5.0, superseded_by="m", reason="merge") for item in (first, second))
    memory.apply(lambda _items: Change("test", ended, (merged,)), 5.0)

    assert {item.id for item in memory.forget([merged])} == {"m", first.id, second.id}
    assert memory.items(ended=True) == [other]
    assert "secret" not in json.dumps([*memory.store.items_under("").values()])
    assert memory.undo() == (0, 0)


def test_a_change_can_be_undone_once(memory):
    first, _ = memory.put(Item("", "long", "one"))
    memory.apply(lambda items: Change("test", (replace(items[0], ended=5.0, superseded_by="m"),), (Item("m", "long", "new"),)), 5.0)

    assert [item.id for item in memory.items()] == ["m"]
    assert memory.undo() == (1, 1)
    assert memory.items(ended=True) == [first]
    with pytest.raises(UsageError, match="nothing to undo"):
        memory.undo()


def test_a_change_that_a_later_one_rests_on_cannot_be_undone_first(memory):
    memory.put(Item("", "long", "one"))
    _, early = memory.apply(
        lambda items: Change("1", (replace(items[0], ended=5.0, superseded_by="m"),), (Item("m", "long", "new"),)), 5.0
    )
    memory.apply(
        lambda items: Change(
            "2",
            tuple(replace(each, ended=6.0, superseded_by="n") for each in items if each.id == "m"),
            (Item("n", "long", "newer"),),
        ),
        6.0,
    )

    with pytest.raises(UsageError, match="changed again"):
        memory.undo(early)
    assert memory.undo() == (1, 1)
    assert memory.undo(early) == (1, 1)
    assert [item.text for item in memory.items(ended=True)] == ["one"]


def test_a_change_is_decided_again_when_somebody_wrote_meanwhile(memory):
    first, _ = memory.put(Item("", "long", "one"))
    seen = []

    def make(found):
        seen.append(found[0].accesses)
        if len(seen) == 1:
            memory.touch([first], 9.0)
        return Change("test", (replace(found[0], ended=5.0),))

    memory.apply(make, 5.0)

    assert seen == [0, 1]
    assert memory.items(ended=True)[0].accesses == 1


def test_nothing_is_written_of_several_items_if_one_is_not_as_it_was(tmp_path, request):
    store = open_store(tmp_path / "agents.db")
    request.addfinalizer(store.close)
    store.items_write({("a", "1"): '"x"', ("b", "2"): '"y"'})

    assert not store.items_write({("a", "1"): None, ("c", "3"): '"z"'}, {("b", "2"): '"other"'})
    assert not store.items_write({("a", "1"): None}, {("b", "9"): '"y"'})
    assert store.items_under("") == {("a", "1"): '"x"', ("b", "2"): '"y"'}
    assert store.items_write({("a", "1"): None, ("c", "3"): '"z"'}, {("b", "2"): '"y"', ("c", "3"): None})
    assert store.items_under("c") == {("c", "3"): '"z"'}
    assert (store.item_count("b"), store.item_count("a")) == (1, 0)
    store.item_put("b", "old", '"gone"', ttl=-1)
    assert set(store.items_under("b")) == {("b", "2")}
    with pytest.raises(StoreError):
        store.items_write({("a", "1"): object()})
    assert store.items_under("a") == {}


# --- rules


def test_the_rules_are_those_of_the_ledger_by_default():
    found = rules({})

    assert (found.kinds["long"].capacity, found.kinds["long"].min_importance, found.kinds["long"].stability_days) == (
        1000,
        0.05,
        30.0,
    )
    assert (found.decay_interval_hours, found.merge_cosine, found.kinds["working"].capacity) == (24.0, 0.85, 64)
    assert found.kinds["episodic"].capacity is None
    assert found.consolidation == items_.Consolidation(3, 3600.0, 0.65, 300.0, 8, 10, 2)
    how = found.compression
    assert (how.max_tokens, how.keep_recent, how.min_importance) == (4096, 8, 0.35)
    assert (how.max_turns, how.recency_keep, how.dedup_threshold, how.important_tag) == (50, 10, 0.85, "important")
    assert how.strategies == ("TemporalCompression", "SemanticDedup", "ImportanceFilter")
    assert (found.use_embeddings, found.persist) == (True, True)


def test_tables_change_rules_for_all_kinds_or_for_one():
    found = rules({"memory": {
        "max_items": 7, "grace_days": 2, "long": {"stability_days": 10}, "episodic": {"half_life_hours": 48, "max_items": 9},
        "long-term": {"min_importance": 0.1}, "consolidation": {"k_clusters": 3}, "compression": {"strategies": ["SemanticDedup"]},
        "importance": {"keywords": ["rent"]},
    }})  # fmt: skip

    assert (found.kinds["long"].capacity, found.kinds["long"].decay, found.kinds["long"].stability_days) == (7, "forgetting", 10)
    assert found.kinds["long"].min_importance == 0.1
    assert (found.kinds["episodic"].capacity, found.kinds["episodic"].decay) == (9, "half-life")
    assert (found.kinds["working"].capacity, found.kinds["buffer"].capacity, found.grace_days) == (64, None, 2)
    assert (found.consolidation.k_clusters, found.compression.strategies, found.turns.keywords) == (
        3,
        ("SemanticDedup",),
        ("rent",),
    )


@pytest.mark.parametrize(
    "table",
    [
        {"capcity": 3}, {"long": {"half_live_hours": 3}}, {"lnog": {}}, {"grace_days": "many"}, {"grace_days": -1}, {"persist": 1},
        {"capacity": 1.5}, {"min_importance": 2}, {"stability_days": 0}, {"decay": "linear"}, {"compression": {"strategies": ["Nope"]}},
        {"compression": {"trigger": "moon"}}, {"compression": {"window": 0}}, {"consolidation": {"k_clusters": True}}, {"grace_days": float("nan")},
    ],
)  # fmt: skip
def test_a_setting_that_does_not_fit_is_an_error_that_names_it(table):
    with pytest.raises(ConfigError, match="memory"):
        rules({"memory": table})


def test_a_kind_may_have_other_names_and_an_unknown_one_is_told_the_nearest():
    assert [items_.kind_of(word) for word in ("long-term", "key-value", "short-term", "long")] == ["long", "kv", "working", "long"]
    with pytest.raises(UsageError) as caught:
        items_.kind_of("epsodic")
    assert "episodic" in caught.value.hint
