"""react - reason, act, observe, until the model answers without asking for a tool.

Good for most work. Cost: one model call per step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_core.effects import Act
from agent_core.errors import StepLimit

if TYPE_CHECKING:
    from agent_core.effects import Pattern
    from agent_core.task import Task


def react(task: Task) -> Pattern:
    """Return the model's answer; StepLimit after `task.max_steps` replies that all asked for tools."""
    messages = task.messages()
    for _ in range(task.max_steps):
        reply = yield task.ask(messages)
        messages = [*messages, reply.message]
        if not reply.tool_calls:
            return reply.text
        messages += yield Act(reply.tool_calls)
    raise StepLimit(task.max_steps)
