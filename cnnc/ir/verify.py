"""The verifier: runs every shape rule again and checks that the graph is one."""

from __future__ import annotations

from cnnc.errors import ShapeError
from cnnc.ir.graph import Graph


class InvalidGraph(AssertionError):
    """A pass produced a graph that breaks a rule: a bug in cnnc, never in a program."""


def verify(graph: Graph, after: str = "") -> Graph:
    """Check a graph and return it.

    Raises:
        InvalidGraph: an operand is missing, a stored type differs from the inferred one, an output is unknown.
    """
    where = f" after {after}" if after else ""
    for node in graph.walk():
        for value in node.operands:
            if value.node not in graph or value.index >= len(graph[value.node].types):
                raise InvalidGraph(f"{node.name} reads {value}, which does not exist{where}")
        try:
            types = node.op.infer(*(graph.type_of(value) for value in node.operands))
        except ShapeError as error:
            raise InvalidGraph(f"{node.name}: {error}{where}") from error
        if types != node.types:
            raise InvalidGraph(f"{node.name} has types {node.types}, its op infers {types}{where}")
    for name, value in graph.outputs.items():
        if value.node not in graph:
            raise InvalidGraph(f"output {name} is {value}, which does not exist{where}")
    return graph
