"""The protocol as pure functions: both handshakes, messages, results, event streams."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.errors import ContractError
from agent_plugins.mcp import wire

MODERN = {
    "resultType": "complete",
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {}},
    "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "s", "version": "1"}},
}
OLD = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}}


def play(*answers, probe=True):
    """Drive a handshake with answers (results, or exceptions to throw in); return (facts, the methods it sent)."""
    dialogue = wire.handshake(probe=probe)
    step, sent, left = next(dialogue), [], list(answers)
    while True:
        sent.append(step.method)
        answer = None if step.notification else left.pop(0)
        try:
            step = dialogue.throw(answer) if isinstance(answer, Exception) else dialogue.send(answer)
        except StopIteration as end:
            assert not left
            return end.value, sent


def test_a_modern_server_is_known_by_one_question():
    facts, sent = play(MODERN)

    assert facts == wire.Facts("2026-07-28", True, True, "s 1")
    assert sent == ["server/discover"]


@pytest.mark.parametrize(
    "answer",
    [wire.RpcError(-32601, "no"), wire.RpcError(-32600, "not initialized"), wire.RpcError(-404, "HTTP 404"), wire.Silence(), {"supportedVersions": ["2025-06-18"]}, {},
     {"supportedVersions": "2026-07-28"}, wire.RpcError(-32022, "no", {"supported": ["2025-11-25"]}), wire.RpcError(-32022, "no", None)],
)  # fmt: skip
def test_any_other_answer_than_a_modern_one_means_the_old_handshake(answer):
    facts, sent = play(answer, OLD)

    assert facts == wire.Facts("2025-11-25", False, True, "s 1")
    assert sent == ["server/discover", "initialize", "notifications/initialized"]


@pytest.mark.parametrize("version", wire.OLD)
def test_every_old_version_that_a_server_prefers_is_spoken(version):
    assert play({**OLD, "protocolVersion": version}, probe=False)[0].version == version


@pytest.mark.parametrize("version", ["2019-01-01", "2026-07-28", "", None, 7, ["2025-11-25"]])
def test_a_version_that_nobody_knows_is_an_error_with_the_known_ones(version):
    with pytest.raises(ContractError) as caught:
        play({**OLD, "protocolVersion": version}, probe=False)

    assert "2025-11-25" in caught.value.hint


def test_a_server_that_speaks_only_later_versions_is_an_error():
    with pytest.raises(ContractError, match="2031-01-01"):
        play(wire.RpcError(-32022, "no", {"supported": ["2031-01-01"]}))


def test_a_server_that_refuses_the_version_and_names_it_is_asked_once_more():
    refusal = wire.RpcError(-32022, "no", {"supported": ["2026-07-28"]})

    assert play(refusal, MODERN)[1] == ["server/discover", "server/discover"]
    assert play(refusal, refusal, OLD)[1][2:] == ["initialize", "notifications/initialized"]


def test_a_slow_modern_server_that_takes_initialize_amiss_is_asked_again():
    facts, sent = play(wire.Silence(), wire.RpcError(-32601, "removed"), MODERN)

    assert facts.modern
    assert sent == ["server/discover", "initialize", "server/discover"]


def test_requests_of_the_modern_era_say_who_asks_and_in_which_version():
    meta = wire.request(3, "tools/list", {"cursor": "x"}, wire.MODERN)["params"]["_meta"]

    assert meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert meta["io.modelcontextprotocol/clientCapabilities"] == {}
    assert wire.request(3, "tools/list", {}, "")["params"] == {}


def test_what_we_send_is_what_the_official_types_accept():
    types = pytest.importorskip("mcp_types._v2026_07_28")
    types.CallToolRequest.model_validate(wire.request(1, "tools/call", {"name": "add", "arguments": {"a": 1}}, wire.MODERN))
    types.DiscoverRequest.model_validate(wire.request(1, "server/discover", {}, wire.MODERN))
    types.ListToolsRequest.model_validate(wire.request(1, "tools/list", {"cursor": "x"}, wire.MODERN))
    older = pytest.importorskip("mcp_types._v2025_11_25")
    older.InitializeRequest.model_validate(wire.request(1, "initialize", dict(next(wire.handshake(probe=False)).params)))


@given(
    st.recursive(
        st.none() | st.booleans() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_a_message_is_one_line_and_comes_back_as_it_was(value):
    data = wire.encode({"jsonrpc": "2.0", "id": 1, "params": {"v": value}})

    assert data.count(b"\n") == 1
    assert wire.messages(data)[0]["params"]["v"] == wire.plain(value)


@given(st.binary(max_size=300))
def test_any_bytes_are_messages_or_a_value_error(data):
    with suppress(ValueError):
        assert all(isinstance(each, dict) for each in wire.messages(data))


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"1", b'{"jsonrpc": "1.0"}', b"[" * 200_000, b'{"jsonrpc":"2.0","id":NaN}', b'{"a":' * 100_000]
)
def test_what_is_no_message_is_a_value_error(data):
    with pytest.raises(ValueError):  # noqa: PT011
        wire.messages(data)


def test_lone_surrogates_do_not_get_in():
    found = wire.messages(rb'{"jsonrpc":"2.0","id":1,"result":{"\ud800":["a\udfff\u00e9"]}}')[0]

    assert found["result"] == {"\ufffd": ["a\ufffdé"]}


@pytest.mark.parametrize(
    ("message", "number"),
    [
        ({"id": 1}, 1),
        ({"id": True}, None),
        ({"id": "1"}, None),
        ({"id": 1.0}, None),
        ({"id": 1, "method": "ping"}, None),
        ({}, None),
    ],
)
def test_only_whole_numbers_answer_our_requests(message, number):
    assert wire.answered(message) == number


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"result": 3},
        {"error": "no"},
        {"error": {}},
        {"result": {}, "error": {"code": "x"}},
        {"error": {"code": True, "message": None}},
    ],
)
def test_an_answer_without_a_proper_result_is_an_error(message):
    assert isinstance(wire.outcome(message), wire.RpcError)


def test_a_ping_is_answered_and_everything_else_politely_refused():
    assert wire.reply({"id": "a", "method": "ping"})["result"] == {}
    assert wire.reply({"id": 0, "method": "sampling/createMessage"})["error"]["code"] == -32601
    assert wire.reply({"method": "notifications/message"}) is None
    assert wire.reply({"id": None, "method": "ping"}) is None


def text(*words):
    return [{"type": "text", "text": word} for word in words]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"content": text("5")}, ("5", None)),
        ({"content": text("a", "b")}, ("a\nb", None)),
        ({"content": text("5"), "structuredContent": {"result": 5}}, ("5", 5)),
        ({"content": text("five"), "structuredContent": {"result": "five"}}, ("five", "five")),
        ({"content": text('{"x":1}'), "structuredContent": {"x": 1}}, ('{"x":1}', {"x": 1})),
        ({"content": text("i0", "i1"), "structuredContent": {"result": ["i0", "i1"]}}, ("i0\ni1", ["i0", "i1"])),
        ({"content": text("i0"), "structuredContent": {"result": ["i0"]}}, ("i0", ["i0"])),
        ({"content": text("found 2"), "structuredContent": {"rows": [1, 2]}}, ('found 2\n{"rows": [1, 2]}', None)),
        ({"content": [], "structuredContent": [1]}, ("[1]", [1])),
        ({"structuredContent": [1]}, ("[1]", [1])),
        ({}, ("", None)),
        ({"content": "text"}, ("", None)),
        ({"content": [None, 3, {"type": "text", "text": None}]}, ("[text: not shown]", None)),
        ({"content": [{"type": "image", "data": "aGVsbG8=", "mimeType": "image/png"}]}, ("[image: image/png, 5 bytes, not shown]", None)),
        ({"content": [{"type": "resource_link", "uri": "file:///x\n\x1b[2J", "mimeType": "text/plain"}]}, ("[resource: file:///x \x1b[2J text/plain]", None)),
        ({"content": [{"type": "resource", "resource": {"uri": "demo://1", "text": "hi"}}]}, ("[resource: demo://1]\nhi", None)),
        ({"content": [{"type": "resource", "resource": {"uri": "demo://1", "blob": "aGk=", "mimeType": "a/b"}}]}, ("[resource: demo://1 a/b, 2 bytes, not shown]", None)),
        ({"content": [{"type": "resource", "resource": None}]}, ("[resource: unknown unknown, 0 bytes, not shown]", None)),
        ({"content": [{"type": "hologram"}]}, ("[hologram: not shown]", None)),
    ],
)  # fmt: skip
def test_a_result_is_text_and_what_is_none_is_named(found, expected):
    result = wire.result(found)

    assert (result.text, result.value) == expected
    assert not result.failed


def test_a_failed_call_is_marked_whatever_it_holds():
    result = wire.result({"content": text("boom"), "structuredContent": {"x": 1}, "isError": True})

    assert result == wire.Result("boom", None, True)
    assert not wire.result({"content": text("x"), "isError": "yes"}).failed


STREAM = b': hi\r\nid: 1\r\nevent: message\r\ndata: {"a"\r\ndata: :1}\r\n\r\nretry: 20\ndata:x\n\nid: 2\rdata: y\r\r'


@given(st.lists(st.integers(1, 30), max_size=40))
def test_an_event_stream_reads_the_same_however_it_is_cut(cuts):
    events, found, rest = wire.Events(), [], STREAM
    for size in cuts:
        found += events.feed(rest[:size])
        rest = rest[size:]
    found += events.feed(rest)

    assert found == [b'{"a"\n:1}', b"x", b"y"]
    assert (events.last, events.retry) == ("2", 0.02)


def test_an_endless_event_is_a_value_error():
    events = wire.Events()
    for _ in range(wire.LARGEST // 1_000_000):
        assert list(events.feed(b"data: " + b"x" * 1_000_000 + b"\n")) == []

    with pytest.raises(ValueError, match="large"):
        list(events.feed(b"data: " + b"x" * 1_000_000 + b"\n"))


def test_an_endless_line_is_a_value_error():
    events = wire.Events()
    for _ in range(wire.LARGEST // 1_000_000):
        assert list(events.feed(b"x" * 1_000_000)) == []

    with pytest.raises(ValueError, match="large"):
        list(events.feed(b"x" * 1_000_000))


def test_the_json_of_a_result_needs_no_more_than_json():
    assert json.loads(wire.result({"structuredContent": {"ü": [1, None]}}).text) == {"ü": [1, None]}
