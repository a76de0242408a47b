"""otel - sends spans to an OpenTelemetry collector: OTLP over HTTP with protobuf, by the OpenTelemetry SDK (the extra `otel`).

    assistant "hi" --otel http://localhost:4318
    OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 assistant "hi" --otel env

The SDK is imported on a thread of its own, on which the spans are sent, too: a run waits for neither, but for FLUSH seconds at its
end. A collector that is not there costs the spans and one line on stderr. The usual variables are heeded: OTEL_SERVICE_NAME,
OTEL_RESOURCE_ATTRIBUTES, OTEL_EXPORTER_OTLP_HEADERS (and …_CERTIFICATE, …_COMPRESSION), OTEL_SDK_DISABLED, and
OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true, without which nothing that was said is sent.
"""

from __future__ import annotations

import os
import queue
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent_core.errors import ConfigError, UsageError
from agent_plugins.observe.spans import Span, Spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from agent_core.events import Event

FLUSH = 2.0
_FLUSH_IN_LOOP = 0.25
_HELD, _BATCH = 4096, 256
_TRUE = frozenset({"1", "true", "yes", "on"})
_FROM_ENVIRONMENT = frozenset({"env", "on", "default"})
_senders: dict[tuple[int, str], Sender] = {}


def endpoint(given: str, environment: Mapping[str, str]) -> str:
    """Return where traces are posted to. UsageError for what is no http address, or holds a password."""
    from urllib.parse import urlsplit

    text = given.strip()
    if text.lower() in _FROM_ENVIRONMENT:
        traces = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
        if traces:
            return _checked(traces)
        text = environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "") or "http://localhost:4318"
    _checked(text)
    parts = urlsplit(text)
    path = parts.path.rstrip("/")
    return parts._replace(path=path if path.endswith("/v1/traces") else f"{path}/v1/traces").geturl()


def _checked(text: str) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        secret = bool(parts.password or parts.username)
    except ValueError:
        good = secret = False
    if secret:
        raise UsageError("--otel holds a name or password", hint="put them into OTEL_EXPORTER_OTLP_HEADERS")
    if not good:
        raise UsageError(f"--otel: {text[:80]!r} is no http address", hint="for example http://localhost:4318, or `env`")
    return text


def reader(given: str, environment: Mapping[str, str], say: Callable[[str], None]) -> Reader | None:
    """Return the reader of one run's events, None where OTEL_SDK_DISABLED says so. UsageError, ConfigError without the SDK."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    url = endpoint(given, environment)
    if not _is_installed():
        raise ConfigError("--otel needs the OpenTelemetry SDK", hint="pip install 'agents-as-unix-tools[otel]'")
    direct = not any(environment.get(name) for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"))
    made = Sender(url, environment.get("OTEL_SERVICE_NAME") or "agents", direct=direct)
    sender = _senders.setdefault((os.getpid(), url), made)
    content = environment.get("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "").strip().lower() in _TRUE
    return Reader(sender, Spans(content), say)


def _is_installed() -> bool:
    from importlib.util import find_spec

    try:
        return find_spec("opentelemetry.sdk.trace") is not None and find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ImportError:
        return False


@dataclass(slots=True)
class Reader:
    """Reads one run's events. Never fails and never waits, but for the flush when the run has ended."""

    sender: Sender
    spans: Spans
    say: Callable[[str], None]

    def __call__(self, event: Event) -> None:
        """Take an event; hand on the spans that end with it."""
        if event.kind == "delta":
            return
        try:
            for span in self.spans.feed(event):
                self.sender.put(span)
        except Exception as error:  # noqa: BLE001 - an odd event must not harm the run
            self.sender.problems.append(f"a span could not be made: {type(error).__name__}")
        if event.kind == "run.finished":
            problem = self.sender.flush(_FLUSH_IN_LOOP if _in_loop() else FLUSH)
            if problem:
                self.say(f"spans were not delivered to {self.sender.url}: {problem}")


def _in_loop() -> bool:
    """Return whether other runs share this thread: then it must not be held up for long."""
    import sys

    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001 - the public way raises


@dataclass(slots=True)
class Sender:
    """Sends spans of all runs of this process to one address, on a thread of its own. `direct`: no proxy stands between."""

    url: str
    service: str
    direct: bool = True
    problems: list[str] = field(default_factory=list)
    _queue: queue.Queue[Span | threading.Event] = field(default_factory=lambda: queue.Queue(_HELD))
    _thread: threading.Thread | None = None
    _export: Callable[[list[Span]], bool] | None = None
    _lock: Any = field(default_factory=threading.Lock)

    def put(self, span: Span) -> None:
        """Hand over a span; if too many wait it is dropped, and that is said."""
        self._start()
        try:
            self._queue.put_nowait(span)
        except queue.Full:
            self.problems.append(f"more than {_HELD} spans were waiting")

    def flush(self, seconds: float) -> str:
        """Wait until what was handed over is sent, but no longer than that; return what went wrong since the last time."""
        if self._thread is None:
            return ""
        done = threading.Event()
        try:
            self._queue.put_nowait(done)
            late = not done.wait(seconds)
        except queue.Full:
            late = True
        found, self.problems[:] = list(self.problems), []
        return found[0] if found else f"no answer within {seconds:g} s" if late else ""

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="otel", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        """Send batches for ever. What cannot be sent is gone: the events are in the store, and `agent-log export` has them."""
        while True:
            for batch, marks in self._batches():
                if batch:
                    self._send(batch)
                for mark in marks:
                    mark.set()

    def _batches(self) -> Iterator[tuple[list[Span], list[threading.Event]]]:
        first = self._queue.get()
        found: list[Span | threading.Event] = [first]
        while len(found) < _BATCH and not isinstance(found[-1], threading.Event):
            try:
                found.append(self._queue.get(timeout=0.2))
            except queue.Empty:
                break
        yield [each for each in found if isinstance(each, Span)], [each for each in found if isinstance(each, threading.Event)]

    def _send(self, batch: list[Span]) -> None:
        try:
            if self.direct:
                _knock(self.url)
            if self._export is None:
                self._export = _exporter(self.url, self.service)
            good = self._export(batch)
        except Exception as error:  # noqa: BLE001 - whatever the exporter meets must not end the thread
            self.problems.append(getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"[:200])
            return
        if not good:
            self.problems.append("the collector did not take them")


def _knock(url: str) -> None:
    """Connect once. OSError where nobody listens: the exporter would try again for as long as it may."""
    import socket
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    socket.create_connection((parts.hostname or "", port), timeout=FLUSH / 2).close()


def _exporter(url: str, service: str) -> Callable[[list[Span]], bool]:
    """Import the SDK and return what sends spans."""
    import logging

    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExportResult

    if not logging.getLogger().handlers:
        # What the exporter logs about a collector that is not there is said once, in our words.
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
    exporter = OTLPSpanExporter(endpoint=url, timeout=FLUSH)
    resource = Resource.create({"service.name": service})

    def export(batch: list[Span]) -> bool:
        return bool(exporter.export([_readable(span, resource) for span in batch]) is SpanExportResult.SUCCESS)

    return export


def _readable(span: Span, resource: Any) -> Any:
    """Return a span as the SDK has it."""
    from opentelemetry.sdk.trace import Event as SpanEvent
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
    from opentelemetry.trace.status import Status, StatusCode

    def context(number: int, *, remote: bool) -> Any:
        return SpanContext(span.trace, number, remote, TraceFlags(TraceFlags.SAMPLED)) if number else None

    return ReadableSpan(
        name=span.name, context=context(span.span, remote=False), parent=context(span.parent, remote=False), resource=resource,
        attributes=dict(span.attributes), events=[SpanEvent(name, dict(data), moment) for name, moment, data in span.events],
        kind=SpanKind.CLIENT if span.kind == "client" else SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET), start_time=span.start,
        end_time=span.end, instrumentation_scope=InstrumentationScope("agents"),
    )  # fmt: skip
