"""Sums over batch and pixels, per channel."""

from __future__ import annotations

import numpy as np

from cnnc.runtime.arrays import Array
from cnnc.runtime.cpu.operand import as_rows

BLOCK = 256  # rows summed in the array's own precision; the blocks' sums are added in float64


def channel_sum(array: Array) -> Array:
    """``[..., C] -> [C]`` in float64, by products with a vector of ones.

    Blocks bound the rounding error of float32 sums over millions of pixels.
    """
    rows = as_rows(array)
    if rows is None:
        ones = np.ones(array.shape[-2], array.dtype)
        return _total(np.matmul(ones, array))
    ones = np.ones(BLOCK, array.dtype)
    whole = len(rows) // BLOCK * BLOCK
    total = _total(np.matmul(ones, rows[:whole].reshape(-1, BLOCK, rows.shape[1])))
    rest: Array = total + np.matmul(ones[: len(rows) - whole], rows[whole:])
    return rest


def _total(partial: Array) -> Array:
    total: Array = partial.sum(axis=tuple(range(partial.ndim - 1)), dtype=np.float64)
    return total
