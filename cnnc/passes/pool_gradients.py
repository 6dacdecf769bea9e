"""What is computed of the gradient behind a max pool, on the pooled image instead of the whole one.

``f'(y) * unpool(dp)`` is ``unpool(f'(p) * dp)``: only the winning pixels receive a gradient, and there y is what the
pool gave, p. It holds where windows overlap too, since all that meet at a pixel have its y. The element-wise part then
has as many elements as the pool's result, may run in the kernel that makes dp, and y need not be kept for it. Sums over
pixels (a bias's gradient) are those of the pooled image, since each window has one winner.
"""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node
from cnnc.passes.rewrite import Rewriter


def pool_gradients(graph: Graph) -> Graph:
    """ActivationGrad(MaxPoolGrad(dp, index), y) becomes MaxPoolGrad(ActivationGrad(dp, p), index).

    ChannelSum(MaxPoolGrad(dp, index)) becomes ChannelSum(dp).
    """
    rewriter = Rewriter(graph)
    moved = {node.name: node for node in graph.walk() if refusal(rewriter, node) is None}
    absorbed = {node.operands[0].node for node in moved.values()}
    for node in graph.walk():
        if node.name in moved:
            _swap(rewriter, node)
        elif (source := _summed_unpooling(rewriter, node)) is not None:
            rewriter.add(node.name, node.op, [source.operands[0]], node)
        elif node.name not in absorbed:
            rewriter.copy(node)
    return rewriter.done()


def refusal(rewriter: Rewriter, node: Node) -> str | None:
    """Why a node is no derivative that goes before an unpooling; None if it is."""
    if not isinstance(node.op, ops.ActivationGrad):
        return "not the gradient of an activation"
    if node.op.kind in ops.FROM_INPUT:
        return f"the derivative of {node.op.kind} is computed from its input, which the pool has not seen"
    unpool = rewriter.old[node.operands[0].node]
    if not isinstance(unpool.op, ops.MaxPoolGrad):
        return f"{unpool.name} is no gradient of a max pool"
    if rewriter.single_user(unpool.value()) is None:
        return f"{unpool.name} has other users or is an output"
    pool = rewriter.old[unpool.operands[1].node]
    if not isinstance(pool.op, ops.MaxPool) or pool.operands[0] != node.operands[1]:
        return f"{unpool.name} is not of a pool of {node.operands[1]}"
    return None


def _summed_unpooling(rewriter: Rewriter, node: Node) -> Node | None:
    """The gradient of a max pool whose pixels a node adds up."""
    if not isinstance(node.op, ops.ChannelSum):
        return None
    source = rewriter.new[rewriter.get(node.operands[0]).node]
    return source if isinstance(source.op, ops.MaxPoolGrad) else None


def _swap(rewriter: Rewriter, node: Node) -> None:
    unpool = rewriter.old[node.operands[0].node]
    dp, index = (rewriter.get(value) for value in unpool.operands)
    pooled = rewriter.get(rewriter.old[unpool.operands[1].node].value())
    derived = rewriter.add(node.name, node.op, [dp, pooled], node)
    unpooled = rewriter.add(unpool.name, unpool.op, [derived.value(), index], unpool)
    rewriter.replace(node.value(), unpooled.value())
