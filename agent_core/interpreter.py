"""interpreter - turns a pattern's effects into IO ops; tool calls are in `agent_core.acting`, records in `agent_core.journal`.

    effect → journal lookup → guards → IO op → journal → event → outcome

It is a generator itself and does no IO: a trampoline (`agent_core.drive`) carries out the ops. Every effect has a position in
its run, a path of indices ("3", "3.0", "2.1.4"); outcomes are recorded under it with a fingerprint of the request. A resumed run
is fed recorded outcomes until they end; a replayed run (`live=False`) never goes further.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent_core import guards as guarding
from agent_core import messages, money, taint
from agent_core.acting import run_calls
from agent_core.effects import Act, All, Ask, Call, Note, Wait
from agent_core.errors import (
    AgentError,
    CallTimeout,
    Cancelled,
    ContractError,
    DepthLimit,
    DivergedError,
    ProviderError,
    QuorumLimit,
    WaitingError,
)
from agent_core.events import Event
from agent_core.journal import error_to_json, fingerprint, mark, recall, reply_from_json, reply_to_json
from agent_core.ops import Gather, Http, Invoke, Response, Sleep
from agent_core.run import SHOWN_INPUT, admitted, late, parked, past, sleep

if TYPE_CHECKING:
    from agent_core.effects import Pattern
    from agent_core.guards import Outward
    from agent_core.ops import Outcome, Program
    from agent_core.provider import Delta, Provider, Reply
    from agent_core.run import Run, Steps

DEPTH_LIMIT = 4


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
            return (yield from run_calls(effect, run, path))
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
        if provider.name in run.notices:
            yield run.event("notice", path, text=run.notices.pop(provider.name))
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
        decision = yield from admitted(call, attempt, run, path)
        if isinstance(decision, guarding.Use):
            return decision.outcome, attempt, True
        shown = [False]
        outcome: Any
        try:
            outcome = yield from _exchange(ask, provider, run, path, shown)
        except AgentError as error:
            outcome = late() if isinstance(error, CallTimeout) and past(run) else error
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
        yield from sleep(pause, run)
        attempt += 1


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


# --- Call, All, Wait -----------------------------------------------------------------------------------------------


def _call(call: Call, run: Run, path: str) -> Steps:
    """Run another agent, whatever carries it: each brings its own program. What it used is what the totals gained."""
    name = call.agent if isinstance(call.agent, str) else getattr(call.agent, "name", "")
    print_ = mark("call", name, call.message)
    event = recall(run, path, print_)
    if event is not None:
        return _told(event, run)
    if run.depth >= DEPTH_LIMIT:
        raise DepthLimit(f"{name} would be the {DEPTH_LIMIT + 1}th agent in a chain of calls", hint="do agents call each other?")
    carrier = _carrier(call.agent, run)
    outward = guarding.Outward("peer", name, print_)
    decision = yield from admitted(outward, 0, run, path)
    if isinstance(decision, guarding.Use):
        return decision.outcome
    yield run.event("call.started", path, print_, agent=name, input=call.message[:SHOWN_INPUT])
    try:
        output = yield from _carried(carrier, outward, call.message, run, path)
    finally:
        guarding.leave(run.guards, outward)
    return output


def _carried(carrier: Any, outward: Outward, message: str, run: Run, path: str) -> Steps:
    """Let the carrier answer, and tell what came of it."""
    began, name = run.clock(), outward.name
    try:
        output = yield from carrier.program(message, run, f"{path}.")
    except GeneratorExit:  # a program that is closed can tell nothing: `_all` does
        run.stopped[path] = name
        raise
    except AgentError as error:
        guarding.after(run.guards, outward, error, 0, run.clock())
        more = {**_saw(carrier, error, run), **_facts(error)}
        yield run.event("call.failed", path, agent=name, error=error_to_json(error), wall_ms=_ms(run.clock() - began))
        yield run.event("effect.failed", path, outward.key, error=error_to_json(error), **more)
        if isinstance(error, Cancelled) and error.cause:
            yield Sleep(0)  # we stopped it: this branch is closed here, and its pattern hears no more than of any other that is
        raise
    guarding.after(run.guards, outward, output, 0, run.clock())
    more = {**_saw(carrier, output, run), **_facts(output)}
    wall = _ms(run.clock() - began)
    yield run.event("call.finished", path, outward.key, agent=name, output=output, wall_ms=wall, **more)
    return output


def _saw(carrier: Any, outcome: Any, run: Run) -> dict[str, Any]:
    """Label the run with what an outside agent's answer, or the words it fails with, may hold; return that for the journal."""
    if getattr(carrier, "outside", False):
        run.totals.seen |= {taint.UNTRUSTED, *(taint.BOTH.intersection(getattr(outcome, "facts", {}).get("labels", ())))}
    return {"seen": sorted(run.totals.seen)} if run.totals.seen else {}


def _facts(outcome: Any) -> dict[str, Any]:
    """Return what a peer's record said of its run (see `peers.Said`), for the journal."""
    facts = getattr(outcome, "facts", None)
    return {"facts": dict(facts)} if facts else {}


def _told(event: Event, run: Run) -> str:
    """Return a recorded answer with what was said of its run; count what it used and saw: its own steps are not taken again."""
    run.totals.seen |= taint.BOTH.intersection(event.data.get("seen", ()))
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
    print_ = mark("all", str(total), str(needed))
    event = run.recorded.get(path)
    done = set(event.data["done"]) if event is not None else None
    programs = [
        _child(child, run, f"{path}.{index}") if done is None or index in done else _nothing()
        for index, child in enumerate(effect.effects)
    ]
    outcomes: list[Outcome] = yield Gather(programs, needed if done is None else None, effect.limit)
    yield from _stopped(run, path, outcomes)
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


def _stopped(run: Run, path: str, outcomes: Sequence[Outcome]) -> Steps:
    """Tell of the calls that were closed beneath a position, and why."""
    for at in [each for each in run.stopped if each.startswith(f"{path}.")]:
        name, child = run.stopped.pop(at), int(at[len(path) + 1 :].partition(".")[0])
        error = Cancelled(f"{name} was stopped", cause=outcomes[child].cancelled)
        yield run.event("call.failed", at, agent=name, error=error_to_json(error))


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
    print_ = mark("wait", str(wait.for_))
    event = recall(run, path, print_)
    if event is not None:
        return event.data["answer"]
    if isinstance(wait.for_, str):
        return (yield from _person(wait.for_, run, path, print_))
    yield from sleep(float(wait.for_), run)
    yield run.event("wait.finished", path, print_, answer=None)
    return None


def _person(question: str, run: Run, path: str, print_: str, **shown: Any) -> Steps:
    """Ask a person now, or park the run: the answer then comes into the journal from outside (`agent_core.waiting`)."""
    if not run.live:
        raise DivergedError(f"the recording waits for a person at step {path}", hint="answer it, then resume the run")
    yield run.event("wait.asked", path, print_, question=question, durable=True, **shown)
    answer = yield Invoke(run.ask_person, {"question": question}, run.deadline)
    if answer is None:
        raise parked(question, run)
    yield run.event("wait.finished", path, print_, answer=answer, by="terminal", durable=True)
    return answer
