"""Softmax, cross-entropy and the batch mean against torch in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from cnnc.ir import ops
from cnnc.ir.plan import Tile
from cnnc.ir.types import Element
from cnnc.runtime.scalars import Scalars
from tests.codegen.one_step import Operand, image, relative_error, run_step, vector

TOLERANCE = 1e-6
TILES = [None, Tile(2, 4, 1)]  # the second takes several blocks of channels


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("shape", [(5, 10), (1, 1), (3, 2, 4, 7), (2, 1000)])
def test_softmax(shape: tuple[int, ...], tile: Tile | None, device: str, target: str) -> None:
    if shape[-1] > 100 and tile is not None:
        tile = Tile(2, 256, 1)
    rng = np.random.default_rng(14)
    x = (10 * rng.standard_normal(shape)).astype(np.float32)
    dy = rng.standard_normal(shape).astype(np.float32)
    (y,) = run_step(ops.Softmax(), [image(x)], device=device, target=target, tile=tile)
    assert y is not None
    expected = torch.softmax(torch.tensor(x).double(), -1).numpy()
    assert relative_error(y, expected) < TOLERANCE
    (dx,) = run_step(ops.SoftmaxGrad(), [image(dy), image(y)], device=device, target=target, tile=tile)
    assert dx is not None
    exact = y.astype(np.float64)
    expected_dx = exact * (dy - (dy * exact).sum(-1, keepdims=True))
    # The difference cancels where one class has all the weight, so the scale is the operands'.
    assert np.abs(dx - expected_dx).max() < TOLERANCE * max(1.0, np.abs(dy).max())


@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("shape", [(5, 10), (1, 1), (67, 13)])
def test_cross_entropy(
    shape: tuple[int, int], tile: Tile | None, wanted: tuple[bool, bool], device: str, target: str
) -> None:
    rng = np.random.default_rng(15)
    logits = (20 * rng.standard_normal(shape)).astype(np.float32)
    label = rng.integers(0, shape[1], shape[0]).astype(np.int32)
    scalars = Scalars(shape[0], loss_scale=8.0)
    operands = [image(logits), Operand(label, True, Element.LABEL)]
    loss, dlogits = run_step(
        ops.CrossEntropy(), operands, device=device, target=target, tile=tile, wanted=wanted, scalars=scalars
    )
    t = torch.tensor(logits).double().requires_grad_()
    losses = functional.cross_entropy(t, torch.tensor(label).long(), reduction="none")
    (expected,) = torch.autograd.grad(losses.mean() * 8.0, t)
    assert (loss is not None, dlogits is not None) == wanted
    if loss is not None:
        assert relative_error(loss, losses.detach().numpy()) < TOLERANCE
    if dlogits is not None:
        assert np.abs(dlogits - expected.numpy()).max() < TOLERANCE


@pytest.mark.parametrize("layout", ["HWNC", "NHWC"])
@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("shape", [(3, 5, 7, 11), (1, 1, 1, 3), (2, 13, 1, 4), (1, 37, 31, 2)])
def test_cross_entropy_per_position(
    shape: tuple[int, ...], tile: Tile | None, wanted: tuple[bool, bool], layout: str, device: str, target: str
) -> None:
    tile = tile and Tile(64, 4, 1)
    rng = np.random.default_rng(17)
    logits = (5 * rng.standard_normal(shape)).astype(np.float32)
    label = rng.integers(0, shape[3], shape[:3]).astype(np.int32)
    operands = [image(logits), Operand(label, True, Element.LABEL)]
    options = {"tile": tile, "wanted": wanted, "layout": layout, "scalars": Scalars(shape[0], loss_scale=8.0)}
    loss, dlogits = run_step(ops.CrossEntropy(0.3), operands, device=device, target=target, **options)
    t = torch.tensor(logits).double().requires_grad_()
    losses = functional.cross_entropy(t.permute(0, 3, 1, 2), torch.tensor(label).long(), reduction="none")
    losses = 0.3 * losses.mean((1, 2))
    (expected,) = torch.autograd.grad(losses.mean() * 8.0, t)
    assert (loss is not None, dlogits is not None) == wanted
    if loss is not None:
        assert relative_error(loss, losses.detach().numpy()) < TOLERANCE
    if dlogits is not None:
        assert relative_error(dlogits, expected.numpy()) < 1e-5


@pytest.mark.parametrize("tile", [None, Tile(8, 64, 1)])
@pytest.mark.parametrize(("n", "channels", "codes"), [(1, 1, 1), (5, 13, 3), (19, 84, 10)])
def test_distances_from_codes(n: int, channels: int, codes: int, tile: Tile | None, device: str, target: str) -> None:
    rng = np.random.default_rng(18)
    x = rng.standard_normal((n, channels)).astype(np.float32)
    w = rng.choice(np.array([-1, 1], np.float32), (codes, channels))
    dy = rng.standard_normal((n, codes)).astype(np.float32)
    t = torch.tensor(x).double().requires_grad_()
    expected = (t[:, None] - torch.tensor(w).double()).square().sum(2)
    (y,) = run_step(ops.Rbf(), [image(x), vector(w)], device=device, target=target, tile=tile)
    assert y is not None
    assert relative_error(y, expected.detach().numpy()) < TOLERANCE
    (gradient,) = torch.autograd.grad(expected, t, torch.tensor(dy).double())
    operands = [image(dy), image(x), vector(w)]
    (dx,) = run_step(ops.RbfGrad(), operands, device=device, target=target, tile=tile)
    assert dx is not None
    assert relative_error(dx, gradient.numpy()) < TOLERANCE


def test_zeros(device: str) -> None:
    (found,) = run_step(ops.Zeros((7, 300)), [], device=device)
    assert found is not None
    assert not found.any()
    for shape in ((3, 5, 1030), (7,)):
        (found,) = run_step(ops.Zeros(shape, True), [], n=2, device=device)
        assert found is not None
        assert found.shape == (2, *shape)
        assert not found.any()


@pytest.mark.parametrize("n", [1, 3, 1025])
def test_batch_mean_of_a_sum(n: int, device: str) -> None:
    parts = np.random.default_rng(19).random((3, n)).astype(np.float32)
    (found,) = run_step(ops.BatchMean(), [Operand(x, True, Element.ACC) for x in parts], device=device)
    assert found is not None
    assert relative_error(found, np.array(parts.astype(np.float64).sum(0).mean())) < TOLERANCE


@pytest.mark.parametrize("n", [1, 3, 1025])
def test_batch_mean(n: int, device: str) -> None:
    x = np.random.default_rng(16).random(n).astype(np.float32)
    (found,) = run_step(ops.BatchMean(), [Operand(x, True, Element.ACC)], device=device)
    assert found is not None
    assert relative_error(found, np.array(x.astype(np.float64).mean())) < TOLERANCE


@pytest.mark.parametrize("wanted", [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("n", [1, 3, 1027])
def test_batch_mean_behind_the_losses(n: int, tile: Tile | None, wanted: tuple[bool, bool], device: str) -> None:
    """One kernel: its last program adds up the losses, in their order whoever was last."""
    rng = np.random.default_rng(20)
    logits = rng.standard_normal((n, 10)).astype(np.float32)
    label = rng.integers(0, 10, n).astype(np.int32)
    parts = (ops.Part("rows", ops.CrossEntropy(0.3), (0, 1)), ops.Part("mean", ops.BatchMean(), (2,)))
    results = (4, *(number for number, leaves in zip((2, 3), wanted, strict=True) if leaves))
    tile = tile if tile is None or n < 1000 else Tile(128, 4, 1)
    operands = [image(logits), Operand(label, True, Element.LABEL)]
    mean, *found = run_step(ops.Fused(parts, results), operands, device=device, tile=tile, scalars=Scalars(n))
    t = torch.tensor(logits).double().requires_grad_()
    losses = 0.3 * functional.cross_entropy(t, torch.tensor(label).long(), reduction="none")
    (dlogits,) = torch.autograd.grad(losses.mean(), t)
    assert mean is not None
    assert relative_error(mean, losses.mean().detach().numpy()) < TOLERANCE
    expected = [array for array, leaves in zip((losses.detach(), dlogits), wanted, strict=True) if leaves]
    for actual, want in zip(found, expected, strict=True):
        assert actual is not None
        assert relative_error(actual, want.numpy()) < TOLERANCE
