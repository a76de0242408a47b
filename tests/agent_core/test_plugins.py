"""Plugins from every place they may come from: modules, entry points, the plugin folder; and what each seam adds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from agent_core.config import environ

EXAMPLE = ROOT / "docs" / "example_plugin"
BIN = environ().get("TRANSCRIPT_BIN", "")
HOOK = "from agent_core.plugins import hookimpl\n@hookimpl\ndef agent_patterns(): return {{'{0}': lambda task: iter(())}}\n"


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """Install the example as anyone would, into a folder of its own; returns the folder."""
    target = tmp_path_factory.mktemp("site")
    source = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "example")
    words = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--disable-pip-version-check",
        "--target",
        str(target),
        str(source),
    ]
    # With what is installed here if that will do; else pip fetches what the build needs.
    for more in (["--no-build-isolation", "--no-index"], []):
        done = subprocess.run([*words, *more], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return target
    return pytest.skip(f"pip cannot build here: {done.stderr[-300:]}")


@pytest.fixture
def folder(clean_environment):
    """Make the plugin folder; returns it."""
    made = clean_environment / ".config" / "agents" / "plugins"
    made.mkdir(parents=True)
    made.chmod(0o755)
    return made


@pytest.fixture
def hello(run_agent, installed):
    """Give a function that runs the assistant with the example plugin installed and named."""
    path = f"{ROOT}:{installed}"
    return lambda *args, **env: run_agent("assistant", *args, env={"PYTHONPATH": path, "AGENT_PLUGINS": "hello", **env})


@pytest.fixture
def from_folder(run_agent, folder):
    """Do the same with the example's one file in the plugin folder."""
    shutil.copy(EXAMPLE / "agents_hello.py", folder / "hello.py")
    return lambda *args, **env: run_agent("assistant", *args, env={"AGENT_PLUGINS": "hello", **env})


def calls(tmp_path, *names):
    replies = [{"tool_calls": [{"name": "greet", "arguments": {"name": name}}]} for name in names]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(each) + "\n" for each in [*replies, {"text": "done", "expect": "Moin"}]))
    return ["--provider", "scripted", "--script", str(tmp_path / "s.jsonl")]


# --- the six seams, with no edit to the suite


def test_it_adds_a_flag_and_a_tool(hello):
    assert hello("--tool", "greet", "--greeting", "Moin", "Ada").stdout == "Moin, Ada!\n"
    assert hello("--tool", "greet", "Ada", AGENT_GREETING="Servus").stdout == "Servus, Ada!\n"


def test_the_model_may_call_the_tool_and_the_guard_decides_about_it(hello, tmp_path):
    many = calls(tmp_path, "Ada", "Bob", "Cyd")

    assert hello(*many, "--greeting", "Moin", "greet").stdout == "done\n"
    refused = hello(*many, "--greeting", "Moin", "--most-greetings", "2", "greet")
    assert refused.returncode == 76
    assert "Moin" in refused.stderr


def test_it_adds_a_provider(hello):
    done = hello("-q", "--provider", "parrot", "hello there")

    assert (done.returncode, done.stdout) == (0, "hello there\n")


def test_it_adds_a_pattern(hello):
    assert hello("-q", "--provider", "parrot", "--pattern", "twice", "hello there").stdout == "Again: hello there\n"


def test_it_reads_the_events(hello, tmp_path):
    hello("-q", "--provider", "parrot", "--count-events", str(tmp_path / "kinds"), "hello")
    kinds = (tmp_path / "kinds").read_text().split()

    assert kinds[0] == "run.started"
    assert "model.replied" in kinds
    assert kinds[-1] == "run.finished"


def test_its_flags_are_in_the_help_and_in_the_completion(hello):
    assert "--greeting" not in hello("--help", AGENT_PLUGINS="").stdout
    assert "Hello, " not in hello("--greeting", "x", "hi", AGENT_PLUGINS="").stdout
    assert '"greeting"' in hello("--greeting", "x", "--show-config", "--json").stdout


def test_plugins_lists_it_as_on_and_as_available_where_it_is_not_named(hello):
    rows = json.loads(hello("--plugins", "--json").stdout)["data"]["structuredContent"]
    mine = next(row for row in rows if row["name"] == "hello")

    assert mine["on"]
    assert mine["flags"] == ["--greeting", "--most-greetings", "--count-events"]
    assert mine["hooks"] == ["agent_events", "agent_guards", "agent_options", "agent_patterns", "agent_tools", "provide_llm"]
    assert "hello (off: " in hello("--plugins", AGENT_PLUGINS="").stdout


def test_a_star_means_all_that_is_there(hello):
    assert hello("--tool", "greet", "Ada", AGENT_PLUGINS="*").stdout == "Hello, Ada!\n"


def test_the_users_file_names_plugins_too(hello, clean_environment):
    (clean_environment / ".config" / "agents").mkdir(parents=True, exist_ok=True)
    (clean_environment / ".config" / "agents" / "config.toml").write_text('plugins = ["hello"]\ngreeting = "Ahoi"\n')

    assert hello("--tool", "greet", "Ada", AGENT_PLUGINS="").stdout == "Ahoi, Ada!\n"


@pytest.mark.skipif(not (BIN and Path(BIN, "assistant").exists()), reason="no built executables (TRANSCRIPT_BIN)")
def test_a_built_executable_reads_the_plugin_folder_and_has_all_six(folder, tmp_path):
    shutil.copy(EXAMPLE / "agents_hello.py", folder / "hello.py")
    env = {"PATH": os.defpath, "HOME": str(folder.parents[2]), "AGENT_PLUGINS": "hello"}

    def run(*words):
        line = [str(Path(BIN, "assistant").absolute()), *words]
        return subprocess.run(line, env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    assert run("--tool", "greet", "--greeting", "Moin", "Ada").stdout == "Moin, Ada!\n"
    assert run(*calls(tmp_path, "Ada", "Bob"), "--greeting", "Moin", "--most-greetings", "1", "greet").returncode == 76
    done = run("-q", "--provider", "parrot", "--pattern", "twice", "--count-events", "kinds", "hello there")
    assert done.stdout == "Again: hello there\n", done.stderr
    assert (tmp_path / "kinds").read_text().split()[-1] == "run.finished"
    assert "hello (file)" in run("--plugins").stdout


def test_from_the_plugin_folder_all_six_are_there_too(from_folder, tmp_path):
    done = from_folder("-q", "--provider", "parrot", "--pattern", "twice", "--count-events", str(tmp_path / "kinds"), "hello there")
    refused = from_folder(*calls(tmp_path, "Ada", "Bob"), "--greeting", "Moin", "--most-greetings", "1", "greet")

    assert done.stdout == "Again: hello there\n"
    assert (tmp_path / "kinds").read_text().split()[0] == "run.started"
    assert refused.returncode == 76
    assert from_folder("--tool", "greet", "Ada", AGENT_PLUGINS="*").stdout == "Hello, Ada!\n"
    assert "hello (file)" in from_folder("--plugins").stdout
    assert "hello (off: file, not in plugins)" in from_folder("--plugins", AGENT_PLUGINS="").stdout


def test_a_pattern_that_computes_for_ever_ends_with_the_timeout_and_its_run_is_recorded(run_agent, folder):
    body = "from agent_core.plugins import hookimpl\ndef spin(task):\n    while True: pass\n    yield\n@hookimpl\ndef agent_patterns(): return {'spin': spin}\n"
    (folder / "spins.py").write_text(body)
    done = run_agent(
        "assistant", "--provider", "offline", "--pattern", "spin", "--timeout", "0.3", "hi", env={"AGENT_PLUGINS": "spins"}
    )

    assert (done.returncode, done.stdout) == (124, "")
    assert done.stderr == "assistant: the deadline passed (raise --timeout)\n"
    assert "124" in run_agent("agent-log", "list").stdout


# --- places


def test_an_ordinary_run_looks_for_nothing(tmp_path, folder):
    (folder / "bad.py").write_text("1/0")
    code = "import sys; from agents.assistant import agent; r = agent.run('what is 1+1?', provider='offline'); print(r.output, 'importlib.metadata' in sys.modules, 'pluggy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PATH": os.defpath, "HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.split() == ["2", "False", "False"], done.stderr


def test_without_plugins_the_built_in_ones_are_listed_with_what_turns_them_on(run_agent):
    plain = run_agent("assistant", "--plugins")

    assert plain.returncode == 0
    assert "context (off: no --context)" in plain.stdout
    assert "memory (off: no --memory)" in plain.stdout
    assert "resources (built in)" in plain.stdout
    assert "context (built in)" in run_agent("assistant", "--context", ".", "--plugins").stdout


def test_listing_starts_no_server_and_needs_no_model(run_agent, tmp_path):
    done = run_agent("assistant", "--mcp-server", "touch started", "--plugins")

    assert "mcp (built in)" in done.stdout
    assert not (tmp_path / "started").exists()


def test_a_file_of_the_folder_wins_over_a_module_of_the_same_name(run_agent, folder, tmp_path):
    (tmp_path / "same.py").write_text(HOOK.format("from_module"))
    (folder / "same.py").write_text(HOOK.format("from_folder"))
    env = {"AGENT_PLUGINS": "same", "PYTHONPATH": f"{ROOT}:{tmp_path}"}

    assert run_agent("assistant", "--pattern", "from_folder", "--show-config", env=env).returncode == 0
    rows = json.loads(run_agent("assistant", "--plugins", "--json", env=env).stdout)["data"]["structuredContent"]
    assert [row["origin"] for row in rows if row["name"] == "same"] == ["file"]


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_folder_that_others_may_write_to_is_not_used(run_agent, folder, what):
    (folder / "open.py").write_text(HOOK.format("x"))
    (folder if what == "folder" else folder / "open.py").chmod(0o777)
    done = run_agent("assistant", "hi", env={"AGENT_PLUGINS": "open"})

    assert done.returncode == 78
    assert "may be changed by others" in done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1/0", "ZeroDivisionError"), ("import no_such_module_7", "no_such_module_7"), ("def broken(", "SyntaxError"), ("x = 1", "has no hooks"), ("raise SystemExit(0)", "SystemExit"),
        ("from agent_core.plugins import hookimpl\n@hookimpl\ndef agent_toolz(): return []\n", "unknown hook"), ("from agent_core.plugins import hookimpl\n@hookimpl\ndef agent_tools(nope): return []\n", "nope"),
    ],
)  # fmt: skip
def test_a_broken_file_of_the_folder_is_78_and_says_why(run_agent, folder, text, says):
    (folder / "bad.py").write_text(text)
    done = run_agent("assistant", "hi", env={"AGENT_PLUGINS": "bad"})

    assert done.returncode == 78
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["no_such_plugin", "../evil", "a b", "json", "hello/../../x", "."])
def test_a_name_that_is_no_plugin_is_78(run_agent, folder, name):
    assert run_agent("assistant", "hi", env={"AGENT_PLUGINS": name}).returncode == 78


def test_a_strangers_project_file_cannot_name_plugins(run_agent, folder, tmp_path):
    (folder / "bad.py").write_text("1/0")
    (tmp_path / "agents.toml").write_text('plugins = ["bad"]\n')
    done = run_agent("assistant", "--provider", "offline", "what is 1+1?")

    assert (done.returncode, done.stdout) == (0, "2\n")


def test_the_prepared_material_of_several_plugins_comes_in_their_order(run_agent, folder):
    for name in ("one", "two"):
        body = f"from dataclasses import replace\nfrom agent_core.messages import user\nfrom agent_core.plugins import hookimpl\n@hookimpl\ndef agent_prepare(job): return replace(job, message=user(job.message.text + ' {name}'))\n@hookimpl\ndef provide_llm(name):\n    from agent_core import messages\n    from agent_core.provider import Provider, Reply\n    return Provider('p', 'm', answer=lambda ask: Reply(messages.assistant(ask.messages[-1].text), model='m')) if name == 'echo' else None\n"
        (folder / f"{name}.py").write_text(body)

    assert run_agent("assistant", "-q", "--provider", "echo", "zero", env={"AGENT_PLUGINS": "one,two"}).stdout == "zero one two\n"
    assert run_agent("assistant", "-q", "--provider", "echo", "zero", env={"AGENT_PLUGINS": "two,one"}).stdout == "zero two one\n"
