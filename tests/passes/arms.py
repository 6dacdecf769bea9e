"""Hand-written networks whose arms start from one value."""

from __future__ import annotations

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Value
from cnnc.ir.model import Model
from cnnc.ir.training import TrainConfig
from cnnc.passes.rewrite import Rewriter
from cnnc.source import Source
from tests.pointwise_network import WeightBuilder


class Arms(WeightBuilder):
    """Arms that start from one value and end in one concat."""

    def __init__(self, *shape: int) -> None:
        super().__init__(*shape)
        self.start = self.last
        self.ends: list[Value] = []

    def arm(self, name: str, filters: int, *followers: object, kernel: int = 1, stride: int = 1) -> Value:
        self.last = self.start
        self.conv(name, filters, kernel, stride)
        for follower in followers:
            if follower == "bias":
                self.bias(f"{name}.add_bias")
            elif isinstance(follower, float):
                self.norm(f"{name}.bn", follower)
            else:
                self.op(f"{name}.{follower}", ops.Activation(str(follower)))
        self.ends.append(self.last)
        return self.last

    def joined(self) -> Graph:
        self.last = self.ends[0]
        self.op("concat", ops.Concat(), *self.ends[1:])
        self.conv("tail", 3, 3, pad=1)
        return self.done()


def as_model(graph: Graph) -> Model:
    return Model("hand", graph, graph["input"].types[0].shape, TrainConfig(), Source("<test>", ""))


def with_scores(graph: Graph) -> Graph:
    """A vector at the end, for labels to index."""
    ended = Rewriter(graph)
    for node in graph.walk():
        ended.copy(node)
    new = ended.done()
    pooled = new.add("pool", ops.GlobalAvgPool(), [graph.outputs["output"]])
    new.outputs = {"output": pooled.value()}
    return new
