"""app - from a request to the bytes or steps of its answer: routes, the control endpoints, faults, the quick mode."""

from __future__ import annotations

import json
import re
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from fake_api import anthropic, bedrock, embeddings, faults, gemini, openai, others
from fake_api.faults import Case, Step, http, right, status_trouble
from fake_api.talk import Asked, Script, Turn, numbered, turns
from fake_api.wire import CREATED, Wire, dumps

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROUTES = (
    (re.compile(r"(?:^|/)chat/completions$"), openai.CHAT),
    (re.compile(r"(?:^|/)responses$"), openai.RESPONSES),
    (re.compile(r"(?:^|/)v1/messages$"), anthropic.MESSAGES),
    (re.compile(r"/models/(?P<model>[^/]+):(?:generateContent|(?P<stream>streamGenerateContent))$"), gemini.GENERATE),
    (re.compile(r"^/model/(?P<model>[^/]+)/(?:converse|(?P<stream>converse-stream))$"), bedrock.CONVERSE),
    (re.compile(r"/api/chat$"), others.OLLAMA),
    (re.compile(r"/v2/chat$"), others.COHERE),
    (re.compile(r"(?:^|/)embeddings$"), embeddings.OPENAI),
    (re.compile(r"/models/(?P<model>[^/]+):batchEmbedContents$"), embeddings.GEMINI),
    (re.compile(r"/api/embed$"), embeddings.OLLAMA),
)
DEPLOYMENT = re.compile(r"/deployments/([^/]+)/")
KEYS = ("authorization", "x-api-key", "x-goog-api-key", "api-key")
KEPT = 20_000
NAMES = ("fake-1", "fake-2")


@dataclass(frozen=True, slots=True)
class Incoming:
    """An HTTP request."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class App:
    """The server's state and its options."""

    script: Script = field(default_factory=Script)
    fault: str = ""
    delay_ms: float = 0.0
    key: str = ""
    lenient: bool = False
    number: int = 0
    busy: int = 0
    most: int = 0
    requests: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT))

    def at_once(self, change: int) -> None:
        """Count requests that are being answered; GET /_load tells how many there are, and the most there were."""
        self.busy += change
        self.most = max(self.most, self.busy)

    def answer(self, incoming: Incoming) -> Iterable[Step]:
        """Return the answer to a request."""
        path, _, query = incoming.target.partition("?")
        if path.startswith("/_"):
            return [self._control(incoming, path)]
        found = route(path)
        self._record(incoming, path, query)
        if found is None or incoming.method != "POST":
            return [_listing(incoming, path)]
        self.number += 1
        wire, match = found
        try:
            asked = read(wire, match, incoming, self.number)
        except (ValueError, RecursionError) as error:
            case = Case(wire, Asked(number=self.number), Turn())
            told = f"We could not parse the JSON body of your request: {error}"
            return faults.refuse(case, status_trouble(400, case.asked, told))
        return self._reply(wire, asked, incoming.headers)

    def _record(self, incoming: Incoming, path: str, query: str) -> None:
        try:
            body = json.loads(incoming.body) if incoming.body else None
        except (ValueError, RecursionError):
            body = incoming.body.decode("utf-8", "replace")
        kept = {"method": incoming.method, "path": path, "query": query, "headers": dict(incoming.headers), "body": body}
        self.requests.append({**kept, "time": time.time()})

    def _reply(self, wire: Wire, asked: Asked, headers: Mapping[str, str]) -> Iterable[Step]:
        case = Case(wire, asked, Turn())
        refused = self._refused(case)
        if refused:
            return refused
        conversation = self.script.conversation(asked, headers.get("x-conversation", ""))
        turn = Turn() if wire.embeds else self.script.turn(asked, conversation)
        outside = headers.get("x-fault") or (asked.model[6:] if asked.model.startswith("fault:") else self.fault)
        if outside:
            name, arg, times = faults.parse(outside)
            if self.script.faulty(conversation, times):
                if name in faults.DELIVERS and not wire.embeds:
                    self.script.pass_on(conversation)
                return self._later(turn, faults.steps(name, replace(case, turn=numbered(turn or Turn(), asked.number), arg=arg)))
        if turn is not None and turn.expect not in asked.newest:
            return faults.refuse(case, status_trouble(400, asked, f"the script expects {turn.expect!r} in the last message"))
        if turn is None:
            told = f"the script has no more replies for this conversation ({len(self.script.turns)} lines)"
            return faults.refuse(case, status_trouble(400, asked, told))
        if not wire.embeds:
            self.script.pass_on(conversation)
        return self._later(turn, _scripted(replace(case, turn=numbered(turn, asked.number))))

    def _later(self, turn: Turn | None, steps: Iterable[Step]) -> Iterable[Step]:
        delay = self.delay_ms if turn is None or turn.delay_ms is None else turn.delay_ms
        return [delay / 1000, *steps] if delay and isinstance(steps, list) else steps

    def _refused(self, case: Case) -> Iterable[Step] | None:
        if self.key and case.asked.key != self.key:
            return faults.refuse(case, status_trouble(401, case.asked))
        if case.asked.model.startswith("no-such"):
            return faults.refuse(case, status_trouble(404, case.asked))
        problem = "" if self.lenient else case.wire.problem(case.asked)
        return faults.refuse(case, status_trouble(400, case.asked, problem)) if problem else None

    def _control(self, incoming: Incoming, path: str) -> bytes:
        text = incoming.body.decode("utf-8", "replace")
        try:
            match incoming.method, path:
                case "GET", "/_requests":
                    return _json(200, list(self.requests))
                case "GET", "/_load":
                    return _json(200, {"now": self.busy, "most": self.most})
                case "GET", "/_faults":
                    return _json(200, faults.descriptions())
                case "POST", "/_script":
                    self.load(text.splitlines())
                case "POST", "/_fault":
                    self.set_fault(text.strip())
                case "POST", "/_reset":
                    self.script = Script(per=self.script.per)
                    self.fault, self.number, self.most = "", 0, self.busy
                    self.requests.clear()
                case _:
                    return _json(404, {"error": f"no {incoming.method} {path}"})
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            return _json(400, {"error": str(error)})
        return _json(200, {"ok": True})

    def load(self, lines: Iterable[str]) -> None:
        """Set the script; every conversation begins again."""
        found, again = turns(lines)
        for one in found:
            if one.fault:
                faults.parse(one.fault)
        self.script = Script(found, again, self.script.repeat_last, self.script.per)

    def set_fault(self, spec: str) -> None:
        """Set the fault that every request meets ("" for none)."""
        if spec:
            faults.parse(spec)
        self.fault = spec
        self.script.faults.clear()


def _scripted(case: Case) -> Iterable[Step]:
    if not case.turn.fault:
        return [right(case)]
    name, arg, _ = faults.parse(case.turn.fault)
    return faults.steps(name, replace(case, arg=arg))


def _json(status: int, data: Any) -> bytes:
    return http(status, "application/json", dumps(data))


def route(path: str) -> tuple[Wire, re.Match[str]] | None:
    """Return the wire that a path belongs to."""
    return next(((wire, match) for pattern, wire in ROUTES if (match := pattern.search(path))), None)


def read(wire: Wire, match: re.Match[str], incoming: Incoming, number: int) -> Asked:
    """Return the request, read as its wire says. ValueError if the body is no JSON object."""
    body = json.loads(incoming.body)
    if not isinstance(body, dict):
        raise ValueError("not an object")  # noqa: TRY004 - bad input, not a programming error
    path, _, query = incoming.target.partition("?")
    groups = match.groupdict()
    deployment = DEPLOYMENT.search(path)
    named = groups.get("model") or (deployment[1] if deployment else "")
    stream = bool(groups["stream"]) if "stream" in groups else bool(body.get("stream", wire is others.OLLAMA))
    return Asked(
        model=unquote(named) or str(body.get("model", "")),
        stream=stream,
        history=tuple(wire.read(body)),
        tools=tuple(wire.tools(body)),
        key=key(incoming.headers),
        number=number,
        size=len(incoming.body),
        body=body,
        path=path,
        query=query,
        headers=incoming.headers,
    )


def key(headers: Mapping[str, str]) -> str:
    """Return the API key that was sent, however it was."""
    value = next((headers[name] for name in KEYS if name in headers), "")
    if value.startswith("AWS4-HMAC-SHA256"):
        found = re.search(r"Credential=([^/,]+)", value)
        return found[1] if found else ""
    return value.removeprefix("Bearer ")


def _listing(incoming: Incoming, path: str) -> bytes:
    """Return the lists of models, each vendor's way."""
    name = path.rstrip("/").rpartition("/models/")[2] if "/models/" in path else ""
    model = {"id": name or NAMES[0], "object": "model", "created": CREATED, "owned_by": "fake"}
    match incoming.method, path.rstrip("/"):
        case "GET", "/v1/models" if "anthropic-version" in incoming.headers:
            data = [{"type": "model", "id": one, "display_name": one, "created_at": "2026-09-24T00:00:00Z"} for one in NAMES]
            return _json(200, {"data": data, "has_more": False, "first_id": NAMES[0], "last_id": NAMES[-1]})
        case "GET", found if found.endswith("/models") and ("x-goog-api-key" in incoming.headers or "v1beta" in found):
            return _json(200, {"models": [{"name": f"models/{one}", "displayName": one, "inputTokenLimit": 8192} for one in NAMES]})
        case "GET", found if found.endswith("/models"):
            return _json(200, {"object": "list", "data": [{**model, "id": one} for one in NAMES]})
        case "GET", _ if name:
            return _json(200, model)
        case _:
            return _ollama_listing(incoming.method, path)


def _ollama_listing(method: str, path: str) -> bytes:
    details = {"format": "gguf", "family": "fake", "parameter_size": "1B", "quantization_level": "Q4_0"}
    match method, path:
        case "GET", "/api/tags":
            rest = {"modified_at": "2026-09-24T10:00:00Z", "size": 1, "digest": "0", "details": details}
            return _json(200, {"models": [{"name": one, "model": one, **rest} for one in NAMES]})
        case "POST", "/api/show":
            info = {"fake.context_length": 8192}
            return _json(200, {"details": details, "model_info": info, "capabilities": ["completion", "tools"]})
        case "GET", "/api/version":
            return _json(200, {"version": "0.13.0"})
        case "GET", "/":
            return http(200, "text/plain", b"Ollama is running")
        case _:
            told = {"message": f"Invalid URL ({method} {path})", "type": "invalid_request_error", "param": None, "code": None}
            return _json(404, {"error": told})


# --- quick mode


class Quick:
    """Answers without reading: the place in the script is the number of assistant turns in the body. Bytes are made once."""

    def __init__(self, script: Script) -> None:
        self.script = script if script.turns else Script((Turn("ok", times=0),))
        self.made: dict[tuple[bytes, bool, int], bytes] = {}
        self.wires: dict[bytes, tuple[Wire, re.Match[str]]] = {}

    def answer(self, target: bytes, body: bytes) -> bytes | None:
        """Return the answer, or None if the path is no wire's."""
        found = self.wires.get(target)
        if found is None:
            routed = route(target.decode("latin-1").partition("?")[0])
            if routed is None:
                return None
            found = self.wires[target] = routed
        wire, match = found
        place = body.count(wire.marker) or body.count(wire.marker.replace(b":", b": "))
        streams = b'"stream":true' in body or b'"stream": true' in body or bool(match.groupdict().get("stream"))
        at = (target, streams, self._line(place))
        made = self.made.get(at)
        if made is None:
            made = self.made[at] = self._make(wire, target.decode("latin-1"), *at[1:])
        return made

    def _line(self, place: int) -> int:
        for index, one in enumerate(self.script.turns):
            if one.times == 0 or place < one.times:
                return index
            place -= one.times
        return place % len(self.script.turns) if self.script.again else len(self.script.turns) - 1

    def _make(self, wire: Wire, target: str, stream: bool, line: int) -> bytes:
        path, _, query = target.partition("?")
        body = {"stream_options": {"include_usage": True}}
        asked = Asked(stream=stream, number=line, size=400, path=path, query=query, body=body)
        return right(Case(wire, asked, numbered(self.script.turns[line], line)))
