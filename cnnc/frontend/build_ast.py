"""lark's tree to our syntax tree: items, statements, blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import lark

from cnnc.frontend import ast, vocabulary
from cnnc.frontend.build_values import EXPRESSIONS, BuildValues, Child, Tree, children, token_of, trees
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.source import Source, Span


class BuildAst:
    """One conversion; notes what the grammar can't: keywords as labels."""

    def __init__(self, source: Source, diagnostics: Diagnostics) -> None:
        self.source = source
        self.diagnostics = diagnostics
        self.values = BuildValues(source, diagnostics)

    def program(self, tree: Tree) -> ast.Program:
        return ast.Program(tuple(self._item(child) for child in trees(tree)), self.source)

    # -- items ------------------------------------------------------------------------------------

    def _item(self, tree: Tree) -> ast.Item:
        builders: dict[str, Callable[[Tree], ast.Item]] = {
            "model": self._model,
            "input": self._input,
            "order": self._order,
            "widths": self._widths,
            "classes": self._classes,
            "use": self._use,
            "block": self._block,
            "train": self._train,
        }
        return builders[tree.data](tree) if tree.data in builders else self._inner(tree)

    def _inner(self, tree: Tree) -> ast.Inner:
        if tree.data == "statement":
            return self._statement(tree)
        if tree.data == "default":
            return self._default(tree)
        if tree.data == "from":
            return ast.From(self._reference(token_of(tree, 1)), self._span(tree))
        return self._head(tree) if tree.data == "head" else self._broken(tree)

    def _body(self, parts: Iterable[Tree]) -> tuple[ast.Inner, ...]:
        return tuple(self._inner(part) for part in parts)

    def _model(self, tree: Tree) -> ast.ModelName:
        return ast.ModelName(str(token_of(tree, 1)), self._span(tree))

    def _input(self, tree: Tree) -> ast.InputShape:
        return ast.InputShape(self.values.dims(token_of(tree, 1)), self._span(tree))

    def _default(self, tree: Tree) -> ast.Default:
        kind = token_of(tree, 0)
        takes = vocabulary.head_of_default(kind)
        options = tuple(option for part in trees(tree) for option in self.values.options(part, takes))
        return ast.Default(self.values.name(kind), options, self._span(tree))

    def _order(self, tree: Tree) -> ast.Order:
        return ast.Order(tuple(self.values.name(word) for word in children(tree)[2:]), self._span(tree))

    def _widths(self, tree: Tree) -> ast.Widths:
        return ast.Widths(tuple(self.values.extent(entry) for entry in trees(tree)), self._span(tree))

    def _classes(self, tree: Tree) -> ast.Classes:
        return ast.Classes(self.values.expression(children(tree)[2]), self._span(tree))

    def _use(self, tree: Tree) -> ast.Use:
        return ast.Use(str(token_of(tree, 1))[1:-1], self._span(tree))

    def _broken(self, tree: Tree) -> ast.Broken:
        mark = token_of(tree, 0)
        return ast.Broken(str(mark), Span(self.source, mark.start_pos or 0, mark.end_pos or 0))

    def _block(self, tree: Tree) -> ast.Block:
        parameters: list[ast.Parameter] = []
        for part in trees(tree)[:-1]:
            default = next((self.values.value(value) for value in trees(part)), None)
            name = self._no_keyword(self.values.name(token_of(part, 0)), "a parameter")
            parameters.append(ast.Parameter(name, default, self._span(part)))
        body = self._body(trees(trees(tree)[-1]))
        name = self._no_keyword(self.values.name(token_of(tree, 1)), "a block")
        return ast.Block(name, tuple(parameters), body, self._span(tree))

    def _head(self, tree: Tree) -> ast.Head:
        *weight, body = trees(tree)
        name = self._no_keyword(self.values.name(token_of(tree, 1)), "a head")
        found = self.values.real(weight[0]) if weight else None
        return ast.Head(name, found, self._body(trees(body)), self._span(tree))

    # -- statements -------------------------------------------------------------------------------

    def _statement(self, tree: Tree) -> ast.Statement:
        label: ast.Reference | None = None
        times: ast.Times | None = None
        assertion: ast.Dims | None = None
        core: Tree | None = None
        for part in trees(tree):
            if part.data == "label":
                label = self._label(token_of(part, 0))
            elif part.data == "times":
                times = self._times(part)
            elif part.data == "assertion":
                assertion = self.values.dims(token_of(part, 1))
            else:
                core = part
        assert core is not None
        span = self._span(tree)
        if core.data == "call":
            name, arguments = self.values.name(token_of(core, 0)), self._arguments(trees(core))
            return ast.Call(label, name, arguments, times, assertion, span)
        if core.data == "repeat":
            return self._repeat(core, label, times, assertion, span)
        if core.data == "merge":
            return self._merge(core, label, times, assertion, span)
        keyword, argument, options = self._layer(core)
        return ast.Layer(label, keyword, argument, tuple(options), times, assertion, span)

    def _layer(self, tree: Tree) -> tuple[ast.Name, ast.LayerArgument, list[ast.Option]]:
        if tree.data == "standalone":
            # The activation is the keyword; what its parentheses hold is the argument.
            found = self.values.activated(trees(tree)[0])
            keyword = ast.Name(found.name, self.values.token_span(token_of(trees(tree)[0], 0)))
            return keyword, found.argument, self._options(trees(tree)[1:], found.name)
        keyword = self.values.name(children(tree)[0])
        argument: ast.LayerArgument = None
        options: list[ast.Option] = []
        for part in children(tree)[1:]:
            if isinstance(part, lark.Tree):
                if part.data in (*EXPRESSIONS, "number", "pair", "tuple"):
                    argument = self.values.real(part) if part.data == "number" else self.values.extent(part)
                else:
                    options.extend(self.values.options(part, keyword.text))
            elif part.type == "DIMS":
                argument = self.values.dims(part)
            elif part != "like":
                argument = self._reference(part)
        return keyword, argument, options

    def _options(self, parts: Iterable[Tree], takes: str) -> list[ast.Option]:
        return [option for part in parts for option in self.values.options(part, takes)]

    def _merge(
        self,
        tree: Tree,
        label: ast.Reference | None,
        times: ast.Times | None,
        assertion: ast.Dims | None,
        span: Span,
    ) -> ast.Merge:
        keyword = self.values.name(children(tree)[0])
        arms: list[ast.Arm] = []
        operands: list[ast.Operand] = []
        options: list[ast.Option] = []
        for part in trees(tree):
            if part.data == "arms":
                arms = [self._arm(arm) for arm in trees(part)]
            elif part.data == "operand":
                source = self._reference(next(c for c in children(part) if isinstance(c, lark.Token)))
                operands.append(ast.Operand(self._factor(part), source, self._span(part)))
            else:
                options.extend(self.values.options(part, keyword.text))
        return ast.Merge(label, keyword, tuple(arms), tuple(operands), tuple(options), times, assertion, span)

    def _arm(self, tree: Tree) -> ast.Arm:
        body = self._body(part for part in trees(tree) if part.data != "factor")
        return ast.Arm(self._factor(tree), body, self._span(tree))

    def _factor(self, tree: Tree) -> ast.Real | ast.Name | None:
        found = next((part for part in trees(tree) if part.data == "factor"), None)
        if found is None:
            return None
        *sign, number, star = (token_of(found, index) for index in range(len(found.children)))
        span = Span(self.source, (sign or [number])[0].start_pos or 0, star.start_pos or 0)
        if number.type == "NAME" and not sign:
            return self.values.name(number)
        return ast.Real("".join(map(str, [*sign, number])), span)

    def _repeat(
        self,
        tree: Tree,
        label: ast.Reference | None,
        times: ast.Times | None,
        assertion: ast.Dims | None,
        span: Span,
    ) -> ast.Repeat:
        head, body = trees(tree)
        inner = self._body(trees(body))
        if head.data != "counter":
            return ast.Repeat(label, self.values.expression(head), None, None, None, inner, times, assertion, span)
        low, high = (self.values.expression(end) for end in trees(head))
        counter = self._no_keyword(self.values.name(token_of(head, 0)), "a counter")
        return ast.Repeat(label, None, counter, low, high, inner, times, assertion, span)

    def _times(self, tree: Tree) -> ast.Times:
        first, *rest = children(tree)
        assert isinstance(first, lark.Token)
        count = ast.Integer(str(first)[1:], self.values.token_span(first))
        modifiers: list[ast.Modifier] = []
        which: lark.Token | None = None
        arguments: list[Tree] = []
        for child in [*rest, None]:
            if isinstance(child, lark.Tree):
                arguments.append(child)
            elif child is None or child.type in ("FIRST", "LAST"):
                if which is not None:
                    modifiers.append(
                        ast.Modifier(self.values.name(which), self._arguments(arguments), self._span(tree))
                    )
                which, arguments = child, []
        return ast.Times(count, tuple(modifiers), self._span(tree))

    def _arguments(self, parts: Iterable[Tree]) -> tuple[ast.Argument, ...]:
        return tuple(self._argument(part) for part in parts)

    def _argument(self, tree: Tree) -> ast.Argument:
        name = next((self.values.name(child) for child in children(tree) if _is_name(child)), None)
        return ast.Argument(name, self.values.value(trees(tree)[0]), self._span(tree))

    # -- training ---------------------------------------------------------------------------------

    def _train(self, tree: Tree) -> ast.Train:
        return ast.Train(tuple(self._setting(part) for part in trees(tree)), self._span(tree))

    def _setting(self, tree: Tree) -> ast.Setting | ast.Broken:
        if tree.data == "error":
            return self._broken(tree)
        keyword, value, *parts = children(tree)
        options = self._options((part for part in parts if isinstance(part, lark.Tree)), "sgd")
        found = self.values.expression(value) if isinstance(value, lark.Tree) else self.values.name(value)
        return ast.Setting(self.values.name(keyword), found, tuple(options), self._span(tree))

    # -- names ------------------------------------------------------------------------------------

    def _label(self, token: lark.Token) -> ast.Reference:
        self._no_keyword(self.values.name(token), "a label")
        return self._reference(token)

    def _no_keyword(self, name: ast.Name, what: str) -> ast.Name:
        if name.text in vocabulary.KEYWORDS and len(name.text) > 1:
            self.diagnostics.add(name.span, f"`{name.text}` is a keyword and can't be {what}")
        return name

    def _reference(self, child: Child) -> ast.Reference:
        assert isinstance(child, lark.Token)
        return ast.Reference(str(child), self.values.token_span(child))

    def _span(self, tree: Tree) -> Span:
        return self.values.span(tree)


def _is_name(child: Child) -> bool:
    return isinstance(child, lark.Token) and child.type == "NAME"
