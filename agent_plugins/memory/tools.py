"""tools - remember, recall and forget, as a run with --memory has them.

    remember("the user prefers metric units", importance=0.8)
    remember("Oslo", key="home")             a value under a key replaces what was there
    recall("which units?")                   the best items
    recall(key="home")                       what is under a key, or "Not found"
    forget("01h2…")                          it no longer counts; a person can take that back (agent-mem undo)

What a run remembers is untrusted until its end, when it gets the labels of what the run had seen (see runs.py). They see what
is everybody's and the task's own working memory; nothing of this leaves the machine.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from agent_core.tool import Context, ToolError, tool
from agent_plugins.memory import keep, meaning, runs
from agent_plugins.memory import recall as recalling
from agent_plugins.memory.items import UNTRUSTED, Item

if TYPE_CHECKING:
    from agent_plugins.memory.keep import Memory

MOST = 20
NOT_FOUND = "Not found"


@tool
def remember(
    text: str,
    context: Context,
    key: str = "",
    importance: float = 0.5,
    tags: list[str] | None = None,
    kind: Literal["long", "semantic", "entity", "kv", "working"] | None = None,
) -> dict[str, Any]:
    """Remember something for later runs.

    Args:
        text: what to remember, one fact that can be understood by itself
        context: where memory is
        key: a name to find it under; a value that was there is replaced
        importance: from 0 (hardly) to 1 (must not be forgotten)
        tags: words to find it by
        kind: long fades with time; semantic is a fact; entity a fact about what `key` names; kv a value under `key`; working
            only for the task at hand. Without it: kv if there is a key, else long
    """
    if not 0.0 <= importance <= 1.0:
        raise ToolError(f"importance {importance:g} is not from 0 to 1", "invalid")
    chosen = kind or ("kv" if key else "long")
    owner = runs.working_namespace(context.settings) if chosen == "working" else ""
    memory = keep.opened(context.settings)
    item = Item("", chosen, text, importance, tuple(tags or ()), key, owner, trust=UNTRUSTED)
    kept, evicted = memory.put(item)
    return {"id": kept.id, "kind": kept.kind, "forgotten_for_it": [each.id for each in evicted]}


@tool(read_only=True)
def recall(context: Context, query: str = "", key: str = "", count: int = 3) -> dict[str, Any] | str:
    """Recall what was remembered: the items nearest to a query, or what is under a key.

    Args:
        context: where memory is
        query: words of what you look for
        key: the name it was remembered under; without query and key: "default"
        count: at most so many items
    """
    memory = keep.opened(context.settings)
    if key or not query:
        found = _under(memory, key or "default", context)
        if not found:
            return NOT_FOUND
        memory.touch(found, time.time())
        return {"items": [_row(item) for item in found[:MOST]]}
    seen = runs.visible(memory, "")
    meant = meaning.near(memory, seen, query, replace(context.settings, timeout=context.remaining(meaning.PATIENCE)))
    context.charge(meant.cost)
    now = time.time()
    hits = recalling.recall(seen, query, memory.rules, now, likeness=meant.likeness)
    near = [hit for hit in hits if hit.similarity >= max(memory.rules.min_similarity, 1e-9)]
    chosen = recalling.limited(near, max(1, min(count, MOST)), None)
    memory.touch([hit.item for hit in chosen], now)
    return {"items": [{**_row(hit.item), "score": round(hit.score, 4)} for hit in chosen]}


@tool
def forget(id: str, context: Context) -> str:  # noqa: A002 - the parameter's name is what the model sees
    """Forget an item that is wrong or no longer true.

    Args:
        id: the item's id, as `recall` shows it
        context: where memory is
    """
    memory = keep.opened(context.settings)
    now = time.time()
    known = {
        item.id for item in (*runs.visible(memory, ""), *memory.items(["working"], [runs.working_namespace(context.settings)]))
    }
    if id not in known:
        raise ToolError(f"no item {id[:40]!r}", "not_found")

    def make(items: list[Item]) -> keep.Change:
        ended = tuple(replace(item, ended=now, reason="forgotten") for item in items if item.id == id and not item.ended)
        return keep.Change(f"forget {id}", ended)

    change, _ = memory.apply(make, now)
    return f"forgot {id}" if change.ended else NOT_FOUND


TOOLS = (remember, recall, forget)


def _under(memory: Memory, key: str, context: Context) -> list[Item]:
    working = memory.keyed(key, ("working",), (runs.working_namespace(context.settings),))
    return [item for item in (*working, *memory.keyed(key, ("kv", "entity"))) if not item.private or runs.carries_private()]


def _row(item: Item) -> dict[str, Any]:
    return {"id": item.id, "text": item.whole, "importance": item.importance, "trust": item.trust}
