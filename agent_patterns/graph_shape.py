"""graph_shape - what a graph is, and what can be said of it as a whole: cycles, what can never run, numbers, a picture.

Every walk is iterative and linear in nodes and edges, so a graph of thousands of nodes is checked in an instant.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent_patterns.conditions import ON_SUCCESS, Condition

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SHAPES = {"agent": "box", "tool": "component", "graph": "folder", "ask": "hexagon", "approve": "hexagon", "state": "ellipse"}


@dataclass(frozen=True, slots=True)
class Edge:
    """A transition: where to (several: all of them), and when. Edges of a node are in the order in which they are tried."""

    to: tuple[str, ...]
    when: Condition = ON_SUCCESS


@dataclass(frozen=True, slots=True)
class Node:
    """One step. `kind`: agent, tool, graph, ask, approve or state (does nothing); `target`: a name or a Graph; `plain`: no mind."""

    name: str
    kind: str = "agent"
    target: Any = ""
    prompt: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    over: str = ""
    after: tuple[str, ...] = ()
    when: Condition = ON_SUCCESS
    join: str = "all"
    next: tuple[Edge, ...] = ()
    max_visits: int = 0
    timeout: float | None = None
    parallel: int = 0
    schema: Mapping[str, Any] | None = None
    expected: str = ""
    manager: str = ""
    plain: bool = False
    initial: bool = False
    final: bool = False
    stop_before: bool = False
    review: bool = False
    memory: bool = False
    context: tuple[str, ...] | None = None
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """A checked graph (`agent_patterns.graph_file` makes them): nodes in file order, where it starts, and how it runs."""

    name: str
    nodes: Mapping[str, Node]
    start: tuple[str, ...]
    variables: Mapping[str, Any] = field(default_factory=dict)
    parallel: int = 4
    go_on: bool = False
    dependents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    minds: Mapping[str, Any] = field(default_factory=dict)

    @property
    def finals(self) -> tuple[str, ...]:
        """The nodes whose output is the answer: those declared final, else those that nothing follows."""
        ends = tuple(name for name, node in self.nodes.items() if node.final)
        return ends or tuple(name for name, node in self.nodes.items() if not node.next and not self.dependents.get(name))


# -- checking --------------------------------------------------------------------------------------------------------------------


def _ways(plan: Graph) -> dict[str, list[str]]:
    """Return where each node can lead: its transitions, up to one that always fits, and what comes after it."""
    ways: dict[str, list[str]] = {}
    for name, node in plan.nodes.items():
        ways[name] = [*plan.dependents.get(name, ())]
        for edge in node.next:
            ways[name] += edge.to
            if edge.when.kind == "always":
                break
    return ways


def starts(plan: Graph) -> tuple[str, ...]:
    """Return where a graph starts: nodes declared initial, else those that nothing leads to, else the first that waits for none.

    A final node that nothing leads to is no start where there is another: it was left out by mistake.
    """
    free = [name for name, node in plan.nodes.items() if not node.after]
    led_to = {to for node in plan.nodes.values() for edge in node.next for to in edge.to}
    initial = [name for name, node in plan.nodes.items() if node.initial]
    first = [name for name in free if name not in led_to]
    others = first if len(first) == len(plan.nodes) else free[:1]
    return tuple(initial or [name for name in first if not plan.nodes[name].final] or others)


def tangles(plan: Graph) -> Iterator[tuple[str, str, str]]:
    """Yield (node, key, problem): dependency loops, cycles without a limit, nodes that can never run; node "" for the whole."""
    needs = {name: node.after for name, node in plan.nodes.items()}
    loops = _cycles(needs)
    for loop in loops:
        path = _one_of(loop, needs)
        yield path[0], "after", f"dependency loop: {' needs '.join([*path, path[0]])}"
    if loops:
        return
    if not plan.start:
        yield "", "", "there is no node to start with: every node comes after another"
        return
    free = {name: None for name, node in plan.nodes.items() if not node.max_visits}
    ways = _ways(plan)
    unbounded = {name: [to for to in ways[name] if to in free] for name in free}
    for cycle in _cycles(unbounded):
        path = _one_of(cycle, unbounded)
        yield path[0], "next", f"a cycle without max_visits: {' → '.join([*path, path[0]])} (give one of them max_visits = N)"
    for name in _never_run(plan, ways):
        what = "the final state cannot be reached" if plan.nodes[name].final else "no path leads to it"
        yield name, "", f"{what} (initial = true marks a start)"


def _one_of(component: Sequence[str], ways: Mapping[str, Sequence[str]]) -> list[str]:
    """Return one cycle of a component as a path, from its node that stands first in the file."""
    inside = set(component)
    path: dict[str, None] = {}
    name = next(name for name in ways if name in inside)
    while name not in path:
        path[name] = None
        name = next(to for to in ways[name] if to in inside)
    cycle = list(path)[list(path).index(name) :]
    first = cycle.index(next(one for one in ways if one in cycle))
    return cycle[first:] + cycle[:first]


def _never_run(plan: Graph, ways: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the nodes that no path from the start reaches; one that comes after several needs them all (or any: `join`)."""
    reached: set[str] = set()
    led = list(plan.start)
    missing = {name: 1 if node.join == "any" else len(node.after) for name, node in plan.nodes.items()}
    while led:
        name = led.pop()
        if name in reached:
            continue
        reached.add(name)
        after = set(plan.dependents.get(name, ()))
        led += [to for to in ways[name] if to not in after]
        for to in after:
            missing[to] -= 1
            led += [to] if missing[to] == 0 else []
    return [name for name in plan.nodes if name not in reached]


def _cycles(ways: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Return the sets of nodes that lie on common cycles (strongly connected components).

    Kosaraju's algorithm without recursion: finishing order forwards, then components backwards.
    """
    back: dict[str, list[str]] = {name: [] for name in ways}
    for name, targets in ways.items():
        for to in targets:
            back.setdefault(to, []).append(name)
    finished: list[str] = []
    seen: set[str] = set()
    for name in ways:
        _finish(name, ways, seen, finished)
    found = []
    seen = set()
    for name in reversed(finished):
        component: list[str] = []
        _finish(name, back, seen, component)
        if len(component) > 1 or (component and component[0] in ways.get(component[0], ())):
            found.append(component)
    return found


def _finish(name: str, ways: Mapping[str, Sequence[str]], seen: set[str], finished: list[str]) -> None:
    """Add what can be reached from a node, and is not yet seen, in the order in which a depth-first search leaves it."""
    if name in seen:
        return
    seen.add(name)
    stack = [(name, iter(ways.get(name, ())))]
    while stack:
        at, rest = stack[-1]
        following = next((to for to in rest if to not in seen), None)
        if following is None:
            finished.append(at)
            stack.pop()
        else:
            seen.add(following)
            stack.append((following, iter(ways.get(following, ()))))


# -- showing ---------------------------------------------------------------------------------------------------------------------


def counts(plan: Graph) -> dict[str, Any]:
    """Return the numbers of a graph: nodes, edges, cycles (edges that lead back), and the max_visits that bound them."""
    edges = sum(len(node.after) + sum(len(edge.to) for edge in node.next) for node in plan.nodes.values())
    ways = _ways(plan)
    on_cycles = {name for cycle in _cycles(ways) for name in cycle}
    bounds = sorted({plan.nodes[name].max_visits for name in on_cycles} - {0})
    return {"nodes": len(plan.nodes), "edges": edges, "cycles": _back_edges(plan, ways), "max_visits": bounds}


def _back_edges(plan: Graph, ways: Mapping[str, Sequence[str]]) -> int:
    """Count the edges that lead to a node which a depth-first search from the start is still inside of."""
    seen: set[str] = set()
    found = 0
    for start in plan.start:
        inside = {start}
        stack = [] if start in seen else [(start, iter(ways[start]))]
        seen.add(start)
        while stack:
            name, rest = stack[-1]
            to = next(rest, None)
            if to is None:
                inside.discard(name)
                stack.pop()
            elif to in inside:
                found += 1
            elif to not in seen:
                seen.add(to)
                inside.add(to)
                stack.append((to, iter(ways[to])))
    return found


def summary(plan: Graph) -> str:
    """Return the numbers in one line: `ok: 5 nodes, 5 edges, 1 cycle (max_visits 3)`."""
    found = counts(plan)
    parts = [
        f"{found[key]} {key[:-1] if found[key] == 1 else key}"
        for key in ("nodes", "edges", "cycles")
        if key != "cycles" or found[key]
    ]
    bound = f" (max_visits {', '.join(map(str, found['max_visits']))})" if found["cycles"] else ""
    return f"ok: {', '.join(parts)}{bound}"


def dot(plan: Graph) -> str:
    """Return the graph in Graphviz' language (https://graphviz.org/doc/info/lang.html), every text quoted."""
    rows = [f"digraph {_quoted(plan.name)} {{", "  rankdir=LR;", '  node [fontname="sans-serif"]; edge [fontname="sans-serif"];']
    for name, node in plan.nodes.items():
        target = node.target.name if isinstance(node.target, Graph) else str(node.target)
        label = "\n".join(part for part in (name, f"{node.kind} {target}".strip() if node.kind != "state" else "") if part)
        style = [each for each, has in (("filled", name in plan.start), ("bold", node.final)) if has]
        extra = f', style="{",".join(style)}"' if style else ""
        rows.append(f"  {_quoted(name)} [label={_quoted(label)}, shape={SHAPES[node.kind]}{extra}];")
    for name, node in plan.nodes.items():
        rows += [f"  {_quoted(source)} -> {_quoted(name)} [style=dashed{_label(node.when)}];" for source in node.after]
        rows += [f"  {_quoted(name)} -> {_quoted(to)} [style=solid{_label(edge.when)}];" for edge in node.next for to in edge.to]
    return "\n".join([*rows, "}"]) + "\n"


def _label(condition: Condition) -> str:
    return "" if condition.kind == "on_success" else f", label={_quoted(condition.text)}"


def _quoted(text: str) -> str:
    """Return a text as a Graphviz string: only the quote and the backslash mean anything in it."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{plain}"'
