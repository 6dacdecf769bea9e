"""A checked program: what the frontend hands to everything behind it."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.ir import ops
from cnnc.ir.graph import Graph
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
    parameters have ``LxC``.
    """

    name: str
    graph: Graph
    input_shape: tuple[int, ...]
    train: TrainConfig
    source: Source
    sequence: bool = False
    heads: tuple[Head, ...] = ()

    def params(self) -> tuple[ParamSpec, ...]:
        """Parameters and buffers in program order."""
        return tuple(node.op.spec for node in self.graph.walk() if isinstance(node.op, ops.Parameter))
