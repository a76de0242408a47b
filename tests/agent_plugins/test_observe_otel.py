"""Spans: what a run becomes, and that a real receiver of OTLP over HTTP understands what is sent."""

from __future__ import annotations

import gzip
import http.server
import json
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agent_core.errors import UsageError
from agent_core.events import Event
from agent_plugins.observe import exports, otel
from agent_plugins.observe.spans import Spans

ROOT = Path(__file__).resolve().parents[2]
TRACE, OWN, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "b7ad6b7169203331"
USAGE = {"input_tokens": 100, "output_tokens": 10, "cached_input_tokens": 40, "reasoning_tokens": 3}


def events(**start):
    """A run that asks a model twice, calls a tool that asks another agent, and a tool that is denied."""
    begin = {"agent": "writer", "version": "1", "session": "", "provider": "openai", "model": "gpt", "traceparent": f"00-{TRACE}-{OWN}-01",
             "lineage": {"parent": PARENT}, "settings": {"temperature": 0.5, "max_tokens": 99}, "input": "the question"}  # fmt: skip
    message = {
        "role": "assistant",
        "parts": [
            {"type": "text", "text": "let me see"},
            {"type": "tool_call", "id": "c1", "name": "ask", "arguments": {"q": "private"}},
        ],
    }
    reply = {
        "provider": "openai",
        "model": "gpt-1",
        "usage": USAGE,
        "cost": 5 * 10**9,
        "wall_ms": 1000.0,
        "attempts": 2,
        "cached": False,
        "stop": "tool_calls",
        "message": message,
    }
    return [
        Event("run.started", "r1", time=100.0, data={**begin, **start}),
        Event("model.failed", "r1", "0", 100.5, {"provider": "openai", "model": "gpt-1", "attempt": 1, "error": {"code": "http_503", "http_status": 503}, "retry_in": 0.1}),
        Event("model.replied", "r1", "0", 101.0, reply),
        Event("tool.started", "r1", "1.0", 101.0, {"id": "c1", "name": "ask", "arguments": {"q": "private"}}),
        Event("call.started", "r1", "1.0.0", 101.1, {"agent": "critic", "input": "private"}),
        Event("model.replied", "r1", "1.0.0.0", 101.9, {**reply, "wall_ms": 500.0}),
        Event("call.finished", "r1", "1.0.0", 102.0, {"agent": "critic", "output": "private", "facts": {"run": "r9", "usage": {"input_tokens": 7}}}),
        Event("tool.finished", "r1", "1.0", 102.0, {"id": "c1", "name": "ask", "text": "private", "error": None, "wall_ms": 1000.0}),
        Event("tool.finished", "r1", "1.1", 102.0, {"id": "c2", "name": "rm", "text": "denied", "error": "denied", "wall_ms": 0.0}),
        Event("wait.asked", "r1", "2", 102.1, {"question": "private"}),
        Event("run.finished", "r1", time=103.0, data={"status": 0, "stop": "final", "usage": USAGE, "provider": "openai", "model": "gpt-1", "output": "private"}),
    ]  # fmt: skip


def spans(told=None, *, content=False):
    made = Spans(content)
    return {f"{span.name}@{span.start / 1e9:g}": span for event in (told or events()) for span in made.feed(event)}


# --- what a run becomes


def test_a_run_becomes_spans_with_the_names_kinds_and_times_of_the_conventions():
    assert [(span.name, span.kind, span.start / 1e9, span.end / 1e9, span.error) for span in spans().values()] == [
        ("chat gpt-1", "client", 100.0, 101.0, ""), ("chat gpt-1", "client", 101.4, 101.9, ""), ("invoke_agent critic", "client", 101.1, 102.0, ""),
        ("execute_tool ask", "internal", 101.0, 102.0, ""), ("execute_tool rm", "internal", 102.0, 102.0, "denied"),
        ("invoke_agent writer", "internal", 100.0, 103.0, ""),
    ]  # fmt: skip


def test_spans_hang_together_and_the_run_hangs_on_its_caller():
    first, inner, critic, ask, denied, run = spans().values()

    assert {span.trace for span in spans().values()} == {int(TRACE, 16)}
    assert (run.span, run.parent) == (int(OWN, 16), int(PARENT, 16))
    assert [first.parent, ask.parent, denied.parent] == [run.span] * 3
    assert (critic.parent, inner.parent) == (ask.span, critic.span)
    assert len({span.span for span in spans().values()}) == 6


def test_attributes_say_who_what_and_how_much():
    first, _, critic, ask, denied, run = (span.attributes for span in spans().values())

    assert first == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-1", "gen_ai.response.model": "gpt-1",
        "gen_ai.response.finish_reasons": ("tool_calls",), "gen_ai.request.temperature": 0.5, "gen_ai.request.max_tokens": 99,
        "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 10, "gen_ai.usage.cache_read.input_tokens": 40,
        "gen_ai.usage.reasoning.output_tokens": 3, "agents.attempts": 2, "agents.cached": False, "agents.cost_usd": "0.005",
    }  # fmt: skip
    assert ask == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "ask",
        "gen_ai.tool.call.id": "c1",
        "gen_ai.tool.type": "function",
    }
    assert denied["error.type"] == "denied"
    assert critic == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "critic",
        "agents.run.id": "r9",
        "gen_ai.usage.input_tokens": 7,
    }
    assert (run["gen_ai.agent.name"], run["gen_ai.conversation.id"], run["agents.run.status"]) == ("writer", "r1", 0)
    assert [name for name, _, _ in next(iter(spans().values())).events] == ["gen_ai.client.attempt_failed"]
    assert [name for name, _, _ in spans()["invoke_agent writer@100"].events] == ["agents.wait.asked"]


def test_what_was_said_is_left_out_unless_it_is_asked_for():
    assert "private" not in str(spans())
    whole = str(spans(content=True))
    assert all(
        words in whole for words in ("the question", "gen_ai.tool.call.arguments", "gen_ai.output.messages", "private", "tool_call")
    )


def test_a_failed_model_call_and_a_failed_run_are_errors():
    told = [
        events()[0],
        Event(
            "model.failed", "r1", "0", 100.5, {"provider": "openai", "model": "gpt", "attempt": 1, "error": {"http_status": 401}}
        ),
        Event("effect.failed", "r1", "0", 100.6, {"error": {"code": "key", "http_status": 401}}),
        Event("run.finished", "r1", time=100.7, data={"status": 77, "error": {"code": "key"}}),
    ]
    found = list(spans(told).values())

    assert [(span.name, span.error, span.attributes["error.type"]) for span in found] == [
        ("chat gpt", "401", "401"),
        ("invoke_agent writer", "key", "key"),
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gemini", "gcp.gemini"),
        ("bedrock", "aws.bedrock"),
        ("azure", "azure.ai.openai"),
        ("mistral", "mistral_ai"),
        ("my-own", "my_own"),
        (None, ""),
    ],
)
def test_providers_have_the_names_of_the_conventions(name, expected):
    from agent_plugins.observe.spans import provider

    assert provider(name) == expected


def test_what_a_fork_inherited_and_events_without_a_beginning_make_no_spans():
    assert spans([event for event in events() if event.kind != "run.started"]) == {}
    inherited = [events()[0], Event("model.replied", "r1", "0", 101.0, {"inherited": True})]
    assert spans(inherited) == {}


@pytest.mark.parametrize(
    "data",
    [
        {},
        {
            "usage": "x",
            "error": 5,
            "facts": [],
            "message": None,
            "wall_ms": "long",
            "lineage": 7,
            "settings": 3,
            "traceparent": "00-x",
        },
    ],
)
def test_odd_events_make_odd_spans_and_no_error(data):
    kinds = [
        "run.started",
        "tool.started",
        "tool.finished",
        "call.started",
        "call.failed",
        "model.failed",
        "effect.failed",
        "model.replied",
        "wait.asked",
        "run.finished",
    ]
    told = [Event(kind, "r", str(place), 1.0, data) for place, kind in enumerate(kinds)]

    assert spans(told, content=True)


# --- where they go


@pytest.mark.parametrize(
    ("given", "environment", "found"),
    [
        ("http://c:4318", {}, "http://c:4318/v1/traces"), ("http://c:4318/", {}, "http://c:4318/v1/traces"), ("https://c/otlp", {}, "https://c/otlp/v1/traces"),
        ("http://c/v1/traces", {}, "http://c/v1/traces"), ("env", {}, "http://localhost:4318/v1/traces"),
        ("env", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://e:1"}, "http://e:1/v1/traces"),
        ("on", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://e:1/x", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://f"}, "http://e:1/x"),
    ],
)  # fmt: skip
def test_the_address_is_made_from_flag_and_environment(given, environment, found):
    assert otel.endpoint(given, environment) == found


@pytest.mark.parametrize("given", ["collector", "ftp://c", "http://", "http://c:99999", "http://[::1", "grpc://c:4317"])
def test_an_address_that_is_none_is_refused(given):
    with pytest.raises(UsageError, match="no http address"):
        otel.endpoint(given, {})


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(UsageError) as error:
        otel.endpoint("http://me:hunter22@c", {})

    assert "hunter22" not in error.value.line()


# --- a receiver


class Collector:
    """A receiver of OTLP over HTTP: decodes what is posted with the published protobuf classes. `pause`: seconds before it answers."""

    def __init__(self, pause=0.0):
        pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="the extra otel is not installed")
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        spans, headers = self.spans, self.headers = [], []
        self.services = services = set()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
                time.sleep(pause)
                request = ExportTraceServiceRequest.FromString(body)
                headers.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                for resource in request.resource_spans:
                    services.update(each.value.string_value for each in resource.resource.attributes if each.key == "service.name")
                    spans.extend(span for scope in resource.scope_spans for span in scope.spans)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def collector():
    made = Collector()
    yield made
    made.close()


def test_a_collector_receives_the_spans_of_an_agent_in_its_trace(collector, run_agent):
    env = {"TRACEPARENT": f"00-{TRACE}-{PARENT}-01", "OTEL_SERVICE_NAME": "suite", "OTEL_EXPORTER_OTLP_HEADERS": "x-team=blue"}
    done = run_agent("text-processor", 'uppercase "abc"', "--provider", "offline", "-q", "--otel", collector.url, env=env)

    assert (done.returncode, done.stdout, done.stderr) == (0, "ABC\n", "")
    assert sorted(span.name for span in collector.spans) == [
        "chat offline",
        "chat offline",
        "execute_tool uppercase",
        "invoke_agent text-processor",
    ]
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    (run,) = (span for span in collector.spans if span.name.startswith("invoke_agent"))
    assert run.parent_span_id.hex() == PARENT
    assert {span.parent_span_id for span in collector.spans} == {run.span_id, run.parent_span_id}
    assert {span.kind for span in collector.spans if span.name.startswith("chat")} == {3}
    assert collector.services == {"suite"}
    assert (collector.headers[0][0], collector.headers[0][1]["content-type"], collector.headers[0][1]["x-team"]) == (
        "/v1/traces",
        "application/x-protobuf",
        "blue",
    )
    keys = {each.key for span in collector.spans for each in span.attributes}
    assert "abc" not in str(collector.spans)
    assert {"gen_ai.operation.name", "gen_ai.tool.name", "gen_ai.usage.input_tokens", "gen_ai.response.finish_reasons"} <= keys


def test_what_was_said_is_sent_when_the_usual_variable_says_so(collector, run_agent):
    env = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    run_agent("text-processor", 'uppercase "abc"', "--provider", "offline", "-q", "--otel", "env", env=env)

    assert "ABC" in str(collector.spans)


def test_a_dead_collector_costs_a_line_and_no_time(run_agent):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        began = time.monotonic()
        done = run_agent("text-processor", 'uppercase "abc"', "--provider", "offline", "--otel", url)
        took = time.monotonic() - began

    assert (done.returncode, done.stdout) == (0, "ABC\n")
    assert done.stderr == f"text-processor: spans were not delivered to {url}/v1/traces: Connection refused\n"
    assert took < 5


def test_a_collector_that_hangs_holds_a_run_up_for_two_seconds_at_most(run_agent):
    slow = Collector(pause=10)
    began = time.monotonic()
    done = run_agent("text-processor", 'uppercase "abc"', "--provider", "offline", "--otel", slow.url)
    took = time.monotonic() - began
    slow.server.server_close()

    assert (done.returncode, done.stdout) == (0, "ABC\n")
    assert "spans were not delivered" in done.stderr
    assert took < otel.FLUSH + 5


def test_nothing_is_sent_where_the_sdk_is_disabled_and_a_bad_address_is_refused_before_the_run(collector, run_agent):
    off = run_agent(
        "text-processor",
        'uppercase "abc"',
        "--provider",
        "offline",
        "-q",
        "--otel",
        collector.url,
        env={"OTEL_SDK_DISABLED": "true"},
    )
    bad = run_agent("text-processor", "x", "--provider", "offline", "--otel", "nowhere")

    assert (off.returncode, collector.spans) == (0, [])
    assert (bad.returncode, bad.stdout) == (2, "")


def test_many_runs_of_one_process_share_a_sender(collector):
    said = []
    readers = [otel.reader(collector.url, {}, said.append) for _ in range(20)]
    for number, reader in enumerate(readers):
        for event in events(traceparent=f"00-{number + 1:032x}-{OWN}-01"):
            reader(event)

    assert (said, len(collector.spans), len({span.trace_id for span in collector.spans})) == ([], 120, 20)
    assert len({id(reader.sender) for reader in readers}) == 1
    assert len([thread for thread in threading.enumerate() if thread.name == "otel" and thread is readers[0].sender._thread]) == 1


def test_more_spans_than_can_be_held_are_dropped_and_that_is_said():
    sender = otel.Sender("http://127.0.0.1:9/v1/traces", "s", _thread=threading.current_thread())  # nobody takes them out
    span = next(iter(spans().values()))
    for _ in range(otel._HELD + 5):
        sender.put(span)

    assert sender.problems == [f"more than {otel._HELD} spans were waiting"] * 5


def test_without_the_sdk_the_flag_is_refused_before_anything_is_spent(tmp_path):
    program = (
        "import sys; sys.modules['opentelemetry.sdk'] = None\n"
        "from agents import text_processor\n"
        "text_processor.main(['x', '--provider', 'offline', '--otel', 'http://127.0.0.1:9'])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (78, "")
    assert "pip install" in done.stderr


# --- a recorded run as OTLP/JSON


def test_a_recorded_run_in_otlp_json_is_what_the_published_schema_wants():
    pytest.importorskip("google.protobuf.json_format")
    from base64 import b64encode

    from google.protobuf import json_format
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    text = json.dumps(exports.otlp(events()))
    # OTLP has ids in hexadecimal where protobuf's own JSON has base64: the one difference between the two.
    plain = re.sub(
        r'"((?:trace|parentSpan|span)Id)": "([0-9a-f]+)"', lambda m: f'"{m[1]}": "{b64encode(bytes.fromhex(m[2])).decode()}"', text
    )
    request = json_format.Parse(plain, ExportTraceServiceRequest())
    found = request.resource_spans[0].scope_spans[0].spans

    assert [span.name for span in found] == [span.name for span in spans().values()]
    assert found[-1].trace_id.hex() == TRACE
    assert found[4].status.code == 2
    assert exports.csv(events()).splitlines()[0] == "run,path,kind,time,fingerprint,data"
