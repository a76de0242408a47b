"""ollama - the native wire format of Ollama (POST /api/chat, newline-delimited JSON).

Facts: https://github.com/ollama/ollama/blob/main/docs/api.md. Tool calls carry no id there unless the server is new enough, so
one is made from the reply. Thoughts travel as `Opaque("ollama", {"thinking": ...})` and go back with their message. There is no
tool choice on this wire: "none" leaves the tools out, everything else is the model's own choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_core.errors import BadReply, InputError
from agent_core.messages import Image, Message, Opaque, Text, ToolCall, ToolResult
from agent_core.ops import Response
from agent_core.provider import Delta, Reply, Request, Usage
from agent_providers import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_core.effects import Ask
    from agent_core.messages import Part
    from agent_core.provider import Decoder, Provider, StopReason
    from agent_core.tool import Toolset

WIRE = "ollama"
BASE = "http://127.0.0.1:11434"


@dataclass(frozen=True, slots=True)
class Codec:
    """Speaks /api/chat."""

    wire: str = WIRE

    def encode(self, ask: Ask, provider: Provider, *, stream: bool = False) -> Request:
        """Return the request. InputError when an image is given by address: this service takes bytes only."""
        messages = b",".join([wire.cached(message.cache, WIRE, lambda m=message: _encode(m)) for message in ask.messages])  # type: ignore[misc]
        options = _options(ask)
        body = wire.fields([
            ("model", wire.dumps(provider.model)),
            ("messages", b"[%b]" % messages),
            *_tools(ask),
            *([("format", wire.dumps(dict(ask.schema)))] if ask.schema is not None else []),
            *([("options", wire.dumps(options))] if options else []),
            ("stream", b"true" if stream else b"false"),  # the service streams unless told not to
        ])  # fmt: skip
        return Request("POST", f"{(provider.base_url or BASE).rstrip('/')}/api/chat", _headers(provider), body)

    def decode(self, response: Response, provider: Provider) -> Reply:
        """Return the reply, or raise the error kind."""
        if response.status // 100 != 2:
            wire.fail(response, provider)
        data = wire.parse(response.body)
        stream = _Stream(provider)
        stream.take(data)
        return stream.reply()

    def decoder(self, provider: Provider) -> Decoder:
        """Return a decoder for one streamed reply."""
        return _Stream(provider)


codec = Codec()


# --- request -----------------------------------------------------------------------------------------------------------------


def _headers(provider: Provider) -> tuple[tuple[str, str], ...]:
    key = (("authorization", f"Bearer {wire.header_value(provider.key, 'the key')}"),) if provider.key else ()
    return (("content-type", "application/json"), *key, *provider.headers)


def _options(ask: Ask) -> dict[str, Any]:
    options = {"temperature": ask.temperature, "num_predict": ask.max_tokens, "stop": list(ask.stop) or None}
    return {name: value for name, value in options.items() if value is not None}


def _tools(ask: Ask) -> list[tuple[str, bytes]]:
    if ask.tools is None or not ask.tools.tools or ask.tool_choice == "none":
        return []
    return [("tools", wire.cached(ask.tools.cache, WIRE, lambda: _encode_tools(ask.tools)))]


def _encode_tools(tools: Toolset | None) -> bytes:
    return wire.dumps([
        {"type": "function", "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters}}
        for tool in (tools.tools if tools is not None else ())
    ])  # fmt: skip


def _encode(message: Message) -> bytes:
    """Return the message's wire form; a tool message becomes one for each result, joined by commas."""
    if message.role == "tool":
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        return b",".join([wire.dumps({"role": "tool", "tool_name": part.name, "content": part.text}) for part in results])
    images = [_image(part) for part in message.parts if isinstance(part, Image)]
    calls = [{"function": {"name": call.name, "arguments": call.arguments}} for call in message.tool_calls]
    own = [part.data for part in message.parts if isinstance(part, Opaque) and part.wire == WIRE]
    thought = "".join(data.get("thinking", "") for data in own)
    extra = {"images": images, "tool_calls": calls, "thinking": thought}
    return wire.dumps({"role": message.role, "content": message.text, **{name: value for name, value in extra.items() if value}})


def _image(image: Image) -> str:
    import base64

    if image.url:
        raise InputError("ollama takes images as bytes only", hint="attach the file itself")
    return base64.b64encode(image.data).decode()


# --- reply -------------------------------------------------------------------------------------------------------------------


class _Stream:
    """Decodes a streamed reply; a whole reply is a stream of one line."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._lines = wire.Lines()
        self._text, self._thought = wire.Pieces(), wire.Pieces()
        self._calls: list[tuple[dict[str, Any], str]] = []
        self._last: dict[str, Any] = {}

    def feed(self, data: bytes) -> Sequence[Delta]:
        """Take bytes and return the deltas they complete."""
        return [delta for line in self._lines.feed(data) for delta in self._line(line)]

    def finish(self) -> Reply:
        """Return the reply; BadReply when no line said `done`."""
        for line in self._lines.finish():
            self._line(line)
        return self.reply()

    def _line(self, line: str) -> list[Delta]:
        return self.take(wire.parse(line, "stream line")) if line.strip() else []

    def take(self, data: dict[str, Any]) -> list[Delta]:
        """Take one line's object. Any line may be an error."""
        if data.get("error") is not None:
            wire.fail(Response(200, {}, wire.dumps(data)), self._provider)
        message = wire.get(data, "message", dict)
        text = self._text.add(wire.get(message, "content", str, ""))
        thought = self._thought.add(wire.get(message, "thinking", str, ""))
        made = wire.get(data, "created_at", str, "")
        self._calls += [(call, made) for call in wire.objects(message, "tool_calls")]
        if wire.get(data, "done", bool, False):
            self._last = data
        return [*([Delta(thought=thought)] if thought else []), *([Delta(text=text)] if text else [])]

    def reply(self) -> Reply:
        """Return what has come; BadReply when it is not complete."""
        if not self._last:
            raise BadReply("the reply ended before it was complete (no done)")
        text, thought = self._text.text, self._thought.text
        parts: list[Part] = [Opaque(WIRE, {"thinking": thought})] if thought else []
        parts += [Text(text)] if text else []
        parts += [_call(call, made, index) for index, (call, made) in enumerate(self._calls)]
        usage = Usage(wire.tokens(self._last, "prompt_eval_count"), wire.tokens(self._last, "eval_count"))
        stop: StopReason = "tool_calls" if self._calls else "final"
        if wire.get(self._last, "done_reason", str, "") == "length":
            stop = "length"
        return Reply(Message("assistant", tuple(parts)), stop, usage, wire.get(self._last, "model", str, ""))


def _call(call: dict[str, Any], made: str, index: int) -> ToolCall:
    given = wire.get(call, "function", dict).get("arguments")
    arguments, problem = wire.arguments(given)
    raw = (given if isinstance(given, str) else wire.dumps(given).decode()) if problem else ""
    name = wire.get(call, "function.name", str)
    return ToolCall(_id(call, f"{made} {index} {name}"), name, arguments, problem, wire.scrub(raw))


def _id(call: dict[str, Any], seed: str) -> str:
    """Return the call's id, or one made of the time and place of the call: the same for the same bytes."""
    from hashlib import blake2b

    found = wire.get(call, "id", str, "") or wire.get(call, "function.id", str, "")
    return found or f"call_{blake2b(wire.scrub(seed).encode(), digest_size=6).hexdigest()}"
