"""vectors - texts as sparse TF-IDF vectors of length one: words, weights, cosine, and the search of all by one.

    corpus = Corpus([words("Ownership prevents data races"), words("Tea is hot")])
    corpus.search(words("data ownership"))        array of cosines, one for each text
    corpus.alike(0, 0.85)                         the texts that are more alike than that

IDF = log(1 + N/df); a word of the question that no text has counts as if one had it, so that it lowers the likeness. Nothing is
learned and nothing is stored: vectors are made from the texts as they are when somebody asks, so none can be stale. They know
words, not meanings: "memory safety" and "ownership" have nothing in common here.
"""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

from agent_plugins.extract import _COMMON

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Vector = Mapping[str, float]

STOP_WORDS = _COMMON  # the one list of words that say nothing
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_IDEOGRAPHS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]")


def words(text: str) -> list[str]:
    """Return the words that count: case folded, without stop words; scripts without spaces give pairs of letters."""
    found: list[str] = []
    for word in _WORD.findall(text.casefold()):
        if not word.isascii() and _IDEOGRAPHS.search(word):
            found += [word[at : at + 2] for at in range(max(1, len(word) - 1))]
        elif word not in STOP_WORDS:
            found.append(word)
    return found


def idf(count: int, having: int) -> float:
    """Return log(1 + N/df) for a word that `having` of `count` texts have (at least one is assumed to)."""
    return math.log(1.0 + count / max(1, having))


def unit(weights: Mapping[str, float]) -> dict[str, float]:
    """Return a vector of length one; an empty one if there is nothing in it."""
    size = math.sqrt(sum(weight * weight for weight in weights.values()))
    return {word: weight / size for word, weight in weights.items()} if size else {}


def cosine(one: Vector, other: Vector) -> float:
    """Return the dot product of two vectors of length one."""
    if len(other) < len(one):
        one, other = other, one
    return sum(weight * other.get(word, 0.0) for word, weight in one.items())


class Corpus:
    """Texts by their words, weighed against each other. A vector is made when it is asked for: a search needs few of them."""

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        """Count which words how many texts have."""
        self.texts = texts
        self.having = Counter(chain.from_iterable(map(set, texts)))
        self._made: dict[int, dict[str, float]] = {}
        self._postings: dict[str, array[int]] | None = None

    def vector(self, text: Sequence[str]) -> dict[str, float]:
        """Return the vector of length one of any text, with this corpus' weights."""
        return unit({word: times * idf(len(self.texts), self.having.get(word, 0)) for word, times in Counter(text).items()})

    def at(self, number: int) -> dict[str, float]:
        """Return the vector of the text of that number."""
        found = self._made.get(number)
        if found is None:
            found = self._made[number] = self.vector(self.texts[number])
        return found

    @property
    def vectors(self) -> list[dict[str, float]]:
        """The vectors of all texts."""
        return [self.at(number) for number in range(len(self.texts))]

    def search(self, question: Sequence[str]) -> array[float]:
        """Return the cosine of every text with the question, by looking at all of them."""
        asked, wanted = self.vector(question), frozenset(question)
        return array("d", [0.0 if wanted.isdisjoint(text) else cosine(asked, self.at(at)) for at, text in enumerate(self.texts)])

    def alike(self, number: int, limit: float) -> list[int]:
        """Return the texts whose cosine with that text is above the limit, itself included if it has any word.

        Not all need be looked at. Without its rarest words a vector is shorter than the limit, so whatever is more alike than that
        shares one of these (prefix filter: Bayardo, Ma and Srikant, WWW 2007).
        """
        vector = self.at(number)
        rest, found = 1.0, {number} if vector else set()
        for word in sorted(vector, key=lambda word: (self.having[word], word)):
            found.update(self.postings[word])
            rest -= vector[word] ** 2
            if rest < limit * limit - 1e-9:
                break
        return sorted(other for other in found if other == number or cosine(vector, self.at(other)) > limit)

    @property
    def postings(self) -> dict[str, array[int]]:
        """The numbers of the texts that have a word."""
        if self._postings is None:
            self._postings = {}
            for number, text in enumerate(self.texts):
                for word in dict.fromkeys(text):
                    self._postings.setdefault(word, array("L")).append(number)
        return self._postings
