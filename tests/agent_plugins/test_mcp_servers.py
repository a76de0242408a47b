"""Which servers a run has: flags, files, tables, names, secrets, and who may name a program."""

from __future__ import annotations

import json

import pytest

from agent_core import config, redact
from agent_core.errors import ConfigError, UsageError
from agent_plugins.mcp import servers


def settings(tmp_path, *, env=None, **flags):
    home = {"HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}
    return config.load(flags, {**home, **(env or {})}, str(tmp_path))


def user_file(tmp_path, text):
    folder = tmp_path / "home" / ".config" / "agents"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(text)


@pytest.mark.parametrize(
    ("text", "name", "argv"),
    [
        ("npx -y @modelcontextprotocol/server-everything", "everything", ("npx", "-y", "@modelcontextprotocol/server-everything")),
        ("npx -y @scope/server-files@1.2 /data", "files", ("npx", "-y", "@scope/server-files@1.2", "/data")),
        ("uvx mcp-server-git --repository .", "git", ("uvx", "mcp-server-git", "--repository", ".")),
        ("python3 -u ./dir/sums.py", "sums", ("python3", "-u", "./dir/sums.py")),
        ("python3.11 -m tools.sums", "sums", ("python3.11", "-m", "tools.sums")),
        ("/opt/bin/weather-mcp", "weather", ("/opt/bin/weather-mcp",)),
        ("sums=python3 'my server.py'", "sums", ("python3", "my server.py")),
        ("node a.js; rm -rf $HOME", "a-js", ("node", "a.js;", "rm", "-rf", "$HOME")),
        ("server", "server", ("server",)),
    ],
)  # fmt: skip
def test_a_command_line_is_split_into_words_and_never_given_to_a_shell(text, name, argv):
    made = servers.from_flag(text)

    assert (made.name, made.argv, made.url) == (name, argv, "")


def test_a_url_is_named_by_its_host_and_may_be_this_machine_since_the_flag_names_it():
    made = servers.from_flag("http://127.0.0.1:8000/mcp?x=1")

    assert (made.name, made.url, made.private) == ("127-0-0-1-8000", "http://127.0.0.1:8000/mcp?x=1", True)
    assert servers.from_flag("shop=https://mcp.example.com/mcp").name == "shop"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "command line"), ("   ", "command line"), ("'open quote", "quotes"), ("KEY=secret npx x", "env"), ("ftp://x/y", "http"), ("https://u:p@x/", "password"), ("https://", "http"),
        ("http://ex ample/", "http"), ("a\0b", "command line"),
    ],
)  # fmt: skip
def test_what_is_no_server_is_a_usage_error_that_tells_what_to_write(text, says):
    with pytest.raises(UsageError) as caught:
        servers.from_flag(text)

    assert says in caught.value.line()
    assert "secret" not in caught.value.line()


def test_a_file_with_mcp_servers_is_read_as_other_clients_read_it(tmp_path):
    listed = {
        "Files": {"command": "npx", "args": ["-y", "pkg"], "env": {"A": "1"}, "autoApprove": ["x"], "type": "stdio"},
        "shop": {
            "url": "https://shop.example/mcp",
            "headers": {"Authorization": "Bearer ${SHOP_TOKEN}"},
            "type": "http",
            "timeout": 5,
            "optional": True,
        },
        "off": {"command": "x", "disabled": True},
    }
    (tmp_path / "s.json").write_text(json.dumps({"mcpServers": listed}))
    files, shop = servers.of(settings(tmp_path, env={"SHOP_TOKEN": "tok-12345678"}, mcp_config=str(tmp_path / "s.json")))

    assert (files.name, files.argv, files.env) == ("files", ("npx", "-y", "pkg"), (("A", "1"),))
    assert (shop.url, shop.headers, shop.timeout, shop.optional, shop.private) == (
        "https://shop.example/mcp",
        (("Authorization", "Bearer tok-12345678"),),
        5.0,
        True,
        False,
    )
    assert "tok-12345678" not in redact.redact("a tok-12345678 b")
    assert "tok-12345678" not in repr(shop)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({}, "either `command` or `url`"), ({"command": "x", "url": "https://x"}, "either"), ({"command": 3}, "command must be text"), ({"command": "x", "args": "y"}, "args must be"),
        ({"command": "x", "args": [1]}, "args must be"), ({"command": "x", "env": {"A": 1}}, "env must map"), ({"command": "x", "env": {"A": "a\nb"}}, "env must map"), ({"url": "file:///etc/passwd"}, "http"),
        ({"url": "https://u:p@x/"}, "password"), ({"command": "x", "timeout": 0}, "timeout"), ({"command": "x", "timeout": True}, "timeout"), ({"command": "x", "sandbox": 3}, "sandbox"),
        ({"command": "x", "optional": "yes"}, "optional"), ({"url": "https://x/sse", "type": "sse"}, "SSE"), (3, "must be a table"), ({"command": "x\0"}, "command"),
    ],
)  # fmt: skip
def test_an_entry_that_does_not_fit_is_78_and_names_file_server_and_key(tmp_path, entry, says):
    (tmp_path / "s.json").write_text(json.dumps({"mcpServers": {"one": entry}}))
    with pytest.raises(ConfigError) as caught:
        servers.of(settings(tmp_path, mcp_config=str(tmp_path / "s.json")))

    assert says in str(caught.value)
    assert "s.json" in str(caught.value)
    assert "one" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"mcpServers": []}', "[" * 100000])
def test_a_file_without_servers_is_78(tmp_path, text):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(ConfigError, match=r"s\.json"):
        servers.of(settings(tmp_path, mcp_config=str(tmp_path / "s.json")))


def test_a_variable_that_is_not_set_is_78_and_named(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps({"mcpServers": {"a": {"command": "x", "env": {"T": "${NO_SUCH_TOKEN}"}}}}))
    with pytest.raises(ConfigError, match="NO_SUCH_TOKEN"):
        servers.of(settings(tmp_path, mcp_config=str(tmp_path / "s.json")))


def test_tables_of_the_users_file_count_and_those_of_a_stranger_do_not(tmp_path, monkeypatch):
    user_file(tmp_path, '[mcpServers.mine]\ncommand = "mine"\n')
    (tmp_path / "agents.toml").write_text(
        'mcp_server = ["evil --now"]\nmcp_config = "evil.json"\n[mcpServers.theirs]\ncommand = "theirs"\n'
    )
    (tmp_path / "evil.json").write_text('{"mcpServers": {"worse": {"command": "worse"}}}')
    monkeypatch.chdir(tmp_path)
    told = []

    assert [server.name for server in servers.of(settings(tmp_path), told.append)] == ["mine"]
    assert [text.partition(": ")[2].split()[0] for text in told] == [
        "mcpServers"
    ]  # the flags' names are refused where settings are read
    trusted = settings(tmp_path, env={"AGENT_TRUSTED": str(tmp_path)})
    assert [server.name for server in servers.of(trusted)] == ["mine", "theirs", "worse", "evil"]


def test_a_variable_and_the_users_file_may_name_servers_too(tmp_path):
    user_file(tmp_path, 'mcp_server = ["a x"]\n')

    assert [server.argv for server in servers.of(settings(tmp_path))] == [("a", "x")]
    assert [server.argv for server in servers.of(settings(tmp_path, env={"AGENT_MCP_SERVER": "b x"}))] == [("b", "x")]


def test_servers_of_one_name_are_numbered_and_equal_ones_are_one(tmp_path):
    made = servers.of(settings(tmp_path, mcp_server=("x a", "y=x b", "x c", "x a")))

    assert [server.name for server in made] == ["x", "y", "x-2"]


def test_a_program_gets_a_scrubbed_environment_and_what_its_entry_says(tmp_path):
    env = {"OPENAI_API_KEY": "sk-1", "AWS_SECRET_ACCESS_KEY": "x", "AGENT_ALLOW": "shell", "LANG": "C.UTF-8"}
    made = servers.environment(servers.Server("s", ("x",), env=(("TOKEN", "t"),)), settings(tmp_path, env=env))

    assert made == {"HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TOKEN": "t"}


def test_paths_are_made_absolute_where_the_user_stands(tmp_path):
    (server,) = servers.of(settings(tmp_path, mcp_server=("./run it",)))

    assert server.argv[0].startswith("/")
    assert server.cwd == f"{tmp_path}/"
