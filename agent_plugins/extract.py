r"""extract - the sentences of a text that stand for the rest of it. No model, no IO, the same answer every time.

    summary(text, 3)            ["The sentence that …", …]        at most three, in the text's own order
    relevant(text, "who paid?") the ones that have to do with a question, best first
    sentences(text)             every sentence, list item and heading of a text, in order
    stands_in(quote, text)      whether somebody really wrote that

How sentences are weighed:

1.  A sentence is a vector of its words' tf·idf, of length one. Words are casefolded, lose a final s and are cut to five letters
    (a stemmer that needs no language); function words of English and words that stand in most sentences do not count.
2.  Sentences that resemble many others, which themselves do, matter: PageRank over cosine similarity (LexRank, Erkan and Radev,
    JAIR 22, 2004, with its continuous weights), damping 0.85. The similarity matrix is never built: S·p = W·(Wᵀ·p), so time and
    memory grow with the number of words, not with the square of the number of sentences.
3.  Earlier sentences count for more: weight · (1 + 1/(1 + index)). Headings, questions and fragments count for less.
4.  They are taken one by one; one that says what was said already is put back: weight · (1 - largest similarity to those taken)
    (maximal marginal relevance, Carbonell and Goldstein, SIGIR 1998).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Vector = Mapping[str, float]

DAMPING = 0.85
ROUNDS = 40
CLOSE = 1e-7
LONGEST = 1200  # characters of one sentence: what is longer is cut between words (tables, minified code)
STEM = 5
FEW = 4  # words below which a sentence is a fragment

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_IDEOGRAPHS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]")
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)")
_ITEM = re.compile(r"^[ \t]*(?:[-*+\u2022\u2013]|\d{1,3}[.)])[ \t]+(?=\S)")
_HEADING = re.compile(r"^[ \t]*#{1,6}[ \t]+")
_RULE = re.compile(r"^[ \t]*(?:[-=*_~#+|:][ \t]*){3,}$")
_END = re.compile(  # possessive: a page of dots must not be tried from every dot
    r"(?<![.!?\u2026])[.!?\u2026]++[\"'\u201d\u2019)\]]*+(?=\s++[\"'\u201c\u2018(\[`*_]*+[^\W_a-z])"
    r"|[\u3002\uff01\uff1f]++[\u300d\u300f\uff09\"]*+"
)
_LAST = re.compile(r"[^\s(\[\"'\u201c\u2018]+$")
_OMITTED = re.compile(r"\[?(?:\u2026|\.\.\.)\]?")
_SIGNS = {
    ord(sign): usual
    for signs, usual in (("\u2018\u2019\u201a", "'"), ("\u201c\u201d\u201e\u00ab\u00bb", '"'), ("\u2010\u2011\u2013\u2014", "-"))
    for sign in signs
}
_ABBREVIATED = frozenset(
    """mr mrs ms dr prof sr jr st vs etc e.g i.e cf al fig figs eq no nos vol pp p ch sec ed eds approx dept univ inc ltd co corp
    jan feb mar apr jun jul aug sep sept oct nov dec gen col sgt capt rev hon gov sen rep ave blvd rd u.s u.k u.n a.m p.m
    z.b bzw ca nr bd""".split()  # noqa: SIM905 - a list of words
)
_COMMON = frozenset(
    """a about above after again all also am an and any are as at be because been before being below between both but by can could
    did do does doing down during each few for from further had has have having he her here hers him his how i if in into is it
    its itself just me more most my no nor not now of off on once only or other our ours out over own same she should so some
    such than that the their theirs them then there these they this those through to too under until up very was we were what
    when where which while who whom why will with would you your yours may might must shall one two however""".split()  # noqa: SIM905
)


def summary(text: str, count: int = 3, about: str = "") -> list[str]:
    """Return the sentences that say most of what a text says, in the text's order; fewer where there are no more.

    Args:
        text: plain text or Markdown; code between fences is left out.
        count: how many at most; less than 1 is none.
        about: words that steer the choice: the sentence nearest to them weighs as much as the most central one, more if it is both.
    """
    found = sentences(text)
    if len(found) <= max(0, count):
        return found
    return [found[index] for index in sorted(best(found, count, about))]


def relevant(text: str, question: str, count: int = 3) -> list[str]:
    """Return the sentences that have most to do with a question, best first: at least half as near as the nearest, if any is."""
    found = sentences(text)
    nearness = _nearness(_vectors([_words(each) for each in found]), question)
    order = sorted((index for index, near in enumerate(nearness) if near >= 0.5), key=lambda index: (-nearness[index], index))
    return [found[index] for index in order[: max(0, count)]]


def best(found: Sequence[str], count: int, about: str = "") -> list[int]:
    """Return the indices of the sentences that matter most, the most important first."""
    if count < 1 or not found:
        return []
    vectors = _vectors([_words(each) for each in found])
    near = _nearness(vectors, about)
    central = [rank * _place(index) * _form(found[index]) for index, rank in enumerate(_ranks(vectors))]
    most = max(central) or 1.0
    weights = [weight / most + near[index] for index, weight in enumerate(central)]
    first = {each: index for index, each in reversed(list(enumerate(found)))}
    return _spread(vectors, {index: weights[index] for index in sorted(first.values())}, count)


def _nearness(vectors: Sequence[Vector], question: str) -> list[float]:
    """Return how near each sentence is to the question, from 0 to 1 (the nearest, unless none is)."""
    asked = set(_words(question))
    sums = [sum(weight for word, weight in vector.items() if word in asked) for vector in vectors]
    most = max(sums, default=0.0)
    return [each / most if most else 0.0 for each in sums]


def similar(one: str, other: str) -> float:
    """Return the cosine similarity of two texts by their words: 0 nothing in common, 1 the same words."""
    first, second = Counter(_words(one)), Counter(_words(other))
    size = math.sqrt(sum(n * n for n in first.values()) * sum(n * n for n in second.values()))
    return sum(count * second[word] for word, count in first.items()) / size if size else 0.0


def stands_in(quote: str, text: str) -> bool:
    """Say whether a quote stands in a text, whatever its spaces, case and kinds of quotation marks; `…` marks an omission."""
    whole, at = plain(text), 0
    for piece in _OMITTED.split(quote):
        wanted = plain(piece).strip(" \"'")
        if wanted:
            at = whole.find(wanted, at)
            if at < 0:
                return False
            at += len(wanted)
    return True


def plain(text: str) -> str:
    """Return a text in lower case, with single spaces and plain quotation marks and dashes."""
    return " ".join(text.casefold().translate(_SIGNS).split())


# --- sentences ---------------------------------------------------------------------------------------------------------------


def sentences(text: str) -> list[str]:
    """Return the sentences of a text in order, white space collapsed; list items and headings are sentences of their own."""
    return [sentence for block in _blocks(text) for sentence in _split(block)]


def _blocks(text: str) -> Iterator[str]:
    """Yield paragraphs, list items and headings as one line each; code, tables, rules and empty lines divide and are left out."""
    lines: list[str] = []
    fenced = False
    for line in text.splitlines():
        fence = _FENCE.match(line) is not None
        fenced = fenced != fence
        heading = _HEADING.match(line)
        divides = fence or fenced or not line.strip() or line.lstrip()[:1] == "|" or _RULE.match(line) is not None
        if lines and (divides or heading or _ITEM.match(line)):
            yield " ".join(lines)
            lines = []
        if divides:
            continue
        lines += (_HEADING.sub("", line) if heading else _ITEM.sub("", line)).split()
        if heading and lines:
            yield " ".join(lines)
            lines = []
    if lines:
        yield " ".join(lines)


def _split(block: str) -> Iterator[str]:
    start = 0
    for match in _END.finditer(block):
        if match[0] == "." and _is_abbreviation(block[max(start, match.start() - 24) : match.start()]):
            continue
        yield from _cut(block[start : match.end()].strip())
        start = match.end()
    yield from _cut(block[start:].strip())


def _is_abbreviation(before: str) -> bool:
    """Whether a full stop after these characters ends a word, not a sentence: "Dr", "e.g", an initial."""
    word = _LAST.search(before)
    return word is not None and ((len(word[0]) == 1 and word[0].isalpha() and word[0] != "I") or word[0].lower() in _ABBREVIATED)


def _cut(sentence: str) -> Iterator[str]:
    begin = 0
    while len(sentence) - begin > LONGEST:
        at = sentence.rfind(" ", begin + LONGEST // 2, begin + LONGEST)
        at = at if at > 0 else begin + LONGEST
        yield sentence[begin:at].strip()
        begin = at
        while begin < len(sentence) and sentence[begin].isspace():
            begin += 1
    tail = sentence[begin:].strip()
    if any(letter.isalnum() for letter in tail):
        yield tail


# --- weights -----------------------------------------------------------------------------------------------------------------


def _words(sentence: str) -> list[str]:
    """Return the content words, cut; scripts without spaces between words give pairs of letters."""
    found = []
    for word in _WORD.findall(sentence.casefold()):
        if _IDEOGRAPHS.search(word):
            found += [word[at : at + 2] for at in range(max(1, len(word) - 1))]
        elif word not in _COMMON and len(word) > 1:
            found.append((word[:-1] if word[-1] == "s" and len(word) > 3 and word[-2] != "s" else word)[:STEM])
    return found


def _vectors(bags: Sequence[Sequence[str]]) -> list[Vector]:
    """Return a tf·idf vector of length one for each bag of words; an empty one where no word counts."""
    total = len(bags)
    spread = Counter(word for bag in bags for word in set(bag))
    idf = {word: math.log((total + 1) / count) for word, count in spread.items() if count * 2 <= total + 2}
    made: list[Vector] = []
    for bag in bags:
        weights = {word: count * idf[word] for word, count in Counter(bag).items() if word in idf}
        size = math.sqrt(sum(weight * weight for weight in weights.values()))
        made.append({word: weight / size for word, weight in weights.items()} if size else {})
    return made


def _ranks(vectors: Sequence[Vector]) -> list[float]:
    """Return the PageRank of each sentence in the graph of similarities, without a sentence's likeness to itself; sums to 1."""
    total = len(vectors)
    degrees = _neighbours(vectors, [1.0] * total)
    ranks = [1.0 / total] * total
    for _ in range(ROUNDS):
        shares = [rank / degree if degree > CLOSE else 0.0 for rank, degree in zip(ranks, degrees, strict=True)]
        alone = sum(rank for rank, degree in zip(ranks, degrees, strict=True) if degree <= CLOSE) / total
        following = [(1 - DAMPING) / total + DAMPING * (alone + got) for got in _neighbours(vectors, shares)]
        moved = sum(abs(new - old) for new, old in zip(following, ranks, strict=True))
        ranks = following
        if moved < CLOSE:
            break
    return ranks


def _neighbours(vectors: Sequence[Vector], values: Sequence[float]) -> list[float]:
    """Return for each sentence the sum over all others of similarity times value: (W·Wᵀ - I)·values."""
    totals: dict[str, float] = {}
    for vector, value in zip(vectors, values, strict=True):
        for word, weight in vector.items():
            totals[word] = totals.get(word, 0.0) + weight * value
    return [
        max(0.0, sum(weight * (totals[word] - weight * value) for word, weight in vector.items()))
        for vector, value in zip(vectors, values, strict=True)
    ]


def _place(index: int) -> float:
    return 1.0 + 1.0 / (1 + index)


def _form(sentence: str) -> float:
    """Return how much a sentence counts by its form: headings, fragments and questions less than statements."""
    ended = sentence.rstrip("\"'\u201d\u2019)]")[-1:]
    if ended == "?":
        return 0.5
    signs = sum(not (letter.isalnum() or letter.isspace()) for letter in sentence)
    if ended == ":" or len(_words(sentence)) < FEW or signs * 4 > len(sentence):
        return 0.3 if signs * 4 <= len(sentence) else 0.05  # a table, a drawing, code
    return 1.0 if ended in ".!\u2026\u3002\uff01" else 0.7


def _spread(vectors: Sequence[Vector], weights: Mapping[int, float], count: int) -> list[int]:
    """Take the heaviest sentences one by one; what resembles one that was taken loses weight."""
    left = dict(weights)
    likeness = dict.fromkeys(left, 0.0)
    taken: list[int] = []
    while left and len(taken) < count:
        index = max(left, key=lambda each: (left[each] * (1 - likeness[each]), -each))
        taken.append(index)
        del left[index]
        chosen = vectors[index]
        for each in left:
            same = sum(weight * chosen.get(word, 0.0) for word, weight in vectors[each].items())
            likeness[each] = max(likeness[each], min(1.0, same))
    return taken
