"""Which function evaluates which op."""

from __future__ import annotations

from collections.abc import Callable

from cnnc.ir import ops
from cnnc.runtime.arrays import Array
from cnnc.runtime.oracle import conv, linear, loss, norm, pointwise, pool, space, weight

# op type -> f(op, operands, scalars) -> results
EVALUATE: dict[type[ops.Op], Callable[..., tuple[Array, ...]]] = {
    ops.Conv: conv.conv,
    ops.ConvDgrad: conv.conv_dgrad,
    ops.ConvWgrad: conv.conv_wgrad,
    ops.Linear: linear.linear,
    ops.LinearDgrad: linear.linear_dgrad,
    ops.LinearWgrad: linear.linear_wgrad,
    ops.MaxPool: pool.maxpool,
    ops.MaxPoolGrad: pool.maxpool_grad,
    ops.AvgPool: pool.avgpool,
    ops.AvgPoolGrad: pool.avgpool_grad,
    ops.SumPool: pool.sumpool,
    ops.SumPoolGrad: pool.sumpool_grad,
    ops.GlobalAvgPool: pool.global_avgpool,
    ops.GlobalAvgPoolGrad: pool.global_avgpool_grad,
    ops.ZeroPad: space.zero_pad,
    ops.Crop: space.crop,
    ops.PadShortcut: space.pad_shortcut,
    ops.PadShortcutGrad: space.pad_shortcut_grad,
    ops.Upsample: space.upsample,
    ops.UpsampleGrad: space.upsample_grad,
    ops.BatchNorm: norm.batch_norm,
    ops.BatchNormTrain: norm.batch_norm_train,
    ops.BatchNormGrad: norm.batch_norm_grad,
    ops.BatchNormStats: norm.batch_norm_stats,
    ops.BatchNormUpdate: norm.batch_norm_update,
    ops.BatchNormReduce: norm.batch_norm_reduce,
    ops.BatchNormInputGrad: norm.batch_norm_input_grad,
    ops.FoldScale: norm.fold_scale,
    ops.FoldShift: norm.fold_shift,
    ops.BiasAdd: pointwise.bias_add,
    ops.Activation: pointwise.activation,
    ops.ActivationGrad: pointwise.activation_grad,
    ops.PositionBias: pointwise.bias_add,
    ops.PRelu: pointwise.prelu,
    ops.PReluGrad: pointwise.prelu_grad,
    ops.PReluSlopeGrad: pointwise.prelu_slope_grad,
    ops.Identity: pointwise.identity,
    ops.Scale: pointwise.scale,
    ops.ChannelScale: pointwise.multiply,
    ops.Mul: pointwise.multiply,
    ops.MaskWeight: weight.mask_weight,
    ops.Binarize: weight.binarize,
    ops.Add: pointwise.add,
    ops.Dropout: pointwise.dropout,
    ops.Flatten: pointwise.flatten,
    ops.Unflatten: pointwise.unflatten,
    ops.Softmax: loss.softmax,
    ops.SoftmaxGrad: loss.softmax_grad,
    ops.CrossEntropy: loss.cross_entropy,
    ops.BatchMean: loss.batch_mean,
    ops.ChannelSum: loss.channel_sum,
    ops.BatchSum: loss.batch_sum,
    ops.SgdUpdate: loss.sgd_update,
    ops.CastArena: loss.cast_arena,
}
