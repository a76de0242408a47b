"""embeddings - vectors as OpenAI (POST …/embeddings), Ollama (/api/embed) and Gemini (:batchEmbedContents) send them.

Every word, cut to its first letters, is a direction of its own (a hash); words of one row of CONCEPTS share theirs. A part that all
texts have in common is added, as real models have it: nothing is at a right angle to anything. A model whose name ends with "-Nd"
makes vectors of N numbers.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fake_api import gemini, openai, others
from fake_api.wire import missing, objects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fake_api.talk import Asked, Turn

NUMBERS = 48
COMMON = 0.6
CONCEPTS = (
    {"memory", "ownership", "borrow", "pointer", "safety", "race"}, {"car", "vehicle", "automobile", "engine"},
    {"tea", "kettle", "coffee", "drink"}, {"money", "rent", "price", "pay"},
)  # fmt: skip
_DULL = {"a", "an", "and", "in", "is", "of", "on", "the", "to", "for", "s"}


def vector(text: str, numbers: int = NUMBERS) -> list[float]:
    """Return the vector of a text; the same one every time."""
    made = [COMMON if place == 0 else 0.0 for place in range(numbers)]
    words = [word for word in re.findall(r"\w+", text.lower()) if word not in _DULL]
    for word in words:
        place = _place(word, numbers)
        made[place] += 1.0 / max(1, len(words)) ** 0.5
    return [round(each, 6) for each in made]


def _place(word: str, numbers: int) -> int:
    stem = word.removesuffix("s")
    concept = next((number for number, row in enumerate(CONCEPTS) if stem in row), None)
    if concept is not None:
        return 1 + concept
    rest = numbers - len(CONCEPTS) - 1
    return 1 + len(CONCEPTS) + int.from_bytes(hashlib.sha256(stem[:6].encode()).digest()[:4], "big") % rest


def _numbers(asked: Asked) -> int:
    found = re.search(r"-(\d+)d$", asked.model)
    return max(8, int(found[1])) if found else NUMBERS


def _inputs(body: dict[str, Any]) -> list[str]:
    given = body.get("input", [])
    return [str(each) for each in ([given] if isinstance(given, str) else given)]


def _gemini_inputs(body: dict[str, Any]) -> list[str]:
    return [
        "".join(str(part.get("text", "")) for part in objects(row.get("content") or {}, "parts"))
        for row in objects(body, "requests")
    ]


def _read(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield from (("user", text) for text in (_inputs(body) or _gemini_inputs(body)))


def _tokens(texts: list[str]) -> int:
    return sum(-(-len(text) // 4) for text in texts)


def _openai(asked: Asked, _turn: Turn) -> dict[str, Any]:
    texts = _inputs(asked.body)
    rows = [{"object": "embedding", "index": at, "embedding": vector(text, _numbers(asked))} for at, text in enumerate(texts)]
    used = _tokens(texts)
    return {"object": "list", "data": rows[::-1], "model": asked.model, "usage": {"prompt_tokens": used, "total_tokens": used}}


def _ollama(asked: Asked, _turn: Turn) -> dict[str, Any]:
    texts = _inputs(asked.body)
    made = [vector(text, _numbers(asked)) for text in texts]
    return {
        "model": asked.model,
        "embeddings": made,
        "total_duration": 9_000_000,
        "load_duration": 1,
        "prompt_eval_count": _tokens(texts),
    }


def _gemini(asked: Asked, _turn: Turn) -> dict[str, Any]:
    return {"embeddings": [{"values": vector(text, _numbers(asked))} for text in _gemini_inputs(asked.body)]}


def _problem(asked: Asked) -> str:
    if lacking := missing(asked.body, "model", "input"):
        return lacking
    texts = _inputs(asked.body)
    return "'$.input' is invalid" if not texts or len(texts) > 2048 or not all(texts) else ""


def _gemini_problem(asked: Asked) -> str:
    rows = objects(asked.body, "requests")
    if not 1 <= len(rows) <= 100:
        return "at most 100 requests can be in one batch"
    same = all(row.get("model") == f"models/{asked.model}" for row in rows)
    return "" if same else "the model of every request must be the one of the batch"


_MORE: dict[str, Any] = {"read": _read, "tools": lambda _body: iter(()), "embeds": True}
OPENAI = replace(openai.CHAT, name="openai-embeddings", whole=_openai, problem=_problem, **_MORE)
OLLAMA = replace(others.OLLAMA, name="ollama-embed", whole=_ollama, problem=_problem, **_MORE)
GEMINI = replace(gemini.GENERATE, name="gemini-embed", whole=_gemini, problem=_gemini_problem, **_MORE)
