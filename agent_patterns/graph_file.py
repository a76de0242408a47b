"""graph_file - read and check the TOML files of graphs; what is wrong in one is told with file and line.

    plan = load("support.toml", read, known)       # InputError: support.toml:12: node "refund": no agent "cleric" …

`read` returns the text of a file, so this module touches none itself; `known` says which tools and registered agents there are.
docs/graphs.md describes the format, `graph_tables` its tables; `graph_nodes` makes and checks the nodes, `graph_shape` the whole.
"""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent_core.errors import InputError
from agent_core.options import unknown
from agent_patterns import tables
from agent_patterns.graph_forms import read_crew, read_plan, read_script
from agent_patterns.graph_nodes import node
from agent_patterns.graph_shape import Graph, starts, tangles
from agent_patterns.graph_tables import (
    AgentTable,
    File,
    Known,
    Mind,
    NodeTable,
    Sheet,
    TaskTable,
    Wrong,
    holds,
)
from agent_patterns.tables import At, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


MOST_TOLD = 10
MOST_NODES = 20_000


# -- reading ---------------------------------------------------------------------------------------------------------------------


def load(path: str, read: Callable[[str], str], known: Known, process: str = "", above: tuple[str, ...] = ()) -> Graph:
    """Return the graph that a file declares.

    Args:
        path: the file; graphs and schemas that it names are looked for beside it.
        read: returns the text of a file (MissingInput if there is none).
        known: which tools and agents there are.
        process: sequential, parallel or hierarchical, instead of what a crew file says.
        above: the files that led here, so that a graph cannot contain itself.

    Raises:
        InputError: it is no TOML, or something in it is wrong; the message has `FILE:LINE:` and up to ten problems.
    """
    text = read(path)
    sheet = Sheet(path, text, read, known, above=(*above, path))
    sheet.inner = lambda inner: load(inner, read, known, above=sheet.above)
    lines = text.lstrip().startswith("{")
    try:
        read_plan(sheet) if lines else _read_tables(sheet, process)
    except Wrong as wrong:
        sheet.problems.append(wrong.problem)
    plan = _built(sheet) if not sheet.problems else None
    if plan is None or sheet.problems:
        raise _told(sheet, lines=lines)
    return plan


def _told(sheet: Sheet, *, lines: bool) -> InputError:
    problems = list(dict.fromkeys(sheet.problems))
    places = [int(each.at[0]) + 1 if lines and each.at else line_of(sheet.text, each.at) for each in problems[:MOST_TOLD]]
    told = sorted(zip(places, [each.text for each in problems], strict=False))
    rest = f"; and {len(problems) - MOST_TOLD} more" if len(problems) > MOST_TOLD else ""
    return InputError("; ".join(f"{sheet.path}:{line}: {text}" for line, text in told) + rest, hint="docs/graphs.md has every key")


def line_of(text: str, at: At) -> int:
    """Return the line (from 1) of the statement that put a place (keys and indices) into a TOML text.

    The reader itself is the judge: a prefix of lines can be read if and only if it ends between two statements (or, closed with a
    bracket, between two items of an array), and what it holds only grows. So the first that holds the place is found by halving.
    """
    rows = text.split("\n")
    whole = _prefix(rows, len(rows))
    while at and not holds(whole, at):
        at = at[:-1]
    low, high = 0, len(rows)
    if not at or whole is None:
        return 1
    while high - low > 1:
        cut = middle = (low + high) // 2
        while (found := _prefix(rows, cut)) is None:
            cut += 1
        low, high = (low, middle) if holds(found, at) else (cut, high)
    blank = (row for row in range(low, len(rows)) if rows[row].strip() and not rows[row].lstrip().startswith(("#", "]")))
    return next(blank, low) + 1


def _prefix(rows: Sequence[str], count: int) -> dict[str, Any] | None:
    import tomllib

    for closing in ("", "\n]"):
        try:
            return tomllib.loads("\n".join(rows[:count]) + closing)
        except (tomllib.TOMLDecodeError, RecursionError):
            continue
    return None


def _read_tables(sheet: Sheet, process: str) -> None:
    """Read a TOML file: check its shape, then turn tasks or steps into nodes."""
    data = sheet.data = tables.parse(sheet.path, sheet.text)
    sheet.problems += [_suggested(each) for each in tables.problems(data, File)]
    forms = [form for form in ("nodes", "tasks", "steps") if data.get(form)]
    if sheet.problems:
        return
    if len(forms) != 1:
        what = "nothing" if not forms else " and ".join(forms)
        raise Wrong(
            (forms[1],) if forms else (), f"the file declares {what}: it needs one of [nodes.NAME], [tasks.NAME] and [[steps]]"
        )
    if process and forms != ["tasks"]:
        raise Wrong((), "--process is for files with [tasks.NAME]")
    if forms == ["nodes"]:
        sheet.nodes = {name: dict(table) for name, table in data["nodes"].items()}
        sheet.places = {name: ("nodes", name) for name in sheet.nodes}
    elif forms == ["tasks"]:
        read_crew(sheet, process or data.get("process", "sequential"))
    else:
        read_script(sheet)


def _suggested(problem: Problem) -> Problem:
    """Add the nearest key to a problem with one that nobody knows."""
    if not problem.text.endswith("is no known key") or not problem.at:
        return problem
    tables_: dict[str, Any] = {"nodes": NodeTable, "tasks": TaskTable, "agents": AgentTable}
    keys = sorted(tables_.get(str(problem.at[0]), File).__dataclass_fields__)
    return Problem(problem.at, f"{problem.text} ({unknown('key', str(problem.at[-1]), keys).hint})")


# -- building --------------------------------------------------------------------------------------------------------------------


def _built(sheet: Sheet) -> Graph | None:
    """Return the graph of a sheet; None if something in it is wrong (`sheet.problems` says what)."""
    _read_minds(sheet)
    if len(sheet.nodes) > MOST_NODES:
        raise Wrong((), f"{len(sheet.nodes)} nodes are more than {MOST_NODES}")
    nodes = {name: node(sheet, name, table) for name, table in sheet.nodes.items()}
    data = sheet.data
    if data.get("parallel", 1) < 1:
        sheet.problems.append(Problem(("parallel",), "parallel: at least 1"))
    dependents: dict[str, tuple[str, ...]] = {}
    for name, made in nodes.items():
        for source in made.after:
            dependents[source] = (*dependents.get(source, ()), name)
    title = data.get("name") or posixpath.basename(sheet.path).removesuffix(".toml").removeprefix("graph-")
    plan = Graph(
        title, nodes, (), {**data.get("vars", {}), **sheet.variables}, data.get("parallel", 4),
        data.get("on_failure") == "continue", dependents, sheet.minds,
    )  # fmt: skip
    if sheet.problems:
        return None
    plan = replace(plan, start=starts(plan))
    for name, key, text in tangles(plan):
        sheet.problems.append(Problem(sheet.at(name, key), f'node "{name}": {text}' if name else text))
    return plan


def _read_minds(sheet: Sheet) -> None:
    for name, data in sheet.data.get("agents", {}).items():
        table = AgentTable(**data)
        place: At = ("agents", name)
        parts = [
            f"You are {table.role.strip().rstrip('.')}." if table.role else "",
            f"Your goal: {table.goal.strip()}" if table.goal else "", table.backstory.strip(), table.system.strip(),
        ]  # fmt: skip
        for tool in table.tools:
            if tool not in sheet.known.tools:
                sheet.problems.append(
                    Problem((*place, "tools"), f'agent "{name}": {unknown("tool", tool, list(sheet.known.tools)).line()}')
                )
        if any("{{" in part for part in parts):
            sheet.problems.append(Problem(place, f'agent "{name}": {{{{ … }}}} belongs into prompts'))
        if table.call and not sheet.known.agent(table.call):
            sheet.problems.append(Problem((*place, "call"), f'agent "{name}": no agent "{table.call[:80]}" is registered'))
        sheet.minds[name] = Mind(name, "\n\n".join(part for part in parts if part), table, sheet.minds)
