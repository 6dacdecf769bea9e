"""Kernels of activations and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cnnc.ir import ops
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.codegen.one_step import image, relative_error, run_step, vector
from tests.torch_activations import ALPHA, POSITIVE, reference

TOLERANCE = 1e-6
SHAPES = [(3, 5, 4, 7), (65, 3), (1, 1, 1, 1)]


def _normal(*shape: int, seed: int = 8) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("kind", ops.ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_activation(kind: str, shape: tuple[int, ...], device: str, target: str) -> None:
    x, dy = 2 * _normal(*shape), _normal(*shape, seed=9)
    x = np.abs(x) if kind in POSITIVE else x
    expected = reference(kind, torch.tensor(x).double())
    options: dict[str, Any] = {"device": device, "target": target}
    (y,) = run_step(ops.Activation(kind, ALPHA.get(kind, 0.0)), [image(x)], **options)
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


@pytest.mark.parametrize("kind", ["tanh", "sigmoid", "elu", "scaled_tanh", "softsign"])
def test_activation_everywhere(kind: str, device: str) -> None:
    """Relative to each element: tiny and huge arguments, both signs."""
    x = np.concatenate([np.logspace(-12, 3, 97), -np.logspace(-12, 1.9, 97)]).astype(np.float32).reshape(2, -1)
    (y,) = run_step(ops.Activation(kind, ALPHA.get(kind, 0.0)), [image(x)], device=device)
    expected = reference(kind, torch.tensor(x).double()).numpy()
    assert y is not None
    np.testing.assert_allclose(y, expected, rtol=3e-6, atol=1e-37)
