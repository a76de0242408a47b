"""gates - the guards: rate, tokens and money in a time, places, breaker, sharing of equal requests, money of a day.

Each is one dataclass in the shape of `agent_core.guards.Guard`, and decides with `limits` over a row of `shared`. A call that has
to wait for a later gate comes by again: what it took before is its own until `after` or `leave`.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from agent_core import guards, ledger, money
from agent_core.errors import AgentError, BudgetLimit, CallTimeout, ProviderError, RateLimited, ServerError, StoreError

from . import limits, tiers
from .limits import Bucket, Fuse, Ticket
from .shared import InRedis, me

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_core.guards import Decision, Outward, Verdict
    from agent_core.store import Store

    from .shared import Row, Shared

DAY = 86_400.0
_number = count()
_SERVICE_FAULTS = frozenset({69, 70, 75, 76})


def _quiet(_text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a run stands before its gates: where rows are, its rank, whether it waits, how long a call may last, whom to tell."""

    shared: Shared
    rank: int = limits.RANKS["normal"]
    waits: bool = True
    lease: float = 150.0
    say: Callable[[str], None] = _quiet

    def ticket(self, since: float) -> Ticket:
        """Return a ticket with a name that no other process and no other call has."""
        _, ticks, boot = me()
        machine = hashlib.blake2b(str(boot).encode(), digest_size=4).hexdigest()
        return Ticket(f"{machine}.{os.getpid()}.{ticks}.{next(_number)}", self.rank, since, self.waits)


@dataclass(slots=True)
class Stay:
    """One call at one gate: since when, under which ticket and key, and what it took (0: nothing yet)."""

    call: Outward
    ticket: Ticket
    key: str
    took: float = 0.0

    @property
    def name(self) -> str:
        """The limit in words: "rate of openai/m"."""
        return self.key.replace(":", " of ", 1)


@dataclass(slots=True)
class Book:
    """The calls that are at a gate. They are kept alive by it, so an `id` names one call only."""

    stays: dict[int, Stay] = field(default_factory=dict)

    def stay(self, call: Outward, key: str, manner: Manner, now: float) -> Stay:
        """Return the call's entry, made when it first comes by."""
        found = self.stays.get(id(call))
        if found is None:
            found = self.stays[id(call)] = Stay(call, manner.ticket(now), key)
        return found

    def pop(self, call: Outward) -> Stay | None:
        """Take the call's entry out."""
        return self.stays.pop(id(call), None)


def scope(call: Outward) -> str:
    """Return what a call's limits belong to: provider/model, tool:NAME or peer:NAME."""
    if call.kind != "ask":
        return f"{call.kind}:{call.name}"
    return f"{call.provider.name}/{call.provider.model}" if call.provider is not None else call.name


# -- what is counted -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measure:
    """What a rate counts: its name, what a call needs beforehand (None: unknown, refused), what an outcome used (None: unknown)."""

    name: str
    need: Callable[[Outward], float | None]
    used: Callable[[Outward, Any], float | None]
    show: Callable[[float], str]
    unit: float = 1.0


def _need_tokens(call: Outward) -> float | None:
    """Return the most tokens the call may use, by the estimate of budgets: at 1 USD a million a token is 10^6 pico-dollars."""
    from dataclasses import replace

    from agent_core.provider import Price

    if call.ask is None or call.provider is None:
        return 0.0
    reserve = money.reserve(call.ask, replace(call.provider, price=Price("1", "1")))
    return None if reserve is None else reserve / 10**6


def _used_tokens(_call: Outward, outcome: Any) -> float | None:
    usage = getattr(outcome, "usage", None)
    if usage is None:
        return _of_failure(outcome)
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    return float(usage.input_tokens + usage.output_tokens)


def _need_money(call: Outward) -> float | None:
    if call.ask is None or call.provider is None or call.provider.answer is not None:
        return 0.0
    return money.reserve(call.ask, call.provider)


def _used_money(call: Outward, outcome: Any) -> float | None:
    usage = getattr(outcome, "usage", None)
    if usage is None or call.provider is None:
        return _of_failure(outcome)
    return money.cost(usage, call.provider.price)


def _of_failure(outcome: Any) -> float | None:
    """A service that refused counted nothing; of one that did not answer in time nobody knows."""
    return None if isinstance(outcome, CallTimeout) else 0.0


CALLS = Measure("rate", lambda _call: 1.0, lambda _call, _outcome: 1.0, lambda amount: f"{amount:g} calls")
TOKENS = Measure("token-rate", _need_tokens, _used_tokens, lambda amount: f"{amount:.0f} tokens")
COST = Measure(
    "cost-rate", _need_money, _used_money, lambda amount: f"{money.text(round(amount))} USD", unit=float(money.PICO)
)  # fmt: skip


@dataclass(slots=True)
class Rated:
    """At most so much of a measure in a time, for each model: reserved before a call, settled after it."""

    measure: Measure
    manner: Manner
    limit: Callable[[str], Bucket | None]
    place: str = "rate"
    book: Book = field(default_factory=Book)

    def before(self, call: Outward, attempt: int, now: float) -> Decision:  # noqa: ARG002 - all guards have one shape
        """Take what the call needs, or say how long it takes until there is enough."""
        bucket = self.limit(scope(call)) if call.kind == "ask" else None
        if bucket is None:
            return guards.PROCEED
        now += self.manner.shared.offset
        stay = self.book.stay(call, f"{self.measure.name}:{scope(call)}", self.manner, now)
        if stay.took:
            return guards.PROCEED
        need = self.measure.need(call)
        if need is None:
            self.book.pop(call)
            words = f"no price is known for {call.name}, so --{self.measure.name} cannot be kept"
            return guards.Refuse(BudgetLimit(words, hint=f"drop --{self.measure.name}"))
        try:
            return self._take(stay, bucket, need, now) if need else guards.PROCEED
        except StoreError as error:
            self.book.pop(call)
            return guards.Refuse(error)

    def _take(self, stay: Stay, bucket: Bucket, need: float, now: float) -> Decision:
        def change(row: Row) -> tuple[float, bool]:
            wait = limits.take(row, bucket, need, stay.ticket, now)
            return wait, bucket.capacity >= 5 * self.measure.unit and limits.crossed(row, now)

        wait, warn = self.manner.shared.change(stay.key, change, _kept(bucket))
        shown = f"{self.measure.show(bucket.capacity)} in {bucket.capacity / bucket.rate:g} s"
        if warn:
            self.manner.say(f"{stay.name}: {limits.WARN_AT:.0%} of {shown} are used")
        if not wait:
            stay.took = min(need, bucket.capacity)
            return guards.PROCEED
        if self.manner.waits:
            return guards.Delay(min(wait, limits.LONGEST_NAP), f"{stay.name} ({shown})")
        self.book.pop(stay.call)
        return guards.Refuse(_limited(f"{stay.name}: {shown} are used", wait))

    def after(self, call: Outward, outcome: Any, attempt: int, now: float) -> Verdict:  # noqa: ARG002 - all guards have one shape
        """Settle."""
        self._settle(call, self.measure.used(call, outcome), now)
        return guards.ACCEPT

    def leave(self, call: Outward) -> None:
        """Forget a call that is not made. What it took drains by itself."""
        self.book.pop(call)

    def _settle(self, call: Outward, used: float | None, now: float) -> None:
        stay = self.book.pop(call)
        bucket = self.limit(scope(call)) if stay is not None and stay.took else None
        if stay is None or bucket is None or used is None or used == stay.took:
            return
        now, took = now + self.manner.shared.offset, stay.took
        _try(lambda: self.manner.shared.change(stay.key, lambda row: limits.settle(row, bucket, took, used, now), _kept(bucket)))


def _kept(bucket: Bucket) -> float:
    return bucket.capacity / bucket.rate + DAY


def _limited(words: str, wait: float) -> RateLimited:
    return RateLimited(words, hint=f"try again in {wait:.1f} s, or drop --no-wait", retry_after=round(wait, 3))


def _try(work: Callable[[], Any]) -> None:
    """Do what is only bookkeeping: where the place fails now, leases end by themselves and the next call meets the failure."""
    try:
        work()
    except StoreError:
        return


# -- places ----------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Places:
    """At most so many calls of a model at once. A place is leased: that of a killed process is free again."""

    manner: Manner
    limit: Callable[[str], int | None]
    place: str = "in_flight"
    book: Book = field(default_factory=Book)

    def before(self, call: Outward, attempt: int, now: float) -> Decision:  # noqa: ARG002 - all guards have one shape
        """Take a place, or stand in the queue."""
        places = self.limit(scope(call)) if call.kind == "ask" else None
        if places is None:
            return guards.PROCEED
        now += self.manner.shared.offset
        stay = self.book.stay(call, f"concurrency:{scope(call)}", self.manner, now)
        if stay.took:
            return guards.PROCEED
        shared, lease = self.manner.shared, [now + self.manner.lease, *me()]

        def change(row: Row) -> float:
            return limits.enter(row, places, stay.ticket, lease, now, shared.alive)

        try:
            wait = shared.change(stay.key, change, DAY)
        except StoreError as error:
            self.book.pop(call)
            return guards.Refuse(error)
        if not wait:
            stay.took = 1.0
            return guards.PROCEED
        if self.manner.waits:
            return guards.Delay(wait, f"{stay.name} ({places} at once)")
        self.book.pop(call)
        return guards.Refuse(_limited(f"{stay.name}: {places} calls are in flight", wait))

    def after(self, call: Outward, outcome: Any, attempt: int, now: float) -> Verdict:  # noqa: ARG002 - all guards have one shape
        """Give the place back."""
        self.leave(call)
        return guards.ACCEPT

    def leave(self, call: Outward) -> None:
        """Give the place back, or the one in the queue."""
        stay = self.book.pop(call)
        if stay is not None:
            _try(lambda: self.manner.shared.change(stay.key, lambda row: limits.free(row, stay.ticket.name), DAY))


# -- breaker ---------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Breaker:
    """Rests after failures in a row, for each model, tool and peer, in all processes; then one trial decides."""

    manner: Manner
    limit: Callable[[str], Fuse | None]
    place: str = "breaker"
    book: Book = field(default_factory=Book)

    def before(self, call: Outward, attempt: int, now: float) -> Decision:  # noqa: ARG002 - all guards have one shape
        """Let the call through, or refuse it at once with code breaker_open."""
        fuse = self._fuse(call)
        if fuse is None:
            return guards.PROCEED
        now += self.manner.shared.offset
        stay = self.book.stay(call, f"breaker:{scope(call)}", self.manner, now)
        try:
            wait, row = self._admit(stay, now)
        except StoreError as error:
            self.book.pop(call)
            return guards.Refuse(error)
        if not wait:
            return guards.PROCEED
        self.book.pop(call)
        return guards.Refuse(_open(scope(call), row, wait))

    def _fuse(self, call: Outward) -> Fuse | None:
        """Return the breaker that holds for a call: what the person set, else what the tool brings."""
        found = self.limit(scope(call))
        return tiers.tool_fuse(call.tool) if found is None and call.tool is not None else found

    def _admit(self, stay: Stay, now: float) -> tuple[float, Row]:
        shared = self.manner.shared
        row = shared.read(stay.key)
        if limits.state(row, now) == "closed":  # the usual case costs one read
            return 0.0, row
        lease, name = [now + self.manner.lease, *me()], stay.ticket.name
        return shared.change(stay.key, lambda row: (limits.admit(row, name, lease, now, shared.alive), dict(row)), DAY)

    def after(self, call: Outward, outcome: Any, attempt: int, now: float) -> Verdict:  # noqa: ARG002 - all guards have one shape
        """Count the outcome."""
        failed = _failure(outcome)
        if failed is None:
            self.leave(call)
            return guards.ACCEPT
        stay, fuse = self.book.pop(call), self._fuse(call)
        if stay is not None and fuse is not None:
            _try(lambda: self._report(stay, fuse, failed, now + self.manner.shared.offset))
        return guards.ACCEPT

    def _report(self, stay: Stay, fuse: Fuse, failed: str, now: float) -> None:
        if not failed and not self.manner.shared.read(stay.key):
            return
        name = stay.ticket.name
        opened = self.manner.shared.change(
            stay.key, lambda row: limits.report(row, fuse, name, now, failed=failed), fuse.seconds + DAY
        )
        if opened:
            self.manner.say(f"{stay.name} opened ({failed}); it rests for {fuse.seconds:g} s")

    def leave(self, call: Outward) -> None:
        """Give a trial back that was not made."""
        stay = self.book.pop(call)
        if stay is not None:
            _try(lambda: self._withdraw(stay))

    def _withdraw(self, stay: Stay) -> None:
        if self.manner.shared.read(stay.key).get("trial"):
            self.manner.shared.change(stay.key, lambda row: limits.withdraw(row, stay.ticket.name), DAY)


def _open(what: str, row: Row, wait: float) -> ServerError:
    times = row.get("failures", 0)
    error = ServerError(
        f"{what} failed {times} time{'' if times == 1 else 's'} in a row ({row.get('last', '')}); its breaker is open",
        hint=f"it is tried again in {wait:.1f} s",
        retry_after=round(wait, 3),
    )
    error.code = "breaker_open"
    return error


def _failure(outcome: Any) -> str | None:
    """Return the code of a fault of the service, "" for an answer (also a refusal: it works), None for what says nothing."""
    if isinstance(outcome, ProviderError):
        return outcome.code if outcome.retryable or outcome.status == 76 else ""
    if isinstance(outcome, AgentError):
        return outcome.code if outcome.status in _SERVICE_FAULTS else None
    if isinstance(outcome, Exception):
        return None
    return "transient" if getattr(outcome, "error", None) == "transient" else ""


# -- equal requests --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Dedup:
    """One call for equal requests: the second caller waits for the first one's reply, or takes one of the last `ttl` seconds.

    Whoever asks holds a lease; when it fails or dies, the next one asks.
    """

    manner: Manner
    ttl: float
    place: str = "dedup"
    book: Book = field(default_factory=Book)

    def before(self, call: Outward, attempt: int, now: float) -> Decision:  # noqa: ARG002 - all guards have one shape
        """Use a reply that is there, wait for one that is coming, or become the one who asks."""
        if call.kind != "ask" or call.provider is None:
            return guards.PROCEED
        now += self.manner.shared.offset
        stay = self.book.stay(call, f"dedup:{_request(call)}", self.manner, now)
        shared, until = self.manner.shared, now + self.manner.lease

        def change(row: Row) -> tuple[str, Any]:
            if row.get("reply") and row.get("until", 0) > now:
                return "use", row["reply"]
            owner = row.get("owner")
            if owner and owner[0] != stay.ticket.name and owner[1] > now and shared.alive(owner[2:]):
                return "wait", None
            row.clear()
            row["owner"] = [stay.ticket.name, until, *me()]
            return "ask", None

        try:
            what, reply = shared.change(stay.key, change, self.manner.lease + self.ttl)
        except StoreError as error:
            self.book.pop(call)
            return guards.Refuse(error)
        return self._decided(stay, what, reply)

    def _decided(self, stay: Stay, what: str, reply: Any) -> Decision:
        if what == "wait":
            return guards.Delay(limits.LONGEST_POLL / 2, "the answer to an equal request")
        if what == "ask":
            stay.took = 1.0
            return guards.PROCEED
        from agent_core.journal import reply_from_json

        self.book.pop(stay.call)
        return guards.Use(reply_from_json(reply))

    def after(self, call: Outward, outcome: Any, attempt: int, now: float) -> Verdict:  # noqa: ARG002 - all guards have one shape
        """Share a reply; let the next one ask after a failure."""
        if isinstance(outcome, Exception):
            self.leave(call)
            return guards.ACCEPT
        stay = self.book.pop(call)
        if stay is not None and stay.took:
            from agent_core.journal import reply_to_json

            kept = {"reply": json.loads(json.dumps(reply_to_json(outcome))), "until": now + self.manner.shared.offset + self.ttl}
            _try(lambda: self.manner.shared.change(stay.key, lambda row: _replaced(row, stay.ticket.name, kept), self.ttl))
        return guards.ACCEPT

    def leave(self, call: Outward) -> None:
        """Let the next one ask."""
        stay = self.book.pop(call)
        if stay is not None and stay.took:
            _try(lambda: self.manner.shared.change(stay.key, lambda row: _replaced(row, stay.ticket.name, {}), self.ttl))


def _request(call: Outward) -> str:
    address = call.provider.base_url if call.provider is not None else ""
    return hashlib.blake2b(f"{scope(call)}\0{address}\0{call.key}".encode(), digest_size=16).hexdigest()


def _replaced(row: Row, name: str, new: Row) -> None:
    """Replace a row that is still ours."""
    if (row.get("owner") or [""])[0] == name:
        row.clear()
        row.update(new)


# -- money of a day --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class SharedRow:
    """A budget in a place of limits (Redis), in the shape of `ledger.Row`. What a dead process reserved ends with its lease."""

    shared: Shared
    key: str
    lease: float = 600.0

    def reserve(self, name: str, need: int, limit: int) -> int | None:
        """Reserve, or say what is left."""
        now = self._now()

        def change(row: Row) -> int | None:
            left = limit - self._used(row, now)
            if need > left:
                return left
            row.setdefault("open", {})[name] = [need, now + self.lease, *me()]
            return None

        return self.shared.change(self.key, change, 7 * DAY)

    def settle(self, name: str, cost: int) -> None:
        """Settle."""

        def change(row: Row) -> None:
            row.get("open", {}).pop(name, None)
            row["spent"] = int(row.get("spent", 0)) + cost

        self.shared.change(self.key, change, 7 * DAY)

    def used(self) -> int:
        """Return what is spent and reserved."""
        return self._used(self.shared.read(self.key), self._now())

    def _used(self, row: Row, now: float) -> int:
        taken: dict[str, list[Any]] = row.setdefault("open", {})
        for name in [name for name, (_, until, *owner) in taken.items() if until <= now or not self.shared.alive(owner)]:
            del taken[name]
        return int(row.get("spent", 0)) + sum(int(each[0]) for each in taken.values())

    def _now(self) -> float:
        return time.monotonic() + self.shared.offset


@dataclass
class DailyBudget(ledger.SharedBudget):
    """The budget of a calendar day (UTC) over all runs: a pipeline's budget whose row is the day, so called agents keep to it, too.

    A run belongs to the day on which it began. Without a store, or with one that cannot be used, every call is refused.
    """

    day: str = ""
    shared: Shared | None = None
    say: Callable[[str], None] = _quiet

    def before(self, call: Outward, attempt: int, now: float) -> Decision:
        """Reserve, or refuse."""
        decision = super().before(call, attempt, now)
        if isinstance(decision, guards.Refuse) and isinstance(decision.error, BudgetLimit):
            words = f"{decision.error} of the day's budget" if "is left" in str(decision.error) else str(decision.error)
            return guards.Refuse(BudgetLimit(words, hint="raise --daily-budget, or wait until 00:00 UTC"))
        return decision

    def after(self, call: Outward, outcome: Any, attempt: int, now: float) -> Verdict:
        """Settle, note the reading, and warn once when most of it is used."""
        verdict = super().after(call, outcome, attempt, now)
        if call.kind == "ask":
            _try(self._note)
        return verdict

    def _note(self) -> None:
        limit, row = self.rows[0]
        used = row.used()

        def change(kept: Row) -> bool:
            kept.update(limit=[limit, 0.0], used=used, at=0.0)
            return limits.crossed(kept, 0.0)

        if self.shared is not None and self.shared.change(f"daily-budget:{self.day}", change, 2 * DAY):
            self.say(f"{limits.WARN_AT:.0%} of the day's budget of {money.text(limit)} USD are used")


def daily_budget(limit: int, store: Store | None, manner: Manner, now: float) -> DailyBudget:
    """Return the guard for `limit` pico-dollars on the day of `now` (seconds since 1970): in Redis if rows are there."""
    day = time.strftime("%Y-%m-%d", time.gmtime(now))
    key = f"day:{day}"
    row: ledger.Row = (
        SharedRow(manner.shared, f"money:{key}") if isinstance(manner.shared, InRedis) else ledger.StoreRow(store, key)
    )
    return DailyBudget([(limit, row)], day=day, shared=manner.shared, say=manner.say)
