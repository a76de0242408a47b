"""What a diff adds: right file, right line, nothing but what was added, whatever the diff looks like."""

from __future__ import annotations

import subprocess

import pytest

from agent_plugins.scanning.diffs import added, looks_like_diff
from agent_plugins.scanning.engine import scan_diff


def pieces(text):
    return [(piece.path, sorted(piece.added)) for piece in added(text)]


def git(folder, *words, check=True):
    argv = ["git", "-c", "user.name=n", "-c", "user.email=e@x", "-c", "core.quotepath=on", *words]
    return subprocess.run(argv, cwd=folder, capture_output=True, check=check).stdout.decode("utf-8", "surrogateescape")


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q", ".")
    return folder


def commit(folder):
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "x")


def test_added_lines_have_the_numbers_of_the_new_file():
    text = "--- a/x.py\n+++ b/x.py\n@@ -1,4 +1,5 @@\n a\n-b\n+B\n c\n+C\n d\n@@ -20,2 +21,3 @@\n e\n+f\n g\n"

    assert pieces(text) == [("x.py", [2, 4]), ("x.py", [22])]


def test_findings_are_only_those_of_added_lines():
    text = "--- a/x.py\n+++ b/x.py\n@@ -8,3 +8,3 @@\n import os\n-eval(a)\n+eval(b)\n eval(c)\n"

    assert [(each.path, each.line, each.rule) for each in scan_diff(text).findings] == [("x.py", 9, "python-eval")]


def test_a_call_over_several_lines_counts_where_it_was_changed():
    text = (
        "--- a/x.py\n+++ b/x.py\n@@ -3,5 +3,5 @@ def f(x):\n     subprocess.run(\n"
        "         'ls ' + x,\n-        shell=False,\n+        shell=True,\n     )\n     done()\n"
    )

    assert [(each.line, each.rule) for each in scan_diff(text).findings] == [(5, "python-shell")]


def test_part_of_a_file_that_does_not_parse_on_its_own_is_read_as_far_as_it_can_be():
    lines = [
        "        that), 3]",
        "    else:",
        "        eval(x)",
        "    except KeyError as error:",
        "        os.system(y + z)",
        "    return {",
        "",
    ]
    text = f"--- a/x.py\n+++ b/x.py\n@@ -10,1 +10,{len(lines)} @@\n" + "".join(f"+{line}\n" for line in lines)

    assert {(each.line, each.rule) for each in scan_diff(text).findings} == {(12, "python-eval"), (14, "python-shell")}


def test_a_removed_line_that_looks_like_a_header_is_none():
    text = "--- a/x.py\n+++ b/x.py\n@@ -1,3 +1,3 @@\n---- a/other.py\n-++ b/other.py\n+++ x = 1\n+eval(y)\n z\n"

    assert pieces(text) == [("x.py", [1, 2])]
    assert [(each.path, each.line) for each in scan_diff(text).findings] == [("x.py", 2)]


def test_renames_modes_new_deleted_and_binary_files_of_git(checkout):
    (checkout / "old.py").write_text("import os\n" * 20)
    (checkout / "gone.py").write_text("eval(x)\n")
    (checkout / "run.py").write_text("a = 1\n")
    (checkout / "data.bin").write_bytes(b"\0\1\2" * 50)
    commit(checkout)
    git(checkout, "mv", "old.py", "new.py")
    (checkout / "new.py").write_text("import os\n" * 20 + "os.system('ls ' + x)\n")
    (checkout / "gone.py").unlink()
    (checkout / "run.py").chmod(0o755)
    (checkout / "data.bin").write_bytes(b"\0\3" * 90)
    (checkout / "fresh.py").write_text("eval(y)")
    git(checkout, "add", "-A")

    for extra in ((), ("--binary",), ("-U0",), ("--no-prefix",), ("--color=always",), ("--full-index", "-M90%")):
        scan = scan_diff(git(checkout, "diff", "--cached", *extra))
        assert [(each.path, each.line, each.rule) for each in scan.findings] == [
            ("fresh.py", 1, "python-eval"), ("new.py", 21, "python-shell"),
        ], extra  # fmt: skip
        assert len(scan.notes) == 1
        assert scan.missed == ()


def test_names_with_spaces_quotes_tabs_newlines_and_bytes_that_are_no_utf8(checkout):
    names = ["a b.py", 'q"q.py', "tab\tx.py", "line\nx.py", "ünï.py", b"raw\xff.py".decode("utf-8", "surrogateescape"), "b/deep.py"]
    (checkout / "b").mkdir()
    for name in names:
        (checkout / name).write_text("eval(x)\n")
    git(checkout, "add", "-A")

    for extra in ((), ("--no-prefix",)):
        assert sorted(each.path for each in scan_diff(git(checkout, "diff", "--cached", *extra)).findings) == sorted(names), extra


def test_mnemonic_prefixes_are_no_folders(checkout):
    (checkout / "x.py").write_text("a = 1\n")
    commit(checkout)
    (checkout / "x.py").write_text("eval(x)\n")

    assert pieces(git(checkout, "-c", "diff.mnemonicPrefix=true", "diff")) == [("x.py", [1])]


def test_crlf_and_a_missing_end_of_line(checkout):
    (checkout / "x.py").write_bytes(b"a = 1\r\nb = 2\r\n")
    commit(checkout)
    (checkout / "x.py").write_bytes(b"a = 1\r\neval(x)\r\nos.system(y)")
    text = git(checkout, "diff")

    assert "\\ No newline at end of file" in text
    for shown in (text, text.replace("\r\n", "\n").replace("\n", "\r\n")):
        assert sorted((each.line, each.column, each.rule) for each in scan_diff(shown).findings) == [
            (2, 1, "python-eval"), (3, 1, "python-shell"),
        ]  # fmt: skip


def test_the_combined_diff_of_a_merge(checkout):
    (checkout / "x.py").write_text("a = 1\nb = 2\n")
    commit(checkout)
    git(checkout, "checkout", "-qb", "side")
    (checkout / "x.py").write_text("a = 3\nb = 2\n")
    commit(checkout)
    git(checkout, "checkout", "-q", "-")
    (checkout / "x.py").write_text("a = 4\nb = 2\n")
    commit(checkout)
    git(checkout, "merge", "-q", "side", check=False)
    (checkout / "x.py").write_text("a = 5\neval(x)\nb = 2\n")
    git(checkout, "add", "-A")
    git(checkout, "commit", "-qm", "merge")
    text = git(checkout, "show", "--cc")

    assert "@@@" in text
    assert [(each.path, each.line, each.rule) for each in scan_diff(text).findings] == [("x.py", 2, "python-eval")]


def test_diff_u_and_mail_around_a_diff():
    text = (
        "From: somebody\nSubject: [PATCH] x\n\n+1 from me\n---\n x.py | 1 +\n\n--- x.py\t2026-01-01 00:00:00 +0000\n"
        "+++ x.py\t2026-01-02 00:00:00 +0000\n@@ -1 +1,2 @@\n a = 1\n+eval(x)\n-- \n2.40\n"
    )

    assert [(each.path, each.line) for each in scan_diff(text).findings] == [("x.py", 2)]
    assert scan_diff(text).missed == ()


def test_a_folder_named_like_a_prefix_keeps_its_name():
    text = "diff --git {}/x.py b/x.py\n--- /dev/null\n+++ b/x.py\n@@ -0,0 +1 @@\n+eval(x)\n"

    assert [path for path, _ in pieces(text.format("a"))] == ["x.py"]
    assert [path for path, _ in pieces(text.format("b"))] == ["b/x.py"]
    assert [path for path, _ in pieces("--- old.py\n+++ new/b.py\n@@ -1 +1 @@\n-a\n+eval(x)\n")] == ["new/b.py"]


def test_a_hunk_that_lies_about_its_length_is_reported():
    longer = "--- a/x.py\n+++ b/x.py\n@@ -0,0 +1 @@\n+a = 1\n+eval(x)\n"
    shorter = "--- a/x.py\n+++ b/x.py\n@@ -0,0 +1,999999999 @@\n+eval(x)\ndiff --git a/y.py b/y.py\n--- a/y.py\n+++ b/y.py\n@@ -0,0 +1 @@\n+eval(y)\n"

    assert "longer than it says" in scan_diff(longer).missed[0]
    assert "shorter than it says" in scan_diff(shorter).missed[0]
    assert [(each.path, each.line) for each in scan_diff(shorter).findings] == [("x.py", 1), ("y.py", 1)]


def test_prose_is_no_diff():
    for text in ("--- a heading\n\ntext\n", "x = 1\n- y\n+ z\n", "", "+++ b/x\n"):
        assert not looks_like_diff(text)


def test_headers_made_of_escapes_end():
    for text in ('+++ "' + "\\" * 50_000, "diff --git " + '"' * 100_000, "@@ " + "-1 " * 50_000 + "@@\n", "@@ -1 +1 @@\n" * 20_000):
        list(added(f"--- a\n{text}\n+x\n"))
