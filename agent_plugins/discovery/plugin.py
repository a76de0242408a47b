"""plugin - every agent gets the tools find_agent and call_agent: `plugins = ["agent_plugins.discovery.plugin"]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_core.plugins import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence


@hookimpl  # type: ignore[untyped-decorator, unused-ignore] # pluggy's marker has no types
def agent_tools() -> Sequence[Any]:
    """Give the tools."""
    from agent_plugins.discovery.tools import call_agent, find_agent

    return [find_agent, call_agent]
