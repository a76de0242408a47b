"""Linters find, and never execute."""

from __future__ import annotations

import dataclasses

import pytest

from agent_core.policy import Policy
from agent_core.tool import Context, ToolError
from agent_plugins.linters import lint, run_linter


def context(tmp_path, *allow, **linters):
    return Context(policy=Policy.of(allow, workspace=str(tmp_path)), workspace=str(tmp_path), settings={"linters": linters})


@pytest.mark.parametrize(
    ("code", "rule", "category", "severity"),
    [
        ("import os\n", "F401", "style", "low"),
        ("print(x)\n", "F821", "correctness", "high"),
        ("def f(a=[]):\n    return a\n", "B006", "correctness", "medium"),
        ("import os\nos.system(input())\n", "S605", "security", "critical"),
        ("password = 'hunter2'\n", "S105", "security", "high"),
        ("if a == None:\n    a = 1\n", "E711", "style", "low"),
        ("def f(a, b):\n    if a:\n        if b:\n            return 1\n", "SIM102", "style", "low"),
        ("r = []\nfor x in r:\n    if x:\n        r.append(x)\n", "PERF401", "performance", "low"),
        ("def f(:\n", "invalid-syntax", "correctness", "high"),
    ],
)
def test_a_finding_has_a_category_and_a_severity(code, rule, category, severity):
    found = [finding for finding in lint(code, "a.py") if finding.rule == rule]

    assert found
    assert (found[0].category, found[0].severity) == (category, severity)


def test_clean_code_has_no_findings():
    assert lint('"""A module."""\n', "a.py") == []
    assert lint("", "a.py") == []


@pytest.mark.parametrize("name", ["-c.py", "../../etc/x.py", "a b.py", "\n.py", "--config=evil.py"])
def test_a_files_name_is_never_an_option_or_a_path(name):
    assert lint("import os\n", name)[0].rule == "F401"


@pytest.mark.parametrize("code", ["\x00", "\ud800 = 1", "é = 1\n", "\r\n\r\n", "(" * 5000])
def test_hostile_code_gives_findings_or_none_but_no_crash(code):
    assert isinstance(lint(code, "a.py"), list)


def test_a_file_without_a_linter_is_said_to_have_none(tmp_path):
    with pytest.raises(ToolError, match=r"no linter is known for \.zig files") as caught:
        lint("x", "a.zig", context(tmp_path))
    assert caught.value.kind == "not_found"


def test_a_configured_linter_needs_a_grant_for_its_program(tmp_path):
    checker = tmp_path / "check"
    checker.write_text("#!/bin/sh\ncat >/dev/null\necho 'stdin:3:7: error: bad thing'\necho 'stdin:1: odd'\n")
    checker.chmod(0o755)

    with pytest.raises(ToolError) as caught:
        lint("x", "a.zig", context(tmp_path, zig=[str(checker)]))
    assert caught.value.kind == "denied"
    assert [dataclasses.astuple(each)[:4] for each in lint("x", "a.zig", context(tmp_path, "shell", zig=[str(checker)]))] == [
        (1, 1, "", "odd"),
        (3, 7, "", "error: bad thing"),
    ]


def test_a_configured_linter_that_is_not_there_is_reported(tmp_path):
    with pytest.raises(ToolError, match="not installed"):
        lint("x", "a.zig", context(tmp_path, "shell", zig=["/no/such/linter"]))


def test_a_linter_that_hangs_is_stopped_at_the_deadline(tmp_path):
    hurried = dataclasses.replace(context(tmp_path, "shell", zig=["sleep", "60"]), deadline=0.0)

    with pytest.raises(ToolError) as caught:
        lint("x", "a.zig", hurried)
    assert caught.value.kind == "transient"


def test_many_findings_are_cut_with_a_note(tmp_path):
    found = run_linter("import os\n" * 300, "a.py", context(tmp_path))

    assert len(found["findings"]) == 200
    assert "first 200 of" in found["note"]
