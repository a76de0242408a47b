"""How far is a run, and what happened when: readings of made-up events, and of graphs that really run."""

from __future__ import annotations

import pytest

from agent_core.events import Event
from agent_plugins.observe import live, shown
from agent_plugins.observe.progress import as_text, progress
from agent_plugins.observe.timeline import bars, timeline

NODES = {"research": [], "search": ["research"], "write": ["search"], "edit": ["write"], "pictures": ["research"]}


def told(*rows, run="r"):
    """Return events from (kind, time, data) or (kind, time, data, path); those without a path get one each."""
    begin = Event("run.started", run, time=100.0, data={"agent": "team"})
    return [begin, *(Event(row[0], run, row[3] if len(row) > 3 else str(place), row[1], row[2]) for place, row in enumerate(rows))]


def graph(nodes=None, **more):
    return ("graph.started", 100.0, {"graph": "g", "nodes": nodes or NODES, **more})


def started(node, at, visit=1):
    return ("node.started", at, {"node": node, "visit": visit})


def finished(node, at, state="completed", visit=1):
    return ("node.finished", at, {"node": node, "visit": visit, "state": state, "error": ""})


def numbers(events, now=110.0):
    found = progress(events, now).data()
    return {name: found[name] for name in ("progress", "active", "blocked", "ready", "bottleneck")}


def test_the_numbers_of_a_graph_at_work():
    events = told(graph(), started("research", 100.0), finished("research", 101.0), started("search", 101.0))

    assert numbers(events) == {"progress": 0.2, "active": 1, "blocked": 2, "ready": ["pictures"], "bottleneck": "search"}
    assert progress(events, 110.0).data()["blocked_parts"] == ["write", "edit"]


@pytest.mark.parametrize(
    ("kind", "data", "line"),
    [
        ("child.started", {"child": "w", "pid": 7, "restarts": 0}, "w pid 7"),
        ("child.stopped", {"child": "w", "status": 0}, "w status 0"),
        ("child.exited", {"child": "w", "status": -9, "reason": "SIGKILL", "means": "again"}, "w SIGKILL"),
        ("pool.reloaded", {"children": ["w", "v"]}, "w, v"),
        ("pool.failed", {"crashes": 21, "window_s": 60}, "crashes 21, window_s 60"),
    ],
)
def test_an_event_of_a_pool_says_which_child_and_what_became_of_it(kind, data, line):
    assert shown.event(Event(kind, "r", "", 100.0, data)).split(kind)[1].strip() == line


def test_before_anything_began_the_first_nodes_are_ready():
    assert numbers(told(graph())) == {"progress": 0.0, "active": 0, "blocked": 4, "ready": ["research"], "bottleneck": None}


def test_a_node_that_only_a_transition_leads_to_is_not_called_ready():
    nodes = {"a": [], "retry": []}
    began = (started("a", 100.0), finished("a", 101.0))

    assert numbers(told(graph(nodes), *began))["ready"] == []
    assert numbers(told(graph(nodes, start=["a"])))["ready"] == ["a"]
    assert numbers(told(graph(nodes)))["ready"] == ["a", "retry"]


@pytest.mark.parametrize(("now", "found"), [(101.2, None), (101.6, "search"), (500.0, "search")])
def test_the_bottleneck_takes_longer_than_the_others_did_and_others_wait_for_it(now, found):
    events = told(
        graph(), started("research", 100.0), finished("research", 101.0), started("search", 100.1), started("pictures", 0.0)
    )  # fmt: skip

    assert numbers(events, now)["bottleneck"] == found


def test_a_failed_need_blocks_what_comes_after_and_progress_may_be_told_in_parts():
    events = told(
        graph(), started("research", 100.0), finished("research", 101.0), started("search", 101.0), finished("search", 102.0, "failed"),
        started("pictures", 102.0), ("node.progress", 103.0, {"node": "pictures", "progress": 0.5}),
    )  # fmt: skip
    found = progress(events, 104.0)

    assert (found.progress, found.ready, found.blocked) == (0.5, (), ("write", "edit"))
    assert found.data()["failed"] == ["search"]


def test_a_run_that_ended_well_is_done_and_what_it_left_is_skipped():
    events = [
        *told(graph(), started("research", 100.0), finished("research", 101.0)),
        Event("run.finished", "r", time=102.0, data={"status": 0}),
    ]
    found = progress(events, 999.0)

    assert (found.progress, found.state, found.elapsed_s, found.ready) == (1.0, "ok", 2.0, ())
    assert {part.name: part.state for part in found.parts} == {**dict.fromkeys(NODES, "skipped"), "research": "completed"}


def test_a_run_that_was_stopped_keeps_how_far_it_came():
    events = [*told(graph(), started("research", 100.0)), Event("run.finished", "r", time=102.0, data={"status": 130})]
    found = progress(events, 999.0)

    assert (found.progress, found.state, found.bottleneck) == (0.0, "exit 130", "")
    assert found.parts[0].state == "stopped"


def test_a_resumed_run_that_tells_its_story_again_counts_once_and_keeps_the_times():
    rows = (graph(), started("research", 100.0), finished("research", 101.0, "failed"))
    again = [Event("run.started", "r", time=200.0, data={"agent": "team"})]
    again += [Event(row[0], "r", str(place), 200.0, row[2]) for place, row in enumerate(rows[:2])]
    again += [Event("node.finished", "r", "2", 201.0, {"node": "research", "visit": 1, "state": "completed", "error": ""})]
    found = progress([*told(*rows), *again], 210.0)

    assert len(found.parts) == len(NODES)
    assert (found.parts[0].state, found.parts[0].started, found.parts[0].finished, found.parts[0].visits) == (
        "completed",
        100.0,
        201.0,
        1,
    )


def test_nodes_of_a_graph_within_a_graph_have_names_of_their_own():
    inner = ("graph.started", 101.0, {"graph": "inner", "nodes": {"a": [], "b": ["a"]}}, "2.0.1")
    events = told(
        ("graph.started", 100.0, {"graph": "outer", "nodes": {"a": [], "b": []}}, "0"), ("node.started", 100.0, {"node": "a"}, "2.0.0"), inner,
        ("node.started", 102.0, {"node": "a"}, "2.0.2"), ("node.finished", 103.0, {"node": "a", "state": "completed"}, "2.0.4"),
        ("node.started", 102.0, {"node": "b"}, "2.1.0"),
    )  # fmt: skip

    assert {part.name: part.state for part in progress(events, 110.0).parts} == {
        "a": "active", "b": "active", "inner/a": "completed", "inner/b": "pending",
    }  # fmt: skip


def test_steps_of_a_plan_and_agents_that_were_called_are_parts_too():
    planned = ("step.planned", 100.0, {"steps": [{"id": "1"}, {"id": "2", "needs": ["1"]}, {"id": "3", "needs": ["2"]}]})
    steps = told(planned, ("step.started", 100.0, {"id": "1"}), ("step.finished", 101.0, {"id": "1", "state": "completed"}),
                 ("step.started", 101.0, {"id": "2"}))  # fmt: skip
    calls = told(
        ("call.started", 100.0, {"agent": "a"}, "0.0"), ("call.started", 100.0, {"agent": "b"}, "0.1"), ("call.started", 100.0, {"agent": "c"}, "0.2"),
        ("call.finished", 101.0, {"agent": "a"}, "0.0"), ("call.failed", 101.0, {"agent": "b"}, "0.1"),
    )  # fmt: skip

    assert numbers(steps) == {"progress": 0.33, "active": 1, "blocked": 1, "ready": [], "bottleneck": "2"}
    assert numbers(calls) == {"progress": 0.67, "active": 1, "blocked": 0, "ready": [], "bottleneck": None}


def test_a_question_to_a_person_is_what_a_run_waits_for_until_it_is_answered():
    events = told(("wait.asked", 101.0, {"question": "approve?"}, "3"))

    assert (progress(events, 110.0).state, progress(events, 110.0).waiting) == ("waiting", ("approve?",))
    answered = [*events, Event("wait.finished", "r", "3", 102.0, {"answer": "yes"})]
    assert (progress(answered, 110.0).state, progress(answered, 110.0).waiting) == ("running", ())


def test_a_run_that_tells_of_no_parts_says_so_and_nothing_at_all_is_no_error():
    assert numbers(told()) == {"progress": None, "active": 0, "blocked": 0, "ready": [], "bottleneck": None}
    assert progress([], 1.0).data()["progress"] is None


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"nodes": "x", "node": 5, "id": None, "steps": 7, "needs": "a"},
        {"nodes": {"a": None, "b": [["c"]]}, "start": 3, "progress": "half"},
    ],
)
def test_odd_events_are_read(data):
    kinds = (
        "graph.started",
        "node.started",
        "node.progress",
        "node.finished",
        "node.x",
        "step.planned",
        "step.started",
        "call.started",
        "call.failed",
    )
    events = told(*((kind, 101.0, data) for kind in kinds))

    assert as_text(progress(events, 110.0), 110.0)
    assert isinstance(bars(timeline(events)), str)


def test_a_thousand_nodes_in_a_row_are_read_in_a_moment():
    nodes = {f"n{number}": [f"n{number - 1}"] if number else [] for number in range(1000)}
    events = told(graph(nodes), started("n0", 100.0))
    found = progress(events, 110.0)

    assert (found.bottleneck, len(found.blocked)) == ("n0", 999)


def test_the_text_for_people_has_a_table_and_what_is_waited_for():
    text = as_text(
        progress(told(graph(), started("research", 100.0), ("wait.asked", 101.0, {"question": "go\non?"})), 110.0), 110.0
    )

    assert text.splitlines()[:4] == [
        "run r: team, waiting, 0%, 10.0 s",
        "waits for a person: go on?",
        "0 of 5 done, 1 active, 4 blocked",
        "bottleneck: research",
    ]
    assert "research  active   10.0     -" in text


def test_the_live_picture_is_clean_and_not_too_long():
    nodes = {f"n{number}": [] for number in range(100)}
    events = told(graph(nodes), ("notice", 101.0, {"text": "a\x1b]0;title\x07b"}))
    picture = live.picture(events, 110.0)

    assert "\x1b" not in picture
    assert len(picture.splitlines()) < 40
    assert "0 model calls" in picture


# --- the timeline


def model(at, wall, path="0", **more):
    return ("model.replied", at, {"model": "m", "wall_ms": wall, **more}, path)


def test_the_timeline_has_a_bar_for_everything_that_took_time():
    rows = timeline(
        told(
            model(101.0, 1000.0), ("tool.started", 101.0, {"name": "search"}, "1.0"), ("tool.finished", 103.0, {"name": "search", "error": "denied"}, "1.0"),
            ("call.started", 103.0, {"agent": "critic"}, "2"), ("call.finished", 103.5, {"agent": "critic"}, "2"),
            ("wait.asked", 103.5, {"question": "go on?"}, "3"), ("model.failed", 103.2, {"model": "m"}, "2.0"),
            ("tool.finished", 104.0, {"name": "old", "wall_ms": 500.0, "inherited": True}, "5.0"),
        )
    )  # fmt: skip

    assert [(row.kind, row.label, row.start, row.end, row.state) for row in rows] == [
        ("model", "m", 100.0, 101.0, "ok"), ("tool", "search", 101.0, 103.0, "failed"), ("agent", "critic", 103.0, 103.5, "ok"),
        ("model", "m", 103.2, 103.2, "failed"), ("question", "go on?", 103.5, None, "open"),
    ]  # fmt: skip
    assert rows[0].data(100.0) == {
        "kind": "model",
        "label": "m",
        "path": "0",
        "state": "ok",
        "start_ms": 0.0,
        "duration_ms": 1000.0,
    }
    assert rows[-1].data(100.0)["duration_ms"] is None


def test_bars_stand_where_and_as_long_as_things_happened():
    rows = timeline(
        told(
            model(101.0, 1000.0),
            ("node.started", 101.0, {"node": "a"}, "1"),
            ("node.finished", 102.0, {"node": "a", "state": "failed"}, "4"),
        )
    )
    lines = bars(rows, 47).splitlines()

    assert lines == ["model m  " + "█" * 13 + " " * 13 + "  1.0 s", "node a   " + " " * 13 + "▒" * 13 + "  1.0 s"]
    assert bars([]) == ""
    assert max(len(line) for line in bars(timeline(told(model(101.0, 1000.0, more="x" * 999))), 60).splitlines()) <= 60


def test_a_visit_of_a_node_that_was_told_again_is_one_bar():
    rows = [started("a", 100.0), finished("a", 101.0)]
    events = [*told(*rows), *told(*((kind, at + 100, data) for kind, at, data in rows))]

    assert [(row.start, row.end) for row in timeline(events)] == [(100.0, 101.0)]
