"""Whole runs as processes against the fake API: statuses, the journal, resume and replay, secrets, hostile replies."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from agent_core import Agent, config, running
from agent_core.agent import Job
from agent_core.messages import user

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-secret-0123456789abcdef"
DEFINITION = '''"""tester - be tested."""

import sys
import time
from pathlib import Path

sys.path.insert(0, {root!r})

from agent_core import Agent, tool


@tool
def note(text: str) -> str:
    """Append a line to a file: an effect that can be counted."""
    with Path({log!r}).open("a") as file:
        file.write(text + chr(10))
    return "noted " + text


@tool
def double(number: int) -> int:
    """Double a number."""
    return number * 2


@tool
def hold(seconds: float) -> str:
    """Hold."""
    time.sleep(seconds)
    return "held"


agent = Agent(__doc__, "Be tested.", tools=[note, double, hold])
if __name__ == "__main__":
    agent.main()
'''


@pytest.fixture
def tester(tmp_path, fake_api):
    """Return a function that runs the tester agent; `.start` only starts it."""
    program, log = tmp_path / "tester.py", tmp_path / "notes.log"
    program.write_text(DEFINITION.format(root=str(ROOT), log=str(log)))
    environment = {**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, **fake_api.env(KEY)}  # noqa: TID251 - handed on

    def start(*args, **env):
        return subprocess.Popen(
            [sys.executable, str(program), *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**environment, **env}, cwd=tmp_path, text=True,
        )  # fmt: skip

    def run(*args, **env):
        process = start(*args, **env)
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    run.start, run.log = start, log
    return run


def calls(*pairs):
    return {"tool_calls": [{"name": name, "arguments": arguments} for name, arguments in pairs]}


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "cohere", "bedrock", "ollama", "openai-responses", "azure"])
def test_every_provider_gives_the_same_run(tester, fake_api, provider):
    fake_api.script(calls(("double", {"number": 4}), ("double", {"number": 5})), "8 and 10")

    done = tester("--provider", provider, "--model", "m", "--json", "double 4 and 5")

    data = json.loads(done.stdout)["data"]
    assert (done.returncode, data["output"], data["steps"], data["provider"]) == (0, "8 and 10", 2, provider)
    assert data["usage"]["calls"] == 2
    assert data["usage"]["cost_usd"] is None or provider == "ollama"


@pytest.mark.parametrize(
    ("fault", "status"),
    [("401", 77), ("403", 77), ("429:1", 75), ("quota", 75), ("402", 75), ("500", 69), ("529", 69), ("reset", 69), ("cut-json", 76),
     ("html", 76), ("empty", 76), ("nan", 76), ("deep", 76), ("huge-number", 76), ("bad-utf8", 76), ("gzip-bomb", 76), ("context", 65),
     ("redirect", 76), ("echo-key", 77)],
)  # fmt: skip
def test_a_fault_of_the_service_is_its_status_one_line_and_no_key(tester, fake_api, fault, status):
    fake_api.fault(fault)

    done = tester("--provider", "openai", "--retry", "0", "hi")

    assert (done.returncode, done.stdout) == (status, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("tester: ")
    assert KEY not in done.stderr


@pytest.mark.parametrize("fault", ["hang", "drip:100"])
def test_the_timeout_is_total(tester, fake_api, fault):
    fake_api.fault(fault)
    began = time.monotonic()

    done = tester("--provider", "openai", "--timeout", "1", "hi")

    assert (done.returncode, done.stdout) == (124, "")
    assert time.monotonic() - began < 6


def test_a_failure_that_heals_is_retried(tester, fake_api):
    fake_api.script({"fault": "500", "times": 2}, "well again")

    assert tester("--provider", "openai", "hi").stdout == "well again\n"


def test_a_route_falls_over_to_the_next_provider(tester, fake_api):
    fake_api.script("from the second")

    done = tester("--provider", "openai,anthropic", "--retry", "0", "hi", OPENAI_BASE_URL="http://127.0.0.1:9/v1")

    assert (done.returncode, done.stdout) == (0, "from the second\n")
    assert "anthropic" in done.stderr


def test_a_killed_run_goes_on_where_it_was_and_nothing_runs_twice(tester, fake_api):
    fake_api.script(calls(("note", {"text": "one"})), {"text": "late", "delay_ms": 60_000})
    process = tester.start("--provider", "openai", "long job")
    wait_for(lambda: tester.log.exists() and len(fake_api.requests()) == 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    fake_api.reset()
    fake_api.script("went on")

    done = tester("--resume", "last")

    assert (done.returncode, done.stdout) == (0, "went on\n")
    assert tester.log.read_text() == "one\n"
    assert len(fake_api.requests()) == 1


def test_a_call_that_a_kill_interrupted_is_unknown_and_never_repeated(tester, fake_api):
    fake_api.script(calls(("hold", {"seconds": 60})), "I will check")
    process = tester.start("--provider", "openai", "go")
    wait_for(lambda: len(fake_api.requests()) == 1)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.communicate()

    done = tester("--resume", "last")

    assert (done.returncode, done.stdout) == (0, "I will check\n")
    assert "unknown outcome" in json.dumps(fake_api.requests()[-1]["body"])


def test_a_replay_gives_the_same_bytes_without_a_network(tester, fake_api):
    fake_api.script(calls(("double", {"number": 21})), "42")
    first = tester("--provider", "openai", "--json", "double 21")
    sent = len(fake_api.requests())
    run = json.loads(first.stdout)["data"]["run_id"]

    again = tester("--replay", run, "--json", OPENAI_BASE_URL="http://127.0.0.1:9/v1")

    assert again.stdout == first.stdout
    assert len(fake_api.requests()) == sent


def test_sigterm_ends_with_143_and_one_terminal_record(tester, fake_api):
    fake_api.script({"text": "late", "delay_ms": 60_000})
    process = tester.start("--provider", "openai", "--jsonl", "hi")
    wait_for(lambda: len(fake_api.requests()) == 1)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=10)

    assert process.returncode in (143, -signal.SIGTERM)
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["type"] for record in records].count("agentpipe.result") == 1
    assert records[-1]["data"]["exit"] == 143


def test_a_store_that_cannot_be_written_never_costs_the_answer(tester, fake_api, tmp_path):
    fake_api.script("answered")
    (tmp_path / "file").write_text("no folder")

    done = tester("--provider", "openai", "--data-dir", str(tmp_path / "file"), "hi")

    assert (done.returncode, done.stdout) == (0, "answered\n")
    assert len(done.stderr.splitlines()) == 1


def test_the_key_is_in_no_output_log_event_or_error(tester, fake_api, tmp_path):
    fake_api.script(calls(("note", {"text": KEY})), f"the key is {KEY}")

    done = tester("--provider", "openai", "--jsonl", "-v", "hi")

    assert KEY not in done.stdout + done.stderr
    stored = b"".join(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert KEY.encode() not in stored


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (calls(("nope", {})), "no tool named"),
        (calls(("double", {"number": "x"})), "number"),
        ({"tool_calls": [{"name": "double", "arguments": "{broken"}]}, "JSON"),
    ],
)
def test_what_a_model_gets_wrong_is_told_to_it(tester, fake_api, line, said):
    fake_api.script(line, "sorry")

    done = tester("--provider", "openai", "hi")

    assert (done.returncode, done.stdout) == (0, "sorry\n")
    assert said in json.dumps(fake_api.requests()[-1]["body"])


def test_a_model_that_never_stops_ends_at_the_limit_with_4(tester, fake_api):
    fake_api.script(*[calls(("double", {"number": n})) for n in range(30)])

    done = tester("--provider", "openai", "--max-steps", "3", "--json", "hi")

    assert done.returncode == 4
    assert json.loads(done.stdout)["data"]["stop"] == "max_steps"


def test_the_cache_answers_the_second_time_without_a_request(tester, fake_api):
    fake_api.script("cached")
    flags = ("--provider", "openai", "--cache", "on", "hi")
    tester(*flags)
    sent = len(fake_api.requests())

    again = tester(*flags)

    assert (again.stdout, len(fake_api.requests())) == ("cached\n", sent)


def test_cache_only_refuses_what_it_does_not_have(tester, fake_api):
    done = tester("--provider", "openai", "--cache", "only", "never asked")

    assert (done.returncode, fake_api.requests()) == (1, [])


def test_a_budget_too_small_stops_before_anything_is_spent(tester, fake_api):
    done = tester("--provider", "openai", "--model", "gpt-4o-mini", "--budget", "0.000001", "hi")

    assert (done.returncode, done.stdout, fake_api.requests()) == (4, "", [])


def test_a_session_remembers_what_was_said(tester, fake_api):
    fake_api.script("I am fine")
    tester("--provider", "openai", "--session", "s", "how are you?")
    fake_api.reset()
    fake_api.script("unused", "as I said")

    tester("--provider", "openai", "--session", "s", "again?")

    said = [message["content"] for message in json.loads(body_text(fake_api.requests()[-1]))["messages"]]
    assert said[1:] == ["how are you?", "I am fine", "again?"]


def body_text(request):
    body = request["body"]
    return body if isinstance(body, str) else json.dumps(body)


def wait_for(true, seconds=20.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def test_many_runs_at_once_collect_garbage_more_rarely_and_leave_the_threshold_as_it_was(tmp_path):
    before, during = gc.get_threshold(), []
    agent, settings = Agent("tester - nothing."), config.load({"data_dir": str(tmp_path)})
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(running.session(agent, Job(user("x")), settings, providers=(), store=None))
            during.append(gc.get_threshold())

    assert during[0] == before
    assert during[-1] == (50_000, *before[1:])
    assert gc.get_threshold() == before
