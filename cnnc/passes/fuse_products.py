"""Sums of products in one kernel: the second product goes on in the accumulator of the first.

A residual network's projection becomes more summed channels of the convolution that it is added to; of a gradient that
several layers give, each is added where the one before left off. The image between them is neither written nor read.
One kernel multiplies as much as both and moves less, so that its roofline is never above the sum of theirs.
"""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.passes.dead_code import dead_code
from cnnc.passes.groups import Group, anchor_of, left_by, parts_of, regrouped
from cnnc.passes.rewrite import Rewriter

PRODUCTS = (ops.Conv, ops.ConvDgrad, ops.Linear, ops.LinearDgrad)
ADDED = (ops.BiasAdd, ops.PositionBias, ops.Add)  # what may follow the product that joins


def fuse_products(graph: Graph) -> Graph:
    """Kernels of products that one other product's kernel adds to its own become part of it."""
    rewriter = Rewriter(graph)
    groups: list[Group] = []
    taken: set[str] = set()
    for node in reversed(list(graph.walk())):
        if node.name in taken:
            continue
        group = _group(rewriter, node)
        if group is not None:
            taken.update(member.name for member in group.nodes)
            groups.append(group)
    return dead_code(regrouped(graph, groups[::-1])) if groups else graph


def _group(rewriter: Rewriter, node: Node) -> Group | None:
    """A kernel with all that it adds, if anything joins it."""
    if not isinstance(anchor_of(node.op), PRODUCTS):
        return None
    values = dict.fromkeys(node.operands)
    members = [rewriter.old[value.node] for value in values if refusal(rewriter, node, value) is None]
    if not members:
        return None
    members.sort(key=lambda member: rewriter.old.position(member.name))
    main = next((member for member in [node, *members] if _stride(member) > 1), node)
    return Group((*members, node), main.name, left_by(rewriter, node))


def refusal(rewriter: Rewriter, node: Node, value: Value) -> str | None:
    """Why an operand of a product's kernel is not computed there as well; None if it is."""
    producer = rewriter.old[value.node]
    anchors = [anchor_of(node.op), anchor_of(producer.op)]
    for name, anchor in zip((node.name, producer.name), anchors, strict=True):
        if not isinstance(anchor, PRODUCTS):
            return f"{name} is no product"
        if isinstance(anchor, ops.Conv | ops.ConvDgrad) and anchor.groups > 1:
            return f"{name} has {anchor.groups} groups"
    if len(producer.types) > 1 or rewriter.single_user(value) is None:
        return f"{value} has other users or is an output"
    if not is_term(node, value):
        return f"{node.name} does not add {value} to its product"
    other = next((part.op for part in parts_of(producer)[0] if not isinstance(part.op, (*PRODUCTS, *ADDED))), None)
    if other is not None:
        return f"{other.name} follows the product of {producer.name}"
    return _other_pixels(anchors)


def is_term(node: Node, value: Value) -> bool:
    """Whether a kernel reads an operand in a sum, and there alone."""
    number = node.operands.index(value)
    readers = [part for part in parts_of(node)[0] for i in part.operands if i == number]
    return len(readers) == 1 and isinstance(readers[0].op, ops.Add)


def _stride(node: Node) -> int:
    """Into how many phases a gradient's pixels fall: its programs each take one of them."""
    op = anchor_of(node.op)
    return op.window.stride[0] * op.window.stride[1] if isinstance(op, ops.ConvDgrad) else 1


def _other_pixels(anchors: list[ops.Op]) -> str | None:
    """Why one kernel's programs can't have the pixels of all; strided gradients share them if their windows agree."""
    windows = {op.window for op in anchors if isinstance(op, ops.ConvDgrad) and op.window.stride != (1, 1)}
    return "their strides part the pixels in different ways" if len(windows) > 1 else None
