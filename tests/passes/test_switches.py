"""Every optional pass left out, alone and all together: the network keeps its values, gradients and parameters."""

from __future__ import annotations

import pytest

from cnnc.errors import UsageError
from cnnc.frontend import load, read_source
from cnnc.ir.model import Model
from cnnc.passes import pipelines
from cnnc.passes.pipelines import NOTHING, OPTIONAL, PIPELINES, arenas_of, compile_plan, left_out, pipeline
from cnnc.resources import resource
from cnnc.runtime.device import open_device
from cnnc.runtime.verify import verify_model
from cnnc.source import Source

RESNET = """\
model small_resnet
input 9x8x3
CONV: same, nobias, bn, relu
conv1: conv 8 3x3
maxpool 3x3/2
block unit(w, s=1) { add { | conv w 1x1/s; conv w 3x3; conv 2*w 1x1 linear | shortcut B } relu }
unit(4) x2
unit(6, 2) x2
globalavgpool
fc 5
softmax
train { loss cross_entropy }
"""
DENSENET = """\
model small_densenet
input 8x7x2
CONV: same, nobias
conv1: conv 6 3x3 bn relu
block dense(n) { repeat n { concat { | identity | bn; relu; conv 8 1x1 bn relu; conv 4 3x3 } } }
dense(2)
bn; relu; conv 7 1x1
avgpool 2x2
dense(2)
bn; relu
globalavgpool
fc 5
softmax
train { loss cross_entropy }
"""
LENET5 = str(resource("models", "lenet5.cnn"))
NETWORKS = {"lenet5": LENET5, "resnet": RESNET, "densenet": DENSENET}
EVERY = frozenset(OPTIONAL)
CHOICES = {**{name: frozenset({name}) for name in OPTIONAL}, "all": EVERY, "none": NOTHING}


def network(name: str) -> Model:
    return load(read_source(NETWORKS[name]))


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("name", NETWORKS)
def test_results_stay_without_a_pass(name: str, choice: str) -> None:
    """Each group and each output against the oracle in float64, within 1e-9."""
    device = open_device("cpu", "float64")
    groups = list(verify_model(network(name), device, "float64", train=True, batch=2, without=CHOICES[choice]))
    assert [group for group in groups if not group.passed] == []
    assert {group.tolerance for group in groups} == {1e-9}


@pytest.mark.parametrize("only", OPTIONAL)
@pytest.mark.parametrize("name", ["resnet", "densenet"])
def test_results_stay_with_one_pass_alone(name: str, only: str) -> None:
    device = open_device("cpu", "float64")
    groups = verify_model(network(name), device, "float64", train=True, batch=2, without=EVERY - {only})
    assert [group for group in groups if not group.passed] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_all_plans_read_one_arena_whatever_is_left_out(name: str) -> None:
    model = network(name)
    arenas = arenas_of(model)
    for without in CHOICES.values():
        plan = compile_plan(model, "loss", "sm_90", "bfloat16", without)
        assert (plan.params, plan.state) == (arenas.params, arenas.state)


def test_every_optional_pass_is_in_a_pipeline_once() -> None:
    assert len(set(OPTIONAL)) == len(OPTIONAL)
    used = {step.__name__ for passes in PIPELINES.values() for step in passes}
    assert set(OPTIONAL) <= used
    for variant, passes in PIPELINES.items():
        left = [step.__name__ for step in pipeline(variant, EVERY)]
        assert left == [step.__name__ for step in passes if step.__name__ not in EVERY]


def test_unknown_and_essential_passes_get_one_sentence() -> None:
    listed = f"choose from {', '.join(OPTIONAL)}$"
    with pytest.raises(UsageError, match=f"^there is no pass 'speed' to leave out; {listed}"):
        left_out(["speed", "fuse_epilogues"])
    for essential in ("dead_code", "flatten_linear", "training_mode"):
        with pytest.raises(UsageError, match=f"^{essential} can't be left out; {listed}"):
            left_out([essential])
    assert left_out(()) == pipelines.NOTHING


def test_the_host_computes_each_value_once() -> None:
    """What every reader would compute for itself on a card, the cpu's plan has a step for."""
    text = "input 6x6x4\nconv 8 3x3 same nobias bn relu\nconv 8 1x1 nobias bn relu\nfc 3"
    model = load(Source("<test>", text))
    names = {
        target: [step.op.name for step in compile_plan(model, "loss", target, "float32").schedules[0].steps]
        for target in ("cpu", "interpret")
    }
    assert any(name.startswith("batch_norm+activation+linear+") for name in names["interpret"])
    assert not any(name.startswith("batch_norm+activation+linear+") for name in names["cpu"])
