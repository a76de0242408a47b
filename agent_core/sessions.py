"""sessions - a conversation is a reading of the runs that carry its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_core import messages, taint
from agent_core.store import text_of

if TYPE_CHECKING:
    from agent_core.messages import Message
    from agent_core.store import Store

RAN_WELL = (0, 3)  # done; ran well and the answer is "no"


def history(store: Store, name: str) -> list[Message]:
    """Return what was said in session `name`: of each run that ended well, in order, the user's message and the answer.

    A run that failed, was cut off or still goes on leaves nothing: both messages are there or neither.
    """
    said: list[Message] = []
    asked: dict[str, Message] = {}
    for event in store.ends(name, RAN_WELL):
        if event.kind == "run.started":
            given = event.data.get("input")
            asked[event.run] = messages.from_json(given) if isinstance(given, dict) else messages.user(text_of(given))
        elif event.run in asked:
            said += [asked.pop(event.run), messages.assistant(str(event.data.get("output") or ""))]
    return said


def labels(store: Store, name: str) -> frozenset[str]:
    """Return what the runs of a session had seen (`agent_core.taint`): who reads their answers has seen it, too."""
    found: frozenset[str] = frozenset()
    for event in store.ends(name, RAN_WELL):
        rows = event.data.get("provenance" if event.kind == "run.started" else "gained") or ()
        found |= taint.of_sources(row for row in rows if isinstance(row, dict))
    return found


def last_session(store: Store, agent: str) -> str | None:
    """Return the name of the session that `agent` spoke in last, or None."""
    return store.newest_session(agent)
