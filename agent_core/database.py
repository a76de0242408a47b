"""database - open one SQLite file so that many processes may use it at once and none loses a row.

The rules, each measured (docs/decisions.md, "SQLite"): write-ahead log only on an SQLite without the WAL-reset bug
(sqlite.org/wal.html#walresetbug: fixed in 3.51.3, 3.50.7 and 3.44.6), else the rollback journal; `busy_timeout` before
`journal_mode`; migrations in one exclusive transaction that reads the version again; no network file system; a damaged file is
moved aside, never deleted; a file of a newer version is left alone. Nothing here ever `open()`s an existing database file:
closing such a descriptor would drop the locks that SQLite holds on it in this process.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BUSY_SECONDS = 15.0
NETWORK = frozenset({
    "nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs", "ceph", "gfs", "gfs2", "ocfs2", "lustre", "beegfs", "gpfs",
    "glusterfs", "davfs", "fuse.sshfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.gcsfuse", "fuse.davfs2", "fuse.ceph",
})  # fmt: skip


def fixed(version: tuple[int, ...]) -> bool:
    """Return whether this SQLite version has the fix of the WAL-reset bug."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def driver() -> Any:
    """Return the `sqlite3` module to use: the first one with the fix, else the interpreter's own."""
    try:
        # asked first: where it is installed the interpreter's own is usually too old, and loading both costs 4 ms
        from pysqlite3 import dbapi2 as newer
    except ImportError:
        newer = None
    if newer is not None and fixed(newer.sqlite_version_info):
        return newer
    import sqlite3

    return sqlite3


def connect(path: Path, migrations: Sequence[str], *, busy: float = BUSY_SECONDS) -> tuple[Any, list[str]]:
    """Return (connection, notices) for a file that is created, migrated or moved aside as needed; StoreError if it cannot be."""
    notices: list[str] = []
    _refuse_network(path)
    _make_private(path)
    try:
        return _open(path, migrations, busy), notices
    except StoreError as error:
        if not error.cause.startswith("damaged"):
            raise
    with _alone(path):
        connection = _open_again(path, migrations, busy)
        if connection is None:
            kept = _move_aside(path)
            notices.append(f"the store was damaged; it is kept as {kept.name} and a new one was begun")
            _make_private(path)
            connection = _open(path, migrations, busy)
    return connection, notices


def set_aside(path: Path, migrations: Sequence[str]) -> Path | None:
    """Move a file aside that turned out damaged in use; None if another process already did (the file is whole now)."""
    with _alone(path):
        connection = _open_again(path, migrations, BUSY_SECONDS)
        if connection is not None and _whole(connection):
            return None
        return _move_aside(path)


def _whole(connection: Any) -> bool:
    """Return whether SQLite finds no damage, and close the connection."""
    try:
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except connection.Error:
        return False
    finally:
        connection.close()


def failure(error: Exception, path: Path) -> StoreError:
    """Return the StoreError that an SQLite error stands for; `cause` starts with `damaged` when the file is."""
    words = str(error).lower()
    if "malformed" in words or "not a database" in words or "encrypted" in words:
        return StoreError(
            f"the store {path} is damaged", hint="it will be kept aside and a new one begun", cause=f"damaged: {error}"
        )
    if "disk is full" in words or "disk i/o error" in words:
        return StoreError(f"the store {path} cannot be written: {error}", hint="free some disk space", cause=words)
    if "locked" in words or "busy" in words:
        return StoreError(f"the store {path} is in use by another program: {error}", hint="try again", cause=words)
    return StoreError(
        f"the store {path} cannot be used: {error}", hint="check the folder's permissions, or name another data folder"
    )


def filesystem(path: Path, mounts: str) -> str:
    """Return the type of the file system that holds an absolute path, given the text of /proc/self/mountinfo ("" if unknown)."""
    best, found = -1, ""
    for line in mounts.splitlines():
        head, _, tail = line.partition(" - ")
        fields, kind = head.split(" "), tail.split(" ")[0]
        if len(fields) < 5 or not kind:
            continue
        point = _unescaped(fields[4])
        if len(point) >= best and (point == "/" or path == Path(point) or Path(point) in path.parents):
            best, found = len(point), kind
    return found


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def _refuse_network(path: Path) -> None:
    try:
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:
        return
    kind = filesystem(Path(os.path.realpath(path.parent)), mounts)
    if kind in NETWORK:
        raise StoreError(
            f"the store {path} is on a network file system ({kind}), where SQLite's locks are not safe",
            hint="name a data folder on a local disk",
        )


def _make_private(path: Path) -> None:
    """Create the folder (0700) and the file (0600); tighten a file that others may read."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if path.parent.is_dir() and path.is_file() and path.stat().st_mode & 0o077:
            _tighten(path)
    except OSError as error:
        raise StoreError(
            f"the store {path} cannot be created: {error.strerror}",
            hint="check the folder's permissions, or name another data folder",
        ) from None


def _tighten(path: Path) -> None:
    try:
        path.chmod(0o600)
    except OSError:
        return  # somebody else's file: SQLite will say whether we may use it


def _open(path: Path, migrations: Sequence[str], busy: float) -> Any:
    sqlite = driver()
    connection = None
    try:
        connection = sqlite.connect(path, timeout=busy, isolation_level=None, check_same_thread=False, cached_statements=64)
        _prepare(sqlite, connection, busy)
        _migrate(connection, path, migrations)
    except (sqlite.Error, StoreError) as error:
        if connection is not None:
            connection.close()
        raise (error if isinstance(error, StoreError) else failure(error, path)) from None
    return connection


def _prepare(sqlite: Any, connection: Any, busy: float) -> None:
    """Set the pragmas, in the order that matters. Changing the journal's mode does not wait for locks, so it is tried again."""
    connection.execute(f"PRAGMA busy_timeout={int(busy * 1000)}")
    mode = "wal" if fixed(sqlite.sqlite_version_info) else "delete"
    end = time.monotonic() + busy
    pause = 0.001
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] == mode:
                break
            if connection.execute(f"PRAGMA journal_mode={mode}").fetchone()[0] == mode:
                break
        except sqlite.OperationalError as error:
            if not _passing(error) or time.monotonic() > end:
                raise
        if time.monotonic() > end:
            raise sqlite.OperationalError(f"database is locked (journal mode {mode} refused)")
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    connection.execute("PRAGMA synchronous=NORMAL")


def _passing(error: Exception) -> bool:
    words = str(error).lower()
    return "locked" in words or "busy" in words or "locking protocol" in words


def _migrate(connection: Any, path: Path, migrations: Sequence[str]) -> None:
    """Bring the tables up to date: the first process does it, the others wait and find it done."""
    version = _version(connection, path, len(migrations))
    if version == len(migrations):
        return
    if version:
        _backup(connection, path, version)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        for number in range(_version(connection, path, len(migrations)), len(migrations)):
            for statement in migrations[number].split(";\n"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _version_now(connection: Any) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _version(connection: Any, path: Path, known: int) -> int:
    # In this order: another process may make the tables meanwhile, and sets the version with them.
    tables: int = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    version = _version_now(connection)
    if version > known:
        raise StoreError(
            f"the store {path} was written by a newer version (schema {version}; this program knows {known})",
            hint="update this program, or name another data folder",
        )
    if tables and not version:
        raise StoreError(f"{path} is a database of some other program", hint="name another data folder")
    return version


def _backup(connection: Any, path: Path, version: int) -> None:
    """Copy the file before its tables change. Outside the migration's transaction: inside, it would wait for itself for ever.

    The copy gets its name when it is whole: one that a killed process began is begun anew.
    """
    copy = path.with_name(f"{path.name}.v{version}")
    part = copy.with_name(f"{copy.name}.part")
    if copy.exists():
        return
    with _alone(path):
        for left in (part, part.with_name(f"{part.name}-journal")):
            left.unlink(missing_ok=True)
        if copy.exists() or _version_now(connection) != version:
            return
        _make_private(part)
        target = driver().connect(part)
        try:
            connection.backup(target)
        finally:
            target.close()
        part.rename(copy)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock beside the file, so that only one process at a time judges it and moves it."""
    import fcntl

    lock = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _open_again(path: Path, migrations: Sequence[str], busy: float) -> Any | None:
    """Return a connection, or None if the file is (still) damaged."""
    try:
        return _open(path, migrations, busy)
    except StoreError as error:
        if error.cause.startswith("damaged"):
            return None
        raise


def _move_aside(path: Path) -> Path:
    """Rename the file and its log. The log goes first: a log beside a new, empty file would be played into it."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    number = 0
    while (kept := path.with_name(f"{path.name}.damaged-{stamp}{f'-{number}' if number else ''}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", "-journal", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(kept.with_name(kept.name + suffix))
    return kept
