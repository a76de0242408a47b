"""Tests of readings: pure folds of events, checked against events written out by hand."""

from __future__ import annotations

import pytest

from agent_core import readings
from agent_core.events import Event


def replied(path, text="", calls=(), **data):
    parts = [{"type": "text", "text": text}] if text else []
    parts += [
        {"type": "tool_call", "id": f"c{n}", "name": name, "arguments": arguments} for n, (name, arguments) in enumerate(calls)
    ]
    usage = {"input_tokens": 100, "output_tokens": 10, "cached_input_tokens": 40}
    body = {
        "message": {"role": "assistant", "parts": parts},
        "usage": usage,
        "model": "m1",
        "provider": "p",
        "cost": 5 * 10**9,
        "wall_ms": 20.0,
    }
    return Event("model.replied", "r", path, 2.0, {**body, **data})


def returned(path, name, text, error=None, wall_ms=4.0):
    return Event("tool.finished", "r", path, 3.0, {"name": name, "text": text, "error": error, "wall_ms": wall_ms})


START = Event(
    "run.started",
    "r",
    time=1.0,
    data={"agent": "tally", "version": "1", "input": "count", "session": "s", "provider": "p", "model": "m"},
)
END = Event("run.finished", "r", time=6.5, data={"status": 0, "stop": "final", "output": "4 words", "steps": 3})
EVENTS = [
    START,
    replied("0", "I will count", [("count", {"text": "a b"}), ("lines", {})]),
    returned("1.1", "lines", "1", wall_ms=10.0),
    returned("1.0", "count", "2"),
    replied("2", "again", [("count", {"text": "c d"})]),
    returned("3.0", "count", "no such unit", "invalid", wall_ms=2.0),
    replied("4", "4 words"),
    END,
]


def test_steps_hold_thought_actions_and_observations_in_call_order():
    seen = readings.session(EVENTS)

    assert seen.step_count == 3
    assert seen.thoughts == ("I will count", "again", "4 words")
    assert [action.tool for action in seen.actions] == ["count", "lines", "count"]
    assert seen.observations == ("2", "1", "no such unit")
    assert seen.failed_tool_call_count == 1
    assert seen.most_common_action == "count"
    assert (seen.has_final_answer, seen.final_answer) == (True, "4 words")
    assert seen.duration == 5.5
    assert seen.memory_hits == 0


def test_items_of_memory_are_counted_those_given_at_the_beginning_and_those_that_were_recalled():
    start = Event("run.started", "r", "", 1.0, {"provenance": [{"ref": "memory:a1"}, {"ref": "memory"}, {"ref": "stdin"}]})
    found = {"id": "c", "name": "recall", "text": "…", "error": None, "value": {"items": [{"id": "b"}, {"id": "d"}]}}
    events = [
        start,
        Event("tool.finished", "r", "1.0", 2.0, found),
        Event("tool.finished", "r", "2.0", 3.0, {**found, "value": None}),
    ]

    assert readings.session(events).memory_hits == 3


def test_a_step_is_found_by_its_number_from_one():
    seen = readings.session(EVENTS)

    assert seen.step(2).path == "2"
    assert seen.step(2).actions[0].error == "invalid"
    assert seen.step(0) is None
    assert seen.step(4) is None


def test_an_unfinished_run_has_no_answer_and_open_calls_have_no_observation():
    seen = readings.session(EVENTS[:2])

    assert (seen.final_answer, seen.has_final_answer, seen.duration) == (None, False, None)
    assert [action.observation for action in seen.actions] == [None, None]
    assert seen.observations == ()


def test_a_run_that_failed_has_no_final_answer_even_with_partial_output():
    failed = Event("run.finished", "r", time=2.0, data={"status": 4, "output": "so far"})

    assert readings.session([START, failed]).final_answer is None


def test_a_run_that_was_started_again_after_its_end_is_unfinished():
    seen = readings.summary([*EVENTS, Event("run.started", "r", time=9.0, data={"agent": "tally", "resumed": True})])

    assert (seen.state, seen.status, seen.started) == ("unfinished", None, 1.0)


def test_nested_positions_belong_to_the_step_beside_them_and_ten_comes_after_nine():
    events = [
        replied("2.10", "b", [("t", {})]),
        returned("2.11.0", "t", "nested"),
        replied("2.9", "a"),
        returned("3.0", "t", "other"),
    ]
    seen = readings.session(events)

    assert seen.thoughts == ("a", "b")
    assert seen.observations == ("nested",)


def test_no_events_make_empty_views():
    assert readings.session([]).steps == ()
    assert readings.session([]).most_common_action is None
    assert readings.summary([]).state == "unfinished"
    assert readings.usage([])["cost_usd"] == "0"
    assert readings.tool_counts([]) == []


def test_the_summary_says_what_ran_and_how_it_ended():
    seen = readings.summary(EVENTS)

    assert (seen.agent, seen.session, seen.input, seen.model) == ("tally", "s", "count", "m1")
    assert (seen.state, seen.status, seen.stop, seen.output, seen.steps) == ("finished", 0, "final", "4 words", 3)


def test_the_bill_is_the_exact_sum_of_the_calls():
    assert readings.usage(EVENTS) == {
        "input_tokens": 300, "cached_input_tokens": 120, "output_tokens": 30, "calls": 3, "cost_usd": "0.015",
        "cost_basis": None, "wall_ms": 60,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cost": None}, "cost_usd"),
        ({"usage": {"input_tokens": None, "output_tokens": 1, "cached_input_tokens": 0}}, "input_tokens"),
    ],
)
def test_one_unknown_makes_its_sum_unknown(change, field):
    assert readings.usage([replied("0"), replied("1", **change)])[field] is None


def test_calls_from_the_cache_cost_nothing_and_inherited_calls_were_paid_by_the_parent():
    bill = readings.usage([replied("0"), replied("1", cached=True, cost=None), replied("2", inherited=True)])

    assert (bill["calls"], bill["cost_usd"]) == (2, "0.005")


def test_tools_are_counted_with_errors_and_average_latency():
    assert readings.tool_counts(EVENTS) == [readings.ToolCount("count", 2, 1, 3.0), readings.ToolCount("lines", 1, 0, 10.0)]


def test_a_failed_effect_is_a_step_that_says_why():
    failed = Event("effect.failed", "r", "0", 2.0, {"error": {"code": "auth", "detail": "the key was rejected"}})

    assert readings.session([START, failed]).steps[0].error == "the key was rejected"
