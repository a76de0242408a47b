"""store - the one SQLite file of a workspace: runs, their events, and small items.

    store = open_store(path)                 # touches nothing until it is used
    store.append(Event("run.started", run_id, data={"agent": "assistant", "input": "hi"}))
    store.recorded(run_id)                   # {"0": Event("model.replied", …), …}: what resume and replay feed back

Every method may be called from any thread. All problems are StoreError; a run's answer does not depend on the store, so the
engine says it once and goes on. The journal is what the engine tells: it redacts before, the store writes what it is given.
"""

from __future__ import annotations

import json
import os
import time
from binascii import crc32
from dataclasses import dataclass, replace
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any

from agent_core import ids
from agent_core.errors import StoreError, UsageError
from agent_core.events import OUTCOMES, TRANSIENT, Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

MIGRATIONS = (
    """
CREATE TABLE runs (
  id TEXT PRIMARY KEY, agent TEXT NOT NULL, session TEXT NOT NULL, parent TEXT NOT NULL, title TEXT NOT NULL,
  started REAL NOT NULL, finished REAL, status INTEGER, stop TEXT NOT NULL DEFAULT '');
CREATE INDEX runs_started ON runs (started);
CREATE INDEX runs_session ON runs (session, started);
CREATE TABLE events (
  seq INTEGER PRIMARY KEY, run TEXT NOT NULL, path TEXT NOT NULL, kind TEXT NOT NULL, fingerprint TEXT NOT NULL,
  time REAL NOT NULL, data TEXT NOT NULL, sum INTEGER NOT NULL);
CREATE INDEX events_run ON events (run);
CREATE TABLE items (
  namespace TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, expires REAL, version INTEGER NOT NULL,
  PRIMARY KEY (namespace, key)) WITHOUT ROWID;
CREATE TABLE blobs (hash TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID
""",
)

_INSERT = "INSERT INTO events (run, path, kind, fingerprint, time, data, sum) VALUES (?, ?, ?, ?, ?, ?, ?)"
_COLUMNS = "seq, run, path, kind, fingerprint, time, data, sum"
_START = """INSERT INTO runs (id, agent, session, parent, title, started) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET finished = NULL, status = NULL, stop = ''"""
_FINISH = "UPDATE runs SET finished = ?, status = ?, stop = ? WHERE id = ?"
_RUN_COLUMNS = "id, agent, session, parent, title, started, finished, status, stop"
_TITLE_LENGTH = 200

_encode = json.JSONEncoder(separators=(",", ":"), default=str).encode


@dataclass(frozen=True, slots=True)
class Run:
    """One row of the list of runs. `status` is None until the run finished; `title` is the beginning of its input."""

    id: str
    agent: str
    session: str
    parent: str
    title: str
    started: float
    finished: float | None
    status: int | None
    stop: str


def open_store(path: Path) -> Store:
    """Return the store at `path` (its folder may not exist yet). Nothing is opened or created before the first use."""
    return Store(path)


class _File:
    """An open database file. All stores of one path in one process share it: a thousand runs need one connection."""

    def __init__(self, path: Path) -> None:
        """Remember where; open later."""
        self.path, self.process = path, os.getpid()
        self.lock = RLock()
        self.connection: Any = None
        self.inode = 0
        self.full = False
        self.users = 0

    def open(self) -> list[str]:
        """Open the connection and return what a person should know."""
        from agent_core import database

        self.connection, notices = database.connect(self.path, MIGRATIONS)
        self.inode = _inode(self.path)
        self.full = False
        return notices

    def close(self) -> None:
        """Close the connection; the next use opens it again."""
        with self.lock:
            connection, self.connection = self.connection, None
            if connection is not None:
                connection.close()


# By process and path. What came through fork() stays here unused: closing it in the child could harm the parent.
_FILES: dict[tuple[int, str], _File] = {}
_GUARD = Lock()


def _acquire(path: Path) -> _File:
    key = (os.getpid(), str(path))
    with _GUARD:
        file = _FILES.get(key)
        if file is None or (file.inode and file.inode != _inode(path)):
            file = _FILES[key] = _File(path)
        file.users += 1
        return file


def _release(file: _File) -> None:
    with _GUARD:
        file.users -= 1
        if file.users or file.process != os.getpid():
            return
        if _FILES.get((file.process, str(file.path))) is file:
            del _FILES[file.process, str(file.path)]
    file.close()


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return -1


class Store:
    """The runs, events, items and blobs of one workspace. `notices` holds what a person should know (a damaged file)."""

    def __init__(self, path: Path) -> None:
        """Remember where; open later."""
        self.path = path
        self.notices: list[str] = []
        self._file: _File | None = None
        self._lock = Lock()

    def ready(self) -> None:
        """Open the file now; StoreError if that cannot be done."""
        self._do(lambda connection: connection.execute("SELECT 1 FROM runs LIMIT 1").fetchone())

    def close(self) -> None:
        """Let go of the file; the last one closes it. The next use opens it again."""
        with self._lock:
            file, self._file = self._file, None
        if file is not None:
            _release(file)

    # -- events

    def append(self, *events: Event) -> None:
        """Write events in one transaction; if one of them is durable, only return when the disk has them."""
        rows = [_row(event) for event in events if event.kind not in TRANSIENT]
        if not rows:
            return
        durable = any(event.durable for event in events)

        def write(connection: Any) -> None:
            for row in rows:
                connection.execute(_INSERT, row)
            for event in events:
                if event.kind in ("run.started", "run.finished"):
                    _note_run(connection, event)

        self._write(write, durable=durable)

    def events(self, run: str) -> list[Event]:
        """Return all events of a run in the order in which they were written."""
        return [event for _, event in self._select("WHERE run = ? ORDER BY seq", (run,))]

    def recorded(self, run: str) -> dict[str, Event]:
        """Return the outcomes of a run by path, in path order; of several for one path the newest counts."""
        from agent_core.readings import outcome_events

        kinds = ",".join(f"'{kind}'" for kind in sorted(OUTCOMES))
        found = self._select(f"WHERE run = ? AND kind IN ({kinds}) ORDER BY seq", (run,))
        return outcome_events(event for _, event in found)

    def since(self, seq: int, run: str = "", limit: int = 1000) -> list[tuple[int, Event]]:
        """Return up to `limit` (sequence number, event) pairs after `seq`, of one run or of all."""
        if run:
            return self._select("WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?", (run, seq, limit))
        return self._select("WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit))

    def of_kind(self, kind: str, agent: str) -> list[Event]:
        """Return all events of a kind in the runs of an agent, in order (`readings.tool_counts` makes counts of them)."""
        found = self._select("WHERE kind = ? AND run IN (SELECT id FROM runs WHERE agent = ?) ORDER BY seq", (kind, _plain(agent)))
        return [event for _, event in found]

    def ends(self, session: str, statuses: Iterable[int] = (0,)) -> list[Event]:
        """Return first run.started and last run.finished of each run of a session that ended with one of `statuses`, in order."""
        wanted = ",".join(str(int(status)) for status in statuses)
        first = "(SELECT min(seq) FROM events WHERE run = r.id AND kind = 'run.started')"
        last = "(SELECT max(seq) FROM events WHERE run = r.id AND kind = 'run.finished')"
        runs = f"SELECT r.started AS began, r.rowid AS number, {first} AS one, {last} AS two FROM runs r "  # noqa: S608 - constants
        chosen = f"{runs} WHERE r.session = ? AND r.status IN ({wanted})"
        query = f"SELECT {_COLUMNS} FROM ({chosen}) JOIN events ON seq IN (one, two) ORDER BY began, number, seq"  # noqa: S608
        return [_event(row)[1] for row in self._do(lambda connection: connection.execute(query, (_plain(session),)).fetchall())]

    def newest_session(self, agent: str) -> str | None:
        """Return the session of the agent's newest run that has one, or None."""
        query = "SELECT session FROM runs WHERE agent = ? AND session <> '' ORDER BY started DESC, rowid DESC LIMIT 1"
        row = self._do(lambda connection: connection.execute(query, (_plain(agent),)).fetchone())
        return None if row is None else str(row[0])

    # -- runs

    def runs(self, limit: int | None = 50, agent: str | None = None, session: str | None = None) -> list[Run]:
        """Return the newest runs first: all, or those of an agent or a session."""
        wanted = [(name, _plain(value)) for name, value in (("agent", agent), ("session", session)) if value is not None]
        where = "WHERE " + " AND ".join(f"{name} = ?" for name, _ in wanted) if wanted else ""
        query = f"SELECT {_RUN_COLUMNS} FROM runs {where} ORDER BY started DESC, rowid DESC LIMIT ?"  # noqa: S608 - names are constants
        values = [*(value for _, value in wanted), -1 if limit is None else limit]
        return [Run(*row) for row in self._do(lambda connection: connection.execute(query, values).fetchall())]

    def run(self, ref: str, agent: str | None = None) -> Run:
        """Return the run that `ref` names: `last` (newest, of `agent` if given), an id or the beginning of one; else UsageError."""
        if ref == "last":
            newest = self.runs(1, agent)
            if not newest:
                whose = f" of {agent}" if agent else ""
                raise UsageError(f"there is no run{whose} yet", hint="agent-log list shows the runs")
            return newest[0]
        found = self._matching(ref) or self._matching(ids.normal(ref))
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(run.id for run in found[:3])
            raise UsageError(f'"{ref}" is the beginning of several runs', hint=f"{some} …: give more characters")
        raise UsageError(f'no run "{ref}"', hint=self._nearest(ref))

    def fork(self, run: str, at: str, changes: Mapping[str, Any] | None = None) -> str:
        """Copy a run's start and its outcomes before position `at` into a new run and return its id.

        `changes` replaces fields of the start (input, system, model …). The copied outcomes then carry no fingerprint, so that
        they are taken as they are instead of being compared with requests that must differ now. Copies are marked `inherited`:
        they were paid for once. The new run is in no session's history until it is named there.
        """
        origin = next((event for event in self.events(run) if event.kind == "run.started"), None)
        if origin is None:
            raise StoreError(f"the start of run {run} is not in the store", hint="agent-log list shows the runs")
        now = time.time()
        new = ids.new_run_id(now, os.urandom(ids.RANDOM_BYTES))
        data = {**origin.data, **(changes or {}), "parent": run, "fork_at": at}
        copies = [
            replace(event, run=new, data={**event.data, "inherited": True}, fingerprint="" if changes else event.fingerprint)
            for path, event in self.recorded(run).items()
            if ids.position(path) < ids.position(at)
        ]
        self.append(replace(origin, run=new, time=now, data=data), *copies)
        return new

    def _matching(self, ref: str) -> list[Run]:
        where = "WHERE id = ?1 OR substr(id, 1, length(?1)) = ?1 ORDER BY id <> ?1, started DESC LIMIT 9"
        query = f"SELECT {_RUN_COLUMNS} FROM runs {where}"  # noqa: S608 - names are constants
        reference = _plain(ref)
        if not reference:
            return []
        found = [Run(*row) for row in self._do(lambda connection: connection.execute(query, (reference,)).fetchall())]
        return found[:1] if found and found[0].id == reference else found

    def _nearest(self, ref: str) -> str:
        from difflib import get_close_matches

        near = get_close_matches(ref, [run.id for run in self.runs(200)], n=3)
        return f"did you mean {' or '.join(near)}? agent-log list shows the runs" if near else "agent-log list shows the runs"

    # -- items and blobs

    def item_get(self, namespace: str, key: str, now: float | None = None) -> str | None:
        """Return an item's value (JSON text), or None if there is none or it expired."""
        found = self._do(
            lambda connection: connection.execute(
                "SELECT value FROM items WHERE namespace = ? AND key = ? AND (expires IS NULL OR expires > ?)",
                (namespace, key, time.time() if now is None else now),
            ).fetchone()
        )
        return None if found is None else str(found[0])

    def item_put(self, namespace: str, key: str, value: str, ttl: float | None = None, *, expect: int | None = None) -> int:
        """Write an item (JSON text) and return its new version, from 1.

        With `expect` (0: must not exist) nothing is written and 0 returned if the item is at another version: whoever updates
        reads `item_version` first and tries again.
        """
        expires = None if ttl is None else time.time() + ttl

        def write(connection: Any) -> int:
            row = connection.execute("SELECT version FROM items WHERE namespace = ? AND key = ?", (namespace, key)).fetchone()
            version = row[0] if row else 0
            if expect is not None and expect != version:
                return 0
            connection.execute("REPLACE INTO items VALUES (?, ?, ?, ?, ?)", (namespace, key, value, expires, version + 1))
            return int(version) + 1

        return int(self._write(write))

    def item_version(self, namespace: str, key: str) -> int:
        """Return an item's version, 0 if there is none."""
        query = "SELECT version FROM items WHERE namespace = ? AND key = ?"
        row = self._do(lambda connection: connection.execute(query, (namespace, key)).fetchone())
        return int(row[0]) if row else 0

    def item_delete(self, namespace: str, key: str) -> bool:
        """Remove an item; return whether there was one."""
        query = "DELETE FROM items WHERE namespace = ? AND key = ?"
        return bool(self._write(lambda connection: connection.execute(query, (namespace, key)).rowcount))

    def items(self, namespace: str, now: float | None = None) -> dict[str, str]:
        """Return the items of a namespace that have not expired: key to JSON text, in key order."""
        query = "SELECT key, value FROM items WHERE namespace = ? AND (expires IS NULL OR expires > ?) ORDER BY key"
        values = (namespace, time.time() if now is None else now)
        return dict(self._do(lambda connection: connection.execute(query, values).fetchall()))

    def expire(self, now: float | None = None) -> int:
        """Remove all expired items; return how many."""
        values = (time.time() if now is None else now,)
        return int(self._write(lambda connection: connection.execute("DELETE FROM items WHERE expires <= ?", values).rowcount))

    def blob_put(self, data: bytes) -> str:
        """Keep bytes and return the name they have for ever: their SHA-256 in hexadecimal."""
        import hashlib

        name = hashlib.sha256(data).hexdigest()
        self._write(lambda connection: connection.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?)", (name, data)))
        return name

    def blob_get(self, name: str) -> bytes | None:
        """Return the bytes of that name, or None."""
        row = self._do(lambda connection: connection.execute("SELECT data FROM blobs WHERE hash = ?", (name,)).fetchone())
        return None if row is None else bytes(row[0])

    def blob_delete(self, name: str) -> bool:
        """Remove the bytes of that name; return whether there were any."""
        return bool(self._write(lambda connection: connection.execute("DELETE FROM blobs WHERE hash = ?", (name,)).rowcount))

    # -- the connection

    def _select(self, where: str, values: tuple[Any, ...]) -> list[tuple[int, Event]]:
        query = f"SELECT {_COLUMNS} FROM events {where}"  # noqa: S608 - `where` is one of the constants above
        return [_event(row) for row in self._do(lambda connection: connection.execute(query, values).fetchall())]

    def _write(self, function: Callable[[Any], Any], *, durable: bool = False) -> Any:
        """Run `function` in one immediate transaction (a deferred one fails at once when two processes upgrade their locks)."""

        def transaction(connection: Any) -> Any:
            file = self._file
            if file is not None and durable != file.full:
                connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                file.full = durable
            try:
                connection.execute("BEGIN IMMEDIATE")
                value = function(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return value

        return self._do(transaction)

    def _do(self, function: Callable[[Any], Any]) -> Any:
        """Run `function` with the connection, opening it if need be, and translate what goes wrong."""
        file = self._file
        if file is None or file.process != os.getpid():
            with self._lock:
                if self._file is None or self._file.process != os.getpid():
                    self._file = _acquire(self.path)
                file = self._file
        with file.lock:
            if file.connection is None:
                self.notices.extend(file.open())
            connection = file.connection
            try:
                return function(connection)
            except connection.Error as error:
                raise _failed(error, file) from None


def _failed(error: Exception, file: _File) -> StoreError:
    """Return the StoreError for an SQLite error; a file that turned out damaged is moved aside first."""
    from agent_core import database

    failure = database.failure(error, file.path)
    if failure.cause.startswith("damaged"):
        file.close()
        kept = database.set_aside(file.path, MIGRATIONS)
        if kept is not None:
            failure.hint = f"it is kept as {kept.name}; the next run begins a new one"
    return failure


def _row(event: Event) -> tuple[Any, ...]:
    try:
        data = _encode(event.data if type(event.data) is dict else dict(event.data))
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"an event of kind {event.kind} cannot be written as JSON: {error}") from None
    head = f"{event.run}\0{event.path}\0{event.kind}\0{event.fingerprint}\0{data}"
    return (event.run, event.path, event.kind, event.fingerprint, event.time, data, crc32(head.encode("utf-8", "replace")))


def _event(row: tuple[Any, ...]) -> tuple[int, Event]:
    """Return (sequence number, event); StoreError if a bit of it changed since it was written."""
    seq, run, path, kind, fingerprint, moment, data, checksum = row
    head = f"{run}\0{path}\0{kind}\0{fingerprint}\0{data}"
    if crc32(head.encode("utf-8", "replace")) != checksum:
        raise StoreError(f"event {seq} of run {run} is damaged", hint="the other runs can still be read", cause="checksum differs")
    return seq, Event(kind, run, path, moment, json.loads(data), fingerprint)


def _note_run(connection: Any, event: Event) -> None:
    data = event.data
    if event.kind == "run.finished":
        connection.execute(_FINISH, (event.time, data.get("status"), _plain(data.get("stop")), event.run))
        return
    session = "" if data.get("fork_at") is not None else _plain(data.get("session"))
    row = (
        event.run,
        _plain(data.get("agent")),
        session,
        _plain(data.get("parent")),
        _title(text_of(data.get("input"))),
        event.time,
    )
    connection.execute(_START, row)


def _title(text: str) -> str:
    """Return the beginning of what was asked (of the material, if nothing was) on one line."""
    if "<material origin=" in text:
        from agent_core.task import split

        asked, materials = split(text)
        text = asked or "".join(material for _, material in materials[:1])
    return " ".join(_plain(text[: _TITLE_LENGTH * 4]).split())[:_TITLE_LENGTH]


def text_of(value: Any) -> str:
    """Return the text of a run's input as recorded: a string, or a message in its JSON form."""
    if isinstance(value, dict):
        parts = value.get("parts")
        texts = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        return "".join(text for text in texts if isinstance(text, str))
    return value if isinstance(value, str) else ""


def _plain(value: Any) -> str:
    """Return text that SQLite can hold: bytes of a command line that are no UTF-8 arrive as lone surrogates."""
    return str(value or "").encode("utf-8", "backslashreplace").decode()
