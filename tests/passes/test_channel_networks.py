"""Networks of channel ops and transposed convolutions through the passes and every step, and against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from cnnc.ir import ops
from cnnc.ir.graph import Graph
from cnnc.ir.model import Model
from cnnc.ir.training import TrainConfig
from cnnc.ir.window import Window
from cnnc.passes.autodiff import autodiff
from cnnc.passes.fold_batchnorm import refusal
from cnnc.passes.pipelines import meaning, optimise
from cnnc.passes.rewrite import Rewriter
from cnnc.runtime.device import open_device
from cnnc.runtime.oracle import evaluate
from cnnc.runtime.scalars import Scalars
from cnnc.runtime.verify import random_inputs, random_params, verify_model
from cnnc.source import Source
from tests.passes.networks import Builder

DEVICES = (("cpu", "float64"), ("cpu", "float32"), ("cpu", "bfloat16"), ("interpret", "float32"))
SCALARS = Scalars(2, seed=3, step=1)


def as_model(graph: Graph) -> Model:
    return Model("hand", graph, graph["input"].types[0].shape, TrainConfig(), Source("<test>", ""))


def up_sampling() -> Graph:
    """Down by a convolution, up again by three deconvs; the last is fixed, and its gradient goes through."""
    net = Builder(7, 6, 3)
    net.conv("conv", 6, 3, stride=2, pad=1)
    net.bias("conv.bias")
    net.op("conv.relu", ops.Activation("relu"))
    net.deconv("up1", 4, Window((4, 4), (2, 2), (1, 1, 1, 1)), groups=2)
    net.norm("up1.bn")
    net.op("up1.relu", ops.Activation("relu"))
    net.deconv("up2", 5, Window((2, 3), (3, 2), (0, 1, 1, 0)))
    net.bias("up2.bias")
    net.op("up2.tanh", ops.Activation("tanh"))
    net.deconv("up3", 5, Window((4, 4), (2, 2), (1, 1, 1, 1)), groups=5, fixed=True)
    return net.done()


def channels() -> Graph:
    """Concatenations (of a value with itself, too) around LRN, a shuffle and maxout, with skips across them."""
    net = Builder(5, 4, 3)
    start = net.conv("stem", 6, 3, pad=1)
    net.op("lrn", ops.Lrn(3, 0.3, 0.75, 1.5))
    left = net.op("lrn.relu", ops.Activation("relu"))
    net.conv("arm", 4, 1)
    net.bias("arm.bias")
    arm = net.op("arm.relu", ops.Activation("relu"))
    net.last = start
    net.op("concat", ops.Concat(), arm, left, arm)
    net.op("shuffle", ops.ChannelShuffle(4))
    net.norm("bn")
    net.op("maxout", ops.Maxout(2))
    net.op("maxout.sigmoid", ops.Activation("sigmoid"))
    net.conv("last", 5, 3)
    return net.done()


GRAPHS = {"up_sampling": up_sampling, "channels": channels}


@pytest.mark.parametrize(("device", "dtype"), DEVICES)
@pytest.mark.parametrize("name", GRAPHS)
def test_every_step_of_every_plan(
    name: str, device: str, dtype: str, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setenv("CNNC_CACHE", str(tmp_path))
    model = as_model(GRAPHS[name]())
    variants = ("infer", "forward", "vjp")  # the output is no vector of logits
    monkeypatch.setattr("cnnc.runtime.verify.TRAINING_VARIANTS", variants)
    groups = list(verify_model(model, open_device(device, dtype), dtype, train=True, batch=2))
    assert {group.variant for group in groups} == set(variants)
    assert not [group for group in groups if not group.passed]


def test_gradients_of_up_sampling_are_torch_s() -> None:
    model = as_model(up_sampling())
    graph = meaning(model, "vjp")
    inputs, params = random_inputs(graph, 2, 7), random_params(model, 7)
    t = {name: torch.tensor(value, requires_grad=True) for name, value in params.items()}
    x = torch.tensor(inputs["input"].transpose(0, 3, 1, 2), requires_grad=True)
    y = torch.relu(functional.conv2d(x, t["conv.weight"], t["conv.bias.bias"], stride=2, padding=1))
    y = functional.conv_transpose2d(y, t["up1.weight"], stride=2, padding=1, groups=2)
    y = torch.relu(functional.batch_norm(y, None, None, t["up1.bn.weight"], t["up1.bn.bias"], True))
    y = functional.conv_transpose2d(y, t["up2.weight"], t["up2.bias.bias"], stride=(3, 2))[:, :, :-1, 1:]
    y = functional.conv_transpose2d(torch.tanh(y), t["up3.weight"], stride=2, padding=1, groups=5)
    y.backward(torch.tensor(inputs["doutput"].transpose(0, 3, 1, 2)))
    values = evaluate(graph, inputs, params, scalars=SCALARS)
    compare(graph, values, x, t, trained=6 + 1)


def test_gradients_of_channel_ops_are_torch_s() -> None:
    model = as_model(channels())
    graph = meaning(model, "vjp")
    inputs, params = random_inputs(graph, 2, 8), random_params(model, 8)
    t = {name: torch.tensor(value, requires_grad=True) for name, value in params.items()}
    x = torch.tensor(inputs["input"].transpose(0, 3, 1, 2), requires_grad=True)
    start = functional.conv2d(x, t["stem.weight"], padding=1)
    left = torch.relu(functional.local_response_norm(start, 3, 0.9, 0.75, 1.5))
    arm = torch.relu(functional.conv2d(left, t["arm.weight"], t["arm.bias.bias"]))
    y = functional.channel_shuffle(torch.cat([start, arm, left, arm], 1), 4)
    y = functional.batch_norm(y, None, None, t["bn.weight"], t["bn.bias"], True)
    y = torch.sigmoid(y.unflatten(1, (-1, 2)).max(dim=2).values)
    y = functional.conv2d(y, t["last.weight"])
    y.backward(torch.tensor(inputs["doutput"].transpose(0, 3, 1, 2)))
    values = evaluate(graph, inputs, params, scalars=SCALARS)
    compare(graph, values, x, t, trained=6)


def compare(graph, values, x: torch.Tensor, params: dict[str, torch.Tensor], *, trained: int) -> None:
    """All gradients of a graph with those of torch, in float64."""
    assert relative(values[graph.outputs["dinput"]], x.grad) <= 1e-10
    found = {name[5:]: value for name, value in graph.outputs.items() if name.startswith("grad:")}
    assert len(found) == trained
    for name, value in found.items():
        assert relative(values[value], params[name].grad) <= 1e-10, name


def relative(array: np.ndarray, tensor: torch.Tensor | None) -> float:
    assert tensor is not None
    expected = tensor.numpy()
    expected = expected.transpose(0, 2, 3, 1) if expected.ndim == 4 else expected
    return float(np.linalg.norm(array - expected) / np.linalg.norm(expected))


def test_what_fuses() -> None:
    """Chains end where the shape changes or a value is read twice; a batch norm stays behind a deconv."""
    kernels = [node.op.name for node in optimise(as_model(up_sampling()), "infer").walk() if node.operands]
    assert kernels == [
        "conv+bias_add+activation",
        "conv_dgrad+batch_norm+activation",
        "conv_dgrad+bias_add+activation",
        "conv_dgrad",
    ]
    kernels = [node.op.name for node in optimise(as_model(channels()), "infer").walk() if node.operands]
    assert kernels == [
        "conv",
        "lrn+activation",
        "linear+bias_add+activation",
        "identity",  # the arm is in the concatenation twice
        "concat",
        "channel_shuffle+batch_norm",
        "maxout+activation",
        "conv",
    ]


def test_a_batch_norm_does_not_fold_into_a_deconv() -> None:
    graph = up_sampling()
    assert refusal(Rewriter(graph), graph["up1.bn"]) == (
        "up1 is transposed: the channels of its result are the last axis of its weight, not the first"
    )


def test_gradients_nobody_wants_are_not_made() -> None:
    """No slice for an operand that no parameter comes before."""
    net = Builder(4, 4, 3)
    given = net.last
    net.conv("conv", 2, 1)
    net.op("concat", ops.Concat(), given)
    graph = net.done()
    seed = graph.add("dy", ops.Input((4, 4, 5))).value()
    new = autodiff(graph, [(graph.outputs["output"], seed)])
    assert [node.op for node in new.walk() if isinstance(node.op, ops.ChannelSlice)] == [ops.ChannelSlice(0, 2)]
