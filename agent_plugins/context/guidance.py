"""guidance - AGENTS.md and SKILL.md of the working tree as instructions, only where the person asks for them (--instructions).

Such files come with a folder that may be somebody else's, so nothing reads them by itself: the flag is the person's word that they
may speak. What the suite itself wrote into AGENTS.md (the list of agents, with texts of their cards) is data and is taken out.
"""

from __future__ import annotations

import os
import re

from agent_core import beneath
from agent_core.catalogue import BEGIN, END
from agent_core.task import unmarked

from .gather import as_text, shown
from .ignored import top_of

LIMIT = 64 * 1024
FILES = ("AGENTS.md", "SKILL.md")
_LIST = re.compile(re.escape(BEGIN) + r"[\s\S]*?(?:" + re.escape(END) + r"|\Z)")


def guidance(folder: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Return ([(path, text), …], problems): AGENTS.md from the top of the tree down to the folder, SKILL.md of the folder."""
    here = os.path.realpath(folder)
    top = top_of(here)
    steps = [] if here == top else os.path.relpath(here, top).split("/")
    folders = [top, *(os.path.join(top, *steps[: count + 1]) for count in range(len(steps)))]  # noqa: PTH118 - names only
    places = [*((each, FILES[0]) for each in folders), (here, FILES[1])]
    found: list[tuple[str, str]] = []
    problems: list[str] = []
    for where, name in places:
        path = os.path.relpath(f"{where}/{name}", here)
        try:
            data = beneath.read(where, name, 0, LIMIT + 1, links=False)
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(f"{shown(path)}: {error.strerror}")
            continue
        text = as_text(data)
        if text is None or len(data) > LIMIT:
            problems.append(f"{shown(path)}: {'no text' if text is None else f'larger than {LIMIT} bytes'}")
        elif (plain := _LIST.sub("", text).strip()) != "":
            found.append((shown(path), plain))
    return found, problems


def told(files: list[tuple[str, str]]) -> str:
    """Return the words that put the files before the model: the person's own, not material."""
    return "\n\n".join(
        f"I ask you to keep to the guidance of {path} of this working tree:\n\n{unmarked(text)}" for path, text in files
    )
