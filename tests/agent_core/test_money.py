"""Money is exact."""

import pytest

from agent_core import money
from agent_core.provider import Price, Usage


@pytest.mark.parametrize(
    ("text", "shown"), [("0.15", "0.15"), ("1", "1"), ("0.000000000001", "0.000000000001"), (".5", "0.5"), ("0", "0")]
)
def test_an_amount_comes_back_as_it_was_written(text, shown):
    assert money.text(money.pico(text)) == shown


@pytest.mark.parametrize("text", ["", "-1", "1e3", "NaN", "0.0000000000001", "\u0661"])
def test_what_is_no_plain_amount_is_refused(text):
    with pytest.raises(ValueError, match="amount of money"):
        money.pico(text)


def test_a_call_costs_its_tokens_at_the_prices_cached_ones_at_theirs():
    price = Price("0.15", "0.6", "0.075")

    assert money.text(money.cost(Usage(1000, 100, 400), price)) == "0.00018"  # 600 x 0.15 + 400 x 0.075 + 100 x 0.6 per million


@pytest.mark.parametrize("price", [Price(), Price("0.15"), Price(None, "0.6")])
def test_an_unknown_price_gives_an_unknown_cost(price):
    assert money.cost(Usage(10, 10), price) is None


def test_unknown_tokens_give_an_unknown_cost():
    assert money.cost(Usage(None, 10), Price("1", "1")) is None
