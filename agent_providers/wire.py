"""wire - what every codec needs to read hostile bytes and to write its own.

    parse(body)                  a JSON object, or BadReply
    get(data, "a.0.b", str)      typed access, or BadReply
    tokens(data, "usage.x")      a count of tokens, or None
    arguments(raw)               a tool call's arguments and what is wrong with them
    fail(response, provider)     the ProviderError kind that a status and an error body stand for
    Lines, Events, Body          incremental decoders of lines, of server-sent events, of events or a whole reply
    distinct(calls)              tool calls with one id each
    Pieces, joined               text that arrives in fragments (a surrogate pair may be split between two)
    dumps(value)                 compact JSON bytes
    turns(messages, wire, …)     a conversation whose neighbours of one role share a turn

Nothing here raises anything but ProviderError kinds, whatever the bytes are (`dumps` raises InputError: its data is ours).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from agent_core.errors import (
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from agent_core.messages import Message, Part
    from agent_core.ops import Response
    from agent_core.provider import Provider

T = TypeVar("T")
D = TypeVar("D")

MAX_LINE = 4 * 1024 * 1024
MAX_DEPTH = 200
MAX_MESSAGE = 300
_BOM = b"\xef\xbb\xbf"
_MISSING: Any = object()


# --- JSON in -----------------------------------------------------------------------------------------------------------------


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError("number too large")
    return number


_load = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite).decode


def _loads(text: str) -> Any:
    """Decode strict JSON; ValueError for everything else, nesting beyond MAX_DEPTH included."""
    try:
        value = _load(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if text.count("{") + text.count("[") > MAX_DEPTH and _depth_exceeds(value):
        raise ValueError("nested too deeply")
    return value


def _depth_exceeds(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        containers = [item for item in level if isinstance(item, (dict, list))]
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
        if not level:
            return False
    return True


def parse(body: bytes | str, what: str = "reply") -> dict[str, Any]:
    """Return the JSON object in `body`.

    Bytes are a whole body: lone surrogates in it are replaced. A str is one event of a stream: they stay, because the other half
    may be in the next one (see `Pieces`).

    Raises:
        BadReply: it is anything else (empty, HTML, cut off, NaN, huge numbers, deep nesting, not UTF-8, not an object).
    """
    try:
        text = body if isinstance(body, str) else body.decode("utf-8-sig")
        value = _loads(text)
    except UnicodeDecodeError:
        raise BadReply(f"the {what} is not UTF-8") from None
    except ValueError as error:
        raise BadReply(f"the {what} is not JSON: {_looks_like(text)}", cause=clean(str(error))) from None
    if not isinstance(value, dict):
        raise BadReply(f"the {what} is not a JSON object but {_kind(value)}")
    return value if isinstance(body, str) else _scrubbed(value, text)


def _looks_like(text: str) -> str:
    start = text.lstrip()[:200]
    if not start:
        return "it is empty"
    return "it is an HTML or XML page" if start.startswith("<") else "broken or cut off"


def _kind(value: Any) -> str:
    names: dict[type, str] = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def scrub(text: str) -> str:
    """Return `text` with surrogate pairs joined and lone surrogates replaced by U+FFFD, so that it can be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _scrubbed(value: Any, text: str) -> Any:
    # surrogates come into a decoded text as escapes only
    return _walk(value) if "\\ud" in text or "\\uD" in text else value


def _walk(value: Any) -> Any:
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, list):
        return [_walk(item) for item in value]
    if isinstance(value, dict):
        return {scrub(key): _walk(item) for key, item in value.items()}
    return value


def arguments(raw: Any) -> tuple[dict[str, Any], str]:
    """Return a tool call's arguments and what is wrong with them ("" when nothing is). Never raises.

    Vendors send a JSON string or an object; nothing at all means no arguments.
    """
    if raw is None or raw == "":
        return {}, ""
    if isinstance(raw, str):
        if not raw.strip():
            return {}, ""
        try:
            raw = _scrubbed(_loads(raw), raw)
        except ValueError as error:
            return {}, f"the arguments are not valid JSON: {clean(str(error))}"
    if not isinstance(raw, dict):
        return {}, f"the arguments must be a JSON object, not {_kind(raw)}"
    return raw, ""


# --- typed access ------------------------------------------------------------------------------------------------------------


@overload
def get(data: Any, path: str, kind: type[T]) -> T: ...
@overload
def get(data: Any, path: str, kind: type[T], default: D) -> T | D: ...
def get(data: Any, path: str, kind: type[Any], default: Any = _MISSING) -> Any:
    """Return the value at a dotted path ("choices.0.message"); absent or null means `default`.

    Raises:
        BadReply: the value has another type, or is missing and there is no default.
    """
    value = data.get(path) if isinstance(data, dict) and "." not in path else _walked(data, path)
    if value is None:
        if default is _MISSING:
            raise BadReply(f"the reply has no {path}")
        return default
    if kind is float and type(value) is int:
        return value
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise BadReply(f"the reply's {path} is {_kind(value)}")
    return value


def _walked(data: Any, path: str) -> Any:
    value = data
    for step in path.split("."):
        value = _step(value, step, path)
        if value is None:
            break
    return value


def _step(value: Any, step: str, path: str) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and step.isdigit():
        index = int(step)
        return value[index] if index < len(value) else None
    raise BadReply(f"the reply's {path} cannot be read: {_kind(value)} stands in its way")


def objects(data: Any, path: str) -> list[dict[str, Any]]:
    """Return the list of objects at `path`; absent or null means none. BadReply when an item is not an object."""
    items: list[Any] = get(data, path, list, [])
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise BadReply(f"the reply's {path}.{index} is {_kind(item)}")
    return items


def tokens(data: Any, path: str) -> int | None:
    """Return the count at `path`, or None when the service gave no usable number."""
    try:
        value = get(data, path, float, None)
    except BadReply:
        return None
    return int(value) if value is not None and value >= 0 and value == int(value) else None


# --- errors ------------------------------------------------------------------------------------------------------------------

# Patterns stay strings: `re` compiles and keeps them when the first error comes, not at import.
_NO_MONEY = (
    r"insufficient_(user_)?quota|insufficient[_ ](balance|credit|funds)|billing_(error|not_active|hard_limit)|payment_required"
    r"|credit balance is too low|out of credit"
)
_CONTEXT = (
    r"context_length|exceed_context_size|context_window_exceeded|request_too_large|context[ _](length|window|size)"
    r"|(prompt|input) is too long|too many (input )?tokens|maximum (number of )?tokens|input token count|reduce the length"
)
_KEY = (
    r"(invalid|incorrect|wrong|missing|no) .{0,12}api[ _-]?key|api[ _-]?key (is )?(not valid|invalid)"
    r"|api_key_invalid|invalid_api_key|authentication_error"
)
_MODEL = (
    r"model_(not_found|decommissioned)|deploymentnotfound|not a valid model|(unknown|invalid|no such) (model|deployment)\b"
    r"|\b(model|deployment)\b.{0,100} (not found|(does not|doesn't) exist|decommissioned)"
)
_TOLD_OFF = r"content_filter|content_policy|moderation|flagged"
_PAUSE = r"throttl|rate_?limit|too_?many_?requests|resource_exhausted|modelnotready|servicequota"
_LATER = r"overloaded|server_?error|api_error|unavailable|internal|modelstreamerror|modelerror|aborted"
_SLOW = r"timeout|deadline_exceeded"
_DENIED = (
    r"authentication|unauthori[sz]ed|unauthenticated|permission|accessdenied|unrecognizedclient|invalidsignature|expiredtoken"
    r"|forbidden"
)
_REFUSED = r"invalid_?request|invalid_argument|validation|badrequest|invalid_prompt|not_found_error|resourcenotfound"
_NEVER_AGAIN = frozenset({400, 401, 402, 403, 404, 413, 422})

_BY_STATUS: dict[int, type[ProviderError]] = {
    400: BadRequest, 401: AuthError, 402: RateLimited, 403: AuthError, 404: BadRequest, 408: CallTimeout, 409: RateLimited,
    422: BadRequest, 424: ServerError, 425: RateLimited, 429: RateLimited, 504: CallTimeout,
}  # fmt: skip
_BY_CODE: tuple[tuple[str, type[ProviderError]], ...] = (
    (_PAUSE, RateLimited),
    (_DENIED, AuthError),
    (_TOLD_OFF, BadRequest),
    (_SLOW, CallTimeout),
    (_LATER, ServerError),
    (_REFUSED, BadRequest),
)
_HINTS: dict[type[ProviderError], str] = {
    AuthError: "check the key and what it may do",
    UnknownModel: "check --model",
    RateLimited: "try again later",
    ServerError: "try again later, or another provider",
    CallTimeout: "try again later, or another provider",
}


def fail(
    response: Response,
    provider: Provider,
    message: str = "",
    code: str = "",
    retry_after: float | None = None,
) -> NoReturn:
    """Raise the error kind that a response stands for, by its status and by the vendor's code and words.

    `message`, `code` and `retry_after` are what the codec found itself; without them the usual shapes of error bodies are read.
    For an error inside a 2xx stream pass the event as body: its code decides.
    """
    found_message, found_code = described(response.body)
    message, code = message or found_message, code or found_code
    code = code or _header(response.headers, "x-amzn-errortype").partition(":")[0]
    status = _status(response.status, code)
    text = clean(hide(message, provider)) or "no message"
    words = f"{code} {message[:2000]}".lower()
    kind, money = _classify(status, code.lower(), words)
    said = f"{provider.name} answered {status}: {text}" if status >= 300 else f"{provider.name} reported: {text}"
    if kind is ContextLength:
        raise ContextLength(said, hint="send less, or choose a model with a larger window", cause=clean(hide(code, provider)))
    raise _exception(kind)(
        said,
        hint="no credit is left: top up, or another provider" if money else _hint(kind, status, provider),
        cause=clean(hide(code, provider)),
        http_status=status,
        retry_after=retry_after if retry_after is not None else wait_asked(response.headers),
        retryable=False if money else _told(response.headers, status),
    )


def _exception(kind: type[Exception]) -> type[ProviderError]:
    return kind if issubclass(kind, ProviderError) else BadRequest


def _status(status: int, code: str) -> int:
    """An error inside a 2xx body may carry its status in its code."""
    found = re.match(r"[45]\d\d\b", code) if status < 300 else None
    return int(found[0]) if found else status


def _classify(status: int, code: str, words: str) -> tuple[type[Exception], bool]:
    """Return the kind, and whether it means that no money is left."""
    if status == 402 or (status < 500 and re.search(_NO_MONEY, words) and status not in {401, 404}):
        return RateLimited, True
    if status < 300 and re.search(_PAUSE, code):
        return RateLimited, False
    special = _special(status, words)
    if special is not None:
        return special, False
    if status < 300:
        return next((kind for pattern, kind in _BY_CODE if re.search(pattern, code)), ServerError), False
    if status in _BY_STATUS:
        return _BY_STATUS[status], False
    if status >= 500:
        return ServerError, False
    return (BadRequest if status >= 400 else BadReply), False


def _special(status: int, words: str) -> type[Exception] | None:
    """Return the kinds that vendors tell by words rather than by status."""
    if status == 413:
        return ContextLength
    if status not in {200, 400, 403, 404, 422}:
        return None
    if status == 403:
        return BadRequest if re.search(_TOLD_OFF, words) else None
    if re.search(_MODEL, words):
        return UnknownModel
    if status == 404:
        return UnknownModel if "model" in words else None
    if re.search(_CONTEXT, words):
        return ContextLength
    return AuthError if re.search(_KEY, words) else None


def _hint(kind: type[Exception], status: int, provider: Provider) -> str:
    if (status == 404 and kind is BadRequest) or (status < 400 and kind is BadReply):
        return f"is {provider.base_url} the right address?"
    return next((hint for known, hint in _HINTS.items() if kind is known), "")


def described(body: bytes) -> tuple[str, str]:
    """Return the message and code in an error body of any usual shape; a page's title or the text itself otherwise."""
    try:
        data: Any = _loads(body[:MAX_LINE].decode("utf-8", "replace"))
    except ValueError:
        return _page(body), ""
    data = data[0] if isinstance(data, list) and data else data
    if not isinstance(data, dict):
        return _text(data), ""
    inner = data.get("error")
    if isinstance(inner, dict):
        return _inner(inner)
    message = next((_text(data[name]) for name in ("message", "Message", "detail", "error_description") if data.get(name)), "")
    code = next((_text(data[name]) for name in ("code", "type", "__type") if data.get(name)), "")
    return _text(inner) or message, code


def _inner(error: dict[str, Any]) -> tuple[str, str]:
    """Read the object of an `error` member: its message, and all its codes as words, a numeric one first."""
    details = error.get("details")
    reasons = [_text(item.get("reason")) for item in details if isinstance(item, dict)] if isinstance(details, list) else []
    codes = [*(_text(error.get(name)) for name in ("code", "status", "type")), *reasons]
    numbers = [code for code in codes if code.isdigit()]
    return _text(error.get("message")), " ".join([*numbers[:1], *(code for code in codes if code and not code.isdigit())])


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return ""
    return json.dumps(value, default=str)[:2000]


def _page(body: bytes) -> str:
    text = body[:20000].decode("utf-8", "replace").strip()
    if not text.startswith("<"):
        return text
    title = re.search(r"<title[^>]*>([^<]{1,200})", text, re.IGNORECASE)
    return f"an HTML page, {title[1].strip()!r}" if title else "an HTML or XML page"


def clean(text: str) -> str:
    """Return one printable line of at most MAX_MESSAGE characters: what a stranger says about an error."""
    text = scrub(text[: MAX_MESSAGE * 4])
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…"


def hide(text: str, provider: Provider) -> str:
    """Return `text` without the provider's secrets: services echo what they were sent."""
    secrets = [
        provider.key,
        *(value for name, value in provider.extra.items() if re.search("key|secret|token", name, re.IGNORECASE)),
    ]
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "[key]")
    return text


def _header(headers: Mapping[str, str], name: str) -> str:
    return headers.get(name) or next((value for key, value in headers.items() if key.lower() == name), "")


def _told(headers: Mapping[str, str], status: int) -> bool | None:
    """Return what x-should-retry says. It cannot make a request right that the service refused."""
    word = _header(headers, "x-should-retry").strip().lower()
    if word == "true" and status not in _NEVER_AGAIN:
        return True
    return False if word == "false" else None


def wait_asked(headers: Mapping[str, str]) -> float | None:
    """Return the seconds a service asks to wait: retry-after-ms, retry-after in seconds, or as a date beside its own date."""
    millis = _number(_header(headers, "retry-after-ms"))
    if millis is not None:
        return millis / 1000
    after = _header(headers, "retry-after")
    seconds = _number(after)
    return seconds if seconds is not None or not after else _between(_header(headers, "date"), after)


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\s*\d{1,9}(\.\d{1,9})?\s*", text) else None


def _between(now: str, then: str) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, (parsedate_to_datetime(then) - parsedate_to_datetime(now)).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


# --- streams -----------------------------------------------------------------------------------------------------------------


class Lines:
    """Decodes lines from bytes that come in any pieces. CRLF, CR and LF end a line; a byte order mark at the start is dropped."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self._first = True

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that `data` completes. BadReply when one is longer than MAX_LINE or not UTF-8."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if not data:
            return []
        self._after_cr = data.endswith(b"\r")
        pieces = data.splitlines(keepends=True)
        lines = [self._complete(piece) for piece in pieces[:-1]]
        if data[-1] in b"\r\n":
            lines.append(self._complete(pieces[-1]))
        else:
            self._hold(pieces[-1])
        return lines

    def finish(self) -> list[str]:
        """Return the last line if its end is missing."""
        return [self._complete(b"")] if self._parts else []

    def _hold(self, piece: bytes) -> None:
        self._parts.append(piece)
        self._size += len(piece)
        if self._size > MAX_LINE:
            raise BadReply(f"the stream has a line of more than {MAX_LINE} bytes")

    def _complete(self, piece: bytes) -> str:
        self._hold(piece)
        line = b"".join(self._parts).rstrip(b"\r\n")
        self._parts, self._size = [], 0
        try:
            text = line.decode("utf-8-sig" if self._first else "utf-8")
        except UnicodeDecodeError:
            raise BadReply("the stream is not UTF-8") from None
        self._first = False
        return text


class Events:
    """Decodes server-sent events (WHATWG HTML, section 9.2) into (event, data) pairs; `event` is "" when unnamed."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._event = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, data: bytes) -> list[tuple[str, str]]:
        """Return the events that `data` completes."""
        return [event for line in self._lines.feed(data) for event in self._line(line)]

    def finish(self) -> list[tuple[str, str]]:
        """Return the last event if the blank line after it is missing (some services forget it)."""
        return [event for line in [*self._lines.finish(), ""] for event in self._line(line)]

    def _line(self, line: str) -> list[tuple[str, str]]:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(value)
            if self._size > MAX_LINE:
                raise BadReply(f"the stream has an event of more than {MAX_LINE} characters")
        elif name == "event":
            self._event = value
        return []

    def _dispatch(self) -> list[tuple[str, str]]:
        event, data = self._event, self._data
        self._event, self._data, self._size = "", [], 0
        return [(event, "\n".join(data))] if data else []


class Body:
    """Decodes a streamed 2xx body as server-sent events; `whole` has it if it turns out to be a JSON object or a page instead."""

    def __init__(self) -> None:
        self._events = Events()
        self._head = b""
        self._plain: list[bytes] | None = None
        self._decided = False

    @property
    def whole(self) -> bytes | None:
        """The body, when it is no stream of events."""
        return None if self._plain is None else b"".join(self._plain)

    def feed(self, data: bytes) -> list[tuple[str, str]]:
        """Return the events that `data` completes."""
        if not self._decided:
            self._head += data
            start = self._head.removeprefix(_BOM).lstrip()[:1]
            if (not start or _BOM.startswith(self._head)) and len(self._head) < MAX_LINE:
                return []
            data, self._head, self._decided = self._head, b"", True
            self._plain = [] if start in {b"{", b"<", b"["} else None
        if self._plain is not None:
            self._plain.append(data)
            return []
        return self._events.feed(data)

    def finish(self) -> list[tuple[str, str]]:
        """Return the last event if the blank line after it is missing."""
        if self._plain is not None:
            return []
        return [*self._events.feed(self._head), *self._events.finish()]


class Pieces:
    """Text that arrives in fragments. A surrogate pair split between two fragments is held back until it is whole."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._held = ""

    def add(self, piece: str) -> str:
        """Take a fragment and return what can be shown now."""
        text = self._held + piece
        self._held = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._held = text[:-1], text[-1]
        text = scrub(text)
        if text:
            self._parts.append(text)
        return text

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self._parts) + ("\ufffd" if self._held else "")


def joined(fragments: Iterable[str]) -> str:
    """Return the fragments as one text that can be encoded."""
    return scrub("".join(fragments))


def distinct(calls: Sequence[ToolCall], stem: str = "") -> tuple[ToolCall, ...]:
    """Return the calls with an id each: missing and repeated ids get one made from `stem` and the position."""
    seen: set[str] = set()
    result: list[ToolCall] = []
    for position, call in enumerate(calls):
        id_ = call.id if call.id and call.id not in seen else "_".join(filter(None, ("call", stem, str(position))))
        while id_ in seen:
            id_ += "_"
        seen.add(id_)
        result.append(call if id_ == call.id else ToolCall(id_, call.name, call.arguments, call.problem, call.raw))
    return tuple(result)


# --- bytes out ---------------------------------------------------------------------------------------------------------------

_dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def dumps(value: Any) -> bytes:
    """Return compact JSON as UTF-8; lone surrogates are replaced.

    Raises:
        InputError: the value holds NaN, a cycle, or something that is not JSON.
    """
    try:
        text = _dump(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"cannot be written as JSON: {clean(str(error))}") from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        return scrub(text).encode()


def cached(cache: dict[str, Any], wire: str, make: Callable[[], bytes]) -> bytes:
    """Return the bytes kept under `wire`, made once."""
    found: bytes | None = cache.get(wire)
    if found is None:
        found = cache[wire] = make()
    return found


def turns(
    messages: Sequence[Message],
    wire: str,
    blocks: Callable[[Sequence[Part]], Iterable[Any]],
    *,
    key: str = "content",
    assistant: str = "assistant",
) -> tuple[list[bytes], bytes]:
    """Return the system blocks, and the turns as one JSON array: neighbours of one role share a turn, an empty message has none.

    `blocks` makes the wire form of a message's parts (kept in its cache under `wire`); `key` is what a turn calls them, and
    `assistant` what it calls the model. What a tool answers is the user's.
    """
    roles = {"tool": "user", "assistant": assistant}
    system: list[bytes] = []
    out: list[bytes] = []
    last = ""
    for message in messages:
        made = cached(message.cache, wire, lambda parts=message.parts: b",".join([dumps(each) for each in blocks(parts)]))  # type: ignore[misc]
        role = roles.get(message.role, message.role)
        if made and role == "system":
            system.append(made)
        elif made:
            out += (b"," if role == last else b']},{"role":"%b","%b":[' % (role.encode(), key.encode()), made)
            last = role
    if out:
        out[0] = out[0].removeprefix(b"]},")
        out.append(b"]}")
    return system, b"[%b]" % b"".join(out)


def called(messages: Sequence[Message]) -> list[str]:
    """Return the names of the tools that a history with results called: some services want them declared ever after."""
    if not any(message.role == "tool" for message in messages):
        return []
    return list(dict.fromkeys(call.name for message in messages if message.role == "assistant" for call in message.tool_calls))


def instruction(schema: Mapping[str, Any]) -> str:
    """Return the words that ask for an answer of that schema where a service cannot be told otherwise."""
    return f"Answer with one JSON object, and nothing else, that matches this JSON Schema:\n{dumps(dict(schema)).decode()}"


def fields(pairs: Sequence[tuple[str, bytes]]) -> bytes:
    """Return a JSON object from names and values that are encoded already. Names must need no escaping."""
    # one flat join: a body of some hundred kilobytes is copied once
    parts = [piece for name, value in pairs for piece in (b',"', name.encode(), b'":', value)]
    return b"".join([b'{"', *parts[1:], b"}"]) if parts else b"{}"


def header_value(value: str, what: str) -> str:
    """Return `value` if it can stand in an HTTP header.

    Raises:
        ConfigError: it holds line breaks, control characters or anything but ASCII.
    """
    if value.isascii() and value.isprintable():
        return value
    raise ConfigError(
        f"{what} holds characters that cannot be sent in a header", hint="copy it again, without quotes or line breaks"
    )
