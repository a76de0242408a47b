"""Tests of the store: many processes, kill -9, damage, a full disk; real files and real processes throughout."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from agent_core import database, ids
from agent_core.errors import StoreError, UsageError
from agent_core.events import Event
from agent_core.store import MIGRATIONS, open_store
from agent_core.task import compose

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "agents.db"


@pytest.fixture
def store(path):
    store = open_store(path)
    yield store
    store.close()


def python(code, *args):
    """Start a Python process that can import the suite."""
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{textwrap.dedent(code)}"
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def started(run, **data):
    return Event("run.started", run, time=data.pop("time", 1.0), data={"agent": "tally", "input": "hi", **data})


def finished(run, status=0, **data):
    return Event(
        "run.finished", run, time=data.pop("time", 2.0), data={"status": status, "stop": "final", "output": "done", **data}
    )


def replied(run, path, text="hi", **more):
    return Event(
        "model.replied", run, path, 1.5, {"message": {"role": "assistant", "parts": [{"type": "text", "text": text}]}}, **more
    )


# --- events


def test_events_come_back_as_they_were_told_whatever_is_in_them(store):
    told = Event("tool.finished", "r", "2.0", 3.25, {"text": "a\0b\x1b\ud800é\u2028", "value": [1, None, {"x": 2.5}]}, "f" * 32)
    store.append(started("r"), told)

    assert store.events("r")[1] == told


def test_opening_a_store_touches_nothing_until_it_is_used(path):
    open_store(path)

    assert not path.parent.exists()


def test_deltas_are_never_stored(store):
    store.append(started("r"), Event("delta", "r", data={"text": "h"}))

    assert [event.kind for event in store.events("r")] == ["run.started"]


def test_recorded_holds_outcomes_only_in_the_order_of_positions(store):
    store.append(started("r"), *(replied("r", place) for place in ("10", "9", "2.10", "2.9", "2")), Event("notice", "r", "3"))

    assert list(store.recorded("r")) == ["2", "2.9", "2.10", "9", "10"]


def test_of_two_outcomes_at_one_position_the_newer_counts(store):
    store.append(started("r"), replied("r", "0", "old"), replied("r", "0", "new"))

    assert "new" in str(store.recorded("r")["0"].data)


def test_an_event_that_is_no_json_is_refused_whole_and_the_store_goes_on(store):
    loop: list = []
    loop.append(loop)
    with pytest.raises(StoreError):
        store.append(replied("r", "0"), Event("notice", "r", data={"x": loop}))

    assert store.events("r") == []
    store.append(replied("r", "0"))
    assert len(store.events("r")) == 1


def test_since_follows_what_was_appended_after(store):
    store.append(started("a"), started("b"))
    last = store.since(0)[-1][0]
    store.append(replied("a", "0"), replied("b", "0"))

    assert [event.run for _, event in store.since(last)] == ["a", "b"]
    assert [event.run for _, event in store.since(last, "b")] == ["b"]


def test_events_of_one_kind_are_found_over_all_runs_of_an_agent(store):
    store.append(started("a"), replied("a", "0"), started("b", agent="other"), replied("b", "0"), started("c"), replied("c", "0"))

    assert [event.run for event in store.of_kind("model.replied", "tally")] == ["a", "c"]


def test_an_interrupt_in_the_middle_of_a_write_leaves_nothing_open(store):
    def interrupted(connection):
        connection.execute("INSERT INTO blobs VALUES ('x', 'y')")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store._write(interrupted)
    store.append(replied("r", "0"))

    assert len(store.events("r")) == 1
    assert store.blob_get("x") is None


def test_a_flipped_character_in_a_recorded_event_is_reported_and_never_fed_back(store, path):
    store.append(started("r"), replied("r", "0", "pay 100"))
    store.close()
    body = path.read_bytes()
    assert b"pay 100" in body
    path.write_bytes(body.replace(b"pay 100", b"pay 900"))

    with pytest.raises(StoreError, match="damaged"):
        store.recorded("r")


# --- runs


def test_runs_are_listed_newest_first_and_by_agent_and_session(store):
    store.append(started("a", time=1.0), started("b", time=3.0, agent="other"), started("c", time=2.0, session="talk"))
    store.append(finished("a", 4, stop="max_steps"))

    assert [run.id for run in store.runs()] == ["b", "c", "a"]
    assert [run.id for run in store.runs(agent="other")] == ["b"]
    assert [run.id for run in store.runs(session="talk")] == ["c"]
    assert [run.id for run in store.runs(1)] == ["b"]
    ended = store.run("a")
    assert (ended.status, ended.stop, ended.finished) == (4, "max_steps", 2.0)
    assert store.run("b").status is None


def test_a_resumed_run_is_unfinished_until_it_ends_again(store):
    store.append(started("a"), finished("a", 130))
    store.append(started("a", resumed=True))

    assert store.run("a").status is None


def test_the_title_is_the_beginning_of_the_input_on_one_line(store):
    message = {
        "role": "user",
        "parts": [{"type": "text", "text": "one\n  two"}, {"type": "image", "media_type": "x", "data": "", "url": ""}],
    }
    store.append(started("a", input=message))

    assert store.run("a").title == "one two"


def test_the_title_is_the_instruction_without_the_material(store):
    store.append(
        started("a", input=compose("count it", [("stdin", "a b c")])), started("b", input=compose("", [("stdin", "a b c")]))
    )

    assert [store.run(name).title for name in "ab"] == ["count it", "a b c"]


def test_a_run_is_found_by_last_by_id_and_by_a_unique_beginning(store):
    first, second = ids.new_run_id(1000.0, bytes(7)), ids.new_run_id(2_000_000_000.0, bytes(7))
    store.append(started(first, time=1.0), started(second, time=2.0, agent="other"))

    assert store.run("last").id == second
    assert store.run("last", "tally").id == first
    assert store.run(first).id == first
    assert store.run(second[:8]).id == second
    assert store.run(second[:8].upper().replace("0", "O")).id == second


@pytest.mark.parametrize("ref", ["", "zzz", "last", "%", "_", "a'; DROP TABLE runs; --", "\0", "\udc80"])
def test_a_run_that_is_not_there_is_a_usage_error(store, ref):
    with pytest.raises(UsageError):
        store.run(ref)


def test_a_reference_to_several_runs_names_some_and_a_misspelt_one_the_nearest(store):
    store.append(started("abcd1"), started("abcd2"))

    with pytest.raises(UsageError, match="several"):
        store.run("abcd")
    with pytest.raises(UsageError) as caught:
        store.run("abdc1")
    assert "abcd1" in caught.value.hint


def test_an_exact_id_wins_over_longer_ones_that_begin_with_it(store):
    store.append(started("ab"), started("abc"))

    assert store.run("ab").id == "ab"


def test_a_fork_has_the_outcomes_before_the_position_and_its_own_start(store):
    tool = Event("tool.finished", "r", "1.0", data={"name": "t", "text": "x"}, fingerprint="p")
    store.append(
        started("r", session="talk"), replied("r", "0", fingerprint="f"), tool, replied("r", "2"), replied("r", "10"), finished("r")
    )

    new = store.fork("r", "2")

    assert list(store.recorded(new)) == ["0", "1.0"]
    assert store.recorded(new)["0"].fingerprint == "f"
    assert all(event.data["inherited"] for event in store.recorded(new).values())
    assert store.run(new).parent == "r"
    assert store.run(new).status is None
    assert store.events(new)[0].data["fork_at"] == "2"
    assert [run.id for run in store.runs(session="talk")] == ["r"]
    assert list(store.recorded("r")) == ["0", "1.0", "2", "10"]


def test_a_fork_with_changes_is_not_compared_with_the_old_requests(store):
    store.append(started("r"), replied("r", "0", fingerprint="f"))

    new = store.fork("r", "1", {"input": "other"})

    assert store.events(new)[0].data["input"] == "other"
    assert store.recorded(new)["0"].fingerprint == ""


def test_forking_what_is_not_there_is_a_store_error(store):
    with pytest.raises(StoreError):
        store.fork("nothing", "0")


def test_run_ids_sort_by_time_and_have_twenty_letters_of_the_alphabet():
    made = [ids.new_run_id(moment, os.urandom(7)) for moment in (0.0, 1.0, 1.5, 1.8e9, 9e9)]

    assert made == sorted(made)
    assert all(len(name) == 20 and set(name) <= set(ids.ALPHABET) for name in made)
    assert len({ids.new_run_id(5.0, os.urandom(7)) for _ in range(1000)}) == 1000


# --- items and blobs


def test_items_are_kept_until_they_expire(store):
    store.item_put("ns", "a", '"1"')
    store.item_put("ns", "b", '"2"', ttl=60)
    now = time.time()

    assert store.items("ns") == {"a": '"1"', "b": '"2"'}
    assert store.item_get("ns", "b", now + 61) is None
    assert store.items("ns", now + 61) == {"a": '"1"'}
    assert store.item_get("other", "a") is None
    assert store.expire(now + 61) == 1
    assert store.item_delete("ns", "a")
    assert not store.item_delete("ns", "a")


def test_of_two_who_update_an_item_at_one_version_only_one_writes(store):
    assert store.item_put("ns", "n", "1", expect=0) == 1
    assert store.item_put("ns", "n", "2", expect=1) == 2
    assert store.item_put("ns", "n", "3", expect=1) == 0
    assert store.item_get("ns", "n") == "2"
    assert store.item_version("ns", "n") == 2


def test_a_blob_is_found_under_its_hash(store):
    name = store.blob_put(b"\0\xff")

    assert store.blob_put(b"\0\xff") == name
    assert store.blob_get(name) == b"\0\xff"
    assert store.blob_delete(name)
    assert store.blob_get(name) is None


# --- the file


def test_folder_and_files_are_for_the_owner_only(store, path):
    store.append(started("r"))

    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o077 == 0 for file in path.parent.iterdir())


def test_a_file_that_others_may_read_is_tightened(store, path):
    store.append(started("r"))
    store.close()
    path.chmod(0o644)
    store.append(started("s"))

    assert path.stat().st_mode & 0o777 == 0o600


def test_write_ahead_log_only_on_an_sqlite_with_the_fix(store, path):
    store.ready()
    store.close()
    mode = sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone()[0]

    assert (mode == "wal") == database.fixed(database.driver().sqlite_version_info)


@pytest.mark.parametrize(
    ("version", "good"),
    [
        ((3, 51, 3), True), ((3, 51, 2), False), ((3, 50, 7), True), ((3, 50, 6), False), ((3, 44, 6), True), ((3, 44, 5), False),
        ((3, 45, 9), False), ((3, 40, 1), False), ((3, 53, 4), True), ((4, 0, 0), True),
    ],
)  # fmt: skip
def test_the_fix_of_the_wal_reset_bug_is_known_by_version(version, good):
    assert database.fixed(version) is good


def test_a_newer_file_is_refused_and_left_alone(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    connection.close()
    before = path.read_bytes()

    with pytest.raises(StoreError, match="newer"):
        open_store(path).append(started("r"))
    assert path.read_bytes()[100:] == before[100:]


def test_a_database_of_another_program_is_refused(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (x)")
    connection.close()

    with pytest.raises(StoreError, match="other program"):
        open_store(path).append(started("r"))


def test_a_migration_keeps_a_copy_of_the_file_and_all_rows(store, path):
    store.append(started("r"))
    store.close()

    connection, _ = database.connect(path, (*MIGRATIONS, "CREATE TABLE more (x);\nINSERT INTO more VALUES (7)"))

    assert connection.execute("SELECT x FROM more").fetchall() == [(7,)]
    assert connection.execute("SELECT id FROM runs").fetchall() == [("r",)]
    connection.close()
    with sqlite3.connect(path.with_name(f"agents.db.v{len(MIGRATIONS)}")) as copy:
        assert copy.execute("SELECT id FROM runs").fetchall() == [("r",)]
    copy.close()


def test_a_migration_that_fails_changes_nothing(store, path):
    store.append(started("r"))
    store.close()

    with pytest.raises(StoreError):
        database.connect(path, (*MIGRATIONS, "CREATE TABLE more (x);\nNO SUCH STATEMENT"))
    assert [run.id for run in store.runs()] == ["r"]


def test_a_network_file_system_is_recognised_by_its_mount():
    mounts = (
        "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        "30 22 0:50 / /home rw shared:5 - nfs4 server:/home rw\n"
        "31 30 0:51 / /home/me/my\\040disk rw - xfs /dev/sdb rw\n"
        "broken line"
    )

    assert database.filesystem(Path("/home/me/.local"), mounts) == "nfs4"
    assert database.filesystem(Path("/home/me/my disk/x"), mounts) == "xfs"
    assert database.filesystem(Path("/homework"), mounts) == "ext4"
    assert database.filesystem(Path("/x"), "") == ""
    assert {"nfs4", "cifs", "fuse.sshfs"} <= database.NETWORK


CLOSED = """
    import os
    from pathlib import Path
    from agent_core import database
    from agent_core.errors import StoreError
    from agent_core.events import Event
    from agent_core.store import open_store
    database.driver()
    if os.getuid() == 0:
        os.setuid(65534)  # root may write anywhere: be nobody
    for name in ("new/agents.db", "old/agents.db"):
        try:
            open_store(Path(sys.argv[1]) / name).append(Event("notice", "r"))
        except StoreError as error:
            print("refused", error.status)
"""


def test_a_folder_or_file_that_may_not_be_written_is_a_store_error(tmp_path):
    (tmp_path / "old").mkdir()
    store = open_store(tmp_path / "old" / "agents.db")
    store.append(started("r"))
    store.close()
    store.path.chmod(0o400)
    for folder in (tmp_path / "old", tmp_path):
        folder.chmod(0o500)
    said, problems = python(CLOSED, tmp_path).communicate()
    tmp_path.chmod(0o700)

    assert (said.split(), problems) == (["refused", "78"] * 2, "")


@pytest.mark.parametrize("place", ["file/agents.db", "file"])
def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path, place):
    (tmp_path / "file").mkdir() if place == "file" else (tmp_path / "file").write_text("in the way")

    with pytest.raises(StoreError):
        open_store(tmp_path / place).append(started("r"))


# --- damage


def test_a_damaged_file_is_kept_aside_and_a_new_one_begun_with_a_notice(path):
    path.parent.mkdir()
    path.write_bytes(b"this is no database " * 500)
    store = open_store(path)

    store.append(started("r"))

    assert [run.id for run in store.runs()] == ["r"]
    (kept,) = path.parent.glob("agents.db.damaged-*")
    assert kept.read_bytes() == b"this is no database " * 500
    assert len(store.notices) == 1
    assert kept.name in store.notices[0]
    store.close()


def test_damage_found_in_use_is_a_store_error_and_the_next_use_has_a_new_file(store, path):
    for number in range(300):
        store.append(started(f"r{number}"), replied(f"r{number}", "0", "x" * 500))
    store.close()
    body = bytearray(path.read_bytes())
    body[8192:-4096] = os.urandom(len(body) - 8192 - 4096)
    path.write_bytes(bytes(body))

    with pytest.raises(StoreError, match="damaged"):
        _read_all(store, 300)
    store.close()
    again = open_store(path)
    again.append(started("after"))
    assert again.run("after").id == "after"
    assert list(path.parent.glob("agents.db.damaged-*"))
    again.close()


def _read_all(store, count):
    return [event for number in range(count) for event in store.events(f"r{number}")]


def test_noise_in_the_file_is_reported_or_harmless_but_never_silent(tmp_path):
    path = tmp_path / "agents.db"
    store = open_store(path)
    told = [replied(f"r{number}", "0", f"answer {number} " * 20) for number in range(40)]
    store.append(*told)
    store.close()
    whole = path.read_bytes()
    dice = random.Random(7)
    for round_ in range(60):
        body = bytearray(whole)
        place = dice.randrange(len(body) - 64)
        body[place : place + 64] = dice.randbytes(64)
        folder = tmp_path / str(round_)
        folder.mkdir()
        (folder / "agents.db").write_bytes(bytes(body))
        store = open_store(folder / "agents.db")
        try:
            found = _read_all(store, 40)
        except StoreError:
            continue
        finally:
            store.close()
        aside = list(folder.glob("*.damaged-*"))
        assert all(event in told for event in found), "an event came back changed"
        assert found == told or aside or _reported(folder / "agents.db", whole), (
            f"round {round_}: rows are missing and nothing says so"
        )


def _reported(path, whole):
    """Return whether SQLite itself would report the damage (an index that lost rows)."""
    connection = database.driver().connect(path)
    try:
        return connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]
    except connection.Error:
        return True
    finally:
        connection.close()


# --- many processes


OPENER = """
    import os, time
    from pathlib import Path
    from agent_core.events import Event
    from agent_core.store import open_store
    name, gate = sys.argv[2], float(sys.argv[3])
    store = open_store(Path(sys.argv[1]))
    time.sleep(max(0, gate - time.time()))
    for number in range(5):
        store.append(Event("run.started", f"{name}-{number}", data={"agent": name}))
    store.close()
"""


@pytest.mark.slow
def test_sixty_four_processes_open_a_brand_new_store_at_once_and_no_row_is_lost(path):
    gate = time.time() + 3
    processes = [python(OPENER, path, f"p{number}", gate) for number in range(64)]
    ends = [(process.communicate()[1], process.returncode) for process in processes]

    assert [end for end in ends if end != ("", 0)] == []
    store = open_store(path)
    assert len(store.runs(None)) == 64 * 5
    assert store.notices == []
    store.close()


@pytest.mark.slow
def test_a_damaged_file_met_by_many_processes_at_once_is_moved_once_and_no_row_is_lost(path):
    path.parent.mkdir()
    path.write_bytes(b"garbage" * 1000)
    gate = time.time() + 1.5
    processes = [python(OPENER, path, f"p{number}", gate) for number in range(16)]
    ends = [(process.communicate()[1], process.returncode) for process in processes]

    assert [end for end in ends if end != ("", 0)] == []
    store = open_store(path)
    assert len(store.runs(None)) == 16 * 5
    assert len(list(path.parent.glob("agents.db.damaged-*"))) == 1
    store.close()


WRITER = """
    import os
    from pathlib import Path
    from agent_core.events import Event
    from agent_core.store import open_store
    store, name, number = open_store(Path(sys.argv[1])), sys.argv[2], 0
    while True:
        store.append(Event("notice", name, str(number), data={"text": "x" * 200}, durable=number % 10 == 0))
        os.write(1, f"{number}\\n".encode())
        number += 1
"""


@pytest.mark.slow
def test_writers_killed_at_any_moment_lose_no_acknowledged_event_and_leave_a_readable_store(path):
    dice = random.Random(3)
    for round_ in range(20):
        writers = [python(WRITER, path, f"w{round_}-{number}") for number in range(2)]
        for writer in writers:
            writer.stdout.readline()
        time.sleep(dice.uniform(0, 0.05))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        said = [writer.communicate()[0] for writer in writers]
        store = open_store(path)
        for number, text in enumerate(said):
            acknowledged = text.rpartition("\n")[0].count("\n") + 1 if "\n" in text else 0
            found = [int(event.path) for event in store.events(f"w{round_}-{number}")]
            assert found == list(range(len(found)))
            assert len(found) >= 1 + acknowledged
        store.close()
    assert not list(path.parent.glob("*.damaged-*"))


FILLER = """
    import resource
    from pathlib import Path
    from agent_core.errors import StoreError
    from agent_core.events import Event
    from agent_core.store import open_store
    store = open_store(Path(sys.argv[1]))
    store.append(Event("run.started", "r", data={"agent": "a"}))
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    try:
        for number in range(10_000):
            store.append(Event("notice", "r", str(number), data={"text": "x" * 500}))
            print(number)
    except StoreError as error:
        print("refused", error.status, error.line())
"""


def test_a_full_disk_is_a_store_error_and_what_was_acknowledged_is_kept(path):
    said, problems = python(FILLER, path).communicate()

    assert problems == ""
    *numbers, last = said.splitlines()
    assert last.startswith("refused 78 ")
    assert str(path) in last
    store = open_store(path)
    assert len(store.events("r")) >= 1 + len(numbers) > 10
    store.close()


def test_durable_events_are_on_the_disk_before_append_returns(path, tmp_path):
    strace = "/usr/bin/strace"
    if not Path(strace).exists():
        pytest.skip("no strace here")
    code = f"""
        import sys; sys.path.insert(0, {str(ROOT)!r})
        import os
        from pathlib import Path
        from agent_core.events import Event
        from agent_core.store import open_store
        store = open_store(Path({str(path)!r}))
        store.append(Event("notice", "r"))
        os.write(1, b"MARK-ONE")
        store.append(Event("notice", "r"))
        os.write(1, b"MARK-TWO")
        store.append(Event("notice", "r", durable=True))
        os.write(1, b"MARK-END")
    """
    log = tmp_path / "trace"
    traced = [strace, "-f", "-e", "trace=write,fsync,fdatasync", "-o", log, sys.executable, "-c", textwrap.dedent(code)]
    if subprocess.run(traced, check=False, capture_output=True).returncode:
        pytest.skip("strace may not trace here")
    text = log.read_text()
    plain = text[text.index("MARK-ONE") : text.index("MARK-TWO")]
    durable = text[text.index("MARK-TWO") : text.index("MARK-END")]

    assert "sync(" not in plain
    assert "sync(" in durable


# --- threads and forks


def test_threads_share_a_store(store):
    def work(name):
        for number in range(50):
            store.append(Event("notice", name, str(number)))

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [len(store.events(f"t{number}")) for number in range(8)] == [50] * 8


def test_a_store_goes_on_in_a_forked_child_and_in_its_parent(path):
    code = """
        import os
        from pathlib import Path
        from agent_core.events import Event
        from agent_core.store import open_store
        store = open_store(Path(sys.argv[1]))
        store.append(Event("notice", "parent"))
        child = os.fork()
        store.append(Event("notice", "child" if child == 0 else "parent"))
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        store.append(Event("notice", "parent"))
        print(len(store.events("parent")), len(store.events("child")))
    """
    said, problems = python(code, path).communicate()

    assert (said.strip(), problems) == ("3 1", "")


def test_stores_of_one_path_share_one_connection_and_close_it_together(path):
    stores = [open_store(path) for _ in range(50)]
    for number, each in enumerate(stores):
        each.append(Event("notice", f"r{number}"))
    opened = _descriptors(str(path))
    for each in stores[1:]:
        each.close()
    stores[0].append(Event("notice", "last"))

    assert opened <= 4
    assert len(stores[0].events("last")) == 1
    stores[0].close()
    assert _descriptors(str(path)) == 0


def _descriptors(name):
    """Return how many descriptors of this process are open on files of that name."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(name in str(link.readlink()) for link in links)
