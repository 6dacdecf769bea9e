"""Batch-norm kernels against torch and numpy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from cnnc.ir import ops
from cnnc.ir.plan import Tile
from cnnc.ir.types import Element
from tests.codegen.one_step import Operand, image, relative_error, run_step, vector

TOLERANCE = 1e-5
EPS = 1e-5
SHAPES = [(3, 5, 4, 17), (1, 1, 1, 3), (65, 7), (2, 1, 3, 1)]


def _data(shape: tuple[int, ...], offset: float = 0.0) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(5)
    channels = shape[-1]
    return {
        "x": (rng.standard_normal(shape) + offset).astype(np.float32),
        "dy": rng.standard_normal(shape).astype(np.float32),
        "gamma": rng.standard_normal(channels).astype(np.float32),
        "beta": rng.standard_normal(channels).astype(np.float32),
        "mean": rng.standard_normal(channels).astype(np.float32),
        "var": (rng.random(channels) + 0.5).astype(np.float32),
    }


def _operands(data: dict[str, np.ndarray[Any, Any]], *names: str) -> list[Operand]:
    return [image(data[name]) if name in ("x", "dy") else vector(data[name]) for name in names]


def _sums(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(len(shape) - 1))


@pytest.mark.parametrize("tile", [None, Tile(8, 4, 1), Tile(8, 4, 1, 4), Tile(16, 8, 1, 16)])
@pytest.mark.parametrize("shape", SHAPES)
def test_stats(shape: tuple[int, ...], tile: Tile | None, device: str) -> None:
    """A large mean against a small variance: the difference of squares would lose every digit."""
    x = _data(shape, offset=300.0)["x"]
    mean, var = run_step(ops.BatchNormStats(), [image(x)], device=device, tile=tile)
    exact = x.astype(np.float64)
    assert mean is not None
    assert var is not None
    assert relative_error(mean, exact.mean(_sums(shape))) < 1e-6
    expected = exact.var(_sums(shape))
    assert np.abs(var - expected).max() < 1e-4


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", ["HWNC", "NHWC"])
def test_batch_norm(shape: tuple[int, ...], layout: str, device: str, target: str) -> None:
    data = _data(shape)
    operands = _operands(data, "x", "gamma", "beta", "mean", "var")
    (y,) = run_step(ops.BatchNorm(EPS), operands, device=device, target=target, layout=layout)
    d = {name: array.astype(np.float64) for name, array in data.items()}
    expected = d["gamma"] * (d["x"] - d["mean"]) / np.sqrt(d["var"] + EPS) + d["beta"]
    assert y is not None
    assert relative_error(y, expected) < TOLERANCE


@pytest.mark.parametrize("tile", [None, Tile(8, 4, 1), Tile(8, 4, 1, 4)])
@pytest.mark.parametrize("shape", [(3, 5, 4, 17), (65, 7), (2, 1, 3, 1)])
def test_gradient(shape: tuple[int, ...], tile: Tile | None, device: str) -> None:
    """Statistics, reduction and input gradient together are torch's backward of batch norm."""
    data = _data(shape)
    x = torch.tensor(data["x"]).double().requires_grad_()
    gamma = torch.tensor(data["gamma"]).double().requires_grad_()
    beta = torch.tensor(data["beta"]).double().requires_grad_()
    moved = x.movedim(-1, 1)
    y = functional.batch_norm(moved, None, None, gamma, beta, training=True, eps=EPS)
    dy = torch.tensor(data["dy"]).double().movedim(-1, 1)
    expected = torch.autograd.grad(y, (x, gamma, beta), dy)
    mean, var = run_step(ops.BatchNormStats(), _operands(data, "x"), device=device, tile=tile)
    assert mean is not None
    assert var is not None
    data |= {"mean": mean, "var": var}
    sums = run_step(ops.BatchNormReduce(EPS), _operands(data, "dy", "x", "mean", "var"), device=device, tile=tile)
    dgamma, dbeta = sums
    assert dgamma is not None
    assert dbeta is not None
    data |= {"dgamma": dgamma, "dbeta": dbeta}
    names = ("dy", "x", "mean", "var", "gamma", "dgamma", "dbeta")
    plain = Tile(8, 4, 1) if tile else None
    (dx,) = run_step(ops.BatchNormInputGrad(EPS), _operands(data, *names), device=device, tile=plain)
    for found, wanted in zip((dx, dgamma, dbeta), expected, strict=True):
        assert found is not None
        assert relative_error(found, wanted.numpy()) < TOLERANCE


@pytest.mark.parametrize(("n", "pixels"), [(4, 6), (1, 1)])
def test_update(n: int, pixels: int, device: str) -> None:
    """PyTorch's rule, in place; one element has no unbiased variance and leaves the running one alone."""
    rng = np.random.default_rng(6)
    running_mean, running_var, mean, var = (rng.random(11).astype(np.float32) for _ in range(4))
    operands = [vector(a) for a in (running_mean, running_var, mean, var)]
    op = ops.BatchNormUpdate(0.3, pixels)
    new_mean, new_var = run_step(op, operands, device=device, n=n, in_place={0: 0, 1: 1})
    count = n * pixels
    unbiased = var * count / (count - 1) if count > 1 else running_var
    assert new_mean is not None
    assert new_var is not None
    assert relative_error(new_mean, 0.7 * running_mean + 0.3 * mean) < TOLERANCE
    assert relative_error(new_var, 0.7 * running_var + 0.3 * unbiased) < TOLERANCE


@pytest.mark.parametrize("bias", [False, True])
def test_fold(bias: bool, device: str) -> None:
    rng = np.random.default_rng(7)
    w = rng.standard_normal((13, 3, 3, 5)).astype(np.float32)
    data = _data((1, 1, 1, 13))
    extra = [vector(rng.standard_normal(13).astype(np.float32))] if bias else []
    (scaled,) = run_step(ops.FoldScale(EPS), [vector(w), *_operands(data, "gamma", "var")], device=device)
    operands = [*_operands(data, "gamma", "beta", "mean", "var"), *extra]
    (shift,) = run_step(ops.FoldShift(EPS), operands, device=device)
    factor = data["gamma"].astype(np.float64) / np.sqrt(data["var"].astype(np.float64) + EPS)
    start = extra[0].array if bias else 0.0
    assert scaled is not None
    assert shift is not None
    assert relative_error(scaled, w * factor[:, None, None, None]) < TOLERANCE
    assert relative_error(shift, (start - data["mean"]) * factor + data["beta"]) < TOLERANCE


@pytest.mark.parametrize("tile", [None, Tile(8, 4, 1), Tile(8, 4, 1, 4)])
@pytest.mark.parametrize("shape", SHAPES)
def test_channel_sum(shape: tuple[int, ...], tile: Tile | None, device: str) -> None:
    x = _data(shape)["x"]
    (found,) = run_step(ops.ChannelSum(), [image(x)], device=device, tile=tile)
    assert found is not None
    assert found.dtype == np.float32
    assert relative_error(found, x.astype(np.float64).sum(_sums(shape))) < TOLERANCE


def test_channel_sum_of_16_bits(device: str) -> None:
    """Sums stay in float32 where activations do not."""
    x = np.ones((129, 3, 3, 5), np.float32)
    (found,) = run_step(ops.ChannelSum(), [Operand(x, True, Element.REAL)], device=device, dtype="bfloat16")
    assert found is not None
    assert (found == 129 * 9).all()
