"""Concatenation, slices, shuffles, maxout and local response normalisation, against PyTorch in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from cnnc.ir import ops
from cnnc.ir.types import TensorType
from cnnc.runtime.cpu import channel
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.numerics import torch_side
from tests.numerics.check import check, drawn
from tests.numerics.one_step import Setup, relative, run_on_cpu

# (N, pixels): images, one pixel, vectors
SHAPES: list[tuple[int, tuple[int, ...]]] = [(1, (1, 1)), (2, (5, 3)), (3, (4, 7)), (1, ()), (5, ())]


def channels_last(array: np.ndarray) -> torch.Tensor:
    """Our order as torch's channel-first one, for images and vectors."""
    return torch_side.nchw(array, grad=True)


@pytest.mark.parametrize(("n", "pixels"), SHAPES)
@pytest.mark.parametrize("widths", [(3,), (1, 1), (7, 2, 13), (5, 16, 1, 3, 11)])
def test_concat_and_its_slices(n: int, pixels: tuple[int, ...], widths: tuple[int, ...]) -> None:
    types = [TensorType((*pixels, width)) for width in widths]
    arrays = [drawn(seed, kind, n) for seed, kind in enumerate(types)]
    whole = torch.cat([channels_last(array) for array in arrays], dim=1)
    joined = torch_side.nhwc(whole)
    check(ops.Concat(), types, arrays, [joined], Scalars(n))
    check(ops.Split(widths), (TensorType((*pixels, sum(widths))),), (joined,), arrays, Scalars(n))
    start = 0
    for width, array in zip(widths, arrays, strict=True):
        op = ops.ChannelSlice(start, width)
        check(op, (TensorType((*pixels, sum(widths))),), (joined,), [array], Scalars(n))
        start += width


def test_concat_of_a_value_with_itself() -> None:
    kind = TensorType((3, 4, 5))
    x = drawn(1, kind, 2)
    check(ops.Concat(), (kind, kind), (x, x), [np.concatenate((x, x), -1)], Scalars(2))


@pytest.mark.parametrize(("n", "pixels"), SHAPES)
@pytest.mark.parametrize(("channels", "groups"), [(6, 2), (15, 3), (7, 7), (5, 1), (12, 4)])
def test_shuffle(n: int, pixels: tuple[int, ...], channels: int, groups: int) -> None:
    kind = TensorType((*pixels, channels))
    x = drawn(1, kind, n)
    t = channels_last(x).detach()
    image = t if pixels else t[:, :, None, None]
    expected = functional.channel_shuffle(image, groups)
    y = torch_side.nhwc(expected if pixels else expected[:, :, 0, 0])
    check(ops.ChannelShuffle(groups), (kind,), (x,), [y], Scalars(n))
    check(ops.ChannelShuffle(channels // groups), (kind,), (y,), [x], Scalars(n))


@pytest.mark.parametrize(("n", "pixels"), SHAPES)
@pytest.mark.parametrize(("channels", "pieces"), [(6, 2), (15, 5), (7, 7), (5, 1), (21, 3)])
def test_maxout(n: int, pixels: tuple[int, ...], channels: int, pieces: int) -> None:
    kind, half = TensorType((*pixels, channels)), TensorType((*pixels, channels // pieces))
    x, dy = drawn(1, kind, n), drawn(2, half, n)
    t = channels_last(x)
    y = t.reshape(n, channels // pieces, pieces, *pixels).max(dim=2).values
    y.backward(torch_side.nchw(dy))
    check(ops.Maxout(pieces), (kind,), (x,), [torch_side.nhwc(y)], Scalars(n))
    dx = torch_side.nhwc(torch_side.gradient(t))
    check(ops.MaxoutGrad(pieces), (half, kind), (dy, x), [dx], Scalars(n))


def test_the_first_of_equal_maxima_gets_the_gradient() -> None:
    """NaN wins, and the first of them; infinities are ordinary numbers."""
    inf, nan = np.inf, np.nan
    x = np.array([[1.0, 3, 3, 2, 2, 2, -inf, -inf, -inf, 1, nan, nan, inf, inf, 0]])
    y = np.array([[3, 2, -inf, nan, inf]])
    dy = np.array([[1.0, 2, 3, 4, inf]])
    dx = np.array([[0, 1.0, 0, 2, 0, 0, 3, 0, 0, 0, 4, 0, inf, 0, 0]])
    types = TensorType((15,)), TensorType((5,))
    for dtype in ("float64", "float32"):
        got = run_on_cpu(ops.Maxout(3), types[:1], (x,), Scalars(1), Setup(dtype))[0]
        np.testing.assert_array_equal(got, y)
        got = run_on_cpu(ops.MaxoutGrad(3), types[::-1], (dy, x), Scalars(1), Setup(dtype))[0]
        np.testing.assert_array_equal(got, dx)
    np.testing.assert_array_equal(evaluate_op(ops.Maxout(3), (x,), Scalars(1))[0], y)
    np.testing.assert_array_equal(evaluate_op(ops.MaxoutGrad(3), (dy, x), Scalars(1))[0], dx)


# n, alpha, beta, k: the paper's, one that torch's defaults have, even windows, wider than the image, none at all
NORMS = [
    (5, 1e-4, 0.75, 2.0),
    (3, 0.3, 0.75, 1.0),
    (4, 0.1, 0.5, 1.5),
    (2, 1.0, 1.3, 1.0),
    (9, 0.05, 1.0, 0.7),
    (1, 1, 1, 1),
]


@pytest.mark.parametrize(("n", "pixels"), SHAPES)
@pytest.mark.parametrize("channels", [1, 3, 17])
@pytest.mark.parametrize("norm", NORMS)
def test_lrn(n: int, pixels: tuple[int, ...], channels: int, norm: tuple[int, float, float, float]) -> None:
    size, alpha, beta, k = norm
    kind = TensorType((*pixels, channels))
    x, dy = 2 * drawn(1, kind, n), drawn(2, kind, n)
    t = channels_last(x)
    image = t if pixels else t[:, :, None]
    y = functional.local_response_norm(image, size, alpha * size, beta, k).reshape(t.shape)  # torch divides by size
    y.backward(torch_side.nchw(dy))
    check(ops.Lrn(size, alpha, beta, k), (kind,), (x,), [torch_side.nhwc(y)], Scalars(n))
    dx = torch_side.nhwc(torch_side.gradient(t))
    check(ops.LrnGrad(size, alpha, beta, k), (kind, kind), (dy, x), [dx], Scalars(n))


def test_lrn_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers when a piece is a single row of an image."""
    kind = TensorType((6, 5, 7))
    x, dy = drawn(1, kind, 3), drawn(2, kind, 3)
    for op, arrays in ((ops.Lrn(alpha=0.1), (x,)), (ops.LrnGrad(alpha=0.1), (dy, x))):
        whole = run_on_cpu(op, (kind,) * len(arrays), arrays, Scalars(3))[0]
        with monkeypatch.context() as patch:
            patch.setattr(channel, "CHUNK_BYTES", 1)
            np.testing.assert_array_equal(run_on_cpu(op, (kind,) * len(arrays), arrays, Scalars(3))[0], whole)


def test_lrn_of_zeros_and_of_large_numbers() -> None:
    """Sums around 1e10 keep float32's precision, and zeros stay zeros."""
    kind = TensorType((2, 2, 11))
    x = 1e5 * drawn(1, kind, 2)
    x[0] = 0
    for beta in (0.75, 0.6):
        op = ops.Lrn(5, 0.5, beta, 1.0)
        y = evaluate_op(op, (x,), Scalars(2))[0]
        got = run_on_cpu(op, (kind,), (x,), Scalars(2), Setup("float32"))[0]
        assert got is not None
        assert relative(got, y) <= 1e-6
        assert not got[0].any()
