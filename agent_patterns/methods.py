"""methods - what a methods file of `htn` holds: how tasks are split into subtasks, and which tool does what is not split.

[[method]]
task = "ResearchCompany"
preconditions = { company_type = "public" }
subtasks = ["SearchWeb", "FetchFilings"]

[[primitive]]
task = "SearchWeb"
tool = "web_search"
arguments = { query = "{company} overview" }
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent_core.options import unknown
from agent_patterns import tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Method:
    """A way to do a task: its subtasks in order, and the world (variable equals value) in which it may be used."""

    task: str
    subtasks: list[str]
    preconditions: dict[str, str | int | float | bool] = field(default_factory=dict)
    description: str = ""
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - pydantic reads it from the class


@dataclass(frozen=True)
class Primitive:
    """A task that is done at once: by a tool, or (with a prompt) by a react loop that may use that tool, or all if none is named.

    Texts in `arguments` and the prompt may hold `{variable}`.
    """

    task: str
    tool: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    prompt: str = ""
    description: str = ""
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012


@dataclass(frozen=True)
class Domain:
    """What a methods file holds; `world` is what holds unless --world says otherwise."""

    method: list[Method] = field(default_factory=list)
    primitive: list[Primitive] = field(default_factory=list)
    world: dict[str, str | int | float | bool] = field(default_factory=dict)
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012


def word(value: Any) -> str:
    """Return a world value as text; `true` and `--world x=true` are the same."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def problems(data: Mapping[str, Any]) -> Iterator[tables.Problem]:
    """Yield what is wrong in a methods file whose shape is right."""
    kinds = {key: {row["task"] for row in data.get(key, ())} for key in ("method", "primitive")}
    known = kinds["method"] | kinds["primitive"]
    if not known:
        yield tables.Problem((), "there is neither a [[method]] nor a [[primitive]]")
    for index, row in enumerate(data.get("method", ())):
        for name in sorted(set(row["subtasks"]) - known):
            near = unknown("task", name, sorted(known))
            yield tables.Problem(("method", index, "subtasks"), f"{row['task']}: {near.line()}")
    seen: set[str] = set()
    for index, row in enumerate(data.get("primitive", ())):
        name = row["task"]
        if name in kinds["method"] or name in seen:
            yield tables.Problem(("primitive", index, "task"), f"{name} is declared twice")
        if not row.get("tool") and not row.get("prompt"):
            yield tables.Problem(("primitive", index, "task"), f"{name} needs a tool or a prompt")
        seen.add(name)


def load(path: str) -> dict[str, Any]:
    """Return a methods file as data; InputError names file and line."""
    return tables.load(path, Domain, problems)


def domain(data: Mapping[str, Any]) -> Domain:
    """Return what `load` read as values."""
    methods = [Method(**row) for row in data.get("method", ())]
    return Domain(methods, [Primitive(**row) for row in data.get("primitive", ())], dict(data.get("world", {})))
