"""Ops on weights before they are used."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.ir.ops.base import Op, expect
from cnnc.ir.types import Element, TensorType, format_shape


@dataclass(frozen=True)
class MaskWeight(Op):
    """``(w [K,...,C], mask [K,C]) -> w * mask``: a conv whose filters read some input maps only (LeNet's C3)."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        w, mask = operands
        expect(mask.shape == (w.shape[0], w.shape[-1]), "the mask needs one element per filter and input channel")
        return (w,)


@dataclass(frozen=True)
class Binarize(Op):
    """``w -> 1 if w >= 0 else -1`` of the master weights, for products; its gradient passes unchanged (Hubara 2016)."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (w,) = operands
        return (TensorType(w.shape, False, Element.REAL),)


@dataclass(frozen=True)
class ConcatRows(Op):
    """``(a [K1,...], b [K2,...], ...) -> [K1+K2+...,...]``: filters, biases or statistics of several layers as one."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        first = operands[0]
        for other in operands:
            expect(
                not other.batched and other.shape[1:] == first.shape[1:] and other.element is first.element,
                f"{format_shape(first.shape)} and {format_shape(other.shape)} do not lie below each other",
            )
        return (first.with_shape(sum(operand.shape[0] for operand in operands), *first.shape[1:]),)


@dataclass(frozen=True)
class RowSlice(Op):
    """``x [K,...] -> [count,...]``, rows from ``start`` on: the gradient of one operand of ConcatRows."""

    start: int
    count: int

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (x,) = operands
        expect(not x.batched and 0 <= self.start <= x.shape[0] - self.count, "the slice ends outside its operand")
        return (x.with_shape(self.count, *x.shape[1:]),)
