"""self_consistency - several independent answers to one question; the commonest wins.

Good for questions with one short answer (arithmetic, classification, facts). Cost: one react loop a sample, at once.

    $ assistant "How many r in strawberry?" --pattern self_consistency --samples 5

Each sample thinks for itself and ends with a line `Answer: …`; what stands there is compared (case, spaces, punctuation and the
form of numbers do not count), ties go to the earliest. Each sample's temperature is a thousandth below the one before, so that
its request is its own and no cache answers them all alike. Source: Wang et al. 2022, "Self-consistency improves chain of thought".
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent_core.effects import All
from agent_core.errors import RepeatLimit, StepLimit
from agent_core.messages import Text
from agent_core.options import Option
from agent_core.task import Answer
from agent_patterns import reduce
from agent_patterns.asks import steered
from agent_patterns.react import react

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_core.effects import Pattern
    from agent_core.task import Task

LAST_LINE = "Think it through. Then give the result alone, as short as possible, on a last line of the form\nAnswer: …"
_ANSWER = re.compile(r"^[ \t*_#>]*(?:final )?answer[ \t*_]*:[ \t*_]*(\S.*)$", re.IGNORECASE | re.MULTILINE)

OPTIONS = (
    Option("samples", "self_consistency: answers to compare (default 5)", "int", low=1, high=100),
    Option("sample-temperature", "self_consistency: temperature of the samples (default 0.7)", "number", low=0, high=2),
    Option("min-agreement", "self_consistency: a smaller share is status 4 (default 0)", "number", low=0, high=1),
)


def self_consistency(task: Task, sampler: Callable[[Task], Pattern] = react) -> Pattern:
    """Return the commonest answer; the value is {answer, agreement, votes, answers}. Status 4 below `min_agreement`."""
    samples = int(task.option("samples", 5))
    warmth = float(task.option("sample_temperature", 0.7))
    asked = task if task.schema is not None else _with_last_line(task)
    texts = yield All([_sample(steered(sampler(asked), temperature=_cooler(warmth, place))) for place in range(samples)])
    answers = [(str(place), final(text)) for place, text in enumerate(texts, 1)]
    return _answer(answers, float(task.option("min_agreement", 0)))


def _sample(pattern: Pattern) -> Pattern:
    """Return what a sample says as text; one that finds no end says nothing."""
    try:
        said = yield from pattern
    except (StepLimit, RepeatLimit):
        return ""
    return str(getattr(said, "text", said))


def _answer(answers: list[tuple[str, str]], least: float) -> Answer:
    said = [(name, text) for name, text in answers if text]
    winner = reduce.majority(said)
    votes = {same[0][1]: len(same) for same in reduce.groups(said).values()}
    agreement = round(votes.get(winner.answer, 0) / len(answers), 4)
    value: dict[str, Any] = {
        "answer": winner.answer,
        "agreement": agreement,
        "votes": votes,
        "answers": [text for _, text in answers],
    }
    return Answer(winner.answer, value, 0 if winner.answer and agreement >= least else 4)


def _with_last_line(task: Task) -> Task:
    parts = task.message.parts
    words = Text(f"{task.text}\n\n{LAST_LINE}")
    return replace(
        task, message=replace(task.message, parts=(words, *(part for part in parts if not isinstance(part, Text))), cache={})
    )


def _cooler(temperature: float, place: int) -> float:
    return round(temperature * (1 - place / 1000), 6)


def final(text: str) -> str:
    """Return what stands on the last line `Answer: …` of a reply; the whole reply if there is none."""
    found = _ANSWER.findall(text)
    return str(found[-1]).strip().strip("*_ ") if found else text.strip()
