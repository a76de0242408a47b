"""graph - declared work: nodes, dependencies, transitions with conditions, loops with a limit, people in between.

Good for work whose steps are known beforehand. Cost: one call per visit of an agent; nothing for the graph itself.

A node starts when a transition (`next`) leads to it, or when all (or any) of the nodes it comes `after` are done. What can run at
the same time is a wave: branches go on to their next fork or join, then results are put together in the order of the file. Which
node runs where thus depends on outcomes alone, never on time: a killed run finds every finished node again.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent_core.effects import All, Note, Wait
from agent_core.errors import LimitError, UsageError
from agent_core.task import Answer
from agent_patterns.graph_visit import Frame, arrows, by_name, is_yes, short, visited
from agent_patterns.templates import PENDING, Result, Scope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent_core.effects import Pattern
    from agent_core.errors import AgentError
    from agent_core.task import Task
    from agent_patterns.graph_shape import Graph, Node
    from agent_patterns.graph_visit import Arrow, Finder

_Token = tuple[str, tuple[str, ...]]  # a node that can start, and the nodes that led to it


@dataclass(slots=True, repr=False)  # asyncio looks at the text of a task's value: that of a branch would be the whole graph
class _Branch:
    """What one walk came to: the results it added, where it leads on, and the problem that ends the graph."""

    scope: Scope
    arrows: Sequence[Arrow] = ()
    order: list[str] = field(default_factory=list)
    problem: AgentError | None = None


def graph(task: Task, plan: Graph | None = None, find: Finder = by_name, words: str | None = None) -> Pattern:
    """Run a graph on the task's text (or `words`); return Answer(text, {nodes, final, …}), status 4 when it was not finished."""
    if plan is None:
        raise UsageError("the pattern graph needs a file", hint="agent-graph run FILE")
    return (yield from _graph(Frame(plan, find, _graph), task.text if words is None else words, {}))


def _graph(frame: Frame, words: str, variables: Mapping[str, Any]) -> Pattern:
    plan = frame.plan
    yield Note("graph.started", {
        "graph": plan.name, "start": list(plan.start), "nodes": {name: list(node.after) for name, node in plan.nodes.items()},
    })  # fmt: skip
    known: dict[str, Result] = {}
    joins: dict[str, dict[str, bool]] = {}
    order: list[str] = []
    counts: Counter[str] = Counter()
    problem: AgentError | None = None
    ready: list[_Token] = [(name, ()) for name in plan.start]
    while ready and problem is None:
        alone = len(ready) == 1
        walks = [_walk(frame, Scope(words, {**plan.variables, **variables}, known), *token, alone=alone) for token in ready]
        branches = [(yield from walks[0])] if alone else (yield All(walks, limit=plan.parallel))
        for branch in branches:
            order += branch.order
            counts.update(branch.order)
            known |= {name: replace(result, visits=counts[name]) for name, result in branch.scope.own.items()}
            problem = problem or branch.problem
        whole = Scope(words, branches[0].scope.vars, known)
        ready = _released(plan, [arrow for branch in branches for arrow in branch.arrows], whole, joins, known)
        problem = problem or _too_often(plan, ready, counts)
    return _answer(plan, known, order, problem)


def _too_often(plan: Graph, ready: Sequence[_Token], counts: Mapping[str, int]) -> LimitError | None:
    """Return the problem of nodes about to be visited more often than they may."""
    for name, more in Counter(name for name, _ in ready).items():
        most = plan.nodes[name].max_visits
        if most and counts[name] + more > most:
            return LimitError(f'"{name}" was visited {counts[name]} times (max_visits {most})')
    return None


def _walk(frame: Frame, scope: Scope, name: str, sources: tuple[str, ...], *, alone: bool) -> Pattern:
    """Visit a node and go on as long as exactly one other follows that waits for nothing else.

    A node with max_visits is entered by one branch at a time (`alone`) or from a new wave, so that its visits are counted exactly.
    """
    branch = _Branch(scope)
    while True:
        node = frame.plan.nodes[name]
        visit = scope.result(name).visits + 1
        if node.max_visits and visit > node.max_visits:
            branch.problem, branch.arrows = _too_often(frame.plan, [(name, ())], {name: visit - 1}), ()
            return branch
        if node.stop_before and not is_yes((yield Wait(f'breakpoint before "{name}", go on?'))):
            branch.problem, branch.arrows = LimitError(f'stopped at the breakpoint before "{name}"'), ()
            return branch
        yield Note("node.started", {"node": name, "visit": visit})
        result, error = yield from visited(frame, node, scope, sources)
        scope.own[name] = replace(result, visits=visit)
        yield Note("node.finished", {"node": name, "visit": visit, "state": result.state, "error": result.error})
        if node.verbose:
            yield Note("notice", {"text": f"{name}: {short(result.output or result.error)}"})
        branch.order.append(name)
        branch.arrows = arrows(frame.plan, node, scope)
        branch.problem = _problem(frame, node, error, branch)
        if branch.problem or not _goes_on(frame.plan, branch.arrows, alone=alone):
            return branch
        name, sources = branch.arrows[0].target, (name,)


# -- where it goes on ------------------------------------------------------------------------------------------------------------


def _problem(frame: Frame, node: Node, error: AgentError | None, branch: _Branch) -> AgentError | None:
    """Return what ends the graph here: a failure or a no that nothing handles, or an output that no transition fits."""
    state = branch.scope.own[node.name].state
    if any(arrow.ok for arrow in branch.arrows) and (state != "completed" or not node.next):
        return None
    if state == "completed":
        stuck = node.next and not node.final and not any(arrow.transition for arrow in branch.arrows)
        return LimitError(f'no transition of "{node.name}" fits its output', hint='add one with when = "always"') if stuck else None
    if frame.plan.go_on:
        return None
    if error is None:
        return LimitError(f'"{node.name}" was not approved')
    error.args = (f'node "{node.name}": {error}',)
    return error


def _goes_on(plan: Graph, found: Sequence[Arrow], *, alone: bool) -> bool:
    """Say whether a branch leads to exactly one node, which waits for nothing else."""
    if len(found) != 1 or not found[0].ok:
        return False
    node = plan.nodes[found[0].target]
    return (found[0].transition or len(node.after) == 1) and (alone or not node.max_visits)


def _released(
    plan: Graph, found: Sequence[Arrow], scope: Scope, joins: dict[str, dict[str, bool]], known: dict[str, Result]
) -> list[_Token]:
    """Return the nodes that can start now, and mark those that never will (and what depends on them) as skipped."""
    tokens: list[_Token] = []
    queue = deque(found)
    while queue:
        arrow = queue.popleft()
        if arrow.transition:
            tokens.append((arrow.target, (arrow.source,)))
            continue
        node, arrived = plan.nodes[arrow.target], joins.setdefault(arrow.target, {})
        first = not any(arrived.values())
        arrived[arrow.source] = arrow.ok
        full = len(arrived) == len(node.after)
        if (arrow.ok and first) if node.join == "any" else (full and all(arrived.values())):
            tokens.append((node.name, tuple(name for name in node.after if arrived.get(name))))
        elif full and (node.join == "all" or not any(arrived.values())):
            known[node.name] = replace(known.get(node.name, PENDING), state="skipped")
            queue.extend(arrow for arrow in arrows(plan, node, scope) if not arrow.transition)
        if full:
            del joins[node.name]
    return tokens


# -- what it came to -------------------------------------------------------------------------------------------------------------


def _answer(plan: Graph, known: Mapping[str, Result], order: Sequence[str], problem: AgentError | None) -> Answer:
    """Return the answer: what the final nodes said, and what became of every node; status 4 if it is not the whole of it."""
    reached = [name for name in plan.finals if known.get(name, PENDING).state == "completed"]
    failed = [name for name, result in known.items() if result.state in {"failed", "denied"}] if plan.go_on else []
    done = [name for name in order if known[name].state == "completed"]
    if problem is not None and not done:
        raise problem
    said = (
        problem.line() if problem else f"failed: {', '.join(failed)}" if failed else "" if reached else "no final node was reached"
    )
    shown = reached or done[-1:]
    text = known[shown[0]].output if len(shown) == 1 else "\n\n".join(f"## {name}\n\n{known[name].output}" for name in shown)
    states = Counter(known.get(name, PENDING).state for name in plan.nodes)
    value = {
        "graph": plan.name, "final": reached, "success": not said, "problem": said, "order": list(order),
        "statistics": {**dict(states), "visits": len(order)},
        "nodes": {name: _row(known.get(name, PENDING)) for name in plan.nodes},
    }  # fmt: skip
    return Answer(text, value, 4 if said else 0, said)


def _row(result: Result) -> dict[str, Any]:
    row = {"state": result.state, "visits": result.visits, "output": result.output}
    return {**row, "error": result.error} if result.error else row
