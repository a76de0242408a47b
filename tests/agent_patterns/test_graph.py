"""graph - which node runs when, with what, and what it comes to; without IO, but for the last part: killed, resumed, replayed."""

from __future__ import annotations

import json
import time
from collections.abc import Generator

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from single_mind import survives

from agent_core.effects import All, Call, Note, Wait
from agent_core.errors import AuthError, DeadlineError, DivergedError, Failed, ServerError, UsageError, WaitingError
from agent_core.members import Member
from agent_core.messages import user
from agent_core.peers import Said
from agent_core.play import play
from agent_core.task import Task, split
from agent_patterns.graph import graph
from agent_patterns.graph_file import load
from agent_patterns.graph_tables import Known

TOOLS = {"calc": {"properties": {"expression": {}}, "required": ["expression"]}}
MIND = '[agents.m]\nrole = "one"\n'


def plan(toml, process="", **files):
    """Return the graph of a TOML text; `files` are beside it."""
    texts = {"g.toml": toml, **{f"{name}.toml": text for name, text in files.items()}}
    return load("g.toml", texts.__getitem__, Known(TOOLS, lambda name: "peer" if name in {"peer", "other"} else ""), process)


def chain(*names):
    """Return nodes that follow one another and call the peer."""
    return "\n".join(
        f'[nodes.{name}]\nagent = "peer"\nafter = {json.dumps(names[:place][-1:])}' for place, name in enumerate(names)
    )


class Walked:
    """What a graph came to, with every call (node, message) and question, and the waves in which things were gathered."""

    def __init__(self, made, answers=None, words="the input", find=None):
        self.calls, self.questions, self.waves, self.notes = [], [], [], []
        self.answers = answers or {}
        pattern = graph(Task(user(words)), made, find or (lambda node, who, keep: (node.name, who, keep)), words)
        self.answer = self.drive(pattern)
        self.value = self.answer.value
        self.states = {name: row["state"] for name, row in self.value["nodes"].items()}

    def drive(self, pattern):
        outcome = error = None
        while True:
            try:
                effect = pattern.throw(error) if error else pattern.send(outcome)
            except StopIteration as stop:
                return stop.value
            outcome = error = None
            try:
                outcome = self.outcome(effect)
            except Exception as problem:  # noqa: BLE001 - thrown into the pattern, as the engine does it
                error = problem

    def outcome(self, effect):
        match effect:
            case All():
                self.waves.append((len(effect.effects), effect.limit))
                return [self.outcome(each) for each in effect.effects]
            case Generator():
                return self.drive(effect)
            case Call():
                self.calls.append((effect.agent[0], effect.message))
                return self.said(effect.agent[0], effect.message)
            case Wait():
                self.questions.append(effect.for_)
                return self.said("?", effect.for_)
            case Note():
                return self.notes.append((effect.kind, effect.data))
        raise TypeError(effect)

    def said(self, name, message):
        answer = self.answers.get(name, f"<{name}>")
        if isinstance(answer, list):
            answer = answer.pop(0)
        answer = answer(message) if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def called(self):
        return [name for name, _ in self.calls]

    def message(self, name):
        return next(message for called, message in self.calls if called == name)


# --- one after another, all at once, together again


def test_a_chain_runs_in_order_and_each_node_gets_what_the_one_before_said():
    made = Walked(plan(chain("a", "b", "c")))

    assert made.calls == [("a", "the input"), ("b", "<a>"), ("c", "<b>")]
    assert (made.answer.text, made.answer.status) == ("<c>", 0)
    assert made.value["final"] == ["c"]
    assert made.waves == []


def test_a_chain_can_be_played_as_a_list_of_effects():
    played = play(graph(Task(user("in")), plan(chain("a", "b"))), outcomes=[None, None, "A", None, None, "B", None])

    assert [type(effect).__name__ for effect in played.effects] == ["Note", "Note", "Call", "Note", "Note", "Call", "Note"]
    assert [(effect.agent, effect.message) for effect in played.effects if isinstance(effect, Call)] == [
        ("peer", "in"),
        ("peer", "A"),
    ]
    assert played.text == "B"


def test_independent_nodes_run_at_once_and_a_join_waits_for_all_of_them():
    made = Walked(
        plan(
            chain("a")
            + "".join(f'\n[nodes.{name}]\nagent = "peer"\nafter = ["a"]' for name in "bcd")
            + '\n[nodes.e]\nagent = "peer"\nafter = ["b", "c", "d"]'
        )
    )

    assert made.waves == [(3, 4)]
    assert made.called == ["a", "b", "c", "d", "e"]
    assert made.message("e") == "<b>\n\n<c>\n\n<d>"


def test_a_branch_goes_on_without_waiting_for_the_others():
    made = Walked(plan(chain("a1", "a2", "a3") + "\n" + chain("b1") + '\n[nodes.end]\nagent = "peer"\nafter = ["a3", "b1"]'))

    assert made.waves == [(2, 4)]
    assert made.called == ["a1", "a2", "a3", "b1", "end"]


def test_parallel_limits_how_many_run_at_a_time():
    made = Walked(plan("parallel = 2\n" + "".join(f'[nodes.n{number}]\nagent = "peer"\n' for number in range(5))))

    assert made.waves == [(5, 2)]


def test_any_runs_once_as_soon_as_one_is_done():
    made = Walked(plan(chain("a") + "\n" + chain("b", "b2") + '\n[nodes.end]\nagent = "peer"\nafter = ["a", "b2"]\njoin = "any"'))

    assert made.called.count("end") == 1
    assert made.message("end") == "<a>"


def test_several_ends_are_shown_with_their_names():
    assert Walked(plan(chain("a") + "\n" + chain("b"))).answer.text == "## a\n\n<a>\n\n## b\n\n<b>"


def test_the_same_outcomes_always_make_the_same_effects():
    text = (
        "\n".join(chain(*(f"{letter}{number}" for number in range(3))) for letter in "abc")
        + '\n[nodes.end]\nagent = "peer"\nafter = ["a2", "b2", "c2"]'
    )
    first, second = Walked(plan(text)), Walked(plan(text))

    assert (first.calls, first.waves, first.value) == (second.calls, second.waves, second.value)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sets(st.integers(0, 9)), min_size=1, max_size=10))
def test_in_any_graph_of_dependencies_every_node_runs_once_and_after_what_it_needs(needs):
    after = {number: sorted(each for each in found if each < number) for number, found in enumerate(needs)}
    made = Walked(
        plan(
            "".join(
                f'[nodes.n{number}]\nagent = "peer"\nafter = {json.dumps([f"n{each}" for each in found])}\n'
                for number, found in after.items()
            )
        )
    )

    assert sorted(made.called) == sorted(f"n{number}" for number in after)
    for number, found in after.items():
        assert all(made.called.index(f"n{each}") < made.called.index(f"n{number}") for each in found)
    assert set(made.states.values()) == {"completed"}


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 3),
            st.lists(st.tuples(st.lists(st.integers(0, 4), min_size=1, max_size=2), st.sampled_from("abc")), max_size=3),
        ),
        min_size=5,
        max_size=5,
    ),
    st.text("abc", min_size=1),
)
def test_whatever_leads_where_a_graph_ends_and_no_node_is_visited_more_than_it_may(nodes, letters):
    said = (letters[number % len(letters)] for number in range(10_000))
    table = {
        f"n{number}": {
            "agent": "peer", "initial": True, "max_visits": most,
            "next": [{"to": [f"n{to}" for to in dict.fromkeys(tos)], "when": {"contains": letter}} for tos, letter in edges],
        }
        for number, (most, edges) in enumerate(nodes)
    }  # fmt: skip
    made = Walked(plan(tomli_w.dumps({"nodes": table})), dict.fromkeys(table, lambda _message: next(said)))

    assert all(made.called.count(name) <= row["max_visits"] for name, row in table.items())
    assert made.answer.status in {0, 4}


# --- transitions

FORK = """
[nodes.a]
agent = "peer"
[[nodes.a.next]]
to = "low"
[[nodes.a.next]]
to = "high"
when = { contains = "!" }
priority = 10
[nodes.low]
agent = "peer"
[nodes.high]
agent = "peer"
"""


@pytest.mark.parametrize(("said", "taken"), [("hey!", "high"), ("hey", "low")])
def test_priority_wins_over_the_order_of_the_file(said, taken):
    made = Walked(plan(FORK), {"a": said})

    assert made.called == ["a", taken]
    assert made.states == {"a": "completed", "low": "pending", "high": "pending"} | {taken: "completed"}


def test_equal_priorities_are_tried_in_the_order_of_the_file():
    made = Walked(plan(FORK.replace("priority = 10", "")), {"a": "hey!"})

    assert made.called == ["a", "low"]


def test_an_output_that_fits_no_transition_ends_the_graph_with_what_there_is():
    made = Walked(plan(FORK.replace('to = "low"', 'to = "low"\nwhen = { contains = "?" }')), {"a": "hey"})

    assert (made.answer.status, made.answer.text) == (4, "hey")
    assert made.answer.problem == 'no transition of "a" fits its output (add one with when = "always")'
    assert made.value["nodes"]["a"] == {"state": "completed", "visits": 1, "output": "hey"}


def test_a_transition_may_lead_to_several_nodes_at_once():
    made = Walked(
        plan('[nodes.a]\nagent = "peer"\nnext = [{ to = ["b", "c"] }]\n[nodes.b]\nagent = "peer"\n[nodes.c]\nagent = "peer"')
    )

    assert made.waves == [(2, 4)]
    assert made.called == ["a", "b", "c"]


LOOP = """
[nodes.write]
agent = "peer"
max_visits = 3
next = "review"
[nodes.review]
agent = "peer"
next = [{ to = "done", when = { equals = "approved" } }, { to = "write", when = "always" }]
[nodes.done]
output = "{{ nodes.write.output }}"
final = true
"""


def test_a_loop_runs_until_its_condition_holds():
    made = Walked(plan(LOOP), {"write": ["one", "two"], "review": ["not approved", "approved"]})

    assert made.called == ["write", "review", "write", "review"]
    assert (made.answer.text, made.answer.status) == ("two", 0)
    assert made.value["nodes"]["write"]["visits"] == 2
    assert made.value["order"] == ["write", "review", "write", "review", "done"]


def test_max_visits_ends_a_loop_and_keeps_what_there_is():
    made = Walked(plan(LOOP), {"review": "not approved"})

    assert made.called == ["write", "review"] * 3
    assert (made.answer.status, made.answer.problem) == (4, '"write" was visited 3 times (max_visits 3)')
    assert made.value["nodes"]["write"] == {"state": "completed", "visits": 3, "output": "<write>"}
    assert (made.value["final"], made.value["success"]) == ([], False)


def test_visits_can_be_tested_so_that_a_loop_gives_up_in_good_order():
    made = Walked(
        plan(LOOP.replace('{ to = "write"', '{ to = "done", when = { of = "write", visits = 2 } }, { to = "write"')),
        {"review": "no"},
    )

    assert made.called == ["write", "review"] * 2
    assert made.answer.status == 0


def test_visits_of_one_node_by_several_branches_add_up_and_are_bounded():
    text = '[nodes.a]\nagent = "peer"\nmax_visits = 4\nnext = [{ to = ["b", "c"] }]\n[nodes.b]\nagent = "peer"\nnext = "a"\n[nodes.c]\nagent = "peer"\nnext = "a"'
    made = Walked(plan(text))

    assert made.answer.status == 4
    assert made.value["nodes"]["a"]["visits"] == made.called.count("a") == 3  # 1, then 2 at once; 4 more would be too many
    assert made.called.count("b") == made.called.count("c") == 3


# --- failures


def test_a_failure_that_nothing_handles_ends_the_graph_with_what_there_is():
    made = Walked(plan(chain("a", "b", "c")), {"b": ServerError("503", hint="try later")})

    assert (made.answer.status, made.answer.text) == (4, "<a>")
    assert made.answer.problem == 'node "b": 503 (try later)'
    assert made.states == {"a": "completed", "b": "failed", "c": "skipped"}
    assert made.value["nodes"]["b"]["error"] == "503 (try later)"


def test_a_failure_before_anything_was_done_is_the_failure_of_the_run():
    with pytest.raises(AuthError, match='node "a": no key'):
        Walked(plan(chain("a", "b")), {"a": AuthError("no key")})


CAUGHT = '[nodes.a]\nagent = "peer"\nnext = [{ to = "ok" }, { to = "mend", when = "on_failure" }]\n[nodes.ok]\nagent = "peer"\n[nodes.mend]\nagent = "peer"\nprompt = "mend {{ nodes.a.error }}"'


@pytest.mark.parametrize("failure", [Failed("it broke"), Said.of("it broke", {"failed": True})])
def test_a_failure_leaves_by_its_own_edge_whether_thrown_or_kept(failure):
    made = Walked(plan(CAUGHT), {"a": failure})

    assert made.calls == [("a", "the input"), ("mend", "mend it broke")]
    assert (made.called, made.answer.status) == (["a", "mend"], 0)


def test_a_failure_is_to_be_kept_exactly_where_the_graph_goes_on_from_it():
    kept = {}
    Walked(plan(CAUGHT), find=lambda node, who, keep: kept.update({node.name: keep}) or (node.name, who, keep))
    Walked(plan(CAUGHT), {"a": Failed("x")}, find=lambda node, who, keep: kept.update({node.name: keep}) or (node.name, who, keep))

    assert kept == {"a": True, "ok": False, "mend": False}


def test_nodes_after_a_failed_one_are_skipped_unless_they_ask_for_failures():
    text = f'on_failure = "continue"\n{chain("a", "b", "c")}\n[nodes.clean]\nagent = "peer"\nafter = ["c"]\nwhen = "always"\n[nodes.sorry]\nagent = "peer"\nafter = ["a"]\nwhen = "on_failure"'
    made = Walked(plan(text), {"a": Failed("x")})

    assert made.states == {"a": "failed", "b": "skipped", "c": "skipped", "clean": "completed", "sorry": "completed"}
    assert (made.answer.status, made.answer.problem) == (4, "failed: a")


def test_on_failure_continue_finishes_the_other_branches():
    made = Walked(plan(f'on_failure = "continue"\n{chain("a", "a2")}\n{chain("b", "b2")}'), {"a": Failed("x")})

    assert made.states == {"a": "failed", "a2": "skipped", "b": "completed", "b2": "completed"}
    assert (made.answer.status, made.answer.text) == (4, "<b2>")
    assert made.value["statistics"] == {"failed": 1, "skipped": 1, "completed": 2, "visits": 3}


@pytest.mark.parametrize("error", [WaitingError("?"), DivergedError("d"), DeadlineError("late")])
def test_what_is_not_the_nodes_fault_ends_the_run_as_it_is(error):
    with pytest.raises(type(error)):
        Walked(plan(CAUGHT), {"a": error})


# --- people

GATE = """
[nodes.sum]
agent = "peer"
next = "gate"
[nodes.gate]
approve = "pay {{ nodes.sum.output }}?"
next = [{ to = "paid", when = "approved" }, { to = "kept", when = "denied" }]
[nodes.paid]
agent = "peer"
[nodes.kept]
agent = "peer"
"""


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ("yes", "paid"),
        ("Yes ", "paid"),
        ("no", "kept"),
        ("not approved", "kept"),
        ("yes, but", "kept"),
        ("", "kept"),
        ("approved? no", "kept"),
    ],
)
def test_only_a_plain_yes_approves(said, taken):
    made = Walked(plan(GATE), {"sum": "40 EUR", "?": said})

    assert made.questions == ["pay 40 EUR?"]
    assert made.called == ["sum", taken]


def test_a_no_that_nothing_handles_ends_the_graph():
    text = '[nodes.gate]\napprove = "go?"\nnext = "b"\n[nodes.b]\nagent = "peer"'
    made = Walked(plan(chain("a") + "\n" + text.replace("[nodes.gate]", '[nodes.gate]\nafter = ["a"]')), {"?": "no"})

    assert made.called == ["a"]
    assert (made.answer.status, made.answer.problem) == (4, '"gate" was not approved')


def test_an_answer_of_a_person_is_an_output_like_any_other():
    made = Walked(plan('[nodes.who]\nask = "who?"\nnext = "b"\n[nodes.b]\nagent = "peer"'), {"?": "Ada"})

    assert made.calls == [("b", "Ada")]


def test_a_question_is_one_line_of_bounded_length():
    made = Walked(plan(GATE), {"sum": "a\n\x1b[2Jb" * 1000, "?": "yes"})

    assert "\n" not in made.questions[0]
    assert len(made.questions[0]) < 700


def test_a_person_can_send_a_result_back_with_a_remark():
    text = f'{MIND}[nodes.a]\nagent = "m"\nprompt = "write"\nhuman_input = true'
    made = Walked(plan(text), {"a": ["one", "two"], "?": ["shorter", "yes"]})

    assert made.answer.text == "two"
    assert made.questions[0].endswith("? one")
    assert dict(split(made.calls[1][1])[1]) == {"input": "the input", "your last answer": "one", "what to change": "shorter"}


def test_a_person_can_refuse_a_result_and_does_not_review_for_ever():
    text = f'{MIND}{chain("z")}\n[nodes.a]\nagent = "m"\nprompt = "write"\nhuman_input = true\nafter = ["z"]'

    assert Walked(plan(text), {"?": "no"}).states["a"] == "denied"
    endless = Walked(plan(text), {"?": "again"})
    assert (endless.called.count("a"), endless.states["a"]) == (3, "denied")


def test_a_breakpoint_asks_before_the_node_runs():
    text = chain("a") + '\n[nodes.b]\nagent = "peer"\nafter = ["a"]\nbreakpoint = true'

    assert Walked(plan(text), {"?": "yes"}).called == ["a", "b"]
    stopped = Walked(plan(text), {"?": "no"})
    assert (stopped.called, stopped.answer.status, stopped.questions) == (["a"], 4, ['breakpoint before "b", go on?'])


# --- minds, tools, graphs, items


def test_a_mind_gets_its_prompt_with_what_led_to_it_as_material():
    made = Walked(
        plan(f'{MIND}{chain("a")}\n[nodes.b]\nagent = "m"\nprompt = "Judge this."\nafter = ["a"]\nexpected_output = "a word"')
    )
    words, materials = split(made.message("b"))

    assert words == "Judge this.\n\nWhat is expected: a word"
    assert materials == [("nodes.a.output", "<a>")]


def test_a_mind_that_begins_gets_the_input_even_if_its_prompt_forgets_it():
    assert split(Walked(plan(f'{MIND}[nodes.a]\nagent = "m"\nprompt = "Judge."')).message("a")) == (
        "Judge.",
        [("input", "the input")],
    )


def test_memory_shows_a_mind_what_it_said_before():
    text = LOOP.replace('agent = "peer"\nmax', 'agent = "m"\nmax') + '[agents.m]\nrole = "writer"\nmemory = true'
    made = Walked(plan(text), {"write": ["one", "two"], "review": ["again", "approved"]})

    assert dict(split([message for name, message in made.calls if name == "write"][1])[1]) == {
        "your last answer": "one",
        "nodes.review.output": "again",
        "input": "the input",
    }


def test_a_tool_gets_its_arguments_as_data():
    made = Walked(
        plan(chain("a") + '\n[nodes.t]\ntool = "calc"\narguments = { expression = "{{ nodes.a.output#/sum }}" }\nafter = ["a"]'),
        {"a": '{"sum": "1 + 1"}'},
    )

    assert json.loads(made.message("t")) == {"expression": "1 + 1"}


def test_an_output_must_fit_its_schema():
    text = (
        chain("z")
        + '\n[nodes.a]\nagent = "peer"\nafter = ["z"]\nschema = { type = "object", required = ["n"] }\nnext = [{ to = "b", when = { at = "/n", at_least = 2 } }]\n[nodes.b]\nagent = "peer"'
    )

    assert Walked(plan(text), {"a": 'sure: {"n": 2}'}).called == ["z", "a", "b"]
    assert "'n' is a required property" in Walked(plan(text), {"a": "{}"}).answer.problem


def test_a_graph_within_a_graph_gets_words_and_variables_and_answers_for_itself():
    inner = '[vars]\nwho = "nobody"\n' + chain("x") + '\n[nodes.y]\nagent = "peer"\nafter = ["x"]\nprompt = "{{ vars.who }}"'
    made = Walked(plan(chain("a") + '\n[nodes.g]\ngraph = "inner.toml"\narguments = { who = "Ada" }\nafter = ["a"]', inner=inner))

    assert made.calls == [("a", "the input"), ("x", "<a>"), ("y", "Ada\n\n<x>")]
    assert made.answer.text == "<y>"


def test_a_graph_within_a_graph_that_fails_is_a_failed_node():
    made = Walked(
        plan(
            chain("a")
            + '\n[nodes.g]\ngraph = "inner.toml"\nafter = ["a"]\nnext = [{ to = "b", when = "on_failure" }]\n[nodes.b]\nagent = "peer"',
            inner=chain("x", "y"),
        ),
        {"y": Failed("broke")},
    )

    assert made.called == ["a", "x", "y", "b"]
    assert made.value["nodes"]["g"]["error"] == 'inner: node "y": broke'


MAP = '[nodes.a]\nagent = "peer"\n[nodes.each]\nagent = "peer"\nafter = ["a"]\nmap = "{{ nodes.a.output }}"\nprompt = "{{ index }}: {{ item }}"\nparallel = 3\n[nodes.end]\nagent = "peer"\nafter = ["each"]\nprompt = "{{ nodes.each.output#/1 }}"'


def test_a_map_does_its_work_for_every_item():
    made = Walked(plan(MAP), {"a": '["x", {"y": 1}]', "each": lambda message: f"({message})"})

    assert made.waves == [(2, 3)]
    assert [message for name, message in made.calls if name == "each"] == ["0: x", '1: {"y": 1}']
    assert made.value["nodes"]["each"]["output"] == '(0: x)\n\n(1: {"y": 1})'
    assert made.message("end") == '(1: {"y": 1})'


def test_a_map_over_nothing_is_done_at_once_and_one_over_too_much_fails():
    assert Walked(plan(MAP), {"a": "[]"}).called == ["a", "end"]
    assert "1001 items" in Walked(plan(MAP), {"a": json.dumps(list(range(1001)))}).answer.problem


def test_what_stands_in_an_output_is_never_a_template():
    made = Walked(
        plan(chain("a") + '\n[nodes.b]\nagent = "peer"\nprompt = "{{ nodes.a.output }}"\nafter = ["a"]'),
        {"a": "{{ input }} {{ vars.x }}"},
    )

    assert made.message("b") == "{{ input }} {{ vars.x }}"


def test_what_happens_is_told_as_it_happens():
    made = Walked(plan(LOOP), {"review": ["no", "approved"]})

    assert made.notes[0] == ("graph.started", {"graph": "g", "start": ["write"], "nodes": {"write": [], "review": [], "done": []}})
    assert made.notes[1:4] == [
        ("node.started", {"node": "write", "visit": 1}),
        ("node.finished", {"node": "write", "visit": 1, "state": "completed", "error": ""}),
        ("node.started", {"node": "review", "visit": 1}),
    ]


def test_the_pattern_alone_asks_for_a_file():
    with pytest.raises(UsageError, match="needs a file"):
        play(graph(Task(user("x"))))


# --- crews: three schedules of the same tasks

CREW = """
[agents.ada]
role = "researcher"
[agents.bob]
role = "writer"
[tasks.find]
agent = "ada"
description = "Find {{ input }}."
expected_output = "facts"
[tasks.check]
agent = "ada"
description = "Check sources."
[tasks.write]
agent = "bob"
context = ["find"]
description = "Write it."
"""


def test_sequential_is_the_order_of_the_file_and_context_says_what_is_shown():
    made = Walked(plan(CREW), find=lambda node, who, keep: (node.name, who.name, keep))

    assert made.called == ["find", "check", "write"]
    assert made.waves == []
    assert split(made.message("check"))[1] == [("nodes.find.output", "<find>")]
    assert split(made.message("write"))[1] == [("nodes.find.output", "<find>")]
    assert made.answer.text == "<write>"


def test_parallel_starts_whatever_waits_for_nothing():
    made = Walked(plan(CREW, "parallel"))

    assert made.waves == [(2, 4)]
    assert made.called == ["find", "write", "check"]


def test_hierarchical_lets_a_manager_say_who_does_what_and_make_the_result():
    who = []
    assigned = {"find": {"agent": "bob", "instruction": "be quick"}, "check": {"agent": "ada"}, "write": {"agent": "bob"}}
    made = Walked(
        plan(CREW, "hierarchical"),
        {"manager-plan": json.dumps(assigned), "manager-result": "all of it"},
        find=lambda node, mind, keep: who.append(mind.name) or (node.name, mind, keep),
    )

    assert made.called[0] == "manager-plan"
    assert made.called[-1] == "manager-result"
    assert sorted(made.called[1:-1]) == ["check", "find", "write"]
    assert dict(zip(made.called, who, strict=True)) == {
        "manager-plan": "manager",
        "find": "bob",
        "check": "ada",
        "write": "bob",
        "manager-result": "manager",
    }
    assert ("the manager", "be quick") in split(made.message("find"))[1]
    assert [origin for origin, _ in split(made.message("manager-result"))[1]][1:] == [
        "nodes.find.output",
        "nodes.check.output",
        "nodes.write.output",
    ]
    assert (made.answer.text, made.answer.status) == ("all of it", 0)


def test_a_manager_cannot_call_somebody_who_is_not_of_the_crew():
    assigned = {"find": {"agent": "mallory"}, "check": {"agent": "ada"}, "write": {"agent": "bob"}}
    with pytest.raises(Exception, match="mallory"):
        Walked(plan(CREW, "hierarchical"), {"manager-plan": json.dumps(assigned)})


# --- scripts: branch, parallel, loop

SCRIPT = """
[[steps]]
name = "triage"
agent = "peer"
[[steps]]
branch = "triage:urgent"
if_true = [{ name = "call", agent = "peer" }]
if_false = [{ name = "mail", agent = "peer" }, { name = "log", agent = "peer" }]
[[steps]]
parallel = [{ name = "left", agent = "peer" }, [{ name = "right", agent = "peer" }, { name = "right2", agent = "peer" }]]
[[steps]]
loop = [{ name = "polish", agent = "peer" }]
max_iters = 3
until = { contains = "good" }
[[steps]]
name = "close"
agent = "peer"
"""


@pytest.mark.parametrize(("said", "taken"), [("urgent!", ["call"]), ("calm", ["mail", "log"])])
def test_a_script_branches_runs_side_by_side_and_loops(said, taken):
    made = Walked(plan(SCRIPT), {"triage": said, "polish": ["bad", "good"]})

    assert made.called == ["triage", *taken, "left", "right", "right2", "polish", "polish", "close"]
    assert made.waves == [(2, 4)]
    assert made.message("close") == "good"
    assert made.answer.status == 0


def test_a_loop_of_a_script_ends_after_max_iters_and_the_script_goes_on():
    made = Walked(plan(SCRIPT), {"polish": "bad"})

    assert made.called.count("polish") == 3
    assert (made.called[-1], made.answer.status) == ("close", 0)


def test_an_empty_side_of_a_branch_is_passed_by():
    made = Walked(
        plan(
            '[[steps]]\nname = "a"\nagent = "peer"\n[[steps]]\nbranch = { equals = "x" }\nif_true = [{ name = "b", agent = "peer" }]\n[[steps]]\nname = "c"\nagent = "peer"'
        ),
        {"a": "y"},
    )

    assert made.calls == [("a", "the input"), ("c", "y")]


# --- with the engine: killed at every outcome, resumed, replayed; and what a node costs


def members(node, who, keep):
    return Member(node.name, "You work.")


WORK = (
    LOOP.replace('"peer"', '"m"').replace("[nodes.write]", "[nodes.write]\ninitial = true")
    + """
[agents.m]
role = "one"
[nodes.x]
agent = "m"
initial = true
prompt = "x {{ input }}"
[nodes.y]
agent = "m"
prompt = "y"
after = ["x"]
[nodes.z]
agent = "m"
prompt = "z"
after = ["x"]
[nodes.end]
agent = "m"
prompt = "end"
after = ["y", "z"]
"""
)


def test_killed_at_any_outcome_a_graph_goes_on_to_the_same_answer_and_asks_nothing_twice():
    def answer(ask):
        text = "\n".join(message.text for message in ask.messages)
        return (
            "approved"
            if "second draft" in text
            else "second draft"
            if "not yet" in text
            else "not yet"
            if "draft" in text
            else "draft"
        )

    whole = survives(lambda: graph(Task(user("go")), plan(WORK), members), answer)

    assert whole.value.status == 0
    assert [name for name in whole.value.value["order"] if name not in "x y z end"] == [
        "write",
        "review",
        "write",
        "review",
        "done",
    ]
    assert len(whole.asked) == 4 + 4


@pytest.mark.parametrize("shape", ["chain", "wide"])
def test_the_cost_of_a_node_does_not_grow_with_the_graph(shape):
    def seconds(count):
        rows = [
            f'[nodes.n{number}]\nagent = "peer"\nafter = {json.dumps([f"n{number - 1}"] if number and shape == "chain" else [])}'
            for number in range(count)
        ]
        made = plan("\n".join(rows))
        best = float("inf")
        for _ in range(3):
            began = time.perf_counter()
            walked = Walked(made)
            best = min(best, time.perf_counter() - began)
            assert len(walked.called) == count
        return best / count

    small, large = seconds(200), seconds(2000)

    assert large < small * 3 + 20e-6
