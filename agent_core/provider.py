"""provider - the interface between the engine and a model's service.

A codec is pure: it turns an `Ask` into a `Request` and a `Response` (or a stream of bytes) into a `Reply`. One module per wire
protocol in `agent_providers`; a vendor is a row of data. A provider without a network (`offline`, `scripted`) has `answer`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Literal, Protocol

    from agent_core.effects import Ask
    from agent_core.messages import Message, ToolCall
    from agent_core.ops import Response

    StopReason = Literal["final", "tool_calls", "length", "filter"]
else:
    Protocol = object  # `typing` is a tenth of a short start


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the service counted them. `input_tokens` includes cached ones; None: the service did not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of a model: the message (text and/or tool calls), why it stopped, and what it used."""

    message: Message
    stop: StopReason = "final"
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    id: str = ""

    @property
    def text(self) -> str:
        """The message's text."""
        return self.message.text

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The message's tool calls."""
        return self.message.tool_calls


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request: absolute URL, header pairs in order (lower-case names), body."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed reply: visible text, or thought (reasoning) text."""

    text: str = ""
    thought: str = ""


class Decoder(Protocol):
    """Decodes one streamed reply, byte by byte if need be. Raises ProviderError kinds."""

    def feed(self, data: bytes) -> Sequence[Delta]:
        """Take any number of bytes and return the deltas they complete."""

    def finish(self) -> Reply:
        """Return the whole reply at the end of the body; BadReply if the stream's end mark is missing."""


class Codec(Protocol):
    """One wire protocol. Pure: no IO, no clock, no environment."""

    wire: str

    def encode(self, ask: Ask, provider: Provider, *, stream: bool = False) -> Request:
        """Return the request for `ask`. Never sends sampling fields that are None."""

    def decode(self, response: Response, provider: Provider) -> Reply:
        """Return the reply, or raise the ProviderError kind that the response stands for."""

    def decoder(self, provider: Provider) -> Decoder:
        """Return a decoder for one streamed 2xx body."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do. Unknown stays None."""

    tools: bool = True
    streaming: bool = True
    vision: bool = False
    structured: bool = True
    context_window: int | None = None
    max_output: int | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens on a date (`basis`, e.g. "list-2026-09"), as decimal strings; None: unknown."""

    input: str | None = None
    output: str | None = None
    cached_input: str | None = None
    cache_write: str | None = None
    basis: str = ""


@dataclass(frozen=True, slots=True)
class Provider:
    """A vendor's service, ready to be asked: address, key, model, codec. `answer` instead of a codec where there is no network."""

    name: str
    model: str
    codec: Codec | None = None
    base_url: str = ""
    key: str = field(default="", repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    quirks: frozenset[str] = frozenset()
    capabilities: Capabilities = field(default_factory=Capabilities)
    price: Price = field(default_factory=Price)
    answer: Callable[[Ask], Reply] | None = field(default=None, repr=False)
    extra: dict[str, str] = field(default_factory=dict, repr=False)
