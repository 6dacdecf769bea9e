"""Pools and depthwise convolutions in the kernels of the pointwise products behind them.

The product's loop asks for each block of its summed channels, and the window is computed there: inception's pools
before 1x1 convolutions, separable convolutions, the pools between dense blocks. The image between both is neither
written nor read. Each block of filters computes the windows again. That costs no memory traffic, but loads from the
caches and time: where it takes more than is saved, the window keeps its kernel.
"""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node
from cnnc.ir.roofline import type_bytes
from cnnc.passes.dead_code import dead_code
from cnnc.passes.groups import Group, anchor_of, left_by, main_of, parts_of, regrouped
from cnnc.passes.rewrite import Rewriter
from cnnc.passes.roofline import Roofline

POOLS = (ops.MaxPool, ops.AvgPool, ops.SumPool)
PRODUCTS = (ops.Conv, ops.Linear)
BLOCK = 128  # filters whose products one program computes
LOADED_PER_SECOND = 1.5e13  # bytes out of the caches, all multiprocessors together; half of what their ports could


def fuse_windows(graph: Graph) -> Graph:
    """Windows that only pointwise products read become these products' prologues, where that is faster."""
    rewriter, roofline = Rewriter(graph), Roofline(graph)
    groups = [group for node in graph.walk() for group in _groups(rewriter, roofline, node)]
    return dead_code(regrouped(graph, groups)) if groups else graph


def _groups(rewriter: Rewriter, roofline: Roofline, node: Node) -> list[Group]:
    return _readers(rewriter, node) if refusal(rewriter, roofline, node) is None else []


def refusal(rewriter: Rewriter, roofline: Roofline, node: Node) -> str | None:
    """Why a kernel is not computed in the loops of the products that read it; None if it is."""
    if not is_window(rewriter.old, node):
        return "neither a pool nor a depthwise convolution"
    if left_by(rewriter, node) != (node.value(),):
        return f"{node.name} gives more than an image"
    if node.value() in rewriter.outputs:
        return f"{node.name} is an output"
    for reader, slot in rewriter.users[node.value()]:
        reason = _reason_against(rewriter.old, node, reader, slot)
        if reason is not None:
            return reason
    groups = _readers(rewriter, node)
    gain = sum(map(roofline.gain_us, groups)) + (roofline.cost(node).roofline_us if len(groups) > 1 else 0.0)
    lost = _repeated_us(rewriter.old, roofline, node, groups)
    if gain <= lost:
        names = " and ".join(group.name for group in groups)
        return f"computing it for each block of filters of {names} takes {lost - gain:.0f} us more than it saves"
    return None


def is_window(graph: Graph, node: Node) -> bool:
    """Whether a kernel has neighbouring pixels for each element of its result."""
    part, values = main_of(graph, node)
    if isinstance(part.op, POOLS):
        return True
    return isinstance(part.op, ops.Conv) and ops.is_depthwise(part.op, values[part.operands[1]].shape)


def _reason_against(graph: Graph, node: Node, reader: Node, slot: int) -> str | None:
    """Why a reader of a window is no product that computes it in its loop."""
    parts, _, main = parts_of(reader)
    product = parts[main].op
    if not isinstance(product, PRODUCTS):
        return f"{reader.name} is no product"
    if isinstance(product, ops.Conv) and product.groups > 1:
        return f"{reader.name} has {product.groups} groups"
    if isinstance(product, ops.Conv) and product.window.taps > 1:
        return f"{reader.name} would compute it for each of its {product.window.taps} taps"
    if any(i == slot for part in parts[main + 1 :] for i in part.operands) or slot in parts[main].operands[1:]:
        return f"{reader.name} reads it beside its factor"
    if any(isinstance(part.op, POOLS) for part in parts[main + 1 :]):
        return f"{reader.name} makes its product again for each window of a pool"
    if any(isinstance(part.op, (*POOLS, *PRODUCTS)) for part in parts[:main]):
        return f"{reader.name} computes a factor already"
    return None


def _readers(rewriter: Rewriter, node: Node) -> list[Group]:
    readers = dict.fromkeys(user.name for user, _ in rewriter.users[node.value()])
    return [Group((node, rewriter.old[name]), name, left_by(rewriter, rewriter.old[name])) for name in readers]


def _repeated_us(graph: Graph, roofline: Roofline, node: Node, groups: list[Group]) -> float:
    """Microseconds of the loads that computing a window for each block of filters takes beyond computing it once."""
    op = anchor_of(node.op)
    assert isinstance(op, (*POOLS, ops.Conv))
    readers = [main_of(graph, group.nodes[-1]) for group in groups]
    blocks = sum(-(-values[part.operands[1]].shape[0] // BLOCK) for part, values in readers)
    loaded = op.window.taps * type_bytes(node.types[0], roofline.n, roofline.dtype)
    return (blocks - 1) * loaded / LOADED_PER_SECOND * 1e6
