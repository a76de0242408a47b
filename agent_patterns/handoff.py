"""handoff - several agents and one conversation: `transfer` hands it to another agent, `consult` asks another and comes back.

Good where a specialist should take over, and the user should not notice. Cost: one call per step, whoever is active.

    $ assistant "I was charged twice" --pattern handoff --roster desk.toml

    start = "triage"

    [agent.triage]
    description = "finds out what a request is about"
    system = "You find out what is wanted and hand over."

    [agent.billing]
    description = "invoices and refunds"
    system = "You handle bills."
    tools = ["calc"]

The active agent's system prompt, tools (of the running agent's; all unless `tools` names some) and model are used; the conversation
stays. `transfer` and `consult` are tools of every agent, with the others' names as their only values. An agent with `call = NAME`
is a registered one and can only be consulted. `--max-transfers` (6) ends ping-pong: then transfers are refused and the active
agent has to answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_core.effects import Act, Call, Note
from agent_core.errors import StepLimit, UsageError
from agent_core.messages import Message, ToolCall, ToolResult
from agent_core.options import Option, unknown
from agent_core.task import Answer
from agent_patterns import tables
from agent_patterns.desks import OWN, Desk, Desks, Roster, load, refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_core.effects import Pattern
    from agent_core.task import Task

OPTIONS = (
    Option("roster", "handoff: the agents, as TOML", "path", parse=tables.flag(load), metavar="FILE"),
    Option("max-transfers", "handoff: transfers at most (default 6)", "int", low=0, high=100),
)


def handoff(task: Task, roster: Roster | None = None) -> Pattern:
    """Return the answer of whoever is active in the end; the value is {agent, transfers, consulted}.

    Raises:
        UsageError: there is no roster, or an agent names a tool that the running agent does not have.
        StepLimit: no answer after `task.max_steps` replies.
    """
    known = roster or _declared(task)
    talk = Desks(task, known, known.start or next(iter(known.agent)), int(task.option("max_transfers", 6)))
    messages: list[Message] = [*task.history, task.message]
    for _ in range(task.max_steps):
        reply = yield talk.ask(messages)
        messages.append(reply.message)
        if not reply.tool_calls:
            return Answer(reply.text, {"agent": talk.active, "transfers": talk.transfers, "consulted": talk.consulted})
        results = yield from _results(talk, reply.tool_calls)
        messages.append(Message("tool", tuple(results)))
    raise StepLimit(task.max_steps)


def _declared(task: Task) -> Roster:
    data = tables.data(task.option("roster"))
    if data is None:
        raise UsageError("the pattern handoff needs agents", hint="--roster FILE")
    return Roster({name: Desk(**row) for name, row in data["agent"].items()}, data.get("start", ""))


def _results(talk: Desks, calls: Sequence[ToolCall]) -> Pattern:
    """Return one result a call, in order: the tools' own first, then consultations, then at most one transfer."""
    offered = talk.tools()
    plain = [call for call in calls if call.name not in OWN and offered.get(call.name) is not None]
    acted = (yield Act(plain))[0].parts if plain else ()
    found: dict[int, ToolResult] = dict(zip(map(id, plain), acted, strict=True))
    for call in sorted((call for call in calls if id(call) not in found), key=lambda call: call.name == "transfer"):
        if call.name == "consult":
            found[id(call)] = yield from _consulted(talk, call)
        elif call.name == "transfer":
            found[id(call)] = talk.transfer(call, next(each.id for each in calls if each.name == "transfer"))
            yield Note("handoff", {"agent": talk.active, "refused": found[id(call)].error is not None})
        else:
            found[id(call)] = refused(call, f"{talk.active} has no tool named {call.name!r}.", "not_found")
    return [found[id(call)] for call in calls]


def _consulted(talk: Desks, call: ToolCall) -> Pattern:
    name, question = str(call.arguments.get("agent", "")), call.arguments.get("question")
    if call.problem or not isinstance(question, str) or not question.strip():
        return refused(call, call.problem or "consult needs a question.")
    if name not in talk.others():
        return refused(call, unknown("agent", name, talk.others()).line(), "not_found")
    talk.consulted.append(name)
    answer = yield Call(talk.carrier(name), question)
    return ToolResult(call.id, call.name, str(answer))
