"""htn - the planner: which methods are chosen, what is bound, what is refused; the file's form; the pattern."""

import json
import random
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis.strategies import builds, dictionaries, lists, sampled_from, text
from single_mind import kinds, request, run, survives, task

from agent_core.errors import ConfigError, InputError, LimitError, MissingInput, UsageError
from agent_core.messages import ToolCall
from agent_core.play import play
from agent_core.task import Answer
from agent_patterns import tables
from agent_patterns.expansion import expand
from agent_patterns.htn import htn
from agent_patterns.methods import Domain, Method, Primitive, domain, load, problems
from agent_patterns.steps import Step

PUBLIC = Method("Research", ["Search", "Filings", "Sum"], {"kind": "public"})
ANY = Method("Research", ["Search", "Sum"])
LEAVES = [
    Primitive("Search", "web_search", {"query": "{company} overview"}),
    Primitive("Filings", "filings"),
    Primitive("Sum", "sum"),
]
RESEARCH = """\
[[method]]
task = "Research"
preconditions = { kind = "public" }
subtasks = ["Search", "Filings"]

[[method]]
task = "Research"
subtasks = ["Search"]

[[primitive]]
task = "Search"
tool = "double"
arguments = { number = 4 }

[[primitive]]
task = "Filings"
prompt = "Read the filings of {company}."
"""


def tools_of(rows):
    return [row.tool for row in rows]


def chained(levels, leaf="P"):
    """Return a domain in which T0 takes `levels` levels to its only step."""
    names = [f"T{n}" for n in range(levels)]
    return Domain([Method(name, [after]) for name, after in zip(names, [*names[1:], leaf], strict=True)], [Primitive(leaf, "p")])


# --- the planner


@pytest.mark.parametrize("order", [[PUBLIC, ANY], [ANY, PUBLIC]])
@pytest.mark.parametrize(
    ("world", "expected"),
    [
        ({"kind": "public"}, ["web_search", "filings", "sum"]),
        ({"kind": "private"}, ["web_search", "sum"]),
        ({}, ["web_search", "sum"]),
    ],
)
def test_the_most_specific_method_that_fits_the_world_wins_in_either_file_order(order, world, expected):
    assert tools_of(expand("Research", Domain(order, LEAVES), {"company": "ACME", **world})) == expected


def test_any_order_of_the_file_gives_the_same_plan():
    methods = [Method("A", [f"P{n}"], {"x": "1", f"y{n}": "1"}) for n in range(6)] + [
        Method("A", ["P9"], {"x": "1"}, "b"),
        Method("A", ["P8"], {"x": "1"}, "a"),
    ]
    leaves = [Primitive(f"P{n}", f"t{n}") for n in range(10)]
    world = {"x": "1", "y3": "1", "y4": "1"}
    plans = set()
    for seed in range(20):
        random.Random(seed).shuffle(methods)
        plans.add(tuple(tools_of(expand("A", Domain(list(methods), leaves), world))))

    assert plans == {("t3",)}


def test_depth_counts_from_the_task_and_arguments_are_bound_from_the_world():
    nested = Domain([Method("A", ["B", "Sum"]), Method("B", ["Search"])], LEAVES)

    rows = expand("A", nested, {"company": "ACME"})

    assert [row.data() for row in rows] == [
        {"depth": 2, "task": "Search", "tool": "web_search", "arguments": {"query": "ACME overview"}},
        {"depth": 1, "task": "Sum", "tool": "sum", "arguments": {}},
    ]


def test_a_primitive_alone_is_a_plan_of_one_step_at_depth_0():
    assert [row.depth for row in expand("Sum", Domain([], LEAVES), {})] == [0]


def test_a_method_whose_subtasks_cannot_be_expanded_gives_way_to_the_next():
    blocked = Method("Inner", ["Sum"], {"key": "here"})
    known = Domain([Method("A", ["Sum", "Inner"], {"x": "1"}), Method("A", ["Sum"]), blocked], LEAVES)

    assert tools_of(expand("A", known, {"x": "1"})) == ["sum"]
    assert tools_of(expand("A", known, {"x": "1", "key": "here"})) == ["sum", "sum"]


def test_backtracking_goes_through_several_levels():
    known = Domain(
        [
            Method("A", ["B"], {"x": "1"}),
            Method("A", ["Sum", "Sum"]),
            Method("B", ["C"], {"x": "1"}),
            Method("B", ["C", "C"]),
            Method("C", ["Sum"], {"no": "1"}),
        ],
        LEAVES,
    )

    assert tools_of(expand("A", known, {"x": "1"})) == ["sum", "sum"]


def test_a_method_without_subtasks_means_that_nothing_is_to_do():
    known = Domain([Method("A", [], {"cached": True}), Method("A", ["Sum"])], LEAVES)

    assert expand("A", known, {"cached": "true"}) == []
    assert tools_of(expand("A", known, {})) == ["sum"]


def test_the_world_of_the_file_holds_unless_the_command_line_says_otherwise():
    known = Domain([PUBLIC, ANY], LEAVES, {"kind": "public", "company": "ACME"})

    assert len(expand("Research", known, {})) == 3
    assert len(expand("Research", known, {"kind": "private"})) == 2


@pytest.mark.parametrize(("value", "said"), [(True, "true"), (3, "3"), (1.5, "1.5"), ("x", "x")])
def test_numbers_and_truth_in_a_file_equal_their_words_on_the_command_line(value, said):
    known = Domain([Method("A", ["Sum"], {"v": value})], LEAVES)

    assert len(expand("A", known, {"v": said})) == 1


def test_no_fitting_method_is_an_error_that_names_what_methods_look_at():
    with pytest.raises(ConfigError) as caught:
        expand("Research", Domain([PUBLIC], LEAVES), {"kind": "private"})

    assert caught.value.line() == "no method of Research fits the world kind=private (methods look at kind: --world kind=…)"


def test_a_placeholder_without_a_value_is_an_error_and_no_reason_to_try_another_method():
    with pytest.raises(ConfigError, match="Search needs company"):
        expand("Research", Domain([PUBLIC, Method("Research", ["Sum"])], LEAVES), {"kind": "public"})


def test_placeholders_are_filled_in_nested_values_once_and_braces_stay():
    known = Domain([], [Primitive("P", "t", {"a": ["{x}", {"b": "{x}{x}"}], "n": 3, "json": '{"k": {{x}}}'})])

    assert expand("P", known, {"x": "{y}"})[0].arguments == {"a": ["{y}", {"b": "{y}{y}"}], "n": 3, "json": '{"k": {x}}'}


def test_an_unknown_task_is_told_with_the_nearest():
    with pytest.raises(UsageError) as caught:
        expand("Reserch", Domain([PUBLIC], LEAVES), {})

    assert "Research" in caught.value.hint


def test_depth_16_is_the_last_and_17_is_refused():
    assert expand("T0", chained(16), {})[0].depth == 16
    with pytest.raises(LimitError, match="deeper than 16") as caught:
        expand("T0", chained(17), {})
    assert caught.value.status == 4


def test_depth_is_refused_also_where_a_subtask_was_expanded_before_at_a_lesser_depth():
    known = chained(16)
    known.method[:0] = [Method("Root", ["T1", "T0", "Deep"]), Method("Deep", ["T1"])]

    with pytest.raises(LimitError):
        expand("Root", known, {})


def test_a_task_that_is_a_part_of_itself_is_refused():
    with pytest.raises(LimitError, match="deeper than 16 levels"):
        expand("A", Domain([Method("A", ["B"]), Method("B", ["A"])], []), {})


def test_256_steps_are_the_most_and_257_are_refused():
    assert len(expand("A", Domain([Method("A", ["Sum"] * 256)], LEAVES), {})) == 256
    with pytest.raises(LimitError, match="more than 256"):
        expand("A", Domain([Method("A", ["Sum"] * 257)], LEAVES), {})


def test_limits_can_be_set():
    with pytest.raises(LimitError):
        expand("T0", chained(4), {}, max_depth=3)
    with pytest.raises(LimitError):
        expand("A", Domain([Method("A", ["Sum"] * 3)], LEAVES), {}, max_steps=2)


@pytest.mark.parametrize("width", [2, 1000])
def test_methods_that_multiply_without_steps_or_never_fit_take_no_time(width):
    names = [f"T{n}" for n in range(16)]
    empty = Domain(
        [Method(name, [after] * width) for name, after in zip(names, [*names[1:], "End"], strict=True)] + [Method("End", [])]
    )
    never = Domain(
        [Method(name, [after], {}, str(n)) for name, after in zip(names, [*names[1:], "End"], strict=True) for n in range(width)]
        + [Method("End", ["T0"], {"no": "1"})]
    )
    began = time.monotonic()

    assert expand("T0", empty, {}) == []
    with pytest.raises(ConfigError):
        expand("T0", never, {})
    assert time.monotonic() - began < 2


# --- the file


def test_a_methods_file_is_data_that_can_be_recorded(tmp_path):
    (tmp_path / "m.toml").write_text(RESEARCH)

    data = load(str(tmp_path / "m.toml"))

    assert json.loads(json.dumps(data)) == data
    assert len(domain(data).method) == 2


@pytest.mark.parametrize(
    ("change", "line", "said"),
    [
        (('"Filings"]', '"Filing"]'), 4, "no task 'Filing' (did you mean Filings?)"),
        (('tool = "double"', 'tol = "double"'), 12, "primitive[1].tol: is no known key"),
        (("number = 4 }", "number = 4 "), 13, "not TOML"),
        (('subtasks = ["Search"]', 'subtasks = "Search"'), 8, "valid array"),
        (('task = "Filings"', 'task = "Search"'), 16, "Search is declared twice"),
        (('prompt = "Read', 'description = "Read'), 16, "Filings needs a tool or a prompt"),
        (('task = "Filings"\n', ""), 15, "primitive[2].task: is missing"),
        (('kind = "public"', "kind = []"), 3, "preconditions"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(tmp_path, change, line, said):
    path = tmp_path / "m.toml"
    path.write_text(RESEARCH.replace(*change, 1))

    with pytest.raises(InputError) as caught:
        load(str(path))

    assert f"{path}:{line}: " in str(caught.value)
    assert said in str(caught.value)


def test_all_problems_are_told_at_once_the_first_five_in_full(tmp_path):
    path = tmp_path / "m.toml"
    path.write_text("".join(f'[[method]]\ntask = "A{n}"\nsubtasks = ["no{n}"]\n' for n in range(7)))

    with pytest.raises(InputError) as caught:
        load(str(path))

    assert str(caught.value).count(f"{path}:") == 5
    assert "and 2 more" in str(caught.value)


def test_a_header_in_a_text_of_several_lines_is_no_table(tmp_path):
    path = tmp_path / "m.toml"
    path.write_text('[[primitive]]\ntask = "A"\nprompt = """\n[[primitive]]\ntask = 3\n"""\n[[primitive]]\ntask = 4\n')

    with pytest.raises(InputError, match=":8: "):
        load(str(path))


@pytest.mark.parametrize(
    "raw", [b"\xff\xfe", b"", b"x" * (1024 * 1024 + 1), b"a = " + b"[" * 100_000], ids=["bytes", "empty", "large", "deep"]
)
def test_what_is_no_methods_file_is_an_error_of_its_own(tmp_path, raw):
    (tmp_path / "m.toml").write_bytes(raw)

    with pytest.raises(InputError):
        load(str(tmp_path / "m.toml"))


def test_a_file_that_is_not_there_is_missing_input():
    with pytest.raises(MissingInput):
        load("/nowhere/m.toml")


@given(text(alphabet="[]=.\"\n#ab' {}1,"))
def test_any_text_is_a_methods_file_or_an_error_with_a_line(words):
    with suppress(InputError):
        for place in tables.problems(tables.parse("f", words), Domain, problems):
            assert 1 <= tables.line(words, place.at) <= words.count("\n") + 1


NAMES = sampled_from("ABCDEF")
METHODS = lists(
    builds(Method, NAMES, lists(NAMES, max_size=3), dictionaries(sampled_from("xy"), sampled_from("12"), max_size=2)), max_size=8
)


@given(METHODS, dictionaries(sampled_from("xy"), sampled_from("12")))
def test_a_plan_does_not_depend_on_the_order_of_the_file(methods, world):
    leaves = [Primitive(name, name.lower()) for name in "DEF"]
    inner = [method for method in methods if method.task in "ABC"] + [Method(name, ["D"], {"x": "1"}) for name in "ABC"]

    def outcome(order):
        try:
            return expand("A", Domain(order, leaves), world)
        except (LimitError, ConfigError) as error:
            return type(error)

    assert outcome(inner) == outcome(inner[::-1])


# --- the pattern

KNOWN = Domain(
    [Method("Research", ["Search", "Filings"])],
    [Primitive("Search", "double", {"number": 4}), Primitive("Filings", prompt="Read the filings of {company}.")],
)


def test_a_tool_step_is_one_call_of_the_tool_and_asks_no_model():
    pattern = htn(task("Search"), KNOWN)
    done = Step("1", "Search", "double", state="completed", output="8")

    played = play(pattern, [None, done])
    ran = survives(lambda: htn(task("Search"), KNOWN), lambda _ask: "unused")

    assert kinds(played) == ["Note", "generator"]
    assert (played.text, played.value.status) == ("8", 0)
    assert (ran.value, ran.asked) == (Answer("8", {"steps": ran.value.value["steps"], "counts": ran.value.value["counts"]}), [])


def test_a_step_with_a_prompt_runs_in_a_loop_and_sees_the_results_before():
    def answer(ask):
        return [ToolCall("c", "double", {"number": 1})] if len(ask.messages) == 2 else "read"

    ran = survives(lambda: htn(task("Research", options={"world": ("company=ACME",)}), KNOWN), answer)

    assert "Read the filings of ACME." in request(ran.asked[0])
    assert "result of step 1" in request(ran.asked[0])
    assert (ran.value.text, ran.value.status, len(ran.asked)) == ("read", 0, 2)


def test_a_failed_step_ends_it_with_status_4_and_what_there_is():
    known = Domain(
        [Method("A", ["Good", "Bad", "Good"])],
        [Primitive("Good", "double", {"number": 4}), Primitive("Bad", "broken", {"text": "go"})],
    )

    ran = survives(lambda: htn(task("A"), known), lambda _ask: "unused")
    going = survives(lambda: htn(task("A", options={"keep_going": True}), known), lambda _ask: "unused")

    assert [step["state"] for step in ran.value.value["steps"]] == ["completed", "failed", "skipped"]
    assert [step["state"] for step in going.value.value["steps"]] == ["completed", "failed", "completed"]
    assert (ran.value.text, ran.value.status, going.value.status) == ("8", 4, 4)


def test_the_pattern_without_methods_or_task_says_what_is_missing():
    with pytest.raises(UsageError, match="needs methods"):
        run(htn(task("A")), lambda _ask: "")
    with pytest.raises(InputError, match="no task"):
        run(htn(task(" "), KNOWN), lambda _ask: "")


def test_over_the_wire_a_step_with_a_prompt_is_the_only_request_and_a_replay_needs_no_file(run_agent, start_fake_api, tmp_path):
    api = start_fake_api("--per", "server")
    api.script("read them")
    file = tmp_path / "m.toml"
    file.write_text(RESEARCH.replace('"double"', '"calc"').replace("number = 4", 'expression = "6 * 7"'))
    flags = (
        "--pattern",
        "htn",
        "--methods",
        str(file),
        "--world",
        "kind=public",
        "--world",
        "company=ACME",
        "--provider",
        "openai",
        "--model",
        "m",
        "--json",
    )

    done = run_agent("assistant", "Research", *flags, env=api.env())
    file.unlink()
    again = run_agent("assistant", "--replay", "last", "--json")

    data = json.loads(done.stdout)["data"]
    assert (done.returncode, data["output"], data["usage"]["calls"]) == (0, "read them", 1)
    assert data["structuredContent"]["steps"][0]["output"] == "42"
    assert again.stdout == done.stdout
