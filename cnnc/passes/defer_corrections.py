"""Training of dense blocks: batch norms of one growing concatenation correct its gradient once.

Batch norm's gradient is ``scale dy`` and, through the statistics, a function ``shift + slope x`` of its input. Where
many batch norms read slices of one concatenation, the first parts are added up as they come (in the kernels that make
dy), the functions as vectors; each operand of the concatenation adds its own slice of the sum when its gradient is due.
Else each batch norm would read and write the whole gradient once more, and read x again.
"""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.passes.rewrite import Rewriter

PASSING = (ops.Add, ops.ChannelSlice)  # what a deferred gradient goes through


@dataclass(frozen=True)
class Deferred:
    """A gradient ``partial + shift + slope x``; the vectors' channels begin at ``start``. ``x`` is of the old graph."""

    partial: Value
    x: Value
    shift: Value
    slope: Value
    start: int


def defer_corrections(graph: Graph) -> Graph:
    """Gradients of concatenations in two parts, as far as sums and slices go."""
    deferred = {node.name for node in graph.walk() if _defers(graph, node)}
    return _Deferral(graph).run(deferred) if deferred else graph


def _defers(graph: Graph, node: Node) -> bool:
    """Whether a node is batch norm's gradient with respect to a concatenation that another gradient is added to."""
    if not isinstance(node.op, ops.BatchNormInputGrad):
        return False
    return isinstance(graph[node.operands[1].node].op, ops.Concat)


class _Deferral:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.rewriter = Rewriter(graph)
        self.pending: dict[Value, tuple[Node, Value]] = {}  # batch norms' gradients: the node, and its scaled part
        self.parts: dict[Value, Deferred] = {}
        self.whole: dict[Value, Value] = {}

    def run(self, deferred: set[str]) -> Graph:
        for node in self.graph.walk():
            if node.name in deferred:
                self._begin(node)
            elif isinstance(node.op, ops.Add) and any(map(self._is_deferred, node.operands)):
                self._add(node)
            elif isinstance(node.op, ops.ChannelSlice) and self._is_deferred(node.operands[0]):
                self._slice(node)
            else:
                for value in node.operands:
                    self._finish(value)
                self.rewriter.copy(node)
        for value in self.graph.outputs.values():
            self._finish(value)
        return self.rewriter.done()

    def _is_deferred(self, value: Value) -> bool:
        return value in self.pending or value in self.parts

    def _begin(self, node: Node) -> None:
        """The scaled part now; the vectors when it is known what they are added to."""
        assert isinstance(node.op, ops.BatchNormInputGrad)
        dy, _, _, var, gamma, *_ = map(self.rewriter.get, node.operands)
        scaled = self.rewriter.add(f"{node.name}.scaled", ops.BatchNormScale(node.op.eps), [dy, gamma, var], node)
        self.pending[node.value()] = node, scaled.value()

    def _deferred(self, value: Value, other: Deferred | None = None) -> Deferred:
        """A value in two parts; a batch norm's own, added to ``other``'s vectors."""
        if value in self.parts:
            return self.parts[value]
        node, scaled = self.pending[value]
        assert isinstance(node.op, ops.BatchNormInputGrad)
        _, x, mean, var, gamma, dgamma, dbeta = node.operands
        shape = node.types[0].shape
        pixels = shape[0] * shape[1] if len(shape) == 3 else 1
        operands = [self.rewriter.get(one) for one in (mean, var, gamma, dgamma, dbeta)]
        if other is not None:
            operands += [other.shift, other.slope]
        op = ops.BatchNormCorrection(pixels, node.op.eps)
        name = self.rewriter.new.fresh(f"{node.name}.correction")
        sums = self.rewriter.add(name, op, operands, node)
        return Deferred(scaled, x, sums.value(0), sums.value(1), 0)

    def _add(self, node: Node) -> None:
        first, second = node.operands
        if first in self.pending and second not in self.pending:
            first, second = second, first
        # Now a batch norm's own gradient is the second, if there is one.
        one = self.parts.get(first)
        if second in self.pending and one is not None and one.start == 0 and self._x_of(second) == one.x:
            both = self._deferred(second, one)
            total = self._sum(node, one.partial, both.partial)
            self.parts[node.value()] = Deferred(total, one.x, both.shift, both.slope, 0)
        elif second in self.pending and not self._is_deferred(first):
            both = self._deferred(second)
            total = self._sum(node, self.rewriter.get(first), both.partial)
            self.parts[node.value()] = Deferred(total, both.x, both.shift, both.slope, 0)
        elif first in self.parts and not self._is_deferred(second):
            part = self.parts[first]
            total = self._sum(node, part.partial, self.rewriter.get(second))
            self.parts[node.value()] = Deferred(total, part.x, part.shift, part.slope, part.start)
        else:
            for value in node.operands:
                self._finish(value)
            self.rewriter.copy(node)

    def _sum(self, node: Node, a: Value, b: Value) -> Value:
        return self.rewriter.add(f"{node.name}.partial", ops.Add(), [a, b], node).value()

    def _x_of(self, value: Value) -> Value:
        return self.pending[value][0].operands[1]

    def _slice(self, node: Node) -> None:
        """The slice of one operand of the concatenation is deferred with respect to that operand."""
        assert isinstance(node.op, ops.ChannelSlice)
        part = self._deferred(node.operands[0])
        self.parts[node.operands[0]] = part
        x = self._operand(part.x, node.op)
        if x is None:
            self._finish(node.operands[0])
            self.rewriter.copy(node)
            return
        piece = self.rewriter.add(f"{node.name}.partial", node.op, [part.partial], node)
        start = part.start + node.op.start
        self.parts[node.value()] = Deferred(piece.value(), x, part.shift, part.slope, start)

    def _operand(self, x: Value, piece: ops.ChannelSlice) -> Value | None:
        """The operand of a concatenation that lies where a slice is taken."""
        source = self.graph[x.node]
        if not isinstance(source.op, ops.Concat):
            return None
        start = 0
        for value in source.operands:
            count = self.graph.type_of(value).shape[-1]
            if (start, count) == (piece.start, piece.count):
                return value
            start += count
        return None

    def _finish(self, value: Value) -> None:
        """Make a deferred value whole, once, for a reader that needs it."""
        if value in self.whole or not self._is_deferred(value):
            return
        part = self._deferred(value)
        node = self.graph[value.node]
        vectors = [part.partial, self.rewriter.get(part.x), part.shift, part.slope]
        made = self.rewriter.add(node.name, ops.ChannelAffine(part.start), vectors, node)
        self.whole[value] = made.value()
        self.rewriter.replace(value, made.value())
