"""errors - everything that can go wrong, one class and one exit status each.

    AgentError                 70  our bug, or nothing more exact
    ├── Failed                  1  failed, none of the below
    ├── UsageError              2  the command line is wrong
    ├── LimitError              4  stopped at a limit, partial result kept
    │   ├── StepLimit           4  max_steps reached
    │   ├── BudgetLimit         4  the next call might cost more than is left
    │   ├── RepeatLimit         4  the model keeps asking for the same call
    │   ├── DepthLimit          4  agents call each other too deeply
    │   └── QuorumLimit         4  too few children answered
    ├── WaitingError            5  parked until a person decides
    ├── UpstreamError           6  the stage before failed or was cut off
    ├── InputError             65  input malformed
    │   └── ContextLength      65  more than the model's window holds
    ├── MissingInput           66  input required and none came
    ├── ProviderError          69  the model's service
    │   ├── TransportError     69  no connection, or it broke
    │   ├── CallTimeout        69  one call took too long
    │   ├── ServerError        69  the service failed (5xx)
    │   ├── RateLimited        75  too many requests, or no money left
    │   ├── AuthError          77  key missing at the service, or rejected
    │   ├── BadRequest          1  the service refused the request
    │   │   └── UnknownModel   78  the service has no such model
    │   └── BadReply           76  not what the protocol promises
    ├── ContractError          76  a model or a peer broke the contract after repairs
    ├── DeniedError            77  an action denied by policy
    ├── ConfigError            78  configuration bad or missing
    ├── DivergedError          65  a replay met a request that was not recorded
    ├── StoreError             78  the store is needed and cannot be used
    ├── DeadlineError         124  --timeout
    └── Cancelled             130  interrupted

Each class has `status` (the exit status), `code` (the word in records) and `retryable`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class AgentError(Exception):
    """Anything that ends a run. `hint` says what to try; `facts`: what a called agent's record says of its own run."""

    status = 70
    code = "internal"
    retryable = False
    facts: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, message: str, *, hint: str = "", cause: str = "") -> None:
        """Keep the message (one line), the hint and the technical cause."""
        super().__init__(message)
        self.hint = hint
        self.cause = cause

    def line(self) -> str:
        """Return `what went wrong (what to try)`."""
        return f"{self} ({self.hint})" if self.hint else str(self)


class Failed(AgentError):
    """Failed, none of the others."""

    status, code = 1, "failed"


class UsageError(AgentError):
    """The command line is wrong."""

    status, code = 2, "usage"


class LimitError(AgentError):
    """Stopped at a limit; what there is so far is kept."""

    status, code = 4, "limit"
    stop = "max_steps"


class StepLimit(LimitError):
    """max_steps reached without a final answer."""

    code = "max_steps"

    def __init__(self, steps: int) -> None:
        """Name the number of steps that were allowed."""
        super().__init__(f"no final answer after {steps} steps", hint="raise --max-steps or ask for less")


class BudgetLimit(LimitError):
    """The next call might cost more than is left."""

    code = stop = "budget"


class RepeatLimit(LimitError):
    """The model keeps asking for the very same call."""

    code = "repeated_call"


class DepthLimit(LimitError):
    """Agents call each other too deeply."""

    code = "depth"


class QuorumLimit(LimitError):
    """Too few children answered."""

    code = "quorum"


class WaitingError(AgentError):
    """Parked until a person decides; the message names the token."""

    status, code = 5, "waiting"


class UpstreamError(AgentError):
    """The stage before failed (`upstream_failed`) or its stream was cut off (`upstream_truncated`)."""

    status, code = 6, "upstream_failed"


class InputError(AgentError):
    """Input malformed."""

    status, code = 65, "bad_input"


class ContextLength(InputError):
    """More than the model's window holds."""

    code = "context_length"


class MissingInput(AgentError):
    """Input required and none came."""

    status, code = 66, "missing_input"


class ProviderError(AgentError):
    """The model's service. `http_status` and `retry_after` (seconds) are set where known."""

    status, code = 69, "provider"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        cause: str = "",
        http_status: int | None = None,
        retry_after: float | None = None,
        retryable: bool | None = None,
    ) -> None:
        """Keep what the service said; `retryable` overrides the class's default."""
        super().__init__(message, hint=hint, cause=cause)
        self.http_status = http_status
        self.retry_after = retry_after
        if retryable is not None:
            self.retryable = retryable


class TransportError(ProviderError):
    """No connection, or it broke."""

    code, retryable = "transport", True


class CallTimeout(ProviderError):
    """One call took too long."""

    code, retryable = "timeout", True


class ServerError(ProviderError):
    """The service failed (5xx)."""

    code, retryable = "server", True


class RateLimited(ProviderError):
    """Too many requests (retryable), or no money left (not)."""

    status, code, retryable = 75, "rate_limited", True


class AuthError(ProviderError):
    """The key is missing at the service, or rejected."""

    status, code = 77, "auth"


class BadRequest(ProviderError):
    """The service refused the request."""

    status, code = 1, "bad_request"


class UnknownModel(BadRequest):
    """The service has no such model."""

    status, code = 78, "unknown_model"


class BadReply(ProviderError):
    """The reply is not what the protocol promises."""

    status, code = 76, "bad_reply"


class ContractError(AgentError):
    """A model or a peer broke the contract after repairs."""

    status, code = 76, "contract"


class DeniedError(AgentError):
    """An action denied by policy."""

    status, code = 77, "denied"


class ConfigError(AgentError):
    """Configuration bad or missing."""

    status, code = 78, "config"


class DivergedError(AgentError):
    """A replay or resume met a request that differs from the recorded one."""

    status, code = 65, "diverged"


class StoreError(AgentError):
    """The store is needed and cannot be used."""

    status, code = 78, "store"


class DeadlineError(AgentError):
    """The total deadline (`--timeout`) passed."""

    status, code = 124, "timeout"


class Cancelled(AgentError):
    """Interrupted: 130 for SIGINT, 143 for SIGTERM."""

    status, code = 130, "cancelled"


class Interrupt(KeyboardInterrupt):
    """Raised by the signal handlers of the command line: SIGINT (130) or SIGTERM (143).

    Not an Exception, so no tool swallows it; a KeyboardInterrupt, so asyncio does not either, wherever in the loop it strikes.
    """

    def __init__(self, status: int) -> None:
        """Keep the exit status that the signal stands for."""
        super().__init__(f"interrupted ({status})")
        self.status = status


EXIT_TABLE: dict[int, str] = {
    0: "done",
    1: "failed, none of the below",
    2: "usage",
    3: 'ran well, the answer is "no"',
    4: "stopped at a limit; partial result kept",
    5: "waiting for a person; resumable by the printed token",
    6: "upstream failed or truncated",
    65: "input malformed",
    66: "input missing",
    69: "provider unavailable",
    70: "our bug",
    75: "provider limited, try later",
    76: "the model or a peer broke the contract after repairs",
    77: "key rejected or action denied by policy",
    78: "bad or missing configuration",
    124: "--timeout",
    130: "SIGINT",
    141: "SIGPIPE",
    143: "SIGTERM",
}
