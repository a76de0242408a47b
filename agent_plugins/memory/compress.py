"""compress - long conversations made short: the newest turns stay as they were said, older ones become summaries.

    by_turns(turns, compression, now, write)     above 50 turns: strategies, one after another (the turn trigger)
    by_tokens(turns, compression, write)         above 4096 tokens: old turns of little importance become one summary

A turn is an Item of kind `buffer` (role, text, importance, tokens, tags), in order of time. `write` makes a summary of texts: a
model, or `extracted`, which takes the most central sentences as they stand. Strategies:

    TemporalCompression   keeps the newest `recency_keep` turns; each `window` of older ones becomes an episode
    SemanticDedup         of kept turns whose sets of words are alike (Jaccard at least `dedup_threshold`) the newest stays
    ImportanceFilter      puts back what is tagged `important_tag` or has an importance of at least `important_score`
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent_plugins.memory import score
from agent_plugins.memory.items import TRUSTED, UNTRUSTED, Item
from agent_plugins.memory.keep import id_of
from agent_plugins.memory.vectors import STOP_WORDS

if TYPE_CHECKING:
    from agent_plugins.memory.items import Compression

Write = Callable[[Sequence[str]], str]
SENTENCES = 3
_ENTITIES = 12


@dataclass(frozen=True, slots=True)
class Compressed:
    """What became of turns: those that stay, the episodes (or the summary) that stand for the others, what that saves."""

    kept: tuple[Item, ...]
    episodes: tuple[Item, ...] = ()
    triggered: bool = False
    tokens_saved: int = 0


def extracted(texts: Sequence[str]) -> str:
    """Return the most central sentences of the texts, as they stand; the same every time."""
    from agent_plugins.extract import summary

    found = summary("\n\n".join(texts), SENTENCES)
    return " ".join(found) or " ".join(" ".join(texts).split())[:400]


def by_turns(turns: Sequence[Item], how: Compression, now: float, write: Write = extracted) -> Compressed:
    """Return the turns after all strategies, in their order; untouched where there are not more than `max_turns`."""
    if len(turns) <= how.max_turns:
        return Compressed(tuple(turns))
    made = Compressed(tuple(turns), triggered=True)
    for name in how.strategies:
        made = _STRATEGIES[name](made, turns, how, now, write)
    return _counted(made, turns)


def by_tokens(turns: Sequence[Item], how: Compression, now: float, write: Write = extracted) -> Compressed:
    """Return the turns without the old ones of little importance, and one summary of those.

    Nothing is done within the budget of `max_tokens`. The newest `keep_recent` turns stay, and any whose importance is at least
    `min_importance`.
    """
    if sum(turn.tokens for turn in turns) <= how.max_tokens:
        return Compressed(tuple(turns))
    newest = {turn.id for turn in turns[-how.keep_recent :]}
    left = [turn for turn in turns if turn.id not in newest and turn.importance < how.min_importance]
    if not left:
        return Compressed(tuple(turns), triggered=True)
    gone = {turn.id for turn in left}
    made = summary_of(left, "summary", now, write)
    return _counted(Compressed(tuple(turn for turn in turns if turn.id not in gone), (made,), triggered=True), turns)


def _counted(made: Compressed, turns: Sequence[Item]) -> Compressed:
    before, after = (sum(item.tokens for item in items) for items in (turns, (*made.kept, *made.episodes)))
    return replace(made, tokens_saved=before - after)


def _temporal(made: Compressed, _turns: Sequence[Item], how: Compression, now: float, write: Write) -> Compressed:
    older, newest = made.kept[: -how.recency_keep], made.kept[-how.recency_keep :]
    windows = [older[at : at + how.window] for at in range(0, len(older), how.window)]
    episodes = tuple(summary_of(window, "episode", now, write) for window in windows)
    return replace(made, kept=newest, episodes=(*made.episodes, *episodes))


def _dedup(made: Compressed, _turns: Sequence[Item], how: Compression, _now: float, _write: Write) -> Compressed:
    kept: list[tuple[Item, set[str]]] = []
    for turn in reversed(made.kept):
        said = {word.casefold() for word in score.plain_words(turn.text)}
        if all(turn.role != other.role or score.jaccard(said, known) < how.dedup_threshold for other, known in kept):
            kept.append((turn, said))
    return replace(made, kept=tuple(turn for turn, _ in reversed(kept)))


def _important(made: Compressed, turns: Sequence[Item], how: Compression, _now: float, _write: Write) -> Compressed:
    kept = {turn.id for turn in made.kept}
    back = {turn.id for turn in turns if how.important_tag in turn.tags or turn.importance >= how.important_score}
    return replace(made, kept=tuple(turn for turn in turns if turn.id in kept | back))


_STRATEGIES = {"TemporalCompression": _temporal, "SemanticDedup": _dedup, "ImportanceFilter": _important}


def summary_of(members: Sequence[Item], kind: str, now: float, write: Write) -> Item:
    """Return the item that stands for others: their summary, their span of time, the tags of at least half of them.

    It is as important as the most important, and as little to be trusted, and as private, as any of them.
    """
    text = write([f"{item.role}: {item.text}" if item.role else item.whole for item in members])
    tags = Counter(tag for item in members for tag in set(item.tags))
    common = tuple(sorted(tag for tag, count in tags.items() if 2 * count >= len(members)))
    ids = tuple(item.id for item in members)
    details = {
        "covers_turns": list(ids), "original_count": len(members), "compressed_to": 1, "common_tags": list(common),
        "time_range": [min(item.created for item in members), max(item.created for item in members)],
        "key_facts": _facts(text), "entities": entities([item.text for item in members]),
    }  # fmt: skip
    return Item(
        id_of(kind, *ids), kind, text, max(item.importance for item in members), common, namespace=members[0].namespace,
        created=now, tokens=score.tokens(text), trust=least_trust(members), private=any(item.private for item in members),
        supersedes=ids, details=details,
    )  # fmt: skip


def least_trust(members: Sequence[Item]) -> str:
    """Return untrusted if any of the items is."""
    return TRUSTED if all(item.trust == TRUSTED for item in members) else UNTRUSTED


def _facts(text: str) -> list[str]:
    from agent_plugins.extract import sentences

    return sentences(text)[:SENTENCES]


def entities(texts: Sequence[str]) -> list[str]:
    """Return the names in texts, the most frequent first: capitalised words that do not only begin a sentence."""
    found: Counter[str] = Counter()
    for text in texts:
        for before, word in zip(["."] + (said := text.split()), said, strict=False):
            plain = word.strip(".,;:!?()[]{}\"'\u201c\u201d\u2018\u2019")
            if plain[:1].isupper() and before[-1:] not in ".!?:" and plain.casefold() not in STOP_WORDS and len(plain) > 1:
                found[plain] += 1
    return [name for name, _ in sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))][:_ENTITIES]
