"""Steps over the whole parameter arena: the optimiser's update, and the copy in the compute dtype."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.ir.ops.base import Op
from cnnc.ir.types import Element, TensorType


@dataclass(frozen=True)
class SgdUpdate(Op):
    """``(p, g, v) -> (p', v')`` over the arena, in place, PyTorch's SGD.

    ``g' = g / loss_scale + weight_decay * p`` (decay on the first ``decayed`` elements only);
    ``v' = momentum * v + g'``; ``p' = p - lr * v'``. The learning rate, loss scale, momentum and
    decay are given at each call. Elements ``clipped[0] <= i < clipped[1]`` of p' (the masters of binary
    weights) are then kept in [-1, 1].
    """

    decayed: int
    clipped: tuple[int, int] = (0, 0)

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        p, _, v = operands
        return p, v


@dataclass(frozen=True)
class CastArena(Op):
    """``p -> p`` rounded to the compute dtype: the 16-bit copy that matrix products read."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (p,) = operands
        return (TensorType(p.shape, False, Element.REAL),)
