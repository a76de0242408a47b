"""calc - arithmetic on a parsed syntax tree; nothing is evaluated that is not listed here.

    calc("(2 + 3) * 4")     20
    calc("0.1 + 0.2")       0.3
    calc("2^10")            1024
    calc("9**9**9**9")      refused at once: the size of a result is estimated before it is computed

Integers are exact; floats are shown with 15 significant digits.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from typing import TYPE_CHECKING, Any

from agent_core.tool import ToolError, tool

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_CHARACTERS = 1000
MAX_BITS = 10_000
_MAX_FACTORIAL = 1000
_DEPTH = 60
_DIGITS = 300

Number = int | float
_SPELLINGS = str.maketrans({"\xd7": "*", "\xb7": "*", "\xf7": "/", "\u2212": "-", "\u2013": "-", "^": "**"})
_CONSTANTS: dict[str, Number] = {"pi": math.pi, "e": math.e, "tau": math.tau}


@tool(read_only=True, idempotent=True)
def calc(expression: str) -> str:
    """Compute an arithmetic expression exactly: + - * / // % ** and sqrt, abs, round, min, max, log, sin and the like.

    Args:
        expression: for example (2 + 3) * 4 or sqrt(2) / 3.
    """
    return shown(compute(expression))


def compute(expression: str) -> Number:
    """Return the value of an expression.

    Raises:
        ToolError: kind `invalid`: it cannot be read, is not arithmetic, or its result would be too large.
    """
    if len(expression) > MAX_CHARACTERS:
        raise ToolError(f"the expression is longer than {MAX_CHARACTERS} characters", "invalid")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(expression.translate(_SPELLINGS).strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ToolError(f"cannot read {expression[:80]!r} as an expression", "invalid") from None
    try:
        return _finite(_value(tree.body, 0))
    except ZeroDivisionError:
        raise ToolError("division by zero", "invalid") from None
    except (OverflowError, ValueError, TypeError) as error:
        raise ToolError(f"cannot compute that: {error}", "invalid") from None


def shown(value: Number) -> str:
    """Return a number as text: integers exact, floats without the noise of binary fractions."""
    if isinstance(value, int):
        return str(value)
    text = f"{value:.15g}"
    return text if math.isfinite(float(text)) else repr(value)


def _value(node: ast.expr, depth: int) -> Number:
    if depth > _DEPTH:
        raise ToolError("the expression is nested too deeply", "invalid")
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _small(value)
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.UAdd() | ast.USub() as sign, operand=operand):
            value = _value(operand, depth + 1)
            return -value if isinstance(sign, ast.USub) else value
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _small(_OPERATORS[type(op)](_value(left, depth + 1), _value(right, depth + 1)))
        case ast.Call(func=ast.Name(id=name), args=given, keywords=[]) if name in _FUNCTIONS:
            return _small(_FUNCTIONS[name](*(_value(each, depth + 1) for each in given)))
    raise ToolError(f"{_word(node)} is not arithmetic; there are {', '.join(sorted([*_FUNCTIONS, *_CONSTANTS]))}", "invalid")


def _word(node: ast.expr) -> str:
    return ast.unparse(node)[:60]


def _small(value: Any) -> Number:
    if isinstance(value, int):
        if value.bit_length() > MAX_BITS:
            raise ToolError("the result is too large", "invalid")
        return int(value)
    return _finite(value)


def _finite(value: Any) -> Number:
    if isinstance(value, complex):
        raise ToolError("the result is not a real number", "invalid")
    if isinstance(value, float) and not math.isfinite(value):
        raise ToolError("the result is not a finite number", "invalid")
    found: Number = value
    return found


def _multiply(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > MAX_BITS + 1:
        raise ToolError("the result is too large", "invalid")
    return left * right


def _divide(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int) and right and left % right == 0:
        return left // right
    return left / right


def _power(base: Number, exponent: Number) -> Number:
    whole = isinstance(base, int) and isinstance(exponent, int)
    if whole and abs(exponent) * (int(abs(base)).bit_length() - 1) > MAX_BITS:
        raise ToolError("the result is too large", "invalid")
    result: Number = base**exponent
    return result


def _round(number: Number, digits: Number = 0) -> Number:
    if not isinstance(digits, int) or abs(digits) > _DIGITS:
        raise ToolError(f"round takes a whole number of digits up to {_DIGITS}", "invalid")
    return round(number, digits) if digits else round(number)


def _factorial(number: Number) -> Number:
    if not isinstance(number, int) or not 0 <= number <= _MAX_FACTORIAL:
        raise ToolError(f"factorial takes a whole number from 0 to {_MAX_FACTORIAL}", "invalid")
    return math.factorial(number)


_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: _multiply, ast.Div: _divide, ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod, ast.Pow: _power,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "round": _round, "min": lambda *all_: min(all_), "max": lambda *all_: max(all_), "sum": lambda *all_: sum(all_),
    "sqrt": math.sqrt, "cbrt": math.cbrt, "exp": math.exp, "log": math.log, "ln": math.log, "log2": math.log2, "log10": math.log10,
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "asin": math.asin, "acos": math.acos, "atan": math.atan, "atan2": math.atan2,
    "degrees": math.degrees, "radians": math.radians, "floor": math.floor, "ceil": math.ceil, "trunc": math.trunc,
    "hypot": math.hypot, "gcd": math.gcd, "lcm": math.lcm, "factorial": _factorial,
}  # fmt: skip
