"""baseline - findings that are known and accepted, kept in a file, so that only new ones count.

    {"schema": "security-baseline/1", "findings": [{"fingerprint": "…", "rule": "…", "path": "…"}]}

A fingerprint says which rule, which file and which masked line; it survives moved lines. It holds twelve bits of the secret's hash:
another secret in the same place is a new finding (but for one in 4096), and nobody can guess a weak one by it.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from agent_core.errors import Failed, InputError, MissingInput
from agent_plugins.scanning.report import bytes_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from agent_plugins.scanning.engine import Finding

SCHEMA = "security-baseline/1"
_LARGEST = 64 * 1024 * 1024


def read(path: str) -> frozenset[str]:
    """Return the fingerprints in a baseline file.

    Raises:
        MissingInput: it cannot be read.
        InputError: it is no baseline.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - the path as given, bytes and all
            found = json.loads(file.read(_LARGEST))
    except OSError as error:
        raise MissingInput(f"cannot read the baseline {path}: {error.strerror}", hint="make one with --write-baseline") from None
    except (ValueError, RecursionError):
        found = None
    rows = found.get("findings") if isinstance(found, dict) and found.get("schema") == SCHEMA else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and isinstance(row.get("fingerprint"), str) for row in rows):
        raise InputError(f"{path} is no baseline", hint="make one with --write-baseline")
    return frozenset(row["fingerprint"] for row in rows)


def accept(findings: Iterable[Finding], known: Collection[str]) -> list[Finding]:
    """Return the findings, those in the baseline marked as accepted."""
    return [
        replace(each, accepted="known", by="baseline") if each.fingerprint in known and not each.accepted else each
        for each in findings
    ]


def text_of(findings: Iterable[Finding]) -> str:
    """Return the content of a baseline of all findings that no comment accepts."""
    rows = sorted({(each.path, each.rule, each.fingerprint) for each in findings if each.by != "comment"})
    kept = [
        {"fingerprint": mark, "rule": rule, "path": bytes_of(path).decode("utf-8", "backslashreplace")} for path, rule, mark in rows
    ]
    return json.dumps({"schema": SCHEMA, "findings": kept}, indent=1) + "\n"


def write(path: str, findings: Iterable[Finding]) -> int:
    """Write a baseline in one step; return how many findings it holds. Failed if it cannot be written."""
    from pathlib import Path

    text = text_of(findings)
    target = Path(path)
    temporary = target.with_name(f".{target.name[:100]}.{os.urandom(6).hex()}.tmp")
    try:
        temporary.write_text(text, "utf-8")
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise Failed(f"cannot write the baseline {path}: {error.strerror}", hint="name a file that can be written") from None
    return text.count('"fingerprint"')
