"""Where values come from: the program's input, targets, and parameters."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.ir.ops.base import Op
from cnnc.ir.params import ParamSpec
from cnnc.ir.types import Element, TensorType


@dataclass(frozen=True)
class Input(Op):
    """An array given at each call: ``[N, *shape]``."""

    shape: tuple[int, ...]
    element: Element = Element.REAL

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return (TensorType(self.shape, True, self.element),)


@dataclass(frozen=True)
class Zeros(Op):
    """``() -> 0`` of this shape: the gradient of what the loss does not depend on.

    That of a parameter is in ACC; that of an activation (``batched``) is one such array per image, in REAL.
    """

    shape: tuple[int, ...]
    batched: bool = False

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return (TensorType(self.shape, self.batched, Element.REAL if self.batched else Element.ACC),)


@dataclass(frozen=True)
class Parameter(Op):
    """A trainable parameter or a buffer (running statistic), in its stored layout.

    ``element`` REAL reads the copy in the compute dtype (what matrix products take), ACC the master.
    """

    spec: ParamSpec
    element: Element = Element.ACC

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return (TensorType(self.spec.shape, False, self.element),)
