"""Tests of agent-log: real processes over a real store, with real agents behind replay, resume and fork."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent_core import messages, running
from agent_core.events import Event
from agent_core.store import open_store
from agents import agent_log

ROOT = Path(__file__).resolve().parents[2]
NOTE_AND_DIE = "import json; from agent_core import lineage; print(json.dumps(lineage.facts()))"


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

    yield run
    kept = running._stores.pop(data_dir / "agents.db", None)
    if kept is not None:
        kept.close()


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


def test_follow_ends_where_nothing_can_follow_a_fork_nobody_began_and_a_run_whose_process_is_gone(store, log, data_dir):
    record_run(store, end=False)
    fork = log("fork", "run1", "--at", "1")[1].strip()
    status, said, problems = log("follow", fork)
    assert (status, said.count("\n")) == (1, 2)
    assert problems == f"agent-log: run {fork} is a fork that nobody has begun (agent-log resume {fork})\n"
    assert "stopped" in log("status", fork)[1]

    gone = subprocess.run([sys.executable, "-c", NOTE_AND_DIE], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    store.append(Event("run.started", "run2", time=1000.0, data={"agent": "tally", "lineage": json.loads(gone)}))
    status, _, problems = log("follow", "run2")
    assert status == 1
    assert "has not ended, and its process is gone" in problems


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
    [(["pipeline", "a", "b"], "one RUN"), (["pipeline", "nope"], "no run"), (["cost", "--since", "x"], "--since"), (["cost", "--by", "x"], "--by: no 'x' (one of agent, model, day)"),
     (["cost", "--at", "1"], "fork"), (["resume", "run1", "--approve", "--deny"], "one decision"), (["resume", "run1", "--deny"], "does not wait")],
)  # fmt: skip
def test_a_wrong_use_of_the_newer_commands_is_status_2(store, log, args, words):
    record_run(store)
    status, said, problems = log(*args)

    assert (status, said) == (2, "")
    assert words in problems


# --- progress and time


GRAPH = ("graph.started", {"graph": "g", "nodes": {"a": [], "searcher": ["a"], "c": ["searcher"]}})


def record_graph(store, run="g1"):
    store.append(
        Event("run.started", run, time=1000.0, data={"agent": "agent-graph", "input": "x"}),
        Event(GRAPH[0], run, "0", 1000.0, GRAPH[1]),
        Event("node.started", run, "1", 1000.0, {"node": "a", "visit": 1}),
        Event("node.finished", run, "2", 1001.0, {"node": "a", "visit": 1, "state": "completed", "error": ""}),
        Event("node.started", run, "3", 1001.0, {"node": "searcher", "visit": 1}),
    )


def test_status_says_how_far_a_run_is_and_what_holds_it_up(store, log):
    record_graph(store)
    status, said, problems = log("status", "g1", "--json")
    seen = structured(said)

    assert (status, problems) == (0, "")
    assert [seen[name] for name in ("progress", "active", "blocked", "ready", "bottleneck")] == [0.33, 1, 1, [], "searcher"]
    assert seen["state"] == "running"
    assert "bottleneck: searcher" in log("status", "last")[1]
    assert structured(log("status", "g1", "--slow", "1e12", "--json")[1])["bottleneck"] is None


def test_timeline_draws_bars_as_wide_as_asked(store, log, monkeypatch):
    record_run(store)
    monkeypatch.setenv("COLUMNS", "50")
    _, said, _ = log("timeline", "run1")
    rows = structured(log("timeline", "run1", "--json")[1])["rows"]

    assert [line.split()[0] for line in said.splitlines()] == ["model", "tool", "model"]
    assert max(len(line) for line in said.splitlines()) <= 50
    assert [(row["kind"], row["label"], row["start_ms"]) for row in rows] == [
        ("model", "m", 1000.0),
        ("tool", "count", 1997.0),
        ("model", "m", 3000.0),
    ]


def test_follow_draws_a_run_anew_on_a_terminal_and_plain_lines_elsewhere(store, data_dir):
    import os
    import pty

    record_graph(store)
    store.append(Event("notice", "g1", time=1002.0, data={"text": "evil \x1b]0;title\x07"}))
    store.append(Event("run.finished", "g1", time=1005.0, data={"status": 0, "output": "done"}))
    above, below = pty.openpty()
    program = [sys.executable, "-m", "agents.agent_log", "follow", "g1", f"--data-dir={data_dir}"]
    process = subprocess.Popen(program, cwd=ROOT, stdout=below, stderr=below, env={**os.environ, "TERM": "xterm", "COLUMNS": "90"})  # noqa: TID251
    os.close(below)
    shown = b""
    while True:
        try:
            data = os.read(above, 65536)
        except OSError:
            break
        shown += data
    os.close(above)

    assert process.wait(20) == 0
    assert b"agent-graph, ok, 100%" in shown
    assert b"\x1b]0" not in shown
    assert b"searcher  stopped" in shown


# --- metrics, audit, alerts, limits


def record_denied(store, run="d1"):
    record_run(store, run, agent="writer")
    store.append(
        Event("tool.started", run, "4.0", 1005.0, {"name": "write_file", "arguments": {"path": "a"}, "effects": True}),
        Event(
            "tool.finished",
            run,
            "5.0",
            1005.0,
            {"id": "c", "name": "shell", "text": "denied: shell needs shell:rm", "error": "denied"},
        ),
    )


def test_metrics_are_numbers_for_people_programs_and_prometheus(store, log):
    record_denied(store)
    record_run(store, "run2", agent="critic", at=2000.0)
    whole = structured(log("metrics", "--json")[1])
    by_agent = structured(log("metrics", "--by", "agent", "-j")[1])["agents"]

    assert (whole["total_sessions"], whole["tool_call_count"], whole["tool_denials"], whole["cost_usd"]) == (2, 3, 1, None)
    assert [row["agent"] for row in by_agent] == ["critic", "writer"]
    assert json.loads(log("metrics", "--format", "json")[1]) == whole
    assert structured(log("metrics", "--agent", "critic", "-j")[1])["tool_call_count"] == 1
    assert 'agent_tool_calls_total{outcome="denied",tool="shell"} 1\n' in log("metrics", "--format", "prom")[1]
    assert 'agent="writer"' in log("metrics", "--format", "prom", "--by", "agent")[1]
    assert "agent_inference_latency_ms_count" in log("metrics", "--format", "prom", "--unit", "ms")[1]
    assert log("metrics", "--by", "agent")[1].splitlines()[0].split() == ["METRIC", "critic", "writer"]


def test_audit_lists_decisions_and_denied_only_refusals(store, log):
    record_denied(store)
    rows = structured(log("audit", "--json")[1])
    refused = structured(log("audit", "--denied", "-j")[1])

    assert [row["what"] for row in rows] == ["model", "model", "tool", "tool"]
    assert [(row["tool_name"], row["allowed"], row["denied_capabilities"]) for row in refused] == [("shell", False, ["shell:rm"])]
    assert structured(log("audit", "--run", "d1", "--since", "1h", "-j")[1]) == []
    assert log("audit", "--denied")[1].splitlines()[1].endswith("shell needs shell:rm")
    assert log("audit", "--run", "nope")[0] == 2


def test_audit_verify_names_the_first_bad_entry_with_status_3(store, log):
    import sqlite3

    record_run(store)
    assert log("audit", "--verify") == (0, "whole: 5 entries, seals right, 1 head from outside fits\n", "")
    store.close()
    with sqlite3.connect(store.path) as db:
        db.execute("UPDATE events SET time = 7.0 WHERE seq = 3")
    db.close()
    status, said, _ = log("audit", "--verify", "--json")
    found = json.loads(said)["data"]

    assert (status, found["exit"], found["structuredContent"]["bad"]["entry"]) == (3, 3, 3)
    assert log("audit", "--verify")[1].startswith(
        "not whole: entry 3 (event 3, tool.finished of run run1, step 1.0): it was changed"
    )


def test_the_first_key_can_be_moved_elsewhere_and_given_back_for_a_check(store, log, tmp_path):
    record_run(store)
    key = tmp_path / "stick" / "key"
    assert log("audit", "--move-key", str(key))[0] == 1
    key.parent.mkdir()
    status, said, _ = log("audit", "--move-key", str(key))
    bare = log("audit", "--verify")

    assert (status, said, key.stat().st_mode & 0o777) == (0, f"the key is in {key}: keep it elsewhere\n", 0o600)
    assert (bare[0], bare[1]) == (0, "whole: 5 entries, seals not checked, 1 head from outside fits\n")
    assert "only the chain was followed" in bare[2]
    (tmp_path / "other").write_text("no key\n")
    status, said, problems = log("audit", "--verify", "--key", str(tmp_path / "other"))
    assert (status, said) == (65, "")
    assert "holds neither a key nor a head" in problems
    assert "seals right" in log("audit", "--verify", "--key", str(key))[1]
    assert log("audit", "--move-key", str(key))[0] == 2
    assert log("audit", "--verify", "--key", str(tmp_path / "nope"))[0] == 66


def test_a_data_folder_that_was_emptied_on_purpose_can_be_accepted(store, log):
    record_run(store)
    store.close()
    for file in store.path.parent.iterdir():
        file.unlink()
    assert log("audit", "--verify")[0] == 3
    record_run(store, "again")

    assert "another store was here" in log("audit", "--verify")[1]
    assert structured(log("audit", "--accept", "--json")[1]) == {"forgotten": 1}
    assert log("audit", "--verify")[0] == 0


def test_alerts_end_with_3_when_one_fires_and_say_nothing_when_none_does(store, log, tmp_path):
    record_denied(store)
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[[alert]]\nname = "refused"\nmetric = "tool_denials"\nabove = 0\n[[alert]]\nmetric = "total_steps"\nabove = 99\n'
    )
    status, said, _ = log("alerts", "--rules", str(rules))

    assert (status, said) == (3, "refused: tool_denials is 1, above 0\n")
    assert structured(log("alerts", "--rules", str(rules), "-j")[1])[0]["value"] == "1"
    rules.write_text('[[alert]]\nmetric = "total_steps"\nabove = 99\n')
    assert log("alerts", "--rules", str(rules))[:2] == (0, "")
    assert [log("alerts")[0], log("alerts", "--rules", str(tmp_path / "nope"))[0]] == [2, 66]
    rules.write_text("x")
    assert log("alerts", "--rules", str(rules))[0] == 78


def test_limits_show_what_is_in_use(store, log):
    row = {"used": 5.0, "at": time.time(), "limit": [10, 0.001]}
    store.item_put("limits", "rate:openai/m", json.dumps(row))
    _, said, _ = log("limits")
    (found,) = structured(log("limits", "--json")[1])

    assert (found["limit"], found["of"], found["percent"]) == ("rate", "openai/m", 50.0)
    assert said.splitlines()[1].split()[:2] == ["rate", "openai/m"]


def test_a_run_is_exported_for_tables_and_collectors(store, log):
    record_run(store)
    table = log("export", "run1", "--format", "csv")[1].splitlines()
    spans = json.loads(log("export", "run1", "--format", "otlp")[1])["resourceSpans"][0]["scopeSpans"][0]["spans"]

    assert (table[0], len(table)) == ("run,path,kind,time,fingerprint,data", 6)
    assert [span["name"] for span in spans] == ["chat m", "execute_tool count", "chat m", "invoke_agent tally"]


@pytest.mark.parametrize("command", [["metrics"], ["audit"], ["audit", "--verify"], ["limits"]])
def test_where_nothing_is_recorded_the_readings_are_empty_and_no_file_is_made(log, data_dir, command):
    assert log(*command)[0] == 0
    assert not data_dir.exists()
