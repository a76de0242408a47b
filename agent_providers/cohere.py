"""cohere - the Cohere chat wire format, version 2 (POST /v2/chat).

Facts: https://docs.cohere.com/reference/chat and its streaming and tool use pages. The plan a model writes before its tool
calls and its thinking travel as `Opaque("cohere", {"tool_plan": …} | {"type": "thinking", …})` and go back unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_core.errors import BadReply
from agent_core.messages import Image, Message, Opaque, Text, ToolCall, ToolResult
from agent_core.ops import Response
from agent_core.provider import Delta, Reply, Request, Usage
from agent_providers import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_core.effects import Ask
    from agent_core.messages import Part
    from agent_core.provider import Decoder, Provider, StopReason

WIRE = "cohere"
BASE = "https://api.cohere.com"

_STOPS: dict[str, StopReason] = {"MAX_TOKENS": "length", "ERROR_LIMIT": "length", "ERROR_TOXIC": "filter"}
_STATUSES = {"ERROR": 500, "TIMEOUT": 504}


@dataclass(frozen=True, slots=True)
class Codec:
    """Speaks the chat format, version 2."""

    wire: str = WIRE

    def encode(self, ask: Ask, provider: Provider, *, stream: bool = False) -> Request:
        """Return the request. JSON mode cannot stand beside tools, so then the schema is told in words."""
        tools = _tools(ask)
        in_words = ask.schema is not None and (bool(tools) or not provider.capabilities.structured)
        messages = [_encoded(message) for message in ask.messages]
        if ask.schema is not None:
            messages = _told(messages, ask)
        body = [
            ("model", wire.dumps(provider.model)),
            ("messages", b"[%b]" % b",".join([message for message in messages if message])),
            *tools,
            *([("response_format", _json_mode(ask))] if ask.schema is not None and not in_words else []),
            *([("max_tokens", wire.dumps(ask.max_tokens))] if ask.max_tokens is not None else []),
            *([("stop_sequences", wire.dumps(list(ask.stop)))] if ask.stop else []),
            *([("temperature", wire.dumps(ask.temperature))] if ask.temperature is not None else []),
            ("stream", b"true" if stream else b"false"),
        ]
        return Request("POST", _url(provider), _headers(provider), wire.fields(body))

    def decode(self, response: Response, provider: Provider) -> Reply:
        """Return the reply, or raise the error kind."""
        if response.status // 100 != 2:
            _refuse(response, provider)
        data = wire.parse(response.body)
        message = wire.get(data, "message", dict)
        parts = [*_planned(wire.get(message, "tool_plan", str, "")), *_content(message)]
        calls = [_call(call, wire.get(call, "function.arguments", str, "")) for call in wire.objects(message, "tool_calls")]
        return _reply(parts, calls, data, provider)

    def decoder(self, provider: Provider) -> Decoder:
        """Return a decoder for one streamed reply."""
        return _Stream(provider)


codec = Codec()


# --- request -----------------------------------------------------------------------------------------------------------------


def _url(provider: Provider) -> str:
    base = (provider.base_url or BASE).rstrip("/")
    return f"{base.removesuffix('/v1').removesuffix('/v2')}/v2/chat"


def _headers(provider: Provider) -> tuple[tuple[str, str], ...]:
    key = (("authorization", f"Bearer {wire.header_value(provider.key, 'the key')}"),) if provider.key else ()
    return (("content-type", "application/json"), *key, *provider.headers)


def _encoded(message: Message) -> bytes:
    found: bytes | None = message.cache.get(WIRE)
    if found is None:
        found = message.cache[WIRE] = _encode(message)
    return found


def _encode(message: Message) -> bytes:
    """Return the wire messages of a message, joined; nothing when it says nothing (empty content is refused)."""
    if message.role == "tool":
        return b",".join([wire.dumps(_result(part)) for part in message.parts if isinstance(part, ToolResult)])
    blocks = [block for part in message.parts for block in _blocks(part)]
    said: dict[str, Any] = {"role": message.role}
    if message.role == "assistant":
        said |= _calling(message)
    if blocks:
        plain = all(block["type"] == "text" for block in blocks)
        said["content"] = "".join(block["text"] for block in blocks) if plain else blocks
    return wire.dumps(said) if len(said) > 1 else b""


def _calling(message: Message) -> dict[str, Any]:
    calls = [_called(call) for call in message.tool_calls]
    opaque = [part.data for part in message.parts if isinstance(part, Opaque) and part.wire == WIRE]
    plans = [data["tool_plan"] for data in opaque if "tool_plan" in data]
    return {**({"tool_plan": "".join(plans)} if plans and calls else {}), **({"tool_calls": calls} if calls else {})}


def _called(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": wire.dumps(call.arguments).decode()}}


def _blocks(part: Part) -> list[dict[str, Any]]:
    """Return the content blocks of a part."""
    match part:
        case Text(text):
            return [{"type": "text", "text": text}] if text else []
        case Image(media_type, data, url):
            return [{"type": "image_url", "image_url": {"url": url or f"data:{media_type};base64,{_base64(data)}"}}]
        case Opaque(name, data) if name == WIRE and "type" in data:
            return [data]
        case _:
            return []


def _base64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


def _result(part: ToolResult) -> dict[str, Any]:
    document = {"data": {"error" if part.error else "output": part.text}}
    return {"role": "tool", "tool_call_id": part.call_id, "content": [{"type": "document", "document": document}]}


def _tools(ask: Ask) -> list[tuple[str, bytes]]:
    """Return the tools and what the model may do with them. One tool is named by offering only that one."""
    if ask.tools is None or not ask.tools.tools:
        return []
    listed = ask.tools.cache.get(WIRE)
    if listed is None:
        encoded = {tool.name: _encode_tool(tool) for tool in ask.tools.tools}
        listed = ask.tools.cache[WIRE] = (encoded, b"[%b]" % b",".join(encoded.values()))
    encoded, everything = listed
    if ask.tool_choice == "auto":
        return [("tools", everything)]
    if ask.tool_choice in {"none", "required"}:
        return [("tools", everything), ("tool_choice", wire.dumps(ask.tool_choice.upper()))]
    one = encoded.get(ask.tool_choice)
    return [("tools", b"[%b]" % one if one else everything), ("tool_choice", b'"REQUIRED"')]


def _encode_tool(tool: Any) -> bytes:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return wire.dumps({"type": "function", "function": function})


def _told(messages: list[bytes], ask: Ask) -> list[bytes]:
    """Put the schema in words after the system messages: JSON mode wants the word JSON in the prompt, too."""
    schema = wire.dumps(dict(ask.schema or {})).decode()
    words = f"Your final answer must be a JSON object, without anything around it, valid against this JSON Schema:\n{schema}"
    first = sum(message.role == "system" for message in ask.messages)
    return [*messages[:first], wire.dumps({"role": "system", "content": words}), *messages[first:]]


def _json_mode(ask: Ask) -> bytes:
    return wire.dumps({"type": "json_object", "json_schema": dict(ask.schema or {})})


# --- reply -------------------------------------------------------------------------------------------------------------------


def _refuse(response: Response, provider: Provider) -> None:
    """Raise the kind of an error answer. 498 is Cohere's own: the token is blocked."""
    status = {498: 401, 499: 504}.get(response.status, response.status)
    wire.fail(Response(status, response.headers, response.body), provider)


def _reply(parts: Sequence[Part], calls: Sequence[ToolCall], data: dict[str, Any], provider: Provider) -> Reply:
    """Return the reply. `data` has id, finish_reason and usage."""
    id_ = wire.get(data, "id", str, "")
    reason = wire.get(data, "finish_reason", str)
    if reason in _STATUSES:
        error = wire.get(data, "error", str, "") or f"the model stopped with {reason}"
        _refuse(Response(_STATUSES[reason], {}, wire.dumps({"message": error})), provider)
    message = Message("assistant", (*parts, *wire.distinct(calls, id_[-12:])))
    stop = _STOPS.get(reason) or ("tool_calls" if message.tool_calls else "final")
    return Reply(message, stop, _usage(wire.get(data, "usage", dict, {})), "", id_)


def _usage(usage: dict[str, Any]) -> Usage:
    """Counts come as floats; `tokens` is what the model saw, `billed_units` leaves some of it out."""
    counts = "tokens" if usage.get("tokens") is not None else "billed_units"
    return Usage(
        input_tokens=wire.tokens(usage, f"{counts}.input_tokens"),
        output_tokens=wire.tokens(usage, f"{counts}.output_tokens"),
        cached_input_tokens=wire.tokens(usage, "cached_tokens") or 0,
    )


def _planned(plan: str) -> list[Part]:
    return [Opaque(WIRE, {"tool_plan": plan})] if plan else []


def _content(message: dict[str, Any]) -> list[Part]:
    if isinstance(message.get("content"), str):
        return [Text(message["content"])] if message["content"] else []
    return [part for block in wire.objects(message, "content") for part in _said(block)]


def _said(block: dict[str, Any]) -> list[Part]:
    if wire.get(block, "type", str) != "text":
        return [Opaque(WIRE, block)] if block.get("thinking") != "" else []
    text = wire.get(block, "text", str, "")
    return [Text(text)] if text else []


def _call(call: dict[str, Any], raw: str) -> ToolCall:
    arguments, problem = wire.arguments(raw)
    return ToolCall(wire.get(call, "id", str, ""), wire.get(call, "function.name", str), arguments, problem, raw if problem else "")


# --- stream ------------------------------------------------------------------------------------------------------------------


class _Stream:
    """Decodes one streamed reply: message-start, content and tool calls with their deltas, message-end."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._body = wire.Body()
        self._plan = wire.Pieces()
        self._content: dict[int, tuple[dict[str, Any], wire.Pieces]] = {}
        self._calls: dict[int, tuple[dict[str, Any], wire.Pieces]] = {}
        self._id = ""
        self._end: dict[str, Any] | None = None

    def feed(self, data: bytes) -> list[Delta]:
        """Take any number of bytes and return the deltas they complete."""
        return [delta for event, text in self._body.feed(data) for delta in self._event(event, text)]

    def finish(self) -> Reply:
        """Return the reply; BadReply when message-end never came."""
        for event, text in self._body.finish():
            self._event(event, text)
        if self._body.whole is not None:
            return codec.decode(Response(200, {}, self._body.whole), self._provider)
        if self._end is None:
            raise BadReply("the stream ended before message-end", hint="the connection or the service cut it off")
        parts = _planned(self._plan.text)
        for block, pieces in self._content.values():
            kind = wire.get(block, "type", str, "text")
            parts += _said({**block, "type": kind, kind: pieces.text})
        calls = [_call(call, pieces.text) for call, pieces in self._calls.values()]
        return _reply(parts, calls, {**self._end, "id": self._id}, self._provider)

    def _event(self, event: str, text: str) -> list[Delta]:
        if self._end is not None or text == "[DONE]":
            return []
        data = wire.parse(text, "stream")
        kind = wire.get(data, "type", str, event)
        delta = wire.get(data, "delta", dict, {})
        match kind:
            case "message-start":
                self._id = wire.scrub(wire.get(data, "id", str, ""))
            case "content-start" | "content-delta":
                return self._say(wire.get(data, "index", int, 0), wire.get(delta, "message.content", dict, {}))
            case "tool-plan-delta":
                shown = self._plan.add(wire.get(delta, "message.tool_plan", str, ""))
                return [Delta(thought=shown)] if shown else []
            case "tool-call-start" | "tool-call-delta":
                self._ask(wire.get(data, "index", int, 0), wire.get(delta, "message.tool_calls", dict, {}), kind)
            case "message-end":
                self._end = wire.parse(wire.dumps(delta))
            case "error" | "":
                _refuse(Response(200, {}, text.encode("utf-8", "replace")), self._provider)
        return []

    def _say(self, index: int, content: dict[str, Any]) -> list[Delta]:
        """Take the start of a block or a piece of one."""
        name = "thinking" if content.get("thinking") is not None or content.get("type") == "thinking" else "text"
        block, pieces = self._content.setdefault(index, ({"type": name}, wire.Pieces()))
        shown = pieces.add(wire.get(content, name, str, ""))
        if not shown:
            return []
        return [Delta(text=shown) if block["type"] == "text" else Delta(thought=shown)]

    def _ask(self, index: int, call: dict[str, Any], kind: str) -> None:
        """Take the start of a tool call or a piece of its arguments."""
        if kind == "tool-call-start":
            self._calls[index] = (wire.parse(wire.dumps(call)), wire.Pieces())
        elif index not in self._calls:
            raise BadReply("the stream has a piece of a tool call that never started")
        self._calls[index][1].add(wire.get(call, "function.arguments", str, ""))
