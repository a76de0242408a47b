"""chain - every event vouches for all before it, so that a change of the record is found (`agent-log audit --verify`).

    link = SHA-256(link of the entry before, event)     anybody can follow it
    seal = BLAKE2b(link), keyed, 16 bytes (RFC 7693)    the key moves forward with every entry: key = SHA-256("next", key)
    head = how many entries, and the last link          noted outside of the store when a run ends

Whoever changes an entry must make anew all links after it, and lacks the keys to seal them: the store holds the key of the next
entry only. The first key and the heads stand outside of the store, in a file of the user's configuration (`outside`), and where
AGENT_AUDIT_JOURNAL is set the heads are in the system's journal, too. Somebody who is the same user can read that file: move the
first key to another machine (`agent-log audit --move-key`), and only what is faked from then on goes unseen.

All of it happens in the transaction that writes the events, so parallel processes extend one chain.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

MIGRATION = """
ALTER TABLE events ADD COLUMN link BLOB;
ALTER TABLE events ADD COLUMN seal BLOB;
CREATE TABLE chain (
  id INTEGER PRIMARY KEY CHECK (id = 1), name TEXT NOT NULL, begun INTEGER NOT NULL, first BLOB NOT NULL,
  entries INTEGER NOT NULL, link BLOB NOT NULL, key BLOB NOT NULL)
"""
EVENT = "run, path, kind, fingerprint, time, data"
SEAL_BYTES = 16
_KEPT_BYTES = 1 << 20
_NOTHING = bytes(32)
_JOURNAL = "/run/systemd/journal/socket"


class State(NamedTuple):
    """The chain of a store: its name, the last event from before it, its first link, entries, last link, key of the next entry."""

    name: str
    begun: int
    first: bytes
    entries: int
    link: bytes
    key: bytes


def linked(before: bytes, event: Sequence[Any]) -> bytes:
    """Return the link of an event (the columns of EVENT) that follows another link."""
    from hashlib import sha256

    run, path, kind, fingerprint, moment, data = event[:6]
    text = f"{run}\0{path}\0{kind}\0{fingerprint}\0{float(moment)!r}\0{data}"
    return sha256(before + text.encode("utf-8", "surrogatepass")).digest()


def sealed(key: bytes, link: bytes) -> bytes:
    """Return the seal of a link."""
    from hashlib import blake2b

    return blake2b(link, key=key, digest_size=SEAL_BYTES).digest()


def moved(key: bytes) -> bytes:
    """Return the key of the next entry; there is no way back."""
    from hashlib import sha256

    return sha256(b"next" + key).digest()


# -- writing -----------------------------------------------------------------------------------------------------------------------


def extend(connection: Any, rows: Iterable[Sequence[Any]], insert: str, path: Path) -> None:
    """Insert the rows (EVENT first, then what else there is) with link and seal, inside the caller's transaction."""
    state = read(connection) or _begin(connection, path)
    entries, link, key = state.entries, state.link, state.key
    for row in rows:
        link = linked(link, row)
        connection.execute(insert, (*row, link, sealed(key, link)))
        entries, key = entries + 1, moved(key)
    connection.execute("UPDATE chain SET entries = ?, link = ?, key = ?", (entries, link, key))


def read(connection: Any) -> State | None:
    """Return the state of the chain, None before its first entry."""
    row = connection.execute("SELECT name, begun, first, entries, link, key FROM chain").fetchone()
    return None if row is None else State(row[0], row[1], bytes(row[2]), row[3], bytes(row[4]), bytes(row[5]))


def _begin(connection: Any, path: Path) -> State:
    """Begin the chain of a new store, or of an old one: its first link then stands for all events that are there already."""
    link, last = _NOTHING, 0
    for seq, *event in connection.execute(f"SELECT seq, {EVENT} FROM events ORDER BY seq"):  # noqa: S608 - names are constants
        link, last = linked(link, event), seq
    name, key = os.urandom(8).hex(), os.urandom(32)
    _note(path, f"key {name} {key.hex()}")
    state = State(name, last, link, 0, link, key)
    connection.execute("INSERT INTO chain VALUES (1, ?, ?, ?, ?, ?, ?)", state)
    return state


# -- outside -----------------------------------------------------------------------------------------------------------------------


def outside(path: Path) -> Path:
    """Return the file in which the first key and the heads of the store at a path stand (AGENT_AUDIT_DIR names another folder)."""
    from hashlib import sha256
    from pathlib import Path as File

    from agent_core import config

    environment = config.environ()
    folder = environment.get("AGENT_AUDIT_DIR") or f"{config.state_dir(environment)}/audit"
    return File(folder) / f"{sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:24]}.audit"


def note_head(state: State, path: Path) -> None:
    """Note the head outside of the store. Never fails: a run does not depend on it."""
    line = f"head {state.name} {state.entries} {state.link.hex()} {time.time():.0f}"
    _note(path, line)
    _to_journal(line)


def _note(path: Path, line: str) -> None:
    with suppress(OSError, ValueError):
        file = outside(path)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = not file.exists()
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            head = "store " + os.path.realpath(path).replace("\n", "?") if fresh else ""
            # Every record begins on a line of its own, whatever a killed process left.
            os.write(descriptor, f"{head}\n{line}\n".encode("utf-8", "surrogateescape"))
            size = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        if size > _KEPT_BYTES or _part(file).exists():
            with _alone(file):
                _shorten(file)


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Hold the lock of the folder, so that one process at a time replaces the file; what a killed one left is removed."""
    import fcntl

    lock = os.open(file.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _part(file).unlink(missing_ok=True)
        yield
    finally:
        os.close(lock)


def _part(file: Path) -> Path:
    return file.with_name(f"{file.name}.part")


def _shorten(file: Path) -> None:
    """Drop the older half of the heads. A head that another process notes meanwhile may be lost: the next one says as much."""
    if file.stat().st_size <= _KEPT_BYTES:
        return  # another process has done it
    lines = [line for line in file.read_bytes().split(b"\n") if line]
    heads = [line for line in lines if line.startswith(b"head ")]
    kept = [line for line in lines if not line.startswith(b"head ")] + heads[len(heads) // 2 :]
    _replace(file, kept)


def rewrite(file: Path, lines: Iterable[bytes]) -> None:
    """Replace the file's lines at once."""
    with _alone(file):
        _replace(file, lines)


def _replace(file: Path, lines: Iterable[bytes]) -> None:
    part = _part(file)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, b"".join(line + b"\n" for line in lines))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    part.replace(file)


def _to_journal(line: str) -> None:
    from agent_core import config

    if not config.environ().get("AGENT_AUDIT_JOURNAL"):
        return
    import socket

    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.setblocking(False)
        journal.sendto(f"SYSLOG_IDENTIFIER=agents-audit\nPRIORITY=6\nMESSAGE={line}\n".encode(), _JOURNAL)
