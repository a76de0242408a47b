r"""scripted - replies from a file, chosen like any model.

    $ printf '"42"\n' > answer.jsonl
    $ assistant "6 * 7?" --provider scripted --script answer.jsonl
    42

A script is JSONL, one reply a line, taken in order:

    "text"                                                       a final answer
    {"text": "..."}                                              the same; "content" is another name for "text"
    {"json": {...}}                                              an answer that is this JSON
    {"tool_calls": [{"name": "...", "arguments": {...}}]}        calls; "id" and "text" are optional, "arguments" may be a string
    {"role": "assistant", "content": ..., "tool_calls": [...]}   a message as chat APIs write it
    {"error": "rate_limited", "retry_after": 2}                  the attempt fails with that error kind ("message" is optional)

Any reply may also have `usage` ({"input_tokens", "output_tokens", ...}), `stop` ("final", "tool_calls", "length", "filter") and
`expect`: text that the last message from the user or a tool must contain, else the run ends with a contract error. An unknown
key is an error, and so is a file of plain text.

Which line is next: a provider counts the lines it has handed out, so runs that share one (rows, agents in one process) share the
script, and a line with an error is used up by the attempt that it fails. The count starts at the number of assistant messages
that follow the last user message of the first request: a resumed run goes on where it was, and the turns of an earlier session
do not count. Failed attempts are not part of a run's messages, so a resumed script should leave the error lines it has used out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_core import errors
from agent_core.messages import Message, Text, ToolCall, ToolResult
from agent_core.provider import Capabilities, Provider, Reply, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent_core.effects import Ask

KEYS = frozenset(
    [
        "text",
        "content",
        "json",
        "tool_calls",
        "role",
        "error",
        "message",
        "retry_after",
        "retryable",
        "usage",
        "stop",
        "expect",
        "model",
    ],
)
STOPS = ("final", "tool_calls", "length", "filter")
KINDS: dict[str, type[errors.ProviderError]] = {
    kind.code: kind
    for kind in (
        errors.TransportError, errors.CallTimeout, errors.ServerError, errors.RateLimited, errors.AuthError, errors.BadRequest,
        errors.UnknownModel, errors.BadReply,
    )
}  # fmt: skip
_COUNTS = frozenset(Usage.__dataclass_fields__)
_LIMIT = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """One reply of a script, checked: what to expect first, then the error to raise or the reply to give."""

    number: int
    reply: Reply
    error: Callable[[], errors.AgentError] | None = None
    expect: str = ""


def provider(settings: Any, env: Mapping[str, str]) -> Provider:  # noqa: ARG001 - every provider module has this signature
    """Return the provider that reads the script which `settings` name.

    Args:
        settings: `script` (or `extra["script"]`, or `provider` as `scripted:FILE`) names the file; `model` is optional.
        env: the environment; not used.

    Raises:
        ConfigError: no script is named, or it cannot be read, or a line of it is not a reply.
    """
    path = _path(settings)
    if not path:
        raise errors.ConfigError("the scripted provider has no script", hint="--script FILE or --provider scripted:FILE.jsonl")
    lines = load(path)
    model = str(getattr(settings, "model", "") or "scripted")
    capabilities = Capabilities(vision=True, streaming=False)
    return Provider("scripted", model, answer=player(lines, model), capabilities=capabilities)


def load(path: str) -> tuple[Line, ...]:
    """Return the replies of the script at `path`. ConfigError names the first line that is none."""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(_LIMIT + 1)
    except (OSError, ValueError) as error:
        raise errors.ConfigError(f"cannot read the script {path}: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > _LIMIT:
        raise errors.ConfigError(f"the script {path} is larger than {_LIMIT >> 20} MiB")
    rows = enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1)
    return tuple(_line(path, number, row) for number, row in rows if row.strip())


def player(lines: Sequence[Line], model: str = "scripted") -> Callable[[Ask], Reply]:
    """Return the function that answers each request with the next line (see the module's docstring for "next")."""
    from threading import Lock

    lock, position = Lock(), -1

    def answer(ask: Ask) -> Reply:
        nonlocal position
        with lock:
            if position < 0:
                position = replies_so_far(ask.messages)
            index = position
            position += 1
        if index >= len(lines):
            raise errors.BadReply(f"the script has no reply left (it holds {len(lines)})")
        return _play(lines[index], ask, model)

    return answer


def replies_so_far(messages: Sequence[Message]) -> int:
    """Return how many assistant messages follow the last user message: the position in the turn."""
    count = 0
    for message in reversed(messages):
        if message.role == "user":
            break
        count += message.role == "assistant"
    return count


def _path(settings: Any) -> str:
    for route in str(getattr(settings, "provider", "") or "").split(","):
        name, _, path = route.strip().partition(":")
        if name == "scripted" and path:
            return path
    extra = getattr(settings, "extra", None) or {}
    return str(getattr(settings, "script", "") or extra.get("script") or "")


def _play(line: Line, ask: Ask, model: str) -> Reply:
    if line.expect and line.expect not in _last_text(ask.messages):
        raise errors.ContractError(f"line {line.number} of the script expects {line.expect!r} in the last message")
    if line.error is not None:
        raise line.error()
    reply = line.reply
    return Reply(reply.message, reply.stop, reply.usage, reply.model or model, f"scripted-{line.number}")


def _last_text(messages: Sequence[Message]) -> str:
    last = next((message for message in reversed(messages) if message.role in ("user", "tool")), None)
    if last is None:
        return ""
    return "\n".join(part.text for part in last.parts if isinstance(part, Text | ToolResult))


def _line(path: str, number: int, raw: bytes) -> Line:
    place = f"line {number} of the script {path}"
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):
        raise errors.ConfigError(
            f"{place} is not JSON", hint='one JSON value a line: "an answer" in quotes, or {"tool_calls": [...]}'
        ) from None
    if isinstance(row, str):
        row = {"text": row}
    if not isinstance(row, dict):
        raise errors.ConfigError(f"{place} is neither a string nor an object")
    try:
        return Line(number, _reply(row, number), _error(row), _typed(row, "expect", str, ""))
    except ValueError as error:
        raise errors.ConfigError(f"{place}: {error}", hint="see the docstring of agent_providers.scripted") from None


def _error(row: dict[str, Any]) -> Callable[[], errors.AgentError] | None:
    code = _typed(row, "error", str, "")
    if not code:
        return None
    message = _typed(row, "message", str, f"scripted error: {code}")
    if code == "context_length":
        return partial(errors.ContextLength, message)
    if code not in KINDS:
        raise ValueError(f"unknown error {code!r} (known: {', '.join((*KINDS, 'context_length'))})")
    wait, retryable = _typed(row, "retry_after", (int, float), None), _typed(row, "retryable", bool, None)
    return partial(KINDS[code], message, retry_after=wait, retryable=retryable)


def _reply(row: dict[str, Any], number: int) -> Reply:
    unknown = sorted(set(row) - KEYS)
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r} (known: {', '.join(sorted(KEYS))})")
    if _typed(row, "role", str, "assistant") != "assistant":
        raise ValueError("only assistant messages can be replies")
    calls = tuple(_call(call, number, index) for index, call in enumerate(_typed(row, "tool_calls", list, []), 1))
    text = _text(row)
    if not calls and text is None and "error" not in row:
        raise ValueError("a reply needs one of text, json, tool_calls or error")
    stop = _typed(row, "stop", str, "tool_calls" if calls else "final")
    if stop not in STOPS:
        raise ValueError(f"stop must be one of {', '.join(STOPS)}")
    message = Message("assistant", (*((Text(text),) if text else ()), *calls))
    return Reply(message, stop, _usage(row), _typed(row, "model", str, ""))


def _text(row: dict[str, Any]) -> str | None:
    if "json" in row:
        return json.dumps(row["json"], ensure_ascii=False, separators=(",", ":"))
    text: str | None = _typed(row, "text", str, None)
    return _typed(row, "content", str, None) if text is None else text


def _call(call: Any, number: int, index: int) -> ToolCall:
    if not isinstance(call, dict):
        raise ValueError("a tool call is an object")  # noqa: TRY004 - one kind of problem, told with its line
    function = _typed(call, "function", dict, call)
    name = _typed(function, "name", str, "")
    if not name:
        raise ValueError("a tool call needs a name")
    id_ = _typed(call, "id", str, "") or f"call_{number}_{index}"
    given = function.get("arguments", {})
    if isinstance(given, dict):
        return ToolCall(id_, name, given)
    if not isinstance(given, str):
        raise ValueError("arguments are an object, or a string as a model would write it")  # noqa: TRY004
    from agent_providers import wire

    arguments, problem = wire.arguments(given)
    return ToolCall(id_, name, arguments, problem, given if problem else "")


def _usage(row: dict[str, Any]) -> Usage:
    counts = _typed(row, "usage", dict, {})
    unknown = sorted(set(counts) - _COUNTS)
    if unknown:
        raise ValueError(f"unknown usage {unknown[0]!r} (known: {', '.join(sorted(_COUNTS))})")
    if not all(type(count) is int and count >= 0 for count in counts.values()):
        raise ValueError("usage holds whole numbers")
    return Usage(**counts)


def _typed(row: dict[str, Any], key: str, kind: Any, default: Any) -> Any:
    """Return `row[key]` if it is of that kind, the default if it is absent or null; ValueError otherwise."""
    value = row.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{key} has the wrong type")
    return value
