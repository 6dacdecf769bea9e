"""What a graph costs by the model of ``ir.roofline``: one kernel for each node that is not a view.

Fusion decides by it: a pass does what it can only where the graph's ``roofline_us`` falls or stays.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.ir.roofline import TYPICAL_BATCH, TYPICAL_DTYPE, Cost, total_us, type_bytes, work_of
from cnnc.ir.types import Element
from cnnc.passes.buffers import constants
from cnnc.passes.groups import Group, fused_op
from cnnc.passes.places import Places


class Roofline:
    """Costs of a graph's nodes for one batch size and dtype. Ask again after a pass has made another graph."""

    def __init__(self, graph: Graph, n: int = TYPICAL_BATCH, dtype: str = TYPICAL_DTYPE) -> None:
        self.graph = graph
        self.n = n
        self.dtype = dtype
        self._users = graph.users()
        self._read = {*self._users, *graph.outputs.values()}
        self._places = Places(graph)
        # What is computed from parameters alone, inference computes once; training after each update.
        self._prepared = set() if _trains(graph) else constants(graph)

    def cost(self, node: Node) -> Cost:
        """Cost of one node; nothing for leaves, views and what is computed once from parameters."""
        if isinstance(node.op, ops.LEAVES) or node.name in self._prepared or self._places.is_view(node):
            return Cost()
        return self.kernel(node.op, node.operands, [node.value(index) for index in range(len(node.types))])

    def kernel(self, op: ops.Op, operands: tuple[Value, ...], results: list[Value]) -> Cost:
        """Cost of one kernel, there already or thought of, that computes values of the graph from others.

        ``results`` are the graph's values that the op's results stand for, by output slot.
        """
        work = work_of(op, [self.graph.type_of(value) for value in operands], [self.graph.type_of(v) for v in results])
        shares: dict[Value, Fraction] = {}
        for value, share in zip(operands, work.shares, strict=True):
            shares[value] = max(share, shares.get(value, share))
        loaded = sum(math.ceil(share * self._bytes(value)) for value, share in shares.items())
        stored = sum(self._bytes(value) for value in results if value in self._read and self._is_computed(op, value))
        if isinstance(op, ops.Split):
            loaded = stored  # what is read where it lies, the kernel leaves alone
        return Cost(loaded + stored, 2 * self.n * work.macs)

    def gain_us(self, group: Group) -> float:
        """Microseconds that a group saves as one kernel: those of its members, but of copied ones, less its own."""
        op, operands = fused_op(self.graph, group)
        gone = (self.cost(node) for node in group.nodes if not self._stays(node, group))
        return total_us(gone) - self.kernel(op, operands, list(group.leaving)).roofline_us

    def _stays(self, node: Node, group: Group) -> bool:
        """Whether a member is read from outside although none of its values leaves the group."""
        values = [node.value(index) for index in range(len(node.types))]
        inside = {member.name for member in group.nodes}
        read = any(user.name not in inside for value in values for user, _ in self._users.get(value, ()))
        return read and not {*values} & {*group.leaving}

    def _is_computed(self, op: ops.Op, value: Value) -> bool:
        return not isinstance(op, ops.Split) or self._places.is_computed(value)

    def costs(self) -> dict[str, Cost]:
        """Costs of all nodes that take a kernel at each run."""
        found = {node.name: self.cost(node) for node in self.graph.walk()}
        return {name: cost for name, cost in found.items() if cost != Cost()}

    @property
    def total_us(self) -> float:
        """Microseconds of the whole graph."""
        return total_us(self.costs().values())

    def _bytes(self, value: Value) -> int:
        """Fixed parameters are read as they are stored, whatever the compute dtype."""
        kind, op = self.graph.type_of(value), self.graph[value.node].op
        fixed = isinstance(op, ops.Parameter) and not op.spec.trainable
        return type_bytes(replace(kind, element=Element.ACC) if fixed else kind, self.n, self.dtype)


def roofline_us(graph: Graph, n: int = TYPICAL_BATCH, dtype: str = TYPICAL_DTYPE) -> float:
    """Microseconds of a graph whose kernels run one after the other, each at its roofline."""
    return Roofline(graph, n, dtype).total_us


def _trains(graph: Graph) -> bool:
    return any(name.startswith("grad:") for name in graph.outputs)
