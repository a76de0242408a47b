"""hooks - what `--memory` adds to a run: tools, recalled material, and a reader that keeps the run as an episode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_core.plugins import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent_core.agent import Agent, Job
    from agent_core.config import Settings
    from agent_core.events import Event
    from agent_core.store import Store


@hookimpl  # type: ignore[untyped-decorator, unused-ignore] # pluggy's marker has no types
def agent_tools(settings: Settings) -> Sequence[Any]:
    """Return remember, recall and forget; none where the plugin is loaded but --memory is not set."""
    if not settings.extra.get("memory"):
        return ()
    from agent_plugins.memory import tools

    return tools.TOOLS


@hookimpl  # type: ignore[untyped-decorator, unused-ignore] # pluggy's marker has no types
def agent_prepare(agent: Agent, job: Job, settings: Settings, store: Store | None) -> Job | None:
    """Return the job with what memory holds about it."""
    if not settings.extra.get("memory") or store is None:
        return None
    from agent_plugins.memory import runs

    return runs.prepared(agent, job, settings, store)


@hookimpl  # type: ignore[untyped-decorator, unused-ignore] # pluggy's marker has no types
def agent_events(agent: Agent, settings: Settings, store: Store | None) -> Sequence[Callable[[Event], None]]:
    """Return the reader that keeps what a run came to."""
    if not settings.extra.get("memory") or store is None:
        return ()
    from agent_plugins.memory import runs

    return (runs.keeper(agent, settings, store),)
