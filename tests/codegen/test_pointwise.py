"""Pointwise kernels, dropout's bits, and what can follow on a tile."""

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
from cnnc.ir.types import Element
from cnnc.ir.window import Window
from cnnc.passes.epilogues import TILE_ANCHORS, TILE_PARTS, reason_against
from cnnc.runtime.arrays import bfloat16_bits, bfloat16_values
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.codegen.one_step import Operand, image, plan_of, relative_error, run_plan, run_step, vector

TOLERANCE = 1e-6
SHAPES = [(3, 5, 4, 7), (65, 3), (1, 1, 1, 1)]
ALPHA = {"leaky_relu": 0.125, "elu": 0.75, "sign": 0.25, "inverse_deviation": 0.5}
FUNCTIONS: dict[str, Any] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "leaky_relu": lambda x: functional.leaky_relu(x, ALPHA["leaky_relu"]),
    "elu": lambda x: functional.elu(x, ALPHA["elu"]),
    "scaled_tanh": lambda x: 1.7159 * torch.tanh(2 * x / 3),
    "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "softsign": functional.softsign,
    "sign": lambda x: torch.where(x >= ALPHA["sign"], 1.0, -1.0).double(),
    "sqrt": torch.sqrt,
    "inverse_deviation": lambda x: 1 / x.sqrt().clamp(min=ALPHA["inverse_deviation"]),
}
POSITIVE = ("sqrt", "inverse_deviation")


def _activation(kind: str) -> ops.Activation:
    return ops.Activation(kind, ALPHA.get(kind, 0.0))


def _normal(*shape: int, seed: int = 8) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_every_activation_has_a_reference() -> None:
    assert set(FUNCTIONS) == set(ops.ACTIVATIONS)


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_activation(kind: str, shape: tuple[int, ...], device: str, target: str) -> None:
    x, dy = 2 * _normal(*shape), _normal(*shape, seed=9)
    x = np.abs(x) if kind in POSITIVE else x
    expected = FUNCTIONS[kind](torch.tensor(x).double())
    options: dict[str, Any] = {"device": device, "target": target}
    (y,) = run_step(_activation(kind), [image(x)], **options)
    assert y is not None
    gradient = ops.ActivationGrad(kind, ALPHA.get(kind, 0.0))
    value = x if kind in ops.FROM_INPUT else y
    (dx,) = run_step(gradient, [image(dy), image(value)], **options)
    assert dx is not None
    assert relative_error(y, expected.numpy()) < TOLERANCE
    (slopes,) = evaluate_op(gradient, (dy.astype(np.float64), value.astype(np.float64)), Scalars(len(x)))
    assert relative_error(dx, slopes) < 1e-5  # 1 - y^2 cancels where y is near its ends


def test_ends_and_kinks(device: str) -> None:
    """Where a derivative jumps, where both sides are constant, and no number."""
    cases: list[tuple[str, float, list[float], list[float], list[float]]] = [
        ("leaky_relu", 0.5, [-2.0, 0.0, -0.0, 2.0], [-1.0, 0.0, 0.0, 2.0], [0.5, 0.5, 0.5, 1.0]),
        ("elu", 0.5, [0.0, 3.0], [0.0, 3.0], [0.5, 1.0]),
        ("hard_sigmoid", 0.0, [-2.5, -9.0, 2.5, 9.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]),
        ("sign", 0.0, [-0.0, 0.0, -1.0, 1.0, -1.5, 1.5], [1, 1, -1, 1, -1, 1], [1, 1, 1, 1, 0, 0]),
        ("sign", 2.0, [1.5, 2.0, 1.0, 0.5], [-1, 1, -1, -1], [1, 1, 1, 0]),
        ("sqrt", 0.0, [0.0, 4.0], [0.0, 2.0], [0.0, 0.25]),
        ("inverse_deviation", 0.5, [0.0, 0.25, 1.0], [2.0, 2.0, 1.0], [0.0, 0.0, -0.5]),
    ]
    for kind, alpha, x, y, slope in cases:
        values, outputs = np.array([x], np.float32), np.array([y], np.float32)
        (found,) = run_step(ops.Activation(kind, alpha), [image(values)], device=device)
        value = values if kind in ops.FROM_INPUT else outputs
        (dx,) = run_step(ops.ActivationGrad(kind, alpha), [image(np.ones_like(value)), image(value)], device=device)
        np.testing.assert_array_equal(found, outputs)
        np.testing.assert_array_equal(dx, np.array([slope], np.float32))


@pytest.mark.parametrize("shape", SHAPES)
def test_prelu(shape: tuple[int, ...], device: str, target: str) -> None:
    x, dy, slope = _normal(*shape), _normal(*shape, seed=9), _normal(shape[-1], seed=10)
    x.ravel()[0] = 0
    options: dict[str, Any] = {"device": device, "target": target}
    (y,) = run_step(ops.PRelu(), [image(x), vector(slope)], **options)
    (dx,) = run_step(ops.PReluGrad(), [image(dy), image(x), vector(slope)], **options)
    (products,) = run_step(ops.PReluSlopeGrad(), [image(dy), image(x)], **options)
    assert np.array_equal(y, np.where(x > 0, x, slope * x))
    assert np.array_equal(dx, np.where(x > 0, dy, slope * dy))
    assert np.array_equal(products, dy * np.minimum(x, 0))


@pytest.mark.parametrize("layout", ["HWNC", "NHWC"])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_and_copies(shape: tuple[int, ...], layout: str, device: str, target: str) -> None:
    a, b, factor = _normal(*shape), _normal(*shape, seed=9), _normal(shape[-1], seed=10)
    options: dict[str, Any] = {"device": device, "target": target, "layout": layout}
    assert np.array_equal(run_step(ops.Mul(), [image(a), image(b)], **options)[0], a * b)
    assert np.array_equal(run_step(ops.ChannelScale(), [image(a), vector(factor)], **options)[0], a * factor)
    assert np.array_equal(run_step(ops.Scale(-0.25), [image(a)], **options)[0], -0.25 * a)
    assert np.array_equal(run_step(ops.Identity(), [image(a)], **options)[0], a)


@pytest.mark.parametrize("layout", ["HWNC", "NHWC"])
@pytest.mark.parametrize("shape", [*SHAPES, (130, 3, 2, 5)])
def test_a_bias_for_each_position(shape: tuple[int, ...], layout: str, device: str, target: str) -> None:
    x, bias = _normal(*shape), _normal(*shape[1:], seed=10)
    options: dict[str, Any] = {"device": device, "target": target, "layout": layout}
    (y,) = run_step(ops.PositionBias(), [image(x), vector(bias)], **options)
    (total,) = run_step(ops.BatchSum(), [image(x)], **options)
    assert np.array_equal(y, x + bias)
    assert total is not None
    assert relative_error(total, x.astype(np.float64).sum(0)) < TOLERANCE


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (7, 3, 2, 5), (13, 11), (257, 3, 3, 2)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_mask_and_sign(shape: tuple[int, ...], dtype: str, device: str) -> None:
    """The weight in the compute dtype, its gradient and master in single precision."""
    w, mask = _normal(*shape), (_normal(shape[0], shape[-1]) > 0).astype(np.float32)
    w.ravel()[0] = -0.0
    (dw,) = run_step(ops.MaskWeight(), [vector(w), vector(mask)], device=device, dtype=dtype)
    assert np.array_equal(dw, np.einsum("k...c,kc->k...c", w, mask))
    (signs,) = run_step(ops.Binarize(), [vector(w)], device=device, dtype=dtype)
    assert np.array_equal(signs, np.where(w < 0, -1, 1))
    rounded = bfloat16_values(bfloat16_bits(w)) if dtype == "bfloat16" else w
    (masked,) = run_step(ops.MaskWeight(), [vector(w, Element.REAL), vector(mask)], device=device, dtype=dtype)
    assert np.array_equal(masked, np.einsum("k...c,kc->k...c", rounded, mask))


@pytest.mark.parametrize("kind", ["tanh", "sigmoid", "elu", "scaled_tanh", "softsign"])
def test_activation_everywhere(kind: str, device: str) -> None:
    """Relative to each element: tiny and huge arguments, both signs."""
    x = np.concatenate([np.logspace(-12, 3, 97), -np.logspace(-12, 1.9, 97)]).astype(np.float32).reshape(2, -1)
    (y,) = run_step(_activation(kind), [image(x)], device=device)
    expected = FUNCTIONS[kind](torch.tensor(x).double()).numpy()
    assert y is not None
    np.testing.assert_allclose(y, expected, rtol=3e-6, atol=1e-37)


@pytest.mark.parametrize("layout", ["HWNC", "NHWC"])
@pytest.mark.parametrize("shape", SHAPES)
def test_bias_and_add(shape: tuple[int, ...], layout: str, device: str, target: str) -> None:
    a, b, bias = _normal(*shape), _normal(*shape, seed=9), _normal(shape[-1], seed=10)
    options: dict[str, Any] = {"device": device, "target": target, "layout": layout}
    (total,) = run_step(ops.Add(), [image(a), image(b)], **options)
    (moved,) = run_step(ops.BiasAdd(), [image(a), vector(bias)], **options)
    assert np.array_equal(total, a + b)
    assert np.array_equal(moved, a + bias)


@pytest.mark.parametrize("layout", ["HWNC", "NHWC"])
def test_flatten(layout: str, device: str, target: str) -> None:
    x = _normal(3, 4, 5, 7)
    flat = x.transpose(0, 3, 1, 2).reshape(3, -1)
    options: dict[str, Any] = {"device": device, "target": target, "layout": layout}
    (found,) = run_step(ops.Flatten(), [image(x)], **options)
    (back,) = run_step(ops.Unflatten((4, 5, 7)), [image(flat)], **options)
    assert np.array_equal(found, flat)
    assert np.array_equal(back, x)


def _philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> int:
    """First word of Philox-4x32-10, in Python's integers, from the paper's figure."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c0, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c2, 2**32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0


def test_philox_reference() -> None:
    """Known answers published with Random123."""
    assert _philox((0, 0, 0, 0), (0, 0)) == 0x6627E8D5
    assert _philox((2**32 - 1,) * 4, (2**32 - 1,) * 2) == 0x408F276D  # type: ignore[arg-type]
    assert _philox((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)) == 0xD16CFE09


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5])
@pytest.mark.parametrize("shape", [(2, 3, 2, 5), (7, 11)])
@pytest.mark.parametrize("layout", ["HWNC", "NHWC"])
def test_dropout_bits(rate: float, shape: tuple[int, ...], layout: str, device: str, target: str) -> None:
    seed, step, stream = 0x123456789ABCDEF, 17, 3
    x = np.ones(shape, np.float32)
    scalars = Scalars(shape[0], seed=seed, step=step)
    options: dict[str, Any] = {"device": device, "target": target, "layout": layout, "scalars": scalars}
    (y,) = run_step(ops.Dropout(rate, stream), [image(x)], **options)
    key = (seed & 0xFFFFFFFF, seed >> 32)
    words = [_philox((index, 0, stream, step), key) for index in range(x.size)]
    kept = (np.array(words) >= rate * 2**32).reshape(shape)
    assert y is not None
    assert np.array_equal(y != 0, kept)
    np.testing.assert_allclose(y[kept], 1.0 / (1.0 - rate), rtol=1e-6)


def test_dropout_shares_one_kernel() -> None:
    """Layers, seeds and steps are runtime numbers."""
    kind = image(np.zeros((0, 9))).type
    modules = [generate(plan_of(ops.Dropout(0.5, stream), [kind])) for stream in (0, 1, 2)]
    assert len({module.source for module in modules}) == 1
    assert len({str(module.tables[0].steps["step"][0].constants) for module in modules}) == 1


# -- epilogues ------------------------------------------------------------------------------------


def _chain(anchor: ops.Op, count: int, *parts: tuple[ops.Op, tuple[int, ...]], results: tuple[int, ...]) -> Fused:
    """A fused group over ``count`` operands."""
    anchored = (anchor, tuple(range(len_of(anchor))))
    return Fused(tuple(Part(f"part{i}", op, numbers) for i, (op, numbers) in enumerate([anchored, *parts])), results)


def len_of(anchor: ops.Op) -> int:
    """Operands of an anchor used here."""
    return 1 if isinstance(anchor, (ops.MaxPool, ops.AvgPool, ops.GlobalAvgPool, ops.AvgPoolGrad)) else 2


WINDOW = Window((3, 3), pad=(1, 1, 1, 1))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", ["HWNC", "NHWC"])
@pytest.mark.parametrize("kind", ["relu", "tanh", "sigmoid", "leaky_relu", "elu"])
def test_conv_bias_activation(kind: str, layout: str, dtype: str, device: str, target: str) -> None:
    x, w, bias = _normal(2, 5, 6, 7), _normal(11, 3, 3, 7) / 8, _normal(11)
    op = _chain(ops.Conv(WINDOW), 3, (ops.BiasAdd(), (3, 2)), (_activation(kind), (4,)), results=(5,))
    operands = [image(x), vector(w, Element.REAL), vector(bias)]
    plan = plan_of(op, [item.type for item in operands], dtype=dtype, layout=layout, target=target, n=2)
    module = generate(plan)
    (y,) = run_plan(plan, module, operands, Scalars(2), device)
    t, u = (torch.tensor(a).double().permute(0, 3, 1, 2) for a in (x, w))
    expected = FUNCTIONS[kind](functional.conv2d(t, u, torch.tensor(bias).double(), padding=1))
    assert y is not None
    assert relative_error(y, expected.permute(0, 2, 3, 1).numpy()) < (1e-5 if dtype == "float32" else 2e-2)
    (launch,) = module.tables[0].steps["step"]
    assert launch.kernel.endswith(f"_bias_{kind}")
    assert launch.flops.at(2) == 2 * 2 * 5 * 6 * 11 * 9 * 7


def test_residual_and_two_results(device: str, target: str) -> None:
    """conv + bias + residual + relu, where the sum before the relu leaves the kernel too."""
    x, w, bias, residual = _normal(3, 4, 4, 5), _normal(7, 3, 3, 5), _normal(7), _normal(3, 4, 4, 7)
    op = _chain(
        ops.Conv(WINDOW),
        4,
        (ops.BiasAdd(), (4, 2)),
        (ops.Add(), (5, 3)),
        (ops.Activation("relu"), (6,)),
        results=(7, 6),
    )
    operands = [image(x), vector(w, Element.REAL), vector(bias), image(residual)]
    y, total = run_step(op, operands, device=device, target=target)
    t, u = (torch.tensor(a).double().permute(0, 3, 1, 2) for a in (x, w))
    expected = functional.conv2d(t, u, torch.tensor(bias).double(), padding=1).permute(0, 2, 3, 1).numpy() + residual
    assert total is not None
    assert y is not None
    assert relative_error(total, expected) < 1e-5
    assert relative_error(y, np.maximum(expected, 0)) < 1e-5


@pytest.mark.parametrize("stride", [1, 2])
def test_dgrad_and_activation_gradient(stride: int, device: str) -> None:
    """dgrad + relu's gradient, on a tile of a card: rows of stride phases, 64 x 64 x 32."""
    window = Window((3, 3), (stride, stride), (1, 1, 1, 1))
    dy, w, y = _normal(3, *window.output((7, 6)), 40), _normal(40, 3, 3, 37), _normal(3, 7, 6, 37)
    op = _chain(ops.ConvDgrad(window, (7, 6)), 3, (ops.ActivationGrad("relu"), (3, 2)), results=(4,))
    operands = [image(dy), vector(w, Element.REAL), image(y)]
    (dx,) = run_step(op, operands, device=device, target="sm_90", tile=Tile(64, 64, 32))
    t, u = (torch.tensor(a).double().permute(0, 3, 1, 2) for a in (dy, w))
    plain = torch.nn.grad.conv2d_input((3, 37, 7, 6), u, t, stride=stride, padding=1)
    assert dx is not None
    assert relative_error(dx, plain.permute(0, 2, 3, 1).numpy() * (y > 0)) < 1e-5


def test_dropout_in_an_epilogue_draws_the_same(device: str) -> None:
    """linear + bias + relu + dropout equals the ops one by one, bit for bit in the mask."""
    x, w, bias = _normal(9, 21), _normal(13, 21), _normal(13)
    scalars = Scalars(9, seed=5, step=2)
    drop = ops.Dropout(0.4, 1)
    op = _chain(ops.Linear(), 3, (ops.BiasAdd(), (3, 2)), (ops.Activation("relu"), (4,)), (drop, (5,)), results=(6,))
    operands = [image(x), vector(w, Element.REAL), vector(bias)]
    (fused,) = run_step(op, operands, device=device, scalars=scalars)
    hidden = np.maximum(x.astype(np.float64) @ w.T + bias, 0)
    (mask,) = run_step(drop, [image(np.ones((9, 13), np.float32))], device=device, scalars=scalars)
    assert fused is not None
    assert relative_error(fused, hidden * mask) < 1e-5


def test_pool_and_chain_epilogues(device: str) -> None:
    """An index beside an activated maximum; a pointwise chain with batch norm in it."""
    x = _normal(3, 6, 6, 5)
    pool = _chain(ops.MaxPool(Window((2, 2), (2, 2))), 1, (ops.Activation("tanh"), (1,)), results=(3, 2))
    y, index = run_step(pool, [image(x)], device=device)
    plain, plain_index = run_step(ops.MaxPool(Window((2, 2), (2, 2))), [image(x)], device=device)
    assert y is not None
    assert relative_error(y, np.tanh(plain)) < 1e-6  # type: ignore[arg-type]
    assert np.array_equal(index, plain_index)
    vectors = [np.abs(_normal(5, seed=seed)) + 0.1 for seed in range(4)]
    gamma, beta, mean, var = vectors
    parts = (
        Part("bn", ops.BatchNorm(), (0, 2, 3, 4, 5)),
        Part("add", ops.Add(), (6, 1)),
        Part("relu", ops.Activation("relu"), (7,)),
    )
    residual = _normal(3, 6, 6, 5, seed=11)
    operands = [image(x), image(residual), *(vector(v) for v in vectors)]
    (z,) = run_step(Fused(parts, (8,)), operands, device=device)
    expected = np.maximum((x - mean) * gamma / np.sqrt(var + 1e-5) + beta + residual, 0)
    assert z is not None
    assert relative_error(z, expected) < 1e-5


def _example(anchor: type[ops.Op]) -> tuple[ops.Op, list[Operand]]:
    """A small instance of each anchor, whose result is an image of 4x4x5 or a vector of 5."""
    x, w = image(_normal(2, 4, 4, 5)), vector(_normal(5, 3, 3, 5), Element.REAL)
    square = vector(_normal(5, 5), Element.REAL)
    row = vector(np.abs(_normal(5)))
    index = image(np.zeros((2, 4, 4, 5), np.uint8), Element.INDEX)
    table: dict[type[ops.Op], tuple[ops.Op, list[Operand]]] = {
        ops.Conv: (ops.Conv(WINDOW), [x, w]),
        ops.ConvDgrad: (ops.ConvDgrad(WINDOW, (4, 4)), [x, w]),
        ops.Linear: (ops.Linear(), [x, square]),
        ops.LinearDgrad: (ops.LinearDgrad(), [x, square]),
        ops.MaxPool: (ops.MaxPool(WINDOW), [x]),
        ops.MaxPoolGrad: (ops.MaxPoolGrad(WINDOW, (4, 4)), [x, index]),
        ops.AvgPool: (ops.AvgPool(WINDOW), [x]),
        ops.AvgPoolGrad: (ops.AvgPoolGrad(WINDOW, (4, 4)), [x]),
        ops.SumPool: (ops.SumPool(WINDOW), [x]),
        ops.SumPoolGrad: (ops.SumPoolGrad(WINDOW, (4, 4)), [x]),
        ops.ZeroPad: (ops.ZeroPad((0, 1, 2, 0)), [x]),
        ops.Crop: (ops.Crop((1, 0), (3, 2)), [x]),
        ops.PadShortcut: (ops.PadShortcut((2, 1), 5), [image(_normal(2, 4, 4, 3))]),
        ops.PadShortcutGrad: (ops.PadShortcutGrad((2, 1), (7, 4), 5), [image(_normal(2, 4, 4, 8))]),
        ops.Upsample: (ops.Upsample((2, 1), "bilinear"), [x]),
        ops.UpsampleGrad: (ops.UpsampleGrad((2, 1), "bilinear"), [x]),
        ops.GlobalAvgPool: (ops.GlobalAvgPool(), [x]),
        ops.GlobalAvgPoolGrad: (ops.GlobalAvgPoolGrad((4, 4)), [image(_normal(2, 5))]),
        ops.BatchNorm: (ops.BatchNorm(), [x, row, row, row, row]),
        ops.BatchNormInputGrad: (ops.BatchNormInputGrad(), [x, x, row, row, row, row, row]),
        ops.BiasAdd: (ops.BiasAdd(), [x, row]),
        ops.PositionBias: (ops.PositionBias(), [x, vector(_normal(4, 4, 5))]),
        ops.Activation: (ops.Activation("tanh"), [x]),
        ops.ActivationGrad: (ops.ActivationGrad("tanh"), [x, x]),
        ops.PRelu: (ops.PRelu(), [x, row]),
        ops.PReluGrad: (ops.PReluGrad(), [x, x, row]),
        ops.PReluSlopeGrad: (ops.PReluSlopeGrad(), [x, x]),
        ops.Identity: (ops.Identity(), [x]),
        ops.Scale: (ops.Scale(0.2), [x]),
        ops.ChannelScale: (ops.ChannelScale(), [x, row]),
        ops.Mul: (ops.Mul(), [x, x]),
        ops.Add: (ops.Add(), [x, x]),
        ops.Dropout: (ops.Dropout(0.25, 4), [x]),
    }
    return table[anchor]


@pytest.mark.parametrize("anchor", TILE_ANCHORS, ids=lambda kind: kind.__name__)
def test_every_part_follows_every_anchor(anchor: type[ops.Op], device: str) -> None:
    """What ``reason_against`` promises where it gives none: the fused group equals its ops one by one."""
    op, operands = _example(anchor)
    scalars = Scalars(2, seed=1)
    plain = run_step(op, operands, device=device, scalars=scalars)[0]
    assert plain is not None
    outputs = len(op.infer(*(item.type for item in operands)))
    row = vector(np.abs(_normal(5, seed=12)))
    tile = image(_normal(*plain.shape, seed=13))
    followers: list[tuple[ops.Op, list[Operand]]] = [
        (ops.BiasAdd(), [row]),
        (ops.PositionBias(), [vector(_normal(*plain.shape[1:], seed=14))]),
        (ops.Activation("sigmoid"), []),
        (ops.ActivationGrad("tanh"), [tile]),
        (ops.PRelu(), [row]),
        (ops.PReluGrad(), [tile, row]),
        (ops.PReluSlopeGrad(), [tile]),
        (ops.Identity(), []),
        (ops.Scale(0.2), []),
        (ops.ChannelScale(), [row]),
        (ops.Mul(), [tile]),
        (ops.Add(), [tile]),
        (ops.Dropout(0.5, 2), []),
        (ops.BatchNorm(), [row, row, row, row]),
    ]
    assert {type(part) for part, _ in followers} == set(TILE_PARTS)
    for part, others in followers:
        assert reason_against(op, part) is None
        start = len(operands) + len(others)
        numbers = (start, *range(len(operands), start))
        fused = Fused((Part("a", op, tuple(range(len(operands)))), Part("b", part, numbers)), (start + outputs,))
        (found,) = run_step(fused, [*operands, *others], device=device, scalars=scalars)
        (expected,) = run_step(part, [image(plain), *others], device=device, scalars=scalars)
        assert found is not None
        assert expected is not None
        assert relative_error(found, expected) < 1e-5


def test_what_cannot_follow() -> None:
    relu, softmax, wgrad = ops.Activation("relu"), ops.Softmax(), ops.ConvWgrad(WINDOW)
    assert reason_against(wgrad, relu) == "conv_wgrad does not end in a tile of rows and channels"
    assert reason_against(relu, softmax) == "softmax needs more than one element of its operand"
    assert all(reason_against(a[0], relu) is None for a in map(_example, TILE_ANCHORS))
