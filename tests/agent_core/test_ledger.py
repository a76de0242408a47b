"""The budget over a pipeline: parallel processes never spend more than its limit, and what cannot be kept is refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent_core import errors, guards, ledger, lineage, messages
from agent_core.effects import Ask
from agent_core.provider import Price, Provider, Reply, Usage
from agent_core.store import open_store

ROOT = Path(__file__).resolve().parents[2]
PICO = 10**12
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
DEAR = Provider("p", "m", price=Price("1000", "1000", basis="list"))  # 0.001 USD a token


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "agents.db")
    yield store
    store.close()


def outward(provider=DEAR):
    return guards.Outward("ask", "m", "k", Ask((messages.user("hi"),), max_tokens=10), provider)


def reply(tokens):
    return Reply(messages.assistant("x"), usage=Usage(0, tokens))


def need():
    return ledger.money.reserve(outward().ask, DEAR)


def refusal(budget, call=None):
    decision = budget.before(call or outward(), 0, 0.0)
    return decision.error if isinstance(decision, guards.Refuse) else None


def settings(budget=None, **environment):
    return SimpleNamespace(budget=budget, environment=environment)


@pytest.mark.parametrize("shared", [False, True])
def test_a_call_is_reserved_before_and_settled_after(store, shared):
    row = ledger.StoreRow(store, "k") if shared else ledger.MemoryRow()
    budget = ledger.SharedBudget([(2 * need(), row)])
    one, two = outward(), outward()

    assert refusal(budget, one) is None
    assert refusal(budget, two) is None
    assert row.used() == 2 * need()
    error = refusal(budget)
    assert (error.status, "0 is left" in str(error)) == (4, True)
    budget.after(one, reply(3), 0, 0.0)
    budget.after(two, errors.ServerError("no"), 0, 0.0)
    assert row.used() == 3 * PICO // 1000
    assert refusal(budget) is None


def test_a_call_that_waited_for_another_guard_is_reserved_once(store):
    budget = ledger.SharedBudget([(PICO * 100, ledger.MemoryRow())])
    call = outward()
    for _ in range(3):
        budget.before(call, 0, 0.0)
    budget.after(call, reply(1), 0, 0.0)

    assert budget.rows[0][1].used() == PICO // 1000
    budget.before(call, 0, 0.0)
    budget.leave(call)
    budget.leave(call)
    assert budget.rows[0][1].used() == PICO // 1000


def test_an_unknown_price_is_refused_and_an_unknown_usage_costs_what_was_reserved(store):
    budget = ledger.SharedBudget([(PICO * 100, ledger.StoreRow(store, "k"))])
    call = outward()

    assert refusal(budget, outward(Provider("p", "m"))).status == 4
    budget.before(call, 0, 0.0)
    budget.after(call, Reply(messages.assistant("x")), 0, 0.0)
    assert budget.rows[0][1].used() == need()


def test_a_provider_without_a_network_costs_nothing(store):
    budget = ledger.SharedBudget([(0, ledger.StoreRow(None, "k"))])

    assert refusal(budget, outward(Provider("offline", "offline", answer=lambda _: reply(0)))) is None


def test_the_tightest_of_several_rows_decides_and_the_others_keep_nothing(store):
    wide, tight = ledger.StoreRow(store, "wide"), ledger.MemoryRow()
    budget = ledger.SharedBudget([(PICO * 100, wide), (1, tight)])

    assert isinstance(refusal(budget), errors.BudgetLimit)
    assert wide.used() == tight.used() == 0
    assert budget.left() == 1


@pytest.mark.parametrize("kind", ["none", "folder", "gone", "damaged", "nonsense"])
def test_a_ledger_that_cannot_be_used_refuses(store, tmp_path, kind):
    row = ledger.StoreRow(store, "k")
    if kind == "none":
        row = ledger.StoreRow(None, "k")
    elif kind == "folder":
        (tmp_path / "other").mkdir()
        row = ledger.StoreRow(open_store(tmp_path / "other"), "k")
    elif kind == "gone":
        row = ledger.StoreRow(store, "k", fresh=False)
    else:
        store.item_put(ledger.NAMESPACE, "k", "{" if kind == "damaged" else '{"spent": "0", "open": {}}')

    error = refusal(ledger.SharedBudget([(PICO * 100, row)]))
    assert (type(error), error.status) == (errors.StoreError, 78)
    assert "budget" in str(error)


def test_what_a_dead_process_reserved_is_given_back_and_what_a_live_one_reserved_is_not(store):
    program = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from agent_core import ledger
from agent_core.store import open_store
row = ledger.StoreRow(open_store(Path({str(store.path)!r})), "k")
assert row.reserve("a", 60, 100) is None
print("reserved", flush=True)
sys.stdin.read()
"""
    holder = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "reserved\n"
    row = ledger.StoreRow(store, "k")
    assert row.reserve("b", 60, 100) == 40
    holder.kill()
    holder.communicate()

    assert row.reserve("b", 60, 100) is None
    assert row.used() == 60


def test_a_process_that_only_has_the_number_of_a_dead_one_does_not_hold_its_money(store):
    row = ledger.StoreRow(store, "k")
    row.reserve("a", 60, 100)
    kept = json.loads(store.item_get(ledger.NAMESPACE, "k"))
    kept["open"]["a"][2] -= 1
    store.item_put(ledger.NAMESPACE, "k", json.dumps(kept))
    assert row.used() == 0

    elsewhere = lineage.boot()[:13] + "pid:[1]"
    kept["open"]["a"][3] = elsewhere
    store.item_put(ledger.NAMESPACE, "k", json.dumps(kept))
    assert row.used() == 60


def test_parallel_processes_never_spend_more_than_the_limit(store):
    program = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from agent_core import ledger
from agent_core.store import open_store
row = ledger.StoreRow(open_store(Path({str(store.path)!r})), "k")
spent = 0
for turn in range(12):
    if row.reserve(f"{{sys.argv[1]}}.{{turn}}", 10, 1000) is None:
        row.settle(f"{{sys.argv[1]}}.{{turn}}", 7)
        spent += 7
print(spent)
"""
    workers = [subprocess.Popen([sys.executable, "-c", program, str(n)], stdout=subprocess.PIPE, text=True) for n in range(16)]
    spent = [int(worker.communicate(timeout=60)[0]) for worker in workers]

    assert all(worker.returncode == 0 for worker in workers)
    assert sum(spent) == ledger.StoreRow(store, "k").used()
    assert 1000 - 10 < sum(spent) <= 1000


def test_the_row_is_of_the_trace_else_of_the_process_group(store):
    traced = ledger.guard(settings(AGENT_BUDGET_USD="0.5", TRACEPARENT=TRACE), store)
    grouped = ledger.guard(settings(AGENT_BUDGET_USD="$0.5", TRACEPARENT="rubbish"), store)

    assert [(limit, row.key) for limit, row in traced.rows] == [(PICO // 2, "trace:4bf92f3577b34da6a3ce929d0e0e4736")]
    assert grouped.rows[0][1].key == f"group:{lineage.boot()}:{os.getsid(0)}:{os.getpgrp()}"
    assert bool(grouped.rows[0][1].leader) == Path(f"/proc/{os.getpgrp()}").exists()
    assert ledger.guard(settings(), store) is None
    assert ledger.guard(settings(Decimal("0.25")), store).rows[0][0] == PICO // 4


def test_a_group_number_that_was_used_before_begins_anew_and_the_same_group_does_not(store):
    first = ledger.StoreRow(store, "k", leader=10)
    first.reserve("a", 60, 100)

    assert ledger.StoreRow(store, "k", leader=0).used() == 60
    assert ledger.StoreRow(store, "k", leader=11).used() == 60
    assert ledger.StoreRow(store, "k", leader=lineage.now_ticks() + 5).used() == 0


@pytest.mark.parametrize("text", ["much", "-1", "1e3", "NaN", "1,5", "$"])
def test_an_amount_that_is_none_is_a_configuration_error(store, text):
    for environment in ({"AGENT_BUDGET_USD": text}, {"AGENT_BUDGET_ROW": f"{text}@k"}):
        with pytest.raises(errors.ConfigError):
            ledger.guard(settings(**environment), store)


def test_a_called_agent_keeps_to_its_callers_rows_and_to_what_was_left(store):
    mine = ledger.SharedBudget([(PICO, ledger.MemoryRow(spent=PICO // 4, open={"mine": PICO // 4}))])
    given = ledger.for_child([guards.Retries(), mine, guards.Budget(PICO * 9)], store, "run:r")
    theirs = ledger.guard(settings(**given), store)

    assert given["AGENT_BUDGET_USD"] == "0.5"
    assert theirs.left() == PICO // 2
    again = ledger.for_child([theirs], store, "run:s")
    assert again["AGENT_BUDGET_ROW"] == f"0.5@run:s.0 1@{mine.rows[0][1].key}"
    mine.charge(PICO // 2)
    assert theirs.left() == 0
    with pytest.raises(errors.BudgetLimit):
        ledger.for_child([theirs], store, "run:t")
    assert ledger.for_child([guards.Retries()], store, "run:u") == {}


def test_a_row_that_the_caller_named_must_be_there(tmp_path):
    elsewhere = open_store(tmp_path / "other.db")
    theirs = ledger.guard(settings(AGENT_BUDGET_USD="0.5", AGENT_BUDGET_ROW="1@run:r.0"), elsewhere)

    assert isinstance(refusal(theirs), errors.StoreError)


# --- whole pipelines of agents


def test_one_budget_covers_the_stages_of_a_shell_pipe(fake_api, tmp_path):
    fake_api.script(*["word " * 50] * 4)
    agent = f"{sys.executable} {ROOT}/agents/assistant.py --retry 0 --provider openai --model gpt-4o-mini --max-tokens 100"
    usable = {"PATH": os.defpath, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), **fake_api.env()}

    def piped(budget):
        fake_api.reset()
        fake_api.script(*["word " * 50] * 4)
        command = f"set -o pipefail; echo hello | {agent} | cat | {agent} | {agent}; echo ${{PIPESTATUS[*]}}"
        done = subprocess.run(
            ["/bin/bash", "-c", command], cwd=tmp_path, env={**usable, "AGENT_BUDGET_USD": budget}, capture_output=True, text=True,
            check=False, start_new_session=True,
        )  # fmt: skip
        return done.stdout.splitlines()[-1], len(fake_api.requests()), done.stderr

    assert piped("0.01")[:2] == ("0 0 0 0 0", 3)
    needed = re.search(r"may cost ([0-9.]+) USD", piped("0.000001")[2])[1]
    # Enough for the first call: the second stage finds what it left, refuses, and the third gets no input.
    assert piped(needed)[:2] == ("0 0 0 4 66", 1)


def test_a_store_that_cannot_be_used_refuses_a_run_with_a_shared_budget_before_it_spends(fake_api, run_agent, tmp_path):
    (tmp_path / "file").write_text("no folder")
    env = {**fake_api.env(), "AGENT_BUDGET_USD": "1"}
    done = run_agent(
        "assistant", "--provider", "openai", "--model", "gpt-4o-mini", "--data-dir", str(tmp_path / "file"), "hi", env=env
    )

    assert (done.returncode, done.stdout, fake_api.requests()) == (78, "", [])
    assert "budget" in done.stderr
