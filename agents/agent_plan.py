"""agent-plan - expand a task into steps by methods, without a model; check files that declare patterns.

    agent-plan expand TASK --methods FILE [--world NAME=VALUE]...
    agent-plan check FILE                  a methods, chain, routes or roster file: file and line of what is wrong

`expand` prints one step a line, as JSON with depth, task, tool and arguments; `agent-graph run -` carries them out. Methods say
which subtasks a task has and in which world they may be used; the most specific method that fits is tried first, whatever the
order of the file. A step that needs a value which the world does not have is an error.

    $ agent-plan expand ResearchCompany --methods research.toml --world company=ACME --world company_type=public
"""

from __future__ import annotations

import json

from agent_core import Agent
from agent_core.errors import InputError, UsageError
from agent_core.task import Answer


def expand(task: str, methods: str = "", world: list[str] | None = None, max_depth: int = 16, max_plan_steps: int = 256) -> Answer:
    """Print the steps of a task, one JSON object a line.

    Args:
        task: the task's name.
        methods: the methods, as TOML.
        world: what is the case, as NAME=VALUE.
        max_depth: levels below the task.
        max_plan_steps: steps in all.
    """
    from agent_patterns import expansion, htn
    from agent_patterns.methods import domain, load

    if not methods:
        raise UsageError("expand needs methods", hint="--methods FILE")
    facts = dict(htn.fact(each) for each in world or ())
    rows = [row.data() for row in expansion.expand(task, domain(load(methods)), facts, max_depth, max_plan_steps)]
    return Answer("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), {"task": task, "steps": rows})


def check(file: str) -> Answer:
    """Say whether a file that declares a pattern is right; status 65 with file and line if it is not.

    Args:
        file: a methods, chain, routes or roster file.
    """
    from agent_patterns import chain, desks, methods, router, tables

    kinds = {
        "stage": ("chain", chain.load), "route": ("routes", router.load), "agent": ("roster", desks.load),
        "method": ("methods", methods.load), "primitive": ("methods", methods.load),
    }  # fmt: skip
    found = tables.parse(file, tables.read(file))
    kind = next((kinds[key] for key in kinds if key in found), None)
    if kind is None:
        wanted = "[[method]], [[primitive]], [[stage]], [route.NAME] or [agent.NAME]"
        raise InputError(f"{file}:1: this file declares nothing", hint=f"it needs {wanted}")
    name, load = kind
    data = load(file)
    counts = {key: len(data[key]) for key in kinds if key in data}
    return Answer(f"ok: {name}, {', '.join(_counted(key, count) for key, count in counts.items())}", {"kind": name, **counts})


def _counted(word: str, count: int) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


agent = Agent(
    __doc__,
    commands=[expand, check],
    stdin="none",
    examples=["agent-plan expand ResearchCompany --methods research.toml --world company_type=public"],
    tags=["plan", "htn", "offline"],
    when_to_use="A task has a known recipe that depends on facts; the steps are wanted without a model.",
)
main = agent.main

if __name__ == "__main__":
    main()
