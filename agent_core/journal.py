"""journal - what is recorded of an effect: fingerprints of requests, outcomes as plain data, and the way back.

An outcome is recorded under its position in the run ("3", "2.1.4") with the fingerprint of the request; `recall` gives it back to
the same request, so a resumed or replayed run is fed recorded outcomes.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from agent_core import messages
from agent_core import redact as redaction
from agent_core.errors import AgentError, DivergedError, ProviderError
from agent_core.messages import ToolCall, ToolResult
from agent_core.provider import Reply, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent_core.effects import Ask
    from agent_core.events import Event
    from agent_core.run import Run
    from agent_core.tool import Toolset


def recall(run: Run, path: str, fingerprint: str) -> Event | None:
    """Return the recorded outcome at a position; DivergedError if it was of another request, or if a replay has none."""
    event = run.recorded.get(path)
    if event is None:
        if run.live:
            return None
        raise DivergedError(f"the recording ends before step {path}", hint="resume the run instead of replaying it")
    if event.fingerprint and event.fingerprint != fingerprint:
        raise DivergedError(
            f"journal diverged at step {path}", hint="the agent, its prompt or its input changed since; fork instead"
        )
    if event.kind == "effect.failed":
        error = error_from_json(event.data["error"])
        error.facts = event.data.get("facts") or {}
        raise error
    return event


def fingerprint(ask: Ask) -> str:
    """Return 32 hex digits that stand for everything in the request that a model would see."""
    digest = hashlib.blake2b(b"".join([message.digest for message in ask.messages]), digest_size=16)
    digest.update(_tools_digest(ask.tools))
    rest = (ask.schema, ask.stop, ask.tool_choice, ask.temperature, ask.max_tokens)
    if rest != (None, (), "auto", None, None):
        digest.update(messages.canonical(rest).encode())
    if ask.model or ask.provider:
        digest.update(f"\0{ask.provider}\0{ask.model}".encode())
    return digest.hexdigest()


def _tools_digest(tools: Toolset | None) -> bytes:
    if tools is None:
        return b""
    found: bytes | None = tools.cache.get("digest")
    if found is None:
        lines = [messages.canonical([tool.name, tool.description, dict(tool.parameters)]) for tool in tools.tools]
        found = hashlib.blake2b("\n".join(lines).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        tools.cache["digest"] = found
    return found


def call_key(call: ToolCall) -> str:
    """Return what two equal tool calls share."""
    return mark(call.name, call.raw or messages.canonical(call.arguments))


def mark(*words: str) -> str:
    """Return 32 hex digits that stand for the words."""
    return hashlib.blake2b("\0".join(words).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def reply_to_json(reply: Reply) -> dict[str, Any]:
    """Return the reply as plain data."""
    used = reply.usage
    return {
        "message": messages.to_json(reply.message), "stop": reply.stop, "model": reply.model,
        "usage": {
            "input_tokens": used.input_tokens, "output_tokens": used.output_tokens, "cached_input_tokens": used.cached_input_tokens,
            "cache_write_tokens": used.cache_write_tokens, "reasoning_tokens": used.reasoning_tokens,
        },
    }  # fmt: skip


def reply_from_json(data: Mapping[str, Any]) -> Reply:
    """Return the reply that `reply_to_json` wrote."""
    return Reply(messages.from_json(data["message"]), data["stop"], Usage(**data["usage"]), data["model"])


def result_from_json(data: Mapping[str, Any]) -> ToolResult:
    """Return the tool result of a recorded event."""
    value = data.get("value")
    return ToolResult(
        data["id"], data["name"], data["text"], data["error"], data["text"] if value is None and not data["error"] else value
    )


def error_to_json(error: AgentError, clean: Callable[[str], str] = redaction.redact) -> dict[str, Any]:
    """Return the error object of wire.md §4."""
    return {
        "code": error.code, "title": type(error).__name__, "detail": clean(str(error)), "hint": clean(error.hint),
        "retryable": error.retryable, "retry_after_s": getattr(error, "retry_after", None),
        "http_status": getattr(error, "http_status", None), "status": error.status, "cause": clean(error.cause),
    }  # fmt: skip


def error_from_json(data: Mapping[str, Any]) -> AgentError:
    """Return an error of the class that was recorded (AgentError itself if it is not known)."""
    import agent_core.errors as tree

    kind = getattr(tree, str(data["title"]), AgentError)
    error: AgentError
    if isinstance(kind, type) and issubclass(kind, ProviderError):
        error = kind(
            data["detail"], hint=data["hint"], cause=data["cause"], http_status=data["http_status"],
            retry_after=data["retry_after_s"], retryable=data["retryable"],
        )  # fmt: skip
        return error
    kind = kind if isinstance(kind, type) and issubclass(kind, AgentError) else AgentError
    error = kind.__new__(kind)
    AgentError.__init__(error, data["detail"], hint=data["hint"], cause=data["cause"])
    return error
