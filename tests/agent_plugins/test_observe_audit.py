"""The audit: who was allowed what, which models and peers were asked, and by whom a question was answered."""

from __future__ import annotations

import json

import pytest

from agent_core import redact
from agent_core.events import Event
from agent_core.store import open_store
from agent_plugins.observe import audit


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "agents.db")
    yield store
    store.close()


def tell(store, *events, run="r1", agent="assistant"):
    store.append(Event("run.started", run, time=1.0, data={"agent": agent, "input": "x"}))
    store.append(*(Event(kind, run, path, 2.0 + place, data) for place, (kind, path, data) in enumerate(events)))


def rows(store, **more):
    return [(entry.what, entry.name, entry.allowed, entry.by, entry.detail) for entry in audit.entries(store, **more)]


def test_decisions_are_rows_with_what_was_lacking(store):
    tell(
        store,
        ("tool.started", "1.0", {"name": "write_file", "arguments": {"path": "a"}, "effects": True}),
        ("tool.finished", "1.0", {"name": "write_file", "error": None, "text": "ok"}),
        ("tool.finished", "3.0", {"name": "shell", "error": "denied", "text": "denied: shell needs shell:rm, shell:dd"}),
        ("tool.finished", "5.0", {"name": "fetch", "error": "denied", "text": "denied: fetch may not use network:evil.example:80 (a --deny rule)"}),
    )  # fmt: skip
    found = list(audit.entries(store))

    assert rows(store) == [
        ("tool", "write_file", True, "policy", '{"path": "a"}'),
        ("tool", "shell", False, "policy", "shell needs shell:rm, shell:dd"),
        ("tool", "fetch", False, "policy", "fetch may not use network:evil.example:80 (a --deny rule)"),
    ]
    assert [entry.denied_capabilities for entry in found] == [(), ("shell:rm", "shell:dd"), ("network:evil.example:80",)]
    assert audit.as_data(found[1]) | {
        "tool_name": "shell",
        "allowed": False,
        "denied_capabilities": ["shell:rm", "shell:dd"],
    } == audit.as_data(found[1])
    assert [audit.is_denial(entry) for entry in found] == [False, True, True]


def test_answers_of_a_person_say_where_they_came_from(store):
    tell(
        store,
        ("wait.asked", "1.0.0", {"question": "Allow rm?", "tool": "shell"}),
        ("wait.finished", "1.0.0", {"answer": "yes", "by": "terminal"}),
        ("wait.asked", "3", {"question": "Go on?"}),
        ("run.finished", "", {"status": 5}),
        ("wait.finished", "3", {"answer": "no"}),
        ("wait.finished", "4", {"answer": None}),
        ("wait.finished", "5", {"answer": {"arguments": {"path": "b"}}}),
    )

    assert rows(store) == [
        ("question", "shell", None, "", "Allow rm?"), ("answer", "", True, "terminal", "yes"), ("question", "", None, "", "Go on?"),
        ("answer", "", False, "later", "no"), ("answer", "", True, "later", '{"arguments": {"path": "b"}}'),
    ]  # fmt: skip


def test_model_calls_and_peers_are_rows_with_their_bill(store):
    usage = {"input_tokens": 1000, "output_tokens": 5}
    tell(
        store,
        ("model.failed", "0", {"provider": "openai", "model": "m", "error": {"code": "http_503", "detail": "busy"}}),
        ("effect.failed", "0", {"error": {"detail": "busy"}}),
        ("effect.failed", "1", {"error": {"detail": "no budget left"}}),
        ("model.replied", "2", {"provider": "openai", "model": "m", "usage": usage, "cost": 5 * 10**9, "message": {}}),
        ("model.replied", "3", {"provider": "openai", "model": "m", "usage": {}, "cost": None, "message": {}}),
        ("call.started", "4", {"agent": "critic", "input": "look"}),
        ("call.finished", "4", {"agent": "critic", "output": "fine", "facts": {"run": "r9", "status": 0}}),
        ("call.started", "5", {"agent": "far", "input": "look"}),
        ("call.failed", "5", {"agent": "far", "error": {"detail": "gone"}}),
        ("effect.failed", "5", {"error": {"detail": "gone"}}),
        ("memory.evicted", "", {"items": [{"id": "m1"}]}),
    )

    assert [(what, name, detail) for what, name, _, _, detail in rows(store)] == [
        ("model", "openai/m", "failed: busy"), ("model", "", "failed: no budget left"), ("model", "openai/m", "1,000 tokens in, 5 out, 0.005 USD"),
        ("model", "openai/m", "? tokens in, ? out, price unknown"), ("peer", "critic", "asked: look"), ("peer", "critic", "answered"),
        ("peer", "far", "asked: look"), ("peer", "far", "failed: gone"), ("memory", "evicted", '[{"id": "m1"}]'),
    ]  # fmt: skip


def test_one_run_or_a_time_is_chosen_and_a_fork_has_no_rows_of_its_origin(store):
    tell(store, ("tool.started", "1.0", {"name": "a"}), ("model.replied", "2", {"usage": {}, "message": {}}))
    tell(store, ("tool.started", "1.0", {"name": "b"}), run="r2")
    store.fork("r1", "9")

    assert [name for _, name, *_ in rows(store, run="r2")] == ["b"]
    assert len(rows(store)) == 3
    assert rows(store, since=3.0) == rows(store)[1:2]


def test_no_secret_and_no_second_line_is_in_a_row(store):
    redact.register("correct horse battery")
    nasty = "sk-abcdefghijklmnop1234 correct horse battery \n\x1b[2J next"
    tell(
        store,
        ("tool.started", "1.0", {"name": nasty, "arguments": {"deep": [{"key": nasty}], nasty: 1}}),
        ("wait.asked", "2", {"question": nasty}),
    )
    found = json.dumps([audit.as_data(entry) for entry in audit.entries(store)])

    assert "correct horse" not in found
    assert "sk-abc" not in found
    assert all("\n" not in entry.name + entry.detail for entry in audit.entries(store))


@pytest.mark.parametrize(
    "data",
    [{}, {"name": 5, "arguments": "x", "error": "denied", "text": None}, {"error": 7, "facts": "x", "usage": None, "agent": None}],
)
@pytest.mark.parametrize("kind", audit.KINDS)
def test_whatever_an_old_log_holds_is_read(store, kind, data):
    tell(store, (kind, "1", data))

    assert all(json.dumps(audit.as_data(entry)) for entry in audit.entries(store))
