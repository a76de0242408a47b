"""gemini - generateContent and streamGenerateContent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fake_api.wire import Refusal, Trouble, Wire, counts, dumps, missing, objects, pieces, sse, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fake_api.talk import Asked, Turn

FINISH = {"final": "STOP", "length": "MAX_TOKENS", "filter": "SAFETY"}
ERRORS = {
    "auth": "UNAUTHENTICATED", "forbidden": "PERMISSION_DENIED", "billing": "RESOURCE_EXHAUSTED", "quota": "RESOURCE_EXHAUSTED",
    "model": "NOT_FOUND", "rate": "RESOURCE_EXHAUSTED", "context": "INVALID_ARGUMENT", "bad": "INVALID_ARGUMENT",
    "filter": "INVALID_ARGUMENT", "too_large": "INVALID_ARGUMENT", "timeout": "DEADLINE_EXCEEDED", "overloaded": "UNAVAILABLE",
}  # fmt: skip
ROLES = {"model": "assistant"}


def _read(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for content in objects(body, "contents"):
        parts = objects(content, "parts")
        results = [part["functionResponse"] for part in parts if isinstance(part.get("functionResponse"), dict)]
        if not results:
            role = str(content.get("role", "user"))
            yield ROLES.get(role, role), text_of(parts)
        for result in results:
            response = result.get("response")
            values = list(response.values()) if isinstance(response, dict) else []
            yield "tool", " ".join(value if isinstance(value, str) else dumps(value).decode() for value in values)


def _tools(body: dict[str, Any]) -> Iterator[str]:
    for tool in objects(body, "tools"):
        for one in objects(tool, "functionDeclarations"):
            yield str(one.get("name"))


def _names(content: dict[str, Any], field: str) -> list[str]:
    return sorted(str(part[field].get("name")) for part in objects(content, "parts") if isinstance(part.get(field), dict))


def _problem(asked: Asked) -> str:
    contents = objects(asked.body, "contents")
    if strange := next((str(one.get("role")) for one in contents if one.get("role", "user") not in ("user", "model")), ""):
        return f"Please use a valid role: user, model (got {strange})"
    for before, after in zip(contents, [*contents[1:], {}], strict=True):
        if (called := _names(before, "functionCall")) != _names(after, "functionResponse") and called:
            return "the number of function response parts must equal the number of function call parts of the function call turn"
    return missing(asked.body, "contents")


def _calls(turn: Turn) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for call in turn.calls:
        ident = {"id": call.id} if call.id else {}
        part: dict[str, Any] = {"functionCall": {**ident, "name": call.name, "args": call.arguments}}
        if turn.thought and not found:
            part["thoughtSignature"] = "c2lnbmF0dXJl"
        found.append(part)
    return found


def _reply(asked: Asked, turn: Turn, parts: list[dict[str, Any]], *, last: bool) -> dict[str, Any]:
    taken, given, cached = counts(asked, turn)
    usage = {"promptTokenCount": taken, "candidatesTokenCount": given, "totalTokenCount": taken + given}
    if cached:
        usage["cachedContentTokenCount"] = cached
    finish = {"finishReason": FINISH[turn.stop]} if last else {}
    candidate = {"content": {"role": "model", "parts": parts}, **finish, "index": 0}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": asked.model, "responseId": f"resp-{asked.number}"}


def _whole(asked: Asked, turn: Turn) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"thought": True, "text": turn.thought}] if turn.thought else []
    if turn.text:
        parts.append({"text": turn.text})
    return _reply(asked, turn, [*parts, *_calls(turn)], last=True)


def _frames(asked: Asked, turn: Turn) -> list[bytes]:
    parts: list[dict[str, Any]] = [{"thought": True, "text": piece} for piece in pieces(turn.thought)]
    parts += [{"text": piece} for piece in pieces(turn.text)]
    parts += _calls(turn)
    replies = [_reply(asked, turn, [part], last=False) for part in parts]
    replies.append(_reply(asked, turn, [{"text": ""}], last=True))
    if "alt=sse" in asked.query:
        return [sse(reply, newline="\r\n") for reply in replies]
    return [b"[" + dumps(replies[0]), *(b",\r\n" + dumps(reply) for reply in replies[1:]), b"]"]


def _error(_asked: Asked, trouble: Trouble) -> Refusal:
    status = 429 if trouble.kind in ("billing", "quota") else trouble.status
    word = ERRORS.get(trouble.kind, "UNAVAILABLE" if status == 503 else "INTERNAL")
    details = list(trouble.details)
    if trouble.kind == "auth":
        details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "ACCESS_TOKEN_TYPE_UNSUPPORTED"})
    if trouble.kind == "quota":
        metric = "generativelanguage.googleapis.com/generate_content_requests"
        violation = {"quotaMetric": metric, "quotaId": "RequestsPerDayPerProject"}
        details.append({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]})
    error = {"code": status, "message": trouble.message, "status": word, **({"details": details} if details else {})}
    return Refusal(status, (), dumps({"error": error}))


BROKEN = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}


GENERATE = Wire(
    name="gemini", read=_read, tools=_tools, whole=_whole, frames=_frames, error=_error,
    broken=sse(BROKEN, newline="\r\n"), problem=_problem,
    content=("candidates", 0, "content"), envelope=("candidates",), marker=b'"role":"model"',
)  # fmt: skip
