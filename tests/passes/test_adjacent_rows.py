"""Parameters of merged siblings without copies: they lie together in the arena, and so do their gradients."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc.api.network import Network
from cnnc.ir.model import Model
from cnnc.passes.pipelines import arenas_of, compile_plan
from cnnc.passes.places import ROWS
from tests.passes.arms import Arms, as_model, with_scores

DEVICES = (("cpu", "float64"), ("cpu", "float32"), ("interpret", "float32"))


def aligned(*counts: int) -> Model:
    net = Arms(6, 5, 16)
    for name, count in zip("abc", counts, strict=False):
        net.arm(name, count, 1e-3, "bias", "relu")
    return as_model(with_scores(net.joined()))


def row_steps(model: Model, variant: str, target: str = "sm_90") -> list[str]:
    """Steps that copy rows of parameters or of their gradients."""
    schedule = compile_plan(model, variant, target, "bfloat16").schedules[-1]
    return [step.name for step in (*schedule.prepare, *schedule.steps) if isinstance(step.op, ROWS)]


def test_parameters_that_lie_together_are_not_copied() -> None:
    """The weight, gamma, beta and bias of three siblings are one array each, and their gradients too."""
    model = aligned(16, 48, 5)
    assert [len(group) for group in arenas_of(model).params.together] == [3] * 4
    assert row_steps(model, "vjp") == []
    assert row_steps(model, "infer") == ["a.rows1", "a.bn.rows1"], "folded weights are made in another place"


def test_steps_name_the_layers_of_all_siblings() -> None:
    schedule = compile_plan(aligned(16, 48, 5), "infer", "cpu", "float32").schedules[0]
    layers = schedule.steps[0].layers
    assert {"a", "b", "c", "a.relu", "b.relu", "c.relu"} <= {*layers}


def test_counts_that_leave_gaps_are_copied() -> None:
    copies = [name for name in row_steps(aligned(16, 9, 5), "vjp") if "statistic" not in name]
    assert len(copies) == 3 * (1 + 3), "of gamma, beta and bias; weights of 9 filters of 16 channels leave no gap"


def test_plans_without_the_pass_read_the_same_arena() -> None:
    model = aligned(16, 48, 5)
    plans = [compile_plan(model, "vjp", "cpu", "float32", frozenset(names)) for names in ((), ("merge_siblings",))]
    assert plans[0].params == plans[1].params


@pytest.mark.parametrize(("device", "dtype"), DEVICES)
def test_gradients_are_where_the_optimiser_reads_them(device: str, dtype: str) -> None:
    model = aligned(16, 48, 5)
    net = Network(model, device=device, dtype=dtype, training=True, seed=1)
    apart = Network(model, device=device, dtype=dtype, training=True, seed=1, without=["merge_siblings"])
    rng = np.random.default_rng(5)
    x, dy = (rng.standard_normal((3, *shape)).astype(np.float32) for shape in (net.input_shape, net.output_shape))
    for ours, theirs in zip(net.vjp(x, dy), apart.vjp(x, dy), strict=True):
        pairs = [(ours[name], theirs[name]) for name in theirs] if isinstance(theirs, dict) else [(ours, theirs)]
        largest = max(float(np.linalg.norm(want)) for _, want in pairs)
        for found, want in pairs:
            assert np.linalg.norm(found - want) <= 1e-5 * max(1e-2 * largest, float(np.linalg.norm(want)))
