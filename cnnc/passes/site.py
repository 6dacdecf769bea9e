"""Where the gradient of one node is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value


@dataclass(frozen=True)
class Site:
    """Where a rule adds nodes: behind one forward node, whose layer and text they inherit."""

    graph: Graph
    node: Node
    wanted: tuple[bool, ...]  # by operand slot: whether anybody needs this gradient

    @property
    def op(self) -> Any:
        return self.node.op

    def image(self, slot: int) -> tuple[int, int]:
        """Height and width of an operand."""
        shape = self.graph.type_of(self.node.operands[slot]).shape
        return shape[0], shape[1]

    def add(self, suffix: str, op: ops.Op, *operands: Value) -> Node:
        name = self.graph.fresh(f"{self.node.name}.{suffix}")
        return self.graph.add(name, op, operands, layer=self.node.layer, span=self.node.span)

    def one(self, slot: int, suffix: str, op: ops.Op, *operands: Value) -> Value | None:
        """The gradient of one operand, made only if it is wanted."""
        return self.add(suffix, op, *operands).value() if self.wanted[slot] else None
