"""The lines that stages of a pipe exchange."""

from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_core import records, taint
from agent_core.agent import RunResult
from agent_core.errors import EXIT_TABLE, AgentError, BadReply, RateLimited, UpstreamError
from agent_core.events import Event
from agent_core.records import Source, Upstream

SOURCE = Source("demo", "1.0", records.child_traceparent(""))
OK = RunResult(0, "final", "the answer", None, 2, "run1", "openai", "m", {"cost_usd": "0.00041", "calls": 1, "input_tokens": 812})


def line_of(result: RunResult, upstream: Upstream | None = None) -> bytes:
    return records.line(records.record("result", SOURCE, records.result_data(result, upstream), id_=result.run_id))


def test_a_result_record_is_valid_by_the_shipped_schema_and_has_the_documented_fields():
    made = json.loads(line_of(OK))

    jsonschema.Draft202012Validator.check_schema(records.schema())
    jsonschema.validate(made, records.schema())
    assert (made["data"]["output"], made["data"]["exit"], made["data"]["usage"]["cost_usd"]) == ("the answer", 0, "0.00041")
    assert made["data"]["content"] == [{"type": "text", "text": "the answer"}]
    assert made["source"] == "agent:demo@1.0"


@pytest.mark.parametrize(
    "error", [AgentError("x"), RateLimited("slow down", retry_after=3.0, http_status=429), BadReply("?", cause="c")]
)
def test_a_failure_record_is_valid_by_the_schema_and_carries_the_error(error):
    made = json.loads(records.line(records.record("result", SOURCE, records.failure_data(error, error.status, "error"))))

    jsonschema.validate(made, records.schema())
    assert made["data"]["error"]["code"] == error.code
    assert made["data"]["error"]["title"] == EXIT_TABLE[error.status]
    assert made["data"]["isError"] is True


@given(st.text(), st.dictionaries(st.text(), st.floats() | st.text()))
def test_any_output_becomes_one_line_of_valid_json(text, structured):
    line = line_of(RunResult(0, "final", text, structured))

    assert line.count(b"\n") == 1
    assert json.loads(line.decode("utf-8"), parse_constant=pytest.fail)["agentpipe"] == "1"


def test_unknown_money_stays_unknown_in_sums():
    assert records.add_money("0.1", "0.2") == "0.3"
    assert records.add_money("0.1", None) is None
    assert records.result_data(OK, Upstream(cost_usd=None, stages=2))["total"] == {"cost_usd": None, "stages": 3}


def test_a_chain_of_stages_adds_up_bill_stages_and_provenance():
    first = records.read(line_of(OK))
    second = records.read(line_of(OK, first))

    assert (second.texts, second.cost_usd, second.stages) == (("the answer",), "0.00082", 2)
    assert [row["ref"] for row in second.provenance] == ["agent:demo@1.0"] * 2
    assert second.traceparent == SOURCE.traceparent


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'\n {"agentpipe":"1","type":"x"}\n', True), (b'{"a":1}\n', False), (b"[1]", False), (b'{"agentpipe":"2"}', False), (b"", False),
        (b'{"x":{"agentpipe":"1"}}', False), (b'{"agentpipe":"1","typ', True), (b'{"x":"agentpipe', False), (b"\xff\xfe", False), (b"{" * 10000 + b'"agentpipe"', False),
    ],
)  # fmt: skip
def test_only_a_first_line_that_says_agentpipe_1_makes_records(body, expected):
    assert records.looks_like_records(body) is expected


def test_a_failed_stage_before_is_status_6_and_names_the_cause():
    body = records.line(records.record("result", SOURCE, records.failure_data(RateLimited("no money"), 75, "error")))

    with pytest.raises(UpstreamError, match="agent:demo@1.0 failed: no money") as caught:
        records.read(body)
    assert (caught.value.status, caught.value.code) == (6, "upstream_failed")


def test_a_stream_without_a_terminal_record_is_truncated():
    delta = records.line(records.record("delta", SOURCE, {"text": "a"}))
    for body in (delta, delta + line_of(OK)[:50]):
        with pytest.raises(UpstreamError) as caught:
            records.read(body)
        assert caught.value.code == "upstream_truncated"


def test_use_partial_takes_what_a_failed_stage_had_and_skip_leaves_it_out():
    partial = {**records.failure_data(AgentError("x"), 4, "max_steps"), "output": "half"}
    body = records.line(records.record("result", SOURCE, partial))

    assert records.read(body, "use-partial").texts == ("half",)
    assert records.read(body + line_of(OK), "skip").texts == ("the answer",)


def test_a_verdict_of_no_is_not_a_failure_of_the_stage():
    assert records.read(line_of(RunResult(3, "final", "problems"))).texts == ("problems",)


def test_items_of_row_mode_are_the_content():
    items = b"".join(
        records.line(records.record("item", SOURCE, records.result_data(RunResult(0, "final", text)))) for text in "ab"
    )

    assert records.read(items + records.line(records.record("result", SOURCE, records.plain_data("")))).texts == ("a", "b")


def test_a_long_answer_goes_to_a_blob_that_the_next_stage_checks_by_its_hash(tmp_path):
    text = "x" * (records.LINE_LIMIT + 1)
    made = records.record("result", SOURCE, records.result_data(RunResult(0, "final", text)))
    line = records.capped(made, str(tmp_path / "blobs"))

    assert len(line) < 10_000
    assert records.read(line).texts == (text,)
    (blob,) = (tmp_path / "blobs").iterdir()
    assert blob.stat().st_mode & 0o777 == 0o600
    blob.write_text("other")
    with pytest.raises(UpstreamError, match="another hash"):
        records.read(line)


def test_a_stage_that_printed_nothing_hands_on_its_structured_content(tmp_path):
    rows = [{"text": "x" * records.LINE_LIMIT}]
    small, empty = (records.line(records.record("result", SOURCE, records.plain_data("", value))) for value in ([{"a": 1}], []))
    large = records.capped(records.record("result", SOURCE, records.plain_data("", rows)), str(tmp_path))

    assert records.read(small).texts == ('[{"a": 1}]',)
    assert records.read(empty).texts == ("",)
    assert json.loads(records.read(large).texts[0]) == rows


def test_whatever_makes_a_line_too_long_goes_to_a_blob_and_the_rest_stays(tmp_path):
    source = records.Source("a", "1", "")
    large = {"text": "x" * records.LINE_LIMIT}
    made = records.record("tool", source, {"phase": "started", "arguments": large})
    data = json.loads(records.capped(made, str(tmp_path)))["data"]

    assert (data["phase"], data["arguments"], data["arguments_blob"]["bytes"]) == ("started", {}, len(json.dumps(large)))
    assert json.loads((tmp_path / data["arguments_blob"]["sha256"]).read_text()) == large
    made = records.record("result", source, {"output": "y" * records.LINE_LIMIT, "structuredContent": {"small": 1}})
    assert json.loads(records.capped(made, str(tmp_path)))["data"]["structuredContent"] == {"small": 1}


def test_a_blob_that_cannot_be_kept_costs_the_line_limit_not_the_answer():
    made = records.record("result", SOURCE, records.result_data(RunResult(0, "final", "x" * records.LINE_LIMIT)))

    assert len(records.capped(made, "/dev/null/nowhere")) > records.LINE_LIMIT


@given(st.binary(max_size=200))
def test_no_rubbish_after_a_good_line_makes_the_reader_fail_otherwise_than_documented(rubbish):
    try:
        records.read(line_of(OK) + rubbish)
    except AgentError as error:
        assert error.status in (6, 65)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(
    st.sampled_from(["type", "data", "output", "total", "cost_usd", "stages", "error", "exit", "provenance", "blob", "usage", "isError"]), inner)
    | st.lists(inner), max_leaves=12))  # fmt: skip
def test_no_shape_of_record_makes_the_reader_fail_otherwise_than_documented(value):
    body = records.line({"agentpipe": "1", "type": "agentpipe.result", "data": value})
    for policy in ("fail", "skip", "use-partial"):
        try:
            records.read(body, policy)
        except AgentError as error:
            assert error.status in (6, 65)


def test_traceparents_keep_the_trace_and_change_the_span():
    parent = records.child_traceparent("")
    child = records.child_traceparent(parent)

    assert child[:36] == parent[:36]
    assert child != parent
    assert records.child_traceparent("00-" + "0" * 32 + "-1-01")[3:35] != "0" * 32


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (Event("run.started", "r", data={"agent": "a"}), "started"), (Event("delta", "r", data={"text": "x"}), "delta"),
        (Event("delta", "r", data={"thought": "x"}), "thought"), (Event("tool.started", "r", data={"name": "n"}), "tool"),
        (Event("node.started", "r", data={"node": "n"}), "progress"), (Event("step.planned", "r", data={"steps": []}), "progress"),
        (Event("call.finished", "r", data={"agent": "a", "wall_ms": 3.0}), "progress"),
        (Event("notice", "r", data={"text": "n"}), "notice"), (Event("model.failed", "r", data={"error": {"message": "m"}}), "notice"),
    ],
)  # fmt: skip
def test_events_become_records_of_the_documented_types(event, kind):
    made = records.of_event(event)

    assert made is not None
    assert made[0] == kind in records.TYPES


def test_what_is_private_stays_known_however_much_else_is_said(tmp_path):
    rows = [{"ref": f"file:{number:0>60}", "trust": "untrusted"} for number in range(800)]
    rows.append({"ref": "run:x", "trust": "untrusted", "labels": ["private"]})
    data = {**records.plain_data("x" * records.LINE_LIMIT), "provenance": rows}
    long = records.capped(records.record("result", SOURCE, data), str(tmp_path))
    short = records.line(records.record("result", SOURCE, {**data, "output": "x"}))
    one = records.line(records.record("item", SOURCE, {"output": "x", "provenance": rows[-1:]}))
    end = records.line(records.record("result", SOURCE, records.plain_data("")))

    for body in (long, short, one + end):
        assert taint.of_sources(records.read(body).provenance) == {"private", "untrusted"}
    assert taint.of_sources(records.read(end).provenance) == {"untrusted"}
