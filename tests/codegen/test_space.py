"""Kernels of borders, crops, shortcuts, up-sampling and sum pools against the oracle in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnc.codegen import generate
from cnnc.ir import ops
from cnnc.ir.ops import Fused, Op, Part
from cnnc.ir.plan import Tile
from cnnc.ir.types import Element
from cnnc.ir.window import Window, tensorflow_same_padding
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.codegen.one_step import image, plan_of, relative_error, run_step, vector

TOLERANCE = {"float32": 1e-6, "bfloat16": 2e-2}

Shape = tuple[int, int, int, int]  # N, H, W, C

# The forward op, its gradient, and the shape of x.
CASES: dict[str, tuple[Op, Op, Shape]] = {
    "sum_pool": (
        ops.SumPool(Window((3, 2), (2, 1), (1, 1, 0, 1))),
        ops.SumPoolGrad(Window((3, 2), (2, 1), (1, 1, 0, 1)), (7, 6)),
        (2, 7, 6, 13),
    ),
    "sum_pool_ceil": (
        ops.SumPool(Window((3, 3), (2, 2), ceil=True)),
        ops.SumPoolGrad(Window((3, 3), (2, 2), ceil=True), (6, 8)),
        (3, 6, 8, 5),
    ),
    "sum_pool_one_tap": (
        ops.SumPool(Window((1, 1), (3, 2))),
        ops.SumPoolGrad(Window((1, 1), (3, 2)), (5, 1)),
        (1, 5, 1, 3),
    ),
    "zero_pad": (ops.ZeroPad((1, 2, 0, 4)), ops.Crop((1, 0), (3, 5)), (2, 3, 5, 7)),
    "zero_pad_far": (ops.ZeroPad((0, 100, 100, 0)), ops.Crop((0, 100), (1, 1)), (1, 1, 1, 3)),
    "zero_pad_nothing": (ops.ZeroPad((0, 0, 0, 0)), ops.Crop((0, 0), (3, 2)), (2, 3, 2, 5)),
    "pad_shortcut": (ops.PadShortcut((2, 2), 11), ops.PadShortcutGrad((2, 2), (7, 7), 5), (2, 7, 7, 5)),
    "pad_shortcut_uneven": (ops.PadShortcut((1, 3), 13), ops.PadShortcutGrad((1, 3), (4, 5), 13), (3, 4, 5, 13)),
    "pad_shortcut_pixel": (ops.PadShortcut((2, 2), 34), ops.PadShortcutGrad((2, 2), (1, 1), 17), (1, 1, 1, 17)),
    **{
        f"{mode}_{factor[0]}x{factor[1]}": (ops.Upsample(factor, mode), ops.UpsampleGrad(factor, mode), shape)
        for mode in ("nearest", "bilinear")
        for factor, shape in {
            (2, 2): (2, 3, 5, 7),
            (1, 3): (1, 4, 3, 13),
            (5, 1): (2, 3, 2, 5),
            (4, 5): (3, 1, 1, 3),
            (1, 1): (2, 2, 3, 3),
        }.items()
    },
}


def _normal(*shape: int, seed: int = 5) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _both_ways(name: str, dtype: str, **options: Any) -> None:
    forward, backward, shape = CASES[name]
    (y_type,) = forward.infer(image(np.zeros(shape)).type)
    for op, given in ((forward, shape), (backward, (shape[0], *y_type.shape))):
        x = _normal(*given)
        (found,) = run_step(op, [image(x)], dtype=dtype, **options)
        (expected,) = evaluate_op(op, (x.astype(np.float64),), Scalars(len(x)))
        assert found is not None
        assert relative_error(found, expected) < TOLERANCE[dtype], op


@pytest.mark.parametrize("layout", ["HWNC", "NHWC"])
@pytest.mark.parametrize("name", CASES)
def test_both_ways(name: str, layout: str, device: str, target: str) -> None:
    _both_ways(name, "float32", layout=layout, device=device, target=target)


@pytest.mark.parametrize("name", ["sum_pool", "zero_pad", "pad_shortcut", "nearest_2x2", "bilinear_2x2"])
def test_in_16_bits_and_on_a_small_tile(name: str, device: str) -> None:
    """Several programs along both axes of the tile."""
    _both_ways(name, "bfloat16", device=device)
    _both_ways(name, "float32", device=device, target="sm_90", tile=Tile(8, 4, 1))


def test_infinities_stay_where_they_are(device: str) -> None:
    """Nothing outside is multiplied by zero: borders of infinite images are zeros."""
    x = np.full((1, 2, 2, 3), np.inf, np.float32)
    (padded,) = run_step(ops.ZeroPad((1, 1, 1, 1)), [image(x)], device=device)
    (wide,) = run_step(ops.PadShortcut((1, 1), 4), [image(x)], device=device)
    assert padded is not None
    assert wide is not None
    assert np.isinf(padded).sum() == 12
    assert (padded[0, 0] == 0).all()
    assert (wide[..., 3] == 0).all()


def test_shortcut_and_what_follows(device: str, target: str) -> None:
    """A block's end on the shortcut's tile: the bias has the new channels, the other arm their shape."""
    x, other, bias = _normal(2, 5, 5, 3), _normal(2, 3, 3, 8, seed=6), _normal(8, seed=7)
    parts = (
        Part("shortcut", ops.PadShortcut((2, 2), 8), (0,)),
        Part("bias", ops.BiasAdd(), (3, 2)),
        Part("add", ops.Add(), (4, 1)),
        Part("relu", ops.Activation("relu"), (5,)),
        Part("drop", ops.Dropout(0.25, 3), (6,)),
    )
    op, scalars = Fused(parts, (7,)), Scalars(2, seed=8)
    operands = [image(x), image(other), vector(bias)]
    (found,) = run_step(op, operands, device=device, target=target, scalars=scalars)
    (expected,) = evaluate_op(op, [item.array.astype(np.float64) for item in operands], scalars)
    assert found is not None
    assert relative_error(found, expected) < 1e-6


def test_one_kernel_for_layers_that_differ_in_size() -> None:
    """Image sizes, borders and offsets are runtime numbers."""
    sources = set()
    for pad in ((1, 1, 1, 1), (0, 3, 2, 0)):
        kind = image(np.zeros((0, 4 + pad[0], 5, 16))).type
        sources.add(generate(plan_of(ops.ZeroPad(pad), [kind], target="sm_90")).source)
    assert len(sources) == 1


@pytest.mark.parametrize("size", [(7, 8), (10, 5), (6, 1)])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_pools_with_tensorflow_s_padding(size: tuple[int, int], stride: int, device: str) -> None:
    """``same=tf`` pads unevenly: forward and backward of all three pools."""
    window = Window((3, 3), (stride, stride), tensorflow_same_padding(size, (3, 3), (stride, stride), (1, 1)))
    x, dy = _normal(2, *size, 5), _normal(2, *window.output(size), 5, seed=6)
    scalars = Scalars(2)
    y, index = run_step(ops.MaxPool(window), [image(x)], device=device)
    expected, winners = evaluate_op(ops.MaxPool(window), (x,), scalars)
    assert np.array_equal(y, expected)
    assert np.array_equal(index, winners)
    pairs = [(ops.MaxPoolGrad(window, size), [dy, winners])]
    for forward, backward in ((ops.AvgPool, ops.AvgPoolGrad), (ops.SumPool, ops.SumPoolGrad)):
        pairs += [(forward(window), [x]), (backward(window, size), [dy])]
    for op, arrays in pairs:
        operands = [image(array, Element.INDEX if array is winners else Element.REAL) for array in arrays]
        (found,) = run_step(op, operands, device=device)
        (wanted,) = evaluate_op(op, arrays, scalars)
        assert found is not None
        assert relative_error(found, wanted) < 1e-6, op
