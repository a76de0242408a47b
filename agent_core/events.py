"""events - one record of what happened; journal, trace, cost, progress and sessions are readings of these.

Kinds written by the engine (data fields in brackets):

    run.started    [agent, version, input, system, provider, model, session, parent, settings, prompt]
    model.replied  [provider, model, message, stop, usage, cost_usd, wall_ms, attempts, cached]      journalled outcome
    model.failed   [provider, model, error, retryable, attempt, retry_in]                            one failed attempt
    tool.started   [id, name, arguments]                                                             before a call with effects
    tool.finished  [id, name, text, error, value, wall_ms, ran]                                      journalled outcome
    call.started   [agent, input]
    call.finished  [agent, output, wall_ms, usage?, run?, status?]                                   journalled outcome
    call.failed    [agent, error, wall_ms]
    wait.asked     [question, …]                                                                     a person is to decide
    wait.finished  [answer]                                                                          journalled outcome
    all.finished   [done]                                                                            journalled outcome
    effect.failed  [error]                                                                           journalled outcome
    notice         [text]                     something a person should know (stderr)
    delta          [text | thought]           a piece of a streamed reply; never stored
    run.finished   [status, stop, output, structured, usage, error, steps, peak_memory_kb]
    guard.waited   [limit, wait_s, queued]    a call waited for a limit

Told by patterns (`Note`) and plugins: graph.started, node.*, step.*, memory.*, metric [name, value, ...].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ASIDE = "("
"""How the name of a call begins that is no agent's: it reads what a run is made of, and is no part of its progress or answers."""
OUTCOMES = frozenset({"model.replied", "tool.finished", "call.finished", "wait.finished", "all.finished", "effect.failed"})
TRANSIENT = frozenset({"delta"})


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in a run. `path` is the effect's position ("3", "3.0", "2.1.0"); `fingerprint` its request's hash."""

    kind: str
    run: str
    path: str = ""
    time: float = 0.0
    data: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    durable: bool = False
