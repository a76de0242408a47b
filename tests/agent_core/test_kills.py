"""Writers killed with SIGKILL at random points: what was acknowledged is there, the store opens, the audit chain is whole.

Four writers at a time, each a process of its own, are killed a few milliseconds into their work: they append events to the audit
chain, write items and blobs, remember and clean up, and turn the whole store to a new key. Some are the real commands.
`python -m pytest -m slow tests/agent_core/test_kills.py` makes 500 kills; the default run a few dozen.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from binascii import crc32
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from agent_core import chain, config, database, reseal
from agent_core.events import Event
from agent_core.store import MIGRATIONS, open_store
from agent_plugins.memory import compress, keep, upkeep
from agent_plugins.memory.items import Item, Rules
from agent_plugins.observe import notes
from agent_plugins.observe.verify import verify

ROOT = Path(__file__).resolve().parents[2]
MARKER = "0f-wombats-and-walnuts"


# --- the writers: each acknowledges a write, by a line in a file of its own, once the call has returned


class Acks:
    """Where a writer says what it wrote. What was written to the descriptor stays, whatever becomes of the process."""

    def __init__(self, path):
        self.descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def __call__(self, *what):
        os.write(self.descriptor, f"\n{json.dumps(what)}".encode())


def runs(path, name, acks):
    """Run after run: begun, told of (some durably), finished, and its head noted outside."""
    chain._KEPT_BYTES = 2000  # so that the file outside is shortened again and again
    store = open_store(path)
    number = 0
    while True:
        run = f"{name}.{number}"
        store.append(Event("run.started", run, time=1.0, data={"agent": "tally", "input": f"{MARKER} {run}"}))
        acks("run", run)
        for step in range(3):
            store.append(Event("notice", run, str(step), 1.0, {"text": f"{MARKER} {step}"}, durable=step == 1))
            acks("event", run, str(step))
        store.append(Event("run.finished", run, time=2.0, data={"status": 0, "stop": "final", "output": MARKER}))
        acks("end", run)
        number += 1


def items(path, name, acks):
    """Items, several at once and one that is counted up, and blobs."""
    store = open_store(path)
    number = 0
    while True:
        key = f"{name}.{number}"
        store.item_put("kills", key, json.dumps(f"{MARKER} {key}"))
        acks("item", key)
        store.items_write({("kills-a", key): json.dumps(key), ("kills-b", key): json.dumps(key)})
        acks("pair", key)
        store.item_change("kills-count", name, lambda text: str(int(text or "0") + 1))
        acks("count", name)
        acks("blob", store.blob_put(f"{MARKER} blob {key}".encode()), key)
        number += 1


def remembering(path, name, acks):
    """Memory and its upkeep: items are put, merged, compressed, and some of that is taken back."""
    memory = keep.Memory(open_store(path), Rules())
    number = 0
    while True:
        item, _ = memory.put(Item("", "semantic", f"{MARKER} says that {name} holds {number % 3} walnuts"))
        acks("memory", item.id)
        if number % 4 == 3:
            wanted = upkeep.Wanted(time.time(), ("decay", "merge", "consolidate", "compress"), "", compress.extracted)
            memory.apply(lambda found, wanted=wanted: upkeep.plan(found, {}, memory.rules, wanted).change, wanted.now)
        if number % 8 == 7:
            with suppress(Exception):  # nothing to undo, or another process did
                memory.undo()
        number += 1


def turning(path, _name, _acks, words):
    """Turn the store to a new key (or to a key, or in the clear) as `agent-keys` does it, in small batches."""
    from agents import agent_keys

    reseal.ROWS = 20
    while True:
        with suppress(SystemExit):
            agent_keys.main([*words, "-q", "--data-dir", str(path.parent)])


def forked(work, *args):
    """Start a process that does the work, silently; it never comes back into the test."""
    child = os.fork()
    if child:
        return child
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        work(*args)
    finally:
        os._exit(1)


COMMANDS = (
    ("agents.assistant", "--provider", "offline", "--memory", "-q", f"{MARKER} what?"),
    ("agents.agent_mem", "add", f"{MARKER} that a command kept"),
    ("agents.agent_mem", "upkeep", "-q"),
)


class Battle:
    """A store, those who write to it, and what they said they wrote."""

    def __init__(self, path, dice, turns):
        self.path, self.dice, self.turns = path, dice, turns
        self.folder = path.parent.parent / "acks"
        self.folder.mkdir()
        self.kills = self.rounds = 0
        self.said = []  # (program, output) of real commands

    def round(self, pause=0.06):
        """Start four writers (at every fifth round also a real command), let them work, and kill them in any order."""
        self.rounds += 1
        name = f"r{self.rounds}"
        works = [(runs,), (items,), (remembering,), (turning, self.turns(self.rounds)) if self.turns else (runs,)]
        children = []
        for place, (work, *more) in enumerate(works):
            acks = Acks(self.folder / f"{name}-{place}")
            children.append(forked(work, self.path, f"{name}-{place}", acks, *more))
            os.close(acks.descriptor)
        command = self._command() if self.rounds % 5 == 0 else None
        time.sleep(self.dice.uniform(0, 0.6 if command else pause))
        self.dice.shuffle(children)
        for child in children:
            time.sleep(self.dice.uniform(0, 0.01))
            os.kill(child, signal.SIGKILL)
        self.kills += sum(os.waitpid(child, 0)[1] == signal.SIGKILL for child in children)
        if command is not None:
            command.kill()
            self.said.append((command.args[2:4], command.communicate()[0]))
            self.kills += command.returncode == -signal.SIGKILL

    def _command(self):
        words = COMMANDS[self.rounds // 5 % len(COMMANDS)]
        return subprocess.Popen(
            [sys.executable, "-m", *words, "--data-dir", str(self.path.parent)],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def acknowledged(self):
        """Yield every acknowledged write; the last line of a file may have been cut by the kill."""
        for file in sorted(self.folder.iterdir()):
            for line in file.read_text().splitlines():
                if line:
                    yield json.loads(line)

    def check(self, *, begun=True):
        """Assert that all of it is there, that the file is whole, and that nothing was moved aside. `begun`: the chain had to be."""
        store = open_store(self.path)
        said = [
            *self.acknowledged(),
            *(("memory", text.strip()) for words, text in self.said if words[1] == "add" and text[-1:] == "\n"),
        ]
        missing = [row for row in said if row[0] != "count" and not kept(store, *row)]
        counts = Counter(row[1] for row in said if row[0] == "count")
        missing += [name for name, most in counts.items() if int(store.item_get("kills-count", name) or "0") < most]
        verdict = verify(store, notes.read(self.path))
        store.close()

        assert missing == []
        assert verdict.whole, verdict.bad
        assert verdict.sealed or not (begun or verdict.entries)
        assert list(self.path.parent.glob("*.damaged-*")) == []
        return len(said)


def kept(store, kind, what, *more):
    """Return whether the store has what was acknowledged."""
    match kind:
        case "run":
            return store.run(what).id == what
        case "end":
            return store.run(what).status == 0
        case "event":
            return more[0] in {event.path for event in store.events(what) if event.kind == "notice"}
        case "item":
            return store.item_get("kills", what) == json.dumps(f"{MARKER} {what}")
        case "pair":
            return store.item_get("kills-a", what) == store.item_get("kills-b", what) == json.dumps(what)
        case "blob":
            return store.blob_get(what) == f"{MARKER} blob {more[0]}".encode()
        case "memory":
            return store.item_get("memory/semantic/", what) is not None
    raise AssertionError(kind)


def settled(path):
    """Return what `agent-keys encrypt status` says, after whatever was interrupted went on to its end."""
    agent(("agents.agent_keys", "encrypt", "on"), path)
    return json.loads(agent(("agents.agent_keys", "encrypt", "status", "--json"), path).stdout)["data"]["structuredContent"]


def agent(words, path):
    done = subprocess.run(
        [sys.executable, "-m", *words, "--data-dir", str(path.parent)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done


def fought(tmp_path, turns, kills, seed):
    """Make so many kills over one store; all is looked at again and again, and at the end by the commands that people use."""
    path = tmp_path / "data" / "agents.db"
    battle = Battle(path, random.Random(seed), turns)
    first = open_store(path)
    first.append(Event("run.started", "first", time=1.0, data={"agent": "tally", "input": "hi"}))
    first.close()
    if turns is not None:
        agent(("agents.agent_keys", "encrypt", "on"), path)
    while battle.kills < kills:
        battle.round()
        if battle.rounds % 12 == 0:
            battle.check()
            if turns is not None:
                settled(path)  # a kill may have left it without encryption
                agent(("agents.agent_keys", "rotate"), path)  # this one may end: keys are made and retired
    acknowledged = battle.check()
    assert acknowledged > kills
    assert "whole" in agent(("agents.agent_log", "audit", "--verify"), path).stdout
    connection = database.driver().connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    return battle


def litter(path):
    """Return what killed processes left of files that are written first and renamed then, after one more run."""
    store = open_store(path)
    store.append(Event("run.started", "next", time=1.0, data={"agent": "tally"}), Event("run.finished", "next", time=2.0, data={}))
    store.close()
    folders = [path.parent, *(Path(file).parent for file in (config.ring_file(config.environ()), chain.outside(path)))]
    return [str(file) for folder in dict.fromkeys(folders) if folder.exists() for file in folder.iterdir() if ".part" in file.name]


def rotate(_round):
    return ("rotate",)


def back_and_forth(number):
    return (("rotate",), ("encrypt", "off"), ("encrypt", "on"))[number % 3]


def check_encrypted(battle):
    now = settled(battle.path)
    battle.check()

    assert (now["state"], now["clear"]) == ("on", 0)
    assert all(MARKER.encode() not in file.read_bytes() for file in battle.path.parent.iterdir())
    assert litter(battle.path) == []


def begun(tmp_path, rounds, seed):
    """Kill writers in the first moments of a store, or of one of the version before: while it is made, migrated, encrypted."""
    dice = random.Random(seed)
    kills = 0
    for number in range(rounds):
        folder = tmp_path / f"begun-{number}"
        folder.mkdir()
        battle = Battle(folder / "data" / "agents.db", dice, None)
        old = number % 3 == 2
        if old:
            of_the_version_before(battle.path)
        battle.round(pause=0.02)
        battle.round(pause=0.02)
        battle.check(begun=False)
        kills += battle.kills
        store = open_store(battle.path)
        assert len(store.events("old")) == 200 * old
        store.close()
        assert litter(battle.path) == []
        copy = battle.path.with_name("agents.db.v1")
        assert copy.exists() == old
        if old:
            connection = database.driver().connect(copy)
            assert connection.execute("SELECT count(*) FROM events").fetchone() == (200,)
            connection.close()
    return kills


def of_the_version_before(path):
    """Make a store as it was before there was an audit chain."""
    connection, _ = database.connect(path, MIGRATIONS[:1])
    connection.execute("BEGIN")
    for number in range(200):
        row = ("old", str(number), "notice", "", 1.0, '{"text":"x"}')
        head = "\0".join((*row[:4], row[5]))
        connection.execute(
            "INSERT INTO events (run, path, kind, fingerprint, time, data, sum) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*row, crc32(head.encode())),
        )
    connection.execute("COMMIT")
    connection.close()


# --- a few dozen kills in every run of the suite, 500 in the slow one


def test_a_dozen_kills_over_a_plain_store_lose_nothing_acknowledged(tmp_path):
    fought(tmp_path, None, 16, 1)


def test_two_dozen_kills_over_an_encrypted_store_while_its_key_changes_lose_nothing_acknowledged(tmp_path):
    check_encrypted(fought(tmp_path, rotate, 24, 2))


def test_two_dozen_kills_in_the_first_moments_of_a_store_leave_one_that_opens(tmp_path):
    assert begun(tmp_path, 3, 6) >= 20


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_120_kills_over_a_plain_store_lose_nothing_acknowledged(tmp_path):
    battle = fought(tmp_path, None, 120, 3)

    assert battle.kills >= 120
    assert litter(battle.path) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_160_kills_over_an_encrypted_store_while_its_key_changes_lose_nothing_acknowledged(tmp_path):
    battle = fought(tmp_path, rotate, 160, 4)

    assert battle.kills >= 160
    check_encrypted(battle)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_120_kills_while_a_store_is_encrypted_opened_and_encrypted_again_lose_nothing_acknowledged(tmp_path):
    battle = fought(tmp_path, back_and_forth, 120, 5)

    assert battle.kills >= 120
    check_encrypted(battle)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("key", ["", "0123456789abcdef" * 4])
def test_over_100_kills_in_the_first_moments_of_stores_leave_such_that_open(tmp_path, monkeypatch, key):
    if key:
        monkeypatch.setenv("ENCRYPTION_KEY", key)

    assert begun(tmp_path, 15, 7) >= 100
