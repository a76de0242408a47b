"""waiting - what a run waits for a person to decide, and how the decision comes in.

A pattern's `Wait("approve the refund?")` is asked on the terminal where there is one. Where there is none the run parks (status 5);
`answer` puts the decision into the journal later, and resuming the run goes on from there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_core.store import Store


@dataclass(frozen=True, slots=True)
class Question:
    """An open question of a run: where it stands, what is asked, and whatever else was recorded with it."""

    run: str
    path: str
    text: str
    fingerprint: str
    data: Mapping[str, Any]


def ask(question: str, settings: Any) -> str | None:
    """Ask on the controlling terminal (never through stdin) and return the answer; None without a terminal or with --quiet."""
    from agent_core import terminal

    if settings.quiet:
        return None
    try:
        with open("/dev/tty", "rb+", buffering=0) as tty:  # noqa: PTH123 - a device
            tty.write(terminal.encode(f"{terminal.clean(question, keep_newlines=False)} [y/N, or an answer] "))
            said = tty.readline()
    except OSError:
        return None
    if not said:
        return None
    text = said.decode("utf-8", "replace").strip()
    return {"y": "yes", "yes": "yes", "n": "no", "no": "no", "": "no"}.get(text.lower(), text)


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


def answer(store: Store, ref: str, decision: str, path: str = "") -> str:
    """Record a person's decision on the open question of a run (the one at `path`, if there are several); return the run's id.

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
    store.append(Event("wait.finished", run, one.path, time.time(), {"answer": decision}, one.fingerprint, durable=True))
    return run
