"""http - fetch a page, for tools: only granted hosts, only checked addresses, size and time limited.

    http_fetch("https://example.com/")      needs --allow network:example.com (or network: any public host)

A host name is resolved once, every address it has is checked, and the connection goes to the checked address: a second answer of
the name server changes nothing. Private, loopback and link-local addresses are refused unless a grant names that very host.
Redirects are walked by hand, each with the same checks. Proxies and netrc of the environment are not used.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_core.tool import Context, ToolError, tool

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

MAX_BODY = 2 * 1024 * 1024
MAX_TEXT = 48 * 1024
MAX_REDIRECTS = 5
TIMEOUT = 30.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK = 65_536
_AGENT = "agents-as-unix-tools"
_TEXTUAL = ("text/", "application/json", "application/xml", "application/javascript", "application/x-ndjson", "application/yaml")


@dataclass(frozen=True, slots=True)
class Call:
    """An HTTP request. `trusted`: the address comes from the user's own settings, so it may be a private one."""

    url: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `cut`: the body was longer than the limit."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    cut: bool = False


@tool(needs={"network": "url"}, read_only=True, open_world=True, timeout=TIMEOUT + 5)
def http_fetch(url: str, context: Context) -> str:
    """Fetch a web page or file over http(s) and return its text.

    Args:
        url: the full address.
        context: opens only what is granted.
    """
    answer = follow(context, Call(url))
    if answer.status >= 400:
        kind = (
            "not_found"
            if answer.status in {404, 410}
            else "transient"
            if answer.status in {408, 425, 429} or answer.status >= 500
            else ""
        )
        raise ToolError(f"{_brief(answer.url)} answered {answer.status}", kind or "permanent")  # type: ignore[arg-type]
    return readable(answer)


def follow(context: Context, call: Call) -> Answer:
    """Send a request and walk its redirects, each hop checked like the first.

    Raises:
        ToolError: denied, transient (no connection, too slow) or permanent.
    """
    from urllib.parse import urljoin

    until = time.monotonic() + context.remaining(TIMEOUT)
    for _ in range(MAX_REDIRECTS + 1):
        answer = send(context, call, until)
        target = answer.headers.get("location", "")
        if answer.status not in _REDIRECTS or not target:
            return answer
        if call.method != "GET":
            raise ToolError(f"{_brief(call.url)} redirects, which is not followed for {call.method}", "permanent")
        call = Call(urljoin(call.url, target))  # headers (keys) never travel to another address
    raise ToolError(f"{_brief(call.url)}: more than {MAX_REDIRECTS} redirects", "permanent")


def send(context: Context, call: Call, until: float) -> Answer:
    """Send one request to a checked address and read the answer until `until` (on time.monotonic)."""
    from agent_core.policy import host_of

    context.require("network", call.url)
    found = host_of(call.url)
    if found is None or "://" not in call.url:
        raise ToolError(f"{_brief(call.url)} is no http or https address", "invalid")
    host, port = found
    try:
        with _connected(context, call, found, until) as connection:
            return _exchange(connection, call, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", until)
    except TimeoutError:
        raise ToolError(f"{_brief(call.url)} took too long", "transient") from None
    except OSError as error:
        raise ToolError(f"{_brief(call.url)}: {error.strerror or type(error).__name__}", "transient") from None


def addresses(context: Context, host: str, port: int, *, trusted: bool = False) -> list[tuple[Any, ...]]:
    """Return the addresses of a host (as getaddrinfo does); all must be public unless the host is named by a grant.

    Raises:
        ToolError: denied, or the host has no address.
    """
    import socket

    from agent_core import policy

    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ToolError(f"no address for {host}", "transient") from None
    if not trusted and context.policy.host(host, port) != "named":
        for *_, address in found:
            if not policy.is_public(str(address[0])):
                rule = policy.allow("network", policy.authority(host, port))
                raise ToolError(f"denied: {host} is at the private address {address[0]} (grant with {rule})", "denied")
    return found


def _connected(context: Context, call: Call, place: tuple[str, int], until: float) -> socket.socket:
    import socket

    problem: OSError | None = None
    for family, kind, protocol, _, address in addresses(context, *place, trusted=call.trusted):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_left(until))
            connection.connect(address)
            return _secured(connection, place[0]) if call.url[:6].lower() == "https:" else connection
        except OSError as error:
            connection.close()
            problem = error
    raise problem or OSError("no address")


def _secured(connection: socket.socket, host: str) -> socket.socket:
    import ssl

    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:  # frozen or bare systems have no store of their own
        import certifi

        context.load_verify_locations(certifi.where())
    return context.wrap_socket(connection, server_hostname=host)


def _exchange(connection: socket.socket, call: Call, authority: str, until: float) -> Answer:
    """Speak HTTP/1.1 once over a connection."""
    import h11

    client = h11.Connection(h11.CLIENT)
    headers = [
        ("Host", authority),
        ("User-Agent", _AGENT),
        ("Accept", "*/*"),
        ("Accept-Encoding", "identity"),
        ("Connection", "close"),
    ]
    if call.body:
        headers.append(("Content-Length", str(len(call.body))))
    try:
        request = h11.Request(method=call.method, target=_target(call.url), headers=[*headers, *call.headers])
        data = (
            client.send(request) + (client.send(h11.Data(data=call.body)) if call.body else b"") + client.send(h11.EndOfMessage())
        )
        connection.settimeout(_left(until))
        connection.sendall(data)
        return _received(connection, client, call.url, until)
    except (h11.ProtocolError, UnicodeError) as error:
        raise ToolError(f"{_brief(call.url)} does not speak proper HTTP: {error}"[:300], "permanent") from None


def _received(connection: socket.socket, client: Any, url: str, until: float) -> Answer:
    import h11

    status, headers, size, pieces = 0, {}, 0, []
    while True:
        event = client.next_event()
        if event is h11.NEED_DATA:
            connection.settimeout(_left(until))
            client.receive_data(connection.recv(_CHUNK))
        elif isinstance(event, h11.Response):
            status, headers = event.status_code, {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        elif isinstance(event, h11.Data):
            pieces.append(bytes(event.data))
            size += len(event.data)
            if size > MAX_BODY:
                return Answer(status, headers, b"".join(pieces)[:MAX_BODY], url, cut=True)
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return Answer(status, headers, b"".join(pieces), url)


def _target(url: str) -> bytes:
    """Return path and query as they go on the wire."""
    from urllib.parse import quote, urlsplit

    parts = urlsplit(url)
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=-._~")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=-._~?[]")
    return (f"{path}?{query}" if query else path).encode("ascii")


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _brief(url: str) -> str:
    """Return an address for messages, without its query (which may hold a key)."""
    return "".join(each if each.isprintable() else "?" for each in url.partition("?")[0][:120])


# -- from bytes to text ----------------------------------------------------------------------------------------------------------


def readable(answer: Answer) -> str:
    """Return the text of an answer: HTML without its markup, other text as it is, anything else by type and size."""
    kind, _, rest = answer.headers.get("content-type", "text/plain").lower().partition(";")
    kind = kind.strip()
    textual = kind.startswith(_TEXTUAL) or kind.endswith(("+json", "+xml")) or not kind
    if answer.headers.get("content-encoding", "identity").lower() != "identity" or not textual or b"\0" in answer.body[:_CHUNK]:
        return f"[{kind or 'data'}, {len(answer.body)}{'+' if answer.cut else ''} bytes, not text]"
    text = _decoded(answer.body, rest)
    if kind in {"text/html", "application/xhtml+xml"}:
        from agent_plugins.tools.page import html_text

        text = html_text(text)
    notes = ["the body was longer than 2 MiB"] if answer.cut else []
    if len(text) > MAX_TEXT:
        notes.append(f"{len(text) - MAX_TEXT} of {len(text)} characters left out")
    return text[:MAX_TEXT] + (f"\n[{'; '.join(notes)}]" if notes else "")


def _decoded(body: bytes, parameters: str) -> str:
    charset = parameters.partition("charset=")[2].partition(";")[0].strip(" \"'") or "utf-8"
    try:
        return body.decode(charset, "replace")
    except (LookupError, ValueError):
        return body.decode("utf-8", "replace")
