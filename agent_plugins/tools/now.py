"""now - the date and the time.

now()                    2026-09-24T10:00:00Z
now("Europe/Berlin")     2026-09-24T12:00:00+02:00
"""

from __future__ import annotations

from agent_core.tool import ToolError, tool


@tool(read_only=True)
def now(timezone: str = "UTC") -> str:
    """Tell the current date and time (ISO 8601), in UTC unless a time zone is given.

    Args:
        timezone: a name such as Europe/Berlin.
    """
    from datetime import UTC, datetime

    moment = datetime.now(UTC).replace(microsecond=0, tzinfo=None)
    if timezone.strip().upper() in {"", "UTC", "Z", "GMT"}:
        return f"{moment.isoformat()}Z"
    import zoneinfo

    try:
        zone = zoneinfo.ZoneInfo(timezone.strip())
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ToolError(f"no time zone named {timezone[:60]!r}{_near(timezone)}", "invalid") from None
    return moment.replace(tzinfo=UTC).astimezone(zone).isoformat()


def _near(name: str) -> str:
    import difflib
    import zoneinfo

    found = difflib.get_close_matches(name[:60], zoneinfo.available_timezones(), 2)
    return f" (did you mean {' or '.join(found)}?)" if found else " (use a name such as Europe/Berlin)"
