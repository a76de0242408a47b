"""The generateContent codec, judged by the vendor's own types and by the vendor's own client reading the same bytes."""

import base64
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
from agent_core.provider import Provider, Usage
from agent_providers.gemini import codec

PROVIDER = Provider("gemini", "gemini-test", codec, key="AIza-made-up")
SCHEMA = {"type": "object", "properties": {"score": {"type": "integer", "minimum": 0}}, "required": ["score"]}
SIGNATURE = base64.b64encode(b"signed").decode()
THOUGHT = {"text": "Let me see.", "thought": True}
SAID = {"text": "Häuser 🏠."}
SIGNED = {"functionCall": {"name": "add", "args": {"a": 1, "b": [2, "ü"]}}, "thoughtSignature": SIGNATURE}
NAMED = {"functionCall": {"id": "call-7", "name": "now", "args": {}}}
USAGE = {
    "promptTokenCount": 50,
    "candidatesTokenCount": 7,
    "thoughtsTokenCount": 4,
    "cachedContentTokenCount": 30,
    "totalTokenCount": 61,
}


def whole(*parts, reason="STOP", **rest):
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": reason, "index": 0}
    return {"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": "gemini-test-1", "responseId": "r/1", **rest}


REPLY = whole(THOUGHT, SAID, SIGNED, NAMED)


def streamed(reply):
    """Return the stream that tells `reply`: text in two pieces, anything else whole, the reason last."""
    pieces = []
    for part in reply["candidates"][0]["content"]["parts"]:
        half = len(part.get("text", "")) // 2
        pieces += [{**part, "text": part["text"][:half]}, {**part, "text": part["text"][half:]}] if half else [part]
    chunks = [
        {"candidates": [{"content": {"role": "model", "parts": [piece]}, "index": 0}], "modelVersion": "gemini-test-1"}
        for piece in pieces
    ]
    chunks.append(
        {**reply, "candidates": [{"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP", "index": 0}]}
    )
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in chunks)


def toolset(*names):
    parameters = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    tools = tuple(SimpleNamespace(name=name, description=f"Does {name}.", parameters=parameters) for name in names)
    return SimpleNamespace(tools=tools, cache={})


def body(ask, *, provider=PROVIDER):
    return json.loads(codec.encode(ask, provider).body)


def decode(data, status=200, headers=None):
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return codec.decode(Response(status, headers or {}, raw), PROVIDER)


def stream(raw, *cuts):
    """Return what a decoder makes of `raw` cut at the given places."""
    decoder = codec.decoder(PROVIDER)
    edges = [0, *sorted(cuts), len(raw)]
    deltas = [delta for start, end in itertools.pairwise(edges) for delta in decoder.feed(raw[start:end])]
    return deltas, decoder.finish()


HISTORY = [
    messages.system("Be brief."),
    messages.user("What is this?", Image("image/png", b"\x89PNG"), Image("image/png", url="https://example.com/a.png")),
    Message("assistant", (
        Opaque("anthropic", {"type": "thinking"}), ToolCall("call-1", "add", {"a": 1}), ToolCall("call-2", "now", {}),
    )),
    Message("tool", (ToolResult("call-1", "add", "3"), ToolResult("call-2", "now", "no clock", "permanent"))),
    messages.user("Go on."),
]  # fmt: skip


@pytest.mark.parametrize("tools", [None, toolset("add", "now")])
def test_a_request_is_what_the_vendors_types_allow_and_has_no_field_they_do_not_know(tools):
    types = pytest.importorskip("google.genai.types")
    sent = body(Ask(HISTORY, tools, schema=SCHEMA, stop=("END",), tool_choice="add", temperature=0.5, max_tokens=100))

    for content in [*sent["contents"], sent["systemInstruction"]]:
        types.Content.model_validate(content)
    types.GenerationConfig.model_validate(sent["generationConfig"])
    for tool in sent.get("tools", []):
        types.Tool.model_validate(tool)
    types.ToolConfig.model_validate(sent.get("toolConfig", {}))
    assert set(sent) <= {"contents", "systemInstruction", "generationConfig", "tools", "toolConfig"}


def test_results_of_one_reply_and_the_text_after_them_share_one_user_content():
    contents = body(Ask(HISTORY))["contents"]

    assert [content["role"] for content in contents] == ["user", "model", "user"]
    assert contents[2]["parts"] == [
        {"functionResponse": {"id": "call-1", "name": "add", "response": {"output": "3"}}},
        {"functionResponse": {"id": "call-2", "name": "now", "response": {"error": "no clock"}}},
        {"text": "Go on."},
    ]


def test_system_messages_are_lifted_out():
    sent = body(Ask([messages.system("Be brief."), messages.system("Be kind."), messages.user("x")]))

    assert sent["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]}
    assert len(sent["contents"]) == 1


def test_signed_parts_go_back_unchanged_and_once_and_made_up_ids_do_not_go_back():
    reply = decode(REPLY)
    results = Message("tool", tuple(ToolResult(call.id, call.name, "1") for call in reply.tool_calls))
    contents = body(Ask([messages.user("hi"), reply.message, results]))["contents"]

    assert contents[1] == {"role": "model", "parts": [THOUGHT, SAID, SIGNED, NAMED]}
    assert ["id" in part["functionResponse"] for part in contents[2]["parts"]] == [False, True]


def test_a_signature_that_comes_alone_at_the_end_of_a_stream_goes_back_alone():
    bare = {"text": "", "thoughtSignature": SIGNATURE}
    reply = decode(whole(SAID, bare))

    assert reply.text == "Häuser 🏠."
    assert body(Ask([messages.user("x"), reply.message]))["contents"][1]["parts"] == [SAID, bare]


def test_signed_text_is_not_joined_to_unsigned_text():
    signed = {"text": "B", "thoughtSignature": SIGNATURE}
    reply = decode(whole({"text": "A"}, signed, {"text": "C"}, {"text": "D"}))

    assert reply.text == "ABCD"
    assert body(Ask([messages.user("x"), reply.message]))["contents"][1]["parts"] == [{"text": "A"}, signed, {"text": "CD"}]


def test_a_signed_part_that_was_edited_gives_way_to_the_edit():
    message = Message("assistant", (Opaque("gemini", {"text": "secret", "thoughtSignature": SIGNATURE}), Text("[redacted]")))

    assert body(Ask([messages.user("x"), message]))["contents"][1]["parts"] == [{"text": "[redacted]"}]


def test_a_signed_call_survives_the_journal():
    reply = decode(REPLY)
    back = messages.from_json(json.loads(json.dumps(messages.to_json(reply.message))))

    assert body(Ask([messages.user("x"), back]))["contents"][1]["parts"] == [THOUGHT, SAID, SIGNED, NAMED]


def test_sampling_and_limits_are_sent_only_when_they_were_set():
    assert "generationConfig" not in body(Ask(HISTORY))
    assert body(Ask(HISTORY, temperature=0.0, max_tokens=5))["generationConfig"] == {"temperature": 0.0, "maxOutputTokens": 5}


def test_structured_output_is_asked_for_in_json_mode_and_beside_tools_in_words():
    alone, beside = body(Ask(HISTORY, schema=SCHEMA)), body(Ask(HISTORY, toolset("add"), schema=SCHEMA))

    assert alone["generationConfig"] == {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}
    assert "generationConfig" not in beside
    assert '"score"' in beside["systemInstruction"]["parts"][-1]["text"]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", None),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ("add", {"mode": "ANY", "allowedFunctionNames": ["add"]}),
    ],
)
def test_the_choice_of_tools_is_translated(choice, sent):
    found = body(Ask(HISTORY, toolset("add"), tool_choice=choice)).get("toolConfig")

    assert found == (sent and {"functionCallingConfig": sent})


@pytest.mark.parametrize(
    ("base", "model", "stream", "url"),
    [
        ("", "gemini-x", False, "https://generativelanguage.googleapis.com/v1beta/models/gemini-x:generateContent"),
        ("http://h:1/", "gemini-x", True, "http://h:1/v1beta/models/gemini-x:streamGenerateContent?alt=sse"),
        ("http://h/v1", "tunedModels/m", False, "http://h/v1/tunedModels/m:generateContent"),
        ("http://h", "a b?c", False, "http://h/v1beta/models/a%20b%3Fc:generateContent"),
    ],
)
def test_the_address_names_model_and_method(base, model, stream, url):
    assert codec.encode(Ask(HISTORY), Provider("gemini", model, codec, base_url=base), stream=stream).url == url


def test_the_key_is_in_a_header_and_never_in_the_address():
    request = codec.encode(Ask(HISTORY), PROVIDER)

    assert dict(request.headers)["x-goog-api-key"] == "AIza-made-up"
    assert "AIza" not in request.url


def test_empty_messages_are_left_out_and_their_neighbours_merged():
    sent = body(Ask([messages.user("a"), messages.assistant(""), messages.user("b")]))

    assert sent["contents"] == [{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}]


def test_a_history_is_encoded_once_and_then_joined():
    history = [*HISTORY]
    codec.encode(Ask(history), PROVIDER)
    before = [message.cache["gemini"] for message in history]

    assert body(Ask([*history, messages.assistant("done")]))["contents"][-1] == {"role": "model", "parts": [{"text": "done"}]}
    assert all(message.cache["gemini"] is kept for message, kept in zip(history, before, strict=True))


def test_a_whole_reply_is_read():
    reply = decode(REPLY)

    assert reply.message.parts == (
        Opaque("gemini", THOUGHT), Text("Häuser 🏠."),
        Opaque("gemini", SIGNED), ToolCall("gemini_r1_2", "add", {"a": 1, "b": [2, "ü"]}), ToolCall("call-7", "now", {}),
    )  # fmt: skip
    assert (reply.stop, reply.model, reply.id) == ("tool_calls", "gemini-test-1", "r/1")
    assert reply.usage == Usage(50, 11, cached_input_tokens=30, reasoning_tokens=4)


def test_a_streamed_reply_is_the_same_reply_and_its_deltas_are_its_text_and_thought():
    deltas, reply = stream(streamed(REPLY))

    assert reply == decode(REPLY)
    assert "".join(delta.text for delta in deltas) == "Häuser 🏠."
    assert "".join(delta.thought for delta in deltas) == "Let me see."


@given(st.lists(st.integers(0, len(streamed(REPLY))), max_size=12), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_split_of_the_bytes_gives_the_same_reply(cuts, end):
    raw = streamed(REPLY).replace(b"\r\n", end)

    assert stream(raw, *[place for place in cuts if place <= len(raw)])[1] == decode(REPLY)


def test_every_single_byte_alone_gives_the_same_reply():
    raw = streamed(REPLY)

    assert stream(raw, *range(len(raw)))[1] == decode(REPLY)


@pytest.mark.parametrize(
    ("reason", "stop"),
    [("STOP", "final"), ("MAX_TOKENS", "length"), ("SAFETY", "filter"), ("RECITATION", "filter"), ("PROHIBITED_CONTENT", "filter"),
     ("OTHER", "length"), ("FUNCTION_CALL", "final"), ("SOMETHING_NEW", "final")],
)  # fmt: skip
def test_finish_reasons_are_translated(reason, stop):
    assert decode(whole({"text": "x"}, reason=reason)).stop == stop


def test_an_empty_answer_is_an_answer():
    reply = decode(whole())

    assert (reply.text, reply.stop) == ("", "final")


@pytest.mark.parametrize(
    "data", [{"promptFeedback": {"blockReason": "SAFETY"}}, {"promptFeedback": {"blockReason": "NEW"}, "candidates": []}]
)
def test_a_blocked_prompt_is_filtered(data):
    assert decode(data).stop == "filter"


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MISSING_THOUGHT_SIGNATURE", "OTHER"])
def test_a_failed_answer_is_a_bad_reply_that_may_be_tried_again(reason):
    with pytest.raises(errors.BadReply) as caught:
        decode(whole(reason=reason))
    assert caught.value.retryable


@pytest.mark.parametrize("args", ["text", [1], 7])
def test_arguments_that_are_no_object_are_a_problem_of_that_call_only(args):
    first, second = decode(whole({"functionCall": {"name": "f", "args": args}}, NAMED)).tool_calls

    assert first.problem
    assert first.raw == json.dumps(args, separators=(",", ":"))
    assert second.problem == ""


def test_a_stream_without_a_finish_reason_is_a_bad_reply():
    raw = streamed(REPLY)

    with pytest.raises(errors.BadReply):
        stream(raw[: raw.rindex(b"data: ")])


TOO_LONG = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
QUOTA = "You exceeded your current quota, please check your plan and billing details."


def refusal(code, status, message, *details):
    return {"error": {"code": code, "status": status, "message": message, "details": list(details)}}


@pytest.mark.parametrize(
    ("code", "status", "message", "expected", "retryable"),
    [
        (400, "INVALID_ARGUMENT", "bad field", errors.BadRequest, False),
        (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", errors.AuthError, False),
        (400, "INVALID_ARGUMENT", TOO_LONG, errors.ContextLength, False),
        (403, "PERMISSION_DENIED", "no", errors.AuthError, False),
        (404, "NOT_FOUND", "models/gemini-9 is not found for API version v1beta", errors.UnknownModel, False),
        (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).", errors.RateLimited, True),
        (429, "RESOURCE_EXHAUSTED", QUOTA, errors.RateLimited, True),
        (500, "INTERNAL", "oops", errors.ServerError, True),
        (503, "UNAVAILABLE", "The model is overloaded.", errors.ServerError, True),
        (504, "DEADLINE_EXCEEDED", "slow", errors.CallTimeout, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("inside", [False, True])
def test_errors_have_their_kind_also_inside_a_stream(code, status, message, expected, retryable, inside):
    raw = json.dumps(refusal(code, status, message)).encode()

    with pytest.raises(expected) as caught:
        stream(b"data: " + raw + b"\r\n\r\n") if inside else decode(raw, code)
    assert caught.value.retryable is retryable
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("day", "retryable"), [("GenerateRequestsPerMinutePerProject", True), ("GenerateRequestsPerDayPerProject", False)]
)
def test_the_wait_in_retry_info_is_honoured_unless_the_day_is_used_up(day, retryable):
    quota = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": day}]}
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2.5s"}

    with pytest.raises(errors.RateLimited) as caught:
        decode(refusal(429, "RESOURCE_EXHAUSTED", QUOTA, quota, info), 429)
    assert (caught.value.retry_after, caught.value.retryable) == (2.5, retryable)


@pytest.mark.parametrize(
    "raw", [b"", b"<html>busy</html>", b"[]", b"null", b'{"candidates": 7}', b"{}", b'{"candidates": [7]}', b"\xff", b'{"a": NaN}']
)
def test_a_reply_that_is_none_is_a_bad_reply(raw):
    with pytest.raises(errors.BadReply):
        decode(raw)


@contextmanager
def serving(raw, content_type):
    """Serve the same answer to every request on loopback; yields the base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
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
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def client(url):
    genai = pytest.importorskip("google.genai")
    return genai.Client(api_key="k", vertexai=False, http_options={"base_url": url})


def as_seen_by_the_vendor(replies):
    """Return text, thought and calls of what the vendor's client read, and the signatures beside them."""
    parts = [part for reply in replies for part in reply.candidates[0].content.parts or ()]
    return (
        "".join(part.text for part in parts if part.text and not part.thought),
        "".join(part.text for part in parts if part.text and part.thought),
        [(part.function_call.name, part.function_call.args) for part in parts if part.function_call],
        [base64.b64encode(part.thought_signature).decode() for part in parts if part.thought_signature],
    )


def as_seen_by_us(reply):
    kept = [part.data for part in reply.message.parts if isinstance(part, Opaque)]
    return (
        reply.text,
        "".join(data["text"] for data in kept if data.get("thought")),
        [(call.name, call.arguments) for call in reply.tool_calls],
        [data["thoughtSignature"] for data in kept if "thoughtSignature" in data],
    )


def test_the_vendors_own_client_reads_the_same_from_the_same_bytes():
    with serving(json.dumps(REPLY).encode(), "application/json") as url:
        vendor = client(url)
        theirs = vendor.models.generate_content(model="m", contents="x")

    assert as_seen_by_us(decode(REPLY)) == as_seen_by_the_vendor([theirs])


def test_the_vendors_own_client_reads_the_same_from_the_same_stream():
    raw = streamed(REPLY)

    with serving(raw, "text/event-stream") as url:
        vendor = client(url)
        theirs = list(vendor.models.generate_content_stream(model="m", contents="x"))

    assert as_seen_by_us(stream(raw)[1]) == as_seen_by_the_vendor(theirs)


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
    raw = json.dumps(mutated(data.draw, REPLY)).encode()
    try:
        reply = decode(raw)
    except KINDS:
        return
    assert json.dumps(messages.to_json(reply.message))
    assert codec.encode(Ask([messages.user("x"), reply.message]), PROVIDER).body


@pytest.mark.slow
@settings(max_examples=400)
@given(st.data())
def test_a_mutated_stream_is_the_same_reply_or_error_for_any_split(data):
    events = [json.loads(line[6:]) for line in streamed(REPLY).split(b"\r\n") if line.startswith(b"data: ")]
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
