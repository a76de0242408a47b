"""architect - judge how a code base is built, and keep a file of the patterns that hold in it.

    git diff | architect 'does this keep the layers?' --allow file-read:.
    echo 'review this code' | code-reviewer | architect --update-patterns
    architect --update-patterns -q --provider offline

Stdin (or `-f FILE`) is what to judge: a diff, code, another agent's review. The code base around it is read through the tools, as
far as `--allow file-read:DIR` permits.

`--update-patterns` keeps PATTERNS.md (`--patterns-file PATH`, a .md file beneath the working directory) up to date: facts read from
the code (layers and import arrows, sizes, names, error classes, tests), and observations of the model, each with a file that shows
it; one whose file does not exist is left out. Only what stands between the markers in the file is replaced, the file is replaced in
one step, the difference is shown on stderr, and nothing is written when nothing changed. The flag is the explicit request, so it
stands for `--allow file-read:. --allow file-write:PATTERNS.md` (a `--deny` still wins). Without words or stdin it needs none.

Without a model the answer consists of those facts, and of what can be counted in a diff or in Python code; it is not a judgement.
`--json` has {answer, patterns: [{statement, evidence}], file: {path, changed, diff, left_out}, notes}.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent_core import Agent
from agent_core.effects import Act, Note
from agent_core.errors import ConfigError, DeniedError, Failed, UsageError
from agent_core.messages import ToolCall, ToolResult, user
from agent_core.options import Option, parse
from agent_core.task import DATA_RULE, compose, split
from agent_core.tool import Toolset
from agent_patterns.react import react
from agent_plugins.patterns_file import FILE, code_facts, patterns_update
from agent_plugins.tools.files import file_list, file_read, file_search

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from agent_core.effects import Pattern
    from agent_core.messages import Message
    from agent_core.task import Task

SYSTEM = """You are the architect of a code base. Judge structure: responsibilities, layers and the direction of dependencies,
names, errors, tests, duplication, what will be hard to change. Leave style and single lines to others.
Know the code base before you judge (code_facts, then file_read where it matters); measure a change against the patterns that hold.
Say what is well built where that explains a decision. Report what you saw, with the file that shows it, not what is usual.
patterns: rules that this code base follows and a newcomer must keep, each one sentence with the path of one file that shows it;
none if you did not see any.
Answer with one JSON object and nothing else: {"answer": "what you have to say", "patterns": [{"statement": "…", "evidence":
"path/to/file"}]}"""

DESIGN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "answer": {"type": "string", "minLength": 1},
        "patterns": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"statement": {"type": "string"}, "evidence": {"type": "string"}},
                "required": ["statement", "evidence"],
            },
        },
        "file": {"type": ["object", "null"]},
        "notes": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["answer", "patterns"],
}
UPDATE = "Bring the patterns file of this code base up to date."
FACTS = "facts of the code base"
SHOWN = 60  # lines of the difference on stderr
_HEADER = re.compile(r"^--- (?:a/)?([^\t\n]+).*\n\+\+\+ (?:b/)?([^\t\n]+)", re.MULTILINE)


def design(task: Task) -> Pattern:
    """Return the answer as JSON text; with --update-patterns the file is brought up to date with what the model observed.

    Raises:
        DeniedError: the code base may not be read, or the file not be written.
        UsageError: the patterns file is no Markdown file beneath the working directory.
        Failed: it cannot be.
    """
    update = bool(task.option("update_patterns"))
    path = checked_path(task.option("patterns_file", FILE))
    if update:
        task = yield from _with_facts(task)
    offered = Toolset(tuple(each for each in task.tools or () if each.name != patterns_update.name))
    task = replace(task, tools=offered)
    if task.schema is not DESIGN and task.schema is not None:  # --output-schema: another form
        return (yield from react(task))
    from agent_core.checked import checked

    found = (yield from checked(react(task), task, DESIGN)).value
    file, notes = None, []
    if update:
        file = yield from _updated(path, found["patterns"])
        notes = [f"left out, {line}" for line in file["left_out"]]
    return json.dumps({"answer": found["answer"], "patterns": found["patterns"], "file": file, "notes": notes}, ensure_ascii=False)


def _with_facts(task: Task) -> Pattern:
    """Return the task with the facts of the code base as material."""
    facts = yield from _called("code_facts", {})
    instruction, materials = split(task.text)
    rules = task.system if DATA_RULE in task.system else f"{task.system}\n\n{DATA_RULE}".strip()
    text = compose(instruction, [*materials, (FACTS, facts.value if isinstance(facts.value, str) else facts.text)])
    return replace(task, message=user(text), system=rules)


def _updated(path: str, patterns: Sequence[Mapping[str, str]]) -> Pattern:
    """Write the file, show the difference, and return {path, changed, diff, left_out}."""
    result = yield from _called("patterns_update", {"observations": [dict(each) for each in patterns], "path": path})
    made = result.value
    diff = made["diff"].splitlines()
    new = diff[:1] == ["--- /dev/null"]
    lines = [] if new else [line for line in diff if not line.startswith(("---", "+++"))]
    state = (
        "is up to date"
        if not made["changed"]
        else f"was written, {_many(len(diff) - 3, 'line')}"
        if new
        else "was brought up to date:"
    )
    yield Note("notice", {"text": f"{path} {state}"})
    for line in lines[:SHOWN]:
        yield Note("notice", {"text": line})
    if len(lines) > SHOWN:
        yield Note("notice", {"text": f"and {len(lines) - SHOWN} more lines (--json has them all)"})
    return {name: made[name] for name in ("path", "changed", "diff", "left_out")}


def _called(name: str, arguments: dict[str, Any]) -> Pattern:
    """Call one of the agent's own tools; what goes wrong ends the run."""
    messages: Sequence[Message] = yield Act((ToolCall(f"{name}_1", name, arguments),))
    result = next(part for message in messages for part in message.parts if isinstance(part, ToolResult))
    if result.error == "denied":
        raise DeniedError(result.text.removeprefix("denied: "))
    if result.error is not None:
        raise Failed(f"{name}: {result.text}")
    return result


# --- without a model ---------------------------------------------------------------------------------------------------------


def counted(_instruction: str, materials: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return what can be counted: the facts of the code base, and of the diffs and Python files among the materials.

    Raises:
        ConfigError: there is nothing to count.
    """
    given = list(materials) or [("stdin", _instruction)]
    parts = ["Without a model: what can be counted, nobody judged it."]
    for origin, text in given:
        if origin == FACTS:
            parts.append(text)
        elif _HEADER.search(text):
            parts.append("\n".join([f"### {origin}: a diff", "", *(f"- {line}" for line in _diff(text))]))
        else:
            parts += list(_python(origin, text))
    if len(parts) == 1:
        from agent_providers.offline import SET_UP

        raise ConfigError("judging this needs a model, and none is set up", hint=f"{SET_UP}; --update-patterns works without")
    return {"answer": "\n\n".join(parts), "patterns": []}


def _diff(text: str) -> Iterator[str]:
    """Yield how many files a diff touches and how many lines it adds and removes, by top folder."""
    files, added, removed = Counter[str](), Counter[str](), Counter[str]()
    headers = list(_HEADER.finditer(text))
    ends = [found.start() for found in headers[1:]] + [len(text)]
    for found, end in zip(headers, ends, strict=True):
        name = found[1] if found[2] == "/dev/null" else found[2]
        top = name.partition("/")[0] if "/" in name else "."
        files[top] += 1
        lines = text[found.end() : end].split("\n")[1:]
        added[top] += sum(line.startswith("+") for line in lines)
        removed[top] += sum(line.startswith("-") for line in lines)
    for top in sorted(files):
        yield f"`{top}`: {_many(files[top], 'file')}, {_many(added[top], 'line')} added, {_many(removed[top], 'line')} removed"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun if count == 1 else f'{noun}s'}"


def _python(origin: str, text: str) -> Iterator[str]:
    """Yield the facts of one text that is Python code."""
    from agent_plugins import code_facts as reading

    name = origin if origin.endswith(".py") else "stdin.py"
    one = reading.module(name, text, "code")
    if not one.broken and (one.functions or one.classes or one.imports):
        found = reading.facts({name: text})
        yield f"Of {origin}:\n\n{reading.as_text(found)}"


# --- the command line --------------------------------------------------------------------------------------------------------


def readable(found: dict[str, Any]) -> str:
    """Return the answer, the patterns that were seen, and the notes."""
    lines = [found["answer"]]
    if found["patterns"]:
        lines += ["", "Patterns:", *(f"- {each['statement']} ({each['evidence']})" for each in found["patterns"])]
    notes = found.get("notes") or []
    return "\n".join([*lines, *([""] if notes else []), *(f"note: {note}" for note in notes)])


agent = Agent(
    __doc__,
    SYSTEM,
    tools=[code_facts, file_read, file_list, file_search, patterns_update],
    pattern=design,
    reply=DESIGN,
    options=[
        Option("update-patterns", "keep the patterns file of this code base; reads it and writes that one file"),
        Option("patterns-file", "the patterns file, beneath the working directory", "path", default=FILE, metavar="PATH"),
    ],
    offline=counted,
    render=readable,
    examples=[
        "git diff | architect 'does this keep the layers?' --allow file-read:.",
        "echo 'review this code' | code-reviewer | architect --update-patterns",
    ],
    tags=["code", "architecture", "design", "structure", "patterns"],
    when_to_use="The structure of a code base or of a change has to be judged, or its patterns written down.",
)


def main(argv: Sequence[str] | None = None) -> None:
    """Be the command line. `--update-patterns` brings its own grants, and an instruction where there is none."""
    from agent_core import terminal

    words = list(terminal.arguments() if argv is None else argv)
    agent.main(requested(words) if "--update-patterns" in words else argv)


def requested(words: Sequence[str]) -> list[str]:
    """Return a command line with the grants that `--update-patterns` stands for; as it was where it cannot be read."""
    try:
        given = parse(words, agent.table())
    except UsageError:
        return list(words)  # the agent itself says what is wrong, in the form that was asked for
    if not given.values.get("update_patterns"):
        return list(words)
    other = {"resume", "replay", "tool", "chat", "lines", "records"} & {name for name, value in given.values.items() if value}
    bare = not [word for word in given.words if word != "-"]
    more = [] if other or not bare else [UPDATE, *(["-"] if _piped(no_stdin=bool(given.values.get("no_stdin"))) else [])]
    at = list(words).index("--") if "--" in words else len(words)
    return [*words[:at], *_grants(str(given.values.get("patterns_file", FILE))), *words[at:], *more]


def _grants(path: str) -> list[str]:
    """Return the grants; none for a file that may not be it, which the run itself then refuses."""
    try:
        return ["--allow", "file-read:.", "--allow", f"file-write:{checked_path(path)}"]
    except UsageError:
        return []


def checked_path(path: str) -> str:
    """Return the path of the patterns file. UsageError if it is none that this agent may write."""
    from agent_core.policy import LATER_FILES

    parts = path.split("/")
    if path.startswith(("/", "~")) or ".." in parts or any(part.startswith(".") and part != "." for part in parts):
        raise UsageError(f"--patterns-file: {path[:80]!r} does not lie beneath the working directory", hint="a plain relative path")
    if not path.endswith(".md") or parts[-1].lower() in LATER_FILES:
        raise UsageError(f"--patterns-file: {path[:80]!r} is no Markdown file of its own", hint=f"such as {FILE}")
    return path


def _piped(*, no_stdin: bool) -> bool:
    """Say whether somebody pipes something in; a pipe that was merely inherited does not count."""
    from agent_core.stdin import ancestors, writers

    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return False
    if no_stdin or stat.S_ISCHR(mode):
        return False
    if not stat.S_ISFIFO(mode):
        return True
    holders = writers(0)
    return holders is None or not holders or bool(holders - ancestors())


if __name__ == "__main__":
    main()
