"""A checked program: what the frontend hands to everything behind it."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Value
from cnnc.ir.params import ParamSpec
from cnnc.ir.training import TrainConfig
from cnnc.source import Source


@dataclass(frozen=True)
class Head:
    """A training head: the output of its name in the graph, which inference drops, and its loss's weight."""

    name: str
    weight: float


@dataclass(frozen=True)
class Model:
    """Name, forward graph (input ``input``, outputs ``output`` and the heads'), and the train block.

    A ``sequence`` is a 1-D net: the graph has images ``Lx1xC`` where the program, its callers and its
    parameters have ``LxC``. ``input_shape`` is the graph's; ``shown`` gives the program's.
    """

    name: str
    graph: Graph
    input_shape: tuple[int, ...]
    train: TrainConfig
    source: Source
    sequence: bool = False
    heads: tuple[Head, ...] = ()

    def params(self) -> tuple[ParamSpec, ...]:
        """Parameters, buffers and constants in program order."""
        return tuple(node.op.spec for node in self.graph.walk() if isinstance(node.op, ops.Parameter))

    def listed(self) -> tuple[ParamSpec, ...]:
        """The parameters and buffers that users see: constants of ops left out."""
        return tuple(spec for spec in self.params() if spec.listed)

    def shown(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape of the graph as the program and its callers write it: ``LxC`` for the ``Lx1xC`` of a 1-D net."""
        return (shape[0], shape[2]) if self.sequence and len(shape) == 3 else shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one image's output, as the program writes it."""
        return self.shown(self.graph.type_of(self.graph.outputs["output"]).shape)

    @property
    def gives_distances(self) -> bool:
        """Whether the class is where the output is smallest, not largest."""
        return are_distances(self.graph, self.graph.outputs["output"])


def are_distances(graph: Graph, scores: Value) -> bool:
    """Whether scores of classes are distances to codes: the class is the nearest code's (LeNet-5)."""
    return isinstance(graph[scores.node].op, ops.Rbf)
