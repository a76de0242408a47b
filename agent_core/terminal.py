r"""terminal - what reaches a terminal, and how bytes leave the process.

Text from a model, a tool, a file or a peer may hold escape sequences. Before it reaches a *terminal* it is cleaned: SGR (colour)
is dropped, every other control, bidirectional or invisible character is made visible. Pipes and files get the bytes untouched.

    >>> clean("a\x1b[31mred\x1b[0m b\x1b]0;title\x07")
    'ared b␛]0;title␇'
"""

from __future__ import annotations

import os
import re
import signal
import sys
from typing import TYPE_CHECKING

from agent_core.errors import Failed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

# Only a complete, bounded SGR sequence is dropped: nothing here can swallow text or take quadratic time.
_SGR = re.compile(r"\x1b\[[0-9;:]{0,64}m")
_INVISIBLE = (
    *range(0x80, 0xA0), 0xAD, 0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), *range(0x200B, 0x2010),
    *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0x3164, *range(0xFFF9, 0xFFFC), 0xFEFF, 0xFFA0, *range(0x1D173, 0x1D17B),
)  # fmt: skip
_cut: dict[int, bytes] = {}  # by descriptor
_HIGH = re.compile("[\ud800-\udfff\U000e0000-\U000e0fff\ufff0-\ufff8]")


def _table() -> dict[int, str]:
    shown = {code: chr(0x2400 + code) for code in range(0x20)}
    shown[0x7F] = "\u2421"
    shown.update({code: f"<U+{code:04X}>" for code in _INVISIBLE})
    # These two join letters and emoji in ordinary text; hidden elsewhere they only look odd.
    del shown[0x200C], shown[0x200D], shown[0x09]
    return shown


_TABLE = _table()
_KEEP = {code: shown for code, shown in _TABLE.items() if code != 0x0A}


def clean(text: str, keep_newlines: bool = True) -> str:
    """Return the text as it may be shown on a terminal; linear in its length. CR LF becomes LF."""
    if "\x1b" in text:
        text = _SGR.sub("", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    shown = text.translate(_KEEP if keep_newlines else _TABLE)
    return shown if shown.isascii() else _HIGH.sub(_code, shown)


def _code(match: re.Match[str]) -> str:
    code = ord(match[0])
    # A surrogate here stands for a byte that was not UTF-8.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"<U+{code:04X}>"


def clean_json(line: bytes) -> bytes:
    r"""Return JSON as it may be shown on a terminal: still the same JSON, with \u escapes for all that `clean` makes visible.

    >>> clean_json('["a\x9b31m\u202e"]'.encode())
    b'["a\\u009b31m\\u202e"]'
    """
    text = line.decode("utf-8", "replace")
    if clean(text) == text:
        return line
    import json

    return "".join(each if each == "\n" or clean(each) == each else json.dumps(each)[1:-1] for each in text).encode()


def encode(text: str) -> bytes:
    """Return UTF-8; bytes that came in undecodable go out as they were, other lone surrogates as U+FFFD."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text).encode("utf-8", "surrogateescape")


def is_terminal(fd: int) -> bool:
    """Return whether a descriptor is open on a terminal."""
    try:
        return os.isatty(fd)
    except OSError:
        return False


def decorated(fd: int, color: str, env: Mapping[str, str]) -> bool:
    """Return whether colour and the like may be used on a stream: NO_COLOR, FORCE_COLOR, TERM=dumb and `--color` are heeded."""
    if color != "auto":
        return color == "always"
    if env.get("NO_COLOR") or env.get("COLUMNS") == "0":  # where nothing has a place, nothing would be seen
        return False
    if env.get("FORCE_COLOR"):
        return True
    return is_terminal(fd) and env.get("TERM", "dumb") != "dumb"


def reserve_streams() -> frozenset[int]:
    """Return which of 0, 1, 2 were closed at the start, and occupy them: a later file must not become somebody's stdout."""
    closed = set()
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            closed.add(fd)
            os.open(os.devnull, os.O_RDWR)
    return frozenset(closed)


def write(fd: int, data: bytes) -> None:
    """Write all of it. On a broken stdout die as SIGPIPE kills; Failed (status 1) if it cannot be written.

    What a signal cuts off is written before the next piece: a record stays whole, and the one that ends the stream stands alone.
    """
    view = memoryview(_cut.pop(fd, b"") + data)
    done: list[int] = []
    try:
        _write(fd, view, done)
    except BaseException:
        _cut[fd] = bytes(view[sum(done) :])
        raise


def _write(fd: int, view: memoryview, done: list[int]) -> None:
    """Write a view, and note how many bytes are out."""
    while rest := view[sum(done) :]:
        try:
            # One call of C: a signal's exception comes before the write or after its count was noted, never between.
            done.extend(map(os.write, (fd,), (rest[: 1 << 20],)))
        except BlockingIOError:
            _wait_writable(fd)
        except BrokenPipeError:
            die_by(signal.SIGPIPE)
        except OSError as error:
            raise Failed(
                f"cannot write to {'stdout' if fd == 1 else 'stderr'}: {error.strerror}", hint="is the disk full?"
            ) from None


def _wait_writable(fd: int) -> None:
    # A pipe that someone set non-blocking (node does): wait instead of losing output.
    import select

    select.select([], [fd], [], 1.0)


def complain(text: str) -> None:
    """Write to stderr; cleaned if it is a terminal. Never fails: there is nobody left to tell."""
    try:
        os.write(2, encode(clean(text) if is_terminal(2) else text))
    except OSError:
        return


def die_by(number: int) -> NoReturn:
    """End the process the way the signal would have."""
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def arguments() -> list[str]:
    """Return the process's arguments as UTF-8 text, whatever the locale."""
    if sys.getfilesystemencoding().lower().replace("-", "") == "utf8":
        return sys.argv[1:]
    return [os.fsencode(word).decode("utf-8", "surrogateescape") for word in sys.argv[1:]]
