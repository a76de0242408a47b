"""gather - find the text that --context names: files, folders, globs, URLs. What is left out is kept with the reason.

Folders are read beneath themselves (`agent_core.beneath`): no symbolic link is followed, so nothing outside gets in. What git
ignores, version control's own folders, binaries, very large files and files that usually hold secrets stay out, unless a file
is named as such: a name is the person's word.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from agent_core import beneath, redact
from agent_core.errors import InputError, MissingInput

from . import ignored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from .ignored import Rules

FILE_LIMIT = 1024 * 1024
TOTAL_LIMIT = 64 * 1024 * 1024
MOST_ENTRIES = 50_000
DEEPEST = 48
PATIENCE = 15.0
_HEAD = 8192
_WEB = ("http://", "https://")
SKIPPED_FOLDERS = frozenset(
    {".git", ".hg", ".svn", ".jj", "node_modules", "__pycache__", ".venv", ".tox", ".ssh", ".gnupg", ".aws"}
)
SECRETS = (
    ".env", ".env.*", "*.env", ".envrc", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk", "id_rsa*",
    "id_dsa*", "id_ecdsa*", "id_ed25519*", ".netrc", "_netrc", ".npmrc", ".pypirc", ".pgpass", ".htpasswd", ".git-credentials",
    ".dockercfg", ".dockerconfigjson", "credentials", "credentials.*", "secrets", "secrets.*", "secret.*", "*.secret", "*.secrets",
    "keys.toml", "*.tfstate", "*.tfstate.*", "*.tfvars", "service-account*.json", "service_account*.json", "kubeconfig", "*.gpg",
    "*.asc", "*.ovpn", "wallet.dat", "known_hosts", "authorized_keys", ".bash_history", ".zsh_history", ".python_history",
)  # fmt: skip
_HARMLESS = (".env.example", ".env.sample", ".env.template", ".env.dist", "*.pub", "credentials.py", "secrets.py", "secrets.md")


@dataclass(frozen=True, slots=True)
class Piece:
    """One text: where it is from, and whether it was named by itself."""

    origin: str
    text: str
    named: bool = False


@dataclass(frozen=True, slots=True)
class Left:
    """What was left out, and why."""

    origin: str
    reason: str


@dataclass(slots=True)
class Found:
    """What was found so far. `seen` keeps real paths, so that what two words name is there once."""

    pieces: list[Piece] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    entries: int = 0
    met: int = 0
    size: int = 0
    until: float = 0.0

    def skip(self, origin: str, reason: str) -> None:
        """Leave something out."""
        self.left.append(Left(shown(origin), reason))


def gather(words: Sequence[str], fetch: Callable[[str, int], bytes], limit: int, there: Iterable[str] = ()) -> Found:
    """Return what the words of --context name, in their order; `limit` bounds a file or page that is named by itself.

    What `there` names (paths and URLs of --file) is material already and not taken again.

    Raises:
        MissingInput: a word names nothing.
        InputError: a named file is too large or no text.
    """
    found = Found(until=time.monotonic() + PATIENCE)
    found.seen.update(name if name.startswith(_WEB) else os.path.realpath(name) for name in there)
    for word in words:
        if word.startswith(_WEB):
            _page(found, word, fetch, limit)
        elif os.path.isdir(word):  # noqa: PTH112 - paths as the command line has them
            _folder(found, word)
        elif os.path.lexists(word):
            _file(found, word, limit)
        elif any(letter in word for letter in "*?["):
            _glob(found, word)
        else:
            raise MissingInput(f"cannot read {shown(word)}: no such file or folder", hint="see --context")
    return found


def shown(path: str) -> str:
    """Return a path as text that can be shown and sent: no bytes that are not UTF-8, no control characters."""
    text = os.fsencode(path).decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def is_secret(name: str) -> bool:
    """Return whether a file of that name usually holds secrets."""
    low = name.lower()
    return any(fnmatchcase(low, each) for each in SECRETS) and not any(fnmatchcase(low, each) for each in _HARMLESS)


def as_text(data: bytes) -> str | None:
    """Return bytes as text, None if they are none: a NUL byte, or not UTF-8."""
    if b"\0" in data[:_HEAD]:
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


# -- what is named by itself ------------------------------------------------------------------------------------------------------


def _file(found: Found, path: str, limit: int) -> None:
    try:
        with open(path, "rb", opener=_patiently) as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise MissingInput(f"cannot read {shown(path)}: {error.strerror}", hint="see --context") from None
    if len(data) > limit:
        raise InputError(f"{shown(path)} is larger than {limit} bytes", hint="send less, or raise --max-input")
    text = as_text(data)
    if text is None:
        raise InputError(f"{shown(path)} is no text", hint="--context takes text in UTF-8")
    if _is_new(found, path):
        found.pieces.append(Piece(shown(path), text, named=True))


def _patiently(path: str, flags: int) -> int:
    """Open without waiting for a writer, should it be a named pipe."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _page(found: Found, url: str, fetch: Callable[[str, int], bytes], limit: int) -> None:
    if url in found.seen:
        return
    text = as_text(fetch(url, limit))
    if text is None:
        raise InputError(f"{shown(url)[:200]} is no text", hint="--context takes text in UTF-8")
    if text[:1000].lstrip().lower().startswith(("<!doctype html", "<html")):
        from agent_plugins.tools.page import html_text

        text = html_text(text)
    found.seen.add(url)
    found.pieces.append(Piece(shown(url), text, named=True))


def _is_new(found: Found, path: str) -> bool:
    real = os.path.realpath(path)
    if real in found.seen:
        return False
    found.seen.add(real)
    return True


# -- folders and globs ------------------------------------------------------------------------------------------------------------


def _folder(found: Found, word: str) -> None:
    prefix = "" if word in {".", "./"} else word.rstrip("/") + "/"
    before = _count(found)
    _walk(found, os.path.realpath(word), prefix, lambda _path: True)
    if _count(found) == before:
        found.skip(word, "no files in it")


def _glob(found: Found, word: str) -> None:
    base, pattern = _split(word)
    if not os.path.isdir(base or "."):  # noqa: PTH112
        raise MissingInput(f"nothing matches {shown(word)}", hint="see --context")
    before = _count(found)
    _walk(found, os.path.realpath(base or "."), base, ignored.matching(pattern))
    if _count(found) == before:
        raise MissingInput(f"nothing matches {shown(word)}", hint="** goes across folders; see --context")


def _split(word: str) -> tuple[str, str]:
    """Return (the folder before the first wildcard, with its slash, the rest)."""
    first = min(word.find(letter) for letter in "*?[" if letter in word)
    cut = word.rfind("/", 0, first) + 1
    return word[:cut], word[cut:]


def _count(found: Found) -> tuple[int, int]:
    """Return what changes when a walk meets something that was wanted, be it only what is there already."""
    return found.met, len(found.left)


@dataclass(frozen=True, slots=True)
class _Tree:
    """A walk: the root, how its paths are shown, what is wanted (by path beneath the root), where it lies in its working tree."""

    root: str
    prefix: str
    wanted: Callable[[str], bool]
    above: str


def _walk(found: Found, root: str, prefix: str, wanted: Callable[[str], bool]) -> None:
    top = ignored.top_of(root)
    above = os.path.relpath(root, top)
    above = "" if above == "." else above
    tree = _Tree(root, prefix, wanted, above)
    for rest in _files(found, tree, "", ignored.rules_above(top, above), DEEPEST):
        if found.size >= TOTAL_LIMIT:
            found.skip(prefix + rest, "beyond what is read at all")
            return
        _take(found, tree, rest)


def _files(found: Found, tree: _Tree, rest: str, rules: Rules, depth: int) -> Iterator[str]:
    """Yield the files beneath a folder that nothing speaks against by name, in order of their names."""
    try:
        names = beneath.names(tree.root, rest, links=False)
        rules = rules.below(f"{tree.above}/{rest}".strip("/"), _own_rules(tree.root, rest, [entry.name for entry in names]))
    except OSError as error:
        found.skip(tree.prefix + rest, f"cannot be read ({error.strerror})")
        return
    for entry in names:
        path = f"{rest}/{entry.name}".lstrip("/")
        found.entries += 1
        if found.entries > MOST_ENTRIES or time.monotonic() > found.until:
            found.skip(tree.prefix + path, "too many files to look at")
            return
        folder = entry.kind == "folder"
        if rules.leave_out(f"{tree.above}/{path}".lstrip("/"), folder=folder):
            _note(found, tree, path, "in .gitignore")
        elif not folder:
            taken = f"{tree.root}/{path}" in found.seen  # nothing is to be said of what is there already
            if tree.wanted(path) and (taken or _may_be_read(found, tree.prefix + path, entry)):
                yield path
        elif entry.name in SKIPPED_FOLDERS or not depth:
            _note(found, tree, path, "folders of tools" if depth else "too deep")
        else:
            yield from _files(found, tree, path, rules, depth - 1)


def _note(found: Found, tree: _Tree, path: str, reason: str) -> None:
    """Say what is left out, if it was wanted. Version control's own folder is no loss."""
    if tree.wanted(path) and not path.endswith((".git", ".hg", ".svn", ".jj")):
        found.skip(tree.prefix + path, reason)


def _own_rules(root: str, rest: str, names: Sequence[str]) -> bytes | None:
    if ignored.NAME not in names:
        return None
    try:
        return beneath.read(root, f"{rest}/{ignored.NAME}".lstrip("/"), 0, FILE_LIMIT, links=False)
    except OSError:
        return None


def _may_be_read(found: Found, path: str, entry: beneath.Entry) -> bool:
    reason = ""
    if entry.kind == "link":
        reason = "symbolic links"
    elif entry.kind != "file":
        reason = "no regular files"
    elif is_secret(entry.name):
        reason = "usually secret; name one to take it"
    elif entry.size > FILE_LIMIT:
        reason = f"larger than {FILE_LIMIT} bytes; name one to take it"
    if reason:
        found.skip(path, reason)
    return not reason


def _take(found: Found, tree: _Tree, rest: str) -> None:
    path = tree.prefix + rest
    found.met += 1
    if not _is_new(found, f"{tree.root}/{rest}"):
        return
    try:
        data = beneath.read(tree.root, rest, 0, FILE_LIMIT + 1, links=False)
    except OSError as error:
        found.skip(path, f"cannot be read ({error.strerror})")
        return
    found.size += len(data)
    text = as_text(data[:FILE_LIMIT])
    if text is None:
        found.skip(path, "not text in UTF-8")
    elif text.strip():
        # Nobody named this file: what looks like a key in it is cut out.
        found.pieces.append(Piece(shown(path), redact.redact(text)))
