"""Layers of the language on the cpu against PyTorch in float64: outputs, and gradients of input and parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as fn

import cnnc
from cnnc.runtime.arrays import Array

TIGHT = 1e-11  # relative L2
Parameters = Mapping[str, Tensor]
Reference = Callable[[Tensor, Parameters], Tensor]


def lcn(x: Tensor, p: Parameters) -> Tensor:
    """The formula of Jarrett et al. 2009 with a 5x3 Gaussian of deviation 1.25 over 3 channels."""
    tall = torch.exp(-(torch.arange(-2, 3, dtype=x.dtype) ** 2) / (2 * 1.25**2))
    wide = torch.exp(-(torch.arange(-1, 2, dtype=x.dtype) ** 2) / (2 * 1.25**2))
    window = torch.outer(tall, wide).expand(1, 3, 5, 3)
    window = window / window.sum()
    v = x - fn.conv2d(x, window, padding=(2, 1))
    deviation = fn.conv2d(v * v, window, padding=(2, 1)).sqrt()
    return v / deviation.clamp(min=0.5)


def lrn(x: Tensor, p: Parameters) -> Tensor:
    squares = fn.pad(x * x, (0, 0, 0, 0, 1, 1))
    total = squares[:, :-2] + squares[:, 1:-1] + squares[:, 2:]
    return x / (2 + 0.1 * total) ** 0.6


def sparse(x: Tensor, p: Parameters) -> Tensor:
    mask = torch.tensor([[1, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1]], dtype=x.dtype)
    return fn.conv2d(x, p["c.weight"] * mask[:, :, None, None], p["c.bias"])


def sepconv(x: Tensor, p: Parameters) -> Tensor:
    deep = fn.conv2d(x, p["s.depthwise.weight"], padding=1, stride=2, groups=3)
    return fn.conv2d(deep, p["s.pointwise.weight"], p["s.pointwise.bias"]).tanh()


def subsample(x: Tensor, p: Parameters) -> Tensor:
    sums = fn.avg_pool2d(x, (3, 2), (2, 2), divisor_override=1)
    return 1.7159 * torch.tanh(2 / 3 * (p["s.weight"][:, None, None] * sums + p["s.bias"][:, None, None]))


def bottom_line(x: Tensor, p: Parameters) -> Tensor:
    return fn.conv2d(x, p["c.weight"]) + p["c.bias"]


def residual(x: Tensor, p: Parameters) -> Tensor:
    arm = fn.conv2d(x, p["conv1.weight"], p["conv1.bias"], stride=2, padding=1)
    skip = fn.conv2d(x, p["shortcut1.weight"], p["shortcut1.bias"], stride=2)
    return fn.elu(0.2 * arm + skip)


def option_a(x: Tensor, p: Parameters) -> Tensor:
    arm = fn.conv2d(x, p["conv1.weight"], p["conv1.bias"], stride=2, padding=1)
    return torch.cat([arm, fn.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, 2))], 1)


def centred(x: Tensor, p: Parameters) -> Tensor:
    """Batch norm as inference has it, at mean 0 and variance 1, without gamma."""
    return x / np.sqrt(1 + 0.25) + p["b.bias"][:, None, None]


IMAGES: dict[str, Reference] = {
    "leaky_relu": lambda x, p: fn.leaky_relu(x, 0.1),
    "elu(0.7)": lambda x, p: fn.elu(x, 0.7),
    "p: prelu": lambda x, p: fn.prelu(x, p["p.weight"]),
    "scaled_tanh": lambda x, p: 1.7159 * torch.tanh(2 / 3 * x),
    "hard_sigmoid": lambda x, p: (0.2 * x + 0.5).clamp(0, 1),
    "softsign": lambda x, p: fn.softsign(x),
    "softmax": lambda x, p: fn.softmax(x, 1),
    "c: conv 4 2x2 connect=[0 1 | 2 | 0 2 | 0 1 2]": sparse,
    "c: conv 5 3x2 bias=position": bottom_line,
    "c: conv 4 3x3 prelu(0.1)": lambda x, p: fn.prelu(fn.conv2d(x, p["c.weight"], p["c.bias"]), p["c.prelu.weight"]),
    "d: deconv 4 4x3/(2,3) pad=(1,0) nobias": lambda x, p: fn.conv_transpose2d(
        x, p["d.weight"], stride=(2, 3), padding=(1, 0)
    ),
    "d: deconv 6 3x3/2 groups=3": lambda x, p: fn.conv_transpose2d(x, p["d.weight"], p["d.bias"], stride=2, groups=3),
    "d: deconv 2 3x3/2 same dilation=2": lambda x, p: fn.conv_transpose2d(
        x, p["d.weight"], p["d.bias"], stride=2, dilation=2
    )[:, :, 1:-2, 1:-2],
    "d: dwconv 3x3/2 same m=2 relu": lambda x, p: fn.conv2d(
        x, p["d.weight"], p["d.bias"], stride=2, padding=1, groups=3
    ).relu(),
    "s: sepconv 5 3x3/2 same m=2 tanh": sepconv,
    "l2pool 2x2/1": lambda x, p: fn.lp_pool2d(x, 2.0, 2, 1),
    "s: subsample 3x2/2 scaled_tanh": subsample,
    "lcn 5x3 eps=0.5": lcn,
    "lrn n=3 alpha=0.1 beta=0.6": lrn,
    "maxout 3": lambda x, p: x.amax(1, keepdim=True),
    "shuffle 3": lambda x, p: x,
    "conv 6 1x1 nobias\nshuffle 2": lambda x, p: fn.channel_shuffle(fn.conv2d(x, p["conv1.weight"]), 2),
    "upsample (2,3)": lambda x, p: x.repeat_interleave(2, 2).repeat_interleave(3, 3),
    "upsample 2 bilinear": lambda x, p: fn.interpolate(x, scale_factor=2, mode="bilinear"),
    "zeropad (1,2,0,3)": lambda x, p: fn.pad(x, (0, 3, 1, 2)),
    "crop 3x2": lambda x, p: x[:, :, 2:5, 1:3],
    "s: scale": lambda x, p: x * p["s.weight"][:, None, None],
    "scale -0.3": lambda x, p: -0.3 * x,
    "b: bn nogamma eps=0.25": centred,
    "a: tanh\nb: sigmoid\nmul(a, b, input)": lambda x, p: x.tanh() * x.tanh().sigmoid() * x,
    "add { | 0.2 * conv 5 3x3/2 same | shortcut B } elu": residual,
    "concat { | conv 5 3x3/2 same | shortcut A s=2 width=5 }": option_a,
}

SEQUENCES: dict[str, Reference] = {
    "c: conv 4 f=3 causal dilation=2 s=2": lambda x, p: fn.conv1d(
        fn.pad(x, (4, 0)), p["c.weight"], p["c.bias"], stride=2, dilation=2
    ),
    "d: deconv 4 f=4 s=2 same": lambda x, p: fn.conv_transpose1d(x, p["d.weight"], p["d.bias"], stride=2, padding=1),
    "d: dwconv f=5 pad=(1,2)": lambda x, p: fn.conv1d(fn.pad(x, (1, 2)), p["d.weight"], p["d.bias"], groups=3),
    "maxpool f=3 s=2": lambda x, p: fn.max_pool1d(x, 3, 2),
    "c: conv 2 f=2 bias=position": lambda x, p: fn.conv1d(x, p["c.weight"]) + p["c.bias"],
    "upsample 2": lambda x, p: x.repeat_interleave(2, 2),
    "globalavgpool\nf: fc 4": lambda x, p: fn.linear(x.mean(2), p["f.weight"], p["f.bias"]),
    "f: fc 4": lambda x, p: fn.linear(x.flatten(1), p["f.weight"], p["f.bias"]),
}


def relative(found: Array, wanted: Array) -> float:
    assert found.shape == wanted.shape
    assert np.isfinite(found).all()
    return float(np.linalg.norm(found - wanted)) / (float(np.linalg.norm(wanted)) or 1.0)


def channels_first(x: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def channels_last(x: Tensor) -> Array:
    return np.moveaxis(x.detach().numpy(), 1, -1)


def compare(body: str, reference: Reference, shape: tuple[int, ...], batch: int) -> None:
    rng = np.random.default_rng(len(body))
    text = f"input {'x'.join(map(str, shape))}\n{body}\n"
    net = cnnc.compile(text, device="cpu", dtype="float64", training=True, seed=1)
    x = rng.standard_normal((batch, *shape))
    state = {name: torch.tensor(value, dtype=torch.float64) for name, value in net.state_dict().items()}
    trained = {name: value.requires_grad_() for name, value in state.items() if "running" not in name}
    tx = channels_first(x).requires_grad_()
    wanted = reference(tx, trained)
    y = np.asarray(net(x))
    assert relative(y, channels_last(wanted)) < TIGHT
    if "bn" in body:
        return  # gradients are those of training, with the batch's own statistics
    dy = rng.standard_normal(y.shape)
    dx, grads = net.vjp(x, dy)
    wanted.backward(channels_first(dy))
    assert tx.grad is not None
    assert relative(np.asarray(dx), channels_last(tx.grad)) < TIGHT
    assert grads.keys() == trained.keys()
    for name, value in trained.items():
        assert value.grad is not None
        assert relative(np.asarray(grads[name]), value.grad.numpy()) < TIGHT, name


@pytest.mark.parametrize("body", IMAGES)
@pytest.mark.parametrize("batch", [1, 3])
def test_layers_of_images(body: str, batch: int) -> None:
    compare(body, IMAGES[body], (7, 5, 3), batch)


@pytest.mark.parametrize("body", SEQUENCES)
def test_layers_of_sequences(body: str) -> None:
    compare(body, SEQUENCES[body], (11, 3), 2)


def test_weights_as_written() -> None:
    """The words of signs are the filters in PyTorch's order; one output per pattern that fits (networks.md 1.22)."""
    text = "input 2x2x1\nconv 2 2x2 nobias weights=[+--+ | -++-] fixed\n"
    net = cnnc.compile(text, device="cpu")
    slash = np.array([1, -1, -1, 1], "float32").reshape(1, 2, 2, 1)
    assert np.asarray(net(slash)).ravel().tolist() == [4, -4]


def test_distances_from_codes() -> None:
    net = cnnc.compile("input 4\nrbf 2 codes=[+--+ | -++-]\n", device="cpu")
    assert np.asarray(net(np.array([[1, -1, -1, 1], [0, 0, 0, 0]], "float32"))).tolist() == [[0, 16], [4, 4]]


def test_binary_weights_use_their_signs() -> None:
    net = cnnc.compile("input 3\nf: fc 1 nobias binary weights=[0.3 -0.1 0]\n", device="cpu")
    assert np.asarray(net(np.array([[1, 10, 100]], "float32"))).tolist() == [[91]]
    assert np.asarray(net.state_dict()["f.weight"]).ravel().tolist() == pytest.approx([0.3, -0.1, 0])


def test_a_bilinear_deconv_keeps_a_plane() -> None:
    """Up-sampling by 2 with Long's kernels takes a linear ramp to one of half the slope, away from the border."""
    text = "input 6x6x2\ndeconv 2 4x4/2 same nobias weights=bilinear fixed\n"
    net = cnnc.compile(text, device="cpu", dtype="float64")
    ramp = np.broadcast_to(np.arange(6.0)[None, :, None, None], (1, 6, 6, 2))
    y = np.asarray(net(np.ascontiguousarray(ramp)))[0, 2:-2, 2:-2]
    wanted = np.broadcast_to(((np.arange(2, 10) + 0.5) / 2 - 0.5)[:, None, None], y.shape)
    assert relative(y, np.ascontiguousarray(wanted)) < TIGHT
