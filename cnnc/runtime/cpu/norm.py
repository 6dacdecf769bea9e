"""Batch normalisation in two stable passes, its gradient, and its folding into a convolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnc.ir import ops
from cnnc.runtime.arrays import Array
from cnnc.runtime.cpu.operand import Operand, Results, Run, Scratch, blocks, given, lines
from cnnc.runtime.cpu.reduce import channel_sum
from cnnc.runtime.scalars import Scalars

CHUNK_BYTES = 1 << 19  # several passes over one piece of an image find it in the second-level cache


def bind_stats(op: ops.BatchNormStats, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,) = given(operands)
    mean, var = results
    count = x.size // x.shape[-1]
    pieces = _pieces([x], scratch)

    def run(scalars: Scalars) -> None:
        average = (channel_sum(x) / count).astype(x.dtype)
        if mean is not None:
            mean[...] = average
        if var is None:
            return
        total = np.zeros(x.shape[-1])
        for (piece,), spare, image, repeat in pieces:
            np.subtract(piece, np.tile(average, repeat), out=spare)
            np.multiply(spare, spare, out=spare)
            total += channel_sum(image)
        var[...] = total / count

    return run


def bind_update(op: ops.BatchNormUpdate, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    running_mean, running_var, mean, var = given(operands)
    new_mean, new_var = results

    def run(scalars: Scalars) -> None:
        count = op.pixels * scalars.n
        if new_mean is not None:
            _moved(running_mean, mean, op.momentum, 1.0, new_mean)
        if new_var is not None and count > 1:
            _moved(running_var, var, op.momentum, count / (count - 1), new_var)
        elif new_var is not None:
            np.copyto(new_var, running_var)

    return run


def _moved(running: Array, batch: Array, momentum: float, correction: float, out: Array) -> None:
    """The running average moved towards the batch's; ``out`` may be ``running`` itself."""
    np.multiply(running, 1 - momentum, out=out)
    np.add(out, batch * (momentum * correction), out=out)


def bind_batch_norm(op: ops.BatchNorm, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    x, gamma, beta, mean, var = given(operands)
    y = results[0]
    assert y is not None
    pairs = [lines(x[at], y[at]) for at in blocks(x.shape, x.itemsize, CHUNK_BYTES)]

    def run(scalars: Scalars) -> None:
        scale = gamma / np.sqrt(var + op.eps)
        for (piece, out), repeat in pairs:
            # The mean first: scale * x + shift would cancel where the mean is far from 0.
            np.subtract(piece, np.tile(mean, repeat), out=out)
            np.multiply(out, np.tile(scale, repeat), out=out)
            np.add(out, np.tile(beta, repeat), out=out)

    return run


def bind_reduce(op: ops.BatchNormReduce, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    dy, x, mean, var = given(operands)
    dgamma, dbeta = results
    pieces = _pieces([x, dy], scratch)

    def run(scalars: Scalars) -> None:
        if dbeta is not None:
            dbeta[...] = channel_sum(dy)
        if dgamma is None:
            return
        total = np.zeros(x.shape[-1])
        for (piece, gradient), spare, image, repeat in pieces:
            np.subtract(piece, np.tile(mean, repeat), out=spare)
            np.multiply(spare, gradient, out=spare)
            total += channel_sum(image)
        dgamma[...] = total / np.sqrt(var + op.eps)

    return run


def bind_input_grad(op: ops.BatchNormInputGrad, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    dy, x, mean, var, gamma, dgamma, dbeta = given(operands)
    dx = results[0]
    assert dx is not None
    count = x.size // x.shape[-1]
    triples = [lines(x[at], dy[at], dx[at]) for at in blocks(x.shape, x.itemsize, CHUNK_BYTES)]

    def run(scalars: Scalars) -> None:
        inverse = 1 / np.sqrt(var + op.eps)
        slope, shift, scale = inverse * dgamma / count, dbeta / count, gamma * inverse
        for (piece, gradient, out), repeat in triples:
            np.subtract(piece, np.tile(mean, repeat), out=out)
            np.multiply(out, np.tile(slope, repeat), out=out)
            np.subtract(gradient, out, out=out)
            np.subtract(out, np.tile(shift, repeat), out=out)
            np.multiply(out, np.tile(scale, repeat), out=out)

    return run


def bind_scale(op: ops.BatchNormScale, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    dy, gamma, var = given(operands)
    dx = results[0]
    assert dx is not None
    pairs = [lines(dy[at], dx[at]) for at in blocks(dy.shape, dy.itemsize, CHUNK_BYTES)]

    def run(scalars: Scalars) -> None:
        scale = gamma / np.sqrt(var + op.eps)
        for (gradient, out), repeat in pairs:
            np.multiply(gradient, np.tile(scale, repeat), out=out)

    return run


def bind_correction(
    op: ops.BatchNormCorrection, operands: Sequence[Operand], results: Results, scratch: Scratch
) -> Run:
    mean, var, gamma, dgamma, dbeta, *others = given(operands)
    shift, slope = results
    first = slice(len(mean))

    def run(scalars: Scalars) -> None:
        inverse, count = 1 / np.sqrt(var + op.eps), op.pixels * scalars.n
        own = -gamma * inverse**2 * dgamma / count
        if shift is not None:
            np.subtract(-gamma * inverse * dbeta / count, mean * own, out=shift)
        if slope is not None:
            np.copyto(slope, own)
        for result, other in zip(results, others, strict=False):
            if result is not None:
                np.add(result, other[first], out=result)

    return run


def bind_affine(op: ops.ChannelAffine, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    a, x, shift, slope = given(operands)
    y = results[0]
    assert y is not None
    channels = slice(op.start, op.start + a.shape[-1])
    pieces = _pieces([a, x, y], scratch)

    def run(scalars: Scalars) -> None:
        for (one, image, out), spare, _, repeat in pieces:
            np.multiply(image, np.tile(slope[channels], repeat), out=spare)
            np.add(spare, np.tile(shift[channels], repeat), out=spare)
            np.add(one, spare, out=out)

    return run


def bind_fold_scale(op: ops.FoldScale, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    w, gamma, var = given(operands)
    y = results[0]
    assert y is not None
    column = (-1, *(1 for _ in w.shape[1:]))

    def run(scalars: Scalars) -> None:
        np.multiply(w, (gamma / np.sqrt(var + op.eps)).reshape(column), out=y)

    return run


def bind_fold_shift(op: ops.FoldShift, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    gamma, beta, mean, var, *bias = given(operands)
    y = results[0]
    assert y is not None

    def run(scalars: Scalars) -> None:
        start = bias[0] if bias else 0
        np.add((start - mean) * (gamma / np.sqrt(var + op.eps)), beta, out=y)

    return run


Piece = tuple[list[Array], Array, Array, int]


def _pieces(arrays: list[Array], scratch: Scratch) -> list[Piece]:
    """Pieces of equal arrays as long lines, with a spare one: as lines and as the image it is; and the repeat."""
    pieces = []
    for at in blocks(arrays[0].shape, arrays[0].itemsize, CHUNK_BYTES):
        with scratch.shared():
            image = scratch.array(arrays[0][at].shape, arrays[0].dtype)
            (*parts, spare), repeat = lines(*(array[at] for array in arrays), image)
            pieces.append((parts, spare, image, repeat))
    return pieces
