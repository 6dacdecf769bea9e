"""The layers of published networks in PyTorch, NCHW, as the facts describe them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Layer = Mapping[str, Any]

# The facts give no eps; this is the language's (and PyTorch's) default.
EPS = 1e-5
MOMENTUM = 0.1


@dataclass(frozen=True)
class Reduction:
    """Channels divided by ``divisor``, rounded down, but never below ``floor``; the image made smaller.

    Linear in the channels wherever the divisor divides, so that sums of concatenated widths still agree.
    """

    divisor: int = 1
    image: tuple[int, ...] | None = None
    floor: int = 4

    def width(self, channels: int) -> int:
        return max(channels // self.divisor, min(channels, self.floor))


FULL = Reduction()


class Sign(torch.autograd.Function):
    """1 from the threshold on, else -1; the gradient passes within 1 of the threshold (Hubara et al. 2016)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, threshold: float) -> torch.Tensor:
        ctx.save_for_backward(x - threshold)
        return torch.where(x >= threshold, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, None]:
        return dy * (ctx.saved_tensors[0].abs() <= 1), None


class Binary(torch.autograd.Function):
    """Signs of the masters for the product; their gradient is the signs' own."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor) -> torch.Tensor:
        return torch.where(weight >= 0, 1.0, -1.0).to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> torch.Tensor:
        return dy


ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "scaled_tanh": lambda x: 1.7159 * torch.tanh(2 * x / 3),
    "softmax": lambda x: torch.softmax(x, 1),
    "sign": lambda x: Sign.apply(x, 0.0),
    "sign_ge4": lambda x: Sign.apply(x, 4.0),
}
# Where gradients jump.
KINKS = {"relu": 0.0, "sign": 0.0, "sign_ge4": 4.0}


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _pads(value: Any, axes: int) -> list[int]:
    """Padding as ``functional.pad`` takes it: the last axis first."""
    pads = [value] * 2 * axes if isinstance(value, int) else list(value)
    return [pad for axis in range(axes - 1, -1, -1) for pad in pads[2 * axis : 2 * axis + 2]]


class Conv(nn.Module):
    """conv and conv1d: grouped, dilated, sparse, with binary weights, with a bias per position."""

    def __init__(self, layer: Layer, x: torch.Tensor, reduction: Reduction, binary: bool) -> None:
        super().__init__()
        self.layer, self.binary, self.axes = layer, binary, x.ndim - 2
        self.groups = reduction.width(layer["groups"])
        width = reduction.width(layer["output"][-1])
        kernel = _pair(layer["kernel"])[: self.axes] if isinstance(layer["kernel"], int) else layer["kernel"]
        self.weight = nn.Parameter(torch.empty(width, x.shape[1] // self.groups, *kernel))
        position = layer.get("bias_shape")
        shape = (position[2], *position[:2]) if position else (width,)
        self.bias = nn.Parameter(torch.empty(shape)) if layer.get("bias", True) else None
        mask = torch.ones(width, self.weight.shape[1], *(1 for _ in kernel))
        for row, inputs in enumerate(layer.get("connect", ())):
            mask[row, [channel for channel in range(mask.shape[1]) if channel not in inputs]] = 0
        self.register_buffer("mask", mask, persistent=False)

    def absent(self) -> int:
        """Weights of connections that a sparse conv does not have."""
        if "connect" not in self.layer:
            return 0
        taps = math.prod(self.weight.shape[2:])
        return self.weight.numel() - taps * sum(len(inputs) for inputs in self.layer["connect"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv = functional.conv2d if self.axes == 2 else functional.conv1d
        weight = Binary.apply(self.weight) if self.binary else self.weight * self.mask
        stride, dilation = _sizes(self.layer, self.axes, "stride"), _sizes(self.layer, self.axes, "dilation")
        x = functional.pad(x, _pads(self.layer["pad"], self.axes))
        y = conv(x, weight, stride=stride, dilation=dilation, groups=self.groups)
        if self.bias is None:
            return y
        return y + (self.bias if self.bias.ndim == 3 else self.bias.reshape(-1, *(1 for _ in range(self.axes))))


def _sizes(layer: Layer, axes: int, key: str) -> tuple[int, ...]:
    return (layer[key],) * axes if isinstance(layer[key], int) else tuple(layer[key])


class Dense(nn.Module):
    def __init__(self, layer: Layer, x: torch.Tensor, reduction: Reduction, binary: bool) -> None:
        super().__init__()
        self.binary = binary
        width = reduction.width(layer["output"][-1])
        self.weight = nn.Parameter(torch.empty(width, x.flatten(1).shape[1]))
        self.bias = nn.Parameter(torch.empty(width)) if layer.get("bias", True) else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x.flatten(1), Binary.apply(self.weight) if self.binary else self.weight, self.bias)


class Deconv(nn.Module):
    """Fixed bilinear up-sampling, one 2-D kernel on the channel diagonal (Long et al. 2015)."""

    def __init__(self, layer: Layer, x: torch.Tensor) -> None:
        super().__init__()
        self.layer = layer
        factor = math.ceil(layer["kernel"] / 2)
        centre = (2 * factor - 1 - factor % 2) / (2 * factor)
        ramp = 1 - (torch.arange(layer["kernel"], dtype=torch.float64) / factor - centre).abs()
        kernel = torch.outer(ramp, ramp)
        self.register_buffer("weight", torch.einsum("io,hw->iohw", torch.eye(x.shape[1], dtype=kernel.dtype), kernel))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv_transpose2d(x, self.weight, stride=self.layer["stride"], padding=self.layer["pad"])


class Norm(nn.Module):
    """Batch norm; without gamma where the facts say so."""

    def __init__(self, layer: Layer, x: torch.Tensor, eps: float) -> None:
        super().__init__()
        self.eps = eps
        channels = x.shape[1]
        self.weight = nn.Parameter(torch.empty(channels)) if layer.get("gamma", True) else None
        self.bias = nn.Parameter(torch.empty(channels))
        self.momentum = MOMENTUM
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, var = self.running_mean, self.running_var
        return functional.batch_norm(x, mean, var, self.weight, self.bias, self.training, self.momentum, self.eps)


class Subsample(nn.Module):
    """LeNet-5's: the sum of each window times a coefficient, and a bias, for each map."""

    def __init__(self, layer: Layer, x: torch.Tensor) -> None:
        super().__init__()
        self.layer = layer
        self.weight = nn.Parameter(torch.empty(x.shape[1]))
        self.bias = nn.Parameter(torch.empty(x.shape[1]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sums = functional.avg_pool2d(x, self.layer["kernel"], self.layer["stride"], divisor_override=1)
        return sums * self.weight.reshape(-1, 1, 1) + self.bias.reshape(-1, 1, 1)


class Rbf(nn.Module):
    """Squared distances from fixed codes."""

    def __init__(self, layer: Layer, x: torch.Tensor, reduction: Reduction) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty(reduction.width(layer["output"][-1]), x.shape[1]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x[:, None] - self.weight) ** 2).sum(2)


def _pool(layer: Layer, x: torch.Tensor) -> torch.Tensor:
    kernel, stride, ceil = layer["kernel"], layer["stride"], layer.get("ceil", False)
    if layer["kind"] == "avg":
        return functional.avg_pool2d(x, kernel, stride, layer["pad"], ceil, count_include_pad=False)
    if isinstance(layer["pad"], int):
        return functional.max_pool2d(x, kernel, stride, layer["pad"], ceil_mode=ceil)
    assert not ceil
    return functional.max_pool2d(functional.pad(x, _pads(layer["pad"], 2), value=-torch.inf), kernel, stride)


def _add(layer: Layer, first: torch.Tensor, second: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
    return sum(more, first + layer.get("scale", 1.0) * second)


def _mul(layer: Layer, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return first * second


def _concat(layer: Layer, *inputs: torch.Tensor) -> torch.Tensor:
    return torch.cat(inputs, 1)


def _lrn(layer: Layer, x: torch.Tensor) -> torch.Tensor:
    # PyTorch divides alpha by n, the paper does not.
    return functional.local_response_norm(x, layer["n"], layer["n"] * layer["alpha"], layer["beta"], layer["k"])


PLAIN: dict[str, Callable[..., torch.Tensor]] = {
    "pool": _pool,
    "lrn": _lrn,
    "add": _add,
    "mul": _mul,
    "concat": _concat,
    "flatten": lambda layer, x: x.flatten(1),
    "global_avg_pool": lambda layer, x: x.mean((2, 3)),
    "activation": lambda layer, x: x,
    "dropout": lambda layer, x: x,  # both sides compare without it
}
