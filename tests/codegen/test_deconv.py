"""Kernels of the transposed convolution as a layer, with what follows it, against torch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from cnnc.codegen import generate
from cnnc.ir import ops
from cnnc.ir.ops import Fused, Part
from cnnc.ir.plan import Tile
from cnnc.ir.types import Element, TensorType
from cnnc.ir.window import Window
from cnnc.passes.tiles import choose_tile
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.codegen.one_step import image, plan_of, relative_error, run_step, vector
from tests.numerics.test_deconv import CASES, image_of, transposed

TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}
REAL = Element.REAL
# What a card runs: one tap at a time, several programs.
SMALL = Tile(16, 16, 16)

Array = np.ndarray[Any, Any]


class Case:
    """Operands of one case, torch's results for them, and ours."""

    def __init__(self, name: str) -> None:
        n, size, channels, filters, self.groups, self.window, extra = CASES[name]
        self.result = image_of(self.window, size, extra)
        rng = np.random.default_rng(21)
        self.x = rng.standard_normal((n, *size, channels)).astype(np.float32)
        self.w = rng.standard_normal((channels, *self.window.kernel, filters // self.groups)).astype(np.float32)
        self.dy = rng.standard_normal((n, *self.result, filters)).astype(np.float32)

    def expected(self) -> list[Array]:
        """y, dx, dw."""
        x, w = (torch.tensor(a).double().permute(0, 3, 1, 2).requires_grad_() for a in (self.x, self.w))
        y = transposed(self.window, self.result, self.groups, x, w)
        dx, dw = torch.autograd.grad(y, (x, w), torch.tensor(self.dy).double().permute(0, 3, 1, 2))
        return [t.detach().permute(0, 2, 3, 1).numpy() for t in (y, dx, dw)]

    def run(self, *, weight: Element = REAL, **options: Any) -> list[Array | None]:
        x, dy, w = image(self.x), image(self.dy), vector(self.w, weight)
        return [
            *run_step(ops.ConvDgrad(self.window, self.result, self.groups), [x, w], **options),
            *run_step(ops.Conv(self.window, self.groups), [dy, w], **options),
            *run_step(ops.ConvWgrad(self.window, self.groups), [x, dy], **options),
        ]


def compare(case: Case, tolerance: float, **options: Any) -> None:
    for found, expected in zip(case.run(**options), case.expected(), strict=True):
        assert found is not None
        assert relative_error(found, expected) < tolerance


@pytest.mark.parametrize("name", CASES)
def test_against_torch(name: str, device: str, target: str) -> None:
    compare(Case(name), TOLERANCE["float32"], device=device, target=target)


@pytest.mark.parametrize(("name", "layout"), [("doubling", "HWNC"), ("doubling", "NHWC"), ("asymmetric", "HWNC")])
def test_with_a_gpu_tile(name: str, layout: str, device: str) -> None:
    compare(Case(name), TOLERANCE["float32"], device=device, layout=layout, tile=SMALL, target="sm_90")


@pytest.mark.parametrize("weight", [REAL, Element.ACC])
@pytest.mark.parametrize("name", ["doubling", "groups", "one_pixel"])
def test_in_16_bits(name: str, weight: Element, device: str, target: str) -> None:
    """A fixed kernel stays in float32 and is rounded where it is loaded."""
    compare(Case(name), TOLERANCE["bfloat16"], device=device, target=target, dtype="bfloat16", weight=weight)


@pytest.mark.parametrize("name", ["doubling", "groups", "stride_beyond_kernel_and_more", "one_pixel_batch"])
def test_what_follows_runs_in_the_same_kernel(name: str, device: str, target: str) -> None:
    """Bias, batch norm, activation, a residual and dropout, at each pixel's own place."""
    case = Case(name)
    channels = case.dy.shape[3]
    rng = np.random.default_rng(22)
    bias, gamma, beta, mean = (rng.standard_normal(channels).astype(np.float32) for _ in range(4))
    var = rng.uniform(0.5, 2, channels).astype(np.float32)
    parts = (
        Part("deconv", ops.ConvDgrad(case.window, case.result, case.groups), (0, 1)),
        Part("bias", ops.BiasAdd(), (8, 2)),
        Part("bn", ops.BatchNorm(), (9, 3, 4, 5, 6)),
        Part("tanh", ops.Activation("tanh"), (10,)),
        Part("add", ops.Add(), (11, 7)),
        Part("drop", ops.Dropout(0.3, 2), (12,)),
    )
    body = Fused(parts, (13,))
    vectors = [bias, gamma, beta, mean, var]
    operands = [image(case.x), vector(case.w, REAL), *(vector(v) for v in vectors), image(case.dy)]
    scalars = Scalars(len(case.x), seed=3, step=4)
    (found,) = run_step(body, operands, device=device, target=target, scalars=scalars)
    exact = [a.astype(np.float64) for a in (case.x, case.w, *vectors, case.dy)]
    assert found is not None
    assert relative_error(found, evaluate_op(body, exact, scalars)[0]) < TOLERANCE["float32"]


@pytest.mark.parametrize("stride", [8, pytest.param(32, marks=pytest.mark.slow)])
def test_fcn_in_the_interpreter(stride: int) -> None:
    """16x16 with stride 8 and 64x64 with stride 32, 21 channels, on 2x3: no phase meets taps that are not its own."""
    window, result = Window((2 * stride,) * 2, (stride, stride)), (3 * stride, 4 * stride)
    rng = np.random.default_rng(23)
    x = rng.standard_normal((1, 2, 3, 21)).astype(np.float32)
    w = rng.standard_normal((21, *window.kernel, 21)).astype(np.float32)
    (found,) = run_step(ops.ConvDgrad(window, result), [image(x), vector(w, REAL)])
    tensors = (torch.tensor(a).double().permute(0, 3, 1, 2) for a in (x, w))
    expected = functional.conv_transpose2d(*tensors, stride=stride).permute(0, 2, 3, 1).numpy()
    assert found is not None
    assert relative_error(found, expected) < TOLERANCE["float32"]


def test_phases_of_a_large_stride() -> None:
    """On cards too: a step of few channels gathers taps only where it holds more of them than a phase skips."""
    for channels, stride, name in (
        (21, 32, "conv_dgrad_phases"),
        (2, 32, "conv_dgrad_phases"),
        (2, 2, "conv_dgrad_gather"),
    ):
        window = Window((2 * stride, 2 * stride), (stride, stride))
        side = 17 * stride
        types = TensorType((16, 16, channels)), TensorType((channels, *window.kernel, channels), False)
        plan = plan_of(ops.ConvDgrad(window, (side, side)), types, target="sm_90", dtype="bfloat16")
        (launch,) = generate(plan).tables[0].steps["step"]
        assert launch.kernel == name
        if name == "conv_dgrad_phases":
            assert launch.grid[1].at(1) == stride**2


def test_the_interpreter_s_tile_holds_one_phase() -> None:
    window = Window((64, 64), (32, 32))
    op, types = ops.ConvDgrad(window, (544, 544)), (TensorType((16, 16, 21)), TensorType((21, 64, 64, 21), False))
    tile = choose_tile(op, types, op.infer(*types), 1, "interpret", "float32")
    assert tile is not None
    assert (tile.m, tile.k) == (512, 32)
