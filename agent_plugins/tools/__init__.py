"""tools - the common tools, one module a subject.

    load("calc", "files")      the tools of these modules, in order
    load()                     all of them
    find("file_read", "now")   by the tools' own names

A module is added by putting its file here and its name into `MODULES` (frozen programs cannot look into folders).
"""

from __future__ import annotations

from agent_core.errors import UsageError
from agent_core.tool import Tool, Toolset

MODULES = ("calc", "now", "files", "http", "search", "shell", "text")


def load(*modules: str) -> list[Tool]:
    """Return the tools of the named modules (all of them without a name), in the order of their definition.

    Raises:
        UsageError: there is no such module.
    """
    from agent_plugins.tools import calc, files, http, now, search, shell, text

    found = dict(zip(MODULES, (calc, now, files, http, search, shell, text), strict=True))
    for name in modules:
        if name not in found:
            raise UsageError(f"no tools are called {name!r}", hint=f"there are: {', '.join(MODULES)}")
    chosen = [found[name] for name in modules or MODULES]
    return [each for module in chosen for each in vars(module).values() if isinstance(each, Tool)]


def find(*names: str) -> list[Tool]:
    """Return common tools by name, in the order asked for.

    Raises:
        UsageError: there is no such tool.
    """
    known = Toolset(tuple(load()))
    chosen = []
    for name in names:
        each = known.get(name)
        if each is None:
            near = known.nearest(name)
            raise UsageError(f"no tool named {name!r}", hint=f"did you mean {' or '.join(near)}?" if near else "see --list-tools")
        chosen.append(each)
    return chosen
