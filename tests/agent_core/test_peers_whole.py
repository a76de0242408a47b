"""Agents that call each other as processes: the chain ends, rights only shrink, money is shared, nothing is left behind."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent_core import catalogue
from agent_core.store import open_store
from agent_plugins.observe import pipelines

ROOT = Path(__file__).resolve().parents[2]
DEFINITION = """#!{python}
'''{name} - pass it on.'''
import sys
sys.path.insert(0, {root!r})
from agent_core import Agent, tool
from agent_core.effects import All, Call

@tool(needs={{"file-read": "path"}})
def peek(path: str) -> str:
    '''Read a file.'''
    return open(path).read()

def pattern(task):
{body}

agent = Agent(__doc__, "Pass it on.", tools=[peek], pattern=pattern)
if __name__ == "__main__":
    agent.main()
"""


@pytest.fixture
def suite(tmp_path):
    """Give a function that writes and registers agents (name: body of the pattern), and `.run` and `.pipeline`."""
    data = tmp_path / "data"
    env = {"PATH": os.defpath, "HOME": str(tmp_path), "AGENT_DATA_DIR": str(data), "AGENT_PROVIDER": "offline"}

    def write(**bodies):
        for name, body in bodies.items():
            path = tmp_path / name
            lines = "\n".join(f"    {line}" for line in body.splitlines())
            path.write_text(DEFINITION.format(python=sys.executable, root=str(ROOT), name=name, body=lines))
            path.chmod(0o755)
            card = {
                "schema": "agent-card/1",
                "name": name,
                "version": "1",
                "description": "passes on",
                "tags": [],
                "capabilities": [],
            }
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            catalogue.write(data, catalogue.Entry(name, (str(path),), digest, card, "2026-09-24T10:00:00Z", "checkout"))

    def start(name, *args, **more):
        return subprocess.Popen(
            [str(tmp_path / name), *args], cwd=tmp_path, env={**env, **more}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(name, *args, **more):
        process = start(name, *args, **more)
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        return process.returncode, out, err

    def pipeline():
        store = open_store(data / "agents.db")
        found = pipelines.around(store)
        store.close()
        return found

    write.start, write.run, write.pipeline = start, run, pipeline
    return write


ECHO = "return (yield task.ask(task.messages())).text"


def test_two_agents_that_call_each_other_stop_at_the_depth_limit_with_a_clear_error(suite, tmp_path):
    suite(a="return (yield Call('b', task.text))", b="return (yield Call('a', task.text))")
    status, out, err = suite.run("a", "go")

    assert (status, out) == (4, "")
    assert err.count("\n") == 1
    assert "chain of calls" in err
    assert [stage.agent for stage in suite.pipeline()[0].stages] == ["a", "b", "a", "b", "a"]
    assert {stage.via for stage in suite.pipeline()[0].stages[1:]} == {"peer"}


def test_a_called_agent_shares_trace_store_and_bill(suite, fake_api):
    fake_api.script(*[{"text": "ok", "usage": {"input_tokens": 1000, "output_tokens": 100}}] * 3)
    suite(a=f"own = {ECHO.removeprefix('return ')}\nreturn own + (yield Call('b', 'first')) + (yield Call('b', 'second'))", b=ECHO)
    settings = {**fake_api.env(), "AGENT_PROVIDER": "openai", "AGENT_MODEL": "gpt-4o-mini"}
    status, out, _ = suite.run("a", "--json", "go", **settings)
    data = json.loads(out)["data"]
    stages = suite.pipeline()[0].stages

    assert (status, data["output"], data["usage"]["calls"], len(stages)) == (0, "okokok", 3, 3)
    assert suite.pipeline()[0].cost_usd == data["usage"]["cost_usd"]
    assert float(stages[0].cost_usd) == pytest.approx(float(data["usage"]["cost_usd"]) / 3)
    assert json.loads(out)["traceparent"].split("-")[1] == suite.pipeline()[0].trace


def test_the_budget_of_a_run_holds_for_all_it_calls(suite, fake_api):
    fake_api.script(*[{"text": "ok", "usage": {"input_tokens": 10, "output_tokens": 10_000}}] * 9)
    one = "def one(n):\n    try:\n        return (yield Call('b', str(n)))\n    except Exception as error:\n        return error.code\n"
    suite(a=f"{one}return ' '.join(sorted((yield All([one(n) for n in range(6)]))))", b=ECHO)
    settings = {**fake_api.env(), "AGENT_PROVIDER": "openai", "AGENT_MODEL": "gpt-4o-mini", "AGENT_MAX_TOKENS": "10000"}
    said = suite.run("a", "--budget", "0.02", "go", **settings)
    spent = float(suite.pipeline()[0].cost_usd)

    # A call costs 0.0060015 and reserves a little more: three of the six fit, then the row says no to the others.
    assert said == (0, "budget budget budget ok ok ok\n", "")
    assert len(fake_api.requests()) == 3
    assert 0.018 < spent <= 0.02


def test_an_input_that_begins_with_dashes_reaches_a_called_agent_as_text(suite):
    suite(a="return (yield Call('b', '--version --help'))", b="return 'got ' + task.text\nyield")

    assert suite.run("a", "go") == (0, "got --version --help\n", "")


def test_a_changed_program_is_not_called(suite, tmp_path):
    suite(a="return (yield Call('b', 'x'))", b="return 'hi'\nyield")
    with (tmp_path / "b").open("a") as file:
        file.write(f"\nopen({str(tmp_path / 'planted')!r}, 'w')\n")
    status, out, err = suite.run("a", "go")

    assert (status, out, (tmp_path / "planted").exists()) == (77, "", False)
    assert "agent-find adopt" in err


def test_a_resumed_run_does_not_call_again_what_has_answered(suite, tmp_path):
    suite(
        a="one = yield Call('b', 'one')\nimport pathlib\nif not pathlib.Path('go').exists(): yield Call('c', 'x')\nreturn one",
        b="open('calls', 'a').write('x')\nreturn 'answered'\nyield", c="raise ValueError('no')\nyield",
    )  # fmt: skip
    assert suite.run("a", "x")[0] != 0
    (tmp_path / "go").touch()

    assert suite.run("a", "--resume", "last", "--no-stdin")[:2] == (0, "answered\n")
    assert (tmp_path / "calls").read_text() == "x"


def test_an_interrupted_run_stops_the_agents_it_called(suite, tmp_path):
    slow = "import os, time\nopen('pids', 'a').write(f'{os.getpid()}\\n')\n"
    suite(
        a="return (yield Call('b', 'x'))", b=f"{slow}return (yield Call('c', 'x'))", c=f"{slow}time.sleep(60)\nreturn 'late'\nyield"
    )
    process = suite.start("a", "go")
    wait_for(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().count("\n") == 2)
    process.terminate()
    process.communicate(timeout=20)

    for pid in (tmp_path / "pids").read_text().split():
        wait_for(lambda pid=int(pid): not Path(f"/proc/{pid}").exists(), 10.0)


def test_grants_of_a_called_agent_are_cut_to_its_callers(suite, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "in.txt").write_text("inside")
    (tmp_path / "out.txt").write_text("outside")
    look = "from agent_core.effects import Act\nfrom agent_core.messages import ToolCall\n"
    look += "found = yield Act((ToolCall('1', 'peek', {'path': task.text}),))\nreturn found[0].parts[0].text"
    suite(a="return (yield Call('b', task.text))", b=look)
    with (tmp_path / "agents.toml").open("w") as file:
        file.write('[agent.b]\nallow = ["file-read"]\n')
    wide = {"AGENT_TRUSTED": str(tmp_path)}

    assert suite.run("b", "out.txt", **wide)[:2] == (0, "outside\n")
    assert suite.run("a", "--allow", "file-read:docs", "docs/in.txt", **wide)[:2] == (0, "inside\n")
    assert suite.run("a", "--allow", "file-read:docs", "out.txt", **wide)[0] == 77
    assert suite.run("a", "docs/in.txt", **wide)[0] == 77


def wait_for(true, seconds=20.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)
