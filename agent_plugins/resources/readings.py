"""readings - how much of each limit is in use.

    for row in readings(store): print(row.limit, row.of, row.percent)

Rows are those of the place where limits are kept: the store, or whatever `shared.choose` returns.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import limits
from .shared import InStore, Shared

if TYPE_CHECKING:
    from agent_core.store import Store

    from .shared import Row


@dataclass(frozen=True, slots=True)
class Reading:
    """One limit: its name, what it belongs to, how much is used of how much (in `unit`), how many wait, and a breaker's state.

    `per_s` is the time in which the whole amount drains, None for places, budgets and breakers. `percent` is None for a breaker.
    """

    limit: str
    of: str
    used: float
    capacity: float
    unit: str
    per_s: float | None = None
    percent: float | None = None
    waiting: int = 0
    waits: int = 0
    waited_s: float = 0.0
    state: str = ""


UNITS = {"rate": "calls", "token-rate": "tokens", "cost-rate": "USD", "daily-budget": "USD"}
_PICO = 1e12


def readings(place: Store | Shared, now: float | None = None) -> list[Reading]:
    """Return the readings, by name; StoreError if the place cannot be used. `now`: seconds since 1970."""
    found: Any = place
    shared: Shared = found if hasattr(found, "rows") else InStore(found)
    moment = time.monotonic() + shared.offset if now is None else now
    return [
        _reading(key, row, moment, shared) for key, row in sorted(shared.rows().items()) if not key.startswith(("dedup:", "money:"))
    ]


def _reading(key: str, row: Row, now: float, shared: Shared) -> Reading:
    name, _, of = key.partition(":")
    capacity, second = (row.get("limit") or (0.0, 0.0))[:2]
    count, seconds = row.get("waits") or (0, 0.0)
    waiting = sum(each[2] + limits.GRACE >= now for each in row.get("queue", {}).values())
    if name == "breaker":
        return Reading(name, of, row.get("failures", 0), capacity, "failures", state=limits.state(row, now))
    if name in UNITS:
        used = limits.level(row, now)
        scale = _PICO if UNITS[name] == "USD" else 1.0
        per = round(capacity / second, 3) if second else None
        return Reading(
            name, of, used * capacity / scale, capacity / scale, UNITS[name], per, _percent(used), waiting, count, seconds
        )
    held = len(limits.tidy(row, now, shared.alive))
    unit = "runs" if name == "runs" else "calls"
    return Reading(name, of, held, capacity, unit, None, _percent(held / capacity if capacity else 0.0), waiting, count, seconds)


def _percent(part: float) -> float:
    return round(100 * part, 1)
