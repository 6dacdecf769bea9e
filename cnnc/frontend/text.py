"""Syntax tree back to text, one item at a time, in one way of writing."""

from __future__ import annotations

from collections.abc import Sequence

from cnnc.frontend import ast, vocabulary
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
    if isinstance(value, (ast.Real, ast.Reference)):
        return value.text
    if isinstance(value, ast.Literal):
        return literal_text(value)
    if isinstance(value, ast.Activated):
        return value.name + (f"({value.argument.text})" if value.argument else "")
    assert value is not None
    return expression_text(value, least)


def literal_text(value: ast.Literal) -> str:
    """A literal on one line."""
    divisor = f"/{expression_text(value.divisor, _ATOM)}" if value.divisor else ""
    return "[" + " | ".join(" ".join(row) for row in value.rows) + "]" + divisor


def option_words(options: Sequence[ast.Option]) -> list[str]:
    """Options as words; a size and the stride behind it are one."""
    words: list[str] = []
    for option in options:
        if option.name == "/":
            words[-1] += f"/{value_text(option.value, _ATOM)}"
        elif option.name in ("size", "rate"):
            words.append(value_text(option.value))
        elif option.value is None:
            words.append(option.name)
        elif option.name in vocabulary.ACTIVATIONS:
            words.append(f"{option.name}({value_text(option.value)})")
        else:
            words.append(f"{option.name}={value_text(option.value)}")
    return words


# -- items ----------------------------------------------------------------------------------------


def item_line(item: ast.Item | ast.Setting) -> Line:
    """One item on one line; statements have columns, all else stands at the margin."""
    if isinstance(item, ast.Statement):
        label = f"{item.label.text}:" if item.label else ""
        return Line(label, statement_text(item), assertion_text(item))
    return Line(body=_margin_text(item), free=True)


def inline(item: ast.Item | ast.Setting) -> str:
    """An item as part of a line."""
    line = item_line(item)
    return " ".join(part for part in (line.label, line.body, line.assertion) if part)


def assertion_text(item: ast.Statement) -> str:
    return f"=> {value_text(item.assertion)}" if item.assertion else ""


def statement_text(item: ast.Statement) -> str:
    """A statement without its label and assertion."""
    if isinstance(item, ast.Layer):
        return " ".join([_layer_text(item), *option_words(item.options), *times_words(item)])
    if isinstance(item, ast.Call):
        return " ".join([f"{item.name.text}({_arguments(item.arguments)})", *times_words(item)])
    if isinstance(item, ast.Merge) and item.operands:
        return f"{item.keyword.text}({', '.join(map(_operand, item.operands))})" + tail_text(item)
    if isinstance(item, ast.Merge):
        return f"{item.keyword.text} {{ {' '.join(map(_arm, item.arms))} }}" + tail_text(item)
    return f"{head_text(item)} {_braces(item.body)}" + tail_text(item)


def head_text(item: ast.Merge | ast.Repeat | ast.Head | ast.Block) -> str:
    """What stands before the opening brace."""
    if isinstance(item, ast.Merge):
        return item.keyword.text
    if isinstance(item, ast.Repeat):
        if item.count is not None:
            return f"repeat {expression_text(item.count)}"
        assert item.counter is not None and item.low is not None and item.high is not None
        return f"repeat {item.counter.text}={expression_text(item.low)}..{expression_text(item.high)}"
    if isinstance(item, ast.Head):
        return f"head {item.name.text}" + (f" loss={item.weight.text}" if item.weight else "")
    parameters = [_argument(parameter.name, parameter.default) for parameter in item.parameters]
    return f"block {item.name.text}" + (f"({', '.join(parameters)})" if parameters else "")


def tail_text(item: ast.Merge | ast.Repeat) -> str:
    """What stands behind the closing brace, but for the assertion."""
    words = [*(option_words(item.options) if isinstance(item, ast.Merge) else ()), *times_words(item)]
    return "".join(f" {word}" for word in words)


def times_words(item: ast.Statement) -> list[str]:
    if item.times is None:
        return []
    modifiers = [f"{each.which.text}({_arguments(each.arguments)})" for each in item.times.modifiers]
    return [f"x{item.times.count.text}", *modifiers]


def factor_text(part: ast.Arm | ast.Operand) -> str:
    return f"{part.factor.text} * " if part.factor else ""


def _layer_text(item: ast.Layer) -> str:
    keyword, argument = item.keyword.text, item.argument
    if argument is None:
        return keyword
    if keyword in vocabulary.ACTIVATIONS or keyword == "linear":
        return f"{keyword}({value_text(argument)})"
    like = "like " if isinstance(argument, ast.Reference) else ""
    return f"{keyword} {like}{value_text(argument)}"


def _operand(operand: ast.Operand) -> str:
    return factor_text(operand) + operand.source.text


def _arm(arm: ast.Arm) -> str:
    return f"| {factor_text(arm)}{'; '.join(map(inline, arm.body))}"


def _arguments(arguments: Sequence[ast.Argument]) -> str:
    return ", ".join(_argument(argument.name, argument.value) for argument in arguments)


def _argument(name: ast.Name | None, value: ast.Value | None) -> str:
    return "=".join([*([name.text] if name else []), *([value_text(value)] if value is not None else [])])


def _braces(body: Sequence[ast.Inner]) -> str:
    return f"{{ {'; '.join(map(inline, body))} }}" if body else "{ }"


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
    if isinstance(item, ast.Use):
        return f'use "{item.path}"'
    if isinstance(item, ast.From):
        return f"from {item.source.text}"
    if isinstance(item, (ast.Block, ast.Head)):
        return f"{head_text(item)} {_braces(item.body)}"
    assert isinstance(item, ast.Setting), "a train block has several lines, and a broken item no text"
    return " ".join([item.keyword.text, value_text(item.value), *option_words(item.options)])
