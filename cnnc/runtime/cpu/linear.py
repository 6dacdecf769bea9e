"""Matrix products over the last axis: pointwise convolutions of images, plain products of vectors; distances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnc.ir import ops
from cnnc.ir.window import Window
from cnnc.runtime.arrays import Array
from cnnc.runtime.cpu.columns import columns
from cnnc.runtime.cpu.operand import Operand, Results, Run, Scratch, as_rows, given
from cnnc.runtime.cpu.product import accumulate, in_turn, multiply, product
from cnnc.runtime.scalars import Scalars

POINT = Window((1, 1))
ALL = slice(None)


def bind_linear(op: ops.Linear, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    return _bind_product(operands[0], operands[1].array.T, results[0], scratch)


def bind_linear_dgrad(op: ops.LinearDgrad, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    return _bind_product(operands[0], operands[1].array, results[0], scratch)


def _bind_product(x: Operand, matrix: Array, y: Array | None, scratch: Scratch) -> Run:
    assert y is not None
    rows, into = as_rows(x.array), as_rows(y)
    if rows is not None and into is not None:
        return in_turn([product(rows, matrix, into)])
    return in_turn(multiply(columns(x, POINT, ALL, scratch), matrix, y, scratch))


def bind_linear_wgrad(op: ops.LinearWgrad, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (dy, x), dw = operands, results[0]
    assert dw is not None
    left, right = as_rows(dy.array), as_rows(x.array)
    if left is not None and right is not None:
        return in_turn([product(left.T, right, dw)])
    return in_turn(accumulate(columns(x, POINT, ALL, scratch), dy.array, dw, scratch))


def bind_rbf(op: ops.Rbf, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    """One code after the other: a product of x and w would cancel where x is near a code."""
    (x, w), y = given(operands), results[0]
    assert y is not None
    off = scratch.array(x.shape, x.dtype)

    def run(scalars: Scalars) -> None:
        for k, code in enumerate(w):
            np.subtract(x, code, out=off)
            np.einsum("nc,nc->n", off, off, out=y[:, k])

    return run


def bind_rbf_grad(op: ops.RbfGrad, operands: Sequence[Operand], results: Results, scratch: Scratch) -> Run:
    (dy, x, w), dx = given(operands), results[0]
    assert dx is not None
    off = scratch.array(x.shape, x.dtype)

    def run(scalars: Scalars) -> None:
        dx.fill(0)
        for k, code in enumerate(w):
            np.subtract(x, code, out=off)
            np.multiply(off, 2 * dy[:, k, np.newaxis], out=off)
            np.add(dx, off, out=dx)

    return run
