"""preview - the first request of a run, without sending it: `--dry-run` and `--show-prompt`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent_core import redact
from agent_core.errors import Failed

if TYPE_CHECKING:
    from agent_core.agent import Agent, Job
    from agent_core.config import Settings
    from agent_core.effects import Ask
    from agent_core.provider import Provider

_SECRET_HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "x-amz-security-token")


def first_ask(agent: Agent, job: Job, settings: Settings) -> tuple[Ask, Provider]:
    """Return the first model call that the run would make, as the chosen provider would get it."""
    from agent_core import choose, plugins, protocol

    agent = plugins.equip(agent, settings)
    job = plugins.of(settings).prepared(agent, job, settings, None)
    names, _ = choose.route(settings)
    provider = choose.resolve(names[0], settings)
    ask = _first(agent.steps(agent.task(job, settings, agent.tools), settings, job))
    temperature = settings.temperature if ask.temperature is None else ask.temperature
    tokens = settings.max_tokens if ask.max_tokens is None else ask.max_tokens
    ask = replace(ask, temperature=temperature, max_tokens=tokens)
    in_text = settings.protocol == "text" or (settings.protocol == "auto" and not provider.capabilities.tools)
    return (protocol.as_text(ask) if in_text and ask.tools and ask.tools.tools else ask), provider


def _first(effect: Any) -> Ask:
    """Return the first Ask of a pattern, also inside `All`; what it notes before that is passed over."""
    from agent_core.effects import All, Ask, Note

    while not isinstance(effect, Ask):
        if hasattr(effect, "send"):
            pattern, effect = effect, next((each for each in effect if not isinstance(each, Note)), None)
            pattern.close()
        elif isinstance(effect, All) and effect.effects:
            effect = effect.effects[0]
        else:
            raise Failed("the pattern does not begin with a model call", hint="there is no first request to show")
    return effect


def messages(agent: Agent, job: Job, settings: Settings) -> tuple[str, list[dict[str, str]]]:
    """Return the first messages as text to read, and as JSON data."""
    ask, _ = first_ask(agent, job, settings)
    rows = [{"role": message.role, "text": redact.redact(message.text)} for message in ask.messages]
    return "\n\n".join(f"--- {row['role']}\n{row['text']}" for row in rows), rows


def request(agent: Agent, job: Job, settings: Settings) -> dict[str, Any]:
    """Return method, URL, headers (keys cut out) and body of the first request."""
    ask, provider = first_ask(agent, job, settings)
    if provider.codec is None:
        body = {"messages": [{"role": message.role, "text": message.text} for message in ask.messages]}
        return {"provider": provider.name, "model": provider.model, "method": None, "url": None, "headers": {}, "body": body}
    made = provider.codec.encode(ask, provider, stream=settings.stream)
    return {
        "provider": provider.name,
        "model": provider.model,
        "method": made.method,
        "url": redact.redact(made.url),
        "headers": {name: _header(name, value) for name, value in made.headers},
        "body": json.loads(redact.redact(made.body.decode("utf-8", "replace")) or "null"),
    }


def _header(name: str, value: str) -> str:
    if name.lower() in _SECRET_HEADERS:
        scheme, _, rest = value.partition(" ")
        return f"{scheme} {redact.MARK}" if rest else redact.MARK
    return redact.redact(value)
