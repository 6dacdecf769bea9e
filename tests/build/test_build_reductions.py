"""Products whose programs walk over rows and sum them, compiled for GPUs that are not there."""

from __future__ import annotations

import pytest

from cnnc.codegen import generate
from cnnc.codegen.build import Binaries, build
from cnnc.ir import ops
from cnnc.ir.ops import Fused, Op, Part
from cnnc.ir.types import Element, TensorType
from cnnc.ir.window import Window
from tests.codegen.one_step import plan_of

SAME = Window((3, 3), pad=(1, 1, 1, 1))
STRIDED = Window((3, 3), (2, 2), (1, 1, 1, 1))
PROJECTION = Window((1, 1), (2, 2))


def _anchors(channels: int) -> dict[str, tuple[Op, tuple[TensorType, ...]]]:
    def x(size: int, width: int = channels) -> TensorType:
        return TensorType((size, size, width))

    def w(*shape: int) -> TensorType:
        return TensorType(shape, False)

    wide = 4 * channels
    return {
        "conv": (ops.Conv(SAME), (x(28), w(channels, 3, 3, channels))),
        "conv_strided": (ops.Conv(STRIDED), (x(28), w(channels, 3, 3, channels))),
        "projection": (ops.Conv(PROJECTION), (x(28), w(wide, 1, 1, channels))),
        "expand": (ops.Linear(), (x(28), w(wide, channels))),
        "reduce": (ops.Linear(), (x(28, wide), w(channels, wide))),
        "dgrad": (ops.ConvDgrad(SAME, (28, 28)), (x(28), w(channels, 3, 3, channels))),
        "dgrad_strided": (ops.ConvDgrad(STRIDED, (28, 28)), (x(14), w(channels, 3, 3, channels))),
        "dgrad_projection": (ops.ConvDgrad(PROJECTION, (28, 28)), (x(14, wide), w(wide, 1, 1, channels))),
        "expand_dgrad": (ops.LinearDgrad(), (x(28, wide), w(wide, channels))),
        "reduce_dgrad": (ops.LinearDgrad(), (x(28), w(channels, wide))),
    }


def forward(anchor: Op, types: tuple[TensorType, ...]) -> tuple[Fused, list[TensorType]]:
    """Statistics and their update."""
    (made,) = anchor.infer(*types)
    vector = TensorType(made.shape[-1:], False, Element.ACC)
    parts = (
        Part("a", anchor, (0, 1)),
        Part("stats", ops.BatchNormStats(), (4,)),
        Part("update", ops.BatchNormUpdate(0.1, 784), (2, 3, 5, 6)),
    )
    return Fused(parts, (4, 5, 6, 7, 8)), [*types, vector, vector]


def backward(anchor: Op, types: tuple[TensorType, ...]) -> tuple[Fused, list[TensorType]]:
    """The skip path's gradient added, relu's taken, then what batch norm and a bias want."""
    (made,) = anchor.infer(*types)
    vector = TensorType(made.shape[-1:], False, Element.ACC)
    parts = (
        Part("a", anchor, (0, 1)),
        Part("add", ops.Add(), (7, 2)),
        Part("grad", ops.ActivationGrad("relu"), (8, 3)),
        Part("reduce", ops.BatchNormReduce(), (9, 4, 5, 6)),
    )
    return Fused(parts, (9, 10, 11)), [*types, made, made, made, vector, vector]


def built(channels: int, target: str, dtype: str, *names: str) -> Binaries:
    """Raises where a kernel spills, is serialised or does not compile."""
    modules = {}
    for name, (anchor, types) in _anchors(channels).items():
        if names and name not in names:
            continue
        for tail in (forward, backward):
            op, operands = tail(anchor, types)
            modules[f"{name}_{tail.__name__}"] = generate(plan_of(op, operands, target=target, dtype=dtype, n=128))
    return build(modules, [target])


def test_matrix_instructions_stay_asynchronous() -> None:
    """A loop over rows around the loop over channels does not serialise wgmma."""
    binaries = built(64, "sm_90", "bfloat16", "conv", "expand_dgrad", "dgrad_strided")
    assert {compiled.report.matrix for compiled in binaries.compiled.values()} == {"wgmma"}


@pytest.mark.slow
@pytest.mark.parametrize("channels", [37, 64, 256])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_everywhere(target: str, dtype: str, channels: int) -> None:
    binaries = built(channels, target, dtype)
    assert all(compiled.report.spills == 0 for compiled in binaries.compiled.values())
