"""shell with real commands."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from agent_core.policy import Policy, decide
from agent_core.tool import Context, ToolError
from agent_plugins.tools.shell import KEPT, SHOWN, run, shell


@pytest.fixture
def context(tmp_path):
    environ = {"PATH": ".:bin:/usr/bin:/bin", "HOME": "/nowhere", "OPENAI_API_KEY": "k-secret", "LD_PRELOAD": "x", "LC_ALL": "C"}
    return Context(Policy.of(["shell"], workspace=str(tmp_path)), str(tmp_path), environ=environ)


def gone(marker):
    """Return whether no process with that word is left; a killed one may take a moment to go."""
    until = time.monotonic() + 2
    while alive(marker) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(marker)


def alive(marker):
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if marker.encode() in _read(path)]


def _read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_output_status_and_duration_are_shown(context):
    assert re.fullmatch(r"out\nerr\n\[exit 3, \d+\.\d\d s\]", shell("echo out; echo err >&2; exit 3", context))
    assert re.fullmatch(r"x\n\[exit 0, .* s\]", shell("printf x", context))
    assert "killed by SIGKILL" in shell("kill -9 $$", context)


def test_it_runs_in_the_workspace_with_no_input_and_a_clean_environment(context, tmp_path):
    assert shell("pwd; cat", context).startswith(f"{tmp_path}\n[exit 0")
    text = shell("env", context)
    assert "k-secret" not in text
    assert "LD_PRELOAD" not in text
    assert "PATH=/usr/bin:/bin\n" in text
    assert "LC_ALL=C" in text


def test_it_is_off_unless_allowed(tmp_path):
    assert decide(Policy.of([]), shell, {"command": "ls"}).rule == "--allow shell:ls"
    assert decide(Policy.of([], yes=True), shell, {"command": "ls"}) is not None
    assert decide(Policy.of(["shell:ls"]), shell, {"command": "ls -l"}) is None
    assert decide(Policy.of(["shell"]), shell, {"command": "ls > x"}) is None


def test_a_command_that_is_stopped_may_put_its_locks_away(tmp_path):
    writing = Context(Policy.of(["shell", "file-write"], workspace=str(tmp_path)), str(tmp_path), environ={"PATH": "/usr/bin:/bin"})
    command = "trap 'rm lock; exit 1' TERM; touch lock && echo locked; while :; do sleep 0.05; done"
    with pytest.raises(ToolError, match="locked\n.*the time was up"):
        shell(command, writing, timeout=0.6)

    assert not (tmp_path / "lock").exists()


def test_the_whole_group_is_killed_at_the_time_limit(context):
    began = time.monotonic()
    with pytest.raises(ToolError) as caught:
        shell("echo begun; sleep 98.7654 & (trap '' TERM; sleep 98.7654); wait", context, timeout=0.4)

    assert time.monotonic() - began < 3
    assert caught.value.kind == "transient"
    assert re.search(r"begun\n\[killed: the time was up, 0\.\d+ s\]", str(caught.value))
    assert gone("98.7654")


def test_the_runs_deadline_and_cancelling_end_it_too(context):
    late = Context(context.policy, context.workspace, deadline=time.monotonic() + 0.3, environ={})
    began = time.monotonic()
    with pytest.raises(ToolError):
        shell("exec >&-; exec 2>&-; sleep 97.6543", late)
    stopped = Context(context.policy, context.workspace, environ={}, cancelled=lambda: True)
    with pytest.raises(ToolError, match="cancelled"):
        shell("sleep 97.6543", stopped)
    assert time.monotonic() - began < 3
    assert gone("97.6543")


def test_a_background_process_that_holds_the_output_does_not_hold_the_call(context):
    began = time.monotonic()

    text = shell("sleep 96.5432 & echo done", context)

    assert time.monotonic() - began < 3
    assert text.startswith("done\n[exit 0")
    assert gone("96.5432")


def test_a_long_output_shows_head_and_tail_and_where_the_rest_is(context):
    text = shell("seq 1 100000", context)

    assert len(text) < SHOWN + 500
    assert text.startswith("1\n2\n")
    assert "\n99999\n100000\n[exit 0" in text
    path = re.search(r"is in (\S+)", text).group(1)
    assert context.open_read(path).splitlines()[54_320] == b"54321"


def test_a_flood_is_counted_and_bounded(context):
    output = run("yes | head -c 30000000", context, 30)

    assert (output.size, len(output.data), output.status) == (30_000_000, KEPT, 0)


def test_binary_output_is_not_shown(context):
    text = shell("printf 'a\\000b'", context)

    assert re.fullmatch(r"\[binary output, 3 bytes, in \S+\]\n\[exit 0, .*\]", text)
    assert "\ufffd" in shell("printf '\\377ok and more text'", context)


def test_a_nul_byte_in_a_command_is_refused(context):
    with pytest.raises(ToolError, match="NUL"):
        shell("echo a\0b", context)
