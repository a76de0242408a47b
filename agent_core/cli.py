"""cli - the contract of wire.md, made for every agent from its definition alone.

`main(agent)` reads argv and stdin, writes stdout, and leaves with the status. Nothing is imported that the call does not need:
`--version`, `--agent-schema` and plain help answer from the table of flags.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent_core import terminal
from agent_core.errors import AgentError, Cancelled, Failed, Interrupt, UsageError
from agent_core.options import SCHEMA_VIEWS, Option, Parsed, help_text, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

    from agent_core.agent import Agent, RunResult
    from agent_core.config import Settings
    from agent_core.records import Source, Upstream
    from agent_core.store import Store

_FIRST = ("--version", "__schema", *(f"--agent-schema={view}" for view in SCHEMA_VIEWS), "--agent-schema")
_AGAIN = 0.5
_LONG = 3.0


@dataclass(slots=True)
class Out:
    """Where a command's words go: its mode (text, json, jsonl), what is known for records, what was printed already."""

    name: str
    version: str
    mode: str = "text"
    quiet: bool = False
    debug: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    color: str = "auto"
    blobs: str = ""
    traceparent: str = ""
    upstream: Upstream | None = None
    streamed: str = ""
    done: bool = False

    def say(self, text: str) -> None:
        """Write one line for a person to stderr."""
        if self.quiet:
            return
        from agent_core import redact

        flat = " ".join(redact.redact(text).split())
        terminal.complain(f"{self.name}: {flat}\n")

    def source(self, subject: str = "") -> Source:
        """Return who writes the records."""
        from agent_core import records

        if not self.traceparent:
            parent = self.upstream.traceparent if self.upstream and self.upstream.traceparent else self.env.get("TRACEPARENT", "")
            self.traceparent = records.child_traceparent(parent)
        return records.Source(self.name, self.version, self.traceparent, subject)

    def record(self, kind: str, data: Mapping[str, Any], subject: str = "", id_: str = "", time: float | None = None) -> None:
        """Write one record and let go of it at once."""
        from agent_core import records

        line = records.capped(records.record(kind, self.source(subject), data, id_=id_, time=time), self._blobs())
        terminal.write(1, terminal.clean_json(line) if terminal.is_terminal(1) else line)

    def _blobs(self) -> str:
        from agent_core import config

        return self.blobs or f"{config.data_dir(self.env)}/blobs"

    def finish(self, data: Mapping[str, Any], id_: str = "", time: float | None = None) -> None:
        """Write the one terminal record."""
        if not self.done:
            self.done = True
            self.record("result", data, id_=id_, time=time)

    def answer(self, text: str, structured: Any = None) -> int:
        """Write the result of a command that needed no run; return its status."""
        if self.mode != "text":
            from agent_core import records

            self.finish(records.plain_data(text, structured))
        elif text:
            self.text(text)
        return 0

    def text(self, text: str, *, pretty: bool = False) -> None:
        """Write a text result: one newline at its end; cleaned (and Markdown shown as such) on a terminal only."""
        rest = text[len(self.streamed) :] if self.streamed and text.startswith(self.streamed) else text
        if terminal.is_terminal(1):
            if pretty and not self.streamed and terminal.decorated(1, self.color, self.env):
                from agent_core import view

                if view.looks_like_markdown(rest):
                    terminal.write(1, terminal.encode(view.markdown(rest)))
                    return
            rest = terminal.clean(rest)
        terminal.write(1, terminal.encode(rest if text.endswith("\n") else f"{rest}\n"))

    def piece(self, text: str) -> None:
        """Write a piece of an answer that is still arriving."""
        self.streamed += text
        terminal.write(1, terminal.encode(terminal.clean(text) if terminal.is_terminal(1) else text))


@dataclass(frozen=True, slots=True)
class Command:
    """One call of an agent: what was asked, with which settings, where the answer goes; `chosen`: command and arguments."""

    agent: Agent
    parsed: Parsed
    settings: Settings
    out: Out
    began: float
    chosen: tuple[str, Mapping[str, Any]] = ("", {})

    def store(self) -> Store:
        """Return the opened store of the runs; it stays open."""
        from agent_core import running

        return running.opened(running.store_path(self.settings))

    def flag(self, name: str) -> Any:
        """Return a flag's value, or None."""
        return self.parsed.values.get(name)

    @property
    def words(self) -> list[str]:
        """The words, without `-`."""
        return [word for word in self.parsed.words if word != "-"]

    @property
    def deadline(self) -> float | None:
        """When `--timeout` ends (monotonic)."""
        return None if self.settings.timeout is None else self.began + self.settings.timeout

    def remaining(self) -> Settings:
        """Return the settings with what is left of the timeout: reading stdin counts, too."""
        if self.deadline is None:
            return self.settings
        return replace(self.settings, timeout=max(0.001, self.deadline - time.monotonic()))


def main(agent: Agent, argv: Sequence[str] | None = None) -> NoReturn:
    """Be the command line of an agent. With `argv` given (tests, other programs) leave by SystemExit, else at once."""
    began = time.monotonic()
    closed = terminal.reserve_streams()
    words = terminal.arguments() if argv is None else list(argv)
    out = Out(agent.name, agent.version)
    try:
        if 1 in closed:
            raise Failed("cannot write to stdout: it is closed", hint="drop >&-")
        if len(words) == 1 and words[0] in _FIRST:
            status = _first(agent, words)
        else:
            _guess(out, words)
            status = _guarded(agent, words, out, began)
    except AgentError as error:
        status = _fail(out, error)
    except (Interrupt, KeyboardInterrupt) as stop:
        status = _interrupted(out, getattr(stop, "status", 130))
    _leave(status, at_once=argv is None)


def _guarded(agent: Agent, words: list[str], out: Out, began: float) -> int:
    _signals(out)
    printed, sys.stdout = sys.stdout, sys.stderr  # a tool that prints must not write into the result
    try:
        return _run(agent, words, out, began)
    except AgentError as error:
        if out.debug:
            _traceback()
        return _fail(out, error)
    except (Interrupt, KeyboardInterrupt) as stop:
        return _interrupted(out, getattr(stop, "status", 130))
    except Exception as error:  # noqa: BLE001 - the one catch at the edge
        if out.debug:
            _traceback()
        return _fail(out, AgentError(f"internal error: {type(error).__name__}: {error}", hint="--debug shows where"))
    finally:
        sys.stdout = printed


def _traceback() -> None:
    import traceback

    from agent_core import redact

    terminal.complain(redact.redact(traceback.format_exc()))


def _guess(out: Out, words: Sequence[str]) -> None:
    """Guess mode and silence before the command line is understood: its errors must have the right form, too."""
    from agent_core import config

    flags = list(words[: list(words).index("--")] if "--" in words else words)
    short = "".join(word[1:] for word in flags if word[:1] == "-" and word[1:].isalpha() and len(word) < 6)
    out.mode = "jsonl" if "--jsonl" in flags else "json" if "--json" in flags or "j" in short else "text"
    out.quiet = "--quiet" in flags or "q" in short
    out.debug = "--debug" in flags
    out.env = config.environ()


def _first(agent: Agent, words: Sequence[str]) -> int:
    """Answer what needs no configuration and no parser."""
    if words[0] == "--version":
        terminal.write(1, f"{agent.name} {agent.version}\n".encode())
        return 0
    from agent_core import card

    name = words[0].partition("=")[2] or "card"
    terminal.write(1, terminal.encode(card.view(agent, name, agent.table())))
    return 0


def _signals(out: Out) -> None:
    """Turn SIGINT and SIGTERM into Interrupt. One more shortly after (timeout(1) sends two) counts as the same; later ones kill."""
    last = [0.0]

    def interrupt(number: int, _frame: Any) -> None:
        now = time.monotonic()
        if last[0] and now - last[0] < _AGAIN:
            return
        if last[0]:
            _kill_programs()
            terminal.die_by(number)
        last[0] = now
        _announce(out)
        raise Interrupt(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        # A shell starts background jobs with SIGINT ignored: leave it so.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)


def _announce(out: Out) -> None:
    """Tell called programs' time, where it may be long."""
    processes = sys.modules.get("agent_core.processes")
    count, seconds = processes.ending() if processes is not None else (0, 0.0)
    if count and seconds > _LONG:
        out.say(f"stopping: called programs have {seconds:g} s to end; interrupt again to stop at once")


def _kill_programs() -> None:
    """Kill what this process started: it is about to end without waiting for anything."""
    processes = sys.modules.get("agent_core.processes")
    if processes is not None:
        processes.kill_all()


def _run(agent: Agent, words: list[str], out: Out, began: float) -> int:
    from agent_core import config, plugins

    options = agent.table(_pattern_options(words, out.env))
    asked = out.env.get(f"_{agent.name.upper().replace('-', '_')}_COMPLETE", "")
    if asked:
        from agent_core import typer_app

        return _printing(lambda: typer_app.complete(agent.name, agent.doc, options, asked))
    parsed, problem = _parsed(words, options)
    if parsed is not None and (status := _about(agent, parsed, options, out)) is not None:
        return status
    cwd = _cwd()
    files = config.config_files(out.env, cwd)
    added = plugins.load(config.plugins_named(files, out.env))
    if added.manager is not None:
        options = agent.table(_pattern_options(words, out.env), added.options())
        parsed, problem = _parsed(words, options)
    if parsed is None:
        raise problem or UsageError("the command line cannot be read", hint="see --help")
    settings = config.load(parsed.values, out.env, cwd, options=options, agent=agent.name, files=files)
    command = Command(agent, parsed, settings, _ready(out, parsed, settings), began)
    if command.flag("list_plugins"):
        from agent_core import asking

        return asking.list_plugins(command)
    return _command(command)


def _cwd() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - no pathlib on this path
    except OSError as error:
        raise Failed(f"there is no working directory: {error.strerror}", hint="it may have been deleted: cd to another") from None


def _pattern_options(words: Sequence[str], env: Mapping[str, str]) -> tuple[Option, ...]:
    """Return the flags of the pattern that the command line or the environment chooses."""
    name = env.get("AGENT_PATTERN", "")
    for place, word in enumerate(words):
        if word == "--":
            break
        if word == "--pattern":
            name = words[place + 1] if place + 1 < len(words) else ""
        elif word.startswith("--pattern="):
            name = word.partition("=")[2]
    if not name:
        return ()
    from agent_core.agent import pattern_options

    return pattern_options(name)


def _parsed(words: Sequence[str], options: Sequence[Option]) -> tuple[Parsed | None, UsageError | None]:
    try:
        return parse(words, options), None
    except UsageError as error:
        return None, error


def _printing(work: Callable[[], Any]) -> int:
    """Do work that prints by itself, on the real stdout."""
    hidden, sys.stdout = sys.stdout, open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    try:
        work()
        sys.stdout.flush()
    except BrokenPipeError:
        terminal.die_by(signal.SIGPIPE)
    finally:
        sys.stdout = hidden
    return 0


def _about(agent: Agent, parsed: Parsed, options: Sequence[Option], out: Out) -> int | None:
    """Answer help, version, card and completion; None for anything else."""
    values = parsed.values
    if values.get("help"):
        return _help(agent, parsed, options, out)
    if values.get("version"):
        return out.answer(f"{agent.name} {agent.version}", {"name": agent.name, "version": agent.version})
    if values.get("agent_schema") or parsed.words == ("__schema",):
        from agent_core import card

        terminal.write(1, terminal.encode(card.view(agent, values.get("agent_schema") or "card", options)))
        return 0
    if values.get("completion"):
        from agent_core import typer_app

        return out.answer(typer_app.completion_script(agent.name, values["completion"]))
    return None


def _help(agent: Agent, parsed: Parsed, options: Sequence[Option], out: Out) -> int:
    doc = agent.doc
    if agent.commands:
        from agent_core import commands

        if parsed.words:
            return out.answer(commands.manual(commands.find(agent, parsed.words)[0], agent.name))
        doc = f"{doc}\n\n{commands.help_section(agent)}"
    color = str(parsed.values.get("color", "auto"))
    if out.mode == "text" and terminal.is_terminal(1) and terminal.decorated(1, color, out.env):
        from agent_core import typer_app

        return _printing(lambda: typer_app.show_help(agent.name, doc, options))
    return out.answer(help_text(agent.name, doc, options))


def _ready(out: Out, parsed: Parsed, settings: Settings) -> Out:
    """Correct the first guess by what the command line and the settings really say."""
    out.mode = "jsonl" if parsed.values.get("jsonl") else "json" if parsed.values.get("json") else "text"
    out.quiet, out.debug, out.color = settings.quiet, settings.debug, settings.color
    out.env = settings.environment
    out.blobs = f"{settings.data_dir}/blobs"
    for notice in settings.notices:
        out.say(notice)
    return out


def _command(command: Command) -> int:
    """Do what was asked: a list, a conversation, one tool, rows, or one run."""
    from agent_core import asking

    command = asking.prompted(command)
    asking.check_flags(command)
    lists = {"list_models": asking.list_models, "show_config": asking.show_config}
    for name, answer in lists.items():
        if command.flag(name):
            return answer(command)
    from agent_core import plugins

    # Only now: equipping may start servers, which the lists above do not need.
    command = replace(command, agent=plugins.equip(command.agent, command.settings))
    asking.check_grants(command)
    if command.flag("list_tools"):
        return asking.list_tools(command)
    if command.flag("chat"):
        from agent_core import chat

        return chat.run(command)
    tool = command.flag("tool") is not None
    if command.agent.commands and not tool:
        from agent_core import commands

        return commands.call(command)
    if asking.in_rows(command):
        from agent_core import rows

        return rows.run(command)
    return asking.one_tool(command) if tool else asking.one_run(command)


# -- endings ---------------------------------------------------------------------------------------------------------------------


def settle(command: Command, result: RunResult) -> int:
    """Print what a run came to and return the status."""
    out = command.out
    if out.mode != "text":
        from agent_core import records

        out.traceparent = result.traceparent or out.traceparent
        out.finish(records.result_data(result, out.upstream), id_=result.run_id, time=result.time)
    elif result.error is None:
        out.text(result.output, pretty=command.flag("tool") is None)
    if result.error is not None:
        out.say(result.error.line())
    if result.error is not None and out.streamed and terminal.is_terminal(1):
        terminal.write(1, b"\n")
    return result.status


def _fail(out: Out, error: AgentError) -> int:
    """Report an error that is no run's result; the report itself may fail (a full disk)."""
    out.say(error.line())
    stop = {77: "denied", 124: "timeout", 130: "cancelled", 143: "cancelled"}.get(error.status, "error")
    try:
        if out.mode != "text" and not out.done:
            from agent_core import records

            out.finish(records.failure_data(error, error.status, stop, out.upstream))
    except AgentError as second:
        out.say(second.line())
    return error.status


def _interrupted(out: Out, status: int) -> int:
    error = Cancelled("interrupted")
    error.status = status
    return _fail(out, error)


def _leave(status: int, *, at_once: bool) -> NoReturn:
    """End the process: by SIGINT where that was the reason, else with the status."""
    if "agent_core.plugins" in sys.modules:
        with suppress(Interrupt):  # what plugins started is ended once, however often we are told to go
            sys.modules["agent_core.plugins"].end()
    if at_once and "agent_core.processes" in sys.modules:
        try:
            sys.modules["agent_core.processes"].end_all()
        except Interrupt as stop:  # the first signal comes while we wait for programs: that is over now
            status = stop.status
            _kill_programs()
    with suppress(OSError, ValueError, AttributeError):  # a stderr that nobody hears is no failure of the run
        sys.stderr.flush()
    if not at_once:
        raise SystemExit(status)
    if status == 130:
        terminal.die_by(signal.SIGINT)
    # Nothing is left to do: the interpreter's own clean-up would only cost time, and abandoned threads would hold it up.
    os._exit(status)
