"""connections - the `Http` op on asyncio: keep-alive connections, parsed with httptools.

httpx's pool is quadratic in open requests (32 ms CPU a run at 1,000 concurrent runs: docs/decisions.md), so this trampoline
holds connections itself: a stack of idle ones per origin, each thread's its own (a connection lives and dies on one loop).
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import httptools

from agent_core.errors import AgentError, BadReply, ConfigError, TransportError
from agent_core.http import USER_AGENT, feed, tls
from agent_core.ops import Http, Response

if TYPE_CHECKING:
    from collections.abc import Callable
    from urllib.parse import SplitResult

    from agent_core.provider import Request


class _Idle(threading.local):
    def __init__(self) -> None:
        self.by_origin: dict[tuple[str, str, int], list[_Connection]] = defaultdict(list)


_idle = _Idle()
_contexts: list[Any] = []
_CONNECT_SECONDS = 15.0
_MOST_IDLE = 2048
_MOST_HEADER_BYTES = 256 * 1024
_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


async def send(op: Http, late: Callable[[], Exception]) -> Any:
    """Send the request; return a Response, or the decoder's Reply for a 2xx answer when the op has a decoder.

    Raises:
        Exception: `late()` once the op's deadline is past.
    """
    from urllib.parse import urlsplit

    url = urlsplit(op.request.url)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ConfigError("the provider's address is not usable", hint="check the base URL")
    origin = (url.scheme, url.hostname, url.port or (443 if url.scheme == "https" else 80))
    while True:
        connection = _take(origin)
        reused = connection is not None
        if connection is None:
            connection = await _connect(origin, op.deadline, late)
        try:
            answer = await connection.exchange(op, url, late)
        except _ClosedEarly:
            if reused:
                continue
            raise TransportError("the server closed the connection without an answer") from None
        finally:
            connection.release(_idle.by_origin[origin])
        return answer


def close() -> None:
    """Close the idle connections of this thread (they belong to the loop that is ending)."""
    for connections in _idle.by_origin.values():
        for connection in connections:
            connection.close()
    _idle.by_origin.clear()


def _take(origin: tuple[str, str, int]) -> _Connection | None:
    stack = _idle.by_origin[origin]
    loop = asyncio.get_running_loop()
    while stack:
        connection = stack.pop()
        if connection.reusable and connection.loop is loop:
            return connection
        connection.close()
    return None


async def _connect(origin: tuple[str, str, int], deadline: float | None, late: Callable[[], Exception]) -> _Connection:
    loop = asyncio.get_running_loop()
    left = _CONNECT_SECONDS if deadline is None else min(_CONNECT_SECONDS, deadline - time.monotonic())
    context = None
    if origin[0] == "https":
        if not _contexts:
            _contexts.append(tls())
        context = _contexts[0]
    try:
        async with asyncio.timeout(left):
            _, connection = await loop.create_connection(lambda: _Connection(loop), origin[1], origin[2], ssl=context)
    except TimeoutError:
        if left < _CONNECT_SECONDS:
            raise late() from None
        raise TransportError(f"cannot reach {origin[1]}: no connection in {_CONNECT_SECONDS:.0f} s") from None
    except OSError as error:
        raise TransportError(f"cannot reach {origin[1]}: {error.strerror or error}", cause=type(error).__name__) from None
    return connection


class _ClosedEarly(Exception):  # noqa: N818 - a signal between two functions of this module
    """The connection ended before any byte of an answer."""


class _Connection(asyncio.Protocol):
    """One connection; one exchange at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.reusable = True
        self._transport: Any = None
        self._op: Http | None = None
        self._done: asyncio.Future[Any] | None = None
        self._parser: Any = None
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._size = 0
        self._begun = False
        self._stream = False
        self._settled = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def close(self) -> None:
        """Close at once."""
        self.reusable = False
        if self._transport is not None and not self.loop.is_closed():
            self._transport.abort()

    def release(self, idle: list[_Connection]) -> None:
        """Go back to the idle ones, or close if the exchange did not end as it should."""
        if self.reusable and self._settled and len(idle) < _MOST_IDLE:
            idle.append(self)
        else:
            self.close()

    async def exchange(self, op: Http, url: SplitResult, late: Callable[[], Exception]) -> Any:
        """Send one request and return what came of it, or raise `late()` at the op's deadline."""
        self._settled = False
        self._op, self._size, self._begun, self._stream = op, 0, False, False
        self._headers, self._body = {}, bytearray()
        self._parser = httptools.HttpResponseParser(self)
        done = self._done = self.loop.create_future()
        head = _head(op.request, url)
        timer = None
        if op.deadline is not None:
            timer = self.loop.call_at(op.deadline - time.monotonic() + self.loop.time(), lambda: self._fail(late()))
        self._transport.write(head + op.request.body)
        try:
            answer = await done
            self._settled = True
            return answer
        finally:
            if timer is not None:
                timer.cancel()
            self._done = self._op = self._parser = None

    # -- what the loop says

    def data_received(self, data: bytes) -> None:
        if self._done is None or self._done.done():
            self.close()
            return
        self._begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            problem = error.__context__
            self._fail(problem if isinstance(problem, AgentError) else TransportError(f"the answer cannot be read: {error}"))
        except httptools.HttpParserError as error:
            self._fail(TransportError(f"the answer is not HTTP: {error}"))

    def eof_received(self) -> None:
        """An answer without a length ends here; any other is cut off."""
        if self._done is None or self._done.done():
            self.close()
        elif not self._begun:
            self._fail(_ClosedEarly())
        elif self._headers and not {"content-length", "transfer-encoding"} & self._headers.keys():
            self.reusable = False
            self._settle()
        else:
            self._fail(TransportError("the connection broke in the middle of the answer"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        if self._done is not None and not self._done.done():
            lost = TransportError("the connection broke", cause=type(exc).__name__) if exc or self._begun else _ClosedEarly()
            self._done.set_exception(lost)

    # -- what the parser says

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        self._size += len(name) + len(value)
        if self._size > _MOST_HEADER_BYTES:
            raise BadReply("the reply's headers are too large")

    def on_headers_complete(self) -> None:
        """Decide whether the body is decoded as it comes."""
        op = self._op
        self._size = 0
        self._stream = op is not None and op.decoder is not None and 200 <= self._parser.get_status_code() < 300

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        op = self._op
        if op is None:
            return
        self._size += len(data)
        if self._size > op.limit:
            raise BadReply(f"the reply is larger than {op.limit} bytes")
        if self._stream:
            feed(op, data)
        else:
            self._body += data

    def on_message_complete(self) -> None:
        """Settle the exchange; interim (1xx) answers are passed over."""
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._headers = {}
            return
        self.reusable = self.reusable and self._parser.should_keep_alive()
        self._settle()

    def _settle(self) -> None:
        op, done = self._op, self._done
        if op is None or done is None or done.done():
            return
        try:
            if self._stream and op.decoder is not None:
                done.set_result(op.decoder.finish())
            else:
                done.set_result(Response(self._parser.get_status_code(), self._headers, bytes(self._body)))
        except AgentError as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.reusable = False
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)


def _head(request: Request, url: SplitResult) -> bytes:
    """Return the request line and headers; ConfigError where a value would end its line early."""
    target = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
    lines = [f"{request.method} {target} HTTP/1.1", f"host: {url.netloc.rpartition('@')[2]}"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    lines += ["accept-encoding: identity", f"user-agent: {USER_AGENT}", f"content-length: {len(request.body)}"]
    if any(_UNSAFE.search(line) for line in lines) or " " in target:
        raise ConfigError(
            "the request cannot be sent: a control character in its address or key", hint="check the base URL and the key"
        )
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
