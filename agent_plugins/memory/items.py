"""items - one item of memory, the kinds there are, and the rules of each.

    Item(id="…", kind="long", text="Ownership prevents data races", importance=0.9, tags=("rust",))

    buffer     turns of a conversation, word for word           episodic   what runs came to
    working    pairs for the task at hand, the last 64 used     semantic   facts
    long       what fades with time                             entity     facts about somebody or something (`key`)
    kv         a value under a key                              summary, episode   what upkeep made of others

Rules come from the [memory] tables of the configuration: [memory] for all kinds, [memory.KIND] for one, and
[memory.consolidation], [memory.compression], [memory.importance] for upkeep.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from agent_core.errors import ConfigError, InputError
from agent_core.options import nearest, unknown
from agent_plugins.memory import score

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TRUSTED, UNTRUSTED = "trusted", "untrusted"
KINDS = ("buffer", "working", "episodic", "semantic", "entity", "long", "kv", "summary", "episode")
ALIASES = {"long-term": "long", "key-value": "kv", "short-term": "working", "short": "working"}
KEYED = frozenset({"kv", "working"})
OF_A_SESSION = frozenset({"buffer", "working", "episode"})  # their namespace is a session's name, others' an agent's
RECALLED = ("long", "semantic", "entity", "kv", "episodic", "summary")
LAWS = ("forgetting", "half-life", "none")
LONGEST = 256 * 1024  # bytes of one item's text
_MOST_TAGS = 64
_NEVER = 1e11  # seconds: the year 5138
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that is remembered. Times are epoch seconds, 0 for never; `namespace` is whose it is ("" everybody's).

    `ended`: when it stopped to count, for `reason` (merge, decay, …) and in favour of `superseded_by`; it stays until the grace
    time is over. `trust` is untrusted where somebody else may have written part of it; `private` where not everybody may see it.
    `embedding`: its vector (see meaning.py), if there ever was a reason to make one.
    """

    id: str
    kind: str
    text: str
    importance: float = 0.5
    tags: tuple[str, ...] = ()
    key: str = ""
    namespace: str = ""
    role: str = ""
    created: float = 0.0
    accessed: float = 0.0
    accesses: int = 0
    tokens: int = 0
    run: str = ""
    trust: str = TRUSTED
    private: bool = False
    supersedes: tuple[str, ...] = ()
    superseded_by: str = ""
    ended: float = 0.0
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    embedding: Mapping[str, Any] = field(default_factory=dict)

    @property
    def used(self) -> float:
        """When it was last of use: recalled, or else made."""
        return max(self.accessed, self.created)

    @property
    def whole(self) -> str:
        """Its text with the key that it is about."""
        return f"{self.key}: {self.text}" if self.key else self.text


_FIGURE = (float, int)  # exactly: True is no figure
_TYPES: dict[str, tuple[type, ...]] = {
    "id": (str,), "kind": (str,), "text": (str,), "key": (str,), "namespace": (str,), "role": (str,), "run": (str,),
    "trust": (str,), "superseded_by": (str,), "reason": (str,), "importance": _FIGURE, "created": _FIGURE,
    "accessed": _FIGURE, "ended": _FIGURE, "accesses": (int,),
    "tokens": (int,), "private": (bool,), "tags": (list,), "supersedes": (list,), "details": (dict,), "embedding": (dict,),
}  # fmt: skip
_NAMES = tuple(each.name for each in fields(Item))
_DEFAULTS = {name: getattr(Item("", "", ""), name) for name in _NAMES}


def kind_of(word: str) -> str:
    """Return the kind that a word names. UsageError with the nearest for none."""
    found = ALIASES.get(word, word)
    if found not in KINDS:
        raise unknown("kind of memory", word, (*KINDS, *ALIASES))
    return found


def to_json(item: Item) -> str:
    """Return an item as a line of JSON, without what is as it is by default."""
    row = {name: getattr(item, name) for name in _NAMES}
    return json.dumps({name: value for name, value in row.items() if value != _DEFAULTS[name]}, ensure_ascii=False)


def from_json(text: str) -> Item:
    """Return the item that a line of JSON holds. InputError if it does not fit."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError("not JSON", hint="agent-mem export shows the form") from None
    return of_row(row)


def of_row(row: Any) -> Item:
    """Return the item of a JSON object; names it does not know are left out. InputError if a value does not fit."""
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise InputError("not an object with a `text`", hint="agent-mem export shows the form")
    known: dict[str, Any] = {"id": "", "kind": "semantic"}
    for name, value in row.items():
        wanted = _TYPES.get(name)
        if wanted is None or value is None:
            continue
        if type(value) not in wanted:
            raise InputError(f"`{name}` does not fit", hint="agent-mem export shows the form")
        known[name] = _texts(name, value) if wanted == (list,) else value
    item = Item(**known)
    _check_item(item)
    # Whatever is not known to be trusted is not.
    return item if item.trust in {TRUSTED, UNTRUSTED} else replace(item, trust=UNTRUSTED)


def _texts(name: str, values: list[Any]) -> tuple[str, ...]:
    if not all(type(each) is str for each in values):
        raise InputError(f"`{name}` is not a list of text")
    return tuple(values)


def _check_item(item: Item) -> None:
    if item.kind not in KINDS:
        raise InputError(f"no kind {item.kind[:80]!r}", hint=f"kinds: {', '.join(KINDS)}")
    if not 0.0 <= item.importance <= 1.0:
        raise InputError(f"importance {item.importance:g} is not from 0 to 1")
    if item.id and not _ID.fullmatch(item.id):
        raise InputError("`id` is no id", hint="letters, digits and dots")
    if not (0.0 <= item.created < _NEVER and 0.0 <= item.accessed < _NEVER and 0.0 <= item.ended < _NEVER):
        raise InputError("a time is none that can be", hint="seconds since 1970")


def row_of(item: Item, rules: Rules, now: float) -> dict[str, Any]:
    """Return an item for people and scripts; `importance` is what is left of it now, `importance_stored` what it began with."""
    row = {name: getattr(item, name) for name in _NAMES}
    row |= {"importance": round(rules.importance(item, now), 4), "importance_stored": item.importance}
    row["embedding"] = str(item.embedding.get("model", ""))  # the numbers are for `agent-mem export`
    return {**row, "tags": list(item.tags), "supersedes": list(item.supersedes), "details": dict(item.details)}


def checked(item: Item) -> Item:
    """Return an item as it may be kept: secrets cut out, tokens counted. InputError for what is empty or too long."""
    from agent_core import redact

    text = redact.redact(item.text).strip()
    if not text:
        raise InputError("there is nothing to remember", hint="give it a text")
    if len(to_json(replace(item, text=text)).encode("utf-8", "surrogatepass")) > LONGEST:
        raise InputError(f"an item is at most {LONGEST // 1024} KiB of text", hint="remember the parts, or a summary")
    if not f"{item.namespace}{item.role}".isprintable():
        raise InputError("the name of an owner or a role has no control characters", hint="plain words")
    text, key = _writable(text), _writable(redact.redact(item.key))
    tags = tuple(dict.fromkeys(_writable(tag.strip()) for tag in item.tags if tag.strip()))[:_MOST_TAGS]
    return replace(item, text=text, key=key, tags=tags, tokens=score.tokens(text))


def _writable(text: str) -> str:
    """Bytes of a command line that are no UTF-8 arrive as lone surrogates, which no database holds; NUL ends a text in SQLite."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\ufffd")


# --- rules -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """The rules of one kind. `capacity`: most items a namespace, None for any number; times in the unit of their name."""

    capacity: int | None = None
    decay: str = "none"
    min_importance: float = 0.05
    stability_days: float = 30.0
    half_life_hours: float = 24.0 * 7

    def importance(self, item: Item, now: float) -> float:
        """Return what is left of an item's importance; computed whenever it is asked for, never written."""
        match self.decay:
            case "forgetting":
                return score.forgetting(item.importance, now - item.created, self.stability_days * score.DAY)
            case "half-life":
                return score.half_life(item.importance, now - item.created, self.half_life_hours * score.HOUR)
        return item.importance


@dataclass(frozen=True, slots=True)
class Consolidation:
    """When and how clusters of old items become summaries."""

    min_cluster_size: int = 3
    max_age_secs: float = 3600.0
    similarity_threshold: float = 0.65
    run_interval_secs: float = 300.0
    k_clusters: int = 8
    kmeans_iterations: int = 10
    keep_recent_per_cluster: int = 2


@dataclass(frozen=True, slots=True)
class Compression:
    """When and how long conversations become short."""

    trigger: str = "turns"
    max_turns: int = 50
    recency_keep: int = 10
    dedup_threshold: float = 0.85
    important_tag: str = "important"
    important_score: float = 0.7
    window: int = 10
    strategies: tuple[str, ...] = ("TemporalCompression", "SemanticDedup", "ImportanceFilter")
    max_tokens: int = 4096
    keep_recent: int = 8
    min_importance: float = 0.35


@dataclass(frozen=True, slots=True)
class Importance:
    """How the importance of a turn is reckoned: keywords, and the weights of keyword density, entity density and recency."""

    keywords: tuple[str, ...] = ("important", "must", "never", "always", "decision", "decided", "deadline", "remember", "todo")
    keyword_weight: float = 0.5
    entity_weight: float = 0.3
    recency_weight: float = 0.2
    decay_per_hour: float = 0.01

    def of(self, text: str, age: float) -> float:
        """Return the weighted mean of the three for a text of that age (seconds)."""
        return score.composite((
            (score.keyword_density(text, self.keywords), self.keyword_weight),
            (score.entity_density(text), self.entity_weight),
            (score.recency(age, self.decay_per_hour), self.recency_weight),
        ))  # fmt: skip


_OWN: dict[str, dict[str, Any]] = {
    "buffer": {}, "working": {"capacity": 64}, "episodic": {}, "semantic": {}, "entity": {"capacity": 1000},
    "long": {"capacity": 1000, "decay": "forgetting"}, "kv": {"capacity": 1000}, "summary": {}, "episode": {},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules. The weights are those of a recall's score, `per_hour` its recency; `merge_cosine` is what upkeep merges above."""

    kinds: Mapping[str, Rule] = field(default_factory=lambda: {kind: Rule(**own) for kind, own in _OWN.items()})
    recency_weight: float = 0.2
    frequency_weight: float = 0.1
    recency_per_hour: float = 0.01
    min_similarity: float = 0.0
    standing_importance: float = 0.7
    merge_cosine: float = 0.85
    grace_days: float = 30.0
    decay_interval_hours: float = 24.0
    use_embeddings: bool = True
    persist: bool = True
    consolidation: Consolidation = Consolidation()
    compression: Compression = Compression()
    turns: Importance = Importance()

    def importance(self, item: Item, now: float) -> float:
        """Return what is left of an item's importance."""
        return self.kinds[item.kind].importance(item, now)


_PARTS: dict[str, tuple[str, Any]] = {
    "consolidation": ("consolidation", Consolidation), "compression": ("compression", Compression),
    "importance": ("turns", Importance),
}  # fmt: skip
_POSITIVE = frozenset({"stability_days", "half_life_hours", "window", "k_clusters", "recency_keep", "keep_recent"})
_SHARES = frozenset({
    "min_importance", "similarity_threshold", "dedup_threshold", "important_score", "merge_cosine", "min_similarity",
    "standing_importance",
})  # fmt: skip
_WORDS = {"decay": LAWS, "trigger": ("turns", "tokens"), "strategies": Compression().strategies}


def rules(tables: Mapping[str, Any]) -> Rules:
    """Return the rules that the [memory] tables make. ConfigError for a name or value that does not fit."""
    table = tables.get("memory", {})
    if not isinstance(table, dict):
        raise ConfigError("memory must be a table", hint="[memory]")
    plain = {_name(key): value for key, value in table.items() if not isinstance(value, dict)}
    of_kind = {key: plain.pop(key) for key in list(plain) if key in _RULE}
    made: dict[str, Any] = _values(Rules, plain, "memory", _RULE)
    made["kinds"] = {kind: Rule(**{**own, **_rule(of_kind, "memory")}) for kind, own in _OWN.items()}
    # A limit for all kinds is none for conversations and the task at hand.
    for kind in OF_A_SESSION:
        made["kinds"][kind] = Rule(**_OWN[kind])
    for name, inner in table.items():
        if isinstance(inner, dict):
            _part(made, _name(name), {_name(key): value for key, value in inner.items()})
    return Rules(**made)


def _name(key: str) -> str:
    found = key.replace("-", "_")
    return "capacity" if found == "max_items" else found


_RULE = tuple(each.name for each in fields(Rule))


def _part(made: dict[str, Any], name: str, inner: dict[str, Any]) -> None:
    if name in _PARTS:
        field_name, made_of = _PARTS[name]
        made[field_name] = made_of(**_values(made_of, inner, f"memory.{name}"))
        return
    kind = ALIASES.get(name.replace("_", "-"), name)
    if kind not in KINDS:
        near = nearest(name, (*KINDS, *_PARTS))
        raise ConfigError(f"no table [memory.{name}]", hint=f"did you mean {' or '.join(near)}?" if near else "see docs/memory.md")
    before = {each: getattr(made["kinds"][kind], each) for each in _RULE}
    made["kinds"][kind] = Rule(**{**before, **_rule(inner, f"memory.{name}")})


def _rule(inner: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the values of a kind's rule; naming a half-life (or a stability) chooses that law."""
    found = _values(Rule, inner, where)
    if "decay" not in found and "half_life_hours" in found:
        found["decay"] = "half-life"
    if "decay" not in found and "stability_days" in found and where != "memory":
        found["decay"] = "forgetting"
    return found


def _values(made_of: Any, given: Mapping[str, Any], where: str, more: Iterable[str] = ()) -> dict[str, Any]:
    """Return the values that fit the fields of a dataclass."""
    plain = {each.name: each for each in fields(made_of) if each.name not in {"kinds", *(part for part, _ in _PARTS.values())}}
    for name, value in given.items():
        if name not in plain:
            near = nearest(name, (*plain, *more))
            raise ConfigError(
                f"{where}: no setting {name!r}", hint=f"did you mean {' or '.join(near)}?" if near else "see docs/memory.md"
            )
        _check(name, value, str(plain[name].type), f"{where}: {name}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _check(name: str, value: Any, kind: str, where: str) -> None:
    wanted: Any = {"float": (int, float), "int": int, "int | None": int, "bool": bool, "str": str}.get(kind, list)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise ConfigError(f"{where}: {value!r} does not fit", hint="see docs/memory.md")
    low = 1e-9 if name in _POSITIVE else 0
    if isinstance(value, int | float) and not isinstance(value, bool) and not low <= value <= (1 if name in _SHARES else 1e12):
        raise ConfigError(f"{where}: {value} is out of range", hint="from 0 to 1" if name in _SHARES else "a number above 0")
    for word in [value] if isinstance(value, str) else value if isinstance(value, list) else ():
        if name in _WORDS and word not in _WORDS[name]:
            raise ConfigError(f"{where}: no {word!r}", hint=f"there are {', '.join(_WORDS[name])}")
