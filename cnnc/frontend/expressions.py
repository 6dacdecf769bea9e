"""Integer expressions with bounded values: every step is checked, so that no number gets huge."""

from __future__ import annotations

from cnnc.frontend import ast, vocabulary
from cnnc.frontend.diagnostics import Diagnostics

LARGEST = 2**31 - 1
_LARGEST_DIGITS = len(str(LARGEST))


class _Failure(Exception):
    """Already noted; unwinds one expression."""


def integer(
    expression: ast.Expression, diagnostics: Diagnostics, least: int | None = None, what: str = "it"
) -> int | None:
    """The value of an expression, or None after noting why it has none.

    ``least`` is the smallest value allowed for ``what``.
    """
    try:
        value = _value(expression, diagnostics)
    except _Failure:
        return None
    if least is not None and value < least:
        diagnostics.add(expression.span, f"{what} must be at least {least}, not {value}")
        return None
    return value


def _value(expression: ast.Expression, diagnostics: Diagnostics) -> int:
    """Recursion is bounded: the parser refuses deep expressions."""
    if isinstance(expression, ast.Integer):
        return _literal(expression, diagnostics)
    if isinstance(expression, ast.Name):
        return _unknown_name(expression, diagnostics)
    if isinstance(expression, ast.Negative):
        return -_value(expression.operand, diagnostics)
    left = _value(expression.left, diagnostics)
    right = _value(expression.right, diagnostics)
    return _apply(expression, left, right, diagnostics)


def literal(digits: str) -> int | None:
    """The value of a run of digits, None if it is out of range."""
    digits = digits.lstrip("0") or "0"
    if len(digits) > _LARGEST_DIGITS or int(digits) > LARGEST:
        return None
    return int(digits)


def _literal(expression: ast.Integer, diagnostics: Diagnostics) -> int:
    value = literal(expression.text)
    if value is None:
        diagnostics.add(expression.span, f"number larger than {LARGEST}")
        raise _Failure
    return value


def _unknown_name(expression: ast.Name, diagnostics: Diagnostics) -> int:
    name = expression.text
    if name in vocabulary.KEYWORDS:
        diagnostics.add(expression.span, f"expected a number, not the keyword `{name}`")
    elif name:  # an empty name stands for an expression that was refused before
        diagnostics.add(expression.span, f"unknown name `{name}`", "a number or an expression such as 2^6 goes here")
    raise _Failure


def _apply(expression: ast.Binary, left: int, right: int, diagnostics: Diagnostics) -> int:
    operator = expression.operator
    if operator == "/":
        if right == 0 or left % right:
            why = "a division by zero" if right == 0 else "not a whole number"
            diagnostics.add(expression.span, f"{left}/{right} is {why}")
            raise _Failure
        return left // right
    if operator == "^":
        return _bounded(_power(left, right, expression, diagnostics), expression, diagnostics)
    value = {"+": left + right, "-": left - right, "*": left * right}[operator]
    return _bounded(value, expression, diagnostics)


def _power(base: int, exponent: int, expression: ast.Binary, diagnostics: Diagnostics) -> int:
    if exponent < 0:
        diagnostics.add(expression.right.span, f"negative exponent {exponent}")
        raise _Failure
    if abs(base) > 1 and exponent > LARGEST.bit_length():
        return LARGEST + 1  # out of range, however large; computing it could take forever
    if abs(base) <= 1:
        exponent = 2 - exponent % 2 if exponent else 0  # only zero and parity matter
    return int(base**exponent)


def _bounded(value: int, expression: ast.Binary, diagnostics: Diagnostics) -> int:
    if abs(value) > LARGEST:
        diagnostics.add(expression.span, f"number larger than {LARGEST}")
        raise _Failure
    return value


def pair(value: ast.OptionValue, diagnostics: Diagnostics, least: int, what: str) -> tuple[int, int] | None:
    """``2`` or ``(1,2)`` as height and width; None after noting an error."""
    if isinstance(value, ast.Tuple):
        found = [integer(item, diagnostics, least, what) for item in value.items]
        return None if None in found else (found[0], found[1])  # type: ignore[return-value]  # no None is left
    if isinstance(value, (ast.Integer, ast.Name, ast.Binary, ast.Negative)):
        one = integer(value, diagnostics, least, what)
        return None if one is None else (one, one)
    raise AssertionError("the grammar gives an expression or a pair here")


def dims(value: ast.Dims, diagnostics: Diagnostics, what: str) -> tuple[int, ...] | None:
    """A literal shape or size, every extent at least 1 (no shape has more than 8); None after noting an error."""
    found: list[int] = []
    for text in value.extents[:8]:
        extent = literal(text)
        if not extent:
            why = "zero" if extent == 0 else f"larger than {LARGEST}"
            diagnostics.add(value.span, f"{what} with an extent that is {why}")
            return None
        found.append(extent)
    return tuple(found)


def real(value: ast.Real) -> float:
    """The value of a real number as written; ``inf`` if it is out of range."""
    return float(value.text)
