"""connections - the `Http` op on asyncio: keep-alive connections, parsed with h11.

httpx's pool is quadratic in open requests (32 ms CPU a run at 1,000 concurrent runs, see docs/decisions.md), so the async trampoline
holds connections itself: a stack of idle ones per origin.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import h11

from agent_core.errors import AgentError, BadReply, ConfigError, TransportError
from agent_core.http import feed, tls
from agent_core.ops import Http, Response

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_idle: dict[tuple[str, str, int], list[_Connection]] = defaultdict(list)
_contexts: list[Any] = []
_CONNECT_SECONDS = 15.0
_MOST_IDLE = 2048


async def send(op: Http) -> Any:  # noqa: PLR0915 - one exchange from connection to connection
    """Send the request; return a Response, or the decoder's Reply for a 2xx answer when the op has a decoder."""
    from urllib.parse import urlsplit

    url = urlsplit(op.request.url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ConfigError("the provider's address is not usable", hint="check the base URL")
    origin = (url.scheme, url.hostname, url.port or (443 if url.scheme == "https" else 80))
    while True:
        connection = _take(origin)
        reused = connection is not None
        if connection is None:
            connection = await _connect(origin)
        try:
            answer = await connection.exchange(op, url)
        except _ClosedEarly:
            connection.close()
            if reused:
                continue
            raise TransportError("the server closed the connection without an answer") from None
        except BaseException:
            connection.close()
            raise
        if connection.reusable and len(_idle[origin]) < _MOST_IDLE:
            _idle[origin].append(connection)
        else:
            connection.close()
        return answer


def close() -> None:
    """Close all idle connections (they belong to the loop that is ending)."""
    for connections in _idle.values():
        for connection in connections:
            connection.close()
    _idle.clear()


def _take(origin: tuple[str, str, int]) -> _Connection | None:
    stack = _idle[origin]
    loop = asyncio.get_running_loop()
    while stack:
        connection = stack.pop()
        if connection.reusable and connection.loop is loop:
            return connection
        connection.close()
    return None


async def _connect(origin: tuple[str, str, int]) -> _Connection:
    loop = asyncio.get_running_loop()
    context = None
    if origin[0] == "https":
        if not _contexts:
            _contexts.append(tls())
        context = _contexts[0]
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, connection = await loop.create_connection(lambda: _Connection(loop), origin[1], origin[2], ssl=context)
    except TimeoutError:
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
        self._machine = h11.Connection(h11.CLIENT, max_incomplete_event_size=256 * 1024)
        self._transport: Any = None
        self._op: Http | None = None
        self._done: asyncio.Future[Any] | None = None
        self._head: h11.Response | None = None
        self._body = bytearray()
        self._size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def close(self) -> None:
        """Close at once."""
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    async def exchange(self, op: Http, url: SplitResult) -> Any:
        """Send one request and return what came of it."""
        self._op, self._head, self._size = op, None, 0
        self._body = bytearray()
        done = self._done = self.loop.create_future()
        request = op.request
        target = url.path or "/"
        headers = [
            ("host", url.netloc.rpartition("@")[2]),
            *request.headers,
            ("accept-encoding", "identity"),
            ("content-length", str(len(request.body))),
        ]
        machine = self._machine
        try:
            head = machine.send(
                h11.Request(method=request.method, target=f"{target}?{url.query}" if url.query else target, headers=headers)
            )
        except h11.LocalProtocolError as error:
            raise ConfigError(f"the request cannot be sent: {error}", hint="check the base URL and the key") from None
        machine.send(h11.Data(data=request.body))
        machine.send(h11.EndOfMessage())
        self._transport.write(b"".join((head or b"", request.body)))
        try:
            return await done
        finally:
            self._done = self._op = None

    def data_received(self, data: bytes) -> None:
        if self._done is None or self._done.done():
            self.close()
            return
        try:
            self._machine.receive_data(data)
            self._advance()
        except h11.RemoteProtocolError as error:
            self._fail(TransportError(f"the answer is not HTTP: {error}"))
        except AgentError as error:
            self._fail(error)

    def eof_received(self) -> None:
        """Let h11 judge whether the message was complete."""
        if self._done is None or self._done.done():
            self.close()
            return
        if self._head is None:
            self._fail(_ClosedEarly())
            return
        self.data_received(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        if self._done is not None and not self._done.done():
            lost = TransportError("the connection broke", cause=type(exc).__name__) if exc or self._head else _ClosedEarly()
            self._done.set_exception(lost)

    def _fail(self, error: Exception) -> None:
        self.reusable = False
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)

    def _advance(self) -> None:
        machine = self._machine
        while True:
            event: Any = machine.next_event()
            kind = type(event)
            if kind is h11.Data:
                self._data(bytes(event.data))
            elif kind is h11.Response:
                self._head = event
            elif kind is h11.EndOfMessage:
                self._finish()
                return
            elif kind is not h11.InformationalResponse:
                return

    def _data(self, data: bytes) -> None:
        op, head = self._op, self._head
        if op is None or head is None:
            return
        self._size += len(data)
        if self._size > op.limit:
            raise BadReply(f"the reply is larger than {op.limit} bytes")
        if op.decoder is not None and 200 <= head.status_code < 300:
            feed(op, data)
        else:
            self._body += data

    def _finish(self) -> None:
        op, head, machine, done = self._op, self._head, self._machine, self._done
        if op is None or head is None or done is None:
            return
        if machine.our_state is h11.DONE and machine.their_state is h11.DONE:
            machine.start_next_cycle()
        else:
            self.reusable = False
        if op.decoder is not None and 200 <= head.status_code < 300:
            done.set_result(op.decoder.finish())
        else:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
            done.set_result(Response(head.status_code, headers, bytes(self._body)))
