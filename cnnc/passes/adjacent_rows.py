"""Rows of several layers as one array without copies, where their parameters lie together in the arena.

``ConcatRows`` of such parameters is the memory that they lie in already. A merged product's gradient is written
straight to where the optimiser reads it, and the ``RowSlice`` of each parameter is a part of that. Slices of other
values (the batch's statistics) are read where they are, if vector loads can begin there.
"""

from __future__ import annotations

import math

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.ir.params import ROW_ELEMENTS, Arena
from cnnc.passes.rewrite import spec_of

Inside = dict[Value, tuple[Value, int]]


def adjacent_rows(graph: Graph, params: Arena) -> Inside:
    """Values that lie in another's memory: which one's, and how many of its elements are before them."""
    found: Inside = {}
    slices: dict[Value, list[Node]] = {}
    for node in graph.walk():
        if isinstance(node.op, ops.ConcatRows) and _lies_together(graph, node, params):
            found[node.value()] = node.operands[0], 0
        elif isinstance(node.op, ops.RowSlice):
            slices.setdefault(node.operands[0], []).append(node)
    names = {value: name.removeprefix("grad:") for name, value in graph.outputs.items() if name.startswith("grad:")}
    outputs = {*graph.outputs.values()}
    for source, nodes in slices.items():
        nodes.sort(key=_start)
        row = math.prod(graph.type_of(source).shape[1:])
        wanted = [names.get(node.value(), "") for node in nodes]
        whole = all(wanted) and params.adjacent(wanted) and _is_whole(graph, source, nodes)
        computed = not isinstance(graph[source.node].op, (*ops.LEAVES, ops.ConcatRows, ops.RowSlice))
        for node in nodes:
            first = _start(node) * row
            inner = node.value() not in outputs and source not in outputs and first % ROW_ELEMENTS == 0
            if computed and (whole or inner):
                found[node.value()] = source, first
    return found


def _lies_together(graph: Graph, node: Node, params: Arena) -> bool:
    specs = [spec_of(graph[value.node]) for value in node.operands]
    names = [spec.name for spec in specs if spec is not None and spec.trainable]
    return len(names) == len(specs) and params.adjacent(names) and node.value() not in graph.outputs.values()


def _is_whole(graph: Graph, source: Value, slices: list[Node]) -> bool:
    """Whether the slices are all of an array that is nobody else's memory."""
    end = 0
    for node in slices:
        if _start(node) != end:
            return False
        end += node.types[0].shape[0]
    return end == graph.type_of(source).shape[0] and source not in graph.outputs.values()


def _start(node: Node) -> int:
    assert isinstance(node.op, ops.RowSlice)
    return node.op.start
