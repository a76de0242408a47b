"""others - Ollama's own chat and Cohere's v2 chat."""

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

    from fake_api.talk import Asked, Call, Turn

DONE = {"final": "stop", "length": "length", "filter": "stop"}
FINISH = {"final": "COMPLETE", "length": "MAX_TOKENS", "filter": "ERROR_TOXIC"}
WHEN = "2026-09-24T10:00:00.000000Z"


def _read(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for message in objects(body, "messages"):
        yield str(message.get("role")), _content(message.get("content"))


def _content(content: Any) -> str:
    """Return text of a content; Cohere's tool results come as documents."""
    texts = [text_of(content)]
    for part in content if isinstance(content, list) else []:
        document = part.get("document") if isinstance(part, dict) else None
        data = document.get("data") if isinstance(document, dict) else None
        texts.append(data if isinstance(data, str) else "" if data is None else dumps(data).decode())
    return "".join(texts)


# --- Ollama


def _ollama_problem(asked: Asked) -> str:
    for message in objects(asked.body, "messages"):
        if not isinstance(message.get("content", ""), str):
            return "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string"
        if any(not isinstance(call.get("function", {}).get("arguments"), dict) for call in objects(message, "tool_calls")):
            return "json: cannot unmarshal string into Go struct field ToolCallFunction.arguments"
    return "model is required" if missing(asked.body, "model") else ""


def _message(text: str, turn: Turn, *, thought: str = "", calls: bool = False) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if thought:
        message["thinking"] = thought
    if calls and turn.calls:
        message["tool_calls"] = [{"function": {"name": call.name, "arguments": call.arguments}} for call in turn.calls]
    return message


def _last(asked: Asked, turn: Turn) -> dict[str, Any]:
    taken, given, _ = counts(asked, turn)
    return {
        "done": True, "done_reason": DONE[turn.stop], "total_duration": 9_000_000, "load_duration": 1_000_000,
        "prompt_eval_count": taken, "prompt_eval_duration": 3_000_000, "eval_count": given, "eval_duration": 5_000_000,
    }  # fmt: skip


def _ollama_whole(asked: Asked, turn: Turn) -> dict[str, Any]:
    message = _message(turn.text, turn, thought=turn.thought, calls=True)
    return {"model": asked.model, "created_at": WHEN, "message": message, **_last(asked, turn)}


def _ollama_frames(asked: Asked, turn: Turn) -> list[bytes]:
    head = {"model": asked.model, "created_at": WHEN}
    messages = [_message("", turn, thought=piece) for piece in pieces(turn.thought)]
    messages += [_message(piece, turn) for piece in pieces(turn.text)]
    messages += [_message("", turn, calls=True)] if turn.calls else []
    lines = [{**head, "message": message, "done": False} for message in messages]
    lines.append({**head, "message": _message("", turn), **_last(asked, turn)})
    return [dumps(line) + b"\n" for line in lines]


def _ollama_error(asked: Asked, trouble: Trouble) -> Refusal:
    text = f'model "{asked.model}" not found, try pulling it first' if trouble.kind == "model" else trouble.message
    return Refusal(402 if trouble.kind == "quota" else trouble.status, (), dumps({"error": text}))


OLLAMA_BROKEN = dumps({"error": "an error was encountered while running the model: unexpected EOF"}) + b"\n"


OLLAMA = Wire(
    name="ollama", read=_read, tools=function_names, whole=_ollama_whole, frames=_ollama_frames, error=_ollama_error,
    broken=OLLAMA_BROKEN, problem=_ollama_problem, content=("message", "content"), envelope=("message",),
    stream_type="application/x-ndjson", marker=b'"role":"assistant"',
)  # fmt: skip


# --- Cohere


def _cohere_problem(asked: Asked) -> str:
    called: list[list[str]] = [[]]
    answered: list[list[str]] = [[]]
    for message in objects(asked.body, "messages"):
        if message.get("role") == "tool":
            answered[-1].append(str(message.get("tool_call_id")))
            continue
        called.append([str(call.get("id")) for call in objects(message, "tool_calls")])
        answered.append([])
    return missing(asked.body, "model", "messages") or unpaired(called, answered)


def _call(call: Call, arguments: str) -> dict[str, Any]:
    head = {"id": call.id} if call.id else {}
    return {**head, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _end(asked: Asked, turn: Turn) -> dict[str, Any]:
    taken, given, _ = counts(asked, turn)
    both = {"input_tokens": taken, "output_tokens": given}
    return {"finish_reason": "TOOL_CALL" if turn.calls else FINISH[turn.stop], "usage": {"billed_units": both, "tokens": both}}


def _cohere_whole(asked: Asked, turn: Turn) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "thinking", "thinking": turn.thought}] if turn.thought and not turn.calls else []
    if turn.text:
        content.append({"type": "text", "text": turn.text})
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if turn.calls:
        message["tool_calls"] = [_call(call, raw(call)) for call in turn.calls]
        message["tool_plan"] = turn.thought
    return {"id": f"chat-{asked.number}", "message": message, **_end(asked, turn)}


def _cohere_blocks(turn: Turn) -> Iterator[dict[str, Any]]:
    thought = "" if turn.calls else turn.thought  # beside calls a thought is their plan
    kinds = [(kind, text) for kind, text in (("thinking", thought), ("text", turn.text)) if text]
    for index, (kind, text) in enumerate(kinds):
        yield {"type": "content-start", "index": index, "delta": {"message": {"content": {"type": kind, kind: ""}}}}
        for piece in pieces(text):
            yield {"type": "content-delta", "index": index, "delta": {"message": {"content": {kind: piece}}}}
        yield {"type": "content-end", "index": index}
    for piece in pieces(turn.thought) if turn.calls else []:
        yield {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": piece}}}
    for index, call in enumerate(turn.calls):
        yield {"type": "tool-call-start", "index": index, "delta": {"message": {"tool_calls": _call(call, "")}}}
        for piece in pieces(raw(call)):
            delta = {"message": {"tool_calls": {"function": {"arguments": piece}}}}
            yield {"type": "tool-call-delta", "index": index, "delta": delta}
        yield {"type": "tool-call-end", "index": index}


def _cohere_frames(asked: Asked, turn: Turn) -> list[bytes]:
    message = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    events = [
        {"id": f"chat-{asked.number}", "type": "message-start", "delta": {"message": message}},
        *_cohere_blocks(turn),
        {"type": "message-end", "delta": _end(asked, turn)},
    ]
    return [*(sse(event, str(event["type"])) for event in events), b"data: [DONE]\n\n"]


def _cohere_error(asked: Asked, trouble: Trouble) -> Refusal:
    data = {"id": f"err-{asked.number}", "message": trouble.message}
    return Refusal(402 if trouble.kind == "quota" else trouble.status, (), dumps(data))


COHERE_BROKEN = {"type": "message-end", "delta": {"error": "internal server error", "finish_reason": "ERROR"}}


COHERE = Wire(
    name="cohere", read=_read, tools=function_names, whole=_cohere_whole, frames=_cohere_frames, error=_cohere_error,
    broken=sse(COHERE_BROKEN, "message-end"), problem=_cohere_problem, content=("message", "content"), envelope=("message",),
    end=2, marker=b'"role":"assistant"',
)  # fmt: skip
