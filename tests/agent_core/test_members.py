"""Members: agents inside a run with their own model, tools and budget; names and depth of calls; patterns played by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest

from agent_core import Agent, tool
from agent_core.effects import All, Ask, Call
from agent_core.errors import Failed
from agent_core.members import Member
from agent_core.messages import assistant, user
from agent_core.play import play
from agent_core.provider import Reply
from agent_core.task import Answer, Task
from agent_patterns.react import react


@tool
def double(number: int) -> int:
    """Double a number."""
    return 2 * number


def agent(pattern):
    return Agent("outer - calls others.", pattern=pattern)


def test_a_member_asks_its_own_model_at_its_own_provider(fake_api, monkeypatch):
    for name, value in fake_api.env().items():
        monkeypatch.setenv(name, value)
    fake_api.script("one", "two")
    member = Member("second", "You are second.", provider="groq", model="m2")

    def pattern(task):
        first = yield task.ask(task.messages())
        second = yield Call(member, first.text)
        return f"{first.text} {second}"

    result = agent(pattern).run("hi", provider="openai", model="m1")

    assert result.output == "one one"
    assert [request["body"]["model"] for request in fake_api.requests()] == ["m1", "m2"]
    assert fake_api.requests()[1]["body"]["messages"][0]["content"] == "You are second."


def test_an_ask_may_name_another_model_than_the_runs(fake_api, monkeypatch):
    for name, value in fake_api.env().items():
        monkeypatch.setenv(name, value)
    fake_api.script("one")

    def pattern(task):
        reply = yield task.ask(task.messages(), model="big")
        return reply.text

    assert agent(pattern).run("hi", provider="openai", model="m1").output == "one"
    assert fake_api.requests()[0]["body"]["model"] == "big"


def test_a_members_budget_is_its_own(tmp_path):
    script = tmp_path / "s.jsonl"
    script.write_text('"one"\n')
    poor = Member("poor", budget=Decimal("0.01"), provider="openai", model="unpriced")

    def pattern(_task):
        return (yield Call(poor, "x"))

    result = agent(pattern).run("hi", script=str(script), provider="scripted")

    assert result.status in {4, 78}


def test_agents_that_call_each_other_stop_at_the_depth_limit():
    def pattern(task):
        return (yield Call(looping, task.text))

    looping = agent(pattern)
    result = looping.run("hi", provider="offline")

    assert result.status == 4
    assert "chain of calls" in str(result.error)


def test_the_depth_is_inherited_from_the_environment(monkeypatch):
    monkeypatch.setenv("AGENT_DEPTH", "4")

    def pattern(_task):
        return (yield Call(Member("x"), "y"))

    assert agent(pattern).run("hi", provider="offline").status == 4


def test_members_run_side_by_side_and_their_calls_are_counted_together(tmp_path):
    script = tmp_path / "s.jsonl"
    script.write_text('"a"\n' * 3)

    def pattern(task):
        found = yield All([Call(Member(name), task.text) for name in "abc"])
        return " ".join(found)

    result = agent(pattern).run("hi", script=str(script))

    assert (result.output, result.usage["calls"]) == ("a a a", 3)


def test_play_feeds_outcomes_in_order_and_keeps_the_effects():
    played = play(react(Task(user("2+2?"))), [Reply(assistant("4"))])

    assert played.text == "4"
    assert [type(effect) for effect in played.effects] == [Ask]


def test_play_throws_an_exception_into_the_pattern():
    def pattern():
        try:
            yield Ask([])
        except Failed as error:
            return Answer(f"caught {error}", 1)
        return None

    assert play(pattern(), [Failed("it")]).value == Answer("caught it", 1)


def test_play_says_when_outcomes_and_effects_do_not_match():
    def pattern():
        yield Ask([])
        return "done"

    with pytest.raises(ValueError, match="no outcome left"):
        play(pattern(), [])
    with pytest.raises(ValueError, match="1 outcomes left"):
        play(pattern(), [None, None])
