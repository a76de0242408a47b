"""money - USD as whole pico-dollars (1e-12), so that sums are exact and no float ever touches a bill."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_core.effects import Ask
    from agent_core.provider import Price, Provider, Usage

PICO = 10**12
DEFAULT_REPLY_TOKENS = 4096


def pico(text: str) -> int:
    """Return a decimal string of USD as pico-dollars; ValueError if it is no plain decimal."""
    whole, _, part = text.strip().partition(".")
    if not (whole or part) or not (whole + part).isascii() or not (whole + part).isdigit() or len(part) > 12:
        raise ValueError(f"not an amount of money: {text!r}")
    return int(whole or "0") * PICO + int(part.ljust(12, "0") or "0")


def text(amount: int) -> str:
    """Return pico-dollars as a decimal string of USD without trailing zeros."""
    sign, amount = ("-", -amount) if amount < 0 else ("", amount)
    whole, part = divmod(amount, PICO)
    decimals = f"{part:012d}".rstrip("0")
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def per_token(price: str | None) -> int | None:
    """Return pico-dollars for one token at a price in USD per million tokens."""
    return None if price is None else pico(price) // 10**6


def cost(usage: Usage, price: Price) -> int | None:
    """Return what the usage costs at the price, or None where a needed part is unknown."""
    into, out = per_token(price.input), per_token(price.output)
    if into is None or out is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    cached = per_token(price.cached_input)
    written = per_token(price.cache_write)
    plain = max(0, usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens)
    return (
        plain * into
        + usage.cached_input_tokens * (into if cached is None else cached)
        + usage.cache_write_tokens * (into if written is None else written)
        + usage.output_tokens * out
    )


def reserve(ask: Ask, provider: Provider) -> int | None:
    """Return the most that one call may reasonably cost, or None when no price is known."""
    from agent_core import messages

    into, out = per_token(provider.price.input), per_token(provider.price.output)
    if into is None or out is None:
        return None
    size = sum(len(messages.to_json(message).__repr__()) for message in ask.messages)
    size += sum(len(tool.description) + len(repr(tool.parameters)) for tool in ask.tools.tools) if ask.tools else 0
    reply = ask.max_tokens or min(provider.capabilities.max_output or DEFAULT_REPLY_TOKENS, DEFAULT_REPLY_TOKENS)
    return (-(-size // 3)) * into + reply * out
