"""Ops that move pixels, through autodiff, all passes and both runtimes."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc.ir import ops
from cnnc.passes.pipelines import meaning, optimise
from cnnc.runtime.device import open_device
from cnnc.runtime.oracle import evaluate
from cnnc.runtime.scalars import Scalars
from cnnc.runtime.verify import random_params, verify_model
from tests.space_network import IMAGE, space_network


def test_gradients_against_central_differences() -> None:
    model = space_network(3)
    forward, graph = meaning(model, "forward"), meaning(model, "vjp")
    rng, scalars = np.random.default_rng(3), Scalars(2, seed=1)
    params = random_params(model, 4)
    x, dy = rng.standard_normal((2, *IMAGE, 3)), rng.standard_normal((2, 9))

    def objective(changed: np.ndarray) -> float:
        values = evaluate(forward, {"input": changed}, params, scalars=scalars)
        return float((values[forward.outputs["output"]] * dy).sum())

    values = evaluate(graph, {"input": x, "doutput": dy}, params, scalars=scalars)
    dx = values[graph.outputs["dinput"]]
    found, expected = [], []
    for index in [tuple(i) for i in rng.integers(0, x.shape, (40, 4))]:
        step = np.zeros_like(x)
        step[index] = 1e-5
        found.append(dx[index])
        expected.append((objective(x + step) - objective(x - step)) / 2e-5)
    assert np.linalg.norm(np.subtract(found, expected)) <= 1e-7 * np.linalg.norm(expected)
    assert np.count_nonzero(expected) > 20


def test_what_follows_joins_their_kernels() -> None:
    graph = optimise(space_network(3), "vjp")
    kinds = {type(node.op.anchor) for node in graph.walk() if isinstance(node.op, ops.Fused)}
    assert {ops.SumPool, ops.Crop, ops.PadShortcut, ops.Upsample, ops.Conv} <= kinds


@pytest.mark.parametrize(("device", "dtype"), [("cpu", "float32"), ("cpu", "float64"), ("interpret", "float32")])
def test_every_group_of_every_plan(device: str, dtype: str) -> None:
    groups = list(verify_model(space_network(3), open_device(device, dtype), dtype, train=True))
    assert {group.variant for group in groups} == {"infer", "forward", "loss", "vjp"}
    assert [group for group in groups if not group.passed] == []
