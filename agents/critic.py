r"""critic - judge a text against criteria: pass or fail, a score, and what is wrong where.

    $ printf 'We may possibly ship it. TODO: date.\n' | critic -q --provider offline 'does not contain "TODO"; at most 20 words'
    ? 3
    fail, score 0.50
    high: "TODO": the text contains it
        take it out

    critic 'every claim has a number; a manager understands it' < draft.md && mail -s draft boss < draft.md

Words are the criteria, separated by `;`; stdin is the text. Status 3 means "ran well, the answer is no": the verdict
is fail, or with `--fail-on SEVERITY` there is an issue at least that bad (low, medium, high, critical).

Every issue that quotes the text is checked: what a model quotes must stand in the text (spaces, case and kinds of quotation marks
aside). Issues whose quote does not are moved to `unsupported`; they neither count for `--fail-on` nor are shown as findings.

Without a model only what can be measured is judged: `at most|at least|exactly N words|characters|sentences|lines|paragraphs`,
`between N and M words`, `contains "…"`, `does not contain "…"`, `starts with "…"`, `ends with "…"`,
`no sentence longer than N words`. Any other criterion is refused with status 78: nobody has judged it.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent_core import Agent
from agent_core.errors import ConfigError, MissingInput
from agent_core.messages import user
from agent_core.options import Option
from agent_core.task import DATA_RULE, compose, split

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent_core.effects import Pattern
    from agent_core.task import Task

SYSTEM = """You judge a text against criteria. Be demanding and fair: judge the text, not its author, and only by the criteria.
Every issue names what is wrong, how bad it is and what would mend it. Quote the exact words it is about, copied from the text;
leave the quote empty where something is missing. Invent no issue: a text without one has an empty list.
verdict: pass if every criterion is met well enough to use the text as it is, else fail. score: 1 is flawless, 0 useless.
Answer with one JSON object and nothing else: {"verdict": "pass|fail", "score": 0.0, "issues": [{"severity":
"low|medium|high|critical", "quote": "exact words or nothing", "problem": "what is wrong", "suggestion": "what to do"}]}"""

USUAL = "It is correct as far as the text itself shows; complete; clear to its readers; well ordered; without needless words."
SEVERITIES = ("low", "medium", "high", "critical")
ISSUE = {
    "type": "object",
    "properties": {
        "severity": {"type": "string", "enum": list(SEVERITIES)},
        "quote": {"type": "string", "description": "the exact words it is about, or nothing"},
        "problem": {"type": "string", "minLength": 1},
        "suggestion": {"type": "string"},
    },
    "required": ["severity", "problem"],
}
CRITIQUE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "verdict": {"type": "string", "enum": ["pass", "fail"]},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "issues": {"type": "array", "items": ISSUE},
        "unsupported": {"type": "array", "items": ISSUE, "description": "issues whose quote does not stand in the text"},
    },
    "required": ["verdict", "score", "issues"],
}


def criticise(task: Task) -> Pattern:
    """Return the critique as JSON text; quotes are checked against the material.

    Raises:
        MissingInput: there is no text to judge.
    """
    criteria, materials = _material(task)
    rules = task.system if DATA_RULE in task.system else f"{task.system}\n\n{DATA_RULE}".strip()
    asked = replace(task, message=user(compose(f"Judge the text by these criteria: {criteria}", materials)), system=rules)
    if task.schema is not CRITIQUE and task.schema is not None:  # --output-schema: another form, which only its owner can check
        return (yield from _first(asked))
    from agent_core.checked import checked

    found = yield from checked(_first(asked), asked, CRITIQUE)
    return json.dumps(supported(found.value, "\n".join(text for _, text in materials)), ensure_ascii=False)


def _first(task: Task) -> Pattern:
    reply = yield task.ask(task.messages())
    return reply.text


def _material(task: Task) -> tuple[str, list[tuple[str, str]]]:
    criteria, materials = split(task.text)
    if not materials:
        criteria, materials = "", [("stdin", criteria)]
    if not any(text.strip() for _, text in materials):
        raise MissingInput("there is no text to judge", hint="pipe it in, or name it with --file")
    return criteria.strip() or USUAL, materials


def supported(critique: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Return the critique with issues whose quote does not stand in the text put aside under `unsupported`."""
    from agent_plugins.extract import stands_in

    issues: list[dict[str, Any]] = []
    aside: list[dict[str, Any]] = []
    for issue in critique["issues"]:
        whole = {"severity": issue["severity"], "quote": "", "problem": issue["problem"], "suggestion": ""}
        whole.update({key: issue[key] for key in ("quote", "suggestion") if issue.get(key)})
        (issues if stands_in(whole["quote"], text) else aside).append(whole)
    return {"verdict": critique["verdict"], "score": critique["score"], "issues": issues, "unsupported": aside}


# --- without a model ---------------------------------------------------------------------------------------------------------

_CLAUSE = re.compile(r'(?:"[^"\n]*"|[^;\n])+')
_UNITS = "words?|characters?|sentences?|lines?|paragraphs?"
_WHAT = r"""(?:"([^"]+)"|\u201c([^\u201d]+)\u201d|'([^']+)')"""
_SIZE = re.compile(
    rf"(?:it (?:has|is) )?(at most|at least|exactly|no more than|no fewer than|no less than|fewer than|less than|more than|between)"
    rf" (\d{{1,9}})(?: and (\d{{1,9}}))? ({_UNITS})(?: long)?",
    re.IGNORECASE,
)
_HAS = re.compile(rf"(?:it |the text )?(?:contains?|mentions?|includes?|must (?:contain|mention|include)) {_WHAT}", re.IGNORECASE)
_LACKS = re.compile(
    rf"(?:it |the text )?(?:(?:does not|doesn't|must not|never|do not|don't) (?:contain|mention|include)s?|no) {_WHAT}",
    re.IGNORECASE,
)
_ENDS = re.compile(rf"(?:it |the text )?(starts|begins|ends) with {_WHAT}", re.IGNORECASE)
_LONG = re.compile(r"no sentence (?:is )?(?:longer than|has more than|of more than|over) (\d{1,6}) words", re.IGNORECASE)


def measured(instruction: str, materials: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return a critique by what can be measured.

    Raises:
        ConfigError: a criterion cannot be measured, so it needs a model.
    """
    criteria = instruction.removeprefix("Judge the text by these criteria: ")
    text = "\n".join(text for _, text in materials)
    clauses = [clause for found in _CLAUSE.findall(criteria) if (clause := found.strip(" ."))]
    issues = []
    for clause in clauses or ["nothing"]:
        judged = next(_judged(clause, text), None)
        if judged is None:
            from agent_providers.offline import SET_UP

            raise ConfigError(
                f"judging {clause[:60]!r} needs a model, and none is set up", hint=f"{SET_UP}; see --help for what can be measured"
            )
        issues += [judged] if judged else []
    score = round(1 - len(issues) / len(clauses), 2)
    return {"verdict": "fail" if issues else "pass", "score": score, "issues": issues}


def _judged(clause: str, text: str) -> Iterator[dict[str, Any]]:
    """Yield the issue that a measurable criterion finds, {} where it is met; nothing where it cannot be measured."""
    from agent_plugins.extract import plain, stands_in

    if found := _SIZE.fullmatch(clause):
        yield _size(found, text)
    if found := _LONG.fullmatch(clause):
        yield _longest(int(found[1]), text)
    if found := _HAS.fullmatch(clause):
        wanted = _quoted(found)
        yield {} if stands_in(wanted, text) else _issue("", f"the text does not contain {wanted!r}", "add it")
    if found := _LACKS.fullmatch(clause):
        unwanted = _quoted(found)
        yield _issue(unwanted, "the text contains it", "take it out") if stands_in(unwanted, text) else {}
    if found := _ENDS.fullmatch(clause):
        wanted, at_end = plain(_quoted(found)), found[1].lower() == "ends"
        met = plain(text).endswith(wanted) if at_end else plain(text).startswith(wanted)
        yield {} if met else _issue("", f"the text does not {'end' if at_end else 'begin'} with {_quoted(found)!r}", "")


def _quoted(found: re.Match[str]) -> str:
    return next(group for group in reversed(found.groups()) if group)


def _issue(quote: str, problem: str, suggestion: str) -> dict[str, Any]:
    return {"severity": "high", "quote": quote, "problem": problem, "suggestion": suggestion}


def _size(found: re.Match[str], text: str) -> dict[str, Any]:
    limit, other, unit = found[1].lower(), int(found[3] or found[2]), found[4].lower().rstrip("s")
    low, high = _range(limit, int(found[2]), other)
    count = _count(text, unit)
    if low <= count and (high is None or count <= high):
        return {}
    return _issue(
        "", f"{count} {unit}{'' if count == 1 else 's'}, wanted {limit} {found[2]}{f' and {found[3]}' if found[3] else ''}", ""
    )


def _range(limit: str, number: int, other: int) -> tuple[int, int | None]:
    match limit:
        case "at most" | "no more than":
            return 0, number
        case "fewer than" | "less than":
            return 0, number - 1
        case "more than":
            return number + 1, None
        case "exactly":
            return number, number
        case "between":
            return min(number, other), max(number, other)
    return number, None


def _count(text: str, unit: str) -> int:
    if unit == "sentence":
        from agent_plugins.extract import sentences

        return len(sentences(text))
    match unit:
        case "word":
            return len(text.split())
        case "character":
            return len(text.removesuffix("\n"))
        case "line":
            return len(text.splitlines())
    return len([block for block in re.split(r"\n[ \t]*\n", text) if block.strip()])


def _longest(limit: int, text: str) -> dict[str, Any]:
    from agent_plugins.extract import sentences

    sentence = max(sentences(text), key=lambda each: len(each.split()), default="")
    count = len(sentence.split())
    return _issue(sentence[:200], f"a sentence of {count} words, wanted at most {limit}", "cut it in two") if count > limit else {}


# --- what is said ------------------------------------------------------------------------------------------------------------


def passes(result: Any, settings: Any) -> bool:
    """Return whether the verdict is pass and no issue is as bad as `--fail-on` says."""
    found = result.structured
    if not isinstance(found, dict) or "verdict" not in found:
        return True
    limit = settings.extra.get("fail_on")
    bad = limit and any(SEVERITIES.index(issue["severity"]) >= SEVERITIES.index(limit) for issue in found["issues"])
    return found["verdict"] == "pass" and not bad


def readable(critique: dict[str, Any]) -> str:
    """Return verdict and score, then the issues, the worst first."""
    lines = [f"{critique['verdict']}, score {critique['score']:.2f}"]
    for issue in sorted(critique["issues"], key=lambda issue: -SEVERITIES.index(issue["severity"])):
        quote = f'"{issue["quote"]}": ' if issue["quote"] else ""
        lines.append(f"{issue['severity']}: {quote}{issue['problem']}")
        lines += [f"    {issue['suggestion']}"] if issue["suggestion"] else []
    aside = len(critique.get("unsupported") or ())
    lines += [f"note: {aside} more quoted words that are not in the text and were put aside"] if aside else []
    return "\n".join(lines)


agent = Agent(
    __doc__,
    SYSTEM,
    stdin="required",
    pattern=criticise,
    reply=CRITIQUE,
    options=[Option("fail-on", "end with status 3 when an issue is at least this bad", "text", choices=SEVERITIES, setting=True)],
    offline=measured,
    verdict=passes,
    render=readable,
    examples=[
        "critic 'every claim has a number; a manager understands it' < draft.md",
        "critic --fail-on medium < letter.txt",
    ],
    tags=["text", "critique", "quality", "review", "judge"],
    when_to_use="A text has to be judged against criteria before it is used or sent.",
)
main = agent.main

if __name__ == "__main__":
    main()
