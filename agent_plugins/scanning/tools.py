"""tools - the scanner as a tool for models, and for `--tool scan`.

security-scanner --tool scan src --allow file-read:src
git diff | security-scanner --tool scan_text -
"""

from __future__ import annotations

from typing import Any

from agent_core.tool import Context, ToolError, tool

MOST = 200
FILES = 20_000
SECONDS = 120.0


@tool(needs={"file-read": "context"}, read_only=True, idempotent=True, timeout=SECONDS)
def scan(path: str, context: Context) -> dict[str, Any]:
    """Look for secrets and dangerous calls in a file or a folder, by fixed rules. Secrets in the answer are masked.

    Args:
        path: the file or folder.
        context: opens only what is granted.
    """
    from agent_plugins.scanning import engine, report

    skipped: list[tuple[str, str]] = []
    scans = []
    for number, loaded in enumerate(_below(path, context)):
        if number >= FILES or context.cancelled() or context.remaining(1.0) <= 0:
            raise ToolError("there is too much to scan at once; name a smaller folder", "transient")
        if loaded.skipped:
            skipped.append((loaded.path, loaded.skipped))
        else:
            scans.append(engine.scan_text(loaded.path, loaded.text))
    whole = engine.joined([*scans, report.skipped(skipped)])
    return report.value(whole, most=MOST)


def _below(path: str, context: Context) -> Any:
    from agent_plugins.scanning import sources

    try:
        context.listdir(path)
    except ToolError as error:
        if error.kind != "permanent":
            raise
        return iter([sources.file(path, context)])
    return sources.folder(path, context)


@tool(read_only=True, idempotent=True)
def scan_text(text: str, filename: str = "") -> dict[str, Any]:
    """Look for secrets and dangerous calls in a text or a unified diff, by fixed rules. Secrets in the answer are masked.

    Args:
        text: source code, configuration, or a diff (of which only added lines count).
        filename: its name; the ending tells the language.
    """
    from agent_plugins.scanning import diffs, engine, report

    name = filename or "stdin"
    found = engine.scan_diff(text) if diffs.looks_like_diff(text) else engine.scan_text(name, text)
    return report.value(engine.joined([found]), most=MOST)
