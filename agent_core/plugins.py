"""plugins - modules that add flags, tools, guards, providers, patterns, readers of events and sources of keys, by pluggy hooks.

    plugins = ["agent_plugins.memory"]          # in the user file, or AGENT_PLUGINS=agent_plugins.memory
    plugins = ["hello"]                         # a file of the plugin folder, a module, or an entry point (agents.plugins)
    plugins = ["*"]                             # all of the plugin folder and all entry points

The plugin folder is `plugins` beside the user file (`~/.config/agents/plugins/hello.py`); it works in built executables, too, which
know no entry points. It counts only if nobody else may write to it. Nothing is looked for unless the setting asks for it.

A plugin is a module (or any object) with functions marked `@hookimpl`:

    from agent_core.plugins import hookimpl

    @hookimpl
    def agent_tools():
        return [my_tool]

Hooks (an implementation may take fewer arguments; a hook that does not exist is an error):

    agent_options() -> [Option]                               flags
    agent_tools(agent, settings) -> [Tool]                    tools of every run
    agent_guards(agent, settings, store) -> [Guard]           guards (`agent_core.guards`) around outward calls
    agent_prepare(agent, job, settings, store) -> Job | None  changes what a run starts from (adds material)
    agent_events(agent, settings, store) -> [function]        readers: each is called with every Event of a run
    agent_patterns() -> {name: function}                      patterns for --pattern
    agent_keys(name, settings) -> str | None                  a key, looked up after key command and keyring (first one wins)
    provide_llm(name, settings, env) -> Provider | None       a provider (first one wins)

A general flag may belong to a module of the suite (`Option.plugin`): it is loaded like any other plugin, where the flag is set.
pluggy is imported only when a plugin is loaded.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from agent_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

PROJECT = "agents"
GROUP = "agents.plugins"
ALL = "*"
_NOTHING = object()
_BREAKERS = "agent_plugins.resources"
HOOKS = (
    "agent_options", "agent_tools", "agent_guards", "agent_prepare", "agent_events", "agent_patterns", "agent_keys", "provide_llm",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plugins:
    """The loaded plugins. `manager` is None without any."""

    manager: Any = None

    def options(self) -> tuple[Any, ...]:
        """Return the flags they add."""
        return self._all("agent_options")

    def tools(self, settings: Any, agent: Any = None) -> tuple[Any, ...]:
        """Return the tools they add."""
        return self._all("agent_tools", agent=agent, settings=settings)

    def guards(self, agent: Any, settings: Any, store: Any) -> tuple[Any, ...]:
        """Return the guards they add."""
        return self._all("agent_guards", agent=agent, settings=settings, store=store)

    def readers(self, agent: Any, settings: Any, store: Any) -> tuple[Any, ...]:
        """Return what reads the events of a run."""
        return self._all("agent_events", agent=agent, settings=settings, store=store)

    def prepared(self, agent: Any, job: Any, settings: Any, store: Any) -> Any:
        """Return the job after every plugin had its say, in the order of the setting."""
        for name, plugin in self.manager.list_name_plugin() if self.manager else ():
            if hasattr(plugin, "agent_prepare"):
                others = [each for other, each in self.manager.list_name_plugin() if other != name]
                changed = self.manager.subset_hook_caller("agent_prepare", others)(
                    agent=agent, job=job, settings=settings, store=store
                )
                job = next((each for each in changed if each is not None), job)
        return job

    def pattern(self, name: str) -> Any:
        """Return the pattern of that name, or None."""
        found = [each for each in self.manager.hook.agent_patterns() if each] if self.manager else []
        return next((each[name] for each in found if name in each), None)

    def key(self, name: str, settings: Any) -> str:
        """Return the key of that name, or nothing."""
        return (self.manager.hook.agent_keys(name=name, settings=settings) or "") if self.manager else ""

    def provider(self, name: str, settings: Any, env: Mapping[str, str]) -> Any:
        """Return the provider of that name, or None."""
        return self.manager.hook.provide_llm(name=name, settings=settings, env=env) if self.manager else None

    def _all(self, hook: str, **given: Any) -> tuple[Any, ...]:
        if self.manager is None:
            return ()
        # pluggy calls the last one registered first; the order of the setting is the order people expect.
        return tuple(item for items in reversed(getattr(self.manager.hook, hook)(**given)) for item in items or ())


def __getattr__(name: str) -> Any:
    if name != "hookimpl":
        raise AttributeError(name)
    import pluggy

    return pluggy.HookimplMarker(PROJECT)


def of(settings: Any, tools: Iterable[Any] = ()) -> Plugins:
    """Return the plugins of a run: those that are named, those whose flags are set, and that of tools which have a breaker."""
    by_flag = [module for module, field, default in _switches() if _is_set(field, default, settings)]
    by_tool = [_BREAKERS] if any(tool.breaker for tool in tools) else []
    return load(tuple(dict.fromkeys((*settings.plugins, *by_flag, *by_tool))))


@cache
def _with_plugin() -> tuple[Any, ...]:
    from agent_core.options import OPTIONS

    return tuple(row for row in OPTIONS if row.plugin)


@cache
def _switches() -> tuple[tuple[str, str, Any], ...]:
    """Return (module, field, default) of each flag that brings a plugin: looked at for every run, so made once."""
    return tuple((row.plugin, row.field, row.default) for row in _with_plugin())


def _is_set(field: str, default: Any, settings: Any) -> bool:
    value = getattr(settings, field, _NOTHING)
    value = settings.extra.get(field) if value is _NOTHING else value
    return value not in (None, "", (), False, default)


def flags(settings: Any) -> list[str]:
    """Return the flags of built-in plugins that are set, as they are written: what a resumed run needs again."""
    return [f"--{row.name}" for row in _with_plugin() if _is_set(row.field, row.default, settings)]


_endings: list[Callable[[], None]] = []


def at_end(function: Callable[[], None]) -> None:
    """Have a function called when the process is about to end (once, however often it is named)."""
    if not _endings:
        import atexit

        atexit.register(end)
    if function not in _endings:
        _endings.append(function)


def end() -> None:
    """Call what was named by `at_end`: for a command line, which leaves without the interpreter's own clean-up."""
    while _endings:
        try:
            _endings.pop()()
        except Exception:  # noqa: BLE001, S112 - nobody is left to tell, and the next one is to have its turn
            continue


def equip(agent: Any, settings: Any) -> Any:
    """Return the agent with the tools of its run's plugins; the same one if they add none."""
    added = of(settings).tools(settings, agent)
    new = [tool for tool in _apart(added) if agent.tools.get(tool.name) is None]
    if not new:
        return agent
    import copy

    from agent_core.tool import Toolset

    more = copy.copy(agent)
    more.tools = Toolset((*agent.tools.tools, *new))
    more.added = (*agent.added, *new)
    return more


def _apart(tools: Sequence[Any]) -> Iterator[Any]:
    """Yield tools of several plugins; one that brings another name for this case (`memo["otherwise"]`) gives way."""
    from dataclasses import replace

    seen: set[str] = set()
    for tool in tools:
        other = tool.memo.get("otherwise", "") if tool.name in seen else ""
        seen.add(other or tool.name)
        yield replace(tool, name=other) if other else tool


@cache
def load(names: tuple[str, ...]) -> Plugins:
    """Return the plugins of these modules. ConfigError if one is missing, broken, or has a hook that does not exist."""
    if not names:
        return Plugins()
    import pluggy

    manager = pluggy.PluginManager(PROJECT)
    _specify(manager, pluggy.HookspecMarker(PROJECT))
    for name, plugin in _found(names):
        if manager.is_registered(plugin):
            continue
        try:
            manager.register(plugin, name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise ConfigError(f"plugin {name}: {_first_line(error)}") from None
        if not manager.get_hookcallers(plugin):
            raise ConfigError(f"plugin {name} has no hooks", hint="mark them with @hookimpl from agent_core.plugins")
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise ConfigError(f"a plugin has an unknown hook: {_first_line(error)}", hint=f"hooks: {', '.join(HOOKS)}") from None
    return Plugins(manager)


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _found(names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield (name, plugin) for each name; `*` stands for the plugin folder and all entry points."""
    for name in names:
        if name == ALL:
            yield from ((stem, _from_file(path)) for stem, path in folder_files().items())
            yield from ((entry.name, _guarded(entry.name, entry.load)) for entry in entry_points())
        else:
            yield name, _one(name)


def _one(name: str) -> Any:
    """Return one plugin: a file of the plugin folder, else a module, else an entry point."""
    path = folder_files().get(name) if name.isidentifier() else None
    if path is not None:
        return _from_file(path)
    try:
        return _guarded(name, lambda: import_module(name))
    except _NoModule:
        # Looking through everything that is installed takes longer than a short run: it comes last.
        entry = next((each for each in entry_points() if each.name == name), None)
    if entry is None:
        raise ConfigError(f"no plugin {name!r}", hint="see `plugins` in the configuration and AGENT_PLUGINS") from None
    return _guarded(name, entry.load)


class _NoModule(Exception):  # noqa: N818 - a signal within this module
    """There is no module of that very name."""


def _guarded(name: str, imported: Callable[[], Any]) -> Any:
    """Return what an import gives; whatever goes wrong in foreign code is a bad configuration."""
    try:
        return imported()
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise _NoModule from None
        raise ConfigError(f"plugin {name} needs the module {error.name!r}", hint=f"pip install {error.name}") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin is foreign code
        raise ConfigError(f"plugin {name} cannot be imported: {type(error).__name__}: {_first_line(error)}") from None


def entry_points() -> Sequence[Any]:
    """Return the entry points of the group `agents.plugins`, by name. A built executable has none."""
    from importlib import metadata

    return sorted(metadata.entry_points(group=GROUP), key=lambda entry: entry.name)


def folder() -> str:
    """Return the path of the plugin folder."""
    from agent_core import config

    return f"{config.user_dir(config.environ())}/plugins"


def folder_files() -> dict[str, str]:
    """Return the plugins of the folder: name to path. ConfigError if others could have put something there."""
    import os

    at = folder()
    try:
        names = sorted(os.listdir(at))  # noqa: PTH208 - no pathlib on this path
    except OSError:
        return {}
    found = {name[:-3]: f"{at}/{name}" for name in names if name.endswith(".py") and name[:-3].isidentifier() and name[0] != "_"}
    for path in (at, *found.values()) if found else ():
        facts = os.stat(path)  # noqa: PTH116
        if facts.st_mode & 0o022 or facts.st_uid not in {0, os.geteuid()}:
            raise ConfigError(f"{path} may be changed by others", hint=f"chmod go-w {path}, if it is yours")
    return found


def _from_file(path: str) -> Any:
    """Return the module of a file of the plugin folder."""
    from importlib.util import module_from_spec, spec_from_file_location

    stem = path.rpartition("/")[2][:-3]
    name = f"agents_plugin_folder_{stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"plugin {stem} cannot be imported: {path}")
    made = sys.modules[name] = module_from_spec(spec)
    try:
        _guarded(stem, lambda: spec.loader.exec_module(made))  # type: ignore[union-attr]
    except BaseException:
        del sys.modules[name]
        raise
    return made


# -- listing ----------------------------------------------------------------------------------------------------------------------

# What the engine itself brings of a plugin's subject, whatever flags are set.
_ALWAYS = {"agent_plugins.resources": "timeout, retry, rate and budget"}


def listing(settings: Any) -> list[dict[str, Any]]:
    """Return what there is, for `--plugins`: name, origin, whether it is on, its flags and hooks. Loads only what is on."""
    rows = [_built_in(module, settings) for module in dict.fromkeys(row.plugin for row in _with_plugin())]
    named = load(settings.plugins)
    built_in = {row["module"] for row in rows}
    for name, plugin in named.manager.list_name_plugin() if named.manager else ():
        origin = "file" if str(getattr(plugin, "__name__", "")).startswith("agents_plugin_folder_") else "configured"
        if name not in built_in:
            hooks = sorted(caller.name for caller in named.manager.get_hookcallers(plugin))
            flags = [
                f"--{row.name}" for row in named.manager.subset_hook_caller("agent_options", _others(named, name))() for row in row
            ]
            rows.append(
                {
                    "name": name,
                    "module": getattr(plugin, "__name__", name),
                    "origin": origin,
                    "on": True,
                    "flags": flags,
                    "hooks": hooks,
                }
            )
    listed = {row["name"] for row in rows}
    spare = [(name, "file") for name in folder_files()] + [(entry.name, "entry point") for entry in entry_points()]
    rows += [
        {"name": name, "module": "", "origin": origin, "on": False, "flags": [], "hooks": []}
        for name, origin in spare if name not in listed
    ]  # fmt: skip
    return rows


def _others(named: Plugins, name: str) -> list[Any]:
    return [plugin for other, plugin in named.manager.list_name_plugin() if other != name]


def _built_in(module: str, settings: Any) -> dict[str, Any]:
    own = [row for row in _with_plugin() if row.plugin == module]
    on = module in _ALWAYS or module in settings.plugins or any(_is_set(row.field, row.default, settings) for row in own)
    name = module.rpartition(".")[2]
    return {"name": name, "module": module, "origin": "built in", "on": on, "flags": [f"--{row.name}" for row in own], "hooks": []}


def listed(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of `listing` as text: `memory (off: no --memory)  resources (built in)  hello (file)`."""
    return "  ".join(f"{row['name']} ({_state(row)})" for row in rows) + "\n"


def _state(row: Mapping[str, Any]) -> str:
    if row["on"]:
        return str(row["origin"])
    return f"off: no {row['flags'][0]}" if row["flags"] else f"off: {row['origin']}, not in plugins"


# -- hooks ------------------------------------------------------------------------------------------------------------------------


def agent_options() -> Sequence[Any]:
    """Hook: return flags (`agent_core.options.Option`)."""
    return ()


def agent_tools(agent: Any, settings: Any) -> Sequence[Any]:
    """Hook: return tools; `agent` is the one that gets them."""
    return ()


def agent_guards(agent: Any, settings: Any, store: Any) -> Sequence[Any]:
    """Hook: return guards; `store` is None where there is none."""
    return ()


def agent_prepare(agent: Any, job: Any, settings: Any, store: Any) -> Any:
    """Hook: return the job to begin with, or None to leave it."""
    return None


def agent_events(agent: Any, settings: Any, store: Any) -> Sequence[Any]:
    """Hook: return functions that are called with every event."""
    return ()


def agent_patterns() -> Mapping[str, Any]:
    """Hook: return patterns by name."""
    return {}


def agent_keys(name: str, settings: Any) -> str | None:
    """Hook: return the key of that name, or None."""
    return None


def provide_llm(name: str, settings: Any, env: Mapping[str, str]) -> Any:
    """Hook: return a provider for the name, or None."""
    return None


def _specify(manager: Any, marker: Any) -> None:
    for hook in (agent_options, agent_tools, agent_guards, agent_prepare, agent_events, agent_patterns):
        marker(hook)
    marker(agent_keys, firstresult=True)
    marker(provide_llm, firstresult=True)
    manager.add_hookspecs(sys.modules[__name__])
