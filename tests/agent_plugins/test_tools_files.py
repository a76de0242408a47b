"""The file tools on real files."""

from __future__ import annotations

import time

import pytest

from agent_core.policy import Policy
from agent_core.tool import Context, ToolError
from agent_plugins.tools.files import MAX_TEXT, file_edit, file_list, file_read, file_search, file_write


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def context(folder):
    (folder / "src" / "deep").mkdir(parents=True)
    (folder / "src" / "a.py").write_text("import os\nx = 1  # TODO\n")
    (folder / "src" / "deep" / "b.py").write_text("y = 2\n")
    (folder / "notes.txt").write_text("one\ntwo\nthree")
    (folder / "data.bin").write_bytes(b"\0\1TODO")
    return Context(Policy.of(["file-read:.", "file-write:."], workspace=str(folder)), str(folder))


def failing(call, kind):
    with pytest.raises(ToolError) as caught:
        call()
    assert caught.value.kind == kind
    return str(caught.value)


def test_a_file_is_read_whole_or_by_lines(context):
    assert file_read("notes.txt", context) == "one\ntwo\nthree"
    assert file_read("notes.txt", context, offset=2, limit=1) == "two\n[lines 2 to 2 of 3; go on with offset=3]"
    assert file_read("notes.txt", context, offset=3) == "three"
    assert file_read("notes.txt", context, offset=9) == "[the file has 3 lines]"


def test_a_long_file_is_cut_and_says_where_to_go_on(context):
    context.open_write("long.txt", b"0123456789\n" * 20_000)

    text = file_read("long.txt", context)

    assert len(text) < MAX_TEXT + 100
    assert text.endswith("offset=4470]")
    assert file_read("long.txt", context, offset=20_000) == "0123456789\n"


def test_missing_binary_and_folder_say_so(context):
    assert failing(lambda: file_read("none.txt", context), "not_found") == "none.txt: no such file or folder"
    assert "binary" in failing(lambda: file_read("data.bin", context), "invalid")
    assert "folder" in failing(lambda: file_read("src", context), "permanent")
    failing(lambda: file_list(context, "notes.txt"), "permanent")


def test_a_folder_is_listed_with_patterns(context):
    assert file_list(context) == "data.bin\nnotes.txt\nsrc/"
    assert file_list(context, "src", "*.py") == "a.py"
    assert file_list(context, ".", "**/*.py") == "src/a.py\nsrc/deep/b.py"
    assert file_list(context, "src", "*.c") == "[nothing in src matches *.c]"


def test_links_are_listed_but_never_followed_by_a_search(context, folder):
    (folder / "src" / "loop").symlink_to(folder)
    (folder / "out.py").symlink_to("/etc/passwd")

    assert "out.py" in file_list(context)
    assert file_search("root", context) == "[no match]"


def test_a_search_finds_lines_in_text_files(context):
    assert file_search("TODO", context) == "src/a.py:2:x = 1  # TODO"
    assert file_search(r"^[xy] = \d+", context, "src") == "src/a.py:2:x = 1  # TODO\nsrc/deep/b.py:1:y = 2"
    assert file_search("two", context, "notes.txt") == "notes.txt:2:two"
    assert file_search("a(b", context) == "[no match]"
    failing(lambda: file_search("", context), "invalid")
    failing(lambda: file_search("x", context, "nowhere"), "not_found")


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|a)*b",
        "(a?){50}a{50}",
        "a*a*a*a*a*b",
        "(.*)(.*)(.*)(.*)x",
        r"(a)\1*",
        "a?" * 30 + "a" * 30,
        "((a{1,9}){1,9}){1,9}b",
    ],
)
def test_no_pattern_of_a_model_can_hang_a_search(context, pattern):
    context.open_write("evil.txt", b"a" * 5000)
    began = time.monotonic()

    failing(lambda: file_search(pattern, context), "invalid")

    assert time.monotonic() - began < 1


def test_a_search_stops_at_the_deadline(context):
    context.open_write("many.txt", b"line\n" * 100_000)
    late = Context(context.policy, context.workspace, deadline=time.monotonic())

    failing(lambda: file_search("nothing", late), "transient")


def test_writing_and_editing_change_exactly_that(context, folder):
    assert file_write("new/x.txt", "héllo\n", context) == "wrote 7 bytes to new/x.txt"
    assert file_edit("new/x.txt", "héllo", "bye", context) == "replaced 1 occurrence in new/x.txt"
    assert (folder / "new/x.txt").read_text() == "bye\n"
    assert "does not occur" in failing(lambda: file_edit("new/x.txt", "nope", "y", context), "not_found")
    context.open_write("two.txt", b"a a")
    assert "occurs 2 times" in failing(lambda: file_edit("two.txt", "a", "b", context), "invalid")
    failing(lambda: file_edit("two.txt", "", "b", context), "invalid")
    context.open_write("latin.txt", b"\xff a")
    assert "UTF-8" in failing(lambda: file_edit("latin.txt", "a", "b", context), "invalid")
    assert (folder / "latin.txt").read_bytes() == b"\xff a"


def test_nothing_is_touched_without_a_grant(tmp_path):
    (tmp_path / "a").write_text("a")
    bare = Context(Policy.of([], workspace=str(tmp_path)), str(tmp_path))

    for call in (
        lambda: file_read("a", bare), lambda: file_list(bare), lambda: file_search("a", bare), lambda: file_write("a", "b", bare),
        lambda: file_edit("a", "a", "b", bare),
    ):  # fmt: skip
        assert "--allow file-" in failing(call, "denied")
    assert (tmp_path / "a").read_text() == "a"
