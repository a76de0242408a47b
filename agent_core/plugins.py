"""plugins - modules that add flags, tools, guards and providers, by pluggy hooks.

    plugins = ["agent_plugins.memory"]          # in the user file, or AGENT_PLUGINS=agent_plugins.memory

A plugin is a module (or any object) with functions marked `@hookimpl`:

    from agent_core.plugins import hookimpl

    @hookimpl
    def agent_tools():
        return [my_tool]

Hooks: `agent_options() -> list[Option]`, `agent_tools() -> list[Tool]`, `agent_guards() -> list[Guard]`,
`provide_llm(name, settings, env) -> Provider | None` (first one wins). A hook that does not exist is an error.
pluggy is imported only when a plugin is named.
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
HOOKS = ("agent_options", "agent_tools", "agent_guards", "provide_llm")


@dataclass(frozen=True, slots=True)
class Plugins:
    """The loaded plugins. `manager` is None without any."""

    manager: Any = None

    def options(self) -> tuple[Any, ...]:
        """Return the flags they add."""
        return self._all("agent_options")

    def tools(self) -> tuple[Any, ...]:
        """Return the tools they add."""
        return self._all("agent_tools")

    def guards(self) -> tuple[Any, ...]:
        """Return the guards they add."""
        return self._all("agent_guards")

    def provider(self, name: str, settings: Any, env: Mapping[str, str]) -> Any:
        """Return the provider of that name, or None."""
        return self.manager.hook.provide_llm(name=name, settings=settings, env=env) if self.manager else None

    def _all(self, hook: str) -> tuple[Any, ...]:
        if self.manager is None:
            return ()
        # pluggy calls the last one registered first; the order of the setting is the order people expect.
        return tuple(item for items in reversed(getattr(self.manager.hook, hook)()) for item in items or ())


def __getattr__(name: str) -> Any:
    if name != "hookimpl":
        raise AttributeError(name)
    import pluggy

    return pluggy.HookimplMarker(PROJECT)


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


def agent_tools() -> Sequence[Any]:
    """Hook: return tools."""
    return ()


def agent_guards() -> Sequence[Any]:
    """Hook: return guards."""
    return ()


def provide_llm(name: str, settings: Any, env: Mapping[str, str]) -> Any:  # noqa: ARG001 - the hook's signature
    """Hook: return a provider for the name, or None."""
    return None


def _specify(manager: Any, marker: Any) -> None:
    for hook in (agent_options, agent_tools, agent_guards):
        marker(hook)
    marker(provide_llm, firstresult=True)
    manager.add_hookspecs(sys.modules[__name__])
