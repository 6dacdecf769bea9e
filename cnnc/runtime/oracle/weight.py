"""Weights before they are used: masked, their signs, or those of several layers as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnc.ir import ops
from cnnc.runtime.arrays import Array
from cnnc.runtime.scalars import Scalars


def mask_weight(op: ops.MaskWeight, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    w, mask = operands
    filters, channels = mask.shape
    return (w * mask.reshape(filters, *(1 for _ in w.shape[1:-1]), channels),)


def binarize(op: ops.Binarize, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    (w,) = operands
    return (np.where(w >= 0, 1, -1).astype(w.dtype),)


def concat_rows(op: ops.ConcatRows, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    return (np.concatenate(operands),)


def row_slice(op: ops.RowSlice, operands: Sequence[Array], scalars: Scalars) -> tuple[Array, ...]:
    return (operands[0][op.start : op.start + op.count].copy(),)
