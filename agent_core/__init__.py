"""agent_core - what every agent needs. A name is loaded when it is used, but for `tool`, which every agent file needs.

`tool` is bound here at once because the submodule of the same name would otherwise take its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_core.tool import Context, ToolError, tool

if TYPE_CHECKING:
    from agent_core.agent import Agent, RunResult
    from agent_core.effects import Act, All, Ask, Call, Note, Wait
    from agent_core.task import Task

__all__ = ["Act", "Agent", "All", "Ask", "Call", "Context", "Note", "RunResult", "Task", "ToolError", "Wait", "tool"]

_HOME = {
    **dict.fromkeys(("Act", "All", "Ask", "Call", "Note", "Wait"), "effects"),
    **dict.fromkeys(("Agent", "RunResult"), "agent"),
    "Task": "task",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'agent_core' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"agent_core.{home}"), name)
