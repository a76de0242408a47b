"""search - the web, through Serper, Brave or SearXNG.

    SERPER_API_KEY=… | BRAVE_API_KEY=… | SEARXNG_URL=…      the first that is set is used; setting `search.engine` chooses
    web_search("unix pipes")                                 needs --allow network:HOST of that service (or network)

Other addresses: settings search.serper_url, search.brave_url, search.searxng_url (or SERPER_BASE_URL, BRAVE_BASE_URL, SEARXNG_URL).
Without a key only this tool is off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_core.tool import Context, ToolError, tool
from agent_plugins.tools.http import Call, follow

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 20
_LONG = 500
_QUERY = 500


@dataclass(frozen=True, slots=True)
class Engine:
    """A search service: where it is, which variable holds its key or address, and where its rows are in the reply."""

    name: str
    variable: str
    address_variable: str
    url: str
    rows: tuple[str, ...]
    snippet: str
    request: Callable[[str, str, str, int], Call]


@tool(
    needs={"network": "context"}, read_only=True, open_world=True, timeout=35,
    secrets=("SERPER_API_KEY", "BRAVE_API_KEY", "SEARXNG_URL", "SERPER_BASE_URL", "BRAVE_BASE_URL"),
)  # fmt: skip
def web_search(query: str, context: Context, count: int = 5) -> list[dict[str, str]]:
    """Search the web; returns title, link and snippet of the best pages.

    Args:
        query: what to look for.
        context: opens only what is granted.
        count: how many results, at most 20.
    """
    engine = chosen(context)
    key = context.secret(engine.variable)
    own = str(context.setting(f"search.{engine.name}_url") or context.secret(engine.address_variable) or "")
    call = engine.request(own or engine.url, key, query.strip()[:_QUERY], max(1, min(count, MOST)))
    if own:
        call = Call(call.url, call.method, call.headers, call.body, trusted=True)
    answer = follow(context, call)
    if answer.status in {401, 403}:
        raise ToolError(f"{engine.name} rejected the key in {engine.variable}", "permanent")
    if answer.status >= 300:
        raise ToolError(
            f"{engine.name} answered {answer.status}",
            "transient" if answer.status in {408, 429} or answer.status >= 500 else "permanent",
        )
    return _results(engine, answer.body)[: max(1, min(count, MOST))]


def chosen(context: Context) -> Engine:
    """Return the engine that the settings choose, or the first whose key or address is set.

    Raises:
        ToolError: none is set up.
    """
    wanted = str(context.setting("search.engine") or "").lower()
    for engine in ENGINES:
        own = engine.name == "searxng" and context.setting("search.searxng_url")
        if wanted in {"", engine.name} and (own or context.secret(engine.variable)):
            return engine
    known = {engine.name: engine.variable for engine in ENGINES}
    if wanted and wanted not in known:
        raise ToolError(f"web_search is off: no engine {wanted[:40]!r}; there are {', '.join(known)}", "permanent")
    raise ToolError(f"web_search is off: set {known.get(wanted) or ' or '.join(known.values())}", "permanent")


def _results(engine: Engine, body: bytes) -> list[dict[str, str]]:
    """Return title, link and snippet of each row; anything odd in a reply is left out."""
    import json

    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise ToolError(f"{engine.name} did not answer with JSON", "transient") from None
    for step in engine.rows:
        found = found.get(step) if isinstance(found, dict) else None
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    keys = {"title": "title", "link": "link" if engine.name == "serper" else "url", "snippet": engine.snippet}
    return [{name: _plain(row.get(key)) for name, key in keys.items()} for row in rows]


def _plain(value: Any) -> str:
    """Return one short line without markup."""
    import html
    import re

    text = re.sub(r"<[^<>]{0,200}>", "", value) if isinstance(value, str) else ""
    return " ".join(html.unescape(text).split())[:_LONG]


def _serper(url: str, key: str, query: str, count: int) -> Call:
    import json

    body = json.dumps({"q": query, "num": count}).encode()
    target = url if url.rstrip("/").endswith("/search") else f"{url.rstrip('/')}/search"
    return Call(target, "POST", (("X-API-KEY", key), ("Content-Type", "application/json")), body)


def _brave(url: str, key: str, query: str, count: int) -> Call:
    from urllib.parse import urlencode

    address = f"{url.rstrip('/')}/res/v1/web/search?{urlencode({'q': query, 'count': count}, errors='replace')}"
    return Call(address, headers=(("X-Subscription-Token", key), ("Accept", "application/json")))


def _searxng(url: str, key: str, query: str, count: int) -> Call:  # noqa: ARG001 - the same shape for every engine
    from urllib.parse import urlencode

    address = url or key
    return Call(f"{address.rstrip('/')}/search?{urlencode({'q': query, 'format': 'json'}, errors='replace')}")


ENGINES = (
    Engine("serper", "SERPER_API_KEY", "SERPER_BASE_URL", "https://google.serper.dev", ("organic",), "snippet", _serper),
    Engine("brave", "BRAVE_API_KEY", "BRAVE_BASE_URL", "https://api.search.brave.com", ("web", "results"), "description", _brave),
    Engine("searxng", "SEARXNG_URL", "SEARXNG_URL", "", ("results",), "content", _searxng),
)
