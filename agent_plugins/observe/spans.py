"""spans - a run as OpenTelemetry spans by the GenAI conventions. Pure: events in, finished spans out; `otel` sends them.

    made = Spans()
    for event in events: finished += made.feed(event)

    invoke_agent NAME     the run, and every agent it called       INTERNAL (CLIENT where the agent runs elsewhere)
    chat MODEL            a model call with its retries            CLIENT
    execute_tool NAME     a tool call                              INTERNAL

Ids follow from run and position, so a span's parent is known before it has ended; the run's own span is that of its `traceparent`,
which its peers have as their parent. What was said is left out unless `content` is on. Source: the GenAI semantic conventions
(`gen_ai.*`), as of November 2026.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent_core.lineage import span_of, traceparent_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent_core.events import Event

PROVIDERS = {
    "gemini": "gcp.gemini", "google": "gcp.gemini", "bedrock": "aws.bedrock", "azure": "azure.ai.openai", "mistral": "mistral_ai",
    "xai": "x_ai", "openai-responses": "openai",
}  # fmt: skip
GOOD = frozenset({0, 3, 5})
_SHOWN = 8192


@dataclass(frozen=True, slots=True)
class Span:
    """One finished span. Ids are numbers, times ns since 1970; `error` is what failed, "" if nothing did."""

    name: str
    kind: str
    trace: int
    span: int
    parent: int
    start: int
    end: int
    attributes: Mapping[str, Any]
    error: str = ""
    events: tuple[tuple[str, int, Mapping[str, Any]], ...] = ()


@dataclass(slots=True)
class Spans:
    """Makes spans of the events of one run. `content`: put what was said into them."""

    content: bool = False
    begin: Event | None = None
    trace: int = 0
    root: int = 0
    parent: int = 0
    open: dict[str, Event] = field(default_factory=dict)
    notes: dict[str, list[tuple[str, int, Mapping[str, Any]]]] = field(default_factory=dict)

    def feed(self, event: Event) -> Iterator[Span]:
        """Take an event and yield the spans that end with it."""
        if event.kind == "run.started":
            self._begin(event)
        elif self.begin is None or event.data.get("inherited"):
            return
        match event.kind:
            case "tool.started" | "call.started":
                self.open[event.path] = event
            case "model.failed" | "wait.asked" | "wait.finished":
                self._note(event)
            case "model.replied" | "tool.finished" | "call.finished" | "call.failed" | "effect.failed":
                yield from self._ended(event)
            case "run.finished":
                yield self._run(event)

    def _begin(self, event: Event) -> None:
        trace, span = span_of(traceparent_of(event.run, str(event.data.get("traceparent") or "")))
        known = event.data.get("lineage")
        above = str(known.get("parent") or "") if isinstance(known, dict) else ""
        self.begin, self.trace, self.root = event, int(trace, 16), int(span, 16)
        self.parent = int(above, 16) if len(above) == 16 and not set(above) - set("0123456789abcdef") else 0
        self.open.clear()
        self.notes.clear()

    def _note(self, event: Event) -> None:
        place = event.path if event.kind == "model.failed" else ""
        name = {"model.failed": "gen_ai.client.attempt_failed"}.get(event.kind, f"agents.{event.kind}")
        error = event.data.get("error")
        told = {"error.type": _error_type(error), "agents.attempt": event.data.get("attempt")} if error else {}
        self.notes.setdefault(place, []).append((name, _ns(event.time), {key: value for key, value in told.items() if value}))

    def _ended(self, event: Event) -> Iterator[Span]:
        match event.kind:
            case "model.replied":
                yield self._chat(event)
            case "tool.finished":
                yield self._tool(event)
            case "call.finished" | "call.failed":
                yield self._call(event)
            case "effect.failed" if event.path in self.notes:
                yield self._chat(event)

    # -- one kind of span each

    def _run(self, event: Event) -> Span:
        begin = self.begin.data if self.begin is not None else {}
        data = event.data
        attributes = {
            "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": begin.get("agent"),
            "gen_ai.agent.version": begin.get("version"),
            "gen_ai.conversation.id": begin.get("session") or event.run, "gen_ai.provider.name": provider(data.get("provider")),
            "gen_ai.request.model": begin.get("model"), "gen_ai.response.model": data.get("model"), **_usage(data.get("usage")),
            "agents.run.id": event.run, "agents.run.status": data.get("status"), "agents.run.stop": data.get("stop"),
        }  # fmt: skip
        error = "" if data.get("status") in GOOD else _error_type(data.get("error")) or f"status_{data.get('status')}"
        if self.content:
            from agent_core.store import text_of

            attributes["gen_ai.input.messages"] = _message("user", text_of(begin.get("input")))
            attributes["gen_ai.output.messages"] = _message("assistant", str(data.get("output") or ""))
        name = f"invoke_agent {begin.get('agent') or ''}".strip()
        start = self.begin.time if self.begin is not None else event.time
        events = tuple(self.notes.pop("", ()))
        return Span(
            name,
            "internal",
            self.trace,
            self.root,
            self.parent,
            _ns(start),
            _ns(event.time),
            _plain(attributes, error),
            error,
            events,
        )

    def _chat(self, event: Event) -> Span:
        data, settings = event.data, self._settings()
        model = str(data.get("model") or "")
        notes = tuple(self.notes.pop(event.path, ()))
        failed = event.kind == "effect.failed"
        error = (_error_type(data.get("error")) or "failed") if failed else ""
        asked = str((self.begin.data if self.begin is not None else {}).get("model") or "") if failed or not model else model
        attributes = {
            "gen_ai.operation.name": "chat", "gen_ai.provider.name": provider(data.get("provider")), "gen_ai.request.model": asked,
            "gen_ai.response.model": model, "gen_ai.response.finish_reasons": (str(data["stop"]),) if data.get("stop") else None,
            "gen_ai.request.temperature": settings.get("temperature"), "gen_ai.request.max_tokens": settings.get("max_tokens"),
            **_usage(data.get("usage")), "agents.attempts": data.get("attempts"), "agents.cached": data.get("cached"),
            "agents.cost_usd": _cost(data) if not failed else None,
        }  # fmt: skip
        if self.content and isinstance(data.get("message"), dict):
            attributes["gen_ai.output.messages"] = _parts(data["message"])
        start = event.time - _seconds(data.get("wall_ms"))
        if notes and failed:
            start = min(start, notes[0][1] / 1e9)
        return self._made(f"chat {asked or model}".strip(), "client", event, start, attributes, error, notes)

    def _tool(self, event: Event) -> Span:
        data, begin = event.data, self.open.pop(event.path, None)
        attributes = {
            "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": data.get("name"), "gen_ai.tool.call.id": data.get("id"),
            "gen_ai.tool.type": "function",
        }  # fmt: skip
        if self.content:
            attributes["gen_ai.tool.call.arguments"] = _text(begin.data.get("arguments")) if begin is not None else None
            attributes["gen_ai.tool.call.result"] = _text(data.get("text"))
        start = begin.time if begin is not None else event.time - _seconds(data.get("wall_ms"))
        return self._made(
            f"execute_tool {data.get('name') or ''}".strip(), "internal", event, start, attributes, str(data.get("error") or "")
        )

    def _call(self, event: Event) -> Span:
        data, begin = event.data, self.open.pop(event.path, None)
        known = data.get("facts")
        facts = known if isinstance(known, dict) else {}
        attributes = {
            "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": data.get("agent"), "agents.run.id": facts.get("run"),
            **_usage(facts.get("usage")),
        }  # fmt: skip
        if self.content:
            attributes["gen_ai.output.messages"] = _message("assistant", str(data.get("output") or ""))
        start = begin.time if begin is not None else event.time - _seconds(data.get("wall_ms"))
        error = (_error_type(data.get("error")) or "failed") if event.kind == "call.failed" else ""
        kind = "client" if facts else "internal"
        return self._made(f"invoke_agent {data.get('agent') or ''}".strip(), kind, event, start, attributes, error)

    def _made(  # noqa: PLR0913, PLR0917 - what a span is made of
        self,
        name: str,
        kind: str,
        event: Event,
        start: float,
        attributes: Mapping[str, Any],
        error: str,
        notes: tuple[Any, ...] = (),
    ) -> Span:
        own = self._id(event.path)
        start_ns, end_ns = _ns(start), _ns(event.time)
        return Span(
            name,
            kind,
            self.trace,
            own,
            self._above(event.path),
            min(start_ns, end_ns),
            end_ns,
            _plain(attributes, error),
            error,
            notes,
        )

    def _settings(self) -> Mapping[str, Any]:
        settings = self.begin.data.get("settings") if self.begin is not None else None
        return settings if isinstance(settings, Mapping) else {}

    def _id(self, path: str) -> int:
        text = f"{self.trace:032x}{self.root:016x}{path}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") or 1

    def _above(self, path: str) -> int:
        """Return the span around a position: of the call or tool that it is part of, else of the run."""
        while path := path.rpartition(".")[0]:
            if path in self.open:
                return self._id(path)
        return self.root


def provider(name: Any) -> str:
    """Return a provider's name as the conventions have it; ours where they know none."""
    text = str(name or "").lower()
    return PROVIDERS.get(text, text.replace("-", "_"))


def _usage(used: Any) -> dict[str, Any]:
    if not isinstance(used, Mapping):
        return {}
    names = {
        "input_tokens": "gen_ai.usage.input_tokens", "output_tokens": "gen_ai.usage.output_tokens",
        "cached_input_tokens": "gen_ai.usage.cache_read.input_tokens",
        "cache_write_tokens": "gen_ai.usage.cache_write.input_tokens",
        "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
    }  # fmt: skip
    found = {full: used[short] for short, full in names.items() if isinstance(used.get(short), int)}
    return {**found, "agents.cost_usd": used.get("cost_usd")}


def _cost(data: Mapping[str, Any]) -> str | None:
    from agent_core import money
    from agent_core.readings import cost_of

    cost = cost_of(data)
    return None if cost is None else money.text(cost)


def _error_type(error: Any) -> str:
    if isinstance(error, Mapping):
        return str(error.get("http_status") or error.get("code") or error.get("title") or "")
    return str(error or "")


def _plain(attributes: Mapping[str, Any], error: str) -> dict[str, Any]:
    """Return the attributes that are known, without secrets; `error.type` where something failed."""
    from agent_core import redact

    known = {name: value for name, value in attributes.items() if value is not None and value != ""}
    made = {name: redact.redact(value)[:_SHOWN] if isinstance(value, str) else value for name, value in known.items()}
    return {**made, "error.type": error} if error else made


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _message(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}], ensure_ascii=False)


def _parts(message: Mapping[str, Any]) -> str:
    """Return a recorded message in the form of `gen_ai.output.messages`."""
    found = [part for part in message.get("parts") or () if isinstance(part, Mapping)]
    parts = [
        {"type": "text", "content": part.get("text")}
        if part.get("type") == "text"
        else {"type": "tool_call", "id": part.get("id"), "name": part.get("name"), "arguments": part.get("arguments")}
        for part in found
        if part.get("type") in {"text", "tool_call"}
    ]
    return json.dumps([{"role": str(message.get("role") or "assistant"), "parts": parts}], ensure_ascii=False, default=str)


def _seconds(wall: Any) -> float:
    return wall / 1000 if isinstance(wall, int | float) and not isinstance(wall, bool) else 0.0


def _ns(seconds: float) -> int:
    return max(0, int(seconds * 1e9))
