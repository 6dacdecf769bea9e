"""Why a kernel ends where it does: the sentence of the pass that would have taken the next op into it."""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value, finish, rebuild
from cnnc.passes import (
    fuse_back_to_back,
    fuse_lrn,
    fuse_pools,
    fuse_products,
    fuse_prologues,
    fuse_splits,
    fuse_windows,
)
from cnnc.passes.drafts import Drafts
from cnnc.passes.fuse import follower_of
from cnnc.passes.groups import anchor_of, parts_of
from cnnc.passes.places import Places
from cnnc.passes.prologues import is_elementwise
from cnnc.passes.rewrite import Rewriter
from cnnc.passes.roofline import Roofline

FUSION = "fuse_epilogues"


class WhyNot:
    """Asks fusion again about the end of each kernel of an optimised graph."""

    def __init__(self, graph: Graph, without: frozenset[str] = frozenset()) -> None:
        self._without = without
        self._kernel = {part: node.name for node in graph.walk() for part in _parts(node)}
        self._graph = graph
        self._fused = Rewriter(graph)
        self._roofline = Roofline(graph)
        places = Places(graph)
        self._views = {node.name for node in graph.walk() if places.is_view(node) and len(node.types) == 1}
        plain, self._values = unfused(graph)
        self._plain = Rewriter(plain)
        self._drafts = Drafts(graph)

    def reason(self, name: str) -> str:
        """One sentence about the kernel that computes a node; none where nothing reads its result."""
        return self._reason(name).replace("%", "")  # the sign of values in printed graphs

    def _reason(self, name: str) -> str:
        node = self._graph[name]
        plain = self._plain.old
        last = self._end(self._values.get(node.value(), node.value()))
        if last in plain.outputs.values():
            return f"{last} is an output"
        if last not in self._plain.users:
            return ""
        anchor = node.op.parts[node.op.main].name if isinstance(node.op, ops.Fused) else name
        later = self._later(node)
        if later is not None:
            return later
        follower = follower_of(self._plain, plain[anchor], plain[last.node])
        if isinstance(follower, str):
            return follower
        if FUSION in self._without:
            return f"{FUSION} was left out"
        return f"{follower.name} runs in the kernel of {self._kernel[follower.name]}"

    def _later(self, node: Node) -> str | None:
        """Why a kernel that reads this one's result did not take it in, if there is a pass that might have done it."""
        for user, _ in self._fused.users.get(node.value(), ()):
            if is_elementwise(node) and user.name in self._drafts.readers(node.value()):
                reason = fuse_prologues.refusal(self._drafts, node, user.name)
                return self._asked("fuse_prologues", reason or f"computing it in {user.name} would take longer")
            anchor = anchor_of(user.op)
            if isinstance(anchor, fuse_pools.POOLS):
                return self._asked("fuse_pools", fuse_pools.refusal(self._fused, self._roofline, user))
            if isinstance(anchor, ops.Lrn):
                return self._asked("fuse_lrn", fuse_lrn.refusal(self._fused, user))
            if isinstance(anchor, ops.Split):
                return self._asked("fuse_splits", fuse_splits.refusal(self._fused, self._roofline, user))
            if isinstance(anchor, fuse_products.PRODUCTS) and fuse_products.is_term(user, node.value()):
                return self._asked("fuse_products", fuse_products.refusal(self._fused, user, node.value()))
            if isinstance(anchor, fuse_windows.PRODUCTS) and fuse_windows.is_window(self._graph, node):
                return self._asked("fuse_windows", fuse_windows.refusal(self._fused, self._roofline, node))
            if isinstance(anchor, ops.Linear) and _is_left_factor(user, node.value()):
                reason = fuse_back_to_back.refusal(self._graph, self._fused.users, node, user)
                return self._asked(
                    "fuse_back_to_back", reason or f"with {user.name} it would gain nothing, or less than another pair"
                )
        return None

    def _asked(self, name: str, reason: str | None) -> str:
        if name in self._without:
            return f"{name} was left out"
        return reason or f"{name} takes it no further"

    def _end(self, value: Value) -> Value:
        """The first result of a kernel, or the view of it that all readers take."""
        while (user := self._plain.single_user(value)) is not None and user[0].name in self._views:
            value = user[0].value()
        return value


def unfused(graph: Graph) -> tuple[Graph, dict[Value, Value]]:
    """The graph with each fused body as its parts again, and the parts' values by the kernels'.

    What several kernels compute for themselves is there once.
    """
    new = rebuild(graph)
    mapping: dict[Value, Value] = {}
    for node in graph.walk():
        operands = [mapping.get(value, value) for value in node.operands]
        if not isinstance(node.op, ops.Fused):
            new.copy_node(node, operands, graph)
            continue
        values = list(operands)
        for part in node.op.parts:
            inputs = [values[i] for i in part.operands]
            known = part.name in new
            added = new[part.name] if known else new.add(part.name, part.op, inputs, layer=part.layer, span=node.span)
            values.extend(added.value(index) for index in range(len(added.types)))
        mapping.update({node.value(slot): values[i] for slot, i in enumerate(node.op.results)})
    return finish(new, graph, mapping), mapping


def _is_left_factor(node: Node, value: Value) -> bool:
    """Whether a kernel's product multiplies this very value."""
    parts, _, main = parts_of(node)
    number = parts[main].operands[0]
    return number < len(node.operands) and node.operands[number] == value


def _parts(node: Node) -> list[str]:
    return [part.name for part in node.op.parts] if isinstance(node.op, ops.Fused) else [node.name]
