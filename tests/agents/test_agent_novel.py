"""agent-novel as a process: what passes, what is dropped, what is said of it."""

import json

import pytest

SAME = [
    {"answer": "a", "by": "ann", "output": "The price is $500,000."},
    {"answer": "b", "by": "bob", "output": "price: $500K"},
    {"answer": "c", "by": "cid", "output": "Ask the tenants first."},
]


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def judged(done):
    return json.loads(done.stdout)["data"]["structuredContent"]


def test_novel_lines_pass_byte_for_byte_and_dropped_ones_are_told(run_agent):
    odd = '{"by":"ann",  "answer":"a", "output":"caf\\u00e9 noir", "extra": [1]}\n'
    again = {"answer": "d", "by": "dan", "output": "Ask the tenants first, please: tenants first, please ask tenants first."}
    done = run_agent("agent-novel", "--min", "0.6", stdin=odd + lines(SAME[2], again))

    # ask, tenants, first | ask 2, tenants 3, first 3, please 2: 3 shared of 10
    assert done.stdout == odd + lines(SAME[2], again)
    done = run_agent("agent-novel", "--min", "0.71", stdin=odd + lines(SAME[2], again))
    assert (done.stdout, done.stderr) == (odd + lines(SAME[2]), "agent-novel: dropped d: like cid (novelty 0.7)\n")


def test_who_repeats_an_answer_is_kept_beside_it_so_that_votes_still_count(run_agent):
    done = run_agent("agent-novel", "-q", stdin=lines(*SAME))
    rows = [json.loads(line) for line in done.stdout.splitlines()]

    assert [(row["by"], row.get("said_by")) for row in rows] == [("ann", ["ann", "bob"]), ("cid", None)]
    voted = run_agent("agent-vote", "--json", "--quorum", "3", stdin=done.stdout)
    assert json.loads(voted.stdout)["data"]["structuredContent"]["scores"] == {"a": 2, "c": 1}
    record = run_agent("agent-novel", "-q", "--json", stdin=lines(*SAME))
    assert run_agent("agent-vote", "--quorum", "3", stdin=record.stdout).stdout == "The price is $500,000.\n"


def test_records_of_agents_pass_as_records(run_agent):
    def record(name, text):
        return {"agentpipe": "1", "type": "agentpipe.result", "source": f"agent:{name}@0.1.0", "data": {"output": text, "exit": 0}}

    done = run_agent("agent-novel", "-q", stdin=lines(record("a", "Paris"), record("b", "paris!"), record("c", "Rome")))
    rows = [json.loads(line) for line in done.stdout.splitlines()]

    assert [(row["source"], row["data"].get("said_by")) for row in rows] == [("agent:a@0.1.0", ["a", "b"]), ("agent:c@0.1.0", None)]
    assert run_agent("agent-vote", "--quorum", "3", stdin=done.stdout).stdout == "Paris\n"


def test_votes_and_other_records_pass(run_agent):
    vote = {"voter": "x", "answer": "a", "vote": "approve"}
    note = {"agentpipe": "1", "type": "agentpipe.notice", "source": "agent:a@0.1.0", "data": {"text": "hm"}}

    assert run_agent("agent-novel", stdin=lines(SAME[0], vote, note)).stdout == lines(SAME[0], vote, note)


def test_the_record_has_scores_topics_neighbours_and_diversity(run_agent):
    found = judged(run_agent("agent-novel", "--json", stdin=lines(*SAME)))
    first, second, third = found["answers"]

    assert (first["novelty_score"], first["is_novel"], first["most_similar"]) == (1, True, None)
    assert (second["novelty_score"], second["is_novel"], second["most_similar"]) == (0, False, {"agent_id": "ann", "similarity": 1})
    assert (second["new_topics"], sorted(second["redundant_topics"])) == ([], ["500000", "price"])
    assert third["novelty_score"] == 1
    assert second["suggestions"][0].startswith("leave out what was said before")
    assert (found["kept"], found["diversity"]) == (["a", "c"], pytest.approx(2 / 3, abs=1e-4))
    assert (found["method"], found["embeddings"]) == ("lexical", "absent")


def test_synonyms_come_from_a_file(run_agent, tmp_path):
    (tmp_path / "words.toml").write_text('price = ["cost", "value"]\n', "utf-8")
    stdin = lines({"answer": "a", "by": "x", "output": "The cost is 5"}, {"answer": "b", "by": "y", "output": "Its value: 5"})

    assert judged(run_agent("agent-novel", "--json", stdin=stdin))["answers"][1]["novelty_score"] > 0
    assert judged(run_agent("agent-novel", "--json", "--synonyms", "words.toml", stdin=stdin))["answers"][1]["novelty_score"] == 0


@pytest.mark.parametrize(("tolerance", "score"), [("0.2", 0), ("0.05", 1)])
def test_numbers_are_compared_with_the_tolerance_that_is_asked_for(run_agent, tolerance, score):
    stdin = lines({"answer": "a", "by": "x", "output": "100"}, {"answer": "b", "by": "y", "output": "90"})

    assert judged(run_agent("agent-novel", "--json", "--tolerance", tolerance, stdin=stdin))["answers"][1]["novelty_score"] == score


@pytest.mark.parametrize(("least", "kept"), [("0", ["a", "b"]), ("0.5", ["a", "b"]), ("0.51", ["a"])])
def test_min_is_the_least_score_that_is_kept(run_agent, least, kept):
    stdin = lines({"answer": "a", "by": "x", "output": "one two three"}, {"answer": "b", "by": "y", "output": "one two four"})

    assert judged(run_agent("agent-novel", "--json", "--min", least, stdin=stdin))["kept"] == kept


def test_embeddings_are_used_where_all_answers_have_them_and_never_pretended(run_agent):
    rows = [{**row, "embedding": vector} for row, vector in zip(SAME, [[1, 0], [0, 1], [1, 0.01]], strict=True)]

    found = judged(run_agent("agent-novel", "--json", stdin=lines(*rows)))
    assert (found["method"], found["kept"]) == ("embedding", ["a", "b"])
    assert judged(run_agent("agent-novel", "--json", "--method", "lexical", stdin=lines(*rows)))["kept"] == ["a", "c"]
    assert judged(run_agent("agent-novel", "--json", stdin=lines(rows[0], SAME[1])))["method"] == "lexical"
    done = run_agent("agent-novel", "--method", "embedding", stdin=lines(rows[0], SAME[1]))
    assert (done.returncode, done.stdout) == (65, "")
    assert "1 of 2 answers have no embedding" in done.stderr


@pytest.mark.parametrize(
    ("args", "status"),
    [(["--min", "2"], 2), (["--tolerance", "1"], 2), (["--topics", "0"], 2), (["--synonyms", "none.toml"], 66), (["--synonyms", "bad.toml"], 65),
     (["--synonyms", "odd.toml"], 65), (["word"], 2)],
)  # fmt: skip
def test_what_is_wrong_is_one_line_and_a_status(run_agent, tmp_path, args, status):
    (tmp_path / "bad.toml").write_text("price = [", "utf-8")
    (tmp_path / "odd.toml").write_text('price = "cost"', "utf-8")
    done = run_agent("agent-novel", *args, stdin=lines(*SAME))

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (status, "", 1)


def test_no_input_is_status_66(run_agent):
    assert run_agent("agent-novel", stdin="").returncode == 66


def test_a_model_makes_the_embeddings_where_one_is_named_and_what_that_costs_is_on_the_bill(run_agent, fake_api):
    said = [
        {"answer": "a", "output": "The car is old."},
        {"answer": "b", "output": "Old is the automobile."},
        {"answer": "c", "output": "Drink tea."},
    ]
    done = run_agent("agent-novel", "--json", "--embed", "openai/text-embedding-3-small", stdin=lines(*said), env=fake_api.env())
    found = judged(done)

    assert (found["method"], found["embeddings"], found["kept"]) == ("embedding", "made", ["a", "c"])
    assert judged(run_agent("agent-novel", "--json", stdin=lines(*said)))["kept"] == ["a", "b", "c"]
    assert [request["path"] for request in fake_api.requests()] == ["/v1/embeddings"]
    bill = json.loads(run_agent("agent-log", "cost", "--by", "agent", "--json").stdout)["data"]["structuredContent"]
    assert "embedder" in json.dumps(bill)
    done = run_agent("agent-novel", "--embed", "anthropic/x", stdin=lines(*said))
    assert (done.returncode, done.stdout) == (2, "")
