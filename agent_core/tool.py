"""tool - a typed function that a model may call: name, manual, JSON Schema, checked arguments, declared needs.

    @tool
    def area(width: float, height: float = 1.0) -> float:
        'Compute the area of a rectangle.'      (the docstring: its text is the manual, `Args:` describes parameters)
        return width * height

    area.parameters                        JSON Schema, made from annotations and docstring when first asked for
    area.bind({"width": "2"})              {"width": 2.0, "height": 1.0}; ArgumentProblem lists everything that is wrong at once
    area.from_text("2")                    {"width": 2}: one-parameter tools take a bare text

    @tool(needs={"file-read": "path"}, read_only=True)
    def first_line(path: str, context: Context) -> str: ...

`needs` maps a capability to the parameter that holds its scope (a path, a URL, a command), to None (the whole capability), or
to the parameter annotated `Context` when the tool has the scope checked there. What is not declared is refused by the Context.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, overload

from agent_core.errors import AgentError, ConfigError, InputError

if TYPE_CHECKING:
    from agent_core.beneath import Entry
    from agent_core.messages import ToolErrorKind
    from agent_core.policy import Place, Policy
    from agent_core.signature import Checker

MODEL_LIMIT = 64 * 1024
READ_LIMIT = 16 * 1024 * 1024
_PATHS = frozenset({"file-read", "file-write"})
_NEAR = 3
_LONG = 600


class ToolError(Exception):
    """An expected failure of a tool; the model is shown the text and its kind, and the run goes on."""

    def __init__(self, message: str, kind: ToolErrorKind = "permanent") -> None:
        """Keep the message and its kind: not_found, transient, permanent, denied or invalid."""
        super().__init__(message)
        self.kind: ToolErrorKind = kind


class ArgumentProblem(InputError):  # noqa: N818 - a problem with arguments, not an error of the program
    """The arguments do not fit; `problems` has one line for each thing that is wrong."""

    code = "bad_arguments"

    def __init__(self, tool: str, problems: Sequence[str], *, hint: str = "") -> None:
        """Join all problems into one line."""
        super().__init__(f"bad arguments for {tool}: {'; '.join(problems)}", hint=hint)
        self.problems = tuple(problems)


_COROUTINE = 0x80  # inspect.CO_COROUTINE, without importing inspect


@dataclass(frozen=True, slots=True)
class Need:
    """A capability a tool needs. `parameter` holds its scope (None: all of it); `checked`: the tool asks its Context itself."""

    capability: str
    parameter: str | None = None
    checked: bool = False


class Arguments(dict[str, Any]):
    """Checked arguments, ready to be passed by name; `notes` says what was ignored."""

    notes: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False, eq=False)
class Tool:
    """A function with everything a model, a policy and a reader need to know about it. Calling it calls the function.

    `parameters`, `output` and the check of arguments are made when first asked for, so that defining tools costs nothing.
    `secrets` names the settings (keys, addresses) of the tool's own service that its Context may hand out. `breaker` is N/SECONDS:
    after N failures in a row (of kind transient) it rests that long, in all processes; `--breaker` and a tier win over it.
    `confined`: what it starts, it starts in the sandbox (`agent_core.sandbox`).
    """

    name: str
    description: str
    function: Callable[..., Any]
    needs: tuple[Need, ...] = ()
    timeout: float | None = None
    breaker: str = ""
    exclusive: bool = False
    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False
    open_world: bool = False
    confined: bool = False
    secrets: tuple[str, ...] = ()
    context_name: str = ""
    original: Callable[..., Any] | None = None
    schema: Mapping[str, Any] | None = None
    memo: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Tool({self.name})"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function as if it were undecorated."""
        return (self.original or self.function)(*args, **kwargs)

    @property
    def wants_context(self) -> bool:
        """Whether the function has a parameter annotated `Context` (injected, not part of the schema)."""
        return bool(self.context_name)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """JSON Schema (an object) of the parameters."""
        return self.schema if self.schema is not None else self._checker().schema

    @property
    def output(self) -> dict[str, Any] | None:
        """JSON Schema of the value; None for text."""
        if "output" not in self.memo:
            from agent_core.signature import of_type

            self.memo["output"] = None if self.schema is not None else of_type(self._checker().signature.returns)
        found: dict[str, Any] | None = self.memo["output"]
        return found

    def bind(self, arguments: Mapping[str, Any]) -> Arguments:
        """Return checked arguments with defaults filled in; unknown ones are left out and named in `.notes`.

        Raises:
            ArgumentProblem: with *everything* that is wrong.
        """
        from agent_core import signature

        if self.schema is not None:
            values, problems = _loosely(self.schema, arguments)
        else:
            made = self._checker()
            found = signature.fitted(made, arguments)
            values, problems = (found, ()) if found is not None else signature.validated(made, arguments)
        problems = (*problems, *self._nul(arguments))
        known = self.parameters.get("properties", {})
        extra = () if self.schema is not None and not known else tuple(name for name in arguments if name not in known)
        if problems:
            raise ArgumentProblem(self.name, [*problems, *_unknown(extra, known)], hint=f"it takes {_usage(self.parameters)}")
        bound = Arguments(values)
        bound.notes = tuple(_unknown(extra, known))
        return bound

    def from_text(self, text: str) -> dict[str, Any]:
        """Return arguments (unchecked) from a text: a JSON object fills the parameters, anything else the sole required one.

        Raises:
            ArgumentProblem: the text fits no single parameter.
        """
        value = _json(text)
        properties: Mapping[str, Any] = self.parameters.get("properties", {})
        required = [name for name in self.parameters.get("required", ()) if name in properties]
        sole = required[0] if len(required) == 1 else next(iter(properties)) if len(properties) == 1 else ""
        takes_object = bool(sole) and _kinds(properties[sole]) & {"object", ""}
        if type(value) is dict and (not takes_object or value.keys() & properties.keys()):
            return value
        if sole:
            return {sole: _converted(text, value, properties[sole])}
        if not text.strip():
            return {}
        if len(required) > 1:
            raise ArgumentProblem(self.name, [f"needs {' and '.join(required)}"], hint=f"give a JSON object: {_example(required)}")
        raise ArgumentProblem(self.name, ["takes no bare text"], hint=f"it takes {_usage(self.parameters)}")

    def _checker(self) -> Checker:
        found: Checker | None = self.memo.get("checker")
        if found is None:
            from agent_core import signature

            found = signature.checker(signature.read(self.original or self.function, self.memo.get("names")))
            self.memo["checker"] = found
        return found

    def _nul(self, arguments: Mapping[str, Any]) -> Iterator[str]:
        for name in dict.fromkeys(need.parameter for need in self.needs if need.capability in _PATHS):
            if name and _has_nul(arguments.get(name)):
                yield f"{name}: a path has no NUL byte"


@dataclass(frozen=True, repr=False, eq=False)
class Toolset:
    """Tools in a stable order, found by name. `cache` keeps what codecs and prompts make of them once."""

    tools: tuple[Tool, ...] = ()
    cache: dict[str, Any] = field(default_factory=dict)
    _index: dict[str, Tool] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tools", tuple(each if isinstance(each, Tool) else tool(each) for each in self.tools))
        for each in self.tools:
            if self._index.setdefault(each.name, each) is not each:
                raise ConfigError(f"two tools are named {each.name}", hint="rename one: @tool(name=...)")

    def __iter__(self) -> Iterator[Tool]:
        return iter(self.tools)

    def __len__(self) -> int:
        return len(self.tools)

    def get(self, name: str) -> Tool | None:
        """Return the tool of that name, or None."""
        return self._index.get(name)

    def nearest(self, name: str) -> list[str]:
        """Return the names most like `name`, best first."""
        import difflib

        return difflib.get_close_matches(name[:_LONG], list(self._index), _NEAR, 0.5)


# -- making -----------------------------------------------------------------------------------------------------------------------


@overload
def tool(function: Callable[..., Any]) -> Tool: ...
@overload
def tool(
    *,
    name: str = "",
    description: str = "",
    needs: Mapping[str, str | None] | None = None,
    timeout: float | None = None,
    **hints: Any,
) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Make a tool of a function: `@tool` or `@tool(needs={"file-read": "path"}, timeout=5, exclusive=True)`.

    Options are fields of `Tool`; `needs` is a mapping from capability to parameter (see the module).
    """
    caller = sys._getframe(1)  # noqa: SLF001 - as pydantic does it
    # A function made inside another may name types that only live there.
    names = dict(caller.f_locals) if caller.f_locals is not caller.f_globals else {}
    if function is not None:
        return _made(function, names, options)
    return lambda decorated: _made(decorated, names, options)


def external(name: str, description: str, parameters: Mapping[str, Any], function: Callable[..., Any], **options: Any) -> Tool:
    """Return a tool whose JSON Schema comes from elsewhere (a peer, MCP); arguments are checked loosely, the peer checks again."""
    return Tool(name, description, function, schema=parameters, **_needing(options, ""))


def _made(function: Callable[..., Any], names: Mapping[str, Any], options: Mapping[str, Any]) -> Tool:
    from agent_core.signature import context_name, docstring

    context = context_name(function)
    given = _needing(options, context)
    name = given.pop("name", "") or function.__name__
    text = given.pop("description", "") or docstring(function.__doc__ or "")[0] or name.replace("_", " ")
    made = Tool(name, text, function, context_name=context, original=function, **given)
    made.memo["names"] = {**names, **({function.__name__: function} if names else {})}
    if context:
        object.__setattr__(made, "function", _narrowing(made, function, context))
    return made


def _needing(options: Mapping[str, Any], context: str) -> dict[str, Any]:
    needs = options.get("needs") or ()
    if needs and isinstance(needs, Mapping):
        from agent_core.policy import canonical

        pairs = [(canonical(capability), parameter) for capability, parameter in needs.items()]
        needs = [Need(name, None, checked=True) if at and at == context else Need(name, at) for name, at in pairs]
    return {**options, "needs": tuple(needs)}


def _narrowing(made: Tool, function: Callable[..., Any], context: str) -> Callable[..., Any]:
    """Wrap the function so that the Context it gets knows no more than the tool declared."""

    def narrowed(arguments: dict[str, Any]) -> dict[str, Any]:
        given = arguments.get(context)
        return {**arguments, context: replace(given, tool=made)} if isinstance(given, Context) else arguments

    if getattr(getattr(function, "__code__", None), "co_flags", 0) & _COROUTINE:

        async def awaited(**arguments: Any) -> Any:
            return await function(**narrowed(arguments))

        return awaited

    def called(**arguments: Any) -> Any:
        return function(**narrowed(arguments))

    return called


# -- arguments --------------------------------------------------------------------------------------------------------------------


def _loosely(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Check what can be checked of a foreign schema: required names and plain types."""
    from agent_core import signature

    properties: Mapping[str, Any] = schema.get("properties", {})
    problems = [f"{name}: missing" for name in schema.get("required", ()) if name not in arguments]
    for name, value in arguments.items():
        expected = properties.get(name, {})
        kind = expected.get("type") if isinstance(expected, Mapping) else None
        simple = kind in {"string", "integer", "number", "boolean"}
        if simple and signature.fit(value, {key: expected[key] for key in expected if key in {"type", "enum"}}) is signature.MISFIT:
            wanted = f"one of {signature.shown(expected['enum'])}" if "enum" in expected else kind
            problems.append(f"{name}: expected {wanted}, got {signature.shown(value)}")
    return {name: value for name, value in arguments.items() if name in properties or not properties}, tuple(problems)


def _unknown(extra: Sequence[str], known: Mapping[str, Any]) -> list[str]:
    import difflib

    notes = []
    for name in extra:
        near = difflib.get_close_matches(name[:_LONG], list(known), 1)
        notes.append(f"{name[:60]}: ignored, there is no such parameter" + (f" (did you mean {near[0]}?)" if near else ""))
    return notes


def _has_nul(value: Any) -> bool:
    return "\0" in value if isinstance(value, str) else isinstance(value, list) and any(_has_nul(item) for item in value)


def _usage(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    names = [name if name in required else f"{name}?" for name in schema.get("properties", {})]
    return f"({', '.join(names)})" if names else "no arguments"


def _example(names: Sequence[str]) -> str:
    return "{" + ", ".join(f'"{name}": …' for name in names) + "}"


def _json(text: str) -> Any:
    """Return the JSON value of a text, None when it is none."""
    import json

    if not text.lstrip()[:1] or text.lstrip()[0] not in '{["-0123456789tfn':
        return None
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(word: str) -> Any:
    raise ValueError(word)


def _kinds(schema: Mapping[str, Any]) -> set[str]:
    """Return the JSON types a schema allows; "" where it does not say."""
    if "anyOf" in schema:
        return {kind for option in schema["anyOf"] for kind in _kinds(option)}
    return {"object" if "$ref" in schema else schema.get("type", "")}


def _converted(text: str, value: Any, schema: Mapping[str, Any]) -> Any:
    """Return what a bare text means for one parameter: itself for text, its JSON value for anything else."""
    kinds = _kinds(schema)
    if "string" in kinds or value is None:
        return text if "string" in kinds or not kinds & {"integer", "number", "boolean"} else text.strip()
    return value


# -- results ----------------------------------------------------------------------------------------------------------------------


def render(value: Any) -> tuple[str, Any]:
    """Return a tool's value as text for people and models, and as plain JSON data for scripts.

    Text stays as it is; anything else becomes JSON text (models, dataclasses, dates, paths and sets included).
    """
    import json

    if isinstance(value, str):
        return str(value), str(value)
    plain = jsonable(value)
    return json.dumps(plain, ensure_ascii=False, allow_nan=False), plain


def jsonable(value: Any) -> Any:
    """Return plain JSON data that stands for the value; what JSON has no word for becomes text."""
    if value is None or type(value) in {str, int, bool}:
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    if isinstance(value, Mapping):
        return {str(getattr(key, "value", key)): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((jsonable(item) for item in value), key=str)
    return _object(value)


def _object(value: Any) -> Any:
    """Turn objects into data: pydantic models, dataclasses, enums, dates; anything else into text."""
    from dataclasses import fields, is_dataclass

    if hasattr(value, "model_dump"):
        return jsonable(value.model_dump(mode="json"))
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: jsonable(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "replace")
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return jsonable(value.value) if hasattr(type(value), "__members__") else str(value)


def cap(text: str, limit: int = MODEL_LIMIT, keep: Callable[[bytes], str] | None = None) -> str:
    """Return at most `limit` bytes of a text (head and tail) with a note; `keep` stores the whole and returns where."""
    if len(text) * 4 <= limit:
        return text
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return text
    where = f"; all of it is in {keep(data)}" if keep else "; ask for less at a time"
    room = max(0, limit - 200)
    head, tail = data[: room * 3 // 4].decode("utf-8", "ignore"), data[len(data) - room // 4 :].decode("utf-8", "ignore")
    return f"{head}\n[… {len(data) - room} of {len(data)} bytes left out{where} …]\n{tail}"


def failure(error: BaseException) -> tuple[ToolErrorKind, str]:
    """Return the kind and the text by which the model is told of a tool's exception."""
    match error:
        case ToolError():
            return error.kind, str(error)
        case ArgumentProblem():
            return "invalid", error.line()
        case AgentError():
            return ("denied" if error.code == "denied" else "transient" if error.retryable else "permanent"), error.line()
        case FileNotFoundError():
            return "not_found", f"{type(error).__name__}: {error}"[:_LONG]
        case TimeoutError() | ConnectionError():
            return "transient", f"{type(error).__name__}: {error}"[:_LONG]
    return "permanent", f"{type(error).__name__}: {error}"[:_LONG]


# -- the world, as far as it is granted -------------------------------------------------------------------------------------------


_SAYS: dict[type, str] = {IsADirectoryError: "is a folder", NotADirectoryError: "is not a folder"}


def _never() -> bool:
    return False


def _any(_name: str, _depth: int) -> bool:
    return True


def _free(_cost: int) -> None:
    """Nobody keeps a budget."""


@dataclass(frozen=True, repr=False, eq=False)
class Context:
    """What a tool may touch: files, hosts and secrets, each checked against the run's policy and the tool's own declaration.

    `deadline` is on the clock of time.monotonic; `settings` is the run's Settings or a plain mapping; `environ` is only given in
    tests, else it is the Settings' environment; `cancelled()` says whether to stop early; `charge(pico-dollars)` counts money that
    the tool spent against the run's budgets.
    """

    policy: Policy
    workspace: str = "."
    deadline: float | None = None
    settings: Any = field(default_factory=dict)
    environ: Mapping[str, str] | None = None
    cancelled: Callable[[], bool] = _never
    tool: Tool | None = None
    charge: Callable[[int], None] = _free

    def remaining(self, most: float) -> float:
        """Return the seconds left until the deadline, at most `most`."""
        import time

        return most if self.deadline is None else max(0.0, min(most, self.deadline - time.monotonic()))

    def require(self, capability: str, scope: str = "") -> None:
        """Check that the tool declared the capability and that the scope is granted.

        Raises:
            ToolError: kind `denied`, with the rule that would allow it.
        """
        self._declared(capability, scope)
        denial = self.policy.check(self._name, capability, scope, self.workspace)
        if denial is not None:
            raise ToolError(denial.line(), "denied")

    def open_read(self, path: str, *, offset: int = 0, limit: int = READ_LIMIT) -> bytes:
        """Return at most `limit` bytes of a file from `offset` on."""
        from agent_core import beneath

        found: bytes = self._at("file-read", path, lambda at: beneath.read(at.root, at.rest, offset, limit, links=at.links))
        return found

    def open_write(self, path: str, data: bytes) -> None:
        """Replace a file in one step; folders are made as needed."""
        from agent_core import beneath

        self._at("file-write", path, lambda place: beneath.write(place.root, place.rest, data))

    def listdir(self, path: str = ".") -> list[Entry]:
        """Return the entries of a folder, sorted by name."""
        from agent_core import beneath

        found: list[Entry] = self._at("file-read", path, lambda at: beneath.names(at.root, at.rest, links=at.links))
        return found

    def walk(self, path: str = ".", enter: Callable[[str, int], bool] = _any) -> Iterator[tuple[str, Entry]]:
        """Yield (name relative to `path`, entry) of what is in a folder, then of the folders below it, in order.

        Links are yielded and never followed; a folder below that is denied or gone is passed over.

        Args:
            path: the folder.
            enter: whether to look into a folder, by its name and depth (0: it is in `path` itself).
        """
        waiting = [("", 0)]
        while waiting:
            prefix, depth = waiting.pop()
            try:
                entries = self.listdir(f"{path}/{prefix}" if prefix else path)
            except ToolError:
                if not prefix:
                    raise
                continue
            below = []
            for entry in entries:
                yield prefix + entry.name, entry
                if entry.kind == "folder" and enter(entry.name, depth):
                    below.append((f"{prefix}{entry.name}/", depth + 1))
            waiting += below[::-1]

    def secret(self, name: str) -> str:
        """Return a key or setting of the tool's service from the environment, "" when it is not set.

        Raises:
            ToolError: kind `denied`: the tool did not declare it, or the policy withholds it.
        """
        if self.tool is None or name not in self.tool.secrets:
            self.require("secret", name)
        elif self.policy.withholds("secret", name):
            raise ToolError(f"denied: {self._name} may not have secret:{name} (a --deny rule)", "denied")
        return self.environment().get(name) or ""

    def setting(self, name: str, default: Any = None) -> Any:
        """Return a setting: `name` of a flag or of a file's table, as `table.key`."""
        table, _, key = name.partition(".")
        for source in (self.settings, getattr(self.settings, "extra", {}), getattr(self.settings, "tables", {})):
            if isinstance(source, Mapping):
                inner = source.get(table)
                found = source[name] if name in source else inner.get(key) if isinstance(inner, Mapping) and key else None
                if found is not None:
                    return found
        return default

    def environment(self) -> Mapping[str, str]:
        """Return the environment (keys from other places included); for the programs of this package, not for their children."""
        if self.environ is not None:
            return self.environ
        if hasattr(self.settings, "environment"):
            from agent_core.config import vendor_environment

            return vendor_environment(self.settings)
        return {}

    def keep(self, data: bytes) -> str:
        """Store a large output in a private file, which `file-read` may read during this run; return its path."""
        import os
        import tempfile

        handle, path = tempfile.mkstemp(prefix="output-", suffix=".txt", dir=self.policy.outputs())
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        return path

    @property
    def _name(self) -> str:
        return self.tool.name if self.tool else "this tool"

    def _declared(self, capability: str, scope: str) -> None:
        if self.tool is not None and {capability, f"{capability}:{scope}"}.isdisjoint(need.capability for need in self.tool.needs):
            raise ToolError(f"denied: {self._name} did not declare {capability}", "denied")

    def _at(self, capability: str, path: str, act: Callable[[Place], Any]) -> Any:
        """Do something with a path where a grant covers it; the first grant under which it can be reached counts."""
        from agent_core.beneath import EscapeError

        self.require(capability, path)
        places = self.policy.places(capability, path, self.workspace)
        for at, place in enumerate(places, 1):
            try:
                return act(place)
            except EscapeError:
                if at == len(places):
                    denial = self.policy.escape(self._name, capability, path, self.workspace)
                    raise ToolError(denial.line(), "denied") from None
            except FileNotFoundError:
                raise ToolError(f"{path}: no such file or folder", "not_found") from None
            except OSError as error:
                raise ToolError(f"{path} {_SAYS.get(type(error), str(error.strerror or error))}", "permanent") from None
        raise ToolError(f"denied: {path} is not granted", "denied")
