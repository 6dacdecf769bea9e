"""Pooling and its gradients, tap by tap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnc.ir import ops
from cnnc.ir.window import Pair, Window
from cnnc.runtime.arrays import Array
from cnnc.runtime.oracle.taps import taps
from cnnc.runtime.scalars import Scalars


def maxpool(op: ops.MaxPool, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    (x,) = operands
    image = (x.shape[1], x.shape[2])
    shape = (len(x), *op.window.output(image), x.shape[3])
    y = np.full(shape, -np.inf, x.dtype)
    index = np.zeros(shape, np.uint8)
    seen = np.zeros(shape, np.bool_)
    for tap in taps(op.window, image):
        at = tap.output()
        pixel, best = x[tap.input()], y[at]
        wins = ~seen[at] | (pixel > best) | (np.isnan(pixel) & ~np.isnan(best))
        y[at] = np.where(wins, pixel, best)
        index[at] = np.where(wins, tap.r * op.window.kernel[1] + tap.s, index[at])
        seen[at] = True
    return y, index


def maxpool_grad(op: ops.MaxPoolGrad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    dy, index = operands
    dx = np.zeros((len(dy), *op.image, dy.shape[3]), dy.dtype)
    for tap in taps(op.window, op.image):
        won = index[tap.output()] == tap.r * op.window.kernel[1] + tap.s
        dx[tap.input()] += np.where(won, dy[tap.output()], 0)
    return (dx,)


def avgpool(op: ops.AvgPool, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    (x,) = operands
    image = (x.shape[1], x.shape[2])
    return (_sums(op.window, x) / divisors(op.window, image, op.count_pad).astype(x.dtype),)


def avgpool_grad(op: ops.AvgPoolGrad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    (dy,) = operands
    share = dy / divisors(op.window, op.image, op.count_pad).astype(dy.dtype)
    return (_returned(op.window, op.image, share),)


def sumpool(op: ops.SumPool, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    return (_sums(op.window, operands[0]),)


def sumpool_grad(op: ops.SumPoolGrad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    return (_returned(op.window, op.image, operands[0]),)


def _sums(window: Window, x: Array) -> Array:
    image = (x.shape[1], x.shape[2])
    y = np.zeros((len(x), *window.output(image), x.shape[3]), x.dtype)
    for tap in taps(window, image):
        y[tap.output()] += x[tap.input()]
    return y


def _returned(window: Window, image: Pair, dy: Array) -> Array:
    """Each pixel's sum over the windows that it lies in."""
    dx = np.zeros((len(dy), *image, dy.shape[3]), dy.dtype)
    for tap in taps(window, image):
        dx[tap.input()] += dy[tap.output()]
    return dx


def divisors(window: Window, image: Pair, count_pad: bool) -> Array:
    """``[P, Q, 1]``: how many pixels each window averages, declared padding counted or not."""
    counts = []
    for axis, extent in enumerate(window.output(image)):
        before, after = window.pad_of(axis) if count_pad else (0, 0)
        starts = np.arange(extent) * window.stride[axis] - window.pad_of(axis)[0]
        pixels = starts[:, None] + np.arange(window.kernel[axis]) * window.dilation[axis]
        counts.append(np.sum((-before <= pixels) & (pixels < image[axis] + after), axis=1))
    # A dilated window may miss the image altogether; its sum is 0 whatever it is divided by.
    result: Array = np.maximum(np.outer(*counts), 1)[:, :, None]
    return result


def global_avgpool(op: ops.GlobalAvgPool, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    (x,) = operands
    return (x.mean((1, 2)),)


def global_avgpool_grad(op: ops.GlobalAvgPoolGrad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    (dy,) = operands
    height, width = op.image
    share = dy[:, None, None, :] / (height * width)
    return (np.broadcast_to(share, (len(dy), height, width, dy.shape[1])).copy(),)
