"""What must hold for reading hostile bytes: every outcome is a value or a ProviderError kind."""

from __future__ import annotations

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.errors import (
    AgentError,
    AuthError,
    BadReply,
    BadRequest,
    CallTimeout,
    ConfigError,
    ContextLength,
    InputError,
    ProviderError,
    RateLimited,
    ServerError,
    UnknownModel,
)
from agent_core.messages import ToolCall
from agent_core.ops import Response
from agent_core.provider import Provider
from agent_providers import wire

PROVIDER = Provider(
    "acme", "m", base_url="https://acme.example/v1", key="sk-very-secret", extra={"secret_access_key": "aws-secret-1"}
)


def failure(status, body=b"", headers=None, **more):
    """Return the error that `fail` raises."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(AgentError) as caught:
        wire.fail(Response(status, headers or {}, body), PROVIDER, **more)
    return caught.value


# --- parse, get, arguments


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"null", b"[]", b'"x"', b"1", b"{", b'{"a":1', b"<html>no</html>", b"\xff\xfe{}", b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e999}', b'{"a":-Infinity}', b'{"a":' + b"9" * 5000 + b"}", b'{"a":' + b"[" * 20000 + b"]" * 20000 + b"}",
        b'{"a":' * 500 + b"1" + b"}" * 500, b'{"a":1}{"b":2}', b"{'a':1}", b"\x00", b'{"a":"\x01"}',
    ],
)  # fmt: skip
def test_whatever_is_not_one_json_object_is_a_bad_reply_in_one_short_line(body):
    with pytest.raises(BadReply) as caught:
        wire.parse(body)

    assert "\n" not in caught.value.line()
    assert len(caught.value.line()) < 400


def test_an_object_is_returned_also_behind_a_byte_order_mark():
    assert wire.parse(b'\xef\xbb\xbf{"a":[1,2.5,"\xc3\xa9"]}') == {"a": [1, 2.5, "é"]}


def test_half_a_surrogate_pair_is_replaced_in_a_whole_body_and_kept_in_an_event():
    assert wire.parse(b'{"a":["\\ud83d","\\ud83d\\ude00"]}') == {"a": ["\ufffd", "😀"]}
    assert wire.parse('{"a":"\\ud83d"}') == {"a": "\ud83d"}


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_parse_returns_an_object_or_raises_bad_reply(body):
    with contextlib.suppress(BadReply):
        assert isinstance(wire.parse(body), dict)


def test_get_reads_a_path_and_refuses_the_wrong_type():
    data = {"a": [{"b": "x", "n": 1, "t": True, "z": None}]}

    assert wire.get(data, "a.0.b", str) == "x"
    assert wire.get(data, "a.0.n", float) == 1
    assert wire.get(data, "a.0.z", str, "none") == "none"
    assert wire.get(data, "a.7.b", str, "none") == "none"
    for path, kind in (("a.0.b", int), ("a.0.t", int), ("a.0.t", float), ("a.b", str), ("a.0.b.c", str), ("missing", str)):
        with pytest.raises(BadReply, match=path.split(".")[0]):
            wire.get(data, path, kind)


@pytest.mark.parametrize(
    ("value", "want"), [(3, 3), (3.0, 3), (0, 0), (-1, None), (2.5, None), ("3", None), (None, None), (True, None), ([], None)]
)
def test_a_count_of_tokens_is_a_whole_number_or_unknown(value, want):
    assert wire.tokens({"u": {"n": value}}, "u.n") == want
    assert wire.tokens({"u": value}, "u.n.x") is None


@pytest.mark.parametrize(
    ("raw", "want"), [("", {}), (None, {}), ("  ", {}), ("{}", {}), ('{"a":1}', {"a": 1}), ({"a": 1}, {"a": 1})]
)
def test_arguments_that_are_an_object_have_no_problem(raw, want):
    assert wire.arguments(raw) == (want, "")


@pytest.mark.parametrize(
    "raw", ["{", "[]", "1", "null", '"x"', "NaN", '{"a":NaN}', "[" * 9999, "9" * 9999, [], 3, True, '{"a":1} trailing']
)
def test_other_arguments_are_told_to_the_model_not_raised(raw):
    found, problem = wire.arguments(raw)

    assert found == {}
    assert problem.startswith("the arguments ")


@given(st.text())
def test_arguments_never_raise(raw):
    found, problem = wire.arguments(raw)

    assert isinstance(found, dict)
    assert not (found and problem)


# --- fail


OPENAI = {"error": {"message": "it broke", "type": "server_error", "param": None, "code": None}}


@pytest.mark.parametrize(
    ("status", "body", "kind", "retryable"),
    [
        (400, OPENAI, BadRequest, False),
        (401, {"error": {"message": "bad key", "code": "invalid_api_key"}}, AuthError, False),
        (402, {"error": {"code": 402, "message": "add credits"}}, RateLimited, False),
        (403, OPENAI, AuthError, False),
        (403, {"error": {"code": 403, "message": "flagged by moderation", "metadata": {}}}, BadRequest, False),
        (404, {"error": {"message": "The model `x` does not exist", "code": "model_not_found"}}, UnknownModel, False),
        (404, {"error": {"code": "DeploymentNotFound", "message": "no"}}, UnknownModel, False),
        (404, b"<html><title>Not Found</title>", BadRequest, False),
        (405, b"", BadRequest, False),
        (408, OPENAI, CallTimeout, True),
        (409, OPENAI, RateLimited, True),
        (413, b"<html>too large", ContextLength, False),
        (422, {"detail": [{"msg": "extra field"}]}, BadRequest, False),
        (425, b"", RateLimited, True),
        (429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, RateLimited, True),
        (429, {"error": {"message": "plan", "type": "x", "code": "insufficient_quota"}}, RateLimited, False),
        (429, {"error": {"message": "quota", "type": "insufficient_quota", "code": None}}, RateLimited, False),
        (429, {"error": {"code": 429, "message": "exceeded your quota", "status": "RESOURCE_EXHAUSTED"}}, RateLimited, True),
        (400, {"error": {"message": "too long", "code": "context_length_exceeded"}}, ContextLength, False),
        (400, {"error": {"code": 400, "message": "x", "type": "exceed_context_size_error"}}, ContextLength, False),
        (400, {"error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}}, ContextLength, False),
        (400, {"error": {"type": "invalid_request_error", "message": "credit balance is too low"}}, RateLimited, False),
        (400, {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "API key not valid."}}, AuthError, False),
        (400, {"error": {"code": 400, "message": "x/y is not a valid model ID"}}, UnknownModel, False),
        (500, b"", ServerError, True),
        (503, b"<html><title>503 Busy</title></html>", ServerError, True),
        (504, b"gateway", CallTimeout, True),
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, ServerError, True),
        (302, b"", BadReply, False),
        (200, {"error": {"code": 502, "message": "upstream"}}, ServerError, True),
        (200, {"error": {"code": "429", "message": "slow"}}, RateLimited, True),
        (200, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, ServerError, True),
        (200, {"error": {"type": "rate_limit_error", "message": "x"}}, RateLimited, True),
        (200, {"error": {"type": "authentication_error", "message": "x"}}, AuthError, False),
        (200, {"error": {"type": "invalid_request_error", "message": "x"}}, BadRequest, False),
        (200, {"error": "something went wrong"}, ServerError, True),
    ],
)  # fmt: skip
def test_a_failure_has_the_kind_that_its_status_and_code_stand_for(status, body, kind, retryable):
    error = failure(status, body)

    assert type(error) is kind
    assert error.retryable is retryable


def test_the_message_names_the_service_and_the_status_and_what_it_said():
    error = failure(500, OPENAI)

    assert str(error) == "acme answered 500: it broke"
    assert error.http_status == 500
    assert error.hint


def test_no_secret_and_no_control_character_of_an_error_body_gets_through():
    error = failure(
        401, {"error": {"message": "no sk-very-secret, aws-secret-1\x1b[31m\n\u202e" + "x" * 5000, "code": "sk-very-secret"}}
    )

    assert "secret" not in error.line() + error.cause
    assert str(error).isprintable()
    assert len(str(error)) < 350


@pytest.mark.parametrize(
    ("headers", "want"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "2", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:30 GMT", "date": "Sat, 21 Nov 2026 10:00:00 GMT"}, 30.0),
        ({"retry-after": "Sat, 21 Nov 2026 09:00:00 GMT", "date": "Sat, 21 Nov 2026 10:00:00 GMT"}, 0.0),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:30 GMT"}, None),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:30", "date": "Sat, 21 Nov 2026 10:00:00 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "soon", "date": "now"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_every_form_and_rubbish_is_ignored(headers, want):
    assert failure(429, b"", headers).retry_after == want


def test_x_should_retry_wins_but_cannot_make_a_refused_request_right():
    assert failure(500, b"", {"x-should-retry": "false"}).retryable is False
    assert failure(418, b"", {"x-should-retry": "true"}).retryable is True
    assert failure(401, b"", {"x-should-retry": "true"}).retryable is False


def test_what_the_codec_found_itself_wins():
    error = failure(400, b"{}", {}, message="said", code="ThrottlingException", retry_after=7)

    assert (str(error), error.retry_after, error.cause) == ("acme answered 400: said", 7, "ThrottlingException")


@given(st.integers(200, 599), st.binary(max_size=300))
def test_fail_always_raises_a_documented_kind(status, body):
    assert isinstance(failure(status, body), ProviderError | ContextLength)


# --- streams

STREAM = (
    "data: one\r\n\r\nevent: e\ndata: tw\ndata: ö😀\n\n: comment\nid: 3\nretry: 1\ndata:three\r\rdata\n\nevent: lost\n\ndata: last"
).encode()
WANT = [("", "one"), ("e", "tw\nö😀"), ("", "three"), ("", ""), ("", "last")]


def cut(data, places):
    """Cut `data` at the places."""
    places = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@given(st.lists(st.integers(0, 10_000), max_size=20))
def test_events_are_the_same_however_the_bytes_are_split(places):
    events = wire.Events()

    assert [event for piece in cut(STREAM, places) for event in events.feed(piece)] + events.finish() == WANT


def test_events_are_the_same_byte_by_byte():
    events = wire.Events()

    assert [event for byte in STREAM for event in events.feed(bytes([byte]))] + events.finish() == WANT


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_lines_of_rubbish_are_the_same_however_split_or_a_bad_reply(data, places):
    def read(pieces):
        lines = wire.Lines()
        try:
            return [line for piece in pieces for line in lines.feed(piece)] + lines.finish()
        except BadReply:
            return None

    assert read(cut(data, places)) == read([data])


def test_a_byte_order_mark_is_dropped_only_at_the_start():
    lines = wire.Lines()

    assert lines.feed("\ufeffa\n\ufeffb\n".encode()) == ["a", "\ufeffb"]


def test_an_endless_line_and_an_endless_event_are_bad_replies_not_memory():
    lines, events = wire.Lines(), wire.Events()

    def flood(feed, piece):
        for _ in range(200):
            feed(piece)

    with pytest.raises(BadReply, match="line"):
        flood(lines.feed, b"x" * 65536)
    with pytest.raises(BadReply, match="event"):
        flood(events.feed, b"data: " + b"x" * 65536 + b"\n")


def test_a_line_that_drips_in_takes_linear_time():
    lines, start = wire.Lines(), time.perf_counter()
    for _ in range(200_000):
        lines.feed(b"x")

    assert lines.feed(b"\n") == ["x" * 200_000]
    assert time.perf_counter() - start < 5


@given(st.lists(st.integers(0, 100), max_size=8))
def test_a_body_is_whole_or_a_stream_however_it_is_split(places):
    whole, stream = wire.Body(), wire.Body()

    assert not [event for piece in cut(b'\xef\xbb\xbf \n{"a":1}', places) for event in whole.feed(piece)] + whole.finish()
    assert whole.whole == b'\xef\xbb\xbf \n{"a":1}'
    assert [e for piece in cut(b"\xef\xbb\xbf\n\ndata: x\n\n", places) for e in stream.feed(piece)] + stream.finish() == [("", "x")]
    assert stream.whole is None


def test_a_pair_split_between_two_fragments_is_shown_when_it_is_whole():
    pieces = wire.Pieces()

    assert [pieces.add(piece) for piece in ("a\ud83d", "\ude00b", "\ud83d")] == ["a", "😀b", ""]
    assert pieces.text == "a😀b\ufffd"
    assert wire.joined(["\ud83d", "\ude00"]) == "😀"


# --- out


def test_dumps_is_compact_utf_8_whatever_the_text():
    assert wire.dumps({"a": ["ö", 1.5, None]}) == '{"a":["ö",1.5,null]}'.encode()
    assert json.loads(wire.dumps("\ud800x\ud83d\ude00")) == "\ufffdx😀"


@given(st.text(st.characters()))
def test_dumps_round_trips_text_that_can_be_encoded(text):
    assert json.loads(wire.dumps(text)) == wire.scrub(text)


def test_dumps_refuses_what_is_no_json_as_an_input_error():
    loop: list[object] = []
    loop.append(loop)
    for value in (float("nan"), loop, object()):
        with pytest.raises(InputError):
            wire.dumps(value)


def test_fields_joins_what_is_encoded_already():
    assert json.loads(wire.fields([("a", b"1"), ("b", b"[2]")])) == {"a": 1, "b": [2]}
    assert wire.fields([]) == b"{}"


@pytest.mark.parametrize("value", ["a\r\nx: y", "schlüssel", "a\0", "\x7f"])
def test_a_key_that_cannot_be_a_header_is_a_configuration_error_without_the_key(value):
    with pytest.raises(ConfigError) as caught:
        wire.header_value(value, "the key")

    assert value not in caught.value.line()


def test_every_call_gets_an_id_of_its_own():
    calls = [ToolCall(id_, "t", {}) for id_ in ("", "a", "a", "", "call_x_2")]

    ids = [call.id for call in wire.distinct(calls, "x")]
    assert len(set(ids)) == 5
    assert ids[1] == "a"
