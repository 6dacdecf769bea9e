"""Every op on single elements, masked and binary weights: through all passes, every runtime and training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnc.api.network import Network
from cnnc.ir import ops
from cnnc.ir.graph import Graph
from cnnc.ir.plan import Plan
from cnnc.passes.pipelines import OPTIONAL, arenas_of, compile_plan, meaning, optimise
from cnnc.runtime.arrays import Array
from cnnc.runtime.compare import canonical_output
from cnnc.runtime.device import open_device
from cnnc.runtime.oracle import evaluate
from cnnc.runtime.scalars import Scalars
from cnnc.runtime.verify import random_inputs, random_params, verify_model
from tests.pointwise_network import CLASSES, IMAGE, SGD, constants, in_torch, pointwise_network

SCALARS = Scalars(3, seed=3, step=1)
DEVICES = (("cpu", "float64"), ("cpu", "float32"), ("cpu", "bfloat16"), ("interpret", "float32"))


def relative(found: Array, expected: Array) -> float:
    assert found.shape == expected.shape
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("graph_of", [meaning, optimise])
def test_gradients_are_torch_s(graph_of) -> None:
    """In float64: of the input and of every trained parameter, before and after the passes."""
    model = pointwise_network(5)
    graph: Graph = graph_of(model, "vjp")
    inputs, params = random_inputs(graph, 3, 7), random_params(model, 7)
    values = evaluate(graph, inputs, params, scalars=SCALARS)
    state = {name: torch.tensor(value, dtype=torch.float64) for name, value in params.items()}
    trained = [spec.name for spec in model.params() if spec.trainable]
    for name in trained:
        state[name].requires_grad_()
    x = torch.tensor(inputs["input"].transpose(0, 3, 1, 2), requires_grad=True)
    y = in_torch(model, state, x, training=True)
    y.backward(torch.tensor(inputs["doutput"]))
    assert x.grad is not None
    assert relative(values[graph.outputs["dinput"]].transpose(0, 3, 1, 2), x.grad.numpy()) <= 1e-10
    for name in trained:
        output = f"grad:{name}"
        value = graph.outputs[output]
        found = canonical_output(graph, output, value, values[value])
        gradient = state[name].grad
        assert gradient is not None
        assert relative(found, gradient.numpy()) <= 1e-10, name


@pytest.mark.parametrize(("device", "dtype"), DEVICES)
def test_every_group_of_every_plan(device: str, dtype: str, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("CNNC_CACHE", str(tmp_path))
    variants = ("infer", "vjp") if device == "interpret" else ("infer", "forward", "loss", "vjp")
    monkeypatch.setattr("cnnc.runtime.verify.TRAINING_VARIANTS", variants)
    groups = list(verify_model(pointwise_network(5), open_device(device, dtype), dtype, train=True))
    assert {group.variant for group in groups} == set(variants)
    assert [group for group in groups if not group.passed] == []


@pytest.mark.parametrize("device", ["cpu", "interpret"])
def test_training_is_torch_s(device: str, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Three steps of SGD with clipped masters, then inference: weights made of parameters follow each update."""
    monkeypatch.setenv("CNNC_CACHE", str(tmp_path))
    model = pointwise_network(5)
    dtype, limit = ("float64", 1e-9) if device == "cpu" else ("float32", 1e-4)
    net = Network(model, device=device, dtype=dtype, training=True, seed=4)
    state = {name: torch.tensor(value, dtype=torch.float64) for name, value in net.state_dict().items()}
    everything = {**state, **constants(model)}
    specs = [spec for spec in model.params() if spec.trainable]
    decayed = [state[spec.name].requires_grad_() for spec in specs if spec.decay]
    plain = [state[spec.name].requires_grad_() for spec in specs if not spec.decay]
    groups = [{"params": decayed, "weight_decay": SGD.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=SGD.lr, momentum=SGD.momentum)
    rng = np.random.default_rng(5)
    for _ in range(3):
        x, labels = rng.standard_normal((4, *IMAGE, 3)), rng.integers(0, CLASSES, 4)
        optimizer.zero_grad()
        logits = in_torch(model, everything, torch.tensor(x).permute(0, 3, 1, 2), training=True)
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels))
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for spec in specs:
                if spec.clipped:
                    state[spec.name].clamp_(-1, 1)
        assert abs(net.train_step(x, labels) - float(loss.detach())) <= limit
    for name, value in net.state_dict().items():
        assert relative(value, state[name].detach().numpy()) <= limit, name
    clipped = [net.state_dict()[spec.name] for spec in specs if spec.clipped]
    assert any((np.abs(value) == 1).any() for value in clipped)
    with torch.no_grad():
        expected = in_torch(model, everything, torch.tensor(x).permute(0, 3, 1, 2), training=False)
    assert relative(net(x), expected.numpy()) <= limit


def prepared(plan: Plan) -> list[str]:
    return [step.op.name for step in plan.schedules[0].prepare]


@pytest.mark.parametrize("variant", ["infer", "forward", "loss", "vjp"])
def test_weights_are_made_before_the_steps(variant: str) -> None:
    """Once for every change of the parameters, not once for every batch."""
    plan = compile_plan(pointwise_network(5), variant, "cpu", "float32")
    made = prepared(plan)
    assert (made.count("mask_weight"), made.count("binarize")) == (2, 3)
    assert made.count("fold_scale") == (2 if variant == "infer" else 0)
    left = [step.op for step in plan.schedules[0].steps]
    assert sum(isinstance(op, ops.MaskWeight) for op in left) == (2 if variant in ("loss", "vjp") else 0)
    assert not any(isinstance(op, ops.Binarize) for op in left)


def test_masters_of_signs_lie_side_by_side() -> None:
    model = pointwise_network(5)
    arena = arenas_of(model).params
    update = compile_plan(model, "update", "cpu", "float32").schedules[0].steps[0].op
    assert update == ops.SgdUpdate(arena.decayed, arena.clipped)
    low, high = arena.clipped
    for spec, offset in zip(arena.specs, arena.offsets, strict=True):
        assert (low <= offset < high) == spec.clipped, spec.name
    stored = {spec.name: spec for spec in arena.specs}
    assert stored["fc1.weight"].shape == (5, *IMAGE, 5)  # a convolution as large as its image


def test_epilogues() -> None:
    """Products read the chain in either slot; a value that is read twice ends it."""
    others = frozenset(OPTIONAL) - {"pointwise_conv", "fold_batchnorm", "fuse_epilogues"}
    kernels = [node.op.name for node in optimise(pointwise_network(5), "infer", others).walk() if node.operands]
    assert [name for name in kernels if not name.startswith(("mask", "binarize", "fold"))] == [
        "conv+bias_add+activation+scale",
        "linear+p_relu",
        "conv+bias_add+activation",
        "linear+bias_add+activation+mul+channel_scale+activation",
        "conv",
        "mul",
        "activation",
        "activation+mul+identity+add+activation",
        "linear+position_bias+activation",
        "conv+scale+p_relu",
        "linear",
        "flatten",
    ]
    backward = {node.op.name for node in optimise(pointwise_network(5), "vjp", others).walk() if node.operands}
    assert {"linear_dgrad+activation_grad", "p_relu_grad+scale", "mul+add+scale+activation_grad"} <= backward
