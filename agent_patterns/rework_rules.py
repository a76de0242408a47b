"""rework_rules - whether someone who has answered should answer anew, now that there is something new to know. Pure.

    decision = decide(Policy(), said, Context("peer_answer", "ann", "It costs $700K."), now=12.0)
    decision.should_restart, decision.reason

What was said, what is new and the time are arguments, so a replay decides the same. The triggers are a peer's answer, a person's
input and a validator's feedback (with suggestions). Against a restart speak, in this order: the trigger is not one of the policy's;
`max_restarts` were made; less than `cooldown` seconds passed since the last answer; the context is less relevant than
`min_relevance`; or it says nothing new.

    relevance    of a peer's answer: shared / (all features of the smaller text), beside question and answer together; words and
                 numbers are compared as agent-novel does. A person's input and feedback have 1.0
    nothing new  the context has the very features of the answer, or of a context that was taken before
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from agent_core.errors import InputError, UsageError
from agent_core.options import unknown
from agent_core.task import compose, split
from agent_patterns import novelty

if TYPE_CHECKING:
    from collections.abc import Sequence

PEER, PERSON, FEEDBACK = "peer_answer", "user_input", "validation_feedback"
TRIGGERS = (PEER, PERSON, FEEDBACK)
WORDS = {"peer": PEER, "person": PERSON, "feedback": FEEDBACK, **{trigger: trigger for trigger in TRIGGERS}}
REWORK = "You answered this before. Something new came up. Answer again, completely; keep what still holds, mend what does not."


@dataclass(frozen=True, slots=True)
class Policy:
    """When to answer anew. `cooldown` is in seconds, `min_relevance` from 0 to 1."""

    triggers: tuple[str, ...] = (PEER,)
    max_restarts: int = 3
    cooldown: float = 5.0
    keep_previous: bool = True
    min_relevance: float = 0.5

    def __post_init__(self) -> None:
        unknown = [trigger for trigger in self.triggers if trigger not in TRIGGERS]
        if unknown:
            raise InputError(f"{unknown[0][:60]!r} is no trigger", hint=", ".join(TRIGGERS))
        if self.max_restarts < 0 or not 0 <= self.cooldown < math.inf or not 0 <= self.min_relevance <= 1:
            raise InputError("max_restarts and cooldown are at least 0, min_relevance from 0 to 1")


def policy(text: str) -> Policy:
    """Return the policy that words say: triggers (default: peer), max=N, cooldown=SECONDS, relevance=0-1, forget. UsageError.

    >>> policy("peer,feedback,max=2,cooldown=0").max_restarts
    2
    """
    triggers: list[str] = []
    made = Policy()
    for word in filter(None, (each.strip() for each in text.split(","))):
        name, equals, value = word.partition("=")
        if equals or name == "forget":
            made = _changed(made, name, value)
        elif name in WORDS:
            triggers.append(WORDS[name])
        else:
            raise unknown("rework trigger", name, [*WORDS, "max=", "cooldown=", "relevance=", "forget"])
    return replace(made, triggers=tuple(dict.fromkeys(triggers))) if triggers else made


def _changed(made: Policy, name: str, value: str) -> Policy:
    try:
        match name:
            case "max":
                return replace(made, max_restarts=int(value))
            case "cooldown":
                return replace(made, cooldown=float(value))
            case "relevance":
                return replace(made, min_relevance=float(value))
            case "forget":
                return replace(made, keep_previous=False)
    except (ValueError, InputError):
        raise UsageError(f"rework: {name}={value[:40]!r} cannot be", hint="max=3, cooldown=5 (seconds), relevance=0.5") from None
    raise unknown("rework setting", name, ["max", "cooldown", "relevance", "forget"])


@dataclass(frozen=True, slots=True)
class Context:
    """Something new: its trigger, who it comes from, what it says, and (feedback) what is suggested. `time` is in seconds."""

    trigger: str
    by: str
    text: str
    suggestions: tuple[str, ...] = ()
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class Said:
    """What someone answered to a question, when, how often that was anew, and which contexts were taken into account."""

    agent: str
    question: str
    answer: str
    time: float = 0.0
    restarts: int = 0
    taken: tuple[Context, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to answer anew and why (not); `wait` is how many seconds of the cooldown are left.

    With a yes: the number of the restart (from 1), the previous answer if the policy keeps it, and the suggestions.
    """

    should_restart: bool
    reason: str
    relevance: float = 0.0
    wait: float = 0.0
    restart_number: int = 0
    previous_answer: str = ""
    suggestions: tuple[str, ...] = ()

    def data(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "should_restart": self.should_restart, "reason": self.reason, "relevance": self.relevance, "wait_s": self.wait,
            "restart_number": self.restart_number, "suggestions": list(self.suggestions),
        }  # fmt: skip


def relevance(said: Said, context: Context) -> float:
    """Return how much a context has to do with a question and its answer, 0.0 to 1.0 (the formula is above)."""
    if context.trigger in {PERSON, FEEDBACK}:
        return 1.0
    instruction, materials = split(said.question)
    known = "\n".join([instruction, *(text for _, text in materials), said.answer])
    mine, other = _features(known), _features(context.text)
    least = min(mine.total, other.total)
    if not least:
        return 0.0
    alike = novelty.similarity(mine, other)
    # shared / (a + b - shared) = alike, solved for shared
    return round(min(1.0, alike * (mine.total + other.total) / (1 + alike) / least), 4)


def is_new(said: Said, context: Context) -> bool:
    """Return whether a context says anything that the question, the answer and the contexts taken before do not."""
    if context.trigger == PERSON:
        return True
    known = [said.answer, *(each.text for each in said.taken)]
    found = _features(context.text)
    return all(novelty.similarity(_features(text), found) < 1.0 for text in known)


@lru_cache(1024)
def _features(text: str) -> novelty.Features:
    """Return what a text is compared by; each answer meets many others."""
    return novelty.features(text)


def decide(policy: Policy, said: Said, context: Context, now: float) -> Decision:
    """Return whether the one who answered should answer anew."""
    found = relevance(said, context)
    wait = max(0.0, round(policy.cooldown - (now - said.time), 3))
    if context.trigger not in policy.triggers:
        return Decision(False, f"{context.trigger} is no trigger", found)
    if context.by == said.agent and context.trigger == PEER:
        return Decision(False, "it is its own answer", found)
    if said.restarts >= policy.max_restarts:
        return Decision(False, f"answered anew {said.restarts} times already", found)
    if wait > 0:
        return Decision(False, f"cools down for {wait:g} s", found, wait)
    if found < policy.min_relevance:
        return Decision(False, f"relevance {found:g} is below {policy.min_relevance:g}", found)
    if not is_new(said, context):
        return Decision(False, "nothing new", found)
    kept = said.answer if policy.keep_previous else ""
    return Decision(True, context.trigger, found, 0.0, said.restarts + 1, kept, suggestions(context))


def suggestions(context: Context) -> tuple[str, ...]:
    """Return what a context suggests: its list, else the lines of feedback that begin like items of a list; none twice."""
    given = [each.strip() for each in context.suggestions if each.strip()]
    if not given and context.trigger == FEEDBACK:
        rows = [row.strip() for row in context.text.splitlines()]
        given = [row.lstrip("-*\u2022").strip() for row in rows if row[:1] in {"-", "*", "\u2022"}]
    return tuple(dict.fromkeys(each for each in given if each))


def message(said: Said, contexts: Sequence[Context], *, keep: bool = True) -> str:
    """Return what the agent is asked: the question, then its previous answer, the contexts and the suggestions as material."""
    instruction, materials = split(said.question)
    shown = [("your previous answer", said.answer)] if keep else []
    shown += [(f"{context.trigger.replace('_', ' ')} of {context.by}", context.text) for context in contexts]
    found = dict.fromkeys(each for context in contexts for each in suggestions(context))
    shown += [("suggestions", "\n".join(f"- {each}" for each in found))] if found else []
    return compose(f"{instruction}\n\n{REWORK}", [*materials, *shown])
