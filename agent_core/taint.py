"""taint - what a run has seen, and what it may therefore no longer do without a person.

Two labels, only ever growing: `untrusted` (somebody else may have written part of what the model reads) and `private` (something is
in it that is not everybody's). A run that has both and could tell somebody needs a person's yes, whatever was granted and whatever
--yes says. Labels are the run's, not a value's: a model mixes all it has read.

    untrusted   piped stdin, files, web pages, tool output from outside, peers
    private     files outside the workspace, databases, secrets
    way out     the network beyond hosts that are granted by name (or more than fetching there), a shell that is not confined, has
                a network or could do one of these: writes outside the workspace, files that others run later; database writes,
                tools of unknown reach
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from agent_core.policy import Denial, authority, host_of, runs_later

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from agent_core.policy import Policy
    from agent_core.tool import Tool

UNTRUSTED, PRIVATE = "untrusted", "private"
BOTH = frozenset({UNTRUSTED, PRIVATE})
_FROM_OUTSIDE = frozenset({"file-read", "network", "shell", "database-read"})
_PRIVATE = frozenset({"database-read", "secret"})
_FETCHING = frozenset({"GET", "HEAD"})


def of_sources(provenance: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Return the labels that what a run starts from brings: untrusted unless said otherwise, and those that were kept with it."""
    found: frozenset[str] = frozenset()
    for source in provenance:
        found |= BOTH & frozenset(source.get("labels", ()))
        if source.get("trust") != "trusted":
            found |= {UNTRUSTED}
    return found


def row(ref: str, labels: Iterable[str]) -> dict[str, Any]:
    """Return the entry of a provenance that hands labels on."""
    found = BOTH & frozenset(labels)
    trust = UNTRUSTED if UNTRUSTED in found else "trusted"
    return {"ref": ref, "trust": trust, **({"labels": [PRIVATE]} if PRIVATE in found else {})}


def inherited(text: str) -> frozenset[str]:
    """Return the labels that a caller passed on (AGENT_TAINT); unknown words count for nothing."""
    return BOTH & frozenset(text.split(","))


def gained(tool: Tool, arguments: Mapping[str, Any], policy: Policy, workspace: str) -> frozenset[str]:
    """Return the labels that the result of a call brings."""
    found = set()
    if tool.open_world or any(capability in _FROM_OUTSIDE for capability, _ in _scopes(tool, arguments)):
        found.add(UNTRUSTED)
    if any(_is_private(capability, scope, workspace) for capability, scope in _scopes(tool, arguments)):
        found.add(PRIVATE)
    if any(need.capability == "shell" for need in tool.needs) and _shell_sees_more(policy, workspace):
        found.add(PRIVATE)
    return frozenset(found)


def way_out(tool: Tool, arguments: Mapping[str, Any], policy: Policy, workspace: str) -> str:
    """Return in what way a call could tell somebody or change something beyond the workspace; nothing if in none."""
    if tool.open_world and not tool.needs:
        return "its reach is not known"
    for capability, scope in _scopes(tool, arguments):
        method = str(arguments.get("method") or ("GET" if tool.read_only else "POST"))
        found = _out(capability, scope, method, policy, workspace)
        if found:
            return found
    return ""


def refusal(labels: frozenset[str], tool: Tool, arguments: Mapping[str, Any], policy: Policy, workspace: str) -> Denial | None:
    """Return the refusal of a call by a run that has seen both kinds; only a person can lift it."""
    if not labels >= BOTH:
        return None
    out = way_out(tool, arguments, policy, workspace)
    if not out:
        return None
    return Denial(
        f"{tool.name}: this run has read untrusted text and private data, and {out}; only a person can allow that", ask=True
    )


def _scopes(tool: Tool, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    for need in tool.needs:
        capability, _, fixed = need.capability.partition(":")
        given = arguments.get(need.parameter) if need.parameter else fixed or None
        for each in given if isinstance(given, list | tuple) else [given]:
            yield capability, None if each is None else str(each)


def _is_private(capability: str, scope: str | None, workspace: str) -> bool:
    if capability in _PRIVATE:
        return True
    return capability == "file-read" and scope is not None and not _inside(scope, workspace)


def _inside(path: str, workspace: str) -> bool:
    root = os.path.realpath(workspace)
    real = os.path.realpath(os.path.join(root, os.path.expanduser(path)))  # noqa: PTH111, PTH118 - names only, as the policy has them
    return real == root or real.startswith(root.rstrip("/") + "/")


def _shell_sees_more(policy: Policy, workspace: str) -> bool:
    """Whether a command could read beyond the workspace."""
    if policy.check("shell", "unconfined") is None:
        return True
    wider = {"file-read", "file-write"}  # what it may write it may read
    return any(rule.capability in wider and not _inside(rule.root or "/", workspace) for rule in policy.grants)


def _out(capability: str, scope: str | None, method: str, policy: Policy, workspace: str) -> str:
    match capability:
        case "network":
            return _network(scope, method, policy)
        case "shell":
            if policy.check("shell", "unconfined") is None:
                return "the command is not confined"
            return _command(policy, workspace)
        case "database-write":
            return "it writes to a database"
        case "file-write":
            if scope is None or not _inside(scope, workspace):
                return "it writes outside the workspace"
            return "others may run or obey what it writes" if runs_later(scope) else ""
        case "file-read" | "database-read" | "secret":
            return ""
    return f"{capability} may reach beyond this machine"


def _command(policy: Policy, workspace: str) -> str:
    """Return in what way a confined command is a way out: no name of a file is checked there, only what the box lets it write."""
    if any(rule.capability == "network" and not rule.scope for rule in policy.grants):
        return "the command has a network"
    roots = [rule.real or rule.root or "/" for rule in policy.grants if rule.capability == "file-write"]
    if any(not _inside(root, workspace) for root in roots):
        return "the command may write outside the workspace"
    # A folder takes a hook or an editor's task as well as anything else.
    if any(os.path.isdir(root) or runs_later(root) for root in roots):  # noqa: PTH112 - Path would cost start-up time
        return "others may run or obey what the command writes"
    return ""


def _network(scope: str | None, method: str, policy: Policy) -> str:
    place = host_of(scope) if scope else None
    if place is None:
        return "it reaches the network"
    if policy.host(*place) != "named":
        return f"it reaches {authority(*place)}, which no grant names"
    return "" if method.upper() in _FETCHING else f"it sends to {authority(*place)}"
