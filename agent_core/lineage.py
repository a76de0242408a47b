"""lineage - what a run notes about its process, so that the runs of a shell pipe can be found to be one thing.

    facts(environment)         `lineage` of run.started: pipes, process group, the processes above

Stages of a shell pipe are siblings: nothing passes from one to the next but text. What they share is a pipe, or the shell that
made their pipes. This module is on the way of every run, so it imports next to nothing.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ABOVE = 6


def facts(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what identifies this process and its place in a pipe, as plain data. Never fails: what is not known is left out.

    {pid, ppid, pgid, sid, ticks, start, boot, ns, stdin, stdout, parent, above}: `ticks` is when the process began by the clock of
    the boot, `start` the same in seconds since 1970 (to 10 ms); `stdin` and `stdout` are "pipe:INODE" (`pipe` where inodes do not
    tell, "fifo:DEVICE:INODE" for a named one), "" if no pipe; `parent` is the span that called us; `above` lists [pid, ticks,
    stdin, stdout] of the processes above, nearest first, if there is a pipe at all.
    """
    made: dict[str, Any] = {"pid": os.getpid(), "ppid": os.getppid(), "pgid": os.getpgrp(), "sid": os.getsid(0)}
    ticks = started(os.getpid())
    made.update(ticks=ticks, start=round(time.time(), 2) if ticks is None else _moment(ticks))
    made.update(boot=_text("/proc/sys/kernel/random/boot_id")[:13], ns=_link("/proc/self/ns/pid"))
    made.update(stdin=_own_pipe(0), stdout=_own_pipe(1), parent=span_of((environment or {}).get("TRACEPARENT", ""))[1])
    if made["stdin"] or made["stdout"]:
        made["above"] = list(_above(os.getppid()))
    return made


def _own_pipe(fd: int) -> str:
    import stat

    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return ""
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return ""
    return _pipe(f"/proc/self/fd/{fd}") or "pipe"


def _pipe(path: str) -> str:
    """Return the name of the pipe or socket behind a link of /proc; "" if it is none or cannot be seen."""
    import stat

    target = _link(path)
    kind, bracket, number = target.partition(":[")
    if bracket and kind in {"pipe", "socket"}:
        return f"{kind}:{number.rstrip(']')}"
    try:
        found = os.stat(path) if target.startswith("/") else None  # noqa: PTH116 - no pathlib when a run starts
    except OSError:
        return ""
    return f"fifo:{found.st_dev}:{found.st_ino}" if found is not None and stat.S_ISFIFO(found.st_mode) else ""


def _above(process: int) -> Iterator[list[Any]]:
    for _ in range(ABOVE):
        found = _process(process)
        if process <= 1 or found is None:
            return
        yield [process, found[1], _pipe(f"/proc/{process}/fd/0"), _pipe(f"/proc/{process}/fd/1")]
        process = found[0]


def _process(process: int) -> tuple[int, int] | None:
    """Return (parent's id, start in clock ticks since boot) of a process, or None where that cannot be known."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:  # noqa: PTH123
            # The name may hold anything, also brackets and blanks: what follows the last bracket is safe to split.
            words = file.read().rpartition(b")")[2].split()
        return int(words[1]), int(words[19])
    except (OSError, ValueError, IndexError):
        return None


def _moment(ticks: int) -> float:
    """Return clock ticks since boot as seconds since 1970."""
    return round(time.time() - _since_boot() + ticks / os.sysconf("SC_CLK_TCK"), 2)


def _since_boot() -> float:
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def now_ticks() -> int:
    """Return the time in clock ticks since boot, as `started` counts."""
    return int(_since_boot() * os.sysconf("SC_CLK_TCK"))


def started(process: int) -> int | None:
    """Return when a process began, in clock ticks since boot: with its id that names it for ever. None if there is none."""
    found = _process(process)
    return None if found is None else found[1]


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115
    except OSError:
        return ""


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - bytes: opening a text loads its codec
            return file.read(200).decode("ascii").strip()
    except (OSError, ValueError):
        return ""


def boot() -> str:
    """Return what differs from boot to boot and from container to container ("" where that cannot be known)."""
    return f"{_text('/proc/sys/kernel/random/boot_id')[:13]}{_link('/proc/self/ns/pid')}"


def is_gone(noted: Any) -> bool:
    """Return whether the process with these facts is known to have ended: of another machine or container nobody can know."""
    if not isinstance(noted, dict) or not isinstance(noted.get("pid"), int) or not isinstance(noted.get("ticks"), int):
        return False
    here = boot()
    if here != f"{noted.get('boot')}{noted.get('ns')}":
        return bool(noted.get("ns") == here[13:])  # the same place before its last start
    return bool(started(noted["pid"]) != noted["ticks"])


def span_of(traceparent: str) -> tuple[str, str]:
    """Return (trace id, span id) of a W3C traceparent; two empty texts if it is none."""
    pieces = traceparent.split("-")
    good = len(pieces) >= 4 and len(pieces[1]) == 32 and len(pieces[2]) == 16
    if not good or set(pieces[1] + pieces[2]) - set("0123456789abcdef") or not pieces[1].strip("0"):
        return "", ""
    return pieces[1], pieces[2]


def traceparent_of(run: str, recorded: str = "") -> str:
    """Return a run's traceparent: the recorded one, else one that follows from its id (runs of a library have none)."""
    if span_of(recorded)[0]:
        return recorded
    import hashlib

    digest = hashlib.sha256(f"run:{run}".encode()).hexdigest()
    return f"00-{digest[:32]}-{digest[32:48]}-01"
