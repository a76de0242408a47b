"""meaning - likeness by the vectors of a model (`--embed PROVIDER/MODEL`); without it nothing here is imported or sent.

    found = near(memory, items, "memory safety", settings)
    found.likeness                {item id: from 0 to 1} of the items that have a vector of this very model
    found.notices                 what a person should know: the service did not answer, items without a vector

A vector is kept with its item: the model's name, a hash of the text it was made of, half-precision numbers. One of another model or
another text does not count; it is made anew. One request brings the question's vector and those of up to 63 items that lack
one; `agent-mem index` makes all of them. It is a run of its own, `embedder`, so limits, budget, bill and journal are as for
every model call.

likeness = max(0, (cosine - b) / (1 - b)), where b is the highest cosine among six sentences that have nothing in common: for some
models any two texts have a cosine of 0.7. b is measured once for each model, and kept.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import sys
from dataclasses import dataclass, field, replace
from operator import mul
from typing import TYPE_CHECKING, Any

from agent_core.errors import AgentError, UsageError
from agent_plugins.memory.keep import MARKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import ModuleType

    from agent_core.config import Settings
    from agent_core.provider import Provider
    from agent_core.task import Task
    from agent_plugins.memory.items import Item
    from agent_plugins.memory.keep import Memory

    Vector = Sequence[float]

BATCH = 64
PATIENCE = 20.0  # seconds: then words have to do
LONGEST = 2000
STRANGERS = (
    "The kettle boils in the kitchen.", "Parliament adopted the budget for next year.", "Penguins breed on the ice in winter.",
    "The compiler reports a missing bracket.", "Her violin needs a new string.", "Turn left at the second roundabout.",
)  # fmt: skip
_QUIET: dict[str, Any] = {"memory": False, "context": (), "instructions": False, "mcp_server": (), "mcp_config": ()}


@dataclass(frozen=True, slots=True)
class Near:
    """How near items are to a question by a model's vectors; `model` is "" where there are none. `cost` in pico-dollars."""

    model: str = ""
    likeness: Mapping[str, float] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    cost: int = 0


@dataclass(slots=True)
class Embedder:
    """What makes vectors, by runs of its own of at most `patience` seconds. `cost`: pico-dollars so far."""

    provider: Provider
    settings: Settings
    patience: float | None = None
    cost: int = 0

    @property
    def name(self) -> str:
        """What the vectors are of: vendor and model. Vectors of two names are never compared."""
        return f"{self.provider.name}/{self.provider.model}"

    def vectors(self, texts: Sequence[str]) -> list[Vector]:
        """Return one vector of length one for each text. Raises what the run ended with."""
        from importlib import import_module

        from agent_core import money
        from agent_core.agent import Agent, Job, execute
        from agent_core.effects import Ask
        from agent_core.messages import user

        made: list[Vector] = []
        unpacked = import_module("agent_providers.embeddings").vectors

        def embed(_task: Task) -> Any:
            for start in range(0, len(texts), BATCH):
                some = texts[start : start + BATCH]
                reply = yield Ask(tuple(user(text) for text in some))
                made.extend(unpacked(reply, len(some)))
            return f"{len(made)} vectors"

        agent = Agent("embedder - make vectors of texts.", stdin="none", pattern=embed)
        timeout = min((each for each in (self.settings.timeout, self.patience) if each is not None), default=None)
        settings = replace(
            self.settings, extra={**self.settings.extra, **_QUIET}, session="", stream=False, output_schema="", timeout=timeout
        )
        result = execute(agent, Job(user(f"{len(texts)} texts for {self.name}")), settings, providers=(self.provider,))
        spent = result.usage.get("cost_usd")
        self.cost += money.pico(spent) if spent else 0
        if result.error is not None:
            raise result.error
        return made


def wanted(settings: Settings, memory: Memory, patience: float | None = None) -> Embedder | None:
    """Return what makes vectors, None where nobody asked for it. UsageError for a service that makes none, ConfigError."""
    name = settings.extra.get("embed")
    if not name or not memory.rules.use_embeddings:
        return None
    from agent_core import choose

    return Embedder(choose.embedder(name, settings), settings, patience)


def near(memory: Memory, items: Sequence[Item], question: str, settings: Settings) -> Near:
    """Return how near items are to a question; nothing, and why, where the service does not answer. UsageError for a bad name."""
    if not items or not question.strip() or not settings.extra.get("embed"):
        return Near()
    try:
        embedder = wanted(settings, memory, PATIENCE)
    except UsageError:
        raise
    except AgentError as error:
        return Near(notices=(_by_words(error),))
    return Near() if embedder is None else _near(embedder, memory, items, question)


def _near(embedder: Embedder, memory: Memory, items: Sequence[Item], question: str) -> Near:
    base = baseline(memory, embedder.name)
    strangers = STRANGERS if base is None else ()
    without = missing(items, embedder.name)
    some = without[: BATCH - 1 - len(strangers)]
    try:
        asked, *rest = embedder.vectors([question[:LONGEST], *strangers, *(item.whole for item in some)])
    except AgentError as error:
        return Near(notices=(_by_words(error),), cost=embedder.cost)
    if base is None:
        base = _measured(memory, embedder.name, rest[: len(strangers)])
    known = keep(memory, some, rest[len(strangers) :], embedder.name)
    have = {item.id: vector for item in items if (vector := known.get(item.id) or of(item, embedder.name)) is not None}
    have = {id_: vector for id_, vector in have.items() if len(vector) == len(asked)}
    likeness = dict(zip(have, (calibrated(each, base) for each in cosines(asked, list(have.values()))), strict=True))
    left = len(items) - len(have)
    notices = (f"{left} of {len(items)} items have no vector of {embedder.name} yet: agent-mem index",) if left else ()
    return Near(embedder.name, likeness, notices, embedder.cost)


def _by_words(error: AgentError) -> str:
    return f"memory is recalled by words alone: {error.line()}"


# --- vectors of items --------------------------------------------------------------------------------------------------------


def index(memory: Memory, items: Sequence[Item], embedder: Embedder) -> Iterator[int]:
    """Make the vectors that items lack, batch by batch; yield how many are done. Raises what a batch ended with."""
    if baseline(memory, embedder.name) is None:
        _measured(memory, embedder.name, embedder.vectors(STRANGERS))
    left = missing(items, embedder.name)
    for start in range(0, len(left), BATCH):
        some = left[start : start + BATCH]
        keep(memory, some, embedder.vectors([item.whole for item in some]), embedder.name)
        yield start + len(some)


def missing(items: Sequence[Item], model: str) -> list[Item]:
    """Return the items without a vector of this model and their text, the last used first."""
    return sorted((item for item in items if of(item, model) is None), key=lambda item: (-item.used, item.id))


def keep(memory: Memory, items: Sequence[Item], vectors: Sequence[Vector], model: str) -> dict[str, Vector]:
    """Keep vectors with their items, and return them by the items' ids; an item whose text changed meanwhile stays as it is."""
    made = {item.id: (_hash(item), vector) for item, vector in zip(items, vectors, strict=True)}

    def change(item: Item) -> Item:
        of_text, vector = made[item.id]
        return replace(item, embedding=packed(model, of_text, vector)) if _hash(item) == of_text else item

    memory.update(items, change)
    return {id_: vector for id_, (_, vector) in made.items()}


def packed(model: str, of_text: str, vector: Vector) -> dict[str, str]:
    """Return a vector as an item keeps it."""
    numbers = base64.b64encode(struct.pack(f"<{len(vector)}e", *vector)).decode()
    return {"model": model, "of": of_text, "vector": numbers}


def fits(item: Item, model: str) -> bool:
    """Return whether an item has a vector of this model and of its text."""
    kept = item.embedding
    return kept.get("model") == model and kept.get("of") == _hash(item) and isinstance(kept.get("vector"), str)


def of(item: Item, model: str) -> Vector | None:
    """Return an item's vector of this model; None if it has none, or one that nobody could have made."""
    if not fits(item, model):
        return None
    try:
        data = base64.b64decode(item.embedding["vector"], validate=True)
        found: Vector = struct.unpack(f"<{len(data) // 2}e", data)
    except (ValueError, struct.error):
        return None
    size = sum(map(mul, found, found))
    return found if 0.98 < size < 1.02 else None  # of length one, and so without NaN


def _hash(item: Item) -> str:
    return hashlib.blake2b(item.whole.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


# --- likeness ----------------------------------------------------------------------------------------------------------------


def cosines(asked: Vector, vectors: Sequence[Vector]) -> list[float]:
    """Return the dot product of vectors of length one with the first. NumPy does it where the program has loaded it anyway."""
    numpy: ModuleType | None = sys.modules.get("numpy")
    if numpy is not None and vectors:
        found: list[float] = (numpy.asarray(vectors, dtype="float64") @ numpy.asarray(asked, dtype="float64")).tolist()
        return found
    return [sum(map(mul, asked, vector)) for vector in vectors]


def calibrated(cosine: float, base: float) -> float:
    """Return max(0, (cosine - base) / (1 - base)), at most 1."""
    return min(1.0, max(0.0, (cosine - base) / (1.0 - base)))


def baseline(memory: Memory, model: str) -> float | None:
    """Return the cosine that texts without anything in common have at most with this model; None before it was measured."""
    text = memory.store.item_get(MARKS, f"embed {model}")
    try:
        found = float(text) if text is not None else None
    except ValueError:
        return None
    return found if found is not None and 0.0 <= found < 1.0 else None


def _measured(memory: Memory, model: str, strangers: Sequence[Vector]) -> float:
    """Measure that cosine, and keep it."""
    pairs: list[float] = [sum(map(mul, one, other)) for place, one in enumerate(strangers) for other in strangers[:place]]
    base = min(0.99, max([0.0, *pairs]))
    memory.set_mark(f"embed {model}", base)
    return base
