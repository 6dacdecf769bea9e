"""Ops on one element at a time; results may be written over the first operand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnc.ir import ops
from cnnc.runtime.cpu.operand import Operand, Results, Run, Scratch, given, lines
from cnnc.runtime.philox import dropout_mask
from cnnc.runtime.scalars import Scalars


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


def bind_position_bias(op: ops.PositionBias, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x, bias), y = given(operands), results[0]
    assert y is not None

    def run(scalars: Scalars) -> None:
        np.add(x, bias, out=y)

    return run


def bind_identity(op: ops.Identity, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,), y = given(operands), results[0]
    assert y is not None

    def run(scalars: Scalars) -> None:
        np.copyto(y, x)

    return run


def bind_scale(op: ops.Scale, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,), y = given(operands), results[0]
    assert y is not None

    def run(scalars: Scalars) -> None:
        np.multiply(x, op.factor, out=y)

    return run


def bind_channel_scale(op: ops.ChannelScale, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    x, factor = given(operands)
    assert results[0] is not None
    (source, y), repeat = lines(x, results[0])

    def run(scalars: Scalars) -> None:
        np.multiply(source, np.tile(factor, repeat), out=y)

    return run


def bind_mul(op: ops.Mul, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (a, b), y = given(operands), results[0]
    assert y is not None

    def run(scalars: Scalars) -> None:
        np.multiply(a, b, out=y)

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
