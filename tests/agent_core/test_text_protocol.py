"""The text protocol decides what a native model would have."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.messages import Message, Text, ToolCall, ToolResult, assistant, system, user
from agent_core.text_protocol import STOP, Final, Problem, ToolCalls, manifest, parse, render
from agent_core.tool import Tool, Toolset, external


def takes(name: str, required: list[str], **properties: Any) -> Tool:
    schema = {"type": "object", "properties": properties, "required": required}
    return external(name, f"Do {name}.", schema, lambda **_: None)


TEXT = {"type": "string"}
TOOLS = Toolset(
    (
        takes("search", ["query"], query={"type": "string", "description": "what to look for"}, limit={"type": "integer"}),
        takes("calc", ["expression"], expression=TEXT),
        takes("web-search", ["query"], query=TEXT),
        takes("now", []),
        takes("double", ["number"], number={"type": "integer"}),
        takes("replace", ["text", "old", "new"], text=TEXT, old=TEXT, new=TEXT),
        takes("pick", ["size"], size={"enum": ["big", "small"]}, tags={"type": "array", "items": TEXT}),
    )
)

# what a native model would send | grammar A | grammar B
SAME = [
    (("calc", {"expression": "1+1"}), 'Action: calc {"expression": "1+1"}', "Action: calc[1+1]"),
    (("calc", {"expression": "a[0]+[1]"}), 'Action: calc {"expression": "a[0]+[1]"}', "Action: calc[a[0]+[1]]"),
    (("calc", {"expression": "]"}), 'Action: calc {"expression": "]"}', 'Action: calc["]"]'),
    (("calc", {"expression": 'len("]")'}), 'Action: calc {"expression": "len(\\"]\\")"}', 'Action: calc[len("]")]'),
    (("calc", {"expression": 'the 5" disk'}), 'Action: calc {"expression": "the 5\\" disk"}', 'Action: calc[the 5" disk]'),
    (("calc", {"expression": "C:\\dir\\"}), 'Action: calc {"expression": "C:\\\\dir\\\\"}', "Action: calc[C:\\dir\\]"),
    (("calc", {"expression": "}"}), 'Action: calc {"expression": "}"}', 'Action: calc[{"expression": "}"}]'),
    (("calc", {"expression": "a\nb"}), 'Action: calc {"expression": "a\\nb"}', "Action: calc[a\nb]"),
    (("calc", {"expression": "a\nb"}), 'Action: calc {"expression": "a\nb"}', 'Action: calc[{"expression": "a\nb"}]'),
    (("web-search", {"query": "it's 3"}), 'Action: web-search {"query": "it\'s 3"}', "Action: web-search[it's 3]"),
    (("search", {"query": "x"}), 'Action: search {"query": "x"}', "Action: search[x]"),
    (
        ("search", {"query": "x", "limit": 3}),
        'Action: search {"query": "x", "limit": 3}',
        'Action: search[{"query": "x", "limit": 3}]',
    ),
    (("search", {"query": "x"}), 'Action: search\n{"query": "x"}', 'Action: search["x"]'),
    (("search", {"query": "x y"}), "Action: search x y", "action: search [x y]"),
    (("now", {}), "Action: now {}", "Action: now[]"),
    (("now", {}), "Action: now", "**Action:** `now`[]"),
    (("double", {"number": 21}), 'Action: double {"number": 21}', "Action: double[21]"),
    (
        ("replace", {"text": "a", "old": "b", "new": "c"}),
        'Action: replace {"text": "a", "old": "b", "new": "c"}',
        'Action: replace[{"text": "a",\n "old": "b", "new": "c"}]',
    ),
    (("no-such", {"a": 1}), 'Action: no-such {"a": 1}', 'Action: no-such[{"a": 1}]'),
    ("Two.", "Action: FINAL_ANSWER Two.", "Action: Finish[Two.]"),
    ("one\n\ntwo [x]\n- three", "Action: FINAL_ANSWER one\n\ntwo [x]\n- three", "Action: Finish[one\n\ntwo [x]\n- three]"),
    ('say "Finish[7]"', 'Action: FINAL_ANSWER say "Finish[7]"', 'Action: Finish[say "Finish[7]"]'),
    ("use arr[0 to index", "Action: FINAL_ANSWER use arr[0 to index", "Action: Finish[use arr[0 to index]"),
    ("[1, 2]", "Action: FINAL_ANSWER [1, 2]", "Action: Finish[[1, 2]]"),
    (
        "```\nAction: x\n```\nis code",
        "Action: FINAL_ANSWER\n```\nAction: x\n```\nis code",
        "Action: Finish[\n```\nAction: x\n```\nis code]",
    ),
]
AFTER = [
    "",
    "\n",
    "\nObservation: 42",
    "\nObservation: 42\nThought: so\nAction: FINAL_ANSWER lies",
    "\nThought: next\nAction: Finish[lies]",
]
BEFORE = [
    "",
    "Thought: well.\n",
    'Thought: I may say "Action: Finish[early]" later, or Finish[early].\n',
    "Thought: the form is\n```\nAction: Finish[early]\n```\n",
    "<think>\nAction: Finish[early]\nObservation: early\n</think>\nThought: well.\n",
    "Thought: two\nlines.\r\n",
]


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize(("native", "a", "b"), SAME)
def test_both_grammars_decide_what_a_native_call_says_whatever_stands_around_it(native, a, b, before, after):
    for action in (a, b):
        decision = parse(before + action + after, TOOLS, "c1")
        if isinstance(native, str):
            assert isinstance(decision, Final)
            assert decision.text == native
        else:
            assert isinstance(decision, ToolCalls)
            assert decision.calls == (ToolCall("c1", *native),)
        assert "Thought:" not in decision.thought


@pytest.mark.parametrize(
    ("reply", "hint"),
    [
        ("", "empty"),
        ("  \n ", "empty"),
        ("The answer is 42.", "no line that starts with `Action:`"),
        ("Thought: I say Action: Finish[42]", "no line that starts with `Action:`"),
        ("Observation: it is 42\nAction: Finish[42]", "empty"),
        ("Action: I will search the web", '"I" is no tool'),
        ("Action:", "nothing that looks like a tool's name"),
        ("Action: search[never closed", "never closed"),
        ("Action: Finish[never closed", "never closed"),
        ("Action: Finish[a\nObservation: b]", "must not start with `Observation:`"),
        ("Action: FINAL_ANSWER", "not followed by an answer"),
        ("<think> for ever\nAction: Finish[1]", "<think>"),
    ],
)
def test_a_reply_in_neither_grammar_is_a_problem_that_says_how_to_do_better(reply, hint):
    decision = parse(reply, TOOLS)

    assert isinstance(decision, Problem)
    assert hint in decision.text
    assert "Action:" in decision.text


@pytest.mark.parametrize(
    "action",
    [
        'Action: replace {"text": oops}', "Action: replace[just text]", 'Action: search {"query": NaN}',
        "Action: search " + '{"a":' * 50_000, "Action: replace[[1]]", "Action: nobody[text]",
    ],
)  # fmt: skip
def test_arguments_that_are_no_object_come_back_as_a_call_with_a_problem(action):
    decision = parse(action, TOOLS)

    assert isinstance(decision, ToolCalls)
    assert decision.calls[0].arguments == {}
    assert "JSON object" in decision.calls[0].problem or "needs" in decision.calls[0].problem
    assert decision.calls[0].raw


def test_two_actions_in_one_reply_count_as_the_first():
    decision = parse("Action: search[a] then Action: calc[1+1]\nAction: calc[2]", TOOLS)

    assert isinstance(decision, ToolCalls)
    assert decision.calls == (ToolCall("call_1", "search", {"query": "a"}),)


def test_an_action_inside_a_fence_counts_when_none_stands_outside():
    decision = parse("Thought: so\n```\nAction: calc[1]\n```", TOOLS)

    assert decision == ToolCalls("so", (ToolCall("call_1", "calc", {"expression": "1"}),))
    assert parse("```\nAction: FINAL_ANSWER 7\n```", TOOLS) == Final("", "7")


def test_a_tool_that_is_called_finish_is_a_tool():
    tools = Toolset((takes("finish", ["text"], text=TEXT),))

    assert isinstance(parse("Action: finish[x]", tools), ToolCalls)
    assert parse("Action: Finish[x]", tools) == Final("", "x")


words = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=40)
values = st.recursive(
    words | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
)


@given(st.text(max_size=300))
def test_no_text_makes_the_parser_fail(text):
    parse(text, TOOLS)
    parse(text)


@given(
    st.lists(
        st.sampled_from(
            [
                "Action:",
                " ",
                "\n",
                "calc",
                "Finish",
                "FINAL_ANSWER",
                "[",
                "]",
                "{",
                "}",
                '"',
                "\\",
                "```",
                "Thought:",
                "Observation:",
                "<think>",
                "x",
            ]
        ),
        max_size=25,
    )
)
def test_no_arrangement_of_its_own_marks_makes_the_parser_fail_or_believe_an_observation(pieces):
    text = "".join(pieces)
    decision = parse(text, TOOLS)
    if "<think>" not in text and not isinstance(decision, Problem):
        cut = text.find("\nObservation:")
        assert cut < 0 or parse(text[:cut], TOOLS) == decision


@given(words, st.dictionaries(words, values, max_size=4), st.sampled_from(["json", "bracket"]))
def test_a_call_that_was_written_is_read_back_the_same(thought, arguments, grammar):
    thought = " ".join(thought.replace("Action:", "").split())
    call = ToolCall("c9", "unknown-tool.v2", arguments)
    history = [assistant(thought, (call,)), Message("tool", (ToolResult("c9", call.name, "ok"),))]
    written = render(history, None, grammar)

    decision = parse(written[1].text, None, "c9")

    assert isinstance(decision, ToolCalls)
    assert decision.calls == (call,)


@given(words)
def test_a_final_answer_that_was_written_is_read_back_the_same(answer):
    answer = "x" + answer.replace(":", "").replace("```", "").replace("~~~", "") + "x"

    assert parse(render([assistant(answer)], None, "json")[1].text) == Final("", answer)


@pytest.mark.parametrize(
    "unit",
    [
        "[",
        "]",
        '"',
        '["',
        "{",
        "Action:",
        "\nAction:",
        "\nAction: calc[",
        "\nObservation:",
        "```\n",
        " ",
        "\n",
        "*",
        "\\",
        '{"a":',
        "<think>",
        "Action: Finish[" * 3,
        "\nThought:",
    ],
)
def test_hostile_replies_cost_linear_time(unit):
    text = "Action: calc[" + unit * (1_000_000 // len(unit))
    started = time.process_time()
    parse(text, TOOLS)
    parse(text.replace("calc", "Finish", 1), TOOLS)
    parse(unit * (1_000_000 // len(unit)), TOOLS)

    assert time.process_time() - started < 4


def test_the_system_prompt_lists_the_tools_and_says_how_to_call_and_how_to_end():
    text = render([system("Be brief."), user("hi")], TOOLS)[0].text

    assert text.startswith("Be brief.\n\nYou have these tools:")
    assert "- search(query: string, limit?: integer): Do search.\n    query: what to look for" in text
    assert '- pick(size: "big" | "small", tags?: string[])' in text
    assert "Action: FINAL_ANSWER" in text
    assert STOP == ("\nObservation:",)
    assert "Finish[" in render([user("hi")], TOOLS, "bracket")[0].text


def test_sections_can_be_written_anew():
    text = render([system("Be brief.")], TOOLS, overrides={"tools": "TOOLS {tools} FOR {goal}", "exit": ""})[0].text

    assert "TOOLS - search" in text
    assert "FOR Be brief." in text
    assert "FINAL_ANSWER" not in text


def test_several_calls_of_one_reply_read_as_one_after_the_other():
    calls = (ToolCall("1", "calc", {"expression": "1"}), ToolCall("2", "now", {}))
    results = Message("tool", (ToolResult("1", "calc", "1"), ToolResult("2", "now", "no clock", "transient")))
    told = render([system("s"), user("u"), assistant("hm", calls), results, assistant("done")], TOOLS)[1:]

    assert [(message.role, message.text) for message in told] == [
        ("user", "u"),
        ("assistant", 'Thought: hm\nAction: calc {"expression": "1"}'),
        ("user", "Observation: 1"),
        ("assistant", "Action: now {}"),
        ("user", "Observation: error (transient): no clock"),
        ("assistant", "Action: FINAL_ANSWER done"),
    ]


def test_a_reply_that_could_not_be_read_goes_back_as_it_was_with_the_correction():
    call = ToolCall("1", "", {}, "no action there", "The answer is 42.")
    told = render(
        [user("u"), assistant("", (call,)), Message("tool", (ToolResult("1", "", "no action there", "invalid"),))], TOOLS
    )[2:]

    assert [message.text for message in told] == ["The answer is 42.", "Observation: error (invalid): no action there"]


def test_history_is_rendered_once_and_kept():
    history = [system("s"), user("u"), assistant("", (ToolCall("1", "now", {}),)), Message("tool", (ToolResult("1", "now", "12"),))]
    first = render(history, TOOLS)
    second = render([*history, assistant("x")], TOOLS)

    assert all(a is b for a, b in zip(first, second, strict=False))
    assert manifest(TOOLS) is manifest(TOOLS)


def test_pictures_stay_in_the_users_message():
    message = Message("user", (Text("look"),))

    assert render([message], None)[1] is message


def test_without_tools_there_is_no_list_of_tools():
    assert manifest(None) == ""
    assert "You have these tools" not in render([system("s")], None)[0].text
