"""Two products in one kernel: the second's operand is computed on the chip, block by block, where it is needed.

``relu(W1 x + b + skip)`` and the 1x1 that reads it (ResNet's expansion and the next block's reduction), or a 3x3 and
its expansion. A program of the second product computes each block of its operand's channels as a tile of the
first; what others read too, the first column of programs stores on the way. Every block of columns of the second
computes the first again, so that it pays where the second has few columns and both are bound by bytes.
"""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node
from cnnc.passes.groups import Group, Users, fused_op, is_convex, regrouped
from cnnc.passes.nests import ROW_SUMS
from cnnc.passes.roofline import Roofline

FIRST = (ops.Conv, ops.Linear)


def fuse_back_to_back(graph: Graph) -> Graph:
    """The pairs that save most become one kernel each; none is part of two."""
    users, roofline = graph.users(), Roofline(graph)
    found = []
    for node in graph.walk():
        pair = _pair(graph, node)
        if pair is None or refusal(graph, users, *pair) is not None:
            continue
        group = _group(graph, users, *pair)
        op, operands = fused_op(graph, group)
        before = roofline.cost(pair[0]).roofline_us + roofline.cost(pair[1]).roofline_us
        saved = before - roofline.kernel(op, operands, list(group.leaving)).roofline_us
        if saved > 0:
            found.append((saved, group))
    taken: set[str] = set()
    groups = []
    for _, group in sorted(found, key=lambda item: -item[0]):
        names = {member.name for member in group.nodes}
        if not names & taken:
            taken |= names
            groups.append(group)
    return regrouped(graph, groups) if groups else graph


def _pair(graph: Graph, second: Node) -> tuple[Node, Node] | None:
    """A pointwise product and what makes its operand."""
    part, inputs = _main(second)
    if not isinstance(part, ops.Linear) or inputs[0] >= len(second.operands):
        return None
    first = graph[second.operands[inputs[0]].node]
    return None if isinstance(first.op, ops.LEAVES) else (first, second)


def _main(node: Node) -> tuple[ops.Op, tuple[int, ...]]:
    """The op that shapes a node's kernel, and the numbers of its operands."""
    if isinstance(node.op, ops.Fused):
        part = node.op.parts[node.op.main]
        return part.op, part.operands
    return node.op, tuple(range(len(node.operands)))


def refusal(graph: Graph, users: Users, first: Node, second: Node) -> str | None:
    """Why a product can't compute what makes its operand on the way; None if it can."""
    anchor, _ = _main(first)
    if not isinstance(anchor, FIRST):
        return f"{first.name} is no product"
    if isinstance(anchor, ops.Conv) and anchor.groups > 1:
        return f"{first.name} has groups"
    parts = [part.op for part in first.op.parts] if isinstance(first.op, ops.Fused) else [first.op]
    if any(isinstance(part, (*tuple(ROW_SUMS), ops.Split, ops.MaxPool, ops.AvgPool, ops.SumPool)) for part in parts):
        return f"{first.name} gives more than one tile of its product"
    if isinstance(first.op, ops.Fused) and (first.op.main or len(first.types) > 1):
        return f"{first.name} computes other values on the way"
    if _reads(second, first.name) != 1:
        return f"{second.name} reads {first.name} twice"
    if first.types[0].shape[:-1] != second.types[0].shape[:-1]:
        return f"{second.name} has other pixels"
    if not is_convex(graph, users, (first.name, second.name)):
        return f"{second.name} also waits for another reader of {first.name}"
    return None


def _reads(node: Node, producer: str) -> int:
    """How often the parts of a node read values of another."""
    numbers = [number for number, value in enumerate(node.operands) if value.node == producer]
    if not isinstance(node.op, ops.Fused):
        return len(numbers)
    return sum(part.operands.count(number) for part in node.op.parts for number in numbers)


def _group(graph: Graph, users: Users, first: Node, second: Node) -> Group:
    """The pair; the first one's value leaves if anyone else reads it."""
    value = first.value()
    others = [node for node, _ in users.get(value, ()) if node.name != second.name]
    results = tuple(second.value(index) for index in range(len(second.types)))
    stored = (value,) if others or value in graph.outputs.values() else ()
    return Group((first, second), second.name, (*results, *stored))
