"""Softmax, cross-entropy and reductions over the batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnc.ir import ops
from cnnc.runtime.arrays import Array
from cnnc.runtime.cpu.operand import Operand, Results, Run, Scratch, given
from cnnc.runtime.cpu.reduce import channel_sum
from cnnc.runtime.scalars import Scalars


def bind_softmax(op: ops.Softmax, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,), y = given(operands), results[0]
    assert y is not None

    def run(scalars: Scalars) -> None:
        _exponentials(x, y)
        np.divide(y, y.sum(axis=-1, keepdims=True), out=y)

    return run


def bind_softmax_grad(op: ops.SoftmaxGrad, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (dy, y), dx = given(operands), results[0]
    assert dx is not None
    product = scratch.array(dy.shape, dy.dtype)

    def run(scalars: Scalars) -> None:
        np.multiply(dy, y, out=product)
        np.subtract(dy, product.sum(axis=-1, keepdims=True), out=dx)
        np.multiply(dx, y, out=dx)

    return run


def bind_cross_entropy(op: ops.CrossEntropy, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    logits, label = given(operands)
    loss, dlogits = results
    weights = scratch.array(logits.shape, logits.dtype) if dlogits is None else dlogits
    truth = label[..., np.newaxis]

    def run(scalars: Scalars) -> None:
        top = _exponentials(logits, weights)
        total = weights.sum(axis=-1, keepdims=True)
        if loss is not None:
            rows = np.log(total) + top - np.take_along_axis(logits, truth, -1)
            np.multiply(rows.reshape(len(rows), -1).mean(axis=1, dtype=np.float64), op.weight, out=loss)
        if dlogits is not None:
            factor = op.weight * scalars.loss_scale / label.size
            np.multiply(weights, factor / total, out=dlogits)
            np.put_along_axis(dlogits, truth, np.take_along_axis(dlogits, truth, -1) - factor, -1)

    return run


def _exponentials(x: Array, out: Array) -> Array:
    """``exp(x - max)`` along the last axis; gives back the maxima."""
    top: Array = x.max(axis=-1, keepdims=True)
    np.subtract(x, top, out=out)
    np.exp(out, out=out)
    return top


def bind_batch_mean(op: ops.BatchMean, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    numbers, y = given(operands), results[0]
    assert y is not None

    def run(scalars: Scalars) -> None:
        y[...] = sum(x.mean(dtype=np.float64) for x in numbers)

    return run


def bind_channel_sum(op: ops.ChannelSum, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (dy,), y = given(operands), results[0]
    assert y is not None

    def run(scalars: Scalars) -> None:
        y[...] = channel_sum(dy)

    return run


def bind_batch_sum(op: ops.BatchSum, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (dy,), y = given(operands), results[0]
    assert y is not None

    def run(scalars: Scalars) -> None:
        np.copyto(y, dy.sum(0, dtype=np.float64), casting="same_kind")

    return run


def bind_zeros(op: ops.Zeros, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (y,) = results
    assert y is not None

    def run(scalars: Scalars) -> None:
        y.fill(0)

    return run
