"""fittings - what a run is given by its settings: providers, policy, guards, and who answers its questions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent_core import guards, messages, taint
from agent_core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent_core.agent import Agent
    from agent_core.provider import Provider
    from agent_core.run import Consent, Decide
    from agent_core.store import Store


def route(agent: Agent, settings: Any, notice: Callable[[str], None]) -> list[Provider]:
    """Return the providers to ask, in order; with none chosen the first one that is there (wire.md §3)."""
    from agent_core import choose

    names, said = choose.route(settings)
    if said:
        notice(said)
    found = [choose.resolve(name, settings) for name in names]
    return [_with_offline(agent, each) if each.name == "offline" and agent.offline is not None else each for each in found]


def _with_offline(agent: Agent, provider: Provider) -> Provider:
    """Let the agent's own model-free function answer first."""
    plain = provider.answer

    def answer(ask: Any) -> Any:
        import json

        from agent_core.provider import Reply
        from agent_core.task import split

        asked = next((message.text for message in reversed(ask.messages) if message.role == "user"), "")
        value = agent.offline(*split(asked)) if agent.offline is not None else None
        if value is None:
            return plain(ask) if plain is not None else None
        return Reply(messages.assistant(json.dumps(value, ensure_ascii=False)), model=provider.model)

    return replace(provider, answer=answer)


def resolver(settings: Any) -> Callable[[str, str], tuple[Provider, ...]]:
    """Return what finds another provider or model than the run's; each is looked up once."""
    from functools import cache

    from agent_core import choose

    @cache
    def resolve(provider: str, model: str) -> tuple[Provider, ...]:
        names = [provider] if provider else choose.route(settings)[0]
        return tuple(choose.resolve(name, replace(settings, model=model or settings.model)) for name in names)

    return resolve


def finder(settings: Any) -> Callable[[str], Any]:
    """Return what finds an agent by its name."""

    def find(name: str) -> Any:
        from agent_core import peers

        return peers.find(name, settings)

    return find


def asker(settings: Any) -> Callable[..., str | None]:
    """Return what asks a person on the terminal; its answer is None where there is none, or where nobody is to be asked."""

    def ask(question: str, *, strict: bool = False) -> str | None:
        from agent_core import waiting

        return waiting.ask(question, strict=strict) if settings.ask == "tty" and not settings.quiet else None

    return ask


def check_depth(environment: Mapping[str, str]) -> None:
    """Refuse to begin in a process that was called too deeply."""
    if environment.get("AGENT_DEPTH"):
        from agent_core import peers

        peers.check_depth(environment)


def depth_of(environment: Mapping[str, str]) -> int:
    """Return how many agents called each other until this one."""
    text = environment.get("AGENT_DEPTH", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0


def make_policy(settings: Any) -> Any:
    """Return the policy that the grants make."""
    from agent_core.policy import Policy

    return Policy.of(settings.allow, settings.deny, yes=settings.yes, workspace=settings.workspace, confirm=settings.confirm)


def decider(policy: Any, settings: Any) -> Decide:
    """Return the decision about a call: deny rules, then grants, then what the run has seen, then what is to be confirmed."""
    from agent_core import policy as deciding

    def decide(tool: Any, arguments: Mapping[str, Any], seen: set[str], consent: Consent) -> Any:
        if not (tool.needs or tool.destructive or tool.open_world):
            return None
        rules = policy.plus(consent.grants) if consent.grants else policy
        where = settings.workspace
        ways: tuple[Callable[[], Any], ...] = (
            lambda: deciding.decide(rules, tool, arguments, where),
            lambda: taint.refusal(frozenset(seen), tool, arguments, rules, where),
            lambda: deciding.confirmation(rules, tool, arguments, where),
        )
        found = (way() for way in ways)
        return next((each for each in found if each is not None and each.reason not in consent.reasons), None)

    return decide


def labels(policy: Any, settings: Any) -> Callable[[Any, Mapping[str, Any]], frozenset[str]]:
    """Return what a call adds to what the run has seen."""
    return lambda tool, arguments: taint.gained(tool, arguments, policy, settings.workspace)


def contexts(policy: Any, settings: Any, charge: Callable[[int], None]) -> Callable[[float | None, tuple[str, ...]], Any]:
    """Return what makes the context of a tool call."""
    from agent_core.tool import Context

    return lambda deadline, grants: Context(
        policy=policy.plus(grants) if grants else policy, workspace=settings.workspace, deadline=deadline, settings=settings,
        charge=charge,
    )  # fmt: skip


def make_guards(agent: Agent, settings: Any, deadline: float | None, store: Store | None) -> tuple[guards.Guard, ...]:
    """Return the guards that the settings and the plugins ask for, in their one order."""
    from agent_core import plugins

    added = plugins.of(settings, agent.tools).guards(agent, settings, store)
    chosen: list[guards.Guard] = [guards.Retries(settings.retry, deadline), *added]
    if deadline is not None:
        chosen.append(guards.Deadline(deadline))
    if settings.budget is not None or settings.environment.get("AGENT_BUDGET_USD") or settings.environment.get("AGENT_BUDGET_ROW"):
        from agent_core import ledger

        chosen += filter(None, [ledger.guard(settings, store)])
    if settings.cache != "off" and store is not None:
        chosen.append(guards.Cache(Replies(store), settings.cache == "only"))
    return guards.chain(chosen)


class Replies:
    """The response cache: replies in the store's items, for a week."""

    _SECONDS = 7 * 24 * 3600.0

    def __init__(self, store: Store) -> None:
        """Keep the store."""
        self._store = store

    def get(self, key: str) -> Any:
        """Return the reply kept under `key`, or None (also when the store cannot be read)."""
        import json

        from agent_core.journal import reply_from_json

        try:
            kept = self._store.item_get("replies", key)
        except StoreError:
            return None
        return None if kept is None else reply_from_json(json.loads(kept))

    def put(self, key: str, reply: Any) -> None:
        """Keep a reply; a store that cannot be written keeps nothing."""
        import json

        from agent_core.journal import reply_to_json

        try:
            self._store.item_put("replies", key, json.dumps(reply_to_json(reply)), self._SECONDS)
        except StoreError:
            return
