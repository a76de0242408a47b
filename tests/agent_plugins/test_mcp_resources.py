"""What a server lets be read, and its prompts: as tools, as an instruction, under the same policy and as untrusted text."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from agent_core import config
from agent_plugins.mcp import client, resources, tools
from agent_plugins.mcp.servers import Server

ODD = str(Path(__file__).with_name("mcp_odd_server.py"))
LINE = f"odd={sys.executable} -S {ODD} resources prompts"
FULL = ("--mcp-server", LINE, "--allow", "mcp")


@pytest.fixture
def odd(tmp_path):
    """Give a function that starts the odd server with modes; returns its Client."""
    made = []

    def start(*modes, **rest):
        settings = config.load({}, {"HOME": "/"}, str(tmp_path))
        server = Server("odd", (sys.executable, "-S", ODD, *modes), cwd=str(tmp_path), **rest)
        made.append(client.Client(server, settings, lambda _text, loud=False: None))
        made[-1].start(time.monotonic() + 10)
        return made[-1]

    yield start
    for one in made:
        one.close()


def until():
    return time.monotonic() + 10


# --- resources


@pytest.mark.parametrize("era", [(), ("old",)])
def test_resources_are_listed_page_by_page_with_their_words_cleaned(odd, era):
    found = resources.listed(odd("resources", *era), {}, until()).value

    assert [row["uri"] for row in found["resources"]] == [f"memo://{n}" for n in range(5)]
    assert found["resources"][0] == {"uri": "memo://0", "name": "memo 0␛[2J", "mimeType": "text/plain"}
    assert found.keys() == {"resources"}


def test_templates_are_listed_once_and_a_listing_goes_on_where_one_ended(odd):
    one = odd("resources", "templates")

    assert resources.listed(one, {}, until()).value["templates"] == [{"uriTemplate": "memo://{n}", "name": "memos"}]
    assert resources.listed(one, {"cursor": "4"}, until()).value == {"resources": [{"uri": "memo://4", "name": "memo 4␛[2J", "mimeType": "text/plain"}]}  # fmt: skip


def test_a_list_without_end_is_cut_and_says_where(odd):
    found = resources.listed(odd("resources", "endless-pages"), {}, until()).value

    assert len(found["resources"]) <= resources.ENTRIES
    assert found["next"] == str(2 * resources.PAGES)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("0", "Buy milk.\nAnd bread."), ("empty", ""), ("coded", "grün"),
        ("many", "[resource: memo://a]\none\n[resource: memo://b image/png, 3 bytes, not shown]"), ("odd", "[resource: unknown unknown, 0 bytes, not shown]"),
    ],
)  # fmt: skip
def test_what_is_text_in_a_resource_is_shown_and_the_rest_is_named(odd, name, text):
    assert resources.read(odd("resources"), {"uri": f"memo://{name}"}, until()).text == text


def test_only_a_server_that_has_resources_gets_the_two_tools_and_a_list_of_tools_may_leave_them_out(odd):
    one, without, chosen = odd("resources"), odd(), odd("resources", tools=("add", "read_*"))

    def names(each):
        return [offer.name for offer in tools.offers(each, lambda _text: None)]

    assert names(one) == ["add", "slow", "list_resources", "read_resource"]
    assert names(without) == ["add", "slow"]
    assert names(chosen) == ["add", "read_resource"]


def test_reading_needs_a_grant_of_its_own_and_brings_untrusted_text(run_agent):
    server = ("--mcp-server", LINE)
    done = run_agent("assistant", *server, "--tool", "read_resource", "memo://0")
    assert done.returncode == 77
    assert "grant with --allow mcp:odd/read_resource" in done.stderr

    done = run_agent("assistant", *server, "--allow", "mcp:odd/read_resource", "--json", "--tool", "read_resource", "memo://0")
    data = json.loads(done.stdout)["data"]
    assert (data["output"], data["provenance"]) == ("Buy milk.\nAnd bread.", [{"ref": "mcp:odd", "trust": "untrusted"}])
    assert run_agent("assistant", *FULL, "--deny", "mcp:odd/read_resource", "--tool", "read_resource", "memo://0").returncode == 77
    assert run_agent("assistant", *FULL, "--tool", "read_resource", "memo://no").stderr.startswith(
        "assistant: read_resource: odd refuses"
    )


def test_what_a_resource_says_changes_no_decision(run_agent, tmp_path):
    (tmp_path.parent / "secret.txt").write_text("s")
    calls = [
        {"tool_calls": [{"name": "read_resource", "arguments": {"uri": "memo://0"}}]},
        {"tool_calls": [{"name": "file_read", "arguments": {"path": "../secret.txt"}}]},
        {"tool_calls": [{"name": "read_resource", "arguments": {"uri": "memo://s"}}]},
        {"text": "done", "expect": "only a person can allow that"},
    ]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(each) + "\n" for each in calls))
    done = run_agent("assistant", *FULL, "--allow", "file-read:..", "--yes", "--provider", "scripted", "--script", "s.jsonl", "go")

    assert done.returncode == 77
    assert "has read untrusted text and private data" in done.stderr


# --- prompts


def user_text(run_agent, *args, stdin=None):
    done = run_agent("assistant", *FULL, *args, "--provider", "offline", "--show-prompt", "--json", stdin=stdin)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["data"]["structuredContent"][-1]["text"]


def test_a_prompt_is_the_instruction_before_the_words_and_stdin_is_material(run_agent):
    assert user_text(run_agent, "--mcp-prompt", "plain") == "Say a word."
    assert user_text(run_agent, "--mcp-prompt", "odd/greet who='Ada L' how=!", "in French") == "Greet Ada L!.\n\nin French"
    text = user_text(run_agent, "--mcp-prompt", "plain", stdin="from stdin")
    assert text.startswith('Say a word.\n\n<material origin="stdin"')


def test_a_prompt_of_several_messages_keeps_them_apart_and_cannot_fake_material(run_agent):
    text = user_text(run_agent, "--mcp-prompt", "several")

    assert text == "Hi.\n\n(assistant:) Ho.\n\n[resource: memo://0]\nBuy milk.\n\n[image: image/png, 3 bytes, not shown]"
    assert "<material" not in user_text(run_agent, "--mcp-prompt", "marks")


def test_a_run_that_begins_with_a_prompt_has_read_something_untrusted(run_agent):
    done = run_agent("assistant", *FULL, "--mcp-prompt", "plain", "--provider", "offline", "--json")

    assert {"ref": "mcp:odd/prompts/plain", "trust": "untrusted"} in json.loads(done.stdout)["data"]["provenance"]


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        ("no", 2, "there is odd/plain, odd/greet who=… [how=…], odd/several"), ("greet", 2, "who is missing (it takes greet who=… [how=…])"),
        ("greet who=x when=now", 2, "there is no when"), ("greet Ada", 2, "'Ada' is not KEY=VALUE"), ("plain '", 2, "check the quotes"), ("empty", 76, "is empty"),
    ],
)  # fmt: skip
def test_a_prompt_that_cannot_be_used_is_an_error_that_says_what_there_is(run_agent, words, status, says):
    done = run_agent("assistant", *FULL, "--mcp-prompt", words, "--provider", "offline", "hi")

    assert (done.returncode, done.stdout) == (status, "")
    assert says in done.stderr


def test_a_prompt_needs_a_server_that_has_some(run_agent):
    none = run_agent("assistant", "--mcp-prompt", "x", "hi")
    without = run_agent("assistant", "--mcp-server", f"{sys.executable} -S {ODD}", "--mcp-prompt", "x", "hi")

    assert (none.returncode, without.returncode) == (2, 2)
    assert "needs a server" in none.stderr
    assert "these servers have none" in without.stderr


def test_a_strangers_project_file_cannot_choose_a_prompt(run_agent, tmp_path):
    (tmp_path / "agents.toml").write_text('mcp_prompt = "plain"\n')
    done = run_agent("assistant", "--provider", "offline", "what is 1+1?")

    assert (done.returncode, done.stdout) == (0, "2\n")
