"""Starting stays cheap: what each kind of call imports, counted; and, for executables, what it costs beside the bare interpreter.

Times are not asserted: counts of modules are the same on every machine, and ratios are taken within one run.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from agent_core.config import environ

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts")]

from building import starting  # noqa: E402 - found by the line above

BIN = Path(environ().get("TRANSCRIPT_BIN", "") or "/nonexistent")
TEXT = ROOT / "agents" / "text_processor.py"
# what a call must never import, whatever else changes
ASYNC = {"asyncio", "concurrent", "multiprocessing"}
LOOKS = {"typer", "click", "rich", "pygments", "markdown_it"}
HEAVY = ASYNC | LOOKS | {"pydantic", "jsonschema", "pluggy", "platformdirs", "email", "http", "urllib3", "logging", "unittest"}
NO_MODEL = HEAVY | {"httpx", "httpcore", "h11", "httptools", "ssl", "socket", "anyio", "pysqlite3", "sqlite3"}


def imported(*argv, **env):
    """Return the modules that a call of text-processor imports, in order."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(TEXT), *argv], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        env={"PATH": os.defpath, "HOME": "/nonexistent", **env},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    names = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    return names[names.index("site") + 1 :]


@pytest.mark.parametrize(
    ("argv", "most"),
    [
        (("--version",), 72),
        (("--agent-schema",), 75),
        (("--help",), 75),
        (("--list-tools",), 110),
        (("--tool", "uppercase", "x"), 125),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, tuple) else str(value),
)
def test_a_call_without_a_model_imports_few_modules_and_none_that_is_heavy(argv, most):
    names = imported(*argv)

    assert {name.partition(".")[0] for name in names} & NO_MODEL == set()
    assert len(names) <= most, f"{len(names)} modules: {names}"


def test_a_run_with_a_model_imports_no_async_machinery_and_nothing_for_looks(tmp_path):
    with starting.Listener() as listener:
        words = ["--base-url", listener.url, "--provider", "openai", "--model", "m", "--no-stdin", "say something"]
        names = imported(*words, OPENAI_API_KEY="not-a-key-123", HOME=str(tmp_path))

    # httpcore imports its backend for anyio, and with it asyncio, where that is installed: from source that is so
    of_httpcore = {"asyncio", "concurrent", "anyio", "email", "http", "logging"}
    found = {name.partition(".")[0] for name in names}
    assert found & (HEAVY - of_httpcore) == set()
    assert "httpcore" in found
    assert "httpx" not in found


frozen = pytest.mark.skipif(
    not (BIN / "text-processor").exists(), reason="needs executables: scripts/build, then TRANSCRIPT_BIN=bin"
)
# x the bare interpreter; more than measured, as the machines are shared: a regression shows as a multiple, not as a few percent
LIMITS = {
    "frozen --version": 2.0, "frozen --agent-schema": 2.0, "frozen --help": 2.0, "frozen --tool uppercase x": 4.5,
    "frozen exec -> request": 8.0,
}  # fmt: skip


@frozen
def test_executables_start_within_their_ratios_to_the_bare_interpreter(tmp_path):
    with starting.Listener() as listener:
        calls = starting.rows(Path(sys.executable), TEXT, (BIN / "text-processor").absolute(), listener.url)
        wanted = [call for call in calls if call.label.startswith("bare") or call.label in LIMITS]
        figures = starting.measured(wanted, 9, listener, tmp_path)
    ratios = starting.ratios(figures)

    assert not [each.call.label for each in figures if each.status]
    assert {label: round(ratios[label], 1) for label, most in LIMITS.items() if ratios[label] > most} == {}


@frozen
def test_a_one_shot_run_needs_little_memory(tmp_path):
    with starting.Listener() as listener:
        argv = [
            str((BIN / "text-processor").absolute()),
            "--base-url",
            listener.url,
            "--provider",
            "openai",
            "--model",
            "m",
            "--no-stdin",
            "x",
        ]
        env = {"PATH": os.defpath, "HOME": str(tmp_path), "OPENAI_API_KEY": "not-a-key-123"}
        # a small parent: the kernel counts what the parent had at the time of the fork, too
        peak = "import os,sys; p = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ); print(os.wait4(p, 0)[2].ru_maxrss)"
        done = subprocess.run([sys.executable, "-I", "-S", "-c", peak, *argv], env=env, capture_output=True, text=True, check=True)

    assert statistics.fmean([int(done.stdout.split()[-1])]) / 1024 < 28
