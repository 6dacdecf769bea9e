"""Convolution with one input channel per group: no matrix to multiply, so tap by tap over whole rows."""

from __future__ import annotations

import numpy as np

from cnnc.ir.window import Window
from cnnc.runtime.arrays import Array
from cnnc.runtime.cpu.operand import Run, Scratch
from cnnc.runtime.cpu.reduce import channel_sum
from cnnc.runtime.cpu.taps import taps
from cnnc.runtime.scalars import Scalars

CHUNK_BYTES = 1 << 20


def bind_forward(window: Window, x: Array, w: Array, y: Array, scratch: Scratch) -> Run:
    """``y[..., g*m + j] = sum over taps of x[..., g] * w[g*m + j, tap]``."""
    return _bind(window, w, y, x, scratch, into_image=False)


def bind_dgrad(window: Window, dy: Array, w: Array, dx: Array, scratch: Scratch) -> Run:
    """``dx[..., g] = sum over taps and j of dy[..., g*m + j] * w[g*m + j, tap]``."""
    return _bind(window, w, dy, dx, scratch, into_image=True)


def _bind(window: Window, w: Array, outer: Array, image: Array, scratch: Scratch, *, into_image: bool) -> Run:
    """``outer`` has the filters' channels, ``image`` the groups'; one is summed into from the other."""
    multiplier = outer.shape[3] // image.shape[3]
    into = image if into_image else outer
    images = _images(into, outer)
    spare = scratch.array((images * outer.shape[1] * outer.shape[2] * image.shape[3],), into.dtype)
    jobs = []
    for n in range(0, len(into), images):
        some = slice(n, n + images)
        for tap in taps(window, (image.shape[1], image.shape[2])):
            for j in range(multiplier):
                own = slice(j, None, multiplier)
                at_outer = outer[some, tap.p, tap.q, own]
                at_image = image[some, tap.h, tap.w]
                target, read = (at_image, at_outer) if into_image else (at_outer, at_image)
                product = spare[: read.size].reshape(read.shape)
                jobs.append((target, read, w[own].reshape(image.shape[3], -1)[:, tap.number], product))

    def run(scalars: Scalars) -> None:
        into.fill(0)
        for target, read, weights, product in jobs:
            np.multiply(read, weights, out=product)
            np.add(target, product, out=target)

    return run


def bind_wgrad(window: Window, dy: Array, x: Array, dw: Array, scratch: Scratch) -> Run:
    """``dw[g*m + j, tap] = sum over images and pixels of dy[..., g*m + j] * x[..., g]``."""
    multiplier = dy.shape[3] // x.shape[3]
    images = _images(dy, dy)
    spare = scratch.array((images * dy.shape[1] * dy.shape[2] * x.shape[3],), dy.dtype)
    jobs = []
    for tap in taps(window, (x.shape[1], x.shape[2])):
        for j in range(multiplier):
            own = slice(j, None, multiplier)
            into = dw[own].reshape(x.shape[3], -1)[:, tap.number]
            for n in range(0, len(dy), images):
                some = slice(n, n + images)
                a, b = dy[some, tap.p, tap.q, own], x[some, tap.h, tap.w]
                jobs.append((a, b, spare[: a.size].reshape(a.shape), into))

    def run(scalars: Scalars) -> None:
        dw.fill(0)
        for a, b, product, into in jobs:
            np.multiply(a, b, out=product)
            np.add(into, channel_sum(product), out=into)

    return run


def _images(a: Array, b: Array) -> int:
    """Images at a time so that what one tap touches stays in cache."""
    per_image = max(a[0].size, b[0].size) * a.itemsize
    return max(1, CHUNK_BYTES // max(1, int(per_image)))
