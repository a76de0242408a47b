"""page - the visible text of an HTML page.

    html_text("<p>One <b>two</b><script>x</script>")     One two

Any input is read in linear time: a page is fed in pieces, and a construct that does not end within a piece is dropped.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

MAX_HTML = 512 * 1024
_PIECE = 16_384
_DEPTH = 50
_HIDDEN = frozenset({
    "script", "style", "noscript", "template", "svg", "head", "iframe", "object", "canvas", "title",
})  # fmt: skip
_BLOCKS = frozenset({
    "p", "div", "br", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "table", "section", "article", "header", "footer",
    "pre", "blockquote", "hr", "main", "nav", "dt", "dd", "form", "body",
})  # fmt: skip


def html_text(page: str) -> str:
    """Return the visible text: title first, one block a line."""
    reader = _Reader()
    for start in range(0, min(len(page), MAX_HTML), _PIECE):
        _fed(reader, page[start : start + _PIECE])
    try:
        reader.close()
    except AssertionError:
        reader.rawdata = ""
    lines = [line.strip() for line in "".join(["".join(reader.title), "\n", *reader.pieces]).splitlines()]
    return "\n".join(line for line in lines if line)


def _fed(reader: _Reader, piece: str) -> None:
    try:
        reader.feed(piece)
    except AssertionError:  # the parser's answer to a declaration it does not know
        reader.rawdata = ""
    if len(reader.rawdata) > _PIECE:
        reader.rawdata = ""


class _Reader(HTMLParser):
    """Keeps what a person would see."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self.title: list[str] = []
        self.hidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser's interface
        """Begin a hidden part or a line."""
        if tag == "body":
            self.hidden.clear()  # a head that was never closed
        if tag in _HIDDEN and len(self.hidden) < _DEPTH:
            self.hidden.append(tag)
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        """End a hidden part or a line."""
        if tag in self.hidden:
            del self.hidden[len(self.hidden) - 1 - self.hidden[::-1].index(tag) :]
        self._break(tag)

    def handle_data(self, data: str) -> None:
        """Keep visible text and the title."""
        if self.hidden[-1:] == ["title"]:
            self.title.append(data)
        elif not self.hidden:
            self.pieces.append(re.sub(r"\s+", " ", data))

    def _break(self, tag: str) -> None:
        if tag in _BLOCKS:
            self.pieces.append("\n")
