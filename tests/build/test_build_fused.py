"""Kernels that hold several: pools behind products, products that add up, windows before products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from cnnc.codegen import generate
from cnnc.codegen.build import Binaries, build
from cnnc.ir import ops
from cnnc.ir.ops import Fused, Op, Part
from cnnc.ir.types import Element, TensorType
from cnnc.ir.window import Window
from tests.codegen.one_step import plan_of

TARGETS = ("sm_80", "sm_90", "sm_100", "gfx942")
SAME = Window((3, 3), pad=(1, 1, 1, 1))
HALVES = Window((2, 2), (2, 2))
HALVED = Window((1, 1), (2, 2))
SEVENS = Window((7, 7), (2, 2), (3, 3, 3, 3))
THREES = Window((3, 3), (2, 2), (1, 1, 1, 1))
RELU = ops.Activation("relu")

Kernel = tuple[Fused, tuple[TensorType, ...]]


def image(size: int, channels: int) -> TensorType:
    return TensorType((size, size, channels))


def weight(*shape: int) -> TensorType:
    return TensorType(shape, False)


def vector(channels: int) -> TensorType:
    return TensorType((channels,), False, Element.ACC)


def body(types: Sequence[TensorType], *parts: tuple[Op, tuple[int, ...]], main: int = 0, index: bool = False) -> Kernel:
    """Parts in order; ``index`` keeps the last one's second result too."""
    op = Fused(tuple(Part(f"part{i}", part, numbers) for i, (part, numbers) in enumerate(parts)), (), main)
    count = len(op.value_types(types))
    return Fused(op.parts, (count - 2, count - 1) if index else (count - 1,), main), tuple(types)


def pooled(pool: Op, window: Window, size: int, channels: int, filters: int, *, index: bool = False) -> Kernel:
    """Bias and activation between a convolution and its pool."""
    types = (image(size, channels), weight(filters, *window.kernel, channels), vector(filters))
    kernel = body(types, (ops.Conv(window), (0, 1)), (ops.BiasAdd(), (3, 2)), (RELU, (4,)), (pool, (5,)), index=index)
    if isinstance(pool, ops.MaxPool) and not index:
        return Fused(kernel[0].parts, (6,)), kernel[1]
    return kernel


def projected(channels: int) -> Kernel:
    """The end of ResNet's first block of a stage: a projection goes on in the expanding product's accumulator."""
    types = (image(14, channels), weight(4 * channels, channels), image(28, 2 * channels))
    types += (weight(4 * channels, 1, 1, 2 * channels), vector(4 * channels))
    return body(
        types,
        (ops.Conv(HALVED), (2, 3)),
        (ops.BiasAdd(), (5, 4)),
        (ops.Linear(), (0, 1)),
        (ops.BiasAdd(), (7, 4)),
        (ops.Add(), (8, 6)),
        (RELU, (9,)),
        main=2,
    )


def gradients(channels: int, *, strided: bool) -> Kernel:
    """What two layers give for the value that both read."""
    first: Op = ops.ConvDgrad(HALVED, (28, 28)) if strided else ops.LinearDgrad()
    second: Op = first if strided else ops.ConvDgrad(SAME, (28, 28))
    dy = image(14 if strided else 28, channels)
    shapes = [(channels, 1, 1, channels) if strided else (channels, channels)]
    shapes.append((channels, 1, 1, channels) if strided else (channels, 3, 3, channels))
    types = (dy, weight(*shapes[0]), dy, weight(*shapes[1]), image(28, channels))
    sums = (ops.Add(), (6, 5)), (ops.ActivationGrad("relu"), (7, 4))
    return body(types, (first, (0, 1)), (second, (2, 3)), *sums, main=1)


def before(window: Op, size: int, channels: int, filters: int) -> Kernel:
    """A window with an activation before and behind it, then a product."""
    types = [image(size, channels), weight(filters, channels), vector(filters), vector(channels)]
    depthwise = isinstance(window, ops.Conv)
    if isinstance(window, ops.Conv):
        types.append(weight(channels, *window.window.kernel, 1))
    count = len(types)
    made = count + 1 + (2 if isinstance(window, ops.MaxPool) else 1)
    return body(
        types,
        (RELU, (0,)),
        (window, (count, 4) if depthwise else (count,)),
        (ops.BiasAdd(), (count + 1, 3)),
        (RELU, (made,)),
        (ops.Linear(), (made + 1, 1)),
        (ops.BiasAdd(), (made + 2, 2)),
        main=4,
    )


def normalised(size: int, channels: int) -> Kernel:
    """AlexNet's order: a pool, then channels against each other."""
    return Fused((Part("pool", ops.MaxPool(THREES), (0,)), Part("lrn", ops.Lrn(), (1,))), (3,)), (
        image(size, channels),
    )


def normalised_stem() -> Kernel:
    op, types = pooled(ops.MaxPool(THREES), SEVENS, 112, 3, 64)
    return Fused((*op.parts, Part("lrn", ops.Lrn(), (6,))), (8,)), types


def apart(channels: int) -> Kernel:
    """Merged siblings, each slice stored by itself."""
    counts = (channels // 2, 16, channels // 4)
    types = (image(28, channels), weight(sum(counts), channels), vector(sum(counts)))
    parts = (Part("product", ops.Linear(), (0, 1)), Part("bias", ops.BiasAdd(), (3, 2)))
    return Fused((*parts, Part("split", ops.Split(counts), (4,))), (5, 6, 7)), types


def kernels(wide: int) -> Mapping[str, Kernel]:
    """Representative ones; ``wide`` channels where a layer has many."""
    return {
        "vgg": pooled(ops.MaxPool(HALVES), SAME, 28, wide, wide),
        "vgg_index": pooled(ops.MaxPool(HALVES), SAME, 28, wide, wide, index=True),
        "stem": pooled(ops.MaxPool(THREES), SEVENS, 112, 3, 64),
        "stem_index": pooled(ops.MaxPool(THREES), SEVENS, 112, 3, 64, index=True),
        "average": pooled(ops.AvgPool(THREES), SAME, 28, wide, wide),
        "lrn": normalised(55, wide),
        "stem_lrn": normalised_stem(),
        "split": apart(wide),
        "projection": projected(wide),
        "gradients": gradients(wide, strided=False),
        "strided_gradients": gradients(wide, strided=True),
        "inception": before(ops.MaxPool(SAME), 28, wide, 32),
        "transition": before(ops.AvgPool(HALVES), 28, wide, wide),
        "separable": before(ops.Conv(SAME, wide), 28, wide, wide),
    }


def built(found: Mapping[str, Kernel], target: str, dtype: str) -> Binaries:
    """Raises where a kernel spills, is serialised or does not compile."""
    modules = {name: generate(plan_of(*kernel, target=target, dtype=dtype, n=128)) for name, kernel in found.items()}
    return build(modules, [target])


def test_kernels_of_kernels_meet_the_gates() -> None:
    names = ("vgg", "stem_lrn", "split", "projection", "strided_gradients", "inception", "separable")
    binaries = built({name: kernel for name, kernel in kernels(256).items() if name in names}, "sm_90", "bfloat16")
    assert {item.report.matrix for item in binaries.compiled.values()} == {"wgmma"}
    assert len(binaries.compiled) == len(names)


@pytest.mark.slow
@pytest.mark.parametrize("wide", [40, 256])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("target", TARGETS)
def test_everywhere(target: str, dtype: str, wide: int) -> None:
    binaries = built(kernels(wide), target, dtype)
    assert {item.report.spills for item in binaries.compiled.values()} == {0}
