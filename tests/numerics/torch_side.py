"""PyTorch in float64 as the reference: our layouts in and out."""

from __future__ import annotations

import torch
from torch.nn import functional

from cnnc.ir.window import Window
from cnnc.runtime.arrays import Array


def nchw(array: Array, *, grad: bool = False) -> torch.Tensor:
    """``[N, H, W, C]`` as a float64 NCHW tensor; a vector or scalar stays as it is."""
    tensor = torch.tensor(array, dtype=torch.float64)
    if tensor.ndim == 4:
        tensor = tensor.permute(0, 3, 1, 2)
    return tensor.contiguous().requires_grad_(grad)


def nhwc(tensor: torch.Tensor) -> Array:
    """Back again."""
    if tensor.ndim == 4:
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.detach().contiguous().numpy()


def gradient(tensor: torch.Tensor | None) -> torch.Tensor:
    assert tensor is not None
    assert tensor.grad is not None
    return tensor.grad


def padded(x: torch.Tensor, window: Window, value: float = 0.0) -> torch.Tensor:
    top, bottom, left, right = window.pad
    return functional.pad(x, (left, right, top, bottom), value=value)


def conv(window: Window, groups: int, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Cross-correlation of NCHW with OIHW."""
    return functional.conv2d(padded(x, window), w, stride=window.stride, dilation=window.dilation, groups=groups)
