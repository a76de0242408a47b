"""anthropic - the Messages wire format (POST /v1/messages).

Facts: https://docs.anthropic.com/en/api/messages and its streaming page. Thinking blocks, and any block of a kind we do not
know, travel as `Opaque("anthropic", block)` and go back unchanged. Version 2023-06-01 is sent because later ones refuse every
sampling field; a vendor row's `headers` may name another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_core.errors import BadReply
from agent_core.messages import Image, Message, Opaque, Text, ToolCall, ToolResult
from agent_core.ops import Response
from agent_core.provider import Delta, Reply, Request, Usage
from agent_providers import wire

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent_core.effects import Ask
    from agent_core.messages import Part
    from agent_core.provider import Decoder, Provider, StopReason
    from agent_core.tool import Toolset

WIRE = "anthropic"
BASE = "https://api.anthropic.com"
VERSION = "2023-06-01"
MAX_TOKENS = 4096

_STOPS: dict[str, StopReason] = {
    "max_tokens": "length", "model_context_window_exceeded": "length", "pause_turn": "length", "refusal": "filter",
}  # fmt: skip
_STATUSES = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429,
    "api_error": 500, "timeout_error": 504, "overloaded_error": 529,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Codec:
    """Speaks the Messages format."""

    wire: str = WIRE

    def encode(self, ask: Ask, provider: Provider, *, stream: bool = False) -> Request:
        """Return the request. `max_tokens` is required here: the ask's, else the model's most, else 4096."""
        most = ask.max_tokens or provider.capabilities.max_output or MAX_TOKENS
        system, turns = wire.turns(ask.messages, WIRE, _blocks)
        structured = ask.schema is not None and provider.capabilities.structured
        if ask.schema is not None and not structured:
            system = [*system, wire.dumps({"type": "text", "text": wire.instruction(ask.schema)})]
        body = [
            ("model", wire.dumps(provider.model)),
            ("max_tokens", wire.dumps(most)),
            ("messages", turns),
            *([("system", b"[" + b",".join(system) + b"]")] if system else []),
            *_tools(ask),
            *([("output_config", _output(ask.schema))] if structured and ask.schema is not None else []),
            *([("stop_sequences", wire.dumps(list(ask.stop)))] if ask.stop else []),
            *([("temperature", wire.dumps(ask.temperature))] if ask.temperature is not None else []),
            *([("stream", b"true")] if stream else []),
        ]
        return Request("POST", _url(provider), _headers(provider), wire.fields(body))

    def decode(self, response: Response, provider: Provider) -> Reply:
        """Return the reply, or raise the error kind."""
        if response.status // 100 != 2:
            wire.fail(response, provider)
        data = wire.parse(response.body)
        if data.get("type") == "error":
            _refuse(data, response.body, provider)
        blocks = wire.objects(data, "content")
        if "content" not in data:
            raise BadReply("the reply has no content")
        parts = [part for block in blocks for part in _parts(block, block.get("input"))]
        return _reply(parts, data, wire.get(data, "stop_reason", str, ""), wire.get(data, "usage", dict, {}))

    def decoder(self, provider: Provider) -> Decoder:
        """Return a decoder for one streamed reply."""
        return _Stream(provider)


codec = Codec()


# --- request -----------------------------------------------------------------------------------------------------------------


def _url(provider: Provider) -> str:
    base = (provider.base_url or BASE).rstrip("/")
    return f"{base}/messages" if base.endswith("/v1") else f"{base}/v1/messages"


def _headers(provider: Provider) -> tuple[tuple[str, str], ...]:
    own = {name.lower() for name, _ in provider.headers}
    ours = [("content-type", "application/json"), ("anthropic-version", VERSION)]
    if provider.key:
        ours.append(("x-api-key", wire.header_value(provider.key, "the key")))
    return (*(pair for pair in ours if pair[0] not in own), *provider.headers)


def _blocks(parts: Sequence[Part]) -> list[Any]:
    return [block for part in parts if (block := _block(part)) is not None]


def _block(part: Part) -> Any:
    """Return the wire form of a part; None leaves it out (blank text is refused by the service)."""
    match part:
        case Text(text):
            return {"type": "text", "text": text} if text.strip() else None
        case Image(_, _, url) if url:
            return {"type": "image", "source": {"type": "url", "url": url}}
        case Image(media_type, data):
            return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": _base64(data)}}
        case ToolCall(id_, name, arguments):
            return {"type": "tool_use", "id": _id(id_), "name": name, "input": arguments}
        case ToolResult(call_id, _, text, error):
            said = {"content": text} if text.strip() else {}
            return {"type": "tool_result", "tool_use_id": _id(call_id), **said, **({"is_error": True} if error else {})}
        case Opaque(name, block):
            return block if name == WIRE else None


def _base64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


def _id(call_id: str) -> str:
    """Return an id the service takes; those of other vendors may hold other characters."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", call_id) or "call"


def _tools(ask: Ask) -> list[tuple[str, bytes]]:
    if ask.tools is None or not ask.tools.tools:
        return _past_tools(ask.messages)
    return [("tools", wire.cached(ask.tools.cache, WIRE, lambda: _encode_tools(ask.tools))), *_choice(ask.tool_choice)]


def _choice(choice: str) -> list[tuple[str, bytes]]:
    if choice == "auto":
        return []
    known = {"none": "none", "required": "any"}
    return [("tool_choice", wire.dumps({"type": known[choice]} if choice in known else {"type": "tool", "name": choice}))]


def _encode_tools(tools: Toolset | None) -> bytes:
    listed = tools.tools if tools is not None else ()
    return wire.dumps([{"name": tool.name, "description": tool.description, "input_schema": tool.parameters} for tool in listed])


def _past_tools(messages: Sequence[Message]) -> list[tuple[str, bytes]]:
    """A history with tool blocks needs their tools declared, even when none may be called any more."""
    tools = [{"name": name, "input_schema": {"type": "object"}} for name in wire.called(messages)]
    return [("tools", wire.dumps(tools)), *_choice("none")] if tools else []


def _output(schema: Mapping[str, Any]) -> bytes:
    return wire.dumps({"format": {"type": "json_schema", "schema": closed(schema)}})


_REFUSED = frozenset(
    {
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
        "patternProperties",
        "pattern",
        "default",
        "examples",
    }
)
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})  # fmt: skip
_NAMED = frozenset({"properties", "$defs", "definitions"})
_NESTED = frozenset({"items", "anyOf", "oneOf", "allOf", "additionalProperties"})


def closed(schema: Any) -> Any:
    """Return the schema as structured output takes it: closed objects, and limits told in words instead of keywords.

    The reply is checked against the whole schema afterwards, so nothing is lost.
    """
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not hasattr(schema, "items"):
        return schema
    if "$ref" in schema:
        return {name: _closed(name, value) for name, value in schema.items() if name in {"$ref", "$defs"}}
    kept = {_renamed(name): _closed(name, value) for name, value in schema.items() if not _refused(name, value)}
    if schema.get("type") == "object" or "properties" in schema:
        kept = {**kept, "properties": kept.get("properties", {}), "additionalProperties": False}
    limits = ", ".join(f"{name}: {value}" for name, value in schema.items() if _refused(name, value))
    if limits:
        kept["description"] = f"{schema.get('description', '')} ({limits})".strip()
    return kept


def _refused(name: str, value: Any) -> bool:
    return name in _REFUSED or (name == "format" and value not in _FORMATS) or (name == "minItems" and value not in {0, 1})


def _renamed(name: str) -> str:
    return "anyOf" if name == "oneOf" else name


def _closed(name: str, value: Any) -> Any:
    if name in _NAMED and isinstance(value, dict):
        return {key: closed(item) for key, item in value.items()}
    return closed(value) if name in _NESTED else value


# --- reply -------------------------------------------------------------------------------------------------------------------


def _reply(parts: Sequence[Part], data: dict[str, Any], reason: str, usage: dict[str, Any]) -> Reply:
    id_ = wire.get(data, "id", str, "")
    calls = iter(wire.distinct([part for part in parts if isinstance(part, ToolCall)], id_[-12:]))
    message = Message("assistant", tuple(next(calls) if isinstance(part, ToolCall) else part for part in parts))
    stop = _STOPS.get(reason) or ("tool_calls" if message.tool_calls else "final")
    return Reply(message, stop, _usage(usage), wire.get(data, "model", str, ""), id_)


def _usage(usage: dict[str, Any]) -> Usage:
    """`input_tokens` on this wire leaves out what was read from or written to the cache; ours is the sum."""
    fresh, read = wire.tokens(usage, "input_tokens"), wire.tokens(usage, "cache_read_input_tokens") or 0
    written = wire.tokens(usage, "cache_creation_input_tokens") or 0
    return Usage(
        input_tokens=None if fresh is None else fresh + read + written,
        output_tokens=wire.tokens(usage, "output_tokens"),
        cached_input_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=wire.tokens(usage, "output_tokens_details.thinking_tokens") or 0,
    )


def _parts(block: dict[str, Any], given: Any) -> list[Part]:
    """Return a block's part. `given` is a tool's input: an object, or the JSON text a stream brought."""
    match wire.get(block, "type", str):
        case "text":
            text = wire.get(block, "text", str, "")
            return [Text(text)] if text else []
        case "tool_use":
            arguments, problem = wire.arguments(given)
            raw = (given if isinstance(given, str) else wire.dumps(given).decode()) if problem else ""
            return [ToolCall(wire.get(block, "id", str, ""), wire.get(block, "name", str), arguments, problem, wire.scrub(raw))]
        case _:
            return [Opaque(WIRE, block)]


def _refuse(data: dict[str, Any], body: bytes, provider: Provider) -> None:
    """Raise the kind of an error that came with, or inside, a 2xx answer."""
    code = wire.get(data, "error.type", str, "")
    wire.fail(Response(_STATUSES.get(code, 200), {}, body), provider)


# --- stream ------------------------------------------------------------------------------------------------------------------


_DELTAS = {
    "text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature", "input_json_delta": "partial_json",
}  # fmt: skip


class _Block:
    """A block that is still arriving."""

    def __init__(self, start: dict[str, Any]) -> None:
        self.start = start
        self.kind = wire.get(start, "type", str)
        self.pieces = {name: wire.Pieces() for name in ("text", "thinking", "signature", "partial_json")}

    def add(self, delta: dict[str, Any]) -> Delta | None:
        """Take one delta and return what it shows. Deltas of an unknown kind (citations) are left out."""
        name = _DELTAS.get(wire.get(delta, "type", str))
        if name is None:
            return None
        shown = self.pieces[name].add(wire.get(delta, name, str, ""))
        if not shown or name not in {"text", "thinking"}:
            return None
        return Delta(text=shown) if name == "text" else Delta(thought=shown)

    def parts(self) -> list[Part]:
        """Return the finished block's part."""
        given = self.pieces["partial_json"].text or self.start.get("input")
        block = dict(self.start)
        for name in ("text", "thinking", "signature"):
            if self.pieces[name].text:
                block[name] = wire.get(block, name, str, "") + self.pieces[name].text
        if self.kind not in {"text", "tool_use"} and self.pieces["partial_json"].text:
            block["input"] = wire.arguments(given)[0]
        return _parts(block, given)


class _Stream:
    """Decodes one streamed reply: message_start, blocks with deltas, message_delta, message_stop."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._body = wire.Body()
        self._blocks: list[_Block] = []
        self._open: dict[int, _Block] = {}
        self._start: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._reason = ""
        self._done = False

    def feed(self, data: bytes) -> list[Delta]:
        """Take any number of bytes and return the deltas they complete."""
        return [delta for _, text in self._body.feed(data) for delta in self._event(text)]

    def finish(self) -> Reply:
        """Return the reply; BadReply when message_stop never came."""
        for _, text in self._body.finish():
            self._event(text)
        if self._body.whole is not None:
            return codec.decode(Response(200, {}, self._body.whole), self._provider)
        if not self._done:
            raise BadReply("the stream ended before message_stop", hint="the connection or the service cut it off")
        parts = [part for block in self._blocks for part in block.parts()]
        return _reply(parts, self._start, self._reason, self._usage)

    def _event(self, text: str) -> list[Delta]:
        if self._done:
            return []
        data = wire.parse(text, "stream")
        match data.get("type"):
            case "message_start":
                self._start = _tidy(wire.get(data, "message", dict))
                self._count(self._start)
            case "content_block_start":
                return self._begin(wire.get(data, "index", int), _tidy(wire.get(data, "content_block", dict)))
            case "content_block_delta":
                return self._delta(data)
            case "message_delta":
                self._reason = wire.get(data, "delta.stop_reason", str, self._reason)
                self._count(data)
            case "message_stop":
                self._done = True
            case "error":
                _refuse(data, text.encode("utf-8", "replace"), self._provider)
        return []

    def _begin(self, index: int, start: dict[str, Any]) -> list[Delta]:
        """Open a block. It may start with text in it (llama.cpp, some gateways)."""
        self._open[index] = block = _Block(start)
        self._blocks.append(block)
        text, thought = wire.get(start, "text", str, ""), wire.get(start, "thinking", str, "")
        return [Delta(text, thought)] if text or thought else []

    def _delta(self, data: dict[str, Any]) -> list[Delta]:
        block = self._open.get(wire.get(data, "index", int))
        if block is None:
            raise BadReply("the stream has a delta for a block that never started")
        delta = block.add(wire.get(data, "delta", dict))
        return [delta] if delta is not None else []

    def _count(self, data: dict[str, Any]) -> None:
        """Usage comes in instalments; each number replaces the one before."""
        self._usage |= {name: value for name, value in wire.get(data, "usage", dict, {}).items() if value is not None}


def _tidy(data: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a piece of a stream that can be encoded: half surrogate pairs are replaced."""
    return wire.parse(wire.dumps(data))
