"""graph_visit - one visit of a node: what it is told, who does the work, what came of it, and where that leads.

A node's failure is a result like any other if the graph goes on from it; what ends a run (a person's absence, the deadline, a
journal that does not fit) is nobody's failure and passes through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent_core.effects import All, Call, Note, Wait
from agent_core.errors import AgentError, ContractError, Failed, LimitError
from agent_core.task import Answer, compose
from agent_patterns import templates
from agent_patterns.asks import ENDS
from agent_patterns.conditions import ON_SUCCESS, holds
from agent_patterns.graph_shape import Graph, Node
from agent_patterns.templates import Result, Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_core.effects import Pattern

YES, NO = frozenset({"yes", "y", "ok", "true", "approve", "approved"}), frozenset({"no", "n", "false", "deny", "denied"})
REVIEWS = 3  # how often a person may send one result back
KEPT = "failed"
MOST_ITEMS = 1000
_SHOWN = 600


Finder = Callable[[Node, Any, bool], Any]
"""(node, who, keep) -> what Call takes. `who` is what `Graph.minds` holds for a name, else the name itself, of an agent or a tool.
With `keep` a failure is to be the call's outcome, a text whose `facts` have KEPT: the graph goes on from it, a resumed run too."""


def by_name(_node: Node, who: Any, _keep: bool) -> Any:
    """Find every agent under its registered name."""
    return who


@dataclass(frozen=True, slots=True)
class Arrow:
    """An edge after its source has finished: taken or not; a transition starts its target, a dependency counts at its join."""

    source: str
    target: str
    ok: bool
    transition: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """What stays the same during one run of one graph."""

    plan: Graph
    find: Finder
    run: Callable[..., Pattern]  # runs the graph of a frame (for graphs within graphs)
    keep: bool = False  # failures are results, because whoever runs this graph handles them


def visited(frame: Frame, node: Node, scope: Scope, sources: tuple[str, ...]) -> Pattern:
    """Return (result, error) of one visit; whatever goes wrong in it is the node's failure, not the graph's."""
    try:
        context = _context(node, scope, sources)
        result = yield from _reviewed(frame, node, scope, context) if node.review else _done(frame, node, scope, context)
    except ENDS:
        raise
    except AgentError as error:
        return Result("failed", error=error.line()), error
    return result, None


def _context(node: Node, scope: Scope, sources: tuple[str, ...]) -> dict[str, str]:
    """Return what a node is given besides its prompt: the outputs that led here, unless the prompt names nodes itself."""
    found = [each for text in (node.prompt, node.over, *templates.texts(node.arguments)) for each in templates.references(text)]
    own = {"your last answer": scope.result(node.name).output} if node.memory else {}
    named = sources if node.context is None else node.context
    if named and not any(each.node for each in found):
        own |= {f"nodes.{name}.output": scope.result(name).output for name in named}
    elif not named and node.prompt and not any(each.node or each.word for each in found):
        own |= {"input": scope.input}
    return own


def _reviewed(frame: Frame, node: Node, scope: Scope, context: dict[str, str]) -> Pattern:
    """Let a person accept a result, refuse it, or send it back with a remark."""
    for _ in range(REVIEWS):
        result = yield from _done(frame, node, scope, context)
        said = yield Wait(f'accept the result of "{node.name}" (yes, no, or what to change)? {short(result.output)}')
        if is_yes(said):
            return result
        if str(said).strip().lower() in NO:
            return Result("denied", str(said))
        context = {**context, "your last answer": result.output, "what to change": str(said)}
    return Result("denied", str(said))


def _done(frame: Frame, node: Node, scope: Scope, context: Mapping[str, str]) -> Pattern:
    """Do a node's work once, or once for every item."""
    if node.kind == "state":
        return _passed(node, scope, context)
    if node.kind in {"ask", "approve"}:
        said = str((yield Wait(short(templates.render(node.prompt, scope)))))
        return Result("completed" if node.kind == "ask" or is_yes(said) else "denied", said)
    keep = frame.keep or _is_caught(frame.plan, node, scope)
    if not node.over:
        return _checked(node, _text((yield from _one(frame, node, scope, context, keep))))
    items = templates.listed(node.over, scope)
    if len(items) > MOST_ITEMS:
        raise LimitError(f"{len(items)} items are more than {MOST_ITEMS}")
    scopes = [replace(scope, item=item, index=index) for index, item in enumerate(items)]
    done: list[int] = []
    each_one = [_counted(node, _one(frame, node, each, context, keep), done, len(items)) for each in scopes]
    outcomes = (yield All(each_one, limit=node.parallel or frame.plan.parallel)) if items else []
    texts = [_checked(node, _text(each)).output for each in outcomes]
    return Result("completed", "\n\n".join(texts), value=[templates.data_of(text) for text in texts])


def _counted(node: Node, work: Pattern, done: list[int], total: int) -> Pattern:
    """Do the work for one item, and tell how many are done."""
    outcome = yield from work
    done.append(1)
    yield Note("node.progress", {"node": node.name, "progress": round(len(done) / total, 4)})
    return outcome


def _passed(node: Node, scope: Scope, context: Mapping[str, str]) -> Result:
    """Return what a state says: its own words, else what led to it (with its data, if that is one thing), else the input."""
    if node.prompt:
        return Result("completed", templates.render(node.prompt, scope))
    if len(context) == 1:
        name = next(iter(context)).removeprefix("nodes.").removesuffix(".output")
        return replace(scope.result(name), state="completed", error="")
    return Result("completed", "\n\n".join(text for text in context.values() if text) or scope.input)


def _one(frame: Frame, node: Node, scope: Scope, context: Mapping[str, str], keep: bool) -> Pattern:
    """Call the agent, tool or graph of a node on what its templates make; the outcome is text (or a kept failure)."""
    arguments = templates.filled(node.arguments, scope)
    words = _words(node, scope, context)
    if node.kind == "graph":
        inner: Answer = yield from frame.run(replace(frame, plan=node.target, keep=keep), words, arguments)
        if inner.status:
            raise Failed(f"{node.target.name}: {inner.problem}")
        return inner.text
    name, more = _assigned(node, scope)
    who = frame.find(node, frame.plan.minds.get(name, name), keep)
    return (yield Call(who, templates.text_of(arguments) if arguments else words + more))


def _words(node: Node, scope: Scope, context: Mapping[str, str]) -> str:
    """Return what a node is told: a plain program gets text, as in a pipe; a mind an instruction, and material marked as such."""
    given = node.prompt or ("{{ item }}" if node.over else "" if node.plain and any(context.values()) else "{{ input }}")
    if node.plain:
        return "\n\n".join(text for text in (templates.render(given, scope), *context.values()) if text)
    return templates.message(f"{given}\n\nWhat is expected: {node.expected}" if node.expected else given, scope, context)


def _assigned(node: Node, scope: Scope) -> tuple[str, str]:
    """Return the agent that is to do a node, and what the manager adds, if there is a manager; else the node's own agent."""
    plan = scope.result(node.manager).data if node.manager else None
    entry = plan.get(node.name) if isinstance(plan, dict) else None
    if not isinstance(entry, dict):
        return node.target, ""
    name, note = str(entry.get("agent") or node.target), entry.get("instruction")
    return name, f"\n\n{compose('', (('the manager', note),))}" if isinstance(note, str) and note else ""


def _text(outcome: Any) -> str:
    """Return the text of an outcome; Failed for a failure that was kept."""
    if (getattr(outcome, "facts", None) or {}).get(KEPT):
        raise Failed(str(outcome))
    return str(outcome)


def _checked(node: Node, text: str) -> Result:
    """Return the result of a text; ContractError if the node has a schema and the text does not fit it."""
    if node.schema is None:
        return Result("completed", text)
    from agent_core.checked import read

    value, problem = read(text, node.schema)
    if problem:
        raise ContractError(f"the output does not fit the schema: {problem}")
    return Result("completed", text, value=value)


def is_yes(said: Any) -> bool:
    """Say whether a person's answer approves: a plain yes does, nothing else."""
    return str(said).strip().lower() in YES


def short(text: str) -> str:
    """Return a text as one line of bounded length."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN else f"{flat[:_SHOWN]} …"


def arrows(plan: Graph, node: Node, scope: Scope) -> list[Arrow]:
    """Return the first transition that fits, and what this node means to those that come after it."""
    name, after = node.name, plan.dependents.get(node.name, ())
    edge = next((edge for edge in node.next if holds(edge.when, name, scope)), None)
    taken = [Arrow(name, to, ok=True, transition=True) for to in (edge.to if edge else ())]
    return taken + [Arrow(name, to, holds(plan.nodes[to].when, name, scope), transition=False) for to in after]


def _is_caught(plan: Graph, node: Node, scope: Scope) -> bool:
    """Say whether the graph goes on if this node fails: then its failure is a result, which a resumed run must find again."""
    ways = [*(edge.when for edge in node.next), *(plan.nodes[to].when for to in plan.dependents.get(node.name, ()))]
    if plan.go_on or all(each is ON_SUCCESS for each in ways):
        return plan.go_on
    trial = Scope(scope.input, scope.vars, scope.before, {**scope.own, node.name: Result("failed")})
    return any(arrow.ok for arrow in arrows(plan, node, trial))
