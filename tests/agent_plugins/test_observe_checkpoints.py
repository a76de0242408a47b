"""agent-log checkpoints: a reading of the log, and each of them a place to fork at."""

from __future__ import annotations

import json

import pytest

from agent_core.events import Event
from agent_plugins.observe.checkpoints import checkpoints, newest


def turn(number, said, **call):
    """A turn of a model, and the result of its call if it made one."""
    parts = [{"type": "text", "text": said}] + ([{"type": "tool_call", "name": "remember"}] if call else [])
    yield Event("model.replied", "r", str(2 * number), 10.0 + number, {"message": {"role": "assistant", "parts": parts}})
    if call:
        yield Event("tool.started", "r", f"{2 * number + 1}.0", 10.5 + number, {"name": "remember", "arguments": call})
        yield Event("tool.finished", "r", f"{2 * number + 1}.0", 10.5 + number, {"name": "remember", "value": {"id": "x"}})


def of(steps):
    return [
        Event("run.started", "r", time=1.0),
        *(event for n in range(steps) for event in turn(n, f"t{n}", key=f"k{n}", text=f"v{n}")),
    ]


def test_every_fifth_step_is_one_with_what_was_remembered_and_said_until_then():
    found = checkpoints(of(12), "a", 5)

    assert [(each.step, each.at, each.created_at) for each in found] == [(5, 10, 14.5), (10, 20, 19.5)]
    assert found[0].memory == {f"k{n}": f"v{n}" for n in range(5)}
    assert (found[1].context, found[0].agent_id, found[0].run) == ("t9 (remember)", "a", "r")
    assert [each.step for each in checkpoints(of(3), "a", 1)] == [1, 2, 3]
    assert checkpoints([], "a") == checkpoints(of(4), "a") == []


def test_of_eleven_the_newest_ten_of_each_agent_are_kept():
    found = [*checkpoints(of(11), "a", 1), *checkpoints(of(3), "b", 1)]

    assert [each.step for each in newest(found, 10) if each.agent_id == "a"] == list(range(2, 12))
    assert len([each for each in newest(found, 10) if each.agent_id == "b"]) == 3


def test_eleven_steps_by_the_shell_leave_ten_and_a_fork_at_one_shares_what_was_before(run_agent, tmp_path):
    calls = [{"tool_calls": [{"name": "calc", "arguments": {"expression": f"{n}+1"}}]} for n in range(10)]
    (tmp_path / "s.jsonl").write_text("\n".join(json.dumps(each) for each in [*calls, "done"]))
    run_agent("assistant", "-q", "--provider", "scripted", "--script", "s.jsonl", "--max-steps", "20", "count")
    rows = json.loads(run_agent("agent_log", "checkpoints", "--every", "1", "--json").stdout)["data"]["structuredContent"]
    assert [row["step"] for row in rows] == list(range(2, 12))
    table = run_agent("agent_log", "checkpoints", "last").stdout.splitlines()
    assert [line.split()[1:3] for line in table[1:]] == [["5", "10"], ["10", "20"]]

    fork = json.loads(run_agent("agent_log", "fork", "last", "--at", "10", "--json").stdout)["data"]["structuredContent"]
    assert fork["kept"] == 10
    assert run_agent("assistant", "--resume", fork["run"], "--no-stdin", "--max-steps", "20").stdout == "done\n"


@pytest.mark.parametrize("words", [("--every", "0"), ("--keep", "0"), ("nope",)])
def test_what_cannot_be_is_a_usage_error(run_agent, words):
    assert run_agent("agent_log", "checkpoints", *words).returncode == 2
