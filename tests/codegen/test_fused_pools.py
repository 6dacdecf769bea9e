"""Pools in the kernels of the products before them, against their parts in the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnc.ir import ops
from cnnc.ir.ops import Fused, Op, Part
from cnnc.ir.plan import Tile
from cnnc.ir.types import Element
from cnnc.ir.window import Window
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.codegen import one_step
from tests.codegen.one_step import Operand, image, relative_error, run_step, vector

TOLERANCE = 1e-5
HALVES = Window((2, 2), (2, 2))
SAME = Window((3, 3), pad=(1, 1, 1, 1))

# name: the product's window, groups, image, channels, filters, the pool, N.
CASES: dict[str, tuple[Window, int, tuple[int, int], int, int, Op, int]] = {
    "2x2 behind 3x3": (SAME, 1, (6, 8), 5, 7, ops.MaxPool(HALVES), 3),
    "overlapping, strided": (
        Window((7, 7), (2, 2), (3, 3, 3, 3)),
        1,
        (13, 11),
        3,
        11,
        ops.MaxPool(Window((3, 3), (2, 2), (1, 1, 1, 1))),
        2,
    ),
    "uneven padding": (
        Window((2, 3), (1, 2), (1, 0, 0, 2)),
        1,
        (7, 9),
        5,
        3,
        ops.MaxPool(Window((3, 3), (2, 2), (2, 0, 1, 2))),
        1,
    ),
    "ceil": (SAME, 1, (6, 7), 13, 5, ops.MaxPool(Window((3, 2), (3, 2), (1, 1, 1, 1), ceil=True)), 2),
    "stride over kernel": (SAME, 1, (8, 7), 2, 17, ops.AvgPool(Window((2, 2), (3, 3))), 2),
    "1x1 image": (Window((1, 1)), 1, (1, 1), 3, 5, ops.MaxPool(Window((1, 1))), 1),
    "groups": (SAME, 3, (6, 6), 6, 15, ops.MaxPool(HALVES), 2),
    "depthwise": (SAME, 7, (6, 5), 7, 7, ops.SumPool(Window((3, 3), (2, 2), (1, 1, 1, 1))), 2),
    "average": (SAME, 1, (5, 6), 5, 7, ops.AvgPool(Window((3, 3), (2, 2), (1, 1, 0, 1))), 3),
    "average with padding": (SAME, 1, (5, 6), 5, 7, ops.AvgPool(Window((3, 3), (2, 2), (1, 1, 1, 1)), True), 3),
    "dilated": (Window((3, 3), (1, 1), (2, 2, 2, 2), (2, 2)), 1, (6, 5), 5, 7, ops.MaxPool(HALVES), 1),
}


def _normal(*shape: int, seed: int = 3) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _body(case: str, *, index: bool = False, act: str = "relu") -> tuple[Fused, list[Operand]]:
    window, groups, size, channels, filters, pool, n = CASES[case]
    x, w = _normal(n, *size, channels), _normal(filters, *window.kernel, channels // groups, seed=4)
    parts = (
        Part("conv", ops.Conv(window, groups), (0, 1)),
        Part("bias", ops.BiasAdd(), (3, 2)),
        Part("act", ops.Activation(act, 0.5 if act == "leaky_relu" else 0.0), (4,)),
        Part("pool", pool, (5,)),
    )
    return Fused(parts, (6, 7) if index else (6,)), [image(x), vector(w, Element.REAL), vector(_normal(filters))]


def _expected(op: Fused, operands: list[Operand], n: int, **scalars: int) -> list[np.ndarray[Any, Any]]:
    return list(evaluate_op(op, [item.array.astype(np.float64) for item in operands], Scalars(n, **scalars)))


@pytest.mark.parametrize(("layout", "tile"), [("HWNC", None), ("NHWC", Tile(16, 16, 16))], ids=["large", "small"])
@pytest.mark.parametrize("case", CASES)
def test_product_and_pool(case: str, layout: str, tile: Tile | None, device: str) -> None:
    op, operands = _body(case)
    (y,) = run_step(op, operands, device=device, layout=layout, tile=tile)
    (expected,) = _expected(op, operands, len(operands[0].array))
    assert y is not None
    assert relative_error(y, expected) < TOLERANCE


@pytest.mark.parametrize("case", ["2x2 behind 3x3", "overlapping, strided", "uneven padding", "ceil", "groups"])
def test_the_index_where_training_needs_it(case: str, device: str) -> None:
    """No two values of a window are equal, so that both sides agree on the winner."""
    op, operands = _body(case, index=True, act="leaky_relu")
    y, index = run_step(op, operands, device=device)
    expected, expected_index = _expected(op, operands, len(operands[0].array))
    assert y is not None
    assert relative_error(y, expected) < TOLERANCE
    assert np.array_equal(index, expected_index)  # type: ignore[arg-type]


def test_what_stands_on_either_side(device: str) -> None:
    """A residual and dropout before the pool; a bias, a residual of the pooled size and an activation behind it."""
    x, w, residual = _normal(2, 6, 8, 5), _normal(7, 5, seed=5), _normal(2, 6, 8, 7, seed=6)
    bias, late = _normal(7, seed=7), _normal(2, 3, 4, 7, seed=8)
    parts = (
        Part("linear", ops.Linear(), (0, 1)),
        Part("add", ops.Add(), (5, 2)),
        Part("drop", ops.Dropout(0.4, 1), (6,)),
        Part("pool", ops.MaxPool(Window((3, 3), (2, 2), (1, 0, 1, 0))), (7,)),
        Part("bias", ops.BiasAdd(), (8, 3)),
        Part("late", ops.Add(), (10, 4)),
        Part("act", ops.Activation("sigmoid"), (11,)),
    )
    op = Fused(parts, (12, 8))
    operands = [image(x), vector(w, Element.REAL), image(residual), vector(bias), image(late)]
    y, pooled = run_step(op, operands, device=device, scalars=Scalars(2, seed=5, step=2))
    expected, expected_pooled = _expected(op, operands, 2, seed=5, step=2)
    assert y is not None
    assert pooled is not None
    assert relative_error(y, expected) < TOLERANCE
    assert relative_error(pooled, expected_pooled) < TOLERANCE


def test_nan_wins_and_padding_never_does(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A NaN of the product comes through every window that holds it; a window of negatives has no zero from outside."""
    op, operands = _body("uneven padding", act="leaky_relu")
    x = operands[0].array
    x[0, 3, 4, 1] = np.nan
    operands[2].array[:] = -100.0
    monkeypatch.setattr(
        one_step, "read", lambda buffer, block, n: one_step.view(buffer, {one_step.Space.WORK: block}, n).copy()
    )
    (y,) = run_step(op, operands, device=device)
    (expected,) = _expected(op, operands, 1)
    assert y is not None
    assert np.isnan(expected).any()
    assert not np.isnan(expected).all()
    assert (expected[~np.isnan(expected)] < 0).all()
    np.testing.assert_allclose(y, expected, rtol=1e-5)
