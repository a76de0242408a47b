"""starting - how long programs take to start, measured together in one run (`scripts/bench start`).

CPU time is user + system time of the process (wait4); up to the request it is what the kernel has counted for its threads when the
first byte arrives. Wall times of a shared machine say little: medians of calls done in turn, as ratios to the bare interpreter.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

REPLY = (
    b'{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"done"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
)
PEERS = {"llm": "llm"}  # command -> distribution
TARGETS = {"--version": 2.0, "--agent-schema": 2.0, "--help": 2.0, "--tool uppercase x": 3.0, "exec -> request": 8.0}


@dataclass(frozen=True, slots=True)
class Call:
    """One thing to measure. `request`: up to the first byte that arrives, not to the exit."""

    label: str
    argv: tuple[str, ...]
    target: float = 0.0
    request: bool = False


@dataclass(slots=True)
class Figures:
    """What the goes of one call came to: CPU ms, wall ms, peak MB."""

    call: Call
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    peak: float = 0.0
    status: int = 0


class Listener:
    """A model that notes, when the first byte of a request arrives, what the process that sent it has cost so far."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}/v1"
        self.pid, self.cost, self.moment = 0, 0.0, 0.0

    def __enter__(self) -> Listener:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(20)
                data = connection.recv(65536)
                self.moment, self.cost = time.perf_counter(), spent(self.pid)
                while data and not complete(data):
                    more = connection.recv(65536)
                    data = data + more if more else b""
                head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
                connection.sendall(head % len(REPLY) + REPLY)


def complete(data: bytes) -> bool:
    """Whether a whole request has arrived."""
    head, _, body = data.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return bool(_) and len(body) >= int(length or 0)


def spent(pid: int) -> float:
    """Return the CPU seconds of a process up to now, its threads together (Linux: /proc/PID/task/*/schedstat, nanoseconds)."""
    try:
        return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def rows(python: Path, source: Path, frozen: Path | None, url: str) -> list[Call]:
    """Return what is measured: the bare interpreter first."""
    bare = os.path.realpath(python)
    site = str(next(Path(python).parent.parent.glob("lib/python*/site-packages")))
    httpx = f"import sys; sys.path.append({site!r}); import httpx"
    post = f"{httpx}; httpx.post({url + '/chat/completions'!r}, json={{'model': 'm', 'messages': []}}).json()"
    found = [Call("bare: python -I -S -c pass", (bare, "-I", "-S", "-c", "pass"))]
    if frozen is not None:
        found += [
            replace(call, target=TARGETS.get(call.label.partition(" ")[2], 0.0)) for call in _agent("frozen", (str(frozen),), url)
        ]
    found += _agent("source", (str(python), str(source)), url)
    found += [
        Call("httpx alone -> request", (bare, "-c", post), request=True),
        Call("python -c 'import httpx'", (bare, "-c", httpx)),
    ]
    return found


def _agent(kind: str, program: tuple[str, ...], url: str) -> list[Call]:
    asking = ("--base-url", url, "--provider", "openai", "--model", "m", "--no-stdin", "say something")
    words = {
        "--version": ("--version",), "--agent-schema": ("--agent-schema",), "--help": ("--help",),
        "--tool uppercase x": ("--tool", "uppercase", "x"), "offline run": ("--provider", "offline", "make this uppercase: 'x'"),
        "run with a model": asking,
    }  # fmt: skip
    found = [Call(f"{kind} {name}", (*program, *rest)) for name, rest in words.items()]
    return [*found, Call(f"{kind} exec -> request", (*program, *asking), request=True)]


def peers(folder: Path | None) -> list[Call]:
    """Return the other command lines: those on the PATH; with a folder, they are installed into it."""
    found = []
    for command, distribution in PEERS.items():
        program = shutil.which(command)
        if program is None and folder is not None:
            subprocess.run([sys.executable, "-m", "venv", str(folder / "peers")], check=True)
            subprocess.run([str(folder / "peers/bin/pip"), "install", "-q", distribution], check=True)
            program = str(folder / "peers/bin" / command)
        if program is not None:
            found.append(Call(f"{command} --version", (program, "--version")))
    return found


def measured(calls: list[Call], runs: int, listener: Listener, home: Path) -> list[Figures]:
    """Run all calls in turn, so that a busy moment meets all alike; the first turn warms up."""
    figures = [Figures(call) for call in calls]
    env = {"PATH": os.defpath, "HOME": str(home), "LC_ALL": "C.UTF-8", "OPENAI_API_KEY": "not-a-key-123"}
    for turn in range(runs + 1):
        for each in figures:
            _go(each, listener, env, keep=turn > 0)
    return figures


def _go(figures: Figures, listener: Listener, env: dict[str, str], *, keep: bool) -> None:
    nothing = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        *((os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_WRONLY, 0) for fd in (1, 2)),
    ]
    listener.cost = 0.0
    began = time.perf_counter()
    argv = figures.call.argv
    listener.pid = pid = os.posix_spawn(argv[0], argv, env, file_actions=nothing)
    _, status, usage = os.wait4(pid, 0)
    ended = time.perf_counter()
    figures.status = figures.status or os.waitstatus_to_exitcode(status)
    if keep:
        asked = figures.call.request
        figures.cpu.append((listener.cost if asked else usage.ru_utime + usage.ru_stime) * 1000)
        figures.wall.append(((listener.moment if asked else ended) - began) * 1000)
        figures.peak = max(figures.peak, usage.ru_maxrss / 1024)


def ratios(figures: list[Figures]) -> dict[str, float]:
    """Return the median CPU time of each call, times that of the first."""
    base = statistics.median(figures[0].cpu)
    return {each.call.label: statistics.median(each.cpu) / base for each in figures}


def show(figures: list[Figures]) -> None:
    """Print the table."""
    print(f"{'':32} {'CPU ms':>8} {'x bare':>7} {'target':>7} {'wall ms':>8} {'peak MB':>8}   (medians)")
    for each, ratio in zip(figures, ratios(figures).values(), strict=True):
        target = f"{each.call.target:7.1f}" if each.call.target else f"{'':7}"
        cpu, wall = statistics.median(each.cpu), statistics.median(each.wall)
        failed = f"   status {each.status}" if each.status else ""
        print(f"{each.call.label:32} {cpu:8.1f} {ratio:7.2f} {target} {wall:8.1f} {each.peak:8.1f}{failed}")
