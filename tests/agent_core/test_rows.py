"""Row mode on real processes: order, errors of single rows, records, resuming."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent_core import rows, taint

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, str(Path(__file__).with_name("small_agent.py"))]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}  # noqa: TID251 - what the fixture left of it


@pytest.fixture
def small(tmp_path):
    def run(*args: str, stdin: bytes = b"", env=None) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*PROGRAM, *args],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            env=environment(**(env or {})),
            timeout=60,
            check=False,
        )

    return run


def records_of(done) -> list[dict]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_line_is_a_run_and_blank_lines_are_none(small):
    done = small("--lines", "--tool", "uppercase", stdin=b"one\n\r\ntwo\r\nthree")

    assert (done.returncode, done.stdout) == (0, b"ONE\nTWO\nTHREE\n")


def test_output_is_in_input_order_whatever_finishes_first(small):
    lines = b"".join(b'{"seconds": %s}\n' % seconds for seconds in (b"0.6", b"0.3", b"0.01"))
    begun = time.monotonic()
    done = small("--lines", "--jobs", "3", "--tool", "slow", "--jsonl", stdin=lines)

    assert [made["subject"] for made in records_of(done)[:-1]] == ["row-1", "row-2", "row-3"]
    assert time.monotonic() - begun < 5


def test_rows_go_to_a_model_one_request_each(small, fake_api):
    fake_api.script("same", "same", "same")
    done = small("--lines", "--jobs", "2", "--provider", "openai", "--model", "m", "judge", stdin=b"a\nb\nc\n", env=fake_api.env())

    assert (done.returncode, done.stdout) == (0, b"same\nsame\nsame\n")
    assert len(fake_api.requests()) == 3


def test_files_go_with_every_row_and_what_is_about_one_run_is_refused_before_anything_is_sent(small, fake_api, tmp_path):
    (tmp_path / "guide.txt").write_text("be kind")
    fake_api.script("same", "same")
    flags = ("--lines", "--provider", "openai", "--model", "m", "-f", "guide.txt")
    done = small(*flags, "judge", stdin=b"a\nb\n", env=fake_api.env())

    assert (done.returncode, done.stdout) == (0, b"same\nsame\n")
    assert all("be kind" in json.dumps(request["body"]) for request in fake_api.requests())
    for flag in ("--dry-run", "--show-prompt", "--session=s", "--continue"):
        refused = small(*flags, flag, "judge", stdin=b"a\n", env=fake_api.env())
        assert (refused.returncode, refused.stdout) == (2, b""), flag
        assert flag.partition("=")[0] in refused.stderr.decode()
    assert small("--in", "lines", "--dry-run", stdin=b"a\n", env=fake_api.env()).returncode == 2
    assert small("--lines", "--tool", "uppercase", "-f", "guide.txt", stdin=b"a\n").returncode == 2
    assert len(fake_api.requests()) == 2


def test_a_failed_row_costs_one_line_and_status_4_and_the_others_go_on(small):
    rows = b'{"text": "a", "old": "x"}\n{"old": 5}\n{"text": "c", "old": "x"}\n'
    done = small("--lines", "--tool", "swap", stdin=rows)
    lines = done.stderr.decode().splitlines()

    assert (done.returncode, done.stdout) == (4, b"a\nc\n")
    assert lines[0].startswith("small: row-2: ")
    assert "1 of 3 rows failed" in lines[1]


def test_jsonl_gives_an_item_a_row_and_one_terminal_record(small):
    made = records_of(small("--records", "--jsonl", "--tool", "swap", stdin=b'{"id": "x7", "text": "a", "old": "b"}\nrubbish\n'))

    assert [record["type"].partition(".")[2] for record in made] == ["item", "item", "result"]
    assert (made[0]["subject"], made[0]["data"]["output"]) == ("x7", "a")
    assert made[1]["data"]["error"]["code"] == "bad_input"
    assert (made[2]["data"]["exit"], made[2]["data"]["rows"]) == (4, {"total": 2, "failed": 1})


def test_json_gives_one_record_with_all_rows(small):
    (made,) = records_of(small("--lines", "--json", "--tool", "uppercase", stdin=b"a\nb\n"))

    assert [row["output"] for row in made["data"]["structuredContent"]["rows"]] == ["A", "B"]


def test_records_of_the_stage_before_are_rows(small):
    first = small("--lines", "--jsonl", "--tool", "uppercase", stdin=b"a\nb\n")
    items = b"".join(line + b"\n" for line in first.stdout.splitlines() if b"agentpipe.item" in line)

    cut = small("--records", "--tool", "uppercase", stdin=items)
    assert (cut.returncode, cut.stdout) == (6, b"A\nB\n")
    assert small("--records", "--tool", "uppercase", "--on-upstream-error", "use-partial", stdin=items).stdout == b"A\nB\n"


def test_the_whole_output_of_row_mode_can_be_piped_into_row_mode(small):
    first = small("--lines", "--jsonl", "--tool", "uppercase", stdin=b"a\nb\n")
    done = small("--records", "--tool", "uppercase", stdin=first.stdout)

    assert (done.returncode, done.stdout) == (0, b"A\nB\n")


def test_no_rows_are_66_and_an_unknown_tool_is_2_before_any_row(small):
    assert small("--lines", "--tool", "uppercase").returncode == 66
    assert small("--lines", "--tool", "nope", stdin=b"a\n").returncode == 2


def test_resuming_runs_only_what_is_missing(small, tmp_path):
    script = tmp_path / "script.jsonl"
    script.write_text('"one"\n{"error": "server"}\n"three"\n')
    flags = ("--lines", "--provider", "scripted", "--script", str(script), "--retry", "0", "judge")
    first = small(*flags, stdin=b"a\nb\nc\n")
    assert (first.returncode, first.stdout) == (4, b"one\nthree\n")

    script.write_text('"two"\n')
    second = small(*flags, "--resume", "last", stdin=b"a\nb\nc\n")
    assert (second.returncode, second.stdout) == (0, b"one\ntwo\nthree\n")
    assert small(*flags, stdin=b"a\n").stdout == b"two\n"


def test_rows_come_out_while_the_input_is_still_open_and_an_interrupt_ends_the_stream(tmp_path):
    process = subprocess.Popen(
        [*PROGRAM, "--lines", "--jsonl", "--tool", "uppercase"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        cwd=tmp_path,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"a\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["data"]["output"] == "A"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=10)

    assert process.returncode == 143
    assert [json.loads(line)["type"] for line in out.splitlines()] == ["agentpipe.result"]


def test_a_row_that_stands_in_a_blob_is_read_from_there(small):
    first = small("--lines", "--jsonl", "--tool", "uppercase", stdin=b"x" * 1_500_000 + b"\nb\n")
    done = small("--records", "--tool", "uppercase", stdin=first.stdout)

    assert len(first.stdout) < 10_000
    assert (done.returncode, done.stdout) == (0, b"X" * 1_500_000 + b"\nB\n")


def test_a_record_that_an_interrupt_cuts_off_is_made_whole_before_the_one_that_ends_the_stream(tmp_path):
    process = subprocess.Popen(
        [*PROGRAM, "--lines", "--jsonl", "--tool", "uppercase"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), cwd=tmp_path,
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    process.stdin.write((b"x" * 20_000 + b"\n") * 3)
    process.stdin.close()
    process.stdin = None
    time.sleep(1.0)  # by then the pipe is full, in the middle of the second row
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    out, _ = process.communicate(timeout=10)

    assert process.returncode == 143
    assert [json.loads(line)["type"] for line in out.splitlines()] == ["agentpipe.item"] * 2 + ["agentpipe.result"]


def test_an_interrupt_stops_all_rows(tmp_path):
    rows = b'{"seconds": 20}\n' * 6
    process = subprocess.Popen(
        [*PROGRAM, "--lines", "--jobs", "2", "--json", "--tool", "slow"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        cwd=tmp_path,
    )
    assert process.stdin
    process.stdin.write(rows)
    process.stdin.close()
    process.stdin = None
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=10)

    assert process.returncode == -signal.SIGINT
    assert json.loads(out)["data"]["stop"] == "cancelled"


def test_a_row_made_of_a_record_brings_what_its_stage_had_seen(small):
    data = {"output": "hello", "exit": 0, "provenance": [{"ref": "run:x", "trust": "trusted", "labels": ["private"]}]}
    record = {"agentpipe": "1", "type": "agentpipe.result", "source": "agent:a@1", "data": data}

    found = rows._Records().row(1, json.dumps(record).encode())

    assert taint.of_sources(found.provenance) == {"private", "untrusted"}
    done = small("--records", "--json", stdin=json.dumps(record).encode() + b"\n")
    assert taint.of_sources(json.loads(done.stdout)["data"]["provenance"]) == {"private", "untrusted"}
