"""openai_chat - the Chat Completions wire: OpenAI, Azure, Groq, Together, OpenRouter, Mistral, llama.cpp and most others.

Facts: https://platform.openai.com/docs/api-reference/chat. What vendors do differently is in their quirks (see `vendors`):

    max_tokens          the old name of max_completion_tokens
    no_stream_options   usage comes unasked, and asking for it is refused
    json_object         no JSON Schema for replies, only "some JSON object"
    api_key_header      the key travels as `api-key` (Azure)
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from agent_core.errors import BadReply
from agent_core.messages import Image, Message, Text, ToolCall, ToolResult
from agent_core.ops import Response
from agent_core.provider import Delta, Reply, Request, Usage
from agent_providers import wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent_core.effects import Ask
    from agent_core.messages import Part
    from agent_core.provider import Decoder, Provider, StopReason
    from agent_core.tool import Toolset

WIRE = "openai_chat"


# --- requests ----------------------------------------------------------------------------------------------------------------


def _body(ask: Ask, provider: Provider, *, stream: bool) -> bytes:
    pairs = [
        ("model", wire.dumps(provider.model)),
        ("messages", b"[" + b",".join([message.cache.get(WIRE) or _message(message) for message in ask.messages]) + b"]"),
    ]
    if ask.tools is not None and ask.tools.tools:
        pairs.append(("tools", tools_block(ask.tools, WIRE)))
        if ask.tool_choice != "auto":
            pairs.append(("tool_choice", wire.dumps(_tool_choice(ask.tool_choice))))
    if ask.schema is not None:
        pairs.append(("response_format", wire.dumps(_response_format(ask.schema, provider.quirks))))
    pairs += _sampling(ask, provider.quirks)
    if stream:
        pairs.append(("stream", b"true"))
        if "no_stream_options" not in provider.quirks:
            pairs.append(("stream_options", b'{"include_usage":true}'))
    return wire.fields(pairs)


def _sampling(ask: Ask, quirks: frozenset[str]) -> Iterator[tuple[str, bytes]]:
    """Only what was set: newer models refuse sampling fields."""
    if ask.temperature is not None:
        yield "temperature", wire.dumps(ask.temperature)
    if ask.max_tokens is not None:
        yield "max_tokens" if "max_tokens" in quirks else "max_completion_tokens", wire.dumps(ask.max_tokens)
    if ask.stop:
        yield "stop", wire.dumps(list(ask.stop))


def _message(message: Message) -> bytes:
    """Return the wire messages of one message, joined by commas; made once."""
    return wire.cached(message.cache, WIRE, lambda: b",".join(wire.dumps(item) for item in _items(message)))


def _items(message: Message) -> Iterator[dict[str, Any]]:
    for part in message.parts:
        if isinstance(part, ToolResult):
            yield {"role": "tool", "tool_call_id": part.call_id, "content": part.text}
    if message.role == "assistant":
        yield _assistant(message)
    elif message.role != "tool":
        yield {"role": message.role, "content": _content(message)}


def _assistant(message: Message) -> dict[str, Any]:
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call_arguments(call)}}
        for call in message.tool_calls
    ]
    if not calls:
        return {"role": "assistant", "content": message.text}
    return {"role": "assistant", "content": message.text or None, "tool_calls": calls}


def _content(message: Message) -> str | list[dict[str, Any]]:
    if not any(isinstance(part, Image) for part in message.parts):
        return message.text
    return [item for part in message.parts for item in _content_part(part)]


def _content_part(part: Part) -> list[dict[str, Any]]:
    match part:
        case Text(text):
            return [{"type": "text", "text": text}] if text else []
        case Image():
            return [{"type": "image_url", "image_url": {"url": image_url(part)}}]
    return []


def image_url(image: Image) -> str:
    """Return the image's URL, or its bytes as a data URL."""
    return image.url or f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"


def call_arguments(call: ToolCall) -> str:
    """Return a call's arguments as JSON text. Malformed ones are wrapped: servers that parse the history refuse broken JSON."""
    return wire.dumps({"malformed": call.raw} if call.problem else call.arguments).decode()


def tools_block(toolset: Toolset, key: str) -> bytes:
    """Return the encoded `tools` array; made once a toolset. `key` says which of the two OpenAI wires it is for."""
    shape = _tool if key == WIRE else _flat_tool
    return wire.cached(toolset.cache, key, lambda: wire.dumps([shape(tool) for tool in toolset.tools]))


def _tool(tool: Any) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
    }


def _flat_tool(tool: Any) -> dict[str, Any]:
    return {"type": "function", **_tool(tool)["function"], "strict": False}


def _tool_choice(choice: str) -> Any:
    return choice if choice in {"none", "required"} else {"type": "function", "function": {"name": choice}}


def _response_format(schema: Mapping[str, Any], quirks: frozenset[str]) -> dict[str, Any]:
    if "json_object" in quirks:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": named_schema(schema)}


def named_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema with the name OpenAI wants and `strict` where the schema keeps its rules."""
    title = str(schema.get("title", ""))
    name = "".join(char if char.isascii() and (char.isalnum() or char in "_-") else "_" for char in title)[:64] or "reply"
    return {"name": name, "schema": dict(schema), "strict": _is_strict(schema)}


def _is_strict(schema: Any) -> bool:
    """Strict mode wants every object closed and every property required."""
    if isinstance(schema, list):
        return all(_is_strict(item) for item in schema)
    if not hasattr(schema, "items"):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        names = set(schema.get("properties", {}))
        if schema.get("additionalProperties") is not False or names != set(schema.get("required", ())):
            return False
    return "default" not in schema and all(_is_strict(value) for value in schema.values())


def headers(provider: Provider, *, stream: bool) -> tuple[tuple[str, str], ...]:
    """Return the request's headers; no key, no authorization."""
    key = wire.header_value(provider.key, f"the key for {provider.name}")
    name, value = ("api-key", key) if "api_key_header" in provider.quirks else ("authorization", f"Bearer {key}")
    return (
        ("content-type", "application/json"),
        ("accept", "text/event-stream" if stream else "application/json"),
        *(((name, value),) if key else ()),
        *provider.headers,
    )


def _url(provider: Provider) -> str:
    version = provider.extra.get("api_version")
    if not version:
        return f"{provider.base_url}/chat/completions"
    from urllib.parse import quote

    return (
        f"{provider.base_url}/deployments/{quote(provider.model, safe='')}/chat/completions?api-version={quote(version, safe='')}"
    )


# --- replies -----------------------------------------------------------------------------------------------------------------


def _decode(response: Response, provider: Provider) -> Reply:
    if not 200 <= response.status < 300:
        wire.fail(response, provider)
    data = wire.parse(response.body)
    if data.get("error"):
        wire.fail(response, provider)
    choices = wire.objects(data, "choices")
    if not choices:
        raise BadReply("the reply has no choices")
    message = wire.get(choices[0], "message", dict)
    finish = wire.get(choices[0], "finish_reason", str, None)
    text, refusal = content_text(message.get("content")), wire.get(message, "refusal", str, "")
    calls = [_call(item) for item in wire.objects(message, "tool_calls")]
    if finish is None and not calls and not refusal and message.get("content") is None:
        raise BadReply("the reply holds neither text nor tool calls")
    return _reply(data, text or refusal, calls, "content_filter" if refusal else finish, _usage(data))


def _reply(data: dict[str, Any], text: str, calls: Sequence[ToolCall], finish: str | None, usage: Usage) -> Reply:
    id_ = wire.get(data, "id", str, "")
    calls = wire.distinct(calls, id_[-12:])
    message = Message("assistant", (*((Text(text),) if text else ()), *calls))
    return Reply(message, _stop(finish, calls), usage, wire.get(data, "model", str, ""), id_)


def _stop(finish: str | None, calls: Sequence[ToolCall]) -> StopReason:
    """Tools are decided by their presence: services say "stop" beside tool calls."""
    if calls:
        return "tool_calls"
    reasons: dict[str | None, StopReason] = {"length": "length", "content_filter": "filter"}
    return reasons.get(finish, "final")


def content_text(content: Any) -> str:
    """Return the text of a `content`: a string, null, or a list of parts of which only text is kept."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise BadReply("the reply's content is neither text nor a list")
    return "".join(wire.get(part, "text", str, "") for part in content if isinstance(part, dict) and part.get("type") == "text")


def _call(item: dict[str, Any]) -> ToolCall:
    function = wire.get(item, "function", dict)
    return make_call(wire.get(item, "id", str, ""), wire.get(function, "name", str), function.get("arguments"))


def make_call(id_: str, name: str, raw: Any) -> ToolCall:
    """Return the tool call; what is wrong with its arguments stands in `problem`, for the model to read."""
    found, problem = wire.arguments(raw)
    kept = (raw if isinstance(raw, str) else wire.dumps(raw).decode()) if problem else ""
    return ToolCall(id_, name, found, problem, wire.scrub(kept))


def _usage(data: dict[str, Any]) -> Usage:
    usage = next((found for found in (data.get("usage"), _groq(data)) if isinstance(found, dict)), {})
    cached = wire.tokens(usage, "prompt_tokens_details.cached_tokens")
    return Usage(
        wire.tokens(usage, "prompt_tokens"),
        wire.tokens(usage, "completion_tokens"),
        (wire.tokens(usage, "prompt_cache_hit_tokens") or 0) if cached is None else cached,
        0,
        wire.tokens(usage, "completion_tokens_details.reasoning_tokens") or 0,
    )


def _groq(data: dict[str, Any]) -> Any:
    extra = data.get("x_groq")
    return extra.get("usage") if isinstance(extra, dict) else None


# --- streams -----------------------------------------------------------------------------------------------------------------


class _Stream:
    """Decodes one streamed reply. A service that ignores `stream` and sends a whole reply is understood as well."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._body = wire.Body()
        self._head: dict[str, Any] = {}
        self._text = wire.Pieces()
        self._thought = wire.Pieces()
        self._refused = False
        self._calls = _Calls()
        self._finish: str | None = None
        self._usage = Usage()
        self._done = False

    def feed(self, data: bytes) -> list[Delta]:
        """Take any bytes; return the deltas they complete."""
        return [delta for _, text in self._body.feed(data) for delta in self._event(text)]

    def finish(self) -> Reply:
        """Return the whole reply."""
        for _, text in self._body.finish():
            self._event(text)
        if self._body.whole is not None:
            return _decode(Response(200, {}, self._body.whole), self._provider)
        if not self._done and self._finish is None:
            raise BadReply("the stream ended before the reply did")
        if self._finish is None and not self._calls and not self._text.text:
            raise BadReply("the stream holds neither text nor tool calls")
        finish = "content_filter" if self._refused else self._finish
        return _reply(self._head, self._text.text, self._calls.made(), finish, self._usage)

    def _event(self, text: str) -> list[Delta]:
        if self._done:
            return []
        if text.strip() == "[DONE]":
            self._done = True
            return []
        chunk = wire.parse(text, "stream's event")
        choices = wire.objects(chunk, "choices")
        choice = choices[0] if choices else {}
        finish = wire.get(choice, "finish_reason", str, None)
        if chunk.get("error") or finish == "error":
            wire.fail(Response(200, {}, text.encode("utf-8", "replace")), self._provider)
        self._head |= {name: value for name in ("id", "model") if (value := chunk.get(name)) and not self._head.get(name)}
        if "usage" in chunk or "x_groq" in chunk:
            self._usage = _later(self._usage, _usage(chunk))
        if wire.get(choice, "index", int, 0) != 0:
            return []
        self._finish = finish or self._finish
        return self._delta(wire.get(choice, "delta", dict, {}))

    def _delta(self, delta: dict[str, Any]) -> list[Delta]:
        for item in wire.objects(delta, "tool_calls"):
            self._calls.add(item)
        refusal = wire.get(delta, "refusal", str, "")
        self._refused = self._refused or bool(refusal)
        text = self._text.add(content_text(delta.get("content")) + refusal)
        thought = self._thought.add(_thought(delta))
        return [Delta(text, thought)] if text or thought else []


def _thought(delta: dict[str, Any]) -> str:
    """DeepSeek and llama.cpp call it reasoning_content, OpenRouter and Groq reasoning."""
    return next((found for name in ("reasoning_content", "reasoning") if isinstance(found := delta.get(name), str)), "")


def _later(before: Usage, now: Usage) -> Usage:
    return before if now.input_tokens is None and now.output_tokens is None else now


class _Calls:
    """Tool calls that arrive in fragments, keyed by index. Services that number every call 0 tell them apart by id."""

    def __init__(self) -> None:
        self._slots: list[tuple[str, str, list[str]]] = []
        self._at: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, item: dict[str, Any]) -> None:
        """Take one fragment."""
        id_, name = wire.get(item, "id", str, ""), wire.get(item, "function.name", str, "")
        slot = self._slot(wire.get(item, "index", int, None), id_)
        known_id, known_name, pieces = self._slots[slot]
        self._slots[slot] = (known_id or id_, known_name or name, pieces)
        piece = wire.get(item, "function", dict, {}).get("arguments")
        if piece is not None:
            pieces.append(piece if isinstance(piece, str) else wire.dumps(piece).decode())

    def _slot(self, index: int | None, id_: str) -> int:
        if index is None:  # without a number an id starts a call, and fragments without one belong to the last
            index = len(self._slots) if id_ or not self._slots else len(self._slots) - 1
        slot = self._at.get(index)
        if slot is None or (id_ and self._slots[slot][0] not in {"", id_}):
            slot = self._at[index] = len(self._slots)
            self._slots.append(("", "", []))
        return slot

    def made(self) -> list[ToolCall]:
        """Return the calls, in the order in which they began."""
        if not all(name for _, name, _ in self._slots):
            raise BadReply("the stream has a tool call without a name")
        return [make_call(id_, name, wire.joined(pieces)) for id_, name, pieces in self._slots]


class _Codec:
    """Chat Completions."""

    wire = WIRE

    def encode(self, ask: Ask, provider: Provider, *, stream: bool = False) -> Request:
        """Return the request for `ask`."""
        return Request("POST", _url(provider), headers(provider, stream=stream), _body(ask, provider, stream=stream))

    def decode(self, response: Response, provider: Provider) -> Reply:
        """Return the reply, or raise what the response stands for."""
        return _decode(response, provider)

    def decoder(self, provider: Provider) -> Decoder:
        """Return a decoder for one stream."""
        return _Stream(provider)


codec = _Codec()
