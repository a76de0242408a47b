"""Settings: layers, origins, hostile project files, keys."""

from __future__ import annotations

import os
import sys
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from agent_core import config, redact
from agent_core.config import Settings, load, vendor_environment
from agent_core.errors import ConfigError, UsageError
from agent_core.options import OPTIONS, Option, table

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path):
    """Give a function that makes settings from files and an environment below tmp_path."""
    folder = tmp_path / "project" / "deep"
    folder.mkdir(parents=True)

    def make(flags=None, env=None, user="", project="", system="", **rest) -> Settings:
        homes = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "user"), "XDG_CONFIG_DIRS": str(tmp_path / "system")}
        for path, text in (
            ("user/agents/config.toml", user),
            ("system/agents/config.toml", system),
            ("project/agents.toml", project),
        ):
            if text:
                (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / path).write_text(text)
        return load(flags or {}, {**homes, **(env or {})}, str(folder), **rest)

    return make


def test_flag_beats_environment_beats_project_beats_user_beats_system_beats_default(place, tmp_path):
    layers = {"system": 'model = "s"', "user": 'model = "u"', "project": 'model = "p"'}

    made = place({"model": "f"}, {"AGENT_MODEL": "e"}, **layers)
    assert (made.model, made.origins["model"]) == ("f", "flag --model")
    made = place({}, {"AGENT_MODEL": "e"})
    assert (made.model, made.origins["model"]) == ("e", "env AGENT_MODEL")
    made = place()
    assert (made.model, made.origins["model"]) == ("p", str(tmp_path / "project" / "agents.toml"))
    (tmp_path / "project" / "agents.toml").unlink()
    assert place().model == "u"
    (tmp_path / "user/agents/config.toml").unlink()
    assert place().model == "s"
    (tmp_path / "system/agents/config.toml").unlink()
    assert (place().model, place().origins["model"]) == ("", "default")


def test_the_defaults_of_settings_and_of_the_table_are_the_same():
    for option in OPTIONS:
        if option.setting and option.group != "Plugins" and option.field not in {"data_dir", "workspace"}:
            assert getattr(Settings(), option.field) == option.default, option.name


def test_general_model_variables_are_honoured_below_our_own(place):
    assert place({}, {"LLM_PROVIDER": "a", "LLM_MODEL": "m"}).provider == "a"
    made = place({}, {"LLM_MODEL": "m", "AGENT_MODEL": "n"})
    assert (made.model, made.origins["model"]) == ("n", "env AGENT_MODEL")


def test_values_have_their_kinds_wherever_they_come_from(place):
    made = place(
        {"budget": 0.1},
        {"AGENT_MAX_STEPS": "3", "AGENT_ALLOW": "a, b"},
        user="temperature = 1\ntimeout = '2m'\nrate = '5/s'\nyes = true",
    )

    assert (made.max_steps, made.allow, made.temperature, made.timeout, made.rate) == (3, ("a", "b"), 1.0, 120.0, (5.0, 1.0))
    assert (made.budget, made.yes) == (Decimal("0.1"), True)


def test_llm_agent_and_profile_tables_apply_and_others_are_kept(place):
    text = """
        [llm]
        model = "general"
        [agent.demo]
        model = "mine"
        [profile.production]
        temperature = 0.1
        [server]
        port = 1
    """
    assert place(user=text).model == "general"
    assert place(user=text, agent="demo").model == "mine"
    assert place({"profile": "production"}, user=text).temperature == 0.1
    assert place(user=text).tables["server"] == {"port": 1}
    with pytest.raises(UsageError, match="no profile 'prod'") as caught:
        place({"profile": "prod"}, user=text)
    assert "production" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("modle = 'x'", "no setting 'modle'"), ("max_steps = 'many'", "max_steps"), ("max_steps = true", "max_steps"), ("= x", "config.toml"),
        ("temperature = 3", "more than 2"), ("agent = 3", "agent must be a table"), ("plugins = 3", "plugins must be a list"), ("model = 3", "model"),
    ],
)  # fmt: skip
def test_a_bad_file_is_status_78_and_names_the_file_and_the_setting(place, text, says):
    with pytest.raises(ConfigError) as caught:
        place(user=text)

    assert says in str(caught.value)
    assert "config.toml" in str(caught.value)


def test_a_bad_variable_is_status_78_and_a_bad_argument_status_2(place):
    with pytest.raises(ConfigError, match="AGENT_MAX_STEPS"):
        place({}, {"AGENT_MAX_STEPS": "x"})
    with pytest.raises(UsageError, match="max-steps"):
        place({"max_steps": "x"})
    with pytest.raises(UsageError, match="no setting 'modle'") as caught:
        place({"modle": "x"})
    assert "model" in caught.value.hint


def test_a_project_file_of_a_stranger_cannot_widen_rights_or_redirect_keys(place):
    text = 'allow = ["shell"]\nyes = true\nplugins = ["evil"]\nbase_url = "http://evil.example"\nkey_command = ["x"]\nmodel = "m"\nworkspace = "/"\nenv_file = "x"'
    made = place(project=text)

    assert (made.allow, made.yes, made.plugins, made.base_url, made.key_command, made.env_file) == ((), False, (), "", (), "")
    assert (made.model, len(made.notices), made.workspace.endswith("deep")) == ("m", 7, True)


@pytest.mark.parametrize("url", ["http://127.0.0.1:80/v1", "http://localhost"])
def test_a_project_file_may_point_to_this_machine(place, url):
    assert place(project=f"base_url = '{url}'").base_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost.evil.example",
        "http://127.0.0.1@evil.example",
        "http://127.0.0.1:x@evil.example",
        "http://localhost\\\\.evil",
    ],
)
def test_an_address_that_only_looks_like_this_machine_is_left_out(place, url):
    assert place(project=f'base_url = "{url}"').base_url == ""


def test_what_is_forbidden_adds_up_and_no_layer_takes_it_back(place):
    made = place(
        {"deny": ("network",)},
        {"AGENT_DENY": "secret"},
        user='deny = ["shell"]\nconfirm = ["network"]',
        project="deny = []\nconfirm = []",
    )

    assert made.deny == ("shell", "secret", "network")
    assert made.confirm == ("network",)
    assert made.origins["deny"].endswith("config.toml, env AGENT_DENY, flag --deny")


def test_a_trusted_project_may_set_everything(place, tmp_path):
    project = str(tmp_path / "project")

    assert place({}, {"AGENT_TRUSTED": project}, project='allow = ["shell"]').allow == ("shell",)
    assert place(user=f'trusted = ["{project}"]', project='allow = ["shell"]').allow == ("shell",)
    assert place(user=f'trusted = ["{project}-other"]', project='allow = ["shell"]').allow == ()


def test_plugin_and_agent_flags_end_up_in_extra_with_default_variable_and_file(place):
    options = table([Option("fail-on", "x", "text", default="high", setting=True)])

    assert place(options=options).extra["fail_on"] == "high"
    assert place({}, {"AGENT_FAIL_ON": "low"}, options=options).extra["fail_on"] == "low"
    assert place({"fail_on": "medium"}, options=options).extra["fail_on"] == "medium"
    assert place(user="fail_on = 'none'", options=options).extra["fail_on"] == "none"


def test_an_env_file_lies_beneath_the_environment(place, tmp_path):
    path = tmp_path / "x.env"
    path.write_text("# comment\nexport AGENT_MODEL='file'\nOPENAI_API_KEY=\"a b\"\nAGENT_PATTERN=plan # why\n")
    made = place({"env_file": str(path)}, {"AGENT_PATTERN": "react"})

    assert (made.model, made.pattern, made.environment["OPENAI_API_KEY"]) == ("file", "react", "a b")
    path.write_text("OPENAI_API_KEY sk-secret\n")
    with pytest.raises(ConfigError, match="line 1") as caught:
        place({"env_file": str(path)})
    assert "secret" not in caught.value.line()


def test_keys_come_from_environment_then_command_then_credential_then_key_file(place, tmp_path):
    file = tmp_path / "user" / "agents" / "keys.toml"
    file.parent.mkdir(parents=True)
    file.write_text('ONE_API_KEY = "from-key-file"\n')
    file.chmod(0o600)
    assert vendor_environment(place())["ONE_API_KEY"] == "from-key-file"

    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "one_api_key").write_text("from-credential\n")
    env = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert vendor_environment(place({}, env))["ONE_API_KEY"] == "from-credential"

    command = f'key_command = ["{sys.executable}", "-c", "print(\'from-command-{{name}}\')"]'
    assert vendor_environment(place({}, env, user=command))["ONE_API_KEY"] == "from-command-ONE_API_KEY"
    assert vendor_environment(place({}, env), quick=True)["ONE_API_KEY"] == "from-credential"
    assert vendor_environment(place({}, {**env, "ONE_API_KEY": "from-env-itself"}))["ONE_API_KEY"] == "from-env-itself"
    assert "from-env-itself" not in redact.redact("x from-env-itself y")


def test_a_key_file_that_others_may_read_is_refused(place, tmp_path):
    file = tmp_path / "user" / "agents" / "keys.toml"
    file.parent.mkdir(parents=True)
    file.write_text('ONE_API_KEY = "secret-in-file"\n')
    file.chmod(0o640)

    with pytest.raises(ConfigError, match="may be read by others") as caught:
        vendor_environment(place()).get("ONE_API_KEY")
    assert "chmod 600" in caught.value.hint
    assert "secret" not in caught.value.line()


def test_a_failing_key_command_tells_nothing_it_printed(place):
    silent = f'key_command = ["{sys.executable}", "-c", "print(\'secret\'); raise SystemExit(1)"]'

    assert vendor_environment(place(user=silent)).get("ONE_API_KEY") is None
    with pytest.raises(ConfigError, match="key command /no/such failed"):
        vendor_environment(place(user='key_command = ["/no/such"]')).get("ONE_API_KEY")


def test_names_that_are_no_secret_are_only_looked_up_in_the_environment(place):
    assert vendor_environment(place({}, {"OLLAMA_HOST": "x"}, user='key_command = ["/no/such"]')).get("OPENAI_BASE_URL") is None


def test_every_setting_is_shown_with_its_origin(place):
    shown = {name: (value, origin) for name, value, origin in config.shown(place({"allow": ("a",)}, {"AGENT_MODEL": "m"}))}

    assert shown["model"] == ("m", "env AGENT_MODEL")
    assert shown["allow"] == (["a"], "flag --allow")
    assert {option.field for option in OPTIONS if option.setting} <= set(shown)


def test_relative_xdg_folders_are_ignored_and_paths_are_absolute(tmp_path):
    made = load({"workspace": "w"}, {"HOME": "/h", "XDG_DATA_HOME": "relative"}, str(tmp_path))

    assert made.data_dir == "/h/.local/share/agents"
    assert made.workspace == os.path.join(tmp_path, "w")


@pytest.mark.parametrize("home", ["rel", "~"])
def test_without_a_home_nothing_is_kept_where_the_command_happens_to_stand(home):
    assert config.data_dir({"HOME": home}) == "/nonexistent/.local/share/agents"
    assert config.data_dir({"HOME": home, "XDG_DATA_HOME": "/data"}) == "/data/agents"
