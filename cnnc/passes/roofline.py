"""What a graph costs by the model of ``ir.roofline``: one kernel for each node that is not a view.

Fusion decides by it: a pass does what it can only where the graph's ``roofline_us`` falls or stays.
"""

from __future__ import annotations

from dataclasses import replace

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.ir.roofline import TYPICAL_BATCH, TYPICAL_DTYPE, Cost, computed_macs, moved_bytes, total_us
from cnnc.ir.types import Element, TensorType
from cnnc.passes.buffers import constants, views


class Roofline:
    """Costs of a graph's nodes for one batch size and dtype. Ask again after a pass has made another graph."""

    def __init__(self, graph: Graph, n: int = TYPICAL_BATCH, dtype: str = TYPICAL_DTYPE) -> None:
        self.graph = graph
        self.n = n
        self.dtype = dtype
        self._read = {*graph.users(), *graph.outputs.values()}
        self._views = views(graph, set(graph.outputs.values()))
        # What is computed from parameters alone, inference computes once; training after each update.
        self._prepared = set() if _trains(graph) else constants(graph)

    def cost(self, node: Node) -> Cost:
        """Cost of one node; nothing for leaves, views and what is computed once from parameters."""
        if isinstance(node.op, ops.LEAVES) or node.name in self._prepared or self._is_view(node):
            return Cost()
        return self.kernel(node.op, node.operands, [node.value(index) for index in range(len(node.types))])

    def kernel(self, op: ops.Op, operands: tuple[Value, ...], results: list[Value]) -> Cost:
        """Cost of one kernel, there already or thought of, that computes values of the graph from others.

        ``results`` are the graph's values that the op's results stand for, by output slot.
        """
        types = [self._type(value) for value in operands]
        loaded = [self._type(value) for value in dict.fromkeys(operands)]
        stored = [self._type(value) for value in results if value in self._read]
        work = computed_macs(op, types, [self.graph.type_of(value) for value in results])
        return Cost(moved_bytes([*loaded, *stored], self.n, self.dtype), 2 * self.n * work)

    def costs(self) -> dict[str, Cost]:
        """Costs of all nodes that take a kernel at each run."""
        found = {node.name: self.cost(node) for node in self.graph.walk()}
        return {name: cost for name, cost in found.items() if cost != Cost()}

    @property
    def total_us(self) -> float:
        """Microseconds of the whole graph."""
        return total_us(self.costs().values())

    def _is_view(self, node: Node) -> bool:
        return self._views.get(node.value(), node.value()) != node.value()

    def _type(self, value: Value) -> TensorType:
        """Fixed parameters are read as they are stored, whatever the compute dtype."""
        kind, op = self.graph.type_of(value), self.graph[value.node].op
        fixed = isinstance(op, ops.Parameter) and not op.spec.trainable
        return replace(kind, element=Element.ACC) if fixed else kind


def roofline_us(graph: Graph, n: int = TYPICAL_BATCH, dtype: str = TYPICAL_DTYPE) -> float:
    """Microseconds of a graph whose kernels run one after the other, each at its roofline."""
    return Roofline(graph, n, dtype).total_us


def _trains(graph: Graph) -> bool:
    return any(name.startswith("grad:") for name in graph.outputs)
