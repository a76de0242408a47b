"""ballot - answers and the votes on them, read from JSON lines. Pure; `counting` counts them; see agents/agent_vote.py.

{"answer": "plan-a", "by": "ann", "output": "Buy it."}               an answer: id, who gave it, its text
{"voter": "bob", "answer": "plan-a", "vote": "approve"}              approve 1, reject 0, abstain, veto, or a number 0.0 to 1.0
{"agentpipe": "1", "type": "agentpipe.result", "source": "agent:ann@0.1.0", …}     an answer by the agent `ann`
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent_core.errors import InputError, MissingInput, UpstreamError
from agent_patterns.reduce import free

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

WORDS = {"approve": 1.0, "reject": 0.0, "abstain": None, "veto": None}
_HINT = 'answers: {"answer","by","output"}; votes: {"voter","answer","vote"}; or agentpipe records'


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer that may win: its id, who gave it, its text, and the number of the line it stood on."""

    id: str
    by: tuple[str, ...]
    output: str
    line: int = 0


@dataclass(frozen=True, slots=True)
class Vote:
    """One vote. `kind` is approve, reject, abstain, veto or score; `value` is 0.0 to 1.0, None for abstain and veto."""

    voter: str
    answer: str
    kind: str
    value: float | None = None
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Ballot:
    """Answers in their order and the votes on them."""

    answers: tuple[Entry, ...] = ()
    votes: tuple[Vote, ...] = ()


@dataclass(slots=True)
class _Reading:
    """What has been read so far."""

    text_of: Callable[[Mapping[str, Any]], str]
    policy: str
    answers: dict[str, Entry] = field(default_factory=dict)
    votes: list[Vote] = field(default_factory=list)
    open_streams: int = 0


def output_of(data: Mapping[str, Any]) -> str:
    """Return the output of a record's `data`."""
    return str(data.get("output") or "")


def expanded(lines: Iterable[bytes], text_of: Callable[[Mapping[str, Any]], str] = output_of) -> list[bytes]:
    """Return the lines with each record of agent-novel replaced by its output: the lines that it kept."""
    made: list[bytes] = []
    for line in lines:
        row = _json(line) if b'"agent:agent-novel@' in line and b'"agentpipe.result"' in line else None
        data = row.get("data") if isinstance(row, dict) and agent_of(row) == "agent-novel" else None
        if isinstance(data, dict) and not _failed(data):
            made += text_of(data).encode("utf-8", "surrogatepass").splitlines()
        else:
            made.append(line)
    return made


def read(lines: Iterable[str | bytes], policy: str = "fail", text_of: Callable[[Mapping[str, Any]], str] = output_of) -> Ballot:
    """Return the ballot that JSON lines hold.

    Args:
        lines: the lines; blank ones are skipped.
        policy: what a failed stage among agentpipe records means: fail, skip (leave it out) or use-partial (take what it had).
        text_of: the text of a record's `data` (a caller that may read files looks up blobs here).

    Raises:
        MissingInput: every line is blank.
        InputError: a line is none of the three forms; its number is named.
        UpstreamError: a stage failed or was cut off, and `policy` is fail.
    """
    reading = _Reading(text_of, policy)
    filled = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not filled:
        raise MissingInput("no input: there is no line with an answer", hint="did the stage before fail?")
    for number, line in filled:
        _take(_object(line, number), number, reading)
    if reading.open_streams > 0 and policy == "fail":
        error = UpstreamError("a stage before was cut off: no terminal record", hint="see its stderr, or --on-upstream-error")
        error.code = "upstream_truncated"
        raise error
    return Ballot(tuple(reading.answers.values()), tuple(reading.votes))


def _object(line: str | bytes, number: int) -> dict[str, Any]:
    found = _json(line)
    if not isinstance(found, dict):
        raise _bad(number, "is no JSON object")
    return found


def _json(line: str | bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _bad(number: int, why: str) -> InputError:
    return InputError(f"line {number} of stdin {why}", hint=_HINT)


def _take(row: dict[str, Any], number: int, reading: _Reading) -> None:
    if row.get("agentpipe") == "1":
        _record(row, number, reading)
    elif "voter" in row or "vote" in row:
        reading.votes.append(_vote(row, number))
    elif "output" in row and ("answer" in row or "by" in row):
        by = _word(row, "by", number, "")
        said = row.get("said_by")
        names = tuple(str(each) for each in said) if isinstance(said, list) and said else ((by,) if by else ())
        if not isinstance(row["output"], str):
            raise _bad(number, "has an output that is no text")
        _add(_word(row, "answer", number, by), names, row["output"], number, reading)
    else:
        raise _bad(number, "is neither an answer nor a vote")


def _add(name: str, by: tuple[str, ...], output: str, number: int, reading: _Reading) -> None:
    if name in reading.answers:
        raise _bad(number, f"has the answer {name[:80]!r} a second time")
    reading.answers[name] = Entry(name, by, output, number)


def _word(row: Mapping[str, Any], key: str, number: int, default: str | None = None) -> str:
    value = row.get(key, default)
    if isinstance(value, bool) or not isinstance(value, str | int) or (value == "" and default is None):
        raise _bad(number, f"has no {key} that is a name")
    return str(value)


def _vote(row: Mapping[str, Any], number: int) -> Vote:
    voter, answer = _word(row, "voter", number), _word(row, "answer", number)
    vote, comment = row.get("vote"), str(row.get("comment") or "")
    if isinstance(vote, str) and vote.lower() in WORDS:
        return Vote(voter, answer, vote.lower(), WORDS[vote.lower()], comment)
    if isinstance(vote, int | float) and not isinstance(vote, bool) and 0 <= vote <= 1:
        return Vote(voter, answer, "score", float(vote), comment)
    raise _bad(number, "has a vote that is neither approve, reject, abstain, veto nor a number from 0 to 1")


def _record(row: Mapping[str, Any], number: int, reading: _Reading) -> None:
    kind, data = str(row.get("type", "")).removeprefix("agentpipe."), row.get("data")
    # a single --json record has no `started` before it
    reading.open_streams = max(0, reading.open_streams + (kind == "started") - (kind == "result"))
    if kind not in {"result", "item"} or not isinstance(data, dict):
        return
    agent = agent_of(row)
    if _failed(data):
        if reading.policy == "fail":
            error = data.get("error")
            what = str(error.get("detail") or error.get("code")) if isinstance(error, dict) else f"status {data.get('exit')}"
            raise UpstreamError(f"{agent} failed: {what[:300]}", hint="see --on-upstream-error")
        if reading.policy == "skip" or not reading.text_of(data):
            return
    text = reading.text_of(data)
    said = data.get("said_by")
    names = tuple(str(each) for each in said) if isinstance(said, list) and said else (agent,)
    _add(free(agent, reading.answers), names, text, number, reading)


def agent_of(row: Mapping[str, Any]) -> str:
    """Return the name of the agent that wrote a record: `ann` for the source `agent:ann@0.1.0`."""
    return str(row.get("source", "")).removeprefix("agent:").partition("@")[0] or "unknown"


def _failed(data: Mapping[str, Any]) -> bool:
    return bool(data.get("isError")) or data.get("exit", 0) not in (0, 3)
