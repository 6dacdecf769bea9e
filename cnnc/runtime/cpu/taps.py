"""Which outputs and pixels each tap of a window joins, padding left out."""

from __future__ import annotations

from typing import NamedTuple

from cnnc.ir.window import Pair, Window


class Tap(NamedTuple):
    """Tap number ``number`` = r*S + s: outputs ``p``, ``q`` read pixels ``h``, ``w``."""

    number: int
    p: slice
    q: slice
    h: slice
    w: slice


def span(window: Window, axis: int, tap: int, image: int, output: int) -> tuple[slice, slice]:
    """Outputs along one axis whose tap falls into the image, and the pixels it falls on; both may be empty."""
    stride = window.stride[axis]
    shift = tap * window.dilation[axis] - window.pad_of(axis)[0]
    low = max(0, -(shift // stride))
    high = max(low, min(output, (image - 1 - shift) // stride + 1))
    start = low * stride + shift
    return slice(low, high), slice(start, start + max(0, (high - low - 1) * stride + 1), stride)


def taps(window: Window, image: Pair) -> list[Tap]:
    """All taps that meet the image, in row-major order."""
    height, width = window.output(image)
    result = []
    for r in range(window.kernel[0]):
        p, h = span(window, 0, r, image[0], height)
        for s in range(window.kernel[1]):
            q, w = span(window, 1, s, image[1], width)
            if p.stop > p.start and q.stop > q.start:
                result.append(Tap(r * window.kernel[1] + s, p, q, h, w))
    return result
