"""Weights before they are used: masked, their signs, or those of several layers as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnc.ir import ops
from cnnc.runtime.cpu.operand import Operand, Results, Run, Scratch, given
from cnnc.runtime.scalars import Scalars


def bind_mask_weight(op: ops.MaskWeight, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (w, mask), y = given(operands), results[0]
    assert y is not None
    filters, channels = mask.shape
    spread = mask.reshape(filters, *(1 for _ in w.shape[1:-1]), channels)

    def run(scalars: Scalars) -> None:
        np.multiply(w, spread, out=y)

    return run


def bind_binarize(op: ops.Binarize, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (w,), y = given(operands), results[0]
    assert y is not None
    flags = scratch.array(w.shape, np.bool_)

    def run(scalars: Scalars) -> None:
        np.greater_equal(w, 0, out=flags)
        np.multiply(flags, y.dtype.type(2), out=y)
        np.subtract(y, 1, out=y)

    return run


def bind_concat_rows(op: ops.ConcatRows, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    arrays, y = given(operands), results[0]
    assert y is not None

    def run(scalars: Scalars) -> None:
        np.concatenate(arrays, out=y)

    return run


def bind_row_slice(op: ops.RowSlice, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (x,), y = given(operands), results[0]
    assert y is not None
    rows = x[op.start : op.start + op.count]

    def run(scalars: Scalars) -> None:
        np.copyto(y, rows)

    return run
