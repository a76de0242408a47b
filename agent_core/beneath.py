"""beneath - open, write and list files strictly beneath a folder, whatever anybody does to the path meanwhile.

Resolve-then-open loses a race against a symbolic link that is swapped in between, so the kernel resolves and opens in one step:
`openat2` with RESOLVE_BENEATH on Linux, elsewhere (or where that call is not allowed) component by component with O_NOFOLLOW.
Roots are absolute and already resolved; they are opened without following any link.

`rest` is a normalised relative path without `..` ("" is the root itself, which may be a single file).
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import Any

NO_LINKS = 0x04  # RESOLVE_NO_SYMLINKS
BENEATH = 0x08 | 0x02  # RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
_OPENAT2 = 437  # the same number on every architecture
_AT_FDCWD = -100
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_TRIES = 64

_kernel: dict[str, Any] = {}


class EscapeError(PermissionError):
    """The path leads outside the root, or through a link that may not be followed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder: its kind (file, folder, link, other) and its size in bytes."""

    name: str
    kind: str
    size: int


def open_at(root: str, rest: str, flags: int, *, links: bool = True, kernel: bool = True) -> int:
    """Return a descriptor for `rest` beneath `root`; with `links`, links that stay beneath the root are followed.

    Raises:
        EscapeError: the path leads outside, or meets a link that may not be followed.
        OSError: anything else that open(2) says.
    """
    if not rest:
        root, rest = _split(root)
        links = False
    top = _resolve(_AT_FDCWD, root, _PASS, NO_LINKS, kernel=kernel)
    try:
        return _resolve(top, rest, flags | os.O_CLOEXEC, BENEATH if links else BENEATH | NO_LINKS, kernel=kernel)
    finally:
        os.close(top)


def plain(path: str, flags: int) -> int:
    """Return a descriptor for an absolute path that leads through no link at all; errors as `open_at`."""
    return _resolve(_AT_FDCWD, path, flags | os.O_CLOEXEC, NO_LINKS)


def read(root: str, rest: str, offset: int, limit: int, *, links: bool = True) -> bytes:
    """Return at most `limit` bytes of the regular file `rest` from `offset` on."""
    handle = open_at(root, rest, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, links=links)
    with os.fdopen(handle, "rb", buffering=0) as file:
        kind = os.fstat(handle).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        if not stat.S_ISREG(kind):
            raise OSError(errno.EINVAL, "is not a regular file")
        file.seek(offset)
        return _read_up_to(file, limit)


def write(root: str, rest: str, data: bytes) -> None:
    """Replace the file `rest` by `data` in one step: temporary file, fsync, rename, fsync of the folder. No link is followed."""
    folder, name = _parent(root, rest)
    try:
        mode = _writable(folder, name)
        temporary = f".{name[:100]}.{os.urandom(6).hex()}.tmp"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                if mode is not None:
                    os.fchmod(handle, mode)
                file.write(data)
                file.flush()
                os.fsync(handle)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            _discard(temporary, folder)
            raise
        os.fsync(folder)
    finally:
        os.close(folder)


def names(root: str, rest: str, *, links: bool = True) -> list[Entry]:
    """Return what is in the folder `rest`, sorted by name."""
    handle = open_at(root, rest, _FOLDER, links=links)
    try:
        with os.scandir(handle) as found:
            return sorted((_entry(item) for item in found), key=lambda entry: entry.name)
    finally:
        os.close(handle)


def _split(path: str) -> tuple[str, str]:
    """Return the folder and the name of an absolute path; ("/", ".") for the top."""
    folder, _, name = path.rstrip("/").rpartition("/")
    return folder or "/", name or "."


def _read_up_to(file: Any, limit: int) -> bytes:
    pieces = []
    while limit > 0 and (piece := file.read(min(limit, 1 << 20))):
        pieces.append(piece)
        limit -= len(piece)
    return b"".join(pieces)


def _entry(item: os.DirEntry[str]) -> Entry:
    if item.is_symlink():
        return Entry(item.name, "link", 0)
    if item.is_dir(follow_symlinks=False):
        return Entry(item.name, "folder", 0)
    try:
        found = item.stat(follow_symlinks=False)
    except OSError:  # gone meanwhile
        return Entry(item.name, "other", 0)
    return Entry(item.name, "file" if stat.S_ISREG(found.st_mode) else "other", found.st_size)


def _writable(folder: int, name: str) -> int | None:
    """Return the mode of an existing regular file, None when there is none; refuse anything else."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(found.st_mode):
        raise EscapeError(errno.ELOOP, "is a symbolic link")
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "is not a regular file")
    return stat.S_IMODE(found.st_mode) & 0o777


def _discard(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        return


def _parent(root: str, rest: str) -> tuple[int, str]:
    """Return the folder to write in, made where missing, and the file's name. The root's own parent must exist."""
    above, name = _split(root)
    steps = [name, *(rest.split("/") if rest else [])]
    folder = _resolve(_AT_FDCWD, above, _FOLDER, NO_LINKS)
    try:
        for step in filter(None, steps[:-1]):
            deeper = _step(folder, step)
            os.close(folder)
            folder = deeper
    except BaseException:
        os.close(folder)
        raise
    return folder, steps[-1]


def _step(folder: int, name: str) -> int:
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError:
        os.mkdir(name, dir_fd=folder)
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        raise _translated(error, folder, name) from None


def _resolve(folder: int, path: str, flags: int, how: int, *, kernel: bool = True) -> int:
    """Open in one kernel call where possible, else walk."""
    if "\0" in path:
        raise OSError(errno.EINVAL, "a path has no NUL byte")
    if kernel and _kernel.get("works", True):
        for _ in range(_TRIES):
            handle, code = _openat2(folder, path, flags, how)
            if handle >= 0:
                return handle
            if code in {errno.EAGAIN, errno.EINTR}:  # something was renamed at that very moment
                continue
            if code not in {errno.ENOSYS, errno.EPERM, errno.E2BIG}:
                raise _error(code)
            _kernel["works"] = code == errno.EPERM and _kernel.get("works", False)
            break
        else:
            raise EscapeError(errno.EAGAIN, "keeps changing while it is opened")
    return _walk(folder, path, flags)


def _walk(folder: int, path: str, flags: int) -> int:
    """Open component by component; no link is followed at all."""
    steps = [step for step in path.split("/") if step not in {"", "."}] or ["."]
    here = os.open("/" if path.startswith("/") else ".", _PASS, dir_fd=None if folder == _AT_FDCWD else folder)
    try:
        for step in steps[:-1]:
            deeper = _one(here, step, _PASS)
            os.close(here)
            here = deeper
        return _one(here, steps[-1], flags)
    finally:
        os.close(here)


def _one(folder: int, name: str, flags: int) -> int:
    if name == "..":
        raise EscapeError(errno.EXDEV, "leads outside")
    try:
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        raise _translated(error, folder, name) from None


def _translated(error: OSError, folder: int, name: str) -> OSError:
    """O_DIRECTORY|O_NOFOLLOW says ENOTDIR for a link: tell the two apart."""
    if error.errno == errno.ENOTDIR:
        try:
            if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                return _error(errno.ELOOP)
        except OSError:
            return error
    return _error(error.errno or errno.EIO)


def _error(code: int) -> OSError:
    if code in {errno.EXDEV, errno.ELOOP}:
        return EscapeError(code, "leads outside, or through a symbolic link")
    return OSError(code, os.strerror(code).lower())


def _openat2(folder: int, path: str, flags: int, how: int) -> tuple[int, int]:
    """Return (descriptor, 0) or (-1, errno)."""
    import ctypes
    import struct

    call = _kernel.get("call")
    if call is None:
        import sys

        call = ctypes.CDLL(None, use_errno=True).syscall if sys.platform == "linux" else _absent
        _kernel["call"] = call
    block = ctypes.create_string_buffer(struct.pack("QQQ", flags, 0, how), 24)
    handle = call(ctypes.c_long(_OPENAT2), ctypes.c_int(folder), ctypes.c_char_p(os.fsencode(path)), block, ctypes.c_size_t(24))
    if handle >= 0:
        _kernel["works"] = True
        return int(handle), 0
    return -1, ctypes.get_errno() if call is not _absent else errno.ENOSYS


def _absent(*_: object) -> int:
    return -1
