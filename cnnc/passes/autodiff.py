"""Reverse-mode differentiation: adds the gradient of every trainable parameter to the graph."""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.passes.gradients import GRADIENTS, Site
from cnnc.passes.rewrite import Rewriter, parameter_of


def autodiff(graph: Graph, seed: Value, cotangent: Value, *, dinput: bool = False) -> Graph:
    """The graph with the gradients of a scalar whose gradient at ``seed`` is ``cotangent``.

    Adds outputs ``grad:<parameter>`` (in the parameter's stored layout) and, with ``dinput``,
    ``dinput``. A value used several times gets the sum of its gradients.
    """
    rewriter = Rewriter(graph)
    for node in graph.walk():
        rewriter.copy(node)
    new = rewriter.done()
    needed = _needed(graph, dinput)
    gradients: dict[Value, Value] = {seed: cotangent}
    for node in reversed(list(graph.walk())):
        dy = gradients.get(node.value())
        if dy is None or not node.operands or node.op.__class__ not in GRADIENTS:
            continue
        wanted = tuple(value in needed for value in node.operands)
        if not any(wanted):
            continue
        site = Site(new, node, wanted)
        for value, gradient in zip(node.operands, GRADIENTS[type(node.op)](site, dy), strict=True):
            if gradient is not None and value in needed:
                _accumulate(new, node, gradients, value, gradient)
    for node in graph.walk():
        if node.value() in gradients and isinstance(node.op, ops.Parameter):
            new.outputs[f"grad:{parameter_of(graph, node.value()).spec.name}"] = gradients[node.value()]
        elif dinput and node.name == "input":
            new.outputs["dinput"] = gradients[node.value()]
    return new


def _accumulate(new: Graph, node: Node, gradients: dict[Value, Value], value: Value, gradient: Value) -> None:
    if value in gradients:
        name = new.fresh(f"{value.node}.accumulate")
        gradient = new.add(name, ops.Add(), [gradients[value], gradient], layer=node.layer, span=node.span).value()
    gradients[value] = gradient


def _needed(graph: Graph, dinput: bool) -> set[Value]:
    """Values on a path from a trainable parameter (or the input) onwards: those whose gradient matters."""
    needed: set[Value] = set()
    for node in graph.walk():
        trainable = isinstance(node.op, ops.Parameter) and node.op.spec.trainable
        if trainable or (dinput and node.name == "input") or any(value in needed for value in node.operands):
            needed.update(node.value(index) for index in range(len(node.types)))
    return needed
