"""Convolution with one input channel per group: no matrix to multiply, so tap by tap over whole rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from cnnc.ir.window import Window
from cnnc.runtime.arrays import Array
from cnnc.runtime.cpu.operand import Run, Scratch, lines
from cnnc.runtime.cpu.reduce import channel_sum
from cnnc.runtime.cpu.taps import taps
from cnnc.runtime.scalars import Scalars

CHUNK_BYTES = 1 << 18  # of outputs at a time: they, their pixels and the products stay in cache over all taps


def bind_forward(window: Window, x: Array, w: Array, y: Array, scratch: Scratch) -> Run:
    """``y[..., g*m + j] = sum over taps of x[..., g] * w[g*m + j, tap]``."""
    return _bind(window, w, y, x, scratch, into_image=False)


def bind_dgrad(window: Window, dy: Array, w: Array, dx: Array, scratch: Scratch) -> Run:
    """``dx[..., g] = sum over taps and j of dy[..., g*m + j] * w[g*m + j, tap]``."""
    return _bind(window, w, dy, dx, scratch, into_image=True)


class Place(NamedTuple):
    """What one tap joins in one chunk: outputs of one filter per channel, pixels, the tap and the filters."""

    outer: Array
    image: Array
    tap: int
    own: slice


def _places(window: Window, outer: Array, image: Array) -> Iterator[Place]:
    """``outer`` has the filters' channels, ``image`` the groups'; chunk by chunk, so that all taps find it in cache."""
    multiplier = outer.shape[3] // image.shape[3]
    where = taps(window, (image.shape[1], image.shape[2]))
    per_row = max(1, outer[0, 0].size * outer.itemsize)
    rows = max(1, min(outer.shape[1], CHUNK_BYTES // per_row))
    images = max(1, CHUNK_BYTES // (per_row * outer.shape[1]))
    for n in range(0, len(outer), images):
        some = slice(n, n + images)
        for row in range(0, outer.shape[1], rows):
            for tap in where:
                first, last = max(row, tap.p.start), min(row + rows, tap.p.stop)
                if first >= last:
                    continue
                start = tap.h.start + (first - tap.p.start) * window.stride[0]
                h = slice(start, start + (last - first - 1) * window.stride[0] + 1, window.stride[0])
                for j in range(multiplier):
                    own = slice(j, None, multiplier)
                    yield Place(outer[some, first:last, tap.q, own], image[some, h, tap.w], tap.number, own)


def _bind(window: Window, w: Array, outer: Array, image: Array, scratch: Scratch, *, into_image: bool) -> Run:
    """One of the two is summed into from the other."""
    into = image if into_image else outer
    places = list(_places(window, outer, image))
    spare = scratch.array((max((place.image.size for place in places), default=0),), into.dtype)
    # Each tap's weights along a whole row of pixels: loops over the channels of single ones are short.
    spread = scratch.array((window.taps, outer.shape[2], len(w)), w.dtype)
    by_tap = w.reshape(len(w), -1).T[:, None]
    jobs = []
    for place in places:
        (at_outer, at_image), repeat = lines(place.outer, place.image)
        target, read = (at_image, at_outer) if into_image else (at_outer, at_image)
        weights = spread[place.tap, 0, place.own]
        if repeat > 1:
            weights = spread[place.tap, :repeat].reshape(-1)
        jobs.append((target, read, weights, spare[: read.size].reshape(read.shape)))

    def run(scalars: Scalars) -> None:
        into.fill(0)
        np.copyto(spread, by_tap)
        for target, read, weights, product in jobs:
            np.multiply(read, weights, out=product)
            np.add(target, product, out=target)

    return run


def bind_wgrad(window: Window, dy: Array, x: Array, dw: Array, scratch: Scratch) -> Run:
    """``dw[g*m + j, tap] = sum over images and pixels of dy[..., g*m + j] * x[..., g]``."""
    places = list(_places(window, dy, x))
    spare = scratch.array((max((place.image.size for place in places), default=0),), dy.dtype)
    jobs = []
    for place in places:
        into = dw[place.own].reshape(x.shape[3], -1)[:, place.tap]
        product = spare[: place.image.size].reshape(place.image.shape)
        (a, b), _ = lines(place.outer, place.image)
        jobs.append((a, b, product.reshape(a.shape), product, into))

    def run(scalars: Scalars) -> None:
        dw.fill(0)
        for a, b, long, product, into in jobs:
            np.multiply(a, b, out=long)
            np.add(into, channel_sum(product), out=into)

    return run
