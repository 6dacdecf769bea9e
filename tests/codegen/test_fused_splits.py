"""A product's tile stored slice by slice, each into memory of its own, against the whole product."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnc.ir import ops
from cnnc.ir.ops import Fused, Part
from cnnc.ir.plan import Tile
from cnnc.ir.types import Element
from cnnc.ir.window import Window
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.codegen.one_step import Operand, image, relative_error, run_step, vector

TOLERANCE = 1e-5
TILES = [None, Tile(16, 16, 16)]


def _normal(*shape: int, seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _body(counts: tuple[int, ...], n: int, size: tuple[int, int]) -> tuple[Fused, list[Operand]]:
    filters = sum(counts)
    parts = (
        Part("conv", ops.Conv(Window((3, 3), (2, 1), (1, 1, 0, 2))), (0, 1)),
        Part("bias", ops.BiasAdd(), (3, 2)),
        Part("relu", ops.Activation("relu"), (4,)),
        Part("split", ops.Split(counts), (5,)),
    )
    weight, bias = _normal(filters, 3, 3, 5, seed=2), _normal(filters, seed=3)
    operands = [image(_normal(n, *size, 5, seed=1)), vector(weight, Element.REAL), vector(bias)]
    return Fused(parts, tuple(range(6, 6 + len(counts)))), operands


@pytest.mark.parametrize("tile", TILES, ids=["one block", "blocks"])
@pytest.mark.parametrize(
    ("counts", "n", "size"),
    [((7, 13, 17), 3, (4, 5)), ((16, 32, 16), 2, (3, 3)), ((1, 2), 1, (1, 1)), ((5,), 2, (2, 3))],
    ids=["primes", "aligned", "one pixel", "alone"],
)
def test_slices(counts: tuple[int, ...], n: int, size: tuple[int, int], tile: Tile | None, device: str) -> None:
    op, operands = _body(counts, n, size)
    found = run_step(op, operands, device=device, tile=tile)
    expected = evaluate_op(op, [item.array.astype(np.float64) for item in operands], Scalars(n))
    assert [part.shape[-1] for part in expected] == list(counts)
    for mine, want in zip(found, expected, strict=True):
        assert mine is not None
        assert relative_error(mine, want) < TOLERANCE


def test_a_slice_that_nobody_reads(device: str) -> None:
    op, operands = _body((7, 13, 17), 2, (4, 5))
    every = run_step(op, operands, device=device)
    found = run_step(op, operands, device=device, wanted=(True, False, True))
    assert found[1] is None
    assert np.array_equal(found[0], every[0])  # type: ignore[arg-type]
    assert np.array_equal(found[2], every[2])  # type: ignore[arg-type]


def test_the_whole_leaves_too(device: str) -> None:
    """Merged siblings in training: the backward pass reads all channels, a concatenation some of them."""
    op, operands = _body((4, 9), 2, (3, 4))
    whole, first = run_step(Fused(op.parts, (5, 6)), operands, device=device)
    assert whole is not None
    assert np.array_equal(first, whole[..., :4])  # type: ignore[arg-type]
