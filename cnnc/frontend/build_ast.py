"""lark's tree to our syntax tree. Expressions can be long chains, so nothing here recurses over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Union, cast

import lark

from cnnc.frontend import ast, vocabulary
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.source import Source, Span

# Deeper expressions are refused, so that later stages may recurse over what remains.
MAX_DEPTH = 60

Child = Union[lark.Token, "lark.Tree[lark.Token]"]
_EXPRESSIONS = ("integer", "name", "add", "multiply", "power", "negative")


class BuildAst:
    """One conversion; notes what the grammar can't: too deep expressions, keywords as labels."""

    def __init__(self, source: Source, diagnostics: Diagnostics) -> None:
        self.source = source
        self.diagnostics = diagnostics

    def program(self, tree: lark.Tree[lark.Token]) -> ast.Program:
        items = [self._item(child) for child in _children(tree) if isinstance(child, lark.Tree)]
        return ast.Program(tuple(items), self.source)

    # -- items ------------------------------------------------------------------------------------

    def _item(self, tree: lark.Tree[lark.Token]) -> ast.Item:
        builders: dict[str, Callable[[lark.Tree[lark.Token]], ast.Item]] = {
            "model": self._model,
            "input": self._input,
            "default": self._default,
            "order": self._order,
            "widths": self._widths,
            "classes": self._classes,
            "statement": self._statement,
            "train": self._train,
            "error": self._broken,
        }
        return builders[tree.data](tree)

    def _model(self, tree: lark.Tree[lark.Token]) -> ast.ModelName:
        return ast.ModelName(str(_token(tree, 1)), self._span(tree))

    def _input(self, tree: lark.Tree[lark.Token]) -> ast.InputShape:
        return ast.InputShape(self._dims(_token(tree, 1)), self._span(tree))

    def _default(self, tree: lark.Tree[lark.Token]) -> ast.Default:
        kind, _, *parts = _children(tree)
        options = tuple(option for part in parts if isinstance(part, lark.Tree) for option in self._options(part))
        return ast.Default(self._name(kind), options, self._span(tree))

    def _order(self, tree: lark.Tree[lark.Token]) -> ast.Order:
        return ast.Order(tuple(self._name(word) for word in _children(tree)[2:]), self._span(tree))

    def _widths(self, tree: lark.Tree[lark.Token]) -> ast.Widths:
        return ast.Widths(tuple(self._number(entry) for entry in _children(tree)[2:]), self._span(tree))

    def _classes(self, tree: lark.Tree[lark.Token]) -> ast.Classes:
        return ast.Classes(self._expression(_children(tree)[2]), self._span(tree))

    def _broken(self, tree: lark.Tree[lark.Token]) -> ast.Broken:
        mark = _token(tree, 0)
        start, end = mark.start_pos or 0, mark.end_pos or 0
        return ast.Broken(str(mark), Span(self.source, start, end))

    def _statement(self, tree: lark.Tree[lark.Token]) -> ast.Layer:
        label: ast.Name | None = None
        assertion: ast.Dims | None = None
        keyword: ast.Name | None = None
        argument: ast.Expression | ast.Real | None = None
        options: list[ast.Option] = []
        for part in _trees(tree):
            if part.data == "label":
                label = self._label(_token(part, 0))
            elif part.data == "assertion":
                assertion = self._dims(_token(part, 1))
            else:
                keyword = self._name(_children(part)[0])
                argument, options = self._arguments(_children(part)[1:])
        assert keyword is not None
        return ast.Layer(label, keyword, argument, tuple(options), assertion, self._span(tree))

    def _arguments(self, parts: list[Child]) -> tuple[ast.Expression | ast.Real | None, list[ast.Option]]:
        argument: ast.Expression | ast.Real | None = None
        options: list[ast.Option] = []
        for part in parts:
            assert isinstance(part, lark.Tree)
            if part.data in _EXPRESSIONS:
                argument = self._expression(part)
            elif part.data == "rate":
                argument = self._real(_trees(part)[0])
            else:
                options.extend(self._options(part))
        return argument, options

    def _train(self, tree: lark.Tree[lark.Token]) -> ast.Train:
        settings = [self._setting(part) for part in _trees(tree)]
        return ast.Train(tuple(settings), self._span(tree))

    def _setting(self, tree: lark.Tree[lark.Token]) -> ast.Setting | ast.Broken:
        if tree.data == "error":
            return self._broken(tree)
        keyword, value, *parts = _children(tree)
        options = tuple(option for part in parts if isinstance(part, lark.Tree) for option in self._options(part))
        found = self._expression(value) if isinstance(value, lark.Tree) else self._name(value)
        return ast.Setting(self._name(keyword), found, options, self._span(tree))

    # -- options ----------------------------------------------------------------------------------

    def _options(self, tree: lark.Tree[lark.Token]) -> list[ast.Option]:
        if tree.data == "size":
            return self._size(tree)
        if tree.data == "rate":
            return [ast.Option("rate", self._real(_trees(tree)[0]), self._span(tree))]
        name, *rest = _children(tree)
        value: ast.OptionValue = None
        for child in rest:
            if isinstance(child, lark.Tree):
                value = self._real(child) if child.data == "real" else self._number(child)
            elif child.type == "REAL":
                value = ast.Real(str(child), self._token_span(child))
            elif child != "=":
                value = self._name(child)
        return [ast.Option(str(name), value, self._span(tree), known=tree.data != "unknown")]

    def _size(self, tree: lark.Tree[lark.Token]) -> list[ast.Option]:
        """``3x3/2`` becomes two options, so that each can be set and blamed alone."""
        dims, *rest = _children(tree)
        found = self._dims(cast(lark.Token, dims))
        options = [ast.Option("size", found, found.span)]
        if rest:
            stride = self._number(rest[0])
            options.append(ast.Option("/", stride, stride.span))
        return options

    # -- leaves and expressions -------------------------------------------------------------------

    def _label(self, token: lark.Token) -> ast.Name:
        if token in vocabulary.KEYWORDS and len(token) > 1:
            self.diagnostics.add(self._token_span(token), f"`{token}` is a keyword and can't be a label")
        return self._name(token)

    def _number(self, child: Child) -> ast.Expression | ast.Tuple:
        if isinstance(child, lark.Tree) and child.data in ("tuple", "pair"):
            return ast.Tuple(tuple(self._expression(item) for item in _children(child)), self._span(child))
        return self._expression(child)

    def _expression(self, child: Child) -> ast.Expression:
        assert isinstance(child, lark.Tree)
        done: dict[int, ast.Expression] = {}
        for tree in child.iter_subtrees():
            done[id(tree)] = self._combine(tree, done)
        found = done[id(child)]
        if found.depth > MAX_DEPTH:
            self.diagnostics.add(found.span, f"expression with more than {MAX_DEPTH} nested operators")
            return ast.Name("", found.span)
        return found

    def _combine(self, tree: lark.Tree[lark.Token], done: dict[int, ast.Expression]) -> ast.Expression:
        """One node from its finished operands."""
        span = self._span(tree)
        if tree.data == "integer":
            return ast.Integer(str(_token(tree, 0)), span)
        if tree.data == "name":
            return ast.Name(str(_token(tree, 0)), span)
        operands = [done[id(operand)] for operand in _trees(tree)]
        depth = 1 + max(operand.depth for operand in operands)
        if tree.data == "negative":
            return ast.Negative(operands[0], span, depth)
        return ast.Binary(str(_token(tree, 1)), operands[0], operands[1], span, depth)

    def _real(self, tree: lark.Tree[lark.Token]) -> ast.Real:
        return ast.Real("".join(str(token) for token in _children(tree)), self._span(tree))

    def _dims(self, token: lark.Token) -> ast.Dims:
        return ast.Dims(tuple(str(token).split("x")), self._token_span(token))

    def _name(self, child: Child) -> ast.Name:
        assert isinstance(child, lark.Token)
        return ast.Name(str(child), self._token_span(child))

    def _span(self, tree: lark.Tree[Any]) -> Span:
        return Span(self.source, tree.meta.start_pos, tree.meta.end_pos)

    def _token_span(self, token: lark.Token) -> Span:
        return Span(self.source, token.start_pos or 0, token.end_pos or 0)


def _children(tree: lark.Tree[lark.Token]) -> list[Child]:
    return cast("list[Child]", tree.children)


def _trees(tree: lark.Tree[lark.Token]) -> list[lark.Tree[lark.Token]]:
    return [child for child in tree.children if isinstance(child, lark.Tree)]


def _token(tree: lark.Tree[lark.Token], index: int) -> lark.Token:
    token = tree.children[index]
    assert isinstance(token, lark.Token)
    return token
