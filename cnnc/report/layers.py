"""A graph as people read it: its layers, each with its kind and the nodes that are computed for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value
from cnnc.ir.model import Model

# What a layer is: the first of these that is among its nodes. Products come first, then what has a window, then
# what merges or moves, and last what only follows something else.
OP_NAMES: dict[type[ops.Op], str] = {
    ops.Conv: "conv",
    ops.ConvDgrad: "deconv",
    ops.Linear: "dense",
    ops.Rbf: "rbf",
    ops.MaxPool: "pool",
    ops.AvgPool: "pool",
    ops.SumPool: "pool",
    ops.GlobalAvgPool: "global_avg_pool",
    ops.BatchNorm: "batch_norm",
    ops.Lrn: "lrn",
    ops.Concat: "concat",
    ops.Add: "add",
    ops.Mul: "mul",
    ops.PadShortcut: "pad_shortcut",
    ops.Maxout: "maxout",
    ops.Crop: "crop",
    ops.ZeroPad: "zero_pad",
    ops.Upsample: "upsample",
    ops.ChannelShuffle: "channel_shuffle",
    ops.ChannelSlice: "channel_slice",
    ops.Flatten: "flatten",
    ops.Unflatten: "unflatten",
    ops.Dropout: "dropout",
    ops.PRelu: "activation",
    ops.Softmax: "activation",
    ops.Activation: "activation",
    ops.PositionBias: "bias",
    ops.BiasAdd: "bias",
    ops.ChannelScale: "scale",
    ops.Scale: "scale",
    ops.Identity: "identity",
}
_RANK = {kind: rank for rank, kind in enumerate(OP_NAMES)}

# Ops whose outputs are stored; all others work in place (the rule of VGG's memory table).
STORED: tuple[type[ops.Op], ...] = (
    ops.Conv,
    ops.ConvDgrad,
    ops.Linear,
    ops.Rbf,
    ops.MaxPool,
    ops.AvgPool,
    ops.SumPool,
    ops.GlobalAvgPool,
)

LOCAL_CONTRAST = "lcn"


@dataclass(frozen=True)
class Layer:
    """One layer of the program: its kind, its parameters, and the nodes computed for it in order."""

    name: str
    op: str
    parameters: tuple[Node, ...]
    computed: tuple[Node, ...]

    @property
    def main(self) -> Node:
        """The node the layer is named for."""
        return min(self.computed, key=_rank)

    @property
    def output(self) -> Value:
        return self.computed[-1].value()


def layers_of(model: Model, *, train: bool = False) -> tuple[Layer, ...]:
    """Layers in program order; what only a training head needs is among them with ``train`` alone."""
    left_out = set() if train else needed_by_heads_alone(model)
    found: dict[str, list[Node]] = {}
    for node in model.graph.walk():
        if not isinstance(node.op, ops.Input) and node.name not in left_out:
            found.setdefault(node.layer, []).append(node)
    return tuple(_layer(name, nodes, model) for name, nodes in found.items())


def needed_by_heads_alone(model: Model) -> set[str]:
    """Nodes that a training head depends on and the network's own output does not."""
    heads = ancestors(model.graph, (model.graph.outputs[head.name] for head in model.heads))
    return heads - ancestors(model.graph, [model.graph.outputs["output"]]) if heads else heads


def ancestors(graph: Graph, values: Iterable[Value]) -> set[str]:
    """Nodes that these values depend on, their own among them."""
    waiting = [value.node for value in values]
    reached = set(waiting)
    while waiting:
        for operand in graph[waiting.pop()].operands:
            if operand.node not in reached:
                reached.add(operand.node)
                waiting.append(operand.node)
    return reached


def is_constant(node: Node) -> bool:
    """Whether a node holds an op's own constant (a mask, a window), which no count lists."""
    return isinstance(node.op, ops.Parameter) and not node.op.spec.listed


def _layer(name: str, nodes: list[Node], model: Model) -> Layer:
    parameters = tuple(node for node in nodes if isinstance(node.op, ops.Parameter))
    computed = tuple(node for node in nodes if not isinstance(node.op, ops.Parameter))
    return Layer(name, _name(parameters, computed, model), parameters, computed)


def _name(parameters: tuple[Node, ...], computed: tuple[Node, ...], model: Model) -> str:
    kinds = {type(node.op) for node in computed}
    # Both are made of ops that mean something else on their own.
    if any(is_constant(node) and node.op.spec.init.kind == "gaussian" for node in parameters):  # type: ignore[attr-defined]
        return LOCAL_CONTRAST
    if {ops.SumPool, ops.ChannelScale} <= kinds:
        return "subsample"
    main = min(computed, key=_rank).op
    op = OP_NAMES.get(type(main), main.name)
    return "conv1d" if op == "conv" and model.sequence else op


def _rank(node: Node) -> int:
    return _RANK.get(type(node.op), len(_RANK))
