"""bills - what runs cost, by agent, model or day: a reading of their events. Money is exact; what is not known is counted apart.

made = bills(entries(store, since), "model")
sum_of(made).cost_usd                    None as long as one price is unknown; `known_usd` is the rest
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_core import money

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from agent_core.events import Event
    from agent_core.store import Store


@dataclass(frozen=True, slots=True)
class Entry:
    """One paid thing: a model's reply, or a called agent whose own run is recorded somewhere else. `cost`: pico-dollars or None."""

    agent: str
    model: str
    run: str
    time: float
    calls: int
    input_tokens: int | None
    output_tokens: int | None
    cost: int | None

    def key(self, by: str) -> str:
        """Return the name under which it is counted: the agent, the model, or the day (local time)."""
        if by == "day":
            return time.strftime("%Y-%m-%d", time.localtime(self.time))
        return self.agent if by == "agent" else self.model


@dataclass(frozen=True, slots=True)
class Bill:
    """The sum of some entries. Tokens are None if one of them was not reported; `unknown_calls` have no known price."""

    name: str
    runs: int
    calls: int
    input_tokens: int | None
    output_tokens: int | None
    known_usd: str
    unknown_calls: int

    @property
    def cost_usd(self) -> str | None:
        """The whole cost, None if a price is unknown."""
        return None if self.unknown_calls else self.known_usd


def entries(store: Store, since: float = 0.0) -> Iterator[Entry]:
    """Yield what was paid for since a moment (seconds since 1970). Outcomes that a fork inherited are its parent's."""
    runs = store.runs(None)
    known = {run.id for run in runs}
    for agent in dict.fromkeys(run.agent for run in runs):
        for kind in ("model.replied", "call.finished", "effect.failed"):
            for event in store.of_kind(kind, agent):
                if event.time >= since and not event.data.get("inherited"):
                    yield from _entry(agent, event, known)


def _entry(agent: str, event: Event, known: set[str]) -> Iterator[Entry]:
    from agent_core.readings import cost_of, facts_of

    if event.kind == "model.replied":
        used, model = event.data.get("usage") or {}, str(event.data.get("model") or event.data.get("provider") or "")
        tokens = used.get("input_tokens"), used.get("output_tokens")
        yield Entry(agent, model, event.run, event.time, 1, *tokens, cost_of(event.data))
        return
    told = facts_of(event)
    used = told.get("usage")
    if isinstance(used, dict) and str(told.get("run") or "") not in known:
        calls = used.get("calls")
        yield Entry(
            str(told.get("agent") or ""), "", event.run, event.time, calls if isinstance(calls, int) else 0,
            used.get("input_tokens"), used.get("output_tokens"), _pico(used.get("cost_usd")),
        )  # fmt: skip


def _pico(text: Any) -> int | None:
    try:
        return money.pico(text) if isinstance(text, str) and len(text) < 40 else None
    except ValueError:
        return None


def bills(found: Iterable[Entry], by: str = "agent") -> list[Bill]:
    """Return one bill a name, dearest first (days: in order)."""
    groups: dict[str, list[Entry]] = {}
    for entry in found:
        groups.setdefault(entry.key(by), []).append(entry)
    made = [_bill(name, group) for name, group in groups.items()]
    return sorted(made, key=lambda bill: (bill.name,) if by == "day" else (-money.pico(bill.known_usd), bill.name))


def sum_of(found: Iterable[Entry]) -> Bill:
    """Return one bill of all entries."""
    return _bill("total", list(found))


def _bill(name: str, group: Sequence[Entry]) -> Bill:
    return Bill(
        name, len({entry.run for entry in group}), sum(entry.calls for entry in group),
        _total([entry.input_tokens for entry in group]), _total([entry.output_tokens for entry in group]),
        money.text(sum(entry.cost or 0 for entry in group)), sum(max(1, entry.calls) for entry in group if entry.cost is None),
    )  # fmt: skip


def _total(amounts: Sequence[int | None]) -> int | None:
    return None if None in amounts else sum(amount for amount in amounts if amount is not None)


def as_data(bill: Bill) -> Mapping[str, Any]:
    """Return a bill as plain data."""
    names = ("name", "runs", "calls", "input_tokens", "output_tokens", "cost_usd", "known_usd", "unknown_calls")
    return {name: getattr(bill, name) for name in names}
