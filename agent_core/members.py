"""members - agents inside a run, each with its own model, tools and budget.

    Member("critic", "You find faults.", model="big", budget=Decimal("0.10"))
    Member.of(agent, model="big")

`yield Call(member, "text")` runs one; `All([Call(a, text), Call(b, text)])` runs several at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent_core.errors import LimitError
from agent_core.messages import user
from agent_core.task import DATA_RULE, Answer, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal

    from agent_core.agent import Agent
    from agent_core.effects import Pattern
    from agent_core.run import Run, Steps
    from agent_core.tool import Tool, Toolset


@dataclass(frozen=True, slots=True)
class Member:
    """An agent inside a run. Empty `provider` and `model`: those of the run; `budget` (USD) is its part of the run's, None: all."""

    name: str
    system: str = ""
    tools: Sequence[Tool] | Toolset = ()
    provider: str = ""
    model: str = ""
    pattern: str | Callable[[Task], Pattern] = "react"
    max_steps: int = 10
    budget: Decimal | None = None
    temperature: float | None = None
    reply: Any = None

    @classmethod
    def of(cls, agent: Agent, **changes: Any) -> Member:
        """Return an agent as a member; `changes` are fields of Member."""
        made = cls(agent.name, agent.system, agent.tools, pattern=agent.pattern, reply=agent.reply)
        return replace(made, **changes) if changes else made

    def program(self, message: str, run: Run, prefix: str) -> Steps:
        """Return its program as a child of a run; the value is its answer as text."""
        from agent_core.agent import find_pattern
        from agent_core.interpreter import interpret
        from agent_core.tool import Toolset

        tools = self.tools if isinstance(self.tools, Toolset) else Toolset(tuple(self.tools))
        system = f"{self.system}\n\n{DATA_RULE}".strip() if "<material origin=" in message else self.system
        task = Task(user(message), tools, system, (), self.max_steps, self._schema())
        pattern = find_pattern(self.pattern)(task)
        if self.reply is not None:
            from agent_core.checked import checked

            pattern = checked(pattern, task, self.reply)
        value = yield from interpret(pattern, self._child(run, tools), prefix)
        if isinstance(value, Answer) and value.status == 4:
            raise LimitError(f"{self.name}: {value.problem or 'not all of it was done'}")
        return str(getattr(value, "text", value))

    def _schema(self) -> dict[str, Any] | None:
        if self.reply is None:
            return None
        from agent_core.checked import schema_of

        return schema_of(self.reply)

    def _child(self, run: Run, tools: Toolset) -> Run:
        """Return the run as the member has it: its own tools, model and limits; journal, deadline and totals are shared."""
        from agent_core import guards, money

        providers = run.resolve(self.provider, self.model) if (self.provider or self.model) and run.live else run.providers
        kept = run.guards
        if self.budget is not None:
            kept = guards.chain((*kept, guards.Budget(money.pico(format(self.budget, "f")))))
        temperature = run.temperature if self.temperature is None else self.temperature
        return replace(
            run, tools=tools, providers=providers, guards=kept, temperature=temperature, seen={}, malformed=0, depth=run.depth + 1
        )
