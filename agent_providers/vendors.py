"""vendors - one row a service: its wire, address, variables and quirks.

Adding a service that speaks a wire we know is one row here and, for its prices, rows in `model_table`. Every address can be
changed by its variable or by --base-url; a service at an address of your own, or on this machine, needs no key.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Vendor:
    """A service. `wire` is its codec's module; variables are tried in order.

    `default_model` is used when nothing names a model; `keyless` services do not want a key; `local` ones cost nothing;
    `bearer_var` names a token that does where there is no key; `headers` are (header, variable) pairs; `extra` are (name in
    Provider.extra, variables) pairs.
    """

    name: str
    wire: str
    base_url: str = ""
    key_vars: tuple[str, ...] = ()
    base_url_vars: tuple[str, ...] = ()
    model_vars: tuple[str, ...] = ()
    default_model: str = ""
    quirks: frozenset[str] = frozenset()
    keyless: bool = False
    local: bool = False
    bearer_var: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()
    aliases: tuple[str, ...] = field(default=(), compare=False)


OLD_NAME = frozenset({"max_tokens"})
_OPENAI_HEADERS = (("openai-organization", "OPENAI_ORG_ID"), ("openai-project", "OPENAI_PROJECT_ID"))


def _compatible(name: str, base_url: str, model: str, *quirks: str, aliases: tuple[str, ...] = ()) -> Vendor:
    """Return a row for a service on the Chat Completions wire whose variables are named after it."""
    stem = name.upper()
    return Vendor(
        name, "openai_chat", base_url,
        (f"{stem}_API_KEY",), (f"{stem}_BASE_URL",), (f"{stem}_MODEL",), model, OLD_NAME | set(quirks), aliases=aliases,
    )  # fmt: skip


_ROWS = (
    Vendor(
        "openai", "openai_chat", "https://api.openai.com/v1",
        ("OPENAI_API_KEY",), ("OPENAI_BASE_URL", "OPENAI_API_BASE"), ("OPENAI_MODEL",), "gpt-4o-mini", headers=_OPENAI_HEADERS,
    ),
    Vendor(
        "openai-responses", "openai_responses", "https://api.openai.com/v1",
        ("OPENAI_API_KEY",), ("OPENAI_BASE_URL", "OPENAI_API_BASE"), ("OPENAI_MODEL",), "gpt-4o-mini", headers=_OPENAI_HEADERS,
        aliases=("responses",),
    ),
    Vendor(
        "anthropic", "anthropic", "https://api.anthropic.com",
        ("ANTHROPIC_API_KEY",), ("ANTHROPIC_BASE_URL",), ("ANTHROPIC_MODEL",), "claude-haiku-4-5",
        bearer_var="ANTHROPIC_AUTH_TOKEN", aliases=("claude",),
    ),
    Vendor(
        "gemini", "gemini", "https://generativelanguage.googleapis.com",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"), ("GEMINI_BASE_URL", "GOOGLE_GEMINI_BASE_URL"), ("GEMINI_MODEL",), "gemini-2.5-flash",
        aliases=("google",),
    ),
    _compatible("groq", "https://api.groq.com/openai/v1", "llama-3.3-70b-versatile"),
    _compatible("together", "https://api.together.xyz/v1", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
    _compatible("openrouter", "https://openrouter.ai/api/v1", "openai/gpt-4o-mini"),
    _compatible("mistral", "https://api.mistral.ai/v1", "mistral-small-latest", "no_stream_options"),
    _compatible("deepseek", "https://api.deepseek.com/v1", "deepseek-chat", "json_object"),
    _compatible("xai", "https://api.x.ai/v1", "grok-4", aliases=("grok",)),
    Vendor(
        "cohere", "cohere", "https://api.cohere.com",
        ("COHERE_API_KEY", "CO_API_KEY"), ("COHERE_BASE_URL", "CO_API_URL"), ("COHERE_MODEL",), "command-a-03-2025",
    ),
    Vendor(
        "azure", "openai_chat", "",
        ("AZURE_OPENAI_API_KEY",), ("AZURE_OPENAI_BASE_URL", "AZURE_OPENAI_ENDPOINT"),
        ("AZURE_OPENAI_DEPLOYMENT", "AZURE_OPENAI_MODEL"), "", frozenset({"api_key_header"}), bearer_var="AZURE_OPENAI_AD_TOKEN",
        extra=(("api_version", ("AZURE_OPENAI_API_VERSION", "OPENAI_API_VERSION")),),
    ),
    Vendor(
        "bedrock", "bedrock", "",
        ("AWS_BEARER_TOKEN_BEDROCK",), ("BEDROCK_BASE_URL", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME"),
        ("BEDROCK_MODEL", "BEDROCK_MODEL_ID"),
        "anthropic.claude-3-haiku-20240307-v1:0",
        extra=(
            ("region", ("AWS_REGION", "AWS_DEFAULT_REGION")),
            ("access_key_id", ("AWS_ACCESS_KEY_ID",)),
            ("secret_access_key", ("AWS_SECRET_ACCESS_KEY",)),
            ("session_token", ("AWS_SESSION_TOKEN",)),
        ),
        aliases=("aws",),
    ),
    Vendor(
        "ollama", "ollama", "http://127.0.0.1:11434",
        ("OLLAMA_API_KEY",), ("OLLAMA_BASE_URL", "OLLAMA_HOST"), ("OLLAMA_MODEL",), "llama3.2", keyless=True, local=True,
    ),
    Vendor(
        "ollama-openai", "openai_chat", "http://127.0.0.1:11434/v1",
        ("OLLAMA_API_KEY",), ("OLLAMA_BASE_URL", "OLLAMA_HOST"), ("OLLAMA_MODEL",), "llama3.2", OLD_NAME, keyless=True, local=True,
    ),
    Vendor(
        "local", "openai_chat", "http://127.0.0.1:8080/v1",
        ("LOCAL_API_KEY",), ("LOCAL_BASE_URL", "LLAMACPP_BASE_URL"), ("LOCAL_MODEL",), "default", OLD_NAME,
        keyless=True, local=True, aliases=("llamacpp", "llama.cpp", "vllm", "lmstudio"),
    ),
    Vendor("scripted", "scripted", keyless=True, local=True),
    Vendor("offline", "offline", keyless=True, local=True),
)  # fmt: skip

VENDORS: dict[str, Vendor] = {row.name: row for row in _ROWS}
ALIASES: dict[str, str] = {alias: row.name for row in _ROWS for alias in row.aliases}
