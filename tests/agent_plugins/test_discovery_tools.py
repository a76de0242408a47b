"""Tests of agents as tools: found in the catalogue, called only when registered and granted, by the engine's own call."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agent_core import catalogue, config, plugins
from agent_core.effects import Call
from agent_core.errors import ConfigError
from agent_core.policy import Policy, decide
from agent_core.tool import Context, ToolError
from agent_plugins.discovery import tools

ROOT = Path(__file__).resolve().parents[2]
CARD = {
    "schema": "agent-card/1", "name": "tally", "description": "count apples", "tags": ["count"], "stdin": "required",
    "when_to_use": "Apples have to be counted.",
    "input_schema": {"type": "object", "properties": {"instruction": {"type": "string"}, "input": {"type": "string"}}, "required": ["input"]},
}  # fmt: skip


@pytest.fixture
def settings(tmp_path):
    return config.load({"data_dir": str(tmp_path / "data"), "workspace": str(tmp_path)})


@pytest.fixture
def register(tmp_path, settings):
    """Give a function that registers a shell program under a name."""

    def registered(name="tally", body="cat", card=None):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        entry = catalogue.entry_of(name, [str(path)], {**CARD, "name": name, **(card or {})}, "adopt")
        catalogue.write(settings.data_dir, entry)
        return entry

    return registered


def context(settings, *allow, tool=None):
    return Context(Policy.of(allow), settings=settings, tool=tool, workspace=settings.workspace)


def test_find_agent_returns_real_matches_with_scores_or_none(register, settings):
    register()
    found = tools.find_agent("count apples", context(settings))

    assert [(row["name"], row["callable"]) for row in found] == [("tally", True)]
    assert found[0]["score"] == pytest.approx(0.5 * 1 + 0.5 * 1)
    assert tools.find_agent("cook dinner", context(settings)) == []


def test_find_agent_asks_for_no_grant_and_makes_no_store(settings, tmp_path):
    assert decide(Policy.of(), tools.find_agent, {"query": "x"}) is None
    assert tools.find_agent("x", context(settings)) == []
    assert not (tmp_path / "data").exists()


def test_call_agent_is_the_engines_call_with_the_input_as_text_and_never_as_an_option(register, settings):
    entry = register()
    made = tools.call_agent("tally", "--help; rm -rf /", context(settings, "agent:tally"))

    assert isinstance(made, Call)
    assert made.message == "--help; rm -rf /"
    assert (made.agent.name, made.agent.argv, made.agent.sha256) == ("tally", entry.argv, entry.sha256)


GRANTS = [
    ((), False), (("agent:tally",), True), (("agent",), True), (("agent:other",), False), (("agent:tall",), False), (("shell",), False),
    (("agent:*",), True),
]  # fmt: skip


@pytest.mark.parametrize(("allow", "granted"), GRANTS)
def test_a_call_needs_a_grant_for_that_agent(allow, granted, register, settings):
    register()

    denial = decide(Policy.of(allow), tools.call_agent, {"name": "tally", "input": "x"})
    assert (denial is None) is granted
    if not granted:
        with pytest.raises(ToolError, match="--allow agent:tally"):
            tools.call_agent("tally", "x", context(settings, *allow))


@pytest.mark.parametrize("name", ["../tally", "/bin/sh", "bin/tally", "--help", "", "nope", "Tally", "tally\n"])
def test_a_name_that_is_not_registered_is_not_started(name, register, settings):
    register()

    with pytest.raises(ToolError) as error:
        tools.call_agent(name, "x", context(settings, "agent"))
    assert error.value.kind in {"not_found", "denied"}


def test_a_program_that_changed_is_not_started(register, settings, tmp_path):
    register()
    (tmp_path / "bin" / "tally").write_text("#!/bin/sh\necho other\n")

    with pytest.raises(ToolError, match="changed since it was registered") as error:
        tools.call_agent("tally", "x", context(settings, "agent"))
    assert error.value.kind == "denied"


def test_any_card_becomes_a_tool_with_its_own_schema_and_grant(register, settings):
    made = tools.tool_of(register())

    assert (made.name, made.description, made.parameters) == ("tally", "Apples have to be counted.", CARD["input_schema"])
    assert decide(Policy.of(), made, {}).rule == "--allow agent:tally"
    assert decide(Policy.of(["agent:tally"]), made, {}) is None
    call = made.function(context=context(settings, "agent:tally", tool=made), instruction="count", input="a b")
    assert call.message == "count\n\na b"


def test_a_program_becomes_a_tool_of_arguments_and_stdin(register, settings):
    entry = register("plain", card={"kind": "program", "input_schema": None})
    made = tools.tool_of(entry)
    call = made.function(context=context(settings, "agent", tool=made), args=["-r", "--", ".a; rm x"], stdin="--text")

    assert call.agent.argv == (*entry.argv, "-r", "--", ".a; rm x")
    assert call.message == "--text"
    assert call.agent.record is False
    for args in (["x"] * 201, ["a\0b"], [7]):
        with pytest.raises(ToolError, match="args must be a list"):
            made.function(context=context(settings, "agent", tool=made), args=args)


def test_text_of_a_card_in_a_tool_is_cut_and_cleaned(register):
    made = tools.tool_of(
        register(card={"when_to_use": "\x1b[2J" + "x" * 3000 + "\nline", "input_schema": {"properties": {"evil": {}}}})
    )

    assert len(made.description) == 300
    assert "\x1b" not in made.description
    assert set(made.parameters["properties"]) == {"instruction", "input"}


def test_the_best_registered_agents_for_an_input_are_tools_and_no_others(register, settings, tmp_path):
    for number in range(8):
        register(f"tally-{number}")
    register("cook", card={"description": "cook dinner", "tags": ["kitchen"]})
    (tmp_path / "AGENTS.md").write_text("<!-- agents:begin -->\n- `listed` — count apples. Tags: count.\n<!-- agents:end -->\n")

    assert [each.name for each in tools.tools_for("count the apples", settings, 3)] == ["tally-0", "tally-1", "tally-2"]
    assert tools.tools_for("fly to the moon", settings) == []


def test_the_plugin_gives_every_agent_both_tools():
    found = plugins.load(("agent_plugins.discovery.plugin",)).tools(None)

    assert [each.name for each in found] == ["find_agent", "call_agent"]
    with pytest.raises(ConfigError):
        plugins.load(("agent_plugins.discovery.plugin_that_is_not_there",))


CALLER = '''"""caller - call others."""
from agent_core import Agent
from agent_plugins.discovery.tools import call_agent, find_agent
agent = Agent(__doc__, "x", tools=[find_agent, call_agent])
agent.main()
'''


def test_a_call_by_a_tool_is_journalled_as_a_call_and_input_with_dashes_reaches_the_peer_as_text(tmp_path, run_agent, monkeypatch):
    (tmp_path / "caller.py").write_text(CALLER)
    call = {"name": "call_agent", "arguments": {"name": "wc", "input": "--help me\n"}}
    (tmp_path / "script.jsonl").write_text(json.dumps({"tool_calls": [call]}) + '\n{"text": "done"}\n')
    assert run_agent("agent-find", "adopt", "wc").returncode == 0
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def called(*flags):
        argv = [sys.executable, str(tmp_path / "caller.py"), "--provider", "scripted", "--script", "script.jsonl", *flags, "count"]
        return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=tmp_path, check=False)

    assert called().returncode == 77
    assert called("--allow", "agent:wc").stdout == "done\n"
    events = [json.loads(line) for line in run_agent("agent-log", "export", "last").stdout.splitlines()]
    assert [event["kind"] for event in events][2:6] == ["tool.started", "call.started", "call.finished", "tool.finished"]
    assert events[5]["data"]["text"].split() == ["1", "2", "10"]
