"""plans - make the plan of a dataclass at build time (`building.planned` says what a plan is, and follows it)."""

from __future__ import annotations

import re
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TYPE = re.compile(r":_type_(\w+)")
_FIXED = "cls, MISSING, _HAS_DEFAULT_FACTORY, __dataclass_builtins_object__, FrozenInstanceError"
_INDENT = " "
_ALWAYS = frozenset(("__hash__",))  # is set even where the class had one


def plan(made: Any, before: Mapping[str, Any], parameters: Sequence[Any], texts: Sequence[str]) -> tuple[Any, ...] | None:
    """Return the plan of a class that `dataclasses` made; None where making it takes more than a plan knows.

    Args:
        made: the class.
        before: what the undecorated class held.
        parameters: of the decorator, in the order of `dataclasses._process_class`.
        texts: what `dataclasses` compiled for it.
    """
    names = tuple(before.get("__annotations__", ()))
    *_, order, _, _, _, _, _, weak = (None, *parameters)
    if order or weak or "<locals>" in made.__qualname__ or not _plain(made, names):
        return None
    functions = [text for text in texts if _is_new(_name(text), before)]
    defaults = tuple(name for name in names if f"_dflt_{name}" in "".join(functions))
    text = f"def __create__({', '.join([_FIXED, *(f'_dflt_{name}' for name in defaults)])}):\n"
    text += "".join(_function(function, made) for function in functions)
    text += f" return {{{', '.join(f'{_name(function)!r}: {_name(function)}' for function in functions)}}}"
    outer = compile(text, "<string>", "exec", dont_inherit=True)
    code = next(each for each in outer.co_consts if isinstance(each, CodeType))
    return _named(code, made.__qualname__), defaults, names, tuple(parameters), _hidden(made, before)


def _plain(made: Any, names: tuple[str, ...]) -> bool:
    """Whether all fields are fields, its own, and nothing above it is a dataclass."""
    found = made.__dataclass_fields__
    above = any("__dataclass_fields__" in vars(base) for base in made.__mro__[1:])
    kinds = {field._field_type.name for field in found.values()}  # noqa: SLF001 - nothing public tells
    return not above and tuple(found) == names and kinds <= {"_FIELD"}


def _name(text: str) -> str:
    """Return the name of the function in a text of `dataclasses._create_fn`."""
    return text.splitlines()[1].strip().removeprefix("def ").partition("(")[0]


def _is_new(name: str, before: Mapping[str, Any]) -> bool:
    return name not in before or name in _ALWAYS


def _function(text: str, made: Any) -> str:
    """Return the lines of the function; types of parameters are what their texts say, a repr knows when it is inside itself."""
    head, *body = text.splitlines()[1:-1]

    def kind(match: re.Match[str]) -> str:
        found = made.__annotations__.get(match[1])
        return f":{found!r}" if isinstance(found, str) else ""

    head = _TYPE.sub(kind, head).replace("->_return_type", "->None")
    if _name(text) != "__repr__":
        return "\n".join([head, *body, ""])
    inside = [f"{_INDENT}{line}" for line in body]
    return "\n".join([
        " from _thread import get_ident", " running = set()", head, "  key = id(self), get_ident()",
        "  if key in running:", "   return '...'", "  running.add(key)", "  try:", *inside, "  finally:",
        "   running.discard(key)", "",
    ])  # fmt: skip


def _named(code: CodeType, qualified: str) -> CodeType:
    """Return the code with the methods' qualified names."""
    inner = [
        each.replace(co_qualname=f"{qualified}.{each.co_name}") if isinstance(each, CodeType) else each for each in code.co_consts
    ]
    return code.replace(co_consts=tuple(inner))


def _hidden(made: Any, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return what else the class got: names to match, slots, no hash, a docstring."""
    names = ("__match_args__", "__slots__", "__doc__", "__hash__")
    found = {name: made.__dict__[name] for name in names if name in made.__dict__}
    return {
        name: value
        for name, value in found.items()
        if (name not in before or before[name] != value) and (name != "__hash__" or value is None)
    }
