r"""prompt - templates, the sections of a master prompt, personas and prompt files.

Substitution is one pass over the template: `{name}` becomes a value and a value is never looked at again, so nothing a user or
a file says can add a placeholder. `{{name}}` is a literal `{name}`; any other brace (JSON) stands for itself.

    >>> fill("Hello {name}, {{name}} is {\"json\": 1}", {"name": "{x}", "age": "3"})
    Filled(text='Hello {x}, {name} is {"json": 1}', extra=('age',))
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent_core.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_PLACEHOLDER = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\}")
_LARGEST = 1024 * 1024

# The master prompt, in order. Each section is a template over its own name; one without a value is left out.
SECTIONS: dict[str, str] = {
    "goal": "{goal}",
    "tools": "You have these tools:\n\n{tools}",
    "format": "{format}",
    "exit": "{exit}",
    "examples": "Examples:\n\n{examples}",
    "history": "The conversation so far:\n\n{history}",
    "question": "Question: {question}",
    "scratchpad": "{scratchpad}",
}


@dataclass(frozen=True, slots=True)
class Filled:
    """A filled template, and the names of values that it had no place for."""

    text: str
    extra: tuple[str, ...] = ()


def placeholders(template: str) -> tuple[str, ...]:
    """Return the names a template needs, in order of appearance."""
    return tuple(dict.fromkeys(found[2] for found in _PLACEHOLDER.finditer(template) if found[2]))


def fill(template: str, values: Mapping[str, str]) -> Filled:
    """Put values into a template in one pass.

    Raises:
        ConfigError: a placeholder has no value.
    """
    names = placeholders(template)
    missing = [name for name in names if name not in values]
    if missing:
        raise ConfigError(
            f"the prompt needs a value for {_listed(missing)}", hint=f"it was given {_listed(list(values)) or 'none'}"
        )
    text = _PLACEHOLDER.sub(lambda found: values[found[2]] if found[2] else "{" + found[1] + "}", template)
    return Filled(text, tuple(name for name in values if name not in names))


def master(values: Mapping[str, str], overrides: Mapping[str, str] | None = None) -> str:
    """Return the sections that have a value, in the order of `SECTIONS`, a blank line between them.

    Args:
        values: section name to content.
        overrides: section name to template; it may use any of the values. An empty template drops the section.

    Raises:
        ConfigError: an override names no section, or needs a value that is not there.
    """
    overrides = overrides or {}
    unknown = [name for name in overrides if name not in SECTIONS]
    if unknown:
        raise ConfigError(f"there is no prompt section {_listed(unknown)}", hint=f"the sections are {_listed(list(SECTIONS))}")
    present = [name for name in SECTIONS if values.get(name)]
    filled = [fill(overrides.get(name, SECTIONS[name]), values).text for name in present]
    return "\n\n".join(text for text in filled if text)


# -- personas --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Persona:
    """Who the model is to be: name, role, tone, a system prompt and constraints."""

    name: str
    role: str = ""
    tone: str = ""
    system: str = ""
    constraints: tuple[str, ...] = ()


def personas(folders: Sequence[Path] = ()) -> dict[str, Path]:
    """Return the known personas by name: the built-in ones, then those of each folder, where a later one of the same name wins."""
    from pathlib import Path

    known: dict[str, Path] = {}
    for folder in (Path(__file__).parent / "personas", *folders):
        known |= {path.stem: path for path in sorted(folder.glob("*.toml"))}
    return known


def persona(name: str, folders: Sequence[Path] = ()) -> Persona:
    """Return a persona by name, or by path if the name has a slash or ends in .toml.

    Raises:
        UsageError: nobody knows it; the message lists the known ones.
        ConfigError: its file is not a persona.
    """
    from pathlib import Path

    if "/" in name or name.endswith(".toml"):
        path = Path(name).expanduser()
    else:
        known = personas(folders)
        if name not in known:
            raise UsageError(f'no persona "{name[:60]}"', hint="known: " + ", ".join(sorted(known)))
        path = known[name]
    return _persona(path)


def compose(who: Persona | None, instructions: str) -> str:
    """Return the system prompt of an agent that wears a persona: who it is, what it does, how it speaks, what it must keep to."""
    if who is None:
        return instructions
    parts = [
        who.system or (f"You are {who.role}." if who.role else ""),
        instructions,
        f"Tone: {who.tone}." if who.tone else "",
        "Keep to this:\n" + "\n".join(f"- {rule}" for rule in who.constraints) if who.constraints else "",
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip())


def _persona(path: Path) -> Persona:
    data = _toml(path)
    rules = data.get("constraints", [])
    texts = {key: data.get(key, default) for key, default in (("name", path.stem), ("role", ""), ("tone", ""), ("system", ""))}
    wrong = [key for key, value in texts.items() if not isinstance(value, str)]
    if not isinstance(rules, list) or not all(isinstance(rule, str) for rule in rules):
        wrong.append("constraints")
    unknown = sorted(data.keys() - texts.keys() - {"constraints"})
    if wrong or unknown:
        why = f"wrong type: {_listed(wrong)}" if wrong else f"unknown key: {_listed(unknown)}"
        raise ConfigError(
            f"{path.name} is not a persona ({why})", hint="keys: name, role, tone, system (text), constraints (list of text)"
        )
    return Persona(**texts, constraints=tuple(rules))


# -- prompt files ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PromptFile:
    """A prompt kept in a file, as it is recorded with each run: name, version (may be empty), hash of the text, the text."""

    name: str
    version: str
    sha256: str
    text: str = field(repr=False)

    def record(self) -> dict[str, str]:
        """Return what a run's first event says about it: everything but the text."""
        return {"name": self.name, "version": self.version, "sha256": self.sha256}


def load_prompts(path: Path) -> dict[str, PromptFile]:
    """Return the prompts of a file by name: a TOML file has tables `[prompts.NAME]` (version, text), any other file is one prompt.

    Raises:
        ConfigError: the file cannot be read, is too large, or is no prompt file.
    """
    if path.suffix != ".toml":
        return {path.stem: _prompt(path.stem, "", _read(path))}
    tables = _toml(path).get("prompts")
    if not isinstance(tables, dict) or not tables:
        raise ConfigError(f"{path.name} has no [prompts.NAME] table")
    return dict(_prompts(path.name, tables))


def load_prompt(spec: str) -> PromptFile:
    """Return the prompt named by `FILE` or `FILE#NAME` (the name may be left out when the file has one prompt).

    Raises:
        UsageError: the file has several prompts, or none of that name.
    """
    from pathlib import Path

    file, _, name = spec.partition("#")
    found = load_prompts(Path(file).expanduser())
    if not name and len(found) == 1:
        return next(iter(found.values()))
    if name not in found:
        raise UsageError(
            f'no prompt "{name}" in {file}' if name else f"{file} has several prompts",
            hint="say FILE#NAME; it has " + ", ".join(found),
        )
    return found[name]


def _prompts(file: str, tables: dict[str, Any]) -> Iterator[tuple[str, PromptFile]]:
    for name, table in tables.items():
        text = table.get("text") if isinstance(table, dict) else None
        version = table.get("version", "") if isinstance(table, dict) else None
        if not isinstance(text, str) or not isinstance(version, str | int | float):
            raise ConfigError(f"[prompts.{name}] in {file} needs a text", hint='version = "1" and text = """…"""')
        yield name, _prompt(name, str(version), text)


def _prompt(name: str, version: str, text: str) -> PromptFile:
    import hashlib

    return PromptFile(name, version, hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(), text)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _LARGEST:
        raise ConfigError(f"{path.name} is larger than 1 MiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name} is not UTF-8 text") from error


def _toml(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name} is not TOML: {error}") from error


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
