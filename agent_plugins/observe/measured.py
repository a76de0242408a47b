"""measured - the metrics of a store: its events counted, its memory, its runs.

families(store, since)              for exposition.text
numbers(store, since, "writer")     one snapshot
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agent_plugins.observe import metrics, snapshot

if TYPE_CHECKING:
    from agent_core.store import Store
    from agent_plugins.observe.metrics import Families

_MEMORY = "memory/"


def families(store: Store, since: float = 0.0) -> Families:
    """Return what the events since a moment (seconds since 1970) make, and how much memory there is now. StoreError."""
    agents = {run.id: run.agent for run in store.runs(None)}
    return metrics.measure(store.stream(since, metrics.KINDS), agents, memory(store))


def none() -> Families:
    """Return the families of a store that does not exist."""
    return metrics.declared()


def numbers(store: Store, since: float = 0.0, agent: str | None = None) -> dict[str, Any]:
    """Return the snapshot of an agent, or of all."""
    return snapshot.snapshot(families(store, since), agent)


def memory(store: Store) -> dict[str, int]:
    """Return how many live items of memory there are, by kind (their namespaces are memory/KIND/OWNER)."""
    counts: dict[str, int] = {}
    for (namespace, _), text in store.items_under(_MEMORY).items():
        if not _has_ended(text):
            kind = namespace.removeprefix(_MEMORY).partition("/")[0]
            counts[kind] = counts.get(kind, 0) + 1
    return counts


def _has_ended(text: str) -> bool:
    try:
        row = json.loads(text)
    except ValueError:
        return False
    return isinstance(row, dict) and bool(row.get("ended"))
