"""Average pools before products instead of behind them, where that moves and multiplies less.

A product acts on the channels of each pixel, a pool on the pixels of each channel: they commute. DenseNet's
transition (1x1 convolution, then a 2x2 average) then multiplies a quarter of the pixels. A bias commutes with a mean
whose weights add up to 1. Inference may pool in the product's kernel, and so gains only where that multiplies much;
training gains by its gradients, which then have a quarter of the pixels too.
"""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node
from cnnc.ir.roofline import typical_us
from cnnc.ir.types import TensorType
from cnnc.passes.rewrite import Rewriter

POOLS = (ops.AvgPool, ops.GlobalAvgPool)


def swap_pools(graph: Graph) -> Graph:
    """AvgPool(Linear(x) [+ bias]) becomes Linear(AvgPool(x)) [+ bias], where that is faster without gradients."""
    return _swapped(graph, trained=False)


def swap_trained_pools(graph: Graph) -> Graph:
    """The same where it is faster with the gradients that will be made."""
    return _swapped(graph, trained=True)


def _swapped(graph: Graph, *, trained: bool) -> Graph:
    rewriter = Rewriter(graph)
    moved = {node.name: node for node in graph.walk() if refusal(rewriter, node, trained=trained) is None}
    absorbed = {part.name for node in moved.values() for part in _parts(rewriter, node)}
    for node in graph.walk():
        if node.name in moved:
            _swap(rewriter, node)
        elif node.name not in absorbed:
            rewriter.copy(node)
    return rewriter.done()


def refusal(rewriter: Rewriter, node: Node, *, trained: bool) -> str | None:
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
    gain = _forward_gain_us(node.op, x, weight) + (_backward_gain_us(node.op, x, weight) if trained else 0.0)
    return None if gain > 0 else "pooling the product's input takes no less time"


def _forward_gain_us(pool: ops.Op, x: TensorType, weight: TensorType) -> float:
    product = ops.Linear()
    one = ops.Fused((ops.Part("product", product, (0, 1)), ops.Part("pool", pool, (2,))), (3,))
    apart = typical_us(product, [x, weight]) + typical_us(pool, product.infer(x, weight))
    return (
        min(typical_us(one, [x, weight]), apart) - typical_us(pool, [x]) - typical_us(product, [*pool.infer(x), weight])
    )


def _backward_gain_us(pool: ops.Op, x: TensorType, weight: TensorType) -> float:
    (y,), (pooled,) = ops.Linear().infer(x, weight), pool.infer(x)
    (p,) = pool.infer(y)
    unpool = _gradient(pool, x)
    before = (
        typical_us(unpool, [p]) + typical_us(ops.LinearDgrad(), [y, weight]) + typical_us(ops.LinearWgrad(), [y, x])
    )
    after = typical_us(ops.LinearDgrad(), [p, weight]) + typical_us(ops.LinearWgrad(), [p, pooled])
    return before - after - typical_us(unpool, [pooled])


def _gradient(pool: ops.Op, x: TensorType) -> ops.Op:
    height, width = x.shape[:2]
    if isinstance(pool, ops.AvgPool):
        return ops.AvgPoolGrad(pool.window, (height, width), pool.count_pad)
    return ops.GlobalAvgPoolGrad((height, width))


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
