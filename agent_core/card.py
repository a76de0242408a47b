"""card - the one self-description of an agent, and its views.

`--agent-schema` prints the card; `=mcp =a2a =openai =skill =man =cli =wire =systemd` print it as an MCP tool list, an A2A agent
card, an OpenAI function, a SKILL.md, a manual page, the table of flags, the JSON Schema of records, and a systemd unit. Needs no
network, key or pydantic.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agent_core.errors import EXIT_TABLE
from agent_core.options import OPTIONS, SCHEMA_VIEWS, help_text, label, unknown, usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent_core.agent import Agent
    from agent_core.options import Option
    from agent_core.tool import Tool

_VENDOR_ENV = (
    "LLM_PROVIDER",
    "LLM_MODEL",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENAI_MODEL",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
)


def card(agent: Agent, options: Sequence[Option] = OPTIONS) -> dict[str, Any]:
    """Return the card. What is not known (latency, cost) is null."""
    import hashlib

    tools = list(agent.tools.tools)
    body: dict[str, Any] = {
        "schema": "agent-card/1",
        "name": agent.name,
        "version": agent.version,
        "description": agent.summary,
        "when_to_use": agent.when_to_use or agent.summary,
        "tags": list(agent.tags),
        "stdin": agent.stdin,
        "input_schema": input_schema(agent),
        "output_schema": output_schema(agent),
        "input_media_types": ["text/plain", "application/x-ndjson"],
        "output_media_types": ["text/plain", "application/json", "application/x-ndjson"],
        "capabilities": [*(_capability(agent, tool) for tool in tools), *_commands(agent)],
        "tools": [_tool(tool) for tool in tools],
        "confinement": _confinement(tools),
        "permissions": sorted({need.capability for tool in tools for need in tool.needs}),
        "config": [option.field for option in options if option.setting],
        "env": [*(option.env for option in options if option.setting), *_VENDOR_ENV],
        "exit": {str(status): words for status, words in EXIT_TABLE.items()},
        "examples": list(agent.examples) or _examples(agent.doc),
        "network_hosts": None,
        "cost_class": None,
    }
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    body["digest"] = "sha256:" + hashlib.sha256(canonical.encode("utf-8", "replace")).hexdigest()
    return body


def view(agent: Agent, name: str, options: Sequence[Option] = OPTIONS) -> str:
    """Return a view of the card as text that ends with one newline. UsageError for an unknown one."""
    views: dict[str, Callable[[], str]] = {
        "card": lambda: _json(card(agent, options)),
        "mcp": lambda: _json({"tools": [mcp_tool(agent)]}),
        "a2a": lambda: _json(_a2a(agent)),
        "openai": lambda: _json(_openai(agent)),
        "skill": lambda: _skill(agent),
        "man": lambda: _man(agent, options),
        "cli": lambda: _json(_cli(agent, options)),
        "wire": _wire,
        "systemd": lambda: _systemd(agent),
    }
    if name not in views:
        raise unknown("view", name, SCHEMA_VIEWS)
    return views[name]()


def _systemd(agent: Agent) -> str:
    from agent_core import unit

    return unit.unit(agent)


def _wire() -> str:
    from agent_core import records

    return _json(records.schema())


def input_schema(agent: Agent) -> dict[str, Any]:
    """Return the JSON Schema of what a caller passes: the instruction, and material unless the agent takes none."""
    properties: dict[str, Any] = {"instruction": {"type": "string", "description": "what to do (words on the command line)"}}
    required = ["instruction"]
    if agent.stdin != "none":
        properties["input"] = {"type": "string", "description": "the material to work on (stdin)"}
        required = ["input"] if agent.stdin == "required" else ["instruction"]
    return {"type": "object", "properties": properties, "required": required}


def output_schema(agent: Agent) -> dict[str, Any]:
    """Return the JSON Schema of the answer: a checked reply's, or text."""
    if agent.reply is None:
        return {"type": "string"}
    from agent_core.checked import schema_of

    return schema_of(agent.reply)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def _examples(doc: str) -> list[str]:
    return [line.strip()[2:] for line in doc.splitlines() if line.strip().startswith("$ ")]


def _capability(agent: Agent, tool: Tool) -> dict[str, Any]:
    return {
        "name": tool.name, "description": _first(tool.description), "tags": list(agent.tags), "input_schema": dict(tool.parameters),
        "output_schema": _output_of(tool), "avg_latency_ms": None, "cost_per_call_usd": None,
    }  # fmt: skip


def _commands(agent: Agent) -> list[dict[str, Any]]:
    """Return the commands as capabilities."""
    if not agent.commands:
        return []
    from agent_core import commands

    unknown = {"output_schema": None, "avg_latency_ms": None, "cost_per_call_usd": None}
    return [{**row, "description": _first(row["description"]), "tags": list(agent.tags), **unknown} for row in commands.rows(agent)]


def _tool(tool: Tool) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": tool.description,
        "input_schema": dict(tool.parameters),
        "output_schema": _output_of(tool),
        "permissions": [_need(need) for need in tool.needs],
        "read_only": bool(tool.read_only),
        "destructive": bool(tool.destructive),
        "idempotent": bool(tool.idempotent),
        "open_world": bool(tool.open_world),
    }


def _output_of(tool: Tool) -> Any:
    return getattr(tool, "output", None) or getattr(tool, "output_schema", None)


def _confinement(tools: Sequence[Tool]) -> dict[str, Any] | None:
    """Return what keeps in the commands that tools start; null when no tool starts any.

    The card is the same on every machine: it says what is required, and where to ask what is in force.
    """
    names = [tool.name for tool in tools if tool.confined]
    if not names:
        return None
    levels = ["landlock", "bubblewrap"]
    return {"tools": names, "levels": levels, "otherwise": "refused", "lifted_by": "unconfined", "in_force": "--show-config"}


def _need(need: Any) -> str:
    return f"{need.capability}:{{{need.parameter}}}" if need.parameter else str(need.capability)


def _first(text: str) -> str:
    return text.strip().partition("\n")[0]


def tool_rows(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Return the tools as `--list-tools --json` shows them."""
    return [_tool(tool) for tool in tools]


def tool_lines(tools: Sequence[Tool]) -> str:
    """Return the tools as `--list-tools` shows them: signature, permissions, purpose."""
    lines = []
    for tool in tools:
        words = tool.parameters.get("properties", {})
        needed = set(tool.parameters.get("required", ()))
        signature = ", ".join(name if name in needed else f"{name}=" for name in words)
        needs = ", ".join(_need(need) for need in tool.needs)
        lines.append(f"{tool.name}({signature})  {_first(tool.description)}" + (f"  [needs {needs}]" if needs else ""))
    return "\n".join(lines) + "\n" if lines else ""


def mcp_tool(agent: Agent) -> dict[str, Any]:
    """Return the agent as one MCP tool."""
    tools = agent.tools.tools
    made: dict[str, Any] = {
        "name": agent.name,
        "description": f"{agent.summary} {agent.when_to_use}".strip(),
        "inputSchema": input_schema(agent),
        "annotations": {
            "title": agent.name,
            "readOnlyHint": all(tool.read_only for tool in tools),
            "destructiveHint": any(tool.destructive for tool in tools),
            "idempotentHint": all(tool.idempotent for tool in tools),
            "openWorldHint": True,
        },
    }
    if agent.reply is not None:
        made["outputSchema"] = output_schema(agent)
    return made


def _a2a(agent: Agent) -> Mapping[str, Any]:
    skill = {
        "id": agent.name, "name": agent.name, "description": agent.when_to_use or agent.summary, "tags": list(agent.tags),
        "examples": list(agent.examples) or _examples(agent.doc),
    }  # fmt: skip
    return {
        "protocolVersion": "0.3.0",
        "name": agent.name,
        "description": agent.summary,
        "version": agent.version,
        "url": "",
        "capabilities": {"streaming": False, "pushNotifications": False},
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain", "application/json"],
        "skills": [skill],
    }


def _openai(agent: Agent) -> Mapping[str, Any]:
    name = "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in agent.name)[:64]
    return {"type": "function", "function": {"name": name, "description": agent.summary, "parameters": input_schema(agent)}}


def _skill(agent: Agent) -> str:
    lines = ["---", f"name: {agent.name}", f"description: {json.dumps(agent.when_to_use or agent.summary)}", "---", ""]
    lines += [f"# {agent.name}", "", agent.doc, "", "## Tools", ""]
    lines += [f"- `{tool.name}`: {_first(tool.description)}" for tool in agent.tools.tools] or ["None."]
    return "\n".join([*lines, "", f"Run `{agent.name} --help` for all flags, `{agent.name} --agent-schema` for the card.", ""])


def _cli(agent: Agent, options: Sequence[Option]) -> Mapping[str, Any]:
    rows = [
        {
            "flag": label(option), "short": f"-{option.short}" if option.short else None, "value": option.shown or None,
            "choices": list(option.choices) or None, "repeat": option.repeat, "help": option.help, "group": option.group,
            "env": option.env or None, "config": option.field if option.setting else None,
        }
        for option in options
    ]  # fmt: skip
    return {"name": agent.name, "usage": usage(agent.name), "flags": rows, "exit": {str(k): v for k, v in EXIT_TABLE.items()}}


def _man(agent: Agent, options: Sequence[Option]) -> str:
    title = agent.name.upper()
    lines = [f'.TH {_roff(title)} 1 "" "{_roff(agent.name)} {_roff(agent.version)}" "Agents"', ".SH NAME"]
    lines += [f"{_roff(agent.name)} \\- {_roff(agent.summary)}", ".SH SYNOPSIS", f".B {_roff(usage(agent.name)[7:])}"]
    lines += [".SH DESCRIPTION", ".nf", *(_roff(line) for line in help_text(agent.name, agent.doc, ()).splitlines()[:-2]), ".fi"]
    lines += [".SH OPTIONS"]
    for option in options:
        short = f"\\-{option.short}, " if option.short else ""
        lines += [".TP", f"{short}{_roff(label(option))} {_roff(option.shown)}".rstrip(), _roff(option.help)]
    lines += [".SH EXIT STATUS"]
    for status, words in EXIT_TABLE.items():
        lines += [".TP", str(status), _roff(words)]
    return "\n".join(lines) + "\n"


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    escaped = "".join(letter if letter.isascii() else f"\\[u{ord(letter):04X}]" for letter in escaped)
    return "\\&" + escaped if escaped[:1] in {".", "'"} else escaped
