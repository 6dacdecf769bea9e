"""The windows of an image as rows of a matrix, a chunk at a time (im2col)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from cnnc.ir.window import Pad, Window
from cnnc.runtime.arrays import Array
from cnnc.runtime.cpu.operand import Operand, Scratch, as_rows

CHUNK_BYTES = 4 << 20  # a chunk of columns and its product stay in the last-level cache
FEW_CHANNELS = 8  # kernel width times channels below which rows are gathered tap by tap


@dataclass(frozen=True)
class Chunk:
    """Some windows: ``matrix`` is ``[windows, R*S*C]`` once ``gather`` has run; ``at`` are their images and rows."""

    at: tuple[slice, slice]
    matrix: Array
    gather: Callable[[], None]


def border(window: Window, image: tuple[int, int], output: tuple[int, int]) -> Pad:
    """The padding that windows really reach: less than declared where a stride does not divide."""
    reach = []
    for axis in range(2):
        before = window.pad_of(axis)[0]
        end = (output[axis] - 1) * window.stride[axis] + window.extent[axis]
        reach += [before, max(0, end - image[axis] - before)]
    return reach[0], reach[1], reach[2], reach[3]


def columns(x: Operand, window: Window, channels: slice, scratch: Scratch) -> list[Chunk]:
    """Chunks that cover all windows of some channels of an image, row-major over N, P, Q.

    Chunks share scratch memory: each must be used before the next is gathered.
    """
    height, width = x.array.shape[1:3]
    output = window.output((height, width))
    needed = border(window, (height, width), output)
    direct = _direct(x, window, channels, output)
    if direct is not None:
        return [direct]
    padded = x.bordered(needed)
    pad = None
    count = len(x.array)
    taps = window.taps * len(range(*channels.indices(x.array.shape[3])))
    per_row = max(1, output[1] * taps * x.array.itemsize)
    images = max(1, min(count, CHUNK_BYTES // (per_row * output[0])))
    rows = max(1, min(output[0], CHUNK_BYTES // per_row))
    if padded is None:
        shape = (images, height + needed[0] + needed[1], width + needed[2] + needed[3], x.array[..., channels].shape[3])
        pad = scratch.array(shape, x.array.dtype)
    buffer = scratch.array((images * rows * output[1] * taps,), x.array.dtype)
    chunks = []
    for n in range(0, count, images):
        some = slice(n, min(n + images, count))
        size = some.stop - n
        fill = None
        if pad is None and padded is not None:
            source = padded[some, :, :, channels]
        else:
            assert pad is not None
            source = pad[:size]
            fill = padding(x.array[some, :, :, channels], source, needed)
        windows = _windows(source, window, output)
        for p in range(0, output[0], rows):
            part = slice(p, min(p + rows, output[0]))
            matrix, gather = _gather(windows[:, part], buffer, window)
            chunks.append(Chunk((some, part), matrix, _both(fill, gather)))
            fill = None  # later rows of the same images find them padded
    return chunks


def _direct(x: Operand, window: Window, channels: slice, output: tuple[int, int]) -> Chunk | None:
    """The image itself where its windows already lie side by side: pointwise, or one window per image."""
    array = x.array[..., channels]
    everything = (slice(0, len(array)), slice(0, output[0]))
    if any(window.pad):
        return None
    if window.kernel == (1, 1) and window.stride == (1, 1):
        rows = as_rows(array)
        return None if rows is None else Chunk(everything, rows, _nothing)
    if window.kernel == array.shape[1:3] and window.dilation == (1, 1):
        flat = as_rows(array)
        if flat is not None and array.strides[2] == array.shape[3] * array.itemsize:
            return Chunk(everything, array.reshape(len(array), -1), _nothing)
    return None


def _windows(source: Array, window: Window, output: tuple[int, int]) -> Array:
    """``[N, P, Q, R, S, C]``: every tap of every window, as a view that stays inside ``source``."""
    every = sliding_window_view(source, window.extent, axis=(1, 2))
    (stride_h, stride_w), (dilation_h, dilation_w) = window.stride, window.dilation
    taken = every[:, ::stride_h, ::stride_w, :, ::dilation_h, ::dilation_w]
    view: Array = taken[:, : output[0], : output[1]].transpose(0, 1, 2, 4, 5, 3)
    return view


def _gather(windows: Array, buffer: Array, window: Window) -> tuple[Array, Callable[[], None]]:
    """The matrix of these windows inside ``buffer``, and what fills it."""
    n, p, q, r, s, c = windows.shape
    matrix = buffer[: windows.size]
    if s * c < FEW_CHANNELS and q > s * c:
        # Transposed: then the inner loop runs along an image's row instead of over a few channels.
        target = matrix.reshape(r, s, c, n, p, q)
        source = windows.transpose(3, 4, 5, 0, 1, 2)
        return matrix.reshape(r * s * c, n * p * q).T, lambda: np.copyto(target, source)
    target = matrix.reshape(windows.shape)
    return matrix.reshape(n * p * q, r * s * c), lambda: np.copyto(target, windows)


def padding(image: Array, target: Array, amount: Pad) -> Callable[[], None]:
    """What copies an image into a larger array and zeroes the border around it."""
    top, _, left, _ = amount
    inner = target[:, top : top + image.shape[1], left : left + image.shape[2]]
    clear = clear_border(target, amount)

    def fill() -> None:
        clear()
        np.copyto(inner, image)

    return fill


def clear_border(padded: Array, amount: Pad) -> Callable[[], None]:
    """What zeroes the border (top, bottom, left, right) of ``[N, H, W, C]``."""
    top, bottom, left, right = amount
    height, width = padded.shape[1:3]
    strips = [
        padded[:, :top],
        padded[:, height - bottom :],
        padded[:, top : height - bottom, :left],
        padded[:, top : height - bottom, width - right :],
    ]
    strips = [strip for strip in strips if strip.size]

    def clear() -> None:
        for strip in strips:
            strip.fill(0)

    return clear


def _both(first: Callable[[], None] | None, second: Callable[[], None]) -> Callable[[], None]:
    if first is None:
        return second
    earlier = first

    def run() -> None:
        earlier()
        second()

    return run


def _nothing() -> None:
    """The matrix is the image itself."""
