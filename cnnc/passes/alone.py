"""Every op alone: what a run costs with one kernel for each op, as frameworks without a compiler run it.

The bias of a product and a constant factor behind it are part of it, the running statistics part of the batch's. A
concatenation copies its operands; slices are read where they lie. For reports: such a graph is counted, never run.
"""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node
from cnnc.passes.rewrite import Rewriter

PRODUCTS = (ops.Conv, ops.ConvDgrad, ops.Linear)
# What belongs to the op before it.
BELONGS: dict[type[ops.Op], tuple[type[ops.Op], ...]] = {
    ops.BiasAdd: PRODUCTS,
    ops.Scale: (*PRODUCTS, ops.BiasAdd),
    ops.BatchNormUpdate: (ops.BatchNormStats,),
}


def alone(graph: Graph) -> Graph:
    """A graph whose optional passes were left out, with one node for each kernel."""
    rewriter = Rewriter(graph)
    groups = _groups(rewriter)
    absorbed = {node.name for group in groups.values() for node in group[1:]}
    for node in graph.walk():
        if isinstance(node.op, ops.LEAVES):
            rewriter.copy(node)  # all of them first: a later op's operands must be there with the earlier op
    for node in graph.walk():
        if isinstance(node.op, ops.LEAVES) or node.name in absorbed:
            continue
        # Plans lay a concatenation out in place, but not inside a body.
        if len(groups[node.name]) > 1 or isinstance(node.op, ops.Concat):
            _as_one(rewriter, groups[node.name])
        else:
            rewriter.copy(node)
    return rewriter.done()


def _groups(rewriter: Rewriter) -> dict[str, list[Node]]:
    """For each op its own group, or the one it belongs to, whose first node says where it stands."""
    groups: dict[str, list[Node]] = {}
    for node in rewriter.old.walk():
        owner = _owner(rewriter, node)
        if owner is None:
            groups[node.name] = [node]
        else:
            groups[node.name] = groups[owner.name]
            groups[node.name].append(node)
    return groups


def _owner(rewriter: Rewriter, node: Node) -> Node | None:
    """The op that a node belongs to."""
    for value in node.operands:
        producer = rewriter.old[value.node]
        if isinstance(producer.op, BELONGS.get(type(node.op), ())):
            return producer if isinstance(producer.op, ops.BatchNormStats) or rewriter.single_user(value) else None
    return None


def _as_one(rewriter: Rewriter, nodes: list[Node]) -> None:
    """Nodes as one kernel that gives what of their results is read elsewhere."""
    inside = {node.name for node in nodes}
    made = [node.value(index) for node in nodes for index in range(len(node.types))]
    operands = list(dict.fromkeys(value for node in nodes for value in node.operands if value.node not in inside))
    numbers = {value: number for number, value in enumerate([*operands, *made])}
    outputs = set(rewriter.old.outputs.values())
    left = [
        value
        for value in made
        if value in outputs or any(user.name not in inside for user, _ in rewriter.users.get(value, []))
    ]
    parts = [ops.Part(node.name, node.op, tuple(map(numbers.__getitem__, node.operands)), node.layer) for node in nodes]
    body = ops.Fused(tuple(parts), tuple(numbers[value] for value in left))
    one = rewriter.add(nodes[0].name, body, [rewriter.get(value) for value in operands], nodes[0])
    for index, value in enumerate(left):
        rewriter.replace(value, one.value(index))
