"""live - a run on a terminal while it goes on: how far it is, its parts, and the latest events. rich is imported only here.

with screen(width) as show:
show(events, now)
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent_core.terminal import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agent_core.events import Event

LATEST = 8
_MOST_PARTS = 20


def picture(events: Sequence[Event], now: float) -> str:
    """Return what is shown: progress, the bill so far, and the latest events; cleaned for a terminal."""
    from agent_core import readings
    from agent_plugins.observe import progress, shown

    found = progress.progress(events, now)
    head = progress.as_text(found, now).split("\n")
    more = [f"… and {len(head) - _MOST_PARTS} more"] if len(head) > _MOST_PARTS else []
    latest = [shown.event(event) for event in events[-LATEST:]]
    lines = [*head[:_MOST_PARTS], *more, "", shown.bill_line(readings.usage(events)), "", *latest]
    return clean("\n".join(lines))


@contextmanager
def screen() -> Iterator[Callable[[Sequence[Event]], None]]:
    """Yield what shows the events so far in place of what it showed before; the last picture stays."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with open(1, "w", encoding="utf-8", errors="replace", closefd=False) as out:
        console = Console(file=out, markup=False, highlight=False, emoji=False)
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:

            def show(events: Sequence[Event]) -> None:
                text = Text(picture(events, time.time()), overflow="ellipsis", no_wrap=True)
                live.update(text, refresh=True)

            yield show
