"""Drops nodes that no output depends on."""

from __future__ import annotations

from cnnc.ir.graph import Graph
from cnnc.passes.rewrite import Rewriter


def dead_code(graph: Graph) -> Graph:
    """Only live nodes, in the same order; inputs stay, since the caller gives them."""
    live = graph.live()
    if all(node.name in live or node.name == "input" for node in graph.walk()):
        return graph
    rewriter = Rewriter(graph)
    for node in graph.walk():
        if node.name in live or node.name == "input":
            rewriter.copy(node)
    return rewriter.done()
