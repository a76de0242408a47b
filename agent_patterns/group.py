"""group - several agents on one task: a fan-out, rounds in which they see each other's answers, one reducer.

    answer = yield from group(task, Group([a, b, c], rounds=2, topology="ring", reduce="majority"))

The topology decides only which answers of the round before a member is shown; who is asked, and how often, is the same in all:

    star   the hub (the leader, else the first member) sees everyone's, everyone sees the hub's
    mesh   everyone sees everyone's
    ring   member i sees that of member i - 1, the first that of the last

A leader is one of the members and writes the answer when the reducer needs a writer. Rounds end early when all say the same. Cost:
members x rounds, and one call for a reducer of `reduce.MODEL`. A member that fails is not asked again; its last answer counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent_core.effects import All, Call, Note
from agent_core.errors import (
    AgentError,
    Cancelled,
    DeadlineError,
    DivergedError,
    QuorumLimit,
    StoreError,
    UsageError,
    WaitingError,
)
from agent_core.members import Member
from agent_core.task import Answer, compose, split
from agent_patterns.novelty import agreement
from agent_patterns.reduce import MODEL, Rules, normal, reduced_by

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent_core.effects import Pattern
    from agent_core.task import Task
    from agent_patterns.reduce import Reduced

AGREEMENT = "mean over all pairs of answers of shared/(a + b - shared), words and numbers counted as often as they occur"
REVISE = (
    "This is round {number} of {rounds}. Below are answers to this task: your own of the round before, and those of others that "
    "you are shown. Weigh them, correct yourself where they are right, keep what you can defend, and give your whole answer again."
)
CONTINUE = "Below is what others have made of this task so far. Build on it: correct and improve it, and give the whole result."
_FATAL = (DivergedError, DeadlineError, WaitingError, StoreError, Cancelled)


@dataclass(frozen=True, slots=True)
class Group:
    """Who works together and how.

    `members` and `leader` are anything a Call can run, with different names. `briefs` are words put before the task for a member.
    `enough`: stop a round at that fraction of answers and cancel the rest; `limit`: at most that many at a time. `full`: later
    rounds show all earlier rounds, not just the last. `early`: stop when all say the same.
    """

    members: Sequence[Any]
    leader: Any = None
    rounds: int = 1
    topology: str = "star"
    process: str = "parallel"
    reduce: str = "synthesis"
    rules: Rules = field(default_factory=Rules)
    enough: float | None = None
    limit: int | None = None
    briefs: Mapping[str, str] = field(default_factory=dict)
    full: bool = False
    revise: str = REVISE
    early: bool = True

    @property
    def everyone(self) -> list[Any]:
        """The leader, if there is one, and the members."""
        return [*([] if self.leader is None else [self.leader]), *self.members]


@dataclass(slots=True)
class Talk:
    """What was said: for each round the answers by name; who failed and why; who was cancelled; how many answers were passed on."""

    rounds: list[dict[str, str]] = field(default_factory=list)
    failures: dict[str, AgentError] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    messages: int = 0

    def latest(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Return the last answer of each of the names that gave one."""
        last = {name: text for said in self.rounds for name, text in said.items()}
        return [(name, last[name]) for name in names if name in last]


def three() -> Group:
    """Return the group that `--pattern group` is: three members that are alike, and a synthesis."""
    return Group([Member(f"member-{number}") for number in (1, 2, 3)])


def group(task: Task, plan: Group | None = None) -> Pattern:
    """Return the group's answer (see `result`)."""
    plan = plan or three()
    talk = yield from discuss(task, plan)
    answers = talk.latest(names_of(plan))
    instruction, _ = split(task.text)
    rules = replace(plan.rules, question=instruction, judge=plan.rules.judge or plan.leader)
    reduced = yield from reduced_by(plan.reduce, answers, rules)
    talk.messages += len(answers) if plan.reduce in MODEL and len(answers) > 1 else 0
    answer = result(plan, talk, reduced)
    if answer.status == 3:
        yield Note("notice", {"text": reduced.why})
    return answer


def names_of(plan: Group) -> list[str]:
    """Return the names of all who are asked, in order; UsageError where two are the same, or nobody is there."""
    names = [str(member.name) for member in plan.everyone]
    twice = (
        next((name for index, name in enumerate(names) if name in names[:index]), None) if len(set(names)) < len(names) else None
    )
    if twice is not None:
        raise UsageError(f"two members are named {twice!r}", hint="give each a name of its own")
    if not names:
        raise UsageError("a group needs members", hint="--member NAME, once for each")
    return names


def discuss(task: Task, plan: Group) -> Pattern:
    """Return the Talk of a group. If nobody answers, the first error is raised."""
    names = names_of(plan)
    talk = Talk()
    for number in range(plan.rounds):
        seen = (yield from _in_turn(task, plan, talk)) if plan.process == "sequential" else (yield from _at_once(task, plan, talk))
        talk.rounds.append(seen)
        if plan.early and number + 1 < plan.rounds and _settled(talk.latest(names)):
            break
    if not any(talk.rounds):
        raise next(iter(talk.failures.values()))
    return talk


def _settled(answers: Sequence[tuple[str, str]]) -> bool:
    """Return whether another round could change nothing: one answer, or all the same."""
    return len({normal(text) for _, text in answers}) <= 1


def _at_once(task: Task, plan: Group, talk: Talk) -> Pattern:
    asked = [member for member in plan.everyone if member.name not in talk.failures]
    names = [str(member.name) for member in plan.everyone]
    calls = [Call(member, _message(task, plan, talk, names, str(member.name))) for member in asked]
    outcomes = yield from fan(calls, plan.enough, plan.limit)
    return (yield from _taken(asked, outcomes, talk))


def _in_turn(task: Task, plan: Group, talk: Talk) -> Pattern:
    """Ask one after another; each is shown what those before made in this round."""
    seen: dict[str, str] = {}
    names = [str(member.name) for member in plan.everyone]
    for member in plan.everyone:
        if member.name in talk.failures:
            continue
        message = _message(task, plan, talk, names, str(member.name))
        if seen:
            talk.messages += len(seen)
            message = _with(task, plan, str(member.name), CONTINUE, list(seen.items()))
        outcomes = yield from fan([Call(member, message)])
        seen |= yield from _taken([member], outcomes, talk)
    return seen


def _taken(asked: Sequence[Any], outcomes: Sequence[Any], talk: Talk) -> Pattern:
    """Sort outcomes into answers (returned), failures (told, too) and cancelled ones."""
    seen: dict[str, str] = {}
    for member, outcome in zip(asked, outcomes, strict=True):
        if outcome is None:
            talk.cancelled.append(str(member.name))
        elif isinstance(outcome, AgentError):
            talk.failures[str(member.name)] = outcome
            yield Note("notice", {"text": f"{member.name} failed: {outcome}"})
        else:
            seen[str(member.name)] = str(outcome)
    return seen


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
    except _FATAL as error:
        stopped.append(error)
        raise
    except AgentError as error:
        failed.append(error)
        if len(failed) <= spare:
            raise
        return error


# --- what a member is told -----------------------------------------------------------------------------------------


def visible(topology: str, names: Sequence[str], name: str) -> list[str]:
    """Return whose answers a member is shown; the first of the names is the hub of a star.

    >>> visible("star", "hab", "a"), visible("mesh", "hab", "a"), visible("ring", "hab", "h")
    (['h'], ['h', 'b'], ['b'])
    """
    if topology == "ring":
        before = names[names.index(name) - 1]
        return [before] if before != name else []
    if topology == "star" and name != names[0]:
        return [names[0]]
    return [other for other in names if other != name]


def _message(task: Task, plan: Group, talk: Talk, names: Sequence[str], name: str) -> str:
    """Return what a member is asked in the next round."""
    if not talk.rounds:
        return f"{plan.briefs[name]}\n\n{task.text}" if name in plan.briefs else task.text
    sources = visible(plan.topology, names, name)
    shown = talk.rounds if plan.full else talk.rounds[-1:]
    others = [
        (f"{source}, round {number}" if plan.full else source, said[source])
        for number, said in enumerate(shown, 1)
        for source in sources
        if source in said
    ]
    talk.messages += len(others)
    own = [("your own answer", said[name]) for said in reversed(talk.rounds) if name in said][:1]
    rule = plan.revise.format(number=len(talk.rounds) + 1, rounds=plan.rounds)
    return _with(task, plan, name, rule, [*own, *others])


def _with(task: Task, plan: Group, name: str, rule: str, answers: Sequence[tuple[str, str]]) -> str:
    """Return the task with more words after its instruction and more material after its own."""
    instruction, materials = split(task.text)
    words = [plan.briefs.get(name, ""), instruction, rule]
    return compose("\n\n".join(word for word in words if word), [*materials, *answers])


# --- what came of it -----------------------------------------------------------------------------------------------


def result(plan: Group, talk: Talk, reduced: Reduced, **more: Any) -> Answer:
    """Return the answer with its structured value; status 3 where the reducer found none, 4 where too few answered."""
    names = names_of(plan)
    answers = talk.latest(names)
    wanted = needed(plan.enough, len(names)) if plan.enough is not None else 1
    met = len(answers) >= wanted
    value = {
        "answer": reduced.answer, "answers": [{"agent": name, "output": text} for name, text in answers], "by": list(reduced.by),
        "reduce": plan.reduce, "scores": dict(reduced.scores), "decided": reduced.met, "why": reduced.why or None,
        "topology": plan.topology, "rounds_completed": len(talk.rounds), "messages_exchanged": talk.messages,
        **agreed([text for _, text in answers]),
        "failure_count": len(talk.failures), "failures": failures(talk.failures), "cancelled": list(talk.cancelled),
        "threshold": plan.enough, "threshold_met": met, **more,
    }  # fmt: skip
    if not met:
        return Answer(reduced.answer, value, 4, f"{len(answers)} of {len(names)} answered and {wanted} are needed")
    if not reduced.met:
        return Answer("", value, 4 if plan.reduce == "quorum" else 3, reduced.why)
    return Answer(reduced.answer, value)


def agreed(texts: Sequence[str]) -> dict[str, Any]:
    """Return the agreement of texts (None for fewer than two) and the formula it was made by."""
    return {"agreement": agreement(texts), "agreement_formula": AGREEMENT}


def failures(found: Mapping[str, AgentError]) -> list[dict[str, str]]:
    """Return failures as data."""
    return [{"agent": name, "error": error.line(), "code": error.code} for name, error in found.items()]
