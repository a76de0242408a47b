"""handoff - who is active, what is kept, what is refused."""

import json

import pytest
from single_mind import TOOLS, kinds, request, run, said, survives, task

from agent_core.effects import Call, Note
from agent_core.errors import InputError, StepLimit, UsageError
from agent_core.members import Member
from agent_core.messages import Message, ToolCall, ToolResult
from agent_core.play import play
from agent_patterns.desks import Desk, Roster, load
from agent_patterns.handoff import handoff

ROSTER = Roster(
    {
        "triage": Desk("You sort.", "sorts", tools=[]),
        "billing": Desk("You bill.", "bills", tools=["double"], model="big"),
        "law": Desk(description="knows the law", call="law-agent"),
    }
)
DESK = """\
start = "triage"

[agent.triage]
system = "You sort."
tools = []

[agent.billing]
description = "bills"
system = "You bill."
tools = ["calc"]

[agent.law]
call = "law-agent"
"""


def transfer(agent, call_id="t"):
    return ToolCall(call_id, "transfer", {"agent": agent})


def consult(agent, question="may I?", call_id="q"):
    return ToolCall(call_id, "consult", {"agent": agent, "question": question})


def names(ask):
    return [each.name for each in ask.tools]


def test_a_transfer_replaces_words_tools_and_model_and_keeps_the_conversation():
    played = play(handoff(task("I paid twice"), ROSTER), [said("", transfer("billing")), None, said("You get it back.")])

    first, told, second = played.effects
    assert (first.messages[0].text, names(first), first.model) == ("You sort.", ["transfer", "consult"], "")
    assert (second.messages[0].text, names(second), second.model) == ("You bill.", ["double", "transfer", "consult"], "big")
    assert [message.role for message in second.messages] == ["system", "user", "assistant", "tool"]
    assert second.messages[1:2] == first.messages[1:2]
    assert told == Note("handoff", {"agent": "billing", "refused": False})
    assert played.value.value == {"agent": "billing", "transfers": ["billing"], "consulted": []}


def test_consulting_asks_another_and_comes_back():
    played = play(handoff(task("hm"), ROSTER), [said("", consult("law", "may I?")), "you may", said("Yes.")])

    assert played.effects[1] == Call("law-agent", "may I?")
    assert played.effects[2].messages[-1].parts == (ToolResult("q", "consult", "you may"),)
    assert (played.text, played.value.value["agent"], played.value.value["consulted"]) == ("Yes.", "triage", ["law"])


def test_the_consulted_agent_sees_the_question_alone_with_its_own_words_and_tools():
    def answer(ask):
        if ask.messages[0].text == "You bill.":
            return f"asked: {ask.messages[1].text}; tools: {names(ask)}"
        return [consult("billing", "how much?")] if len(ask.messages) == 2 else "fine"

    ran = survives(lambda: handoff(task("secret request"), ROSTER), answer)

    assert "asked: how much?; tools: ['double']" in request(ran.asked[-1])
    assert (ran.value.text, len(ran.asked)) == ("fine", 3)


def test_a_killed_conversation_goes_on_with_whoever_was_active():
    def answer(ask):
        if ask.messages[0].text == "You sort.":
            return [transfer("billing")]
        return [ToolCall("d", "double", {"number": 21})] if ask.messages[-1].parts[0].name == "transfer" else "42"

    ran = survives(lambda: handoff(task("twice 21"), ROSTER), answer)

    assert (ran.value.text, ran.value.value["agent"], len(ran.asked)) == ("42", "billing", 3)


def test_results_come_in_the_order_of_the_calls_whatever_kind_they_are():
    roster = Roster({"a": Desk("You are a."), "b": Desk("You are b.", call="b-agent"), "c": Desk("You are c.")})
    plain = ToolCall("p", "double", {"number": 1})
    calls = (transfer("c", "1"), plain, consult("b", call_id="3"), transfer("c", "4"), ToolCall("5", "nope", {}))
    acted = [Message("tool", (ToolResult("p", "double", "2"),))]

    played = play(handoff(task(), roster), [said("", *calls), acted, "yes", None, None, said("done")])

    results = played.effects[-1].messages[-1].parts
    assert kinds(played) == ["Ask", "Act", "Call", "Note", "Note", "Ask"]
    assert [part.call_id for part in results] == ["1", "p", "3", "4", "5"]
    assert [part.error for part in results] == [None, None, None, "invalid", "not_found"]


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (transfer("triage"), "not_found", "no agent 'triage'"), (transfer("biling"), "not_found", "did you mean billing?"), (transfer("law"), "not_found", "no agent 'law'"),
        (ToolCall("t", "transfer", {}), "not_found", "no agent ''"), (ToolCall("t", "transfer", {"agent": ["billing"]}), "not_found", "no agent"),
        (consult("triage"), "not_found", "no agent"), (consult("law", " "), "invalid", "needs a question"), (ToolCall("q", "consult", {"agent": "law"}), "invalid", "needs a question"),
        (ToolCall("t", "transfer", {}, "the arguments are no JSON", "{"), "invalid", "no JSON"), (ToolCall("d", "double", {"number": 2}), "not_found", "triage has no tool named 'double'"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_told_to_the_model_and_changes_nothing(call, kind, words):
    replies = iter([[call], "I answer myself"])

    ran = run(handoff(task(), ROSTER), lambda _ask: next(replies))

    result = ran.asked[1].messages[-1].parts[0]
    assert (result.error, ran.value.value["agent"]) == (kind, "triage")
    assert words in result.text
    assert not [event for event in ran.events if event.kind.startswith("tool.")]


def test_ping_pong_ends_at_the_limit_and_the_active_agent_answers():
    roster = Roster({"a": Desk("You are a."), "b": Desk("You are b.")})

    def answer(ask):
        if "no more" in request(ask):
            return "enough"
        return [transfer("b" if ask.messages[0].text == "You are a." else "a")]

    ran = survives(lambda: handoff(task(options={"max_transfers": 3}), roster), answer)

    assert (ran.value.text, ran.value.value["transfers"]) == ("enough", ["b", "a", "b"])
    assert len(ran.asked) == 5


def test_a_model_that_only_hands_over_ends_at_the_limit_of_steps():
    roster = Roster({"a": Desk("You are a."), "b": Desk("You are b.")})

    with pytest.raises(StepLimit):
        run(handoff(task(max_steps=4), roster), lambda ask: [transfer("b" if ask.messages[0].text == "You are a." else "a")])


def test_a_member_in_code_keeps_its_own_tools_when_it_is_consulted():
    roster = Roster({"a": Desk("You are a.", tools=[]), "b": Desk(call=Member("b", "You are b.", TOOLS))})

    def answer(ask):
        if ask.messages[0].text == "You are b.":
            return [ToolCall("d", "double", {"number": 21})] if len(ask.messages) == 2 else request(ask).splitlines()[-1]
        return [consult("b")] if len(ask.messages) == 2 else "said"

    ran = survives(lambda: handoff(task(), roster), answer)

    assert ran.asked[-1].messages[-1].parts[0].text == "42"
    assert len(ran.asked) == 4


def test_a_tool_that_the_agent_does_not_have_is_an_error_before_anything_is_asked():
    with pytest.raises(UsageError, match="a: no tool 'doubel'"):
        run(handoff(task(), Roster({"a": Desk(tools=["doubel"])})), lambda _ask: "never")


def test_an_agent_alone_has_nobody_to_hand_over_to():
    ran = run(handoff(task(), Roster({"a": Desk("You are a.")})), lambda _ask: "hi")

    assert names(ran.asked[0]) == ["double", "broken"]


def test_without_a_roster_the_pattern_says_what_is_missing():
    with pytest.raises(UsageError, match="needs agents"):
        run(handoff(task()), lambda _ask: "x")


@pytest.mark.parametrize(
    ("change", "line", "said_"),
    [
        (('start = "triage"', 'start = "law"'), 1, "can be active (there are triage, billing)"), (("tools = []", "tols = []"), 5, "no known key"),
        (('tools = ["calc"]', 'tools = "calc"'), 10, "valid array"), (('call = "law-agent"', "call = 3"), 13, "a name is expected"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_roster_is_told_with_its_line(tmp_path, change, line, said_):
    path = tmp_path / "d.toml"
    path.write_text(DESK.replace(*change, 1))

    with pytest.raises(InputError) as caught:
        load(str(path))

    assert f"{path}:{line}: " in str(caught.value)
    assert said_ in str(caught.value)


def test_over_the_wire_a_transfer_and_a_tool_are_three_requests(run_agent, start_fake_api, tmp_path):
    api = start_fake_api("--per", "server")
    api.script(
        {"tool_calls": [{"name": "transfer", "arguments": {"agent": "billing"}}]},
        {"tool_calls": [{"name": "calc", "arguments": {"expression": "2 * 9.5"}}]},
        "You get 19 back.",
    )
    (tmp_path / "d.toml").write_text(DESK)

    done = run_agent(
        "assistant",
        "I paid 9.50 twice",
        "--pattern",
        "handoff",
        "--roster",
        "d.toml",
        "--provider",
        "openai",
        "--model",
        "m",
        "--json",
        env=api.env(),
    )
    again = run_agent("assistant", "--replay", "last", "--json")

    data = json.loads(done.stdout)["data"]
    assert (done.returncode, data["output"], data["usage"]["calls"]) == (0, "You get 19 back.", 3)
    assert data["structuredContent"]["agent"] == "billing"
    assert [sent["body"]["messages"][0]["content"] for sent in api.requests()] == ["You sort.", "You bill.", "You bill."]
    assert again.stdout == done.stdout
