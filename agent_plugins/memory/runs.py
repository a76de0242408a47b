"""runs - what a run is given when it begins, and what is kept of it when it ends.

At its beginning: the items that have to do with its input (or are important enough to be always there), at most `--memory-recalls`
of at most `--memory-tokens` together, each as material with the origin `memory:ID`; the pairs of the session's working memory; and
the episodes that stand for what of a long session was compressed. All of it is data between marks, and brings its label of trust.
It stands in a message of its own before the input: an agent that works on its input (a summary, a review) works on that alone.

At its end: an episode (what was asked, what was answered), the labels of what was remembered on the way, and, where a session has
become too long, its compression. This takes one or two small transactions, and no model.

Labels are read from the run's journal, so that a resumed run knows what it had seen before.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent_core import taint
from agent_core.errors import AgentError
from agent_core.messages import assistant, user
from agent_core.task import DATA_RULE, compose, split
from agent_plugins.memory import keep, meaning, recall, upkeep
from agent_plugins.memory.items import RECALLED, TRUSTED, UNTRUSTED, Item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from agent_core.agent import Agent, Job
    from agent_core.config import Settings
    from agent_core.events import Event
    from agent_core.messages import Message
    from agent_core.store import Store
    from agent_plugins.memory.keep import Memory

ORIGIN = "memory:"
OWN_TOOLS = frozenset({"remember", "recall", "forget"})
EPISODE_IMPORTANCE = 0.4
_ASKED, _ANSWERED, _QUESTION = 400, 1200, 2000
_HEAD = "From memory, in case it helps with what follows."
_NOTHING = frozenset({"invalid", "denied", "not_found"})


# --- before ------------------------------------------------------------------------------------------------------------------


def prepared(agent: Agent, job: Job, settings: Settings, store: Store) -> Job | None:
    """Return the job with what memory holds about it; None where it holds nothing. A memory that cannot be read costs nothing."""
    memory = keep.opened(settings, store)
    try:
        seen = visible(memory, agent.name)
        said = {turn.run for turn in turns(store, job.session)} if job.session else set()
        fresh = [item for item in seen if item.kind != "episodic" or item.run not in said]  # the history has the others
        found, meant = _recalled(memory, fresh, job, settings)
        given = [*_episodes(memory, job), *_working(memory, settings), *found]
        history = _shortened(memory, job, store)
        hidden = agent.tools.get("recall") is not None and any(not item.namespace and item.trust != TRUSTED for item in seen)
    except AgentError as error:
        store.notices.append(f"nothing is remembered: {error.line()}")
        return None
    sources = [_source(f"{ORIGIN}{item.id}", [item]) for item in given]
    if hidden:
        # The tool `recall` may hand out what is not to be trusted, whenever the model asks: the run is what it could become.
        sources.append({"ref": "memory", "trust": UNTRUSTED})
    store.notices += meant.notices
    if not sources and history is job.history and not meant.cost:
        return None
    told = (*history, *_told(given))
    return replace(job, history=told, provenance=(*job.provenance, *sources), charged=job.charged + meant.cost)


def _told(given: Sequence[Item]) -> tuple[Message, ...]:
    """Return what the run is told of memory. The answer is there because some services insist that roles alternate."""
    if not given:
        return ()
    materials = [(f"{ORIGIN}{item.id}", item.whole) for item in given]
    return user(compose(f"{_HEAD} {DATA_RULE}", materials)), assistant("Noted.")


def _source(ref: str, items: Sequence[Item]) -> dict[str, Any]:
    trusted = all(item.trust == TRUSTED for item in items)
    labels = {"labels": [taint.PRIVATE]} if any(item.private for item in items) else {}
    return {"ref": ref, "trust": TRUSTED if trusted else UNTRUSTED, **labels}


def _recalled(memory: Memory, found: list[Item], job: Job, settings: Settings) -> tuple[list[Item], meaning.Near]:
    """Return the items to be given, best first: those that are like the input, and those of standing importance."""
    count = settings.extra.get("memory_recalls", 3)
    asked = question(job.message.text)
    if not found or not count:
        return [], meaning.Near()
    meant = meaning.near(memory, found, asked, settings)
    now = time.time()
    rules = memory.rules
    least = max(rules.min_similarity, 1e-9)
    hits = recall.recall(found, asked, rules, now, likeness=meant.likeness)
    wanted = [hit for hit in hits if hit.similarity >= least or hit.importance >= rules.standing_importance]
    given = [hit.item for hit in recall.limited(wanted, count, settings.extra.get("memory_tokens"))]
    memory.touch(given, now)
    return given, meant


def visible(memory: Memory, agent: str) -> list[Item]:
    """Return the items that the runs of an agent may be given: everybody's and its own, of the kinds that are recalled."""
    found = memory.items(RECALLED, ("", agent))
    return [item for item in found if not item.private or carries_private()]


def carries_private() -> bool:
    """Whether the core can hand the label `private` on to a run; where it cannot, no run is given what is private."""
    return taint.PRIVATE in taint.of_sources(({"ref": "memory", "trust": TRUSTED, "labels": [taint.PRIVATE]},))


def question(text: str) -> str:
    """Return what to look for: the instruction, and the beginning of the material."""
    instruction, materials = split(text)
    return " ".join([instruction, *(each for _, each in materials)])[:_QUESTION]


def working_namespace(settings: Settings) -> str:
    """Return the owner of the working memory: the session, or else this process."""
    return settings.session or f"process {os.getpid()}"


def _working(memory: Memory, settings: Settings) -> list[Item]:
    """Return the pairs of the session's working memory as one item, the last used first."""
    if not settings.session:
        return []
    pairs = sorted(memory.items(["working"], [settings.session]), key=lambda item: -item.used)
    if not pairs:
        return []
    text = "\n".join(item.whole for item in pairs)
    trust = TRUSTED if all(item.trust == TRUSTED for item in pairs) else UNTRUSTED
    return [Item("working", "working", text, trust=trust)]


# --- long sessions -----------------------------------------------------------------------------------------------------------


def turns(store: Store, session: str) -> list[Item]:
    """Return what was said in a session as turns, in the order in which `agent_core.sessions.history` has it."""
    from agent_core.store import text_of

    found: list[Item] = []
    asked: dict[str, Item] = {}
    for event in store.ends(session, (0, 3)):
        if event.kind == "run.started":
            text = text_of(event.data.get("input"))
            trust = UNTRUSTED if taint.of_sources(event.data.get("provenance", ())) else TRUSTED
            asked[event.run] = _turn(event, "user", text, session, trust)
        elif event.run in asked:
            question_ = asked.pop(event.run)
            answer = _turn(event, "assistant", str(event.data.get("output") or ""), session, question_.trust)
            found += [question_, answer]
    return found


def _turn(event: Event, role: str, text: str, session: str, trust: str) -> Item:
    from agent_plugins.memory.score import tokens

    return Item(
        f"{event.run}.{role}", "buffer", text, namespace=session, role=role, created=event.time, tokens=tokens(text), run=event.run,
        trust=trust,
    )  # fmt: skip


def sessions(store: Store) -> dict[str, list[Item]]:
    """Return the turns of all sessions of the event log."""
    names = {run.session for run in store.runs(limit=None) if run.session}
    return {name: turns(store, name) for name in sorted(names)}


def _episodes(memory: Memory, job: Job) -> list[Item]:
    """Return what stands for the older part of the session, in order of time."""
    found = memory.items(["episode"], [job.session]) if job.session else []
    return sorted(found, key=_began)


def _began(item: Item) -> float:
    span = item.details.get("time_range")
    first = span[0] if isinstance(span, list) and span else None
    return float(first) if isinstance(first, int | float) else item.created


def _shortened(memory: Memory, job: Job, store: Store) -> Sequence[Message]:
    """Return the history without the pairs (question and answer) that episodes stand for."""
    covered = {id_ for item in _episodes(memory, job) for id_ in item.supersedes}
    if not covered:
        return job.history
    said = turns(store, job.session)
    pairs = [(said[at], said[at + 1]) for at in range(0, len(said), 2)]
    if len(job.history) < len(said):
        return job.history
    kept: list[Message] = []
    for at, pair in enumerate(pairs):
        if any(turn.id not in covered for turn in pair):
            kept += job.history[2 * at : 2 * at + 2]
    return (*kept, *job.history[len(said) :])


# --- after -------------------------------------------------------------------------------------------------------------------


def keeper(agent: Agent, settings: Settings, store: Store) -> Callable[[Event], None]:
    """Return the reader that keeps what a run came to. It looks at one event only: the end of the run."""

    def read(event: Event) -> None:
        if event.kind != "run.finished":
            return
        try:
            _keep(keep.opened(settings, store), agent, settings, store.events(event.run), store)
        except AgentError:
            return  # the answer is there; what cannot be remembered is not worth losing it

    return read


def _keep(memory: Memory, agent: Agent, settings: Settings, events: Sequence[Event], store: Store) -> None:
    start = next((event for event in events if event.kind == "run.started"), None)
    end = events[-1] if events else None
    if start is None or end is None or end.kind != "run.finished":
        return
    labels = labels_of(events, agent, settings, memory)
    _label(memory, events, labels)
    session = str(end.data.get("session") or "")
    if not session:
        memory.forget(memory.items(["working"], [working_namespace(settings)]))
    if end.data.get("status") in {0, 3}:
        episode = _episode(start, end, agent, labels)
        if episode is not None:
            memory.put(episode)
        if session:
            _compress(memory, session, store)


def _episode(start: Event, end: Event, agent: Agent, labels: frozenset[str]) -> Item | None:
    from agent_core.store import text_of

    asked, materials = split(text_of(start.data.get("input")))
    asked = " ".join(asked.split()) or "about " + ", ".join(origin for origin, _ in materials)
    answered = " ".join(str(end.data.get("output") or "").split())
    if not answered:
        return None
    text = f"asked: {_cut(asked, _ASKED)}\nanswered: {_cut(answered, _ANSWERED)}"
    return Item(
        keep.id_of("run", end.run), "episodic", text, EPISODE_IMPORTANCE, namespace=agent.name, created=end.time, run=end.run,
        trust=UNTRUSTED if taint.UNTRUSTED in labels else TRUSTED, private=taint.PRIVATE in labels,
    )  # fmt: skip


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}\u2026"


def _compress(memory: Memory, session: str, store: Store) -> None:
    """Make episodes of a session that has become too long; nothing of its log is touched."""
    most = memory.rules.compression.max_turns if memory.rules.compression.trigger == "turns" else 0
    logged = {session: turns(store, session)}
    if len(logged[session]) <= most:
        return
    wanted = upkeep.Wanted(time.time(), ("compress",))

    def make(items: list[Item]) -> keep.Change:
        mine = [item for item in items if item.namespace == session and item.kind in {"buffer", "episode"}]
        return replace(upkeep.plan(mine, logged, memory.rules, wanted).change, what=f"compress {session}")

    memory.apply(make, wanted.now)


def _label(memory: Memory, events: Iterable[Event], labels: frozenset[str]) -> None:
    """Give what the run remembered its run and its labels: until then it is untrusted."""
    ids = remembered(events)
    if not ids:
        return
    run = next(iter(events)).run
    trust = UNTRUSTED if taint.UNTRUSTED in labels else TRUSTED
    private = taint.PRIVATE in labels
    found = [item for item in memory.items() if item.id in ids and not item.run]
    memory.update(found, lambda item: replace(item, run=run, trust=trust, private=private))


def remembered(events: Iterable[Event]) -> frozenset[str]:
    """Return the ids of the items that a run remembered by its tool."""
    calls = (event for event in events if event.kind == "tool.finished" and event.data.get("name") == "remember")
    return frozenset(str(_value(event)["id"]) for event in calls if _value(event).get("id"))


def _value(event: Event) -> Mapping[str, Any]:
    value = event.data.get("value")
    return value if isinstance(value, dict) else {}


def labels_of(events: Sequence[Event], agent: Agent, settings: Settings, memory: Memory) -> frozenset[str]:
    """Return what a run had seen by its end, as `agent_core.taint` labels it; what is in doubt counts as seen.

    Of memory only what was handed out counts, not what could have been.
    """
    found = set(taint.inherited(settings.environment.get("AGENT_TAINT", "")))
    called: dict[str, Mapping[str, Any]] = {}
    own = remembered(events)
    for event in events:
        if event.kind == "run.started":
            found |= set(_of_sources(event.data.get("provenance", ())))
        elif event.kind == "tool.started":
            called[event.path] = event.data.get("arguments") or {}
        elif event.kind == "call.finished":
            found |= {taint.UNTRUSTED, *taint.BOTH.intersection(event.data.get("seen", ()))}
        elif event.kind == "effect.failed":
            found |= taint.BOTH.intersection(event.data.get("seen", ()))
        elif event.kind == "tool.finished" and (event.data.get("ran") or event.data.get("error") not in _NOTHING):
            if event.data.get("name") in OWN_TOOLS:
                found |= _of_recalled(event, memory, own)
            else:
                found |= _of_tool(event, called.get(event.path, {}), agent, settings)
    return frozenset(found)


def _of_sources(provenance: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for source in provenance:
        if source.get("ref") == "memory":
            continue
        if source.get("trust") != TRUSTED:
            yield taint.UNTRUSTED
        yield from taint.BOTH & frozenset(source.get("labels", ()))


def _of_tool(event: Event, arguments: Mapping[str, Any], agent: Agent, settings: Settings) -> frozenset[str]:
    from agent_core.fittings import make_policy

    tool = agent.tools.get(str(event.data.get("name")))
    if tool is None:
        return taint.BOTH  # a tool of some other agent in the run
    return taint.gained(tool, arguments, make_policy(settings), settings.workspace)


def _of_recalled(event: Event, memory: Memory, own: frozenset[str]) -> frozenset[str]:
    """Return the labels of the items that a call of `recall` handed out, but for the run's own; what is gone by now is in doubt."""
    rows = _value(event).get("items") or []
    ids = {str(row.get("id")) for row in rows if isinstance(row, dict)} - own
    known = {item.id: item for item in memory.items(ended=True) if item.id in ids}
    found = {taint.UNTRUSTED} if any(id_ not in known or known[id_].trust != TRUSTED for id_ in ids) else set()
    return frozenset(found | ({taint.PRIVATE} if any(item.private for item in known.values()) else set()))
