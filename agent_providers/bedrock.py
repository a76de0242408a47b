"""bedrock - the Converse wire format of Amazon Bedrock (POST /model/{id}/converse and /converse-stream).

Facts: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html; event stream frames:
https://smithy.io/2.0/aws/amazon-eventstream.html; signature: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html.

What a provider holds: `key` is a bearer token (AWS_BEARER_TOKEN_BEDROCK); without one the request is signed (SigV4) with
`extra["access_key_id"]`, `extra["secret_access_key"]` and, for temporary credentials, `extra["session_token"]`. `extra["region"]`
names the region (else the one in the base URL, else us-east-1).

A signature holds the time. It is `extra["amz_date"]` ("20261121T144500Z") where that is set; else the codec's `clock` is read
(seconds since 1970, `time.time` unless another was given): the one thing `encode` takes from outside, so that the codec stays
pure for everyone who sets the date or the clock.

Reasoning, and any block of a kind we do not know, travels as `Opaque("bedrock", block)` and goes back unchanged.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_core.errors import BadReply, ConfigError, InputError
from agent_core.messages import Image, Message, Opaque, Text, ToolCall, ToolResult
from agent_core.ops import Response
from agent_core.provider import Delta, Reply, Request, Usage
from agent_providers import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent_core.effects import Ask
    from agent_core.messages import Part
    from agent_core.provider import Decoder, Provider, StopReason
    from agent_core.tool import Toolset

WIRE = "bedrock"
SERVICE = "bedrock"
MAX_FRAME = 24 * 1024 * 1024

_STOPS: dict[str, StopReason] = {
    "max_tokens": "length", "model_context_window_exceeded": "length", "guardrail_intervened": "filter",
    "content_filtered": "filter",
}  # fmt: skip
_MALFORMED = frozenset({"malformed_tool_use", "malformed_model_output"})
_STATUSES = {
    "throttlingexception": 429, "servicequotaexceededexception": 429, "modelnotreadyexception": 429, "validationexception": 400,
    "accessdeniedexception": 403, "resourcenotfoundexception": 404, "modeltimeoutexception": 408, "modelerrorexception": 424,
    "modelstreamerrorexception": 424, "internalserverexception": 500, "serviceunavailableexception": 503,
}  # fmt: skip
_UNKNOWN_MODEL = re.compile(r"model identifier is invalid|could not resolve the foundation model", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Codec:
    """Speaks Converse. `clock` tells the time of a signature when `extra["amz_date"]` does not."""

    wire: str = WIRE
    clock: Callable[[], float] = time.time

    def encode(self, ask: Ask, provider: Provider, *, stream: bool = False) -> Request:
        """Return the request, signed or with a bearer token.

        Raises:
            ConfigError: there is neither a token nor a pair of keys.
            InputError: an image is given by a web address (this service takes bytes and s3:// only).
        """
        system, turns = wire.turns(ask.messages, WIRE, _blocks)
        structured = ask.schema is not None and provider.capabilities.structured
        if ask.schema is not None and not structured:
            system = [*system, wire.dumps({"text": wire.instruction(ask.schema)})]
        inference = _inference(ask)
        body = wire.fields([
            ("messages", turns),
            *([("system", b"[" + b",".join(system) + b"]")] if system else []),
            *([("inferenceConfig", wire.dumps(inference))] if inference else []),
            *_tools(ask),
            *([("outputConfig", _output(ask.schema))] if structured else []),
        ])  # fmt: skip
        url = _url(provider, stream=stream)
        return Request("POST", url, _headers(provider, url, body, self.clock), body)

    def decode(self, response: Response, provider: Provider) -> Reply:
        """Return the reply, or raise the error kind."""
        if response.status // 100 != 2:
            _fail(response, provider)
        data = wire.parse(response.body)
        if "output" not in data:
            raise BadReply("the reply has no output", hint=f"is {provider.base_url or 'this'} the right address?")
        blocks = wire.objects(data, "output.message.content")
        parts = _distinct([part for block in blocks for part in _part(block)])
        return _reply(parts, wire.get(data, "stopReason", str), wire.get(data, "usage", dict, {}), provider)

    def decoder(self, provider: Provider) -> Decoder:
        """Return a decoder for one streamed reply."""
        return _Stream(provider)


codec = Codec()


# --- request -----------------------------------------------------------------------------------------------------------------


def region(provider: Provider) -> str:
    """Return the region: the provider's, else the one in its address, else us-east-1."""
    found = re.search(r"//bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.", provider.base_url)
    return provider.extra.get("region") or (found[1] if found else "us-east-1")


def _url(provider: Provider, *, stream: bool) -> str:
    from urllib.parse import quote

    if not provider.model.strip("."):
        raise ConfigError("bedrock needs a model", hint="--model ID, e.g. one of `aws bedrock list-foundation-models`")
    base = (provider.base_url or f"https://bedrock-runtime.{region(provider)}.amazonaws.com").rstrip("/")
    return f"{base}/model/{quote(provider.model, safe='')}/{'converse-stream' if stream else 'converse'}"


def _headers(provider: Provider, url: str, body: bytes, clock: Callable[[], float]) -> tuple[tuple[str, str], ...]:
    plain = (("content-type", "application/json"), ("accept", "*/*"))
    if provider.key:
        token = wire.header_value(provider.key, "the token")
        return (*plain, ("authorization", f"Bearer {token}"), *provider.headers)
    if not (provider.extra.get("access_key_id") and provider.extra.get("secret_access_key")):
        raise ConfigError(
            "bedrock has no key",
            hint="set AWS_BEARER_TOKEN_BEDROCK, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    return (*plain, *signature(provider, url, body, provider.extra.get("amz_date") or _amz_date(clock())), *provider.headers)


def _amz_date(seconds: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))


def signature(provider: Provider, url: str, body: bytes, date: str) -> tuple[tuple[str, str], ...]:
    """Return the headers that sign a POST of `body` to `url` at `date` (AWS Signature Version 4).

    The canonical path encodes the path once more, although it is percent-encoded already (every service but S3 does).
    """
    from hashlib import sha256
    from hmac import digest
    from urllib.parse import quote, urlsplit

    address = urlsplit(url)
    scope = f"{date[:8]}/{region(provider)}/{SERVICE}/aws4_request"
    token = provider.extra.get("session_token", "")
    signed = {"content-type": "application/json", "host": _host(url), "x-amz-date": date}
    if token:
        signed["x-amz-security-token"] = wire.header_value(token, "the session token")
    names = ";".join(signed)
    lines = [f"{name}:{value}" for name, value in signed.items()]
    payload = sha256(body).hexdigest()
    canonical = "\n".join(["POST", quote(address.path, safe="/-_.~"), address.query, *lines, "", names, payload])
    message = "\n".join(["AWS4-HMAC-SHA256", date, scope, sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{provider.extra['secret_access_key']}".encode()
    for step in scope.split("/"):
        key = digest(key, step.encode(), "sha256")
    credential = wire.header_value(f"{provider.extra['access_key_id']}/{scope}", "the access key id")
    seal = digest(key, message.encode(), "sha256").hex()
    return (
        ("x-amz-date", date),
        *((("x-amz-security-token", token),) if token else ()),
        ("authorization", f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={seal}"),
    )


def _host(url: str) -> str:
    """Return the Host header that a client sends for `url`: lower case, without the scheme's own port."""
    from urllib.parse import urlsplit

    address = urlsplit(url)
    host = address.netloc.rpartition("@")[2].lower()
    return host.removesuffix({"https": ":443", "http": ":80"}.get(address.scheme, ":"))


def _inference(ask: Ask) -> dict[str, Any]:
    config = {"maxTokens": ask.max_tokens, "temperature": ask.temperature, "stopSequences": list(ask.stop) or None}
    return {name: value for name, value in config.items() if value is not None}


def _blocks(parts: Sequence[Part]) -> list[Any]:
    return [block for part in parts if (block := _block(part)) is not None]


def _block(part: Part) -> Any:
    """Return the wire form of a part; None leaves it out (blank text is refused by the service)."""
    match part:
        case Text(text):
            return {"text": text} if text.strip() else None
        case Image():
            return {"image": _image(part)}
        case ToolCall(id_, name, arguments):
            return {"toolUse": {"toolUseId": _id(id_), "name": name, "input": arguments}}
        case ToolResult(call_id, _, text, error):
            content = [{"text": text}] if text.strip() else []
            return {"toolResult": {"toolUseId": _id(call_id), "content": content, "status": "error" if error else "success"}}
        case Opaque(name, block):
            return block if name == WIRE else None


def _image(image: Image) -> dict[str, Any]:
    import base64

    if image.url and not image.url.startswith("s3://"):
        raise InputError("bedrock takes images as bytes or s3:// addresses", hint="attach the file itself")
    kind = image.media_type.rpartition("/")[2].lower() or image.url.rpartition(".")[2].lower()
    source = {"s3Location": {"uri": image.url}} if image.url else {"bytes": base64.b64encode(image.data).decode()}
    return {"format": "jpeg" if kind == "jpg" else kind, "source": source}


def _id(call_id: str) -> str:
    """Return an id the service takes; those of other vendors may hold other characters."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", call_id)[:64] or "call"


def _tools(ask: Ask) -> list[tuple[str, bytes]]:
    """Return toolConfig. It must come with every request whose history holds tool blocks, even when no tool may be called."""
    past = [{"toolSpec": {"name": name, "inputSchema": {"json": {"type": "object"}}}} for name in wire.called(ask.messages)]
    if ask.tools is None or not ask.tools.tools:
        tools = wire.dumps(past) if past else b""
    elif ask.tool_choice == "none" and not past:
        tools = b""
    else:
        tools = wire.cached(ask.tools.cache, WIRE, lambda: _encode_tools(ask.tools))
    return [("toolConfig", wire.fields([("tools", tools), *_choice(ask)]))] if tools else []


def _choice(ask: Ask) -> list[tuple[str, bytes]]:
    if ask.tool_choice in {"auto", "none"} or ask.tools is None:  # there is no "none" on this wire
        return []
    return [("toolChoice", wire.dumps({"any": {}} if ask.tool_choice == "required" else {"tool": {"name": ask.tool_choice}}))]


def _encode_tools(tools: Toolset | None) -> bytes:
    return wire.dumps([
        {"toolSpec": {
            "name": tool.name, "description": tool.description.strip() or tool.name, "inputSchema": {"json": tool.parameters},
        }}
        for tool in (tools.tools if tools is not None else ())
    ])  # fmt: skip


def _output(schema: Any) -> bytes:
    from agent_providers.anthropic import closed

    form = {"jsonSchema": {"name": "reply", "schema": wire.dumps(closed(schema)).decode()}}
    return wire.dumps({"textFormat": {"type": "json_schema", "structure": form}})


# --- reply -------------------------------------------------------------------------------------------------------------------


def _distinct(parts: Sequence[Part]) -> list[Part]:
    """Return the parts with an id of its own for each call."""
    calls = iter(wire.distinct([part for part in parts if isinstance(part, ToolCall)]))
    return [next(calls) if isinstance(part, ToolCall) else part for part in parts]


def _part(block: dict[str, Any]) -> list[Part]:
    if block.get("text") is not None:
        text = wire.get(block, "text", str)
        return [Text(text)] if text else []
    if block.get("toolUse") is not None:
        use = wire.get(block, "toolUse", dict)
        return [_call(wire.get(use, "toolUseId", str, ""), wire.get(use, "name", str), use.get("input"))]
    return [Opaque(WIRE, block)] if block else []


def _call(id_: str, name: str, given: Any) -> ToolCall:
    """Return the call; `given` is an object, or the JSON text that a stream brought."""
    arguments, problem = wire.arguments(given)
    raw = (given if isinstance(given, str) else wire.dumps(given).decode()) if problem else ""
    return ToolCall(id_, name, arguments, problem, wire.scrub(raw))


def _reply(parts: Sequence[Part], reason: str, usage: dict[str, Any], provider: Provider) -> Reply:
    if reason in _MALFORMED:
        raise BadReply(f"the model's output was malformed ({reason})", hint="try again, or another model")
    message = Message("assistant", tuple(parts))
    stop = _STOPS.get(reason) or ("tool_calls" if message.tool_calls else "final")
    return Reply(message, stop, _usage(usage), provider.model)


def _usage(usage: dict[str, Any]) -> Usage:
    """`inputTokens` on this wire leaves out what was read from or written to the cache; ours is the sum."""
    fresh, read = wire.tokens(usage, "inputTokens"), wire.tokens(usage, "cacheReadInputTokens") or 0
    written = wire.tokens(usage, "cacheWriteInputTokens") or 0
    total = None if fresh is None else fresh + read + written
    return Usage(total, wire.tokens(usage, "outputTokens"), cached_input_tokens=read, cache_write_tokens=written)


def _fail(response: Response, provider: Provider, code: str = "") -> None:
    """Raise the kind of an error. The exception's name tells more than its status, which in a stream is always 200."""
    named = response.headers.get("x-amzn-errortype", "").partition(":")[0]
    message, told = wire.described(response.body)
    code = (code or named or told).rpartition("#")[2]
    status = _STATUSES.get(code.lower(), response.status)
    code = "model_not_found" if status in {400, 404} and _UNKNOWN_MODEL.search(message[:2000]) else code
    wire.fail(Response(status, response.headers, response.body), provider, message, code)


# --- stream ------------------------------------------------------------------------------------------------------------------


class Frames:
    """Decodes event stream frames from bytes that come in any pieces, and checks both checksums of each.

    A frame: total length u32, headers length u32, CRC-32 of those eight bytes, headers, payload, CRC-32 of all before it.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[dict[str, str], bytes]]:
        """Return the (headers, payload) pairs that `data` completes. BadReply when they are not frames."""
        self._buffer += data
        frames: list[tuple[dict[str, str], bytes]] = []
        start = 0
        while (size := self._size(start)) and len(self._buffer) - start >= size:
            frames.append(_frame(bytes(self._buffer[start : start + size])))
            start += size
        del self._buffer[:start]
        return frames

    def finish(self) -> None:
        """Raise BadReply when the body ended inside a frame."""
        if self._buffer:
            raise BadReply("the stream ended inside a frame")

    def _size(self, start: int) -> int:
        """Return the length of the frame that begins at `start`; 0 until that is known."""
        from zlib import crc32

        prelude = bytes(self._buffer[start : start + 12])
        if len(prelude) < 12:
            return 0
        total, headers = int.from_bytes(prelude[:4], "big"), int.from_bytes(prelude[4:8], "big")
        if crc32(prelude[:8]) != int.from_bytes(prelude[8:], "big"):
            raise BadReply("the stream is not made of event frames, or was damaged (prelude checksum)")
        if total < headers + 16 or total > MAX_FRAME:
            raise BadReply(f"the stream has a frame of an impossible size ({total} bytes)")
        return total


def _frame(frame: bytes) -> tuple[dict[str, str], bytes]:
    from zlib import crc32

    if crc32(frame[:-4]) != int.from_bytes(frame[-4:], "big"):
        raise BadReply("the stream was damaged (frame checksum)")
    end = 12 + int.from_bytes(frame[4:8], "big")
    return _frame_headers(frame[12:end]), frame[end:-4]


_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}


def _frame_headers(data: bytes) -> dict[str, str]:
    """Return the headers that are strings (type 7); the others are stepped over."""
    headers: dict[str, str] = {}
    position = 0
    try:
        while position < len(data):
            name_end = position + 1 + data[position]
            kind, start, end = _frame_value(data, name_end)
            if kind == 7:
                headers[data[position + 1 : name_end].decode()] = data[start:end].decode()
            position = end
    except (IndexError, KeyError, UnicodeDecodeError):
        raise BadReply("the stream has a frame with broken headers") from None
    return headers


def _frame_value(data: bytes, position: int) -> tuple[int, int, int]:
    """Return a header's type, and where its value starts and ends; IndexError when it does not fit."""
    kind, start = data[position], position + 1
    if kind in {6, 7}:
        start, end = start + 2, start + 2 + int.from_bytes(data[start : start + 2], "big")
    else:
        end = start + _FIXED[kind]
    if end > len(data):
        raise IndexError(end)
    return kind, start, end


class _Block:
    """A content block that is still arriving."""

    def __init__(self) -> None:
        self.use: dict[str, Any] = {}
        self.pieces = {name: wire.Pieces() for name in ("text", "input", "thought", "signature")}
        self.redacted = ""

    def add(self, delta: dict[str, Any]) -> Delta | None:
        """Take one delta and return what it shows. Kinds we do not know (citations) are left out."""
        if delta.get("text") is not None:
            text = self.pieces["text"].add(wire.get(delta, "text", str))
            return Delta(text=text) if text else None
        if delta.get("toolUse") is not None:
            self.pieces["input"].add(wire.get(delta, "toolUse.input", str, ""))
            return None
        return self._reason(wire.get(delta, "reasoningContent", dict, {}))

    def _reason(self, delta: dict[str, Any]) -> Delta | None:
        self.redacted += wire.get(delta, "redactedContent", str, "")
        self.pieces["signature"].add(wire.get(delta, "signature", str, ""))
        thought = self.pieces["thought"].add(wire.get(delta, "text", str, ""))
        return Delta(thought=thought) if thought else None

    def parts(self) -> list[Part]:
        """Return the finished block's part."""
        if self.use:
            return [_call(wire.get(self.use, "toolUseId", str, ""), wire.get(self.use, "name", str), self.pieces["input"].text)]
        thought, signature = self.pieces["thought"].text, self.pieces["signature"].text
        parts: list[Part] = [Opaque(WIRE, {"reasoningContent": {"redactedContent": self.redacted}})] if self.redacted else []
        if thought or signature:
            reason = {"text": thought, **({"signature": signature} if signature else {})}
            parts.append(Opaque(WIRE, {"reasoningContent": {"reasoningText": reason}}))
        return [*parts, Text(self.pieces["text"].text)] if self.pieces["text"].text else parts


class _Stream:
    """Decodes a streamed reply."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._frames = Frames()
        self._blocks: dict[int, _Block] = {}
        self._reason: str | None = None
        self._usage: dict[str, Any] = {}

    def feed(self, data: bytes) -> Sequence[Delta]:
        """Take bytes and return the deltas they complete."""
        found = [self._take(headers, payload) for headers, payload in self._frames.feed(data)]
        return [delta for delta in found if delta is not None]

    def finish(self) -> Reply:
        """Return the reply; BadReply when the stream ended before messageStop."""
        self._frames.finish()
        if self._reason is None:
            raise BadReply("the stream ended before the reply was complete")
        parts = _distinct([part for _, block in sorted(self._blocks.items()) for part in block.parts()])
        return _reply(parts, self._reason, self._usage, self._provider)

    def _take(self, headers: dict[str, str], payload: bytes) -> Delta | None:
        if headers.get(":message-type", "event") != "event":
            code = headers.get(":exception-type") or headers.get(":error-code", "")
            body = payload or headers.get(":error-message", "").encode()
            _fail(Response(200, {}, body), self._provider, code or "error")
        event = wire.parse(payload.decode("utf-8", "replace"), "stream event")
        match headers.get(":event-type"):
            case "contentBlockStart":
                self._block(event).use = wire.get(event, "start.toolUse", dict, {}) if event.get("start") is not None else {}
            case "contentBlockDelta":
                return self._block(event).add(wire.get(event, "delta", dict))
            case "messageStop":
                self._reason = wire.get(event, "stopReason", str)
            case "metadata":
                self._usage = wire.get(event, "usage", dict, {})
        return None

    def _block(self, event: dict[str, Any]) -> _Block:
        return self._blocks.setdefault(wire.get(event, "contentBlockIndex", int, 0), _Block())
