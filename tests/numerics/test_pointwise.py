"""Element-wise ops, dropout and flattening, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from cnnc.ir import ops
from cnnc.ir.types import TensorType
from cnnc.runtime.arrays import Array
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.philox import dropout_mask
from cnnc.runtime.scalars import Scalars
from tests.numerics import torch_side
from tests.numerics.check import check, drawn
from tests.numerics.one_step import Setup, image, parameter, run_on_cpu
from tests.torch_activations import ACTIVATIONS, ALPHA, POSITIVE, reference

SHAPES = [(1, (1, 1, 1)), (2, (5, 7, 3)), (3, (4, 2, 17)), (5, (11,)), (2, (90, 70, 3))]


def _gradient_operand(kind: str, x: Array, y: Array) -> Array:
    return x if kind in ops.FROM_INPUT else y


def test_every_activation_has_a_reference() -> None:
    assert set(ACTIVATIONS) == set(ops.ACTIVATIONS)


@pytest.mark.parametrize("kind", ops.ACTIVATIONS)
@pytest.mark.parametrize(("n", "shape"), SHAPES)
def test_activation(kind: str, n: int, shape: tuple[int, ...]) -> None:
    x_type, alpha = TensorType(shape), ALPHA.get(kind, 0.0)
    x, dy = drawn(1, x_type, n) * 3, drawn(2, x_type, n)
    x = np.abs(x) if kind in POSITIVE else x
    tx = torch.tensor(x, requires_grad=True)
    ty = reference(kind, tx)
    ty.backward(torch.tensor(dy))
    y, dx = ty.detach().numpy(), torch_side.gradient(tx).numpy()
    check(ops.Activation(kind, alpha), (x_type,), (x,), [y], Scalars(n))
    value = _gradient_operand(kind, x, y)
    check(ops.ActivationGrad(kind, alpha), (x_type, x_type), (dy, value), [dx], Scalars(n))


@pytest.mark.parametrize("kind", ops.ACTIVATIONS)
def test_activation_of_extremes(kind: str) -> None:
    x = np.array([[-np.inf, -800.0, -0.0, 800.0, np.inf, np.nan]])
    x = np.abs(x) if kind in POSITIVE else x
    expected = reference(kind, torch.tensor(x)).numpy()
    op, types = ops.Activation(kind, ALPHA.get(kind, 0.0)), (TensorType((6,)),)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(evaluate_op(op, (x,), Scalars(1))[0], expected, rtol=1e-15)
    np.testing.assert_allclose(run_on_cpu(op, types, (x,), Scalars(1))[0], expected, rtol=1e-15, atol=1e-320)


@pytest.mark.parametrize(("n", "shape"), SHAPES)
def test_bias_and_add(n: int, shape: tuple[int, ...]) -> None:
    x_type, c_type = TensorType(shape), parameter(shape[-1])
    x, other, bias = drawn(1, x_type, n), drawn(2, x_type, n), drawn(3, c_type, n)
    check(ops.BiasAdd(), (x_type, c_type), (x, bias), [x + bias], Scalars(n))
    check(ops.Add(), (x_type, x_type), (x, other), [x + other], Scalars(n))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kinks_and_ends(dtype: str) -> None:
    """What the docstrings promise where a derivative jumps, and where both sides are constant."""
    cases: list[tuple[str, float, list[float], list[float], list[float]]] = [
        ("leaky_relu", 0.5, [-2.0, 0.0, -0.0, 2.0], [-1.0, 0.0, 0.0, 2.0], [0.5, 0.5, 0.5, 1.0]),
        ("leaky_relu", 0.0, [-2.0, 0.0, 2.0], [0.0, 0.0, 2.0], [0.0, 0.0, 1.0]),
        ("elu", 0.5, [0.0, 3.0], [0.0, 3.0], [0.5, 1.0]),
        ("hard_sigmoid", 0.0, [-2.5, -9.0, 2.5, 9.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]),
        ("sign", 0.0, [-0.0, 0.0, -1.0, 1.0, -1.5, 1.5], [1, 1, -1, 1, -1, 1], [1, 1, 1, 1, 0, 0]),
        ("sign", 2.0, [1.5, 2.0, 1.0, 0.5], [-1, 1, -1, -1], [1, 1, 1, 0]),
        ("sqrt", 0.0, [0.0, 4.0], [0.0, 2.0], [0.0, 0.25]),
        ("inverse_deviation", 0.5, [0.0, 0.25, 1.0], [2.0, 2.0, 1.0], [0.0, 0.0, -0.5]),
        ("inverse_deviation", 0.0, [4.0, 0.0], [0.5, np.inf], [-0.0625, 0.0]),
    ]
    for kind, alpha, x, y, slope in cases:
        types = (TensorType((len(x),)),) * 2
        forward, backward = ops.Activation(kind, alpha), ops.ActivationGrad(kind, alpha)
        arrays = (np.ones((1, len(x))), _gradient_operand(kind, np.array([x]), np.array([y])))
        with np.errstate(divide="ignore"):
            np.testing.assert_array_equal(evaluate_op(forward, (np.array([x]),), Scalars(1))[0], [y])
            np.testing.assert_array_equal(evaluate_op(backward, arrays, Scalars(1))[0], [slope])
        np.testing.assert_array_equal(
            run_on_cpu(forward, types[:1], (np.array([x]),), Scalars(1), Setup(dtype))[0], [y]
        )
        np.testing.assert_array_equal(run_on_cpu(backward, types, arrays, Scalars(1), Setup(dtype))[0], [slope])


@pytest.mark.parametrize(("n", "shape"), SHAPES)
def test_prelu(n: int, shape: tuple[int, ...]) -> None:
    x_type, c_type = TensorType(shape), parameter(shape[-1])
    x, dy, slope = drawn(1, x_type, n), drawn(2, x_type, n), drawn(3, c_type, n)
    x.ravel()[:1] = 0
    tx, ts = (torch_side.nchw(array, grad=True) for array in (x, slope))
    ty = functional.prelu(tx, ts)
    ty.backward(torch_side.nchw(dy))
    dx, dslope = torch_side.nhwc(torch_side.gradient(tx)), torch_side.gradient(ts).numpy()
    check(ops.PRelu(), (x_type, c_type), (x, slope), [torch_side.nhwc(ty)], Scalars(n))
    check(ops.PReluGrad(), (x_type, x_type, c_type), (dy, x, slope), [dx], Scalars(n))
    check(ops.PReluSlopeGrad(), (x_type, x_type), (dy, x), [dy * np.minimum(x, 0)], Scalars(n))
    (products,) = evaluate_op(ops.PReluSlopeGrad(), (dy, x), Scalars(n))
    check(ops.ChannelSum(), (x_type,), (products,), [dslope], Scalars(n))


@pytest.mark.parametrize(("n", "shape"), SHAPES)
def test_products_and_copies(n: int, shape: tuple[int, ...]) -> None:
    x_type, c_type = TensorType(shape), parameter(shape[-1])
    x, other, factor = drawn(1, x_type, n), drawn(2, x_type, n), drawn(3, c_type, n)
    check(ops.Identity(), (x_type,), (x,), [x], Scalars(n))
    check(ops.Scale(-0.3), (x_type,), (x,), [-0.3 * x], Scalars(n))
    check(ops.ChannelScale(), (x_type, c_type), (x, factor), [x * factor], Scalars(n))
    check(ops.Mul(), (x_type, x_type), (x, other), [x * other], Scalars(n))


@pytest.mark.parametrize(("n", "shape"), [*SHAPES, (300, (2, 3, 5))])
def test_a_bias_for_each_position(n: int, shape: tuple[int, ...]) -> None:
    x_type, bias_type = TensorType(shape), parameter(*shape)
    x, dy, bias = drawn(1, x_type, n), drawn(2, x_type, n), drawn(3, bias_type, n)
    tx, tb = torch.tensor(x), torch.tensor(bias, requires_grad=True)
    ty = tx + tb
    ty.backward(torch.tensor(dy))
    check(ops.PositionBias(), (x_type, bias_type), (x, bias), [ty.detach().numpy()], Scalars(n))
    check(ops.BatchSum(), (x_type,), (dy,), [torch_side.gradient(tb).numpy()], Scalars(n))


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
def test_steps_of_infinite_gradients(dtype: str) -> None:
    """A closed unit passes 0, whatever comes from above, as in PyTorch."""
    y = np.array([[0.0, 1.0, 0.0, 1.0, 0.0, 1.0]])
    dy = np.array([[np.inf, np.inf, np.nan, np.nan, -3.0, -3.0]])
    types = (TensorType((6,)),) * 2
    for op, value in ((ops.ActivationGrad("relu"), y), (ops.ActivationGrad("sign", 3.0), 3 * y)):
        got = run_on_cpu(op, types, (dy, value), Scalars(1), Setup(dtype))[0]
        np.testing.assert_array_equal(got, [[0, np.inf, 0, np.nan, 0, -3]])
        np.testing.assert_array_equal(evaluate_op(op, (dy, value), Scalars(1))[0], got)
