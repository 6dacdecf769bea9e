"""Ops on one element at a time; all of them can be a conv's epilogue."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.ir.ops.base import Op, expect, expect_same, expect_vector
from cnnc.ir.types import TensorType

# What ``Activation`` computes, with its ``alpha`` (0 where none is named):
#   leaky_relu    x if x > 0 else alpha x
#   elu           x if x > 0 else alpha (e^x - 1)
#   scaled_tanh   1.7159 tanh(2x/3) (LeCun 1998)
#   hard_sigmoid  min(max(0.2x + 0.5, 0), 1)
#   softsign      x / (1 + |x|)
#   sign          1 if x >= alpha else -1; the gradient passes where |x - alpha| <= 1 (Hubara 2016)
#   sqrt          of x >= 0; the gradient of 0 is 0
#   inverse_deviation  1 / max(alpha, sqrt(x)) of a variance x >= 0
ACTIVATIONS = (
    "relu",
    "tanh",
    "sigmoid",
    "leaky_relu",
    "elu",
    "scaled_tanh",
    "hard_sigmoid",
    "softsign",
    "sign",
    "sqrt",
    "inverse_deviation",
)
# Activations whose gradient needs the input x; all others are differentiated from their output.
FROM_INPUT = ("sign", "inverse_deviation")


@dataclass(frozen=True)
class BiasAdd(Op):
    """``(x [...,K], bias [K]) -> x + bias``."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        x, bias = operands
        expect_vector(bias, x.shape[-1], "bias_add")
        return (x,)


@dataclass(frozen=True)
class PositionBias(Op):
    """``(x [H,W,C], bias [H,W,C]) -> x + bias``: a bias of its own for every position (AlphaGo's last layer)."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        x, bias = operands
        expect(x.shape == bias.shape and not bias.batched, "a position bias needs one element per position")
        return (x,)


@dataclass(frozen=True)
class Activation(Op):
    """``x -> f(x)`` with f one of ``ACTIVATIONS``."""

    kind: str
    alpha: float = 0.0

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return operands


@dataclass(frozen=True)
class ActivationGrad(Op):
    """``(dy, v) -> dy * f'(x)``; v is the output y = f(x), so that x need not be kept, or x for ``FROM_INPUT``."""

    kind: str
    alpha: float = 0.0

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        expect_same(operands[0], operands[1], "activation_grad")
        return (operands[0],)


@dataclass(frozen=True)
class PRelu(Op):
    """``(x [...,C], slope [C]) -> x if x > 0 else slope x`` (He et al. 2015)."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        x, slope = operands
        expect_vector(slope, x.shape[-1], "prelu")
        return (x,)


@dataclass(frozen=True)
class PReluGrad(Op):
    """``(dy, x, slope [C]) -> dx``."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        dy, x, slope = operands
        expect_same(dy, x, "prelu_grad")
        expect_vector(slope, x.shape[-1], "prelu_grad")
        return (dy,)


@dataclass(frozen=True)
class PReluSlopeGrad(Op):
    """``(dy, x) -> dy min(x, 0)``: the slope's gradient before it is summed by ``ChannelSum``."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        expect_same(operands[0], operands[1], "prelu_slope_grad")
        return (operands[0],)


@dataclass(frozen=True)
class Identity(Op):
    """``x -> x`` in memory of its own."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return operands


@dataclass(frozen=True)
class Scale(Op):
    """``x -> factor x``; its own gradient."""

    factor: float

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return operands


@dataclass(frozen=True)
class ChannelScale(Op):
    """``(x [...,C], factor [C]) -> x * factor``."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        x, factor = operands
        expect_vector(factor, x.shape[-1], "scale")
        return (x,)


@dataclass(frozen=True)
class Mul(Op):
    """``(a, b) -> a * b``, element by element."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        expect_same(operands[0], operands[1], "mul")
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
