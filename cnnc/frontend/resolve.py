"""Statements to resolved layers, one at a time and in order: structure expanded, names given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cnnc.frontend import ast, vocabulary
from cnnc.frontend.diagnostics import Diagnostics
from cnnc.frontend.layers import FailedLayer, Place, Resolved
from cnnc.frontend.names import Names
from cnnc.frontend.order import MAX_LAYERS, spell_out
from cnnc.frontend.statements import Statements


def resolve(program: ast.Program, names: Names, diagnostics: Diagnostics) -> Iterator[Resolved]:
    """Resolved layers in program order, lazily: who consumes them takes names in between (a flatten before fc)."""
    resolver = _Resolver(program, names, diagnostics)
    count = 0
    for item in program.items:
        for layer in resolver.item(item):
            count += 1
            if count > MAX_LAYERS:
                diagnostics.add(layer.place.head, f"the program has more than {MAX_LAYERS:,} layers")
                diagnostics.raise_any()
            yield layer


class _Resolver:
    def __init__(self, program: ast.Program, names: Names, diagnostics: Diagnostics) -> None:
        self.program = program
        self.names = names
        self.diagnostics = diagnostics
        self.statements = Statements(diagnostics)

    def item(self, item: ast.Item) -> Iterable[Resolved]:
        if isinstance(item, ast.Layer):
            return self._statement(item)
        if isinstance(item, ast.Order):
            return self._order(item)
        if isinstance(item, ast.Default):
            self.statements.default(item)
        elif isinstance(item, ast.Broken):
            return self._broken(item)
        return []

    def _broken(self, item: ast.Broken) -> Iterable[Resolved]:
        if item.word in vocabulary.DEFAULTS:
            self.statements.defaults.broken.add(item.word)
        if item.word in (*vocabulary.DEFAULTS, *vocabulary.HEAD) and item.word != "Order":
            return []
        return [FailedLayer(Place("", item.span, item.span))]

    def _statement(self, item: ast.Layer) -> list[Resolved]:
        keyword = item.keyword.text
        if item.label is not None:
            name = self.names.label(item.label, keyword, self.diagnostics)
        else:
            name = self.names.automatic(keyword, item.keyword.span)
        return self.statements.layer(item, name)

    def _order(self, order: ast.Order) -> Iterator[Resolved]:
        widths = next((item for item in self.program.items if isinstance(item, ast.Widths)), None)
        classes = next((item for item in self.program.items if isinstance(item, ast.Classes)), None)
        for letter in spell_out(order, widths, classes, self.names, self.diagnostics):
            if letter is None:
                yield FailedLayer(Place("", order.span, order.span))
            else:
                yield self.statements.letter(letter)
