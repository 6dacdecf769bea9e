"""Transposed convolution and its gradients against PyTorch's in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from cnnc.ir import cost, ops
from cnnc.ir.ops.base import ShapeError
from cnnc.ir.window import Pair, Window
from cnnc.runtime.cpu import scatter
from cnnc.runtime.scalars import Scalars
from tests.numerics import torch_side
from tests.numerics.check import check, drawn
from tests.numerics.one_step import Setup, image, parameter, relative, run_on_cpu

# (N, H, W of the input, channels in and out, groups, window, extra rows and columns of the output)
CASES: dict[str, tuple[int, Pair, int, int, int, Window, Pair]] = {
    "doubling": (2, (5, 4), 7, 3, 1, Window((4, 4), (2, 2), (1, 1, 1, 1)), (0, 0)),
    "patches": (3, (3, 5), 5, 6, 1, Window((2, 2), (2, 2)), (0, 0)),
    "fcn_small": (1, (3, 2), 3, 3, 1, Window((8, 8), (4, 4)), (0, 0)),
    "fcn_of_groups": (2, (3, 2), 5, 5, 5, Window((6, 6), (3, 3)), (0, 0)),
    "wide_result": (2, (3, 2), 4, 37, 1, Window((3, 3), (2, 2), (1, 1, 1, 1)), (1, 1)),
    "stride_beyond_kernel": (2, (4, 3), 5, 3, 1, Window((2, 1), (3, 4)), (0, 0)),
    "stride_beyond_kernel_and_more": (1, (2, 3), 2, 13, 1, Window((1, 2), (3, 4)), (2, 1)),
    "groups": (2, (4, 5), 6, 9, 3, Window((3, 3), (2, 1), (1, 1, 1, 1)), (1, 0)),
    "one_pixel": (1, (1, 1), 3, 2, 1, Window((4, 3), (2, 2), (1, 1, 0, 0)), (0, 0)),
    "one_pixel_batch": (5, (1, 1), 11, 7, 1, Window((5, 5)), (0, 0)),
    "asymmetric": (2, (5, 4), 4, 5, 1, Window((4, 5), (2, 3), (0, 3, 2, 1)), (1, 2)),
    "stride_one": (2, (5, 6), 4, 3, 1, Window((3, 3), (1, 1), (1, 1, 1, 1)), (0, 0)),
    "stride_one_valid": (2, (5, 6), 4, 3, 1, Window((3, 2)), (0, 0)),
    "dilation": (2, (5, 4), 3, 4, 1, Window((3, 3), (1, 2), (2, 2, 1, 1), (2, 2)), (0, 1)),
    "pointwise": (2, (3, 4), 5, 7, 1, Window((1, 1)), (0, 0)),
    "pads_beyond_kernel": (1, (6, 6), 2, 3, 1, Window((2, 2), (1, 1), (2, 3, 2, 2)), (0, 0)),
}


def image_of(window: Window, size: Pair, extra: Pair) -> Pair:
    """Height and width of the result."""
    height, width = (
        (size[axis] - 1) * window.stride[axis] + window.extent[axis] - sum(window.pad_of(axis)) + extra[axis]
        for axis in range(2)
    )
    return height, width


def transposed(window: Window, result: Pair, groups: int, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """PyTorch's result without padding, cut and continued with zeros to size."""
    whole = functional.conv_transpose2d(x, w, stride=window.stride, groups=groups, dilation=window.dilation)
    top, _, left, _ = window.pad
    height, width = whole.shape[2:]
    continued = functional.pad(whole, (0, max(0, left + result[1] - width), 0, max(0, top + result[0] - height)))
    return continued[:, :, top : top + result[0], left : left + result[1]]


@pytest.mark.parametrize("name", CASES)
def test_against_torch(name: str) -> None:
    n, size, channels, filters, groups, window, extra = CASES[name]
    result = image_of(window, size, extra)
    x_type, y_type = image(*size, channels), image(*result, filters)
    w_type = parameter(channels, *window.kernel, filters // groups)
    x, w, dy = drawn(1, x_type, n), drawn(2, w_type, n), drawn(3, y_type, n)
    tx, tw = torch_side.nchw(x, grad=True), torch_side.nchw(w, grad=True)  # (in, out/groups, R, S)
    ty = transposed(window, result, groups, tx, tw)
    ty.backward(torch_side.nchw(dy))
    op = ops.ConvDgrad(window, result, groups)
    check(op, (x_type, w_type), (x, w), [torch_side.nhwc(ty)], Scalars(n))
    dx, dw = (torch_side.nhwc(torch_side.gradient(t)) for t in (tx, tw))
    check(ops.Conv(window, groups), (y_type, w_type), (dy, w), [dx], Scalars(n))
    check(ops.ConvWgrad(window, groups), (x_type, y_type), (x, dy), [dw], Scalars(n))
    macs = x_type.count * math.prod(w_type.shape[1:])
    assert cost.macs(op, (x_type, w_type), (y_type,)) == macs


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[5].pad[::2] == case[5].pad[1::2]])
def test_the_reference_is_torch_s_own_padding(name: str) -> None:
    n, size, channels, filters, groups, window, extra = CASES[name]
    x = torch_side.nchw(drawn(1, image(*size, channels), n))
    w = torch_side.nchw(drawn(2, parameter(channels, *window.kernel, filters // groups), n))
    pad = window.pad[::2]
    expected = functional.conv_transpose2d(x, w, None, window.stride, pad, extra, groups, window.dilation)
    assert torch.equal(transposed(window, image_of(window, size, extra), groups, x, w), expected)


def test_pixels_that_no_tap_reaches_are_zero() -> None:
    window = Window((2, 1), (3, 4))
    op = ops.ConvDgrad(window, image_of(window, (4, 3), (2, 3)))
    y = run_on_cpu(
        op, (image(4, 3, 5), parameter(5, 2, 1, 3)), (np.ones((2, 4, 3, 5)), np.ones((5, 2, 1, 3))), Scalars(2)
    )
    assert y[0] is not None
    reached = np.zeros(op.image)
    for h, w in np.ndindex(*op.image):
        reached[h, w] = h % 3 < 2 and w % 4 == 0 and h < 4 * 3 and w < 3 * 4
    np.testing.assert_array_equal(y[0], 5 * np.broadcast_to(reached[None, :, :, None], y[0].shape))


def test_fcn_at_full_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """64x64 with stride 32 on 16x16x21, as in FCN-32s: in pieces, since all windows at once would take 88 MB."""
    window, result = Window((64, 64), (32, 32)), (544, 544)
    taken: list[int] = []
    product_of = scatter.product_of

    def watched(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> scatter.Work:
        taken.append(out.nbytes)
        return product_of(a, b, out)

    monkeypatch.setattr(scatter, "product_of", watched)
    types = image(16, 16, 21), parameter(21, 64, 64, 21)
    x, w = drawn(1, types[0], 1), drawn(2, types[1], 1)
    y = run_on_cpu(ops.ConvDgrad(window, result), types, (x, w), Scalars(1), Setup("float32"))[0]
    assert y is not None
    expected = functional.conv_transpose2d(torch_side.nchw(x), torch_side.nchw(w), stride=32)
    assert relative(y, torch_side.nhwc(expected)) <= 1e-6
    assert max(taken) <= scatter.CHUNK_BYTES


def test_macs_of_the_networks() -> None:
    """FCN's up-sampling layers, as the tables have them."""
    for size, result, window, macs in (
        (16, 34, Window((4, 4), (2, 2)), 1_806_336),
        (34, 70, Window((4, 4), (2, 2)), 8_156_736),
        (70, 568, Window((16, 16), (8, 8)), 553_190_400),
    ):
        types = image(size, size, 21), parameter(21, *window.kernel, 21)
        op = ops.ConvDgrad(window, (result, result))
        assert cost.macs(op, types, op.infer(*types)) == macs


@pytest.mark.parametrize(
    ("shape", "groups", "message"),
    [
        ((5, 2, 2, 3), 1, "weight 5x2x2x3 does not fit 6 channels"),
        ((6, 2, 3, 3), 1, "weight 6x2x3x3 has another kernel"),
        ((6, 2, 2, 3), 4, "groups=4 must divide 6 channels"),
    ],
)
def test_weights_that_do_not_fit(shape: tuple[int, ...], groups: int, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        ops.ConvDgrad(Window((2, 2), (2, 2)), (8, 8), groups).infer(image(4, 4, 6), parameter(*shape))
