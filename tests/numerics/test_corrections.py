"""Batch norm's gradient in two parts is batch norm's gradient, in the oracle and on the cpu."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc.ir import ops
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.numerics.check import check, drawn
from tests.numerics.one_step import image, parameter, relative

EPS, DOUBLE = 1e-3, 1e-12


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("shape", [(3, 5, 4), (1, 1, 1), (2, 3, 7)])
def test_two_parts(shape: tuple[int, int, int], n: int) -> None:
    scalars, c_type, long_type = Scalars(n), parameter(shape[2]), parameter(shape[2] + 5)
    x_type = image(*shape)
    dy, x = drawn(1, x_type, n), drawn(2, x_type, n)
    mean, gamma, dgamma, dbeta = (drawn(seed, c_type, n) for seed in range(3, 7))
    var = drawn(7, c_type, n) ** 2
    (expected,) = evaluate_op(ops.BatchNormInputGrad(EPS), (dy, x, mean, var, gamma, dgamma, dbeta), scalars)
    (scaled,) = evaluate_op(ops.BatchNormScale(EPS), (dy, gamma, var), scalars)
    correction = ops.BatchNormCorrection(shape[0] * shape[1], EPS)
    vectors = (mean, var, gamma, dgamma, dbeta)
    shift, slope = evaluate_op(correction, vectors, scalars)
    (whole,) = evaluate_op(ops.ChannelAffine(), (scaled, x, shift, slope), scalars)
    assert relative(whole, expected) <= DOUBLE
    others = drawn(8, long_type, n), drawn(9, long_type, n)
    added = evaluate_op(correction, (*vectors, *others), scalars)
    for sums, own, other in zip(added, (shift, slope), others, strict=True):
        np.testing.assert_allclose(sums, own + other[: shape[2]], rtol=1e-12)

    check(ops.BatchNormScale(EPS), (x_type, c_type, c_type), (dy, gamma, var), [scaled], scalars)
    check(correction, (c_type,) * 5, vectors, [shift, slope], scalars)
    check(correction, (*(c_type,) * 5, long_type, long_type), (*vectors, *others), list(added), scalars)
    (moved,) = evaluate_op(ops.ChannelAffine(5), (scaled, x, *others), scalars)
    np.testing.assert_allclose(moved, scaled + others[0][5:] + others[1][5:] * x, rtol=1e-12)
    check(ops.ChannelAffine(5), (x_type, x_type, long_type, long_type), (scaled, x, *others), [moved], scalars)
