"""client - one live server: the connection, what was asked and not yet answered, its tools.

A tool is a plain function that runs on whichever thread the run uses; all of them share one connection. Answers are matched to
requests by number: what nobody waits for (a second answer, a made-up number, one that comes too late) is dropped. Who stops waiting
tells the server so.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from agent_core import plugins
from agent_core.errors import AgentError, ConfigError, ContractError, DeadlineError, TransportError
from agent_plugins.mcp import wire
from agent_plugins.mcp.http import Gone, Http
from agent_plugins.mcp.stdio import Stdio

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent_plugins.mcp.servers import Server

PROBE = 5.0
PAGES, TOOLS = 100, 512
RESTARTS = 3
ROUNDS = 10
NOTICES = 200


class Tell(Protocol):
    """Tells a person something; without `loud` only with -v."""

    def __call__(self, text: str, *, loud: bool = False) -> None:
        """Say it."""


@dataclass(frozen=True, slots=True)
class Listed:
    """The tools of a server as it describes them, and in which order they came."""

    tools: tuple[dict[str, Any], ...] = ()


class Client:
    """A server in use. `start` connects and lists the tools, `call` calls one, `close` ends it; from any thread."""

    def __init__(self, server: Server, settings: Any, tell: Tell) -> None:
        """Connect to nothing yet. `tell` is given what a person may want to read with -v."""
        self.server, self._settings, self._tell = server, settings, tell
        self.facts: wire.Facts | None = None
        self.listed = Listed()
        self.stale = False
        self._lock, self._starting = threading.Lock(), threading.Lock()
        self._waiting: dict[int, Future[Any]] = {}
        self._number = 0
        self._told = 0
        self._starts = 0
        self._closed = False
        self._transport: Stdio | Http | None = None
        self.failure: Exception | None = None
        self.told = False

    # -- the life of a connection

    def start(self, deadline: float, *, probe: bool = True) -> None:
        """Connect, shake hands and list the tools.

        Raises:
            ConfigError: it is no program, or cannot be run.
            TransportError: it ended, broke off, or did not answer in time.
            ContractError: it does not speak the protocol, or no version that is known.
            AuthError: it wants a key.
        """
        with self._starting:
            if self._transport is not None and self._transport.alive:
                return
            # A server of the old era may take offence at a question before `initialize`: it gets a second chance without.
            for last, asks in ((not probe, probe), (True, False)):
                try:
                    self._begin(deadline, probe=asks)
                    break
                except _Ended as ended:
                    if last or ended.started:
                        raise TransportError(f"the MCP server {self.server.name} {ended}", hint="see -v for what it says") from None

    def _begin(self, deadline: float, *, probe: bool) -> None:
        self._drop()
        if self._closed:
            raise TransportError(f"the MCP server {self.server.name} is closed")
        self._starts += 1
        self.facts = None
        self._transport = self._opened()
        try:
            self.facts = self._shaken(wire.handshake(probe=probe), deadline)
            self.listed = Listed(tuple(self._list(deadline))) if self.facts.tools else Listed()
            self.stale = False
        except TimeoutError:
            self._drop()
            raise TransportError(
                f"the MCP server {self.server.name} did not answer in time", hint="raise start_timeout in its entry"
            ) from None
        except wire.RpcError as error:
            self._drop()
            raise ContractError(
                f"the MCP server {self.server.name} refuses: {_shown(error)}", hint="is it an MCP server?"
            ) from None
        except ContractError as error:
            self._drop()
            raise ContractError(_named(self.server, error), hint=error.hint) from None
        except BaseException:
            self._drop()
            raise

    def _opened(self) -> Stdio | Http:
        if self.server.url:
            return Http(self.server, self._take, self._say)
        return Stdio(self.server, self._settings, self._take, self._ended, self._say)

    def _drop(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def close(self) -> None:
        """End the server for good; who still waits is told."""
        self._closed = True
        self._drop()
        self._ended()

    def refresh(self, deadline: float) -> None:
        """List the tools again if the server said that they changed."""
        if self.stale and self.facts is not None and self.facts.tools:
            self.stale = False
            before, self.listed = self.listed, Listed(tuple(self._list(deadline)))
            changed = _changed(before, self.listed)
            if changed:
                self._tell(f"the MCP server {self.server.name} changed its tools: {', '.join(changed)[:300]}", loud=True)

    # -- requests

    def call(self, name: str, arguments: Mapping[str, Any], deadline: float, headers: Mapping[str, str]) -> dict[str, Any]:
        """Return the result of a tool. Raises what `request` raises."""
        return self.request("tools/call", {"name": name, "arguments": dict(arguments)}, deadline, headers)

    def request(self, method: str, params: Mapping[str, Any], deadline: float, headers: Mapping[str, str] = {}) -> dict[str, Any]:
        """Return the answer to a request. What `start` raises, RpcError, and TimeoutError at the deadline (on time.monotonic)."""
        self._ready(deadline)
        given = dict(params)
        for turn in range(ROUNDS):
            found = self._answered(method, given, deadline, headers)
            if found.get("resultType", "complete") != "input_required":
                return found
            given |= self._further(found, turn, deadline)
        raise ContractError(f"the MCP server {self.server.name} asks again and again instead of answering")

    def _answered(self, method: str, params: Mapping[str, Any], deadline: float, headers: Mapping[str, str]) -> dict[str, Any]:
        try:
            return self._asked(method, params, deadline, headers)
        except Gone:
            # The server forgot the session and did nothing: begin another.
            self._drop()
            self.start(deadline)
            return self._asked(method, params, deadline, headers)
        except _Ended as ended:
            hint = "it may have done what it was asked" if method == "tools/call" else "see -v for what it says"
            raise TransportError(f"the MCP server {self.server.name} {ended}", hint=hint) from None

    def _further(self, found: Mapping[str, Any], turn: int, deadline: float) -> dict[str, Any]:
        """Return what to send again where a server wants more: its state, and a no to whatever it asks a person."""
        wanted = found.get("inputRequests")
        asked = wanted if isinstance(wanted, dict) else {}
        for each in asked.values():
            method = str(each.get("method") if isinstance(each, dict) else "")[:80]
            if method not in {"elicitation/create", "roots/list"}:
                raise ContractError(f"the MCP server {self.server.name} wants {method or 'more'}, which is not offered")
        if not asked:
            time.sleep(max(0.0, min(0.05 * 2 ** min(turn, 3), deadline - time.monotonic())))
        answers: dict[str, Any] = {
            key: {"roots": []} if each["method"] == "roots/list" else {"action": "decline"} for key, each in asked.items()
        }
        state = found.get("requestState")
        return {**({"inputResponses": answers} if answers else {}), **({"requestState": state} if isinstance(state, str) else {})}

    def _ready(self, deadline: float) -> None:
        """Start a server again that ended between two calls."""
        if self._transport is not None and self._transport.alive:
            return
        if self._starts > RESTARTS:
            raise TransportError(f"the MCP server {self.server.name} ended {RESTARTS} times", hint="see -v for what it says")
        self.start(min(deadline, time.monotonic() + self.server.start_timeout))

    def _asked(
        self,
        method: str,
        params: Mapping[str, Any],
        deadline: float,
        headers: Mapping[str, str] = {},
        version: str | None = None,
    ) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        if version is None:
            version = wire.MODERN if self.facts is not None and self.facts.modern else ""
        number, future = self._registered()
        try:
            self._post(wire.request(number, method, params, version), deadline, headers)
            found: dict[str, Any] = future.result(max(0.0, deadline - time.monotonic()))
        except BaseException as problem:
            # Also where the run's own alarm rang, or a person pressed Ctrl-C: the server is told to stop.
            if not isinstance(problem, wire.RpcError | _Ended | Gone | AgentError):
                self._cancel(number, method, version)
            raise
        finally:
            with self._lock:
                self._waiting.pop(number, None)
        return found

    def _registered(self) -> tuple[int, Future[Any]]:
        future: Future[Any] = Future()
        with self._lock:
            self._number += 1
            self._waiting[self._number] = future
            return self._number, future

    def _post(self, message: Mapping[str, Any], deadline: float, headers: Mapping[str, str] = {}) -> None:
        transport = self._transport
        if transport is None:
            raise _Ended("is closed")
        if isinstance(transport, Http):
            transport.post(message, deadline, headers)
            return
        if not transport.alive:
            raise _Ended(transport.why(), started=self.facts is not None)
        try:
            transport.post(message, deadline)
        except TransportError:
            raise _Ended(transport.why(), started=self.facts is not None) from None

    def _cancel(self, number: int, method: str, version: str) -> None:
        """Tell the server that nobody waits any more. Over HTTP in the modern era the closed connection says so."""
        if method == "initialize" or (isinstance(self._transport, Http) and version):
            return
        with suppress(Exception):
            params = {"requestId": number, "reason": "the caller stopped waiting"}
            self._post(wire.notification("notifications/cancelled", params, version), time.monotonic() + 0.2)

    def _shaken(self, dialogue: wire.Dialogue, deadline: float) -> wire.Facts:
        """Carry out a handshake."""
        step = next(dialogue)
        while True:
            try:
                try:
                    step = dialogue.send(self._stepped(step, deadline))
                except (wire.RpcError, wire.Silence) as answer:
                    step = dialogue.throw(answer)
            except StopIteration as end:
                facts: wire.Facts = end.value
                return facts

    def _stepped(self, step: wire.Step, deadline: float) -> Any:
        if step.notification:
            self._post(wire.notification(step.method, step.params, step.version), deadline)
            return None
        until = min(deadline, time.monotonic() + PROBE) if step.patient else deadline
        try:
            found = self._asked(step.method, step.params, until, version=step.version)
        except TimeoutError:
            if step.patient and until < deadline:
                raise wire.Silence from None
            raise
        if isinstance(self._transport, Http) and step.method == "initialize":
            self._transport.version = str(found.get("protocolVersion", ""))[:40]
        return found

    def _list(self, deadline: float) -> Iterator[dict[str, Any]]:
        """Yield the descriptions of all tools, page by page."""
        cursor, seen, count = None, set(), 0
        for _ in range(PAGES):
            page = self._asked("tools/list", {} if cursor is None else {"cursor": cursor}, deadline)
            tools = page.get("tools")
            for each in tools if isinstance(tools, list) else ():
                if isinstance(each, dict) and count < TOOLS:
                    count += 1
                    yield each
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str) or cursor in seen or count >= TOOLS:
                return
            seen.add(cursor)

    # -- what comes in

    def _take(self, message: dict[str, Any]) -> None:
        """Take one message: an answer, a request of the server's, or news."""
        number = wire.answered(message)
        if number is not None:
            with self._lock:
                future = self._waiting.pop(number, None)
            if future is None:
                self._say("answered what nobody asked (any more)")
                return
            found = wire.outcome(message)
            if isinstance(found, wire.RpcError):
                future.set_exception(found)
            else:
                future.set_result(found)
        elif "method" in message:
            self._heard(message)

    def _heard(self, message: Mapping[str, Any]) -> None:
        answer = wire.reply(message)
        if answer is not None:
            with suppress(Exception):  # a server that does not listen need not be answered
                self._post(answer, time.monotonic() + 1.0)
            return
        params = message.get("params")
        given: Mapping[str, Any] = params if isinstance(params, dict) else {}
        match message["method"]:
            case "notifications/tools/list_changed":
                self.stale = True
            case "notifications/message":
                self._say(f"{given.get('level', 'info')}: {given.get('data', '')}")
            case "notifications/progress":
                total = f" of {given['total']}" if "total" in given else ""
                self._say(f"{given.get('message', 'progress')}: {given.get('progress', '?')}{total}")

    def _ended(self) -> None:
        """Tell all who wait that no answer will come."""
        with self._lock:
            waiting, self._waiting = list(self._waiting.values()), {}
        why = self._transport.why() if waiting and self._transport is not None else "is closed"
        for future in waiting:
            future.set_exception(_Ended(why, started=self.facts is not None))

    def _say(self, text: str) -> None:
        self._told += 1
        if self._told <= NOTICES:
            self._tell(f"{self.server.name}: {text[:500]}")


class _Ended(Exception):  # noqa: N818 - what happened to the connection
    """The connection ended while something was waited for."""

    def __init__(self, why: str, *, started: bool = False) -> None:
        super().__init__(why)
        self.started = started


def _changed(before: Listed, now: Listed) -> list[str]:
    """Return what differs between two listings: +new, -gone, ~described otherwise."""
    old, new = ({str(tool.get("name")): tool for tool in listed.tools} for listed in (before, now))
    marks = {
        name: "-" if name not in new else "+" if name not in old else "~"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    }
    return [f"{mark}{name}" for name, mark in marks.items()]


def _named(server: Server, error: ContractError) -> str:
    text = str(error)
    return text if server.name in text else f"the MCP server {server.name}: {text}"


def _shown(error: Exception) -> str:
    from agent_core.a2a import shown

    return shown(str(error))


# -- all of a process -------------------------------------------------------------------------------------------------------------

_live: dict[Server, Client] = {}
_guard = threading.Lock()


def connected(wanted: tuple[Server, ...], settings: Any, tell: Tell) -> list[Client]:
    """Return the servers of a run, started (all at once) where they are not yet; they live as long as the process.

    An `optional` one that does not start is left out, with a notice.

    Raises:
        AgentError: one does not start (see `Client.start`); DeadlineError if `--timeout` ends before.
    """
    with _guard:
        plugins.at_end(close)
        clients = [_live.setdefault(server, Client(server, settings, tell)) for server in wanted]
    _at_once([client for client in clients if client.failure is None], settings.timeout)
    for client in clients:
        if client.failure is not None:
            _judge(client, tell)
    return [client for client in clients if client.failure is None]


def _judge(client: Client, tell: Tell) -> None:
    """Raise what kept a server from starting, or tell it once where the server is optional."""
    error: Exception = client.failure or TransportError("it does not start")
    if client.server.optional and not isinstance(error, DeadlineError):
        if not client.told:
            client.told = True
            tell(f"{error}; it is optional and left out", loud=True)
        return
    with _guard:
        _live.pop(client.server, None)
    raise error


def _at_once(clients: list[Client], most: float | None) -> None:
    """Start or refresh servers, each on a thread; what goes wrong is kept in `failure`."""
    now = time.monotonic()

    def work(client: Client) -> None:
        limit = client.server.start_timeout if most is None else min(client.server.start_timeout, most)
        try:
            client.start(now + limit)
            client.refresh(now + limit)
        except Exception as error:  # noqa: BLE001 - carried to who asked
            late = most is not None and time.monotonic() >= now + most
            client.failure = DeadlineError("the deadline passed", hint="raise --timeout") if late else _as_error(client, error)

    threads = [threading.Thread(target=work, args=(client,), daemon=True) for client in clients]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        close()
        raise


def _as_error(client: Client, error: Exception) -> Exception:
    if isinstance(error, AgentError):
        return error
    if isinstance(error, TimeoutError | _Ended | wire.RpcError | Gone):
        return TransportError(f"the MCP server {client.server.name} does not list its tools: {_shown(error)}")
    return ConfigError(f"the MCP server {client.server.name} cannot be used: {type(error).__name__}: {_shown(error)}")


def close() -> None:
    """End all servers of this process."""
    with _guard:
        clients = list(_live.values())
        _live.clear()
    threads = [threading.Thread(target=client.close, daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3.0)
