"""compose - shell pipelines of registered agents: made from a task or from names, and checked before anything is spent.

    composed("translate and summarise a document", candidates, n=2)      stages that do it, in an order that fits
    parsed("text-processor sort | code-reviewer")                        the stages of a pipeline, as a shell would read them
    verdict(stages, found)                                               why it does not fit, or "" and what it needs

Nothing here runs anything. Two stages fit when the second reads stdin, some media type of the first's output is one that the second
reads (JSON and every text/* are text), and the first's output schema is not known to lack what the second's input requires.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent_core.catalogue import NAME
from agent_core.errors import UsageError
from agent_plugins.discovery import match
from agent_plugins.discovery.match import Query

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from agent_plugins.discovery.match import Candidate

MOST = 20
GENERAL = "general"
_CLAUSE = re.compile(r"\s*(?:[,;]|\band then\b|\bthen\b|\band\b)\s*", re.IGNORECASE)
_TEXTUAL = ("text/", "application/json", "application/x-ndjson", "application/xml", "application/sarif+json")
_PERMUTED = 5
_OPERATORS = "|&;<>()"
# Quoted or escaped pieces of a command line, and the runs between them.
_QUOTED = re.compile(r"""'[^']*'|"(?:[^"\\]|\\.)*"|\\.|[^'"\\]+""", re.DOTALL)
_VEIL = {ord(sign): 0xE000 + place for place, sign in enumerate(_OPERATORS)}
_UNVEIL = {code: chr(sign) for sign, code in _VEIL.items()}


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a pipeline: the command's name, its arguments, what it is (None: not registered), the score it was chosen by."""

    name: str
    arguments: tuple[str, ...] = ()
    candidate: Candidate | None = None
    score: float | None = None

    @property
    def card(self) -> Mapping[str, Any]:
        """The card, or an empty one."""
        entry = self.candidate.entry if self.candidate is not None else None
        return entry.card if entry is not None else {}

    @property
    def stdin(self) -> str:
        """What it does with stdin: required, optional or none."""
        return str(self.card.get("stdin", "optional"))


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Stages, the file that the first reads and the last writes ("" for none), and what is to be known of how it was composed."""

    stages: tuple[Stage, ...]
    source: str = ""
    target: str = ""
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Return it as a shell reads it."""
        import shlex

        text = " | ".join(shlex.join([stage.name, *stage.arguments]) for stage in self.stages)
        redirected = f" < {shlex.quote(self.source)}" if self.source else ""
        return text.replace(" |", f"{redirected} |", 1) if redirected and " | " in text else text + redirected


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a pipeline fits: the reason why not ("" if it does), and what a person should know."""

    reason: str = ""
    notes: tuple[str, ...] = ()


# -- checking ----------------------------------------------------------------------------------------------------------------------


def parsed(text: str, found: Mapping[str, Candidate]) -> Pipeline:
    """Return the stages of a simple pipeline: `a x | b < file` and nothing else that a shell knows. It is only read.

    Raises:
        UsageError: it is no such pipeline.
    """
    stages: list[Stage] = []
    source = target = ""
    pieces = list(_pieces(_tokens(text)))
    for place, piece in enumerate(pieces):
        words, source_here, target_here = _redirected(piece)
        if not words:
            raise UsageError("a stage of the pipeline is empty", hint="agent-find check 'a | b | c'")
        if (source_here and place) or (target_here and place != len(pieces) - 1):
            raise UsageError(
                "only the first stage may read a file and only the last may write one", hint="agent-find check 'a < f | b'"
            )
        source, target = source or source_here, target or target_here
        stages.append(Stage(words[0], tuple(words[1:]), found.get(words[0])))
    if len(stages) > MOST:
        raise UsageError(f"a pipeline of {len(stages)} stages is too long", hint=f"at most {MOST}")
    return Pipeline(tuple(stages), source, target)


def _tokens(text: str) -> list[str]:
    """Return the words and operators of a command line; operators get a NUL in front, so that a quoted one is a word."""
    import shlex

    if "\n" in text.strip() or "\0" in text:
        raise UsageError("a pipeline is one line", hint="agent-find check 'a | b | c'")
    reader = shlex.shlex(_QUOTED.sub(_veiled, text), posix=True, punctuation_chars="|&;<>()")
    reader.whitespace_split = True
    reader.commenters = ""
    try:
        return [_unveiled(word) for word in reader]
    except ValueError as error:
        raise UsageError(f"the pipeline cannot be read: {str(error).lower()}", hint="agent-find check 'a | b | c'") from None


def _veiled(match: re.Match[str]) -> str:
    """Return a piece of a command line, its operators in disguise if it is quoted. UsageError for what a shell would replace."""
    if not match[0].startswith(("'", "\\")) and ("`" in match[0] or "$(" in match[0]):
        raise UsageError("only a simple pipeline can be checked, without `…` and $(…)", hint="agent-find check 'a | b | c'")
    return match[0].translate(_VEIL) if match[0].startswith(("'", '"', "\\")) else match[0]


def _unveiled(word: str) -> str:
    operator = bool(word) and set(word) <= set(_OPERATORS)
    return f"\0{word}" if operator else word.translate(_UNVEIL)


def _pieces(tokens: Sequence[str]) -> Iterator[list[str]]:
    words: list[str] = []
    for each in tokens:
        if each == "\0|":
            yield words
            words = []
        elif each.startswith("\0") and each not in {"\0<", "\0>"}:
            raise UsageError(f"only a simple pipeline can be checked, not {each[1:]!r}", hint="agent-find check 'a | b | c'")
        else:
            words.append(each)
    yield words


def _redirected(words: list[str]) -> tuple[list[str], str, str]:
    """Return the words without redirections, and the files read and written."""
    rest, files = [], {"\0<": "", "\0>": ""}
    left = iter(words)
    for word in left:
        if word not in files:
            rest.append(word)
            continue
        file = next(left, "\0")
        if file.startswith("\0") or files[word]:
            raise UsageError(f"{word[1:]} needs one file", hint="agent-find check 'a < f | b'")
        files[word] = file
    return rest, files["\0<"], files["\0>"]


def verdict(pipeline: Pipeline) -> Verdict:
    """Return whether the stages exist and fit together."""
    for stage in pipeline.stages:
        reason = _missing(stage)
        if reason:
            return Verdict(reason)
    for before, after in zip(pipeline.stages, pipeline.stages[1:], strict=False):
        reason = misfit(before, after)
        if reason:
            return Verdict(reason)
    first = pipeline.stages[0]
    if first.stdin == "none" and pipeline.source:
        return Verdict(f"{first.name} does not read stdin")
    needs = first.stdin == "required" and not pipeline.source
    return Verdict(notes=(f"{first.name} needs input: add < FILE or a stage before it",) if needs else ())


def _missing(stage: Stage) -> str:
    if not NAME.fullmatch(stage.name):
        return f"{stage.name[:80]!r} is no name of an agent (register a path first: agent-find adopt PROGRAM)"
    if stage.candidate is None:
        return f"{stage.name} is not registered (agent-find adopt {stage.name})"
    if stage.candidate.kind == "skill":
        return f"{stage.name} is a skill, no program"
    if stage.candidate.health in {"unhealthy", "unknown"}:
        return f"{stage.name} cannot be run: {stage.candidate.health}"
    return ""


def misfit(before: Stage, after: Stage) -> str:
    """Return why one stage's output is not what the next one reads; "" when nothing speaks against it."""
    if after.stdin == "none":
        return f"{after.name} does not read stdin, so nothing of {before.name} reaches it"
    given, taken = _types(before, "output_media_types"), _types(after, "input_media_types")
    if not any(_reads(reader, written) for written in given for reader in taken):
        return f"{before.name} writes {', '.join(given)}, {after.name} reads {', '.join(taken)}"
    schema = _material(after.card.get("input_schema"))
    reason = lacking(before.card.get("output_schema"), schema)
    return f"{before.name} writes {reason} for {after.name}" if reason else ""


def _types(stage: Stage, field: str) -> tuple[str, ...]:
    return tuple(stage.card.get(field) or ("text/plain",))


def _reads(reader: str, written: str) -> bool:
    """Return whether a reader of one media type can read another: the same, a wildcard, or any text for text/plain."""
    one, other = (each.partition(";")[0].strip().lower() for each in (reader, written))
    kind, _, rest = one.partition("/")
    return (
        one in {other, "*/*"}
        or (rest == "*" and other.startswith(f"{kind}/"))
        or (one == "text/plain" and other.startswith(_TEXTUAL))
    )


def _material(schema: Any) -> Any:
    """Return the schema of what an agent reads from stdin: its parameter `input`, else `stdin`, else anything."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return None
    return properties.get("input", properties.get("stdin"))


def lacking(given: Any, wanted: Any) -> str:
    """Return what an output schema is known to lack of an input schema, as in "no title (string)"; "" for nothing.

    Text reads everything. Only what both say plainly is compared: types, required properties, their types.
    """
    if not isinstance(given, dict) or not isinstance(wanted, dict):
        return ""
    kinds, needed = _kinds(given), _kinds(wanted)
    if "string" in needed or not kinds or not needed:
        return ""
    if not kinds & needed and not ("integer" in kinds and "number" in needed):
        return f"{'/'.join(sorted(kinds))}, not the {'/'.join(sorted(needed))} needed"
    offered = given.get("properties")
    if not isinstance(offered, dict):
        return ""
    return next((reason for name in _required(wanted) if (reason := _lack(name, offered, wanted))), "")


def _required(schema: Mapping[str, Any]) -> list[str]:
    required = schema.get("required")
    return [name for name in required if isinstance(name, str)] if isinstance(required, list) else []


def _lack(name: str, offered: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    properties = wanted.get("properties")
    one = properties.get(name) if isinstance(properties, dict) else None
    if name not in offered:
        return f"no {name}"
    reason = lacking(offered[name], one)
    return f"{name} as {reason}" if reason else ""


def _kinds(schema: Mapping[str, Any]) -> set[str]:
    kind = schema.get("type")
    return (
        {kind} if isinstance(kind, str) else {each for each in kind if isinstance(each, str)} if isinstance(kind, list) else set()
    )


# -- composing ---------------------------------------------------------------------------------------------------------------------


def composed(task: str, candidates: Iterable[Candidate], n: int = 3) -> tuple[Pipeline | None, str]:
    """Return a pipeline of at most `n` stages for a task, and why there is none.

    A task of registered names is those, in that order. Else each part of the task (at `and`, `then`, commas) gets the candidate
    that answers it best; if that is one for all of it, the best `n` for the whole task are taken. They stand in the order of the
    task if that fits, else in the first order that does.
    """
    usable = [
        each for each in candidates if each.kind != "skill" and each.entry is not None and match.HEALTH.get(each.health, 0.0) > 0
    ]
    by_name = {each.name: each for each in usable}
    words = task.replace("|", " ").split()
    if len(words) > 1 and all(word in by_name for word in words):
        pipeline = Pipeline(tuple(Stage(word, (), by_name[word]) for word in words[:MOST]))
        return pipeline, verdict(pipeline).reason
    stages, notes = _by_parts(task, usable, n)
    if len(stages) < 2:
        stages = _by_whole(task, usable, n)
    if not stages:
        return None, "nothing registered answers that task (agent-find list shows what there is)"
    pipeline, reason = _ordered(stages)
    return replace(pipeline, notes=notes), reason


def _by_parts(task: str, usable: Sequence[Candidate], n: int) -> tuple[list[Stage], tuple[str, ...]]:
    """Return one stage for each part of the task, and notes on parts that nobody answers.

    Such a part falls to an agent that says it is for everything (tag `general`), if somebody answers another part.
    """
    parts = [part.strip() for part in _CLAUSE.split(task) if match.words(part)]
    found = [next(iter(match.rank(usable, Query(part), 1)), None) for part in parts]
    general = next((each for each in usable if GENERAL in each.tags), None) if any(found) else None
    stages: dict[str, Stage] = {}
    notes: list[str] = []
    for part, best in zip(parts, found, strict=True):
        candidate = best.candidate if best is not None else general
        if best is None:
            notes.append(f"no agent is for {part!r}" + (f": {general.name} gets it" if general is not None else ""))
        if candidate is not None and len(stages) < n:
            stages.setdefault(candidate.name, _stage(candidate, part, best.score if best is not None else None))
    return list(stages.values()), tuple(notes) if any(found) else ()


def _by_whole(task: str, usable: Sequence[Candidate], n: int) -> list[Stage]:
    best = match.rank(usable, Query(task), n) if match.words(task) else []
    return [_stage(made.candidate, task.strip(), made.score) for made in best]


def _stage(candidate: Candidate, instruction: str, score: float | None) -> Stage:
    """Return a stage; an agent that may do without stdin is told what to do, for the pipe would be its instruction otherwise."""
    told = candidate.kind == "agent" and Stage("", (), candidate).stdin == "optional"
    return Stage(candidate.name, (_word(instruction),) if told else (), candidate, score)


def _word(instruction: str) -> str:
    """Return an instruction as one argument that no program takes for an option."""
    return " ".join(instruction.split()).lstrip("-") or "go"


def _ordered(stages: Sequence[Stage]) -> tuple[Pipeline, str]:
    """Return the stages in the first order that fits; without one, the reason that the given order does not."""
    import itertools

    given = Pipeline(tuple(stages))
    reason = verdict(given).reason
    if not reason or len(stages) > _PERMUTED:
        return given, reason
    orders = (Pipeline(order) for order in itertools.permutations(stages))
    fitting = next((pipeline for pipeline in orders if not verdict(pipeline).reason), None)
    return (fitting, "") if fitting is not None else (given, reason)


def graph(pipeline: Pipeline) -> dict[str, Any]:
    """Return a pipeline as {nodes, edges}: what `--json` shows and a graph file can be made from."""
    nodes = [
        {
            "id": f"s{at}", "name": stage.name, "args": list(stage.arguments), "stdin": stage.stdin, "score": stage.score,
            "output_media_types": list(_types(stage, "output_media_types")),
        }
        for at, stage in enumerate(pipeline.stages, 1)
    ]  # fmt: skip
    edges = [{"from": f"s{at}", "to": f"s{at + 1}"} for at in range(1, len(nodes))]
    return {"nodes": nodes, "edges": edges}
