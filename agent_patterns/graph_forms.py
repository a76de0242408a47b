"""graph_forms - how a crew, a script or a plan becomes nodes.

    [tasks.NAME]                   a crew: tasks in order, as soon as they can, or under a manager (`process`)
    [[steps]]                      a script with branch, parallel and loop
    {"tool": …, "arguments": …}    lines of `agent-plan expand`

Each fills a `Sheet` (`graph_tables`) with nodes as plain tables.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agent_core.options import unknown
from agent_patterns import tables
from agent_patterns.graph_tables import NAME, PASSED_ON, AgentTable, File, Mind, Sheet, TaskTable, Wrong
from agent_patterns.tables import At, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


# -- plans -----------------------------------------------------------------------------------------------------------------------


def read_plan(sheet: Sheet) -> None:
    """Read lines of `agent-plan expand`: each a tool call, or a prompt for a mind; one after another."""
    last = ""
    for number, row in enumerate(sheet.text.split("\n")):
        if not row.strip():
            continue
        try:
            step = json.loads(row)
        except (ValueError, RecursionError):
            raise Wrong((number,), "not JSON: a step a line is expected, as agent-plan expand prints them") from None
        if not isinstance(step, dict):
            raise Wrong((number,), "a step is a JSON object")
        name = f"step-{len(sheet.nodes) + 1}"
        sheet.places[name] = (number,)
        sheet.nodes[name] = {**_planned(sheet, name, step), "after": [last] if last else []}
        last = name


def _planned(sheet: Sheet, name: str, step: Mapping[str, Any]) -> dict[str, Any]:
    """Return one step of a plan as a node. Its texts become variables: whatever stands in them is no template."""
    tool = step.get("tool") if step.get("tool") != "none" else ""
    words = str(step.get("prompt") or step.get("description") or step.get("task") or "")
    if isinstance(tool, str) and tool and not step.get("prompt"):
        given = step.get("arguments") or {}
        if not isinstance(given, dict):
            raise Wrong(sheet.places[name], "arguments are a JSON object")
        sheet.variables |= {f"{name}-{place}": value for place, value in enumerate(given.values())}
        return {"tool": tool, "arguments": {key: f"{{{{ vars.{name}-{place} }}}}" for place, key in enumerate(given)}}
    sheet.variables[name] = words
    sheet.minds[name] = Mind(name, table=AgentTable(tools=[str(tool)] if tool else []))
    return {"agent": name, "prompt": f"{{{{ vars.{name} }}}}"}


# -- crews -----------------------------------------------------------------------------------------------------------------------


def read_crew(sheet: Sheet, process: str) -> None:
    """Turn tasks into nodes: one after another, each as soon as what it depends on is done, or under a manager."""
    tasks: dict[str, dict[str, Any]] = sheet.data["tasks"]
    sheet.keys = {"prompt": ("description",), "after": ("depends_on", "context")}
    last = ""
    for name, task in tasks.items():
        wanted = list(dict.fromkeys([*task.get("depends_on", ()), *task.get("context", ())]))
        chained = [last] if process == "sequential" and last and last not in wanted else []
        kept: dict[str, Any] = {"timeout": TaskTable.timeout, **{key: task[key] for key in PASSED_ON if key in task}}
        sheet.nodes[name] = {**kept, "prompt": task["description"], "after": [*wanted, *chained], "context": wanted or chained}
        sheet.places[name] = ("tasks", name)
        last = name
    if process == "hierarchical":
        _managed(sheet, tasks)


def _managed(sheet: Sheet, tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """Put a manager before the tasks, who says which agent does which and how, and after them, who makes one result of all."""
    first, final = "manager-plan", "manager-result"
    chief = sheet.data.get("manager") or "manager"
    if chief not in sheet.data.get("agents", {}):
        if sheet.data.get("manager"):
            raise Wrong(("manager",), f'no agent "{chief}" in this file')
        sheet.minds[chief] = Mind(
            chief, "You manage a crew: you assign tasks to the agents that fit them best, and answer for the result."
        )
    workers = [name for name in sheet.data.get("agents", {}) if name != chief] or [chief]
    ends = [name for name in tasks if not any(name in node["after"] for node in sheet.nodes.values())]
    for name in tasks:
        sheet.nodes[name] = {**sheet.nodes[name], "after": [first, *sheet.nodes[name]["after"]], "manager": first}
    sheet.variables |= {"crew": _listing(sheet.data.get("agents", {}), workers), "tasks": _listing(tasks, list(tasks))}
    plan = {
        "agent": chief, "schema": _assignments(list(tasks), workers),
        "prompt": "Goal: {{ input }}\n\nTasks:\n{{ vars.tasks }}\n\nAgents:\n{{ vars.crew }}\n\nAnswer with one JSON object: for "
        'each task {"agent": the name of the agent that is to do it, "instruction": what else that agent should know}.',
    }  # fmt: skip
    result = {
        "agent": chief, "after": ends, "final": True,
        "prompt": "All tasks are done. Goal: {{ input }}\n\nCheck the results against the goal and make one answer of them.",
    }  # fmt: skip
    sheet.nodes = {first: plan, **sheet.nodes, final: {**result, "context": list(tasks)}}


def _listing(rows: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str:
    shown = ("description", "role", "goal", "expected_output", "agent")
    return "\n".join(
        f"- {name}: {'; '.join(str(rows.get(name, {})[key]) for key in shown if rows.get(name, {}).get(key))}" for name in names
    )


def _assignments(tasks: Sequence[str], workers: Sequence[str]) -> dict[str, Any]:
    one = {
        "type": "object", "properties": {"agent": {"type": "string", "enum": list(workers)}, "instruction": {"type": "string"}},
        "required": ["agent"],
    }  # fmt: skip
    return {"type": "object", "properties": dict.fromkeys(tasks, one), "required": list(tasks)}


# -- scripts ---------------------------------------------------------------------------------------------------------------------


def read_script(sheet: Sheet) -> None:
    """Turn steps into nodes, one after another."""
    _sequence(sheet, sheet.data["steps"], ("steps",))


def _sequence(sheet: Sheet, steps: Any, at: At) -> tuple[str, str]:
    """Add steps that follow one another; return the first and the last node."""
    if not isinstance(steps, list) or not steps or not all(isinstance(step, dict) for step in steps):
        raise Wrong(at, f"{at[-1]}: a list of steps is expected")
    first = last = ""
    for place, step in enumerate(steps):
        entry, end = _step(sheet, step, (*at, place))
        first = first or entry
        if last:
            sheet.nodes[last].setdefault("next", []).append({"to": entry})
        last = end
    return first, last


def _step(sheet: Sheet, step: dict[str, Any], at: At) -> tuple[str, str]:
    """Add one step; return its first and its last node."""
    for form, add in (("branch", _branch), ("parallel", _parallel), ("loop", _loop)):
        if form in step:
            return add(sheet, step, at)
    table = {key: value for key, value in step.items() if key != "name"}
    problems = list(tables.problems({"nodes": {"step": table}}, File)) + [
        Problem((key,), f"a step has no {key}: its place says when it runs")
        for key in ("after", "next", "when", "join", "initial")
        if key in step
    ]
    if problems:
        raise Wrong((*at, *problems[0].at[-1:]), problems[0].text.removeprefix("nodes.step."))
    name = _added(sheet, step.get("name", "step"), table, at)
    return name, name


def _added(sheet: Sheet, wish: Any, table: dict[str, Any], at: At) -> str:
    """Add a node under a name of its own."""
    if not isinstance(wish, str) or not NAME.fullmatch(wish):
        raise Wrong((*at, "name"), "a name is letters, digits, - and _")
    name, number = wish, 1
    while name in sheet.nodes:
        number += 1
        name = f"{wish}-{number}"
    if number > 1 and wish not in {"step", "branch", "parallel", "loop", "end"}:
        raise Wrong((*at, "name"), f'two steps are named "{wish}"')
    sheet.nodes[name], sheet.places[name] = table, at
    return name


def _only(step: Mapping[str, Any], at: At, *keys: str) -> None:
    extra = [key for key in step if key not in {*keys, "name"}]
    if extra:
        raise Wrong((*at, extra[0]), f"{keys[0]}: {unknown('key', extra[0], keys).line()}")


def _branch(sheet: Sheet, step: dict[str, Any], at: At) -> tuple[str, str]:
    """Add `branch = CONDITION, if_true = […], if_false = […]`: the condition is about the step before."""
    _only(step, at, "branch", "if_true", "if_false")
    entry = _added(sheet, step.get("name", "branch"), {"next": []}, at)
    end = _added(sheet, "end", {}, at)
    for key, condition in (("if_true", step["branch"]), ("if_false", "always")):
        to = end
        if step.get(key):
            to, last = _sequence(sheet, step[key], (*at, key))
            sheet.nodes[last].setdefault("next", []).append({"to": end})
        sheet.nodes[entry]["next"].append({"to": to, "when": condition})
    return entry, end


def _parallel(sheet: Sheet, step: dict[str, Any], at: At) -> tuple[str, str]:
    """Add `parallel = [step, …]`: all at once; a step that is itself a list is a sequence."""
    _only(step, at, "parallel")
    lanes = step["parallel"]
    if not isinstance(lanes, list) or not lanes:
        raise Wrong((*at, "parallel"), "parallel: a list of steps is expected")
    entry = _added(sheet, step.get("name", "parallel"), {}, at)
    ends = []
    starts = []
    for place, lane in enumerate(lanes):
        steps = lane if isinstance(lane, list) else [lane]
        first, last = _sequence(sheet, steps, (*at, "parallel", place))
        starts.append(first)
        ends.append(last)
    sheet.nodes[entry]["next"] = [{"to": starts}]
    end = _added(sheet, "end", {"after": ends}, at)
    return entry, end


def _loop(sheet: Sheet, step: dict[str, Any], at: At) -> tuple[str, str]:
    """Add `loop = [step, …], max_iters = N, until = CONDITION`: the condition is about the last step of the body."""
    _only(step, at, "loop", "max_iters", "until")
    most = step.get("max_iters")
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise Wrong((*at, "max_iters") if "max_iters" in step else at, "a loop needs max_iters (a whole number from 1)")
    entry = _added(sheet, step.get("name", "loop"), {"max_visits": most}, at)
    first, last = _sequence(sheet, step["loop"], (*at, "loop"))
    end = _added(sheet, "end", {}, at)
    sheet.nodes[entry]["next"] = [{"to": first}]
    until = [{"to": end, "when": step["until"]}] if "until" in step else []
    sheet.nodes[last].setdefault("next", []).extend([*until, {"to": end, "when": {"of": entry, "visits": most}}, {"to": entry}])
    return entry, end
