"""Every pattern: the predicted number of model calls; killed at any effect it goes on to the same answer; replayed it asks nobody."""

from __future__ import annotations

import ast
import inspect
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_until
from single_mind import TOOLS, request, survives, task
from test_handoff import consult, transfer

from agent_core.agent import find_pattern, pattern_names
from agent_core.members import Member
from agent_core.messages import ToolCall
from agent_core.store import open_store
from agent_core.tool import Toolset, tool
from agent_patterns.chain import Stage, chain
from agent_patterns.coordinate import coordinate
from agent_patterns.debate import Side, debate
from agent_patterns.desks import Desk, Roster
from agent_patterns.graph import graph
from agent_patterns.graph_file import load
from agent_patterns.graph_tables import Known
from agent_patterns.group import group
from agent_patterns.handoff import handoff
from agent_patterns.htn import htn
from agent_patterns.methods import Domain, Method, Primitive
from agent_patterns.plan import plan
from agent_patterns.react import react
from agent_patterns.reflexion import reflexion
from agent_patterns.rework_rules import FEEDBACK, PEER, Policy
from agent_patterns.router import router
from agent_patterns.self_consistency import self_consistency
from agent_patterns.swarm import Swarm, swarm
from agent_patterns.talk import Group

from test_router import ROUTES  # isort: skip

FOLDER = Path(__file__).resolve().parents[2] / "agent_patterns"
A, B, C = (Member(name, f"You are {name}.") for name in "abc")


@tool(read_only=True)
def roster(request: str) -> list[dict[str, Any]]:
    """List agents."""
    del request
    return [{"name": name, "when_to_use": f"use {name}", "tags": [], "score": 0.5} for name in ("ann", "bob")]


@dataclass(frozen=True)
class Case:
    """A pattern with everything in it, the model it meets, and how many calls of models that makes."""

    pattern: Any
    answer: Any
    calls: int
    tools: Any = TOOLS
    find: Any = None


def says(*rows, other="ok"):
    """Return a model that answers with what stands beside the first word that is in the request."""

    def answer(ask):
        text = request(ask)
        return next((reply for word, reply in rows if word in text), other)

    return answer


def doubling(ask):
    return [ToolCall("c", "double", {"number": 21})] if len(ask.messages) == 2 else "42"


def by_round(ask):
    return f"{ask.messages[0].text[:10]} {len(request(ask)) % 1000}"


STEPS = [{"id": "1", "task": "double it", "tool": "double", "arguments": '{"number": 1}'}, {"id": "2", "task": "name"}]
STEPS += [{"id": "3", "task": "join", "needs": ["1", "2"]}]
GOOD = {"achieved": True, "confidence": 0.9, "issues": [], "answer": "all"}
PARTS = {"parts": [{"id": "1", "task": "look"}, {"id": "2", "task": "count"}, {"id": "3", "task": "write", "needs": ["1", "2"]}]}
TASKS = {"tasks": [{"id": "1", "agent": "ann", "input": "do"}, {"id": "2", "agent": "bob", "input": "sum", "needs": ["1"]}]}
DESKS = Roster({"sort": Desk("You sort."), "bill": Desk("You bill."), "law": Desk("You are law.")}, "sort")
DOMAIN = Domain([Method("Go", ["Add", "Tell"])], [Primitive("Add", "double", {"number": 4}), Primitive("Tell", prompt="Tell it.")])
CREW = """
process = "{process}"
[agents.ada]
role = "researcher"
[agents.bob]
role = "writer"
[tasks.find]
agent = "ada"
description = "Find it."
[tasks.check]
agent = "ada"
description = "Check it."
[tasks.write]
agent = "bob"
context = ["find"]
description = "Write it."
"""
FLOW = """
[agents.m]
role = "worker"
[nodes.write]
agent = "m"
max_visits = 3
next = "review"
[nodes.review]
agent = "m"
prompt = "Is this good? {{ nodes.write.output }}"
next = [{ to = "each", when = { contains = "GOOD" } }, { to = "write" }]
max_visits = 3
[nodes.each]
map = '["x", "y"]'
agent = "m"
"""
ASSIGNED = {"find": {"agent": "bob", "instruction": "soon"}, "check": {"agent": "ada"}, "write": {"agent": "bob"}}


def drawn(text):
    """Return a graph of a text, and who does the work of its nodes."""
    plan_ = load("g.toml", lambda _path: text, Known())
    return lambda: graph(
        task("go"), plan_, lambda node, who, _keep: Member(node.name, getattr(who, "system", ""), reply=node.schema)
    )


def handing(ask):
    text, known = ask.messages[0].text, request(ask)
    if text == "You sort.":
        return [transfer("bill")]
    if text == "You bill." and "allowed" not in known:
        return [consult("law", "may I?")]
    return "allowed" if text == "You are law." else "billed"


def seconds(ask):
    return {"score": 0.5, "reason": "so"} if "how convincing is this argument" in request(ask) else by_round(ask)


HOUSE = says(
    ("Judge the answer", {"accept": False, "feedback": "name the year", "suggestions": []}),
    ("You answered this before", "The house costs $600K since 1990."), ("You are a.", "The house costs $500K."),
    ("You are b.", "The house costs $700K."),
)  # fmt: skip

CASES = {
    "react": Case(lambda: react(task("twice 21")), doubling, 2),
    "chain": Case(lambda: chain(task("tides"), [Stage("List {input}", "topics", "list"), Stage("Title:\n{topics}")]), says(("Title", "Pull"), other="- moon"), 2),
    "router": Case(lambda: router(task("hello"), ROUTES), says(("Answer with the name", "billing"), other="billing"), 2),
    "plan": Case(
        lambda: plan(task("build it")), says(("You make plans", {"steps": STEPS}), ("You verify work", GOOD)), 1 + 2 + 1,
    ),
    "reflexion": Case(
        lambda: reflexion(task("prove")), says(("mended", {"pass": True}), other="mended"), 2,
    ),
    "self_consistency": Case(lambda: self_consistency(task("2+2", options={"samples": 3})), says(other="4"), 3),
    "htn": Case(lambda: htn(task("Go"), DOMAIN), doubling, 2),
    "handoff": Case(lambda: handoff(task("bill"), DESKS), handing, 4),
    "coordinate": Case(
        lambda: coordinate(task("do all", tools=Toolset((roster,)))), says(("Plan the tasks", TASKS), ("have answered", {"answer": "done"})), 4,
        Toolset((roster,)), {"ann": A, "bob": B}.__getitem__,
    ),
    "team": Case(lambda: group(task("q"), Group([A, B], C, rounds=2, topology="mesh")), by_round, 3 * 2 + 1),
    "debate": Case(lambda: debate(task("t"), [Side(A, "yes"), Side(B, "no")], 2), seconds, 2 * 2 + 2 + 1),
    "swarm": Case(lambda: swarm(task("s"), Swarm(reduce="synthesis")), says(("Split the task", PARTS)), 1 + 3 + 1),
    "orchestra": Case(lambda: group(task("q"), Group([A, B, C])), by_round, 3 + 1),
    "crew": Case(lambda: group(task("q"), Group([A, B, C], process="sequential", reduce="last")), by_round, 3),
    "rework": Case(
        lambda: group(task("What does the house cost?"), Group([A, B], topology="mesh", reduce="merge", rework=Policy((PEER, FEEDBACK), 1, 0))),
        HOUSE, 2 + 2 + 2,
    ),
    "graph": Case(drawn(FLOW), says(("Is this good", "GOOD")), 4),
    "sequential": Case(drawn(CREW.format(process="sequential")), by_round, 3),
    "parallel": Case(drawn(CREW.format(process="parallel")), by_round, 3),
    "hierarchical": Case(drawn(CREW.format(process="hierarchical")), says(("Answer with one JSON object: for", ASSIGNED)), 3 + 2),
}  # fmt: skip
ALSO = {"group": "team"}  # a pattern's name beside that of its case


@pytest.mark.parametrize("name", CASES)
def test_it_makes_the_predicted_calls_and_survives_a_kill_at_any_effect_and_replays_without_a_model(name):
    case = CASES[name]
    ran = survives(case.pattern, case.answer, case.tools, find=case.find)

    assert len(ran.asked) == case.calls
    assert getattr(ran.value, "status", 0) == 0


def test_no_pattern_is_missing_here():
    assert {ALSO.get(name, name) for name in pattern_names()} <= CASES.keys()


FILES = {
    "chain.toml": "".join(f'[[stage]]\nprompt = "{word} {{input}}"\n' for word in ("list", "name", "join")),
    "routes.toml": 'by = "model"\ndefault = "a"\n[route.a]\ndescription = "all"\n',
    "desks.toml": '[agent.a]\nsystem = "A."\n[agent.b]\nsystem = "B."\n',
    "htn.toml": '[[method]]\ntask = "Go"\nsubtasks = ["One", "Two"]\n[[primitive]]\ntask = "One"\nprompt = "one"\n[[primitive]]\ntask = "Two"\nprompt = "two"\n',
}  # fmt: skip
PLAN = {"steps": [{"id": "1", "task": "a"}, {"id": "2", "task": "b"}]}
CALC = {"tool_calls": [{"name": "calc", "arguments": {"expression": "1 + 1"}}]}
ALIVE = {
    "react": ([], [CALC, "two"], 2), "chain": (["--chain", "chain.toml"], ["a", "b", "c"], 3),
    "router": (["--routes", "routes.toml"], ["a", "hello"], 2), "plan": ([], [{"json": PLAN}, "a", "b", {"json": GOOD}], 4),
    "reflexion": ([], ["draft", "too short", "longer"], 3), "self_consistency": (["--samples", "3"], ["4", "4", "4"], 3),
    "htn": (["--methods", "htn.toml"], ["1", "2"], 2),
    "handoff": (["--roster", "desks.toml"], [{"tool_calls": [{"name": "transfer", "arguments": {"agent": "b"}}]}, "b here"], 2),
}  # fmt: skip


def replies(folder):
    """Return how many replies of models are in the journal."""
    store = open_store(folder / "agents.db")
    found = len(store.of_kind("model.replied", "assistant"))
    store.close()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ALIVE)
def test_a_process_that_is_killed_is_resumed_from_where_it_was_and_replayed_without_a_network(
    name, run_agent, start_fake_api, tmp_path
):
    flags, script, calls = ALIVE[name]
    for path, text in FILES.items():
        (tmp_path / path).write_text(text, "utf-8")
    api = start_fake_api("--per", "server")
    last = script[-1] if isinstance(script[-1], dict) else {"text": script[-1]}
    api.script(*script[:-1], {**last, "delay_ms": 60_000})
    program = [sys.executable, "-m", "agents.assistant", "Go", "--pattern", name, *flags, "--provider", "openai", "--model", "m"]
    program += ["--data-dir", str(tmp_path / "data")]
    env = {**os.environ, **api.env(), "PYTHONPATH": str(FOLDER.parent)}  # noqa: TID251 - a process of its own
    with subprocess.Popen(program, cwd=tmp_path, env=env, stdin=subprocess.DEVNULL) as process:
        assert wait_until(lambda: len(api.requests()) == calls and replies(tmp_path / "data") == calls - 1, 20)
        process.kill()
    api.reset()
    api.script(script[-1])

    done = run_agent("assistant", "--resume", "last", "--json", "--data-dir", str(tmp_path / "data"), env=api.env())
    again = run_agent("assistant", "--replay", "last", "--json", "--data-dir", str(tmp_path / "data"))

    found, repeated = (json.loads(each.stdout)["data"] for each in (done, again))
    assert (done.returncode, len(api.requests()), found["usage"]["calls"]) == (0, 1, calls), done.stderr
    assert (again.returncode, repeated["output"], repeated["structuredContent"]) == (0, found["output"], found["structuredContent"])
    assert len(api.requests()) == 1


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_no_pattern_knows_about_stores_clocks_http_or_processes(name):
    forbidden = {
        "time", "datetime", "random", "secrets", "uuid", "os", "sys", "io", "pathlib", "socket", "subprocess", "threading", "asyncio", "sqlite3", "httpx", "urllib",
        "agent_core.store", "agent_core.drive", "agent_core.http", "agent_core.processes", "agent_core.running", "agent_core.config", "agent_core.database",
    }  # fmt: skip
    text = (FOLDER / f"{name}.py").read_text("utf-8")
    imported = {word for line in text.splitlines() if (word := _imported(line))}

    assert not {each for each in imported if each in forbidden or each.partition(".")[0] in forbidden} - ALLOWED.get(name, set())


ALLOWED = {"tables": {"pathlib"}}  # reads the files of flags, before there is a pattern


def _imported(line):
    words = line.split()
    return words[1] if words[:1] == ["from"] or words[:1] == ["import"] else ""


def test_a_pattern_is_a_generator_function():
    assert [name for name in pattern_names() if not inspect.isgeneratorfunction(find_pattern(name))] == []


def test_a_pattern_is_two_pages_of_code_and_no_file_beside_it_is_much_longer():
    """A page has 72 lines; docstrings, comments and blank lines are not counted."""
    rows = {path.stem: path.read_text("utf-8") for path in FOLDER.glob("*.py")}
    code = {name: _code(text) for name, text in rows.items()}

    assert {name: code[name] for name in pattern_names() if code[name] > 2 * 72} == {}
    assert {name: count for name, count in code.items() if count > 3 * 72} == {}


def _code(text):
    """Return the number of lines of a module that are neither blank, nor comments, nor docstrings."""
    tree = ast.parse(text)
    prose = set()
    for each in ast.walk(tree):
        if isinstance(each, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(each, clean=False) is not None:
            prose.update(range(each.body[0].lineno, each.body[0].end_lineno + 1))
    rows = enumerate(text.splitlines(), 1)
    return sum(bool(row.strip()) and not row.lstrip().startswith("#") and number not in prose for number, row in rows)
