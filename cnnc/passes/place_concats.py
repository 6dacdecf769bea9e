"""Concatenations without copies: what can't be written into its slice is copied there, and it alone."""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.passes.places import refusal
from cnnc.passes.rewrite import Rewriter


def place_concats(graph: Graph) -> Graph:
    """A copy of each operand that ``refusal`` has a reason against, so that a concatenation needs no kernel.

    Where all its operands would be copied, the concatenation stays what copies them.
    """
    taken: dict[Value, str] = {}
    rewriter = Rewriter(graph)
    for node in graph.walk():
        if isinstance(node.op, ops.Concat):
            _place(rewriter, node, taken)
        else:
            rewriter.copy(node)
    return rewriter.done()


def _place(rewriter: Rewriter, node: Node, taken: dict[Value, str]) -> None:
    refused = [refusal(rewriter.old, node, slot, taken) is not None for slot in range(len(node.operands))]
    if all(refused):
        rewriter.copy(node)
        return
    operands = []
    for value, copied in zip(node.operands, refused, strict=True):
        operand = rewriter.get(value)
        if copied:
            name = rewriter.new.fresh(f"{node.name}.copy")
            operand = rewriter.add(name, ops.Identity(), [operand], node).value()
        else:
            taken[value] = node.name
        operands.append(operand)
    rewriter.new.copy_node(node, operands, rewriter.old)
