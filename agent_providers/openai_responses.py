"""openai_responses - OpenAI's Responses wire (also Azure, llama.cpp and LiteLLM).

Facts: https://platform.openai.com/docs/api-reference/responses. It has no stop sequences; `ask.stop` is left out. A reply with
reasoning goes back exactly as it came, item by item, because the service checks that nothing between the items is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_core.errors import BadReply
from agent_core.messages import Image, Message, Opaque, Text, ToolResult
from agent_core.ops import Response
from agent_core.provider import Delta, Reply, Request, Usage
from agent_providers import wire
from agent_providers.openai_chat import call_arguments, headers, image_url, make_call, named_schema, tools_block

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent_core.effects import Ask
    from agent_core.messages import Part, ToolCall
    from agent_core.provider import Decoder, Provider, StopReason

WIRE = "openai_responses"


# --- requests ----------------------------------------------------------------------------------------------------------------


def _body(ask: Ask, provider: Provider, *, stream: bool) -> bytes:
    pairs = [
        ("model", wire.dumps(provider.model)),
        (
            "input",
            b"[" + b",".join(filter(None, [message.cache.get(WIRE) or _message(message) for message in ask.messages])) + b"]",
        ),
    ]
    if ask.tools is not None and ask.tools.tools:
        pairs.append(("tools", tools_block(ask.tools, WIRE)))
        if ask.tool_choice != "auto":
            pairs.append(("tool_choice", wire.dumps(_tool_choice(ask.tool_choice))))
    if ask.schema is not None:
        pairs.append(("text", wire.dumps({"format": {"type": "json_schema", **named_schema(ask.schema)}})))
    if ask.temperature is not None:
        pairs.append(("temperature", wire.dumps(ask.temperature)))
    if ask.max_tokens is not None:
        pairs.append(("max_output_tokens", wire.dumps(ask.max_tokens)))
    if stream:
        pairs.append(("stream", b"true"))
    return wire.fields(pairs)


def _message(message: Message) -> bytes:
    """Return the items of one message, joined by commas; made once."""
    return wire.cached(message.cache, WIRE, lambda: b",".join(map(wire.dumps, _items(message))))


def _items(message: Message) -> Iterator[dict[str, Any]]:
    kept = next((part.data for part in message.parts if isinstance(part, Opaque) and part.wire == WIRE), None)
    if kept is not None:
        yield from kept
        return
    for part in message.parts:
        if isinstance(part, ToolResult):
            yield {"type": "function_call_output", "call_id": part.call_id, "output": part.text}
    calls = message.tool_calls
    if message.role != "tool" and (message.text or not calls):
        yield {"type": "message", "role": message.role, "content": _content(message)}
    for call in calls:
        yield {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call_arguments(call)}


def _content(message: Message) -> str | list[dict[str, Any]]:
    if not any(isinstance(part, Image) for part in message.parts):
        return message.text
    return [item for part in message.parts for item in _content_part(part)]


def _content_part(part: Part) -> list[dict[str, Any]]:
    match part:
        case Text(text):
            return [{"type": "input_text", "text": text}] if text else []
        case Image():
            return [{"type": "input_image", "image_url": image_url(part), "detail": "auto"}]
    return []


def _tool_choice(choice: str) -> Any:
    return choice if choice in {"none", "required"} else {"type": "function", "name": choice}


# --- replies -----------------------------------------------------------------------------------------------------------------


def _decode(response: Response, provider: Provider) -> Reply:
    if not 200 <= response.status < 300:
        wire.fail(response, provider)
    return _reply(wire.parse(response.body), (), response.body, provider)


def _reply(data: dict[str, Any], streamed: Sequence[dict[str, Any]], raw: bytes, provider: Provider) -> Reply:
    """Return the reply in a response object. `streamed`: the items of its stream, for services that leave `output` empty."""
    status = wire.get(data, "status", str, "completed" if "output" in data else "missing")
    if data.get("error") or status == "failed":
        wire.fail(Response(200, {}, raw), provider)
    if status not in {"completed", "incomplete"}:
        raise BadReply(f"the reply's status is {wire.clean(status)!r}")
    output = wire.objects(data, "output") or list(streamed)
    if not output and status == "completed":
        raise BadReply("the reply has no output")
    id_ = wire.get(data, "id", str, "")
    texts, refused = _texts(output)
    calls = wire.distinct([_call(item) for item in output if item.get("type") == "function_call"], id_[-12:])
    thoughts = any(item.get("type") == "reasoning" for item in output)
    kept = (Opaque(WIRE, _with_ids(output, calls)),) if thoughts else ()
    text = "".join(texts)
    parts = (*kept, *((Text(text),) if text else ()), *calls)
    stop: StopReason = "filter" if refused and not calls else _stop(data, calls)
    return Reply(Message("assistant", parts), stop, _usage(data), wire.get(data, "model", str, ""), id_)


def _texts(output: Sequence[dict[str, Any]]) -> tuple[list[str], bool]:
    """Return the texts of all message items, and whether one is a refusal."""
    parts = [part for item in output if item.get("type") == "message" for part in wire.objects(item, "content")]
    refusals = [wire.get(part, "refusal", str, "") for part in parts if part.get("type") == "refusal"]
    texts = [wire.get(part, "text", str) for part in parts if part.get("type") == "output_text"]
    return [*texts, *refusals], bool(refusals)


def _call(item: dict[str, Any]) -> ToolCall:
    id_ = wire.get(item, "call_id", str, "") or wire.get(item, "id", str, "")
    return make_call(id_, wire.get(item, "name", str), item.get("arguments"))


def _with_ids(output: Sequence[dict[str, Any]], calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """Return the items with the ids that the calls have now, so that results fit even if the service repeated one."""
    ids = iter(calls)
    return [{**item, "call_id": next(ids).id} if item.get("type") == "function_call" else item for item in output]


def _stop(data: dict[str, Any], calls: Sequence[ToolCall]) -> StopReason:
    if calls:
        return "tool_calls"
    if data.get("status") != "incomplete":
        return "final"
    reason = wire.get(data, "incomplete_details.reason", str, "")
    return "filter" if reason == "content_filter" else "length"


def _usage(data: dict[str, Any]) -> Usage:
    return Usage(
        wire.tokens(data, "usage.input_tokens"),
        wire.tokens(data, "usage.output_tokens"),
        wire.tokens(data, "usage.input_tokens_details.cached_tokens") or 0,
        0,
        wire.tokens(data, "usage.output_tokens_details.reasoning_tokens") or 0,
    )


# --- streams -----------------------------------------------------------------------------------------------------------------

_TEXTS = frozenset({"response.output_text.delta", "response.refusal.delta"})
_THOUGHTS = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


class _Stream:
    """Decodes one streamed reply: deltas for people, and the whole response that the last event carries."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._body = wire.Body()
        self._text = wire.Pieces()
        self._thought = wire.Pieces()
        self._items: list[dict[str, Any]] = []
        self._reply: Reply | None = None

    def feed(self, data: bytes) -> list[Delta]:
        """Take any bytes; return the deltas they complete."""
        return [delta for event, text in self._body.feed(data) for delta in self._event(event, text)]

    def finish(self) -> Reply:
        """Return the whole reply."""
        for event, text in self._body.finish():
            self._event(event, text)
        if self._body.whole is not None:
            return _decode(Response(200, {}, self._body.whole), self._provider)
        if self._reply is None:
            raise BadReply("the stream ended before the reply did")
        return self._reply

    def _event(self, event: str, text: str) -> list[Delta]:
        if self._reply is not None or text.strip() == "[DONE]":
            return []
        data = wire.parse(text, "stream's event")
        kind = wire.get(data, "type", str, event)
        if kind == "error" or (data.get("error") and not kind.startswith("response.")):
            self._fail(data if isinstance(data.get("error"), dict) else {"error": data})
        if kind in _TEXTS:
            return self._delta(Delta(self._text.add(wire.get(data, "delta", str))))
        if kind in _THOUGHTS:
            return self._delta(Delta("", self._thought.add(wire.get(data, "delta", str))))
        if kind == "response.output_item.done":
            self._items.append(wire.get(data, "item", dict))
        elif kind in _ENDS:
            self._end(wire.get(data, "response", dict), kind)
        return []

    def _end(self, response: dict[str, Any], kind: str) -> None:
        # whole here, so lone surrogates are replaced now
        raw = wire.dumps({"status": kind.removeprefix("response."), **response})
        self._reply = _reply(wire.parse(raw), [wire.parse(wire.dumps(item)) for item in self._items], raw, self._provider)

    def _fail(self, data: dict[str, Any]) -> None:
        # the event's own type is "error" and says nothing about the kind
        error = {name: value for name, value in data["error"].items() if (name, value) != ("type", "error")}
        wire.fail(Response(200, {}, wire.dumps({"error": error})), self._provider)

    @staticmethod
    def _delta(delta: Delta) -> list[Delta]:
        return [delta] if delta.text or delta.thought else []


class _Codec:
    """Responses."""

    wire = WIRE

    def encode(self, ask: Ask, provider: Provider, *, stream: bool = False) -> Request:
        """Return the request for `ask`."""
        url = f"{provider.base_url}/responses"
        return Request("POST", url, headers(provider, stream=stream), _body(ask, provider, stream=stream))

    def decode(self, response: Response, provider: Provider) -> Reply:
        """Return the reply, or raise what the response stands for."""
        return _decode(response, provider)

    def decoder(self, provider: Provider) -> Decoder:
        """Return a decoder for one stream."""
        return _Stream(provider)


codec = _Codec()
