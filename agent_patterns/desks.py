"""desks - the agents that share a conversation: their file, who is active, and the tools `transfer` and `consult` of each. Pure.

desks = Desks(task, roster, "triage", most=6)
ask = desks.ask(messages)                     # to the active agent, with its words, tools and model
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent_core.effects import Ask
from agent_core.errors import ContractError, UsageError
from agent_core.messages import Message, ToolCall, ToolResult, system
from agent_core.options import unknown
from agent_core.task import DATA_RULE
from agent_core.tool import Toolset, external
from agent_patterns import tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent_core.task import Task

OWN = ("transfer", "consult")


@dataclass(frozen=True)
class Desk:
    """One agent of a roster. `tools` None: all of the running agent's. `call`: whom to call (a name; in code any carrier)."""

    system: str = ""
    description: str = ""
    tools: list[str] | None = None
    model: str = ""
    provider: str = ""
    call: Any = ""
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - pydantic reads it from the class


@dataclass(frozen=True)
class Roster:
    """What a roster file holds: the agents by name, and who begins (the first one unless it says)."""

    agent: dict[str, Desk] = field(default_factory=dict)
    start: str = ""
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012


def problems(data: Mapping[str, Any]) -> Iterator[tables.Problem]:
    """Yield what is wrong in a roster whose shape is right."""
    rows = data.get("agent", {})
    if not rows:
        yield tables.Problem((), "there is no [agent.NAME]")
    first = data.get("start") or next(iter(rows), "")
    if rows and (first not in rows or rows[first].get("call")):
        here = [name for name, row in rows.items() if not row.get("call")]
        yield tables.Problem(("start",), f"start: {first!r} is no agent that can be active (there are {', '.join(here) or 'none'})")
    for name, row in rows.items():
        if not isinstance(row.get("call", ""), str):
            yield tables.Problem(("agent", name, "call"), f"agent.{name}.call: a name is expected")


def load(path: str) -> dict[str, Any]:
    """Return a roster file as data; InputError names file and line."""
    return tables.load(path, Roster, problems)


def refused(call: ToolCall, text: str, kind: Any = "invalid") -> ToolResult:
    """Return the answer to a call that is not made."""
    return ToolResult(call.id, call.name, text, kind)


@dataclass(slots=True)
class Desks:
    """Who is active, and what happened so far."""

    task: Task
    roster: Roster
    active: str
    most: int
    transfers: list[str] = field(default_factory=list)
    consulted: list[str] = field(default_factory=list)

    def others(self, *, reachable: bool = False) -> list[str]:
        """Return the other agents; `reachable`: those that can take over."""
        return [name for name, desk in self.roster.agent.items() if name != self.active and not (reachable and desk.call)]

    def ask(self, messages: Sequence[Message]) -> Ask:
        """Return the question to the active agent."""
        desk = self.roster.agent[self.active]
        rule = DATA_RULE if DATA_RULE in self.task.system else ""
        own = desk.system or self.task.system.removesuffix(DATA_RULE).strip()
        head = "\n\n".join(part for part in (own, rule) if part)
        conversation = [*([system(head)] if head else []), *messages]
        return Ask(conversation, self.tools(), self.task.schema, model=desk.model, provider=desk.provider)

    def tools(self) -> Toolset:
        """Return the active agent's tools with `transfer` and `consult` over the others."""
        own = [tool for tool in self.own(self.active) if tool.name not in OWN]
        more = []
        if free := self.others(reachable=True):
            more.append(
                _tool("transfer", "Hand the whole conversation to another agent, who answers from now on.", self.listed(free), {})
            )
        if self.others():
            asked = {"question": {"type": "string", "description": "complete in itself: the other sees nothing else"}}
            more.append(_tool("consult", "Ask another agent and get the answer back.", self.listed(self.others()), asked))
        return Toolset((*own, *more))

    def own(self, name: str) -> list[Any]:
        """Return the tools that an agent of the roster may use."""
        known, wanted = self.task.tools or Toolset(), self.roster.agent[name].tools
        if wanted is None:
            return list(known)
        missing = [each for each in wanted if known.get(each) is None]
        if missing:
            raise UsageError(f"{name}: {unknown('tool', missing[0], [tool.name for tool in known]).line()}")
        return [tool for tool in known if tool.name in wanted]

    def listed(self, names: Sequence[str]) -> dict[str, str]:
        """Return names with what they are for."""
        return {name: self.roster.agent[name].description for name in names}

    def transfer(self, call: ToolCall, first: str) -> ToolResult:
        """Make another agent the active one, or say why not."""
        name = str(call.arguments.get("agent", ""))
        if call.problem or call.id != first:
            return refused(call, call.problem or "only one transfer at a time: the first one counts.")
        if name not in self.others(reachable=True):
            return refused(call, unknown("agent", name, self.others(reachable=True)).line(), "not_found")
        if len(self.transfers) >= self.most:
            return refused(call, f"{self.most} transfers have been made; no more. Answer yourself with what is known.", "denied")
        self.active = name
        self.transfers.append(name)
        return ToolResult(call.id, call.name, f"{name} has the conversation now. Answer the user as {name}.")

    def carrier(self, name: str) -> Any:
        """Return whom `Call` runs when an agent is consulted."""
        desk = self.roster.agent[name]
        if desk.call:
            return desk.call
        from agent_core.members import Member

        return Member(name, desk.system, Toolset(tuple(self.own(name))), desk.provider, desk.model, max_steps=self.task.max_steps)


def _tool(name: str, text: str, agents: Mapping[str, str], more: Mapping[str, Any]) -> Any:
    listed = "; ".join(f"{agent}: {purpose}" if purpose else agent for agent, purpose in agents.items())
    properties = {"agent": {"type": "string", "enum": list(agents), "description": listed}, **more}
    return external(name, text, {"type": "object", "properties": properties, "required": list(properties)}, _never, read_only=True)


def _never(**_arguments: Any) -> str:
    raise ContractError("the pattern answers these calls itself")
