"""Depthwise convolutions, forward and backward, against the oracle in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnc.codegen import generate
from cnnc.ir import ops
from cnnc.ir.ops import Fused, Op, Part
from cnnc.ir.plan import Tile
from cnnc.ir.types import Element
from cnnc.ir.window import Window
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.codegen.one_step import Operand, image, plan_of, relative_error, run_step, vector

TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 3e-3}

# Window, image, channels, multiplier, N.
CASES: dict[str, tuple[Window, tuple[int, int], int, int, int]] = {
    "same": (Window((3, 3), pad=(1, 1, 1, 1)), (7, 5), 17, 1, 3),
    "stride": (Window((3, 3), (2, 2), (1, 1, 1, 1)), (9, 8), 13, 1, 2),
    "stride over kernel": (Window((2, 1), (3, 2)), (8, 7), 5, 2, 2),
    "stride over image": (Window((1, 1), (3, 3)), (2, 1), 3, 1, 3),
    "multiplier": (Window((3, 3), pad=(1, 1, 1, 1)), (5, 6), 7, 2, 1),
    "multiplier and stride": (Window((3, 3), (2, 1), (1, 1, 1, 1)), (6, 5), 3, 5, 2),
    "dilation": (Window((3, 2), pad=(2, 2, 3, 0), dilation=(2, 3)), (8, 9), 5, 1, 2),
    "dilation and stride": (Window((3, 3), (2, 3), (2, 2, 1, 1), (2, 2)), (9, 10), 4, 2, 2),
    "asymmetric": (Window((4, 3), (2, 1), (0, 3, 2, 1)), (6, 5), 5, 1, 3),
    "1x1 image": (Window((3, 3), pad=(1, 1, 1, 1)), (1, 1), 5, 2, 4),
    "one tap": (Window((1, 1)), (4, 3), 11, 2, 1),
    "wide": (Window((1, 11), pad=(0, 0, 5, 5)), (3, 12), 3, 1, 2),  # more taps than a program keeps
    "large": (Window((7, 7), pad=(3, 3, 3, 3)), (9, 8), 2, 1, 2),
}
KINDS = ("fprop", "dgrad", "wgrad")


def _step(name: str, kind: str) -> tuple[Op, list[Operand]]:
    window, size, channels, multiplier, n = CASES[name]
    filters = channels * multiplier
    rng = np.random.default_rng(3)
    x = image(rng.standard_normal((n, *size, channels)).astype(np.float32))
    w = vector(rng.standard_normal((filters, *window.kernel, 1)).astype(np.float32), Element.REAL)
    dy = image(rng.standard_normal((n, *window.output(size), filters)).astype(np.float32))
    steps: dict[str, tuple[Op, list[Operand]]] = {
        "fprop": (ops.Conv(window, channels), [x, w]),
        "dgrad": (ops.ConvDgrad(window, size, channels), [dy, w]),
        "wgrad": (ops.ConvWgrad(window, channels), [dy, x]),
    }
    return steps[kind]


def _check(name: str, kind: str, dtype: str = "float32", **options: Any) -> np.ndarray[Any, Any]:
    op, operands = _step(name, kind)
    n = next(len(item.array) for item in operands if item.batched)
    (expected,) = evaluate_op(op, [item.array.astype(np.float64) for item in operands], Scalars(n))
    (found,) = run_step(op, operands, dtype=dtype, **options)
    assert found is not None
    assert relative_error(found, expected) < TOLERANCE[dtype]
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_depthwise(name: str, kind: str, device: str, target: str) -> None:
    _check(name, kind, device=device, target=target)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", KINDS)
def test_depthwise_nhwc_in_16_bits(kind: str, dtype: str, device: str, target: str) -> None:
    _check("multiplier and stride", kind, dtype, layout="NHWC", device=device, target=target)


@pytest.mark.parametrize("kind", KINDS)
def test_several_programs(kind: str, device: str) -> None:
    _check("same", kind, device=device, target="sm_90", tile=Tile(16, 4, 2))
    _check("multiplier", kind, device=device, target="sm_90", tile=Tile(8, 8, 2))


@pytest.mark.parametrize("splits", [2, 5])
def test_wgrad_split(splits: int, device: str) -> None:
    """More splits than blocks of rows too; the same bits every time."""
    tile = Tile(16, 8, 3, splits)
    first, again = (_check("multiplier", "wgrad", device=device, tile=tile) for _ in range(2))
    assert np.array_equal(first, again)


def test_wgrad_over_many_rows(device: str, target: str) -> None:
    """Sums of ones in 16 bits are exact where a float32 accumulator is."""
    x = np.ones((9, 30, 31, 3), np.float32)
    (dw,) = run_step(
        ops.ConvWgrad(Window((2, 2), pad=(1, 0, 0, 1)), 3),
        [image(x), image(x)],
        dtype="bfloat16",
        device=device,
        target=target,
    )
    expected = 9 * np.array([[29 * 31, 29 * 30], [30 * 31, 30 * 30]])
    assert dw is not None
    assert np.array_equal(dw, np.broadcast_to(expected[None, :, :, None], (3, 2, 2, 1)))


def test_epilogue(device: str, target: str) -> None:
    """conv + bias + residual + relu + dropout on the tile; the value before relu leaves too."""
    window = Window((3, 3), (2, 2), (0, 1, 1, 0))
    rng = np.random.default_rng(4)
    x = rng.standard_normal((2, 7, 6, 5)).astype(np.float32)
    w = rng.standard_normal((10, 3, 3, 1)).astype(np.float32)
    bias = rng.standard_normal(10).astype(np.float32)
    residual = rng.standard_normal((2, *window.output((7, 6)), 10)).astype(np.float32)
    parts = (
        Part("conv", ops.Conv(window, 5), (0, 1)),
        Part("bias", ops.BiasAdd(), (4, 2)),
        Part("add", ops.Add(), (5, 3)),
        Part("relu", ops.Activation("relu"), (6,)),
        Part("drop", ops.Dropout(0.5, 2), (7,)),
    )
    operands = [image(x), vector(w, Element.REAL), vector(bias), image(residual)]
    scalars = Scalars(2, seed=6)
    op = Fused(parts, (8, 6))
    found = run_step(op, operands, device=device, target=target, scalars=scalars)
    expected = evaluate_op(op, [item.array.astype(np.float64) for item in operands], scalars)
    for a, b in zip(found, expected, strict=True):
        assert a is not None
        assert relative_error(a, b) < 1e-5


def test_dgrad_and_activation_gradient(device: str, target: str) -> None:
    op, operands = _step("multiplier and stride", "dgrad")
    (x_type,) = op.infer(*(item.type for item in operands))
    y = np.random.default_rng(5).standard_normal((2, *x_type.shape)).astype(np.float32)
    parts = (Part("dgrad", op, (0, 1)), Part("relu", ops.ActivationGrad("relu"), (3, 2)))
    operands = [*operands, image(y)]
    (found,) = run_step(Fused(parts, (4,)), operands, device=device, target=target)
    (expected,) = evaluate_op(Fused(parts, (4,)), [item.array.astype(np.float64) for item in operands], Scalars(2))
    assert found is not None
    assert relative_error(found, expected) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_no_matrix_product(kind: str) -> None:
    """One group of several channels is a product; one channel in all is one, too."""
    op, operands = _step("same", kind)
    for target in ("interpret", "sm_90"):
        module = generate(plan_of(op, [item.type for item in operands], target=target))
        assert "tl.dot" not in module.source
        assert f"def depthwise_{kind}" in module.source
    window = Window((3, 3), pad=(1, 1, 1, 1))
    x, w = image(np.zeros((0, 4, 4, 1))).type, vector(np.zeros((6, 3, 3, 1)), Element.REAL).type
    assert "tl.dot" in generate(plan_of(ops.Conv(window), [x, w])).source
