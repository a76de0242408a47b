"""wire - what every wire format must say, and the pieces they are made of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fake_api.talk import Asked, Call, Turn

CREATED = 1_790_000_000  # a fixed time keeps replies the same byte by byte


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error of the service: HTTP status, what kind it is, and its text. `details` is sent where the wire has a place for it."""

    status: int
    kind: str
    message: str
    details: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a wire words a trouble."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Wire:
    """One wire format.

    `read` returns the talk as (role, text) pairs, `tools` the names of tools, `whole` a reply, `frames` a streamed one (a list
    of complete events), `error` a refusal, `problem` what the vendor would refuse in a request. `broken` is an event that ends a
    stream with an error. `content` and `envelope` are the paths in a whole reply to its content and to the list or object around
    it; the last `end` frames are the end mark. `marker` occurs once in a request's body for each assistant turn.
    `embeds`: it makes vectors, which no script can say.
    """

    name: str
    read: Callable[[dict[str, Any]], Iterator[tuple[str, str]]]
    tools: Callable[[dict[str, Any]], Iterator[str]]
    whole: Callable[[Asked, Turn], dict[str, Any]]
    frames: Callable[[Asked, Turn], list[bytes]]
    error: Callable[[Asked, Trouble], Refusal]
    broken: bytes
    problem: Callable[[Asked], str]
    content: tuple[str | int, ...]
    envelope: tuple[str | int, ...]
    stream_type: str = "text/event-stream"
    end: int = 1
    marker: bytes = b"assistant"
    embeds: bool = False


def dumps(data: Any) -> bytes:
    """Return compact JSON."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def sse(data: Any, event: str = "", newline: str = "\n") -> bytes:
    """Return one server-sent event."""
    head = f"event: {event}{newline}" if event else ""
    return head.encode() + b"data: " + dumps(data) + 2 * newline.encode()


def pieces(text: str) -> list[str]:
    """Return the text in pieces, about as a model would send it, never more than some 40."""
    size = max(3, len(text) // 40 + 1)
    return [text[start : start + size] for start in range(0, len(text), size)]


def raw(call: Call) -> str:
    """Return a call's arguments as text."""
    return call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments, ensure_ascii=False)


def counts(asked: Asked, turn: Turn) -> tuple[int, int, int]:
    """Return tokens in (cached included), tokens out, cached tokens: four bytes are one token."""
    if turn.usage:
        return turn.usage
    sent = len(turn.text) + len(turn.thought) + sum(len(call.name) + len(raw(call)) for call in turn.calls)
    return max(1, asked.size // 4), max(1, sent // 4), 0


def text_of(content: Any) -> str:
    """Return the text of a message's content: a string, or a list of parts with `text`."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def objects(data: Any, key: str) -> list[dict[str, Any]]:
    """Return the objects in the list `data[key]`; nothing else, whatever was sent."""
    found = data.get(key) if isinstance(data, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def missing(body: dict[str, Any], *names: str) -> str:
    """Return a problem if one of the required fields is not there."""
    lost = next((f"{name}: field required" for name in names if body.get(name) in (None, [], "")), "")
    for name in ("messages", "contents"):
        value = body.get(name, [])
        if not isinstance(value, list) or any(not isinstance(one, dict) for one in value):
            return f"{name}: a list of objects is required"
    return lost


def function_names(body: dict[str, Any]) -> Iterator[str]:
    """Yield names of tools in the shape most wires share."""
    for tool in objects(body, "tools"):
        function = tool.get("function")
        yield str(function.get("name") if isinstance(function, dict) else tool.get("name"))


def unpaired(called: list[list[str]], answered: list[list[str]]) -> str:
    """Return a problem if tool calls and results do not pair up, turn by turn."""
    for calls, results in zip(called, answered, strict=True):
        lost = [one for one in calls if one not in results]
        if lost:
            return f"tool calls without a result: {', '.join(lost)}"
        stray = [one for one in results if one not in calls]
        if stray:
            return f"tool results without a call: {', '.join(stray)}"
    return ""
