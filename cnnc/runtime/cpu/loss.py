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
    images = np.arange(len(logits))

    def run(scalars: Scalars) -> None:
        top = _exponentials(logits, weights)
        total = weights.sum(axis=1, keepdims=True)
        if loss is not None:
            np.subtract(np.log(total[:, 0]) + top[:, 0], logits[images, label], out=loss)
        if dlogits is not None:
            factor = scalars.loss_scale / len(logits)
            np.multiply(weights, factor / total, out=dlogits)
            dlogits[images, label] -= factor

    return run


def _exponentials(x: Array, out: Array) -> Array:
    """``exp(x - max)`` along the last axis; gives back the maxima."""
    top: Array = x.max(axis=-1, keepdims=True)
    np.subtract(x, top, out=out)
    np.exp(out, out=out)
    return top


def bind_batch_mean(op: ops.BatchMean, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,), y = given(operands), results[0]
    assert y is not None

    def run(scalars: Scalars) -> None:
        y[...] = x.mean(dtype=np.float64)

    return run


def bind_channel_sum(op: ops.ChannelSum, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (dy,), y = given(operands), results[0]
    assert y is not None

    def run(scalars: Scalars) -> None:
        y[...] = channel_sum(dy)

    return run
