"""mcp - the tools, resources and prompts of MCP servers, under the same policy as any other tool.

    assistant --mcp-server 'npx -y @modelcontextprotocol/server-everything' --allow mcp 'add 2 and 3'
    assistant --mcp-server https://mcp.example.com/mcp --list-tools
    assistant --mcp-config servers.json --allow mcp:files/read_file 'what is in notes.txt?'

`servers` says what can be configured, `wire` what is spoken (both eras of the protocol), `client` keeps a connection, `stdio` and
`http` carry it, `tools` and `resources` make tools of what a server offers, `prompts` takes one of its templates. Servers start
when the tools of a run are gathered, all at once, are shared by all runs of the process and end with it. The manual is docs/mcp.md.

Statuses: 78 for a server that cannot be started (no such program, a bad entry), 69 for one that starts and ends, or does not
answer, 76 for one that does not speak the protocol, 77 for one that wants a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_core.plugins import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_plugins.mcp.client import Client, Tell


@hookimpl  # type: ignore[untyped-decorator, unused-ignore] # pluggy's marker has no types
def agent_tools(settings: Any, agent: Any) -> Sequence[Any]:
    """Give the tools of the servers that the settings name; starts those that do not run yet."""
    from agent_plugins.mcp import tools

    clients, tell = _connected(settings, getattr(agent, "name", "mcp"))
    own = agent.tools.tools if agent is not None else ()
    taken = [tool.name for tool in own if "mcp" not in tool.memo]
    return tools.of(clients, settings, taken, tell) if clients else []


def _connected(settings: Any, name: str) -> tuple[list[Client], Tell]:
    """Return the servers of the settings, started, and what tells a person."""
    from agent_plugins.mcp import client, servers

    def tell(text: str, *, loud: bool = False) -> None:
        from agent_core import a2a, terminal

        if not settings.quiet and (loud or settings.verbose):
            terminal.complain(f"{name}: {a2a.shown(text, 500)}\n")

    wanted = servers.of(settings, lambda text: tell(text, loud=True))
    for server in wanted:
        servers.register_secrets(server)
    return client.connected(wanted, settings, tell) if wanted else [], tell


@hookimpl  # type: ignore[untyped-decorator, unused-ignore] # pluggy's marker has no types
def agent_prepare(agent: Any, job: Any, settings: Any) -> Any:
    """Put `--mcp-prompt` before the instruction, and say that the run reads untrusted text from its first request on.

    What servers call their tools is in every request.
    """
    from dataclasses import replace

    names = dict.fromkeys(tool.memo["mcp"][0] for tool in agent.tools.tools if "mcp" in tool.memo)
    rows = tuple({"ref": f"mcp:{name}", "trust": "untrusted"} for name in names)
    job = replace(job, provenance=(*job.provenance, *rows)) if rows else job
    wanted = settings.extra.get("mcp_prompt")
    if not wanted:
        return job
    from agent_plugins.mcp import prompts

    return prompts.prepared(job, _connected(settings, agent.name)[0], wanted, settings.timeout)


def close() -> None:
    """End all servers of this process; for programs that go on without them."""
    from agent_plugins.mcp import client

    client.close()
