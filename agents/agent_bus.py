"""agent-bus - messages between processes: to one, to all of a role, to everybody; none twice, none lost unsaid.

    agent-bus send "begin" --to worker-1 --from me       --to role:writer, --to all (the default); without words: stdin
    agent-bus recv --as worker-1 --role writer           what came since the last time; status 3 if nothing did
    agent-bus recv --as worker-1 --timeout 10 -n 1       wait for one, at most ten seconds (status 124)
    agent-bus recv --as worker-1 --follow --jsonl        go on receiving
    agent-bus stats --json                               {"sent", "held", "lost", "expired", "receivers": [{"id", "waiting", …}]}
    agent-bus leave --as worker-1                        forget a receiver

The bus holds --capacity messages (256). Beyond that the oldest leave it; for whom they were meant and not fetched is told how many
were lost with what comes next, and `stats` has the sums. --ttl says how long a message is good. Nobody receives what he sent to all
or to a role himself. Who receives for the first time gets all that is still there (--new: only what comes from then on).

    $ agent-bus send "the draft is done" --to role:critic --from writer
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from agent_core import Agent
from agent_core.errors import DeadlineError, MissingInput, UsageError
from agent_core.task import Answer
from agent_plugins.bus.box import CAPACITY, Bus, Draft, Got

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent_core.cli import Command

_SHORTEST, _LONGEST = 0.01, 0.25  # seconds between two looks


def send(  # noqa: PLR0913, PLR0917 - a command's parameters are its flags
    command: Command,
    text: list[str],
    to: str = "all",
    from_: str = "",
    ttl: float | None = None,
    capacity: int = CAPACITY,
    bus: str = "main",
) -> Answer:
    """Send a message; without words, what stands on stdin. Prints its number.

    Args:
        command: the call.
        text: the message.
        to: all, an id, or role:NAME.
        from_: who sends it.
        ttl: for how many seconds it is good.
        capacity: how many messages the bus holds.
        bus: which bus.
    """
    from agent_core import redact

    if not from_:
        raise UsageError("send needs --from", hint="--from NAME says who sends it")
    if ttl is not None and not 0 < ttl < 10**9:
        raise UsageError(f"--ttl {ttl:g} is no time", hint="--ttl 60 is one minute")
    content = redact.redact(" ".join(word for word in text if word != "-") or _stdin(command))
    message = _bus(command, bus, capacity).send(Draft(from_, to, content, ttl))
    return Answer(str(message.number), message.row())


def _stdin(command: Command) -> str:
    from dataclasses import replace

    from agent_core import asking, stdin

    data = stdin.read(replace(asking.rules(command, instruction=False, dash=True), stdin="required"))
    if not data:
        raise MissingInput("there is nothing to send", hint="give it words, or a text on stdin")
    return stdin.text_of(data).rstrip("\n")


def recv(  # noqa: PLR0913, PLR0917 - a command's parameters are its flags
    command: Command,
    as_: str = "",
    role: list[str] | None = None,
    follow: bool = False,
    new: bool = False,
    n: int | None = None,
    bus: str = "main",
) -> Answer | None:
    """Receive what came since the last time: each message once, in the order in which they were sent.

    Args:
        command: the call.
        as_: who receives.
        role: a role of the receiver.
        follow: go on until --timeout, a signal, or -n messages.
        new: who has not received yet begins with what comes from now on.
        n: at most so many messages.
        bus: which bus.
    """
    if not as_:
        raise UsageError("recv needs --as", hint="--as NAME says who receives")
    if n is not None and n < 1:
        raise UsageError(f"-n {n} is less than 1", hint="-n 1")
    box = _bus(command, bus)
    if new:
        box.skip(as_, role or ())
    rows: list[dict[str, Any]] = []
    lost = expired = received = 0
    for got in _pieces(command, box, (as_, role or [], n), follow=follow):
        _told(command, got)
        lost, expired, received = lost + got.lost, expired + got.expired, received + len(got.messages)
        rows += [message.row() for message in got.messages] if command.out.mode == "json" else []
    if not received and command.deadline is not None:
        raise DeadlineError(f"nothing came for {as_} in time", hint="raise --timeout")
    return _end(command, rows, {"received": received, "lost": lost, "expired": expired})


def _end(command: Command, rows: list[dict[str, Any]], counts: dict[str, int]) -> Answer | None:
    status = 0 if counts["received"] else 3
    shown = {"messages": rows, **counts} if command.out.mode == "json" else counts
    return Answer("\n".join(_line(row) for row in rows), shown, status)


def _pieces(command: Command, box: Bus, who: tuple[str, list[str], int | None], *, follow: bool) -> Iterator[Got]:
    """Yield what comes: once what there is, or until the first, the n-th, the deadline."""
    id_, roles, left = who
    waits = follow or command.deadline is not None
    pause = _SHORTEST
    while True:
        got = box.receive(id_, roles, left)
        if not got.empty:
            yield got
            pause = _SHORTEST
        left = None if left is None else left - len(got.messages)
        over = command.deadline is not None and time.monotonic() >= command.deadline
        if left == 0 or over or not waits or (got.messages and not follow):
            return
        rest = pause if command.deadline is None else max(0.0, min(pause, command.deadline - time.monotonic()))
        time.sleep(rest)
        pause = min(pause * 1.5, _LONGEST)


def _told(command: Command, got: Got) -> None:
    """Print messages as they come, and say on stderr what will never come."""
    from agent_core import terminal

    if got.lost:
        command.out.say(f"{got.lost} messages for this receiver were lost: the bus was full")
    if got.expired:
        command.out.say(f"{got.expired} messages for this receiver were past their time")
    for message in got.messages:
        row = message.row()
        if command.out.mode == "text":
            line = _line(row)
            terminal.write(1, terminal.encode((terminal.clean(line) if terminal.is_terminal(1) else line) + "\n"))
        elif command.out.mode == "jsonl":
            part = {"type": "text", "text": message.content}
            command.out.record("item", {**row, "output": message.content, "content": [part]}, subject=str(message.number))


def _line(row: dict[str, Any]) -> str:
    return f"{row['from']}: {row['content']}"


def stats(command: Command, capacity: int = CAPACITY, bus: str = "main") -> Answer:
    """Say what is on the bus, who receives, and what was lost.

    Args:
        command: the call.
        capacity: how many messages the bus holds.
        bus: which bus.
    """
    found = _bus(command, bus, capacity).stats()
    head = f"{found['sent']} sent, {found['held']} held, {found['lost']} lost, {found['expired']} expired"
    rows = [f"{'RECEIVER':<20}  {'GOT':>7}  {'WAITING':>7}  {'LOST':>7}  {'EXPIRED':>7}  ROLES"] if found["receivers"] else []
    for each in found["receivers"]:
        counts = "  ".join(f"{each[key]:>7}" for key in ("received", "waiting", "lost", "expired"))
        rows.append(f"{each['id']:<20}  {counts}  {' '.join(each['roles'])}".rstrip())
    return Answer("\n".join([head, *rows]), found)


def leave(command: Command, as_: str = "", bus: str = "main") -> Answer:
    """Forget a receiver: nothing is counted as lost for it any more.

    Args:
        command: the call.
        as_: who leaves.
        bus: which bus.
    """
    if not as_:
        raise UsageError("leave needs --as", hint="--as NAME says who leaves")
    gone = _bus(command, bus).leave(as_)
    return Answer(f"{as_} {'left' if gone else 'was not there'}", {"left": gone})


def _bus(command: Command, name: str, capacity: int = CAPACITY) -> Bus:
    return Bus(command.store(), name, capacity)


agent = Agent(
    __doc__,
    commands=[send, recv, stats, leave],
    examples=[
        'agent-bus send "begin" --to role:writer --from me',
        "agent-bus recv --as worker-1 --role writer --follow --jsonl",
        "agent-bus stats --json",
    ],
    tags=["bus", "messages", "coordination"],
    when_to_use="Processes or agents on this machine are to send each other messages: to one, to a role, or to all.",
)
main = agent.main

if __name__ == "__main__":
    main()
