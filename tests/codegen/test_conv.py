"""Convolutions and linear layers, forward and backward, against torch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from cnnc.codegen import generate
from cnnc.ir import ops
from cnnc.ir.ops import Op
from cnnc.ir.plan import Tile
from cnnc.ir.types import Element
from cnnc.ir.window import Window
from tests.codegen.one_step import image, plan_of, relative_error, run_step, vector

TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 3e-3}
REAL = Element.REAL

# Window, image, channels, filters, groups, N: odd sizes on purpose.
CASES: dict[str, tuple[Window, tuple[int, int], int, int, int, int]] = {
    "3x3 same": (Window((3, 3), pad=(1, 1, 1, 1)), (7, 5), 17, 13, 1, 3),
    "few channels": (Window((3, 3), pad=(1, 1, 1, 1)), (6, 7), 3, 8, 1, 2),
    "one channel": (Window((5, 5)), (9, 11), 1, 7, 1, 5),
    "1x1 image": (Window((3, 3), pad=(1, 1, 1, 1)), (1, 1), 5, 3, 1, 4),
    "batch of one": (Window((3, 2), pad=(1, 0, 0, 1)), (5, 6), 4, 6, 1, 1),
    "stride": (Window((3, 3), (2, 2), (1, 1, 1, 1)), (9, 8), 19, 5, 1, 2),
    "stride over kernel": (Window((2, 1), (3, 2)), (8, 7), 5, 6, 1, 2),
    "stride over image": (Window((1, 1), (3, 3)), (2, 1), 18, 17, 1, 3),
    "asymmetric": (Window((4, 3), (2, 1), (0, 3, 2, 1)), (6, 5), 20, 6, 1, 3),
    "dilation": (Window((3, 2), pad=(2, 2, 3, 0), dilation=(2, 3)), (8, 9), 18, 4, 1, 2),
    "dilation and stride": (Window((3, 3), (2, 3), (2, 2, 1, 1), (2, 2)), (9, 10), 18, 19, 1, 2),
    "groups": (Window((3, 3), (1, 2), (1, 1, 1, 1)), (6, 6), 15, 9, 3, 2),
    "wide groups": (Window((3, 3), pad=(1, 1, 1, 1)), (4, 5), 36, 38, 2, 2),
    "depthwise": (Window((3, 3), (2, 2), (1, 1, 1, 1)), (7, 7), 11, 11, 11, 2),
    "multiplier": (Window((3, 3), pad=(1, 1, 1, 1)), (5, 5), 5, 10, 5, 2),
    "large stride": (Window((11, 11), (4, 4)), (23, 23), 3, 8, 1, 1),
}


class Case:
    """Operands of one case and torch's results for them."""

    def __init__(self, name: str, seed: int = 0) -> None:
        self.window, self.size, channels, filters, self.groups, n = CASES[name]
        rng = np.random.default_rng(seed)
        self.x = rng.standard_normal((n, *self.size, channels)).astype(np.float32)
        self.w = rng.standard_normal((filters, *self.window.kernel, channels // self.groups)).astype(np.float32)
        self.dy = rng.standard_normal((n, *self.window.output(self.size), filters)).astype(np.float32)

    def expected(self) -> tuple[Any, Any, Any]:
        """y, dx, dw in our order."""
        x, w = (torch.tensor(a).double().permute(0, 3, 1, 2).requires_grad_() for a in (self.x, self.w))
        top, bottom, left, right = self.window.pad
        padded = functional.pad(x, (left, right, top, bottom))
        stride, dilation = self.window.stride, self.window.dilation
        y = functional.conv2d(padded, w, stride=stride, dilation=dilation, groups=self.groups)
        dx, dw = torch.autograd.grad(y, (x, w), torch.tensor(self.dy).double().permute(0, 3, 1, 2))
        y, dx, dw = (t.detach().permute(0, 2, 3, 1).numpy() for t in (y, dx, dw))
        return y, dx, dw

    def run(self, which: str, **options: Any) -> np.ndarray[Any, Any]:
        x, dy, w = image(self.x), image(self.dy), vector(self.w, REAL)
        steps: dict[str, tuple[Op, list[Any]]] = {
            "fprop": (ops.Conv(self.window, self.groups), [x, w]),
            "dgrad": (ops.ConvDgrad(self.window, self.size, self.groups), [dy, w]),
            "wgrad": (ops.ConvWgrad(self.window, self.groups), [dy, x]),
        }
        op, operands = steps[which]
        (result,) = run_step(op, operands, **options)
        assert result is not None
        return result


KINDS = ("fprop", "dgrad", "wgrad")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_conv(name: str, kind: str, device: str, target: str) -> None:
    case = Case(name)
    found = case.run(kind, device=device, target=target)
    assert relative_error(found, case.expected()[KINDS.index(kind)]) < TOLERANCE["float32"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["3x3 same", "few channels", "stride", "groups"])
def test_conv_nhwc(name: str, kind: str, device: str, target: str) -> None:
    case = Case(name)
    found = case.run(kind, device=device, target=target, layout="NHWC")
    assert relative_error(found, case.expected()[KINDS.index(kind)]) < TOLERANCE["float32"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["3x3 same", "few channels", "stride"])
def test_conv_16_bit(name: str, kind: str, dtype: str, device: str, target: str) -> None:
    case = Case(name)
    found = case.run(kind, device=device, target=target, dtype=dtype)
    assert relative_error(found, case.expected()[KINDS.index(kind)]) < TOLERANCE[dtype]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["3x3 same", "stride", "wide groups", "stride over image", "dilation and stride"])
def test_conv_with_a_gpu_tile(name: str, kind: str, device: str) -> None:
    """Blocks of one tap, several programs and steps: what a card runs."""
    case = Case(name)
    tile = Tile(32, 16, 16)
    found = case.run(kind, device=device, target="sm_90", tile=tile)
    assert relative_error(found, case.expected()[KINDS.index(kind)]) < TOLERANCE["float32"]


@pytest.mark.parametrize(("name", "splits"), [("3x3 same", 2), ("few channels", 16), ("groups", 2)])
def test_wgrad_split(name: str, splits: int, device: str) -> None:
    """More splits than blocks of rows too: the idle ones must leave zeros."""
    case = Case(name)
    found = case.run("wgrad", device=device, tile=Tile(16, 16, 32, splits))
    assert relative_error(found, case.expected()[2]) < TOLERANCE["float32"]
    assert np.array_equal(found, case.run("wgrad", device=device, tile=Tile(16, 16, 32, splits)))


def test_one_kernel_for_layers_that_differ_in_size() -> None:
    """Channels and image sizes are runtime numbers: the text and the constants agree."""
    window = Window((3, 3), pad=(1, 1, 1, 1))
    launches = []
    for size, channels, filters in ((56, 128, 256), (28, 256, 512)):
        x = image(np.zeros((0, size, size, channels))).type
        w = vector(np.zeros((filters, 3, 3, channels)), REAL).type
        module = generate(plan_of(ops.Conv(window), [x, w], dtype="bfloat16", target="sm_90", n=64))
        launches.append((module.source, module.tables[0].steps["step"][0]))
    assert launches[0][0] == launches[1][0]
    assert launches[0][1].constants == launches[1][1].constants


LINEAR_SHAPES = [(4, 5, 3), (1, 17, 11), (33, 130, 70)]


@pytest.mark.parametrize("shape", LINEAR_SHAPES)
@pytest.mark.parametrize("spatial", [(), (3, 2), (1, 1)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_linear(shape: tuple[int, int, int], spatial: tuple[int, ...], dtype: str, device: str, target: str) -> None:
    n, channels, filters = shape
    rng = np.random.default_rng(1)
    x = rng.standard_normal((n, *spatial, channels)).astype(np.float32)
    w = rng.standard_normal((filters, channels)).astype(np.float32)
    dy = rng.standard_normal((n, *spatial, filters)).astype(np.float32)
    options: dict[str, Any] = {"device": device, "target": target, "dtype": dtype}
    (y,) = run_step(ops.Linear(), [image(x), vector(w, REAL)], **options)
    (dx,) = run_step(ops.LinearDgrad(), [image(dy), vector(w, REAL)], **options)
    (dw,) = run_step(ops.LinearWgrad(), [image(dy), image(x)], **options)
    (split,) = run_step(ops.LinearWgrad(), [image(dy), image(x)], tile=Tile(16, 16, 16, 4), **options)
    x, w, dy = (a.astype(np.float64) for a in (x, w, dy))
    expected_dw = np.einsum("mk,mc->kc", dy.reshape(-1, filters), x.reshape(-1, channels))
    for found, expected in ((y, x @ w.T), (dx, dy @ w), (dw, expected_dw), (split, expected_dw)):
        assert found is not None
        assert relative_error(found, expected) < TOLERANCE[dtype]
