"""Local response normalisation in the kernel of the pool or product before it, which holds all channels of its pixels.

AlexNet normalises behind its pools: the sums over neighbouring channels come out of the tile that the pool has made.
Before a pool there is nothing to win: every tap of its windows would be normalised again.
"""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node
from cnnc.passes.dead_code import dead_code
from cnnc.passes.groups import Group, anchor_of, left_by, main_of, parts_of, regrouped
from cnnc.passes.rewrite import Rewriter

POOLS = (ops.MaxPool, ops.AvgPool, ops.SumPool)
PRODUCTS = (ops.Conv, ops.Linear)
MOST_POOLED = 512  # channels that a tile of a pool's kernel may have
MOST_SUMMED = 128  # of a product's, beside whose accumulator the squares stand


def fuse_lrn(graph: Graph) -> Graph:
    """Normalisations with what follows them join the one kernel that makes what they read."""
    rewriter = Rewriter(graph)
    groups = [_group(rewriter, node) for node in graph.walk() if refusal(rewriter, node) is None]
    return dead_code(regrouped(graph, groups)) if groups else graph


def refusal(rewriter: Rewriter, node: Node) -> str | None:
    """Why a normalisation does not join the kernel before it; None if it does."""
    if not isinstance(anchor_of(node.op), ops.Lrn):
        return "not a local response normalisation"
    source = node.operands[0]
    producer = rewriter.old[source.node]
    part, values = main_of(rewriter.old, producer)
    if not isinstance(part.op, (*POOLS, *PRODUCTS)):
        return f"{source} is made neither by a pool nor by a product"
    if isinstance(part.op, ops.Conv) and part.op.groups > 1:
        return f"{producer.name} has {part.op.groups} groups"
    if len(left_by(rewriter, producer)) > 1:
        return f"{producer.name} gives more than an image"
    if rewriter.single_user(source) is None:
        return f"{source} has other users or is an output"
    most = MOST_POOLED if isinstance(part.op, POOLS) else MOST_SUMMED
    channels = values[-1].shape[-1]
    if channels > most:
        return f"no tile of {producer.name} holds all of its {channels} channels"
    if any(isinstance(other.op, (ops.Lrn, ops.Split)) for other in parts_of(producer)[0]):
        return f"{producer.name} looks across channels already"
    return None


def _group(rewriter: Rewriter, node: Node) -> Group:
    producer = rewriter.old[node.operands[0].node]
    return Group((producer, node), producer.name, left_by(rewriter, node))
