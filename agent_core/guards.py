"""guards - decide about every outward call; they never act, and the clock is an argument.

    before(call, attempt, now) -> Proceed | Delay(s) | Refuse(error) | Use(outcome)
    after(call, outcome, attempt, now) -> Accept | Retry(s)
    leave(call)                                                    (optional) a call that was let in is not made after all

One fixed order (`ORDER`): per request policy → cache → dedup → deadline, per attempt budget → breaker → rate → in-flight →
call timeout. `chain` sorts any set of guards into it. Policy's decision is made where the arguments are known (see
`agent_core.policy`); the guards here are those that every run has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent_core import money
from agent_core.errors import AgentError, BudgetLimit, DeadlineError, ProviderError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Protocol

    from agent_core.effects import Ask
    from agent_core.provider import Provider, Reply
    from agent_core.tool import Tool
else:
    Protocol = object  # `typing` is a tenth of a short start

ORDER = ("policy", "cache", "dedup", "deadline", "budget", "breaker", "rate", "in_flight", "call_timeout", "retry")


@dataclass(frozen=True, slots=True)
class Outward:
    """One outward call: `kind` is ask, tool or peer, `name` the model, tool or agent; `key` names the request's content."""

    kind: str
    name: str
    key: str
    ask: Ask | None = None
    provider: Provider | None = None
    tool: Tool | None = None


@dataclass(frozen=True, slots=True)
class Proceed:
    """Go on."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait, then ask the guards again. `reason` says for what, in words for a person."""

    seconds: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Do not call; the error is the outcome."""

    error: AgentError


@dataclass(frozen=True, slots=True)
class Use:
    """Do not call; this is the outcome."""

    outcome: Any


@dataclass(frozen=True, slots=True)
class Accept:
    """Keep the outcome."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Call again after that many seconds."""

    seconds: float


PROCEED, ACCEPT = Proceed(), Accept()
Decision = Proceed | Delay | Refuse | Use
Verdict = Accept | Retry


class Guard(Protocol):
    """What a guard looks like; `place` is a word of ORDER."""

    place: str

    def before(self, call: Outward, attempt: int, now: float) -> Decision:
        """Decide whether the call may be made."""

    def after(self, call: Outward, outcome: Any, attempt: int, now: float) -> Verdict:
        """Decide whether the outcome (a value or an Exception) is kept."""


def chain(guards: Iterable[Guard]) -> tuple[Guard, ...]:
    """Return the guards in the one order."""
    return tuple(sorted(guards, key=lambda guard: ORDER.index(guard.place)))


def before(guards: Sequence[Guard], call: Outward, attempt: int, now: float) -> Decision:
    """Return the first decision that is not Proceed. Where the call is not made, the guards that let it in are told.

    After a Delay all are asked again, so a guard that took something for this very call must not take it twice.
    """
    for place, guard in enumerate(guards):
        decision = guard.before(call, attempt, now)
        if decision is not PROCEED:
            if not isinstance(decision, Delay):
                leave(guards[:place], call)
            return decision
    return PROCEED


def leave(guards: Sequence[Guard], call: Outward) -> None:
    """Tell the guards, innermost first, that a call is not made, or ended without an outcome (it was cancelled)."""
    for guard in reversed(guards):
        told = getattr(guard, "leave", None)
        if told is not None:
            told(call)


def after(guards: Sequence[Guard], call: Outward, outcome: Any, attempt: int, now: float) -> Verdict:
    """Let every guard see the outcome, innermost first; the first Retry wins."""
    verdict: Verdict = ACCEPT
    for guard in reversed(guards):
        said = guard.after(call, outcome, attempt, now)
        if verdict is ACCEPT:
            verdict = said
    return verdict


@dataclass(slots=True)
class Deadline:
    """Refuses once the run's deadline (absolute, the run's clock) has passed."""

    at: float
    place: str = "deadline"

    def before(self, call: Outward, attempt: int, now: float) -> Decision:
        """Refuse at and after the deadline."""
        return Refuse(DeadlineError("the deadline passed", hint="raise --timeout")) if now >= self.at else PROCEED

    def after(self, call: Outward, outcome: Any, attempt: int, now: float) -> Verdict:
        """Nothing to add."""
        return ACCEPT


def _jitter() -> float:
    import random  # with its extensions 1.3 ms, which a run without a retry does not pay

    return random.random()  # noqa: S311 - spreads retries, hides nothing


@dataclass(slots=True)
class Retries:
    """Retries what is retryable: full jitter from 0.5 s doubling to 8 s, Retry-After as a floor, `limit` extra attempts."""

    limit: int = 2
    deadline: float | None = None
    longest: float = 120.0
    jitter: Callable[[], float] = _jitter
    place: str = "retry"

    def before(self, call: Outward, attempt: int, now: float) -> Decision:
        """Nothing to add."""
        return PROCEED

    def after(self, call: Outward, outcome: Any, attempt: int, now: float) -> Verdict:
        """Retry a retryable ProviderError, or an idempotent tool that failed for now, while attempts and time are left."""
        if attempt >= self.limit or not _may_retry(call, outcome):
            return ACCEPT
        floor = getattr(outcome, "retry_after", None) or 0.0
        pause = floor + self.jitter() * min(8.0, 0.5 * 2.0**attempt)
        late = self.deadline is not None and now + pause >= self.deadline
        return ACCEPT if floor > self.longest or late else Retry(pause)


def _may_retry(call: Outward, outcome: Any) -> bool:
    if isinstance(outcome, ProviderError):
        return outcome.retryable
    return call.tool is not None and call.tool.idempotent and getattr(outcome, "error", None) == "transient"


@dataclass(slots=True)
class Budget:
    """Refuses a model call that might cost more than is left; what was spent is settled after. Money in pico-dollars.

    The reserve is what the request holds (bytes / 3 as tokens, rounded up: more than any tokenizer of English makes of it)
    plus the reply's cap, at list prices. An unknown price cannot be reserved: refused, since nothing may be guessed.
    """

    limit: int
    spent: int = 0
    reserved: int = 0
    place: str = "budget"
    _open: dict[int, int] = field(default_factory=dict)

    def before(self, call: Outward, attempt: int, now: float) -> Decision:
        """Reserve once, or refuse: another guard's Delay makes all of them decide again."""
        if call.ask is None or call.provider is None or call.provider.answer is not None or id(call) in self._open:
            return PROCEED
        need = money.reserve(call.ask, call.provider)
        if need is None:
            return Refuse(
                BudgetLimit(f"no price is known for {call.provider.model}, so no budget can be kept", hint="drop --budget")
            )
        if self.spent + self.reserved + need > self.limit:
            left = money.text(self.limit - self.spent - self.reserved)
            return Refuse(BudgetLimit(f"the next call may cost {money.text(need)} USD and {left} is left", hint="raise --budget"))
        self.reserved += need
        self._open[id(call)] = need
        return PROCEED

    def after(self, call: Outward, outcome: Any, attempt: int, now: float) -> Verdict:
        """Give the reserve back and settle what the reply really cost."""
        self.leave(call)
        if call.provider is not None and hasattr(outcome, "usage"):
            self.spent += money.cost(outcome.usage, call.provider.price) or 0
        return ACCEPT

    def leave(self, call: Outward) -> None:
        """Give back what a call that ended without an outcome had reserved."""
        self.reserved -= self._open.pop(id(call), 0)


class Shelf(Protocol):
    """Where cached replies are kept."""

    def get(self, key: str) -> Reply | None:
        """Return the reply kept under `key`."""

    def put(self, key: str, reply: Reply) -> None:
        """Keep a reply."""


@dataclass(slots=True)
class Cache:
    """Answers a request that was answered before. Mode `only` refuses what is not there."""

    shelf: Shelf
    only: bool = False
    place: str = "cache"

    def before(self, call: Outward, attempt: int, now: float) -> Decision:
        """Use the kept reply, if there is one."""
        if call.kind != "ask":
            return PROCEED
        kept = self.shelf.get(self._key(call))
        if kept is not None:
            return Use(kept)
        if self.only:
            from agent_core.errors import Failed

            return Refuse(Failed("this request is not in the cache", hint="run it once with --cache on"))
        return PROCEED

    def after(self, call: Outward, outcome: Any, attempt: int, now: float) -> Verdict:
        """Keep a good reply."""
        if call.kind == "ask" and not isinstance(outcome, Exception):
            self.shelf.put(self._key(call), outcome)
        return ACCEPT

    @staticmethod
    def _key(call: Outward) -> str:
        return f"{call.provider.name}/{call.provider.model}/{call.key}" if call.provider else call.key
