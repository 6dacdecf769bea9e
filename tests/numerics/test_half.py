"""16-bit buffers: computed in float32, rounded to nearest even when stored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnc.ir import ops
from cnnc.ir.window import Window
from cnnc.runtime.arrays import Array, bfloat16_bits, bfloat16_values
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.numerics.check import drawn
from tests.numerics.one_step import Setup, image, parameter, relative, run_on_cpu


def test_bfloat16_is_pytorch_s() -> None:
    """Random bit patterns: ties, subnormals, infinities, overflow; NaN stays NaN."""
    bits = np.random.default_rng(3).integers(0, 2**32, 200_000, dtype=np.uint32)
    special = np.array([0, 0x80000000, 0x7F800000, 0x7F7FFFFF, 0x3F808000, 0x3F818000, 0x7F800001, 0xFFFFFFFF])
    values = np.concatenate([bits, special.astype(np.uint32), bits & 0xFFFF8000]).view(np.float32)
    expected = torch.from_numpy(values).bfloat16()
    rounded = bfloat16_bits(values)
    nan = np.isnan(values)
    np.testing.assert_array_equal(rounded[~nan], expected.view(torch.int16).numpy().view(np.uint16)[~nan])
    assert np.isnan(bfloat16_values(rounded[nan])).all()
    np.testing.assert_array_equal(bfloat16_values(rounded)[~nan], expected.float().numpy()[~nan])


def rounded(array: Array, dtype: str) -> Array:
    single = array.astype(np.float32)
    narrow = bfloat16_values(bfloat16_bits(single)) if dtype == "bfloat16" else single.astype(np.float16)
    return narrow.astype(np.float64)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 3e-3), ("float16", 4e-4)])
@pytest.mark.parametrize("halo", [(0, 0, 0, 0), (1, 1, 1, 1)])
def test_conv_bias_relu(dtype: str, tolerance: float, halo: tuple[int, int, int, int]) -> None:
    """One rounding at the end: half a unit in the last place, 2^-9 and 2^-12 of each element at most."""
    window = Window((3, 3), pad=(1, 1, 1, 1))
    parts = (
        ops.Part("conv", ops.Conv(window), (0, 1)),
        ops.Part("bias", ops.BiasAdd(), (3, 2)),
        ops.Part("relu", ops.Activation("relu"), (4,)),
    )
    body = ops.Fused(parts, (5,))
    types = (image(6, 5, 8), parameter(7, 3, 3, 8), parameter(7))
    operands = [rounded(drawn(seed, kind, 2), dtype) for seed, kind in enumerate(types)]
    expected = evaluate_op(body, operands, Scalars(2))[0]
    y = run_on_cpu(body, types, operands, Scalars(2), Setup(dtype, halo, halo))[0]
    assert y is not None
    assert relative(y, expected) <= tolerance
    # The result is the float32 one, rounded once: at most a few elements tip over to a neighbour.
    assert np.mean(y.astype(np.float64) != rounded(expected, dtype)) <= 0.01


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_cast_arena(dtype: str) -> None:
    kind = parameter(300)
    p = drawn(1, kind, 1)
    got = run_on_cpu(ops.CastArena(), (kind,), (p,), Scalars(1), Setup(dtype))[0]
    np.testing.assert_array_equal(got, rounded(p, dtype))
