"""debate - sides argue a topic in rounds, score each other, and a neutral moderator concludes.

    answer = yield from debate(task, [Side(a, "simple"), Side(b, "scale")], rounds=2)

Round 1: openings, at once. Later rounds: rebuttals, with all earlier arguments in view. Then every side scores the latest argument
of every other, 0 to 1, at once; the highest mean wins, equal means are a tie. Cost: sides x rounds + sides x (sides - 1) + 1 calls.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent_core.checked import first_object
from agent_core.effects import Call, Note
from agent_core.errors import AgentError, UsageError
from agent_core.members import Member
from agent_core.task import compose, split
from agent_patterns.fan_out import fan
from agent_patterns.group import discuss, names_of, result
from agent_patterns.reduce import Rules, moderate
from agent_patterns.talk import Group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent_core.effects import Pattern
    from agent_core.task import Task

BRIEF = "You are {name} in a debate on the topic below, and you argue for this position: {position}"
REBUT = (
    "This is round {number} of {rounds}. Below is everything said so far. Answer the strongest arguments against your position, "
    "and give your case as it now stands."
)
SCORE = (
    "Below are a topic of a debate and one side's argument. You are {name}, who argued for: {position}. Be fair all the same: how "
    'convincing is this argument, from 0 (not at all) to 1 (fully)? Answer with one JSON object: {{"score": 0.5, "reason": "…"}}'
)
_LONGEST_REASON = 400


@dataclass(frozen=True, slots=True)
class Side:
    """Who argues (anything a Call can run) and for what."""

    who: Any
    position: str

    @property
    def name(self) -> str:
        """The side's name."""
        return str(self.who.name)


@dataclass(frozen=True, slots=True)
class Scores:
    """Each side's mean score (None: nobody gave a readable one), the scores themselves, and who leads: one, or several in a tie."""

    means: Mapping[str, float | None]
    given: Sequence[Mapping[str, Any]] = field(default=())

    @property
    def leaders(self) -> tuple[str, ...]:
        """The sides with the highest mean."""
        known = {name: mean for name, mean in self.means.items() if mean is not None}
        top = max(known.values(), default=None)
        return tuple(name for name, mean in known.items() if mean == top)


def debate(task: Task, sides: Sequence[Side] = (), rounds: int = 2, judge: Any = None, limit: int | None = None) -> Pattern:
    """Return the moderator's conclusion; the value has the sides, all rounds, the scores, and winner or tie."""
    sides = tuple(sides) or (Side(Member("for"), "yes"), Side(Member("against"), "no"))
    plan = Group(
        [side.who for side in sides],
        rounds=rounds,
        topology="mesh",
        reduce="moderate",
        limit=limit,
        briefs={side.name: BRIEF.format(name=side.name, position=side.position) for side in sides},
        full=True,
        revise=REBUT,
        early=False,
    )
    if len(names_of(plan)) < 2:
        raise UsageError("a debate needs two sides or more", hint='--side NAME="POSITION", once for each')
    talk = yield from discuss(task, plan)
    topic, _ = split(task.text)
    latest = dict(talk.latest(names_of(plan)))
    scores = yield from scored(topic, [side for side in sides if side.name in latest], latest, limit)
    reduced = yield from moderate(list(latest.items()), Rules(topic, judge=judge, notes=_told(scores)))
    return result(plan, talk, reduced, **_shown(sides, talk.rounds, scores))


def scored(topic: str, sides: Sequence[Side], latest: Mapping[str, str], limit: int | None = None) -> Pattern:
    """Return the scores that the sides give each other's latest argument. A score that cannot be read is left out and told."""
    pairs = [(judge, judged) for judge in sides for judged in sides if judge is not judged]
    calls = [Call(judge.who, _question(topic, judge, judged.name, latest[judged.name])) for judge, judged in pairs]
    outcomes = yield from fan(calls, None, limit)
    given: list[dict[str, Any]] = []
    for (judge, judged), outcome in zip(pairs, outcomes, strict=True):
        score, reason = read_score(outcome)
        given.append({"by": judge.name, "of": judged.name, "score": score, "reason": reason})
        if score is None:
            yield Note("notice", {"text": f"{judge.name} gave {judged.name} no score that can be read"})
    return Scores({side.name: _mean([each["score"] for each in given if each["of"] == side.name]) for side in sides}, given)


def _question(topic: str, judge: Side, name: str, argument: str) -> str:
    return compose(SCORE.format(name=judge.name, position=judge.position), [("topic", topic), (name, argument)])


def read_score(outcome: Any) -> tuple[float | None, str]:
    """Return (score, reason) from a reply; None for one that has no number from 0 to 1, or for an error.

    >>> read_score('I say {"score": 0.7, "reason": "clear"}'), read_score('{"score": 7}')
    ((0.7, 'clear'), (None, ''))
    """
    if isinstance(outcome, AgentError) or outcome is None:
        return None, str(outcome or "")[:_LONGEST_REASON]
    found = first_object(str(outcome))
    score = found.get("score") if isinstance(found, dict) else None
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        return None, ""
    return float(score), str(found.get("reason") or "")[:_LONGEST_REASON]


def _mean(scores: Sequence[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return round(sum(known) / len(known), 6) if known else None


def _told(scores: Scores) -> str:
    lines = [f"{name}: {'no score' if mean is None else f'{mean:.2f}'}" for name, mean in scores.means.items()]
    leaders = scores.leaders
    verdict = "nobody was scored" if not leaders else f"tie: {', '.join(leaders)}" if len(leaders) > 1 else f"highest: {leaders[0]}"
    return "\n".join([*lines, verdict])


def _shown(sides: Sequence[Side], rounds: Sequence[Mapping[str, str]], scores: Scores) -> dict[str, Any]:
    leaders = scores.leaders
    return {
        "sides": [{"agent": side.name, "position": side.position} for side in sides],
        "rounds": [[{"agent": name, "output": text} for name, text in said.items()] for said in rounds],
        "scores": dict(scores.means), "given": list(scores.given),
        "winner": leaders[0] if len(leaders) == 1 else None, "tie": list(leaders) if len(leaders) > 1 else [],
    }  # fmt: skip
