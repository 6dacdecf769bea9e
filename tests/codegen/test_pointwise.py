"""Pointwise kernels, dropout's bits, and weights before they are used."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnc.codegen import generate
from cnnc.ir import ops
from cnnc.ir.types import Element
from cnnc.runtime.arrays import bfloat16_bits, bfloat16_values
from cnnc.runtime.scalars import Scalars
from tests.codegen.one_step import image, plan_of, relative_error, run_step, vector

TOLERANCE = 1e-6
SHAPES = [(3, 5, 4, 7), (65, 3), (1, 1, 1, 1)]


def _normal(*shape: int, seed: int = 8) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("layout", ["HWNC", "NHWC"])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_and_copies(shape: tuple[int, ...], layout: str, device: str, target: str) -> None:
    a, b, factor = _normal(*shape), _normal(*shape, seed=9), _normal(shape[-1], seed=10)
    options: dict[str, Any] = {"device": device, "target": target, "layout": layout}
    assert np.array_equal(run_step(ops.Mul(), [image(a), image(b)], **options)[0], a * b)
    assert np.array_equal(run_step(ops.ChannelScale(), [image(a), vector(factor)], **options)[0], a * factor)
    assert np.array_equal(run_step(ops.Scale(-0.25), [image(a)], **options)[0], -0.25 * a)
    assert np.array_equal(run_step(ops.Identity(), [image(a)], **options)[0], a)


@pytest.mark.parametrize("layout", ["HWNC", "NHWC"])
@pytest.mark.parametrize("shape", [*SHAPES, (130, 3, 2, 5)])
def test_a_bias_for_each_position(shape: tuple[int, ...], layout: str, device: str, target: str) -> None:
    x, bias = _normal(*shape), _normal(*shape[1:], seed=10)
    options: dict[str, Any] = {"device": device, "target": target, "layout": layout}
    (y,) = run_step(ops.PositionBias(), [image(x), vector(bias)], **options)
    (total,) = run_step(ops.BatchSum(), [image(x)], **options)
    assert np.array_equal(y, x + bias)
    assert total is not None
    assert relative_error(total, x.astype(np.float64).sum(0)) < TOLERANCE


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (7, 3, 2, 5), (13, 11), (257, 3, 3, 2)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_mask_and_sign(shape: tuple[int, ...], dtype: str, device: str) -> None:
    """The weight in the compute dtype, its gradient and master in single precision."""
    w, mask = _normal(*shape), (_normal(shape[0], shape[-1]) > 0).astype(np.float32)
    w.ravel()[0] = -0.0
    (dw,) = run_step(ops.MaskWeight(), [vector(w), vector(mask)], device=device, dtype=dtype)
    assert np.array_equal(dw, np.einsum("k...c,kc->k...c", w, mask))
    (signs,) = run_step(ops.Binarize(), [vector(w)], device=device, dtype=dtype)
    assert np.array_equal(signs, np.where(w < 0, -1, 1))
    rounded = bfloat16_values(bfloat16_bits(w)) if dtype == "bfloat16" else w
    (masked,) = run_step(ops.MaskWeight(), [vector(w, Element.REAL), vector(mask)], device=device, dtype=dtype)
    assert np.array_equal(masked, np.einsum("k...c,kc->k...c", rounded, mask))


@pytest.mark.parametrize("tail", [(), (5,), (3, 3, 64)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_of_several_layers(tail: tuple[int, ...], dtype: str, device: str, target: str) -> None:
    """Weights in the compute dtype, gradients in single precision; only the rows asked for are read."""
    counts = (7, 1, 130)
    arrays = [bfloat16_values(bfloat16_bits(_normal(count, *tail, seed=count))) for count in counts]
    joined = np.concatenate(arrays)
    options: dict[str, Any] = {"device": device, "target": target, "dtype": dtype}
    for element in (Element.REAL, Element.ACC):
        operands = [vector(array, element) for array in arrays]
        assert np.array_equal(run_step(ops.ConcatRows(), operands, **options)[0], joined)
        start = 0
        for array in arrays:
            op = ops.RowSlice(start, len(array))
            assert np.array_equal(run_step(op, [vector(joined, element)], **options)[0], array)
            start += len(array)


def test_the_launch_of_a_slice_of_rows() -> None:
    module = generate(plan_of(ops.RowSlice(3, 4), [vector(_normal(9, 5)).type], target="sm_90", dtype="bfloat16"))
    (launch,) = module.tables[0].steps["step"]
    assert launch.bytes.at(1) == 2 * 4 * 5 * 4


@pytest.mark.parametrize("layout", ["HWNC", "NHWC"])
@pytest.mark.parametrize("shape", SHAPES)
def test_bias_and_add(shape: tuple[int, ...], layout: str, device: str, target: str) -> None:
    a, b, bias = _normal(*shape), _normal(*shape, seed=9), _normal(shape[-1], seed=10)
    options: dict[str, Any] = {"device": device, "target": target, "layout": layout}
    (total,) = run_step(ops.Add(), [image(a), image(b)], **options)
    (moved,) = run_step(ops.BiasAdd(), [image(a), vector(bias)], **options)
    assert np.array_equal(total, a + b)
    assert np.array_equal(moved, a + bias)


@pytest.mark.parametrize("layout", ["HWNC", "NHWC"])
def test_flatten(layout: str, device: str, target: str) -> None:
    x = _normal(3, 4, 5, 7)
    flat = x.transpose(0, 3, 1, 2).reshape(3, -1)
    options: dict[str, Any] = {"device": device, "target": target, "layout": layout}
    (found,) = run_step(ops.Flatten(), [image(x)], **options)
    (back,) = run_step(ops.Unflatten((4, 5, 7)), [image(flat)], **options)
    assert np.array_equal(found, flat)
    assert np.array_equal(back, x)


def _philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> int:
    """First word of Philox-4x32-10, in Python's integers, from the paper's figure."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c0, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c2, 2**32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0


def test_philox_reference() -> None:
    """Known answers published with Random123."""
    assert _philox((0, 0, 0, 0), (0, 0)) == 0x6627E8D5
    assert _philox((2**32 - 1,) * 4, (2**32 - 1,) * 2) == 0x408F276D  # type: ignore[arg-type]
    assert _philox((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)) == 0xD16CFE09


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5])
@pytest.mark.parametrize("shape", [(2, 3, 2, 5), (7, 11)])
@pytest.mark.parametrize("layout", ["HWNC", "NHWC"])
def test_dropout_bits(rate: float, shape: tuple[int, ...], layout: str, device: str, target: str) -> None:
    seed, step, stream = 0x123456789ABCDEF, 17, 3
    x = np.ones(shape, np.float32)
    scalars = Scalars(shape[0], seed=seed, step=step)
    options: dict[str, Any] = {"device": device, "target": target, "layout": layout, "scalars": scalars}
    (y,) = run_step(ops.Dropout(rate, stream), [image(x)], **options)
    key = (seed & 0xFFFFFFFF, seed >> 32)
    words = [_philox((index, 0, stream, step), key) for index in range(x.size)]
    kept = (np.array(words) >= rate * 2**32).reshape(shape)
    assert y is not None
    assert np.array_equal(y != 0, kept)
    np.testing.assert_allclose(y[kept], 1.0 / (1.0 - rate), rtol=1e-6)


def test_dropout_shares_one_kernel() -> None:
    """Layers, seeds and steps are runtime numbers."""
    kind = image(np.zeros((0, 9))).type
    modules = [generate(plan_of(ops.Dropout(0.5, stream), [kind])) for stream in (0, 1, 2)]
    assert len({module.source for module in modules}) == 1
    assert len({str(module.tables[0].steps["step"][0].constants) for module in modules}) == 1
