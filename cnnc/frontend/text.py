"""Syntax tree back to text, one item at a time, in one way of writing."""

from __future__ import annotations

from collections.abc import Sequence

from cnnc.frontend import ast
from cnnc.frontend.table import Line

_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "^": 3}
_ATOM = 4


def expression_text(expression: ast.Expression, least: int = 1) -> str:
    """An expression with no more parentheses than it needs where ``least`` is the weakest operator allowed."""
    if isinstance(expression, (ast.Integer, ast.Name)):
        return expression.text
    if isinstance(expression, ast.Negative):
        own, text = 1, f"-{expression_text(expression.operand, 2)}"
    else:
        own = _PRECEDENCE[expression.operator]
        # `^` groups to the right, the others to the left.
        left, right = (own + 1, own) if expression.operator == "^" else (own, own + 1)
        text = expression_text(expression.left, left) + expression.operator + expression_text(expression.right, right)
    return text if own >= least else f"({text})"


def value_text(value: ast.OptionValue | ast.LayerArgument, least: int = 1) -> str:
    if isinstance(value, ast.Tuple):
        return "(" + ",".join(expression_text(item) for item in value.items) + ")"
    if isinstance(value, ast.Dims):
        return "x".join(value.extents)
    if isinstance(value, ast.Real):
        return value.text
    assert not isinstance(value, (ast.Literal, ast.Activated, ast.Reference, type(None)))
    return expression_text(value, least)


def option_words(options: Sequence[ast.Option]) -> list[str]:
    """Options as words; a size and the stride behind it are one."""
    words: list[str] = []
    for option in options:
        if option.name == "/":
            words[-1] += f"/{value_text(option.value, _ATOM)}"
        elif option.name in ("size", "rate"):
            words.append(value_text(option.value))
        else:
            words.append(option.name if option.value is None else f"{option.name}={value_text(option.value)}")
    return words


def item_line(item: ast.Item | ast.Setting) -> Line:
    """One item on one line; layers have columns, all else stands at the margin."""
    if isinstance(item, ast.Layer):
        return _layer_line(item)
    return Line(body=_margin_text(item), free=True)


def _layer_line(item: ast.Layer) -> Line:
    words = [item.keyword.text]
    if item.argument is not None:
        words.append(value_text(item.argument))
    words += option_words(item.options)
    label = f"{item.label.text}:" if item.label else ""
    assertion = f"=> {value_text(item.assertion)}" if item.assertion else ""
    return Line(label, " ".join(words), assertion)


def _margin_text(item: ast.Item | ast.Setting) -> str:
    if isinstance(item, ast.ModelName):
        return f"model {item.name}"
    if isinstance(item, ast.InputShape):
        return f"input {value_text(item.dims)}"
    if isinstance(item, ast.Default):
        return f"{item.kind.text}: {', '.join(option_words(item.options))}"
    if isinstance(item, ast.Order):
        return "Order: " + " ".join(word.text for word in item.words)
    if isinstance(item, ast.Widths):
        return "Nf: " + " ".join(value_text(entry, 2) for entry in item.entries)
    if isinstance(item, ast.Classes):
        return f"classes: {expression_text(item.count)}"
    assert isinstance(item, ast.Setting), "a train block has several lines, and a broken item no text"
    return " ".join([item.keyword.text, value_text(item.value), *option_words(item.options)])
