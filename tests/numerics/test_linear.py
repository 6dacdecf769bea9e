"""Matrix products of vectors and pixels, and their gradients, against PyTorch."""

from __future__ import annotations

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
