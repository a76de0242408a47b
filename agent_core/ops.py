"""ops - what the interpreter asks of a trampoline. The only words between pure code and the world.

Http(request, ...)        -> Response (or, with a decoder, the Reply that the decoder made)
Invoke(function, ...)     -> the function's value (a coroutine is awaited)
Spawn(argv, stdin, ...)   -> Completed
Sleep(seconds)            -> None
Gather(programs, ...)     -> list of Outcome, in order
Tell(event)               -> None
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_core.events import Event
    from agent_core.provider import Decoder, Request


@dataclass(frozen=True, slots=True)
class Response:
    """A whole HTTP response. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Http:
    """Send a request. With a decoder and a 2xx answer, feed the body to it and hand each delta to `on_delta`.

    `deadline`: absolute time (the run's clock) after which the request is abandoned, bytes arriving or not.
    `limit`: the most bytes a body may have.
    """

    request: Request
    deadline: float | None = None
    decoder: Decoder | None = None
    on_delta: Callable[[Any], None] | None = None
    limit: int = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Invoke:
    """Call a function (sync or async) with keyword arguments; abandoned at `deadline`."""

    function: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """A finished process. `stopped`: why it was told to end (timeout, parent, enough, failed_dependency, budget), or ""."""

    status: int
    stdout: bytes
    stderr: bytes
    stopped: str = ""


@dataclass(frozen=True, slots=True)
class Spawn:
    """Run a program: argv list, never a shell; killed with its children at `deadline`.

    `grace`: seconds it has from SIGTERM to SIGKILL when the run is cancelled.
    """

    argv: Sequence[str]
    stdin: bytes = b""
    env: Mapping[str, str] | None = None
    cwd: str | None = None
    deadline: float | None = None
    limit: int = 8 * 1024 * 1024
    grace: float = 2.0


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let time pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one gathered program. `cancelled`: why it was stopped: "enough" (others succeeded), or what one failed of."""

    value: Any = None
    error: Exception | None = None
    cancelled: str = ""


@dataclass(frozen=True, slots=True)
class Gather:
    """Run programs concurrently; stop at `enough` successes and cancel the rest; at most `limit` at a time."""

    programs: Sequence[Program]
    enough: int | None = None
    limit: int | None = None
    threads: bool = False


@dataclass(frozen=True, slots=True)
class Tell:
    """Put an event on the stream (journal first, then the sinks)."""

    event: Event


Program = Generator[Any, Any, Any]
