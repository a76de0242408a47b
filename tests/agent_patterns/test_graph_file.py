"""graph_file, graph_forms, graph_shape - what a file may say, what is wrong with one and in which line, its numbers, its picture."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_core.errors import AgentError, InputError, MissingInput
from agent_patterns.graph_file import line_of, load
from agent_patterns.graph_shape import counts, dot, summary
from agent_patterns.graph_tables import Known

TOOLS = {
    "calc": {"properties": {"expression": {}}, "required": ["expression"]},
    "linter": {"properties": {"code": {}, "filename": {}}, "required": ["code"]},
}
KNOWN = Known(TOOLS, lambda name: {"peer": "peer", "https://x.example": "peer", "critic": "mind"}.get(name, ""))


def read_from(texts):
    def read(path):
        if path not in texts:
            raise MissingInput(f"cannot read {path}: No such file or directory")
        return texts[path]

    return read


def plan(text, process="", **files):
    return load("g.toml", read_from({"g.toml": text, **{f"{name}.toml": each for name, each in files.items()}}), KNOWN, process)


def problems(text, process="", **files):
    """Return what is wrong with a file, as a list of (line, what)."""
    with pytest.raises(InputError) as told:
        plan(text, process, **files)
    found = re.findall(r"g\.toml:(\d+): (.*?)(?=; g\.toml:\d+: |$)", str(told.value))
    return [(int(line), what) for line, what in found]


# --- numbers

CONTENT = """\
[nodes.research]
agent = "peer"
next = "writing"
[nodes.writing]
agent = "peer"
max_visits = 3
next = "review"
[nodes.review]
agent = "peer"
next = [{ to = "published", when = "review:approved" }, { to = "revision" }]
[nodes.revision]
agent = "peer"
next = "writing"
[nodes.published]
final = true
"""


def test_the_numbers_of_a_graph():
    assert summary(plan(CONTENT)) == "ok: 5 nodes, 5 edges, 1 cycle (max_visits 3)"
    assert counts(plan(CONTENT)) == {"nodes": 5, "edges": 5, "cycles": 1, "max_visits": [3]}
    assert summary(plan('[nodes.a]\nagent = "peer"')) == "ok: 1 node, 0 edges"


def test_two_loops_that_share_nodes_are_two_cycles():
    inner = CONTENT.replace("[nodes.published]\nfinal", '[nodes.published]\nnext = "research"\nmax_visits = 2\nfinal').replace(
        "\nfinal = true", ""
    )

    assert summary(plan(inner)) == "ok: 5 nodes, 6 edges, 2 cycles (max_visits 2, 3)"


# --- what is wrong, and where


def test_a_cycle_without_max_visits_is_refused():
    assert problems(CONTENT.replace("max_visits = 3\n", "")) == [
        (6, 'node "writing": a cycle without max_visits: writing → review → revision → writing (give one of them max_visits = N)')
    ]


def test_a_node_that_leads_to_itself_is_a_cycle():
    assert problems('[nodes.a]\nagent = "peer"\nnext = [{ to = "a", when = "on_failure" }]')[0][0] == 3


def test_one_bounded_cycle_does_not_excuse_another():
    text = CONTENT.replace(
        "[nodes.published]\nfinal = true", '[nodes.published]\nnext = "again"\n[nodes.again]\nnext = "published"'
    )

    assert [line for line, _ in problems(text)] == [15]


def test_an_unknown_agent_is_refused_with_its_line():
    assert problems(CONTENT.replace('[nodes.revision]\nagent = "peer"', '[nodes.revision]\nagent = "nobody"')) == [
        (12, 'node "revision": no agent "nobody" in this file, and none of that name is registered')
    ]


def test_a_final_state_that_cannot_be_reached_is_refused():
    text = CONTENT.replace('{ to = "published", when = "review:approved" }, ', "")

    assert problems(text) == [(14, 'node "published": the final state cannot be reached (initial = true marks a start)')]


def test_what_stands_behind_an_edge_that_is_always_taken_cannot_be_reached():
    text = CONTENT.replace(
        'next = [{ to = "published", when = "review:approved" }, { to = "revision" }]',
        'next = [{ to = "revision", when = "always" }, { to = "published" }]',
    )

    assert problems(text) == [(14, 'node "published": the final state cannot be reached (initial = true marks a start)')]


def test_a_dependency_loop_in_a_crew_is_refused():
    text = '[tasks.a]\ndescription = "a"\ncontext = ["c"]\n[tasks.b]\ndescription = "b"\ndepends_on = ["a"]\n[tasks.c]\ndescription = "c"\ndepends_on = ["b"]\n'

    for process in ("parallel", "sequential", "hierarchical"):
        assert problems(text, process) == [(3, 'node "a": dependency loop: a needs c needs b needs a')]


def test_a_task_that_needs_a_later_one_cannot_be_done_in_sequence():
    text = '[tasks.a]\ndescription = "a"\ncontext = ["b"]\n[tasks.b]\ndescription = "b"\n'

    assert "dependency loop" in problems(text)[0][1]
    assert plan(text, "parallel").start == ("b",)


WRONG = [
    ("x = ", 1, "not TOML"),
    ('[nodes.a]\nagent = "peer"\n[nodes.a]\n', 3, "not TOML"),
    ("", 1, "the file declares nothing"),
    ('[nodes.a]\nagent = "peer"\n[tasks.b]\ndescription = "b"', 3, "nodes and tasks"),
    ('[nodes.a]\nagent = "peer"\nagnet = "x"', 3, "agnet: is no known key (did you mean agent"),
    ('[nodes.a]\nagent = "peer"\ndepends_on = ["b"]', 3, "depends_on: is no known key (known: after, agent"),  # a key of tasks
    ("[nodes.a]\nagent = 3", 2, "agent"),
    ('[nodes.a]\nagent = "peer"\ntool = "calc"', 3, "agent and tool: one of them"),
    ('[nodes.a]\ntool = "clac"', 2, "did you mean calc"),
    ('[nodes.a]\ntool = "linter"\narguments = { cod = "x", code = "y" }', 3, "did you mean code"),
    ('[nodes.a]\ntool = "linter"\narguments = { filename = "x" }', 3, "linter needs code"),
    ('[nodes.a]\nagent = "peer"\nafter = ["b"]', 3, "no node 'b'"),
    ('[nodes.a]\nagent = "peer"\nafter = ["a"]', 3, "dependency loop: a needs a"),
    ('[nodes.a]\nagent = "peer"\nnext = "b"', 3, "no node 'b'"),
    ('[nodes.a]\nagent = "peer"\n\n[[nodes.a.next]]\nto = "c"\n[[nodes.a.next]]\nto = "b"\n[nodes.c]', 4, "no node 'b'"),
    ('[nodes.a]\nagent = "peer"\nnext = [\n  { to = "b" },\n  { to = "b", wehn = "always" },\n]\n[nodes.b]', 3, "a transition is"),
    ('[nodes.a]\nagent = "peer"\nnext = { to = "b", when = "never" }\n[nodes.b]', 3, 'no condition "never"'),
    ('[nodes.a]\nagent = "peer"\nnext = { to = "b", when = { at = "x", equals = 1 } }\n[nodes.b]', 3, 'begins with "/"'),
    ('[nodes.a]\nagent = "peer"\nnext = { to = "b", when = { regex = "(a*)*" } }\n[nodes.b]', 3, "repeats what is itself repeated"),
    ('[nodes.a]\nagent = "peer"\nnext = { to = "b", when = { var = "x", equals = 1 } }\n[nodes.b]', 3, "no variable 'x'"),
    ('[nodes.a]\nagent = "peer"\nnext = { to = "b", when = { of = "x", equals = 1 } }\n[nodes.b]', 3, "no node 'x'"),
    ('[nodes.a]\nagent = "peer"\nnext = { to = "b", when = "x:y" }\n[nodes.b]', 3, "no variable and no node"),
    ('[nodes.a]\nagent = "peer"\nnext = { to = "b", priority = "high" }\n[nodes.b]', 3, "priority a whole number"),
    ('[nodes.a]\nagent = "peer"\nprompt = "{{ nodes.b.output }}"', 3, "no node 'b'"),
    ('[nodes.a]\nagent = "peer"\nprompt = """\n[nodes.b]\n{{ vars.b }}"""', 3, "no variable 'b'"),
    ('[nodes.a]\nask = "{{ inptu }}"', 2, "refers to nothing"),
    ('[nodes.a]\nagent = "peer"\nprompt = "{{ item }}"', 3, "for nodes with a map"),
    ('[nodes.a]\nagent = "peer"\nmax_visits = -1', 3, "max_visits: at least 1"),
    ('[nodes.a]\nagent = "peer"\ntimeout = 0', 3, "more than 0"),
    ('[nodes.a]\nask = "?"\ntimeout = 3', 3, "timeout: not for ask"),
    ('[nodes.a]\nagent = "peer"\nfinal = true\nnext = "a"\nmax_visits = 2', 3, "a final node has no transitions"),
    ('[nodes.a]\nagent = "peer"\njoin = "some"', 3, "join"),
    ('[nodes.a]\nagent = "peer"\nschema = { type = "objekt" }', 3, "schema: 'objekt'"),
    ('[nodes.a]\nagent = "peer"\nschema = "none.json"', 3, "cannot read none.json"),
    ('[nodes.a]\nagent = "peer"\nexpected_output = "x"', 3, "a mind of this file only"),
    ('[nodes.a]\nagent = "peer"\narguments = { x = 1 }', 3, "arguments: not for agent"),
    ('[nodes.a]\ngraph = "none.toml"', 2, "cannot read none.toml"),
    ('[nodes.a]\ngraph = "g.toml"', 2, "contains itself"),
    ('["nodes"."bad name"]\nagent = "peer"', 1, "a name is letters"),
    ('[agents.m]\ntools = ["clac"]\n[nodes.a]\nagent = "m"', 2, "did you mean calc"),
    ('[agents.m]\ncall = "nobody"\n[nodes.a]\nagent = "m"', 2, 'no agent "nobody" is registered'),
    ('[agents.m]\nrole = "{{ input }}"\n[nodes.a]\nagent = "m"', 1, "belongs into prompts"),
    ('parallel = 0\n[nodes.a]\nagent = "peer"', 1, "parallel: at least 1"),
    ('process = "random"\n[tasks.a]\ndescription = "x"', 1, "process"),
    ('manager = "boss"\nprocess = "hierarchical"\n[tasks.a]\ndescription = "x"', 1, 'no agent "boss"'),
    ('[tasks.a]\nagent = "x"', 1, "description: is missing"),
    ('[tasks.a]\ndescription = "{{ vars.x }}"', 2, "no variable 'x'"),
    ('[[steps]]\nname = "a"\nagent = "peer"\n[[steps]]\nbranch = "maybe"\nif_true = [{ agent = "peer" }]', 4, 'no condition "maybe"'),
    ('[[steps]]\nloop = [{ agent = "peer" }]', 1, "a loop needs max_iters"),
    ("[[steps]]\nloop = []\nmax_iters = 3", 2, "a list of steps"),
    ('[[steps]]\nagent = "peer"\nnext = "x"', 3, "its place says when it runs"),
    ('[[steps]]\nbranch = "always"\nif_treu = []', 3, "did you mean if_true"),
    ("[[steps]]\nparallel = 3", 2, "a list of steps"),
    ('[[steps]]\nname = "a"\nagent = "peer"\n[[steps]]\nname = "a"\nagent = "peer"', 5, "two steps are named"),
    ('[[steps]]\nagnet = "peer"', 2, "agnet: is no known key"),
    ('{"tool": "calc", "arguments": {"expression": "1"}}\n{"tool": "clac"}', 2, "did you mean calc"),
    ('{"tool": "calc", "arguments": {"expression": "1"}}\nnot json', 2, "not JSON"),
    ('{"tool": "calc", "arguments": {"expression": "1"}}\n\n[1]', 3, "a step is a JSON object"),
    ('{"tool": "calc", "arguments": [1]}', 1, "arguments are a JSON object"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "told"), WRONG, ids=[f"{line}-{told[:30]}" for _, line, told in WRONG])
def test_what_is_wrong_is_told_with_its_line(text, line, told):
    found = problems(text)

    assert any(told in what for _, what in found), found
    assert next(number for number, what in found if told in what) == line


def test_all_problems_are_told_at_once_in_the_order_of_the_file_ten_at_most():
    found = problems("".join(f'[nodes.n{number}]\nagent = "nobody"\n' for number in range(12)))

    assert [line for line, _ in found] == [2 * number for number in range(1, 11)]
    assert found[-1][1].endswith("and 2 more")


def test_a_graph_that_contains_itself_through_another_is_refused():
    told = problems('[nodes.a]\ngraph = "b.toml"', b='[nodes.b]\ngraph = "g.toml"')

    assert told[0][0] == 2
    assert "g.toml contains itself" in told[0][1]


def test_graphs_and_schemas_are_looked_for_beside_the_file_that_names_them():
    texts = {
        "some/where/g.toml": '[nodes.a]\ngraph = "in/b.toml"',
        "some/where/in/b.toml": '[nodes.b]\nagent = "peer"\nschema = "s.json"',
        "some/where/in/s.json": '{"type": "object"}',
    }
    made = load("some/where/g.toml", read_from(texts), KNOWN)

    assert made.nodes["a"].target.nodes["b"].schema == {"type": "object"}


# --- lines


def test_the_line_is_the_one_a_reader_would_point_at():
    text = '# [nodes.a]\n[vars]\nt = """\n[nodes.a]\nagent = "x"\n"""\n\n# here\n[nodes."a"]\n\nagent = "x"\nnodes.b.agent = 1\nlist = [\n  1, # one\n  # two\n  { a = 1 },\n  3 ]\n'

    assert [
        line_of(text, at) for at in [("nodes", "a"), ("nodes", "a", "agent"), ("vars", "t"), ("nodes", "a", "nodes", "b", "agent")]
    ] == [9, 11, 3, 12]
    assert [line_of(text, ("nodes", "a", "list", index)) for index in range(3)] == [14, 16, 17]
    assert line_of(text, ("nodes", "a", "absent")) == 9
    assert line_of(text, ("absent",)) == line_of(text, ()) == line_of("", ("a",)) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"), st.booleans(), st.text(st.characters(codec="utf-8", exclude_characters='\\"\r'), max_size=20)
        ),
        min_size=1,
        max_size=6,
    )
)
def test_the_line_of_a_key_is_where_it_was_written_whatever_its_value(rows):
    lines, places = [], {}
    for number, (name, blank, value) in enumerate(rows):
        lines += ["", "# x = 1"] if blank else []
        lines.append(f"[t{number}]")
        places[f"t{number}", name] = len(lines) + 1
        body = "".join(letter for letter in value if letter == "\n" or letter.isprintable())
        lines += f'{name} = """{body}"""'.split("\n")
    text = "\n".join(lines)
    tomllib.loads(text)

    assert {place: line_of(text, place) for place in places} == places


def test_a_problem_in_a_file_of_ten_thousand_lines_is_found_in_a_moment():
    rows = [
        f'[nodes.n{number}]\nagent = "peer"\nafter = ["n{max(0, number - 1)}"]\nprompt = "{number}"\n' for number in range(2500)
    ]
    rows[0] = '[nodes.n0]\nagent = "peer"\n\n\n'
    rows[2000] = rows[2000].replace("peer", "nobody")
    began = time.monotonic()

    assert [line for line, _ in problems("\n".join(rows))] == [2000 * 5 + 2]
    assert time.monotonic() - began < 8


# --- forms


def test_lines_of_a_plan_become_calls_one_after_another_and_their_texts_are_no_templates():
    made = plan(
        '{"depth": 1, "task": "Add", "tool": "calc", "arguments": {"expression": "{{ input }} + 1"}}\n\n{"tool": "none", "task": "Say {{ it }}"}\n{"tool": "calc", "prompt": "think"}\n'
    )

    assert [(node.kind, node.target, node.after) for node in made.nodes.values()] == [
        ("tool", "calc", ()),
        ("agent", "step-2", ("step-1",)),
        ("agent", "step-3", ("step-2",)),
    ]
    assert made.variables == {"step-1-0": "{{ input }} + 1", "step-2": "Say {{ it }}", "step-3": "think"}
    assert made.minds["step-3"].table.tools == ["calc"]


def test_a_persona_is_a_mind_and_a_registered_agent_is_not():
    made = plan(
        '[agents.far]\ncall = "https://x.example"\n[agents.own]\nrole = "a poet."\ngoal = "rhyme"\n[nodes.a]\nagent = "critic"\n[nodes.b]\nagent = "peer"\n[nodes.c]\nagent = "far"\n[nodes.d]\nagent = "own"\n[nodes.e]\nprompt = "x"'
    )

    assert {name: node.plain for name, node in made.nodes.items()} == {"a": False, "b": True, "c": True, "d": False, "e": False}
    assert made.minds["own"].system == "You are a poet.\n\nYour goal: rhyme"


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab{}/ \n", max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["to", "when", "and", "not", "equals", "at", "loop", "branch", "a"]), inner, max_size=3
            )
        ),
        max_leaves=8,
    ),
    st.sampled_from(["next", "when", "schema", "map", "arguments", "after", "context", "timeout"]),
)
def test_whatever_a_key_holds_it_is_a_graph_or_a_problem(value, key):
    import tomli_w

    try:
        text = tomli_w.dumps({"nodes": {"a": {"agent": "peer", key: value}}})
    except TypeError:
        return
    try:
        plan(text)
    except InputError as problem:
        assert str(problem).startswith("g.toml:")


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.recursive(
            st.dictionaries(
                st.sampled_from(["name", "agent", "prompt", "until", "max_iters"]),
                st.sampled_from(["a", "peer", 1, "always"]),
                max_size=3,
            ),
            lambda inner: st.dictionaries(
                st.sampled_from(["loop", "parallel", "if_true", "branch", "max_iters"]),
                st.lists(inner, max_size=2) | st.integers(0, 3) | st.just("always"),
                max_size=3,
            ),
            max_leaves=6,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_whatever_a_script_holds_it_is_a_graph_or_a_problem(steps):
    import tomli_w

    try:
        plan(tomli_w.dumps({"steps": steps}))
    except InputError as problem:
        assert str(problem).startswith("g.toml:")


# --- the picture


def test_the_picture_names_every_node_and_edge_and_quotes_every_text():
    text = (
        'name = \'a "graph" \\\\ x\'\n[nodes.a]\napprove = "?"\nnext = [{ to = "b", when = { equals = \'x"]; evil [label="'
        '\' } }]\n[nodes.b]\nagent = "peer"\nfinal = true'
    )
    drawn = dot(plan(text))

    assert drawn.startswith('digraph "a \\"graph\\" \\\\\\\\ x" {')
    assert '"a" -> "b" [style=solid, label="equals x\\"]; evil [label=\\""];' in drawn
    assert '"b" [label="b\\nagent peer", shape=box, style="bold"];' in drawn


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
@pytest.mark.parametrize(
    "text",
    [CONTENT, 'name = \'"\\\'\n[nodes.a]\nask = "?"\nnext = { to = "b", when = { contains = "\\\\" } }\n[nodes.b]\nagent = "peer"'],
)
def test_graphviz_draws_it(text):
    done = subprocess.run([shutil.which("dot"), "-Tsvg"], input=dot(plan(text)).encode(), capture_output=True, check=False)

    assert (done.returncode, done.stderr) == (0, b"")
    assert b"</svg>" in done.stdout


# --- the presets

PRESETS = sorted((Path(__file__).resolve().parents[2] / "agent_patterns" / "presets").glob("graph-*.toml"))


def test_the_five_presets_are_there():
    assert [path.stem.removeprefix("graph-") for path in PRESETS] == ["code-review", "content", "research", "sales", "support"]


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_right_and_says_what_it_is_for(path):
    known = Known({**TOOLS, "web_search": {}, "http_fetch": {}}, lambda _name: "")
    made = load(str(path), lambda name: Path(name).read_text("utf-8"), known)
    data = tomllib.loads(path.read_text("utf-8"))

    assert summary(made).startswith("ok: ")
    assert data["description"]
    assert data["input"]


def test_presets_read_by_nobody_fail_as_any_file_does():
    with pytest.raises(AgentError):
        load("none.toml", read_from({}), KNOWN)


def test_a_task_has_five_minutes_unless_it_says_otherwise_and_a_node_has_no_limit_of_its_own():
    made = load("g.toml", {"g.toml": CREW_OF_TWO}.__getitem__, Known())

    assert [node.timeout for node in made.nodes.values()] == [300, 9]
    assert load("n.toml", {"n.toml": '[nodes.a]\nprompt = "x"\n'}.__getitem__, Known()).nodes["a"].timeout is None


CREW_OF_TWO = '[agents.a]\nrole = "r"\n[tasks.one]\nagent = "a"\ndescription = "x"\n[tasks.two]\nagent = "a"\ndescription = "y"\ntimeout = 9\n'
