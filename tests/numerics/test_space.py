"""Borders, crops, shortcuts, up-sampling and sum pools at odd sizes, against PyTorch in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional

from cnnc.errors import ShapeError
from cnnc.ir import ops
from cnnc.ir.window import Pair, Window, tensorflow_same_padding
from cnnc.runtime.cpu import pool, space
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.numerics import torch_side
from tests.numerics.check import check, drawn
from tests.numerics.one_step import Setup, image, relative, run_on_cpu

Shape = tuple[int, int, int, int]  # N, H, W, C


def _both_ways(
    forward: ops.Op, backward: ops.Op, shape: Shape, reference: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    """An op and its gradient against PyTorch's, each alone."""
    n, *size = shape
    x_type = image(size[0], size[1], size[2])
    (y_type,) = forward.infer(x_type)
    assert backward.infer(y_type) == (x_type,)
    x, dy = drawn(1, x_type, n), drawn(2, y_type, n)
    tx = torch_side.nchw(x, grad=True)
    ty = reference(tx)
    ty.backward(torch_side.nchw(dy))
    check(forward, (x_type,), (x,), [torch_side.nhwc(ty)], Scalars(n))
    check(backward, (y_type,), (dy,), [torch_side.nhwc(torch_side.gradient(tx))], Scalars(n))


SUM_POOLS: dict[str, tuple[Shape, Window]] = {
    "plain": ((3, 8, 6, 5), Window((2, 2), (2, 2))),
    "one_tap": ((2, 3, 4, 7), Window((1, 1))),
    "one_tap_strided": ((2, 5, 4, 3), Window((1, 1), (2, 3))),
    "one_pixel": ((1, 1, 1, 3), Window((1, 1))),
    "one_pixel_padded": ((1, 1, 1, 3), Window((3, 3), (1, 1), (1, 1, 1, 1))),
    "overlapping": ((2, 9, 7, 13), Window((3, 3), (2, 2))),
    "stride_beyond_kernel": ((2, 11, 10, 3), Window((2, 2), (3, 4))),
    "asymmetric": ((2, 6, 7, 3), Window((3, 3), (2, 1), (0, 1, 2, 0))),
    "dilated": ((2, 9, 10, 3), Window((3, 2), (2, 1), (1, 1, 1, 1), (2, 3))),
    "ceil": ((2, 8, 9, 3), Window((3, 2), (2, 2), ceil=True)),
    "ceil_padded": ((2, 6, 7, 5), Window((3, 3), (2, 3), (1, 1, 1, 1), ceil=True)),
}


def _torch_sum_pool(window: Window, x: torch.Tensor) -> torch.Tensor:
    """A convolution with ones; what ``ceil`` adds hangs over the border, where zeros stand."""
    channels, size = x.shape[1], (x.shape[2], x.shape[3])
    rest = [
        (out - 1) * stride + extent - image - sum(window.pad_of(axis))
        for axis, (out, stride, extent, image) in enumerate(
            zip(window.output(size), window.stride, window.extent, size, strict=True)
        )
    ]
    x = functional.pad(torch_side.padded(x, window), (0, max(0, rest[1]), 0, max(0, rest[0])))
    ones = torch.ones(channels, 1, *window.kernel, dtype=x.dtype)
    return functional.conv2d(x, ones, stride=window.stride, dilation=window.dilation, groups=channels)


@pytest.mark.parametrize("name", SUM_POOLS)
def test_sum_pool(name: str) -> None:
    shape, window = SUM_POOLS[name]
    grad = ops.SumPoolGrad(window, (shape[1], shape[2]))
    _both_ways(ops.SumPool(window), grad, shape, lambda x: _torch_sum_pool(window, x))


def test_a_hanging_window_sums_what_is_inside() -> None:
    window = Window((3, 3), (2, 2), ceil=True)
    (y,) = evaluate_op(ops.SumPool(window), (np.ones((1, 6, 6, 1)),), Scalars(1))
    np.testing.assert_array_equal(y[0, :, :, 0], [[9, 9, 6], [9, 9, 6], [6, 6, 4]])


PADS: dict[str, tuple[Shape, tuple[int, int, int, int]]] = {
    "all_sides": ((2, 3, 5, 7), (1, 2, 3, 4)),
    "one_side": ((1, 4, 3, 13), (0, 0, 2, 0)),
    "nothing": ((2, 3, 3, 5), (0, 0, 0, 0)),
    "one_pixel_far": ((1, 1, 1, 3), (100, 100, 100, 100)),
    "far_on_one_side": ((3, 2, 1, 2), (100, 0, 0, 100)),
}


@pytest.mark.parametrize("name", PADS)
def test_zero_pad(name: str) -> None:
    shape, (top, bottom, left, right) = PADS[name]
    crop = ops.Crop((top, left), (shape[1], shape[2]))
    pad = ops.ZeroPad((top, bottom, left, right))
    _both_ways(pad, crop, shape, lambda x: functional.pad(x, (left, right, top, bottom)))


@pytest.mark.parametrize(
    ("shape", "offset", "size"),
    [
        ((2, 5, 7, 3), (1, 2), (3, 4)),
        ((1, 4, 3, 13), (0, 0), (4, 3)),  # everything
        ((3, 4, 5, 2), (3, 4), (1, 1)),
        ((1, 1, 1, 5), (0, 0), (1, 1)),
    ],
)
def test_crop(shape: Shape, offset: Pair, size: Pair) -> None:
    (top, left), (height, width) = offset, size
    back = ops.ZeroPad((top, shape[1] - height - top, left, shape[2] - width - left))
    _both_ways(ops.Crop(offset, size), back, shape, lambda x: x[:, :, top : top + height, left : left + width])


@pytest.mark.parametrize(
    ("shape", "stride", "channels"),
    [
        ((2, 7, 7, 5), (2, 2), 11),  # 7 to 4
        ((1, 8, 7, 3), (2, 2), 6),
        ((2, 4, 5, 7), (1, 1), 13),
        ((2, 4, 5, 7), (2, 1), 7),
        ((1, 3, 3, 3), (1, 1), 3),
        ((3, 1, 1, 2), (3, 2), 5),
        ((2, 2, 9, 3), (5, 4), 4),  # a stride beyond the image
    ],
)
def test_pad_shortcut(shape: Shape, stride: Pair, channels: int) -> None:
    grad = ops.PadShortcutGrad(stride, (shape[1], shape[2]), shape[3])

    def reference(x: torch.Tensor) -> torch.Tensor:
        return functional.pad(x[:, :, :: stride[0], :: stride[1]], (0, 0, 0, 0, 0, channels - x.shape[1]))

    _both_ways(ops.PadShortcut(stride, channels), grad, shape, reference)


UPSAMPLINGS: list[tuple[Shape, Pair]] = [
    ((2, 3, 5, 7), (2, 2)),
    ((1, 4, 3, 13), (2, 3)),
    ((2, 3, 2, 5), (1, 4)),
    ((2, 5, 4, 3), (1, 1)),
    ((1, 3, 4, 2), (5, 5)),
    ((3, 1, 1, 3), (2, 5)),
    ((1, 1, 6, 2), (3, 2)),
    ((1, 2, 2, 3), (8, 7)),
]


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize(("shape", "factor"), UPSAMPLINGS)
def test_upsample(mode: str, shape: Shape, factor: Pair) -> None:
    options = {"align_corners": False} if mode == "bilinear" else {}

    def reference(x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = functional.interpolate(x, scale_factor=factor, mode=mode, **options)
        return result

    _both_ways(ops.Upsample(factor, mode), ops.UpsampleGrad(factor, mode), shape, reference)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_upsampling_in_small_chunks(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "CHUNK_BYTES", 1)
    test_upsample(mode, (3, 3, 4, 5), (2, 3))


def test_sum_pool_in_small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "CHUNK_BYTES", 1)
    test_sum_pool("asymmetric")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_moved_pixels_are_exact_in_16_bits(dtype: str) -> None:
    """Nothing is computed, so nothing is rounded."""
    x = np.random.default_rng(4).integers(-8, 8, (2, 3, 5, 7)).astype(np.float64)
    for op in (ops.ZeroPad((1, 0, 2, 3)), ops.Crop((1, 2), (2, 3)), ops.PadShortcut((2, 2), 9), ops.Upsample((3, 2))):
        (y,) = run_on_cpu(op, (image(3, 5, 7),), (x,), Scalars(2), Setup(dtype, (1, 1, 1, 1), (0, 1, 2, 0)))
        np.testing.assert_array_equal(y, evaluate_op(op, (x,), Scalars(2))[0])


@pytest.mark.parametrize("size", [(7, 8), (10, 5), (6, 1)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_pools_with_tensorflow_s_padding(size: Pair, stride: int) -> None:
    """``same=tf`` pads unevenly: maximum and mean look at what is inside."""
    n, channels = 2, 5
    pad = tensorflow_same_padding(size, (3, 3), (stride, stride), (1, 1))
    window = Window((3, 3), (stride, stride), pad)
    x_type = image(*size, channels)
    x = drawn(1, x_type, n)
    tx = torch_side.nchw(x, grad=True)
    maxima = functional.max_pool2d(torch_side.padded(tx, window, -np.inf), (3, 3), stride)
    inside = _torch_sum_pool(window, torch.ones_like(tx))
    means = _torch_sum_pool(window, tx) / inside
    y, index = evaluate_op(ops.MaxPool(window), (x,), Scalars(n))
    assert relative(y, torch_side.nhwc(maxima)) == 0
    check(ops.MaxPool(window), (x_type,), (x,), [y, index], Scalars(n))
    check(ops.AvgPool(window), (x_type,), (x,), [torch_side.nhwc(means)], Scalars(n))
    dy_type = image(y.shape[1], y.shape[2], channels)
    dy = drawn(2, dy_type, n)
    means.backward(torch_side.nchw(dy))
    grad = ops.AvgPoolGrad(window, size)
    check(grad, (dy_type,), (dy,), [torch_side.nhwc(torch_side.gradient(tx))], Scalars(n))


def test_what_does_not_fit() -> None:
    x = image(4, 5, 6)
    with pytest.raises(ShapeError, match="a border can't be negative: -1 pixels"):
        ops.ZeroPad((0, -1, 0, 0)).infer(x)
    with pytest.raises(ShapeError, match=r"a crop of 4x5 at \(1,0\) does not lie in its input 4x5"):
        ops.Crop((1, 0), (4, 5)).infer(x)
    with pytest.raises(ShapeError, match="a shortcut can't drop channels: 6 to 5"):
        ops.PadShortcut((1, 1), 5).infer(x)
    with pytest.raises(ShapeError, match="dy does not fit the shortcut"):
        ops.PadShortcutGrad((2, 2), (4, 4), 6).infer(x)
    with pytest.raises(ShapeError, match="dy does not fit the factor"):
        ops.UpsampleGrad((2, 2)).infer(x)
