"""upkeep - what keeps memory small, in this order; each policy sees what the one before left.

    decay         prune what has less than `min_importance` left
    merge         items of one kind and owner whose cosine is above 0.85 become one
    consolidate   clusters of old episodes become a summary each; the newest of a cluster stay
    compress      long conversations become short (compress.py)
    sweep         what was superseded or pruned longer ago than the grace time goes for good

`plan` is pure: items, conversations, rules and the time in, a Change out. Nothing but `sweep` removes anything:
`agent-mem undo` takes the rest back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agent_plugins.memory import clusters, compress, score, vectors
from agent_plugins.memory.items import OF_A_SESSION, Item
from agent_plugins.memory.keep import Change, id_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from agent_plugins.memory.compress import Write
    from agent_plugins.memory.items import Rules

POLICIES = ("decay", "merge", "consolidate", "compress", "sweep")
MERGED = ("long", "semantic")
CONSOLIDATED = ("episodic",)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What upkeep is to do: policies in their order, one kind or all (""), at what time, and who writes summaries."""

    now: float
    policies: tuple[str, ...] = POLICIES
    kind: str = ""
    write: Write = compress.extracted

    def kinds(self, usual: Sequence[str]) -> Sequence[str]:
        """Return the kinds a policy works on: the one that was named, else its usual ones."""
        return (self.kind,) if self.kind else usual


@dataclass(slots=True)
class _Work:
    """Items as the policies find them. `conversations`: turns by session; those of the event log have no row of their own."""

    live: dict[str, Item]
    conversations: Mapping[str, Sequence[Item]]
    ended: dict[str, Item] = field(default_factory=dict)
    made: dict[str, Item] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def end(self, item: Item, reason: str, now: float, by: str = "") -> None:
        if item.id in self.made:
            del self.made[item.id]
        elif item.id in self.live:
            self.ended[item.id] = replace(item, ended=now, reason=reason, superseded_by=by)
        self.live.pop(item.id, None)
        self.counts[reason] = self.counts.get(reason, 0) + 1

    def make(self, item: Item, reason: str) -> None:
        self.made[item.id] = self.live[item.id] = item
        self.counts[f"{reason} into"] = self.counts.get(f"{reason} into", 0) + 1

    def groups(self, kinds: Sequence[str]) -> Iterator[list[Item]]:
        """Yield the live items by kind and owner, oldest first."""
        found: dict[tuple[str, str], list[Item]] = {}
        for item in sorted(self.live.values(), key=lambda item: (item.kind, item.namespace, item.created, item.id)):
            if item.kind in kinds:
                found.setdefault((item.kind, item.namespace), []).append(item)
        yield from found.values()


@dataclass(frozen=True, slots=True)
class Plan:
    """A change, and what to say of it: the items that stay (with what is left of their importance), and counts by policy."""

    change: Change
    kept: tuple[tuple[Item, float], ...]
    counts: Mapping[str, int]


def plan(items: Sequence[Item], conversations: Mapping[str, Sequence[Item]], rules: Rules, wanted: Wanted) -> Plan:
    """Return what upkeep would do about these items (live and ended ones)."""
    work = _Work({item.id: item for item in items if not item.ended}, conversations)
    gone: tuple[Item, ...] = ()
    for name in (policy for policy in POLICIES if policy in wanted.policies):
        if name == "sweep":
            gone = _swept(items, rules, wanted)
        else:
            _DO[name](work, rules, wanted)
    kept = tuple((item, rules.importance(item, wanted.now)) for item in work.live.values() if item.id not in work.made)
    if wanted.kind:
        kept = tuple(pair for pair in kept if pair[0].kind == wanted.kind)
    change = Change("upkeep", tuple(work.ended.values()), tuple(work.made.values()), gone)
    return Plan(change, kept, {**work.counts, "sweep": len(gone)})


def _decay(work: _Work, rules: Rules, wanted: Wanted) -> None:
    for item in list(work.live.values()):
        rule = rules.kinds[item.kind]
        named = not wanted.kind or wanted.kind == item.kind
        if named and rule.decay != "none" and rule.importance(item, wanted.now) < rule.min_importance:
            work.end(item, "decay", wanted.now)


def _merge(work: _Work, rules: Rules, wanted: Wanted) -> None:
    for group in work.groups([kind for kind in wanted.kinds(MERGED) if kind not in {*OF_A_SESSION, "kv"}]):
        for alike in _alike(group, rules, wanted.now):
            made = _merged(alike, rules, wanted.now)
            for item in alike:
                work.end(item, "merge", wanted.now, made.id)
            work.make(made, "merge")


def _alike(group: Sequence[Item], rules: Rules, now: float) -> Iterator[list[Item]]:
    """Yield the groups to be merged: the most important item left, and all others whose cosine with it is above the limit."""
    corpus = vectors.Corpus([vectors.words(item.text) for item in group])
    left = dict.fromkeys(
        sorted(range(len(group)), key=lambda at: (-rules.importance(group[at], now), group[at].created, group[at].id))
    )
    while left:
        first = next(iter(left))
        near = {at for at in corpus.alike(first, rules.merge_cosine) if group[at].key == group[first].key}
        found = [at for at in sorted(near | {first}) if at in left]
        for at in found:
            del left[at]
        if len(found) > 1:
            yield [group[at] for at in found]


def _merged(alike: Sequence[Item], rules: Rules, now: float) -> Item:
    """Return what items that say the same become: all that any of them says, as important as the most important of them."""
    first = max(alike, key=lambda item: rules.importance(item, now))
    text = _together([item.text for item in alike])
    tags = tuple(dict.fromkeys(tag for item in alike for tag in item.tags))
    ids = tuple(sorted(item.id for item in alike))
    return replace(
        first, id=id_of("merge", *ids), text=text, tags=tags, tokens=score.tokens(text), supersedes=ids, run="", embedding={},
        accesses=sum(item.accesses for item in alike), accessed=max(item.accessed for item in alike),
        trust=compress.least_trust(alike), private=any(item.private for item in alike),
    )  # fmt: skip


def _together(texts: Sequence[str]) -> str:
    """Return the sentences of all texts, without those that hold no word which was not said already."""
    from agent_plugins.extract import sentences

    kept: list[str] = []
    known: set[str] = set()
    for text in texts:
        for sentence in sentences(text) or [text]:
            words = set(vectors.words(sentence))
            if not kept or words - known:
                kept.append(sentence)
                known |= words
    return " ".join(kept)


def _consolidate(work: _Work, rules: Rules, wanted: Wanted) -> None:
    how = rules.consolidation
    covered = {id_ for item in work.live.values() if item.kind == "summary" for id_ in item.supersedes}
    for group in work.groups([kind for kind in wanted.kinds(CONSOLIDATED) if kind not in {*OF_A_SESSION, "kv"}]):
        old = [item for item in group if wanted.now - item.created >= how.max_age_secs and item.id not in covered]
        corpus = vectors.Corpus([vectors.words(item.text) for item in old])
        # Members that are as near to their centre as the threshold says are, to each other, about its square.
        alike = how.similarity_threshold**2
        for cluster in clusters.clusters(corpus.vectors, how.k_clusters, how.kmeans_iterations, alike):
            near = [at for at in cluster.members if vectors.cosine(corpus.vectors[at], cluster.centre) >= how.similarity_threshold]
            if len(near) >= how.min_cluster_size:
                _summarise(work, [old[at] for at in near], how.keep_recent_per_cluster, wanted)


def _summarise(work: _Work, members: list[Item], keep: int, wanted: Wanted) -> None:
    """Put a summary of all in the place of all but the newest."""
    older = members[: len(members) - keep]
    if not older:
        return
    made = compress.summary_of(members, "summary", wanted.now, wanted.write)
    for item in older:
        work.end(item, "consolidate", wanted.now, made.id)
    work.make(made, "consolidate")


def _compress(work: _Work, rules: Rules, wanted: Wanted) -> None:
    if wanted.kind not in {"", "buffer"}:
        return
    for turns in conversations(work.live.values(), work.conversations).values():
        made = shortened(turns, rules, wanted.now, wanted.write)
        work.counts["tokens saved"] = work.counts.get("tokens saved", 0) + made.tokens_saved
        by = {id_: episode.id for episode in made.episodes for id_ in episode.supersedes}
        kept = {turn.id for turn in made.kept}
        for turn in turns:
            if turn.id not in kept:
                work.end(turn, "compress", wanted.now, by.get(turn.id, ""))
        for episode in made.episodes:
            work.make(episode, "compress")


def shortened(turns: Sequence[Item], rules: Rules, now: float, write: Write = compress.extracted) -> compress.Compressed:
    """Return a conversation as compression leaves it; the importance of its turns is reckoned anew.

    What an episode `supersedes` is what is gone for it: not what was put back, but what was left out as a repetition.
    """
    how = rules.compression
    scored = [replace(turn, importance=rules.turns.of(turn.text, now - turn.created)) for turn in turns]
    made = (compress.by_tokens if how.trigger == "tokens" else compress.by_turns)(scored, how, now, write)
    kept = {turn.id for turn in made.kept}
    left = [turn.id for turn in turns if turn.id not in kept and all(turn.id not in each.supersedes for each in made.episodes)]
    episodes = [
        replace(each, kind="episode", supersedes=(*(id_ for id_ in each.supersedes if id_ not in kept), *(left if last else ())))
        for each, last in zip(made.episodes, [*[False] * (len(made.episodes) - 1), True], strict=False)
    ]
    return replace(made, episodes=tuple(episodes))


def conversations(live: Iterable[Item], logged: Mapping[str, Sequence[Item]]) -> dict[str, list[Item]]:
    """Return the turns of each session that no episode covers yet, by time: those of the event log, and those put by hand."""
    items = list(live)
    covered = {id_ for item in items if item.kind == "episode" for id_ in item.supersedes}
    found: dict[str, list[Item]] = {name: list(turns) for name, turns in logged.items()}
    for item in items:
        if item.kind == "buffer":
            found.setdefault(item.namespace, []).append(item)
    return {
        name: sorted((turn for turn in turns if turn.id not in covered), key=lambda turn: turn.created)
        for name, turns in found.items()
    }


def _swept(items: Sequence[Item], rules: Rules, wanted: Wanted) -> tuple[Item, ...]:
    before = wanted.now - rules.grace_days * score.DAY
    return tuple(item for item in items if item.ended and item.ended < before and wanted.kind in {"", item.kind})


_DO = {"decay": _decay, "merge": _merge, "consolidate": _consolidate, "compress": _compress}
