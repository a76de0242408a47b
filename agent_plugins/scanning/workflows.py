"""workflows - where the scripts are in a workflow file: the values of `run:`, and of `script:` for github-script.

The file is read by its indentation, not as YAML: a file that does not parse is looked at as well, and places stay exact.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEY = re.compile(r"^([ ]{0,200}(?:- {1,8})?)(?:run|script|code)[ ]{0,4}:[ ]{0,8}([^\n]{0,20000})", re.MULTILINE)


def scripts(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each script in the text."""
    at = 0
    while (found := _KEY.search(text, at)) is not None:
        end = (
            _end(text, found.end(), len(found[1]))
            if re.match(r"[|>][0-9+-]{0,3}\s*(?:#.*)?$", found[2]) or not found[2].strip()
            else found.end()
        )
        yield found.start(2), end
        at = max(end, found.end())


def _end(text: str, at: int, indent: int) -> int:
    """Return where a block ends: before the first line that is not indented deeper than its key."""
    while 0 <= at < len(text):
        line_start = at + 1
        line_end = text.find("\n", line_start)
        line_end = len(text) if line_end < 0 else line_end
        line = text[line_start:line_end]
        if line.strip() and len(line) - len(line.lstrip(" ")) <= indent:
            return at
        at = line_end
    return len(text)
