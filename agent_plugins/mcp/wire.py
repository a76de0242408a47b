"""wire - the Model Context Protocol as pure functions: messages to bytes and back, the handshake of both eras, results to text.

    asked = request(1, "tools/list", {}, MODERN)          # {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {…}}
    messages(encode(asked))                                # [asked]
    dialogue = handshake(); next(dialogue)                 # Step("server/discover", …); send results in, or throw RpcError, Silence

The era of 2026-07-28 has no session: every request says in `params._meta` which version it speaks. Servers of the era before answer
`server/discover` with any error, or not at all; then comes `initialize`. Nothing here reads or waits; text of a server is data.

Sources: the specification's revisions 2024-11-05 to 2026-07-28, JSON-RPC 2.0.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent_core.agent import VERSION
from agent_core.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Iterator

MODERN = "2026-07-28"
OLD = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
META = "io.modelcontextprotocol/"
CLIENT = {"name": "agents-as-unix-tools", "version": VERSION}
NO_METHOD, BAD_PARAMS, BAD_VERSION, NO_RESOURCE = -32601, -32602, -32022, -32002
LARGEST = 16 * 1024 * 1024
_LONE = re.compile("[\ud800-\udfff]")
_SHORT = 200


class RpcError(Exception):
    """A server's error answer."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        """Keep code, message and data."""
        super().__init__(message)
        self.code, self.data = code, data


class Silence(Exception):  # noqa: N818 - what happened: nothing
    """No answer within the patience of a Step."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a handshake found out. `modern`: requests carry their version; else there is a session with one."""

    version: str
    modern: bool
    tools: bool = True
    server: str = ""
    resources: bool = False
    prompts: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to send during a handshake. `patient`: silence is an answer, too."""

    method: str
    params: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    patient: bool = False
    notification: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """A tool's result: the text for a model, the structured value (None: none), and whether it is a failure."""

    text: str
    value: Any = None
    failed: bool = False


Dialogue = Generator[Step, Any, Facts]


# -- messages ---------------------------------------------------------------------------------------------------------------------


def request(number: int, method: str, params: Mapping[str, Any], version: str = "") -> dict[str, Any]:
    """Return a request; `version` is that of the modern era, "" within an old session."""
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": _with_version(params, version)}


def notification(method: str, params: Mapping[str, Any], version: str = "") -> dict[str, Any]:
    """Return a notification."""
    return {"jsonrpc": "2.0", "method": method, "params": _with_version(params, version)}


def _with_version(params: Mapping[str, Any], version: str) -> dict[str, Any]:
    if version != MODERN:
        return dict(params)
    meta = {f"{META}protocolVersion": version, f"{META}clientCapabilities": {}, f"{META}clientInfo": CLIENT}
    return {**params, "_meta": {**meta, **params.get("_meta", {})}}


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a message as one line of ASCII, without a line end inside."""
    return json.dumps(message, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def messages(data: bytes) -> list[dict[str, Any]]:
    """Return the messages of one line or body (a batch has several). ValueError if it holds none."""
    try:
        found = json.loads(data.decode("utf-8", "replace"), parse_constant=_no_number)
        rows = found if isinstance(found, list) else [found]
        if not rows or not all(isinstance(row, dict) and row.get("jsonrpc") == "2.0" for row in rows):
            raise ValueError("no JSON-RPC message")
        return [plain(row) for row in rows] if b"\\u" in data else rows
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_number(word: str) -> Any:
    raise ValueError(word)


def plain(value: Any) -> Any:
    """Return JSON data without lone surrogates, which no UTF-8 output can hold."""
    if isinstance(value, str):
        return value if value.isascii() else _LONE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def answered(message: Mapping[str, Any]) -> int | None:
    """Return the number of the request that a message answers, None if it answers none of ours."""
    number = message.get("id")
    # bool is an int to Python: `true` must not answer request 1.
    return number if "method" not in message and type(number) is int else None


def outcome(message: Mapping[str, Any]) -> dict[str, Any] | RpcError:
    """Return the result of an answer, or its error."""
    result = message.get("result")
    if isinstance(result, dict) and "error" not in message:
        return result
    error = message.get("error")
    if not isinstance(error, dict):
        return RpcError(0, "the answer has neither a result nor an error")
    code = error.get("code")
    return RpcError(code if type(code) is int else 0, str(error.get("message") or "no reason given"), error.get("data"))


def reply(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the answer to a server's own request: to `ping` an empty one, to all others a polite no. None for anything else."""
    number = message.get("id")
    if "method" not in message or not isinstance(number, int | str):
        return None
    if message["method"] == "ping":
        return {"jsonrpc": "2.0", "id": number, "result": {}}
    error = {"code": NO_METHOD, "message": f"this client does not offer {str(message['method'])[:_SHORT]}"}
    return {"jsonrpc": "2.0", "id": number, "error": error}


# -- the handshake ----------------------------------------------------------------------------------------------------------------


def handshake(*, probe: bool = True) -> Dialogue:
    """Find out how a server speaks: yields Steps, wants their results (or RpcError, Silence), returns Facts.

    Raises:
        ContractError: there is no version that both speak.
        RpcError: the server refuses the old handshake, too.
    """
    if probe:
        found = yield from _discover()
        if found is not None:
            return found
    try:
        result = yield Step("initialize", {"protocolVersion": OLD[0], "capabilities": {}, "clientInfo": CLIENT})
    except RpcError as error:
        if error.code not in {BAD_VERSION, NO_METHOD}:
            raise
        # It was only slow to answer the first question, and by now knows us as modern.
        found = yield from _discover()
        if found is None:
            raise
        return found
    version = result.get("protocolVersion")
    if version not in OLD:
        raise ContractError(
            f"it speaks version {str(version)[:40]!r} of the protocol", hint=f"known are {MODERN}, {', '.join(OLD)}"
        )
    yield Step("notifications/initialized", notification=True)
    return _facts(version, result, _named(result.get("serverInfo")))


def _discover() -> Generator[Step, Any, Facts | None]:
    """Ask a server of the modern era what it is; None if it is of the era before."""
    for again in (True, False):
        try:
            found = yield Step("server/discover", version=MODERN, patient=True)
            break
        except Silence:
            return None
        except RpcError as error:
            # Who refuses the version and names it as its own is asked once more.
            if not (again and _refuses_version(error)):
                return None
    if MODERN not in _versions(found, "supportedVersions"):
        return None
    meta = found.get("_meta")
    server = _named(meta.get(f"{META}serverInfo")) if isinstance(meta, dict) else ""
    return _facts(MODERN, found, server)


def _refuses_version(error: RpcError) -> bool:
    """Whether a server refuses the version and speaks it all the same. ContractError if it speaks none that is known."""
    supported = _versions(error.data, "supported")
    if error.code != BAD_VERSION or not supported:
        return False
    if not {MODERN, *OLD} & set(supported):
        raise ContractError(
            f"it speaks only {', '.join(supported)[:_SHORT]}", hint=f"known are {MODERN}, {', '.join(OLD)}"
        ) from None
    return MODERN in supported


def _versions(found: Any, key: str) -> list[str]:
    listed = found.get(key) if isinstance(found, dict) else None
    return [each for each in listed if isinstance(each, str)] if isinstance(listed, list) else []


def _facts(version: str, found: Mapping[str, Any], server: str) -> Facts:
    given = found.get("capabilities")
    has = {key: isinstance(given, dict) and isinstance(given.get(key), dict) for key in ("tools", "resources", "prompts")}
    return Facts(version, modern=version == MODERN, server=server, **has)


def _named(info: Any) -> str:
    return f"{info.get('name', '')} {info.get('version', '')}".strip()[:_SHORT] if isinstance(info, dict) else ""


# -- results ----------------------------------------------------------------------------------------------------------------------


def result(found: Mapping[str, Any]) -> Result:
    """Return what `tools/call` brought. What is no text is named, never dropped in silence."""
    content = found.get("content")
    blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    texts = [block["text"] for block in blocks if block.get("type") == "text" and isinstance(block.get("text"), str)]
    text = "\n".join(block(each) for each in blocks)
    failed = found.get("isError") is True
    if "structuredContent" not in found or failed:
        return Result(text, None, failed)
    value = found["structuredContent"]
    if len(texts) == len(blocks) and (said := _said(texts, value)) is not None:
        return Result(text, said)
    whole = json.dumps(value, ensure_ascii=False)
    return Result(f"{text}\n{whole}" if text else whole, None if text else value)


def _said(texts: list[str], value: Any) -> Any:
    """Return the value if the texts say just that; some servers wrap a plain one as {"result": …}. None if they do not."""
    wrapped = isinstance(value, dict) and list(value) == ["result"]
    for each in (value, value["result"]) if wrapped else (value,):
        forms = [each] if not isinstance(each, list) else [each, *([each[0]] if len(each) == 1 else [])]
        if len(texts) == 1 and any(_same(texts[0], form) for form in forms):
            return each
        if isinstance(each, list) and len(texts) == len(each) > 1 and all(map(_same, texts, each)):
            return each
    return None


def _same(text: str, value: Any) -> bool:
    if isinstance(value, str):
        return text == value
    try:
        return bool(json.loads(text) == value)
    except (ValueError, RecursionError):
        return False


def block(found: Mapping[str, Any]) -> str:
    """Return a block of content as text; what is no text is named."""
    kind = found.get("type")
    if kind == "text" and isinstance(found.get("text"), str):
        return str(found["text"])
    if kind in {"image", "audio"}:
        return f"[{kind}: {_word(found.get('mimeType'))}, {_size(found.get('data'))} bytes, not shown]"
    if kind == "resource_link":
        return f"[resource: {_word(found.get('uri'))} {_word(found.get('mimeType'))}]"
    if kind == "resource":
        return _resource(found.get("resource"))
    return f"[{_word(kind)}: not shown]"


def _resource(found: Any) -> str:
    inner = found if isinstance(found, dict) else {}
    name = _word(inner.get("uri"))
    text = inner.get("text") if isinstance(inner.get("text"), str) else _decoded(inner)
    if text is not None:
        return f"[resource: {name}]\n{text}"
    return f"[resource: {name} {_word(inner.get('mimeType'))}, {_size(inner.get('blob'))} bytes, not shown]"


def _decoded(found: Mapping[str, Any]) -> str | None:
    """Return the text that a server sends as bytes; None for what is none."""
    kind, data = found.get("mimeType"), found.get("blob")
    if not isinstance(kind, str) or not isinstance(data, str) or not kind.startswith(("text/", "application/json")):
        return None
    try:
        return base64.b64decode(data, validate=True).decode("utf-8")
    except ValueError:
        return None


def _word(value: Any) -> str:
    return " ".join(str(value).split())[:_SHORT] if isinstance(value, str) and value else "unknown"


def _size(data: Any) -> int:
    return len(data) * 3 // 4 - data[-2:].count("=") if isinstance(data, str) else 0


# -- server-sent events -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Events:
    """Reads an event stream: feed it bytes, get the data of whole events. ValueError for an event beyond LARGEST.

    `last` is the id of the last event, `retry` the pause in seconds that the server asks for.
    """

    last: str = ""
    retry: float = 1.0
    _rest: bytearray = field(default_factory=bytearray)
    _data: list[bytes] = field(default_factory=list)
    _size: int = 0
    _cr: bool = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the data of each event that the chunk completes."""
        if self._cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
        self._cr = chunk.endswith(b"\r")
        *lines, rest = re.split(rb"\r\n|\n|\r", chunk)
        for line in lines:
            whole = bytes(self._rest) + line
            self._rest.clear()
            if (data := self._line(whole)) is not None:
                yield data
        self._rest += rest
        if len(self._rest) + self._size > LARGEST:
            raise ValueError("an event is too large")

    def _line(self, line: bytes) -> bytes | None:
        """Take one line; return the data of the event that it ends."""
        if not line:
            data, self._data, self._size = b"\n".join(self._data), [], 0
            return data or None
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value)
            if self._size > LARGEST:
                raise ValueError("an event is too large")
        elif name == b"id" and b"\0" not in value:
            self.last = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) < 7:
            self.retry = min(int(value) / 1000, 10.0)
        return None
