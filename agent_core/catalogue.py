r"""catalogue - the agents that are registered here: looked up by name, read from cards, written as files.

    find("code-reviewer", data_dir)        the registered entry: argv, card, hash of the program; checked, ready to be called
    read(data_dir)                         all entries of the user's catalogue, and what is wrong with the others
    block(entries)                         the generated block of AGENTS.md; `read_block(text)` reads it back
    listed(folder)                         what the nearest AGENTS.md upward lists; `cards(folder)`: the cards in a folder

An entry is a file `DATA_DIR/catalogue/NAME.json`, schema `catalogue-entry/1`: {schema, name, argv (absolute words), sha256, card,
registered, source (build, adopt or checkout)}. `sha256` is the hash of the file that the last word of argv names: the program, or
the script that an interpreter is given. Only such an entry can be called, and only while the hash is right. AGENTS.md and cards in
folders can be found and read; they come with the folder one stands in, and that may be anybody's.

A card is untrusted data. It is checked here (types, sizes, names), shown cleaned, and never part of a system prompt.

    >>> read_block(block([Entry("tally", ("/opt/tally",), card={"description": "count things", "tags": ["text"]})], "/opt"))
    [Listed(name='tally', purpose='count things', tags=('text',), run='tally')]
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agent_core.errors import ConfigError, DeniedError, InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

SCHEMA = "catalogue-entry/1"
CARD = "agent-card/1"
SOURCES = ("build", "adopt", "checkout")
BEGIN, END = "<!-- agents:begin -->", "<!-- agents:end -->"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
TAG = re.compile(r"[\w.+#-][\w .+#-]{0,39}")
LARGEST = 1024 * 1024
MOST = 1000
DEEP = 32

_HASH = re.compile(r"[0-9a-f]{64}")
_RUN = re.compile(r"[\w.+-][\w.+-]*(?:/[\w.+-]+)*")
_PURPOSE = 200
_EMPTY: Mapping[str, Any] = MappingProxyType({})
# What could end a code span or open a comment or a tag in Markdown.
_SAFE = str.maketrans("`<>", "'()")


@dataclass(frozen=True, slots=True)
class Entry:
    """One agent or program: how it is started, what it says of itself, and the hash of its program.

    `sha256` is "" for what was only found (`source` agents.md or folder): such an entry cannot be called.
    """

    name: str
    argv: tuple[str, ...] = ()
    sha256: str = ""
    card: Mapping[str, Any] = field(default_factory=lambda: _EMPTY, repr=False)
    registered: str = ""
    source: str = ""

    @property
    def program(self) -> str:
        """The file whose hash counts; "" when the entry has none."""
        return self.argv[-1] if self.argv else ""

    @property
    def kind(self) -> str:
        """`program` for an ordinary program that was adopted, else `agent`."""
        return "program" if self.card.get("kind") == "program" else "agent"

    @property
    def description(self) -> str:
        """What it is for, in its own words."""
        return str(self.card.get("description", ""))

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags."""
        return tuple(self.card.get("tags", ()))


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of the block in AGENTS.md. `run` is a path relative to that file."""

    name: str
    purpose: str
    tags: tuple[str, ...] = ()
    run: str = ""


# -- the user's catalogue ----------------------------------------------------------------------------------------------------------


def find(name: str, data_dir: str | Path) -> Entry:
    """Return the registered entry of that name, its program's hash checked.

    Raises:
        UsageError: the name is none, or nobody registered it (with the nearest names).
        ConfigError: the entry cannot be read.
        DeniedError: the program has changed since it was registered, or is gone.
    """
    checked_name(name)
    path = _folder(data_dir) / f"{name}.json"
    if not path.is_file():
        from agent_core.options import unknown

        error = unknown("registered agent", name, names(data_dir))
        known = "; ".join(part for part in (error.hint, "register one: agent-find adopt PROGRAM") if part)
        raise UsageError(str(error), hint=known)
    entry = _entry(path)
    verify(entry)
    return entry


def names(data_dir: str | Path) -> list[str]:
    """Return the names that are registered, sorted."""
    return [path.stem for path in _files(_folder(data_dir), ".json") if NAME.fullmatch(path.stem)]


def read(data_dir: str | Path) -> tuple[list[Entry], list[str]]:
    """Return the entries of the user's catalogue by name, and one line for each file that is none."""
    return _each(_files(_folder(data_dir), ".json"), _entry)


def write(data_dir: str | Path, entry: Entry) -> bool:
    """Register an entry; return whether that changed anything (the time of registration alone is no change).

    Raises:
        InputError: the entry is not valid.
        ConfigError: it cannot be written.
    """
    folder = _folder(data_dir)
    path = folder / f"{checked_name(entry.name)}.json"
    body = _body(entry)
    _valid(body, entry.name)
    try:
        if path.is_file() and {**json.loads(path.read_bytes()), "registered": ""} == {**body, "registered": ""}:
            return False
    except (OSError, ValueError, TypeError, RecursionError):
        pass  # what cannot be read is replaced
    text = json.dumps(body, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    part = folder / f".{entry.name}.{os.urandom(6).hex()}.part"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.touch(0o600)
        part.write_bytes(text.encode("utf-8", "replace"))
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write the catalogue: {error.strerror}", hint="see --data-dir") from None
    return True


def forget(data_dir: str | Path, name: str) -> bool:
    """Remove an entry; return whether there was one."""
    try:
        (_folder(data_dir) / f"{checked_name(name)}.json").unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigError(f"cannot write the catalogue: {error.strerror}", hint="see --data-dir") from None
    return True


def entry_of(name: str, argv: Sequence[str], card: Mapping[str, Any], source: str) -> Entry:
    """Return a new entry with the hash of its program and the present time.

    Raises:
        InputError: there is no such program, or the card is none.
    """
    import time

    sha256 = hash_of(argv[-1])
    if sha256 is None:
        raise InputError(f"there is no program {argv[-1]!r}")
    registered = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Entry(checked_name(name), tuple(argv), sha256, checked_card(card), registered, source)


def changed(entry: Entry) -> str:
    """Return why the entry cannot be called as it was registered; "" when it can."""
    if not entry.sha256:
        return "nobody registered it"
    found = hash_of(entry.program)
    if found is None:
        return "its program is gone"
    return "" if found == entry.sha256 else "its program has changed since it was registered"


def verify(entry: Entry) -> None:
    """Check that the entry is what was registered: to be done before every call.

    Raises:
        DeniedError: it is not.
    """
    why = changed(entry)
    if why:
        raise DeniedError(f"{entry.name} is not started: {why}", hint=f"agent-find adopt {entry.program or 'PROGRAM'}")


def hash_of(path: str | Path) -> str | None:
    """Return the SHA-256 of a regular file in hexadecimal; None if there is none that can be read."""
    import hashlib
    import stat

    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder(data_dir: str | Path) -> Path:
    return Path(data_dir) / "catalogue"


def _body(entry: Entry) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "name": entry.name,
        "argv": list(entry.argv),
        "sha256": entry.sha256,
        "card": dict(entry.card),
        "registered": entry.registered,
        "source": entry.source,
    }


def _entry(path: Path) -> Entry:
    body = _json(path)
    _valid(body, path.stem)
    argv = tuple(body["argv"])
    return Entry(body["name"], argv, body["sha256"], MappingProxyType(body["card"]), body["registered"], body["source"])


def _valid(body: Any, name: str) -> None:
    """Check an entry's file. InputError for what it should not be."""
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        raise InputError(f"{name} is no {SCHEMA}")
    argv = body.get("argv")
    if body.get("name") != name or not NAME.fullmatch(name):
        raise InputError(f"the entry {name} has another name inside")
    if not isinstance(argv, list) or not 0 < len(argv) <= DEEP or not all(_absolute(word) for word in argv):
        raise InputError(f"{name}: argv must be absolute paths")
    if not isinstance(body.get("sha256"), str) or not _HASH.fullmatch(body["sha256"]):
        raise InputError(f"{name}: sha256 is no hash")
    if body.get("source") not in SOURCES or not _short(body.get("registered"), 40):
        raise InputError(f"{name}: source or registered is wrong")
    checked_card(body.get("card"))


def _absolute(word: Any) -> bool:
    return isinstance(word, str) and word.startswith("/") and "\0" not in word


# -- cards -------------------------------------------------------------------------------------------------------------------------


def checked_name(name: str) -> str:
    """Return the name of an agent. UsageError for anything else: a slash would be a path, and paths are not started by name."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name[:80]!r} is no name of an agent", hint="lower-case letters, digits and dashes; a path needs adopt first"
        )
    return name


def checked_card(card: Any, name: str = "") -> Mapping[str, Any]:
    """Return the card if it is one; fields that are not known are kept and ignored. `name`: the name it must have.

    Raises:
        InputError: what is wrong with it.
    """
    if not isinstance(card, dict | MappingProxyType) or card.get("schema") != CARD:
        raise InputError(f"the card is no {CARD}")
    if not isinstance(card.get("name"), str) or not NAME.fullmatch(card["name"]):
        raise InputError("the card's name is not lower-case letters, digits and dashes")
    if name and card["name"] != name:
        raise InputError(f"the card is that of {card['name']}, not of {name}")
    wrong = [key for key, fits in _FIELDS.items() if key in card and not fits(card[key])]
    if wrong:
        raise InputError(f"the card of {card['name']} has a wrong {', '.join(wrong)}")
    if not _shallow(card, DEEP) or len(json.dumps(dict(card), default=str)) > LARGEST:
        raise InputError(f"the card of {card['name']} is too large")
    return card


def digest_of(card: Mapping[str, Any]) -> str:
    """Return the digest that a card should have: the hash of its canonical JSON without the digest."""
    import hashlib

    body = {key: value for key, value in card.items() if key != "digest"}
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(canonical.encode("utf-8", "replace")).hexdigest()


def _short(value: Any, most: int) -> bool:
    return isinstance(value, str) and len(value) <= most


def _text(most: int) -> Callable[[Any], bool]:
    return lambda value: _short(value, most)


def _texts(count: int, most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) <= count and all(_short(item, most) for item in value)


def _tags(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 64 and all(isinstance(tag, str) and TAG.fullmatch(tag) for tag in value)


def _or_null(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


def _schema(value: Any) -> bool:
    return value is None or isinstance(value, dict | bool)


def _amount(value: Any) -> bool:
    """A number that is not negative; money may be a decimal string."""
    if isinstance(value, str):
        return re.fullmatch(r"\d{1,12}(\.\d{1,12})?", value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _capabilities(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) <= 256 and all(isinstance(item, dict) and _fit(item, _CAPABILITY) for item in value)
    )


def _tools(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 256 and all(isinstance(item, dict) and _fit(item, _TOOL) for item in value)


def _fit(item: Mapping[str, Any], fields: Mapping[str, Callable[[Any], bool]]) -> bool:
    return "name" in item and all(fits(item[key]) for key, fits in fields.items() if key in item)


_CAPABILITY: Mapping[str, Callable[[Any], bool]] = {
    "name": _text(100), "description": _text(4000), "tags": _tags, "input_schema": _schema, "output_schema": _schema,
    "avg_latency_ms": _or_null(_amount), "cost_per_call_usd": _or_null(_amount),
}  # fmt: skip
_TOOL: Mapping[str, Callable[[Any], bool]] = {
    "name": _text(100), "description": _text(16_000), "input_schema": _schema, "output_schema": _schema,
    "permissions": _texts(64, 300),
}  # fmt: skip
_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "version": _text(64),
    "description": _text(4000),
    "when_to_use": _text(4000),
    "tags": _tags,
    "stdin": lambda value: value in ("required", "optional", "none"),
    "input_schema": _schema,
    "output_schema": _schema,
    "input_media_types": _texts(64, 100),
    "output_media_types": _texts(64, 100),
    "capabilities": _capabilities,
    "tools": _tools,
    "permissions": _texts(64, 300),
    "config": _texts(1000, 100),
    "env": _texts(1000, 100),
    "exit": lambda value: isinstance(value, dict),
    "examples": _texts(64, 2000),
    "network_hosts": _or_null(_texts(256, 300)),
    "cost_class": _or_null(_text(64)),
    "digest": _text(100),
    "kind": _text(16),
}


def _shallow(value: Any, depth: int) -> bool:
    """Return whether nothing is nested deeper: other readers of the card recurse, too."""
    if depth == 0:
        return False
    inside = value.values() if isinstance(value, dict | MappingProxyType) else value if isinstance(value, list) else ()
    return all(_shallow(item, depth - 1) for item in inside)


# -- files -------------------------------------------------------------------------------------------------------------------------


def cards(folder: str | Path) -> tuple[list[Entry], list[str]]:
    """Return what the cards `NAME.card.json` in a folder describe, found but not registered; and what is wrong with the others.

    The programs beside them are not touched, and files without a card do not exist for us.
    """
    return _each(_files(Path(folder), ".card.json"), _beside)


def _beside(path: Path) -> Entry:
    name = path.name.removesuffix(".card.json")
    card = checked_card(_json(path), name)
    return Entry(name, (str(path.absolute().with_name(name)),), card=MappingProxyType(dict(card)), source="folder")


def _files(folder: Path, ending: str) -> list[Path]:
    """Return the files of a folder with that ending by name, at most MOST."""
    try:
        with os.scandir(folder) as found:
            names = sorted(item.name for item in found if item.name.endswith(ending) and not item.name.startswith("."))
    except OSError:
        return []
    return [folder / name for name in names[:MOST]]


def _each(paths: Iterable[Path], made: Callable[[Path], Entry]) -> tuple[list[Entry], list[str]]:
    entries, problems = [], []
    for path in paths:
        try:
            entries.append(made(path))
        except (InputError, UsageError) as error:
            problems.append(f"{path.name}: {error}")
    return entries, problems


def _json(path: Path) -> Any:
    """Return the JSON data of a file; it is read again only when its size or time is another."""
    try:
        found = path.stat()
        return _parsed(str(path), found.st_size, found.st_mtime_ns)
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {error.strerror}") from None


@lru_cache(maxsize=512)
def _parsed(path: str, _size: int, _changed: int) -> Any:
    try:
        return json.loads(text_of(path))
    except (ValueError, RecursionError):
        raise InputError(f"{Path(path).name} is no JSON") from None


def text_of(path: str | Path, most: int = LARGEST) -> str:
    """Return the text of a regular file of at most `most` bytes. InputError for anything else, a pipe or device included."""
    import stat

    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"cannot read {Path(path).name}: {error.strerror}") from None
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise InputError(f"{Path(path).name} is no regular file")
        data = file.read(most + 1)
    if len(data) > most:
        raise InputError(f"{Path(path).name} has more than {most} bytes")
    return data.decode("utf-8", "replace")


# -- AGENTS.md ---------------------------------------------------------------------------------------------------------------------


def block(entries: Iterable[Entry], folder: str | Path = "") -> str:
    """Return the block of AGENTS.md, markers included: one line an agent, by name; the same entries give the same text.

        - `name` — purpose. Tags: a, b. Run: `bin/name`

    `folder` is where that AGENTS.md lies: programs beneath it are named relative to it, for the others there is no `Run`.
    """
    lines = [_line(entry, Path(folder) if folder else None) for entry in sorted(entries, key=lambda entry: entry.name)]
    return "\n".join([BEGIN, *lines, END]) + "\n"


def _line(entry: Entry, folder: Path | None) -> str:
    from agent_core import terminal

    shown = terminal.clean(entry.description, keep_newlines=False).translate(_SAFE)
    purpose = " ".join(shown.replace("Tags:", "tags:").split())[:_PURPOSE].rstrip(" .")
    tags = f" Tags: {', '.join(entry.tags)}." if entry.tags else ""
    run = _relative(entry.program, folder)
    return f"- `{checked_name(entry.name)}` — {purpose}.{tags}" + (f" Run: `{run}`" if run else "")


def _relative(program: str, folder: Path | None) -> str:
    if not program or folder is None or not Path(program).is_relative_to(folder.absolute()):
        return ""
    run = Path(program).relative_to(folder.absolute()).as_posix()
    return run if _runs(run) else ""


def _runs(run: str) -> bool:
    return _RUN.fullmatch(run) is not None and ".." not in run.split("/")


def read_block(text: str) -> list[Listed]:
    """Return what the block in a text lists; lines that are not in its form, and names that are none, are left out."""
    inside = _split(text)
    found = {made.name: made for line in (inside[1].splitlines() if inside else ()) if (made := _listed(line)) is not None}
    return list(found.values())[:MOST]


def _listed(line: str) -> Listed | None:
    match = re.match(r"- `([^`]*)` — (.*)", line)
    if match is None or not NAME.fullmatch(match[1]):
        return None
    rest, _, run = match[2].rpartition(" Run: `")
    if not _ or not run.endswith("`"):
        rest, run = match[2], ""
    purpose, _, tags = rest.rpartition(" Tags: ")
    words = tuple(tag for tag in (word.strip() for word in tags.rstrip(".").split(",")) if TAG.fullmatch(tag)) if _ else ()
    found = (purpose if _ else rest).rstrip(".")
    path = run.removesuffix("`")
    return Listed(match[1], found[:_PURPOSE], words[:64], path if _runs(path) else "")


def with_block(text: str, entries: Iterable[Entry], folder: str | Path = "") -> str:
    """Return the text of AGENTS.md with the block replaced, or added at its end; nothing outside the markers is touched.

    Raises:
        InputError: the markers do not come as one pair, each on a line of its own.
    """
    made = block(entries, folder)
    marks = [line.strip() for line in text.splitlines() if line.strip() in {BEGIN, END}]
    if not marks and BEGIN not in text and END not in text:
        gap = "" if not text or text.endswith("\n\n") else "\n" if text.endswith("\n") else "\n\n"
        return f"{text}{gap}{made}"
    inside = _split(text)
    if inside is None or marks != [BEGIN, END] or text.count(BEGIN) != 1 or text.count(END) != 1:
        raise InputError(f"AGENTS.md must have {BEGIN} and {END} once, each on its own line", hint="put the two lines right")
    return f"{inside[0]}{made}{inside[2]}"


def _split(text: str) -> tuple[str, str, str] | None:
    """Return what is before, between and after the markers; None if they are not there."""
    match = re.search(rf"^{BEGIN}[ \t]*\r?\n(.*?)^{END}[ \t]*(?:\r?\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return None if match is None else (text[: match.start()], match[1], text[match.end() :])


def nearest(folder: str | Path) -> Path | None:
    """Return the path of AGENTS.md in the folder or the nearest one above, or None."""
    here = Path(folder).absolute()
    return next((path / "AGENTS.md" for path in (here, *here.parents) if (path / "AGENTS.md").is_file()), None)


def listed(folder: str | Path) -> tuple[list[Entry], list[str]]:
    """Return what the nearest AGENTS.md upward lists, with the cards that lie beside the programs: found, not registered."""
    path = nearest(folder)
    if path is None:
        return [], []
    try:
        lines = read_block(text_of(path))
    except InputError as error:
        return [], [str(error)]
    return [_found(line, path.parent) for line in lines], list(_troubles(lines, path.parent))


def _found(line: Listed, folder: Path) -> Entry:
    argv = (str(folder / line.run),) if line.run else ()
    card: Mapping[str, Any] = {
        "schema": CARD,
        "name": line.name,
        "description": line.purpose,
        "tags": list(line.tags),
        "capabilities": [],
    }
    try:
        if argv:
            card = _beside(Path(argv[0]).with_name(f"{line.name}.card.json")).card
    except InputError:
        pass  # without a card of its own the line is the card
    return Entry(line.name, argv, card=MappingProxyType(dict(card)), source="agents.md")


def _troubles(lines: Iterable[Listed], folder: Path) -> Iterator[str]:
    for line in lines:
        path = (folder / line.run).with_name(f"{line.name}.card.json") if line.run else None
        if path is not None and path.exists():
            try:
                _beside(path)
            except InputError as error:
                yield f"{path.name}: {error}"
