"""What a confined program can do, and which level confines it. What it cannot do is in test_escapes.py."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agent_core import config, sandbox
from agent_core.errors import DeniedError
from agent_core.policy import Policy
from agent_core.sandbox import Box, confined

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["landlock", "bubblewrap"])
def level(request):
    """Give each level that is possible here."""
    if not sandbox.level(request.param).complete:
        pytest.skip(f"not possible here: {request.param} ({sandbox.level(request.param).text})")
    return request.param


@pytest.fixture
def place(tmp_path):
    """Give a folder with `in` (readable), `out` (writable) and `secret` (neither)."""
    for name in ("in", "out", "secret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(f"text of {name}\n")
    return tmp_path


def run(place: Path, command: str, **box) -> subprocess.CompletedProcess[str]:
    with confined(Box((str(place / "in"),), (str(place / "out"),), **box)) as way:
        return subprocess.run(
            way.argv(["/bin/sh", "-c", command]), cwd=place / "out", capture_output=True, text=True, preexec_fn=way.enter, check=False,
            start_new_session=True, env={"PATH": "/usr/bin:/bin", "HOME": str(place / "out")}, pass_fds=way.kept, timeout=30,
        )  # fmt: skip


def test_what_may_not_be_written_and_is_not_there_stops_the_command_before_it_could_make_it(place):
    if not sandbox.level("bubblewrap").complete:
        pytest.skip("not possible here")
    with pytest.raises(DeniedError, match="nothing would keep a command from making .*/out/hooks"):
        run(place, "mkdir hooks", fixed=(str(place / "out" / "hooks"),), level="bubblewrap")

    (place / "out" / "hooks").mkdir()
    assert (
        run(place, "touch hooks/run || echo kept out", fixed=(str(place / "out" / "hooks"),), level="bubblewrap").stdout
        == "kept out\n"
    )


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("cat ../in/file", "text of in\n"),
        ("echo new > made && cat made && mv made moved && rm moved", "new\n"),
        ("mkdir -p a/b && ln -s b a/link && ls a && rm -r a", "b\nlink\n"),
        ("printf 'b\\na\\n' | sort | head -1", "a\n"),
        ("sleep 0.05 & wait; echo done", "done\n"),
        ("echo x > /dev/null; head -c 2 /dev/urandom | wc -c", "2\n"),
        ("id -un > /dev/null && date > /dev/null && uname", "Linux\n"),
        ("sh -c 'exit 3'; echo $?", "3\n"),
        ("kill -0 $$ && echo mine", "mine\n"),
        ("grep -c . ../in/*", "1\n"),
        ("cp -r ../in copy && chmod 700 copy && touch -d 2001-01-01 copy/file && rm -r copy && echo done", "done\n"),
        ("timeout 5 nice -n 5 sh -c 'ulimit -c; pwd -P | tail -c 5'", "0\n/out\n"),
        ("ulimit -a > /dev/null && getent hosts localhost > /dev/null && getent passwd root | cut -d: -f1", "root\n"),
        ("python3 -c 'import os, socket, threading; a, b = socket.socketpair(); a.send(b\"x\"); print(b.recv(1))'", "b'x'\n"),
        (
            "git init -q . && git config user.name x && git config user.email x && git add file && git commit -qm x && git log --format=%s",
            "x\n",
        ),
    ],
)
def test_ordinary_work_goes_on_as_ever(place, level, command, output):
    done = run(place, command, level=level)

    assert done.stdout == output, done


def test_a_network_is_there_only_when_it_is_granted(place, level):
    with socket.create_server(("127.0.0.1", 0)) as server:
        words = f"python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {server.getsockname()[1]}), 5); print(1)'"
        assert run(place, words, level=level).stdout == ""
        assert run(place, words, level=level, network=True).stdout == "1\n"


def test_limits_hold(place, level):
    assert run(place, "head -c 100000 /dev/zero > big; wc -c < big", level=level, file_bytes=4096).stdout.strip() in {"4096", ""}
    assert run(place, "python3 -c 'x = bytearray(1 << 30); print(1)'", level=level, memory_bytes=256 << 20).stdout == ""
    assert run(place, "while :; do :; done; echo ended", level=level, cpu_seconds=1).stdout == ""


def test_a_way_in_serves_one_program_after_another(place, level):
    with confined(Box((str(place / "in"),), level=level)) as way:
        for _ in range(3):
            done = subprocess.run(
                way.argv(["/bin/cat", str(place / "in" / "file"), str(place / "secret" / "file")]), preexec_fn=way.enter, check=False,
                pass_fds=way.kept, capture_output=True, text=True,
            )  # fmt: skip
            assert done.stdout == "text of in\n"


def test_links_among_what_is_granted_are_links_in_the_box(place, level):
    (place / "in" / "deep").mkdir()
    (place / "in" / "deep" / "file").write_text("deep\n")
    (place / "link").symlink_to("in/deep")
    box = Box((str(place / "link"),), (str(place / "out"),), level=level)
    with confined(box) as way:
        done = subprocess.run(
            way.argv(["/bin/sh", "-c", f"cat {place}/link/file; readlink {place}/link | tail -c 8; cat {place}/in/file"]),
            preexec_fn=way.enter, pass_fds=way.kept, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.stdout == "deep\nin/deep\n", done


def test_writable_beneath_readable_and_readable_beneath_writable_are_both_writable(place, level):
    for read, write in ((".", "out"), ("out", ".")):
        with confined(Box((str(place / read),), (str(place / write),), level=level)) as way:
            done = subprocess.run(
                way.argv(["/bin/sh", "-c", "echo x > out/made && rm out/made && echo ok; echo x > in/made"]), cwd=place,
                preexec_fn=way.enter, pass_fds=way.kept, capture_output=True, text=True, check=False,
            )  # fmt: skip
        assert done.stdout == "ok\n"
        assert (place / "in" / "made").exists() == (write == ".")


def test_a_program_goes_when_the_thread_that_started_it_goes_unless_it_is_to_last(place):
    if not sandbox.level("bubblewrap").complete:
        pytest.skip("no bubblewrap that works here")
    for lasting in (False, True):
        started = []

        def start(*, lasting=lasting, started=started):
            with confined(Box((), (str(place / "out"),), level="bubblewrap", lasting=lasting)) as way:
                started.append(
                    subprocess.Popen(
                        way.argv(["/bin/sh", "-c", "read line; echo $line"]),
                        preexec_fn=way.enter,  # noqa: PLW1509 - it makes system calls only
                        pass_fds=way.kept,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        text=True,
                    )
                )
            time.sleep(0.2)

        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
        time.sleep(0.1)
        with contextlib.suppress(BrokenPipeError):
            assert started[0].communicate("said\n", 10)[0] == ("said\n" if lasting else "")


def test_the_grants_of_a_run_make_its_box(tmp_path):
    policy = Policy.of(["file-read:docs", "file-write:out", "network"], ["secret"], workspace=str(tmp_path))
    box = sandbox.of_policy(policy, str(tmp_path), "/made/home")

    assert box == Box((str(tmp_path), str(tmp_path / "docs")), (str(tmp_path / "out"), "/made/home"), network=True)


def test_a_grant_for_one_host_gives_a_confined_program_no_network(tmp_path):
    assert not sandbox.of_policy(Policy.of(["network:example.org"]), str(tmp_path)).network
    assert not sandbox.of_policy(Policy.of(["network"], ["network"]), str(tmp_path)).network


def test_deny_rules_take_away_from_the_box(tmp_path):
    def made(allow, deny):
        return sandbox.of_policy(Policy.of(allow, deny, workspace=str(tmp_path)), str(tmp_path), "/made/home")

    at = str(tmp_path)
    assert made(["file-read:/opt"], ["file-read"]) == Box((), ("/made/home",))
    assert made(["file-read:/opt"], ["file-read:/opt"]) == Box((at,), ("/made/home",), hidden=("/opt",))
    assert made(["file-write:out"], ["file-write:out"]) == Box((at,), ("/made/home",))
    assert made(["file-write:out"], ["file-write:out/x"]) == Box((at,), (f"{at}/out", "/made/home"), fixed=(f"{at}/out/x",))
    assert made([], ["file-read:x"]) == Box((at,), ("/made/home",), hidden=(f"{at}/x",))
    assert [sandbox.has_holes(made([], [rule])) for rule in ("file-read", "file-read:/opt", "file-read:x", "file-write")] == [
        False, False, True, False,
    ]  # fmt: skip


# --- which level it is: kernels without one thing or another are made by a filter of the test's own

WITHOUT = """
import ctypes, os, struct, sys
sys.path.insert(0, ROOT)
missing = MISSING
lines = [(0x20, 0, 0, 0)]
if "landlock" in missing:
    lines += [(0x15, 0, 1, 444), (6, 0, 0, 0x50000 | 38)]
if "namespaces" in missing:
    lines += [(0x15, 0, 3, 56), (0x20, 0, 0, 16), (0x45, 0, 1, 0x10000000), (6, 0, 0, 0x50000 | 1), (0x20, 0, 0, 0)]
    lines += [(0x15, 0, 1, 272), (6, 0, 0, 0x50000 | 1)]
lines += [(6, 0, 0, 0x7FFF0000)]
code = b"".join(struct.pack("HBBI", operation, yes, no, value) for operation, yes, no, value in lines)
kept = ctypes.create_string_buffer(code, len(code))
program = struct.pack("HxxxxxxQ", len(lines), ctypes.addressof(kept))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
"""
SAY = """
from agent_core import sandbox
for choice in sandbox.LEVELS:
    print(choice, sandbox.level(choice).name, sandbox.level(choice, holes=True).name)
"""


def without(missing, code, *, path="/usr/bin:/bin", **more):
    """Run Python where some things are missing; return the finished process."""
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers of the test's own filter are those of x86_64")
    words = WITHOUT.replace("ROOT", repr(str(ROOT))).replace("MISSING", repr(missing)) + code
    env = {**config.environ(), "PATH": path, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=False, timeout=60, env=env, **more)


@pytest.mark.parametrize(
    ("missing", "path", "found"),
    [
        ([], "/usr/bin", ["auto landlock bubblewrap", "landlock landlock ", "bubblewrap bubblewrap bubblewrap"]),
        (["landlock"], "/usr/bin", ["auto bubblewrap bubblewrap", "landlock  ", "bubblewrap bubblewrap bubblewrap"]),
        (["namespaces"], "/usr/bin", ["auto landlock ", "landlock landlock ", "bubblewrap  "]),
        ([], "/nowhere", ["auto landlock ", "landlock landlock ", "bubblewrap  "]),
        (["landlock", "namespaces"], "/usr/bin", ["auto  ", "landlock  ", "bubblewrap  "]),
        (["landlock"], "/nowhere", ["auto  ", "landlock  ", "bubblewrap  "]),
    ],
)
def test_the_level_is_what_is_there_and_asked_for(missing, path, found):
    real = sandbox.level("landlock"), sandbox.level("bubblewrap")
    if not all(each.complete for each in real) or real[0].landlock < 6:
        pytest.skip("this machine has not both levels whole")
    done = without(missing, SAY, path=path)

    assert done.stdout.splitlines() == found, done


def test_without_landlock_a_command_runs_under_bubblewrap(place):
    if not sandbox.level("bubblewrap").complete:
        pytest.skip("no bubblewrap that works here")
    more = f"import runpy; sys.argv = ['assistant', '--allow', 'shell', '--tool', 'shell', 'cat in/file {place}/../x /etc/shadow; ls / | head -1']\n"
    done = without(["landlock"], more + "runpy.run_module('agents.assistant', run_name='__main__')", cwd=place)

    assert "text of in\nbin\n" in done.stdout.replace("cat: ", "").replace(
        f"{place}/../x: No such file or directory\n", ""
    ).replace("/etc/shadow: No such file or directory\n", ""), done


def test_without_any_level_a_command_is_refused_unless_that_is_granted(place):
    more = "import runpy; sys.argv = ['assistant', '--allow', 'shell', *(MORE), '--tool', 'shell', 'echo ran']\n"
    runs = "runpy.run_module('agents.assistant', run_name='__main__')"
    refused = without(["landlock", "namespaces"], more.replace("MORE", "[]") + runs, cwd=place)
    granted = without(["landlock", "namespaces"], more.replace("MORE", "['--allow', 'unconfined']") + runs, cwd=place)
    shown = without(["landlock", "namespaces"], f"import runpy; sys.argv = ['assistant', '--show-config']\n{runs}", cwd=place)

    assert (refused.returncode, refused.stdout) == (77, ""), refused
    assert "cannot be confined here (none: there is no Landlock and no bubblewrap that works)" in refused.stderr
    assert "--allow unconfined" in refused.stderr
    assert granted.stdout.startswith("ran\n"), granted
    assert 'confinement = "none: there is no Landlock and no bubblewrap that works"' in shown.stdout


def test_a_bwrap_of_a_repository_is_not_used(tmp_path):
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\nexit 0\n")
    fake.chmod(0o755)
    code = (
        f"import os\nos.chdir({str(tmp_path)!r})\nfrom agent_core import sandbox\nprint(repr(sandbox.level('bubblewrap').bwrap))\n"
    )
    done = without([], code, path=f".::{tmp_path}")

    assert done.stdout == "''\n", done


def test_the_level_in_force_is_shown_and_a_strangers_file_does_not_choose_it(run_agent, tmp_path):
    (tmp_path / "agents.toml").write_text('sandbox = "landlock"\n')
    trusted = run_agent("assistant", "--show-config", "--json", env={"AGENT_TRUSTED": str(tmp_path)})
    other = run_agent("assistant", "--show-config", "--json")

    def value(done, name):
        return json.loads(done.stdout)["data"]["structuredContent"][name]["value"]

    assert value(trusted, "sandbox") == "landlock"
    assert value(trusted, "confinement") == sandbox.level("landlock").text
    assert value(other, "sandbox") == "auto"
    assert "sandbox left out" in other.stderr


def test_a_level_that_cannot_be_had_is_no_reason_to_take_another(run_agent, tmp_path):
    done = run_agent(
        "assistant", "--sandbox", "bubblewrap", "--allow", "shell", "--tool", "shell", "echo ran", env={"PATH": "/nowhere"}
    )

    assert (done.returncode, done.stdout) == (77, ""), done


def test_an_old_landlock_says_what_it_does_not_keep_off():
    assert "signals" in sandbox.Level("landlock", 4, seccomp=True).text
    assert "signals" not in sandbox.Level("landlock", 6, seccomp=True).text


def test_a_run_that_confines_nothing_imports_none_of_it(run_agent, tmp_path):
    code = "import sys\nfrom agents import assistant\ntry:\n assistant.main(['--tool', 'calc', '1+1'])\nexcept SystemExit: pass\n"
    done = without([], f"{code}print([name for name in sys.modules if name in ('agent_core.sandbox', 'agent_core.bubblewrap')])")

    assert done.stdout.endswith("[]\n"), done


def test_the_cost_of_a_box_is_bounded(place, level):
    def best(argv, **more):
        times = []
        for _ in range(10):
            began = time.perf_counter()
            subprocess.run(argv, check=True, **more)
            times.append(time.perf_counter() - began)
        return min(times)

    forked = best(["/bin/true"], preexec_fn=lambda: None)  # what any function between fork and exec costs in a process of this size
    with confined(Box(level=level)) as way:
        boxed = best(way.argv(["/bin/true"]), preexec_fn=way.enter, pass_fds=way.kept)
    assert boxed < {"landlock": 8, "bubblewrap": 30}[level] * forked
