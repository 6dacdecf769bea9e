"""Every published network, narrower and on smaller images, means the same after every pipeline, and runs so on cpu."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cnnc.ir.graph import Graph
from cnnc.ir.model import Model
from cnnc.passes.pipelines import NOTHING, OPTIONAL, PIPELINES, VARIANTS, Without, meaning, optimise
from cnnc.runtime.compare import output_errors
from cnnc.runtime.device import open_device
from cnnc.runtime.scalars import Scalars
from cnnc.runtime.verify import random_inputs, random_params, verify_model
from tests.reductions import everyday, reduced
from tests.remembered import Values, remember_passes

TOLERANCE = 1e-9  # relative L2 in float64
BATCH = 2
SCALARS = Scalars(BATCH, seed=1, step=1)

# Of each family the one that takes a second or two; the others have the same parts more often.
QUICK = ("lenet5_1998", "alexnet_grouped", "vgg_a", "inception_reduced", "resnet20_cifar", "alphago_policy_k192")
QUICK += ("fcn32s", "wavenet_small", "fully_connected_net", "x_or_o", "xo_slash_toy", "binarynet_mnist")


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


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", everyday(QUICK))
def test_every_pipeline_keeps_every_output(name: str, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    remember_passes(monkeypatch)
    model = reduced(name)
    params = random_params(model, 1)
    before = meaning(model, variant)
    inputs = random_inputs(before, BATCH, 1)
    values = Values(inputs, params, SCALARS)
    reference = values.of(before)
    for without, after in graphs(model, variant):
        assert set(before.outputs) == set(after.outputs)
        errors = output_errors(before, reference, after, values.of(after))
        assert max(errors.values()) <= TOLERANCE, (sorted(without), errors)


@pytest.mark.parametrize("name", everyday(QUICK))
def test_every_group_on_cpu(name: str) -> None:
    device = open_device("cpu", "float64")
    groups = list(verify_model(reduced(name), device, "float64", train=True, batch=BATCH))
    assert [group for group in groups if not group.passed] == []
