"""htn - a task is expanded by methods into steps, without a model; the steps are then carried out.

Good for work whose recipe is known. Cost: none for the plan; one call of a tool a step, or a react loop for a step with a prompt.

    $ assistant ResearchCompany --pattern htn --methods research.toml --world company=ACME --world company_type=public

Which methods fit, and in which order they are tried, is said in `expansion`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_core.errors import InputError, UsageError
from agent_core.options import Option
from agent_core.task import split
from agent_patterns import steps, tables
from agent_patterns.expansion import expand
from agent_patterns.methods import Domain, domain, load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_core.effects import Pattern
    from agent_core.task import Task


def fact(text: str) -> tuple[str, str]:
    """Return the pair that `k=v` says; UsageError if it is none."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise UsageError(f"--world: {text[:80]!r} is not NAME=VALUE", hint="--world company_type=public")
    return name, value


def _fact(text: str) -> str:
    return "=".join(fact(text))


OPTIONS = (
    Option("methods", "htn: the methods, as TOML", "path", parse=tables.flag(load), metavar="FILE"),
    Option("world", "htn: what is the case", "text", repeat=True, default=(), parse=_fact, metavar="NAME=VALUE"),
    Option("goal", "htn: the task to expand; the words otherwise", "text", metavar="TASK"),
    Option("keep-going", "htn: go on after a step that failed"),
)


def htn(task: Task, known: Domain | None = None, world: Mapping[str, Any] | None = None) -> Pattern:
    """Return what the last step came to; the steps are the value. Status 4 if a step failed."""
    known = known or _declared(task)
    facts = {**dict(map(fact, task.option("world", ()))), **(world or {})}
    goal = task.option("goal") or split(task.text)[0].strip()
    if not goal:
        raise InputError("no task to expand", hint="name one: words or --goal")
    rows = expand(goal, known, facts)
    planned = [
        steps.Step(str(number), row.prompt or row.description or row.task, row.tool, row.arguments, react=bool(row.prompt))
        for number, row in enumerate(rows, 1)
    ]
    done = yield from steps.carry_out(task, planned, steps.Rules(keep_going=bool(task.option("keep_going"))))
    return steps.answer(done)


def _declared(task: Task) -> Domain:
    data = tables.data(task.option("methods"))
    if data is None:
        raise UsageError("the pattern htn needs methods", hint="--methods FILE")
    return domain(data)
