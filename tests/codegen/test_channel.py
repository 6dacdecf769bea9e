"""Kernels of concatenation, slices, shuffles, maxout and LRN, against torch in float64."""

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
from cnnc.ir.types import TensorType
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.codegen.one_step import image, plan_of, relative_error, run_step

TOLERANCE = {"float32": 1e-6, "bfloat16": 1e-2}
SHAPES: list[tuple[int, ...]] = [(1, 1, 1), (3, 5, 4), (2,), (65,)]
LAYOUTS = ["HWNC", "NHWC"]
# Smaller than a channel count, several programs: what a card runs.
SMALL = Tile(8, 4, 1)

Array = np.ndarray[Any, Any]


def drawn(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def first(*torch_order: Array) -> list[torch.Tensor]:
    """In float64 with the channels second, as torch has them."""
    return [torch.tensor(a).double().movedim(-1, 1).requires_grad_() for a in torch_order]


def last(tensor: torch.Tensor) -> Array:
    return tensor.detach().movedim(1, -1).numpy()


def run(op: ops.Op, *arrays: Array, **options: Any) -> Array:
    (result,) = run_step(op, [image(array) for array in arrays], **options)
    assert result is not None
    return result


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("lead", SHAPES)
@pytest.mark.parametrize("widths", [(3,), (7, 2, 13), (16, 1, 3, 11, 33)])
def test_concat(lead: tuple[int, ...], widths: tuple[int, ...], layout: str, device: str, target: str) -> None:
    arrays = [drawn(seed, *lead, width) for seed, width in enumerate(widths)]
    joined = np.concatenate(arrays, -1)
    options: dict[str, Any] = {"layout": layout, "device": device, "target": target}
    assert np.array_equal(run(ops.Concat(), *arrays, **options), joined)
    for found, array in zip(run_step(ops.Split(widths), [image(joined)], **options), arrays, strict=True):
        assert np.array_equal(found, array)
    start = 0
    for width, array in zip(widths, arrays, strict=True):
        assert np.array_equal(run(ops.ChannelSlice(start, width), joined, **options), array)
        start += width


def test_concat_with_a_gpu_tile(device: str) -> None:
    arrays = [drawn(seed, 2, 3, 3, width) for seed, width in enumerate((3, 13, 1, 6))]
    assert np.array_equal(run(ops.Concat(), *arrays, device=device, tile=SMALL), np.concatenate(arrays, -1))


def test_the_launches_of_a_concat() -> None:
    """One kernel, one launch an operand, each with the bytes that it moves."""
    types = [TensorType((8, 8, count)) for count in (64, 64, 24)]
    module = generate(plan_of(ops.Concat(), types, target="sm_90", dtype="bfloat16"))
    launches = module.tables[0].steps["step"]
    assert [launch.kernel for launch in launches] == ["concat"] * 3
    assert [launch.bytes.a for launch in launches] == [2 * 2 * 64 * count for count in (64, 64, 24)]
    assert launches[0].constants == launches[1].constants


def test_the_launches_of_a_split() -> None:
    """One kernel, one launch a result that is asked for, each with the bytes that it moves."""
    op, kind = ops.Split((64, 64, 24)), TensorType((8, 8, 152))
    module = generate(plan_of(op, [kind], target="sm_90", dtype="bfloat16", wanted=[True, False, True]))
    launches = module.tables[0].steps["step"]
    assert [launch.kernel for launch in launches] == ["split"] * 2
    assert [launch.bytes.a for launch in launches] == [2 * 2 * 64 * count for count in (64, 24)]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("lead", SHAPES)
@pytest.mark.parametrize(("channels", "groups"), [(6, 2), (15, 5), (7, 7), (34, 17)])
def test_shuffle(lead: tuple[int, ...], channels: int, groups: int, dtype: str, device: str, target: str) -> None:
    x = np.random.default_rng(1).integers(-99, 99, (*lead, channels)).astype(np.float32)  # exact in 16 bits
    y = x.reshape(*lead, groups, -1).swapaxes(-1, -2).reshape(x.shape)
    options: dict[str, Any] = {"dtype": dtype, "device": device, "target": target}
    assert np.array_equal(run(ops.ChannelShuffle(groups), x, **options), y)
    assert np.array_equal(run(ops.ChannelShuffle(channels // groups), y, **options), x)


@pytest.mark.parametrize("lead", SHAPES)
@pytest.mark.parametrize(("channels", "pieces"), [(6, 2), (15, 5), (7, 7), (5, 1), (51, 3)])
def test_maxout(lead: tuple[int, ...], channels: int, pieces: int, device: str, target: str) -> None:
    # Small integers: ties are everywhere, and the first maximum must win them.
    x = np.random.default_rng(2).integers(-2, 2, (*lead, channels)).astype(np.float32)
    dy = drawn(3, *lead, channels // pieces)
    (t,) = first(x)
    y = t.reshape(lead[0], channels // pieces, pieces, *lead[1:]).max(dim=2).values
    (expected,) = torch.autograd.grad(y, t, first(dy)[0].detach())
    options: dict[str, Any] = {"device": device, "target": target}
    assert np.array_equal(run(ops.Maxout(pieces), x, **options), last(y))
    assert np.array_equal(run(ops.MaxoutGrad(pieces), dy, x, **options), last(expected).astype(np.float32))
    if lead == (3, 5, 4):
        small = run(ops.MaxoutGrad(pieces), dy, x, device=device, tile=SMALL)
        assert np.array_equal(small, last(expected).astype(np.float32))


def test_maxout_grad_of_nan() -> None:
    """The first NaN over everything, as the oracle has it."""
    x = np.array([[1.0, np.nan, np.nan, np.inf, 2.0, np.inf]], np.float32)
    dy = np.array([[3.0, 4.0]], np.float32)
    assert np.array_equal(run(ops.MaxoutGrad(3), dy, x), [[0, 3, 0, 4, 0, 0]])


NORMS = [(5, 1e-4, 0.75, 2.0), (3, 0.3, 0.75, 1.0), (4, 0.1, 0.5, 1.5), (9, 0.05, 1.3, 0.7), (1, 1.0, 1.0, 1.0)]


@pytest.mark.parametrize("lead", SHAPES)
@pytest.mark.parametrize("channels", [1, 3, 17])
@pytest.mark.parametrize("norm", NORMS)
def test_lrn(
    lead: tuple[int, ...], channels: int, norm: tuple[int, float, float, float], device: str, target: str
) -> None:
    check_lrn(norm, (*lead, channels), device=device, target=target)


@pytest.mark.parametrize("norm", [NORMS[0], NORMS[2]])
def test_lrn_with_a_gpu_tile(norm: tuple[int, float, float, float], device: str) -> None:
    """Neighbours lie in other blocks of channels."""
    check_lrn(norm, (2, 1, 3, 11), device=device, tile=SMALL)


def check_lrn(norm: tuple[int, float, float, float], shape: tuple[int, ...], **options: Any) -> None:
    size, alpha, beta, k = norm
    x, dy = 2 * drawn(4, *shape), drawn(5, *shape)
    (t,) = first(x)
    flat = t if len(shape) > 2 else t[:, :, None]
    y = functional.local_response_norm(flat, size, alpha * size, beta, k).reshape(t.shape)  # torch divides by size
    (expected,) = torch.autograd.grad(y, t, first(dy)[0].detach())
    assert relative_error(run(ops.Lrn(size, alpha, beta, k), x, **options), last(y)) < 1e-6
    found = run(ops.LrnGrad(size, alpha, beta, k), dy, x, **options)
    assert relative_error(found, last(expected)) < 2e-6


@pytest.mark.parametrize("layout", LAYOUTS)
def test_lrn_in_16_bits(layout: str, device: str, target: str) -> None:
    """Sums are in float32: only operands and result are rounded."""
    x, dy = 3 * drawn(6, 2, 3, 5, 19), drawn(7, 2, 3, 5, 19)
    options: dict[str, Any] = {"device": device, "target": target, "dtype": "bfloat16", "layout": layout}
    for op, arrays in ((ops.Lrn(alpha=0.1), [x]), (ops.LrnGrad(alpha=0.1), [dy, x])):
        (expected,) = evaluate_op(op, [array.astype(np.float64) for array in arrays], Scalars(2))
        assert relative_error(run(op, *arrays, **options), expected) < TOLERANCE["bfloat16"]


def test_lrn_without_a_constant() -> None:
    """Sums beyond the last channel are 0, and 0 divided by 0 must not enter."""
    x, dy = drawn(8, 2, 3, 3, 5), drawn(9, 2, 3, 3, 5)
    for op, arrays in ((ops.Lrn(3, 1.0, 0.5, 0.0), [x]), (ops.LrnGrad(3, 1.0, 0.5, 0.0), [dy, x])):
        (expected,) = evaluate_op(op, [array.astype(np.float64) for array in arrays], Scalars(2))
        assert relative_error(run(op, *arrays), expected) < 2e-6


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "anchor",
    [ops.Lrn(), ops.LrnGrad(), ops.Maxout(3), ops.MaxoutGrad(3), ops.ChannelSlice(4, 7), ops.ChannelShuffle(3)],
    ids=lambda op: op.name,
)
def test_epilogues(anchor: ops.Op, layout: str, device: str, target: str) -> None:
    """An activation's gradient and an addition on the tile that the kernel ends with."""
    shapes = {ops.MaxoutGrad: [(2, 3, 4, 5), (2, 3, 4, 15)], ops.LrnGrad: [(2, 3, 4, 15)] * 2}
    arrays = [drawn(seed, *shape) for seed, shape in enumerate(shapes.get(type(anchor), [(2, 3, 4, 15)]))]
    (result,) = anchor.infer(*(image(array).type for array in arrays))
    others = [drawn(10 + seed, 2, *result.shape) for seed in range(2)]
    count = len(arrays)
    parts = (
        Part("anchor", anchor, tuple(range(count))),
        Part("grad", ops.ActivationGrad("relu"), (count + 2, count)),
        Part("add", ops.Add(), (count + 3, count + 1)),
    )
    fused = Fused(parts, (count + 4,))
    found = run(fused, *arrays, *others, layout=layout, device=device, target=target)
    (expected,) = evaluate_op(fused, [array.astype(np.float64) for array in (*arrays, *others)], Scalars(2))
    assert relative_error(found, expected) < TOLERANCE["float32"]
