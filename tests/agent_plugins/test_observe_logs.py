"""Structured logs: what is written at which level, and that a log never harms a run."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent_core import redact
from agent_core.errors import UsageError
from agent_core.events import Event
from agent_plugins.observe import logs

ROOT = Path(__file__).resolve().parents[2]
EVENTS = [
    Event("run.started", "r", time=1.0, data={"agent": "a", "input": "secret question", "lineage": {"pid": 1}, "history": ["x"], "settings": {}}),
    Event("delta", "r", "0", 1.0, {"text": "h"}),
    Event("model.failed", "r", "0", 1.0, {"provider": "p", "error": {"code": "x", "detail": "busy", "cause": "c"}, "retry_in": 1.0}),
    Event("model.replied", "r", "0", 1.0, {"provider": "p", "message": {"parts": ["said"]}, "usage": {"input_tokens": 1}, "cost": 10**9}),
    Event("tool.started", "r", "1.0", 1.0, {"name": "t", "arguments": {"q": "said"}}),
    Event("tool.finished", "r", "1.0", 1.0, {"name": "t", "error": "denied", "text": "denied: said"}),
    Event("effect.failed", "r", "2", 1.0, {"error": {"code": "budget"}}),
    Event("notice", "r", "", 1.0, {"text": "mind this"}),
    Event("run.finished", "r", time=2.0, data={"status": 0, "output": "said"}),
]  # fmt: skip


@pytest.fixture
def written(tmp_path):
    """Give a function that logs the events at levels and returns the rows."""

    def write(levels, events=EVENTS):
        path = tmp_path / "run.log"
        path.unlink(missing_ok=True)
        log = logs.Log(str(path), logs.levels(levels), pytest.fail)
        for event in events:
            log(event)
        return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []

    return write


def kinds(rows):
    return [row["event"] for row in rows]


def test_levels_choose_parts():
    assert logs.levels("") == {"": 20}
    assert logs.levels(" warning , model=DEBUG,tool=off") == {"": 30, "model": 10, "tool": 100}


def test_a_filter_in_the_place_of_a_file_logs_to_stderr():
    assert logs.chosen("info,model=trace", "error") == ("-", {"": 20, "model": 10})
    assert logs.chosen("warn", "") == ("-", {"": 30})
    assert logs.chosen("./debug", "error") == ("./debug", {"": 40})
    assert logs.chosen("run.jsonl", "info") == ("run.jsonl", {"": 20})


def test_agent_log_takes_the_filter_grammar_for_any_agent(run_agent):
    done = run_agent("text-processor", "-q", "--provider", "offline", 'uppercase "abc"', env={"AGENT_LOG": "off,tool=info"})

    assert done.stdout == "ABC\n"
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["tool.finished"]


@pytest.mark.parametrize("text", ["loud", "model=", "=info", "model=info=debug,x", "info;debug"])
def test_a_level_that_does_not_exist_is_refused(text):
    with pytest.raises(UsageError, match="--log-level"):
        logs.levels(text)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ("info", ["run.started", "model.failed", "model.replied", "tool.finished", "effect.failed", "notice", "run.finished"]),
        ("warning", ["model.failed", "tool.finished", "effect.failed"]), ("error", ["effect.failed"]), ("off", []),
        ("off,tool=debug", ["tool.started", "tool.finished"]), ("error,run=info", ["run.started", "effect.failed", "run.finished"]),
    ],
)  # fmt: skip
def test_each_part_has_its_level(written, levels, expected):
    assert kinds(written(levels)) == expected


def test_what_was_said_is_only_written_at_debug(written):
    assert "said" not in json.dumps(written("info"))
    whole = json.dumps(written("debug"))
    assert all(words in whole for words in ("secret question", '"q": "said"', '"output": "said"'))
    assert "lineage" not in whole


def test_a_row_is_whole_and_has_time_level_money_and_error(written):
    rows = {row["event"]: row for row in written("info")}

    assert rows["model.replied"] == {
        "time": "1970-01-01T00:00:01.000Z", "level": "info", "part": "model", "event": "model.replied", "run": "r", "path": "0", "provider": "p",
        "usage": {"input_tokens": 1}, "cost_usd": "0.001",
    }  # fmt: skip
    assert rows["model.failed"]["error"] == {"code": "x", "detail": "busy"}
    assert (rows["tool.finished"]["level"], rows["tool.finished"]["error"]) == ("warning", "denied")
    assert rows["notice"]["text"] == "mind this"


def test_secrets_are_taken_out_and_a_row_is_one_line(written):
    redact.register("correct horse battery")
    nasty = {
        "text": "a\nb\u2028c correct horse battery sk-abcdefghijklmnop1234 \ud800 \x1b[2J",
        "deep": [{"k": "correct%20horse%20battery"}],
        "x": float("nan"),
    }
    (row,) = written("debug", [Event("notice", "r", "", 1.0, nasty)])

    assert "horse" not in json.dumps(row)
    assert "sk-abc" not in json.dumps(row)


def test_a_text_without_end_is_shortened(written):
    (row,) = written("debug", [Event("tool.started", "r", "1", 1.0, {"arguments": {"x": "y" * 10**6, "many": list(range(10**5))}})])

    assert len(json.dumps(row)) < 10_000


def test_the_file_is_the_users_alone_and_may_be_taken_away_meanwhile(tmp_path):
    path = tmp_path / "run.log"
    log = logs.Log(str(path), logs.levels(""), pytest.fail)
    log(EVENTS[0])
    path.rename(tmp_path / "run.log.1")
    log(EVENTS[-1])

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (len(path.read_text().splitlines()), len((tmp_path / "run.log.1").read_text().splitlines())) == (1, 1)


def test_a_log_that_cannot_be_written_is_said_once_and_harms_nobody(tmp_path):
    said = []
    log = logs.Log(str(tmp_path / "no" / "folder"), logs.levels(""), said.append)
    for event in EVENTS:
        log(event)

    assert said == [f"the log {tmp_path}/no/folder cannot be written: No such file or directory"]


def test_many_writers_share_a_file_without_a_torn_line(tmp_path):
    path = tmp_path / "run.log"
    event = Event("notice", "r", "", 1.0, {"text": "x" * 1500})

    def write():
        log = logs.Log(str(path), logs.levels(""), pytest.fail)
        for _ in range(50):
            log(event)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 400


# --- through a real agent


def test_an_agent_writes_its_log_and_says_nothing_of_it_on_stdout(run_agent, tmp_path):
    done = run_agent(
        "text-processor", 'uppercase "abc"', "--provider", "offline", "--log", "run.log", "--log-level", "info,tool=debug", "-q"
    )
    rows = [json.loads(line) for line in (tmp_path / "run.log").read_text().splitlines()]

    assert (done.returncode, done.stdout, done.stderr) == (0, "ABC\n", "")
    assert kinds(rows) == ["run.started", "model.replied", "tool.started", "tool.finished", "model.replied", "run.finished"]
    assert rows[2]["data"] == {"arguments": {"text": "abc"}}
    assert (rows[-1]["status"], rows[-1]["peak_memory_kb"] > 1000) == (0, True)


def test_a_bad_level_is_said_before_anything_is_spent_and_a_lost_log_after(run_agent):
    bad = run_agent("text-processor", "x", "--provider", "offline", "--log", "run.log", "--log-level", "loud")
    lost = run_agent("text-processor", 'uppercase "abc"', "--provider", "offline", "--log", "no/run.log")

    assert (bad.returncode, bad.stdout) == (2, "")
    assert "levels: debug, info" in bad.stderr
    assert (lost.returncode, lost.stdout) == (0, "ABC\n")
    assert "cannot be written" in lost.stderr


def test_an_agent_without_these_flags_loads_none_of_it():
    program = (
        "import sys; from agents import text_processor\n"
        "try: text_processor.main(['uppercase \"a\"', '--provider', 'offline', '-q'])\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if name.startswith(('agent_plugins.observe', 'opentelemetry', 'pluggy'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ})  # noqa: TID251

    assert done.stdout.splitlines()[-1] == "[]"
