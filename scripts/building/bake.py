"""bake - what an agent answers without being asked anything, made by the agent itself.

    python -m building.bake MODULE        prints JSON: {"answers": {ARGUMENT: text}} or {"error": "why not"}

Runs in a process of its own for each agent: importing one must not change what another answers. The agent's own `main` is called
for every argument, with stdout a file, so the bytes are those of the slow path by construction.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from building.discover import Source

SECONDS = 120


@dataclass(frozen=True, slots=True)
class Baked:
    """One agent's answers by argument. `problem` says why there are none."""

    source: Source
    answers: Mapping[str, bytes] = field(default_factory=dict)
    problem: str = ""

    @property
    def card(self) -> Any:
        """The card."""
        return json.loads(self.answers["--agent-schema"])


def arguments() -> list[str]:
    """Return what is baked: each alone on a command line."""
    from agent_core.options import SCHEMA_VIEWS

    return ["--version", "--agent-schema", "__schema", "--help", "-h", *(f"--agent-schema={view}" for view in SCHEMA_VIEWS)]


def bake(source: Source, root: str) -> Baked:
    """Return an agent's answers; never raises for a broken agent."""
    # Nothing of the builder's own environment may show in an answer.
    env = {"PATH": os.defpath, "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0",
           "PYTHONPATH": os.pathsep.join([f"{root}/scripts", root]), "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
    argv = [sys.executable, "-m", "building.bake", source.module]
    with tempfile.TemporaryDirectory() as empty:
        try:
            done = subprocess.run(
                argv, env=env, cwd=empty, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return Baked(source, problem=f"gave no answer within {SECONDS} s")
    return _read(source, done)


def _read(source: Source, done: subprocess.CompletedProcess[bytes]) -> Baked:
    try:
        made = json.loads(done.stdout)
        answers = {argument: text.encode("utf-8", "surrogateescape") for argument, text in made.get("answers", {}).items()}
    except (ValueError, AttributeError):
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"status {done.returncode}"]
        return Baked(source, problem=lines[-1][:300])
    problem = made.get("error", "") or _fault(source, answers)
    return Baked(source, answers, problem)


def _fault(source: Source, answers: Mapping[str, bytes]) -> str:
    try:
        card = json.loads(answers["--agent-schema"])
        name, schema = card["name"], card["schema"]
    except (KeyError, ValueError, TypeError):
        return "--agent-schema does not answer with a card"
    if schema != "agent-card/1":
        return f"its card has the schema {schema!r}, not agent-card/1"
    return "" if name == source.name else f"its card says {name!r}; file stem and command name must agree"


def answered(main: Any, argument: str) -> tuple[int, bytes]:
    """Call an agent's main with one argument; return (status, what it wrote to descriptor 1)."""
    with tempfile.TemporaryFile() as file:
        sys.stdout.flush()
        kept = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            status = _status(main, [argument])
        finally:
            os.dup2(kept, 1)
            os.close(kept)
        file.seek(0)
        return status, file.read()


def _status(main: Any, words: Sequence[str]) -> int:
    try:
        main(list(words))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _main(module: str) -> None:
    from importlib import import_module

    try:
        main = import_module(module).main
    except BaseException as error:  # noqa: BLE001 - whatever a broken agent does is reported, not raised
        print(json.dumps({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}))
        return
    answers = {}
    for argument in arguments():
        status, data = answered(main, argument)
        if status == 0:
            answers[argument] = data.decode("utf-8", "surrogateescape")
    print(json.dumps({"answers": answers}))


if __name__ == "__main__":
    _main(sys.argv[1])
