"""What a script may hold, which line is next, and what happens at its end."""

import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from agent_core import errors
from agent_core.effects import Ask
from agent_core.messages import Message, ToolResult, assistant, user
from agent_providers import scripted


@pytest.fixture
def play(tmp_path):
    def start(*rows, raw=None):
        path = tmp_path / "script.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows) if raw is None else raw)
        return scripted.provider(SimpleNamespace(script=str(path), provider="scripted", model=""), {}).answer

    return start


ASK = Ask([user("hi")])


def test_replies_come_in_order_and_all_text_forms_are_the_same(play):
    answer = play("one", {"text": "two"}, {"content": "three"}, {"role": "assistant", "content": "four"}, {"json": {"n": 5}})

    assert [answer(ASK).text for _ in range(5)] == ["one", "two", "three", "four", '{"n":5}']


def test_tool_calls_keep_their_ids_or_get_their_own(play):
    answer = play(
        {"tool_calls": [{"name": "a", "arguments": {"x": 1}}, {"name": "b", "id": "mine", "arguments": '{"y": 2}'}], "text": "so"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c9", "type": "function", "function": {"name": "c", "arguments": "{}"}}],
        },
    )
    first, second = answer(ASK), answer(ASK)

    assert [(call.id, call.name, call.arguments) for call in first.tool_calls] == [
        ("call_1_1", "a", {"x": 1}),
        ("mine", "b", {"y": 2}),
    ]
    assert (first.text, first.stop, second.tool_calls[0].id) == ("so", "tool_calls", "c9")


def test_arguments_that_are_no_json_object_stay_what_the_model_wrote(play):
    call = play({"tool_calls": [{"name": "a", "arguments": '{"x": '}]})(ASK).tool_calls[0]

    assert (call.arguments, call.raw, bool(call.problem)) == ({}, '{"x": ', True)


@pytest.mark.parametrize("code", [*scripted.KINDS, "context_length"])
def test_an_error_line_fails_one_attempt_with_its_kind_and_is_used_up(play, code):
    answer = play({"error": code, "message": "so sorry"}, "fine")

    with pytest.raises(errors.AgentError, match="so sorry") as caught:
        answer(ASK)
    assert caught.value.code == code
    assert answer(ASK).text == "fine"


def test_an_error_line_may_say_when_to_try_again(play):
    with pytest.raises(errors.RateLimited) as caught:
        play({"error": "rate_limited", "retry_after": 2.5, "retryable": False})(ASK)

    assert (caught.value.retry_after, caught.value.retryable) == (2.5, False)


def test_a_script_that_is_used_up_is_a_bad_reply(play):
    answer = play("one")
    answer(ASK)

    with pytest.raises(errors.BadReply, match=r"no reply left \(it holds 1\)"):
        answer(ASK)


def test_a_resumed_run_goes_on_where_it_was_and_earlier_turns_do_not_count(play):
    earlier = [user("a"), assistant("b"), user("c")]
    resumed = [*earlier, assistant("one"), Message("tool", (ToolResult("1", "t", "r"),)), assistant("two")]

    assert play("one", "two", "three")(Ask(resumed)).text == "three"
    assert play("one", "two", "three")(Ask(earlier)).text == "one"


def test_what_a_line_expects_must_stand_in_the_last_message(play):
    answer = play({"text": "ok", "expect": "42"}, {"text": "ok", "expect": "42"})

    assert answer(Ask([user("6*7"), Message("tool", (ToolResult("1", "calc", "42"),))])).text == "ok"
    with pytest.raises(errors.ContractError, match=r"line 2 .* expects '42'"):
        answer(ASK)


def test_usage_stop_and_model_are_the_scripts_own(play):
    reply = play({"text": "x", "usage": {"input_tokens": 7, "output_tokens": 2}, "stop": "length", "model": "m"})(ASK)

    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.stop, reply.model) == (7, 2, "length", "m")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("Hello there\n", "line 1 .* is not JSON"),
        ('"a"\n\nplain words', "line 3 .* is not JSON"),
        ("42", "neither a string nor an object"),
        ('{"txt": "a"}', "unknown key 'txt'"),
        ('{"error": "oops"}', "unknown error 'oops'"),
        ('{"tool_calls": [{}]}', "needs a name"),
        ('{"tool_calls": [3]}', "a tool call is an object"),
        ('{"tool_calls": [{"name": "a", "arguments": 3}]}', "arguments are"),
        ('{"usage": {"tokens": 3}}', "needs one of"),
        ('{"text": "a", "usage": {"tokens": 3}}', "unknown usage"),
        ('{"text": "a", "usage": {"input_tokens": "3"}}', "whole numbers"),
        ('{"text": 3}', "text has the wrong type"),
        ('{"text": "a", "stop": "soon"}', "stop must be"),
        ('{"role": "user", "content": "a"}', "only assistant"),
        ("[" * 100000, "is not JSON"),
        ("\x00", "is not JSON"),
    ],
)
def test_a_line_that_is_no_reply_is_a_configuration_error_that_names_it(play, raw, said):
    with pytest.raises(errors.ConfigError, match=said):
        play(raw=raw)


def test_the_script_is_named_by_flag_or_in_the_providers_name(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('"hi"')

    for settings in (
        SimpleNamespace(provider=f"scripted:{path}"),
        SimpleNamespace(provider=f"openai, scripted:{path}"),
        SimpleNamespace(provider="scripted", extra={"script": str(path)}),
    ):
        assert scripted.provider(settings, {}).answer(ASK).text == "hi"


@pytest.mark.parametrize("script", ["", "missing.jsonl", "\0"])
def test_no_script_or_one_that_cannot_be_read_is_a_configuration_error(script):
    with pytest.raises(errors.ConfigError, match="script"):
        scripted.provider(SimpleNamespace(provider="scripted", script=script), {})


def test_threads_that_share_a_provider_get_each_reply_once(play):
    answer = play(*(str(number) for number in range(400)))
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda _: answer(ASK).text, range(400)))

    assert sorted(texts, key=int) == [str(number) for number in range(400)]
