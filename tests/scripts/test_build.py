"""The build: what an executable answers at once, its importer, what is installed and what is left alone.

The front is run by the bare interpreter with a small archive, so most of this needs no build. With TRANSCRIPT_BIN=FOLDER (what
.ci/run does after scripts/build) the executables themselves are judged, too.
"""

from __future__ import annotations

import ast
import importlib
import json
import marshal
import os
import pty
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from agent_core import config
from agent_core.options import SCHEMA_VIEWS

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts")]

from building import archive, bake, closure, deploy, discover, freeze, install, sbom  # noqa: E402 - found by the line above

BIN = Path(config.environ().get("TRANSCRIPT_BIN", "") or "/nonexistent")
FROZEN = sorted(path.name.removesuffix(".card.json") for path in BIN.glob("*.card.json"))
frozen = pytest.mark.skipif(not FROZEN, reason="needs executables: scripts/build, then TRANSCRIPT_BIN=bin")
ANSWERS = {"--version": b"tally 1\n", "--help": b"help \xc3\xa9\n", "-h": b"help \xc3\xa9\n", "--agent-schema": b"{}\n" * 40_000}
DRIVER = "import sys\nsys._MEIPASS = sys.argv.pop(1)\nexec(compile(open(sys.argv.pop(1)).read(), 'front.py', 'exec'), {'__name__': 'front'})\n"
PROGRAM = "def main():\n    import sys\n    print('program', sys.argv[1:])\n"


def program(folder, modules, answers=None, recorded=None):
    """Write an archive and a front; return the words that run it. `modules`: name -> text, a package if the name ends with a dot."""
    made = {}
    for name, text in modules.items():
        code = compile(textwrap.dedent(text), f"{name}.py", "exec", dont_inherit=True)
        made[name.rstrip(".")] = (name.endswith("."), code)
    (folder / freeze.ARCHIVE).write_bytes(archive.pack(made, recorded or {}))
    (folder / "front.py").write_text(freeze.front_text("tally", next(iter(made)), ANSWERS if answers is None else answers), "utf-8")
    (folder / "driver.py").write_text(DRIVER, "utf-8")
    return [sys.executable, "-I", "-S", str(folder / "driver.py"), str(folder), str(folder / "front.py")]


def run(argv, *words, **more):
    return subprocess.run([*argv, *words], stdin=subprocess.DEVNULL, capture_output=True, check=False, **more)


# --- the front


@pytest.mark.parametrize("argument", sorted(ANSWERS))
def test_a_baked_answer_comes_out_to_the_byte(tmp_path, argument):
    done = run(program(tmp_path, {"tally": PROGRAM}), argument)

    assert (done.returncode, done.stdout, done.stderr) == (0, ANSWERS[argument], b"")


@pytest.mark.parametrize(
    "words", [[], ["--version", "x"], ["--versio"], ["--agent-schema=cards"], ["--", "--version"], ["--VERSION"]]
)
def test_anything_else_is_the_program_s_business(tmp_path, words):
    done = run(program(tmp_path, {"tally": PROGRAM}), *words)

    assert done.stdout == f"program {words}\n".encode()


def test_the_answer_needs_built_in_modules_only(tmp_path):
    argv = program(tmp_path, {"tally": PROGRAM})
    text = (
        (tmp_path / "front.py")
        .read_text("utf-8")
        .replace("    posix._exit(0)", "    print(sorted(sys.modules))\n    posix._exit(0)", 1)
    )
    (tmp_path / "front.py").write_text(text.replace("posix._exit(0)", "sys.stdout.flush(); posix._exit(0)"), "utf-8")
    bare = subprocess.run(
        [sys.executable, "-I", "-S", "-c", "import sys; print(sorted(sys.modules))"], capture_output=True, text=True, check=True
    )
    done = run(argv, "--version", text=True)
    listed = ast.literal_eval(done.stdout.split("\n", 1)[1])

    assert set(listed) <= {*ast.literal_eval(bare.stdout), "_frozen_importlib_external", "_thread"}


def test_an_interrupt_while_it_starts_ends_it_silently_the_way_the_signal_would(tmp_path):
    done = run(program(tmp_path, {"tally": "import posix, time\nposix.kill(posix.getpid(), 2)\ntime.sleep(5)\n" + PROGRAM}))

    assert (done.returncode, done.stdout, done.stderr) == (-2, b"", b"")


def test_help_for_a_person_is_left_to_the_program(tmp_path):
    argv = program(tmp_path, {"tally": PROGRAM})
    child, fd = pty.fork()
    if child == 0:
        os.execv(argv[0], [*argv, "--help"])  # noqa: S606
    shown = b""
    while True:
        try:
            data = os.read(fd, 4096)
        except OSError:
            break
        if not data:
            break
        shown += data
    os.close(fd)
    os.waitpid(child, 0)

    assert b"program ['--help']" in shown


def test_a_shell_that_asks_for_completion_is_not_told_the_help(tmp_path):
    done = run(program(tmp_path, {"tally": PROGRAM}), "--help", env={"_TALLY_COMPLETE": "complete_bash"})

    assert done.stdout == b"program ['--help']\n"


def test_a_closed_stdout_is_left_to_the_program(tmp_path):
    argv = program(tmp_path, {"tally": "def main():\n    raise SystemExit(9)\n"})
    done = subprocess.run(["/bin/sh", "-c", '"$@" >&-', "sh", *argv, "--version"], capture_output=True, check=False)

    assert done.returncode == 9


def test_a_full_disk_is_said_and_a_failure(tmp_path):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*program(tmp_path, {"tally": PROGRAM}), "--version"], stdout=full, stderr=subprocess.PIPE, check=False
        )

    assert (done.returncode, done.stderr) == (1, b"tally: cannot write to stdout: No space left on device (is the disk full?)\n")


def test_a_reader_that_has_gone_ends_it_silently(tmp_path):
    argv = program(tmp_path, {"tally": PROGRAM})
    child = subprocess.Popen([*argv, "--agent-schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.close()

    assert child.stderr.read() == b""
    assert child.wait() == -signal.SIGPIPE


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"LD_LIBRARY_PATH": "HOME"}, {}),
        ({"LD_LIBRARY_PATH": "HOME:/mine:/yours", "LD_LIBRARY_PATH_ORIG": "/mine:/yours"}, {"LD_LIBRARY_PATH": "/mine:/yours"}),
        (
            {"LD_LIBRARY_PATH": "/mine", "LD_LIBRARY_PATH_ORIG": "/other"},
            {"LD_LIBRARY_PATH": "/mine", "LD_LIBRARY_PATH_ORIG": "/other"},
        ),
        ({"_PYI_ARCHIVE_FILE": "/x", "_PYI_PARENT_PROCESS_LEVEL": "1", "_PYIX": "stays"}, {"_PYIX": "stays"}),
    ],
)
def test_children_get_the_environment_that_was_before_the_bootloader(tmp_path, given, left):
    shows = "def main():\n    import os, subprocess\n    subprocess.run(['/usr/bin/env'])\n"
    env = {name: value.replace("HOME", str(tmp_path)) for name, value in given.items()}
    done = run(program(tmp_path, {"tally": shows}), env=env, text=True)
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())

    assert {name: value for name, value in found.items() if name.startswith(("LD_", "_PYI"))} == left


# --- the importer


SEVERAL = {
    "tally": """
        import pkgutil, shop, threading
        from importlib import resources
        def main():
            import shop.counter
            print(shop.__file__.endswith("/shop/__init__.py"), shop.counter.__package__, shop.counter.__spec__.origin[-15:])
            print(sorted(found.name for found in pkgutil.iter_modules(shop.__path__)))
            print(resources.files("shop").joinpath("price.txt").read_text())
            try:
                import shop.missing
            except ModuleNotFoundError as error:
                print(error.name)
    """,
    "shop.": "from shop import counter",
    "shop.counter": "",
    "shop.till": "raise RuntimeError('nobody asked for this')",
    "other": "",
}


def test_packages_modules_listings_and_data_are_found(tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "price.txt").write_text("ten")
    done = run(program(tmp_path, SEVERAL), text=True)

    assert done.stdout == "True shop shop/counter.py\n['counter', 'till']\nten\nshop.missing\n", done.stderr


def test_a_module_that_fails_is_named_in_the_traceback_and_the_status(tmp_path):
    done = run(program(tmp_path, {"tally": "def main():\n    import till", "till": "1 / 0"}), text=True)

    assert done.returncode == 1
    assert "till.py" in done.stderr
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(
    ("ends", "status", "said"), [("raise SystemExit(3)", 3, ""), ("raise SystemExit('no')", 1, "no\n"), ("pass", 0, "")]
)
def test_the_program_s_way_out_is_kept(tmp_path, ends, status, said):
    text = f"import atexit\ndef main():\n    atexit.register(print, 'last')\n    {ends}\n"
    done = run(program(tmp_path, {"tally": text}), text=True)

    assert (done.returncode, done.stdout, done.stderr) == (status, "last\n", said)


def test_a_lazy_module_is_loaded_once_whoever_comes_first(tmp_path):
    text = """
        import base64, threading
        def main():
            seen = []
            threads = [threading.Thread(target=lambda: seen.append(base64.b64encode(b"x"))) for _ in range(16)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            print(len(seen), set(seen), base64.loads, type(base64).__name__)
    """
    lazy = "import time\nloads = globals().get('loads', 0) + 1\ntime.sleep(0.05)\ndef b64encode(data):\n    return data + b'!'\n"
    done = run(program(tmp_path, {"tally": text, "base64": lazy}), text=True)

    assert done.stdout == "16 {b'x!'} 1 module\n", done.stderr


def test_a_lazy_module_that_nobody_uses_is_not_loaded(tmp_path):
    done = run(program(tmp_path, {"tally": "import base64\ndef main():\n    print('fine')", "base64": "1 / 0"}), text=True)

    assert done.stdout == "fine\n", done.stderr


RECORDED = r"""
    from __future__ import annotations
    import copy, pickle, re
    from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
    WORD = re.compile(r"(?P<first>[a-z]+)-(\d{1,3})", re.IGNORECASE)
    BYTES = re.compile(rb"[^\x00-\x1f]+$")
    @dataclass(frozen=True, slots=True, order=True)
    class Point:
        x: int
        y: list = field(default_factory=list, compare=False)
    @dataclass(frozen=True, slots=True)
    class Line:
        "From one point to another."
        start: Point
        end: Point = Point(9)
        names: list = field(default_factory=list, repr=False, hash=False)
    @dataclass
    class Shape:
        lines: int
        inner: Shape | None = None
        area: float = field(default=0.5, init=False, kw_only=True)
        def __post_init__(self):
            self.area *= self.lines
        def __eq__(self, other):
            return "mine"
    @dataclass(frozen=True, kw_only=True, slots=True)
    class Longer(Line):
        extra: int = 1
    class Plain(Line):
        pass
    def of_plans():
        line, shape = Line(Point(1)), Shape(3)
        for act in (lambda: setattr(line, "end", 1), lambda: delattr(line, "end"), lambda: Line(), lambda: setattr(line, "new", 1)):
            try:
                act()
            except (AttributeError, TypeError) as error:
                print(type(error).__name__, error)
        print(line, replace(line, names=[1]) == line, hash(line) == hash(Line(Point(1), names=[3])), Line.__match_args__, Line.__doc__)
        print(re.sub(" at 0x[0-9a-f]+", "", str(fields(Line))), asdict(line), is_dataclass(line), Plain(Point(2)), fields(Plain)[0].name, Line.__init__.__qualname__)
        shape.inner = shape
        print(shape, shape == 1, Shape.__hash__, Shape.area, Shape.__doc__, fields(Shape)[2].kw_only, Shape.__init__.__annotations__)
        print(Longer(Point(1), extra=2), fields(Longer)[3].kw_only, pickle.loads(pickle.dumps(line)) == line, copy.copy(line) == line)
        print(Line.__slots__, hasattr(line, "__dict__"), Line.__dataclass_params__, Line.__eq__(line, 1), Line.__module__)
        match line:
            case Line(Point(x), end):
                print(x, end)
    def main():
        of_plans()
        point = Point(1)
        try:
            point.x = 2
        except AttributeError as error:
            print(type(error).__name__)
        print(point, replace(point, x=5), Point(1) == point, Point(1) < Point(2), hash(Point(3)) == hash(Point(3)), Point.__doc__)
        print(WORD.match("Ab-12").groupdict(), WORD.flags, WORD.groups, BYTES.search(b"ab").span(), WORD == re.compile(WORD.pattern, re.I))
"""


def test_what_is_compiled_at_build_time_behaves_as_what_is_compiled_now(tmp_path):
    (tmp_path / "sample.py").write_text(textwrap.dedent(RECORDED), "utf-8")
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "scripts")]), "PATH": os.defpath}
    out = tmp_path / "recorded"
    subprocess.run([sys.executable, "-m", "building.record", str(out)], input=b"sample\n", env=env, check=True)
    seen = marshal.loads(out.read_bytes())["sample"]  # noqa: S302 - written by the line before
    plain = run([sys.executable, "-c", "import sample; sample.main()"], env=env, text=True)
    python = freeze.python_modules(
        ["dataclasses", "pickle", "re", "re._compiler", "re._parser", "re._constants", "re._casefix", "hashlib"]
    )
    code = compile(textwrap.dedent(RECORDED), "sample.py", "exec", dont_inherit=True)
    argv = program(tmp_path, {"sample": "pass"})
    (tmp_path / freeze.ARCHIVE).write_bytes(archive.pack({**python, "sample": (False, code)}, {"sample": seen}))
    done = run(argv, text=True)

    assert {name for name, plan in seen[0].items() if isinstance(plan, tuple)} == {("sample", "Line"), ("sample", "Shape")}
    assert any(isinstance(text, str) and "__lt__" in text for text in seen[0])
    assert len(seen[1]) == 2
    assert plain.stdout.startswith("FrozenInstanceError cannot assign")
    assert done.stdout == plain.stdout, done.stderr


def test_the_digests_of_the_program_are_those_of_hashlib(tmp_path):
    text = """
        import hashlib
        def main():
            print(hashlib.sha256(b"x").hexdigest(), hashlib.blake2b(b"x", digest_size=8).hexdigest(), hashlib.new("sha1", b"x").hexdigest())
            print(hashlib.pbkdf2_hmac("sha256", b"p", b"s", 10).hex(), "sha3_256" in hashlib.algorithms_available)
            import io
            print(hashlib.file_digest(io.BytesIO(b"x"), "sha256").hexdigest())
    """
    plain = run([sys.executable, "-c", textwrap.dedent(text) + "main()"], text=True)
    argv = program(tmp_path, {"tally": text})
    code = compile(textwrap.dedent(text), "tally.py", "exec")
    (tmp_path / freeze.ARCHIVE).write_bytes(archive.pack({**freeze.python_modules(["hashlib"]), "tally": (False, code)}, {}))
    done = run(argv, text=True)

    assert done.stdout == plain.stdout, done.stderr


LEAN = {
    "re": """
        def main():
            import re, sys
            from re import I, Match, Pattern
            print(re.compile("x") == re.compile("x"), isinstance(re.compile("x"), Pattern), type(re.match("x", "x")) is Match)
            print(re.sub(r"(a)(?P<n>b)", r"\\2\\g<n>-", "xabab"), re.compile(b"A", re.I | re.M).findall(b"aA"), re.escape("a.b"))
            print([int(getattr(re, name)) for name in ("A", "I", "L", "M", "S", "U", "X")], re.VERBOSE & 64 == 64, int(I))
            try:
                re.compile("(")
            except re.error as error:
                print(type(error).__module__, error)
            names = {}
            exec("from re import *", names)
            print(sorted(names.keys() - {"__builtins__"}), hasattr(re, "nothing"))
    """,
    "signal": """
        def main():
            import signal
            from signal import SIGINT, Signals
            print(int(SIGINT), Signals(15).name, signal.strsignal(9), signal.SIGTERM == Signals.SIGTERM, signal.SIG_DFL == 0)
            old = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            print(old == signal.SIG_DFL, signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN, signal.SIGINT in signal.valid_signals())
    """,
    "typing": """
        from typing import TYPE_CHECKING, Any, overload
        class Own(Any): pass
        def asked(x: "Any", y: "dict[str, Any] | None" = None) -> "int": pass
        def main():
            import typing
            print(TYPE_CHECKING, Any, Any is typing.Any, type(Own()).__name__)
            print(typing.get_type_hints(asked), typing.Optional[Any], typing.Protocol.__module__, typing.List[int])
            print(Any in typing.get_args(typing.Union[Any, int]), typing.NamedTuple("Pair", [("x", Any)])(1), hasattr(typing, "no"))
            for work in (Any, lambda: isinstance(1, Any)):
                try:
                    work()
                except TypeError as error:
                    print(error)
            names = {}
            exec("from typing import *", names)
            print(sorted(names.keys() - {"__builtins__"}))
            typing._type_check = lambda *_, **__: int
            print(typing.Optional["anything"])
    """,
}  # fmt: skip


@pytest.mark.parametrize("name", LEAN)
def test_a_lean_module_of_python_says_what_the_whole_one_says(tmp_path, name):
    text = textwrap.dedent(LEAN[name])
    plain = run([sys.executable, "-c", f"{text}\nmain()"], text=True)
    argv = program(tmp_path, {"tally": text})
    code = compile(text, "tally.py", "exec")
    parts = [name, *(f"re.{part}" for part in ("_casefix", "_compiler", "_constants", "_parser") if name == "re")]
    (tmp_path / freeze.ARCHIVE).write_bytes(archive.pack({**freeze.python_modules(parts), "tally": (False, code)}, {}))
    done = run(argv, text=True)

    assert plain.returncode == 0, plain.stderr
    assert done.stdout == plain.stdout, done.stderr


@pytest.mark.parametrize("package", sorted(freeze.BY_NAME))
def test_a_lean_package_has_every_public_name_and_the_same_object_behind_it(package):
    from building import lean

    real, made = importlib.import_module(package), {"__name__": "lean"}
    exec(lean.by_name(package), made)  # noqa: S102 - what is judged

    assert set(made["__all__"]) == set(real.__all__) - lean.ABSENT
    assert all(made["__getattr__"](name) is getattr(real, name) for name in made["__all__"])
    with pytest.raises(AttributeError, match="nothing"):
        made["__getattr__"]("nothing")


def test_the_same_modules_make_the_same_archive_in_another_process(tmp_path):
    code = (
        "import sys, hashlib; sys.path[:0] = [sys.argv[1]]\nfrom building import archive\n"
        "made = {n: (False, compile('x = {1, 2, \"a\"}\\ndef f(a, b=\"a\"): return a', n, 'exec')) for n in ('a', 'rich', 'c')}\n"
        "print(hashlib.sha256(archive.pack(made, {})).hexdigest())"
    )
    env = {"PYTHONHASHSEED": "0", "PATH": os.defpath}
    made = {run([sys.executable, "-c", code, str(ROOT / "scripts")], env=env, text=True).stdout for _ in range(3)}

    assert len(made) == 1
    assert len(made.pop()) == 65


# --- which agents there are


def checkout(folder, **agents):
    """Make a checkout with these agents (name -> text) and the packages of this one."""
    (folder / "agents").mkdir()
    for name in ("agent_core", "agent_plugins", "agent_patterns", "agent_providers", "scripts"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "agents" / "__init__.py").write_text("")
    for stem, text in agents.items():
        (folder / "agents" / f"{stem}.py").write_text(text)
    return folder


GOOD = '"""{name} - count things."""\nfrom agent_core import Agent\nagent = Agent(__doc__)\nmain = agent.main\n'


def test_agents_are_found_by_their_files_and_the_broken_ones_say_why(tmp_path):
    root = checkout(
        tmp_path, good=GOOD.format(name="good"), a_b=GOOD.format(name="a-b"), other=GOOD.format(name="wrong"), broken="import nowhere_at_all",
        silent="main = lambda words: None", leaves="raise SystemExit(4)", _hidden="1 / 0", bare="",
    )  # fmt: skip
    baked = {each.source.name: each for each in (bake.bake(source, str(root)) for source in discover.sources(root))}

    assert sorted(baked) == ["a-b", "bare", "broken", "good", "leaves", "other", "silent"]
    assert {name for name, each in baked.items() if not each.problem} == {"a-b", "good"}
    assert "nowhere_at_all" in baked["broken"].problem
    assert "must agree" in baked["other"].problem
    assert "card" in baked["silent"].problem
    assert baked["leaves"].problem.startswith("SystemExit")
    assert baked["bare"].problem.startswith("AttributeError")


def test_a_baked_answer_is_what_the_agent_says_from_source(tmp_path):
    baked = bake.bake(discover.Source("text-processor", "agents.text_processor", ROOT / "agents/text_processor.py"), str(ROOT))

    assert set(baked.answers) == {
        "--version",
        "--help",
        "-h",
        "__schema",
        "--agent-schema",
        *(f"--agent-schema={view}" for view in SCHEMA_VIEWS),
    }
    for argument in ("--help", "--agent-schema", "--agent-schema=man"):
        done = run([sys.executable, str(ROOT / "agents/text_processor.py")], argument)
        assert done.stdout == baked.answers[argument]


# --- what belongs in


def test_only_dependencies_and_what_they_need_belong_in():
    parts = closure.parts()

    assert {"httpx", "httpcore", "h11", "certifi", "pydantic", "pydantic-core", "typer"} <= set(parts)
    assert not {"pytest", "ruff", "mypy", "hypothesis", "pyinstaller", "openai"} & set(parts)
    assert all(file.startswith("/") for part in parts.values() for file in part.files)
    assert closure.top_level(parts["httpx"]) == ["httpx"]


def test_every_module_of_the_packages_is_named_and_no_more():
    named = freeze.modules()

    assert {
        "agents.text_processor",
        "agent_core.cli",
        "agent_patterns.react",
        "agent_providers.scripted",
        "agent_plugins.tools.shell",
    } <= set(named)
    assert not [name for name in named if "__" in name]


def test_no_package_imports_what_the_build_leaves_out():
    left_out = {name for name in freeze.EXCLUDED if "." not in name}
    found = set()
    for package in discover.PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                found |= {f"{path.relative_to(ROOT)}: {name}" for name in names if name.partition(".")[0] in left_out}
    assert not found


def test_the_bill_of_materials_names_every_part_once_and_is_the_same_every_time():
    text = sbom.bill(1_700_000_000)
    bill = json.loads(text)
    refs = [component["bom-ref"] for component in bill["components"]]

    assert text == sbom.bill(1_700_000_000)
    assert (bill["bomFormat"], bill["specVersion"], bill["metadata"]["timestamp"]) == ("CycloneDX", "1.6", "2023-11-14T22:13:20Z")
    assert len(refs) == len(set(refs))
    assert {component["name"] for component in bill["components"]} >= {"httpx", "pydantic", "python", "openssl", "sqlite"}
    assert {target for row in bill["dependencies"] for target in row["dependsOn"]} <= set(refs)


# --- what is installed


def answering(folder, name, *, says=None, runtime=".runtime-1"):
    """Make something like a built agent: a script that answers as it should (or says something else)."""
    card = json.dumps({"schema": "agent-card/1", "name": name, "digest": "d"}).encode() + b"\n"
    answers = {"--agent-schema": card, "--version": b"1\n", "--help": b"help\n"}
    (folder / runtime).mkdir(parents=True, exist_ok=True)
    (folder / runtime / "lib").write_text(runtime)
    cases = "".join(f"{argument}) printf '%s' '{data.decode()}' ;;\n" for argument, data in answers.items())
    text = f"#!/bin/sh\n# {runtime}\ncase $1 in\n{cases}esac\n" if says is None else f"#!/bin/sh\n{says}\n"
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    return bake.Baked(discover.Source(name, f"agents.{name}", folder / f"{name}.py"), answers)


def test_what_answers_is_installed_and_what_does_not_leaves_the_old_alone(tmp_path):
    out = tmp_path / "bin"
    first = [answering(tmp_path / "one", name) for name in ("a", "b")]
    assert not [each.problem for each in install.install(freeze.Made(tmp_path / "one", ".runtime-1"), first, out) if each.problem]
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}

    good, bad = (
        answering(tmp_path / "two", "a", runtime=".runtime-2"),
        answering(tmp_path / "two", "b", says="echo no >&2; exit 70", runtime=".runtime-2"),
    )
    results = install.install(freeze.Made(tmp_path / "two", ".runtime-2"), [good, bad], out)

    assert [bool(each.problem) for each in results] == [False, True]
    assert "no" in results[1].problem
    assert (out / "b").read_bytes() == before["b"]
    assert (out / "b.card.json").read_bytes() == before["b.card.json"]
    assert b".runtime-2" in (out / "a").read_bytes()
    assert {path.name for path in out.iterdir() if path.is_dir()} == {".runtime-1", ".runtime-2"}
    assert stat.S_IMODE((out / "a").stat().st_mode) == 0o755
    assert not list(out.glob(".*.part"))


@pytest.mark.parametrize("says", ["printf ''", "exit 1", "kill -9 $$", "cat /dev/zero | head -c 100"])
def test_nothing_is_installed_that_does_not_answer_with_its_card(tmp_path, says):
    baked = answering(tmp_path / "new", "a", says=says)

    assert install.install(freeze.Made(tmp_path / "new", ".runtime-1"), [baked], tmp_path / "bin")[0].problem
    assert not list((tmp_path / "bin").iterdir())


def test_a_shared_folder_is_kept_one_build_longer_than_it_is_used(tmp_path):
    out = tmp_path / "bin"
    for build, runtime in (("one", ".runtime-1"), ("two", ".runtime-2"), ("three", ".runtime-2")):
        install.install(freeze.Made(tmp_path / build, runtime), [answering(tmp_path / build, "a", runtime=runtime)], out)
        install.sweep(out)
        there = sorted(path.name for path in out.glob(".runtime-*"))
        assert there == {"one": [".runtime-1"], "two": [".runtime-1", ".runtime-2"], "three": [".runtime-2"]}[build]


def test_an_agent_that_is_no_more_goes_and_a_stranger_stays(tmp_path):
    out = tmp_path / "bin"
    baked = [answering(tmp_path / "new", name) for name in ("a", "b")]
    install.install(freeze.Made(tmp_path / "new", ".runtime-1"), baked, out)
    (out / "mine").write_text("not from a build")

    assert install.remove_gone(out, ["a"]) == ["b"]
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == ["a", "a.card.json", "mine"]


def test_the_checksums_are_those_that_sha256sum_finds(tmp_path):
    out = tmp_path / "bin"
    install.install(freeze.Made(tmp_path / "new", ".runtime-1"), [answering(tmp_path / "new", "a")], out)
    (out / install.SUMS).write_text(install.sums(out))
    done = subprocess.run(
        ["/usr/bin/sha256sum", "--strict", "-c", install.SUMS], cwd=out, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [".runtime-1/lib: OK", "a: OK", "a.card.json: OK"]


# --- files for an installation


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deploy")
    sources = [source for source in discover.sources() if source.name in {"text-processor", "code-reviewer"}]
    deploy.write([bake.bake(source, str(ROOT)) for source in sources], folder)
    return folder


def lint(*argv):
    if shutil.which(argv[0]) is None:
        pytest.skip(f"needs {argv[0]}")
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_systemd_finds_nothing_wrong_with_the_units(deployed, tmp_path):
    for path in (deployed / "systemd").iterdir():
        (tmp_path / path.name).write_text(path.read_text("utf-8").replace("/usr/local/bin/", "/usr/bin/env "), "utf-8")
    done = lint("systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.glob("*@.*"))))

    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_calls_the_units_well_protected(deployed):
    units = sorted((deployed / "systemd").glob("*.service"))
    done = lint("systemd-analyze", "security", "--offline=true", "--threshold=20", *map(str, units))

    assert units
    assert done.returncode == 0, done.stdout[-300:]


def test_mandoc_finds_nothing_wrong_with_the_pages_but_that_they_have_no_date(deployed):
    done = lint("mandoc", "-T", "lint", "-W", "warning", *map(str, sorted((deployed / "man").iterdir())))

    assert [line for line in done.stdout.splitlines() if "missing date" not in line] == []


@pytest.mark.parametrize(("shell", "form"), sorted(deploy.SHELLS.items()))
def test_each_shell_reads_its_completion(deployed, shell, form):
    path = deployed / "completions" / form.format("text-processor")
    done = lint(shell, "-n", str(path))

    assert path.stat().st_size > 100
    assert (done.returncode, done.stderr) == (0, "")


def test_bash_completes_flags_of_the_program(deployed, tmp_path):
    program = tmp_path / "text-processor"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/agents/text_processor.py "$@"\n')
    program.chmod(0o755)
    source, find = (
        f"source {deployed}/completions/text-processor.bash",
        "complete -p text-processor | sed 's/.*-F \\([^ ]*\\).*/\\1/'",
    )
    script = f"{source}; COMP_WORDS=(text-processor --list-t); COMP_CWORD=1; f=$({find}); $f text-processor; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(
        ["/bin/bash", "-c", script],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "--list-tools" in done.stdout, done.stderr


def test_the_container_file_holds_no_key_and_runs_as_nobody_special(deployed):
    text = (deployed / "Containerfile").read_text("utf-8")

    assert "USER agent" in text
    assert "API_KEY=" not in text
    assert "FROM docker.io/library/python:3." in text


# --- the executables


@frozen
@pytest.mark.parametrize("name", FROZEN)
def test_an_executable_answers_at_once_what_it_answers_the_long_way(name, tmp_path):
    for argument in bake.arguments():
        said = [argument, argument] if argument.startswith("-") else ["--", argument]
        quick, slow = run([str(BIN / name)], argument, cwd=tmp_path), run([str(BIN / name)], *said, cwd=tmp_path)
        assert (quick.returncode, quick.stderr) == (0, b"")
        assert quick.stdout == slow.stdout, slow.stderr


@frozen
@pytest.mark.parametrize("name", FROZEN)
def test_an_executable_s_card_lies_beside_it(name):
    assert (BIN / f"{name}.card.json").read_bytes() == run([str(BIN / name)], "--agent-schema").stdout


@frozen
def test_an_executable_runs_where_there_is_no_python_and_from_a_link(tmp_path):
    (tmp_path / "tp").symlink_to((BIN / "text-processor").absolute())
    done = run(["./tp", "--tool", "uppercase", "x"], cwd=tmp_path, env={"PATH": "/nonexistent"})

    assert (done.returncode, done.stdout, done.stderr) == (0, b"X\n", b"")


@frozen
def test_a_command_that_an_agent_starts_sees_the_user_s_environment(tmp_path):
    env = {"PATH": os.defpath, "HOME": str(tmp_path), "LD_LIBRARY_PATH": "/mine"}
    done = run([str(BIN / "assistant")], "--allow", "shell", "--yes", "--tool", "shell", "env", env=env, text=True, cwd=tmp_path)

    assert "[exit 0" in done.stdout
    assert ".runtime" not in done.stdout
    assert "_PYI" not in done.stdout


@frozen
def test_runs_are_kept_in_the_store_and_found_by_another_executable(tmp_path):
    env = {"PATH": os.defpath, "HOME": str(tmp_path)}
    first = run([str(BIN / "text-processor")], "--provider", "offline", "make this uppercase: 'x'", env=env, cwd=tmp_path)
    listed = run([str(BIN / "agent-log")], "list", env=env, cwd=tmp_path)

    assert first.stdout == b"X\n", first.stderr
    assert b"text-processor" in listed.stdout, listed.stderr


@frozen
def test_certificates_come_with_the_program(tmp_path):
    import ssl

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    del server
    env = {"PATH": os.defpath, "HOME": str(tmp_path), "OPENAI_API_KEY": "not-a-key-123"}
    words = ["--provider", "openai", "--model", "m", "--base-url", "https://127.0.0.1:9/v1", "--retry", "0", "--no-stdin", "x"]
    done = run([str(BIN / "text-processor")], *words, env=env, cwd=tmp_path, text=True)

    assert done.returncode == 69, done.stderr
    assert "cannot reach https://127.0.0.1:9" in done.stderr  # the TLS context was made, then nobody answered


@frozen
def test_the_checksums_of_the_build_hold():
    done = subprocess.run(
        ["/usr/bin/sha256sum", "--quiet", "--strict", "-c", install.SUMS], cwd=BIN, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (0, "")
