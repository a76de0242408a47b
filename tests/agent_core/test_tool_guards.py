"""Guards around tools: who is retried, what a refusal looks like to the model."""

from __future__ import annotations

import pytest

from agent_core import Agent, ToolError, drive, guards, tool
from agent_core.agent import Job, execute
from agent_core.effects import Act
from agent_core.errors import Failed
from agent_core.messages import ToolCall, user


def run(function, *more, retry=2):
    """Run one call of a tool with the general guards and `more`."""
    from agent_core import config, running

    def pattern(_task):
        answers = yield Act([ToolCall("c", function.name, {})])
        return answers[0].parts[0].text

    agent = Agent("x - y", tools=[function], pattern=pattern)
    with running.session(agent, Job(user("")), config.load({"retry": retry}), providers=(), store=None) as session:
        session.run.guards = guards.chain([*session.run.guards, *more])
        session.settle(lambda: drive.run(session.program(), session.tell))
    return session.result.output


def failing(times, **flags):
    calls = []

    @tool(**flags)
    def shaky() -> str:
        """Fail at first."""
        calls.append(1)
        if len(calls) <= times:
            raise ToolError("not now", "transient")
        return f"after {len(calls)}"

    return shaky


@pytest.mark.parametrize(("flags", "said"), [({"idempotent": True}, "after 2"), ({}, "not now"), ({"read_only": True}, "not now")])
def test_only_a_tool_that_is_marked_idempotent_is_called_again(flags, said):
    assert run(failing(1, **flags)) == said


def test_a_permanent_failure_is_not_tried_again():
    calls = []

    @tool(idempotent=True)
    def broken() -> str:
        """Fail."""
        calls.append(1)
        raise ToolError("never")

    assert run(broken) == "never"
    assert len(calls) == 1


class Closed:
    """A guard that refuses every tool."""

    place = "breaker"

    def before(self, call, _attempt, _now):
        return guards.Refuse(Failed(f"{call.name} is resting", hint="try later")) if call.kind == "tool" else guards.PROCEED

    def after(self, _call, _outcome, _attempt, _now):
        return guards.ACCEPT


def test_a_refused_tool_call_is_told_to_the_model_and_not_made():
    assert run(failing(0), Closed()) == "shaky is resting (try later)"


def test_a_job_without_guards_still_runs():
    def pattern(_task):
        yield from ()
        return "done"

    from agent_core import config

    assert execute(Agent("x - y", pattern=pattern), Job(user("")), config.load({}), providers=(), store=None).output == "done"
