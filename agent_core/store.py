"""store - the one SQLite file of a workspace: runs, their events, and small items.

    store = open_store(path)                 # touches nothing until it is used
    store.append(Event("run.started", run_id, data={"agent": "assistant", "input": "hi"}))
    store.recorded(run_id)                   # {"0": Event("model.replied", …), …}: what resume and replay feed back

Every method may be called from any thread. All problems are StoreError; a run's answer does not depend on the store, so the
engine says it once and goes on. The journal is what the engine tells: it redacts before, the store writes what it is given.

Contents (data of events, titles of runs, values of items, blobs) go through `_File.shut` and `_File.clear`, the one place where
they are encrypted (`agent_core.seal`) if the user wants that. All else (ids, times, kinds, names, keys of items) stays as it is.
"""

from __future__ import annotations

import json
import os
import time
from binascii import crc32
from dataclasses import dataclass, replace
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any

from agent_core import chain, ids
from agent_core.errors import StoreError, UsageError
from agent_core.events import OUTCOMES, TRANSIENT, Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from agent_core.seal import Vault

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
    chain.MIGRATION,
)

_INSERT = "INSERT INTO events (run, path, kind, fingerprint, time, data, sum, link, seal) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
# The chain links what was said (?6); what is stored of it is sealed (?7) and needs no sum of its own.
_INSERT_SEALED = """INSERT INTO events (run, path, kind, fingerprint, time, data, sum, link, seal)
VALUES (?1, ?2, ?3, ?4, ?5, ?7, 0, ?8, ?9)"""
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
        self.mark = 0  # the id of the key for new rows; 0: they are not encrypted
        self.vault: Vault | None = None

    def open(self) -> list[str]:
        """Open the connection and return what a person should know."""
        from agent_core import config, database

        connection, notices = database.connect(self.path, MIGRATIONS)
        self.inode = _inode(self.path)
        self.full = False
        self.vault, self.mark = None, connection.execute("PRAGMA application_id").fetchone()[0]
        if not self.mark and config.seals(config.environ()):
            notices += self._begin_new(connection)
        self.connection = connection
        return notices

    def _begin_new(self, connection: Any) -> list[str]:
        from agent_core import config, database, seal

        try:
            notice = seal.begin_new(connection, self.path, config.environ())
            self.mark = seal.mark_of(connection)
        except connection.Error as error:
            connection.close()
            raise database.failure(error, self.path) from None
        except BaseException:
            connection.close()
            raise
        return [notice] if notice else []

    # -- encryption

    def look(self) -> None:
        """Note which key new rows have. Inside a transaction that writes: nobody can change it before the end of that."""
        mark = self.connection.execute("PRAGMA application_id").fetchone()[0]
        if mark != self.mark:
            self.mark, self.vault = mark, None

    def keys(self) -> Vault:
        """Return the keys of a store that is, or was, encrypted."""
        if self.vault is None:
            from agent_core import seal

            self.vault = seal.load(self.connection, self.path)
        return self.vault

    def shut(self, place: tuple[str, ...], content: str | bytes) -> str | bytes:
        """Return a content as it is stored; after `look`, in the same transaction. StoreError without the key."""
        if not self.mark:
            return content
        if not isinstance(content, str | bytes):
            raise StoreError(f"what is kept at {' '.join(place)} must be text", hint="write it as JSON")
        return self.keys().seal(place, content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))

    def clear(self, place: tuple[str, ...], stored: Any) -> str:
        """Return a text as it was before it was stored. StoreError without the key, or if it was altered or exchanged."""
        if isinstance(stored, bytes):
            return self.keys().open(place, stored).decode("utf-8", "surrogatepass")
        if self.mark:
            self.check_clear(place)
        return str(stored)

    def check_clear(self, place: tuple[str, ...]) -> None:
        """StoreError if a content in the clear cannot be at that place: it was put there by somebody without the key."""
        if self.keys().mixed:
            return
        self.look()
        self.vault = None  # what was known may be old
        if self.mark and not self.keys().mixed:
            raise StoreError(
                f"the store {self.path} is encrypted, but {' '.join(place[:3])} is not: it was exchanged",
                hint="the other rows can be read",
            )

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

        def write(file: _File) -> None:
            connection = file.connection
            if file.mark:
                chain.extend(connection, [_sealed_row(file, row) for row in rows], _INSERT_SEALED, self.path)
            else:
                chain.extend(connection, rows, _INSERT, self.path)
            for event in events:
                if event.kind in ("run.started", "run.finished"):
                    _note_run(connection, event, file)

        self._change(write, durable=durable)
        if any(event.kind == "run.finished" for event in events):
            self._note_head()

    def _note_head(self) -> None:
        """Note the head outside; what was written is written, whatever becomes of the note."""
        try:
            state = self.chain()
        except StoreError:
            return
        if state is not None:
            chain.note_head(state, self.path)

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

    def stream(self, since: float = 0.0, kinds: Iterable[str] = (), page: int = 1000) -> Iterator[Event]:
        """Yield the events of all runs from a moment on (seconds since 1970) in the order in which they were written, page by page.

        `kinds`: only these. What is written meanwhile may be among them.
        """
        wanted = ",".join("?" * len(chosen)) if (chosen := tuple(kinds)) else ""
        where = f"WHERE seq > ? AND time >= ?{f' AND kind IN ({wanted})' if wanted else ''} ORDER BY seq LIMIT ?"
        last = 0
        while found := self._select(where, (last, since, *chosen, page)):
            last = found[-1][0]
            yield from (event for _, event in found)

    def chain(self) -> chain.State | None:
        """Return the state of the audit chain, None before its first entry."""
        state: chain.State | None = self._do(chain.read)
        return state

    def chained(self, after: int | None = None, page: int = 1000) -> Iterator[tuple[Any, ...]]:
        """Yield (seq, the columns of `chain.EVENT`, link, seal) of every event after a number as it stands there, unchecked."""
        query = f"SELECT seq, {chain.EVENT}, link, seal FROM events WHERE seq > ? ORDER BY seq LIMIT ?"  # noqa: S608 - constants
        last: Any = -1 << 62 if after is None else after
        while rows := self._do(lambda connection: connection.execute(query, (last, page)).fetchall()):  # noqa: B023 - called at once
            last = rows[-1][0]
            yield from map(self._said, rows)

    def _said(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a row of `chained` with what its link was made of; what was altered stays as it is, and its link will not fit."""
        if not isinstance(row[6], bytes):
            return row
        try:
            return (*row[:6], self._clear(_place_of(row), row[6]), *row[7:])
        except StoreError as error:
            if error.cause != "altered":
                raise
            return row

    def ends(self, session: str, statuses: Iterable[int] = (0,)) -> list[Event]:
        """Return first run.started and last run.finished of each run of a session that ended with one of `statuses`, in order."""
        wanted = ",".join(str(int(status)) for status in statuses)
        first = "(SELECT min(seq) FROM events WHERE run = r.id AND kind = 'run.started')"
        last = "(SELECT max(seq) FROM events WHERE run = r.id AND kind = 'run.finished')"
        runs = f"SELECT r.started AS began, r.rowid AS number, {first} AS one, {last} AS two FROM runs r "  # noqa: S608 - constants
        chosen = f"{runs} WHERE r.session = ? AND r.status IN ({wanted})"
        query = f"SELECT {_COLUMNS} FROM ({chosen}) JOIN events ON seq IN (one, two) ORDER BY began, number, seq"  # noqa: S608
        return [
            self._event(row)[1] for row in self._do(lambda connection: connection.execute(query, (_plain(session),)).fetchall())
        ]

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
        return [self._run(row) for row in self._do(lambda connection: connection.execute(query, values).fetchall())]

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
        found = [self._run(row) for row in self._do(lambda connection: connection.execute(query, (reference,)).fetchall())]
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
        return None if found is None else self._clear(("items", namespace, key), found[0])

    def item_put(self, namespace: str, key: str, value: str, ttl: float | None = None, *, expect: int | None = None) -> int:
        """Write an item (JSON text) and return its new version, from 1.

        With `expect` (0: must not exist) nothing is written and 0 returned if the item is at another version: whoever updates
        reads `item_version` first and tries again.
        """
        expires = None if ttl is None else time.time() + ttl

        def write(file: _File) -> int:
            connection = file.connection
            row = connection.execute("SELECT version FROM items WHERE namespace = ? AND key = ?", (namespace, key)).fetchone()
            version = row[0] if row else 0
            if expect is not None and expect != version:
                return 0
            stored = file.shut(("items", namespace, key), value)
            connection.execute("REPLACE INTO items VALUES (?, ?, ?, ?, ?)", (namespace, key, stored, expires, version + 1))
            return int(version) + 1

        return int(self._change(write))

    def item_change(
        self, namespace: str, key: str, change: Callable[[str | None], str | None], ttl: float | None = None
    ) -> str | None:
        """Read, change and write an item in one transaction, so that no other process comes between; return what is there now.

        `change` gets the item's value (None: none, or expired) and returns the new one; None removes the item, the same text leaves
        it as it is. It must be quick: everybody else who writes waits for it.
        """
        now = time.time()
        query = "SELECT value, version FROM items WHERE namespace = ? AND key = ? AND (expires IS NULL OR expires > ?)"

        def write(file: _File) -> str | None:
            connection, place = file.connection, ("items", namespace, key)
            row = connection.execute(query, (namespace, key, now)).fetchone()
            old, version = (None, 0) if row is None else (file.clear(place, row[0]), int(row[1]))
            new = change(old)
            if new is None and old is not None:
                connection.execute("DELETE FROM items WHERE namespace = ? AND key = ?", (namespace, key))
            elif new is not None and new != old:
                values = (namespace, key, file.shut(place, new), None if ttl is None else now + ttl, version + 1)
                connection.execute("REPLACE INTO items VALUES (?, ?, ?, ?, ?)", values)
            return new

        found = self._change(write)
        return None if found is None else str(found)

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
        found = self._do(lambda connection: connection.execute(query, values).fetchall())
        return {key: self._clear(("items", namespace, key), value) for key, value in found}

    def items_under(self, prefix: str, now: float | None = None) -> dict[tuple[str, str], str]:
        """Return the items of all namespaces that begin with `prefix`: (namespace, key) to JSON text, in that order."""
        query = """SELECT namespace, key, value FROM items
        WHERE namespace >= ?1 AND namespace < ?2 AND (expires IS NULL OR expires > ?3) ORDER BY namespace, key"""
        values = (prefix, prefix + chr(0x10FFFF), time.time() if now is None else now)
        found = self._do(lambda connection: connection.execute(query, values).fetchall())
        return {(namespace, key): self._clear(("items", namespace, key), value) for namespace, key, value in found}

    def item_count(self, namespace: str) -> int:
        """Return how many items a namespace has, expired ones included."""
        query = "SELECT count(*) FROM items WHERE namespace = ?"
        return int(self._do(lambda connection: connection.execute(query, (namespace,)).fetchone())[0])

    def items_write(
        self, items: Mapping[tuple[str, str], str | None], was: Mapping[tuple[str, str], str | None] | None = None
    ) -> bool:
        """Write several items (JSON text; None removes) in one transaction: all of them, or none and False.

        None are written if one of `was` (None: there is none) is not as it was: whoever changes items reads them first, decides,
        and tries again.
        """

        def write(file: _File) -> bool:
            connection = file.connection
            for place, value in (was or {}).items():
                row = connection.execute("SELECT value FROM items WHERE namespace = ? AND key = ?", place).fetchone()
                if (file.clear(("items", *place), row[0]) if row else None) != value:
                    return False
            for place, value in items.items():
                _put(connection, place, None if value is None else file.shut(("items", *place), value))
            return True

        return bool(self._change(write))

    def leave_session(self, session: str) -> int:
        """Take all runs out of a session, which is empty then; they stay in the list of runs. Return how many they were."""
        query = "UPDATE runs SET session = '' WHERE session = ?"
        return int(self._write(lambda connection: connection.execute(query, (_plain(session),)).rowcount)) if session else 0

    def expire(self, now: float | None = None) -> int:
        """Remove all expired items; return how many."""
        values = (time.time() if now is None else now,)
        return int(self._write(lambda connection: connection.execute("DELETE FROM items WHERE expires <= ?", values).rowcount))

    def blob_put(self, data: bytes) -> str:
        """Keep bytes and return the name they have for ever: their SHA-256 in hexadecimal."""
        import hashlib

        name = hashlib.sha256(data).hexdigest()

        def write(file: _File) -> None:
            file.connection.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?)", (name, file.shut(("blobs", name), data)))

        self._change(write)
        return name

    def blob_get(self, name: str) -> bytes | None:
        """Return the bytes of that name, or None."""
        row = self._do(lambda connection: connection.execute("SELECT data FROM blobs WHERE hash = ?", (name,)).fetchone())
        return None if row is None else self._blob(name, row[0] if isinstance(row[0], bytes) else str(row[0]).encode())

    def _blob(self, name: str, stored: bytes) -> bytes:
        from agent_core import seal

        place = ("blobs", name)
        if seal.blob(name, stored):
            return bytes(self._on(lambda file: file.keys().open(place, stored)))
        if self._encrypted:
            self._on(lambda file: file.check_clear(place))
            seal.check_blob(name, stored, self.path)
        return stored

    def blob_delete(self, name: str) -> bool:
        """Remove the bytes of that name; return whether there were any."""
        return bool(self._write(lambda connection: connection.execute("DELETE FROM blobs WHERE hash = ?", (name,)).rowcount))

    # -- the connection

    def _select(self, where: str, values: tuple[Any, ...]) -> list[tuple[int, Event]]:
        query = f"SELECT {_COLUMNS} FROM events {where}"  # noqa: S608 - `where` is one of the constants above
        return [self._event(row) for row in self._do(lambda connection: connection.execute(query, values).fetchall())]

    def _event(self, row: tuple[Any, ...]) -> tuple[int, Event]:
        if isinstance(row[6], bytes) or self._encrypted:
            text = self._clear(_place_of(row), row[6])
            row = (*row[:6], text, row[7] or None if isinstance(row[6], bytes) else row[7])
        return _event(row)

    def _run(self, row: tuple[Any, ...]) -> Run:
        return Run(*(*row[:4], self._clear(("runs", row[0]), row[4]), *row[5:]))

    def _clear(self, place: tuple[str, ...], stored: Any) -> str:
        if isinstance(stored, str) and not self._encrypted:
            return stored
        return str(self._on(lambda file: file.clear(place, stored)))

    @property
    def _encrypted(self) -> bool:
        return self._file is not None and self._file.mark != 0

    def _write(self, function: Callable[[Any], Any], *, durable: bool = False) -> Any:
        """Run `function` with the connection in one transaction."""
        return self._change(lambda file: function(file.connection), durable=durable)

    def _change(self, function: Callable[[_File], Any], *, durable: bool = False) -> Any:
        """Run `function` in one immediate transaction (a deferred one fails at once when two processes upgrade their locks)."""

        def transaction(file: _File) -> Any:
            connection = file.connection
            if durable != file.full:
                connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                file.full = durable
            if file.mark:
                file.keys().ready()  # looking for a key may take a while: not with everybody else waiting
            try:
                connection.execute("BEGIN IMMEDIATE")
                file.look()
                value = function(file)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return value

        return self._on(transaction)

    def _do(self, function: Callable[[Any], Any]) -> Any:
        """Run `function` with the connection."""
        return self._on(lambda file: function(file.connection))

    def _on(self, function: Callable[[_File], Any]) -> Any:
        """Run `function` with the file, opening it if need be, and translate what goes wrong."""
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
                return function(file)
            except connection.Error as error:
                raise _failed(error, file) from None


def _put(connection: Any, place: tuple[str, str], value: str | bytes | None) -> None:
    if value is None:
        connection.execute("DELETE FROM items WHERE namespace = ? AND key = ?", place)
        return
    query = """INSERT INTO items VALUES (?, ?, ?, NULL, 1) ON CONFLICT (namespace, key)
    DO UPDATE SET value = excluded.value, expires = NULL, version = version + 1"""
    connection.execute(query, (*place, value))


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
    """Return (sequence number, event); StoreError if a bit of it changed since it was written. Sum None: it was sealed."""
    seq, run, path, kind, fingerprint, moment, data, checksum = row
    head = f"{run}\0{path}\0{kind}\0{fingerprint}\0{data}"
    if checksum is not None and crc32(head.encode("utf-8", "replace")) != checksum:
        raise StoreError(f"event {seq} of run {run} is damaged", hint="the other runs can still be read", cause="checksum differs")
    return seq, Event(kind, run, path, moment, json.loads(data), fingerprint)


def _place_of(row: tuple[Any, ...]) -> tuple[str, ...]:
    """Return the place of the data of a row that begins with seq, run, path, kind, fingerprint, time."""
    from agent_core import seal

    return seal.event_place(*row[1:6])


def _sealed_row(file: _File, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return an event's row with its data as the chain links it, and sealed."""
    from agent_core import seal

    said = seal.salted(row[5])
    return (*row[:5], said, file.shut(seal.event_place(*row[:5]), said))


def _note_run(connection: Any, event: Event, file: _File) -> None:
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
        file.shut(("runs", event.run), _title(text_of(data.get("input")))),
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
