"""Splits in the kernels of the products before them: each slice of the channels is stored where it belongs.

Of merged siblings, one slice may lie in a concatenation while the others lie elsewhere. The product's tile is stored
slice by slice, so that none has to be copied.
"""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node
from cnnc.passes.dead_code import dead_code
from cnnc.passes.groups import Group, anchor_of, left_by, regrouped
from cnnc.passes.rewrite import Rewriter
from cnnc.passes.roofline import Roofline

PRODUCTS = (ops.Conv, ops.ConvDgrad, ops.Linear, ops.LinearDgrad)


def fuse_splits(graph: Graph) -> Graph:
    """A product and the Split that alone reads its result become one kernel, where that saves copies."""
    rewriter, roofline = Rewriter(graph), Roofline(graph)
    groups = [_group(rewriter, node) for node in graph.walk() if refusal(rewriter, roofline, node) is None]
    return dead_code(regrouped(graph, groups)) if groups else graph


def refusal(rewriter: Rewriter, roofline: Roofline, node: Node) -> str | None:
    """Why a node does not join the product before it as its split; None if it does."""
    if not isinstance(node.op, ops.Split):
        return "not a split"
    (source,) = node.operands
    producer = rewriter.old[source.node]
    if not isinstance(anchor_of(producer.op), PRODUCTS):
        return f"{source} is not made by a product"
    if len(producer.types) > 1:
        return f"{producer.name} gives more than an image"
    if rewriter.single_user(source) is None:
        return f"{source} has other users or is an output"
    if roofline.gain_us(_group(rewriter, node)) <= 0:
        return f"the slices of {source} are read where they lie"
    return None


def _group(rewriter: Rewriter, node: Node) -> Group:
    producer = rewriter.old[node.operands[0].node]
    return Group((producer, node), producer.name, left_by(rewriter, node))
