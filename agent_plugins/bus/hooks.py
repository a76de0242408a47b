"""hooks - what the plugin gives to agents: bus_send and bus_receive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_core.plugins import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence


@hookimpl  # type: ignore[untyped-decorator, unused-ignore] # pluggy's marker has no types
def agent_tools() -> Sequence[Any]:
    """Return bus_send and bus_receive."""
    from agent_plugins.bus import tools

    return tools.TOOLS
