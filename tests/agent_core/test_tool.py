"""Tools: schema and checks from a typed function, as pydantic would have them; results as text."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_core import signature
from agent_core.errors import ConfigError, InputError
from agent_core.policy import Policy
from agent_core.tool import ArgumentProblem, Context, Need, Tool, ToolError, Toolset, cap, external, failure, render, tool


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(pydantic.BaseModel):
    street: str
    title: str = "Dr"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@tool
def weather(city: str, days: int = 1, unit: Literal["c", "f"] = "c") -> dict[str, Any]:
    """Tell the weather of a city.

    Reads nothing.

    Args:
        city: the city's name,
            as people write it.
        days (int): how many days: one or more.
        unit: Celsius or Fahrenheit.

    Returns:
        A forecast.
    """
    return {"city": city, "days": days, "unit": unit}


def test_name_description_and_schema_come_from_the_function():
    assert (weather.name, weather.description) == ("weather", "Tell the weather of a city.\n\nReads nothing.")
    assert weather.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "the city's name, as people write it."},
            "days": {"type": "integer", "default": 1, "description": "how many days: one or more."},
            "unit": {"type": "string", "enum": ["c", "f"], "default": "c", "description": "Celsius or Fahrenheit."},
        },
        "required": ["city"],
    }
    assert weather("Rome")["city"] == "Rome"


PLAIN = [
    str, int, float, bool, None, Any, list, dict, list[str], list[int], list[float], list[list[bool]], dict[str, int], dict[str, Any],
    dict[str, list[float]], str | None, Optional[int], Union[int, str], int | float, float | None, bool | str | None, list[str] | None,  # noqa: UP007, UP045
    Literal["a"], Literal["a", "b"], Literal[1, 2], Literal[1, "a"], Literal[True], Literal["a", None], Literal["x"] | int,  # noqa: PYI061
    list[Literal["a", "b"]], dict[str, str | None], Annotated[str, "a note"], list[Any], dict[str, str] | list[int],
]  # fmt: skip
RICH = [
    Colour,
    Address,
    Point,
    date,
    Path,
    Annotated[int, pydantic.Field(ge=1, description="from one")],
    list[Address],
    tuple[int, str],
    set[int],
]


@pytest.mark.parametrize("annotation", PLAIN, ids=repr)
@pytest.mark.parametrize("default", [signature.MISSING, None, 3, 2.5, "x", True, []], ids=repr)
def test_the_plain_schema_is_the_one_that_pydantic_gives(annotation, default):
    parameters = (signature.Parameter("title", annotation, default, "what"), signature.Parameter("schema", annotation, default))

    found = signature.plain_schema(parameters)

    expected = signature.untitled(signature.pydantic_model(parameters).model_json_schema())
    assert found == expected or (found is None and signature.plain(annotation) is None)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=6)
    | st.sampled_from(["a", "b", "1", "1.5"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
MODELS = [
    (annotation, signature.plain(annotation), signature.pydantic_model((signature.Parameter("it", annotation),)))
    for annotation in PLAIN
    if signature.plain(annotation) is not None
]


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(MODELS), json_values)
def test_what_the_fast_check_accepts_is_exactly_what_pydantic_makes_of_it(case, value):
    _, schema, model = case

    found = signature.fit(value, schema)

    if found is not signature.MISFIT:
        expected = model.model_validate({"it": value}).p0
        assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("annotation", RICH, ids=repr)
def test_rich_annotations_go_through_pydantic_and_lose_their_titles(annotation):
    def use(it):
        """Use it."""

    use.__annotations__ = {"it": annotation}
    made = tool(use)

    assert '"title":' not in json.dumps(made.parameters).replace('"title": {', "")
    assert made.parameters["required"] == ["it"]


def test_models_dataclasses_and_enums_arrive_as_themselves():
    @tool
    def use(who: Address, at: Point, colour: Colour = Colour.RED, when: date | None = None):
        return [who, at, colour, when]

    bound = use.bind({"who": {"street": "Elm"}, "at": {"x": "3"}, "when": "2026-01-02"})

    assert bound == {"who": Address(street="Elm"), "at": Point(3), "colour": Colour.RED, "when": date(2026, 1, 2)}
    assert use.parameters["properties"]["who"] == {"$ref": "#/$defs/Address"}
    assert set(use.parameters["$defs"]["Address"]["properties"]) == {"street", "title"}


def test_constraints_and_descriptions_of_fields_hold():
    @tool
    def use(count: Annotated[int, pydantic.Field(ge=1, description="from one")], size: int = pydantic.Field(5, le=9)):
        """Use.

        Args:
            count: not this text.
            size: how large.
        """
        return count

    assert use.parameters["properties"]["count"] == {"type": "integer", "minimum": 1, "description": "from one"}
    assert use.parameters["properties"]["size"] == {"type": "integer", "maximum": 9, "default": 5, "description": "how large."}
    assert use.parameters["required"] == ["count"]
    assert use.bind({"count": 1}) == {"count": 1, "size": 5}
    with pytest.raises(ArgumentProblem) as caught:
        use.bind({"count": 0, "size": 10})
    assert len(caught.value.problems) == 2


def test_types_of_the_surrounding_function_are_found():
    class Local(pydantic.BaseModel):
        n: int

    @tool
    def use(it: Local) -> Local:
        return it

    assert use.bind({"it": {"n": 1}})["it"] == Local(n=1)
    assert use.output == {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def test_all_wrong_arguments_are_reported_at_once_and_unknown_ones_only_noted():
    with pytest.raises(ArgumentProblem) as caught:
        weather.bind({"days": "many", "unit": "kelvin", "town": "Rome"})

    problem = caught.value
    assert isinstance(problem, InputError)
    assert [line.partition(":")[0] for line in problem.problems] == ["city", "days", "unit", "town"]
    assert 'got "many"' in str(problem)
    assert "city, days?, unit?" in problem.hint

    bound = weather.bind({"city": "Rome", "daya": 3})
    assert bound == {"city": "Rome", "days": 1, "unit": "c"}
    assert bound.notes == ("daya: ignored, there is no such parameter (did you mean days?)",)


def test_numbers_sent_as_text_are_read_as_pydantic_reads_them():
    assert weather.bind({"city": "Rome", "days": "3"})["days"] == 3


@pytest.mark.parametrize("text", ["\ud800", "a\udfff"])
def test_broken_characters_are_no_text(text):
    with pytest.raises(ArgumentProblem):
        weather.bind({"city": text})


def test_a_path_with_a_nul_byte_is_refused():
    @tool(needs={"file-read": "paths"})
    def use(paths: list[str]):
        return paths

    assert use.bind({"paths": ["a"]}) == {"paths": ["a"]}
    with pytest.raises(ArgumentProblem, match="NUL"):
        use.bind({"paths": ["a", "b\0c"]})


def test_default_lists_are_not_shared_between_calls():
    @tool
    def use(items: list[str] = []):  # noqa: B006 - what users write
        return items

    use.bind({})["items"].append("x")

    assert use.bind({}) == {"items": []}


def test_the_context_is_no_parameter_and_knows_only_what_the_tool_declared(tmp_path):
    @tool(needs={"file-read": "path"})
    def size(path: str, context: Context) -> int:
        return len(context.open_read(path))

    @tool
    async def sneaky(path: str, context: Context) -> int:
        return len(context.open_read(path))

    (tmp_path / "a").write_text("four")
    context = Context(Policy.of(["file-read:."], workspace=str(tmp_path)), str(tmp_path))

    assert (size.wants_context, size.context_name, list(size.parameters["properties"])) == (True, "context", ["path"])
    assert size.function(path="a", context=context) == 4
    with pytest.raises(ToolError, match="did not declare file-read"):
        asyncio.run(sneaky.function(path="a", context=context))


def test_needs_keep_their_parameter_and_aliases_are_spelled_out():
    @tool(needs={"net": "url", "Database_Read": None, "shell": "context"}, timeout=3, exclusive=True, name="other")
    def use(url: str, context: Context):
        return url

    assert use.needs == (Need("network", "url"), Need("database-read"), Need("shell", None, checked=True))
    assert (use.name, use.timeout, use.exclusive) == ("other", 3, True)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("Rome", {"city": "Rome"}), ('{"city": "Rome", "days": 2}', {"city": "Rome", "days": 2}), ("3", {"city": "3"}), ('["x"]', {"city": '["x"]'}),
        ("{not json", {"city": "{not json"}), ("", {"city": ""}), ("[" * 100_000, {"city": "[" * 100_000}), ("NaN", {"city": "NaN"}),
    ],
)  # fmt: skip
def test_a_bare_text_fills_the_sole_required_parameter(text, arguments):
    assert weather.from_text(text) == arguments


def test_a_bare_text_is_converted_to_the_parameters_type():
    @tool
    def double(number: float, items: list[int] | None = None):
        return number

    @tool
    def keys(data: dict[str, Any]):
        return list(data)

    assert double.bind(double.from_text(" 21\n"))["number"] == 21.0
    assert keys.from_text('{"a": 1}') == {"data": {"a": 1}}
    assert keys.from_text('{"data": {"a": 1}}') == {"data": {"a": 1}}
    with pytest.raises(ArgumentProblem, match="number"):
        double.bind(double.from_text("lots"))


def test_a_bare_text_for_several_required_parameters_names_them():
    @tool
    def add(left: int, right: int):
        return left + right

    with pytest.raises(ArgumentProblem, match="left and right"):
        add.from_text("1 2")
    assert add.from_text('{"left": 1, "right": 2}') == {"left": 1, "right": 2}


def test_results_are_text_or_json():
    value = {
        "who": Address(street="Elm"),
        "at": Point(1),
        "c": Colour.RED,
        "on": date(2026, 1, 2),
        "s": {2, 1},
        "p": Path("a"),
        "n": float("nan"),
    }

    text, plain = render(value)

    assert json.loads(text) == plain == {
        "who": {"street": "Elm", "title": "Dr"}, "at": {"x": 1, "y": 0}, "c": "red", "on": "2026-01-02", "s": [1, 2], "p": "a", "n": "nan",
    }  # fmt: skip
    assert render("as it is") == ("as it is", "as it is")
    assert render(3) == ("3", 3)
    assert render(None)[0] == "null"
    assert render(b"\xffab")[1] == "\ufffdab"


@given(st.text(max_size=400), st.integers(210, 600))
def test_a_capped_text_stays_within_its_limit_in_bytes(text, limit):
    found = cap(text, limit)

    assert found == text or len(found.encode("utf-8", "replace")) <= limit
    assert found == text or "bytes left out" in found


def test_a_capped_text_points_to_the_whole():
    kept = []
    assert "all of it is in /x" in cap("é" * 50_000, keep=lambda data: kept.append(data) or "/x")
    assert kept == [("é" * 50_000).encode()]


def test_a_toolset_finds_by_name_and_suggests():
    tools = Toolset((weather, tool(len_of)))

    assert tools.get("weather") is weather
    assert tools.get("nope") is None
    assert tools.nearest("wether") == ["weather"]
    assert [each.name for each in tools] == ["weather", "len_of"]
    with pytest.raises(ConfigError, match="two tools"):
        Toolset((weather, dataclasses.replace(weather)))


def len_of(text: str) -> int:
    return len(text)


def test_functions_that_no_model_can_call_are_refused():
    for function in (lambda *things: things, lambda **things: things, eval("lambda x, /: x")):  # noqa: S307 - a literal
        with pytest.raises(TypeError):
            _ = tool(function).parameters


def test_an_external_tool_brings_its_schema_and_is_checked_loosely():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "m": {"enum": ["a"], "type": "string"}}, "required": ["n"]}
    made = external("far", "Far away.", schema, lambda **arguments: arguments)

    assert made.parameters is schema
    assert made.bind({"n": 3, "z": 1}) == {"n": 3}
    with pytest.raises(ArgumentProblem) as caught:
        made.bind({"m": "b"})
    assert len(caught.value.problems) == 2


def test_failures_have_a_kind():
    assert failure(ToolError("gone", "not_found")) == ("not_found", "gone")
    assert failure(FileNotFoundError("x"))[0] == "not_found"
    assert failure(TimeoutError("x"))[0] == "transient"
    assert failure(ArgumentProblem("t", ["x: missing"]))[0] == "invalid"
    assert failure(KeyError("x")) == ("permanent", "KeyError: 'x'")


def test_secrets_are_only_for_the_tool_that_declares_them():
    @tool(secrets=("MY_KEY",))
    def use(context: Context) -> str:
        return context.secret("MY_KEY") + context.secret("OTHER_KEY")

    policy = Policy.of([])
    context = Context(policy, environ={"MY_KEY": "a", "OTHER_KEY": "b"}, tool=use)

    assert context.secret("MY_KEY") == "a"
    with pytest.raises(ToolError, match="did not declare"):
        use.function(context=context)
    with pytest.raises(ToolError, match="--deny"):
        dataclasses.replace(context, policy=Policy.of([], ["secret:MY_KEY"])).secret("MY_KEY")


def test_settings_come_from_flags_and_tables():
    context = Context(Policy(), settings={"a": 1, "search": {"engine": "brave"}, "search.url": "x"})

    assert [context.setting(name) for name in ("a", "search.engine", "search.url", "b.c")] == [1, "brave", "x", None]


def test_importing_and_defining_a_plain_tool_loads_neither_pydantic_nor_asyncio():
    code = (
        "import sys; from agent_core.tool import tool\n"
        "@tool\ndef f(a: int, b: str = 'x') -> str:\n    'Do.'\n    return b * a\n"
        "assert f.parameters['required'] == ['a'] and f.bind({'a': 2}) == {'a': 2, 'b': 'x'}\n"
        "bad = {'pydantic', 'asyncio', 'httpx', 'ctypes', 'typer', 'sqlite3'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30, cwd=Path(__file__).parents[2])


def test_a_tool_stays_callable_and_names_itself():
    assert isinstance(weather, Tool)
    assert repr(weather) == "Tool(weather)"
