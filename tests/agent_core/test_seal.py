"""Tests of encryption at rest: published vectors, altered and exchanged rows, kill -9, several processes; real files throughout."""

from __future__ import annotations

import base64
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from agent_core import chain, config, database, reseal, seal
from agent_core.errors import ConfigError, Failed, StoreError
from agent_core.events import Event
from agent_core.store import open_store

ROOT = Path(__file__).resolve().parents[2]
MARKER = "zebrafinch"
AES, CHACHA = seal.ALGORITHMS


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "agents.db"


@pytest.fixture
def store(path):
    store = open_store(path)
    yield store
    store.close()


@pytest.fixture
def env():
    return config.environ()


def turned(path, **more):
    return reseal.turn(path, reseal.target(path, config.environ()), **more)


def new_key():
    ring = seal.change_ring(config.environ(), seal.with_new)
    return ring.keys[ring.current]


def filled(store, runs=3, events=4):
    for number in range(runs):
        run = f"r{number}"
        started = Event("run.started", run, time=1.0, data={"agent": "tally", "input": f"{MARKER} {number}"})
        told = [Event("notice", run, str(place), 2.0, {"text": f"{MARKER} {number}.{place}"}) for place in range(events)]
        store.append(started, *told)
        store.item_put("notes", run, f'"{MARKER} {number}"')
    return store.blob_put(f"{MARKER} in a blob".encode())


def content(store, runs=3):
    return (
        [store.events(f"r{number}") for number in range(runs)],
        sorted((run.id, run.title) for run in store.runs(None)),
        store.items("notes"),
    )


def connected(path):
    # never the interpreter's own sqlite3 beside the suite's: two SQLites in one process take away each other's locks
    return database.driver().connect(path, timeout=10, isolation_level=None)


def rows(path, query):
    connection = connected(path)
    found = connection.execute(query).fetchall()
    connection.close()
    return found


def change(path, statement, *values):
    connection = connected(path)
    connection.execute(statement, values)
    connection.close()


# --- the form


@pytest.mark.parametrize(
    ("algorithm", "key", "nonce", "plain", "bound", "sealed"),
    [
        (  # RFC 8439, 2.8.2
            CHACHA,
            bytes(range(0x80, 0xA0)).hex(),
            "070000004041424344454647",
            b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.".hex(),
            "50515253c0c1c2c3c4c5c6c7",
            "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691",
        ),
        (
            AES,
            "00" * 32,
            "00" * 12,
            "00" * 16,
            "",
            "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
        ),  # GCM case 14
        (  # GCM case 16
            AES,
            "feffe9928665731c6d6a8f9467308308" * 2,
            "cafebabefacedbaddecaf888",
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
            "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
        ),
    ],
)
def test_the_ciphers_are_those_of_the_published_vectors(algorithm, key, nonce, plain, bound, sealed):
    key, nonce, plain, bound = map(bytes.fromhex, (key, nonce, plain, bound))

    assert seal.encrypt(algorithm, key, nonce, plain, bound).hex() == sealed


def vault(algorithm=AES, secret=b"k" * 32, store=b"s" * 16):
    key = seal.Key(secret)

    def find(id_):
        return key if id_ == key.id else seal._absent("x.db", id_)

    return seal.Vault("x.db", store, key.id, algorithm, find=find)


PLACE = ("items", "memory/long", "7")


@pytest.mark.parametrize("algorithm", seal.ALGORITHMS)
@pytest.mark.parametrize("data", [b"", b"\0", "é\u2028 text".encode(), bytes(range(256)) * 500])
def test_what_is_sealed_opens_at_its_place_and_nowhere_else(algorithm, data):
    mine = vault(algorithm)
    sealed = mine.seal(PLACE, data)

    assert mine.open(PLACE, sealed) == data
    assert len(sealed) == len(data) + 37
    others = [
        ("items", "memory/long", "8"),
        ("items", "memory/lon", "g7"),
        ("items", "memory/long7", ""),
        ("runs", *PLACE[1:]),
        PLACE[:2],
    ]
    for place in others:
        with pytest.raises(StoreError) as caught:
            mine.open(place, sealed)
        assert caught.value.cause == seal.ALTERED
    with pytest.raises(StoreError):
        vault(algorithm, store=b"t" * 16).open(PLACE, sealed)


@pytest.mark.parametrize("algorithm", seal.ALGORITHMS)
def test_a_form_with_one_altered_byte_never_opens(algorithm):
    mine = vault(algorithm)
    sealed = mine.seal(PLACE, b"a text of some length " * 12)
    for at in range(300):
        for bit in (1, 0x80):
            altered = bytearray(sealed)
            altered[at] ^= bit
            with pytest.raises(StoreError):
                mine.open(PLACE, bytes(altered))
    for end in range(len(sealed)):
        with pytest.raises(StoreError):
            mine.open(PLACE, sealed[:end])


def test_no_two_forms_of_one_text_are_alike():
    mine = vault()

    assert len({mine.seal(PLACE, b"x") for _ in range(1000)}) == 1000


def test_a_wrong_key_is_known_to_be_one_and_named_with_what_to_try():
    sealed = vault().seal(PLACE, b"x")
    with pytest.raises(StoreError) as caught:
        vault(secret=b"l" * 32).open(PLACE, sealed)

    assert (caught.value.status, caught.value.cause) == (78, seal.NO_KEY)
    assert "ENCRYPTION_KEY" in caught.value.hint


def test_a_form_of_a_later_version_is_said_to_be_one():
    sealed = bytearray(vault().seal(PLACE, b"x"))
    sealed[3] += 1

    with pytest.raises(StoreError, match="does not know") as caught:
        vault().open(PLACE, bytes(sealed))
    assert "update" in caught.value.hint


# --- keys


@pytest.mark.parametrize("form", [lambda raw: base64.b64encode(raw).decode(), lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("="), bytes.hex, lambda raw: f" {raw.hex().upper()}\n"])  # fmt: skip
def test_a_key_may_be_base64_or_hexadecimal(form):
    raw = bytes(range(200, 232))

    assert seal.parse(form(raw)).secret == raw


@pytest.mark.parametrize(
    "text", ["xyzzy", "not a key at all", base64.b64encode(b"short").decode(), "ab" * 31, "ab" * 33, "passphrase:short"]
)
def test_what_is_no_key_is_refused_and_not_repeated(text):
    with pytest.raises(ConfigError) as caught:
        seal.check(text)

    assert caught.value.status == 78
    assert text not in caught.value.line()
    with pytest.raises(ConfigError):
        config.load(env={"ENCRYPTION_KEY": text})


def test_a_key_is_shown_nowhere():
    key = seal.Key(b"secret-bytes-secret-bytes-secret")

    assert "secret-bytes" not in f"{key!r} {vault(secret=key.secret)!r}"


def test_the_first_key_of_a_ring_is_one_for_many_processes_at_once(env):
    children = []
    for _ in range(12):
        child = os.fork()
        if not child:
            with suppress(BaseException):
                seal.current(env)
                os._exit(0)
            os._exit(1)
        children.append(child)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)

    ring = seal.read_ring(env)
    assert len(ring.keys) == 1
    assert ring.keys[ring.current].number == 1
    file = Path(config.ring_file(env))
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize(
    "damage", ["current = 'ffffffff'", "[keys.00000001]\nnumber = 1\nsecret = 'AA'", "[stores]\na = 1", "keys = 3", "current = [["]
)
def test_a_damaged_ring_is_an_error_and_stays_as_it_is(env, damage):
    seal.current(env)
    file = Path(config.ring_file(env))
    file.write_text(damage)

    with pytest.raises(ConfigError):
        seal.current(env)
    assert file.read_text() == damage


def test_a_ring_that_others_may_read_is_refused(env):
    seal.current(env)
    Path(config.ring_file(env)).chmod(0o640)

    with pytest.raises(ConfigError, match="read by others"):
        seal.read_ring(env)


def test_a_key_is_retired_when_no_store_needs_it_and_opens_old_backups_still():
    ring = seal.with_new(seal.Ring())
    first = ring.current
    ring = seal.with_new(seal.using(ring, "/a", first, sealed=True))
    second = ring.current

    assert first not in seal.retire(ring).retired
    ring = seal.retire(seal.using(ring, "/a", second, only=True))
    assert list(ring.retired) == [first]
    assert set(ring.keys) == {first, second}
    assert set(seal.forget(ring).keys) == {second}


# --- a store that is turned


def test_contents_are_the_same_before_with_and_after_encryption(store, path):
    name = filled(store)
    before = content(store)
    first = turned(path)

    assert (first.rows, first.lost, first.swept) == (3 * 5 + 3 + 3 + 1, 0, True)
    assert content(store) == before
    assert store.blob_get(name) == f"{MARKER} in a blob".encode()
    assert not turned(path).new
    reseal.turn(path, new_key())
    assert content(store) == before
    reseal.turn(path, None)
    assert content(store) == before
    assert reseal.standing(path) == reseal.Standing(rows={"events": (15, 0), "items": (3, 0), "runs": (3, 0), "blobs": (1, 0)})


def test_no_word_of_it_is_left_in_any_file(store, path):
    filled(store, runs=40)
    for number in range(20):  # what was removed stands in free pages
        store.item_put("gone", str(number), f'"{MARKER} {number}"' * 200)
        store.item_delete("gone", str(number))
    assert any(MARKER.encode() in file.read_bytes() for file in path.parent.iterdir())
    turned(path)
    filled(store, runs=2)

    assert reseal.standing(path).rows["events"][0] == 0
    for file in path.parent.iterdir():
        assert MARKER.encode() not in file.read_bytes(), file


def test_a_reader_that_holds_the_log_is_told_of_and_the_next_call_sweeps(store, path):
    filled(store)
    reader = connected(path)
    if reader.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        pytest.skip("no write-ahead log with this SQLite")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM runs").fetchall()
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom pathlib import Path\nfrom agent_core import config, reseal\nreseal.SWEEP_SECONDS = 0.2\nprint(reseal.turn(Path(sys.argv[1]), reseal.target(Path(sys.argv[1]), config.environ())).swept)"
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert reseal.standing(path).task is not None
    reader.close()

    assert turned(path).swept
    assert reseal.standing(path).task is None


def test_new_rows_of_a_process_that_knew_the_store_in_the_clear_are_encrypted(store, path):
    filled(store)
    turned(path)
    store.append(Event("notice", "r0", "9", 3.0, {"text": "after"}))
    reseal.turn(path, new_key())
    store.item_put("notes", "late", '"late"')

    assert reseal.standing(path).rows == {"events": (0, 16), "items": (0, 4), "runs": (0, 3), "blobs": (0, 1)}
    assert len(reseal.standing(path).keys) == 1
    assert store.items("notes")["late"] == '"late"'


def test_items_are_compared_by_what_they_say(store, path):
    turned(path)
    store.item_put("n", "k", '"old"')

    assert store.items_write({("n", "k"): '"new"'}, {("n", "k"): '"old"', ("n", "none"): None})
    assert not store.items_write({("n", "k"): '"x"'}, {("n", "k"): '"old"'})
    assert store.item_change("n", "k", lambda text: f"{text}!") == '"new"!'
    assert store.items_under("n") == {("n", "k"): '"new"!'}


@pytest.mark.parametrize("table", ["events", "items", "runs", "blobs"])
def test_altered_and_exchanged_rows_are_errors_and_never_contents(store, path, table):
    name = filled(store)
    other = store.blob_put(b"another one")
    turned(path)
    store.close()
    spot = {
        "events": ("data", "seq = 2", "seq = 3", lambda: store.events("r0")),
        "items": ("value", "key = 'r0'", "key = 'r1'", lambda: store.item_get("notes", "r0")),
        "runs": ("title", "id = 'r0'", "id = 'r1'", store.runs),
        "blobs": ("data", f"hash = '{name}'", f"hash = '{other}'", lambda: store.blob_get(name)),
    }[table]
    column, where, elsewhere, read = spot
    query, update = f"SELECT {column} FROM {table} WHERE ", f"UPDATE {table} SET {column} = ? WHERE {where}"  # noqa: S608 - constants
    (good,), (foreign,) = (rows(path, query + place)[0] for place in (where, elsewhere))
    flipped = [bytes([*good[:at], good[at] ^ 4, *good[at + 1 :]]) for at in random.Random(1).sample(range(len(good)), 20)]
    for value in (*flipped, good[:-1], foreign, '"in the clear"', b"in the clear"):
        change(path, update, value)
        with pytest.raises(StoreError):
            read()
        store.close()
    change(path, update, good)
    assert read()


def test_an_altered_row_stays_as_it_is_when_all_others_get_a_new_key(store, path):
    filled(store)
    turned(path)
    (good,) = rows(path, "SELECT data FROM events WHERE seq = 2")[0]
    bad = good[:-1] + bytes([good[-1] ^ 1])
    change(path, "UPDATE events SET data = ? WHERE seq = 2", bad)
    made = reseal.turn(path, new_key())

    assert made.lost == 1
    assert rows(path, "SELECT data FROM events WHERE seq = 2") == [(bad,)]
    assert len(store.events("r1")) == 5
    change(path, "UPDATE events SET data = ? WHERE seq = 2", good)
    assert len(store.events("r0")) == 5


def test_an_event_that_was_damaged_before_is_so_afterwards(store, path):
    filled(store)
    change(path, "UPDATE events SET data = replace(data, '0.1', '0.7') WHERE seq = 3")
    turned(path)
    with pytest.raises(StoreError, match="damaged"):
        store.events("r0")
    assert len(store.events("r1")) == 5

    reseal.turn(path, None)
    with pytest.raises(StoreError, match="damaged"):
        store.events("r0")


def test_without_the_key_nothing_is_read_written_or_changed(store, path, env):
    filled(store)
    turned(path)
    store.close()
    ring = Path(config.ring_file(env))
    ring.rename(ring.with_name("elsewhere"))
    before = path.read_bytes()

    for use in (lambda: store.events("r0"), store.runs, lambda: store.append(Event("notice", "r0")), lambda: reseal.turn(path, None),
                lambda: reseal.turn(path, new_key()), lambda: store.item_put("a", "b", "1")):  # fmt: skip
        with pytest.raises(StoreError, match="is not here") as caught:
            use()
        assert caught.value.status == 78
    store.close()
    assert path.read_bytes() == before
    ring.with_name("elsewhere").rename(ring)
    assert len(store.events("r0")) == 5


def test_the_audit_chain_holds_whatever_form_the_rows_are_in(store, path):
    def whole():
        link = state.first
        for row in store.chained():
            link = chain.linked(link, row[1:7])
            assert row[7] == link, row[0]
        return link

    filled(store)
    state = store.chain()
    turned(path)
    filled(store, runs=1)
    whole()
    reseal.turn(path, new_key())
    filled(store, runs=1)
    whole()
    reseal.turn(path, None)
    assert whole() == store.chain().link
    # A link in an encrypted store is the hash of more than what was said: nobody can try out what a short event may have been.
    texts = [row[6] for row in store.chained()]
    assert len({text[len(text.rstrip()) :] for text in texts[-2:]}) == 2


def test_two_changes_at_once_share_the_work_and_two_that_disagree_do_not_mix(store, path):
    filled(store, runs=150)
    key = reseal.target(path, config.environ())
    children = [forked(lambda: reseal.turn(path, key)) for _ in range(2)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert reseal.standing(path).rows["events"] == (0, 750)

    turned_back = forked(lambda: [suppressed(lambda: reseal.turn(path, None)), 0][1])
    suppressed(lambda: reseal.turn(path, new_key()))
    os.waitpid(turned_back, 0)
    assert len(store.events("r149")) == 5
    now = reseal.standing(path)
    if now.task is not None:
        reseal.turn(path, None if not now.task.to else seal.find(now.task.to, str(path)))
    assert all(0 in pair for pair in reseal.standing(path).rows.values())
    assert len(store.events("r0")) == 5


def suppressed(work):
    with suppress(Failed):
        work()


def forked(work):
    child = os.fork()
    if child:
        return child
    status = 1
    with suppress(BaseException):
        work()
        status = 0
    os._exit(status)


def test_writers_lose_nothing_while_the_key_changes(store, path):
    filled(store, runs=60)
    store.close()

    def write(number):
        mine = open_store(path)
        for place in range(60):
            mine.append(Event("notice", f"w{number}", str(place), 1.0, {"text": f"{number}.{place}"}))
            mine.item_put(f"w{number}", str(place), f'"{place}"')
            assert len(mine.events(f"w{number}")) == place + 1

    writers = [forked(lambda number=number: write(number)) for number in range(3)]
    turned(path)
    reseal.turn(path, new_key())
    reseal.turn(path, new_key())
    assert [os.waitpid(child, 0)[1] for child in writers] == [0, 0, 0]

    for number in range(3):
        assert [event.data["text"] for event in store.events(f"w{number}")] == [f"{number}.{place}" for place in range(60)]
        assert len(store.items(f"w{number}")) == 60
    now = reseal.standing(path)
    assert all(clear == 0 for clear, _ in now.rows.values())
    assert len(now.keys) == 1


@pytest.mark.slow
def test_a_change_killed_thirty_times_goes_on_and_every_row_can_be_read(store, path, env):
    filled(store, runs=150)
    before = content(store, 150)
    store.close()
    key = reseal.target(path, env)
    chance = random.Random(7)
    killed = 0
    for turn in range(30):
        child = forked(partial(small, path, key))
        time.sleep(chance.uniform(0, 0.12))
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        killed += os.waitpid(child, 0)[1] == signal.SIGKILL
        if turn % 5 == 0:
            assert store.events(f"r{turn}") == before[0][turn]
            store.close()
        if reseal.standing(path).task is None and reseal.standing(path).mark == key.id:
            key = new_key()  # this one is done: the next
    reseal.turn(path, key)

    assert killed >= 15
    assert content(store, 150) == before
    assert list(reseal.standing(path).keys) == [key.id]


def small(path, key):
    """Turn with small batches: more places to be killed at."""
    reseal.ROWS = 10  # in a process of its own
    reseal.turn(path, key)


# --- where encryption begins


def test_a_new_store_is_encrypted_from_its_first_row_where_a_key_is_set(path, monkeypatch):
    monkeypatch.setenv("ENCRYPTION_KEY", base64.b64encode(os.urandom(32)).decode())
    store = open_store(path)
    filled(store)

    assert reseal.standing(path).rows == {"events": (0, 15), "items": (0, 3), "runs": (0, 3), "blobs": (0, 1)}
    assert all(MARKER.encode() not in file.read_bytes() for file in path.parent.iterdir())
    assert not Path(config.ring_file(config.environ())).exists()
    store.close()


def test_a_passphrase_works_with_the_salt_that_the_store_keeps(store, path, monkeypatch):
    monkeypatch.setenv("ENCRYPTION_KEY", "passphrase:correct horse battery staple")
    filled(store)
    store.close()
    assert len(store.events("r0")) == 5
    store.close()

    monkeypatch.setenv("ENCRYPTION_KEY", "passphrase:correct horse battery stable")
    with pytest.raises(StoreError, match="is not here") as caught:
        store.events("r0")
    assert "horse" not in caught.value.line()


def test_an_old_store_with_a_key_set_stays_as_it_is_and_says_so(store, path, monkeypatch):
    filled(store)
    store.close()
    monkeypatch.setenv("ENCRYPTION_KEY", os.urandom(32).hex())
    store.ready()

    assert ["encrypt on" in notice for notice in store.notices] == [True]
    assert reseal.standing(path).mark == 0


def test_the_successor_of_an_encrypted_store_is_encrypted_and_an_exchanged_one_refused(store, path, env):
    key = seal.current(env)
    reseal.turn(path, key)
    seal.change_ring(env, lambda ring: seal.using(ring, path, key.id, sealed=True))
    store.close()
    for file in path.parent.iterdir():
        file.unlink()
    filled(store)
    assert reseal.standing(path).rows["events"] == (0, 15)

    reseal.turn(path, None)
    store.close()
    with pytest.raises(StoreError, match="should be encrypted and is not"):
        store.events("r0")


def test_a_header_without_its_mark_is_noticed_where_the_key_ring_knows_the_store(store, path, env):
    filled(store)
    key = seal.current(env)
    reseal.turn(path, key)
    seal.change_ring(env, lambda ring: seal.using(ring, path, key.id, sealed=True))
    store.close()
    change(path, "PRAGMA application_id=0")

    with pytest.raises(StoreError, match="should be encrypted"):
        store.append(Event("notice", "r0"))


def test_a_store_in_the_clear_loads_nothing_for_encryption(path):
    program = f"""import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from agent_core.events import Event
from agent_core.store import open_store
store = open_store(Path(sys.argv[1]))
store.append(Event("run.started", "r", data={{"agent": "a"}})); store.events("r"); store.item_put("a", "b", "1"); store.item_get("a", "b"); store.runs()
print([name for name in ("agent_core.seal", "agent_core.reseal", "cryptography", "tomllib", "hmac") if name in sys.modules and name != "hmac"])"""
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_without_any_cipher_nothing_is_begun_and_the_message_says_how_to_get_it(store, path):
    filled(store)
    store.close()
    program = f"""import sys; sys.path.insert(0, {str(ROOT)!r}); sys.modules["cryptography"] = None
sys.modules["agent_core.libcrypto"] = type("None", (), {{"Cipher": lambda *_: (_ for _ in ()).throw(ImportError())}})
from pathlib import Path
from agent_core import config, errors, reseal
try:
    reseal.turn(Path(sys.argv[1]), reseal.target(Path(sys.argv[1]), config.environ()))
except errors.StoreError as error:
    print(error.status, error.line())"""
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)

    assert done.stdout == "78 encryption needs the package cryptography (pip install 'agents-as-unix-tools[crypto]')\n"
    assert reseal.standing(path).mark == 0
    assert len(store.events("r0")) == 5


@pytest.mark.slow
def test_a_store_that_is_closed_by_another_thread_meanwhile_is_read_all_the_same(store, path):
    filled(store, runs=1, events=300)
    turned(path)
    stop = threading.Event()

    def close():
        while not stop.is_set():
            store.close()

    thread = threading.Thread(target=close)
    thread.start()
    try:
        assert all(len(store.events("r0")) == 301 for _ in range(5))
    finally:
        stop.set()
        thread.join()
