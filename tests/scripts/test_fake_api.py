"""The fake API is judged by the vendors' own SDKs, and by what arrives on bare sockets."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import FakeApi

CALLS = [{"name": "add", "arguments": {"a": 1, "b": "zwei"}}, {"name": "now", "arguments": {}}]
WANTED = [("add", {"a": 1, "b": "zwei"}), ("now", {})]
TEXT = "Grüße, 世界: one two three"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}
FUNCTIONS = [{"type": "function", "function": {"name": name, "description": name, "parameters": SCHEMA}} for name in ("add", "now")]


def loads(text: str) -> Any:
    return json.loads(text or "{}")


# --- vendor SDKs as judges: each returns (text, [(name, arguments)]) for a plain and for a streamed request


def ask_openai_chat(url: str, stream: bool) -> tuple[str, list[tuple[str, Any]]]:
    import openai

    with openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
        asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": FUNCTIONS}
        if stream:
            with client.chat.completions.stream(**asked) as events:
                message = events.get_final_completion().choices[0].message
        else:
            message = client.chat.completions.create(**asked).choices[0].message
    return message.content or "", [(call.function.name, loads(call.function.arguments)) for call in message.tool_calls or []]


def ask_openai_responses(url: str, stream: bool) -> tuple[str, list[tuple[str, Any]]]:
    import openai

    tools = [{"type": "function", "strict": False, **tool["function"]} for tool in FUNCTIONS]
    with openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
        if stream:
            with client.responses.stream(model="m", input="hi", tools=tools) as events:
                reply = events.get_final_response()
        else:
            reply = client.responses.create(model="m", input="hi", tools=tools)
    return reply.output_text, [(item.name, loads(item.arguments)) for item in reply.output if item.type == "function_call"]


def ask_anthropic(url: str, stream: bool) -> tuple[str, list[tuple[str, Any]]]:
    import anthropic

    tools = [{"name": name, "description": name, "input_schema": SCHEMA} for name in ("add", "now")]
    with anthropic.Anthropic(base_url=url, api_key="k", max_retries=0) as client:
        asked: dict[str, Any] = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}], "tools": tools}
        if stream:
            with client.messages.stream(**asked) as events:
                message = events.get_final_message()
        else:
            message = client.messages.create(**asked)
    text = "".join(block.text for block in message.content if block.type == "text")
    return text, [(block.name, block.input) for block in message.content if block.type == "tool_use"]


def ask_gemini(url: str, stream: bool) -> tuple[str, list[tuple[str, Any]]]:
    from google import genai

    client = genai.Client(api_key="k", http_options={"base_url": url})
    replies = client.models.generate_content_stream if stream else lambda **asked: [client.models.generate_content(**asked)]
    parts = [part for reply in replies(model="m", contents="hi") for part in reply.candidates[0].content.parts or []]
    calls = [(part.function_call.name, part.function_call.args) for part in parts if part.function_call]
    return "".join(part.text or "" for part in parts if not part.thought), calls


def ask_bedrock(url: str, stream: bool) -> tuple[str, list[tuple[str, Any]]]:
    import botocore.session

    session = botocore.session.get_session()
    session.set_credentials("AKIDEXAMPLE", "secret")
    client = session.create_client("bedrock-runtime", region_name="us-east-1", endpoint_url=url)
    asked = {"modelId": "vendor.model-v1:0", "messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    if not stream:
        content = client.converse(**asked)["output"]["message"]["content"]
        return "".join(block.get("text", "") for block in content), [
            (block["toolUse"]["name"], block["toolUse"]["input"]) for block in content if "toolUse" in block
        ]
    text, calls = "", []
    for event in client.converse_stream(**asked)["stream"]:
        if "contentBlockStart" in event:
            calls.append([event["contentBlockStart"]["start"]["toolUse"]["name"], ""])
        delta = event.get("contentBlockDelta", {}).get("delta", {})
        text += delta.get("text", "")
        if "toolUse" in delta:
            calls[-1][1] += delta["toolUse"]["input"]
    return text, [(name, loads(arguments)) for name, arguments in calls]


def ask_ollama(url: str, stream: bool) -> tuple[str, list[tuple[str, Any]]]:
    import ollama

    got = ollama.Client(host=url).chat("m", [{"role": "user", "content": "hi"}], tools=FUNCTIONS, stream=stream)
    replies = list(got) if stream else [got]
    assert replies[-1].done_reason == "stop"
    calls = [(call.function.name, call.function.arguments) for reply in replies for call in reply.message.tool_calls or []]
    return "".join(reply.message.content or "" for reply in replies), calls


def ask_cohere(url: str, stream: bool) -> tuple[str, list[tuple[str, Any]]]:
    cohere = pytest.importorskip("cohere")

    client = cohere.ClientV2(api_key="k", base_url=url)
    asked: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": FUNCTIONS}
    if not stream:
        message = client.chat(**asked).message
        calls = [(call.function.name, loads(call.function.arguments)) for call in message.tool_calls or []]
        return "".join(part.text for part in message.content or []), calls
    text, names, arguments = "", [], []
    for event in client.chat_stream(**asked):
        match event.type:
            case "content-delta":
                text += event.delta.message.content.text
            case "tool-call-start":
                names.append(event.delta.message.tool_calls.function.name)
                arguments.append("")
            case "tool-call-delta":
                arguments[-1] += event.delta.message.tool_calls.function.arguments
    return text, [(name, loads(argument)) for name, argument in zip(names, arguments, strict=True)]


SDKS = [ask_openai_chat, ask_openai_responses, ask_anthropic, ask_gemini, ask_bedrock, ask_ollama, ask_cohere]
each_sdk = pytest.mark.parametrize("ask", SDKS, ids=lambda ask: ask.__name__.removeprefix("ask_"))
plain_and_streamed = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@each_sdk
@plain_and_streamed
def test_the_vendors_sdk_reads_text(fake_api: FakeApi, ask: Any, stream: bool):
    fake_api.script(TEXT)
    assert ask(fake_api.url, stream) == (TEXT, [])


@each_sdk
@plain_and_streamed
def test_the_vendors_sdk_reads_two_tool_calls(fake_api: FakeApi, ask: Any, stream: bool):
    fake_api.script({"tool_calls": CALLS})
    assert ask(fake_api.url, stream) == ("", WANTED)


@each_sdk
@plain_and_streamed
def test_the_vendors_sdk_reads_a_thought_before_the_text(fake_api: FakeApi, ask: Any, stream: bool):
    if ask is ask_cohere:
        pytest.skip("judged by the codec's own tests")
    fake_api.script({"thought": "let me think", "text": "done"})
    assert ask(fake_api.url, stream) == ("done", [])


@pytest.mark.parametrize(
    ("spec", "openai_class", "anthropic_class"),
    [
        ("401", "AuthenticationError", "AuthenticationError"),
        ("403", "PermissionDeniedError", "PermissionDeniedError"),
        ("404", "NotFoundError", "NotFoundError"),
        ("429:1", "RateLimitError", "RateLimitError"),
        ("500", "InternalServerError", "InternalServerError"),
        ("529", "InternalServerError", "OverloadedError"),
        ("context", "BadRequestError", "BadRequestError"),
        ("close", "APIConnectionError", "APIConnectionError"),
        ("reset", "APIConnectionError", "APIConnectionError"),
    ],
)
def test_the_vendors_sdks_name_the_errors(fake_api: FakeApi, spec: str, openai_class: str, anthropic_class: str):
    import anthropic
    import openai

    fake_api.fault(spec)
    with pytest.raises(openai.OpenAIError) as chat:
        ask_openai_chat(fake_api.url, stream=False)
    with pytest.raises(anthropic.AnthropicError) as messages:
        ask_anthropic(fake_api.url, stream=False)
    assert (type(chat.value).__name__, type(messages.value).__name__) == (openai_class, anthropic_class)


def test_botocore_names_a_throttling(fake_api: FakeApi):
    import botocore.exceptions

    fake_api.fault("429")
    with pytest.raises(botocore.exceptions.ClientError) as raised:
        ask_bedrock(fake_api.url, stream=False)
    assert raised.value.response["Error"]["Code"] == "ThrottlingException"


def test_botocore_sees_a_broken_eventstream_checksum_and_an_exception_event(fake_api: FakeApi):
    import botocore.eventstream
    import botocore.exceptions

    fake_api.fault("bad-event")
    with pytest.raises(botocore.eventstream.ChecksumMismatch):
        ask_bedrock(fake_api.url, stream=True)
    fake_api.fault("stream-error")
    with pytest.raises(botocore.exceptions.EventStreamError):
        ask_bedrock(fake_api.url, stream=True)


# --- the server itself, on bare connections


def post(api: FakeApi, body: Any, *, path: str = "/v1/chat/completions", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=5)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), sent)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def chat(text: str, *more: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}, *more], **fields}


def text_of(body: bytes) -> Any:
    return json.loads(body)["choices"][0]["message"]["content"]


@pytest.fixture
def wire(fake_api: FakeApi) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", fake_api.port), timeout=5) as connection:
        yield connection


def test_without_a_script_it_echoes_and_makes_the_call_that_the_user_spells_out(fake_api: FakeApi):
    assert text_of(post(fake_api, chat("hello"))[2]) == "hello"
    body = json.loads(post(fake_api, chat('please call add {"a": 1, "b": {"c": "}"}} now', tools=FUNCTIONS))[2])
    function = body["choices"][0]["message"]["tool_calls"][0]["function"]
    assert (function["name"], json.loads(function["arguments"])) == ("add", {"a": 1, "b": {"c": "}"}})
    assert text_of(post(fake_api, chat('call unknown {"a": 1}', tools=FUNCTIONS))[2]) == 'call unknown {"a": 1}'


def test_each_conversation_goes_through_the_script_by_itself(fake_api: FakeApi):
    fake_api.script("one", "two")
    heard = [text_of(post(fake_api, chat(text))[2]) for text in ("a", "b", "a", "b")]
    assert heard == ["one", "one", "two", "two"]
    named = [text_of(post(fake_api, chat(text), x_conversation="x")[2]) for text in ("a", "b")]
    assert named == ["one", "two"]


def test_the_end_of_a_script_is_an_error_unless_it_loops(fake_api: FakeApi):
    reply = {"role": "assistant", "content": "one"}
    fake_api.script("one")
    assert post(fake_api, chat("a"))[0] == 200
    assert post(fake_api, chat("a", reply))[0] == 400
    fake_api.script("one", {"text": "more", "loop": True})
    assert [text_of(post(fake_api, chat("a", reply))[2]) for _ in range(3)] == ["one", "more", "more"]
    fake_api.script("one", "two", {"loop": True})
    assert [text_of(post(fake_api, chat("a", reply))[2]) for _ in range(3)] == ["one", "two", "one"]


def test_a_fault_heals_after_as_many_times_as_it_says(fake_api: FakeApi):
    fake_api.fault("503*2")
    assert [post(fake_api, chat("a"))[0] for _ in range(4)] == [503, 503, 200, 200]
    fake_api.fault("")
    fake_api.script({"fault": "500", "times": 2}, "well")
    assert [post(fake_api, chat("a"))[0] for _ in range(3)] == [500, 500, 200]


def test_a_header_or_the_models_name_may_ask_for_a_fault(fake_api: FakeApi):
    assert post(fake_api, chat("a"), x_fault="402")[0] == 402
    assert post(fake_api, {**chat("a"), "model": "fault:529"})[0] == 529
    assert post(fake_api, {**chat("a"), "model": "no-such-model"})[0] == 404


def test_retry_after_comes_in_every_form(fake_api: FakeApi):
    assert post(fake_api, chat("a"), x_fault="429:7")[1]["retry-after"] == "7"
    assert post(fake_api, chat("a"), x_fault="429-ms:30")[1]["retry-after-ms"] == "30"
    assert post(fake_api, chat("a"), x_fault="429-date:9")[1]["retry-after"].endswith("GMT")
    gemini = {"contents": [{"role": "user", "parts": [{"text": "a"}]}]}
    status, headers, body = post(fake_api, gemini, path="/v1beta/models/m:generateContent", x_fault="429-info:3")
    assert (status, "retry-after" in headers, json.loads(body)["error"]["details"][0]["retryDelay"]) == (429, False, "3s")


def test_it_records_what_was_sent(fake_api: FakeApi):
    post(fake_api, chat("hello"), authorization="Bearer k")
    (seen,) = fake_api.requests()
    assert (seen["method"], seen["path"], seen["body"], seen["headers"]["authorization"]) == (
        "POST", "/v1/chat/completions", chat("hello"), "Bearer k",
    )  # fmt: skip
    fake_api.reset()
    assert fake_api.requests() == []


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [{"id": "c1"}]}, {"role": "user", "content": "b"}],
        [{"role": "user", "content": "a"}, {"role": "tool", "tool_call_id": "c9", "content": "b"}],
        [],
    ],
    ids=["call without result", "result without call", "no messages"],
)
def test_it_refuses_what_the_vendor_would_refuse(fake_api: FakeApi, messages: list[Any]):
    assert post(fake_api, {"model": "m", "messages": messages})[0] == 400


def test_hostile_bodies_are_refused_and_the_server_lives(fake_api: FakeApi):
    for body in (
        b"",
        b"{",
        b"[1]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"messages": 7, "model": {}}',
        b'{"model":"m","messages":[7,{"role":[]}]}',
    ):
        assert post(fake_api, body)[0] == 400, body[:40]
    assert post(fake_api, chat("still there"))[0] == 200


def test_a_connection_is_kept_and_pipelined_requests_are_answered_in_order(wire: socket.socket):
    sent = b""
    for text in ("one", "two", "three"):
        body = json.dumps(chat(text)).encode()
        sent += b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    for start in range(0, len(sent), 7):
        wire.sendall(sent[start : start + 7])
    got = b""
    while got.count(b"HTTP/1.1 200 OK") < 3 or not got.endswith(b"}"):
        got += wire.recv(65536)
    assert [got.index(word) for word in (b'"one"', b'"two"', b'"three"')] == sorted(
        got.index(w) for w in (b'"one"', b'"two"', b'"three"')
    )


def test_a_chunked_request_body_is_read(wire: socket.socket):
    body = json.dumps(chat("in pieces")).encode()
    wire.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    for start in range(0, len(body), 9):
        piece = body[start : start + 9]
        wire.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
    wire.sendall(b"0\r\n\r\n")
    assert b"in pieces" in wire.recv(65536)


def test_connection_faults_are_what_they_say(fake_api: FakeApi):
    with pytest.raises(ConnectionResetError):
        post(fake_api, chat("a"), x_fault="reset")
    with pytest.raises(http.client.RemoteDisconnected):
        post(fake_api, chat("a"), x_fault="close")
    with pytest.raises(http.client.IncompleteRead):
        post(fake_api, chat("a"), x_fault="long-length")
    with pytest.raises(http.client.IncompleteRead):
        post(fake_api, chat("a", stream=True), x_fault="abort")
    with pytest.raises(http.client.BadStatusLine):
        post(fake_api, chat("a"), x_fault="not-http")


def test_a_hang_gives_nothing_and_a_drip_gives_everything_slowly(fake_api: FakeApi, wire: socket.socket):
    body = json.dumps({**chat("a"), "model": "fault:hang"}).encode()
    wire.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    wire.settimeout(0.3)
    with pytest.raises(TimeoutError):
        wire.recv(1)
    began = time.monotonic()
    assert text_of(post(fake_api, chat("slow"), x_fault="drip:1")[2]) == "slow"
    assert time.monotonic() - began > 0.3


def test_big_bodies_are_as_big_as_they_say(fake_api: FakeApi):
    assert len(post(fake_api, chat("a"), x_fault="huge:5")[2]) >= 5 * 2**20
    packed = post(fake_api, chat("a"), x_fault="gzip-bomb:20")[2]
    assert len(packed) < 2**20 < 20 * 2**20 == len(gzip.decompress(packed))


def test_every_fault_answers_on_every_wire(fake_api: FakeApi):
    """No fault may end in a crash of the server: each gives bytes, or an end, for plain and streamed requests alike."""
    user = {"role": "user", "content": "a"}
    wires: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {"messages": [user]}, "/v1/responses": {"input": "a"},
        "/v1/messages": {"messages": [user], "max_tokens": 9},
        "/v1/models/m:generateContent": {"contents": [{"parts": [{"text": "a"}]}]}, "/api/chat": {"messages": [user]},
        "/v1/models/m:streamGenerateContent?alt=sse": {"contents": [{"parts": [{"text": "a"}]}]}, "/v2/chat": {"messages": [user]},
        "/model/m/converse": {"messages": [{"role": "user", "content": [{"text": "a"}]}]},
        "/model/m/converse-stream": {"messages": [{"role": "user", "content": [{"text": "a"}]}]},
    }  # fmt: skip
    silent = {"hang", "hang-body", "endless", "late", "drip", "drip-head", "gzip-bomb", "huge", "long-line", "split"}
    for name in sorted(fake_api.call("GET", "/_faults").keys() - silent):
        for path, body in wires.items():
            for stream in (False, True):
                try:
                    answer = post(
                        fake_api, {"model": "m", "stream": stream, **body}, path=path, x_fault=name, anthropic_version="2023-06-01"
                    )
                except (ConnectionError, http.client.HTTPException):
                    continue
                assert answer[0] in (200, 302, 400, 401, 402, 403, 429, 500), (name, path, answer)
    assert post(fake_api, chat("still there"))[0] == 200


def test_a_key_may_be_demanded(start_fake_api: Callable[..., FakeApi]):
    api = start_fake_api("--key", "right")
    assert post(api, chat("a"), authorization="Bearer wrong")[0] == 401
    assert post(api, chat("a"), authorization="Bearer right")[0] == 200


def test_quick_mode_gives_the_scripts_replies_by_the_length_of_the_talk(start_fake_api: Callable[..., FakeApi], tmp_path: Path):
    script = tmp_path / "script.jsonl"
    script.write_text('{"tool_calls": [{"name": "f", "arguments": {}}], "times": 2}\n"done"\n')
    api = start_fake_api("--quick", "--script", str(script))
    call, result = {"role": "assistant", "content": None}, {"role": "tool", "tool_call_id": "x", "content": "y"}
    replies = [json.loads(post(api, chat("a", *[call, result] * n))[2])["choices"][0] for n in range(4)]
    assert [reply["finish_reason"] for reply in replies] == ["tool_calls", "tool_calls", "stop", "stop"]
    assert b"data: [DONE]" in post(api, chat("a", stream=True))[2]


def test_sigterm_stops_it_at_once_even_with_a_hanging_client(start_fake_api: Callable[..., FakeApi]):
    api = start_fake_api("--fault", "hang")
    with socket.create_connection(("127.0.0.1", api.port)) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
        began = time.monotonic()
        api.process.terminate()
        assert api.process.wait(5) == 0
        assert time.monotonic() - began < 1


@pytest.mark.parametrize("args", [["--fault", "nonsense"], ["--script", "no/such/file"], ["--port", "x"]])
def test_a_wrong_command_line_is_told_in_words(args: list[str]):
    from conftest import ROOT

    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/fake-api"), *args], capture_output=True, text=True, timeout=10, check=False
    )
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (2, "", False)
    assert done.stderr
