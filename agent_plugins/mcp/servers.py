"""servers - which MCP servers a run has, from flags and configuration.

    --mcp-server 'npx -y @modelcontextprotocol/server-everything'      a command line (never given to a shell), named `everything`
    --mcp-server 'sums=python3 sums.py'                                 the same with a name of one's own
    --mcp-server https://mcp.example.com/mcp                            a URL (streamable HTTP), named by its host
    --mcp-config FILE                                                   JSON {"mcpServers": {NAME: {…}}}, as other clients have it

The user's TOML may hold the same as `[mcpServers.NAME]`. Keys of a server: `command`, `args`, `env`, `cwd`, or `url`, `headers`;
and of our own: `optional` (a notice instead of an error where it does not start), `trust` (believe its hints), `tools` (names or
patterns; all others are left out), `timeout` (seconds of a call), `start_timeout`, `private` (a URL may lead to this machine or a
private network), `sandbox` (true, or {read, write, network}), `disabled`. `${NAME}` in values of `env` and `headers` is a key or
variable, from all places that keys come from. A URL without an `authorization` of its own is sent the key MCP_TOKEN_HOST as a
bearer token where there is one (`agent-keys set MCP_TOKEN_MCP_EXAMPLE_COM`): only to that host, and only by https or to this
machine. What a project's own agents.toml says counts only if the user trusts it: a server is a program.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agent_core.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

TABLE = "mcpServers"
START, CALL = 30.0, 60.0
LAUNCHERS = frozenset({"npx", "npm", "exec", "uvx", "uv", "run", "pipx", "bunx", "bun", "deno", "node", "env", "docker", "tsx"})
_OURS = re.compile(r"([a-z][a-z0-9_-]{0,39})=(.+)", re.DOTALL)
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PYTHON = re.compile(r"python[0-9.]*|pypy[0-9.]*")
_NAME_BYTES = 40
_LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Box:
    """What a sandboxed server may read and write, and whether it has a network."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    network: bool = False


@dataclass(frozen=True, slots=True)
class Server:
    """One server: a program (`argv`, with `env` on top of a scrubbed environment), or a `url` with `headers`. Times in seconds."""

    name: str
    argv: tuple[str, ...] = ()
    url: str = ""
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    cwd: str = ""
    optional: bool = False
    trust: bool = False
    private: bool = False
    tools: tuple[str, ...] = ()
    timeout: float = CALL
    start_timeout: float = START
    box: Box | None = None


def of(settings: Any, tell: Callable[[str], None] = lambda _text: None) -> tuple[Server, ...]:
    """Return the servers of these settings, each under a name of its own; `tell` hears what is left out.

    Raises:
        UsageError: a flag names no server.
        ConfigError: a file cannot be read, or an entry in it cannot be used.
    """
    for key in ("mcp_server", "mcp_config"):
        if settings.extra.get(key) and not _vouched(settings, key):
            tell(f"{settings.origins[key]}: {key} left out, the file is not trusted (see AGENT_TRUSTED)")
    found = [*_tables(settings, tell), *_file(settings), *_flags(settings)]
    return tuple(_settled(server, settings) for server in _distinct(found))


# -- flags ------------------------------------------------------------------------------------------------------------------------


def _flags(settings: Any) -> Iterator[Server]:
    words = settings.extra.get("mcp_server") or ()
    if words and _vouched(settings, "mcp_server"):
        yield from (from_flag(word) for word in words)


def from_flag(text: str) -> Server:
    """Return the server that a word of `--mcp-server` describes: [NAME=]COMMAND LINE or [NAME=]URL."""
    given = _OURS.fullmatch(text.strip())
    name, rest = (given[1], given[2].strip()) if given and "://" not in given[1] else ("", text.strip())
    if re.match(r"https?://", rest, re.IGNORECASE):
        return Server(name or _name_of_url(rest), url=checked_url(rest, "--mcp-server"), private=True)
    try:
        argv = tuple(shlex.split(rest))
    except ValueError as error:
        raise UsageError(f"--mcp-server: {rest[:80]!r} cannot be split into words: {error}", hint="check the quotes") from None
    if not argv or "\0" in rest:
        raise UsageError("--mcp-server needs a command line or a URL", hint="--mcp-server 'npx -y PACKAGE'")
    if re.fullmatch(r"[A-Z_][A-Z0-9_]*=.*", argv[0], re.DOTALL):
        raise UsageError("--mcp-server takes no variables", hint="put them under `env` in a file for --mcp-config")
    if re.match(r"[a-z]+://", argv[0]):
        raise UsageError(f"--mcp-server: {argv[0][:80]!r} is no http(s) address", hint="https://HOST/PATH, or a command line")
    return Server(name or name_of(argv), argv)


def name_of(argv: Sequence[str]) -> str:
    """Return a short name for a program: its own, or that of the package or file which a launcher runs.

    >>> name_of(["npx", "-y", "@modelcontextprotocol/server-everything@latest"]), name_of(["python3", "-m", "tools.sums"])
    ('everything', 'sums')
    """
    words = [os.path.basename(word) if word.startswith(("/", ".")) else word for word in argv]  # noqa: PTH119 - words, not paths
    chosen = next((word for word in words if not word.startswith("-") and not _launches(word)), words[0])
    bare = chosen.rpartition("/")[2].partition("@")[0] or chosen
    stem = re.sub(r"\.(py|js|mjs|cjs|ts|sh)$", "", bare)
    stem = stem.rpartition(".")[2] if stem == bare and re.fullmatch(r"[\w.]+", stem) else stem
    return plain_name(re.sub(r"^(mcp-server-|server-|mcp-)|(-mcp-server|-mcp|-server)$", "", stem) or stem)


def _launches(word: str) -> bool:
    return word in LAUNCHERS or _PYTHON.fullmatch(word) is not None


def plain_name(text: str) -> str:
    """Return a text as a name: lower case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_NAME_BYTES] or "server"


def _name_of_url(url: str) -> str:
    return plain_name(re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0].rpartition("@")[2])


def checked_url(url: str, where: str) -> str:
    """Return the address if it can be used. UsageError for one without a host, or with a password in it."""
    from agent_core.policy import host_of

    if "@" in re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]:
        raise UsageError(f"{where}: a password in an address is for all to see", hint="use `headers` in a file for --mcp-config")
    if host_of(url) is None or "://" not in url or not url.isprintable():
        raise UsageError(f"{where}: {url[:80]!r} is no http(s) address", hint="https://HOST/PATH")
    return url


# -- files ------------------------------------------------------------------------------------------------------------------------


def _file(settings: Any) -> list[Server]:
    """Return the servers of the file that `--mcp-config` names."""
    import json

    path = settings.extra.get("mcp_config") or ""
    if not path or not _vouched(settings, "mcp_config"):
        return []
    at = os.path.expanduser(path)  # noqa: PTH111 - no pathlib on this path
    try:
        with open(at, "rb") as file:  # noqa: PTH123
            data = file.read(_LARGEST + 1)
        found = json.loads(data) if len(data) <= _LARGEST else None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="see --mcp-config") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {str(error)[:80]}", hint='{"mcpServers": {NAME: {"command": …}}}') from None
    listed = found.get(TABLE, found.get("servers")) if isinstance(found, dict) else None
    if not isinstance(listed, dict):
        raise ConfigError(f"{path} has no {TABLE}", hint='{"mcpServers": {NAME: {"command": …}}}')
    return list(_entries(listed, path))


def _tables(settings: Any, tell: Callable[[str], None]) -> list[Server]:
    """Return the servers of the configuration files that the user vouches for; a later file's entry replaces an earlier one's."""
    found: dict[str, Server] = {}
    for file in _files(settings, os.getcwd()):  # noqa: PTH109
        listed = file.data.get(TABLE, {})
        if not isinstance(listed, dict):
            raise ConfigError(f"{file.path}: {TABLE} must be a table", hint=f"[{TABLE}.NAME]")
        if listed and not file.trusted:
            tell(f"{file.path}: {TABLE} left out, the file is not trusted (see AGENT_TRUSTED)")
        elif file.trusted:
            found |= {server.name: server for server in _entries(listed, file.path)}
    return list(found.values())


def _files(settings: Any, cwd: str) -> Sequence[Any]:
    from agent_core import config

    return config.config_files(settings.environment, cwd)


def _vouched(settings: Any, key: str) -> bool:
    """Whether a setting comes from the user: a flag, a variable, a program, or a file that is trusted."""
    origin = str(settings.origins.get(key, ""))
    if not origin.endswith(".toml"):
        return True
    return any(file.path == origin and file.trusted for file in _files(settings, os.path.dirname(origin)))  # noqa: PTH120


def _entries(listed: Mapping[str, Any], path: str) -> Iterator[Server]:
    for name, entry in listed.items():
        where = f"{path}: {TABLE}.{name[:60]}"
        if not isinstance(entry, dict):
            raise ConfigError(f"{where} must be a table", hint='{"command": …, "args": […]} or {"url": …}')
        if entry.get("disabled") is not True and entry.get("enabled") is not False:
            yield from_entry(name, entry, where)


def from_entry(name: str, entry: Mapping[str, Any], where: str = TABLE) -> Server:
    """Return the server of one entry; keys that are not known here belong to other clients. ConfigError where one does not fit."""
    command, url = _get(entry, "command", str, "", where), _get(entry, "url", str, "", where)
    if bool(command) == bool(url):
        raise ConfigError(f"{where} needs either `command` or `url`", hint='{"command": "npx", "args": ["-y", "PACKAGE"]}')
    try:
        address = checked_url(url, where) if url else ""
    except UsageError as error:
        raise ConfigError(str(error), hint=error.hint) from None
    if entry.get("type") == "sse":
        raise ConfigError(f"{where}: the old SSE transport is not spoken here", hint="most servers offer streamable HTTP at /mcp")
    return Server(
        plain_name(name), (command, *_texts(entry, "args", where)) if command else (), address, _pairs(entry, "env", where),
        _pairs(entry, "headers", where), _get(entry, "cwd", str, "", where), _get(entry, "optional", bool, False, where),
        _get(entry, "trust", bool, False, where), _get(entry, "private", bool, False, where), _texts(entry, "tools", where),
        _seconds(entry, "timeout", CALL, where), _seconds(entry, "start_timeout", START, where), _box(entry.get("sandbox"), where),
    )  # fmt: skip


def _get(entry: Mapping[str, Any], key: str, kind: Any, default: Any, where: str) -> Any:
    value: Any = entry.get(key, default)
    if not isinstance(value, kind) or (kind is str and "\0" in value):
        raise ConfigError(f"{where}: {key} must be {'text' if kind is str else 'true or false'}", hint="see docs/mcp.md")
    return value


def _texts(entry: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = entry.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) and "\0" not in each for each in value):
        raise ConfigError(f"{where}: {key} must be a list of text", hint="see docs/mcp.md")
    return tuple(value)


def _pairs(entry: Mapping[str, Any], key: str, where: str) -> tuple[tuple[str, str], ...]:
    value = entry.get(key, {})
    pairs: tuple[Any, ...] = tuple(value.items()) if isinstance(value, dict) else ()
    if not isinstance(value, dict) or not all(isinstance(each, str) and each.isprintable() for pair in pairs for each in pair):
        raise ConfigError(f"{where}: {key} must map names to text", hint="see docs/mcp.md")
    return pairs


def _seconds(entry: Mapping[str, Any], key: str, default: float, where: str) -> float:
    value = entry.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 86_400:
        raise ConfigError(f"{where}: {key} must be a number of seconds", hint="see docs/mcp.md")
    return float(value)


def _box(value: Any, where: str) -> Box | None:
    if value is None or value is False:
        return None
    given: Mapping[str, Any] = {} if value is True else value
    if not isinstance(given, dict):
        raise ConfigError(f"{where}: sandbox must be true or a table", hint="{read = [], write = [], network = false}")
    return Box(_texts(given, "read", where), _texts(given, "write", where), _get(given, "network", bool, False, where))


# -- all ---------------------------------------------------------------------------------------------------------------------------


def _distinct(found: Sequence[Server]) -> Iterator[Server]:
    """Yield the servers with names that differ; what is given twice word for word counts once."""
    seen: dict[str, Server] = {}
    for server in found:
        if server in seen.values():
            continue
        name, number = server.name, 2
        while name in seen:
            name, number = f"{server.name}-{number}", number + 1
        seen[name] = replace(server, name=name)
        yield seen[name]


def _settled(server: Server, settings: Any) -> Server:
    """Return a server with variables filled in, and its folder and program made absolute."""
    home = settings.workspace or "."
    cwd = os.path.join(home, os.path.expanduser(server.cwd))  # noqa: PTH111, PTH118
    argv = server.argv
    if argv and "/" in argv[0]:
        argv = (os.path.join(os.getcwd(), os.path.expanduser(argv[0])), *argv[1:])  # noqa: PTH109, PTH111, PTH118
    env, headers = (
        tuple((name, _filled(text, server, settings)) for name, text in pairs) for pairs in (server.env, server.headers)
    )
    return replace(server, argv=argv, cwd=cwd, env=env, headers=(*headers, *_bearer(server, settings)))


def token_name(url: str) -> str:
    """Return the name of the key that is the bearer token for a URL's host (and port, where it is not the usual one).

    >>> token_name("https://mcp.example.com/mcp"), token_name("http://127.0.0.1:8931/mcp")
    ('MCP_TOKEN_MCP_EXAMPLE_COM', 'MCP_TOKEN_127_0_0_1_8931')
    """
    from agent_core import policy

    return f"MCP_TOKEN_{re.sub('[^A-Z0-9]+', '_', policy.authority(*(policy.host_of(url) or ('', 0))).upper()).strip('_')}"


def _bearer(server: Server, settings: Any) -> tuple[tuple[str, str], ...]:
    """Return the header with the token for the server's host, if there is one and nothing else is said."""
    if not server.url or any(name.lower() == "authorization" for name, _ in server.headers) or not _is_safe(server.url):
        return ()
    from agent_core import config

    token = config.vendor_environment(settings).get(token_name(server.url))
    return (("authorization", f"Bearer {token}"),) if token else ()


def _is_safe(url: str) -> bool:
    """Whether nobody on the way can read what is sent there."""
    from agent_core import policy

    host = (policy.host_of(url) or ("", 0))[0]
    return url[:6].lower() == "https:" or host in {"localhost", "::1"} or host.startswith("127.")


def _filled(text: str, server: Server, settings: Any) -> str:
    """Return a value with `${NAME}` replaced; what is put there is a secret from then on."""
    from agent_core import config, redact

    keys = config.vendor_environment(settings)

    def value(match: re.Match[str]) -> str:
        found = keys.get(match[1])
        if not found:
            raise ConfigError(f"the MCP server {server.name} needs {match[1]}", hint=f"set it, or agent-keys set {match[1]}")
        if config.is_secret(match[1]):
            redact.register(found)
        return found

    return _VARIABLE.sub(value, text)


def register_secrets(server: Server) -> None:
    """Have the values of variables and headers cut out of everything that is shown, where their names say that they are secret."""
    from agent_core import config, redact

    for name, value in (*server.env, *server.headers):
        if config.is_secret(name.replace("-", "_")) or name.lower() in {"authorization", "cookie"}:
            redact.register(value)
            redact.register(value.rpartition(" ")[2])


def environment(server: Server, settings: Any) -> dict[str, str]:
    """Return the environment of a server's program: what any program needs, no keys, and what its entry says."""
    from agent_core.peers import scrubbed

    frozen = bool(getattr(sys, "frozen", False))
    return {**scrubbed(settings.environment, record=False, frozen=frozen), **dict(server.env)}
