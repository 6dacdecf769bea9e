"""lark's tree to the leaves of our syntax tree. Expressions can be long chains, so nothing here recurses over them."""

from __future__ import annotations

from typing import Any, TypeAlias, Union, cast

import lark

from cnnc.frontend import ast, vocabulary
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.source import Source, Span

# Deeper expressions are refused, so that later stages may recurse over what remains.
MAX_DEPTH = 60

Tree: TypeAlias = "lark.Tree[lark.Token]"
Child = Union[lark.Token, "lark.Tree[lark.Token]"]
EXPRESSIONS = ("integer", "name", "add", "multiply", "power", "negative")


class BuildValues:
    """Numbers, expressions and options; notes too deep expressions."""

    def __init__(self, source: Source, diagnostics: Diagnostics) -> None:
        self.source = source
        self.diagnostics = diagnostics

    # -- options ----------------------------------------------------------------------------------

    def options(self, tree: Tree, takes: str) -> list[ast.Option]:
        """The options that one part of a statement gives; ``takes`` is the statement's keyword."""
        if tree.data == "size":
            return self._size(tree)
        if tree.data in ("number", "name"):
            return [ast.Option("rate", self.real(tree), self.span(tree))]
        if tree.data == "activation":
            found = self.activated(tree)
            return [ast.Option(found.name, found.argument, found.span)]
        name, *rest = children(tree)
        value: ast.OptionValue = None
        for child in rest:
            if isinstance(child, lark.Tree):
                value = self._option_value(child)
            elif child.type == "DIMS":
                value = self.dims(child)
            elif child != "=":
                value = self.name(child)
        known = tree.data != "unknown" or vocabulary.takes_word(takes, str(name), value is not None)
        return [ast.Option(str(name), value, self.span(tree), known)]

    def _size(self, tree: Tree) -> list[ast.Option]:
        """``3x3/2`` becomes two options, so that each can be set and blamed alone."""
        size, *rest = children(tree)
        found = self.dims(cast(lark.Token, size))
        options = [ast.Option("size", found, found.span)]
        if rest:
            stride = self.extent(rest[0])
            options.append(ast.Option("/", stride, stride.span))
        return options

    def _option_value(self, tree: Tree) -> ast.OptionValue:
        if tree.data == "literal":
            return self._literal(tree)
        if tree.data in ("fraction", "activation", "number"):
            return self.value(tree)
        return self.extent(tree)

    def _literal(self, tree: Tree) -> ast.Literal:
        rows: list[list[str]] = [[]]
        divisor: ast.Expression | None = None
        for child in children(tree)[1:]:
            if isinstance(child, lark.Tree):
                if child.data == "number":
                    rows[-1].append(self.real(child).text)
                else:
                    divisor = self.expression(child)
            elif child.type == "BITS":
                rows[-1].append(str(child))
            elif child == "|":
                rows.append([])
        return ast.Literal(tuple(map(tuple, rows)), divisor, self.span(tree))

    # -- leaves and expressions -------------------------------------------------------------------

    def value(self, tree: Tree) -> ast.Value:
        """An argument of a call, a parameter's default, the value of a setting."""
        if tree.data == "activation":
            return self.activated(tree)
        if tree.data in ("fraction", "number"):
            return ast.Real("".join(str(token) for token in children(tree)), self.span(tree))
        return self.expression(tree)

    def activated(self, tree: Tree) -> ast.Activated:
        argument = next((self.real(part) for part in trees(tree)), None)
        return ast.Activated(str(token_of(tree, 0)), argument, self.span(tree))

    def real(self, tree: Tree) -> ast.Real | ast.Name:
        """A number, or the name of one."""
        if tree.data == "name":
            return ast.Name(str(token_of(tree, 0)), self.span(tree))
        return ast.Real("".join(str(token) for token in children(tree)), self.span(tree))

    def extent(self, child: Child) -> ast.Expression | ast.Tuple:
        if isinstance(child, lark.Tree) and child.data in ("tuple", "pair"):
            return ast.Tuple(tuple(self.expression(item) for item in children(child)), self.span(child))
        return self.expression(child)

    def expression(self, child: Child) -> ast.Expression:
        assert isinstance(child, lark.Tree)
        done: dict[int, ast.Expression] = {}
        for tree in child.iter_subtrees():
            done[id(tree)] = self._combine(tree, done)
        found = done[id(child)]
        if found.depth > MAX_DEPTH:
            self.diagnostics.add(found.span, f"expression with more than {MAX_DEPTH} nested operators")
            return ast.Name("", found.span)
        return found

    def _combine(self, tree: Tree, done: dict[int, ast.Expression]) -> ast.Expression:
        """One node from its finished operands."""
        span = self.span(tree)
        if tree.data == "integer":
            return ast.Integer(str(token_of(tree, 0)), span)
        if tree.data == "name":
            return ast.Name(str(token_of(tree, 0)), span)
        operands = [done[id(operand)] for operand in trees(tree)]
        depth = 1 + max(operand.depth for operand in operands)
        if tree.data == "negative":
            return ast.Negative(operands[0], span, depth)
        return ast.Binary(str(token_of(tree, 1)), operands[0], operands[1], span, depth)

    def dims(self, token: lark.Token) -> ast.Dims:
        return ast.Dims(tuple(str(token).split("x")), self.token_span(token))

    def name(self, child: Child) -> ast.Name:
        assert isinstance(child, lark.Token)
        return ast.Name(str(child), self.token_span(child))

    def span(self, tree: lark.Tree[Any]) -> Span:
        return Span(self.source, tree.meta.start_pos, tree.meta.end_pos)

    def token_span(self, token: lark.Token) -> Span:
        return Span(self.source, token.start_pos or 0, token.end_pos or 0)


def children(tree: Tree) -> list[Child]:
    return cast("list[Child]", tree.children)


def trees(tree: Tree) -> list[Tree]:
    return [child for child in tree.children if isinstance(child, lark.Tree)]


def token_of(tree: Tree, index: int) -> lark.Token:
    token = tree.children[index]
    assert isinstance(token, lark.Token)
    return token
