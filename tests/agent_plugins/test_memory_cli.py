"""agent-mem as a process: what the transcript (tests/agents/agent_mem.md) does not show."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def mem(run_agent):
    def go(*args, **more):
        return run_agent("agent_mem", *args, **more)

    return go


def rows(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["data"]["structuredContent"]


def test_recall_gives_exactly_id_text_score_and_importance(mem):
    mem("add", "Ownership prevents data races", "--kind", "long", "--importance", "0.9")
    mem("add", "Tea is hot", "--importance", "0.1")
    found = rows(mem("recall", "memory safety", "-k", "2", "--json"))

    assert [list(row) for row in found] == [["id", "text", "score", "importance"]] * 2
    assert (found[0]["text"], found[0]["importance"]) == ("Ownership prevents data races", 0.9)
    assert rows(mem("recall", "memory safety", "--min-similarity", "0.01", "--json")) == []
    assert list(rows(mem("recall", "tea", "-k", "1", "--explain", "--json"))[0])[4:] == [
        "similarity",
        "recency",
        "frequency",
        "kind",
        "tags",
        "trust",
    ]


def test_looking_creates_no_store_and_finds_nothing(mem, tmp_path):
    for words in (["list"], ["recall", "x"], ["stats"], ["export"], ["upkeep", "--dry-run"]):
        done = mem(*words, "--data-dir", str(tmp_path / "data"))
        assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "data").exists()


def test_an_add_in_a_loop_does_not_eat_the_loops_input(mem, tmp_path):
    command = f'printf "1\\n2\\n3\\n" | while read n; do {sys.executable} -m agents.agent_mem add "number $n" >/dev/null; done'
    subprocess.run(["/bin/bash", "-c", command], check=True, cwd=ROOT)

    assert sorted(row["text"] for row in rows(mem("list", "--json"))) == ["number 1", "number 2", "number 3"]


def test_a_dry_run_changes_nothing(mem, tmp_path):
    assert mem("add", "one two", "--dry-run").stdout == "would add semantic, about 2 tokens\n"
    assert not (tmp_path / "home" / ".local").exists()
    mem("add", "one two")
    before = mem("export").stdout
    mem("recall", "one", "--dry-run")
    assert mem("forget", "--tag", "x", "--dry-run").stdout == "would forget 0\n"
    assert mem("undo", "--dry-run").returncode == mem("clear", "--session", "s", "--dry-run").returncode == 2
    assert mem("export").stdout == before


def test_what_looks_like_a_secret_is_not_kept(mem):
    done = mem("add", "the key is sk-abcdefghijklmnopqrstuvwxyz012345")

    assert "secret" in done.stderr
    assert "sk-abc" not in mem("export").stdout


def test_hostile_text_cannot_reach_a_terminal(mem, tmp_path, monkeypatch):
    evil = "a\x1b]0;owned\x07b\x1b[2Jc\u202ed"
    mem("import", stdin=json.dumps({"text": evil, "tags": [evil], "key": evil, "kind": "entity"}))
    assert mem("export").stdout.count("\\u001b") + mem("export").stdout.count("\x1b") > 0  # bytes pass untouched into pipes

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    identity = rows(mem("list", "--json"))[0]["id"]
    for words in (["list"], ["show", identity], ["recall", "a"], ["recall", "a", "--explain"], ["export"]):
        shown = _on_a_terminal([sys.executable, "-m", "agents.agent_mem", *words], tmp_path)
        assert b"\x1b]" not in shown, words
        assert b"\x1b[2J" not in shown
        assert "\u202e".encode() not in shown
        assert b"owned" in shown


def _on_a_terminal(command, folder):
    parent, child = pty.openpty()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=child, stderr=child, cwd=folder)
    os.close(child)
    shown = b""
    while True:
        try:
            piece = os.read(parent, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(parent)
    process.wait(30)
    return shown


# --- import and export


def test_out_and_in_again_is_the_same(mem, tmp_path):
    mem("add", "one", "--kind", "long", "--tag", "a", "--tag", "b", "--importance", "0.25")
    mem("add", "two", "--kind", "kv", "--key", "k")
    before = mem("export").stdout
    (tmp_path / "all.jsonl").write_text(before, "utf-8")
    mem("import", "all.jsonl", "--trusted", "--data-dir", "other")

    assert mem("export", "--data-dir", "other").stdout == before
    assert mem("import", "all.jsonl", "--trusted").stdout == "imported 2\n"
    assert mem("export").stdout == before


def test_a_file_with_one_bad_line_brings_nothing_and_its_line_is_named(mem):
    done = mem("import", stdin='{"text": "good"}\n\n{"text": 5}\n')

    assert (done.returncode, done.stdout) == (65, "")
    assert "line 3: `text`" in done.stderr or "line 3: not an object" in done.stderr
    assert rows(mem("list", "--json")) == []


def test_what_is_imported_is_untrusted_unless_the_file_is_believed(mem):
    mem("import", stdin='{"text": "I am trusted", "trust": "trusted"}')
    mem("import", "--trusted", stdin='{"text": "I am too", "trust": "trusted"}')

    assert {row["text"]: row["trust"] for row in rows(mem("list", "--json"))} == {
        "I am trusted": "untrusted",
        "I am too": "trusted",
    }


def test_the_json_form_of_key_value_pairs_is_read_and_written(mem):
    assert mem("import", stdin='{"home": "Oslo", "work": "Bergen"}').stdout == "imported 2\n"
    assert json.loads(mem("export", "--form", "json").stdout) == {"home": "Oslo", "work": "Bergen"}


# --- upkeep


def test_upkeep_without_a_model_says_nothing_of_models_and_with_one_asks_it(mem, tmp_path):
    for number in range(5):
        mem(
            "import",
            stdin=json.dumps(
                {
                    "text": f"the nightly build failed with exit code seven in the linker step {number}",
                    "kind": "episodic",
                    "created": time.time() - 7200 + number,
                }
            ),
        )
    (tmp_path / "script.jsonl").write_text(
        '{"text": "The linker failed five times.", "expect": "material origin=\\"note 1\\""}\n', "utf-8"
    )

    dry = mem("upkeep", "--dry-run", "--provider", "scripted", "--script", "script.jsonl")
    assert dry.stdout == "would keep 2 (importance 0.500), prune 0, merge 0, consolidate 3 into 1\n"
    done = mem("upkeep", "--provider", "scripted", "--script", "script.jsonl", "--json")
    assert rows(done)["made"][0]["text"] == "The linker failed five times."
    assert [row["kind"] for row in rows(mem("list", "--json"))].count("summary") == 1
    assert mem("undo").stdout == "restored 3, removed 1\n"

    quiet = mem("upkeep", "--only", "consolidate")
    assert (quiet.stdout, quiet.stderr) == ("kept 2 (importance 0.500), pruned 0, merged 0, consolidated 3 into 1\n", "")
    summary = next(row for row in rows(mem("list", "--json")) if row["kind"] == "summary")
    assert "the nightly build failed" in summary["text"]


def test_a_model_that_fails_leaves_memory_as_it_was(mem, tmp_path):
    for number in range(5):
        mem(
            "import",
            stdin=json.dumps(
                {
                    "text": f"the nightly build failed with exit code seven in the linker step {number}",
                    "kind": "episodic",
                    "created": time.time() - 7200 + number,
                }
            ),
        )
    before = mem("export").stdout
    (tmp_path / "script.jsonl").write_text('{"error": "auth"}\n', "utf-8")

    assert mem("upkeep", "--provider", "scripted", "--script", "script.jsonl").returncode == 77
    assert mem("export").stdout == before


def test_upkeep_that_is_not_due_does_nothing(mem, tmp_path):
    mem("add", "x", "--kind", "long", "--importance", "0.06")
    assert mem("upkeep", "--due").stdout.startswith("kept 1")
    assert mem("upkeep", "--due", "--now", "+23h", "--dry-run").stdout.startswith("would keep 1")
    assert mem("upkeep", "--due", "--now", "+25h", "--only", "decay").returncode == 0
    assert mem("upkeep", "--due", "--now", "+400d").stdout.startswith("kept 0, pruned 1")


def test_what_ended_is_removed_when_the_grace_time_is_over(mem):
    mem("add", "x", "--kind", "long", "--importance", "0.06")
    assert mem("upkeep", "--now", "+10d").stdout == "kept 0, pruned 1, merged 0\n"
    assert mem("upkeep", "--now", "+39d").stdout == "kept 0, pruned 0, merged 0\n"
    assert mem("upkeep", "--now", "+41d").stdout == "kept 0, pruned 0, merged 0, removed 1\n"
    assert mem("undo").returncode == 2


def test_the_settings_of_the_configuration_hold(mem, tmp_path):
    (tmp_path / "agents.toml").write_text(
        "[memory]\nmerge_cosine = 0.5\n[memory.long]\nstability_days = 10\ncapacity = 2\n", "utf-8"
    )
    for text in ("red blue green white", "red blue green black", "tea"):
        done = mem("add", text, "--kind", "long", "--importance", "0.9")
    assert "evicted" in done.stderr

    assert mem("list", "--kind", "long", "--now", "+10d", "--json").stdout.count('"importance":0.331') == 2
    (tmp_path / "agents.toml").write_text("[memory]\nmerge_cosin = 0.5\n", "utf-8")
    assert mem("list").returncode == 78


def test_memory_that_is_not_to_persist_is_gone_with_the_process(mem, tmp_path):
    (tmp_path / "agents.toml").write_text("[memory]\npersist = false\n", "utf-8")
    assert mem("add", "x").returncode == 0
    assert mem("list").stdout == "\n" or mem("list").stdout == ""


def test_a_conversation_can_be_begun_anew(mem, run_agent, tmp_path):
    (tmp_path / "script.jsonl").write_text('"one"\n"two"\n', "utf-8")
    talk = ("--provider", "scripted", "--script", "script.jsonl", "--session", "s", "--memory", "-q")
    for text in ("hello", "again"):
        run_agent("assistant", text, *talk)
    mem("add", "step 2", "--kind", "working", "--key", "at", "--session", "s")
    assert mem("clear", "--session", "s").stdout == "cleared s: 2 runs, 1 items\n"

    shown = run_agent("assistant", "third", "--session", "s", "--provider", "offline", "--show-prompt").stdout
    assert "hello" not in shown
    assert len(run_agent("agent_log", "list").stdout.splitlines()) >= 3
    assert mem("clear").returncode == 2


# --- cost and load


def test_an_agent_without_memory_loads_nothing_of_it(run_agent):
    program = (
        "import sys; from agents.assistant import agent; from agent_core.config import load; agent.run('6 * 7', provider='offline')"
    )
    for flag, loaded in (("", False), (", memory=True", True)):
        code = program.replace("provider='offline'", f"provider='offline'{flag}") + "; print('agent_plugins.memory' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
        assert done.stdout.strip() == str(loaded)


def test_agent_mem_does_not_load_what_it_does_not_need():
    code = "import sys; sys.argv = ['agent-mem', 'list']; from agents.agent_mem import agent\ntry: agent.main(['list'])\nexcept SystemExit: pass\n"
    code += "print([name for name in ('pluggy', 'pydantic', 'httpx', 'typer', 'rich', 'asyncio', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_8_processes_with_100_adds_of_the_command_each_give_800_items(mem):
    command = f'for n in $(seq 100); do {sys.executable} -m agents.agent_mem add "writer $0 says $n" --kind long >/dev/null || exit 1; done'
    running = [
        subprocess.Popen(["/bin/bash", "-c", command, str(number)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for number in range(8)
    ]
    said = [process.communicate(timeout=900)[1] for process in running]

    assert said == [""] * 8
    assert len({row["text"] for row in rows(mem("list", "--kind", "long", "--json"))}) == 800
