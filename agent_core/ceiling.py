"""ceiling - a policy that only narrows: what an agent may do that another one called.

    of(settings) -> text                the caller's rules, for `AGENT_CEILING` of the called process
    lowered(settings, text) -> Settings  the called agent's own rules, cut to what its caller may do

Grants are intersected: what remains is beneath both. Denials and what a person has to confirm add up, and `--yes` holds only where
the caller had it, too. Scopes are made absolute, since the two may work in different folders. A text that cannot be read is an
error, never "no ceiling".
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent_core import policy
from agent_core.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_core.policy import Grant

VARIABLE = "AGENT_CEILING"


def of(settings: Any) -> str:
    """Return the rules of these settings as one line of JSON: {"allow": [...], "deny": [...], "confirm": [...], "yes": bool}."""
    import json

    allow, deny, confirm = (absolute(rules, settings.workspace) for rules in (settings.allow, settings.deny, settings.confirm))
    return json.dumps({"allow": allow, "deny": deny, "confirm": confirm, "yes": bool(settings.yes)}, separators=(",", ":"))


def absolute(rules: Sequence[str], workspace: str) -> list[str]:
    """Return rules whose scopes do not depend on a folder."""
    return [_text(policy.parse_grant(rule, workspace)) for rule in rules]


def lowered(settings: Any, text: str) -> Any:
    """Return the settings under a ceiling. ConfigError if the ceiling cannot be read, UsageError for a rule of one's own."""
    allow, deny, confirm, yes = _read(text)
    own = [policy.parse_grant(rule, settings.workspace) for rule in settings.allow]
    kept = [both for one in own for other in allow if (both := _both(one, other)) is not None]
    return replace(
        settings,
        allow=tuple(dict.fromkeys(map(_text, kept))),
        deny=_together(settings.deny, deny, settings.workspace),
        confirm=_together(settings.confirm, confirm, settings.workspace),
        yes=bool(settings.yes and yes),
    )


def _together(own: Sequence[str], other: Sequence[Grant], workspace: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*absolute(own, workspace), *map(_text, other)]))


def _read(text: str) -> tuple[list[Grant], list[Grant], list[Grant], bool]:
    import json

    try:
        found = json.loads(text)
        lists = (found["allow"], found["deny"], found.get("confirm", []))  # a caller of before knew no `confirm`
        rules = [[policy.parse_grant(str(rule), "/") for rule in each] for each in lists]
        return rules[0], rules[1], rules[2], found["yes"] is True
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, UsageError):
        raise ConfigError(f"{VARIABLE} cannot be read", hint="it is set by the agent that calls; unset it") from None


def _text(rule: Grant) -> str:
    if rule.capability in policy.PATHS:
        return f"{rule.capability}:{rule.root}"
    return f"{rule.capability}:{rule.scope}" if rule.scope else rule.capability


def _both(one: Grant, other: Grant) -> Grant | None:
    """Return the rule that covers exactly what both cover, None for nothing."""
    if one.capability != other.capability:
        return None
    if one.capability in policy.PATHS:
        return _deeper(one, other)
    if one.capability == "network":
        return _same_hosts(one, other)
    return _narrower(one, other)


def _deeper(one: Grant, other: Grant) -> Grant | None:
    """Return the rule that lies beneath the other, by its name and by what the name really is."""
    for inner, outer in ((one, other), (other, one)):
        if all(_beneath(path, {outer.root, outer.real}) for path in (inner.root, inner.real)):
            return inner
    return None


def _beneath(path: str, roots: set[str]) -> bool:
    return any(path == root or path.startswith(root.rstrip("/") + "/") for root in roots)


def _same_hosts(one: Grant, other: Grant) -> Grant | None:
    """Return the narrower of two rules about hosts. An address that is private must be named by both."""
    for inner, outer in ((one, other), (other, one)):
        if not outer.scope:
            return None if inner.scope and policy.is_private_name(_host(inner)[0]) else inner
    (name, port), (other_name, other_port) = _host(one), _host(other)
    if port and other_port and port != other_port:
        return None
    for inner_name, outer_name in ((name, other_name), (other_name, name)):
        if inner_name == outer_name or (outer_name.startswith("*.") and inner_name.endswith(outer_name[1:])):
            if outer_name.startswith("*.") and policy.is_private_name(inner_name):
                return None
            return replace(one, scope=policy.authority(inner_name, port or other_port, usual=()))
    return None


def _host(rule: Grant) -> tuple[str, int]:
    host, _, port = rule.scope.rpartition(":")
    if host and port.isdigit() and (host.endswith("]") or ":" not in host):
        return host.strip("[]"), int(port)
    return rule.scope.strip("[]"), 0


def _narrower(one: Grant, other: Grant) -> Grant | None:
    """Return the narrower of two rules with plain scopes; `x*` covers what begins with x, `x` all of x/… (a program is itself)."""
    for inner, outer in ((one, other), (other, one)):
        if not outer.scope or outer.scope == inner.scope:
            return inner
        if one.capability != "shell" and inner.scope.startswith(f"{outer.scope}/"):
            return inner
        if outer.scope.endswith("*") and inner.scope.startswith(outer.scope[:-1]) and inner.scope:
            return inner
    return None
