"""Ops on one element at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cnnc.ir import ops
from cnnc.runtime.arrays import Array
from cnnc.runtime.philox import dropout_mask
from cnnc.runtime.scalars import Scalars


def _sigmoid(x: Array) -> Array:
    # exp of a negative number only, so that nothing overflows.
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def _inverse_deviation_slope(x: Array, a: float) -> Array:
    with np.errstate(divide="ignore"):
        return np.where(np.sqrt(x) > a, -0.5 * x**-1.5, 0)


def _sqrt_slope(y: Array, a: float) -> Array:
    with np.errstate(divide="ignore"):
        return np.where(y > 0, 0.5 / y, 0)


Function = Callable[[Array, float], Array]  # of an array and alpha

# kind -> (f(x), f' from the output y, or from the input where ``ops.FROM_INPUT`` says so)
FUNCTIONS: dict[str, tuple[Function, Function]] = {
    "relu": (lambda x, a: np.maximum(x, 0), lambda y, a: y > 0),
    "tanh": (lambda x, a: np.tanh(x), lambda y, a: 1 - y * y),
    "sigmoid": (lambda x, a: _sigmoid(x), lambda y, a: y * (1 - y)),
    "leaky_relu": (lambda x, a: np.where(x > 0, x, a * x), lambda y, a: np.where(y > 0, 1, a)),
    "elu": (lambda x, a: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))), lambda y, a: np.where(y > 0, 1, y + a)),
    "scaled_tanh": (lambda x, a: 1.7159 * np.tanh(x * 2 / 3), lambda y, a: 1.7159 * 2 / 3 * (1 - (y / 1.7159) ** 2)),
    "hard_sigmoid": (lambda x, a: np.clip(0.2 * x + 0.5, 0, 1), lambda y, a: np.where((y > 0) & (y < 1), 0.2, 0)),
    "softsign": (lambda x, a: x / (1 + np.abs(x)), lambda y, a: (1 - np.abs(y)) ** 2),
    "sign": (lambda x, a: np.where(x >= a, 1.0, -1.0), lambda x, a: np.abs(x - a) <= 1),
    "sqrt": (lambda x, a: np.sqrt(x), _sqrt_slope),
    "inverse_deviation": (lambda x, a: 1 / np.maximum(np.sqrt(x), a), _inverse_deviation_slope),
}
STEPS = ("relu", "sign")  # their gradient passes or does not: a product would make NaN of infinities


def bias_add(op: ops.BiasAdd | ops.PositionBias, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    """A bias by channel, or by position and channel: the same for every image."""
    x, bias = operands
    return (x + bias,)


def activation(op: ops.Activation, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    (x,) = operands
    return (FUNCTIONS[op.kind][0](x, op.alpha).astype(x.dtype),)


def activation_grad(op: ops.ActivationGrad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    dy, value = operands
    slope = FUNCTIONS[op.kind][1](value, op.alpha)
    return ((np.where(slope, dy, 0) if op.kind in STEPS else dy * slope).astype(dy.dtype),)


def prelu(op: ops.PRelu, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    x, slope = operands
    return (np.where(x > 0, x, slope * x),)


def prelu_grad(op: ops.PReluGrad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    dy, x, slope = operands
    return (np.where(x > 0, dy, slope * dy),)


def prelu_slope_grad(op: ops.PReluSlopeGrad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    dy, x = operands
    return (dy * np.minimum(x, 0),)


def identity(op: ops.Identity, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    return (operands[0].copy(),)


def scale(op: ops.Scale, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    return (op.factor * operands[0],)


def multiply(op: ops.ChannelScale | ops.Mul, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    """Element by element; a channel's factor serves all its elements."""
    return (operands[0] * operands[1],)


def add(op: ops.Add, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    return (operands[0] + operands[1],)


def dropout(op: ops.Dropout, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    (x,) = operands
    if op.rate >= 1:
        return (np.zeros_like(x),)
    kept = dropout_mask(scalars.seed, scalars.step, op.stream, op.rate, x.shape)
    return (np.where(kept, x / (1 - op.rate), 0).astype(x.dtype),)


def flatten(op: ops.Flatten, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    (x,) = operands
    return (x.transpose(0, 3, 1, 2).reshape(len(x), -1),)


def unflatten(op: ops.Unflatten, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    (x,) = operands
    height, width, channels = op.shape
    return (x.reshape(len(x), channels, height, width).transpose(0, 2, 3, 1),)
