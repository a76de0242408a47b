"""closure - which installed distributions belong to the program: the dependencies in pyproject.toml and what those need.

Everything else that happens to be installed beside them (test tools, linters) stays out of the executables and of the bill of
materials.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from building.discover import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Part:
    """One distribution: its name and version, what it declares, and its files (absolute paths)."""

    name: str
    version: str
    licence: str
    summary: str
    requires: tuple[str, ...]
    files: frozenset[str]


def parts(root: Path = ROOT) -> dict[str, Part]:
    """Return the distributions by normalised name, in order. LookupError if one is not installed."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    found: dict[str, Part] = {}
    waiting = list(wanted(project["dependencies"]))
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            found[name] = _part(metadata.distribution(name))
        except metadata.PackageNotFoundError:
            raise LookupError(f"{name} is not installed (run scripts/environment dev)") from None
        waiting += found[name].requires
    return dict(sorted(found.items()))


def wanted(requirements: list[str]) -> Iterator[str]:
    """Yield the normalised names of the requirements whose markers hold here and that no extra asks for."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)


def _part(found: metadata.Distribution) -> Part:
    about = found.metadata
    licence = about.get("License-Expression") or about.get("License") or ""
    files = frozenset(str(Path(str(found.locate_file(file))).resolve()) for file in found.files or ())
    return Part(
        about["Name"], found.version, licence if len(licence) < 80 else "", about.get("Summary") or "",
        tuple(wanted(found.requires or [])), files,
    )  # fmt: skip


def top_level(part: Part) -> list[str]:
    """Return the names under which a distribution is imported."""
    base = Path(metadata.distribution(part.name).locate_file("")).resolve()  # type: ignore[arg-type]
    names = set()
    for file in part.files:
        path = Path(file)
        if path.is_relative_to(base):
            first = path.relative_to(base).parts[0]
            if first.endswith(".py") or (base / first / "__init__.py").is_file():
                names.add(first.removesuffix(".py"))
    return sorted(names)
