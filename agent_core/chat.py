"""chat - a conversation: one line, one turn. `exit` or the end of input ends it, Ctrl-C cancels the turn.

Prompts go to stderr and only to a terminal; answers to stdout. `--session NAME` keeps what was said; without it the conversation
lives as long as the process. An error costs one line, not the conversation.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from agent_core import asking, messages, records, stdin, taint, terminal
from agent_core.errors import AgentError, Cancelled, Interrupt, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent_core.agent import Job, RunResult
    from agent_core.cli import Command
    from agent_core.config import Settings
    from agent_core.messages import Message
    from agent_core.provider import Provider

LEAVE = frozenset({"exit", "quit", "/exit", "/quit"})


def run(command: Command) -> int:
    """Hold the conversation and return the status: 0, however its turns went. What `--file` and `--attach` give opens it."""
    if command.agent.commands:
        raise UsageError(f"{command.agent.name} holds no conversation", hint="see --help for its commands")
    materials, images = asking.given(command)
    history: list[Message] = []
    seen: frozenset[str] = frozenset()
    turns = 0
    settings = asking.settings_of(command)
    providers = asking.providers(command, settings)
    for text in _said(command):
        turns += 1
        what = asking.Asked(text, materials, images=images)
        job = asking.job_of(command, what, history)
        if seen:
            job = replace(job, provenance=(taint.row("conversation", seen), *job.provenance))
        result = _turn(command, job, settings, providers)
        if result is None:
            continue
        _show(command, result, turns)
        if result.error is None:
            materials, images = (), ()
        if result.error is None and not command.settings.session:
            seen |= taint.of_sources(result.provenance)
            history += [what.message, messages.assistant(result.output)]
    if command.out.mode != "text":
        command.out.finish({**records.plain_data(""), "turns": turns})
    return 0


def _turn(command: Command, job: Job, settings: Settings, providers: Sequence[Provider]) -> RunResult | None:
    from agent_core.agent import execute

    command.out.streamed = ""
    try:
        listeners, close = asking.listen(command)
        try:
            return execute(command.agent, job, settings, listeners, providers=providers)
        finally:
            close()
    except AgentError as error:
        command.out.say(error.line())
    except Interrupt as stop:
        _end_on_terminate(stop.status)
        command.out.say(Cancelled("turn cancelled").line())
    return None


def _end_on_terminate(status: int) -> None:
    if status != 130:
        raise Interrupt(status)


def _show(command: Command, result: RunResult, turn: int) -> None:
    if result.error is not None:
        _end_on_terminate(130 if result.status != 143 else 143)
        command.out.say(result.error.line())
        if command.out.streamed and terminal.is_terminal(1):
            terminal.write(1, b"\n")
    if command.out.mode != "text":
        command.out.record("item", records.result_data(result), f"turn-{turn}", id_=result.run_id)
    elif result.error is None:
        command.out.text(result.output, pretty=True)


def _said(command: Command) -> Iterator[str]:
    """Yield what the person says, words on the command line first."""
    if command.words:
        yield " ".join(command.words)
    while True:
        try:
            line = _line(command)
        except Interrupt as stop:
            _end_on_terminate(stop.status)
            terminal.complain("\n")
            continue
        if line is None or line.strip() in LEAVE:
            return
        if line.strip():
            yield line.rstrip("\n")


def _line(command: Command) -> str | None:
    """Return the next line, or None at the end. A prompt only where a person sees it."""
    if terminal.is_terminal(0) and terminal.is_terminal(2) and not command.settings.quiet:
        terminal.complain(f"{command.agent.name}> ")
    return _next_line()


def _next_line() -> str | None:
    """Read one line byte by byte: nothing beyond it may be taken from a pipe that tools might share."""
    data = b""
    while not data.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return stdin.text_of(data) if data else None
        data += byte
    return stdin.text_of(data)
