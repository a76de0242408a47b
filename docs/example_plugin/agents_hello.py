"""agents_hello - an example plugin: a flag, a tool, a guard, a provider, a pattern and a reader of events.

    $ pip install docs/example_plugin            # then, in the user file: plugins = ["hello"]
    $ AGENT_PLUGINS=hello assistant --tool greet --greeting Moin Ada
    Moin, Ada!

It is one file, so it can also be copied to the plugin folder, which built executables read, too. Each function marked `@hookimpl`
is one seam; a plugin has those it needs. What is imported from agent_core here is all that there is to know.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_core import messages
from agent_core.effects import Ask
from agent_core.errors import LimitError
from agent_core.guards import ACCEPT, PROCEED, Refuse
from agent_core.options import Option
from agent_core.plugins import hookimpl
from agent_core.provider import Provider, Reply
from agent_core.tool import Context, Tool, tool

if TYPE_CHECKING:
    from agent_core.config import Settings
    from agent_core.effects import Pattern
    from agent_core.task import Task


@hookimpl
def agent_options() -> list[Option]:
    """Add flags; a `setting` is also read from AGENT_GREETING and from configuration files."""
    return [
        Option("greeting", "how `greet` begins", "text", default="Hello", group="Hello", setting=True),
        Option("most-greetings", "refuse further calls of `greet`", "int", low=0, default=100, group="Hello", setting=True),
        Option("count-events", "append the kind of each event to a file", "path", default="", group="Hello", setting=True),
    ]


@tool(read_only=True)
def greet(name: str, context: Context) -> str:
    """Greet somebody by name."""
    return f"{context.setting('greeting', 'Hello')}, {name}!"


@hookimpl
def agent_tools() -> list[Tool]:
    """Add tools to every run."""
    return [greet]


@dataclass
class MostGreetings:
    """A guard: decides about outward calls, and never acts. `place` is its place in the one order of guards."""

    most: int
    count: int = 0
    place: str = "rate"

    def before(self, call: Any, _attempt: int, _now: float) -> Any:
        """Refuse a call beyond the limit."""
        if call.kind != "tool" or call.name != "greet":
            return PROCEED
        self.count += 1
        return PROCEED if self.count <= self.most else Refuse(LimitError("enough greetings", hint="raise --most-greetings"))

    def after(self, _call: Any, _outcome: Any, _attempt: int, _now: float) -> Any:
        """Keep every outcome."""
        return ACCEPT


@hookimpl
def agent_guards(settings: Settings) -> list[MostGreetings]:
    """Add guards to every run."""
    return [MostGreetings(settings.extra.get("most_greetings", 100))]


@hookimpl
def provide_llm(name: str) -> Provider | None:
    """Be the provider `parrot`, which repeats what it is told; None for any other name."""

    def answer(ask: Any) -> Reply:
        return Reply(messages.assistant(ask.messages[-1].text), model="parrot-1")

    return Provider("parrot", "parrot-1", answer=answer) if name == "parrot" else None


def twice(task: Task) -> Pattern:
    """Ask the model, and ask it again about its answer: a pattern is a generator of effects."""
    first = yield Ask(task.messages())
    second = yield Ask([messages.user(f"Again: {first.text}")])
    return second.text


@hookimpl
def agent_patterns() -> dict[str, Any]:
    """Add patterns by name."""
    return {"twice": twice}


@hookimpl
def agent_events(settings: Settings) -> list[Any]:
    """Read the events of every run."""
    path = settings.extra.get("count_events")

    def note(event: Any) -> None:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{event.kind}\n")

    return [note] if path else []
