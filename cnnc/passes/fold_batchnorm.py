"""Inference: batch norm folds into the weights of the conv or product before it.

``gamma (Wx + b - mean)/s + beta = (gamma/s W) x + (b - mean) gamma/s + beta`` with s = sqrt(var + eps).
The folded weight and bias are computed from the parameters by the Plan's prepare steps, again
whenever these change. Never in training, where the statistics are the batch's.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.ir.types import Element
from cnnc.passes.rewrite import Rewriter, reread


def fold_batchnorm(graph: Graph) -> Graph:
    """Conv or Linear [+ BiasAdd] + BatchNorm becomes Conv or Linear + BiasAdd with folded weights."""
    rewriter = Rewriter(graph)
    folded = {node.name: node for node in graph.walk() if refusal(rewriter, node) is None}
    absorbed = {part.name for node in folded.values() for part in _parts(graph, node)}
    for node in graph.walk():
        if node.name in folded:
            _fold(rewriter, node)
        elif node.name not in absorbed:
            rewriter.copy(node)
    return rewriter.done()


def refusal(rewriter: Rewriter, node: Node) -> str | None:
    """Why a node is no batch norm that folds; None if it is."""
    if not isinstance(node.op, ops.BatchNorm):
        return "not a batch norm"
    for part in _parts(rewriter.old, node):
        if rewriter.single_user(part.value()) is None:
            return f"{part.name} has other users"
    first = _parts(rewriter.old, node)[-1]
    if isinstance(first.op, ops.ConvDgrad):
        return f"{first.name} is transposed: the channels of its result are the last axis of its weight, not the first"
    return None if isinstance(first.op, ops.Conv | ops.Linear) else f"{first.name} has no weights to fold into"


def _parts(graph: Graph, node: Node) -> list[Node]:
    """The producers before a batch norm, nearest first: a bias if there is one, then what it follows."""
    producer = graph[node.operands[0].node]
    if isinstance(producer.op, ops.BiasAdd):
        return [producer, graph[producer.operands[0].node]]
    return [producer]


def _fold(rewriter: Rewriter, node: Node) -> None:
    assert isinstance(node.op, ops.BatchNorm)
    *biased, main = _parts(rewriter.old, node)
    gamma, beta, mean, var = (rewriter.get(value) for value in node.operands[1:])
    master = reread(rewriter, main.operands[1], "master", partial(replace, element=Element.ACC))
    weight = rewriter.add(f"{main.name}.folded_weight", ops.FoldScale(node.op.eps), [master, gamma, var], node)
    shift = [gamma, beta, mean, var] + [rewriter.get(part.operands[1]) for part in biased]
    bias = rewriter.add(f"{main.name}.folded_bias", ops.FoldShift(node.op.eps), shift, node)
    product = rewriter.add(main.name, main.op, [rewriter.get(main.operands[0]), weight.value()], main)
    added = rewriter.add(node.name, ops.BiasAdd(), [product.value(), bias.value()], node)
    rewriter.replace(Value(node.name), added.value())
