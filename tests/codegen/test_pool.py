"""Pools and their gradients against torch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from cnnc.ir import ops
from cnnc.ir.plan import Tile
from cnnc.ir.types import Element
from cnnc.ir.window import Window
from tests.codegen.one_step import image, relative_error, run_step

TOLERANCE = 1e-6

# Window, image, channels, N. torch pads pools symmetrically; asymmetric padding has tests of its own.
CASES: dict[str, tuple[Window, tuple[int, int], int, int]] = {
    "2x2": (Window((2, 2), (2, 2)), (6, 8), 5, 3),
    "3x3/2 pad": (Window((3, 3), (2, 2), (1, 1, 1, 1)), (7, 9), 13, 2),
    "3x3/1": (Window((3, 3), (1, 1), (1, 1, 1, 1)), (4, 5), 3, 1),
    "ceil": (Window((3, 3), (2, 2), ceil=True), (6, 8), 7, 2),
    "ceil pad": (Window((3, 2), (3, 2), (1, 1, 1, 1), ceil=True), (7, 6), 4, 2),
    "stride over kernel": (Window((2, 2), (3, 3)), (8, 7), 3, 2),
    "1x1 image": (Window((1, 1)), (1, 1), 3, 5),
    "whole image": (Window((5, 4)), (5, 4), 6, 3),
}
PADDED = Window((3, 3), (2, 2), (2, 0, 1, 2))


def _torch(x: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.tensor(x).double().permute(0, 3, 1, 2).requires_grad_()


def _ours(t: torch.Tensor) -> np.ndarray[Any, Any]:
    return t.detach().permute(0, 2, 3, 1).numpy()


def _case(name: str) -> tuple[Window, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    window, size, channels, n = CASES[name]
    rng = np.random.default_rng(2)
    # Small integers: ties are everywhere, and the first maximum must win them.
    x = rng.integers(-3, 3, (n, *size, channels)).astype(np.float32)
    dy = rng.standard_normal((n, *window.output(size), channels)).astype(np.float32)
    return window, x, dy


@pytest.mark.parametrize("layout", ["HWNC", "NHWC"])
@pytest.mark.parametrize("name", CASES)
def test_max_pool(name: str, layout: str, device: str, target: str) -> None:
    window, x, dy = _case(name)
    options: dict[str, Any] = {"device": device, "target": target, "layout": layout}
    y, index = run_step(ops.MaxPool(window), [image(x)], **options)
    assert index is not None
    assert y is not None
    t = _torch(x)
    pad = (window.pad[0], window.pad[2])
    expected = functional.max_pool2d(t, window.kernel, window.stride, pad, ceil_mode=window.ceil)
    assert np.array_equal(y, _ours(expected))
    op = ops.MaxPoolGrad(window, x.shape[1:3])
    (dx,) = run_step(op, [image(dy), image(index, Element.INDEX)], **options)
    (expected_dx,) = torch.autograd.grad(expected, t, torch.tensor(dy).double().permute(0, 3, 1, 2))
    assert dx is not None
    assert relative_error(dx, _ours(expected_dx)) < TOLERANCE


def test_max_pool_without_index(device: str) -> None:
    """An output that nobody reads has no buffer and is not written."""
    window, x, _ = _case("3x3/2 pad")
    y, index = run_step(ops.MaxPool(window), [image(x)], device=device, wanted=(True, False))
    both = run_step(ops.MaxPool(window), [image(x)], device=device)
    assert index is None
    assert np.array_equal(y, both[0])


@pytest.mark.parametrize("padding", [0, 1])
def test_max_pool_of_nan_and_infinity(padding: int, device: str) -> None:
    """NaN wins, padding never does, and a window of minus infinities has its first pixel's index."""
    x = np.full((1, 4, 4, 2), -np.inf, np.float32)
    x[0, 2, 2, 0] = 5.0
    window = Window((2, 2), (2, 2), (0, 0, 0, 0))
    y, index = run_step(ops.MaxPool(window), [image(x)], device=device)
    assert index is not None
    assert y is not None
    assert y[0, 1, 1, 0] == 5.0
    assert np.isneginf(y[0, 0]).all()
    assert (index == 0).all()
    x[0, 3, 3, 0] = np.nan
    found = _unchecked(ops.MaxPool(window), x, device)
    assert np.isnan(found[0, 1, 1, 0])
    assert np.isfinite(found[0, 1, 1, 1]) == np.isfinite(x[0, 2:, 2:, 1]).any()


def _unchecked(op: ops.MaxPool, x: np.ndarray[Any, Any], device: str) -> np.ndarray[Any, Any]:
    """The pooled values where NaN is a right answer: times 0 + index shows them through the poison check."""
    from tests.codegen import one_step  # noqa: PLC0415 - its read is replaced for this call

    plain = one_step.read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_step, "read", lambda buffer, block, n: one_step.view(buffer, {one_step.Space.WORK: block}, n))
        (y, _) = run_step(op, [image(x)], device=device)
    assert one_step.read is plain
    assert y is not None
    return y.copy()


@pytest.mark.parametrize("count_pad", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_avg_pool(name: str, count_pad: bool, device: str, target: str) -> None:
    window, x, dy = _case(name)
    options: dict[str, Any] = {"device": device, "target": target}
    t = _torch(x)
    pad = (window.pad[0], window.pad[2])
    expected = functional.avg_pool2d(t, window.kernel, window.stride, pad, window.ceil, count_pad)
    (expected_dx,) = torch.autograd.grad(expected, t, torch.tensor(dy).double().permute(0, 3, 1, 2))
    (y,) = run_step(ops.AvgPool(window, count_pad), [image(x)], **options)
    (dx,) = run_step(ops.AvgPoolGrad(window, x.shape[1:3], count_pad), [image(dy)], **options)
    assert y is not None
    assert dx is not None
    assert relative_error(y, _ours(expected)) < TOLERANCE
    assert relative_error(dx, _ours(expected_dx)) < TOLERANCE


def test_pools_with_asymmetric_padding(device: str) -> None:
    """Against sums over an image padded by hand."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 6, 7, 3)).astype(np.float32)
    top, bottom, left, right = PADDED.pad
    t = _torch(x)
    low = functional.pad(t, (left, right, top, bottom), value=-np.inf)
    (y, index) = run_step(ops.MaxPool(PADDED), [image(x)], device=device)
    expected = functional.max_pool2d(low, PADDED.kernel, PADDED.stride)
    assert np.array_equal(y, _ours(expected))
    dy = rng.standard_normal(_ours(expected).shape).astype(np.float32)
    (dx,) = run_step(ops.MaxPoolGrad(PADDED, (6, 7)), [image(dy), image(index, Element.INDEX)], device=device)
    (expected_dx,) = torch.autograd.grad(expected, t, torch.tensor(dy).double().permute(0, 3, 1, 2))
    assert dx is not None
    assert relative_error(dx, _ours(expected_dx)) < TOLERANCE
    padded = functional.pad(t, (left, right, top, bottom))
    inside = functional.pad(torch.ones_like(t), (left, right, top, bottom))
    means = functional.avg_pool2d(padded, PADDED.kernel, PADDED.stride)
    share = functional.avg_pool2d(inside, PADDED.kernel, PADDED.stride)
    (counted,) = run_step(ops.AvgPool(PADDED, count_pad=True), [image(x)], device=device)
    (left_out,) = run_step(ops.AvgPool(PADDED), [image(x)], device=device)
    assert counted is not None
    assert left_out is not None
    assert relative_error(counted, _ours(means)) < TOLERANCE
    assert relative_error(left_out, _ours(means / share)) < TOLERANCE


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (3, 5, 4, 17), (130, 2, 3, 2)])
def test_global_avg_pool(shape: tuple[int, int, int, int], device: str, target: str) -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal(shape).astype(np.float32)
    dy = rng.standard_normal((shape[0], shape[3])).astype(np.float32)
    (y,) = run_step(ops.GlobalAvgPool(), [image(x)], device=device, target=target)
    (dx,) = run_step(ops.GlobalAvgPoolGrad(shape[1:3]), [image(dy)], device=device, target=target)
    assert y is not None
    assert dx is not None
    assert relative_error(y, x.astype(np.float64).mean((1, 2))) < TOLERANCE
    expected = np.broadcast_to((dy / (shape[1] * shape[2]))[:, None, None, :], shape)
    assert relative_error(dx, expected) < TOLERANCE


def test_pool_with_a_gpu_tile(device: str) -> None:
    window, x, _ = _case("3x3/2 pad")
    tile = Tile(16, 4, 1)
    small = run_step(ops.MaxPool(window), [image(x)], device=device, tile=tile)
    large = run_step(ops.MaxPool(window), [image(x)], device=device)
    assert np.array_equal(small[0], large[0])
    assert np.array_equal(small[1], large[1])
