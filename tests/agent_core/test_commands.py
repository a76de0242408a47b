"""Typed functions as subcommands: words, flags, stdin, statuses; runs among them resume and replay."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from agent_core import Agent, commands, config
from agent_core.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
MEMO = '''"""memo - try commands.

    $ memo add hi
"""
from __future__ import annotations
from typing import TYPE_CHECKING, Literal
from agent_core import Agent
from agent_core.effects import Wait
from agent_core.errors import Failed
from agent_core.task import Answer, Task
if TYPE_CHECKING:
    from agent_core.cli import Command
    from agent_core.config import Settings

def add(text: str, command: Command, kind: Literal["long", "short"] = "long", importance: float = 0.5, tag: list[str] = ()) -> Answer:
    """Add a text.

    Args:
        kind: how long it stays.
    """
    return Answer(f"added {text!r} {kind} {importance} {list(tag)} {command.settings.max_steps}", {"text": text})

def list_(n: int = 20, sorted: bool = True) -> list[int]:
    """List numbers."""
    return list(range(n))[:: 1 if sorted else -1]

def count(stdin: str, unit: str = "words") -> str:
    """Count stdin."""
    return f"{len(stdin.split())} {unit}"

def decide(what: str, timeout: float | None = None) -> Answer:
    """Say no."""
    return Answer(f"{what} {timeout}", [1], 3)

def fail(names: list[str]) -> None:
    """Fail with names."""
    raise Failed(f"cannot {names}", hint="do not")

def ballot(task: Task, settings: Settings, rounds: int = 1, side: list[str] = ()):
    """Ask, then ask a person."""
    reply = yield task.ask(task.messages())
    said = yield Wait("go on?")
    if said == "no":
        return Answer(reply.text, {"partial": True}, 4, "the person said no")
    return Answer(f"{reply.text} {rounds} {list(side)} {said} {settings.max_steps}", {"said": said})

agent = Agent(__doc__, commands=[add, list_, count, decide, fail, ballot])
main = agent.main
if __name__ == "__main__":
    main()
'''


@pytest.fixture
def memo(tmp_path):
    (tmp_path / "memo.py").write_text(MEMO)
    (tmp_path / "replies.jsonl").write_text('"first"\n"second"\n')

    def run(*args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(tmp_path / "memo.py"), *args], cwd=tmp_path, text=True, capture_output=True, timeout=60,
            input=stdin, stdin=subprocess.DEVNULL if stdin is None else None, start_new_session=True,
            env={**config.environ(), "PYTHONPATH": str(ROOT)}, check=False,
        )  # fmt: skip

    return run


def said(done):
    return done.returncode, done.stdout, done.stderr


def test_words_without_a_default_are_positional_and_the_last_text_takes_the_rest(memo):
    assert said(memo("add", "two", "words", "--kind", "short", "--tag", "a", "--tag=b", "--max-steps", "3")) == (
        0, "added 'two words' short 0.5 ['a', 'b'] 3\n", "",
    )  # fmt: skip


def test_a_single_letter_is_a_short_flag_and_a_true_default_gets_a_no_flag(memo):
    assert json.loads(memo("list", "-n", "3", "--no-sorted").stdout) == [2, 1, 0]


def test_stdin_goes_to_the_parameter_of_that_name_and_is_required_without_a_default(memo):
    assert said(memo("count", stdin="a b c"))[:2] == (0, "3 words\n")
    assert said(memo("count", stdin=""))[:2] == (66, "")


def test_a_parameter_named_like_a_general_flag_has_its_value(memo):
    assert said(memo("decide", "x", "--timeout", "2m"))[:2] == (3, "x 120.0\n")


def test_a_no_is_status_3_in_the_record_too(memo):
    record = json.loads(memo("decide", "x", "--json").stdout)
    assert (record["data"]["exit"], record["data"]["structuredContent"], record["data"]["isError"]) == (3, [1], False)


def test_an_error_is_one_line_and_its_status(memo):
    assert said(memo("fail", "a", "b")) == (1, "", "memo: cannot ['a', 'b'] (do not)\n")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("ad", "x"), "did you mean add"),
        ((), "which command?"),
        (("add",), "add needs TEXT"),
        (("count", "--kind", "long"), "count has no flag --kind"),
        (("add", "x", "--kind", "medium"), "one of long, short"),
        (("list", "extra"), "list takes no word 'extra'"),
        (("list", "--dry-run"), "list takes no --dry-run"),
        (("list", "-f", "notes.txt"), "list takes no --file"),
        (("list", "--chat"), "holds no conversation"),
        (("add", "x", "--importance", "much"), "is not a number"),
    ],
)
def test_what_does_not_fit_is_a_usage_error_that_names_what_would(memo, args, words):
    done = memo(*args)

    assert done.returncode == 2
    assert words in done.stderr


def test_help_lists_the_commands_and_shows_one(memo):
    assert "  add TEXT" in memo("--help").stdout
    assert "how long it stays" in memo("add", "--help").stdout


def test_the_card_has_the_commands_as_capabilities(memo):
    card = json.loads(memo("--agent-schema").stdout)
    found = {each["name"]: each["input_schema"] for each in card["capabilities"]}

    assert found["add"]["required"] == ["text"]
    assert set(found) == {"add", "list", "count", "decide", "fail", "ballot"}


def parked(memo, tmp_path):
    done = memo("ballot", "what?", "--rounds", "2", "--side", "A=1", "--script", "replies.jsonl")
    assert done.returncode == 5
    assert "go on?" in done.stderr
    return done


def answer(decision):
    from agent_core import config, running, waiting
    from agent_core.store import open_store

    store = open_store(running.store_path(config.load({})))
    try:
        return waiting.answer(store, "last", decision)
    finally:
        store.close()


def test_a_run_parks_without_a_terminal_and_goes_on_with_its_words_and_flags_once_answered(memo, tmp_path):
    parked(memo, tmp_path)
    run = answer("yes")

    done = memo("--resume", run)

    assert done.stdout == "first 2 ['A=1'] yes 10\n"
    replayed = memo("--replay", run)
    assert replayed.stdout == done.stdout


def test_a_run_that_was_not_done_keeps_its_partial_answer_in_the_record_only(memo, tmp_path):
    parked(memo, tmp_path)
    run = answer("no")

    assert said(memo("--resume", run))[:2] == (4, "")
    record = json.loads(memo("--replay", run, "--json").stdout)
    assert record["data"]["output"] == "first"
    assert record["data"]["structuredContent"] == {"partial": True}


def test_one_flag_with_two_types_is_refused_when_the_agent_is_made():
    def one(width: int = 1) -> None:
        """One."""

    def two(width: str = "") -> None:
        """Two."""

    with pytest.raises(TypeError, match="two types"):
        commands.options(Agent("x - y", commands=[one, two]))


def test_an_annotation_that_no_command_line_can_express_is_refused():
    def one(width: dict[str, int]) -> None:
        """One."""

    with pytest.raises(TypeError, match="cannot be a flag or a word"):
        commands.spec(one)


def test_an_answer_to_a_run_that_waits_for_nothing_is_a_usage_error(memo):
    memo("ballot", "x", "--script", "replies.jsonl")
    run = answer("yes")

    with pytest.raises(UsageError, match="does not wait"):
        answer("yes")
    assert run


def test_a_choice_that_stands_for_not_given_is_not_offered():
    def draw(process: Literal["", "one", "two"] = "") -> str:
        """Draw it."""
        return process

    (row,) = commands.own_options(commands.spec(draw))

    assert (row.choices, row.default) == (("one", "two"), "")
    assert commands.arguments(commands.spec(draw), [], {"process": ""}) == {"process": ""}
