"""Which binder runs which op, and which operands a result may be written over."""

from __future__ import annotations

from collections.abc import Callable

from cnnc.ir import ops
from cnnc.runtime.cpu import arena, conv, linear, loss, norm, pointwise, pool, space
from cnnc.runtime.cpu.operand import Run

# op type -> bind(op, operands, results, scratch) -> what each run does
BIND: dict[type[ops.Op], Callable[..., Run]] = {
    ops.Conv: conv.bind_conv,
    ops.ConvDgrad: conv.bind_conv_dgrad,
    ops.ConvWgrad: conv.bind_conv_wgrad,
    ops.Linear: linear.bind_linear,
    ops.LinearDgrad: linear.bind_linear_dgrad,
    ops.LinearWgrad: linear.bind_linear_wgrad,
    ops.MaxPool: pool.bind_maxpool,
    ops.MaxPoolGrad: pool.bind_maxpool_grad,
    ops.AvgPool: pool.bind_sum_or_avgpool,
    ops.AvgPoolGrad: pool.bind_sum_or_avgpool_grad,
    ops.SumPool: pool.bind_sum_or_avgpool,
    ops.SumPoolGrad: pool.bind_sum_or_avgpool_grad,
    ops.GlobalAvgPool: pool.bind_global_avgpool,
    ops.GlobalAvgPoolGrad: pool.bind_global_avgpool_grad,
    ops.ZeroPad: space.bind_zero_pad,
    ops.Crop: space.bind_crop,
    ops.PadShortcut: space.bind_pad_shortcut,
    ops.PadShortcutGrad: space.bind_pad_shortcut_grad,
    ops.Upsample: space.bind_upsample,
    ops.UpsampleGrad: space.bind_upsample_grad,
    ops.BatchNorm: norm.bind_batch_norm,
    ops.BatchNormStats: norm.bind_stats,
    ops.BatchNormUpdate: norm.bind_update,
    ops.BatchNormReduce: norm.bind_reduce,
    ops.BatchNormInputGrad: norm.bind_input_grad,
    ops.FoldScale: norm.bind_fold_scale,
    ops.FoldShift: norm.bind_fold_shift,
    ops.BiasAdd: pointwise.bind_bias_add,
    ops.Activation: pointwise.bind_activation,
    ops.ActivationGrad: pointwise.bind_activation_grad,
    ops.Add: pointwise.bind_add,
    ops.Dropout: pointwise.bind_dropout,
    ops.Flatten: pointwise.bind_flatten,
    ops.Unflatten: pointwise.bind_unflatten,
    ops.Softmax: loss.bind_softmax,
    ops.SoftmaxGrad: loss.bind_softmax_grad,
    ops.CrossEntropy: loss.bind_cross_entropy,
    ops.BatchMean: loss.bind_batch_mean,
    ops.ChannelSum: loss.bind_channel_sum,
    ops.SgdUpdate: arena.bind_sgd_update,
    ops.CastArena: arena.bind_cast_arena,
}

# Operand slots whose memory the (first) result may reuse: the op reads each element before it writes it.
IN_PLACE: dict[type[ops.Op], tuple[int, ...]] = {
    ops.BiasAdd: (0,),
    ops.Activation: (0,),
    ops.ActivationGrad: (0,),
    ops.Add: (0, 1),
    ops.BatchNorm: (0,),
    ops.Dropout: (0,),
    ops.Softmax: (0,),
}
