"""rework - those who have answered answer anew, as long as a policy (`rework_rules`) finds something new to tell them.

    work = yield from reworked([ann, bob], said, Policy(), sees)         # what `agent-team team … --rework peer` does

It goes in passes. In each, those who answered since the last pass are validated (one call each, with that trigger), everyone's
contexts are decided on, the cooldown is waited for, and whoever is to answer anew is asked once, at the same time as the others,
with all contexts that the policy let through. It ends when nobody is: after `max_restarts` passes at the latest. Cost: one call for
each new answer, and one for each validation.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent_core.checked import first_object
from agent_core.effects import Call, Note, Wait
from agent_core.errors import AgentError
from agent_core.members import Member
from agent_core.task import compose
from agent_patterns.fan_out import fan
from agent_patterns.rework_rules import FEEDBACK, PEER, PERSON, Context, decide, message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent_core.effects import Pattern
    from agent_patterns.rework_rules import Policy, Said

VALIDATE = (
    "Below are a question and an answer to it. Judge the answer strictly: what is wrong, missing or unproven? Answer with one JSON "
    'object: {"accept": true or false, "feedback": "what is wrong", "suggestions": ["what would mend it"]}.'
)
QUESTION = "anything new for those who have answered? (text, or no)"


@dataclass(slots=True)
class Work:
    """A rework as it goes: who said what last, who failed, what was decided, how many answers of peers were passed on."""

    said: dict[str, Said]
    failures: dict[str, AgentError] = field(default_factory=dict)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    passed: int = 0

    def data(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {"restarts": {name: said.restarts for name, said in self.said.items()}, "decisions": self.decisions}


def reworked(
    members: Sequence[Any],
    said: Sequence[Said],
    rules: Policy,
    sees: Callable[[str], Sequence[str]],
    validator: Any = None,
    limit: int | None = None,
) -> Pattern:
    """Let members answer anew as long as a policy wants it; return the Work.

    Args:
        members: who answered: whatever `Call` takes, with the names that `said` has.
        said: their answers.
        rules: the policy.
        sees: whose answers a member is shown, by names.
        validator: who gives feedback; without one it is the run's model.
        limit: so many at a time.
    """
    work = Work({each.agent: each for each in said})
    carriers = {str(member.name): member for member in members}
    told = (yield Wait(QUESTION)) if PERSON in rules.triggers and said else ""
    word = [] if str(told).strip().lower() in {"", "no", "n"} else [Context(PERSON, "a person", str(told))]
    fresh, now = list(work.said), 0.0
    while fresh:
        now += rules.cooldown
        feedback = yield from _validated(work, fresh, rules, validator or Member("validator"), limit)
        able = [name for name in carriers if name not in work.failures]
        news = {name: [*word, *feedback.get(name, ()), *_heard(work, name, fresh, rules, sees)] for name in able}
        due = yield from _decided(work, news, rules, now)
        if due and rules.cooldown:
            yield Wait(rules.cooldown)
        fresh = yield from _asked(work, [carriers[name] for name in due], due, (now, limit, rules.keep_previous))
        word = []
    return work


def _heard(work: Work, name: str, fresh: Sequence[str], rules: Policy, sees: Callable[[str], Sequence[str]]) -> list[Context]:
    """Return the new answers of the peers that a member is shown."""
    shown = sees(name) if PEER in rules.triggers else ()
    return [Context(PEER, other, work.said[other].answer) for other in shown if other in fresh]


def _validated(work: Work, fresh: Sequence[str], rules: Policy, validator: Any, limit: int | None) -> Pattern:
    """Return the feedback on new answers by name; those whose agent may not answer anew any more are not judged."""
    judged = [work.said[name] for name in fresh if work.said[name].restarts < rules.max_restarts]
    if FEEDBACK not in rules.triggers or not judged:
        return {}
    asked = [compose(VALIDATE, [("question", each.question), (f"answer of {each.agent}", each.answer)]) for each in judged]
    outcomes = yield from fan([Call(validator, text) for text in asked], None, limit)
    found: dict[str, list[Context]] = {}
    for each, outcome in zip(judged, outcomes, strict=True):
        context, problem = read_feedback(str(validator.name), outcome)
        if problem:
            yield Note("notice", {"text": f"no feedback on {each.agent}: {problem}"})
        found[each.agent] = [context] if context is not None else []
    return found


def read_feedback(by: str, outcome: Any) -> tuple[Context | None, str]:
    """Return (the feedback, "") of a validator's reply, (None, "") if it accepts, (None, what is wrong) if it cannot be read.

    >>> read_feedback("v", '{"accept": false, "feedback": "no source", "suggestions": ["name one"]}')[0].suggestions
    ('name one',)
    """
    if isinstance(outcome, AgentError):
        return None, outcome.line()
    row = first_object(str(outcome))
    if not isinstance(row, dict) or not isinstance(row.get("accept"), bool):
        return None, "the validator's reply cannot be read"
    given = row.get("suggestions")
    hints = tuple(each for each in given if isinstance(each, str)) if isinstance(given, list) else ()
    text = str(row.get("feedback") or "").strip() or "\n".join(hints)
    return (None, "") if row["accept"] or not text else (Context(FEEDBACK, by, text, hints), "")


def _decided(work: Work, news: Mapping[str, Sequence[Context]], rules: Policy, now: float) -> Pattern:
    """Return {name: contexts that it shall answer anew on}; every decision is told and kept."""
    due: dict[str, list[Context]] = {}
    for name, contexts in news.items():
        for context in contexts:
            decision = decide(rules, work.said[name], context, now)
            row = {"agent": name, "by": context.by, "trigger": context.trigger, **decision.data()}
            work.decisions.append(row)
            yield Note("rework", row)
            if decision.should_restart:
                due.setdefault(name, []).append(context)
    return due


def _asked(work: Work, members: Sequence[Any], due: Mapping[str, list[Context]], how: tuple[float, int | None, bool]) -> Pattern:
    """Ask those that are due, at once; return the names of those who answered. Whoever fails keeps what it said before."""
    now, limit, keep = how
    calls = [Call(member, message(work.said[str(member.name)], due[str(member.name)], keep=keep)) for member in members]
    outcomes = (yield from fan(calls, None, limit)) if calls else []
    fresh: list[str] = []
    for (name, contexts), outcome in zip(due.items(), outcomes, strict=True):
        before = work.said[name]
        work.passed += sum(context.trigger == PEER for context in contexts)
        if isinstance(outcome, AgentError):
            work.failures[name] = outcome
            yield Note("notice", {"text": f"{name} failed to answer anew: {outcome}"})
        else:
            fresh.append(name)
        answer = before.answer if isinstance(outcome, AgentError) else str(outcome)
        work.said[name] = replace(before, answer=answer, time=now, restarts=before.restarts + 1, taken=(*before.taken, *contexts))
    return fresh
