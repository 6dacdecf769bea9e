"""Block parameters and counters in a statement replaced by their values; spans stay those of the statement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from cnnc.frontend import ast, vocabulary
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.expressions import integer

# What a parameter or counter stands for.
Bound = int | ast.Real | ast.Activated
Bindings = Mapping[str, Bound]

# Settings that the grammar reads as integer expressions.
_INTEGERS = ("f", "s", "/", "dilation", "groups", "pad")


class BadValue(Exception):
    """A statement whose error is already noted."""


class Substitution:
    """Replaces names by what they are bound to, and says where a value is of the wrong kind."""

    def __init__(
        self, bindings: Bindings, diagnostics: Diagnostics, is_layer: Callable[[str], bool] = lambda _: False
    ) -> None:
        self.bindings = bindings
        self.diagnostics = diagnostics
        self.is_layer = is_layer  # whether a name is that of a layer, for messages

    # -- statements -------------------------------------------------------------------------------

    def layer(self, item: ast.Layer) -> ast.Layer:
        """A layer that reads no parameters any more.

        Raises:
            BadValue: after noting what is wrong.
        """
        keyword = item.keyword.text
        argument, options = item.argument, self.options(item.options, keyword)
        if keyword in ("dropout", "scale") or keyword in vocabulary.ACTIVATIONS:
            argument = self.real(argument) if isinstance(argument, ast.Name) else argument
            if argument is None and keyword in ("dropout", "scale"):
                argument, options = self._bare_number(options)
        elif isinstance(argument, ast.Tuple):
            argument = self._tuple(argument)
        elif argument is not None and not isinstance(argument, (ast.Real, ast.Dims, ast.Reference)):
            argument = self.expression(argument)
        return replace(item, argument=argument, options=options)

    def _bare_number(self, options: tuple[ast.Option, ...]) -> tuple[ast.Real | None, tuple[ast.Option, ...]]:
        """``dropout p``: the grammar takes a number, so the name of one comes as an unknown option."""
        for option in options:
            bound = self.bindings.get(option.name)
            if option.value is None and isinstance(bound, (int, ast.Real)):
                rest = tuple(other for other in options if other is not option)
                return ast.Real(_text(bound), option.span), rest
        return None, options

    def options(self, options: tuple[ast.Option, ...], takes: str) -> tuple[ast.Option, ...]:
        """Options of the statement or default line ``takes``."""
        return tuple(self._option(option, takes) for option in options)

    def _option(self, option: ast.Option, takes: str) -> ast.Option:
        value = option.value
        if value is None:
            bound = self.bindings.get(option.name)
            if option.known or not isinstance(bound, ast.Activated):
                return option
            known = takes in vocabulary.MERGES or vocabulary.takes_word(takes, bound.name, False)
            return ast.Option(bound.name, bound.argument, option.span, known)
        if isinstance(value, ast.Tuple):
            return replace(option, value=self._tuple(value))
        if isinstance(value, ast.Activated):
            return replace(option, value=self._activated(value))
        if isinstance(value, (ast.Real, ast.Dims, ast.Literal)):
            return option
        if isinstance(value, ast.Name) and option.name not in _INTEGERS:
            is_real = option.name == "rate" or option.name in vocabulary.ACTIVATIONS
            return replace(option, value=self.real(value) if is_real else self._leaf(value))
        return replace(option, value=self.expression(value))

    def _tuple(self, value: ast.Tuple) -> ast.Tuple:
        return replace(value, items=tuple(self.expression(item) for item in value.items))

    def _activated(self, value: ast.Activated) -> ast.Activated:
        if not isinstance(value.argument, ast.Name):
            return value
        return replace(value, argument=self.real(value.argument))

    # -- values -----------------------------------------------------------------------------------

    def expression(self, value: ast.Expression) -> ast.Expression:
        """An integer expression; unknown names stay for who evaluates it."""
        if isinstance(value, ast.Binary):
            return replace(value, left=self.expression(value.left), right=self.expression(value.right))
        if isinstance(value, ast.Negative):
            return replace(value, operand=self.expression(value.operand))
        if isinstance(value, ast.Integer):
            return value
        if value.text not in self.bindings:
            self._refuse_layer(value, "a number or an expression such as 2^6 goes here")
            return value
        bound = self.bindings[value.text]
        if not isinstance(bound, int):
            shown = f"the activation `{bound.name}`" if isinstance(bound, ast.Activated) else bound.text
            self.diagnostics.add(value.span, f"an integer goes here, and `{value.text}` is {shown}")
            raise BadValue
        return _integer(bound, value)

    def _refuse_layer(self, value: ast.Name, hint: str) -> None:
        """A layer's name where a number goes."""
        if self.is_layer(value.text):
            self.diagnostics.add(value.span, f"`{value.text}` is a layer", hint)
            raise BadValue

    def _leaf(self, value: ast.Name) -> ast.Expression | ast.Real | ast.Activated:
        """A name that may stand for any kind of value, or be a word of the option's own."""
        bound = self.bindings.get(value.text, value)
        if isinstance(bound, int):
            return _integer(bound, value)
        return bound if isinstance(bound, ast.Name) else replace(bound, span=value.span)

    def real(self, value: ast.Real | ast.Name) -> ast.Real:
        """A real number, or the name of one.

        Raises:
            BadValue: after noting what is wrong.
        """
        if isinstance(value, ast.Real):
            return value
        bound = self.bindings.get(value.text)
        if bound is None:
            self._refuse_layer(value, "a number goes here")
        if bound is None or isinstance(bound, ast.Activated):
            why = f"`{value.text}` is an activation" if bound else f"unknown name `{value.text}`"
            self.diagnostics.add(value.span, why, "a number goes here")
            raise BadValue
        return ast.Real(_text(bound), value.span)

    def evaluate(self, value: ast.Value) -> Bound:
        """The value of an argument or of a parameter's default.

        Raises:
            BadValue: after noting what is wrong.
        """
        if isinstance(value, ast.Real):
            return value
        if isinstance(value, ast.Activated):
            return self._activated(value)
        if isinstance(value, ast.Name):
            if value.text in self.bindings:
                return self.bindings[value.text]
            self._refuse_layer(value, "parameters are integers, reals and activations")
        return self.integer(value)

    def integer(self, value: ast.Expression, least: int | None = None, what: str = "it") -> int:
        """The value of an integer expression.

        Raises:
            BadValue: after noting what is wrong.
        """
        found = integer(self.expression(value), self.diagnostics, least, what)
        if found is None:
            raise BadValue
        return found


def shown(bound: Bound) -> str:
    """A bound value as messages and calls write it."""
    if isinstance(bound, ast.Activated):
        return bound.name + (f"({bound.argument.text})" if bound.argument else "")
    return _text(bound)


def _text(bound: int | ast.Real) -> str:
    return str(bound) if isinstance(bound, int) else bound.text


def _integer(bound: int, at: ast.Name) -> ast.Expression:
    if bound < 0:
        return ast.Negative(ast.Integer(str(-bound), at.span), at.span, 1)
    return ast.Integer(str(bound), at.span)
