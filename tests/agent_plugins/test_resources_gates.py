"""The guards of the resources plugin, on a made-up clock: no test sleeps."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from agent_core import errors, guards, messages
from agent_core.effects import Ask
from agent_core.messages import ToolResult
from agent_core.provider import Price, Provider, Reply, Usage
from agent_core.store import open_store
from agent_plugins import resources
from agent_plugins.resources import gates, limits
from agent_plugins.resources.limits import Bucket, Fuse
from agent_plugins.resources.readings import readings
from agent_plugins.resources.shared import InStore, Local

PICO = 10**12
PLAIN = Provider("p", "m", price=Price("1000", "1000", basis="list"))  # 0.001 USD a token


def outward(key="k", provider=PLAIN, text="hi"):
    return guards.Outward("ask", provider.model, key, Ask((messages.user(text),), max_tokens=10), provider)


def reply(tokens=10, into=0):
    return Reply(messages.assistant("x"), usage=Usage(into, tokens))


@pytest.fixture
def place():
    return Local()


def manner(place, **more):
    return gates.Manner(place, **more)


def only(limit):
    return lambda _scope: limit


# -- rates ------------------------------------------------------------------------------------------------------------------------


def test_a_call_over_the_rate_is_delayed_until_the_next_one_is_due(place):
    gate = gates.Rated(gates.CALLS, manner(place), only(Bucket(2, 2 / 60)))
    for _ in range(2):
        assert gate.before(outward(), 0, 0.0) is guards.PROCEED
    call = outward()
    assert isinstance(gate.before(call, 0, 0.0), guards.Delay)
    assert isinstance(gate.before(call, 0, 29.9), guards.Delay)
    assert gate.before(call, 0, 30.0) is guards.PROCEED


def test_no_wait_refuses_at_once_with_75_and_the_time_to_wait(place):
    gate = gates.Rated(gates.CALLS, manner(place, waits=False), only(Bucket(1, 1 / 60)))
    gate.before(outward(), 0, 0.0)
    decision = gate.before(outward(), 0, 0.0)

    assert isinstance(decision, guards.Refuse)
    assert (decision.error.status, decision.error.code, decision.error.retry_after) == (75, "rate_limited", 60.0)
    assert str(decision.error) == "rate of p/m: 1 calls in 60 s are used"


def test_a_call_that_waits_for_a_later_gate_takes_its_token_once(place):
    rate = gates.Rated(gates.CALLS, manner(place), only(Bucket(5, 1 / 60)))
    places = gates.Places(manner(place), only(1))
    both = guards.chain([places, rate])
    first, second = outward(), outward()
    assert guards.before(both, first, 0, 0.0) is guards.PROCEED
    for moment in (0.0, 0.1, 0.2):
        assert isinstance(guards.before(both, second, 0, moment), guards.Delay)
    assert place.read("rate:p/m")["used"] == pytest.approx(2, abs=0.01)
    guards.after(both, first, reply(), 0, 0.3)
    assert guards.before(both, second, 0, 0.3) is guards.PROCEED


def test_every_attempt_counts(place):
    gate = gates.Rated(gates.CALLS, manner(place), only(Bucket(3, 1 / 60)))
    call = outward()
    for attempt in range(3):
        assert gate.before(call, attempt, 0.0) is guards.PROCEED
        gate.after(call, errors.ServerError("no"), attempt, 0.0)
    assert isinstance(gate.before(call, 3, 0.0), guards.Delay)


def test_tokens_are_reserved_by_the_size_of_the_request_and_settled_by_the_usage(place):
    gate = gates.Rated(gates.TOKENS, manner(place), only(Bucket(100_000, 100_000 / 60)))
    call = outward(text="x" * 3000)
    assert gate.before(call, 0, 0.0) is guards.PROCEED
    assert 1000 <= place.read("token-rate:p/m")["used"] <= 1100
    gate.after(call, reply(5, 7), 0, 0.0)
    assert place.read("token-rate:p/m")["used"] == 12


@pytest.mark.parametrize(
    ("outcome", "used"),
    [
        (errors.ServerError("no"), 0),
        (errors.CallTimeout("late"), "reserved"),
        (Reply(messages.assistant("x"), usage=Usage(None, None)), "reserved"),
    ],
)
def test_what_a_failed_call_used_is_nothing_and_what_is_unknown_stays_reserved(place, outcome, used):
    gate = gates.Rated(gates.TOKENS, manner(place), only(Bucket(100_000, 1)))
    call = outward()
    gate.before(call, 0, 0.0)
    reserved = place.read("token-rate:p/m")["used"]
    gate.after(call, outcome, 0, 0.0)

    assert place.read("token-rate:p/m")["used"] == (reserved if used == "reserved" else used)


def test_money_in_a_time_needs_a_price_and_costs_nothing_without_a_network(place):
    gate = gates.Rated(gates.COST, manner(place), only(Bucket(PICO, PICO / 3600)))
    refused = gate.before(outward(provider=replace(PLAIN, price=Price())), 0, 0.0)
    assert isinstance(refused, guards.Refuse)
    assert "no price is known" in str(refused.error)
    assert gate.before(outward(provider=replace(PLAIN, answer=lambda _ask: reply())), 0, 0.0) is guards.PROCEED
    call = outward()
    assert gate.before(call, 0, 0.0) is guards.PROCEED
    gate.after(call, reply(3), 0, 0.0)
    assert place.read("cost-rate:p/m")["used"] == 3 * PICO // 1000


def test_most_of_a_rate_is_said_once_in_words(place):
    said = []
    gate = gates.Rated(gates.CALLS, manner(place, say=said.append), only(Bucket(20, 20 / 60)))
    for _ in range(20):
        gate.before(outward(), 0, 0.0)

    assert said == ["rate of p/m: 80% of 20 calls in 60 s are used"]


def test_models_have_limits_of_their_own(place):
    gate = gates.Rated(gates.CALLS, manner(place), lambda name: Bucket(1, 1) if name == "p/m" else None)
    other = replace(PLAIN, model="other")
    gate.before(outward(), 0, 0.0)
    assert isinstance(gate.before(outward(), 0, 0.0), guards.Delay)
    assert gate.before(outward(provider=other), 0, 0.0) is guards.PROCEED
    assert gate.before(guards.Outward("tool", "p/m", "k"), 0, 0.0) is guards.PROCEED


# -- places -----------------------------------------------------------------------------------------------------------------------


def test_a_place_is_given_back_by_an_outcome_a_failure_and_a_call_that_is_not_made(place):
    gate = gates.Places(manner(place, waits=False), only(1))
    for end in (
        lambda call: gate.after(call, reply(), 0, 0.0),
        lambda call: gate.after(call, errors.ServerError("x"), 0, 0.0),
        gate.leave,
    ):
        call = outward()
        assert gate.before(call, 0, 0.0) is guards.PROCEED
        assert isinstance(gate.before(outward(), 0, 0.0), guards.Refuse)
        end(call)
    assert gate.before(outward(), 0, 0.0) is guards.PROCEED


def test_a_refusal_further_in_gives_back_what_was_taken_further_out(place):
    class No:
        place = "call_timeout"

        def before(self, call, attempt, now):
            return guards.Refuse(errors.Failed("no"))

        def after(self, call, outcome, attempt, now):
            return guards.ACCEPT

    places = gates.Places(manner(place), only(1))
    chain = guards.chain([places, No(), gates.Dedup(manner(place), 60)])
    assert isinstance(guards.before(chain, outward(), 0, 0.0), guards.Refuse)
    assert place.read("concurrency:p/m").get("held") == {}
    assert not [key for key in place.rows() if key.startswith("dedup:")]


def test_a_call_at_the_address_of_one_that_vanished_is_another_call(place):
    gate = gates.Places(manner(place, waits=False), only(1000))
    for _ in range(50):
        gate.before(outward(), 0, 0.0)  # each is dropped at once: without care the next one has its id

    assert len(place.read("concurrency:p/m")["held"]) == 50


# -- breaker ----------------------------------------------------------------------------------------------------------------------


def test_five_failures_open_it_the_next_call_is_refused_at_once_and_one_trial_passes_after_thirty_seconds(place):
    said = []
    gate = gates.Breaker(manner(place, say=said.append), only(Fuse()))
    for _ in range(5):
        call = outward()
        assert gate.before(call, 0, 100.0) is guards.PROCEED
        gate.after(call, errors.ServerError("no"), 0, 100.0)
    refused = gate.before(outward(), 0, 100.0)
    assert isinstance(refused, guards.Refuse)
    assert (refused.error.code, refused.error.status, refused.error.retryable) == ("breaker_open", 69, True)
    assert refused.error.retry_after == 30.0
    assert str(refused.error) == "p/m failed 5 times in a row (server); its breaker is open"
    assert said == ["breaker of p/m opened (server); it rests for 30 s"]
    assert isinstance(gate.before(outward(), 0, 129.9), guards.Refuse)
    trial = outward()
    assert gate.before(trial, 0, 130.0) is guards.PROCEED
    assert isinstance(gate.before(outward(), 0, 130.0), guards.Refuse)
    gate.after(trial, reply(), 0, 131.0)
    assert gate.before(outward(), 0, 131.0) is guards.PROCEED
    assert place.rows() == {}


def test_a_trial_that_fails_opens_it_again(place):
    gate = gates.Breaker(manner(place), only(Fuse(1, 30)))
    call = outward()
    gate.before(call, 0, 0.0)
    gate.after(call, errors.TransportError("no"), 0, 0.0)
    trial = outward()
    assert gate.before(trial, 0, 30.0) is guards.PROCEED
    gate.after(trial, errors.TransportError("no"), 0, 31.0)
    assert isinstance(gate.before(outward(), 0, 60.9), guards.Refuse)
    assert gate.before(outward(), 0, 61.0) is guards.PROCEED


@pytest.mark.parametrize(
    ("outcome", "counts"),
    [
        (errors.ServerError("x"), True), (errors.TransportError("x"), True), (errors.CallTimeout("x"), True),
        (errors.RateLimited("x"), True), (errors.BadReply("x"), True), (errors.RateLimited("no money", retryable=False), False),
        (errors.AuthError("x"), False), (errors.BadRequest("x"), False), (errors.UnknownModel("x"), False),
        (errors.DeadlineError("x"), False), (errors.ContextLength("x"), False), (ValueError("x"), False), (reply(), False),
        (ToolResult("1", "t", "x", "transient"), True), (ToolResult("1", "t", "x", "permanent"), False),
        (ToolResult("1", "t", "x"), False), ("a peer's answer", False), (errors.ContractError("a peer's nonsense"), True),
    ],
)  # fmt: skip
def test_only_faults_of_the_service_count(place, outcome, counts):
    gate = gates.Breaker(manner(place), only(Fuse(1, 30)))
    call = outward()
    gate.before(call, 0, 0.0)
    gate.after(call, outcome, 0, 0.0)

    assert isinstance(gate.before(outward(), 0, 1.0), guards.Refuse) is counts


def test_a_tool_has_a_breaker_of_its_own(place):
    gate = gates.Breaker(manner(place), only(Fuse(2, 30)))
    for _ in range(2):
        call = guards.Outward("tool", "http_get", "k")
        gate.before(call, 0, 0.0)
        gate.after(call, ToolResult("1", "http_get", "no", "transient"), 0, 0.0)

    refused = gate.before(guards.Outward("tool", "http_get", "k"), 0, 1.0)
    assert "tool:http_get failed 2 times" in str(refused.error)
    assert gate.before(guards.Outward("tool", "other", "k"), 0, 1.0) is guards.PROCEED
    assert gate.before(outward(), 0, 1.0) is guards.PROCEED


def test_a_trial_that_another_gate_refuses_is_given_back(place):
    breaker = gates.Breaker(manner(place), only(Fuse(1, 30)))
    rate = gates.Rated(gates.CALLS, manner(place, waits=False), only(Bucket(1, 1 / 600)))
    chain = guards.chain([rate, breaker])
    call = outward()
    guards.before(chain, call, 0, 0.0)
    guards.after(chain, call, errors.ServerError("no"), 0, 0.0)
    assert guards.before(chain, outward(), 0, 40.0).error.code == "rate_limited"
    assert guards.before(chain, outward(), 0, 700.0) is guards.PROCEED


# -- equal requests ---------------------------------------------------------------------------------------------------------------


def test_the_second_of_two_equal_requests_waits_and_takes_the_first_ones_reply(place):
    gate = gates.Dedup(manner(place), 60.0)
    first, second = outward(), outward()
    assert gate.before(first, 0, 0.0) is guards.PROCEED
    assert isinstance(gate.before(second, 0, 0.0), guards.Delay)
    gate.after(first, reply(3), 0, 1.0)
    decision = gate.before(second, 0, 1.1)
    assert isinstance(decision, guards.Use)
    assert (decision.outcome.text, decision.outcome.usage.output_tokens) == ("x", 3)
    assert isinstance(gate.before(outward(), 0, 60.9), guards.Use)
    assert gate.before(outward(), 0, 61.0) is guards.PROCEED


def test_other_requests_other_models_and_other_places_are_not_equal(place):
    gate = gates.Dedup(manner(place), 60.0)
    first = outward()
    gate.before(first, 0, 0.0)
    gate.after(first, reply(), 0, 0.0)
    others = [outward("other"), outward(provider=replace(PLAIN, model="n")), outward(provider=replace(PLAIN, base_url="http://x"))]

    assert [gate.before(each, 0, 1.0) for each in others] == [guards.PROCEED] * 3
    assert gate.before(guards.Outward("tool", "m", "k"), 0, 1.0) is guards.PROCEED


def test_the_first_one_failing_lets_the_next_one_ask(place):
    gate = gates.Dedup(manner(place), 60.0)
    first, second, third = outward(), outward(), outward()
    gate.before(first, 0, 0.0)
    gate.after(first, errors.ServerError("no"), 0, 1.0)
    assert gate.before(second, 0, 1.0) is guards.PROCEED
    assert isinstance(gate.before(third, 0, 1.0), guards.Delay)


def test_the_first_one_dying_lets_the_next_one_ask(place):
    gate = gates.Dedup(manner(place, lease=150), 60.0)
    gate.before(outward(), 0, 0.0)
    key = next(iter(place.rows()))
    place.change(key, lambda row: row["owner"].__setitem__(slice(2, 4), [4_000_000, 1]), 60)

    assert gate.before(outward(), 0, 1.0) is guards.PROCEED


# -- money of a day ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path / "agents.db")
    yield store
    store.close()


def daily(store, limit, say=lambda _text: None, now=0.0):
    return gates.daily_budget(limit, store, manner(InStore(store, 0.0), say=say), now)


def need():
    return gates.money.reserve(outward().ask, PLAIN)


def test_the_budget_of_a_day_counts_all_runs_of_that_day_and_no_other(store):
    one, two = daily(store, 2 * need()), daily(store, 2 * need())
    first, second = outward(), outward()
    assert one.before(first, 0, 0.0) is guards.PROCEED
    assert two.before(second, 0, 0.0) is guards.PROCEED
    refused = daily(store, 2 * need()).before(outward(), 0, 0.0)
    assert isinstance(refused, guards.Refuse)
    assert (refused.error.status, refused.error.code) == (4, "budget")
    assert "0 is left of the day's budget" in str(refused.error)
    assert "--daily-budget" in refused.error.hint
    one.after(first, reply(0), 0, 0.0)
    assert daily(store, 2 * need()).before(outward(), 0, 0.0) is guards.PROCEED
    assert daily(store, 2 * need(), now=86_400.0).before(outward(), 0, 0.0) is guards.PROCEED


def test_without_a_store_the_budget_of_a_day_refuses():
    refused = gates.daily_budget(PICO, None, manner(Local()), 0.0).before(outward(), 0, 0.0)

    assert isinstance(refused, guards.Refuse)
    assert refused.error.status == 78


def test_most_of_a_day_is_said_once_and_read(store):
    said = []
    budget = daily(store, 10 * need(), said.append)
    for tokens in (1, 10 * need() // (PICO // 1000) * 8 // 10, 1):
        call = outward()
        assert budget.before(call, 0, 0.0) is guards.PROCEED
        budget.after(call, reply(tokens), 0, 0.0)

    assert len(said) == 1
    assert said[0].startswith("80% of the day's budget of")
    reading = readings(InStore(store, 0.0), now=0.0)[0]
    assert (reading.limit, reading.of, reading.unit) == ("daily-budget", "1970-01-01", "USD")
    assert 80 <= reading.percent <= 100


def test_a_day_is_handed_to_called_agents(store):
    from agent_core import ledger

    made = ledger.for_child([daily(store, 7 * PICO)], store, "k")

    assert made == {"AGENT_BUDGET_USD": "7", "AGENT_BUDGET_ROW": "7@day:1970-01-01"}


# -- the plugin -------------------------------------------------------------------------------------------------------------------


def configured(rate=None, **extra):
    return SimpleNamespace(rate=rate, extra=extra, tables={}, environment={}, call_timeout=120.0)


def test_only_what_is_asked_for_is_there_and_in_its_order(store):
    assert list(resources.agent_guards(None, configured(), store)) == []
    made = guards.chain(resources.agent_guards(None, configured((20.0, 60.0), tier="mid", dedup=60.0, daily_budget=1), store))

    assert [each.place for each in made] == ["dedup", "budget", "breaker", "rate", "rate", "rate", "in_flight"]
    assert len(list(resources.agent_guards(None, configured((20.0, 60.0)), store))) == 1


def test_a_store_that_cannot_be_used_leaves_limits_to_the_process_and_money_refused(tmp_path):
    (tmp_path / "file").write_text("no folder")
    store = open_store(tmp_path / "file" / "agents.db")
    made = guards.chain(resources.agent_guards(None, configured((1.0, 60.0), concurrency=1, breaker="5/30"), store))
    assert guards.before(made, outward(), 0, 0.0) is guards.PROCEED
    assert isinstance(guards.before(made, outward(), 0, 0.0), guards.Delay)
    assert [text for text in store.notices if text.startswith("limits hold for this process only: ")] == store.notices
    assert len(store.notices) == 1
    strict = guards.chain(resources.agent_guards(None, configured(cost_rate=(1.0, 3600.0)), store))
    assert guards.before(strict, outward(), 0, 0.0).error.status == 78


def test_readings_tell_what_is_used_of_what_by_whom_and_who_waits(place):
    rate = gates.Rated(gates.CALLS, manner(place), only(Bucket(1, 1 / 60)))
    places = gates.Places(manner(place), only(4))
    breaker = gates.Breaker(manner(place), only(Fuse(1, 30)))
    for gate in (rate, rate, places, breaker):
        call = outward()
        gate.before(call, 0, 0.0)
    breaker.after(call, errors.ServerError("x"), 0, 0.0)
    rows = {row.limit: row for row in readings(place, now=0.5)}

    assert (rows["rate"].of, rows["rate"].per_s, rows["rate"].waiting) == ("p/m", 60.0, 1)
    assert rows["rate"].percent == pytest.approx(99.2)
    assert (rows["concurrency"].used, rows["concurrency"].percent) == (1, 25.0)
    assert (rows["breaker"].state, rows["breaker"].used, rows["breaker"].percent) == ("open", 1, None)


def test_ranks_are_the_words_of_the_flag():
    from agent_core.options import OPTIONS

    row = next(each for each in OPTIONS if each.name == "priority")
    assert tuple(limits.RANKS) == row.choices
