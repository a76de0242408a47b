"""resources - limits around every model call, kept by all processes together.

    assistant "hi" --rate 20/min --concurrency 5 --token-rate 100000/min --cost-rate 5/h --daily-budget 2
    assistant "hi" --tier mid --breaker 5/30 --dedup 60 --priority high --no-wait

Loaded where one of its flags is set (see `agent_core.options`, group Plugins). Its parts: `limits` (arithmetic on rows), `shared`
(where rows are: the store, or Redis), `tiers` (which limits hold for a model), `gates` (the guards), `inflight` (back-pressure) and
`readings` (how much is in use). docs/resources.md is the manual.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from agent_core.errors import UsageError
from agent_core.plugins import hookimpl

from . import gates, inflight, limits, shared, tiers
from .readings import Reading, readings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent_core.guards import Guard
    from agent_core.store import Store

    from .tiers import Limits

__all__ = ["Reading", "agent_events", "agent_guards", "readings"]

_SLACK = 30.0
_LONGEST_CALL = 3600.0
# Where there is no store (a program that wants none), limits hold among the runs of the process.
_LOCAL = shared.Local()


@hookimpl  # type: ignore[untyped-decorator, unused-ignore] # pluggy's marker has no types
def agent_guards(agent: Any, settings: Any, store: Store | None) -> Sequence[Guard]:
    """Return the guards that the flags, the tier and the agent's tools ask for."""
    of = tiers.finder(settings)
    say = _say(store)
    strict = shared.choose(settings, store) or _LOCAL
    lenient: shared.Shared = shared.Fallback(strict, say) if isinstance(strict, shared.InStore) else strict
    manner, money_manner = _manner(settings, lenient, say), _manner(settings, strict, say)
    tiered = bool(tiers.chosen(settings))
    own = [tool for tool in agent.tools if tiers.tool_fuse(tool)] if agent is not None else []
    wanted: list[tuple[Any, Callable[[], Guard]]] = [
        (settings.rate, lambda: gates.Rated(gates.CALLS, manner, _calls(of))),
        (settings.extra.get("token_rate"), lambda: gates.Rated(gates.TOKENS, manner, _amount(of, "token_rate"))),
        (settings.extra.get("cost_rate"), lambda: gates.Rated(gates.COST, money_manner, _amount(of, "cost_rate", 1e12))),
        (settings.extra.get("concurrency"), lambda: gates.Places(manner, lambda name: of(name).concurrency)),
        (settings.extra.get("breaker") or own, lambda: gates.Breaker(manner, lambda name: of(name).breaker)),
    ]
    chosen = [make() for flag, make in wanted if flag or tiered]
    return [*chosen, *_whole_runs(settings, store, manner)]


def _whole_runs(settings: Any, store: Store | None, manner: gates.Manner) -> list[Guard]:
    """Return the guards that are no limits of a model."""
    found: list[Guard] = []
    if settings.extra.get("dedup"):
        found.append(gates.Dedup(manner, settings.extra["dedup"]))
    if settings.extra.get("daily_budget") is not None:
        from agent_core import money

        most = money.pico(format(settings.extra["daily_budget"], "f"))
        found.append(gates.daily_budget(most, store, manner, time.time()))
    return found


@hookimpl  # type: ignore[untyped-decorator, unused-ignore] # pluggy's marker has no types
def agent_events(settings: Any, store: Store | None) -> Sequence[Any]:
    """Return the reader that counts the run among those in flight; RateLimited (75) where there are too many."""
    text = settings.extra.get("back_pressure") or f"{inflight.HARD}/{inflight.SOFT}"
    try:
        hard, soft = tiers.pressure(text)
    except ValueError:
        raise UsageError(f"--back-pressure: {text[:40]!r} is not HARD/SOFT", hint="for example 100/75") from None
    say = _say(store)
    place: shared.Shared = shared.choose(settings, store) or _LOCAL
    place = shared.Fallback(place, say) if isinstance(place, shared.InStore) else place
    reader = inflight.InFlight(place, hard, soft, say, time.monotonic)
    reader.check()
    return [reader]


def _manner(settings: Any, place: shared.Shared, say: Callable[[str], None]) -> gates.Manner:
    rank = limits.RANKS[settings.extra.get("priority") or "normal"]
    lease = (settings.call_timeout or _LONGEST_CALL) + _SLACK
    return gates.Manner(place, rank, not settings.extra.get("no_wait"), lease, say)


def _say(store: Store | None) -> Callable[[str], None]:
    """Return what tells a person: the store's notices go to stderr with the next event that is written."""
    return store.notices.append if store is not None else lambda _text: None


def _calls(of: Callable[[str], Limits]) -> Callable[[str], limits.Bucket | None]:
    def bucket(name: str) -> limits.Bucket | None:
        found = of(name)
        if found.rate is None:
            return None
        count, seconds = found.rate
        return limits.Bucket(max(1.0, found.burst or count), count / seconds)

    return bucket


def _amount(of: Callable[[str], Limits], which: str, unit: float = 1.0) -> Callable[[str], limits.Bucket | None]:
    def bucket(name: str) -> limits.Bucket | None:
        found = getattr(of(name), which)
        return None if found is None else limits.Bucket(found[0] * unit, found[0] * unit / found[1])

    return bucket
