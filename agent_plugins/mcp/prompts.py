"""prompts - a template of a server as the instruction of a run: `--mcp-prompt 'NAME KEY=VALUE …'`.

    assistant --mcp-server everything='npx -y @modelcontextprotocol/server-everything' --mcp-prompt 'args-prompt city=Paris'
    git diff | code-reviewer --mcp-config servers.json --mcp-prompt team/review 'mind the locks'

The person chooses the template, so it is an instruction, before the words of the command line. Its words are the server's all the
same: the run counts as having read something untrusted. A name that is none is answered with those there are.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent_core.errors import ConfigError, ContractError, UsageError
from agent_plugins.mcp import wire
from agent_plugins.mcp.tools import cleaned

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent_plugins.mcp.client import Client

PAGES, MOST, LONGEST = 20, 200, 256 * 1024
_SHOWN = 12


def prepared(job: Any, clients: Sequence[Client], text: str, timeout: float | None = None) -> Any:
    """Return the job with the template before its instruction, and the server's name in its provenance.

    Raises:
        UsageError: no such prompt, or its arguments are missing or unknown.
        AgentError: the server does not give it (see `Client.start`).
    """
    from agent_core import messages, task

    name, arguments = _asked(text)
    client, found = _chosen(clients, name, timeout)
    _check(found, arguments)
    words = _filled(client, found, arguments, timeout)
    instruction, materials = task.split(job.message.text)
    whole = "\n\n".join(part for part in (task.unmarked(words), instruction) if part)
    others = (part for part in job.message.parts if not isinstance(part, messages.Text))
    source = {"ref": f"mcp:{client.server.name}/prompts/{found['name']}", "trust": "untrusted"}
    message = messages.user(task.compose(whole, materials), *others)
    return replace(job, message=message, provenance=(*job.provenance, source))


def _asked(text: str) -> tuple[str, dict[str, str]]:
    """Return (name, arguments) of what the flag says."""
    try:
        name, *rest = shlex.split(text) or [""]
    except ValueError as error:
        raise UsageError(f"--mcp-prompt: {text[:80]!r} cannot be split into words: {error}", hint="check the quotes") from None
    pairs = [word.partition("=") for word in rest]
    odd = next((key for key, sign, _ in pairs if not sign or not key), None)
    if odd is not None:
        raise UsageError(f"--mcp-prompt: {odd[:80]!r} is not KEY=VALUE", hint="--mcp-prompt 'NAME KEY=VALUE …'")
    return name, {key: value for key, _, value in pairs}


def _chosen(clients: Sequence[Client], name: str, timeout: float | None) -> tuple[Client, Mapping[str, Any]]:
    """Return the one prompt that NAME or SERVER/NAME means."""
    if not clients:
        raise UsageError("--mcp-prompt needs a server", hint="--mcp-server COMMAND|URL, or --mcp-config FILE")
    rows = [(client, each) for client in clients for each in _listed(client, timeout)]
    found = [pair for pair in rows if name in (pair[1]["name"], f"{pair[0].server.name}/{pair[1]['name']}")]
    if len(found) == 1:
        return found[0]
    shown = [f"{client.server.name}/{_usage(each)}" for client, each in found or rows]
    some = ", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else "")
    if found:
        raise UsageError(f"several prompts are named {name!r}", hint=some)
    raise UsageError(f"no prompt {name[:80]!r}", hint=f"there is {some}" if some else "these servers have none")


def _usage(prompt: Mapping[str, Any]) -> str:
    words = [f"{name}=…" if needed else f"[{name}=…]" for name, needed in _parameters(prompt)]
    return cleaned(" ".join([prompt["name"], *words]), 200)


def _listed(client: Client, timeout: float | None) -> Iterator[Mapping[str, Any]]:
    """Yield the prompts of a server, page by page."""
    if client.facts is None or not client.facts.prompts:
        return
    cursor, count = None, 0
    for _ in range(PAGES):
        page = _requested(client, "prompts/list", {"cursor": cursor} if cursor else {}, timeout)
        rows = page.get("prompts")
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict) and isinstance(row.get("name"), str) and count < MOST:
                count += 1
                yield row
        after = page.get("nextCursor")
        if not isinstance(after, str) or after in ("", cursor):
            return
        cursor = after


def _parameters(prompt: Mapping[str, Any]) -> list[tuple[str, bool]]:
    rows = prompt.get("arguments")
    return [
        (row["name"], row.get("required") is True)
        for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, dict) and isinstance(row.get("name"), str)
    ]


def _check(prompt: Mapping[str, Any], given: Mapping[str, str]) -> None:
    known = dict(_parameters(prompt))
    missing = [name for name, needed in known.items() if needed and name not in given]
    odd = [name for name in given if name not in known]
    if missing or odd:
        words = [*(f"{cleaned(name, 80)} is missing" for name in missing), *(f"there is no {name[:80]}" for name in odd)]
        raise UsageError(f"--mcp-prompt {prompt['name'][:80]}: {', '.join(words)}", hint=f"it takes {_usage(prompt)}")


def _filled(client: Client, prompt: Mapping[str, Any], arguments: Mapping[str, str], timeout: float | None) -> str:
    """Return the text of the template; what is not the user's part says whose it is."""
    found = _requested(client, "prompts/get", {"name": prompt["name"], "arguments": dict(arguments)}, timeout)
    rows = found.get("messages")
    parts = [
        ("" if row.get("role") == "user" else "(assistant:) ") + wire.block(row["content"])
        for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, dict) and isinstance(row.get("content"), dict)
    ]
    text = "\n\n".join(parts).strip()
    if not text or len(text) > LONGEST:
        what = f"is larger than {LONGEST} characters" if text else "is empty"
        raise ContractError(f"the prompt {prompt['name'][:80]} of the MCP server {client.server.name} {what}")
    return text


def _requested(client: Client, method: str, params: Mapping[str, Any], timeout: float | None) -> dict[str, Any]:
    limit = client.server.timeout if timeout is None else min(client.server.timeout, timeout)
    try:
        return client.request(method, params, time.monotonic() + limit)
    except wire.RpcError as error:
        raise ConfigError(f"the MCP server {client.server.name} refuses {method}: {cleaned(str(error), 200)}") from None
    except TimeoutError:
        from agent_core.errors import TransportError

        raise TransportError(f"the MCP server {client.server.name} did not answer in time", hint="raise its timeout") from None
