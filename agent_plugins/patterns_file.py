"""patterns_file - the patterns of a code base in one Markdown file: facts read from the code, and observations that a model made.

    code_facts()                        the facts as text; reads what --allow file-read grants
    patterns_update(observations)       writes them into PATTERNS.md, between markers; needs file-read and file-write

Only what stands between the markers is ever replaced; the rest of the file is the reader's own. The same code and the same
observations give the same bytes, and nothing is written when nothing changed. An observation names a file as its evidence; one
whose file is not there is left out, and one that says what another says already is not added again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agent_core.tool import Context, ToolError, tool
from agent_plugins import code_facts as reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FILE = "PATTERNS.md"
MOST_FILES = 5000
MOST_BYTES = 64 * 1024 * 1024
MOST_OBSERVATIONS = 60
LONGEST = 300
ALIKE = 0.8  # cosine similarity from which two observations say the same
DEEP = 20
SKIPPED = frozenset({
    "node_modules", "__pycache__", "venv", "env", "build", "dist", "target", "vendor", "site-packages", "htmlcov", "coverage",
})  # fmt: skip
HEAD = """# Patterns

What holds in this code base. `architect --update-patterns` keeps what stands between the markers; the rest is yours.
"""
_ENDINGS = frozenset(reading.LANGUAGES)
_NAMED = frozenset({"Makefile", "Dockerfile", "justfile", "go.mod"})
_LINE = re.compile(r"- (?P<text>.+?)(?: \(see `(?P<path>[^`]+)`\))?$")


@tool(needs={"file-read": "path"}, read_only=True, idempotent=True, timeout=110)
def code_facts(context: Context, path: str = ".") -> str:
    """Tell what the code base is like: sizes, layers and import arrows, names, error classes, tests. Nothing is executed.

    Args:
        path: the folder of the code base.
        context: opens only what is granted.
    """
    files = {name: text for name, text in code(context, path).items() if name != FILE}
    return reading.as_text(reading.facts(files)) or "no source files here"


@tool(needs={"file-read": "root", "file-write": "path"}, idempotent=True, timeout=110)
def patterns_update(observations: list[dict[str, str]], context: Context, path: str = FILE, root: str = ".") -> dict[str, Any]:
    """Bring the patterns file up to date: facts from the code, and observations added to those it has.

    Args:
        observations: each {statement, evidence}; evidence is the path of a file that shows it.
        context: opens only what is granted.
        path: the patterns file.
        root: the folder of the code base.
    """
    files = code(context, root)
    before = _before(context, path)
    facts = reading.facts({name: text for name, text in files.items() if name != path.removeprefix("./")})
    kept, left_out = observed(known(before), observations, set(files))
    after = updated(before, facts, kept)
    if after != before:
        context.open_write(path, after.encode("utf-8", "replace"))
    return {
        "path": path, "changed": after != before, "diff": difference(before, after, path), "facts": facts,
        "observations": [_shown(each) for each in kept], "left_out": left_out,
    }  # fmt: skip


def _before(context: Context, path: str) -> str:
    try:
        data = context.open_read(path, limit=reading.LARGEST + 1)
    except ToolError as error:
        if error.kind == "not_found":
            return ""
        raise
    if len(data) > reading.LARGEST:
        raise ToolError(f"{path} is too large to be a patterns file", "invalid")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ToolError(f"{path} is not UTF-8 text", "invalid") from None


# --- reading the code base ---------------------------------------------------------------------------------------------------


def code(context: Context, root: str = ".") -> dict[str, str]:
    """Return the text of the source files beneath a folder by their relative path; hidden and generated folders are left out.

    Raises:
        ToolError: the folder cannot be read, or it took too long.
    """
    found: dict[str, str] = {}
    room = MOST_BYTES
    for name, entry in context.walk(root, _entered):
        if entry.kind != "file" or not _is_source(entry.name):
            continue
        if entry.size > reading.LARGEST or entry.size > room or len(found) >= MOST_FILES:
            continue
        if context.remaining(1.0) <= 0 or context.cancelled():
            raise ToolError("reading the code base took too long", "transient")
        try:
            data = context.open_read(name if root in {".", ""} else f"{root.rstrip('/')}/{name}", limit=reading.LARGEST)
        except ToolError:
            continue  # denied, gone, or not a file any more
        room -= len(data)
        if b"\0" not in data:
            found[name] = data.decode("utf-8", "replace")
    return found


def _entered(name: str, depth: int) -> bool:
    return depth < DEEP and name not in SKIPPED and not name.startswith(".")


def _is_source(name: str) -> bool:
    return name in _NAMED or ("." in name.lstrip(".") and name.rpartition(".")[2].lower() in _ENDINGS)


# --- the file ----------------------------------------------------------------------------------------------------------------


def observed(
    old: Sequence[tuple[str, str]], new: Iterable[Mapping[str, str]], files: set[str]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Return (statement, evidence) of all observations that hold, and a line for each that was left out."""
    from agent_plugins.extract import plain, similar

    kept = [(text, path) for text, path in old if not path or path in files]
    left_out = [f"{path} is gone: {text}" for text, path in old if path and path not in files]
    for each in new:
        text, path = one_line(str(each.get("statement", ""))), one_line(str(each.get("evidence", ""))).removeprefix("./")
        path = re.sub(r":\d+(?:-\d+)?$", "", path)
        if not text:
            continue
        if path not in files:
            left_out.append(f"{path or 'no file'} is no file here: {text}")
        elif not any(plain(text) == plain(other) or similar(text, other) >= ALIKE for other, _ in kept):
            kept.append((text, path))
    left_out += [f"more than {MOST_OBSERVATIONS} observations: {text}" for text, _ in kept[MOST_OBSERVATIONS:]]
    return kept[:MOST_OBSERVATIONS], left_out


def one_line(text: str) -> str:
    """Return a text as it can stand in a list: one line without marks of Markdown or HTML that would end it, not too long."""
    from agent_core.terminal import clean

    flat = clean(" ".join(text.split()), keep_newlines=False)
    return flat.replace("<!--", "").replace("-->", "").replace("`", "'").lstrip("-*#> ")[:LONGEST].strip()


def known(text: str) -> list[tuple[str, str]]:
    """Return (statement, evidence) of the observations that a patterns file has."""
    inside = _split(text, "observations")
    lines = inside[1].splitlines() if inside else []
    return [(found["text"], found["path"] or "") for line in lines if (found := _LINE.fullmatch(line.strip()))]


def updated(text: str, facts: Mapping[str, Sequence[str]], observations: Sequence[tuple[str, str]]) -> str:
    """Return the file's text with both blocks replaced, or added at its end.

    Raises:
        ToolError: the markers do not come in pairs.
    """
    text = text if text.strip() else HEAD
    text = _with(text, "facts", f"## Facts\n\n{reading.as_text(facts) or 'No source files.'}")
    lines = [f"- {_shown(each)}" for each in observations]
    return _with(text, "observations", "\n".join(["## Observations", "", *(lines or ["None yet."])]))


def _shown(observation: tuple[str, str]) -> str:
    text, path = observation
    return f"{text} (see `{path}`)" if path else text


def _marks(block: str) -> tuple[str, str]:
    return f"<!-- patterns:{block}:begin -->", f"<!-- patterns:{block}:end -->"


def _with(text: str, block: str, body: str) -> str:
    begin, end = _marks(block)
    made = f"{begin}\n{body}\n{end}\n"
    inside = _split(text, block)
    if inside is None:
        gap = "\n" if text.endswith("\n") else "\n\n"
        return f"{text}{gap}{made}"
    return f"{inside[0]}{made}{inside[2]}"


def _split(text: str, block: str) -> tuple[str, str, str] | None:
    """Return what is before, between and after the markers of a block; None where there are none."""
    begin, end = _marks(block)
    if begin not in text and end not in text:
        return None
    found = re.search(rf"^{re.escape(begin)}[ \t]*\r?\n(.*?)^{re.escape(end)}[ \t]*(?:\r?\n|\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None or text.count(begin) != 1 or text.count(end) != 1:
        raise ToolError(
            f"the markers {begin} and {end} must stand there once each, on lines of their own; put them right", "invalid"
        )
    return text[: found.start()], found[1], text[found.end() :]


def difference(before: str, after: str, path: str) -> str:
    """Return what changed as a unified diff; "" where nothing did."""
    import difflib

    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), path if before else "/dev/null", path, n=0, lineterm="")
    return "\n".join(lines)
