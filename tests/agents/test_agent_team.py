"""agent-team as a process: real requests to the fake API, counted and timed; killed, resumed, replayed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import wait_until

from agent_core import catalogue, config

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ("--provider", "openai", "--model", "m", "--retry", "0")


@pytest.fixture
def team(run_agent, start_fake_api):
    """Give a function that runs agent-team against an API of its own and returns (process, record's data, requests)."""
    api = start_fake_api("--per", "server")

    def ask(*args, script=(), **rest):
        api.reset()
        if script:
            api.script(*script)
        done = run_agent("agent-team", *args, *FLAGS, "--json", env=api.env(), **rest)
        return done, json.loads(done.stdout)["data"], api.requests()

    return ask


def prompts(requests):
    return [request["body"]["messages"][-1]["content"] for request in requests]


def test_members_of_one_second_each_finish_in_about_one(team):
    def took(count):
        began = time.monotonic()
        _, data, requests = team(
            "orchestra", "Q?", "--reduce", "merge", *members(count), script=[{"text": "x", "delay_ms": 1000, "times": count}]
        )
        assert (len(requests), data["structuredContent"]["failure_count"]) == (count, 0)
        return time.monotonic() - began

    assert took(8) < 2.5 * took(1)


def members(count):
    return [word for number in range(count) for word in ("--member", f"m{number}=You are {number}.")]


def test_a_swarm_of_five_with_enough_answers_after_four_and_cancels_the_fifth(team):
    workers = [word for number in range(4) for word in ("--member", f"w{number}=Work.")]
    began = time.monotonic()
    done, data, requests = team(
        "swarm", "a, b, c, d, e", "--split", "breadth", "--enough", "0.8", *workers, "--member", "late@openai:fault:late:60=Work."
    )
    found = data["structuredContent"]

    assert time.monotonic() - began < 20
    assert (done.returncode, len(requests), len(found["answers"])) == (0, 5, 4)
    assert (found["cancelled"], found["threshold_met"], found["failure_count"]) == (["5"], True, 0)


@pytest.mark.parametrize(
    ("topology", "others"), [("star", ["ann", "lead"]), ("mesh", ["ann", "bob", "lead"]), ("ring", ["ann", "lead"])]
)
def test_topologies_differ_only_in_what_is_sent(team, topology, others):
    flags = ("--leader", "lead=Lead.", "--member", "ann=A.", "--member", "bob=B.", "--rounds", "2", "--topology", topology)
    _, data, requests = team("team", "2+2?", *flags, script=[{"text": f"answer {n}"} for n in range(6)] + [{"text": "four"}])
    sent = prompts(requests)

    assert (len(requests), data["output"]) == (7, "four")
    assert sent[:3] == ["2+2?"] * 3
    assert [request["body"]["messages"][0]["content"].partition("\n")[0] for request in requests[:3]] == ["Lead.", "A.", "B."]
    first = dict(zip(["lead", "ann", "bob"], ["answer 0", "answer 1", "answer 2"], strict=True))
    shown = next(
        text
        for text, request in zip(sent[3:6], requests[3:6], strict=True)
        if request["body"]["messages"][0]["content"].startswith("A.")
    )
    assert {name for name, text in first.items() if text in shown} == set(others)
    assert data["structuredContent"]["messages_exchanged"] == {"star": 4, "mesh": 6, "ring": 3}[topology] + 3


def test_a_debate_makes_the_predicted_number_of_calls(team):
    script = [{"text": text} for text in ("A1", "B1", "A2", "B2", '{"score": 0.3}', '{"score": 0.9}', "B was better.")]
    done, data, requests = team(
        "debate", "Monolith or services", "--side", "A=simple", "--side", "B=scale", "--rounds", "2", script=script
    )
    found = data["structuredContent"]

    assert (len(requests), done.returncode, data["output"]) == (2 * 2 + 2 + 1, 0, "B was better.")
    assert found["winner"] in {"A", "B"}
    assert sorted(found["scores"].values()) == [0.3, 0.9]
    assert {side["position"] for side in found["sides"]} == {"simple", "scale"}


def test_an_orchestra_prints_its_agreement(team):
    done, data, requests = team(
        "orchestra", "Price?", "--preset", "balanced", script=[{"text": "ten dollars", "times": 4}, {"text": "Ten."}]
    )

    assert (len(requests), data["output"], data["structuredContent"]["agreement"]) == (5, "Ten.", 1)
    assert [each["agent"] for each in data["structuredContent"]["answers"]] == ["optimist", "critic", "realist", "outsider"]
    assert "agreement 100%" in done.stderr
    assert "shared/(a + b - shared)" in data["structuredContent"]["agreement_formula"]


def test_a_swarm_is_split_by_a_model_that_may_look_at_files(team, tmp_path):
    plan = {"parts": [{"id": "1", "task": "Review a.py"}, {"id": "2", "task": "Review b.py"}]}
    done, data, requests = team(
        "swarm", "Review every file", "--jobs", "4", script=[{"json": plan}, {"text": "one"}, {"text": "two"}]
    )

    assert (done.returncode, len(requests), data["structuredContent"]["split"]) == (0, 3, "model")
    assert {tool["function"]["name"] for tool in requests[0]["body"]["tools"]} == {"file_list", "file_read", "file_search"}
    assert data["output"] == "## 1: Review a.py\n\none\n\n## 2: Review b.py\n\ntwo"


def test_a_failing_member_is_reported_and_the_others_answer(team):
    done, data, _ = team(
        "orchestra", "Q?", "--reduce", "merge", "--member", "a=A", "--member", "bad@openai:fault:500=B", script=[{"text": "fine"}]
    )
    found = data["structuredContent"]

    assert (done.returncode, data["output"], found["failure_count"]) == (0, "## a\n\nfine", 1)
    assert (found["failures"][0]["agent"], found["failures"][0]["code"]) == ("bad", "server")
    assert "bad failed: " in done.stderr


def test_an_address_where_nobody_listens_is_a_failed_member(team):
    _, data, _ = team(
        "orchestra", "Q?", "--reduce", "merge", "--member", "a=A", "--member", "http://127.0.0.1:9/agent", script=[{"text": "fine"}]
    )
    found = data["structuredContent"]

    assert (data["output"], found["failure_count"], found["failures"][0]["code"]) == ("## a\n\nfine", 1, "transport")


def test_too_few_answers_are_status_4_and_the_rest_is_in_the_record(team):
    args = ("orchestra", "Q?", "--reduce", "merge", "--enough", "1", "--member", "a=A", "--member", "bad@openai:fault:500=B")
    done, data, _ = team(*args, script=[{"text": "fine"}])

    assert (done.returncode, data["exit"], data["structuredContent"]["threshold_met"]) == (4, 4, False)
    assert data["structuredContent"]["answer"] == "## a\n\nfine"
    assert "1 of 2 answered and 2 are needed" in done.stderr


def test_if_all_fail_the_run_fails_as_the_first_did(team):
    done, data, _ = team("orchestra", "Q?", "--member", "a@openai:fault:401=A", "--member", "b@openai:fault:500=B")

    assert (done.returncode, data["output"]) == (77, "")


def test_no_consensus_is_status_3(team):
    done, data, _ = team("orchestra", "Q?", "--reduce", "consensus", *members(3), script=[{"text": str(n)} for n in range(3)])

    assert (done.returncode, data["output"], data["structuredContent"]["decided"]) == (3, "", False)


def test_members_of_the_same_name_are_told_apart(team):
    _, data, _ = team(
        "orchestra",
        "Q?",
        "--reduce",
        "majority",
        "--member",
        "x=X",
        "--member",
        "x=X",
        "--member",
        "x=X",
        script=[{"text": "4", "times": 3}],
    )

    assert [each["agent"] for each in data["structuredContent"]["answers"]] == ["x", "x#2", "x#3"]


def test_a_program_and_a_member_of_this_run_work_together(team, tmp_path, clean_environment):
    program = tmp_path / "oracle"
    program.write_text('#!/bin/sh\nread question\necho "oracle: $question"\n', "utf-8")
    program.chmod(0o755)
    card = {"schema": "agent-card/1", "name": "oracle", "version": "1", "description": "answer", "kind": "program"}
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    catalogue.write(tmp_path / "data", catalogue.Entry("oracle", (str(program),), digest, card, "2026-09-24T10:00:00Z", "adopt"))
    _, data, requests = team(
        "orchestra", "Q?", "--reduce", "merge", "--member", "oracle", "--member", "a=A", "--data-dir", str(tmp_path / "data"), script=[{"text": "four"}]
    )  # fmt: skip

    assert data["output"] == "## oracle\n\noracle: Q?\n\n## a\n\nfour"
    assert len(requests) == 1


HOUSE = (
    "team", "What does the house cost?", "--leader", "lead=Lead.", "--member", "ann=A.", "--member", "bob=B.", "--member", "cid=C.",
    "--rounds", "1", "--topology", "mesh", "--reduce", "merge", "--jobs", "1",
)  # fmt: skip
COSTS = ["Penguins swim.", "The house costs $500,000.", "The house costs $700K.", "No idea at all."]


def test_rework_asks_anew_whoever_has_something_new_to_learn_and_nobody_else(team):
    script = [*COSTS, {"text": "The house costs $600,000.", "times": 2}]
    done, data, requests = team(*HOUSE, "--rework", "peer,cooldown=0", script=script)
    found = data["structuredContent"]

    assert (done.returncode, len(requests), found["failure_count"]) == (0, 4 + 2, 0)
    assert found["rework"]["restarts"] == {"lead": 0, "ann": 1, "bob": 1, "cid": 0}
    assert [each["output"] for each in found["answers"]] == [COSTS[0], *["The house costs $600,000."] * 2, COSTS[3]]
    assert ["You answered this before" in text for text in prompts(requests)] == [False] * 4 + [True] * 2


def test_a_validator_of_its_own_model_judges_every_answer_until_it_accepts(team, tmp_path):
    (tmp_path / "one.toml").write_text('kind = "crew"\nreduce = "last"\n[[member]]\nname = "ann"\nsystem = "A."\n', "utf-8")
    no, yes = {"accept": False, "feedback": "no year", "suggestions": ["name the year"]}, {"accept": True}
    script = ["It was built.", {"json": no}, "It was built in 1990.", {"json": yes}]
    flags = ("--rework", "feedback,cooldown=0.2", "--validator", "val@openai:big=Judge.")
    done, data, requests = team("crew", "one.toml", "When?", *flags, script=script)

    assert (done.returncode, data["output"]) == (0, "It was built in 1990.")
    assert [request["body"]["model"] for request in requests] == ["m", "big", "m", "big"]
    assert "- name the year" in prompts(requests)[2]


def test_a_person_is_asked_once_for_what_is_new_and_a_parked_run_goes_on_with_the_answer(team, run_agent, start_fake_api):
    api = start_fake_api("--per", "server")
    api.script(*COSTS, {"text": "It costs $1M.", "times": 4})
    parked = run_agent("agent-team", *HOUSE, "--rework", "person,max=1,cooldown=0", *FLAGS, "--json", env=api.env())
    run = json.loads(parked.stdout)["data"]["run_id"]
    done = run_agent("agent-log", "resume", run, "--answer", "It has a garden.", "--json", env=api.env())

    assert (parked.returncode, len(api.requests())) == (5, 8)
    assert all("It has a garden." in text for text in prompts(api.requests())[4:])
    assert "It costs $1M." in done.stdout


@pytest.mark.parametrize("words", ["moon", "max=-1", "cooldown=nan"])
def test_a_policy_that_cannot_be_is_refused_before_anything_is_spent(team, words):
    done, _, requests = team(*HOUSE, "--rework", words)

    assert (done.returncode, requests) == (2, [])


def test_a_crew_works_in_turn_by_its_file(team, tmp_path):
    (tmp_path / "crew.toml").write_text(
        'kind = "crew"\nprocess = "sequential"\nreduce = "last"\n'
        '[[member]]\nname = "draft"\nsystem = "Draft."\n[[member]]\nname = "edit"\nsystem = "Edit."\nmodel = "big"\n', "utf-8",
    )  # fmt: skip
    _, data, requests = team("crew", "crew.toml", "Write", "a line", script=[{"text": "rough"}, {"text": "fine"}])

    assert (data["output"], [request["body"]["model"] for request in requests]) == ("fine", ["m", "big"])
    assert prompts(requests)[0] == "Write a line"
    assert "rough" in prompts(requests)[1]


def test_a_recorded_run_needs_its_preset_no_more_and_the_file_is_no_member(team, run_agent, tmp_path):
    file = tmp_path / "crew.toml"
    file.write_text('kind = "crew"\nreduce = "last"\n[[member]]\nname = "ann"\n[[member]]\nname = "bob"\n', "utf-8")
    done, data, _ = team("crew", "crew.toml", "Write", script=["x", "y"])
    seen = json.loads(run_agent("agent-log", "status", "last", "--json").stdout)["data"]["structuredContent"]
    file.unlink()
    again = run_agent("agent-team", "--replay", "last", "--json")

    assert (done.returncode, again.returncode) == (0, 0)
    assert json.loads(again.stdout)["data"]["output"] == data["output"]
    assert [part["name"] for part in seen["parts"]] == ["ann", "bob"]


def test_presets_of_the_user_come_first_and_material_is_read_from_stdin(team, clean_environment):
    folder = (
        Path(config.user_dir({"HOME": str(clean_environment), "XDG_CONFIG_HOME": str(clean_environment / ".config")})) / "presets"
    )
    folder.mkdir(parents=True)
    (folder / "balanced.toml").write_text(
        'kind = "orchestra"\nreduce = "first"\n[[member]]\nname = "me"\nsystem = "Me."\n', "utf-8"
    )
    _, data, requests = team("orchestra", "Sum up", stdin="the data", script=[{"text": "mine"}])

    assert (data["output"], len(requests)) == ("mine", 1)
    assert "the data" in prompts(requests)[0]


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (["orchestra", "Q", "--preset", "balancd"], 2, "did you mean balanced"), (["team", "Q", "--preset", "balanced"], 2, "is a preset for orchestra"),
        (["orchestra", "Q", "--member", "nobody-knows"], 2, "nobody-knows"), (["debate", "Q", "--side", "A"], 2, "is no side"),
        (["debate", "Q", "--side", "A=x"], 2, "two sides"), (["debate", "Q", "--side", "A=x", "--side", "B=y", "--member", "C=z"], 2, "C has no side"),
        (["swarm", "Q", "--enough", "1.5"], 2, "is no fraction"), (["team", "Q", "--rounds", "0"], 2, ""), (["team", "Q", "--topology", "tree"], 2, "tree"),
        (["crew", "none.toml", "Q"], 66, "none.toml"), (["crew", "bad.toml", "Q"], 65, "bad.toml:2"), (["crew", "odd.toml", "Q"], 65, "odd.toml:3"),
        (["orchestra", "Q", "--weight", "a"], 2, "--weight"), (["tema", "Q"], 2, "team"), (["swarm", "Q", "--parts", "0"], 2, "--parts"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_is_spent(run_agent, fake_api, tmp_path, args, status, words):
    (tmp_path / "bad.toml").write_text('kind = "crew"\nrounds = \n', "utf-8")
    (tmp_path / "odd.toml").write_text('kind = "crew"\n[[member]]\nnme = "x"\n', "utf-8")
    done = run_agent("agent-team", *args, *FLAGS, env=fake_api.env())

    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr
    assert fake_api.requests() == []


KINDS = [
    (["team", "Q?", "--leader", "lead=L", "--member", "ann=A", "--rounds", "2"], 5),
    (["swarm", "a, b, c", "--split", "breadth", "--reduce", "synthesis"], 4),
    (["orchestra", "Q?"], 5),
    (["debate", "Q?", "--side", "A=x", "--side", "B=y"], 7),
    (["crew", "reviewers", "Q?"], 3),
    ([*HOUSE, "--rework", "peer,max=1,cooldown=0"], 4 + 4),
]


@pytest.mark.parametrize(("args", "calls"), KINDS, ids=["team", "swarm", "orchestra", "debate", "crew", "rework"])
def test_killed_it_resumes_without_asking_again_and_replays_without_a_network(run_agent, start_fake_api, tmp_path, args, calls):
    api = start_fake_api("--delay-ms", "150", "--per", "server")
    api.script(*(f"answer {number}" for number in range(12)))
    env = {**os.environ, **api.env(), "PYTHONPATH": str(ROOT)}  # noqa: TID251 - a process of its own
    program = [sys.executable, "-m", "agents.agent_team", *args, *FLAGS, "--jobs", "1"]
    process = subprocess.Popen(
        program, cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert wait_until(lambda: len(api.requests()) >= 3, 20)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = len(api.requests())

    done = run_agent("agent-team", "--resume", "last", "--json", *FLAGS, env=api.env())
    again = run_agent("agent-team", "--replay", "last", "--json")

    data = json.loads(done.stdout)["data"]
    assert (done.returncode, bool(data["structuredContent"]["answer"])) == (0, True), done.stderr
    assert calls <= len(api.requests()) <= calls + 1
    assert before < len(api.requests())
    repeated = json.loads(again.stdout)["data"]
    assert (again.returncode, repeated["output"], repeated["structuredContent"]) == (0, data["output"], data["structuredContent"])
    assert len(api.requests()) <= calls + 1


def test_offline_a_swarm_is_split_at_words(run_agent):
    done = run_agent(
        "agent-team", "swarm", "--provider", "offline", "--json", "fetch the prices and fetch the reviews, then compare"
    )
    parts = json.loads(done.stdout)["data"]["structuredContent"]["parts"]

    assert [(part["id"], part["needs"]) for part in parts] == [("1.1", []), ("1.2", []), ("2.1", ["1.1", "1.2"])]
