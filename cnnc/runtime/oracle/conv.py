"""Convolution and its gradients, tap by tap.

``y[n, p, q, k]`` is the sum over r, s and c of ``x[n, p*stride + r*dilation - pad, ..., c] * w[k, r, s, c]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cnnc.ir import ops
from cnnc.runtime.arrays import Array
from cnnc.runtime.oracle.taps import taps
from cnnc.runtime.scalars import Scalars

PIXELS = ((0, 1, 2), (0, 1, 2))  # axes of [N, P, Q, ...] that a weight gradient sums over


def conv(op: ops.Conv, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    x, w = operands
    image = (x.shape[1], x.shape[2])
    y = np.zeros((len(x), *op.window.output(image), len(w)), x.dtype)
    for tap in taps(op.window, image):
        for k, c in _groups(op.groups, w):
            y[tap.output(k)] += x[tap.input(c)] @ w[k, tap.r, tap.s].T
    return (y,)


def conv_dgrad(op: ops.ConvDgrad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    dy, w = operands
    dx = np.zeros((len(dy), *op.image, w.shape[3] * op.groups), dy.dtype)
    for tap in taps(op.window, op.image):
        for k, c in _groups(op.groups, w):
            dx[tap.input(c)] += dy[tap.output(k)] @ w[k, tap.r, tap.s]
    return (dx,)


def conv_wgrad(op: ops.ConvWgrad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    dy, x = operands
    dw = np.zeros((dy.shape[3], *op.window.kernel, x.shape[3] // op.groups), dy.dtype)
    for tap in taps(op.window, (x.shape[1], x.shape[2])):
        for k, c in _groups(op.groups, dw):
            dw[k, tap.r, tap.s] = np.tensordot(dy[tap.output(k)], x[tap.input(c)], PIXELS)
    return (dw,)


def _groups(groups: int, w: Array) -> Iterator[tuple[slice, slice]]:
    """Filters and channels of each group."""
    filters, channels = len(w) // groups, w.shape[3]
    for g in range(groups):
        yield slice(g * filters, (g + 1) * filters), slice(g * channels, (g + 1) * channels)
