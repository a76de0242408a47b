"""choose - which provider to ask when nobody said: a vendor whose key is set, else a local Ollama, else `offline`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agent_core import config, plugins, redact
from agent_core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_core.config import Settings
    from agent_core.provider import Provider

PATIENCE = 0.05
_LIMIT = 1 << 20


def route(settings: Settings) -> tuple[list[str], str]:
    """Return the names of the providers to ask, in order, and a line for stderr where the choice is not obvious.

    `--script` without a provider means scripted, `--base-url` an OpenAI-compatible service.
    """
    if settings.provider:
        return [name.strip() for name in settings.provider.split(",") if name.strip()], ""
    if settings.script:
        return ["scripted"], ""
    env = config.vendor_environment(settings, quick=True)
    vendor = import_module("agent_providers").choose(env)
    if vendor:
        return [vendor], ""
    if settings.base_url:
        return ["openai"], ""
    model = local_model(env)
    if model:
        name = "ollama" if settings.model else f"ollama:{model}"
        return [name], f"no provider set, using `{name}` on this machine (--provider chooses another)"
    return ["offline"], "no provider set, using `offline` (set OPENAI_API_KEY, … or --provider)"


def check(names: str, settings: Settings) -> None:
    """UsageError for a name of `--provider` that nobody has: it is said before anything is read, also where no model is asked."""
    for name in [each.strip() for each in names.split(",") if each.strip()] or [names]:
        try:
            import_module("agent_providers").split(name)
        except UsageError:
            if plugins.of(settings).provider(name, settings, config.vendor_environment(settings)) is None:
                raise


def resolve(name: str, settings: Settings) -> Provider:
    """Return the provider of a name: a plugin's, or one of agent_providers. UsageError, ConfigError."""
    env = config.vendor_environment(settings)
    added = plugins.of(settings).provider(name, settings, env)
    found: Provider = added if added is not None else import_module("agent_providers").resolve(name, settings, env)
    if found.key:
        redact.register(found.key)
    return found


def embedder(name: str, settings: Settings) -> Provider:
    """Return the provider of vectors (`--embed PROVIDER/MODEL`). UsageError, ConfigError.

    `--base-url` is the address of the model that answers: only where the same service is named is it this one's, too.
    """
    from dataclasses import replace

    vendor, model = import_module("agent_providers").split(name)
    if not model:
        raise UsageError(f"--embed {name} names no model", hint="PROVIDER/MODEL, for example openai/text-embedding-3-small")
    embeddings: Any = import_module("agent_providers.embeddings")
    embeddings.check(vendor)
    same = settings.provider.strip().lower().partition(":")[0].partition("/")[0] == vendor
    found = resolve(f"{vendor}:{model}", replace(settings, model="", base_url=settings.base_url if same else ""))
    made: Provider = embeddings.embedder(found)
    return made


def local_model(env: Mapping[str, str]) -> str:
    """Return the first model of an Ollama on this machine (OLLAMA_HOST), or nothing; takes 50 ms at most to connect."""
    host, port = _address(env.get("OLLAMA_HOST", ""))
    body = _get(host, port, "/api/tags")
    if not body:
        return ""
    import json

    try:
        models: Any = json.loads(body)["models"]
        return str(models[0]["name"])
    except (ValueError, KeyError, IndexError, TypeError):
        return ""


def _address(text: str) -> tuple[str, int]:
    rest = text.partition("://")[2] or text
    host, _, port = rest.partition("/")[0].rpartition(":") if ":" in rest.partition("/")[0] else (rest.partition("/")[0], "", "")
    # 0.0.0.0 is where a server listens; asking it means asking this machine.
    name = "127.0.0.1" if host.strip("[]") in {"", "0.0.0.0", "::"} else host.strip("[]")  # noqa: S104
    return name, int(port) if port.isdigit() and int(port) < 65536 else 11434


def _get(host: str, port: int, path: str) -> bytes:
    import socket

    try:
        with socket.create_connection((host, port), timeout=PATIENCE) as connection:
            connection.settimeout(PATIENCE * 4)
            connection.sendall(f"GET {path} HTTP/1.0\r\nhost: {host}:{port}\r\naccept: application/json\r\n\r\n".encode())
            answer = b""
            while len(answer) < _LIMIT and (data := connection.recv(65536)):
                answer += data
    except (OSError, ValueError):
        return b""
    head, _, body = answer.partition(b"\r\n\r\n")
    return body if head.split(b" ", 2)[1:2] == [b"200"] else b""
