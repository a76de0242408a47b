"""Tests of agent-log: real processes over a real store, with real agents behind replay, resume and fork."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent_core import messages
from agent_core.events import Event
from agent_core.store import open_store
from agents import agent_log

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def store(data_dir):
    store = open_store(data_dir / "agents.db")
    yield store
    store.close()


@pytest.fixture
def log(data_dir, capfdbinary):
    """Give a function that runs agent-log in this process and returns (status, stdout, stderr)."""

    def run(*args):
        with pytest.raises(SystemExit) as end:
            agent_log.main([*args, f"--data-dir={data_dir}"])
        said = capfdbinary.readouterr()
        return end.value.code, said.out.decode(), said.err.decode()

    return run


def structured(said):
    """Return what the one record holds."""
    line, rest = said.split("\n")
    assert rest == ""
    record = json.loads(line)
    assert record["type"] == "agentpipe.result"
    return record["data"]["structuredContent"]


def record_run(store, run="run1", *, agent="tally", end=True, at=1000.0):
    start = {
        "agent": agent,
        "version": "1",
        "input": messages.to_json(messages.user("how many?")),
        "session": "talk",
        "settings": {},
    }
    call = messages.to_json(messages.assistant("let me count", (messages.ToolCall("c1", "count", {"text": "a b"}),)))
    final = messages.to_json(messages.assistant("Two."))
    usage = {"input_tokens": 10, "output_tokens": 2, "cached_input_tokens": 0}
    rest = {"usage": usage, "provider": "p", "model": "m", "stop": "final", "cost": None}
    store.append(
        Event("run.started", run, time=at, data=start),
        Event("model.replied", run, "0", at + 1, {"message": call, **rest}, "f0"),
        Event("tool.finished", run, "1.0", at + 2, {"id": "c1", "name": "count", "text": "2", "error": None, "wall_ms": 3.0}, "f1"),
        Event("model.replied", run, "2", at + 3, {"message": final, **rest}, "f2"),
    )
    if end:
        store.append(finished(run, at + 4))


def finished(run, at):
    return Event("run.finished", run, time=at, data={"status": 0, "stop": "final", "output": "Two.", "steps": 2})


# --- list and show


def test_list_shows_the_newest_first_for_people_and_for_scripts(store, log):
    record_run(store, "run1")
    record_run(store, "run2", agent="other", end=False, at=2000.0)

    status, said, problems = log("list")
    assert (status, problems) == (0, "")
    head, *rows = said.splitlines()
    assert head.split()[:3] == ["RUN", "STARTED", "STATE"]
    assert [row.split()[0] for row in rows] == ["run2", "run1"]
    listed = structured(log("list", "--json")[1])
    assert [(row["id"], row["state"], row["status"]) for row in listed] == [("run2", "unfinished", None), ("run1", "ok", 0)]
    assert listed[1]["duration_s"] == 4.0
    assert [row["id"] for row in structured(log("list", "--agent", "tally", "-j")[1])] == ["run1"]
    assert len(structured(log("list", "-n1", "-j")[1])) == 1


def test_without_a_store_the_list_is_empty_and_no_file_is_made(log, data_dir):
    assert log("list") == (0, "", "")
    assert structured(log("list", "--json")[1]) == []
    assert log("show", "last")[0] == 2
    assert not data_dir.exists()


def test_show_answers_the_questions_about_a_run(store, log):
    record_run(store)
    status, said, _ = log("show", "run1", "--json")
    seen = structured(said)

    assert status == 0
    assert seen["step_count"] == 2
    assert (seen["has_final_answer"], seen["final_answer"]) == (True, "Two.")
    assert (seen["duration"], seen["failed_tool_call_count"], seen["most_common_action"]) == (4.0, 0, "count")
    assert (seen["thoughts"], seen["observations"]) == (["let me count", "Two."], ["2"])
    assert seen["steps"][0]["actions"][0]["arguments"] == {"text": "a b"}
    assert seen["usage"]["cost_usd"] is None
    assert [event["path"] for event in seen["events"]] == ["0", "1.0", "2"]


def test_show_numbers_the_events_for_people(store, log):
    record_run(store)
    _, said, _ = log("show", "last")

    assert [line.split()[:2] for line in said.splitlines() if line[:3].strip().isdigit()] == [
        ["1", "model"],
        ["2", "tool"],
        ["3", "model"],
    ]
    assert "2 model calls, 20 tokens in, 4 out, price unknown" in said


# --- export and follow


def test_export_prints_every_event_as_one_line_of_strict_json(store, log):
    record_run(store)
    store.append(Event("notice", "run1", data={"text": "line\nbreak \u2028 \ud800", "x": float("nan")}))
    status, said, _ = log("export", "run1", "--format", "jsonl")
    lines = [json.loads(line, parse_constant=pytest.fail) for line in said.split("\n")[:-1]]

    assert status == 0
    assert [line["kind"] for line in lines] == [event.kind for event in store.events("run1")]
    assert lines[1]["fingerprint"] == "f0"
    assert len(structured(log("export", "run1", "--json")[1])) == 6


def test_follow_prints_what_happens_until_the_run_ends(store, data_dir):
    record_run(store, end=False)
    program = [sys.executable, "-m", "agents.agent_log", "follow", "run1", f"--data-dir={data_dir}"]
    process = subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = [process.stdout.readline() for _ in range(4)]
    assert process.poll() is None
    store.append(finished("run1", 1005.0))
    rest, problems = process.communicate(timeout=20)

    assert ["run.started" in line for line in first] == [True, False, False, False]
    assert rest.split()[2:] == ["run.finished", "ok:", "Two."]
    assert (process.returncode, problems) == (0, "")


def test_follow_gives_up_at_its_timeout_and_says_so_in_a_record(store, log):
    record_run(store, end=False)
    status, said, problems = log("follow", "run1", "--timeout", "0.2", "--jsonl")
    *_, last = [json.loads(line) for line in said.splitlines()]

    assert status == 124
    assert last["data"]["stop"] == "timeout"
    assert "has not ended" in problems


def test_an_interrupt_ends_follow_the_way_the_signal_would(store, data_dir):
    record_run(store, end=False)
    program = [sys.executable, "-m", "agents.agent_log", "follow", "run1", f"--data-dir={data_dir}"]
    process = subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, problems = process.communicate(timeout=20)

    assert process.returncode == -signal.SIGINT
    assert problems == "agent-log: interrupted\n"


# --- errors and the contract of every command


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["show", "nope"], 'no run "nope"'), (["show"], "needs RUN"), (["list", "x"], "takes no word"), (["lits"], "list"),
        (["fork", "run1"], "--at"), (["fork", "run1", "--at", "9"], "has 3 events"), (["fork", "run1", "--at", "x"], "--at"),
        (["fork", "run1", "--at", "1", "--set", "nput=x"], "input"), (["fork", "run1", "--at", "1", "--set", "x"], "FIELD=TEXT"),
        (["fork", "run1", "--at", "1", "--set", "temperature=hot"], "temperature"), (["--nope"], "--nope"),
        (["resume", "run1"], "no agent tally"), (["list", "-n", "0"], "--limit"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_status_2_and_one_line_that_helps(store, log, args, words):
    record_run(store)
    status, said, problems = log(*args)

    assert (status, said) == (2, "")
    assert problems.startswith("agent-log: ")
    assert problems.count("\n") == 1
    assert words in problems
    status, said, _ = log(*args, "--json")
    record = json.loads(said)
    assert (status, record["data"]["exit"], record["data"]["isError"]) == (2, 2, True)


def test_a_store_that_cannot_be_read_is_status_78(store, log):
    store.path.parent.mkdir()
    store.path.mkdir()

    status, said, problems = log("list")
    assert (status, said) == (78, "")
    assert "store" in problems


def test_hostile_text_in_events_stays_bytes_in_a_pipe_and_never_breaks_a_row(store, log):
    record_run(store, agent="ev\x1b]0;title\x07il\nagent")
    _, said, _ = log("list")

    assert len(said.splitlines()) == 2
    assert json.loads(log("list", "--json")[1])["data"]["structuredContent"][0]["agent"] == "ev\x1b]0;title\x07il\nagent"


def test_card_version_and_help_answer_without_a_store(log, data_dir):
    card = json.loads(log("--agent-schema")[1])

    assert (card["schema"], card["name"], card["stdin"]) == ("agent-card/1", "agent-log", "none")
    assert log("--version")[1] == "agent-log 0.1.0\n"
    assert all(command in log("--help")[1] for command in ("list", "show", "pipeline", "cost", "fork"))
    assert not data_dir.exists()


def test_reading_a_closed_pipe_dies_by_sigpipe_without_a_word(store, data_dir):
    for number in range(200):
        record_run(store, f"run{number}")
    store.append(Event("notice", "run1", data={"text": "x" * 300_000}))
    program = [sys.executable, "-m", "agents.agent_log", "export", "run1", f"--data-dir={data_dir}"]
    process = subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    problems = process.stderr.read()

    assert (process.wait(20), problems) == (-signal.SIGPIPE, b"")
    process.stderr.close()


# --- fork


def test_a_fork_shares_the_first_events_and_prints_its_name(store, log):
    record_run(store)
    status, said, _ = log("fork", "run1", "--at", "2", "--json")
    made = structured(said)

    assert (status, made["parent"], made["kept"]) == (0, "run1", 2)
    assert list(store.recorded(made["run"])) == ["0", "1.0"]
    assert log("fork", "run1", "--at", "3")[1].strip() == store.runs(1)[0].id


def test_set_changes_the_start_of_the_fork(store, log):
    record_run(store)
    log(
        "fork",
        "run1",
        "--at",
        "1",
        "--set",
        "input=and now?",
        "--set",
        "temperature=0.5",
        "--set",
        "provider=a,b",
        "--set",
        "max-steps=3",
    )
    new = store.runs(1)[0].id
    start = store.events(new)[0].data

    assert messages.from_json(start["input"]).text == "and now?"
    assert start["settings"] == {"temperature": 0.5, "max_steps": 3}
    assert start["route"] == "a,b"
    assert store.recorded(new)["0"].fingerprint == ""


# --- with a real agent


@pytest.fixture
def agent_log_process(run_agent):
    return lambda *args: run_agent("agent_log", *args)


def test_replay_prints_the_same_bytes_and_a_fork_of_all_events_ends_the_same(run_agent, agent_log_process):
    first = run_agent("text-processor", "make this uppercase", "--provider", "offline", stdin="hello pipes")
    assert (first.returncode, first.stdout) == (0, "HELLO PIPES\n")
    replayed = agent_log_process("replay", "last")

    assert (replayed.returncode, replayed.stdout) == (0, first.stdout)
    forked = agent_log_process("fork", "last", "--at", "2", "--go", "--json")
    record = json.loads(forked.stdout)
    assert (forked.returncode, record["data"]["output"].strip()) == (0, "HELLO PIPES")
    new = record["data"]["run_id"]
    shared = [
        json.loads(agent_log_process("show", ref, "--json").stdout)["data"]["structuredContent"]
        for ref in ("last", _parent(agent_log_process))
    ]
    assert [seen["run"] == new for seen in shared] == [True, False]
    assert shared[0]["observations"] == shared[1]["observations"] == ["HELLO PIPES"]
    assert shared[0]["usage"]["calls"] == 1


def _parent(agent_log_process):
    listed = json.loads(agent_log_process("list", "--json").stdout)["data"]["structuredContent"]
    return listed[0]["parent"]


def test_an_agent_that_is_only_a_file_is_found_where_its_run_says(store, log, tmp_path):
    program = tmp_path / "my_agent.py"
    program.write_text("def main(argv):\n    print('called with', argv[0], argv[1], flush=True)\n    raise SystemExit(4)\n")
    store.append(Event("run.started", "run1", time=1.0, data={"agent": "my-agent", "input": "x", "source": str(program)}))

    assert log("resume", "run1") == (4, "called with --resume run1\n", "")


# --- pipelines and bills


def test_pipeline_shows_the_stages_of_a_pipe_and_one_bill(store, log):
    for place, run in enumerate(("one", "two")):
        facts = {"pid": place, "ticks": place, "start": 999.0, "stdin": f"pipe:{place}", "stdout": f"pipe:{place + 1}"}
        store.append(Event("run.started", run, time=1000.0 + place, data={"agent": f"a-{run}", "lineage": facts}))
        store.append(Event("run.finished", run, time=1005.0, data={"status": place * 4}))
    status, said, problems = log("pipeline", "two", "--json")
    seen = structured(said)

    assert (status, problems) == (0, "")
    assert [(stage["agent"], stage["run_id"], stage["status"], stage["cost_usd"], stage["via"]) for stage in seen["stages"]] == [
        ("a-one", "one", 0, "0", ""),
        ("a-two", "two", 4, "0", "pipe"),
    ]
    assert (len(seen["trace"]), seen["total"]) == (32, {"cost_usd": "0", "stages": 2, "calls": 0})
    assert [line.split()[1:3] for line in log("pipeline")[1].splitlines()[1:3]] == [["one", "ok"], ["two", "exit"]]


def test_cost_says_what_is_unknown(store, log):
    record_run(store)
    status, said, _ = log("cost", "--by", "model", "--json")

    assert (status, structured(said)["total"]["cost_usd"], structured(said)["total"]["unknown_calls"]) == (0, None, 2)
    assert log("cost")[1].splitlines()[1].endswith("0 and 2 calls of unknown price")
    assert structured(log("cost", "--since", "1h", "-j")[1])["rows"] == []


@pytest.mark.parametrize("command", ["pipeline", "cost"])
def test_where_nothing_is_recorded_there_is_no_pipeline_and_no_bill(log, data_dir, command):
    assert log(command)[:2] == ((2, "") if command == "pipeline" else (0, ""))
    assert not data_dir.exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [(["pipeline", "a", "b"], "one RUN"), (["pipeline", "nope"], "no run"), (["cost", "--since", "x"], "--since"), (["cost", "--by", "x"], "--by"),
     (["cost", "--at", "1"], "fork"), (["resume", "run1", "--approve", "--deny"], "one decision"), (["resume", "run1", "--deny"], "does not wait")],
)  # fmt: skip
def test_a_wrong_use_of_the_newer_commands_is_status_2(store, log, args, words):
    record_run(store)
    status, said, problems = log(*args)

    assert (status, said) == (2, "")
    assert words in problems
