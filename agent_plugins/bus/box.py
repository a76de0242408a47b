"""box - who gets which message, and what becomes of those that nobody fetched.

    bus = Bus(store)
    bus.send(Draft("me", "role:writer", "begin"))
    got = bus.receive("w1", roles=["writer"])      # got.messages, got.lost, got.expired

One log of messages, numbered from 1, and one cursor for each receiver. A message goes to `all`, to one id, or to `role:NAME`;
nobody gets what he sent to all or to a role himself. The log holds `capacity` messages: beyond, the oldest leave, and are counted
as lost for every receiver they were meant for and who had not fetched them. Those past their time count as expired in the same
way. A receiver is told both counts with the next messages, once; `stats` has the sums. Whoever has never received begins with
the oldest message there is.

Everything is items of the store: each change is one transaction that is tried again if somebody else was faster, so a message is
numbered once and delivered once for each id, also when several processes receive as the same one. The cursor moves before the
messages are handed out: a receiver that is killed between the two loses what it fetched.
"""

from __future__ import annotations

import json
import random
import re
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from agent_core.errors import Failed, InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from agent_core.store import Store

    Place = tuple[str, str]

CAPACITY = 256
MOST_CAPACITY = 100_000
LARGEST = 64 * 1024  # bytes of one content
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
EVERYBODY = "all"
ROLE = "role:"
TRIES = 2000
_dice = random.SystemRandom().random


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be sent: by whom, to whom (all, an id, role:NAME), the text, and its time in seconds (None: for ever)."""

    sender: str
    to: str
    content: str
    ttl: float | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was sent. `time` and `expires` are seconds since 1970."""

    number: int
    sender: str
    to: str
    content: str
    time: float
    expires: float | None = None

    def row(self) -> dict[str, Any]:
        """Return it as data."""
        return {"id": self.number, "from": self.sender, "to": self.to, "content": self.content, "time": self.time}

    def over(self, now: float) -> bool:
        """Whether it is past its time."""
        return self.expires is not None and self.expires <= now


@dataclass(frozen=True, slots=True)
class Receiver:
    """One receiver: how far it is, its roles, and counts. `lost` and `expired` were not told yet; the `all_` ones are sums."""

    id: str
    cursor: int = 0
    roles: tuple[str, ...] = ()
    received: int = 0
    lost: int = 0
    expired: int = 0
    all_lost: int = 0
    all_expired: int = 0

    def wants(self, message: Message) -> bool:
        """Whether a message is meant for it and was not fetched."""
        return message.number > self.cursor and meant(message, self.id, self.roles)

    def missed(self, *, lost: int = 0, expired: int = 0) -> Receiver:
        """Return it with messages that it will not get."""
        return replace(
            self,
            lost=self.lost + lost, all_lost=self.all_lost + lost,
            expired=self.expired + expired, all_expired=self.all_expired + expired,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Got:
    """What a receiver got, and how many messages it will never get because there were too many, or they came too late."""

    messages: tuple[Message, ...] = ()
    lost: int = 0
    expired: int = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.messages or self.lost or self.expired)


def meant(message: Message, id_: str, roles: Iterable[str]) -> bool:
    """Return whether a message is for a receiver of that id and those roles."""
    if message.to == id_:
        return True
    if message.sender == id_:
        return False
    return message.to == EVERYBODY or (message.to.startswith(ROLE) and message.to.removeprefix(ROLE) in roles)


def checked_target(to: str) -> str:
    """Return an address: all (or broadcast), an id, or role:NAME. UsageError for anything else."""
    if to in {EVERYBODY, "broadcast", "*"}:
        return EVERYBODY
    checked_name(to.removeprefix(ROLE), "address")
    return to


def checked_name(name: str, what: str = "name") -> str:
    """Return a name. UsageError for anything that is none, and for `all`, which everybody is."""
    if not NAME.fullmatch(name) or name in {EVERYBODY, "broadcast"}:
        raise UsageError(f"{name[:80]!r} is no {what}", hint="all, role:NAME, or letters, digits, dots, dashes (at most 64)")
    return name


class Bus:
    """A bus in a store. `name` separates buses; `capacity` is how many messages it holds."""

    def __init__(self, store: Store, name: str = "main", capacity: int = CAPACITY, clock: Callable[[], float] = time.time) -> None:
        """Keep what it is made of. UsageError for a capacity that is none."""
        if not 1 <= capacity <= MOST_CAPACITY:
            raise UsageError(f"a bus of {capacity} messages cannot be", hint=f"--capacity from 1 to {MOST_CAPACITY}")
        self.store, self.capacity, self.clock = store, capacity, clock
        root = f"bus/{checked_name(name)}"
        self.log, self.people, self.head = f"{root}/messages", f"{root}/receivers", (root, "head")

    # -- sending

    def send(self, draft: Draft) -> Message:
        """Put a message on the bus and return it.

        Raises:
            UsageError: sender or address is no name.
            InputError: the content is larger than 64 KiB.
        """
        checked_name(draft.sender, "sender")
        to = checked_target(draft.to)
        if len(draft.content.encode("utf-8", "replace")) > LARGEST:
            raise InputError(f"a message holds at most {LARGEST} bytes", hint="send the path of a file")
        content = draft.content.encode("utf-8", "replace").decode()

        def change() -> tuple[Message, dict[Place, str | None], dict[Place, str | None]]:
            now = self.clock()
            head = self.store.item_get(*self.head)
            last: dict[str, Any] = json.loads(head) if head else {"last": 0, "soonest": None}
            number = last["last"] + 1
            message = Message(number, draft.sender, to, content, now, None if draft.ttl is None else now + draft.ttl)
            soonest = last["soonest"]
            items: dict[Place, str | None] = {}
            was: dict[Place, str | None] = {}
            if self.store.item_count(self.log) >= self.capacity or (soonest is not None and soonest <= now):
                items, was, soonest = self._made_room(now)
            if message.expires is not None:
                soonest = message.expires if soonest is None else min(soonest, message.expires)
            items[self.log, f"{number:012d}"] = json.dumps(asdict(message), ensure_ascii=False)
            items[self.head] = json.dumps({"last": number, "soonest": soonest})
            return message, items, {**was, self.head: head}

        found: Message = self._tried(change)
        return found

    def _made_room(self, now: float) -> tuple[dict[Place, str | None], dict[Place, str | None], float | None]:
        """Take out what is over and what is too much for one more message.

        Returns:
            The items to write, as they were, and when the first of the messages that stay will be past its time.
        """
        people = self._people()
        messages = self._messages()
        over = [message for message in messages if message.over(now)]
        left = [message for message in messages if not message.over(now)]
        pushed = left[: max(0, len(left) + 1 - self.capacity)]
        items: dict[Place, str | None] = {(self.log, f"{each.number:012d}"): None for each in (*over, *pushed)}
        for id_, receiver in self._concerned(people, (*over, *pushed)).items():
            lost, expired = sum(map(receiver.wants, pushed)), sum(map(receiver.wants, over))
            if lost or expired:
                items[self.people, id_] = _written(receiver.missed(lost=lost, expired=expired))
        was: dict[Place, str | None] = {(self.people, id_): people.get(id_) for id_ in self._concerned(people, (*over, *pushed))}
        ends = [message.expires for message in left[len(pushed) :] if message.expires is not None]
        return items, was, min(ends, default=None)

    def _concerned(self, people: Mapping[str, str], messages: Sequence[Message]) -> dict[str, Receiver]:
        """Return the receivers, and those who were written to by name and have never received."""
        found = {id_: _read(id_, raw) for id_, raw in people.items()}
        for message in messages:
            if message.to != EVERYBODY and not message.to.startswith(ROLE):
                found.setdefault(message.to, Receiver(message.to))
        return found

    # -- receiving

    def receive(self, id_: str, roles: Sequence[str] = (), most: int | None = None) -> Got:
        """Return what came for a receiver since it last asked, at most `most` messages, in the order in which they were sent."""
        checked_name(id_, "receiver")
        for role in roles:
            checked_name(role, "role")

        def change() -> tuple[Got, dict[Place, str | None], dict[Place, str | None]]:
            raw = self.store.items(self.people).get(id_)
            was = _read(id_, raw)
            known = replace(was, roles=tuple(roles) or was.roles)
            got, after = _taken(known, self._messages(), self.clock(), most)
            place = (self.people, id_)
            return got, ({} if after == was and raw else {place: _written(after)}), {place: raw}

        found: Got = self._tried(change)
        return found

    def skip(self, id_: str, roles: Sequence[str] = ()) -> None:
        """Have a receiver begin after all messages there are now; one that has received before is left as it is."""
        head = self.store.item_get(*self.head)
        last = json.loads(head)["last"] if head else 0
        fresh = Receiver(checked_name(id_, "receiver"), last, tuple(roles))
        self.store.items_write({(self.people, id_): _written(fresh)}, {(self.people, id_): None})

    def leave(self, id_: str) -> bool:
        """Forget a receiver; return whether there was one."""
        return self.store.item_delete(self.people, checked_name(id_, "receiver"))

    def stats(self) -> dict[str, Any]:
        """Return {sent, held, capacity, lost, expired, receivers: [{id, roles, received, waiting, lost, expired}]}."""
        head = self.store.item_get(*self.head)
        messages, now = self._messages(), self.clock()
        people = [_read(id_, raw) for id_, raw in self._people().items()]
        rows = [
            {
                "id": each.id, "roles": list(each.roles), "received": each.received,
                "waiting": sum(each.wants(message) and not message.over(now) for message in messages),
                "lost": each.all_lost, "expired": each.all_expired,
            }
            for each in people
        ]  # fmt: skip
        return {
            "sent": json.loads(head)["last"] if head else 0, "held": len(messages), "capacity": self.capacity,
            "lost": sum(each.all_lost for each in people), "expired": sum(each.all_expired for each in people), "receivers": rows,
        }  # fmt: skip

    # -- the store

    def _messages(self) -> list[Message]:
        return [Message(**json.loads(raw)) for raw in self.store.items(self.log).values()]

    def _people(self) -> dict[str, str]:
        return self.store.items(self.people)

    def _tried(self, change: Callable[[], tuple[Any, dict[Place, str | None], dict[Place, str | None]]]) -> Any:
        """Do a change until nobody came between its reading and its writing."""
        for attempt in range(TRIES):
            value, items, was = change()
            if not items or self.store.items_write(items, was):
                return value
            time.sleep(_dice() * min(0.02, 0.0005 * (attempt + 1)))
        raise Failed("the bus is too busy", hint="try again")


def _taken(receiver: Receiver, messages: Sequence[Message], now: float, most: int | None) -> tuple[Got, Receiver]:
    """Return what a receiver gets of the messages, and the receiver afterwards."""
    wanted = [message for message in messages if receiver.wants(message)]
    good = [message for message in wanted if not message.over(now)]
    taken = tuple(good[:most])
    # What follows the last one that fits stays for the next time; without a limit everything there is has been seen.
    end = taken[-1].number if len(taken) < len(good) and taken else receiver.cursor if len(taken) < len(good) else None
    cursor = max([receiver.cursor, *(message.number for message in messages)]) if end is None else end
    late = sum(message.over(now) and message.number <= cursor for message in wanted)
    told = receiver.missed(expired=late)
    after = replace(told, cursor=cursor, received=receiver.received + len(taken), lost=0, expired=0)
    return Got(taken, told.lost, told.expired), after


def _read(id_: str, raw: str | None) -> Receiver:
    if raw is None:
        return Receiver(id_)
    found = json.loads(raw)
    return Receiver(**{**found, "roles": tuple(found["roles"])})


def _written(receiver: Receiver) -> str:
    return json.dumps(asdict(receiver), ensure_ascii=False)
