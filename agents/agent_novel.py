r"""agent-novel - keep the answers that say something new. A filter that compares words and numbers, without a model.

    $ printf '%s\n' '{"answer": "a", "by": "ann", "output": "The price is $500,000."}' \
    >   '{"answer": "b", "by": "bob", "output": "Price: $500K"}' '{"answer": "c", "by": "cid", "output": "Ask the tenants."}' |
    >   agent-novel -q | jq -r .by
    ann
    cid

It reads what agent-vote reads: JSON lines with answers, votes and agentpipe records. An answer that is too much like an earlier one
is dropped; all other lines pass as they are. The agents of dropped answers that score 0 are added to the one they repeat as
"said_by", so that agent-vote still counts them:

    (a --json < q; b --json < q; c --json < q) | agent-novel --min 0.3 | agent-vote --quorum 3

The score is 1 - similarity to the most similar kept answer: 0 for a copy, 1 where no word and no number is shared. Similarity is
shared features / all features, counted as often as they occur. $500,000 and $500K are the same number. --synonyms FILE is TOML,
one line a word: price = ["cost", "value"]. If every answer has an "embedding" (a list of numbers), their cosine is used instead;
--embed PROVIDER/MODEL has that model make them.

--json has for each answer novelty_score, is_novel, new_topics, redundant_topics, coverage, most_similar and suggestions, and
for all of them diversity: 1 - the mean similarity of all pairs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from agent_core import Agent
from agent_core.errors import InputError, MissingInput, UsageError
from agent_core.task import Answer
from agent_patterns import ballot, novelty
from agents.agent_vote import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent_core.cli import Command
    from agent_core.config import Settings

FORMULA = "1 - shared/(all of a + all of b - shared), features counted as often as they occur"
_LARGEST = 1024 * 1024


def novel(  # noqa: PLR0913, PLR0917 - a command's flags are its parameters
    stdin: bytes,
    command: Command,
    min_: float = 0.2,
    synonyms: str = "",
    tolerance: float = 0.01,
    topics: int = 8,
    method: Literal["auto", "lexical", "embedding"] = "auto",
) -> Answer:
    """Keep the answers on stdin that are new.

    Args:
        stdin: answers, votes and agentpipe records, one JSON object a line.
        command: the call.
        min_: the least score of an answer that is kept, 0 to 1.
        synonyms: TOML file; each line a word and those that count as it.
        tolerance: relative difference up to which two numbers are the same.
        topics: the most topics of one answer.
        method: lexical, embedding (every answer must have one), or embedding where all have one.
    """
    settings = command.settings
    if not 0 <= min_ <= 1 or not 0 <= tolerance < 1 or topics < 1:
        raise UsageError("--min is from 0 to 1, --tolerance from 0 to below 1, --topics at least 1", hint="see --help")
    lexicon = novelty.Lexicon(_synonyms(synonyms) if synonyms else {}, tolerance, topics)
    lines = ballot.expanded(stdin.splitlines(), text_of)
    entries = ballot.read(lines, settings.on_upstream_error, text_of).answers
    made = _made(entries, settings) if method != "lexical" else None
    vectors = made or _vectors(lines, entries, method)
    answers = [("+".join(entry.by) or entry.id, entry.output) for entry in entries]
    judged = novelty.judge(answers, lexicon, min_, vectors)
    for entry, one in zip(entries, judged, strict=True):
        if not one.is_novel and one.most_similar is not None:
            command.out.say(f"dropped {entry.id}: like {one.most_similar[0]} (novelty {one.score:g})")
    shown = {
        "kept": [entry.id for entry, one in zip(entries, judged, strict=True) if one.is_novel],
        "answers": [_shown(entry, one) for entry, one in zip(entries, judged, strict=True)],
        "diversity": _diversity(answers, lexicon, vectors),
        "method": "lexical" if vectors is None else "embedding",
        "embeddings": "made" if made else "absent" if vectors is None else "given",
        "formula": FORMULA if vectors is None else "1 - cosine of the embeddings",
    }
    return Answer(_kept(lines, entries, judged), shown)


def _synonyms(path: str) -> dict[str, list[str]]:
    import tomllib

    try:
        with open(path, "rb") as file:  # noqa: PTH123 - no pathlib on this path
            found = tomllib.loads(file.read(_LARGEST).decode())
    except OSError as error:
        raise MissingInput(f"cannot read {path}: {error.strerror}", hint="--synonyms names a TOML file") from None
    except ValueError as error:
        raise InputError(f"{path} is not TOML: {error}", hint='one line a word: price = ["cost", "value"]') from None
    table = found.get("synonyms", found)
    if not isinstance(table, dict):
        raise InputError(f"{path}: synonyms is no table", hint='one line a word: price = ["cost", "value"]')
    for head, words in table.items():
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise InputError(f"{path}: {head} is no list of words", hint='one line a word: price = ["cost", "value"]')
    return table


def _made(entries: Sequence[ballot.Entry], settings: Settings) -> list[Any] | None:
    """Return vectors of the answers by the model of --embed; None without one."""
    name = settings.extra.get("embed")
    if not name or not entries:
        return None
    from agent_core import choose
    from agent_plugins.memory.meaning import Embedder

    return list(Embedder(choose.embedder(name, settings), settings).vectors([entry.output for entry in entries]))


def _vectors(lines: Sequence[bytes], entries: Sequence[ballot.Entry], method: str) -> list[list[float]] | None:
    """Return the answers' embeddings if all have one and they are wanted; InputError if they are demanded and absent."""
    if method == "lexical":
        return None
    found = [json.loads(lines[entry.line - 1]).get("embedding") for entry in entries]
    good = [vector for vector in found if isinstance(vector, list) and vector and all(_finite(value) for value in vector)]
    if entries and len(good) == len(entries) and len({len(vector) for vector in good}) == 1:
        return good
    if method == "embedding":
        raise InputError(
            f"{len(entries) - len(good)} of {len(entries)} answers have no embedding of one length",
            hint='add "embedding": [numbers] to every answer, or --method lexical',
        )
    return None


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e150


def _diversity(
    answers: Sequence[tuple[str, str]], lexicon: novelty.Lexicon, vectors: Sequence[Sequence[float]] | None
) -> float | None:
    if vectors is None:
        return novelty.diversity([text for _, text in answers], lexicon)
    mean = novelty.mean_similarity(vectors, novelty.cosine)
    return None if mean is None else round(1 - mean, 4)


def _shown(entry: ballot.Entry, one: novelty.Judged) -> dict[str, Any]:
    nearest = None if one.most_similar is None else {"agent_id": one.most_similar[0], "similarity": one.most_similar[1]}
    drop, add = ", ".join(one.redundant_topics), ", ".join(one.uncovered)
    advice = [*([f"leave out what was said before: {drop}"] if drop else []), *([f"not covered here: {add}"] if add else [])]
    return {
        "answer": entry.id, "agent": one.agent, "novelty_score": one.score, "is_novel": one.is_novel,
        "new_topics": list(one.new_topics), "redundant_topics": list(one.redundant_topics), "coverage": one.coverage,
        "most_similar": nearest, "suggestions": [] if one.is_novel else advice,
    }  # fmt: skip


def _kept(lines: Sequence[bytes], entries: Sequence[ballot.Entry], judged: Sequence[novelty.Judged]) -> str:
    """Return the lines that stay: all but those of dropped answers; kept answers with who else gave them."""
    dropped = {entry.line for entry, one in zip(entries, judged, strict=True) if not one.is_novel}
    said: dict[int, list[str]] = {entry.line: list(entry.by) for entry in entries}
    for entry, one in zip(entries, judged, strict=True):
        if one.nearest is not None and one.score == 0 and not one.is_novel:
            said[entries[one.nearest].line] += entry.by or (entry.id,)
    made = []
    for number, line in enumerate(lines, 1):
        if number in dropped or not line.strip():
            continue
        names = list(dict.fromkeys(said.get(number, ())))
        made.append(_credited(line, names) if len(names) > 1 else line.decode("utf-8", "surrogateescape"))
    return "".join(f"{line}\n" for line in made)


def _credited(line: bytes, names: Sequence[str]) -> str:
    row: dict[str, Any] = json.loads(line)
    holder: Mapping[str, Any] = row["data"] if row.get("agentpipe") == "1" else row
    credited = {**holder, "said_by": list(names)}
    whole = {**row, "data": credited} if row.get("agentpipe") == "1" else credited
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))


agent = Agent(
    __doc__,
    stdin="required",
    commands=[novel],
    default="novel",
    examples=["agent-novel --synonyms words.toml < answers.jsonl", "agent-novel --json < answers.jsonl"],
    tags=["novelty", "diversity", "group", "filter"],
    when_to_use="Several agents answered and those who only repeat others are to be left out, without a model.",
)
main = agent.main

if __name__ == "__main__":
    main()
