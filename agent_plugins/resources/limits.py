"""limits - the arithmetic of limits on plain rows (dicts that can be JSON): token bucket, places, breaker, queue by priority.

Nothing here reads a clock, sleeps or knows where a row is kept. Each function alters the row and says how long to wait (seconds, 0:
granted). Times are seconds on one clock that all callers share.

Token bucket (Turner 1986, as a meter): `used` drains by `rate` a second; a request of `need` fits while used + need ≤ `capacity`.
What is kept is what was used, not what is left, so that processes with different settings can share a row: who only waits changes
nothing about it, and what a larger limit let in counts for a smaller one no longer than the smaller one's time.

A queue serves higher ranks first, first come first served within one. A waiter that does not come back in time (GRACE) is dropped:
it was killed. It is polled, so nobody waits on a wake-up that a dead process owes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

GRACE = 2.0
LONGEST_NAP = 1.0
POLL, POLL_MORE, LONGEST_POLL = 0.02, 0.02, 0.25
RANKS = {"low": 0, "normal": 1, "high": 2, "critical": 3}
WARN_AT = 0.8
_TINY = 1e-9
Row = dict[str, Any]
Alive = Callable[[list[Any]], bool]


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket: what fits at once, and what drains a second. Amounts are calls, tokens or pico-dollars."""

    capacity: float
    rate: float


@dataclass(frozen=True, slots=True)
class Ticket:
    """Who asks: a name unique among all processes, a value of RANKS, since when, and whether it is willing to wait."""

    name: str
    rank: int
    since: float
    waits: bool = True


def take(row: Row, bucket: Bucket, need: float, ticket: Ticket, now: float) -> float:
    """Take `need` out of a bucket, or stand in its queue. More than fits at all is taken from an empty one."""
    used, left = _drained(row, bucket, now)
    need = min(need, bucket.capacity)
    ahead = sum(float(each[3]) for each in _ahead(row, ticket, now))
    missing = used + ahead + need - bucket.capacity
    # An entry of the queue may be larger than this caller's bucket holds: what counts is that it goes first.
    if missing <= _TINY * bucket.capacity:
        _fill(row, bucket, used + need, now)
        _served(row, ticket, now)
        return 0.0
    wait = min(missing / bucket.rate, left + max(0.0, missing - used) / bucket.rate)
    _stand(row, ticket, now, min(wait, LONGEST_NAP), need)
    return wait


def settle(row: Row, bucket: Bucket, reserved: float, used: float, now: float) -> None:
    """Count what was really used in place of what was reserved; more than fits is owed."""
    _fill(row, bucket, max(0.0, _drained(row, bucket, now)[0] - reserved + used), now)


def level(row: Row, now: float) -> float:
    """Return the part of a bucket that is in use, 0.0 to 1.0 and beyond; 0.0 for one that was never used."""
    capacity, rate = row.get("limit") or (0.0, 0.0)
    if not capacity:
        return 0.0
    drained = max(0.0, now - float(row.get("at", now))) * float(rate)
    return max(0.0, float(row.get("used", 0.0)) - drained) / float(capacity)


def crossed(row: Row, now: float) -> bool:
    """Return whether the use of a bucket has just risen to WARN_AT; it is said once until the use falls below."""
    high = level(row, now) >= WARN_AT - _TINY
    was, row["warned"] = row.get("warned", False), high
    return high and not was


def _drained(row: Row, bucket: Bucket, now: float) -> tuple[float, float]:
    """Return what is in use now, and in how many seconds it is over if a larger limit let it in (inf: it was not a larger one)."""
    row["at"] = min(row.get("at", now), now)  # a clock that was set back must not drain
    since = now - row["at"]
    larger = (row.get("limit") or [0.0])[0] > bucket.capacity
    left = max(0.0, bucket.capacity / bucket.rate - since) if larger else math.inf
    return max(0.0, float(row.get("used", 0.0)) - since * bucket.rate) if left else 0.0, left


def _fill(row: Row, bucket: Bucket, used: float, now: float) -> None:
    row["used"], row["at"], row["limit"] = used, now, [bucket.capacity, bucket.rate]


# -- places ----------------------------------------------------------------------------------------------------------------------


def enter(row: Row, count: int, ticket: Ticket, lease: Sequence[Any], now: float, alive: Alive) -> float:
    """Take one of `count` places, or stand in the queue. `lease`: its end, then the owner; a dead owner's place is free."""
    held = tidy(row, now, alive)
    row["limit"] = [count, 0.0]
    if ticket.name in held:
        held[ticket.name][0] = lease[0]
        return 0.0
    ahead = len(_ahead(row, ticket, now))
    if len(held) + ahead < count:
        held[ticket.name] = list(lease)
        _served(row, ticket, now)
        return 0.0
    nap = min(LONGEST_POLL, POLL + POLL_MORE * ahead)
    _stand(row, ticket, now, nap, 1)
    return nap


def tidy(row: Row, now: float, alive: Alive) -> dict[str, list[Any]]:
    """Free the places whose lease ended or whose owner is dead; return those that are held."""
    held: dict[str, list[Any]] = row.setdefault("held", {})
    for name in [name for name, (until, *owner) in held.items() if until <= now or not alive(owner)]:
        del held[name]
    return held


def free(row: Row, name: str) -> None:
    """Give a place back, and the one in the queue."""
    row.get("held", {}).pop(name, None)
    row.get("queue", {}).pop(name, None)


# -- the queue -------------------------------------------------------------------------------------------------------------------


def _ahead(row: Row, ticket: Ticket, now: float) -> list[list[Any]]:
    """Return who is served before: higher ranks, and the same rank earlier. Nobody is before `critical`: it does not queue."""
    queue: dict[str, list[Any]] = row.setdefault("queue", {})
    for name in [name for name, each in queue.items() if each[2] + GRACE < now]:
        del queue[name]
    if ticket.rank >= RANKS["critical"]:
        return []
    mine = (-ticket.rank, ticket.since, ticket.name)
    return [each for name, each in queue.items() if (-each[0], each[1], name) < mine]


def _stand(row: Row, ticket: Ticket, now: float, nap: float, need: float) -> None:
    if ticket.waits:
        row["queue"][ticket.name] = [ticket.rank, ticket.since, now + nap, need]


def _served(row: Row, ticket: Ticket, now: float) -> None:
    """Take who was served out of the queue; `waits` keeps how many waited, and for how many seconds in all."""
    if row["queue"].pop(ticket.name, None) is not None:
        count, seconds = row.get("waits") or (0, 0.0)
        row["waits"] = [count + 1, round(seconds + now - ticket.since, 3)]


# -- breaker ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fuse:
    """A circuit breaker (Nygard, Release It!): that many failures in a row open it for that many seconds."""

    failures: int = 5
    seconds: float = 30.0


def state(row: Row, now: float) -> str:
    """Return closed, open or half-open."""
    if not row.get("open_until"):
        return "closed"
    return "open" if now < row["open_until"] else "half-open"


def admit(row: Row, name: str, lease: Sequence[Any], now: float, alive: Alive) -> float:
    """Let a call through a breaker (0.0), or say for how long it is refused. Half-open lets one trial through, leased."""
    match state(row, now):
        case "closed":
            return 0.0
        case "open":
            return float(row["open_until"] - now)
    trial = row.get("trial")
    if trial and trial[0] != name and trial[1] > now and alive(trial[2:]):
        return POLL
    row["trial"] = [name, *lease]
    return 0.0


def report(row: Row, fuse: Fuse, name: str, now: float, *, failed: str) -> bool:
    """Count an outcome (`failed`: the error's code, or nothing) and return whether the breaker opened by it.

    While it is open or half-open only the trial counts: others began before it opened.
    """
    row["limit"] = [fuse.failures, fuse.seconds]
    trial = bool(row.get("trial")) and row["trial"][0] == name
    if row.get("open_until") and not trial:
        return False
    if not failed:
        row.clear()
        return False
    row["failures"] = int(row.get("failures", 0)) + 1
    row["last"] = failed
    row.pop("trial", None)
    if trial or row["failures"] >= fuse.failures:
        row["open_until"] = now + fuse.seconds
        return True
    return False


def withdraw(row: Row, name: str) -> None:
    """Give a trial back that was not made."""
    if row.get("trial") and row["trial"][0] == name:
        del row["trial"]
