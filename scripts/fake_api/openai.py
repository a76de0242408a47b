"""openai - Chat Completions (also as Azure serves them) and Responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fake_api.wire import (
    CREATED,
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

    from fake_api.talk import Asked, Call, Turn

FINISH = {"final": "stop", "length": "length", "filter": "content_filter"}
REASON = {"length": "max_output_tokens", "filter": "content_filter"}
ERRORS = {  # kind: type, code
    "auth": ("invalid_request_error", "invalid_api_key"),
    "forbidden": ("invalid_request_error", "unsupported_country_region_territory"),
    "billing": ("insufficient_quota", "billing_hard_limit_reached"),
    "quota": ("insufficient_quota", "insufficient_quota"),
    "model": ("invalid_request_error", "model_not_found"),
    "rate": ("requests", "rate_limit_exceeded"),
    "context": ("invalid_request_error", "context_length_exceeded"),
    "bad": ("invalid_request_error", None),
    "too_large": ("invalid_request_error", None),
    "filter": ("invalid_request_error", "content_filter"),
}


def error(asked: Asked, trouble: Trouble) -> Refusal:
    """Word a trouble."""
    kind, code = ERRORS.get(trouble.kind, ("server_error", None))
    if "/deployments/" in asked.path and trouble.kind == "model":
        code = "DeploymentNotFound"
    param = "model" if trouble.kind == "model" else None
    data: dict[str, Any] = {"message": trouble.message, "type": kind, "param": param, "code": code}
    if trouble.details:
        data["details"] = trouble.details
    status = 429 if trouble.kind == "quota" else trouble.status
    return Refusal(status, (("x-request-id", f"req_{asked.number}"),), dumps({"error": data}))


# --- Chat Completions


def _read(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for message in objects(body, "messages"):
        yield str(message.get("role")), text_of(message.get("content"))


def _problem(asked: Asked) -> str:
    body = asked.body
    lost = missing(body, "messages") if "/deployments/" in asked.path else missing(body, "model", "messages")
    if lost:
        return lost
    called: list[list[str]] = []
    answered: list[list[str]] = []
    for message in objects(body, "messages"):
        if message.get("role") == "tool":
            if not answered:
                return "messages with role 'tool' must be a response to a preceding message with 'tool_calls'"
            answered[-1].append(str(message.get("tool_call_id")))
            continue
        called.append([str(call.get("id")) for call in objects(message, "tool_calls")])
        answered.append([])
    return unpaired(called, answered)


def _usage(asked: Asked, turn: Turn) -> dict[str, Any]:
    taken, given, cached = counts(asked, turn)
    return {
        "prompt_tokens": taken, "completion_tokens": given, "total_tokens": taken + given,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": len(turn.thought) // 4, "audio_tokens": 0},
    }  # fmt: skip


def _call(call: Call, arguments: str) -> dict[str, Any]:
    head = {"id": call.id} if call.id else {}
    return {**head, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _whole(asked: Asked, turn: Turn) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": turn.text or (None if turn.calls else ""), "refusal": None}
    if turn.thought:
        message["reasoning_content"] = turn.thought
    if turn.calls:
        message["tool_calls"] = [_call(call, raw(call)) for call in turn.calls]
    finish = "tool_calls" if turn.calls else FINISH[turn.stop]
    return {
        "id": f"chatcmpl-{asked.number}", "object": "chat.completion", "created": CREATED, "model": asked.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": _usage(asked, turn), "service_tier": "default",
    }  # fmt: skip


def _deltas(turn: Turn) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": "" if turn.text else None}
    for piece in pieces(turn.thought):
        yield {"reasoning_content": piece}
    for piece in pieces(turn.text):
        yield {"content": piece}
    for index, call in enumerate(turn.calls):
        yield {"tool_calls": [{"index": index, **_call(call, "")}]}
        for piece in pieces(raw(call)):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _frames(asked: Asked, turn: Turn) -> list[bytes]:
    head = {"id": f"chatcmpl-{asked.number}", "object": "chat.completion.chunk", "created": CREATED, "model": asked.model}
    frames = [
        sse({**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]}) for delta in _deltas(turn)
    ]
    if asked.path.startswith("/openai/"):  # Azure says first what its filter thought of the prompt
        frames.insert(0, sse({**head, "id": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}))
    finish = "tool_calls" if turn.calls else FINISH[turn.stop]
    frames.append(sse({**head, "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": finish}]}))
    options = asked.body.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        frames.append(sse({**head, "choices": [], "usage": _usage(asked, turn)}))
    return [*frames, b"data: [DONE]\n\n"]


BROKEN = {"message": "The server had an error processing your request", "type": "server_error", "param": None, "code": None}


CHAT = Wire(
    name="openai_chat", read=_read, tools=function_names, whole=_whole, frames=_frames, error=error,
    broken=sse({"error": BROKEN}), problem=_problem,
    content=("choices", 0, "message", "content"), envelope=("choices",), marker=b'"role":"assistant"',
)  # fmt: skip


# --- Responses


def _read_items(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if isinstance(body.get("input"), str):
        yield "user", body["input"]
    for item in objects(body, "input"):
        match item.get("type", "message"):
            case "message":
                yield str(item.get("role")), text_of(item.get("content"))
            case "function_call":
                yield "assistant", ""
            case "function_call_output":
                yield "tool", text_of(item.get("output"))


def _item_problem(asked: Asked) -> str:
    items = objects(asked.body, "input")
    called = [str(item.get("call_id")) for item in items if item.get("type") == "function_call"]
    answered = [str(item.get("call_id")) for item in items if item.get("type") == "function_call_output"]
    nameless = any(not tool.get("name") for tool in objects(asked.body, "tools"))
    flat = "Missing required parameter: 'tools[0].name'." if nameless else ""
    return missing(asked.body, "model", "input") or flat or unpaired([called], [answered])


def _items(asked: Asked, turn: Turn) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if turn.thought:
        summary = [{"type": "summary_text", "text": turn.thought}]
        items.append({"id": f"rs_{asked.number}", "type": "reasoning", "summary": summary, "encrypted_content": None})
    if turn.text or not turn.calls:
        part = {"type": "output_text", "text": turn.text, "annotations": [], "logprobs": []}
        ident = f"msg_{asked.number}"
        items.append({"id": ident, "type": "message", "role": "assistant", "status": "completed", "content": [part]})
    for index, call in enumerate(turn.calls):
        named = {"call_id": call.id} if call.id else {}
        one = {"id": f"fc_{asked.number}_{index}", "type": "function_call", "status": "completed", "name": call.name}
        items.append({**one, **named, "arguments": raw(call)})
    return items


def _response(asked: Asked, turn: Turn) -> dict[str, Any]:
    taken, given, cached = counts(asked, turn)
    cut = turn.stop in REASON
    return {
        "id": f"resp_{asked.number}", "object": "response", "created_at": CREATED, "model": asked.model, "error": None,
        "status": "incomplete" if cut else "completed", "incomplete_details": {"reason": REASON[turn.stop]} if cut else None,
        "instructions": None, "metadata": {}, "parallel_tool_calls": True, "temperature": 1.0, "top_p": 1.0, "tool_choice": "auto",
        "tools": [], "output": _items(asked, turn),
        "usage": {
            "input_tokens": taken, "input_tokens_details": {"cached_tokens": cached}, "output_tokens": given,
            "output_tokens_details": {"reasoning_tokens": len(turn.thought) // 4}, "total_tokens": taken + given,
        },
    }  # fmt: skip


def _inside(index: int, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    at = {"item_id": item["id"], "output_index": index}
    if item["type"] == "reasoning":
        text = item["summary"][0]["text"]
        part = {"type": "summary_text", "text": ""}
        yield {"type": "response.reasoning_summary_part.added", **at, "summary_index": 0, "part": part}
        for piece in pieces(text):
            yield {"type": "response.reasoning_summary_text.delta", **at, "summary_index": 0, "delta": piece}
        yield {"type": "response.reasoning_summary_text.done", **at, "summary_index": 0, "text": text}
    elif item["type"] == "function_call":
        for piece in pieces(item["arguments"]):
            yield {"type": "response.function_call_arguments.delta", **at, "delta": piece}
        yield {"type": "response.function_call_arguments.done", **at, "name": item["name"], "arguments": item["arguments"]}
    else:
        part = item["content"][0]
        at = {**at, "content_index": 0}
        yield {"type": "response.content_part.added", **at, "part": {**part, "text": ""}}
        for piece in pieces(part["text"]):
            yield {"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []}
        yield {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": []}
        yield {"type": "response.content_part.done", **at, "part": part}


def _hollow(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item as it is when it is only announced."""
    empty: dict[str, dict[str, Any]] = {
        "message": {"content": []},
        "function_call": {"arguments": ""},
        "reasoning": {"summary": []},
    }
    return {**item, **empty[item["type"]], "status": "in_progress"}


def _events(asked: Asked, turn: Turn) -> Iterator[dict[str, Any]]:
    response = _response(asked, turn)
    begun = {**response, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(response["output"]):
        yield {"type": "response.output_item.added", "output_index": index, "item": _hollow(item)}
        yield from _inside(index, item)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": f"response.{response['status']}", "response": response}


def _event_frames(asked: Asked, turn: Turn) -> list[bytes]:
    return [sse({**event, "sequence_number": number}, event["type"]) for number, event in enumerate(_events(asked, turn))]


EVENT_BROKEN = {**BROKEN, "type": "error", "code": "server_error", "sequence_number": 99}


RESPONSES = Wire(
    name="openai_responses", read=_read_items, tools=function_names, whole=_response, frames=_event_frames, error=error,
    broken=sse(EVENT_BROKEN, "error"), problem=_item_problem, content=("output", 0, "content"), envelope=("output",),
    marker=b'"type":"function_call"',
)  # fmt: skip
