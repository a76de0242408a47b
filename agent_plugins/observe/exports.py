"""exports - a run's events in the forms of other programs: CSV for tables, OTLP/JSON for collectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent_core.events import Event
    from agent_plugins.observe.spans import Span

_KINDS = {"internal": 1, "client": 3}


def csv(events: Sequence[Event]) -> str:
    """Return a table: run, path, kind, time (seconds since 1970), fingerprint, data (JSON). RFC 4180 with line feeds."""
    import csv as tables
    import io
    import json

    out = io.StringIO()
    writer = tables.writer(out, lineterminator="\n")
    writer.writerow(["run", "path", "kind", "time", "fingerprint", "data"])
    for event in events:
        data = json.dumps(event.data, default=str)
        writer.writerow([event.run, event.path, event.kind, f"{event.time:.6f}", event.fingerprint, data])
    return out.getvalue()


def otlp(events: Sequence[Event], service: str = "agents") -> dict[str, Any]:
    """Return the spans of a run as an ExportTraceServiceRequest in OTLP/JSON (opentelemetry.io: OTLP specification)."""
    from agent_plugins.observe.spans import Spans

    made = Spans()
    found = [span for event in events for span in made.feed(event)]
    scope = {"scope": {"name": "agents"}, "spans": [_span(span) for span in found]}
    resource = {"attributes": _attributes({"service.name": service})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}


def _span(span: Span) -> dict[str, Any]:
    row: dict[str, Any] = {
        "traceId": f"{span.trace:032x}", "spanId": f"{span.span:016x}", "name": span.name, "kind": _KINDS[span.kind],
        "startTimeUnixNano": str(span.start), "endTimeUnixNano": str(span.end), "attributes": _attributes(span.attributes),
        "status": {"code": 2, "message": span.error} if span.error else {},
        "events": [
            {"name": name, "timeUnixNano": str(moment), "attributes": _attributes(data)} for name, moment, data in span.events
        ],
    }  # fmt: skip
    return {**row, "parentSpanId": f"{span.parent:016x}"} if span.parent else row


def _attributes(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in data.items()]


def _value(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case list() | tuple():
            return {"arrayValue": {"values": [_value(each) for each in value]}}
    return {"stringValue": str(value)}
