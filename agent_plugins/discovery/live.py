"""live - which resident agents are there now: rows in the store that expire when nobody renews them.

    heartbeat(store, "monitor-agent", health="degraded", endpoint="unix:/run/user/1000/monitor.sock")
    rows(store)                       those that were renewed within their time to live (60 s)
    deregister(store, "monitor-agent")
    measured(store, "writer")         mean latency and cost of an agent's latest finished runs

One-shot agents need no rows. Times are seconds since the epoch.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from agent_core.catalogue import checked_name
from agent_core.errors import StoreError, UsageError
from agent_plugins.discovery.match import HEALTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_core.store import Store

NAMESPACE = "live"
TTL = 60.0
RUNS = 20
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Advertisement:
    """What a resident agent says of itself (ledger S1-33). `health` is a key of `match.HEALTH`."""

    agent_id: str
    agent_name: str
    capabilities: tuple[str, ...] = ()
    endpoint: str = ""
    registered_at: float = 0.0
    last_heartbeat: float = 0.0
    health: str = "healthy"


def heartbeat(store: Store, advertisement: Advertisement, ttl: float = TTL) -> Advertisement:
    """Register a resident agent, or renew its row for another `ttl` seconds; the moment of its registration stays.

    Raises:
        UsageError: the name is no name, or the health is none.
    """
    checked_name(advertisement.agent_name)
    _checked(advertisement, ttl)
    for _ in range(_TRIES):
        version = store.item_version(NAMESPACE, advertisement.agent_id)
        now = time.time()
        known = _row(store.item_get(NAMESPACE, advertisement.agent_id, now))
        made = replace(advertisement, registered_at=known.registered_at if known else now, last_heartbeat=now)
        if store.item_put(NAMESPACE, made.agent_id, json.dumps(asdict(made)), ttl, expect=version):
            return made
    raise StoreError(f"the row of {advertisement.agent_id} keeps changing", hint="does something else use the same id?")


def _checked(advertisement: Advertisement, ttl: float) -> None:
    if advertisement.health not in HEALTH:
        raise UsageError(f"no health {advertisement.health[:40]!r}", hint=f"one of {', '.join(HEALTH)}")
    if not 0 < len(advertisement.agent_id) <= 200 or len(advertisement.endpoint) > 500:
        raise UsageError("an id has 1 to 200 characters, an endpoint at most 500")
    if not 0 < ttl <= 86_400:
        raise UsageError(f"--ttl {ttl:g} is not between 0 and 86400 seconds")


def deregister(store: Store, ref: str) -> int:
    """Remove the row of that id, else all rows of that name; return how many there were."""
    if store.item_delete(NAMESPACE, ref):
        return 1
    return sum(store.item_delete(NAMESPACE, row.agent_id) for row in rows(store) if row.agent_name == ref)


def rows(store: Store, now: float | None = None) -> list[Advertisement]:
    """Return the rows that are still alive, by id. What cannot be read is left out."""
    found = (_row(text) for text in store.items(NAMESPACE, now).values())
    return [row for row in found if row is not None]


def evict(store: Store, now: float | None = None) -> int:
    """Remove for good what has expired, which is never shown anyway; return how many items that were."""
    return store.expire(now)


def _row(text: str | None) -> Advertisement | None:
    try:
        data = json.loads(text or "")
        made = Advertisement(**{**data, "capabilities": tuple(data["capabilities"])})
        checked_name(made.agent_name)
    except (ValueError, TypeError, KeyError, UsageError):
        return None
    return made


def measured(store: Store, name: str, most: int = RUNS) -> tuple[float | None, float | None]:
    """Return (mean milliseconds, mean USD) of an agent's latest runs that ended well; None for what is not known.

    The cost is unknown as soon as one of the runs has an unknown price: a mean of the others would be a guess.
    """
    ended = [run for run in store.runs(most * 2, agent=name) if run.status == 0 and run.finished is not None][:most]
    if not ended:
        return None, None
    latency = sum((run.finished or 0.0) - run.started for run in ended) * 1000 / len(ended)
    wanted = {run.id for run in ended}
    costs = [_cost(event.data) for event in _ends(store, wanted)]
    known = bool(costs) and all(cost is not None for cost in costs)
    return latency, sum(cost or 0.0 for cost in costs) / len(costs) if known else None


def _ends(store: Store, runs: set[str]) -> Sequence[Any]:
    return [event for run in runs for event in store.events(run) if event.kind == "run.finished"]


def _cost(data: Any) -> float | None:
    value = (data.get("usage") or {}).get("cost_usd")
    return None if value is None else float(value)
