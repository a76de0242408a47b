"""graph_nodes - one node of a graph's file: read from its table, and checked: its fields, the names it uses, its templates.

made = node(sheet, "review", {"agent": "critic", "after": ["write"]})       # what is wrong is in `sheet.problems`
"""

from __future__ import annotations

import json
import posixpath
from typing import TYPE_CHECKING, Any

from agent_core.errors import AgentError
from agent_core.options import unknown
from agent_patterns import conditions, templates
from agent_patterns.graph_shape import Edge, Node
from agent_patterns.graph_tables import (
    KINDS,
    NAME,
    Sheet,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_patterns.conditions import Condition

DEEPEST = 8  # graphs within graphs


def node(sheet: Sheet, name: str, data: Mapping[str, Any]) -> Node:
    """Return one node of a sheet; what is wrong with it is noted there."""
    kinds = [kind for kind in KINDS if data.get(kind)]
    kind = kinds[0] if kinds else "agent" if data.get("prompt") else "state"
    if len(kinds) > 1:
        sheet.wrong(name, kinds[1], f"{' and '.join(kinds)}: one of them")
    if not NAME.fullmatch(name):
        sheet.wrong(name, "", "a name is letters, digits, - and _, and begins with a letter")
    target, prompt = _target(sheet, name, kind, data)
    mind = sheet.minds.get(target) if kind == "agent" and isinstance(target, str) else None
    made = Node(
        name, kind, target, prompt, data.get("arguments", {}), data.get("map", ""), tuple(data.get("after", ())),
        _condition(sheet, name, "when", data.get("when")), data.get("join", "all"), _edges(sheet, name, data.get("next")),
        data.get("max_visits", 0), data.get("timeout"), data.get("parallel", 0),
        _schema(sheet, name, data.get("schema")), data.get("expected_output", ""), data.get("manager", ""),
        _is_plain(sheet, kind, target), data.get("initial", False), data.get("final", False),
        data.get("breakpoint", False), data.get("human_input", False), bool(mind and mind.table.memory),
        None if data.get("context") is None else tuple(data["context"]), bool(mind and mind.table.verbose),
    )  # fmt: skip
    _check_fields(sheet, made)
    _check_names(sheet, made, data)
    return made


def _is_plain(sheet: Sheet, kind: str, target: Any) -> bool:
    """Say whether a node's work is done by something that takes text as it is: everything but a mind."""
    if kind != "agent":
        return True
    mind = sheet.minds.get(target)
    name = mind.table.call if mind is not None else target
    return bool(name) and sheet.known.agent(name) == "peer"


def _target(sheet: Sheet, name: str, kind: str, data: Mapping[str, Any]) -> tuple[Any, str]:
    """Return what a node calls and the template of what it says."""
    prompt = data.get("prompt", "")
    if kind in {"ask", "approve"}:
        return "", data[kind]
    if kind == "state":
        return "", data.get("output", "")
    wanted = data.get(kind, "")
    if kind == "graph":
        return _inner(sheet, name, wanted), prompt
    if kind == "tool" and wanted not in sheet.known.tools:
        sheet.wrong(name, "tool", unknown("tool", wanted, list(sheet.known.tools)).line())
    elif kind == "tool":
        _check_arguments(sheet, name, wanted, data)
    if kind == "agent" and wanted and wanted not in sheet.minds and not sheet.known.agent(wanted):
        sheet.wrong(name, "agent", f'no agent "{wanted[:80]}" in this file, and none of that name is registered')
    return wanted, prompt


def _inner(sheet: Sheet, name: str, wanted: str) -> Any:
    """Return the graph that a node runs, read from the file beside this one."""
    path = posixpath.join(posixpath.dirname(sheet.path), wanted)
    if path in sheet.above or len(sheet.above) > DEEPEST:
        sheet.wrong(
            name, "graph", f"{wanted} contains itself" if path in sheet.above else f"graphs are nested more than {DEEPEST} deep"
        )
        return ""
    try:
        return sheet.inner(path)
    except AgentError as error:
        sheet.wrong(name, "graph", str(error))
        return ""


def _check_arguments(sheet: Sheet, name: str, tool: str, data: Mapping[str, Any]) -> None:
    """Check the names of a tool's arguments; their values are checked when it is called."""
    schema, given = sheet.known.tools[tool], data.get("arguments", {})
    known = list(schema.get("properties", {}))
    for key in given:
        if known and key not in known:
            sheet.wrong(name, "arguments", f"{tool}: {unknown('argument', key, known).line()}")
    missing = [key for key in schema.get("required", ()) if key not in given]
    if missing and (given or len(missing) > 1):
        sheet.wrong(name, "arguments" if given else "tool", f"{tool} needs {' and '.join(missing)}")


def _condition(sheet: Sheet, name: str, key: str, data: Any) -> Condition:
    try:
        return conditions.ON_SUCCESS if data is None else conditions.read(data)
    except ValueError as error:
        sheet.wrong(name, key, str(error))
        return conditions.ALWAYS


def _edges(sheet: Sheet, name: str, data: Any) -> tuple[Edge, ...]:
    """Return the transitions of a node in the order in which they are tried: by priority, then as in the file."""
    rows = [] if data is None else data if isinstance(data, list) else [data]
    edges = []
    for row in rows:
        table = {"to": row} if isinstance(row, str) else row
        if not isinstance(table, dict) or not table.keys() <= {"to", "when", "priority"} or "to" not in table:
            sheet.wrong(name, "next", 'a transition is a node\'s name or {to = "NODE", when = CONDITION, priority = N}')
            continue
        to, priority = table["to"], table.get("priority", 0)
        names = [to] if isinstance(to, str) else to
        if not isinstance(names, list) or not names or not all(isinstance(each, str) for each in names) or not _is_whole(priority):
            sheet.wrong(name, "next", "to is a node's name or a list of them, priority a whole number")
            continue
        edges.append((-priority, Edge(tuple(names), _condition(sheet, name, "next", table.get("when")))))
    return tuple(edge for _, edge in sorted(edges, key=lambda pair: pair[0]))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _schema(sheet: Sheet, name: str, data: Any) -> Any:
    """Return the JSON Schema of a node: a table, or a file beside this one."""
    if data is None:
        return None
    try:
        schema = json.loads(sheet.read(posixpath.join(posixpath.dirname(sheet.path), data))) if isinstance(data, str) else data
        import jsonschema

        jsonschema.validators.validator_for(schema).check_schema(schema)
    except (AgentError, ValueError, RecursionError, AttributeError, TypeError) as error:
        sheet.wrong(name, "schema", f"schema: {' '.join(str(error).split())[:200]}")
    except jsonschema.exceptions.SchemaError as error:
        sheet.wrong(name, "schema", f"schema: {error.message[:200]}")
    else:
        return schema if isinstance(schema, dict) else sheet.wrong(name, "schema", "schema: a table or the name of a file")
    return None


# -- checking --------------------------------------------------------------------------------------------------------------------


def _check_fields(sheet: Sheet, node: Node) -> None:
    """Check the numbers, and that no key is given that would have no effect."""
    for key, wrong, text in (
        ("max_visits", node.max_visits < 0, "max_visits: at least 1"),
        ("timeout", node.timeout is not None and node.timeout <= 0, "timeout: more than 0 seconds"),
        ("parallel", node.parallel < 0, "parallel: at least 1"),
        ("final", node.final and bool(node.next), "a final node has no transitions"),
        (
            "timeout",
            node.timeout is not None and node.kind in {"ask", "approve", "graph", "state"},
            f"timeout: not for {node.kind}",
        ),
        ("schema", node.schema is not None and node.kind in {"ask", "approve", "state"}, f"schema: not for {node.kind}"),
        ("map", bool(node.over) and node.kind in {"ask", "approve", "state"}, f"map: not for {node.kind}"),
        ("arguments", bool(node.arguments) and node.kind not in {"tool", "graph"}, f"arguments: not for {node.kind}"),
        ("expected_output", bool(node.expected) and node.plain, "expected_output is told to a mind of this file only"),
        ("join", node.join == "any" and not node.after, "join: there is nothing it comes after"),
        ("human_input", node.review and node.kind in {"ask", "approve", "state"}, f"human_input: not for {node.kind}"),
    ):
        if wrong:
            sheet.wrong(node.name, key, text)


def _check_names(sheet: Sheet, node: Node, data: Mapping[str, Any]) -> None:
    """Check that what a node refers to exists."""
    for key, names in (
        ("after", node.after),
        ("context", node.context or ()),
        ("next", [to for edge in node.next for to in edge.to]),
    ):
        for other in names:
            if other not in sheet.nodes:
                sheet.wrong(node.name, key, unknown("node", other, list(sheet.nodes)).line())
    if len(set(node.after)) != len(node.after):
        sheet.wrong(node.name, "after", "after: a node stands there twice")
    looked = [("when", each) for each in node.when.walk()] + [("next", each) for edge in node.next for each in edge.when.walk()]
    for key, condition in looked:
        _check_looked_up(sheet, node, key, condition)
    arguments = list(templates.texts(node.arguments))
    for key, found in (
        ("prompt", [node.prompt]),
        ("map", [node.over]),
        ("expected_output", [node.expected]),
        ("arguments", arguments),
    ):
        for text in found:
            _check_template(sheet, node, _key_of(node, key, data), text)


def _key_of(node: Node, key: str, data: Mapping[str, Any]) -> str:
    """Return the key under which a prompt stands in the file."""
    return (
        next((each for each in (node.kind, "output", "prompt") if each in data and data[each] == node.prompt), key)
        if key == "prompt"
        else key
    )


def _check_looked_up(sheet: Sheet, node: Node, key: str, condition: Condition) -> None:
    variables = sheet.data.get("vars", {})
    if condition.of and condition.of not in sheet.nodes:
        sheet.wrong(node.name, key, unknown("node", condition.of, list(sheet.nodes)).line())
    if condition.var and condition.var not in variables:
        sheet.wrong(node.name, key, unknown("variable", condition.var, list(variables)).line())
    if condition.either and condition.either not in variables and condition.either not in sheet.nodes:
        sheet.wrong(node.name, key, f'"{condition.either}:…": there is no variable and no node of that name')


def _check_template(sheet: Sheet, node: Node, key: str, text: str) -> None:
    try:
        found = list(templates.references(text))
    except ValueError as error:
        sheet.wrong(node.name, key, str(error))
        return
    variables = {**sheet.data.get("vars", {}), **sheet.variables}
    for each in found:
        if each.node and each.node not in sheet.nodes:
            sheet.wrong(node.name, key, unknown("node", each.node, list(sheet.nodes)).line())
        if each.var and each.var not in variables:
            sheet.wrong(node.name, key, unknown("variable", each.var, list(variables)).line())
        if each.word in {"item", "index"} and not node.over:
            sheet.wrong(node.name, key, f"{{{{ {each.word} }}}} is for nodes with a map")
