"""Local response normalisation of a tile that a kernel has just made, against its parts in the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnc.codegen import generate
from cnnc.ir import ops
from cnnc.ir.ops import Fused, Part
from cnnc.ir.plan import Tile
from cnnc.ir.types import Element, TensorType
from cnnc.ir.window import Window
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.codegen.one_step import Operand, image, plan_of, relative_error, run_step, vector

TOLERANCE = 1e-5
POOL = ops.MaxPool(Window((3, 3), (2, 2), (1, 0, 1, 0)))
NORMS = {
    "paper": ops.Lrn(),
    "even": ops.Lrn(4, 0.3, 0.75, 1.0),
    "power": ops.Lrn(3, 0.1, 0.6, 1.5),
    "wider than its channels": ops.Lrn(9, 0.2, 0.75, 1.0),
    "alone": ops.Lrn(1, 0.5, 0.5, 1.0),
}


def _normal(*shape: int, seed: int = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _check(op: Fused, operands: list[Operand], device: str, tile: Tile | None = None) -> None:
    (y,) = run_step(op, operands, device=device, tile=tile)
    doubles = [item.array.astype(np.float64) for item in operands]
    (expected,) = evaluate_op(op, doubles, Scalars(len(operands[0].array)))
    assert y is not None
    assert relative_error(y, expected) < TOLERANCE


@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (1, 2, 2, 1), (3, 4, 3, 16)], ids=["prime", "one", "aligned"])
@pytest.mark.parametrize("norm", NORMS)
def test_behind_a_pool(norm: str, shape: tuple[int, ...], device: str) -> None:
    op = Fused(
        (Part("pool", POOL, (0,)), Part("lrn", NORMS[norm], (1,)), Part("relu", ops.Activation("relu"), (3,))), (4,)
    )
    _check(op, [image(10 * _normal(*shape))], device)


@pytest.mark.parametrize("tile", [None, Tile(16, 16, 16)], ids=["large", "small"])
@pytest.mark.parametrize("pooled", [False, True])
def test_behind_a_product(pooled: bool, tile: Tile | None, device: str) -> None:
    """A residual behind it, which goes on from the normalised value."""
    parts = [
        Part("conv", ops.Conv(Window((3, 3), pad=(1, 1, 1, 1))), (0, 1)),
        Part("bias", ops.BiasAdd(), (4, 2)),
        *([Part("pool", POOL, (5,))] if pooled else []),
    ]
    last = 6 if pooled else 5
    after = 8 if pooled else 6
    parts += [Part("lrn", ops.Lrn(), (last,)), Part("add", ops.Add(), (after, 3))]
    size = POOL.window.output((5, 6)) if pooled else (5, 6)
    operands = [image(10 * _normal(2, 5, 6, 3)), vector(_normal(11, 3, 3, 3, seed=2), Element.REAL)]
    operands += [vector(_normal(11, seed=3)), image(_normal(2, *size, 11, seed=4))]
    _check(Fused(tuple(parts), (after + 1,)), operands, device, tile)


def test_the_tile_holds_all_channels() -> None:
    """On cards too, where tiles are narrow."""
    op = Fused((Part("pool", POOL, (0,)), Part("lrn", ops.Lrn(), (1,))), (3,))
    for channels in (3, 96, 192, 512):
        plan = plan_of(op, [TensorType((27, 27, channels))], target="sm_90", dtype="bfloat16", n=128)
        tile = plan.schedules[0].steps[0].tile
        assert tile is not None
        assert tile.n >= channels
        assert tile.m * tile.n <= 4096
    with pytest.raises(ValueError, match="a tile of 64 channels can't normalise 96"):
        generate(plan_of(op, [TensorType((27, 27, 96))], target="sm_90", tile=Tile(16, 64, 1)))
