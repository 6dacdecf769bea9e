"""Convolution (cross-correlation) and its two gradients. Weights are stored KRSC."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.errors import ShapeError
from cnnc.ir.ops.base import Op, expect, image_of
from cnnc.ir.types import Element, TensorType, format_shape
from cnnc.ir.window import Window


@dataclass(frozen=True)
class Conv(Op):
    """``(x [H,W,C], w [K,R,S,C/groups]) -> [P,Q,K]``."""

    window: Window
    groups: int = 1

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        x, w = operands
        height, width, channels = image_of(x, "conv")
        filters, *kernel, depth = w.shape
        # Not `expect`: this rule runs most often, and its sentences cost more than its checks.
        if tuple(kernel) != self.window.kernel:
            raise ShapeError(f"weight {format_shape(w.shape)} has another kernel")
        if channels % self.groups or filters % self.groups:
            message = f"groups={self.groups} must divide {channels} input channels and {filters} filters"
            raise ShapeError(message, "groups")
        if depth * self.groups != channels:
            raise ShapeError(f"weight {format_shape(w.shape)} does not fit {channels} channels")
        return (x.with_shape(*self.window.output((height, width)), filters),)


@dataclass(frozen=True)
class ConvDgrad(Op):
    """``(dy [P,Q,K], w [K,R,S,C/groups]) -> dx [H,W,C]``; ``image`` is the forward input's H, W.

    It is also the transposed convolution of a forward graph: there dy is its input and dx its output.
    """

    window: Window
    image: tuple[int, int]
    groups: int = 1

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        dy, w = operands
        expect(image_of(dy, "conv_dgrad")[:2] == self.window.output(self.image), "dy does not fit the window")
        expect(w.shape[1:3] == self.window.kernel, f"weight {format_shape(w.shape)} has another kernel")
        expect(dy.shape[2] == w.shape[0], f"weight {format_shape(w.shape)} does not fit {dy.shape[2]} channels")
        expect(dy.shape[2] % self.groups == 0, f"groups={self.groups} must divide {dy.shape[2]} channels", "groups")
        return (dy.with_shape(*self.image, w.shape[3] * self.groups),)


@dataclass(frozen=True)
class ConvWgrad(Op):
    """``(dy [P,Q,K], x [H,W,C]) -> dw [K,R,S,C/groups]``, summed over the batch, in ACC."""

    window: Window
    groups: int = 1

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        dy, x = operands
        height, width, channels = image_of(x, "conv_wgrad")
        expect(image_of(dy, "conv_wgrad")[:2] == self.window.output((height, width)), "dy does not fit the window")
        shape = (dy.shape[2], *self.window.kernel, channels // self.groups)
        return (TensorType(shape, False, Element.ACC),)


def is_depthwise(op: Op, second: tuple[int, ...]) -> bool:
    """Whether each of several channels is filtered on its own, so that there is no matrix to multiply.

    ``second`` is the shape of the second operand: the weight, or the image of a weight gradient.
    """
    if not isinstance(op, Conv | ConvDgrad | ConvWgrad) or op.groups == 1:
        return False
    return second[-1] == (op.groups if isinstance(op, ConvWgrad) else 1)
