"""discover - which agents there are: the modules in agents/ that define one, never a list."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("agent_core", "agent_providers", "agent_plugins", "agent_patterns", "agents")
_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Source:
    """One agent's file. `name` is the command, `module` what holds its `main`."""

    name: str
    module: str
    path: Path


def sources(folder: Path | None = None) -> list[Source]:
    """Return the agents of a checkout in the order of their names; file stem = command name (`_` is `-`)."""
    found = [(path.stem.replace("_", "-"), path) for path in ((folder or ROOT) / "agents").glob("[a-z]*.py")]
    return [Source(name, f"agents.{path.stem}", path) for name, path in sorted(found) if _NAME.fullmatch(name)]
