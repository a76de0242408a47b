"""plugins - modules that add flags, tools, guards, providers, patterns, readers of events and sources of keys, by pluggy hooks.

    plugins = ["agent_plugins.memory"]          # in the user file, or AGENT_PLUGINS=agent_plugins.memory

A plugin is a module (or any object) with functions marked `@hookimpl`:

    from agent_core.plugins import hookimpl

    @hookimpl
    def agent_tools():
        return [my_tool]

Hooks (an implementation may take fewer arguments; a hook that does not exist is an error):

    agent_options() -> [Option]                               flags
    agent_tools(settings) -> [Tool]                           tools of every run
    agent_guards(settings, store) -> [Guard]                  guards (`agent_core.guards`) around outward calls
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
    from collections.abc import Mapping, Sequence

PROJECT = "agents"
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

    def tools(self, settings: Any) -> tuple[Any, ...]:
        """Return the tools they add."""
        return self._all("agent_tools", settings=settings)

    def guards(self, settings: Any, store: Any) -> tuple[Any, ...]:
        """Return the guards they add."""
        return self._all("agent_guards", settings=settings, store=store)

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


def of(settings: Any) -> Plugins:
    """Return the plugins of a run: those that are named, and those whose flags are set."""
    by_flag = [row.plugin for row in _with_plugin() if _is_set(row, settings)]
    return load(tuple(dict.fromkeys((*settings.plugins, *by_flag))))


@cache
def _with_plugin() -> tuple[Any, ...]:
    from agent_core.options import OPTIONS

    return tuple(row for row in OPTIONS if row.plugin)


def _is_set(row: Any, settings: Any) -> bool:
    value = getattr(settings, row.field, None) if hasattr(settings, row.field) else settings.extra.get(row.field)
    return value not in (None, "", (), False, row.default)


def equip(agent: Any, settings: Any) -> Any:
    """Return the agent with the tools of its run's plugins; the same one if they add none."""
    added = of(settings).tools(settings)
    new = [tool for tool in added if agent.tools.get(tool.name) is None]
    if not new:
        return agent
    import copy

    from agent_core.tool import Toolset

    more = copy.copy(agent)
    more.tools = Toolset((*agent.tools.tools, *new))
    return more


@cache
def load(names: tuple[str, ...]) -> Plugins:
    """Return the plugins of these modules. ConfigError if one is missing, broken, or has a hook that does not exist."""
    if not names:
        return Plugins()
    import pluggy

    manager = pluggy.PluginManager(PROJECT)
    _specify(manager, pluggy.HookspecMarker(PROJECT))
    for name in names:
        try:
            manager.register(_module(name), name)
        except pluggy.PluginValidationError as error:
            raise ConfigError(f"plugin {name}: {_first_line(error)}") from None
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise ConfigError(f"a plugin has an unknown hook: {_first_line(error)}", hint=f"hooks: {', '.join(HOOKS)}") from None
    return Plugins(manager)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(f"no plugin {name!r}", hint="see `plugins` in the configuration and AGENT_PLUGINS") from None
        raise ConfigError(f"plugin {name} needs the module {error.name!r}", hint=f"pip install {error.name}") from None
    except Exception as error:  # noqa: BLE001 - a plugin is foreign code: any fault of its import is a bad configuration
        raise ConfigError(f"plugin {name} cannot be imported: {type(error).__name__}: {_first_line(error)}") from None


def agent_options() -> Sequence[Any]:
    """Hook: return flags (`agent_core.options.Option`)."""
    return ()


def agent_tools(settings: Any) -> Sequence[Any]:
    """Hook: return tools."""
    return ()


def agent_guards(settings: Any, store: Any) -> Sequence[Any]:
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
