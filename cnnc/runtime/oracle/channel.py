"""Ops across the channels of each pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnc.ir import ops
from cnnc.runtime.arrays import Array
from cnnc.runtime.scalars import Scalars


def concat(op: ops.Concat, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    return (np.concatenate(operands, axis=-1),)


def channel_slice(op: ops.ChannelSlice, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    return (operands[0][..., op.start : op.start + op.count].copy(),)


def split(op: ops.Split, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    return tuple(part.copy() for part in np.split(operands[0], np.cumsum(op.counts)[:-1], axis=-1))


def channel_shuffle(op: ops.ChannelShuffle, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    (x,) = operands
    groups = x.reshape(*x.shape[:-1], op.groups, x.shape[-1] // op.groups)
    return (groups.swapaxes(-1, -2).reshape(x.shape),)


def maxout(op: ops.Maxout, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    return (_pieces(operands[0], op.pieces).max(-1),)


def maxout_grad(op: ops.MaxoutGrad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    dy, x = operands
    pieces = _pieces(x, op.pieces)
    first = np.arange(op.pieces) == pieces.argmax(-1)[..., None]
    return (np.where(first, dy[..., None], 0).reshape(x.shape).astype(dy.dtype),)


def lrn(op: ops.Lrn, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    (x,) = operands
    return (x * _base(op, x) ** -op.beta,)


def lrn_grad(op: ops.LrnGrad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    """``x_j`` is in its own numerator and in the sums of all channels whose window holds j."""
    dy, x = operands
    base = _base(op, x)
    shared = _window_sum(dy * x * base ** (-op.beta - 1), (op.n - 1) // 2, op.n // 2)
    return (dy * base**-op.beta - 2 * op.alpha * op.beta * x * shared,)


def _pieces(x: Array, pieces: int) -> Array:
    """``[..., C]`` as ``[..., C/pieces, pieces]``."""
    return x.reshape(*x.shape[:-1], -1, pieces)


def _base(op: ops.Lrn | ops.LrnGrad, x: Array) -> Array:
    """``k + alpha * sum of squares`` over each channel's window."""
    base: Array = op.k + op.alpha * _window_sum(x * x, op.n // 2, (op.n - 1) // 2)
    return base


def _window_sum(x: Array, before: int, after: int) -> Array:
    """For each channel the sum over those from ``before`` below it to ``after`` above it."""
    channels = x.shape[-1]
    result = np.zeros_like(x)
    for c in range(channels):
        result[..., c] = x[..., max(0, c - before) : c + after + 1].sum(-1)
    return result
