"""agent-new - start a new agent: one file that works at once, its transcript, and its command.

    agent-new tally answer questions about the size of a text

writes agents/tally.py and tests/agents/tally.md into the checkout you stand in and adds `tally` to the commands in pyproject.toml.
The name is lower-case words joined by dashes. Nothing that exists is ever overwritten.
"""

from __future__ import annotations

import re
from pathlib import Path

from agent_core import Agent
from agent_core.errors import Failed, UsageError

NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
AGENT = '''"""{name} - {purpose}.

    $ {name} --tool shout hello
    HELLO!
"""

from agent_core import Agent, tool


@tool
def shout(text: str) -> str:
    """Say a text loudly."""
    return text.upper() + "!"


agent = Agent(__doc__, "Use your tools to do what is asked. Answer with the result alone.", tools=[shout])
main = agent.main

if __name__ == "__main__":
    main()
'''
TRANSCRIPT = """# {name}

A tool by name, with no model at all:

```console
$ {name} --tool shout hello
HELLO!
```

In words (without a key the offline stand-in chooses the tool):

```console
$ echo hello | {name} --provider offline shout it
HELLO!
```
"""


def create(name: str, purpose: list[str]) -> str:
    """Write a new agent into the checkout around the working directory.

    Args:
        name: lower-case words joined by dashes.
        purpose: in a few words what the agent is for.
    """
    stem = _stem(name)
    root = _checkout(Path.cwd())
    files = {root / "agents" / f"{stem}.py": AGENT, root / "tests" / "agents" / f"{stem}.md": TRANSCRIPT}
    taken = [path.relative_to(root).as_posix() for path in files if path.exists()]
    if taken:
        raise Failed(f"{taken[0]} exists already; nothing was written", hint="choose another name")
    project = root / "pyproject.toml"
    commands = _with_command(project.read_text("utf-8"), name, stem)
    about = _one_line(" ".join(purpose)) or f"a new agent (say here what {name} is for)"
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text.replace("{name}", name).replace("{purpose}", about))
        project.write_text(commands, "utf-8")
    except OSError as error:
        raise Failed(f"cannot write {error.filename}: {error.strerror}", hint="is the checkout yours?") from None
    lines = [path.relative_to(root).as_posix() for path in files]
    return "\n".join([*(f"wrote {line}" for line in lines), f"try: scripts/run {name} --tool shout hello"])


def _stem(name: str) -> str:
    """Return the module's name for a command's name."""
    from keyword import iskeyword

    if len(name) > 40 or not NAME.fullmatch(name) or iskeyword(name):
        raise UsageError(f"{name[:60]!r} is no name for an agent", hint="lower-case words joined by dashes, such as size-of")
    return name.replace("-", "_")


def _checkout(here: Path) -> Path:
    for folder in (here, *here.parents):
        if (folder / "agents" / "__init__.py").is_file() and (folder / "pyproject.toml").is_file():
            return folder
    raise Failed("this is no checkout", hint="no folder here or above has agents/__init__.py and pyproject.toml")


def _with_command(text: str, name: str, stem: str) -> str:
    """Return pyproject.toml with one more console script at the end of its table."""
    table = re.search(r"^\[project\.scripts\]\n(?:[^\[\n][^\n]*\n)*", text, re.MULTILINE)
    if table is None:
        raise Failed("pyproject.toml has no [project.scripts]", hint="add the table")
    if re.search(rf'^"?{name}"? *=', table[0], re.MULTILINE):
        raise Failed(f"pyproject.toml has a command {name} already; nothing was written", hint="choose another name")
    return f'{text[: table.end()]}{name} = "agents.{stem}:main"\n{text[table.end() :]}'


def _one_line(text: str) -> str:
    """Return the purpose as it can stand in a docstring."""
    return " ".join(text.replace("\\", "/").replace('"', "'").split()).rstrip(".")[:100]


agent = Agent(
    __doc__,
    stdin="none",
    commands=[create],
    default="create",
    examples=["agent-new tally answer questions about the size of a text"],
    tags=["scaffold", "development"],
    when_to_use="Somebody wants to write a new agent in this repository.",
)
main = agent.main

if __name__ == "__main__":
    main()
