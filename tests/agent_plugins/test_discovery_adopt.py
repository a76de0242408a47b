"""Tests of adopting: real programs are started, shut in, and registered by what they say."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import wait_until

from agent_core import catalogue, sandbox
from agent_core.errors import AgentError, ContractError, DeniedError, Failed, InputError, UsageError
from agent_plugins.discovery import adopt
from agent_plugins.discovery.adopt import Said, Terms, adopted

CARD = {"schema": "agent-card/1", "name": "tally", "description": "count things", "tags": ["count"], "stdin": "optional"}
KERNEL = pytest.mark.skipif(not sandbox.level().complete, reason="this kernel has no sandbox")


@pytest.fixture
def settings(tmp_path):
    return SimpleNamespace(data_dir=str(tmp_path / "data"), environment={"PATH": "/usr/bin:/bin", "OPENAI_API_KEY": "sk-secret"})


@pytest.fixture
def make(tmp_path):
    """Give a function that makes a shell program in a folder of its own."""

    def made(name, body, folder="programs"):
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return str(path)

    return made


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def printing(card):
    return f"cat <<'END'\n{json.dumps(card)}\nEND"


def test_a_program_that_prints_a_card_is_an_agent(make, settings):
    made = adopted(make("tally", printing(CARD)), settings)

    assert (made.new, made.entry.kind, made.entry.source) == (True, "agent", "adopt")
    assert dict(catalogue.find("tally", settings.data_dir).card) == CARD


def test_an_ordinary_program_becomes_a_tool_by_its_help(settings):
    entry = adopted("wc", settings).entry

    assert (entry.name, entry.kind) == ("wc", "program")
    assert "count" in entry.description
    assert set(entry.card["input_schema"]["properties"]) == {"args", "stdin"}
    assert catalogue.find("wc", settings.data_dir).sha256 == catalogue.hash_of(entry.program)


def test_adopting_twice_changes_nothing(make, settings):
    path = make("tally", printing(CARD))
    adopted(path, settings)

    assert not adopted(path, settings).new


def test_a_changed_program_is_adopted_anew(make, settings):
    adopted(make("tally", printing(CARD)), settings)
    path = make("tally", printing({**CARD, "description": "other"}))
    with pytest.raises(DeniedError):
        catalogue.find("tally", settings.data_dir)

    assert adopted(path, settings).new
    assert catalogue.find("tally", settings.data_dir).description == "other"


def test_nobody_takes_over_a_name_by_calling_itself_so(make, settings):
    adopted(make("tally", printing(CARD)), settings)
    thief = make("thief", printing(CARD))

    with pytest.raises(DeniedError, match="tally is registered already"):
        adopted(thief, settings)
    assert adopted(thief, settings, Terms(name="other")).entry.name == "other"
    assert adopted(thief, settings, Terms(replace=True)).entry.program == thief


@pytest.mark.parametrize("program", ["", "nope", "./nope", "/etc/passwd", "/etc", "x\0y", "--help", "-x"])
def test_what_is_no_executable_file_is_an_error(program, settings):
    with pytest.raises(UsageError):
        adopted(program, settings)


def test_a_name_is_looked_up_in_absolute_folders_only(make, settings, tmp_path, monkeypatch):
    make("here-only", printing(CARD), folder="cwd")
    monkeypatch.chdir(tmp_path / "cwd")

    with pytest.raises(UsageError, match="no program 'here-only'"):
        adopted("here-only", SimpleNamespace(**{**vars(settings), "environment": {"PATH": ".::/usr/bin"}}))


def test_the_program_sees_nothing_of_ours(make, settings):
    body = '{ env; echo "cwd=$(pwd)"; echo "files=$(ls -A . | wc -l)"; echo "stdin=$(wc -c)"; echo "args=$# $1"; } >&2; exit 1'
    said, _ = adopt.run([make("spy", body), "--agent-schema"], 10, settings.environment)

    seen = dict(line.partition("=")[::2] for line in said.err.splitlines())
    assert "sk-secret" not in said.err
    assert set(seen) <= {
        "PATH", "HOME", "TMPDIR", "LC_ALL", "LANG", "TERM", "NO_COLOR", "PAGER", "PYTHONDONTWRITEBYTECODE", "PWD", "OLDPWD", "SHLVL",
        "_", "cwd", "files", "stdin", "args", "TZ",
    }  # fmt: skip
    assert seen["cwd"] == seen["HOME"] != os.getcwd()
    assert (seen["files"].strip(), seen["stdin"].strip(), seen["args"]) == ("0", "0", "1 --agent-schema")
    assert not os.path.exists(seen["HOME"])


def test_it_is_asked_by_flags_and_never_by_bare_words(make, settings):
    agent = make("asked", f"cat <<END\n{json.dumps({**CARD, 'description': 'called with $*'})}\nEND")
    program = make("plain", '[ "$1" = --agent-schema ] && exit 1; echo "Usage: plain"; echo "Called with $*"')

    assert adopted(agent, settings).entry.description == "called with --agent-schema"
    assert adopted(program, settings).entry.description == "Called with --help"


@pytest.mark.parametrize("choice", ["landlock", "bubblewrap"])
def test_in_the_kernel_sandbox_it_writes_nowhere_else_reads_no_home_and_has_no_network(
    make, settings, clean_environment, tmp_path, choice
):
    if not sandbox.level(choice).complete:
        pytest.skip(f"not possible here: {choice}")
    (clean_environment / ".ssh").mkdir()
    (clean_environment / ".ssh" / "key").write_text("PRIVATE")
    victim = tmp_path / "programs" / "victim"
    body = f"""cat {clean_environment}/.ssh/key; echo x >{victim}; echo x >ok && echo wrote; cat ok
/usr/bin/python3 -c 'import socket; socket.socket()' 2>/dev/null && echo networked; exit 1"""
    said, level = adopt.run([make("spy", body), "--help"], 10, settings.environment, choice=choice)

    assert level == f"kernel sandbox: {sandbox.level(choice).text}; {adopt.LIMITS}"
    assert not victim.exists()
    assert "PRIVATE" not in said.out
    assert "networked" not in said.out
    assert "wrote" in said.out


def test_the_level_is_said_either_way(make, settings):
    level = adopted(make("tally", printing(CARD)), settings).level

    assert level.startswith("kernel sandbox: " if sandbox.level().complete else "no kernel sandbox here; ")
    assert "scrubbed environment" in level


def test_one_that_hangs_is_stopped_with_its_children(make, settings):
    began = time.monotonic()
    said, _ = adopt.run([make("slow", "sleep 600 & echo child $!; sleep 600"), "--help"], 0.5, {})

    assert time.monotonic() - began < 5
    assert said.stopped == "it took too long"
    child = int(said.out.split()[1])
    assert wait_until(lambda: not alive(child))


def test_one_that_leaves_a_process_behind_is_not_waited_for(make):
    began = time.monotonic()
    said, _ = adopt.run([make("leaver", "sleep 600 & echo done"), "--help"], 20, {})

    assert time.monotonic() - began < 5
    assert said.out == "done\n"


def test_one_that_never_stops_writing_is_stopped(make, settings):
    said, _ = adopt.run([make("flood", "yes"), "--help"], 10, {})

    assert said.stopped == "it wrote too much"
    assert len(said.out) < 4 * adopt.LARGEST


def test_one_that_fills_the_disk_is_stopped(make):
    said, _ = adopt.run([make("filler", "head -c 100000000 /dev/zero >big; stat -c %s big; rm big"), "--help"], 10, {})

    assert int(said.out or 0) <= adopt.FILE_BYTES


BAD = {
    "a name with a slash": {**CARD, "name": "../../bin/sh"},
    "a wrong digest": {**CARD, "digest": "sha256:0"},
    "a tag with an escape sequence": {**CARD, "tags": ["\x1b[2J"]},
    "a description that is a list": {**CARD, "description": []},
}


@pytest.mark.parametrize("card", BAD.values(), ids=BAD)
def test_what_claims_to_be_a_card_has_to_be_one(card, make, settings):
    with pytest.raises(InputError):
        adopted(make("tally", printing(card)), settings)
    assert catalogue.names(settings.data_dir) == []


def test_a_program_that_changes_while_it_is_asked_is_not_registered(make, settings, tmp_path):
    path, other = make("tally", f"sleep 0.5\n{printing(CARD)}"), make("other", printing(CARD))
    swap = threading.Timer(0.1, os.replace, (other, path))
    swap.start()

    with pytest.raises(ContractError, match="changed while it was asked"):
        adopted(path, settings)
    swap.join()
    assert catalogue.names(settings.data_dir) == []


def test_one_that_cannot_be_started_is_a_failure(settings, tmp_path):
    path = tmp_path / "odd"
    path.write_bytes(b"\x7fELF nothing")
    path.chmod(0o755)

    with pytest.raises(Failed, match="cannot start"):
        adopted(str(path), settings)


@KERNEL
def test_one_that_says_nothing_in_the_sandbox_is_not_registered_with_a_made_up_card(make, settings, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "help.txt").write_text("Usage: far\nCount what is far away.\nmore\nmore\n")
    path = make("far", f"cat {tmp_path}/elsewhere/help.txt")

    with pytest.raises(Failed, match="says nothing of itself in the sandbox: .*ermission denied") as error:
        adopted(path, settings)
    assert "--read" in error.value.hint
    assert adopted(path, settings, Terms(read=(str(tmp_path / "elsewhere"),))).entry.description == "Count what is far away."


HELPS = [
    ("", "a command-line program (its help says no more)"),
    ("Usage: x [OPTION]\nPrint things. And more.\n", "Print things."),
    ("usage: x [-h]\n\nDo one thing\nover two lines\n\noptions:\n  -h\n", "Do one thing over two lines"),
    ("x 1.0\n\nDESCRIPTION\n    Sort the lines.\n", "Sort the lines."),
    ("Description: sort the lines\nUsage: x", "sort the lines"),
    ("About\n  Sort all the lines.\nUsage: x\n", "Sort all the lines."),
    ("\x1b[1mSort\x1b[0m all \x1b]0;evil\x07 lines.\n", "Sort all ␛]0;evil␇ lines."),
    ("-a first\n-b second\n", "a command-line program (its help says no more)"),
    ("word " * 1000, ("word " * 1000)[:300]),
]


@pytest.mark.parametrize(("text", "expected"), HELPS)
def test_a_description_is_the_first_sentence_that_a_help_says(text, expected):
    assert adopt.description(text) == expected.strip() or adopt.description(text) == expected


def test_a_complaint_is_no_help():
    assert adopt.program_card("x", Said(1, "", "x: unknown option --help\n"))["description"].startswith("a command-line program")
    assert adopt.program_card("x", Said(1, "", "usage: x FILE\nSort a FILE.\n"))["description"] == "Sort a FILE."


NAMES = [("/usr/bin/jq", "jq"), ("/x/Python3.11", "python3-11"), ("/x/my tool.sh", "my-tool-sh"), ("/x/--rm", "rm"), ("/x/…", None)]


@pytest.mark.parametrize(("path", "name"), NAMES)
def test_a_program_is_named_after_its_file(path, name):
    if name is None:
        with pytest.raises(UsageError, match="makes no name"):
            adopt.name_of(Path(path))
    else:
        assert adopt.name_of(Path(path)) == name


def test_the_home_directory_and_what_is_above_is_no_programs_own_folder(tmp_path):
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    environment = {"HOME": str(home)}
    paths = [set(adopt.readable(folder / "tool", environment)) for folder in (home, tmp_path, home / "bin")]

    assert str(home) not in paths[0]
    assert str(home / "tool") in paths[0]
    assert str(tmp_path) not in paths[1]
    assert str(home / "bin") in paths[2]


def test_every_error_of_adopting_says_what_to_try(make, settings):
    for program in ("nope", "./nope", ""):
        with pytest.raises(AgentError) as error:
            adopted(program, settings)
        assert error.value.hint


def test_the_catalogue_is_private(make, settings, tmp_path):
    adopted(make("tally", printing(CARD)), settings)

    assert stat.S_IMODE((tmp_path / "data" / "catalogue").stat().st_mode) == 0o700
