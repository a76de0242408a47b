"""tiers - which limits hold for a model: flags, over a tier's table for the model, over the tier.

tier = "mid"                                # or --tier mid; low, mid and high are built in

[tiers.mine]                                # a tier of one's own, in a configuration file
rate = "60/min"
burst = 10                                  # calls that may come at once (else all of a rate's)
concurrency = 8
token_rate = "200000/min"
cost_rate = "5/h"                           # USD
breaker = "5/30"

[tiers.mine."openai/gpt-5*"]                # for these models only
rate = "10/min"
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING, Any

from agent_core.errors import ConfigError, UsageError
from agent_core.options import KINDS, unknown

from .limits import Fuse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent_core.tool import Tool

# Our own numbers: `mid` is what limits of a model often look like, `low` is for trying things out, `high` for a paid account.
TIERS: dict[str, dict[str, Any]] = {
    "low": {"rate": "5/min", "concurrency": 2, "token_rate": "20000/min", "cost_rate": "1/h", "breaker": "5/30"},
    "mid": {"rate": "20/min", "concurrency": 5, "token_rate": "100000/min", "cost_rate": "5/h", "breaker": "5/30"},
    "high": {"rate": "120/min", "concurrency": 20, "token_rate": "1000000/min", "cost_rate": "50/h", "breaker": "5/30"},
}
DEFAULT = "mid"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one model. Rates are (amount, seconds); amounts are calls, tokens and USD. None: no such limit."""

    rate: tuple[float, float] | None = None
    burst: float | None = None
    concurrency: int | None = None
    token_rate: tuple[float, float] | None = None
    cost_rate: tuple[float, float] | None = None
    breaker: Fuse | None = None


def fuse(text: str) -> Fuse:
    """Return the breaker that `N/SECONDS` means; ValueError if it means none."""
    count, _, seconds = text.partition("/")
    found = Fuse(int(count), KINDS["seconds"][2](seconds or "30"))
    if found.failures < 1 or found.seconds <= 0:
        raise ValueError
    return found


def tool_fuse(tool: Tool) -> Fuse | None:
    """Return the breaker that a tool brings (`@tool(breaker="3/10")`). ConfigError if it makes no sense."""
    try:
        return fuse(tool.breaker) if tool.breaker else None
    except ValueError:
        raise ConfigError(
            f"the tool {tool.name} has the breaker {tool.breaker[:40]!r}", hint="N/SECONDS, for example 5/30"
        ) from None


def pressure(text: str) -> tuple[int, int]:
    """Return (hard, soft) of `HARD/SOFT`; soft is three quarters of hard if left out. ValueError."""
    hard, slash, soft = text.partition("/")
    found = int(hard), int(soft) if slash else max(1, int(hard) * 3 // 4)
    if not 1 <= found[1] <= found[0]:
        raise ValueError
    return found


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError
    return value


def _rate(value: Any) -> tuple[float, float]:
    found: tuple[float, float] = KINDS["rate"][2](str(value))
    return found


_KEYS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "rate": ("such as 20/min", _rate),
    "burst": ("a whole number", _count),
    "concurrency": ("a whole number", _count),
    "token_rate": ("such as 100000/min", _rate),
    "cost_rate": ("USD in a time, such as 5/h", _rate),
    "breaker": ("N/SECONDS, such as 5/30", lambda value: fuse(str(value))),
}


def chosen(settings: Any) -> str:
    """Return the tier: the one that is set, `mid` where the plugin itself is named in `plugins`, else none."""
    named = "agent_plugins.resources" in getattr(settings, "plugins", ())
    return settings.extra.get("tier") or (DEFAULT if named else "")


def finder(settings: Any) -> Callable[[str], Limits]:
    """Return what gives the limits of `provider/model`. UsageError: unknown tier, bad flag. ConfigError: bad table."""
    name = chosen(settings)
    base, by_model = _tier(name, settings.tables.get("tiers", {})) if name else (Limits(), {})
    flags = _flags(settings)

    @cache
    def of(model: str) -> Limits:
        found = base
        for pattern, values in by_model.items():
            if fnmatchcase(model, pattern):
                found = replace(found, **values)
        return replace(found, **flags)

    return of


def _flags(settings: Any) -> dict[str, Any]:
    extra = settings.extra
    given = {
        "rate": settings.rate, "concurrency": extra.get("concurrency"), "token_rate": extra.get("token_rate"),
        "cost_rate": extra.get("cost_rate"),
    }  # fmt: skip
    found = {key: value for key, value in given.items() if value is not None}
    if extra.get("breaker"):
        try:
            found["breaker"] = fuse(extra["breaker"])
        except ValueError:
            raise UsageError(f"--breaker: {extra['breaker'][:40]!r} is not N/SECONDS", hint="for example 5/30") from None
    return found


def _tier(name: str, own: Any) -> tuple[Limits, dict[str, dict[str, Any]]]:
    if not isinstance(own, dict):
        raise ConfigError("[tiers] must hold a table for each tier", hint="[tiers.NAME]")
    table = own.get(name, TIERS.get(name))
    if table is None:
        raise unknown("tier", name, [*TIERS, *own])
    if not isinstance(table, dict):
        raise ConfigError(f"[tiers.{name}] must be a table")
    models = {key: _values(value, f"tiers.{name}.{key}") for key, value in table.items() if isinstance(value, dict)}
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    return Limits(**_values(plain, f"tiers.{name}")), models


def _values(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    found = {}
    for raw, value in table.items():
        key = raw.replace("-", "_")
        if key not in _KEYS:
            raise ConfigError(f"[{where}]: no limit {raw!r}", hint=f"there are: {', '.join(_KEYS)}")
        expected, convert = _KEYS[key]
        try:
            found[key] = convert(value)
        except (ValueError, TypeError):
            raise ConfigError(f"[{where}] {raw}: {str(value)[:40]!r} is not {expected}") from None
    return found
