"""faults - everything a service can do wrong, by name. A fault turns a case into steps: bytes, pauses, endings."""

from __future__ import annotations

import email.utils
import gzip
import time
import zlib
from dataclasses import dataclass, replace
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fake_api.talk import Asked, Call, Turn, numbered
from fake_api.wire import Trouble, Wire, dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Ending(Enum):
    """How a connection ends before its time."""

    CLOSE = "close"
    RESET = "reset"
    HANG = "hang"


Step = bytes | float | Ending
JSON = ("content-type", "application/json")
REASONS = {status.value: status.phrase for status in HTTPStatus}
HTML = b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>\n<body><h1>502 Bad Gateway</h1></body></html>\n"
KINDS = {
    400: "bad", 401: "auth", 402: "billing", 403: "forbidden", 404: "model", 408: "timeout", 413: "too_large", 422: "bad",
    425: "rate", 409: "rate", 429: "rate", 504: "timeout", 529: "overloaded",
}  # fmt: skip
TEXTS = {
    "auth": "Incorrect API key provided.",
    "forbidden": "You do not have access to this resource.",
    "billing": "Your credit balance is too low. Please go to Plans & Billing to add credit.",
    "quota": "You exceeded your current quota, please check your plan and billing details.",
    "rate": "Rate limit reached for requests. Please try again later.",
    "overloaded": "Overloaded",
    "timeout": "The request timed out.",
    "too_large": "Request exceeds the maximum allowed number of bytes.",
    "bad": "The request is not valid.",
    "filter": "The response was filtered due to the prompt triggering the content management policy.",
}
TOO_LONG = {
    "anthropic": "prompt is too long: 9000 tokens > 8192 maximum",
    "gemini": "The input token count (9000) exceeds the maximum number of tokens allowed (8192).",
    "bedrock": "Input is too long for requested model.",
    "cohere": "too many tokens: size limit exceeded by 808 tokens. Try using shorter or fewer inputs.",
    "ollama": "the input length exceeds the context length",
}
OPENAI_TOO_LONG = "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."


@dataclass(frozen=True, slots=True)
class Case:
    """What a fault is done to: the wire, the request, the reply that would be right, and the fault's argument."""

    wire: Wire
    asked: Asked
    turn: Turn
    arg: str = ""

    def seconds(self, default: float) -> float:
        """Return the argument as a number."""
        return float(self.arg or default)

    def whole(self) -> dict[str, Any]:
        """Return the right reply as data."""
        return self.wire.whole(self.asked, self.turn)

    def frames(self) -> list[bytes]:
        """Return the right reply as stream events; a plain reply is one."""
        return self.wire.frames(self.asked, self.turn) if self.asked.stream else [dumps(self.whole())]

    def kind(self) -> str:
        """Return the content type of the right reply."""
        return self.wire.stream_type if self.asked.stream else "application/json"


FAULTS: dict[str, Callable[[Case], Iterable[Step]]] = {}
DELIVERS = {"drip", "drip-head", "late", "gzip", "comments", "drop-idle", "split", "close-delimited", "crlf", "extra"}


def fault(*names: str) -> Callable[[Callable[[Case], Iterable[Step]]], Callable[[Case], Iterable[Step]]]:
    """Register a fault by its names; the first line of its docstring is its description."""

    def keep(function: Callable[[Case], Iterable[Step]]) -> Callable[[Case], Iterable[Step]]:
        FAULTS.update(dict.fromkeys(names, function))
        return function

    return keep


def parse(spec: str) -> tuple[str, str, int]:
    """Return name, argument and times (0: always) of `NAME[:ARG][*TIMES]`; ValueError if there is no such fault."""
    spec, _, times = spec.rpartition("*") if "*" in spec else (spec, "", "0")
    name, _, arg = spec.partition(":")
    if name not in FAULTS and not _is_status(name):
        raise ValueError(f"no fault {name!r}; there are: a status (401, 429:SECONDS, …), {', '.join(sorted(FAULTS))}")
    return name, arg, int(times)


def _is_status(name: str) -> bool:
    return name.isdigit() and 400 <= int(name) <= 599


def steps(name: str, case: Case) -> Iterable[Step]:
    """Return what the fault does."""
    if name in FAULTS:
        return FAULTS[name](case)
    return refuse(case, status_trouble(int(name), case.asked), *((("retry-after", case.arg),) if case.arg else ()))


def right(case: Case) -> bytes:
    """Return the whole right answer as bytes."""
    if case.asked.stream:
        return http(200, case.kind(), b"".join(map(chunk, case.frames())) + b"0\r\n\r\n", ("transfer-encoding", "chunked"))
    return http(200, "application/json", dumps(case.whole()))


def http(status: int, kind: str, body: bytes, *headers: tuple[str, str], length: int | None = None) -> bytes:
    """Return an HTTP response."""
    names = {name for name, _ in headers}
    head = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", f"content-type: {kind}"]
    if "transfer-encoding" not in names:
        head.append(f"content-length: {len(body) if length is None else length}")
    head += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(head).encode("latin-1", "replace") + b"\r\n\r\n" + body


def chunk(data: bytes) -> bytes:
    """Return one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream(case: Case, frames: Iterable[bytes], *rest: Step) -> Iterator[Step]:
    """Yield a stream of these frames that ends as HTTP says, unless `rest` says otherwise."""
    yield http(200, case.kind(), b"", ("transfer-encoding", "chunked"))
    for frame in frames:
        if frame:
            yield chunk(frame)
    yield from rest or (b"0\r\n\r\n",)


def refuse(case: Case, trouble: Trouble, *headers: tuple[str, str]) -> list[Step]:
    """Return the vendor's way to refuse."""
    refusal = case.wire.error(case.asked, trouble)
    return [http(refusal.status, "application/json", refusal.body, *refusal.headers, *headers)]


def status_trouble(status: int, asked: Asked, text: str = "") -> Trouble:
    """Return the trouble that a status stands for."""
    kind = KINDS.get(status, "server")
    if kind == "model":
        return Trouble(status, kind, text or f"The model `{asked.model}` does not exist or you do not have access to it.")
    return Trouble(status, kind, text or TEXTS.get(kind, "Internal server error"))


# --- refusals


@fault("429-date")
def _429_date(case: Case) -> list[Step]:
    """429 with Retry-After as an HTTP date, ARG seconds from now."""
    now = time.time()
    then = email.utils.formatdate(now + case.seconds(1), usegmt=True)
    dates = ("date", email.utils.formatdate(now, usegmt=True)), ("retry-after", then)
    return refuse(case, status_trouble(429, case.asked), *dates)


@fault("429-ms")
def _429_ms(case: Case) -> list[Step]:
    """429 with retry-after-ms: ARG (and a coarser retry-after beside it)."""
    return refuse(case, status_trouble(429, case.asked), ("retry-after-ms", case.arg or "50"), ("retry-after", "1"))


@fault("429-info")
def _429_info(case: Case) -> list[Step]:
    """429 with google.rpc.RetryInfo of ARG seconds in the body, no header."""
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{case.arg or 1}s"}
    return refuse(case, replace(status_trouble(429, case.asked), details=(info,)))


@fault("quota")
def _quota(case: Case) -> list[Step]:
    """No money left: insufficient_quota, as the vendor says it."""
    text = "Your request exceeds the service quota for your account." if case.wire.name == "bedrock" else TEXTS["quota"]
    return refuse(case, Trouble(429, "quota", text))


@fault("context")
def _context(case: Case) -> list[Step]:
    """400: more tokens than the model's window holds."""
    return refuse(case, Trouble(400, "context", TOO_LONG.get(case.wire.name, OPENAI_TOO_LONG)))


@fault("filter")
def _filter(case: Case) -> list[Step]:
    """400: the prompt was filtered."""
    return refuse(case, Trouble(400, "filter", TEXTS["filter"]))


@fault("should-retry")
def _should_retry(case: Case) -> list[Step]:
    """500 with x-should-retry: ARG (default false)."""
    return refuse(case, status_trouble(500, case.asked), ("x-should-retry", case.arg or "false"))


@fault("html")
def _html(case: Case) -> list[Step]:
    """An HTML page with status ARG (default 200)."""
    return [http(int(case.arg or 200), "text/html; charset=utf-8", HTML)]


@fault("redirect")
def _redirect(case: Case) -> list[Step]:
    """302 to ARG (default another host)."""
    return [http(302, "text/plain", b"", ("location", case.arg or "http://other-host.invalid/v1/chat/completions"))]


@fault("error-200")
def _error_200(case: Case) -> list[Step]:
    """An error object with status 200."""
    refusal = case.wire.error(case.asked, status_trouble(500, case.asked))
    return [http(200, "application/json", refusal.body, *refusal.headers)]


@fault("echo-key")
def _echo_key(case: Case) -> list[Step]:
    """401 whose message repeats the key that was sent."""
    return refuse(case, Trouble(401, "auth", f"Incorrect API key provided: {case.asked.key}."))


# --- bodies


def _body(data: bytes) -> Callable[[Case], list[Step]]:
    def send(case: Case) -> list[Step]:
        return [http(200, case.kind(), data)]

    return send


BODIES = {
    "empty": b"",
    "empty-object": b"{}",
    "array": b"[]",
    "null": b"null",
    "string": b'"hello"',
    "not-json": b"upstream connect error",
    "garbage-sse": b"data: {nonsense\n\n",
}
FAULTS.update({_name: _body(_data) for _name, _data in BODIES.items()})


@fault("cut-json")
def _cut_json(case: Case) -> list[Step]:
    """A body that ends in the middle, with a content-length that fits. A stream ends inside an event."""
    body = b"".join(case.frames())
    return [http(200, case.kind(), body[: len(body) * 2 // 3 - 1])]


@fault("bad-utf8")
def _bad_utf8(case: Case) -> list[Step]:
    """A body with bytes that are not UTF-8 inside a string."""
    spoilt = replace(case, turn=Turn("spoilt-here"), asked=replace(case.asked, stream=False))
    return [http(200, "application/json", dumps(spoilt.whole()).replace(b"spoilt", b"\xff\xfe\x80"))]


def _with_value(case: Case, value: bytes) -> list[Step]:
    marked = replace(case, turn=Turn("@value@"), asked=replace(case.asked, stream=False))
    return [http(200, "application/json", dumps(marked.whole()).replace(b'"@value@"', value))]


@fault("nan")
def _nan(case: Case) -> list[Step]:
    """NaN where the text should be."""
    return _with_value(case, b"NaN")


@fault("huge-number")
def _huge_number(case: Case) -> list[Step]:
    """A number of 5,000 digits where the text should be."""
    return _with_value(case, b"9" * 5_000)


@fault("deep")
def _deep(case: Case) -> list[Step]:
    """Lists nested 20,000 deep where the text should be."""
    return _with_value(case, b"[" * 20_000 + b"]" * 20_000)


@fault("wrong-type")
def _wrong_type(case: Case) -> list[Step]:
    """A number where the text should be."""
    return _with_value(case, b"42")


@fault("gzip")
def _gzip(case: Case) -> list[Step]:
    """The right body, compressed though nobody asked for it."""
    return [http(200, case.kind(), gzip.compress(b"".join(case.frames())), ("content-encoding", "gzip"))]


@fault("gzip-bomb")
def _gzip_bomb(case: Case) -> list[Step]:
    """Some 100 KB that unpack to ARG MB (default 100) of spaces."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(packer.compress(b" " * 2**20) for _ in range(int(case.arg or 100))) + packer.flush()
    return [http(200, case.kind(), packed, ("content-encoding", "gzip"))]


@fault("huge")
def _huge(case: Case) -> Iterator[Step]:
    """A body of ARG MB (default 100) that never becomes a reply."""
    yield http(200, case.kind(), b"", ("transfer-encoding", "chunked"))
    for _ in range(int(case.arg or 100) * 16):
        yield chunk(b'{"x":"' + b"x" * 65_530)
    yield b"0\r\n\r\n"


@fault("long-line")
def _long_line(case: Case) -> Iterator[Step]:
    """A stream with one line of ARG MB (default 8)."""
    part = b" " * 2**16
    return stream(case, [b"data: ", *(part for _ in range(int(case.arg or 8) * 16)), b"\n\n"])


@fault("endless")
def _endless(case: Case) -> Iterator[Step]:
    """A stream of keep-alive comments that never ends (one each ARG ms, default 20)."""
    yield http(200, case.kind(), b"", ("transfer-encoding", "chunked"))
    while True:
        yield chunk(b": keep-alive\n\n")
        yield case.seconds(20) / 1000


# --- shapes


def _replaced(data: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """Return a copy of the data with the value at the path; a path that is not there changes nothing."""
    if not path:
        return value
    copy = data.copy()
    if isinstance(copy, list) and not copy:
        return copy
    copy[path[0]] = _replaced(copy[path[0]], path[1:], value)
    return copy


def _shape(case: Case, path: tuple[str | int, ...], value: Any) -> Iterable[Step]:
    if case.asked.stream:
        return stream(case, replace(case, turn=Turn()).frames())
    return [http(200, "application/json", dumps(_replaced(case.whole(), path, value)))]


@fault("null-content")
def _null_content(case: Case) -> Iterable[Step]:
    """Content null (a stream: no content at all)."""
    return _shape(replace(case, turn=Turn()), case.wire.content, None)


@fault("empty-choices")
def _empty_choices(case: Case) -> Iterable[Step]:
    """An empty list of choices, or none where the wire has no such list."""
    whole = case.whole()
    top = str(case.wire.envelope[0])
    if isinstance(whole[top], list) and case.wire.content != case.wire.envelope:
        whole[top] = []
    else:
        del whole[top]
    return [http(200, "application/json", dumps(whole))]


def _calls(case: Case, turn: Turn) -> list[Step]:
    return [right(replace(case, turn=turn))]


def _called(case: Case) -> Turn:
    """Return the turn if it has calls, else a call of the first tool offered."""
    name = case.asked.tools[0] if case.asked.tools else "tool"
    return numbered(case.turn if case.turn.calls else Turn(calls=(Call(name, {}),)), case.asked.number)


@fault("bad-arguments")
def _bad_arguments(case: Case) -> list[Step]:
    """A tool call whose arguments are the text ARG (default: JSON cut off)."""
    turn = _called(case)
    return _calls(case, replace(turn, calls=tuple(replace(call, arguments=case.arg or '{"text": "cut o') for call in turn.calls)))


@fault("no-id")
def _no_id(case: Case) -> list[Step]:
    """Tool calls without an id."""
    turn = _called(case)
    return _calls(case, replace(turn, calls=tuple(replace(call, id="") for call in turn.calls)))


@fault("same-id")
def _same_id(case: Case) -> list[Step]:
    """Two tool calls with one id."""
    call = _called(case).calls[0]
    return _calls(case, Turn(calls=(call, call)))


@fault("unknown-tool")
def _unknown_tool(case: Case) -> list[Step]:
    """A call of a tool that was not offered (ARG, default no_such_tool)."""
    turn = _called(case)
    return _calls(case, replace(turn, calls=tuple(replace(call, name=case.arg or "no_such_tool") for call in turn.calls)))


# --- streams


@fault("truncate")
def _truncate(case: Case) -> Iterable[Step]:
    """A stream that ends well for HTTP but in the middle of the reply; a plain body is cut."""
    if not case.asked.stream:
        return _cut_json(case)
    frames = case.frames()
    return stream(case, frames[: max(1, (len(frames) - case.wire.end) // 2)])


@fault("no-end")
def _no_end(case: Case) -> Iterable[Step]:
    """A whole stream without its end mark."""
    return stream(case, case.frames()[: -case.wire.end]) if case.asked.stream else _cut_json(case)


@fault("cut-event")
def _cut_event(case: Case) -> Iterable[Step]:
    """A stream that ends inside an event."""
    return _cut_json(case)


@fault("abort")
def _abort(case: Case) -> Iterable[Step]:
    """The connection closes in the middle of a chunked body."""
    frames = case.frames()
    return stream(case, [*frames[: len(frames) // 2], frames[len(frames) // 2][:5]], Ending.CLOSE)


@fault("stream-error")
def _stream_error(case: Case) -> Iterable[Step]:
    """A stream that ends with an error event; a plain request gets a 500."""
    if not case.asked.stream:
        return refuse(case, status_trouble(500, case.asked))
    frames = case.frames()
    return stream(case, [*frames[: max(1, (len(frames) - case.wire.end) // 2)], case.wire.broken])


@fault("bad-event")
def _bad_event(case: Case) -> Iterable[Step]:
    """A stream with a piece that is not JSON (eventstream: a wrong CRC)."""
    frames = case.frames()
    middle = frames[len(frames) // 2]
    frames[len(frames) // 2] = middle[:-6] + b"\x00\x00" + middle[-4:] if len(middle) > 8 else b"data: {oops\n\n"
    return stream(case, frames)


@fault("comments")
def _comments(case: Case) -> Iterable[Step]:
    """The right stream with comments and unknown events in between (SSE only)."""
    if not case.asked.stream or "event-stream" not in case.kind() or case.wire.name == "bedrock":
        return [right(case)]
    noise = b": OPENROUTER PROCESSING\n\n" if case.wire.name == "openai_chat" else b": noise\n\nevent: ping\n\n"
    return stream(case, [part for frame in case.frames() for part in (noise, frame)])


@fault("split")
def _split(case: Case) -> Iterator[Step]:
    """The right answer in pieces of ARG bytes (default 1), sent apart."""
    data, size = right(case), int(case.arg or 1)
    for start in range(0, len(data), size):
        yield data[start : start + size]
        yield 0.0


# --- connections


@fault("reset")
def _reset(case: Case) -> list[Step]:
    """The connection is reset (RST) before any answer; with ARG `mid`, in the middle of it."""
    return [right(case)[:-20], 0.02, Ending.RESET] if case.arg == "mid" else [Ending.RESET]


@fault("close")
def _close(_case: Case) -> list[Step]:
    """The connection closes before any answer."""
    return [Ending.CLOSE]


@fault("hang")
def _hang(_case: Case) -> list[Step]:
    """No answer, ever."""
    return [Ending.HANG]


@fault("hang-body")
def _hang_body(case: Case) -> list[Step]:
    """Half an answer, then nothing, ever."""
    data = right(case)
    return [data[: len(data) // 2 + 20], Ending.HANG]


def _dripped(data: bytes, pause: float) -> Iterator[Step]:
    for byte in data:
        yield bytes((byte,))
        yield pause


@fault("drip")
def _drip(case: Case) -> Iterator[Step]:
    """The right answer, its body one byte each ARG ms (default 100)."""
    data = right(case)
    head = data.index(b"\r\n\r\n") + 4
    yield data[:head]
    yield from _dripped(data[head:], case.seconds(100) / 1000)


@fault("drip-head")
def _drip_head(case: Case) -> Iterator[Step]:
    """The right answer, one byte each ARG ms (default 100) from its first."""
    yield from _dripped(right(case), case.seconds(100) / 1000)


@fault("late")
def _late(case: Case) -> list[Step]:
    """The right answer after ARG seconds (default 1)."""
    return [case.seconds(1), right(case)]


@fault("drop-idle")
def _drop_idle(case: Case) -> list[Step]:
    """The right answer; then the kept-alive connection closes without a word."""
    return [right(case), 0.01, Ending.CLOSE]


@fault("long-length")
def _long_length(case: Case) -> list[Step]:
    """Content-length says more than comes before the connection closes."""
    body = b"".join(case.frames())
    return [http(200, case.kind(), body, length=len(body) + 100), Ending.CLOSE]


@fault("short-length")
def _short_length(case: Case) -> list[Step]:
    """Content-length says less than comes."""
    body = b"".join(case.frames())
    return [http(200, case.kind(), body, length=len(body) // 2), Ending.CLOSE]


@fault("close-delimited")
def _close_delimited(case: Case) -> list[Step]:
    """The right answer without a length; the closing connection ends it."""
    data = b"".join(case.frames())
    return [f"HTTP/1.1 200 OK\r\ncontent-type: {case.kind()}\r\nconnection: close\r\n\r\n".encode() + data, Ending.CLOSE]


@fault("not-http")
def _not_http(_case: Case) -> list[Step]:
    """An answer that is not HTTP."""
    return [b"SSH-2.0-OpenSSH_9.2\r\n", Ending.CLOSE]


@fault("bad-chunk")
def _bad_chunk(case: Case) -> list[Step]:
    """A chunk whose size is no number."""
    return [http(200, case.kind(), b"zz\r\nhello\r\n", ("transfer-encoding", "chunked")), Ending.CLOSE]


@fault("big-head")
def _big_head(case: Case) -> list[Step]:
    """A header of 1 MB."""
    return [http(200, case.kind(), dumps(case.whole()), ("x-big", "x" * 2**20))]


def descriptions() -> dict[str, str]:
    """Return every fault with what it does."""
    plain = {name: f"200 with the body {data.decode()!r}." for name, data in BODIES.items()}
    return plain | {name: function.__doc__.splitlines()[0] for name, function in FAULTS.items() if function.__doc__}
