"""Ops that only rearrange."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cnnc.ir.ops.base import Op, expect, image_of
from cnnc.ir.types import TensorType


@dataclass(frozen=True)
class Flatten(Op):
    """``x [H,W,C] -> [C*H*W]`` in CHW order, as PyTorch flattens NCHW."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (x,) = operands
        return (x.with_shape(math.prod(image_of(x, "flatten"))),)


@dataclass(frozen=True)
class Unflatten(Op):
    """``x [C*H*W] -> [H,W,C]``: the inverse (and gradient) of Flatten; ``shape`` is H, W, C."""

    shape: tuple[int, int, int]

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (x,) = operands
        expect(x.shape == (math.prod(self.shape),), "unflatten changes the number of elements")
        return (x.with_shape(*self.shape),)
