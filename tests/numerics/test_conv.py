"""Convolution and its gradients at odd sizes, against PyTorch in float64."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc.ir import ops
from cnnc.ir.window import Window, same_padding
from cnnc.runtime.cpu import columns, scatter
from cnnc.runtime.scalars import Scalars
from tests.numerics import torch_side
from tests.numerics.check import check, drawn
from tests.numerics.one_step import image, parameter, run_on_cpu

# (N, H, W, C, K, groups, window)
CASES = {
    "plain": (3, 9, 8, 7, 5, 1, Window((3, 3), pad=(1, 1, 1, 1))),
    "one_pixel": (1, 1, 1, 3, 2, 1, Window((1, 1))),
    "one_pixel_padded": (1, 1, 1, 3, 2, 1, Window((3, 3), pad=(1, 1, 1, 1))),
    "batch_1_prime_channels": (1, 11, 13, 13, 17, 1, Window((3, 3), (2, 2), (1, 1, 1, 1))),
    "stride_beyond_kernel": (2, 11, 10, 3, 4, 1, Window((2, 2), (3, 4))),
    "pointwise_strided": (2, 7, 8, 5, 6, 1, Window((1, 1), (3, 2))),
    "pointwise": (3, 5, 4, 7, 11, 1, Window((1, 1))),
    "pointwise_padded": (2, 3, 4, 5, 6, 1, Window((1, 1), pad=(1, 0, 2, 1))),
    "asymmetric_padding": (2, 6, 7, 5, 3, 1, Window((3, 4), (1, 2), (0, 2, 3, 1))),
    "dilation": (2, 10, 9, 4, 5, 1, Window((3, 3), (1, 1), (2, 2, 3, 3), (2, 3))),
    "dilation_and_stride": (2, 11, 12, 3, 4, 1, Window((3, 2), (2, 3), (1, 1, 0, 2), (2, 3))),
    "even_kernel_same": (2, 7, 6, 3, 5, 1, Window((4, 2), pad=same_padding((4, 2), (1, 1)))),
    "groups": (2, 7, 6, 6, 4, 2, Window((3, 3), (2, 1), (1, 1, 1, 1))),
    "many_groups": (2, 6, 5, 15, 10, 5, Window((3, 3), pad=(1, 1, 1, 1))),
    "grouped_pointwise": (2, 5, 5, 6, 9, 3, Window((1, 1))),
    "depthwise": (3, 8, 7, 5, 5, 5, Window((3, 3), pad=(1, 1, 1, 1))),
    "depthwise_multiplier": (2, 8, 7, 5, 15, 5, Window((3, 2), (2, 1), (0, 1, 1, 0), (1, 2))),
    "one_channel": (2, 12, 11, 1, 6, 1, Window((5, 5), pad=(2, 2, 2, 2))),
    "whole_image": (3, 6, 5, 4, 7, 1, Window((6, 5))),
    "wide": (2, 1, 17, 3, 4, 1, Window((1, 5), (1, 2), (0, 0, 2, 2))),
    "padding_beyond_kernel": (1, 4, 3, 2, 3, 1, Window((2, 2), (1, 1), (3, 2, 2, 3))),
    "rest_of_stride": (2, 8, 8, 3, 4, 1, Window((3, 3), (3, 3), (0, 2, 0, 2))),
}


@pytest.mark.parametrize("name", CASES)
def test_against_torch(name: str) -> None:
    n, height, width, channels, filters, groups, window = CASES[name]
    check_conv(n, (height, width), channels, filters, groups, window)


def test_small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same results when a chunk of windows is a single row of an image."""
    monkeypatch.setattr(columns, "CHUNK_BYTES", 1)
    monkeypatch.setattr(scatter, "CHUNK_BYTES", 1)
    for name in ("plain", "asymmetric_padding", "groups", "one_channel", "rest_of_stride", "whole_image"):
        n, height, width, channels, filters, groups, window = CASES[name]
        check_conv(n, (height, width), channels, filters, groups, window)


def check_conv(n: int, size: tuple[int, int], channels: int, filters: int, groups: int, window: Window) -> None:
    """A convolution and both gradients against PyTorch, on the oracle and the cpu."""
    x_type, y_type = image(*size, channels), image(*window.output(size), filters)
    w_type = parameter(filters, *window.kernel, channels // groups)
    x, w, dy = drawn(1, x_type, n), drawn(2, w_type, n), drawn(3, y_type, n)
    tx, tw = torch_side.nchw(x, grad=True), torch_side.nchw(w, grad=True)  # KRSC to OIHW is the same permutation
    ty = torch_side.conv(window, groups, tx, tw)
    ty.backward(torch_side.nchw(dy))
    scalars = Scalars(n)
    check(ops.Conv(window, groups), (x_type, w_type), (x, w), [torch_side.nhwc(ty)], scalars)
    dx, dw = (torch_side.nhwc(torch_side.gradient(t)) for t in (tx, tw))
    check(ops.ConvDgrad(window, size, groups), (y_type, w_type), (dy, w), [dx], scalars)
    check(ops.ConvWgrad(window, groups), (y_type, x_type), (dy, x), [dw], scalars)


def test_infinities_go_through() -> None:
    """No division by padding, no warning: an infinite pixel makes infinite outputs and leaves the others alone."""
    window = Window((3, 3), pad=(1, 1, 1, 1))
    x, w = np.zeros((1, 5, 5, 2)), np.ones((3, 3, 3, 2))
    x[0, 0, 0, 0] = np.inf
    expected = np.zeros((1, 5, 5, 3))
    expected[0, :2, :2] = np.inf
    from_cpu = run_on_cpu(ops.Conv(window), (image(5, 5, 2), parameter(3, 3, 3, 2)), (x, w), Scalars(1))[0]
    np.testing.assert_array_equal(from_cpu, expected)
