"""offline - the answer when there is no model: words matched to tools. It is no model and says so.

    $ echo "hello pipes" | text-processor "make this uppercase"
    HELLO PIPES

What it does, the same way every time:

1.  The request is cut into clauses ("count the words, then reverse the text"). A clause chooses the tool whose name or description
    its words fit (light stemming, a few synonyms). Words it cannot explain, a verb such as "write" or "translate" above all,
    speak against a choice; so does a required argument that cannot be filled. A destructive tool must be named outright.
2.  Arguments come from quoted strings, paths, addresses, numbers, arithmetic, words of an enum, `name=value`, and "X with Y"; text
    comes from quotes, the material (stdin, files), or the words after the tool's name. A clause that says "it" or "the result", or
    has no object at all, takes the result of the clause before. A file that is only named is read first if there is a tool for it.
3.  The tools are called one after another. The answer is their results, one a line; results that another call consumed are left
    out. A denied call ends the run as denied, a failed one as failed.
4.  Without a fitting tool a question or a summary is answered with sentences of the material. Everything else gets `NOTICE`.

A reply schema is met only by a tool's own structured result or by a sole field that the answer fills; else it needs a model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from agent_core.errors import ConfigError, DeniedError, Failed
from agent_core.messages import Message, ToolCall, ToolResult, assistant
from agent_core.provider import Capabilities, Price, Provider, Reply, Usage
from agent_core.task import split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from agent_core.effects import Ask
    from agent_core.tool import Tool

SET_UP = "set OPENAI_API_KEY, ANTHROPIC_API_KEY or another vendor's key, or choose one with --provider"
NOTICE = f"This is the offline stand-in, not a language model, and none of its tools fits the request. To ask a model, {SET_UP}."

MAX_REQUEST = 4000  # characters; what is longer is no request but material without one
MAX_CLAUSES = 64

# words that mean the same to us; the first one stands for all
_SAME = (
    "uppercase upper caps toupper", "lowercase lower tolower", "titlecase title capitalize capitalise",
    "reverse backward backwards flip mirror", "calculate calc calculator calculation compute evaluate eval math arithmetic",
    "now time date today clock datetime timestamp", "replace substitute swap exchange", "read open cat load contents content",
    "search find grep", "list ls", "write save store", "fetch download", "delete remove rm",
    "directory folder dir", "character char letter", "repeat echo", "deduplicate dedupe unique uniq duplicates",
    "trim strip", "file document",
)  # fmt: skip
_PHRASES = tuple(
    (re.compile(pattern), word)
    for pattern, word in (
        (r"\bupper[ -]case|\b(?:all )?cap(?:ital)? letters|\ball caps|\bin capitals\b", "uppercase"),
        (r"\blower[ -]case|\bsmall letters", "lowercase"),
        (r"\btitle[ -]case|\bcapitali[sz]e (?:each|every) word", "titlecase"),
        (r"\b(?:a|the|its|good|better) title\b(?! ?case)", "headline"),
        (r"\bcapitali[sz]e (?:the )?first letters? of (?:each|every) word", "titlecase"),
        (r"\bfirst letters? of (?:each|every) word (?:in )?(?:upper ?case|capitals?)", "titlecase"),
        (r"\b(?:re)?write (?=\w+(?: text)? (?:in (?:all )?(?:upper|lower|title|cap|small|reverse)|backward))", ""),
        (r"\b(?:show|display|print|see|view)(?: me)?(?= (?:the )?(?:file )?\x00)", "read"),
        (r"\bback to front\b", "reverse"),
        (r"\bhow many|\b(?:the )?number of\b", "count"),
        (r"\bhow much (?:is|are)\b|\bwork out\b|\bwhat(?:'s| is) (?=[\d(-]|sqrt|sin|cos|log|abs)", "calculate "),
        (r"^(?=[\d\s.+*/%^()=?-]*$)(?=.*\d\s*[-+*/%^]+\s*[\d(.])", "calculate "),
        (r"\bwhat day is (?:it|today)\b|\bwhat(?:'s| is) today\b", "now"),
    )
)
_STOP = frozenset(
    """a an the this that these those it its say says said
    mention mentions about is are be was of in on at to for with by from into as and or then also first next
    finally after all me my your our their his her i we you he she they please kindly just now can could would will shall should
    may might do does did have has there here some any each every them
    everything whole entire itself so if not no more very quickly again only back
    thank thanks hello hi hey text string input data stdin material following above below version form copy
    make turn put give tell show get let want need like convert change transform set use using run apply call print return output
    produce result results what whats which when it's current tool each""".split()  # noqa: SIM905 - a list of words
)
# verbs that no tool serves by accident: if one leads a clause, the clause is theirs
_HEAVY = frozenset(
    """write compose draft explain describe translate rewrite rephrase paraphrase improve refactor review critique discuss argue
    debate imagine invent brainstorm suggest recommend advise plan design implement code generate create draw compare contrast
    analyse analyze classify summarise summarize summary outline elaborate expand continue answer prove teach why who whose
    whom how where fix correct proofread shorten simplify""".split()  # noqa: SIM905
)
_SUMMARY = re.compile(
    r"\b(summar\w+|tl;?dr|gist|key points?|main (?:points?|ideas?)|shorten|in (?:short|brief)|outline)\b", re.IGNORECASE
)
_QUESTION = re.compile(
    r"\?\s*$|^\W*(?:what|who|whose|whom|when|where|which|why|how|is|are|was|were|does|do|did|has|have|can)\b"
    r"|^\W*(?:find|extract|quote|list|show)\b",
    re.IGNORECASE,
)
_BREAK = re.compile(
    r"(\s*(?:[,;]?\s+(?:and\s+)?(?:then|afterwards|after that|finally)\b,?|[,;]\s*followed by\b|\s+followed by\b"
    r"|;|,\s*and\b|,|\s+and\b|[.!?](?=\s|$)|\n)\s*)",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"\"([^\"\n]*)\"|“([^”\n]*)”|`([^`\n]*)`|«([^»\n]*)»|(?<!\w)'((?:[^'\n]|(?<=\w)'(?=\w))*)'(?!\w)")
_URL = re.compile(r"https?://[^\s<>\"']+[^\s<>\"'.,;:!?)]")
_PATH = re.compile(
    r"(?<![\w\x00])(?:~?/|\.{1,2}/)[\w./+~-]*|(?<![\w\x00])[\w.+-]*\w/[\w./+-]*"
    r"|(?<![\w\x00])\.?\w[\w+-]*(?:\.[\w+-]+)*\.[A-Za-z]\w{0,7}\b"
)
_ARITHMETIC = re.compile(r"[-(\d.][\d\s.+*/%^(),-]*[\d)]")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\w)")
_OPERATORS = (
    (r"\bplus\b", "+"),
    (r"\bminus\b", "-"),
    (r"\b(?:times|multiplied by)\b|(?<=\d)\s*x\s*(?=\d)", "*"),
    (r"\b(?:divided by|over)\b", "/"),
    (r"\bto the power of\b|\^", "**"),
    (r"\bmod(?:ulo)?\b", "%"),
)
_SIGNS = {0xD7: "*", 0xF7: "/", 0x2212: "-"}  # the signs people write
_HELD = re.compile("\x00(\\d+)\x00")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?|\x00\d+\x00")
_TEXTS = frozenset({"text", "input", "content", "contents", "string", "data", "body", "document", "source_text", "value", "s"})
_PATHS = frozenset({"path", "file", "filename", "file_path", "filepath", "directory", "dir", "folder", "root"})
_URLS = frozenset({"url", "uri", "link", "address", "href"})
_SUMS = frozenset({"expression", "expr", "formula", "equation", "calculation", "sum"})
_PREVIOUS = re.compile(r"\b(it|that|them|the (?:result|output|outcome)|this result|result)\b", re.IGNORECASE)
_ORIGINAL = re.compile(
    r"\b(text|this|input|stdin|original|material|words?|lines?|characters?|letters?|file|document|paragraphs?|sentences?)\b"
)
_ABOUT = re.compile(
    r"^\W*(?:what (?:does|do|did)|does|do (?:i|we|they)|is|are|was|were|did|has|have|which|why|when|where|who|whose|whom)\b"
)
_PART = re.compile(
    r"\b(?:only|except|unless|excluding|ignoring|(?:first|last|second|third|every other)"
    r" (?:letter|word|line|character|sentence|paragraph)s?)\b"
)
_COUNTS = frozenset({"limit", "count", "n", "top", "max_results", "lines", "top_k"})
_SUBJECTS = frozenset({"i", "it", "he", "she", "we", "you", "they", "this", "that", "there", "these", "those", "thanks", "thank"})
_WHAT = re.compile(r"^\W*(?:what|how)\b(?! many\b)", re.IGNORECASE)
_NUMERAL = re.compile(r"\s*[-+]?\d[\d.,]*\s*")
_INITIAL = frozenset(
    {
        "of",
        "to",
        "the",
        "this",
        "that",
        "it",
        "following",
        "text",
        "string",
        "word",
        "words",
        "phrase",
        "sentence",
        "in",
        "a",
        "an",
        ":",
    }
)


# --- words -------------------------------------------------------------------------------------------------------------------


def stem(word: str) -> str:
    """Return a word without its ending: count, counts, counted and counting are one."""
    word = word.lower().removesuffix("'s")
    for ending in ("ations", "ation", "ators", "ator", "ings", "ing", "ies", "ers", "ed", "es", "er", "ly", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return _undoubled(word.removesuffix(ending))
    return word


def _undoubled(word: str) -> str:
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "sl" else word


_CANON: dict[str, str] = {stem(word): stem(group.split()[0]) for group in _SAME for word in group.split()}


def _canon(word: str) -> str:
    found = stem(word)
    return _CANON.get(found, found)


_NOUNS = frozenset(_canon(word) for word in ("line", "word", "file", "character", "page", "web", "folder", "sentence", "path"))


def _words(text: str) -> list[str]:
    return [word.removesuffix("'s") for word in _WORD.findall(text.lower()) if not word.startswith("\x00")]


def _name_words(name: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[\W_]+", spaced.lower()) if word]


# --- the request -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Clause:
    """A piece of the request. Quotes, addresses and paths are held apart; `text` has a mark in their place (see `_HELD`)."""

    text: str
    held: tuple[tuple[str, str], ...]

    def of(self, kind: str) -> list[str]:
        """Return the held pieces of one kind (quote, url, path) that stand in this clause."""
        found = [self.held[int(mark)] for mark in _HELD.findall(self.text)]
        return [value for held, value in found if held == kind]

    def plain(self) -> str:
        """Return the clause as it was written, quotes without their marks."""
        return _HELD.sub(lambda mark: self.held[int(mark[1])][1], self.text)


def _hold(request: str) -> Clause:
    """Return the whole request with its literal pieces held apart."""
    held: list[tuple[str, str]] = []

    def keep(kind: str, value: str) -> str:
        held.append((kind, value))
        return f"\x00{len(held) - 1}\x00"

    text = _QUOTED.sub(
        lambda match: keep("quote", next(group for group in match.groups() if group is not None)), request.replace("\x00", "")
    )
    text = _URL.sub(lambda match: keep("url", match[0]), text)
    text = _PATH.sub(lambda match: keep("path", match[0]) if re.search("[A-Za-z]|^[./~]+$", match[0]) else match[0], text)
    return Clause(text, tuple(held))


def _phrased(text: str) -> str:
    text = text.lower()
    for pattern, word in _PHRASES:
        text = pattern.sub(word, text)
    return text


# --- choosing a tool ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """Where text can come from: the material, and whether there is a result of an earlier step."""

    material: str | None
    origins: frozenset[str] = frozenset()
    earlier: bool = False


PREVIOUS = object()  # stands for the result of the step before, in arguments


@dataclass(frozen=True, slots=True)
class Step:
    """One call: the tool and its arguments; `uses` is the index of the step whose result fills PREVIOUS."""

    tool: Tool
    arguments: Mapping[str, Any]
    score: tuple[int, ...] = ()
    reads: bool = False
    uses: int | None = None


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a clause's words fit a tool: `unknown` are the words that nothing about the tool explains."""

    named: bool
    leads: bool
    hits: int
    described: int
    unknown: tuple[str, ...]

    @property
    def score(self) -> tuple[int, ...]:
        """The order of preference among tools."""
        return (self.named, self.hits + self.leads, self.hits, self.described, -len(self.unknown))


def fit(clause: Clause, tool: Tool) -> Fit | None:
    """Return how the clause's words fit the tool, or None when they do not."""
    text = _phrased(clause.text)
    words = _words(text)
    name = {_canon(word) for word in _name_words(tool.name)} - {"get", "do", "run", "tool"} or {_canon(tool.name)}
    compound = _compound(tool.name, words)
    seen = compound or name & ({_canon(word) for word in words} | _implied(clause))
    said = {_canon(word) for word in _words(tool.description.partition("\n")[0])}
    known = name | compound | {_canon(word) for word in _parameter_words(tool)}
    content = [word for word in words if word not in _STOP and not word.isdigit()]
    unknown = tuple(word for word in content if _canon(word) not in known | said)
    head = content[0] if content else ""
    told = {_canon(word) for word in content} & said
    found = Fit(bool(compound) or name <= seen, _canon(head) in seen, len(seen), len(told), unknown)
    if _ABOUT.search(text) or (head in _HEAVY and _canon(head) not in known) or _limited(text, known | said):
        return None
    if _torn(words, seen | {_canon(word) for word in _options(tool)}, unknown) and any(
        _is_text(one, tool) for one in _properties(tool)
    ):
        return None
    return found if _chosen(found, tool, clause, head) else None


def _compound(name: str, words: Sequence[str]) -> set[str]:
    """Return the two words that make up a tool's name ("count the words" for wordcount), if both are there."""
    there, whole = {_canon(word) for word in words}, re.sub(r"[\W_]", "", name.lower())
    pairs = ({_canon(whole[:cut]), _canon(whole[cut:])} for cut in range(3, len(whole) - 2))
    return next((pair for pair in pairs if len(pair) == 2 and pair <= there), set())


def _implied(clause: Clause) -> set[str]:
    implied = {_canon("file")} if clause.of("path") else set()
    return implied | ({_canon("http"), _canon("url")} if clause.of("url") else set())


def _limited(text: str, known: set[str]) -> bool:
    """Whether the clause is about a part ("only the names", "the first letter") that the tool knows nothing of."""
    return any(not {_canon(word) for word in match[0].split()} <= known for match in _PART.finditer(text))


def _torn(words: Sequence[str], seen: set[str], unknown: Sequence[str]) -> bool:
    """Whether an unknown word stands between those that name the tool ("count the French words")."""
    spots = [index for index, word in enumerate(words) if _canon(word) in seen]
    return bool(spots) and any(word in unknown for word in words[spots[0] : spots[-1]])


def _chosen(found: Fit, tool: Tool, clause: Clause, head: str) -> bool:
    if _careful(tool) and not _literal(tool, clause):
        return False
    if found.named:
        return bool(tool.parameters.get("required")) or not found.unknown
    if found.unknown or not head or _canon(head) in _NOUNS:
        return False
    first = _words(tool.description)[:1]
    return found.leads or (bool(first) and _canon(first[0]) == _canon(head))


def _careful(tool: Tool) -> bool:
    """Whether the tool changes things, so that its own name must be said."""
    capabilities = [str(getattr(need, "capability", need)) for need in getattr(tool, "needs", ())]
    return getattr(tool, "destructive", False) or any(one == "shell" or one.endswith("write") for one in capabilities)


def _literal(tool: Tool, clause: Clause) -> bool:
    said = {stem(word) for word in _words(clause.text)} | ({stem("file")} if clause.of("path") else set())
    return {stem(word) for word in _name_words(tool.name)} <= said


def _parameter_words(tool: Tool) -> Iterator[str]:
    for name in _properties(tool):
        yield from _name_words(name)
    yield from _options(tool)


def _options(tool: Tool) -> Iterator[str]:
    """Yield the words that the tool's enums offer."""
    for schema in _properties(tool).values():
        yield from (str(value).lower() for value in _resolved(schema, tool).get("enum", ()))


def _properties(tool: Tool) -> dict[str, Any]:
    found = tool.parameters.get("properties")
    return found if isinstance(found, dict) else {}


def _resolved(schema: Any, tool: Tool) -> dict[str, Any]:
    """Return the part of a parameter's schema that says its type: references followed, null left out."""
    for _ in range(8):
        if not isinstance(schema, dict):
            return {}
        if "$ref" in schema:
            schema = (tool.parameters.get("$defs") or {}).get(str(schema["$ref"]).rpartition("/")[2])
        elif "anyOf" in schema:
            schema = next((item for item in schema["anyOf"] if item.get("type") != "null"), {})
        elif "const" in schema:
            return {**schema, "enum": [schema["const"]]}
        else:
            return schema
    return {}


# --- filling its arguments ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Supply:
    """What a clause offers to fill arguments with; taken from the front."""

    clause: Clause
    tool: Tool
    source: Source
    quotes: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)
    used_path: bool = False


def fill(clause: Clause, tool: Tool, source: Source) -> list[dict[str, Any]]:
    """Return the arguments of the calls that the clause asks for: several for several words of an enum, none if unfillable."""
    paths = [path for path in clause.of("path") if path not in source.origins]
    numbers = _NUMBER.findall(_HELD.sub(" ", clause.text))
    supply = Supply(clause, tool, source, _pair(clause, tool) or clause.of("quote"), paths, clause.of("url"), numbers)
    required = set(tool.parameters.get("required") or ())
    names = sorted(_properties(tool), key=lambda name: (_rank(name, tool, required, supply), name not in required))
    arguments: dict[str, Any] = {}
    several: dict[str, list[Any]] = {}
    for name in names:
        values = _values(name, supply, needed=name in required)
        if not values and name in required:
            return []
        arguments.update({name: values[0]} if values else {})
        several.update({name: values} if len(values) > 1 else {})
    arguments = {name: arguments[name] for name in _properties(tool) if name in arguments}
    name, values = next(iter(several.items()), ("", []))
    return [{**arguments, name: value} for value in values] or [arguments]


def _rank(name: str, tool: Tool, required: set[str], supply: Supply) -> int:
    """Order of filling: the text comes last, unless quotes are its only possible source and nobody else needs them."""
    if not _is_text(name, tool):
        return 0
    others = [one for one in required if one != name and _resolved(_properties(tool)[one], tool).get("type") == "string"]
    return 1 if others or supply.source.material is not None else -1


def _is_text(name: str, tool: Tool) -> bool:
    properties = _properties(tool)
    texts = [one for one in properties if _resolved(properties[one], tool).get("type") == "string"]
    special = _PATHS | _URLS | _SUMS
    return name in _TEXTS or (len(texts) == 1 and texts == [name] and len(properties) == 1 and name not in special)


def _pair(clause: Clause, tool: Tool) -> list[str]:
    """Return X and Y of "replace X with Y", "change X to Y", "from X to Y" for a tool that needs two short strings."""
    strings = [name for name in tool.parameters.get("required") or () if name not in _TEXTS | _PATHS | _URLS | _SUMS]
    strings = [name for name in strings if _resolved(_properties(tool).get(name), tool).get("type") == "string"]
    if len(strings) < 2:
        return []
    words = r"(?:all |every |each |the (?:word|string|letter) )*"
    held = r"(\x00\d+\x00|\S+)"
    match = re.search(
        rf"\b\w+\s+{words}{held}(?:\s+(?:with|by|to|for|into)\s+|\s*(?:->|=>|→)\s*){words}{held}"
        r"(?:.*?\b(?:in|of)\s+(\x00\d+\x00))?",
        clause.text,
        re.IGNORECASE,
    )
    if match is None:
        return []
    return [Clause(piece, clause.held).plain().rstrip(",.;") for piece in match.groups() if piece]


def _values(name: str, supply: Supply, *, needed: bool) -> list[Any]:
    schema = _resolved(_properties(supply.tool)[name], supply.tool)
    explicit = re.search(rf"\b{re.escape(name)}\s*[=:]\s*(\x00\d+\x00|[^\s,;]+)", supply.clause.text, re.IGNORECASE)
    if explicit is not None:
        value = _as(schema, Clause(explicit[1], supply.clause.held).plain())
        return [] if value is None else [value]
    if schema.get("enum"):
        return _enumerated(schema["enum"], supply)
    match schema.get("type"):
        case "string":
            value = _string(name, supply, needed=needed)
            return [] if value is None else [value]
        case "integer" | "number":
            value = _number(name, schema, supply, needed=needed)
            return [] if value is None else [value]
        case "boolean":
            said = {stem(word) for word in _words(supply.clause.text)}
            return [True] if {stem(word) for word in _name_words(name)} <= said else []
        case "array":
            return _array(schema, supply)
    return []


def _number(name: str, schema: dict[str, Any], supply: Supply, *, needed: bool) -> Any:
    """Return the next number; an optional parameter takes one only if nothing else could be meant."""
    numeric = [one for one in _properties(supply.tool).values() if _resolved(one, supply.tool).get("type") in {"integer", "number"}]
    top = name in _COUNTS and re.search(r"\b(?:first|top|limit|at most|up to|best)\s+-?\d", supply.clause.text, re.IGNORECASE)
    if not supply.numbers or not (needed or top or (len(numeric) == 1 and name not in _COUNTS)):
        return None
    return _as(schema, supply.numbers.pop(0))


def _enumerated(options: Iterable[Any], supply: Supply) -> list[Any]:
    said = _phrased(supply.clause.plain())
    stems = {stem(word) for word in _words(said)} | {_canon(word) for word in _words(said)}
    return [
        option
        for option in options
        if str(option).lower() in said.split() or {stem(word) for word in _name_words(str(option))} <= stems
    ]


def _array(schema: dict[str, Any], supply: Supply) -> list[Any]:
    items = _resolved(schema.get("items"), supply.tool).get("type")
    if items in {"integer", "number"}:
        numbers, supply.numbers = supply.numbers, []
        values: list[Any] = [value for number in numbers if (value := _as({"type": items}, number)) is not None]
    else:
        values, supply.quotes, supply.paths = supply.quotes or supply.paths, [], []
    return [values] if values else []


def _as(schema: dict[str, Any], text: str) -> Any:
    """Return the text as the schema's type, or None."""
    kind = schema.get("type")
    if kind == "boolean":
        return {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}.get(text.lower())
    if kind not in {"integer", "number"}:
        return text
    if not _NUMBER.fullmatch(text):
        return None
    return int(text) if "." not in text else (float(text) if kind == "number" else None)


def _string(name: str, supply: Supply, *, needed: bool) -> Any:
    if name in _PATHS:
        supply.used_path = supply.used_path or bool(supply.paths)
        return supply.paths.pop(0) if supply.paths else (supply.quotes.pop(0) if supply.quotes and needed else None)
    if name in _URLS:
        return supply.urls.pop(0) if supply.urls else None
    if name in _SUMS:
        return _expression(supply.clause)
    if _is_text(name, supply.tool):
        return _text(supply, needed=needed)
    if not needed:
        return None
    if supply.quotes:
        return supply.quotes.pop(0)
    return (
        None
        if len(_properties(supply.tool)) > 2
        else _remainder(supply, after=("for", "in", "about", "of", "at", "named", "called"))
    )


def _text(supply: Supply, *, needed: bool) -> Any:
    """Return the text to work on: quoted, the result before, the material, or the words after the tool's name."""
    source = supply.source
    if supply.quotes:
        return supply.quotes.pop(0)
    if not needed:
        return None
    said = supply.clause.text.lower()
    if source.earlier and (_PREVIOUS.search(said) or (not _ORIGINAL.search(said)) or source.material is None):
        own = None if source.material is not None or _PREVIOUS.search(said) else _remainder(supply)
        return PREVIOUS if own is None else own
    if source.material is not None and not (supply.paths and not supply.used_path and _reads(supply)):
        return source.material
    return None if supply.paths and not supply.used_path else _remainder(supply)


def _reads(supply: Supply) -> bool:
    """Whether the clause names a file that was not given: "count the words in notes.txt"."""
    return bool(re.search(r"\b(?:in|of|from|file)\s+(?:the\s+)?(?:file\s+)?\x00", supply.clause.text, re.IGNORECASE))


def _remainder(supply: Supply, after: tuple[str, ...] = ()) -> str | None:
    """Return the words that follow the tool's name ("uppercase hello world"), or a preposition; None if there are none."""
    text = supply.clause.text
    name = {_canon(word) for word in _name_words(supply.tool.name)}
    spots = list(re.finditer(r"[^\W_]+", text))
    if after:
        found = next((spot for spot in spots if spot[0].lower() in after), None)
    else:
        content = [spot for spot in spots if spot[0].lower() not in _STOP]
        found = content[0] if content and _named(content[0][0], name, supply.tool) else None
    if found is None:
        return None
    rest = (
        re.sub(r"\s+(?:in|of|from|under|at)\s+(?:the )?(?:file |folder )?\x00\d+\x00\W*$", "", text[found.end() :])
        if after
        else text[found.end() :]
    )
    rest = rest.strip(" \t\n:?!.")
    while (first := re.match(r"(\w+|:)\s*", rest)) and first[1].lower() in _INITIAL and rest:
        rest = rest[first.end() :]
    if re.match(r"(?:for|about|on|with|by)\b", rest, re.IGNORECASE):
        return None
    return Clause(rest, supply.clause.held).plain() or None


def _named(word: str, name: set[str], tool: Tool) -> bool:
    return _canon(word) in name or tool.name.lower().startswith(word.lower().removesuffix("s"))


def _expression(clause: Clause) -> str | None:
    """Return the arithmetic in a clause, as an expression: `(2+3)*4`, "6 times 7", "15% of 80"."""
    text = clause.plain().lower().translate(_SIGNS)
    text = re.sub(r"(\d+(?:\.\d+)?)\s*(?:%|percent) of (\d+(?:\.\d+)?)", r"\1/100*\2", text)
    for pattern, sign in _OPERATORS:
        text = re.sub(pattern, f" {sign} ", text)
    wrapped = re.search(r"\b(?:sqrt|sin|cos|tan|log|exp|abs|round|min|max)\([^a-z]*\)(?:[\d\s.+*/%()-]*[\d)])?", text)
    found = wrapped or max(_ARITHMETIC.finditer(text), key=lambda match: len(match[0]), default=None)
    if found is None or not re.search(r"\d\s*[)\s]*(?:[-+*/%]|\*\*)|\(", found[0]):
        return None
    return re.sub(r"\s*\*\*\s*", "**", " ".join(found[0].split()))


# --- the plan ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """The calls a request stands for, in order, and the clauses that ask for something no tool does."""

    steps: tuple[Step, ...]
    undone: tuple[str, ...] = ()
    extracts: bool = False  # the answer is taken from the file that the one step reads


def plan(instruction: str, material: str | None, tools: Sequence[Tool], origins: frozenset[str] = frozenset()) -> Plan:
    """Return the calls that the request stands for; none when no tool fits, or when it is too long to be a request."""
    if len(instruction) > MAX_REQUEST:
        return Plan(())
    whole = _hold(instruction)
    steps: list[Step] = []
    undone: list[str] = []
    pending = last = joint = ""
    pieces = _BREAK.split(whole.text, maxsplit=MAX_CLAUSES)
    for text, mark in zip(pieces[::2], [*pieces[1::2], ""], strict=True):
        source = Source(material, origins, earlier=bool(steps))
        found, said = _read(text, pending, last if steps else "", partial(_match, tools=tools, source=source), whole)
        if found:
            steps += _placed(found, len(steps))
            pending, last = "", said + mark
        elif steps and (longer := _extended(last + text, whole, tools, replace(source, earlier=len(steps) > 1), steps)):
            steps, last = longer, last + text + mark
        else:
            pending += text + mark
            undone += [Clause(text, whole.held).plain().strip()] if _asks(text, joint) else []
        joint = mark
    return Plan(tuple(steps), tuple(undone))


def _read(text: str, pending: str, last: str, match: Callable[[Clause], list[Step]], whole: Clause) -> tuple[list[Step], str]:
    """Return the calls of a clause and the words they were found in: its own, all since the last call, or with a verb lent."""
    if found := match(Clause(text, whole.held)):
        return found, text
    if pending and (found := match(Clause(pending + text, whole.held))):
        return found, pending + text
    lent = _carried(text, last)
    found = match(Clause(lent, whole.held)) if last and lent != text else []
    before = match(Clause(last, whole.held)) if found else []
    return ([], text) if before and before[-1].tool is found[-1].tool else (found, lent)


def _carried(text: str, last: str) -> str:
    """Return a clause with the verb it leaves out ("count the words and lines"): that of the clause before."""
    content = [word for word in _words(_phrased(last)) if word not in _STOP]
    return f"{content[0]} {text}" if content and _words(text) else text


def _asks(text: str, joint: str = "") -> bool:
    """Whether a clause that no tool fits asks for something: by its verb, or since "and" or "then" joins it to a call."""
    content = [word for word in _words(_phrased(text)) if word not in _STOP]
    if not content or content[0] in _HEAVY:
        return bool(content)
    return bool(re.search(r"and|then|;", joint)) and _words(text)[0] not in _SUBJECTS


def _extended(text: str, whole: Clause, tools: Sequence[Tool], source: Source, steps: list[Step]) -> list[Step] | None:
    """Return the steps with the last ones made from a longer clause, when that says more ("uppercase salt and pepper")."""
    found = _match(Clause(text, whole.held), tools, source)
    same = [step for step in steps if step.tool is not steps[-1].tool]
    if not found or found[-1].tool is not steps[-1].tool or found[-1].arguments == steps[-1].arguments:
        return None
    return [*same, *_placed(found, len(same))]


def _placed(found: Sequence[Step], start: int) -> list[Step]:
    """Return steps that know whose result they use: a reader just before, or the step before this clause."""
    placed: list[Step] = []
    reader = start if found[0].reads else None
    for step in found:
        uses = PREVIOUS in step.arguments.values() and (reader if reader is not None else start - 1)
        placed.append(replace(step, uses=uses if uses is not False else None))
    return placed


def _match(clause: Clause, tools: Sequence[Tool], source: Source) -> list[Step]:
    """Return the calls of the tool that fits best; a file that is only named is read first."""
    found = [best for tool in tools if (best := _candidate(clause, tool, tools, source))]
    return max(found, key=lambda steps: steps[-1].score, default=[])


def _candidate(clause: Clause, tool: Tool, tools: Sequence[Tool], source: Source) -> list[Step]:
    words = fit(clause, tool)
    if words is None or (
        words.unknown and (source.material is not None or source.earlier) and _contested(words, clause, tool, tools)
    ):
        return []
    calls = fill(clause, tool, source)
    reader: list[Step] = []
    if not calls and clause.of("path"):
        reader = _reader(clause, tools)
        calls = fill(_without_paths(clause), tool, replace(source, material=None, earlier=True)) if reader else []
    return [*reader, *(Step(tool, arguments, words.score) for arguments in calls)] if calls else []


def _contested(found: Fit, clause: Clause, tool: Tool, tools: Sequence[Tool]) -> bool:
    """Whether the unknown words ask for more than the tool: a question, or what another tool does ("sort in reverse order")."""
    if _WHAT.search(clause.text):
        return True
    others = [one for one in tools if one is not tool]
    names = {_canon(words[0]) for one in others if len(words := _name_words(one.name)) == 1}
    verbs = {_canon(words[0]) for one in others if (words := _words(one.description)[:1])}
    content = [word for word in _words(_phrased(clause.text)) if word not in _STOP]
    return any(_canon(word) in names for word in found.unknown) or (content[0] in found.unknown and _canon(content[0]) in verbs)


def _without_paths(clause: Clause) -> Clause:
    kinds = [kind for kind, _ in clause.held]
    text = _HELD.sub(lambda mark: " it " if kinds[int(mark[1])] == "path" else mark[0], clause.text)
    return Clause(text, clause.held)


def _reader(clause: Clause, tools: Sequence[Tool]) -> list[Step]:
    """Return the call that reads the first path of the clause, if there is a tool that does nothing but read a file."""
    paths = clause.of("path")
    for tool in tools if paths else ():
        names = {_canon(word) for word in _name_words(tool.name)}
        required = list(tool.parameters.get("required") or ())
        if _canon("read") in names and not getattr(tool, "destructive", False) and len(required) == 1 and required[0] in _PATHS:
            return [Step(tool, {required[0]: paths[0]}, reads=True)]
    return []


# --- answering from the material ---------------------------------------------------------------------------------------------


def extract(instruction: str, material: str) -> str:
    """Return sentences of the material that answer a question or sum it up; "" when none does or neither was asked."""
    sentences = [one.strip() for one in re.split(r"(?<=[.!?])\s+|\n+", material) if one.strip()]
    if not sentences:
        return ""
    if _SUMMARY.search(instruction):
        return _central(sentences, _wanted(instruction, len(sentences)))
    return _relevant(instruction, sentences) if _QUESTION.search(instruction.strip()) else ""


def _wanted(instruction: str, available: int) -> int:
    numbers = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
    found = re.search(
        r"\b(\d{1,2}|one|two|three|four|five)[ -](?:sentences?|lines?|points?|key points?|bullets?)", instruction.lower()
    )
    if found is None:
        return min(3, max(1, available // 3))
    return max(1, numbers.get(found[1]) or int(found[1]))


def _bag(text: str) -> set[str]:
    return {stem(word) for word in _words(text) if word not in _STOP and word not in _HEAVY and len(word) > 1}


def _central(sentences: Sequence[str], count: int) -> str:
    """Return the sentences whose words are the commonest in the text, the first one preferred, in the text's order."""
    from collections import Counter

    bags = [_bag(sentence) for sentence in sentences]
    common = Counter(word for bag in bags for word in bag)

    def weight(index: int) -> float:
        return sum(common[word] - 1 for word in bags[index]) / (len(bags[index]) + 3) + (1.0 if index == 0 else 0.0)

    best = sorted(range(len(sentences)), key=lambda index: (-weight(index), index))[:count]
    return "\n".join(sentences[index] for index in sorted(best))


def _relevant(instruction: str, sentences: Sequence[str]) -> str:
    """Return the sentences that share the rarest words with the question: at most three, at least half as good as the best."""
    asked = _bag(_HELD.sub(" ", _hold(instruction[:MAX_REQUEST]).text))
    bags = [_bag(sentence) for sentence in sentences]
    rare = {word: 1 / sum(word in bag for bag in bags) ** 0.5 for word in asked if any(word in bag for bag in bags)}
    scores = [sum(rare.get(word, 0.0) for word in bag) for bag in bags]
    best = max(scores)
    if not best or len(rare) * 3 < len(asked):
        return ""
    chosen = sorted((index for index, score in enumerate(scores) if score > best / 2), key=lambda index: (-scores[index], index))[
        :3
    ]
    return "\n".join(sentences[index] for index in sorted(chosen))


# --- the provider ------------------------------------------------------------------------------------------------------------


def provider(settings: Any, env: Mapping[str, str]) -> Provider:  # noqa: ARG001 - every provider module has this signature
    """Return the offline provider. It costs nothing and needs neither settings nor the environment."""
    free = Price("0", "0", "0", "0", basis="offline")
    quirks = frozenset({"native_only"})  # it writes no text protocol
    return Provider("offline", "offline", answer=answer, quirks=quirks, capabilities=Capabilities(streaming=False), price=free)


def _whole(result: ToolResult) -> str:
    """Return all of a result: its text for a model is capped, its value is not."""
    return result.value if isinstance(result.value, str) else result.text


def answer(ask: Ask) -> Reply:
    """Return the next call, or the answer, for a conversation.

    Raises:
        DeniedError: a call was denied by policy.
        Failed: a call failed.
        ConfigError: a reply schema is asked for that only a model can meet.
    """
    request, results = _turn(ask.messages)
    instruction, materials = split(request)
    material = "\n".join(_chomped(text) for _, text in materials) if materials else None
    todo = plan(
        instruction,
        material,
        _offered(ask),
        frozenset(name for origin, _ in materials for name in (origin, origin.rpartition("/")[2])),
    )
    if not todo.steps and material is None and (_SUMMARY.search(instruction) or _QUESTION.search(instruction.strip())):
        todo = Plan(tuple(_reader(_hold(instruction[:MAX_REQUEST]), _offered(ask))), extracts=True)
    _check(results)
    if ask.schema is not None:
        _meets(ask.schema, todo)
    if len(results) < len(todo.steps):
        return _call(todo.steps[len(results)], results, material, instruction)
    if todo.steps and not todo.extracts:
        return _final(_results(todo, results, ask), ask, results[len(todo.steps) - 1].value)
    read = _whole(results[0]) if todo.steps else material or ""
    return _final(extract(instruction, read) or NOTICE, ask, None)


def _chomped(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")


def _turn(messages: Sequence[Message]) -> tuple[str, list[ToolResult]]:
    """Return the last user message's text, and the results that came after it."""
    results: list[ToolResult] = []
    for message in reversed(messages):
        if message.role == "user":
            return message.text, results
        results[:0] = [part for part in message.parts if isinstance(part, ToolResult)]
    return "", results


def _offered(ask: Ask) -> Sequence[Tool]:
    if ask.tools is None or ask.tool_choice == "none":
        return ()
    named = [tool for tool in ask.tools.tools if tool.name == ask.tool_choice]
    return named or ask.tools.tools


def _check(results: Sequence[ToolResult]) -> None:
    for result in results:
        if result.error == "denied":
            raise DeniedError(result.text)
        if result.error is not None:
            raise Failed(f"{result.name}: {result.text}")


def _call(step: Step, results: Sequence[ToolResult], material: str | None, instruction: str) -> Reply:
    previous = _whole(results[step.uses]) if step.uses is not None and step.uses < len(results) else material
    if step.uses is not None and material is not None and _NUMERAL.fullmatch(previous or ""):
        previous = material  # "count the words, then reverse it": the text is meant, not its count
    arguments = {name: previous if value is PREVIOUS else value for name, value in step.arguments.items()}
    from hashlib import blake2b

    seed = blake2b(instruction.encode("utf-8", "replace"), digest_size=4).hexdigest()
    call = ToolCall(f"call_{seed}_{len(results) + 1}", step.tool.name, arguments)
    return Reply(assistant("", (call,)), "tool_calls", Usage(0, 0), "offline")


def _results(todo: Plan, results: Sequence[ToolResult], ask: Ask) -> str:
    """Return the results that no later step took in, one a line, and what could not be done."""
    consumed = {step.uses for step in todo.steps if step.uses is not None and not _NUMERAL.fullmatch(results[step.uses].text)}
    shown = [_whole(result) for index, result in enumerate(results[: len(todo.steps)]) if index not in consumed]
    if ask.schema is None:
        shown += [f"(not done, this needs a model: {clause})" for clause in todo.undone]
    return "\n".join(shown)


def _final(text: str, ask: Ask, value: Any) -> Reply:
    if ask.schema is not None:
        text = _structured(ask.schema, text, value)
    return Reply(assistant(text), "final", Usage(0, 0), "offline")


# --- reply schemas -----------------------------------------------------------------------------------------------------------


def _needs_model() -> ConfigError:
    return ConfigError("a structured reply to this request needs a model, and none is set up", hint=SET_UP)


def _meets(schema: Mapping[str, Any], todo: Plan) -> None:
    """Raise before any tool runs when the schema is out of reach."""
    if _sole(schema) is not None:
        return
    output = getattr(todo.steps[-1].tool, "output", None) if todo.steps else None
    if not isinstance(output, dict) or not set(schema.get("required") or ()) <= set(output.get("properties") or ()):
        raise _needs_model()


def _sole(schema: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return name and type of the only field a schema requires, if it is a plain one."""
    properties, required = schema.get("properties") or {}, schema.get("required") or []
    if len(required) != 1 or required[0] not in properties:
        return None
    kind = properties[required[0]].get("type")
    return (required[0], kind) if kind in {"string", "integer", "number"} and not properties[required[0]].get("enum") else None


def _structured(schema: Mapping[str, Any], text: str, value: Any) -> str:
    from agent_providers.wire import dumps

    if isinstance(value, dict) and set(schema.get("required") or ()) <= set(value):
        return dumps(value).decode()
    sole = _sole(schema)
    if sole is None or text == NOTICE:
        raise _needs_model()
    name, kind = sole
    filled = text if kind == "string" else _as({"type": kind}, text.strip())
    if filled is None:
        raise _needs_model()
    return dumps({name: filled}).decode()
