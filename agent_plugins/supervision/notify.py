"""notify - sd_notify(3): one datagram to the socket that systemd names. Nothing happens where there is none."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

OWN = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


def tell(environment: Mapping[str, str], *lines: str) -> bool:
    """Send lines such as READY=1, WATCHDOG=1, STOPPING=1; return whether somebody was told. Never fails, never waits."""
    address = environment.get("NOTIFY_SOCKET", "")
    if address[:1] not in {"/", "@"}:
        return False
    where = f"\0{address[1:]}" if address[0] == "@" else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        out.setblocking(False)
        out.sendto("\n".join(lines).encode("utf-8", "replace"), where)
        return True
    return False


def interval(environment: Mapping[str, str], pid: int) -> float | None:
    """Return after how many seconds the watchdog wants to hear of us (half of its limit); None without one for this process."""
    limit, whose = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not limit.isdecimal() or not int(limit) or (whose and whose != str(pid)):
        return None
    return int(limit) / 2_000_000
