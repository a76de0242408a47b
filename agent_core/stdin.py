"""stdin - whether to read standard input, and how, without ever hanging or dropping what someone piped.

required   read to the end; zero bytes is 66; a terminal gets a usage error
none       never touched
optional   without an instruction: read like required. With one: read a file; read a pipe or socket with bytes or EOF within
           250 ms, or when `-` was given. An idle pipe is looked up: if only our ancestors hold its write end it was merely
           inherited (CI, editors, agents calling agents) and is left alone; if another process holds it a slow stage is
           upstream, and we wait; where that cannot be known the run stops with 2 and names both fixes.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent_core.errors import DeadlineError, InputError, MissingInput, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IDLE = 0.25
PATIENCE = 2.0
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides about reading: the card's word, the command line's, and the limits."""

    stdin: str = "optional"
    instruction: bool = False
    dash: bool = False
    no_stdin: bool = False
    limit: int = 256 * 1024 * 1024
    deadline: float | None = None
    say: Callable[[str], None] = lambda _text: None


def read(rules: Rules, fd: int = 0) -> bytes | None:
    """Return the bytes of stdin, or None where it is not to be read. UsageError, MissingInput, InputError, DeadlineError."""
    if not wanted(rules, fd):
        return None
    data = b"".join(chunks(rules, fd))
    needed = rules.stdin == "required" or rules.dash or not rules.instruction
    if needed and not data:
        raise MissingInput("no input: stdin was empty", hint="did the stage before fail?")
    return data or None


def wanted(rules: Rules, fd: int = 0) -> bool:
    """Decide whether stdin is to be read."""
    if rules.stdin == "none" or rules.no_stdin:
        if rules.dash:
            raise UsageError("`-` asks for stdin, which is not to be read", hint="drop one of the two")
        return _unread(rules)
    kind = _kind(fd)
    if kind == "closed":
        return _without(rules, "stdin is closed")
    if kind == "terminal":
        return rules.dash or _without(rules, "nothing to do", usage=True)
    if rules.dash or rules.stdin == "required" or not rules.instruction or kind == "file":
        return True
    return _ready(fd, IDLE) or _worth_waiting_for(rules, fd, kind)


def _unread(rules: Rules) -> bool:
    if not rules.instruction:
        raise UsageError("nothing to do", hint="say what to do, see --help")
    if rules.stdin == "required":
        raise MissingInput("input is required, and --no-stdin was given", hint="drop --no-stdin")
    return False


def _without(rules: Rules, what: str, *, usage: bool = False) -> bool:
    if rules.stdin == "required" or rules.dash or not rules.instruction:
        if usage:
            raise UsageError(what, hint="give words or pipe text in, see --help")
        raise MissingInput(what, hint="pipe text in, or give words")
    return False


def _kind(fd: int) -> str:
    try:
        mode = os.fstat(fd).st_mode
        if os.isatty(fd):
            return "terminal"
    except OSError:
        return "closed"
    if stat.S_ISFIFO(mode):
        return "pipe"
    return "socket" if stat.S_ISSOCK(mode) else "file"


def _ready(fd: int, seconds: float) -> bool:
    try:
        import select

        return bool(select.select([fd], [], [], seconds)[0])
    except (OSError, ValueError):
        return True


def _worth_waiting_for(rules: Rules, fd: int, kind: str) -> bool:
    """Decide about an idle pipe or socket."""
    holders = writers(fd) if kind == "pipe" else None
    if holders is None or (not holders and not _ready(fd, 0)):
        raise UsageError(
            f"stdin is an idle {kind}, and who would write to it cannot be known",
            hint="add `-` to wait for it, or --no-stdin to go on without",
        )
    if holders - ancestors() or not holders:
        return True
    rules.say("stdin is an inherited, idle pipe: going on without it (`-` waits for it)")
    return False


def writers(fd: int) -> set[int] | None:
    """Return the ids of the processes that hold the write end of a pipe; None where that cannot be looked up (Linux: /proc)."""
    own = os.fstat(fd).st_ino
    try:
        listed = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - no pathlib on this path
    except OSError:
        return None
    return {process for process in listed if _holds(process, own)}


def _holds(process: int, inode: int) -> bool:
    folder = f"/proc/{process}/fd"
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return False
    for name in names:
        try:
            # The link's own mode says how the descriptor was opened: the owner's write bit for a write end.
            if os.lstat(f"{folder}/{name}").st_mode & 0o200:
                there = os.stat(f"{folder}/{name}")  # noqa: PTH116
                if stat.S_ISFIFO(there.st_mode) and there.st_ino == inode:
                    return True
        except OSError:
            continue
    return False


def ancestors() -> set[int]:
    """Return the ids of this process and all above it."""
    found = {os.getpid()}
    process = os.getppid()
    while process > 0 and process not in found:
        found.add(process)
        try:
            with open(f"/proc/{process}/stat", "rb") as file:  # noqa: PTH123
                # The name may hold anything, also brackets and blanks: what follows the last bracket is safe to split.
                process = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return found


def chunks(rules: Rules, fd: int = 0) -> Iterator[bytes]:
    """Yield stdin as it arrives; say so when nothing came for two seconds. InputError beyond the limit, DeadlineError."""
    size = 0
    said = False
    while True:
        wait = PATIENCE if not said else 3600.0
        if rules.deadline is not None:
            wait = min(wait, max(0.0, rules.deadline - time.monotonic()))
        if not _ready(fd, wait):
            if rules.deadline is not None and time.monotonic() >= rules.deadline:
                raise DeadlineError("no input in time", hint="raise --timeout")
            if not said and not size:
                rules.say("waiting for stdin")
            said = True
            continue
        data = _some(fd)
        if not data:
            return
        size += len(data)
        if size > rules.limit:
            raise InputError(f"stdin is larger than {rules.limit} bytes", hint="send less, or raise --max-input")
        yield data


def _some(fd: int) -> bytes:
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        return b"" if not _ready(fd, 3600.0) else _some(fd)
    except IsADirectoryError:
        raise InputError("stdin is a folder", hint="name a file") from None
    except OSError as error:
        raise InputError(f"cannot read stdin: {error.strerror}") from None


def text_of(data: bytes) -> str:
    """Return bytes as text. Bytes that are not UTF-8 survive (surrogateescape) and leave as they came."""
    return data.decode("utf-8", "surrogateescape")
