"""keep - items of memory in the store: put, find, forget, capacity, and changes that can be undone.

    memory = Memory(store, rules)
    memory.put(item)                 written in one small transaction; what is beyond the capacity of its kind is evicted
    memory.items(["long"])           live items; `ended=True` also those that were superseded or pruned
    memory.apply(change, now)        end some items, make others: all of it or nothing, and a note of it
    memory.undo("")                  take the latest change back

An item is one row of the store's items (namespace memory/KIND/OWNER), so it is encrypted, backed up and moved with everything else.
Two processes never overwrite each other's work: whoever changes what he has read writes only if it still is as he read it.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from agent_core.errors import Failed, InputError, UsageError
from agent_plugins.memory.items import KEYED, Item, Rules, checked, from_json, rules, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Place = tuple[str, str]

ROOT, UNDO, MARKS = "memory/", "memory-undo", "memory-marks"
TRIES = 50


class Items(Protocol):
    """What memory needs of a store; `agent_core.store.Store` has it, and so has `Passing`."""

    def items_under(self, prefix: str) -> dict[Place, str]:
        """Return all items of the namespaces that begin so."""
        ...

    def item_get(self, namespace: str, key: str) -> str | None:
        """Return one item."""
        ...

    def items_write(self, items: Mapping[Place, str | None], was: Mapping[Place, str | None] | None = None) -> bool:
        """Write all (None removes), or nothing and False if one of `was` is not as it was."""
        ...

    def item_count(self, namespace: str) -> int:
        """Return how many items a namespace has."""
        ...


@dataclass(slots=True)
class Passing:
    """Items that live as long as the process (`persist = false`)."""

    rows: dict[Place, str] = field(default_factory=dict)

    def items_under(self, prefix: str) -> dict[Place, str]:
        """Return all items of the namespaces that begin so."""
        return {place: self.rows[place] for place in sorted(self.rows) if place[0].startswith(prefix)}

    def item_get(self, namespace: str, key: str) -> str | None:
        """Return one item."""
        return self.rows.get((namespace, key))

    def items_write(self, items: Mapping[Place, str | None], was: Mapping[Place, str | None] | None = None) -> bool:
        """Write all (None removes), or nothing and False if one of `was` is not as it was."""
        if any(self.rows.get(place) != value for place, value in (was or {}).items()):
            return False
        for place, value in items.items():
            if value is None:
                self.rows.pop(place, None)
            else:
                self.rows[place] = value
        return True

    def item_count(self, namespace: str) -> int:
        """Return how many items a namespace has."""
        return sum(place[0] == namespace for place in self.rows)


_PASSING = Passing()


@dataclass(frozen=True, slots=True)
class Change:
    """What is to become of items: `ended` as they are to be written, `made` new ones, `gone` for good."""

    what: str
    ended: tuple[Item, ...] = ()
    made: tuple[Item, ...] = ()
    gone: tuple[Item, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing is to be done."""
        return not (self.ended or self.made or self.gone)


def opened(settings: Any, store: Items | None = None) -> Memory:
    """Return the memory of these settings. ConfigError if a rule does not fit."""
    found = rules(settings.tables)
    if not found.persist:
        return Memory(_PASSING, found)
    if store is None:
        from agent_core import running

        store = running.opened(running.store_path(settings))
    return Memory(store, found)


def new_id() -> str:
    """Return a fresh id, sortable by time."""
    import os

    from agent_core import ids

    return ids.new_run_id(time.time(), os.urandom(ids.RANDOM_BYTES))


def id_of(*parts: str) -> str:
    """Return the id that these parts always have: the same summary of the same items is one item, whoever makes it."""
    import hashlib

    from agent_core.ids import ALPHABET

    number = int.from_bytes(hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=13).digest(), "big")
    return "".join(ALPHABET[number >> shift & 31] for shift in range(95, -1, -5))


def place_of(item: Item) -> Place:
    """Return where an item lies."""
    return f"{ROOT}{item.kind}/{item.namespace}", item.id


class Memory:
    """Items in a store, under rules."""

    def __init__(self, store: Items, of: Rules) -> None:
        """Keep both."""
        self.store, self.rules = store, of

    # -- reading

    def items(self, kinds: Iterable[str] = (), namespaces: Iterable[str] | None = None, *, ended: bool = False) -> list[Item]:
        """Return the live items of these kinds (all of them if none is named) and owners, in order of kind and age."""
        wanted = None if namespaces is None else frozenset(namespaces)
        found = [item for item, _ in self._read(kinds).values() if wanted is None or item.namespace in wanted]
        return sorted(
            (item for item in found if ended or not item.ended), key=lambda item: (item.kind, item.namespace, item.created)
        )

    def _read(self, kinds: Iterable[str] = ()) -> dict[Place, tuple[Item, str]]:
        """Return items with their rows as they stand; what cannot be read (somebody changed it by hand) is left out."""
        rows: dict[Place, str] = {}
        for prefix in [f"{ROOT}{kind}/" for kind in kinds] or [ROOT]:
            rows.update(self.store.items_under(prefix))
        found = {}
        for place, text in rows.items():
            item = _readable(text)
            if item is not None and place == place_of(item):
                found[place] = (item, text)
        return found

    def find(self, ref: str) -> Item:
        """Return the item whose id is, or begins with, `ref`. UsageError for none or several."""
        wanted = ref.strip().lower()
        found = [item for item in self.items(ended=True) if wanted and item.id.lower().startswith(wanted)]
        exact = [item for item in found if item.id.lower() == wanted]
        if len(exact or found) == 1:
            return (exact or found)[0]
        if found:
            some = ", ".join(item.id for item in found[:3])
            raise UsageError(f"{ref[:40]!r} is the beginning of several items", hint=f"{some} …: give more characters")
        raise UsageError(f"no item {ref[:40]!r}", hint="agent-mem list shows them")

    def keyed(self, key: str, kinds: Iterable[str] = ("kv",), namespaces: Iterable[str] = ("",)) -> list[Item]:
        """Return the items under a key, newest first."""
        return sorted((item for item in self.items(kinds, namespaces) if item.key == key), key=lambda item: -item.created)

    # -- writing

    def put(self, item: Item) -> tuple[Item, list[Item]]:
        """Keep an item; return it as it was kept, and what had to go for it. InputError if it cannot be kept."""
        item = self.ready(item)
        self.store.items_write({place_of(item): to_json(item)})
        return item, self.evict(item.kind, item.namespace)

    def ready(self, item: Item) -> Item:
        """Return an item with everything that it is kept with: id, time, tokens."""
        item = checked(item)
        if item.kind in KEYED:
            item = replace(item, key=item.key or "default")
            item = replace(item, id=id_of(item.kind, item.namespace, item.key))
        return replace(item, id=item.id or new_id(), created=item.created or time.time())

    def evict(self, kind: str, namespace: str) -> list[Item]:
        """Remove what is beyond the capacity: of working memory the least recently used, else the least important, oldest first."""
        most = self.rules.kinds[kind].capacity
        if most is None or self.store.item_count(f"{ROOT}{kind}/{namespace}") <= most:
            return []
        for _ in range(TRIES):
            rows = {
                place: pair for place, pair in self._read([kind]).items() if pair[0].namespace == namespace and not pair[0].ended
            }
            surplus = sorted(rows, key=lambda place: self._worth(rows[place][0]))[: max(0, len(rows) - most)]
            if self.store.items_write(dict.fromkeys(surplus), {place: rows[place][1] for place in surplus}):
                evicted = [rows[place][0] for place in surplus]
                self._tell(evicted, most)
                return evicted
        return []

    def _worth(self, item: Item) -> tuple[float, float, str]:
        if item.kind == "working":
            return item.used, item.created, item.id
        return self.rules.importance(item, time.time()), item.created, item.id

    def _tell(self, evicted: Sequence[Item], capacity: int) -> None:
        """Leave an event for the audit: something was removed that nobody had asked to remove."""
        append = getattr(self.store, "append", None)
        if append is not None and evicted:
            from agent_core.events import Event

            rows = [{"id": item.id, "kind": item.kind, "namespace": item.namespace} for item in evicted]
            append(Event("memory.evicted", evicted[0].run, "", time.time(), {"items": rows, "capacity": capacity}))

    def update(self, wanted: Iterable[Item], change: Callable[[Item], Item]) -> int:
        """Change items one by one, each as it is by then; return how many there were."""
        return sum(self._updated(place_of(item), change) for item in wanted)

    def _updated(self, place: Place, change: Callable[[Item], Item]) -> bool:
        for _ in range(TRIES):
            text = self.store.item_get(*place)
            item = _readable(text) if text is not None else None
            if item is None:
                return False
            if self.store.items_write({place: to_json(change(item))}, {place: text}):
                return True
        return False

    def touch(self, recalled: Iterable[Item], now: float) -> None:
        """Note that items were recalled."""
        self.update(recalled, lambda item: replace(item, accessed=now, accesses=item.accesses + 1))

    def forget(self, wanted: Iterable[Item]) -> list[Item]:
        """Remove items for good, with all that they replaced; return what was removed."""
        wanted = list(wanted)
        known = {item.id: item for item in self.items(ended=True)} if wanted else {}
        left, gone = [item.id for item in wanted], {}
        while left:
            item = known.get(left.pop())
            if item is not None and item.id not in gone:
                gone[item.id] = item
                left += item.supersedes
        self.store.items_write({place_of(item): None for item in gone.values()})
        return list(gone.values())

    # -- changes

    def apply(self, make: Callable[[list[Item]], Change], now: float) -> tuple[Change, str]:
        """Do what `make` decides about all items, and note it; return the change and its number ("" where there was nothing to do).

        If another process changed one of the items meanwhile, `make` decides again.
        """
        for _ in range(TRIES):
            rows = self._read()
            change = make([item for item, _ in rows.values()])
            if change.empty:
                return change, ""
            touched = [place_of(item) for item in (*change.ended, *change.gone)]
            if any(place not in rows for place in touched):
                continue
            number = new_id()
            written: dict[Place, str | None] = {place_of(item): to_json(item) for item in (*change.ended, *change.made)}
            written |= {place_of(item): None for item in change.gone}
            if change.ended or change.made:
                written[UNDO, number] = _note(change, now)
            if self.store.items_write(written, {place: rows[place][1] for place in touched}):
                return change, number if change.ended or change.made else ""
        raise Failed("memory is being changed all the time by other programs", hint="try again")

    def undo(self, ref: str = "") -> tuple[int, int]:
        """Take a change back (the latest, if none is named); return how many items live again, and how many went.

        UsageError if there is none, or if a later change rests on it.
        """
        for _ in range(TRIES):
            number, noted = self._change(ref)
            place = (UNDO, number)
            rows = self._read()
            made = [(space, key) for space, key in noted["made"] if (space, key) in rows]
            later = next((rows[at][0] for at in made if rows[at][0].superseded_by), None)
            if later is not None:
                raise UsageError(f"item {later.id} was changed again since", hint="undo the latest change first: agent-mem undo")
            again = [(space, key) for space, key in noted["ended"] if (space, key) in rows and rows[space, key][0].ended]
            written: dict[Place, str | None] = {at: to_json(_live(rows[at][0])) for at in again}
            written |= {**dict.fromkeys(made), place: None}
            if self.store.items_write(written, {at: rows[at][1] for at in (*again, *made)}):
                return len(again), len(made)
        raise Failed("memory is being changed all the time by other programs", hint="try again")

    def _change(self, ref: str) -> tuple[str, dict[str, Any]]:
        found = [pair for pair in self.changes() if pair[0].startswith(ref.strip().lower())]
        if not found:
            raise UsageError(
                f"no change {ref[:40]!r}" if ref else "there is nothing to undo", hint="agent-mem stats shows the changes"
            )
        return found[-1]

    def changes(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the changes that can be undone, oldest first: (number, {what, time, ended, made})."""
        found = [(place[1], json.loads(text)) for place, text in self.store.items_under(UNDO).items() if place[0] == UNDO]
        return sorted(found, key=lambda pair: (pair[1]["order"], pair[0]))

    def forget_changes(self, before: float) -> int:
        """Drop the notes of changes that are older; they cannot be undone any more."""
        old = {(UNDO, number): None for number, noted in self.changes() if noted["time"] < before}
        self.store.items_write(old)
        return len(old)

    # -- marks

    def mark(self, name: str) -> float:
        """Return when something was done last; 0 for never."""
        return float(json.loads(self.store.item_get(MARKS, name) or "0"))

    def set_mark(self, name: str, now: float) -> None:
        """Note when something was done."""
        self.store.items_write({(MARKS, name): json.dumps(now)})


def _readable(text: str) -> Item | None:
    try:
        return from_json(text)
    except InputError:
        return None


def _live(item: Item) -> Item:
    return replace(item, ended=0.0, reason="", superseded_by="")


def _note(change: Change, now: float) -> str:
    row = {"what": change.what, "time": now, "order": time.time_ns()}
    return json.dumps({**row, "ended": [place_of(item) for item in change.ended], "made": [place_of(item) for item in change.made]})
