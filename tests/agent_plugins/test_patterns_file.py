"""The patterns file is written whole, only between its markers, only where it was granted, and only when something changed."""

from __future__ import annotations

import os

import pytest

from agent_core.policy import Policy
from agent_core.tool import Context, ToolError
from agent_plugins import patterns_file
from agent_plugins.patterns_file import code, known, observed, one_line, patterns_update, updated

RULE = {"statement": "Errors have one class each", "evidence": "app/errors.py"}


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "project"
    (root / "app").mkdir(parents=True)
    (root / "app" / "__init__.py").write_text("")
    (root / "app" / "errors.py").write_text("class AppError(Exception):\n    pass\n")
    return root


def context(root, *allow):
    granted = allow or ("file-read:.", "file-write:PATTERNS.md")
    return Context(Policy.of(granted, workspace=str(root)), str(root), tool=patterns_update)


def update(root, *observations, path="PATTERNS.md", allow=()):
    return patterns_update.function(observations=[dict(each) for each in observations], context=context(root, *allow), path=path)


def test_the_file_is_made_and_then_left_alone_while_nothing_changes(project):
    made = update(project, RULE)
    first = (project / "PATTERNS.md").stat()

    again = update(project, RULE)

    assert made["changed"]
    assert "Errors have one class each (see `app/errors.py`)" in (project / "PATTERNS.md").read_text()
    assert (again["changed"], again["diff"]) == (False, "")
    assert (project / "PATTERNS.md").stat().st_ino == first.st_ino
    assert not [name for name in os.listdir(project) if name.endswith(".tmp")]


def test_what_stands_outside_of_the_markers_is_the_readers_own(project):
    update(project, RULE)
    file = project / "PATTERNS.md"
    file.write_text("My preface.\n" + file.read_text() + "\n## Mine\n\n- kept (see `app/errors.py`)\n")
    (project / "app" / "new.py").write_text("x = 1\n")

    made = update(project)

    text = file.read_text()
    assert text.startswith("My preface.\n")
    assert text.endswith("\n## Mine\n\n- kept (see `app/errors.py`)\n")
    assert text.count("patterns:facts:begin") == text.count("patterns:observations:end") == 1
    assert "+- Python: 3 files, 3 lines" in made["diff"]
    assert "My preface" not in made["diff"]


def test_observations_are_kept_merged_and_left_out_with_a_reason(project):
    update(project, RULE)
    made = update(
        project, {"statement": "each error has one class", "evidence": "./app/errors.py:3"},
        {"statement": "Nothing imports upward", "evidence": "app/__init__.py"}, {"statement": "made up", "evidence": "no/such.py"},
        {"statement": "", "evidence": "app/errors.py"},
    )  # fmt: skip

    assert made["observations"] == [
        "Errors have one class each (see `app/errors.py`)",
        "Nothing imports upward (see `app/__init__.py`)",
    ]
    assert made["left_out"] == ["no/such.py is no file here: made up"]
    (project / "app" / "errors.py").unlink()
    assert update(project)["left_out"] == ["app/errors.py is gone: Errors have one class each"]


@pytest.mark.parametrize(
    "statement",
    [
        "<!-- patterns:observations:end -->",
        "a\n<!-- patterns:facts:begin -->\nb",
        "`code` - # x",
        "\x1b[31mred\x07",
        "x" * 5000,
        "- - * # y",
        "\u2028z\u2029",
    ],
)
def test_an_observation_cannot_break_out_of_its_line(project, statement):
    update(project, {"statement": statement, "evidence": "app/errors.py"})
    text = (project / "PATTERNS.md").read_text()

    assert text.count("<!--") == text.count("-->") == 4
    assert not {"\x1b", "\x07", "\u2028"} & set(text)
    assert max(map(len, text.splitlines())) < 400
    assert not update(project, {"statement": statement, "evidence": "app/errors.py"})["changed"]


@pytest.mark.parametrize(
    "broken",
    [
        "<!-- patterns:facts:begin -->\nno end\n",
        "<!-- patterns:facts:end -->\n",
        "x <!-- patterns:facts:begin --> <!-- patterns:facts:end -->\n",
    ],
)
def test_a_file_whose_markers_are_not_in_order_is_not_touched(project, broken):
    (project / "PATTERNS.md").write_text(broken)

    with pytest.raises(ToolError, match="markers"):
        update(project)
    assert (project / "PATTERNS.md").read_text() == broken


def test_a_link_in_its_place_is_not_followed(project, tmp_path):
    outside = tmp_path / "outside.md"
    outside.write_text("precious\n")
    (project / "PATTERNS.md").symlink_to(outside)

    with pytest.raises(ToolError):
        update(project)
    assert outside.read_text() == "precious\n"


@pytest.mark.parametrize("allow", [("file-read:.",), ("file-write:PATTERNS.md",), ("file-read:.", "file-write:other.md")])
def test_without_both_grants_nothing_is_written(project, allow):
    with pytest.raises(ToolError, match="denied"):
        update(project, allow=allow)
    assert not (project / "PATTERNS.md").exists()


def test_binary_hidden_linked_and_generated_files_are_no_code(project, tmp_path):
    (project / "app" / "data.py").write_bytes(b"\0\1")
    (project / ".secret.py").write_text("x")
    (project / ".git").mkdir()
    (project / ".git" / "hook.py").write_text("x")
    (project / "node_modules").mkdir()
    (project / "node_modules" / "a.js").write_text("x")
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "e.py").write_text("x")
    (project / "linked").symlink_to(tmp_path / "else")

    assert sorted(code(context(project))) == [".secret.py", "app/__init__.py", "app/errors.py"]


def test_the_lines_of_the_file_are_read_back_as_they_were_written():
    rows = [("One rule", "a/b.py"), ("Two (or three) rules", ""), ("A rule (see elsewhere)", "c.py")]

    assert known(updated("", {}, rows)) == rows
    assert known("") == []
    assert observed(rows, [], {"a/b.py", "c.py"})[0] == rows
    assert one_line("  a\n\n b  ") == "a b"


def test_a_file_that_is_no_text_or_too_large_is_refused(project):
    (project / "PATTERNS.md").write_bytes(b"\xff\xfe")
    with pytest.raises(ToolError, match="UTF-8"):
        update(project)
    (project / "PATTERNS.md").write_bytes(b"x" * (patterns_file.reading.LARGEST + 1))
    with pytest.raises(ToolError, match="too large"):
        update(project)
