"""reflexion - when the critic is content, what the actor is told, what is remembered."""

import json

import pytest
from single_mind import kinds, request, run, said, survives, task

from agent_core.effects import Call
from agent_core.errors import ServerError
from agent_core.messages import ToolCall
from agent_core.play import play
from agent_patterns.reflexion import CRITERIA, Critique, criteria, read_critique, reflexion

PASS = {"pass": True, "problems": [], "lesson": ""}
OBJECTION = {"pass": False, "problems": ["no proof"], "lesson": "Prove it."}


def model(*verdicts):
    """Return a model whose critic gives these verdicts by the number of revisions, and whose actor numbers its drafts."""

    def answer(ask):
        drafts = sum(message.role == "assistant" for message in ask.messages)
        if "strict critic" in ask.messages[0].text:
            return verdicts[int(request(ask).rpartition("draft ")[2][0])]
        return f"draft {drafts}"

    return answer


def test_a_critic_that_is_content_makes_two_calls():
    played = play(reflexion(task("prove it")), ["QED", said(PASS), None])
    ran = survives(lambda: reflexion(task("prove it")), model(PASS))

    assert kinds(played) == ["generator", "Ask", "Note"]
    assert (played.text, len(ran.asked)) == ("QED", 2)
    assert played.value.value == {"passed": True, "critiques": [{"passed": True, "problems": [], "lesson": ""}], "lessons": []}


def test_one_objection_makes_three_calls_and_the_revision_is_the_answer():
    ran = survives(lambda: reflexion(task("prove it")), model(OBJECTION))

    assert (ran.value.text, len(ran.asked)) == ("draft 1", 3)
    assert (ran.value.value["passed"], ran.value.value["lessons"]) == (None, ["Prove it."])


def test_with_two_rounds_the_revision_is_judged_again():
    ran = survives(lambda: reflexion(task("prove it", options={"rounds": 2})), model(OBJECTION, PASS))

    assert (ran.value.text, ran.value.value["passed"], len(ran.asked)) == ("draft 1", True, 4)


def test_rounds_end_and_the_lessons_of_all_of_them_are_remembered():
    second = {"pass": False, "problems": ["too long"], "lesson": "Be short."}

    ran = survives(lambda: reflexion(task("prove it", options={"rounds": 2})), model(OBJECTION, second))

    last = ran.asked[-1].messages[-1].text
    assert len(ran.asked) == 5
    assert "- too long" in last
    assert "- Prove it.\n- Be short." in last
    assert "- no proof" not in last


def test_the_actor_revises_in_its_own_conversation():
    ran = run(reflexion(task("prove it")), model(OBJECTION))

    assert [message.role for message in ran.asked[2].messages] == ["system", "user", "assistant", "user"]
    assert ran.asked[2].messages[1].text == "prove it"


def test_the_critic_sees_request_and_answer_as_data_and_has_its_own_model():
    ran = run(reflexion(task("prove it", options={"critic_model": "big", "criteria": "only wit"})), model(PASS))

    critic = ran.asked[1]
    assert [ask.model for ask in ran.asked] == ["", "big"]
    assert ("only wit" in critic.messages[0].text, critic.tools) == (True, None)
    words = critic.messages[1].text
    assert (
        words.index('<material origin="request"')
        < words.index("prove it")
        < words.index('<material origin="answer"')
        < words.index("draft 0")
    )


def test_the_usual_criteria_are_told_to_the_critic():
    ran = run(reflexion(task()), model(PASS))

    assert CRITERIA in ran.asked[1].messages[0].text


def test_another_agent_may_be_the_critic():
    played = play(reflexion(task("prove it"), critic="referee"), ["QED", "PASS", None])

    assert isinstance(played.effects[1], Call)
    assert played.effects[1].agent == "referee"
    assert "QED" in played.effects[1].message


def test_the_actor_may_use_tools_and_may_be_any_pattern():
    def answer(ask):
        if "strict critic" in ask.messages[0].text:
            return PASS
        return [ToolCall("c", "double", {"number": 21})] if len(ask.messages) == 2 else "draft 42"

    ran = survives(lambda: reflexion(task("twice 21")), answer)

    assert (ran.value.text, len(ran.asked)) == ("draft 42", 3)


def test_each_draft_may_make_the_same_call():
    def answer(ask):
        if "strict critic" in ask.messages[0].text:
            return OBJECTION
        return [ToolCall("c", "double", {"number": 21})] if ask.messages[-1].role == "user" else request(ask).splitlines()[-1]

    ran = run(reflexion(task("twice 21", options={"rounds": 5})), answer)

    assert ran.value.text == "42"


def test_a_revision_without_words_leaves_the_answer_as_it_was():
    played = play(reflexion(task()), ["QED", said(OBJECTION), None, ""])

    assert played.text == "QED"


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("PASS", True), (" **Pass**. ", True), ("Verdict: PASS", True), ("approved", True), ("LGTM!", True), ("PASS, but the second line is wrong", False), ("Passable at best", False),
        ("fail", False), ("", False), ('{"pass": true}', True), ('{"pass": true, "problems": ["a typo"]}', False), ('{"pass": "true"}', False), ('{"pass": false}', False),
        ('```json\n{"pass": true, "problems": [], "lesson": ""}\n```', True), ('{"pass": true, "problems": "none"}', True),
    ],
)  # fmt: skip
def test_only_a_plain_pass_passes(text, passed):
    critique = read_critique(text)

    assert critique.passed is passed
    assert passed or critique.problems


def test_a_critique_is_data():
    assert read_critique(json.dumps(OBJECTION)) == Critique(passed=False, problems=("no proof",), lesson="Prove it.")


def test_criteria_may_stand_in_a_file(tmp_path):
    (tmp_path / "c.txt").write_text("@be kind\n")

    assert criteria("be kind") == "be kind"
    assert criteria(f"@{tmp_path / 'c.txt'}") == "be kind\n"


def test_a_service_that_fails_ends_the_run():
    with pytest.raises(ServerError):
        run(reflexion(task()), model(ServerError("down")))


def test_over_the_wire_one_objection_is_three_requests(run_agent, start_fake_api):
    api = start_fake_api("--per", "server")
    api.script("a proof", json.dumps(OBJECTION), "a better proof")

    done = run_agent(
        "assistant",
        "Write a proof",
        "--pattern",
        "reflexion",
        "--critic-model",
        "big",
        "--model",
        "m",
        "--provider",
        "openai",
        "--json",
        env=api.env(),
    )
    again = run_agent("assistant", "--replay", "last", "--json")

    data = json.loads(done.stdout)["data"]
    assert (done.returncode, data["output"], data["usage"]["calls"]) == (0, "a better proof", 3)
    assert [sent["body"]["model"] for sent in api.requests()] == ["m", "big", "m"]
    assert again.stdout == done.stdout
