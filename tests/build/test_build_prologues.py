"""Kernels with prologues compiled for GPUs that are not there, at the sizes of real networks."""

from __future__ import annotations

import pytest

from cnnc.codegen import generate
from cnnc.codegen.build import Binaries, build
from cnnc.ir import ops
from cnnc.ir.types import TensorType
from cnnc.ir.window import Window
from cnnc.passes.tiles import choose_tile
from tests.codegen.one_step import plan_of
from tests.codegen.prologues import with_prologue

SAME = Window((3, 3), pad=(1, 1, 1, 1))
HALF = Window((1, 1), (2, 2))


def image(size: int, channels: int) -> TensorType:
    return TensorType((size, size, channels))


def weight(*shape: int) -> TensorType:
    return TensorType(shape, False)


# Bottlenecks of 128 channels, forward and backward; a dense layer of odd widths.
KERNELS = {
    "expand": with_prologue((ops.Linear(), (image(28, 128), weight(512, 128))), "apply", (0,)),
    "reduce": with_prologue((ops.Linear(), (image(28, 512), weight(128, 512))), "residual", (0,), (0,)),
    "dgrad": with_prologue((ops.LinearDgrad(), (image(28, 512), weight(512, 128))), "input_grad", (0,), (0,)),
    "wgrad": with_prologue(
        (ops.LinearWgrad(), (image(28, 128), image(28, 512))), ("input_grad", "apply"), (0, 1), (0,)
    ),
    "conv": with_prologue((ops.Conv(SAME), (image(28, 128), weight(128, 3, 3, 128))), "apply", (0,)),
    "project": with_prologue((ops.Conv(HALF), (image(56, 256), weight(512, 1, 1, 256))), "apply", (0,)),
    "conv_wgrad": with_prologue((ops.ConvWgrad(SAME), (image(28, 128), image(28, 128))), "input_grad", (0,), (0,)),
}
ODD = {
    "odd": with_prologue((ops.Linear(), (image(14, 60), weight(52, 60))), "residual", (0,), (0,)),
    "odd_wgrad": with_prologue(
        (ops.LinearWgrad(), (image(14, 60), image(14, 52))), ("input_grad", "apply"), (0, 1), (0,)
    ),
    "few_wgrad": with_prologue((ops.ConvWgrad(SAME), (image(28, 36), image(28, 3))), "input_grad", (0,), (0,)),
    "pool": with_prologue((ops.MaxPool(Window((3, 3), (2, 2), (1, 1, 1, 1))), (image(112, 64),)), "apply", (0,)),
    "stats": with_prologue((ops.BatchNormStats(), (image(28, 128),)), "residual", (0,), (0,)),
}


def built(names: list[str], target: str, dtype: str, *, described: bool = False) -> Binaries:
    """The kernels by pointers or descriptors; raises where one spills, is serialised or does not compile."""
    modules = {}
    for name in names:
        op, types = {**KERNELS, **ODD}[name]
        tile = choose_tile(op, tuple(types), op.infer(*types), 128, target, dtype, described=described)
        modules[name] = generate(plan_of(op, types, target=target, dtype=dtype, n=128, tile=tile))
    return build(modules, [target])


@pytest.mark.parametrize("described", [False, True])
def test_products_run_on_while_factors_are_computed(described: bool) -> None:
    """On Hopper a first factor from registers would serialise them: the products are turned."""
    binaries = built(["expand", "wgrad"], "sm_90", "bfloat16", described=described)
    assert {compiled.report.matrix for compiled in binaries.compiled.values()} == {"wgmma"}
    assert "turned = tl.dot(" in binaries.source


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_everywhere(target: str, dtype: str) -> None:
    binaries = built([*KERNELS, *ODD], target, dtype)
    assert all(compiled.report.spills == 0 for compiled in binaries.compiled.values())


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_90", "sm_100"])
def test_in_blocks(target: str) -> None:
    assert built(list(KERNELS), target, "bfloat16", described=True).compiled
