"""redact - keep secrets out of logs, records, errors and output.

Each secret is registered when it is read, together with the forms in which it turns up by accident: JSON, URL, hex, base64 (at
all three offsets) and reversed. A second net catches well-known shapes (sk-…, AKIA…, PEM keys, JSON Web Tokens) that nobody
registered. It cannot catch a secret that is spaced out, compressed or cut in halves: it guards against accidents, it is no wall.

    >>> box = Redactor()
    >>> box.add("correct horse battery")
    >>> box.clean("the key is correct%20horse%20battery, isn't it?")
    "the key is [redacted], isn't it?"
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MARK = "[redacted]"
SHORTEST = 8  # anything shorter is too common a word to cut out of every text

# Every pattern starts at the beginning of a run of its characters and gives nothing back (++), so the search is linear.
_SHAPES = re.compile(
    r"(?<![A-Za-z0-9_-])(?:sk-[A-Za-z0-9_-]{16,}+|(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])|gh[opsur]_[A-Za-z0-9]{20,}+"
    r"|eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]*+)"
    r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:[\s\S]*?-----END [A-Z ]{0,40}PRIVATE KEY-----|[\s\S]*)"
)
_HINTS = ("sk-", "AKIA", "ASIA", "ghp_", "gho_", "ghs_", "ghu_", "ghr_", "eyJ", "-----BEGIN ")
_LONGEST = 16384  # so much of a shape without an end is held back in a stream
_WORD = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."
_OPEN_PEM = re.compile(
    r"-----BEGIN [A-Z ]{0,60}-{0,5}\Z|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?![\s\S]*-----END [A-Z ]{0,40}PRIVATE KEY-----)"
)


class Redactor:
    """Knows secrets and cuts them out of text."""

    __slots__ = ("_forms",)

    def __init__(self) -> None:
        self._forms: tuple[str, ...] = ()

    def add(self, secret: str) -> None:
        """Register a secret and its forms. One that is shorter than eight characters is ignored."""
        secret = secret.strip()
        if len(secret) >= SHORTEST:
            self._forms = tuple(dict.fromkeys((*self._forms, *forms(secret))))

    def clean(self, text: str) -> str:
        """Return the text with every known secret, and everything shaped like one, replaced."""
        spans = [*_found(text, self._forms), *_shaped(text)]
        return _cut(text, _merged(spans)) if spans else text

    def known(self, text: str) -> str:
        """Return the text with the registered secrets replaced and nothing else: for data, where a shape alone proves nothing."""
        spans = [*_found(text, self._forms)]
        return _cut(text, _merged(spans)) if spans else text

    def stream(self, *, shapes: bool = True) -> Stream:
        """Return a cleaner for a text that arrives in pieces."""
        return Stream(lambda: self._forms, shapes=shapes)


class Stream:
    """Cleans a text that arrives in pieces: what may be the beginning of a secret is held back until it is known."""

    __slots__ = ("_before", "_forms", "_held", "_hidden", "_shapes")

    def __init__(self, known: Callable[[], tuple[str, ...]], *, shapes: bool = True) -> None:
        self._forms = known
        self._shapes = shapes
        self._held = ""
        self._before = ""  # the last character given out: a shape begins only where a word begins
        self._hidden = 0  # so many of the held characters belong to a secret whose mark was already given out

    def feed(self, piece: str) -> str:
        """Take a piece and return what is safe to show."""
        text = self._held + piece
        known = self._forms()
        return self._release(text, known, min(_open_form(text, known), _open_shape(text) if self._shapes else len(text)))

    def finish(self) -> str:
        """Return the rest at the end of the text."""
        return self._release(self._held, self._forms(), len(self._held))

    def _shaped(self, text: str) -> Iterator[tuple[int, int]]:
        shift = len(self._before)
        yield from ((start - shift, end - shift) for start, end in _shaped(self._before + text) if start >= shift)

    def _release(self, text: str, known: tuple[str, ...], hold: int) -> str:
        """Give out `text[:hold]` cleaned. A secret that reaches into the held part is marked now and stays hidden later."""
        spans = _merged([(0, self._hidden), *_found(text, known), *(self._shaped(text) if self._shapes else ())])
        out: list[str] = []
        at = hidden = 0
        for start, end in spans:
            if start >= hold:
                break
            out += [text[at:start], "" if start == 0 and self._hidden else MARK if end > start else ""]
            at, hidden = min(end, hold), max(end - hold, 0)
        if self._hidden and hold == 0:
            hidden = self._hidden
        out.append(text[at:hold])
        self._before = text[hold - 1] if hold else self._before
        self._held, self._hidden = text[hold:], hidden
        return "".join(out)


def forms(secret: str) -> Iterator[str]:
    """Yield the secret and the other forms it may take in a text, longest useful first."""
    import base64
    import json
    from urllib.parse import quote, quote_plus

    data = secret.encode("utf-8", "surrogatepass")
    quoted = [quote(data, safe=""), quote(data), quote_plus(data)]
    escaped = [json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)]
    twice = [json.dumps(text)[1:-1] for text in escaped]
    lowered = [re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), text) for text in quoted]
    yield from (secret, *escaped, *twice, *quoted, *lowered, data.hex(), data.hex().upper())
    for offset in range(3):
        # the first and last characters depend on what stands around the secret: leave them out
        encoded = base64.b64encode(bytes(offset) + data)[(0, 2, 3)[offset] :].rstrip(b"=")
        core = encoded[: len(encoded) - ((offset + len(data)) % 3 != 0)].decode()
        yield core
        yield core.replace("+", "-").replace("/", "_")
    yield secret[::-1]


def _found(text: str, known: Iterable[str]) -> Iterator[tuple[int, int]]:
    for form in known:
        at = text.find(form)
        while at >= 0:
            yield at, at + len(form)
            at = text.find(form, at + 1)


def _shaped(text: str) -> Iterator[tuple[int, int]]:
    if any(hint in text for hint in _HINTS):
        yield from (found.span() for found in _SHAPES.finditer(text))


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans in order, those that overlap made one: so no tail of one secret outlives another."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _cut(text: str, spans: Iterable[tuple[int, int]]) -> str:
    out, at = [], 0
    for start, end in spans:
        out += [text[at:start], MARK]
        at = end
    return "".join([*out, text[at:]])


def _open_form(text: str, known: Iterable[str]) -> int:
    """Return where the earliest possible beginning of a known form starts at the end of the text; its length if none."""
    hold = len(text)
    for form in known:
        at = text.find(form[0], max(0, len(text) - len(form) + 1))
        while 0 <= at < hold:
            if form.startswith(text[at:]):
                hold = at
            at = text.find(form[0], at + 1)
    return hold


def _open_shape(text: str) -> int:
    """Return where a shape that may still grow starts at the end of the text; its length if none."""
    pem = text.rfind("-----BEGIN ")
    if pem >= 0 and len(text) - pem < _LONGEST and _OPEN_PEM.match(text, pem):
        return pem
    word = text[len(text.rstrip(_WORD)) :]
    opens = len(word) < _LONGEST and any(hint in word or hint.startswith(word) for hint in _HINTS)
    return len(text) - len(word) if opens else len(text)


_known = Redactor()


def register(secret: str) -> None:
    """Register a secret for the whole process."""
    _known.add(secret)


def redact(text: str) -> str:
    """Return the text without the secrets of this process."""
    return _known.clean(text)


def known(text: str) -> str:
    """Return the text without the registered secrets; what merely looks like one stays (see `Redactor.known`)."""
    return _known.known(text)


def redact_stream(*, shapes: bool = True) -> Stream:
    """Return a cleaner for a text that arrives in pieces; it knows secrets that are registered later, too."""
    return _known.stream(shapes=shapes)
