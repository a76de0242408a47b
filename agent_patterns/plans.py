"""plans - how a model's plan and its verdict are read: JSON against a schema, or lines of text.

    steps, problem = read_plan('1. add 2 and 2 tool: calc expected: 4')
    verdict = read_verdict("ACHIEVED 0.92")                # {"achieved": True, "confidence": 0.92, …}

What a model writes is data: nothing here runs, and what cannot be read is said to be unreadable.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agent_core.checked import first_object
from agent_patterns.steps import Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MOST = 1000  # steps of one plan that are read at all
_ROW = 1000  # characters of a line that may be a verdict

_TEXT = {"type": "string"}
PLAN_SCHEMA: dict[str, Any] = {
    "title": "plan", "type": "object", "required": ["steps"], "additionalProperties": False,
    "properties": {"steps": {"type": "array", "items": {
        "type": "object", "additionalProperties": False,
        "properties": {
            "id": _TEXT, "task": _TEXT, "tool": _TEXT, "arguments": _TEXT, "expected": _TEXT,
            "needs": {"type": "array", "items": _TEXT},
        },
        "required": ["id", "task", "tool", "arguments", "expected", "needs"],
    }}},
}  # fmt: skip
VERDICT_SCHEMA: dict[str, Any] = {
    "title": "verdict", "type": "object", "required": ["achieved", "confidence", "issues", "answer"], "additionalProperties": False,
    "properties": {
        "achieved": {"type": "boolean"}, "confidence": {"type": "number"},
        "issues": {"type": "array", "items": _TEXT}, "answer": _TEXT,
    },
}  # fmt: skip


def read_plan(text: str) -> tuple[list[Step], str]:
    """Return (steps, "") of a plan as JSON or as numbered lines, else ([], what is wrong)."""
    found = first_object(text)
    rows = found.get("steps") if isinstance(found, dict) else found if isinstance(found, list) and found != [] else None
    if isinstance(rows, list) and all(isinstance(row, dict | str) for row in rows):
        steps = [_step(row if isinstance(row, dict) else {"task": row}, place) for place, row in enumerate(rows[: MOST + 1], 1)]
    else:
        steps = list(_lines(text))
    return (steps, "") if not (problem := _problem(steps)) else ([], problem)


def _step(row: Mapping[str, Any], place: int) -> Step:
    needs = row.get("needs") or row.get("depends_on") or ()
    return Step(
        _word(row.get("id")) or str(place), _word(row.get("task") or row.get("description")), _tool(_word(row.get("tool"))),
        _arguments(row.get("arguments")), _word(row.get("expected")),
        tuple(_word(need) for need in needs) if isinstance(needs, list) else (),
    )  # fmt: skip


def _word(value: Any) -> str:
    return " ".join(str(value).split()) if isinstance(value, str | int | float) else ""


def _tool(name: str) -> str:
    return "" if name.lower() in {"none", "null", "n/a", "-", "no", "model"} else name


def _arguments(value: Any) -> dict[str, Any] | None:
    if isinstance(value, str):
        value = first_object(value) if value.strip() else None
    return value if isinstance(value, dict) else None


def _problem(steps: Sequence[Step]) -> str:
    """Return what makes a plan unusable, or nothing."""
    ids = [step.id for step in steps]
    if not steps:
        return 'There is no plan in your answer: it needs {"steps": [...]}.'
    if len(steps) > MOST:
        return f"The plan has more than {MOST} steps."
    if not all(step.task for step in steps):
        return "Every step needs a task."
    if len(set(ids)) < len(ids):
        return "Two steps have the same id."
    strangers = sorted({need for step in steps for need in step.needs} - set(ids))
    if strangers:
        return f"Steps need {', '.join(strangers[:5])}, which the plan does not have."
    return "Steps need each other in a circle." if _circular(steps) else ""


def _circular(steps: Sequence[Step]) -> bool:
    left = {step.id: set(step.needs) for step in steps}
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    return bool(left)


_NUMBERED = re.compile(r"^[ \t*#>-]*(?:step[ \t]*)?\d+[.):][ \t]*", re.IGNORECASE | re.MULTILINE)
_FIELD = re.compile(r"\b(tool|expected|arguments|needs)[*_]*:", re.IGNORECASE)
_EDGES = " \t\n|;,[(*_-"


def _lines(text: str) -> Iterator[Step]:
    """Yield the steps of numbered lines; fields stand on the line or beneath it."""
    for place, block in enumerate(_NUMBERED.split(text)[1:], 1):
        words, *fields = _FIELD.split(block)
        given = {name.lower(): value.strip(_EDGES + "]") for name, value in zip(fields[::2], fields[1::2], strict=True)}
        name = re.match(r"[\w.-]*", given.get("tool", ""))
        yield Step(
            str(place), _word(words.strip(_EDGES + "]")), _tool(name[0] if name else ""),
            _arguments(given.get("arguments", "") or given.get("tool", "")), _word(given.get("expected", "")),
            tuple(re.findall(r"\d+", given.get("needs", ""))),
        )  # fmt: skip


_VERDICT = re.compile(
    r"[^\w]*(NOT[ _-]?)?ACHIEVED\b(?:[:,]? \(?(?:confidence:? )?(\d?\.?\d+ ?%?)\)?)?[.*_]*(?: ?[:;,-] ?(.*))?", re.IGNORECASE
)


def read_verdict(text: str) -> dict[str, Any]:
    """Return {achieved, confidence, issues, raw_response, answer?} of JSON or of a line such as `ACHIEVED 0.92`.

    What cannot be read is not achieved. Confidence is None unless it is a number from 0 to 1 (or a percentage).
    """
    found = first_object(text)
    if isinstance(found, dict) and isinstance(found.get("achieved"), bool):
        issues = found.get("issues")
        listed = [_word(each) for each in issues] if isinstance(issues, list) else [_word(issues)]
        answer = found.get("answer")
        return {
            "achieved": found["achieved"], "confidence": _confidence(found.get("confidence")), "issues": [x for x in listed if x],
            "raw_response": text, "answer": answer.strip() if isinstance(answer, str) else "",
        }  # fmt: skip
    rows = (" ".join(row[:_ROW].replace("*", "").split()) for row in text.splitlines())
    line = next((match for row in rows if (match := _VERDICT.fullmatch(row))), None)
    if line is None:
        return {"achieved": False, "confidence": None, "issues": ["the verdict could not be read"], "raw_response": text}
    said = [line[3].strip()] if line[3] and line[3].strip() else []
    return {"achieved": not line[1], "confidence": _confidence(line[2] or ""), "issues": said, "raw_response": text}


def _confidence(value: Any) -> float | None:
    try:
        if isinstance(value, bool):
            return None
        percent = isinstance(value, str) and value.strip().endswith("%")
        number = float(str(value).strip().removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        return None
    return round(number, 6) if 0 <= number <= 1 else None
