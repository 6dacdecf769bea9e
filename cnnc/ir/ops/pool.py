"""Pooling and its gradients."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.ir.ops.base import Op, expect, expect_same, image_of
from cnnc.ir.types import Element, TensorType
from cnnc.ir.window import Window


@dataclass(frozen=True)
class MaxPool(Op):
    """``x [H,W,C] -> (y [P,Q,C], index [P,Q,C])``.

    ``index`` is the tap r*S + s of the first maximum in row-major order (as in PyTorch), which the
    gradient needs; it costs nothing where nobody reads it. Padding never wins; NaN does.
    """

    window: Window

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (x,) = operands
        height, width, channels = image_of(x, "maxpool")
        _check_pool(self.window, "maxpool")
        expect(self.window.taps <= 256, f"a window of {self.window.taps} pixels is larger than 256", "kernel")
        y = x.with_shape(*self.window.output((height, width)), channels)
        return y, TensorType(y.shape, True, Element.INDEX)


@dataclass(frozen=True)
class MaxPoolGrad(Op):
    """``(dy [P,Q,C], index [P,Q,C]) -> dx [H,W,C]``: each dy goes to the pixel that won."""

    window: Window
    image: tuple[int, int]

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        dy, index = operands
        expect_same(dy, TensorType(index.shape, True, dy.element), "maxpool_grad")
        expect(image_of(dy, "maxpool_grad")[:2] == self.window.output(self.image), "dy does not fit the window")
        return (dy.with_shape(*self.image, dy.shape[2]),)


@dataclass(frozen=True)
class AvgPool(Op):
    """``x [H,W,C] -> [P,Q,C]``: the mean of each window, padding left out unless ``count_pad``.

    With ``count_pad`` the divisor counts declared padding but not what ``ceil`` adds beyond it.
    """

    window: Window
    count_pad: bool = False

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (x,) = operands
        height, width, channels = image_of(x, "avgpool")
        _check_pool(self.window, "avgpool")
        return (x.with_shape(*self.window.output((height, width)), channels),)


@dataclass(frozen=True)
class AvgPoolGrad(Op):
    """``dy [P,Q,C] -> dx [H,W,C]``."""

    window: Window
    image: tuple[int, int]
    count_pad: bool = False

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (dy,) = operands
        expect(image_of(dy, "avgpool_grad")[:2] == self.window.output(self.image), "dy does not fit the window")
        return (dy.with_shape(*self.image, dy.shape[2]),)


@dataclass(frozen=True)
class SumPool(Op):
    """``x [H,W,C] -> [P,Q,C]``: the sum of each window; padding adds nothing."""

    window: Window

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (x,) = operands
        height, width, channels = image_of(x, "sumpool")
        _check_pool(self.window, "sumpool")
        return (x.with_shape(*self.window.output((height, width)), channels),)


@dataclass(frozen=True)
class SumPoolGrad(Op):
    """``dy [P,Q,C] -> dx [H,W,C]``."""

    window: Window
    image: tuple[int, int]

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (dy,) = operands
        expect(image_of(dy, "sumpool_grad")[:2] == self.window.output(self.image), "dy does not fit the window")
        return (dy.with_shape(*self.image, dy.shape[2]),)


@dataclass(frozen=True)
class GlobalAvgPool(Op):
    """``x [H,W,C] -> [C]``: the mean over all pixels."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (x,) = operands
        return (x.with_shape(image_of(x, "globalavgpool")[2]),)


@dataclass(frozen=True)
class GlobalAvgPoolGrad(Op):
    """``dy [C] -> dx [H,W,C]``."""

    image: tuple[int, int]

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (dy,) = operands
        return (dy.with_shape(*self.image, dy.shape[0]),)


def _check_pool(window: Window, what: str) -> None:
    """Padding must be smaller than the kernel, or a window could lie in padding alone."""
    for axis, extent in enumerate(window.extent):
        expect(
            max(window.pad_of(axis)) < extent,
            f"{what} padding {max(window.pad_of(axis))} must be smaller than its kernel {window.kernel[axis]}",
            "pad",
        )
