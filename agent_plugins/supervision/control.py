r"""control - the Unix socket of a supervisor: one line of JSON asks, one line answers.

    {"do": "status"}    {"do": "stop", "name": "worker"}    {"do": "restart", "name": "worker"}    {"do": "reload"}
    {"ok": true, "value": {...}}                            {"ok": false, "error": "no child \"x\"", "hint": "..."}

The socket is DATA_DIR/supervise/POOL.sock, mode 0600 in a folder of mode 0700, and only the user it belongs to (and root) is heard.
Paths of sockets hold 107 bytes (unix(7)), so it is reached through its folder's descriptor.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_core.errors import ConfigError, ContractError, Failed, UsageError
from agent_plugins.supervision.pool import NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER = "supervise"
LARGEST = 65536
PATIENCE = 5.0
_ANSWER = 16 * 1024 * 1024
_MOST = 64


@contextmanager
def _address(folder: Path, name: str) -> Iterator[str]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}.sock"
    finally:
        os.close(descriptor)


# -- the supervisor's side ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Asker:
    """Somebody who asks: the connection, what came so far, and when the answer is due (called until it returns one)."""

    connection: socket.socket
    heard: bytes = b""
    until: float = 0.0
    answer: Callable[[], Any] | None = None


def listen(data_dir: str, pool: str) -> socket.socket:
    """Return the listening socket of a pool.

    Raises:
        Failed: a supervisor of that name runs already.
        ConfigError: the socket cannot be made.
    """
    folder = Path(data_dir) / FOLDER
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        with _locked(folder):
            return _bound(folder, pool)
    except OSError as error:
        raise ConfigError(f"no control socket in {folder}: {error.strerror}", hint="see --data-dir") from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder, so that of two supervisors one finds the other."""
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _bound(folder: Path, pool: str) -> socket.socket:
    path = folder / f"{pool}.sock"
    if path.exists() and _connected(folder, pool) is not None:
        raise Failed(f"a supervisor of the pool {pool} runs already", hint=f"agent-supervise status --pool {pool}")
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        with _address(folder, pool) as address:
            server.bind(address)
    finally:
        os.umask(mask)
    server.listen(_MOST)
    server.setblocking(False)
    return server


def accept(server: socket.socket, now: float) -> Asker | None:
    """Return who knocks, if it is our own user or root."""
    try:
        connection, _ = server.accept()
    except OSError:
        return None
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    if struct.unpack("3i", raw)[1] not in {0, os.getuid()}:
        connection.close()
        return None
    connection.setblocking(False)
    return Asker(connection, until=now + PATIENCE)


def hear(asker: Asker) -> dict[str, Any] | None:
    """Return the request once its line is complete; None before. ValueError for anything that is none."""
    try:
        piece = asker.connection.recv(LARGEST)
    except BlockingIOError:
        return None
    except OSError as error:
        raise ValueError(str(error)) from None
    asker.heard += piece
    if len(asker.heard) > LARGEST or (not piece and b"\n" not in asker.heard):
        raise ValueError("no request")
    if b"\n" not in asker.heard:
        return None
    try:
        found = json.loads(asker.heard.partition(b"\n")[0])
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(found, dict):
        raise ValueError("no object")  # noqa: TRY004 - the caller hears one kind
    return found


def reply(asker: Asker, value: Any) -> None:
    """Answer and hang up. Who does not listen gets nothing."""
    data = json.dumps(value, ensure_ascii=True).encode() + b"\n"
    with suppress(OSError), asker.connection as connection:
        connection.settimeout(1.0)
        connection.sendall(data)


def unlink(data_dir: str, pool: str) -> None:
    """Remove the socket's file."""
    with suppress(OSError):
        (Path(data_dir) / FOLDER / f"{pool}.sock").unlink()


# -- the other side ----------------------------------------------------------------------------------------------------------------


def pools(data_dir: str) -> list[str]:
    """Return the pools whose supervisors answer."""
    folder = Path(data_dir) / FOLDER
    found = []
    for path in sorted(folder.glob("*.sock")):
        connection = _connected(folder, path.stem)
        if connection is not None:
            connection.close()
            found.append(path.stem)
    return found


def _connected(folder: Path, pool: str) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE)
    try:
        with _address(folder, pool) as address:
            connection.connect(address)
    except OSError:
        connection.close()
        return None
    return connection


def ask(data_dir: str, pool: str, request: dict[str, Any], patience: float = 60.0) -> Any:
    """Return what the supervisor of a pool ("": the only one) answers.

    Raises:
        Failed: none runs, or it did not answer within `patience` seconds.
        UsageError: several run, or it does not know what was named.
    """
    if pool and not NAME.fullmatch(pool):
        raise UsageError(f"{pool[:80]!r} is no name of a pool", hint="agent-supervise status --pool NAME")
    chosen = pool or _only(data_dir)
    connection = _connected(Path(data_dir) / FOLDER, chosen) if (Path(data_dir) / FOLDER).is_dir() else None
    if connection is None:
        raise Failed(f"no supervisor of the pool {chosen} runs here", hint="agent-supervise run POOL.toml")
    connection.settimeout(patience)
    heard = bytearray()
    with connection:
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            while (piece := connection.recv(65536)) and len(heard) < _ANSWER:
                heard += piece
        except TimeoutError:
            raise Failed(f"the supervisor did not answer within {patience:g} s", hint="raise --timeout") from None
        except OSError as error:
            raise Failed(f"the supervisor does not answer: {error.strerror}", hint="agent-supervise status") from None
    return _value(bytes(heard))


def _only(data_dir: str) -> str:
    found = pools(data_dir)
    if not found:
        raise Failed("no supervisor runs here", hint="agent-supervise run POOL.toml")
    if len(found) > 1:
        raise UsageError("several supervisors run here", hint=f"--pool {' or --pool '.join(found[:8])}")
    return found[0]


def _value(heard: bytes) -> Any:
    try:
        found = json.loads(heard)
        good, value = found["ok"], found.get("value")
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ContractError("the supervisor's answer is no answer", hint="is it of another version?") from None
    if not good:
        raise UsageError(str(found.get("error"))[:300], hint=str(found.get("hint", ""))[:300])
    return value
