"""code-reviewer - find security, performance, style and correctness problems in a diff or a file.

    git diff | code-reviewer --fail-on high
    code-reviewer -f app.py --json | jq .data.structuredContent.issues

Material is a unified diff or source code. Findings come with a severity (low, medium, high, critical), and `--fail-on SEVERITY`
ends with status 3 when one is at least that bad. Python is checked by ruff, which never executes what it reads and ignores the
reviewed project's configuration. Without a model the review consists of the linter's findings, and says so.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from agent_core import Agent, ToolError
from agent_core.errors import Failed
from agent_core.options import Option
from agent_plugins.linters import PYTHON, SEVERITIES, lint, run_linter
from agent_plugins.tools.files import file_read

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SYSTEM = """You review code. The material is a unified diff or source files; of a diff, review what was added.
Look for problems of security, performance, style and correctness. Run run_linter on Python code first and weigh what it says.
Read other files (file_read) only where you need them to judge. Report what you can point at, not what might be.
Line numbers are those of the new file. Score: 100 is flawless, 0 must not be merged.
Answer with one JSON object and nothing else:
{"issues": [{"severity": "low|medium|high|critical", "category": "security|performance|style|correctness", "file": "…", "line": 1,
"message": "what is wrong", "suggestion": "what to do"}], "suggestions": ["…"], "score": 0}"""

WEIGHT = {"low": 2, "medium": 8, "high": 20, "critical": 40}
# what a part of a file cannot be blamed for: names, imports and scopes that lie outside
PARTIAL = re.compile(r"F401|F404|F70|F811|F82|F841|PLE0118|PLE1142|B018|invalid-syntax|E402|ASYNC")
CODE = re.compile(r"^(?:import |from \S+ import |(?:async )?def \w+\(|class \w+|@\w+|if __name__)", re.MULTILINE)
LONGEST = 65536  # characters that are read to tell code from prose
HUNK = re.compile(r"@@ -\d{1,9}(?:,\d{1,9})? \+(\d{1,9})(?:,(\d{1,9}))? @@")
DIFF = re.compile(r"^(?:diff --git |--- \S.*\n\+\+\+ \S)", re.MULTILINE)


class Piece(NamedTuple):
    """Code to check: `lines[i]` is the number in the new file of line i+1; `added` are those that count. `whole`: all of a file."""

    file: str
    code: str
    lines: Sequence[int]
    added: frozenset[int]
    whole: bool


def __getattr__(name: str) -> Any:
    """Make the reply model when it is asked for: pydantic is not imported before an answer is there."""
    if name != "Review":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from typing import Literal

    from pydantic import BaseModel, Field

    class Issue(BaseModel):
        severity: Literal["low", "medium", "high", "critical"]
        category: Literal["security", "performance", "style", "correctness"]
        file: str = ""
        line: int | None = None
        message: str = Field(min_length=1)
        suggestion: str = ""

    class Review(BaseModel):
        issues: list[Issue]
        suggestions: list[str] = []
        score: int = Field(ge=0, le=100)

    return Review


def review_offline(instruction: str, materials: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return a review made of linter findings alone.

    Raises:
        Failed: there is nothing in the material that a linter here knows.
    """
    given = list(materials) or [("stdin", instruction)]
    issues: list[dict[str, Any]] = []
    notes = ["Reviewed without a model: these are linter findings only."]
    checked = 0
    for piece in (piece for origin, text in given for piece in pieces(origin, text)):
        try:
            issues += _issues(piece)
            checked += 1
        except ToolError as error:
            notes.append(f"{piece.file}: not reviewed, {error}")
    if not checked and (len(notes) > 1 or not all(DIFF.search(text) for _, text in given)):
        why = "; ".join(notes[1:4]) or "the material is neither a diff nor Python code"
        raise Failed(f"cannot review this without a model: {why}", hint="set OPENAI_API_KEY, … or --provider")
    if not checked:
        notes.append("The diff adds nothing.")
    score = max(0, 100 - sum(WEIGHT[issue["severity"]] for issue in issues))
    return {"issues": issues, "suggestions": list(dict.fromkeys(notes)), "score": score}


def pieces(origin: str, text: str) -> Iterator[Piece]:
    """Yield what there is to check in one material: the files of a diff in pieces, or the file itself."""
    if DIFF.search(text):
        yield from _diff(text)
    elif "." in origin.rpartition("/")[2] or _is_python(text):
        numbers = range(1, text.count("\n") + 2)
        yield Piece(origin, text, numbers, frozenset(numbers), whole=True)


def _is_python(text: str) -> bool:
    """Tell code from prose: it has lines that only code has, or it parses and is more than a few words."""
    if CODE.search(text):
        return True
    import ast

    try:
        found = ast.parse(text[:LONGEST]).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in found)


def _diff(text: str) -> Iterator[Piece]:
    file, new = "", False
    lines = iter(text.split("\n"))
    for line in lines:
        if line.startswith("--- "):
            new = line[4:].strip() == "/dev/null"
        elif line.startswith("+++ "):
            file = _name(line[4:])
        elif file and (found := HUNK.match(line)) is not None:
            yield _hunk(file, int(found[1]), int(found[2] or 1), lines, new)


def _hunk(file: str, first: int, count: int, lines: Iterable[str], new: bool) -> Piece:
    code: list[str] = []
    added = set()
    for line in lines if count else ():
        if line[:1] in {"-", "\\"}:
            continue
        if line[:1] == "+":
            added.add(first + len(code))
        code.append(line[1:])
        if len(code) >= count:
            break
    numbers = list(range(first, first + len(code)))
    if new:
        return Piece(file, "\n".join([*code, ""]), numbers, frozenset(added), whole=True)
    frame = _frame(code)
    return Piece(file, "\n".join([*frame, *code, ""]), [0] * len(frame) + numbers, frozenset(added), whole=False)


def _frame(code: Sequence[str]) -> list[str]:
    """Return lines that make an indented piece a program of its own."""
    first = next((line for line in code if line.strip()), "")
    indent = len(first) - len(first.lstrip(" "))
    return [" " * level + ("while True:" if level else "async def piece():") for level in range(0, indent, 4)]


def _name(text: str) -> str:
    """Return the file's name from a `+++` line."""
    name = text.split("\t", 1)[0].strip().strip('"')
    return "" if name == "/dev/null" else name.removeprefix("b/")


def _issues(piece: Piece) -> list[dict[str, Any]]:
    name = piece.file if "." in piece.file.rpartition("/")[2] else f"{piece.file}.py"
    if not name.endswith(PYTHON):
        raise ToolError("no linter for such files without a model")
    found = []
    for finding in lint(piece.code, name):
        line = piece.lines[finding.line - 1] if 0 < finding.line <= len(piece.lines) else 0
        if piece.whole and not line and piece.lines:
            line = piece.lines[-1]  # an error at the very end of the file
        elif not piece.whole and finding.rule == "invalid-syntax":
            raise ToolError("a part of it cannot be read on its own; review the whole file")
        if line in piece.added and (piece.whole or not PARTIAL.match(finding.rule)):
            found.append({
                "severity": finding.severity, "category": finding.category, "file": piece.file, "line": line,
                "message": f"{finding.message} ({finding.rule})", "suggestion": finding.suggestion,
            })  # fmt: skip
    return found


def passes(result: Any, settings: Any) -> bool:
    """Return whether no issue is as bad as `--fail-on` says."""
    limit = settings.extra.get("fail_on")
    if not limit or not result.structured:
        return True
    worst = SEVERITIES.index(limit)
    return all(SEVERITIES.index(issue["severity"]) < worst for issue in result.structured["issues"])


def readable(review: dict[str, Any]) -> str:
    """Return the review as lines that editors understand: file:line: severity category: message."""
    lines = []
    for issue in sorted(review["issues"], key=lambda issue: -SEVERITIES.index(issue["severity"])):
        place = f"{issue['file'] or '-'}:{issue['line'] or 0}"
        lines.append(f"{place}: {issue['severity']} {issue['category']}: {issue['message']}")
        if issue["suggestion"]:
            lines.append(f"    {issue['suggestion']}")
    if not lines:
        lines.append("no issues found")
    return "\n".join([*lines, *(f"note: {text}" for text in review["suggestions"]), f"score: {review['score']}/100"])


agent = Agent(
    __doc__,
    SYSTEM,
    tools=[file_read, run_linter],
    reply="agents.code_reviewer:Review",
    options=[Option("fail-on", "end with status 3 when an issue is at least this bad", "text", choices=SEVERITIES, setting=True)],
    offline=review_offline,
    verdict=passes,
    render=readable,
    examples=["git diff | code-reviewer --fail-on high", "code-reviewer -f app.py --json"],
    tags=["code", "review", "security", "quality"],
    when_to_use="A diff or source file has to be checked for problems before it is merged.",
)
main = agent.main

if __name__ == "__main__":
    main()
