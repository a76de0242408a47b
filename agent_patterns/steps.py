"""steps - the steps of a plan, and how they are carried out: in waves, each of all steps whose needs are there.

    done = yield from carry_out(task, [Step("1", "find the price", tool="search"), Step("2", "write a line about it")])

Without needs the steps run one after another. With needs (ids of other steps) all that are ready run at once. A step that names
a tool calls it: with its arguments as they are, or with those that the model fills in. Any other step is one question.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent_core.effects import Act, All, Ask, Note
from agent_core.errors import RepeatLimit, StepLimit
from agent_core.messages import Image, ToolCall, system, user
from agent_core.task import DATA_RULE, Answer, compose
from agent_core.tool import Toolset, cap
from agent_patterns.react import react

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent_core.effects import Pattern
    from agent_core.messages import Message
    from agent_core.task import Task
    from agent_core.tool import Tool

SHOWN = 8 * 1024  # bytes of one step's output that later steps are shown
EXECUTOR = "You carry out one step of a plan. Do this step and nothing else; answer with its result alone."
_RESULT = re.compile(r"\{([\w.-]+)\}")


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `state` is pending, running, completed, failed or skipped; `arguments` None: the model fills them in."""

    id: str
    task: str
    tool: str = ""
    arguments: Mapping[str, Any] | None = None
    expected: str = ""
    needs: tuple[str, ...] = ()
    react: bool = False
    state: str = "pending"
    output: str = ""
    error: str = ""
    verified: bool = True

    def data(self) -> dict[str, Any]:
        """Return the step as JSON data, without what is empty."""
        shown = {"id": self.id, "task": self.task, "state": self.state}
        rest = {"tool": self.tool, "expected": self.expected, "needs": list(self.needs), "output": self.output, "error": self.error}
        return {**shown, **{k: v for k, v in rest.items() if v}, **({} if self.verified else {"unverified": True})}


@dataclass(frozen=True, slots=True)
class Rules:
    """How steps are carried out.

    `keep_going`: a failure does not end the plan; `lenient`: an unknown tool's step is answered by the model (and marked
    unverified); `react`: steps without a tool may use all of them, in a loop.
    """

    keep_going: bool = False
    lenient: bool = False
    react: bool = False


def carry_out(task: Task, steps: Sequence[Step], rules: Rules = Rules(), done: Sequence[Step] = ()) -> Pattern:
    """Return all steps with their states; `done` are those of an earlier plan. A step that is not pending stays as it is."""
    current = {step.id: step for step in steps}
    in_order = not any(step.needs for step in steps)
    yield planned(_rows(steps, in_order=in_order))
    while ready := _ready(current, rules, in_order=in_order):
        works = [_followed(step, carry_out_one(task, step, [*done, *_seen(step, current)], rules)) for step in ready]
        finished = (yield All(works)) if len(works) > 1 else [(yield works[0])]
        current |= {step.id: step for step in finished}
    whole = tuple(_skipped(step, current) for step in current.values())
    for step in whole:
        if step.state == "skipped":
            yield ended(step.id, step.state, step.error)
    return whole


def planned(rows: Sequence[tuple[str, str, Sequence[str]]]) -> Note:
    """Return the event that says which parts (name, task, names of those it needs) a run has; `agent-log status` reads it."""
    return Note("step.planned", {"steps": [{"id": name, "task": task, "needs": list(needs)} for name, task, needs in rows]})


def begun(name: str, task: str) -> Note:
    """Return the event that a planned part began."""
    return Note("step.started", {"id": name, "task": task})


def ended(name: str, state: str, error: str = "") -> Note:
    """Return the event that a planned part is completed, failed or skipped."""
    return Note("step.finished", {"id": name, "state": state, "error": error})


def _rows(steps: Sequence[Step], *, in_order: bool) -> list[tuple[str, str, Sequence[str]]]:
    before = [(), *((step.id,) for step in steps)] if in_order else [step.needs for step in steps]
    return [(step.id, step.task, needs) for step, needs in zip(steps, before, strict=False)]


def _followed(step: Step, work: Pattern) -> Pattern:
    """Do the work of a step and tell of it as it happens, also beside others."""
    yield begun(step.id, step.task)
    done: Step = yield from work
    yield ended(done.id, done.state, done.error)
    return done


def _ready(current: Mapping[str, Step], rules: Rules, *, in_order: bool) -> list[Step]:
    """Return the steps that can run now."""
    if not rules.keep_going and any(step.state == "failed" for step in current.values()):
        return []
    pending = [step for step in current.values() if step.state == "pending"]
    if in_order:
        return pending[:1]
    return [step for step in pending if all(current[need].state == "completed" for need in step.needs if need in current)]


def _seen(step: Step, current: Mapping[str, Step]) -> list[Step]:
    """Return the steps whose results a step is shown: those it needs, or all so far where it does not say."""
    return [each for each in current.values() if each.state == "completed" and (not step.needs or each.id in step.needs)]


def _skipped(step: Step, current: Mapping[str, Step]) -> Step:
    if step.state != "pending":
        return step
    failed = next((each.id for each in current.values() if each.state == "failed"), "")
    return replace(step, state="skipped", error=f"step {failed} failed" if failed else "a step it needs was skipped")


def carry_out_one(task: Task, step: Step, shown: Sequence[Step] = (), rules: Rules = Rules()) -> Pattern:
    """Return the step, completed or failed. Only limits of its own loop fail a step; other errors end the run."""
    tool = task.tools.get(step.tool) if task.tools is not None and step.tool else None
    if step.tool and tool is None and not rules.lenient:
        return replace(step, state="failed", error=_no_tool(task, step.tool))
    try:
        if step.react or (rules.react and tool is None):
            output, error = (yield from _loop(task, step, shown, tool)), ""
        elif tool is not None:
            output, error = yield from _by_tool(task, step, shown, tool)
        else:
            reply = yield Ask(_messages(task, step, shown))
            output, error = reply.text.strip(), ""
    except (StepLimit, RepeatLimit) as limit:
        output, error = "", str(limit)
    if not output and not error:
        error = "it came to nothing"
    checked = step.verified and not (step.tool and tool is None)
    return replace(step, state="failed" if error else "completed", output="" if error else output, error=error, verified=checked)


def _by_tool(task: Task, step: Step, shown: Sequence[Step], tool: Tool) -> Pattern:
    """Return (output, error) of the named tool: called as the plan says, or as the model fills it in."""
    if step.arguments or (step.arguments is not None and not tool.parameters.get("required")):
        outputs = {each.id: each.output for each in shown}
        calls: tuple[ToolCall, ...] = (ToolCall(f"step_{step.id}", tool.name, _filled(dict(step.arguments), outputs)),)
    else:
        reply = yield Ask(_messages(task, step, shown), Toolset((tool,)), tool_choice=tool.name)
        calls = tuple(call for call in reply.tool_calls if call.name == tool.name)
    if not calls:
        return "", f"the model did not call {tool.name}"
    message = (yield Act(calls))[0]
    failed = [part.text for part in message.parts if part.error]
    return ("", "; ".join(failed)) if failed else ("\n".join(part.text for part in message.parts) or "done", "")


def _loop(task: Task, step: Step, shown: Sequence[Step], tool: Tool | None) -> Pattern:
    first, *rest = _messages(task, step, shown)
    tools = task.tools if tool is None else Toolset((tool,))
    return (yield from react(replace(task, message=rest[-1], system=first.text, history=(), tools=tools, schema=None)))


def _messages(task: Task, step: Step, shown: Sequence[Step]) -> list[Message]:
    """Return what the model is asked for one step: the whole request and the results so far are data."""
    words = [f"Step {step.id}: {step.task}"]
    words += [f"Use the tool {step.tool}."] * bool(step.tool and not step.react)
    words += [f"Expected: {step.expected}"] * bool(step.expected)
    materials = [("the whole request", task.text), *((f"result of step {each.id}", cap(each.output, SHOWN)) for each in shown)]
    images = [part for part in task.message.parts if isinstance(part, Image)]
    head = "\n\n".join(part for part in (task.system.removesuffix(DATA_RULE).strip(), EXECUTOR, DATA_RULE) if part)
    return [system(head), user(compose("\n".join(words), materials), *images)]


def _filled(value: Any, outputs: Mapping[str, str]) -> Any:
    """Put the results of earlier steps where `{id}` stands, in one pass."""
    if isinstance(value, dict):
        return {name: _filled(each, outputs) for name, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, outputs) for each in value]
    return _RESULT.sub(lambda found: outputs.get(found[1], found[0]), value) if isinstance(value, str) else value


def _no_tool(task: Task, name: str) -> str:
    near = task.tools.nearest(name) if task.tools is not None else []
    return f"there is no tool named {name!r}" + (f" (did you mean {' or '.join(near)}?)" if near else "")


def counts(steps: Sequence[Step]) -> dict[str, int]:
    """Return how many steps there are, in all and by state."""
    states = ("completed", "failed", "skipped")
    return {"steps": len(steps), **{state: sum(step.state == state for step in steps) for state in states}}


def answer(steps: Sequence[Step]) -> Answer:
    """Return what the last completed step came to, with all steps as the value; status 4 if any was not completed."""
    last = next((step.output for step in reversed(steps) if step.state == "completed"), "")
    whole = all(step.state == "completed" for step in steps)
    return Answer(last, {"steps": [step.data() for step in steps], "counts": counts(steps)}, 0 if whole else 4)
