"""Sliding windows in PyTorch by cutting them out: any padding, any rounding. NCHW; a sequence is Lx1."""

from __future__ import annotations

import torch
from torch.nn import functional

from cnnc.frontend.layer_parts import WindowSettings
from cnnc.frontend.layers import PoolLayer

Pads = tuple[int, int, int, int]  # left, right, top, bottom, as functional.pad takes them


def extents(settings: WindowSettings) -> tuple[int, int]:
    """Height and width that the dilated kernel spans."""
    (height, width), (down, across) = settings.kernel, settings.dilation
    return (height - 1) * down + 1, (width - 1) * across + 1


def pads_of(settings: WindowSettings, x: torch.Tensor) -> Pads:
    """What the statement adds around the image."""
    if settings.padding.kind == "explicit":
        top, bottom, left, right = settings.padding.pad
        return left, right, top, bottom
    found: list[int] = []
    for axis in (1, 0):
        n, stride, extent = x.shape[2 + axis], settings.stride[axis], extents(settings)[axis]
        total = extent - 1
        if settings.padding.kind == "tf":
            total = max(0, ((n + stride - 1) // stride - 1) * stride + extent - n)
        before = total if settings.padding.kind == "causal" else total // 2
        found += [before, total - before]
    return found[0], found[1], found[2], found[3]


def windows(settings: WindowSettings, x: torch.Tensor, padding: float, behind: float) -> torch.Tensor:
    """``[N, C, P, Q, kernel pixels]`` with these values in the padding and in what rounding up adds behind it."""
    pads = pads_of(settings, x)
    x = functional.pad(x, pads, value=padding)
    if settings.ceil:
        x = functional.pad(x, _behind(settings, x, pads), value=behind)
    for axis, (size, stride) in enumerate(zip(settings.kernel, settings.stride, strict=True)):
        x = x.unfold(2 + axis, size, stride)
    return x.flatten(4)


def _behind(settings: WindowSettings, padded: torch.Tensor, pads: Pads) -> Pads:
    """Padding that makes room for one more window, unless it would start behind the image."""
    found: list[int] = []
    for axis, after in ((1, pads[1]), (0, pads[3])):
        n, size, stride = padded.shape[2 + axis], settings.kernel[axis], settings.stride[axis]
        rest = (n - size) % stride
        starts = n - size - rest + stride
        found += [0, stride - rest if rest and starts < n - after else 0]
    return found[0], found[1], found[2], found[3]


def pool(layer: PoolLayer, x: torch.Tensor) -> torch.Tensor:
    if layer.kind == "max":
        return windows(layer.window, x, -torch.inf, -torch.inf).max(-1).values
    if layer.kind == "l2":
        return root((windows(layer.window, x, 0.0, 0.0) ** 2).sum(-1))
    counted = windows(layer.window, torch.ones_like(x[:1, :1]), float(layer.count_pad), 0.0).sum(-1)
    return windows(layer.window, x, 0.0, 0.0).sum(-1) / counted


def root(x: torch.Tensor) -> torch.Tensor:
    """The square root, with gradient 0 at 0."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)
