"""What a confined program can and cannot do. Every case is tried with a real program; a kernel that cannot confine skips, saying so."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent_core import sandbox
from agent_core.errors import DeniedError
from agent_core.policy import Policy
from agent_core.sandbox import Box, confined

pytestmark = pytest.mark.skipif(not sandbox.level().complete, reason=f"this kernel cannot confine programs: {sandbox.level().text}")


@pytest.fixture
def place(tmp_path):
    """Give a folder with `in` (readable), `out` (writable) and `secret` (neither)."""
    for name in ("in", "out", "secret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(f"text of {name}\n")
    return tmp_path


def run(place: Path, command: str, **box) -> subprocess.CompletedProcess[str]:
    with confined(Box((str(place / "in"),), (str(place / "out"),), **box)) as enter:
        return subprocess.run(
            ["/bin/sh", "-c", command], cwd=place / "out", capture_output=True, text=True, preexec_fn=enter, start_new_session=True,
            env={"PATH": "/usr/bin:/bin", "HOME": str(place / "out")}, check=False, timeout=30,
        )  # fmt: skip


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
    ],
)
def test_ordinary_work_goes_on_as_ever(place, command, output):
    assert run(place, command).stdout == output


@pytest.mark.parametrize(
    "command",
    [
        "cat ../secret/file",
        "cat ../in/../secret/file",
        "ls ../secret",
        "ln -s ../../secret/file link; cat link",
        "ln ../secret/file hard && cat hard",
        "mv ../secret/file stolen && cat stolen",
        "cp ../secret/file copied && cat copied",
        "echo x > ../secret/new && cat ../secret/new",
        "echo x >> ../in/file && tail -1 ../in/file",
        "rm ../in/file && echo gone",
        "mkdir ../in/made && echo made",
        "cat /etc/shadow",
        "ls /root",
        "cat /proc/1/environ",
        "cat /proc/$PPID/environ",
        "cat /proc/$PPID/mem",
        "cat /proc/self/root/etc/shadow",
        "ls /proc/$PPID/fd",
        "kill -0 $PPID && echo signalled",
        "mknod device c 1 3 && echo made",
        "mount -t tmpfs none . && echo mounted",
        "unshare -U true && echo unshared",
        "chroot . /bin/true && echo changed",
        "truncate -s 0 ../in/file && echo cut",
        "touch /var/tmp/agent-escape && echo touched",
        "dmesg | head -1 | grep .",
        'python3 -c \'import os; os.rename("../in/file", "file2"); print(1)\'',
        "python3 -c 'import os; print(os.open(\"../secret/file\", os.O_RDONLY))'",
        "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", PORT), 2); print(1)'",
        'python3 -c \'import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", PORT)); print(1)\'',
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX); print(1)'",
        "python3 -c 'import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW); print(1)'",
        "python3 -c 'import socket; socket.socket(40, socket.SOCK_STREAM); print(1)'",
        "python3 -c 'import ctypes; c = ctypes.CDLL(None, use_errno=True); print(c.syscall(425, 1, 0))' | grep -v -- -1",
        "python3 -c 'import ctypes; c = ctypes.CDLL(None, use_errno=True); print(c.ptrace(16, PARENT, 0, 0))' | grep -v -- -1",
        "python3 -c 'import ctypes; c = ctypes.CDLL(None, use_errno=True); print(c.shmget(0, 4096, 0o1600))' | grep -v -- -1",
        "python3 -c 'import ctypes; c = ctypes.CDLL(None, use_errno=True); print(c.syscall(250, 0, -3, 0))' | grep -v -- -1",
        "exec 3<>/dev/tcp/127.0.0.1/PORT && echo connected",
    ],
)
def test_no_way_out_is_open(place, tmp_path, command):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        words = command.replace("PORT", str(server.getsockname()[1])).replace("PARENT", str(os.getpid()))
        done = run(place, words)

    assert done.stdout == "", done
    assert (place / "in" / "file").read_text() == "text of in\n"
    assert (place / "secret" / "file").read_text() == "text of secret\n"
    assert not Path("/var/tmp", "agent-escape").exists()  # noqa: S108 - must not be there


def test_the_callers_secrets_cannot_be_read_from_another_process(place):
    holder = subprocess.Popen(["/bin/sleep", "30"], env={"SECRET_KEY": "k-123456"})
    try:
        done = run(place, f"cat /proc/{holder.pid}/environ /proc/{holder.pid}/cmdline")
    finally:
        holder.kill()
        holder.wait()

    assert "k-123456" not in done.stdout


def test_a_network_is_there_only_when_it_is_granted(place):
    words = "python3 -c 'import socket; socket.socket(); print(1)'"
    assert run(place, words).stdout == ""
    assert run(place, words, network=True).stdout == "1\n"


def test_even_with_a_network_local_sockets_stay_shut(place):
    assert run(place, "python3 -c 'import socket; socket.socket(socket.AF_UNIX); print(1)'", network=True).stdout == ""


def test_limits_hold(place):
    assert run(place, "head -c 100000 /dev/zero > big; wc -c < big", file_bytes=4096).stdout.strip() in {"4096", ""}
    assert run(place, "python3 -c 'x = bytearray(1 << 30); print(1)'", memory_bytes=256 << 20).stdout == ""


def test_children_stay_in_the_box(place):
    assert run(place, "(sleep 0.1; cat ../secret/file) & wait; setsid cat ../secret/file").stdout == ""


def test_the_grants_of_a_run_make_its_box(tmp_path):
    policy = Policy.of(["file-read:docs", "file-write:out", "network"], ["secret"], workspace=str(tmp_path))
    box = sandbox.of_policy(policy, str(tmp_path), "/made/home")

    assert box == Box((str(tmp_path), str(tmp_path / "docs")), (str(tmp_path / "out"), "/made/home"), network=True)


def test_a_grant_for_one_host_gives_a_confined_program_no_network(tmp_path):
    assert not sandbox.of_policy(Policy.of(["network:example.org"]), str(tmp_path)).network
    assert not sandbox.of_policy(Policy.of(["network"], ["network"]), str(tmp_path)).network


def test_a_process_that_cannot_be_confined_is_not_started():
    """Without Landlock (here: its system call refused by a filter of our own) `confined` says so instead of going on."""
    code = (
        "import sys\nfrom agent_core import sandbox\n"
        "program = sandbox._filter(sandbox.Box(), 7)\n"
        "sandbox.level = lambda: sandbox.Level(0, seccomp=True)\n"
        "try:\n    sandbox.confined(sandbox.Box()).__enter__()\nexcept Exception as error:\n    print(type(error).__name__)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)

    assert done.stdout.strip() == DeniedError.__name__


def test_the_cost_of_a_box_is_a_few_times_a_plain_start(place):
    def best(**more):
        times = []
        for _ in range(10):
            began = time.perf_counter()
            subprocess.run(["/bin/true"], check=True, **more)
            times.append(time.perf_counter() - began)
        return min(times)

    forked = best(preexec_fn=lambda: None)  # what any function between fork and exec costs in a process of this size
    with confined(Box()) as enter:
        boxed = best(preexec_fn=enter)
    assert boxed < 8 * forked
