"""The gradient of every op as ordinary ops: one table, read by ``autodiff``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cnnc.errors import CnnError
from cnnc.ir import ops
from cnnc.ir.graph import Value
from cnnc.passes.site import Site

Cotangents = Sequence[Value | None]
Rule = Callable[[Site, Value], Cotangents]
JointRule = Callable[[Site, Cotangents], Cotangents]


def _conv(site: Site, dy: Value) -> Cotangents:
    x, w = site.node.operands
    window, groups = site.op.window, site.op.groups
    return (
        site.one(0, "dgrad", ops.ConvDgrad(window, site.image(0), groups), dy, w),
        site.one(1, "wgrad", ops.ConvWgrad(window, groups), dy, x),
    )


def _conv_dgrad(site: Site, dy: Value) -> Cotangents:
    """A transposed convolution: linear in x as a convolution's gradient is in dy."""
    x, w = site.node.operands
    window, groups = site.op.window, site.op.groups
    return (
        site.one(0, "fprop", ops.Conv(window, groups), dy, w),
        site.one(1, "wgrad", ops.ConvWgrad(window, groups), x, dy),
    )


def _linear(site: Site, dy: Value) -> Cotangents:
    x, w = site.node.operands
    return (site.one(0, "dgrad", ops.LinearDgrad(), dy, w), site.one(1, "wgrad", ops.LinearWgrad(), dy, x))


def _rbf(site: Site, dy: Value) -> Cotangents:
    x, w = site.node.operands
    if site.wanted[1]:
        raise CnnError(f"layer {site.node.layer}: the codes of an RBF layer are fixed, they can't be trained")
    return site.one(0, "grad", ops.RbfGrad(), dy, x, w), None


def _bias_add(site: Site, dy: Value) -> Cotangents:
    return dy, site.one(1, "sum", ops.ChannelSum(), dy)


def _activation(site: Site, dy: Value) -> Cotangents:
    value = site.node.operands[0] if site.op.kind in ops.FROM_INPUT else site.node.value()
    return (site.one(0, "grad", ops.ActivationGrad(site.op.kind, site.op.alpha), dy, value),)


def _position_bias(site: Site, dy: Value) -> Cotangents:
    return dy, site.one(1, "sum", ops.BatchSum(), dy)


def _prelu(site: Site, dy: Value) -> Cotangents:
    x, slope = site.node.operands
    return site.one(0, "grad", ops.PReluGrad(), dy, x, slope), _channel_sum(site, ops.PReluSlopeGrad(), dy, x)


def _channel_scale(site: Site, dy: Value) -> Cotangents:
    x, factor = site.node.operands
    return site.one(0, "grad", ops.ChannelScale(), dy, factor), _channel_sum(site, ops.Mul(), dy, x)


def _channel_sum(site: Site, op: ops.Op, dy: Value, x: Value) -> Value | None:
    """The gradient of a parameter of the channels, in slot 1: the sum of an op's products of dy and x."""
    if not site.wanted[1]:
        return None
    return site.add("sum", ops.ChannelSum(), site.add("products", op, dy, x).value()).value()


def _identity(site: Site, dy: Value) -> Cotangents:
    return (dy,)


def _scale(site: Site, dy: Value) -> Cotangents:
    return (site.one(0, "grad", ops.Scale(site.op.factor), dy),)


def _mul(site: Site, dy: Value) -> Cotangents:
    a, b = site.node.operands
    return site.one(0, "grad", ops.Mul(), dy, b), site.one(1, "grad", ops.Mul(), dy, a)


def _mask_weight(site: Site, dw: Value) -> Cotangents:
    return site.one(0, "grad", ops.MaskWeight(), dw, site.node.operands[1]), None


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


def _concat(site: Site, dy: Value) -> Cotangents:
    gradients = []
    start = 0
    for slot, value in enumerate(site.node.operands):
        count = site.graph.type_of(value).shape[-1]
        gradients.append(site.one(slot, "slice", ops.ChannelSlice(start, count), dy))
        start += count
    return gradients


def _split(site: Site, dys: Cotangents) -> Cotangents:
    """The gradients of all parts side by side; that of a part which nothing depends on is zero."""
    if not site.wanted[0]:
        return (None,)
    parts = []
    for kind, dy in zip(site.node.types, dys, strict=True):
        parts.append(dy or site.add("zeros", ops.Zeros(kind.shape, True)).value())
    return (site.add("grad", ops.Concat(), *parts).value(),)


def _concat_rows(site: Site, dy: Value) -> Cotangents:
    gradients = []
    start = 0
    for slot, value in enumerate(site.node.operands):
        count = site.graph.type_of(value).shape[0]
        gradients.append(site.one(slot, "rows", ops.RowSlice(start, count), dy))
        start += count
    return gradients


def _channel_shuffle(site: Site, dy: Value) -> Cotangents:
    channels = site.graph.type_of(dy).shape[-1]
    return (site.one(0, "grad", ops.ChannelShuffle(channels // site.op.groups), dy),)


def _maxout(site: Site, dy: Value) -> Cotangents:
    return (site.one(0, "grad", ops.MaxoutGrad(site.op.pieces), dy, site.node.operands[0]),)


def _lrn(site: Site, dy: Value) -> Cotangents:
    op = site.op
    return (site.one(0, "grad", ops.LrnGrad(op.n, op.alpha, op.beta, op.k), dy, site.node.operands[0]),)


# Gradients flow from output 0 alone: the other outputs (argmax, statistics) are for gradients to read.
GRADIENTS: dict[type[ops.Op], Rule] = {
    ops.Conv: _conv,
    ops.ConvDgrad: _conv_dgrad,
    ops.Linear: _linear,
    ops.Rbf: _rbf,
    ops.BiasAdd: _bias_add,
    ops.Activation: _activation,
    ops.PositionBias: _position_bias,
    ops.PRelu: _prelu,
    ops.Identity: _identity,
    ops.Scale: _scale,
    ops.ChannelScale: _channel_scale,
    ops.Mul: _mul,
    ops.MaskWeight: _mask_weight,
    ops.Binarize: _identity,  # straight through (Hubara 2016)
    ops.ConcatRows: _concat_rows,
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
    ops.Concat: _concat,
    ops.ChannelShuffle: _channel_shuffle,
    ops.Maxout: _maxout,
    ops.Lrn: _lrn,
}

# Ops whose outputs are all differentiable: the rule gets the gradient of each, None where nothing depends on it.
JOINT_GRADIENTS: dict[type[ops.Op], JointRule] = {
    ops.Split: _split,
}

# Ops that no forward training graph differentiates through, each with the reason.
NOT_DIFFERENTIATED: dict[type[ops.Op], str] = {
    ops.ConvWgrad: "is a gradient itself",
    ops.LinearDgrad: "is a gradient itself",
    ops.LinearWgrad: "is a gradient itself",
    ops.RbfGrad: "is a gradient itself",
    ops.MaxPoolGrad: "is a gradient itself",
    ops.AvgPoolGrad: "is a gradient itself",
    ops.SumPoolGrad: "is a gradient itself",
    ops.GlobalAvgPoolGrad: "is a gradient itself",
    ops.PadShortcutGrad: "is a gradient itself",
    ops.UpsampleGrad: "is a gradient itself",
    ops.ActivationGrad: "is a gradient itself",
    ops.PReluGrad: "is a gradient itself",
    ops.PReluSlopeGrad: "is a gradient itself",
    ops.BatchSum: "is a gradient itself",
    ops.SoftmaxGrad: "is a gradient itself",
    ops.ChannelSum: "is a gradient itself",
    ops.ChannelSlice: "is a gradient itself",
    ops.RowSlice: "is a gradient itself, or of statistics, which lead to no loss",
    ops.MaxoutGrad: "is a gradient itself",
    ops.LrnGrad: "is a gradient itself",
    ops.BatchNormGrad: "is a gradient itself",
    ops.BatchNormReduce: "is part of a gradient",
    ops.BatchNormInputGrad: "is part of a gradient",
    ops.BatchNormScale: "is part of a gradient",
    ops.BatchNormCorrection: "is part of a gradient",
    ops.ChannelAffine: "is part of a gradient",
    ops.BatchNormStats: "is made after autodiff, from BatchNormTrain",
    ops.BatchNormUpdate: "leads to running statistics, not to the loss",
    ops.BatchNorm: "is BatchNormTrain in training",
    ops.FoldScale: "is for inference",
    ops.FoldShift: "is for inference",
    ops.CrossEntropy: "gives the gradient as its second output, which seeds autodiff",
    ops.BatchMean: "only reports the loss",
    ops.Zeros: "depends on nothing",
}


def operand_gradients(site: Site, dys: Cotangents) -> Cotangents:
    """Gradients of a node's operands from those of its outputs; all None where no gradient comes in."""
    joint = JOINT_GRADIENTS.get(type(site.op))
    if joint is not None and any(dys):
        return joint(site, dys)
    rule = GRADIENTS.get(type(site.op))
    if rule is not None and dys[0] is not None:
        return rule(site, dys[0])
    return (None,) * len(site.node.operands)
