"""novelty - how new a text is beside others: words, synonyms and numbers compared; no model, and nothing semantic about it.

    judged = judge([("a", "The price is $500,000."), ("b", "It costs $500K")], Lexicon({"price": ["cost", "costs"]}))
    judged[1].score          # 0.0 for a copy, 1.0 for a text that shares nothing with any earlier one

Formulas (all lexical; every one can be counted by hand):

    features(text)   its words, case folded, without the commonest function words ("not" and "no" stay), each replaced by the head
                     of its synonyms; and its numbers, by value ($500,000 = $500K = 500000; a percentage is another kind)
    similarity(a,b)  shared / (all of a + all of b - shared), features counted as often as they occur (weighted Jaccard, Ruzicka
                     1958); two numbers are shared if they differ by at most `tolerance` of the larger one
    score            1 - similarity to the most similar earlier answer
    diversity        1 - mean similarity of all pairs            agreement = 1 - diversity
    topics           the features of highest tf * (1 + ln(answers / answers with it)), numbers included, at most `top`

Where answers carry embeddings, `judge` may be given their cosine in place of the words; it is labelled as such.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# what says nothing of the subject; negations, modals and quantities do
_STOP = frozenset(
    """a an the this that these those it its is are was were be been being am of in on at to for with by from into as and or but
    then than so i we you he she they me us him them my our your his her their there here which who what when where how do does did
    has have had will would""".split()  # noqa: SIM905 - a list of words
)
_TOKEN = re.compile(
    r"""(?P<currency>[$€£¥]\ ?|(?:usd|eur|gbp)\ ?(?=\d))?
        (?P<number>(?<![\w.])\d{1,3}(?:[,'_]\d{3})+(?!\d)(?:\.\d+)?|(?<!\w)\d+(?:\.\d+)?)
        (?:\ ?(?P<unit>thousand|million|billion|trillion|(?<=\d)(?:mio|mn|bn|[kmbt]))(?!\w)|\ ?(?P<percent>%|percent\b))?
      |(?P<word>[^\W\d_](?:[\w'\u2019-]|\.(?=\d))*)""",
    re.VERBOSE,
)
_UNITS = {
    "k": 1e3, "thousand": 1e3, "m": 1e6, "mn": 1e6, "mio": 1e6, "million": 1e6, "b": 1e9, "bn": 1e9, "billion": 1e9, "t": 1e12,
    "trillion": 1e12,
}  # fmt: skip
_LONGEST = 200_000  # characters of one text that are compared
_PAIRS = 20_000  # pairs that are compared for a mean; beyond, each text with its next neighbours


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a text: its value, whether it is a percentage, and how it was written."""

    value: float
    percent: bool = False
    written: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Features:
    """What a text is compared by: words with their counts, numbers in order of value, how many there are of both."""

    words: Counter[str]
    numbers: tuple[Number, ...]
    total: int
    text: str = ""


class Lexicon:
    """Which words mean the same, how close numbers must be, how many topics a text has."""

    def __init__(self, synonyms: Mapping[str, Sequence[str]] | None = None, tolerance: float = 0.01, top: int = 8) -> None:
        """Keep the rules.

        Args:
            synonyms: head word to the words that count as it; matched case folded.
            tolerance: relative difference up to which two numbers are the same (0.01 is 1 %).
            top: the most topics of one text.
        """
        given = synonyms or {}
        self.heads = {word.casefold(): head.casefold() for head, words in given.items() for word in (head, *words)}
        self.tolerance, self.top = tolerance, top


PLAIN = Lexicon()


@dataclass(frozen=True, slots=True)
class Judged:
    """What is new in one answer.

    `most_similar` is (agent, similarity) of the nearest kept earlier answer, `nearest` its index; None if there is none.
    """

    agent: str
    text: str
    score: float
    is_novel: bool
    new_topics: tuple[str, ...]
    redundant_topics: tuple[str, ...]
    uncovered: tuple[str, ...]
    coverage: float
    most_similar: tuple[str, float] | None
    nearest: int | None = None


def features(text: str, lexicon: Lexicon = PLAIN) -> Features:
    """Return what a text is compared by. Only the first 200,000 characters count."""
    words: Counter[str] = Counter()
    numbers: list[Number] = []
    folded = unicodedata.normalize("NFKC", text[:_LONGEST]).casefold()
    for found in _TOKEN.finditer(folded):
        if found["number"] is not None:
            numbers.append(_number(found))
            continue
        word = found["word"].replace("\u2019", "'").strip("'-")
        head = lexicon.heads.get(word) or lexicon.heads.get(word.removesuffix("'s")) or word.removesuffix("'s")
        if head and (head not in _STOP or word in lexicon.heads):
            words[head] += 1
    numbers.sort(key=lambda number: (number.percent, number.value))
    plain = " ".join(folded.split()) if not words and not numbers else ""
    return Features(words, tuple(numbers), words.total() + len(numbers), plain)


def _number(found: re.Match[str]) -> Number:
    value = float(re.sub(r"[,'_]", "", found["number"])[:40]) * _UNITS.get(found["unit"] or "", 1.0)
    return Number(value, found["percent"] is not None, " ".join(found[0].split()))


def similarity(one: Features, other: Features, tolerance: float = PLAIN.tolerance) -> float:
    """Return how much two texts share: 1.0 for the same features, 0.0 for none in common."""
    if not one.total or not other.total:
        return 1.0 if not one.total and not other.total and one.text == other.text else 0.0
    small, large = (one.words, other.words) if len(one.words) <= len(other.words) else (other.words, one.words)
    shared = sum(min(count, large[word]) for word, count in small.items() if word in large)
    shared += _shared_numbers(one.numbers, other.numbers, tolerance)
    return shared / (one.total + other.total - shared)


def _shared_numbers(one: Sequence[Number], other: Sequence[Number], tolerance: float) -> int:
    """Return how many numbers pair up: both in order, so the smallest unpaired ones meet first."""
    shared = left = right = 0
    while left < len(one) and right < len(other):
        a, b = one[left], other[right]
        if same_number(a, b, tolerance):
            shared, left, right = shared + 1, left + 1, right + 1
        elif (a.percent, a.value) < (b.percent, b.value):
            left += 1
        else:
            right += 1
    return shared


def same_number(one: Number, other: Number, tolerance: float) -> bool:
    """Return whether two numbers are of one kind and differ by at most `tolerance` of the larger one."""
    return one.percent == other.percent and abs(one.value - other.value) <= tolerance * max(abs(one.value), abs(other.value))


def mean_similarity(found: Sequence[Any], alike: Callable[[Any, Any], float]) -> float | None:
    """Return the mean similarity of all pairs; None for fewer than two.

    Up to 200 texts every pair counts. Of more, each is compared with its next neighbours in a ring (20,000 pairs in all): an
    estimate, and what it costs for each text stays flat.
    """
    total = len(found)
    if total < 2:
        return None
    if total * (total - 1) // 2 <= _PAIRS:
        pairs = [(a, b) for a in range(total) for b in range(a + 1, total)]
    else:
        pairs = [(a, (a + step) % total) for a in range(total) for step in range(1, max(2, _PAIRS // total + 1))]
    return sum(alike(found[a], found[b]) for a, b in pairs) / len(pairs)


def diversity(texts: Sequence[str], lexicon: Lexicon = PLAIN) -> float | None:
    """Return 1 - the mean similarity of all pairs; None for fewer than two texts."""
    found = [features(text, lexicon) for text in texts]
    mean = mean_similarity(found, lambda one, other: similarity(one, other, lexicon.tolerance))
    return None if mean is None else round(1 - mean, 4)


def agreement(texts: Sequence[str]) -> float | None:
    """Return the mean similarity of all pairs, 0.0 to 1.0; None for fewer than two texts."""
    apart = diversity(texts)
    return None if apart is None else round(1 - apart, 4)


def topics(found: Sequence[Features], lexicon: Lexicon = PLAIN) -> list[tuple[str, ...]]:
    """Return the topics of each text: the features of highest tf * (1 + ln(texts / texts with it)), ties in alphabetical order."""
    counts = [Counter({**each.words, **_written(each)}) for each in found]
    spread: Counter[str] = Counter(word for each in counts for word in each)
    total = len(found)
    chosen = []
    for each in counts:
        rated = [(-count * (1 + math.log(total / spread[word])), word) for word, count in each.items()]
        chosen.append(tuple(word for _, word in sorted(rated)[: lexicon.top]))
    return chosen


def _written(one: Features) -> Counter[str]:
    """Return the numbers as topics: by value to three digits, so that those within a small tolerance have one name."""
    rounded = [(float(f"{number.value:.3g}"), number.percent) for number in one.numbers]
    return Counter(f"{int(value) if value == int(value) else value}{'%' if percent else ''}" for value, percent in rounded)


def judge(
    answers: Sequence[tuple[str, str]],
    lexicon: Lexicon = PLAIN,
    least: float = 0.2,
    vectors: Sequence[Sequence[float]] | None = None,
) -> list[Judged]:
    """Return what is new in each answer beside the *kept* earlier ones; the first is always new.

    Args:
        answers: (agent, text) in order.
        lexicon: synonyms, tolerance, number of topics.
        least: the least score of what counts as novel.
        vectors: embeddings, one for each answer, to be compared by cosine in place of the words.
    """
    found = [features(text, lexicon) for _, text in answers]
    subjects = topics(found, lexicon)
    everything = list(dict.fromkeys(topic for each in subjects for topic in each))
    seen: dict[str, None] = {}
    kept: list[int] = []
    judged: list[Judged] = []
    for index, (agent, text) in enumerate(answers):
        nearest, alike = _nearest(index, kept, found, lexicon.tolerance, vectors)
        score = round(1 - alike, 4)
        novel = nearest is None or score >= least
        mine = subjects[index]
        new = tuple(topic for topic in mine if topic not in seen)
        judged.append(
            Judged(
                agent,
                text,
                score,
                novel,
                new_topics=new,
                redundant_topics=tuple(topic for topic in mine if topic in seen),
                uncovered=tuple(topic for topic in everything if topic not in mine)[: lexicon.top],
                coverage=round(len(mine) / len(everything), 4) if everything else 0.0,
                most_similar=None if nearest is None else (answers[nearest][0], round(alike, 4)),
                nearest=nearest,
            )
        )
        if novel:
            kept.append(index)
        seen.update(dict.fromkeys(mine))
    return judged


def _nearest(
    index: int, kept: Sequence[int], found: Sequence[Features], tolerance: float, vectors: Sequence[Sequence[float]] | None
) -> tuple[int | None, float]:
    best: tuple[int | None, float] = (None, 0.0)
    for earlier in kept:
        if vectors is not None:
            alike = cosine(vectors[index], vectors[earlier])
        else:
            alike = similarity(found[index], found[earlier], tolerance)
        if best[0] is None or alike > best[1]:
            best = (earlier, alike)
    return best


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the cosine of two vectors, cut to 0.0 … 1.0. Vectors of different lengths or of length 0 have nothing in common."""
    length = math.hypot(*one) * math.hypot(*other)
    if len(one) != len(other) or not length:
        return 0.0
    value = (
        math.sumprod(one, other) / length
        if hasattr(math, "sumprod")
        else sum(a * b for a, b in zip(one, other, strict=True)) / length
    )
    return min(1.0, max(0.0, value))
