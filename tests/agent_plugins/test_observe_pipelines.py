"""Which runs were one pipeline: by pipe, record, call and process group; real shells, and made-up runs for what is rare."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_core.events import Event
from agent_core.store import open_store
from agent_plugins.observe import pipelines

ROOT = Path(__file__).resolve().parents[2]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

# --- made-up runs


def made(run, at=100.0, took=5.0, **more):
    """Return the events of a run: its process started 0.1 s before it."""
    facts = {
        "pid": int(at * 10), "ppid": 7, "pgid": 50, "sid": 40, "ticks": int(at * 100), "start": at - 0.1, "boot": "b", "ns": "n", "stdin": "",
        "stdout": "", "parent": "",
    }  # fmt: skip
    cost, finished = more.pop("cost", 10**9), more.pop("finished", True)
    top = {key: more.pop(key) for key in ("traceparent", "provenance") if key in more}
    facts.update({key: value for key, value in more.items() if key in facts or key == "above"})
    usage = {"input_tokens": 3, "output_tokens": 2, "cached_input_tokens": 0}
    message = {"role": "assistant", "parts": [{"type": "text", "text": "hi"}]}
    events = [
        Event("run.started", run, time=at, data={"agent": more.get("agent", run), "lineage": facts, **top}),
        Event(
            "model.replied",
            run,
            "0",
            at + took / 2,
            {"message": message, "usage": usage, "model": "m", "provider": "p", "cost": cost},
        ),
    ]
    return [*events, Event("run.finished", run, time=at + took, data={"status": more.get("status", 0)})] if finished else events


def joined(*runs):
    """Return the pipelines as lists of (agent, via)."""
    found = pipelines.of_runs({events[0].run: events for events in runs})
    return sorted([(stage.agent, stage.via) for stage in each.stages] for each in found)


SHELL = [7, 1, "", ""]


def shell(pid=7, ticks=1, stdin="", stdout="", *, above=()):
    return {"above": [[pid, ticks, stdin, stdout], *above]}


def test_an_equal_pipe_joins_two_stages_in_its_direction():
    assert joined(made("b", 100.0, stdin="pipe:1"), made("a", 100.01, stdout="pipe:1")) == [[("a", ""), ("b", "pipe")]]


@pytest.mark.parametrize(
    "other",
    [
        {"at": 100.0 + 7200},
        {"at": 100.0 - 7200},
        {"boot": "c"},
        {"stdin": "", "stdout": "pipe:1"},
        {"stdin": "pipe:2"},
        {"stdin": "pipe"},
    ],
)
def test_a_number_that_was_used_again_joins_nothing(other):
    a = made("a", stdout="pipe:1", pgid=1)
    b = made("b", **{"at": 100.0, "stdin": "pipe:1", "pgid": 2, **other})

    assert len(joined(a, b)) == 2


def test_a_late_reader_of_the_same_pipe_is_still_joined_but_a_named_pipe_must_be_read_at_the_time():
    assert len(joined(made("a", stdout="pipe:1"), made("b", 160.0, stdin="pipe:1"))) == 1
    assert len(joined(made("a", stdout="fifo:1:2"), made("b", 100.01, stdin="fifo:1:2"))) == 1
    assert len(joined(made("a", stdout="fifo:1:2"), made("b", 160.0, stdin="fifo:1:2"))) == 2


def test_one_group_joins_stages_with_programs_between():
    a = made("a", 100.0, stdout="pipe:1", **shell())
    b = made("b", 100.01, stdin="pipe:2", stdout="pipe:3", **shell())
    c = made("c", 100.02, stdin="pipe:4", **shell())

    assert joined(c, a, b) == [[("a", ""), ("b", "group"), ("c", "group")]]


@pytest.mark.parametrize(
    "change",
    [{"pgid": 51}, {"sid": 41}, {"ns": "o"}, {"boot": "c"}, {"at": 105.5}, {"at": 4000.0}, {"stdin": ""}, {"above": [[8, 1, "", ""]]},
     {"above": [[7, 2, "", ""]]}],
)  # fmt: skip
def test_another_group_time_or_shell_is_another_pipeline(change):
    a = made("a", 100.0, stdout="pipe:1", **shell())
    b = made("b", **{"at": 100.01, "stdin": "pipe:2", **shell(), **change})

    assert len(joined(a, b)) == 2


def test_pipes_that_the_shell_itself_was_given_are_not_of_its_pipelines():
    outer = shell(stdin="pipe:8", stdout="pipe:9")
    a = made("a", 100.0, stdin="pipe:8", stdout="pipe:9", **outer)
    b = made("b", 100.01, stdin="pipe:8", stdout="pipe:9", **outer)
    c = made("c", 100.02, stdin="pipe:3", stdout="pipe:9", **outer)

    assert joined(a, b, c) == [[("a", "")], [("b", "")], [("c", "")]]


def test_two_pipelines_in_the_background_of_one_script_stay_two():
    a = made("a", 100.00, stdout="pipe:1", **shell())
    b = made("b", 100.01, stdin="pipe:2", **shell())
    c = made("c", 100.02, stdout="pipe:3", **shell())
    d = made("d", 100.03, stdin="pipe:4", **shell())

    assert joined(a, b, c, d) == [[("a", ""), ("b", "group")], [("c", ""), ("d", "group")]]


def test_parallel_recipes_that_start_interleaved_are_told_apart_by_their_shells():
    make = ([5, 1, "", ""],)
    a1, a2 = (made(f"a{n}", 100.0 + n / 100, stdout=f"pipe:{n}", **shell(10 + n, above=make)) for n in (1, 2))
    b1, b2 = (made(f"b{n}", 100.02 + n / 100, stdin=f"pipe:{n + 10}", **shell(10 + n, above=make)) for n in (1, 2))

    assert joined(a1, a2, b1, b2) == [[("a1", ""), ("b1", "group")], [("a2", ""), ("b2", "group")]]


def test_stages_behind_wrapper_programs_are_joined_by_the_shell_above_both():
    bash = [7, 1, "", ""]
    a = made("a", 100.0, stdout="pipe:1", above=[[20, 20, "", "pipe:1"], bash])
    b = made("b", 100.01, stdin="pipe:2", above=[[22, 22, "pipe:2", ""], bash])

    assert joined(b, a) == [[("a", ""), ("b", "group")]]


def test_a_group_within_a_group_keeps_the_order_of_the_shell():
    bash, sub = [7, 1, "", ""], [30, 30, "", "pipe:5"]
    c = made("c", 100.0, stdin="pipe:6", ticks=40, pid=40, above=[bash])
    a = made("a", 100.01, stdout="pipe:1", ticks=50, pid=50, above=[sub, bash])
    b = made("b", 100.02, stdin="pipe:2", stdout="pipe:5", ticks=51, pid=51, above=[sub, bash])

    assert joined(c, a, b) == [[("a", ""), ("b", "group"), ("c", "group")]]


def test_records_join_by_the_run_they_name_and_peers_by_their_caller():
    a = made("a", 100.0, traceparent=f"00-{TRACE}-{'a' * 16}-01")
    b = made("b", 101.0, traceparent=f"00-{TRACE}-{'b' * 16}-01", provenance=[{"ref": "agent:a", "run_id": "a"}, {"ref": "stdin"}])
    p = made("p", 102.0, traceparent=f"00-{TRACE}-{'c' * 16}-01", parent="b" * 16)

    found = pipelines.of_runs({"a": a, "b": b, "p": p})
    assert [(stage.agent, stage.via, stage.after) for stage in found[0].stages] == [
        ("a", "", ""),
        ("b", "record", "a"),
        ("p", "peer", "b"),
    ]
    assert (len(found), found[0].trace, found[0].cost_usd) == (1, TRACE, "0.003")


def test_a_called_run_is_found_by_what_its_caller_noted_and_one_elsewhere_is_billed_from_there():
    a = made("a", 100.0)
    used = {"calls": 2, "cost_usd": "0.5", "input_tokens": 4, "output_tokens": 1}
    near = {"agent": "p", "run": "p", "usage": {"cost_usd": "0.001", "calls": 1}, "status": 0}
    far = {"agent": "far", "run": "x", "usage": used, "status": 4}
    a += [Event("call.finished", "a", "1", 101.0, {"facts": near}), Event("effect.failed", "a", "2", 101.0, {"facts": far})]
    found = pipelines.of_runs({"a": a, "p": made("p", 100.5)})

    assert [(stage.agent, stage.via, stage.cost_usd) for stage in found[0].stages] == [
        ("a", "", "0.001"),
        ("far", "peer", "0.5"),
        ("p", "peer", "0.001"),
    ]
    assert found[0].cost_usd == "0.502"


def test_an_unknown_price_makes_the_bill_unknown_and_inherited_outcomes_are_free():
    known, unknown = made("a", stdout="pipe:1"), made("b", 100.01, stdin="pipe:1", cost=None)
    assert pipelines.of_runs({"a": known, "b": unknown})[0].cost_usd is None


def test_a_fork_inherits_neither_the_place_in_the_pipe_nor_the_bill_of_its_origin():
    place = {"traceparent": f"00-{TRACE}-{'a' * 16}-01", "stdin": "pipe:1", "provenance": [{"run_id": "x"}]}
    fork = made("f", 100.02, **place)
    fork[0].data["fork_at"], fork[1].data["inherited"] = "1", True
    found = pipelines.of_runs({"x": made("x", stdout="pipe:1"), "a": made("a", 100.01, **place), "f": fork})

    assert [([stage.agent for stage in each.stages], each.cost_usd) for each in found] == [(["f"], "0"), (["x", "a"], "0.002")]


def test_rows_of_one_process_are_one_stage_and_so_are_the_starts_of_one_run():
    rows = [
        made(f"r{n}", 100.0 + n, pid=5, ticks=5, agent="rows", traceparent=f"00-{TRACE}-{'a' * 16}-01", status=n) for n in (0, 1)
    ]
    found = pipelines.of_runs({events[0].run: events for events in rows})

    assert [(stage.run_id, stage.runs, stage.status, stage.cost_usd) for stage in found[0].stages] == [("r0", 2, 4, "0.002")]
    assert found[0].runs == {"r0", "r1"}
    again = [*made("a", 100.0, finished=False), *made("a", 500.0, pid=9, ticks=9, stdout="pipe:5")]
    found = pipelines.of_runs({"a": again, "b": made("b", 500.1, stdin="pipe:5")})
    assert [(stage.agent, stage.runs) for stage in found[0].stages] == [("a", 1), ("b", 1)]


def test_runs_that_name_each_other_in_a_circle_are_shown_and_do_not_hang():
    a = made("a", 100.0, provenance=[{"run_id": "b"}])
    b = made("b", 101.0, provenance=[{"run_id": "a"}])

    assert [agent for agent, _ in joined(a, b)[0]] == ["a", "b"]


@pytest.mark.parametrize(
    "lineage_",
    [
        None,
        [],
        "x",
        {"above": "x"},
        {"above": [[1]], "stdin": 5},
        {"start": "soon", "pid": True, "stdout": ["pipe:1"]},
        {"pgid": [1]},
    ],
)
def test_whatever_an_old_or_damaged_log_holds_is_read(lineage_):
    start = Event("run.started", "a", time=1.0, data={"agent": "a", "lineage": lineage_, "provenance": 5, "traceparent": 7})

    assert len(pipelines.of_runs({"a": [start], "b": made("b", 1.0, stdin="pipe:1")})) == 2


# --- real shells


@pytest.fixture
def shelled(tmp_path):
    """Give a function that runs a script with agents as commands, and returns the pipelines as lists of (tool words, via)."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("text-processor", "assistant"):
        path = commands / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/agents/{name.replace("-", "_")}.py "$@"\n')
        path.chmod(0o755)
    env = {
        "PATH": f"{commands}:{os.defpath}", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "AGENT_QUIET": "1", "AGENT_PROVIDER": "offline",
        "TERM": "dumb",
    }  # fmt: skip

    def run(script, shell="/bin/bash", *flags, terminal=False, **more):
        argv = [shell, *flags, "-c", script]
        if terminal:
            argv = [sys.executable, "-c", f"import pty, sys; sys.exit(pty.spawn({argv!r}) >> 8)"]
        done = subprocess.run(
            argv, cwd=tmp_path, env={**env, **more}, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip
        store = open_store(tmp_path / ".local/share/agents/agents.db")
        found = pipelines.around(store) if store.path.exists() else []
        said = {run.id: run.title.partition(" ")[0] for run in store.runs(None)}
        store.close()
        return sorted([(said[stage.run_id], stage.via) for stage in each.stages] for each in found), done

    return run


UPPER, REVERSE, LOWER = (f"text-processor {word} it" for word in ("uppercase", "reverse", "lowercase"))


def test_a_pipe_of_plain_text_with_other_programs_between_is_one_pipeline(shelled):
    found, done = shelled(f"echo hello | {UPPER} | grep . | tee copy | {REVERSE} | {LOWER} | cat")

    assert done.stdout == "olleh\n"
    assert found == [[("uppercase", ""), ("reverse", "group"), ("lowercase", "pipe")]]


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_pipelines_of_one_script_one_after_the_other_stay_apart(shelled, shell):
    found, _ = shelled(f"echo a | {UPPER} | cat | {REVERSE}; echo b | {LOWER} | cat | {UPPER}", shell)

    assert found == [[("lowercase", ""), ("uppercase", "group")], [("uppercase", ""), ("reverse", "group")]]


def test_pipelines_of_one_script_at_the_same_time_stay_apart(shelled):
    found, _ = shelled(f"(echo a | {UPPER} | cat | {REVERSE}) & (echo b | {LOWER} | cat | {UPPER}) & wait")

    assert found == [[("lowercase", ""), ("uppercase", "group")], [("uppercase", ""), ("reverse", "group")]]


def test_with_job_control_each_pipeline_is_a_group_of_its_own(shelled):
    found, _ = shelled(f"set -m; echo a | {UPPER} | cat | {REVERSE} & echo b | {LOWER} | cat | {UPPER} & wait")

    assert found == [[("lowercase", ""), ("uppercase", "group")], [("uppercase", ""), ("reverse", "group")]]


def test_in_an_interactive_shell_on_a_terminal_it_is_the_same(shelled):
    found, _ = shelled(f"set -m; echo a | {UPPER} | cat | {REVERSE}", "/bin/bash", "--norc", "-i", terminal=True)

    assert found == [[("uppercase", ""), ("reverse", "group")]]


def test_runs_of_a_loop_share_a_shell_and_nothing_else(shelled):
    found, _ = shelled(f"for n in 1 2; do echo a | {UPPER}; done | {REVERSE}; echo b | {LOWER} >file; cat file | {UPPER}")

    assert sorted(len(each) for each in found) == [1, 1, 3]
    assert found[-1][-1] == ("reverse", "pipe") or [("uppercase", ""), ("uppercase", ""), ("reverse", "pipe")] in found


def test_records_are_one_trace_and_one_bill(shelled):
    found, done = shelled(f"echo hello | {UPPER} --json | {REVERSE} --json | cat | {LOWER} --json")

    assert found == [[("uppercase", ""), ("reverse", "pipe"), ("lowercase", "record")]]
    assert json.loads(done.stdout)["data"]["total"]["stages"] == 3


# --- what fails does not spend


@pytest.mark.parametrize(
    ("script", "statuses", "requests"),
    [
        ("assistant hi | assistant two | assistant three", "0 0 0", 3),
        ("assistant --json hi | assistant --json two | assistant three", "0 0 0", 3),
        ("assistant --max-steps x hi | assistant two - | assistant", "2 66 66", 0),
        ("assistant --nope hi | assistant | assistant", "2 66 66", 0),
        ("assistant --nope --json hi | assistant --json | assistant", "2 6 6", 0),
        ("assistant --json hi | head -c 60 | assistant --json two | assistant", "0 0 6 6", 1),
        ("assistant --jsonl hi | grep -v agentpipe.result | assistant --json two | assistant", "0 0 6 6", 1),
        ("assistant --nope --json hi | assistant --on-upstream-error use-partial --json two | assistant", "2 6 6", 0),
    ],
)
def test_a_stage_behind_a_failed_one_makes_no_request(shelled, fake_api, script, statuses, requests):
    fake_api.script(*["answer"] * 4)
    _, done = shelled(f"{script} >out; echo ${{PIPESTATUS[*]}}", **fake_api.env(), AGENT_PROVIDER="openai", AGENT_MODEL="m")

    assert (done.stdout.strip(), len(fake_api.requests())) == (statuses, requests)
