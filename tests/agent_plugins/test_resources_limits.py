"""The arithmetic of limits, on plain rows and a made-up clock."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_core.errors import ConfigError, UsageError
from agent_plugins.resources import limits, tiers
from agent_plugins.resources.limits import Bucket, Fuse, Ticket


def everybody(_owner):
    return True


def nobody(_owner):
    return False


def ticket(name="a", rank="normal", since=0.0, waits=True):
    return Ticket(name, limits.RANKS[rank], since, waits)


TWENTY = Bucket(20, 20 / 60)


def test_a_bucket_gives_its_capacity_at_once_and_then_one_every_three_seconds():
    row = {}
    given_at_once = [limits.take(row, TWENTY, 1, ticket(str(n)), 0.0) for n in range(20)]

    assert given_at_once == [0.0] * 20
    assert limits.take(row, TWENTY, 1, ticket("x"), 0.0) == pytest.approx(3.0)
    assert limits.take(row, TWENTY, 1, ticket("x"), 2.9) == pytest.approx(0.1)
    assert limits.take(row, TWENTY, 1, ticket("x"), 3.0) == 0.0
    assert row["waits"] == [1, 3.0]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 30)), max_size=60))
def test_no_window_ever_holds_more_than_the_capacity_and_what_drains_in_it(steps):
    row, now, granted = {}, 0.0, []
    for number, (pause, need) in enumerate(steps):
        now += pause
        if limits.take(row, TWENTY, need, ticket(str(number), waits=False), now) == 0.0:
            granted.append((now, min(need, 20)))

    for at, _ in granted:
        for span in (1.0, 10.0, 60.0):
            assert sum(need for when, need in granted if at <= when <= at + span) <= 20 + span / 3 + 1e-6


def test_what_is_larger_than_the_bucket_waits_for_an_empty_one():
    row = {}
    assert limits.take(row, TWENTY, 1, ticket("small"), 0.0) == 0.0
    assert limits.take(row, TWENTY, 500, ticket("large"), 0.0) == pytest.approx(3.0)
    assert limits.take(row, TWENTY, 500, ticket("large"), 3.0) == 0.0
    assert row["used"] == 20


def test_settling_counts_what_was_used_and_more_than_fits_is_owed():
    bucket, row = Bucket(100, 1), {}
    limits.take(row, bucket, 60, ticket("a"), 0.0)
    limits.settle(row, bucket, 60, 10, 0.0)
    assert row["used"] == 10
    limits.take(row, bucket, 60, ticket("b"), 0.0)
    limits.settle(row, bucket, 60, 150, 0.0)
    assert row["used"] == 160
    assert limits.take(row, bucket, 1, ticket("c"), 0.0) == pytest.approx(61.0)


def test_a_clock_that_was_set_back_gives_nothing_away():
    row = {}
    for number in range(20):
        limits.take(row, TWENTY, 1, ticket(str(number)), 1000.0)

    assert limits.take(row, TWENTY, 1, ticket("x", waits=False), 10.0) > 0
    assert limits.take(row, TWENTY, 1, ticket("x", waits=False), 13.1) == 0.0


def test_who_waits_for_a_slower_limit_does_not_keep_a_faster_one_from_draining():
    row, hourly = {}, Bucket(1, 1 / 3600)
    for number in range(20):
        limits.take(row, TWENTY, 1, ticket(str(number)), 0.0)
    for second in range(60):
        assert limits.take(row, hourly, 1, ticket("slow", "low"), float(second)) > 0
    free = [limits.take(row, TWENTY, 1, ticket(f"again{number}"), 60.0) for number in range(20)]

    assert free == [0.0] * 20


def test_what_a_larger_limit_let_in_counts_for_a_smaller_one_no_longer_than_its_time():
    row, hourly = {}, Bucket(1, 1 / 3600)
    for number in range(20):
        limits.take(row, TWENTY, 1, ticket(str(number)), 100.0)

    assert limits.take(row, hourly, 1, ticket("x", waits=False), 100.0) == pytest.approx(3600.0)
    assert limits.take(row, hourly, 1, ticket("x", waits=False), 3699.0) > 0
    assert limits.take(row, hourly, 1, ticket("x", waits=False), 3700.0) == 0.0
    assert limits.take(row, hourly, 1, ticket("y", waits=False), 3700.0) == pytest.approx(3600.0)


def test_higher_priority_is_served_first_and_equal_ones_in_the_order_they_came():
    bucket, row = Bucket(1, 1), {}
    limits.take(row, bucket, 1, ticket("first"), 0.0)
    waiting = {
        "low": ticket("low", "low", 0.1), "b": ticket("b", since=0.3), "a": ticket("a", since=0.2), "high": ticket("high", "high", 0.4),
    }  # fmt: skip
    served, now = [], 0.4
    for each in waiting.values():
        assert limits.take(row, bucket, 1, each, now) > 0
    while waiting:
        now += 0.25
        for name, each in list(waiting.items()):
            if limits.take(row, bucket, 1, each, now) == 0.0:
                served.append(name)
                del waiting[name]

    assert served == ["high", "a", "b", "low"]


def test_critical_does_not_queue_but_keeps_to_the_limit():
    row = {"held": {"x": [99.0, 1, 1, ""]}}
    assert limits.enter(row, 1, ticket("a", since=0.0), [9.0, 1, 1, ""], 1.0, everybody) > 0
    assert limits.enter(row, 1, ticket("c", "critical", 2.0), [9.0, 1, 1, ""], 2.0, everybody) > 0
    limits.free(row, "x")
    assert limits.enter(row, 1, ticket("c", "critical", 2.0), [9.0, 1, 1, ""], 2.1, everybody) == 0.0
    assert limits.enter(row, 1, ticket("a", since=0.0), [9.0, 1, 1, ""], 2.2, everybody) > 0


def test_a_waiter_that_does_not_come_back_is_dropped():
    row = {}
    lease = [99.0, 1, 1, ""]
    limits.enter(row, 1, ticket("held"), lease, 0.0, everybody)
    limits.enter(row, 1, ticket("dead", since=0.1), lease, 0.1, everybody)
    limits.free(row, "held")
    assert limits.enter(row, 1, ticket("late", since=0.2), lease, 0.2, everybody) > 0
    assert limits.enter(row, 1, ticket("late", since=0.2), lease, 0.2 + limits.GRACE, everybody) == 0.0


def test_who_does_not_wait_stands_in_no_queue_and_passes_nobody():
    row = {}
    lease = [99.0, 1, 1, ""]
    limits.enter(row, 1, ticket("held"), lease, 0.0, everybody)
    limits.enter(row, 1, ticket("patient", since=0.1), lease, 0.1, everybody)
    limits.enter(row, 1, ticket("hasty", since=0.2, waits=False), lease, 0.2, everybody)
    limits.free(row, "held")

    assert list(row["queue"]) == ["patient"]
    assert limits.enter(row, 1, ticket("hasty", since=0.2, waits=False), lease, 0.2, everybody) > 0


def test_places_of_dead_owners_and_ended_leases_are_free():
    row = {}
    for number in range(3):
        assert limits.enter(row, 3, ticket(str(number)), [10.0 + number, 7, 7, ""], 0.0, everybody) == 0.0
    assert limits.enter(row, 3, ticket("x", waits=False), [99.0, 7, 7, ""], 5.0, everybody) > 0
    assert limits.enter(row, 3, ticket("x", waits=False), [99.0, 7, 7, ""], 10.5, everybody) == 0.0
    assert sorted(row["held"]) == ["1", "2", "x"]
    assert limits.enter(row, 1, ticket("y", waits=False), [99.0, 7, 7, ""], 10.6, nobody) == 0.0
    assert list(row["held"]) == ["y"]


def test_eighty_per_cent_are_said_once_until_the_use_falls():
    bucket, row = Bucket(10, 1), {}
    said = []
    for number in range(10):
        limits.take(row, bucket, 1, ticket(str(number)), 0.0)
        said.append(limits.crossed(row, 0.0))
    assert said == [False] * 7 + [True] + [False] * 2
    limits.take(row, bucket, 1, ticket("later"), 9.0)
    assert limits.crossed(row, 9.0) is False
    for number in range(7):
        limits.take(row, bucket, 1, ticket(f"again{number}"), 9.0)
    assert limits.crossed(row, 9.0) is True


FUSE = Fuse(5, 30.0)
LEASE = [60.0, 1, 1, ""]


def fail(row, now, name="a", code="server"):
    return limits.report(row, FUSE, name, now, failed=code)


def test_a_breaker_opens_at_the_fifth_failure_half_opens_after_thirty_seconds_and_lets_one_trial_through():
    row = {}
    assert [fail(row, 1.0) for _ in range(5)] == [False] * 4 + [True]
    assert limits.admit(row, "a", LEASE, 1.0, everybody) == 30.0
    assert limits.state(row, 30.9) == "open"
    assert limits.state(row, 31.0) == "half-open"
    assert limits.admit(row, "trial", LEASE, 31.0, everybody) == 0.0
    assert limits.admit(row, "other", LEASE, 31.0, everybody) > 0.0
    assert limits.admit(row, "trial", LEASE, 31.0, everybody) == 0.0


def test_the_trial_decides_and_nobody_else():
    row = {}
    for _ in range(5):
        fail(row, 0.0)
    fail(row, 5.0, "straggler")
    limits.report(row, FUSE, "straggler", 6.0, failed="")
    assert row["open_until"] == 30.0
    limits.admit(row, "trial", LEASE, 30.0, everybody)
    assert fail(row, 31.0, "trial") is True
    assert row["open_until"] == 61.0
    limits.admit(row, "next", [120.0, 1, 1, ""], 61.0, everybody)
    limits.report(row, FUSE, "next", 62.0, failed="")
    assert (row, limits.state(row, 62.0)) == ({}, "closed")


def test_a_trial_whose_process_died_or_that_was_not_made_is_given_to_the_next():
    row = {}
    for _ in range(5):
        fail(row, 0.0)
    limits.admit(row, "dead", [90.0, 1, 1, ""], 30.0, everybody)
    assert limits.admit(row, "next", [91.0, 1, 1, ""], 31.0, nobody) == 0.0
    limits.withdraw(row, "next")
    assert limits.admit(row, "third", [92.0, 1, 1, ""], 32.0, everybody) == 0.0
    assert limits.admit(row, "fourth", [99.0, 1, 1, ""], 92.0, everybody) == 0.0


def test_a_success_between_failures_starts_the_count_again():
    row = {}
    for _ in range(4):
        fail(row, 0.0)
    limits.report(row, FUSE, "a", 1.0, failed="")
    assert [fail(row, 2.0) for _ in range(5)] == [False] * 4 + [True]


def test_rows_are_json_all_the_way():
    row = {}
    limits.take(row, TWENTY, 1, ticket(), 0.0)
    limits.enter(row, 1, ticket(), LEASE, 0.0, everybody)
    fail(row, 0.0)

    assert json.loads(json.dumps(row)) == row


# -- tiers ------------------------------------------------------------------------------------------------------------------------


def configured(tier="", tables=None, rate=None, **extra):
    return SimpleNamespace(rate=rate, extra={"tier": tier, **extra}, tables=tables or {})


def test_a_tier_is_a_row_and_a_flag_wins_over_it():
    found = tiers.finder(configured("mid", concurrency=9, breaker="2/10s"))("openai/m")

    assert found.rate == (20.0, 60.0)
    assert (found.concurrency, found.token_rate, found.cost_rate) == (9, (100_000.0, 60.0), (5.0, 3600.0))
    assert found.breaker == Fuse(2, 10.0)


def test_a_table_of_the_user_may_name_models():
    own = {
        "mine": {
            "rate": "60/min",
            "burst": 3,
            "openai/gpt-5*": {"rate": "1/s", "token-rate": "5/min"},
            "tool:*": {"breaker": "2/1"},
        }
    }
    of = tiers.finder(configured("mine", {"tiers": own}))

    assert (of("x/y").rate, of("x/y").burst, of("x/y").token_rate) == ((60.0, 60.0), 3, None)
    assert (of("openai/gpt-5-mini").rate, of("openai/gpt-5-mini").token_rate) == ((1.0, 1.0), (5.0, 60.0))
    assert of("tool:http_get").breaker == Fuse(2, 1.0)


def test_the_user_may_redefine_a_tier_of_ours():
    assert tiers.finder(configured("low", {"tiers": {"low": {"concurrency": 1}}}))("a/b").rate is None


@pytest.mark.parametrize(
    ("tier", "tables", "error", "words"),
    [
        ("med", {}, UsageError, "no tier 'med'"),
        ("t", {"tiers": {"t": {"rat": "1/s"}}}, ConfigError, "no limit 'rat'"),
        ("t", {"tiers": {"t": {"rate": "fast"}}}, ConfigError, "'fast' is not such as 20/min"),
        ("t", {"tiers": {"t": {"concurrency": 0}}}, ConfigError, "is not a whole number"),
        ("t", {"tiers": {"t": {"concurrency": True}}}, ConfigError, "is not a whole number"),
        ("t", {"tiers": {"t": 5}}, ConfigError, "must be a table"),
        ("t", {"tiers": 5}, ConfigError, "a table for each tier"),
        ("t", {"tiers": {"t": {"m*": {"breaker": "x"}}}}, ConfigError, "[tiers.t.m*] breaker"),
    ],
)  # fmt: skip
def test_a_tier_that_makes_no_sense_is_an_error(tier, tables, error, words):
    with pytest.raises(error) as caught:
        tiers.finder(configured(tier, tables))("a/b")

    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["0/30", "5/0", "five/30", "5/thirty", "-1/3", "/", "5/nan"])
def test_a_breaker_flag_that_makes_no_sense_is_a_usage_error(text):
    with pytest.raises(UsageError, match="is not N/SECONDS"):
        tiers.finder(configured(breaker=text))


@pytest.mark.parametrize(("text", "value"), [("100/75", (100, 75)), ("100", (100, 75)), ("1", (1, 1)), ("8/8", (8, 8))])
def test_back_pressure_is_two_numbers(text, value):
    assert tiers.pressure(text) == value


@pytest.mark.parametrize("text", ["", "0", "5/6", "5/0", "x", "5/"])
def test_back_pressure_that_makes_no_sense_is_a_value_error(text):
    with pytest.raises(ValueError):  # noqa: PT011
        tiers.pressure(text)
