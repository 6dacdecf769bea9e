"""Matrix products of vectors and pixels, distances, and their gradients, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnc.ir import ops
from cnnc.ir.types import TensorType
from cnnc.runtime.scalars import Scalars
from tests.numerics import torch_side
from tests.numerics.check import check, drawn
from tests.numerics.one_step import parameter

SHAPES = [(1, (7,), 1), (5, (13,), 17), (1, (1, 1, 3), 2), (2, (5, 3, 11), 7), (3, (4, 6, 1), 5)]


@pytest.mark.parametrize(("n", "shape", "filters"), SHAPES)
def test_against_torch(n: int, shape: tuple[int, ...], filters: int) -> None:
    x_type, y_type, w_type = TensorType(shape), TensorType((*shape[:-1], filters)), parameter(filters, shape[-1])
    x, w, dy = drawn(1, x_type, n), drawn(2, w_type, n), drawn(3, y_type, n)
    tx, tw = torch.tensor(x, requires_grad=True), torch.tensor(w, requires_grad=True)
    ty = torch.nn.functional.linear(tx, tw)
    ty.backward(torch.tensor(dy))
    dx, dw = (torch_side.gradient(t).numpy() for t in (tx, tw))
    check(ops.Linear(), (x_type, w_type), (x, w), [ty.detach().numpy()], Scalars(n))
    check(ops.LinearDgrad(), (y_type, w_type), (dy, w), [dx], Scalars(n))
    check(ops.LinearWgrad(), (y_type, x_type), (dy, x), [dw], Scalars(n))


@pytest.mark.parametrize(("n", "channels", "codes"), [(1, 1, 1), (5, 13, 3), (3, 84, 10)])
def test_distances_from_codes(n: int, channels: int, codes: int) -> None:
    x_type, y_type, w_type = TensorType((channels,)), TensorType((codes,)), parameter(codes, channels)
    x, w, dy = drawn(1, x_type, n), drawn(2, w_type, n), drawn(3, y_type, n)
    tx, tw = torch.tensor(x, requires_grad=True), torch.tensor(w)
    ty = (tx[:, None] - tw).square().sum(2)
    ty.backward(torch.tensor(dy))
    dx = torch_side.gradient(tx).numpy()
    check(ops.Rbf(), (x_type, w_type), (x, w), [ty.detach().numpy()], Scalars(n))
    check(ops.RbfGrad(), (y_type, x_type, w_type), (dy, x, w), [dx], Scalars(n))


def test_distances_near_a_code_do_not_cancel() -> None:
    """Where |x|^2 - 2xw + |w|^2 would have no digit left in float32."""
    x_type, w_type = TensorType((84,)), parameter(1, 84)
    w = np.ones((1, 84))
    x = w + 2.0**-20
    check(ops.Rbf(), (x_type, w_type), (x, w), [np.full((1, 1), 84 * 2.0**-40)], Scalars(1))
