"""code_facts - what a code base is like, read from the code itself: layers, sizes, names, errors, tests. No model, nothing is run.

    facts({"app/core.py": "…", "tests/test_core.py": "…"})     {"Size": ["…"], "Layers": ["…"], …}, the same text every time

Python is parsed (`ast`); of other languages only files and lines are counted. An arrow `a -> b (3)` means that three modules of `a`
import from `b`; imports for type checkers only do not count. A cycle is a set of packages that reach each other.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

LANGUAGES = {
    "py": "Python", "pyi": "Python", "js": "JavaScript", "mjs": "JavaScript", "jsx": "JavaScript", "ts": "TypeScript",
    "tsx": "TypeScript", "go": "Go", "rs": "Rust", "c": "C", "h": "C", "cc": "C++", "cpp": "C++", "hpp": "C++", "java": "Java",
    "kt": "Kotlin", "rb": "Ruby", "php": "PHP", "cs": "C#", "swift": "Swift", "sh": "shell", "bash": "shell", "sql": "SQL",
    "html": "HTML", "css": "CSS", "md": "Markdown", "rst": "reStructuredText", "toml": "TOML", "yaml": "YAML", "yml": "YAML",
    "json": "JSON",
}  # fmt: skip
LARGEST = 1024 * 1024
_TEST = re.compile(r"(?:^|/)(?:test_[^/]*|[^/]*_test)\.py$|(?:^|/)[^/]*(?:\.test|\.spec)\.[jt]sx?$|_test\.go$|(?:^|/)conftest\.py$")
_SNAKE = re.compile(r"_*[a-z0-9]+(?:_[a-z0-9]+)*_*|_+")
_CAPS = re.compile(r"_*[A-Z][A-Za-z0-9]*")
_SHOWN = 5


@dataclass(slots=True)
class Module:
    """One Python file: dotted name, what it imports, and its definitions. `broken`: it cannot be parsed."""

    path: str
    name: str
    lines: int
    test: bool
    broken: bool = False
    documented: bool = False
    imports: set[str] = field(default_factory=set)
    functions: list[Function] = field(default_factory=list)
    classes: list[Class] = field(default_factory=list)
    wide: int = 0  # bare `except:` and `except Exception:`


@dataclass(frozen=True, slots=True)
class Function:
    """One function or method. `lines` counts its decorators and docstring, too."""

    name: str
    line: int
    lines: int
    documented: bool
    annotated: bool
    is_async: bool


@dataclass(frozen=True, slots=True)
class Class:
    """One class: the last parts of its bases' names, and whether it is a (frozen) dataclass."""

    name: str
    bases: tuple[str, ...]
    documented: bool
    dataclass: bool
    frozen: bool


def facts(files: Mapping[str, str]) -> dict[str, list[str]]:
    """Return lines of Markdown by section; a section about which there is nothing to say is not there.

    Args:
        files: text by path, relative to the root of the code base, with `/` between its parts.
    """
    names = _names(files)
    modules = [module(path, files[path], names[path]) for path in sorted(files) if path.endswith(".py")]
    own = [one for one in modules if not one.test]
    found: dict[str, list[str]] = {
        "Size": list(_size(files)),
        "Layers": list(_layers(own)),
        "Modules": list(_modules(own)),
        "Names": list(_naming(modules)),
        "Functions and classes": list(_definitions(own)),
        "Errors": list(_errors(own)),
        "Tests": list(_tests(files, modules)),
        "Project": list(_project(files)),
    }
    return {title: lines for title, lines in found.items() if lines}


def as_text(found: Mapping[str, Sequence[str]]) -> str:
    """Return the facts as Markdown."""
    return "\n\n".join("\n".join([f"### {title}", "", *(f"- {_safe(line)}" for line in lines)]) for title, lines in found.items())


def _safe(line: str) -> str:
    """Return a line without what a strange file name could bring: line ends, escapes, the beginning or end of a comment."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|<!--|-->", "?", line)


# --- reading -----------------------------------------------------------------------------------------------------------------


def _names(files: Iterable[str]) -> dict[str, str]:
    """Return the dotted name of each Python file: from the outermost folder that is a package on, else the bare stem."""
    folders = {path.rpartition("/")[0] for path in files if path.rpartition("/")[2] == "__init__.py"}
    return {path: _name(path, folders) for path in files if path.endswith(".py")}


def _name(path: str, packages: set[str]) -> str:
    folder, _, file = path.rpartition("/")
    parts = [] if file == "__init__.py" else [file.removesuffix(".py")]
    while folder in packages:
        folder, _, last = folder.rpartition("/")
        parts.insert(0, last)
    return ".".join(parts) or file.removesuffix(".py")


def module(path: str, text: str, name: str) -> Module:
    """Return what stands in one Python file."""
    one = Module(path, name, text.count("\n") + (not text.endswith("\n") and bool(text)), _belongs_to_tests(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
            one.documented = ast.get_docstring(tree) is not None
            _visit(tree.body, one, path.endswith("__init__.py"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        one.broken = True
    return one


def _belongs_to_tests(path: str) -> bool:
    return _TEST.search(path) is not None or not {"test", "tests"}.isdisjoint(path.split("/")[:-1])


def _visit(body: Iterable[ast.stmt], one: Module, package: bool) -> None:
    """Collect imports, functions, classes and wide excepts, without what only a type checker reads."""
    waiting: list[ast.AST] = [*body]
    waiting.reverse()
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and _types_only(node.test):
            waiting += node.orelse[::-1]
            continue
        match node:
            case ast.Import():
                one.imports.update(alias.name for alias in node.names)
            case ast.ImportFrom():
                one.imports.update(_targets(node, one.name, package))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                one.functions.append(_function(node))
            case ast.ClassDef():
                one.classes.append(_class(node))
            case ast.ExceptHandler():
                one.wide += node.type is None or _last(node.type) in {"Exception", "BaseException"}
        waiting += [
            child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case)
        ][::-1]


def _types_only(test: ast.expr) -> bool:
    return _last(test) == "TYPE_CHECKING"


def _targets(node: ast.ImportFrom, name: str, package: bool) -> list[str]:
    """Return the dotted names that a `from` import may mean: the module and each name beneath it."""
    base = node.module or ""
    if node.level:
        parts = name.split(".")
        kept = parts[: len(parts) - node.level + package]
        base = ".".join([*kept, *([node.module] if node.module else [])])
    return [base, *(f"{base}.{alias.name}" for alias in node.names)] if base else []


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Function:
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    typed = all(each.annotation is not None for each in given if each.arg not in {"self", "cls"}) and node.returns is not None
    first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
    return Function(
        node.name, node.lineno, (node.end_lineno or node.lineno) - first + 1, ast.get_docstring(node) is not None, typed,
        isinstance(node, ast.AsyncFunctionDef),
    )  # fmt: skip


def _class(node: ast.ClassDef) -> Class:
    marks = [each for each in node.decorator_list if _last(each) == "dataclass"]
    frozen = any(
        word.arg == "frozen" and isinstance(word.value, ast.Constant) and word.value.value is True
        for mark in marks if isinstance(mark, ast.Call) for word in mark.keywords
    )  # fmt: skip
    bases = tuple(name for base in node.bases if (name := _last(base)))
    return Class(node.name, bases, ast.get_docstring(node) is not None, bool(marks), frozen)


def _last(node: ast.expr) -> str:
    """Return the last part of a dotted name, of a call's or a subscript's too; "" for anything else."""
    while isinstance(node, ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


# --- sections ----------------------------------------------------------------------------------------------------------------


def _size(files: Mapping[str, str]) -> Iterator[str]:
    counts: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    for path, text in files.items():
        language = LANGUAGES.get(path.rpartition(".")[2].lower(), "") if "." in path.rpartition("/")[2] else ""
        if language:
            counts[language] += 1
            lines[language] += text.count("\n")
    for language, total in sorted(lines.items(), key=lambda item: (-item[1], item[0])):
        yield f"{language}: {_many(counts[language], 'file')}, {_many(total, 'line')}"


def _layers(modules: Sequence[Module]) -> Iterator[str]:
    """Yield the arrows between packages (between the parts of the package, where there is only one) and the cycles."""
    names = {one.name for one in modules}
    tops = {name.partition(".")[0] for name in names if "." in name}
    depth = 1 if len(tops) > 1 else 2
    arrows: dict[tuple[str, str], set[str]] = {}
    for one in modules:
        for target in _meant({_known(imported, names) for imported in one.imports} - {""}):
            here, there = _group(one.name, depth), _group(target, depth)
            if here != there:
                arrows.setdefault((here, there), set()).add(one.name)
    edges = {here: {there for source, there in arrows if source == here} for here, _ in arrows}
    for here in sorted(edges):
        listed = ", ".join(f"`{there}` ({len(arrows[here, there])})" for there in sorted(edges[here]))
        yield f"`{here}` -> {listed}"
    if arrows:
        circles = cycles(edges)
        yield from (f"cycle: {', '.join(f'`{name}`' for name in circle)} import each other" for circle in circles)
        if not circles:
            yield "no cycles"


def _meant(targets: set[str]) -> set[str]:
    """Return the targets without packages of which only a part is meant (`from p import part`)."""
    return {one for one in targets if not any(other.startswith(f"{one}.") for other in targets)}


def _known(imported: str, names: set[str]) -> str:
    """Return the module of this code base that an import means, or ""."""
    while imported and imported not in names:
        imported = imported.rpartition(".")[0]
    return imported


def _group(name: str, depth: int) -> str:
    return ".".join(name.split(".")[:depth])


def cycles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the sets of nodes that reach each other, each sorted, in order of their first node."""
    reach = {node: _reachable(node, edges) for node in edges}
    found = {tuple(sorted(other for other in reach[node] if node in reach.get(other, ()))) for node in edges if node in reach[node]}
    return [list(circle) for circle in sorted(found)]


def _reachable(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(edges.get(start, ()))
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += edges.get(node, ())
    return seen


def _modules(modules: Sequence[Module]) -> Iterator[str]:
    if not modules:
        return
    sizes = sorted(one.lines for one in modules)
    yield f"{_many(len(modules), 'module')} outside of tests, median {_many(sizes[len(sizes) // 2], 'line')}"
    largest = sorted(modules, key=lambda one: (-one.lines, one.path))[:_SHOWN]
    yield "largest: " + ", ".join(f"`{one.path}` ({one.lines})" for one in largest)
    yield f"with a docstring: {_share(one.documented for one in modules if one.lines)}"
    broken = [one.path for one in modules if one.broken]
    if broken:
        yield "cannot be parsed: " + ", ".join(f"`{path}`" for path in broken[:_SHOWN])


def _naming(modules: Sequence[Module]) -> Iterator[str]:
    functions = [one.name for each in modules for one in each.functions if not one.name.startswith("__")]
    classes = [one.name for each in modules for one in each.classes]
    files = [each.path.rpartition("/")[2].removesuffix(".py") for each in modules]
    rules: Sequence[tuple[str, list[str], re.Pattern[str]]] = (
        ("functions in snake_case", functions, _SNAKE), ("classes in CapWords", classes, _CAPS),
        ("modules in snake_case", files, _SNAKE),
    )  # fmt: skip
    for what, names, rule in rules:
        if names:
            others = sorted({name for name in names if not rule.fullmatch(name)})[:_SHOWN]
            yield f"{what}: {_share(rule.fullmatch(name) is not None for name in names)}" + _but(others)


def _but(others: Sequence[str]) -> str:
    return f"; not: {', '.join(f'`{name}`' for name in others)}" if others else ""


def _definitions(modules: Sequence[Module]) -> Iterator[str]:
    functions = [(one, each) for each in modules for one in each.functions]
    if functions:
        sizes = sorted(one.lines for one, _ in functions)
        yield f"{_many(len(functions), 'function')}, median {_many(sizes[len(sizes) // 2], 'line')}"
        longest = sorted(functions, key=lambda pair: (-pair[0].lines, pair[1].path, pair[0].line))[:3]
        yield "longest: " + ", ".join(f"`{one.name}` in `{each.path}` ({one.lines})" for one, each in longest)
        yield f"fully annotated: {_share(one.annotated for one, _ in functions)}"
        public = [one.documented for one, _ in functions if not one.name.startswith("_")]
        yield f"public functions with a docstring: {_share(public)}"
        asynchronous = sum(one.is_async for one, _ in functions)
        if asynchronous:
            yield f"{_many(asynchronous, 'async function')}"
    classes = [one for each in modules for one in each.classes]
    if classes:
        data = [one for one in classes if one.dataclass]
        yield f"{_many(len(classes), 'class')}, {len(data)} of them dataclasses, {sum(one.frozen for one in data)} frozen"


def _errors(modules: Sequence[Module]) -> Iterator[str]:
    """Yield the roots of the exception classes defined here with the number of their descendants, and wide excepts."""
    places = {one.name: (one, each.path) for each in modules for one in each.classes}
    children: dict[str, list[str]] = {}
    for name, (one, _) in places.items():
        for base in one.bases:
            children.setdefault(base, []).append(name)
    edges = {base: set(names) for base, names in children.items()}
    below = {name: _reachable(name, edges) for name in places}
    roots = sorted(name for name in children if name not in places and (name.endswith(("Error", "Exception", "Warning"))))
    for base in roots:
        for name in sorted(children[base]):
            tail = f", with {_many(len(below[name]), 'class')} beneath it" if below[name] else ""
            yield f"`{name}` ({base}) in `{places[name][1]}`{tail}"
    wide = sum(each.wide for each in modules)
    if places or wide:
        yield f"`except Exception` or wider: {wide}"


def _tests(files: Mapping[str, str], modules: Sequence[Module]) -> Iterator[str]:
    paths = [path for path in files if _TEST.search(path) and not path.endswith("conftest.py")]
    if not paths:
        return
    folders = sorted({path.partition("/")[0] if "/" in path else "." for path in paths})
    yield f"{_many(len(paths), 'test file')} in {', '.join(f'`{folder}`' for folder in folders[:_SHOWN])}"
    python = [one for one in modules if one.test]
    functions = sum(one.name.startswith("test") for each in python for one in each.functions)
    if functions:
        frameworks = [name for name in ("pytest", "unittest", "hypothesis") if any(_uses(each, name) for each in python)]
        yield f"{_many(functions, 'test function')}" + (f"; they import {', '.join(frameworks)}" if frameworks else "")
    stems = {re.sub(r"^test_|_test$", "", path.rpartition("/")[2].rpartition(".")[0]) for path in paths}
    own = [
        one.path.rpartition("/")[2].removesuffix(".py") for one in modules if not one.test and not one.path.endswith("__init__.py")
    ]
    if own and functions:
        yield f"modules with a test file of their name: {_share(stem in stems for stem in own)}"


def _uses(one: Module, name: str) -> bool:
    return any(imported.partition(".")[0] == name for imported in one.imports)


def _project(files: Mapping[str, str]) -> Iterator[str]:
    readers: dict[str, Callable[[str], Iterator[str]]] = {"pyproject.toml": _pyproject, "package.json": _package_json}
    for path, reader in readers.items():
        if path in files:
            yield from reader(files[path])
    others = (
        "setup.py",
        "Cargo.toml",
        "go.mod",
        "Makefile",
        "Dockerfile",
        "justfile",
        "tox.ini",
        "noxfile.py",
        "AGENTS.md",
        "README.md",
    )
    found = [name for name in others if name in files]
    if found:
        yield "at the root: " + ", ".join(f"`{name}`" for name in found)


def _pyproject(text: str) -> Iterator[str]:
    import tomllib

    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        yield "`pyproject.toml` is not valid TOML"
        return
    project = _table(data.get("project"))
    words = [
        f"name `{_word(project.get('name'))}`" if project.get("name") else "",
        f"Python {_word(project['requires-python'])}" if "requires-python" in project else "",
    ]
    scripts, tools = len(_table(project.get("scripts"))), sorted(_table(data.get("tool")))
    words += [
        _many(scripts, "console script") if scripts else "",
        f"tools configured: {', '.join(_word(name) for name in tools)}" if tools else "",
    ]
    yield "`pyproject.toml`: " + (", ".join(word for word in words if word) or "no project table")


def _package_json(text: str) -> Iterator[str]:
    import json

    try:
        data = _table(json.loads(text))
    except (ValueError, RecursionError):
        yield "`package.json` is not valid JSON"
        return
    scripts = [_word(name) for name in sorted(_table(data.get("scripts")))]
    yield f"`package.json`: name `{_word(data.get('name'))}`" + (f", scripts {', '.join(scripts[:12])}" if scripts else "")


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _word(value: Any) -> str:
    """Return a value from a file as one short word that can stand in Markdown."""
    return re.sub(r"[^\w.@/<>=,* ~!^+-]", "?", str(value))[:60]


def _many(count: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def _share(values: Iterable[bool]) -> str:
    listed = list(values)
    return f"{sum(listed)} of {len(listed)} ({100 * sum(listed) // len(listed)} %)" if listed else "0 of 0"
