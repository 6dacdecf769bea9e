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
    """``(logits [C], label) -> (loss, dlogits [C])`` per image, loss = -log softmax(logits)[label].

    ``dlogits = (softmax(logits) - onehot(label)) * scale / N`` is the gradient of the batch's mean loss
    (``scale`` is the run's loss scale); it comes from the same pass over the logits.
    """

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        logits, label = operands
        expect(len(logits.shape) == 1, f"cross_entropy needs a vector per image, not {format_shape(logits.shape)}")
        expect(label.shape == () and label.element is Element.LABEL, "cross_entropy needs one label per image")
        return TensorType((), True, Element.ACC), logits


@dataclass(frozen=True)
class BatchMean(Op):
    """``x (one number per image) -> its mean over the batch``."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        expect(operands[0].shape == (), "batch_mean needs one number per image")
        return (TensorType((), False, Element.ACC),)


@dataclass(frozen=True)
class ChannelSum(Op):
    """``dy [...,K] -> [K]``: the sum over batch and pixels, in ACC; the gradient of a bias."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        return (TensorType(operands[0].shape[-1:], False, Element.ACC),)
