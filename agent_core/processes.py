"""processes - the `Spawn` op: run a program by argument list, never through a shell, and leave nothing of it behind."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from agent_core.errors import Failed, LimitError
from agent_core.ops import Completed, Spawn

GRACE = 2.0
MARK = "AGENT_SPAWN"  # what a process that left its group (setsid, a daemon) is known by
_ROUNDS = 50
_live: dict[int, str] = {}

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


async def spawn(op: Spawn) -> Completed:
    """Run the program with its own session; on cancellation or too much output its whole process group is killed."""
    if op.box is None:
        return await _spawned(op, None)
    from agent_core import sandbox

    with sandbox.confined(op.box) as enter:
        return await _spawned(op, enter)


async def _spawned(op: Spawn, enter: Callable[[], None] | None) -> Completed:
    from agent_core import config

    mark = os.urandom(8).hex()
    given = config.environ() if op.env is None else op.env
    environment = {**given, MARK: f"{given.get(MARK, '')} {mark}".strip()}
    try:
        process = await asyncio.create_subprocess_exec(
            *op.argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=environment, cwd=op.cwd, start_new_session=True, limit=op.limit,
            preexec_fn=enter,
        )  # fmt: skip
    except OSError as error:
        raise Failed(f"cannot start {op.argv[0]}: {error.strerror or error}") from None
    _live[process.pid] = mark
    try:
        out, err, _ = await asyncio.gather(
            _read(process.stdout, op.limit), _read(process.stderr, op.limit), _write(process.stdin, op.stdin)
        )
        return Completed(await process.wait(), out, err)
    finally:
        try:
            if process.returncode is None:
                await _stop(process, mark)
        finally:
            del _live[process.pid]


async def _stop(process: asyncio.subprocess.Process, mark: str) -> None:
    """Ask the group to end, so that an agent in it can stop its own children (they have groups of their own); then kill it."""
    _signal(process.pid, signal.SIGTERM)
    try:
        async with asyncio.timeout(GRACE):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        _signal(process.pid, signal.SIGKILL)
        _sweep(mark)
    await process.wait()


def kill_all() -> None:
    """Kill all programs that still run, with all they started: for a process that is about to end at once."""
    for group, mark in tuple(_live.items()):
        _signal(group, signal.SIGKILL)
        _sweep(mark)


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


async def _read(stream: asyncio.StreamReader | None, limit: int) -> bytes:
    body = bytearray()
    while stream is not None and (chunk := await stream.read(65536)):
        body += chunk
        if len(body) > limit:
            raise LimitError(f"the program wrote more than {limit} bytes")
    return bytes(body)


async def _write(stream: asyncio.StreamWriter | None, data: bytes) -> bytes:
    if stream is None:
        return b""
    try:
        stream.write(data)
        await stream.drain()
    except (BrokenPipeError, ConnectionResetError):
        return b""
    finally:
        stream.close()
    return b""
