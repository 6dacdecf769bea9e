"""Element-wise ops, dropout and flattening, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from cnnc.ir import ops
from cnnc.ir.types import TensorType
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.philox import dropout_mask
from cnnc.runtime.scalars import Scalars
from tests.numerics import torch_side
from tests.numerics.check import check, drawn
from tests.numerics.one_step import Setup, image, parameter, run_on_cpu

SHAPES = [(1, (1, 1, 1)), (2, (5, 7, 3)), (3, (4, 2, 17)), (5, (11,)), (2, (90, 70, 3))]
TORCH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


@pytest.mark.parametrize("kind", ops.ACTIVATIONS)
@pytest.mark.parametrize(("n", "shape"), SHAPES)
def test_activation(kind: str, n: int, shape: tuple[int, ...]) -> None:
    x_type = TensorType(shape)
    x, dy = drawn(1, x_type, n) * 3, drawn(2, x_type, n)
    tx = torch.tensor(x, requires_grad=True)
    ty = TORCH[kind](tx)
    ty.backward(torch.tensor(dy))
    y, dx = ty.detach().numpy(), torch_side.gradient(tx).numpy()
    check(ops.Activation(kind), (x_type,), (x,), [y], Scalars(n))
    check(ops.ActivationGrad(kind), (x_type, x_type), (dy, y), [dx], Scalars(n))


@pytest.mark.parametrize("kind", ops.ACTIVATIONS)
def test_activation_of_extremes(kind: str) -> None:
    x = np.array([[-np.inf, -800.0, -0.0, 800.0, np.inf, np.nan]])
    expected = TORCH[kind](torch.tensor(x)).numpy()
    op, types = ops.Activation(kind), (TensorType((6,)),)
    np.testing.assert_allclose(evaluate_op(op, (x,), Scalars(1))[0], expected, rtol=1e-15)
    np.testing.assert_allclose(run_on_cpu(op, types, (x,), Scalars(1))[0], expected, rtol=1e-15, atol=1e-320)


@pytest.mark.parametrize(("n", "shape"), SHAPES)
def test_bias_and_add(n: int, shape: tuple[int, ...]) -> None:
    x_type, c_type = TensorType(shape), parameter(shape[-1])
    x, other, bias = drawn(1, x_type, n), drawn(2, x_type, n), drawn(3, c_type, n)
    check(ops.BiasAdd(), (x_type, c_type), (x, bias), [x + bias], Scalars(n))
    check(ops.Add(), (x_type, x_type), (x, other), [x + other], Scalars(n))


@pytest.mark.parametrize(("n", "shape"), SHAPES)
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5])
def test_dropout(n: int, shape: tuple[int, ...], rate: float) -> None:
    x_type, scalars = TensorType(shape), Scalars(n, seed=11, step=3)
    x = drawn(1, x_type, n)
    kept = dropout_mask(11, 3, 7, rate, x.shape)
    check(ops.Dropout(rate, 7), (x_type,), (x,), [x * kept / (1 - rate)], scalars)


def test_flatten_is_pytorch_s() -> None:
    x_type = image(3, 4, 5)
    x = drawn(1, x_type, 2)
    flat = torch.flatten(torch_side.nchw(x), 1).numpy()
    check(ops.Flatten(), (x_type,), (x,), [flat], Scalars(2))
    check(ops.Unflatten((3, 4, 5)), (TensorType((60,)),), (flat,), [x], Scalars(2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_relu_grad_of_infinite_gradients(dtype: str) -> None:
    """A closed unit passes 0, whatever comes from above, as in PyTorch."""
    y = np.array([[0.0, 1.0, 0.0, 1.0, 0.0, 1.0]])
    dy = np.array([[np.inf, np.inf, np.nan, np.nan, -3.0, -3.0]])
    types = (TensorType((6,)),) * 2
    got = run_on_cpu(ops.ActivationGrad("relu"), types, (dy, y), Scalars(1), Setup(dtype))[0]
    np.testing.assert_array_equal(got, [[0, np.inf, 0, np.nan, 0, -3]])
    np.testing.assert_array_equal(evaluate_op(ops.ActivationGrad("relu"), (dy, y), Scalars(1))[0], got)
