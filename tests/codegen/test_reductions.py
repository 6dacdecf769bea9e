"""Sums over rows in the kernels that make what they sum: any anchor, any number of programs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cnnc.codegen import generate
from cnnc.ir import ops
from cnnc.ir.ops import Fused, Op, Part
from cnnc.ir.plan import Tile
from cnnc.ir.types import Element, TensorType
from cnnc.ir.window import Window
from cnnc.passes.tiles import choose_tile
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.codegen.one_step import Operand, plan_of, relative_error, run_plan

TOLERANCE = 1e-5
SAME = Window((3, 3), pad=(1, 1, 1, 1))
STRIDED = Window((3, 3), (2, 2), (1, 1, 1, 1))
SPARSE = Window((1, 1), (2, 3))  # most pixels have no tap
POOL = Window((3, 2), (2, 1), (1, 0, 1, 0))


def batched(*shape: int) -> TensorType:
    return TensorType(shape)


def weight(*shape: int) -> TensorType:
    return TensorType(shape, False)


INDEX = TensorType((3, 5, 7), True, Element.INDEX)
CONV = (ops.Conv(SAME), (batched(5, 4, 7), weight(11, 3, 3, 7)))
# What makes the value that is summed. Channels are prime; images odd, or a single pixel.
ANCHORS: dict[str, tuple[Op, tuple[TensorType, ...]]] = {
    "linear_of_vectors": (ops.Linear(), (batched(13), weight(7, 13))),
    "linear_of_pixels": (ops.Linear(), (batched(5, 3, 13), weight(17, 13))),
    "linear_dgrad": (ops.LinearDgrad(), (batched(5, 3, 13), weight(13, 17))),
    "conv": CONV,
    "conv_pixel": (ops.Conv(SAME), (batched(1, 1, 3), weight(5, 3, 3, 3))),
    "conv_strided": (ops.Conv(STRIDED), (batched(6, 5, 7), weight(3, 3, 3, 7))),
    "conv_grouped": (ops.Conv(SAME, 3), (batched(4, 3, 15), weight(21, 3, 3, 5))),
    "conv_depthwise": (ops.Conv(SAME, 5), (batched(4, 3, 5), weight(10, 3, 3, 1))),
    "dgrad": (ops.ConvDgrad(SAME, (5, 4)), (batched(5, 4, 7), weight(7, 3, 3, 11))),
    "dgrad_strided": (ops.ConvDgrad(STRIDED, (7, 6)), (batched(4, 3, 37), weight(37, 3, 3, 5))),
    "dgrad_sparse": (ops.ConvDgrad(SPARSE, (5, 4)), (batched(3, 2, 37), weight(37, 1, 1, 5))),
    "dgrad_of_one_pixel": (ops.ConvDgrad(STRIDED, (1, 1)), (batched(1, 1, 37), weight(37, 3, 3, 5))),
    "dgrad_grouped": (ops.ConvDgrad(SAME, (4, 3), 3), (batched(4, 3, 21), weight(21, 3, 3, 5))),
    "dgrad_depthwise": (ops.ConvDgrad(STRIDED, (7, 6), 5), (batched(4, 3, 10), weight(10, 3, 3, 1))),
    "add": (ops.Add(), (batched(4, 3, 5), batched(4, 3, 5))),
    "relu_grad": (ops.ActivationGrad("relu"), (batched(4, 3, 5), batched(4, 3, 5))),
    "max_pool": (ops.MaxPool(POOL), (batched(6, 5, 7),)),
    "avg_pool": (ops.AvgPool(POOL), (batched(6, 5, 7),)),
    "max_pool_grad": (ops.MaxPoolGrad(POOL, (6, 5)), (batched(3, 5, 7), INDEX)),
    "avg_pool_grad": (ops.AvgPoolGrad(POOL, (6, 5)), (batched(3, 5, 7),)),
    "global_avg_pool_grad": (ops.GlobalAvgPoolGrad((3, 4)), (batched(7),)),
    "global_avg_pool": (ops.GlobalAvgPool(), (batched(6, 5, 7),)),
}


def with_stats(anchor: Op, types: tuple[TensorType, ...], *, leaves: bool = True) -> tuple[Fused, list[TensorType]]:
    """Statistics of the anchor's result and what running statistics become."""
    made = anchor.infer(*types)
    vector = TensorType(made[0].shape[-1:], False, Element.ACC)
    read, value = len(types) + 2, len(types) + 2
    stats = value + len(made)
    update = ops.BatchNormUpdate(0.3, int(np.prod(made[0].shape[:-1])))
    parts = (
        Part("anchor", anchor, tuple(range(len(types)))),
        Part("stats", ops.BatchNormStats(), (value,)),
        Part("update", update, (read - 2, read - 1, stats, stats + 1)),
    )
    results = (*([value] if leaves else []), stats, stats + 1, stats + 2, stats + 3)
    return Fused(parts, results), [*types, vector, vector]


def with_sums(anchor: Op, types: tuple[TensorType, ...], *, leaves: bool = True) -> tuple[Fused, list[TensorType]]:
    """The sums that a batch norm's gradient takes of the anchor's result times tanh', and that result's own sum."""
    made = anchor.infer(*types)
    vector = TensorType(made[0].shape[-1:], False, Element.ACC)
    x = len(types)
    value = x + 3
    derived = value + len(made)
    parts = (
        Part("anchor", anchor, tuple(range(x))),
        Part("grad", ops.ActivationGrad("tanh"), (value, x)),
        Part("reduce", ops.BatchNormReduce(1e-3), (derived, x, x + 1, x + 2)),
        Part("sum", ops.ChannelSum(), (derived,)),
    )
    results = (*([derived] if leaves else []), derived + 1, derived + 2, derived + 3)
    return Fused(parts, results), [*types, made[0], vector, vector]


TAILS = {"stats": with_stats, "sums": with_sums}


def drawn(types: list[TensorType], n: int) -> list[Operand]:
    """Seeded normal numbers; vectors are positive, since some are variances."""
    rng = np.random.default_rng(3)
    operands = []
    for kind in types:
        if kind.element is Element.INDEX:
            operands.append(Operand(rng.integers(0, POOL.taps, (n, *kind.shape)).astype(np.uint8), True, kind.element))
            continue
        values = rng.standard_normal((n, *kind.shape) if kind.batched else kind.shape)
        values = np.abs(values) + 0.1 if not kind.batched and len(kind.shape) == 1 else values / np.sqrt(5)
        operands.append(Operand(values.astype(np.float32), kind.batched, kind.element))
    return operands


def expected_of(op: Op, operands: list[Operand], n: int) -> list[np.ndarray[Any, Any]]:
    return list(evaluate_op(op, [exact(item.array) for item in operands], Scalars(n)))


def exact(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def split(
    op: Fused, types: list[TensorType], n: int, splits: int, target: str = "interpret", m: int | None = None
) -> Tile:
    """The tile that a step would get, with more or fewer programs and rows."""
    tile = choose_tile(op, tuple(types), op.infer(*types), n, target, "float32")
    assert tile is not None
    return replace(tile, splits=splits, m=m or tile.m)


def check(op: Fused, types: list[TensorType], n: int, tile: Tile | None, device: str, **options: Any) -> None:
    operands = drawn(types, n)
    plan = plan_of(op, types, n=n, tile=tile, **options)
    module = generate(plan)
    assert len(module.tables[0].steps["step"]) == 1
    found = run_plan(plan, module, operands, Scalars(n), device)
    for actual, expected in zip(found, expected_of(op, operands, n), strict=True):
        assert actual is not None
        assert relative_error(actual, expected) < TOLERANCE


@pytest.mark.parametrize("splits", [1, 2, 5])
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("name", ANCHORS)
def test_behind_every_anchor(name: str, tail: str, splits: int, device: str) -> None:
    """Rows in several tiles for each program; where splits are 5, some programs have none."""
    op, types = TAILS[tail](*ANCHORS[name])
    check(op, types, 3, split(op, types, 3, splits, m=8), device)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("layout", ["HWNC", "NHWC"])
@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("name", ["conv", "dgrad_strided", "conv_grouped", "linear_of_pixels", "add"])
def test_tiles_of_a_card(name: str, n: int, layout: str, tail: str, device: str) -> None:
    """Blocks of 64 rows, mostly empty; the value itself stays inside."""
    op, types = TAILS[tail](*ANCHORS[name], leaves=False)
    check(op, types, n, split(op, types, n, 2, "sm_90"), device, layout=layout, target="sm_90")


def test_large_mean(device: str) -> None:
    """Partial statistics are joined without the difference of large squares."""
    op = Fused((Part("add", ops.Add(), (0, 1)), Part("stats", ops.BatchNormStats(), (2,))), (2, 3, 4))
    types = [batched(5, 4, 7)] * 2
    rng = np.random.default_rng(4)
    x = (rng.standard_normal((6, 5, 4, 7)) + 1000).astype(np.float32)
    operands = [Operand(x), Operand(np.zeros_like(x))]
    plan = plan_of(op, types, n=6, tile=Tile(8, 4, 1, 5))
    _, mean, var = run_plan(plan, generate(plan), operands, Scalars(6), device)
    exact = x.astype(np.float64)
    assert mean is not None
    assert var is not None
    assert relative_error(mean, exact.mean((0, 1, 2))) < 1e-6
    assert np.abs(var - exact.var((0, 1, 2))).max() < 1e-4


def test_many_programs(device: str) -> None:
    """More partial results than one block of the last program's loop holds."""
    op, types = with_stats(*ANCHORS["add"])
    check(op, types, 40, split(op, types, 40, 70, m=4), device)
    op, types = with_sums(*ANCHORS["add"])
    check(op, types, 40, split(op, types, 40, 70, m=4), device)
