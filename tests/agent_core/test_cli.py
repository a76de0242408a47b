"""The contract of the command line, on real processes: streams, statuses, signals, records, terminals."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import agent_providers

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, str(Path(__file__).with_name("small_agent.py"))]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}  # noqa: TID251 - what the fixture left of it


@pytest.fixture
def small(tmp_path):
    """Give a function that runs the small agent and returns the finished process (bytes)."""

    def run(*args: str, stdin: bytes | None = None, env=None, **rest) -> subprocess.CompletedProcess[bytes]:
        feed = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        return subprocess.run(
            [*PROGRAM, *args],
            capture_output=True,
            cwd=tmp_path,
            env=environment(**(env or {})),
            timeout=60,
            check=False,
            **feed,
            **rest,
        )

    return run


@pytest.fixture
def script(tmp_path):
    """Give a function that writes a script for the provider `scripted` and returns the flags for it."""

    def write(*replies) -> list[str]:
        path = tmp_path / "script.jsonl"
        path.write_text("".join(json.dumps(reply) + "\n" for reply in replies))
        return ["--provider", "scripted", "--script", str(path)]

    return write


def one_record(done: subprocess.CompletedProcess[bytes]) -> dict:
    lines = done.stdout.splitlines()
    assert len(lines) == 1, done
    return json.loads(lines[0])


# --- what answers first


def test_version_schema_and_plain_help_answer_without_heavy_imports(tmp_path):
    code = "import sys, small_agent\nfrom contextlib import suppress\nwith suppress(SystemExit): small_agent.agent.main(sys.argv[1:])\nsys.stderr.write(' '.join(sys.modules))"
    heavy = {
        "typer",
        "rich",
        "click",
        "httpx",
        "asyncio",
        "platformdirs",
        "pluggy",
        "argparse",
        "sqlite3",
        "tomllib",
        "urllib.request",
    }
    for args, allowed in (
        (["--version"], set()), (["--agent-schema=wire"], set()), (["--help"], set()), (["--show-config"], set()), (["--bogus"], set()),
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", code, *args],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent,
            env=environment(),
            check=True,
        )
        assert not (set(done.stderr.split()) & (heavy | {"pydantic"})) - allowed, args


def test_version_prints_name_and_version(small):
    assert small("--version").stdout == b"small 0.1.0\n"


def test_the_schema_answers_alone_as_a_word_and_beside_a_broken_configuration(small, tmp_path):
    (tmp_path / "agents.toml").write_text("broken = ")
    for args in (["--agent-schema"], ["__schema"], ["--agent-schema", "--quiet"]):
        made = json.loads(small(*args).stdout)
        assert (made["schema"], made["name"], made["stdin"]) == ("agent-card/1", "small", "optional")
    assert small("hello").returncode == 78
    assert small("--help").returncode == 0


def test_plain_help_begins_with_the_manual(small):
    done = small("--help")

    assert done.stdout.startswith(b"small - an agent for the tests of the command line.\n\n    $ small --tool uppercase hello\n")
    assert b"--tone TEXT" in done.stdout


# --- text mode


def test_an_answer_is_all_there_is_on_stdout_and_ends_with_one_newline(small, script):
    done = small(*script("the answer"), "what?")

    assert (done.returncode, done.stdout, done.stderr) == (0, b"the answer\n", b"")


def test_a_tool_runs_without_a_model_and_its_own_prints_go_to_stderr(small):
    done = small("--tool", "uppercase", "hello")

    assert (done.returncode, done.stdout) == (0, b"HELLO\n")
    assert b"a tool that prints" in done.stderr


@pytest.mark.parametrize(
    ("args", "stdin", "expected"),
    [
        (["--tool", "uppercase"], b"piped\n", b"PIPED\n"), (["--tool", "uppercase", "-"], b"piped", b"PIPED\n"),
        (["--tool", "swap", '{"text": "aba", "old": "a", "new": "c"}'], None, b"cbc\n"),
        (["--tool", "swap", '{"old": "a"}'], b"aba", b"b\n"), (["--tool", "uppercase"], "naïve".encode(), "NAÏVE\n".encode()),
        (["--tool", "uppercase", "two", "words"], None, b"TWO WORDS\n"), (["--tool", "uppercase", "--", "--json"], None, b"--JSON\n"),
    ],
)  # fmt: skip
def test_a_json_object_fills_the_parameters_and_anything_else_the_sole_one(small, args, stdin, expected):
    assert small(*args, stdin=stdin).stdout == expected


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (["--modle", "x"], 2, "no flag --modle (did you mean --model?)"), (["--provider", "opnai", "x"], 2, "openai"),
        (["--tool", "uper", "x"], 2, "did you mean uppercase?"), (["--tool", "boom"], 1, "boom"), ([], 66, "stdin was empty"),
        (["--agent-schema=mpc"], 2, "mcp"), (["--temperature", "9", "x"], 2, "more than 2"), (["-f", "/no/such", "x"], 66, "cannot read /no/such"),
        (["-f", ".", "x"], 65, "is a folder"), (["--attach", "/dev/null", "x"], 65, "no image"), (["--in", "json", "x", "-"], 65, "not JSON"),
        (["--pattern", "nope", "x"], 2, "nope"), (["--continue", "x"], 2, "no session"), (["--profile", "x", "y"], 2, "no profile"),
        (["--allow", "shel:ls", "x"], 2, "did you mean shell?"), (["--deny", "netwrk", "x"], 2, "did you mean network?"),
        (["--resume", "last", "--replay", "last"], 2, "exclude each other"), (["--chat", "--dry-run"], 2, "--chat and --dry-run"),
        (["--tool", "uppercase", "--resume", "last", "x"], 2, "exclude"), (["--lines", "--records"], 2, "--lines and --records"),
        (["--tool", "uppercase", "x", "-f", "/dev/null"], 2, "no parameter left"), (["--resume", "last", "-f", "x"], 2, "own input"),
        (["--replay", "", "x"], 2, "--replay: '' is no name"), (["--session=", "x"], 2, "--session: ''"),
        (["--workspace", "nope", "x"], 2, "nope is no folder"), (["--tool", "swap", "bare"], 2, "JSON object"), (["--resume", "last", "words"], 2, "own input"), (["--provider", "openai", "x"], 78, "OPENAI_API_KEY"),
    ],
)  # fmt: skip
def test_a_failure_prints_nothing_on_stdout_and_one_clear_line_on_stderr(small, args, status, says):
    done = small(*args, stdin=b"{" if "-" in args else None)
    lines = done.stderr.decode().splitlines()

    assert (done.returncode, done.stdout) == (status, b"")
    assert len(lines) == 1
    assert lines[0].startswith("small: ")
    assert says in lines[0]


def test_a_folder_that_was_deleted_beneath_it_is_said_to_be_gone(tmp_path):
    (tmp_path / "gone").mkdir()
    shell = ["/bin/sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", *PROGRAM]
    done = subprocess.run([*shell, "x"], cwd=tmp_path / "gone", env=environment(), capture_output=True, check=False)

    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"small: there is no working directory")


def test_bytes_that_are_not_utf8_are_65_for_a_tool_and_no_trouble_for_an_answer(small, script):
    done = small("--tool", "uppercase", stdin=b"\xff\xfea")

    assert (done.returncode, done.stdout) == (65, b"")
    assert done.stderr == b"small: stdin is not UTF-8 (convert it, for example with iconv)\n"
    assert small(*script("fine"), "sum up", stdin=b"\xff\xfea\x00").stdout == b"fine\n"


def test_a_tools_input_may_stand_in_a_file(small, tmp_path):
    (tmp_path / "notes.txt").write_text("buy milk\n")

    assert small("--tool", "uppercase", "-f", "notes.txt").stdout == b"BUY MILK\n"
    assert small("--tool", "uppercase", "--file=-", stdin=b"x").stdout == b"X\n"
    assert small("--tool", "swap", '{"old": "milk"}', "-f", "notes.txt").stdout == b"buy \n"


def test_a_tools_result_is_printed_whole_whatever_its_size(small):
    text = b"a" * 3_000_000

    assert small("--tool", "uppercase", stdin=text).stdout == text.upper() + b"\n"
    made = one_record(small("--tool", "uppercase", "--json", stdin=text))
    assert made["data"]["blob"]["bytes"] == len(text)
    assert small("--tool", "uppercase", stdin=json.dumps(made).encode()).stdout == text.upper() + b"\n"


def test_quiet_silences_stderr_and_never_the_result_or_the_status(small, script):
    assert small("-q", "--bogus").stderr == b""
    assert small("-q", "--bogus").returncode == 2
    done = small("-q", "--provider", "offline", "hello")
    assert (done.stderr, done.returncode) == (b"", 0)
    assert done.stdout


def test_without_a_provider_the_choice_is_said_on_stderr(small):
    done = small("hello", env={"OLLAMA_HOST": "127.0.0.1:9"})

    assert done.returncode == 0
    assert done.stderr.startswith(b"small: no provider set, using `offline`")
    assert done.stderr.count(b"\n") == 1


def test_the_input_is_in_the_request_exactly_once_and_marked_as_data(small, tmp_path):
    (tmp_path / "notes.txt").write_text("from a file")
    done = small("--show-prompt", "--provider", "offline", "sum up", "-f", "notes.txt", stdin=b"from stdin")

    for text in (b"sum up", b"from stdin", b"from a file"):
        assert done.stdout.count(text) == 1
    assert b'<material origin="stdin"' in done.stdout
    assert b'<material origin="notes.txt"' in done.stdout


def test_without_words_stdin_is_the_instruction(small):
    done = small("--show-prompt", "--provider", "offline", stdin=b"do this")

    assert b"do this" in done.stdout
    assert b"<material" not in done.stdout


def test_a_dry_run_shows_the_request_without_its_key_and_sends_nothing(small, fake_api):
    done = small(
        "--dry-run",
        "--provider",
        "openai",
        "--model",
        "m1",
        "--temperature",
        "0.5",
        "hello",
        env=fake_api.env("sk-very-secret-key-123"),
    )
    made = json.loads(done.stdout)

    assert (made["method"], made["body"]["model"], made["body"]["temperature"]) == ("POST", "m1", 0.5)
    assert made["url"].endswith("/v1/chat/completions")
    assert b"very-secret" not in done.stdout + done.stderr
    assert fake_api.requests() == []


def test_a_real_request_over_http_comes_back_as_the_answer(small, fake_api):
    fake_api.script("from the server")
    done = small("--provider", "openai", "--model", "m1", "hello", env=fake_api.env())

    assert (done.returncode, done.stdout, done.stderr) == (0, b"from the server\n", b"")


def test_stream_prints_the_same_bytes_as_no_stream(small, fake_api):
    fake_api.script("a longer answer\nof two lines", "a longer answer\nof two lines")
    plain, streamed = (
        small("--provider", "openai", "--model", "m1", *extra, "hello", env=fake_api.env()) for extra in ([], ["--stream"])
    )

    assert streamed.stdout == plain.stdout == b"a longer answer\nof two lines\n"


def test_settings_show_their_origin(small, tmp_path):
    (tmp_path / "agents.toml").write_text("max_steps = 3\n")
    done = small("--show-config", "--json", "--model", "m", env={"AGENT_RETRY": "5", "OPENAI_API_KEY": "sk-very-secret-key-123"})
    shown = one_record(done)["data"]["structuredContent"]

    assert shown["model"] == {"value": "m", "origin": "flag --model"}
    assert shown["retry"] == {"value": 5, "origin": "env AGENT_RETRY"}
    assert shown["max_steps"] == {"value": 3, "origin": str(tmp_path / "agents.toml")}
    assert b"very-secret" not in done.stdout


def test_tools_and_models_are_listed_as_text_and_as_data(small):
    assert b"swap(text, old, new=)  Replace `old` by `new`." in small("--list-tools").stdout
    assert [row["name"] for row in one_record(small("--list-tools", "-j"))["data"]["structuredContent"]][:2] == [
        "uppercase",
        "swap",
    ]
    rows = one_record(small("--list-models", "--json"))["data"]["structuredContent"]
    listed = small("--list-models").stdout.decode()
    assert len(listed.splitlines()) == len(rows)
    assert set(agent_providers.names()) - {"openai-responses"} <= {row["vendor"] for row in rows}
    assert all(f"\n{name}  " in listed for name in ("azure", "ollama", "scripted", "offline"))


# --- records


def test_json_prints_exactly_one_record_whose_output_is_the_tools_result(small):
    made = one_record(small("--tool", "uppercase", "hello", "--json"))

    assert (made["agentpipe"], made["type"], made["data"]["output"], made["data"]["exit"]) == ("1", "agentpipe.result", "HELLO", 0)


def test_json_never_holds_a_figure_that_json_does_not_have(small):
    made = json.loads(small("--tool", "figures", "--json").stdout, parse_constant=pytest.fail)

    assert made["data"]["structuredContent"]["b"] == 1.0


@pytest.mark.parametrize("args", [["--bogus"], ["--tool", "boom"], ["--provider", "opnai", "x"], []])
@pytest.mark.parametrize("mode", ["--json", "--jsonl"])
def test_records_end_with_exactly_one_terminal_record_also_on_failure(small, args, mode):
    done = small(mode, *args)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    terminal = [made for made in results if made["type"] == "agentpipe.result"]

    assert [terminal[-1]] == terminal == results[-1:]
    assert (terminal[0]["data"]["exit"], terminal[0]["data"]["isError"]) == (done.returncode, True)
    assert terminal[0]["data"]["error"]["detail"]


def test_jsonl_tells_what_happens_as_it_happens(small, script):
    done = small("--jsonl", *script({"tool_calls": [{"name": "uppercase", "arguments": {"text": "x"}}]}, "done"), "go")
    kinds = [json.loads(line)["type"].removeprefix("agentpipe.") for line in done.stdout.splitlines()]

    assert kinds[0] == "started"
    assert "tool" in kinds
    assert kinds[-1] == "result"
    assert kinds.count("result") == 1


def test_a_stage_reads_the_records_of_the_stage_before_and_adds_up_the_bill(small, script):
    first = small("--json", *script("one"), "go")
    second = small("--json", "--tool", "uppercase", stdin=first.stdout)
    third = small("--jsonl", *script("three"), "go on", stdin=first.stdout)

    assert one_record(second)["data"]["output"] == "ONE"
    records = [json.loads(line) for line in third.stdout.splitlines()]
    assert next(made["type"] for made in records) == "agentpipe.upstream"
    assert records[-1]["data"]["total"]["stages"] == 2
    assert records[-1]["traceparent"][:35] == one_record(first)["traceparent"][:35]


def test_a_failed_stage_before_is_status_6_and_no_model_is_called(small, fake_api):
    failed = small("--json", "--tool", "boom")
    done = small("--provider", "openai", "--model", "m", "go", stdin=failed.stdout, env=fake_api.env())

    assert (done.returncode, done.stdout, fake_api.requests()) == (6, b"", [])
    assert b"agent:small@0.1.0 failed" in done.stderr
    cut = small("--json", "go", stdin=failed.stdout[:-40])
    assert one_record(cut)["data"]["error"]["code"] == "upstream_truncated"


def test_other_json_is_text(small):
    assert small("--tool", "uppercase", stdin=b'{"a": "b"}\n').returncode in (0, 2)
    assert small("--tool", "swap", '{"old": "x"}', stdin=b'{"a": "b"}').stdout == b'{"a": "b"}\n'


def test_required_input_that_is_empty_is_66_before_anything_is_spent(small, fake_api):
    done = small("stdin=required", "--provider", "openai", "--model", "m", "go", stdin=b"", env=fake_api.env())

    assert (done.returncode, fake_api.requests()) == (66, [])


# --- streams that break


def test_a_closed_stdout_is_status_1_with_a_line(small):
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *PROGRAM, "--tool", "uppercase", "x"],
        capture_output=True,
        env=environment(),
        check=False,
    )

    assert done.returncode == 1
    assert b"cannot write to stdout" in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("mode", [[], ["--json"], ["--jsonl"]])
def test_a_full_disk_is_status_1_with_a_line_not_silence(tmp_path, mode):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*PROGRAM, "--tool", "swap", '{"text": "a", "old": "b"}', *mode],
            stdout=full,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=environment(),
            cwd=tmp_path,
            check=False,
        )

    assert done.returncode == 1
    assert b"small: cannot write to stdout: No space left" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_broken_pipe_kills_silently_as_sigpipe_does(tmp_path):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*PROGRAM, "--tool", "swap", '{"text": "a", "old": "b"}'],
        stdout=write,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=environment(),
        cwd=tmp_path,
        check=False,
    )
    os.close(write)

    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


def test_a_closed_stderr_costs_nothing(small):
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", *PROGRAM, "--tool", "uppercase", "x"],
        capture_output=True,
        env=environment(),
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, b"X\n")


def test_a_file_is_found_by_the_bytes_of_its_name_whatever_the_locale(small, tmp_path):
    (tmp_path / "grüße.txt").write_text("hallo")
    done = small("--tool", "uppercase", "-f", "grüße.txt", env={"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})

    assert (done.returncode, done.stdout) == (0, b"HALLO\n")


def test_output_is_utf8_whatever_the_locale(small):
    for locale in ("C", "POSIX", "de_DE.ISO-8859-1"):
        done = small("--tool", "uppercase", "naïve", env={"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
        assert done.stdout == "NAÏVE\n".encode()


# --- signals


def started(tmp_path, *args: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [*PROGRAM, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=environment(), cwd=tmp_path
    )
    assert process.stdout is not None
    if "--jsonl" in args:
        assert select.select([process.stdout], [], [], 20)[0]
    else:
        time.sleep(1.5)
    return process


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_stream_with_one_terminal_record_and_the_documented_status(tmp_path, number, status):
    process = started(tmp_path, "--jsonl", "--tool", "slow", '{"seconds": 30}')
    process.send_signal(number)
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    results = [made for made in map(json.loads, out.splitlines()) if made["type"] == "agentpipe.result"]

    assert process.returncode == status
    assert len(results) == 1
    assert (results[0]["data"]["exit"], results[0]["data"]["stop"]) == (128 + number, "cancelled")
    assert b"Traceback" not in err


def test_an_interrupt_in_text_mode_prints_nothing_on_stdout(tmp_path):
    process = started(tmp_path, "--tool", "slow", '{"seconds": 30}')
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)

    assert (process.returncode, out) == (-signal.SIGINT, b"")
    assert err == b"small: interrupted\n"


def test_an_interrupt_while_waiting_for_input_is_the_same(tmp_path):
    process = subprocess.Popen(
        [*PROGRAM, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE, env=environment(), cwd=tmp_path
    )
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=10)

    assert process.returncode == 143
    assert json.loads(out)["data"]["stop"] == "cancelled"


def test_the_timeout_is_total_and_124(small):
    begun = time.monotonic()
    done = small("--tool", "slow", '{"seconds": 30}', "--timeout", "0.5", "--json")

    assert (done.returncode, one_record(done)["data"]["stop"]) == (124, "timeout")
    assert time.monotonic() - begun < 10


def test_the_timeout_covers_the_waiting_for_input(tmp_path):
    process = subprocess.Popen(
        [*PROGRAM, "--timeout", "0.5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.PIPE,
        env=environment(),
        cwd=tmp_path,
    )

    assert process.wait(10) == 124
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()


# --- terminals


def on_terminal(*args: str, env=None, cwd=None, keys: bytes = b"", stdin_too: bool = False) -> tuple[int, str]:
    """Run with stdout and stderr on a terminal; return status and everything shown."""
    ours, theirs = pty.openpty()
    source = theirs if stdin_too else subprocess.DEVNULL
    process = subprocess.Popen(
        [*PROGRAM, *args], stdin=source, stdout=theirs, stderr=theirs, env=environment(TERM="xterm", **(env or {})), cwd=cwd
    )
    os.close(theirs)
    if keys:
        os.write(ours, keys)
    shown = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:
            break
        if not data:
            break
        shown += data
    os.close(ours)
    return process.wait(20), shown.decode()


def test_escape_sequences_of_a_model_never_reach_a_terminal_and_pass_untouched_into_a_pipe(small, script, tmp_path):
    evil = "a\x1b]0;owned\x07b\x1b[31mred\u202e"
    flags = script(evil, evil)

    assert small(*flags, "x").stdout == evil.encode() + b"\n"
    status, shown = on_terminal(*flags, "x", cwd=tmp_path)
    assert status == 0
    assert "\x1b]0;" not in shown
    assert "\x07" not in shown
    assert "a␛]0;owned␇bred<U+202E>" in shown
    _, shown = on_terminal("--json", "--tool", "uppercase", "\x9b\u202e\U000e0041x", cwd=tmp_path)
    record = next(line for line in shown.splitlines() if line.startswith("{"))
    assert not {"\x9b", "\u202e", "\U000e0041"} & set(record)
    assert json.loads(record)["data"]["output"] == "\x9b\u202e\U000e0041X"


def test_markdown_is_shown_as_such_on_a_terminal_and_untouched_with_no_color(script, tmp_path):
    flags = script("# Title\n\nsome **bold** text")

    assert "\x1b[1m" in on_terminal(*flags, "x", cwd=tmp_path)[1]
    for env in ({"NO_COLOR": "1"}, {"COLUMNS": "0"}):
        assert "# Title\r\n\r\nsome **bold** text" in on_terminal(*flags, "x", cwd=tmp_path, env=env)[1]


def test_help_on_a_terminal_is_rich_and_names_every_flag(tmp_path):
    status, shown = on_terminal("--help", env={"COLUMNS": "120"}, cwd=tmp_path)

    assert status == 0
    shown = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert "╭" in shown
    assert all(name in shown for name in ("--provider", "--tone", "--agent-schema", "$ small --tool uppercase hello"))


def test_verbose_shows_steps_on_stderr_live_and_plain(small, script, tmp_path):
    flags = script({"tool_calls": [{"name": "swap", "arguments": {"text": "x", "old": "y"}}]}, "done")
    done = small(*flags, "-v", "x")

    assert done.stdout == b"done\n"
    assert b"small: tool swap" in done.stderr
    status, shown = on_terminal(*flags, "-v", "x", cwd=tmp_path)
    assert status == 0
    assert "tool swap" in shown
    assert "done" in shown


def test_no_words_on_a_terminal_is_a_short_usage_and_2(tmp_path):
    status, shown = on_terminal(cwd=tmp_path, stdin_too=True)

    assert status == 2
    assert "--help" in shown


# --- completion and plugins


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed(small, shell):
    assert b"_SMALL_COMPLETE" in small("--completion", shell).stdout


def test_bash_completes_flags_and_their_choices(small, tmp_path):
    program = tmp_path / "small"
    program.write_text(f'#!/bin/sh\nexec {" ".join(PROGRAM)} "$@"\n')
    program.chmod(0o755)
    completion = small("--completion", "bash").stdout.decode()
    test = (
        completion
        + '\nCOMP_WORDS=(small --col); COMP_CWORD=1; _small_completion small; echo "${COMPREPLY[@]}"\nCOMP_WORDS=(small --color a); COMP_CWORD=2; _small_completion small; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["/bin/bash", "-c", test], capture_output=True, text=True, env=environment(PATH=f"{tmp_path}:/usr/bin:/bin"), check=False
    )

    assert done.stdout.split() == ["--color", "auto", "always"]


PLUGIN = """
from agent_core.options import Option
from agent_core.plugins import hookimpl
from agent_core.tool import tool

@tool
def shout(text: str) -> str:
    "Shout."
    return text + "!"

@hookimpl
def agent_options():
    return [Option("loudly", "say it loudly", group="Voice", setting=True)]

@hookimpl
def agent_tools():
    return [shout]
"""


def test_a_plugin_adds_flags_and_tools(small, tmp_path):
    (tmp_path / "my_plugin.py").write_text(PLUGIN)
    env = {"AGENT_PLUGINS": "my_plugin", "PYTHONPATH": f"{ROOT}:{tmp_path}"}

    assert small("--tool", "shout", "--loudly", "hi", env=env).stdout == b"hi!\n"
    assert b"loudly = true  # flag --loudly" in small("--loudly", "--show-config", env=env).stdout
    assert small("--loudly", "hi").returncode == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("from agent_core.plugins import hookimpl\n@hookimpl\ndef agent_optoins(): return []\n", "unknown hook"), ("1/0", "ZeroDivisionError"),
        ("import no_such_thing", "no_such_thing"),
        ("from agent_core.plugins import hookimpl\n@hookimpl\ndef agent_tools(extra): return []\n", "extra"),
    ],
)  # fmt: skip
def test_a_broken_plugin_is_78_and_says_why(small, tmp_path, text, says):
    (tmp_path / "bad_plugin.py").write_text(text)
    done = small("hi", env={"AGENT_PLUGINS": "bad_plugin", "PYTHONPATH": f"{ROOT}:{tmp_path}"})

    assert done.returncode == 78
    assert says in done.stderr.decode()
    assert small("hi", env={"AGENT_PLUGINS": "no_such_plugin"}).returncode == 78


def test_nothing_ever_prints_a_traceback_without_debug(small):
    assert b"Traceback" not in small("--tool", "boom").stderr
    assert b"Traceback" in small("--bogus", "--debug").stderr
