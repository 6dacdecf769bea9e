"""Deterministic text of a graph, for golden tests and dumps."""

from __future__ import annotations

from cnnc.ir.graph import Graph, Node


def print_graph(graph: Graph) -> str:
    """One line per node in walk order: ``%name = op(%a, %b) attributes : types``, then the outputs."""
    lines = [f"graph {graph.name}"]
    lines.extend(f"  {_node(node)}" for node in graph.walk())
    lines.extend(f"  {name} = {value}" for name, value in graph.outputs.items())
    return "\n".join(lines) + "\n"


def _node(node: Node) -> str:
    operands = ", ".join(map(str, node.operands))
    types = ", ".join(map(str, node.types))
    attributes = node.op.attributes()
    return f"%{node.name} = {node.op.name}({operands}) {attributes}".rstrip() + f" : {types}"
