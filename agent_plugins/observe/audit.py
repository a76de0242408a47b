"""audit - who was allowed what, and which models and peers were asked.

    entries(store, since, run)     one row a decision, answer of a person, model call or call of a peer

Whether the record of it is whole is `agent_plugins.observe.verify`'s business.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from agent_core import redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent_core.events import Event
    from agent_core.store import Store

KINDS = (
    "run.started", "run.finished", "model.replied", "model.failed", "effect.failed", "tool.started", "tool.finished", "wait.asked",
    "wait.finished", "call.started", "call.finished", "call.failed", "memory.evicted",
)  # fmt: skip
_SHOWN = 2000
_LACKING = re.compile(r"(?:needs|may not use|would use) ((?:[a-z][a-z-]*(?::[^\s,]+)?)(?:, [a-z][a-z-]*(?::[^\s,]+)?)*)")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the audit. `what`: tool, question, answer, model, peer or memory; `allowed` is None where nothing was decided.

    `by` says who decided: policy, terminal (a person there), later (a person, by `agent-log resume`).
    """

    time: float
    run: str
    agent: str
    path: str
    what: str
    name: str
    allowed: bool | None = None
    by: str = ""
    detail: str = ""
    denied_capabilities: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


def entries(store: Store, since: float = 0.0, run: str = "") -> Iterator[Entry]:
    """Yield the audit's rows in the order in which they were written; what a fork inherited is its origin's."""
    agents = {each.id: each.agent for each in store.runs(None)}
    ended: set[str] = set()
    told: set[tuple[str, str]] = set()
    for event in store.events(run) if run else store.stream(since, KINDS):
        place = (event.run, event.path)
        if event.kind in {"run.started", "run.finished"}:
            (ended.add if event.kind == "run.finished" else ended.discard)(event.run)
        elif event.time >= since and not event.data.get("inherited") and not (event.kind == "effect.failed" and place in told):
            yield from _entries(event, agents.get(event.run, ""), later=event.run in ended)
        if event.kind in {"model.failed", "call.started"}:
            told.add(place)


def is_denial(entry: Entry) -> bool:
    """Return whether something was refused."""
    return entry.allowed is False


def _entries(event: Event, agent: str, *, later: bool) -> Iterator[Entry]:
    data = event.data
    head = {"time": event.time, "run": event.run, "agent": agent, "path": event.path}
    match event.kind:
        case "tool.started":
            more = {"arguments": cleaned(data.get("arguments")), "effects": bool(data.get("effects"))}
            yield _made(head, "tool", data.get("name"), allowed=True, by="policy", detail=_brief(data.get("arguments")), data=more)
        case "tool.finished" if data.get("error") == "denied":
            yield _refused(head, data)
        case "wait.asked" | "wait.finished":
            yield from _person(head, event, later=later)
        case "model.replied":
            yield _model(head, data)
        case "model.failed" | "effect.failed":
            yield _made(head, "model", _place(data), detail=f"failed: {_problem(data)}")
        case "call.started" | "call.finished" | "call.failed":
            yield _peer(head, event)
        case "memory.evicted":
            yield _made(head, "memory", "evicted", detail=_brief(data.get("items")))


def _made(head: Mapping[str, Any], what: str, name: Any, **rest: Any) -> Entry:
    return Entry(**head, what=what, name=_said(name), **rest)


def _refused(head: Mapping[str, Any], data: Mapping[str, Any]) -> Entry:
    reason = _said(data.get("text")).removeprefix("denied: ")
    found = _LACKING.search(reason)
    lacking = tuple(found[1].split(", ")) if found else ()
    return _made(head, "tool", data.get("name"), allowed=False, by="policy", detail=reason, denied_capabilities=lacking)


def _person(head: Mapping[str, Any], event: Event, *, later: bool) -> Iterator[Entry]:
    if event.kind == "wait.asked":
        yield _made(head, "question", event.data.get("tool"), detail=_said(event.data.get("question")))
    elif event.data.get("answer") is not None:
        yield _answered(head, event.data, later=later)


def _answered(head: Mapping[str, Any], data: Mapping[str, Any], *, later: bool) -> Entry:
    answer = data["answer"]
    edited = isinstance(answer, dict)
    allowed = True if edited else {"yes": True, "no": False}.get(str(answer))
    by = _said(data.get("by")) or ("later" if later else "terminal")
    return _made(head, "answer", "", allowed=allowed, by=by, detail=_brief(answer) if edited else _said(answer))


def _model(head: Mapping[str, Any], data: Mapping[str, Any]) -> Entry:
    from agent_core import money
    from agent_core.readings import cost_of

    used, cost = data.get("usage") or {}, cost_of(data)
    into, out = used.get("input_tokens"), used.get("output_tokens")
    amount = None if cost is None else money.text(cost)
    words = f"{_amount(into)} tokens in, {_amount(out)} out, {'price unknown' if amount is None else f'{amount} USD'}"
    more = {"input_tokens": into, "output_tokens": out, "cost_usd": amount, "cached": bool(data.get("cached"))}
    return _made(head, "model", _place(data), detail=words, data=more)


def _place(data: Mapping[str, Any]) -> str:
    return "/".join(str(data[name]) for name in ("provider", "model") if data.get(name))


def _peer(head: Mapping[str, Any], event: Event) -> Entry:
    data = event.data
    words = {"call.started": f"asked: {_said(data.get('input'))[:200]}", "call.finished": "answered"}
    facts = data.get("facts")
    more = {key: facts[key] for key in ("run", "status") if key in facts} if isinstance(facts, dict) else {}
    return _made(head, "peer", data.get("agent"), detail=words.get(event.kind, f"failed: {_problem(data)}"), data=more)


def _problem(data: Mapping[str, Any]) -> str:
    error = data.get("error")
    return _said(error.get("detail") or error.get("code")) if isinstance(error, dict) else _said(error)


def _amount(count: Any) -> str:
    return f"{count:,}" if isinstance(count, int) else "?"


def _said(value: Any) -> str:
    return redact.redact(" ".join(str(value or "").split()))[:_SHOWN]


def _brief(value: Any) -> str:
    import json

    return json.dumps(cleaned(value), ensure_ascii=False, default=str)[:_SHOWN]


def cleaned(value: Any) -> Any:
    """Return plain data with the secrets of this process, and what is shaped like one, taken out of every text."""
    if isinstance(value, str):
        return redact.redact(value)
    if isinstance(value, dict):
        return {redact.redact(str(key)): cleaned(each) for key, each in value.items()}
    return [cleaned(each) for each in value] if isinstance(value, list | tuple) else value


def as_data(entry: Entry) -> dict[str, Any]:
    """Return an entry as plain data; `tool_name` beside `name` for tools (the field that sandbox audits are read by)."""
    row = {**asdict(entry), "denied_capabilities": list(entry.denied_capabilities)}
    return {**row, "tool_name": entry.name} if entry.what == "tool" else row
