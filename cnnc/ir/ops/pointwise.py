"""Ops on one element at a time; all of them can be a conv's epilogue."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.ir.ops.base import Op, expect_same, expect_vector
from cnnc.ir.types import TensorType

ACTIVATIONS = ("relu", "tanh", "sigmoid")


@dataclass(frozen=True)
class BiasAdd(Op):
    """``(x [...,K], bias [K]) -> x + bias``."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        x, bias = operands
        expect_vector(bias, x.shape[-1], "bias_add")
        return (x,)


@dataclass(frozen=True)
class Activation(Op):
    """``x -> f(x)`` with f one of ``ACTIVATIONS``."""

    kind: str

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return operands


@dataclass(frozen=True)
class ActivationGrad(Op):
    """``(dy, y) -> dy * f'(x)``, from the output y = f(x), so that x need not be kept."""

    kind: str

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        expect_same(operands[0], operands[1], "activation_grad")
        return (operands[0],)


@dataclass(frozen=True)
class Add(Op):
    """``(a, b) -> a + b``."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        expect_same(operands[0], operands[1], "add")
        return (operands[0],)


@dataclass(frozen=True)
class Dropout(Op):
    """``x -> x * mask / (1 - rate)``; also its own gradient, since the mask is replayed.

    The mask is Philox-4x32-10 (Salmon et al. 2011) with key = seed and counter = (index, index >> 32,
    stream, step), where index is the element's place in ``[N, H, W, C]`` order: the same
    whatever the layout, the fusion or the device. An element stays if the first word is at least rate * 2^32.
    """

    rate: float
    stream: int

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return operands
