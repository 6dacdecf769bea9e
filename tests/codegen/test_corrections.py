"""Kernels of batch norm's gradient in two parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnc.ir import ops
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.codegen.one_step import image, relative_error, run_step, vector

EPS, TOLERANCE = 1e-3, 1e-5


def _vectors(count: int, channels: int) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(3)
    return [rng.random(channels).astype(np.float32) + 0.1 for _ in range(count)]


@pytest.mark.parametrize("given", [5, 7])
@pytest.mark.parametrize("n", [1, 3])
def test_vectors(n: int, given: int, device: str) -> None:
    """Alone, and added to the vectors of a batch norm of more channels."""
    arrays = [*_vectors(5, 13), *_vectors(2, 29)][:given]
    op = ops.BatchNormCorrection(6, EPS)
    expected = evaluate_op(op, [array.astype(np.float64) for array in arrays], Scalars(n))
    for found, wanted in zip(run_step(op, [vector(a) for a in arrays], device=device, n=n), expected, strict=True):
        assert found is not None
        assert relative_error(found, wanted) < TOLERANCE


@pytest.mark.parametrize("start", [0, 3, 16])
@pytest.mark.parametrize("shape", [(2, 3, 4, 13), (3, 1, 1, 1), (1, 2, 2, 130)])
def test_tiles(shape: tuple[int, ...], start: int, device: str) -> None:
    rng = np.random.default_rng(5)
    a, x = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    shift, slope = _vectors(2, shape[-1] + start + 2)
    (found,) = run_step(ops.ChannelAffine(start), [image(a), image(x), vector(shift), vector(slope)], device=device)
    channels = slice(start, start + shape[-1])
    assert found is not None
    assert relative_error(found, a + shift[channels].astype(np.float64) + slope[channels] * x) < TOLERANCE
    gamma, var = _vectors(2, shape[-1])
    (scaled,) = run_step(ops.BatchNormScale(EPS), [image(a), vector(gamma), vector(var)], device=device)
    assert scaled is not None
    assert relative_error(scaled, a * (gamma / np.sqrt(var.astype(np.float64) + EPS))) < TOLERANCE
