"""Products whose factors come in blocks through tensor descriptors, against the oracle.

Images, channels and filters all end inside a block.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cnnc.codegen import generate
from cnnc.codegen.launch import Descriptor, Module, Pointer
from cnnc.ir import ops
from cnnc.ir.ops import Fused, Op, Part
from cnnc.ir.plan import Plan, Tile
from cnnc.ir.size import Size
from cnnc.ir.types import Element, TensorType
from cnnc.ir.window import Window
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.codegen.one_step import Operand, plan_of, relative_error, run_plan

TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 3e-3}
TILE = Tile(32, 32, 32, descriptors=True)
SMALL = Tile(32, 16, 16, descriptors=True)
SAME = Window((3, 3), pad=(1, 1, 1, 1))


def batched(*shape: int) -> TensorType:
    return TensorType(shape)


def weight(*shape: int) -> TensorType:
    return TensorType(shape, False)


def vector(count: int) -> TensorType:
    return TensorType((count,), False, Element.ACC)


# Window and image; channels 20, filters 24.
WINDOWS: dict[str, tuple[Window, tuple[int, int]]] = {
    "same": (SAME, (3, 3)),
    "one_pixel": (SAME, (1, 1)),
    "one_by_one": (Window((1, 1)), (3, 2)),
    "five": (Window((5, 5), pad=(2, 2, 2, 2)), (2, 3)),
    "stride": (Window((3, 3), (2, 2), (1, 1, 1, 1)), (5, 4)),
    "stride_over_kernel": (Window((1, 1), (2, 3)), (4, 5)),
    "stride_over_image": (Window((1, 2), (3, 3), (0, 0, 1, 0)), (2, 1)),
    "stride_of_three": (Window((5, 3), (3, 3), (0, 3, 2, 1)), (4, 3)),
    "only_padding": (Window((1, 1), pad=(1, 0, 0, 2)), (2, 2)),
    "dilation": (Window((3, 2), pad=(2, 2, 3, 0), dilation=(2, 3)), (3, 3)),
}
KINDS = ("fprop", "dgrad", "wgrad")


def conv(window: Window, image: tuple[int, int], kind: str) -> tuple[Op, list[TensorType]]:
    x, w, dy = batched(*image, 20), weight(24, *window.kernel, 20), batched(*window.output(image), 24)
    steps: dict[str, tuple[Op, list[TensorType]]] = {
        "fprop": (ops.Conv(window), [x, w]),
        "dgrad": (ops.ConvDgrad(window, image), [dy, w]),
        "wgrad": (ops.ConvWgrad(window), [dy, x]),
    }
    return steps[kind]


def drawn(types: list[TensorType], n: int) -> list[Operand]:
    """Seeded normal numbers; vectors are positive, since some are variances."""
    rng = np.random.default_rng(7)
    operands = []
    for kind in types:
        values = rng.standard_normal((n, *kind.shape) if kind.batched else kind.shape)
        values = np.abs(values) + 0.5 if kind.element is Element.ACC else values / np.sqrt(5)
        operands.append(Operand(values.astype(np.float32), kind.batched, kind.element))
    return operands


def check(op: Op, types: list[TensorType], n: int, device: str, **options: Any) -> Module:
    operands = drawn(types, n)
    plan = plan_of(op, types, n=n, **{"tile": TILE, "target": "sm_90", **options})
    module = generate(plan)
    scalars = Scalars(n, seed=3, step=2)
    found = run_plan(plan, module, operands, scalars, device)
    expected = evaluate_op(op, [item.array.astype(np.float64) for item in operands], scalars)
    for actual, wanted in zip(found, expected, strict=True):
        assert actual is not None
        assert relative_error(actual, wanted) < TOLERANCE[plan.dtype]
    return module


def described(module: Module) -> list[Descriptor]:
    (launch,) = module.tables[0].steps["step"]
    return [argument for _, argument in launch.arguments if isinstance(argument, Descriptor)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", WINDOWS)
def test_conv(name: str, kind: str, device: str) -> None:
    op, types = conv(*WINDOWS[name], kind)
    module = check(op, types, 65 if name == "one_pixel" else 33, device)
    assert len(described(module)) == 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["one_pixel", "stride"])
def test_conv_16_bit(name: str, kind: str, dtype: str, device: str) -> None:
    op, types = conv(*WINDOWS[name], kind)
    types = [replace(item, shape=(*item.shape[:-1], 24)) for item in types]  # strides of 16 bytes
    check(op, types, 33, device, dtype=dtype)


@pytest.mark.parametrize(("name", "kind"), [("same", "fprop"), ("stride", "dgrad"), ("one_pixel", "wgrad")])
def test_several_blocks_of_channels(name: str, kind: str, device: str) -> None:
    op, types = conv(*WINDOWS[name], kind)
    check(op, types, 33, device, tile=SMALL)


@pytest.mark.parametrize("n", [64, 128])
def test_whole_tiles_of_images(n: int, device: str) -> None:
    op, types = conv(*WINDOWS["one_pixel"], "fprop")
    check(op, types, n, device)


LINEAR: dict[str, tuple[Op, list[TensorType]]] = {
    "vectors": (ops.Linear(), [batched(20), weight(24, 20)]),
    "pixels": (ops.Linear(), [batched(3, 2, 20), weight(24, 20)]),
    "dgrad": (ops.LinearDgrad(), [batched(3, 2, 24), weight(24, 20)]),
    "dgrad_vectors": (ops.LinearDgrad(), [batched(24), weight(24, 20)]),
    "wgrad": (ops.LinearWgrad(), [batched(3, 2, 24), batched(3, 2, 20)]),
    "wgrad_vectors": (ops.LinearWgrad(), [batched(24), batched(20)]),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", LINEAR)
def test_linear(name: str, dtype: str, device: str) -> None:
    op, types = LINEAR[name]
    if dtype == "bfloat16":
        types = [replace(item, shape=(*item.shape[:-1], 24)) for item in types]
    assert len(described(check(op, types, 33, device, dtype=dtype))) == 2


@pytest.mark.parametrize("splits", [2, 5])
@pytest.mark.parametrize("name", ["one_pixel", "stride_over_image"])
def test_weight_gradients_in_splits(name: str, splits: int, device: str) -> None:
    op, types = conv(*WINDOWS[name], "wgrad")
    check(op, types, 33, device, tile=replace(TILE, splits=splits))


def after(anchor: Op, types: list[TensorType], *, sums: bool) -> tuple[Fused, list[TensorType]]:
    """What follows on a tile: a bias at each position, a bias, a residual, dropout; perhaps statistics."""
    (made,) = anchor.infer(*types)
    first = len(types)
    operands = [*types, TensorType(made.shape, False, Element.ACC), vector(made.shape[-1]), made]
    numbers = iter(range(len(operands), len(operands) + 9))
    parts = [Part("anchor", anchor, tuple(range(first)))]
    value = next(numbers)
    chain: list[tuple[Op, tuple[int, ...]]] = [(ops.BiasAdd(), (first + 1,)), (ops.Add(), (first + 2,))]
    if len(made.shape) == 3:
        chain.insert(0, (ops.PositionBias(), (first,)))
    for op, others in (*chain, (ops.Dropout(0.25, 3), ())):
        parts.append(Part(op.name, op, (value, *others)))
        value = next(numbers)
    results = [value]
    if sums:
        parts.append(Part("stats", ops.BatchNormStats(), (value,)))
        results += [next(numbers), next(numbers)]
    return Fused(tuple(parts), tuple(results)), operands


ANCHORS = {
    "fprop": conv(*WINDOWS["same"], "fprop"),
    "strided_dgrad": conv(*WINDOWS["stride"], "dgrad"),
    "sparse_dgrad": conv(*WINDOWS["stride_over_kernel"], "dgrad"),
    "linear": LINEAR["pixels"],
    "vectors": LINEAR["vectors"],
}


@pytest.mark.parametrize("splits", [0, 1, 50])
@pytest.mark.parametrize("name", ANCHORS)
def test_what_follows(name: str, splits: int, device: str) -> None:
    """With ``splits``, programs that walk over tiles and sum them, some of them idle."""
    op, types = after(*ANCHORS[name], sums=splits > 0)
    check(op, types, 33, device, tile=replace(TILE, splits=max(1, splits)))


def before(anchor: Op, types: list[TensorType], *, stored: bool = False) -> tuple[Fused, list[TensorType]]:
    """A batch norm without epsilon and a sigmoid on the left factor: NaN or not zero where nothing is loaded."""
    count = types[0].shape[-1]
    operands = [*types, *(vector(count) for _ in range(4))]
    made = len(operands)
    parts = (
        Part("norm", ops.BatchNorm(0.0), (0, *range(len(types), made))),
        Part("sigmoid", ops.Activation("sigmoid"), (made,)),
        Part("anchor", anchor, (made + 1, *range(1, len(types)))),
    )
    return Fused(parts, (made + 2, *([made + 1] if stored else [])), 2), operands


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["same", "one_pixel", "stride_over_kernel", "only_padding"])
def test_factors_computed_from_blocks(name: str, kind: str, device: str) -> None:
    op, types = before(*conv(*WINDOWS[name], kind))
    assert len(described(check(op, types, 33, device))) == 2


@pytest.mark.parametrize("name", LINEAR)
def test_linear_factors_computed_from_blocks(name: str, device: str) -> None:
    op, types = before(*LINEAR[name], stored=True)
    check(op, types, 33, device, tile=replace(TILE, splits=2 if "wgrad" in name else 1))


@pytest.mark.parametrize("name", ["same", "stride_over_kernel", "only_padding"])
def test_a_gradient_stored_on_the_way_to_a_weight(name: str, device: str) -> None:
    """Every pixel is visited then, also where the tap sees nothing."""
    op, types = before(*conv(*WINDOWS[name], "wgrad"), stored=True)
    check(op, types, 33, device, tile=replace(TILE, splits=2))


def test_two_products_in_one_accumulator(device: str) -> None:
    """A strided projection added to a product: both at one pixel of the result."""
    window = Window((1, 1), (2, 2))
    types = [batched(5, 4, 12), weight(24, 1, 1, 12), batched(3, 2, 20), weight(24, 20)]
    parts = (
        Part("project", ops.Conv(window), (0, 1)),
        Part("expand", ops.Linear(), (2, 3)),
        Part("sum", ops.Add(), (5, 4)),
    )
    module = check(Fused(parts, (6,), 1), types, 33, device)
    assert len(described(module)) == 4


def test_operands_that_lie_otherwise_come_through_pointers(device: str) -> None:
    """NHWC images are no boxes of images at one pixel; the weight still comes in blocks."""
    op, types = conv(*WINDOWS["same"], "fprop")
    module = check(op, types, 33, device, layout="NHWC")
    assert [len(item.shape) for item in described(module)] == [3]


@pytest.mark.parametrize("name", ["same", "one_by_one"])
def test_a_slice_that_begins_anywhere_comes_through_pointers(name: str, device: str) -> None:
    """Its channels are right either way; blocks can't begin at 8 bytes."""
    op, types = conv(*WINDOWS[name], "fprop")
    plan = plan_of(op, types, n=33, tile=TILE, target="sm_90")
    for first, blocks in ((2, 1), (4, 2)):
        module, found, expected = run_slice(plan, op, types, first, device)
        assert len(described(module)) == blocks
        assert relative_error(found, expected) < TOLERANCE["float32"]


def run_slice(plan: Plan, op: Op, types: list[TensorType], first: int, device: str) -> tuple[Module, Any, Any]:
    """The op on 12 of its operand's 20 channels, from ``first`` on."""
    x, w = types[0], types[1]
    sliced = [batched(*x.shape[:2], 12), weight(*w.shape[:-1], 12)]
    (schedule,) = plan_of(op, sliced, n=33, tile=TILE, target="sm_90").schedules
    whole = plan.schedules[0]
    # The wide operand's place and size; what lies behind it moves along.
    wide = whole.buffers[0]
    moved = [replace(wide, shape=sliced[0].shape, channels=20, first=first)]
    for old in schedule.buffers[1:]:
        offset = old.offset + wide.size + Size(a=-schedule.buffers[0].size.a, c=-schedule.buffers[0].size.c)
        moved.append(replace(old, offset=offset))
    assert isinstance(whole.work, Size)
    assert isinstance(schedule.work, Size)
    work = whole.work + schedule.work
    narrow = replace(plan, schedules=(replace(schedule, buffers=tuple(moved), work=work),))
    module = generate(narrow)
    operands = drawn(sliced, 33)
    (found,) = run_plan(narrow, module, operands, Scalars(33), device)
    (expected,) = evaluate_op(op, [item.array.astype(np.float64) for item in operands], Scalars(33))
    return module, found, expected


def test_one_kernel_for_layers_that_differ_in_size() -> None:
    """Channels, filters and images are runtime numbers."""
    launches = []
    for size, channels, filters in ((56, 128, 256), (28, 256, 512)):
        types = [batched(size, size, channels), weight(filters, 3, 3, channels)]
        tile = Tile(128, 128, 64, descriptors=True)
        module = generate(plan_of(ops.Conv(SAME), types, dtype="bfloat16", target="sm_90", n=64, tile=tile))
        launches.append((module.source, module.tables[0].steps["step"][0]))
    (text, first), (other, second) = launches
    assert text == other
    assert first.constants == second.constants


def test_descriptors_count_as_operands() -> None:
    module = generate(plan_of(*conv(*WINDOWS["same"], "fprop"), tile=TILE, target="sm_90"))
    (launch,) = module.tables[0].steps["step"]
    kinds = {name: type(argument) for name, argument in launch.arguments}
    assert kinds["x_desc"] is kinds["w_desc"] is Descriptor
    assert kinds["out"] is Pointer
    assert "x" not in kinds
    assert launch.bytes == Size(a=4 * 9 * (20 + 24), c=4 * 24 * 9 * 20)
