"""The optimiser's update and the cast, over whole arenas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnc.ir import ops
from cnnc.ir.types import Element
from cnnc.runtime.arrays import bfloat16_bits, bfloat16_values
from cnnc.runtime.scalars import Scalars
from tests.codegen.one_step import relative_error, run_step, vector

COUNT, DECAYED = 1984, 1216


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_torchs(momentum: float, device: str) -> None:
    """Three steps in place against torch.optim.SGD in float64, with decay on the first part only."""
    rng = np.random.default_rng(17)
    p = rng.standard_normal(COUNT).astype(np.float32)
    v = np.zeros(COUNT, np.float32)
    groups = [torch.tensor(part).double().requires_grad_() for part in (p[:DECAYED], p[DECAYED:])]
    settings = [{"params": [groups[0]], "weight_decay": 0.01}, {"params": [groups[1]], "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(settings, lr=0.05, momentum=momentum)
    scalars = Scalars(1, lr=0.05, momentum=momentum, weight_decay=0.01, loss_scale=16.0)
    for _ in range(3):
        g = rng.standard_normal(COUNT).astype(np.float32)
        for group, part in zip(groups, (g[:DECAYED], g[DECAYED:]), strict=True):
            group.grad = torch.tensor(part).double()
        optimizer.step()
        operands = [vector(p), vector(g * 16), vector(v)]
        found = run_step(ops.SgdUpdate(DECAYED), operands, device=device, scalars=scalars, in_place={0: 0, 1: 2})
        assert found[0] is not None
        assert found[1] is not None
        p, v = found[0], found[1]
    assert relative_error(p, torch.cat([group.detach() for group in groups]).numpy()) < 1e-6


def test_sgd_keeps_clipped_parameters_in_range(device: str) -> None:
    rng = np.random.default_rng(18)
    p, g = 2 * rng.standard_normal(COUNT).astype(np.float32), rng.standard_normal(COUNT).astype(np.float32)
    op = ops.SgdUpdate(DECAYED, (1024, 1536))
    scalars = Scalars(1, lr=0.1, momentum=0.9, weight_decay=0.01)
    operands = [vector(p), vector(g), vector(np.zeros(COUNT, np.float32))]
    (found, _) = run_step(op, operands, device=device, scalars=scalars, in_place={0: 0, 1: 2})
    assert found is not None
    expected = p - 0.1 * (g + np.where(np.arange(COUNT) < DECAYED, 0.01, 0) * p.astype(np.float64))
    expected[1024:1536] = np.clip(expected[1024:1536], -1, 1)
    assert relative_error(found, expected) < 1e-6
    assert np.abs(found).max() > 2


def test_cast_rounds_to_nearest(device: str) -> None:
    x = np.random.default_rng(18).standard_normal(COUNT).astype(np.float32)
    x[:2] = [1 + 2**-8, 1 + 3 * 2**-8]  # halfway: to even, down and up
    (found,) = run_step(ops.CastArena(), [vector(x)], device=device, dtype="bfloat16")
    assert found is not None
    assert np.array_equal(found, bfloat16_values(bfloat16_bits(x)))
    assert found[0] == 1.0
    assert found[1] == 1 + 2**-6
    assert np.array_equal(found, torch.tensor(x).bfloat16().float().numpy())


def test_cast_to_float16(device: str) -> None:
    x = np.random.default_rng(19).standard_normal(COUNT).astype(np.float32)
    (found,) = run_step(ops.CastArena(), [vector(x, Element.ACC)], device=device, dtype="float16")
    assert np.array_equal(found, x.astype(np.float16))
