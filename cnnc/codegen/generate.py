"""Plan -> one module of Triton kernels and its launch tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cnnc.codegen.batch_sum import emit_batch_sum
from cnnc.codegen.channel import (
    emit_channel_shuffle,
    emit_channel_slice,
    emit_concat,
    emit_maxout,
    emit_maxout_grad,
    emit_split,
)
from cnnc.codegen.context import Context
from cnnc.codegen.depthwise import emit_depthwise_wgrad
from cnnc.codegen.group import emit_group
from cnnc.codegen.kernel_texts import KernelTexts
from cnnc.codegen.launch import Launch, LaunchTable, Module
from cnnc.codegen.loss import emit_batch_mean, emit_cross_entropy
from cnnc.codegen.lrn import emit_lrn, emit_lrn_grad
from cnnc.codegen.pointwise import emit_flatten, emit_unflatten
from cnnc.codegen.rowwise import emit_rbf, emit_rbf_grad, emit_softmax, emit_softmax_grad
from cnnc.codegen.space import (
    emit_crop,
    emit_pad_shortcut,
    emit_pad_shortcut_grad,
    emit_upsample,
    emit_upsample_grad,
    emit_zero_pad,
)
from cnnc.codegen.vectors import (
    emit_binarize,
    emit_bn_correction,
    emit_bn_update,
    emit_cast_arena,
    emit_concat_rows,
    emit_fold_scale,
    emit_fold_shift,
    emit_mask_weight,
    emit_row_slice,
    emit_sgd_update,
    emit_zeros,
)
from cnnc.codegen.wgrad import emit_conv_wgrad, emit_linear_wgrad
from cnnc.env import dump
from cnnc.ir import ops
from cnnc.ir.plan import Buffer, Plan, Schedule, Step
from cnnc.passes.tiles import INTERPRET

# How each op's kernels are written; a fused group is written by its anchor's row.
EMITTERS: Mapping[type[ops.Op], Callable[[Context], None]] = {
    ops.Conv: emit_group,
    ops.ConvDgrad: emit_group,
    ops.ConvWgrad: emit_conv_wgrad,
    ops.Linear: emit_group,
    ops.LinearDgrad: emit_group,
    ops.LinearWgrad: emit_linear_wgrad,
    ops.Rbf: emit_rbf,
    ops.RbfGrad: emit_rbf_grad,
    ops.MaxPool: emit_group,
    ops.MaxPoolGrad: emit_group,
    ops.AvgPool: emit_group,
    ops.AvgPoolGrad: emit_group,
    ops.SumPool: emit_group,
    ops.SumPoolGrad: emit_group,
    ops.GlobalAvgPool: emit_group,
    ops.GlobalAvgPoolGrad: emit_group,
    ops.ZeroPad: emit_zero_pad,
    ops.Crop: emit_crop,
    ops.PadShortcut: emit_pad_shortcut,
    ops.PadShortcutGrad: emit_pad_shortcut_grad,
    ops.Upsample: emit_upsample,
    ops.UpsampleGrad: emit_upsample_grad,
    ops.BatchNorm: emit_group,
    ops.BatchNormStats: emit_group,
    ops.BatchNormUpdate: emit_bn_update,
    ops.BatchNormReduce: emit_group,
    ops.BatchNormInputGrad: emit_group,
    ops.BatchNormScale: emit_group,
    ops.BatchNormCorrection: emit_bn_correction,
    ops.ChannelAffine: emit_group,
    ops.FoldScale: emit_fold_scale,
    ops.FoldShift: emit_fold_shift,
    ops.BiasAdd: emit_group,
    ops.PositionBias: emit_group,
    ops.Activation: emit_group,
    ops.ActivationGrad: emit_group,
    ops.PRelu: emit_group,
    ops.PReluGrad: emit_group,
    ops.PReluSlopeGrad: emit_group,
    ops.Identity: emit_group,
    ops.Scale: emit_group,
    ops.ChannelScale: emit_group,
    ops.Mul: emit_group,
    ops.Add: emit_group,
    ops.Dropout: emit_group,
    ops.Flatten: emit_flatten,
    ops.Unflatten: emit_unflatten,
    ops.Softmax: emit_softmax,
    ops.SoftmaxGrad: emit_softmax_grad,
    ops.CrossEntropy: emit_cross_entropy,
    ops.BatchMean: emit_batch_mean,
    ops.ChannelSum: emit_group,
    ops.BatchSum: emit_batch_sum,
    ops.MaskWeight: emit_mask_weight,
    ops.Binarize: emit_binarize,
    ops.ConcatRows: emit_concat_rows,
    ops.RowSlice: emit_row_slice,
    ops.Zeros: emit_zeros,
    ops.Concat: emit_concat,
    ops.ChannelSlice: emit_channel_slice,
    ops.Split: emit_split,
    ops.ChannelShuffle: emit_channel_shuffle,
    ops.Maxout: emit_maxout,
    ops.MaxoutGrad: emit_maxout_grad,
    ops.Lrn: emit_lrn,
    ops.LrnGrad: emit_lrn_grad,
    ops.SgdUpdate: emit_sgd_update,
    ops.CastArena: emit_cast_arena,
}

# Those that differ where each channel is filtered on its own.
DEPTHWISE: Mapping[type[ops.Op], Callable[[Context], None]] = {ops.ConvWgrad: emit_depthwise_wgrad}


def generate(plan: Plan) -> Module:
    """Write the kernels of every step of every schedule; equal kernels are written once.

    Raises:
        ValueError: the plan breaks the contract (channels not innermost, a split without workspace).
    """
    texts = KernelTexts()
    tables = tuple(_table(plan, schedule, texts) for schedule in plan.schedules)
    source = texts.source(_summary(plan))
    dump(f"{plan.model}.{plan.variant}.{plan.target}.kernels.py", lambda: source)
    return Module(plan, source, tables)


def _summary(plan: Plan) -> tuple[str, ...]:
    return (
        f"Kernels of {plan.model}: {plan.variant}, {plan.dtype}, for {plan.target}. Written by cnnc.",
        "",
        "The launch table names the layers that each launch computes, and its arguments.",
    )


def _table(plan: Plan, schedule: Schedule, texts: KernelTexts) -> LaunchTable:
    buffers = {buffer.id: buffer for buffer in schedule.buffers}

    def launches(steps: tuple[Step, ...]) -> dict[str, tuple[Launch, ...]]:
        return {step.name: _emit(plan, step, buffers, texts, schedule.low) for step in steps}

    return LaunchTable(schedule.low, schedule.high, launches(schedule.prepare), launches(schedule.steps))


def _emit(plan: Plan, step: Step, buffers: Mapping[int, Buffer], texts: KernelTexts, batch: int) -> tuple[Launch, ...]:
    context = Context(step, buffers, texts, plan.target == INTERPRET, batch)
    kind = type(context.anchor)
    emitters = DEPTHWISE if kind in DEPTHWISE and context.depthwise else EMITTERS
    emitters[kind](context)
    return tuple(context.launches)
