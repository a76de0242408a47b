"""agent-mem - remember, recall and forget: what agents keep for later, and its upkeep.

    agent-mem add "Ownership prevents data races" --kind long --importance 0.9 --tag rust
    agent-mem recall "data ownership" -k 2 --json       [{"id", "text", "score", "importance"}, …], best first
    agent-mem list --kind long                          what there is; `show ID` has all of one item
    agent-mem forget ID ... | --tag TAG                 gone for good, with all that it had replaced
    agent-mem upkeep --kind long --now +30d --dry-run   decay, merge, consolidate, compress, sweep: what would be done
    agent-mem undo                                      take the latest upkeep back
    agent-mem export > memory.jsonl; agent-mem import memory.jsonl
    agent-mem clear --session NAME                      begin a conversation anew
    agent-mem index --embed openai/text-embedding-3-small; agent-mem recall "memory safety" --embed openai/text-embedding-3-small
    agent-mem stats

Any agent run with `--memory` is given what has to do with its input, may remember, recall and forget by itself, and leaves an
episode behind. Kinds: long (fades: importance · e^(-age/30 days)), semantic (facts), entity and kv (under a `--key`), episodic
(what runs came to), working (the last 64 of a session), buffer (turns), and summary and episode, which upkeep makes.

    score = similarity + importance + 0.2 · recency + 0.1 · frequency

Similarity knows words and their stems; with `--embed PROVIDER/MODEL` (or `embed` in agents.toml) meanings, by the vectors of that
model: then questions and items are sent there. Without a model upkeep's summaries are sentences of the items themselves; with
one set up (or `--provider`) the model writes them. docs/memory.md has every formula, setting and promise.

    $ agent-mem add "Ownership prevents data races" --kind long --importance 0.9
    $ agent-mem recall "ownership safety" --json | jq .data.structuredContent
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from agent_core import Agent
from agent_core.errors import InputError, MissingInput, UsageError
from agent_core.events import Event
from agent_core.options import Option, convert
from agent_core.task import Answer
from agent_plugins.memory.items import KINDS, OF_A_SESSION, RECALLED, TRUSTED, UNTRUSTED, Item, kind_of, of_row, row_of, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent_core.cli import Command
    from agent_plugins.memory.keep import Memory
    from agent_plugins.memory.upkeep import Plan, Wanted

SYSTEM = """You write one summary of several notes. Say what they say together, in at most three sentences, in their own language.
Keep names, numbers and negations exact. Add nothing that is not in them. Answer with the summary alone."""
_WIDTH = 88


def _memory(command: Command) -> Memory:
    from agent_plugins.memory import keep

    return keep.opened(command.settings)


def _looked_at(command: Command) -> Memory:
    """Return memory for a look; nothing, where there is none: looking must not create a store."""
    from agent_core.running import store_path
    from agent_plugins.memory import keep

    return keep.opened(command.settings, None if store_path(command.settings).exists() else keep.Passing())


def _moment(text: str) -> float:
    """Return the moment that +30d, -12h, 2026-09-01 or epoch seconds name; now for nothing. UsageError for anything else."""
    if not text:
        return time.time()
    if text[0] in "+-":
        ahead: float = convert(Option("now", "", "seconds", low=0), text[1:])
        return time.time() + (ahead if text[0] == "+" else -ahead)
    from datetime import datetime

    try:
        return float(text) if text.replace(".", "", 1).isdigit() else datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(f"--now {text[:40]!r} is no moment", hint="+30d, -12h, or a day such as 2026-09-01") from None


def _share(value: float, name: str) -> float:
    if not 0.0 <= value <= 1.0:
        raise UsageError(f"--{name} {value:g} is not from 0 to 1", hint=f"--{name} 0.5")
    return value


# --- add, recall, list, show, forget -----------------------------------------------------------------------------------------


def add(  # noqa: PLR0913, PLR0917 - a command's parameters are its flags
    command: Command,
    text: list[str],
    kind: str = "semantic",
    importance: float = 0.5,
    tag: list[str] | None = None,
    key: str = "",
    namespace: str = "",
    role: str = "",
    dry_run: bool = False,
) -> Answer:
    """Remember a text; without words (or with -) standard input, which is marked as untrusted. Prints the item's id.

    Args:
        command: the call
        text: what to remember
        kind: long, semantic, entity, kv, episodic, working or buffer
        importance: from 0 to 1
        tag: a word to find it by
        key: the name of a kv, working or entity item; a kv or working item under that key is replaced
        namespace: the agent (or, for buffer and working, the session) it belongs to; everybody's without
        role: who said it (buffer)
        dry_run: say what would be done, and do nothing
    """
    found = kind_of(kind)
    _share(importance, "importance")
    words = [word for word in text if word != "-"]
    trust = TRUSTED if words else UNTRUSTED
    said = " ".join(words) or _stdin(command)
    owner = namespace or (command.settings.session if found in OF_A_SESSION else "")
    item = Item("", found, said, importance, tuple(tag or ()), key, owner, role, trust=trust)
    if dry_run:
        ready = _looked_at(command).ready(item)
        return Answer(
            f"would add {ready.kind}, about {ready.tokens} tokens", {"id": "", "kind": ready.kind, "tokens": ready.tokens}
        )
    kept, evicted = _memory(command).put(item)
    if kept.text != said.strip():
        command.out.say("what looked like a secret was left out")
    for each in evicted:
        command.out.say(f"evicted {each.id}: {each.kind} holds no more than its capacity")
    return Answer(kept.id, {"id": kept.id, "kind": kept.kind, "tokens": kept.tokens, "evicted": [each.id for each in evicted]})


def _stdin(command: Command) -> str:
    from agent_core import asking, stdin

    data = stdin.read(replace(asking.rules(command, instruction=False, dash=True), stdin="required"))
    if not data:
        raise MissingInput("there is nothing to remember", hint="give it words, or a text on stdin")
    return stdin.text_of(data)


def recall(  # noqa: PLR0913, PLR0917 - a command's parameters are its flags
    command: Command,
    query: list[str],
    k: int = 5,
    kind: str = "",
    tag: list[str] | None = None,
    key: str = "",
    namespace: str = "",
    match: Literal["hybrid", "text", "vector"] = "hybrid",
    min_similarity: float = 0.0,
    memory_tokens: int | None = None,
    explain: bool = False,
    now: str = "",
    dry_run: bool = False,
) -> Answer:
    """Print the items with the best scores for a query, best first.

    Args:
        command: the call
        query: what to look for; "words in quotes" belong together
        k: at most so many items
        kind: only items of that kind
        tag: only items with that tag (all of them, if given several times)
        key: only items under that key
        namespace: only what belongs to that agent (or session)
        match: by text (stems, phrases), by vector (TF-IDF; with --embed of that model), or the larger of both
        min_similarity: only items at least that similar
        memory_tokens: at most so many tokens together
        explain: show the terms of the score
        now: as of then (+30d, 2026-09-01)
        dry_run: do not count it as a use of the items, and send nothing
    """
    from agent_plugins.memory import recall as recalling

    if k < 1:
        raise UsageError(f"-k {k} is less than 1", hint="-k 5")
    memory, moment = _looked_at(command), _moment(now)
    found = _chosen(memory, kind or RECALLED, tag, key, namespace)
    asked = " ".join(query)
    model, meant = _meant(command, memory, found, asked) if match != "text" else ("", {})
    hits = [
        hit
        for hit in recalling.recall(found, asked, memory.rules, moment, match, meant)
        if hit.similarity >= _share(min_similarity, "min-similarity")
    ]
    best = recalling.limited(hits, k, memory_tokens)
    if not now and not dry_run:
        memory.touch([hit.item for hit in best], moment)
    rows = [_hit(hit, explain=explain, vector=model if hit.item.id in meant else "") for hit in best]
    return Answer("\n".join(_hit_line(row) for row in rows), rows)


def _meant(command: Command, memory: Memory, found: Sequence[Item], asked: str) -> tuple[str, Mapping[str, float]]:
    """Return the model of --embed, and how near items are by its vectors; nothing without it."""
    if not command.settings.extra.get("embed") or command.flag("dry_run"):
        return "", {}
    from agent_plugins.memory import meaning

    near = meaning.near(memory, found, asked, command.remaining())
    for notice in near.notices:
        command.out.say(notice)
    return near.model, near.likeness


def _hit(hit: Any, *, explain: bool, vector: str) -> dict[str, Any]:
    row = {"id": hit.item.id, "text": hit.item.whole, "score": round(hit.score, 4), "importance": round(hit.importance, 4)}
    if not explain:
        return row
    terms = {name: round(getattr(hit, name), 4) for name in ("similarity", "recency", "frequency")}
    row |= {**terms, "kind": hit.item.kind, "tags": list(hit.item.tags), "trust": hit.item.trust}
    return {**row, "vector": vector} if vector else row


def _hit_line(row: dict[str, Any]) -> str:
    terms = "".join(f"  {name} {row[name]:.3f}" for name in ("similarity", "importance", "recency", "frequency") if "kind" in row)
    return f"{row['score']:.3f}  {row['id']}  {_line(row['text'])}{terms}"


def _line(text: str, width: int = 0) -> str:
    flat = " ".join(text.split())
    return flat if not width or len(flat) <= width else f"{flat[: width - 1]}\u2026"


def _chosen(
    memory: Memory, kind: str | Sequence[str], tags: Sequence[str] | None, key: str, namespace: str, *, ended: bool = False
) -> list[Item]:
    kinds = (kind_of(kind),) if isinstance(kind, str) and kind else tuple(kind)
    found = memory.items(kinds, [namespace] if namespace else None, ended=ended)
    return [item for item in found if set(tags or ()) <= set(item.tags) and (not key or item.key == key)]


def list_(  # noqa: PLR0913, PLR0917 - a command's parameters are its flags
    command: Command,
    kind: str = "",
    tag: list[str] | None = None,
    key: str = "",
    namespace: str = "",
    ended: bool = False,
    now: str = "",
) -> Answer:
    """List items, oldest first, with what is left of their importance.

    Args:
        command: the call
        kind: only items of that kind
        tag: only items with that tag
        key: only items under that key
        namespace: only what belongs to that agent (or session)
        ended: also what was superseded or pruned and can still be restored
        now: as of then (+30d, 2026-09-01)
    """
    memory, moment = _looked_at(command), _moment(now)
    found = sorted(_chosen(memory, kind, tag, key, namespace, ended=ended), key=lambda item: (item.created, item.id))
    rows = [row_of(item, memory.rules, moment) for item in found]
    lines = [f"{'ID':<20}  {'KIND':<8}  {'IMP':>5}  TEXT"] if rows else []
    lines += [_item_line(item, row["importance"]) for item, row in zip(found, rows, strict=True)]
    return Answer("\n".join(lines), rows)


def _item_line(item: Item, importance: float) -> str:
    tags = "".join(f" #{_line(tag)}" for tag in item.tags)
    ended = f" ({item.reason})" if item.ended else ""
    return f"{item.id:<20}  {item.kind:<8}  {importance:>5.3f}  {_line(item.whole, _WIDTH)}{tags}{ended}"


def show(id: str, command: Command, now: str = "") -> Answer:  # noqa: A002 - the word of the usage
    """Show all of one item.

    Args:
        id: its id, or the beginning of it
        command: the call
        now: as of then (+30d, 2026-09-01)
    """
    memory = _looked_at(command)
    row = row_of(memory.find(id), memory.rules, _moment(now))
    from agent_core.records import timestamp

    shown = {**row, **{name: timestamp(row[name]) for name in ("created", "accessed", "ended") if row[name]}}
    text = shown.pop("text")
    lines = [f"{name:<18}{_plain(value)}" for name, value in shown.items() if value not in ("", [], {}, 0, 0.0, False)]
    return Answer("\n".join([*lines, "", text]), row)


def _plain(value: Any) -> str:
    return _line(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def forget(command: Command, id: list[str], tag: list[str] | None = None, kind: str = "", dry_run: bool = False) -> Answer:  # noqa: A002
    """Remove items for good, with all that they had replaced.

    Args:
        command: the call
        id: their ids, or the beginnings
        tag: everything with that tag (all of them, if given several times)
        kind: with --tag: only items of that kind
        dry_run: say what would be done, and do nothing
    """
    if bool(id) == bool(tag):
        raise UsageError("forget needs ids or --tag", hint="agent-mem forget ID, or agent-mem forget --tag TAG")
    memory = _memory(command)
    wanted = [memory.find(each) for each in id] if id else _chosen(memory, kind, tag, "", "", ended=True)
    gone = wanted if dry_run else memory.forget(wanted)
    return Answer(f"{'would forget' if dry_run else 'forgot'} {len(gone)}", [item.id for item in gone])


def index(command: Command, kind: str = "", dry_run: bool = False) -> Answer:
    """Make the vectors that items lack, with the model of --embed PROVIDER/MODEL; `recall --embed` makes up to 63 by itself.

    Args:
        command: the call
        kind: only items of that kind
        dry_run: say what would be done, and do nothing
    """
    from agent_core import money
    from agent_plugins.memory import meaning

    memory = _looked_at(command)
    embedder = meaning.wanted(command.remaining(), memory)
    if embedder is None:
        raise UsageError("index needs --embed PROVIDER/MODEL", hint="agent-mem index --embed openai/text-embedding-3-small")
    found = _chosen(memory, kind or RECALLED, None, "", "")
    left = len(meaning.missing(found, embedder.name))
    if dry_run:
        return Answer(f"would make {left} vectors of {embedder.name}", {"model": embedder.name, "made": 0, "missing": left})
    for done in meaning.index(memory, found, embedder) if left else ():
        command.out.say(f"{done:,} of {left:,}")
    text = f"made {left} vectors of {embedder.name}, {len(found)} items have one"
    return Answer(text, {"model": embedder.name, "made": left, "missing": 0, "cost_usd": money.text(embedder.cost)})


# --- upkeep and undo ---------------------------------------------------------------------------------------------------------


def upkeep(  # noqa: PLR0913, PLR0917 - a command's parameters are its flags
    command: Command,
    kind: str = "",
    only: list[Literal["decay", "merge", "consolidate", "compress", "sweep"]] | None = None,
    now: str = "",
    cosine: float | None = None,
    by: Literal["turns", "tokens"] | None = None,
    due: bool = False,
    dry_run: bool = False,
) -> Answer:
    """Keep memory small: decay, merge, consolidate, compress, sweep; `--dry-run` says what would be done.

    Args:
        command: the call
        kind: only items of that kind
        only: only that policy (can be repeated)
        now: as if it were then (+30d, 2026-09-01)
        cosine: merge what is more alike than that, instead of 0.85
        by: compress conversations that have too many turns, or too many tokens
        due: only the policies whose interval is over (for a timer)
        dry_run: say what would be done, and do nothing
    """
    from agent_core.running import store_path
    from agent_plugins.memory import compress, runs
    from agent_plugins.memory import upkeep as keeping

    memory, moment = (_looked_at if dry_run else _memory)(command), _moment(now)
    rules = memory.rules
    if cosine is not None:
        rules = replace(rules, merge_cosine=_share(cosine, "cosine"))
    if by is not None:
        rules = replace(rules, compression=replace(rules.compression, trigger=by))
    policies = tuple(name for name in keeping.POLICIES if name in (only or keeping.POLICIES))
    if due:
        policies = tuple(name for name in policies if moment - memory.mark(name) >= _interval(memory, name))
    wanted = keeping.Wanted(moment, policies, kind_of(kind) if kind else "", compress.extracted if dry_run else _writer(command))
    logged = runs.sessions(command.store()) if "compress" in policies and store_path(command.settings).exists() else {}
    made: list[Plan] = []

    def make(items: list[Item]) -> Any:
        made.append(keeping.plan(items, logged, rules, wanted))
        return made[-1].change

    if dry_run:
        make(memory.items(ended=True))
        return Answer(_said(made[-1], dry=dry_run), _planned(made[-1], ""))
    _, number = memory.apply(make, moment)
    _done(memory, wanted)
    return _told(command, made[-1], number)


def _told(command: Command, plan: Plan, number: str) -> Answer:
    """Put what upkeep did on the event stream, and say it."""
    command.store().append(Event("memory.upkeep", "", "", time.time(), {"counts": dict(plan.counts)}))
    return Answer(_said(plan, dry=False), _planned(plan, number))


def _interval(memory: Memory, policy: str) -> float:
    rules = memory.rules
    return rules.consolidation.run_interval_secs if policy in {"consolidate", "compress"} else rules.decay_interval_hours * 3600


def _done(memory: Memory, wanted: Wanted) -> None:
    for name in wanted.policies:
        memory.set_mark(name, wanted.now)
    if "sweep" in wanted.policies:
        memory.forget_changes(wanted.now - memory.rules.grace_days * 86400)


def _said(plan: Plan, *, dry: bool) -> str:
    """Return what was, or would be, done: `would keep 1 (importance 0.331), prune 0, merge 0`."""
    counts = plan.counts
    left = sorted({f"{importance:.3f}" for _, importance in plan.kept})
    range_ = f" (importance {left[0]}{f' to {left[-1]}' if len(left) > 1 else ''})" if left else ""
    keep, prune, merge = ("would keep", "prune", "merge") if dry else ("kept", "pruned", "merged")
    parts = [f"{keep} {len(plan.kept)}{range_}", f"{prune} {counts.get('decay', 0)}", f"{merge} {_into(counts, 'merge')}"]
    done = {"consolidate": "consolidated", "compress": "compressed"}
    parts += [f"{name if dry else done[name]} {_into(counts, name)}" for name in done if counts.get(f"{name} into")]
    if counts.get("sweep"):
        parts.append(f"{'remove' if dry else 'removed'} {counts['sweep']}")
    return ", ".join(parts)


def _into(counts: Any, name: str) -> str:
    made = counts.get(f"{name} into", 0)
    return f"{counts.get(name, 0)} into {made}" if made else "0"


def _planned(plan: Plan, number: str) -> dict[str, Any]:
    kept = [{"id": item.id, "kind": item.kind, "importance": round(importance, 4)} for item, importance in plan.kept]
    ended = [{"id": item.id, "reason": item.reason, "superseded_by": item.superseded_by} for item in plan.change.ended]
    made = [{"id": item.id, "kind": item.kind, "text": item.text, "supersedes": list(item.supersedes)} for item in plan.change.made]
    return {
        "change": number, "kept": kept, "ended": ended, "made": made, "removed": [item.id for item in plan.change.gone],
        "tokens_saved": plan.counts.get("tokens saved", 0),
    }  # fmt: skip


def _writer(command: Command) -> Any:
    """Return what writes summaries: a model if one is set up, else the extraction of sentences."""
    from agent_core import choose
    from agent_plugins.memory import compress

    if choose.route(command.settings)[0] == ["offline"]:
        return compress.extracted
    said: dict[tuple[str, ...], str] = {}

    def write(texts: Sequence[str]) -> str:
        # If upkeep has to decide again (another program wrote meanwhile), what was paid for is not asked for again.
        if tuple(texts) not in said:
            said[tuple(texts)] = _asked(command, texts)
        return said[tuple(texts)]

    return write


def _asked(command: Command, texts: Sequence[str]) -> str:
    """Ask the model for one summary, by a run like any other: it has a budget, a journal and a place in `agent-log`."""
    from agent_core.agent import Job, execute
    from agent_core.messages import user
    from agent_core.task import compose

    materials = [(f"note {number}", text) for number, text in enumerate(texts, 1)]
    settings = replace(command.remaining(), extra={**command.settings.extra, "memory": False})
    job = Job(user(compose("Summarise these notes.", materials)), provenance=({"ref": "memory", "trust": UNTRUSTED},))
    result = execute(writer, job, settings)
    if result.error is not None:
        raise result.error
    if not result.output.strip():
        from agent_plugins.memory import compress

        return compress.extracted(texts)
    return result.output.strip()


def undo(command: Command, change: list[str]) -> Answer:
    """Take the latest upkeep (or the one that is named) back: what it ended lives again, what it made goes.

    Args:
        command: the call
        change: its number, as `stats` shows it
    """
    if len(change) > 1:
        raise UsageError("undo takes one CHANGE", hint="agent-mem stats shows them")
    again, gone = _memory(command).undo(change[0] if change else "")
    return Answer(f"restored {again}, removed {gone}", {"restored": again, "removed": gone})


# --- export, import, clear, stats --------------------------------------------------------------------------------------------


def export(
    command: Command, kind: str = "", tag: list[str] | None = None, namespace: str = "", form: Literal["jsonl", "json"] = "jsonl"
) -> Answer:
    """Print items as JSON lines, or key-value pairs as one JSON object.

    Args:
        command: the call
        kind: only items of that kind
        tag: only items with that tag
        namespace: only what belongs to that agent (or session)
        form: jsonl (every field of every item) or json ({"key": "value"}, kv items only)
    """
    if form == "json":
        pairs = {item.key: item.text for item in _chosen(_looked_at(command), "kv", tag, "", namespace)}
        return Answer(json.dumps(pairs, ensure_ascii=False, indent=2), pairs)
    found = _chosen(_looked_at(command), kind, tag, "", namespace, ended=True)
    lines = [to_json(item) for item in found]
    return Answer("\n".join(lines), [json.loads(line) for line in lines])


def import_(command: Command, file: list[str], trusted: bool = False, dry_run: bool = False) -> Answer:
    """Take items from JSON lines (or one JSON object of key-value pairs): all of them, or none.

    Args:
        command: the call
        file: the file; - or nothing is standard input
        trusted: believe what the file says about trust; without it all of it is untrusted
        dry_run: say what would be done, and do nothing
    """
    memory = _memory(command)
    items = [memory.ready(item) for item in _imported("".join(_texts(command, file)), believed=trusted)]
    if not dry_run:
        from agent_plugins.memory import keep

        memory.store.items_write({keep.place_of(item): to_json(item) for item in items})
        for kind, namespace in sorted({(item.kind, item.namespace) for item in items}):
            memory.evict(kind, namespace)
    return Answer(f"{'would import' if dry_run else 'imported'} {len(items)}", [item.id for item in items])


def _texts(command: Command, files: Sequence[str]) -> Iterable[str]:
    named = [name for name in files if name != "-"]
    if not named:
        yield _stdin(command)
    for name in named:
        try:
            with open(name, encoding="utf-8") as file:  # noqa: PTH123 - no pathlib on this path
                yield file.read(command.settings.max_input)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise MissingInput(f"cannot read {name}: {reason}", hint="agent-mem import FILE") from None


def _imported(text: str, *, believed: bool) -> Iterable[Item]:
    pairs = _pairs(text)
    if pairs is not None:
        yield from (Item("", "kv", value, key=key, trust=TRUSTED if believed else UNTRUSTED) for key, value in pairs.items())
        return
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            item = of_row(_json(line))
            # A vector that somebody else made could be near to everything.
            yield item if believed else replace(item, trust=UNTRUSTED, embedding={})
        except InputError as error:
            raise InputError(f"line {number}: {error}", hint=error.hint) from None


def _pairs(text: str) -> dict[str, str] | None:
    """Return the key-value pairs of one JSON object of texts; None for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or "text" in found or not all(isinstance(each, str) for each in found.values()):
        return None
    return found


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise InputError("not JSON", hint="agent-mem export shows the form") from None


def clear(command: Command, session: str = "", kind: str = "") -> Answer:
    """Empty a conversation: its turns, its working memory, its episodes. The runs themselves stay in agent-log.

    Args:
        command: the call
        session: which conversation
        kind: only items of that kind; the runs stay in the session
    """
    if not session:
        raise UsageError("clear needs --session NAME", hint="agent-mem forget removes other items")
    memory = _memory(command)
    gone = memory.forget(memory.items([kind_of(kind)] if kind else sorted(OF_A_SESSION), [session], ended=True))
    runs = 0 if kind else command.store().leave_session(session)
    return Answer(f"cleared {session}: {runs} runs, {len(gone)} items", {"session": session, "runs": runs, "items": len(gone)})


def stats(command: Command) -> Answer:
    """Show how much there is of what, and the changes that can be undone."""
    memory, now = _looked_at(command), time.time()
    everything = memory.items(ended=True)
    rows = [row for kind in KINDS if (row := _row(memory, kind, [item for item in everything if item.kind == kind], now))]
    changes = [
        {"change": number, "what": noted["what"], "time": noted["time"], "ended": len(noted["ended"]), "made": len(noted["made"])}
        for number, noted in memory.changes()
    ]
    table = [("KIND", "ITEMS", "TOKENS", "CAPACITY", "UNTRUSTED", "ENDED"), *(_cells(row) for row in rows)] if rows else []
    lines = [f"{cells[0]:<9}" + "".join(f" {cell:>9}" for cell in cells[1:]) for cells in table]
    lines += [f"change {each['change']}: {each['what']}, ended {each['ended']}, made {each['made']}" for each in changes]
    made = Counter(model for item in everything if not item.ended and (model := item.embedding.get("model")))
    lines += [f"vectors of {_line(str(model))}: {count}" for model, count in sorted(made.items())]
    return Answer("\n".join(lines), {"kinds": rows, "changes": changes, "vectors": dict(sorted(made.items()))})


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    names = ("kind", "items", "tokens", "capacity", "untrusted", "ended")
    return tuple("-" if row[name] is None else str(row[name]) for name in names)


def _row(memory: Memory, kind: str, items: Sequence[Item], now: float) -> dict[str, Any] | None:
    live = [item for item in items if not item.ended]
    if not items:
        return None
    left = [memory.rules.importance(item, now) for item in live]
    return {
        "kind": kind, "items": len(live), "tokens": sum(item.tokens for item in live),
        "capacity": memory.rules.kinds[kind].capacity,
        "untrusted": sum(item.trust != TRUSTED for item in live), "ended": len(items) - len(live),
        "importance": round(sum(left) / len(left), 4) if left else None,
    }  # fmt: skip


writer = Agent("agent-mem-writer - write one summary of several notes.", SYSTEM, stdin="none")
agent = Agent(
    __doc__,
    commands=[add, recall, list_, show, forget, index, upkeep, undo, export, import_, clear, stats],
    examples=[
        'agent-mem add "Ownership prevents data races" --kind long --importance 0.9',
        'agent-mem recall "ownership safety" -k 2 --json',
        "agent-mem upkeep --kind long --now +30d --dry-run",
    ],
    tags=["memory", "remember", "recall", "forget", "notes"],
    when_to_use="Something is to be kept for later runs, or found again.",
)
main = agent.main

if __name__ == "__main__":
    main()
