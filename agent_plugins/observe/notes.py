"""notes - the file outside of the store in which the first key and the heads of its chain stand (see `agent_core.chain`).

verify(store, read(path, "key-file", "heads-from-the-journal"))
move_keys(path, "/media/stick/agents.key")
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agent_core import chain
from agent_core.errors import Failed, InputError, MissingInput, UsageError
from agent_plugins.observe.verify import Notes, heads_of, keys_of, notes_of

if TYPE_CHECKING:
    from pathlib import Path

    from agent_core.store import Store

_MOST = 64 << 20


def read(path: Path, *more: str) -> Notes:
    """Return the notes of the store at a path, with those in more files.

    MissingInput for one that cannot be read, InputError for one that notes nothing.
    """
    return notes_of(_lines(chain.outside(path)), *(_given(name) for name in more))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []


def _given(name: str) -> list[str]:
    try:
        with open(name, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - a name from the command line
            lines = file.read(_MOST).splitlines()
    except OSError as error:
        raise MissingInput(f"cannot read {name}: {error.strerror}", hint="a file with `key` or `head` lines") from None
    if not keys_of(lines) and not any(heads_of(lines)):  # compared with nothing, everything would be whole
        raise InputError(f"{name} holds neither a key nor a head", hint="a file with `key` or `head` lines")
    return lines


def move_keys(path: Path, target: str) -> int:
    """Put the first keys of the store at a path into a new file and forget them here; return how many there were.

    UsageError if there are none, Failed if the file cannot be written: then they stay here.
    """
    file = chain.outside(path)
    lines = _lines(file)
    keys = [line for line in lines if keys_of([line])]
    if not keys:
        raise UsageError("the first key is not here", hint="it was moved before, or nothing has been recorded yet")
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.writelines(f"{line}\n" for line in keys)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise Failed(f"cannot write {target}: {error.strerror}", hint="name a file that does not exist yet") from None
    chain.rewrite(file, [line.encode("utf-8", "replace") for line in lines if line not in keys])
    return len(keys)


def forget_others(path: Path, store: Store | None) -> int:
    """Forget the notes of stores that were at a path before; return how many heads that were."""
    file = chain.outside(path)
    lines = _lines(file)
    state = store.chain() if store is not None else None
    name = state.name if state is not None else ""
    others = [line for line in lines if _is_of_another(line, name)]
    if others:
        chain.rewrite(file, [line.encode("utf-8", "replace") for line in lines if line not in others])
    return sum(line.startswith("head ") for line in others)


def _is_of_another(line: str, name: str) -> bool:
    words = line.split()
    return len(words) > 1 and words[0] in {"head", "key"} and words[1] != name
