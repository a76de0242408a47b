"""The architect writes one file, on request only, and what it says without a model can be counted."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from agent_core.effects import Ask, Note
from agent_core.errors import ConfigError, DeniedError, Failed, UsageError
from agent_core.messages import Message, ToolResult, assistant, user
from agent_core.play import play
from agent_core.provider import Reply
from agent_core.task import Task, compose, split
from agents.architect import DESIGN, FACTS, UPDATE, agent, checked_path, counted, design, readable, requested

DIFF = "diff --git a/app/x.py b/app/x.py\n--- a/app/x.py\n+++ b/app/x.py\n@@ -1,2 +1,2 @@\n-a\n+b\n+c\n--- a/y.md\n+++ /dev/null\n"


def task(text="judge this", **options):
    return Task(user(text), agent.tools, "You are the architect.", schema=DESIGN, options=options)


def says(value):
    return Reply(assistant(json.dumps(value)))


def told(name, value, error=None):
    return [Message("tool", (ToolResult(f"{name}_1", name, value if isinstance(value, str) else "…", error, value),))]


ANSWER = {"answer": "Fine.", "patterns": [{"statement": "one class per error", "evidence": "a.py"}]}
MADE = {
    "path": "PATTERNS.md",
    "changed": True,
    "diff": "--- a\n+++ b\n@@ -1 +1 @@\n+x",
    "left_out": ["b.py is no file here: y"],
    "facts": {},
    "observations": [],
}


def test_a_question_is_judged_without_touching_the_file():
    played = play(design(task()), [says(ANSWER)])

    assert json.loads(played.value) == {**ANSWER, "file": None, "notes": []}
    assert "patterns_update" not in [tool.name for tool in played.effects[0].tools]


def test_the_flag_reads_the_facts_first_and_writes_the_file_last():
    played = play(
        design(task(update_patterns=True)),
        [told("code_facts", "### Size"), says(ANSWER), told("patterns_update", MADE), None, None, None],
    )

    found = json.loads(played.value)
    assert found["file"] == {"path": "PATTERNS.md", "changed": True, "diff": MADE["diff"], "left_out": MADE["left_out"]}
    assert found["notes"] == ["left out, b.py is no file here: y"]
    ask = next(each for each in played.effects if isinstance(each, Ask))
    assert split(ask.messages[-1].text)[1] == [(FACTS, "### Size")]
    assert [each.data["text"] for each in played.effects if isinstance(each, Note)] == [
        "PATTERNS.md was brought up to date:",
        "@@ -1 +1 @@",
        "+x",
    ]


@pytest.mark.parametrize(("kind", "error"), [("denied", DeniedError), ("permanent", Failed)])
def test_what_keeps_the_file_from_being_written_ends_the_run(kind, error):
    with pytest.raises(error):
        play(design(task(update_patterns=True)), [told("code_facts", "no", kind)])


@pytest.mark.parametrize(
    "path",
    [
        "../PATTERNS.md",
        "/srv/PATTERNS.md",
        "~/x.md",
        "a/../../x.md",
        "x.txt",
        ".git/hooks/x.md",
        ".github/x.md",
        "AGENTS.md",
        "docs/claude.md",
        "",
        "x.md/",
        "-",
    ],
)
def test_no_other_place_is_ever_written(path):
    with pytest.raises(UsageError):
        checked_path(path)
    with pytest.raises(UsageError):
        play(design(task(update_patterns=True, patterns_file=path)))


def test_a_plain_markdown_file_beneath_may_be_the_patterns_file():
    assert checked_path("docs/patterns.md") == "docs/patterns.md"
    assert checked_path("./PATTERNS.md") == "./PATTERNS.md"


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (["--update-patterns", "x"], ["--update-patterns", "x", "--allow", "file-read:.", "--allow", "file-write:PATTERNS.md"]),
        (["--update-patterns", "--patterns-file=a.md", "x"], ["--update-patterns", "--patterns-file=a.md", "x", "--allow", "file-read:.", "--allow", "file-write:a.md"]),
        (["x", "--", "--update-patterns"], ["x", "--", "--update-patterns"]),
        (["--update-patterns", "--nope"], ["--update-patterns", "--nope"]),
        (["--update-patterns", "--resume", "last"], ["--update-patterns", "--resume", "last", "--allow", "file-read:.", "--allow", "file-write:PATTERNS.md"]),
        (["--update-patterns", "--patterns-file", "/x.md", "y"], ["--update-patterns", "--patterns-file", "/x.md", "y"]),
        (["--update-patterns", "--no-stdin"], ["--update-patterns", "--no-stdin", "--allow", "file-read:.", "--allow", "file-write:PATTERNS.md", UPDATE]),
        (["--update-patterns", "--", "x"], ["--update-patterns", "--allow", "file-read:.", "--allow", "file-write:PATTERNS.md", "--", "x"]),
    ],
)  # fmt: skip
def test_the_flag_stands_for_two_grants_and_nothing_more(words, made):
    assert requested(words) == made


def test_what_can_be_counted_is_and_the_rest_is_refused():
    found = counted("", [("stdin", DIFF), (FACTS, "### Size\n\n- Python: 1 file"), ("a.py", "import os\n")])["answer"]

    assert "- `app`: 1 file, 2 lines added, 1 line removed" in found
    assert "- Python: 1 file" in found
    assert "Of a.py:" in found
    with pytest.raises(ConfigError, match="needs a model"):
        counted("is it good?", [("stdin", "prose about a design")])


def test_a_readable_answer_ends_with_patterns_and_notes():
    assert readable({**ANSWER, "notes": ["n"]}).splitlines() == [
        "Fine.",
        "",
        "Patterns:",
        "- one class per error (a.py)",
        "",
        "note: n",
    ]
    assert readable({"answer": "A", "patterns": []}) == "A"


def architect(tmp_path, *args, **streams):
    program = [sys.executable, "-m", "agents.architect", "--provider", "offline", *args]
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": root}
    return subprocess.run(program, cwd=tmp_path, env=env, capture_output=True, timeout=60, check=False, **streams)


def test_on_a_terminal_the_flag_alone_is_enough(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    leader, follower = pty.openpty()
    try:
        done = architect(tmp_path, "--update-patterns", stdin=follower)
    finally:
        os.close(leader)
        os.close(follower)

    assert done.returncode == 0, done.stderr
    assert "- Python: 1 file, 1 line" in (tmp_path / "PATTERNS.md").read_text()


def test_a_failed_stage_before_stops_it_and_a_denial_wins(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")

    assert architect(tmp_path, "--update-patterns", input=b"").returncode == 66
    assert architect(tmp_path, "--update-patterns", "--deny", "file-write", stdin=subprocess.DEVNULL).returncode == 77
    assert architect(tmp_path, "--update-patterns", "--patterns-file", "../x.md", stdin=subprocess.DEVNULL).returncode == 2
    assert architect(tmp_path, "--tool", "patterns_update", '{"observations": []}', stdin=subprocess.DEVNULL).returncode == 77
    assert sorted(os.listdir(tmp_path)) == [".local", "a.py", "home"]


def test_a_review_from_a_pipe_is_material_for_the_model(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    lines = [
        {
            "json": {"answer": "Noted.", "patterns": [{"statement": "names are short", "evidence": "a.py:1"}]},
            "expect": '<material origin="stdin"',
        }
    ]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    done = architect(
        tmp_path, "--update-patterns", "--json", "--provider", "scripted", "--script", "s.jsonl", input=b"app.py:5: high: bad\n"
    )

    data = json.loads(done.stdout)["data"]
    assert data["structuredContent"]["file"]["changed"], done.stderr
    assert "- names are short (see `a.py`)" in (tmp_path / "PATTERNS.md").read_text()
    assert compose("", [("stdin", "app.py:5: high: bad\n")]) != ""
