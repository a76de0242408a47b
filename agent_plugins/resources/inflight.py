"""inflight - back-pressure: no run beyond a hard number of runs in flight, a warning beyond a soft one (100 and 75).

A run holds a lease from its first event to its last. A killed process's lease counts no more; one on another machine (Redis) ends
by itself unless its run tells something from time to time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent_core.errors import RateLimited, StoreError

from . import limits
from .shared import me

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_core.events import Event

    from .shared import Row, Shared

KEY = "runs:in-flight"
LEASE, RENEW = 3600.0, 60.0
HARD, SOFT = 100, 75


@dataclass(slots=True)
class InFlight:
    """A reader of one run's events that holds its lease. `clock` is the guards' clock."""

    shared: Shared
    hard: int
    soft: int
    say: Callable[[str], None]
    clock: Callable[[], float]
    renewed: float = 0.0

    def check(self) -> None:
        """Refuse before anything is prepared; RateLimited (75), code `shed`."""
        now = self._now()
        held = len(limits.tidy(self.shared.read(KEY), now, self.shared.alive))
        if held >= self.hard:
            raise _shed(self.hard)

    def __call__(self, event: Event) -> None:
        """Take the lease when the run starts, keep it, give it back when it ends."""
        match event.kind:
            case "run.started":
                self._enter(event.run)
            case "run.finished":
                self._change(lambda row: limits.free(row, event.run))
            case _ if self._now() > self.renewed + RENEW:
                self._change(lambda row: self._renew(row, event.run))

    def _enter(self, run: str) -> None:
        now = self.renewed = self._now()
        ticket = limits.Ticket(run, limits.RANKS["normal"], now, waits=False)

        def change(row: Row) -> tuple[float, int]:
            wait = limits.enter(row, self.hard, ticket, [now + LEASE, *me()], now, self.shared.alive)
            return wait, len(row["held"])

        wait, held = self.shared.change(KEY, change, LEASE)
        if wait:
            raise _shed(self.hard)
        if held > self.soft:
            self.say(f"{held} runs are in flight (from {self.hard} on they are refused)")

    def _renew(self, row: Row, run: str) -> None:
        self.renewed = self._now()
        if run in row.get("held", {}):
            row["held"][run][0] = self.renewed + LEASE

    def _change(self, change: Callable[[Row], None]) -> None:
        try:
            self.shared.change(KEY, change, LEASE)
        except StoreError:
            return  # the lease ends by itself

    def _now(self) -> float:
        return self.clock() + self.shared.offset


def _shed(hard: int) -> RateLimited:
    error = RateLimited(f"{hard} runs are in flight already", hint="try later, or raise --back-pressure", retry_after=1.0)
    error.code = "shed"
    return error
