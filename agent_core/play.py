"""play - drive a pattern by hand: no IO, no clock, no store.

    played = play(react(task), outcomes=[Reply(assistant("4"))])
    played.text, played.value, played.effects

Outcomes are sent in order, one for each effect; an exception among them is thrown into the pattern.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent_core.effects import Effect, Pattern


@dataclass(frozen=True, slots=True)
class Played:
    """What a pattern returned and which effects it asked for on the way."""

    value: Any
    effects: tuple[Effect, ...]

    @property
    def text(self) -> str:
        """The answer as text."""
        return str(getattr(self.value, "text", self.value))


def play(pattern: Pattern, outcomes: Iterable[Any] = ()) -> Played:
    """Send the outcomes into the pattern until it returns. ValueError if it asks for more, or is done before they are used up."""
    effects: list[Effect] = []
    rest = list(outcomes)
    try:
        effect = next(pattern)
        while True:
            effects.append(effect)
            if not rest:
                raise ValueError(f"no outcome left for effect {len(effects)}: {effect!r}")
            outcome = rest.pop(0)
            effect = pattern.throw(outcome) if isinstance(outcome, BaseException) else pattern.send(outcome)
    except StopIteration as stop:
        if rest:
            raise ValueError(f"the pattern was done with {len(rest)} outcomes left") from None
        return Played(stop.value, tuple(effects))
