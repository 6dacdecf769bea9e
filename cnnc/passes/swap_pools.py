"""Average pools before products instead of behind them, where that moves and multiplies less.

A product acts on the channels of each pixel, a pool on the pixels of each channel: they commute. DenseNet's
transition (1x1 convolution, then a 2x2 average) then multiplies a quarter of the pixels, backward too. A bias
commutes with a mean whose weights add up to 1.
"""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node
from cnnc.ir.roofline import typical_us
from cnnc.passes.rewrite import Rewriter

POOLS = (ops.AvgPool, ops.GlobalAvgPool)


def swap_pools(graph: Graph) -> Graph:
    """AvgPool(Linear(x) [+ bias]) becomes Linear(AvgPool(x)) [+ bias]."""
    rewriter = Rewriter(graph)
    moved = {node.name: node for node in graph.walk() if refusal(rewriter, node) is None}
    absorbed = {part.name for node in moved.values() for part in _parts(rewriter, node)}
    for node in graph.walk():
        if node.name in moved:
            _swap(rewriter, node)
        elif node.name not in absorbed:
            rewriter.copy(node)
    return rewriter.done()


def refusal(rewriter: Rewriter, node: Node) -> str | None:
    """Why a node is no pool that goes before its product; None if it is."""
    if not isinstance(node.op, POOLS):
        return "not an average pool"
    *biases, product = parts = _parts(rewriter, node)
    if not isinstance(product.op, ops.Linear):
        return f"{product.name} is no product of single pixels"
    for part in parts:
        if rewriter.single_user(part.value()) is None:
            return f"{part.name} has other users or is an output"
    padded = isinstance(node.op, ops.AvgPool) and node.op.count_pad and any(node.op.window.pad)
    if biases and padded:
        return f"{node.name} counts padding, which {biases[0].name} does not reach"
    x, weight = (rewriter.old.type_of(value) for value in product.operands)
    before = typical_us(product.op, [x, weight]) + typical_us(node.op, product.types)
    after = typical_us(node.op, [x]) + typical_us(product.op, [*node.op.infer(x), weight])
    return None if after < before else "pooling the product's input takes no less time"


def _parts(rewriter: Rewriter, pool: Node) -> list[Node]:
    """The producers before a pool, nearest first: a bias if there is one, then what it follows."""
    producer = rewriter.old[pool.operands[0].node]
    if isinstance(producer.op, ops.BiasAdd):
        return [producer, rewriter.old[producer.operands[0].node]]
    return [producer]


def _swap(rewriter: Rewriter, pool: Node) -> None:
    *biases, product = _parts(rewriter, pool)
    pooled = rewriter.add(pool.name, pool.op, [rewriter.get(product.operands[0])], pool)
    value = rewriter.add(product.name, product.op, [pooled.value(), rewriter.get(product.operands[1])], product).value()
    for bias in biases:
        value = rewriter.add(bias.name, bias.op, [value, rewriter.get(bias.operands[1])], bias).value()
    rewriter.replace(pool.value(), value)
