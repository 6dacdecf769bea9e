"""1-D nets and constants of ops through the Python interface, against torch in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from cnnc.errors import UsageError
from cnnc.ir import ops
from cnnc.ir.model import Model
from cnnc.ir.params import Init, ParamSpec, conv_spec, vector_spec
from cnnc.ir.types import Element
from cnnc.ir.window import Window
from cnnc.runtime.device import open_device
from cnnc.runtime.verify import verify_model
from tests.hand_models import ON, bias, check_gradients, compiled, model_of, relative, torch_state
from tests.passes.networks import Builder

# -- 1-D nets


def conv1d_spec(name: str, out: int, kernel: int, channels: int) -> ParamSpec:
    return replace(conv_spec(name, out, (kernel, 1), channels), torch_shape=(out, channels, kernel))


def sequence() -> Model:
    """Two causal convolutions, the second dilated and 1x1 at the end: a label per position."""
    net = Builder(11, 1, 3)
    causal = Window((2, 1), pad=(1, 0, 0, 0))
    net.op("conv1", ops.Conv(causal), net.param(conv1d_spec("conv1.weight", 4, 2, 3), Element.REAL))
    bias(net, "conv1")
    net.op("tanh", ops.Activation("tanh"))
    dilated = Window((2, 1), pad=(2, 0, 0, 0), dilation=(2, 1))
    net.op("conv2", ops.Conv(dilated), net.param(conv1d_spec("conv2.weight", 4, 2, 4), Element.REAL))
    net.op("conv3", ops.Conv(Window((1, 1))), net.param(conv1d_spec("conv3.weight", 5, 1, 4), Element.REAL))
    return model_of(net.done(), sequence=True)


def sequence_logits(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    h = functional.pad(x.transpose(1, 2), (1, 0))
    h = functional.pad(functional.conv1d(h, state["conv1.weight"], state["conv1.bias"]).tanh(), (2, 0))
    return functional.conv1d(functional.conv1d(h, state["conv2.weight"], dilation=2), state["conv3.weight"])


@ON
def test_sequences_are_two_dimensional_outside(device: str, dtype: str, tolerance: float) -> None:
    rng = np.random.default_rng(5)
    net = compiled(sequence(), device, dtype)
    assert (net.input_shape, net.output_shape, net.label_shape, net.classes) == ((11, 3), (11, 5), (11,), 5)
    shapes = {name: value.shape for name, value in net.state_dict().items()}
    assert shapes == {
        "conv1.weight": (4, 3, 2),
        "conv1.bias": (4,),
        "conv2.weight": (4, 4, 2),
        "conv3.weight": (5, 4, 1),
    }
    x, y = rng.standard_normal((3, 11, 3)), rng.integers(0, 5, (3, 11))
    state = torch_state(net)
    logits = sequence_logits(state, torch.tensor(x))
    assert relative(net(x), logits.detach().transpose(1, 2).numpy()) <= tolerance
    check_gradients(net, functional.cross_entropy(logits, torch.tensor(y)), state, net.loss_and_grads(x, y), tolerance)
    leaf, dy = torch.tensor(x).requires_grad_(), rng.standard_normal((3, 11, 5))
    (sequence_logits(state, leaf).transpose(1, 2) * torch.tensor(dy)).sum().backward()
    assert relative(net.vjp(x, dy)[0], leaf.grad) <= tolerance
    if device == "interpret":
        return
    assert net.predict(x, batch_size=2).shape == (3, 11, 5)
    assert net.fit(x, y, epochs=2)[-1].accuracy <= 1
    other = compiled(sequence(), device, dtype)
    other.load_state_dict(net.state_dict())
    np.testing.assert_array_equal(other(x), net(x))


def test_verify_checks_a_sequence() -> None:
    groups = list(verify_model(sequence(), open_device("cpu", "float32"), "float32", train=True))
    assert all(group.passed for group in groups), [group for group in groups if not group.passed]


def test_wrong_sequences_are_one_sentence() -> None:
    net = compiled(sequence())
    with pytest.raises(UsageError, match="input is 2x11x1x3, but the network needs Nx11x3"):
        net(np.zeros((2, 11, 1, 3)))
    with pytest.raises(UsageError, match="input is one 11x3 array; it needs a batch axis in front: Nx11x3"):
        net(np.zeros((11, 3)))
    with pytest.raises(UsageError, match="target is 2x11x1, but 2 images need labels 2x11, one per position"):
        net.train_step(np.zeros((2, 11, 3)), np.zeros((2, 11, 1), int))


# -- constants ----------------------------------------------------------------------------------------


def test_constants_are_initialised_and_shown_nowhere() -> None:
    net = Builder(2, 2, 3)
    ones = replace(vector_spec("ones", 3, Init("constant", values=(2.5,)), trainable=False), listed=False)
    net.op("shift", ops.BiasAdd(), net.param(ones))
    net.conv("conv", 2, 1)
    network = compiled(model_of(net.done()))
    assert list(network.state_dict()) == list(network.optimizer_state()) == ["conv.weight"]
    x = np.random.default_rng(6).standard_normal((1, 2, 2, 3))
    weight = network.state_dict()["conv.weight"][:, :, 0, 0]
    assert relative(network(x), (x + 2.5) @ weight.T) <= 1e-12
    network.load_state_dict(network.state_dict())
    assert relative(network(x), (x + 2.5) @ weight.T) <= 1e-12
