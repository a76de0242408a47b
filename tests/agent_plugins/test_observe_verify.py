"""Is the record whole: every kind of tampering is found, and named where it begins; honest stores are whole, also under load."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from agent_core import chain
from agent_core.events import Event
from agent_core.store import MIGRATIONS, open_store
from agent_plugins.observe.verify import Notes, notes_of, verify

ROOT = Path(__file__).resolve().parents[2]
MANY = int(os.environ.get("AGENTS_AUDIT_WRITERS", "12"))  # noqa: TID251 - how much load a machine is to bear; 100 in long tests


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "agents.db"


@pytest.fixture
def store(path):
    store = open_store(path)
    yield store
    store.close()


def record(store, run="r", count=10, end=True):
    store.append(Event("run.started", run, time=1.0, data={"agent": "a", "input": "x"}))
    for number in range(count - 2):
        store.append(Event("tool.finished", run, str(number), 2.0 + number, {"name": "t", "text": f"text {number}"}, f"f{number}"))
    if end:
        store.append(Event("run.finished", run, time=99.0, data={"status": 0}))


def outside(path):
    file = chain.outside(path)
    return notes_of(file.read_text().splitlines()) if file.exists() else Notes()


def judged(path, notes=None):
    store = open_store(path)
    try:
        return verify(store, outside(path) if notes is None else notes)
    finally:
        store.close()


def test_an_honest_store_is_whole_and_its_key_and_heads_stand_outside_of_it(store, path, clean_environment):
    record(store, "r1")
    record(store, "r2")
    verdict = verify(store, outside(path))

    assert (verdict.whole, verdict.entries, verdict.before, verdict.sealed, verdict.heads) == (True, 20, 0, True, 2)
    file = chain.outside(path)
    assert file.is_relative_to(clean_environment / ".local" / "state" / "agents" / "audit")
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    first = next(iter(outside(path).keys.values()))
    assert first not in b"".join(each.read_bytes() for each in path.parent.iterdir())


def test_without_the_key_only_the_chain_is_followed_and_that_is_said(store):
    record(store)

    assert (verify(store).whole, verify(store).sealed, verify(store).heads) == (True, False, 0)


def test_links_and_seals_are_what_the_manual_says(store, path):
    record(store)
    import hashlib

    (key,) = outside(path).keys.values()
    link = bytes(32)
    for _, run, place, kind, print_, moment, data, stored, seal in store.chained():
        text = "\0".join((run, place, kind, print_, repr(moment), data))
        link = hashlib.sha256(link + text.encode()).digest()
        assert (stored, seal) == (link, hashlib.blake2b(link, key=key, digest_size=16).digest())
        key = hashlib.sha256(b"next" + key).digest()
    assert store.chain()[3:] == (10, link, key)


# --- tampering: (name, what is done to the file of ten entries, the entry that is named, must the key or a head be there?)


def _links(db, start):
    """Make all links from an entry on anew, as somebody would who knows the chain and lacks the key."""
    rows = db.execute(f"SELECT seq, {chain.EVENT}, link FROM events ORDER BY seq").fetchall()  # noqa: S608 - constants
    link = bytes(32)
    for number, row in enumerate(rows, 1):
        link = chain.linked(link, row[1:7]) if number >= start else row[7]
        db.execute("UPDATE events SET link = ? WHERE seq = ?", (link, row[0]))
    db.execute("UPDATE chain SET entries = ?, link = ?", (len(rows), link))


def _seals(db, start):
    """Seal from an entry on with the one key that the store holds."""
    key = db.execute("SELECT key FROM chain").fetchone()[0]
    for seq, link in db.execute("SELECT seq, link FROM events WHERE seq >= ? ORDER BY seq", (start,)).fetchall():
        db.execute("UPDATE events SET seal = ? WHERE seq = ?", (chain.sealed(key, link), seq))
        key = chain.moved(key)
    db.execute("UPDATE chain SET key = ?", (key,))


def _cut(db, last):
    db.execute("DELETE FROM events WHERE seq > ?", (last,))
    link = db.execute("SELECT link FROM events ORDER BY seq DESC LIMIT 1").fetchone()[0]
    db.execute("UPDATE chain SET entries = ?, link = ?", (last, link))


def _sql(*statements):
    def apply(db):
        for statement in statements:
            db.execute(statement)

    return apply


def _swap(db):
    rows = {row[0]: row[1:] for row in db.execute(f"SELECT seq, {chain.EVENT}, sum FROM events WHERE seq IN (4, 5)")}  # noqa: S608 - constants
    for seq, other in ((4, 5), (5, 4)):
        values = (*rows[other], seq)
        db.execute("UPDATE events SET run=?, path=?, kind=?, fingerprint=?, time=?, data=?, sum=? WHERE seq=?", values)


def _insert(db, seq, *, renumber):
    if renumber:
        for old in range(10, seq - 1, -1):
            db.execute("UPDATE events SET seq = ? WHERE seq = ?", (old + 1, old))
    columns = "run, path, kind, fingerprint, time, data, sum, link, seal"
    db.execute(f"INSERT INTO events SELECT {seq}, {columns} FROM events WHERE seq = 1")  # noqa: S608 - constants


def _renumbered(db):
    db.execute("DELETE FROM events WHERE seq = 5")
    for old in range(6, 11):
        db.execute("UPDATE events SET seq = ? WHERE seq = ?", (old - 1, old))


def _then(*steps):
    def apply(db):
        for step in steps:
            step(db)

    return apply


CHANGE = "UPDATE events SET data = replace(data, 'text 3', 'text X') WHERE seq = 5"
TAMPERINGS = [
    ("the text of an entry", _sql(CHANGE), 5, False),
    ("its time", _sql("UPDATE events SET time = 7.5 WHERE seq = 5"), 5, False),
    ("its kind", _sql("UPDATE events SET kind = 'notice' WHERE seq = 5"), 5, False),
    ("its position", _sql("UPDATE events SET path = '9' WHERE seq = 5"), 5, False),
    ("its run", _sql("UPDATE events SET run = 'other' WHERE seq = 5"), 5, False),
    ("its fingerprint", _sql("UPDATE events SET fingerprint = 'f9' WHERE seq = 5"), 5, False),
    ("its link", _sql("UPDATE events SET link = zeroblob(32) WHERE seq = 5"), 5, False),
    ("its seal", _sql("UPDATE events SET seal = zeroblob(16) WHERE seq = 5"), 5, True),
    ("link and seal taken away", _sql("UPDATE events SET link = NULL, seal = NULL WHERE seq = 5"), 5, False),
    ("the first entry removed", _sql("DELETE FROM events WHERE seq = 1"), 1, False),
    ("one in the middle removed", _sql("DELETE FROM events WHERE seq = 5"), 5, False),
    ("one removed and the rest renumbered", _renumbered, 5, False),
    ("the last removed", _sql("DELETE FROM events WHERE seq = 10"), 10, False),
    ("all removed", _sql("DELETE FROM events"), 1, False),
    ("two swapped", _swap, 4, False),
    ("one put in", lambda db: _insert(db, 5, renumber=True), 5, False),
    ("one put at the end", lambda db: _insert(db, 11, renumber=False), 11, False),
    ("the end cut off, and the state made to fit", lambda db: _cut(db, 6), 7, True),
    ("one changed, and all links made anew", _then(_sql(CHANGE), lambda db: _links(db, 5)), 5, True),
    ("the same with new seals", _then(_sql(CHANGE), lambda db: _links(db, 5), lambda db: _seals(db, 5)), 5, True),
    ("one removed, links and seals made anew", _then(_renumbered, lambda db: _links(db, 5), lambda db: _seals(db, 5)), 5, True),
    ("one forged at the end, with a link", _then(lambda db: _insert(db, 11, renumber=False), lambda db: _links(db, 11)), 11, True),
    ("the chain's state removed", _sql("DELETE FROM chain"), 0, False),
    ("the state's key", _sql("UPDATE chain SET key = zeroblob(32)"), 11, True),
    ("the state's name", _sql("UPDATE chain SET name = 'x'"), 0, True),
    ("all entries made older than the chain", _sql("UPDATE events SET link = NULL, seal = NULL", "UPDATE chain SET begun = 10, entries = 0"), 0, False),
]  # fmt: skip


@pytest.mark.parametrize(("tamper", "entry", "outer"), [case[1:] for case in TAMPERINGS], ids=[case[0] for case in TAMPERINGS])
def test_tampering_is_found_and_the_first_bad_entry_named(store, path, tamper, entry, outer):
    record(store)
    store.close()
    with sqlite3.connect(path) as db:
        tamper(db)
    db.close()
    bare, found = judged(path, Notes()), judged(path)

    assert not found.whole
    assert found.bad.entry == entry
    assert found.bad.reason
    assert bare.whole == outer


@pytest.mark.parametrize("back", ["an older copy", "an empty store", "no store"])
def test_a_store_that_was_set_back_as_a_whole_is_found_by_a_head_from_outside(store, path, back, tmp_path):
    record(store, "r1")
    store.close()
    shutil.copytree(path.parent, tmp_path / "copy")
    store = open_store(path)
    record(store, "r2")
    store.close()
    shutil.rmtree(path.parent)
    if back == "an older copy":
        shutil.copytree(tmp_path / "copy", path.parent)
    elif back == "an empty store":
        shutil.rmtree(tmp_path / "copy")
        fresh = open_store(path)
        record(fresh, "r1")
        fresh.close()
    found = judged(path)

    assert not found.whole
    assert found.bad.entry == {"an older copy": 11}.get(back, 0)
    assert judged(path, Notes(keys=outside(path).keys)).whole


def test_a_change_of_what_is_older_than_the_chain_is_found_too(path):
    old = path.with_name("old.db")
    old.parent.mkdir()
    with sqlite3.connect(path) as db:
        for statement in MIGRATIONS[0].split(";\n"):
            db.execute(statement)
        db.execute("PRAGMA user_version = 1")
        for number in range(5):
            data = json.dumps({"agent": "a", "n": number})
            db.execute("INSERT INTO events VALUES (NULL, 'old', ?, 'notice', '', 1.0, ?, 0)", (str(number), data))
    db.close()
    store = open_store(path)
    record(store, "new")
    store.close()
    verdict = judged(path)
    assert (verdict.whole, verdict.entries, verdict.before) == (True, 10, 5)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE events SET time = 9.0 WHERE run = 'old' AND path = '2'")
    db.close()

    assert (judged(path).bad.entry, judged(path).bad.reason) == (
        0,
        "one of the events from before the chain was changed, removed or added",
    )


def test_an_empty_store_is_whole(path):
    store = open_store(path)
    assert judged(path) == verify(store)
    assert judged(path).whole
    store.close()


WRITER = """
    import sys
    from pathlib import Path
    from agent_core.events import Event
    from agent_core.store import open_store
    store = open_store(Path(sys.argv[1]))
    run = f"run-{sys.argv[2]}"
    store.append(Event("run.started", run, time=1.0, data={"agent": "a", "input": "x"}))
    for number in range(int(sys.argv[3])):
        store.append(Event("notice", run, str(number), 2.0, {"text": "x" * 50}), Event("notice", run, str(number), 2.0, {"text": "y"}))
        print(number, flush=True)
    store.append(Event("run.finished", run, time=3.0, data={"status": 0}))
"""


def writer(path, number, count):
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{textwrap.dedent(WRITER)}"
    return subprocess.Popen(
        [sys.executable, "-c", program, str(path), str(number), str(count)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_parallel_writers_extend_one_chain_and_verifying_meanwhile_never_cries_wolf(path):
    store = open_store(path)
    record(store, "first")
    writers = [writer(path, number, 10) for number in range(MANY)]
    while any(each.poll() is None for each in writers):
        verdict = verify(store, outside(path))
        assert verdict.whole, verdict.bad
        time.sleep(0.05)
    problems = [each.communicate()[1] for each in writers]
    verdict = verify(store, outside(path))
    store.close()

    assert problems == [b""] * MANY
    assert (verdict.whole, verdict.entries, verdict.heads) == (True, 10 + MANY * 22, MANY + 1)


def test_writers_that_are_killed_leave_a_whole_chain(path):
    store = open_store(path)
    for number in range(6):
        process = writer(path, number, 10_000)
        for _ in range(number * 7 + 1):
            process.stdout.readline()
        process.kill()
        process.communicate()
    verdict = verify(store, outside(path))
    store.close()

    assert verdict.whole, verdict.bad
    assert verdict.entries >= sum(2 * (number * 7 + 1) + 1 for number in range(6))


def test_where_nothing_can_be_noted_outside_runs_are_recorded_all_the_same(store, path, monkeypatch):
    monkeypatch.setenv("AGENT_AUDIT_DIR", "/dev/null/nowhere")
    record(store)

    assert (len(store.events("r")), verify(store, outside(path)).sealed) == (10, False)


def test_the_file_outside_does_not_grow_without_end(store, path):
    record(store)
    file = chain.outside(path)
    head = file.read_text().splitlines()[-1]
    with file.open("a") as more:
        more.write(f"{head}\n" * 12_000)
    record(store, "r2")
    notes = outside(path)

    assert file.stat().st_size < 1 << 20
    assert (len(notes.keys), verify(store, notes).whole, verify(store, notes).heads) == (1, True, 2)


def test_an_append_pays_less_than_a_tenth_of_a_millisecond_for_its_link(store):
    import timeit

    event = ("run", "1.0", "tool.finished", "f" * 32, 1.5, json.dumps({"text": "x" * 500}))
    key = bytes(32)

    def link():
        made = chain.linked(bytes(32), event)
        return chain.sealed(key, made), chain.moved(key)

    assert min(timeit.repeat(link, number=100, repeat=5)) / 100 < 0.0001
