"""Fused bodies: results, inner values and places in every combination, against their parts in the oracle."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc.ir import ops
from cnnc.ir.types import Element, TensorType
from cnnc.ir.window import Window
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.numerics.check import check_same, drawn
from tests.numerics.one_step import image, parameter, run_on_cpu

WINDOW = Window((3, 3), pad=(1, 1, 1, 1))
POOL = Window((2, 2), (2, 2))
X, W, BIAS = image(6, 8, 5), parameter(7, 3, 3, 5), parameter(7)
Y = image(6, 8, 7)

CONV = ops.Part("conv", ops.Conv(WINDOW), (0, 1))
CONV_BIAS = (CONV, ops.Part("bias", ops.BiasAdd(), (3, 2)))

# name -> (operand types, body)
BODIES: dict[str, tuple[tuple[TensorType, ...], ops.Fused]] = {
    "conv_bias_relu": ((X, W, BIAS), ops.Fused((*CONV_BIAS, ops.Part("relu", ops.Activation("relu"), (4,))), (5,))),
    "inner_value_leaves_too": (
        (X, W, BIAS),
        ops.Fused((*CONV_BIAS, ops.Part("tanh", ops.Activation("tanh"), (4,))), (4, 5)),
    ),
    "residual": (
        (X, W, BIAS, Y),
        ops.Fused(
            (
                CONV,
                ops.Part("bias", ops.BiasAdd(), (4, 2)),
                ops.Part("add", ops.Add(), (3, 5)),
                ops.Part("relu", ops.Activation("relu"), (6,)),
            ),
            (7,),
        ),
    ),
    "value_read_twice": (
        (X, W, BIAS),
        ops.Fused(
            (*CONV_BIAS, ops.Part("tanh", ops.Activation("tanh"), (4,)), ops.Part("add", ops.Add(), (4, 5))), (6,)
        ),
    ),
    "twice_the_same": ((X, W, BIAS), ops.Fused((*CONV_BIAS, ops.Part("add", ops.Add(), (4, 4))), (5,))),
    "pool_after_conv": (
        (X, W, BIAS),
        ops.Fused((*CONV_BIAS, ops.Part("pool", ops.MaxPool(POOL), (4,))), (5, 6)),
    ),
    "conv_bias_dropout_statistics": (
        (X, W, BIAS),
        ops.Fused(
            (*CONV_BIAS, ops.Part("drop", ops.Dropout(0.4, 3), (4,)), ops.Part("stats", ops.BatchNormStats(), (5,))),
            (5, 6, 7),
        ),
    ),
    "maxpool_grad_relu_grad": (
        (image(3, 4, 5), TensorType((3, 4, 5), True, Element.INDEX), X),
        ops.Fused(
            (
                ops.Part("grad", ops.MaxPoolGrad(POOL, (6, 8)), (0, 1)),
                ops.Part("relu", ops.ActivationGrad("relu"), (3, 2)),
            ),
            (4,),
        ),
    ),
    "dgrad_tanh_grad_sum": (
        (Y, W, X),
        ops.Fused(
            (
                ops.Part("dgrad", ops.ConvDgrad(WINDOW, (6, 8)), (0, 1)),
                ops.Part("tanh", ops.ActivationGrad("tanh"), (3, 2)),
                ops.Part("sum", ops.ChannelSum(), (4,)),
            ),
            (4, 5),
        ),
    ),
    "linear_softmax": (
        (TensorType((11,)), parameter(5, 11)),
        ops.Fused((ops.Part("fc", ops.Linear(), (0, 1)), ops.Part("softmax", ops.Softmax(), (2,))), (2, 3)),
    ),
    "a_result_twice": ((X, W, BIAS), ops.Fused(CONV_BIAS, (4, 3, 4))),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("n", [1, 3])
def test_body(name: str, n: int) -> None:
    types, body = BODIES[name]
    operands = []
    for seed, kind in enumerate(types):
        if kind.element is Element.INDEX:
            operands.append(np.random.default_rng(seed).integers(0, 4, (n, *kind.shape)).astype(np.uint8))
        else:
            operands.append(drawn(seed, kind, n))
    check_same(body, types, operands, Scalars(n, seed=5, step=2))


def test_result_nobody_reads() -> None:
    types, body = BODIES["pool_after_conv"]
    operands = [drawn(seed, kind, 2) for seed, kind in enumerate(types)]
    y, index = run_on_cpu(body, types, operands, Scalars(2), wanted=(True, False))
    assert index is None
    np.testing.assert_allclose(y, evaluate_op(body, operands, Scalars(2))[0], rtol=1e-12)
