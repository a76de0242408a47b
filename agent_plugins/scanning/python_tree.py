"""python_tree - Python source as a syntax tree, and what is known of its names; nothing is imported or run.

A piece of a file (a hunk of a diff) is read as far as it can be: lines that do not parse are left out. A value is `literal` when it
is fixed in the source: constants, names that only ever hold constants, names in capitals, and what `shlex.quote` returns.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LARGEST = 2 * 1024 * 1024  # characters: the tree takes some hundred times as many bytes
Nodes = defaultdict[type[ast.AST], list[Any]]
_TRIES = 25
_PLAIN = frozenset({str, int, float, bool, bytes, complex, type(None), ast.Load, ast.Store})


@dataclass(frozen=True, slots=True)
class Scope:
    """What is known of the names of a file: imports (name -> dotted), names that only hold literals, names of archives and apps."""

    imports: Mapping[str, str]
    literals: frozenset[str]
    kinds: Mapping[str, str]
    whole: bool


def by_type(tree: ast.AST) -> defaultdict[type[ast.AST], list[Any]]:
    """Return all nodes of a tree by their class; several times as fast as `ast.walk`, which asks each node for its fields."""
    found: defaultdict[type[ast.AST], list[Any]] = defaultdict(list)
    waiting: list[Any] = [tree]
    while waiting:
        node = waiting.pop()
        found[type(node)].append(node)
        for value in node.__dict__.values():
            kind = type(value)
            if kind is list:
                waiting += [each for each in value if isinstance(each, ast.AST)]
            elif kind not in _PLAIN and isinstance(value, ast.AST):
                waiting.append(value)
    return found


# -- reading -----------------------------------------------------------------------------------------------------------


def read(text: str, *, whole: bool) -> ast.Module | None:
    """Return the tree of a text, of what can be read of it if it is only a part of a file; None if it cannot be read."""
    if len(text) > LARGEST:
        return None
    found, _ = _parsed(text)
    return found if found is not None or whole else _piece(text)


def _parsed(text: str) -> tuple[ast.Module | None, int]:
    """Return (tree, 0), or (None, the line that does not parse; 0 when it cannot be known)."""
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text), 0
    except SyntaxError as error:
        return None, error.lineno or 0
    except (ValueError, RecursionError, MemoryError):
        return None, 0


def _piece(text: str) -> ast.Module | None:
    """Return the tree of a part of a file, without the lines that cannot be read on their own."""
    lines = text.split("\n")
    frame = _frame(lines)
    for _ in range(_TRIES):
        found, bad = _parsed("\n".join([*frame, *lines]))
        if found is not None:
            ast.increment_lineno(found, -len(frame))
            return found
        at = bad - len(frame) - 1
        if not 0 <= at < len(lines):
            return None
        lines = _without(lines, at)
        frame = _frame(lines)
    return None


def _without(lines: list[str], at: int) -> list[str]:
    """Return the lines with the bad one left out: as `pass` where its place in a block may be needed."""
    while at > 0 and not lines[at].strip():
        at -= 1  # an error at the end is reported on an empty line
    line = lines[at]
    indent = line[: len(line) - len(line.lstrip())]
    opens = line.rstrip().endswith(":") and line.strip() != "if True:"
    shown = "" if line.strip() == "pass" or not line.strip() else f"{indent}if True:" if opens else f"{indent}pass"
    return [*lines[:at], "" if shown == line else shown, *lines[at + 1 :]]


def _frame(lines: Sequence[str]) -> list[str]:
    """Return lines that make an indented piece a program of its own."""
    first = next((line for line in lines if line.strip()), "")
    indent = len(first) - len(first.lstrip(" "))
    return [" " * level + ("while True:" if level else "async def piece():") for level in range(0, min(indent, 80), 4)]


def scope_of(nodes: Nodes, *, whole: bool) -> Scope:
    """Return what the nodes of a file say about its names."""
    imports = dict(_imported(nodes))
    values: dict[str, list[ast.expr | None]] = {}
    for kind in _BINDING:
        for node in nodes[kind]:
            _bind(node, values)
    bare = Scope(imports, frozenset(), {}, whole)
    kinds = {}
    for name, given in values.items():
        for value in given:
            if isinstance(value, ast.Call) and (kind_ := KINDS.get(dotted(value.func, bare))):
                kinds[name] = kind_
    fixed = {name for name, given in values.items() if all(each is not None and literal(each, bare) for each in given)}
    return Scope(imports, frozenset(fixed), kinds, whole)


def _imported(nodes: Nodes) -> Iterator[tuple[str, str]]:
    """Yield (name, dotted name) of what is imported."""
    for node in nodes[ast.Import]:
        for alias in node.names:
            first = alias.name.partition(".")[0]
            yield (alias.asname, alias.name) if alias.asname else (first, first)
    for node in nodes[ast.ImportFrom]:
        if node.module and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


_BINDING = (
    ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.AugAssign, ast.For, ast.AsyncFor, ast.comprehension, ast.withitem, ast.arg,
    ast.ExceptHandler, ast.MatchAs, ast.Global, ast.Nonlocal,
)  # fmt: skip
KINDS = {
    "tarfile.open": "tar", "tarfile.TarFile": "tar", "tarfile.TarFile.open": "tar", "flask.Flask": "app", "dash.Dash": "app",
    "quart.Quart": "app", "bottle.Bottle": "app",
}  # fmt: skip


def _bind(node: Any, values: dict[str, list[ast.expr | None]]) -> None:
    """Note every value that a name is given; None for one that is not known (parameters, loops, unpacking)."""
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                _bind_target(target, value, values)
        case ast.withitem(context_expr=value, optional_vars=target):
            if target is not None:
                _bind_target(target, value, values)
        case ast.For() | ast.AsyncFor() | ast.comprehension():
            _bind_target(node.target, None, values)
        case ast.AnnAssign() | ast.NamedExpr() | ast.AugAssign():
            _bind_target(node.target, node.value, values)
        case _:
            for name in _unknown_names(node):
                values.setdefault(name, []).append(None)


def _unknown_names(node: Any) -> Sequence[str]:
    """Return the names that a parameter, a handler, a case or a global statement binds."""
    if isinstance(node, ast.Global | ast.Nonlocal):
        return node.names
    name = node.arg if isinstance(node, ast.arg) else node.name
    return [name] if name else []


def _bind_target(target: ast.expr, value: ast.expr | None, values: dict[str, list[ast.expr | None]]) -> None:
    if isinstance(target, ast.Name):
        values.setdefault(target.id, []).append(value)
        return
    for name in (node for node in ast.walk(target) if isinstance(node, ast.Name)):
        values.setdefault(name.id, []).append(None)


def dotted(node: ast.expr, scope: Scope) -> str:
    """Return the full name of what is called (`sp.run` with `import subprocess as sp` is subprocess.run); "" when it has none."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    root = scope.imports.get(node.id)
    if root is None:
        # In a piece of a file the imports are out of sight: a name that looks like a module is taken for one.
        root = node.id if not parts or not scope.whole else f"?{node.id}"
    return ".".join([root, *reversed(parts)])


_SAFE_CALLS = frozenset(
    {"shlex.quote", "pipes.quote", "shlex.join", "int", "float", "len", "bool", "id", "abs", "round", "ord", "hash", "hex", "repr"}
)


def literal(node: ast.expr | None, scope: Scope) -> bool:
    """Return whether a value is fixed in the source, or harmless (a number, a quoted word)."""
    match node:
        case None | ast.Constant() | ast.Lambda():
            return True
        case ast.Name(id=name):
            return name in scope.literals or _in_capitals(name)
        case ast.Attribute(attr=name):
            return _in_capitals(name) or dotted(node, scope) == "sys.executable"
        case ast.Call():
            return _literal_call(node, scope)
    parts = _PARTS.get(type(node))
    if parts is None:
        return False
    inner = [getattr(node, name) for name in parts]
    return all(literal(each, scope) for value in inner for each in (value if isinstance(value, list) else [value]))


def _in_capitals(name: str) -> bool:
    return name.isupper() and len(name) > 1


# what a value consists of: it is literal when all of these are
_PARTS: Mapping[type, tuple[str, ...]] = {
    ast.FormattedValue: ("value",), ast.Starred: ("value",), ast.UnaryOp: ("operand",), ast.Await: ("value",),
    ast.JoinedStr: ("values",), ast.BoolOp: ("values",), ast.Tuple: ("elts",), ast.List: ("elts",), ast.Set: ("elts",),
    ast.BinOp: ("left", "right"), ast.IfExp: ("body", "orelse"), ast.Dict: ("values",),
}  # fmt: skip


def _literal_call(node: ast.Call, scope: Scope) -> bool:
    name = dotted(node.func, scope)
    if name in _SAFE_CALLS:
        return True
    arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
    if not all(literal(each, scope) for each in arguments):
        return False
    if name in {"str", "textwrap.dedent"}:
        return True
    return isinstance(node.func, ast.Attribute) and node.func.attr in _TEXT_METHODS and literal(node.func.value, scope)


_TEXT_METHODS = frozenset({"format", "join", "strip", "replace", "lower", "upper", "encode", "lstrip", "rstrip"})


def built(node: ast.expr, scope: Scope) -> bool:
    """Return whether a text is put together in place from parts that are not all fixed."""
    if literal(node, scope):
        return False
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in {"format", "join"} and isinstance(node.func.value, ast.Constant)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod))


def from_outside(node: ast.expr) -> bool:
    """Return whether a value visibly comes from a request, the command line or a person."""
    nodes = by_type(node)
    if any(isinstance(each.func, ast.Name) and each.func.id == "input" for each in nodes[ast.Call]):
        return True
    return any((_last(each.value), each.attr) in _OUTSIDE for each in nodes[ast.Attribute])


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


_REQUEST = ("args", "form", "json", "GET", "POST", "query_params", "cookies", "values", "data")
_OUTSIDE = frozenset({("sys", "argv"), *((owner, name) for owner in ("request", "req") for name in _REQUEST)})
