"""agent_providers - one module per wire protocol, one table of vendors, one table of models.

    resolve("openai:gpt-4o-mini", settings, env)   a Provider, ready to be asked
    choose(env)                                    the first vendor whose key is set
    names(), models(), unlisted()                  what there is

Only the chosen vendor's codec is imported.
"""

from __future__ import annotations

from dataclasses import is_dataclass, replace
from typing import TYPE_CHECKING, Any

from agent_core.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent_core.provider import Price, Provider
    from agent_providers.model_table import Row
    from agent_providers.vendors import Vendor

__all__ = ["choose", "models", "names", "resolve", "split", "unlisted"]


def names() -> list[str]:
    """Return the names that --provider takes."""
    from agent_providers.vendors import VENDORS

    return list(VENDORS)


def models() -> tuple[Row, ...]:
    """Return the rows of the model table."""
    from agent_providers.model_table import ROWS

    return ROWS


def unlisted() -> dict[str, str]:
    """Return the providers that have no row in the table of models, each with what there is to say instead."""
    from agent_providers.vendors import VENDORS

    listed = {row.vendor for row in models()}
    said = {"scripted": "no model: the replies of a file (--script)", "offline": "no model: the stand-in that needs no network"}
    return {
        vendor.name: said.get(vendor.name, f"any model; window unknown, price {'0 on this machine' if vendor.local else 'unknown'}")
        for vendor in VENDORS.values()
        if vendor.name not in listed
    }


def choose(env: Mapping[str, str]) -> str | None:
    """Return the first vendor whose key is in `env`; the order is the table's."""
    from agent_providers.vendors import VENDORS

    return next((vendor.name for vendor in VENDORS.values() if not vendor.local and _wanted(vendor, env)), None)


def _wanted(vendor: Vendor, env: Mapping[str, str]) -> bool:
    # AWS keys are about for many reasons: only beside a model for Bedrock do they mean Bedrock
    aws = vendor.name == "bedrock" and _first(env, vendor.model_vars) and _first(env, ("AWS_ACCESS_KEY_ID",))
    return bool(_first(env, vendor.key_vars) or aws)


def split(name: str) -> tuple[str, str]:
    """Return vendor and rest of `openai:gpt-4o-mini`, `openrouter/meta-llama/llama-3-70b` or `scripted:four.jsonl`.

    Raises:
        UsageError: there is no such vendor; the hint has the nearest names.
    """
    from agent_providers.vendors import ALIASES, VENDORS

    name = name.strip()
    for word, rest in ((name, ""), *(_parted(name, mark) for mark in (":", "/"))):
        vendor = word.strip().lower()
        vendor = ALIASES.get(vendor, vendor)
        if vendor in VENDORS:
            return vendor, rest.strip()
    raise UsageError(f"no provider {name!r}", hint=_nearest(name, [*VENDORS, *ALIASES]))


def _parted(name: str, mark: str) -> tuple[str, str]:
    word, _, rest = name.partition(mark)
    return word, rest


def _nearest(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    known = list(known)
    near = get_close_matches(name.lower().partition(":")[0], known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"


def resolve(name: str, settings: Any, env: Mapping[str, str]) -> Provider:
    """Return the provider that `name` stands for: VENDOR, VENDOR:MODEL or VENDOR/MODEL.

    Args:
        name: one name; a route is split before.
        settings: `model` and `base_url` win over the vendor's variables; `script` names the script of `scripted`.
        env: the environment, keys from other places included. It is asked for the vendor's variables only.

    Raises:
        UsageError: there is no such vendor.
        ConfigError: the key, the model or the address is missing or no good.
    """
    from agent_providers.vendors import VENDORS

    word, rest = split(name)
    vendor = VENDORS[word]
    if vendor.wire in {"scripted", "offline"}:
        return _without_network(vendor, rest, settings, env)
    model = (
        rest or _model(vendor, str(getattr(settings, "model", "") or "")) or _first(env, vendor.model_vars) or vendor.default_model
    )
    if not model:
        raise ConfigError(f"{vendor.name} needs a model", hint=f"--model NAME or {vendor.model_vars[0]}")
    return _provider(vendor, model, str(getattr(settings, "base_url", "") or ""), env)


def _model(vendor: Vendor, model: str) -> str:
    """`--model openai:gpt-4o-mini` names the vendor too; it must be the chosen one to mean anything."""
    return model.removeprefix(f"{vendor.name}:")


def _first(env: Mapping[str, str], variables: Iterable[str]) -> str:
    return next((value for name in variables if (value := env.get(name, "").strip())), "")


def _without_network(vendor: Vendor, rest: str, settings: Any, env: Mapping[str, str]) -> Provider:
    from importlib import import_module

    if (
        rest
        and vendor.name == "scripted"
        and is_dataclass(settings)
        and not isinstance(settings, type)
        and hasattr(settings, "script")
    ):
        settings = replace(settings, script=rest)
    module: Any = import_module(f"agent_providers.{vendor.wire}")
    provider: Provider = module.provider(settings, env)
    return provider


def _provider(vendor: Vendor, model: str, base_url: str, env: Mapping[str, str]) -> Provider:
    from importlib import import_module

    from agent_core.provider import Provider
    from agent_providers.model_table import capabilities
    from agent_providers.wire import header_value

    extra = {name: value for name, variables in vendor.extra if (value := _first(env, variables))}
    address = _address(vendor, base_url or _first(env, vendor.base_url_vars), extra)
    key = _first(env, vendor.key_vars)
    token = "" if key or not vendor.bearer_var else _first(env, (vendor.bearer_var,))
    if not (key or token or vendor.keyless or _own(vendor, address)):
        _require_key(vendor, extra)
    headers = tuple((name, value) for name, variable in vendor.headers if (value := _first(env, (variable,))))
    if token:
        headers += (("authorization", f"Bearer {header_value(token, vendor.bearer_var)}"),)
        extra["token"] = token  # named here so that no message repeats it (see `wire.hide`)
    module: Any = import_module(f"agent_providers.{vendor.wire}")
    return Provider(
        name=vendor.name,
        model=model,
        codec=module.codec,
        base_url=address,
        key=key,
        headers=headers,
        quirks=vendor.quirks,
        capabilities=capabilities(vendor.name, model),
        price=_price(vendor, model, address),
        extra=extra,
    )


def _own(vendor: Vendor, address: str) -> bool:
    """Whether the address is the user's own rather than the vendor's: such a service may want no key."""
    vendors = {"azure": ".azure.com", "bedrock": ".amazonaws.com"}.get(vendor.name)
    return vendors not in address if vendors else address != vendor.base_url


def _require_key(vendor: Vendor, extra: Mapping[str, str]) -> None:
    if vendor.name == "bedrock":
        if {"access_key_id", "secret_access_key"} <= extra.keys():
            return
        raise ConfigError(
            "bedrock needs credentials",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_BEARER_TOKEN_BEDROCK",
        )
    variables = " or ".join(vendor.key_vars)
    raise ConfigError(
        f"{vendor.name} needs a key: {variables} is not set", hint=f"export {vendor.key_vars[0]}=… or --provider offline"
    )


def _price(vendor: Vendor, model: str, address: str) -> Price:
    from agent_core.provider import Price
    from agent_providers.model_table import price

    if vendor.local:
        return Price("0", "0", basis="local") if _loopback(address) and not model.endswith("-cloud") else Price()
    return price(vendor.name, model)


# --- addresses ---------------------------------------------------------------------------------------------------------------


def _address(vendor: Vendor, given: str, extra: dict[str, str]) -> str:
    """Return the base URL, checked and without a slash at its end."""
    if vendor.name == "bedrock" and not given:
        given = _bedrock(extra)
    if not given and not vendor.base_url:
        raise ConfigError(f"{vendor.name} needs its address", hint=f"set {' or '.join(vendor.base_url_vars[::-1])}")
    address = given or vendor.base_url
    if vendor.name.startswith("ollama"):
        address = _ollama(address, v1=vendor.wire == "openai_chat")
    address = _checked(address, vendor).rstrip("/")
    return _azure(address, extra) if vendor.name == "azure" else address


def _checked(address: str, vendor: Vendor) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(address)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good, parts = False, urlsplit("")
    if parts.username or parts.password:
        raise ConfigError(f"the address of {vendor.name} holds a user name or password", hint="keys go into their own variable")
    if not good or not address.isprintable() or " " in address or parts.query or parts.fragment:
        raise ConfigError(f"the address of {vendor.name} is no base URL", hint="it looks like https://host/v1")
    return address


def _loopback(address: str) -> bool:
    from urllib.parse import urlsplit

    host = urlsplit(address).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")


def _ollama(address: str, *, v1: bool) -> str:
    """OLLAMA_HOST is written for the server: it may lack scheme and port, and 0.0.0.0 means "every interface"."""
    address = address if "://" in address else f"http://{address}"
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    if host.startswith(":"):
        host = f"127.0.0.1{host}"
    if scheme == "http" and not host.rpartition("]")[2].count(":"):
        host += ":11434"
    host = host.replace("0.0.0.0:", "127.0.0.1:", 1) if host.startswith("0.0.0.0:") else host
    path = path.rstrip("/").removesuffix("v1").rstrip("/")
    address = f"{scheme}://{host}{slash if path else ''}{path}"
    return f"{address}/v1" if v1 else address


def _bedrock(extra: dict[str, str]) -> str:
    region = extra.get("region", "")
    if not region:
        raise ConfigError("bedrock needs a region", hint="set AWS_REGION")
    if not all(char.isascii() and (char.isalnum() or char == "-") for char in region):
        raise ConfigError("AWS_REGION is no region")
    return f"https://bedrock-runtime.{region}.amazonaws.com"


def _azure(address: str, extra: dict[str, str]) -> str:
    """Azure's endpoint is a host; with a dated API version the deployment is part of the path (see `openai_chat`)."""
    dated = extra.get("api_version", "")[:1].isdigit()
    if not dated:
        extra.pop("api_version", None)
    root = address.removesuffix("/v1").removesuffix("/openai")
    return f"{root}/openai" if dated else f"{root}/openai/v1"
