"""memory - what agents remember: `--memory` on any agent, `agent-mem` for people.

    items.py      one item, the kinds, the rules of each (from the [memory] tables)
    keep.py       items in the store: put, find, forget, capacity, change sets that can be undone
    score.py      the formulas: importance, decay, the terms of a recall's score
    vectors.py    words, TF-IDF, cosine
    recall.py     the best items for a question
    clusters.py   k-means over TF-IDF vectors
    compress.py   long conversations made short
    upkeep.py     the ordered policies: decay, merge, consolidate, compress, sweep
    tools.py      remember, recall and forget as tools of a run
    runs.py       what a run is given when it begins, and what is kept when it ends
    hooks.py      the plugin's hooks

See docs/memory.md for every formula and setting.
"""

from __future__ import annotations

_HOOKS = ("agent_tools", "agent_prepare", "agent_events")


def __dir__() -> list[str]:
    # pluggy looks a plugin's names up by dir(), and only --memory calls pluggy: `agent-mem` shall not pay for importing it.
    from agent_plugins.memory import hooks

    globals().update({name: getattr(hooks, name) for name in _HOOKS})
    return list(globals())
