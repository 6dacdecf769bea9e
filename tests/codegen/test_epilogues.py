"""What can follow on the tile that a kernel holds."""

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
from cnnc.runtime.scalars import Scalars
from tests.codegen.one_step import Operand, image, plan_of, relative_error, run_plan, run_step, vector
from tests.torch_activations import ALPHA, reference


def _normal(*shape: int, seed: int = 8) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


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
    op = _chain(
        ops.Conv(WINDOW), 3, (ops.BiasAdd(), (3, 2)), (ops.Activation(kind, ALPHA.get(kind, 0.0)), (4,)), results=(5,)
    )
    operands = [image(x), vector(w, Element.REAL), vector(bias)]
    plan = plan_of(op, [item.type for item in operands], dtype=dtype, layout=layout, target=target, n=2)
    module = generate(plan)
    (y,) = run_plan(plan, module, operands, Scalars(2), device)
    t, u = (torch.tensor(a).double().permute(0, 3, 1, 2) for a in (x, w))
    expected = reference(kind, functional.conv2d(t, u, torch.tensor(bias).double(), padding=1))
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
        ops.ChannelSlice: (ops.ChannelSlice(1, 5), [image(_normal(2, 4, 4, 7))]),
        ops.ChannelShuffle: (ops.ChannelShuffle(5), [x]),
        ops.Maxout: (ops.Maxout(2), [image(_normal(2, 4, 4, 10))]),
        ops.MaxoutGrad: (ops.MaxoutGrad(5), [image(_normal(2, 4, 4, 1)), x]),
        ops.Lrn: (ops.Lrn(), [x]),
        ops.LrnGrad: (ops.LrnGrad(), [x, x]),
        ops.BatchNorm: (ops.BatchNorm(), [x, row, row, row, row]),
        ops.BatchNormInputGrad: (ops.BatchNormInputGrad(), [x, x, row, row, row, row, row]),
        ops.BatchNormScale: (ops.BatchNormScale(), [x, row, row]),
        ops.ChannelAffine: (ops.ChannelAffine(), [x, x, row, row]),
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
        (ops.BatchNormScale(), [row, row]),
        (ops.ChannelAffine(2), [tile, *(vector(_normal(8, seed=seed)) for seed in (15, 16))]),
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
