"""Values computed where a kernel reads them: every reader, every place, and storing on the way.

The batch norms have no epsilon: where nothing is loaded the variance is 0, and what is computed there is NaN.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cnnc.codegen import generate
from cnnc.ir import ops
from cnnc.ir.ops import Fused, Op
from cnnc.ir.plan import Tile
from cnnc.ir.types import TensorType
from cnnc.ir.window import Window
from cnnc.passes.tiles import choose_tile
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.codegen.one_step import Operand, plan_of, relative_error, run_plan
from tests.codegen.prologues import PROLOGUES, with_prologue

TOLERANCE = 1e-5
SAME = Window((3, 3), pad=(1, 1, 1, 1))
ONE = Window((1, 1))
STRIDED = Window((3, 3), (2, 2), (1, 0, 1, 1))
SPARSE = Window((1, 1), (2, 3))
POOL = Window((3, 2), (2, 1), (1, 0, 1, 0))


def batched(*shape: int) -> TensorType:
    return TensorType(shape)


def weight(*shape: int) -> TensorType:
    return TensorType(shape, False)


# An op and the types of its operands; what is computed on the way are those in the slots named behind it.
READERS: dict[str, tuple[Op, tuple[TensorType, ...]]] = {
    "linear_of_vectors": (ops.Linear(), (batched(13), weight(7, 13))),
    "linear_of_pixels": (ops.Linear(), (batched(5, 3, 37), weight(41, 37))),
    "linear_dgrad": (ops.LinearDgrad(), (batched(5, 3, 37), weight(37, 41))),
    "linear_wgrad": (ops.LinearWgrad(), (batched(5, 3, 37), batched(5, 3, 41))),
    "conv": (ops.Conv(SAME), (batched(5, 4, 19), weight(11, 3, 3, 19))),
    "conv_of_few_channels": (ops.Conv(STRIDED), (batched(7, 5, 3), weight(5, 3, 3, 3))),
    "conv_of_one_pixel": (ops.Conv(SAME), (batched(1, 1, 17), weight(5, 3, 3, 17))),
    "conv_of_some_pixels": (ops.Conv(SPARSE), (batched(6, 5, 17), weight(7, 1, 1, 17))),
    "conv_of_groups": (ops.Conv(SAME, 3), (batched(4, 3, 51), weight(21, 3, 3, 17))),
    "conv_depthwise": (ops.Conv(SAME, 5), (batched(4, 3, 5), weight(10, 3, 3, 1))),
    "conv_dgrad": (ops.ConvDgrad(SAME, (5, 4)), (batched(5, 4, 17), weight(17, 3, 3, 11))),
    "conv_dgrad_phases": (ops.ConvDgrad(STRIDED, (7, 6)), (batched(3, 3, 37), weight(37, 3, 3, 5))),
    "conv_dgrad_of_groups": (ops.ConvDgrad(SAME, (4, 3), 3), (batched(4, 3, 51), weight(51, 3, 3, 5))),
    "conv_wgrad": (ops.ConvWgrad(SAME), (batched(5, 4, 19), batched(5, 4, 37))),
    "conv_wgrad_of_few_channels": (ops.ConvWgrad(STRIDED), (batched(3, 3, 7), batched(7, 6, 3))),
    "conv_wgrad_of_one_tap": (ops.ConvWgrad(SPARSE), (batched(3, 2, 17), batched(6, 5, 37))),
    "conv_wgrad_of_groups": (ops.ConvWgrad(SAME, 3), (batched(4, 3, 21), batched(4, 3, 51))),
    "depthwise_wgrad": (ops.ConvWgrad(SAME, 5), (batched(4, 3, 10), batched(4, 3, 5))),
    "max_pool": (ops.MaxPool(POOL), (batched(6, 5, 7),)),
    "avg_pool": (ops.AvgPool(POOL), (batched(6, 5, 7),)),
    "sum_pool": (ops.SumPool(POOL), (batched(6, 5, 7),)),
    "global_avg_pool": (ops.GlobalAvgPool(), (batched(6, 5, 7),)),
    "stats": (ops.BatchNormStats(), (batched(4, 3, 5),)),
    "reduce": (ops.BatchNormReduce(1e-3), (batched(4, 3, 5), batched(4, 3, 5), weight(5), weight(5))),
    "sum": (ops.ChannelSum(), (batched(4, 3, 5),)),
    "add": (ops.Add(), (batched(4, 3, 5), batched(4, 3, 5))),
}
SLOTS = {"linear_wgrad": 2, "conv_wgrad": 2, "conv_wgrad_of_few_channels": 2, "conv_wgrad_of_one_tap": 2}
SLOTS |= {"conv_wgrad_of_groups": 2, "depthwise_wgrad": 2, "reduce": 2, "add": 2}


def drawn(types: list[TensorType], n: int) -> list[Operand]:
    """Seeded normal numbers; vectors are positive, since some are variances."""
    rng = np.random.default_rng(5)
    operands = []
    for kind in types:
        values = rng.standard_normal((n, *kind.shape) if kind.batched else kind.shape)
        values = np.abs(values) + 0.5 if not kind.batched and len(kind.shape) == 1 else values / np.sqrt(5)
        operands.append(Operand(values.astype(np.float32), kind.batched, kind.element))
    return operands


def check(op: Fused, types: list[TensorType], n: int, device: str, **options: object) -> None:
    operands = drawn(types, n)
    plan = plan_of(op, types, n=n, **options)
    module = generate(plan)
    assert len(module.tables[0].steps["step"]) == 1
    scalars = Scalars(n, seed=3, step=2)
    found = run_plan(plan, module, operands, scalars, device)
    expected = evaluate_op(op, [item.array.astype(np.float64) for item in operands], scalars)
    for actual, wanted in zip(found, expected, strict=True):
        assert actual is not None
        if actual.dtype != np.uint8:
            assert relative_error(actual, wanted) < TOLERANCE


def slots_of(name: str) -> list[tuple[int, ...]]:
    return [(0,), (1,), (0, 1)] if SLOTS.get(name, 1) == 2 else [(0,)]


CASES = [(name, slots) for name in READERS for slots in slots_of(name)]


@pytest.mark.parametrize("kind", PROLOGUES)
@pytest.mark.parametrize(("name", "slots"), CASES)
def test_every_reader(name: str, slots: tuple[int, ...], kind: str, device: str, target: str) -> None:
    op, types = with_prologue(READERS[name], kind, slots)
    check(op, types, 3, device, target=target)


@pytest.mark.parametrize(
    "name", [name for name, (op, _) in READERS.items() if isinstance(op, ops.Conv | ops.ConvDgrad | ops.Linear)]
)
def test_tiles_of_a_card(name: str, device: str) -> None:
    """Blocks of one tap and of several channels, whose rows and columns are mostly dead."""
    op, types = with_prologue(READERS[name], "apply", (0,))
    check(op, types, 3, device, target="sm_90", layout="NHWC", tile=Tile(32, 32, 16))


@pytest.mark.parametrize(
    ("name", "splits"),
    [
        ("linear_wgrad", 5),
        ("conv_wgrad", 2),
        ("conv_wgrad_of_few_channels", 5),
        ("conv_wgrad_of_one_tap", 2),
        ("conv_wgrad_of_groups", 2),
        ("depthwise_wgrad", 5),
    ],
)
def test_weight_gradients_in_splits(name: str, splits: int, device: str) -> None:
    """The last program of each tile adds up the splits; of five some have no rows."""
    op, types = with_prologue(READERS[name], "input_grad", (0, 1))
    tile = choose_tile(op, tuple(types), op.infer(*types), 3, "interpret", "float32")
    assert tile is not None
    small = replace(tile, m=32, n=32, k=32) if name != "depthwise_wgrad" else replace(tile, m=16, n=16)
    check(op, types, 3, device, tile=replace(small, splits=splits))


@pytest.mark.parametrize("kind", ["apply", "input_grad"])
@pytest.mark.parametrize(
    ("name", "slot"),
    [
        ("linear_of_vectors", 0),
        ("linear_of_pixels", 0),
        ("linear_dgrad", 0),
        ("linear_wgrad", 0),
        ("linear_wgrad", 1),
        ("conv_wgrad", 0),
        ("conv_wgrad_of_few_channels", 0),
        ("conv_wgrad_of_groups", 0),
        ("depthwise_wgrad", 0),
        ("stats", 0),
        ("sum", 0),
        ("add", 1),
    ],
)
def test_stored_on_the_way(name: str, slot: int, kind: str, device: str) -> None:
    """The kernel also stores what it computes of its operands: every element, and what no tile reaches stays."""
    op, types = with_prologue(READERS[name], kind, (slot,), (slot,))
    check(op, types, 3, device)
    tile = choose_tile(op, tuple(types), op.infer(*types), 3, "sm_90", "float32")
    assert tile is not None
    splits = 2 if tile.splits > 1 or "wgrad" in name else 1
    check(op, types, 3, device, target="sm_90", tile=replace(tile, splits=splits))


@pytest.mark.parametrize("name", ["linear_of_pixels", "conv", "linear_wgrad", "conv_wgrad", "conv_of_few_channels"])
def test_16_bit_factors(name: str, device: str, target: str) -> None:
    """What is computed in float32 is rounded to the images' type before it is multiplied."""
    op, types = with_prologue(READERS[name], "apply", (0,))
    operands = drawn(types, 3)
    plan = plan_of(op, types, n=3, target=target, dtype="float16")
    (found,) = run_plan(plan, generate(plan), operands, Scalars(3), device)
    (expected,) = evaluate_op(op, [item.array.astype(np.float64) for item in operands], Scalars(3))
    assert found is not None
    assert relative_error(found, expected) < 3e-3
