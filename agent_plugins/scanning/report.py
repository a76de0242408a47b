"""report - findings as lines for people and editors, and as data for scripts.

app.py:5:1 high python-shell A shell runs computed text
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agent_plugins.scanning.rules import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent_plugins.scanning.engine import Finding, Scan

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F)} | {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}
_FIELDS = ("id", "rule", "severity", "path", "line", "column", "end_line", "end_column", "message", "excerpt", "fingerprint")


def path_text(path: str) -> str:
    """Return a path in one line of UTF-8: control characters and bytes that are none are written as escapes."""
    return bytes_of(path).decode("utf-8", "backslashreplace").translate(_CONTROL)


def bytes_of(path: str) -> bytes:
    """Return the bytes of a name: those it was read from, or escapes for characters that no name on disk can have."""
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:
        return path.encode("utf-8", "backslashreplace")


def lines(scan: Scan, explanations: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """Return the findings that count, one a line, what explains each beneath it, and a line that sums up."""
    out: list[str] = []
    for finding in counting(scan.findings):
        place = f"{path_text(finding.path)}:{finding.line}:{finding.column}"
        out.append(f"{place} {finding.severity} {finding.rule} {finding.message}")
        explained = (explanations or {}).get(finding.id, {})
        out += [f"    {text}" for text in (explained.get("explanation"), explained.get("fix")) if text]
    return "\n".join([*out, summary(scan)])


def counting(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that nobody accepted."""
    return [finding for finding in findings if not finding.accepted]


def summary(scan: Scan) -> str:
    """Return one line: how many findings of which severity in how many files, and how many were accepted."""
    found = counting(scan.findings)
    by_severity = Counter(finding.severity for finding in found)
    parts = ", ".join(f"{by_severity[each]} {each}" for each in reversed(SEVERITIES) if by_severity[each])
    text = f"{_count(len(found), 'finding')} ({parts})" if found else "no findings"
    accepted = Counter(finding.by for finding in scan.findings if finding.accepted)
    more = [
        f"{accepted[by]} accepted by {words}"
        for by, words in (("comment", "a comment"), ("baseline", "the baseline"))
        if accepted[by]
    ]
    return "; ".join([f"{text} in {_count(scan.files, 'file')}", *more])


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def value(scan: Scan, explanations: Mapping[str, Mapping[str, str]] | None = None, most: int = 0) -> dict[str, Any]:
    """Return the report as JSON data; with `most`, only so many findings, and `left_out` says how many more there are."""
    found = counting(scan.findings)
    shown = found[:most] if most else found
    severities = Counter(finding.severity for finding in found)
    return {
        "findings": [{**_row(each), **(explanations or {}).get(each.id, {})} for each in shown],
        "accepted": [{**_row(each), "by": each.by, "reason": each.accepted} for each in scan.findings if each.accepted][
            : most or None
        ],
        "counts": {each: severities[each] for each in SEVERITIES},
        "files": scan.files,
        "left_out": len(found) - len(shown),
        "missed": [path_text(text) for text in scan.missed],
        "notes": [path_text(note) for note in scan.notes],
    }


def _row(finding: Finding) -> dict[str, Any]:
    whole = asdict(finding)
    return {name: path_text(whole[name]) if name == "path" else whole[name] for name in _FIELDS}


def merged(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return several reports (as `value` makes them) as one, findings numbered anew."""
    found = [row for each in values for row in each["findings"]]
    return {
        "findings": [{**row, "id": f"F{number}"} for number, row in enumerate(found, 1)],
        "accepted": [row for each in values for row in each["accepted"]],
        "counts": {level: sum(each["counts"][level] for each in values) for level in SEVERITIES},
        **{name: sum(each[name] for each in values) for name in ("files", "left_out")},
        **{name: [text for each in values for text in each[name]] for name in ("missed", "notes")},
    }


def lines_of(report: Mapping[str, Any]) -> str:
    """Return a report as lines."""
    rows = [
        f"{row['path']}:{row['line']}:{row['column']} {row['severity']} {row['rule']} {row['message']}"
        for row in report["findings"]
    ]
    more = [f"{report['left_out']} more findings"] if report["left_out"] else []
    return "\n".join([*rows, *more, *report["missed"]]) or "no findings"


def skipped(given: Sequence[tuple[str, str]]) -> Scan:
    """Return what was not read as a scan of nothing: kinds that are expected are counted, anything else was missed."""
    from agent_plugins.scanning.engine import Scan

    kinds = Counter(why for _, why in given)
    said = [
        f"{_count(kinds[kind], word)} skipped"
        for kind, word in (("binary", "binary file"), ("link", "symbolic link"))
        if kinds[kind]
    ]
    missed = [f"{path_text(path)}: not scanned, {path_text(why)}" for path, why in given if why not in {"binary", "link", "gone"}]
    return Scan(notes=tuple(said), missed=tuple(missed))
