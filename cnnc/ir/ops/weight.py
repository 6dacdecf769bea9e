"""Ops on weights before they are used."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.ir.ops.base import Op, expect
from cnnc.ir.types import Element, TensorType


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
