"""The gradient of a strided convolution's input: products of dy with the weights, added tap by tap (col2im)."""

from __future__ import annotations

import numpy as np

from cnnc.ir.window import Window
from cnnc.runtime.arrays import Array
from cnnc.runtime.cpu.columns import CHUNK_BYTES
from cnnc.runtime.cpu.operand import Scratch, as_rows
from cnnc.runtime.cpu.product import Work
from cnnc.runtime.cpu.product import product as product_of
from cnnc.runtime.cpu.taps import span, taps

FEW_CHANNELS = 32


def scattered(window: Window, w: Array, dy: Array, dx: Array, scratch: Scratch) -> Work:
    """``dx += dy @ w[:, tap]`` at the pixels of each tap, a few images at a time, dx zeroed first."""
    count, height, width, filters = dy.shape
    matrix = w.reshape(filters, -1)
    per_image = height * width * matrix.shape[1] * dy.itemsize
    images = max(1, min(count, CHUNK_BYTES // max(1, per_image)))
    product = scratch.array((images * height * width, matrix.shape[1]), dy.dtype)
    spare = scratch.array((images * height * width, filters), dy.dtype) if as_rows(dy) is None else None
    work = []
    for n in range(0, count, images):
        part = dy[n : n + images]
        size = len(part) * height * width
        work.append(_scatter(part, None if spare is None else spare[:size], matrix, product[:size]))
        values = product[:size].reshape(len(part), height, width, *window.kernel, dx.shape[3])
        work.append(_add(_pairs(window, values, dx[n : n + images])))

    def run() -> None:
        dx.fill(0)
        for item in work:
            item()

    return run


def _scatter(dy: Array, spare: Array | None, matrix: Array, product: Array) -> Work:
    if spare is None:
        rows = as_rows(dy)
        assert rows is not None
        return product_of(rows, matrix, product)
    image = spare.reshape(dy.shape)

    def run() -> None:
        np.copyto(image, dy)
        np.matmul(spare, matrix, out=product)

    return run


def _pairs(window: Window, values: Array, dx: Array) -> list[tuple[Array, Array]]:
    """Pixels of ``dx`` ``[N, H, W, C]`` and what to add to them from ``values`` ``[N, P, Q, R, S, C]``."""
    if window.dilation[1] == 1 and dx.shape[3] < FEW_CHANNELS:
        return _by_window(window, values, dx)
    return [
        (dx[:, tap.h, tap.w], values[:, tap.p, tap.q, tap.number // window.kernel[1], tap.number % window.kernel[1]])
        for tap in taps(window, (dx.shape[1], dx.shape[2]))
    ]


def _by_window(window: Window, values: Array, dx: Array) -> list[tuple[Array, Array]]:
    """A whole row of taps of one window column at a time: loops of S*C elements instead of C."""
    pairs = []
    height, width = dx.shape[1:3]
    for r in range(window.kernel[0]):
        p, h = span(window, 0, r, height, values.shape[1])
        for q in range(values.shape[2]):
            first = q * window.stride[1] - window.pad[2]
            low, high = max(0, -first), min(window.kernel[1], width - first)
            if high > low and p.stop > p.start:
                pairs.append((dx[:, h, first + low : first + high], values[:, p, q, r, low:high]))
    return pairs


def _add(pairs: list[tuple[Array, Array]]) -> Work:
    def run() -> None:
        for pixels, added in pairs:
            np.add(pixels, added, out=pixels)

    return run
