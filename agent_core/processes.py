"""processes - the `Spawn` op: run a program by argument list, never through a shell, and leave nothing of it behind."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

from agent_core.errors import Failed, LimitError
from agent_core.ops import Completed, Spawn

GRACE = 2.0

if TYPE_CHECKING:
    from collections.abc import Callable


async def spawn(op: Spawn) -> Completed:
    """Run the program with its own session; on cancellation or too much output its whole process group is killed."""
    if op.box is None:
        return await _spawned(op, None)
    from agent_core import sandbox

    with sandbox.confined(op.box) as enter:
        return await _spawned(op, enter)


async def _spawned(op: Spawn, enter: Callable[[], None] | None) -> Completed:
    try:
        process = await asyncio.create_subprocess_exec(
            *op.argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=None if op.env is None else dict(op.env), cwd=op.cwd, start_new_session=True, limit=op.limit,
            preexec_fn=enter,
        )  # fmt: skip
    except OSError as error:
        raise Failed(f"cannot start {op.argv[0]}: {error.strerror or error}") from None
    try:
        out, err, _ = await asyncio.gather(
            _read(process.stdout, op.limit), _read(process.stderr, op.limit), _write(process.stdin, op.stdin)
        )
        return Completed(await process.wait(), out, err)
    finally:
        if process.returncode is None:
            await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Ask the group to end, so that an agent in it can stop its own children (they have groups of their own); then kill it."""
    _signal(process.pid, signal.SIGTERM)
    try:
        async with asyncio.timeout(GRACE):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        _signal(process.pid, signal.SIGKILL)
    await process.wait()


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
