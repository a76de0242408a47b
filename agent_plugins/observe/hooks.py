"""hooks - what `--otel` and `--log` add to a run: readers of its events. The SDK of OpenTelemetry is imported only for --otel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_core import terminal
from agent_core.plugins import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent_core.events import Event


@hookimpl  # type: ignore[untyped-decorator, unused-ignore] # pluggy's marker has no types
def agent_events(agent: Any, settings: Any) -> Sequence[Callable[[Event], None]]:
    """Return the readers that the flags ask for. UsageError for a bad level or address, ConfigError without the SDK."""
    found: list[Callable[[Event], None]] = []
    path, url = settings.extra.get("log"), settings.extra.get("otel")
    if path:
        from agent_plugins.observe import logs

        found.append(logs.Log(*logs.chosen(path, settings.extra.get("log_level") or "info"), _say(agent, settings)))
    if url:
        from agent_plugins.observe import otel

        reader = otel.reader(url, settings.environment, _say(agent, settings))
        found += [reader] if reader is not None else []
    return found


def _say(agent: Any, settings: Any) -> Callable[[str], None]:
    def say(text: str) -> None:
        from agent_core import redact

        if not settings.quiet:
            terminal.complain(f"{agent.name}: {redact.redact(' '.join(text.split()))}\n")

    return say
