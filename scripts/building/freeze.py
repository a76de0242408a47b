"""freeze - make executables with PyInstaller: one shared folder and a thin program for each agent, or one agent in one file.

The generated specification has one Analysis (every module of the five packages is in it by name: they import each other late) and
one EXE for each agent. What PyInstaller would run first (its own importer, its hooks for the interpreter's start) is replaced by
building.front. Thin executables hold their answers and a reference to the shared folder, whose name is the hash of what is in it:
an old executable keeps its old folder, so replacing programs one by one is never half a change.
"""

from __future__ import annotations

import hashlib
import os
import py_compile
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_core import config
from building import archive, closure, lean
from building.discover import PACKAGES, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from building.bake import Baked

ARCHIVE = "suite.bin"
EPOCH = "1700000000"
# Never reached by an agent. What is not a dependency is left out anyway (building.closure).
EXCLUDED = (
    "anyio", "trio", "httpx._main", "distutils", "doctest", "ensurepip", "idlelib", "lib2to3", "pdb", "pydoc", "pydoc_data",
    "pydantic.v1", "pydantic.mypy", "setuptools", "pkg_resources", "test", "tkinter", "turtle",
    "unittest", "venv", "xmlrpc", "wsgiref", "curses", "readline", "dbm", "msilib", "ftplib", "telnetlib", "nntplib", "tarfile",
    "imaplib", "poplib", "smtplib", "_pydecimal", "rlcompleter", "bdb", "cmd", "code", "codeop", "py_compile", "compileall",
    "PyInstaller", "building", "rich.diagnose", "rich.__main__", "pygments.__main__", "lzma", "bz2", "_lzma", "_bz2",
    "multiprocessing", "_multiprocessing", "sqlite3.dump", "asyncio.__main__", "zoneinfo._zoneinfo",
)  # fmt: skip
# Dependencies whose docstrings have no use in a program. Ours are its manuals and what models read of its tools.
UNDOCUMENTED = frozenset(("annotated_types", "h11", "httpcore", "httpx", "pydantic", "pydantic_core", "typing_extensions"))
# Dependencies that never look at their own annotations: evaluating these is what makes them load ssl.
UNEVALUATED = frozenset(("h11", "httpcore", "httpx"))
# Dependencies that load all they have when they are imported.
BY_NAME = frozenset(("httpcore", "httpx"))
# Python's own whose first part (lean_NAME.py) is enough for most calls; what its whole self needs replaced: (old, new).
LEAN: dict[str, tuple[tuple[str, str], ...]] = {
    "hashlib": (),
    "re": (("from . import", "from re import"),),
    "signal": (),
    "typing": (("\nclass Any(", "\nclass _Any("),),  # there is one already
}
# Languages whose code is coloured on a terminal.
LEXERS = ("python", "shell", "javascript", "data", "diff", "html", "css", "sql", "c_cpp", "go", "rust", "configs", "markup", "jvm")


@dataclass(frozen=True, slots=True)
class Made:
    """What a run of PyInstaller left: the folder with the executables and, beside them, the shared one (none for one file)."""

    folder: Path
    runtime: str = ""


def build(agents: Sequence[Baked], work: Path, *, onefile: bool = False) -> Made:
    """Make executables of the agents in `work`; RuntimeError with PyInstaller's last words if it fails."""
    work.mkdir(parents=True, exist_ok=True)
    fronts = {baked.source.name: str(_front(baked, work)) for baked in agents}
    spec = work / "suite.spec"
    spec.write_text(_spec(fronts, onefile=onefile), "utf-8")
    env = {**config.environ(), "PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": EPOCH, "PYTHONPATH": f"{ROOT}/scripts{os.pathsep}{ROOT}"}
    argv = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN", "--distpath", str(work / "dist"),
            "--workpath", str(work / "work"), str(spec)]  # fmt: skip
    done = subprocess.run(argv, env=env, cwd=work, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        words = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()[-12:]
        raise RuntimeError("PyInstaller failed:\n" + "\n".join(words))
    folder = work / "dist" if onefile else work / "dist" / "suite"
    return Made(folder, "" if onefile else next(path.name for path in folder.iterdir() if path.is_dir()))


def _front(baked: Baked, work: Path) -> Path:
    """Compile the front of one agent; its answers are constants of the code."""
    source = work / "fronts" / f"{baked.source.name}.py"
    source.parent.mkdir(exist_ok=True)
    source.write_text(front_text(baked.source.name, baked.source.module, baked.answers), "utf-8")
    made = source.with_suffix(".pyc")
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(source), str(made), dfile="front.py", doraise=True, optimize=2, invalidation_mode=mode)
    return made


def front_text(name: str, module: str, answers: Mapping[str, bytes]) -> str:
    """Return the source of the front of one agent: building.front with its constants filled in."""
    known = {
        'NAME = ""': f"NAME = {name!r}",
        "ENTRY = ()": f"ENTRY = {(module, 'main')!r}",
        "ANSWERS = {}": f"ANSWERS = {_shared(answers)}",
        'ARCHIVE = ""': f"ARCHIVE = {ARCHIVE!r}",
    }
    text = (Path(__file__).parent / "front.py").read_text("utf-8")
    return "\n".join(known.get(line, line) for line in text.splitlines()) + "\n"


def _shared(answers: Mapping[str, bytes]) -> str:
    """Return the text of a dict; the compiler keeps equal bytes once."""
    return "{" + ", ".join(f"{argument!r}: {data!r}" for argument, data in sorted(answers.items())) + "}"


_SPEC = '''"""Generated by scripts/build."""
from building import freeze

FRONTS = {fronts}
analysis = Analysis(
    [freeze.empty_script(workpath)], pathex=[{root!r}], hiddenimports=freeze.modules(), excludes=list(freeze.EXCLUDED), optimize=1,
)
pure = freeze.trimmed(analysis.pure)
everything = PYZ(pure)
files = freeze.files(analysis, everything, workpath)
stored = {{"PYMODULE": False, "PYSOURCE": False}}
'''
_FOLDER = """
contents = freeze.folder_name(files)
programs = [
    EXE(
        [("front", front, "PYMODULE")], name=name, exclude_binaries=True, contents_directory=contents, cdict=stored, strip=True,
    )
    for name, front in FRONTS.items()
]
COLLECT(*programs, files, name="suite", strip=True)
"""
_FILE = """
for name, front in FRONTS.items():
    EXE([("front", front, "PYMODULE")], files, name=name, strip=True)
"""


def _spec(fronts: Mapping[str, str], *, onefile: bool) -> str:
    return _SPEC.format(fronts=repr(dict(fronts)), root=str(ROOT)) + (_FILE if onefile else _FOLDER)


# -- what the specification calls --------------------------------------------------------------------------------------------------


def empty_script(work: str) -> str:
    """Return a script that does nothing: every module is named, none is found through it."""
    path = Path(work) / "nothing.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("", "utf-8")
    return str(path)


def modules(root: Path = ROOT) -> list[str]:
    """Return all modules that belong in: the packages' own, found by their files, and what their dependencies load by name."""
    names = set()
    for package in PACKAGES:
        for path in (root / package).rglob("*.py"):
            stem = path.relative_to(root).with_suffix("").parts
            names.add(".".join(stem[:-1] if stem[-1] == "__init__" else stem))
    unicode_data = Path(_location("rich")) / "_unicode_data"
    names |= {f"rich._unicode_data.{path.stem}" for path in unicode_data.glob("*.py") if path.stem != "__init__"}
    names |= {f"pygments.lexers.{name}" for name in LEXERS} | {"zoneinfo", "importlib.readers", "encodings.idna"}
    return sorted(names)


def _location(package: str) -> str:
    from importlib.util import find_spec

    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise LookupError(f"{package} is not installed (run scripts/environment dev)")
    return spec.submodule_search_locations[0]


def trimmed(entries: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Return the entries whose file belongs to Python, to this repository or to a dependency."""
    allowed = {file for part in closure.parts().values() for file in part.files}
    return [entry for entry in entries if _belongs(entry, allowed)]


def needed(binaries: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Return the extension modules, the interpreter, and of the other libraries those that one of them is linked to."""
    from PyInstaller.depend.bindepend import get_imports

    libraries = {Path(entry[0]).name: entry for entry in binaries if entry[2] != "EXTENSION"}
    waiting = [entry for entry in binaries if entry[2] == "EXTENSION" or "libpython" in entry[0]]
    kept: dict[str, tuple[str, str, str]] = {}
    while waiting:
        entry = waiting.pop()
        if entry[0] not in kept:
            kept[entry[0]] = entry
            names = (Path(name).name for name, _ in get_imports(entry[1])) if entry[2] != "SYMLINK" else ()
            waiting += [libraries[name] for name in names if name in libraries]
    return list(kept.values())


def _belongs(entry: tuple[str, str, str], allowed: set[str]) -> bool:
    name, source, _ = entry
    if name == "base_library.zip" or ".dist-info" in name or name in EXCLUDED or _spare(name, allowed):
        return False
    if any(name.startswith(f"{excluded}.") for excluded in EXCLUDED):
        return False
    if source in {"", "-"} or source is None:
        return True
    real = str(Path(source).resolve())
    return "site-packages" not in real or real in allowed


def _spare(name: str, allowed: set[str]) -> bool:
    """Whether nothing needs it: lexers of other languages, a second SQLite, a dependency's own tests."""
    if "lib-dynload/_sqlite3." in name or name.startswith(("libsqlite3.", "sqlite3")):
        return any("/pysqlite3/" in file for file in allowed)  # newer than the interpreter's own
    if name.startswith(("jsonschema/benchmarks", "jsonschema/tests", "jsonschema.benchmarks", "jsonschema.tests")):
        return True
    kept = {f"pygments.lexers.{lexer}" for lexer in (*LEXERS, "_mapping")}
    return name.startswith(("pygments.lexers.", "pygments.formatters.", "pygments.styles.")) and name not in {
        *kept, "pygments.formatters._mapping", "pygments.styles._mapping", "pygments.styles.default", "pygments.styles.monokai",
    }  # fmt: skip


def files(analysis: Any, pyz: Any, work: str) -> list[tuple[str, str, str]]:
    """Return what goes into the shared folder beside the libraries: the archive, data, and codecs for the interpreter's start."""
    base = next(source for name, source, _ in analysis.datas if name == "base_library.zip")
    found = {**archive.read_zip(base), **archive.read_pyz(pyz.name)}
    found |= python_modules([*found, "struct"])
    found = {name: made for name, made in found.items() if name.partition(".")[0] != "encodings"}  # these are files, see _codecs
    recorded = _recorded([name for name in found if name.partition(".")[0] in PACKAGES], Path(work))
    path = Path(work) / ARCHIVE
    path.write_bytes(archive.pack(found, recorded))
    early = [entry for entry in pyz.dependencies if entry[2] == "EXTENSION"]  # PyInstaller's own start has them elsewhere
    data = [*needed([*early, *trimmed(analysis.binaries)]), *trimmed(analysis.datas), *_own_data(), *_codecs(Path(work))]
    return [*data, (ARCHIVE, str(path), "DATA")]


def python_modules(names: Iterable[str]) -> dict[str, Any]:
    """Return the modules of Python and of UNDOCUMENTED without docstrings: nobody reads them here, each start would load them."""
    import sysconfig

    found = {}
    for name in names:
        place = sysconfig.get_path("purelib" if name.partition(".")[0] in UNDOCUMENTED else "stdlib")
        stem = Path(place, *name.split("."))
        for package, path in ((True, stem / "__init__.py"), (False, stem.with_name(f"{stem.name}.py"))):
            if path.is_file():
                found[name] = (package, _compiled(path, path.relative_to(place).as_posix()))
    for name in LEAN.keys() & found.keys():
        found[f"full_{name}"] = _whole(name, found[name][0])
        found[name] = (found[name][0], _compiled(Path(__file__).parent / f"lean_{name}.py", f"{name}.py"))
    if "dataclasses" in found:
        found["planned_dataclasses"] = (False, _compiled(Path(__file__).parent / "planned.py", "planned_dataclasses.py"))
    for lazy in BY_NAME & found.keys():
        found[lazy] = (True, compile(lean.by_name(lazy), f"{lazy}/__init__.py", "exec", dont_inherit=True))
    return found


def _whole(name: str, package: bool) -> tuple[bool, Any]:
    """Return the module that a lean one asks for the rest; it is told what it has to know of that."""
    import sysconfig

    shown = f"{name}/__init__.py" if package else f"{name}.py"
    source = Path(sysconfig.get_path("stdlib"), shown).read_text("utf-8")
    for old, new in LEAN[name]:
        if old not in source:
            raise LookupError(f"{shown}: there is no {old!r}")
        source = source.replace(old, new)
    return False, compile(source, shown, "exec", dont_inherit=True, optimize=2)


def _compiled(path: Path, shown: str) -> Any:
    import __future__

    flags = __future__.annotations.compiler_flag if shown.partition("/")[0] in UNEVALUATED else 0
    return compile(path.read_bytes(), shown, "exec", flags=flags, dont_inherit=True, optimize=2)


def _own_data() -> list[tuple[str, str, str]]:
    """Return the data files of the packages (personas, presets …)."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*")):
            if path.is_file() and path.suffix not in {".py", ".pyc", ".typed"} and "__pycache__" not in path.parts:
                found.append((path.relative_to(ROOT).as_posix(), str(path), "DATA"))  # noqa: PERF401 - two loops read better
    return found


def _codecs(work: Path) -> list[tuple[str, str, str]]:
    """Compile the codecs: the interpreter loads that of the locale before any importer of ours is there."""
    folder = Path(_location("encodings"))
    found = []
    for source in sorted(folder.glob("*.py")):
        made = work / "encodings" / f"{source.stem}.pyc"
        made.parent.mkdir(exist_ok=True)
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(
            str(source), str(made), dfile=f"encodings/{source.name}", doraise=True, optimize=2, invalidation_mode=mode
        )
        found.append((f"encodings/{source.stem}.pyc", str(made), "DATA"))
    return found


def _recorded(names: Sequence[str], work: Path) -> dict[str, Any]:
    import marshal

    out = work / "recorded"
    names = [*names, *(name for part in closure.parts().values() for name in closure.top_level(part))]
    argv = [sys.executable, "-m", "building.record", str(out)]
    subprocess.run(argv, input="\n".join(names).encode(), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return dict(marshal.loads(out.read_bytes()))  # noqa: S302 - written by the line before


def folder_name(entries: Iterable[tuple[str, str, str]]) -> str:
    """Return the shared folder's name: a hash of all that goes into it."""
    whole = hashlib.sha256()
    for name, source, kind in sorted(entries):
        content = source.encode() if kind == "SYMLINK" else hashlib.sha256(Path(source).read_bytes()).digest()
        whole.update(f"{name}\0{kind}\0".encode() + content)
    return f".runtime-{whole.hexdigest()[:16]}"
