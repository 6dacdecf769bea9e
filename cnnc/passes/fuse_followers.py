"""Element-wise ops behind kernels that sum what they make.

``fuse_epilogues`` stops at a value with two readers. Where all but one of them were sums over rows, which now run in
the value's own kernel, the last one can follow on the tile as well, and the value itself need not leave.
"""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.passes.epilogues import TILE_PARTS
from cnnc.passes.fuse_reductions import WALKING
from cnnc.passes.groups import Group, Users, anchor_of, is_convex, parts_of, regrouped
from cnnc.passes.nests import ROW_SUMS, tile_shape


def fuse_followers(graph: Graph) -> Graph:
    """One reader of a tile joins the kernel of each summing one."""
    users = graph.users()
    groups, taken = [], set()
    for node in graph.walk():
        for value in _tiles(node):
            readers = users.get(value, [])
            if len(readers) != 1 or value in graph.outputs.values():
                continue
            follower = readers[0][0]
            if follower.name in taken or node.name in taken or refusal(graph, users, node, follower, value):
                continue
            taken |= {node.name, follower.name}
            groups.append(_group(node, follower, value))
    return regrouped(graph, groups) if groups else graph


def refusal(graph: Graph, users: Users, node: Node, follower: Node, value: Value) -> str | None:
    """Why a reader of a summing kernel's tile does not follow in that kernel; None if it does."""
    parts, _, _ = parts_of(follower)
    if not all(isinstance(part.op, TILE_PARTS) for part in parts):
        return f"{follower.name} needs more than one element of its operands"
    types = tuple(graph.type_of(operand) for operand in node.operands)
    if {kind.shape for kind in follower.types} != {tile_shape(node.op, types)}:
        return f"{follower.name} has another shape"
    if any(operand.node == node.name and operand != value for operand in follower.operands):
        return f"{follower.name} needs the sums"
    if not is_convex(graph, users, (node.name, follower.name)):
        return f"{follower.name} waits for what others make of {value}"
    return None


def _tiles(node: Node) -> list[Value]:
    """The tiles that leave a kernel which also sums over rows."""
    if not isinstance(node.op, ops.Fused) or not isinstance(anchor_of(node.op), WALKING):
        return []
    if not any(type(part.op) in ROW_SUMS for part in node.op.parts):
        return []
    return [node.value(index) for index, kind in enumerate(node.types) if kind.batched]


def _group(node: Node, follower: Node, value: Value) -> Group:
    values = [node.value(index) for index in range(len(node.types))]
    made = [follower.value(index) for index in range(len(follower.types))]
    return Group((node, follower), node.name, (*(one for one in values if one != value), *made))
