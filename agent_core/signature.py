"""signature - from a typed function to the JSON Schema of its parameters and back from JSON arguments to checked values.

    schema(parameters(function)) -> {"type": "object", "properties": {...}, "required": [...]}
    fit(value, schema)           -> the value, or MISFIT when only pydantic can tell

Plain annotations (str, int, float, bool, None, Any, Literal, list, dict, unions of those) are handled here, with exactly the
schema and the values that pydantic gives; everything else (models, dataclasses, enums, Annotated constraints, dates, paths) and
every doubt (a number sent as text, a wrong type) goes to pydantic, which is imported only then.
"""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

_NONE = type(None)
_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"}, int: {"type": "integer"}, float: {"type": "number"}, bool: {"type": "boolean"},
    _NONE: {"type": "null"}, None: {"type": "null"}, Any: {}, list: {"items": {}, "type": "array"},
    dict: {"additionalProperties": True, "type": "object"},
}  # fmt: skip
_WRITTEN = {kind.__name__: kind for kind in (str, int, float, bool)}
_LITERALS = {str: "string", int: "integer", bool: "boolean"}
_EXACT_INT = 2**53
_POSITIONAL_ONLY = "parameters before / cannot be named by a model"
_SECTIONS = frozenset({"args:", "arguments:", "returns:", "raises:", "yields:", "example:", "examples:", "note:", "notes:"})
_TOO_LONG = 80
_VARARGS, _VARKEYWORDS = 0x04, 0x08  # inspect.CO_VARARGS, CO_VARKEYWORDS


class _Missing:
    """Stands for "no value"; there is one."""

    def __repr__(self) -> str:
        return "-"


MISSING = _Missing()
MISFIT = _Missing()


@dataclass(frozen=True, slots=True)
class Parameter:
    """One named parameter: its annotation (resolved), default (MISSING: required) and description."""

    name: str
    annotation: Any
    default: Any = MISSING
    description: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes: parameters for the model and the name of the one that receives the Context ("" for none)."""

    parameters: tuple[Parameter, ...]
    context: str = ""
    returns: Any = MISSING


@dataclass(slots=True)
class Checker:
    """The schema of a signature, whether it is plain, and pydantic's model once it was needed."""

    signature: Signature
    schema: dict[str, Any]
    plain: bool = True
    model: Any = None


# -- reading a function ------------------------------------------------------------------------------------------------------------


def context_name(function: Callable[..., Any]) -> str:
    """Return the name of the parameter annotated `Context`, "" when there is none. Resolves nothing."""
    for name, annotation in function.__annotations__.items():
        written = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
        if name != "return" and written.strip("'\"").rpartition(".")[2] == "Context":
            return name
    return ""


def read(function: Callable[..., Any], names: Mapping[str, Any] | None = None, skip: Sequence[str] = ()) -> Signature:
    """Return the signature of a function; annotations written as text are resolved in its module and in `names`.

    `skip` names parameters that somebody else supplies: they are left out and their types are not resolved.

    Raises:
        TypeError: a parameter has no name a model could use (*args, **kwargs, positional-only), or a type cannot be found.
    """
    context = context_name(function)
    hints = dict(_hints(function, {context, *skip}, names or {}))
    _, described = docstring(function.__doc__ or "")
    found = []
    for name, default in _parameters(function):
        if name == context or name in skip:
            continue
        annotation = hints.get(name, Any)
        found.append(Parameter(name, annotation, default, described.get(name, "") or _note(annotation)))
    return Signature(tuple(found), context, hints.get("return", MISSING))


def _parameters(function: Callable[..., Any]) -> list[tuple[str, Any]]:
    """Return (name, default) of the parameters. What inspect.signature says of a plain function, without its import."""
    code = getattr(function, "__code__", None)
    if code is None or hasattr(function, "__wrapped__"):
        return _inspected(function)
    if code.co_flags & (_VARARGS | _VARKEYWORDS):
        extra = code.co_varnames[code.co_argcount + code.co_kwonlyargcount]
        raise TypeError(f"tool {function.__name__}: a tool takes named parameters, not *{extra}")
    if code.co_posonlyargcount:
        raise TypeError(f"tool {function.__name__}: {_POSITIONAL_ONLY}")
    defaults: tuple[Any, ...] = getattr(function, "__defaults__", None) or ()
    named: dict[str, Any] = getattr(function, "__kwdefaults__", None) or {}
    names = code.co_varnames[: code.co_argcount]
    first = len(names) - len(defaults)
    found = [(name, defaults[place - first] if place >= first else MISSING) for place, name in enumerate(names)]
    only = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    # A bound method's own object is no parameter of it.
    return [*found[1 if hasattr(function, "__self__") else 0 :], *((name, named.get(name, MISSING)) for name in only)]


def _inspected(function: Callable[..., Any]) -> list[tuple[str, Any]]:
    import inspect

    found = []
    for name, given in inspect.signature(function).parameters.items():
        if given.kind in {given.VAR_POSITIONAL, given.VAR_KEYWORD}:
            raise TypeError(f"tool {function.__name__}: a tool takes named parameters, not *{name}")
        if given.kind is given.POSITIONAL_ONLY:
            raise TypeError(f"tool {function.__name__}: {_POSITIONAL_ONLY}")
        found.append((name, MISSING if given.default is given.empty else given.default))
    return found


def docstring(text: str) -> tuple[str, dict[str, str]]:
    """Return what a docstring says before its sections, and the description of each parameter in `Args:`."""
    lines = _dedented(text)
    start = next((at for at, line in enumerate(lines) if line.strip().lower() in _SECTIONS and not line[:1].isspace()), len(lines))
    described: dict[str, str] = {}
    section = name = ""
    for line in lines[start:]:
        if line and not line[:1].isspace():
            section, name = line.strip().lower(), ""
        elif section in {"args:", "arguments:"} and line.strip():
            head, colon, rest = line.strip().partition(":")
            word = head.partition("(")[0].strip().lstrip("*")
            if colon and word.isidentifier() and _indent(line) <= _indent(described.get("", line)):
                described.setdefault("", line)
                name, described[word] = word, rest.strip()
            elif name:
                described[name] = f"{described[name]} {line.strip()}".strip()
    described.pop("", None)
    return "\n".join(lines[:start]).strip(), described


def _dedented(text: str) -> list[str]:
    lines = text.expandtabs().splitlines()
    margin = min((_indent(line) for line in lines[1:] if line.strip()), default=0)
    return [line.strip() if at == 0 else line[margin:].rstrip() for at, line in enumerate(lines)]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _note(annotation: Any) -> str:
    """Return a text in `Annotated[type, "text"]`."""
    notes = getattr(annotation, "__metadata__", ())
    return next((note for note in notes if isinstance(note, str)), "")


def _hints(function: Callable[..., Any], skip: Collection[str], names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    written = function.__annotations__
    inside = {**getattr(function, "__globals__", {}), **names}
    for name, annotation in written.items():
        if name in skip:
            continue
        if annotation in _WRITTEN and annotation not in inside:  # most are, and `typing` is a tenth of a short start
            yield name, _WRITTEN[annotation]
            continue
        shim = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            yield name, typing.get_type_hints(shim, inside, None, include_extras=True)[name]
        except (NameError, AttributeError, SyntaxError) as error:
            if name == "return":  # needed for the output's schema only
                continue
            raise TypeError(f"tool {function.__name__}: the type of {name} cannot be resolved: {error}") from None


# -- schema ------------------------------------------------------------------------------------------------------------------------


def checker(signature: Signature) -> Checker:
    """Return the schema of the parameters, made without pydantic where the annotations are plain."""
    plain = plain_schema(signature.parameters)
    if plain is not None:
        return Checker(signature, plain)
    model = pydantic_model(signature.parameters)
    return Checker(signature, untitled(model.model_json_schema()), plain=False, model=model)


def plain_schema(parameters: Sequence[Parameter]) -> dict[str, Any] | None:
    """Return the object schema of plain parameters, None when one of them is not plain."""
    properties: dict[str, Any] = {}
    for parameter in parameters:
        found = plain(parameter.annotation)
        if found is None or not _plain_default(parameter.default):
            return None
        if parameter.default is not MISSING:
            found = {**found, "default": parameter.default}
        properties[parameter.name] = {**found, "description": parameter.description} if parameter.description else found
    required = [parameter.name for parameter in parameters if parameter.default is MISSING]
    return {"properties": properties, **({"required": required} if required else {}), "type": "object"}


def plain(annotation: Any) -> dict[str, Any] | None:
    """Return the schema of a plain annotation, as pydantic would; None when it is not plain."""
    try:
        if annotation in _PLAIN:
            return dict(_PLAIN[annotation])
    except TypeError:  # unhashable
        return None
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return _literal(arguments)
    if origin in {list, dict}:
        return _container(origin, arguments)
    if origin in {types.UnionType, typing.Union}:
        return _union(arguments)
    if origin is typing.Annotated and all(isinstance(note, str) for note in annotation.__metadata__):
        return plain(arguments[0])
    return None


def _container(origin: Any, arguments: tuple[Any, ...]) -> dict[str, Any] | None:
    if not arguments:
        return plain(origin)
    inner = plain(arguments[-1])
    if inner is None or (origin is dict and arguments[0] is not str):
        return None
    return {"items": inner, "type": "array"} if origin is list else {"additionalProperties": inner or True, "type": "object"}


def _literal(values: tuple[Any, ...]) -> dict[str, Any] | None:
    kinds = {type(value) for value in values}
    if len(kinds) != 1 or not kinds <= _LITERALS.keys() or len(set(values)) != len(values):
        return None
    kind = {"type": _LITERALS[kinds.pop()]}
    return {"const": values[0], **kind} if len(values) == 1 else {"enum": list(values), **kind}


def _union(members: tuple[Any, ...]) -> dict[str, Any] | None:
    options = [plain(member) for member in members]
    distinct = {repr(option) for option in options}
    if None in options or {} in options or len(distinct) != len(options) or any("anyOf" in (option or {}) for option in options):
        return None
    return {"anyOf": options}


def _plain_default(value: Any) -> bool:
    if type(value) is float:
        return abs(value) < float("inf")
    if type(value) in {list, dict}:
        return not value
    return value is MISSING or value is None or type(value) in {str, int, bool}


def pydantic_model(parameters: Sequence[Parameter]) -> Any:
    """Return pydantic's model of the parameters. Fields are numbered, so that no name collides with the model's own."""
    import pydantic
    from pydantic.fields import FieldInfo

    fields: dict[str, Any] = {}
    for number, parameter in enumerate(parameters):
        options: dict[str, Any] = {"alias": parameter.name}
        annotation = parameter.annotation
        if isinstance(parameter.default, FieldInfo):
            annotation = typing.Annotated[annotation, parameter.default]
        elif parameter.default is not MISSING:
            options["default"] = parameter.default
        if parameter.description and not _says(annotation):
            options["description"] = parameter.description
        fields[f"p{number}"] = (annotation, pydantic.Field(**options))
    config = pydantic.ConfigDict(extra="ignore", arbitrary_types_allowed=False)
    return pydantic.create_model("arguments", __config__=config, **fields)


def _says(annotation: Any) -> bool:
    """Return whether Annotated carries a description of its own."""
    return any(getattr(note, "description", None) for note in getattr(annotation, "__metadata__", ()))


def of_type(annotation: Any) -> dict[str, Any] | None:
    """Return the schema of a return annotation; None for text, nothing or what has no schema."""
    if annotation is MISSING or annotation is str or annotation is Any:
        return None
    found = plain(annotation)
    if found is not None:
        return found
    import pydantic

    try:
        made: dict[str, Any] = untitled(pydantic.TypeAdapter(annotation).json_schema(mode="serialization"))
    except (pydantic.PydanticUserError, pydantic.errors.PydanticInvalidForJsonSchema):
        return None
    return made


_NAMED = frozenset({"properties", "$defs", "patternProperties", "dependentSchemas"})
_VALUES = frozenset({"default", "const", "enum", "examples", "required"})


def untitled(schema: Any) -> Any:
    """Return the schema without the titles that pydantic derives from names; a property called title stays."""
    if isinstance(schema, list):
        return [untitled(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _NAMED and isinstance(value, dict):
            made[key] = {name: untitled(item) for name, item in value.items()}
        elif key != "title":
            made[key] = value if key in _VALUES else untitled(value)
    return made


# -- checking ----------------------------------------------------------------------------------------------------------------------


def fit(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return the value if it is exactly what the plain schema says (an int may become a float), else MISFIT."""
    options = schema.get("anyOf")
    if options is not None:
        return value if any(_exact(value, option) for option in options) else MISFIT
    if schema.get("type") == "number" and type(value) is int and -_EXACT_INT < value < _EXACT_INT:
        return float(value)
    return value if _exact(value, schema) else MISFIT


def _exact(value: Any, schema: Mapping[str, Any]) -> bool:
    """Return whether the value has exactly the type (and is one of the literals) that the schema names."""
    kind = schema.get("type")
    check = _CHECKS.get(kind or "")
    if "anyOf" in schema:
        return any(_exact(value, option) for option in schema["anyOf"])
    if kind is None:
        return not schema.keys() - {"description", "default"}
    if check is None or not check(value, schema):
        return False
    if "const" in schema:
        return bool(value == schema["const"])
    return "enum" not in schema or value in schema["enum"]


def _is_text(value: Any, _schema: Mapping[str, Any]) -> bool:
    """A lone surrogate is no text."""
    if type(value) is not str:
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_list(value: Any, schema: Mapping[str, Any]) -> bool:
    return type(value) is list and (not schema["items"] or all(_exact(item, schema["items"]) for item in value))


def _is_dict(value: Any, schema: Mapping[str, Any]) -> bool:
    if type(value) is not dict or "properties" in schema:
        return False
    inner = schema.get("additionalProperties", True)
    if inner is True:
        return all(type(key) is str for key in value)
    return all(_is_text(key, {}) and _exact(item, inner) for key, item in value.items())


_CHECKS: dict[str, Callable[[Any, Mapping[str, Any]], bool]] = {
    "string": _is_text,
    "integer": lambda value, _schema: type(value) is int,
    "number": lambda value, _schema: type(value) is float,
    "boolean": lambda value, _schema: type(value) is bool,
    "null": lambda value, _schema: value is None,
    "array": _is_list,
    "object": _is_dict,
}


def fitted(made: Checker, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return all arguments with defaults filled in, or None when pydantic has to look."""
    if not made.plain:
        return None
    values: dict[str, Any] = {}
    properties = made.schema["properties"]
    for parameter in made.signature.parameters:
        if parameter.name in arguments:
            value = fit(arguments[parameter.name], properties[parameter.name])
            if value is MISFIT:
                return None
        else:
            value = parameter.default
            if value is MISSING:
                return None
            value = type(value)(value) if type(value) in {list, dict} else value
        values[parameter.name] = value
    return values


def validated(made: Checker, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return pydantic's values, or all its complaints. Lone surrogates, which pydantic lets through, are no text."""
    import pydantic

    parameters = made.signature.parameters
    broken = tuple(f"{name}: expected text, got broken characters" for name, value in arguments.items() if _is_broken(value))
    if made.model is None:
        made.model = pydantic_model(parameters)
    try:
        found = made.model.model_validate(dict(arguments))
    except pydantic.ValidationError as error:
        return {}, (*(_complaint(one) for one in error.errors(include_url=False)), *broken)
    return {parameter.name: getattr(found, f"p{number}") for number, parameter in enumerate(parameters)}, broken


def _is_broken(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_is_broken(key) or _is_broken(item) for key, item in value.items())
    if isinstance(value, list):
        return any(_is_broken(item) for item in value)
    return isinstance(value, str) and not _is_text(value, {})


def _complaint(error: Mapping[str, Any]) -> str:
    where = ".".join(str(step) for step in error["loc"]) or "arguments"
    if error["type"] == "missing":
        return f"{where}: missing"
    message = str(error["msg"]).removeprefix("Input should be ").removeprefix("a valid ").removeprefix("Value error, ")
    return (
        f"{where}: expected {message}, got {shown(error['input'])}" if error["msg"].startswith("Input") else f"{where}: {message}"
    )


def shown(value: Any) -> str:
    """Return a value in a few characters."""
    import json

    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, TypeError, RecursionError):
        text = f"a {type(value).__name__}"
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _TOO_LONG else f"{text[: _TOO_LONG - 1]}…"
