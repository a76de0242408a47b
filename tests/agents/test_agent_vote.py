"""agent-vote as a process: streams, statuses, records."""

import json

import pytest

BALLOT = [
    {"answer": "a", "by": "ann", "output": "Buy."},
    {"answer": "b", "by": "bob", "output": "Sell."},
    {"voter": "x", "answer": "a", "vote": "approve"},
    {"voter": "y", "answer": "b", "vote": "approve"},
    {"voter": "z", "answer": "a", "vote": "abstain"},
]


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def record(name, output, **data):
    return {
        "agentpipe": "1",
        "type": "agentpipe.result",
        "source": f"agent:{name}@0.1.0",
        "data": {"output": output, "exit": 0, **data},
    }


def tallied(done):
    return json.loads(done.stdout)["data"]["structuredContent"]


def test_the_winners_text_is_the_output(run_agent):
    done = run_agent("agent-vote", stdin=lines(*BALLOT))

    assert (done.stdout, done.stderr, done.returncode) == ("Buy.\n", "", 0)


def test_the_record_has_the_promised_fields(run_agent):
    found = tallied(run_agent("agent-vote", "--json", stdin=lines(*BALLOT)))

    assert {"winner", "scores", "votes", "consensus_points", "quorum_met", "vetoed"} <= found.keys()
    assert (found["winner"], found["scores"], found["quorum_met"], found["tied"]) == ("a", {"a": 1, "b": 1}, True, ["a", "b"])


@pytest.mark.parametrize(
    ("args", "status", "winner"),
    [
        (["--weight", "y=2"], 0, "b"), (["--quorum", "3"], 0, "a"), (["--quorum", "4"], 4, None), (["--reduce", "consensus"], 3, None),
        (["--reduce", "consensus", "--threshold", "0.5"], 0, "a"), (["--weight", "x=0", "--weight", "y=0"], 3, None),
    ],
)  # fmt: skip
def test_no_winner_is_status_3_and_no_quorum_status_4_with_the_tally(run_agent, args, status, winner):
    done = run_agent("agent-vote", "--json", *args, stdin=lines(*BALLOT))

    assert (done.returncode, tallied(done)["winner"], json.loads(done.stdout)["data"]["exit"]) == (status, winner, status)
    assert set(tallied(done)["scores"]) == {"a", "b"}


def test_without_a_winner_stdout_is_empty_and_stderr_says_why(run_agent):
    done = run_agent("agent-vote", "--quorum", "4", stdin=lines(*BALLOT))

    assert (done.stdout, done.returncode) == ("", 4)
    assert done.stderr == "agent-vote: no quorum: 3 voted and 4 are needed\n"


def test_a_refused_vote_is_told(run_agent):
    done = run_agent(
        "agent-vote",
        stdin=lines(*BALLOT, {"voter": "ann", "answer": "a", "vote": 1}, {"voter": "w", "answer": "b", "vote": "veto"}),
    )

    assert done.stdout == "Buy.\n"
    assert "refused: ann 1.0 a: their own answer" in done.stderr
    assert "refused: w veto b: no right of veto" in done.stderr


def test_a_holder_vetoes(run_agent):
    done = run_agent("agent-vote", "--veto", "w", stdin=lines(*BALLOT, {"voter": "w", "answer": "a", "vote": "veto"}))

    assert done.stdout == "Sell.\n"


def test_records_of_agents_are_their_answers(run_agent):
    stdin = lines(record("a", "Paris"), record("b", "Rome"), record("c", "paris"))

    assert run_agent("agent-vote", "--quorum", "3", "--weight", "a=2", "--veto", "c", stdin=stdin).stdout == "Paris\n"
    assert tallied(run_agent("agent-vote", "--json", stdin=stdin))["scores"] == {"a": 2, "b": 1}


def test_a_failed_stage_is_status_6_or_left_out(run_agent):
    stdin = lines(record("a", "", isError=True, exit=69, error={"code": "server", "detail": "down"}), record("b", "Rome"))

    done = run_agent("agent-vote", stdin=stdin)
    assert (done.returncode, done.stdout) == (6, "")
    assert "a failed: down" in done.stderr
    assert run_agent("agent-vote", "--on-upstream-error", "skip", stdin=stdin).stdout == "Rome\n"


@pytest.mark.parametrize(
    ("stdin", "args", "status"),
    [("", [], 66), ("hello\n", [], 65), ("{}\n", [], 65), ("\n\n", [], 66), (b"\xff\xfe\n", [], 65), (lines(*BALLOT), ["--weight", "x"], 2),
     (lines(*BALLOT), ["--quorum", "-1"], 2), (lines(*BALLOT), ["--threshold", "2"], 2), (lines(*BALLOT), ["words"], 2),
     (lines(*BALLOT), ["--reduce", "magic"], 2)],
)  # fmt: skip
def test_what_is_no_ballot_has_a_status_one_line_and_no_output(run_agent, stdin, args, status):
    done = run_agent("agent-vote", *args, stdin=stdin)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (status, "", 1)


def test_the_winners_bytes_pass_untouched(run_agent):
    evil = "\x1b[31mred\x1b[0m\u202e"
    done = run_agent("agent-vote", stdin=lines({"answer": "a", "by": "x", "output": evil}))

    assert done.stdout == evil + "\n"


def test_a_large_ballot_is_counted_quickly(run_agent):
    entries = [{"answer": f"a{n}", "by": f"w{n}", "output": str(n)} for n in range(200)]
    votes = [{"voter": f"v{n}", "answer": f"a{n % 200}", "vote": (n % 11) / 10} for n in range(20_000)]
    found = tallied(run_agent("agent-vote", "--json", stdin=lines(*entries, *votes), timeout=20))

    assert found["voters"] == 20_000
