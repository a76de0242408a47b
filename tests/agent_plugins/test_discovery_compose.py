"""Tests of pipelines: read as a shell reads them, checked before anything is spent, put together from a task."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core.catalogue import Entry
from agent_core.errors import UsageError
from agent_plugins.discovery import compose
from agent_plugins.discovery.compose import Pipeline, Stage, composed, graph, lacking, parsed, verdict
from agent_plugins.discovery.match import Candidate


def candidate(name, description="", stdin="optional", kind="agent", health="healthy", **card):
    body = {"schema": "agent-card/1", "name": name, "description": description, "stdin": stdin, **card}
    entry = Entry(name, (f"/bin/{name}",), "0" * 64, {**body, **({"kind": "program"} if kind == "program" else {})})
    return Candidate(name, description, tuple(card.get("tags", ())), kind=kind, health=health, entry=entry)


def known(*candidates):
    return {each.name: each for each in candidates}


ROWS = {"type": "array", "items": {"type": "object"}}
REVIEW = {"type": "object", "properties": {"issues": {"type": "array"}, "score": {"type": "integer"}}}
AGENTS = known(
    candidate("text-processor", "transform and measure text", tags=["text"]),
    candidate("translator", "translate a text", stdin="required", tags=["translate"]),
    candidate("summarizer", "summarize a document", stdin="required", tags=["summary"]),
    candidate("reviewer", "review code", output_schema=REVIEW, output_media_types=["application/json"]),
    candidate("painter", "paint a picture", output_media_types=["image/png"]),
    candidate("clock", "tell the time", stdin="none"),
    candidate("grader", "grade", input_schema={"type": "object", "properties": {"input": {**REVIEW, "required": ["score"]}}}),
    candidate("lister", "list", output_schema=ROWS),
    candidate("namer", "name", output_schema={"type": "object", "properties": {"name": {"type": "string"}}}),
    candidate("broken", "break", health="unhealthy"),
    candidate("jq", "query JSON", kind="program"),
)

READ = {
    "a | b": ([["a"], ["b"]], "", ""),
    "a|b": ([["a"], ["b"]], "", ""),
    "a 'x|y' \"q > r\" \\| z | b": ([["a", "x|y", "q > r", "|", "z"], ["b"]], "", ""),
    "a < in.txt | b > out.txt": ([["a"], ["b"]], "in.txt", "out.txt"),
    "a --flag='x y' -- -z | b": ([["a", "--flag=x y", "--", "-z"], ["b"]], "", ""),
    "a '`date` $(x)' | b # c": ([["a", "`date` $(x)"], ["b", "#", "c"]], "", ""),
    "a ''": ([["a", ""]], "", ""),
}


@pytest.mark.parametrize("text", READ)
def test_a_simple_pipeline_is_read_as_a_shell_reads_it(text):
    stages, source, target = READ[text]
    made = parsed(text, {})

    assert [[stage.name, *stage.arguments] for stage in made.stages] == stages
    assert (made.source, made.target) == (source, target)


REFUSED = [
    "", " ", "|", "a |", "| a", "a || b", "a && b", "a; b", "a & b", "a `x`", "a $(x)", 'a "$(x)"', 'a "`x`"', "(a)", "a | (b)", "a 2>&1",
    "a >> f", "a << f", "a | b < f", "a > f | b", "a <", "a < f < g", "a 'x", 'a "x', "a\nb", "a \0", "a | | b", "a <(b)",
    " | ".join(["a"] * 21),
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_anything_else_is_a_usage_error(text):
    with pytest.raises(UsageError) as error:
        parsed(text, {})
    assert error.value.hint


@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_characters="\0\n"), max_size=8), min_size=1, max_size=3), min_size=1, max_size=4
    )
)
def test_what_is_quoted_comes_back_as_it_was(words):
    words = [[f"w{piece[0]}", *piece[1:]] for piece in words]
    veiled = dict.fromkeys(range(0xE000, 0xE007))
    words = [[word.translate(veiled) for word in piece] for piece in words]
    text = " | ".join(shlex.join(piece) for piece in words)

    assert [[stage.name, *stage.arguments] for stage in parsed(text, {}).stages] == words


@given(st.text(max_size=60))
def test_no_text_makes_it_stumble(text):
    try:
        made = parsed(text, {})
    except UsageError:
        return
    assert made.stages


FITS = {
    "translator | summarizer": "",
    "text-processor | reviewer": "",
    "reviewer | text-processor": "",
    "clock | translator": "",
    "jq | text-processor": "",
    "reviewer | grader": "",
    "text-processor | grader": "",
    "text-processor < f": "",
    "nope | translator": "nope is not registered (agent-find adopt nope)",
    "translator | grep": "grep is not registered (agent-find adopt grep)",
    "bin/translator | summarizer": "'bin/translator' is no name of an agent (register a path first: agent-find adopt PROGRAM)",
    "A=1 translator": "'A=1' is no name of an agent (register a path first: agent-find adopt PROGRAM)",
    "translator | broken": "broken cannot be run: unhealthy",
    "translator | clock": "clock does not read stdin, so nothing of translator reaches it",
    "clock < f": "clock does not read stdin",
    "painter | translator": "painter writes image/png, translator reads text/plain",
    "lister | grader": "lister writes array, not the object needed for grader",
    "namer | grader": "namer writes no score for grader",
}


@pytest.mark.parametrize("text", FITS)
def test_a_pipeline_fits_or_it_is_said_why_not(text):
    assert verdict(parsed(text, AGENTS)).reason == FITS[text]


def test_a_first_stage_that_needs_input_is_flagged():
    assert verdict(parsed("translator | summarizer", AGENTS)).notes == ("translator needs input: add < FILE or a stage before it",)
    assert verdict(parsed("translator < f | summarizer", AGENTS)).notes == ()
    assert verdict(parsed("text-processor x | summarizer", AGENTS)).notes == ()


def test_a_skill_is_no_stage():
    skill = Candidate("review", kind="skill")

    assert verdict(Pipeline((Stage("review", (), skill),))).reason == "review is a skill, no program"


MEDIA = [
    ("text/plain", "text/plain", True), ("text/plain", "text/markdown", True), ("text/plain", "application/json", True),
    ("text/plain", "image/png", False), ("application/json", "text/plain", False), ("*/*", "image/png", True),
    ("image/*", "image/png", True), ("image/*", "text/plain", False), ("text/plain; charset=utf-8", "TEXT/PLAIN", True),
]  # fmt: skip


@pytest.mark.parametrize(("reader", "written", "fits"), MEDIA)
def test_media_types_fit_when_the_reader_can_read_what_is_written(reader, written, fits):
    made = known(candidate("a", output_media_types=[written]), candidate("b", input_media_types=[reader]))

    assert (verdict(parsed("a | b", made)).reason == "") is fits


SCHEMAS = [
    (None, {"type": "object"}, ""),
    ({"type": "object"}, {"type": "string"}, ""),
    ({"type": "integer"}, {"type": "number"}, ""),
    ({"type": "number"}, {"type": "integer"}, "number, not the integer needed"),
    ({"type": ["object", "null"]}, {"type": "object"}, ""),
    ({"type": "object", "properties": {"a": {"type": "string"}}}, {"type": "object", "required": ["a"]}, ""),
    ({"type": "object", "properties": {}}, {"type": "object", "required": ["a"]}, "no a"),
    ({"type": "object"}, {"type": "object", "required": ["a"]}, ""),
    (
        {"type": "object", "properties": {"a": {"type": "array"}}},
        {"type": "object", "required": ["a"], "properties": {"a": {"type": "object"}}},
        "a as array, not the object needed",
    ),
    ({"type": 7, "properties": []}, {"type": "object", "required": "x"}, ""),
    (True, {"type": "object"}, ""),
]


@pytest.mark.parametrize(("given_", "wanted", "reason"), SCHEMAS)
def test_of_schemas_only_what_both_say_plainly_is_compared(given_, wanted, reason):
    assert lacking(given_, wanted) == reason


def test_each_part_of_a_task_gets_the_agent_that_answers_it_in_the_order_of_the_task():
    pipeline, reason = composed("translate and summarise a document", AGENTS.values(), 2)

    assert reason == ""
    assert pipeline.text() == "translator | summarizer"


def test_an_agent_that_may_do_without_stdin_is_told_what_to_do():
    pipeline, _ = composed("summarise this document, then review the code", AGENTS.values(), 2)

    assert pipeline.text() == "summarizer | reviewer 'review the code'"


def test_names_in_order_are_a_pipeline_of_those():
    pipeline, reason = composed("summarizer translator", AGENTS.values(), 1)

    assert (pipeline.text(), reason) == ("summarizer | translator", "")
    assert composed("translator clock", AGENTS.values())[1].startswith("clock does not read stdin")


def test_a_task_that_nobody_answers_has_no_pipeline():
    assert composed("cook dinner", AGENTS.values()) == (
        None,
        "nothing registered answers that task (agent-find list shows what there is)",
    )
    assert composed("", AGENTS.values())[0] is None
    assert composed("break", AGENTS.values())[0] is None


def test_a_part_that_nobody_answers_is_said_and_falls_to_an_agent_for_everything():
    without, _ = composed("fly to the moon and summarise the document", AGENTS.values())
    everything = {**AGENTS, **known(candidate("helper", "do as you are told", tags=["general"]))}
    made, _ = composed("fly to the moon and summarise the document", everything.values())

    assert (without.text(), without.notes) == ("summarizer", ("no agent is for 'fly to the moon'",))
    assert made.text() == "helper 'fly to the moon' | summarizer"
    assert made.notes == ("no agent is for 'fly to the moon': helper gets it",)
    assert composed("fly to the moon", everything.values())[0] is None


def test_at_most_so_many_stages():
    pipeline, _ = composed("translate, summarise a document and review code", AGENTS.values(), 2)

    assert len(pipeline.stages) == 2


def test_an_order_that_does_not_fit_is_changed_into_one_that_does():
    pipeline, reason = composed("translate a text and tell the time", AGENTS.values())

    assert reason == ""
    assert pipeline.text() == "clock | translator"


def test_where_no_order_fits_it_is_said_why():
    made = known(candidate("clock", "tell the time", "none"), candidate("date", "tell the date", "none"))
    pipeline, reason = composed("tell the time and tell the date", made.values())

    assert pipeline is not None
    assert reason == "date does not read stdin, so nothing of clock reaches it"


@given(st.text(max_size=40))
def test_a_pipeline_that_was_composed_is_one_that_can_be_checked(task):
    pipeline, reason = composed(f"review code {task}", AGENTS.values())
    if pipeline is not None and not reason and "`" not in task and "$(" not in task and "\0" not in task:
        again = parsed(pipeline.text(), AGENTS)

        assert [stage.name for stage in again.stages] == [stage.name for stage in pipeline.stages]
        assert all(not word.startswith("-") for stage in again.stages for word in stage.arguments)


def test_a_graph_has_a_node_a_stage_and_an_edge_between_two():
    made = graph(parsed("translator | summarizer x", AGENTS))

    assert [(node["id"], node["name"], node["args"], node["stdin"]) for node in made["nodes"]] == [
        ("s1", "translator", [], "required"),
        ("s2", "summarizer", ["x"], "required"),
    ]
    assert made["edges"] == [{"from": "s1", "to": "s2"}]


def test_redirections_come_back_in_their_places():
    assert parsed("a < 'in put' | b", {}).text() == "a < 'in put' | b"
    assert compose.Pipeline((Stage("a"),), source="f").text() == "a < f"
