"""The engine: effects to outcomes, journal, guards, tool calls, limits. No network: providers answer from a list."""

import asyncio
import contextlib
import time

import pytest

from agent_core import drive, guards
from agent_core.effects import Act, All, Ask, Call, Note
from agent_core.errors import (
    BudgetLimit,
    ContractError,
    DeadlineError,
    DivergedError,
    QuorumLimit,
    RepeatLimit,
    ServerError,
    StepLimit,
    TransportError,
)
from agent_core.events import OUTCOMES
from agent_core.interpreter import interpret
from agent_core.messages import ToolCall, ToolResult, assistant, user
from agent_core.ops import Sleep
from agent_core.provider import Capabilities, Provider, Reply, Usage
from agent_core.run import Run
from agent_core.task import Task
from agent_core.tool import ToolError, Toolset, tool
from agent_patterns.react import react


@tool
def double(number: int) -> int:
    """Double a number."""
    return number * 2


@tool
def slow(seconds: float) -> str:
    """Wait."""
    time.sleep(seconds)
    return "slept"


@tool
def broken(text: str) -> str:
    """Fail."""
    raise ToolError(f"cannot {text}", kind="transient")


@tool
async def later(text: str) -> str:
    """Answer later."""
    await asyncio.sleep(0)
    return text


TOOLS = Toolset((double, slow, broken, later))


def call(name, call_id="c1", /, **arguments):
    return ToolCall(call_id, name, arguments)


def model(*replies):
    """Return a provider that gives these replies in turn, and the list of what it was asked."""
    asked = []
    left = list(replies)

    def answer(ask):
        asked.append(ask)
        reply = left.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return (
            reply
            if isinstance(reply, Reply)
            else Reply(assistant(reply) if isinstance(reply, str) else assistant("", tuple(reply)))
        )

    return Provider("list", "list-1", answer=answer), asked


class Recorder:
    def __init__(self):
        self.events = []

    def __call__(self, event):
        self.events.append(event)

    def kinds(self):
        return [event.kind for event in self.events]

    def recorded(self):
        return {event.path: event for event in self.events if event.kind in OUTCOMES}


def run_with(provider, *, tools=TOOLS, **rest):
    providers = provider if isinstance(provider, tuple) else (provider,)
    return Run(
        "r1",
        providers,
        tools,
        lambda tool, arguments, seen, consent: None,
        lambda deadline, grants: None,
        clock=time.monotonic,
        now=time.time,
        **rest,
    )


def go(pattern, run):
    recorder = Recorder()
    value = drive.run(interpret(pattern, run), recorder)
    return value, recorder


def ask_react(*replies, steps=10, **rest):
    provider, asked = model(*replies)
    value, recorder = go(react(Task(user("go"), TOOLS, "be brief", max_steps=steps)), run_with(provider, **rest))
    return value, recorder, asked


def test_a_tool_is_called_and_its_result_reaches_the_model_with_the_calls_id():
    value, recorder, asked = ask_react([call("double", "c7", number=21)], "42")

    assert value == "42"
    assert asked[1].messages[-1].parts == (ToolResult("c7", "double", "42", None, 42),)
    assert recorder.kinds() == ["model.replied", "tool.started", "tool.finished", "model.replied"]


def test_the_users_message_is_in_the_first_request_exactly_once():
    _, _, asked = ask_react("fine")

    assert [message.role for message in asked[0].messages] == ["system", "user"]


def test_calls_of_one_reply_run_in_parallel_and_results_keep_their_order():
    began = time.monotonic()
    _, _, asked = ask_react([call("slow", "a", seconds=1.0), call("slow", "b", seconds=0.9), call("double", "c", number=1)], "done")

    assert time.monotonic() - began < 1.7
    assert [part.call_id for part in asked[1].messages[-1].parts] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("wanted", "kind", "words"),
    [
        (call("doubel", number=1), "not_found", "double"),
        (call("double", number="many"), "invalid", "number"),
        (call("broken", text="open"), "transient", "cannot open"),
        (ToolCall("c1", "double", {}, "the arguments are no JSON", "{"), "invalid", "no JSON"),
    ],
)
def test_a_failed_call_is_told_to_the_model_with_its_kind(wanted, kind, words):
    value, _, asked = ask_react([wanted], "I see")

    result = asked[1].messages[-1].parts[0]
    assert (value, result.error) == ("I see", kind)
    assert words in result.text


def test_an_async_tool_works_in_the_sync_trampoline():
    _, _, asked = ask_react([call("later", text="x")], "ok")

    assert asked[1].messages[-1].parts[0].text == "x"


def test_the_same_call_is_reported_the_third_time_and_stops_the_run_the_fifth():
    same = [call("double", number=1)]
    provider, asked = model(*[same] * 9)

    with pytest.raises(RepeatLimit):
        go(react(Task(user("go"), TOOLS)), run_with(provider))

    assert asked[3].messages[-1].parts[0].error == "invalid"
    assert len(asked) == 5


def test_a_model_that_never_stops_is_stopped_after_max_steps():
    with pytest.raises(StepLimit):
        ask_react(*[[call("double", number=n)] for n in range(9)], steps=4)


def test_a_tool_that_takes_too_long_is_stopped_and_the_run_goes_on():
    began = time.monotonic()
    value, _, asked = ask_react([call("slow", seconds=5)], "went on", tool_timeout=0.2)

    assert time.monotonic() - began < 2
    assert (value, asked[1].messages[-1].parts[0].error) == ("went on", "transient")


def test_the_runs_deadline_stops_a_tool_and_the_run():
    provider, _ = model([call("slow", seconds=5)], "never")
    run = run_with(provider, deadline=time.monotonic() + 0.2)

    with pytest.raises(DeadlineError):
        go(react(Task(user("go"), TOOLS)), run)


def test_a_resumed_run_is_fed_what_was_recorded_and_asks_only_for_the_rest():
    _, recorder, _ = ask_react([call("double", number=21)], "42")
    kept = {path: event for path, event in recorder.recorded().items() if path != "2"}
    provider, asked = model("42 again")

    value, again = go(react(Task(user("go"), TOOLS, "be brief")), run_with(provider, recorded=kept))

    assert (value, len(asked)) == ("42 again", 1)
    assert "tool.finished" not in again.kinds()


def test_a_replay_needs_no_provider_and_gives_the_same_answer():
    _, recorder, _ = ask_react([call("double", number=21)], "42")

    value, again = go(react(Task(user("go"), TOOLS, "be brief")), run_with((), recorded=recorder.recorded(), live=False))

    assert value == "42"
    assert again.kinds() == []


def test_a_replay_of_a_changed_request_stops_instead_of_guessing():
    _, recorder, _ = ask_react("42")

    with pytest.raises(DivergedError, match="step 0"):
        go(react(Task(user("go differently"), TOOLS)), run_with((), recorded=recorder.recorded(), live=False))


def test_a_call_with_effects_that_began_and_never_ended_is_reported_as_unknown_and_not_run_again():
    ran = []

    @tool
    def send(text: str) -> str:
        """Send."""
        ran.append(text)
        return "sent"

    send_tools = Toolset((send,))
    provider, asked = model([call("send", text="x")], "checked")
    value, _ = go(react(Task(user("go"), send_tools)), run_with(provider, tools=send_tools, started=frozenset({"1.0"})))

    assert (value, ran) == ("checked", [])
    assert "unknown" in asked[1].messages[-1].parts[0].text


def test_a_retryable_failure_is_retried_and_heals():
    provider, asked = model(ServerError("500", retryable=True), "well")
    retries = guards.Retries(2, jitter=lambda: 0.0)

    value, recorder = go(react(Task(user("go"), TOOLS)), run_with(provider, guards=(retries,)))

    assert (value, len(asked)) == ("well", 2)
    assert recorder.kinds() == ["model.failed", "model.replied"]


def test_a_route_asks_the_next_provider_only_after_a_retryable_failure():
    first, _ = model(TransportError("down"))
    second, _ = model("from the second")

    value, recorder = go(react(Task(user("go"), TOOLS)), run_with((first, second)))

    assert value == "from the second"
    assert "notice" in recorder.kinds()


def test_a_route_stops_at_a_failure_that_another_provider_would_share():
    first, _ = model(ContractError("no"))
    second, asked = model("unused")

    with pytest.raises(ContractError):
        go(react(Task(user("go"), TOOLS)), run_with((first, second)))
    assert asked == []


def test_all_returns_outcomes_in_order():
    provider, _ = model("a", "b", "c")

    def pattern():
        return (yield All([Ask([user(text)]) for text in "xyz"]))

    value, _ = go(pattern(), run_with(provider))

    assert sorted(reply.text for reply in value) == ["a", "b", "c"]


def sleeper(seconds, value, log):
    """A pattern that calls an async tool to wait."""
    result = yield Act([call("nap", seconds=seconds, value=value)])
    log.append(value)
    return result[0].parts[0].text


def nap_tools():
    @tool
    async def nap(seconds: float, value: str) -> str:
        """Sleep."""
        await asyncio.sleep(seconds)
        return value

    return Toolset((nap,))


def test_all_with_enough_stops_at_the_quorum_and_cancels_the_rest():
    log = []

    def pattern():
        return (yield All([sleeper(0.01, "a", log), sleeper(5, "b", log), sleeper(0.02, "c", log)], enough=2))

    began = time.monotonic()
    value, recorder = go(pattern(), run_with((), tools=nap_tools()))

    assert time.monotonic() - began < 2
    assert (value, log) == (["a", None, "c"], ["a", "c"])

    replayed, _ = go(pattern(), run_with((), tools=nap_tools(), recorded=recorder.recorded(), live=False))
    assert replayed == ["a", None, "c"]


def test_all_with_too_few_answers_is_a_quorum_limit():
    def failing():
        yield Note("trying")
        raise ContractError("no")

    def pattern():
        return (yield All([failing(), failing(), failing()], enough=0.5))

    with pytest.raises(QuorumLimit):
        go(pattern(), run_with(()))


def test_all_without_enough_raises_the_first_error_and_cancels_the_others():
    log = []

    def failing():
        yield Note("trying")
        raise ContractError("no")

    def pattern():
        return (yield All([sleeper(5, "a", log), failing()]))

    began = time.monotonic()
    with pytest.raises(ContractError):
        go(pattern(), run_with((), tools=nap_tools()))
    assert time.monotonic() - began < 2
    assert log == []


class Carrier:
    """An agent that answers after a while, or fails."""

    def __init__(self, name, seconds, error=None):
        self.name, self.seconds, self.error = name, seconds, error

    def program(self, message, run, prefix):
        yield Sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return message


@pytest.mark.parametrize(
    ("first", "enough", "cause"),
    [
        (None, 1, "enough"), (ContractError("no"), None, "failed_dependency"), (BudgetLimit("spent"), None, "budget"),
        (DeadlineError("late"), None, "timeout"),
    ],
)  # fmt: skip
def test_a_called_agent_that_is_stopped_is_told_of_with_the_reason(first, enough, cause):
    def within(carrier):
        return (yield Call(carrier, "hello"))

    def pattern():
        yield All([Call(Carrier("quick", 0.01, first), "hi"), within(Carrier("slow", 30))], enough=enough)

    recorder = Recorder()
    with contextlib.suppress(ContractError, BudgetLimit, DeadlineError):
        drive.run(interpret(pattern(), run_with(())), recorder)
    stopped = [event for event in recorder.events if event.kind == "call.failed" and event.data["agent"] == "slow"]

    assert [(event.path, event.data["error"]["code"], event.data["error"]["cause"]) for event in stopped] == [
        ("0.1.0", "cancelled", cause)
    ]


def test_all_with_a_limit_never_runs_more_than_that_at_a_time():
    running, most = [], []

    @tool
    async def busy(value: str) -> str:
        """Work."""
        running.append(value)
        most.append(len(running))
        await asyncio.sleep(0.01)
        running.remove(value)
        return value

    def one(value):
        result = yield Act([call("busy", value=value)])
        return result[0].parts[0].text

    def pattern():
        return (yield All([one(str(n)) for n in range(10)], limit=3))

    value, _ = go(pattern(), run_with((), tools=Toolset((busy,))))

    assert value == [str(n) for n in range(10)]
    assert max(most) == 3


@pytest.mark.parametrize(
    "said",
    [
        ['Thought: easy\nAction: double {"number": 21}\nObservation: 41\nAction: FINAL_ANSWER 41', "Action: FINAL_ANSWER 42"],
        ["Thought: easy\nAction: double[21]\nObservation: 41\nAction: Finish[41]", "Action: Finish[42]"],
    ],
)
def test_the_text_protocol_gives_what_the_native_one_gives(said):
    provider, asked = model(*said)
    provider = Provider(provider.name, provider.model, answer=provider.answer, capabilities=Capabilities(tools=False))

    value, recorder = go(react(Task(user("Double 21."), TOOLS)), run_with(provider))

    assert value == "42"
    assert "Observation: 42" in asked[1].messages[-1].text
    assert asked[0].stop
    assert recorder.kinds() == ["model.replied", "tool.started", "tool.finished", "model.replied"]


def test_three_unreadable_replies_in_a_row_end_the_run():
    provider, asked = model(*["no action here"] * 5)

    with pytest.raises(ContractError, match="three times"):
        go(react(Task(user("go"), TOOLS)), run_with(provider, protocol="text"))
    assert len(asked) == 3


def test_usage_and_unknown_prices_are_summed_honestly():
    provider, _ = model(Reply(assistant("x"), usage=Usage(10, 5)))
    run = run_with(provider)
    go(react(Task(user("go"), TOOLS)), run)

    assert (run.totals.input_tokens, run.totals.output_tokens, run.totals.calls) == (10, 5, 1)


def test_guards_stand_in_the_one_order():
    chosen = [guards.Retries(), guards.Deadline(1.0), guards.Budget(1)]

    assert [guard.place for guard in guards.chain(chosen)] == ["deadline", "budget", "retry"]
