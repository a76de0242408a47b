"""register - write what agents say of themselves where others look: the user's catalogue and the block in AGENTS.md.

The forms are agent_core.catalogue's. Only what has answered is registered; nothing outside the markers of AGENTS.md is touched.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_core import catalogue
from agent_core.catalogue import Entry
from building.discover import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from building.bake import Baked


@dataclass(frozen=True, slots=True)
class Answered:
    """An agent that answered, and how it is started: argv whose last word is the program (or the script of an interpreter)."""

    name: str
    card: Any
    argv: tuple[str, ...]
    source: str


def of_checkout(baked: Baked, out: Path | None = None) -> Answered:
    """Return how an agent is started: its executable in `out` if the build made one of this very card, else its file."""
    program = None if out is None else (out / baked.source.name).absolute()
    if program is not None and program.is_file() and _same_card(program, baked.card):
        return Answered(baked.source.name, baked.card, (str(program),), "build")
    return Answered(baked.source.name, baked.card, (sys.executable, str(baked.source.path.absolute())), "checkout")


def _same_card(program: Path, card: Any) -> bool:
    import json

    try:
        return bool(json.loads(program.with_name(f"{program.name}.card.json").read_bytes())["digest"] == card["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def register(answered: Iterable[Answered], data_dir: str, folder: Path = ROOT) -> list[str]:
    """Write an entry for each, remove entries of this folder whose program is gone; return one line for each change."""
    lines = []
    for each in answered:
        entry = catalogue.entry_of(each.name, each.argv, each.card, each.source)
        if catalogue.write(data_dir, entry):
            lines.append(f"registered {each.name}: {' '.join(each.argv)}")
    entries, _ = catalogue.read(data_dir)
    for entry in entries:
        ours = entry.source in {"build", "checkout"} and Path(entry.program).is_relative_to(folder.absolute())
        if ours and not Path(entry.program).exists() and catalogue.forget(data_dir, entry.name):
            lines.append(f"removed {entry.name}: its program is gone")
    return lines


def block(path: Path, baked: Sequence[Baked], names: Iterable[str]) -> str:
    """Return the text that AGENTS.md should have: a line for each agent of `names`, the card's if it answered, else the old one."""
    text = text_of(path)
    old = {line.name: line for line in catalogue.read_block(text)}
    cards = {each.source.name: each.card for each in baked if not each.problem}
    entries = []
    for name in sorted(set(names)):
        program = (str((path.parent / "bin" / name).absolute()),)
        if name in cards:
            entries.append(Entry(name, program, card=cards[name]))
        elif name in old:
            entries.append(Entry(name, program, card={"description": old[name].purpose, "tags": list(old[name].tags)}))
    return catalogue.with_block(text, entries, path.parent)


def text_of(path: Path) -> str:
    """Return the text of AGENTS.md, its line ends as they are; "" if there is none."""
    return path.read_bytes().decode("utf-8", "surrogateescape") if path.is_file() else ""


def write_block(path: Path, text: str) -> bool:
    """Write AGENTS.md in one step if the text is another; return whether it was."""
    if text_of(path) == text:
        return False
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(text.encode("utf-8", "surrogateescape"))
    if path.exists():
        part.chmod(path.stat().st_mode & 0o777)
    part.replace(path)
    return True
