"""assistant - a general assistant with common tools: arithmetic, time, files, web, shell.

    $ assistant --tool calc '2 ** 10'
    1024

It asks for nothing it was not granted: reading and writing files, the network and the shell each need an `--allow`.
A conversation is `assistant --chat`; `--session NAME` keeps it.
"""

from agent_core import Agent
from agent_plugins.tools import load

agent = Agent(
    __doc__,
    "You are a helpful assistant on a person's own computer. Use the tools when they know better than you: arithmetic, the time, "
    "files, web pages, commands. When a tool is denied, say which permission is missing and go on with what you have. "
    "Answer briefly and plainly; say so when you do not know.",
    tools=load("calc", "now", "files", "http", "search", "shell"),
    examples=[
        "assistant 'what is 17 % of 2340?'",
        "assistant --allow file-read:. 'what is this project about?'",
        "assistant --chat",
    ],
    tags=["general", "chat", "files", "web"],
    when_to_use="A question or small task that no specialised agent covers.",
)
main = agent.main

if __name__ == "__main__":
    main()
