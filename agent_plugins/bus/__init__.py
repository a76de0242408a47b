"""bus - messages between processes through the store: to one, to all of a role, to everybody.

plugins = ["agent_plugins.bus"]        gives agents the tools bus_send and bus_receive

box.py      the rules of delivery; agents/agent_bus.py is the command
tools.py    bus_send and bus_receive
hooks.py    the plugin's hook
"""

from __future__ import annotations


def __dir__() -> list[str]:
    # pluggy looks a plugin's names up by dir(); `agent-bus` itself shall not pay for importing pluggy.
    from agent_plugins.bus import hooks

    globals()["agent_tools"] = hooks.agent_tools
    return list(globals())
