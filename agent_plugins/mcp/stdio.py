"""stdio - a server as a program of ours: one JSON message a line, its own process group, and nothing of it left behind.

One thread reads its stdout and stderr. Writing never blocks beyond a deadline. Whatever ends this process, also a SIGKILL, ends the
server: a keeper (three lines of sh, waiting on a pipe that only we hold) kills its process group then.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from agent_core.errors import ConfigError, TransportError
from agent_plugins.mcp import servers, wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent_plugins.mcp.servers import Server

# The keeper: a line on stdin means that all is well; the end of stdin, that nobody will tidy up. $1 is the process group, which
# gets 0.2 s to leave by itself (its stdin has ended, too), and 1 s more after SIGTERM.
KEEPER = (
    "read -r _ && exit 0;"
    'wait_for() { for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "-$1" 2>/dev/null || exit 0; sleep "$2"; done; };'
    'wait_for "$1" 0.02; kill -TERM "-$1" 2>/dev/null; wait_for "$1" 0.1; kill -KILL "-$1" 2>/dev/null'
)
_CHUNK = 65536
_LEAVES, _DIES = 0.5, 1.0
_SAID = 5


class Stdio:
    """A running server. `take(message)` is called for every message that comes, `ended()` once when no more can."""

    def __init__(
        self,
        server: Server,
        settings: Any,
        take: Callable[[dict[str, Any]], None],
        ended: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        """Start the program. ConfigError if there is no such program, or it cannot be run."""
        self._server, self._take, self._ended, self._say = server, take, ended, say
        self._lock = threading.Lock()
        self._said: list[str] = []
        self._noise = 0
        self.problem = ""
        self._over = False
        self._process = _started(server, settings)
        self._keeper = _kept(self._process.pid)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            os.set_blocking(pipe.fileno(), False)  # type: ignore[union-attr]
        self._thread = threading.Thread(target=self._read, name=f"mcp {server.name}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether messages can still come."""
        return not self._over and not self.problem

    def why(self) -> str:
        """Return why no more messages come, with the last words of stderr."""
        from agent_core.a2a import shown

        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)
        status = self._process.returncode
        became = (
            "closed its output"
            if status is None
            else f"was killed by signal {-status}"
            if status < 0
            else f"ended with status {status}"
        )
        last = f" and says: {shown(self._said[-1])}" if self._said else ""
        return f"{self.problem or became}{last}"

    def post(self, message: Mapping[str, Any], deadline: float) -> None:
        """Write a message. TransportError if the server is gone or does not read; half a message ends the connection."""
        data = memoryview(wire.encode(message))
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise TimeoutError
        try:
            self._write(data, deadline)
        finally:
            self._lock.release()

    def _write(self, data: memoryview, deadline: float) -> None:
        pipe: Any = self._process.stdin
        total = len(data)
        try:
            while data:
                try:
                    data = data[os.write(pipe.fileno(), data[:_CHUNK]) :]
                except BlockingIOError:
                    if not _writable(pipe, deadline - time.monotonic()):
                        raise TimeoutError from None
        except (OSError, ValueError) as error:
            if isinstance(error, TimeoutError):
                self.problem = self.problem or ("does not read what it is sent" if len(data) < total else "")
                raise
            raise TransportError(f"the MCP server {self._server.name} {self.why()}", hint="see -v for what it says") from None
        except BaseException:
            if len(data) < total:
                self.problem = "was sent half a message"
            raise

    # -- reading

    def _read(self) -> None:
        """Read both pipes until stdout ends; runs on a thread of its own."""
        out, err = bytearray(), bytearray()
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._process.stdout, selectors.EVENT_READ, (out, self._message))  # type: ignore[arg-type]
                selector.register(self._process.stderr, selectors.EVENT_READ, (err, self._word))  # type: ignore[arg-type]
                while self._process.stdout in {key.fileobj for key in selector.get_map().values()} and not self.problem:
                    for key, _ in selector.select():
                        if not self._chunk(key.fileobj, *key.data):
                            selector.unregister(key.fileobj)
            self._chunk(self._process.stderr, err, self._word)
        except (OSError, ValueError) as error:
            self.problem = self.problem or str(error)
        finally:
            self._over = True
            self._ended()

    def _chunk(self, pipe: Any, kept: bytearray, line: Callable[[bytes], None]) -> bool:
        """Take what there is to read; return whether there may be more."""
        try:
            data = os.read(pipe.fileno(), _CHUNK)
        except BlockingIOError:
            return True
        if not data:
            if kept:
                line(bytes(kept))
            return False
        first, newline, _ = data.partition(b"\n")
        kept += first
        if newline:
            *lines, rest = data[len(first) + 1 :].split(b"\n")
            line(bytes(kept))
            kept[:] = rest
            for each in lines:
                line(each)
        if len(kept) > (wire.LARGEST if line == self._message else _CHUNK):
            if line == self._message:
                raise ValueError(f"sent a message larger than {wire.LARGEST >> 20} MiB")
            kept.clear()
        return True

    def _message(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            found = wire.messages(line)
        except ValueError:
            # Some programs print a greeting; that is no reason to give up.
            self._noise += 1
            if self._noise == 1:
                self._say(f"wrote something to stdout that is no message: {line[:200].decode('utf-8', 'replace')}")
            return
        for message in found:
            self._take(message)

    def _word(self, line: bytes) -> None:
        text = line[:2000].decode("utf-8", "replace").strip()
        if text:
            self._said = [*self._said[1 - _SAID :], text]
            self._say(text)

    # -- the end

    def close(self) -> None:
        """End the server: close its stdin, then ask its process group to go, then make it go. Nothing is left, no zombie either."""
        process = self._process
        with suppress(OSError, ValueError):
            process.stdin.close()  # type: ignore[union-attr]
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.0 if self.problem else _LEAVES)
        if _signalled(process.pid, signal.SIGTERM):
            end = time.monotonic() + _DIES
            while time.monotonic() < end and (process.poll() is None or _signalled(process.pid, 0)):
                time.sleep(0.01)
            _signalled(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_DIES)
        self._dismiss()
        self._thread.join(_DIES)

    def _dismiss(self) -> None:
        if self._keeper is not None:
            with suppress(OSError, subprocess.TimeoutExpired):
                self._keeper.communicate(b"well\n", _DIES)


def _started(server: Server, settings: Any) -> subprocess.Popen[bytes]:
    import shutil

    env = servers.environment(server, settings)
    # Empty and relative folders in PATH would be looked up in the workspace.
    path = os.pathsep.join(each for each in env.get("PATH", os.defpath).split(os.pathsep) if each.startswith("/"))
    program = shutil.which(server.argv[0], path=path)
    if program is None:
        raise ConfigError(
            f"the MCP server {server.name} cannot start: no program {server.argv[0][:200]!r}", hint="is it installed?"
        )
    with ExitStack() as stack:
        way = stack.enter_context(_confined(server, program, settings)) if server.box is not None else None
        words = [program, *server.argv[1:]]
        try:
            return subprocess.Popen(
                way.argv(words) if way else words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
                env={**env, "PATH": path}, cwd=server.cwd, start_new_session=True,
                pass_fds=way.kept if way else (), preexec_fn=way.enter if way else None,  # noqa: PLW1509 - it makes system calls only
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(f"the MCP server {server.name} cannot start: {reason}", hint="check its command and folder") from None


def _confined(server: Server, program: str, settings: Any) -> Any:
    """Return the context in which the program is boxed in."""
    from agent_core import sandbox

    box = server.box or servers.Box()
    base = settings.workspace or "."
    read, write = ([os.path.join(base, os.path.expanduser(path)) for path in paths] for paths in (box.read, box.write))  # noqa: PTH111, PTH118
    home = os.path.dirname(os.path.dirname(os.path.realpath(program)))  # noqa: PTH120
    # Servers are started by threads that end before them.
    return sandbox.confined(sandbox.Box((*read, home, program), tuple(write), box.network, level=settings.sandbox, lasting=True))


def _kept(group: int) -> subprocess.Popen[bytes] | None:
    """Start the keeper of a process group; None where there is no sh (then only the end of its stdin tells a server to go)."""
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", KEEPER, "mcp-keeper", str(group)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True, cwd="/", env={"PATH": "/usr/bin:/bin"},
        )  # fmt: skip
    except OSError:
        return None


def _signalled(group: int, number: int) -> bool:
    """Signal a process group; return whether there was one."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _writable(pipe: Any, seconds: float) -> bool:
    import select

    if seconds <= 0:
        return False
    poll = select.poll()
    poll.register(pipe.fileno(), select.POLLOUT)
    return bool(poll.poll(max(1, seconds * 1000)))
