"""Building fused nodes: several nodes of a graph, fused ones among them, become one.

A value that leaves a group keeps its name where it is the last member's, and else is another output of the fused
node. Members that are read from outside although they do not leave stay beside the group: a cheap value may be
computed in every kernel that reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.ir.types import TensorType
from cnnc.passes.rewrite import Rewriter

Users = Mapping[Value, list[tuple[Node, int]]]


@dataclass(frozen=True)
class Group:
    """Nodes in the graph's order that become one; ``main`` is the one whose anchor shapes the kernel.

    ``leaving`` are the values that the kernel writes. A member that is read from outside and none of whose values
    leaves is copied into the group, and stays (see ``dead_code``). The group is named after its last member.
    """

    nodes: tuple[Node, ...]
    main: str
    leaving: tuple[Value, ...]

    @property
    def name(self) -> str:
        return self.nodes[-1].name


def anchor_of(op: ops.Op) -> ops.Op:
    """The op that shapes a kernel: of a fused body its main part's."""
    return op.anchor if isinstance(op, ops.Fused) else op


def left_by(rewriter: Rewriter, *nodes: Node) -> tuple[Value, ...]:
    """The results of nodes that anyone reads, or that are outputs."""
    found = [node.value(index) for node in nodes for index in range(len(node.types))]
    return tuple(value for value in found if value in rewriter.users or value in rewriter.outputs)


def parts_of(node: Node) -> tuple[tuple[ops.Part, ...], tuple[int, ...], int]:
    """A node's parts, the numbers of its results, and the place of its main part."""
    if isinstance(node.op, ops.Fused):
        return node.op.parts, node.op.results, node.op.main
    count = len(node.operands)
    part = ops.Part(node.name, node.op, tuple(range(count)), node.layer)
    return (part,), tuple(range(count, count + len(node.types))), 0


def main_of(graph: Graph, node: Node) -> tuple[ops.Part, tuple[TensorType, ...]]:
    """The part that shapes a node's kernel, and the types of all values of that kernel by number."""
    types = tuple(graph.type_of(value) for value in node.operands)
    parts, _, main = parts_of(node)
    return parts[main], node.op.value_types(types) if isinstance(node.op, ops.Fused) else (*types, *node.types)


def fused_op(graph: Graph, group: Group) -> tuple[ops.Fused, tuple[Value, ...]]:
    """The group as one op and the values that it reads."""
    inside = {node.value(index) for node in group.nodes for index in range(len(node.types))}
    read = [value for node in group.nodes for value in node.operands if value not in inside]
    operands = tuple(dict.fromkeys(read))
    numbers = {value: number for number, value in enumerate(operands)}
    parts: list[ops.Part] = []
    count, main = len(operands), 0
    for node in group.nodes:
        body, results, place = parts_of(node)
        if node.name == group.main:
            main = len(parts) + place
        local = {number: numbers[value] for number, value in enumerate(node.operands)}
        types = [graph.type_of(value) for value in node.operands]
        for part in body:
            made = part.op.infer(*(types[i] for i in part.operands))
            parts.append(ops.Part(part.name, part.op, tuple(local[i] for i in part.operands), part.layer))
            for kind in made:
                local[len(types)] = count
                types.append(kind)
                count += 1
        numbers.update({node.value(slot): local[number] for slot, number in enumerate(results)})
    return ops.Fused(tuple(parts), tuple(numbers[value] for value in group.leaving), main), operands


def is_convex(graph: Graph, users: Users, members: Iterable[str]) -> bool:
    """Whether no value goes from one member to another through a node outside: such a group could not be ordered."""
    inside = set(members)
    last = max(graph.position(name) for name in inside)
    seen: set[str] = set()
    border = list(inside)
    while border:
        name = border.pop()
        for index in range(len(graph[name].types)):
            for user, _ in users.get(Value(name, index), ()):
                if user.name in inside:
                    if name not in inside:
                        return False
                elif user.name not in seen and graph.position(user.name) < last:
                    seen.add(user.name)
                    border.append(user.name)
    return True


def regrouped(graph: Graph, groups: Sequence[Group]) -> Graph:
    """The graph with each group as one node. Groups are convex, and a node is a leaving member of one at most."""
    rewriter = Rewriter(graph)
    owner = {value.node: group for group in groups for value in group.leaving}
    owner |= {group.name: group for group in groups}
    done: set[str] = set()
    for node in graph.walk():
        _emit(rewriter, owner, node, done)
    return rewriter.done()


def _emit(rewriter: Rewriter, owner: Mapping[str, Group], node: Node, done: set[str]) -> None:
    """Add a node or its group, after everything that it reads. A stack, since chains are as long as networks."""
    graph = rewriter.old
    stack = [node]
    while stack:
        current = stack[-1]
        group = owner.get(current.name)
        name = group.name if group else current.name
        if name in done:
            stack.pop()
            continue
        op, operands = fused_op(graph, group) if group else (current.op, current.operands)
        waiting = [graph[value.node] for value in operands if not _is_done(owner, value.node, done)]
        if waiting:
            stack.extend(waiting)
            continue
        stack.pop()
        done.add(name)
        if group is None:
            rewriter.copy(current)
            continue
        main = graph[group.main]
        new = rewriter.new.add(
            name, op, [rewriter.get(value) for value in operands], layer=main.layer, span=main.span or current.span
        )
        for index, value in enumerate(group.leaving):
            rewriter.replace(value, new.value(index))


def _is_done(owner: Mapping[str, Group], name: str, done: set[str]) -> bool:
    return (owner[name].name if name in owner else name) in done
