"""agent-graph - run declared work: nodes, dependencies, conditions, loops with a limit, people in between.

    agent-graph check FILE                   file and line of everything that is wrong with it
    agent-graph run FILE [WORDS] [--input FILE|TEXT] [--set NAME=VALUE] [--break-at NODE] [--process parallel] [--jobs 4]
    agent-graph resume RUN --approve         (or --deny, or --answer TEXT) go on with a run that waits for a person
    agent-graph dot FILE | dot -Tsvg         draw it
    agent-graph list                         the graphs of this suite and your own; `run research "Unix pipes"` runs one

FILE is TOML: `[nodes.NAME]` with transitions, `[tasks.NAME]` for a crew, or `[[steps]]`; docs/graphs.md describes it. `run -` reads
it, or the lines of `agent-plan expand`, from stdin; WORDS, --input and stdin (unless the graph is there) are the graph's input.
--json has {nodes, final, statistics, …}.

A node that waits for a person parks the run (status 5). A run that was killed goes on with `agent-graph resume RUN`: what is
finished is not done again. Tools need the same permissions as everywhere (`--allow`).

    $ agent-graph check content
    ok: 5 nodes, 5 edges, 1 cycle (max_visits 3)
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agent_core import Agent, ToolError, tool
from agent_core.effects import Act, Call, Pattern
from agent_core.errors import AgentError, DeadlineError, DeniedError, Failed, InputError, LimitError, UsageError, WaitingError
from agent_core.messages import ToolCall
from agent_core.task import Answer, split
from agent_plugins.tools import load as common_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent_core.cli import Command
    from agent_core.config import Settings
    from agent_core.members import Member
    from agent_core.run import Run, Steps
    from agent_core.task import Task
    from agent_patterns.graph_shape import Graph, Node
    from agent_patterns.graph_tables import Known, Mind

PREFIX = "graph-"
INLINE = "-"


# -- files -----------------------------------------------------------------------------------------------------------------------


def presets(settings: Settings) -> dict[str, Path]:
    """Return the known graphs by name: those of the suite, then the user's (`graphs` in the configuration folder), which win."""
    from importlib.resources import files

    from agent_core import config

    own = sorted((Path(str(files("agent_patterns"))) / "presets").glob(f"{PREFIX}*.toml"))
    users = sorted((Path(config.user_dir(settings.environment)) / "graphs").glob("*.toml"))
    return {path.stem.removeprefix(PREFIX): path for path in own} | {path.stem: path for path in users}


def found(name: str, settings: Settings) -> str:
    """Return the path of a graph: a file, else a preset (NAME or NAME.toml). UsageError names the nearest presets."""
    if _is_file(name):
        return name
    known = presets(settings)
    stem = name.removesuffix(".toml")
    if "/" not in name and stem in known:
        return str(known[stem])
    from agent_core.options import unknown

    raise unknown("file and no graph", name, list(known))


def known(settings: Settings) -> Known:
    """Return which tools and registered agents a graph may name."""
    from agent_core import peers
    from agent_core.members import Member
    from agent_patterns.graph_tables import Known

    def kind(name: str) -> str:
        try:
            return "mind" if isinstance(peers.member(name, settings), Member) else "peer"
        except DeniedError:
            return "peer"
        except AgentError:
            return ""

    return Known({each.name: each.parameters for each in agent.tools}, kind)


def loaded(name: str, settings: Settings, process: str = "") -> Graph:
    """Return a checked graph by file or preset name."""
    from agent_patterns import graph_file, tables

    return graph_file.load(found(name, settings), tables.read, known(settings), process)


@dataclass(frozen=True)
class Reader:
    """Reads everything a run is made of, once, as an effect: what it read is recorded, so a resumed run needs no file.

    The answer is JSON: {"path", "files": {path: text}, "input": text or null}.
    """

    settings: Settings
    input: str
    process: str
    plans: list[Graph]
    inline: bool = False
    name: str = "(files)"

    @property
    def outside(self) -> bool:
        """Whether text from a file comes in: it is untrusted."""
        return bool(self.input) and _is_file(self.input)

    def program(self, message: str, run: Run, prefix: str) -> Steps:  # noqa: ARG002 - all carriers have one shape
        """Return the program that reads; `message` is the graph's name, or its text."""
        from agent_core.ops import Invoke

        return (yield Invoke(self.read, {"name": message}, run.deadline))

    def read(self, name: str) -> str:
        """Read and check the graph called `name`, and the input."""
        from agent_patterns import graph_file, tables

        texts: dict[str, str] = {}

        def read(path: str) -> str:
            texts[path] = name if path == INLINE else tables.read(path)
            return texts[path]

        path = INLINE if self.inline or _is_text(name) else found(name, self.settings)
        self.plans.append(graph_file.load(path, read, known(self.settings), self.process))
        given = tables.read(self.input) if self.outside else self.input or None
        return json.dumps({"path": path, "files": texts, "input": given}, ensure_ascii=False)


def _is_text(name: str) -> bool:
    return "\n" in name or name.lstrip().startswith(("{", "["))


def _is_file(name: str) -> bool:
    try:
        return Path(name).exists() and not Path(name).is_dir()  # also what a shell makes of <(...)
    except (OSError, ValueError):  # a text too long, or with a NUL, is no file's name
        return False


# -- who does a node's work ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Station:
    """One node's place to work: calls an agent or tool with the node's own time, and keeps a failure that the graph handles."""

    name: str
    agent: Any
    timeout: float | None = None
    keep: bool = False
    schema: Mapping[str, Any] | None = None

    @property
    def outside(self) -> bool:
        """Whether what it answers comes from outside this process."""
        return bool(getattr(self.agent, "outside", False))

    def program(self, message: str, run: Run, prefix: str) -> Steps:
        """Return the program; its value is text; a kept failure is one with `facts`, so that the journal has it."""
        from agent_core.peers import Said
        from agent_patterns.asks import ENDS
        from agent_patterns.graph_visit import KEPT

        child = replace(run, seen={}, malformed=0, deadline=run.until(self.timeout))
        try:
            return self.checked((yield from self.agent.program(message, child, prefix)))
        except ENDS as error:
            if not isinstance(error, DeadlineError) or (run.deadline is not None and run.clock() >= run.deadline):
                raise
            late: AgentError = LimitError(f"it took longer than {self.timeout:g} s", hint="raise its timeout")
        except AgentError as error:
            late = error
        if self.keep:
            return Said.of(late.line(), {KEPT: True})
        raise late

    def checked(self, text: Any) -> Any:
        """Return the text if it fits the node's schema. What a mind answers was checked, and corrected, before."""
        from agent_core.checked import read

        problem = read(str(text), self.schema)[1] if self.schema is not None else ""
        if problem:
            raise Failed(f"the output does not fit the schema: {problem}")
        return text


@dataclass(frozen=True)
class Tooling:
    """A tool as somebody to call: the message is its arguments as JSON, or the text for its only parameter."""

    name: str

    def program(self, message: str, run: Run, prefix: str) -> Steps:
        """Return the program: the very path that a model's call takes, with the run's permissions."""
        from agent_core.interpreter import interpret

        return (yield from interpret(self.steps(message), replace(run, tools=agent.tools), prefix))

    def steps(self, message: str) -> Pattern:
        """Make one call. DeniedError, InputError or Failed for a call that came to nothing."""
        arguments = agent.tools.get(self.name).from_text(message)  # type: ignore[union-attr] # the graph was checked
        result = (yield Act((ToolCall("call_1", self.name, arguments),)))[0].parts[0]
        if result.error is None:
            return result.text
        kind = {"denied": DeniedError, "invalid": InputError}.get(result.error, Failed)
        raise kind(f"{self.name}: {result.text.removeprefix('denied: ')}")


def finder(settings: Settings) -> Callable[[Node, Any, bool], Any]:
    """Return what finds the carrier of a node: a tool, a mind of the file, or an agent that is registered or has an address."""

    def find(node: Node, who: Any, keep: bool) -> Any:
        carrier: Any
        if node.kind == "tool":
            carrier = Tooling(str(who))
        elif isinstance(who, str) and who:
            carrier = _of_elsewhere(who, node, settings)
        else:
            carrier = _mind(node, who, settings)
        return Station(node.name, carrier, node.timeout, keep, node.schema)

    return find


def _of_elsewhere(name: str, node: Node, settings: Settings) -> Any:
    from agent_core import peers
    from agent_core.members import Member

    carrier = peers.member(name, settings)
    return replace(carrier, reply=node.schema) if isinstance(carrier, Member) and node.schema else carrier


def _mind(node: Node, who: Mind | str, settings: Settings) -> Any:
    """Return a mind of the file as a member of the run; "" stands for the run's own model without a persona."""
    from decimal import Decimal

    from agent_core.members import Member

    if isinstance(who, str):
        return Member(node.name, agent.system, reply=node.schema)
    table = who.table
    if table.call:
        return _of_elsewhere(table.call, node, settings)
    tools = [each for each in agent.tools if each.name in table.tools]
    budget = None if table.budget is None else Decimal(str(table.budget))
    made = Member(
        who.name,
        who.system,
        tools,
        table.provider,
        table.model,
        table.pattern,
        table.max_steps,
        budget,
        table.temperature,
        node.schema,
    )
    return replace(made, pattern=_consulting(who, made, settings)) if table.allow_delegation else made


def _consulting(who: Mind, made: Member, settings: Settings) -> Callable[[Task], Pattern]:
    """Return a pattern in which an agent may ask the other agents of the file (who cannot ask on)."""
    from agent_patterns.desks import Desk, Roster
    from agent_patterns.graph_shape import Node
    from agent_patterns.handoff import handoff

    others = {name: other for name, other in who.others.items() if name != who.name}
    alone = {name: replace(other, table=replace(other.table, allow_delegation=False)) for name, other in others.items()}
    desks = {
        name: Desk(description=other.table.description or other.table.role, call=_mind(Node(name), other, settings))
        for name, other in alone.items()
    }
    own = [each.name for each in made.tools]
    return lambda task: handoff(task, Roster({who.name: Desk(made.system, tools=own, model=made.model), **desks}, who.name))


# -- commands --------------------------------------------------------------------------------------------------------------------


def run(  # noqa: PLR0913, PLR0917 - flags
    task: Task,
    settings: Settings,
    input_: str = "",
    set_: tuple[str, ...] = (),
    break_at: tuple[str, ...] = (),
    process: Literal["", "sequential", "parallel", "hierarchical"] = "",
    jobs: int = 1,
    piped: bool = False,
) -> Pattern:
    """Run a graph: a file, a preset's name, or `-` for stdin; further words are its input.

    Args:
        task: the words and the material.
        settings: who is registered, what may run at a time.
        input_: the graph's input: a file's name or text.
        set_: a variable of the graph, as NAME=VALUE.
        break_at: stop before this node until a person lets it go on.
        process: how the tasks of a crew are scheduled.
        jobs: so many nodes at a time (default: what the graph says, else 4).
        piped: the graph is on stdin and all words are its input; `run -` says the same.
    """
    from agent_patterns.graph import graph

    name, words = _named(task, piped=piped)
    plans: list[Graph] = []
    read = json.loads(str((yield Call(Reader(settings, input_, process, plans, piped), name))))
    if not plans:
        from agent_patterns import graph_file

        plans.append(graph_file.load(read["path"], read["files"].__getitem__, known(settings), process))
    plan = _changed(plans[0], set_, break_at, jobs if jobs > 1 or settings.origins.get("jobs", "default") != "default" else 0)
    texts = [text for text in (words, read["input"]) if text]
    try:
        return (yield from graph(task, plan, finder(settings), "\n\n".join(texts)))
    except WaitingError as error:
        raise WaitingError(str(error), hint=error.hint.replace("agent-log resume", f"{agent.name} resume")) from None


def _named(task: Task, *, piped: bool) -> tuple[str, str]:
    """Return the graph that a run was asked for (its name, or its text) and the input that came with it."""
    words, materials = split(task.text)
    if piped and materials and materials[0][0] == "stdin":
        return materials[0][1], "\n\n".join(text for text in (words, *(text for _, text in materials[1:])) if text.strip())
    texts = [text for _, text in materials]
    if not words.strip():
        raise UsageError("which graph?", hint="agent-graph run FILE, or the name of a preset (agent-graph list)")
    if _is_text(words) or _is_file(words):
        return words, "\n\n".join(texts)
    name, _, rest = words.partition(" ")
    return name, "\n\n".join([*([rest] if rest.strip() else []), *texts])


def _changed(plan: Graph, pairs: Sequence[str], stops: Sequence[str], jobs: int) -> Graph:
    """Return the graph with variables, breakpoints and the number of nodes at a time from the command line."""
    from agent_core.options import unknown

    given: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set needs NAME=VALUE, not {pair[:80]!r}")
        if name not in plan.variables:
            raise unknown("variable", name, list(plan.variables))
        given[name] = value
    for name in stops:
        if name not in plan.nodes:
            raise unknown("node", name, list(plan.nodes))
    nodes = {name: replace(node, stop_before=True) if name in stops else node for name, node in plan.nodes.items()}
    return replace(plan, nodes=nodes, variables={**plan.variables, **given}, parallel=jobs or plan.parallel)


def check(file: str, settings: Settings, process: Literal["", "sequential", "parallel", "hierarchical"] = "") -> Answer:
    """Say whether a graph is right; status 65 with file and line of what is not.

    Args:
        file: a file, or the name of a preset.
        settings: who is registered.
        process: how the tasks of a crew are scheduled.
    """
    from agent_patterns import graph_shape

    plan = loaded(file, settings, process)
    return Answer(graph_shape.summary(plan), {"name": plan.name, **graph_shape.counts(plan)})


def dot(file: str, settings: Settings, process: Literal["", "sequential", "parallel", "hierarchical"] = "") -> str:
    """Draw a graph in Graphviz' language.

    Args:
        file: a file, or the name of a preset.
        settings: who is registered.
        process: how the tasks of a crew are scheduled.
    """
    from agent_patterns import graph_shape

    return graph_shape.dot(loaded(file, settings, process))


def list_(settings: Settings) -> Answer:
    """List the graphs of this suite and your own, with what they are for and what their input is.

    Args:
        settings: where your own are.
    """
    from agent_patterns import tables

    rows = []
    for name, path in presets(settings).items():
        data = tables.parse(str(path), tables.read(str(path)))
        rows.append({
            "name": name, "description": data.get("description", ""), "input": data.get("input", ""),
            "variables": data.get("vars", {}), "path": str(path),
        })  # fmt: skip
    width = max((len(row["name"]) for row in rows), default=0)
    return Answer("".join(f"{row['name']:<{width}}  {row['description']} (input: {row['input']})\n" for row in rows), rows)


def resume(run: str, command: Command, approve: bool = False, answer: str = "", step: str = "") -> Answer:
    """Go on with a run: one that waits for a person (--approve, --deny or --answer TEXT), or one that was stopped.

    Args:
        run: the run's name, the beginning of one, or `last`.
        command: the call.
        approve: the answer is yes.
        answer: the answer is this text.
        step: which question is answered, if the run waits for several.
    """
    from agent_core import asking, waiting

    if approve and answer:
        raise UsageError("one answer: --approve, --deny or --answer TEXT")
    said = "yes" if approve else answer
    store = command.store()
    name = store.run(run, agent.name if run == "last" else None).id
    if said:
        waiting.answer(store, name, said, step)
    parsed = replace(command.parsed, words=(), values={**command.parsed.values, "resume": name})
    return Answer("", None, asking.one_run(replace(command, parsed=parsed, chosen=("run", {}))))


@tool(read_only=True, idempotent=True, timeout=35)
def linter(code: str, filename: str = "code.py") -> str:
    """Check source code with a linter, without running it; returns a line a finding.

    Args:
        code: source code.
        filename: its name; the ending chooses the linter.
    """
    from agent_plugins.linters import lint

    try:
        findings = lint(code, filename)
    except ToolError as error:
        return f"not checked: {error}"
    return (
        "\n".join(f"{filename}:{each.line}: {each.severity} {each.category}: {each.message}" for each in findings) or "no findings"
    )


agent = Agent(
    __doc__,
    "You do one step of a larger piece of work. Answer with its result and nothing else.",
    tools=[*common_tools(), linter],
    commands=[run, check, resume, dot, list_],
    examples=[
        "agent-graph run research 'Unix pipes' --set kind=memo",
        "agent-graph run support.toml --input ticket.txt",
        "agent-graph check content.toml",
        "agent-graph resume last --approve",
    ],
    tags=["graph", "workflow", "crew", "flow", "approval"],
    when_to_use="Work has known steps, branches, loops or approvals, and several agents or tools take part.",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Be the command line. `run -` reads the graph from stdin, whatever words follow it.

    After `resume`, a bare --deny is the answer no; with a value it is the general flag, as everywhere.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:2] == ["run", "-"]:
        words.insert(1, "--piped")
    if words[:1] == ["resume"]:
        bare = {place for place, word in enumerate(words) if word == "--deny" and (words[place + 1 :] or ["-"])[0].startswith("-")}
        words = ["--answer=no" if place in bare else word for place, word in enumerate(words)]
    if argv is None:
        sys.argv[1:] = words
    agent.main(None if argv is None else words)


if __name__ == "__main__":
    main()
