"""rules - what follows from the exit of a child. Pure: the clock and the dice are arguments.

    judged("on-failure", 75)                -> "later"
    affected("rest-for-one", 1, 4)          -> [1, 2, 3]
    pause(0.1, 30, 2, 0.2, dice=0.5)        -> 0.4

Strategies and the intensity limit are those of Erlang/OTP's supervisor behaviour (erlang.org/doc/system/sup_princ.html); the
statuses are those of the suite (agent_core.errors.EXIT_TABLE).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

GOOD = frozenset({0, 3})  # 3: it ran well and its answer is no
PERSON = 5
LATER = frozenset({69, 75})
# What starting again cannot mend: usage, a limit, upstream, input, rights, configuration, its own deadline.
LASTING = frozenset({2, 4, 6, 65, 66, 77, 78, 124})
_LARGEST_POWER = 40


def judged(restart: str, status: int) -> str:
    """Return what an exit means: finished, waiting (for a person), failed, later (a crash that time may mend) or again.

    Args:
        restart: always, on-failure or never.
        status: the exit status; minus the signal's number for a child that a signal ended.
    """
    if restart == "always":
        return "later" if status in LATER else "again"
    if status in GOOD:
        return "finished"
    if status == PERSON:
        return "waiting"
    if restart == "never" or status in LASTING:
        return "failed"
    return "later" if status in LATER else "again"


def affected(strategy: str, index: int, count: int) -> list[int]:
    """Return the children (by start order) that are restarted when the one at `index` is."""
    if strategy == "one-for-all":
        return list(range(count))
    return list(range(index, count)) if strategy == "rest-for-one" else [index]


def recent(moments: Sequence[float], now: float, window: float) -> list[float]:
    """Return those moments (seconds) that lie within the window that ends now."""
    return [moment for moment in moments if now - moment <= window]


def pause(first: float, most: float, before: int, jitter: float, dice: float) -> float:
    """Return the seconds to wait before a restart: first · 2^before, at most `most`, times 1 ± jitter (`dice` from 0 to 1)."""
    plain = min(most, first * 2.0 ** min(before, _LARGEST_POWER))
    return plain * (1 + jitter * (2 * dice - 1))


def said(status: int) -> str:
    """Return an exit status in words."""
    if status >= 0:
        return f"status {status}"
    import signal

    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
