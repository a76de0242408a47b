"""bedrock - Converse and ConverseStream, with binary event frames."""

from __future__ import annotations

import itertools
import struct
import zlib
from typing import TYPE_CHECKING, Any

from fake_api.wire import Refusal, Trouble, Wire, counts, dumps, missing, objects, pieces, raw, text_of, unpaired

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fake_api.talk import Asked, Turn

STOP = {"final": "end_turn", "length": "max_tokens", "filter": "content_filtered"}
ERRORS = {
    "auth": "UnrecognizedClientException", "forbidden": "AccessDeniedException", "billing": "AccessDeniedException",
    "quota": "ServiceQuotaExceededException", "model": "ResourceNotFoundException", "rate": "ThrottlingException",
    "context": "ValidationException", "bad": "ValidationException", "filter": "ValidationException",
    "too_large": "ValidationException", "timeout": "ModelTimeoutException", "overloaded": "ServiceUnavailableException",
}  # fmt: skip
STATUS = {"auth": 403, "billing": 403, "quota": 400, "too_large": 400, "timeout": 408, "overloaded": 503}


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """Return one eventstream frame: lengths, their CRC, headers, payload, CRC of all."""
    head = b"".join(struct.pack(f"!B{len(k)}sBH{len(v)}s", len(k), k.encode(), 7, len(v), v.encode()) for k, v in headers.items())
    lengths = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    start = lengths + struct.pack("!I", zlib.crc32(lengths)) + head + payload
    return start + struct.pack("!I", zlib.crc32(start))


def event(name: str, data: dict[str, Any]) -> bytes:
    """Return the frame of one event."""
    return frame({":event-type": name, ":content-type": "application/json", ":message-type": "event"}, dumps(data))


def exception(name: str, message: str) -> bytes:
    """Return the frame of an exception."""
    head = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return frame(head, dumps({"message": message}))


def _read(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for message in objects(body, "messages"):
        blocks = objects(message, "content")
        results = [block["toolResult"] for block in blocks if isinstance(block.get("toolResult"), dict)]
        text = text_of(blocks)
        if text or not results:
            yield str(message.get("role")), text
        for result in results:
            yield "tool", "".join(_result_text(part) for part in objects(result, "content"))


def _result_text(part: dict[str, Any]) -> str:
    return str(part["text"]) if "text" in part else dumps(part.get("json")).decode()


def _tools(body: dict[str, Any]) -> Iterator[str]:
    for tool in objects(body.get("toolConfig"), "tools"):
        spec = tool.get("toolSpec")
        yield str(spec.get("name") if isinstance(spec, dict) else None)


def _ids(message: dict[str, Any], kind: str) -> list[str]:
    return [str(block[kind].get("toolUseId")) for block in objects(message, "content") if isinstance(block.get(kind), dict)]


def _problem(asked: Asked) -> str:
    messages = objects(asked.body, "messages")
    roles = [message.get("role") for message in messages]
    if any(before == after for before, after in itertools.pairwise(roles)) or roles[:1] not in (["user"], []):
        return "A conversation must alternate between user and assistant roles and start with a user message"
    called = [_ids(message, "toolUse") for message in messages]
    answered = [_ids(message, "toolResult") for message in messages[1:]]
    if any(called) and "toolConfig" not in asked.body:
        return "The toolConfig field must be defined when using toolUse and toolResult content blocks"
    return missing(asked.body, "messages") or unpaired(called, [*answered, []])


def _blocks(turn: Turn) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if turn.thought:
        blocks.append({"reasoningContent": {"reasoningText": {"text": turn.thought, "signature": "c2lnbmF0dXJl"}}})
    if turn.text:
        blocks.append({"text": turn.text})
    for call in turn.calls:
        ident = {"toolUseId": call.id} if call.id else {}
        blocks.append({"toolUse": {**ident, "name": call.name, "input": call.arguments}})
    return blocks


def _usage(asked: Asked, turn: Turn) -> dict[str, int]:
    taken, given, cached = counts(asked, turn)
    rest = {"cacheReadInputTokens": cached} if cached else {}
    return {"inputTokens": taken - cached, "outputTokens": given, "totalTokens": taken + given, **rest}


def _whole(asked: Asked, turn: Turn) -> dict[str, Any]:
    return {
        "output": {"message": {"role": "assistant", "content": _blocks(turn)}},
        "stopReason": "tool_use" if turn.calls else STOP[turn.stop], "usage": _usage(asked, turn), "metrics": {"latencyMs": 7},
    }  # fmt: skip


def _frames(asked: Asked, turn: Turn) -> list[bytes]:
    frames = [event("messageStart", {"role": "assistant"})]
    index = 0
    for text, kind in ((turn.thought, "thought"), (turn.text, "text")):
        for piece in pieces(text):
            delta: dict[str, Any] = {"text": piece} if kind == "text" else {"reasoningContent": {"text": piece}}
            frames.append(event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}))
        if text:
            frames.append(event("contentBlockStop", {"contentBlockIndex": index}))
            index += 1
    for at, call in enumerate(turn.calls, index):
        ident = {"toolUseId": call.id} if call.id else {}
        frames.append(event("contentBlockStart", {"contentBlockIndex": at, "start": {"toolUse": {**ident, "name": call.name}}}))
        deltas = ({"contentBlockIndex": at, "delta": {"toolUse": {"input": piece}}} for piece in pieces(raw(call)))
        frames += [event("contentBlockDelta", delta) for delta in deltas]
        frames.append(event("contentBlockStop", {"contentBlockIndex": at}))
    stop = "tool_use" if turn.calls else STOP[turn.stop]
    metadata = {"usage": _usage(asked, turn), "metrics": {"latencyMs": 7}}
    return [*frames, event("messageStop", {"stopReason": stop}), event("metadata", metadata)]


def _error(asked: Asked, trouble: Trouble) -> Refusal:
    name = ERRORS.get(trouble.kind, "ServiceUnavailableException" if trouble.status == 503 else "InternalServerException")
    kind = f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/"
    headers = (("x-amzn-errortype", kind), ("x-amzn-requestid", f"req-{asked.number}"))
    return Refusal(STATUS.get(trouble.kind, trouble.status), headers, dumps({"message": trouble.message}))


BROKEN = exception("internalServerException", "The system encountered an unexpected error during processing.")


CONVERSE = Wire(
    name="bedrock", read=_read, tools=_tools, whole=_whole, frames=_frames, error=_error, broken=BROKEN, problem=_problem,
    content=("output", "message", "content"), envelope=("output",), stream_type="application/vnd.amazon.eventstream", end=2,
    marker=b'"role":"assistant"',
)  # fmt: skip
