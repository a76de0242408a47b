"""verify - whether the record is whole: the chain of `agent_core.chain`, followed from its beginning.

    verdict = verify(store, notes_of(lines))
    verdict.bad                            the first thing that is wrong, None if nothing is

It finds any change of an entry, entries that were taken out, put in, swapped or cut off at the end, and a store that was set back
or replaced. It needs the first key for entries that were made anew with all links after them, and a head from outside for a store
that was set back as a whole. Who is the same user can always fake what comes from now on.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent_core import chain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from agent_core.chain import State
    from agent_core.store import Store


@dataclass(frozen=True, slots=True)
class Head:
    """What was noted outside: at that time (seconds since 1970) the store of that name had so many entries and that last link."""

    name: str
    entries: int
    link: bytes
    time: float


@dataclass(frozen=True, slots=True)
class Notes:
    """What is known from outside of the store: first keys by the store's name, and heads."""

    keys: Mapping[str, bytes] = field(default_factory=dict)
    heads: tuple[Head, ...] = ()


@dataclass(frozen=True, slots=True)
class Bad:
    """The first thing that is wrong: the entry's number (from 1; 0: of the store as a whole), where it stands, and why."""

    entry: int
    reason: str
    seq: int | None = None
    run: str = ""
    path: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verifying came to. `sealed`: seals were checked, too; `before`: older events; `heads`: how many fitted."""

    entries: int
    before: int
    sealed: bool
    heads: int
    bad: Bad | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return self.bad is None


@dataclass(slots=True)
class _Walk:
    """Where following the chain has come to."""

    link: bytes
    key: bytes | None
    seq: int | None = None
    entries: int = 0
    before: int = 0
    fitting: int = 0


def notes_of(*sources: Iterable[str]) -> Notes:
    """Return the keys and heads among lines: of the file outside, of the system's journal, of another machine."""
    lines = [line for source in sources for line in source]
    return Notes(keys_of(lines), tuple(heads_of(lines)))


def heads_of(lines: Iterable[str]) -> Iterator[Head]:
    """Yield the heads among lines; whatever else stands there is left out."""
    for line in lines:
        words = line[line.find("head ") :].split() if "head " in line else []
        with suppress(ValueError):
            if len(words) == 5:
                yield Head(words[1], int(words[2]), bytes.fromhex(words[3]), float(words[4]))


def keys_of(lines: Iterable[str]) -> dict[str, bytes]:
    """Return the first keys among lines, by the store's name."""
    found: dict[str, bytes] = {}
    for line in lines:
        words = line.split()
        with suppress(ValueError):
            if len(words) == 3 and words[0] == "key" and len(key := bytes.fromhex(words[2])) == 32:
                found[words[1]] = key
    return found


def verify(store: Store, notes: Notes = Notes()) -> Verdict:
    """Follow the chain from its beginning and return what is wrong first. StoreError if the store cannot be read."""
    state = store.chain()
    if state is None:
        return _without(store, notes)
    heads = {head.entries: head for head in notes.heads if head.name == state.name}
    walk = _Walk(bytes(32), notes.keys.get(state.name))
    sealed = walk.key is not None
    while True:
        bad = _follow(walk, store, state, heads)
        # Others may go on writing: the end is reached when the state that was read last says so.
        latest = store.chain() if bad is None and walk.entries >= state.entries else None
        if latest is None or latest.entries <= walk.entries:
            break
        state = latest
    bad = bad or _at_the_end(walk, latest or state, heads.values()) or _replaced(notes.heads, state)
    return Verdict(walk.entries, walk.before, sealed, walk.fitting, bad)


def _follow(walk: _Walk, store: Store, state: State, heads: Mapping[int, Head]) -> Bad | None:
    for row in store.chained(walk.seq):
        bad = _step(walk, row, state)
        head = heads.get(walk.entries) if walk.entries else None
        if bad is None and head is not None:
            bad = _against(head, walk.link)
            walk.fitting += 1
        if bad is not None:
            return bad
    return None


def gone(notes: Notes) -> Verdict:
    """Judge a store that does not exist."""
    return Verdict(0, 0, sealed=False, heads=0, bad=_nothing_left(notes))


def _nothing_left(notes: Notes) -> Bad | None:
    if not notes.heads:
        return None
    last = max(notes.heads, key=lambda head: head.time)
    return Bad(0, f"the store that was here is gone: {last.entries} entries were noted {_when(last.time)}")


def _without(store: Store, notes: Notes) -> Verdict:
    """Judge a store that has no chain: fine for one without events, or with events of an older version only."""
    linked = next((row for row in store.chained() if row[7] is not None or row[8] is not None), None)
    before = sum(1 for _ in store.chained())
    bad = _nothing_left(notes)
    if linked is not None:
        bad = Bad(0, "the chain's state was removed", linked[0], *map(str, linked[1:4]))
    return Verdict(0, before, sealed=False, heads=0, bad=bad)


def _step(walk: _Walk, row: Sequence[Any], state: State) -> Bad | None:
    """Follow one event; return what is wrong with it."""
    seq, event, link, seal = row[0], row[1:7], row[7], row[8]
    came_from, walk.seq = walk.seq, seq
    if seq <= state.begun and link is None:
        walk.link, walk.before = chain.linked(walk.link, event), walk.before + 1
        return None
    if not walk.entries and walk.link != state.first:
        return _bad(walk, row, "one of the events from before the chain was changed, removed or added")
    walk.entries += 1
    reason = _wrong(walk, row, came_from)
    if reason:
        return _bad(walk, row, reason)
    walk.link = bytes(link)
    if walk.key is not None:
        if chain.sealed(walk.key, walk.link) != bytes(seal):
            return _bad(walk, row, "it was made anew: its seal is not of this chain's key")
        walk.key = chain.moved(walk.key)
    return None


def _wrong(walk: _Walk, row: Sequence[Any], came_from: int | None) -> str:
    """Return what is wrong with the link of an entry, nothing if it is right."""
    seq, event, link, seal = row[0], row[1:7], row[7], row[8]
    if link is None or seal is None:
        return "it was added beside the chain"
    if chain.linked(walk.link, event) == bytes(link):
        return ""
    missing = seq - came_from - 1 if came_from is not None else seq - 1
    if missing > 0:
        return f"{missing} {'entry is' if missing == 1 else 'entries are'} missing before it"
    return "it was changed, or does not follow from the entry before it"


def _bad(walk: _Walk, row: Sequence[Any], reason: str) -> Bad:
    seq, run, path, kind = row[:4]
    return Bad(walk.entries, reason, seq, str(run), str(path), str(kind))


def _against(head: Head, link: bytes) -> Bad | None:
    if head.link == link:
        return None
    return Bad(head.entries, f"up to here it is not what was noted outside {_when(head.time)}")


def _at_the_end(walk: _Walk, state: State, heads: Iterable[Head]) -> Bad | None:
    """Compare the end of the chain with the store's state, the key, and the heads from outside."""
    if not walk.entries and walk.link != state.first:
        return Bad(0, "one of the events from before the chain was changed, removed or added")
    last = max(heads, key=lambda head: head.entries, default=None)
    if last is not None and last.entries > walk.entries:
        return Bad(
            walk.entries + 1, f"{last.entries - walk.entries} entries that were noted outside {_when(last.time)} are missing"
        )
    if state.entries > walk.entries:
        return Bad(walk.entries + 1, f"the last {state.entries - walk.entries} entries are missing")
    if (state.entries, state.link) != (walk.entries, walk.link):
        return Bad(walk.entries, "the chain's state does not fit its last entry")
    if walk.key is not None and walk.key != state.key:
        return Bad(walk.entries + 1, "entries are missing at the end: the key has moved further than the chain")
    return None


def _replaced(heads: Iterable[Head], state: State) -> Bad | None:
    """Say that another store stood in this one's place."""
    others = [head for head in heads if head.name != state.name]
    if not others:
        return None
    last = max(others, key=lambda head: head.time)
    return Bad(0, f"another store was here: {last.entries} entries were noted {_when(last.time)}")


def _when(seconds: float) -> str:
    import time

    return time.strftime("on %Y-%m-%d at %H:%M:%S", time.localtime(seconds))
