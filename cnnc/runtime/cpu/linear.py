"""Matrix products over the last axis: pointwise convolutions of images, plain products of vectors."""

from __future__ import annotations

from collections.abc import Sequence

from cnnc.ir import ops
from cnnc.ir.window import Window
from cnnc.runtime.arrays import Array
from cnnc.runtime.cpu.columns import columns
from cnnc.runtime.cpu.operand import Operand, Results, Run, Scratch, as_rows
from cnnc.runtime.cpu.product import accumulate, in_turn, multiply, product

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
