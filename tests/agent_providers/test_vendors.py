"""What must hold for the tables of vendors and models, and for how a name becomes a provider."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest

import agent_providers
from agent_core import money
from agent_core.errors import ConfigError, UsageError
from agent_providers.model_table import ROWS, capabilities, find, price
from agent_providers.vendors import ALIASES, VENDORS


@dataclass(frozen=True)
class Settings:
    model: str = ""
    base_url: str = ""
    script: str = ""


NETWORK = [name for name in VENDORS if name not in {"scripted", "offline"}]


def everything(name):
    """Every variable that the vendor reads, set."""
    vendor = VENDORS[name]
    env = dict.fromkeys(vendor.key_vars, "sk-test") | dict.fromkeys(vendor.model_vars, "some-model")
    env |= {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "verysecret", "AWS_REGION": "eu-west-1"}
    return env | {"AZURE_OPENAI_ENDPOINT": "https://mine.openai.azure.com/"}


@pytest.mark.parametrize("name", NETWORK)
def test_every_vendor_resolves_to_its_own_address_model_and_codec(name):
    provider = agent_providers.resolve(name, Settings(), everything(name))

    assert provider.name == name
    assert provider.model == "some-model"
    assert provider.codec.wire
    assert provider.base_url.startswith("http")
    assert not provider.base_url.endswith("/")


@pytest.mark.parametrize("name", [name for name in NETWORK if not VENDORS[name].keyless and name != "azure"])
def test_a_missing_key_is_a_configuration_error_that_names_the_variable(name):
    with pytest.raises(ConfigError) as caught:
        agent_providers.resolve(name, Settings(), {"AWS_REGION": "eu-west-1"})

    variable = "AWS_ACCESS_KEY_ID" if name == "bedrock" else VENDORS[name].key_vars[0]
    assert variable in caught.value.line()
    assert caught.value.status == 78


@pytest.mark.parametrize("name", ["openai", "openai-responses", "anthropic", "gemini", "groq", "mistral", "cohere", "azure"])
def test_an_address_of_ones_own_needs_no_key(name):
    variable = VENDORS[name].base_url_vars[0]
    provider = agent_providers.resolve(name, Settings("m"), {variable: "http://127.0.0.1:9/v1/"})

    assert provider.key == ""
    assert provider.base_url.startswith("http://127.0.0.1:9")


def test_no_authorization_is_sent_without_a_key():
    from agent_core.effects import Ask
    from agent_core.messages import user

    provider = agent_providers.resolve("openai", Settings(), {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"})
    request = provider.codec.encode(Ask([user("hi")]), provider)

    assert "authorization" not in dict(request.headers)


def test_model_comes_from_the_name_then_the_settings_then_the_variable_then_the_default():
    env = {"OPENAI_API_KEY": "k", "OPENAI_MODEL": "from-env"}

    assert agent_providers.resolve("openai:named", Settings("set"), env).model == "named"
    assert agent_providers.resolve("openai", Settings("set"), env).model == "set"
    assert agent_providers.resolve("openai", Settings(), env).model == "from-env"
    assert agent_providers.resolve("openai", Settings(), {"OPENAI_API_KEY": "k"}).model == "gpt-4o-mini"
    assert agent_providers.resolve("openai", Settings("openai:gpt-4o"), env).model == "gpt-4o"


def test_a_name_may_hold_the_model_after_a_colon_or_a_slash():
    assert agent_providers.split("openai/gpt-4o-mini") == ("openai", "gpt-4o-mini")
    assert agent_providers.split("openrouter/meta-llama/llama-3-70b") == ("openrouter", "meta-llama/llama-3-70b")
    assert agent_providers.split("ollama:llama3.2:1b") == ("ollama", "llama3.2:1b")
    assert agent_providers.split("ollama:hf.co/x/y:Q4") == ("ollama", "hf.co/x/y:Q4")
    assert agent_providers.split("Llama.cpp") == ("local", "")


@pytest.mark.parametrize("name", ["opneai", "antropic:claude", "nope", "", ":", "/"])
def test_an_unknown_name_is_a_usage_error_with_near_names(name):
    with pytest.raises(UsageError) as caught:
        agent_providers.resolve(name, Settings(), {})

    assert caught.value.status == 2
    assert caught.value.hint


def test_a_near_miss_is_named():
    with pytest.raises(UsageError, match="opneai") as caught:
        agent_providers.resolve("opneai", Settings(), {})

    assert "openai" in caught.value.hint


def test_the_setting_base_url_wins_over_the_variable():
    env = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "https://b.example/v1"}

    assert agent_providers.resolve("openai", Settings(base_url="https://a.example/v1"), env).base_url == "https://a.example/v1"


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd",
        "//host",
        "host/v1",
        "http://",
        "http://h:99999/",
        "http://u:p@h/v1",
        "http://h/v1?key=x",
        "http://a b",
        "http://h\n/",
    ],
)
def test_an_address_that_is_no_base_url_is_refused_without_repeating_it(address):
    with pytest.raises(ConfigError) as caught:
        agent_providers.resolve("openai", Settings(base_url=address), {"OPENAI_API_KEY": "k"})

    assert "u:p" not in caught.value.line()


@pytest.mark.parametrize(
    ("host", "want"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),  # noqa: S104 - what people put there
        ("gpu", "http://gpu:11434"),
        ("gpu:8000", "http://gpu:8000"),
        (":8000", "http://127.0.0.1:8000"),
        ("https://gpu.example", "https://gpu.example"),
        ("http://gpu:1/", "http://gpu:1"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("[::1]", "http://[::1]:11434"),
    ],
)
def test_ollama_host_may_lack_scheme_and_port(host, want):
    env = {"OLLAMA_HOST": host}

    assert agent_providers.resolve("ollama", Settings(), env).base_url == want
    assert agent_providers.resolve("ollama-openai", Settings(), env).base_url == f"{want}/v1"


@pytest.mark.parametrize(
    "endpoint", ["https://r.openai.azure.com", "https://r.openai.azure.com/", "https://r.openai.azure.com/openai/v1/"]
)
def test_azure_takes_any_form_of_its_endpoint_and_an_optional_dated_version(endpoint):
    from agent_core.effects import Ask
    from agent_core.messages import user

    env = {"AZURE_OPENAI_ENDPOINT": endpoint, "AZURE_OPENAI_API_KEY": "azkey"}
    plain = agent_providers.resolve("azure", Settings("my dep"), env)
    dated = agent_providers.resolve("azure", Settings("my dep"), env | {"AZURE_OPENAI_API_VERSION": "2024-10-21"})
    first, second = (p.codec.encode(Ask([user("hi")]), p) for p in (plain, dated))

    assert first.url == "https://r.openai.azure.com/openai/v1/chat/completions"
    assert second.url == "https://r.openai.azure.com/openai/deployments/my%20dep/chat/completions?api-version=2024-10-21"
    assert dict(first.headers)["api-key"] == "azkey"
    assert "authorization" not in dict(first.headers)


def test_azure_takes_a_bearer_token_where_there_is_no_key_and_needs_an_address():
    from agent_core.effects import Ask
    from agent_core.messages import user

    provider = agent_providers.resolve(
        "azure", Settings("d"), {"AZURE_OPENAI_ENDPOINT": "https://r.openai.azure.com", "AZURE_OPENAI_AD_TOKEN": "tok"}
    )
    headers = dict(provider.codec.encode(Ask([user("hi")]), provider).headers)

    assert headers["authorization"] == "Bearer tok"
    assert "api-key" not in headers
    with pytest.raises(ConfigError, match="address"):
        agent_providers.resolve("azure", Settings("d"), {"AZURE_OPENAI_API_KEY": "k"})


def test_choose_takes_the_first_vendor_whose_key_is_set_and_never_guesses():
    assert agent_providers.choose({}) is None
    assert agent_providers.choose({"ANTHROPIC_API_KEY": "x"}) == "anthropic"
    assert agent_providers.choose({"ANTHROPIC_API_KEY": "x", "OPENAI_API_KEY": "y"}) == "openai"
    assert agent_providers.choose({"OPENAI_API_KEY": "  "}) is None
    assert agent_providers.choose({"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}) is None
    assert agent_providers.choose({"AWS_ACCESS_KEY_ID": "x", "BEDROCK_MODEL": "y"}) == "bedrock"


def test_a_provider_without_network_is_made_by_its_module(tmp_path):
    script = tmp_path / "one.jsonl"
    script.write_text('"four"\n')

    by_name = agent_providers.resolve(f"scripted:{script}", Settings(), {})
    by_setting = agent_providers.resolve("scripted", Settings(script=str(script)), {})

    assert by_name.answer is not None
    assert by_setting.answer is not None


def test_no_name_means_two_vendors():
    assert not set(ALIASES) & set(VENDORS)
    assert len(set(agent_providers.names())) == len(agent_providers.names())


def test_every_model_row_belongs_to_a_vendor_is_unique_and_its_price_is_dated_money():
    assert len({(row.vendor, row.model) for row in ROWS}) == len(ROWS)
    for row in agent_providers.models():
        assert row.vendor in VENDORS
        assert bool(row.prices) == bool(row.basis)
        assert all(money.pico(amount) >= 0 for amount in row.prices if amount is not None)


def test_a_dated_name_costs_what_its_family_costs_and_an_unknown_one_is_unknown():
    assert price("openai", "gpt-4o-mini-2024-07-18") == price("openai", "gpt-4o-mini")
    assert price("openai-responses", "gpt-4o-mini").input == "0.15"
    assert price("openai", "gpt-99").input is None
    assert price("azure", "gpt-4o-mini").input is None
    assert find("openai", "gpt-4o-min") is None
    assert capabilities("openai", "gpt-99").tools
    assert capabilities("openai", "gpt-99").context_window is None


def test_a_model_on_this_machine_costs_nothing_and_one_elsewhere_is_unknown():
    assert agent_providers.resolve("ollama", Settings(), {}).price.input == "0"
    assert agent_providers.resolve("ollama", Settings(), {"OLLAMA_HOST": "gpu"}).price.input is None
    assert agent_providers.resolve("ollama", Settings("big-cloud"), {}).price.input is None


def test_resolving_imports_only_the_chosen_codec_and_nothing_heavy():
    code = (
        "import sys, agent_providers\n"
        "class S: model = base_url = script = ''\n"
        "agent_providers.resolve('openai', S(), {'OPENAI_API_KEY': 'k'})\n"
        "print(*sorted(m for m in sys.modules if m.startswith('agent_providers.') or m in "
        "{'httpx', 'pydantic', 'asyncio', 'typer', 'rich', 'sqlite3'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == [
        "agent_providers.model_table",
        "agent_providers.openai_chat",
        "agent_providers.vendors",
        "agent_providers.wire",
    ]


def test_no_secret_shows_in_the_repr_of_a_provider():
    provider = agent_providers.resolve("bedrock", Settings(), everything("bedrock"))

    assert "sk-test" not in repr(provider)
    assert "verysecret" not in repr(provider)
