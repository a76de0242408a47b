"""The text tools, the clock and the list of common tools."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from agent_core.errors import UsageError
from agent_core.tool import ToolError, Toolset
from agent_plugins import tools
from agent_plugins.tools.now import now


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [
        ("echo", ("as it\tis\n",), "as it\tis\n"), ("uppercase", ("hello pipes",), "HELLO PIPES"), ("lowercase", ("ÄB",), "äb"), ("titlecase", ("it's a dog",), "It's A Dog"), ("reverse", ("abc\n",), "cba\n"),
        ("reverse", ("abc",), "cba"), ("wordcount", ("a b c",), 3), ("wordcount", ("",), 0), ("linecount", ("a\nb",), 2), ("charcount", ("äb\n",), 3),
        ("replace", ("a-b-c", "-", "+"), "a+b+c"), ("replace", ("abc", "", "x"), "abc"), ("sort_lines", ("b\na\n",), "a\nb\n"),
        ("unique_lines", ("b\na\nb",), "b\na"), ("reverse_lines", ("1\n2\n",), "2\n1\n"), ("trim", ("\n\n a  \nb \n\n",), " a\nb"),
        ("squeeze", ("a   b\n\n\n\nc",), "a b\n\nc"), ("number_lines", ("a\nb",), "   1  a\n   2  b"),
    ],
)  # fmt: skip
def test_each_text_tool_does_what_it_says(name, arguments, result):
    (found,) = tools.find(name)

    assert found(*arguments) == result
    assert found.read_only
    assert found.needs == ()


def test_now_is_utc_with_a_z_or_a_named_zone():
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", now())
    assert abs(datetime.fromisoformat(now()) - datetime.now(UTC)).total_seconds() < 5
    assert now("Asia/Kolkata").endswith("+05:30")
    for zone in ("Europe/Berlim", "../../etc/passwd", "\0", "x" * 5000, "/etc/localtime"):
        with pytest.raises(ToolError):
            now(zone)


def test_all_common_tools_load_with_schema_and_manual_and_only_pure_ones_need_nothing():
    found = tools.load()

    assert len(Toolset(tuple(found))) == len(found)
    for each in found:
        assert each.description
        assert each.parameters["type"] == "object"
        assert (
            all(value.get("description") for value in each.parameters["properties"].values())
            or len(each.parameters["properties"]) == 1
        )
        assert each.needs or each.read_only
    assert [each.name for each in tools.load("calc", "now")] == ["calc", "now"]
    with pytest.raises(UsageError, match="cacl"):
        tools.load("cacl")
    with pytest.raises(UsageError) as caught:
        tools.find("file_raed")
    assert "file_read" in caught.value.hint
