"""score - the formulas of memory: pure functions of numbers and words, each checked by hand in a table of tests.

    forgetting(0.9, age=30 * DAY, stability=30 * DAY)     0.331: importance · exp(-age / stability)  (Ebbinghaus' curve)
    half_life(0.8, age=48 * HOUR, period=24 * HOUR)       0.2:   importance · 2^(-age / period)
    keyword_density("pay the rent", ["rent"])             0.333: min(1, hits / words)
    entity_density("Ada met Bob today")                   0.5:   min(1, capitalised words / words)
    recency(age=24 * HOUR, per_hour=0.01)                 0.787: exp(-per_hour · age in hours)
    composite([(0.8, 2.0), (0.2, 1.0)])                   0.6:   Σ weight · value / Σ weight
    jaccard({"a", "b"}, {"b", "c"})                       0.333: shared / all

Times are seconds. An age below nothing (clocks differ) counts as nothing.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

HOUR = 3600.0
DAY = 24 * HOUR
_PLAIN = re.compile(r"\w+(?:['\u2019-]\w+)*")


def plain_words(text: str) -> list[str]:
    """Return the words of a text as they stand."""
    return _PLAIN.findall(text)


def forgetting(importance: float, age: float, stability: float) -> float:
    """Return importance · exp(-age / stability)."""
    return importance * math.exp(-max(0.0, age) / stability)


def half_life(importance: float, age: float, period: float) -> float:
    """Return importance · 2^(-age / period)."""
    return importance * math.exp2(-max(0.0, age) / period)


def keyword_density(text: str, keywords: Collection[str]) -> float:
    """Return min(1, hits / words): the share of words that are keywords, whatever their case."""
    wanted = {word.casefold() for word in keywords}
    found = plain_words(text)
    hits = sum(word.casefold() in wanted for word in found)
    return min(1.0, hits / len(found)) if found else 0.0


def entity_density(text: str) -> float:
    """Return min(1, capitalised words / words)."""
    found = plain_words(text)
    return min(1.0, sum(word[0].isupper() for word in found) / len(found)) if found else 0.0


def recency(age: float, per_hour: float) -> float:
    """Return exp(-per_hour · age in hours)."""
    return math.exp(-per_hour * max(0.0, age) / HOUR)


def composite(parts: Iterable[tuple[float, float]]) -> float:
    """Return the weighted mean of (value, weight) pairs; 0 where nothing has weight."""
    pairs = list(parts)
    total = sum(weight for _, weight in pairs)
    return sum(value * weight for value, weight in pairs) / total if total else 0.0


def frequency(uses: int, most: int) -> float:
    """Return log(1 + uses) / log(1 + most): how often something was used, from 0 to 1 (the most used)."""
    return math.log1p(uses) / math.log1p(most) if most > 0 else 0.0


def jaccard(one: Collection[str], other: Collection[str]) -> float:
    """Return the share of words that two sets have in common; two empty ones are the same."""
    first, second = set(one), set(other)
    together = first | second
    return len(first & second) / len(together) if together else 1.0


def tokens(text: str) -> int:
    """Return about how many tokens a text has: bytes / 4, rounded up. The true number is the provider's business."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // 4)


def hybrid(terms: Sequence[float], weights: tuple[float, float]) -> float:
    """Return similarity + importance + recency_weight · recency + frequency_weight · frequency.

    `terms`: those four, each from 0 to 1; `weights`: the last two's. Only the weights were given; that it is a sum is our choice.
    """
    similarity, importance, recent, frequent = terms
    return similarity + importance + weights[0] * recent + weights[1] * frequent
