"""gemini - the generateContent wire format (POST /v1beta/models/MODEL:generateContent).

Facts: https://ai.google.dev/api/generate-content and the pages on function calling and thought signatures.

A signature belongs to its part and the part must come back unchanged. So a signed part is kept whole as `Opaque("gemini", part)`
in front of the `Text` or `ToolCall` that it stands for; going back, the pair is written once, as the whole part. Thoughts and
parts of kinds we do not know are kept the same way, alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from agent_core.errors import BadReply, RateLimited
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

WIRE = "gemini"
BASE = "https://generativelanguage.googleapis.com"
OURS = "gemini_"

_LENGTH = frozenset({"MAX_TOKENS", "CONTINUATION", "TOO_MANY_TOOL_CALLS", "OTHER"})
_FILTER = frozenset({
    "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION", "MODEL_ARMOR", "ESCALATION", "PUP_LIMITED_DISABLED", "JAILBREAK",
})  # fmt: skip
_BROKEN = frozenset({"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL", "MISSING_THOUGHT_SIGNATURE"})


@dataclass(frozen=True, slots=True)
class Codec:
    """Speaks the generateContent format."""

    wire: str = WIRE

    def encode(self, ask: Ask, provider: Provider, *, stream: bool = False) -> Request:
        """Return the request. The service refuses JSON mode beside tools, so then the schema is told in words."""
        tools = ask.tools if ask.tools is not None and ask.tools.tools else None
        in_words = ask.schema is not None and (tools is not None or not provider.capabilities.structured)
        system, contents = wire.turns(ask.messages, WIRE, _wire_parts, key="parts", assistant="model")
        if in_words:
            system.append(_instruction(ask))
        body = [("contents", contents)]
        if system:
            body.append(("systemInstruction", b'{"parts":[%b]}' % b",".join(system)))
        if tools is not None:
            body.append(("tools", wire.cached(tools.cache, WIRE, lambda: _encode_tools(tools))))
            body += _choice(ask.tool_choice)
        config = _config(ask, json_mode=ask.schema is not None and not in_words)
        if config:
            body.append(("generationConfig", wire.dumps(config)))
        return Request("POST", _url(provider, stream=stream), _headers(provider), wire.fields(body))

    def decode(self, response: Response, provider: Provider) -> Reply:
        """Return the reply, or raise the error kind."""
        if response.status // 100 != 2:
            _refuse(response, provider)
        data = wire.parse(response.body)
        stream = _Stream(provider)
        stream.take(data, response.body)
        return stream.reply()

    def decoder(self, provider: Provider) -> Decoder:
        """Return a decoder for one streamed reply."""
        return _Stream(provider)


codec = Codec()


# --- request -----------------------------------------------------------------------------------------------------------------


def _url(provider: Provider, *, stream: bool) -> str:
    from urllib.parse import quote

    base = (provider.base_url or BASE).rstrip("/")
    if not re.search(r"/v\d+[a-z0-9]*(/|$)", base):
        base += "/v1beta"
    model = provider.model if "/" in provider.model else f"models/{provider.model}"
    return f"{base}/{quote(model)}:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}"


def _headers(provider: Provider) -> tuple[tuple[str, str], ...]:
    key = (("x-goog-api-key", wire.header_value(provider.key, "the key")),) if provider.key else ()
    return (("content-type", "application/json"), *key, *provider.headers)


def _wire_parts(parts: Sequence[Part]) -> list[Any]:
    """Return the parts in wire form. A whole part stands for the part after it, if that still says the same."""
    found: list[Any] = []
    skip = False
    for part, after in zip(parts, [*parts[1:], None], strict=False):
        if skip:
            skip = False
        elif isinstance(part, Opaque):
            skip = part.wire == WIRE and after is not None and _stands_for(part.data, after)
            if part.wire == WIRE and (skip or _alone(part.data)):
                found.append(part.data)
        else:
            found += _plain(part)
    return found


def _alone(data: Any) -> bool:
    """A thought, a bare signature or an unknown part stands for nothing else."""
    return bool(data.get("thought")) or not (data.get("functionCall") or data.get("text"))


def _stands_for(data: Any, part: Part) -> bool:
    if _alone(data):
        return False
    if isinstance(part, Text):
        return bool(data.get("text") == part.text)
    called = data.get("functionCall")
    return (
        isinstance(part, ToolCall)
        and isinstance(called, dict)
        and (called.get("name"), called.get("args") or {})
        == (
            part.name,
            part.arguments,
        )
    )


def _plain(part: Part) -> list[Any]:
    match part:
        case Text(text):
            return [{"text": text}] if text else []
        case Image(media_type, _, url) if url:
            return [{"fileData": {"fileUri": url, **({"mimeType": media_type} if media_type else {})}}]
        case Image(media_type, data):
            return [{"inlineData": {"mimeType": media_type, "data": _base64(data)}}]
        case ToolCall(id_, name, arguments):
            return [{"functionCall": {**_id(id_), "name": name, "args": arguments}}]
        case ToolResult(call_id, name, text, error):
            return [{"functionResponse": {**_id(call_id), "name": name, "response": {"error" if error else "output": text}}}]
        case _:
            return []


def _base64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


def _id(call_id: str) -> dict[str, str]:
    """Calls without an id get one from us (the engine needs it); the service never sees those."""
    return {} if not call_id or call_id.startswith(OURS) else {"id": call_id}


def _encode_tools(tools: Toolset) -> bytes:
    declared = [
        {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters} for tool in tools.tools
    ]
    return wire.dumps([{"functionDeclarations": declared}])


def _choice(choice: str) -> list[tuple[str, bytes]]:
    if choice == "auto":
        return []
    config: dict[str, Any] = {"mode": "NONE" if choice == "none" else "ANY"}
    if choice not in {"none", "required"}:
        config["allowedFunctionNames"] = [choice]
    return [("toolConfig", wire.dumps({"functionCallingConfig": config}))]


def _instruction(ask: Ask) -> bytes:
    schema = wire.dumps(dict(ask.schema or {})).decode()
    return wire.dumps(
        {"text": f"When you give the final answer, give one JSON object only. It must match this JSON Schema:\n{schema}"}
    )


def _config(ask: Ask, *, json_mode: bool) -> dict[str, Any]:
    mode = {"responseMimeType": "application/json", "responseJsonSchema": dict(ask.schema or {})} if json_mode else {}
    return {
        **({"temperature": ask.temperature} if ask.temperature is not None else {}),
        **({"maxOutputTokens": ask.max_tokens} if ask.max_tokens is not None else {}),
        **({"stopSequences": list(ask.stop)} if ask.stop else {}),
        **mode,
    }


# --- errors ------------------------------------------------------------------------------------------------------------------


def _refuse(response: Response, provider: Provider) -> NoReturn:
    """Raise the kind of an error body. The wait the service asks for is in RetryInfo, not in a header.

    Every 429 speaks of plan and billing, also when a minute's wait is all it takes; only a day that is used up is not worth it.
    """
    try:
        wire.fail(response, provider, retry_after=_retry_delay(response.body))
    except RateLimited as error:
        if b"PerDay" in response.body:
            error.retryable, error.hint = False, "the day's quota is used up: another model, or another provider"
        raise


def _retry_delay(body: bytes) -> float | None:
    found = re.search(rb'"retryDelay"\s*:\s*"(\d{1,9}(?:\.\d{1,9})?)s"', body[: wire.MAX_LINE])
    return float(found[1]) if found else None


# --- reply -------------------------------------------------------------------------------------------------------------------


class _Stream:
    """Decodes a reply: one whole response, or several, each with the parts that are new."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._body = wire.Body()
        self._parts: list[dict[str, Any]] = []
        self._pieces: list[wire.Pieces] = []
        self._usage: dict[str, Any] = {}
        self._reason = ""
        self._words = ""
        self._model = ""
        self._id = ""

    def feed(self, data: bytes) -> list[Delta]:
        """Take any number of bytes and return the deltas they complete."""
        return [delta for _, text in self._body.feed(data) for delta in self._event(text)]

    def finish(self) -> Reply:
        """Return the reply; BadReply when no finish reason ever came."""
        for _, text in self._body.finish():
            self._event(text)
        if self._body.whole is not None:
            return codec.decode(Response(200, {}, self._body.whole), self._provider)
        return self.reply()

    def _event(self, text: str) -> list[Delta]:
        return [] if text == "[DONE]" else self.take(wire.parse(text, "stream"), text.encode("utf-8", "replace"))

    def take(self, data: dict[str, Any], body: bytes) -> list[Delta]:
        """Take one response (or one chunk of a stream) and return what it shows."""
        if data.get("error"):
            code = wire.tokens(data, "error.code") if isinstance(data["error"], dict) else None
            _refuse(Response(code if code and 400 <= code < 600 else 200, {}, body), self._provider)
        self._usage |= {name: value for name, value in wire.get(data, "usageMetadata", dict, {}).items() if value is not None}
        self._model = wire.scrub(wire.get(data, "modelVersion", str, self._model))
        self._id = wire.scrub(wire.get(data, "responseId", str, self._id))
        blocked = wire.get(data, "promptFeedback.blockReason", str, "")
        if blocked:
            self._reason = blocked if blocked in _FILTER else "SAFETY"
        return self._candidate(data)

    def _candidate(self, data: dict[str, Any]) -> list[Delta]:
        candidates = wire.objects(data, "candidates")
        if not candidates:
            return []
        first = candidates[0]
        self._reason = wire.get(first, "finishReason", str, self._reason)
        self._words = wire.get(first, "finishMessage", str, self._words)
        deltas = [self._part(part) for part in wire.objects(first, "content.parts")]
        return [delta for delta in deltas if delta is not None]

    def _part(self, part: dict[str, Any]) -> Delta | None:
        """Keep a part. Unsigned text goes on from the unsigned text before it."""
        text = wire.get(part, "text", str, None)
        if text is None:
            self._keep(part)
            return None
        thought = wire.get(part, "thought", bool, False)
        if not (self._parts and _joins(self._parts[-1], part)):
            self._keep(part)
        shown = self._pieces[-1].add(text)
        if not shown:
            return None
        return Delta(thought=shown) if thought else Delta(text=shown)

    def _keep(self, part: dict[str, Any]) -> None:
        self._parts.append(part)
        self._pieces.append(wire.Pieces())

    def reply(self) -> Reply:
        """Return the reply of all that was taken."""
        if not self._reason:
            raise BadReply("the reply ended before its finish reason", hint="the connection or the service cut it off")
        parts = [found for index in range(len(self._parts)) for found in self._read(index)]
        calls = iter(wire.distinct([part for part in parts if isinstance(part, ToolCall)], self._id))
        message = Message("assistant", tuple(next(calls) if isinstance(part, ToolCall) else part for part in parts))
        broken = self._reason in _BROKEN or (self._reason == "OTHER" and not message.text)
        if broken and not message.tool_calls:
            said = wire.clean(self._words)
            raise BadReply(f"the model's answer failed: {wire.clean(self._reason)}{said and ': '}{said}", retryable=True)
        return Reply(message, self._stop(message), _usage(self._usage), self._model, self._id)

    def _stop(self, message: Message) -> StopReason:
        if self._reason in _LENGTH:
            return "length"
        if self._reason in _FILTER:
            return "filter"
        return "tool_calls" if message.tool_calls else "final"

    def _read(self, index: int) -> list[Part]:
        """Return the parts that stand for a wire part."""
        whole = {**self._parts[index], **({"text": self._pieces[index].text} if "text" in self._parts[index] else {})}
        whole = wire.parse(wire.dumps(whole))
        if whole.get("thought"):
            return [Opaque(WIRE, whole)]
        signed: list[Part] = [Opaque(WIRE, whole)] if set(whole) - {"text", "functionCall", "thought"} else []
        if whole.get("functionCall"):
            return [*signed, self._call(whole, index)]
        if "text" in whole:
            return [*signed, *([Text(whole["text"])] if whole["text"] else [])]
        return [Opaque(WIRE, whole)] if whole else []

    def _call(self, whole: dict[str, Any], index: int) -> ToolCall:
        called = wire.get(whole, "functionCall", dict)
        arguments, problem = wire.arguments(called.get("args"))
        made = OURS + re.sub(r"[^A-Za-z0-9_-]", "", self._id)[:64] + f"_{index}"
        raw = wire.dumps(called.get("args")).decode() if problem else ""
        return ToolCall(wire.get(called, "id", str, "") or made, wire.get(called, "name", str), arguments, problem, raw)


def _joins(before: dict[str, Any], part: dict[str, Any]) -> bool:
    plain = {"text", "thought"}
    return (
        isinstance(before.get("text"), str)
        and not (set(before) | set(part)) - plain
        and bool(before.get("thought")) == bool(part.get("thought"))
    )


def _usage(usage: dict[str, Any]) -> Usage:
    """`promptTokenCount` includes cached tokens; thoughts are billed as output and counted beside it."""
    read, thoughts = wire.tokens(usage, "promptTokenCount"), wire.tokens(usage, "thoughtsTokenCount") or 0
    tools, written = wire.tokens(usage, "toolUsePromptTokenCount") or 0, wire.tokens(usage, "candidatesTokenCount")
    return Usage(
        input_tokens=None if read is None else read + tools,
        output_tokens=thoughts + (written or 0) if written is not None or thoughts else None,
        cached_input_tokens=wire.tokens(usage, "cachedContentTokenCount") or 0,
        reasoning_tokens=thoughts,
    )
