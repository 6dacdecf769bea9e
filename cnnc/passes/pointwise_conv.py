"""A 1x1 convolution without stride, padding or groups is a matrix product over pixels."""

from __future__ import annotations

from functools import partial

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node
from cnnc.ir.window import Window
from cnnc.passes.rewrite import Rewriter, reread, squeezed

POINTWISE = Window((1, 1))


def pointwise_conv(graph: Graph) -> Graph:
    """Conv 1x1/1 becomes Linear, which has its own kernel: no taps, no masks, rows of any image size."""
    rewriter = Rewriter(graph)
    for node in graph.walk():
        if refusal(node) is None:
            filters, _, _, channels = graph.type_of(node.operands[1]).shape
            flat = reread(rewriter, node.operands[1], "kc", partial(squeezed, shape=(filters, channels)))
            rewriter.add(node.name, ops.Linear(), [rewriter.get(node.operands[0]), flat], node)
        else:
            rewriter.copy(node)
    return rewriter.done()


def refusal(node: Node) -> str | None:
    """Why a node is not such a convolution; None if it is."""
    if not isinstance(node.op, ops.Conv):
        return "not a convolution"
    if node.op.window != POINTWISE:
        return f"its window is {node.op.window}, not 1x1 with stride 1 and no padding"
    return None if node.op.groups == 1 else f"it has {node.op.groups} groups"
