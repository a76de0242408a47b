"""Comments and baselines that accept, fingerprints that stay, secrets that never show, and the files of a folder."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess

import pytest

from agent_core.errors import InputError, MissingInput
from agent_core.policy import Policy
from agent_core.tool import Context, ToolError
from agent_plugins.scanning import baseline, engine, report, sources, tools
from agent_plugins.scanning.engine import Options, scan_diff, scan_text
from agent_plugins.scanning.languages import code_view, is_exempt, language_of
from agent_plugins.scanning.secret_checks import entropy

TOKEN = "sk_live_" + "Zq8Xw2Lm9Rt4Kp7Vb3Nc6Hd1"
CALL = "import os\nos.system('ls ' + x)"


def context(folder, *allow):
    return Context(Policy.of([f"file-read:{each}" for each in allow or (folder,)], workspace=str(folder)), str(folder))


def accepted(text, path="a.py"):
    scan = scan_text(path, text)
    return [(each.rule, each.accepted) for each in scan.findings], list(scan.notes)


# -- comments


def test_a_comment_with_a_reason_accepts_the_rule_it_names_on_its_line_and_on_the_next():
    reason = "the words come from our table"
    same = f"{CALL}  # security: ignore[python-shell] {reason}\n"
    above = f"import os\n# security: ignore[python-shell] {reason}\nos.system('ls ' + x)\n"

    for text in (same, above):
        assert accepted(text) == ([("python-shell", reason)], [])


def test_other_comment_marks_count_too():
    assert accepted("eval(x); // security: ignore[js-eval] our own expression\n", "a.js")[0] == [("js-eval", "our own expression")]
    assert accepted("gets(x); /* security: ignore[c-gets] never called */\n", "a.c")[0] == [("c-gets", "never called")]


@pytest.mark.parametrize(
    ("comment", "said"),
    [
        ("# security: ignore[python-shell]", "without a reason"),
        ("# security: ignore[python-shell] -- ok", "without a reason"),
        ("# security: ignore[python-eval] some good reason", ""),
        ("# security: ignore[python-shel] some good reason", "no rule python-shel"),
        ("# security: ignore[*] some good reason", ""),
        ("# nosec", ""),
    ],
)
def test_a_comment_without_reason_or_for_another_rule_accepts_nothing(comment, said):
    found, notes = accepted(f"{CALL}  {comment}\n")

    assert found == [("python-shell", "")]
    assert said in " ".join(notes)


def test_a_comment_beside_code_does_not_accept_the_next_line():
    text = "import os\ny = 1  # security: ignore[python-shell] some good reason\nos.system('ls ' + x)\n"

    assert accepted(text)[0] == [("python-shell", "")]


def test_comments_can_be_left_unheeded_and_rules_switched_off():
    text = f"{CALL}  # security: ignore[python-shell] some good reason\n"

    assert scan_text("a.py", text, Options(heed_comments=False)).findings[0].accepted == ""
    assert scan_text("a.py", text, Options(disabled=frozenset({"python-shell"}))).findings == ()


def test_a_comment_in_a_diffs_context_counts():
    text = "--- a/x.py\n+++ b/x.py\n@@ -1,1 +1,2 @@\n # security: ignore[python-eval] our own expression\n+eval(x)\n"

    assert [each.accepted for each in scan_diff(text).findings] == ["our own expression"]


# -- fingerprints and baselines


def marks(text, path="a.py"):
    return [each.fingerprint for each in scan_text(path, text).findings]


def test_a_fingerprint_survives_moved_lines_and_changes_with_rule_path_line_and_secret():
    first = marks(f"{CALL}\n")

    assert marks(f"\n\n\n{CALL}\n") == first
    assert marks(f"{CALL}\n", "b.py") != first
    assert marks(CALL.replace("x)", "y)") + "\n") != first
    assert marks(f"t = '{TOKEN}'\n") != marks(f"t = '{TOKEN[:-1]}9'\n")


def test_equal_lines_have_fingerprints_of_their_own():
    found = marks(f"{CALL}\nos.system('ls ' + x)\n")

    assert len(set(found)) == 2


def test_a_baseline_accepts_what_it_holds_and_nothing_new(tmp_path):
    path = str(tmp_path / "known.json")
    assert baseline.write(path, scan_text("a.py", f"{CALL}\n").findings) == 1

    now = baseline.accept(scan_text("a.py", f"# moved\n{CALL}\neval(y)\n").findings, baseline.read(path))

    assert sorted((each.rule, each.by) for each in now) == [("python-eval", ""), ("python-shell", "baseline")]


def test_a_baseline_tells_no_secret_and_holds_too_little_to_guess_one(tmp_path):
    text = baseline.text_of(scan_text("a.py", f"password = '{TOKEN}'\n").findings)

    assert TOKEN[8:] not in text
    assert set(json.loads(text)["findings"][0]) == {"fingerprint", "rule", "path"}
    # twelve bits of the secret's hash: of some thousand guesses one has the same fingerprint
    guesses = [f"sk_live_Zq8Xw2Lm9Rt4Kp7Vb3{number:06d}x" for number in range(20_000)]
    alike = [each for each in guesses if hashlib.blake2b(each.encode()).hexdigest()[:3] == "a5c"]
    assert len({marks(f"p = '{each}'\n")[0] for each in alike}) == 1 < len(alike)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": "security-baseline/1", "findings": [1]}', "[" * 100_000, '{"schema": "x", "findings": []}']
)
def test_a_file_that_is_no_baseline_is_refused(tmp_path, text):
    path = tmp_path / "known.json"
    path.write_text(text)

    with pytest.raises(InputError, match="no baseline"):
        baseline.read(str(path))
    with pytest.raises(MissingInput):
        baseline.read(str(tmp_path / "none.json"))


# -- what is shown


def test_no_output_holds_a_secret_also_not_beside_another_finding():
    text = f"import os\nos.system('x ' + y); t = '{TOKEN}'; u = '{TOKEN}'\n"
    scan = engine.joined([scan_text("a.py", text)])

    assert {each.rule for each in scan.findings} == {"python-shell", "stripe-key"}
    for shown in (repr(scan), report.lines(scan), json.dumps(report.value(scan))):
        assert TOKEN[8:] not in shown
        assert TOKEN[-8:] not in shown


def test_an_accepted_or_baselined_secret_is_masked_as_well():
    text = f"t = '{TOKEN}'  # security: ignore[stripe-key] revoked last year\n"

    assert TOKEN[8:] not in repr(scan_text("a.py", text))


def test_control_characters_of_names_and_lines_reach_no_output():
    path = "a\x1b[31m\n/etc/x.py"
    scan = engine.joined([scan_text(path, "eval(x)  # \x1b]0;owned\x07 \u202e\n")])

    assert report.lines(scan).split("\n")[0].startswith("a\\x1b[31m\\n/etc/x.py:1:1 medium python-eval")
    for shown in (report.lines(scan), json.dumps(report.value(scan), ensure_ascii=False)):
        assert not any(letter in shown for letter in "\x1b\x07\u202e")


def test_a_line_that_is_very_long_is_shown_in_part():
    assert len(scan_text("a.py", "eval(x); y = '" + "é" * 50_000 + "'\n").findings[0].excerpt) <= 160


def test_findings_are_ordered_and_numbered():
    scan = engine.joined([scan_text("b.py", "eval(x)\n"), scan_text("a.py", "a = 1\neval(y)\neval(z)\n")])

    assert [(each.id, each.path, each.line) for each in scan.findings] == [("F1", "a.py", 2), ("F2", "a.py", 3), ("F3", "b.py", 1)]
    assert report.summary(scan) == "3 findings (3 medium) in 2 files"


def test_the_same_text_gives_the_same_findings():
    text = f"{CALL}\nt = '{TOKEN}'\n" * 5

    assert scan_text("a.py", text) == scan_text("a.py", text)


# -- languages


def test_languages_are_known_by_name_and_by_first_line():
    known = {
        "a.py": "python",
        "Dockerfile": "dockerfile",
        "x/Dockerfile.dev": "dockerfile",
        ".env.local": "dotenv",
        "go.sum": "lock",
        "a.tsx": "javascript",
    }

    assert {path: language_of(path) for path in known} == known
    assert language_of("run", "#!/usr/bin/env bash\n") == "shell"
    assert language_of("stdin", "def f():\n    pass\n") == "python"
    assert language_of("stdin", "once upon a time\n") == ""


def test_tests_and_examples_are_known_by_name():
    for path in (
        "tests/a.py",
        "a/fixtures/x.json",
        "test_a.py",
        "a_test.go",
        "a.spec.ts",
        ".env.example",
        "config.sample.yml",
        "docs/a.md",
    ):
        assert is_exempt(path), path
    for path in ("src/a.py", "latest/a.py", "contest.py", "attest.go", ".env", "prod.yml", "protest/a.py"):
        assert not is_exempt(path), path


def test_a_view_of_code_keeps_every_character_in_its_place():
    text = "a(\"x // y\"); // z\n/* q\nr */ b('it\\'s'); \"unfinished\nc()\n"
    view = code_view(text, "javascript")

    assert len(view) == len(text)
    assert view.split("\n")[2:] == ["     b('     '); \"          ", "c()", ""]
    assert "x // y" in code_view(text, "javascript", strings=True)


def test_entropy_is_shannons():
    assert entropy("") == 0
    assert entropy("aaaa") == 0
    assert entropy("abcd") == 2


# -- files


def names(folder, wanted=sources.DEFAULT):
    return {each.path: each.skipped for each in sources.folder(".", context(folder), wanted)}


def git(folder, *words):
    argv = ["git", "-c", "user.name=n", "-c", "user.email=e@x", *words]
    subprocess.run(argv, cwd=folder, check=True, capture_output=True)


def test_a_folder_is_read_as_git_would_commit_it(tmp_path):
    for name in ("a.py", "ignored.py", "build/out.py", "sub/b.py", "new.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    (tmp_path / ".gitignore").write_text("ignored.py\nbuild/\nhome/\n")
    git(tmp_path, "init", "-q", ".")
    git(tmp_path, "add", "a.py", "sub")

    assert sorted(names(tmp_path)) == [".gitignore", "a.py", "new.py", "sub/b.py"]
    assert {"ignored.py", "build/out.py"} <= set(names(tmp_path, sources.Wanted(ignored=True)))
    assert sorted(each.path for each in sources.folder("build", context(tmp_path))) == ["build/out.py"]


def test_without_git_everything_is_read_but_what_tools_keep(tmp_path):
    for name in ("a.py", "node_modules/x.js", "__pycache__/y.py", "deep/er/b.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")

    assert sorted(names(tmp_path)) == ["a.py", "deep/er/b.py"]


def test_listing_a_strangers_repository_runs_nothing_of_it(tmp_path):
    git(tmp_path, "init", "-q", ".")
    (tmp_path / "a.py").write_text("x = 1\n")
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    git(tmp_path, "config", "core.fsmonitor", str(hook))
    git(tmp_path, "config", "core.hooksPath", str(tmp_path))

    assert "a.py" in names(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_binary_large_unreadable_and_linked_files_are_left_out_and_said(tmp_path):
    outside = tmp_path / "outside.py"
    outside.write_text("eval(x)\n")
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"a\0b")
    (folder / "b.png").write_bytes(b"text")
    (folder / "large.py").write_text("x" * 100)
    (folder / "link.py").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    (folder / "ok.py").write_text("x = 1\n")

    found = names(folder, sources.Wanted(largest=50))

    assert found == {
        "a.bin": "binary",
        "b.png": "binary",
        "large.py": "larger than 50 bytes",
        "link.py": "link",
        "loop": "link",
        "ok.py": "",
    }
    said = report.skipped([(path, why) for path, why in found.items() if why])
    assert said.notes == ("2 binary files skipped", "2 symbolic links skipped")
    assert said.missed == ("large.py: not scanned, larger than 50 bytes",)


def test_a_folder_that_is_swapped_for_a_link_leads_nowhere(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.py").write_text("eval(x)\n")
    (folder / "sub").symlink_to(tmp_path / "secret")

    with pytest.raises(ToolError, match="outside"):
        list(sources.folder("in/sub", context(tmp_path, folder)))


def test_names_that_are_not_utf8_are_read_and_shown_as_escapes(tmp_path):
    name = os.fsdecode(b"caf\xe9.py")
    (tmp_path / name).write_text("eval(x)\n")
    scans = [scan_text(each.path, each.text) for each in sources.folder(".", context(tmp_path)) if not each.skipped]
    scan = engine.joined(scans)

    assert report.lines(scan).startswith("caf\\xe9.py:1:1 medium python-eval")
    json.dumps(report.value(scan)).encode()


def test_a_name_that_no_file_can_have_is_shown_as_escapes_too():
    scan = engine.joined([scan_text("\ud800.py", "eval(x)\n")])

    assert report.lines(scan).startswith("\\ud800.py:1:1")
    baseline.text_of(scan.findings).encode()


def test_globs_exclude_paths_names_and_folders():
    assert sources.excluded("a/b/c.min.js", ["*.min.js"])
    assert sources.excluded("vendor/x/y.py", ["vendor/"])
    assert sources.excluded("a/vendor/y.py", ["vendor"])
    assert not sources.excluded("a/b.py", ["*.js", "c"])


def test_utf16_is_read_by_its_mark():
    assert sources.text_of("eval(x)\n".encode("utf-16")) == "eval(x)\n"
    assert sources.text_of(b"\xff\xfea") is None
    assert sources.text_of(b"caf\xe9") == "caf\udce9"


# -- the tools


def test_the_tool_reads_only_what_is_granted(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.py").write_text("eval(x)\n")

    found = tools.scan("a", context(tmp_path))
    assert [(each["path"], each["rule"]) for each in found["findings"]] == [("a/x.py", "python-eval")]
    assert tools.scan("a/x.py", context(tmp_path))["counts"] == {"low": 0, "medium": 1, "high": 0}
    with pytest.raises(ToolError, match="denied|needs"):
        tools.scan("..", context(tmp_path))


def test_the_tool_over_text_tells_a_diff_from_a_file():
    diff = "--- a/x.py\n+++ b/x.py\n@@ -1,1 +1,2 @@\n eval(a)\n+eval(b)\n"

    assert [each["line"] for each in tools.scan_text(diff)["findings"]] == [2]
    assert [each["path"] for each in tools.scan_text("eval(x)\n", "y.py")["findings"]] == ["y.py"]


def test_a_tools_answer_is_bounded_and_says_what_is_left_out():
    found = tools.scan_text("".join(f"eval(x{n})\n" for n in range(500)), "a.py")

    assert (len(found["findings"]), found["left_out"]) == (200, 300)
