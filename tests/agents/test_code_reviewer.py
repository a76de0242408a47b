"""The reviewer points at real lines, never runs what it reads, and says what it could not do."""

from __future__ import annotations

import json
import subprocess

import pytest

from agent_core import card
from agent_core.errors import Failed
from agents.code_reviewer import agent, pieces, readable, review_offline

DIFF = """diff --git a/app.py b/app.py
index 1111111..2222222 100644
--- a/app.py
+++ b/app.py
@@ -10,4 +10,6 @@ def old():
     def run(self, name):
-        return None
+        if name == None:
+            raise ValueError
         self.done()
+        return eval(name)
     other = 1
@@ -40,2 +42,2 @@
-x = 1
+x = 1; import os
 y = undefined
diff --git a/new.py b/new.py
new file mode 100644
--- /dev/null
+++ b/new.py
@@ -0,0 +1,3 @@
+import json
+
+print(missing)
diff --git a/gone.py b/gone.py
--- a/gone.py
+++ /dev/null
@@ -1,1 +0,0 @@
-import os
diff --git a/app.js b/app.js
--- a/app.js
+++ b/app.js
@@ -1,1 +1,1 @@
-a
+eval(a)
"""


def rules(review):
    return {(issue["file"], issue["line"], issue["message"].rpartition("(")[2].rstrip(")")) for issue in review["issues"]}


def test_findings_of_a_diff_stand_at_the_new_files_lines_and_only_on_what_was_added():
    review = review_offline("review this", [("stdin", DIFF)])

    found = rules(review)
    assert ("app.py", 11, "E711") in found
    assert ("app.py", 14, "S307") in found
    assert ("app.py", 42, "E702") in found
    assert not any(line == 43 for _, line, _ in found)
    assert {("new.py", 1, "F401"), ("new.py", 3, "F821")} <= found
    assert not any(file in {"gone.py", "app.js"} for file, _, _ in found)


def test_a_review_without_a_model_says_so_and_names_what_it_left_out():
    review = review_offline("", [("stdin", DIFF)])

    assert review["suggestions"][0] == "Reviewed without a model: these are linter findings only."
    assert any(note.startswith("app.js: not reviewed") for note in review["suggestions"])
    assert 0 <= review["score"] < 100


def test_a_part_that_is_no_program_on_its_own_is_left_out_and_named():
    diff = "--- a/x.py\n+++ b/x.py\n@@ -5,2 +5,3 @@\n     )\n+    eval(y)\n else:\n"

    with pytest.raises(Failed, match="review the whole file"):
        review_offline("", [("stdin", diff)])


def test_a_diff_that_adds_nothing_is_reviewed_and_found_clean():
    review = review_offline("", [("stdin", "--- a/x.py\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-eval(x)\n")])

    assert review["issues"] == []
    assert "The diff adds nothing." in review["suggestions"]


@pytest.mark.parametrize("text", ["hello there", "", "Please review my code.", "{]", "1 2 3"])
def test_what_is_no_code_needs_a_model(text):
    with pytest.raises(Failed, match="without a model"):
        review_offline(text, [])


def test_code_without_a_name_is_python_if_it_reads_like_it():
    assert rules(review_offline("import os\n", [])) == {("stdin", 1, "F401")}
    assert review_offline("x = 1\n", [])["score"] == 100
    assert review_offline("def f(:\n", [])["issues"][0]["category"] == "correctness"


@pytest.mark.parametrize(
    "diff",
    [
        "--- a\n+++ b\n@@ -1 +999999999,999999999 @@\n+x", "--- a\n+++ b\n@@ -1,1 +1,0 @@\n", "--- a\n+++ b\n@@ @@\n+x",
        "diff --git a b\n", "+++ b.py\n@@ -1 +1 @@\n+x\n", "--- a\n+++ b\tdate\n@@ -0,0 +1 @@\n+x = 1\n\\ No newline at end of file\n",
        "--- a\n+++ b.py\n@@ -1 +1 @@\n+\x00\x1b[31m\n",
    ],
)  # fmt: skip
def test_a_strange_diff_is_cut_up_without_a_complaint(diff):
    assert all(piece.added <= set(piece.lines) for piece in pieces("stdin", diff))


def run(run_agent, tmp_path, *args, reply=None, stdin=DIFF):
    if reply is not None:
        (tmp_path / "replies.jsonl").write_text("".join(json.dumps(each) + "\n" for each in reply))
        args = ("--provider", "scripted", "--script", "replies.jsonl", *args)
    return run_agent("code-reviewer", "--json", *args, stdin=stdin)


REVIEW = {
    "issues": [{"severity": "medium", "category": "style", "file": "app.py", "line": 3, "message": "odd", "suggestion": ""}],
    "suggestions": ["split it"],
    "score": 81,
}


def test_a_models_review_is_checked_and_handed_over_as_data(run_agent, tmp_path):
    done = run(run_agent, tmp_path, reply=["Here it is:\n```json\n" + json.dumps(REVIEW) + "\n```"])

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"]["structuredContent"] == REVIEW


def test_a_review_that_breaks_the_contract_goes_back_with_every_problem(run_agent, tmp_path):
    bad = {"issues": [{"severity": "awful", "category": "style", "message": ""}], "score": 101}
    done = run(run_agent, tmp_path, reply=[{"json": bad}, {"json": REVIEW, "expect": "score"}])

    assert json.loads(done.stdout)["data"]["structuredContent"] == REVIEW
    assert run(run_agent, tmp_path, reply=[{"json": bad}] * 3).returncode == 76


@pytest.mark.parametrize(("limit", "status"), [("low", 3), ("medium", 3), ("high", 0), ("critical", 0)])
def test_fail_on_ends_with_status_3_from_that_severity_on(run_agent, tmp_path, limit, status):
    done = run(run_agent, tmp_path, "--fail-on", limit, reply=[{"json": REVIEW}])

    assert done.returncode == status
    assert json.loads(done.stdout)["data"]["structuredContent"] == REVIEW


def test_an_unknown_severity_is_a_usage_error(run_agent, tmp_path):
    assert run(run_agent, tmp_path, "--fail-on", "awful").returncode == 2


def test_the_model_may_run_the_linter_on_code_it_was_given(run_agent, tmp_path):
    call = {"tool_calls": [{"name": "run_linter", "arguments": {"code": "import os\n", "filename": "a.py"}}]}
    done = run(run_agent, tmp_path, reply=[call, {"json": REVIEW, "expect": "F401"}])

    assert done.returncode == 0, done.stderr


def test_the_reviewed_project_is_neither_run_nor_asked_how_to_be_judged(run_agent, tmp_path):
    subprocess.run(["/usr/bin/git", "init", "-q", str(tmp_path)], check=False)
    (tmp_path / "ruff.toml").write_text('lint.ignore = ["ALL"]\n')
    (tmp_path / "pyproject.toml").write_text('[tool.ruff.lint]\nignore = ["ALL"]\n')
    (tmp_path / "ruff.py").write_text("open('ran', 'w')\n")
    (tmp_path / "sitecustomize.py").write_text("open('ran', 'w')\n")
    code = "# ruff: noqa\nimport os  # noqa\nopen('ran', 'w')\n"
    (tmp_path / "conftest.py").write_text(code)

    done = run(run_agent, tmp_path, "--provider", "offline", "-f", "conftest.py", stdin=None)

    assert ("conftest.py", 2, "F401") in rules(json.loads(done.stdout)["data"]["structuredContent"])
    assert not (tmp_path / "ran").exists()


def test_a_readable_review_lists_the_worst_first_and_ends_with_the_score():
    worst = {**REVIEW["issues"][0], "severity": "critical", "line": None, "suggestion": "do not"}

    assert readable({**REVIEW, "issues": [*REVIEW["issues"], worst]}).splitlines() == [
        "app.py:0: critical style: odd", "    do not", "app.py:3: medium style: odd", "note: split it", "score: 81/100",
    ]  # fmt: skip
    assert readable({"issues": [], "suggestions": [], "score": 100}) == "no issues found\nscore: 100/100"


def test_the_reply_model_is_the_contract_of_the_card():
    from agents import code_reviewer

    schema = code_reviewer.Review.model_json_schema()
    assert set(schema["properties"]) == {"issues", "suggestions", "score"}
    assert agent.name == "code-reviewer"
    assert callable(card.view)
