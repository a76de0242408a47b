"""self_consistency - samples, what is compared, who wins."""

import json
import time

import pytest
from single_mind import request, run, survives, task

from agent_core.effects import All
from agent_core.messages import Image, Message, Text, ToolCall
from agent_core.task import Task
from agent_patterns.self_consistency import LAST_LINE, final, self_consistency


def votes(*answers):
    """Return a model that gives the answers by the place that the temperature stands for (0.7 falls by a thousandth a sample)."""
    return lambda ask: answers[round((1 - ask.temperature / 0.7) * 1000)]


def test_the_commonest_answer_wins_however_it_is_written():
    ran = survives(
        lambda: self_consistency(task("how many?")),
        votes("Answer: 3", "So…\n**Answer:** 2", "answer: 3.", "Final answer: 3", "Answer: 4"),
    )

    assert ran.value.text == "3"
    assert (ran.value.value["agreement"], ran.value.status, len(ran.asked)) == (0.6, 0, 5)
    assert sum(ran.value.value["votes"].values()) == 5


def test_a_tie_goes_to_the_earliest():
    ran = run(self_consistency(task(options={"samples": 4})), votes("Answer: b", "Answer: a", "Answer: a", "Answer: b"))

    assert ran.value.text == "b"


def test_samples_run_at_once():
    effect = self_consistency(task(options={"samples": 4})).send(None)

    assert isinstance(effect, All)
    assert len(effect.effects) == 4


def test_each_request_is_its_own_so_that_no_cache_answers_all():
    ran = run(self_consistency(task()), votes(*["Answer: 1"] * 5))

    assert [ask.temperature for ask in ran.asked] == [0.7, 0.6993, 0.6986, 0.6979, 0.6972]
    assert len({event.fingerprint for event in ran.outcomes}) == 5


def test_the_temperature_of_the_samples_can_be_set():
    ran = run(self_consistency(task(options={"samples": 2, "sample_temperature": 1.0})), lambda _ask: "Answer: 1")

    assert [ask.temperature for ask in ran.asked] == [1.0, 0.999]


def test_a_share_below_the_least_is_status_4():
    ran = run(self_consistency(task(options={"samples": 3, "min_agreement": 0.5})), votes("Answer: a", "Answer: b", "Answer: c"))

    assert (ran.value.text, ran.value.status, ran.value.value["agreement"]) == ("a", 4, 0.3333)


def test_an_empty_answer_is_no_vote():
    ran = run(self_consistency(task(options={"samples": 3})), votes("", "", "Answer: 1"))
    nobody = run(self_consistency(task(options={"samples": 2})), votes("", " "))

    assert (ran.value.text, ran.value.value["agreement"]) == ("1", 0.3333)
    assert (nobody.value.text, nobody.value.status) == ("", 4)


def test_a_sample_may_use_tools():
    def answer(ask):
        return [ToolCall("c", "double", {"number": round(ask.temperature * 1e6)})] if len(ask.messages) == 2 else "Answer: 42"

    ran = survives(lambda: self_consistency(task(options={"samples": 3})), answer)

    assert (ran.value.text, ran.value.value["agreement"], len(ran.asked)) == ("42", 1.0, 6)


def test_each_sample_may_make_the_same_call():
    def answer(ask):
        return [ToolCall("c", "double", {"number": 21})] if len(ask.messages) == 2 else f"Answer: {request(ask).splitlines()[-1]}"

    ran = run(self_consistency(task(options={"samples": 6})), answer)

    assert (ran.value.text, ran.value.value["agreement"]) == ("42", 1.0)


def test_a_sample_that_finds_no_end_says_nothing():
    def answer(ask):
        return [ToolCall("c", "double", {"number": len(ask.messages)})] if ask.temperature == 0.7 else "Answer: 1"

    ran = run(self_consistency(task(options={"samples": 2}, max_steps=2)), answer)

    assert ran.value.value["answers"] == ["", "1"]


def test_the_last_line_is_asked_for_beside_the_request_and_images_stay():
    ran = run(
        self_consistency(Task(Message("user", (Text("look"), Image("image/png", b"x"))), options={"samples": 1})),
        lambda _ask: "Answer: a cat",
    )

    assert request(ran.asked[0]) == f"look\n\n{LAST_LINE}"
    assert isinstance(ran.asked[0].messages[-1].parts[1], Image)


def test_a_reply_that_must_fit_a_schema_is_compared_as_it_is():
    ran = run(self_consistency(task("x", schema={"type": "object"}, options={"samples": 2})), lambda _ask: '{"a": 1}')

    assert (ran.value.text, LAST_LINE in request(ran.asked[0])) == ('{"a": 1}', False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Answer: 3", "3"),
        ("x\nanswer : 3 ", "3"),
        ("Answer: 1\nAnswer: 2", "2"),
        ("**Answer:** Paris", "Paris"),
        ("just this", "just this"),
        ("My answer: no", "My answer: no"),
        ("Answer:\n", "Answer:"),
    ],
)
def test_the_answer_is_what_stands_on_the_last_line_that_says_so(text, expected):
    assert final(text) == expected


def test_hostile_text_is_read_in_no_time():
    began = time.monotonic()
    final("answer" * 50_000)
    final(" " * 200_000)
    final("answer:" + " " * 200_000)

    assert time.monotonic() - began < 1


def test_over_the_wire_three_samples_are_three_requests(run_agent, start_fake_api):
    api = start_fake_api("--per", "server")
    api.script(*({"text": f"Answer: {number}", "delay_ms": 500} for number in (3, 2, 3)))

    done = run_agent(
        "assistant",
        "How many r in strawberry?",
        "--pattern",
        "self_consistency",
        "--samples",
        "3",
        "--provider",
        "openai",
        "--model",
        "m",
        "--json",
        env=api.env(),
    )
    again = run_agent("assistant", "--replay", "last", "--json")

    data = json.loads(done.stdout)["data"]
    assert (done.returncode, data["output"], data["usage"]["calls"]) == (0, "3", 3)
    assert data["usage"]["wall_ms"] < 1400
    assert {sent["body"]["temperature"] for sent in api.requests()} == {0.7, 0.6993, 0.6986}
    assert again.stdout == done.stdout
