"""Softmax, losses, reductions over the batch, and the optimiser's step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnc.ir import ops
from cnnc.runtime.arrays import Array
from cnnc.runtime.scalars import Scalars


def softmax(op: ops.Softmax, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    return (np.exp(_log_softmax(operands[0])),)


def softmax_grad(op: ops.SoftmaxGrad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    dy, y = operands
    return (y * (dy - (dy * y).sum(-1, keepdims=True)),)


def cross_entropy(op: ops.CrossEntropy, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    logits, label = operands
    onehot = np.arange(logits.shape[-1]) == label[..., None]
    logs = _log_softmax(logits)
    rows = -np.where(onehot, logs, 0).sum(-1)
    loss = op.weight * rows.reshape(len(rows), -1).mean(1)
    return loss, (np.exp(logs) - onehot) * (op.weight * scalars.loss_scale / rows.size)


def batch_mean(op: ops.BatchMean, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    return (np.asarray(np.sum(operands, axis=0).mean()),)


def channel_sum(op: ops.ChannelSum, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    (dy,) = operands
    return (dy.sum(tuple(range(dy.ndim - 1))),)


def batch_sum(op: ops.BatchSum, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    return (operands[0].sum(0),)


def zeros(op: ops.Zeros, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    return (np.zeros((scalars.n, *op.shape) if op.batched else op.shape),)


def sgd_update(op: ops.SgdUpdate, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    p, g, v = operands
    decay = np.where(np.arange(len(p)) < op.decayed, scalars.weight_decay, 0.0).astype(p.dtype)
    velocity = scalars.momentum * v + (g / scalars.loss_scale + decay * p)
    updated = p - scalars.lr * velocity
    low, high = op.clipped
    updated[low:high] = np.clip(updated[low:high], -1, 1)
    return updated, velocity


def cast_arena(op: ops.CastArena, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    """The oracle has one dtype, so nothing is rounded."""
    return (operands[0].copy(),)


def _log_softmax(x: Array) -> Array:
    shifted = x - x.max(-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result
