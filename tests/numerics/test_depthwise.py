"""Depthwise convolutions on the cpu at odd sizes, against PyTorch in float64."""

from __future__ import annotations

import pytest

from cnnc.ir import ops
from cnnc.ir.window import Window
from cnnc.runtime.cpu import depthwise
from tests.numerics.test_conv import check_conv

# (N, H, W, C, multiplier, window)
CASES = {
    "one_pixel": (1, 1, 1, 3, 2, Window((3, 3), pad=(1, 1, 1, 1))),
    "one_tap": (2, 3, 4, 7, 1, Window((1, 1))),
    "stride": (2, 9, 8, 13, 1, Window((3, 3), (2, 2), (1, 1, 1, 1))),
    "stride_down_only": (3, 9, 8, 5, 1, Window((3, 3), (2, 1), (1, 1, 1, 1))),
    "stride_beyond_kernel": (2, 11, 10, 3, 2, Window((2, 2), (3, 4))),
    "asymmetric": (2, 6, 7, 5, 1, Window((3, 4), (1, 2), (0, 2, 3, 1))),
    "dilation": (1, 10, 9, 4, 3, Window((3, 3), (1, 1), (2, 2, 3, 3), (2, 3))),
    "dilation_and_stride": (2, 11, 12, 3, 1, Window((3, 2), (2, 3), (1, 1, 0, 2), (2, 3))),
    "padding_beyond_kernel": (1, 4, 3, 2, 1, Window((2, 2), (1, 1), (3, 2, 2, 3))),
}


@pytest.mark.parametrize("chunk", [1, 1 << 18])
@pytest.mark.parametrize("name", CASES)
def test_against_torch(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when a chunk is a single row of outputs."""
    monkeypatch.setattr(depthwise, "CHUNK_BYTES", chunk)
    n, height, width, channels, multiplier, window = CASES[name]
    check_conv(n, (height, width), channels, channels * multiplier, channels, window)


def test_which_convolutions_are_depthwise() -> None:
    window = Window((3, 3))
    assert ops.is_depthwise(ops.Conv(window, 4), (8, 3, 3, 1))
    assert ops.is_depthwise(ops.ConvDgrad(window, (5, 5), 4), (4, 3, 3, 1))
    assert ops.is_depthwise(ops.ConvWgrad(window, 4), (5, 5, 4))
    assert not ops.is_depthwise(ops.ConvWgrad(window, 2), (5, 5, 4))
    assert not ops.is_depthwise(ops.Conv(window, 2), (4, 3, 3, 2))
    assert not ops.is_depthwise(ops.Conv(window), (4, 3, 3, 1))  # one channel: a product over the taps
    assert not ops.is_depthwise(ops.Linear(), (4, 1))
