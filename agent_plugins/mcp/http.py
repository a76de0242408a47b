"""http - a server behind a URL: streamable HTTP, one POST a message, answers as JSON or as an event stream.

A request is sent and read on the thread that asks; every wait is bounded by its deadline, so a server that drips is no trap.
Redirects are not followed, proxies and netrc not used. A host of this machine or of a private network must have been named by the
user (`--mcp-server URL`, or `private` in its entry); its address is looked up once and the connection goes to what was checked.
A stream that breaks before its answer is taken up once more with `Last-Event-ID` where the server gave ids.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent_core.errors import AuthError, ContractError, DeniedError, RateLimited, ServerError, TransportError
from agent_plugins.mcp import wire
from agent_plugins.mcp.servers import token_name

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping

    from agent_plugins.mcp.servers import Server

_CHUNK = 65536
_CONNECT = 15.0
_PLAIN = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?|")
_SAID = re.compile(r'(\w+)="([^"]*)"')
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_IDLE = 8
_TAIL = 0.02


class Gone(Exception):  # noqa: N818 - what happened to the session
    """The server no longer knows the session."""


class _Stale(Exception):  # noqa: N818 - a signal within this module
    """A kept-alive connection had been closed before any byte of the answer came."""


@dataclass(slots=True)
class _Line:
    """One connection and the state of HTTP on it."""

    socket: socket.socket
    http: Any
    used: bool = False


@dataclass(slots=True)
class Head:
    """The beginning of an answer."""

    status: int
    headers: Mapping[str, str]


@dataclass(slots=True, eq=False)
class Http:
    """A server behind a URL. `take(message)` is called for every message that comes; `version`, `session`: once known."""

    server: Server
    take: Callable[[dict[str, Any]], None]
    say: Callable[[str], None]
    version: str = ""
    session: str = ""
    alive: bool = True
    _idle: list[_Line] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def why(self) -> str:
        """Return why no more messages come."""
        return "does not answer"

    def post(self, message: Mapping[str, Any], deadline: float, extra: Mapping[str, str] = {}) -> None:
        """Send a message and read all that comes for it.

        Raises:
            AuthError, RateLimited, ServerError, TransportError, ContractError: what the server's answer, or its absence, means.
            Gone: the session is over; begin another.
        """
        headers = {**self._headers(message), **extra}
        line, head = self._asked("POST", headers, wire.encode(message).rstrip(b"\n"), deadline)
        with _released(self, line):
            if message.get("method") == "initialize" and "mcp-session-id" in head.headers:
                self.session = head.headers["mcp-session-id"]
            events = self._answer(line, head, message, deadline)
        if events is not None and events.last and "id" in message and self.alive:
            self._resume(events, message, deadline)

    def close(self) -> None:
        """End the session (a server may ignore it) and the connections."""
        self.alive = False
        if self.session:
            try:
                line, _ = self._asked("DELETE", self._headers({}), b"", time.monotonic() + 1.0)
                line.socket.close()
            except (OSError, AuthError, TransportError, DeniedError, ContractError):
                pass
        with self._lock:
            for line in self._idle:
                line.socket.close()
            self._idle.clear()

    # -- requests

    def _headers(self, message: Mapping[str, Any]) -> dict[str, str]:
        """Return the headers of a message: those of the modern era repeat its method and name."""
        params = message.get("params") or {}
        version = params.get("_meta", {}).get(f"{wire.META}protocolVersion", "") if isinstance(params, dict) else ""
        found = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
        if version:
            found |= {"mcp-protocol-version": version, "mcp-method": message["method"]}
            named = _NAMED.get(message["method"])
            if named:
                found["mcp-name"] = header_value(str(params.get(named, "")))
        elif self.version and message.get("method") != "initialize":
            found["mcp-protocol-version"] = self.version
        if self.session and not version:
            found["mcp-session-id"] = self.session
        return found

    def _asked(self, method: str, headers: Mapping[str, str], body: bytes, deadline: float) -> tuple[_Line, Head]:
        """Send a request and return the connection with the beginning of the answer; once more where a kept one was stale."""
        while True:
            line = self._line(deadline)
            try:
                return line, self._sent(line, method, headers, body, deadline)
            except _Stale:
                line.socket.close()
            except BaseException:
                line.socket.close()
                raise

    def _sent(self, line: _Line, method: str, headers: Mapping[str, str], body: bytes, deadline: float) -> Head:
        import h11

        fields = {"host": _host(self.server.url), "user-agent": "agents/0.1", "accept-encoding": "identity", **headers}
        if body or method == "POST":
            fields["content-length"] = str(len(body))
        fields |= {name.lower(): value for name, value in self.server.headers}
        try:
            request = h11.Request(method=method, target=_target(self.server.url), headers=list(fields.items()))
            data = (
                line.http.send(request)
                + (line.http.send(h11.Data(data=body)) if body else b"")
                + line.http.send(h11.EndOfMessage())
            )
            _bounded(line.socket, deadline)
            line.socket.sendall(data)
            for event in _events(line, deadline):
                if isinstance(event, h11.Response):
                    return Head(event.status_code, {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in event.headers})
        except (h11.ProtocolError, UnicodeError) as error:
            raise ContractError(f"the MCP server {self.server.name} does not speak HTTP: {str(error)[:200]}") from None
        except TimeoutError:
            raise
        except OSError as error:
            if line.used and isinstance(error, ConnectionError):
                raise _Stale from None
            raise self._broken(error) from None
        raise TransportError(f"the MCP server {self.server.name} sent no answer")

    def _line(self, deadline: float) -> _Line:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        import h11

        try:
            return _Line(connected(self.server, deadline), h11.Connection(h11.CLIENT))
        except TimeoutError:
            raise
        except OSError as error:
            raise self._broken(error) from None

    def _broken(self, error: OSError) -> TransportError:
        from agent_core.a2a import shown

        return TransportError(
            f"the MCP server {self.server.name} cannot be reached: {shown(error.strerror or str(error) or type(error).__name__)}",
            hint="check its address", cause=type(error).__name__,
        )  # fmt: skip

    # -- answers

    def _answer(self, line: _Line, head: Head, message: Mapping[str, Any], deadline: float) -> wire.Events | None:
        """Read an answer; return the state of its event stream if that ended before the answer came."""
        if head.status == 404 and self.session and message.get("method") != "initialize":
            raise Gone
        kind = head.headers.get("content-type", "").partition(";")[0].strip().lower()
        if head.status >= 400 or kind != "text/event-stream":
            body = _body(line, deadline)
            self._whole(head, kind, body, message)
            return None
        return self._stream(line, message, deadline)

    def _whole(self, head: Head, kind: str, body: bytes, message: Mapping[str, Any]) -> None:
        """Take an answer that is no stream. An error of the protocol may come with any status."""
        found = _messages(body) if kind == "application/json" else []
        answers = [each for each in found if "method" not in each]
        if head.status < 300 or (answers and head.status not in {401, 403}):
            for each in found:
                # A request that could not even be read is answered with the id null.
                self.take({**each, "id": message.get("id")} if head.status >= 400 and each.get("id") is None else each)
            if "id" in message and not answers:
                raise ContractError(
                    f"the MCP server {self.server.name} answered with no message (HTTP {head.status}, {kind[:60] or 'no type'})"
                )
            return
        _check(self.server, head)

    def _stream(self, line: _Line, message: Mapping[str, Any], deadline: float) -> wire.Events | None:
        """Take the messages of a stream until the answer came (None), or until it ends without (its state)."""
        events = wire.Events()
        try:
            for each in _streamed(line, events, deadline):
                self.take(each)
                if wire.answered(each) is not None and each.get("id") == message.get("id"):
                    _finish(line)
                    return None
        except ValueError as error:
            raise ContractError(f"the MCP server {self.server.name} sent too much: {error}") from None
        except TimeoutError:
            raise
        except OSError:
            self.say("ended a stream early")
        if "id" in message and not events.last:
            raise TransportError(f"the MCP server {self.server.name} ended its answer before it was complete")
        return events

    def _resume(self, events: wire.Events, message: Mapping[str, Any], deadline: float) -> None:
        """Take up a stream that broke."""
        time.sleep(max(0.0, min(events.retry, deadline - time.monotonic())))
        headers = {**self._headers({}), "accept": "text/event-stream", "last-event-id": events.last}
        line, head = self._asked("GET", headers, b"", deadline)
        with _released(self, line):
            if head.status == 200 and self._stream(line, message, deadline) is None:
                return
        raise TransportError(f"the MCP server {self.server.name} ended its answer before it was complete")

    def keep(self, line: _Line) -> bool:
        """Keep a connection for the next request if the exchange on it is over; return whether it was kept."""
        import h11

        if line.http.our_state is not h11.DONE or line.http.their_state is not h11.DONE:
            return False
        line.http.start_next_cycle()
        line.used = True
        with self._lock:
            if not self.alive or len(self._idle) >= _IDLE:
                return False
            self._idle.append(line)
        return True


@contextmanager
def _released(owner: Http, line: _Line) -> Iterator[None]:
    """Give a connection back after an exchange, or close it."""
    kept = False
    try:
        yield
        kept = owner.keep(line)
    finally:
        if not kept:
            line.socket.close()


def _check(server: Server, head: Head) -> None:
    """Raise what an HTTP status means."""
    name, status = f"the MCP server {server.name}", head.status
    if status in {401, 403}:
        sent = any(key.lower() == "authorization" for key, _ in server.headers)
        what = f"refuses {'its token' if sent else 'access'} (HTTP {status}{_challenge(head)})"
        raise AuthError(
            f"{name} {what}",
            hint=f"agent-keys set {token_name(server.url)}, or `headers` of its entry; browsers' sign-in is not done here",
            http_status=status,
        )
    if status == 429:
        raise RateLimited(f"{name} has too many requests", http_status=status)
    if 300 <= status < 400:
        place = head.headers.get("location", "")[:120]
        raise TransportError(
            f"{name} is elsewhere: {place if place.isprintable() else '?'}", hint="use that address if it is the right one"
        )
    if status >= 500:
        raise ServerError(f"{name} failed (HTTP {status})", http_status=status)
    raise wire.RpcError(-status, f"HTTP {status}")


def _challenge(head: Head) -> str:
    """Return what a server says about the access that it wants (RFC 6750, RFC 9728)."""
    from agent_plugins.mcp.tools import cleaned

    said = dict(_SAID.findall(head.headers.get("www-authenticate", "")[:2000]))
    words = [
        f"{key}: {cleaned(said[key], 160)}" for key in ("error", "error_description", "scope", "resource_metadata") if said.get(key)
    ]
    return f"; {', '.join(words)}" if words else ""


def _finish(line: _Line) -> None:
    """Read the end of a stream if it is there already, so that the connection can be used again."""
    try:
        for _ in _chunks(line, time.monotonic() + _TAIL):
            continue
    except OSError:
        return


def _streamed(line: _Line, events: wire.Events, deadline: float) -> Iterator[dict[str, Any]]:
    for chunk in _chunks(line, deadline):
        for data in events.feed(chunk):
            yield from _messages(data)


def _messages(data: bytes) -> list[dict[str, Any]]:
    try:
        return wire.messages(data) if data.strip() else []
    except ValueError:
        return []


# -- bytes ------------------------------------------------------------------------------------------------------------------------


def connected(server: Server, deadline: float) -> socket.socket:
    """Return a connection to the server's host. DeniedError for a private address that the user did not name."""
    import socket

    from agent_core import policy

    host, port = policy.host_of(server.url) or ("", 0)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError(f"no address for {host}") from None
    if not server.private:
        for *_, address in found:
            if policy.is_private_name(host) or not policy.is_public(str(address[0])):
                raise DeniedError(
                    f"the MCP server {server.name} is at the private address {address[0]}",
                    hint="name it with --mcp-server URL, or set `private` in its entry",
                )
    problem: OSError = OSError(f"no address for {host}")
    for family, kind, protocol, _, address in found:
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(max(0.001, min(_CONNECT, deadline - time.monotonic())))
            made.connect(address)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return _secured(made, host) if server.url[:6].lower() == "https:" else made
        except OSError as error:
            made.close()
            problem = error
    if deadline <= time.monotonic():
        raise TimeoutError
    raise OSError(problem.strerror or str(problem) or "no connection")


def _secured(made: socket.socket, host: str) -> socket.socket:
    from agent_core.http import tls

    secure: socket.socket = tls().wrap_socket(made, server_hostname=host)
    return secure


def _bounded(made: socket.socket, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    made.settimeout(left)


def _events(line: _Line, deadline: float) -> Iterator[Any]:
    """Yield h11's events until the message ends."""
    import h11

    first = True
    while True:
        event = line.http.next_event()
        if event is h11.NEED_DATA:
            _bounded(line.socket, deadline)
            data = line.socket.recv(_CHUNK)
            if not data and first:
                raise ConnectionResetError("the server closed the connection without an answer")
            first = False
            line.http.receive_data(data)
        elif isinstance(event, h11.ConnectionClosed):
            raise ConnectionResetError("the server closed the connection")
        elif event is h11.PAUSED:
            return
        else:
            yield event
            if isinstance(event, h11.EndOfMessage):
                return


def _chunks(line: _Line, deadline: float) -> Iterator[bytes]:
    import h11

    try:
        for event in _events(line, deadline):
            if isinstance(event, h11.Data):
                yield bytes(event.data)
    except h11.ProtocolError as error:
        raise ConnectionResetError(str(error)[:200]) from None


def _body(line: _Line, deadline: float) -> bytes:
    body = bytearray()
    try:
        for chunk in _chunks(line, deadline):
            body += chunk
            if len(body) > wire.LARGEST:
                raise ContractError(f"an MCP server sent a message larger than {wire.LARGEST >> 20} MiB")
    except TimeoutError:
        raise
    except OSError:
        raise TransportError("an MCP server's answer broke off", hint="try again") from None
    return bytes(body)


def _host(url: str) -> str:
    return re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]


def _target(url: str) -> bytes:
    from urllib.parse import quote, urlsplit

    parts = urlsplit(url)
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=-._~")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=-._~?[]")
    return (f"{path}?{query}" if query else path).encode("ascii")


# -- headers of the modern era ----------------------------------------------------------------------------------------------------


def header_value(text: str) -> str:
    """Return a text as the value of a header; what a header cannot hold goes in base64, as the specification writes it."""
    if _PLAIN.fullmatch(text) and not (text.startswith("=?base64?") and text.endswith("?=")):
        return text
    return f"=?base64?{base64.b64encode(text.encode('utf-8', 'replace')).decode()}?="
