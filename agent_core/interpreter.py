"""interpreter - turns a pattern's effects into IO ops; journal, guards and events live here and nowhere else.

    effect → journal lookup → guards → IO op → journal → event → outcome

It is a generator itself and does no IO: a trampoline (`agent_core.drive`) carries out the ops. Every effect has a position in
its run, a path of indices ("3", "3.0", "2.1.4"); outcomes are recorded under it with a fingerprint of the request. A resumed run
is fed recorded outcomes until they end; a replayed run (`live=False`) never goes further.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent_core import guards as guarding
from agent_core import messages, money, taint
from agent_core import redact as redaction
from agent_core.effects import Act, All, Ask, Call, Note, Wait
from agent_core.errors import (
    AgentError,
    BudgetLimit,
    CallTimeout,
    ContractError,
    DeadlineError,
    DeniedError,
    DepthLimit,
    DivergedError,
    ProviderError,
    QuorumLimit,
    RepeatLimit,
    WaitingError,
)
from agent_core.events import Event
from agent_core.messages import Message, ToolCall, ToolResult
from agent_core.ops import Gather, Http, Invoke, Response, Sleep, Tell
from agent_core.provider import Reply, Usage

if TYPE_CHECKING:
    from agent_core.effects import Pattern
    from agent_core.guards import Guard, Outward
    from agent_core.ops import Outcome, Program
    from agent_core.provider import Delta, Provider
    from agent_core.tool import Tool, Toolset

Steps = Generator[Any, Any, Any]

TOLD_AT, STOP_AT, MALFORMED_STOP = 3, 5, 3
DEPTH_LIMIT = 4
_SHOWN_INPUT = 2000
_QUESTIONS = 6
_WORTH_SAYING = 0.5


@dataclass(slots=True)
class Totals:
    """What a run has used so far; shared by all its children."""

    calls: int = 0
    steps: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    cost: int | None = 0
    basis: str = ""
    counted: bool = True
    denied: DeniedError | None = None
    denials: list[DeniedError] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    last: str = ""
    provider: str = ""
    model: str = ""

    def add(self, usage: Usage, provider: str, model: str, cost: int | None, basis: str) -> None:
        """Count one model call."""
        self.calls += 1
        self.provider, self.model = provider, model
        self.counted = self.counted and usage.input_tokens is not None
        self.input_tokens += usage.input_tokens or 0
        self.cached_input_tokens += usage.cached_input_tokens
        self.output_tokens += usage.output_tokens or 0
        self.cost = None if cost is None or self.cost is None else self.cost + cost
        self.basis = basis or self.basis


@dataclass(slots=True)
class Consent:
    """What a person allowed for one call: grants, and refusals (by their reason) that no longer stand."""

    grants: tuple[str, ...] = ()
    reasons: frozenset[str] = frozenset()


Decide = Callable[["Tool", Mapping[str, Any], set[str], Consent], Any]


@dataclass(slots=True)
class Run:
    """Everything one run needs to interpret effects. Children share all of it but tools and path."""

    id: str
    providers: tuple[Provider, ...]
    tools: Toolset
    decide: Decide
    context: Callable[[float | None, tuple[str, ...]], Any]
    guards: tuple[Guard, ...] = ()
    clock: Callable[[], float] = field(default=lambda: 0.0)
    now: Callable[[], float] = field(default=lambda: 0.0)
    deadline: float | None = None
    call_timeout: float | None = None
    tool_timeout: float | None = 120.0
    temperature: float | None = None
    max_tokens: int | None = None
    protocol: str = "auto"
    on_delta: Callable[[Event], None] | None = None
    resolve: Callable[[str, str], tuple[Provider, ...]] = field(default=lambda _provider, _model: ())
    find: Callable[[str], Any] | None = None
    ask_person: Callable[..., str | None] = field(default=lambda question, strict=False: None)  # noqa: ARG005 - nobody there
    gained: Callable[[Tool, Mapping[str, Any]], frozenset[str]] = field(default=lambda _tool, _arguments: frozenset())
    settings: Any = None
    traceparent: str = ""
    depth: int = 0
    recorded: Mapping[str, Event] = field(default_factory=dict)
    started: frozenset[str] = frozenset()
    spent: dict[str, list[Event]] | None = None
    live: bool = True
    totals: Totals = field(default_factory=Totals)
    seen: dict[str, int] = field(default_factory=dict)
    malformed: int = 0
    redact: Callable[[str], str] = redaction.known
    streams: Callable[[], tuple[redaction.Stream, redaction.Stream]] = field(
        default=lambda: (redaction.redact_stream(shapes=False), redaction.redact_stream(shapes=False))
    )

    def event(self, kind: str, path: str, fingerprint: str = "", *, durable: bool = False, **data: Any) -> Tell:
        """Return the op that tells one event."""
        return Tell(Event(kind, self.id, path, self.now(), data, fingerprint, durable))

    def until(self, timeout: float | None) -> float | None:
        """Return the absolute time at which a call with that timeout ends: never later than the run's deadline."""
        if timeout is None:
            return self.deadline
        end = self.clock() + timeout
        return end if self.deadline is None else min(end, self.deadline)


def interpret(pattern: Pattern, run: Run, prefix: str = "") -> Steps:
    """Drive a pattern to its return value; effects get the positions prefix + 0, 1, 2 and so on."""
    outcome: Any = None
    error: Exception | None = None
    index = 0
    while True:
        try:
            effect = pattern.throw(error) if error is not None else pattern.send(outcome)
        except StopIteration as stop:
            return stop.value
        outcome = error = None
        try:
            outcome = yield from perform(effect, run, f"{prefix}{index}")
        except (AgentError, ValueError, TypeError) as problem:
            error = problem
        index += 1


def perform(effect: Any, run: Run, path: str) -> Steps:
    """Carry out one effect, or a whole pattern given in its place."""
    match effect:
        case Ask():
            return (yield from _ask(effect, run, path))
        case Act():
            return (yield from _act(effect, run, path))
        case Call():
            return (yield from _call(effect, run, path))
        case All():
            return (yield from _all(effect, run, path))
        case Wait():
            return (yield from _wait(effect, run, path))
        case Note():
            return (yield run.event(effect.kind, path, **effect.data))
        case Generator():
            # A branch of its own: calls of another branch are no repetitions of its calls.
            return (yield from interpret(effect, replace(run, seen={}, malformed=0), f"{path}."))
    raise TypeError(f"a pattern yielded {type(effect).__name__}, which is no effect")


def recall(run: Run, path: str, fingerprint: str) -> Event | None:
    """Return the recorded outcome at a position; DivergedError if it was of another request, or if a replay has none."""
    event = run.recorded.get(path)
    if event is None:
        if run.live:
            return None
        raise DivergedError(f"the recording ends before step {path}", hint="resume the run instead of replaying it")
    if event.fingerprint and event.fingerprint != fingerprint:
        raise DivergedError(
            f"journal diverged at step {path}", hint="the agent, its prompt or its input changed since; fork instead"
        )
    if event.kind == "effect.failed":
        error = error_from_json(event.data["error"])
        error.facts = event.data.get("facts") or {}
        raise error
    return event


# --- Ask -----------------------------------------------------------------------------------------------------------


def _ask(ask: Ask, run: Run, path: str) -> Steps:
    run.totals.steps += 1
    ask = _with_settings(ask, run)
    print_ = fingerprint(ask)
    event = recall(run, path, print_)
    if event is not None:
        reply = reply_from_json(event.data)
        _count(run, reply, event.data["provider"], event.data.get("cost"), event.data.get("basis", ""))
        return reply
    began = run.clock()
    try:
        reply, provider, attempts, cached = yield from _route(ask, run, path, print_)
    except AgentError as error:
        yield run.event("effect.failed", path, print_, error=error_to_json(error))
        raise
    cost = 0 if cached or provider.answer is not None else money.cost(reply.usage, provider.price)
    _count(run, reply, provider.name, cost, provider.price.basis)
    yield run.event(
        "model.replied", path, print_, **reply_to_json(reply), provider=provider.name, cost=cost, basis=provider.price.basis,
        wall_ms=round((run.clock() - began) * 1000, 1), attempts=attempts, cached=cached,
    )  # fmt: skip
    return reply


def _with_settings(ask: Ask, run: Run) -> Ask:
    temperature = run.temperature if ask.temperature is None else ask.temperature
    most = run.max_tokens if ask.max_tokens is None else ask.max_tokens
    if temperature is ask.temperature and most is ask.max_tokens:
        return ask
    return replace(ask, temperature=temperature, max_tokens=most)


def _count(run: Run, reply: Reply, provider: str, cost: int | None, basis: str) -> None:
    run.totals.add(reply.usage, provider, reply.model, cost, basis)
    run.totals.last = reply.text or run.totals.last


def _route(ask: Ask, run: Run, path: str, print_: str) -> Steps:
    """Ask the providers in order; the next one only after a retryable failure."""
    providers = run.resolve(ask.provider, ask.model) if ask.provider or ask.model else run.providers
    last = len(providers) - 1
    for place, provider in enumerate(providers):
        try:
            reply, attempts, cached = yield from _attempts(ask, provider, run, path, print_)
        except ProviderError as error:
            if place == last or not error.retryable:
                raise
            following = providers[place + 1].name
            yield run.event("notice", path, text=f"{provider.name}: {run.redact(str(error))}; asking {following} instead")
            continue
        return reply, provider, attempts, cached
    raise ContractError("no provider to ask")


def _attempts(ask: Ask, provider: Provider, run: Run, path: str, print_: str) -> Steps:
    call = guarding.Outward("ask", provider.model, print_, ask, provider)
    try:
        return (yield from _tried(ask, call, run, path))
    finally:
        guarding.leave(run.guards, call)  # cancelled, or out of time: what was taken for it is free again


def _tried(ask: Ask, call: Outward, run: Run, path: str) -> Steps:
    provider = call.provider
    if provider is None:
        raise ContractError("no provider to ask")
    attempt = 0
    while True:
        decision = yield from _admitted(call, attempt, run, path)
        if isinstance(decision, guarding.Use):
            return decision.outcome, attempt, True
        shown = [False]
        outcome: Any
        try:
            outcome = yield from _exchange(ask, provider, run, path, shown)
        except AgentError as error:
            outcome = _late() if isinstance(error, CallTimeout) and _past(run) else error
        verdict = guarding.after(run.guards, call, outcome, attempt, run.clock())
        if not isinstance(outcome, AgentError):
            return outcome, attempt + 1, False
        pause = verdict.seconds if isinstance(verdict, guarding.Retry) and not shown[0] else None
        yield run.event(
            "model.failed", path, provider=provider.name, model=provider.model, attempt=attempt + 1, retry_in=pause,
            error=error_to_json(outcome),
        )  # fmt: skip
        if pause is None:
            raise outcome
        yield from _pause(pause, run)
        attempt += 1


def _admitted(call: Outward, attempt: int, run: Run, path: str) -> Steps:
    """Ask the guards until they let the call pass (Delay waits), answer it (Use) or refuse it."""
    began, reason = run.clock(), ""
    while True:
        decision = guarding.before(run.guards, call, attempt, run.clock())
        match decision:
            case guarding.Delay(seconds, why):
                if not reason and seconds >= _WORTH_SAYING:
                    yield run.event("notice", path, text=f"waiting for {why or 'a limit'}")
                reason = why or "a limit"
                yield from _pause(seconds, run)
            case guarding.Refuse(error):
                raise error
            case _:
                if reason:
                    yield run.event("guard.waited", path, limit=reason, wait_s=round(run.clock() - began, 3), queued=True)
                return decision


def _pause(seconds: float, run: Run) -> Steps:
    """Let time pass, but not beyond the run's deadline."""
    left = None if run.deadline is None else run.deadline - run.clock()
    yield Sleep(seconds if left is None else max(0.0, min(seconds, left)))
    if left is not None and seconds >= left:
        raise _late()


def _late() -> DeadlineError:
    return DeadlineError("the deadline passed", hint="raise --timeout")


def _past(run: Run) -> bool:
    return run.deadline is not None and run.clock() >= run.deadline


def _exchange(ask: Ask, provider: Provider, run: Run, path: str, shown: list[bool]) -> Steps:
    """Make one request and return its Reply; `shown[0]` becomes true once text reached a person."""
    wanted = run.protocol == "text" or (run.protocol == "auto" and not provider.capabilities.tools)
    text_protocol = wanted and "native_only" not in provider.quirks
    if text_protocol and ask.tools is not None and ask.tools.tools:
        from agent_core import protocol

        plain = yield from _request(protocol.as_text(ask), provider, run, path, shown, visible=False)
        return protocol.as_reply(plain, ask.tools, len(ask.messages))
    return (yield from _request(ask, provider, run, path, shown, visible=True))


def _request(ask: Ask, provider: Provider, run: Run, path: str, shown: list[bool], *, visible: bool) -> Steps:
    if provider.answer is not None:
        return provider.answer(ask)
    codec = provider.codec
    if codec is None:
        raise ContractError(f"provider {provider.name} has neither a codec nor an answer")
    stream = run.on_delta is not None and provider.capabilities.streaming
    request = codec.encode(ask, provider, stream=stream)
    decoder = codec.decoder(provider) if stream else None
    tell = _teller(run, path, shown, bool(ask.tools and ask.tools.tools), visible=visible) if stream else None
    answer = yield Http(request, run.until(run.call_timeout), decoder, tell)
    if tell is not None:
        tell(None)
    reply = codec.decode(answer, provider) if isinstance(answer, Response) else answer
    return replace(reply, message=messages.cleaned(reply.message, run.redact))


def _teller(run: Run, path: str, shown: list[bool], provisional: bool, *, visible: bool) -> Callable[[Delta | None], None]:
    """Return what hands deltas on, None for the end. `provisional`: tools were offered, so this may not be the answer yet.

    A secret may be cut between two deltas, so what could be the beginning of one is held back.
    """
    texts, thoughts = run.streams()

    def tell(delta: Delta | None) -> None:
        if delta is None:
            text, thought = texts.finish(), thoughts.finish()
        elif visible:
            text, thought = texts.feed(delta.text), thoughts.feed(delta.thought)
        else:
            text, thought = "", thoughts.feed(delta.text + delta.thought)
        shown[0] = shown[0] or bool(text)
        data = {"text": text, "thought": thought, "provisional": provisional}
        if run.on_delta is not None and (text or thought):
            run.on_delta(Event("delta", run.id, path, run.now(), data))

    return tell


# --- Act -----------------------------------------------------------------------------------------------------------


def _act(act: Act, run: Run, path: str) -> Steps:
    """Run the calls: neighbours that are not exclusive together, results in call order, as one tool message."""
    _check_malformed(act, run)
    calls = list(act.calls)
    results: list[ToolResult] = []
    if len(calls) == 1:
        results.append((yield from _tool(calls[0], run, f"{path}.0")))
        return [Message("tool", tuple(results))]
    start = 0
    while start < len(calls):
        end = start + 1
        while end < len(calls) and not _exclusive(calls[start], run) and not _exclusive(calls[end], run):
            end += 1
        group = [_tool(call, run, f"{path}.{start + offset}") for offset, call in enumerate(calls[start:end])]
        if len(group) == 1:
            results.append((yield from group[0]))
        else:
            outcomes: list[Outcome] = yield Gather(group, threads=True)
            for outcome in outcomes:
                if outcome.error is not None:
                    raise outcome.error
            results += [outcome.value for outcome in outcomes]
        start = end
    return [Message("tool", tuple(results))]


def _exclusive(call: ToolCall, run: Run) -> bool:
    tool = run.tools.get(call.name)
    return tool is not None and tool.exclusive


def _check_malformed(act: Act, run: Run) -> None:
    """Count replies that asked for nothing readable (text protocol); three in a row end the run."""
    run.malformed = run.malformed + 1 if all(not call.name for call in act.calls) else 0
    if run.malformed >= MALFORMED_STOP:
        raise ContractError(
            "the model's replies could not be read three times in a row", hint="try --protocol native or another model"
        )


def _tool(call: ToolCall, run: Run, path: str) -> Steps:
    """Run one call of the model. Whatever goes wrong is a result that the model is shown; only limits end the run."""
    print_ = _call_key(call)
    count = run.seen[print_] = run.seen.get(print_, 0) + 1
    if count >= STOP_AT and path not in run.recorded:
        raise RepeatLimit(f"the model asked for the same call of {call.name} {count} times", hint="rephrase the task")
    event = recall(run, path, print_)
    if event is not None:
        _label(call, run, event.data["error"])
        return _result_from_json(event.data)
    began = run.clock()
    result = yield from _called(call, run, path, print_, count)
    _label(call, run, result.error)
    yield run.event(
        "tool.finished", path, print_, id=call.id, name=call.name, text=run.redact(result.text), error=result.error,
        value=result.value if result.value != result.text else None, wall_ms=round((run.clock() - began) * 1000, 1),
        durable=path in run.started or _is_consequential(run.tools.get(call.name)),
    )  # fmt: skip
    return result


def _label(call: ToolCall, run: Run, error: Any) -> None:
    """Remember what a call brought into the conversation; what was not run brought nothing."""
    tool = run.tools.get(call.name)
    if tool is not None and error not in {"invalid", "denied", "not_found"}:
        run.totals.seen |= run.gained(tool, call.arguments)


def _called(call: ToolCall, run: Run, path: str, print_: str, count: int) -> Steps:
    tool = run.tools.get(call.name)
    problem = _refusal(call, tool, run, count)
    if problem is not None or tool is None:
        return problem
    if path in run.started:
        return _failure(call, "permanent", "unknown outcome: the program stopped while this call ran. Check before you repeat it.")
    try:
        arguments: dict[str, Any] = tool.bind(call.arguments)
    except AgentError as error:
        return _failure(call, "invalid", str(error))
    consent = Consent()
    denial, arguments = yield from _decided(call, tool, arguments, consent, run, path)
    if denial is not None:
        hint = f"grant with {denial.rule}" if denial.rule else ""
        run.totals.denied = DeniedError(f"denied: {denial.reason}", hint=hint)
        run.totals.denials.append(run.totals.denied)
        return _failure(call, "denied", f"denied: {denial.reason}")
    yield run.event(
        "tool.started",
        path,
        print_,
        id=call.id,
        name=call.name,
        arguments=call.arguments,
        effects=not tool.read_only,
        durable=_is_consequential(tool),
    )
    result = yield from _guarded(call, tool, (arguments, consent.grants), print_, run, path)
    if result.error is None:
        run.totals.denied = None
    return result


def _decided(call: ToolCall, tool: Tool, arguments: Any, consent: Consent, run: Run, path: str) -> Steps:
    """Return (None or the refusal that stands, the arguments): a person is asked about what a yes could lift.

    The question holds tool and arguments; the answer is yes, no, or {"arguments": {…}}: a yes to others, which are judged anew.
    """
    denial = run.decide(tool, arguments, run.totals.seen, consent)
    for question in range(_QUESTIONS):
        if denial is None or not denial.askable:
            break
        said = yield from _consent(denial, call, arguments, run, f"{path}.{question}")
        edited = _edited(said)
        if edited is not None:
            arguments = tool.bind(edited)
            consent.grants, consent.reasons = (), frozenset()
        elif said != "yes":
            break
        else:
            consent.grants += denial.grants
            consent.reasons |= {denial.reason}
        denial = run.decide(tool, arguments, run.totals.seen, consent)
    return denial, arguments


def _consent(denial: Any, call: ToolCall, arguments: Mapping[str, Any], run: Run, path: str) -> Steps:
    """Return what a person says about one call; "no" where nobody can be asked and the run is not to wait."""
    shown = messages.canonical(dict(arguments))
    question = f"{denial.reason}. Allow {call.name} {shown[:_SHOWN_INPUT]}?"
    print_ = _hash("consent", call.name, shown, denial.reason)
    event = recall(run, path, print_) if path in run.recorded else None
    if event is not None:
        return event.data["answer"]
    answer = yield Invoke(run.ask_person, {"question": question, "strict": True}, run.deadline)
    if answer is None and getattr(run.settings, "ask", "tty") != "park":
        return "no"
    yield run.event("wait.asked", path, print_, question=question, tool=call.name, arguments=dict(arguments), durable=True)
    if answer is None:
        raise _parked(question, run)
    yield run.event("wait.finished", path, print_, answer=answer, by="terminal", durable=True)
    return answer


def _edited(answer: Any) -> dict[str, Any] | None:
    """Return the arguments of an answer that changes them."""
    found = answer.get("arguments") if isinstance(answer, dict) else None
    return found if isinstance(found, dict) else None


def _guarded(
    call: ToolCall, tool: Tool, given: tuple[Mapping[str, Any], tuple[str, ...]], print_: str, run: Run, path: str
) -> Steps:
    """Let the guards decide about the call, make it, and make it again where they say so.

    `given`: the arguments, and the grants that a person consented to.
    """
    arguments, grants = given
    outward = guarding.Outward("tool", tool.name, print_, tool=tool)
    attempt = 0
    while True:
        try:
            decision = yield from _admitted(outward, attempt, run, path)
        except (DeadlineError, BudgetLimit):
            raise
        except AgentError as refusal:
            return _failure(call, "transient" if refusal.retryable else "permanent", refusal.line())
        if isinstance(decision, guarding.Use):
            return decision.outcome
        until = run.until(tool.timeout or run.tool_timeout)
        passed = {**arguments, tool.context_name: run.context(until, grants)} if tool.wants_context else arguments
        result = yield from _invoked(call, tool, passed, until, run, path)
        verdict = guarding.after(run.guards, outward, result, attempt, run.clock())
        if not isinstance(verdict, guarding.Retry):
            return result
        yield from _pause(verdict.seconds, run)
        attempt += 1


def _refusal(call: ToolCall, tool: Tool | None, run: Run, count: int) -> ToolResult | None:
    """Return the result of a call that is not run at all, or None."""
    if call.problem:
        return _failure(call, "invalid", call.problem)
    if tool is None:
        near = run.tools.nearest(call.name)
        hint = f" Did you mean {' or '.join(near)}?" if near else f" There are: {', '.join(t.name for t in run.tools.tools)}."
        return _failure(call, "not_found", f"there is no tool named {call.name!r}.{hint}")
    if count >= TOLD_AT:
        return _failure(
            call, "invalid", f"you have made this very call {count - 1} times already; use its result or do something else."
        )
    return None


def _invoked(call: ToolCall, tool: Tool, arguments: Mapping[str, Any], until: float | None, run: Run, path: str) -> Steps:
    """Call the function; its text is capped for the model, its value is not."""
    from agent_core.tool import cap, failure, render

    try:
        value = yield Invoke(tool.function, arguments, until)
        if isinstance(value, Call):
            # A tool that asks another agent says so; the call is made, counted and bounded like any other.
            value = yield from _call(value, run, f"{path}.0")
        text, value = render(value)
    except Exception as error:  # noqa: BLE001 - the one catch at the tool edge: a tool's fault is the model's to deal with
        if _past(run):
            raise _late() from None
        kind, text = failure(error)
        late = isinstance(error, TimeoutError) and not str(error)
        return _failure(call, kind, f"{call.name} took too long and was stopped" if late else run.redact(text))
    return ToolResult(call.id, call.name, run.redact(cap(text)), None, value)


def _is_consequential(tool: Tool | None) -> bool:
    """Say whether a call reaches beyond this process, so that even a power cut must not make it happen twice."""
    return tool is not None and not tool.read_only and bool(tool.needs or tool.destructive or tool.open_world)


def _failure(call: ToolCall, kind: messages.ToolErrorKind, text: str) -> ToolResult:
    return ToolResult(call.id, call.name, text, kind)


def _result_from_json(data: Mapping[str, Any]) -> ToolResult:
    value = data.get("value")
    return ToolResult(
        data["id"], data["name"], data["text"], data["error"], data["text"] if value is None and not data["error"] else value
    )


# --- Call, All, Wait -----------------------------------------------------------------------------------------------


def _call(call: Call, run: Run, path: str) -> Steps:
    """Run another agent, whatever carries it: each brings its own program. What it used is what the totals gained."""
    name = call.agent if isinstance(call.agent, str) else getattr(call.agent, "name", "")
    print_ = _hash("call", name, call.message)
    event = recall(run, path, print_)
    if event is not None:
        return _told(event, run)
    if run.depth >= DEPTH_LIMIT:
        raise DepthLimit(f"{name} would be the {DEPTH_LIMIT + 1}th agent in a chain of calls", hint="do agents call each other?")
    carrier = _carrier(call.agent, run)
    outward = guarding.Outward("peer", name, print_)
    decision = yield from _admitted(outward, 0, run, path)
    if isinstance(decision, guarding.Use):
        return decision.outcome
    yield run.event("call.started", path, print_, agent=name, input=call.message[:_SHOWN_INPUT])
    began = run.clock()
    try:
        output = yield from carrier.program(call.message, run, f"{path}.")
    except AgentError as error:
        guarding.after(run.guards, outward, error, 0, run.clock())
        yield run.event("call.failed", path, agent=name, error=error_to_json(error), wall_ms=_ms(run.clock() - began))
        yield run.event("effect.failed", path, print_, error=error_to_json(error), **_facts(error))
        raise
    guarding.after(run.guards, outward, output, 0, run.clock())
    if getattr(carrier, "outside", False):
        run.totals.seen.add(taint.UNTRUSTED)
    yield run.event("call.finished", path, print_, agent=name, output=output, wall_ms=_ms(run.clock() - began), **_facts(output))
    return output


def _facts(outcome: Any) -> dict[str, Any]:
    """Return what a peer's record said of its run (see `peers.Said`), for the journal."""
    facts = getattr(outcome, "facts", None)
    return {"facts": dict(facts)} if facts else {}


def _told(event: Event, run: Run) -> str:
    """Return a recorded answer with what was said of its run, and count what it used: its own steps are not taken again."""
    for spent in [event, *_beneath(event.path, run)]:
        _recount(spent, run)
    if not event.data.get("facts"):
        return str(event.data["output"])
    from agent_core.peers import Said

    return Said.of(event.data["output"], event.data["facts"])


def _beneath(path: str, run: Run) -> list[Event]:
    """Return the recorded replies and calls of the agents beneath a position."""
    if run.spent is None:
        run.spent = {}
        for event in run.recorded.values():
            if event.kind in {"model.replied", "call.finished", "effect.failed"}:
                steps = event.path.split(".")
                for length in range(1, len(steps)):
                    run.spent.setdefault(".".join(steps[:length]), []).append(event)
    return run.spent.get(path, [])


def _recount(event: Event, run: Run) -> None:
    if event.kind == "model.replied":
        run.totals.steps += 1
        data = event.data
        _count(run, reply_from_json(data), data["provider"], data.get("cost"), data.get("basis", ""))
    elif (event.data.get("facts") or {}).get("usage"):
        from agent_core.peers import count

        count(run.totals, event.data["facts"]["usage"])


def _carrier(agent: Any, run: Run) -> Any:
    if isinstance(agent, str) and run.find is not None:
        agent = run.find(agent)
    if getattr(agent, "program", None) is None:
        raise ContractError(f"{agent!r} is no agent that can be called")
    return agent


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _all(effect: All, run: Run, path: str) -> Steps:
    """Gather the children. Without `enough` all must succeed; with it errors are outcomes until too few can succeed."""
    total = len(effect.effects)
    needed = _needed(effect.enough, total)
    print_ = _hash("all", str(total), str(needed))
    event = run.recorded.get(path)
    done = set(event.data["done"]) if event is not None else None
    programs = [
        _child(child, run, f"{path}.{index}") if done is None or index in done else _nothing()
        for index, child in enumerate(effect.effects)
    ]
    outcomes: list[Outcome] = yield Gather(programs, needed if done is None else None, effect.limit)
    if effect.enough is None:
        failures = [outcome.error for outcome in outcomes if outcome.error is not None]
        for error in sorted(failures, key=lambda failure: isinstance(failure, WaitingError)):
            raise error
    successes = [index for index, outcome in enumerate(outcomes) if outcome.error is None and not outcome.cancelled]
    if done is None and len(successes) < needed:
        raise QuorumLimit(f"{len(successes)} of {total} answered and {needed} are needed")
    if event is None and effect.enough is not None:
        finished = [index for index, outcome in enumerate(outcomes) if not outcome.cancelled]
        yield run.event("all.finished", path, print_, done=finished)
    return [None if outcome.cancelled else outcome.error or outcome.value for outcome in outcomes]


def _child(effect: Any, run: Run, path: str) -> Program:
    return (yield from perform(effect, run, path))


def _nothing() -> Program:
    return None
    yield


def _needed(enough: float | None, total: int) -> int:
    if enough is None:
        return total
    if isinstance(enough, float):
        return max(1, -(-int(enough * total * 1_000_000) // 1_000_000))
    return min(int(enough), total)


def _wait(wait: Wait, run: Run, path: str) -> Steps:
    print_ = _hash("wait", str(wait.for_))
    event = recall(run, path, print_)
    if event is not None:
        return event.data["answer"]
    if isinstance(wait.for_, str):
        return (yield from _person(wait.for_, run, path, print_))
    yield from _pause(float(wait.for_), run)
    yield run.event("wait.finished", path, print_, answer=None)
    return None


def _person(question: str, run: Run, path: str, print_: str, **shown: Any) -> Steps:
    """Ask a person now, or park the run: the answer then comes into the journal from outside (`agent_core.waiting`)."""
    if not run.live:
        raise DivergedError(f"the recording waits for a person at step {path}", hint="answer it, then resume the run")
    yield run.event("wait.asked", path, print_, question=question, durable=True, **shown)
    answer = yield Invoke(run.ask_person, {"question": question}, run.deadline)
    if answer is None:
        raise _parked(question, run)
    yield run.event("wait.finished", path, print_, answer=answer, by="terminal", durable=True)
    return answer


def _parked(question: str, run: Run) -> WaitingError:
    ways = "--approve, --deny or --answer TEXT"
    return WaitingError(f"waiting for a person: {question}", hint=f"agent-log resume {run.id} with {ways}")


# --- fingerprints and JSON forms -----------------------------------------------------------------------------------


def fingerprint(ask: Ask) -> str:
    """Return 32 hex digits that stand for everything in the request that a model would see."""
    digest = hashlib.blake2b(b"".join([message.digest for message in ask.messages]), digest_size=16)
    digest.update(_tools_digest(ask.tools))
    rest = (ask.schema, ask.stop, ask.tool_choice, ask.temperature, ask.max_tokens)
    if rest != (None, (), "auto", None, None):
        digest.update(messages.canonical(rest).encode())
    if ask.model or ask.provider:
        digest.update(f"\0{ask.provider}\0{ask.model}".encode())
    return digest.hexdigest()


def _tools_digest(tools: Toolset | None) -> bytes:
    if tools is None:
        return b""
    found: bytes | None = tools.cache.get("digest")
    if found is None:
        lines = [messages.canonical([tool.name, tool.description, dict(tool.parameters)]) for tool in tools.tools]
        found = hashlib.blake2b("\n".join(lines).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        tools.cache["digest"] = found
    return found


def _call_key(call: ToolCall) -> str:
    return _hash(call.name, call.raw or messages.canonical(call.arguments))


def _hash(*words: str) -> str:
    return hashlib.blake2b("\0".join(words).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def reply_to_json(reply: Reply) -> dict[str, Any]:
    """Return the reply as plain data."""
    used = reply.usage
    return {
        "message": messages.to_json(reply.message), "stop": reply.stop, "model": reply.model,
        "usage": {
            "input_tokens": used.input_tokens, "output_tokens": used.output_tokens, "cached_input_tokens": used.cached_input_tokens,
            "cache_write_tokens": used.cache_write_tokens, "reasoning_tokens": used.reasoning_tokens,
        },
    }  # fmt: skip


def reply_from_json(data: Mapping[str, Any]) -> Reply:
    """Return the reply that `reply_to_json` wrote."""
    return Reply(messages.from_json(data["message"]), data["stop"], Usage(**data["usage"]), data["model"])


def error_to_json(error: AgentError, clean: Callable[[str], str] = redaction.redact) -> dict[str, Any]:
    """Return the error object of wire.md §4."""
    return {
        "code": error.code, "title": type(error).__name__, "detail": clean(str(error)), "hint": clean(error.hint),
        "retryable": error.retryable, "retry_after_s": getattr(error, "retry_after", None),
        "http_status": getattr(error, "http_status", None), "status": error.status, "cause": clean(error.cause),
    }  # fmt: skip


def error_from_json(data: Mapping[str, Any]) -> AgentError:
    """Return an error of the class that was recorded (AgentError itself if it is not known)."""
    import agent_core.errors as tree

    kind = getattr(tree, str(data["title"]), AgentError)
    error: AgentError
    if isinstance(kind, type) and issubclass(kind, ProviderError):
        error = kind(
            data["detail"], hint=data["hint"], cause=data["cause"], http_status=data["http_status"],
            retry_after=data["retry_after_s"], retryable=data["retryable"],
        )  # fmt: skip
        return error
    kind = kind if isinstance(kind, type) and issubclass(kind, AgentError) else AgentError
    error = kind.__new__(kind)
    AgentError.__init__(error, data["detail"], hint=data["hint"], cause=data["cause"])
    return error
