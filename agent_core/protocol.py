"""protocol - native tools or the text protocol, behind the same `Ask`.

A model without native tools is asked in text; its reply is read back into the tool calls a native model would have made. A reply in
neither grammar becomes a call without a name whose problem tells the model how to do better.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent_core import text_protocol
from agent_core.messages import ToolCall, assistant

if TYPE_CHECKING:
    from agent_core.effects import Ask
    from agent_core.provider import Reply
    from agent_core.tool import Toolset


def as_text(ask: Ask) -> Ask:
    """Return the effect for a model without native tools: manifest and format in the system prompt, observation as stop mark."""
    return replace(ask, messages=text_protocol.render(ask.messages, ask.tools), tools=None, stop=(*ask.stop, *text_protocol.STOP))


def as_reply(plain: Reply, tools: Toolset, number: int) -> Reply:
    """Return the reply with its text read as tool calls or as the final answer; `number` makes call ids differ."""
    decision = text_protocol.parse(plain.text, tools, f"call_{number}")
    match decision:
        case text_protocol.Final(_, text):
            return replace(plain, message=assistant(text), stop="final")
        case text_protocol.ToolCalls(thought, calls):
            return replace(plain, message=assistant(thought, calls), stop="tool_calls")
        case text_protocol.Problem(text):
            call = ToolCall(f"call_{number}", "", {}, text, plain.text)
            return replace(plain, message=assistant("", (call,)), stop="tool_calls")
