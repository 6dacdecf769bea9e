"""Softmax, cross-entropy, reductions and the optimiser, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnc.ir import ops
from cnnc.ir.types import Element, TensorType
from cnnc.runtime.oracle import evaluate_op
from cnnc.runtime.scalars import Scalars
from tests.numerics import torch_side
from tests.numerics.check import DOUBLE, check, drawn
from tests.numerics.one_step import Setup, parameter, relative, run_on_cpu

LABEL = TensorType((), True, Element.LABEL)
SCALAR = TensorType((), True, Element.ACC)


@pytest.mark.parametrize(("n", "shape"), [(1, (1,)), (4, (7,)), (2, (3, 5, 11))])
def test_softmax(n: int, shape: tuple[int, ...]) -> None:
    x_type = TensorType(shape)
    x, dy = drawn(1, x_type, n) * 4, drawn(2, x_type, n)
    tx = torch.tensor(x, requires_grad=True)
    ty = torch.softmax(tx, -1)
    ty.backward(torch.tensor(dy))
    y = ty.detach().numpy()
    check(ops.Softmax(), (x_type,), (x,), [y], Scalars(n))
    check(ops.SoftmaxGrad(), (x_type, x_type), (dy, y), [torch_side.gradient(tx).numpy()], Scalars(n))


@pytest.mark.parametrize(("n", "classes", "scale"), [(1, 1, 1.0), (1, 7, 1.0), (5, 13, 1.0), (4, 10, 1024.0)])
def test_cross_entropy(n: int, classes: int, scale: float) -> None:
    x_type = TensorType((classes,))
    x, label = drawn(1, x_type, n) * 4, np.random.default_rng(2).integers(0, classes, n)
    tx = torch.tensor(x, requires_grad=True)
    losses = torch.nn.functional.cross_entropy(tx, torch.tensor(label), reduction="none")
    (losses.mean() * scale).backward()
    expected = [losses.detach().numpy(), torch_side.gradient(tx).numpy()]
    check(ops.CrossEntropy(), (x_type, LABEL), (x, label), expected, Scalars(n, loss_scale=scale))
    check(ops.BatchMean(), (SCALAR,), (expected[0],), [np.asarray(expected[0].mean())], Scalars(n))


@pytest.mark.parametrize(
    ("n", "shape", "weight"), [(1, (1, 1, 5), 1.0), (3, (5, 7, 11), 0.3), (2, (13, 1, 2), 1.0), (1, (6, 5, 1), 2.5)]
)
def test_cross_entropy_per_position(n: int, shape: tuple[int, int, int], weight: float) -> None:
    x_type, scale = TensorType(shape), 64.0
    x, label = drawn(1, x_type, n) * 4, np.random.default_rng(2).integers(0, shape[2], (n, *shape[:2]))
    tx = torch_side.nchw(x, grad=True)
    losses = weight * torch.nn.functional.cross_entropy(tx, torch.tensor(label), reduction="none").mean((1, 2))
    (losses.mean() * scale).backward()
    expected = [losses.detach().numpy(), torch_side.nhwc(torch_side.gradient(tx))]
    types = (x_type, TensorType(shape[:2], True, Element.LABEL))
    check(ops.CrossEntropy(weight), types, (x, label), expected, Scalars(n, loss_scale=scale))


def test_batch_mean_of_a_sum() -> None:
    parts = [drawn(seed, SCALAR, 7) for seed in (1, 2, 3)]
    check(ops.BatchMean(), (SCALAR,) * 3, parts, [np.asarray(sum(parts).mean())], Scalars(7))


def test_zeros() -> None:
    check(ops.Zeros((3, 5)), (), (), [np.zeros((3, 5))], Scalars(1))
    check(ops.Zeros((2, 3, 5), True), (), (), [np.zeros((4, 2, 3, 5))], Scalars(4))


def test_cross_entropy_of_large_logits() -> None:
    x, label = np.array([[1e4, -1e4, 0.0], [-3e4, -3e4, -3e4]]), np.array([1, 2])
    want = torch.nn.functional.cross_entropy(torch.tensor(x), torch.tensor(label), reduction="none").numpy()
    for loss, dlogits in (
        evaluate_op(ops.CrossEntropy(), (x, label), Scalars(2)),
        run_on_cpu(ops.CrossEntropy(), (TensorType((3,)), LABEL), (x, label), Scalars(2)),
    ):
        assert loss is not None
        assert relative(loss, want) <= DOUBLE
        assert np.isfinite(dlogits).all()


def test_only_one_output_of_cross_entropy() -> None:
    types, operands = (TensorType((5,)), LABEL), (drawn(1, TensorType((5,)), 3), np.array([4, 0, 2]))
    loss, dlogits = evaluate_op(ops.CrossEntropy(), operands, Scalars(3))
    got = run_on_cpu(ops.CrossEntropy(), types, operands, Scalars(3), wanted=(True, False))
    assert relative(got[0], loss) <= DOUBLE
    got = run_on_cpu(ops.CrossEntropy(), types, operands, Scalars(3), wanted=(False, True))
    assert relative(got[1], dlogits) <= DOUBLE


@pytest.mark.parametrize(("n", "shape"), [(1, (3,)), (300, (7,)), (2, (1, 1, 5)), (3, (17, 31, 3))])
def test_channel_sum(n: int, shape: tuple[int, ...]) -> None:
    kind = TensorType(shape)
    dy = drawn(1, kind, n)
    check(ops.ChannelSum(), (kind,), (dy,), [dy.sum(tuple(range(dy.ndim - 1)))], Scalars(n))


@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.0), (0.9, 5e-4), (0.0, 0.1)])
def test_sgd(momentum: float, decay: float) -> None:
    """Three steps over an arena whose first 64 elements are decayed, against torch.optim.SGD."""
    count, decayed, scale, lr = 200, 64, 8.0, 0.05
    start = drawn(1, parameter(count), 1)
    left, right = (torch.tensor(part, requires_grad=True) for part in (start[:decayed], start[decayed:]))
    groups = [{"params": [left], "weight_decay": decay}, {"params": [right], "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=lr, momentum=momentum)
    op, types = ops.SgdUpdate(decayed), (parameter(count),) * 3
    scalars = Scalars(1, loss_scale=scale, lr=lr, momentum=momentum, weight_decay=decay)
    oracle = cpu = single = (start, np.zeros(count))
    for step in range(3):
        gradient = drawn(10 + step, parameter(count), 1)
        left.grad, right.grad = torch.tensor(gradient[:decayed]), torch.tensor(gradient[decayed:])
        optimizer.step()
        oracle = evaluate_op(op, (oracle[0], gradient * scale, oracle[1]), scalars)
        cpu = run_on_cpu(op, types, (cpu[0], gradient * scale, cpu[1]), scalars)
        single = run_on_cpu(op, types, (single[0], gradient * scale, single[1]), scalars, Setup("float32"))
    expected = torch.cat([left, right]).detach().numpy()
    assert relative(oracle[0], expected) <= DOUBLE
    assert relative(cpu[0], expected) <= DOUBLE
    assert relative(single[0], expected) <= 1e-6
