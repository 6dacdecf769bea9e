"""Pooling and its gradients: along rows first, where loops are long, then along columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnc.ir import ops
from cnnc.ir.window import Pair, Window
from cnnc.runtime.arrays import Array
from cnnc.runtime.cpu.operand import Operand, Results, Run, Scratch, blocks, given, spread
from cnnc.runtime.cpu.product import Work, in_turn
from cnnc.runtime.cpu.select import Selector
from cnnc.runtime.cpu.taps import Tap, span, taps
from cnnc.runtime.scalars import Scalars

CHUNK_BYTES = 1 << 20


def bind_maxpool(op: ops.MaxPool, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,) = given(operands)
    y, index = results
    if y is None:
        y = scratch.array((len(x), *op.window.output((x.shape[1], x.shape[2])), x.shape[3]), x.dtype)
    work: list[Work] = []
    for (some,) in blocks((len(x), x[0].size), x.itemsize, CHUNK_BYTES):
        with scratch.shared():
            work.append(_folded(np.maximum, -np.inf, op.window, x[some], y[some], scratch))
            if index is not None:
                work.append(_winners(op.window, x[some], y[some], index[some], scratch))
    return in_turn(work)


def _folded(ufunc: np.ufunc, start: float, window: Window, x: Array, y: Array, scratch: Scratch) -> Work:
    """``y`` = the fold of each window, as a fold over kernel rows and then over kernel columns."""
    between = scratch.array((len(x), y.shape[1], *x.shape[2:]), x.dtype)
    rows = [span(window, 0, r, x.shape[1], y.shape[1]) for r in range(window.kernel[0])]
    columns = [span(window, 1, s, x.shape[2], y.shape[2]) for s in range(window.kernel[1])]
    pairs = [(between[:, out], x[:, read]) for out, read in rows]
    later = [(y[:, :, out], between[:, :, read]) for out, read in columns]

    def run() -> None:
        _fold(ufunc, start, between, pairs)
        _fold(ufunc, start, y, later)

    return run


def _fold(ufunc: np.ufunc, start: float, target: Array, pairs: list[tuple[Array, Array]]) -> None:
    target.fill(start)
    for into, source in pairs:
        ufunc(into, source, out=into)


def _winners(window: Window, x: Array, y: Array, index: Array, scratch: Scratch) -> Work:
    """The first tap that equals the maximum; a NaN is the maximum of its window."""
    missed = scratch.array(index.shape, np.bool_)
    other = scratch.array(index.shape, np.bool_)
    near = {tap.number: tap for tap in taps(window, (x.shape[1], x.shape[2]))}
    jobs: list[tuple[Array, Array, Array] | None] = []
    for number in range(window.taps):
        tap = near.get(number)
        jobs.append(tap and (x[:, tap.h, tap.w], y[:, tap.p, tap.q], other[:, tap.p, tap.q]))
    partial = [job is None or job[2].size < other.size for job in jobs]

    def run() -> None:
        nan = bool(np.isnan(y.max()))
        # The place of the first hit is the number of misses before it.
        index.fill(0)
        missed.fill(True)
        for job, outside in zip(jobs, partial, strict=True):
            if outside:
                other.fill(True)
            if job is not None:
                pixels, best, unequal = job
                np.not_equal(pixels, best, out=unequal)
                if nan:
                    np.logical_and(unequal, pixels == pixels, out=unequal)
            np.logical_and(missed, other, out=missed)
            np.add(index, missed, out=index, casting="unsafe")
        if any(partial):  # a dilated window may lie in padding alone
            np.copyto(index, 0, where=missed)

    return run


def bind_maxpool_grad(op: ops.MaxPoolGrad, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    dy, index = given(operands)
    dx = results[0]
    assert dx is not None
    work: list[Work] = []
    for (some,) in blocks((len(dx), dx[0].size), dx.itemsize, CHUNK_BYTES):
        with scratch.shared():
            work.append(_returned(op.window, dy[some], index[some], dx[some], scratch))
    return in_turn(work)


def _returned(window: Window, dy: Array, index: Array, dx: Array, scratch: Scratch) -> Work:
    """Each dy to the pixel that won; where windows overlap they are added."""
    selector = Selector(index.size, dx.dtype, scratch)
    spare = scratch.array((index.size,), dx.dtype)
    apart = all(stride >= extent for stride, extent in zip(window.stride, window.extent, strict=True))
    jobs = []
    for tap in taps(window, (dx.shape[1], dx.shape[2])):
        source, winner, into = dy[:, tap.p, tap.q], index[:, tap.p, tap.q], dx[:, tap.h, tap.w]
        jobs.append((tap.number, source, winner, into, spare[: source.size].reshape(source.shape)))
    whole = apart and sum(into.size for *_, into, _ in jobs) == dx.size

    def run() -> None:
        if not whole:
            dx.fill(0)
        for number, source, winner, into, chosen in jobs:
            wins = selector.flags(winner.shape)
            np.equal(winner, number, out=wins)
            selector.select(source, wins, into if apart else chosen)
            if not apart:
                np.add(into, chosen, out=into)

    return run


def bind_sum_or_avgpool(
    op: ops.SumPool | ops.AvgPool, operands: Sequence[Operand], results: Results, scratch: Scratch
) -> Run:
    (x,), y = given(operands), results[0]
    assert y is not None
    shares = None
    if isinstance(op, ops.AvgPool):
        shares = _shares(op.window, (x.shape[1], x.shape[2]), op.count_pad, x.dtype)
    work: list[Work] = []
    for (some,) in blocks((len(x), x[0].size), x.itemsize, CHUNK_BYTES):
        with scratch.shared():
            work.append(_folded(np.add, 0, op.window, x[some], y[some], scratch))
            if shares is not None:
                work.append(_scaled(y[some], shares, y[some]))
    return in_turn(work)


def bind_sum_or_avgpool_grad(
    op: ops.SumPoolGrad | ops.AvgPoolGrad, operands: Sequence[Operand], results: Results, scratch: Scratch
) -> Run:
    (dy,), dx = given(operands), results[0]
    assert dx is not None
    shares = _shares(op.window, op.image, op.count_pad, dy.dtype) if isinstance(op, ops.AvgPoolGrad) else None
    where = taps(op.window, op.image)
    work: list[Work] = []
    for (some,) in blocks((len(dx), dx[0].size), dx.itemsize, CHUNK_BYTES):
        with scratch.shared():
            source = dy[some]
            if shares is not None:
                source = scratch.array(source.shape, dy.dtype)
                work.append(_scaled(dy[some], shares, source))
            work.append(_shared_out(where, source, dx[some]))
    return in_turn(work)


def _shared_out(where: list[Tap], dy: Array, dx: Array) -> Work:
    pairs = [(dx[:, tap.h, tap.w], dy[:, tap.p, tap.q]) for tap in where]

    def run() -> None:
        dx.fill(0)
        for into, source in pairs:
            np.add(into, source, out=into)

    return run


def _scaled(x: Array, shares: Array, y: Array) -> Work:
    """``y = x * shares`` for ``shares`` ``[P, Q, 1]``."""
    (wide_x, repeat), (wide_y, other) = spread(x), spread(y)
    factors = shares
    if repeat == other != 1:
        x, y, factors = wide_x, wide_y, np.repeat(shares, x.shape[3], axis=2).reshape(len(shares), -1)

    def run() -> None:
        np.multiply(x, factors, out=y)

    return run


def _shares(window: Window, image: Pair, count_pad: bool, dtype: np.dtype[np.generic]) -> Array:
    """``[P, Q, 1]``: one over the pixels that each window averages."""
    counts = []
    for axis, extent in enumerate(window.output(image)):
        before, after = window.pad_of(axis) if count_pad else (0, 0)
        # The same taps over an image that includes the padding that counts.
        top, left = (0, 0) if count_pad else (window.pad[0], window.pad[2])
        along = Window(window.kernel, window.stride, (top, 0, left, 0), window.dilation)
        count = np.zeros(extent)
        for tap in range(window.kernel[axis]):
            count[span(along, axis, tap, before + image[axis] + after, extent)[0]] += 1
        counts.append(np.maximum(count, 1))  # a dilated window that meets no pixel sums to 0 anyway
    shares: Array = (1 / np.outer(*counts))[:, :, None].astype(dtype)
    return shares


def bind_global_avgpool(op: ops.GlobalAvgPool, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,), y = given(operands), results[0]
    assert y is not None
    pixels = x.shape[1] * x.shape[2]
    ones = np.ones(x.shape[2], x.dtype)

    def run(scalars: Scalars) -> None:
        y[...] = np.matmul(ones, x).sum(axis=1, dtype=np.float64) / pixels

    return run


def bind_global_avgpool_grad(
    op: ops.GlobalAvgPoolGrad, operands: Sequence[Operand], results: Results, scratch: Scratch
) -> Run:
    (dy,), dx = given(operands), results[0]
    assert dx is not None
    share = dy[:, None, None, :]
    factor = dy.dtype.type(1 / (op.image[0] * op.image[1]))

    def run(scalars: Scalars) -> None:
        np.multiply(share, factor, out=dx)

    return run
