"""anthropic - Messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fake_api.wire import (
    Refusal,
    Trouble,
    Wire,
    counts,
    dumps,
    function_names,
    missing,
    objects,
    pieces,
    raw,
    sse,
    text_of,
    unpaired,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fake_api.talk import Asked, Turn

STOP = {"final": "end_turn", "length": "max_tokens", "filter": "refusal"}
ERRORS = {
    "auth": "authentication_error", "forbidden": "permission_error", "billing": "billing_error", "quota": "billing_error",
    "model": "not_found_error", "rate": "rate_limit_error", "context": "invalid_request_error", "bad": "invalid_request_error",
    "filter": "invalid_request_error", "too_large": "request_too_large", "timeout": "timeout_error",
    "overloaded": "overloaded_error",
}  # fmt: skip
SAMPLING = ("temperature", "top_p", "top_k")


def _read(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for message in objects(body, "messages"):
        results = [block for block in objects(message, "content") if block.get("type") == "tool_result"]
        text = text_of(message.get("content"))
        if text or not results:
            yield str(message.get("role")), text
        for block in results:
            yield "tool", text_of(block.get("content"))


def _ids(message: dict[str, Any], kind: str, field: str) -> list[str]:
    return [str(block.get(field)) for block in objects(message, "content") if block.get("type") == kind]


def _problem(asked: Asked) -> str:
    if "anthropic-version" not in asked.headers:
        return "anthropic-version: header is required"
    lost = missing(asked.body, "model", "max_tokens", "messages")
    if lost:
        return lost
    if asked.headers["anthropic-version"] >= "2026-10-21" and any(name in asked.body for name in SAMPLING):
        return "temperature, top_p and top_k are not supported"
    messages = objects(asked.body, "messages")
    strange = next((str(message.get("role")) for message in messages if message.get("role") not in ("user", "assistant")), "")
    if strange:
        return f"messages: unexpected role {strange!r}"
    called = [_ids(message, "tool_use", "id") for message in messages]
    answered = [_ids(message, "tool_result", "tool_use_id") for message in messages[1:]]
    return unpaired(called, [*answered, []])


def _blocks(turn: Turn) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if turn.thought:
        blocks.append({"type": "thinking", "thinking": turn.thought, "signature": "c2lnbmF0dXJl"})
    if turn.text:
        blocks.append({"type": "text", "text": turn.text, "citations": None})
    for call in turn.calls:
        ident = {"id": call.id} if call.id else {}
        blocks.append({"type": "tool_use", **ident, "name": call.name, "input": call.arguments})
    return blocks


def _usage(asked: Asked, turn: Turn) -> dict[str, Any]:
    taken, given, cached = counts(asked, turn)
    cache = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": cached}
    return {"input_tokens": taken - cached, "output_tokens": given, **cache}


def _whole(asked: Asked, turn: Turn) -> dict[str, Any]:
    return {
        "id": f"msg_{asked.number}", "type": "message", "role": "assistant", "model": asked.model, "content": _blocks(turn),
        "stop_reason": "tool_use" if turn.calls else STOP[turn.stop], "stop_sequence": None, "usage": _usage(asked, turn),
    }  # fmt: skip


def _start(block: dict[str, Any]) -> dict[str, Any]:
    hollow: dict[str, dict[str, Any]] = {
        "thinking": {"thinking": "", "signature": ""},
        "text": {"text": ""},
        "tool_use": {"input": {}},
    }
    return {**block, **hollow[block["type"]]}


def _deltas(block: dict[str, Any], text: str) -> Iterator[dict[str, Any]]:
    match block["type"]:
        case "thinking":
            yield from ({"type": "thinking_delta", "thinking": piece} for piece in pieces(text))
            yield {"type": "signature_delta", "signature": block["signature"]}
        case "text":
            yield from ({"type": "text_delta", "text": piece} for piece in pieces(text))
        case _:
            yield from ({"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces(text)])


def _events(asked: Asked, turn: Turn) -> Iterator[dict[str, Any]]:
    whole = _whole(asked, turn)
    usage = whole["usage"]
    begun = {**whole, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    yield {"type": "ping"}
    texts = [*([turn.thought] if turn.thought else []), *([turn.text] if turn.text else []), *(raw(call) for call in turn.calls)]
    for index, (block, text) in enumerate(zip(whole["content"], texts, strict=True)):
        yield {"type": "content_block_start", "index": index, "content_block": _start(block)}
        for delta in _deltas(block, text):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": {"stop_reason": whole["stop_reason"], "stop_sequence": None}, "usage": usage}
    yield {"type": "message_stop"}


def _frames(asked: Asked, turn: Turn) -> list[bytes]:
    return [sse(event, event["type"]) for event in _events(asked, turn)]


def _error(asked: Asked, trouble: Trouble) -> Refusal:
    inner = {"type": ERRORS.get(trouble.kind, "api_error"), "message": trouble.message}
    ident = f"req_{asked.number}"
    status = 402 if trouble.kind == "quota" else trouble.status
    return Refusal(status, (("request-id", ident),), dumps({"type": "error", "error": inner, "request_id": ident}))


BROKEN = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


MESSAGES = Wire(
    name="anthropic", read=_read, tools=function_names, whole=_whole, frames=_frames, error=_error,
    broken=sse(BROKEN, "error"), problem=_problem,
    content=("content",), envelope=("content",), marker=b'"role":"assistant"',
)  # fmt: skip
