"""Kernels in the making: which nodes each one computes, what it reads and writes, and what that costs."""

from __future__ import annotations

from collections.abc import Iterable

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.ir.roofline import Cost
from cnnc.passes.groups import Group, fused_op
from cnnc.passes.roofline import Roofline

Key = tuple[tuple[str, ...], tuple[Value, ...]]  # of a group: its nodes and what leaves it


class Drafts:
    """One kernel for each node of a graph at first; then nodes join the kernels that read them.

    A kernel has the name of its last node. A node that joined all its readers has no kernel left, unless one of them
    stores its value: then that kernel makes it.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.roofline = Roofline(graph)
        self._outputs = frozenset(graph.outputs.values())
        users = graph.users()
        self._groups: dict[str, Group] = {}
        self._makers: dict[str, str] = {}  # the kernel that writes a node's values
        self._readers: dict[Value, dict[str, None]] = {}
        self._inputs = {node.name: node.operands for node in graph.walk()}  # of each kernel
        self._bodies: dict[Key, tuple[ops.Fused, tuple[Value, ...]]] = {}
        self._costs: dict[Key, Cost] = {}
        for node in graph.walk():
            values = [node.value(index) for index in range(len(node.types))]
            left = tuple(value for value in values if value in users or value in self._outputs)
            self._groups[node.name] = Group((node,), node.name, left or tuple(values))
            self._makers[node.name] = node.name
            for value in node.operands:
                self._readers.setdefault(value, {})[node.name] = None

    # -- reading ----------------------------------------------------------------------------------

    def group(self, name: str) -> Group:
        return self._groups[name]

    def body(self, name: str) -> tuple[ops.Fused, tuple[Value, ...]]:
        """A kernel as one op, and the values that it reads."""
        return self._body(self._groups[name])

    def readers(self, value: Value) -> tuple[str, ...]:
        """The kernels that load a value."""
        return tuple(self._readers.get(value, ()))

    def is_output(self, value: Value) -> bool:
        return value in self._outputs

    def leaves_more(self, node: Node) -> bool:
        """Whether a node's kernel writes values of other nodes, too."""
        return self._groups[node.name].leaving != (node.value(),)

    def stays(self, node: Node) -> bool:
        """Whether a node needs a kernel even if all that read it compute it for themselves."""
        return self.is_output(node.value()) or self.leaves_more(node)

    def cost(self, group: Group) -> Cost:
        """What one kernel moves and computes."""
        key = _key(group)
        if key not in self._costs:
            self._costs[key] = self._cost(group)
        return self._costs[key]

    def _cost(self, group: Group) -> Cost:
        if len(group.nodes) == 1:
            return self.roofline.cost(group.nodes[0])
        op, operands = self._body(group)
        return self.roofline.kernel(op, operands, list(group.leaving))

    def first_before(self, name: str, others: Iterable[str]) -> str | None:
        """One of the kernels that must run before ``name``; None if none of them must."""
        wanted = set(others)
        if not wanted:
            return None
        seen, border = {name}, [name]
        while border:
            for value in self._inputs[border.pop()]:
                maker = self._makers[value.node]
                if maker in wanted:
                    return maker
                if maker not in seen:
                    seen.add(maker)
                    border.append(maker)
        return None

    # -- joining ----------------------------------------------------------------------------------

    def joined(self, reader: str, node: Node) -> Group:
        """The reader's kernel with what computes a node, as far as that is not stored anyway."""
        group = self._groups[reader]
        members = {member.name: member for member in (*group.nodes, *self._needed(node))}
        return Group(
            tuple(sorted(members.values(), key=lambda member: self.graph.position(member.name))),
            group.main,
            group.leaving,
        )

    def _needed(self, node: Node) -> list[Node]:
        own = self._groups[node.name]
        members = {member.name: member for member in own.nodes}
        stored = set(own.leaving) - {node.value()}
        found, border = [], [node]
        while border:
            found.append(border.pop())
            for value in found[-1].operands:
                if value.node in members and value not in stored:
                    border.append(members[value.node])
        return found

    def apply(self, groups: Iterable[Group]) -> None:
        """Make kernels what they would be."""
        for group in groups:
            for value in self._inputs[group.name]:
                self._readers[value].pop(group.name, None)
            self._groups[group.name] = group
            self._inputs[group.name] = self._body(group)[1]
            for value in self._inputs[group.name]:
                self._readers.setdefault(value, {})[group.name] = None
            self._makers.update((value.node, group.name) for value in group.leaving)

    def drop(self, node: Node) -> None:
        """A node has no kernel of its own any more."""
        self._groups.pop(node.name)
        for value in self._inputs[node.name]:
            self._readers[value].pop(node.name, None)

    def changed(self) -> list[Group]:
        """Kernels of several nodes."""
        return [group for group in self._groups.values() if len(group.nodes) > 1]

    def _body(self, group: Group) -> tuple[ops.Fused, tuple[Value, ...]]:
        key = _key(group)
        if key not in self._bodies:
            self._bodies[key] = fused_op(self.graph, group)
        return self._bodies[key]


def _key(group: Group) -> Key:
    return tuple(node.name for node in group.nodes), group.leaving
