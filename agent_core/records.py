"""records - the lines of `agentpipe/1`: what `--json` and `--jsonl` print and what a next stage reads.

Outside a record has CloudEvents 1.0 attributes, inside `data` the shape of an MCP tool result. Fields are only ever added; readers
ignore fields and types they do not know. Money is a decimal string, None where it is unknown.
"""

from __future__ import annotations

import json
import os
import time as clock
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent_core.errors import EXIT_TABLE, AgentError, InputError, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent_core.agent import RunResult
    from agent_core.events import Event

LINE_LIMIT = 1024 * 1024
_LARGE = 32 * 1024
_ROWS = 100
_MARK = b'{"agentpipe":"1"'
TYPES = ("started", "delta", "thought", "tool", "notice", "approval", "progress", "item", "upstream", "result")
_PROGRESS = (
    "node", "id", "agent", "task", "steps", "nodes", "visit", "progress", "state", "error", "should_restart", "reason", "wall_ms",
)  # fmt: skip
STOPS = ("final", "max_steps", "timeout", "budget", "cancelled", "denied", "waiting", "error")
_UNKNOWN_USAGE: dict[str, Any] = {
    "input_tokens": 0, "cached_input_tokens": 0, "output_tokens": 0, "calls": 0, "cost_usd": "0", "cost_basis": None, "wall_ms": 0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """Who writes records: the agent, the trace it is part of, and the row it works on."""

    name: str
    version: str
    traceparent: str
    subject: str = ""

    @property
    def uri(self) -> str:
        """The CloudEvents source."""
        return f"agent:{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Upstream:
    """What earlier stages of the pipe sent: texts to work on, their bill, their chain, their trace."""

    texts: tuple[str, ...] = ()
    cost_usd: str | None = "0"
    stages: int = 0
    provenance: tuple[Mapping[str, Any], ...] = ()
    traceparent: str = ""
    summaries: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)


def child_traceparent(parent: str) -> str:
    """Return a traceparent (W3C Trace Context) with a new span in the parent's trace, or in a new trace."""
    pieces = parent.split("-")
    valid = len(pieces) >= 4 and len(pieces[1]) == 32 and _is_hex(pieces[1]) and pieces[1].strip("0") != ""
    trace = pieces[1] if valid else os.urandom(16).hex()
    return f"00-{trace}-{os.urandom(8).hex()}-01"


def _is_hex(text: str) -> bool:
    return all(letter in "0123456789abcdef" for letter in text)


def record(kind: str, source: Source, data: Mapping[str, Any], *, id_: str = "", time: float | None = None) -> dict[str, Any]:
    """Return one record; `time` is seconds since the epoch."""
    made: dict[str, Any] = {
        "agentpipe": "1",
        "specversion": "1.0",
        "type": f"agentpipe.{kind}",
        "id": id_ or os.urandom(16).hex(),
        "source": source.uri,
        "time": timestamp(clock.time() if time is None else time),
        "traceparent": source.traceparent,
    }
    if source.subject:
        made["subject"] = source.subject
    made["data"] = dict(data)
    return made


def timestamp(seconds: float) -> str:
    """Return RFC 3339 in UTC."""
    return clock.strftime("%Y-%m-%dT%H:%M:%S", clock.gmtime(seconds)) + "Z"


def line(made: Mapping[str, Any]) -> bytes:
    """Return the record as one line of UTF-8 JSON. What is not Unicode becomes U+FFFD: a record is always valid."""
    try:
        text = _dumps(made)
    except ValueError:
        text = _dumps(_finite(made))
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in text).encode() + b"\n"


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    """Return JSON data without NaN and infinities, which JSON does not have: they become null."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value  # noqa: PLR0124


def capped(made: dict[str, Any], folder: str) -> bytes:
    """Return the record's line; if it is longer than 1 MiB, what is large goes to blobs in `folder`, named by their hashes."""
    whole = line(made)
    if len(whole) <= LINE_LIMIT:
        return whole
    try:
        return line({**made, "data": _outsourced(made["data"], folder)})
    except OSError:
        # Better a line that is too long than no answer.
        return whole


def _outsourced(data: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Put what is large into blobs: `output` into `blob`, any other field into FIELD_blob."""
    made = dict(data)
    if made.get("output"):
        blob = put_blob(folder, str(made["output"]))
        made |= {"output": "", "blob": blob, "content": [{"type": "resource_link", "uri": blob["uri"], "name": "output"}]}
    for key, value in [*made.items()]:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        if len(text) > _LARGE:
            made |= {key: None if key == "structuredContent" else type(value)(), f"{key}_blob": put_blob(folder, text)}
    if data.get("provenance") and not made["provenance"]:
        made["provenance"] = hidden_labels(data["provenance"])
    return made


def hidden_labels(rows: Iterable[Any]) -> list[Mapping[str, Any]]:
    """Return one row with what must not get lost of rows that are left out: that something private is in it."""
    private = any(isinstance(row, dict) and "private" in _list(row.get("labels")) for row in rows)
    return [{"ref": "others", "trust": "untrusted", "labels": ["private"]}] if private else []


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def put_blob(folder: str, text: str) -> dict[str, Any]:
    """Keep a text as `folder/SHA256` and return {uri, sha256, bytes}."""
    import hashlib

    body = text.encode("utf-8", "surrogatepass")
    name = hashlib.sha256(body).hexdigest()
    path = os.path.join(folder, name)  # noqa: PTH118 - no pathlib on this path
    os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103
    part = f"{path}.{os.getpid()}.part"
    with open(part, "wb", opener=lambda file, flags: os.open(file, flags, 0o600)) as file:
        file.write(body)
    os.replace(part, path)  # noqa: PTH105
    return {"uri": f"file://{path}", "sha256": name, "bytes": len(body)}


def get_blob(blob: Mapping[str, Any]) -> str:
    """Return the text of a blob that a record names; only if its hash is right, so a record cannot make us read another file."""
    import hashlib
    from urllib.parse import unquote, urlsplit

    try:
        # A pipe would be waited for, a device read for ever.
        with open(unquote(urlsplit(str(blob.get("uri"))).path), "rb", opener=_regular) as file:
            body = file.read(1 << 30)
    except (OSError, ValueError):
        raise UpstreamError("the blob of an upstream record cannot be read", hint="run both stages on one machine") from None
    if hashlib.sha256(body).hexdigest() != blob.get("sha256"):
        raise UpstreamError("the blob of an upstream record has another hash", hint="run the stage before again")
    return body.decode("utf-8", "surrogateescape")


def _regular(path: str, flags: int) -> int:
    import stat

    found = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise OSError("no regular file")
    return found


def result_data(result: RunResult, upstream: Upstream | None = None) -> dict[str, Any]:
    """Return `data` of the terminal record of a run."""
    usage = {**_UNKNOWN_USAGE, **dict(result.usage)}
    usage["cost_basis"] = usage["cost_basis"] or None
    before = upstream or Upstream()
    failed = result.error is not None
    return {
        "status": "ok" if result.status == 0 else "error" if failed else EXIT_TABLE.get(result.status, "error"),
        "exit": result.status,
        "output": result.output,
        "content": [{"type": "text", "text": result.output}] if result.output or not failed else [],
        # A tool that returns text has said everything in `output`.
        "structuredContent": None if isinstance(result.structured, str) else result.structured,
        "isError": failed,
        "stop": result.stop if result.stop in STOPS else "error",
        "steps": result.steps,
        "run_id": result.run_id or None,
        "model": result.model or None,
        "provider": result.provider or None,
        "usage": usage,
        "total": {"cost_usd": add_money(before.cost_usd, usage["cost_usd"]), "stages": before.stages + 1},
        "provenance": [*before.provenance, *result.provenance],
        "error": None if result.error is None else error_data(result.error),
    }


def error_data(error: AgentError) -> dict[str, Any]:
    """Return the error object of a record."""
    from agent_core import redact

    return {
        "code": error.code,
        "title": EXIT_TABLE.get(error.status, "failed"),
        "detail": redact.redact(error.line()),
        "retryable": error.retryable,
        "retry_after_s": getattr(error, "retry_after", None),
        "http_status": getattr(error, "http_status", None),
        "stage": getattr(error, "stage", None),
        "cause": redact.redact(error.cause) or None,
    }


def failure_data(error: AgentError, status: int, stop: str, upstream: Upstream | None = None) -> dict[str, Any]:
    """Return `data` of the terminal record of a command that failed before or beside a run."""
    before = upstream or Upstream()
    return {
        "status": "error", "exit": status, "output": "", "content": [], "structuredContent": None, "isError": True, "stop": stop,
        "steps": 0, "run_id": None, "model": None, "provider": None, "usage": dict(_UNKNOWN_USAGE),
        "total": {"cost_usd": before.cost_usd, "stages": before.stages + 1},
        "provenance": list(before.provenance), "error": error_data(error),
    }  # fmt: skip


def plain_data(output: str, structured: Any = None, status: int = 0, upstream: Upstream | None = None) -> dict[str, Any]:
    """Return `data` of a terminal record that needed no run (lists, cards, filters); the bill of `upstream` is carried on."""
    before = upstream or Upstream()
    return {
        "status": "ok" if status == 0 else EXIT_TABLE.get(status, "error"), "exit": status,
        "output": output, "content": [{"type": "text", "text": output}], "structuredContent": structured,
        "isError": False, "stop": "final", "steps": 0, "run_id": None, "model": None, "provider": None,
        "usage": dict(_UNKNOWN_USAGE), "total": {"cost_usd": before.cost_usd, "stages": before.stages + 1},
        "provenance": list(before.provenance), "error": None,
    }  # fmt: skip


def add_money(*amounts: str | None) -> str | None:
    """Return the sum of decimal strings; None if any is unknown."""
    from agent_core import money

    total = 0
    for amount in amounts:
        if amount is None:
            return None
        total += money.pico(amount)
    return money.text(total)


def of_event(event: Event) -> tuple[str, dict[str, Any]] | None:
    """Return (type, data) of the record that an event becomes under `--jsonl`, or None."""
    data = event.data
    match event.kind:
        case "run.started":
            keys = ("agent", "version", "provider", "model", "session")
            return "started", {"run_id": event.run, **{key: data[key] for key in keys if data.get(key) is not None}}
        case "delta":
            words = {"text": data.get("text") or data.get("thought") or "", "provisional": bool(data.get("provisional"))}
            return "delta" if data.get("text") else "thought", {"path": event.path, **words}
        case "tool.started" | "tool.finished":
            kept = {key: data[key] for key in ("id", "name", "arguments", "text", "error", "wall_ms") if key in data}
            return "tool", {"phase": event.kind.partition(".")[2], "path": event.path, **kept}
        case "model.failed" | "notice":
            return "notice", {"text": notice_text(event)}
    if event.kind.partition(".")[0] in {"graph", "node", "step", "call", "rework"}:
        return "progress", {"event": event.kind, "path": event.path, **{key: data[key] for key in _PROGRESS if key in data}}
    return None


def notice_text(event: Event) -> str:
    """Return the words of an event that a person should know."""
    data = event.data
    if event.kind == "notice":
        return str(data.get("text", ""))
    error = data.get("error")
    what = error.get("message") or error.get("detail") or error.get("code") if isinstance(error, dict) else error
    retry = data.get("retry_in")
    again = f"; trying again in {float(retry):.1f} s" if isinstance(retry, int | float) else ""
    return f"{data.get('provider') or 'model'}: {what}{again}"


# -- reading ---------------------------------------------------------------------------------------------------------------------


def looks_like_records(body: bytes) -> bool:
    """Return whether the first non-blank line is an object with "agentpipe": "1"; any other JSON is text."""
    first = body.lstrip()[: LINE_LIMIT + 1].partition(b"\n")[0]
    if not first.startswith(b"{") or b'"agentpipe"' not in first:
        return False
    found = loads(first)
    # Ours put the mark first: a line that begins so and breaks off is a truncated record, not somebody's text.
    return found.get("agentpipe") == "1" if isinstance(found, dict) else b"".join(first[:32].split()).startswith(_MARK)


def loads(text: bytes) -> Any:
    """Return a line's JSON, or None if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read(body: bytes, policy: str = "fail") -> Upstream:
    """Return what upstream's records hold. UpstreamError if a stage failed or its stream has no terminal record.

    `policy` is `--on-upstream-error`: fail, skip (leave failed parts out), use-partial (take what they had).
    """
    items: list[Mapping[str, Any]] = []
    results: list[Mapping[str, Any]] = []
    forwarded: list[Mapping[str, Any]] = []
    for number, raw in enumerate(body.splitlines(), 1):
        made = _record(raw, number, policy)
        kind = str(made.get("type", "")).removeprefix("agentpipe.") if made else ""
        bucket = {"item": items, "result": results, "upstream": forwarded}.get(kind)
        if bucket is not None and made is not None:
            bucket.append(made)
    _check_complete(results, policy)
    # Row mode: the items are the content, the result only closes the stream.
    content = items or results
    texts = tuple(text for made in content for text in _usable(made, policy))
    return Upstream(
        texts,
        *_bill(results, forwarded),
        chain(results, items),
        _trace(results or items),
        tuple(_summary(made) for made in results),
    )


def _record(raw: bytes, number: int, policy: str) -> Mapping[str, Any] | None:
    if not raw.strip():
        return None
    made = loads(raw)
    if isinstance(made, dict) and isinstance(made.get("data", {}), dict):
        return made
    if policy == "fail":
        error = UpstreamError(f"line {number} of the upstream records is not a record", hint="see --on-upstream-error")
        error.code = "upstream_truncated"
        raise error
    return None


def _check_complete(results: Sequence[Mapping[str, Any]], policy: str) -> None:
    if policy != "fail":
        return
    if not results:
        error = UpstreamError("the stage before was cut off: no terminal record", hint="see its stderr, or --on-upstream-error")
        error.code = "upstream_truncated"
        raise error
    for made in results:
        _check_good(made)


def _failed(made: Mapping[str, Any]) -> bool:
    data = made.get("data", {})
    # Status 3 is a verdict: the stage ran well.
    return bool(data.get("isError")) or data.get("exit", 0) not in (0, 3)


def _check_good(made: Mapping[str, Any]) -> None:
    if not _failed(made):
        return
    error = made.get("data", {}).get("error")
    detail = str(error.get("detail") or error.get("code")) if isinstance(error, dict) else f"status {made['data'].get('exit')}"
    raise UpstreamError(f"{_stage(made)} failed: {detail[:300]}", hint="see --on-upstream-error", cause=detail[:300])


def _stage(made: Mapping[str, Any]) -> str:
    return str(made.get("source", "upstream"))[:120]


def _usable(made: Mapping[str, Any], policy: str) -> Iterable[str]:
    data = made.get("data", {})
    if policy == "skip" and _failed(made):
        return
    text = content(data)
    if text or not _failed(made):
        yield text


def content(data: Mapping[str, Any]) -> str:
    """Return the text of an upstream item or result, also from its blob. InputError if there is none."""
    blob = data.get("blob")
    text = get_blob(blob) if isinstance(blob, dict) else data.get("output")
    text = text or _structured(data) or text
    if not isinstance(text, str):
        raise InputError("an upstream record has no output", hint="it is not agentpipe/1")
    return text


def _structured(data: Mapping[str, Any]) -> str:
    """Return the structured content as JSON text: what there is to work on where a stage printed nothing."""
    blob = data.get("structuredContent_blob")
    if isinstance(blob, dict):
        return get_blob(blob)
    return json.dumps(data["structuredContent"], ensure_ascii=False) if data.get("structuredContent") else ""


def _bill(results: Sequence[Mapping[str, Any]], forwarded: Sequence[Mapping[str, Any]]) -> tuple[str | None, int]:
    # A terminal record's total already includes the stages before it; forwarded summaries only count where there is none.
    rows = results or forwarded
    costs: list[str | None] = []
    stages = 0
    for made in rows:
        total = made.get("data", {}).get("total")
        total = total if isinstance(total, dict) else {}
        costs.append(_amount(total.get("cost_usd")))
        stages += total["stages"] if isinstance(total.get("stages"), int) and 0 < total["stages"] < 10**6 else 1
    return add_money(*costs), stages


def _amount(value: Any) -> str | None:
    from agent_core import money

    try:
        return money.text(money.pico(value)) if isinstance(value, str) and len(value) < 40 else None
    except ValueError:
        return None


def chain(results: Sequence[Mapping[str, Any]], items: Sequence[Mapping[str, Any]] = ()) -> tuple[Mapping[str, Any], ...]:
    """Return the provenance of what these records hold: what their stages say, cut but for what is private, and the stages."""
    rows = hidden_labels(row for made in items for row in _list(made.get("data", {}).get("provenance")))
    for made in results:
        before = [row for row in _list(made.get("data", {}).get("provenance")) if isinstance(row, dict)]
        rows += [*before[:_ROWS], *hidden_labels(before[_ROWS:])]
        rows.append({"ref": _stage(made), "run_id": made.get("data", {}).get("run_id"), "trust": "untrusted"})
    return tuple(rows)


def _trace(records: Sequence[Mapping[str, Any]]) -> str:
    return next((made["traceparent"] for made in records if isinstance(made.get("traceparent"), str)), "")


def _summary(made: Mapping[str, Any]) -> Mapping[str, Any]:
    data = made.get("data", {})
    keys = ("status", "exit", "stop", "run_id", "provider", "model", "usage", "total")
    return {"source": _stage(made), "id": str(made.get("id", ""))[:120], **{key: data.get(key) for key in keys}}


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a record: `--agent-schema=wire`."""
    text, whole, null_text = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": ["string", "null"]}
    money = {"type": ["string", "null"], "pattern": r"^\d+(\.\d+)?$"}
    error = {
        "type": ["object", "null"],
        "required": ["code", "title", "detail", "retryable"],
        "properties": {
            "code": text, "title": text, "detail": text, "retryable": {"type": "boolean"},
            "retry_after_s": {"type": ["number", "null"]}, "http_status": {"type": ["integer", "null"]},
            "stage": null_text, "cause": null_text,
        },
    }  # fmt: skip
    usage = {
        "type": "object",
        "properties": {
            "input_tokens": {"type": ["integer", "null"]}, "cached_input_tokens": {"type": ["integer", "null"]},
            "output_tokens": {"type": ["integer", "null"]}, "calls": whole, "cost_usd": money, "cost_basis": null_text,
            "wall_ms": {"type": ["number", "null"]},
        },
    }  # fmt: skip
    result = {
        "type": "object",
        "required": ["status", "exit", "output", "content", "structuredContent", "isError", "stop", "usage", "total", "error"],
        "properties": {
            "status": text, "exit": {"enum": sorted(EXIT_TABLE)}, "output": text,
            "content": {"type": "array", "items": {"type": "object", "required": ["type"]}},
            "structuredContent": {}, "isError": {"type": "boolean"}, "stop": {"enum": list(STOPS)}, "steps": whole,
            "run_id": null_text, "model": null_text, "provider": null_text, "usage": usage,
            "total": {"type": "object", "properties": {"cost_usd": money, "stages": whole}},
            "provenance": {"type": "array", "items": {"type": "object"}}, "error": error,
        },
    }  # fmt: skip
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "agentpipe/1 record",
        "type": "object",
        "required": ["agentpipe", "specversion", "type", "id", "source", "time", "data"],
        "properties": {
            "agentpipe": {"const": "1"},
            "specversion": {"const": "1.0"},
            "type": {"type": "string", "description": ", ".join(f"agentpipe.{name}" for name in TYPES)},
            "id": {"type": "string", "minLength": 1},
            "source": {"type": "string", "minLength": 1},
            "time": {"type": "string", "format": "date-time"},
            "traceparent": {"type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
            "subject": text,
            "data": {"type": "object"},
        },
        "if": {"properties": {"type": {"const": "agentpipe.result"}}},
        "then": {"properties": {"data": result}},
    }
