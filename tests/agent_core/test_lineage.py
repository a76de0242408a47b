"""What a run notes about its process, so that the runs of a shell pipe can be found to be one thing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agent_core import lineage

ROOT = Path(__file__).resolve().parents[2]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

# --- what a run notes


def facts_of(command, **more):
    """Return what each `facts` of a shell command printed."""
    path = Path(more.pop("folder")) / "facts"
    path.write_text(
        f"#!{sys.executable}\nimport json, os, sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom agent_core import lineage\n"
        "os.write(2, (json.dumps(lineage.facts()) + chr(10)).encode())\nsys.stdin.read()\nprint('x')\n"
    )
    path.chmod(0o755)
    done = subprocess.run(
        ["/bin/bash", "-c", command.replace("facts", str(path))], capture_output=True, text=True, check=True, **more
    )
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_stages_note_the_pipe_that_joins_them_their_group_and_the_shell_above(tmp_path):
    made = facts_of("facts | facts", folder=tmp_path, stdin=subprocess.DEVNULL)
    first, second = sorted(made, key=lambda each: each["pid"])

    assert re.fullmatch(r"pipe:\d+", first["stdout"])
    assert first["stdout"] == second["stdin"]
    assert (first["stdin"], second["stdout"] != first["stdout"]) == ("", True)
    assert (first["pgid"], first["sid"], first["boot"]) == (second["pgid"], second["sid"], second["boot"])
    assert first["above"][0] == second["above"][0]
    assert first["above"][0][3] == second["stdout"]


def test_a_file_or_terminal_is_no_pipe_and_a_named_pipe_is_known_by_its_place(tmp_path):
    os.mkfifo(tmp_path / "named")
    made = facts_of(
        f"facts </dev/null >{tmp_path}/file; facts <{tmp_path}/named >/dev/null & echo x >{tmp_path}/named; wait", folder=tmp_path
    )

    assert (made[0]["stdin"], made[0]["stdout"]) == ("", "")
    assert "above" not in made[0]
    assert made[1]["stdin"] == f"fifo:{(tmp_path / 'named').stat().st_dev}:{(tmp_path / 'named').stat().st_ino}"


def test_facts_are_plain_data_also_with_closed_streams():
    program = "import os; os.close(0); os.close(1)\nfrom agent_core import lineage\nimport json, sys; print(json.dumps(lineage.facts()), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, cwd=ROOT)

    assert json.loads(done.stderr)["stdin"] == ""


def test_the_start_of_a_process_names_it(tmp_path):
    own = lineage.started(os.getpid())

    assert own == lineage.started(os.getpid())
    assert own <= lineage.now_ticks()
    assert lineage.started(2**22 + 1) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [(f"00-{TRACE}-00f067aa0ba902b7-01", (TRACE, "00f067aa0ba902b7")), ("", ("", "")), ("00-x-y-01", ("", "")), ("00-" + "0" * 32 + "-00f067aa0ba902b7-01", ("", "")),
     (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", ("", "")), ("-" * 9, ("", ""))],
)  # fmt: skip
def test_a_traceparent_is_read_or_is_none(text, found):
    assert lineage.span_of(text) == found
