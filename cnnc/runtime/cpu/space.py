"""Borders, crops, strided shortcuts and up-sampling: copies between strided views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cnnc.ir import ops
from cnnc.runtime.arrays import Array
from cnnc.runtime.cpu.operand import Operand, Results, Run, Scratch, blocks, given
from cnnc.runtime.cpu.product import Work, in_turn
from cnnc.runtime.scalars import Scalars

CHUNK_BYTES = 1 << 20

EVERYTHING = slice(None)


def bind_zero_pad(op: ops.ZeroPad, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,), y = given(operands), results[0]
    assert y is not None
    top, _, left, _ = op.pad
    return _set_among_zeros(x, y, y[:, top : top + x.shape[1], left : left + x.shape[2]])


def bind_crop(op: ops.Crop, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,), y = given(operands), results[0]
    assert y is not None
    (top, left), (height, width) = op.offset, op.size
    return _set_among_zeros(x[:, top : top + height, left : left + width], y, y)


def bind_pad_shortcut(op: ops.PadShortcut, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,), y = given(operands), results[0]
    assert y is not None
    return _set_among_zeros(x[:, :: op.stride[0], :: op.stride[1]], y, y[..., : x.shape[3]])


def bind_pad_shortcut_grad(
    op: ops.PadShortcutGrad, operands: Sequence[Operand], results: Results, scratch: Scratch
) -> Run:
    (dy,), dx = given(operands), results[0]
    assert dx is not None
    return _set_among_zeros(dy[..., : op.channels], dx, dx[:, :: op.stride[0], :: op.stride[1]])


def _set_among_zeros(source: Array, whole: Array, part: Array) -> Run:
    """``part`` of ``whole`` becomes ``source``, the rest zero."""

    def run(scalars: Scalars) -> None:
        if part.size < whole.size:
            whole.fill(0)
        np.copyto(part, source)

    return run


class Share(NamedTuple):
    """Outputs that each read one pixel with one weight, along one axis."""

    outputs: slice
    pixels: slice
    weight: float


class Move(NamedTuple):
    """``target = weight * source``, or ``+=`` where something is there already."""

    target: Array
    source: Array
    weight: float
    adds: bool


def _shares(extent: int, factor: int, mode: str) -> list[Share]:
    """What ``Upsample`` reads along an axis, phase by phase: outputs p = factor*i + phase read pixels near i.

    The first share of each phase takes every pixel.
    """
    result = []
    for phase in range(factor):
        # From the centre of pixel i, in pixels: less than a half.
        offset = (2 * phase + 1 - factor) / (2 * factor) if mode == "bilinear" else 0.0
        weight = abs(offset)
        result.append(Share(slice(phase, None, factor), EVERYTHING, 1 - weight))
        last = factor * (extent - 1) + phase
        if offset < 0:
            # The neighbour before; the first pixel has itself instead.
            result.append(Share(slice(phase, phase + 1), slice(0, 1), weight))
            result.append(Share(slice(factor + phase, None, factor), slice(0, extent - 1), weight))
        elif offset > 0:
            result.append(Share(slice(last, last + 1), slice(extent - 1, extent), weight))
            result.append(Share(slice(phase, last, factor), slice(1, extent), weight))
    return result


def bind_upsample(op: ops.Upsample, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,), y = given(operands), results[0]
    assert y is not None
    rows, columns = (_shares(x.shape[axis + 1], op.factor[axis], op.mode) for axis in (0, 1))
    work: list[Work] = []
    for (some,) in blocks((len(y), y[0].size), y.itemsize, CHUNK_BYTES):
        with scratch.shared():
            source, target = x[some], y[some]
            wide = scratch.array((len(target), x.shape[1], y.shape[2], y.shape[3]), y.dtype)
            across = [_spread(wide[:, :, one.outputs], source[:, :, one.pixels], one) for one in columns]
            down = [_spread(target[:, one.outputs], wide[:, one.pixels], one) for one in rows]
            work += [_moved(across, scratch), _moved(down, scratch)]
    return in_turn(work)


def _spread(target: Array, source: Array, share: Share) -> Move:
    return Move(target, source, share.weight, share.pixels is not EVERYTHING)


def bind_upsample_grad(op: ops.UpsampleGrad, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (dy,), dx = given(operands), results[0]
    assert dx is not None
    rows, columns = (_shares(dx.shape[axis + 1], op.factor[axis], op.mode) for axis in (0, 1))
    work: list[Work] = []
    for (some,) in blocks((len(dy), dy[0].size), dy.itemsize, CHUNK_BYTES):
        with scratch.shared():
            source, target = dy[some], dx[some]
            wide = scratch.array((len(source), dx.shape[1], dy.shape[2], dy.shape[3]), dy.dtype)
            # All pixels are in the first share, so that the others find something to add to.
            down = [
                Move(wide[:, one.pixels], source[:, one.outputs], one.weight, place > 0)
                for place, one in enumerate(rows)
            ]
            across = [
                Move(target[:, :, one.pixels], wide[:, :, one.outputs], one.weight, place > 0)
                for place, one in enumerate(columns)
            ]
            work += [_moved(down, scratch), _moved(across, scratch)]
    return in_turn(work)


def _moved(moves: list[Move], scratch: Scratch) -> Work:
    spare = scratch.array((max(move.source.size for move in moves),), moves[0].target.dtype)
    products = [spare[: move.source.size].reshape(move.source.shape) for move in moves]

    def run() -> None:
        for (target, source, weight, adds), product in zip(moves, products, strict=True):
            if not adds:
                np.multiply(source, weight, out=target)
            else:
                np.add(target, np.multiply(source, weight, out=product), out=target)

    return run
