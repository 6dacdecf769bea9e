"""What passes share: building a new graph beside the old one, with values mapped from old to new."""

from __future__ import annotations

from dataclasses import replace

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value, finish, rebuild
from cnnc.ir.params import ParamSpec
from cnnc.ir.types import Element


class Rewriter:
    """The old graph, the new graph, and where each old value went.

    A pass walks ``old`` in order and for each node either copies it or adds something else and says
    with ``replace`` which new value stands for the old one.
    """

    def __init__(self, graph: Graph) -> None:
        self.old = graph
        self.new = rebuild(graph)
        self.users = graph.users()
        self._mapping: dict[Value, Value] = {}

    def get(self, value: Value) -> Value:
        """The new value that stands for an old one."""
        return self._mapping.get(value, value)

    def replace(self, old: Value, new: Value) -> None:
        self._mapping[old] = new

    def copy(self, node: Node) -> Node:
        """The node itself, reading the new values."""
        return self.new.copy_node(node, [self.get(value) for value in node.operands])

    def add(self, name: str, op: ops.Op, operands: list[Value], like: Node) -> Node:
        """A new node that belongs to the layer and the text of an old one."""
        return self.new.add(name, op, operands, layer=like.layer, span=like.span)

    def single_user(self, value: Value) -> tuple[Node, int] | None:
        """The one node and slot that reads an old value, if there is just one and it is no output."""
        found = self.users.get(value, [])
        if len(found) != 1 or value in self.old.outputs.values():
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


def reread(rewriter: Rewriter, value: Value, suffix: str, element: Element, squeeze: tuple[int, ...] | None) -> Value:
    """A second leaf for a parameter: the same tensor, read with another element kind or shape."""
    node = rewriter.old[value.node]
    spec = parameter_of(rewriter.old, value).spec
    spec = replace(spec, squeeze=squeeze if squeeze is not None else spec.squeeze)
    name = f"{node.name}.{suffix}"
    if name not in rewriter.new:
        rewriter.add(name, ops.Parameter(spec, element), [], node)
    return Value(name)
