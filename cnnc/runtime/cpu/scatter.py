"""The gradient of a strided convolution's input: products of dy with the weights, added tap by tap (col2im)."""

from __future__ import annotations

import numpy as np

from cnnc.ir.window import Window
from cnnc.runtime.arrays import Array
from cnnc.runtime.cpu.columns import CHUNK_BYTES
from cnnc.runtime.cpu.operand import Scratch, as_rows
from cnnc.runtime.cpu.product import Work
from cnnc.runtime.cpu.product import product as product_of
from cnnc.runtime.cpu.taps import span

FEW_CHANNELS = 32


def scattered(window: Window, w: Array, dy: Array, dx: Array, scratch: Scratch) -> Work:
    """``dx += dy @ w[:, tap]`` at the pixels of each tap, a few images or a few kernel rows at a time, dx zeroed first.

    Each product fits the cache where one kernel row's does, and is added before the next is made.
    """
    count, height, width, filters = dy.shape
    per_row = max(1, height * width * window.kernel[1] * dx.shape[3] * dy.itemsize)
    images = max(1, min(count, CHUNK_BYTES // (per_row * window.kernel[0])))
    rows = max(1, min(window.kernel[0], CHUNK_BYTES // (per_row * images)))
    largest = images * height * width
    product = scratch.array((largest * rows * window.kernel[1] * dx.shape[3],), dy.dtype)
    spare = scratch.array((largest, filters), dy.dtype) if as_rows(dy) is None else None
    work: list[Work] = []
    for n in range(0, count, images):
        part = dy[n : n + images]
        left = _rows_of(part, spare, work)
        for r in range(0, window.kernel[0], rows):
            some = w[:, r : r + rows]
            matrix = some.reshape(filters, -1)
            values = product[: len(left) * matrix.shape[1]]
            work.append(product_of(left, matrix, values.reshape(len(left), -1)))
            shaped = values.reshape(len(part), height, width, *some.shape[1:])
            work.append(_add(_pairs(window, range(r, r + some.shape[1]), shaped, dx[n : n + images])))

    def run() -> None:
        dx.fill(0)
        for item in work:
            item()

    return run


def _rows_of(dy: Array, spare: Array | None, work: list[Work]) -> Array:
    """``[rows, K]`` of some images: a view, or a copy in ``spare`` that ``work`` is told to make."""
    if spare is None:
        rows = as_rows(dy)
        assert rows is not None
        return rows
    copy = spare[: dy.size // dy.shape[3]]
    image = copy.reshape(dy.shape)
    work.append(lambda: np.copyto(image, dy))
    return copy


def _pairs(window: Window, rows: range, values: Array, dx: Array) -> list[tuple[Array, Array]]:
    """Pixels of ``dx`` ``[N, H, W, C]`` and what to add to them from ``values`` ``[N, P, Q, R, S, C]`` of some rows."""
    if window.dilation[1] == 1 and dx.shape[3] < FEW_CHANNELS:
        return _by_window(window, rows, values, dx)
    pairs = []
    for r in rows:
        p, h = span(window, 0, r, dx.shape[1], values.shape[1])
        for s in range(window.kernel[1]):
            q, w = span(window, 1, s, dx.shape[2], values.shape[2])
            if p.stop > p.start and q.stop > q.start:
                pairs.append((dx[:, h, w], values[:, p, q, r - rows.start, s]))
    return pairs


def _by_window(window: Window, rows: range, values: Array, dx: Array) -> list[tuple[Array, Array]]:
    """A whole row of taps of one window column at a time: loops of S*C elements instead of C."""
    pairs = []
    height, width = dx.shape[1:3]
    for r in rows:
        p, h = span(window, 0, r, height, values.shape[1])
        for q in range(values.shape[2]):
            first = q * window.stride[1] - window.pad[2]
            low, high = max(0, -first), min(window.kernel[1], width - first)
            if high > low and p.stop > p.start:
                pairs.append((dx[:, h, first + low : first + high], values[:, p, q, r - rows.start, low:high]))
    return pairs


def _add(pairs: list[tuple[Array, Array]]) -> Work:
    def run() -> None:
        for pixels, added in pairs:
            np.add(pixels, added, out=pixels)

    return run
