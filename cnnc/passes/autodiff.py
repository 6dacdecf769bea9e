"""Reverse-mode differentiation: adds the gradient of every trainable parameter to the graph."""

from __future__ import annotations

from collections.abc import Sequence

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.passes.gradients import operand_gradients
from cnnc.passes.rewrite import copied, spec_of
from cnnc.passes.site import Site


def autodiff(graph: Graph, seeds: Sequence[tuple[Value, Value]], *, dinput: bool = False) -> Graph:
    """The graph with the gradients of a scalar, given as pairs of a value and its gradient.

    Adds outputs ``grad:<parameter>`` (in the parameter's stored layout) and, with ``dinput``,
    ``dinput``. A value used several times gets the sum of its gradients; a parameter that the scalar does not
    depend on gets zeros.
    """
    new = copied(graph)
    needed = _needed(graph, dinput)
    gradients: dict[Value, Value] = {}
    for value, cotangent in seeds:
        _accumulate(new, graph[value.node], gradients, value, cotangent)
    for node in reversed(list(graph.walk())):
        wanted = tuple(value in needed for value in node.operands)
        if not any(wanted):
            continue
        dys = [gradients.get(node.value(index)) for index in range(len(node.types))]
        for value, gradient in zip(node.operands, operand_gradients(Site(new, node, wanted), dys), strict=True):
            if gradient is not None and value in needed:
                _accumulate(new, node, gradients, value, gradient)
    _name_outputs(new, graph, gradients, dinput)
    return new


def _name_outputs(new: Graph, graph: Graph, gradients: dict[Value, Value], dinput: bool) -> None:
    unreached: dict[str, Node] = {}
    for node in graph.walk():
        spec = spec_of(node)
        if node.value() in gradients and spec is not None:
            new.outputs[f"grad:{spec.name}"] = gradients[node.value()]
        elif dinput and node.name == "input":
            new.outputs["dinput"] = gradients[node.value()]
        elif spec is not None and spec.trainable:
            unreached[f"grad:{spec.name}"] = node
    for output, node in unreached.items():
        if output not in new.outputs:
            zeros = ops.Zeros(node.types[0].shape)
            name = new.fresh(f"{node.name}.zeros")
            new.outputs[output] = new.add(name, zeros, layer=node.layer, span=node.span).value()


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
