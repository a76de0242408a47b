"""Resources as a user meets them: real processes, a real server, one store."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent_core import Agent, config, tool
from agent_core.events import Event
from agent_core.store import open_store
from agent_plugins.resources import inflight, readings, tiers
from agent_plugins.resources.shared import InStore

ROOT = Path(__file__).resolve().parents[2]
STORE = Path(".local/share/agents/agents.db")


@pytest.fixture
def agent(run_agent, fake_api):
    """Give a function that runs the assistant against the fake API."""

    def run(*args, env=None, **more):
        return run_agent(
            "assistant", "--provider", "openai", "--model", "gpt-4o-mini", *args, env={**fake_api.env(), **(env or {})}, **more
        )

    return run


@pytest.fixture
def store(clean_environment):
    opened = open_store(clean_environment / STORE)
    yield opened
    opened.close()


def kinds(store):
    return [event.kind for event in store.events(store.runs(1)[0].id)]


def test_two_503_then_success_are_one_answer_and_two_retry_events(agent, fake_api, store):
    fake_api.script({"text": "Fine."})
    fake_api.fault("503*2")
    done = agent("hi", "--retry", "3", "--jsonl")
    records = [json.loads(line) for line in done.stdout.splitlines()]

    assert done.returncode == 0
    assert records[-1]["data"]["output"] == "Fine."
    assert kinds(store).count("model.failed") == 2
    assert kinds(store).count("model.replied") == 1
    assert len(fake_api.requests()) == 3


def test_thirty_processes_under_a_limit_of_five_never_ask_more_than_five_at_once(agent, fake_api, store):
    fake_api.script({"text": "Fine.", "delay_ms": 120})
    with ThreadPoolExecutor(30) as pool:
        done = list(pool.map(lambda number: agent(f"hi {number}", "-q", "--concurrency", "5"), range(30)))

    assert {(each.returncode, each.stdout) for each in done} == {(0, "Fine.\n")}
    load = fake_api.call("GET", "/_load")
    assert load["now"] == 0
    assert 2 <= load["most"] <= 5  # how many of thirty starting processes meet depends on the machine; more than five never do
    reading = next(row for row in readings(store) if row.limit == "concurrency")
    assert (reading.of, reading.used, reading.capacity, reading.waiting) == ("openai/gpt-4o-mini", 0, 5, 0)


def test_a_killed_process_gives_its_place_back(agent, fake_api, tmp_path):
    fake_api.script({"text": "Slow.", "delay_ms": 30_000})
    argv = [
        sys.executable,
        "-m",
        "agents.assistant",
        "--provider",
        "openai",
        "--model",
        "gpt-4o-mini",
        "--concurrency",
        "1",
        "slow",
    ]
    env = {**fake_api.env(), "PYTHONPATH": str(ROOT), "HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    slow = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not fake_api.requests():
        time.sleep(0.02)
    fake_api.script({"text": "Fine."})
    refused = agent("quick", "--concurrency", "1", "--no-wait")
    slow.send_signal(signal.SIGKILL)
    slow.communicate()

    assert (refused.returncode, refused.stdout) == (75, "")
    assert "concurrency of openai/gpt-4o-mini: 1 calls are in flight" in refused.stderr
    assert agent("quick", "--concurrency", "1", "--no-wait").returncode == 0


def test_a_breaker_is_one_for_all_processes_and_sends_nothing_while_it_is_open(agent, fake_api, store):
    fake_api.script({"text": "Fine."})
    fake_api.fault("503")
    for _ in range(2):
        assert agent("hi", "--retry", "0", "--breaker", "2/30").returncode == 69
    sent = len(fake_api.requests())
    done = agent("hi", "--retry", "0", "--breaker", "2/30", "--json")
    error = json.loads(done.stdout)["data"]["error"]

    assert done.returncode == 69
    assert (error["code"], error["retryable"]) == ("breaker_open", True)
    assert 0 < error["retry_after_s"] <= 30
    assert len(fake_api.requests()) == sent == 2
    assert next(row.state for row in readings(store) if row.limit == "breaker") == "open"
    # The next one along has a breaker of its own.
    fake_api.fault("")
    assert agent("hi", "--model", "gpt-4o", "--breaker", "2/30").stdout == "Fine.\n"


def test_an_open_breaker_lets_the_next_provider_answer(agent, fake_api):
    fake_api.script({"text": "Fine."})
    fake_api.fault("503*1")
    agent("hi", "--retry", "0", "--breaker", "1/60")
    done = agent("hi", "--provider", "openai,groq", "--retry", "0", "--breaker", "1/60")

    assert (done.returncode, done.stdout) == (0, "Fine.\n")
    assert "asking groq instead" in done.stderr


def test_a_rate_holds_among_processes_and_no_wait_says_75(agent, fake_api):
    fake_api.script({"text": "Fine."})
    done = [agent("hi", "--rate", "2/h", "--no-wait") for _ in range(3)]

    assert [each.returncode for each in done] == [0, 0, 75]
    assert done[2].stdout == ""
    assert len(done[2].stderr.splitlines()) == 1
    assert "rate of openai/gpt-4o-mini: 2 calls in 3600 s are used" in done[2].stderr


def test_waiting_ends_at_the_deadline(agent, fake_api):
    fake_api.script({"text": "Fine."})
    agent("hi", "--rate", "1/h")
    began = time.monotonic()
    done = agent("hi", "--rate", "1/h", "--timeout", "1")

    assert done.returncode == 124
    assert time.monotonic() - began < 5


def test_equal_requests_of_processes_are_sent_once(agent, fake_api):
    fake_api.script({"text": "Fine.", "delay_ms": 400})
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: agent("hi", "-q", "--dedup", "60"), range(4)))

    assert {(each.returncode, each.stdout) for each in done} == {(0, "Fine.\n")}
    assert len(fake_api.requests()) == 1
    assert agent("other", "-q", "--dedup", "60").returncode == 0
    assert len(fake_api.requests()) == 2


def test_the_budget_of_a_day_stops_the_run_that_would_exceed_it_before_it_asks(agent, fake_api):
    fake_api.script({"text": "Fine.", "usage": {"input_tokens": 2_000_000, "output_tokens": 1000}})
    first, second = (agent("hi", "--daily-budget", "0.30") for _ in range(2))

    assert first.returncode == 0
    assert (second.returncode, second.stdout) == (4, "")
    assert "of the day's budget (raise --daily-budget, or wait until 00:00 UTC)" in second.stderr
    assert len(fake_api.requests()) == 1
    assert "80% of the day's budget of 0.3 USD are used" in first.stderr


def test_money_in_a_time_holds_among_processes(agent, fake_api):
    fake_api.script({"text": "Fine.", "usage": {"input_tokens": 2_000_000, "output_tokens": 1000}})
    first, second = (agent("hi", "--cost-rate", "0.2/h", "--no-wait") for _ in range(2))

    assert (first.returncode, second.returncode) == (0, 75)
    assert "cost-rate of openai/gpt-4o-mini: 0.2 USD in 3600 s are used" in second.stderr


def test_a_tool_that_fails_for_now_rests_and_the_model_is_told(tmp_path):
    count = [0]

    @tool
    def flaky(number: int) -> str:
        """Fail for now."""
        count[0] += 1
        raise TimeoutError(f"no answer to {number}")

    script = tmp_path / "s.jsonl"
    calls = [{"tool_calls": [{"name": "flaky", "arguments": {"number": number}}]} for number in range(3)]
    script.write_text("".join(f"{json.dumps(line)}\n" for line in [*calls, {"text": "Done.", "expect": "its breaker is open"}]))
    agent = Agent("tester - test", tools=[flaky], name="tester")
    done = agent.run("hi", provider="scripted", script=str(script), breaker="2/60", retry=0, data_dir=str(tmp_path / "data"))

    assert (done.output, count) == ("Done.", [2])


def test_a_tool_may_bring_its_breaker_which_needs_no_flag_and_gives_way_to_one(tmp_path):
    count = [0]

    @tool(breaker="2/60")
    def flaky(number: int) -> str:
        """Fail for now."""
        count[0] += 1
        raise TimeoutError(f"no answer to {number}")

    def run(name, expect, **flags):
        script = tmp_path / "s.jsonl"
        calls = [{"tool_calls": [{"name": "flaky", "arguments": {"number": number}}]} for number in range(3)]
        script.write_text("".join(f"{json.dumps(line)}\n" for line in [*calls, {"text": "Done.", "expect": expect}]))
        agent = Agent("tester - test", tools=[flaky], name="tester")
        return agent.run("hi", provider="scripted", script=str(script), retry=0, data_dir=str(tmp_path / name), **flags).output

    assert (run("a", "its breaker is open"), count) == ("Done.", [2])
    assert (run("b", "no answer to 2", breaker="9/60"), count) == ("Done.", [5])


def test_a_breaker_of_a_tool_that_makes_no_sense_is_a_configuration_error(tmp_path):
    @tool(breaker="often")
    def say() -> str:
        """Say something."""
        return "x"

    agent = Agent("tester - test", tools=[say], name="tester")

    assert agent.run("hi", provider="offline", data_dir=str(tmp_path)).status == 78


def test_the_plugin_named_without_a_tier_means_the_middle_one():
    def chosen(**flags):
        return tiers.chosen(config.load({"data_dir": "x", **flags}, {"AGENT_PLUGINS": "agent_plugins.resources"}, "/"))

    assert (chosen(), chosen(tier="low"), tiers.chosen(config.load({}, {}, "/"))) == ("mid", "low", "")


def test_flags_that_make_no_sense_are_usage_errors(agent):
    for args, words in (
        (["--breaker", "x"], "--breaker: 'x' is not N/SECONDS"),
        (["--tier", "hgh"], "no tier 'hgh' (did you mean high?)"),
        (["--back-pressure", "1/2"], "--back-pressure: '1/2' is not HARD/SOFT"),
        (["--priority", "urgent"], "--priority: no 'urgent'"),
    ):
        done = agent("hi", *args)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr


# -- back-pressure ----------------------------------------------------------------------------------------------------------------


def readers(store, hard, soft):
    said = []
    return said, lambda: inflight.InFlight(InStore(store), hard, soft, said.append, time.monotonic)


def test_beyond_the_soft_limit_a_run_is_warned_of_and_beyond_the_hard_one_refused(store):
    said, reader = readers(store, 100, 75)
    for number in range(100):
        reader()(Event("run.started", f"run{number}"))
    assert len(said) == 25
    assert said[0] == "76 runs are in flight (from 100 on they are refused)"
    with pytest.raises(inflight.RateLimited) as caught:
        reader()(Event("run.started", "one too many"))
    assert (caught.value.status, caught.value.code) == (75, "shed")
    with pytest.raises(inflight.RateLimited):
        reader().check()
    reader()(Event("run.finished", "run7"))
    reader().check()
    reader()(Event("run.started", "the next"))


def test_a_refused_run_is_75_before_anything_is_sent_and_leaves_no_trace_of_itself(agent, fake_api, store):
    fake_api.script({"text": "Fine."})
    assert agent("hi", "--back-pressure", "1").returncode == 0
    reader = readers(store, 1, 1)[1]()
    reader(Event("run.started", "ours"))
    refused = agent("hi", "--back-pressure", "1")
    reader(Event("run.finished", "ours"))

    assert (refused.returncode, refused.stdout) == (75, "")
    assert "1 runs are in flight already" in refused.stderr
    assert len(fake_api.requests()) == 1
    assert agent("hi", "--back-pressure", "1").returncode == 0


# -- who uses nothing pays nothing ------------------------------------------------------------------------------------------------


def test_a_run_with_everything_on_has_one_order_of_events(run_agent, tmp_path, store):
    run_agent("agent-mem", "add", "the answer is 42")
    calls = [{"tool_calls": [{"name": "calc", "arguments": {"expression": "6*7"}}]}, {"text": "42", "expect": "42"}]
    (tmp_path / "s.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in calls))
    flags = ("--memory", "--back-pressure", "100/75", "--breaker", "5/30", "--rate", "20/min", "--session", "s")
    done = run_agent("assistant", *flags, "--provider", "scripted", "--script", "s.jsonl", "what is the answer?")
    assert (done.returncode, done.stdout) == (0, "42\n")

    (run,) = store.runs(None, "assistant")
    events = store.events(run.id)
    assert [event.kind for event in events] == ["run.started", "model.replied", "tool.started", "tool.finished", "model.replied", "run.finished"]  # fmt: skip
    assert events[0].data["provenance"][0]["ref"].startswith("memory:")


def test_an_agent_without_these_flags_imports_nothing_of_them(clean_environment):
    (clean_environment / "s.jsonl").write_text('{"text": "Hi."}\n')
    program = """
import sys
from agents.assistant import agent
try:
    agent.main(["hi", "--provider", "scripted", "--script", sys.argv[1], "--retry", "3", "--priority", "high"])
except SystemExit as end:
    assert not end.code, end.code
print(sorted(name for name in sys.modules if name.startswith(("agent_plugins.resources", "agent_plugins.context", "pluggy", "redis", "pathspec"))))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(clean_environment / "s.jsonl")], capture_output=True, text=True, check=True, cwd=ROOT
    )
    with_flag = subprocess.run(
        [sys.executable, "-c", program.replace('"--retry", "3"', '"--rate", "9/s"'), str(clean_environment / "s.jsonl")],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip

    assert done.stdout.splitlines() == ["Hi.", "[]"] or re.fullmatch(r"\[\]", done.stdout.splitlines()[-1]), done.stdout
    assert "agent_plugins.resources" in with_flag.stdout
    assert "redis" not in with_flag.stdout
    assert "pathspec" not in with_flag.stdout
