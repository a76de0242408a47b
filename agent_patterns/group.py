"""group - several agents on one task: a fan-out, rounds in which they see each other's answers, one reducer.

    answer = yield from group(task, Group([a, b, c], rounds=2, topology="ring", reduce="majority"))

The topology (`talk`) decides whose answers of the round before a member is shown.
A leader is one of the members and writes the answer when the reducer needs a writer. Rounds end early when all say the same. Then,
with a `rework` policy, members answer anew on what is new to them. Cost: members x rounds, and one call for a reducer of
`reduce.MODEL`. A member that fails is not asked again; its last answer counts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent_core.effects import Call, Note
from agent_core.errors import AgentError, UsageError
from agent_core.members import Member
from agent_core.task import Answer, split
from agent_patterns.fan_out import fan, needed
from agent_patterns.novelty import agreement
from agent_patterns.reduce import MODEL, normal, reduced_by
from agent_patterns.rework import reworked
from agent_patterns.rework_rules import Said
from agent_patterns.talk import CONTINUE, Group, Talk, message, visible, with_more

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent_core.effects import Pattern
    from agent_core.task import Task
    from agent_patterns.reduce import Reduced
    from agent_patterns.rework_rules import Policy

AGREEMENT = "mean over all pairs of answers of shared/(a + b - shared), words and numbers counted as often as they occur"


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
    if plan.rework is not None:
        yield from _anew(task, plan, plan.rework, talk)
    return talk


def _anew(task: Task, plan: Group, policy: Policy, talk: Talk) -> Pattern:
    """Let those who have answered do so again where the policy wants it; their new answers take the place of the old ones."""
    names = names_of(plan)
    said = [Said(name, task.text, text) for name, text in talk.latest(names) if name not in talk.failures]
    members = [member for member in plan.everyone if str(member.name) in {each.agent for each in said}]
    work = yield from reworked(members, said, policy, lambda name: visible(plan.topology, names, name), plan.validator, plan.limit)
    talk.rounds[-1].update({name: each.answer for name, each in work.said.items()})
    talk.failures |= work.failures
    talk.messages += work.passed
    talk.rework = work.data()


def _settled(answers: Sequence[tuple[str, str]]) -> bool:
    """Return whether another round could change nothing: one answer, or all the same."""
    return len({normal(text) for _, text in answers}) <= 1


def _at_once(task: Task, plan: Group, talk: Talk) -> Pattern:
    asked = [member for member in plan.everyone if member.name not in talk.failures]
    names = [str(member.name) for member in plan.everyone]
    calls = [Call(member, message(task, plan, talk, names, str(member.name))) for member in asked]
    outcomes = yield from fan(calls, plan.enough, plan.limit)
    return (yield from _taken(asked, outcomes, talk))


def _in_turn(task: Task, plan: Group, talk: Talk) -> Pattern:
    """Ask one after another; each is shown what those before made in this round."""
    seen: dict[str, str] = {}
    names = [str(member.name) for member in plan.everyone]
    for member in plan.everyone:
        if member.name in talk.failures:
            continue
        words = message(task, plan, talk, names, str(member.name))
        if seen:
            talk.messages += len(seen)
            words = with_more(task, plan, str(member.name), CONTINUE, list(seen.items()))
        outcomes = yield from fan([Call(member, words)])
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
        "threshold": plan.enough, "threshold_met": met, **({"rework": talk.rework} if talk.rework is not None else {}), **more,
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
