"""The graph of a network: nodes are ops, edges carry values. The only module that touches networkx."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import networkx as nx

from cnnc.ir.ops.base import Op
from cnnc.ir.types import TensorType
from cnnc.source import Span


@dataclass(frozen=True, order=True)
class Value:
    """One output of one node."""

    node: str
    index: int = 0

    def __str__(self) -> str:
        return f"%{self.node}" + (f":{self.index}" if self.index else "")


@dataclass(frozen=True)
class Node:
    """An op at its place: operands by slot, output types, and the layer of the program it came from."""

    name: str
    op: Op
    operands: tuple[Value, ...]
    types: tuple[TensorType, ...]
    layer: str = ""
    span: Span | None = field(default=None, compare=False, repr=False)

    def value(self, index: int = 0) -> Value:
        return Value(self.name, index)


class Graph:
    """A directed acyclic multigraph of ops with named outputs.

    Edges are keyed by operand slot (``add(r, r)`` has two) and carry the producer's output index.
    Passes build a new graph; ``add`` is the only way in and infers types at once.
    """

    def __init__(self, name: str = "network") -> None:
        self.name = name
        self.outputs: dict[str, Value] = {}
        self._graph = nx.MultiDiGraph()
        self._positions: dict[str, int] = {}
        self._nodes: dict[str, Node] = {}  # in order of insertion; the graph's own views are slow to ask

    # -- building ---------------------------------------------------------------------------------

    def add(
        self, name: str, op: Op, operands: Sequence[Value] = (), *, layer: str = "", span: Span | None = None
    ) -> Node:
        """Add a node; its types come from the op's shape rule.

        Raises:
            ShapeError: the operands do not fit the op.
            ValueError: the name is taken or an operand is unknown (a bug in the caller).
        """
        if name in self._nodes:
            raise ValueError(f"a node named {name} exists")
        types = op.infer(*(self.type_of(value) for value in operands))
        return self._insert(Node(name, op, tuple(operands), types, layer, span))

    def copy_node(self, node: Node, operands: Sequence[Value], old: Graph) -> Node:
        """Add a node of another graph under its own name, reading these operands.

        Where their types are the old ones, the node's are too, and nothing is inferred.
        """
        same = all(self.type_of(new) == old.type_of(value) for new, value in zip(operands, node.operands, strict=True))
        if not same or node.name in self._nodes:
            return self.add(node.name, node.op, operands, layer=node.layer, span=node.span)
        return self._insert(Node(node.name, node.op, tuple(operands), node.types, node.layer, node.span))

    def _insert(self, node: Node) -> Node:
        self._nodes[node.name] = node
        self._graph.add_node(node.name, node=node)
        for slot, value in enumerate(node.operands):
            self._graph.add_edge(value.node, node.name, key=slot, index=value.index)
        return node

    def fresh(self, name: str) -> str:
        """The name itself if it is free, else with a counter."""
        candidate, count = name, 1
        while candidate in self._nodes:
            count += 1
            candidate = f"{name}.{count}"
        return candidate

    # -- reading ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def type_of(self, value: Value) -> TensorType:
        found = self._nodes.get(value.node)
        if found is None:
            raise ValueError(f"no node named {value.node}")
        return found.types[value.index]

    def position(self, name: str) -> int:
        """Where a node stands in the order of ``walk``."""
        if len(self._positions) != len(self._nodes):
            self._positions = {node: place for place, node in enumerate(self._nodes)}
        return self._positions[name]

    def walk(self) -> Iterator[Node]:
        """Nodes in the order of insertion, which is topological: operands exist before what reads them."""
        yield from self._nodes.values()

    def users(self) -> dict[Value, list[tuple[Node, int]]]:
        """For each value, the nodes and operand slots that read it; named outputs not counted."""
        result: dict[Value, list[tuple[Node, int]]] = {}
        for node in self.walk():
            for slot, value in enumerate(node.operands):
                result.setdefault(value, []).append((node, slot))
        return result

    def live(self) -> set[str]:
        """Names of nodes that an output depends on."""
        reached = {value.node for value in self.outputs.values()}
        for node in reversed(list(self.walk())):
            if node.name in reached:
                reached.update(value.node for value in node.operands)
        return reached

    def networkx(self) -> nx.MultiDiGraph:
        """A read-only view: node attribute ``node``; edge key = operand slot, attribute ``index``."""
        return self._graph.copy(as_view=True)


def rebuild(graph: Graph) -> Graph:
    """An empty graph with the same name, for a pass to fill."""
    return Graph(graph.name)


def finish(new: Graph, old: Graph, mapping: Mapping[Value, Value]) -> Graph:
    """Set the new graph's outputs to where the old ones went; values not in ``mapping`` kept their name."""
    new.outputs = {name: mapping.get(value, value) for name, value in old.outputs.items()}
    return new
