"""view - what people look at: steps, tools and cost on stderr with `-v`, Markdown on a terminal. rich is imported only here.

Every string from outside is cleaned before rich sees it; markup and hyperlinks are off.
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any, Protocol

from agent_core.records import notice_text
from agent_core.terminal import clean

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_core.events import Event

_MARKDOWN = re.compile(r"^(```|~~~|#{1,6} |[-*+] |\d{1,3}[.)] |> |\|.*\|$)|\*\*[^*\n]+\*\*|`[^`\n]+`", re.MULTILINE)


class View(Protocol):
    """Something that shows events."""

    def __call__(self, event: Event) -> None:
        """Show one event."""
        ...

    def close(self) -> None:
        """Take anything that moves off the screen."""
        ...


class Plain:
    """Steps as plain lines: for pipes, files and dumb terminals."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Keep where lines go."""
        self._say = say

    def __call__(self, event: Event) -> None:
        """Write the event's line, if it has one."""
        text = line(event)
        if text:
            self._say(text)

    def close(self) -> None:
        """Nothing moves."""


class Live:
    """Steps as they happen, thoughts dimmed, a status line that moves: for a terminal on stderr."""

    def __init__(self, name: str) -> None:
        """Start the status line."""
        from rich.console import Console

        self._name = name
        self._console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._status = self._console.status(f"{name}: thinking", spinner="dots")
        self._status.start()
        self._thought = ""

    def __call__(self, event: Event) -> None:
        """Show the event."""
        if event.kind == "delta":
            words = str(event.data.get("thought") or event.data.get("text") or "")
            self._thought = (self._thought + words)[-400:]
            self._update(self._thought.rpartition("\n")[2][-80:] or "thinking")
            return
        self._thought = ""
        text = line(event)
        if text:
            style = {"tool.started": "cyan", "tool.finished": "red" if event.data.get("error") else "green"}.get(event.kind, "dim")
            self._console.print(f"{self._name}: {clean(text)}", style=style)
        self._update(f"running {event.data.get('name')}" if event.kind == "tool.started" else "thinking")

    def _update(self, text: str) -> None:
        from rich.text import Text

        self._status.update(Text(f"{self._name}: {clean(text, keep_newlines=False)}", overflow="ellipsis", no_wrap=True))

    def close(self) -> None:
        """Take the status line away."""
        self._status.stop()


def line(event: Event) -> str:
    """Return what to say about an event with `-v`, or nothing."""
    data = event.data
    match event.kind:
        case "run.started":
            return f"run {event.run} with {data.get('provider')} {data.get('model')}".rstrip()
        case "tool.started":
            return f"tool {data.get('name')} {_short(json.dumps(data.get('arguments'), ensure_ascii=False, default=str))}"
        case "tool.finished":
            mark = f"failed ({data['error']})" if data.get("error") else "done"
            return f"tool {data.get('name')} {mark}: {_short(str(data.get('text', '')))}"
        case "model.replied":
            return _replied(data)
        case "run.finished":
            cost = data.get("usage", {}).get("cost_usd")
            return f"{data.get('stop')} after {data.get('steps')} steps, {'cost unknown' if cost is None else f'{cost} USD'}"
        case "model.failed":
            return notice_text(event)
        case _:
            return ""


def _replied(data: Any) -> str:
    usage = data.get("usage") or {}
    into, out = ("?" if usage.get(name) is None else usage[name] for name in ("input_tokens", "output_tokens"))
    tokens = f"{into} tokens in, {out} out"
    cached = ", from the cache" if data.get("cached") else ""
    return f"model {data.get('model')} replied in {data.get('wall_ms', '?')} ms, {tokens}{cached}"


def _short(text: str, limit: int = 200) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[:limit]}…"


def looks_like_markdown(text: str) -> bool:
    """Return whether a text has any mark that Markdown would show differently."""
    return _MARKDOWN.search(text) is not None


def markdown(text: str) -> str:
    """Return a text as rich shows Markdown on this terminal: cleaned, no links, no line joined that was written apart."""
    import io

    from rich.console import Console
    from rich.markdown import Markdown

    out = io.StringIO()
    width = Console().width
    console = Console(file=out, force_terminal=True, width=width, markup=False, highlight=False, emoji=False)
    # Two trailing blanks keep the line breaks of plain paragraphs, which Markdown would join.
    body, fenced = [], False
    for row in clean(text).splitlines():
        fenced ^= row.lstrip().startswith(("```", "~~~"))
        body.append(row if fenced or row.startswith("|") else f"{row}  ")
    console.print(Markdown("\n".join(body), hyperlinks=False))
    return "\n".join(row.rstrip() for row in out.getvalue().rstrip("\n").split("\n")) + "\n"
