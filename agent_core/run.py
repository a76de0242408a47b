"""run - the state of one run, and what every effect of it needs: its events, its deadline, and the guards' leave to go out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent_core import guards as guarding
from agent_core import redact as redaction
from agent_core.errors import DeadlineError, WaitingError
from agent_core.events import Event
from agent_core.ops import Sleep, Tell

if TYPE_CHECKING:
    from agent_core.errors import DeniedError
    from agent_core.guards import Guard, Outward
    from agent_core.provider import Provider, Usage
    from agent_core.tool import Tool, Toolset

Steps = Generator[Any, Any, Any]

SHOWN_INPUT = 2000
_WORTH_SAYING = 0.5


@dataclass(slots=True)
class Totals:
    """What a run has used so far; shared by all its children."""

    calls: int = 0
    steps: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    cost: int | None = 0
    basis: str = ""
    counted: bool = True
    denied: DeniedError | None = None
    denials: list[DeniedError] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    last: str = ""
    provider: str = ""
    model: str = ""

    def add(self, usage: Usage, provider: str, model: str, cost: int | None, basis: str) -> None:
        """Count one model call."""
        self.calls += 1
        self.provider, self.model = provider, model
        self.counted = self.counted and usage.input_tokens is not None
        self.input_tokens += usage.input_tokens or 0
        self.cached_input_tokens += usage.cached_input_tokens
        self.output_tokens += usage.output_tokens or 0
        self.cost = None if cost is None or self.cost is None else self.cost + cost
        self.basis = basis or self.basis


@dataclass(slots=True)
class Consent:
    """What a person allowed for one call: grants, and refusals (by their reason) that no longer stand.

    `arguments`: what the person changed the call's to. `waited`: seconds until the person had answered. `ran`: the call was made.
    """

    grants: tuple[str, ...] = ()
    reasons: frozenset[str] = frozenset()
    arguments: Mapping[str, Any] | None = None
    waited: float = 0.0
    ran: bool = False


Decide = Callable[["Tool", Mapping[str, Any], set[str], Consent], Any]


@dataclass(slots=True)
class Run:
    """Everything one run needs to interpret effects. Children share all of it but tools and path."""

    id: str
    providers: tuple[Provider, ...]
    tools: Toolset
    decide: Decide
    context: Callable[[float | None, tuple[str, ...]], Any]
    guards: tuple[Guard, ...] = ()
    clock: Callable[[], float] = field(default=lambda: 0.0)
    now: Callable[[], float] = field(default=lambda: 0.0)
    deadline: float | None = None
    call_timeout: float | None = None
    tool_timeout: float | None = 120.0
    temperature: float | None = None
    max_tokens: int | None = None
    protocol: str = "auto"
    on_delta: Callable[[Event], None] | None = None
    resolve: Callable[[str, str], tuple[Provider, ...]] = field(default=lambda _provider, _model: ())
    find: Callable[[str], Any] | None = None
    ask_person: Callable[..., str | None] = field(default=lambda question, strict=False: None)  # noqa: ARG005 - nobody there
    gained: Callable[[Tool, Mapping[str, Any]], frozenset[str]] = field(default=lambda _tool, _arguments: frozenset())
    settings: Any = None
    traceparent: str = ""
    depth: int = 0
    recorded: Mapping[str, Event] = field(default_factory=dict)
    started: frozenset[str] = frozenset()
    spent: dict[str, list[Event]] | None = None
    stopped: dict[str, str] = field(default_factory=dict)
    live: bool = True
    totals: Totals = field(default_factory=Totals)
    seen: dict[str, int] = field(default_factory=dict)
    malformed: int = 0
    notices: dict[str, str] = field(default_factory=dict)  # by provider: what is said before it is asked for the first time
    redact: Callable[[str], str] = redaction.known
    streams: Callable[[], tuple[redaction.Stream, redaction.Stream]] = field(
        default=lambda: (redaction.redact_stream(shapes=False), redaction.redact_stream(shapes=False))
    )

    def event(self, kind: str, path: str, fingerprint: str = "", *, durable: bool = False, **data: Any) -> Tell:
        """Return the op that tells one event."""
        return Tell(Event(kind, self.id, path, self.now(), data, fingerprint, durable))

    def until(self, timeout: float | None) -> float | None:
        """Return the absolute time at which a call with that timeout ends: never later than the run's deadline."""
        if timeout is None:
            return self.deadline
        end = self.clock() + timeout
        return end if self.deadline is None else min(end, self.deadline)


def admitted(call: Outward, attempt: int, run: Run, path: str) -> Steps:
    """Ask the guards until they let the call pass (Delay waits), answer it (Use) or refuse it."""
    began, reason = run.clock(), ""
    while True:
        decision = guarding.before(run.guards, call, attempt, run.clock())
        match decision:
            case guarding.Delay(seconds, why):
                if not reason and seconds >= _WORTH_SAYING:
                    yield run.event("notice", path, text=f"waiting for {why or 'a limit'}")
                reason = why or "a limit"
                yield from sleep(seconds, run)
            case guarding.Refuse(error):
                raise error
            case _:
                if reason:
                    yield run.event("guard.waited", path, limit=reason, wait_s=round(run.clock() - began, 3), queued=True)
                return decision


def sleep(seconds: float, run: Run) -> Steps:
    """Let time pass, but not beyond the run's deadline."""
    left = None if run.deadline is None else run.deadline - run.clock()
    yield Sleep(seconds if left is None else max(0.0, min(seconds, left)))
    if left is not None and seconds >= left:
        raise late()


def late() -> DeadlineError:
    """Return the error of a run whose deadline is over."""
    return DeadlineError("the deadline passed", hint="raise --timeout")


def past(run: Run) -> bool:
    """Say whether the run's deadline is over."""
    return run.deadline is not None and run.clock() >= run.deadline


def parked(question: str, run: Run, other: str = "--answer TEXT") -> WaitingError:
    """Return the error that ends a run which waits for a person; `other` is what may be said besides yes and no."""
    ways = f"--approve, --deny or {other}"
    return WaitingError(f"waiting for a person: {question}", hint=f"agent-log resume {run.id} with {ways}")
