"""Every published network, narrower and on smaller images, means the same after every pipeline, and runs so on cpu."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from cnnc.ir import ops
from cnnc.ir.graph import Graph, Value
from cnnc.ir.model import Model
from cnnc.passes.pipelines import NOTHING, OPTIONAL, PIPELINES, Without, meaning, optimise
from cnnc.runtime import verify
from cnnc.runtime.arrays import Array
from cnnc.runtime.compare import output_errors
from cnnc.runtime.device import open_device
from cnnc.runtime.oracle import evaluate
from cnnc.runtime.scalars import Scalars
from cnnc.runtime.verify import random_inputs, random_params, verify_model
from tests.reductions import everyday, reduced
from tests.remembered import Values, remember_passes
from tests.torch_parts import MOMENTUM

TOLERANCE = 1e-9  # relative L2 in float64
# Batch norms over a few pixels multiply rounding errors, of the input too: by 1e7 in Inception with an eps of 1e-5.
GENTLE_EPS = 0.1
RESIDUAL_GAMMA = 0.3  # residual arms add little, as in trained networks
BATCH = 3
SCALARS = Scalars(BATCH, seed=1, step=1)

# Narrow networks without batch norm die of their ReLUs: draws of weights that keep these alive.
SEEDS = {"googlenet": 4, "xo_slash_toy": 3}
# What nothing depends on: the last residual of WaveNet, and training heads without a loss.
DEAD = {("wavenet_small", "loss"): "grad:l.4.conv4.", ("wavenet_small", "vjp"): "grad:l.4.conv4."}
DEAD[("googlenet_aux", "vjp")] = "grad:aux"

# Of each family the one that takes a second or two; the others have the same parts more often.
QUICK = ("lenet5_1998", "alexnet_grouped", "vgg_a", "inception_reduced", "resnet20_cifar", "alphago_policy_k192")
QUICK += ("fcn32s", "wavenet_small", "fully_connected_net", "x_or_o", "xo_slash_toy", "binarynet_mnist")


def lively_params(model: Model, seed: int) -> dict[str, Array]:
    """He's scale, and running statistics that fit: neither signals nor gradients of deep networks fade or grow, and
    no softmax is sure.
    """
    rng = np.random.default_rng([seed, 3])
    params = random_params(model, seed)
    adds = any(isinstance(node.op, ops.Add) for node in model.graph.walk())
    for spec in model.params():
        value = params[spec.name]
        if adds and spec.init.kind == "ones":
            params[spec.name] = RESIDUAL_GAMMA * value
        elif spec.trainable and value.ndim > 1:
            params[spec.name] = rng.standard_normal(value.shape) * np.sqrt(2 / max(1, np.prod(value.shape[1:])))
    forward = meaning(model, "forward")
    values = evaluate(forward, random_inputs(forward, BATCH, 1), params, scalars=SCALARS)
    for name, value in forward.outputs.items():
        kind, _, state = name.partition(":")
        if kind == "state":
            params[state] = params[state] + (values[value] - params[state]) / MOMENTUM
    return params


def dead(graph: Graph, values: Mapping[Value, Array]) -> set[str]:
    """Outputs that are all zero, or not numbers: they could not tell a right graph from a wrong one."""
    norms = {name: float(np.linalg.norm(values[value])) for name, value in graph.outputs.items()}
    return {name for name, norm in norms.items() if not 0 < norm < np.inf}


def pipelines(variant: str) -> Iterator[Without]:
    """What is left out: nothing, everything, each pass alone, and everything else."""
    everything = frozenset(OPTIONAL)
    yield from (NOTHING, everything)
    for step in PIPELINES[variant]:
        if step.__name__ in everything:
            yield frozenset([step.__name__])
            yield everything - {step.__name__}


def graphs(model: Model, variant: str) -> Iterator[tuple[Without, Graph]]:
    """What the pipelines make of a network, each graph once."""
    seen: set[Graph] = set()
    for without in pipelines(variant):
        graph = optimise(model, variant, without)
        if graph not in seen:  # graphs that print alike are one
            seen.add(graph)
            yield without, graph


@pytest.mark.parametrize("variant", ["infer", "loss", "vjp"])
@pytest.mark.parametrize("name", everyday(QUICK))
def test_every_pipeline_keeps_every_output(name: str, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    remember_passes(monkeypatch)
    model = reduced(name, GENTLE_EPS)
    params = lively_params(model, SEEDS.get(name, 1))
    before = meaning(model, variant)
    inputs = random_inputs(before, BATCH, 1)
    values = Values(inputs, params, SCALARS)
    reference = values.of(before)
    unread = DEAD.get((name, variant), ())
    assert [output for output in dead(before, reference) if not output.startswith(unread)] == []
    for without, after in graphs(model, variant):
        assert set(before.outputs) == set(after.outputs)
        errors = output_errors(before, reference, after, values.of(after))
        assert max(errors.values()) <= TOLERANCE, (sorted(without), errors)


@pytest.mark.parametrize("name", everyday(QUICK))
def test_every_group_on_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "random_params", lambda model, seed: lively_params(model, SEEDS.get(name, 1)))
    device = open_device("cpu", "float64")
    groups = list(verify_model(reduced(name, GENTLE_EPS), device, "float64", train=True, batch=BATCH))
    assert [group for group in groups if not group.passed] == []
