"""reseal - turn all contents of a store into another form: encrypted, with a new key, or in the clear again.

    turn(path, key, tell=print)          with the key: `agent-keys encrypt on`, `agent-keys rotate`
    turn(path, None)                     in the clear: `agent-keys encrypt off`
    standing(path)                       how it stands: key, algorithm, rows in each form, what is not finished

First the store is told what new rows are to be (one transaction, on the disk before anything else happens); from then on every
process writes them so. Then the old rows are rewritten in batches, each one transaction that also moves the place where to go on:
after a kill at any moment the next call goes on there, two calls at once share the work, and runs go on meanwhile. At last the file
is rewritten whole (VACUUM) and its write-ahead log emptied: what was deleted before is gone, too.
"""

from __future__ import annotations

import json
import time
from binascii import crc32
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from agent_core import chain, database, seal
from agent_core.errors import Failed, StoreError
from agent_core.store import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from agent_core.seal import Key, Vault

T = TypeVar("T")
ROWS = 200
BYTES = 1 << 20
SWEEP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Table:
    """A table with contents: `key` columns tell where to go on, `place` columns are bound, `content` is what is sealed."""

    name: str
    key: tuple[str, ...]
    place: tuple[str, ...]
    content: str

    def select(self, *, first: bool) -> str:
        """Return the query for the next rows: key columns, place columns, content."""
        names = ", ".join((*self.key, *self.place, self.content))
        keys, marks = ", ".join(self.key), ", ".join("?" * len(self.key))
        after = "" if first else f"WHERE ({keys}) > ({marks}) "
        return f"SELECT {names} FROM {self.name} {after}ORDER BY {keys} LIMIT {ROWS}"  # noqa: S608 - names are constants

    def update(self) -> str:
        """Return the statement that writes a content: (content, key columns)."""
        where = " AND ".join(f"{name} = ?" for name in self.key)
        return f"UPDATE {self.name} SET {self.content} = ? WHERE {where}"  # noqa: S608 - names are constants

    def place_of(self, values: Sequence[Any]) -> tuple[str, ...]:
        """Return the place of a row, as the store binds it."""
        if self.name == "events":
            run, path, kind, fingerprint, moment, _ = values
            return seal.event_place(run, path, kind, fingerprint, moment)
        return (self.name, *map(str, values))


TABLES = (
    Table("events", ("seq",), ("run", "path", "kind", "fingerprint", "time", "sum"), "data"),
    Table("items", ("namespace", "key"), ("namespace", "key"), "value"),
    Table("runs", ("id",), ("id",), "title"),
    Table("blobs", ("hash",), ("hash",), "data"),
)
_BY_NAME = {table.name: table for table in TABLES}


@dataclass(frozen=True, slots=True)
class Task:
    """A change under way: to which key (0: in the clear), in which table, after which row; how many rows were turned, and lost.

    `algorithm`: of the rows written from its beginning on. `table` is "" when all rows are done and only the sweep is left.
    """

    to: int
    algorithm: str = seal.ALGORITHMS[0]
    table: str = TABLES[0].name
    after: tuple[Any, ...] = ()
    done: int = 0
    lost: int = 0
    id: str = ""

    def text(self) -> str:
        """Return it as the store keeps it."""
        return json.dumps([self.to, self.algorithm, self.table, list(self.after), self.done, self.lost, self.id])


def task_of(text: str) -> Task | None:
    """Return the task that a store keeps, None for none."""
    if not text:
        return None
    to, algorithm, table, after, done, lost, id_ = json.loads(text)
    return Task(to, algorithm, table, tuple(after), done, lost, id_)


@dataclass(frozen=True, slots=True)
class Turned:
    """What a change came to: rows rewritten, rows that were altered and stay as they are, whether the file was swept."""

    rows: int
    lost: int = 0
    swept: bool = True
    new: bool = True


@dataclass(frozen=True, slots=True)
class Standing:
    """How a store stands. `rows`: by table (in the clear, encrypted); `keys`: rows by the id of their key."""

    mark: int = 0
    algorithm: str = ""
    task: Task | None = None
    rows: dict[str, tuple[int, int]] = field(default_factory=dict)
    keys: dict[int, int] = field(default_factory=dict)


def standing(path: Path) -> Standing:
    """Return how a store stands; no key is needed."""
    with _connected(path) as connection:
        known = seal.facts(connection)
        rows: dict[str, tuple[int, int]] = {}
        keys: dict[int, int] = {}
        for table in TABLES:
            counts = [0, 0]
            for head, name in connection.execute(_heads(table)):
                id_ = seal.id_in(head) if _looks_sealed(table, head, name, connection) else 0
                counts[bool(id_)] += 1
                if id_:
                    keys[id_] = keys.get(id_, 0) + 1
            rows[table.name] = (counts[0], counts[1])
        return Standing(seal.mark_of(connection), known.get("algorithm", ""), task_of(known.get("task", "")), rows, keys)


def _heads(table: Table) -> str:
    return (
        f"SELECT CASE typeof({table.content}) WHEN 'blob' THEN substr({table.content}, 1, 10) END, {table.key[0]} FROM {table.name}"  # noqa: S608 - constants
    )


def _looks_sealed(table: Table, head: Any, name: Any, connection: Any) -> bool:
    if not isinstance(head, bytes) or head[:3] != seal.MAGIC[:3]:
        return False
    if table.name != "blobs":
        return True
    data = connection.execute("SELECT data FROM blobs WHERE hash = ?", (name,)).fetchone()
    return data is not None and seal.blob(name, bytes(data[0]))


@contextmanager
def _connected(path: Path) -> Iterator[Any]:
    """Yield a connection of our own: what other connections of this process do stays apart. StoreError for SQLite's errors."""
    connection, _ = database.connect(path, MIGRATIONS)
    try:
        yield connection
    except connection.Error as error:
        raise database.failure(error, path) from None
    finally:
        connection.close()


def target(path: Path, env: Mapping[str, str]) -> Key:
    """Return the key that the contents of a store should have: ENCRYPTION_KEY if there is one, else the key ring's current one.

    A passphrase needs the store's salt, which is made and kept here if there is none.
    """
    salt = ""
    if any(text.startswith(seal.PASSPHRASE) for text in seal.texts(env)):
        with _connected(path) as connection:
            salt = str(_immediate(connection, lambda: seal.ensure_salt(connection), durable=True))
    return seal.wanted(env, salt)


# -- the change --------------------------------------------------------------------------------------------------------------------


def turn(path: Path, key: Key | None, algorithm: str = "", tell: Callable[[int, int], None] | None = None) -> Turned:
    """Turn a store's contents to a key (None: in the clear), or go on with that where it was left.

    Args:
        path: of the store
        key: the key that all rows shall have
        algorithm: of the rows to come; without, the store's
        tell: called now and then with the rows done and the rows there are

    Raises:
        StoreError: a key is not here; nothing is lost, the next call goes on.
        Failed: another program wants the rows otherwise at the same time.
    """
    check_keys(path)
    if key is not None:
        seal.encrypt(algorithm or seal.ALGORITHMS[0], key.secret, bytes(seal.NONCE_BYTES), b"", b"")  # is it installed?
    with _connected(path) as connection:
        connection.execute("PRAGMA secure_delete=ON")
        known = _begun(connection, path, key, algorithm)
        if known is None:
            return Turned(0, new=False)
        total = sum(connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0] for table in TABLES)  # noqa: S608 - constants
        last = _rewrite(connection, path, known, lambda done: tell(done, total) if tell else None)
        if last is None:
            return Turned(0, new=False)  # another call has finished it
        swept = not last.to or _sweep(connection)
        _immediate(connection, lambda: _end(connection, last, swept=swept), durable=True)
        return Turned(last.done, last.lost, swept)


def _begun(connection: Any, path: Path, key: Key | None, algorithm: str) -> Task | None:
    """Tell the store what new rows are to be; return the task, None if there is nothing to do."""

    def begin() -> Task | None:
        known = seal.facts(connection)
        task, mark, to = task_of(known.get("task", "")), seal.mark_of(connection), key.id if key is not None else 0
        kind = algorithm or known.get("algorithm", seal.ALGORITHMS[0])
        if task is not None and (task.to, task.algorithm) == (to, kind):
            return task
        if task is None and mark == to and kind == known.get("algorithm", kind) and (mark or not known):
            return None
        # The links of the audit chain are made of what was said: it must begin before that is sealed.
        if chain.read(connection) is None:
            chain.extend(connection, (), "", path)
        if key is not None:
            seal.begin(connection, key, kind)
        else:
            connection.execute("PRAGMA application_id=0")
        made = Task(to, kind, id=f"{time.time_ns():x}")
        seal.note(connection, "task", made.text())
        return made

    return _immediate(connection, begin, durable=True)


def _rewrite(connection: Any, path: Path, task: Task, tell: Callable[[int], None]) -> Task | None:
    """Rewrite all rows batch by batch; return the task when they are done, None if another call has ended it."""
    vault = replace(seal.load(connection, path), mark=task.to)
    while True:
        began = time.monotonic()
        now = _immediate(connection, lambda: _batch(connection, vault, task))
        if now is None or not now.table:
            return now
        tell(now.done)
        # As long for the others as for us: whoever waits for the lock tries again now and then only.
        time.sleep(min(0.2, time.monotonic() - began))


def _batch(connection: Any, vault: Vault, mine: Task) -> Task | None:
    """Rewrite the next rows inside a transaction, and note where to go on."""
    task = task_of(seal.facts(connection).get("task", ""))
    if task is None or (task.id == mine.id and not task.table):
        return task
    if task.id != mine.id:
        raise Failed("another program changes the encryption of the store at the same time", hint="agent-keys encrypt status")
    table = _BY_NAME[task.table]
    rows = list(_some(connection.execute(table.select(first=not task.after), task.after)))
    if rows:
        results = [_rewritten(connection, vault, table, row, task) for row in rows]
        after = rows[-1][: len(table.key)]
        moved = replace(task, after=after, done=task.done + results.count("done"), lost=task.lost + results.count("lost"))
    else:
        following = [each.name for each in TABLES[TABLES.index(table) + 1 :]]
        moved = replace(task, table=following[0] if following else "", after=())
    seal.note(connection, "task", moved.text())
    return moved


def _some(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield rows until they are so large that others should have their turn."""
    size = 0
    for row in rows:
        yield row
        size += len(row[-1])
        if size > BYTES:
            return


def _rewritten(connection: Any, vault: Vault, table: Table, row: tuple[Any, ...], task: Task) -> str:
    """Rewrite one row; return what came of it: done, left (it was so already) or lost (it was altered, and stays as it is)."""
    turned = _turned(vault, table, row, task)
    if turned is None:
        return "lost"
    if turned is row[-1]:
        return "left"
    keys = row[: len(table.key)]
    connection.execute(table.update(), (turned, *keys))
    if table.name == "events":
        connection.execute("UPDATE events SET sum = ? WHERE seq = ?", (_sum(row, turned), *keys))
    return "done"


def _turned(vault: Vault, table: Table, row: tuple[Any, ...], task: Task) -> Any:
    """Return the content in its new form (the same object if it is in it already), None for one that was altered."""
    place, stored = table.place_of(row[len(table.key) : -1]), row[-1]
    sealed = isinstance(stored, bytes) and (table.name != "blobs" or seal.blob(place[1], stored))
    if sealed and task.to and (seal.id_in(stored), stored[4]) == (task.to, seal.ALGORITHMS.index(task.algorithm)):
        return stored
    if not sealed and not task.to:
        return stored
    try:
        plain = vault.open(place, stored) if sealed else stored
    except StoreError as error:
        if error.cause != seal.ALTERED:
            raise
        return None
    if not task.to:
        return plain if table.name == "blobs" else plain.decode("utf-8", "surrogatepass")
    return vault.seal(place, plain if isinstance(plain, bytes) else plain.encode("utf-8", "surrogatepass"))


def _sum(row: tuple[Any, ...], content: Any) -> int:
    """Return the check sum of an event in its new form: one that was damaged before stays so (a sealed one has 0)."""
    _, run, path, kind, fingerprint, _, was, stored = row

    def of(data: str) -> int:
        return crc32(f"{run}\0{path}\0{kind}\0{fingerprint}\0{data}".encode("utf-8", "replace"))

    if isinstance(content, bytes):
        return int(was) if isinstance(stored, bytes) else int(of(stored) != was)
    return of(content) ^ int(was)


def _sweep(connection: Any) -> bool:
    """Rewrite the file and empty its log, so that nothing is left of what stood there; False if others held it all the time."""
    end = time.monotonic() + SWEEP_SECONDS
    connection.execute("VACUUM")
    connection.execute("PRAGMA busy_timeout=100")
    try:
        while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
    finally:
        connection.execute(f"PRAGMA busy_timeout={int(database.BUSY_SECONDS * 1000)}")
    return True


def _end(connection: Any, task: Task, *, swept: bool) -> None:
    now = task_of(seal.facts(connection).get("task", ""))
    if now is None or now.id != task.id or not swept:
        return
    if task.to:
        seal.note(connection, "task", None)
    elif not task.lost:
        connection.execute("DROP TABLE sealing")
    else:
        seal.note(connection, "task", None)


def _immediate(connection: Any, work: Callable[[], T], *, durable: bool = False) -> T:
    connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    connection.execute("BEGIN IMMEDIATE")
    try:
        value = work()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return value


def leftovers(path: Path) -> Iterator[Path]:
    """Yield files beside a store that may hold what it held before: copies of an older version, damaged ones, blobs of records."""
    yield from sorted(each for each in path.parent.glob(f"{path.name}.*") if not each.name.endswith((".lock", "-wal", "-shm")))
    yield from sorted((path.parent / "blobs").glob("*"))


def check_keys(path: Path) -> None:
    """StoreError if the key of any row is not here: then nothing of the store must be touched."""
    if path.exists():
        now = standing(path)
        with _connected(path) as connection:
            vault = seal.load(connection, path)
            for id_ in dict.fromkeys((*now.keys, *([now.mark] if now.mark else []))):
                vault.find(id_)


def salt_of(path: Path) -> str:
    """Return the salt of a store's passphrase, "" if it has none."""
    if not path.exists():
        return ""
    with _connected(path) as connection:
        return seal.facts(connection).get("salt", "")
