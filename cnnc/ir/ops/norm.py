"""Batch normalisation (Ioffe and Szegedy 2015): inference, training, gradient, and the parts kernels run."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.ir.ops.base import Op, expect, expect_same, expect_vector
from cnnc.ir.types import Element, TensorType


def _channels(x: TensorType, vectors: tuple[TensorType, ...], what: str) -> TensorType:
    """Check per-channel operands; gives the type of one per-channel result."""
    expect(x.batched and len(x.shape) in (1, 3), f"{what} needs an image or a vector", "input")
    for vector in vectors:
        expect_vector(vector, x.shape[-1], what)
    return TensorType(x.shape[-1:], False, Element.ACC)


@dataclass(frozen=True)
class BatchNorm(Op):
    """``(x, gamma, beta, mean, var) -> gamma * (x - mean) / sqrt(var + eps) + beta`` per channel."""

    eps: float = 1e-5
    momentum: float = 0.1

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        x, *vectors = operands
        _channels(x, tuple(vectors), "bn")
        return (x,)


@dataclass(frozen=True)
class BatchNormTrain(Op):
    """``(x, gamma, beta) -> (y, mean, var)`` with the batch's own mean and biased variance."""

    eps: float = 1e-5

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        x, gamma, beta = operands
        vector = _channels(x, (gamma, beta), "bn")
        return x, vector, vector


@dataclass(frozen=True)
class BatchNormGrad(Op):
    """``(dy, x, mean, var, gamma) -> (dx, dgamma, dbeta)``, through the statistics."""

    eps: float = 1e-5

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        dy, x, mean, var, gamma = operands
        expect_same(dy, x, "bn_grad")
        vector = _channels(x, (mean, var, gamma), "bn_grad")
        return dy, vector, vector


@dataclass(frozen=True)
class BatchNormStats(Op):
    """``x -> (mean, var)`` over batch and pixels; the variance is biased."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        vector = _channels(operands[0], (), "bn_stats")
        return vector, vector


@dataclass(frozen=True)
class BatchNormUpdate(Op):
    """``(running_mean, running_var, mean, var) -> (running_mean', running_var')``.

    ``r' = (1 - momentum) r + momentum * batch``; the variance is unbiased by n/(n-1) first, with
    n = pixels * N (PyTorch's rule). With n = 1 the running variance stays as it is.
    """

    momentum: float
    pixels: int

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        for vector in operands[1:]:
            expect_same(operands[0], vector, "bn_update")
        return operands[0], operands[1]


@dataclass(frozen=True)
class BatchNormReduce(Op):
    """``(dy, x, mean, var) -> (dgamma, dbeta)``: sums of dy * xhat and of dy over batch and pixels."""

    eps: float = 1e-5

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        dy, x, mean, var = operands
        expect_same(dy, x, "bn_reduce")
        vector = _channels(x, (mean, var), "bn_reduce")
        return vector, vector


@dataclass(frozen=True)
class BatchNormInputGrad(Op):
    """``(dy, x, mean, var, gamma, dgamma, dbeta) -> dx``.

    ``dx = gamma/sqrt(var+eps) * (dy - dbeta/n - xhat * dgamma/n)`` with n = pixels * N.
    """

    eps: float = 1e-5

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        dy, x, *vectors = operands
        expect_same(dy, x, "bn_input_grad")
        _channels(x, tuple(vectors), "bn_input_grad")
        return (dy,)


@dataclass(frozen=True)
class BatchNormScale(Op):
    """``(dy, gamma, var) -> gamma/sqrt(var+eps) * dy``: the gradient but for what goes through the statistics."""

    eps: float = 1e-5

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        dy, *vectors = operands
        _channels(dy, tuple(vectors), "bn_scale")
        return (dy,)


@dataclass(frozen=True)
class BatchNormCorrection(Op):
    """``(mean, var, gamma, dgamma, dbeta[, shift, slope]) -> (shift', slope')``: what ``BatchNormScale`` leaves out.

    It is linear in x, ``shift' + slope' x`` per channel: with ``scale = gamma/sqrt(var+eps)`` and n = pixels * N,
    ``slope' = -scale dgamma / (n sqrt(var+eps))`` and ``shift' = -scale dbeta / n - mean slope'``. Given another one,
    which may have more channels, its first channels are added: corrections of one x add up.
    """

    pixels: int
    eps: float = 1e-5

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        vector = operands[0]
        for other in operands[1:5]:
            expect_same(vector, other, "bn_correction")
        for other in operands[5:]:
            expect(other.shape[0] >= vector.shape[0], "the other correction has fewer channels")
        return vector, vector


@dataclass(frozen=True)
class ChannelAffine(Op):
    """``(a [...,C], x [...,C], shift, slope) -> a + shift + slope x``, with the vectors' channels from ``start`` on."""

    start: int = 0

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        a, x, shift, slope = operands
        expect_same(a, x, "affine")
        expect_same(shift, slope, "affine")
        expect(shift.shape[0] >= self.start + a.shape[-1], "the vectors end before the channels")
        return (a,)


@dataclass(frozen=True)
class FoldScale(Op):
    """``(w [K,...], gamma, var) -> w * gamma/sqrt(var+eps)`` per filter: a conv with its batch norm folded in."""

    eps: float = 1e-5

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        w, gamma, var = operands
        expect_vector(gamma, w.shape[0], "fold_scale")
        expect_vector(var, w.shape[0], "fold_scale")
        return (TensorType(w.shape, False, Element.REAL),)


@dataclass(frozen=True)
class FoldShift(Op):
    """``(gamma, beta, mean, var[, bias]) -> (bias - mean) * gamma/sqrt(var+eps) + beta``: the folded conv's bias."""

    eps: float = 1e-5

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        for vector in operands[1:]:
            expect_same(operands[0], vector, "fold_shift")
        return (operands[0],)
