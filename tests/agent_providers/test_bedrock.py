"""Bedrock's requests, signatures, replies and frames, judged by botocore."""

import contextlib
import itertools
import json
import struct
from dataclasses import replace
from types import SimpleNamespace
from zlib import crc32

import botocore.session
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.eventstream import EventStreamBuffer
from botocore.validate import ParamValidator
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_core import errors
from agent_core.effects import Ask
from agent_core.messages import Image, Message, Opaque, Text, ToolCall, ToolResult, assistant, system, user
from agent_core.ops import Response
from agent_core.provider import Capabilities, Provider
from agent_providers import bedrock

MODEL = "anthropic.claude-sonnet-4-v1:0"
BEARER = Provider("bedrock", MODEL, bedrock.codec, key="token-0123")
KEYS = {
    "access_key_id": "AKIDEXAMPLE",
    "secret_access_key": "wJalrXUtnFEMI/K7MDENG",
    "amz_date": "20261121T144500Z",
    "region": "eu-west-1",
}
SIGNED = Provider("bedrock", MODEL, bedrock.codec, extra=KEYS)
SERVICE = botocore.session.get_session().get_service_model("bedrock-runtime")


def toolset(*names):
    parameters = {"type": "object", "properties": {"text": {"type": "string"}}}
    return SimpleNamespace(
        tools=tuple(SimpleNamespace(name=name, description="", parameters=parameters) for name in names), cache={}
    )


TALK = [
    system("Be brief."),
    user("hi", Image("image/png", b"\x89PNG")),
    Message("assistant", (
        Opaque("bedrock", {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}}), Text("so"),
        ToolCall("a:1", "up", {"text": "é"}), ToolCall("b", "up", {}),
    )),
    Message("tool", (ToolResult("a:1", "up", "É"), ToolResult("b", "up", "no", "denied"))),
    user("go on"),
]  # fmt: skip


def body(ask, provider=BEARER):
    return json.loads(bedrock.codec.encode(ask, provider).body)


ASKS = [
    Ask(TALK, toolset("up")),
    Ask([user("hi")], schema={"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}),
    Ask([user("hi")], toolset("up"), tool_choice="required", stop=("END",), temperature=0.2, max_tokens=9),
    Ask([user("hi")], toolset("up", "down"), tool_choice="down"),
    Ask(TALK),
    Ask([user("look", Image("image/jpg", url="s3://bucket/a.jpg"))]),
]


@pytest.mark.parametrize("ask", ASKS)
def test_every_request_is_one_that_the_vendors_own_model_takes(ask):
    made = body(ask)
    for message in made["messages"]:
        for block in message["content"]:
            if "bytes" in block.get("image", {}).get("source", {}):
                block["image"]["source"]["bytes"] = b"checked below"
    shape = SERVICE.operation_model("Converse").input_shape
    report = ParamValidator().validate({"modelId": MODEL, **made}, shape)

    assert not report.has_errors(), report.generate_report()
    assert set(made) <= set(shape.members)


def test_all_results_of_one_reply_stand_in_one_user_turn_with_what_follows():
    made = body(Ask(TALK, toolset("up")))

    assert [turn["role"] for turn in made["messages"]] == ["user", "assistant", "user"]
    assert made["system"] == [{"text": "Be brief."}]
    assert made["messages"][0]["content"][1]["image"] == {"format": "png", "source": {"bytes": "iVBORw=="}}
    assert made["messages"][2]["content"] == [
        {"toolResult": {"toolUseId": "a_1", "content": [{"text": "É"}], "status": "success"}},
        {"toolResult": {"toolUseId": "b", "content": [{"text": "no"}], "status": "error"}},
        {"text": "go on"},
    ]


def test_tools_are_declared_again_whenever_the_history_holds_their_calls():
    assert [tool["toolSpec"]["name"] for tool in body(Ask(TALK))["toolConfig"]["tools"]] == ["up"]
    assert "toolConfig" in body(Ask(TALK, toolset("up"), tool_choice="none"))
    assert "toolConfig" not in body(Ask([user("x")], toolset("up"), tool_choice="none"))
    assert "toolConfig" not in body(Ask([user("x")]))


def test_nothing_that_was_not_set_is_sent_and_unset_structure_goes_into_the_words():
    assert set(body(Ask([user("hi")]))) == {"messages"}
    plain = replace(BEARER, capabilities=Capabilities(structured=False))
    assert "JSON Schema" in body(Ask([user("hi")], schema={"type": "object"}), plain)["system"][0]["text"]


def test_an_image_by_web_address_is_refused_with_a_hint():
    with pytest.raises(errors.InputError, match="bytes or s3"):
        body(Ask([user("x", Image("image/png", url="https://example.org/a.png"))]))


@pytest.mark.parametrize("model", [MODEL, "arn:aws:bedrock:us-east-1:123:inference-profile/us.x-v1:0", "a b/é~_.-"])
@pytest.mark.parametrize("base", ["", "http://127.0.0.1:8080", "https://Gateway.example.org:443/aws/"])
@pytest.mark.parametrize("token", ["", "session/token+1=="])
@pytest.mark.parametrize("stream", [False, True])
def test_the_signature_is_the_one_botocore_makes(model, base, token, stream):
    provider = replace(SIGNED, model=model, base_url=base, extra={**KEYS, **({"session_token": token} if token else {})})
    request = bedrock.codec.encode(Ask([user("hé")]), provider, stream=stream)
    ours = dict(request.headers)
    judge = AWSRequest("POST", request.url, headers={"content-type": "application/json"}, data=request.body)
    signer = SigV4Auth(Credentials(KEYS["access_key_id"], KEYS["secret_access_key"], token or None), "bedrock", "eu-west-1")
    judge.context["timestamp"] = KEYS["amz_date"]
    if token:
        judge.headers["x-amz-security-token"] = token
    judge.headers["x-amz-date"] = KEYS["amz_date"]
    canonical = signer.canonical_request(judge)
    signature = signer.signature(signer.string_to_sign(judge, canonical), judge)

    assert f"Signature={signature}" in ours["authorization"]
    assert f"SignedHeaders={signer.signed_headers(signer.headers_to_sign(judge))}," in ours["authorization"]
    assert ours.get("x-amz-security-token", "") == token
    assert KEYS["secret_access_key"] not in str(request)


def test_the_address_is_the_regions_and_the_model_is_percent_encoded():
    assert bedrock.codec.encode(Ask([user("x")]), SIGNED, stream=True).url == (
        "https://bedrock-runtime.eu-west-1.amazonaws.com/model/anthropic.claude-sonnet-4-v1%3A0/converse-stream"
    )
    assert bedrock.region(replace(BEARER, base_url="https://bedrock-runtime.ap-south-1.amazonaws.com")) == "ap-south-1"


def test_the_date_is_the_clocks_where_none_is_set():
    provider = replace(SIGNED, extra={name: value for name, value in KEYS.items() if name != "amz_date"})
    request = bedrock.Codec(clock=lambda: 1.0).encode(Ask([user("x")]), provider)

    assert dict(request.headers)["x-amz-date"] == "19700101T000001Z"


def test_a_bearer_token_is_sent_as_it_is_and_no_key_at_all_is_a_configuration_error():
    assert dict(bedrock.codec.encode(Ask([user("x")]), BEARER).headers)["authorization"] == "Bearer token-0123"
    with pytest.raises(errors.ConfigError, match="no key"):
        bedrock.codec.encode(Ask([user("x")]), replace(BEARER, key=""))


# --- replies -----------------------------------------------------------------------------------------------------------------

REPLY = {
    "output": {"message": {"role": "assistant", "content": [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
        {"text": "so"},
        {"toolUse": {"toolUseId": "t1", "name": "up", "input": {"text": "a"}}},
        {"toolUse": {"toolUseId": "t2", "name": "up", "input": {}}},
    ]}},
    "stopReason": "tool_use",
    "usage": {"inputTokens": 10, "outputTokens": 4, "totalTokens": 14, "cacheReadInputTokens": 5, "cacheWriteInputTokens": 2},
    "metrics": {"latencyMs": 3},
}  # fmt: skip


def whole(data, status=200, headers=None):
    return Response(status, headers or {}, data if isinstance(data, bytes) else json.dumps(data).encode())


def frame(payload, **headers):
    packed = b"".join(
        bytes([len(name)]) + name + b"\x07" + struct.pack(">H", len(value)) + value
        for name, value in ((f":{name.replace('_', '-')}".encode(), value.encode()) for name, value in headers.items())
    )
    data = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(packed) + len(data), len(packed))
    rest = prelude + struct.pack(">I", crc32(prelude)) + packed + data
    return rest + struct.pack(">I", crc32(rest))


def event(kind, payload):
    return frame(payload, event_type=kind, content_type="application/json", message_type="event")


def delta(index, value):
    return event("contentBlockDelta", {"contentBlockIndex": index, "delta": value})


STREAM = [
    event("messageStart", {"role": "assistant"}),
    delta(0, {"reasoningContent": {"text": "h"}}), delta(0, {"reasoningContent": {"text": "m"}}),
    delta(0, {"reasoningContent": {"signature": "s"}}),
    delta(1, {"text": "s"}), delta(1, {"text": "o"}), event("contentBlockStop", {"contentBlockIndex": 1}),
    event("contentBlockStart", {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t1", "name": "up"}}}),
    delta(2, {"toolUse": {"input": '{"te'}}), delta(2, {"toolUse": {"input": 'xt":"a"}'}}),
    event("contentBlockStart", {"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": "t2", "name": "up"}}}),
    event("messageStop", {"stopReason": "tool_use"}),
    event("metadata", {"usage": REPLY["usage"], "metrics": {"latencyMs": 3}}),
]  # fmt: skip


def streamed(*pieces):
    decoder = bedrock.codec.decoder(BEARER)
    deltas = [one for piece in pieces for one in decoder.feed(piece)]
    return deltas, decoder.finish()


def test_a_whole_and_a_streamed_reply_are_the_same():
    one, (deltas, other) = bedrock.codec.decode(whole(REPLY), BEARER), streamed(*STREAM)

    assert one == other
    assert (one.text, one.stop, one.usage.input_tokens, one.usage.cached_input_tokens) == ("so", "tool_calls", 17, 5)
    assert [(call.id, call.arguments) for call in one.tool_calls] == [("t1", {"text": "a"}), ("t2", {})]
    assert ("".join(item.text for item in deltas), "".join(item.thought for item in deltas)) == ("so", "hm")


def test_reasoning_goes_back_unchanged():
    reply = bedrock.codec.decode(whole(REPLY), BEARER)
    again = body(Ask([user("x"), reply.message]))["messages"][1]["content"]

    assert again == REPLY["output"]["message"]["content"]


def test_our_frames_are_frames_to_botocore_too():
    judge = EventStreamBuffer()
    judge.add_data(b"".join(STREAM))

    assert [item.headers[":event-type"] for item in judge] == [
        headers[":event-type"] for headers, _ in bedrock.Frames().feed(b"".join(STREAM))
    ]


@given(st.lists(st.integers(0, len(b"".join(STREAM))), max_size=30))
def test_where_a_stream_is_cut_does_not_matter(cuts):
    raw, edges = b"".join(STREAM), sorted({0, *cuts, len(b"".join(STREAM))})
    pieces = [raw[start:end] for start, end in itertools.pairwise(edges)]

    assert streamed(*pieces)[1] == streamed(raw)[1]


def test_a_stream_byte_by_byte_is_the_same():
    raw = b"".join(STREAM)

    assert streamed(*(raw[index : index + 1] for index in range(len(raw))))[1] == streamed(raw)[1]


def test_every_flipped_bit_of_a_frame_is_noticed():
    for index in range(len(STREAM[1])):
        damaged = bytearray(STREAM[1])
        damaged[index] ^= 1
        with pytest.raises(errors.BadReply):
            streamed(STREAM[0], bytes(damaged), *STREAM[2:])


def test_a_stream_without_its_end_is_a_bad_reply():
    for pieces in (STREAM[:-2], [*STREAM[:-1], STREAM[-1][:20]], [b""], [b"<html>gateway error</html>"]):
        with pytest.raises(errors.BadReply):
            streamed(*pieces)


@pytest.mark.parametrize(
    ("exception", "message", "kind"),
    [
        ("throttlingException", "slow down", errors.RateLimited),
        ("modelStreamErrorException", "it broke", errors.ServerError),
        ("internalServerException", "oops", errors.ServerError),
        ("serviceUnavailableException", "oops", errors.ServerError),
        ("validationException", "bad field", errors.BadRequest),
        ("validationException", "Input is too long for requested model.", errors.ContextLength),
        ("somethingNewException", "?", errors.ServerError),
    ],
)
def test_an_exception_in_a_stream_has_its_kind(exception, message, kind):
    with pytest.raises(kind, match="bedrock"):
        streamed(*STREAM[:3], frame({"message": message}, exception_type=exception, message_type="exception"))


@pytest.mark.parametrize(
    ("status", "name", "message", "kind"),
    [
        (429, "ThrottlingException", "Too many requests", errors.RateLimited),
        (429, "ModelNotReadyException", "warming", errors.RateLimited),
        (400, "ServiceQuotaExceededException", "quota", errors.RateLimited),
        (403, "AccessDeniedException", "not you", errors.AuthError),
        (403, "InvalidSignatureException", "The request signature does not match", errors.AuthError),
        (404, "ResourceNotFoundException", "Could not resolve the foundation model", errors.UnknownModel),
        (400, "ValidationException", "The provided model identifier is invalid.", errors.UnknownModel),
        (400, "ValidationException", "Malformed input", errors.BadRequest),
        (400, "ValidationException", "Input is too long for requested model.", errors.ContextLength),
        (408, "ModelTimeoutException", "slow", errors.CallTimeout),
        (424, "ModelErrorException", "model broke", errors.ServerError),
        (500, "InternalServerException", "oops", errors.ServerError),
        (503, "ServiceUnavailableException", "oops", errors.ServerError),
    ],
)
def test_an_error_status_has_its_kind(status, name, message, kind):
    headers = {"x-amzn-errortype": f"{name}:http://internal.amazon.com/coral/"}
    with pytest.raises(errors.AgentError) as caught:
        bedrock.codec.decode(whole({"message": message}, status, headers), BEARER)

    assert type(caught.value) is kind


def test_no_key_is_shown_when_a_service_echoes_it():
    with pytest.raises(errors.AuthError) as caught:
        bedrock.codec.decode(whole({"message": f"bad {KEYS['secret_access_key']}"}, 403), SIGNED)

    assert KEYS["secret_access_key"] not in caught.value.line()


@pytest.mark.parametrize(
    ("reason", "stop"),
    [("end_turn", "final"), ("stop_sequence", "final"), ("max_tokens", "length"), ("guardrail_intervened", "filter")],
)
def test_stop_reasons_have_their_words(reason, stop):
    data = {**REPLY, "stopReason": reason, "output": {"message": {"role": "assistant", "content": [{"text": "x"}]}}}

    assert bedrock.codec.decode(whole(data), BEARER).stop == stop


def test_malformed_output_of_a_model_is_a_bad_reply():
    with pytest.raises(errors.BadReply, match="malformed_tool_use"):
        bedrock.codec.decode(whole({**REPLY, "stopReason": "malformed_tool_use"}), BEARER)


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
    try:
        reply = bedrock.codec.decode(whole(put(REPLY, path, new)), BEARER)
        bedrock.codec.encode(Ask([user("x"), reply.message]), BEARER)
    except (errors.ProviderError, errors.ContextLength):
        pass


EVENTS = ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata", "new", ""]


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 12), VALUES), max_size=8))
def test_a_stream_of_any_events_is_a_reply_or_a_provider_error(events):
    payloads = [json.loads(data) for _, data in bedrock.Frames().feed(b"".join(STREAM))]
    pieces = []
    for kind, index, new in events:
        path = list(spots(payloads[index]))[-1]
        pieces.append(event(kind, put(payloads[index], path, new)))
    with contextlib.suppress(errors.ProviderError, errors.ContextLength):
        streamed(*pieces, STREAM[-2])


@settings(max_examples=300)
@given(st.binary(max_size=200), st.integers(0, 600))
def test_a_stream_of_any_bytes_is_a_provider_error(noise, at):
    raw = b"".join(STREAM)
    with pytest.raises((errors.ProviderError, errors.ContextLength)):
        streamed(raw[:at], b"\xff" + noise)


def test_history_is_encoded_once():
    talk = [*TALK]
    bedrock.codec.encode(Ask(talk), BEARER)
    kept = [message.cache["bedrock"] for message in talk]
    bedrock.codec.encode(Ask([*talk, assistant("more")]), BEARER)

    assert all(message.cache["bedrock"] is one for message, one in zip(talk, kept, strict=True))
