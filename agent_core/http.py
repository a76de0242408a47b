"""http - the `Http` op on httpcore, for one request at a time. One pool of connections per process and scheme.

httpcore is what httpx sends with. Its client is left out: no redirects, cookies, netrc or environment proxies, and half of the time
from a start to the first request (docs/figures.md). Only addresses that need rewriting (IDNA, escapes) go through httpx.

Bytes are counted as they arrive, never decompressed (`accept-encoding: identity`). A request that fails on a kept-alive connection
the server had closed is sent once more.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agent_core.errors import BadReply, ConfigError, TransportError
from agent_core.ops import Http, Response

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpcore

_pools: dict[bool, httpcore.ConnectionPool] = {}
_known: set[str] = set()
_CONNECT_SECONDS = 15.0
_PLAIN = re.compile(r"https?://[A-Za-z0-9._~:/?@!$&'()*+,;=%\[\]-]+")
USER_AGENT = "agents/0.1"


def send(op: Http) -> Any:
    """Send the request; return a Response, or the decoder's Reply for a 2xx answer when the op has a decoder."""
    import httpcore

    trouble = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)
    try:
        request = _request(op)
    except (TypeError, ValueError) as error:  # what TypeError means to httpcore is a letter outside ASCII
        raise ConfigError(f"the provider's address is not usable: {_words(error)}", hint="check the base URL") from None
    try:
        return _sent(op, request)
    except (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError) as error:
        if not _stale(op, error):
            raise TransportError(f"the connection broke: {_words(error)}", cause=type(error).__name__) from None
    except (*trouble, httpcore.UnsupportedProtocol) as error:
        raise TransportError(f"cannot reach {_origin(op)}: {_words(error)}", cause=type(error).__name__) from None
    try:
        return _sent(op, request)
    except trouble as error:
        raise TransportError(f"the connection broke: {_words(error)}", cause=type(error).__name__) from None


def _request(op: Http) -> httpcore.Request:
    import httpcore

    request = op.request
    url = httpcore.URL(request.url if _PLAIN.fullmatch(request.url) else _rewritten(request.url))
    host = url.host if url.port is None else b"%b:%d" % (b"[%b]" % url.host if b":" in url.host else url.host, url.port)
    return httpcore.Request(
        request.method, url, headers=[(b"host", host), *_headers(op)], content=request.body,
        extensions={"timeout": {"connect": _CONNECT_SECONDS, "read": None, "write": None, "pool": None}},
    )  # fmt: skip


def _headers(op: Http) -> Iterator[tuple[str, str]]:
    request = op.request
    yield from request.headers
    yield "accept-encoding", "identity"
    yield "user-agent", USER_AGENT
    if request.body or request.method not in {"GET", "HEAD"}:
        yield "content-length", str(len(request.body))


def _rewritten(url: str) -> str:
    """Return an address as it may be sent: names in IDNA, other letters escaped. ValueError if it is none."""
    import httpx

    try:
        return str(httpx.URL(url))
    except httpx.InvalidURL as error:
        raise ValueError(error) from None


def _sent(op: Http, request: httpcore.Request) -> Any:
    response = _pool(op.request.url.startswith("https:")).handle_request(request)
    try:
        stream = op.decoder is not None and 200 <= response.status < 300
        body = bytearray()
        size = 0
        for chunk in response.iter_stream():
            size += len(chunk)
            if size > op.limit:
                raise BadReply(f"the reply is larger than {op.limit} bytes")
            if stream:
                feed(op, chunk)
            else:
                body += chunk
    finally:
        response.close()
    _known.add(_origin(op))
    if stream and op.decoder is not None:
        return op.decoder.finish()
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
    return Response(response.status, headers, bytes(body))


def feed(op: Http, chunk: bytes) -> None:
    """Feed the op's decoder and hand on what it decoded."""
    if op.decoder is not None:
        for delta in op.decoder.feed(chunk):
            if op.on_delta is not None:
                op.on_delta(delta)


def _pool(secure: bool) -> httpcore.ConnectionPool:
    """Return the process's pool: TLS is set up (25 ms) only for the first https address."""
    found = _pools.get(secure)
    if found is None:
        import httpcore

        found = _pools[secure] = httpcore.ConnectionPool(
            tls() if secure else None, max_connections=None, max_keepalive_connections=20, keepalive_expiry=60,
            network_backend=_backend(secure),
        )  # fmt: skip
    return found


def _backend(secure: bool) -> httpcore.SyncBackend:
    """Return what connects, without loading what a plain address does not need: OpenSSL and the IDNA codec (together 8 ms)."""
    import httpcore

    class Backend(httpcore.SyncBackend):
        def connect_tcp(self, host: str, *rest: Any, **more: Any) -> httpcore.NetworkStream:
            stream = super().connect_tcp(host.encode("ascii"), *rest, **more)  # type: ignore[arg-type] # what socket takes, too
            if not secure:
                about = stream.get_extra_info
                stream.get_extra_info = lambda info: None if info == "ssl_object" else about(info)  # type: ignore[method-assign]
            return stream

    return Backend()


def tls() -> Any:
    """Return a verifying TLS context with certifi's roots."""
    import ssl

    import certifi

    return ssl.create_default_context(cafile=certifi.where())


def _stale(op: Http, error: Exception) -> bool:
    """Say whether a reused connection was closed before any byte of the answer came."""
    return _origin(op) in _known and "without sending a response" in str(error)


def _origin(op: Http) -> str:
    return "/".join(op.request.url.split("/", 3)[:3])


def _words(error: Exception) -> str:
    return str(error).replace("\n", " ")[:200] or type(error).__name__
