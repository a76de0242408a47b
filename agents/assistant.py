"""assistant - a general assistant with common tools: arithmetic, time, files, web, shell.

    $ assistant --tool calc '2 ** 10'
    1024

It asks for nothing it was not granted: reading and writing files, the network and the shell each need an `--allow`.
A conversation is `assistant --chat`; `--session NAME` keeps it. "who can …" is answered from the agents that are registered on
this computer (see agent-find), without a model.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent_core import Agent
from agent_core.effects import Act
from agent_core.messages import ToolCall
from agent_core.task import Answer, split
from agent_patterns.react import react
from agent_plugins.discovery.tools import find_agent
from agent_plugins.tools import load

if TYPE_CHECKING:
    from agent_core.effects import Pattern
    from agent_core.task import Task

_WHO = re.compile(r"\s*(?:who|which (?:agents?|programs?|tools?)) can\b(?! you\b)(.+?)[?.!\s]*", re.IGNORECASE | re.DOTALL)
NOBODY = "Nobody who is registered here (agent-find list shows who is; agent-find adopt PROGRAM registers one)."


def assist(task: Task) -> Pattern:
    """Answer "who can …" from the catalogue, anything else as `react` does."""
    asked = _WHO.fullmatch(split(task.text)[0])
    if asked is None:
        return (yield from react(task))
    (message,) = yield Act((ToolCall("who", "find_agent", {"query": asked[1].strip()}),))
    found = message.parts[0]
    if found.error is not None:
        return found.text
    lines = [f"{row['name']} ({row['score']:.2f}): {row['description']}".rstrip(": ") for row in found.value]
    return Answer("\n".join(lines) or NOBODY, found.value)


agent = Agent(
    __doc__,
    "You are a helpful assistant on a person's own computer. Use the tools when they know better than you: arithmetic, the time, "
    "files, web pages, commands. When a tool is denied, say which permission is missing and go on with what you have. "
    "Answer briefly and plainly; say so when you do not know.",
    tools=[*load("calc", "now", "files", "http", "search", "shell"), find_agent],
    pattern=assist,
    examples=[
        "assistant 'what is 17 % of 2340?'",
        "assistant --allow file-read:. 'what is this project about?'",
        "assistant 'who can review code?'",
        "assistant --chat",
    ],
    tags=["general", "chat", "files", "web"],
    when_to_use="A question or small task that no specialised agent covers.",
)
main = agent.main

if __name__ == "__main__":
    main()
