"""coordinate - cut a request into tasks, give each to the registered agent that fits, and close with what each did and cost.

    coordinator "refactor the auth module" --budget 0.50

1.  The tool `roster` says which agents are registered. Their cards are untrusted: they come to the model as material.
2.  The model plans: tasks, each with an agent, an input, and the tasks whose results it needs. Agents that are not registered,
    tasks that wait for each other in a circle and tasks beyond MOST are dropped, with a note.
3.  Tasks whose needs are met run side by side (`All` of `Call`). A task without needs gets the material of the request.
4.  If tasks failed, the model plans what is left once more, at most.
5.  The model answers from the results; they are material, too. What each task did and cost is added by this pattern, not by it.

Cost: two model calls (three with a new plan) and what the agents cost. Status 4 when a task failed and no new plan made up for it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent_core.checked import checked
from agent_core.effects import Act, All, Call, Note
from agent_core.errors import AgentError, DepthLimit, Failed
from agent_core.messages import ToolCall, ToolResult, system, user
from agent_core.task import DATA_RULE, Answer, compose, split
from agent_core.tool import Toolset
from agent_patterns.asks import ENDS
from agent_patterns.assignments import (
    INPUT,
    PLAN,
    RESULTS,
    ROSTER,
    Done,
    Step,
    Work,
    bill,
    listed,
    message_for,
    steps_of,
    with_facts,
)
from agent_patterns.steps import begun, ended, planned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_core.effects import Pattern
    from agent_core.task import Task

SIDE_BY_SIDE = 4
SHOWN = 12_000  # characters of a result that the closing model call is shown

CLOSING: dict[str, Any] = {"type": "object", "properties": {"answer": {"type": "string", "minLength": 1}}, "required": ["answer"]}
_ENDS = (*ENDS, DepthLimit)


def coordinate(task: Task) -> Pattern:
    """Return the closing answer; its value is {answer, steps: [{agent, task, status, cost_usd, run_id, output, problem}], notes}.

    Raises:
        Failed: no agent is registered, or no task of the plan could be done.
        ContractError: the model cannot make a plan.
    """
    request, materials = split(task.text)
    roster = yield from _roster(request)
    work = Work(request, materials, {str(card["name"]): card for card in roster})
    plan = yield from _planned(task, work)
    if not plan["tasks"] and plan.get("answer"):
        return Answer(plan["answer"], {"answer": plan["answer"], "steps": [], "notes": ["no agent was needed"]})
    yield from _carried_out(steps_of(plan, work), work)
    failed = [each for each in work.done.values() if not each.good]
    if failed:
        try:
            yield from _replanned(task, work, failed)
        except _ENDS:
            raise
        except AgentError as error:
            work.notes.append(f"no new plan for what failed: {error}")
    return (yield from _closed(task, work))


def _roster(request: str) -> Pattern:
    """Return the cards of the agents that may be called."""
    messages = yield Act((ToolCall("roster_1", "roster", {"request": request[:2000]}),))
    result = next(part for message in messages for part in message.parts if isinstance(part, ToolResult))
    if result.error is not None:
        raise Failed(f"cannot see which agents there are: {result.text}")
    found = [card for card in (result.value if isinstance(result.value, list) else ()) if card.get("name")]
    if not found:
        raise Failed("no agent is registered here", hint="agent-find adopt PROGRAM registers one")
    return found


# --- planning ----------------------------------------------------------------------------------------------------------------


def _planned(task: Task, work: Work, more: Sequence[tuple[str, str]] = (), said: str = "") -> Pattern:
    """Return the model's plan (see PLAN)."""
    wanted = f"{work.request}\n\nPlan the tasks for this request. {said}".strip()
    text = compose(wanted, [*work.materials, (ROSTER, listed(work.agents.values())), *more])
    return (yield from _asked(task, text, PLAN))


def _asked(task: Task, text: str, schema: dict[str, Any]) -> Pattern:
    """Return the model's reply to a text as a value that fits the schema."""
    rules = task.system if DATA_RULE in task.system else f"{task.system}\n\n{DATA_RULE}".strip()
    one = replace(task, message=user(text), system=rules, tools=Toolset(), schema=schema)
    return (yield from checked(_reply(one), one, schema)).value


def _reply(task: Task) -> Pattern:
    reply = yield task.ask([system(task.system), *task.history, task.message])
    return reply.text


# --- carrying out ------------------------------------------------------------------------------------------------------------


def _carried_out(steps: Sequence[Step], work: Work) -> Pattern:
    """Run steps in waves, side by side where their needs allow; a step whose need failed is not run."""
    left = list(steps)
    names = {step.id: step.name for step in steps}
    yield planned([(step.name, step.title, [names[need] for need in step.needs if need in names]) for step in steps])
    while left:
        wave = [step for step in left if all(need in work.done or need == INPUT for need in step.needs)]
        left = [step for step in left if step not in wave]
        able = [step for step in wave if all(need == INPUT or work.done[need].good for need in step.needs)]
        for step in wave:
            if step not in able:
                work.done[step.id] = Done(step, 6, problem="a task it needs failed")
                yield ended(step.name, "skipped", work.done[step.id].problem)
        for step in able:
            yield Note("notice", {"text": f"{step.agent}: {step.title}"})
        results = yield All([_one(step, message_for(step, work)) for step in able], limit=SIDE_BY_SIDE)
        for done in results:
            work.done[done.step.id] = done
            if not done.good:
                yield Note("notice", {"text": f"{done.step.agent} failed: {done.problem}"})


def _one(step: Step, message: str) -> Pattern:
    """Call one agent, and tell of it as it happens; its failure is a result."""
    yield begun(step.name, step.title)
    try:
        answer = yield Call(step.agent, message)
        done = with_facts(Done(step, 0, str(answer)), answer)
    except _ENDS:
        raise
    except AgentError as error:
        done = with_facts(Done(step, error.status, str(getattr(error, "partial", "")), error.line()), error)
    yield ended(step.name, "completed" if done.good else "failed", done.problem)
    return done


def _replanned(task: Task, work: Work, failed: Sequence[Done]) -> Pattern:
    """Plan once more what failed, and carry it out. Failures that a good new task follows count as mended."""
    rows = "\n".join(f"- {each.step.id} ({each.step.agent}): {each.problem}" for each in failed)
    said = "Some tasks of the first plan failed. Plan only what is left to do, another way; no tasks if there is none."
    finished = "\n".join(f"- {each.step.id} ({each.step.agent}): done" for each in work.done.values() if each.good)
    plan = yield from _planned(task, work, [("tasks that failed", rows), ("tasks that are done", finished or "none")], said)
    steps = steps_of(plan, work)
    yield Note("notice", {"text": f"{len(failed)} failed, {len(steps)} planned anew"})
    yield from _carried_out(steps, work)
    if steps and all(work.done[step.id].good for step in steps):
        for each in failed:
            work.done[each.step.id] = replace(each, mended=True)


# --- closing -----------------------------------------------------------------------------------------------------------------


def _closed(task: Task, work: Work) -> Pattern:
    """Return the answer with what each task did and cost."""
    good = [each for each in work.done.values() if each.good]
    failed = [each for each in work.done.values() if not each.good and not each.mended]
    if not good:
        problems = "; ".join(f"{each.step.agent}: {each.problem}" for each in failed) or "; ".join(work.notes)
        raise Failed(f"nothing was done: {problems or 'the plan had no task'}", hint="agent-find lists who there is")
    problem = f"{len(failed)} of {len(work.done)} tasks failed" if failed else ""
    try:
        answer = yield from _answered(task, work, good, failed)
    except _ENDS:
        raise
    except AgentError as error:
        problem = f"no closing answer: {error}"
        answer = "\n\n".join(f"{each.step.agent}:\n{each.output}" for each in good)
    notes = [*work.notes, *([problem] if problem else [])]
    text = "\n".join([answer.rstrip(), "", *bill(work.done.values()), *(f"note: {note}" for note in notes)])
    value = {"answer": answer, "steps": [each.row() for each in work.done.values()], "notes": notes}
    return Answer(text, value, 4 if problem else 0, problem)


def _answered(task: Task, work: Work, good: Sequence[Done], failed: Sequence[Done]) -> Pattern:
    shown = [(f"{RESULTS}: {each.step.agent}", each.output[:SHOWN]) for each in good]
    lost = [f"{each.step.agent} ({each.step.title}): {each.problem}" for each in failed]
    said = f"These tasks failed; say what is missing: {'; '.join(lost)}" if lost else ""
    wanted = f"{work.request}\n\nThe agents have answered. Answer the request from their results alone. {said}".strip()
    return (yield from _asked(task, compose(wanted, shown), CLOSING))["answer"]
