"""Matrix products over the last axis: fully connected layers and 1x1 convolutions alike."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.ir.ops.base import Op, expect
from cnnc.ir.types import Element, TensorType, format_shape


@dataclass(frozen=True)
class Linear(Op):
    """``(x [...,C], w [K,C]) -> [...,K]``: one product per pixel, or per image for a vector."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        x, w = operands
        expect(len(w.shape) == 2 and x.shape[-1:] == w.shape[1:], _misfit(x, w))
        return (x.with_shape(*x.shape[:-1], w.shape[0]),)


@dataclass(frozen=True)
class LinearDgrad(Op):
    """``(dy [...,K], w [K,C]) -> dx [...,C]``."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        dy, w = operands
        expect(len(w.shape) == 2 and dy.shape[-1] == w.shape[0], _misfit(dy, w))
        return (dy.with_shape(*dy.shape[:-1], w.shape[1]),)


@dataclass(frozen=True)
class LinearWgrad(Op):
    """``(dy [...,K], x [...,C]) -> dw [K,C]``, summed over pixels and batch, in ACC."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        dy, x = operands
        expect(dy.shape[:-1] == x.shape[:-1], _misfit(dy, x))
        return (TensorType((dy.shape[-1], x.shape[-1]), False, Element.ACC),)


@dataclass(frozen=True)
class Rbf(Op):
    """``(x [C], w [K,C]) -> y [K]`` with ``y_k = sum_c (x_c - w_kc)^2`` (LeNet-5's output; w are fixed codes)."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        x, w = operands
        expect(len(x.shape) == 1 and x.shape == w.shape[1:], _misfit(x, w))
        return (x.with_shape(w.shape[0]),)


@dataclass(frozen=True)
class RbfGrad(Op):
    """``(dy [K], x [C], w [K,C]) -> dx [C]`` with ``dx_c = 2 sum_k dy_k (x_c - w_kc)``."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        dy, x, w = operands
        expect(dy.shape == w.shape[:1] and x.shape == w.shape[1:], _misfit(x, w))
        return (x,)


def _misfit(a: TensorType, b: TensorType) -> str:
    return f"{format_shape(a.shape)} does not fit {format_shape(b.shape)}"
