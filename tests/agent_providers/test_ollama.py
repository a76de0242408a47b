"""Ollama's native requests and replies, judged by the vendor's own client types."""

import contextlib
import itertools
import json
from types import SimpleNamespace

import ollama as judge
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_core import errors
from agent_core.effects import Ask
from agent_core.messages import Image, Message, Opaque, Text, ToolCall, ToolResult, system, user
from agent_core.ops import Response
from agent_core.provider import Provider
from agent_providers import ollama

PROVIDER = Provider("ollama", "qwen3", ollama.codec)
PARAMETERS = {"type": "object", "properties": {"text": {"type": "string", "description": "t"}}, "required": ["text"]}
TOOLS = SimpleNamespace(tools=(SimpleNamespace(name="up", description="Up.", parameters=PARAMETERS),), cache={})
TALK = [
    system("Be brief."),
    user("hi", Image("image/png", b"\x89PNG")),
    Message(
        "assistant", (Opaque("ollama", {"thinking": "hm"}), Text("so"), ToolCall("1", "up", {"text": "é"}), ToolCall("2", "up", {}))
    ),
    Message("tool", (ToolResult("1", "up", "É"), ToolResult("2", "up", "no", "denied"))),
]


def body(ask, **options):
    return json.loads(ollama.codec.encode(ask, PROVIDER, **options).body)


def test_a_conversation_is_one_that_the_vendors_client_would_send():
    schema = {"type": "object"}
    made = body(Ask(TALK, TOOLS, schema, stop=("END",), temperature=0.5, max_tokens=7))
    checked = judge._types.ChatRequest(**made)

    assert checked.model_dump(exclude_none=True, by_alias=True) == made
    assert made["options"] == {"temperature": 0.5, "num_predict": 7, "stop": ["END"]}
    assert [message["role"] for message in made["messages"]] == ["system", "user", "assistant", "tool", "tool"]
    assert made["messages"][1]["images"] == ["iVBORw=="]
    assert made["messages"][2] == {
        "role": "assistant", "content": "so", "thinking": "hm",
        "tool_calls": [{"function": {"name": "up", "arguments": {"text": "é"}}}, {"function": {"name": "up", "arguments": {}}}],
    }  # fmt: skip
    assert made["messages"][4] == {"role": "tool", "tool_name": "up", "content": "no"}


def test_whether_to_stream_is_always_said_and_nothing_else_that_was_not_set():
    assert body(Ask([user("x")])) == {"model": "qwen3", "messages": [{"role": "user", "content": "x"}], "stream": False}
    assert body(Ask([user("x")]), stream=True)["stream"] is True
    assert "tools" not in body(Ask([user("x")], TOOLS, tool_choice="none"))


def test_an_image_by_address_is_refused():
    with pytest.raises(errors.InputError):
        body(Ask([user("x", Image("image/png", url="https://example.org/a.png"))]))


def test_a_key_is_a_bearer_token():
    made = ollama.codec.encode(Ask([user("x")]), Provider("ollama", "m", key="k-123"))

    assert (made.url, dict(made.headers)["authorization"]) == ("http://127.0.0.1:11434/api/chat", "Bearer k-123")


END = {
    "model": "qwen3",
    "created_at": "2026-11-21T14:00:00Z",
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 11,
    "eval_count": 5,
}
CALLS = [{"function": {"name": "up", "arguments": {"text": "a"}}}, {"id": "mine", "function": {"name": "up", "arguments": {}}}]
REPLY = {**END, "message": {"role": "assistant", "content": "so", "thinking": "hm", "tool_calls": CALLS}}
LINES = [
    {"model": "qwen3", "created_at": "1", "message": {"role": "assistant", "content": "", "thinking": "h"}, "done": False},
    {"model": "qwen3", "created_at": "2", "message": {"role": "assistant", "content": "", "thinking": "m"}, "done": False},
    {"model": "qwen3", "created_at": "3", "message": {"role": "assistant", "content": "s"}, "done": False},
    {
        "model": "qwen3",
        "created_at": END["created_at"],
        "message": {"role": "assistant", "content": "o", "tool_calls": CALLS},
        "done": False,
    },
    {**END, "message": {"role": "assistant", "content": ""}},
]


def whole(data, status=200):
    return Response(status, {}, data if isinstance(data, bytes) else json.dumps(data).encode())


def lines(rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def streamed(*pieces):
    decoder = ollama.codec.decoder(PROVIDER)
    deltas = [delta for piece in pieces for delta in decoder.feed(piece)]
    return deltas, decoder.finish()


def test_a_whole_and_a_streamed_reply_are_the_same():
    one, (deltas, other) = ollama.codec.decode(whole(REPLY), PROVIDER), streamed(lines(LINES))

    assert one == other
    assert (one.text, one.stop, one.model, one.usage.input_tokens, one.usage.output_tokens) == ("so", "tool_calls", "qwen3", 11, 5)
    assert one.tool_calls[0].arguments == {"text": "a"}
    assert one.tool_calls[0].id.startswith("call_")
    assert one.tool_calls[1].id == "mine"
    assert ("".join(item.text for item in deltas), "".join(item.thought for item in deltas)) == ("so", "hm")


def test_calls_without_ids_get_different_ones():
    calls = [{"function": {"name": "up", "arguments": {}}}] * 3
    ids = [call.id for call in ollama.codec.decode(whole({**END, "message": {"tool_calls": calls}}), PROVIDER).tool_calls]

    assert len(set(ids)) == 3


@given(st.lists(st.integers(0, len(lines(LINES))), max_size=30))
def test_where_a_stream_is_cut_does_not_matter(cuts):
    raw = lines(LINES)
    edges = sorted({0, *cuts, len(raw)})

    assert streamed(*(raw[start:end] for start, end in itertools.pairwise(edges)))[1] == streamed(raw)[1]


def test_the_last_line_may_lack_its_line_feed():
    assert streamed(lines(LINES).rstrip())[1] == streamed(lines(LINES))[1]


def test_a_reply_that_was_cut_off_at_the_limit_says_so():
    assert ollama.codec.decode(whole({**END, "done_reason": "length", "message": {"content": "x"}}), PROVIDER).stop == "length"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        lines(LINES[:-1]),
        lines(LINES)[:-30],
        b"<html>bad gateway</html>",
        b'{"done": "yes"}\n',
        b"[]\n",
        b'{"message": 3}\n',
        b"\xff\n",
    ],
)
def test_a_stream_that_is_not_whole_or_not_the_protocol_is_a_bad_reply(raw):
    with pytest.raises(errors.BadReply):
        streamed(raw)
    with pytest.raises(errors.BadReply):
        ollama.codec.decode(whole(raw.split(b"\n")[0] or b""), PROVIDER)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (404, "model 'x' not found", errors.UnknownModel),
        (400, "qwen3 does not support tools", errors.BadRequest),
        (401, "unauthorized", errors.AuthError),
        (429, "too many requests", errors.RateLimited),
        (500, "llama runner process has terminated", errors.ServerError),
        (502, "bad gateway", errors.ServerError),
    ],
)
def test_an_error_status_has_its_kind(status, message, kind):
    with pytest.raises(errors.AgentError, match=message) as caught:
        ollama.codec.decode(whole({"error": message}, status), PROVIDER)

    assert type(caught.value) is kind


def test_an_error_in_the_middle_of_a_stream_is_one():
    with pytest.raises(errors.ServerError, match="an error was encountered"):
        streamed(lines([*LINES[:2], {"error": "an error was encountered while running the model"}]))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def spots(value, path=()):
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from spots(item, (*path, key))


def put(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(copy[path[0]], path[1:], new)
    return copy


@settings(max_examples=400)
@given(st.sampled_from(list(spots(REPLY))), VALUES)
def test_a_reply_with_any_value_anywhere_is_a_reply_or_a_provider_error(path, new):
    changed = put(REPLY, path, new)
    for act in (lambda: ollama.codec.decode(whole(changed), PROVIDER), lambda: streamed(lines([*LINES[:3], changed]))[1]):
        try:
            reply = act() if callable(act) else act
            ollama.codec.encode(Ask([user("x"), reply.message] if reply else []), PROVIDER)
        except (errors.ProviderError, errors.ContextLength):
            pass


@settings(max_examples=300)
@given(st.binary(max_size=60), st.integers(0, 700))
def test_a_stream_with_noise_is_a_reply_or_a_provider_error(noise, at):
    raw = lines(LINES)
    with contextlib.suppress(errors.ProviderError, errors.ContextLength):
        streamed(raw[:at], noise, raw[at:])
