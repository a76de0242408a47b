"""messages - what a model and an agent say to each other, as immutable values.

A message is a role and a tuple of parts. Parts never change after they are made, so a codec may keep the wire form of a
message beside it (`Message.cache`) and join bytes instead of encoding the whole history again for every request.

Roles: system, user, assistant, tool. One tool message carries *all* results of one reply, in call order.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    Role = Literal["system", "user", "assistant", "tool"]
    ToolErrorKind = Literal["not_found", "transient", "permanent", "denied", "invalid"]

canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str).encode


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image: raw bytes with their media type, or the URL of one."""

    media_type: str
    data: bytes = b""
    url: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call the model asks for. `problem` is set when its arguments were not a JSON object; `raw` then keeps them."""

    id: str
    name: str
    arguments: dict[str, Any]
    problem: str = ""
    raw: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call came to: text for the model, the structured value for scripts, and the kind of error if it failed."""

    call_id: str
    name: str
    text: str
    error: ToolErrorKind | None = None
    value: Any = None


@dataclass(frozen=True, slots=True)
class Opaque:
    """A vendor's block that must go back unchanged (thinking, signatures). Other wires leave it out."""

    wire: str
    data: Any


Part = Text | Image | ToolCall | ToolResult | Opaque


@dataclass(frozen=True, slots=True)
class Message:
    """A role and its parts."""

    role: Role
    parts: tuple[Part, ...]
    cache: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def text(self) -> str:
        """All text parts joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls among the parts, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @property
    def digest(self) -> bytes:
        """16 bytes that stand for the content; made once."""
        found: bytes | None = self.cache.get("digest")
        if found is None:
            line = canonical(to_json(self))
            found = hashlib.blake2b(line.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            self.cache["digest"] = found
        return found


def system(text: str) -> Message:
    """Return a system message."""
    return Message("system", (Text(text),))


def user(text: str, *parts: Part) -> Message:
    """Return a user message: text first, then any other parts (images)."""
    return Message("user", (Text(text), *parts))


def assistant(text: str, calls: tuple[ToolCall, ...] = ()) -> Message:
    """Return an assistant message."""
    return Message("assistant", (*((Text(text),) if text else ()), *calls))


def cleaned(message: Message, clean: Callable[[str], str]) -> Message:
    """Return the message with every text and argument passed through `clean`; the very same one if nothing changes."""
    parts = tuple(_cleaned(part, clean) for part in message.parts)
    return message if parts == message.parts else Message(message.role, parts)


def _cleaned(part: Part, clean: Callable[[str], str]) -> Part:
    match part:
        case Text(text):
            return Text(clean(text))
        case ToolCall(id_, name, arguments, problem, raw):
            return ToolCall(id_, name, _cleaned_value(arguments, clean), clean(problem), clean(raw))
        case _:
            return part


def _cleaned_value(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(key): _cleaned_value(item, clean) for key, item in value.items()}
    return [_cleaned_value(item, clean) for item in value] if isinstance(value, list) else value


def to_json(message: Message) -> dict[str, Any]:
    """Return the message as plain JSON data (the journal's form); made once and not to be changed."""
    found: dict[str, Any] | None = message.cache.get("json")
    if found is None:
        found = message.cache["json"] = {"role": message.role, "parts": [_part_to_json(part) for part in message.parts]}
    return found


def from_json(data: dict[str, Any]) -> Message:
    """Return the message that `to_json` wrote."""
    return Message(data["role"], tuple(_part_from_json(part) for part in data["parts"]))


def _part_to_json(part: Part) -> dict[str, Any]:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image(media_type, data, url):
            return {"type": "image", "media_type": media_type, "data": base64.b64encode(data).decode(), "url": url}
        case ToolCall(id_, name, arguments, problem, raw):
            rest = {"problem": problem, "raw": raw} if problem else {}
            return {"type": "tool_call", "id": id_, "name": name, "arguments": arguments, **rest}
        case ToolResult(call_id, name, text, error, value):
            return {
                "type": "tool_result", "id": call_id, "name": name, "text": text, "error": error,
                **({} if value is None or value == text else {"value": value}),
            }  # fmt: skip
        case Opaque(wire, data):
            return {"type": "opaque", "wire": wire, "data": data}


def _part_from_json(part: dict[str, Any]) -> Part:
    match part["type"]:
        case "text":
            return Text(part["text"])
        case "image":
            return Image(part["media_type"], base64.b64decode(part["data"]), part["url"])
        case "tool_call":
            return ToolCall(part["id"], part["name"], part["arguments"], part.get("problem", ""), part.get("raw", ""))
        case "tool_result":
            value = part.get("value", None if part["error"] else part["text"])
            return ToolResult(part["id"], part["name"], part["text"], part["error"], value)
        case _:
            return Opaque(part["wire"], part["data"])
