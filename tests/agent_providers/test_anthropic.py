"""The Messages codec, judged by the vendor's own request types and by the vendor's own client reading the same bytes."""

import itertools
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_core import errors, messages
from agent_core.effects import Ask
from agent_core.messages import Image, Message, Opaque, Text, ToolCall, ToolResult
from agent_core.ops import Response
from agent_core.provider import Capabilities, Delta, Provider, Usage
from agent_providers.anthropic import closed, codec

PROVIDER = Provider("anthropic", "claude-test", codec, key="sk-ant-made-up", capabilities=Capabilities(max_output=8192))
SCHEMA = {"type": "object", "properties": {"score": {"type": "integer", "minimum": 0}}, "required": ["score"]}
THINKING = {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"}
REDACTED = {"type": "redacted_thinking", "data": "b3BhcXVl"}
REPLY = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test-1",
    "content": [
        THINKING, REDACTED,
        {"type": "text", "text": "Häuser 🏠: ", "citations": None},
        {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1, "b": [2, "ü"]}},
        {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
    ],
    "stop_reason": "tool_use", "stop_sequence": None,
    "usage": {
        "input_tokens": 10, "output_tokens": 7, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 100,
        "output_tokens_details": {"thinking_tokens": 4},
    },
}  # fmt: skip


def event(kind, **data):
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


def streamed(reply):
    """Return the stream that tells `reply`, the way the service cuts it up."""
    out = [
        event(
            "message_start", message={**reply, "content": [], "stop_reason": None, "usage": {**reply["usage"], "output_tokens": 1}}
        )
    ]
    out.append(event("ping"))
    for index, block in enumerate(reply["content"]):
        start, deltas = cut(block)
        out.append(event("content_block_start", index=index, content_block=start))
        out += [event("content_block_delta", index=index, delta=delta) for delta in deltas]
        out.append(event("content_block_stop", index=index))
    end = {"stop_reason": reply["stop_reason"], "stop_sequence": None}
    out.append(event("message_delta", delta=end, usage={"output_tokens": reply["usage"]["output_tokens"]}))
    return b"".join([*out, event("message_stop")])


def cut(block):
    match block["type"]:
        case "text":
            half = len(block["text"]) // 2
            pieces = (block["text"][:half], block["text"][half:])
            return {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]
        case "thinking":
            deltas = [
                {"type": "thinking_delta", "thinking": block["thinking"]},
                {"type": "signature_delta", "signature": block["signature"]},
            ]
            return {"type": "thinking", "thinking": "", "signature": ""}, deltas
        case "tool_use":
            raw = json.dumps(block["input"]) if block["input"] else ""
            pieces = [raw[start : start + 5] for start in range(0, len(raw), 5)] or [""]
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        case _:
            return block, []


def toolset(*names):
    parameters = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    tools = tuple(SimpleNamespace(name=name, description=f"Does {name}.", parameters=parameters) for name in names)
    return SimpleNamespace(tools=tools, cache={})


def body(ask, *, provider=PROVIDER, stream=False):
    return json.loads(codec.encode(ask, provider, stream=stream).body)


def decode(data, status=200, headers=None):
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return codec.decode(Response(status, headers or {}, raw), PROVIDER)


def stream(raw, *cuts):
    """Return what a decoder makes of `raw` cut at the given places."""
    decoder = codec.decoder(PROVIDER)
    edges = [0, *sorted(cuts), len(raw)]
    deltas = [delta for start, end in itertools.pairwise(edges) for delta in decoder.feed(raw[start:end])]
    return deltas, decoder.finish()


def plain(value):
    """Return what a vendor's types made of a request: lazy iterables drained, models as their data."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if hasattr(value, "to_dict"):
        return value.to_dict()
    return [plain(item) for item in value] if hasattr(value, "__iter__") and not isinstance(value, str) else value


HISTORY = [
    messages.system("Be brief."),
    messages.user("What is this?", Image("image/png", b"\x89PNG"), Image("image/png", url="https://example.com/a.png")),
    Message("assistant", (
        Opaque("anthropic", THINKING), Opaque("gemini", {"text": "other"}),
        ToolCall("toolu_1", "add", {"a": 1}), ToolCall("toolu_2", "now", {}),
    )),
    Message("tool", (ToolResult("toolu_1", "add", "3"), ToolResult("toolu_2", "now", "no clock", "permanent"))),
    messages.user("Go on."),
]  # fmt: skip


def test_a_request_is_what_the_vendors_types_allow_and_has_no_field_they_do_not_know():
    anthropic_types = pytest.importorskip("anthropic.types.message_create_params")
    from pydantic import TypeAdapter

    judge = TypeAdapter(anthropic_types.MessageCreateParamsNonStreaming)
    sent = body(Ask(HISTORY, toolset("add", "now"), schema=SCHEMA, stop=("END",), tool_choice="add", max_tokens=100))

    assert plain(judge.validate_python(sent)) == sent


def test_results_of_one_reply_and_the_text_after_them_share_one_user_turn():
    turns = body(Ask(HISTORY))["messages"]

    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "3"},
        {"type": "tool_result", "tool_use_id": "toolu_2", "content": "no clock", "is_error": True},
        {"type": "text", "text": "Go on."},
    ]


def test_thinking_goes_back_unchanged_and_another_vendors_blocks_stay_at_home():
    assert [block["type"] for block in body(Ask(HISTORY))["messages"][1]["content"]] == ["thinking", "tool_use", "tool_use"]
    assert body(Ask(HISTORY))["messages"][1]["content"][0] == THINKING


def test_a_decoded_reply_goes_back_as_the_blocks_it_came_as():
    reply = decode(REPLY)
    sent = body(Ask([messages.user("hi"), reply.message, Message("tool", (ToolResult("toolu_1", "add", "3"),))]))

    expected = [{name: value for name, value in block.items() if name != "citations"} for block in REPLY["content"]]
    assert sent["messages"][1]["content"] == expected


def test_system_messages_are_lifted_out():
    assert body(Ask(HISTORY))["system"] == [{"type": "text", "text": "Be brief."}]


def test_sampling_is_sent_only_when_it_was_set():
    assert "temperature" not in body(Ask(HISTORY))
    assert body(Ask(HISTORY, temperature=0.0))["temperature"] == 0.0


@pytest.mark.parametrize(("asked", "known", "sent"), [(7, 8192, 7), (None, 8192, 8192), (None, None, 4096)])
def test_max_tokens_is_always_sent(asked, known, sent):
    provider = Provider("anthropic", "m", codec, capabilities=Capabilities(max_output=known))

    assert body(Ask(HISTORY, max_tokens=asked), provider=provider)["max_tokens"] == sent


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("", "https://api.anthropic.com/v1/messages"),
        ("http://h:1/", "http://h:1/v1/messages"),
        ("http://h/x/v1", "http://h/x/v1/messages"),
    ],
)
def test_the_address_is_the_base_and_the_path(base, url):
    assert codec.encode(Ask(HISTORY), Provider("anthropic", "m", codec, base_url=base)).url == url


def test_the_vendor_row_may_name_another_version():
    provider = Provider("anthropic", "m", codec, key="k-made-up", headers=(("anthropic-version", "2026-10-21"),))
    headers = codec.encode(Ask(HISTORY), provider).headers

    assert [value for name, value in headers if name == "anthropic-version"] == ["2026-10-21"]
    assert dict(headers)["x-api-key"] == "k-made-up"


def test_a_key_that_cannot_stand_in_a_header_is_a_configuration_error_that_does_not_show_it():
    with pytest.raises(errors.ConfigError) as caught:
        codec.encode(Ask(HISTORY), Provider("anthropic", "m", codec, key="sk-secret\nx: y"))

    assert "sk-secret" not in caught.value.line()


@pytest.mark.parametrize(
    ("choice", "sent"),
    [("auto", None), ("none", {"type": "none"}), ("required", {"type": "any"}), ("add", {"type": "tool", "name": "add"})],
)
def test_the_choice_of_tools_is_translated(choice, sent):
    assert body(Ask(HISTORY, toolset("add"), tool_choice=choice)).get("tool_choice") == sent


def test_a_history_with_tool_calls_declares_their_names_when_no_tools_are_offered():
    sent = body(Ask(HISTORY))

    assert [tool["name"] for tool in sent["tools"]] == ["add", "now"]
    assert sent["tool_choice"] == {"type": "none"}


def test_blank_text_and_empty_messages_are_left_out():
    sent = body(Ask([messages.user("a"), messages.assistant(""), messages.user(" \n"), messages.user("b")]))

    assert sent["messages"] == [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]


def test_ids_of_other_vendors_are_made_acceptable_on_both_sides():
    call = ToolCall("functions.add:0", "add", {})
    sent = body(Ask([messages.user("a"), messages.assistant("", (call,)), Message("tool", (ToolResult(call.id, "add", "1"),))]))

    assert sent["messages"][1]["content"][0]["id"] == sent["messages"][2]["content"][0]["tool_use_id"] == "functions_add_0"


def test_a_history_is_encoded_once_and_then_joined():
    history = [*HISTORY]
    codec.encode(Ask(history), PROVIDER)
    before = [message.cache["anthropic"] for message in history]
    more = [*history, messages.assistant("done")]

    assert body(Ask(more))["messages"][-1] == {"role": "assistant", "content": [{"type": "text", "text": "done"}]}
    assert all(message.cache["anthropic"] is kept for message, kept in zip(history, before, strict=True))


def test_structured_output_closes_objects_and_tells_limits_in_words():
    told = body(Ask(HISTORY, schema=SCHEMA))["output_config"]["format"]["schema"]

    assert told["additionalProperties"] is False
    assert told["properties"]["score"] == {"type": "integer", "description": "(minimum: 0)"}


def test_a_schema_for_structured_output_is_as_the_vendor_itself_would_make_it():
    lib = pytest.importorskip("anthropic")
    schema = {
        "$defs": {"Issue": {"type": "object", "properties": {"line": {"type": "integer"}}, "required": ["line"]}},
        "type": "object",
        "properties": {"issues": {"type": "array", "items": {"$ref": "#/$defs/Issue"}}, "kind": {"type": "string", "enum": ["a"]},
                       "note": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
        "required": ["issues"],
    }  # fmt: skip
    ours, theirs = closed(schema), lib.transform_schema(schema)
    ours["properties"]["kind"].pop("type")
    theirs["properties"]["kind"].pop("type", None)

    assert ours == theirs


def test_a_model_without_structured_output_is_told_the_schema_in_words():
    provider = Provider("anthropic", "m", codec, capabilities=Capabilities(structured=False))
    sent = body(Ask(HISTORY, schema=SCHEMA), provider=provider)

    assert "output_config" not in sent
    assert '"score"' in sent["system"][-1]["text"]


def test_a_whole_reply_is_read():
    reply = decode(REPLY)

    assert reply.message.parts == (
        Opaque("anthropic", THINKING), Opaque("anthropic", REDACTED), Text("Häuser 🏠: "),
        ToolCall("toolu_1", "add", {"a": 1, "b": [2, "ü"]}), ToolCall("toolu_2", "now", {}),
    )  # fmt: skip
    assert (reply.stop, reply.model, reply.id) == ("tool_calls", "claude-test-1", "msg_1")
    assert reply.usage == Usage(115, 7, cached_input_tokens=100, cache_write_tokens=5, reasoning_tokens=4)


def test_a_streamed_reply_is_the_same_reply_and_its_deltas_are_its_text_and_thought():
    deltas, reply = stream(streamed(REPLY))

    assert reply == decode(REPLY)
    assert "".join(delta.text for delta in deltas) == "Häuser 🏠: "
    assert "".join(delta.thought for delta in deltas) == "Let me see."


@given(st.lists(st.integers(0, len(streamed(REPLY))), max_size=12), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_split_of_the_bytes_gives_the_same_reply(cuts, end):
    raw = streamed(REPLY).replace(b"\n", end)

    assert stream(raw, *[place for place in cuts if place <= len(raw)])[1] == decode(REPLY)


def test_every_single_byte_alone_gives_the_same_reply():
    raw = streamed(REPLY)

    assert stream(raw, *range(len(raw)))[1] == decode(REPLY)


@pytest.mark.parametrize(
    ("reason", "stop"),
    [("end_turn", "final"), ("stop_sequence", "final"), ("max_tokens", "length"), ("model_context_window_exceeded", "length"),
     ("pause_turn", "length"), ("refusal", "filter"), ("tool_use", "final"), (None, "final")],
)  # fmt: skip
def test_stop_reasons_are_translated(reason, stop):
    assert decode({**REPLY, "content": [{"type": "text", "text": "x"}], "stop_reason": reason}).stop == stop


def test_broken_tool_input_is_a_problem_of_that_call_only():
    raw = streamed(REPLY).replace(b'"partial_json": "{\\"a\\"', b'"partial_json": "{a\\"')
    calls = stream(raw)[1].tool_calls

    assert calls[0].problem
    assert calls[0].raw.startswith("{a")
    assert calls[1].problem == ""


@pytest.mark.parametrize("given", ["[1]", "[1", '"text"', "NaN"])
def test_tool_input_that_is_no_object_is_a_problem(given):
    start = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    raw = b"".join([
        event("message_start", message={"id": "m", "model": "x"}), event("content_block_start", index=0, content_block=start),
        event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": given}),
        event("message_delta", delta={"stop_reason": "tool_use"}), event("message_stop"),
    ])  # fmt: skip
    (call,) = stream(raw)[1].tool_calls

    assert call.problem
    assert call.raw == given


def test_a_tool_block_may_start_without_input_and_blocks_may_end_late():
    raw = b"".join([
        event("message_start", message={"id": "chatcmpl-1", "model": "x"}),
        event("content_block_start", index=0, content_block={"type": "text", "text": "A"}),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": "B"}),
        event("content_block_start", index=1, content_block={"type": "tool_use", "id": "t", "name": "f"}),
        event("content_block_stop", index=0), event("content_block_stop", index=1),
        event("message_delta", delta={"stop_reason": "tool_use"}), event("message_stop"),
    ])  # fmt: skip
    deltas, reply = stream(raw)

    assert reply.message.parts == (Text("AB"), ToolCall("t", "f", {}))
    assert deltas == [Delta("A"), Delta("B")]
    assert reply.usage == Usage()


def test_a_stream_without_its_end_is_a_bad_reply():
    raw = streamed(REPLY)

    with pytest.raises(errors.BadReply):
        stream(raw[: raw.rindex(b"event: message_stop")])


def test_what_comes_after_the_end_of_a_stream_is_ignored():
    assert stream(streamed(REPLY) + b"data: rubbish\n\n")[1] == decode(REPLY)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("overloaded_error", errors.ServerError), ("rate_limit_error", errors.RateLimited), ("api_error", errors.ServerError),
     ("authentication_error", errors.AuthError), ("invalid_request_error", errors.BadRequest),
     ("timeout_error", errors.CallTimeout), ("something_new", errors.ServerError)],
)  # fmt: skip
def test_an_error_inside_a_stream_has_its_kind(kind, expected):
    raw = streamed(REPLY)
    start = raw[: raw.index(b"event: content_block_stop")]

    with pytest.raises(expected) as caught:
        stream(start + event("error", error={"type": kind, "message": "sorry"}))
    assert "sorry" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "kind", "message", "expected", "retryable"),
    [
        (400, "invalid_request_error", "messages: wrong", errors.BadRequest, False),
        (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", errors.ContextLength, False),
        (400, "invalid_request_error", "Your credit balance is too low to access the API", errors.RateLimited, False),
        (401, "authentication_error", "invalid x-api-key", errors.AuthError, False),
        (402, "billing_error", "pay", errors.RateLimited, False),
        (403, "permission_error", "no", errors.AuthError, False),
        (404, "not_found_error", "model: claude-9", errors.UnknownModel, False),
        (413, "request_too_large", "big", errors.ContextLength, False),
        (429, "rate_limit_error", "slow down", errors.RateLimited, True),
        (500, "api_error", "oops", errors.ServerError, True),
        (504, "timeout_error", "slow", errors.CallTimeout, True),
        (529, "overloaded_error", "Overloaded", errors.ServerError, True),
    ],
)
def test_errors_have_their_kind(status, kind, message, expected, retryable):
    data = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}

    with pytest.raises(expected) as caught:
        decode(data, status, {"retry-after": "7"})
    assert caught.value.retryable is retryable
    assert getattr(caught.value, "retry_after", 7) == 7
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "raw", [b"", b"<html>busy</html>", b"[]", b"null", b'{"content": 7}', b"{}", b'{"content": [7]}', b"\xff", b'{"a": NaN}']
)
def test_a_reply_that_is_none_is_a_bad_reply(raw):
    with pytest.raises(errors.BadReply):
        decode(raw)


@contextmanager
def serving(raw, content_type):
    """Serve the same answer to every request on loopback; yields the base URL and the requests seen."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            seen.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()


def as_seen_by_the_vendor(message):
    """Return our parts for what the vendor's client read."""
    parts = []
    for block in message.content:
        match block.type:
            case "text":
                parts.append(Text(block.text))
            case "tool_use":
                parts.append(ToolCall(block.id, block.name, block.input))
            case _:
                parts.append(Opaque("anthropic", block.to_dict()))
    return tuple(parts)


def test_the_vendors_own_client_reads_the_same_from_the_same_bytes():
    lib = pytest.importorskip("anthropic")

    with serving(json.dumps(REPLY).encode(), "application/json") as (url, _):
        message = lib.Anthropic(base_url=url, api_key="k").messages.create(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]
        )

    assert decode(REPLY).message.parts == as_seen_by_the_vendor(message)


def test_the_vendors_own_client_reads_the_same_from_the_same_stream():
    lib = pytest.importorskip("anthropic")
    raw = streamed(REPLY)

    with serving(raw, "text/event-stream") as (url, _):
        client = lib.Anthropic(base_url=url, api_key="k")
        with client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]) as told:
            message = told.get_final_message()

    reply = stream(raw)[1]
    assert reply.message.parts == as_seen_by_the_vendor(message)
    assert reply.usage.output_tokens == message.usage.output_tokens


RUBBISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4), lambda inner: st.lists(inner, max_size=2), max_leaves=3
)


def mutated(draw, value):
    """Return `value` with one thing in it removed or replaced."""
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(value)))
        if not draw(st.integers(0, 3)):
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: mutated(draw, value[key])}
    if isinstance(value, list) and value and draw(st.integers(0, 5)):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], mutated(draw, value[index]), *value[index + 1 :]]
    return draw(RUBBISH)


KINDS = (errors.ProviderError, errors.ContextLength)


@settings(max_examples=400)
@given(st.data())
def test_a_mutated_reply_is_read_or_is_a_provider_error(data):
    raw = json.dumps(mutated(data.draw, REPLY)).encode()
    try:
        reply = decode(raw)
    except KINDS:
        return
    assert json.dumps(messages.to_json(reply.message))
    assert codec.encode(Ask([messages.user("x"), reply.message]), PROVIDER).body


@settings(max_examples=400)
@given(st.data())
def test_a_mutated_stream_is_read_or_is_a_provider_error(data):
    events = [json.loads(line[6:]) for line in streamed(REPLY).split(b"\n") if line.startswith(b"data: ")]
    index = data.draw(st.integers(0, len(events) - 1))
    events[index] = mutated(data.draw, events[index])
    raw = b"".join(b"data: " + json.dumps(item).encode() + b"\n\n" for item in events)
    cut_at = data.draw(st.integers(0, len(raw)))

    def outcome(*cuts):
        try:
            return stream(raw, *cuts)[1]
        except KINDS as error:
            return type(error), str(error)

    assert outcome() == outcome(cut_at)


@settings(max_examples=400)
@given(st.integers(0, len(streamed(REPLY)) - 1), st.binary(min_size=1, max_size=3))
def test_broken_bytes_give_the_same_reply_or_error_for_any_split(place, junk):
    raw = streamed(REPLY)
    raw = raw[:place] + junk + raw[place + len(junk) :]

    def outcome(*cuts):
        try:
            return stream(raw, *cuts)[1]
        except KINDS as error:
            return type(error), str(error)

    assert outcome() == outcome(place)


def test_half_surrogate_pairs_split_between_two_deltas_become_one_character():
    raw = streamed({**REPLY, "content": [{"type": "text", "text": "ab"}]})
    raw = raw.replace(b'"text": "a"', rb'"text": "\ud83c"').replace(b'"text": "b"', rb'"text": "\udfe0"')
    deltas, reply = stream(raw)

    assert reply.text == "🏠"
    assert deltas == [Delta("🏠")]
