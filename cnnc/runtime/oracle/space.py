"""Borders, crops, strided shortcuts and up-sampling, by indexing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnc.ir import ops
from cnnc.ir.window import Pair
from cnnc.runtime.arrays import Array
from cnnc.runtime.scalars import Scalars


def zero_pad(op: ops.ZeroPad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    (x,) = operands
    top, bottom, left, right = op.pad
    return (np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0))),)


def crop(op: ops.Crop, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    (x,) = operands
    (top, left), (height, width) = op.offset, op.size
    return (x[:, top : top + height, left : left + width].copy(),)


def pad_shortcut(op: ops.PadShortcut, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    (x,) = operands
    picked = x[:, :: op.stride[0], :: op.stride[1]]
    return (np.pad(picked, ((0, 0), (0, 0), (0, 0), (0, op.channels - x.shape[3]))),)


def pad_shortcut_grad(op: ops.PadShortcutGrad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    (dy,) = operands
    dx = np.zeros((len(dy), *op.image, op.channels), dy.dtype)
    dx[:, :: op.stride[0], :: op.stride[1]] = dy[..., : op.channels]
    return (dx,)


def upsample(op: ops.Upsample, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    (x,) = operands
    for axis, reads in enumerate(_reads((x.shape[1], x.shape[2]), op.factor, op.mode), start=1):
        x = np.asarray(sum(np.take(x, pixels, axis) * _along(weights, axis, x.dtype) for pixels, weights in reads))
    return (x,)


def upsample_grad(op: ops.UpsampleGrad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    (dy,) = operands
    image = (dy.shape[1] // op.factor[0], dy.shape[2] // op.factor[1])
    for axis, reads in enumerate(_reads(image, op.factor, op.mode), start=1):
        shape = list(dy.shape)
        shape[axis] = image[axis - 1]
        dx = np.zeros(shape, dy.dtype)
        for pixels, weights in reads:
            share = dy * _along(weights, axis, dy.dtype)
            np.add.at(np.moveaxis(dx, axis, 0), pixels, np.moveaxis(share, axis, 0))
        dy = dx
    return (dy,)


def _reads(image: Pair, factor: Pair, mode: str) -> list[list[tuple[Array, Array]]]:
    """For each axis the pixels that every output reads there, and with which weights."""
    result: list[list[tuple[Array, Array]]] = []
    for extent, times in zip(image, factor, strict=True):
        outputs = np.arange(extent * times)
        if mode == "nearest":
            result.append([(outputs // times, np.ones(len(outputs)))])
            continue
        # As Upsample says: pixel centres lie at half-integers.
        position = np.maximum((outputs + 0.5) / times - 0.5, 0)
        before = np.floor(position).astype(np.int64)
        after = np.minimum(before + 1, extent - 1)
        share = position - before
        result.append([(before, 1 - share), (after, share)])
    return result


def _along(weights: Array, axis: int, dtype: np.dtype[np.generic]) -> Array:
    """Weights of one axis of ``[N, H, W, C]``, to multiply with."""
    result: Array = weights.astype(dtype).reshape([-1 if at == axis else 1 for at in range(4)])
    return result
