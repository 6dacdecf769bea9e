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


def _relu(x: Array) -> Array:
    return np.maximum(x, 0)


# kind -> (f, gradient from dy and y = f(x))
FUNCTIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array, Array], Array]]] = {
    "relu": (_relu, lambda dy, y: np.where(y > 0, dy, 0).astype(dy.dtype)),
    "tanh": (np.tanh, lambda dy, y: dy * (1 - y * y)),
    "sigmoid": (_sigmoid, lambda dy, y: dy * (y * (1 - y))),
}


def bias_add(op: ops.BiasAdd, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    x, bias = operands
    return (x + bias,)


def activation(op: ops.Activation, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    return (FUNCTIONS[op.kind][0](operands[0]),)


def activation_grad(op: ops.ActivationGrad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    dy, y = operands
    return (FUNCTIONS[op.kind][1](dy, y),)


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
