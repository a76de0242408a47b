"""Every codec against the fake API over real HTTP: the same reply, or the same kind of error, whoever the vendor is."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from agent_core import errors
from agent_core.effects import Ask
from agent_core.messages import Message, ToolResult, system, user
from agent_core.ops import Response
from agent_core.provider import Codec, Delta, Provider, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import FakeApi

KEY = "sk-made-up-0123456789"
WIRES = ("openai_chat", "openai_responses", "anthropic", "gemini", "bedrock", "ollama", "cohere")
BASES = {"openai_chat": "/v1", "openai_responses": "/v1"}
TEXT = "Grüße, 世界: one two three 🎈"
ADD = {"name": "add", "arguments": {"a": 1, "b": "zwei, 世界 🎈"}}
NOW = {"name": "now", "arguments": {}}

each_wire = pytest.mark.parametrize("wire", WIRES)
plain_and_streamed = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


class Wired:
    """A codec pointed at the fake API; `ask` does what the engine does with it."""

    def __init__(self, wire: str, url: str, client: httpx.Client, model: str) -> None:
        self.codec: Codec = importlib.import_module(f"agent_providers.{wire}").codec
        self.client = client
        self.provider = Provider(wire, model, codec=self.codec, base_url=url + BASES.get(wire, ""), key=KEY)
        self.deltas: list[Delta] = []

    def ask(self, ask: Ask, *, stream: bool = False, size: int | None = None) -> Reply:
        request = self.codec.encode(ask, self.provider, stream=stream)
        sent = {"method": request.method, "url": request.url, "headers": list(request.headers), "content": request.body}
        try:
            with self.client.stream(**sent, follow_redirects=False) as response:
                if stream and 200 <= response.status_code < 300:
                    decoder = self.codec.decoder(self.provider)
                    for data in response.iter_raw(size):
                        self.deltas += decoder.feed(data)
                    return decoder.finish()
                body = b"".join(response.iter_raw())
                headers = {name.lower(): value for name, value in response.headers.items()}
        except httpx.TransportError as error:
            raise errors.TransportError(type(error).__name__) from None
        return self.codec.decode(Response(response.status_code, headers, body), self.provider)


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=5, headers={"accept-encoding": "identity"}) as one:
        yield one


@pytest.fixture
def wired(wire: str, fake_api: FakeApi, client: httpx.Client) -> Wired:
    return Wired(wire, fake_api.url, client, "fake-1")


def tools() -> Any:
    from agent_core.tool import Toolset, tool

    @tool
    def add(a: int, b: str) -> str:
        """Add two things.

        Args:
            a: the first
            b: the second
        """
        return f"{a}{b}"

    @tool
    def now() -> str:
        """Tell the time."""
        return "noon"

    return Toolset((add, now))


def hello() -> Ask:
    return Ask((system("Be brief."), user("hello")))


def seen(reply: Reply) -> tuple[str, list[tuple[str, Any]], str]:
    return reply.text, [(call.name, call.arguments) for call in reply.tool_calls], reply.stop


# --- the same reply


REPLIES: dict[str, tuple[Any, tuple[str, list[tuple[str, Any]], str]]] = {
    "text": (TEXT, (TEXT, [], "final")),
    "long text": ({"text": "lorem ipsum " * 5_000}, ("lorem ipsum " * 5_000, [], "final")),
    "empty content": ({"text": ""}, ("", [], "final")),
    "one tool call": ({"tool_calls": [ADD]}, ("", [("add", ADD["arguments"])], "tool_calls")),
    "two tool calls": ({"tool_calls": [ADD, NOW]}, ("", [("add", ADD["arguments"]), ("now", {})], "tool_calls")),
    "text and a tool call": ({"text": "Let me see.", "tool_calls": [NOW]}, ("Let me see.", [("now", {})], "tool_calls")),
    "cut off by the token limit": ({"text": "half a", "stop": "length"}, ("half a", [], "length")),
    "thought before the text": ({"thought": "hm, well", "text": "yes"}, ("yes", [], "final")),
    "control characters": ({"text": "a\u0000b\u2028c\\\r\n\t\"'"}, ("a\u0000b\u2028c\\\r\n\t\"'", [], "final")),
}


@each_wire
@plain_and_streamed
@pytest.mark.parametrize("case", REPLIES)
def test_every_vendor_gives_the_same_reply(wired: Wired, fake_api: FakeApi, case: str, stream: bool):
    line, wanted = REPLIES[case]
    fake_api.script(line)
    reply = wired.ask(hello(), stream=stream)
    assert seen(reply) == wanted
    assert len({call.id for call in reply.tool_calls} - {""}) == len(reply.tool_calls)
    assert (reply.usage.input_tokens or 0) > 0
    assert reply.message.role == "assistant"
    if stream:
        assert "".join(delta.text for delta in wired.deltas) == wanted[0]


@each_wire
@plain_and_streamed
def test_usage_is_what_the_vendor_counted_with_cached_tokens_inside(wired: Wired, fake_api: FakeApi, stream: bool):
    cached = 0 if wired.codec.wire in ("ollama", "cohere") else 60
    fake_api.script({"text": "x", "usage": {"input_tokens": 100, "output_tokens": 7, "cached_input_tokens": cached}})
    usage = wired.ask(hello(), stream=stream).usage
    assert (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens) == (100, 7, cached)


@each_wire
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_stream_reads_the_same_however_it_is_split(wired: Wired, fake_api: FakeApi, size: int):
    fake_api.script({"text": TEXT, "tool_calls": [ADD, NOW]})
    assert seen(wired.ask(hello(), stream=True, size=size)) == (TEXT, [("add", ADD["arguments"]), ("now", {})], "tool_calls")


@each_wire
def test_comments_and_unknown_events_in_a_stream_are_skipped(wired: Wired, fake_api: FakeApi):
    fake_api.script({"text": TEXT})
    fake_api.fault("comments")
    assert wired.ask(hello(), stream=True).text == TEXT


@each_wire
@plain_and_streamed
def test_a_whole_talk_with_tools_pairs_every_call_with_its_result(wired: Wired, fake_api: FakeApi, stream: bool):
    """The fake API refuses calls without results, strange roles and missing fields, as the vendors do."""
    fake_api.script({"tool_calls": [ADD, NOW]}, {"text": "", "tool_calls": [NOW]}, {"text": "done", "expect": "noon"})
    offered = tools()
    messages: tuple[Message, ...] = (system("Be brief."), user("hello once"))
    for _ in range(3):
        reply = wired.ask(Ask(messages, offered), stream=stream)
        results = tuple(ToolResult(call.id, call.name, "noon", value="noon") for call in reply.tool_calls)
        messages = (*messages, reply.message, *((Message("tool", results),) if results else ()))
    assert reply.text == "done"
    sent = fake_api.requests()
    assert len(sent) == 3
    for request in sent:
        assert json.dumps(request["body"]).count("hello once") == 1
        assert "null" not in [request["body"].get(name) for name in ("temperature", "top_p", "max_tokens")]
        assert not {"temperature", "top_p", "top_k"} & request["body"].keys()


@each_wire
def test_the_key_travels_in_a_header_only(wired: Wired, fake_api: FakeApi):
    wired.ask(hello())
    (request,) = fake_api.requests()
    headers = request.pop("headers")
    assert KEY not in json.dumps(request)
    if wired.codec.wire not in ("ollama", "bedrock"):
        assert any(KEY in value for value in headers.values())


# --- the same kind of error


ERRORS: dict[str, tuple[type[errors.AgentError], int, bool]] = {  # fault: class, exit status, retryable
    "401": (errors.AuthError, 77, False),
    "403": (errors.AuthError, 77, False),
    "echo-key": (errors.AuthError, 77, False),
    "400": (errors.BadRequest, 1, False),
    "402": (errors.RateLimited, 75, False),
    "quota": (errors.RateLimited, 75, False),
    "404": (errors.UnknownModel, 78, False),
    "context": (errors.ContextLength, 65, False),
    "429:2": (errors.RateLimited, 75, True),
    "429-ms:2000": (errors.RateLimited, 75, True),
    "429-date:2": (errors.RateLimited, 75, True),
    "500": (errors.ServerError, 69, True),
    "503": (errors.ServerError, 69, True),
    "529": (errors.ServerError, 69, True),
    "html:502": (errors.ServerError, 69, True),
    "html": (errors.BadReply, 76, False),
    "cut-json": (errors.BadReply, 76, False),
    "empty": (errors.BadReply, 76, False),
    "array": (errors.BadReply, 76, False),
    "null": (errors.BadReply, 76, False),
    "string": (errors.BadReply, 76, False),
    "not-json": (errors.BadReply, 76, False),
    "empty-object": (errors.BadReply, 76, False),
    "redirect": (errors.BadReply, 76, False),
    "reset": (errors.TransportError, 69, True),
    "close": (errors.TransportError, 69, True),
    "long-length": (errors.TransportError, 69, True),
    "not-http": (errors.TransportError, 69, True),
}
PLAIN = ("bad-utf8", "nan", "huge-number", "deep", "wrong-type", "empty-choices")
STREAMED = ("truncate", "cut-event", "bad-event", "long-line:8")
VENDORS_WORDS = {
    # Converse's ServiceQuotaExceeded is about rates, not money
    ("bedrock", "quota"): (errors.RateLimited, 75, True),
}


@each_wire
@plain_and_streamed
@pytest.mark.parametrize("fault", ERRORS)
def test_every_vendor_gives_the_same_kind_of_error(wired: Wired, fake_api: FakeApi, wire: str, fault: str, stream: bool):
    kind, status, retryable = VENDORS_WORDS.get((wire, fault), ERRORS[fault])
    fake_api.script({"text": "never seen, long enough to be cut in two"})
    fake_api.fault(fault)
    with pytest.raises(errors.AgentError) as raised:
        wired.ask(hello(), stream=stream)
    error = raised.value
    assert (type(error), error.status, error.retryable) == (kind, status, retryable), error
    told = f"{error} {error.hint} {error.cause}"
    assert KEY not in told
    assert "<" not in str(error)
    assert "\n" not in str(error)
    assert 0 < len(str(error)) <= 400
    if fault.startswith("429"):
        assert getattr(error, "retry_after", None) == pytest.approx(2, abs=1.1)


@each_wire
@pytest.mark.parametrize("fault", PLAIN)
def test_a_reply_that_is_not_what_the_protocol_promises_is_a_bad_reply(wired: Wired, fake_api: FakeApi, fault: str):
    fake_api.script({"text": "never seen"})
    fake_api.fault(fault)
    with pytest.raises(errors.BadReply):
        wired.ask(hello())


@each_wire
@pytest.mark.parametrize("fault", STREAMED)
def test_a_stream_that_breaks_the_protocol_is_a_bad_reply(wired: Wired, fake_api: FakeApi, fault: str):
    fake_api.script({"text": "never seen, long enough to be cut in two"})
    fake_api.fault(fault)
    with pytest.raises(errors.BadReply):
        wired.ask(hello(), stream=True)


@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire != "openai_chat"])  # there, finish_reason ends a reply too
def test_a_stream_without_its_end_mark_is_a_bad_reply(wired: Wired, fake_api: FakeApi):
    fake_api.script({"text": "all of it, but no end mark"})
    fake_api.fault("no-end")
    with pytest.raises(errors.BadReply):
        wired.ask(hello(), stream=True)


@each_wire
def test_an_error_in_the_middle_of_a_stream_is_a_server_error(wired: Wired, fake_api: FakeApi):
    fake_api.script({"text": "never seen"})
    fake_api.fault("stream-error")
    with pytest.raises(errors.ServerError) as raised:
        wired.ask(hello(), stream=True)
    assert raised.value.retryable


@each_wire
def test_a_connection_lost_in_the_middle_of_a_stream_is_a_transport_error(wired: Wired, fake_api: FakeApi):
    fake_api.script({"text": "never seen"})
    fake_api.fault("abort")
    with pytest.raises(errors.TransportError):
        wired.ask(hello(), stream=True)


@each_wire
def test_a_model_that_the_service_does_not_have_is_unknown(wire: str, fake_api: FakeApi, client: httpx.Client):
    with pytest.raises(errors.UnknownModel) as raised:
        Wired(wire, fake_api.url, client, "no-such-model").ask(hello())
    assert "no-such-model" in f"{raised.value} {raised.value.hint}"


def test_gemini_says_when_to_retry_in_the_body(fake_api: FakeApi, client: httpx.Client):
    fake_api.fault("429-info:3")
    with pytest.raises(errors.RateLimited) as raised:
        Wired("gemini", fake_api.url, client, "m").ask(hello())
    assert raised.value.retry_after == 3


@each_wire
def test_x_should_retry_wins_over_the_status(wired: Wired, fake_api: FakeApi):
    fake_api.fault("should-retry:false")
    with pytest.raises(errors.ServerError) as raised:
        wired.ask(hello())
    assert not raised.value.retryable


# --- tool calls that are not right


@each_wire
@plain_and_streamed
def test_arguments_that_are_no_json_object_are_a_problem_of_the_call_and_not_an_error(
    wired: Wired, fake_api: FakeApi, stream: bool
):
    fake_api.script({"tool_calls": [NOW]})
    fake_api.fault("bad-arguments")
    (call,) = wired.ask(hello(), stream=stream).tool_calls
    assert call.name == "now"
    assert call.problem
    assert call.arguments == {}


@each_wire
@plain_and_streamed
@pytest.mark.parametrize("fault", ["no-id", "same-id"])
def test_every_call_has_an_id_of_its_own_even_if_the_vendor_sends_none(wired: Wired, fake_api: FakeApi, fault: str, stream: bool):
    fake_api.script({"tool_calls": [NOW, NOW]})
    fake_api.fault(fault)
    calls = wired.ask(hello(), stream=stream).tool_calls
    assert len(calls) == 2
    assert len({call.id for call in calls} - {""}) == 2


@each_wire
@plain_and_streamed
def test_no_content_at_all_is_an_empty_reply_or_a_bad_one_and_nothing_else(wired: Wired, fake_api: FakeApi, stream: bool):
    fake_api.fault("null-content")
    try:
        reply = wired.ask(hello(), stream=stream)
    except errors.BadReply:
        return
    assert (reply.text, reply.tool_calls) == ("", ())
