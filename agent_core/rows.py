"""rows - row mode: one run for each line (`--lines`) or record (`--records`) of stdin, `--jobs N` at a time.

Output comes in the order of the input. A row that fails costs one line on stderr and status 4 at the end; the others go on. What
is done is kept, so the same command with `--resume last` runs only the rows that are missing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent_core import asking, records, stdin
from agent_core.errors import AgentError, Cancelled, InputError, Interrupt, LimitError, MissingInput, UpstreamError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from agent_core.agent import RunResult
    from agent_core.cli import Command
    from agent_core.config import Settings
    from agent_core.messages import Image


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its number from 1, its name, its text; `problem` where it is not usable; `provenance` of a stage's record."""

    number: int
    subject: str
    text: str
    problem: AgentError | None = None
    provenance: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a row came to: `data` of its record, and the error if it failed."""

    data: Mapping[str, Any]
    error: AgentError | None = None


class Kept:
    """The rows that are done, one JSON line each, in a file named by everything that decides about the answers."""

    def __init__(self, command: Command, materials: Sequence[tuple[str, str]] = ()) -> None:
        """Find the file; read it only if the command resumes."""
        settings = command.settings
        parts = [command.agent.name, command.agent.version, *command.words, settings.provider, settings.model, settings.system]
        parts += [text for _, text in materials]
        name = hashlib.sha256(json.dumps(parts).encode("utf-8", "replace")).hexdigest()[:32]
        self._path = f"{settings.data_dir}/rows/{name}.jsonl"
        self.found = dict(self._read()) if command.flag("resume") else {}
        self._file: Any = None
        self._fresh = not command.flag("resume")

    def _read(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        try:
            with open(self._path, encoding="utf-8") as file:  # noqa: PTH123 - no pathlib on this path
                for line in file:
                    row = records.loads(line.encode())
                    if isinstance(row, dict) and isinstance(row.get("data"), dict):
                        yield str(row.get("key")), row["data"]
        except OSError:
            return

    def put(self, key: str, data: Mapping[str, Any]) -> None:
        """Keep a finished row. A disk that cannot be written costs the ability to resume, not the answer."""
        try:
            if self._file is None:
                os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (os.O_TRUNC if self._fresh else 0)
                self._file = os.open(self._path, flags, 0o600)
            os.write(self._file, json.dumps({"key": key, "data": data}, default=str).encode() + b"\n")
        except OSError:
            self._file = None

    def close(self, *, complete: bool) -> None:
        """Let go; forget everything once all rows are done."""
        if self._file is not None:
            os.close(self._file)
        if complete:
            try:
                os.unlink(self._path)  # noqa: PTH108
            except OSError:
                return


def run(command: Command) -> int:
    """Run all rows and return the status: 0, or 4 if some failed."""
    settings = replace(asking.settings_of(command), stream=False)
    materials, images = asking.given(command)
    work = _worker(command, settings, materials, images)
    kept = Kept(command, materials)
    totals = _Totals(command)
    done = False
    try:
        for row, outcome in _ordered(command, settings.jobs, lambda row: _one(kept, row, work)):
            totals.add(row, outcome.data, outcome.error)
        done = True
    finally:
        kept.close(complete=done and not totals.failed)
    return totals.finish()


def _key(row: Row) -> str:
    return f"{row.number}:{hashlib.sha256(row.text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _ordered(command: Command, jobs: int, work: Callable[[Row], Outcome]) -> Iterator[tuple[Row, Outcome]]:
    """Yield what each row came to, in order; a bounded number of rows is read ahead."""
    if jobs == 1:
        for row in rows(command):
            yield row, work(row)
        return
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(jobs)
    waiting: deque[tuple[Row, Any]] = deque()
    try:
        for row in rows(command):
            waiting.append((row, pool.submit(work, row)))
            while waiting and (len(waiting) >= jobs * 4 or waiting[0][1].done()):
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _one(kept: Kept, row: Row, work: Callable[[Row], RunResult]) -> Outcome:
    known = kept.found.get(_key(row))
    if known is not None:
        return Outcome(known)
    try:
        if row.problem is not None:
            raise row.problem
        result = work(row)
    except AgentError as error:
        return Outcome(records.failure_data(error, error.status, "error"), error)
    if isinstance(result.error, Cancelled):
        raise Interrupt(result.status)
    data = records.result_data(result)
    if result.error is None:
        kept.put(_key(row), data)
    return Outcome(data, result.error)


def _worker(
    command: Command, settings: Settings, materials: Sequence[tuple[str, str]], images: Sequence[Image]
) -> Callable[[Row], RunResult]:
    """Return what makes a row into a result; tool, providers and keys are looked up once for all rows, files read once."""
    from agent_core.agent import Job, execute, execute_tool

    agent = command.agent
    if command.flag("tool") is not None:
        if command.flag("file") or command.words:
            raise UsageError("with --tool each row is the tool's input", hint="drop the words and files")
        tool = asking.tool_of(command)
        return lambda row: asking.whole(execute_tool(agent, tool.name, tool.from_text(row.text), settings))
    providers = asking.providers(command, settings)
    words, trace = " ".join(command.words), command.out.source().traceparent

    def ask(row: Row) -> RunResult:
        texts = (("row", row.text), *materials) if words else tuple(materials)
        asked = asking.Asked(words or row.text, texts, images=tuple(images))
        sources = (*row.provenance, *asked.provenance)
        job = Job(asked.message, provenance=sources, traceparent=trace, subject=row.subject, command=command.chosen)
        return execute(agent, job, settings, providers=providers)

    return ask


class _Totals:
    """What the rows come to together; prints each as it is due."""

    def __init__(self, command: Command) -> None:
        self._command, self._out = command, command.out
        self._costs: list[str | None] = []
        self._rows: list[Mapping[str, Any]] = []
        self._labels: list[Mapping[str, Any]] = []
        self.count = self.failed = 0

    def add(self, row: Row, data: Mapping[str, Any], error: AgentError | None) -> None:
        """Count and print one row."""
        self.count += 1
        self.failed += error is not None
        usage = data.get("usage")
        self._labels = self._labels or records.hidden_labels(data.get("provenance") or ())
        self._costs.append(usage.get("cost_usd") if isinstance(usage, dict) else None)
        if error is not None:
            self._out.say(f"{row.subject}: {error.line()}")
        if self._out.mode == "jsonl":
            self._out.record("item", data, row.subject)
        elif self._out.mode == "json":
            self._rows.append({"subject": row.subject, **data})
        elif error is None:
            self._out.text(str(data["output"]))

    def finish(self) -> int:
        """Write the terminal record; return the status."""
        if not self.count:
            raise MissingInput("no rows: stdin was empty", hint="did the stage before fail?")
        error = _some_failed(self.failed, self.count)
        if self._out.mode != "text":
            data = records.plain_data("", {"rows": self._rows} if self._out.mode == "json" else None)
            cost = records.add_money(*self._costs)
            data["usage"]["cost_usd"] = cost
            data["provenance"] += self._labels
            data |= {"total": {"cost_usd": cost, "stages": 1}, "rows": {"total": self.count, "failed": self.failed}}
            if error is not None:
                data |= {"status": "error", "exit": 4, "isError": True, "stop": "error", "error": records.error_data(error)}
            self._out.finish(data)
        if error is not None:
            self._out.say(error.line())
        return 0 if error is None else error.status


def _some_failed(failed: int, count: int) -> AgentError | None:
    if not failed:
        return None
    error = LimitError(f"{failed} of {count} rows failed", hint="--resume last runs only what is missing")
    error.code = "rows_failed"
    return error


def rows(command: Command) -> Iterator[Row]:
    """Yield the rows of stdin as they arrive. UpstreamError if they are records of a stage that was cut off."""
    needed = replace(asking.rules(command, instruction=False), stdin="required")
    if not stdin.wanted(needed):
        raise MissingInput("row mode reads stdin", hint="pipe rows in")
    reader = _Records() if command.flag("records") else None
    for number, line in enumerate(_lines(stdin.chunks(needed)), 1):
        if line.strip():
            row = reader.row(number, line) if reader else Row(number, f"row-{number}", stdin.text_of(line))
            if row is not None:
                yield row
    if reader is not None and reader.open and command.settings.on_upstream_error == "fail":
        error = UpstreamError("the stage before was cut off: no terminal record", hint="see its stderr, or --on-upstream-error")
        error.code = "upstream_truncated"
        raise error


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r")
    if rest:
        yield rest.removesuffix(b"\r")


class _Records:
    """Makes rows of JSON objects; of the records of a stage before, items and single results are rows."""

    def __init__(self) -> None:
        self.open = False

    def row(self, number: int, line: bytes) -> Row | None:
        """Return the row of a line, or None if it is none."""
        made = records.loads(line)
        if not isinstance(made, dict):
            return Row(number, f"row-{number}", "", InputError("not a JSON object", hint="--lines takes text"))
        if made.get("agentpipe") != "1":
            return Row(number, str(made.get("subject") or made.get("id") or f"row-{number}")[:120], stdin.text_of(line))
        return self._record(number, made)

    def _record(self, number: int, made: Mapping[str, Any]) -> Row | None:
        kind, data = made.get("type"), made.get("data")
        ends = kind == "agentpipe.result"
        self.open = not ends
        if not isinstance(data, dict) or kind not in {"agentpipe.item", "agentpipe.result"} or (ends and "rows" in data):
            return None
        subject = str(made.get("subject") or f"row-{number}")[:120]
        if data.get("isError"):
            return Row(number, subject, "", UpstreamError("the stage before failed on this row"))
        try:
            return Row(number, subject, records.content(data), provenance=records.chain([made]))
        except AgentError as error:
            return Row(number, subject, "", error)
