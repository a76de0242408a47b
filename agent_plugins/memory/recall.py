"""recall - the best items for a question, and the score that says so.

    recall(items, "memory safety", rules, now, count=2)      [Hit(item, score, similarity, …), …] best first

score = similarity + importance + recency_weight · recency + frequency_weight · frequency, where

    similarity   vector: cosine of TF-IDF vectors (with --embed a model's, see meaning.py). text: Σ idf of the question's words
                 that the item has / Σ idf of all of them, as SQLite FTS5 finds them (words cut to their stems, accents ignored,
                 "phrases in quotes"). hybrid: the larger one
    importance   what decay has left of it
    recency      exp(-recency_per_hour · hours since it was made or last recalled)
    frequency    log(1 + times recalled) / log(1 + most times any item was)

The index is made for the question, in memory: nothing is kept that could be stale, or lie beside an encrypted store in the clear.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agent_plugins.memory import score, vectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent_plugins.memory.items import Item, Rules

MOST_TERMS = 64
_PHRASE = re.compile(r'"([^"\n]{1,200})"')


@dataclass(frozen=True, slots=True)
class Hit:
    """An item that was found, and the terms of its score."""

    item: Item
    score: float
    similarity: float
    importance: float
    recency: float
    frequency: float


def recall(
    items: Sequence[Item], question: str, rules: Rules, now: float, match: str = "hybrid",
    likeness: Mapping[str, float] = MappingProxyType({}),
) -> list[Hit]:  # fmt: skip
    """Return all items with their scores, best first; equal ones newest first.

    Without a question (nothing but stop words in it) similarity is 0 and the rest of the score decides. `likeness`: by id, how near
    items are by the vectors of a model (meaning.py); it takes the place of the cosine of words.
    """
    known = [likeness.get(item.id) for item in items]
    near = similarities([_searched(item) for item in items], question, match if rules.use_embeddings else "text", known)
    most = max((item.accesses for item in items), default=0)
    hits = [_hit(item, similar, rules, now, most) for item, similar in zip(items, near, strict=True)]
    return sorted(hits, key=lambda hit: (-hit.score, -hit.item.created, hit.item.id))


def _hit(item: Item, similar: float, rules: Rules, now: float, most: int) -> Hit:
    terms = (
        min(1.0, similar),
        rules.importance(item, now),
        score.recency(now - item.used, rules.recency_per_hour),
        score.frequency(item.accesses, most),
    )
    return Hit(item, score.hybrid(terms, (rules.recency_weight, rules.frequency_weight)), *terms)


def _searched(item: Item) -> str:
    return " ".join([item.key, item.text, *item.tags])


def limited(hits: Sequence[Hit], count: int, most_tokens: int | None) -> list[Hit]:
    """Return at most `count` hits of together at most `most_tokens`, in order; one that does not fit is passed over."""
    kept: list[Hit] = []
    left = most_tokens
    for hit in hits:
        if len(kept) == count:
            break
        size = score.tokens(hit.item.whole)
        if left is not None:
            if size > left:
                continue
            left -= size
        kept.append(hit)
    return kept


def similarities(texts: Sequence[str], question: str, match: str = "hybrid", known: Sequence[float | None] = ()) -> list[float]:
    """Return how much each text has to do with the question, from 0 to 1; `known`: what a model's vectors say of some."""
    asked = vectors.words(question)[:MOST_TERMS]
    by_text = _by_text(texts, question) if match != "vector" and asked and texts else [0.0] * len(texts)
    if match == "text":
        return by_text
    said = known or [None] * len(texts)
    corpus = vectors.Corpus([vectors.words(text) for text in texts]) if asked and None in said else None
    by_words = corpus.search(asked) if corpus is not None else [0.0] * len(texts)
    by_vector = [words if meant is None else meant for words, meant in zip(by_words, said, strict=True)]
    return [max(pair) for pair in zip(by_text, by_vector, strict=True)]


def _by_text(texts: Sequence[str], question: str) -> list[float]:
    """Return the share of the question that each text has, its words weighed by how rare they are."""
    terms = list(dict.fromkeys(_terms(question)))[:MOST_TERMS]
    found = [0.0] * len(texts)
    total = 0.0
    connection = _index(texts)
    try:
        for term in terms:
            rows = [row for (row,) in connection.execute("SELECT rowid FROM items WHERE items MATCH ?", (_quoted(term),))]
            weight = vectors.idf(len(texts), len(rows))
            total += weight
            for row in rows:
                found[row] += weight
    finally:
        connection.close()
    return [each / total if total else 0.0 for each in found]


def _terms(question: str) -> Iterator[str]:
    for phrase in _PHRASE.findall(question):
        if vectors.words(phrase):
            yield phrase
    yield from vectors.words(_PHRASE.sub(" ", question))


def _quoted(term: str) -> str:
    """Nothing in a question is syntax: every term is a string of FTS5."""
    return '"' + term.replace('"', '""').replace("\0", " ") + '"'


def _index(texts: Sequence[str]) -> Any:
    from agent_core import database

    connection = database.driver().connect(":memory:", isolation_level=None)
    connection.execute("CREATE VIRTUAL TABLE items USING fts5(text, tokenize = 'porter unicode61 remove_diacritics 2')")
    rows = ((number, _split(text)) for number, text in enumerate(texts))
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO items (rowid, text) VALUES (?, ?)", rows)
    connection.execute("COMMIT")
    return connection


def _split(text: str) -> str:
    """Return the text with pairs of letters for scripts without spaces, which FTS5 would take as one long word."""
    plain = text.encode("utf-8", "replace").decode()
    return plain if plain.isascii() else f"{plain} {' '.join(word for word in vectors.words(plain) if not word.isascii())}"
