"""The gradient of every op as ordinary ops: one table, read by ``autodiff``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Node, Value


@dataclass(frozen=True)
class Site:
    """Where a rule adds nodes: behind one forward node, whose layer and text they inherit."""

    graph: Graph
    node: Node
    wanted: tuple[bool, ...]  # by operand slot: whether anybody needs this gradient

    @property
    def op(self) -> Any:
        return self.node.op

    def image(self, slot: int) -> tuple[int, int]:
        """Height and width of an operand."""
        shape = self.graph.type_of(self.node.operands[slot]).shape
        return shape[0], shape[1]

    def add(self, suffix: str, op: ops.Op, *operands: Value) -> Node:
        name = self.graph.fresh(f"{self.node.name}.{suffix}")
        return self.graph.add(name, op, operands, layer=self.node.layer, span=self.node.span)

    def one(self, slot: int, suffix: str, op: ops.Op, *operands: Value) -> Value | None:
        """The gradient of one operand, made only if it is wanted."""
        return self.add(suffix, op, *operands).value() if self.wanted[slot] else None


Cotangents = Sequence[Value | None]
Rule = Callable[[Site, Value], Cotangents]


def _conv(site: Site, dy: Value) -> Cotangents:
    x, w = site.node.operands
    window, groups = site.op.window, site.op.groups
    return (
        site.one(0, "dgrad", ops.ConvDgrad(window, site.image(0), groups), dy, w),
        site.one(1, "wgrad", ops.ConvWgrad(window, groups), dy, x),
    )


def _linear(site: Site, dy: Value) -> Cotangents:
    x, w = site.node.operands
    return (site.one(0, "dgrad", ops.LinearDgrad(), dy, w), site.one(1, "wgrad", ops.LinearWgrad(), dy, x))


def _bias_add(site: Site, dy: Value) -> Cotangents:
    return dy, site.one(1, "sum", ops.ChannelSum(), dy)


def _activation(site: Site, dy: Value) -> Cotangents:
    return (site.one(0, "grad", ops.ActivationGrad(site.op.kind), dy, site.node.value()),)


def _add(site: Site, dy: Value) -> Cotangents:
    return dy, dy


def _dropout(site: Site, dy: Value) -> Cotangents:
    return (site.one(0, "grad", ops.Dropout(site.op.rate, site.op.stream), dy),)


def _max_pool(site: Site, dy: Value) -> Cotangents:
    return (site.one(0, "grad", ops.MaxPoolGrad(site.op.window, site.image(0)), dy, site.node.value(1)),)


def _avg_pool(site: Site, dy: Value) -> Cotangents:
    return (site.one(0, "grad", ops.AvgPoolGrad(site.op.window, site.image(0), site.op.count_pad), dy),)


def _sum_pool(site: Site, dy: Value) -> Cotangents:
    return (site.one(0, "grad", ops.SumPoolGrad(site.op.window, site.image(0)), dy),)


def _global_avg_pool(site: Site, dy: Value) -> Cotangents:
    return (site.one(0, "grad", ops.GlobalAvgPoolGrad(site.image(0)), dy),)


def _zero_pad(site: Site, dy: Value) -> Cotangents:
    top, _, left, _ = site.op.pad
    return (site.one(0, "grad", ops.Crop((top, left), site.image(0)), dy),)


def _crop(site: Site, dy: Value) -> Cotangents:
    (top, left), (height, width) = site.op.offset, site.op.size
    image = site.image(0)
    pad = (top, image[0] - height - top, left, image[1] - width - left)
    return (site.one(0, "grad", ops.ZeroPad(pad), dy),)


def _pad_shortcut(site: Site, dy: Value) -> Cotangents:
    channels = site.graph.type_of(site.node.operands[0]).shape[2]
    return (site.one(0, "grad", ops.PadShortcutGrad(site.op.stride, site.image(0), channels), dy),)


def _upsample(site: Site, dy: Value) -> Cotangents:
    return (site.one(0, "grad", ops.UpsampleGrad(site.op.factor, site.op.mode), dy),)


def _flatten(site: Site, dy: Value) -> Cotangents:
    height, width, channels = site.graph.type_of(site.node.operands[0]).shape
    return (site.one(0, "grad", ops.Unflatten((height, width, channels)), dy),)


def _unflatten(site: Site, dy: Value) -> Cotangents:
    return (site.one(0, "grad", ops.Flatten(), dy),)


def _softmax(site: Site, dy: Value) -> Cotangents:
    return (site.one(0, "grad", ops.SoftmaxGrad(), dy, site.node.value()),)


def _batch_norm_train(site: Site, dy: Value) -> Cotangents:
    x, gamma, _ = site.node.operands
    mean, var = site.node.value(1), site.node.value(2)
    grad = site.add("grad", ops.BatchNormGrad(site.op.eps), dy, x, mean, var, gamma)
    return grad.value(0), grad.value(1), grad.value(2)


# Gradients flow from output 0 alone: the other outputs (argmax, statistics) are for gradients to read.
GRADIENTS: dict[type[ops.Op], Rule] = {
    ops.Conv: _conv,
    ops.Linear: _linear,
    ops.BiasAdd: _bias_add,
    ops.Activation: _activation,
    ops.Add: _add,
    ops.Dropout: _dropout,
    ops.MaxPool: _max_pool,
    ops.AvgPool: _avg_pool,
    ops.SumPool: _sum_pool,
    ops.GlobalAvgPool: _global_avg_pool,
    ops.ZeroPad: _zero_pad,
    ops.Crop: _crop,
    ops.PadShortcut: _pad_shortcut,
    ops.Upsample: _upsample,
    ops.Flatten: _flatten,
    ops.Unflatten: _unflatten,
    ops.Softmax: _softmax,
    ops.BatchNormTrain: _batch_norm_train,
}

# Ops that no forward training graph differentiates through, each with the reason.
NOT_DIFFERENTIATED: dict[type[ops.Op], str] = {
    ops.ConvDgrad: "is a gradient itself",
    ops.ConvWgrad: "is a gradient itself",
    ops.LinearDgrad: "is a gradient itself",
    ops.LinearWgrad: "is a gradient itself",
    ops.MaxPoolGrad: "is a gradient itself",
    ops.AvgPoolGrad: "is a gradient itself",
    ops.SumPoolGrad: "is a gradient itself",
    ops.GlobalAvgPoolGrad: "is a gradient itself",
    ops.PadShortcutGrad: "is a gradient itself",
    ops.UpsampleGrad: "is a gradient itself",
    ops.ActivationGrad: "is a gradient itself",
    ops.SoftmaxGrad: "is a gradient itself",
    ops.ChannelSum: "is a gradient itself",
    ops.BatchNormGrad: "is a gradient itself",
    ops.BatchNormReduce: "is part of a gradient",
    ops.BatchNormInputGrad: "is part of a gradient",
    ops.BatchNormStats: "is made after autodiff, from BatchNormTrain",
    ops.BatchNormUpdate: "leads to running statistics, not to the loss",
    ops.BatchNorm: "is BatchNormTrain in training",
    ops.FoldScale: "is for inference",
    ops.FoldShift: "is for inference",
    ops.CrossEntropy: "gives the gradient as its second output, which seeds autodiff",
    ops.BatchMean: "only reports the loss",
}
