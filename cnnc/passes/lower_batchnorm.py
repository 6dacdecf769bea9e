"""Batch norm in training as the parts that kernels run: statistics, then apply; reductions, then dx."""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node
from cnnc.passes.rewrite import Rewriter


def lower_batchnorm(graph: Graph) -> Graph:
    """BatchNormTrain becomes BatchNormStats and BatchNorm; BatchNormGrad becomes a reduction and dx."""
    rewriter = Rewriter(graph)
    for node in graph.walk():
        if isinstance(node.op, ops.BatchNormTrain):
            _train(rewriter, node, node.op)
        elif isinstance(node.op, ops.BatchNormGrad):
            _grad(rewriter, node, node.op)
        else:
            rewriter.copy(node)
    return rewriter.done()


def _train(rewriter: Rewriter, node: Node, op: ops.BatchNormTrain) -> None:
    x, gamma, beta = (rewriter.get(value) for value in node.operands)
    stats = rewriter.add(f"{node.name}.stats", ops.BatchNormStats(), [x], node)
    mean, var = stats.value(0), stats.value(1)
    rewriter.add(node.name, ops.BatchNorm(op.eps), [x, gamma, beta, mean, var], node)
    rewriter.replace(node.value(1), mean)
    rewriter.replace(node.value(2), var)


def _grad(rewriter: Rewriter, node: Node, op: ops.BatchNormGrad) -> None:
    dy, x, mean, var, gamma = (rewriter.get(value) for value in node.operands)
    reduce = rewriter.add(f"{node.name}.reduce", ops.BatchNormReduce(op.eps), [dy, x, mean, var], node)
    dgamma, dbeta = reduce.value(0), reduce.value(1)
    rewriter.add(node.name, ops.BatchNormInputGrad(op.eps), [dy, x, mean, var, gamma, dgamma, dbeta], node)
    rewriter.replace(node.value(1), dgamma)
    rewriter.replace(node.value(2), dbeta)
