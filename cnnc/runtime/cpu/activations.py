"""Activations and their gradients, in cache-sized pieces; results may be written over the first operand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnc.ir import ops
from cnnc.runtime.arrays import Array
from cnnc.runtime.cpu.operand import Operand, Results, Run, Scratch, blocks, given, lines
from cnnc.runtime.cpu.select import Selector
from cnnc.runtime.scalars import Scalars

CHUNK_BYTES = 1 << 18
TANH_HEIGHT, TANH_SLOPE = 1.7159, 2 / 3  # of scaled_tanh


@dataclass(frozen=True)
class Spare:
    """Memory of one piece's size beside it."""

    array: Array
    flags: Array

    def factor(self, chosen: Any) -> Array:
        """``chosen`` where the flags are set, 1 elsewhere; exact. The flags are inverted."""
        np.multiply(self.flags, chosen, out=self.array)
        np.logical_not(self.flags, out=self.flags)
        return np.add(self.array, self.flags, out=self.array)


Forward = Callable[[Array, Array, Spare, Any], None]  # (x, y, spare, alpha in x's dtype)
Slope = Callable[[Array, Spare, Any], None]  # (y, or x for ops.FROM_INPUT; spare, whose array it fills; alpha)


def _relu(x: Array, y: Array, spare: Spare, alpha: Any) -> None:
    np.maximum(x, 0, out=y)


def _tanh(x: Array, y: Array, spare: Spare, alpha: Any) -> None:
    np.tanh(x, out=y)


def _sigmoid(x: Array, y: Array, spare: Spare, alpha: Any) -> None:
    np.negative(x, out=y)
    np.exp(y, out=y)  # overflows to infinity, whose reciprocal is the right 0
    np.add(y, 1, out=y)
    np.reciprocal(y, out=y)


def _leaky_relu(x: Array, y: Array, spare: Spare, alpha: Any) -> None:
    """Also PReLU, with a slope for each channel."""
    np.less_equal(x, 0, out=spare.flags)
    np.multiply(x, spare.factor(alpha), out=y)


def _elu(x: Array, y: Array, spare: Spare, alpha: Any) -> None:
    np.minimum(x, 0, out=spare.array)
    np.expm1(spare.array, out=spare.array)
    np.multiply(spare.array, alpha, out=spare.array)
    np.maximum(x, 0, out=y)
    np.add(y, spare.array, out=y)


def _scaled_tanh(x: Array, y: Array, spare: Spare, alpha: Any) -> None:
    np.multiply(x, TANH_SLOPE, out=y)
    np.tanh(y, out=y)
    np.multiply(y, TANH_HEIGHT, out=y)


def _hard_sigmoid(x: Array, y: Array, spare: Spare, alpha: Any) -> None:
    np.multiply(x, 0.2, out=y)
    np.add(y, 0.5, out=y)
    np.clip(y, 0, 1, out=y)


def _softsign(x: Array, y: Array, spare: Spare, alpha: Any) -> None:
    np.abs(x, out=spare.array)
    np.add(spare.array, 1, out=spare.array)
    np.divide(x, spare.array, out=y)


def _sign(x: Array, y: Array, spare: Spare, alpha: Any) -> None:
    np.greater_equal(x, alpha, out=spare.flags)
    np.multiply(spare.flags, y.dtype.type(2), out=y)
    np.subtract(y, 1, out=y)


def _sqrt(x: Array, y: Array, spare: Spare, alpha: Any) -> None:
    np.sqrt(x, out=y)


def _inverse_deviation(x: Array, y: Array, spare: Spare, alpha: Any) -> None:
    np.sqrt(x, out=y)
    np.maximum(y, alpha, out=y)
    np.reciprocal(y, out=y)


FORWARD: dict[str, Forward] = {
    "relu": _relu,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "scaled_tanh": _scaled_tanh,
    "hard_sigmoid": _hard_sigmoid,
    "softsign": _softsign,
    "sign": _sign,
    "sqrt": _sqrt,
    "inverse_deviation": _inverse_deviation,
}


def bind_activation(op: ops.Activation, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,), y = given(operands), results[0]
    assert y is not None
    function, alpha = FORWARD[op.kind], x.dtype.type(op.alpha)
    pieces = [(x[at], y[at], spare) for at, spare in _pieces(x, scratch)]

    def run(scalars: Scalars) -> None:
        for source, into, spare in pieces:
            function(source, into, spare, alpha)

    return run


def _tanh_slope(y: Array, spare: Spare, alpha: Any) -> None:
    np.multiply(y, y, out=spare.array)
    np.subtract(1, spare.array, out=spare.array)


def _sigmoid_slope(y: Array, spare: Spare, alpha: Any) -> None:
    np.subtract(1, y, out=spare.array)
    np.multiply(y, spare.array, out=spare.array)


def _leaky_relu_slope(y: Array, spare: Spare, alpha: Any) -> None:
    np.less_equal(y, 0, out=spare.flags)
    spare.factor(alpha)


def _elu_slope(y: Array, spare: Spare, alpha: Any) -> None:
    np.less_equal(y, 0, out=spare.flags)
    np.minimum(y, 0, out=spare.array)
    np.add(spare.array, alpha, out=spare.array)
    spare.factor(spare.array)


def _scaled_tanh_slope(y: Array, spare: Spare, alpha: Any) -> None:
    np.multiply(y, 1 / TANH_HEIGHT, out=spare.array)
    np.multiply(spare.array, spare.array, out=spare.array)
    np.subtract(1, spare.array, out=spare.array)
    np.multiply(spare.array, TANH_HEIGHT * TANH_SLOPE, out=spare.array)


def _hard_sigmoid_slope(y: Array, spare: Spare, alpha: Any) -> None:
    _sigmoid_slope(y, spare, alpha)  # above 0 strictly between the ends
    np.greater(spare.array, 0, out=spare.flags)
    np.multiply(spare.flags, y.dtype.type(0.2), out=spare.array)


def _softsign_slope(y: Array, spare: Spare, alpha: Any) -> None:
    np.abs(y, out=spare.array)
    np.subtract(1, spare.array, out=spare.array)
    np.multiply(spare.array, spare.array, out=spare.array)


def _sqrt_slope(y: Array, spare: Spare, alpha: Any) -> None:
    np.equal(y, 0, out=spare.flags)
    np.add(y, spare.flags, out=spare.array)
    np.divide(0.5, spare.array, out=spare.array)
    _clear(spare)


def _inverse_deviation_slope(x: Array, spare: Spare, alpha: Any) -> None:
    """``-1/2 x^(-3/2)``, and 0 where the deviation is not above alpha."""
    np.sqrt(x, out=spare.array)
    np.less_equal(spare.array, alpha, out=spare.flags)
    np.add(spare.array, spare.flags, out=spare.array)
    np.multiply(spare.array, x, out=spare.array)
    np.add(spare.array, spare.flags, out=spare.array)
    np.divide(-0.5, spare.array, out=spare.array)
    _clear(spare)


def _clear(spare: Spare) -> None:
    """0 where the flags are set."""
    np.logical_not(spare.flags, out=spare.flags)
    np.multiply(spare.array, spare.flags, out=spare.array)


SLOPE: dict[str, Slope] = {
    "tanh": _tanh_slope,
    "sigmoid": _sigmoid_slope,
    "leaky_relu": _leaky_relu_slope,
    "elu": _elu_slope,
    "scaled_tanh": _scaled_tanh_slope,
    "hard_sigmoid": _hard_sigmoid_slope,
    "softsign": _softsign_slope,
    "sqrt": _sqrt_slope,
    "inverse_deviation": _inverse_deviation_slope,
}


def bind_activation_grad(
    op: ops.ActivationGrad, operands: Sequence[Operand], results: Results, scratch: Scratch
) -> Run:
    (dy, value), dx = given(operands), results[0]
    assert dx is not None
    if op.kind in ("relu", "sign"):
        return _bind_step_grad(op, dy, value, dx, scratch)
    slope, alpha = SLOPE[op.kind], dy.dtype.type(op.alpha)
    pieces = [(dy[at], value[at], dx[at], spare) for at, spare in _pieces(dy, scratch)]

    def run(scalars: Scalars) -> None:
        for gradient, at, into, spare in pieces:
            slope(at, spare, alpha)
            np.multiply(gradient, spare.array, out=into)

    return run


def _bind_step_grad(op: ops.ActivationGrad, dy: Array, value: Array, dx: Array, scratch: Scratch) -> Run:
    """The gradient passes or it does not: selected, so that a closed unit gives 0 whatever comes from above."""
    cuts = blocks(dy.shape, dy.itemsize, CHUNK_BYTES)
    selector = Selector(max(dy[at].size for at in cuts), dy.dtype, scratch)
    spare = scratch.array((max(dy[at].size for at in cuts),), dy.dtype)
    alpha = dy.dtype.type(op.alpha)
    pieces = [(dy[at], value[at], dx[at], spare[: dy[at].size].reshape(dy[at].shape)) for at in cuts]

    def run(scalars: Scalars) -> None:
        for gradient, at, into, distance in pieces:
            flags = selector.flags(at.shape)
            if op.kind == "relu":
                np.greater(at, 0, out=flags)
            else:
                np.subtract(at, alpha, out=distance)
                np.abs(distance, out=distance)
                np.less_equal(distance, 1, out=flags)
            selector.select(gradient, flags, into)

    return run


def bind_prelu(op: ops.PRelu, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    x, slope = given(operands)
    return _bind_slopes(x, x, slope, results[0], scratch)


def bind_prelu_grad(op: ops.PReluGrad, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    dy, x, slope = given(operands)
    return _bind_slopes(dy, x, slope, results[0], scratch)


def _bind_slopes(source: Array, x: Array, slope: Array, y: Array | None, scratch: Scratch) -> Run:
    """``y = source`` where x > 0, else ``slope * source``."""
    assert y is not None
    pieces = []
    for at, spare in _pieces(x, scratch):
        (*arrays, array, flags), repeat = lines(source[at], x[at], y[at], spare.array, spare.flags)
        pieces.append((arrays, Spare(array, flags), repeat))

    def run(scalars: Scalars) -> None:
        for (source, x, y), spare, repeat in pieces:
            np.less_equal(x, 0, out=spare.flags)
            np.multiply(source, spare.factor(np.tile(slope, repeat)), out=y)

    return run


def bind_prelu_slope_grad(
    op: ops.PReluSlopeGrad, operands: Sequence[Operand], results: Results, scratch: Scratch
) -> Run:
    (dy, x), y = given(operands), results[0]
    assert y is not None
    pieces = [(dy[at], x[at], y[at], spare.array) for at, spare in _pieces(x, scratch)]

    def run(scalars: Scalars) -> None:
        for gradient, source, into, spare in pieces:
            np.minimum(source, 0, out=spare)
            np.multiply(gradient, spare, out=into)

    return run


def _pieces(x: Array, scratch: Scratch) -> list[tuple[tuple[slice, ...], Spare]]:
    """Where to cut an array, and memory for each piece, the same for all."""
    pieces = []
    for at in blocks(x.shape, x.itemsize, CHUNK_BYTES):
        with scratch.shared():
            pieces.append((at, Spare(scratch.array(x[at].shape, x.dtype), scratch.array(x[at].shape, np.bool_))))
    return pieces
