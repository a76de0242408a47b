"""linters - look for problems in source code without running it.

Python is checked by ruff: the code goes in on stdin, in an empty folder, with `--isolated` (no configuration of the reviewed
project counts) and `--ignore-noqa` (nor do comments that ask it to look away). Linters for other languages are named in a
configuration file:

    [linters]
    js = ["eslint", "--no-config-lookup", "--stdin", "--format", "unix"]

They get the code on stdin and print `…:LINE:COLUMN: MESSAGE` lines. As a project may name any program there, such a linter runs
only if the user allows it: `--allow shell:eslint`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_core.tool import Context, ToolError, tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SEVERITIES = ("low", "medium", "high", "critical")
PYTHON = (".py", ".pyi")
RULES = "E4,E7,E9,F,B,S,PERF,C4,SIM,PLE,ASYNC,W605"
IGNORED = "S101"  # assert is a fact of tests, not a flaw
LARGEST = 2 * 1024 * 1024
MOST = 200
SECONDS = 30.0

# rule prefix -> category, severity; the longest prefix that fits counts
_WEIGHT = {
    prefix: (category, severity)
    for category, severity, prefixes in (
        ("correctness", "high", "invalid-syntax E9 F82 PLE"),
        ("correctness", "medium", "F B S110 S112"),
        ("style", "low", "SIM F401 F541 F841"),
        ("security", "medium", "S"),
        ("security", "high", "S102 S105 S106 S107 S301 S307 S501 S506 S604 S608 S701"),
        ("security", "low", "S404 S603 S607"),
        ("security", "critical", "S602 S605"),
        ("performance", "low", "PERF C4"),
        ("performance", "medium", "ASYNC"),
    )
    for prefix in prefixes.split()
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem: where, what, how bad (one of SEVERITIES), of which kind, and the rule's name."""

    line: int
    column: int
    rule: str
    message: str
    category: str = "style"
    severity: str = "low"
    suggestion: str = ""


@tool(read_only=True, idempotent=True, timeout=SECONDS)
def run_linter(code: str, filename: str, context: Context) -> dict[str, Any]:
    """Check source code with a linter. The code is not executed.

    Args:
        code: the content of the file.
        filename: its name; the ending chooses the linter (.py: ruff).
        context: the deadline, and what the configuration names.
    """
    from dataclasses import asdict

    found = lint(code, filename, context)
    note = f"the first {MOST} of {len(found)} findings" if len(found) > MOST else ""
    return {"filename": filename, "findings": [asdict(finding) for finding in found[:MOST]], "note": note}


def lint(code: str, filename: str, context: Context | None = None) -> list[Finding]:
    """Return the linter's findings in order of appearance.

    Raises:
        ToolError: not_found: no linter is known or installed for such a file; permanent: it failed; transient: it took too long.
    """
    if len(code) > LARGEST:
        raise ToolError(f"{filename} is too long to check ({len(code)} characters, the limit is {LARGEST})")
    seconds = SECONDS if context is None else context.remaining(SECONDS)
    if filename.endswith(PYTHON):
        return _ruff(code, filename, seconds)
    ending = filename.rpartition(".")[2] if "." in filename else ""
    return sorted(_plain(_run(_configured(ending, context), code, seconds)), key=lambda finding: finding.line)


def _ruff(code: str, filename: str, seconds: float) -> list[Finding]:
    import json

    stub = "code.pyi" if filename.endswith(".pyi") else "code.py"  # the name only tells the kind; it is no option and no path
    argv = [
        _program(), "check", "--isolated", "--no-cache", "--ignore-noqa", "--quiet", "--exit-zero", "--target-version", "py311",
        "--select", RULES, "--ignore", IGNORED, "--output-format", "json", "--stdin-filename", stub, "-",
    ]  # fmt: skip
    try:
        rows = json.loads(_run(argv, code, seconds))
        return [_finding(row) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise ToolError(f"ruff answered something else than a list of findings: {error}") from None


def _finding(row: dict[str, Any]) -> Finding:
    rule = row["code"] or "invalid-syntax"
    prefixes = [prefix for prefix in _WEIGHT if rule.startswith(prefix)]
    category, severity = _WEIGHT[max(prefixes, key=len)] if prefixes else ("style", "low")
    fix = (row.get("fix") or {}).get("message") or ""
    return Finding(row["location"]["row"], row["location"]["column"], rule, row["message"], category, severity, fix)


def _program() -> str:
    """Return ruff's path: beside this interpreter, else on the PATH (entries that are not absolute do not count)."""
    import os
    import shutil
    import sys

    from agent_core.config import environ

    folders = [os.path.dirname(sys.executable), *environ().get("PATH", "").split(os.pathsep)]  # noqa: PTH120
    found = shutil.which("ruff", path=os.pathsep.join(folder for folder in folders if folder.startswith("/")))
    if found is None:
        raise ToolError("ruff, the linter for Python, is not installed (pip install ruff)", "not_found")
    return found


def _configured(ending: str, context: Context | None) -> list[str]:
    argv = context.setting(f"linters.{ending}") if context is not None and ending else None
    if argv is None or context is None:
        raise ToolError(
            f"no linter is known for {'.' + ending if ending else 'such'} files (see [linters] in the configuration)", "not_found"
        )
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
        raise ToolError(f"linters.{ending} in the configuration is not a list of words")
    import shlex

    denial = context.policy.check("run_linter", "shell", shlex.join(argv), context.workspace)
    if denial is not None:
        raise ToolError(denial.line(), "denied")
    return argv


def _run(argv: Sequence[str], code: str, seconds: float) -> str:
    """Run a linter in an empty folder with next to no environment; return what it printed."""
    import subprocess
    import tempfile

    from agent_core.config import environ

    env = {"PATH": environ().get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}
    data = code.encode("utf-8", "replace")
    try:
        with tempfile.TemporaryDirectory(prefix="lint-") as empty:
            done = subprocess.run(argv, input=data, capture_output=True, timeout=seconds, cwd=empty, env=env, check=False)
    except FileNotFoundError:
        raise ToolError(f"{argv[0]} is not installed", "not_found") from None
    except subprocess.TimeoutExpired:
        raise ToolError(f"{argv[0]} took longer than {seconds:.0f} s", "transient") from None
    out = done.stdout.decode("utf-8", "replace")
    if done.returncode and not out.strip():
        raise ToolError(f"{argv[0]} failed: {done.stderr.decode('utf-8', 'replace').strip()[:300]}")
    return out


def _plain(text: str) -> Iterator[Finding]:
    """Yield a finding for each `FILE:LINE[:COLUMN]: MESSAGE` line."""
    import re

    for found in re.finditer(r"^[^\n:]*:(\d{1,9}):(?:(\d{1,9}):)?[ \t]*(\S[^\n]*)$", text, re.MULTILINE):
        serious = "error" in found[3].lower()
        yield Finding(
            int(found[1]),
            int(found[2] or 1),
            "",
            found[3][:500],
            "correctness" if serious else "style",
            "medium" if serious else "low",
        )
