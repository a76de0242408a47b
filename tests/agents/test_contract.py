"""The wire contract (wire.md), kept by every agent that is registered in pyproject.toml, whatever it does.

Each call is a process of its own, forked from one that has imported the agents: real descriptors, signals and statuses at a
tenth of what starting Python costs. What needs a model gets the offline stand-in, scripted replies or the fake API.
"""

import inspect
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from agent_core.options import SCHEMA_VIEWS

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"])
DOOR = """
import gc, importlib, json, os, signal, sys
requests, replies = os.dup(0), os.dup(1)
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
gc.freeze()
def be(call):
    os.closerange(3, 64)
    os.setsid()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(call["env"])
    os.chdir(call["cwd"])
    for fd, path in enumerate(call["streams"]):
        if path is None:
            os.close(fd)
        elif path == "|":
            reader, writer = os.pipe()
            os.close(reader)
            os.dup2(writer, fd)
            os.close(writer)
        else:
            opened = os.open(path, (os.O_RDONLY if fd == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC) | os.O_NOCTTY, 0o600)
            os.dup2(opened, fd)
            os.close(opened)
    sys.argv = [call["name"], *(os.fsdecode(bytes.fromhex(word)) for word in call["words"])]
    sys.modules[call["module"]].main()
    os._exit(70)

for line in os.fdopen(requests, "rb"):
    children = []
    for call in json.loads(line):
        children.append(os.fork())
        if not children[-1]:
            be(call)
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    os.write(replies, json.dumps(ended).encode() + b"\\n")
"""
OFTEN = [  # what nearly every call imports anyway
    *(f"agent_core.{name}" for name in (
        "asking", "card", "chain", "choose", "cli", "commands", "drive", "interpreter", "lineage", "plugins", "readings", "records",
        "running", "signature", "stdin", "store", "taint", "unit",
    )),
    "agent_plugins.tools", "agent_providers.offline", "agent_providers.scripted", "agent_providers.vendors", "difflib",
]  # fmt: skip
BALLOT = '{"answer": "a", "by": "ann", "output": "Paris"}\n'
DIFF = "--- a/a.py\n+++ b/a.py\n@@ -1 +1,2 @@\n x = 1\n+y = eval(z)\n"
FILES = {
    "methods.toml": '[[method]]\ntask = "T"\nsubtasks = ["S"]\n[[primitive]]\ntask = "S"\nprompt = "say"\n',
    "pool.toml": '[[child]]\nname = "job"\ncommand = ["true"]\n',
    "bad.toml": "=[\n",
    "a.py": "x = 1\n",
    "replies.jsonl": '"one \\u001b[31mred\\u001b]0;title\\u0007 \\u009b31m two"\n' * 9,
}
# What each agent does without a model, and how it fails: (words, stdin, status).
DOES = {
    "agent-bus": (["stats"], ""),
    "agent-find": (["personas"], ""),
    "agent-graph": (["list"], ""),
    "agent-keys": (["path"], ""),
    "agent-log": (["metrics"], ""),
    "agent-mem": (["add", "the sky is blue"], ""),
    "agent-novel": ([], BALLOT),
    "agent-plan": (["expand", "T", "--methods", "methods.toml"], ""),
    "agent-supervise": (["check", "pool.toml"], ""),
    "agent-team": (["team", "hi"], ""),
    "agent-vote": ([], BALLOT),
    "architect": (["--update-patterns"], ""),
    "assistant": (["--tool", "calc", "6 * 7"], ""),
    "critic": (["at most 20 words"], "hi\n"),
    "security-scanner": (["a.py"], ""),
    "summarizer": ([], "It rains. It pours.\n"),
    "text-processor": (["--tool", "uppercase", "x"], ""),
    "writer": (["hi", "--provider", "scripted", "--script", "replies.jsonl"], ""),
}
FAILS = {
    "agent-bus": (["send", "hi"], "", 2),
    "agent-find": (["show", "nobody"], "", 2),
    "agent-graph": (["check", "bad.toml"], "", 65),
    "agent-keys": (["get", "nothing"], "", 2),
    "agent-log": (["show", "nothing"], "", 2),
    "agent-mem": (["show", "nothing"], "", 2),
    "agent-new": (["Bad Name"], "", 2),
    "agent-novel": ([], "no json\n", 65),
    "agent-plan": (["expand", "T", "--methods", "nothing.toml"], "", 66),
    "agent-supervise": (["check", "bad.toml"], "", 65),
    "agent-team": (["swarm"], "", 66),
    "agent-vote": ([], "", 66),
    "architect": (["judge it"], "", 78),
    "assistant": (["-f", "nothing", "hi"], "", 66),
    "code-reviewer": ([], "", 66),
    "coordinator": (["do it"], "", 1),
    "critic": (["it is right"], "hi\n", 78),
    "researcher": (["what is it"], "", 77),
    "security-scanner": (["nothing"], "", 66),
    "summarizer": (["-f", "nothing"], "", 66),
    "text-processor": (["--tool", "uppercas", "x"], "", 2),
    "writer": (["hi"], "", 78),
}
ASKING = {  # who asks a model at once, and with what
    "agent-graph": ["run", "research", "hi"],
    "agent-team": ["team", "hi"],
    "assistant": ["hi"],
    "code-reviewer": ["-f", "a.py"],
    "critic": ["it is right", "-f", "a.py"],
    "summarizer": ["-f", "a.py"],
    "text-processor": ["hi"],
    "writer": ["hi"],
}
SAYING = sorted(set(ASKING) - {"critic", "code-reviewer"})  # whose answer is the model's text


def test_every_registered_agent_is_in_the_tables_above():
    assert set(FAILS) == set(NAMES)
    assert set(DOES) | {"agent-new", "code-reviewer", "coordinator", "researcher"} == set(NAMES)


@dataclass(frozen=True)
class Done:
    """What a call came to."""

    status: int
    out: bytes
    err: str

    @property
    def records(self):
        return [json.loads(line) for line in self.out.decode().splitlines()]


@pytest.fixture(scope="module")
def door():
    modules = json.dumps([*(f"agents.{name.replace('-', '_')}" for name in NAMES), *OFTEN])
    program = [sys.executable, "-c", DOOR, modules]
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    yield process
    process.stdin.close()
    process.wait(10)
    process.stdout.close()


@pytest.fixture
def calls(door, tmp_path, clean_environment):
    """Give a function that calls an agent several times at once, each time with other words.

    `streams` says what 0, 1, 2 are: a path, None (closed), "|" (a pipe without reader); `more` is environment.
    """
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    env = {"HOME": str(clean_environment), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "AGENT_ASK": "never"}

    def made(name, lines, stdin="", streams=None, **more):
        given = tmp_path / "stdin"
        given.write_bytes(stdin if isinstance(stdin, bytes) else stdin.encode())
        asked, files = [], []
        for number, words in enumerate(lines):
            out, err = tmp_path / f"stdout{number}", tmp_path / f"stderr{number}"
            out.write_bytes(b"")
            err.write_bytes(b"")
            files.append((out, err))
            opened = {0: str(given) if stdin else os.devnull, 1: str(out), 2: str(err)} | (streams or {})
            asked.append({
                "name": name, "module": f"agents.{name.replace('-', '_')}", "words": [os.fsencode(word).hex() for word in words],
                "env": env | more, "cwd": str(tmp_path), "streams": [opened[fd] for fd in range(3)],
            })  # fmt: skip
        door.stdin.write(json.dumps(asked).encode() + b"\n")
        door.stdin.flush()
        ended = json.loads(door.stdout.readline())
        return [
            Done(128 - status if status < 0 else status, out.read_bytes(), err.read_text("utf-8", "replace"))
            for status, (out, err) in zip(ended, files, strict=True)
        ]

    return made


@pytest.fixture
def call(calls):
    """Give a function that calls an agent once."""

    def made(name, words, stdin="", streams=None, **more):
        return calls(name, [words], stdin, streams, **more)[0]

    return made


def last_line(done, name):
    """Return what the last line on stderr says; notices may stand before it, and nothing else."""
    lines = done.err.splitlines()
    assert lines
    assert all(line.startswith(f"{name}: ") for line in lines), done.err
    assert "Traceback" not in done.err
    assert "internal error" not in done.err
    return lines[-1].removeprefix(f"{name}: ")


ABOUT = [["--help"], ["--version"], ["--agent-schema"], ["__schema"], *([f"--agent-schema={view}"] for view in SCHEMA_VIEWS)]


@pytest.mark.parametrize("name", NAMES)
def test_an_agent_describes_itself(calls, name):
    answers = dict(zip(map(" ".join, ABOUT), calls(name, ABOUT), strict=True))

    assert [words for words, done in answers.items() if done.status or done.err or not done.out.endswith(b"\n")] == []
    for words in ("--agent-schema", "__schema", *(f"--agent-schema={view}" for view in ("mcp", "a2a", "openai", "cli", "wire"))):
        assert json.loads(answers[words].out), words
    assert json.loads(answers["--agent-schema"].out)["name"] == name


@pytest.mark.parametrize("name", NAMES)
def test_a_word_that_nobody_knows_is_a_usage_error_that_names_the_nearest(calls, name):
    flag, view, value = calls(name, [["--provder", "offline", "x"], ["--agent-schema=mpc"], ["--timeout", "soon", "x"]])

    assert [(done.status, done.out) for done in (flag, view, value)] == [(2, b"")] * 3
    assert "--provider" in last_line(flag, name)
    assert "mcp" in last_line(view, name)
    assert "--timeout" in last_line(value, name)


def test_rich_help_and_completion_can_be_made_of_every_agents_flags():
    import typer

    from agent_core import typer_app

    for name in NAMES:
        agent = import_module(f"agents.{name.replace('-', '_')}").agent
        made = typer.main.get_command(typer_app.app(name, agent.doc, agent.table(), lambda _values: None))
        shown = {flag for parameter in made.params for flag in parameter.opts}
        assert {f"--{option.name}" for option in agent.table()} <= shown, name


COMMANDS = [name for name in NAMES if import_module(f"agents.{name.replace('-', '_')}").agent.commands]


@pytest.mark.parametrize(
    "name", [name for name in COMMANDS if name not in {"agent-find", "agent-new", "security-scanner"}]
)  # their words may be anything
def test_a_command_that_nobody_knows_is_a_usage_error_that_names_the_nearest(call, name):
    known = json.loads(call(name, ["--agent-schema"]).out)["capabilities"][0]["name"]
    done = call(name, [f"{known}x"])

    assert (done.status, done.out) == (2, b"")
    assert known in last_line(done, name)


@pytest.mark.parametrize("name", NAMES)
def test_a_provider_that_nobody_knows_is_a_usage_error_that_names_the_nearest_also_where_no_model_is_asked(calls, name):
    words = DOES.get(name, FAILS[name])[0]
    plain, second, tool = calls(
        name, [[*words, "--provider", each] for each in ("ofline", "openai,ofline")] + [["--list-tools", "--provider=ofline"]]
    )

    for done in (plain, second, tool):
        assert (done.status, done.out) == (2, b"")
        assert last_line(done, name).startswith("no provider 'ofline' (did you mean offline")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("agent-team", ["debate", "x", "--side", "A="]), ("agent-graph", ["run"]), ("assistant", ["hi", "--persona", "nobody"]),
        ("assistant", ["hi", "--pattern", "router"]), ("assistant", ["hi", "--tier", "nope"]),
    ],
)  # fmt: skip
def test_a_usage_error_comes_before_any_word_about_the_provider(call, name, words):
    done = call(name, words)

    assert (done.status, done.out, done.err.count("\n")) == (2, b"", 1)
    assert "no provider set" not in last_line(done, name)


@pytest.mark.parametrize("name", NAMES)
def test_a_failure_leaves_stdout_empty_and_one_record_with_json(calls, name):
    words, stdin, status = FAILS[name]
    text, one, stream, quiet = calls(name, [words, *([*words, flag] for flag in ("--json", "--jsonl", "--quiet"))], stdin)

    assert [done.status for done in (text, one, stream, quiet)] == [status] * 4
    assert (text.out, quiet.out, quiet.err) == (b"", b"", "")
    assert last_line(text, name)
    assert len(one.records) == 1
    kinds = [record["type"] for record in stream.records]
    assert kinds.index("agentpipe.result") == len(kinds) - 1
    for done in (one, stream):
        data = done.records[-1]["data"]
        assert (data["exit"], data["isError"]) == (status, True)
        assert {"code", "title", "detail", "retryable"} <= set(data["error"])


@pytest.mark.parametrize("name", sorted(DOES))
def test_a_result_is_all_there_is_on_stdout(calls, name):
    words, stdin = DOES[name]
    text, again, one, stream = calls(name, [words, *([*words, flag] for flag in ("--quiet", "--json", "--jsonl"))], stdin)

    assert [done.status for done in (text, again, one, stream)] == [0] * 4
    assert text.out.endswith(b"\n")
    assert again.err == ""
    assert len(one.records) == 1
    assert [record["type"] for record in stream.records].index("agentpipe.result") == len(stream.records) - 1
    for done in (one, stream):
        data = done.records[-1]["data"]
        assert (data["status"], data["exit"], data["isError"], data["error"]) == ("ok", 0, False, None)


@pytest.mark.parametrize("name", sorted(DOES))
def test_an_output_that_cannot_be_written_is_a_failure(call, calls, name):
    words, stdin = DOES[name]
    full, record = calls(name, [words, [*words, "--json"]], stdin, {1: "/dev/full"})
    closed = call(name, words, stdin, {1: None})
    unheard = call(name, words, stdin, {2: "/dev/full"})

    assert [done.status for done in (full, closed, record)] == [1] * 3
    assert all("cannot write to stdout" in last_line(done, name) for done in (full, closed, record))
    assert unheard.status == 0


@pytest.mark.parametrize("name", sorted(DOES))
def test_a_reader_that_is_gone_ends_it_silently_as_sigpipe_does(call, name):
    words, stdin = DOES[name]
    done = call(name, [*words, "--quiet"], stdin, {1: "|"})

    assert (done.status, done.err) == (141, "")


@pytest.mark.parametrize("name", NAMES)
def test_a_closed_stdin_is_an_empty_one_and_no_file_takes_its_place(call, name):
    words, _, _ = FAILS[name]
    closed, empty = call(name, words, streams={0: None}), call(name, words)

    assert (closed.status, closed.out) == (empty.status, empty.out)
    assert last_line(closed, name) == last_line(empty, name)


@pytest.mark.parametrize("name", NAMES)
def test_odd_words_and_odd_input_are_never_our_bug(call, name):
    odd = b"\0\xff\xfe\x80\n" + os.urandom(512)
    for words, stdin in ((["\udcff\udc80"], b""), (["--", "--help"], b""), ([], odd), ([], b"--help\n"), (["\udcff"], odd)):
        done = call(name, words, stdin, AGENT_PROVIDER="offline")

        assert done.status != 70, (words, done.err)
        assert done.status < 128, (words, done.err)
        assert b"usage: " not in done.out, words
        if done.status:
            assert last_line(done, name)
            assert done.status == 3 or not done.out, words


@pytest.mark.parametrize("name", SAYING)
def test_escapes_of_a_model_reach_a_pipe_and_never_a_terminal(call, name):
    words = [*ASKING[name], "--provider", "scripted", "--script", "replies.jsonl"]
    ours, theirs = pty.openpty()
    try:
        shown = call(name, words, streams={1: os.ttyname(theirs)}, TERM="xterm")
        seen = os.read(ours, 65536)
    finally:
        os.close(ours)
        os.close(theirs)
    piped = call(name, words)

    assert (shown.status, piped.status) == (0, 0)
    assert b"\x1b[31mred\x1b]0;title\x07 \xc2\x9b31m" in piped.out
    assert b"red" in seen
    assert not re.search(rb"\x1b\[31m|\x1b\]|\x07|\xc2\x9b", seen)


@pytest.mark.parametrize("name", ["agent-team", "assistant", "summarizer", "text-processor", "writer"])
def test_a_folder_that_cannot_be_written_costs_the_record_and_not_the_answer(call, name):
    done = call(name, [*ASKING[name], "--data-dir", "/dev/full", "--provider", "scripted", "--script", "replies.jsonl"])

    assert done.status == 0
    assert b"two" in done.out
    assert "not recorded" in done.err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_every_stream_of_records_with_one_that_says_so(start_fake_api, number, status, tmp_path, clean_environment):
    (tmp_path / "a.py").write_text("x = 1\n")
    api = start_fake_api("--delay-ms", "30000")
    env = {"HOME": str(clean_environment), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "AGENT_MODEL": "m", **api.env()}
    env["AGENT_PROVIDER"] = "openai"
    started = {
        name: subprocess.Popen(
            [sys.executable, "-m", f"agents.{name.replace('-', '_')}", *words, "--jsonl"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=env,
        )
        for name, words in ASKING.items()
    }  # fmt: skip
    until = time.monotonic() + 20
    while len(api.requests()) < len(started) and time.monotonic() < until:
        time.sleep(0.02)
    for process in started.values():
        process.send_signal(number)
    for name, process in started.items():
        out, err = process.communicate(timeout=10)
        records = [json.loads(line) for line in out.splitlines()]
        assert process.returncode in {status, -number}, (name, err)
        assert [record["type"] for record in records].index("agentpipe.result") == len(records) - 1, name
        data = records[-1]["data"]
        assert (data["exit"], data["isError"], data["stop"]) == (status, True, "cancelled"), name
        assert b"Traceback" not in err, name


def test_every_pattern_that_is_offered_needs_no_more_than_a_task():
    from agent_core.agent import find_pattern, pattern_names

    for name in pattern_names():
        inspect.signature(find_pattern(name)).bind(None)
