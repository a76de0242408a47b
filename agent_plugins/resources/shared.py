"""shared - where the state of limits is kept: in the store for all processes of a user, in Redis for several machines.

    AGENT_SHARED=redis://limits.example:6379/0        # the password, if there is one, is the key REDIS_PASSWORD

A row is a JSON object under a key ("rate:openai/m"); `change` reads, changes and writes it with nobody between. Times in rows are
seconds since 1970; `offset` is what must be added to a guard's clock (monotonic) to get them.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from agent_core.errors import ConfigError, StoreError
from agent_core.ledger import holds, this_process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent_core.store import Store

NAMESPACE = "limits"
SCHEMES = ("redis://", "rediss://", "unix://")
_PATIENCE = 5.0
Row = dict[str, Any]
T = TypeVar("T")


class Shared(Protocol):
    """A place for rows."""

    offset: float

    def change(self, key: str, change: Callable[[Row], T], ttl: float) -> T:
        """Let `change` alter the row (empty: there was none; left empty: it goes) and return what it returns.

        Raises:
            StoreError: the place cannot be used.
        """
        ...

    def read(self, key: str) -> Row:
        """Return a row, empty if there is none; StoreError."""
        ...

    def rows(self) -> dict[str, Row]:
        """Return all rows by key; StoreError."""
        ...

    def alive(self, owner: list[Any]) -> bool:
        """Return whether the process that wrote `me()` may still be there."""
        ...


def me() -> list[Any]:
    """Return what names this process: id, start in ticks, boot."""
    return list(this_process())


def decoded(text: str | bytes | None) -> Row:
    """Return a row; one that is damaged counts as empty (limits then begin anew, money is not kept here)."""
    try:
        row = json.loads(text or b"{}")
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _encoded(row: Row) -> str:
    return json.dumps(row, separators=(",", ":"), sort_keys=True)


@dataclass(slots=True)
class Local:
    """Rows of this process alone. With an offset of 0 the guard's clock is the time, as tests want it."""

    offset: float = 0.0
    kept: dict[str, str] = field(default_factory=dict)
    _lock: Any = field(default_factory=RLock)

    def change(self, key: str, change: Callable[[Row], T], ttl: float) -> T:  # noqa: ARG002 - nothing outlives the process
        """Change a row."""
        with self._lock:
            row = decoded(self.kept.get(key))
            value = change(row)
            if row:
                self.kept[key] = _encoded(row)
            else:
                self.kept.pop(key, None)
            return value

    def read(self, key: str) -> Row:
        """Return a row."""
        return decoded(self.kept.get(key))

    def rows(self) -> dict[str, Row]:
        """Return all rows."""
        return {key: decoded(text) for key, text in self.kept.items()}

    def alive(self, owner: list[Any]) -> bool:
        """Return whether the process is there."""
        return holds([0, *owner])


@dataclass(slots=True)
class InStore:
    """Rows of all processes that use one store."""

    store: Store
    offset: float = field(default_factory=lambda: time.time() - time.monotonic())

    def change(self, key: str, change: Callable[[Row], T], ttl: float) -> T:
        """Change a row in one transaction."""
        box: list[T] = []

        def on_text(text: str | None) -> str | None:
            row = decoded(text)
            box.append(change(row))
            return _encoded(row) if row else None

        self.store.item_change(NAMESPACE, key, on_text, ttl)
        return box[-1]

    def read(self, key: str) -> Row:
        """Return a row."""
        return decoded(self.store.item_get(NAMESPACE, key))

    def rows(self) -> dict[str, Row]:
        """Return all rows."""
        return {key: decoded(text) for key, text in self.store.items(NAMESPACE).items()}

    def alive(self, owner: list[Any]) -> bool:
        """Return whether the process is there; one of an earlier boot of this machine is not."""
        return holds([0, *owner])


@dataclass(slots=True)
class InRedis:
    """Rows of all machines that use one Redis. `client` is a `redis.Redis`; the time is the server's."""

    client: Any
    address: str = ""
    prefix: str = "agents:limits:"
    offset: float = 0.0

    def change(self, key: str, change: Callable[[Row], T], ttl: float) -> T:
        """Change a row; where another client came between, once more (WATCH, MULTI, EXEC)."""
        box: list[T] = []
        name = self.prefix + key

        def work(pipe: Any) -> None:
            old = pipe.get(name)
            row = decoded(old)
            box.append(change(row))
            pipe.multi()
            if row:
                pipe.set(name, _encoded(row), px=max(1, int(ttl * 1000)))
            else:
                pipe.delete(name)

        self._do(lambda: self.client.transaction(work, name))
        return box[-1]

    def read(self, key: str) -> Row:
        """Return a row."""
        return decoded(self._do(lambda: self.client.get(self.prefix + key)))

    def rows(self) -> dict[str, Row]:
        """Return all rows."""
        names = self._do(lambda: sorted(self.client.scan_iter(match=f"{self.prefix}*", count=500)))
        texts = self._do(lambda: self.client.mget(names)) if names else []
        return {name.decode().removeprefix(self.prefix): decoded(text) for name, text in zip(names, texts, strict=True) if text}

    def alive(self, owner: list[Any]) -> bool:
        """Return whether the process is there; of one on another machine only the end of its lease tells."""
        here = me()[2]
        return True if not here or str(owner[-1]) != here else holds([0, *owner])

    def synchronised(self) -> InRedis:
        """Take over the server's time, so that all machines agree; return itself."""
        seconds, micro = self._do(self.client.time)
        self.offset = seconds + micro / 1e6 - time.monotonic()
        return self

    def _do(self, work: Callable[[], Any]) -> Any:
        import redis

        try:
            return work()
        except redis.RedisError as error:
            words = f"the shared limits cannot be kept: {self.address}: {' '.join(str(error).split())[:200]}"
            raise StoreError(words, hint="is AGENT_SHARED right, and the server up?") from None


def choose(settings: Any, store: Store | None) -> Shared | None:
    """Return where limits are kept: Redis if AGENT_SHARED names one, else the store; None without either.

    Raises:
        ConfigError: AGENT_SHARED is no address of a Redis, holds a password, or the package is missing.
        StoreError: Redis does not answer.
    """
    url = settings.environment.get("AGENT_SHARED", "")
    if url:
        from agent_core import config

        return in_redis(url, config.vendor_environment(settings))
    return InStore(store) if store is not None else None


def in_redis(url: str, keys: Mapping[str, str]) -> InRedis:
    """Return the rows in the Redis at `url`; `keys` may hold REDIS_PASSWORD. ConfigError and StoreError as `choose`."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, secret, _ = parts.hostname or parts.path, parts.password, parts.port
    except ValueError:
        host, secret = "", None
    if not host or not url.startswith(SCHEMES):
        raise ConfigError("AGENT_SHARED is no address of a Redis", hint="redis://HOST:PORT/DATABASE, rediss://… or unix://PATH")
    if secret is not None:
        raise ConfigError("AGENT_SHARED holds a password", hint="keep it as the key REDIS_PASSWORD (agent-keys set, environment)")
    try:
        import redis
    except ImportError:
        raise ConfigError("AGENT_SHARED needs the module 'redis'", hint="pip install redis") from None
    password = keys.get("REDIS_PASSWORD") or None
    try:
        client = redis.Redis.from_url(url, password=password, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE)
    except (ValueError, TypeError):
        raise ConfigError("AGENT_SHARED is no address of a Redis", hint="redis://HOST:PORT/DATABASE") from None
    return InRedis(client, parts.hostname or parts.path).synchronised()


@dataclass(slots=True)
class Fallback:
    """Rows of the store; once it cannot be used, of this process, which is said (`say`) once."""

    first: InStore
    say: Callable[[str], None]
    offset: float = 0.0
    _own: Local | None = None

    def __post_init__(self) -> None:
        self.offset = self.first.offset

    def change(self, key: str, change: Callable[[Row], T], ttl: float) -> T:
        """Change a row."""
        return self._try(lambda place: place.change(key, change, ttl))

    def read(self, key: str) -> Row:
        """Return a row."""
        return self._try(lambda place: place.read(key))

    def rows(self) -> dict[str, Row]:
        """Return all rows."""
        return self._try(lambda place: place.rows())

    def alive(self, owner: list[Any]) -> bool:
        """Return whether the process is there."""
        return self.first.alive(owner)

    def _try(self, work: Callable[[Shared], T]) -> T:
        if self._own is None:
            try:
                return work(self.first)
            except StoreError as error:
                self._own = Local(self.offset)
                self.say(f"limits hold for this process only: {error}")
        return work(self._own)
