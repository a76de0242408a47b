"""ledger - one budget over a whole pipeline: money is reserved in the store before a call and settled after it.

    $ export AGENT_BUDGET_USD=0.10
    $ researcher "…" | grep -v '^#' | writer | critic        # all of it costs ten cents at most

`AGENT_BUDGET_USD` names a row of the store: of the trace (`TRACEPARENT`), else of the process group, which is the job of an
interactive shell, or the whole script. Agents that a run calls get what is left in the same variable, and the rows that they must
keep to in `AGENT_BUDGET_ROW` ("LIMIT@KEY …"), so parallel peers cannot spend the same money twice.

A row is an item of the store, changed by compare-and-set: {"spent": pico-dollars, "begun": ticks, "open": {id: [pico-dollars, pid,
ticks, boot]}}. What a process reserved and died with is given back. A store that cannot be used, or a row that is gone, refuses
the call.
"""

from __future__ import annotations

import json
import os
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from agent_core import guards, lineage, money
from agent_core.errors import BudgetLimit, ConfigError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from agent_core.guards import Decision, Outward, Verdict
    from agent_core.store import Store

NAMESPACE = "budget"
KEPT = 7 * 24 * 3600.0
PATIENCE = 15.0


class Row(Protocol):
    """Where a budget is kept. Amounts are pico-dollars."""

    def reserve(self, name: str, need: int, limit: int) -> int | None:
        """Reserve `need` under a name of the caller's; None when done, else what is left (less than `need`)."""
        ...

    def settle(self, name: str, cost: int) -> None:
        """Give a reservation back and count what it really cost."""
        ...

    def used(self) -> int:
        """Return what is spent and reserved."""
        ...


@dataclass(slots=True)
class MemoryRow:
    """A budget of this process alone."""

    spent: int = 0
    open: dict[str, int] = field(default_factory=dict)

    def reserve(self, name: str, need: int, limit: int) -> int | None:
        """Reserve, or say what is left."""
        left = limit - self.used()
        if need > left:
            return left
        self.open[name] = need
        return None

    def settle(self, name: str, cost: int) -> None:
        """Settle; a reservation that is not known only adds its cost."""
        self.open.pop(name, None)
        self.spent += cost

    def used(self) -> int:
        """Return what is spent and reserved."""
        return self.spent + sum(self.open.values())


@dataclass(slots=True)
class StoreRow:
    """A budget that processes share. `fresh`: it may be begun here; else it must be there already."""

    store: Store | None
    key: str
    fresh: bool = True
    leader: int = 0

    def reserve(self, name: str, need: int, limit: int) -> int | None:
        """Reserve, or say what is left. StoreError if the row cannot be used."""
        left = 0

        def change(row: dict[str, Any]) -> bool:
            nonlocal left
            left = limit - _used(row)
            if need <= left:
                row["open"][name] = [need, *this_process()]
            return need <= left

        return None if self._change(change) else left

    def settle(self, name: str, cost: int) -> None:
        """Settle. StoreError if the row cannot be used: then the reservation stands until this process ends."""

        def change(row: dict[str, Any]) -> bool:
            row["open"].pop(name, None)
            row["spent"] += cost
            return True

        self._change(change)

    def used(self) -> int:
        """Return what is spent and reserved. StoreError if the row cannot be used."""
        return _used(self._read()[0])

    def begin(self, spent: int, reserved: Mapping[str, int]) -> None:
        """Begin the row with what was used so far."""

        def change(row: dict[str, Any]) -> bool:
            row.update(_fresh(), spent=spent, open={name: [need, *this_process()] for name, need in reserved.items()})
            return True

        self._change(change)

    def _change(self, change: Callable[[dict[str, Any]], bool]) -> bool:
        """Read, change and write the row until nobody came between. Return whether there was something to write."""
        end = time.monotonic() + PATIENCE
        pause = 0.001
        while True:
            row, version = self._read()
            if not change(row):
                return False
            if self._store().item_put(NAMESPACE, self.key, json.dumps(row), KEPT, expect=version):
                return True
            if time.monotonic() > end:
                raise StoreError("the budget's row is in use all the time", hint="use fewer processes at once")
            time.sleep(pause * random.random())  # noqa: S311 - processes that collided must not collide again
            pause = min(pause * 2, 0.1)

    def _read(self) -> tuple[dict[str, Any], int]:
        """Return (row, version); the version first, so that a change in between is noticed when writing."""
        store = self._store()
        version = store.item_version(NAMESPACE, self.key)
        text = store.item_get(NAMESPACE, self.key)
        if text is None:
            if not self.fresh:
                raise StoreError("the row of the budget is not in the store", hint="a peer must use its caller's --data-dir")
            return _fresh(), version
        row = _checked(text)
        if self.leader > row.get("begun", 0):
            # The group's number belongs to another group now: its leader is younger than the row.
            return _fresh(), version
        row["open"] = {name: taken for name, taken in row["open"].items() if holds(taken)}
        return row, version

    def _store(self) -> Store:
        if self.store is None:
            raise StoreError("a shared budget needs the store, and there is none")
        return self.store


def _fresh() -> dict[str, Any]:
    return {"spent": 0, "open": {}, "begun": lineage.now_ticks()}


def _checked(text: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
        good = isinstance(row["spent"], int) and all(isinstance(taken[0], int) for taken in row["open"].values())
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        good = False
    if not good:
        raise StoreError("the row of the budget is damaged", hint="use another AGENT_BUDGET_USD scope, or another data folder")
    return dict(row)


def _used(row: Mapping[str, Any]) -> int:
    return int(row["spent"]) + sum(int(taken[0]) for taken in row["open"].values())


def this_process() -> tuple[int, int, str]:
    """Return what tells this process from any other, also from a later one of its number: pid, start time, boot."""
    return os.getpid(), lineage.started(os.getpid()) or 0, lineage.boot()


def holds(taken: list[Any]) -> bool:
    """Return whether the process that reserved may still be there. Of another container that cannot be known: it may."""
    _, process, ticks, booted = taken
    here = lineage.boot()
    if booted != here:
        return str(booted)[:13] == here[:13]
    if ticks:
        return bool(lineage.started(process) == ticks)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@dataclass(slots=True)
class SharedBudget:
    """The guard: refuses a model call that might cost more than is left in any of its rows. Shape of `guards.Budget`.

    A call whose price is not known is refused; a reply that does not say what it used costs all that was reserved.
    """

    rows: list[tuple[int, Row]]
    place: str = "budget"
    _open: dict[int, tuple[str, int]] = field(default_factory=dict)
    _count: int = 0
    _own: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Note which rows are this run's alone."""
        self._own = frozenset(place for place, (_, row) in enumerate(self.rows) if isinstance(row, MemoryRow))

    def before(self, call: Outward, attempt: int, now: float) -> Decision:  # noqa: ARG002 - all guards have one shape
        """Reserve in every row, or refuse."""
        if call.ask is None or call.provider is None or call.provider.answer is not None or id(call) in self._open:
            return guards.PROCEED
        need = money.reserve(call.ask, call.provider)
        if need is None:
            return guards.Refuse(
                BudgetLimit(f"no price is known for {call.provider.model}, so no budget can be kept", hint="drop the budget")
            )
        try:
            return self._reserve(call, need)
        except StoreError as error:
            return guards.Refuse(StoreError(f"the budget cannot be kept: {error}", hint=error.hint, cause=error.cause))

    def _reserve(self, call: Outward, need: int) -> Decision:
        self._count += 1
        name = f"{os.getpid()}.{id(self)}.{self._count}"
        for place, (limit, row) in enumerate(self.rows):
            left = row.reserve(name, need, limit)
            if left is not None:
                self._settle(name, 0, self.rows[:place])
                words = f"the next call may cost {money.text(need)} USD and {money.text(max(0, left))} is left"
                return guards.Refuse(BudgetLimit(words, hint="raise --budget or AGENT_BUDGET_USD"))
        self._open[id(call)] = (name, need)
        return guards.PROCEED

    def after(self, call: Outward, outcome: Any, attempt: int, now: float) -> Verdict:  # noqa: ARG002 - all guards have one shape
        """Settle what the reply really cost."""
        taken = self._open.pop(id(call), None)
        if taken is None or call.provider is None:
            return guards.ACCEPT
        cost = money.cost(outcome.usage, call.provider.price) if hasattr(outcome, "usage") else 0
        self._settle(taken[0], taken[1] if cost is None else cost, self.rows)
        return guards.ACCEPT

    def leave(self, call: Outward) -> None:
        """Give back what was reserved for a call that is not made."""
        taken = self._open.pop(id(call), None)
        if taken is not None:
            self._settle(taken[0], 0, self.rows)

    def charge(self, cost: int, *, own: bool = False) -> None:
        """Count money that was spent elsewhere; `own`: by a run of this process, which settled in the rows that are shared."""
        self._settle("", cost, [row for place, row in enumerate(self.rows) if not own or place in self._own])

    def left(self) -> int:
        """Return what the tightest row has left. StoreError if a row cannot be used."""
        return min(limit - row.used() for limit, row in self.rows)

    def share(self, store: Store | None, key: str) -> list[tuple[int, str]]:
        """Move what is kept in this process into the store, so that others can spend from it; return (limit, key) of all rows."""
        for place, (limit, row) in enumerate(self.rows):
            if isinstance(row, MemoryRow):
                moved = StoreRow(store, f"{key}.{place}")
                moved.begin(row.spent, row.open)
                self.rows[place] = (limit, moved)
        return [(limit, row.key) for limit, row in self.rows if isinstance(row, StoreRow)]

    def _settle(self, name: str, cost: int, rows: Iterable[tuple[int, Row]]) -> None:
        for _, row in rows:
            try:
                row.settle(name, cost)
            except StoreError:
                # The reservation stands, so nothing is spent twice; the next call will find the store unusable and be refused.
                continue


def guard(settings: Any, store: Store | None) -> SharedBudget | None:
    """Return the budget that `--budget` and the environment make, or None. ConfigError for an amount that is none."""
    environment = settings.environment
    rows: list[tuple[int, Row]] = []
    if settings.budget is not None:
        rows.append((money.pico(format(settings.budget, "f")), MemoryRow()))
    if environment.get("AGENT_BUDGET_USD") or environment.get("AGENT_BUDGET_ROW"):
        rows += _shared(environment, store)
    return SharedBudget(rows) if rows else None


def _shared(environment: Mapping[str, str], store: Store | None) -> list[tuple[int, Row]]:
    total, given = environment.get("AGENT_BUDGET_USD", ""), environment.get("AGENT_BUDGET_ROW", "")
    if not given:
        return [(_amount(total, "AGENT_BUDGET_USD"), _own_row(environment, store))]
    rows: list[tuple[int, Row]] = []
    for word in given.split():
        limit, _, key = word.partition("@")
        rows.append((_amount(limit, "AGENT_BUDGET_ROW"), StoreRow(store, key, fresh=False)))
    # What a caller has left bounds this process, too: should the rows be somewhere else, it holds all the same.
    return [(_amount(total, "AGENT_BUDGET_USD"), MemoryRow()), *rows] if total else rows


def _own_row(environment: Mapping[str, str], store: Store | None) -> StoreRow:
    """Return the row of the trace, or of the process group."""
    trace, _ = lineage.span_of(environment.get("TRACEPARENT", ""))
    if trace:
        return StoreRow(store, f"trace:{trace}")
    group = os.getpgrp()
    return StoreRow(store, f"group:{lineage.boot()}:{os.getsid(0)}:{group}", leader=lineage.started(group) or 0)


def _amount(text: str, name: str) -> int:
    try:
        return money.pico(text.removeprefix("$"))
    except ValueError:
        raise ConfigError(f"{name}: {text[:40]!r} is no amount of money", hint="USD, for example 0.50") from None


def for_child(kept: Iterable[Any], store: Store | None, key: str) -> dict[str, str]:
    """Return the variables that hand what is left of a run's budgets to a peer; none if there is no budget.

    Args:
        kept: the run's guards.
        store: where rows can be shared.
        key: names the caller's own row; unique for the process and run.

    Raises:
        BudgetLimit: nothing is left.
        StoreError: the ledger cannot be used.
    """
    lefts: list[int] = []
    rows: list[tuple[int, str]] = []
    for one in kept:
        if isinstance(one, SharedBudget):
            rows += one.share(store, key)
            lefts.append(one.left())
        elif isinstance(one, guards.Budget):
            lefts.append(one.limit - one.spent - one.reserved)
    if not lefts:
        return {}
    if min(lefts) <= 0:
        raise BudgetLimit("nothing is left of the budget for another agent", hint="raise --budget or AGENT_BUDGET_USD")
    made = {"AGENT_BUDGET_USD": money.text(min(lefts))}
    if rows:
        made["AGENT_BUDGET_ROW"] = " ".join(f"{money.text(limit)}@{name}" for limit, name in rows)
    return made
