"""Batch normalisation (Ioffe and Szegedy 2015), its gradient and its parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnc.ir import ops
from cnnc.runtime.arrays import Array
from cnnc.runtime.scalars import Scalars


def batch_norm(op: ops.BatchNorm, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    x, gamma, beta, mean, var = operands
    return (gamma * (x - mean) / np.sqrt(var + op.eps) + beta,)


def batch_norm_train(op: ops.BatchNormTrain, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    x, gamma, beta = operands
    mean, var = _statistics(x)
    return gamma * (x - mean) / np.sqrt(var + op.eps) + beta, mean, var


def batch_norm_grad(op: ops.BatchNormGrad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    dy, x, mean, var, gamma = operands
    dgamma, dbeta = _reduce(op.eps, dy, x, mean, var)
    return _input_grad(op.eps, dy, x, mean, var, gamma, dgamma, dbeta), dgamma, dbeta


def batch_norm_stats(op: ops.BatchNormStats, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    return _statistics(operands[0])


def batch_norm_update(op: ops.BatchNormUpdate, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    running_mean, running_var, mean, var = operands
    n = op.pixels * scalars.n
    new_mean = (1 - op.momentum) * running_mean + op.momentum * mean
    if n == 1:
        return new_mean, running_var.copy()
    return new_mean, (1 - op.momentum) * running_var + op.momentum * var * n / (n - 1)


def batch_norm_reduce(op: ops.BatchNormReduce, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    dy, x, mean, var = operands
    return _reduce(op.eps, dy, x, mean, var)


def batch_norm_input_grad(op: ops.BatchNormInputGrad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    return (_input_grad(op.eps, *operands),)


def fold_scale(op: ops.FoldScale, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    w, gamma, var = operands
    scale = gamma / np.sqrt(var + op.eps)
    return (w * scale.reshape(-1, *(1 for _ in w.shape[1:])),)


def batch_norm_scale(op: ops.BatchNormScale, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    dy, gamma, var = operands
    return (dy * (gamma / np.sqrt(var + op.eps)),)


def batch_norm_correction(
    op: ops.BatchNormCorrection, operands: Sequence[Array], scalars: Scalars
) -> tuple[Array, ...]:
    mean, var, gamma, dgamma, dbeta, *others = operands
    inverse, count = 1 / np.sqrt(var + op.eps), op.pixels * scalars.n
    slope = -gamma * inverse**2 * dgamma / count
    shift = -gamma * inverse * dbeta / count - mean * slope
    if others:
        shift, slope = shift + others[0][: len(shift)], slope + others[1][: len(slope)]
    return shift, slope


def channel_affine(op: ops.ChannelAffine, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    a, x, shift, slope = operands
    channels = slice(op.start, op.start + a.shape[-1])
    return (a + shift[channels] + slope[channels] * x,)


def fold_shift(op: ops.FoldShift, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    gamma, beta, mean, var, *bias = operands
    start = bias[0] if bias else np.zeros_like(mean)
    return ((start - mean) * gamma / np.sqrt(var + op.eps) + beta,)


def _statistics(x: Array) -> tuple[Array, Array]:
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    return mean, ((x - mean) ** 2).mean(axes)


def _reduce(eps: float, dy: Array, x: Array, mean: Array, var: Array) -> tuple[Array, Array]:
    axes = tuple(range(x.ndim - 1))
    xhat = (x - mean) / np.sqrt(var + eps)
    return (dy * xhat).sum(axes), dy.sum(axes)


def _input_grad(
    eps: float, dy: Array, x: Array, mean: Array, var: Array, gamma: Array, dgamma: Array, dbeta: Array
) -> Array:
    n = x.size // x.shape[-1]
    xhat = (x - mean) / np.sqrt(var + eps)
    dx: Array = gamma / np.sqrt(var + eps) * (dy - dbeta / n - xhat * dgamma / n)
    return dx
