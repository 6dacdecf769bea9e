"""Why a kernel ends where it does: the sentence of the pass that would have taken the next op into it."""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value, finish, rebuild
from cnnc.passes.fuse import follower_of
from cnnc.passes.places import Places
from cnnc.passes.rewrite import Rewriter

FUSION = "fuse_epilogues"


class WhyNot:
    """Asks fusion again about the end of each kernel of an optimised graph."""

    def __init__(self, graph: Graph, without: frozenset[str] = frozenset()) -> None:
        self._without = without
        self._kernel = {part: node.name for node in graph.walk() for part in _parts(node)}
        self._graph = graph
        places = Places(graph)
        self._views = {node.name for node in graph.walk() if places.is_view(node) and len(node.types) == 1}
        self._plain = Rewriter(unfused(graph))

    def reason(self, name: str) -> str:
        """One sentence about the kernel that computes a node; none where nothing reads its result."""
        return self._reason(name).replace("%", "")  # the sign of values in printed graphs

    def _reason(self, name: str) -> str:
        node = self._graph[name]
        plain = self._plain.old
        last = self._end(_parts(node)[-1])
        if last in plain.outputs.values():
            return f"{last} is an output"
        if last not in self._plain.users:
            return ""
        anchor = node.op.parts[node.op.main].name if isinstance(node.op, ops.Fused) else name
        follower = follower_of(self._plain, plain[anchor], plain[last.node])
        if isinstance(follower, str):
            return follower
        if FUSION in self._without:
            return f"{FUSION} was left out"
        return f"{follower.name} runs in the kernel of {self._kernel[follower.name]}"

    def _end(self, part: str) -> Value:
        """The result of a kernel's last op, or the view of it that all readers take."""
        value = Value(part)
        while (user := self._plain.single_user(value)) is not None and user[0].name in self._views:
            value = user[0].value()
        return value


def unfused(graph: Graph) -> Graph:
    """The graph with each fused body as its parts again."""
    new = rebuild(graph)
    mapping: dict[Value, Value] = {}
    for node in graph.walk():
        operands = [mapping.get(value, value) for value in node.operands]
        if not isinstance(node.op, ops.Fused):
            new.copy_node(node, operands, graph)
            continue
        values = list(operands)
        for part in node.op.parts:
            added = new.add(part.name, part.op, [values[i] for i in part.operands], layer=part.layer, span=node.span)
            values.extend(added.value(index) for index in range(len(added.types)))
        mapping.update({node.value(slot): values[i] for slot, i in enumerate(node.op.results)})
    return finish(new, graph, mapping)


def _parts(node: Node) -> list[str]:
    return [part.name for part in node.op.parts] if isinstance(node.op, ops.Fused) else [node.name]
