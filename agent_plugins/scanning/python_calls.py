"""python_calls - dangerous calls in Python, read from the syntax tree (`python_tree`).

    [*dangerous(text, {"python-shell"}, whole=True)]     [Hit("python-shell", line, column, end_line, end_column, severity, note)]

A call counts when what reaches the dangerous place is computed; a call on a literal is none.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from agent_plugins.scanning import python_tree
from agent_plugins.scanning.python_tree import KINDS, built, by_type, dotted, from_outside, literal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from agent_plugins.scanning.python_tree import Nodes, Scope


class Hit(NamedTuple):
    """What was found where: lines from 1, columns from 0 in bytes; `severity` overrides the rule's, `note` adds to its message."""

    rule: str
    line: int
    column: int
    end_line: int
    end_column: int
    severity: str = ""
    note: str = ""


def dangerous(text: str, wanted: Collection[str], *, whole: bool) -> Iterator[Hit]:
    """Yield the dangerous calls of the wanted rules, in no particular order."""
    tree = python_tree.read(text, whole=whole)
    if tree is None:
        return
    nodes = by_type(tree)
    scope = python_tree.scope_of(nodes, whole=whole)
    yield from _in_calls(nodes[ast.Call], scope, wanted)
    if "python-weak-random" in wanted:
        yield from _random(nodes, scope)
    if "python-password-hash" in wanted:
        yield from (
            _hit("python-password-hash", call) for call in nodes[ast.Call] if _hashes_password(call, dotted(call.func, scope))
        )
    if "python-tls-off" in wanted:
        yield from _assignments(nodes[ast.Assign])


# -- rules over calls --------------------------------------------------------------------------------------------------

Found = tuple[str, str] | None  # (severity or "" for the rule's, note)


def _in_calls(calls: Sequence[ast.Call], scope: Scope, wanted: Collection[str]) -> Iterator[Hit]:
    checks = [(rule, check) for rule, check in _CHECKS if rule in wanted]
    for node in calls if checks else ():
        name = dotted(node.func, scope)
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        for rule, check in checks:
            if (found := check(node, name, method, scope)) is not None:
                yield _hit(rule, node, *found)


def _hit(rule: str, node: Any, severity: str = "", note: str = "") -> Hit:
    return Hit(
        rule, node.lineno, node.col_offset, node.end_lineno or node.lineno, node.end_col_offset or node.col_offset, severity, note
    )


def _keyword(node: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in node.keywords if keyword.arg == name), None)


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _first(node: ast.Call, *names: str) -> ast.expr | None:
    if node.args:
        return node.args[0]
    return next((found for name in names if (found := _keyword(node, name)) is not None), None)


def _eval(node: ast.Call, name: str, _method: str, scope: Scope) -> Found:
    if name not in {"eval", "exec", "builtins.eval", "builtins.exec"} or not node.args or isinstance(node.args[0], ast.Starred):
        return None
    given = node.args[0]
    if isinstance(given, ast.Call) and dotted(given.func, scope) == "compile":
        given = given.args[0] if given.args else given
    if literal(given, scope) or (isinstance(given, ast.Name) and given.id == "code" and name.endswith("exec")):
        return None
    if len(node.args) > 1 and _no_builtins(node.args[1]):
        return None
    if from_outside(given):
        return "high", "it comes from outside"
    # With a namespace of its own it is usually code that the program itself made or ships (templates, debuggers, version files).
    return ("low" if len(node.args) > 1 and not built(given, scope) else "", "")


def _no_builtins(node: ast.expr) -> bool:
    return isinstance(node, ast.Dict) and any(isinstance(key, ast.Constant) and key.value == "__builtins__" for key in node.keys)


_RUNNERS = frozenset(f"subprocess.{name}" for name in ("run", "call", "check_call", "check_output", "Popen"))
_SHELLS = frozenset({
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "commands.getoutput", "popen2.popen2",
    "asyncio.create_subprocess_shell", "asyncio.subprocess.create_subprocess_shell",
})  # fmt: skip


def _shell(node: ast.Call, name: str, _method: str, scope: Scope) -> Found:
    if name in _SHELLS:
        given = _first(node, "cmd", "command")
    elif name in _RUNNERS and (shell := _keyword(node, "shell")) is not None and isinstance(shell, ast.Constant) and shell.value:
        given = _first(node, "args")
    else:
        return None
    if given is None or literal(given, scope) or isinstance(given, ast.Starred):
        return None
    if from_outside(given):
        return "high", "it comes from outside"
    return ("high", "") if built(given, scope) else ("medium", "")


_LOADERS = frozenset({
    "pickle.load", "pickle.loads", "pickle.Unpickler", "cPickle.load", "cPickle.loads", "_pickle.load", "_pickle.loads",
    "dill.load",
    "dill.loads", "cloudpickle.load", "cloudpickle.loads", "marshal.load", "marshal.loads", "shelve.open", "joblib.load",
    "jsonpickle.decode", "pandas.read_pickle",
})  # fmt: skip


def _deserialise(node: ast.Call, name: str, _method: str, scope: Scope) -> Found:
    if name == "torch.load":
        return None if _is(_keyword(node, "weights_only"), True) else ("low", "")
    if name == "numpy.load":
        return ("", "") if _is(_keyword(node, "allow_pickle"), True) else None
    if name not in _LOADERS or _round_trip(node, scope) or not node.args or literal(node.args[0], scope):
        return None
    if any(from_outside(each) for each in node.args):
        return "high", "it comes from outside"
    return ("low" if name.startswith(("shelve.", "marshal.")) else "", "")


def _round_trip(node: ast.Call, scope: Scope) -> bool:
    """`pickle.loads(pickle.dumps(x))` copies an object."""
    return bool(node.args) and isinstance(node.args[0], ast.Call) and dotted(node.args[0].func, scope).endswith(".dumps")


def _yaml(node: ast.Call, name: str, _method: str, scope: Scope) -> Found:
    if name in {"yaml.unsafe_load", "yaml.unsafe_load_all"}:
        return "", ""
    if name in {"yaml.full_load", "yaml.full_load_all"}:
        return "low", ""
    if name not in {"yaml.load", "yaml.load_all"} or not node.args or literal(node.args[0], scope):
        return None
    loader = node.args[1] if len(node.args) > 1 else _keyword(node, "Loader")
    if loader is None:
        return "medium", "PyYAML before 6 takes the unsafe loader when none is given"
    last = dotted(loader, scope).rpartition(".")[2]
    return {"UnsafeLoader": ("", ""), "Loader": ("", ""), "CLoader": ("", ""), "FullLoader": ("low", "")}.get(last)


def _temporary_name(_node: ast.Call, name: str, _method: str, _scope: Scope) -> Found:
    return ("", "") if name == "tempfile.mktemp" else None


_VERBS = frozenset({"get", "post", "put", "patch", "delete", "head", "options", "request", "stream"})
_CLIENTS = frozenset({"Client", "AsyncClient", "Session", "ClientSession", "TCPConnector", "HTTPTransport", "AsyncHTTPTransport"})


def _tls(node: ast.Call, name: str, method: str, scope: Scope) -> Found:
    if name in {"ssl._create_unverified_context", "ssl._create_stdlib_context"}:
        return "", ""
    if method == "set_missing_host_key_policy" and node.args:
        given = node.args[0].func if isinstance(node.args[0], ast.Call) else node.args[0]
        return ("", "") if dotted(given, scope).rpartition(".")[2] in {"AutoAddPolicy", "WarningPolicy"} else None
    last = name.rpartition(".")[2] if name else method
    web = last in _VERBS | _CLIENTS
    if web and (_is(_keyword(node, "verify"), False) or _is(_keyword(node, "verify_ssl"), False)):
        return "", ""
    return (
        ("", "")
        if web and last != "stream" and _is(_keyword(node, "ssl"), False) and "aiohttp" in str(scope.imports.values())
        else None
    )


_EXECUTE = frozenset(
    {"execute", "executemany", "executescript", "execute_sql", "raw", "read_sql", "read_sql_query", "fetch", "fetchrow", "fetchval"}
)
_STATEMENT = re.compile(
    r"\s*(?:SELECT\b[\s\S]*\bFROM\b|INSERT\s+(?:OR\s+\w+\s+)?INTO\b|UPDATE\b[\s\S]*\bSET\b|DELETE\s+FROM\b|REPLACE\s+INTO\b|DROP\s+\w+|CREATE\s+\w+|ALTER\s+\w+|WITH\b[\s\S]*\bSELECT\b)",
    re.IGNORECASE,
)
_VALUE_PLACE = re.compile(r"(?:=|<|>|\bLIKE|\bIN\s*\(|\bVALUES\s*\(|\bBETWEEN|\bAND|\bLIMIT|\bOFFSET|,)\s*['\"%(]*$", re.IGNORECASE)
_IDENTIFIER_PLACE = re.compile(
    r"\b(?:FROM|INTO|UPDATE|JOIN|TABLE|INDEX|VIEW|SCHEMA|DATABASE|COLUMN|ON|EXISTS|BY|SET|SELECT|PRAGMA)\s+[\"'`\[\w.]*$",
    re.IGNORECASE,
)


def _sql(node: ast.Call, name: str, method: str, scope: Scope) -> Found:
    if method not in _EXECUTE and name not in {"sqlalchemy.text", "text"}:
        return None
    given = _first(node, "sql", "query", "statement", "operation")
    if isinstance(given, ast.Call) and dotted(given.func, scope).rpartition(".")[2] == "text" and given.args:
        given = given.args[0]
    if given is None or not built(given, scope):
        return None
    parts = [*_parts(given, scope)]
    if not _STATEMENT.match("".join(part if part is not None else "x" for part in parts)):
        return None
    return _sql_severity(parts)


def _sql_severity(parts: Sequence[str | None]) -> Found:
    """A value in a statement is bad; the name of a table, which no placeholder can stand for, much less so."""
    before = ""
    values = False
    for part in parts:
        if part is None:
            values = values or bool(_VALUE_PLACE.search(before[-200:]) and not _IDENTIFIER_PLACE.search(before[-200:]))
            before += "x"
        else:
            before += part
    return ("", "") if values else ("low", "a name is put into it, which should come from a fixed list")


def _parts(node: ast.expr, scope: Scope) -> Iterator[str | None]:
    """Yield the fixed texts of a text that is put together, and None for each computed part."""
    match node:
        case ast.Constant(value=str() as text):
            yield text
        case ast.JoinedStr(values=values):
            for each in values:
                yield from _parts(each, scope)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            yield from _parts(left, scope)
            yield from _parts(right, scope)
        case ast.BinOp(left=ast.Constant(value=str() as text), op=ast.Mod()):
            yield from _between(re.split(r"%(?:\(\w+\))?[sdrf]", text))
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str() as text), attr="format")):
            yield from _between(re.split(r"\{[^{}]{0,60}\}", text))
        case ast.expr():
            yield "x" if literal(node, scope) else None


def _between(texts: Sequence[str]) -> Iterator[str | None]:
    for at, text in enumerate(texts):
        if at:
            yield None
        yield text


def _unpack(node: ast.Call, name: str, method: str, scope: Scope) -> Found:
    if _keyword(node, "filter") is not None:
        return None
    if name == "shutil.unpack_archive":
        given = _first(node, "filename")
        return None if given is None or literal(given, scope) else ("low", "")
    if method not in {"extractall", "extract"} or not isinstance(node.func, ast.Attribute):
        return None
    owner = node.func.value
    direct = isinstance(owner, ast.Call) and KINDS.get(dotted(owner.func, scope)) == "tar"
    known = isinstance(owner, ast.Name) and scope.kinds.get(owner.id) == "tar"
    return ("", "") if direct or known else None


def _debug(node: ast.Call, _name: str, method: str, scope: Scope) -> Found:
    if method not in {"run", "run_server"} or not _is(_keyword(node, "debug"), True) or not isinstance(node.func, ast.Attribute):
        return None
    owner = node.func.value
    known = isinstance(owner, ast.Name) and (scope.kinds.get(owner.id) == "app" or owner.id in {"app", "application", "server"})
    return ("", "") if known else None


def _jwt(node: ast.Call, name: str, _method: str, _scope: Scope) -> Found:
    if name not in {"jwt.decode", "jwt.api_jwt.decode", "jose.jwt.decode"}:
        return None
    options = _keyword(node, "options")
    off = isinstance(options, ast.Dict) and any(
        isinstance(key, ast.Constant) and key.value == "verify_signature" and _is(value, False)
        for key, value in zip(options.keys, options.values, strict=True)
    )
    algorithms = _keyword(node, "algorithms")
    none = algorithms is not None and any(
        isinstance(each, ast.Constant) and str(each.value).lower() == "none" for each in ast.walk(algorithms)
    )
    return ("", "") if off or none or _is(_keyword(node, "verify"), False) else None


_CIPHERS = re.compile(
    r"(?:Crypto(?:dome)?\.Cipher\.(?:DES|DES3|ARC2|ARC4|Blowfish)\.new|cryptography\..*\.(?:algorithms\.)?(?:ARC4|TripleDES|Blowfish|IDEA)|.*\.modes\.ECB)$"
)


def _cipher(node: ast.Call, name: str, _method: str, scope: Scope) -> Found:
    if name and _CIPHERS.match(name):
        return "", ""
    modes = [dotted(each, scope) for each in node.args[1:2] if isinstance(each, ast.Attribute)]
    return ("", "") if any(mode.endswith(".MODE_ECB") for mode in modes) and name.endswith(".new") else None


def _chmod(node: ast.Call, name: str, method: str, _scope: Scope) -> Found:
    if name != "os.chmod" and method != "chmod":
        return None
    given = node.args[1] if name == "os.chmod" and len(node.args) > 1 else node.args[0] if node.args else _keyword(node, "mode")
    if not isinstance(given, ast.Constant) or type(given.value) is not int:
        return None
    return ("", "") if given.value & 0o002 and not given.value & 0o1000 else None


_CHECKS: tuple[tuple[str, Callable[[ast.Call, str, str, Scope], Found]], ...] = (
    ("python-eval", _eval),
    ("python-shell", _shell),
    ("python-deserialise", _deserialise),
    ("python-yaml-load", _yaml),
    ("python-temporary-name", _temporary_name),
    ("python-tls-off", _tls),
    ("python-sql", _sql),
    ("python-unpack", _unpack),
    ("python-debug-server", _debug),
    ("python-jwt-unverified", _jwt),
    ("python-weak-cipher", _cipher),
    ("python-world-writable", _chmod),
)


# -- rules that need the names around a call ---------------------------------------------------------------------------

_SECRET = re.compile(
    r"(?:^|_)(?:token|password|passwd|pwd|secret|nonce|session_?id|api_?key|otp|salt|passphrase|csrf\w*|reset_code|auth_?code)s?(?:_|$)",
    re.IGNORECASE,
)
_COUNTING = re.compile(r"num|count|len|size|index|idx|position|_ids?$|tokens$|vocab|batch|embed", re.IGNORECASE)
_PASSWORD = re.compile(r"passw|pwd|passphrase", re.IGNORECASE)
_RANDOM = frozenset(
    f"random.{name}"
    for name in ("random", "randint", "randrange", "choice", "choices", "sample", "getrandbits", "randbytes", "shuffle")
)
_FAST = frozenset(f"hashlib.{name}" for name in ("md5", "sha1", "sha224", "sha256", "sha512"))


def _random(nodes: Nodes, scope: Scope) -> Iterator[Hit]:
    """Yield calls of random whose value becomes a secret by the name it is given."""
    seen: set[tuple[int, int]] = set()
    for name, value in _named(nodes):
        if not _SECRET.search(name) or _COUNTING.search(name):
            continue
        for call in by_type(value)[ast.Call]:
            place = (call.lineno, call.col_offset)
            if place not in seen and dotted(call.func, scope) in _RANDOM:
                seen.add(place)
                yield _hit("python-weak-random", call)


def _named(nodes: Nodes) -> Iterator[tuple[str, ast.expr]]:
    """Yield (name, value) of what is assigned, passed by name, or returned by a function of that name."""
    for node in nodes[ast.Assign]:
        if len(node.targets) == 1:
            yield _name_of(node.targets[0]), node.value
    yield from ((_name_of(node.target), node.value) for node in nodes[ast.AnnAssign] if node.value is not None)
    yield from ((node.arg, node.value) for node in nodes[ast.keyword] if node.arg)
    for node in (*nodes[ast.FunctionDef], *nodes[ast.AsyncFunctionDef]):
        yield from ((node.name, each.value) for each in node.body if isinstance(each, ast.Return) and each.value is not None)


def _name_of(target: ast.expr) -> str:
    match target:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=str() as name)):
            return name
    return ""


def _hashes_password(node: ast.Call, name: str) -> bool:
    if name not in _FAST and name != "hashlib.new":
        return False
    given = (
        node.args[1]
        if name == "hashlib.new" and len(node.args) > 1
        else node.args[0]
        if node.args and name != "hashlib.new"
        else None
    )
    if given is None or _is(_keyword(node, "usedforsecurity"), False):
        return False
    names = {each.id for each in ast.walk(given) if isinstance(each, ast.Name)} | {
        each.attr for each in ast.walk(given) if isinstance(each, ast.Attribute)
    }
    return any(_PASSWORD.search(each) for each in names)


def _assignments(nodes: Sequence[ast.Assign]) -> Iterator[Hit]:
    """Yield what switches TLS checks off by assignment."""
    for node in nodes:
        if len(node.targets) != 1 or not isinstance(node.targets[0], ast.Attribute):
            continue
        target, given = node.targets[0], node.value.attr if isinstance(node.value, ast.Attribute) else ""
        session = (
            target.attr == "verify" and _is(node.value, False) and _name_of(target.value) in {"session", "s", "client", "http"}
        )
        if session or (target.attr, given) in _OFF:
            yield _hit("python-tls-off", node)


_OFF = frozenset({("verify_mode", "CERT_NONE"), ("_create_default_https_context", "_create_unverified_context")})
