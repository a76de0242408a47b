"""Importing has no effect, and a call imports no more than it needs."""

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("agent_core", "agent_providers", "agent_plugins", "agent_patterns", "agents")
HEAVY = {
    "typer",
    "rich",
    "click",
    "httpx",
    "pydantic",
    "asyncio",
    "sqlite3",
    "pysqlite3",
    "pluggy",
    "platformdirs",
    "jsonschema",
    "httptools",
}
TEXT = ROOT / "agents" / "text_processor.py"


def modules():
    return [found.name for package in PACKAGES for found in pkgutil.walk_packages([str(ROOT / package)], f"{package}.")]


def python(code, *args, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, cwd=cwd, check=False, stdin=subprocess.DEVNULL
    )


LOOK = """
import os, sys, threading
before = set(os.listdir("."))
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
assert set(os.listdir(".")) - before <= {"__pycache__"}, "files"
assert threading.active_count() == 1, "threads"
"""


def test_importing_every_module_writes_nothing_and_starts_nothing(tmp_path):
    done = python(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{LOOK}", *modules(), cwd=tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def loaded(*argv):
    """Return the heavy packages that a call of text-processor imports."""
    program = [sys.executable, "-X", "importtime", str(TEXT), *argv]
    done = subprocess.run(program, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    lines = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert "agent_core.cli" in lines
    return {line.partition(".")[0] for line in lines} & HEAVY


@pytest.mark.parametrize(
    "argv",
    [("--version",), ("--agent-schema",), ("--help",), ("--list-tools",), ("--tool", "uppercase", "x")],
)
def test_a_call_that_asks_no_model_imports_nothing_heavy(argv):
    assert loaded(*argv) <= ({"sqlite3", "pysqlite3"} if "--list-tools" in argv else set())


def test_an_offline_run_needs_the_store_and_nothing_else():
    assert loaded("--provider", "offline", "make this uppercase: 'x'") <= {"sqlite3", "pysqlite3"}


def test_the_core_exports_at_most_a_dozen_names_in_order():
    import agent_core

    assert agent_core.__all__ == sorted(agent_core.__all__)
    assert len(agent_core.__all__) <= 12
    assert all(getattr(agent_core, name) for name in agent_core.__all__)


def test_only_config_reads_the_environment():
    readers = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in {"environ", "getenv"}
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    }

    assert readers <= {"agent_core/config.py"}
