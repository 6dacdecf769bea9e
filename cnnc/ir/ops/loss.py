"""Softmax, losses and reductions over the batch."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.ir.ops.base import Op, expect, expect_same
from cnnc.ir.types import Element, TensorType, format_shape


@dataclass(frozen=True)
class Softmax(Op):
    """``x [...,C] -> exp(x) / sum(exp(x))`` over the last axis."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return operands


@dataclass(frozen=True)
class SoftmaxGrad(Op):
    """``(dy, y) -> y * (dy - sum(dy * y))`` over the last axis."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        expect_same(operands[0], operands[1], "softmax_grad")
        return (operands[0],)


@dataclass(frozen=True)
class CrossEntropy(Op):
    """``(logits [...,C], label [...]) -> (loss, dlogits [...,C])``, one label per vector of logits.

    ``loss`` is, per image, ``weight`` times the mean of -log softmax(logits)[label] over its positions.
    ``dlogits = (softmax(logits) - onehot(label)) * weight * scale / (N * positions)`` is the gradient of the
    batch's mean loss (``scale`` is the run's loss scale); it comes from the same pass over the logits.
    """

    weight: float = 1.0

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        logits, label = operands
        expect(bool(logits.shape), "cross_entropy needs logits")
        expect(
            label.shape == logits.shape[:-1] and label.element is Element.LABEL,
            f"cross_entropy needs one label per vector of {format_shape(logits.shape)}",
        )
        return TensorType((), True, Element.ACC), logits


@dataclass(frozen=True)
class BatchMean(Op):
    """``(x, ...) -> mean over the batch of their sum``; each operand has one number per image."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        numbers = all(x.shape == () and x.batched for x in operands)
        expect(bool(operands) and numbers, "batch_mean needs one number per image")
        return (TensorType((), False, Element.ACC),)


@dataclass(frozen=True)
class ChannelSum(Op):
    """``dy [...,K] -> [K]``: the sum over batch and pixels, in ACC; the gradient of a bias."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return (TensorType(operands[0].shape[-1:], False, Element.ACC),)


@dataclass(frozen=True)
class BatchSum(Op):
    """``dy [...] -> [...]``: the sum over the batch, in ACC; the gradient of a position bias."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return (TensorType(operands[0].shape, False, Element.ACC),)
