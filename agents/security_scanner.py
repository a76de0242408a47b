"""security-scanner - find secrets and dangerous calls in files, folders and diffs, by fixed rules.

    security-scanner src deploy.yml
    git diff --cached | security-scanner --fail-on medium
    security-scanner . --sarif > findings.sarif
    security-scanner rules

Words are files and folders; stdin is a diff (of which the added lines count, with the new file's numbers) or one file's text. Of a
folder, what git would commit is read: `--ignored` reads the rest as well. Prints one finding a line, PATH:LINE:COLUMN SEVERITY RULE
MESSAGE, and a line that sums up; secrets are masked. Severities are low, medium and high.

Rules alone decide. `--explain` asks the model to say what each finding means and how to mend it; it sees masked lines only and
cannot add or remove findings, and without a model the rules' own words are printed.

A finding is accepted by a comment that names its rule and gives a reason, on its line or alone on the line above:
`# security: ignore[python-shell] the words come from our own table`; or by a baseline (--write-baseline FILE, --baseline FILE).

Status 3: with --fail-on, a finding is at least that bad. Status 4: with --fail-on, something could not be read; or the model that
--explain asked failed. Otherwise 0, whatever was found.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from agent_core import Agent
from agent_core.errors import DeadlineError, Failed, InputError, MissingInput, UsageError
from agent_core.task import Answer
from agent_plugins.scanning.tools import scan, scan_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent_core.cli import Command
    from agent_core.effects import Pattern
    from agent_core.task import Task
    from agent_plugins.scanning.engine import Options, Scan
    from agent_plugins.scanning.sources import Loaded

EXPLAIN = """You explain findings of a security scanner to the programmer who has to mend them. Each finding has an id, a rule, what
the rule is about, and a line of code in which secrets are masked. Say in one or two sentences what can go wrong here, and in one
sentence what to do here. Do not judge whether a finding is right, do not add any. Answer with one JSON object and nothing else:
{"explanations": [{"id": "F1", "explanation": "…", "fix": "…"}]}"""
EXPLAINED = 50  # findings; the worst first
LONGEST = 600  # characters of one explanation


@dataclass(frozen=True, slots=True)
class Shape:
    """What the answer is to be: from which severity on it is a no, as SARIF or not, explained or not."""

    fail_on: str = ""
    sarif: bool = False
    explain: bool = False


def check(  # noqa: PLR0913, PLR0917 - a command's flags are its parameters
    paths: list[str],
    command: Command,
    stdin: bytes = b"",
    file: tuple[str, ...] = (),
    fail_on: Literal["low", "medium", "high"] | None = None,
    sarif: bool = False,
    explain: bool = False,
    baseline: str = "",
    write_baseline: str = "",
    name: str = "",
    exclude: tuple[str, ...] = (),
    disable: tuple[str, ...] = (),
    ignored: bool = False,
    no_comments: bool = False,
    max_file: int = 10 * 1024 * 1024,
) -> Answer:
    """Scan files, folders and what comes in on stdin.

    Args:
        paths: files and folders.
        command: the call.
        stdin: a diff, or the text of one file.
        file: a file or diff to read.
        fail_on: end with status 3 when a finding is at least this bad.
        sarif: print a SARIF 2.1.0 log.
        explain: say what each finding means and how to mend it.
        baseline: a FILE of findings that are known and accepted.
        write_baseline: write all findings to FILE as the new baseline.
        name: the name of the file on stdin, which tells its language.
        exclude: leave out paths, names and folders that match (such as vendor or *.min.js).
        disable: switch a rule off.
        ignored: read what .gitignore names as well.
        no_comments: ignore comments do not accept findings.
        max_file: files in folders that are larger are not read, in bytes.
    """
    from agent_plugins.scanning import baseline as known
    from agent_plugins.scanning import engine, report

    options = engine.Options(_rules(disable), not no_comments)
    wanted = _wanted(ignored, exclude, max_file)
    given = [
        *_from_stdin(command, stdin, name, options),
        *_from_files(command, file, options),
        *_from_paths(command, paths, wanted, options),
    ]
    if not given and not paths and not file:
        raise MissingInput("nothing to scan", hint="name files or folders, or pipe a diff in")
    whole = engine.joined(given)
    if baseline:
        whole = replace(whole, findings=tuple(known.accept(whole.findings, known.read(baseline))))
    for note in (*whole.missed, *whole.notes):
        command.out.say(report.path_text(note))
    if write_baseline:
        count = known.write(write_baseline, whole.findings)
        what = "finding" if count == 1 else "findings"
        return Answer(f"{report.path_text(write_baseline)}: {count} {what}", {"baseline": write_baseline, "findings": count})
    return _answer(command, whole, Shape(fail_on or "", sarif, explain))


def rules(command: Command) -> Answer:
    """List the rules: name, severity, what they find.

    Args:
        command: the call.
    """
    from agent_plugins.scanning.rules import all_rules

    found = sorted(all_rules(), key=lambda rule: (rule.kind, rule.id))
    lines = [f"{rule.id:<26} {rule.severity:<6} {rule.message}" for rule in found]
    rows = [
        {"id": rule.id, "kind": rule.kind, "severity": rule.severity, "message": rule.message, "why": rule.why, "fix": rule.fix,
         "languages": sorted(rule.languages), "cwe": rule.cwe}
        for rule in found
    ]  # fmt: skip
    return Answer("\n".join(lines), {"rules": rows, "agent": command.agent.name})


# -- input ------------------------------------------------------------------------------------------------------------------------


def _rules(disabled: Sequence[str]) -> frozenset[str]:
    from agent_core.options import unknown
    from agent_plugins.scanning.rules import all_rules, is_rule

    for name in disabled:
        if not is_rule(name):
            raise unknown("rule", name, [rule.id for rule in all_rules()])
    return frozenset(disabled)


def _wanted(ignored: bool, exclude: Sequence[str], largest: int) -> Any:
    from agent_plugins.scanning.sources import Wanted

    if largest < 1:
        raise UsageError("--max-file is at least 1", hint="--max-file BYTES")
    return Wanted(ignored, tuple(exclude), largest)


def _from_stdin(command: Command, data: bytes, name: str, options: Options) -> Iterator[Scan]:
    if not data:
        return
    from agent_core import asking
    from agent_plugins.scanning import sources

    if sources.text_of(data) is None:
        raise InputError("stdin is binary data", hint="pipe text or a diff in")
    texts, _ = asking.read_input(command, data)
    for text in texts:
        yield _text(name or "stdin", text, options)


def _text(path: str, text: str, options: Options) -> Scan:
    """Scan a text that was named or piped: a diff by what it adds, anything else as it is."""
    from agent_plugins.scanning import diffs, engine

    return engine.scan_diff(text, options) if diffs.looks_like_diff(text) else engine.scan_text(path, text, options)


def _from_files(command: Command, names: Sequence[str], options: Options) -> Iterator[Scan]:
    for name in names:
        if name.startswith(("http://", "https://")):
            raise UsageError("--file takes no address here", hint=f"curl {name[:100]} | security-scanner")
        if name != "-":
            yield _one_file(command, name, options)


def _one_file(command: Command, path: str, options: Options) -> Scan:
    """Scan a file that was named: the name is the permission, so links and pipes are opened as well."""
    from agent_plugins.scanning import report, sources

    limit = command.settings.max_input
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - the path as given, bytes and all
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise MissingInput(f"cannot read {report.path_text(path)}: {why}", hint="name files or folders") from None
    if len(data) > limit:
        raise InputError(f"{report.path_text(path)} is larger than {limit} bytes", hint="raise --max-input")
    text = sources.text_of(data)
    return report.skipped([(path, "binary")]) if text is None else _text(path, text, options)


def _from_paths(command: Command, paths: Sequence[str], wanted: Any, options: Options) -> Iterator[Scan]:
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112 - no pathlib on this path
            yield from _folder(command, path, wanted, options)
        else:
            yield _one_file(command, path, options)


def _folder(command: Command, path: str, wanted: Any, options: Options) -> Iterator[Scan]:
    """Scan a folder that was named: the name is the permission to read beneath it, which a --deny rule narrows."""
    from agent_core.policy import Policy
    from agent_core.tool import Context, ToolError
    from agent_plugins.scanning import engine, report, sources

    here = os.getcwd()  # noqa: PTH109
    policy = Policy.of([f"file-read:{os.path.abspath(path)}"], command.settings.deny, workspace=here)  # noqa: PTH100
    context = Context(policy, here, command.deadline, command.settings)
    left: list[tuple[str, str]] = []
    try:
        for loaded in sources.folder(path, context, wanted):
            _in_time(context)
            if loaded.skipped:
                left.append((loaded.path, loaded.skipped))
            else:
                yield engine.scan_text(loaded.path, loaded.text, options, name=_below(path, loaded))
    except ToolError as error:
        raise MissingInput(f"cannot read {report.path_text(path)}: {error}", hint="name files or folders") from None
    yield report.skipped(left)


def _in_time(context: Any) -> None:
    if context.remaining(1.0) <= 0:
        raise DeadlineError("the scan took too long", hint="raise --timeout, or name smaller folders")


def _below(path: str, loaded: Loaded) -> str:
    """Return what tells language and purpose: of an absolute path only what is beneath the folder that was named."""
    return loaded.path[len(path.rstrip("/")) + 1 :] if path.startswith("/") else loaded.path


# -- called by other agents, in a conversation or as a library ---------------------------------------------------------------------


def scanned(task: Task) -> Pattern:
    """Scan the material (else the words) of a message by rules; no model is asked."""
    from agent_core.effects import Act
    from agent_core.messages import ToolCall
    from agent_core.task import split
    from agent_plugins.scanning import report

    words, materials = split(task.text)
    given = materials or [("stdin", words)]
    texts = [{"text": text, "filename": "" if origin == "stdin" else origin} for origin, text in given]
    answers = yield Act(tuple(ToolCall(f"scan_{at}", scan_text.name, each) for at, each in enumerate(texts, 1)))
    results = [part for message in answers for part in message.parts]
    failed = next((result.text for result in results if result.error is not None), "")
    if failed:
        raise Failed(f"cannot scan this: {failed}")
    whole = report.merged([result.value for result in results])
    return Answer(report.lines_of(whole), whole)


# -- output -----------------------------------------------------------------------------------------------------------------------


def _answer(command: Command, whole: Scan, shape: Shape) -> Answer:
    from agent_plugins.scanning import report

    explained, failed = _explained(command, whole) if shape.explain else ({}, False)
    status = 3 if _too_bad(whole, shape.fail_on) else 4 if failed or (shape.fail_on and whole.missed) else 0
    if shape.sarif:
        import json

        from agent_plugins.scanning import sarif

        log = sarif.log(whole, command.agent.name, command.agent.version, explained)
        return Answer(json.dumps(log, indent=1), log, status)
    return Answer(report.lines(whole, explained), report.value(whole, explained), status)


def _too_bad(whole: Scan, fail_on: str) -> bool:
    from agent_plugins.scanning.engine import worst
    from agent_plugins.scanning.rules import SEVERITIES

    found = worst(whole.findings)
    return bool(fail_on and found) and SEVERITIES.index(found) >= SEVERITIES.index(fail_on)


# -- explanations -----------------------------------------------------------------------------------------------------------------


def _explained(command: Command, whole: Scan) -> tuple[Mapping[str, Mapping[str, str]], bool]:
    """Return id -> {explanation, fix}, and whether a model was asked in vain. The rules' words stand where the model has none."""
    from agent_core import asking
    from agent_plugins.scanning import report
    from agent_plugins.scanning.rules import SEVERITIES, find_rule

    found = report.counting(whole.findings)
    own = {each.id: {"explanation": find_rule(each.rule).why, "fix": find_rule(each.rule).fix} for each in found}
    if not found:
        return {}, False
    providers = asking.providers(command, command.settings)
    if providers and providers[0].name == "offline":
        return own, False
    first = sorted(found, key=lambda each: -SEVERITIES.index(each.severity))[:EXPLAINED]
    theirs = _asked(command, [_shown(each) for each in first], providers)
    if theirs is None:
        return own, True
    return {**own, **{id_: {**own[id_], **words} for id_, words in theirs.items() if id_ in own}}, False


def _shown(finding: Any) -> dict[str, Any]:
    """Return what the model sees of a finding."""
    from agent_plugins.scanning import report
    from agent_plugins.scanning.rules import find_rule

    place = f"{report.path_text(finding.path)}:{finding.line}"
    about = find_rule(finding.rule).why
    return {"id": finding.id, "rule": finding.rule, "about": about, "severity": finding.severity, "where": place,
            "message": finding.message, "code": finding.excerpt}  # fmt: skip


def _asked(command: Command, rows: Sequence[Mapping[str, Any]], providers: Any) -> dict[str, dict[str, str]] | None:
    """Ask the model; None when it fails, which is said."""
    import json

    from agent_core import asking
    from agent_core.agent import Job, execute
    from agent_core.messages import user
    from agent_core.task import compose

    lines = "\n".join(json.dumps(row, ensure_ascii=True) for row in rows)
    message = user(compose("Explain each of these findings.", [("findings", lines)]))
    listeners, close = asking.listen(command)
    try:
        result = execute(_explainer([row["id"] for row in rows]), Job(message), command.remaining(), listeners, providers=providers)
    finally:
        close()
    if result.error is not None or not isinstance(result.structured, dict):
        command.out.say(f"explained by the rules alone: {result.error.line() if result.error else 'no answer'}")
        return None
    return {
        row["id"]: {key: _line(row[key]) for key in ("explanation", "fix") if row.get(key)}
        for row in result.structured["explanations"]
    }


def _explainer(ids: Sequence[str]) -> Agent:
    """Return the agent that explains these findings and can name no others."""
    row = {
        "type": "object",
        "properties": {
            "id": {"type": "string", "enum": list(ids)},
            "explanation": {"type": "string", "minLength": 1},
            "fix": {"type": "string"},
        },
        "required": ["id", "explanation"],
    }  # fmt: skip
    reply = {"type": "object", "properties": {"explanations": {"type": "array", "items": row}}, "required": ["explanations"]}
    return Agent(agent.doc, EXPLAIN, name=agent.name, version=agent.version, reply=reply)


def _line(text: str) -> str:
    """Return words of the model as one harmless line."""
    from agent_core import redact, terminal

    return terminal.clean(redact.redact(" ".join(text.split())), keep_newlines=False)[:LONGEST]


agent = Agent(
    __doc__,
    pattern=scanned,
    tools=[scan, scan_text],
    commands=[check, rules],
    default="check",
    examples=["git diff | security-scanner --fail-on medium", "security-scanner src --sarif", "security-scanner rules"],
    tags=["security", "secrets", "code", "review", "sarif"],
    when_to_use="Code, configuration or a diff has to be checked for secrets and dangerous calls before it is shared or merged.",
)
main = agent.main

if __name__ == "__main__":
    main()
