"""Every console block in tests/agents/*.md, README.md and docs/*.md is executed and must say what it said.

    $ command            runs in bash; `> ` lines continue it
    ? 2                  the status, when it is not 0
    output               stdout and stderr as they come; `...` stands for any lines, `[..]` for any text within one

All commands of a file share one shell: a folder and a home of its own, no keys, and the agents as commands. Files beside a
transcript are copied in. README.md and docs run in a copy of the checkout. TRANSCRIPT_BIN=FOLDER takes the agents from there
(frozen ones).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent_core.config import environ

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
BIN = environ().get("TRANSCRIPT_BIN", "")
AGENTS = sorted((ROOT / "tests" / "agents").glob("*.md"))
GUIDES = [] if BIN else [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if path.is_file()]
COPIED = ("agents", "scripts", "pyproject.toml")
OPTIONAL = ("jq", "git")
MARK = "\x1e"
SECONDS = 110


@dataclass(frozen=True)
class Step:
    """One command of a transcript, and what it must come to."""

    line: int
    command: str
    status: int
    expected: str


def steps(text: str) -> Iterator[Step]:
    """Yield the commands of all console blocks."""
    lines = text.split("\n")
    inside, at = False, 0
    while at < len(lines):
        line = lines[at]
        if line.startswith("```"):
            inside = not inside and line.strip() == "```console"
        elif inside and line.startswith("$ "):
            end = at + 1
            while not lines[end].startswith(("$ ", "```")):
                end += 1
            yield _step(at + 1, lines[at:end])
            at = end - 1
        elif inside and line.strip():
            raise ValueError(f"line {at + 1}: output before the first command: {line}")
        at += 1


def _step(number: int, lines: list[str]) -> Step:
    command = [lines[0][2:]]
    rest = lines[1:]
    while rest and (rest[0] == ">" or rest[0].startswith("> ")):
        command.append(rest.pop(0)[2:])
    status = int(rest.pop(0)[2:]) if rest and re.fullmatch(r"\? \d+", rest[0]) else 0
    return Step(number, "\n".join(command), status, "\n".join(rest).strip("\n"))


def matches(expected: str, actual: str) -> bool:
    """Return whether the output is what was expected, elisions filled in."""
    parts = []
    for line in expected.split("\n"):
        if line.strip() == "...":
            parts.append(r"(?:[^\n]*\n)*?")
        else:
            parts.append(r"[^\n]*".join(map(re.escape, line.rstrip().split("[..]"))) + r"[ \t]*\n")
    return re.fullmatch("".join(parts), actual.strip("\n") + "\n") is not None


def play(script: list[Step], folder: Path, commands: str, python_path: Path) -> list[tuple[int, str]]:
    """Run the commands in one shell and return (status, output) of each."""
    text = "".join(f"{{ {step.command}\n}} </dev/null 2>&1; printf '\\n{MARK}%d{MARK}' $?\n" for step in script)
    env = {
        "PATH": f"{commands}:{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", "HOME": str(folder.parent / "home"),
        "LANG": "C.UTF-8", "TERM": "dumb", "PYTHONPATH": str(python_path), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    (folder.parent / "home").mkdir(exist_ok=True)
    done = subprocess.run(["/bin/bash", "-c", text], cwd=folder, env=env, capture_output=True, timeout=SECONDS, check=False)
    pieces = done.stdout.decode("utf-8", "replace").split(MARK)
    assert len(pieces) == 2 * len(script) + 1, f"the shell stopped early: {done.stderr.decode('utf-8', 'replace')}"
    return [(int(status), output) for output, status in zip(pieces[0::2], pieces[1::2], strict=False)]


def check(path: Path, script: list[Step], outcomes: list[tuple[int, str]]) -> None:
    """Fail with the first command that came to something else, and with all it printed."""
    for step, (status, output) in zip(script, outcomes, strict=True):
        if status != step.status or not matches(step.expected, output):
            pytest.fail(
                f"{path.name}:{step.line}: $ {step.command}\nexpected ? {step.status}\n{step.expected}\n\ngot ? {status}\n{output}"
            )


def runnable(script: list[Step]) -> list[Step]:
    """Leave out commands that need a program which is not part of the suite and not installed."""
    missing = [name for name in OPTIONAL if shutil.which(name) is None]
    return [step for step in script if not any(re.search(rf"(?:^|[|;&] *){name}\b", step.command) for name in missing)]


def shims(folder: Path, root: Path) -> str:
    """Make the commands of pyproject.toml, as an installation would."""
    folder.mkdir()
    for name, target in tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["scripts"].items():
        program = folder / name
        program.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" "{root}/{target.partition(":")[0].replace(".", "/")}.py" "$@"\n', "utf-8"
        )
        program.chmod(0o755)
    return str(folder)


def checkout(folder: Path) -> Path:
    """Make a checkout that commands may write into; its environment is this one and is never changed."""
    folder.mkdir()
    for path in ROOT.iterdir():
        if path.name in COPIED:
            (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)
        elif path.name not in {".git", "tests"}:
            (folder / path.name).symlink_to(path)
    (folder / "tests" / "agents").mkdir(parents=True)
    (folder / "scripts" / "environment").write_text("#!/bin/sh\n", "utf-8")
    return folder


@pytest.mark.parametrize("path", AGENTS, ids=lambda path: path.stem)
def test_a_transcript_of_an_agent_is_what_happens(path, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    for beside in path.parent.iterdir():
        if beside.is_file() and beside.suffix not in {".md", ".py"}:
            shutil.copy(beside, folder)
    script = runnable(list(steps(path.read_text("utf-8"))))

    check(path, script, play(script, folder, BIN or shims(tmp_path / "bin", ROOT), ROOT))


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_every_command_of_the_documentation_does_what_it_says(path, tmp_path):
    script = runnable(list(steps(path.read_text("utf-8"))))
    if script:
        folder = checkout(tmp_path / "checkout")
        check(path, script, play(script, folder, shims(tmp_path / "bin", folder), folder))


def test_every_agent_has_a_transcript():
    agents = {path.stem for path in (ROOT / "agents").glob("[a-z]*.py")}

    assert agents <= {path.stem for path in AGENTS}


TRANSCRIPT = """text
```console
$ printf 'one\\ntwo\\nthree\\n'
one
...
$ cat <<'END'
> four 4
> END
f[..]4
$ ls /nowhere
? 2
[..]nowhere[..]

$ cd / && x=1
$ echo $PWD $x
/ 1
```
"""


def test_the_runner_reads_commands_statuses_and_elisions(tmp_path):
    script = list(steps(TRANSCRIPT))
    (tmp_path / "work").mkdir()

    assert [step.line for step in script] == [3, 6, 10, 14, 15]
    check(Path("made-up.md"), script, play(script, tmp_path / "work", "/none", tmp_path))


@pytest.mark.parametrize(
    ("was", "now"), [("one\n...", "two\n..."), ("? 2\n", ""), ("f[..]4", "f[..]5"), ("/ 1\n", "/ 1\nmore\n"), ("\n...", "")]
)
def test_the_runner_notices_what_differs(was, now, tmp_path):
    script = list(steps(TRANSCRIPT.replace(was, now)))
    (tmp_path / "work").mkdir()

    with pytest.raises(pytest.fail.Exception):
        check(Path("made-up.md"), script, play(script, tmp_path / "work", "/none", tmp_path))
