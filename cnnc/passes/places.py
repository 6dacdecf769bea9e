"""Which values lie in each other's memory, so that no kernel has to move them.

An operand of a concatenation is written straight into its slice of the result. A slice of channels is read where
it lies, and so is a pixel that is flattened to a vector. These nest: a dense block grows in one piece of memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.ir.params import Arena
from cnnc.ir.types import Element
from cnnc.passes.adjacent_rows import adjacent_rows

ROWS = (ops.ConcatRows, ops.RowSlice)
NO_PARAMS = Arena(())
VECTOR = 4  # statistics in 16 bytes: kernels load them so from the start of a vector
VIEWS = (ops.ChannelSlice, ops.Split, ops.Flatten, ops.Unflatten)  # their results can be part of their operand


@dataclass(frozen=True)
class Place:
    """The channels (of an array that is not batched, the elements) from ``first`` on of the memory of ``root``."""

    root: Value
    first: int = 0


class Places:
    """Where the values of a graph lie.

    A concatenation whose operands can't all lie in it is computed by a step, which copies them;
    ``place_concats`` makes copies of those that can't. ``params`` says which parameters lie together.
    """

    def __init__(self, graph: Graph, params: Arena = NO_PARAMS) -> None:
        self.graph = graph
        self._outputs = frozenset(graph.outputs.values())
        self._read = {*graph.users(), *self._outputs}
        self._inside: dict[Value, Place] = {}  # what each value lies in directly
        self._joined: dict[Value, str] = {}  # operands that lie in a concatenation
        self._steps: set[str] = set()  # concatenations and views that must be computed
        self._given_out = set(self._outputs)  # roots whose memory is the caller's
        for node in graph.walk():
            if isinstance(node.op, ops.Concat):
                self._join(node)
        for node in graph.walk():
            if isinstance(node.op, VIEWS):
                self._cut(node)
        for value, (root, first) in adjacent_rows(graph, params).items():
            self._inside[value] = Place(root, first)
        self._stacked: set[str] = set()  # arrays of rows whose parts are computed where they lie in it
        for node in graph.walk():
            if isinstance(node.op, ops.ConcatRows) and node.value() not in self._inside:
                self._stack(node)

    def of(self, value: Value) -> Place:
        """The place of a value; most are their own root."""
        first = 0
        while value in self._inside:
            place = self._inside[value]
            value, first = place.root, first + place.first
        return Place(value, first)

    def is_view(self, node: Node) -> bool:
        """Whether a node needs no step, since all that is read of it lies in its operands' memory, or they in its."""
        if isinstance(node.op, ROWS):
            value = node.value()
            return node.name in self._stacked or (value in self._inside and value not in self._joined)
        return isinstance(node.op, (ops.Concat, *VIEWS)) and node.name not in self._steps

    def is_computed(self, value: Value) -> bool:
        """Whether the step of the value's node writes it: not if it lies in the step's operand."""
        return value not in self._inside or value in self._joined

    def _join(self, node: Node) -> None:
        if any(refusal(self.graph, node, slot, self._joined) for slot in range(len(node.operands))):
            self._steps.add(node.name)
            return
        for value, first in zip(node.operands, starts(self.graph, node), strict=True):
            self._inside[value] = Place(node.value(), first)
            self._joined[value] = node.name

    def _stack(self, node: Node) -> None:
        """Statistics of a batch one behind the other: each is written to its place, if vectors may begin there."""
        firsts = row_starts(self.graph, node)
        for value, first in zip(node.operands, firsts, strict=True):
            if first % VECTOR or node.operands.count(value) > 1 or not self._is_free_statistic(value):
                return
        self._stacked.add(node.name)
        for value, first in zip(node.operands, firsts, strict=True):
            self._inside[value] = Place(node.value(), first)
            self._joined[value] = node.name

    def _is_free_statistic(self, value: Value) -> bool:
        """Whether a value is computed anew from each batch, in memory that is nobody else's."""
        kind, source = self.graph.type_of(value), self.graph[value.node]
        batch = any(self.graph.type_of(operand).batched for operand in source.operands)
        vector = kind.element is Element.ACC and len(kind.shape) == 1
        return vector and (batch or value.node in self._stacked) and value not in {*self._inside, *self._outputs}

    def _cut(self, node: Node) -> None:
        (source,) = node.operands
        for index, first in enumerate(_cuts(self.graph, node)):
            value = node.value(index)
            if value not in self._read:
                continue
            if first is None or value in self._joined or not self._may_share(node, value, source):
                self._steps.add(node.name)
            else:
                self._inside[value] = Place(source, first)

    def _may_share(self, node: Node, value: Value, source: Value) -> bool:
        """An output must be all of its memory, and that nobody else's; a parameter is in no one's but its own."""
        if not self.graph.type_of(source).batched:
            return False
        if value not in self._outputs:
            return True
        place = self.of(source)
        whole = self.graph.type_of(place.root).count == node.types[value.index].count
        if not whole or isinstance(self.graph[place.root.node].op, ops.LEAVES) or place.root in self._given_out:
            return False
        self._given_out.add(place.root)
        return True


def starts(graph: Graph, node: Node) -> list[int]:
    """The first channel of each operand in a concatenation."""
    result = [0]
    for value in node.operands[:-1]:
        result.append(result[-1] + graph.type_of(value).shape[-1])
    return result


def row_starts(graph: Graph, node: Node) -> list[int]:
    """The first element of each operand in arrays of rows below each other."""
    result = [0]
    for value in node.operands[:-1]:
        result.append(result[-1] + graph.type_of(value).count)
    return result


def _cuts(graph: Graph, node: Node) -> list[int | None]:
    """The first channel of each result in a view's operand; None where it is no part of it."""
    op = node.op
    if isinstance(op, ops.Split):
        return [sum(op.counts[:index]) for index in range(len(op.counts))]
    if isinstance(op, ops.ChannelSlice):
        return [op.start]
    image = node.types[0] if isinstance(op, ops.Unflatten) else graph.type_of(node.operands[0])
    return [0 if image.shape[:2] == (1, 1) else None]


def refusal(graph: Graph, node: Node, slot: int, taken: Mapping[Value, str]) -> str | None:
    """Why an operand can't be written into its slice of a concatenation; None if it can.

    ``taken`` are the values that lie in a concatenation, by its name.
    """
    value = node.operands[slot]
    kind, op = graph.type_of(value), graph[value.node].op
    if isinstance(op, ops.LEAVES):
        return f"{value} is given"
    if value in graph.outputs.values():
        return f"{value} is an output, and those are dense"
    if value in taken:
        return f"{value} lies in {taken[value]}"
    if value in node.operands[:slot]:
        return f"{value} is in it twice"
    if not kind.batched:
        return f"{value} is the same for all images"
    if kind.element is not node.types[0].element:
        return f"{value} has elements of another kind"
    return None
