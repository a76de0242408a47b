"""checkpoints - the places of runs from which one can go on: every so many steps, the newest of each agent.

    checkpoints(store.events(run), agent, every=5)      [Checkpoint(agent_id, run, step, at, memory, context, created_at), …]
    newest(found, keep=10)                              at most ten of each agent, the newest

A reading, as all else: every outcome is written down the moment it is known, so a killed run goes on (`--resume`) at its last step
and can be forked at any; these are the ones to look at first. A step is one turn of the model with the calls it asked for; `at` is
the number that `agent-log fork RUN --at` takes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from agent_core.readings import outcome_events
from agent_plugins.observe.shown import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from agent_core.events import Event

EVERY, KEEP = 5, 10
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a run stood: after so many steps, at that number; what it had remembered by key, and what it had last said."""

    agent_id: str
    run: str
    step: int
    at: int
    created_at: float
    memory: Mapping[str, str] = field(default_factory=dict)
    context: str = ""

    def data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**asdict(self), "memory": dict(self.memory)}


def checkpoints(events: Sequence[Event], agent: str, every: int = EVERY) -> list[Checkpoint]:
    """Return the checkpoints of one run, oldest first."""
    return [each for each in _steps(events, agent) if each.step % every == 0]


def _steps(events: Sequence[Event], agent: str) -> Iterator[Checkpoint]:
    """Yield where the run stood after each step."""
    asked = {event.path: event.data.get("arguments") or {} for event in events if event.kind == "tool.started"}
    now: Checkpoint | None = None
    memory: dict[str, str] = {}
    for event in outcome_events(events).values():
        if event.kind == "model.replied":
            if now is not None:
                yield now
            step = 1 if now is None else now.step + 1
            now = Checkpoint(agent, event.run, step, number(event.path), event.time, dict(memory), _said(event))
        elif now is not None:
            memory |= _remembered(event, asked)
            now = Checkpoint(agent, event.run, now.step, max(now.at, number(event.path)), event.time, dict(memory), now.context)
    if now is not None:
        yield now


def _said(event: Event) -> str:
    parts = (event.data.get("message") or {}).get("parts") or ()
    texts = [str(part.get("text") or "") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    calls = [f"({part.get('name')})" for part in parts if isinstance(part, dict) and part.get("type") == "tool_call"]
    return " ".join(" ".join([*texts, *calls]).split())[:_SHOWN]


def _remembered(event: Event, asked: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return what a call of `remember` kept under a key."""
    if event.kind != "tool.finished" or event.data.get("name") != "remember" or event.data.get("error") is not None:
        return {}
    given = asked.get(event.path, {})
    return {str(given["key"]): str(given.get("text", ""))} if given.get("key") else {}


def newest(found: Iterable[Checkpoint], keep: int = KEEP) -> list[Checkpoint]:
    """Return at most `keep` checkpoints of each agent: the newest, oldest first."""
    kept: dict[str, list[Checkpoint]] = {}
    for each in sorted(found, key=lambda each: (each.created_at, each.run, each.step)):
        kept.setdefault(each.agent_id, []).append(each)
    return sorted(
        (each for rows in kept.values() for each in rows[-keep:]), key=lambda each: (each.created_at, each.run, each.step)
    )


def as_text(found: Sequence[Checkpoint]) -> str:
    """Return a table."""
    import time

    from agent_plugins.observe.shown import columns, short

    rows = [("RUN", "STEP", "AT", "WHEN", "AGENT", "CONTEXT")]
    for each in found:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.created_at))
        rows.append((each.run, str(each.step), str(each.at), when, short(each.agent_id), each.context[:60] or "-"))
    return columns(rows) if found else ""
