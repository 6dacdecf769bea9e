"""Every output gets a value of its own, since the caller's arrays are separate pieces of memory."""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Value
from cnnc.passes.rewrite import copied


def separate_outputs(graph: Graph) -> Graph:
    """An output that is an input of the program, or another output too, becomes a copy."""
    values = list(graph.outputs.values())
    if len(set(values)) == len(values) and not any(isinstance(graph[value.node].op, ops.LEAVES) for value in values):
        return graph
    new = copied(graph)
    taken: set[Value] = set()
    for name, value in new.outputs.items():
        node = new[value.node]
        if isinstance(node.op, ops.LEAVES) or value in taken:
            copy = new.add(new.fresh(f"{node.name}.copy"), ops.Identity(), [value], layer=node.layer, span=node.span)
            new.outputs[name] = copy.value()
        taken.add(new.outputs[name])
    return new
