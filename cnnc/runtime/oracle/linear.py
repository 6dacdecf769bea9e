"""Matrix products and distances over the last axis, and their gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnc.ir import ops
from cnnc.runtime.arrays import Array
from cnnc.runtime.scalars import Scalars


def linear(op: ops.Linear, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    x, w = operands
    return (x @ w.T,)


def linear_dgrad(op: ops.LinearDgrad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    dy, w = operands
    return (dy @ w,)


def linear_wgrad(op: ops.LinearWgrad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    dy, x = operands
    summed = tuple(range(dy.ndim - 1))
    return (np.tensordot(dy, x, (summed, summed)),)


def rbf(op: ops.Rbf, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    return ((_differences(*operands) ** 2).sum(2),)


def rbf_grad(op: ops.RbfGrad, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    dy, x, w = operands
    return (2 * (dy[:, :, None] * _differences(x, w)).sum(1),)


def _differences(x: Array, w: Array) -> Array:
    """``[N, K, C]``: each vector from each code."""
    result: Array = x[:, None, :] - w
    return result
