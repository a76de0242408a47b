"""lean - modules that are other ones in an executable, because what they load at once is hardly ever used."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Public names that need what is not in a program: httpx.main is a terminal program, the backends are those of anyio and trio.
ABSENT = frozenset(("main", "AnyIOBackend", "TrioBackend"))
_BY_NAME = """
def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value
"""


def by_name(package: str) -> str:
    """Return the source of a package that has the public names of the real one, each loaded from its home when it is asked for.

    The home of a name is the module within the package that defines the very object; LookupError if a public name has none.
    """
    real = import_module(package)
    home = {}
    for module, names in _definitions(package, Path(str(real.__file__)).parent):
        for name in names & set(real.__all__) - ABSENT:
            if _defines(module, name, getattr(real, name)):
                home.setdefault(name, module)
    lost = set(real.__all__) - set(home) - ABSENT
    if lost:
        raise LookupError(f"{package}: nothing defines {', '.join(sorted(lost))}")
    return f"__all__ = {sorted(home)!r}\n_HOME = {home!r}\n{_BY_NAME}"


def _defines(module: str, name: str, wanted: object) -> bool:
    try:
        return getattr(import_module(module), name) is wanted
    except ImportError:  # a module for something optional that is not installed
        return False


def _definitions(package: str, folder: Path) -> Iterator[tuple[str, set[str]]]:
    """Yield each module of a package with the names that it defines at its top."""
    for path in sorted(folder.rglob("*.py")):
        stem = ".".join(path.relative_to(folder).with_suffix("").parts)
        stem = stem.removesuffix(".__init__")
        if stem not in {"__init__", "_main"}:
            yield f"{package}.{stem}", {name for node in ast.parse(path.read_text("utf-8")).body for name in _names(node)}


def _names(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        yield node.name
    if isinstance(node, ast.Try):  # what stands in for something that is not installed
        for inner in (each for handler in node.handlers for each in handler.body):
            yield from _names(inner)
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    for target in targets:
        if isinstance(target, ast.Name):
            yield target.id
