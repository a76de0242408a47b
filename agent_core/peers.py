"""peers - agents outside this process behind the effect `Call`: executables, and agents served over HTTP.

    answer = yield Call(find("code-reviewer", settings), text)       # a registered program, by its name
    answer = yield Call(Remote("shop", "https://shop.example/a2a"), text)
    member("critic=You find faults.", settings)                      # NAME=PROMPT, NAME@PROVIDER[:MODEL], URL or NAME

A program gets the text on stdin and nothing of it in its arguments, an environment scrubbed to what it needs, and what is left of
its caller's depth, time, money and rights (`inherited`). It answers with one terminal record that agrees with its exit status, or,
an ordinary program, with its stdout. Whatever it says of itself is data: cleaned, shortened and marked as its own words.
"""

from __future__ import annotations

import json
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from agent_core import a2a, errors, lineage, money, records, taint, terminal
from agent_core.errors import AgentError, ContractError, DeadlineError, DepthLimit, Failed, UsageError, WaitingError
from agent_core.ops import Http, Invoke, Response, Sleep, Spawn
from agent_core.provider import Request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent_core.members import Member
    from agent_core.ops import Completed
    from agent_core.run import Run, Steps

PATIENCE = 3600.0
MARGIN = 0.5
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")

# What any program needs, and what an agent of this suite needs to reach its model. Everything else stays here.
_PLAIN = re.compile(r"PATH|HOME|USER|LOGNAME|SHELL|TERM|LANG|LANGUAGE|TZ|TMPDIR|NO_COLOR|SSL_CERT_(FILE|DIR)|LC_[A-Z]+|XDG_[A-Z_]+")
_AGENT = re.compile(
    r"(AGENT|LLM|AWS|AZURE_OPENAI|OLLAMA)_[A-Z0-9_]+|[A-Z0-9_]+_(API_KEY|API_BASE|API_URL|API_VERSION|BASE_URL|ENDPOINT|MODEL)"
    r"|CREDENTIALS_DIRECTORY|DBUS_SESSION_BUS_ADDRESS|OTEL_[A-Z0-9_]+"
)
_PYTHON = re.compile(r"PYTHONPATH|PYTHONDONTWRITEBYTECODE|VIRTUAL_ENV|LD_LIBRARY_PATH")
# Settings that were meant for the caller alone, and those that are handed on in another form.
_OWN = frozenset(
    f"AGENT_{name}"
    for name in (
        "SESSION", "SYSTEM", "PERSONA", "PATTERN", "OUTPUT_SCHEMA", "STREAM", "VERBOSE", "QUIET", "ENV_FILE", "ALLOW", "DENY",
        "YES", "BUDGET_USD", "BUDGET_ROW", "TIMEOUT", "DEPTH", "CEILING", "TAINT",
    )
)  # fmt: skip
_CLASSES: Mapping[int, type[AgentError]] = {
    1: errors.Failed, 2: errors.UsageError, 4: errors.LimitError, 5: errors.WaitingError, 6: errors.UpstreamError,
    65: errors.InputError, 66: errors.MissingInput, 69: errors.ProviderError, 70: errors.AgentError, 75: errors.RateLimited,
    76: errors.ContractError, 77: errors.DeniedError, 78: errors.ConfigError, 124: errors.DeadlineError, 130: errors.Cancelled,
    143: errors.Cancelled,
}  # fmt: skip
_GOOD = frozenset({0, 3})


class Said(str):
    """A peer's answer: text, with what its record says of the run (`facts`: agent, run, status, usage) for the journal."""

    __slots__ = ("facts",)
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, text: str, facts: Mapping[str, Any]) -> Said:
        """Return the text with its facts."""
        made = cls(text)
        made.facts = facts
        return made


# -- executables -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Executable:
    """A program as a carrier. `sha256`: the hash that the file named by the last word of `argv` must have ("": not checked).

    `record`: it is an agent of this suite and is asked for a record (`--json`); else its stdout is the answer.
    """

    name: str
    argv: tuple[str, ...]
    sha256: str = ""
    record: bool = True
    outside: ClassVar[bool] = True

    def program(self, message: str, run: Run, prefix: str) -> Steps:  # noqa: ARG002 - all carriers have one shape
        """Return the program that asks it. DeniedError if the file changed, else what its status stands for."""
        deadline = _deadline(run)
        environment, folder = yield Invoke(_prepared, {"peer": self, "run": run, "deadline": deadline})
        # `--in text`: a message that looks like a record is text all the same.
        argv = [*self.argv, *(("--json", "--in", "text") if self.record else ())]
        try:
            done = yield Spawn(argv, terminal.encode(message), environment, folder, deadline, grace=_grace(run))
        except DeadlineError:
            raise _late(self.name) from None
        if done.stopped:
            raise _stopped(self.name, done, run)
        if not self.record:
            return _plain(self.name, done)
        data = terminal_record(self.name, done)
        _account(run, data, charge=False)
        output = data.get("output")
        text = (yield Invoke(records.get_blob, {"blob": data["blob"]}, deadline)) if isinstance(data.get("blob"), dict) else output
        return _answer(self.name, data, _with_structure(text, data), run)


def _late(name: str) -> DeadlineError:
    return DeadlineError(f"{name} did not answer in time", hint="raise --timeout")


def _stopped(name: str, done: Completed, run: Run) -> AgentError:
    """Return the error of a program that was told to end, with what its record, if it wrote one, says of its run."""
    error: AgentError = _late(name) if done.stopped == "timeout" else errors.Cancelled(f"{name} was stopped", cause=done.stopped)
    with suppress(AgentError):
        data = terminal_record(name, done)
        _account(run, data, charge=False)
        error.facts = facts(name, data)
    return error


def _grace(run: Run) -> float:
    return float(getattr(settings_of(run), "grace", 2.0))


def _deadline(run: Run) -> float:
    until: float | None = run.until(None)
    return run.clock() + PATIENCE if until is None else until


def _prepared(peer: Executable, run: Run, deadline: float) -> tuple[dict[str, str], str | None]:
    """Check the file and return (environment, working directory). The one place here that looks at the world."""
    if peer.sha256:
        from agent_core import catalogue

        catalogue.verify(catalogue.Entry(peer.name, peer.argv, peer.sha256))
    settings = settings_of(run)
    made = scrubbed(getattr(settings, "environment", {}), record=peer.record, frozen=bool(getattr(sys, "frozen", False)))
    made |= inherited(run, settings, deadline - run.clock())
    return made, getattr(settings, "workspace", "") or None


def settings_of(run: Run) -> Any:
    """Return the settings of a run (None for a run that was put together by hand)."""
    return getattr(run, "settings", None)


def scrubbed(environment: Mapping[str, str], *, record: bool, frozen: bool = False) -> dict[str, str]:
    """Return the part of an environment that a program needs: no keys for ordinary programs, for agents those of models.

    A frozen program runs with a library path of its own; what was there before is put back.
    """
    wanted = [_PLAIN, *([_AGENT] if record else []), *([] if frozen else [_PYTHON])]
    made = {
        name: value
        for name, value in environment.items()
        if name not in _OWN and any(pattern.fullmatch(name) for pattern in wanted)
    }
    if environment.get("LD_LIBRARY_PATH_ORIG"):
        made["LD_LIBRARY_PATH"] = environment["LD_LIBRARY_PATH_ORIG"]
    return made


def inherited(run: Run, settings: Any, seconds: float) -> dict[str, str]:
    """Return what a called process must keep to: trace, depth, time left, rights, and what is left of the budgets.

    Raises:
        DepthLimit: it would be called too deeply.
        BudgetLimit: there is no money left.
        StoreError: a budget cannot be shared.
    """
    made = {
        "TRACEPARENT": lineage.traceparent_of(run.id, getattr(run, "traceparent", "")),
        "AGENT_DEPTH": str(_next_depth(getattr(run, "depth", 0))),
        # What we have read may be in the message.
        "AGENT_TAINT": ",".join(sorted(getattr(run.totals, "seen", ()))),
        # A little less than we have ourselves: it shall end with a record of its own.
        "AGENT_TIMEOUT": f"{max(0.001, seconds - min(MARGIN, seconds * 0.1)):.3f}",
        "AGENT_GRACE": f"{max(0.0, _grace(run) - MARGIN):.3f}",
    }
    if settings is not None:
        made |= {"AGENT_DATA_DIR": settings.data_dir, "AGENT_WORKSPACE": settings.workspace, **_rights(settings)}
    if run.guards:
        made |= _budget(run, settings)
    return {name: value for name, value in made.items() if value}


def _next_depth(depth: int) -> int:
    from agent_core.interpreter import DEPTH_LIMIT

    if depth >= DEPTH_LIMIT:
        raise DepthLimit(f"agents call each other more than {DEPTH_LIMIT} deep", hint="do two of them call each other?")
    return depth + 1


def check_depth(environment: Mapping[str, str]) -> None:
    """Refuse to begin in a process that was called too deeply. DepthLimit, or ConfigError for a depth that is no number."""
    from agent_core.interpreter import DEPTH_LIMIT

    text = environment.get("AGENT_DEPTH", "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 4):
        raise errors.ConfigError(f"AGENT_DEPTH: {text[:40]!r} is no number", hint="it is set by the agent that calls; unset it")
    if int(text or 0) > DEPTH_LIMIT:
        raise DepthLimit(f"agents call each other more than {DEPTH_LIMIT} deep", hint="do two of them call each other?")


def _rights(settings: Any) -> dict[str, str]:
    from agent_core import ceiling

    rules = {name: ceiling.absolute(getattr(settings, name), settings.workspace) for name in ("allow", "deny")}
    # The list is separated by commas: a grant that holds one is left out, which can only narrow. Denials are all in the ceiling.
    lists = {f"AGENT_{name.upper()}": ",".join(rule for rule in kept if "," not in rule) for name, kept in rules.items()}
    made = {**lists, "AGENT_YES": "1" if settings.yes else "", ceiling.VARIABLE: ceiling.of(settings)}
    choice = getattr(settings, "sandbox", "auto")
    return made if choice == "auto" else {**made, "AGENT_SANDBOX": choice}


def _budget(run: Run, settings: Any) -> dict[str, str]:
    import os

    from agent_core import ledger, running

    store = running.opened(running.store_path(settings)) if settings is not None and settings.data_dir else None
    return ledger.for_child(run.guards, store, f"run:{run.id}:{os.getpid()}:{lineage.started(os.getpid()) or 0}")


def _plain(name: str, done: Completed) -> str:
    """Return the stdout of an ordinary program; its status 0 is all that counts."""
    if done.status:
        raise Failed(_words(name, _status(done.status), done.stderr), hint=f"status {done.status}")
    return Said.of(done.stdout.decode("utf-8", "surrogateescape"), {"agent": name, "status": 0})


def _status(status: int) -> str:
    return f"was killed by signal {-status}" if status < 0 else f"failed with status {status}"


def terminal_record(name: str, done: Completed) -> dict[str, Any]:
    """Return `data` of the one terminal record that a program wrote and that agrees with its status. Pure.

    Raises:
        ContractError: there is none, there are several, more follows it, a line is no record, or it disagrees with the status.
        Failed: the program was killed.
    """
    found, problem = _result(done.stdout)
    if found is None:
        if done.status < 0:
            raise Failed(_words(name, _status(done.status), done.stderr), hint="see its own log")
        raise ContractError(_words(name, problem, done.stderr), hint=f"its status is {done.status}")
    status = done.status if done.status >= 0 else 128 - done.status
    if found.get("exit") != status:
        shown = str(found.get("exit"))[:20]
        raise ContractError(f"{name} broke the contract: it ended with {status} and its record says {shown}", hint="update it")
    if bool(found.get("isError")) == (status in _GOOD):
        raise ContractError(f"{name} broke the contract: status {status} and isError disagree", hint="update it")
    return found


def _result(body: bytes) -> tuple[dict[str, Any] | None, str]:
    """Return (data of the one result, "") or (None, what is wrong)."""
    rows = [records.loads(line) for line in body.split(b"\n") if line.strip()]
    if not rows:
        return None, "wrote no record"
    if not all(isinstance(row, dict) and row.get("agentpipe") == "1" for row in rows):
        return None, "wrote something that is no record"
    results = [row for row in rows if row.get("type") == "agentpipe.result"]
    if len(results) != 1 or results[0] is not rows[-1]:
        return None, f"wrote {len(results)} terminal records where one ends the stream"
    data = results[0].get("data")
    return (data, "") if isinstance(data, dict) else (None, "wrote a record without data")


def _with_structure(text: Any, data: Mapping[str, Any]) -> str:
    """Return the answer as text; one that has only a structure is its JSON."""
    if not text and data.get("structuredContent") is not None:
        return json.dumps(data["structuredContent"], ensure_ascii=False)
    return text if isinstance(text, str) else ""


def _answer(name: str, data: Mapping[str, Any], text: str, run: Run) -> str:
    """Return the answer, or raise what the status stands for. Status 3 is an answer: it ran well and says no."""
    status = int(data["exit"])
    made = facts(name, data)
    if status in _GOOD:
        return Said.of(text, made)
    error = failure(name, data)
    error.facts = made
    if status == 4 and text:
        error.partial = text  # type: ignore[attr-defined]
        run.totals.last = text
    raise error


def facts(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the journal keeps of a peer's record: agent, run, status, usage and what it had seen, each checked."""
    run, sources = data.get("run_id"), data.get("provenance")
    rows = [row for row in sources if isinstance(row, dict)] if isinstance(sources, list) else []
    # A peer's word can add what its answer may hold; that it is to be trusted, nobody believes.
    private = any(isinstance(row.get("labels"), list) and taint.PRIVATE in row["labels"] for row in rows)
    return {
        "agent": name,
        "run": run[:64] if isinstance(run, str) else "",
        "status": data.get("exit"),
        "usage": usage(data.get("usage")),
        **({"labels": [taint.PRIVATE]} if private else {}),
    }


def failure(name: str, data: Mapping[str, Any]) -> AgentError:
    """Return the error that a record of failure stands for, with the peer's own words."""
    status, said = int(data["exit"]), data.get("error")
    detail = said.get("detail") if isinstance(said, dict) else ""
    stop = str(data.get("stop") or "")
    kind = errors.BudgetLimit if status == 4 and stop == "budget" else _CLASSES.get(status, Failed)
    error = kind(f"{name} says: {a2a.shown(str(detail or data.get('status') or 'nothing'))}", hint=_hint(kind, data))
    if kind is errors.Cancelled:
        error.status = status
    return error


def _hint(kind: type[AgentError], data: Mapping[str, Any]) -> str:
    run = a2a.shown(str(data.get("run_id") or ""))[:64]
    if kind is WaitingError:
        return f"decide with agent-log resume {run}, then resume this run" if run else "it waits for a person"
    return f"agent-log show {run}" if run else ""


def _words(name: str, what: str, stderr: bytes) -> str:
    said = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    return f"{name} {what}" + (f" and says: {a2a.shown(said[-1])}" if said else "")


# -- what it used ------------------------------------------------------------------------------------------------------------------


def usage(found: Any) -> dict[str, Any]:
    """Return the usage of a record with every field checked: counts or None, money as a decimal string or None."""
    given = found if isinstance(found, dict) else {}
    counts = {name: _count(given.get(name)) for name in ("input_tokens", "cached_input_tokens", "output_tokens", "calls")}
    return {**counts, "cost_usd": _amount(given.get("cost_usd"))}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15 else None


def _amount(value: Any) -> str | None:
    try:
        return money.text(money.pico(value)) if isinstance(value, str) and len(value) < 40 else None
    except ValueError:
        return None


def count(totals: Any, used: Mapping[str, Any]) -> None:
    """Add what a peer used to a run's totals. What it does not say makes the sum unknown."""
    totals.calls += used.get("calls") or 0
    totals.counted = totals.counted and used.get("input_tokens") is not None and used.get("output_tokens") is not None
    totals.input_tokens += used.get("input_tokens") or 0
    totals.cached_input_tokens += used.get("cached_input_tokens") or 0
    totals.output_tokens += used.get("output_tokens") or 0
    cost = used.get("cost_usd")
    totals.cost = None if cost is None or totals.cost is None else totals.cost + money.pico(cost)


def _account(run: Run, data: Mapping[str, Any], *, charge: bool) -> None:
    """Count a peer's bill. `charge`: it did not settle in the rows of our budgets itself."""
    from agent_core import guards

    used = usage(data.get("usage"))
    count(run.totals, used)
    cost = money.pico(used["cost_usd"] or "0")
    for guard in run.guards:
        if isinstance(guard, guards.Budget):
            guard.spent += cost
        elif charge and hasattr(guard, "charge"):
            guard.charge(cost)


# -- agents served over HTTP -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Remote:
    """An agent at an address. `speaks`: a2a (1.0), a2a-0.3, record (agentpipe/1), or auto: in this order, the first not refused.

    `headers` are sent along; a secret belongs there and never in the address.
    """

    name: str
    url: str
    speaks: str = "auto"
    headers: tuple[tuple[str, str], ...] = ()
    outside: ClassVar[bool] = True

    def program(self, message: str, run: Run, prefix: str) -> Steps:
        """Return the program that asks it."""
        styles = ("a2a", "a2a-0.3", "record") if self.speaks == "auto" else (self.speaks,)
        deadline = _deadline(run)
        for style in styles:
            request = self._request(style, message, run, prefix)
            answer = yield Http(request, deadline)
            if style == styles[-1] or not a2a.refused(answer):
                break
        data = yield from self._result(style, answer, run, deadline)
        _account(run, data, charge=True)
        return _answer(self.name, data, _with_structure(data.get("output"), data), run)

    def _request(self, style: str, message: str, run: Run, prefix: str) -> Request:
        import hashlib

        name = hashlib.sha256(f"{run.id}/{prefix}".encode()).hexdigest()[:32]
        if style == "record":
            source = records.Source("caller", "1", lineage.traceparent_of(run.id, getattr(run, "traceparent", "")))
            made = records.record("item", source, {"output": message, "content": [_part(message)]}, id_=name, time=run.now())
            return self._post(records.line(made), run, "application/x-ndjson")
        return self._post(json.dumps(a2a.send(message, name, style), ensure_ascii=True).encode(), run, "application/json", style)

    def _post(self, body: bytes, run: Run, kind: str, style: str = "") -> Request:
        trace = lineage.traceparent_of(run.id, getattr(run, "traceparent", ""))
        headers = [("content-type", kind), ("accept", "application/json, application/x-ndjson"), ("traceparent", trace)]
        headers += [("agent-depth", str(_next_depth(getattr(run, "depth", 0)))), *self.headers]
        if style == "a2a":
            headers.append(("a2a-version", "1.0"))
        return Request("POST", self.url, tuple(headers), body)

    def _result(self, style: str, answer: Response, run: Run, deadline: float) -> Steps:
        """Return `data` of a result; a task that is still being worked on is asked for again until it is done."""
        pause = 0.5
        while True:
            if style == "record" or records.looks_like_records(answer.body):
                return _from_record(self.name, answer)
            data, task = a2a.received(self.name, answer)
            if not task:
                return data
            if run.clock() + pause >= deadline:
                raise DeadlineError(f"{self.name} is not done in time", hint="raise --timeout")
            yield Sleep(pause)
            pause = min(pause * 1.5, 5.0)
            answer = yield Http(self._post(json.dumps(a2a.poll(task, style)).encode(), run, "application/json", style), deadline)


def _part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _from_record(name: str, answer: Response) -> dict[str, Any]:
    found, problem = _result(answer.body)
    if found is None:
        a2a.check_http(name, answer)
        raise ContractError(f"{name} {problem}", hint=f"HTTP {answer.status}")
    status = found.get("exit")
    if status not in errors.EXIT_TABLE or bool(found.get("isError")) == (status in _GOOD):
        raise ContractError(f"{name} broke the contract: exit and isError of its record disagree", hint="update it")
    # A blob is a file of another machine.
    return {key: value for key, value in found.items() if key != "blob"}


# -- by name -----------------------------------------------------------------------------------------------------------------------


def find(name: str, settings: Any) -> Executable:
    """Return a registered agent or program by its name. UsageError for another name, DeniedError if its file changed."""
    from agent_core import catalogue

    entry = catalogue.find(name, settings.data_dir)
    return Executable(entry.name, entry.argv, entry.sha256, record=entry.kind == "agent")


def member(spec: str, settings: Any) -> Member | Executable | Remote:
    """Return the carrier that a word of a command line names.

    NAME=SYSTEM PROMPT · NAME@PROVIDER[:MODEL][=SYSTEM PROMPT] · http(s)://… · NAME of a registered agent, else of a persona.

    Raises:
        UsageError: it names nothing; the nearest names are told.
    """
    if re.match(r"https?://", spec, re.IGNORECASE):
        return remote(spec)
    head, equals, system = spec.partition("=")
    name, at, route = head.partition("@")
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{spec[:80]!r} names no agent", hint="NAME, NAME=PROMPT, NAME@PROVIDER:MODEL or a URL; a path needs agent-find adopt"
        )
    if equals or at:
        from agent_core.members import Member

        provider, _, model = route.partition(":")
        if at and not provider:
            raise UsageError(f"{spec[:80]!r} names no provider", hint="NAME@PROVIDER or NAME@PROVIDER:MODEL")
        return Member(name, system.strip() or (_persona(name, settings) or ""), provider=provider, model=model)
    return _named(name, settings)


def _named(name: str, settings: Any) -> Member | Executable:
    from agent_core import catalogue
    from agent_core.members import Member
    from agent_core.options import unknown

    registered = catalogue.names(settings.data_dir)
    if name in registered:
        return find(name, settings)
    system = _persona(name, settings)
    if system is None:
        raise unknown("agent", name, [*registered, *_personas(settings)])
    return Member(name, system)


def _persona(name: str, settings: Any) -> str | None:
    """Return the system prompt of a persona, None if there is none of that name."""
    from agent_core import prompt

    return prompt.compose(prompt.persona(name, _folders(settings)), "").strip() if name in _personas(settings) else None


def _personas(settings: Any) -> Sequence[str]:
    from agent_core import prompt

    return list(prompt.personas(_folders(settings)))


def _folders(settings: Any) -> list[Any]:
    from pathlib import Path

    from agent_core import config

    return [Path(config.user_dir(settings.environment)) / "personas"]


def remote(url: str) -> Remote:
    """Return the agent at an address. UsageError for an address without a host, or with a password in it."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, secret = parts.hostname or "", "@" in parts.netloc
    except ValueError:
        host, secret = "", False
    if not host or secret or not url.isprintable() or " " in url:
        raise UsageError(
            "no address of an agent" if not secret else "a password in an address is for all to see", hint="https://HOST/PATH"
        )
    return Remote(f"{host}{parts.path.rstrip('/')}"[:64], url)
