"""waiting - what a run waits for a person to decide, and how the decision comes in.

A pattern's `Wait("approve the refund?")` is asked on the terminal where there is one. Where there is none the run parks (status 5);
`answer` puts the decision into the journal later, and resuming the run goes on from there.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_core.store import Store


PATIENCE = 300.0
_SETTLE = 0.2


@dataclass(frozen=True, slots=True)
class Question:
    """An open question of a run: where it stands, what is asked, and whatever else was recorded with it."""

    run: str
    path: str
    text: str
    fingerprint: str
    data: Mapping[str, Any]


def ask(question: str, *, strict: bool = False) -> str | None:
    """Ask on the controlling terminal, never through stdin; None without one, or where it is another job's.

    What was typed before the question does not count. Programs of one terminal ask in turn. No answer in PATIENCE seconds is a no.
    `strict`: only the whole word `yes` is a yes, and everything else a no.
    """
    import fcntl

    try:
        tty = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.tcgetpgrp(tty) != os.getpgrp():
            return None
        fcntl.flock(tty, fcntl.LOCK_EX)
        said = _line(tty, question, "yes/no" if strict else "yes, no, or an answer")
    except OSError:
        return None
    finally:
        os.close(tty)
    if strict:
        return "yes" if said == "yes" else "no"
    return {"y": "yes", "n": "no", "": "no"}.get(said.lower(), said)


def _line(tty: int, question: str, ways: str) -> str:
    """Write the question, forget what was typed ahead, and return the line that is typed."""
    import select
    import termios

    from agent_core import terminal

    os.write(tty, terminal.encode(f"{terminal.clean(question, keep_newlines=False)} [{ways}] "))
    time.sleep(_SETTLE)
    termios.tcflush(tty, termios.TCIFLUSH)
    ready, _, _ = select.select([tty], [], [], PATIENCE)
    if not ready:
        os.write(tty, b"\nno answer: no\n")
        return "no"
    return os.read(tty, 4096).decode("utf-8", "replace").strip()


def _somebody() -> str:
    """Return the name of the user who decides."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def questions(store: Store, run: str) -> list[Question]:
    """Return the open questions of a run, oldest first."""
    events = store.events(run)
    done = set(store.recorded(run))
    asked = {event.path: event for event in events if event.kind == "wait.asked"}
    return [
        Question(run, path, str(event.data.get("question", "")), event.fingerprint, event.data)
        for path, event in asked.items()
        if path not in done
    ]


def answer(store: Store, ref: str, decision: Any, path: str = "") -> str:
    """Record a person's decision on the open question of a run (the one at `path`, if there are several); return the run's id.

    `decision`: "yes", "no", a text, or {"arguments": {...}} to allow a tool call with other arguments.

    Raises:
        UsageError: there is no such run, it waits for nothing, or for several things and no path was given.
    """
    from agent_core.events import Event

    run = store.run(ref).id
    waiting = [each for each in questions(store, run) if not path or each.path == path]
    if not waiting:
        raise UsageError(f"run {run} does not wait for a person", hint="agent-log show RUN shows its steps")
    if len(waiting) > 1:
        places = ", ".join(f"{each.path}: {each.text[:40]}" for each in waiting)
        raise UsageError(f"run {run} waits for {len(waiting)} decisions", hint=f"choose one with --step ({places})")
    one = waiting[0]
    store.append(
        Event("wait.finished", run, one.path, time.time(), {"answer": decision, "by": _somebody()}, one.fingerprint, durable=True)
    )
    return run
