"""Sums of products in one accumulator, against their parts in the oracle."""

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
from tests.codegen.one_step import Operand, image, relative_error, run_step, vector

TOLERANCE = 1e-5
SAME = Window((3, 3), pad=(1, 1, 1, 1))
HALVED = Window((1, 1), (2, 2))
UNEVEN = Window((3, 2), (2, 3), (1, 0, 0, 1))

# name: two products and the images and channels that they read, filters of the sum, whether they are gradients.
Term = tuple[Op, tuple[int, int], int]
CASES: dict[str, tuple[Term, Term, int]] = {
    "projection": ((ops.Linear(), (4, 3), 7), (ops.Conv(HALVED), (8, 6), 5), 11),
    "3x3 and strided 3x3": ((ops.Conv(SAME), UNEVEN.output((7, 7)), 7), (ops.Conv(UNEVEN), (7, 7), 13), 3),
    "one pixel": ((ops.Conv(SAME), (1, 1), 3), (ops.Linear(), (1, 1), 2), 5),
    "gradients of products": ((ops.LinearDgrad(), (5, 4), 7), (ops.LinearDgrad(), (5, 4), 3), 11),
    "gradients of windows": ((ops.ConvDgrad(SAME, (5, 4)), (5, 4), 7), (ops.LinearDgrad(), (5, 4), 3), 5),
    "strided gradients": (
        (ops.ConvDgrad(UNEVEN, (8, 7)), UNEVEN.output((8, 7)), 7),
        (ops.ConvDgrad(UNEVEN, (8, 7)), UNEVEN.output((8, 7)), 5),
        3,
    ),
    "pixels without taps": (
        (ops.ConvDgrad(HALVED, (7, 6)), (4, 3), 7),
        (ops.ConvDgrad(HALVED, (7, 6)), (4, 3), 5),
        3,
    ),
    "strided and not": ((ops.ConvDgrad(HALVED, (7, 6)), (4, 3), 7), (ops.LinearDgrad(), (7, 6), 5), 3),
}


def _normal(*shape: int, seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _operands(term: Term, filters: int, n: int, seed: int) -> list[Operand]:
    op, size, channels = term
    taps = () if isinstance(op, ops.Linear | ops.LinearDgrad) else op.window.kernel  # type: ignore[attr-defined]
    backward = isinstance(op, ops.LinearDgrad | ops.ConvDgrad)
    shape = (channels, *taps, filters) if backward else (filters, *taps, channels)
    weight = _normal(*shape, seed=seed + 1)
    return [image(_normal(n, *size, channels, seed=seed)), vector(weight, Element.REAL)]


def _check(op: Fused, operands: list[Operand], device: str, **options: Any) -> None:
    n = len(operands[0].array)
    found = run_step(op, operands, device=device, **options)
    expected = evaluate_op(op, [item.array.astype(np.float64) for item in operands], Scalars(n))
    for mine, want in zip(found, expected, strict=True):
        assert mine is not None
        assert relative_error(mine, want) < TOLERANCE


@pytest.mark.parametrize("tile", [None, Tile(16, 16, 16), Tile(32, 16, 32)], ids=["large", "small", "gathering"])
@pytest.mark.parametrize("case", CASES)
def test_two_products(case: str, tile: Tile | None, device: str) -> None:
    """The second one first among the parts, as it stands in the graph; its bias goes into the accumulator too."""
    main, other, filters = CASES[case]
    operands = [*_operands(other, filters, 3, 1), *_operands(main, filters, 3, 5)]
    operands.append(vector(_normal(filters, seed=9)))
    parts = (
        Part("other", other[0], (0, 1)),
        Part("other.bias", ops.BiasAdd(), (5, 4)),
        Part("main", main[0], (2, 3)),
        Part("main.bias", ops.BiasAdd(), (7, 4)),
        Part("add", ops.Add(), (8, 6)),
        Part("relu", ops.Activation("relu"), (9,)),
    )
    _check(Fused(parts, (10,), 2), operands, device, tile=tile)


def test_three_products_and_a_residual(device: str) -> None:
    """Sums of sums; the sum before the activation leaves, and the terms stand on either side."""
    term: Term = (ops.LinearDgrad(), (3, 5), 7)
    operands = [item for seed in (1, 3, 5) for item in _operands(term, 5, 2, seed)]
    operands.append(image(_normal(2, 3, 5, 5, seed=9)))
    parts = (
        Part("a", ops.LinearDgrad(), (0, 1)),
        Part("b", ops.LinearDgrad(), (2, 3)),
        Part("rest", ops.Add(), (8, 6)),
        Part("c", ops.LinearDgrad(), (4, 5)),
        Part("left", ops.Add(), (7, 10)),
        Part("right", ops.Add(), (11, 9)),
        Part("tanh", ops.Activation("tanh"), (12,)),
    )
    _check(Fused(parts, (13, 12), 3), operands, device)


def test_a_sum_with_statistics_and_a_pool(device: str) -> None:
    """What else follows a product follows a sum of them."""
    operands = [*_operands((ops.Linear(), (6, 4), 3), 5, 2, 1), *_operands((ops.Conv(SAME), (6, 4), 7), 5, 2, 5)]
    parts = (
        Part("other", ops.Linear(), (0, 1)),
        Part("main", ops.Conv(SAME), (2, 3)),
        Part("add", ops.Add(), (5, 4)),
    )
    pool = Part("pool", ops.MaxPool(Window((3, 3), (2, 2), (1, 1, 1, 1))), (6,))
    _check(Fused((*parts, pool), (7,), 1), operands, device)
    _check(Fused((*parts, Part("stats", ops.BatchNormStats(), (6,))), (6, 7, 8), 1), operands, device)
