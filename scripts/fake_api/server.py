"""server - HTTP/1.1 on asyncio's bare protocol: keep-alive, pipelining, steps with pauses, rude endings."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
import struct
from typing import TYPE_CHECKING

from fake_api.app import App, Incoming, Quick
from fake_api.faults import Ending, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)
CLOSING = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue", re.IGNORECASE)
HEAD_LIMIT = 1024 * 1024
RST = struct.pack("ii", 1, 0)


class Connection(asyncio.Protocol):
    """One client's connection. One request is answered at a time, in order."""

    __slots__ = ("app", "buffer", "busy", "closing", "need", "paused", "quick", "steps", "timer", "transport")

    def __init__(self, app: App, quick: Quick | None) -> None:
        self.app = app
        self.quick = quick
        self.buffer = bytearray()
        self.need = 0
        self.steps: Iterator[Step] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.paused = False
        self.closing = False
        self.busy = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, _exc: Exception | None) -> None:
        """Drop what was still to be sent."""
        if self.timer:
            self.timer.cancel()
        self.steps = None
        self._count(busy=False)

    def data_received(self, data: bytes) -> None:
        """Take bytes; answer when a request is whole."""
        self.buffer += data
        if self.steps is None and len(self.buffer) >= self.need:
            self._serve()

    def pause_writing(self) -> None:
        """Wait: the client does not read."""
        self.paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self.paused = False
        if self.steps is not None and self.timer is None:
            self._advance()

    def _serve(self) -> None:
        """Answer every whole request in the buffer, until one takes time."""
        while self.steps is None and self.buffer:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self.buffer) > HEAD_LIMIT:
                    self.transport.close()
                return
            head = bytes(self.buffer[:end])
            body = self._body(head, end + 4)
            if body is None:
                return
            self.need = 0
            self.closing = CLOSING.search(head) is not None
            self._answer(head, body)

    def _body(self, head: bytes, start: int) -> bytes | None:
        """Return the request's body and take it off the buffer; None while it is not all there."""
        if CHUNKED.search(head):
            body, end = unchunk(self.buffer, start)
        else:
            found = LENGTH.search(head)
            end = start + int(found[1]) if found else start
            body = bytes(self.buffer[start:end]) if len(self.buffer) >= end else None
        if body is None:
            if not self.need and EXPECTS.search(head):
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.need = max(end, 1)
            return None
        del self.buffer[:end]
        return body

    def _answer(self, head: bytes, body: bytes) -> None:
        line, _, rest = head.partition(b"\r\n")
        method, target, *_ = (*line.split(b" ", 2), b"", b"")
        if self.quick is not None and (data := self.quick.answer(target, body)) is not None:
            if not self.app.delay_ms:
                self.transport.write(data)
                self._finish()
                return
            self.steps = iter((self.app.delay_ms / 1000, data))
        else:
            incoming = Incoming(method.decode("latin-1"), target.decode("latin-1"), headers(rest), body)
            self.steps = iter(self.app.answer(incoming))
        self._count(busy=not target.startswith(b"/_"))
        self._advance()

    def _count(self, *, busy: bool) -> None:
        """Keep count of the requests that are being answered."""
        if busy != self.busy:
            self.busy = busy
            self.app.at_once(1 if busy else -1)

    def _advance(self) -> None:
        """Do steps until one takes time or the client is slow."""
        self.timer = None
        while self.steps is not None and not self.paused:
            step = next(self.steps, None)
            match step:
                case None:
                    self.steps = None
                    self._count(busy=False)
                    self._finish()
                    self._serve()
                case bytes():
                    self.transport.write(step)
                case Ending():
                    self._end(step)
                    return
                case _:
                    self.timer = asyncio.get_running_loop().call_later(step, self._advance)
                    return

    def _finish(self) -> None:
        if self.closing:
            self.transport.close()

    def _end(self, ending: Ending) -> None:
        self._count(busy=False)
        if ending is Ending.RESET:
            # linger of zero makes close() send RST instead of FIN
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
            self.transport.abort()
        elif ending is Ending.CLOSE:
            self.transport.close()


def headers(lines: bytes) -> dict[str, str]:
    """Return headers, names in lower case."""
    pairs = (line.partition(":") for line in lines.decode("latin-1").split("\r\n") if line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def unchunk(buffer: bytearray, start: int) -> tuple[bytes | None, int]:
    """Return a chunked body and where it ends; None while it is not all there."""
    parts: list[bytes] = []
    while (line := buffer.find(b"\r\n", start)) >= 0:
        try:
            size = int(bytes(buffer[start:line]).partition(b";")[0], 16)
        except ValueError:
            return b"".join(parts), len(buffer)
        start = line + 2
        if len(buffer) < start + size + 2:
            break
        if size == 0:
            return b"".join(parts), start + 2
        parts.append(bytes(buffer[start : start + size]))
        start += size + 2
    return None, 0


async def serve(app: App, quick: Quick | None, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; print the address when ready."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError, ValueError):
            loop.add_signal_handler(number, stopped.set)
    server = await loop.create_server(lambda: Connection(app, quick), host, port, backlog=8192)
    bound = server.sockets[0].getsockname()[1]
    print(hello(f"http://{host}:{bound}"), flush=True)
    await stopped.wait()
    server.close()


def hello(url: str) -> str:
    """Return the line that says where, and the environment that points every vendor's client here."""
    hints = {
        "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "fake", "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "fake",
        "OLLAMA_HOST": url, "GEMINI_BASE_URL": url, "GEMINI_API_KEY": "fake", "COHERE_BASE_URL": url, "COHERE_API_KEY": "fake",
        "AZURE_OPENAI_ENDPOINT": url, "AZURE_OPENAI_API_KEY": "fake", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": url,
        "AWS_BEARER_TOKEN_BEDROCK": "fake",
    }  # fmt: skip
    return "\n".join([f"listening on {url}", *(f"# export {name}={value}" for name, value in hints.items())])
