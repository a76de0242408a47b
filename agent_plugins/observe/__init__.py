"""observe - views of the event stream, in which all measuring is done: bills, metrics, audit, progress, alerts, logs, spans.

    bills.py       what runs cost, by agent, model or day
    pipelines.py   which runs were one pipeline
    metrics.py     counters, gauges and histograms; measured.py: those of a store
    snapshot.py    the same as plain numbers, of all agents or of each
    exposition.py  the same as Prometheus text
    audit.py       who was allowed what, models, peers
    verify.py      whether the record of it is whole; notes.py: what is known of it from outside
    timeline.py    what happened when, as bars
    progress.py    how far a run is: done, active, ready, blocked, the bottleneck
    alerts.py      thresholds on metrics
    spans.py       a run as OpenTelemetry GenAI spans (pure); otel.py sends them (`--otel`)
    exports.py     a run as CSV and OTLP/JSON
    logs.py        structured logs (`--log`, `--log-level`)
    live.py        a run that is shown while it goes on
    shown.py       all of it as text for people
    hooks.py       the plugin's hook: readers of a run's events for --otel and --log

`agent-log` shows them; docs/observability.md describes them.
"""

from __future__ import annotations

_HOOKS = ("agent_events",)


def __dir__() -> list[str]:
    # pluggy looks a plugin's names up by dir(), and only --otel and --log call pluggy: `agent-log` shall not pay for importing it.
    from agent_plugins.observe import hooks

    globals().update({name: getattr(hooks, name) for name in _HOOKS})
    return list(globals())
