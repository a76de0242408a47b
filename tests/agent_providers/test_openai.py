"""What must hold for both OpenAI wires; requests are judged by the vendor's own SDK types."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_core.effects import Ask
from agent_core.errors import (
    AgentError,
    BadReply,
    ConfigError,
    ContextLength,
    ProviderError,
    RateLimited,
    ServerError,
)
from agent_core.messages import Image, Message, Opaque, Text, ToolCall, ToolResult, assistant, from_json, system, to_json, user
from agent_core.ops import Response
from agent_core.provider import Delta, Provider, Usage
from agent_providers import openai_chat, openai_responses

CHAT = Provider("openai", "gpt-4o-mini", openai_chat.codec, "https://api.openai.com/v1", "sk-test")
RESPONSES = replace(CHAT, codec=openai_responses.codec)
BOTH = pytest.mark.parametrize("provider", [CHAT, RESPONSES], ids=["chat", "responses"])

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"], "additionalProperties": False}
TOOL = SimpleNamespace(name="shout", description="Shout it.", parameters=SCHEMA)


def toolset(*tools):
    return SimpleNamespace(tools=tools or (TOOL,), cache={})


CALLS = (
    ToolCall("call_1", "shout", {"text": "ä😀"}),
    ToolCall("call_2", "shout", {}, "the arguments are not valid JSON", '{"text'),
)
HISTORY = [
    system("Be brief."),
    user("what is this?", Image("image/png", b"\x89PNG"), Image("", url="https://e.example/x.jpg")),
    Message("assistant", (Text("let me see"), Opaque("anthropic", {"type": "thinking"}), *CALLS)),
    Message("tool", (ToolResult("call_1", "shout", "Ä"), ToolResult("call_2", "shout", "bad arguments", "invalid"))),
    assistant("done"),
    user("again \ud800 \x00 \x1b"),
    assistant("", (ToolCall("call_3", "shout", {"text": ""}),)),
    Message("tool", (ToolResult("call_3", "shout", ""),)),
]
FULL = Ask(HISTORY, toolset(), SCHEMA | {"title": "My reply!"}, ("Observation:",), "shout", 0.5, 100)


def body(ask, provider, *, stream=False):
    return json.loads(provider.codec.encode(ask, provider, stream=stream).body)


def judged(kind, data):
    """Validate against an SDK type; keys that it does not know are refused at every level."""
    import sys

    from pydantic import TypeAdapter

    for name, module in list(sys.modules.items()):
        for found in vars(module).values() if name.startswith("openai.types") else ():
            if isinstance(found, type) and hasattr(found, "__total__"):
                found.__pydantic_config__ = {"extra": "forbid"}
    judge = TypeAdapter(kind)  # must live as long as its lazy iterators
    seen = consumed(judge.validate_python(data))

    assert seen == data


def consumed(value):
    """Pydantic validates iterables when they are read: read them all."""
    if isinstance(value, dict):
        return {key: consumed(item) for key, item in value.items()}
    return value if isinstance(value, str | int | float | None) else [consumed(item) for item in value]


def test_the_judge_refuses_what_the_sdk_does_not_know():
    params = pytest.importorskip("openai.types.chat.completion_create_params")
    data = body(FULL, CHAT)
    data["messages"][2]["tool_calls"][0]["function"]["extra"] = 1

    with pytest.raises(ValueError, match="extra"):
        judged(params.CompletionCreateParamsNonStreaming, data)


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_request_is_what_the_sdk_would_send(stream):
    params = pytest.importorskip("openai.types.chat.completion_create_params")
    data = body(FULL, CHAT, stream=stream)
    typed = params.CompletionCreateParamsStreaming if stream else params.CompletionCreateParamsNonStreaming

    judged(typed, data)


@pytest.mark.parametrize("stream", [False, True])
def test_a_responses_request_is_what_the_sdk_would_send(stream):
    params = pytest.importorskip("openai.types.responses.response_create_params")
    data = body(FULL, RESPONSES, stream=stream)
    typed = params.ResponseCreateParamsStreaming if stream else params.ResponseCreateParamsNonStreaming

    judged(typed, data)


def test_a_chat_request_says_exactly_this():
    assert body(FULL, CHAT, stream=True) == {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "what is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
                    {"type": "image_url", "image_url": {"url": "https://e.example/x.jpg"}},
                ],
            },
            {
                "role": "assistant",
                "content": "let me see",
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "shout", "arguments": '{"text":"ä😀"}'}},
                    {"id": "call_2", "type": "function", "function": {"name": "shout", "arguments": '{"malformed":"{\\"text"}'}},
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "Ä"},
            {"role": "tool", "tool_call_id": "call_2", "content": "bad arguments"},
            {"role": "assistant", "content": "done"},
            {"role": "user", "content": "again \ufffd \x00 \x1b"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "call_3", "type": "function", "function": {"name": "shout", "arguments": '{"text":""}'}}],
            },
            {"role": "tool", "tool_call_id": "call_3", "content": ""},
        ],
        "tools": [{"type": "function", "function": {"name": "shout", "description": "Shout it.", "parameters": SCHEMA}}],
        "tool_choice": {"type": "function", "function": {"name": "shout"}},
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "My_reply_", "schema": SCHEMA | {"title": "My reply!"}, "strict": True},
        },
        "temperature": 0.5,
        "max_completion_tokens": 100,
        "stop": ["Observation:"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@BOTH
def test_nothing_that_was_not_asked_for_is_sent(provider):
    messages = "input" if provider is RESPONSES else "messages"

    assert set(body(Ask([user("hi")]), provider)) == {"model", messages}
    assert set(body(Ask([user("hi")], SimpleNamespace(tools=(), cache={})), provider)) == {"model", messages}


def test_quirks_change_names_and_leave_out_what_a_vendor_refuses():
    quirks = frozenset({"max_tokens", "no_stream_options", "json_object"})
    data = body(FULL, replace(CHAT, quirks=quirks), stream=True)

    assert data["max_tokens"] == 100
    assert data["response_format"] == {"type": "json_object"}
    assert not {"max_completion_tokens", "stream_options"} & set(data)


def test_strict_is_asked_only_of_a_schema_that_keeps_its_rules():
    loose = {"type": "object", "properties": {"a": {"type": "string"}}}
    nested = {"type": "object", "properties": {"a": loose}, "required": ["a"], "additionalProperties": False}

    assert openai_chat.named_schema(SCHEMA)["strict"] is True
    assert openai_chat.named_schema(loose)["strict"] is False
    assert openai_chat.named_schema(nested)["strict"] is False
    assert openai_chat.named_schema({})["name"] == "reply"


@BOTH
def test_headers_hold_the_key_and_a_key_with_a_line_break_is_refused(provider):
    request = provider.codec.encode(FULL, provider)

    assert dict(request.headers)["authorization"] == "Bearer sk-test"
    assert request.url == f"https://api.openai.com/v1/{'responses' if provider is RESPONSES else 'chat/completions'}"
    assert b"sk-test" not in request.body
    with pytest.raises(ConfigError):
        provider.codec.encode(FULL, replace(provider, key="sk\nx: y"))


@BOTH
def test_a_message_and_a_toolset_are_encoded_once(provider):
    messages, tools = [user("one"), assistant("two")], toolset()
    first = provider.codec.encode(Ask(messages, tools), provider).body
    wire = provider.codec.wire
    messages[0].cache[wire] = b'{"kept":1}'
    tools.cache[wire] = b'["kept"]'
    second = json.loads(provider.codec.encode(Ask(messages, tools), provider).body)

    assert first != second
    assert second["tools"] == ["kept"]
    assert second["input" if provider is RESPONSES else "messages"][0] == {"kept": 1}


@BOTH
def test_a_long_history_and_many_tools_cost_next_to_nothing(provider):
    messages = [user("x" * 200) if n % 2 else assistant("y" * 200) for n in range(400)]
    ask = Ask(messages, toolset(*[TOOL] * 500))
    provider.codec.encode(ask, provider)
    best = min(_timed(lambda: provider.codec.encode(ask, provider)) for _ in range(50))

    assert best < 0.0005  # the goal is 0.00005; shared machines are slow


def _timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# --- chat: whole replies


def chat_reply(message, finish="stop", **more):
    choice = {"index": 0, "message": message, "finish_reason": finish}
    usage = {
        "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2},
    }  # fmt: skip
    return {"id": "chatcmpl-123", "object": "chat.completion", "model": "gpt-x", "choices": [choice], "usage": usage} | more


def decode(data, provider=CHAT, status=200):
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return provider.codec.decode(Response(status, {}, raw), provider)


def test_a_chat_reply_is_text_usage_model_and_id():
    reply = decode(chat_reply({"role": "assistant", "content": "hi"}))

    assert (reply.text, reply.stop, reply.model, reply.id) == ("hi", "final", "gpt-x", "chatcmpl-123")
    assert reply.usage == Usage(10, 5, 4, 0, 2)


def test_tool_calls_are_decided_by_presence_and_bad_arguments_are_no_error():
    calls = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "a", "type": "function", "function": {"name": "g", "arguments": '{"x":'}},
        {"type": "function", "function": {"name": "h", "arguments": {"y": 2}}},
        {"id": "d", "type": "function", "function": {"name": "i"}},
    ]
    reply = decode(chat_reply({"role": "assistant", "content": None, "tool_calls": calls}))

    assert reply.stop == "tool_calls"
    assert [(call.name, call.arguments, bool(call.problem)) for call in reply.tool_calls] == [
        ("f", {"x": 1}, False), ("g", {}, True), ("h", {"y": 2}, False), ("i", {}, False),
    ]  # fmt: skip
    assert len({call.id for call in reply.tool_calls}) == 4
    assert reply.tool_calls[1].raw == '{"x":'


@pytest.mark.parametrize(
    ("message", "finish", "want"),
    [
        ({"content": ""}, "stop", ("", "final")),
        ({"content": None}, "stop", ("", "final")),
        ({"content": "cut"}, "length", ("cut", "length")),
        ({"content": "x"}, "content_filter", ("x", "filter")),
        ({"content": None, "refusal": "I cannot"}, "stop", ("I cannot", "filter")),
        ({"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "a"}]}, "stop", ("a", "final")),
        ({"content": "x"}, None, ("x", "final")),
        ({"content": "x", "tool_calls": []}, "eos", ("x", "final")),
        ({"content": "\ud83d"}, "stop", ("\ufffd", "final")),
    ],
)
def test_a_chat_reply_stops_for_the_reason_given(message, finish, want):
    reply = decode(chat_reply({"role": "assistant", **message}, finish))

    assert (reply.text, reply.stop) == want


@pytest.mark.parametrize(
    "data",
    [
        b"", b"<html>", b"[]", b"{}", {"choices": []}, {"choices": None}, {"choices": {}}, {"choices": ["x"]}, {"choices": [{}]},
        chat_reply({"content": 7}), chat_reply({}, None),
        chat_reply({"content": "x"}, 7), chat_reply([]),
        chat_reply({"content": None, "tool_calls": ["x"]}), chat_reply({"tool_calls": [{"id": "a"}]}),
        chat_reply({"tool_calls": [{"id": "a", "function": {"name": 3}}]}), chat_reply({"tool_calls": {"id": "a"}}),
        chat_reply({"content": "x"}, id=3), chat_reply({"content": "x"}, model=[]),
    ],
)  # fmt: skip
def test_what_the_protocol_does_not_promise_is_a_bad_reply(data):
    with pytest.raises(BadReply) as caught:
        decode(data)

    assert caught.value.status == 76


@pytest.mark.parametrize("usage", [None, [], "many", {}, {"prompt_tokens": "10"}, {"prompt_tokens_details": 3}])
def test_usage_that_makes_no_sense_is_unknown(usage):
    assert decode(chat_reply({"content": "x"}, usage=usage)).usage == Usage()


def test_an_error_object_in_a_200_is_an_error():
    with pytest.raises(ServerError, match="answered 502: upstream"):
        decode({"error": {"code": 502, "message": "upstream"}})


@BOTH
def test_error_statuses_are_the_kinds_of_the_table(provider):
    with pytest.raises(ContextLength) as caught:
        decode({"error": {"code": "context_length_exceeded", "message": "too long"}}, provider, 400)
    assert caught.value.status == 65
    with pytest.raises(RateLimited) as caught:
        decode({"error": {"code": "insufficient_quota", "message": "pay"}}, provider, 429)
    assert not caught.value.retryable


# --- chat: streams


def sse(*chunks, done=True):
    events = [chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks] + (["[DONE]"] if done else [])
    return "".join(f"data: {event}\n\n" for event in events).encode()


def chunk(delta=None, finish=None, **more):
    choices = [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    return {"id": "c1", "object": "chat.completion.chunk", "model": "gpt-x", "choices": choices} | more


def call_piece(index=0, id_=None, name=None, piece=None):
    function = {key: value for key, value in (("name", name), ("arguments", piece)) if value is not None}
    return chunk({"tool_calls": [{"index": index, **({"id": id_} if id_ else {}), "function": function}]})


TEXTS = sse(
    {"choices": [], "prompt_filter_results": []},
    chunk({"role": "assistant", "content": None}),
    chunk({"reasoning_content": "hm"}),
    chunk({"content": "a\ud83d"}),
    chunk({"content": "\ude00ö"}),
    chunk({}, "stop"),
    {"id": "c1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
)
TOOLS = b": keep alive\n\nevent: strange\n" + sse(
    chunk({"role": "assistant", "content": ""}),
    call_piece(0, "t1", "f", ""),
    call_piece(0, None, None, '{"x":'),
    call_piece(1, "t2", "g", ""),
    call_piece(0, None, None, "1}"),
    call_piece(1, None, None, '{"y'),
    chunk({}, "stop", x_groq={"usage": {"prompt_tokens": 7, "completion_tokens": 1}}),
    chunk({}, None),
)


def stream(data, provider=CHAT, sizes=None):
    """Decode `data` in pieces; return the deltas and the reply, or the kind of error."""
    decoder = provider.codec.decoder(provider)
    places = sorted({size % (len(data) + 1) for size in sizes or []})
    deltas = []
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        deltas += decoder.feed(data[start:end])
    return deltas, decoder.finish()


def test_a_stream_of_text_gives_deltas_and_the_whole_reply():
    deltas, reply = stream(TEXTS)

    assert deltas == [Delta("", "hm"), Delta("a"), Delta("😀ö")]
    assert (reply.text, reply.stop, reply.model) == ("a😀ö", "final", "gpt-x")
    assert reply.usage == Usage(3, 2)


def test_a_stream_of_tool_calls_is_put_together_by_index():
    _, reply = stream(TOOLS)

    assert [(call.id, call.name, call.arguments) for call in reply.tool_calls] == [("t1", "f", {"x": 1}), ("t2", "g", {})]
    assert reply.tool_calls[1].problem
    assert reply.stop == "tool_calls"
    assert reply.usage == Usage(7, 1)


def test_calls_that_are_all_numbered_0_or_not_numbered_are_told_apart_by_id():
    zeros = sse(call_piece(0, "a", "f", "{}"), call_piece(0, "b", "g", '{"x":'), call_piece(0, None, None, "2}"), chunk({}, "stop"))
    bare = [
        {"id": "a", "function": {"name": "f", "arguments": "{}"}},
        {"id": "b", "function": {"name": "g", "arguments": '{"x":2}'}},
    ]

    for data in (zeros, sse(chunk({"tool_calls": bare}, "stop"))):
        assert [(call.id, call.arguments) for call in stream(data)[1].tool_calls] == [("a", {}), ("b", {"x": 2})]


@pytest.mark.parametrize("data", [TEXTS, TOOLS], ids=["text", "tools"])
@given(sizes=st.lists(st.integers(0, 5000), max_size=30))
@settings(max_examples=60)
def test_a_stream_means_the_same_however_its_bytes_are_split(data, sizes):
    assert stream(data, CHAT, sizes)[1] == stream(data)[1]
    assert "".join(delta.text for delta in stream(data, CHAT, sizes)[0]) == stream(data)[1].text


@pytest.mark.parametrize(
    "data",
    [
        b"", b"data: ", sse(chunk({"content": "half"}), done=False), sse(), TEXTS[:150], b"<html>busy</html>",
        b"nothing of use\n\n", sse("{"), sse("[]"), sse({"choices": {}}), sse(chunk({"content": 3})),
        sse(chunk({"tool_calls": [{"index": "x"}]})),
        sse(call_piece(0, "a", None, "{}"), chunk({}, "stop")), b"data: \xff\n\n",
    ],
)  # fmt: skip
def test_a_stream_that_is_cut_off_or_rubbish_is_a_bad_reply(data):
    with pytest.raises(BadReply):
        stream(data)


def test_a_finish_reason_is_as_good_as_done():
    assert stream(sse(chunk({"content": "x"}), chunk({}, "length"), done=False))[1].stop == "length"


def test_a_service_that_ignores_stream_is_understood():
    data = json.dumps(chat_reply({"content": "whole"})).encode()

    assert stream(data, CHAT, [3, 10])[1].text == "whole"


@pytest.mark.parametrize(
    "event",
    [
        {"error": {"message": "boom", "type": "server_error"}},
        {"error": {"code": 502, "message": "boom"}, "choices": [{"delta": {"content": ""}, "finish_reason": "error"}]},
        chunk({}, "error"),
        {"error": "boom"},
    ],
)
def test_a_failure_in_the_middle_of_a_stream_is_a_server_error(event):
    with pytest.raises(ServerError) as caught:
        stream(sse(chunk({"content": "a"}), event))

    assert caught.value.retryable


# --- responses


MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "hi", "annotations": []}],
}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": '{"x":1}'}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": []}


def response(*output, status="completed", **more):
    usage = {
        "input_tokens": 9, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 3},
        "output_tokens_details": {"reasoning_tokens": 1},
    }  # fmt: skip
    return {"id": "resp_1", "object": "response", "status": status, "model": "gpt-x", "output": list(output), "usage": usage} | more


def test_a_response_is_text_calls_usage_model_and_id():
    reply = decode(response(MESSAGE, CALL), RESPONSES)

    assert (reply.text, reply.stop, reply.id) == ("hi", "tool_calls", "resp_1")
    assert reply.tool_calls == (ToolCall("call_1", "f", {"x": 1}),)
    assert reply.usage == Usage(9, 4, 3, 0, 1)


def test_a_reply_with_reasoning_goes_back_as_it_came_and_survives_the_journal():
    reply = decode(response(THOUGHT, CALL), RESPONSES)
    result = Message("tool", (ToolResult("call_1", "f", "ok"),))
    kept = from_json(json.loads(json.dumps(to_json(reply.message))))

    assert body(Ask([user("q"), kept, result]), RESPONSES)["input"] == [
        {"type": "message", "role": "user", "content": "q"},
        THOUGHT,
        CALL,
        {"type": "function_call_output", "call_id": "call_1", "output": "ok"},
    ]
    assert body(Ask([reply.message]), CHAT)["messages"][0]["tool_calls"][0]["id"] == "call_1"


@pytest.mark.parametrize(
    ("data", "want"),
    [
        (response(MESSAGE), "final"),
        (response(MESSAGE, status="incomplete", incomplete_details={"reason": "max_output_tokens"}), "length"),
        (response(status="incomplete", incomplete_details={"reason": "content_filter"}), "filter"),
        (response({"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}), "filter"),
        (response({"type": "web_search_call"}, MESSAGE), "final"),
    ],
)
def test_a_response_stops_for_the_reason_given(data, want):
    assert decode(data, RESPONSES).stop == want


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", {}, {"output": {}}, {"output": [3]}, response(), response(status="in_progress"), response(status=3),
        response({**CALL, "name": None}),
        response({"type": "message", "content": "x"}), response({"type": "message", "content": [{"type": "output_text"}]}),
    ],
)  # fmt: skip
def test_what_responses_do_not_promise_is_a_bad_reply(data):
    with pytest.raises(BadReply):
        decode(data, RESPONSES)


def test_a_failed_response_is_the_kind_of_its_error():
    with pytest.raises(RateLimited):
        decode(response(status="failed", error={"code": "rate_limit_exceeded", "message": "slow"}), RESPONSES)
    with pytest.raises(ServerError):
        decode(response(status="failed"), RESPONSES)


def events(*items):
    return "".join(f"event: {item['type']}\ndata: {json.dumps(item)}\n\n" for item in items).encode()


EVENTS = events(
    {"type": "response.created", "response": response(status="in_progress")},
    {"type": "response.reasoning_summary_text.delta", "delta": "hm"},
    {"type": "response.output_text.delta", "delta": "h"},
    {"type": "response.strange", "x": []},
    {"type": "response.output_text.delta", "delta": "i"},
    {"type": "response.output_item.done", "item": MESSAGE},
    {"type": "response.completed", "response": response(MESSAGE)},
)


def test_a_stream_of_responses_gives_deltas_and_the_whole_reply():
    deltas, reply = stream(EVENTS, RESPONSES)

    assert deltas == [Delta("", "hm"), Delta("h"), Delta("i")]
    assert (reply.text, reply.usage.input_tokens) == ("hi", 9)


def test_a_stream_whose_last_event_has_no_output_is_made_of_its_items():
    item = {"type": "response.output_item.done", "item": CALL}
    _, reply = stream(events(item, {"type": "response.completed", "response": response()}), RESPONSES)

    assert reply.tool_calls[0].name == "f"


@pytest.mark.parametrize(
    "event", [{"type": "error", "code": "server_error", "message": "boom"}, {"type": "error", "error": {"message": "boom"}}]
)
def test_an_error_event_ends_a_stream_of_responses(event):
    with pytest.raises(ServerError, match="boom"):
        stream(events({"type": "response.output_text.delta", "delta": "h"}, event), RESPONSES)


@given(sizes=st.lists(st.integers(0, 3000), max_size=30))
@settings(max_examples=60)
def test_a_stream_of_responses_means_the_same_however_split(sizes):
    assert stream(EVENTS, RESPONSES, sizes) == stream(EVENTS, RESPONSES)


def test_a_cut_off_stream_of_responses_is_a_bad_reply():
    for end in range(0, len(EVENTS) - 400, 97):
        with pytest.raises(BadReply):
            stream(EVENTS[:end], RESPONSES)


# --- hostile bytes

SEEDS = [
    (
        CHAT,
        json.dumps(
            chat_reply({"content": "hi", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]})
        ).encode(),
        False,
    ),
    (RESPONSES, json.dumps(response(THOUGHT, MESSAGE, CALL)).encode(), False),
    (CHAT, TEXTS, True),
    (CHAT, TOOLS, True),
    (RESPONSES, EVENTS, True),
]
SPICE = [
    b"null",
    b"[]",
    b"{}",
    b'"x"',
    b"-1",
    b"1e999",
    b"true",
    b"\xff",
    b"\\ud800",
    b"\n\n",
    b"data: ",
    b"\r",
    b"0",
    b'"error":',
    b"[" * 300,
]


def mutated(data, rng):
    """Change a few places of `data`."""
    for _ in range(rng.randint(1, 4)):
        place, width = rng.randrange(len(data) + 1), rng.choice([0, 1, 4, 20])
        data = data[:place] + rng.choice([*SPICE, b"", data[place // 2 : place]]) + data[place + width :]
    return data


def outcome(provider, data, streamed, sizes=()):
    """Return the reply or the documented error; anything else fails the test."""
    try:
        return stream(data, provider, sizes)[1] if streamed else decode(data, provider)
    except (ProviderError, ContextLength) as error:
        return error


@given(st.sampled_from(SEEDS), st.randoms(use_true_random=False))
@settings(max_examples=1500, deadline=None)
def test_a_mutated_reply_is_a_reply_or_a_documented_error(seed, rng):
    provider, data, streamed = seed
    found = outcome(provider, mutated(data, rng), streamed, [rng.randrange(5000) for _ in range(3)])

    if isinstance(found, AgentError):
        assert found.line().isprintable()
    else:
        json.dumps(to_json(found.message)).encode()
        provider.codec.encode(Ask([user("q"), found.message]), provider)


def test_ten_thousand_mutated_replies_leave_no_undocumented_outcome():
    rng = random.Random(7)
    found = [outcome(SEEDS[n % 5][0], mutated(SEEDS[n % 5][1], rng), SEEDS[n % 5][2]) for n in range(10_000)]

    kinds = {type(item) for item in found}
    assert {BadReply} < kinds
