"""reflexion - an actor answers, a critic judges against criteria, the actor revises; what was learnt is kept for the next round.

Good for texts and code that are easier to judge than to write. Cost: two calls if the critic is content, three with one objection.

    $ assistant "Write a proof" --pattern reflexion --critic-model big --rounds 2

The actor is a react loop with the agent's own tools; the critic is one call (`--critic-model`), or another agent (`--critic`).
The critic sees the request and the answer as data. Each draft is a conversation of its own. After the last round a revision is
not judged any more: `passed` is then null.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent_core.checked import first_object
from agent_core.effects import Ask, Call, Note
from agent_core.messages import assistant, system, user
from agent_core.options import Option
from agent_core.task import DATA_RULE, Answer, compose
from agent_patterns.react import react
from agent_patterns.tables import read as read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent_core.effects import Pattern
    from agent_core.task import Task

CRITERIA = "accuracy (nothing false or unproven), completeness (all of the request), clarity and tone (fit for its reader)"
CRITIC = """You are a strict critic. Judge the answer to the request against these criteria:
{criteria}
Answer with one JSON object: pass (true only if nothing has to change), problems (a list of texts: what is wrong and where),
lesson (one sentence to remember when revising; empty if it passes). Do not rewrite the answer."""
REVISE = "Revise your answer: mend every problem below, keep what was good. Give the complete revised answer and nothing else."

_TEXTS = {"type": "array", "items": {"type": "string"}}
SCHEMA: dict[str, Any] = {
    "title": "critique", "type": "object", "required": ["pass", "problems", "lesson"], "additionalProperties": False,
    "properties": {"pass": {"type": "boolean"}, "problems": _TEXTS, "lesson": {"type": "string"}},
}  # fmt: skip
_PASS = re.compile(r"(?:verdict:?)?(pass|passed|approved|accept|accepted|lgtm)", re.IGNORECASE)


def criteria(text: str) -> str:
    """Return criteria given as text, or as `@FILE`."""
    return read_file(text[1:]).lstrip("@") if text.startswith("@") else text


OPTIONS = (
    Option("rounds", "reflexion: critiques at most (default 1)", "int", low=1, high=20),
    Option("critic-model", "reflexion: the critic's model", "text", metavar="NAME"),
    Option("critic-provider", "reflexion: the critic's provider", "text", metavar="NAME"),
    Option("critic", "reflexion: an agent as critic", "text", metavar="AGENT"),
    Option("criteria", "reflexion: what to judge by", "text", parse=criteria, metavar="TEXT|@FILE"),
)


@dataclass(frozen=True, slots=True)
class Critique:
    """What a critic said."""

    passed: bool
    problems: tuple[str, ...] = ()
    lesson: str = ""

    def data(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {"passed": self.passed, "problems": list(self.problems), "lesson": self.lesson}


def reflexion(task: Task, actor: Callable[[Task], Pattern] = react, critic: Any = None) -> Pattern:
    """Return the last answer; the value is {passed, critiques, lessons}. `actor` is any pattern, `critic` whatever `Call` takes."""
    rounds = int(task.option("rounds", 1))
    answer = _text((yield actor(task)))
    critiques: list[Critique] = []
    while len(critiques) < rounds:
        critique = yield from criticised(task, answer, critic or task.option("critic"))
        critiques.append(critique)
        yield Note("critique", critique.data())
        if critique.passed:
            break
        answer = _text((yield actor(_revision(task, answer, critiques)))) or answer
    lessons = [each.lesson for each in critiques if each.lesson]
    passed = True if critiques[-1].passed else None
    return Answer(answer, {"passed": passed, "critiques": [each.data() for each in critiques], "lessons": lessons})


def criticised(task: Task, answer: str, critic: Any = None) -> Pattern:
    """Return the critique of an answer: one call of a model, or of another agent."""
    head = CRITIC.format(criteria=task.option("criteria", CRITERIA))
    materials = [("request", task.text), ("answer", answer)]
    if critic:
        return read_critique((yield Call(critic, compose(head, materials))))
    messages = [system(f"{head}\n\n{DATA_RULE}"), user(compose("Judge the answer.", materials))]
    model, provider = task.option("critic_model", ""), task.option("critic_provider", "")
    reply = yield Ask(messages, schema=SCHEMA, model=model, provider=provider)
    return read_critique(reply.text)


def read_critique(text: str) -> Critique:
    """Return what a critic said, as JSON or in words. Only a plain "pass" passes: everything else is an objection."""
    found = first_object(text)
    if isinstance(found, dict) and isinstance(found.get("pass"), bool):
        listed = found.get("problems")
        problems = (
            tuple(each.strip() for each in listed if isinstance(each, str) and each.strip()) if isinstance(listed, list) else ()
        )
        lesson = found.get("lesson")
        passed = found["pass"] and not problems
        said = problems or (() if passed else ("the critic is not content and does not say why",))
        return Critique(passed, said, lesson.strip() if isinstance(lesson, str) else "")
    words = text.strip()
    if _PASS.fullmatch("".join(words[:80].split()).strip("*_.!`\"'")) and len(words) <= 80:
        return Critique(passed=True)
    return Critique(passed=False, problems=(words or "the critic said nothing",))


def _revision(task: Task, answer: str, critiques: Sequence[Critique]) -> Task:
    """Return the task of mending an answer: the conversation so far, the problems, and the lessons of all rounds."""
    problems = "\n".join(f"- {each}" for each in critiques[-1].problems)
    lessons = "\n".join(f"- {each.lesson}" for each in critiques if each.lesson)
    materials = [("critic: problems", problems), *([("critic: lessons so far", lessons)] if lessons else [])]
    said = (*task.history, task.message, assistant(answer))
    return replace(task, message=user(compose(REVISE, materials)), history=said)


def _text(answer: Any) -> str:
    return str(getattr(answer, "text", answer))
