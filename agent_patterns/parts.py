"""parts - a task in parts: as a model's JSON names them, or cut at words. Pure.

    lexical("list a and b, then sum up")      # three parts; the last needs the others

`breadth` cuts at commas, semicolons and "and" into independent parts; `depth` cuts at "then" and "next" into stages, each of which
needs the one before. Text in double quotes, backquotes and brackets is never cut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent_core.checked import first_object

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST = 64
_QUOTED = re.compile(r"\"[^\"\n]{0,1000}\"|“[^”\n]{0,1000}”|`[^`\n]{0,1000}`|\([^()\n]{0,1000}\)")
_STAGES = re.compile(r"\s*[,;.]?\s*\b(?:and\s+)?(?:then|next|after that|afterwards)\b\s*,?\s*", re.IGNORECASE)
_LISTED = re.compile(r"\s*(?:[;,]\s*(?:and\s+)?|\s+and\s+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a task; `needs` are ids of earlier parts."""

    id: str
    task: str
    needs: tuple[str, ...] = ()


def read_parts(text: str, most: int = MOST) -> list[Part]:
    """Return the parts that a model's JSON names; none if it is not readable. A part can only need earlier ones: no cycles.

    >>> read_parts('{"parts": [{"id": "a", "task": "look", "needs": ["b"]}, {"id": "b", "task": "write", "needs": ["a", "z"]}]}')
    [Part(id='a', task='look', needs=()), Part(id='b', task='write', needs=('a',))]
    """
    found = first_object(text)
    rows = found.get("parts", found.get("subtasks")) if isinstance(found, dict) else found
    parts: list[Part] = []
    for number, given in enumerate(rows[:most] if isinstance(rows, list) else [], 1):
        row = given if isinstance(given, dict) else {"task": given}
        words, wanted = row.get("task"), row.get("needs")
        if not isinstance(words, str) or not words.strip():
            return []
        known = {part.id for part in parts}
        name = str(row.get("id") or number)[:40]
        listed = [str(each)[:40] for each in wanted] if isinstance(wanted, list) else []
        needs = tuple(dict.fromkeys(each for each in listed if each in known))
        parts.append(Part(name if name not in known else f"{name}#{number}", words.strip(), needs))
    return parts


def lexical(text: str, kind: str = "lexical", most: int = MOST) -> tuple[list[Part], str]:
    """Return the parts of a sentence and how they were cut (`lexical`: depth if the words ask for an order, else breadth).

    Text in double quotes, backquotes and brackets is never cut.

        >>> [part.task for part in lexical("read a, b and c")[0]]
        ['read a', 'b', 'c']
        >>> [(part.id, part.task, part.needs) for part in lexical("list a and b, then sum up")[0]]
        [('1.1', 'list a', ()), ('1.2', 'b', ()), ('2.1', 'sum up', ('1.1', '1.2'))]
    """
    quoted: list[str] = []

    def hide(found: re.Match[str]) -> str:
        quoted.append(found[0])
        return f"\x00{len(quoted) - 1}\x01"

    masked = " ".join(_QUOTED.sub(hide, text.replace("\x00", "").replace("\x01", "")).split())
    stages = [stage for stage in _STAGES.split(masked) if stage.strip(" .,;")] or [masked]
    if kind == "breadth" or (kind == "lexical" and len(stages) == 1):
        return [Part(str(number), words) for number, words in enumerate(_pieces(masked, quoted)[:most], 1)], "breadth"
    parts: list[Part] = []
    before: tuple[str, ...] = ()
    for number, stage in enumerate(stages, 1):
        made = [Part(f"{number}.{each}", words, before) for each, words in enumerate(_pieces(stage, quoted), 1)]
        parts += made
        before = tuple(part.id for part in made)
    return parts[:most], "depth"


def _pieces(text: str, quoted: Sequence[str]) -> list[str]:
    pieces = [piece.strip(" .,;\n\t") for piece in _LISTED.split(text)]
    shown = [re.sub("\x00(\\d+)\x01", lambda found: quoted[int(found[1])], piece) for piece in pieces if piece]
    return shown or [text.strip() or "the task"]
