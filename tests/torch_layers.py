"""Every layer of the language in PyTorch, from its resolved statement: NCHW; a sequence is Lx1."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional

from cnnc.frontend.layer_parts import Activate, Affine, Norm
from cnnc.frontend.layers import (
    ActivationLayer,
    BareLayer,
    ContrastLayer,
    ConvLayer,
    CountLayer,
    CropLayer,
    DeconvLayer,
    DenseLayer,
    DepthwiseLayer,
    NormLayer,
    PoolLayer,
    RbfLayer,
    ResponseLayer,
    ScaleLayer,
    StridedCopyLayer,
    SubsampleLayer,
    UpsampleLayer,
    ZeroPadLayer,
)
from tests.torch_activations import ACTIVATIONS
from tests.torch_parts import Binary
from tests.torch_windows import extents, pads_of, pool, root, windows

# What a layer gives, and what a loss reads of it: logits before a softmax, negated distances.
Result = tuple[torch.Tensor, torch.Tensor]


class Layers:
    """Layers over the tensors of one state dict."""

    def __init__(self, state: Mapping[str, torch.Tensor], training: bool) -> None:
        self.state = state
        self.training = training

    def compute(self, layer: Any, x: torch.Tensor) -> Result:
        return self._makers[type(layer)](self, layer, x)

    # -- products -----------------------------------------------------------------------------

    def _conv(self, layer: ConvLayer | DepthwiseLayer, x: torch.Tensor) -> Result:
        settings = layer.window
        groups = x.shape[1] if isinstance(layer, DepthwiseLayer) else layer.groups
        weight = self._weight(layer.place.name, layer.affine)
        if isinstance(layer, ConvLayer) and layer.connect:
            mask = torch.zeros_like(weight)
            for row, inputs in enumerate(layer.connect):
                mask[row, list(inputs)] = 1
            weight = weight * mask
        x = functional.pad(x, pads_of(settings, x))
        y = functional.conv2d(x, weight, stride=settings.stride, dilation=settings.dilation, groups=groups)
        return self._epilogue(layer.place.name, layer.affine, y)

    def _deconv(self, layer: DeconvLayer, x: torch.Tensor) -> Result:
        """The whole transposed product, its borders cut off."""
        settings, weight = layer.window, self._weight(layer.place.name, layer.affine)
        if settings.padding.kind == "same":
            total = [extent - stride for extent, stride in zip(extents(settings), settings.stride, strict=True)]
            top, left = total[0] // 2, total[1] // 2
            bottom, right = total[0] - top, total[1] - left
        else:
            top, bottom, left, right = settings.padding.pad
        y = functional.conv_transpose2d(
            x, weight, stride=settings.stride, dilation=settings.dilation, groups=layer.groups
        )
        y = y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]
        return self._epilogue(layer.place.name, layer.affine, y)

    def _dense(self, layer: DenseLayer, x: torch.Tensor) -> Result:
        weight = self._weight(layer.place.name, layer.affine, image=False)
        return self._epilogue(layer.place.name, layer.affine, functional.linear(x, weight))

    def _rbf(self, layer: RbfLayer, x: torch.Tensor) -> Result:
        distances = ((x[:, None] - self.state[f"{layer.place.name}.weight"]) ** 2).sum(2)
        return distances, -distances

    def _weight(self, name: str, affine: Affine, *, image: bool = True) -> torch.Tensor:
        weight = self.state[f"{name}.weight"]
        weight = weight[..., None] if image and weight.ndim == 3 else weight
        return Binary.apply(weight) if affine.weights.binary else weight

    def _epilogue(self, name: str, affine: Affine, y: torch.Tensor) -> Result:
        if affine.bias and affine.position_bias:
            y = y + self.state[f"{name}.bias"].reshape(y.shape[1:])
        elif affine.bias:
            y = y + self._vector(f"{name}.bias", y)
        if affine.norm is not None:
            y = self.norm(f"{name}.bn", affine.norm, y)
        return self.follow(name, affine.activation, y)

    # -- activations and norms ----------------------------------------------------------------

    def follow(self, name: str, found: Activate | None, y: torch.Tensor) -> Result:
        return self.activate(f"{name}.{found.kind}" if found else "", found, y)

    def activate(self, name: str, found: Activate | None, y: torch.Tensor) -> Result:
        if found is None:
            return y, y
        if found.kind == "softmax":
            return torch.softmax(y, 1), y
        if found.kind == "prelu":
            y = functional.prelu(y, self.state[f"{name}.weight"])
        else:
            y = ACTIVATIONS[found.kind](y, found.alpha)
        return y, y

    def norm(self, name: str, norm: Norm, x: torch.Tensor) -> torch.Tensor:
        mean, var = self.state[f"{name}.running_mean"], self.state[f"{name}.running_var"]
        gamma = self.state[f"{name}.weight"] if norm.gamma else None
        beta = self.state[f"{name}.bias"]
        if not self.training or x.numel() > x.shape[1]:
            return functional.batch_norm(x, mean, var, gamma, beta, self.training, norm.momentum, norm.eps)
        # One value per channel: PyTorch refuses. It deviates from its mean by 0; the mean moves, the variance not.
        with torch.no_grad():
            mean.mul_(1 - norm.momentum).add_(x.reshape(-1), alpha=norm.momentum)
        shape = (1, -1, *(1 for _ in x.shape[2:]))
        return (x - x) * (1 if gamma is None else gamma.reshape(shape)) + beta.reshape(shape)

    def _vector(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return self.state[name].reshape(-1, *(1 for _ in x.shape[2:]))

    def _norm_layer(self, layer: NormLayer, x: torch.Tensor) -> Result:
        return self.follow(layer.place.name, layer.activation, self.norm(layer.place.name, layer.norm, x))

    def _activation(self, layer: ActivationLayer, x: torch.Tensor) -> Result:
        return self.activate(layer.place.name, layer.activation, x)

    def _subsample(self, layer: SubsampleLayer, x: torch.Tensor) -> Result:
        name, y = layer.place.name, windows(layer.window, x, 0.0, 0.0).sum(-1)
        y = y * self._vector(f"{name}.weight", y) + self._vector(f"{name}.bias", y)
        return self.follow(name, layer.activation, y)

    def _scale(self, layer: ScaleLayer, x: torch.Tensor) -> Result:
        y = x * (self._vector(f"{layer.place.name}.weight", x) if layer.factor is None else layer.factor)
        return y, y

    _makers: Mapping[type, Callable[..., Result]] = {
        ConvLayer: _conv,
        DepthwiseLayer: _conv,
        DeconvLayer: _deconv,
        DenseLayer: _dense,
        RbfLayer: _rbf,
        NormLayer: _norm_layer,
        ActivationLayer: _activation,
        SubsampleLayer: _subsample,
        ScaleLayer: _scale,
    }


def contrast(layer: ContrastLayer, x: torch.Tensor) -> torch.Tensor:
    """The formula of Jarrett et al. 2009: a Gaussian window as wide as a quarter of its size over all channels."""
    deviation = max(layer.kernel) / 4
    places = [torch.arange(size, dtype=x.dtype) - (size - 1) / 2 for size in layer.kernel]
    tall, wide = (torch.exp(-(place**2) / (2 * deviation**2)) for place in places)
    window = torch.outer(tall, wide)
    window = (window / window.sum() / x.shape[1]).expand(1, x.shape[1], *layer.kernel)
    above, before = ((size - 1) // 2 for size in layer.kernel)
    pads = (before, layer.kernel[1] - 1 - before, above, layer.kernel[0] - 1 - above)

    def mean(image: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(functional.pad(image, pads), window)

    v = x - mean(x)
    return v / root(mean(v * v)).clamp(min=layer.eps)


def response(layer: ResponseLayer, x: torch.Tensor) -> torch.Tensor:
    """The formula of Krizhevsky et al. 2012, alpha not divided by n."""
    channels = range(x.shape[1])
    sums = [(x[:, max(0, c - layer.n // 2) : c + (layer.n - 1) // 2 + 1] ** 2).sum(1, keepdim=True) for c in channels]
    return x / (layer.k + layer.alpha * torch.cat(sums, 1)) ** layer.beta


def regroup(layer: CountLayer, x: torch.Tensor) -> torch.Tensor:
    if layer.keyword == "maxout":
        return x.unflatten(1, (-1, layer.count)).max(2).values
    return x.unflatten(1, (layer.count, -1)).transpose(1, 2).flatten(1, 2)


def upsample(layer: UpsampleLayer, x: torch.Tensor) -> torch.Tensor:
    if layer.mode == "bilinear":
        return functional.interpolate(x, scale_factor=layer.factor, mode="bilinear")
    return x.repeat_interleave(layer.factor[0], 2).repeat_interleave(layer.factor[1], 3)


def zeropad(layer: ZeroPadLayer, x: torch.Tensor) -> torch.Tensor:
    top, bottom, left, right = layer.pad
    return functional.pad(x, (left, right, top, bottom))


def crop(layer: CropLayer, x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    spare = [n - wanted for n, wanted in zip(x.shape[2:], size, strict=True)]
    top, left = layer.offset or (spare[0] // 2, spare[1] // 2)
    return x[:, :, top : top + size[0], left : left + size[1]]


def strided_copy(layer: StridedCopyLayer, x: torch.Tensor) -> torch.Tensor:
    copied = x[:, :, :: layer.stride[0], :: layer.stride[1]]
    return functional.pad(copied, (0, 0, 0, 0, 0, layer.width - x.shape[1]))


def bare(layer: BareLayer, x: torch.Tensor) -> torch.Tensor:
    if layer.keyword == "globalavgpool":
        return x.mean((2, 3))
    assert layer.keyword == "flatten"
    return x.flatten(1)


# Layers without parameters.
PLAIN: Mapping[type, Callable[..., torch.Tensor]] = {
    PoolLayer: pool,
    ContrastLayer: contrast,
    ResponseLayer: response,
    CountLayer: regroup,
    UpsampleLayer: upsample,
    ZeroPadLayer: zeropad,
    StridedCopyLayer: strided_copy,
    BareLayer: bare,
}


def merged(kind: str, terms: list[torch.Tensor]) -> torch.Tensor:
    if kind == "concat":
        return torch.cat(terms, 1)
    return torch.stack(terms).sum(0) if kind == "add" else math.prod(terms[1:], start=terms[0])
