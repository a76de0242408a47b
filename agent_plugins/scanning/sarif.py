"""sarif - findings as a SARIF 2.1.0 log (OASIS standard; the schema is checked in tests).

Paths become percent-encoded URIs: relative ones against %SRCROOT%. Columns count Unicode code points. Accepted findings are there
with a suppression. Snippets are masked, and the log says by which mark (`redactionTokens`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from agent_plugins.scanning.report import bytes_of
from agent_plugins.scanning.rules import Rule, find_rule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent_plugins.scanning.engine import Finding, Scan

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS = {"high": "error", "medium": "warning", "low": "note"}
# CVSS-like numbers by which code-scanning services sort (high from 7.0, medium from 4.0)
SCORES = {"high": "8.0", "medium": "5.5", "low": "3.0"}


def log(scan: Scan, name: str, version: str, explanations: Mapping[str, Mapping[str, str]] | None = None) -> dict[str, Any]:
    """Return the log of one scan."""
    rules = list(dict.fromkeys(finding.rule for finding in scan.findings))
    driver = {"name": name, "semanticVersion": version, "rules": [_rule(find_rule(each)) for each in rules]}
    notes = [{"level": "warning", "message": {"text": _plain(note)}} for note in (*scan.missed, *scan.notes)]
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "redactionTokens": ["[secret]", "[redacted]"],
        "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "The folder in which the scanner was started."}}},
        "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notes}],
        "results": [_result(each, rules, (explanations or {}).get(each.id, {})) for each in scan.findings],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.message},
        "fullDescription": {"text": rule.why},
        "help": {"text": rule.fix},
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
        "properties": {
            "tags": ["security", rule.kind, f"external/cwe/cwe-{rule.cwe:03d}"],
            "security-severity": SCORES[rule.severity],
            "precision": "high",
        },
    }


def _result(finding: Finding, rules: Sequence[str], explained: Mapping[str, str]) -> dict[str, Any]:
    region = {
        "startLine": finding.line, "startColumn": finding.column, "endLine": finding.end_line,
        "endColumn": max(1, finding.end_column),
        "snippet": {"text": _plain(finding.excerpt)},
    }  # fmt: skip
    made: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": rules.index(finding.rule),
        "level": LEVELS[finding.severity],
        "message": {"text": _plain(". ".join([finding.message, *explained.values()]) if explained else finding.message)},
        "locations": [{"physicalLocation": {"artifactLocation": _artifact(finding.path), "region": region}}],
        "partialFingerprints": {"securityScanner/v1": finding.fingerprint},
        "properties": {"severity": finding.severity},
    }
    if finding.accepted:
        kind = "inSource" if finding.by == "comment" else "external"
        made["suppressions"] = [{"kind": kind, "justification": _plain(finding.accepted)}]
    return made


def _artifact(path: str) -> dict[str, str]:
    uri = quote(bytes_of(path), safe="/")
    if path.startswith("/"):
        return {"uri": f"file://{uri}"}
    return {"uri": f"./{uri}" if ":" in path.partition("/")[0] else uri, "uriBaseId": "%SRCROOT%"}


def _plain(text: str) -> str:
    r"""Return a text that any JSON reader takes: bytes that were not UTF-8 are shown as \\xNN."""
    return bytes_of(text).decode("utf-8", "backslashreplace")
