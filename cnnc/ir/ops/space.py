"""Ops that move pixels: borders, crops, strided shortcuts, up-sampling."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.ir.ops.base import Op, expect, image_of
from cnnc.ir.types import TensorType
from cnnc.ir.window import Pad, Pair


@dataclass(frozen=True)
class ZeroPad(Op):
    """``x [H,W,C] -> [H+top+bottom,W+left+right,C]``, zeros around; the gradient of Crop."""

    pad: Pad

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (x,) = operands
        height, width, channels = image_of(x, "zeropad")
        expect(min(self.pad) >= 0, f"a border can't be negative: {min(self.pad)} pixels", "pad")
        top, bottom, left, right = self.pad
        return (x.with_shape(height + top + bottom, width + left + right, channels),)


@dataclass(frozen=True)
class Crop(Op):
    """``x [H,W,C] -> [h,w,C]``: the window of ``size`` whose first pixel is at ``offset``; the gradient of ZeroPad."""

    offset: Pair
    size: Pair

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (x,) = operands
        *image, channels = image_of(x, "crop")
        for n, start, count in zip(image, self.offset, self.size, strict=True):
            expect(
                0 <= start and start + count <= n,
                f"a crop of {self.size[0]}x{self.size[1]} at ({self.offset[0]},{self.offset[1]}) "
                f"does not lie in its input {image[0]}x{image[1]}",
                "offset",
            )
        return (x.with_shape(*self.size, channels),)


@dataclass(frozen=True)
class PadShortcut(Op):
    """``x [H,W,C] -> [ceil(H/s),ceil(W/s),channels]``: every s-th pixel, zeros for the new channels.

    Option A of He et al. 2015; ``channels`` is at least C.
    """

    stride: Pair
    channels: int

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (x,) = operands
        height, width, channels = image_of(x, "shortcut")
        expect(self.channels >= channels, f"a shortcut can't drop channels: {channels} to {self.channels}")
        return (x.with_shape(-(-height // self.stride[0]), -(-width // self.stride[1]), self.channels),)


@dataclass(frozen=True)
class PadShortcutGrad(Op):
    """``dy [P,Q,K] -> dx [H,W,C]``; ``image`` is H, W and ``channels`` C of the forward input."""

    stride: Pair
    image: Pair
    channels: int

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (dy,) = operands
        x = dy.with_shape(*self.image, self.channels)
        expect(PadShortcut(self.stride, dy.shape[2]).infer(x) == (dy,), "dy does not fit the shortcut")
        return (x,)


UPSAMPLING = ("nearest", "bilinear")


@dataclass(frozen=True)
class Upsample(Op):
    """``x [H,W,C] -> [aH,bW,C]`` by integer factors.

    ``bilinear`` takes pixel centres at half-integers (PyTorch's align_corners=False): output p reads at
    ``max((p + 0.5)/a - 0.5, 0)``, the neighbour after cut off at the last pixel.
    """

    factor: Pair
    mode: str = "nearest"

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (x,) = operands
        height, width, channels = image_of(x, "upsample")
        return (x.with_shape(height * self.factor[0], width * self.factor[1], channels),)


@dataclass(frozen=True)
class UpsampleGrad(Op):
    """``dy [aH,bW,C] -> dx [H,W,C]``."""

    factor: Pair
    mode: str = "nearest"

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        (dy,) = operands
        height, width, channels = image_of(dy, "upsample_grad")
        expect(height % self.factor[0] == 0 and width % self.factor[1] == 0, "dy does not fit the factor")
        return (dy.with_shape(height // self.factor[0], width // self.factor[1], channels),)
