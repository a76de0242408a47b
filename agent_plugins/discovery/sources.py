"""sources - where agents are found: the user's catalogue, the nearest AGENTS.md, folders named in the configuration, skills.

    found = gather(settings, store)          found.candidates to match, found.problems to report

    [discovery]                              # in the user file (or a project file that the user trusts)
    paths = ["~/agents/bin"]                 # cards NAME.card.json in there are read

Reading is all that happens: no program is started or even opened. Of entries with one name the catalogue's wins, then AGENTS.md's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_core import catalogue
from agent_core.errors import ConfigError
from agent_plugins.discovery import live, match
from agent_plugins.discovery.match import Candidate, Capability

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent_core.catalogue import Entry
    from agent_core.store import Store
    from agent_plugins.discovery.live import Advertisement
    from agent_plugins.discovery.skills import Skill


@dataclass(frozen=True, slots=True)
class Found:
    """What there is: candidates by name, and one line for each card or skill that cannot be read."""

    candidates: tuple[Candidate, ...] = ()
    problems: tuple[str, ...] = ()

    def named(self, name: str) -> Candidate | None:
        """Return the agent or program of that name, else the skill, or None."""
        return next((each for each in self.candidates if each.name == name), None)


def gather(settings: Any, store: Store | None = None, *, figures: bool = False) -> Found:
    """Return all candidates. `figures`: with latency and cost measured from the runs in the store.

    Args:
        settings: the run's settings: data_dir, workspace, environment.
        store: where live rows and runs are; None when there is none.
        figures: whether to measure.
    """
    entries, problems = entries_of(settings)
    resident = {row.agent_name: row for row in live.rows(store)} if store is not None else {}
    found = [of_entry(entry, resident.get(entry.name)) for entry in entries]
    known = {entry.name for entry in entries}
    found += [_of_row(row) for name, row in sorted(resident.items()) if name not in known]
    skilled, more = skills_of(settings)
    found += [of_skill(skill, {each.name: each for each in found}) for skill in skilled]
    if figures and store is not None:
        found = [_measured(each, store) for each in found]
    return Found(tuple(found), (*problems, *more))


def entries_of(settings: Any) -> tuple[list[Entry], list[str]]:
    """Return the entries of all sources by name, the best source's for each, and what could not be read."""
    read = [catalogue.read(settings.data_dir), catalogue.listed(settings.workspace or ".")]
    read += [catalogue.cards(folder) for folder in folders(settings)]
    best: dict[str, Entry] = {}
    for entries, _ in read:
        for entry in entries:
            best.setdefault(entry.name, entry)
    return [best[name] for name in sorted(best)], [problem for _, problems in read for problem in problems]


def folders(settings: Any) -> list[str]:
    """Return the folders named by `discovery.paths` in the configuration files that the user vouches for.

    Raises:
        ConfigError: the setting is no list of paths.
    """
    from agent_core import config

    named: list[str] = []
    for file in config.config_files(settings.environment, str(Path(settings.workspace or ".").absolute())):
        table = file.data.get("discovery")
        if table is None or not file.trusted:
            continue
        paths = table.get("paths", []) if isinstance(table, dict) else None
        if not isinstance(paths, list) or not all(isinstance(path, str) and path and "\0" not in path for path in paths):
            raise ConfigError(f"{file.path}: discovery.paths must be a list of folders", hint='paths = ["~/agents/bin"]')
        named += [str(Path(file.path).parent / Path(path).expanduser()) for path in paths]
    return list(dict.fromkeys(named))


def skills_of(settings: Any) -> tuple[list[Skill], list[str]]:
    """Return the skills of the user's skills folder, and what could not be read."""
    from agent_plugins.discovery import skills

    return skills.load(skills_folder(settings))


def skills_folder(settings: Any) -> Path:
    """Return the folder of the user's skills."""
    from agent_core import config

    return Path(config.user_dir(settings.environment)) / "skills"


def of_entry(entry: Entry, row: Advertisement | None = None) -> Candidate:
    """Return an entry as a candidate; the health of a resident agent is what it says, else whether there is a program at all."""
    card = entry.card
    health = row.health if row is not None else health_of(entry)
    return Candidate(
        entry.name, entry.description, match.tags_of(card), match.capabilities_of(card), health, kind=entry.kind,
        source=entry.source, entry=entry,
    )  # fmt: skip


def health_of(entry: Entry) -> str:
    """Return healthy when the program exists and may be run (the card was checked when it was read), else unhealthy or unknown."""
    if not entry.argv:
        return "unknown"
    there = Path(entry.program).is_file() and os.access(entry.argv[0], os.X_OK)
    return "healthy" if there else "unhealthy"


def _of_row(row: Advertisement) -> Candidate:
    tags = tuple(row.capabilities)
    return Candidate(
        row.agent_name, f"resident agent at {row.endpoint}" if row.endpoint else "", tags, health=row.health, source="live"
    )


def of_skill(skill: Skill, known: Mapping[str, Candidate]) -> Candidate:
    """Return a skill as a candidate. What it points at decides whether it can be used; one that is text alone is healthy."""
    agent = skill.target[1].partition(":")[0] if skill.target[0] in {"agent", "tool"} else ""
    target = known.get(agent)
    return Candidate(
        skill.name, skill.description, skill.tags or skill.capabilities, tuple(Capability(each) for each in skill.capabilities),
        target.health if target is not None else "unknown" if agent else "healthy", kind="skill", source="skills",
        entry=target.entry if target is not None else None,
    )  # fmt: skip


def _measured(candidate: Candidate, store: Store) -> Candidate:
    name = candidate.entry.name if candidate.entry is not None else candidate.name
    latency, cost = live.measured(store, name)
    return replace(candidate, latency_ms=latency, cost_usd=cost)


def problem_lines(problems: Iterable[str]) -> Sequence[str]:
    """Return the problems as they may be shown: file names and cards are anybody's text."""
    from agent_core import terminal

    return [terminal.clean(problem, keep_newlines=False)[:300] for problem in problems]
