"""Ops on one element at a time; results may be written over the first operand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cnnc.ir import ops
from cnnc.runtime.arrays import Array
from cnnc.runtime.cpu.operand import Operand, Results, Run, Scratch, blocks, given, lines
from cnnc.runtime.cpu.select import Selector
from cnnc.runtime.philox import dropout_mask
from cnnc.runtime.scalars import Scalars

CHUNK_BYTES = 1 << 18


def bind_bias_add(op: ops.BiasAdd, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    x, bias = given(operands)
    assert results[0] is not None
    (source, y), repeat = lines(x, results[0])

    def run(scalars: Scalars) -> None:
        np.add(source, np.tile(bias, repeat), out=y)

    return run


def bind_add(op: ops.Add, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (a, b), y = given(operands), results[0]
    assert y is not None

    def run(scalars: Scalars) -> None:
        np.add(a, b, out=y)

    return run


def _relu(x: Array, y: Array) -> None:
    np.maximum(x, 0, out=y)


def _tanh(x: Array, y: Array) -> None:
    np.tanh(x, out=y)


def _sigmoid(x: Array, y: Array) -> None:
    np.negative(x, out=y)
    np.exp(y, out=y)  # overflows to infinity, whose reciprocal is the right 0
    np.add(y, 1, out=y)
    np.reciprocal(y, out=y)


FORWARD: dict[str, Callable[[Array, Array], None]] = {"relu": _relu, "tanh": _tanh, "sigmoid": _sigmoid}


def bind_activation(op: ops.Activation, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,), y = given(operands), results[0]
    assert y is not None
    function = FORWARD[op.kind]
    pieces = [(x[at], y[at]) for at in blocks(x.shape, x.itemsize, CHUNK_BYTES)]

    def run(scalars: Scalars) -> None:
        for source, into in pieces:
            function(source, into)

    return run


def _tanh_slope(y: Array, spare: Array) -> None:
    np.multiply(y, y, out=spare)
    np.subtract(1, spare, out=spare)


def _sigmoid_slope(y: Array, spare: Array) -> None:
    np.subtract(1, y, out=spare)
    np.multiply(y, spare, out=spare)


SLOPE: dict[str, Callable[[Array, Array], None]] = {
    "tanh": _tanh_slope,
    "sigmoid": _sigmoid_slope,
}


def bind_activation_grad(
    op: ops.ActivationGrad, operands: Sequence[Operand], results: Results, scratch: Scratch
) -> Run:
    (dy, y), dx = given(operands), results[0]
    assert dx is not None
    if op.kind == "relu":
        return _bind_relu_grad(dy, y, dx, scratch)
    slope = SLOPE[op.kind]
    pieces = []
    for at in blocks(dy.shape, dy.itemsize, CHUNK_BYTES):
        with scratch.shared():
            pieces.append((dy[at], y[at], dx[at], scratch.array(dy[at].shape, dy.dtype)))

    def run(scalars: Scalars) -> None:
        for gradient, output, into, spare in pieces:
            slope(output, spare)
            np.multiply(gradient, spare, out=into)

    return run


def _bind_relu_grad(dy: Array, y: Array, dx: Array, scratch: Scratch) -> Run:
    cuts = blocks(dy.shape, dy.itemsize, CHUNK_BYTES)
    selector = Selector(max(dy[at].size for at in cuts), dy.dtype, scratch)
    pieces = [(dy[at], y[at], dx[at]) for at in cuts]

    def run(scalars: Scalars) -> None:
        for gradient, output, into in pieces:
            flags = selector.flags(output.shape)
            np.greater(output, 0, out=flags)
            selector.select(gradient, flags, into)

    return run


def bind_dropout(op: ops.Dropout, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,), y = given(operands), results[0]
    assert y is not None
    factor = x.dtype.type(1 / (1 - op.rate) if op.rate < 1 else 0)

    def run(scalars: Scalars) -> None:
        kept = dropout_mask(scalars.seed, scalars.step, op.stream, op.rate, x.shape)
        np.multiply(x, factor, out=y)
        np.copyto(y, 0, where=np.logical_not(kept, out=kept))

    return run


def bind_flatten(op: ops.Flatten, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,), y = given(operands), results[0]
    assert y is not None
    count, height, width, channels = x.shape
    # Splitting an axis is always a view.
    target = y.reshape(count, channels, height, width).transpose(0, 2, 3, 1)

    def run(scalars: Scalars) -> None:
        np.copyto(target, x)

    return run


def bind_unflatten(op: ops.Unflatten, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,), y = given(operands), results[0]
    assert y is not None
    height, width, channels = op.shape
    source = x.reshape(len(x), channels, height, width).transpose(0, 2, 3, 1)

    def run(scalars: Scalars) -> None:
        np.copyto(y, source)

    return run
