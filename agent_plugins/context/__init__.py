"""context - files, folders, globs and URLs as material, by --context; AGENTS.md and SKILL.md as guidance, by --instructions.

    code-reviewer src/app.py --context docs/ --context 'src/**/*.py'
    assistant "how is it deployed?" --context . --context-tokens 8000

Material is data, marked with its origin, and untrusted like any file. What does not fit is left out by likeness to the question,
and said on stderr. Guidance is followed because the person asked for it; the run counts as having read something untrusted all the
same, since nobody pinned what the file says. Parts: `gather` (find text), `ignored` (.gitignore), `rank` (choose what fits) and
`guidance`. docs/context.md is the manual.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent_core import messages, task
from agent_core.plugins import hookimpl

from . import gather, guidance, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agent_core.agent import Job
    from agent_core.messages import Message

    from .gather import Left
    from .rank import Choice

_NAMES = 4
_SMALLEST = 200


@hookimpl  # type: ignore[untyped-decorator, unused-ignore] # pluggy's marker has no types
def agent_prepare(job: Job, settings: Any, store: Any) -> Job | None:
    """Return the job with the material that --context names and the guidance that --instructions asks for."""
    say: Callable[[str], None] = store.notices.append if store is not None else lambda _text: None
    room: int = settings.extra.get("context_tokens") or 32_000
    files = _guidance(settings, say)
    room -= rank.tokens_of(guidance.told(files)) if files else 0
    choice = _material(job, settings, max(room, _SMALLEST), say)
    if not files and not choice.materials:
        return None
    sources = [{"ref": origin, "trust": "untrusted"} for origin, _ in (*files, *choice.materials)]
    return replace(job, message=_message(job.message, files, choice.materials), provenance=(*job.provenance, *sources))


def _guidance(settings: Any, say: Callable[[str], None]) -> list[tuple[str, str]]:
    if not settings.extra.get("instructions"):
        return []
    files, problems = guidance.guidance(settings.workspace)
    for problem in problems:
        say(f"instructions: {problem}")
    if not files and not problems:
        say(f"instructions: there is no {' or '.join(guidance.FILES)} here")
    return files


def _material(job: Job, settings: Any, room: int, say: Callable[[str], None]) -> Choice:
    words: Sequence[str] = settings.extra.get("context") or ()
    deadline = None if settings.timeout is None else time.monotonic() + settings.timeout
    instruction, before = task.split(job.message.text)
    there = [origin for origin, _ in before if origin != "stdin"]
    found = gather.gather(words, lambda url, limit: _fetched(url, limit, deadline), settings.max_input, there)
    # A conversation holds what an earlier turn was given; only what is new or has changed is given again.
    known = {pair for message in job.history if message.role == "user" for pair in task.split(message.text)[1]}
    pieces = [piece for piece in found.pieces if (piece.origin, piece.text) not in known]
    choice = rank.choose(instruction, pieces, room)
    for line in report(choice, len(pieces), found.left, room):
        say(line)
    return choice


def _fetched(url: str, limit: int, deadline: float | None) -> bytes:
    """Fetch a page by the very way of `--file URL`."""
    from agent_core.asking import fetched as fetch

    return fetch(url, limit, deadline)


def _message(said: Message, files: list[tuple[str, str]], materials: Iterable[tuple[str, str]]) -> Message:
    """Return the user's message: the instruction, the guidance, the material that was there, the context; images stay."""
    instruction, before = task.split(said.text)
    words = "\n\n".join(part for part in (instruction, guidance.told(files) if files else "") if part)
    text = task.compose(words, [*before, *materials])
    return messages.user(text, *(part for part in said.parts if not isinstance(part, messages.Text)))


def report(choice: Choice, count: int, left: Sequence[Left], room: int) -> list[str]:
    """Return the lines that say what was left out and why; none if nothing was."""
    lines = []
    if choice.left or choice.partly:
        whole = count - len(choice.left) - len(choice.partly)
        lines.append(f"context: {whole} of {count} texts are whole, about {choice.tokens} of {room} tokens (--context-tokens)")
    if choice.partly:
        lines.append(f"context: only in part: {_some(choice.partly)}")
    if choice.left:
        lines.append(f"context: left out, least like the question: {_some(choice.left)}")
    reasons = dict.fromkeys(each.reason for each in left)
    return [
        *lines,
        *(f"context: left out, {why}: {_some([each.origin for each in left if each.reason == why])}" for why in reasons),
    ]


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _NAMES
    return ", ".join(names[:_NAMES]) + (f" and {rest} more" if rest > 0 else "")
