"""Inference or training: what dropout and batch normalisation mean in each."""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph
from cnnc.passes.rewrite import Rewriter, parameter_of


def inference_mode(graph: Graph) -> Graph:
    """Dropout is the identity; batch norm already reads the running statistics."""
    rewriter = Rewriter(graph)
    for node in graph.walk():
        if isinstance(node.op, ops.Dropout):
            rewriter.replace(node.value(), rewriter.get(node.operands[0]))
        else:
            rewriter.copy(node)
    return rewriter.done()


def training_mode(graph: Graph) -> Graph:
    """Batch norm takes the batch's statistics and updates the running ones (outputs ``state:<buffer>``)."""
    rewriter = Rewriter(graph)
    updates = {}
    for node in graph.walk():
        if not isinstance(node.op, ops.BatchNorm):
            rewriter.copy(node)
            continue
        x, gamma, beta, mean, var = (rewriter.get(value) for value in node.operands)
        trained = rewriter.add(node.name, ops.BatchNormTrain(node.op.eps), [x, gamma, beta], node)
        shape = node.types[0].shape
        pixels = shape[0] * shape[1] if len(shape) == 3 else 1
        update = ops.BatchNormUpdate(node.op.momentum, pixels)
        running = rewriter.add(f"{node.name}.update", update, [mean, var, trained.value(1), trained.value(2)], node)
        for index, value in enumerate(node.operands[3:]):
            updates[f"state:{parameter_of(graph, value).spec.name}"] = running.value(index)
    new = rewriter.done()
    new.outputs.update(updates)
    return new
