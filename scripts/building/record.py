"""record - find out what modules compile from text while they are imported.

    python -m building.record OUT < NAMES      imports the modules named on stdin, one a line, and writes OUT

OUT is marshalled: {module: (functions, patterns)}, as building.front explains. Names of generated methods and regular expressions
are the same at every start of the same interpreter, so their code may as well be made once.
"""

# ruff: noqa: SLF001, S102 - watches how CPython itself compiles; the names are checked before they are used

from __future__ import annotations

import dataclasses
import inspect
import marshal
import re
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from typing import Any

from building import plans

FUNCTIONS: dict[str, dict[Any, Any]] = defaultdict(dict)
PATTERNS: dict[str, dict[Any, Any]] = defaultdict(dict)


def watch_dataclasses() -> None:
    """Record how each dataclass is made, by its module. CPython 3.11 and 3.12 make methods by exec of a text."""
    if not hasattr(dataclasses, "_create_fn"):
        return
    stock = dataclasses._process_class  # type: ignore[attr-defined]
    texts: dict[str, str] = {}

    def watched(text: Any, globals_: Any = None, locals_: Any = None) -> None:
        if isinstance(text, str):
            code = compile(text, "<string>", "exec", dont_inherit=True)
            texts[text] = str((globals_ or {}).get("__name__"))
            text = code
        exec(text, globals_, locals_)

    def process(cls: Any, *parameters: Any) -> Any:
        texts.clear()
        before = dict(cls.__dict__)
        made = stock(cls, *parameters)
        plan = plans.plan(made, before, parameters, list(texts))
        if plan is None:
            for text, module in texts.items():
                FUNCTIONS[module][text] = compile(text, "<string>", "exec", dont_inherit=True)
            dataclasses.inspect.signature(made)  # type: ignore[attr-defined] # asked for where the program has no docstrings
        else:
            FUNCTIONS[cls.__module__][cls.__module__, cls.__qualname__] = plan
        return made

    dataclasses.exec = watched  # type: ignore[attr-defined]
    dataclasses.inspect = Signatures()  # type: ignore[attr-defined]
    dataclasses._process_class = process  # type: ignore[attr-defined]


class Signatures:
    """Stands for `inspect` in dataclasses: records the signatures that become docstrings."""

    def signature(self, cls: Any) -> str:
        """Return the signature as text."""
        text = str(inspect.signature(cls))
        FUNCTIONS[cls.__module__][cls.__module__, cls.__qualname__] = text
        return text


def watch_re() -> None:
    """Record what `_sre.compile` is given, by the module that asked."""
    compiler = getattr(re, "_compiler", None)
    if compiler is None:
        return
    plain, make = compiler.compile, compiler._sre.compile

    class Watched:
        MAGIC = compiler._sre.MAGIC

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    made: list[Any] = []

    def recorded(*arguments: Any) -> Any:
        made[:] = [arguments]
        return make(*arguments)

    def watched(pattern: Any, flags: Any = 0) -> Any:
        made.clear()
        compiled = plain(pattern, flags)
        if made and isinstance(pattern, str | bytes):
            PATTERNS[_asker()][pattern, int(flags)] = _plain(*made[0])
        return compiled

    proxy = Watched()
    proxy._real = compiler._sre  # type: ignore[attr-defined]
    proxy.compile = recorded  # type: ignore[attr-defined]
    compiler._sre = proxy
    compiler.compile = watched


def record_before() -> None:
    """Record the regular expressions of modules that were there before anybody watched: most of Python's own."""
    for name, module in list(sys.modules.items()):
        for value in list(vars(module).values()):
            if isinstance(value, re.Pattern):
                given = value.flags & ~re.UNICODE if isinstance(value.pattern, str) else value.flags
                re._compiler.compile(value.pattern, given)  # type: ignore[attr-defined]
                PATTERNS[name].update(PATTERNS.pop(__name__, {}))


def _plain(pattern: Any, flags: Any, code: Any, groups: Any, index: Any, names: Any) -> tuple[Any, ...]:
    """Return the arguments without the named constants of the compiler: they are whole numbers with a name."""
    return pattern, int(flags), [int(word) for word in code], int(groups), {str(k): int(v) for k, v in index.items()}, tuple(names)


def _asker() -> str:
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__") in {"re", "re._compiler"}:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__"))


def main() -> None:
    """Import the modules and write what was seen."""
    names = sys.stdin.read().split()
    watch_dataclasses()
    watch_re()
    re.purge()
    record_before()
    kept, sys.stdout = sys.stdout, sys.stderr
    for name in names:
        try:
            import_module(name)
        except BaseException as error:  # noqa: BLE001 - an optional part that is not installed has nothing to record
            print(f"not recorded: {name}: {type(error).__name__}", file=sys.stderr)
    sys.stdout = kept
    seen = {name: (FUNCTIONS.get(name, {}), dict(PATTERNS.get(name, {}))) for name in sorted({*FUNCTIONS, *PATTERNS})}
    Path(sys.argv[1]).write_bytes(marshal.dumps(seen))


if __name__ == "__main__":
    main()
