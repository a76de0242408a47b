"""children - children as processes: started by argument list in a session of their own, ended with all they started.

A child's group gets every signal, and is killed when its leader has ended. What left the group (setsid, a daemon) comes to this
process as its subreaper, prctl(2) PR_SET_CHILD_SUBREAPER, and is known by a mark in its environment; it ends with its child.
If this process is killed, the kernel sends the children SIGTERM (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agent_core.errors import Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from agent_plugins.supervision.pool import Child

State = Literal["pausing", "running", "stopping", "stopped", "finished", "waiting", "failed"]
MARK = "AGENT_SUPERVISED"
LONGEST_LINE = 16 * 1024
_PIECE = 8192
_PDEATHSIG, _SUBREAPER = 1, 36
_NOT_FOUND = 127


@dataclass(slots=True)
class Kept:
    """One child as it is: its process, what it is to become, and what happened to it. Moments are monotonic seconds."""

    spec: Child
    index: int = 0
    state: State = "pausing"
    due: float = 0.0
    then: str = ""
    pid: int = 0
    since: float = 0.0
    kill_at: float = 0.0
    restarts: int = 0
    counts: bool = False
    streak: int = 0
    crashes: list[float] = field(default_factory=list)
    status: int | None = None
    reason: str = ""
    pipe: int = -1
    rest: bytes = b""
    starts: int = 0

    @property
    def mark(self) -> str:
        """What marks the processes of its present life."""
        return f"{os.getpid()}:{self.spec.name}:{self.starts}"

    @property
    def alive(self) -> bool:
        """Whether there is a process."""
        return self.pid > 0

    def row(self, now: float) -> dict[str, Any]:
        """Return the child as data; `status` is that of its last exit (minus a signal's number)."""
        return {
            "name": self.spec.name, "state": self.state, "restarts": self.restarts, "pid": self.pid or None,
            "uptime_s": round(now - self.since, 3) if self.alive else None, "status": self.status, "reason": self.reason or None,
        }  # fmt: skip


def prctl() -> Callable[..., int]:
    """Return the system call of that name."""
    import ctypes

    call = ctypes.CDLL(None, use_errno=True).prctl
    call.argtypes, call.restype = [ctypes.c_int, *[ctypes.c_ulong] * 4], ctypes.c_int
    return call


def become_subreaper() -> None:
    """Have orphans among our descendants become our children."""
    prctl()(_SUBREAPER, 1, 0, 0, 0)


def start(child: Kept, environment: Mapping[str, str], folder: Path) -> None:
    """Start the program; Failed if that cannot be done. Its output goes where its `output` says."""
    spec, call, parent = child.spec, prctl(), os.getpid()

    def enter() -> None:
        call(_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died before that was said
            os._exit(_NOT_FOUND)

    child.starts += 1
    out = _output(child, folder)
    try:
        process = subprocess.Popen(
            spec.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder / spec.directory,
            env={**environment, **spec.environment, MARK: f"{environment.get(MARK, '')} {child.mark}"}, start_new_session=True,
            preexec_fn=enter,  # noqa: PLW1509 - this process has one thread
        )  # fmt: skip
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        close(child)
        raise Failed(f"cannot start: {getattr(error, 'strerror', None) or error}") from None
    finally:
        os.close(out)
    child.pid = process.pid
    process.returncode = 0  # it is reaped here, with all others


def _output(child: Kept, folder: Path) -> int:
    if child.spec.output == "stderr":
        child.pipe, end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(child.pipe, False)
        return end
    path = os.devnull if child.spec.output == "discard" else folder / child.spec.output
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
    except OSError as error:
        raise Failed(f"cannot start: its output {child.spec.output}: {error.strerror}") from None


def close(child: Kept) -> None:
    """Close the pipe of a child's output."""
    if child.pipe >= 0:
        os.close(child.pipe)
        child.pipe = -1


def lines(child: Kept, *, last: bool = False) -> list[str]:
    """Return the complete lines a child wrote since; with `last` also one without an end.

    Reads little at a time: a flood is not to hold up the others.
    """
    data = b""
    if child.pipe >= 0:
        with suppress(BlockingIOError):
            data = os.read(child.pipe, _PIECE)
            if not data:
                close(child)
                last = True
    *whole, child.rest = (child.rest + data).split(b"\n")
    if child.rest and (last or len(child.rest) > LONGEST_LINE):
        whole, child.rest = [*whole, child.rest], b""
    return [part.decode("utf-8", "backslashreplace") for line in whole for part in _cut(line)]


def _cut(line: bytes) -> Iterator[bytes]:
    yield line[:LONGEST_LINE]
    for begin in range(LONGEST_LINE, len(line), LONGEST_LINE):
        yield line[begin : begin + LONGEST_LINE]


def send(child: Kept, number: int) -> None:
    """Send a signal to a child's whole group. Only while its leader is not reaped: the number cannot be somebody else's then."""
    if child.alive:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)


def reap(pids: Mapping[int, Kept]) -> Iterator[tuple[Kept, int]]:
    """Yield (child, status) of all that ended, their groups killed; orphans that came to us are reaped silently.

    A status is that of wait(2) as os.waitstatus_to_exitcode gives it: minus the signal's number for a killed one.
    """
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None:
            return
        child = pids.get(found.si_pid)
        if child is not None:
            send(child, signal.SIGKILL)
        _, status = os.waitpid(found.si_pid, 0)
        if child is not None:
            child.pid = 0
            yield child, os.waitstatus_to_exitcode(status)


def kill_strays(children: Iterable[Kept]) -> None:
    """Kill what children left behind that have ended (or began a new life): orphans that carry the mark of an earlier life."""
    known = {child.pid for child in children}
    lives = {child.mark for child in children if child.alive}
    for pid in below():
        if pid not in known and (marks := _marks(pid)) and not marks & lives:
            _kill(pid)


def _marks(pid: int) -> set[str]:
    """Return the marks of our children that a process carries."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return set()
    found = next((each for each in variables if each.startswith(f"{MARK}=".encode())), b"")
    return {word for word in found.decode("utf-8", "replace").partition("=")[2].split(" ") if word.startswith(f"{os.getpid()}:")}


def below() -> set[int]:
    """Return the children of this process, adopted ones included."""
    me = os.getpid()
    try:
        return {int(word) for word in Path(f"/proc/{me}/task/{me}/children").read_text("ascii").split()}
    except OSError:
        return set()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def kill_everything(children: Iterable[Kept], spare: set[int]) -> None:
    """Kill all that is left below this process but `spare`, and reap it. What a killed process leaves comes to us, so: again."""
    for child in children:
        send(child, signal.SIGKILL)
    while left := below() - spare:
        for pid in left:
            _kill(pid)
        for pid in left:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
