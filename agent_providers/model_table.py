"""model_table - what we know about models: windows, abilities and dated list prices in USD per million tokens.

A price holds on the day in its basis and for the vendor's own service; what is not known is None and stays None. Unknown models
are no error: vendors publish new ones faster than this table changes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent_core.provider import Capabilities, Price

_PRICES = ("input", "output", "cached_input", "cache_write")


@dataclass(frozen=True, slots=True)
class Row:
    """One model of one vendor. Prices: input, output, cached input, cache write."""

    vendor: str
    model: str
    window: int | None = None
    max_output: int | None = None
    prices: tuple[str | None, ...] = ()
    basis: str = ""
    vision: bool = False
    structured: bool = True
    tools: bool = True

    @property
    def capabilities(self) -> Capabilities:
        """What the model can do."""
        return Capabilities(self.tools, True, self.vision, self.structured, self.window, self.max_output)

    @property
    def price(self) -> Price:
        """What it costs."""
        return Price(**dict(zip(_PRICES, self.prices, strict=False)), basis=self.basis) if self.prices else Price()


_2025 = "list-2025-11"
_2026 = "list-2026-03"

_OPENAI = (
    Row("openai", "gpt-5.1", 400_000, 128_000, ("1.25", "10", "0.125"), _2025, vision=True),
    Row("openai", "gpt-5", 400_000, 128_000, ("1.25", "10", "0.125"), _2025, vision=True),
    Row("openai", "gpt-5-mini", 400_000, 128_000, ("0.25", "2", "0.025"), _2025, vision=True),
    Row("openai", "gpt-5-nano", 400_000, 128_000, ("0.05", "0.4", "0.005"), _2025, vision=True),
    Row("openai", "gpt-4.1", 1_047_576, 32_768, ("2", "8", "0.5"), _2025, vision=True),
    Row("openai", "gpt-4.1-mini", 1_047_576, 32_768, ("0.4", "1.6", "0.1"), _2025, vision=True),
    Row("openai", "gpt-4.1-nano", 1_047_576, 32_768, ("0.1", "0.4", "0.025"), _2025, vision=True),
    Row("openai", "gpt-4o", 128_000, 16_384, ("2.5", "10", "1.25"), _2025, vision=True),
    Row("openai", "gpt-4o-mini", 128_000, 16_384, ("0.15", "0.6", "0.075"), _2025, vision=True),
    Row("openai", "o3", 200_000, 100_000, ("2", "8", "0.5"), _2025, vision=True),
    Row("openai", "o4-mini", 200_000, 100_000, ("1.1", "4.4", "0.275"), _2025, vision=True),
    Row("openai", "o3-mini", 200_000, 100_000, ("1.1", "4.4", "0.55"), _2025),
    Row("openai", "gpt-4-turbo", 128_000, 4_096, ("10", "30"), _2025, vision=True, structured=False),
    Row("openai", "gpt-4", 8_192, 8_192, ("30", "60"), _2025, structured=False),
    Row("openai", "gpt-3.5-turbo", 16_385, 4_096, ("0.5", "1.5"), _2025, structured=False),
)
_ANTHROPIC = (
    Row("anthropic", "claude-opus-4-6", 200_000, 128_000, ("5", "25", "0.5", "6.25"), _2026, vision=True),
    Row("anthropic", "claude-sonnet-4-6", 200_000, 64_000, ("3", "15", "0.3", "3.75"), _2026, vision=True),
    Row("anthropic", "claude-opus-4-5", 200_000, 64_000, ("5", "25", "0.5", "6.25"), _2025, vision=True),
    Row("anthropic", "claude-sonnet-4-5", 200_000, 64_000, ("3", "15", "0.3", "3.75"), _2025, vision=True),
    Row("anthropic", "claude-haiku-4-5", 200_000, 64_000, ("1", "5", "0.1", "1.25"), _2025, vision=True),
    Row("anthropic", "claude-opus-4-1", 200_000, 32_000, ("15", "75", "1.5", "18.75"), _2025, vision=True),
    Row("anthropic", "claude-sonnet-4-0", 200_000, 64_000, ("3", "15", "0.3", "3.75"), _2025, vision=True),
    Row("anthropic", "claude-sonnet-4", 200_000, 64_000, ("3", "15", "0.3", "3.75"), _2025, vision=True),
    Row("anthropic", "claude-3-5-haiku", 200_000, 8_192, ("0.8", "4", "0.08", "1"), _2025, vision=True),
    Row("anthropic", "claude-3-haiku", 200_000, 4_096, ("0.25", "1.25", "0.03", "0.3"), _2025, vision=True),
)
_OTHERS = (
    Row("gemini", "gemini-2.5-pro", 1_048_576, 65_536, ("1.25", "10", "0.125"), _2025, vision=True),
    Row("gemini", "gemini-2.5-flash", 1_048_576, 65_536, ("0.3", "2.5", "0.03"), _2025, vision=True),
    Row("gemini", "gemini-2.5-flash-lite", 1_048_576, 65_536, ("0.1", "0.4", "0.01"), _2025, vision=True),
    Row("gemini", "gemini-2.0-flash", 1_048_576, 8_192, ("0.1", "0.4", "0.025"), _2025, vision=True),
    Row("groq", "llama-3.3-70b-versatile", 131_072, 32_768, ("0.59", "0.79"), _2025, structured=False),
    Row("groq", "llama-3.1-8b-instant", 131_072, 131_072, ("0.05", "0.08"), _2025, structured=False),
    Row("groq", "openai/gpt-oss-120b", 131_072, 65_536, ("0.15", "0.6", "0.075"), _2025),
    Row("groq", "openai/gpt-oss-20b", 131_072, 65_536, ("0.075", "0.3", "0.0375"), _2025),
    Row("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo", 131_072, None, ("0.88", "0.88"), _2025),
    Row("mistral", "mistral-small-latest", 128_000, None, (), vision=True),
    Row("mistral", "mistral-medium-latest", 128_000, None, (), vision=True),
    Row("mistral", "mistral-large-latest", 128_000, None, ()),
    Row("deepseek", "deepseek-chat", 128_000, 8_192, ("0.28", "0.42", "0.028"), _2025, structured=False),
    Row("deepseek", "deepseek-reasoner", 128_000, 65_536, ("0.28", "0.42", "0.028"), _2025, structured=False),
    Row("xai", "grok-4", 256_000, None, ("3", "15", "0.75"), _2025, vision=True),
    Row("xai", "grok-3-mini", 131_072, None, ("0.3", "0.5", "0.075"), _2025),
    Row("cohere", "command-a-03-2025", 256_000, 8_000, ("2.5", "10"), _2025),
    Row("cohere", "command-r7b-12-2024", 128_000, 4_000, ("0.0375", "0.15"), _2025),
    Row(
        "bedrock", "anthropic.claude-3-haiku-20240307-v1:0", 200_000, 4_096, ("0.25", "1.25"), _2025, vision=True, structured=False
    ),
    Row("bedrock", "anthropic.claude-3-5-haiku-20241022-v1:0", 200_000, 8_192, ("0.8", "4"), _2025, structured=False),
    Row("bedrock", "amazon.nova-lite-v1:0", 300_000, 5_000, ("0.06", "0.24"), _2025, vision=True, structured=False),
    Row("bedrock", "amazon.nova-micro-v1:0", 128_000, 5_000, ("0.035", "0.14"), _2025, structured=False),
    Row("bedrock", "amazon.nova-pro-v1:0", 300_000, 5_000, ("0.8", "3.2"), _2025, vision=True, structured=False),
)

ROWS: tuple[Row, ...] = (*_OPENAI, *_ANTHROPIC, *_OTHERS)
_SAME = {"openai-responses": "openai"}


def find(vendor: str, model: str) -> Row | None:
    """Return the row of a model; a dated or "latest" name means its family where only that is listed."""
    vendor = _SAME.get(vendor, vendor)
    rows = {row.model: row for row in ROWS if row.vendor == vendor}
    return rows.get(model) or rows.get(re.sub(r"-(\d{4}-\d\d-\d\d|\d{8}|latest)$", "", model))


# --- what to assume of a model that is not listed: the vendor refuses what it cannot do
_NEW = Capabilities(vision=True)
_NEW_PLAIN = Capabilities(vision=True, structured=False)
_PLAIN = frozenset({"deepseek", "bedrock"})


def capabilities(vendor: str, model: str) -> Capabilities:
    """Return what a model can do; of an unknown one that it can do what its vendor's models usually can."""
    row = find(vendor, model)
    return row.capabilities if row else _NEW_PLAIN if vendor in _PLAIN else _NEW


def price(vendor: str, model: str) -> Price:
    """Return what a model costs, every field None if unknown."""
    row = find(vendor, model)
    return row.price if row else Price()
