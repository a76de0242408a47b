"""agent-supervise - keep processes running: restart what crashes, give up on what cannot be mended, leave nothing behind.

    agent-supervise run pool.toml            keep the pool; SIGTERM drains it, SIGHUP reads the file again
    agent-supervise status --json            {"total_restarts": 1, "children": [{"name", "state", "restarts", "pid", …}]}
    agent-supervise restart worker           stop worker   (without a name: stop all and end)   reload
    agent-supervise check pool.toml          file and line of what is wrong

    # pool.toml                              a child is any program, by words, never through a shell
    strategy = "rest-for-one"                one-for-one | one-for-all | rest-for-one (it and all that were started after it)
    [[child]]
    name = "worker"
    command = ["worker", "--fast"]
    restart = "on-failure"                   always | on-failure | never

More than max_restarts (3) crashes within window (5 s) mark a child failed; more than the pool's (20 in 60 s) end the pool.
on-failure does not restart after 0 and 3 (it ran well), 5 (it waits for a person), nor after 2, 4, 6, 65, 66, 77, 78, 124 (a
restart mends nothing). 69 and 75 are tried again later, with growing pauses, and are no crash. docs/supervision.md has all keys.

Status: 0 when all children finished, 1 when one failed, 5 when one waits for a person, 143 or 130 after a signal.

    $ agent-supervise check pool.toml
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_core import Agent
from agent_core.errors import InputError
from agent_core.task import Answer
from agent_patterns import tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from agent_core.cli import Command
    from agent_plugins.supervision.pool import Pool

_PIECE = 4096  # a pipe that is ready takes that much without waiting (PIPE_BUF, pipe(7))


def run(file: str, command: Command) -> Answer:
    """Keep the children of a pool file until they are done, or a signal or `stop` ends it.

    Args:
        file: the pool file.
        command: the call.
    """
    from agent_plugins.supervision import control
    from agent_plugins.supervision.supervisor import Supervisor, World, problem

    settings = command.settings
    pool = _loaded(file, settings.environment)
    event = _recorder(command, file)
    server = control.listen(settings.data_dir, pool.name)
    environment = {**settings.environment, "AGENT_DATA_DIR": str(Path(settings.data_dir).absolute())}
    say, output = _printers(command)
    world = World(
        environment, Path(file).absolute().parent, settings.data_dir, server, say, output, event,
        lambda: _loaded(file, settings.environment),
    )  # fmt: skip
    supervisor = Supervisor(pool, world)
    try:
        ending = supervisor.run()
    finally:
        server.close()
        control.unlink(settings.data_dir, pool.name)
    found = supervisor.status()
    error = problem(found, ending)
    status = {"SIGTERM": 143, "SIGINT": 130}.get(ending, error.status if error else 0)
    event(
        "run.finished", {"agent": command.agent.name, "status": status, "stop": _STOPS.get(status, "error"), "output": "", **found}
    )
    if error is not None:
        raise error
    return Answer("", found, status)


_STOPS = {0: "final", 5: "waiting", 130: "cancelled", 143: "cancelled"}


def status(command: Command, pool: str = "") -> Answer:
    """Say how the children are.

    Args:
        command: the call.
        pool: which pool, where several are kept.
    """
    return _shown(_asked(command, pool, do="status"))


def stop(command: Command, name: list[str], pool: str = "") -> Answer:
    """Stop one child, which then stays down, or (without a name) all, and the supervisor ends.

    Args:
        command: the call.
        name: the child.
        pool: which pool, where several are kept.
    """
    from agent_core.errors import UsageError

    if len(name) > 1:
        raise UsageError("stop takes one name, or none for all", hint="agent-supervise stop NAME")
    return _shown(_asked(command, pool, do="stop", name="".join(name)))


def restart(name: str, command: Command, pool: str = "") -> Answer:
    """Stop a child and start it again; its crashes are forgotten.

    Args:
        name: the child.
        command: the call.
        pool: which pool, where several are kept.
    """
    return _shown(_asked(command, pool, do="restart", name=name))


def reload(command: Command, pool: str = "") -> Answer:
    """Read the pool file again: new children start, changed ones are restarted, those that are gone end.

    Args:
        command: the call.
        pool: which pool, where several are kept.
    """
    return _shown(_asked(command, pool, do="reload"))


def check(file: str, command: Command) -> Answer:
    """Say whether a pool file is right.

    Args:
        file: the pool file.
        command: the call.
    """
    pool = _loaded(file, command.settings.environment)
    names = [child.name for child in pool.child]
    children = f"{len(names)} {'child' if len(names) == 1 else 'children'}"
    return Answer(f"ok: {children}, {pool.strategy}", {"pool": pool.name, "strategy": pool.strategy, "children": names})


# --- the pool file -----------------------------------------------------------------------------------------------------------


def _loaded(file: str, environment: Mapping[str, str]) -> Pool:
    """Return the pool of a file. InputError with FILE:LINE, MissingInput if there is none."""
    import re
    from dataclasses import replace

    from agent_plugins.supervision import pool as pools

    folder = Path(file).absolute().parent

    def wrong(data: Any) -> Iterator[tables.Problem]:
        found = [*pools.problems(data)]
        yield from (tables.Problem(place, text) for place, text in (found or _missing(data, folder, environment)))

    try:
        data = tables.load(file, pools.Pool, wrong)
    except InputError as error:
        error.hint = "docs/supervision.md has every key"
        raise
    made = pools.pool_of(data)
    stem = re.sub(r"[^A-Za-z0-9_.-]", "-", Path(file).stem).strip(".-_")[:64]
    return replace(made, name=made.name or stem or "pool")


def _missing(data: Any, folder: Path, environment: Mapping[str, str]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield programs and folders that are not there."""
    import shutil

    for index, child in enumerate(data["child"]):
        where = folder / child.get("directory", "")
        if not where.is_dir():
            yield ("child", index, "directory"), f"{child['name']}: there is no folder {child['directory']}"
            continue
        path = child.get("environment", {}).get("PATH", environment.get("PATH", os.defpath))
        word = child["command"][0]
        if shutil.which(str(where / word) if "/" in word else word, path=path) is None:
            yield ("child", index, "command"), f"{child['name']}: there is no program {word[:200]!r}"


# --- streams -----------------------------------------------------------------------------------------------------------------


def _printers(command: Command) -> tuple[Callable[[str], None], Callable[[str, str], None]]:
    """Return what says things on stderr, and what passes children's lines on. They never wait: what nobody reads is counted."""
    import select

    from agent_core import redact, terminal

    lost = [0]
    ready = select.poll()
    ready.register(2, select.POLLOUT)

    def put(name: str, line: str) -> None:
        if command.out.quiet:
            return
        text = redact.redact(f"{name}: {line}")
        if lost[0]:
            text = f"{command.agent.name}: {lost[0]} pieces of output were lost: nobody reads stderr\n{text}"
        for piece in _pieces(text):
            if not _takes(ready):
                lost[0] += 1
                return
            terminal.complain(piece)
        terminal.complain("\n")
        lost[0] = 0

    def say(text: str) -> None:
        if _takes(ready):
            command.out.say(text)
        else:
            lost[0] += 1

    return say, put


def _pieces(text: str) -> list[str]:
    size = _PIECE // 4 - 8  # a character has at most four bytes
    return [text[at : at + size] for at in range(0, len(text), size)]


def _takes(ready: Any) -> bool:
    import select

    return any(events & select.POLLOUT for _, events in ready.poll(0))


def _recorder(command: Command, file: str) -> Callable[[str, dict[str, Any]], None]:
    """Return what puts events on the store's stream, as those of one run. A store that fails costs a notice."""
    from agent_core import ids, messages
    from agent_core.errors import StoreError
    from agent_core.events import Event

    now = time.time()
    run_id = ids.new_run_id(now, os.urandom(ids.RANDOM_BYTES))
    working = [True]

    def tell(kind: str, data: dict[str, Any]) -> None:
        if not working[0]:
            return
        try:
            command.store().append(Event(kind, run_id, "", time.time(), data))
        except StoreError as error:
            working[0] = False
            command.out.say(f"what happens is not recorded: {error.line()}")

    first = {"agent": command.agent.name, "version": command.agent.version, "session": "", "provider": "", "model": ""}
    tell("run.started", {**first, "input": messages.to_json(messages.user(f"run {file}")), "settings": {}, "history": []})
    return tell


# --- the control socket ------------------------------------------------------------------------------------------------------


def _asked(command: Command, pool: str, **request: str) -> dict[str, Any]:
    from agent_plugins.supervision import control

    patience = command.settings.timeout or 60.0
    found: dict[str, Any] = control.ask(command.settings.data_dir, pool, request, patience)
    return found


def _shown(found: dict[str, Any]) -> Answer:
    head = f"{found['pool']}: {found['state']}, {found['strategy']}, pid {found['pid']}, {found['total_restarts']} restarts"
    rows = [("NAME", "STATE", "PID", "RESTARTS", "UPTIME", "REASON")]
    for each in found["children"]:
        uptime = "" if each["uptime_s"] is None else f"{each['uptime_s']:.0f} s"
        rows.append(
            (each["name"], each["state"], str(each["pid"] or "-"), str(each["restarts"]), uptime or "-", each["reason"] or "")
        )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]).rstrip() for row in rows]
    return Answer("\n".join([head, *lines]), found)


agent = Agent(
    __doc__,
    stdin="none",
    commands=[run, status, stop, restart, reload, check],
    examples=["agent-supervise run pool.toml", "agent-supervise status --json", "agent-supervise restart worker"],
    tags=["supervision", "processes", "restart", "daemon"],
    when_to_use="Programs or agents are to be kept running and restarted by rule when they crash.",
)
main = agent.main

if __name__ == "__main__":
    main()
