"""Training in less memory: values of the forward pass are computed again where the backward pass needs them.

The forward pass is cut into segments where a single value goes from what is before to what is behind. Only those
values, the input and vectors (statistics) are kept; what else a segment's gradients read is computed again when
the first of them is due (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"). The last segment is
kept whole: its gradients come at once. Dropout draws the same mask again, batch norm reads the same statistics.
"""

from __future__ import annotations

from collections.abc import Iterator

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.passes.rewrite import Rewriter


def recompute(graph: Graph, segments: int) -> Graph:
    """The graph of a training step whose backward pass computes all but the last of ``segments`` again."""
    behind = _backward(graph)
    if segments < 2 or not behind:
        return graph
    kept = _kept(graph, behind, segments)
    return _Replay(graph, behind, kept).run()


class _Replay:
    """The old graph copied in order; a node of the backward pass reads computed-again values, made just before it."""

    def __init__(self, graph: Graph, behind: set[str], kept: set[str]) -> None:
        self.graph = graph
        self.behind = behind
        self.kept = kept
        self.rewriter = Rewriter(graph)
        self.again: dict[str, Node] = {}

    def run(self) -> Graph:
        new = self.rewriter.new
        for node in self.graph.walk():
            if node.name not in self.behind:
                self.rewriter.copy(node)
                continue
            operands = [self._value(value) for value in node.operands]
            new.copy_node(node, operands, self.graph)
        return self.rewriter.done()

    def _value(self, value: Value) -> Value:
        """What the backward pass reads for a value: itself, or its copy, with what that copy needs."""
        stack = [self.graph[value.node]]
        while stack:
            node = stack[-1]
            if self._stays(node) or node.name in self.again:
                stack.pop()
                continue
            waiting = [
                self.graph[operand.node]
                for operand in node.operands
                if not self._stays(self.graph[operand.node]) and operand.node not in self.again
            ]
            if waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            operands = [self._known(operand) for operand in node.operands]
            self.again[node.name] = self.rewriter.add(f"{node.name}.again", node.op, operands, node)
        return self._known(value)

    def _known(self, value: Value) -> Value:
        again = self.again.get(value.node)
        return value if again is None else again.value(value.index)

    def _stays(self, node: Node) -> bool:
        return node.name in self.kept or node.name in self.behind


def _backward(graph: Graph) -> set[str]:
    """Nodes that depend on the gradient of a loss, or of the output."""
    found: set[str] = set()
    for node in graph.walk():
        starts = isinstance(node.op, ops.CrossEntropy) or node.name == "doutput"
        if starts or any(value.node in found for value in node.operands):
            found.add(node.name)
    return found


def _kept(graph: Graph, behind: set[str], segments: int) -> set[str]:
    """Nodes that are not computed again: leaves, vectors, the ends of segments, and all of the last one."""
    forward = [node for node in graph.walk() if node.name not in behind]
    kept = {node.name for node in forward if _is_small(node)}
    read = {value.node for node in graph.walk() if node.name in behind for value in node.operands}
    sizes = [_bytes(node) if node.name in read and node.name not in kept else 0 for node in forward]
    share, held, ends = sum(sizes) / segments, 0.0, 0
    cuts = dict(_cuts(graph, forward))
    for place, node in enumerate(forward):
        held += sizes[place]
        cut = cuts.get(place)
        if ends == segments - 1:
            kept.add(node.name)
        elif cut is not None and held >= share * (ends + 1):
            kept.add(cut)
            ends += 1
    return kept


def _is_small(node: Node) -> bool:
    """Leaves, and what has no images: statistics and weights as products read them."""
    return isinstance(node.op, ops.LEAVES) or not any(kind.batched for kind in node.types)


def _bytes(node: Node) -> int:
    return sum(kind.count for kind in node.types if kind.batched)


def _cuts(graph: Graph, forward: list[Node]) -> Iterator[tuple[int, str]]:
    """Places behind which only one node's values are still read by the forward pass, and that node."""
    last: dict[str, int] = {}
    for place, node in enumerate(forward):
        last.update(dict.fromkeys((value.node for value in node.operands), place))
    live: set[str] = set()
    ending: dict[int, list[str]] = {}
    for place, node in enumerate(forward):
        if not _is_small(node) and last.get(node.name, place) > place:
            live.add(node.name)
            ending.setdefault(last[node.name], []).append(node.name)
        live.difference_update(ending.get(place, ()))
        if len(live) == 1:
            yield place, next(iter(live))
