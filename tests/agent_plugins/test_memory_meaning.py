"""--embed: recall by meaning against a real HTTP server, from the shell and within runs; bills, budgets, faults, mixed models."""

from __future__ import annotations

import base64
import json
import math
import struct

import pytest

from agent_core import Agent, money
from agent_core.agent import Job, execute
from agent_core.config import load
from agent_core.messages import user
from agent_core.store import open_store
from agent_plugins.memory import meaning, recall, runs
from agent_plugins.memory.items import Item, Rules, from_json, to_json
from agent_plugins.memory.keep import Memory

SMALL, OLLAMA, GEMINI = "openai/text-embedding-3-small", "ollama/nomic-embed-text", "gemini/gemini-embedding-001"
OWNERSHIP = "Ownership prevents data races"


@pytest.fixture
def mem(run_agent, fake_api):
    def go(*args, env=None, **more):
        return run_agent("agent_mem", *args, env={**fake_api.env(), **(env or {})}, **more)

    return go


@pytest.fixture
def filled(memory):
    for text in (OWNERSHIP, "The rent is paid on the first", "A car needs an engine"):
        memory.put(Item("", "semantic", text))
    memory.store.close()


@pytest.fixture
def memory(tmp_path):
    store = open_store(tmp_path / "home" / ".local" / "share" / "agents" / "agents.db")
    yield Memory(store, Rules())
    store.close()


def rows(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["data"]["structuredContent"]


def embedded(api):
    """Return the texts of each request for vectors."""
    found = [each["body"] for each in api.requests() if "embed" in each["path"].lower()]
    return [body.get("input") or [row["content"]["parts"][0]["text"] for row in body["requests"]] for body in found]


def test_a_question_without_a_word_in_common_finds_what_means_the_same(mem, filled, fake_api):
    by_words = rows(mem("recall", "memory safety", "--json", "--explain"))
    assert {row["similarity"] for row in by_words} == {0}
    assert embedded(fake_api) == []  # without --embed nothing is sent

    found = rows(mem("recall", "memory safety", "--embed", SMALL, "--json", "--explain"))
    assert (found[0]["text"], found[0]["vector"]) == (OWNERSHIP, SMALL)
    assert found[0]["similarity"] > 0.4
    assert [row["similarity"] for row in found[1:]] == [0, 0]
    assert rows(mem("stats", "--json"))["vectors"] == {SMALL: 3}


@pytest.mark.parametrize("model", [SMALL, OLLAMA, GEMINI, "openai-responses/m", "mistral/mistral-embed"])
def test_every_wire_gives_the_same_likeness(filled, memory, fake_api, monkeypatch, model):
    for name, value in fake_api.env().items():
        monkeypatch.setenv(name, value)
    settings = load({"embed": model}, options=Agent("tester - a test's agent.").table())
    items = memory.items()
    found = meaning.near(memory, items, "memory safety", settings)

    assert (found.model, found.notices) == (model, ())
    assert [round(found.likeness[item.id], 3) for item in sorted(items, key=lambda item: item.text != OWNERSHIP)] == [0.68, 0, 0]


def test_one_request_brings_question_strangers_and_items_and_the_next_one_the_question_alone(mem, filled, fake_api):
    for _ in range(2):
        mem("recall", "memory safety", "--embed", SMALL)
    first, second = embedded(fake_api)

    assert first[0] == "memory safety"
    assert first[1:7] == list(meaning.STRANGERS)
    assert sorted(first[7:]) == sorted([OWNERSHIP, "The rent is paid on the first", "A car needs an engine"])
    assert second == ["memory safety"]


def test_vectors_of_another_model_do_not_count_and_are_made_anew(mem, filled, fake_api):
    mem("recall", "memory safety", "--embed", SMALL)
    found = rows(mem("recall", "memory safety", "--embed", "openai/other-16d", "--json", "--explain"))

    assert found[0]["vector"] == "openai/other-16d"
    assert len(embedded(fake_api)[1]) == 1 + 6 + 3
    assert rows(mem("stats", "--json"))["vectors"] == {"openai/other-16d": 3}


def test_an_item_that_was_merged_is_embedded_anew_and_an_exported_vector_is_believed_only_with_trusted(
    mem, filled, fake_api, tmp_path
):
    mem("recall", "x", "--embed", SMALL)
    lines = mem("export").stdout
    assert all(json.loads(line)["embedding"]["model"] == SMALL for line in lines.splitlines())
    assert [row["embedding"] for row in rows(mem("list", "--json"))] == [SMALL] * 3
    mem("import", stdin=lines)
    assert rows(mem("stats", "--json"))["vectors"] == {}
    mem("import", "--trusted", stdin=lines)
    assert rows(mem("stats", "--json"))["vectors"] == {SMALL: 3}


@pytest.mark.parametrize(
    ("env", "model", "said"),
    [
        ({"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}, "openai/m", "cannot reach http://127.0.0.1:1"),
        ({"OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}, "openai/m", "OPENAI_API_KEY is not set"),
        ({}, "openai/no-such-model", "404"),
    ],
)
def test_where_the_service_does_not_answer_words_have_to_do_and_that_is_said(mem, filled, env, model, said):
    done = mem("recall", "ownership", "--embed", model, "--retry", "0", env=env)

    assert done.returncode == 0
    assert done.stdout.splitlines()[0].endswith(OWNERSHIP)
    assert "memory is recalled by words alone" in done.stderr
    assert said in done.stderr


def test_a_service_that_makes_no_vectors_is_a_usage_error(mem, filled):
    done = mem("recall", "x", "--embed", "anthropic/x")

    assert (done.returncode, done.stdout) == (2, "")
    assert "anthropic makes no embeddings" in done.stderr


def test_a_failure_that_passes_is_tried_again_and_the_bill_is_in_the_log(mem, filled, fake_api, run_agent):
    fake_api.fault("500*1")
    done = mem("recall", "memory safety", "--embed", SMALL, "--json")
    assert rows(done)[0]["text"] == OWNERSHIP

    bill = json.loads(run_agent("agent_log", "cost", "--by", "agent", "--json").stdout)["data"]["structuredContent"]["rows"]
    (row,) = [each for each in bill if each["name"] == "embedder"]
    tokens = sum(-(-len(text) // 4) for text in embedded(fake_api)[-1])
    assert (row["input_tokens"], row["cost_usd"]) == (tokens, f"{tokens * 2 / 1e8:.10f}".rstrip("0"))


def test_index_makes_all_vectors_batch_by_batch_and_a_second_time_none(mem, fake_api, memory):
    for number in range(150):
        memory.put(Item("", "semantic", f"note number {number}"))
    memory.store.close()
    dry = mem("index", "--embed", SMALL, "--dry-run")
    assert (dry.stdout, embedded(fake_api)) == (f"would make 150 vectors of {SMALL}\n", [])
    done = mem("index", "--embed", SMALL, "--json")

    assert rows(done)["made"] == 150
    assert [len(texts) for texts in embedded(fake_api)] == [6, 64, 64, 22]
    assert rows(mem("index", "--embed", SMALL, "--json"))["made"] == 0
    assert mem("index").returncode == 2


def test_more_items_than_one_request_takes_are_said_to_be_found_by_words(mem, memory, fake_api):
    for number in range(70):
        memory.put(Item("", "semantic", f"note number {number}"))
    memory.store.close()
    done = mem("recall", "note 3", "--embed", SMALL)

    assert [len(texts) for texts in embedded(fake_api)] == [64]
    assert "13 of 70 items have no vector of openai/text-embedding-3-small yet: agent-mem index" in done.stderr


def test_a_budget_holds_for_vectors(mem, filled, fake_api):
    poor = mem("recall", "ownership", "--embed", SMALL, "--budget", "0.0000001")
    assert "may cost" in poor.stderr
    assert embedded(fake_api) == []


def test_what_vectors_cost_counts_against_the_budget_of_the_run_that_they_were_made_for(filled, memory, fake_api, monkeypatch):
    for name, value in fake_api.env().items():
        monkeypatch.setenv(name, value)
    agent = Agent("tester - a test's agent.", "Answer.")
    flags = {"memory": True, "embed": SMALL, "provider": "openai", "model": "gpt-4o-mini", "budget": "0.01"}
    settings = load(flags, options=agent.table())
    job = runs.prepared(agent, Job(user("memory safety")), settings, memory.store)
    tokens = sum(-(-len(text) // 4) for text in embedded(fake_api)[0])
    assert job.charged == tokens * money.pico("0.02") // 10**6

    whole = execute(agent, Job(user("x")), settings)
    spent = execute(agent, Job(user("x"), charged=money.pico("0.01")), settings)
    assert (whole.status, spent.status, spent.stop) == (0, 4, "budget")


def test_a_budget_that_processes_share_is_charged_once(memory, filled, fake_api, monkeypatch, run_agent):
    env = {**fake_api.env(), "AGENT_BUDGET_USD": "1", "TRACEPARENT": f"00-{'ab' * 16}-{'cd' * 8}-01"}
    flags = (
        "-q",
        "--memory",
        "--embed",
        SMALL,
        "--provider",
        "openai",
        "--model",
        "gpt-4o-mini",
        "--budget",
        "0.5",
        "memory safety",
    )
    assert run_agent("assistant", *flags, env=env).returncode == 0

    bill = json.loads(run_agent("agent_log", "cost", "--json").stdout)["data"]["structuredContent"]["total"]
    ((_, row),) = memory.store.items("budget").items()
    memory.store.close()
    assert json.loads(row)["spent"] == money.pico(bill["cost_usd"]) > 0


def test_a_run_is_given_what_means_the_same_and_its_recall_tool_finds_it(mem, filled, fake_api, run_agent, tmp_path):
    flags = ("-q", "--memory", "--provider", "openai", "--model", "gpt-4o-mini", "memory safety")
    run_agent("assistant", "--embed", SMALL, "--show-prompt", *flags, env=fake_api.env())
    assert fake_api.requests() == []  # it sends nothing
    run_agent("assistant", *flags, env=fake_api.env())
    run_agent(
        "agent_mem", "forget", json.loads(mem("list", "--kind", "episodic", "--json").stdout)["data"]["structuredContent"][0]["id"]
    )
    run_agent("assistant", "--embed", SMALL, *flags, env=fake_api.env())
    plain, _, given = (json.dumps(each["body"]) for each in fake_api.requests())
    assert (OWNERSHIP in given, OWNERSHIP in plain, "The rent" in given) == (True, False, False)

    script = tmp_path / "s.jsonl"
    script.write_text('{"tool_calls": [{"name": "recall", "arguments": {"query": "memory safety"}}]}\n"done"\n')
    done = run_agent(
        "assistant",
        "-q",
        "--memory",
        "--embed",
        SMALL,
        "--provider",
        "scripted",
        "--script",
        str(script),
        "hello",
        env=fake_api.env(),
    )
    assert done.stdout == "done\n"
    shown = run_agent("agent_log", "list", "--agent", "assistant", "--json").stdout
    run = json.loads(shown)["data"]["structuredContent"][0]["id"]
    assert OWNERSHIP in run_agent("agent_log", "export", run).stdout


def test_without_embeddings_by_the_rules_nothing_is_sent(mem, filled, fake_api, tmp_path):
    (tmp_path / "agents.toml").write_text(f'embed = "{SMALL}"\n[memory]\nuse_embeddings = false\n')
    assert mem("recall", "memory safety").returncode == 0
    assert embedded(fake_api) == []
    (tmp_path / "agents.toml").write_text(f'embed = "{SMALL}"\n')
    assert mem("recall", "memory safety").returncode == 0
    assert len(embedded(fake_api)) == 1


def test_likeness_is_calibrated_by_what_strangers_have_in_common():
    table = [(0.3, 0.3, 0.0), (0.65, 0.3, 0.5), (1.0, 0.3, 1.0), (0.1, 0.3, 0.0), (0.5, 0.0, 0.5), (1.001, 0.2, 1.0)]

    assert [round(meaning.calibrated(cosine, base), 9) for cosine, base, _ in table] == [wanted for _, _, wanted in table]


def test_a_vector_is_kept_at_half_precision_and_one_that_nobody_made_does_not_count():
    item = Item("a", "semantic", "text")
    vector = [1 / math.sqrt(48)] * 48
    kept = Item("a", "semantic", "text", embedding=meaning.packed("m", meaning._hash(item), vector))
    found = meaning.of(from_json(to_json(kept)), "m")

    assert max(abs(one - other) for one, other in zip(found, vector, strict=True)) < 1e-4
    assert meaning.of(kept, "other") is None
    assert meaning.of(Item("a", "semantic", "changed", embedding=kept.embedding), "m") is None
    for numbers in ([float("nan")] * 4, [float("inf"), 0.0], [60000.0] * 8, [0.0] * 8, []):
        data = base64.b64encode(struct.pack(f"<{len(numbers)}e", *numbers)).decode()
        assert meaning.of(Item("a", "semantic", "text", embedding={**kept.embedding, "vector": data}), "m") is None
    for bad in ("!", "AAA", 3, None):
        odd = Item("a", "semantic", "text", embedding={**kept.embedding, "vector": bad})
        assert meaning.of(odd, "m") is None
        assert meaning.missing([odd, kept], "m") == [odd]  # what cannot be used is made anew


def test_of_a_models_vectors_and_of_words_each_item_has_its_own(memory):
    one, _ = memory.put(Item("", "semantic", "red apples"))
    two, _ = memory.put(Item("", "semantic", "red pears"))
    hits = recall.recall([one, two], "red", Rules(), 0.0, "vector", {one.id: 0.25})

    assert {hit.item.id: round(hit.similarity, 2) for hit in hits}[one.id] == 0.25
    assert {hit.item.id: hit.similarity for hit in hits}[two.id] > 0.4


def test_numpy_is_used_only_where_it_is_loaded_and_says_the_same():
    pytest.importorskip("numpy")
    asked, others = [0.6, 0.8], [[1.0, 0.0], [0.0, 1.0]]

    assert [round(each, 12) for each in meaning.cosines(asked, others)] == [0.6, 0.8]


def test_a_run_that_made_vectors_can_be_looked_at_and_is_no_command_to_replay(mem, filled, run_agent):
    mem("recall", "memory safety", "--embed", SMALL)

    assert "10 vectors of 48 numbers" in run_agent("agent_log", "show", "last").stdout
    assert run_agent("agent_log", "replay", "last").returncode == 2
    assert run_agent("agent_log", "audit", "--verify").returncode == 0


def test_rows_at_once_and_an_encrypted_store_have_vectors_as_any_other(mem, filled, fake_api, run_agent, tmp_path):
    assert run_agent("agent_keys", "encrypt", "on").returncode == 0
    flags = ("-q", "--lines", "--jobs", "3", "--memory", "--embed", SMALL, "--provider", "openai", "--model", "gpt-4o-mini")
    done = run_agent("assistant", *flags, stdin="memory safety\nthe car\nthe rent\n", env=fake_api.env())

    assert (done.returncode, done.stdout) == (0, "memory safety\nthe car\nthe rent\n")
    chats = [json.dumps(each["body"]) for each in fake_api.requests() if each["path"].endswith("completions")]
    assert sum(OWNERSHIP in body for body in chats) == 1
    assert all(b"Ownership" not in file.read_bytes() for file in (tmp_path / "home").rglob("*") if file.is_file())
