"""exposition - metrics as Prometheus text (format 0.0.4), as `promtool check metrics` wants them: base units, and help.

    text(measure(store.stream(), agents))          agent_tool_calls_total{agent="writer",outcome="ok",tool="search"} 3
    text(found, milliseconds=True)                 latencies as agent_inference_latency_ms and so on

For a textfile collector: `agent-log metrics --format prom > agents.prom`. The format: prometheus.io, "Exposition formats".
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from agent_plugins.observe.metrics import Labels, Tally

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent_plugins.observe.metrics import Families, Family


_NOTHING: dict[str, dict[Labels, Any]] = {"counter": {(): 0}, "histogram": {(): Tally([])}}


def text(found: Families, *, milliseconds: bool = False) -> str:
    """Return the exposition of all families; what was never counted is 0, a gauge that was never set is left out."""
    return "".join(f"{line}\n" for family in found.values() for line in _lines(family, milliseconds=milliseconds))


def _lines(family: Family, *, milliseconds: bool) -> Iterator[str]:
    name, scale = family.name, 1.0
    if milliseconds and family.kind == "histogram" and name.endswith("_seconds"):
        name, scale = name.removesuffix("_seconds") + "_ms", 1000.0
    series = family.series or _NOTHING.get(family.kind if name != "agent_memory_entries" else "counter")
    if series is None:
        return
    yield f"# HELP {name} {_escaped(family.help)}"
    yield f"# TYPE {name} {family.kind}"
    for key, value in sorted(series.items()):
        if isinstance(value, Tally):
            yield from _histogram(name, family, key, value, scale)
        else:
            yield f"{name}{_braced(key)} {number(value)}"


def _histogram(name: str, family: Family, key: Labels, tally: Tally, scale: float) -> Iterator[str]:
    below = 0
    for bound, count in zip(family.bounds, tally.buckets or [0] * len(family.bounds), strict=False):
        below += count
        yield f"{name}_bucket{_braced((*key, ('le', number(bound * scale))))} {below}"
    yield f"{name}_bucket{_braced((*key, ('le', '+Inf')))} {tally.count}"
    yield f"{name}_sum{_braced(key)} {number(round(tally.sum * scale, 9))}"
    yield f"{name}_count{_braced(key)} {tally.count}"


def _braced(key: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value, quotes=True)}"' for name, value in key) + "}" if key else ""


def _escaped(value: str, *, quotes: bool = False) -> str:
    plain = value.encode("utf-8", "replace").decode().replace("\\", r"\\").replace("\n", r"\n")
    return plain.replace('"', r"\"") if quotes else plain


def number(value: Any) -> str:
    """Return a number without exponent and trailing zeros; money keeps every digit."""
    if isinstance(value, int):
        return str(value)
    exact = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    shown = format(exact, "f")
    return (shown.rstrip("0").rstrip(".") or "0") if "." in shown else shown
