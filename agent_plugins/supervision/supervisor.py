"""supervisor - the loop that keeps a pool: signals, exits, pauses, output and askers, on one thread.

    Supervisor(pool, world).run()  -> how it ended

`World` is what it touches besides its children: environment, folder, socket, words for people, events, the pool file read again.
Signals come through a wake-up descriptor, so nothing happens between two of the loop's turns.
"""

from __future__ import annotations

import os
import random
import selectors
import signal
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent_core.errors import AgentError, Failed, WaitingError
from agent_plugins.supervision import children as processes
from agent_plugins.supervision import control, notify, rules
from agent_plugins.supervision.children import Kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from agent_plugins.supervision.pool import Pool

_OWN = (signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
_ENDED = frozenset({"finished", "failed", "waiting"})
_LONGEST_SLEEP = 60.0
_dice = random.SystemRandom().random


@dataclass(frozen=True, slots=True)
class World:
    """What a supervisor touches. `event(kind, data)` must not fail; `reread` returns the pool file as it is now."""

    environment: Mapping[str, str]
    folder: Path
    data_dir: str
    server: socket.socket
    say: Callable[[str], None]
    output: Callable[[str, str], None]
    event: Callable[[str, dict[str, Any]], None]
    reread: Callable[[], Pool]


@dataclass(slots=True)
class Supervisor:
    """A pool being kept. `ending` is why it ends: "" (it does not), a signal's name, stopped, done or intensity."""

    pool: Pool
    world: World
    children: list[Kept] = field(default_factory=list)
    leaving: list[Kept] = field(default_factory=list)
    askers: list[control.Asker] = field(default_factory=list)
    crashes: list[float] = field(default_factory=list)
    restarts: int = 0
    ending: str = ""
    spare: set[int] = field(default_factory=set)
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    # -- the loop

    def run(self) -> str:
        """Keep the pool until it ends; return why: done, stopped, intensity, SIGTERM or SIGINT. Nothing is left running."""
        processes.become_subreaper()
        self.spare = processes.below()
        self.children = [Kept(spec, index) for index, spec in enumerate(self.pool.child)]
        beat = notify.interval(self.world.environment, os.getpid())
        try:
            with _signals() as wakeup:
                self.selector.register(wakeup, selectors.EVENT_READ, self._signalled)
                self.selector.register(self.world.server, selectors.EVENT_READ, self._knocked)
                self._start_due(time.monotonic())
                self._notify("READY=1")
                self._loop(beat)
        finally:
            processes.kill_everything(self._all(), self.spare)
            for child in self._all():
                child.pid = 0
                self._flush(child)
            self.selector.close()
        return self.ending

    def _loop(self, beat: float | None) -> None:
        heard = time.monotonic()
        while not self._over():
            for key, _ in self.selector.select(self._sleep(beat)):
                key.data(key.fileobj)
            now = time.monotonic()
            self._reap(now)
            self._kill_late(now)
            self._start_due(now)
            self._answer(now)
            if beat is not None and now - heard >= beat / 2:
                heard = now
                self._notify("WATCHDOG=1")
        self._answer(float("inf"))

    def _sleep(self, beat: float | None) -> float:
        """Return how long nothing has to be done."""
        now = time.monotonic()
        moments = [child.due for child in self.children if child.state == "pausing"]
        moments += [child.kill_at for child in self._all() if child.state == "stopping"]
        moments += [asker.until for asker in self.askers if asker.answer is None]
        longest = _LONGEST_SLEEP if beat is None else beat / 2
        return max(0.0, min([longest, *(moment - now for moment in moments)]))

    def _over(self) -> bool:
        if not any(child.alive for child in self._all()):
            if self.ending:
                return True
            if all(child.state in _ENDED for child in self.children):
                self.ending = "done"
                return True
        return False

    def _all(self) -> list[Kept]:
        return [*self.children, *self.leaving]

    # -- signals

    def _signalled(self, wakeup: Any) -> None:
        for number in set(wakeup.recv(4096)):
            if number in {signal.SIGTERM, signal.SIGINT}:
                self.drain(signal.Signals(number).name)
            elif number == signal.SIGHUP:
                self.reload()

    def drain(self, why: str) -> None:
        """Stop everything and end; asked a second time, without grace."""
        again = bool(self.ending)
        self.ending = self.ending or why
        self._notify("STOPPING=1")
        if not again:
            self.world.say(f"stopping {sum(child.alive for child in self.children)} children ({why})")
        for child in reversed(self._all()):
            self._stop(child, "stopped")
            if again:
                child.kill_at = 0.0

    def reload(self) -> str:
        """Read the pool file again: what is new starts, what changed is restarted, what is gone ends. Returns what is wrong."""
        if self.ending:
            return "it is stopping"
        self._notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            pool = self.world.reread()
        except AgentError as error:
            self.world.say(f"not reloaded: {error.line()}")
            self._notify("READY=1")
            return error.line()
        self._take(pool)
        self.world.event("pool.reloaded", {"children": [child.spec.name for child in self.children]})
        self.world.say(f"reloaded, {len(self.children)} children")
        self._notify("READY=1")
        return ""

    def _take(self, pool: Pool) -> None:
        old = {child.spec.name: child for child in self.children}
        self.pool = replace(pool, name=self.pool.name)
        self.children = []
        for index, spec in enumerate(pool.child):
            child = old.pop(spec.name, None) or Kept(spec)
            changed, child.spec, child.index = child.spec != spec, spec, index
            self.children.append(child)
            if changed:
                self._again(child)
        for child in old.values():
            self._stop(child, "stopped")
            self.leaving.append(child)

    # -- one child

    def _start_due(self, now: float) -> None:
        if self.ending:
            return
        blocked = self.pool.strategy != "one-for-one" and any(child.then == "start" for child in self.children)
        for child in self.children:
            if child.state == "pausing" and child.due <= now and not blocked:
                self._start(child, now)

    def _start(self, child: Kept, now: float) -> None:
        environment = {key: value for key, value in self.world.environment.items() if key not in notify.OWN}
        try:
            processes.start(child, environment, self.world.folder)
        except Failed as error:
            child.status = 78
            self._exited(child, 78, now, str(error))
            return
        if child.pipe >= 0:
            self.selector.register(child.pipe, selectors.EVENT_READ, lambda _pipe: self._heard(child))
        if child.counts:
            child.restarts, self.restarts = child.restarts + 1, self.restarts + 1
        child.state, child.since, child.counts, child.reason = "running", now, False, ""
        self.world.event("child.started", {"child": child.spec.name, "pid": child.pid, "restarts": child.restarts})

    def _stop(self, child: Kept, then: str, *, counts: bool = False) -> None:
        """End a child; afterwards it is started again (`then` is start) or stays down."""
        if child.state in _ENDED and then == "stopped":
            return
        child.then, child.counts = then, counts
        if not child.alive:
            self._down(child, time.monotonic())
        elif child.state != "stopping":
            child.state, child.kill_at = "stopping", time.monotonic() + self.pool.grace_of(child.spec)
            processes.send(child, signal.SIGTERM)

    def _down(self, child: Kept, now: float) -> None:
        child.state = "pausing" if child.then == "start" else "stopped"
        child.due = max(child.due, now) if child.then == "start" else child.due
        child.then = ""

    def _again(self, child: Kept) -> None:
        """Start a child anew because somebody wants it: its crashes are forgotten."""
        child.crashes, child.streak, child.due, child.reason = [], 0, 0.0, ""
        self._stop(child, "start")

    def _kill_late(self, now: float) -> None:
        for child in self._all():
            if child.state == "stopping" and child.alive and child.kill_at <= now:
                self.world.say(f"{child.spec.name} did not end in time and is killed")
                processes.send(child, signal.SIGKILL)
                child.kill_at = now + 1.0

    # -- exits

    def _reap(self, now: float) -> None:
        reaped = False
        for child, status in processes.reap({child.pid: child for child in self._all() if child.alive}):
            reaped, child.status = True, status
            self._flush(child)
            if child.state == "stopping":
                self.world.event("child.stopped", {"child": child.spec.name, "status": status})
                self._down(child, now)
            else:
                self._exited(child, status, now, rules.said(status))
        if reaped:
            processes.kill_strays(self._all())
        self.leaving = [child for child in self.leaving if child.alive]

    def _exited(self, child: Kept, status: int, now: float, why: str) -> None:
        """Decide what an exit that nobody asked for means."""
        verdict = rules.judged(child.spec.restart, status)
        self.world.event("child.exited", {"child": child.spec.name, "status": status, "reason": why, "means": verdict})
        child.reason = why
        if verdict in _ENDED:
            child.state = verdict  # type: ignore[assignment] # these three are states
            if verdict == "failed":
                self._failed(child, why)
            return
        if now - child.since > max(child.spec.window, child.spec.backoff_max) and child.since:
            child.streak = 0
        first = child.spec.later if verdict == "later" else child.spec.backoff
        wait = rules.pause(first, child.spec.backoff_max, child.streak, child.spec.jitter, _dice())
        child.streak += 1
        if verdict == "again" and self._too_often(child, now, why):
            return
        self._restart(child, now + wait, f"{why}, restart in {wait:.1f} s")

    def _too_often(self, child: Kept, now: float, why: str) -> bool:
        """Count a crash; return whether the child, or the whole pool, has had too many."""
        child.crashes = [*rules.recent(child.crashes, now, child.spec.window), now]
        self.crashes = [*rules.recent(self.crashes, now, self.pool.window), now]
        if len(child.crashes) > child.spec.max_restarts:
            child.state, child.reason = "failed", f"{len(child.crashes)} crashes in {child.spec.window:g} s; the last: {why}"
            self._failed(child, child.reason)
            return True
        if len(self.crashes) > self.pool.max_restarts:
            child.state, child.reason = "failed", f"the pool's limit of {self.pool.max_restarts} restarts was reached; {why}"
            self.world.event("pool.failed", {"crashes": len(self.crashes), "window_s": self.pool.window})
            self.drain("intensity")
            return True
        return False

    def _failed(self, child: Kept, why: str) -> None:
        """A child is given up, and with it those that must not run without it."""
        self.world.event("child.failed", {"child": child.spec.name, "reason": why})
        self.world.say(f"{child.spec.name} failed: {why}")
        for other in self._others(child):
            if other.state not in _ENDED and other.state != "stopped":
                self._stop(other, "stopped")
                other.reason = f"{child.spec.name} failed"

    def _restart(self, child: Kept, due: float, why: str) -> None:
        self.world.say(f"{child.spec.name} ended with {why}")
        self.world.event("child.restarting", {"child": child.spec.name, "reason": why})
        child.state, child.due, child.counts = "pausing", due, True
        for other in self._others(child):
            if other.state in {"running", "pausing"} or (other.state == "stopping" and other.then == "start"):
                other.due = max(other.due, due)
                self._stop(other, "stopped" if other.spec.restart == "never" else "start", counts=True)

    def _others(self, child: Kept) -> list[Kept]:
        """Return who shares a child's fate, last started first."""
        if child not in self.children:
            return []
        chosen = rules.affected(self.pool.strategy, child.index, len(self.children))
        return [self.children[index] for index in reversed(chosen) if index != child.index]

    # -- output

    def _heard(self, child: Kept) -> None:
        pipe = child.pipe
        found = processes.lines(child)
        if child.pipe < 0:
            self.selector.unregister(pipe)
        for line in found:
            self.world.output(child.spec.name, line)

    def _flush(self, child: Kept) -> None:
        """Pass on what a child that has ended had still to say: what a pipe holds, 64 KiB."""
        if child.pipe >= 0:
            with suppress(KeyError, ValueError):
                self.selector.unregister(child.pipe)
        for _ in range(16):
            found = processes.lines(child)
            for line in found:
                self.world.output(child.spec.name, line)
            if child.pipe < 0 or not found:
                break
        for line in processes.lines(child, last=True):
            self.world.output(child.spec.name, line)
        processes.close(child)
        child.rest = b""

    def _notify(self, *lines: str) -> None:
        running = sum(child.state == "running" for child in self.children)
        notify.tell(self.world.environment, *lines, f"STATUS={running} of {len(self.children)} children run")

    # -- askers

    def _knocked(self, server: Any) -> None:
        asker = control.accept(server, time.monotonic())
        if asker is not None:
            self.askers.append(asker)
            self.selector.register(asker.connection, selectors.EVENT_READ, lambda _connection: self._asked(asker))

    def _asked(self, asker: control.Asker) -> None:
        try:
            request = control.hear(asker)
        except ValueError:
            request = {}
        if request is not None:
            self.selector.unregister(asker.connection)
            asker.answer = self._obeyed(request)

    def _obeyed(self, request: Mapping[str, Any]) -> Callable[[], Any]:
        """Do what a request asks; return a function that returns the answer once it is due (None before)."""
        what, name = request.get("do"), request.get("name", "")
        child = next((each for each in self.children if each.spec.name == name), None)
        if name and child is None:
            return lambda: _refused(
                f"no child {str(name)[:80]!r}", f"there is {', '.join(each.spec.name for each in self.children)}"
            )
        match what:
            case "status":
                return self._good
            case "reload":
                problem = self.reload()
                return lambda: _refused(problem, "agent-supervise check FILE") if problem else self._good()
            case "stop" if child is not None:
                self._stop(child, "stopped")
                return lambda: None if child.alive else self._good()
            case "stop":
                self.drain("stopped")
                return lambda: None if any(each.alive for each in self._all()) else self._good()
            case "restart" if child is not None and not self.ending:
                before = child.pid
                self._again(child)
                return lambda: None if child.state in {"pausing", "stopping"} or child.pid == before != 0 else self._good()
        return lambda: _refused("that is no request", "status, stop [NAME], restart NAME, reload")

    def _good(self) -> dict[str, Any]:
        return {"ok": True, "value": self.status()}

    def _answer(self, now: float) -> None:
        for asker in list(self.askers):
            answer = asker.answer() if asker.answer is not None else None
            late = asker.answer is None and asker.until <= now
            if answer is None and not late and now != float("inf"):
                continue
            self.askers.remove(asker)
            if asker.answer is None:
                with suppress(KeyError, ValueError):
                    self.selector.unregister(asker.connection)
            control.reply(asker, answer if answer is not None else _refused("it has ended" if not late else "no request", ""))

    # -- readings

    def status(self) -> dict[str, Any]:
        """Return the pool as data: {pool, pid, state, strategy, total_restarts, children}."""
        now = time.monotonic()
        return {
            "pool": self.pool.name, "pid": os.getpid(), "state": "stopping" if self.ending else "running",
            "strategy": self.pool.strategy, "total_restarts": self.restarts,
            "children": [child.row(now) for child in self.children],
        }  # fmt: skip


def problem(status: Mapping[str, Any], ending: str) -> AgentError | None:
    """Return the error that a pool ended with, None if all is well."""
    failed = [each for each in status["children"] if each["state"] == "failed"]
    said = "; ".join(f"{each['name']} ({each['reason']})" for each in failed[:5])
    if ending == "intensity":
        return Failed(f"too many restarts, the pool is given up: {said}", hint="agent-log follow last shows what happened")
    if failed and ending == "done":
        return Failed(
            f"{len(failed)} of {len(status['children'])} children failed: {said}",
            hint="agent-log follow last shows what happened",
        )
    waits = [each["name"] for each in status["children"] if each["state"] == "waiting"]
    if waits and ending == "done":
        return WaitingError(f"a person is to decide for {', '.join(waits[:5])}", hint="see their output")
    return None


def _refused(error: str, hint: str) -> dict[str, Any]:
    return {"ok": False, "error": error, "hint": hint}


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """Have signals arrive as bytes on the socket that is given; their old handlers come back afterwards."""
    out, into = socket.socketpair()
    for end in (out, into):
        end.setblocking(False)
    # What our caller had us ignore (nohup, a shell's background job) stays ignored.
    ignored = {number for number in (signal.SIGHUP, signal.SIGINT) if signal.getsignal(number) == signal.SIG_IGN}
    before = {number: signal.signal(number, _nothing) for number in _OWN if number not in ignored}
    woken = signal.set_wakeup_fd(into.fileno(), warn_on_full_buffer=False)
    try:
        yield out
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        out.close()
        into.close()


def _nothing(_number: int, _frame: Any) -> None:
    return None
