"""asks - what patterns share: insist on an answer that can be read, send questions to another model, errors that end a run.

value = yield from insist(Ask(messages), read)         # read(text) -> (value, "") or (None, what is wrong)
answer = yield from steered(react(task), model="big")  # every question of the pattern goes to another model
except ENDS: raise                                     # before `except AgentError`, where a failure is a result
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent_core.effects import All, Ask
from agent_core.errors import Cancelled, ContractError, DeadlineError, DivergedError, StoreError, WaitingError
from agent_core.messages import user

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_core.effects import Pattern

ENDS = (WaitingError, DeadlineError, Cancelled, DivergedError, StoreError)
"""What ends a run, whoever it happens to: a person's absence, the time, a stop, a journal. It is nobody's failure."""


def insist(ask: Ask, read: Callable[[str], tuple[Any, str]], repairs: int = 1) -> Pattern:
    """Return (value, text) of the first reply that can be read; the model is told what is wrong `repairs` times.

    Raises:
        ContractError: no reply could be read (status 76).
    """
    for attempt in range(repairs + 1):
        reply = yield ask
        value, problem = read(reply.text)
        if not problem:
            return value, reply.text
        if attempt < repairs:
            words = f"{problem}\nAnswer again in the required form and with nothing else."
            ask = replace(ask, messages=[*ask.messages, reply.message, user(words)])
    raise ContractError(f"the model's answer cannot be used: {problem}", hint="try another model")


def steered(pattern: Pattern, **fields: Any) -> Pattern:
    """Return what the pattern returns; its questions (those of its `All` as well) have the given fields of Ask."""
    outcome: Any = None
    error: BaseException | None = None
    while True:
        try:
            effect = pattern.send(outcome) if error is None else pattern.throw(error)
        except StopIteration as stop:
            return stop.value
        outcome = error = None
        try:
            outcome = yield _turned(effect, fields)
        except Exception as problem:  # noqa: BLE001 - handed on to the pattern, which it was meant for
            error = problem


def _turned(effect: Any, fields: dict[str, Any]) -> Any:
    match effect:
        case Ask():
            return replace(effect, **fields)
        case All():
            return replace(effect, effects=[_turned(each, fields) for each in effect.effects])
        case Generator():
            return steered(effect, **fields)
    return effect
