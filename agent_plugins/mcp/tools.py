"""tools - what a server offers, as tools of a run. Pure but for the function that makes the call.

A server's words are data. Names are made valid for model APIs, descriptions and schemas are cleaned and capped, and carry whose
words they are. Its hints are believed only where the user trusts it: else a tool counts as changing things for good, not to be
repeated, and reaching anywhere. Each tool needs the capability `mcp:SERVER/TOOL`; a rule for `mcp:SERVER` covers all of a server.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from agent_core.tool import Need, Tool, ToolError, cap, external
from agent_plugins.mcp import wire
from agent_plugins.mcp.http import header_value

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from agent_plugins.mcp.client import Client, Tell
    from agent_plugins.mcp.servers import Server

CONTEXT = "\0context"
LONGEST_NAME, LONGEST_TEXT, LONGEST_SCHEMA, DEEPEST = 64, 1000, 32 * 1024, 12
RESULT = 1 << 20
_ODD = re.compile(r"[^A-Za-z0-9_-]+")
_PROPERTY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_KINDS: Mapping[int, Any] = {wire.BAD_PARAMS: "invalid", wire.NO_METHOD: "not_found", wire.NO_RESOURCE: "not_found"}
# Keywords whose values are schemas, lists of schemas, and mappings to schemas.
_ONE = frozenset(
    {
        "items",
        "contains",
        "additionalProperties",
        "propertyNames",
        "not",
        "if",
        "then",
        "else",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
_MANY = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_BY_NAME = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_TYPES = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})


@dataclass(frozen=True, slots=True)
class Offer:
    """One tool of a server, checked: the server's own name for it, a plain form of it, and what the model is told.

    `headers`: parameters (by their path) that the modern era repeats in a header of that name. `work`: what is done where it is no
    tool of the server's (its resources).
    """

    original: str
    name: str
    description: str
    schema: Mapping[str, Any]
    hints: Mapping[str, bool]
    headers: tuple[tuple[tuple[str, ...], str], ...] = ()
    work: Callable[[Client, Mapping[str, Any], float], wire.Result] | None = None


def of(clients: Sequence[Client], settings: Any, taken: Collection[str], tell: Tell) -> list[Tool]:
    """Return the tools of all servers. A name that another tool has already gets its server in front."""
    offered = [(client, offer) for client in clients for offer in offers(client, tell)]
    names = [offer.name for _, offer in offered]
    used = set(taken)
    made = []
    for client, offer in offered:
        double = offer.name in taken or names.count(offer.name) > 1
        name = _free(_with_server(client, offer) if double else offer.name, used)
        used.add(name)
        made.append(_tool(client, offer, name, settings))
    return made


def _with_server(client: Client, offer: Offer) -> str:
    return f"{_ODD.sub('_', client.server.name)}_{offer.name}"[:LONGEST_NAME]


def _free(name: str, used: Collection[str]) -> str:
    """Return the name, cut to what model APIs take and numbered where it is not free."""
    short, number = name[:LONGEST_NAME], 2
    while short in used:
        ending = f"_{number}"
        short, number = f"{name[: LONGEST_NAME - len(ending)]}{ending}", number + 1
    return short


def offers(client: Client, tell: Tell) -> Iterator[Offer]:
    """Yield what can be used of a server's tools, in its order; what cannot is told."""
    seen: set[str] = set()
    for found in client.listed.tools:
        try:
            made = offer(found, client.server, modern_http=bool(client.server.url and client.facts and client.facts.modern))
        except ValueError as problem:
            tell(f"{client.server.name}: a tool is left out: {problem}")
            continue
        if made.original in seen:
            tell(f"{client.server.name}: a second tool {made.name} is left out")
        elif _chosen(made, client.server):
            yield made
        seen.add(made.original)
    from agent_plugins.mcp import resources

    yield from (made for made in resources.offers(client) if _chosen(made, client.server))


def _chosen(made: Offer, server: Server) -> bool:
    return not server.tools or any(fnmatchcase(made.original, pattern) for pattern in server.tools)


def offer(found: Mapping[str, Any], server: Server, *, modern_http: bool = False) -> Offer:
    """Return one tool of a listing. ValueError if no model could be offered it."""
    original = found.get("name")
    if not isinstance(original, str) or not 0 < len(original) <= 256:
        raise ValueError("it has no proper name")
    name = _ODD.sub("_", original).strip("_")[:LONGEST_NAME] or "tool"
    execution = found.get("execution")
    if isinstance(execution, dict) and execution.get("taskSupport") == "required":
        raise ValueError(f"{name} can only be run as a task, which is not spoken here")
    title = found.get("title")
    said = found.get("description") or (title if isinstance(title, str) else "")
    schema = found.get("inputSchema")
    notes = found.get("annotations")
    hints = {key: value for key, value in notes.items() if isinstance(value, bool)} if isinstance(notes, dict) else {}
    own = cleaned(said if isinstance(said, str) else "", LONGEST_TEXT)
    headers = tuple(_header_names(schema, name)) if modern_http else ()
    return Offer(
        original,
        name,
        f"{own or name} (a tool of the MCP server {server.name}, in its own words)",
        parameters(schema, name),
        hints,
        headers,
    )


def cleaned(text: str, most: int) -> str:
    """Return a server's words on one line: no escape sequences, nothing invisible, not too long."""
    from agent_core import terminal

    flat = " ".join(terminal.clean(wire.plain(text[: most * 4])).split())
    return flat if len(flat) <= most else f"{flat[:most]}…"


# -- schemas ----------------------------------------------------------------------------------------------------------------------


def parameters(schema: Any, name: str) -> dict[str, Any]:
    """Return a schema as model APIs take it: an object at its root, known keywords only, words cleaned, not too large.

    Raises:
        ValueError: a parameter that is required has a name that no API takes, or the schema is too large even without its words.
    """
    given = schema if isinstance(schema, dict) else {}
    made = _schema(
        {key: value for key, value in given.items() if key not in _MANY and key not in {"not", "if", "then", "else"}}, 0, words=True
    )
    if len(json.dumps(made)) > LONGEST_SCHEMA:
        made = _schema(given, 0, words=False)
        if len(json.dumps(made)) > LONGEST_SCHEMA:
            raise ValueError(f"the schema of {name} is too large")
    properties = made.get("properties", {})
    odd = [key for key in properties if not _PROPERTY.fullmatch(key)]
    required = [key for key in made.get("required", []) if isinstance(key, str)]
    if set(odd) & set(required):
        raise ValueError(f"{name} wants a parameter with an odd name")
    kept = {key: value for key, value in properties.items() if key not in odd}
    rest = {key: value for key, value in made.items() if key in {"$defs", "definitions", "description", "additionalProperties"}}
    return {
        "type": "object",
        "properties": kept,
        **({"required": [key for key in required if key in kept]} if required else {}),
        **rest,
    }


def _schema(node: Any, depth: int, *, words: bool) -> Any:
    """Return one schema with what is known here; anything else, and what is nested too deeply, allows everything."""
    if isinstance(node, bool) and depth:
        return node
    if not isinstance(node, dict) or depth > DEEPEST:
        return {}
    made: dict[str, Any] = {}
    for key, value in node.items():
        if key in _ONE | _MANY | _BY_NAME:
            inner = _inner(key, value, depth + 1, words=words)
            made |= {} if inner is None else {key: inner}
        elif _fits(key, value):
            made[key] = _words(value)
        elif words and key in {"description", "title"} and isinstance(value, str):
            made[key] = cleaned(value, LONGEST_TEXT // 2)
    return made


def _inner(key: str, value: Any, depth: int, *, words: bool) -> Any:
    """Return the value of a keyword that holds schemas, None if it has the wrong shape."""
    if key in _ONE:
        return _schema(value, depth, words=words)
    if key in _MANY:
        return [_schema(each, depth, words=words) for each in value] if isinstance(value, list) and value else None
    return {str(name): _schema(each, depth, words=words) for name, each in value.items()} if isinstance(value, dict) else None


def _fits(key: str, value: Any) -> bool:
    """Whether a keyword without schemas in it has a value of the right kind: one wrong keyword makes an API refuse the request."""
    if key in _NUMBERS or key in _COUNTS:
        return isinstance(value, int if key in _COUNTS else int | float) and not isinstance(value, bool)
    if key == "type":
        kinds = value if isinstance(value, list) else [value]
        return bool(kinds) and all(isinstance(kind, str) and kind in _TYPES for kind in kinds)
    if key == "enum":
        return isinstance(value, list) and bool(value)
    if key == "required":
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    if key in {"format", "pattern"}:
        return isinstance(value, str) and len(value) <= LONGEST_TEXT
    return key in {"const", "default"} or (key == "$ref" and isinstance(value, str) and value.startswith("#"))


def _words(value: Any, depth: int = 0) -> Any:
    """Return JSON data with its texts cleaned; texts of an enum must stay what they are, so only odd ones change."""
    if isinstance(value, str):
        return value if value.isprintable() else cleaned(value, LONGEST_TEXT)
    if isinstance(value, list):
        return [_words(each, depth + 1) for each in value] if depth < DEEPEST else []
    if isinstance(value, dict):
        return {str(key): _words(each, depth + 1) for key, each in value.items()} if depth < DEEPEST else {}
    return value


def _header_names(schema: Any, name: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (path of a parameter, header). ValueError for an annotation that the specification forbids in a usable tool."""
    seen: set[str] = set()
    stack: list[tuple[tuple[str, ...] | None, Any]] = [((), schema)]
    while stack:
        path, node = stack.pop()
        if not isinstance(node, dict):
            continue
        if "x-mcp-header" in node:
            word = node["x-mcp-header"]
            fits = isinstance(word, str) and _TOKEN.fullmatch(word) and node.get("type") in ("string", "integer", "boolean")
            if not path or not fits or word.lower() in seen:
                raise ValueError(f"{name} has a wrong x-mcp-header")
            seen.add(word.lower())
            yield path, word
        stack += _below(path, node)


def _below(path: tuple[str, ...] | None, node: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...] | None, Any]]:
    for key, value in node.items():
        if key in _BY_NAME and isinstance(value, dict):
            yield from (
                ((*path, str(name)) if key == "properties" and path is not None else None, each) for name, each in value.items()
            )
        elif key in _MANY and isinstance(value, list):
            yield from ((None, each) for each in value)
        elif key in _ONE:
            yield None, value


# -- calls ------------------------------------------------------------------------------------------------------------------------


def _tool(client: Client, made: Offer, name: str, settings: Any) -> Tool:
    server = client.server
    trusted = server.trust
    read_only = trusted and made.hints.get("readOnlyHint", False)
    tool = external(
        name, made.description, made.schema, _function(client, made), timeout=server.timeout, context_name=CONTEXT,
        needs=(Need(need(server.name, made.name, settings)),), read_only=read_only,
        destructive=not read_only and not (trusted and made.hints.get("destructiveHint") is False),
        idempotent=trusted and (read_only or made.hints.get("idempotentHint", False)),
        open_world=not (trusted and made.hints.get("openWorldHint") is False),
    )  # fmt: skip
    tool.memo["mcp"] = (server.name, made.original)
    tool.memo["otherwise"] = _with_server(client, made)
    return tool


def need(server: str, name: str, settings: Any) -> str:
    """Return the capability of a tool: `mcp:SERVER/TOOL`, or `mcp:SERVER` where a rule names the server and none this tool."""
    from agent_core.policy import parse_grant

    rules = [parse_grant(text) for text in (*settings.allow, *settings.deny, *settings.confirm)]
    scopes = {rule.scope for rule in rules if rule.capability == "mcp"}
    one = f"{server}/{name}"
    named = any(scope == one or (scope.endswith("*") and one.startswith(scope[:-1])) for scope in scopes)
    return f"mcp:{server}" if server in scopes and not named else f"mcp:{one}"


def _function(client: Client, made: Offer) -> Callable[..., Any]:
    def call(**arguments: Any) -> Any:
        context = arguments.pop(CONTEXT, None)
        until = time.monotonic() + client.server.timeout
        deadline = until if context is None or context.deadline is None else min(until, context.deadline)
        try:
            found = _done(client, made, arguments, deadline)
        except wire.RpcError as error:
            raise ToolError(
                f"{client.server.name} refuses: {cleaned(str(error), LONGEST_TEXT)}", _KINDS.get(error.code, "permanent")
            ) from None
        except TimeoutError:
            raise ToolError(
                f"{client.server.name} did not answer in time; it may have done what it was asked", "transient"
            ) from None
        return _value(found, context)

    return call


def _done(client: Client, made: Offer, arguments: Mapping[str, Any], deadline: float) -> wire.Result:
    if made.work is not None:
        return made.work(client, arguments, deadline)
    return wire.result(client.call(made.original, arguments, deadline, dict(_mirrored(made, arguments))))


def _mirrored(made: Offer, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for path, word in made.headers:
        value: Any = arguments
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, bool):
            yield f"mcp-param-{word.lower()}", str(value).lower()
        elif isinstance(value, str | int):
            yield f"mcp-param-{word.lower()}", header_value(str(value))


def _value(found: wire.Result, context: Any) -> Any:
    keep = getattr(context, "keep", None)
    text = cap(found.text, RESULT, keep)
    if found.failed:
        raise ToolError(text or "it failed and does not say why", "permanent")
    return text if found.value is None or len(found.text) > RESULT else found.value
