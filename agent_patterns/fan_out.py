"""fan_out - several calls at once, none of which ends the others: what fails is an outcome, and `enough` may be fewer than all.

outcomes = yield from fan([Call(a, text), Call(b, text)], enough=0.8)      # an answer, an AgentError, or None: cancelled
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from agent_core.effects import All
from agent_core.errors import AgentError, QuorumLimit, WaitingError
from agent_patterns.asks import ENDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_core.effects import Pattern


def fan(effects: Sequence[Any], enough: float | None = None, limit: int | None = None) -> Pattern:
    """Return what became of each effect: its value, the AgentError it failed with, or None where it was cancelled.

    Nothing that fails ends the others. `enough` (a fraction, or a number) are successes: as soon as that many are there the rest
    is cancelled; once so many failed that it cannot be reached, everyone is heard to the end.
    """
    total = len(effects)
    spare = total - needed(enough, total)
    failed: list[AgentError] = []
    stopped: list[AgentError] = []
    children = [_heard(effect, failed, spare, stopped) for effect in effects]
    try:
        outcomes = yield All(children, None if enough is None or not spare else total - spare, limit)
    except QuorumLimit as few:
        raise (stopped[0] if stopped else few) from None
    for error in stopped:
        if not isinstance(error, WaitingError):  # a question to a person is no reason to stop where enough others answered
            raise error
    return outcomes


def needed(enough: float | None, total: int) -> int:
    """Return how many of `total` a fraction (float) or number (int) stands for: at least 1, at most all; None is all."""
    if enough is None or not total:
        return total
    return max(1, min(total, math.ceil(enough * total - 1e-9) if isinstance(enough, float) else enough))


def _heard(effect: Any, failed: list[AgentError], spare: int, stopped: list[AgentError]) -> Pattern:
    """Return an effect's outcome, or its error. Errors that leave enough others are raised: `All` must not count them."""
    try:
        return (yield effect)
    except ENDS as error:
        stopped.append(error)
        raise
    except AgentError as error:
        failed.append(error)
        if len(failed) <= spare:
            raise
        return error
