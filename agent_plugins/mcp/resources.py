"""resources - what a server lets be read (documents, records), as two tools of it: `list_resources` and `read_resource`.

    assistant --mcp-server everything='npx -y @modelcontextprotocol/server-everything' --allow mcp --tool list_resources
    … --allow mcp:everything/read_resource --tool read_resource demo://resource/dynamic/text/1

They are tools like the server's own: the same permissions (`mcp:SERVER/read_resource`), the same caps, and what they bring is
untrusted text. Nothing is listed before somebody asks.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agent_plugins.mcp import wire
from agent_plugins.mcp.tools import LONGEST_TEXT, Offer, cleaned

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent_plugins.mcp.client import Client

ENTRIES, PAGES = 200, 20
_FIELDS = ("uri", "uriTemplate", "name", "title", "description", "mimeType")
_HINTS = {"readOnlyHint": True, "idempotentHint": True}
_URI = {"type": "string", "description": "The URI of a resource, as list_resources gives it or made from one of its templates"}
_CURSOR = {"type": "string", "description": "Where an earlier listing ended (its `next`)"}


def offers(client: Client) -> Iterator[Offer]:
    """Yield the tools for the resources of a server that has some."""
    if client.facts is None or not client.facts.resources:
        return
    about = f"that the MCP server {client.server.name} offers"
    yield Offer(
        "list_resources", "list_resources", f"List the resources (documents, records) {about}: URIs, names, templates of URIs.",
        {"type": "object", "properties": {"cursor": _CURSOR}}, _HINTS, work=listed,
    )  # fmt: skip
    yield Offer(
        "read_resource", "read_resource", f"Read one of the resources {about}.",
        {"type": "object", "properties": {"uri": _URI}, "required": ["uri"]}, _HINTS, work=read,
    )  # fmt: skip


def listed(client: Client, arguments: Mapping[str, Any], deadline: float) -> wire.Result:
    """Return {resources, templates, next}: at most ENTRIES of them; `next` is there where a server has more."""
    cursor = arguments.get("cursor")
    found: dict[str, Any] = {"resources": []}
    for _ in range(PAGES):
        page = client.request("resources/list", {"cursor": cursor} if cursor else {}, deadline)
        found["resources"] += _entries(page.get("resources"))
        after = page.get("nextCursor")
        cursor, before = after if isinstance(after, str) and after else None, cursor
        if cursor is None or cursor == before or len(found["resources"]) >= ENTRIES:
            break
    if cursor is not None:
        found["next"] = cursor
    if not arguments.get("cursor"):
        templates = _templates(client, deadline)
        found |= {"templates": templates} if templates else {}
    return wire.Result(json.dumps(found, ensure_ascii=False), found)


def _templates(client: Client, deadline: float) -> list[dict[str, str]]:
    """Return the first page of templates; a server need not have the method."""
    try:
        page = client.request("resources/templates/list", {}, deadline)
    except wire.RpcError:
        return []
    return list(_entries(page.get("resourceTemplates")))[:ENTRIES]


def _entries(rows: Any) -> Iterator[dict[str, str]]:
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("uri", row.get("uriTemplate")), str):
            yield {key: cleaned(row[key], LONGEST_TEXT) for key in _FIELDS if isinstance(row.get(key), str) and row[key]}


def read(client: Client, arguments: Mapping[str, Any], deadline: float) -> wire.Result:
    """Return the text of a resource; what is no text is named."""
    found = client.request("resources/read", {"uri": arguments["uri"]}, deadline)
    contents = found.get("contents")
    blocks = [each for each in contents if isinstance(each, dict)] if isinstance(contents, list) else []
    text = "\n".join(wire.block({"type": "resource", "resource": each}) for each in blocks)
    # One text needs no name above it; several do.
    first, _, rest = text.partition("\n")
    return wire.Result(rest if len(blocks) == 1 and first.endswith("]") and rest else text)
