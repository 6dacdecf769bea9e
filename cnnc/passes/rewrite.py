"""What passes share: building a new graph beside the old one, with values mapped from old to new."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value, finish, rebuild
from cnnc.ir.params import ParamSpec

AND = "+"  # between the names of layers that share a node
WEIGHT_OPS = (ops.MaskWeight, ops.Binarize)  # what may stand between a parameter and the product it feeds


class Rewriter:
    """The old graph, the new graph, and where each old value went.

    A pass walks ``old`` in order and for each node either copies it or adds something else and says
    with ``replace`` which new value stands for the old one.
    """

    def __init__(self, graph: Graph) -> None:
        self.old = graph
        self.new = rebuild(graph)
        self.users = graph.users()
        self.outputs = frozenset(graph.outputs.values())
        self._mapping: dict[Value, Value] = {}

    def get(self, value: Value) -> Value:
        """The new value that stands for an old one."""
        return self._mapping.get(value, value)

    def replace(self, old: Value, new: Value) -> None:
        self._mapping[old] = new

    def copy(self, node: Node) -> Node:
        """The node itself, reading the new values."""
        return self.new.copy_node(node, [self.get(value) for value in node.operands], self.old)

    def add(self, name: str, op: ops.Op, operands: list[Value], like: Node) -> Node:
        """A new node that belongs to the layer and the text of an old one."""
        return self.new.add(name, op, operands, layer=like.layer, span=like.span)

    def single_user(self, value: Value) -> tuple[Node, int] | None:
        """The one node and slot that reads an old value, if there is just one and it is no output."""
        found = self.users.get(value, [])
        if len(found) != 1 or value in self.outputs:
            return None
        return found[0]

    def done(self) -> Graph:
        return finish(self.new, self.old, self._mapping)


def copied(graph: Graph) -> Graph:
    """The same graph anew, for a pass that only adds to it."""
    rewriter = Rewriter(graph)
    for node in graph.walk():
        rewriter.copy(node)
    return rewriter.done()


def parameter_of(graph: Graph, value: Value) -> ops.Parameter:
    """The parameter behind a value that is one."""
    op = graph[value.node].op
    if not isinstance(op, ops.Parameter):
        raise TypeError(f"{value} is not a parameter")
    return op


def spec_of(node: Node) -> ParamSpec | None:
    """The parameter that a node is; None if it is something else."""
    return node.op.spec if isinstance(node.op, ops.Parameter) else None


def reread(rewriter: Rewriter, value: Value, suffix: str, change: Callable[[ops.Parameter], ops.Parameter]) -> Value:
    """A weight from a second leaf of its parameter, which ``change`` makes of the first: another shape or element.

    What stands between parameter and weight (a mask, the sign) is computed again from the new leaf.
    """
    node = rewriter.old[value.node]
    name = f"{node.name}.{suffix}"
    if name in rewriter.new:
        return Value(name)
    if isinstance(node.op, WEIGHT_OPS):
        first = reread(rewriter, node.operands[0], suffix, change)
        return rewriter.add(name, node.op, [first, *map(rewriter.get, node.operands[1:])], node).value()
    return rewriter.add(name, change(parameter_of(rewriter.old, value)), [], node).value()


def squeezed(parameter: ops.Parameter, shape: tuple[int, ...]) -> ops.Parameter:
    """The parameter without the 1x1 of a pointwise convolution."""
    return replace(parameter, spec=replace(parameter.spec, squeeze=shape))
