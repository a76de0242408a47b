"""processes - the `Spawn` op: run a program by argument list, never through a shell, and leave nothing of it behind.

A program whose call is cancelled gets SIGTERM, and SIGKILL with all it started when its time is over: the op's `grace` when the
whole run ends (`ending`), GRACE when it goes on without it. What an agent writes in that time (its record) still arrives.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent_core.errors import Cancelled, Failed, LimitError
from agent_core.ops import Completed, Spawn

GRACE = 2.0  # seconds
MARK = "AGENT_SPAWN"  # what a process that left its group (setsid, a daemon) is known by
_ROUNDS = 50
_SETTLED = 0.5
_TICK = 0.02
_live: dict[int, _Live] = {}
_ending: list[bool] = []
_over: list[bool] = []

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator


@dataclass(frozen=True, slots=True)
class _Live:
    """A program under way: its mark and how long it may take to end."""

    mark: str
    grace: float


async def spawn(op: Spawn) -> Completed:
    """Run the program with its own session; its whole process group ends with it, with the call, and with too much output."""
    process, live = await _begun(op)
    return await _heard(op, process, live)


async def _begun(op: Spawn) -> tuple[asyncio.subprocess.Process, _Live]:
    from agent_core import config

    if _over:
        raise Cancelled("interrupted")
    mark = os.urandom(8).hex()
    given = config.environ() if op.env is None else op.env
    environment = {**given, MARK: f"{given.get(MARK, '')} {mark}".strip()}
    try:
        process = await asyncio.create_subprocess_exec(
            *op.argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=environment, cwd=op.cwd, start_new_session=True, limit=op.limit,
        )  # fmt: skip
    except OSError as error:
        raise Failed(f"cannot start {op.argv[0]}: {error.strerror or error}") from None
    _ending.clear()  # who starts a program goes on, whatever a signal wanted
    live = _live[process.pid] = _Live(mark, op.grace)
    return process, live


async def _heard(op: Spawn, process: asyncio.subprocess.Process, live: _Live) -> Completed:
    out, err = bytearray(), bytearray()

    async def listen() -> None:
        await asyncio.gather(_read(process.stdout, out, op.limit), _read(process.stderr, err, op.limit))

    try:
        await asyncio.gather(listen(), _write(process.stdin, op.stdin))
        return Completed(await process.wait(), bytes(out), bytes(err))
    except asyncio.CancelledError as cancelled:
        # Not raised on: the task knows that it is cancelled, and its program takes no further step once it has this.
        await _last_words(process, live, listen)
        late = op.deadline is not None and time.monotonic() >= op.deadline
        why = "timeout" if late else str(next((each for each in cancelled.args if each), "parent"))
        return Completed(process.returncode or 0, bytes(out), bytes(err), why)
    finally:
        try:
            if process.returncode is None:
                await _stop(process, live)
        finally:
            del _live[process.pid]


async def _last_words(process: asyncio.subprocess.Process, live: _Live, listen: Callable[[], Awaitable[None]]) -> None:
    """Stop the program and hear what it still says. Who is cancelled once may be cancelled again: that shortens nothing."""
    hearing = asyncio.ensure_future(listen())
    stopping = asyncio.ensure_future(_stop(process, live))
    while not stopping.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([stopping])
    with suppress(asyncio.CancelledError):
        await asyncio.wait([hearing], timeout=_SETTLED)  # its pipes close with it, as nothing of it is left
    hearing.cancel()
    with suppress(asyncio.CancelledError, LimitError):
        await hearing


async def _stop(process: asyncio.subprocess.Process, live: _Live) -> None:
    """Ask the group to end, so that an agent in it can stop its own children (they have groups of their own); then kill it."""
    _signal(process.pid, signal.SIGTERM)
    try:
        async with asyncio.timeout(live.grace if _ending else min(live.grace, GRACE)):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        _signal(process.pid, signal.SIGKILL)
        _sweep(live.mark)
    await process.wait()


def ending() -> tuple[int, float]:
    """Say that this process is about to end: programs have their own grace now. Returns how many run, and the longest grace."""
    _ending[:] = [True]
    return len(_live), max((live.grace for live in tuple(_live.values())), default=0.0)


def end_all() -> None:
    """End the programs of other threads (rows), for a process that is about to end: told to, then killed after their grace."""
    _over[:] = [True]
    told: set[int] = set()
    until = time.monotonic() + max((live.grace for live in tuple(_live.values())), default=0.0)
    while _live and time.monotonic() < until:
        for group in set(_live) - told:
            _signal(group, signal.SIGTERM)
            told.add(group)
        time.sleep(_TICK)
    kill_all()


def kill_all() -> None:
    """Kill all programs that still run, with all they started: for a process that is about to end at once."""
    for group, live in tuple(_live.items()):
        _signal(group, signal.SIGKILL)
        _sweep(live.mark)


def _sweep(mark: str) -> None:
    """Kill what carries a program's mark, wherever it went, until a look finds nothing that is new."""
    killed: set[int] = set()
    for _ in range(_ROUNDS):
        found = set(_marked(mark.encode())) - killed
        if not found:
            return
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= found


def _marked(mark: bytes) -> Iterator[int]:
    """Yield our user's processes that carry a mark. Others cannot be read, and one without /proc has none."""
    with suppress(OSError):
        for name in os.listdir("/proc"):  # noqa: PTH208 - no pathlib on this path
            with suppress(OSError, ValueError), open(f"/proc/{int(name)}/environ", "rb") as file:  # noqa: PTH123
                own = next((each for each in file.read().split(b"\0") if each.startswith(f"{MARK}=".encode())), b"")
                if mark in own.partition(b"=")[2].split():
                    yield int(name)


def _signal(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


async def _read(stream: asyncio.StreamReader | None, body: bytearray, limit: int) -> None:
    while stream is not None and (chunk := await stream.read(65536)):
        body += chunk
        if len(body) > limit:
            raise LimitError(f"the program wrote more than {limit} bytes")


async def _write(stream: asyncio.StreamWriter | None, data: bytes) -> None:
    if stream is None:
        return
    try:
        stream.write(data)
        await stream.drain()
    except (BrokenPipeError, ConnectionResetError):
        return
    finally:
        stream.close()
