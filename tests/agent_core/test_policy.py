"""Policy: deny by default, exact rules, and openings that nobody can redirect."""

from __future__ import annotations

import os
import shlex
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core import beneath
from agent_core.errors import UsageError
from agent_core.policy import (
    Policy,
    authority,
    canonical,
    decide,
    host_of,
    is_private_name,
    is_public,
    parse_grant,
    programs,
    runs_later,
)
from agent_core.tool import Context, ToolError, tool


@tool(needs={"file-read": "path"})
def reader(path: str, context: Context) -> str:
    return context.open_read(path).decode()


@tool(needs={"file-write": "path"})
def writer(path: str, context: Context) -> None:
    context.open_write(path, b"new")


@tool(needs={"network": "url"})
def fetcher(url: str) -> str:
    return url


@tool(needs={"shell": "command"})
def runner(command: str) -> str:
    return command


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    (folder / "docs" / "deep").mkdir(parents=True)
    (folder / "notes.txt").write_text("note")
    (folder / "docs" / "a.txt").write_text("a")
    (tmp_path / "secret").write_text("secret")
    return folder


def policy(work: Path, *allow: str, deny: tuple[str, ...] = (), yes: bool = False) -> Policy:
    return Policy.of(allow, deny, yes=yes, workspace=str(work))


def verdict(work, rules, used, path):
    return decide(rules, used, {"path": path}, str(work))


def refused(work, rules, path, used=reader):
    """Return whether both the decision and the opening refuse."""
    denial = verdict(work, rules, used, path)
    with pytest.raises(ToolError) as caught:
        used.function(path=path, context=Context(rules, str(work)))
    assert caught.value.kind == "denied"
    return denial is not None


def test_nothing_is_granted_by_default_and_the_denial_names_the_rule_that_would(work):
    denial = verdict(work, policy(work), reader, "notes.txt")

    assert (denial.reason, denial.rule) == ("reader needs file-read:notes.txt", "--allow file-read:notes.txt")
    assert not denial.ask
    assert verdict(work, policy(work, "file-read:notes.txt"), reader, "notes.txt") is None


@pytest.mark.parametrize(
    "path", ["notes.txt", "docs/a.txt", "docs/../notes.txt", "~odd name.txt", "../secret", "/etc/hostname", "docs"]
)
@pytest.mark.parametrize("used", [reader, writer], ids=str)
def test_the_rule_of_a_denial_permits_exactly_that(work, path, used):
    denial = verdict(work, policy(work), used, path)

    rule = shlex.split(denial.rule)[1]

    assert verdict(work, policy(work, rule), used, path) is None
    assert verdict(work, policy(work, rule), used, "other.txt") is not None


def test_a_folder_grant_covers_what_is_beneath_and_nothing_else(work):
    rules = policy(work, "file-read:docs")

    assert reader.function(path="docs/a.txt", context=Context(rules, str(work))) == "a"
    assert reader.function(path=str(work / "docs/a.txt"), context=Context(rules, str(work))) == "a"
    for path in (
        "notes.txt",
        "docs/../notes.txt",
        "../secret",
        "docs/../../secret",
        "/etc/passwd",
        "docsx",
        "",
        "/",
        "//etc/passwd",
    ):
        assert refused(work, rules, path)


def test_a_grant_is_for_one_capability(work):
    assert refused(work, policy(work, "file-read:."), "notes.txt", writer)
    assert refused(work, policy(work, "file-write:."), "notes.txt", reader)


@pytest.mark.parametrize("link", ["link", "docs/deep/link"])
@pytest.mark.parametrize("target", ["file", "folder", "absolute inside"])
def test_a_link_that_leads_outside_is_refused(work, link, target):
    goal = {"file": work.parent / "secret", "folder": work.parent, "absolute inside": work.parent / "secret"}[target]
    (work / link).symlink_to(goal)
    path = f"{link}/secret" if target == "folder" else link

    assert refused(work, policy(work, "file-read:."), path)
    assert refused(work, policy(work, "file-write:."), path, writer)
    assert (work.parent / "secret").read_text() == "secret"


def test_a_link_that_stays_inside_may_be_read_but_not_written_through(work):
    (work / "link").symlink_to("docs/a.txt")
    rules = policy(work, "file-read:.", "file-write:.")

    assert reader.function(path="link", context=Context(rules, str(work))) == "a"
    assert refused(work, rules, "link", writer)


def test_a_grant_that_names_a_link_grants_what_it_was_when_it_was_given(work):
    (work / "link").symlink_to(work.parent / "secret")
    rules = policy(work, "file-read:link")

    assert reader.function(path="link", context=Context(rules, str(work))) == "secret"
    (work / "link").unlink()
    (work / "link").symlink_to("/etc/passwd")
    assert reader.function(path="link", context=Context(rules, str(work))) == "secret"


def test_a_single_file_grant_writes_that_file_only(work):
    rules = policy(work, "file-write:new/notes.txt", "file-write:fresh.txt")
    context = Context(rules, str(work))

    writer.function(path="fresh.txt", context=context)
    assert (work / "fresh.txt").read_bytes() == b"new"
    assert refused(work, rules, "fresh.txt.bak", writer)
    assert refused(work, rules, ".", writer)
    with pytest.raises(ToolError) as caught:  # the folder above was not granted
        writer.function(path="new/notes.txt", context=context)
    assert caught.value.kind == "not_found"


def test_a_folder_grant_makes_folders_beneath_it(work):
    context = Context(policy(work, "file-write:out"), str(work))

    writer.function(path="out/a/b/c.txt", context=context)

    assert (work / "out/a/b/c.txt").read_bytes() == b"new"
    assert os.listdir(work / "out/a/b") == ["c.txt"]


def test_writing_keeps_the_mode_and_replaces_in_one_step(work):
    path = work / "notes.txt"
    path.chmod(0o640)
    old = path.open()

    writer.function(path="notes.txt", context=Context(policy(work, "file-write:."), str(work)))

    assert (path.read_bytes(), path.stat().st_mode & 0o777, old.read()) == (b"new", 0o640, "note")
    assert sorted(os.listdir(work)) == ["docs", "notes.txt"]


def test_a_deny_rule_wins_over_every_grant(work):
    (work / "docs" / "link").symlink_to("deep")
    (work / "docs" / "deep" / "x").write_text("x")
    rules = policy(
        work, "file-read", "file-read:docs/deep/x", "network", "shell", deny=("file-read:docs/deep", "network:evil.org", "shell:rm")
    )

    assert reader.function(path="docs/a.txt", context=Context(rules, str(work))) == "a"
    for path in ("docs/deep/x", "docs/link/x", "./docs//deep/../deep/x", str(work / "docs/deep/x")):
        assert refused(work, rules, path)
    assert decide(rules, fetcher, {"url": "http://evil.org:81/x"}) is not None
    assert decide(rules, runner, {"command": "ls; /bin/rm x"}) is not None
    assert decide(rules, runner, {"command": "$(echo rm) x"}) is not None
    assert decide(rules, runner, {"command": "ls"}) is None


LATER = [
    ".git/hooks/pre-commit", ".git/config", "sub/.git/hooks/post-checkout", ".GIT/hooks/x", ".envrc", "AGENTS.md", "docs/agents.MD", "CLAUDE.md",
    ".vscode/tasks.json", ".idea/workspace.xml", ".github/workflows/ci.yml", ".husky/pre-push", ".bashrc", "x/sitecustomize.py", "agents.toml", "a.pth",
]  # fmt: skip


@pytest.mark.parametrize("path", LATER)
def test_files_that_run_later_are_written_only_when_a_grant_names_them(work, path):
    assert runs_later(path)
    for rules in (policy(work, "file-write:."), policy(work, "file-write"), policy(work, "file-write:.", yes=True)):
        assert refused(work, rules, path, writer)
        assert verdict(work, policy(work, "file-read:."), reader, path) is None

    denial = verdict(work, policy(work, "file-write:."), writer, path)
    assert verdict(work, policy(work, shlex.split(denial.rule)[1]), writer, path) is None


def test_a_link_in_a_repository_does_not_grant_its_hooks(work):
    (work / ".git" / "hooks").mkdir(parents=True)
    (work / "docs" / "out").symlink_to("../.git/hooks")

    assert refused(work, policy(work, "file-write:docs/out"), "docs/out/pre-commit", writer)
    assert refused(work, policy(work, "file-write:docs"), "docs/out/pre-commit", writer)


def test_an_ordinary_file_may_be_written_even_when_the_working_directory_lies_in_such_a_folder(work):
    inner = work / ".github" / "project"
    inner.mkdir(parents=True)

    for grant in ("file-write:.", "file-write"):
        assert verdict(inner, policy(inner, grant), writer, "a.txt") is None
        assert refused(inner, policy(inner, grant), ".git/hooks/pre-commit", writer)


def test_yes_answers_only_what_a_person_would_be_asked(work):
    @tool(destructive=True)
    def wipe() -> None:
        return None

    asked = decide(policy(work), wipe, {})
    assert asked.ask
    assert decide(policy(work, yes=True), wipe, {}) is None
    assert decide(policy(work, "tool:wipe"), wipe, {}) is None
    for used, arguments in ((reader, {"path": "notes.txt"}), (fetcher, {"url": "http://x.org"}), (runner, {"command": "ls"})):
        assert decide(policy(work, yes=True), used, arguments, str(work)) is not None


def test_custom_capabilities_and_databases_are_denied_until_granted(work):
    @tool(needs={"deploy": "target", "database-write": "file"})
    def ship(target: str, file: str) -> str:
        return target

    arguments = {"target": "staging", "file": "main.db"}
    assert decide(policy(work), ship, arguments).rule == "--allow deploy:staging"
    assert decide(policy(work, "deploy:staging"), ship, arguments).rule == "--allow database-write:main.db"
    assert decide(policy(work, "deploy:stag*", "database-write:."), ship, arguments) is None
    assert decide(policy(work, "deploy:prod", "database-write:."), ship, arguments) is not None


@pytest.mark.parametrize(
    ("written", "meant"),
    [("FileRead:a", "file-read:a"), ("FILE_WRITE", "file-write"), ("Network:x", "network:x"), ("DatabaseRead", "database-read"),
     ("DatabaseWrite:d", "database-write:d"), ("ShellExec:git", "shell:git"), ("SecretAccess:K", "secret:K"), ("net", "network"), ("Calendar:a", "calendar:a")],
)  # fmt: skip
def test_a_capability_may_be_written_as_people_write_it(written, meant):
    assert canonical(written) == meant


def test_a_need_without_parameter_wants_the_whole_capability(work):
    @tool(needs={"network": None})
    def anything() -> None:
        return None

    assert decide(policy(work, "network:example.com"), anything, {}).rule == "--allow network"
    assert decide(policy(work, "network"), anything, {}) is None


@pytest.mark.parametrize(
    ("grant", "url", "granted"),
    [
        ("network", "https://example.com/x", True), ("network:example.com", "https://EXAMPLE.com./x", True), ("net:example.com", "http://example.com:81/", True),
        ("network:example.com:443", "https://example.com", True), ("network:example.com:443", "http://example.com", False),
        ("network:example.com", "https://example.com.evil.org", False), ("network:example.com", "https://evil.org/example.com", False),
        ("network:example.com", "https://example.com@evil.org/", False), ("network:example.com", "https://evil.org#@example.com", False),
        ("network:example.com", "https://evil.org\\@example.com", False), ("network:*.example.com", "https://a.example.com", True),
        ("network:*.example.com", "https://example.com", False), ("network:*.example.com", "https://aexample.com", False),
        ("network", "ftp://example.com", False), ("network", "file:///etc/passwd", False), ("network", "https://", False),
        ("network", "http://127.0.0.1/", False), ("network", "http://localhost", False), ("network", "http://[::1]:80/", False),
        ("network", "http://2130706433/", False), ("network", "http://0x7f.1/", False), ("network", "http://169.254.169.254/latest", False),
        ("network:127.0.0.1:8080", "http://127.0.0.1:8080/", True), ("network:127.0.0.1:8080", "http://127.0.0.1:8081/", False),
        ("network:[::1]:8080", "http://[::1]:8080/", True), ("network:http://localhost:99/x", "http://localhost:99", True),
        ("network:*.localhost", "http://a.localhost", False), ("file-read", "https://example.com", False),
    ],
)  # fmt: skip
def test_hosts_are_granted_by_name(work, grant, url, granted):
    denial = decide(policy(work, grant), fetcher, {"url": url})

    assert (denial is None) is granted
    if denial is not None and denial.rule:
        assert decide(policy(work, shlex.split(denial.rule)[1]), fetcher, {"url": url}) is None


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1",  # noqa: S104
        "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::",
        "192.0.2.1", "198.18.0.1", "fec0::1", "64:ff9b:1::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_out_on_the_internet_are_known(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_public_addresses_are_known(address):
    assert is_public(address)


@given(st.text(max_size=30))
def test_no_text_breaks_the_reading_of_hosts_commands_and_paths(text):
    found = host_of(text)
    if found is not None:
        assert host_of(authority(*found)) is not None
        is_private_name(found[0])
    programs(text)
    runs_later(text)
    rules = Policy.of(["network", "shell:ls", "file-read:docs", "file-write:docs"], workspace="/nonexistent")
    for name in ("network", "shell", "file-read", "file-write"):
        rules.check("it", name, text, "/nonexistent")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("git status", ["git"]), ("ls -l | wc -l && git log; true", ["ls", "wc", "git", "true"]), ("grep 'a;b|c $(x)' f", ["grep"]), ('echo "a b"', ["echo"]),
        ("echo $(rm x)", None), ("echo `rm x`", None), ('echo "$(rm x)"', None), ("ls > f", None), ("ls < f", None), ("ls & rm x", None), ("ls &", None),
        ("(rm x)", None), ("{ rm x; }", None), ("X=1 ls", None), ("'r'm x", None), ('"rm" x', None), ("l\\s", None), ("ls # '\nrm x # '", None),
        ("ls\nrm x", ["ls", "rm"]), ("echo 'unterminated", None), ("$CMD x", None), ("ls ||rm x", ["ls", "rm"]), ("", []), ("ls\rrm", None),
    ],
)  # fmt: skip
def test_the_programs_of_simple_commands_are_known_and_of_others_not_guessed(command, expected):
    assert programs(command) == expected


def test_a_scoped_shell_grant_runs_only_that_program(work):
    rules = policy(work, "shell:git", "shell:wc")

    assert decide(rules, runner, {"command": "git log | wc -l"}) is None
    assert decide(rules, runner, {"command": "git log | tee x"}).rule == "--allow shell:tee"
    assert decide(rules, runner, {"command": "./git log"}).rule == "--allow shell:./git"
    assert decide(rules, runner, {"command": "git log > x"}).rule == "--allow shell"


@pytest.mark.parametrize(
    "text", ["", ":x", "file-read:", "no spaces", "1x", "network:a b", "network:user@host", "network:h:99999", "file-read:\0"]
)
def test_a_rule_that_cannot_be_read_is_a_usage_error(text):
    with pytest.raises(UsageError):
        parse_grant(text)


def test_special_files_do_not_hang_a_reader(work):
    os.mkfifo(work / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(work / "socket"))
        for name in ("pipe", "socket", "docs"):
            with pytest.raises(ToolError) as caught:
                reader.function(path=name, context=Context(policy(work, "file-read:."), str(work)))
            assert caught.value.kind == "permanent"


def test_a_path_with_a_nul_or_broken_characters_is_refused_everywhere(work):
    rules = policy(work, "file-read:.", "file-write:.")

    for path in ("notes.txt\0.md", "\ud800"):
        assert refused(work, rules, path)
        assert refused(work, rules, path, writer)
    with pytest.raises(OSError, match="NUL"):
        beneath.open_at(str(work), "notes.txt\0x", os.O_RDONLY)


def test_kept_outputs_can_be_read_back_without_a_grant(work):
    context = Context(policy(work), str(work))

    path = context.keep(b"long output")

    assert context.open_read(path) == b"long output"
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert refused(work, context.policy, f"{path}/../../secret")


@contextmanager
def swapper(work):
    """Swap the folder docs for a link to the outside and back, again and again; yield the outside."""
    inside, outside = work / "docs", work.parent / "outside"
    outside.mkdir()
    (outside / "a.txt").write_text("secret")
    (work / "link").symlink_to(outside)
    (work / "parked").mkdir()
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            try:
                os.rename(inside, work / "parked" / "docs")
                os.rename(work / "link", inside)
                os.rename(inside, work / "link")
                os.rename(work / "parked" / "docs", inside)
            except OSError:  # a writer made the folder anew meanwhile
                return

    thread = threading.Thread(target=swap)
    thread.start()
    yield outside
    stop.set()
    thread.join()


@pytest.mark.parametrize("kernel", [True, False], ids=["openat2", "walk"])
def test_a_swapper_cannot_make_an_opening_lead_outside(work, kernel):
    opened = escaped = tries = 0
    with swapper(work):
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            tries += 1
            try:
                handle = beneath.open_at(str(work), "docs/a.txt", os.O_RDONLY, kernel=kernel)
            except OSError:
                continue
            opened += 1
            escaped += os.read(handle, 10) != b"a"
            os.close(handle)
    assert (escaped, opened > 0, opened < tries) == (0, True, True)


def test_a_swapper_cannot_make_a_write_lead_outside(work):
    context = Context(policy(work, "file-write:."), str(work))
    with swapper(work) as outside:
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            try:
                context.open_write("docs/new.txt", b"x")
            except ToolError:
                continue
        assert os.listdir(outside) == ["a.txt"]


def test_the_walk_without_openat2_refuses_links_and_opens_the_rest(work):
    (work / "link").symlink_to("docs")

    os.close(beneath.open_at(str(work), "docs/a.txt", os.O_RDONLY, kernel=False))
    os.close(beneath.open_at(str(work / "notes.txt"), "", os.O_RDONLY, kernel=False))
    for path in ("link/a.txt", "link"):
        with pytest.raises(beneath.EscapeError):
            beneath.open_at(str(work), path, os.O_RDONLY, kernel=False)
    with pytest.raises(FileNotFoundError):
        beneath.open_at(str(work), "docs/none", os.O_RDONLY, kernel=False)
