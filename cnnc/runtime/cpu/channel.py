"""Ops across the channels of each pixel: copies, maxout, and local response normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnc.ir import ops
from cnnc.runtime.arrays import Array
from cnnc.runtime.cpu.operand import Operand, Results, Run, Scratch, blocks, given
from cnnc.runtime.cpu.product import Work, in_turn
from cnnc.runtime.scalars import Scalars

CHUNK_BYTES = 1 << 18  # several passes over one piece find it in the second-level cache


def bind_concat(op: ops.Concat, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    y = results[0]
    assert y is not None
    work: list[Work] = []
    start = 0
    for x in given(operands):
        work.append(_copy(x, y[..., start : start + x.shape[-1]]))
        start += x.shape[-1]
    return in_turn(work)


def bind_channel_slice(op: ops.ChannelSlice, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,), y = given(operands), results[0]
    assert y is not None
    return in_turn([_copy(x[..., op.start : op.start + op.count], y)])


def bind_split(op: ops.Split, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,) = given(operands)
    work: list[Work] = []
    start = 0
    for count, y in zip(op.counts, results, strict=True):
        if y is not None:
            work.append(_copy(x[..., start : start + count], y))
        start += count
    return in_turn(work)


def bind_channel_shuffle(
    op: ops.ChannelShuffle, operands: Sequence[Operand], results: Results, scratch: Scratch
) -> Run:
    (x,), y = given(operands), results[0]
    assert y is not None
    each = x.shape[-1] // op.groups
    # Splitting an axis is always a view.
    source = x.reshape(*x.shape[:-1], op.groups, each).swapaxes(-1, -2)
    return in_turn([_copy(source, y.reshape(*y.shape[:-1], each, op.groups))])


def _copy(source: Array, target: Array) -> Work:
    def run() -> None:
        np.copyto(target, source)

    return run


def bind_maxout(op: ops.Maxout, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,), y = given(operands), results[0]
    assert y is not None
    pieces = [x[..., piece :: op.pieces] for piece in range(op.pieces)]

    def run(scalars: Scalars) -> None:
        np.copyto(y, pieces[0])
        for piece in pieces[1:]:
            np.maximum(y, piece, out=y)

    return run


def bind_maxout_grad(op: ops.MaxoutGrad, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (dy, x), dx = given(operands), results[0]
    assert dx is not None
    pieces = [(x[..., piece :: op.pieces], dx[..., piece :: op.pieces]) for piece in range(op.pieces)]
    best = scratch.array(dy.shape, x.dtype)
    wins, others, open_ = (scratch.array(dy.shape, np.bool_) for _ in range(3))

    def run(scalars: Scalars) -> None:
        np.copyto(best, pieces[0][0])
        for piece, _ in pieces[1:]:
            np.maximum(best, piece, out=best)
        open_.fill(True)
        for piece, into in pieces:
            np.equal(piece, best, out=wins)
            np.logical_or(
                wins, np.not_equal(piece, piece, out=others), out=wins
            )  # NaN is the maximum where there is one
            np.logical_and(wins, open_, out=wins)
            np.copyto(into, 0)
            np.copyto(into, dy, where=wins)
            np.logical_xor(open_, wins, out=open_)

    return run


def bind_lrn(op: ops.Lrn, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,), y = given(operands), results[0]
    assert y is not None
    normalise = _Normaliser(op, x, scratch)
    pieces = [(x[at], y[at]) for at in normalise.cuts]

    def run(scalars: Scalars) -> None:
        for source, into in pieces:
            np.multiply(source, _power(normalise.bases(source), op.beta), out=into)

    return run


def bind_lrn_grad(op: ops.LrnGrad, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    """``dy d^-b - 2 alpha b x sum(dy x d^(-b-1))`` with d the bases and the sum over the mirrored window."""
    (dy, x), dx = given(operands), results[0]
    assert dx is not None
    normalise = _Normaliser(op, x, scratch)
    pieces = [(dy[at], x[at], dx[at]) for at in normalise.cuts]
    factor = x.dtype.type(2 * op.alpha * op.beta)

    def run(scalars: Scalars) -> None:
        for gradient, source, into in pieces:
            bases = normalise.bases(source)
            own = _power(bases, op.beta)
            np.multiply(own, gradient, out=own)
            np.multiply(own, source, out=into)
            np.divide(into, bases, out=into)
            shared = normalise.sums(into, (op.n - 1) // 2, op.n // 2)
            np.multiply(shared, factor, out=shared)
            np.multiply(shared, source, out=shared)
            np.subtract(own, shared, out=into)

    return run


class _Normaliser:
    """Sums over neighbouring channels of one piece of an image after the other; ``cuts`` are the pieces."""

    def __init__(self, op: ops.Lrn | ops.LrnGrad, x: Array, scratch: Scratch) -> None:
        self.op = op
        self.cuts = blocks(x.shape, x.itemsize, CHUNK_BYTES)
        largest = max(x[at].size for at in self.cuts)
        self._squares = scratch.array((largest,), x.dtype)
        self._sums = scratch.array((largest,), x.dtype)

    def bases(self, x: Array) -> Array:
        """``k + alpha * sum of squares`` over each channel's window; the next call of anything here ends its life."""
        squares = self._squares[: x.size].reshape(x.shape)
        np.multiply(x, x, out=squares)
        total = self.sums(squares, self.op.n // 2, (self.op.n - 1) // 2)
        np.multiply(total, self.op.alpha, out=total)
        np.add(total, self.op.k, out=total)
        return total

    def sums(self, x: Array, before: int, after: int) -> Array:
        """For each channel the sum over those from ``before`` below it to ``after`` above it."""
        total = self._sums[: x.size].reshape(x.shape)
        np.copyto(total, x)
        channels = x.shape[-1]
        for step in range(1, min(before, channels - 1) + 1):
            np.add(total[..., step:], x[..., :-step], out=total[..., step:])
        for step in range(1, min(after, channels - 1) + 1):
            np.add(total[..., :-step], x[..., step:], out=total[..., :-step])
        return total


def _power(bases: Array, beta: float) -> Array:
    """``bases^-beta``; by square roots where beta is 0.75, as it nearly always is: they are faster and exact."""
    if beta != 0.75:
        general: Array = np.power(bases, bases.dtype.type(-beta))
        return general
    root = np.sqrt(bases)
    result = np.sqrt(root)
    np.multiply(result, root, out=result)
    np.reciprocal(result, out=result)
    return result
