"""Statistics of a concatenation from those of its parts: each part is summed once, whoever it is concatenated for.

A dense block's batch norms see the same images again and again, with a few more channels each time. The mean and
variance of a channel belong to the part that it comes from, whose kernel can compute them (see ``fuse_reductions``);
the vectors of a concatenation are those of its parts one behind the other, and grow in place as it does.
"""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.passes.rewrite import Rewriter

Statistics = tuple[Value, Value]


def share_statistics(graph: Graph) -> Graph:
    """BatchNormStats(Concat(a, b)) becomes ConcatRows(BatchNormStats(a), BatchNormStats(b)), one of each value."""
    sharing = _Sharing(graph)
    for node in graph.walk():
        if isinstance(node.op, ops.BatchNormStats) and refusal(graph, node) is None:
            for index, value in enumerate(sharing.of(node.operands[0], node)):
                sharing.rewriter.replace(node.value(index), value)
        else:
            sharing.rewriter.copy(node)
    return sharing.rewriter.done()


def refusal(graph: Graph, node: Node) -> str | None:
    """Why statistics are not put together from those of parts, or shared; None if they are."""
    source = graph[node.operands[0].node]
    if not isinstance(source.op, ops.Concat):
        return f"{source.name} is no concatenation"
    return None


class _Sharing:
    """The statistics of the values of a graph, each computed where they are first asked for."""

    def __init__(self, graph: Graph) -> None:
        self.rewriter = Rewriter(graph)
        self._known: dict[Value, Statistics] = {}
        self._alone = {  # of values that are no concatenations: they are there already, and stay
            node.operands[0]: node
            for node in graph.walk()
            if isinstance(node.op, ops.BatchNormStats) and refusal(graph, node) is not None
        }

    def of(self, value: Value, node: Node) -> Statistics:
        """Mean and variance of a value, for the statistics that ``node`` asks for."""
        if value not in self._known:
            source = self.rewriter.old[value.node]
            concat = isinstance(source.op, ops.Concat)
            self._known[value] = self._joined(source, node) if concat else self._own(value, node)
        return self._known[value]

    def _joined(self, source: Node, node: Node) -> Statistics:
        parts = [self.of(value, node) for value in source.operands]
        found = []
        for name, vectors in zip(("mean", "var"), zip(*parts, strict=True), strict=True):
            fresh = self.rewriter.new.fresh(f"{source.name}.{name}")
            found.append(self.rewriter.add(fresh, ops.ConcatRows(), list(vectors), node).value())
        return found[0], found[1]

    def _own(self, value: Value, node: Node) -> Statistics:
        alone = self._alone.get(value)
        if alone is not None and alone.name in self.rewriter.new:
            return alone.value(0), alone.value(1)
        name = self.rewriter.new.fresh(f"{value.node}.stats")
        added = self.rewriter.add(name, ops.BatchNormStats(), [self.rewriter.get(value)], node)
        return added.value(0), added.value(1)
