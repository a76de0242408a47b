"""agent-keys - the keys of services, and the encryption of what agents leave behind.

    agent-keys set openai                    asks for the key on the terminal, without showing it; in a pipe it reads stdin
    agent-keys list                          which keys there are and where each comes from; never what they are
    agent-keys check openai --live           is it there, and does the service take it
    agent-keys get openai --reveal           print one
    agent-keys rm openai                     remove what `set` kept
    agent-keys path                          where they are kept

    agent-keys encrypt on                    encrypt the contents of the store, old and new (on, off, status)
    agent-keys rotate                        a new key for them; what is there is encrypted again
    agent-keys export-key --reveal           print the key of the store, to keep it somewhere safe

Keys are looked for in this order: environment, key command (`key_command` in the user file), keyring, systemd credential
(CREDENTIALS_DIRECTORY), key file. `set` writes to the key file (`keys.toml`, 0600, in a folder that is yours alone) or, with --to
keyring, to the desktop's keyring. A key is never an argument: command lines can be read by every program of the machine.

A store is encrypted with ENCRYPTION_KEY where that is set (32 bytes as base64 or hex, or `passphrase:…`), else with the key ring
(`keyring.toml`, beside the key file). It guards backups, synced folders and stolen disks, as long as the key is not with them. Lose
the key and the contents are lost. docs/secrets.md says what is encrypted, what is not, and what it costs.

    $ printf 'sk-not-a-real-key' | agent-keys set openai
    $ agent-keys list
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from agent_core import Agent, config, redact
from agent_core.errors import AgentError, ConfigError, Failed, InputError, MissingInput, UsageError
from agent_core.options import unknown
from agent_core.task import Answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent_core.cli import Command
    from agent_core.provider import Provider
    from agent_core.reseal import Standing
    from agent_core.seal import Key
    from agent_providers.vendors import Vendor

LONGEST = 64 * 1024
MASK = "********"
OTHERS = ("REDIS_PASSWORD", "ENCRYPTION_KEY", "ENCRYPTION_KEY_OLD")
PLACES = {"keyring": "keyring", "file": "key file"}
_TELL_SECONDS = 1.0
_LONGEST_NAME = 18


# --- names -------------------------------------------------------------------------------------------------------------------


def variable(word: str) -> str:
    """Return the variable that a word stands for: its own name, or the first one of a vendor's. UsageError for neither."""
    from agent_providers.vendors import ALIASES, VENDORS

    vendor = VENDORS.get(ALIASES.get(word.lower(), word.lower()))
    if vendor is not None and vendor.key_vars:
        return vendor.key_vars[0]
    if word.isidentifier() and word.isascii() and word.upper() == word:
        if not config.is_secret(word):
            raise UsageError(
                f"{word} is no name of a secret", hint="it would never be looked up: KEY, TOKEN, SECRET or PASSWORD is in one"
            )
        return word
    raise _no_vendor("vendor or variable", word)


def _no_vendor(what: str, word: str) -> UsageError:
    """Return the error for a word that names nothing. It may be a key that somebody typed there: then it is not repeated."""
    from agent_providers.vendors import VENDORS

    if len(word) > _LONGEST_NAME or " " in word:
        return UsageError(f"no {what} of that name", hint="a key is never an argument: pipe it in, or type it when you are asked")
    return unknown(what, word, [row.name for row in VENDORS.values() if row.key_vars])


def known_names(stored: dict[str, str]) -> list[str]:
    """Return the names that may hold a key: the vendors', the tools', our own, and whatever the key file has."""
    from agent_plugins.tools.search import ENGINES
    from agent_providers.vendors import VENDORS

    names = [name for vendor in VENDORS.values() for name in secrets_of(vendor)]
    names += [engine.variable for engine in ENGINES if config.is_secret(engine.variable)]
    return list(dict.fromkeys([*names, *OTHERS, *stored]))


def secrets_of(vendor: Vendor) -> list[str]:
    """Return the variables of a vendor that hold secrets."""
    extra = [name for _, names in vendor.extra for name in names if config.is_secret(name)]
    return [*vendor.key_vars, *([vendor.bearer_var] if vendor.bearer_var else []), *extra]


# --- set, get, rm ------------------------------------------------------------------------------------------------------------


def set_(command: Command, name: str, to: Literal["file", "keyring"] = "file", stdin: str = "") -> Answer:
    """Keep a key: read from the terminal without showing it, or from stdin; never from the command line.

    Args:
        command: the call
        name: a vendor (openai), or a variable (OPENAI_API_KEY)
        to: where it is kept
        stdin: the key
    """
    found = variable(name)
    value = checked(stdin or asked(f"key for {found}: "), found)
    redact.register(value)
    where = _to_keyring(found, value) if to == "keyring" else _to_file(command, found, value)
    first = next(iter(_keys(command).sources(found)), "")
    if first and first != PLACES[to]:
        command.out.say(f"the one from the {first} comes first and is used instead")
    return Answer(f"{found} is kept in {where}", {"name": found, "kept": where})


def checked(text: str, name: str) -> str:
    """Return the key in a text: one line. MissingInput for none, InputError for what cannot be a key."""
    value = text.strip()
    if not value:
        raise MissingInput(f"no key for {name} came", hint="type it on the terminal, or pipe it in")
    if len(value) > LONGEST or not value.isprintable():
        raise InputError("a key is one line of printable text", hint="pipe in the key alone")
    if name == "ENCRYPTION_KEY":
        from agent_core import seal

        seal.check(value)
    return value


def asked(question: str) -> str:
    """Return a line from the controlling terminal, which does not show it; "" where there is none, or it is another job's."""
    import fcntl
    import os
    import termios

    try:
        tty = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        if os.tcgetpgrp(tty) != os.getpgrp():
            return ""
        fcntl.flock(tty, fcntl.LOCK_EX)
        before = termios.tcgetattr(tty)
        hidden = [*before]
        hidden[3] &= ~(termios.ECHO | termios.ECHONL)
        try:
            termios.tcsetattr(tty, termios.TCSAFLUSH, hidden)
            os.write(tty, question.encode())
            return os.read(tty, LONGEST).decode("utf-8", "replace")
        finally:
            termios.tcsetattr(tty, termios.TCSAFLUSH, before)
            os.write(tty, b"\n")
    except OSError:
        return ""
    finally:
        os.close(tty)


def _keys(command: Command) -> config.Keys:
    return config.Keys(command.settings)


def _file(command: Command) -> str:
    return config.key_file(command.settings.environment)


def _stored(command: Command) -> dict[str, Any]:
    import os

    path = _file(command)
    return config.read_private(path) if os.path.lexists(path) else {}


def _to_file(command: Command, name: str, value: str | None) -> str:
    from agent_core import seal

    path = _file(command)
    with seal.changing(path):
        kept = {each: text for each, text in _stored(command).items() if each != name}
        seal.write_private(path, kept if value is None else {**kept, name: value})
    return path


def _keyring() -> Any:
    try:
        import keyring
    except ImportError:
        raise ConfigError(
            "the package keyring is not installed", hint="pip install 'agents-as-unix-tools[keyring]', or --to file"
        ) from None
    return keyring


def _to_keyring(name: str, value: str) -> str:
    ring = _keyring()
    try:
        ring.set_password(config.NAME, name, value)
    except Exception as error:  # noqa: BLE001 - each backend has its own errors; what they say may hold the key
        raise Failed(f"no keyring takes it here ({type(error).__name__})", hint="--to file") from None
    return f"the keyring ({type(ring.get_keyring()).__module__})"


def get(command: Command, name: str, reveal: bool = False) -> Answer:
    """Print a key; only with --reveal.

    Args:
        command: the call
        name: a vendor, or a variable
        reveal: get, export-key: yes, print it
    """
    found = variable(name)
    if not reveal:
        raise UsageError("get prints a secret, and --reveal is not given", hint="agent-keys list shows what there is without it")
    value = _keys(command).get(found)
    if value is None:
        raise ConfigError(f"there is no {found}", hint=f"agent-keys set {name}")
    return Answer(value, {"name": found, "value": value})


def rm(command: Command, name: str) -> Answer:
    """Remove a key from the key file and the keyring."""
    found = variable(name)
    removed = []
    if found in _stored(command):
        removed.append(_to_file(command, found, None))
    if _forgotten(found):
        removed.append("the keyring")
    if not removed:
        raise UsageError(f"no {found} is kept", hint="agent-keys list shows where keys come from")
    first = next(iter(_keys(command).sources(found)), "")
    if first:
        command.out.say(f"there still is one from the {first}")
    return Answer(f"{found} removed from {' and '.join(removed)}", {"name": found, "removed": removed})


def _forgotten(name: str) -> bool:
    try:
        import keyring

        if keyring.get_password(config.NAME, name) is None:
            return False
        keyring.delete_password(config.NAME, name)
    except Exception:  # noqa: BLE001 - not installed, or no backend that works: then it has nothing of ours
        return False
    return True


# --- list, path, check -------------------------------------------------------------------------------------------------------


def list_(command: Command) -> Answer:
    """List the keys there are and where each comes from; the key command is only asked by `check`."""
    from dataclasses import replace

    keys = config.Keys(replace(command.settings, key_command=()))
    stored = {name: value for name, value in _stored(command).items() if isinstance(value, str)}
    rows = [_row(name, list(keys.sources(name))) for name in known_names(stored)]
    rows = [row for row in rows if row["source"]]
    if command.settings.key_command:
        command.out.say("a key command is set: agent-keys check VENDOR asks it")
    width = max((len(row["name"]) for row in rows), default=0)
    return Answer("\n".join(f"{row['name']:<{width}}  {row['value']}  {_where(row)}" for row in rows), rows)


def _row(name: str, places: list[str]) -> dict[str, Any]:
    return {"name": name, "value": MASK, "source": places[0] if places else "", "also": places[1:]}


def _where(row: dict[str, Any]) -> str:
    return f"{row['source']} (also: {', '.join(row['also'])})" if row["also"] else str(row["source"])


def path(command: Command) -> Answer:
    """Print where keys are kept."""
    environment = command.settings.environment
    found = {"keys": config.key_file(environment), "ring": config.ring_file(environment), "config": config.user_file(environment)}
    return Answer(found["keys"], found)


def check(command: Command, vendor: list[str], live: bool = False) -> Answer:
    """Say for which vendors there is a key, and from where; status 3 if a named one has none.

    Args:
        command: the call
        vendor: only these
        live: ask the service for its models: does it take the key
    """
    from agent_providers.vendors import VENDORS

    rows: list[dict[str, Any]] = [_checked(command, row, live=live) for row in _vendors(vendor, VENDORS)]
    if live and any(row["error"] for row in rows):
        failed = next(row for row in rows if row["error"])
        raise failed["error"] if len(rows) == 1 else Failed(f"{failed['vendor']}: {failed['error'].line()}")
    for row in rows:
        row.pop("error")
    shown = rows if vendor else [row for row in rows if row["source"]]
    width = max((len(row["vendor"]) for row in shown), default=0)
    text = "\n".join(f"{row['vendor']:<{width}}  {_verdict(row)}" for row in shown)
    return Answer(text or "no key for any vendor", rows, 0 if all(row["source"] for row in shown) and shown else 3)


def _vendors(words: list[str], table: dict[str, Vendor]) -> list[Vendor]:
    from agent_providers.vendors import ALIASES

    named = [table.get(ALIASES.get(word.lower(), word.lower())) for word in words]
    for word, row in zip(words, named, strict=True):
        if row is None or not row.key_vars:
            raise _no_vendor("vendor", word)
    rows = [row for row in named if row is not None] or [row for row in table.values() if row.key_vars and not row.local]
    return list(dict.fromkeys(rows))


def _checked(command: Command, vendor: Vendor, *, live: bool) -> dict[str, Any]:
    keys = _keys(command)
    places = {name: next(iter(keys.sources(name)), "") for name in secrets_of(vendor)}
    name = next((each for each, place in places.items() if place), vendor.key_vars[0])
    row: dict[str, Any] = {"vendor": vendor.name, "name": name, "source": places[name], "live": None, "models": None, "error": None}
    if live and row["source"]:
        try:
            row["models"], row["live"] = len(_models(command, vendor)), True
        except AgentError as error:
            row["live"], row["error"] = False, error
    return row


def _verdict(row: dict[str, Any]) -> str:
    if not row["source"]:
        return f"no {row['name']}"
    return f"{row['name']} from the {row['source']}" + (f", accepted ({row['models']} models)" if row["live"] else "")


def _models(command: Command, vendor: Vendor) -> list[Any]:
    """Return the service's list of models. The request has the address and the headers that the vendor's codec makes."""
    import json

    from agent_core import choose, http
    from agent_core.effects import Ask
    from agent_core.messages import user
    from agent_core.ops import Http
    from agent_core.provider import Request

    provider: Provider = choose.resolve(vendor.name, command.settings)
    if provider.codec is None or vendor.wire not in ENDINGS or "api_version" in provider.extra:
        raise UsageError(f"{vendor.name} has no list of models to ask for", hint="check it with a call: --max-tokens 1")
    asked_for = provider.codec.encode(Ask((user("hello"),)), provider)
    ending, list_ending = ENDINGS[vendor.wire]
    url = asked_for.url.partition(ending)[0] + list_ending
    headers = tuple(pair for pair in asked_for.headers if pair[0] not in {"content-type", "accept"})
    response = http.send(Http(Request("GET", url, headers, b"")))
    if not 200 <= response.status < 300:
        provider.codec.decode(response, provider)
    try:
        body = json.loads(response.body)
        return list(body.get("data") or body.get("models") or ())
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise Failed(f"{vendor.name} answered, but not with a list of models", hint="check the base URL") from None


ENDINGS = {
    "openai_chat": ("/chat/completions", "/models"), "openai_responses": ("/responses", "/models"),
    "anthropic": ("/messages", "/models"), "gemini": ("/models/", "/models"), "cohere": ("/v2/chat", "/v1/models"),
    "ollama": ("/api/chat", "/api/tags"),
}  # fmt: skip


# --- encryption --------------------------------------------------------------------------------------------------------------


def encrypt(
    command: Command, state: Literal["on", "off", "status"], algorithm: Literal["aes-256-gcm", "chacha20-poly1305"] | None = None
) -> Answer:
    """Encrypt what the store holds (on), take that back (off), or say how it stands (status). An interrupted one goes on.

    Args:
        command: the call
        state: on, off or status
        algorithm: encrypt on: aes-256-gcm (default) or chacha20-poly1305
    """
    path = _store(command)
    if state == "status":
        return _status(command, path)
    return _on(command, path, algorithm or "") if state == "on" else _off(command, path)


def _store(command: Command) -> Path:
    from agent_core import running

    return running.store_path(command.settings)


def _on(command: Command, path: Path, algorithm: str) -> Answer:
    from agent_core import reseal, seal

    now = reseal.standing(path)
    environment = command.settings.environment
    if now.mark and (now.task is None or now.task.to == now.mark):
        key = seal.find(now.mark, str(path), reseal.salt_of(path), environment)
    else:
        key = reseal.target(path, environment)
    return _turned(command, path, key, algorithm, "encrypted")


def _off(command: Command, path: Path) -> Answer:
    from agent_core import reseal, seal

    environment = command.settings.environment
    reseal.check_keys(path)
    seal.change_ring(environment, lambda ring: seal.using(ring, path, sealed=False))
    made = reseal.turn(path, None, tell=_progress(command))
    if not made.lost:
        seal.change_ring(environment, lambda ring: seal.retire(seal.using(ring, path, sealed=False, only=True)))
    text = f"{made.rows:,} records are in the clear again" if made.new else "the store is not encrypted"
    return _lossy(Answer(text, {"records": made.rows, "lost": made.lost, "key": None}), made.lost, swept=True)


def rotate(command: Command, forget: bool = False) -> Answer:
    """Make a new key and encrypt all records with it; one that was interrupted goes on.

    Args:
        command: the call
        forget: rotate: remove retired keys from the key ring; backups that were made with them cannot be opened any more
    """
    from agent_core import reseal, seal

    path, environment = _store(command), command.settings.environment
    now = reseal.standing(path)
    if not now.mark:
        raise UsageError("the store is not encrypted", hint="agent-keys encrypt on")
    reseal.check_keys(path)
    answer = _turned(command, path, _next(path, now, environment), "", "re-encrypted")
    if forget:
        seal.change_ring(environment, lambda ring: seal.forget(seal.retire(ring)))
    return answer


def _next(path: Path, now: Standing, environment: Any) -> Key:
    """Return the key to turn to: the one of a rotation under way, a new ENCRYPTION_KEY, or a new one of the key ring."""
    from agent_core import reseal, seal

    if now.task is not None:
        return seal.find(now.mark, str(path), reseal.salt_of(path), environment)
    if next(seal.texts(environment), ""):
        key = reseal.target(path, environment)
        if key.id == now.mark:
            raise UsageError(
                "ENCRYPTION_KEY is the key in use",
                hint="set ENCRYPTION_KEY to a new one, ENCRYPTION_KEY_OLD to this one, and rotate again",
            )
        return key
    ring = seal.change_ring(environment, lambda ring: ring if ring.current not in {0, now.mark} else seal.with_new(ring))
    return ring.keys[ring.current]


def _turned(command: Command, path: Path, key: Key, algorithm: str, word: str) -> Answer:
    """Turn the store to a key; before and after that the key ring says which keys it needs."""
    from agent_core import reseal, seal

    environment = command.settings.environment
    before = [id_ for id_ in reseal.standing(path).keys if id_ != key.id]
    seal.change_ring(environment, lambda ring: seal.using(ring, path, *before, key.id))
    made = reseal.turn(path, key, algorithm, _progress(command))
    whole = made.swept and not made.lost
    seal.change_ring(environment, lambda ring: seal.retire(seal.using(ring, path, key.id, sealed=True, only=whole)))
    for each in reseal.leftovers(path) if made.new else ():
        command.out.say(f"{each} was not touched: remove it if what it holds should not lie in the clear")
    text = f"{word} {made.rows:,} records, {key.name} active" if made.new else f"the store is encrypted, {key.name} active"
    value = {"records": made.rows, "lost": made.lost, "key": {"id": seal.shown(key.id), "number": key.number or None}}
    return _lossy(Answer(text, value), made.lost, swept=made.swept)


def _lossy(answer: Answer, lost: int, *, swept: bool) -> Answer:
    if swept and not lost:
        return answer
    problem = (
        f"{lost:,} records were altered by somebody, cannot be opened, and stay as they are" if lost
        else "another program held the store all the time: what was rewritten may still stand in its log; do it again"
    )  # fmt: skip
    return Answer(f"{answer.text}; {problem}", answer.value, 4, problem)


def _progress(command: Command) -> Callable[[int, int], None]:
    import time

    last = [time.monotonic()]

    def tell(done: int, total: int) -> None:
        if time.monotonic() - last[0] >= _TELL_SECONDS:
            last[0] = time.monotonic()
            command.out.say(f"{done:,} of {max(done, total):,} records")

    return tell


def _status(command: Command, path: Path) -> Answer:
    from agent_core import reseal, seal

    now = reseal.standing(path) if path.exists() else reseal.Standing()
    clear, sealed = (sum(pair[side] for pair in now.rows.values()) for side in (0, 1))
    key = _here(now.mark, path, command.settings.environment) if now.mark else None
    state = "unfinished" if now.task is not None else "on" if now.mark else "off"
    lines = [f"encryption is {state}: {sealed:,} records encrypted, {clear:,} in the clear"]
    if now.mark:
        where = f"from {'the key ring' if key.number else key.origin}" if key is not None else "NOT HERE: nothing can be read"
        lines.append(f"{key.name if key is not None else f'key {seal.shown(now.mark)}'} ({now.algorithm}), {where}")
    if now.task is not None:
        lines.append(f"to go on: agent-keys {'encrypt off' if not now.task.to else 'encrypt on'}")
    left = [str(each) for each in reseal.leftovers(path)] if now.mark else []
    lines += [f"not encrypted: {each}" for each in left]
    value = {
        "state": state, "encrypted": sealed, "clear": clear, "algorithm": now.algorithm or None, "key_here": key is not None,
        "key": seal.shown(now.mark) if now.mark else None, "number": key.number or None if key is not None else None,
        "keys": {seal.shown(id_): count for id_, count in now.keys.items()}, "not_encrypted": left,
    }  # fmt: skip
    return Answer("\n".join(lines), value)


def _here(mark: int, path: Path, environment: Any) -> Key | None:
    from agent_core import reseal, seal

    try:
        return seal.find(mark, str(path), reseal.salt_of(path), environment)
    except AgentError:
        return None


def export_key(command: Command, reveal: bool = False) -> Answer:
    """Print the key of the store as ENCRYPTION_KEY takes it, to be kept somewhere safe; only with --reveal.

    Args:
        command: the call
        reveal: get, export-key: yes, print it
    """
    from agent_core import reseal, seal

    if not reveal:
        raise UsageError(
            "export-key prints a secret, and --reveal is not given", hint="agent-keys encrypt status shows what there is"
        )
    path = _store(command)
    mark = reseal.standing(path).mark if path.exists() else 0
    if not mark:
        raise UsageError("the store is not encrypted", hint="agent-keys encrypt on")
    key = seal.find(mark, str(path), reseal.salt_of(path), command.settings.environment)
    return Answer(seal.exported(key.secret), {"id": seal.shown(key.id), "value": seal.exported(key.secret)})


agent = Agent(
    __doc__,
    stdin="optional",
    tags=("keys", "secrets", "encryption"),
    when_to_use="To keep keys of services, to see which there are, and to encrypt what agents record.",
    commands=[set_, list_, get, rm, path, check, encrypt, rotate, export_key],
)
main = agent.main

if __name__ == "__main__":
    main()
