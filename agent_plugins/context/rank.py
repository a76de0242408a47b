"""rank - choose what of the context fits: what is named first, then what is most like the question. Pure.

Likeness is Okapi BM25 (Robertson & Zaragoza 2009, "The Probabilistic Relevance Framework"): for the words t of the question

    score = sum of idf(t) * f(t) * (k1 + 1) / (f(t) + k1 * (1 - b + b * length / mean length)),  k1 = 1.5, b = 0.75
    idf(t) = ln(1 + (N - n(t) + 0.5) / (n(t) + 0.5))

over the passages: files, large ones cut at line ends. The words of a path count three times. Tokens are estimated as UTF-8
bytes / 3, more than tokenizers make of English or code, so the cap holds.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent_core.task import compose

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .gather import Piece

K1, B = 1.5, 0.75
PATH_WEIGHT = 3
WHOLE = 4000  # a file of up to so many tokens is one passage
PASSAGE = 2000
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+|[^\W\dA-Za-z_]+")
_FIRST = ("readme", "index", "overview", "main")


@dataclass(frozen=True, slots=True)
class Passage:
    """A file or a part of it: lines `first` to `last` (from 1) of file number `file`; `whole`: all of it."""

    origin: str
    text: str
    file: int
    named: bool = False
    first: int = 1
    last: int = 0
    whole: bool = True

    @property
    def title(self) -> str:
        """The origin, with the lines if it is a part."""
        return self.origin if self.whole else f"{self.origin} (lines {self.first}-{self.last})"


@dataclass(frozen=True, slots=True)
class Choice:
    """What fits, as (origin, text) in the order of the files; what does not; what is there in part; tokens in all."""

    materials: tuple[tuple[str, str], ...]
    left: tuple[str, ...]
    partly: tuple[str, ...]
    tokens: int


def tokens_of(text: str) -> int:
    """Return an estimate of tokens: UTF-8 bytes / 3, rounded up."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // 3)


def words(text: str) -> list[str]:
    """Return the words of a text or of code in lower case; camelCase and snake_case are taken apart."""
    return [word.lower() for word in _WORD.findall(text)]


def choose(instruction: str, pieces: Sequence[Piece], cap: int) -> Choice:
    """Return what of the pieces fits into `cap` tokens, marks included."""
    whole = [Passage(piece.origin, piece.text, number, piece.named) for number, piece in enumerate(pieces)]
    if sum(map(_cost, whole)) <= cap:
        return _choice(whole, whole)
    passages = [passage for each in whole for passage in cut(each)]
    taken: list[Passage] = []
    room = cap
    for passage in ranked(instruction, passages):
        cost = _cost(passage)
        if cost <= room:
            taken.append(passage)
            room -= cost
    return _choice(_joined(taken), whole)


def ranked(instruction: str, passages: Sequence[Passage]) -> list[Passage]:
    """Return the passages, best first: named by --context, named in the instruction, by likeness, then shallow paths first."""
    scores = likeness(words(instruction), passages)

    def key(number: int) -> tuple[object, ...]:
        each = passages[number]
        place = 0 if each.named else 1 if mentions(instruction, each.origin) else 2
        name = each.origin.rpartition("/")[2].lower()
        return (place, -round(scores[number], 9), each.origin.count("/"), not name.startswith(_FIRST), each.file, each.first)

    return [passages[number] for number in sorted(range(len(passages)), key=key)]


def likeness(question: Iterable[str], passages: Sequence[Passage]) -> list[float]:
    """Return the BM25 score of each passage."""
    asked = set(question)
    counted: list[Counter[str]] = []
    lengths: list[int] = []
    for passage in passages:
        path = words(passage.origin)
        body = words(passage.text)
        lengths.append(len(body) + PATH_WEIGHT * len(path))
        counts = Counter(word for word in body if word in asked)
        for word in path:
            if word in asked:
                counts[word] += PATH_WEIGHT
        counted.append(counts)
    mean = sum(lengths) / len(lengths) if lengths else 0.0
    idf = {word: _idf(len(passages), sum(word in counts for counts in counted)) for word in asked}
    return [_score(counts, idf, length / mean if mean else 0.0) for counts, length in zip(counted, lengths, strict=True)]


def _idf(total: int, having: int) -> float:
    return math.log(1 + (total - having + 0.5) / (having + 0.5))


def _score(counts: Counter[str], idf: dict[str, float], length: float) -> float:
    norm = K1 * (1 - B + B * length)
    return sum(idf[word] * count * (K1 + 1) / (count + norm) for word, count in counts.items())


def mentions(instruction: str, origin: str) -> bool:
    """Return whether the instruction names a path, or a file by a name with a dot in it."""
    name = origin.rpartition("/")[2]
    return any(
        re.search(rf"(?<![\w/.-]){re.escape(each)}(?![\w/-])", instruction) for each in {origin, name} if "." in each or "/" in each
    )


def cut(passage: Passage) -> list[Passage]:
    """Return the passages of a file: itself, or parts of about PASSAGE tokens that end with a line (or within a very long one)."""
    if tokens_of(passage.text) <= WHOLE:
        return [replace(passage, last=passage.text.count("\n") + 1)]
    parts: list[Passage] = []
    lines: list[str] = []
    size, first, number = 0, 1, 0
    for number, line in enumerate(_lines(passage.text), 1):
        if lines and size + len(line) > 3 * PASSAGE:
            parts.append(replace(passage, text="".join(lines), first=first, last=number - 1, whole=False))
            lines, size, first = [], 0, number
        lines.append(line)
        size += len(line)
    return [*parts, replace(passage, text="".join(lines), first=first, last=number, whole=False)]


def _lines(text: str) -> Iterable[str]:
    for line in text.splitlines(keepends=True):
        for start in range(0, len(line), 3 * PASSAGE):
            yield line[start : start + 3 * PASSAGE]


def _joined(taken: Sequence[Passage]) -> list[Passage]:
    """Return passages in the order of files and lines; neighbours become one."""
    made: list[Passage] = []
    for each in sorted(taken, key=lambda passage: (passage.file, passage.first)):
        if made and made[-1].file == each.file and made[-1].last + 1 == each.first:
            made[-1] = replace(made[-1], text=made[-1].text + each.text, last=each.last)
        else:
            made.append(each)
    return made


def _cost(passage: Passage) -> int:
    return tokens_of(compose("", [(passage.title, passage.text)])) + 1


def _choice(taken: Sequence[Passage], whole: Sequence[Passage]) -> Choice:
    complete = {each.file for each in taken if each.text == whole[each.file].text}
    materials = tuple((each.origin if each.file in complete else each.title, each.text) for each in taken)
    present = {each.file for each in taken}
    left = tuple(each.origin for each in whole if each.file not in present)
    partly = tuple(whole[file].origin for file in sorted(present - complete))
    return Choice(materials, left, partly, sum(map(_cost, taken)))
