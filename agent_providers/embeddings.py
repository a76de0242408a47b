"""embeddings - vectors of texts, on the wires of OpenAI (and whoever copies it), Ollama and Gemini.

    provider = embedder(resolve("openai:text-embedding-3-small", settings, env))
    reply = yield Ask(tuple(user(text) for text in texts))      each message is one text
    vectors(reply)                                              [array("f"), …], of length one, in the order of the texts

An embedder is a provider like any other: one `Ask`, one request, one `Reply` (the vectors are its opaque part). So deadlines,
retries, limits, budgets, the bill, the cache and the journal are those of every model call. Address and headers are the chat's.

Facts: platform.openai.com/docs/api-reference/embeddings, ollama's docs/api.md (POST /api/embed), ai.google.dev/api/embeddings
(batchEmbedContents). Prices: the vendors' lists, USD per million tokens.
"""

from __future__ import annotations

import base64
import math
from array import array
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent_core.effects import Ask
from agent_core.errors import BadReply, UsageError
from agent_core.messages import Message, Opaque, Text, user
from agent_core.provider import Price, Reply, Request, Usage
from agent_providers import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent_core.ops import Response
    from agent_core.provider import Codec, Decoder, Provider

WIRE = "embedding"
BATCH = 64  # texts of one request; Gemini takes 100
LONGEST = 6000  # characters of one text: models take 2,000 to 8,000 tokens
MOST_NUMBERS = 16_384
PRICES = {
    ("openai", "text-embedding-3-small"): "0.02", ("openai", "text-embedding-3-large"): "0.13",
    ("openai", "text-embedding-ada-002"): "0.1", ("gemini", "gemini-embedding-001"): "0.15", ("mistral", "mistral-embed"): "0.1",
}  # fmt: skip
_BASIS = "list-2025-11"


@dataclass(frozen=True, slots=True)
class _Form:
    """How a wire words it: the ending of the chat address and what stands there for vectors, the body, the numbers, the tokens."""

    chat: str
    ending: str
    body: Callable[[str, Sequence[str]], dict[str, Any]]
    rows: Callable[[Mapping[str, Any]], list[Any]]
    tokens: str


def _of_openai(data: Mapping[str, Any]) -> list[Any]:
    rows = sorted(wire.objects(data, "data"), key=lambda row: wire.get(row, "index", int, 0))
    return [wire.get(row, "embedding", list) for row in rows]


def _gemini_body(model: str, texts: Sequence[str]) -> dict[str, Any]:
    name = model if "/" in model else f"models/{model}"
    return {"requests": [{"model": name, "content": {"parts": [{"text": text}]}} for text in texts]}


def _openai(chat: str) -> _Form:
    return _Form(
        chat, "/embeddings", lambda model, texts: {"model": model, "input": list(texts)}, _of_openai, "usage.prompt_tokens"
    )


FORMS = {
    "openai_chat": _openai("/chat/completions"), "openai_responses": _openai("/responses"),
    "ollama": _Form(
        "/api/chat", "/api/embed", lambda model, texts: {"model": model, "input": list(texts)},
        lambda data: wire.get(data, "embeddings", list), "prompt_eval_count",
    ),
    "gemini": _Form(
        ":generateContent", ":batchEmbedContents", _gemini_body,
        lambda data: [wire.get(row, "values", list) for row in wire.objects(data, "embeddings")], "usageMetadata.promptTokenCount",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Embedding:
    """The codec of an embedder: the chat codec of its service says where it is and who asks."""

    chat: Codec
    form: _Form
    wire: str = WIRE

    def encode(self, ask: Ask, provider: Provider, *, stream: bool = False) -> Request:  # noqa: ARG002 - the shape of a codec
        """Return the request for one vector a message."""
        like = self.chat.encode(Ask((user("-"),)), provider)
        before, found, after = like.url.partition(self.form.chat)
        texts = [message.text[:LONGEST] or " " for message in ask.messages]
        url = before + (self.form.ending + after if found else "")
        return Request("POST", url, like.headers, wire.dumps(self.form.body(provider.model, texts)))

    def decode(self, response: Response, provider: Provider) -> Reply:
        """Return the reply, or raise the error kind. How many vectors there must be is checked by who asked (`vectors`)."""
        if response.status // 100 != 2:
            wire.fail(response, provider)
        data = wire.parse(response.body)
        if data.get("error"):
            raise BadReply(f"{provider.name} answered with an error instead of vectors")
        found = [_unit(row) for row in self.form.rows(data)]
        said = f"{len(found)} vectors of {len(found[0]) if found else 0} numbers"
        packed = [base64.b64encode(vector.tobytes()).decode() for vector in found]
        message = Message("assistant", (Opaque(WIRE, {"vectors": packed}), Text(said)))
        used = Usage(wire.tokens(data, self.form.tokens), 0)
        return Reply(message, usage=used, model=wire.get(data, "model", str, provider.model))

    def decoder(self, provider: Provider) -> Decoder:
        """There is no stream of vectors."""
        raise BadReply(f"{provider.name} has no stream of vectors")


def check(vendor: str) -> None:
    """UsageError if that vendor makes no vectors that we know of."""
    from agent_providers.vendors import VENDORS

    if VENDORS[vendor].wire not in FORMS:
        raise _none(vendor)


def _none(name: str) -> UsageError:
    return UsageError(f"{name} makes no embeddings", hint="--embed openai/text-embedding-3-small, ollama/MODEL, gemini/MODEL")


def embedder(provider: Provider) -> Provider:
    """Return a provider of vectors in place of one of answers. UsageError if its service makes none that we know."""
    codec = provider.codec
    form = FORMS.get(codec.wire) if codec is not None else None
    if codec is None or form is None:
        raise _none(provider.name)
    listed = PRICES.get((provider.name, provider.model))
    price = Price(listed, "0", basis=_BASIS) if listed and provider.price.basis != "local" else provider.price
    capabilities = replace(provider.capabilities, streaming=False, tools=True)
    made: Any = Embedding(codec, form)
    return replace(provider, codec=made, price=price, capabilities=capabilities)


def vectors(reply: Reply, count: int) -> list[array[float]]:
    """Return the vectors of a reply. BadReply if they are not as many as texts, or not of one length."""
    found: Any = next((part.data for part in reply.message.parts if isinstance(part, Opaque) and part.wire == WIRE), {})
    rows = [array("f", base64.b64decode(text)) for text in found.get("vectors", ())]
    if len(rows) != count:
        raise BadReply(f"{count} vectors were asked for, and {len(rows)} came")
    if len({len(row) for row in rows}) > 1:
        raise BadReply("the vectors that came are not of one length")
    return rows


def _unit(row: Any) -> array[float]:
    """Return a vector of length one. BadReply for what is none."""
    if not isinstance(row, list) or not 1 <= len(row) <= MOST_NUMBERS or not all(type(each) in {float, int} for each in row):
        raise BadReply("a vector in the reply is no list of numbers")
    try:
        size = math.hypot(*row)
    except OverflowError:
        size = math.inf
    if not 0.0 < size < math.inf:
        raise BadReply("a vector in the reply has no direction")
    return array("f", (each / size for each in row))
