"""Pools in the kernels of the products before them: the pool's tile asks for the product at each tap of its window.

Where windows do not overlap, the product is computed once, and its image is neither written nor read. Where they do,
it is computed again in each of them: the cost model weighs that against the bytes. The window's maximum or sum stands
in registers beside the accumulator, whatever the batch.
"""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node
from cnnc.passes.dead_code import dead_code
from cnnc.passes.groups import Group, anchor_of, left_by, regrouped
from cnnc.passes.rewrite import Rewriter
from cnnc.passes.roofline import Roofline

POOLS = (ops.MaxPool, ops.AvgPool, ops.SumPool)
PRODUCTS = (ops.Conv, ops.Linear)


def fuse_pools(graph: Graph) -> Graph:
    """A product with its epilogue and the one pool that reads its result become one kernel, where that is faster."""
    rewriter, roofline = Rewriter(graph), Roofline(graph)
    groups = [_group(rewriter, node) for node in graph.walk() if refusal(rewriter, roofline, node) is None]
    return dead_code(regrouped(graph, groups)) if groups else graph


def refusal(rewriter: Rewriter, roofline: Roofline, node: Node) -> str | None:
    """Why a node does not join the product before it as its pool; None if it does."""
    if not isinstance(anchor_of(node.op), POOLS):
        return "not a pool"
    source = node.operands[0]
    producer = rewriter.old[source.node]
    if not isinstance(anchor_of(producer.op), PRODUCTS):
        return f"{source} is not made by a convolution or a product"
    if len(producer.types) > 1:
        return f"{producer.name} gives more than an image"
    if rewriter.single_user(source) is None:
        return f"{source} has other users or is an output"
    group = _group(rewriter, node)
    if (lost := -roofline.gain_us(group)) >= 0:
        return f"computing {producer.name} for each window takes {lost:.0f} us more than it saves"
    return None


def _group(rewriter: Rewriter, node: Node) -> Group:
    producer = rewriter.old[node.operands[0].node]
    return Group((producer, node), producer.name, left_by(rewriter, node))
