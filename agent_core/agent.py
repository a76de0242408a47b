"""agent - an agent is a docstring, a system prompt and typed tools; every door ends in `execute`.

    agent = Agent(__doc__, "Answer with one number.", tools=[count])
    main = agent.main                       # the command line
    agent.run("how many words?").output     # a library

`execute` prepares a run (providers, journal, guards), drives it and settles it: whatever happens there is one RunResult.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agent_core.errors import AgentError, UsageError
from agent_core.events import Event
from agent_core.messages import Message, user
from agent_core.task import DATA_RULE, Task
from agent_core.tool import Toolset

if TYPE_CHECKING:
    from pathlib import Path

    from agent_core.effects import Pattern
    from agent_core.run import Run, Steps
    from agent_core.tool import Tool

VERSION = "0.1.0"
EMPTY: Mapping[str, Any] = MappingProxyType({})
Sink = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do: the user's message, what was said before, where it came from, and by which command (name, arguments).

    `charged`: pico-dollars that preparing it cost already; they count against the run's budgets.
    """

    message: Message
    history: Sequence[Message] = ()
    session: str = ""
    resume: str = ""
    replay: str = ""
    provenance: Sequence[Mapping[str, Any]] = ()
    traceparent: str = ""
    subject: str = ""
    command: tuple[str, Mapping[str, Any]] = ("", EMPTY)
    charged: int = 0


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run came to. `status` is the exit status, `usage` the object of wire.md §4 (money as a decimal string or None)."""

    status: int
    stop: str
    output: str = ""
    structured: Any = None
    steps: int = 0
    run_id: str = ""
    provider: str = ""
    model: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)
    error: AgentError | None = None
    provenance: Sequence[Mapping[str, Any]] = ()
    time: float = 0.0
    traceparent: str = ""


class Agent:
    """One agent's definition. The command-line contract is made from it alone."""

    def __init__(  # noqa: PLR0913 - a definition is read at its keywords, not at positions
        self,
        doc: str | None,
        system: str = "",
        *,
        tools: Sequence[Tool] = (),
        name: str | None = None,
        version: str = VERSION,
        stdin: str = "optional",
        pattern: str | Callable[[Task], Pattern] = "react",
        reply: Any = None,
        options: Sequence[Any] = (),
        examples: Sequence[str] = (),
        tags: Sequence[str] = (),
        when_to_use: str = "",
        offline: Callable[[str, Sequence[tuple[str, str]]], Any] | None = None,
        verdict: Callable[[RunResult, Any], bool] | None = None,
        render: Callable[[Any], str] | None = None,
        commands: Sequence[Callable[..., Any]] = (),
        default: str = "",
    ) -> None:
        """Keep the definition.

        Args:
            doc: the manual; its first line is "name - purpose".
            system: the system prompt.
            tools: functions made with `@tool`.
            name: the command's name; read from the manual if absent.
            version: the agent's version.
            stdin: required, optional or none (wire.md §2).
            pattern: the name of a pattern, or a function from a Task to a generator.
            reply: what an answer must satisfy: a pydantic model, "module:Model", or a JSON Schema.
            options: further command-line flags (`agent_core.options.Option`).
            examples: command lines for the help and the card.
            tags: words for discovery.
            when_to_use: one sentence for peers.
            offline: makes a structured answer without a model: (instruction, [(origin, text)]) -> value or None.
            verdict: says whether the answer is a yes; a no ends with status 3.
            render: the text form of a structured answer.
            commands: typed functions as subcommands (`agent_core.commands`).
            default: the command that words belong to which name none.
        """
        self.doc = (doc or "").strip()
        first = self.doc.split("\n", 1)[0]
        named, _, self.summary = first.partition(" - ")
        self.name = name or named.strip()
        if not self.name or not self.summary:
            raise ValueError('an agent\'s docstring begins with "name - purpose"')
        self.version, self.system, self.stdin = version, system, stdin
        self.tools = tools if isinstance(tools, Toolset) else Toolset(tuple(tools))
        self.added: tuple[Tool, ...] = ()  # those of its tools that plugins brought
        self.pattern, self.reply, self.options = pattern, reply, tuple(options)
        self.examples, self.tags, self.when_to_use = tuple(examples), tuple(tags), when_to_use
        self.offline, self.verdict, self.render = offline, verdict, render
        self.commands, self.default = tuple(commands), default
        self.source: str = str(sys._getframe(1).f_globals.get("__file__", ""))  # noqa: SLF001 - where the definition stands, for agent-log

    def main(self, argv: Sequence[str] | None = None) -> None:
        """Be the command line: read argv and stdin, write stdout, exit with the status."""
        from agent_core.cli import main

        main(self, argv)

    def run(self, text: str, **settings: Any) -> RunResult:
        """Run on a text from a program; `settings` are those of the command line. Raises nothing: see `RunResult.error`."""
        return execute(self, Job(user(text)), self._settings(settings))

    async def arun(self, text: str, **settings: Any) -> RunResult:
        """Do what `run` does, on the running event loop."""
        return await aexecute(self, Job(user(text)), self._settings(settings))

    def _settings(self, given: Mapping[str, Any]) -> Any:
        from agent_core import config

        return config.load(given, options=self.table(), agent=self.name)

    def table(self, *more: Any) -> tuple[Any, ...]:
        """Return all flags: general ones, the agent's own, those of its commands, and `more` (tuples of Option)."""
        from agent_core.options import table

        if not self.commands:
            return table(self.options, *more)
        from agent_core import commands

        return table(self.options, commands.options(self), *more)

    def task(self, job: Job, settings: Any, tools: Toolset) -> Task:
        """Return what the pattern works on."""
        schema = None if self.reply is None else _schema(self.reply)
        if settings.output_schema:
            schema = _schema_file(settings.output_schema)
        return Task(job.message, tools, self.prompt(settings, job), job.history, settings.max_steps, schema, settings.extra)

    def prompt(self, settings: Any, job: Job | None = None) -> str:
        """Return the system prompt: the agent's own or --system, under a persona if one was chosen, with the rule about data."""
        text = settings.system or self.system
        if settings.persona:
            from agent_core import prompt

            text = prompt.compose(prompt.persona(settings.persona, _persona_folders(settings)), text)
        marked = job is not None and "<material origin=" in job.message.text
        return f"{text}\n\n{DATA_RULE}".strip() if marked else text

    def steps(self, task: Task, settings: Any, job: Job | None = None) -> Pattern:
        """Return the pattern's generator for a task: a command's, or the chosen one."""
        if job is not None and job.command[0]:
            from agent_core import commands

            one, _ = commands.find(self, [job.command[0]])
            made: Pattern = one.function(**commands.supply(one, dict(job.command[1]), Task=task, Settings=settings))
            return made
        pattern = find_pattern(settings.pattern or self.pattern, settings)(task)
        declared = task.schema if settings.output_schema else self.reply
        if declared is None:
            return pattern
        from agent_core.checked import checked

        return checked(pattern, task, declared)

    def program(self, message: str, run: Run, prefix: str) -> Steps:
        """Return the program of this agent as a child of a run (the effect `Call`)."""
        from agent_core.members import Member

        return (yield from Member.of(self).program(message, run, prefix))


def find_pattern(pattern: str | Callable[[Task], Pattern], settings: Any = None) -> Callable[[Task], Pattern]:
    """Return a pattern by name: a plugin's, or the function of that name in the module of that name in agent_patterns."""
    if callable(pattern):
        return pattern
    from importlib import import_module

    pattern = pattern.replace("-", "_")

    if settings is not None:
        from agent_core import plugins

        added: Callable[[Task], Pattern] | None = plugins.of(settings).pattern(pattern)
        if added is not None:
            return added
    if not pattern.isidentifier():
        raise _no_pattern(pattern)
    try:
        module = import_module(f"agent_patterns.{pattern}")
    except ModuleNotFoundError as error:
        if error.name != f"agent_patterns.{pattern}":
            raise
        raise _no_pattern(pattern) from None
    found: Callable[[Task], Pattern] | None = getattr(module, pattern, None)
    if found is None:
        raise _no_pattern(pattern)
    return found


def _no_pattern(name: str) -> UsageError:
    from agent_core.options import unknown

    return unknown("pattern", name, [each.replace("_", "-") for each in pattern_names()])


def pattern_options(name: str) -> tuple[Any, ...]:
    """Return the flags of a pattern: `OPTIONS` of its module. None for a pattern that does not exist (that is said later)."""
    from importlib import import_module
    from importlib.util import find_spec

    name = name.replace("-", "_")
    if not name.isidentifier() or find_spec(f"agent_patterns.{name}") is None:
        return ()
    return tuple(getattr(import_module(f"agent_patterns.{name}"), "OPTIONS", ()))


def pattern_names() -> list[str]:
    """Return the names of the patterns that are installed: modules with a function of their own name."""
    import pkgutil
    from importlib import import_module

    names = [module.name for module in pkgutil.iter_modules(import_module("agent_patterns").__path__)]
    return sorted(name for name in names if hasattr(import_module(f"agent_patterns.{name}"), name))


def _persona_folders(settings: Any) -> list[Path]:
    from pathlib import Path

    from agent_core import config

    return [Path(config.user_dir(settings.environment)) / "personas"]


def _schema(reply: Any) -> dict[str, Any]:
    from agent_core.checked import schema_of

    return schema_of(reply)


def _schema_file(path: str) -> dict[str, Any]:
    import json
    from pathlib import Path

    try:
        found = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or f"not JSON: {error}"
        raise UsageError(
            f"cannot read the output schema {path}: {why}", hint="--output-schema takes a file with a JSON Schema"
        ) from None
    if not isinstance(found, dict):
        raise UsageError(f"the output schema {path} is no JSON object")
    return found


def execute(agent: Agent, job: Job, settings: Any, sinks: Sequence[Sink] = (), **prepared: Any) -> RunResult:
    """Run a job to its result on this thread; every failure is in the result."""
    from agent_core import drive, running

    with running.session(agent, job, settings, sinks, **prepared) as session:
        session.settle(lambda: drive.run(session.program(), session.tell, session.deadline))
    return session.result


async def aexecute(agent: Agent, job: Job, settings: Any, sinks: Sequence[Sink] = (), **prepared: Any) -> RunResult:
    """Run a job to its result on the running event loop."""
    from agent_core import drive, running

    with running.session(agent, job, settings, sinks, **prepared) as session:
        await session.asettle(lambda: drive.arun(session.program(), session.tell))
    return session.result


def execute_tool(agent: Agent, name: str, arguments: Mapping[str, Any], settings: Any, sinks: Sequence[Sink] = ()) -> RunResult:
    """Run one of the agent's tools by the very path that a model's call takes; `structured` is the tool's value."""
    from agent_core import running

    return execute(running.tool_agent(agent, name, dict(arguments)), Job(user("")), settings, sinks, providers=(), store=None)
