"""reduce - make one answer of many: named reducers over answers [(agent, text), …].

    reduced = majority([("a", "4"), ("b", "5"), ("c", " 4.")])          # pure; reduced.answer == "4"
    reduced = yield from reduced_by("synthesis", answers, Rules(question))   # inside a pattern; any name of REDUCERS

first      the earliest answer (with `enough`: the first of those that came)   last       the latest answer (a pipeline's end)
merge      all of them, each under its agent's name                            majority   the commonest normalised answer
weighted   the commonest by the sum of the agents' weights                     quorum     majority, if `quorum` agents answered
consensus  the commonest, if its share of the weights reaches `threshold`      veto       majority, but holders may say "veto"
synthesis  a model writes one answer from all                                  moderate   a model judges neutrally, then writes

Ties go to the earliest answer. Two answers are the same if `normal` makes the same of them. `met` is False where the rules give
no decision; then `answer` is empty and `why` says so. Nobody's answers: `met` is False.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent_core.errors import UsageError

if TYPE_CHECKING:
    from agent_core.effects import Pattern

Answers = Sequence[tuple[str, str]]

SYNTHESIS = (
    "Several agents answered the question below. Write the one best answer from theirs: keep what they agree on, settle "
    "contradictions by the better reason, leave out what is repeated. Answer the question itself; do not describe the agents."
)
MODERATE = (
    "You are a neutral moderator and take no side. Below are a question, what each side said, and scores where there are any. "
    "Say in a few sentences where the sides agree, where they differ and why, which arguments were the stronger ones, and conclude."
)

_LEAD = re.compile(r"^(?:(?:the |my |final )*answer(?: is)?\s*[:=]?[*_]*|therefore,?|so,?)\s+(?=\S)", re.IGNORECASE)
_EDGES = " \t\n\"'`*_“”\u2018\u2019«»().,;:!?…"
_NUMBER = re.compile(r"([-+]?)([$€£¥]?)(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?(%?)")


@dataclass(frozen=True, slots=True)
class Rules:
    """What reducers go by. `threshold` is a share (0 to 1); `judge` is an agent that writes in the model's place (`Call`)."""

    question: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)
    veto: frozenset[str] = frozenset()
    quorum: int = 0
    threshold: float = 2 / 3
    judge: Any = None
    notes: str = ""

    def weight(self, agent: str) -> float:
        """Return an agent's weight: 1 unless it was given another."""
        return self.weights.get(agent, 1.0)


@dataclass(frozen=True, slots=True)
class Reduced:
    """What the answers came to: the text, who gave it, the weight of each distinct answer (by its first agent), whether decided."""

    answer: str
    by: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    met: bool = True
    why: str = ""


Reducer = Callable[[Answers, Rules], Any]


def normal(text: str) -> str:
    """Return the form in which answers are compared.

    Unicode NFKC, case folded; Markdown emphasis, quotes and punctuation at both ends, runs of white space and a leading "the answer
    is" do not count; a number alone is compared by value ("1,000.0" is "1000"). Nothing inside a sentence is touched.

        >>> normal('**The answer is: "Paris".**'), normal("1,000.00"), normal("-0.50")
        ('paris', '1000', '-0.5')
    """
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    bare = _stripped(_LEAD.sub("", _stripped(folded)))
    number = _NUMBER.fullmatch(bare)
    if number is None:
        return bare or folded
    sign, currency, whole, part, percent = number.groups()
    digits = whole.replace(",", "").lstrip("0") or "0"
    decimals = (part or "").rstrip("0").rstrip(".")
    return f"{'-' if sign == '-' and (digits != '0' or decimals) else ''}{currency}{digits}{decimals}{percent}"


def _stripped(text: str) -> str:
    """Return a text without the marks at its ends; a point before a digit and a sign stay."""
    left = text.lstrip(_EDGES)
    cut = text[: len(text) - len(left)]
    return ("0." if cut.endswith(".") and left[:1].isdigit() else "") + left.rstrip(_EDGES)


def groups(answers: Answers) -> dict[str, list[tuple[str, str]]]:
    """Return the answers by their normal form, in the order in which the forms first came."""
    found: dict[str, list[tuple[str, str]]] = {}
    for agent, text in answers:
        found.setdefault(normal(text), []).append((agent, text))
    return found


def first(answers: Answers, rules: Rules = Rules()) -> Reduced:  # noqa: ARG001 - reducers have one shape; Rules is frozen
    """Return the earliest answer."""
    return Reduced(answers[0][1], (answers[0][0],)) if answers else _nobody()


def last(answers: Answers, rules: Rules = Rules()) -> Reduced:  # noqa: ARG001
    """Return the latest answer."""
    return Reduced(answers[-1][1], (answers[-1][0],)) if answers else _nobody()


def merge(answers: Answers, rules: Rules = Rules()) -> Reduced:  # noqa: ARG001
    """Return all answers, each under a heading with its agent's name."""
    parts = [f"## {' '.join(agent.split())}\n\n{text.strip()}" for agent, text in answers]
    return Reduced("\n\n".join(parts), tuple(agent for agent, _ in answers)) if answers else _nobody()


def majority(answers: Answers, rules: Rules = Rules()) -> Reduced:  # noqa: ARG001
    """Return the answer that most agents gave (plurality over normal forms); ties go to the earliest."""
    return _commonest(answers, Rules())


def weighted(answers: Answers, rules: Rules = Rules()) -> Reduced:
    """Return the answer with the largest sum of its agents' weights; ties go to the earliest. Weights of 0 decide nothing."""
    found = _commonest(answers, rules)
    return found if not answers or any(found.scores.values()) else _none(found, "no answer has weight")


def consensus(answers: Answers, rules: Rules = Rules()) -> Reduced:
    """Return the commonest answer if its share of all weights is at least `rules.threshold`."""
    found = _commonest(answers, rules)
    total = sum(found.scores.values())
    share = max(found.scores.values(), default=0.0) / total if total else 0.0
    if share >= rules.threshold - 1e-9 and answers and total:
        return found
    return _none(found, f"the commonest answer has {share:.0%} of the weight and {rules.threshold:.0%} is needed")


def quorum(answers: Answers, rules: Rules = Rules()) -> Reduced:
    """Return the weighted majority if at least `rules.quorum` different agents answered."""
    present = len({agent for agent, _ in answers})
    found = _commonest(answers, rules)
    return found if answers and present >= rules.quorum else _none(found, f"{present} answered and {rules.quorum} are needed")


def veto(answers: Answers, rules: Rules = Rules()) -> Reduced:
    """Return the weighted majority of what holders of a veto leave.

    An answer that begins with the word "veto" is one: from a holder it removes the answer named after it, or all where none is
    named; from anyone else it is refused, that is, it counts for nothing.
    """
    vetoes = [(agent, vetoed(text)) for agent, text in answers]
    given = [answer for answer, (_, object_) in zip(answers, vetoes, strict=True) if object_ is None]
    removed = {object_ for agent, object_ in vetoes if object_ is not None and agent in rules.veto}
    if "" in removed:
        return _none(_commonest(given, rules), "vetoed")
    left = [(agent, text) for agent, text in given if normal(text) not in removed]
    return _commonest(left, rules) if left else _none(_nobody(), "vetoed" if removed else "nobody answered")


def vetoed(text: str) -> str | None:
    """Return what a veto is against ("" for everything), or None if the text is no veto."""
    word, _, rest = normal(text).partition(" ")
    return normal(rest) if word.rstrip(_EDGES) == "veto" else None


def synthesis(answers: Answers, rules: Rules = Rules()) -> Pattern:
    """Return the one answer that a model (or `rules.judge`) writes from all. One call; none for a single answer."""
    if len(answers) < 2:
        return first(answers)
    return (yield from _written(SYNTHESIS, answers, rules))


def moderate(answers: Answers, rules: Rules = Rules()) -> Pattern:
    """Return a neutral moderator's account of the answers, with `rules.notes` (scores) before it. One call."""
    return (yield from _written(MODERATE, answers, rules)) if answers else _nobody()


def _written(instruction: str, answers: Answers, rules: Rules) -> Pattern:
    from agent_core.effects import Ask, Call
    from agent_core.messages import system, user
    from agent_core.task import DATA_RULE, compose

    notes = [("scores", rules.notes)] if rules.notes else []
    prompt = compose(instruction, [("question", rules.question), *answers, *notes])
    if rules.judge is not None:
        text = yield Call(rules.judge, prompt)
    else:
        reply = yield Ask([system(DATA_RULE), user(prompt)])
        text = reply.text
    return Reduced(text, tuple(agent for agent, _ in answers))


def _commonest(answers: Answers, rules: Rules) -> Reduced:
    if not answers:
        return _nobody()
    found = groups(answers)
    weights = {form: sum(rules.weight(agent) for agent in {agent for agent, _ in said}) for form, said in found.items()}
    best = max(found, key=lambda form: weights[form])  # max keeps the first of equals
    scores: dict[str, float] = {}
    for form, said in found.items():
        scores[free(said[0][0], scores)] = weights[form]
    return Reduced(found[best][0][1], tuple(dict.fromkeys(agent for agent, _ in found[best])), scores)


def free(name: str, taken: Container[str]) -> str:
    """Return the name, or name#2, name#3 and so on where it is taken."""
    made, count = name, 1
    while made in taken:
        count += 1
        made = f"{name}#{count}"
    return made


def _nobody() -> Reduced:
    return Reduced("", met=False, why="nobody answered")


def _none(found: Reduced, why: str) -> Reduced:
    return found if found.why else Reduced("", (), found.scores, met=False, why=why)


REDUCERS: dict[str, Reducer] = {
    reducer.__name__: reducer for reducer in (first, last, merge, majority, weighted, consensus, quorum, veto, synthesis, moderate)
}
MODEL = frozenset(["synthesis", "moderate"])  # these are generators: each costs one call


def find(name: str) -> Reducer:
    """Return a reducer by name; UsageError with the nearest names."""
    if name not in REDUCERS:
        from agent_core.options import unknown

        raise unknown("reducer", name, REDUCERS)
    return REDUCERS[name]


def reduced_by(name: str, answers: Answers, rules: Rules) -> Pattern:
    """Return what the named reducer makes of the answers: the one way for patterns, as some reducers ask a model."""
    made = find(name)(answers, rules)
    return (yield from made) if name in MODEL else made


def weights(pairs: Sequence[str]) -> dict[str, float]:
    """Return weights from `NAME=NUMBER` words. UsageError unless each is a number of at least 0.

    >>> weights(["senior=2", "junior=0.5"])
    {'senior': 2.0, 'junior': 0.5}
    """
    found = {}
    for pair in pairs:
        name, equals, text = pair.rpartition("=")
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not equals or not name or not 0 <= value < float("inf"):
            raise UsageError(f"--weight: {pair[:80]!r} is no weight", hint="write NAME=2, a number of at least 0")
        found[name] = value
    return found
