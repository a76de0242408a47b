"""The Cohere chat codec: its requests, its replies, and every way in which they can be broken."""

import itertools
import json
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_core import errors, messages
from agent_core.effects import Ask
from agent_core.messages import Image, Message, Opaque, Text, ToolCall, ToolResult
from agent_core.ops import Response
from agent_core.provider import Provider, Usage
from agent_providers.cohere import codec

PROVIDER = Provider("cohere", "command-test", codec, key="co-made-up")
SCHEMA = {"type": "object", "properties": {"score": {"type": "integer"}}, "required": ["score"]}
THINKING = {"type": "thinking", "thinking": "Let me see."}
CALLS = [
    {"id": "add_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": "ü"}'}},
    {"id": "now_1", "type": "function", "function": {"name": "now", "arguments": "{}"}},
]
USAGE = {
    "billed_units": {"input_tokens": 5.0, "output_tokens": 6.0},
    "tokens": {"input_tokens": 80.0, "output_tokens": 9.0},
    "cached_tokens": 30,
}
SAID = {
    "id": "r-1", "finish_reason": "COMPLETE", "usage": USAGE,
    "message": {"role": "assistant", "content": [THINKING, {"type": "text", "text": "Häuser 🏠."}]},
}  # fmt: skip
ASKED = {
    "id": "r-2", "finish_reason": "TOOL_CALL", "usage": USAGE,
    "message": {"role": "assistant", "tool_plan": "I will add.", "tool_calls": CALLS},
}  # fmt: skip
both = pytest.mark.parametrize("reply", [SAID, ASKED], ids=["said", "asked"])


def event(kind, **data):
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


def halves(text):
    return text[: len(text) // 2], text[len(text) // 2 :]


def streamed(reply):
    """Return the stream that tells `reply`, the way the service cuts it up."""
    message = reply["message"]
    out = [
        event(
            "message-start",
            id=reply["id"],
            delta={"message": {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": []}},
        )
    ]
    out += [event("tool-plan-delta", delta={"message": {"tool_plan": piece}}) for piece in halves(message.get("tool_plan", ""))]
    for index, block in enumerate(message.get("content", [])):
        name = block["type"]
        out.append(event("content-start", index=index, delta={"message": {"content": {"type": name, name: ""}}}))
        out += [event("content-delta", index=index, delta={"message": {"content": {name: piece}}}) for piece in halves(block[name])]
        out.append(event("content-end", index=index))
    for index, call in enumerate(message.get("tool_calls", [])):
        start = {**call, "function": {**call["function"], "arguments": ""}}
        out.append(event("tool-call-start", index=index, delta={"message": {"tool_calls": start}}))
        pieces = halves(call["function"]["arguments"])
        out += [
            event("tool-call-delta", index=index, delta={"message": {"tool_calls": {"function": {"arguments": piece}}}})
            for piece in pieces
        ]
        out.append(event("tool-call-end", index=index))
    return b"".join([*out, event("message-end", delta={"finish_reason": reply["finish_reason"], "usage": reply["usage"]})])


def toolset(*names):
    tools = tuple(SimpleNamespace(name=name, description=f"Does {name}.", parameters={"type": "object"}) for name in names)
    return SimpleNamespace(tools=tools, cache={})


def body(ask, *, stream=False):
    return json.loads(codec.encode(ask, PROVIDER, stream=stream).body)


def decode(data, status=200):
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return codec.decode(Response(status, {}, raw), PROVIDER)


def stream(raw, *cuts):
    """Return what a decoder makes of `raw` cut at the given places."""
    decoder = codec.decoder(PROVIDER)
    edges = [0, *sorted(cuts), len(raw)]
    deltas = [delta for start, end in itertools.pairwise(edges) for delta in decoder.feed(raw[start:end])]
    return deltas, decoder.finish()


HISTORY = [
    messages.system("Be brief."),
    messages.user("What is this?", Image("image/png", b"\x89PNG")),
    Message(
        "assistant", (Opaque("cohere", {"tool_plan": "I will add."}), ToolCall("c-1", "add", {"a": 1}), ToolCall("c-2", "now", {}))
    ),
    Message("tool", (ToolResult("c-1", "add", "3"), ToolResult("c-2", "now", "no clock", "permanent"))),
]


def test_a_history_is_told_in_the_services_roles():
    assert body(Ask(HISTORY))["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
        ]},
        {"role": "assistant", "tool_plan": "I will add.", "tool_calls": [
            {"id": "c-1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}},
            {"id": "c-2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
        ]},
        {"role": "tool", "tool_call_id": "c-1", "content": [{"type": "document", "document": {"data": {"output": "3"}}}]},
        {"role": "tool", "tool_call_id": "c-2", "content": [{"type": "document", "document": {"data": {"error": "no clock"}}}]},
    ]  # fmt: skip


@both
def test_a_reply_goes_back_as_it_came(reply):
    sent = body(Ask([messages.user("x"), decode(reply).message]))["messages"][1]

    assert with_parsed_arguments(sent) == with_parsed_arguments(reply["message"])


def with_parsed_arguments(message):
    """Return a wire message with its arguments as objects: their spacing is nobody's business."""
    calls = []
    for call in message.get("tool_calls", []):
        function = {**call["function"], "arguments": json.loads(call["function"]["arguments"])}
        calls.append({**call, "function": function})
    return {**message, "tool_calls": calls}


def test_unset_settings_are_not_sent():
    assert set(body(Ask(HISTORY))) == {"model", "messages", "stream"}
    sent = body(Ask(HISTORY, temperature=0.0, max_tokens=5, stop=("END",)), stream=True)

    assert (sent["temperature"], sent["max_tokens"], sent["stop_sequences"], sent["stream"]) == (0.0, 5, ["END"], True)


@pytest.mark.parametrize(
    ("choice", "offered", "sent"),
    [
        ("auto", ["add", "now"], None),
        ("none", ["add", "now"], "NONE"),
        ("required", ["add", "now"], "REQUIRED"),
        ("now", ["now"], "REQUIRED"),
    ],
)
def test_the_choice_of_tools_is_translated_and_one_tool_is_chosen_by_offering_only_it(choice, offered, sent):
    found = body(Ask(HISTORY, toolset("add", "now"), tool_choice=choice))

    assert [tool["function"]["name"] for tool in found["tools"]] == offered
    assert found.get("tool_choice") == sent


def test_structured_output_is_asked_for_in_json_mode_and_beside_tools_in_words():
    alone, beside = body(Ask(HISTORY, schema=SCHEMA)), body(Ask(HISTORY, toolset("add"), schema=SCHEMA))

    assert alone["response_format"] == {"type": "json_object", "json_schema": SCHEMA}
    assert "response_format" not in beside
    for sent in (alone, beside):
        assert [message["role"] for message in sent["messages"][:3]] == ["system", "system", "user"]
        assert '"score"' in sent["messages"][1]["content"]


@pytest.mark.parametrize("base", ["", "https://api.cohere.com/", "https://api.cohere.com/v2", "https://api.cohere.com/v1"])
def test_the_address_is_the_same_whatever_version_the_base_names(base):
    request = codec.encode(Ask(HISTORY), Provider("cohere", "m", codec, base_url=base, key="co-made-up"))

    assert request.url == "https://api.cohere.com/v2/chat"
    assert dict(request.headers)["authorization"] == "Bearer co-made-up"


def test_a_message_that_says_nothing_is_left_out():
    sent = body(Ask([messages.user("a"), messages.assistant(""), messages.user("b")]))

    assert [message["content"] for message in sent["messages"]] == ["a", "b"]


def test_a_history_is_encoded_once():
    codec.encode(Ask(HISTORY), PROVIDER)
    before = [message.cache["cohere"] for message in HISTORY]
    codec.encode(Ask(HISTORY), PROVIDER)

    assert all(message.cache["cohere"] is kept for message, kept in zip(HISTORY, before, strict=True))


def test_whole_replies_are_read():
    said, asked = decode(SAID), decode(ASKED)

    assert said.message.parts == (Opaque("cohere", THINKING), Text("Häuser 🏠."))
    assert asked.message.parts == (
        Opaque("cohere", {"tool_plan": "I will add."}), ToolCall("add_1", "add", {"a": 1, "b": "ü"}), ToolCall("now_1", "now", {}),
    )  # fmt: skip
    assert (said.stop, asked.stop, said.id) == ("final", "tool_calls", "r-1")
    assert said.usage == Usage(80, 9, cached_input_tokens=30)


@both
def test_a_streamed_reply_is_the_same_reply_and_its_deltas_are_its_text_and_thought(reply):
    deltas, read = stream(streamed(reply))

    assert read == decode(reply)
    assert "".join(delta.text for delta in deltas) == read.text
    assert "".join(delta.thought for delta in deltas) == ("Let me see." if reply is SAID else "I will add.")


@both
@given(cuts=st.lists(st.integers(0, 1200), max_size=12), end=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_split_of_the_bytes_gives_the_same_reply(reply, cuts, end):
    raw = streamed(reply).replace(b"\n", end)

    assert stream(raw, *[place for place in cuts if place <= len(raw)])[1] == decode(reply)


@both
def test_every_single_byte_alone_gives_the_same_reply(reply):
    raw = streamed(reply)

    assert stream(raw, *range(len(raw)))[1] == decode(reply)


@both
def test_a_stream_without_its_end_is_a_bad_reply(reply):
    raw = streamed(reply)

    with pytest.raises(errors.BadReply):
        stream(raw[: raw.rindex(b"event: message-end")])


@pytest.mark.parametrize(
    ("reason", "stop"),
    [("COMPLETE", "final"), ("STOP_SEQUENCE", "final"), ("MAX_TOKENS", "length"), ("ERROR_TOXIC", "filter"), ("NEW", "final")],
)
def test_finish_reasons_are_translated(reason, stop):
    assert decode({**SAID, "finish_reason": reason}).stop == stop


@pytest.mark.parametrize(("reason", "expected"), [("ERROR", errors.ServerError), ("TIMEOUT", errors.CallTimeout)])
def test_a_generation_that_failed_is_an_error_whole_or_streamed(reason, expected):
    with pytest.raises(expected):
        decode({**SAID, "finish_reason": reason})
    with pytest.raises(expected) as caught:
        stream(streamed({**SAID, "finish_reason": reason}).replace(b'"usage"', b'"error": "engine gone", "usage"'))
    assert "engine gone" in str(caught.value)


def test_broken_arguments_are_a_problem_of_that_call_only():
    broken = json.loads(json.dumps(ASKED))
    broken["message"]["tool_calls"][0]["function"]["arguments"] = '{"a": '
    first, second = decode(broken).tool_calls

    assert first.problem
    assert first.raw == '{"a": '
    assert second.problem == ""
    assert stream(streamed(broken))[1] == decode(broken)


@pytest.mark.parametrize(
    ("status", "message", "expected", "retryable"),
    [
        (400, "invalid request: message must be at least 1 token long", errors.BadRequest, False),
        (400, "too many tokens: total number of tokens exceeds the limit", errors.ContextLength, False),
        (401, "invalid api token", errors.AuthError, False),
        (404, "model 'x' not found, make sure the correct model ID was used", errors.UnknownModel, False),
        (422, "unprocessable", errors.BadRequest, False),
        (429, "You are past the per minute request limit", errors.RateLimited, True),
        (498, "blocked token", errors.AuthError, False),
        (500, "internal", errors.ServerError, True),
        (503, "busy", errors.ServerError, True),
    ],
)
def test_errors_have_their_kind(status, message, expected, retryable):
    with pytest.raises(expected) as caught:
        decode({"id": "e-1", "message": message}, status)
    assert caught.value.retryable is retryable
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "raw",
    [b"", b"<html>busy</html>", b"[]", b"null", b'{"message": 7}', b"{}", b'{"message": {"content": [7]}}', b"\xff", b'{"a": NaN}'],
)
def test_a_reply_that_is_none_is_a_bad_reply_whole_or_streamed(raw):
    with pytest.raises(errors.BadReply):
        decode(raw)
    with pytest.raises(errors.BadReply):
        stream(raw)


RUBBISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4), lambda inner: st.lists(inner, max_size=2), max_leaves=3
)
KINDS = (errors.ProviderError, errors.ContextLength)


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


@settings(max_examples=400)
@given(st.data())
def test_a_mutated_reply_is_read_or_is_a_provider_error(data):
    raw = json.dumps(mutated(data.draw, data.draw(st.sampled_from([SAID, ASKED])))).encode()
    try:
        reply = decode(raw)
    except KINDS:
        return
    assert json.dumps(messages.to_json(reply.message))
    assert codec.encode(Ask([messages.user("x"), reply.message]), PROVIDER).body


@settings(max_examples=400)
@given(st.data())
def test_a_mutated_stream_is_the_same_reply_or_error_for_any_split(data):
    told = streamed(data.draw(st.sampled_from([SAID, ASKED])))
    events = [json.loads(line[6:]) for line in told.split(b"\n") if line.startswith(b"data: ")]
    index = data.draw(st.integers(0, len(events) - 1))
    events[index] = mutated(data.draw, events[index])
    raw = b"".join(b"data: " + json.dumps(item).encode() + b"\n\n" for item in events)
    cut_at = data.draw(st.integers(0, len(raw)))

    def outcome(*cuts):
        try:
            reply = stream(raw, *cuts)[1]
        except KINDS as error:
            return type(error), str(error)
        assert codec.encode(Ask([messages.user("x"), reply.message]), PROVIDER).body
        return reply

    assert outcome() == outcome(cut_at)


@settings(max_examples=400)
@given(st.integers(0, len(streamed(SAID)) - 1), st.binary(min_size=1, max_size=3))
def test_broken_bytes_give_the_same_reply_or_error_for_any_split(place, junk):
    raw = streamed(SAID)
    raw = raw[:place] + junk + raw[place + len(junk) :]

    def outcome(*cuts):
        try:
            return stream(raw, *cuts)[1]
        except KINDS as error:
            return type(error), str(error)

    assert outcome() == outcome(place)
