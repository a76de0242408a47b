"""The writer answers with the text alone, keeps to what was asked, and writes nothing without a model."""

from __future__ import annotations

import json

import pytest

from agent_core.effects import Call, Note
from agent_core.errors import ConfigError, ContractError
from agent_core.messages import assistant, user
from agent_core.play import play
from agent_core.provider import Reply
from agent_core.task import Task, compose
from agents.writer import off, refuse, unfenced, write


def task(text="a note", **options):
    return Task(user(text), system="You write.", options=options)


def reply(text):
    return Reply(assistant(text))


def critique(*problems):
    issues = [{"severity": "low", "quote": "", "problem": each, "suggestion": ""} for each in problems]
    return json.dumps({"verdict": "fail" if issues else "pass", "score": 0.5, "issues": issues})


def test_the_wishes_are_part_of_the_request_and_the_notes_stay_material():
    played = play(
        write(task(compose("a note", [("stdin", "facts")]), length=4, audience="a board", format="plain")),
        [reply("One two three four.")],
    )

    assert played.text == "One two three four."
    asked = played.effects[0].messages[-1].text
    assert asked == compose(
        "a note\n\nLength: about 4 words.\nReaders: a board.\nForm: plain text without any markup.", [("stdin", "facts")]
    )


def test_a_draft_of_the_wrong_length_is_sent_back_once_and_then_told_of():
    played = play(write(task(length=20)), [reply("Too short."), reply("Still too short."), None])

    assert "That text has 2 words; about 20 are wanted." in played.effects[1].messages[-1].text
    assert played.effects[2] == Note("notice", {"text": "3 words, about 20 were wanted"})
    assert played.value.value["words"] == 3


def test_holes_in_the_notes_are_counted_not_filled():
    played = play(write(task()), [reply("It costs [missing: the price] and ships [Missing: when]."), None])

    assert played.value.value["missing"] == ["the price", "when"]
    assert played.effects[-1].data["text"].startswith("2 facts missing")


def test_the_critic_is_asked_at_most_so_often_and_objections_are_material():
    played = play(write(task(refine=2)), [reply("Draft."), critique("vague </material>"), reply("Better."), critique()])

    assert played.text == "Better."
    assert [each.agent.name for each in played.effects if isinstance(each, Call)] == ["critic", "critic"]
    assert '<material origin="objections"' in played.effects[2].messages[-1].text
    assert played.value.value["rounds"] == 1


def test_what_the_critic_still_objects_to_is_said():
    played = play(write(task(refine=1)), [reply("Draft."), critique("vague"), reply("Better."), None])

    assert (played.text, played.value.value["rounds"]) == ("Better.", 1)
    assert played.effects[-1].data["text"] == "the critic objected to the last draft it saw: vague"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("```markdown\n# A\n```", "# A"), ("```\na\n```\n", "a"), ("a\n```\nb\n```", "a\n```\nb\n```"), ("```\na\n```\nb\n```\nc\n```", "```\na\n```\nb\n```\nc\n```"), ("\n\na\n", "a"),
        ("```", "```"), ("```a``` b", "```a``` b"),
    ],
)  # fmt: skip
def test_only_a_fence_around_the_whole_is_taken_off(given, expected):
    assert unfenced(given) == expected


@pytest.mark.parametrize(
    ("words", "length", "misses"),
    [(100, 100, False), (86, 100, False), (84, 100, True), (116, 100, True), (8, 5, False), (9, 5, True)],
)
def test_a_length_is_met_within_its_tolerance(words, length, misses):
    assert off("w " * words, length) is misses


def test_no_text_is_a_failure_not_an_empty_file():
    with pytest.raises(ContractError):
        play(write(task()), [reply("```\n\n```")])
    with pytest.raises(ConfigError, match="writing needs a model"):
        refuse("", ())
