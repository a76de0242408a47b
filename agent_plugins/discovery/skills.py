"""skills - short descriptions of what can be done here, read from the user's skills folder.

    CONFIG_DIR/skills/review.toml            a card:  name = "review"
                                                      description = "review a change before it is committed"
                                                      version = "1.0"             author = "me"
                                                      capabilities = ["review", "security"]
                                                      agent = "code-reviewer"     (or tool = "AGENT:TOOL", or graph = "FILE")
    CONFIG_DIR/skills/NAME/SKILL.md          an Agent Skill: name and description of its front matter count, nothing else is read

    load(folder)         the skills that can be read, and one line for each that cannot

A skill is text from outside: it is matched and shown, never run, and no part of a prompt by itself. What it points at is looked up
in the catalogue like anything else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_core.catalogue import NAME, text_of
from agent_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LARGEST = 256 * 1024
MOST = 1000
_TEXTS = {"name": 64, "description": 1024, "version": 64, "author": 200, "agent": 64, "tool": 200, "graph": 500}
_LISTS = ("capabilities", "tags")
_TARGETS = ("agent", "tool", "graph")
_FRONT = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_KEY = re.compile(r"([A-Za-z][\w-]*):(?:[ \t]+(.*))?")


@dataclass(frozen=True, slots=True)
class Skill:
    """One skill. `target` is what it points at, as (agent, tool or graph; its name), or ("", "")."""

    name: str
    description: str
    version: str = ""
    author: str = ""
    capabilities: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    target: tuple[str, str] = ("", "")
    path: str = ""


def load(folder: Path) -> tuple[list[Skill], list[str]]:
    """Return the skills of a folder by name, and one line for each file that is none. A folder that is not there is empty."""
    skills: dict[str, Skill] = {}
    problems: list[str] = []
    for path in _files(folder):
        shown = path.relative_to(folder).as_posix()
        try:
            made = _card(path) if path.suffix == ".toml" else _agent_skill(path)
        except InputError as error:
            problems.append(f"{shown}: {error}")
            continue
        if skills.setdefault(made.name, made) is not made:
            problems.append(f"{shown}: there is another skill {made.name}")
    return sorted(skills.values(), key=lambda skill: skill.name), problems


def _files(folder: Path) -> list[Path]:
    try:
        found = sorted(folder.iterdir())[:MOST]
    except OSError:
        return []
    cards = [path for path in found if path.suffix == ".toml"]
    return [*cards, *(path / "SKILL.md" for path in found if (path / "SKILL.md").exists())]


# -- cards -------------------------------------------------------------------------------------------------------------------------


def _card(path: Path) -> Skill:
    import tomllib

    try:
        data = tomllib.loads(text_of(path, LARGEST))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"not TOML: {error}") from None
    unknown = sorted(key for key in data if key not in _TEXTS and key not in _LISTS)
    if unknown:
        raise InputError(f"unknown key {', '.join(key[:40] for key in unknown[:5])}")
    return _skill(data, path)


def _skill(data: Mapping[str, Any], path: Path) -> Skill:
    problems = [*_missing(data), *_unfit(data)]
    targets = [(key, data[key]) for key in _TARGETS if data.get(key)]
    if len(targets) > 1:
        problems.append(f"points at more than one thing ({', '.join(key for key, _ in targets)})")
    if problems:
        raise InputError("; ".join(problems))
    capabilities, tags = (tuple(data.get(key, ())) for key in _LISTS)
    return Skill(
        data["name"], " ".join(data["description"].split()), data.get("version", ""), data.get("author", ""), capabilities, tags,
        (targets or [("", "")])[0], str(path),
    )  # fmt: skip


def _missing(data: Mapping[str, Any]) -> Iterator[str]:
    for key in ("name", "description"):
        if not data.get(key):
            yield f"{key} is missing"


def _unfit(data: Mapping[str, Any]) -> Iterator[str]:
    for key, most in _TEXTS.items():
        if key in data and not (isinstance(data[key], str) and len(data[key]) <= most):
            yield f"{key} is no text of at most {most} characters"
    for key in _LISTS:
        value = data.get(key, [])
        if (
            not isinstance(value, list)
            or len(value) > 64
            or not all(isinstance(item, str) and 0 < len(item) <= 100 for item in value)
        ):
            yield f"{key} is no list of words"
    named = [data[key] for key in ("name", "agent") if isinstance(data.get(key), str) and data[key]]
    if not all(NAME.fullmatch(name) for name in named):
        yield "a name is lower-case letters, digits and dashes"


# -- SKILL.md ----------------------------------------------------------------------------------------------------------------------


def _agent_skill(path: Path) -> Skill:
    front = _FRONT.match(text_of(path, LARGEST))
    if front is None:
        raise InputError("no front matter between --- lines")
    found = dict(_front(front[1]))
    made = _skill({key: found[key] for key in ("name", "description") if key in found}, path)
    if made.name != path.parent.name:
        raise InputError(f"the name {made.name} is not that of its folder")
    return made


def _front(text: str) -> Iterator[tuple[str, str]]:
    """Yield the top-level keys of front matter with their texts: plain, quoted or block scalars. Other YAML is passed over."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        found = _KEY.fullmatch(line.rstrip())
        if found is None:
            continue
        below = []
        for more in lines[at + 1 :]:
            if more.strip() and not more.startswith((" ", "\t")):
                break
            below.append(more.strip())
        value = (found[2] or "").strip()
        if found[1] in {"name", "description"}:
            yield found[1], _scalar(value, below)


def _scalar(value: str, below: list[str]) -> str:
    """Return what a YAML scalar says. InputError for what is none, or a form that is not read here."""
    if re.fullmatch(r"[|>][+-]?\d?", value):
        return " ".join(line for line in below if line)
    whole = " ".join([value, *(line for line in below if line)])
    if whole[:1] in {'"', "'"}:
        return _quoted(whole)
    if whole[:1] in set("&*!{[%@`|>#"):
        raise InputError(f"front matter of a form that is not read here: {whole[:40]}")
    if ": " in whole:
        raise InputError(f"a text with a colon needs quotes: {whole[:40]}")
    return whole.partition(" #")[0].strip()


def _quoted(text: str) -> str:
    mark = text[0]
    inner = re.fullmatch(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?' if mark == '"' else r"'((?:[^']|'')*)'\s*(?:#.*)?", text)
    if inner is None:
        raise InputError(f"a quoted text does not end: {text[:40]}")
    if mark == "'":
        return inner[1].replace("''", "'")
    import json

    try:
        return str(json.loads(f'"{inner[1]}"'))
    except ValueError:
        raise InputError(f"a quoted text cannot be read: {text[:40]}") from None
