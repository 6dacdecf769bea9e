"""Pools and depthwise convolutions in a product's loop, against their parts in the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnc.ir import ops
from cnnc.ir.ops import Fused, Op, Part
from cnnc.ir.plan import Tile
from cnnc.ir.types import Element, TensorType
from cnnc.ir.window import Window
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.codegen import one_step
from tests.codegen.one_step import Operand, image, relative_error, run_step, vector

TOLERANCE = 1e-5
SAME = Window((3, 3), pad=(1, 1, 1, 1))
UNEVEN = Window((2, 3), (1, 2), (1, 0, 0, 2))

# The window, the image and channels that it reads, filters, N.
CASES: dict[str, tuple[Op, tuple[int, int], int, int, int]] = {
    "same": (ops.MaxPool(SAME), (4, 5), 7, 11, 2),
    "strided": (ops.MaxPool(Window((3, 3), (2, 2), (0, 1, 0, 1))), (7, 6), 13, 5, 2),
    "uneven padding": (ops.MaxPool(UNEVEN), (5, 6), 3, 17, 1),
    "ceil": (ops.MaxPool(Window((3, 2), (3, 2), (1, 1, 1, 1), ceil=True)), (6, 7), 5, 3, 2),
    "1x1 image": (ops.MaxPool(Window((1, 1))), (1, 1), 2, 3, 1),
    "halves": (ops.AvgPool(Window((2, 2), (2, 2))), (6, 4), 19, 7, 3),
    "average of a border": (ops.AvgPool(SAME), (3, 4), 5, 7, 2),
    "average with padding": (ops.AvgPool(UNEVEN, True), (5, 6), 5, 7, 2),
    "stride over kernel": (ops.SumPool(Window((2, 2), (3, 3))), (8, 7), 3, 5, 2),
    "depthwise": (ops.Conv(SAME, 7), (4, 5), 7, 11, 3),
    "depthwise, strided": (ops.Conv(Window((3, 3), (2, 2), (0, 1, 1, 0)), 5), (7, 6), 5, 3, 2),
    "depthwise, dilated": (ops.Conv(Window((3, 3), (1, 1), (2, 2, 2, 2), (2, 2)), 5), (6, 5), 5, 3, 1),
    "depthwise, two filters a channel": (ops.Conv(SAME, 5), (4, 5), 5, 3, 2),
    "depthwise, seven taps": (ops.Conv(Window((7, 7), pad=(3, 3, 3, 3)), 3), (5, 4), 3, 5, 1),
}


def _normal(*shape: int, seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _body(case: str, *, before: bool, behind: bool) -> tuple[Fused, list[Operand]]:
    """The window as a product's factor; with element-wise parts ``before`` it and ``behind`` it."""
    op, size, channels, filters, n = CASES[case]
    multiplier = 2 if "two filters" in case else 1
    made = channels * multiplier
    operands = [image(_normal(n, *size, channels, seed=1))]
    operands += [vector(_normal(filters, made, seed=2), Element.REAL), vector(_normal(filters, seed=3))]
    operands += [vector(np.abs(_normal(made, seed=4)) + 0.1)]
    if isinstance(op, ops.Conv):
        operands.append(vector(_normal(made, *op.window.kernel, 1, seed=5), Element.REAL))
    parts: list[Part] = []
    types: list[TensorType] = [item.type for item in operands]

    def add(part: Op, *numbers: int) -> int:
        parts.append(Part(f"part{len(parts)}", part, numbers))
        types.extend(part.infer(*(types[i] for i in numbers)))
        return len(types) - len(part.infer(*(types[i] for i in numbers)))

    value = add(ops.Activation("tanh"), 0) if before else 0
    value = add(op, value, 4) if isinstance(op, ops.Conv) else add(op, value)
    if behind:
        value = add(ops.Activation("relu"), add(ops.BiasAdd(), value, 3))
    main = len(parts)
    value = add(ops.BiasAdd(), add(ops.Linear(), value, 1), 2)
    return Fused(tuple(parts), (value,), main), operands


@pytest.mark.parametrize("sides", [(False, False), (True, True)], ids=["plain", "between"])
@pytest.mark.parametrize("tile", [None, Tile(16, 16, 16)], ids=["large", "small"])
@pytest.mark.parametrize("case", CASES)
def test_a_window_in_a_products_loop(case: str, tile: Tile | None, sides: tuple[bool, bool], device: str) -> None:
    op, operands = _body(case, before=sides[0], behind=sides[1])
    (y,) = run_step(op, operands, device=device, tile=tile)
    (expected,) = evaluate_op(op, [item.array.astype(np.float64) for item in operands], Scalars(len(operands[0].array)))
    assert y is not None
    assert relative_error(y, expected) < TOLERANCE


def test_behind_a_window_of_a_strided_product(device: str) -> None:
    """A 1x1 convolution that steps over pixels asks for the windows of those it reads; batch norm inside the mean."""
    x, rows = _normal(2, 8, 7, 5, seed=1), [np.abs(_normal(5, seed=seed)) + 0.1 for seed in range(2, 6)]
    w = _normal(3, 1, 1, 5, seed=7)
    parts = (
        Part("bn", ops.BatchNorm(), (0, 2, 3, 4, 5)),
        Part("relu", ops.Activation("relu"), (6,)),
        Part("pool", ops.AvgPool(Window((3, 3), (1, 1), (1, 1, 1, 1))), (7,)),
        Part("conv", ops.Conv(Window((1, 1), (2, 3))), (8, 1)),
    )
    op = Fused(parts, (9,), 3)
    operands = [image(x), vector(w, Element.REAL), *map(vector, rows)]
    (y,) = run_step(op, operands, device=device)
    (expected,) = evaluate_op(op, [item.array.astype(np.float64) for item in operands], Scalars(2))
    assert y is not None
    assert relative_error(y, expected) < TOLERANCE


def test_nan_comes_through_a_maximum(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To all filters of the pixels around it, and to no others; negatives are not drowned in zeros of the border."""
    op, operands = _body("same", before=False, behind=False)
    operands[0].array[:] = -np.abs(operands[0].array)
    operands[0].array[0, 1, 1, 3] = np.nan
    monkeypatch.setattr(
        one_step, "read", lambda buffer, block, n: one_step.view(buffer, {one_step.Space.WORK: block}, n).copy()
    )
    (y,) = run_step(op, operands, device=device)
    (expected,) = evaluate_op(op, [item.array.astype(np.float64) for item in operands], Scalars(2))
    assert y is not None
    assert np.isnan(expected[0, :3, :3]).all()
    assert not np.isnan(expected[1]).any()
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
