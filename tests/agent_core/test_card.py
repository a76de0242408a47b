"""The card and its views, and the choice of a provider."""

from __future__ import annotations

import http.server
import json
import socket
import subprocess
import threading

import jsonschema
import pytest
import small_agent

from agent_core import card, choose, config
from agent_core.errors import EXIT_TABLE, UsageError
from agent_core.options import OPTIONS, SCHEMA_VIEWS

AGENT = small_agent.agent


def test_the_card_has_every_field_of_the_contract():
    made = card.card(AGENT)

    fields = {
        "schema", "name", "version", "description", "when_to_use", "tags", "stdin", "input_schema", "output_schema", "capabilities", "tools",
        "confinement", "permissions", "config", "env", "exit", "examples", "network_hosts", "cost_class", "digest",
    }  # fmt: skip
    assert fields <= set(made)
    assert made["exit"] == {str(status): words for status, words in EXIT_TABLE.items()}
    assert made["examples"] == ["small --tool uppercase hello"]
    assert [tool["name"] for tool in made["tools"]] == [tool.name for tool in AGENT.tools.tools]
    jsonschema.Draft202012Validator.check_schema(made["input_schema"])


def test_the_card_says_what_confines_commands_and_nothing_of_this_machine():
    from agent_core import sandbox
    from agents import assistant, text_processor

    found = card.card(assistant.agent)["confinement"]

    assert found["tools"] == ["shell"]
    assert ["auto", *found["levels"]] == list(sandbox.LEVELS)
    assert (found["otherwise"], found["lifted_by"], found["in_force"]) == ("refused", "unconfined", "--show-config")
    assert sandbox.level().text not in card.view(assistant.agent, "card")
    assert card.card(text_processor.agent)["confinement"] is None


def test_the_card_is_the_same_every_time_and_its_digest_follows_its_content():
    assert card.card(AGENT) == card.card(AGENT)
    assert card.card(AGENT)["digest"] != card.card(AGENT, OPTIONS[:5])["digest"]


@pytest.mark.parametrize("name", SCHEMA_VIEWS)
def test_every_view_is_text_with_one_last_newline_and_json_where_it_looks_so(name):
    text = card.view(AGENT, name)

    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    if text.startswith("{"):
        json.loads(text)


def test_an_unknown_view_names_the_nearest():
    with pytest.raises(UsageError, match="no view 'mpc'") as caught:
        card.view(AGENT, "mpc")
    assert "mcp" in caught.value.hint


def test_the_manual_page_is_good_roff(tmp_path):
    if not any((folder / "groff").exists() for folder in map(__import__("pathlib").Path, ("/usr/bin",))):
        pytest.skip("needs groff")
    done = subprocess.run(
        ["/usr/bin/groff", "-man", "-Tutf8", "-ww"], input=card.view(AGENT, "man").encode(), capture_output=True, check=False
    )

    assert b"warning" not in done.stderr


def test_every_flag_is_in_the_view_of_flags():
    rows = json.loads(card.view(AGENT, "cli"))["flags"]

    assert {row["flag"] for row in rows} == {f"--{option.name}" for option in OPTIONS}


# --- the choice of a provider


def settings(tmp_path, env=None, **flags):
    return config.load(flags, {"HOME": str(tmp_path), "OLLAMA_HOST": "127.0.0.1:9", **(env or {})}, str(tmp_path))


def test_a_route_is_taken_as_given_and_says_nothing(tmp_path):
    assert choose.route(settings(tmp_path, provider="a, b")) == (["a", "b"], "")
    assert choose.route(settings(tmp_path, script="x"))[0] == ["scripted"]
    assert choose.route(settings(tmp_path, base_url="http://127.0.0.1:1/v1"))[0] == ["openai"]


def test_the_first_vendor_whose_key_is_set_is_chosen(tmp_path):
    assert choose.route(settings(tmp_path, {"ANTHROPIC_API_KEY": "k" * 12}))[0] == ["anthropic"]
    assert choose.route(settings(tmp_path, {"ANTHROPIC_API_KEY": ""}))[0] == ["offline"]


def test_a_local_ollama_that_answers_is_chosen_with_its_first_model(tmp_path):
    class Tags(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"models": [{"name": "llama3.2:1b"}]}')

        def log_message(self, *args):
            """Be silent."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Tags)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    names, said = choose.route(settings(tmp_path, {"OLLAMA_HOST": f"http://127.0.0.1:{server.server_port}/"}))
    server.shutdown()
    server.server_close()

    assert names == ["ollama:llama3.2:1b"]
    assert "ollama" in said


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.0 200 OK\r\n\r\nrubbish", b'HTTP/1.0 200 OK\r\n\r\n{"models": []}', b"HTTP/1.0 404 no\r\n\r\n{}", b"\xff" * 100],
)
def test_whatever_else_answers_there_is_no_ollama(tmp_path, answer):
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = server.accept()
        connection.recv(4096)
        connection.sendall(answer)
        connection.close()

    threading.Thread(target=serve, daemon=True).start()
    assert choose.route(settings(tmp_path, {"OLLAMA_HOST": f"127.0.0.1:{server.getsockname()[1]}"}))[0] == ["offline"]
    server.close()


def test_without_anything_it_is_offline_and_says_how_to_change_that(tmp_path):
    names, said = choose.route(settings(tmp_path))

    assert names == ["offline"]
    assert "--provider" in said
