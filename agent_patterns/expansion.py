"""expansion - a task expanded by methods into steps, in a world, without a model. Pure.

    rows = expand("ResearchCompany", domain(load("research.toml")), {"company_type": "public"})

A method says which subtasks a task consists of and which world it fits; a primitive says which tool does it. Of the methods
that fit the world the most specific one (most preconditions) is tried first, whatever the order of the file; where its subtasks
cannot be expanded the next one is tried. Source of the scheme: hierarchical task networks (Erol, Hendler, Nau 1994), without
interleaved effects, so what a task expands to depends on the world alone and is worked out once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from agent_core import prompt
from agent_core.errors import ConfigError, LimitError
from agent_core.options import unknown
from agent_patterns.methods import Domain, Method, Primitive, word

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DEPTH, MAX_STEPS = 16, 256


@dataclass(frozen=True, slots=True)
class Row:
    """One step of an expanded task. `depth` counts from the task itself (0)."""

    depth: int
    task: str
    tool: str
    arguments: dict[str, Any]
    prompt: str = ""
    description: str = ""

    def data(self) -> dict[str, Any]:
        """Return the row as JSON data, without what is empty."""
        full = {"depth": self.depth, "task": self.task, "tool": self.tool, "arguments": self.arguments}
        return {**full, **{name: getattr(self, name) for name in ("prompt", "description") if getattr(self, name)}}


@dataclass(frozen=True, slots=True)
class _Tree:
    """What a task expands to: rows with depths from the task itself, and the deepest level below it."""

    rows: tuple[Row, ...]
    height: int


def expand(task: str, known: Domain, world: Mapping[str, Any], max_depth: int = MAX_DEPTH, max_steps: int = MAX_STEPS) -> list[Row]:
    """Return the steps of a task in a world.

    Raises:
        UsageError: no such task.
        ConfigError: no method fits the world, or a placeholder has no value in it.
        LimitError: deeper than `max_depth`, or more than `max_steps` steps (status 4).
    """
    methods: dict[str, list[Method]] = {}
    for method in known.method:
        methods.setdefault(method.task, []).append(method)
    primitives = {each.task: each for each in known.primitive}
    if task not in methods and task not in primitives:
        raise unknown("task", task, sorted({*methods, *primitives}))
    facts = {name: word(value) for name, value in {**known.world, **world}.items()}
    found = _Planner(methods, primitives, facts, max_depth, max_steps).tree(task, 0)
    if found is None:
        raise ConfigError(f"no method of {task} fits the world {_shown(facts)}", hint=_wanted(methods))
    return list(found.rows)


@dataclass(slots=True)
class _Planner:
    methods: Mapping[str, list[Method]]
    primitives: Mapping[str, Primitive]
    world: Mapping[str, str]
    max_depth: int
    max_steps: int
    done: dict[str, _Tree | None] = field(default_factory=dict)

    def tree(self, task: str, depth: int) -> _Tree | None:
        """Return what a task expands to, None if no method fits; every task is expanded once."""
        found = self.done[task] if task in self.done else self.expanded(task, depth)
        self.done[task] = found
        if depth + (found.height if found else 0) > self.max_depth:
            raise LimitError(f"{task} goes deeper than {self.max_depth} levels", hint="is a task a part of itself?")
        return found

    def expanded(self, task: str, depth: int) -> _Tree | None:
        if depth > self.max_depth:
            return _Tree((), 0)  # refused by the caller
        primitive = self.primitives.get(task)
        if primitive is not None:
            return _Tree((_bound(primitive, self.world),), 0)
        fitting = [each for each in self.methods[task] if all(self.world.get(k) == word(v) for k, v in each.preconditions.items())]
        for method in sorted(fitting, key=_specific_first):
            trees = self.subtrees(method, depth)
            if trees is not None:
                return self.joined(method, trees)
        return None

    def subtrees(self, method: Method, depth: int) -> list[_Tree] | None:
        trees = []
        for name in method.subtasks:
            found = self.tree(name, depth + 1)
            if found is None:
                return None
            trees.append(found)
        return trees

    def joined(self, method: Method, trees: list[_Tree]) -> _Tree:
        if sum(len(tree.rows) for tree in trees) > self.max_steps:
            raise LimitError(f"{method.task} has more than {self.max_steps} steps", hint="split it into several tasks")
        rows = tuple(_lower(row) for tree in trees for row in tree.rows)
        return _Tree(rows, 1 + max((tree.height for tree in trees), default=-1))


def _specific_first(method: Method) -> tuple[Any, ...]:
    """Order methods by how much they ask of the world; the rest only makes the order independent of the file's."""
    conditions = sorted((name, word(value)) for name, value in method.preconditions.items())
    return (-len(conditions), conditions, method.description, method.subtasks)


def _lower(row: Row) -> Row:
    return Row(row.depth + 1, row.task, row.tool, row.arguments, row.prompt, row.description)


def _bound(primitive: Primitive, world: Mapping[str, str]) -> Row:
    fill = partial(_filled, primitive.task, world=world)
    return Row(
        0, primitive.task, primitive.tool, fill(primitive.arguments), fill(primitive.prompt), fill(primitive.description)
    )  # fmt: skip


def _filled(task: str, value: Any, world: Mapping[str, str]) -> Any:
    """Return a value with the placeholders in all its texts replaced, in one pass."""
    if isinstance(value, dict):
        return {name: _filled(task, each, world) for name, each in value.items()}
    if isinstance(value, list):
        return [_filled(task, each, world) for each in value]
    if not isinstance(value, str):
        return value
    missing = [name for name in prompt.placeholders(value) if name not in world]
    if missing:
        raise ConfigError(f"{task} needs {', '.join(missing)}", hint=" ".join(f"--world {name}=…" for name in missing))
    return prompt.fill(value, world).text


def _shown(world: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value[:40]}" for name, value in list(world.items())[:8]) or "that is empty"


def _wanted(methods: Mapping[str, list[Method]]) -> str:
    names = sorted({name for each in methods.values() for method in each for name in method.preconditions})
    return f"methods look at {', '.join(names[:12])}: --world {names[0]}=…" if names else "see agent-plan check"
