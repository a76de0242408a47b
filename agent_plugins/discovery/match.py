"""match - how well a candidate answers a query: one function, `match`, for text, tags, latency and cost.

    text    0.5 * capabilities named / capabilities + 0.5 * description words named / description words   (ledger S1-69)
            stop words do not count; an empty list scores 0 for its half; words are compared by their stems; the tags of a
            card stand in for its capabilities where the text names a larger part of them
    tags    |tags & wanted| / |tags | wanted| * health, wanted = required | preferred                     (ledger S1-36)
            dropped without a required tag, above the latency or cost asked for, or where those are unknown
    both    the mean of the two
    neither the health

Health counts 1.0 (healthy), 0.6 (degraded), 0.0 (unhealthy, unknown); a score of 0 is no match. Everything here is pure.

    >>> one = Candidate("nlp", tags=("nlp", "summarise"))
    >>> round(match(one, Query(need=("nlp",), prefer=("summarise", "fast"))).score, 3)
    0.667
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

HEALTH = {"healthy": 1.0, "degraded": 0.6, "unhealthy": 0.0, "unknown": 0.0}
MIN_SCORE = 0.1
STOP = frozenset(  # a list of words reads better than a list of literals
    """
    a about after all also an and any anything are as at be been before but by can could do does each every for from get
    give had has have he her his how i if in into is it its just let like may me more most my need no not of on one only or
    other our out over own please she should so some somebody someone such than that the their them then there these they
    this those to too under up us use used uses using very want was we were what when where which while who whom whose why
    will with without would you your
    """.split()  # noqa: SIM905
)
_WORD = re.compile(r"[^\W_]+(?:[+#]+)?")
# Longest first. Both sides of a comparison lose the same endings, so a stem need not be a word; z stands for s (summarise).
_ENDINGS = (
    "izations", "ization", "izers", "izer", "izing", "izes", "ized", "ize", "ations", "ation", "ators", "ator", "ating", "ated",
    "ates", "ate", "ments", "ment", "ions", "ion", "ings", "ing", "ers", "er", "ors", "or", "ies", "ied", "es", "ed", "y", "e", "s",
)  # fmt: skip
_SHORTEST = 4


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that a candidate can do. Latency in milliseconds, cost in USD, None where nobody measured it."""

    name: str
    tags: tuple[str, ...] = ()
    latency_ms: float | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who might be asked: an agent, a program or a skill, as it describes itself. Latency and cost are measured means."""

    name: str
    description: str = ""
    tags: tuple[str, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    health: str = "healthy"
    latency_ms: float | None = None
    cost_usd: float | None = None
    kind: str = "agent"
    source: str = ""
    entry: Any = None


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for. `min_score` None: 0.1 where there is text, else anything above 0."""

    text: str = ""
    need: tuple[str, ...] = ()
    prefer: tuple[str, ...] = ()
    max_ms: float | None = None
    max_usd: float | None = None
    min_score: float | None = None

    @property
    def least(self) -> float:
        """The least score of a match."""
        return self.min_score if self.min_score is not None else MIN_SCORE if self.text.strip() else 0.0


@dataclass(frozen=True, slots=True)
class Match:
    """A candidate's score, how it came about, and why it was dropped ("" if it was not)."""

    candidate: Candidate
    score: float
    why: tuple[str, ...] = ()
    dropped: str = ""


def rank(candidates: Iterable[Candidate], query: Query, n: int = 10) -> list[Match]:
    """Return the best `n` matches, best first; equal scores by name."""
    found = [made for made in (match(each, query) for each in candidates) if kept(made, query)]
    return sorted(found, key=order)[: max(0, n)]


def kept(made: Match, query: Query) -> bool:
    """Return whether a match counts as one."""
    return not made.dropped and made.score > 0 and made.score >= query.least


def order(made: Match) -> tuple[float, str, str]:
    """Return the key that sorts matches, best first."""
    return -made.score, made.candidate.name, made.candidate.kind


def match(candidate: Candidate, query: Query) -> Match:
    """Return how well one candidate answers: the formulas of the module, with their figures in `why`."""
    limits = query.max_ms is not None or query.max_usd is not None
    parts: list[Match] = []
    if query.need or query.prefer or limits or not query.text.strip():
        parts.append(_tagged(candidate, query))
    if query.text.strip():
        parts.append(_worded(candidate, query.text))
    if len(parts) == 2 and not (query.need or query.prefer):
        # Limits alone only drop: they say nothing of how well the rest fits.
        parts[0] = Match(candidate, parts[1].score, parts[0].why, parts[0].dropped)
    score = sum(part.score for part in parts) / len(parts)
    dropped = next((part.dropped for part in parts if part.dropped), "")
    return Match(candidate, 0.0 if dropped else score, tuple(line for part in parts for line in part.why), dropped)


# -- tags --------------------------------------------------------------------------------------------------------------------------


def _tagged(candidate: Candidate, query: Query) -> Match:
    """Return the best of the candidate as a whole and each of its capabilities."""
    whole = Capability(candidate.name, candidate.tags, candidate.latency_ms, candidate.cost_usd)
    ways = [whole, *(_whole(each, candidate) for each in candidate.capabilities)]
    made = [_one(candidate, way, query) for way in ways]
    # Of ways that were all dropped, the one that got furthest says why.
    return min(made, key=lambda each: (bool(each.dropped), each.dropped.startswith("has no tag"), -each.score))


def _whole(capability: Capability, candidate: Candidate) -> Capability:
    """Return a capability with what it does not say itself taken from its candidate."""
    return Capability(
        capability.name,
        capability.tags or candidate.tags,
        candidate.latency_ms if capability.latency_ms is None else capability.latency_ms,
        candidate.cost_usd if capability.cost_usd is None else capability.cost_usd,
    )


def _one(candidate: Candidate, way: Capability, query: Query) -> Match:
    tags = {tag.casefold() for tag in way.tags}
    need, prefer = {tag.casefold() for tag in query.need}, {tag.casefold() for tag in query.prefer}
    missing = sorted(need - tags)
    if missing:
        return Match(candidate, 0.0, dropped=f"has no tag {', '.join(missing)}")
    over = _over("latency", way.latency_ms, query.max_ms, "ms") or _over("cost", way.cost_usd, query.max_usd, "USD")
    if over:
        return Match(candidate, 0.0, dropped=over)
    health = HEALTH.get(candidate.health, 0.0)
    wanted = need | prefer
    shared, union = tags & wanted, tags | wanted
    jaccard = len(shared) / len(union) if wanted else 1.0
    why = f"tags {len(shared)}/{len(union)} ({', '.join(sorted(shared)) or 'none'}) x " if wanted else ""
    return Match(candidate, jaccard * health, (f"{why}health {health:.1f} ({candidate.health})",))


def _over(what: str, value: float | None, most: float | None, unit: str) -> str:
    """Return why a limit is not kept. What nobody measured is not known to keep it."""
    if most is None:
        return ""
    if value is None:
        return f"{what} is not known: no finished run to measure"
    return f"{what} {value:g} {unit} is more than {most:g}" if value > most else ""


# -- text --------------------------------------------------------------------------------------------------------------------------


def _worded(candidate: Candidate, text: str) -> Match:
    asked = words(text)
    # What a card can do is in the names of its capabilities, or in its tags: whichever the text names the larger part of.
    lists = [[each.name for each in candidate.capabilities], list(candidate.tags)]
    abilities = max(lists, key=lambda each: (_share(len(_named(each, asked)), len(each)), len(each)))
    named = _named(abilities, asked)
    described = _by_stem(candidate.description)
    shared = sorted(described[each] for each in described if each in asked)
    halves = _share(len(named), len(abilities)), _share(len(shared), len(described))
    why = (
        f"capabilities {len(named)}/{len(abilities)} ({', '.join(named[:8]) or 'none'})",
        f"description words {len(shared)}/{len(described)} ({', '.join(shared[:8]) or 'none'})",
    )
    return Match(candidate, 0.5 * halves[0] + 0.5 * halves[1], why)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _named(abilities: Iterable[str], asked: frozenset[str]) -> list[str]:
    """Return the abilities that a query names with all their words."""
    return [each for each in abilities if words(each) and words(each) <= asked]


def words(text: str) -> frozenset[str]:
    """Return the stems of the words of a text, stop words left out."""
    return frozenset(_by_stem(text))


def _by_stem(text: str) -> dict[str, str]:
    found = (word.casefold() for word in _WORD.findall(text.replace("'", "")))
    return {stem(word): word for word in found if word not in STOP}


def stem(word: str) -> str:
    """Return a word without its ending, so that summarise, summarizer and summaries are one.

    >>> stem("translation") == stem("translator") == stem("translates"), stem("css")
    (True, 'css')
    """
    plain = re.sub(r"is(?=(?:e|es|ed|er|ers|ing|ation|ations)$)", "iz", word) if len(word) > 6 else word
    for ending in _ENDINGS:
        if plain.endswith(ending) and len(plain) - len(ending) >= _SHORTEST:
            left = plain[: -len(ending)]
            return left[:-1] if left[-1] == left[-2] and left[-1] not in "sl" else left
    return plain


def tags_of(card: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the tags of a card."""
    return tuple(card.get("tags") or ())


def capabilities_of(card: Mapping[str, Any]) -> tuple[Capability, ...]:
    """Return the capabilities of a card, with the figures it gives."""
    return tuple(
        Capability(each["name"], tags_of(each), _figure(each.get("avg_latency_ms")), _figure(each.get("cost_per_call_usd")))
        for each in card.get("capabilities") or ()
    )


def _figure(value: Any) -> float | None:
    return None if value is None else float(value)


def explained(made: Match) -> str:
    """Return one line that says how a score came about."""
    return f"dropped: {made.dropped}" if made.dropped else "; ".join(made.why)


def nearest(made: Sequence[Match]) -> Match | None:
    """Return the best of the matches that did not count, None when nothing fits at all."""
    left = [each for each in made if not each.dropped and each.score > 0]
    return min(left, key=order) if left else None
