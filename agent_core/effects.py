"""effects - the closed set of things a pattern may ask for.

A pattern is a generator: it yields one of these values and is sent the outcome. It holds no IO, no clock and no randomness.

    reply   = yield Ask(messages, tools)      -> Reply
    message = yield Act(calls)                -> [Message]  (one tool message with all results, in call order)
    text    = yield Call(agent, message)      -> str
    results = yield All([effect, ...])        -> list of outcomes, in order; None where cancelled (see `enough`)
    answer  = yield Wait(for_)                -> what was waited for
    None    = yield Note(kind, data)          -> None
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_core.messages import Message, ToolCall
    from agent_core.tool import Toolset


@dataclass(frozen=True, slots=True)
class Ask:
    """One model call.

    `schema` asks for a structured reply (JSON Schema); `stop` adds stop sequences; `tool_choice` is auto, none, required or a
    tool's name; `temperature` and `max_tokens` override the run's settings (None: the run's, which default to unset); `model` and
    `provider` name others than the run's.
    """

    messages: Sequence[Message]
    tools: Toolset | None = None
    schema: Mapping[str, Any] | None = None
    stop: tuple[str, ...] = ()
    tool_choice: str = "auto"
    temperature: float | None = None
    max_tokens: int | None = None
    model: str = ""
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Act:
    """Run the tool calls of one reply: in parallel unless a tool is exclusive, results in call order."""

    calls: Sequence[ToolCall]


@dataclass(frozen=True, slots=True)
class Call:
    """Run another agent on a message (text) and return its answer (text).

    `agent` is an Agent, a Member, a peer (`agent_core.peers`), anything else with `name` and `program`, or a registered name.
    """

    agent: Any
    message: str


@dataclass(frozen=True, slots=True)
class All:
    """Run effects (or patterns: generators) concurrently.

    `enough`: stop at that many successes (int) or that fraction of all (float up to 1.0) and cancel the rest; their outcome is
    None. `limit`: at most that many at a time. A child's error is its outcome as long as enough others can still succeed.
    """

    effects: Sequence[Any]
    enough: float | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for a number of seconds (float), or for a person's decision (a question as str; may park the run)."""

    for_: float | str


@dataclass(frozen=True, slots=True)
class Note:
    """Tell the event stream something."""

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)


Effect = Ask | Act | Call | All | Wait | Note
Pattern = Generator[Any, Any, Any]
