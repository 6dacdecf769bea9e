"""Batch normalisation: training, gradient, running statistics, inference and folding, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnc.ir import ops
from cnnc.ir.types import TensorType
from cnnc.ir.window import Window
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.numerics import torch_side
from tests.numerics.check import DOUBLE, check, check_cpu, drawn
from tests.numerics.one_step import Setup, image, parameter, relative, run_on_cpu

EPS, MOMENTUM = 1e-3, 0.3
SHAPES = [(5, (4, 3, 7)), (2, (1, 1, 3)), (3, (13,)), (1, (5, 6, 1)), (2, (17, 19, 2))]


@pytest.mark.parametrize(("n", "shape"), SHAPES)
def test_training(n: int, shape: tuple[int, ...]) -> None:
    channels = shape[-1]
    x_type, c_type, scalars = TensorType(shape), parameter(channels), Scalars(n)
    x, dy = np.float32(drawn(1, x_type, n) * 3 + 5).astype(np.float64), drawn(2, x_type, n)
    gamma, beta = drawn(3, c_type, n), drawn(4, c_type, n)
    running_mean, running_var = drawn(5, c_type, n), drawn(6, c_type, n) ** 2 + 0.5

    module = (torch.nn.BatchNorm2d if len(shape) == 3 else torch.nn.BatchNorm1d)(channels, EPS, MOMENTUM).double()
    values = {"weight": gamma, "bias": beta, "running_mean": running_mean, "running_var": running_var}
    module.load_state_dict({name: torch.tensor(value) for name, value in values.items()}, strict=False)
    tx = torch_side.nchw(x, grad=True)
    ty = module(tx)
    ty.backward(torch_side.nchw(dy))
    y, dx = torch_side.nhwc(ty), torch_side.nhwc(torch_side.gradient(tx))
    dgamma, dbeta = (torch_side.gradient(p).numpy() for p in (module.weight, module.bias))
    axes = tuple(range(x.ndim - 1))
    mean, var = x.mean(axes), x.var(axes)

    got = evaluate_op(ops.BatchNormTrain(EPS), (x, gamma, beta), scalars)
    assert max(relative(*pair) for pair in zip(got, (y, mean, var), strict=True)) <= DOUBLE
    got = evaluate_op(ops.BatchNormGrad(EPS), (dy, x, mean, var, gamma), scalars)
    assert max(relative(*pair) for pair in zip(got, (dx, dgamma, dbeta), strict=True)) <= DOUBLE
    check(ops.BatchNormStats(), (x_type,), (x,), [mean, var], scalars)
    # Two numbers per channel may lie so close that rounding their mean to float32 shows in the result.
    single = 1e-6 if x.size // channels > 2 else 1e-4
    vectors = (c_type,) * 4
    check(ops.BatchNorm(EPS), (x_type, *vectors), (x, gamma, beta, mean, var), [y], scalars, single=single)
    reduce = ops.BatchNormReduce(EPS)
    check(reduce, (x_type, x_type, c_type, c_type), (dy, x, mean, var), [dgamma, dbeta], scalars, single=single)
    grad, operands = ops.BatchNormInputGrad(EPS), (dy, x, mean, var, gamma, dgamma, dbeta)
    check(grad, (x_type, x_type, *(c_type,) * 5), operands, [dx], scalars, single=single)
    pixels = x[0].size // channels
    update = ops.BatchNormUpdate(MOMENTUM, pixels)
    expected = [getattr(module, name).numpy() for name in ("running_mean", "running_var")]
    check(update, vectors, (running_mean, running_var, mean, var), expected, scalars)


def test_one_number_per_channel() -> None:
    """With one pixel in the batch there is no unbiased variance: the running one stays."""
    c_type = parameter(3)
    operands = [drawn(seed, c_type, 1) ** 2 for seed in range(4)]
    expected = [0.9 * operands[0] + 0.1 * operands[2], operands[1]]
    check(ops.BatchNormUpdate(0.1, 1), (c_type,) * 4, operands, expected, Scalars(1))


def test_variance_far_from_zero() -> None:
    """Two passes: the variance of numbers around 10^4 is exact to float32, where E[x^2] - E[x]^2 loses all."""
    x_type = image(9, 9, 3)
    x = (drawn(1, x_type, 4) + 1e4).astype(np.float32).astype(np.float64)
    expected = [x.mean((0, 1, 2)), x.var((0, 1, 2))]
    check_cpu(ops.BatchNormStats(), (x_type,), (x,), expected, Scalars(4))


def test_sum_of_many_pixels_in_float32() -> None:
    """Blocked sums: a million float32 terms keep seven digits."""
    kind = image(256, 256, 3)
    x = drawn(1, kind, 16) + 1
    result = run_on_cpu(ops.ChannelSum(), (kind,), (x,), Scalars(16), setup=Setup("float32"))[0]
    assert result is not None
    assert relative(result, x.sum((0, 1, 2))) <= 2e-7


def test_statistics_that_nobody_reads() -> None:
    x_type = image(4, 3, 2)
    x = drawn(1, x_type, 2)
    mean, var = run_on_cpu(ops.BatchNormStats(), (x_type,), (x,), Scalars(2), wanted=(False, True))
    assert mean is None
    assert var is not None
    assert relative(var, x.var((0, 1, 2))) <= DOUBLE


@pytest.mark.parametrize("with_bias", [False, True])
def test_folding(with_bias: bool) -> None:
    """conv, bias, bn equals a conv with the folded weight and bias."""
    window, n = Window((3, 3), pad=(1, 1, 1, 1)), 2
    x_type, w_type, c_type = image(5, 6, 3), parameter(7, 3, 3, 3), parameter(7)
    x, w, bias, gamma, beta, mean = (drawn(i, t, n) for i, t in enumerate((x_type, w_type, *(c_type,) * 4)))
    bias, var = bias * with_bias, drawn(9, c_type, n) ** 2 + 0.1
    scalars = Scalars(n)
    plain = evaluate_op(ops.Conv(window), (x, w), scalars)[0] + bias
    y = evaluate_op(ops.BatchNorm(EPS), (plain, gamma, beta, mean, var), scalars)[0]
    folded = evaluate_op(ops.FoldScale(EPS), (w, gamma, var), scalars)[0]
    shifts = (gamma, beta, mean, var, *((bias,) if with_bias else ()))
    shift = evaluate_op(ops.FoldShift(EPS), shifts, scalars)[0]
    assert relative(evaluate_op(ops.Conv(window), (x, folded), scalars)[0] + shift, y) <= DOUBLE
    check_cpu(ops.FoldScale(EPS), (w_type, c_type, c_type), (w, gamma, var), [folded], scalars)
    check_cpu(ops.FoldShift(EPS), (c_type,) * len(shifts), shifts, [shift], scalars)
