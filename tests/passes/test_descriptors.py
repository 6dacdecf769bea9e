"""Which steps of a plan load their products' factors through tensor descriptors, and in what tiles."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cnnc.frontend import load
from cnnc.ir import ops
from cnnc.ir.plan import Buffer, Plan, Space, Step
from cnnc.ir.size import Size
from cnnc.ir.types import TensorType
from cnnc.ir.window import Window
from cnnc.passes.descriptor_tiles import SPEEDS, load_of, product_tile, wgrad_tile
from cnnc.passes.descriptors import describable, is_described
from cnnc.passes.pipelines import compile_plan
from cnnc.source import Source

NET = """
model net
input 8x8x3
CONV: same
conv 64 3x3
conv 128 3x3
conv 96 3x3/2
conv 80 1x1
conv 40 3x3
flatten
fc 10
"""


def plan(target: str = "sm_90", dtype: str = "bfloat16", variant: str = "infer") -> Plan:
    return compile_plan(load(Source("net.cnn", NET)), variant, target, dtype)


def described(steps: tuple[Step, ...]) -> list[str]:
    return [step.name for step in steps if step.tile is not None and step.tile.descriptors]


def test_wide_layers_of_large_batches() -> None:
    """Not the first layer, of 3 channels, nor those with fewer than 64 filters."""
    found = plan()
    assert [described(schedule.steps) for schedule in found.schedules[:2]] == [[], []]
    wide = [schedule for schedule in found.schedules if schedule.low >= 64]
    assert wide
    for schedule in wide:
        layers = {layer for step in schedule.steps if step.name in described(schedule.steps) for layer in step.layers}
        assert layers == {"conv2", "conv3", "conv4"}


def anchor(step: Step) -> ops.Op:
    return step.op.anchor if isinstance(step.op, ops.Fused) else step.op


@pytest.mark.parametrize(("target", "dtype"), [("sm_80", "bfloat16"), ("gfx942", "bfloat16"), ("sm_90", "float32")])
def test_pointers_elsewhere(target: str, dtype: str) -> None:
    assert not any(described(schedule.steps) for schedule in plan(target, dtype).schedules)


def test_blackwell_too() -> None:
    assert described(plan("sm_100").schedules[-1].steps)


def test_gradients() -> None:
    kinds = {type(anchor(step)) for step in plan(variant="loss").schedules[-1].steps if step.tile}
    steps = [step for step in plan(variant="loss").schedules[-1].steps if step.tile and step.tile.descriptors]
    assert {ops.Conv, ops.ConvDgrad, ops.ConvWgrad} <= {type(anchor(step)) for step in steps} <= kinds


IMAGE = Buffer(0, "x", Space.WORK, "bfloat16", (4, 4, 64), True, "HWNC", Size(), Size(a=2048), channels=64)
WEIGHT = Buffer(1, "w", Space.SHADOW, "bfloat16", (64, 3, 3, 64), False, "0123", Size(), Size(c=73728))
CONV = ops.Conv(Window((3, 3), pad=(1, 1, 1, 1)))


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"axes": "NHWC"}, False),
        ({"halo": (1, 1, 1, 1)}, False),
        ({"channels": 72, "first": 8}, True),
        ({"channels": 72, "first": 4}, False),  # begins at 8 bytes
        ({"channels": 68}, False),  # rows of 136 bytes
        ({"offset": Size(c=8)}, False),
        ({"dtype": "float32", "channels": 68}, True),
    ],
)
def test_describable(change: dict[str, object], fits: bool) -> None:
    assert describable(replace(IMAGE, **change)) is fits  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("op", "fits"),
    [
        (CONV, True),
        (ops.Conv(CONV.window, 2), False),
        (ops.ConvDgrad(CONV.window, (4, 4)), True),
        (ops.ConvDgrad(Window((3, 3), (2, 2)), (9, 9)), True),
        (ops.ConvDgrad(Window((3, 3), (2, 2), dilation=(2, 2)), (11, 11)), False),
        (ops.ConvWgrad(CONV.window), True),
    ],
)
def test_is_described(op: ops.Op, fits: bool) -> None:
    second = WEIGHT
    if isinstance(op, ops.ConvWgrad):
        second = replace(IMAGE, id=1)
    elif getattr(op, "groups", 1) > 1:
        second = replace(WEIGHT, shape=(64, 3, 3, 32))
    types = [TensorType(buffer.shape, buffer.batched) for buffer in (IMAGE, second)]
    assert is_described(op, (IMAGE, second), types, "sm_90", 64) is fits
    assert not is_described(op, (IMAGE, second), types, "sm_90", 63)
    assert not is_described(op, (replace(IMAGE, axes="NHWC"), second), types, "sm_90", 64)


X, W = TensorType((28, 28, 256)), TensorType((256, 256), False)
VECTOR = TensorType((256,), False)


def fused(*parts: ops.Part, results: tuple[int, ...], main: int) -> ops.Fused:
    return ops.Fused(parts, results, main)


RESIDUAL = fused(ops.Part("a", ops.Linear(), (0, 1)), ops.Part("b", ops.Add(), (3, 2)), results=(4,), main=0)
NORM = fused(ops.Part("n", ops.BatchNorm(), (0, 2, 3, 4, 5)), ops.Part("a", ops.Linear(), (6, 1)), results=(7,), main=1)
STATS = fused(ops.Part("a", ops.Linear(), (0, 1)), ops.Part("s", ops.BatchNormStats(), (2,)), results=(2, 3, 4), main=0)


def test_what_a_kernel_does_beside_its_product() -> None:
    plain = load_of(ops.Linear(), (X, W))
    assert (plain.products, plain.factors, plain.computed, plain.tiles) == (1, 1, False, 0)
    residual = load_of(RESIDUAL, (X, W, X))
    assert (residual.factors, residual.tiles, residual.computed) == (1, 1, False)
    norm = load_of(NORM, (X, W, *[VECTOR] * 4))
    assert (norm.factors, norm.tiles, norm.computed, norm.normed) == (1, 0, True, False)
    assert load_of(STATS, (X, W)).normed


def test_tiles_leave_registers() -> None:
    def size(op: ops.Op, *types: TensorType, aligned: bool = True) -> tuple[int, int]:
        tile = product_tile(op, types, 784, 128, 256, aligned=aligned)
        return tile.m * tile.n, tile.warps

    assert size(ops.Linear(), X, W) == (128 * 256, 8)
    assert size(RESIDUAL, X, W, X) == (128 * 128, 8)
    assert size(NORM, X, W, *[VECTOR] * 4) == (128 * 128, 8)
    assert size(STATS, X, W) == (128 * 64, 8)
    assert size(ops.Linear(), X, W, aligned=False)[0] == 64 * 64


def test_small_images_take_small_tiles() -> None:
    """Enough programs for every multiprocessor come first."""
    tile = product_tile(ops.Linear(), (X, W), 4, 128, 256, aligned=True)
    assert tile.m * tile.n <= 64 * 128
    assert replace(tile, stages=next(found.stages for found in SPEEDS if found.m == tile.m)) in SPEEDS


def test_stages_fit_shared_memory() -> None:
    many = fused(
        *(ops.Part(f"p{i}", ops.Add(), (4 + i if i else 0, i + 1)) for i in range(3)),
        ops.Part("a", ops.Linear(), (7, 4)),
        results=(8,),
        main=3,
    )
    types = (X, X, X, X, W)
    assert load_of(many, types).factors == 4
    tile = product_tile(many, types, 784, 128, 256, aligned=True)
    assert tile.stages * (4 * tile.m + tile.n) * tile.k * 2 <= 227 * 1024


def test_wgrad_tiles() -> None:
    dy = TensorType((28, 28, 64))
    small = wgrad_tile(ops.LinearWgrad(), (dy, dy), 64, 64, aligned=True)
    wide = wgrad_tile(ops.LinearWgrad(), (X, X), 256, 256, aligned=True)
    assert (small.m, small.n, wide.m, wide.n) == (64, 64, 128, 128)
