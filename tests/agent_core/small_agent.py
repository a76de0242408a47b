"""small - an agent for the tests of the command line.

    $ small --tool uppercase hello
    HELLO

Text goes in, text comes out.
"""

from __future__ import annotations

import sys
import time

from agent_core.agent import Agent
from agent_core.options import Option
from agent_core.tool import tool


@tool
def uppercase(text: str) -> str:
    """Return the text in capital letters."""
    print("a tool that prints")
    return text.upper()


@tool
def swap(text: str, old: str, new: str = "") -> str:
    """Replace `old` by `new`."""
    return text.replace(old, new)


@tool
def slow(seconds: float) -> str:
    """Sleep."""
    time.sleep(seconds)
    return "slept"


@tool
def boom() -> str:
    """Fail."""
    raise RuntimeError("boom")


@tool
def figures() -> dict[str, float]:
    """Return figures that JSON does not have."""
    return {"a": float("nan"), "b": 1.0}


KIND = next((word.partition("=")[2] for word in sys.argv if word.startswith("stdin=")), "optional")
sys.argv[:] = [word for word in sys.argv if not word.startswith("stdin=")]
TOOLS = [uppercase, swap, slow, boom, figures]
agent = Agent(
    __doc__, "Be short.", tools=TOOLS, stdin=KIND, options=[Option("tone", "how it sounds", "text", group="Small", setting=True)]
)
main = agent.main

if __name__ == "__main__":
    main()
