"""Tests of sessions: a conversation is what the finished runs of its name said."""

from __future__ import annotations

import pytest

from agent_core import messages
from agent_core.events import Event
from agent_core.sessions import history, last_session
from agent_core.store import open_store


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "agents.db")
    yield store
    store.close()


def say(store, run, text, answer=None, *, session="talk", status=0, agent="assistant", at=0.0):
    start = {"agent": agent, "session": session, "input": messages.to_json(messages.user(text))}
    store.append(Event("run.started", run, time=at, data=start))
    if answer is not None:
        store.append(Event("run.finished", run, time=at + 1, data={"status": status, "output": answer, "stop": "final"}))


def test_a_conversation_is_question_and_answer_of_each_run_in_order(store):
    say(store, "b", "second", "two", at=2)
    say(store, "a", "first", "one", at=1)
    say(store, "x", "elsewhere", "no", session="other", at=1)

    assert [(m.role, m.text) for m in history(store, "talk")] == [
        ("user", "first"), ("assistant", "one"), ("user", "second"), ("assistant", "two"),
    ]  # fmt: skip


@pytest.mark.parametrize("status", [1, 4, 69, 77, 124, 130])
def test_a_run_that_failed_leaves_neither_question_nor_answer(store, status):
    say(store, "a", "good", "yes")
    say(store, "b", "bad", "partial", status=status)
    say(store, "c", "still going")

    assert [m.text for m in history(store, "talk")] == ["good", "yes"]


def test_a_run_whose_answer_is_no_ran_well_and_is_part_of_the_conversation(store):
    say(store, "a", "any problems?", "yes, two", status=3)

    assert len(history(store, "talk")) == 2


def test_a_run_that_was_resumed_to_a_good_end_is_said_once(store):
    say(store, "a", "hello", "", status=130, at=1)
    say(store, "a", "hello", "hi", at=5)

    assert [m.text for m in history(store, "talk")] == ["hello", "hi"]


def test_pictures_stay_in_the_conversation(store):
    picture = messages.user("what is it?", messages.Image("image/png", b"\x89PNG"))
    store.append(Event("run.started", "a", data={"agent": "assistant", "session": "talk", "input": messages.to_json(picture)}))
    store.append(Event("run.finished", "a", data={"status": 0, "output": "a cat"}))

    assert history(store, "talk")[0] == picture


def test_plain_text_as_input_is_understood_too(store):
    store.append(Event("run.started", "a", data={"agent": "assistant", "session": "talk", "input": "hi"}))
    store.append(Event("run.finished", "a", data={"status": 0, "output": "ho"}))

    assert history(store, "talk") == [messages.user("hi"), messages.assistant("ho")]


def test_a_fork_is_not_said_twice(store):
    say(store, "a", "hello", "hi")
    new = store.fork("a", "0")
    store.append(Event("run.started", new, data={"agent": "assistant", "session": "talk", "input": "hello", "resumed": True}))
    store.append(Event("run.finished", new, data={"status": 0, "output": "hi"}))

    assert len(history(store, "talk")) == 2


@pytest.mark.parametrize("name", ["", "nobody", "t'alk", "\udcff", "\0"])
def test_an_unknown_session_is_an_empty_conversation(store, name):
    say(store, "a", "hello", "hi")

    assert history(store, name) == []


def test_a_session_name_may_be_any_bytes_of_a_command_line(store):
    say(store, "a", "hello", "hi", session="caf\udce9")

    assert len(history(store, "caf\udce9")) == 2


def test_the_last_session_is_that_of_the_agents_newest_run_with_one(store):
    assert last_session(store, "assistant") is None
    say(store, "a", "1", "1", session="old", at=1)
    say(store, "b", "2", "2", session="new", at=2)
    say(store, "c", "3", "3", session="", at=3)
    say(store, "d", "4", "4", session="mine", agent="other", at=4)

    assert last_session(store, "assistant") == "new"
    assert last_session(store, "other") == "mine"
