"""graph_tables - what a graph's file may say, table by table, and a file on its way to a graph.

    [agents.NAME] [nodes.NAME]     as it is
    [tasks.NAME] [[steps]]         crews and scripts: `graph_forms` makes nodes of them

A `Sheet` collects nodes as plain tables, with the place in the file that each came from; `graph_file` builds the graph of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from agent_patterns.tables import At, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

NAME = re.compile(r"[A-Za-z_][\w-]{0,99}")
KINDS = ("agent", "tool", "graph", "ask", "approve")
PASSED_ON = ("agent", "expected_output", "schema", "human_input", "breakpoint", "timeout", "max_visits")
_FORBID = {"extra": "forbid"}


# -- tables ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AgentTable:
    """An agent of the file: a mind of its own (persona, model, tools), or with `call` a registered agent or an address."""

    role: str = ""
    goal: str = ""
    backstory: str = ""
    system: str = ""
    description: str = ""
    provider: str = ""
    model: str = ""
    temperature: float | None = None
    tools: list[str] = field(default_factory=list)
    pattern: str = "react"
    max_steps: int = 10
    budget: float | None = None
    memory: bool = False
    verbose: bool = False
    allow_delegation: bool = False
    call: str = ""
    __pydantic_config__ = _FORBID


@dataclass(frozen=True)
class NodeTable:
    """A node of the file. At most one of agent, tool, graph, ask and approve; none with `prompt`: the run's model; else a state."""

    agent: str = ""
    tool: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    graph: str = ""
    ask: str = ""
    approve: str = ""
    prompt: str = ""
    output: str = ""
    description: str = ""
    expected_output: str = ""
    schema: Any = None
    map: str = ""
    after: list[str] = field(default_factory=list)
    context: list[str] | None = None
    when: Any = None
    join: Literal["all", "any"] = "all"
    next: Any = None
    max_visits: int = 0
    timeout: float | None = None
    parallel: int = 0
    initial: bool = False
    final: bool = False
    breakpoint: bool = False
    human_input: bool = False
    __pydantic_config__ = _FORBID


@dataclass(frozen=True)
class TaskTable:
    """A task of a crew: what is to be done, by whom, from what, and whether a person looks at it."""

    description: str
    agent: str = ""
    name: str = ""
    expected_output: str = ""
    schema: Any = None
    context: list[str] = field(default_factory=list)
    depends_on: list[str] = field(default_factory=list)
    human_input: bool = False
    breakpoint: bool = False
    timeout: float = 300
    max_visits: int = 0
    __pydantic_config__ = _FORBID


@dataclass(frozen=True)
class File:
    """A whole file."""

    name: str = ""
    description: str = ""
    input: str = ""
    process: Literal["sequential", "parallel", "hierarchical"] = "sequential"
    manager: str = ""
    parallel: int = 4
    on_failure: Literal["stop", "continue"] = "stop"
    vars: dict[str, str | int | float | bool] = field(default_factory=dict)
    agents: dict[str, AgentTable] = field(default_factory=dict)
    nodes: dict[str, NodeTable] = field(default_factory=dict)
    tasks: dict[str, TaskTable] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    __pydantic_config__ = _FORBID


# -- a file on its way ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mind:
    """An agent as a graph's nodes use it: a name, its system prompt and what it may use; or `call`, somebody else."""

    name: str
    system: str = ""
    table: AgentTable = AgentTable()
    others: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Known:
    """What there is besides the file: tools by name with the JSON Schema of their arguments, and others to call.

    `agent` says what a name that is not in the file is: a "peer" (a registered agent, an address), a "mind" (a persona), "" nobody.
    """

    tools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    agent: Callable[[str], str] = lambda _name: "peer"


@dataclass(slots=True)
class Sheet:
    """One file on its way to a graph: its nodes as tables, where each stands, and what is wrong so far."""

    path: str
    text: str
    read: Callable[[str], str]
    known: Known
    data: dict[str, Any] = field(default_factory=dict)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    places: dict[str, At] = field(default_factory=dict)
    keys: Mapping[str, Sequence[str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    minds: dict[str, Mind] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    above: tuple[str, ...] = ()
    inner: Callable[[str], Any] = str

    def at(self, name: str, key: str = "") -> At:
        """Return where a node, or one of its keys, stands."""
        place = self.places.get(name, ())
        keys = self.keys.get(key, (key,))
        return (*place, next((each for each in keys if holds(self.data, (*place, each))), key)) if key else place

    def wrong(self, name: str, key: str, text: str) -> None:
        """Note a problem of a node."""
        self.problems.append(Problem(self.at(name, key), f'node "{name}": {text}'))


class Wrong(Exception):  # noqa: N818 - a problem of the file, not of the program
    """A problem that makes reading on useless."""

    def __init__(self, at: At, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(at, text)


def holds(data: Any, at: Sequence[Any]) -> bool:
    """Say whether data has something at a place (keys and indices)."""
    for part in at:
        if (isinstance(data, dict) and part in data) or (isinstance(data, list) and isinstance(part, int) and part < len(data)):
            data = data[part]
        else:
            return False
    return True
