"""Ops on single elements, masked and binary weights compiled for GPUs that are not there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cnnc.codegen import generate
from cnnc.codegen.build import Binaries, build
from cnnc.ir import ops
from cnnc.ir.model import Model
from cnnc.ir.ops import Fused, Part
from cnnc.ir.types import Element, TensorType
from cnnc.ir.window import Window
from cnnc.passes.pipelines import compile_plan
from tests.codegen.one_step import plan_of
from tests.pointwise_network import pointwise_network

TARGETS = ("sm_80", "sm_90", "sm_100", "gfx942")
SAME = Window((3, 3), pad=(1, 1, 1, 1))
ALPHA = {"leaky_relu": 0.1, "elu": 1.0, "sign": 0.0, "inverse_deviation": 0.5}


def built(model: Model, target: str, dtype: str, buckets: slice = slice(None)) -> Binaries:
    """Forward, backward and the update; raises where a kernel spills, is serialised or does not compile."""
    plans = {variant: compile_plan(model, variant, target, dtype) for variant in ("vjp", "update")}
    plans = {variant: replace(plan, schedules=plan.schedules[buckets]) for variant, plan in plans.items()}
    return build({variant: generate(plan) for variant, plan in plans.items()}, [target])


def test_kernels_of_this_family_meet_the_gates() -> None:
    """Those of large batches, to be quick."""
    binaries = built(pointwise_network(16), "sm_90", "bfloat16", slice(-1, None))
    names = {request.kernel for request in binaries.work.requests.values()}
    for name in ("mask_weight", "binarize", "batch_sum", "sgd_update", "linear_fprop_position_bias_scaled_tanh"):
        assert name in names
    for word in ("prelu_grad", "prelu_slope_grad", "elu_grad", "sign_grad", "sqrt_grad", "deviation_grad"):
        assert any(word in name for name in names), word


def behind_products(channels: int, target: str, dtype: str) -> Binaries:
    """Every part of the family in the epilogue of a convolution, forward and backward, where wgmma is at stake."""
    x, v = TensorType((14, 14, channels)), TensorType((channels,), False, Element.ACC)
    w = TensorType((channels, 3, 3, channels), False)
    parts: list[tuple[ops.Op, tuple[TensorType, ...]]] = [
        *((ops.Activation(kind, ALPHA.get(kind, 0.0)), ()) for kind in ops.ACTIVATIONS),
        *((ops.ActivationGrad(kind, ALPHA.get(kind, 0.0)), (x,)) for kind in ops.ACTIVATIONS),
        (ops.PRelu(), (v,)),
        (ops.PReluGrad(), (x, v)),
        (ops.PReluSlopeGrad(), (x,)),
        (ops.ChannelScale(), (v,)),
        (ops.Mul(), (x,)),
        (ops.PositionBias(), (TensorType(x.shape, False, Element.ACC),)),
    ]
    modules = {}
    for number, (part, others) in enumerate(parts):
        anchor = ops.ConvDgrad(SAME, (14, 14)) if "grad" in part.name else ops.Conv(SAME)
        start = 2 + len(others)
        fused = Fused((Part("a", anchor, (0, 1)), Part("b", part, (start, *range(2, start)))), (start + 1,))
        modules[str(number)] = generate(plan_of(fused, (x, w, *others), target=target, dtype=dtype, n=64))
    return build(modules, [target])


@pytest.mark.slow
@pytest.mark.parametrize("channels", [37, 256])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("target", TARGETS)
def test_every_part_behind_products(target: str, dtype: str, channels: int) -> None:
    binaries = behind_products(channels, target, dtype)
    assert all(compiled.report.spills == 0 for compiled in binaries.compiled.values())


@pytest.mark.slow
@pytest.mark.parametrize("width", [13, 64])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("target", TARGETS)
def test_everywhere(target: str, dtype: str, width: int) -> None:
    assert built(pointwise_network(width), target, dtype).compiled
