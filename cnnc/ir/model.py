"""A checked program: what the frontend hands to everything behind it."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.ir import ops
from cnnc.ir.graph import Graph
from cnnc.ir.params import ParamSpec
from cnnc.ir.training import TrainConfig
from cnnc.source import Source


@dataclass(frozen=True)
class Model:
    """Name, forward graph (input ``input``, output ``output``), and the train block."""

    name: str
    graph: Graph
    input_shape: tuple[int, ...]
    train: TrainConfig
    source: Source

    def params(self) -> tuple[ParamSpec, ...]:
        """Parameters and buffers in program order."""
        return tuple(node.op.spec for node in self.graph.walk() if isinstance(node.op, ops.Parameter))
