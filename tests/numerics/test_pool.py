"""Pools and their gradients at odd sizes, against PyTorch in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from cnnc.ir import ops
from cnnc.ir.types import Element, TensorType
from cnnc.ir.window import Window
from cnnc.runtime.arrays import Array
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.numerics import torch_side
from tests.numerics.check import check, check_same, drawn
from tests.numerics.one_step import image, run_on_cpu

# (N, H, W, C, window)
CASES = {
    "plain": (3, 8, 6, 5, Window((2, 2), (2, 2))),
    "one_pixel": (1, 1, 1, 3, Window((1, 1))),
    "one_pixel_padded": (1, 1, 1, 3, Window((3, 3), (1, 1), (1, 1, 1, 1))),
    "overlapping": (2, 9, 7, 7, Window((3, 3), (2, 2))),
    "stride_beyond_kernel": (2, 11, 10, 3, Window((2, 2), (3, 4))),
    "padded": (2, 7, 8, 3, Window((3, 3), (2, 2), (1, 1, 1, 1))),
    "even_kernel": (1, 7, 9, 13, Window((4, 2), (1, 2), (2, 2, 1, 1))),
    "ceil": (2, 8, 9, 3, Window((3, 2), (2, 2), ceil=True)),
    "ceil_padded": (2, 6, 7, 5, Window((3, 3), (2, 3), (1, 1, 1, 1), ceil=True)),
    "ceil_last_starts_in_padding": (1, 5, 5, 2, Window((2, 2), (3, 3), (1, 1, 1, 1), ceil=True)),
    "asymmetric": (2, 6, 7, 3, Window((3, 3), (2, 1), (0, 1, 2, 0))),
}
DILATED = (2, 9, 10, 3, Window((3, 2), (2, 1), (1, 1, 1, 1), (2, 3)))


def _symmetric(window: Window) -> bool:
    top, bottom, left, right = window.pad
    return top == bottom and left == right and 2 * top <= window.kernel[0] and 2 * left <= window.kernel[1]


def _torch_maxpool(window: Window, x: torch.Tensor) -> torch.Tensor:
    pad = (window.pad[0], window.pad[2]) if _symmetric(window) else (0, 0)
    source = x if _symmetric(window) else torch_side.padded(x, window, -np.inf)
    return functional.max_pool2d(source, window.kernel, window.stride, pad, window.dilation, window.ceil)


def _winners(op: ops.MaxPool, x: Array) -> Array:
    """The first tap that holds each window's maximum, by looking at one window after the other."""
    window, (n, height, width, channels) = op.window, x.shape
    result = np.zeros((n, *window.output((height, width)), channels), np.uint8)
    for i, p, q, c in np.ndindex(*result.shape):
        values = {}
        for r, s in np.ndindex(*window.kernel):
            h = p * window.stride[0] + r * window.dilation[0] - window.pad[0]
            w = q * window.stride[1] + s * window.dilation[1] - window.pad[2]
            if 0 <= h < height and 0 <= w < width:
                values[r * window.kernel[1] + s] = x[i, h, w, c]
        nans = [tap for tap, value in values.items() if np.isnan(value)]
        result[i, p, q, c] = nans[0] if nans else max(values, key=lambda tap: values[tap])
    return result


@pytest.mark.parametrize("name", [*CASES, "dilated"])
def test_maxpool(name: str) -> None:
    n, height, width, channels, window = {**CASES, "dilated": DILATED}[name]
    op = ops.MaxPool(window)
    x_type, y_type = image(height, width, channels), image(*window.output((height, width)), channels)
    x, dy = drawn(1, x_type, n), drawn(2, y_type, n)
    tx = torch_side.nchw(x, grad=True)
    ty = _torch_maxpool(window, tx)
    ty.backward(torch_side.nchw(dy))
    index = _winners(op, x)
    check(op, (x_type,), (x,), [torch_side.nhwc(ty), index], Scalars(n))
    grad = ops.MaxPoolGrad(window, (height, width))
    types = (y_type, TensorType(y_type.shape, True, Element.INDEX))
    check(grad, types, (dy, index), [torch_side.nhwc(torch_side.gradient(tx))], Scalars(n))


def test_first_of_equal_maxima_wins() -> None:
    window = Window((3, 3), (2, 2), (1, 1, 1, 1))
    x = np.random.default_rng(5).integers(0, 3, (2, 7, 7, 4)).astype(np.float64)
    tx = torch_side.nchw(x, grad=True)
    ty = _torch_maxpool(window, tx)
    ty.sum().backward()
    op = ops.MaxPool(window)
    y, index = torch_side.nhwc(ty), _winners(op, x)
    check(op, (image(7, 7, 4),), (x,), [y, index], Scalars(2))
    dx = evaluate_op(ops.MaxPoolGrad(window, (7, 7)), (np.ones_like(y), index), Scalars(2))[0]
    np.testing.assert_array_equal(dx, torch_side.nhwc(torch_side.gradient(tx)))


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf])
def test_special_values(value: float) -> None:
    """NaN wins its windows; minus infinity is an ordinary number that padding does not beat."""
    window = Window((3, 3), (2, 2), (1, 1, 1, 1))
    x = np.random.default_rng(6).standard_normal((2, 6, 6, 3))
    x[0, 2:5, 1:4] = value
    x[1, :, :, 0] = value
    op = ops.MaxPool(window)
    oracle = evaluate_op(op, (x,), Scalars(2))
    cpu = run_on_cpu(op, (image(6, 6, 3),), (x,), Scalars(2))
    expected = torch_side.nhwc(_torch_maxpool(window, torch_side.nchw(x)))
    for y, index in (oracle, cpu):
        np.testing.assert_array_equal(y, expected)
        np.testing.assert_array_equal(index, _winners(op, x))


def test_maxpool_without_index() -> None:
    """An output that nobody reads is not computed; the other is the same."""
    op, x = ops.MaxPool(Window((2, 2), (2, 2))), drawn(1, image(6, 6, 3), 2)
    y, index = run_on_cpu(op, (image(6, 6, 3),), (x,), Scalars(2), wanted=(True, False))
    assert index is None
    np.testing.assert_array_equal(y, evaluate_op(op, (x,), Scalars(2))[0])
    y, index = run_on_cpu(op, (image(6, 6, 3),), (x,), Scalars(2), wanted=(False, True))
    assert y is None
    np.testing.assert_array_equal(index, evaluate_op(op, (x,), Scalars(2))[1])


def _torch_avgpool(window: Window, count_pad: bool, x: torch.Tensor) -> torch.Tensor:
    if _symmetric(window):
        pad = (window.pad[0], window.pad[2])
        return functional.avg_pool2d(x, window.kernel, window.stride, pad, window.ceil, count_pad)
    summed = functional.avg_pool2d(torch_side.padded(x, window), window.kernel, window.stride, divisor_override=1)
    ones = torch_side.padded(torch.ones_like(x), window, 1.0 if count_pad else 0.0)
    return summed / functional.avg_pool2d(ones, window.kernel, window.stride, divisor_override=1)


@pytest.mark.parametrize("count_pad", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_avgpool(name: str, count_pad: bool) -> None:
    n, height, width, channels, window = CASES[name]
    x_type, y_type = image(height, width, channels), image(*window.output((height, width)), channels)
    x, dy = drawn(1, x_type, n), drawn(2, y_type, n)
    tx = torch_side.nchw(x, grad=True)
    ty = _torch_avgpool(window, count_pad, tx)
    ty.backward(torch_side.nchw(dy))
    check(ops.AvgPool(window, count_pad), (x_type,), (x,), [torch_side.nhwc(ty)], Scalars(n))
    grad = ops.AvgPoolGrad(window, (height, width), count_pad)
    check(grad, (y_type,), (dy,), [torch_side.nhwc(torch_side.gradient(tx))], Scalars(n))


@pytest.mark.parametrize("count_pad", [False, True])
def test_dilated_avgpool(count_pad: bool) -> None:
    """PyTorch has none; the two implementations agree, and a constant stays what it is."""
    n, height, width, channels, window = DILATED
    x_type, y_type = image(height, width, channels), image(*window.output((height, width)), channels)
    check_same(ops.AvgPool(window, count_pad), (x_type,), (drawn(1, x_type, n),), Scalars(n))
    grad = ops.AvgPoolGrad(window, (height, width), count_pad)
    check_same(grad, (y_type,), (drawn(2, y_type, n),), Scalars(n))
    if not count_pad:
        ones = np.ones((n, height, width, channels))
        np.testing.assert_allclose(evaluate_op(ops.AvgPool(window), (ones,), Scalars(n))[0], 1, rtol=1e-15)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (19, 3)])
def test_global_avgpool(size: tuple[int, int]) -> None:
    x_type = image(*size, 5)
    x, dy = drawn(1, x_type, 3), drawn(2, TensorType((5,)), 3)
    tx = torch_side.nchw(x, grad=True)
    ty = functional.adaptive_avg_pool2d(tx, 1).flatten(1)
    ty.backward(torch.tensor(dy))
    check(ops.GlobalAvgPool(), (x_type,), (x,), [ty.detach().numpy()], Scalars(3))
    dx = torch_side.nhwc(torch_side.gradient(tx))
    check(ops.GlobalAvgPoolGrad(size), (TensorType((5,)),), (dy,), [dx], Scalars(3))
