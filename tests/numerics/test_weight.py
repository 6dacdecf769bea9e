"""Weights before they are used: masked, or their signs; and the update that keeps masters of signs in range."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc.errors import ShapeError
from cnnc.ir import ops
from cnnc.ir.types import Element, TensorType
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.numerics.check import DOUBLE, SINGLE, check, drawn
from tests.numerics.one_step import Setup, parameter, relative, run_on_cpu


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (7, 3, 2, 5), (13, 11)])
def test_mask_and_sign(shape: tuple[int, ...]) -> None:
    kind, mask_type = parameter(*shape), parameter(shape[0], shape[-1])
    w, mask = drawn(1, kind, 1), (drawn(2, mask_type, 1) > 0).astype(np.float64)
    w.ravel()[0] = -0.0
    masked = np.einsum("k...c,kc->k...c", w, mask)
    check(ops.MaskWeight(), (kind, mask_type), (w, mask), [masked], Scalars(1))
    signs = np.where(w < 0, -1.0, 1.0)
    assert signs.ravel()[0] == 1
    check(ops.Binarize(), (kind,), (w,), [signs], Scalars(1))


@pytest.mark.parametrize("tail", [(), (5,), (3, 2, 5)])
@pytest.mark.parametrize("rows", [(1,), (7, 1, 13), (2, 3)])
def test_rows_of_several_layers(rows: tuple[int, ...], tail: tuple[int, ...]) -> None:
    kinds = [parameter(count, *tail) for count in rows]
    arrays = [drawn(seed, kind, 1) for seed, kind in enumerate(kinds)]
    joined = np.concatenate(arrays)
    check(ops.ConcatRows(), kinds, arrays, [joined], Scalars(1))
    start = 0
    for count, array in zip(rows, arrays, strict=True):
        check(ops.RowSlice(start, count), [parameter(sum(rows), *tail)], [joined], [array], Scalars(1))
        start += count


def test_rows_of_different_arrays_are_refused() -> None:
    for other in (parameter(3, 4), parameter(3), TensorType((3, 5), False, Element.REAL), TensorType((3, 5))):
        with pytest.raises(ShapeError, match="do not lie below each other"):
            ops.ConcatRows().infer(parameter(2, 5), other)
    for start, count in ((-1, 2), (2, 2)):
        with pytest.raises(ShapeError, match="ends outside"):
            ops.RowSlice(start, count).infer(parameter(3, 5))


def test_the_gradient_of_a_masked_weight_stays_in_single_precision() -> None:
    kind = TensorType((3, 2, 2, 5), False, Element.REAL)
    dw, mask = TensorType(kind.shape, False, Element.ACC), parameter(3, 5)
    assert ops.MaskWeight().infer(kind, mask)[0].element is Element.REAL
    assert ops.MaskWeight().infer(dw, mask)[0].element is Element.ACC
    assert ops.Binarize().infer(dw)[0].element is Element.REAL


@pytest.mark.parametrize("clipped", [(0, 0), (0, 200), (64, 128), (128, 200), (0, 40_000)])
def test_sgd_keeps_clipped_parameters_in_range(clipped: tuple[int, int]) -> None:
    """In place, across the pieces of a large arena; a master that is no number stays none."""
    count, decayed = (50_000, 45_000) if clipped[1] > 200 else (200, 96)
    op, types = ops.SgdUpdate(decayed, clipped), (parameter(count),) * 3
    p, g = 2 * drawn(1, parameter(count), 1), drawn(2, parameter(count), 1)
    p[clipped[0]] = np.nan
    scalars = Scalars(1, lr=0.1, momentum=0.9, weight_decay=0.01)
    decay = np.where(np.arange(count) < decayed, 0.01, 0) * p
    expected = p - 0.1 * (g + decay)
    expected[slice(*clipped)] = np.clip(expected[slice(*clipped)], -1, 1)
    oracle = evaluate_op(op, (p, g, np.zeros(count)), scalars)[0]
    for got, limit in (
        (oracle, DOUBLE),
        (run_on_cpu(op, types, (p, g, np.zeros(count)), scalars)[0], DOUBLE),
        (run_on_cpu(op, types, (p, g, np.zeros(count)), scalars, Setup("float32"))[0], SINGLE),
    ):
        assert got is not None
        assert np.array_equal(np.isnan(got), np.isnan(expected))
        assert relative(np.nan_to_num(got), np.nan_to_num(expected)) <= limit
