"""single_mind - drive a pattern over a model that answers by what it is asked; kill it at every outcome; replay it.

    ran = survives(lambda: react(task), answer, tools)      # answer(ask) -> text, JSON data, [ToolCall, …] or an exception

The model answers by the request alone, so a resumed run gets the very answers that an undisturbed one gets.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace

import pytest

from agent_core import drive
from agent_core.errors import DivergedError
from agent_core.events import OUTCOMES
from agent_core.interpreter import interpret
from agent_core.messages import ToolResult, assistant, user
from agent_core.provider import Provider, Reply
from agent_core.run import Run
from agent_core.task import Task
from agent_core.tool import ToolError, Toolset, tool


@tool
def double(number: int) -> int:
    """Double a number."""
    return number * 2


@tool
def broken(text: str) -> str:
    """Fail."""
    raise ToolError(f"cannot {text}")


TOOLS = Toolset((double, broken))


def task(words="go", **fields):
    """Return a task with two tools."""
    return Task(user(words), fields.pop("tools", TOOLS), fields.pop("system", "be brief"), **fields)


def said(words, *calls):
    """Return a reply, as a model would give it; data becomes JSON."""
    return Reply(assistant(words if isinstance(words, str) else json.dumps(words), tuple(calls)))


def kinds(played):
    """Return the names of the effects of a played pattern; a pattern within is `generator`."""
    return [type(effect).__name__ for effect in played.effects]


def request(ask):
    """Return everything that a model sees of a request, as one text."""
    results = [part.text for message in ask.messages for part in message.parts if isinstance(part, ToolResult)]
    return "\n".join([*(message.text for message in ask.messages), *results])


@dataclass
class Ran:
    """What a run came to."""

    value: object
    asked: list
    events: list

    @property
    def outcomes(self):
        """The journalled outcomes in the order in which they came."""
        return [event for event in self.events if event.kind in OUTCOMES]

    def notes(self, kind):
        """Return the data of the notes of a kind."""
        return [event.data for event in self.events if event.kind == kind]


def run(pattern, answer, tools=TOOLS, **rest):
    """Drive a pattern to its end."""
    asked, events = [], []

    def reply(ask):
        asked.append(ask)
        made = answer(ask)
        if isinstance(made, Exception):
            raise made
        return said("", *made) if isinstance(made, list) else made if isinstance(made, Reply) else said(made)

    provider = Provider("list", "list-1", answer=reply)
    made = Run(
        "r1", (provider,), tools, lambda *_: None, lambda *_: None, clock=time.monotonic, now=time.time,
        resolve=lambda name, model: (replace(provider, model=model),), **rest,
    )  # fmt: skip
    return Ran(drive.run(interpret(pattern, made), events.append), asked, events)


def survives(make, answer, tools=TOOLS, **rest):
    """Run a pattern; then kill and resume it after every outcome, and replay it. Return the undisturbed run."""
    whole = run(make(), answer, tools, **rest)
    for kept in range(len(whole.outcomes) + 1):
        recorded = {event.path: event for event in whole.outcomes[:kept]}
        again = run(make(), answer, tools, recorded=recorded, **rest)
        known = sum(event.kind == "model.replied" for event in whole.outcomes[:kept])
        assert again.value == whole.value, f"killed after outcome {kept}"
        assert len(again.asked) == len(whole.asked) - known, f"asked twice after outcome {kept}"
        assert not {event.path for event in again.outcomes} & recorded.keys()
    replayed = run(make(), _nobody, tools, recorded={event.path: event for event in whole.outcomes}, live=False, **rest)
    assert (replayed.value, replayed.asked) == (whole.value, [])
    if whole.outcomes:
        with pytest.raises(DivergedError):
            run(make(), _nobody, tools, recorded={}, live=False, **rest)
    return whole


def _nobody(_ask):
    raise AssertionError("a replay asks nobody")
