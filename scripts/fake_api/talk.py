"""talk - what is asked and answered, in no vendor's format: scripts, turns, conversations."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OWN = {"thought", "fault", "times", "loop", "delay_ms"}  # beyond what the scripted provider knows
SHARED = {
    "text", "content", "json", "tool_calls", "role", "error", "message", "retry_after", "retryable", "usage", "stop",
    "expect", "model",
}  # fmt: skip
FAULTS = {
    "transport": "close", "timeout": "504", "server": "500", "rate_limited": "429", "auth": "401", "bad_request": "400",
    "unknown_model": "404", "bad_reply": "cut-json", "context_length": "context",
}  # fmt: skip
STOPS = ("final", "tool_calls", "length", "filter")
CALL = re.compile(r"call\s+([A-Za-z0-9_.-]+)\s*(\{)")


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call; `arguments` is an object, or text that is sent as it stands. `id` None: the server makes one."""

    name: str
    arguments: Any
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One reply. `times`: how often it is given before the next one (0: for ever). `stop`: final, length or filter."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    thought: str = ""
    fault: str = ""
    stop: str = "final"
    usage: tuple[int, int, int] | None = None
    delay_ms: float | None = None
    times: int = 1
    expect: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, read: the model, whether to stream, the talk so far as (role, text) pairs, the names of the tools."""

    model: str = "fake-1"
    stream: bool = False
    history: tuple[tuple[str, str], ...] = ()
    tools: tuple[str, ...] = ()
    key: str = ""
    number: int = 0
    size: int = 0
    body: dict[str, Any] = field(default_factory=dict)
    path: str = ""
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def last(self) -> str:
        """Text of the last user message."""
        return next((text for role, text in reversed(self.history) if role == "user"), "")

    @property
    def first(self) -> str:
        """Text of the first user message."""
        return next((text for role, text in self.history if role == "user"), "")

    @property
    def newest(self) -> str:
        """Text of the tool results at the very end, or of the last user message."""
        return "\n".join(self.results) or self.last

    @property
    def fresh(self) -> bool:
        """True when no reply is in the talk yet."""
        return all(role != "assistant" for role, _ in self.history)

    @property
    def results(self) -> list[str]:
        """Texts of the tool results at the very end."""
        found: list[str] = []
        for role, text in reversed(self.history):
            if role != "tool":
                break
            found.insert(0, text)
        return found


def turns(lines: Iterable[str]) -> tuple[tuple[Turn, ...], bool]:
    """Return a script's turns and whether it begins again at its end (a line that is only `{"loop": true}`)."""
    found: list[Turn] = []
    again = False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except ValueError as error:
            raise ValueError(f"script line {number} is not JSON: {error}") from None
        if data == {"loop": True}:
            again = True
        else:
            found.append(turn(data, number))
    return tuple(found), again


def turn(data: Any, number: int = 1) -> Turn:
    """Return the turn that a script's line stands for: the scripted provider's form, and the fields in OWN."""
    if isinstance(data, str):
        return Turn(data)
    if not isinstance(data, dict) or not data.keys() <= OWN | SHARED:
        unknown = ", ".join(sorted(data.keys() - OWN - SHARED)) if isinstance(data, dict) else type(data).__name__
        raise ValueError(f"script line {number} is no reply ({unknown}); fields are {', '.join(sorted(OWN | SHARED))}")
    if data.get("stop", "final") not in STOPS:
        raise ValueError(f"script line {number}: stop is one of {', '.join(STOPS)}")
    usage = data.get("usage")
    return Turn(
        text=_text(data),
        calls=tuple(_call(call) for call in data.get("tool_calls") or ()),
        thought=data.get("thought", ""),
        fault=data.get("fault") or _fault(data),
        stop=data.get("stop", "final").replace("tool_calls", "final"),
        expect=data.get("expect", ""),
        usage=usage and (usage.get("input_tokens", 0), usage.get("output_tokens", 0), usage.get("cached_input_tokens", 0)),
        delay_ms=data.get("delay_ms"),
        times=0 if data.get("loop") else data.get("times", 1),
    )


def _text(data: dict[str, Any]) -> str:
    if "json" in data:
        return json.dumps(data["json"], ensure_ascii=False, separators=(",", ":"))
    return data.get("text") or data.get("content") or ""


def _call(data: dict[str, Any]) -> Call:
    function = data.get("function") or data
    return Call(function["name"], function.get("arguments", {}), data.get("id"))


def _fault(data: dict[str, Any]) -> str:
    """Return the fault that stands for the kind of error named in a line."""
    kind, after = data.get("error"), data.get("retry_after")
    if not kind:
        return ""
    if kind == "rate_limited" and data.get("retryable") is False:
        return "quota"
    return FAULTS[kind] + (f":{after}" if after is not None and kind in ("rate_limited", "server") else "")


def echo(asked: Asked) -> Turn:
    """Return the reply of a server without a script: a call that the user spells out, the tools' results, or the user's words."""
    if asked.results:
        return Turn("\n".join(asked.results))
    found = CALL.search(asked.last)
    if found and found[1] in asked.tools:
        try:
            arguments, _ = json.JSONDecoder().raw_decode(asked.last, found.start(2))
        except ValueError:
            return Turn(asked.last)
        return Turn(calls=(Call(found[1], arguments),))
    return Turn(asked.last)


@dataclass(slots=True)
class Script:
    """Turns, and how far each conversation is. `per`: what a conversation is (message, key or server)."""

    turns: tuple[Turn, ...] = ()
    again: bool = False
    repeat_last: bool = False
    per: str = "message"
    places: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)

    def conversation(self, asked: Asked, named: str) -> str:
        """Return the conversation's name: what the client says, else key and first user message (see `per`)."""
        if named or self.per == "server":
            return named
        return asked.key if self.per == "key" else f"{asked.key}\0{asked.first}"

    def turn(self, asked: Asked, conversation: str) -> Turn | None:
        """Return the turn that is due, without passing on; None when the script has no more."""
        if not self.turns:
            return echo(asked)
        place = self.places.get(conversation, 0)
        for one in self.turns:
            if one.times == 0 or place < one.times:
                return one
            place -= one.times
        if self.again or (asked.fresh and not self.repeat_last):
            self.places[conversation] = 0
            return self.turns[0]
        return self.turns[-1] if self.repeat_last else None

    def pass_on(self, conversation: str) -> None:
        """Count one reply of the conversation."""
        if self.turns:
            self.places[conversation] = self.places.get(conversation, 0) + 1

    def faulty(self, conversation: str, times: int) -> bool:
        """Count one fault; False once the conversation has healed (`times` faults given; 0: never heals)."""
        given = self.faults.get(conversation, 0)
        self.faults[conversation] = given + 1
        return not times or given < times


def numbered(one: Turn, number: int) -> Turn:
    """Return the turn with an id on each call."""
    if not one.calls:
        return one
    calls = (Call(c.name, c.arguments, f"call_{number}_{i}" if c.id is None else c.id) for i, c in enumerate(one.calls))
    return replace(one, calls=tuple(calls))
