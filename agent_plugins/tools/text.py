"""text - small tools on a text; all pure.

uppercase("abc")        ABC
wordcount("a b c")      3
reverse("abc")          cba
"""

from __future__ import annotations

from agent_core.tool import tool

_pure = tool(read_only=True, idempotent=True)


@_pure
def echo(text: str) -> str:
    """Return a text as it is: a first tool to try things out with."""
    return text


@_pure
def uppercase(text: str) -> str:
    """Make a text uppercase (capital letters)."""
    return text.upper()


@_pure
def lowercase(text: str) -> str:
    """Make a text lowercase (small letters)."""
    return text.lower()


@_pure
def titlecase(text: str) -> str:
    """Capitalise each word of a text, as in a title."""
    import re

    return re.sub(r"\w[\w'\u2019]*", lambda word: word.group()[0].upper() + word.group()[1:].lower(), text)


@_pure
def reverse(text: str) -> str:
    """Reverse a text, last character first; a line end at the very end stays there."""
    body = text.removesuffix("\n")
    return body[::-1] + text[len(body) :]


@_pure
def reverse_lines(text: str) -> str:
    """Reverse the order of the lines of a text."""
    return _lines(text, text.splitlines()[::-1])


@_pure
def wordcount(text: str) -> int:
    """Count the words of a text."""
    return len(text.split())


@_pure
def linecount(text: str) -> int:
    """Count the lines of a text."""
    return len(text.splitlines())


@_pure
def charcount(text: str) -> int:
    """Count the characters of a text, line ends included."""
    return len(text)


@_pure
def replace(text: str, old: str, new: str) -> str:
    """Replace every occurrence of one piece of text by another.

    Args:
        text: where to replace.
        old: what to look for, literally.
        new: what to put there.
    """
    return text.replace(old, new) if old else text


@_pure
def sort_lines(text: str) -> str:
    """Sort the lines of a text alphabetically."""
    return _lines(text, sorted(text.splitlines()))


@_pure
def unique_lines(text: str) -> str:
    """Remove repeated lines of a text; the first of each stays where it is."""
    return _lines(text, list(dict.fromkeys(text.splitlines())))


@_pure
def number_lines(text: str) -> str:
    """Number the lines of a text."""
    return _lines(text, [f"{number:>4}  {line}" for number, line in enumerate(text.splitlines(), 1)])


@_pure
def trim(text: str) -> str:
    """Trim a text: strip blanks at line ends, and blank lines at its beginning and end."""
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


@_pure
def squeeze(text: str) -> str:
    """Squeeze runs of blanks and blank lines of a text into one."""
    import re

    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+", " ", text))


def _lines(text: str, lines: list[str]) -> str:
    return "\n".join(lines) + ("\n" if text.endswith("\n") else "")
