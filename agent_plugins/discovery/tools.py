"""tools - agents as tools: find one, call one, or make a tool of any card.

    find_agent("review code for security")       real matches with scores, or none
    call_agent("code-reviewer", "…")             needs --allow agent:code-reviewer (or agent, for all)
    tool_of(entry)                               one registered agent or program as a tool with its own schema
    tools_for("review this", settings, 5)        the best of them for an input

Only what is registered in the user's catalogue is called, by name, its hash checked before; the input is text on stdin and never an
option. The tools do not run anything themselves: they return the effect `Call`, and the engine makes that call like any other, with
the run's journal, depth, budget, deadline and trace. What cards and peers say is data from outside: it is a tool's result.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent_core.effects import Call
from agent_core.errors import AgentError
from agent_core.tool import Context, Tool, ToolError, external, tool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent_core.catalogue import Entry
    from agent_core.store import Store
    from agent_plugins.discovery.match import Match

BEST = 5
SECONDS = 600.0
_WORDS = 300
_ARGUMENTS = 200


@tool(read_only=True, idempotent=True)
def find_agent(query: str, context: Context, n: int = BEST) -> list[dict[str, Any]]:
    """Find agents, programs and skills registered on this computer that can do something.

    Returns matches with a score from 0 to 1, best first; an empty list when nothing fits. Descriptions are what the agents say
    of themselves.

    Args:
        query: what has to be done, in a few words.
        context: where the catalogue is.
        n: at most so many.
    """
    from agent_plugins.discovery import match, sources
    from agent_plugins.discovery.match import Query

    found = sources.gather(context.settings, store_of(context.settings))
    return [row(each) for each in match.rank(found.candidates, Query(query), min(max(n, 1), 50))]


@tool(needs={"agent": "name"}, open_world=True, timeout=SECONDS)
def call_agent(name: str, input: str, context: Context) -> Any:  # noqa: A002 - the word that models know
    """Run a registered agent (see find_agent) on a text and return its answer.

    Args:
        name: the agent's name.
        input: the text it gets: what to do, and the material.
        context: what is granted, and the time left.
    """
    return Call(_carrier(name, context), input)


def tool_of(entry: Entry) -> Tool:
    """Return a registered entry as a tool: an agent takes instruction and input, an ordinary program args and stdin.

    It needs `agent:NAME`; its description is the card's, cut and cleaned.
    """
    made: Callable[..., Call] = _program(entry.name) if entry.kind == "program" else _agent(entry.name)
    schema = entry.card.get("input_schema")
    usable = isinstance(schema, dict) and set(schema.get("properties") or ()) <= {"instruction", "input", "args", "stdin"}
    parameters = schema if usable and isinstance(schema, dict) else _PARAMETERS
    text = plain(str(entry.card.get("when_to_use") or "")) or plain(entry.description) or entry.name
    return external(
        entry.name, text, parameters, made, needs={f"agent:{entry.name}": None}, open_world=True, timeout=SECONDS,
        context_name="context",
    )  # fmt: skip


_PARAMETERS = {
    "type": "object",
    "properties": {
        "instruction": {"type": "string", "description": "what to do"},
        "input": {"type": "string", "description": "the material to work on"},
    },
    "required": [],
}


def tools_for(text: str, settings: Any, n: int = BEST) -> list[Tool]:
    """Return the best `n` registered agents and programs for an input, as tools."""
    from agent_plugins.discovery import match, sources
    from agent_plugins.discovery.match import Query

    found = sources.gather(settings, store_of(settings)).candidates
    callable_ = [each for each in found if each.kind != "skill" and each.entry is not None and each.entry.sha256]
    return [tool_of(made.candidate.entry) for made in match.rank(callable_, Query(text), n)]


def row(made: Match) -> dict[str, Any]:
    """Return a match as data for models and scripts."""
    one = made.candidate
    return {
        "name": one.name,
        "score": made.score,
        "kind": one.kind,
        "description": plain(one.description),
        "tags": list(one.tags),
        "health": one.health,
        "source": one.source,
        "callable": one.kind != "skill" and one.entry is not None and bool(one.entry.sha256),
    }


def plain(text: str) -> str:
    """Return a card's text on one line, without control characters, at most 300 characters."""
    from agent_core import terminal

    return " ".join(terminal.clean(text, keep_newlines=False).split())[:_WORDS]


def store_of(settings: Any) -> Store | None:
    """Return the store of these settings if it exists already; looking for agents does not make one."""
    from agent_core import running

    path = running.store_path(settings)
    return running.opened(path) if path.is_file() else None


# -- calling -----------------------------------------------------------------------------------------------------------------------


def _agent(name: str) -> Callable[..., Call]:
    def called(context: Context, instruction: str = "", input: str = "") -> Call:  # noqa: A002 - the card's parameter
        text = "\n\n".join(part for part in (instruction, input) if part.strip())
        return Call(_carrier(name, context), text)

    return called


def _program(name: str) -> Callable[..., Call]:
    def called(context: Context, args: Sequence[str] = (), stdin: str = "") -> Call:
        words: list[Any] = list(args) if isinstance(args, list | tuple) else [args]
        if len(words) > _ARGUMENTS or not all(isinstance(word, str) and "\0" not in word for word in words):
            raise ToolError(f"{name}: args must be a list of at most {_ARGUMENTS} texts", "invalid")
        carrier = _carrier(name, context)
        # The hash was checked a moment ago; it is that of the last word of argv, which is an argument now.
        return Call(replace(carrier, argv=(*carrier.argv, *words), sha256="") if words else carrier, stdin)

    return called


def _carrier(name: str, context: Context) -> Any:
    """Return what carries the registered agent of that name, its hash checked and the grant asked for."""
    from agent_core import peers

    context.require("agent", name)
    try:
        return peers.find(name, context.settings)
    except AgentError as error:
        raise ToolError(error.line(), "denied" if error.code == "denied" else "not_found") from None
