"""seal - contents of the store, encrypted: nobody reads, alters or exchanges them without the key (docs/secrets.md).

    vault = load(connection, path)                        the keys of a store that is encrypted
    sealed = vault.seal(("items", "memory", "7"), b"…")   bound to its place: there, and nowhere else, it can be
    vault.open(("items", "memory", "7"), sealed)          opened; StoreError if it was altered, moved, or the key is not here

Form:  00 41 53 01 | algorithm (1 byte) | key id (4) | nonce (12, random) | ciphertext and tag (16)

AES-256-GCM or ChaCha20-Poly1305 from `cryptography` (the extra `crypto`, imported with the first row that is sealed), or else from
the OpenSSL that Python has (`agent_core.libcrypto`). The
associated data are the form's first nine bytes, the store's number and the place. A key's id follows from the key, so a wrong key
is known to be one before anything is opened. Where a store stands is written in it: `PRAGMA application_id` is the id of the key
for new rows (0: they are not encrypted), the table `sealing` has its number and algorithm.

Keys: ENCRYPTION_KEY from wherever keys come from (32 bytes as base64 or hex, or `passphrase:…`), ENCRYPTION_KEY_OLD, and the key
ring (`keyring.toml`, 0600, beside the user file), which `agent-keys encrypt on` and `agent-keys rotate` write.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from agent_core.errors import AgentError, ConfigError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

MAGIC = b"\0AS\1"
ALGORITHMS = ("aes-256-gcm", "chacha20-poly1305")
KEY_BYTES = 32
NONCE_BYTES = 12
VARIABLE, OLD_VARIABLE = "ENCRYPTION_KEY", "ENCRYPTION_KEY_OLD"
PASSPHRASE = "passphrase:"  # noqa: S105 - a mark, no secret
EXTRA = "pip install 'agents-as-unix-tools[crypto]'"
TABLE = "CREATE TABLE IF NOT EXISTS sealing (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
ALTERED, NO_KEY = "altered", "no key"
_ANY = tuple(f"SELECT 1 FROM {name} LIMIT 1" for name in ("runs", "events", "items", "blobs"))  # noqa: S608 - constants
# OWASP's password storage cheat sheet: scrypt with N=2^15, r=8, p=3 (32 MiB).
_SCRYPT = {"n": 1 << 15, "r": 8, "p": 3}
_HEAD = len(MAGIC) + 1 + 4
_SHORTEST_PHRASE = 12


@dataclass(frozen=True, slots=True)
class Key:
    """A key: its 32 bytes, and where it comes from. `number` is its place in the key ring, 0 outside of it."""

    secret: bytes = field(repr=False)
    origin: str = ""
    number: int = 0

    @property
    def id(self) -> int:
        """What names it: 31 bits that follow from the key and say nothing of it; never 0."""
        return key_id(self.secret)

    @property
    def name(self) -> str:
        """What people call it."""
        return f"key {self.number}" if self.number else f"key {shown(self.id)}"


def key_id(secret: bytes) -> int:
    """Return the id of a key: the first 31 bits of HMAC-SHA-256(key, "agents key id")."""
    import hmac

    return int.from_bytes(hmac.digest(secret, b"agents key id", "sha256")[:4], "big") & 0x7FFFFFFF or 1


def shown(id_: int) -> str:
    """Return an id as people see it."""
    return f"{id_:08x}"


# -- one row -----------------------------------------------------------------------------------------------------------------------


def encrypt(algorithm: str, key: bytes, nonce: bytes, data: bytes, bound: bytes) -> bytes:
    """Return ciphertext and tag of RFC 5116's AEAD; `bound` is the associated data. StoreError where there is no cipher."""
    return bytes(_cipher(algorithm, key).encrypt(nonce, data, bound))


def _cipher(algorithm: str, key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers import aead
    except ImportError:
        return _of_openssl(algorithm, key)
    return aead.AESGCM(key) if algorithm == ALGORITHMS[0] else aead.ChaCha20Poly1305(key)


def _of_openssl(algorithm: str, key: bytes) -> Any:
    from agent_core import libcrypto

    try:
        return libcrypto.Cipher(algorithm, key)
    except ImportError:
        raise StoreError("encryption needs the package cryptography", hint=EXTRA, cause=NO_KEY) from None


def _own(secret: bytes, algorithm: str) -> bytes:
    """Return the key of one algorithm: no two of them ever use the same one."""
    import hmac

    return hmac.digest(secret, f"agents seal 1 {algorithm}".encode(), "sha256")


def _bound(store: bytes, place: tuple[str, ...]) -> bytes:
    """Return store and place as bytes; lengths stand before the parts, so that no two places look alike."""
    parts = [part.encode("utf-8", "surrogatepass") for part in place]
    return b"".join([store, *(b"%d:%s," % (len(part), part) for part in parts)])


@dataclass(frozen=True, slots=True)
class Vault:
    """The keys of one store. `mark`: the id of the key for new rows, 0 for none; `mixed`: some rows may be in the clear still."""

    path: str
    store: bytes
    mark: int
    algorithm: str
    mixed: bool = False
    find: Callable[[int], Key] = field(default=lambda id_: _absent("", id_), repr=False)
    ciphers: dict[tuple[int, int], Any] = field(default_factory=dict, repr=False)

    def seal(self, place: tuple[str, ...], data: bytes, mark: int = 0) -> bytes:
        """Return the sealed form of bytes at a place. `mark`: another key than the one for new rows."""
        number, id_ = ALGORITHMS.index(self.algorithm), mark or self.mark
        head = MAGIC + bytes([number]) + id_.to_bytes(4, "big")
        nonce = os.urandom(NONCE_BYTES)
        return head + nonce + bytes(self._ready(number, id_).encrypt(nonce, data, head + _bound(self.store, place)))

    def open(self, place: tuple[str, ...], sealed: bytes) -> bytes:
        """Return the bytes that were sealed at a place.

        Raises:
            StoreError: the key is not here (`cause` NO_KEY), or they were altered or stood somewhere else (ALTERED).
        """
        if len(sealed) < _HEAD + NONCE_BYTES + 16 or sealed[:3] != MAGIC[:3]:
            raise _altered(self.path, place)
        if sealed[:4] != MAGIC or sealed[4] >= len(ALGORITHMS):
            raise StoreError(
                f"the store {self.path} holds a form of encryption that this program does not know", hint="update this program"
            )
        cipher = self._ready(sealed[4], int.from_bytes(sealed[5:_HEAD], "big"))
        nonce, data = sealed[_HEAD : _HEAD + NONCE_BYTES], sealed[_HEAD + NONCE_BYTES :]
        try:
            return bytes(cipher.decrypt(nonce, data, sealed[:_HEAD] + _bound(self.store, place)))
        except Exception as error:
            if type(error).__name__ != "InvalidTag":  # of `cryptography`, or of agent_core.libcrypto
                raise
            raise _altered(self.path, place) from None

    def ready(self) -> None:
        """Look for the key of new rows now; StoreError if it is not here."""
        if self.mark:
            self._ready(ALGORITHMS.index(self.algorithm), self.mark)

    def _ready(self, number: int, id_: int) -> Any:
        found = self.ciphers.get((number, id_))
        if found is None:
            algorithm = ALGORITHMS[number]
            found = self.ciphers[number, id_] = _cipher(algorithm, _own(self.find(id_).secret, algorithm))
        return found


def _altered(path: str, place: tuple[str, ...]) -> StoreError:
    where = " ".join(part for part in place[:3] if part)
    return StoreError(
        f"the store {path}: {where} was altered, or moved there from another place",
        hint="what it was can only come from a backup; all other rows can be read", cause=ALTERED,
    )  # fmt: skip


def _absent(path: str, id_: int) -> Key:
    raise StoreError(
        f"the store {path} is encrypted, and its key {shown(id_)} is not here",
        hint="set ENCRYPTION_KEY, or put keyring.toml back beside the user file; see agent-keys encrypt status", cause=NO_KEY,
    )  # fmt: skip


def id_in(sealed: bytes) -> int:
    """Return the id of the key that a sealed form names, 0 if it is none."""
    return int.from_bytes(sealed[5:_HEAD], "big") if sealed[:3] == MAGIC[:3] and len(sealed) > _HEAD else 0


# -- places ------------------------------------------------------------------------------------------------------------------------


def event_place(run: str, path: str, kind: str, fingerprint: str, moment: float) -> tuple[str, ...]:
    """Return the place of an event's data: everything else that its row says."""
    return ("events", run, path, kind, fingerprint, repr(float(moment)))


def blob(name: str, data: bytes) -> bool:
    """Return whether a blob's bytes are sealed: in the clear they are what their name says."""
    return data[:3] == MAGIC[:3] and _hash(data) != name


def check_blob(name: str, data: bytes, path: Path | str) -> None:
    """StoreError if bytes in the clear are not what their name says."""
    if _hash(data) != name:
        raise _altered(str(path), ("blobs", name))


def _hash(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


_SALT = str.maketrans({f"{digit:x}": " \t\n\r"[digit >> 2] + " \t\n\r"[digit & 3] for digit in range(16)})


def salted(text: str) -> str:
    """Return a JSON text with 96 bits of white space behind it.

    The links of the audit chain are hashes of what was said. Without this, whoever has the file alone could try out what a short
    event ("yes", "no") may have been. A reader of JSON does not see it, and it survives every change of the key.
    """
    return text + os.urandom(12).hex().translate(_SALT)


# -- what a store says of itself ---------------------------------------------------------------------------------------------------


def mark_of(connection: Any) -> int:
    """Return the id of the key for new rows, 0 if they are not encrypted."""
    return int(connection.execute("PRAGMA application_id").fetchone()[0])


def facts(connection: Any) -> dict[str, str]:
    """Return the rows of `sealing`: store (its number, hexadecimal), algorithm, salt and task (JSON). Empty: never encrypted."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'sealing'").fetchone():
        return {}
    return dict(connection.execute("SELECT name, value FROM sealing").fetchall())


def note(connection: Any, name: str, value: str | None) -> None:
    """Write a row of `sealing` (None removes it)."""
    if value is None:
        connection.execute("DELETE FROM sealing WHERE name = ?", (name,))
    else:
        connection.execute("REPLACE INTO sealing VALUES (?, ?)", (name, value))


def load(connection: Any, path: Path | str) -> Vault:
    """Return the vault of a store. Keys are looked for when they are needed."""
    known = facts(connection)
    algorithm = known.get("algorithm", ALGORITHMS[0])
    if algorithm not in ALGORITHMS:
        raise StoreError(f"the store {path} is encrypted with {algorithm[:40]}", hint="update this program")
    try:
        number = bytes.fromhex(known.get("store", ""))
    except ValueError:
        number = b""
    salt = known.get("salt", "")
    return Vault(str(path), number, mark_of(connection), algorithm, "task" in known, lambda id_: find(id_, str(path), salt))


def begin(connection: Any, key: Key, algorithm: str = "") -> None:
    """Make new rows encrypted from here on, inside the caller's transaction. Rows that are there stay as they are."""
    connection.execute(TABLE)
    known = facts(connection)
    if "store" not in known:
        note(connection, "store", os.urandom(16).hex())
    if algorithm or "algorithm" not in known:
        note(connection, "algorithm", algorithm or ALGORITHMS[0])
    connection.execute(f"PRAGMA application_id={key.id}")


def begin_new(connection: Any, path: Path, env: Mapping[str, str]) -> str:
    """Encrypt a new, empty store where the user has said so: ENCRYPTION_KEY is set, or a store at this path was encrypted before.

    Returns a notice where an old store stays in the clear although ENCRYPTION_KEY is set.

    Raises:
        StoreError: it should be encrypted, holds rows, and is not: somebody exchanged it.
    """
    from agent_core import config

    text = (env.get(VARIABLE) or config.credential(env, VARIABLE)).strip()
    if not text and not is_listed(read_ring(env), path):
        return ""
    connection.execute("BEGIN IMMEDIATE")
    try:
        empty = not any(connection.execute(query).fetchone() for query in _ANY)
        if not mark_of(connection) and empty:
            salt = ensure_salt(connection) if text.startswith(PASSPHRASE) else ""
            begin(connection, parse(text, salt) if text else current(env))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if mark_of(connection):
        return ""
    if text:
        return f"{VARIABLE} is set, but what the store holds is not encrypted: agent-keys encrypt on"
    raise StoreError(
        f"the store {path} should be encrypted and is not: it was exchanged, or comes from a backup",
        hint="agent-keys encrypt on, or encrypt off if that is as it should be",
    )


def ensure_salt(connection: Any) -> str:
    """Return the salt of a store's passphrase, made if there is none: JSON with salt, n, r, p (inside the caller's transaction)."""
    import json

    connection.execute(TABLE)
    known = facts(connection).get("salt", "")
    if not known:
        known = json.dumps({"salt": os.urandom(16).hex(), **_SCRYPT})
        note(connection, "salt", known)
    return known


# -- keys --------------------------------------------------------------------------------------------------------------------------


def parse(text: str, salt: str = "", origin: str = VARIABLE) -> Key:
    """Return the key that a text stands for: 32 bytes as hex or base64, or `passphrase:…`, which needs the store's salt.

    Raises:
        ConfigError: it is none of these. The message does not repeat it.
    """
    from agent_core import redact

    text = text.strip()
    redact.register(text)
    if text.startswith(PASSPHRASE):
        phrase = text.removeprefix(PASSPHRASE)
        redact.register(phrase)
        _check_phrase(phrase, origin)
        return Key(_stretched(phrase, salt), origin)
    secret = _decoded(text)
    if len(secret) != KEY_BYTES:
        raise ConfigError(
            f"{origin} is not a key of 32 bytes",
            hint=f"base64 or hex, as openssl rand -base64 32 makes one, or {PASSPHRASE}SEVERAL WORDS",
        )
    return Key(secret, origin)


def check(text: str) -> None:
    """ConfigError if a text cannot be a key; costs nothing for a passphrase."""
    if text.strip().startswith(PASSPHRASE):
        _check_phrase(text.strip().removeprefix(PASSPHRASE), VARIABLE)
    else:
        parse(text)


def _check_phrase(phrase: str, origin: str) -> None:
    if len(phrase) < _SHORTEST_PHRASE:
        raise ConfigError(f"the passphrase in {origin} is shorter than {_SHORTEST_PHRASE} characters", hint="use several words")


def _decoded(text: str) -> bytes:
    import base64
    import binascii

    if len(text) == 2 * KEY_BYTES and not set(text.lower()) - set("0123456789abcdef"):
        return bytes.fromhex(text)
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


@cache
def _stretched(phrase: str, salt: str) -> bytes:
    import hashlib
    import json

    try:
        known = json.loads(salt)
        n, r, p = (int(known[name]) for name in ("n", "r", "p"))
        raw = bytes.fromhex(known["salt"])
    except (ValueError, KeyError, TypeError):
        raise StoreError(
            "the store has no salt for a passphrase", hint="it was encrypted with a key of another kind", cause=NO_KEY
        ) from None
    # What stands in a file is not trusted to make us work for ever.
    if not (1 << 10 <= n <= 1 << 20 and 1 <= r <= 16 and 1 <= p <= 16 and len(raw) >= 8):
        raise StoreError("the store's salt for the passphrase is damaged", hint="take it from a backup", cause=NO_KEY)
    return hashlib.scrypt(phrase.encode("utf-8", "surrogatepass"), salt=raw, n=n, r=r, p=p, maxmem=1 << 30, dklen=KEY_BYTES)


def texts(env: Mapping[str, str], *, slow: bool = True) -> Iterator[str]:
    """Yield what ENCRYPTION_KEY is, wherever keys come from (`slow`: not in the environment alone)."""
    return (text for name, text in _given(env, slow=slow) if name == VARIABLE)


def _given(env: Mapping[str, str], *, slow: bool) -> Iterator[tuple[str, str]]:
    from agent_core import config

    found = [(name, env.get(name) or "") for name in (VARIABLE, OLD_VARIABLE)]
    yield from (pair for pair in found if pair[1])
    if slow:
        keys = config.vendor_environment(config.load(env=env))
        yield from ((name, text) for name, was in found if (text := keys.get(name) or "") and text != was)


def given(salt: str, env: Mapping[str, str], *, slow: bool = True) -> Iterator[Key]:
    """Yield the keys that ENCRYPTION_KEY and ENCRYPTION_KEY_OLD stand for; a passphrase only where there is a salt for it."""
    for name, text in _given(env, slow=slow):
        if salt or not text.strip().startswith(PASSPHRASE):
            yield parse(text, salt, name)


def find(id_: int, path: str, salt: str = "", env: Mapping[str, str] | None = None) -> Key:
    """Return the key of an id, from the quick places first. StoreError if it is in none."""
    from agent_core import config, redact

    environment = config.environ() if env is None else env
    try:
        for key in given(salt, environment, slow=False):
            if key.id == id_:
                return key
        ring = read_ring(environment)
        if id_ in ring.keys:
            redact.register(exported(ring.keys[id_].secret))
            return ring.keys[id_]
        for key in given(salt, environment):
            if key.id == id_:
                return key
    except StoreError:
        raise
    except AgentError as error:
        raise StoreError(str(error), hint=error.hint, cause=NO_KEY) from None
    return _absent(path, id_)


def wanted(env: Mapping[str, str] | None = None, salt: str = "") -> Key:
    """Return the key that new rows should have: ENCRYPTION_KEY if there is one, else the key ring's current (made if need be)."""
    from agent_core import config

    environment = config.environ() if env is None else env
    found = next((key for key in given(salt, environment) if key.origin == VARIABLE), None)
    return found if found is not None else current(environment)


def exported(secret: bytes) -> str:
    """Return a key as the text that ENCRYPTION_KEY takes."""
    import base64

    return base64.b64encode(secret).decode()


# -- the key ring ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Use:
    """Which keys a store may have rows of, and whether it is encrypted (a new file at its path is, then, too)."""

    keys: tuple[int, ...] = ()
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class Ring:
    """The key ring: keys by id, the current one (0: none yet), when each was made and retired (text), and the stores' uses."""

    keys: Mapping[int, Key] = field(default_factory=dict)
    current: int = 0
    made: Mapping[int, str] = field(default_factory=dict)
    retired: Mapping[int, str] = field(default_factory=dict)
    stores: Mapping[str, Use] = field(default_factory=dict)


def is_listed(ring: Ring, path: Path | str) -> bool:
    """Return whether the store at a path is to be encrypted."""
    use = ring.stores.get(os.path.realpath(path))
    return use is not None and use.sealed


def read_ring(env: Mapping[str, str]) -> Ring:
    """Return the key ring; an empty one if there is none. ConfigError if others may read it, or it is damaged."""
    from agent_core import config

    path = config.ring_file(env)
    if not os.path.lexists(path):
        return Ring()
    data = config.read_private(path)
    try:
        return _ring(data, path)
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError):
        raise ConfigError(f"the key ring {path} is damaged", hint="put it back from a backup; do not delete it") from None


def _ring(data: Mapping[str, Any], path: str) -> Ring:
    keys: dict[int, Key] = {}
    for name, row in data.get("keys", {}).items():
        key = Key(_decoded(row["secret"]), path, int(row["number"]))
        if len(key.secret) != KEY_BYTES or shown(key.id) != name:
            raise ValueError(name)
        keys[key.id] = key
    dates = {
        kind: {int(name, 16): str(row[kind]) for name, row in data.get("keys", {}).items() if kind in row}
        for kind in ("made", "retired")
    }
    stores = {
        str(place): Use(tuple(int(name, 16) for name in row["keys"]), bool(row["sealed"]))
        for place, row in data.get("stores", {}).items()
    }
    chosen = int(data["current"], 16) if data.get("current") else 0
    if chosen and chosen not in keys:
        raise ValueError("current")
    return Ring(keys, chosen, dates["made"], dates["retired"], stores)


def _as_toml(ring: Ring) -> dict[str, Any]:
    rows = {}
    for id_, key in ring.keys.items():
        rows[shown(id_)] = {"number": key.number, "secret": exported(key.secret), "made": ring.made.get(id_, "")}
        if id_ in ring.retired:
            rows[shown(id_)]["retired"] = ring.retired[id_]
    stores = {place: {"keys": [shown(id_) for id_ in use.keys], "sealed": use.sealed} for place, use in ring.stores.items()}
    return {"current": shown(ring.current) if ring.current else "", "keys": rows, "stores": stores}


@contextmanager
def changing(path: str) -> Iterator[None]:
    """Hold the lock beside a private file, so that one process at a time changes it; its folder is made (0700)."""
    import fcntl

    folder = os.path.dirname(path)  # noqa: PTH120 - strings
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103
        if os.stat(folder).st_mode & 0o077:  # noqa: PTH116
            os.chmod(folder, 0o700)  # noqa: PTH101
        lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}", hint="check the folder's permissions") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(OSError):
            os.unlink(_part(path))  # noqa: PTH108 - what a killed process left; whoever writes it holds the lock
        yield
    finally:
        os.close(lock)


def _part(path: str) -> str:
    return f"{path}.part"


def write_private(path: str, data: Mapping[str, Any]) -> None:
    """Replace a TOML file (0600) at once; when this returns, the disk has it. Inside `changing`. ConfigError."""
    import tomli_w

    part = _part(path)
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, tomli_w.dumps(dict(data)).encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(part, path)  # noqa: PTH105
        folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)  # noqa: PTH120
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}", hint="check the folder's permissions and the disk") from None


def change_ring(env: Mapping[str, str], change: Callable[[Ring], Ring]) -> Ring:
    """Change the key ring with nobody between, and return it as it is then."""
    from agent_core import config

    path = config.ring_file(env)
    with changing(path):
        was = read_ring(env)
        ring = change(was)
        if ring != was:
            write_private(path, _as_toml(ring))
    return ring


def current(env: Mapping[str, str]) -> Key:
    """Return the key ring's current key; the first one is made."""
    ring = change_ring(env, lambda ring: ring if ring.current else with_new(ring))
    return ring.keys[ring.current]


def with_new(ring: Ring) -> Ring:
    """Return the ring with a new key, which is the current one then."""
    key = Key(os.urandom(KEY_BYTES), "", 1 + max((each.number for each in ring.keys.values()), default=0))
    while key.id in ring.keys:
        key = replace(key, secret=os.urandom(KEY_BYTES))
    return replace(ring, keys={**ring.keys, key.id: key}, current=key.id, made={**ring.made, key.id: _today()})


def using(ring: Ring, path: Path | str, *ids: int, sealed: bool | None = None, only: bool = False) -> Ring:
    """Return the ring with a note that the store at a path may have rows of these keys (`only`: of no others)."""
    place = os.path.realpath(path)
    was = ring.stores.get(place, Use())
    use = Use(tuple(dict.fromkeys((*(() if only else was.keys), *ids))), was.sealed if sealed is None else sealed)
    stores = {name: each for name, each in ring.stores.items() if name != place}
    return replace(ring, stores={**stores, place: use} if use.keys or use.sealed else stores)


def retire(ring: Ring) -> Ring:
    """Return the ring with every key retired that no store uses: it opens old backups, nothing is sealed with it any more."""
    used = {ring.current, *(id_ for use in ring.stores.values() for id_ in use.keys)}
    return replace(ring, retired={id_: ring.retired.get(id_) or _today() for id_ in ring.keys if id_ not in used})


def forget(ring: Ring) -> Ring:
    """Return the ring without its retired keys: what only they open is lost."""
    left = {id_: key for id_, key in ring.keys.items() if id_ not in ring.retired}
    return replace(ring, keys=left, made={id_: ring.made.get(id_, "") for id_ in left}, retired={})


def _today() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
