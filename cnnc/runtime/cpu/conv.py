"""Convolution and its gradients as matrix products over chunks of windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnc.ir import ops
from cnnc.ir.window import Window
from cnnc.runtime.arrays import Array
from cnnc.runtime.cpu import depthwise, scatter
from cnnc.runtime.cpu.columns import columns
from cnnc.runtime.cpu.operand import Operand, Results, Run, Scratch
from cnnc.runtime.cpu.product import Work, accumulate, in_turn, multiply

# Correlating with flipped weights visits every pixel of dx, scattering every pixel of dy at a higher cost.
SCATTER_COST = 1.3


def bind_conv(op: ops.Conv, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x, weights), y = operands, results[0]
    assert y is not None
    w = weights.array
    if ops.is_depthwise(op, w.shape):
        return depthwise.bind_forward(op.window, x.array, w, y, scratch)
    work: list[Work] = []
    for k, c in _groups(op.groups, w):
        matrix = w[k].reshape(k.stop - k.start, -1).T
        with scratch.shared():
            work += multiply(columns(x, op.window, c, scratch), matrix, y[..., k], scratch)
    return in_turn(work)


def bind_conv_dgrad(op: ops.ConvDgrad, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (dy, weights), dx = operands, results[0]
    assert dx is not None
    w = weights.array
    if ops.is_depthwise(op, w.shape):
        return depthwise.bind_dgrad(op.window, dy.array, w, dx, scratch)
    if not _correlates(op, dy.array):
        return in_turn(_scattered(op, dy.array, w, dx, scratch))
    window = _flipped(op)
    work: list[Work] = []
    for k, c in _groups(op.groups, w):
        with scratch.shared():
            matrix = scratch.array((w[k].size // w.shape[3], w.shape[3]), w.dtype)
            work.append(_flip(w[k], matrix))
            work += multiply(columns(dy, window, k, scratch), matrix, dx[..., c], scratch)
    return in_turn(work)


def bind_conv_wgrad(op: ops.ConvWgrad, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (dy, x), dw = operands, results[0]
    assert dw is not None
    if ops.is_depthwise(op, x.array.shape):
        return depthwise.bind_wgrad(op.window, dy.array, x.array, dw, scratch)
    work: list[Work] = []
    for k, c in _groups(op.groups, dw):
        into = dw[k].reshape(k.stop - k.start, -1)
        with scratch.shared():
            work += accumulate(columns(x, op.window, c, scratch), dy.array[..., k], into, scratch)
    return in_turn(work)


def _groups(groups: int, w: Array) -> list[tuple[slice, slice]]:
    """Filters and channels of each group."""
    filters, channels = len(w) // groups, w.shape[3]
    return [(slice(g * filters, (g + 1) * filters), slice(g * channels, (g + 1) * channels)) for g in range(groups)]


def _scattered(op: ops.ConvDgrad, dy: Array, w: Array, dx: Array, scratch: Scratch) -> list[Work]:
    work = []
    for k, c in _groups(op.groups, w):
        with scratch.shared():
            work.append(scatter.scattered(op.window, w[k], dy[..., k], dx[..., c], scratch))
    return work


def _correlates(op: ops.ConvDgrad, dy: Array) -> bool:
    """Whether dx is better computed as a stride-1 correlation of dy with the flipped weights."""
    pads = [pad for axis in range(2) for pad in op.window.pad_of(axis)]
    room = [op.window.extent[axis] - 1 for axis in (0, 0, 1, 1)]
    if op.window.stride != (1, 1) or any(pad > most for pad, most in zip(pads, room, strict=True)):
        return False
    return bool(op.image[0] * op.image[1] <= SCATTER_COST * dy.shape[1] * dy.shape[2])


def _flipped(op: ops.ConvDgrad) -> Window:
    """The window of that correlation: what was cut off dy by valid windows comes back as padding."""
    (top, bottom, left, right), (high, wide) = op.window.pad, op.window.extent
    pad = (high - 1 - top, high - 1 - bottom, wide - 1 - left, wide - 1 - right)
    return Window(op.window.kernel, (1, 1), pad, op.window.dilation)


def _flip(w: Array, matrix: Array) -> Work:
    """``[K, R, S, C]`` to ``[R*S*K, C]`` with both kernel axes reversed."""
    k, r, s, c = w.shape
    target, source = matrix.reshape(r, s, k, c), w[:, ::-1, ::-1].transpose(1, 2, 0, 3)
    return lambda: np.copyto(target, source)
