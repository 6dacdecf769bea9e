"""Weights before they are used."""

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
