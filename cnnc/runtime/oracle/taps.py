"""Where each tap of a sliding window reads and writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cnnc.ir.window import Pair, Window


@dataclass(frozen=True)
class Tap:
    """One tap (r, s): the outputs it contributes to and the pixels they read, padding left out."""

    r: int
    s: int
    p: slice
    q: slice
    h: slice
    w: slice

    def output(self, y: slice = slice(None)) -> tuple[slice, slice, slice, slice]:
        """Index of this tap's outputs in ``[N, P, Q, K]``; ``y`` selects channels."""
        return slice(None), self.p, self.q, y

    def input(self, x: slice = slice(None)) -> tuple[slice, slice, slice, slice]:
        """Index of this tap's pixels in ``[N, H, W, C]``; ``x`` selects channels."""
        return slice(None), self.h, self.w, x


def taps(window: Window, image: Pair) -> Iterator[Tap]:
    """All taps in row-major order; those that only ever see padding are left out."""
    output = window.output(image)
    for r in range(window.kernel[0]):
        for s in range(window.kernel[1]):
            rows = _along(window, image, output, 0, r)
            columns = _along(window, image, output, 1, s)
            if rows and columns:
                yield Tap(r, s, rows[0], columns[0], rows[1], columns[1])


def _along(window: Window, image: Pair, output: Pair, axis: int, tap: int) -> tuple[slice, slice] | None:
    """Output positions whose tap lies in the image along one axis, and the pixels they read."""
    stride = window.stride[axis]
    shift = tap * window.dilation[axis] - window.pad_of(axis)[0]
    inside = [out for out in range(output[axis]) if 0 <= out * stride + shift < image[axis]]
    if not inside:
        return None
    first, last = inside[0], inside[-1]
    return slice(first, last + 1), slice(first * stride + shift, last * stride + shift + 1, stride)
