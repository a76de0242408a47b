"""http - the `Http` op on httpx, for one request at a time. One transport per process and scheme.

httpx's transport is used without its client: no redirects, cookies, netrc or environment proxies, and a third less work a request.

Bytes are counted as they arrive, never decompressed (`accept-encoding: identity`). A request that fails on a kept-alive connection
the server had closed is sent once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from agent_core.errors import BadReply, ConfigError, TransportError
from agent_core.ops import Http, Response

if TYPE_CHECKING:
    import httpx

_transports: dict[bool, httpx.HTTPTransport] = {}
_known: set[str] = set()
_CONNECT_SECONDS = 15.0
USER_AGENT = "agents/0.1"


def send(op: Http) -> Any:
    """Send the request; return a Response, or the decoder's Reply for a 2xx answer when the op has a decoder."""
    import httpx

    try:
        return _sent(op)
    except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
        if not _stale(op, error):
            raise TransportError(f"the connection broke: {_words(error)}", cause=type(error).__name__) from None
    except httpx.TransportError as error:
        raise TransportError(f"cannot reach {_origin(op)}: {_words(error)}", cause=type(error).__name__) from None
    except (httpx.InvalidURL, ValueError) as error:
        raise ConfigError(f"the provider's address is not usable: {_words(error)}", hint="check the base URL") from None
    try:
        return _sent(op)
    except httpx.TransportError as error:
        raise TransportError(f"the connection broke: {_words(error)}", cause=type(error).__name__) from None


def _sent(op: Http) -> Any:
    import httpx

    request = op.request
    secure = request.url.startswith("https:")
    timeouts = {"connect": _CONNECT_SECONDS, "read": None, "write": None, "pool": None}
    headers = [*request.headers, ("accept-encoding", "identity"), ("user-agent", USER_AGENT)]
    message = httpx.Request(request.method, request.url, headers=headers, content=request.body, extensions={"timeout": timeouts})
    response = _transport(secure).handle_request(message)
    try:
        stream = op.decoder is not None and 200 <= response.status_code < 300
        body = bytearray()
        size = 0
        for chunk in cast("httpx.SyncByteStream", response.stream):
            size += len(chunk)
            if size > op.limit:
                raise BadReply(f"the reply is larger than {op.limit} bytes")
            if stream:
                feed(op, chunk)
            else:
                body += chunk
    finally:
        cast("httpx.SyncByteStream", response.stream).close()
    _known.add(_origin(op))
    if stream and op.decoder is not None:
        return op.decoder.finish()
    return Response(response.status_code, response.headers, bytes(body))


def feed(op: Http, chunk: bytes) -> None:
    """Feed the op's decoder and hand on what it decoded."""
    if op.decoder is not None:
        for delta in op.decoder.feed(chunk):
            if op.on_delta is not None:
                op.on_delta(delta)


def _transport(secure: bool) -> httpx.HTTPTransport:
    """Return the process's transport: TLS is set up (25 ms) only for the first https address."""
    found = _transports.get(secure)
    if found is None:
        import httpx

        verify: Any = tls() if secure else False
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=60)
        found = _transports[secure] = httpx.HTTPTransport(verify=verify, trust_env=False, limits=limits)
    return found


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
