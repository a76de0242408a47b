"""config - the one reader of the environment: flags, variables, files and defaults become one frozen object.

    flag > AGENT_* variable > ./agents.toml (nearest upward) > user file > system file > default

A file holds settings by name (`model = "m1"`, `max_steps = 5`), the same under `[llm]`, for one agent under `[agent.NAME]` and
for one environment under `[profile.NAME]`. Other tables are kept for whoever knows them (`Settings.tables`).

A project file comes with a folder that may be someone else's, so what widens rights or redirects keys (`RESERVED`, and any
`base_url` that is not this machine) counts only if the user trusts it: `trusted = ["/path/to/project"]` in the user file, or
`AGENT_TRUSTED=/path/to/project`. Otherwise it is left out, and a notice says so.

Keys: environment > key command > keyring > systemd credential > 0600 key file (`keys.toml` beside the user file).
"""

# pathlib costs more to import than this module does:
# ruff: noqa: PTH100, PTH109, PTH110, PTH111, PTH113, PTH116, PTH118, PTH120, PTH123

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agent_core.errors import AgentError, ConfigError, UsageError
from agent_core.options import OPTIONS, Option, check_range, convert, nearest

if TYPE_CHECKING:
    from decimal import Decimal

NAME = "agents"
RESERVED = frozenset({
    "allow", "yes", "ask", "plugins", "key_command", "env_file", "workspace", "data_dir", "mcp_server", "mcp_config", "mcp_prompt",
    "log", "otel", "daily_budget", "tier", "sandbox",
})  # fmt: skip
LISTS = ("plugins", "key_command", "trusted")
# What forbids adds up over all layers: neither a flag nor a stranger's file takes back what another one withholds.
ADDED_UP = ("deny", "confirm")
EMPTY: Mapping[str, Any] = MappingProxyType({})
_HERE = ("http://127.0.0.1", "http://localhost", "http://[::1]")
_ALIASES = (("LLM_PROVIDER", "provider"), ("LLM_MODEL", "model"))


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of a run. Seconds for times, USD for money; None: not set."""

    provider: str = ""
    model: str = ""
    base_url: str = ""
    script: str = ""
    temperature: float | None = None
    max_tokens: int | None = None
    system: str = ""
    persona: str = ""
    pattern: str = ""
    protocol: str = "auto"
    cache: str = "off"
    max_steps: int = 10
    timeout: float | None = None
    call_timeout: float = 120.0
    grace: float = 30.0
    budget: Decimal | None = None
    retry: int = 2
    rate: tuple[float, float] | None = None
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    confirm: tuple[str, ...] = ()
    sandbox: str = "auto"
    ask: str = "tty"
    yes: bool = False
    dry_run: bool = False
    stream: bool = False
    jobs: int = 1
    session: str = ""
    data_dir: str = ""
    workspace: str = ""
    output_schema: str = ""
    max_input: int = 256 * 1024 * 1024
    on_upstream_error: str = "fail"
    color: str = "auto"
    verbose: bool = False
    quiet: bool = False
    debug: bool = False
    profile: str = ""
    env_file: str = ""
    plugins: tuple[str, ...] = ()
    key_command: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    tables: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    origins: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    notices: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: EMPTY, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """One configuration file: where it was found, what it holds, and whether the user vouches for it."""

    path: str
    data: Mapping[str, Any]
    trusted: bool = True


@dataclass(slots=True)
class _Merge:
    """Values and origins so far; a later layer wins."""

    options: Mapping[str, Option]
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    def put(self, key: str, value: Any, origin: str) -> None:
        before = self.values.get(key) if key in ADDED_UP else ()
        if before:
            value, origin = (
                tuple(dict.fromkeys((*before, *value))),
                f"{self.origins[key]}, {origin}" if value else self.origins[key],
            )
        self.values[key] = value
        self.origins[key] = origin


def environ() -> Mapping[str, str]:
    """Return the process's environment. Nothing else reads it."""
    return os.environ  # noqa: TID251 - this is the one place


def load(
    flags: Mapping[str, Any] = EMPTY,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    *,
    options: Sequence[Option] = OPTIONS,
    agent: str = "",
    files: Sequence[ConfigFile] | None = None,
) -> Settings:
    """Merge all layers. UsageError for a bad flag, ConfigError for a bad variable or file.

    `flags` are by field name: the parser's values, or keyword arguments of `Agent.run`. Names that are neither a setting nor an
    option of the table are an error.
    """
    here = os.path.abspath(cwd or os.getcwd())
    given = environ() if env is None else env
    found = config_files(given, here) if files is None else files
    merge = _Merge({option.field: option for option in options})
    _defaults(merge, given, here)
    profile = str(flags.get("profile") or given.get("AGENT_PROFILE") or "")
    seen = [_file(merge, file, agent, profile) for file in found]
    if profile and not any(seen):
        raise UsageError(f"no profile {profile!r}", hint=_profiles(found))
    given = _with_env_file(merge, flags, given)
    _environment(merge, given)
    for key, value in flags.items():
        _flag(merge, key, value)
    settings = _settings(merge, given, here)
    if given.get("ENCRYPTION_KEY"):
        from agent_core import seal

        seal.check(given["ENCRYPTION_KEY"])
    if not given.get("AGENT_CEILING"):
        return settings
    from agent_core import ceiling

    lowered: Settings = ceiling.lowered(settings, given["AGENT_CEILING"])
    return lowered


def config_files(env: Mapping[str, str], cwd: str) -> tuple[ConfigFile, ...]:
    """Return the configuration files there are: system, user, project (nearest upward). ConfigError if one cannot be read."""
    places = (*reversed(system_files(env)), user_file(env))
    found = [ConfigFile(path, _toml(path)) for path in places if os.path.isfile(path)]
    path = _upward(cwd)
    if path:
        trusted = [
            *env.get("AGENT_TRUSTED", "").split(os.pathsep),
            *(folder for file in found for folder in _listed(file, "trusted")),
        ]
        found.append(ConfigFile(path, _toml(path), _is_trusted(path, trusted)))
    return tuple(found)


def user_dir(env: Mapping[str, str]) -> str:
    """Return the folder of the user's configuration."""
    if sys.platform != "linux":
        from platformdirs import user_config_dir

        return user_config_dir(NAME, appauthor=False)
    return os.path.join(_xdg(env, "XDG_CONFIG_HOME", ".config"), NAME)


def user_file(env: Mapping[str, str]) -> str:
    """Return the path of the user's configuration file."""
    return os.path.join(user_dir(env), "config.toml")


def key_file(env: Mapping[str, str]) -> str:
    """Return the path of the user's key file."""
    return os.path.join(user_dir(env), "keys.toml")


def ring_file(env: Mapping[str, str]) -> str:
    """Return the path of the user's key ring for what the store holds (`agent_core.seal`)."""
    return os.path.join(user_dir(env), "keyring.toml")


def seals(env: Mapping[str, str]) -> bool:
    """Return whether a store may have to be encrypted from its first row on: then `seal.begin_new` is asked."""
    return bool(env.get("ENCRYPTION_KEY") or env.get("CREDENTIALS_DIRECTORY")) or os.path.exists(ring_file(env))


def system_files(env: Mapping[str, str]) -> list[str]:
    """Return the paths of the system's configuration files, most important first."""
    if sys.platform != "linux":
        from platformdirs import site_config_dir

        return [os.path.join(site_config_dir(NAME, appauthor=False), "config.toml")]
    folders = [folder for folder in env.get("XDG_CONFIG_DIRS", "").split(":") if folder.startswith("/")]
    return [os.path.join(folder, NAME, "config.toml") for folder in folders or ["/etc/xdg"]]


def data_dir(env: Mapping[str, str]) -> str:
    """Return the folder where runs are kept."""
    if sys.platform != "linux":
        from platformdirs import user_data_dir

        return user_data_dir(NAME, appauthor=False)
    return os.path.join(_xdg(env, "XDG_DATA_HOME", os.path.join(".local", "share")), NAME)


def state_dir(env: Mapping[str, str]) -> str:
    """Return the folder of what should outlive the data, and is neither that nor configuration."""
    if sys.platform != "linux":
        from platformdirs import user_state_dir

        return user_state_dir(NAME, appauthor=False)
    return os.path.join(_xdg(env, "XDG_STATE_HOME", os.path.join(".local", "state")), NAME)


def _xdg(env: Mapping[str, str], name: str, fallback: str) -> str:
    value = env.get(name, "")
    # The specification: a relative path in these variables is to be ignored.
    home = env.get("HOME") or os.path.expanduser("~")
    # Without a home nothing is to appear where the command happens to stand, least of all a folder named ~.
    return value if value.startswith("/") else os.path.join(home if home.startswith("/") else "/nonexistent", fallback)


def _upward(cwd: str) -> str:
    folder = cwd
    while True:
        path = os.path.join(folder, "agents.toml")
        if os.path.isfile(path):
            return path
        parent = os.path.dirname(folder)
        if parent == folder:
            return ""
        folder = parent


def _is_trusted(path: str, trusted: Sequence[str]) -> bool:
    real = os.path.realpath(path)
    places = [os.path.realpath(os.path.expanduser(place)) for place in trusted if place]
    return any(real == place or real.startswith(place.rstrip("/") + "/") for place in places)


def _toml(path: str) -> dict[str, Any]:
    import tomllib

    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="fix its permissions") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}", hint="it must be TOML") from None


def _listed(file: ConfigFile, key: str) -> tuple[str, ...]:
    value = file.data.get(key, [])
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ConfigError(f"{file.path}: {key} must be a list of text")
    return tuple(words)


def plugins_named(files: Sequence[ConfigFile], env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the plugin modules to load, before flags are known."""
    named = env.get("AGENT_PLUGINS", "")
    if named:
        return tuple(name.strip() for name in named.split(",") if name.strip())
    lists = [_listed(file, "plugins") for file in files if file.trusted and "plugins" in file.data]
    return lists[-1] if lists else ()


def _defaults(merge: _Merge, env: Mapping[str, str], cwd: str) -> None:
    for option in merge.options.values():
        if option.field not in _CALL_ONLY:
            merge.put(option.field, option.default, "default")
    merge.put("data_dir", data_dir(env), "default")
    merge.put("workspace", cwd, "default")


def _file(merge: _Merge, file: ConfigFile, agent: str, profile: str) -> bool:
    """Merge one file; return whether it has the profile."""
    data = file.data
    profiles, agents = _table(file, "profile"), _table(file, "agent")
    plain = {key: value for key, value in data.items() if not isinstance(value, dict)}
    for layer in (plain, _table(file, "llm"), agents.get(agent, {}), profiles.get(profile, {}) if profile else {}):
        if not isinstance(layer, dict):
            raise ConfigError(f"{file.path}: [agent.*] and [profile.*] must be tables")
        _layer(merge, file, layer)
    known = {"llm", "agent", "profile"}
    merge.tables.update({key: value for key, value in data.items() if isinstance(value, dict) and key not in known})
    return profile in profiles


def _table(file: ConfigFile, name: str) -> dict[str, Any]:
    value = file.data.get(name, {})
    if not isinstance(value, dict):
        raise ConfigError(f"{file.path}: {name} must be a table")
    return value


def _layer(merge: _Merge, file: ConfigFile, layer: Mapping[str, Any]) -> None:
    for raw, value in layer.items():
        key = raw.replace("-", "_")
        if not _may_set(file, key, value):
            merge.notices.append(f"{file.path}: {raw} left out, the file is not trusted (see AGENT_TRUSTED)")
        elif key in LISTS:
            merge.put(key, _listed(ConfigFile(file.path, {key: value}), key), file.path)
        elif key in merge.options and merge.options[key].setting:
            merge.put(key, _coerce(merge.options[key], value, f"{file.path}: {raw}", ConfigError), file.path)
        elif not isinstance(value, dict):
            near = nearest(key, (name for name, option in merge.options.items() if option.setting))
            raise ConfigError(
                f"{file.path}: no setting {raw!r}", hint=f"did you mean {' or '.join(near)}?" if near else "see --help"
            )


def _may_set(file: ConfigFile, key: str, value: Any) -> bool:
    if file.trusted:
        return True
    if key == "base_url":
        rest = next((str(value)[len(here) :] for here in _HERE if str(value).startswith(here)), None)
        return rest is not None and (not rest or rest[0] in ":/") and "@" not in rest
    return key not in RESERVED


def _coerce(option: Option, value: Any, where: str, kind: type[AgentError]) -> Any:
    """Return a TOML or Python value as the option's kind."""
    try:
        if option.repeat:
            words = [value] if isinstance(value, str) else list(value)
            return tuple(_one(option, word) for word in words)
        return _one(option, value)
    except (UsageError, TypeError, ValueError) as error:
        raise kind(f"{where}: {str(error).removeprefix(f'--{option.name}: ')}", hint=getattr(error, "hint", "")) from None


def _one(option: Option, value: Any) -> Any:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return convert(option, value)
    if option.parse is not None:  # a value that was parsed before
        return value
    if isinstance(value, bool) != (option.kind == "flag"):
        raise TypeError(f"{value!r} does not fit")
    return value if option.kind == "flag" else _figure(option, value)


def _figure(option: Option, value: Any) -> Any:
    if option.kind == "int" and isinstance(value, int):
        return check_range(option, value)
    if option.kind in {"number", "seconds"} and isinstance(value, int | float):
        return convert(option, repr(float(value)))
    if option.kind == "money":
        from decimal import Decimal

        return convert(option, f"{Decimal(str(value)):f}")
    if option.kind == "rate" and isinstance(value, tuple):
        return value
    raise TypeError(f"{value!r} does not fit")


def _with_env_file(merge: _Merge, flags: Mapping[str, Any], env: Mapping[str, str]) -> Mapping[str, str]:
    path = str(flags.get("env_file") or env.get("AGENT_ENV_FILE") or merge.values.get("env_file") or "")
    return {**read_env_file(path), **env} if path else env


def read_env_file(path: str) -> dict[str, str]:
    """Return the NAME=VALUE lines of a file. Quotes are taken off, `export` and comments are allowed, nothing is expanded."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {getattr(error, 'strerror', 'not UTF-8')}", hint="see --env-file") from None
    found = {}
    for number, line in enumerate(lines, 1):
        text = line.strip().removeprefix("export ").lstrip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier():
            raise ConfigError(f"{path}: line {number} is not NAME=VALUE", hint="see --env-file")
        found[name.strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value.partition(" #")[0].rstrip()


def _environment(merge: _Merge, env: Mapping[str, str]) -> None:
    for name, key in _ALIASES:
        if env.get(name):
            merge.put(key, env[name], f"env {name}")
    for option in merge.options.values():
        text = env.get(option.env, "") if option.env else ""
        if text:
            value: Any = [word.strip() for word in text.split(",") if word.strip()] if option.repeat else text
            merge.put(option.field, _coerce(option, value, option.env, ConfigError), f"env {option.env}")
    for key in ("plugins", "trusted"):
        text = env.get(f"AGENT_{key.upper()}", "")
        if text:
            words = text.split("," if key == "plugins" else os.pathsep)
            merge.put(key, tuple(word.strip() for word in words if word.strip()), f"env AGENT_{key.upper()}")


def _flag(merge: _Merge, key: str, value: Any) -> None:
    option = merge.options.get(key)
    if option is None:
        if key in _FIELDS:
            merge.put(key, value, "argument")
            return
        near = nearest(key, merge.options)
        raise UsageError(f"no setting {key!r}", hint=f"did you mean {' or '.join(near)}?" if near else "see --help")
    if value is not None and key not in _CALL_ONLY:
        merge.put(key, _coerce(option, value, f"--{option.name}", UsageError), f"flag --{option.name}")


def _settings(merge: _Merge, env: Mapping[str, str], cwd: str) -> Settings:
    known = {key: value for key, value in merge.values.items() if key in _FIELDS}
    for key in ("workspace", "data_dir"):
        known[key] = os.path.join(cwd, os.path.expanduser(known[key]))
    return Settings(
        **known,
        extra=MappingProxyType({key: value for key, value in merge.values.items() if key not in _FIELDS and key != "trusted"}),
        tables=MappingProxyType(merge.tables),
        origins=MappingProxyType(merge.origins),
        notices=tuple(merge.notices),
        environment=env,
    )


_FIELDS = frozenset(item.name for item in fields(Settings)) - {"extra", "tables", "origins", "notices", "environment"}
_CALL_ONLY = frozenset(option.field for option in OPTIONS if not option.setting) - _FIELDS


def _profiles(files: Sequence[ConfigFile]) -> str:
    names = sorted({name for file in files for name in _table(file, "profile")})
    return f"known: {', '.join(names)}" if names else "no configuration file has a [profile.NAME] table"


def shown(settings: Settings) -> list[tuple[str, Any, str]]:
    """Return (name, value, origin) of every setting, for `--show-config`. Values are plain JSON data."""
    rows = []
    for name in sorted(settings.origins):
        value = getattr(settings, name, None) if name in _FIELDS else settings.extra.get(name)
        if isinstance(value, tuple):
            value = list(value)
        rows.append((name, value if isinstance(value, str | int | float | list | None) else str(value), settings.origins[name]))
    return rows


# -- keys ------------------------------------------------------------------------------------------------------------------------


def vendor_environment(settings: Settings, *, quick: bool = False) -> Mapping[str, str]:
    """Return the environment as providers see it: names of secrets are looked up, when asked for, in all places of keys.

    `quick` leaves out the places that cost time or may ask a person (key command, keyring).
    """
    return Keys(settings, quick=quick)


def is_secret(name: str) -> bool:
    """Return whether a variable of that name holds a secret."""
    return any(word in name.upper() for word in ("KEY", "TOKEN", "SECRET", "PASSWORD"))


class Keys(Mapping[str, str]):
    """The environment, with secrets from the other places behind it. Every secret given out is registered for redaction."""

    def __init__(self, settings: Settings, *, quick: bool = False) -> None:
        """Look nothing up yet."""
        self._settings = settings
        self._env = settings.environment
        self._quick = quick
        self._found: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        value: str = self._env.get(name, "")
        if not is_secret(name):
            if name not in self._env:
                raise KeyError(name)
            return value
        if name not in self._found:
            self._found[name] = value or self._elsewhere(name)
            _register(self._found[name])
        if not self._found[name]:
            raise KeyError(name)
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._env)

    def __len__(self) -> int:
        return len(self._env)

    def _elsewhere(self, name: str) -> str:
        slow = () if self._quick else (self._command, _keyring, self._plugin)
        for place in (*slow, self._credential, self._file):
            value: str = place(name)
            if value:
                return value
        return ""

    def sources(self, name: str) -> dict[str, str]:
        """Return all places that have a secret of that name, in their order: what people call the place, and the value.

        Every value is registered for redaction.
        """
        slow = () if self._quick else (("key command", self._command), ("keyring", _keyring), ("plugin", self._plugin))
        first = ("environment", lambda name: self._env.get(name, ""))
        places = (first, *slow, ("credential", self._credential), ("key file", self._file))
        found = {place: value for place, look in places if (value := look(name))}
        for value in found.values():
            _register(value)
        return found

    def _command(self, name: str) -> str:
        return _key_command(self._settings.key_command, name, self._env) if self._settings.key_command else ""

    def _plugin(self, name: str) -> str:
        from agent_core import plugins

        return str(plugins.of(self._settings).key(name, self._settings))

    def _credential(self, name: str) -> str:
        return credential(self._env, name)

    def _file(self, name: str) -> str:
        path = key_file(self._env)
        return read_keys(path).get(name, "") if os.path.isfile(path) else ""


def _register(secret: str) -> None:
    if secret:
        from agent_core import redact

        redact.register(secret)


def _key_command(argv: Sequence[str], name: str, env: Mapping[str, str]) -> str:
    import subprocess

    words = [word.replace("{name}", name) for word in argv]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False, env=dict(env))
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        reason = getattr(error, "strerror", None) or "no answer in 60 s"
        raise ConfigError(f"the key command {words[0]} failed: {reason}", hint="see key_command in the user file") from None
    # Whatever it printed stays out of the message: it may hold a secret.
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else ""


def _keyring(name: str) -> str:
    try:
        import keyring  # type: ignore[import-not-found, unused-ignore] # an extra
    except ImportError:
        return ""
    try:
        return str(keyring.get_password(NAME, name) or "")
    except Exception:  # noqa: BLE001 - no D-Bus, a locked or broken backend: the next place may have the key
        return ""


def credential(env: Mapping[str, str], name: str) -> str:
    """Return the systemd credential of that name (or its lower-case form), "" if there is none. ConfigError if unreadable."""
    folder = env.get("CREDENTIALS_DIRECTORY", "")
    for file in (name, name.lower()) if folder and name.isidentifier() else ():
        path = os.path.join(folder, file)
        if os.path.isfile(path):
            try:
                with open(path, encoding="utf-8") as stream:
                    return stream.read().strip()
            except (OSError, ValueError) as error:
                raise ConfigError(f"cannot read the credential {path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    return ""


def read_keys(path: str) -> dict[str, str]:
    """Return the keys of a key file (TOML, NAME = "value"). ConfigError if anyone else may read it."""
    return {name: value for name, value in read_private(path).items() if isinstance(value, str)}


def read_private(path: str) -> dict[str, Any]:
    """Return a TOML file that only its owner may read, and nobody else can exchange; ConfigError for any other."""
    import tomllib

    try:
        with open(path, "rb") as file:
            found, folder = os.fstat(file.fileno()), os.stat(os.path.dirname(os.path.realpath(path)))
            if found.st_mode & 0o077:
                raise ConfigError(f"{path} may be read by others (mode {found.st_mode & 0o777:o})", hint=f"chmod 600 {path}")
            # A sticky folder (/tmp) does not let others exchange our files.
            if folder.st_mode & 0o022 and not folder.st_mode & 0o1000:
                raise ConfigError(f"the folder of {path} may be written by others", hint=f"chmod 700 {os.path.dirname(path)}")
            if found.st_uid not in {os.geteuid(), 0}:
                raise ConfigError(f"{path} belongs to another user", hint="keys are read from your own files only")
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="fix its permissions") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        # The parser quotes nothing but the place, so no secret is in this.
        raise ConfigError(f"{path}: {error}", hint="it must be TOML") from None
