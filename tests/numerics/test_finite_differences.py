"""Every gradient op of the oracle against central differences in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cnnc.ir import ops
from cnnc.ir.window import Window
from cnnc.runtime.arrays import Array
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars

STEP = 1e-5  # error of a central difference: STEP^2 of truncation, 1e-16 / STEP of rounding
TOLERANCE = 1e-8  # relative L2
WINDOW = Window((3, 2), (2, 1), (1, 0, 1, 2), (1, 2))
LRN = ops.Lrn(4, 0.3, 0.75, 1.5)
POOL = Window((3, 3), (2, 2), (1, 1, 1, 1), ceil=True)
SCALARS = Scalars(2, seed=4, step=1)
LABEL = np.array([2, 0])
LABEL_MAP = np.random.default_rng(3).integers(0, 4, (2, 7, 6))

IMAGE, WEIGHT, VECTOR = (2, 7, 6, 4), (6, 3, 2, 2), (2, 5)

Forward = Callable[..., Array]
Gradient = Callable[..., Array]


def forward(op: ops.Op, result: int = 0) -> Forward:
    return lambda *operands: evaluate_op(op, operands, SCALARS)[result]


def gradient(op: ops.Op, result: int = 0) -> Gradient:
    return lambda *operands: evaluate_op(op, operands, SCALARS)[result]


def _bn_grad(result: int) -> Gradient:
    def run(dy: Array, x: Array, gamma: Array, beta: Array) -> Array:
        _, mean, var = evaluate_op(ops.BatchNormTrain(), (x, gamma, beta), SCALARS)
        return evaluate_op(ops.BatchNormGrad(), (dy, x, mean, var, gamma), SCALARS)[result]

    return run


def _activation_grad(kind: str, alpha: float = 0.0) -> Gradient:
    def run(dy: Array, x: Array) -> Array:
        value = x if kind in ops.FROM_INPUT else forward(ops.Activation(kind, alpha))(x)
        return gradient(ops.ActivationGrad(kind, alpha))(dy, value)

    return run


def _of_variance(kind: str, alpha: float) -> tuple[Forward, tuple[tuple[int, ...], ...], int, Gradient]:
    """An activation of x^2, which is no variance below 0."""
    inner = _activation_grad(kind, alpha)
    return (lambda x: forward(ops.Activation(kind, alpha))(x * x), (IMAGE,), 0, lambda dy, x: 2 * x * inner(dy, x * x))


def _prelu_slope(dy: Array, x: Array, slope: Array) -> Array:
    return gradient(ops.ChannelSum())(gradient(ops.PReluSlopeGrad())(dy, x))


def _maxpool_grad(dy: Array, x: Array) -> Array:
    return gradient(ops.MaxPoolGrad(POOL, (7, 6)))(dy, forward(ops.MaxPool(POOL), 1)(x))


def _softmax_grad(dy: Array, x: Array) -> Array:
    return gradient(ops.SoftmaxGrad())(dy, forward(ops.Softmax())(x))


def _mean_loss(x: Array) -> Array:
    return forward(ops.BatchMean())(evaluate_op(ops.CrossEntropy(), (x, LABEL), SCALARS)[0])


def _map_loss(x: Array) -> Array:
    return forward(ops.BatchMean())(evaluate_op(ops.CrossEntropy(0.3), (x, LABEL_MAP), SCALARS)[0])


def _map_loss_grad(dy: Array, x: Array) -> Array:
    result: Array = dy * evaluate_op(ops.CrossEntropy(0.3), (x, LABEL_MAP), SCALARS)[1]
    return result


def _loss_grad(dy: Array, x: Array) -> Array:
    result: Array = dy * evaluate_op(ops.CrossEntropy(), (x, LABEL), SCALARS)[1]
    return result


# name -> (forward, operand shapes, operand that is varied, its gradient from dy and the operands)
CASES: dict[str, tuple[Forward, tuple[tuple[int, ...], ...], int, Gradient]] = {
    "conv_dgrad": (
        forward(ops.Conv(WINDOW, 2)),
        (IMAGE, WEIGHT),
        0,
        lambda dy, x, w: gradient(ops.ConvDgrad(WINDOW, (7, 6), 2))(dy, w),
    ),
    "conv_wgrad": (
        forward(ops.Conv(WINDOW, 2)),
        (IMAGE, WEIGHT),
        1,
        lambda dy, x, w: gradient(ops.ConvWgrad(WINDOW, 2))(dy, x),
    ),
    "deconv_dx": (
        forward(ops.ConvDgrad(WINDOW, (7, 6), 2)),
        ((2, 3, 7, 6), WEIGHT),
        0,
        lambda dy, x, w: gradient(ops.Conv(WINDOW, 2))(dy, w),
    ),
    "deconv_dw": (
        forward(ops.ConvDgrad(WINDOW, (7, 6), 2)),
        ((2, 3, 7, 6), WEIGHT),
        1,
        lambda dy, x, w: gradient(ops.ConvWgrad(WINDOW, 2))(x, dy),
    ),
    "maxout_grad": (forward(ops.Maxout(2)), (IMAGE,), 0, lambda dy, x: gradient(ops.MaxoutGrad(2))(dy, x)),
    "lrn_grad": (forward(LRN), (IMAGE,), 0, lambda dy, x: gradient(ops.LrnGrad(4, 0.3, 0.75, 1.5))(dy, x)),
    "shuffle": (forward(ops.ChannelShuffle(2)), (IMAGE,), 0, lambda dy, x: gradient(ops.ChannelShuffle(2))(dy)),
    "linear_dgrad": (forward(ops.Linear()), (IMAGE, (3, 4)), 0, lambda dy, x, w: gradient(ops.LinearDgrad())(dy, w)),
    "linear_wgrad": (forward(ops.Linear()), (IMAGE, (3, 4)), 1, lambda dy, x, w: gradient(ops.LinearWgrad())(dy, x)),
    "bias": (forward(ops.BiasAdd()), (IMAGE, (4,)), 1, lambda dy, x, b: gradient(ops.ChannelSum())(dy)),
    "maxpool_grad": (forward(ops.MaxPool(POOL)), (IMAGE,), 0, _maxpool_grad),
    "avgpool_grad": (
        forward(ops.AvgPool(POOL)),
        (IMAGE,),
        0,
        lambda dy, x: gradient(ops.AvgPoolGrad(POOL, (7, 6)))(dy),
    ),
    "avgpool_grad_countpad": (
        forward(ops.AvgPool(POOL, True)),
        (IMAGE,),
        0,
        lambda dy, x: gradient(ops.AvgPoolGrad(POOL, (7, 6), True))(dy),
    ),
    "global_avgpool_grad": (
        forward(ops.GlobalAvgPool()),
        (IMAGE,),
        0,
        lambda dy, x: gradient(ops.GlobalAvgPoolGrad((7, 6)))(dy),
    ),
    "bn_dx": (forward(ops.BatchNormTrain()), (IMAGE, (4,), (4,)), 0, _bn_grad(0)),
    "bn_dgamma": (forward(ops.BatchNormTrain()), (IMAGE, (4,), (4,)), 1, _bn_grad(1)),
    "bn_dbeta": (forward(ops.BatchNormTrain()), (IMAGE, (4,), (4,)), 2, _bn_grad(2)),
    "relu_grad": (forward(ops.Activation("relu")), (IMAGE,), 0, _activation_grad("relu")),
    "tanh_grad": (forward(ops.Activation("tanh")), (IMAGE,), 0, _activation_grad("tanh")),
    "sigmoid_grad": (forward(ops.Activation("sigmoid")), (IMAGE,), 0, _activation_grad("sigmoid")),
    "leaky_relu_grad": (forward(ops.Activation("leaky_relu", 0.1)), (IMAGE,), 0, _activation_grad("leaky_relu", 0.1)),
    "elu_grad": (forward(ops.Activation("elu", 0.7)), (IMAGE,), 0, _activation_grad("elu", 0.7)),
    "scaled_tanh_grad": (forward(ops.Activation("scaled_tanh")), (IMAGE,), 0, _activation_grad("scaled_tanh")),
    "hard_sigmoid_grad": (forward(ops.Activation("hard_sigmoid")), (IMAGE,), 0, _activation_grad("hard_sigmoid")),
    "softsign_grad": (forward(ops.Activation("softsign")), (IMAGE,), 0, _activation_grad("softsign")),
    "sqrt_grad": _of_variance("sqrt", 0.0),
    "inverse_deviation_grad": _of_variance("inverse_deviation", 0.5),
    "prelu_dx": (forward(ops.PRelu()), (IMAGE, (4,)), 0, lambda dy, x, a: gradient(ops.PReluGrad())(dy, x, a)),
    "prelu_dslope": (forward(ops.PRelu()), (IMAGE, (4,)), 1, _prelu_slope),
    "position_bias": (
        forward(ops.PositionBias()),
        (IMAGE, IMAGE[1:]),
        1,
        lambda dy, x, b: gradient(ops.BatchSum())(dy),
    ),
    "mul": (forward(ops.Mul()), (IMAGE, IMAGE), 1, lambda dy, a, b: gradient(ops.Mul())(dy, a)),
    "scale": (forward(ops.Scale(-0.3)), (IMAGE,), 0, lambda dy, x: gradient(ops.Scale(-0.3))(dy)),
    "channel_scale_dx": (
        forward(ops.ChannelScale()),
        (IMAGE, (4,)),
        0,
        lambda dy, x, w: gradient(ops.ChannelScale())(dy, w),
    ),
    "channel_scale_dw": (
        forward(ops.ChannelScale()),
        (IMAGE, (4,)),
        1,
        lambda dy, x, w: gradient(ops.ChannelSum())(gradient(ops.Mul())(dy, x)),
    ),
    "mask_weight": (
        forward(ops.MaskWeight()),
        (WEIGHT, (6, 2)),
        0,
        lambda dy, w, mask: gradient(ops.MaskWeight())(dy, mask),
    ),
    "dropout": (forward(ops.Dropout(0.4, 1)), (IMAGE,), 0, lambda dy, x: gradient(ops.Dropout(0.4, 1))(dy)),
    "flatten": (forward(ops.Flatten()), (IMAGE,), 0, lambda dy, x: gradient(ops.Unflatten((7, 6, 4)))(dy)),
    "softmax_grad": (forward(ops.Softmax()), (VECTOR,), 0, _softmax_grad),
    "cross_entropy": (_mean_loss, (VECTOR,), 0, _loss_grad),
    "cross_entropy_per_position": (_map_loss, (IMAGE,), 0, _map_loss_grad),
    "rbf_grad": (forward(ops.Rbf()), (VECTOR, (3, 5)), 0, lambda dy, x, w: gradient(ops.RbfGrad())(dy, x, w)),
}


@pytest.mark.parametrize("name", CASES)
def test_gradient(name: str) -> None:
    function, shapes, varied, derivative = CASES[name]
    rng = np.random.default_rng(7)
    # Distinct multiples of 0.01: no two maxima or kinks of relu within a step of each other.
    operands = [0.01 * (rng.permutation(int(np.prod(shape))) + 0.5).reshape(shape) - 1 for shape in shapes]
    dy = rng.standard_normal(function(*operands).shape)
    expected = derivative(dy, *operands)
    numeric = np.empty_like(expected)
    for place in np.ndindex(*expected.shape):
        ends = []
        for sign in (1, -1):
            moved = [operand.copy() for operand in operands]
            moved[varied][place] += sign * STEP
            ends.append(np.sum(function(*moved) * dy))
        numeric[place] = (ends[0] - ends[1]) / (2 * STEP)
    assert np.linalg.norm(numeric - expected) <= TOLERANCE * np.linalg.norm(expected)
