"""shell - run a command line; off unless allowed.

    shell("ls | wc -l")      needs --allow shell, or --allow shell:ls --allow shell:wc

The command runs as written (`/bin/sh -c`) in a session of its own, with no input and an environment without keys; at the time
limit the whole process group is killed. What the model is shown is a presentation of the output: no binary data, head and tail of
what is long (all of it stays in a file), then the exit status and the time it took.

The kernel confines it (`agent_core.sandbox`): it reads the workspace, the system's programs and what --allow file-read grants,
writes what --allow file-write grants and a temporary home of its own, and has a network only with an unscoped --allow network;
deny rules for files hold for it, too. `--sandbox` chooses the means. `--allow unconfined` lifts that; where nothing can confine, no
command runs without it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent_core.tool import Context, ToolError, tool

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping

    from agent_core.sandbox import Way

TIMEOUT = 60.0
KEPT = 8 * 1024 * 1024
SHOWN = 16 * 1024
_TICK = 0.05
_GRACE = 0.2
_POLITE = 0.3
_CHUNK = 65_536
_REFUSED = re.compile(rb"[Pp]ermission denied|not permitted|[Rr]ead-only|resolve host|name resolution")
_CONFINED = (
    "\n[the command ran confined: it reads the workspace, and writes or reaches the network only as far as granted; "
    "--allow file-write:PATH, --allow network or --allow unconfined would widen that]"
)
_PASSED = frozenset({"HOME", "LANG", "LANGUAGE", "LOGNAME", "SHELL", "TERM", "TMPDIR", "TZ", "USER"})
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Output:
    """What a command left: its output (both streams, in order, at most KEPT bytes), all bytes counted, status and seconds.

    `confined`: the kernel kept it within the run's grants.
    """

    data: bytes
    size: int
    status: int
    seconds: float
    stopped: str = ""
    confined: bool = False


@tool(needs={"shell": "command"}, destructive=True, open_world=True, exclusive=True, confined=True, timeout=600)
def shell(command: str, context: Context, timeout: float = TIMEOUT) -> str:
    """Run a command line with /bin/sh and return its output (stdout and stderr), exit status and duration.

    Args:
        command: the command line.
        context: what is granted.
        timeout: seconds after which the command and its children are killed.
    """
    if "\0" in command:
        raise ToolError("a command line has no NUL byte", "invalid")
    output = run(command, context, context.remaining(max(0.1, timeout)))
    text = presented(output, context)
    if output.stopped:
        raise ToolError(text, "transient")
    return text


def run(command: str, context: Context, seconds: float) -> Output:
    """Run a command until it ends, the time is up or the run is cancelled; then nothing of its process group is left."""
    import subprocess

    began = time.monotonic()
    words = ["/bin/sh", "-c", command]
    with _place(context) as (way, environment):
        child = subprocess.Popen(
            way.argv(words) if way else words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            cwd=context.workspace, env=environment, start_new_session=True, close_fds=True,
            pass_fds=way.kept if way else (), preexec_fn=way.enter if way else None,  # noqa: PLW1509 - it makes system calls only
        )  # fmt: skip
        _remember(child)
        log = _Log()
        try:
            stopped = _collect(child, log, context, began + seconds)
        finally:
            _kill(child)
            if way:
                way.sweep()
    return Output(b"".join(log.pieces), log.size, child.returncode, time.monotonic() - began, stopped, way is not None)


@contextlib.contextmanager
def _place(context: Context) -> Iterator[tuple[Way | None, dict[str, str]]]:
    """Yield what confines the command (None: nothing, by an explicit grant) and its environment; its home is removed after."""
    from agent_core import sandbox

    if context.policy.check("shell", "unconfined") is None:
        yield None, clean(context.environment())
        return
    with sandbox.scratch("agent-home-") as home:
        choice = getattr(context.settings, "sandbox", "") or context.setting("sandbox", "auto")
        box = sandbox.of_policy(context.policy, _workspace(context), home, choice)
        with sandbox.confined(box) as way:
            yield way, sandbox.environment(context.environment(), home, _PASSED - {"HOME", "TMPDIR"})


def _workspace(context: Context) -> str:
    """Return the real path of the workspace; as it is written where a command could have put a link in its place."""
    from agent_core import sandbox

    written = os.path.abspath(context.workspace)  # noqa: PTH100 - names only
    writable = [root for rule in context.policy.grants if rule.capability == "file-write" for root in (rule.root, rule.real)]
    return written if sandbox.covered(os.path.dirname(written), writable) else os.path.realpath(written)  # noqa: PTH120


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a command may know of the environment: no keys, and no relative folders in PATH."""
    kept = {name: value for name, value in environment.items() if name in _PASSED or name.startswith("LC_")}
    folders = [folder for folder in environment.get("PATH", "").split(":") if folder.startswith("/")]
    return {**kept, "PATH": ":".join(folders) or _PATH}


def presented(output: Output, context: Context) -> str:
    """Return what the model is shown: text (head and tail of it when long), then status and duration."""
    body = output.data.decode("utf-8", "replace")
    if _is_binary(output.data):
        body = f"[binary output, {output.size} bytes, in {context.keep(output.data)}]"
    elif len(output.data) > SHOWN or output.size > len(output.data):
        body = _head_and_tail(output, context.keep(output.data))
    end = "" if not body or body.endswith("\n") else "\n"
    how = output.stopped or (f"exit {output.status}" if output.status >= 0 else f"killed by {_signal_name(-output.status)}")
    hint = _CONFINED if output.confined and output.status and _REFUSED.search(output.data) else ""
    return f"{body}{end}[{how}, {output.seconds:.2f} s]{hint}"


class _Log:
    """The first KEPT bytes of an output and the count of all."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.size = 0

    def add(self, data: bytes) -> None:
        """Keep what there is room for."""
        if self.size < KEPT:
            self.pieces.append(data[: KEPT - self.size])
        self.size += len(data)


def _collect(child: subprocess.Popen[bytes], log: _Log, context: Context, until: float) -> str:
    """Read until the end; return why it was stopped, "" when it was not."""
    import selectors

    stream = child.stdout
    if stream is None:
        return ""
    ended = 0.0
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not (reason := _reason(context, until)):
            if child.poll() is not None:
                ended = ended or time.monotonic()
                if time.monotonic() - ended > _GRACE:  # a background process holds the pipe open
                    return ""
            if selector.select(_TICK):
                data = os.read(stream.fileno(), _CHUNK)
                if not data:
                    return _waited(child, context, until)
                log.add(data)
    return reason


def _waited(child: subprocess.Popen[bytes], context: Context, until: float) -> str:
    """Wait for a command that has closed its output."""
    import subprocess

    while not (reason := _reason(context, until)):
        try:
            child.wait(_TICK)
        except subprocess.TimeoutExpired:
            continue
        return ""
    return reason


def _reason(context: Context, until: float) -> str:
    if time.monotonic() > until:
        return "killed: the time was up"
    return "killed: cancelled" if context.cancelled() else ""


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End the whole process group, so that no background process outlives the call. One that runs may first put away its locks."""
    import subprocess

    try:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_POLITE)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        if child.stdout is not None:
            child.stdout.close()  # not before: what it writes when it is told to end would kill it
        _running.discard(child)


_running: set[subprocess.Popen[bytes]] = set()


def _remember(child: subprocess.Popen[bytes]) -> None:
    """See to it that an interpreter that ends takes its commands with it."""
    if not _running:
        import atexit

        atexit.unregister(_kill_all)
        atexit.register(_kill_all)
    _running.add(child)


def _kill_all() -> None:
    for child in list(_running):
        _kill(child)


def _is_binary(data: bytes) -> bool:
    sample = data[:_CHUNK]
    odd = sum(byte < 32 and byte not in b"\t\n\r\f\b\x1b" for byte in sample)
    return b"\0" in sample or odd * 10 > len(sample)


def _head_and_tail(output: Output, path: str) -> str:
    """Return the first and the last lines, and where all of it is."""
    half = SHOWN // 2
    head = output.data[:half].rpartition(b"\n")[0] or output.data[:half]
    tail = output.data[-half:].partition(b"\n")[2] or output.data[-half:]
    lost = f" (the first {len(output.data)} bytes)" if output.size > len(output.data) else ""
    note = f"[… {output.size - len(head) - len(tail)} of {output.size} bytes left out; the output is in {path}{lost} …]"
    return f"{head.decode('utf-8', 'replace')}\n{note}\n{tail.decode('utf-8', 'replace')}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
