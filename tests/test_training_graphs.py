"""Label maps, training heads, distances and zero gradients, against torch in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from cnnc.cli.run import readable
from cnnc.errors import CnnError, UsageError
from cnnc.ir import ops
from cnnc.ir.model import Head, Model
from cnnc.ir.params import Init, linear_spec
from cnnc.ir.plan import Space
from cnnc.ir.types import Element
from cnnc.passes.pipelines import compile_plan
from cnnc.runtime.device import open_device
from cnnc.runtime.verify import verify_model
from tests.hand_models import ON, bias, check_gradients, compiled, model_of, relative, torch_state
from tests.passes.networks import Builder

# -- one label per position ---------------------------------------------------------------------------


def segmentation() -> Model:
    net = Builder(5, 7, 3)
    net.conv("conv", 4, 3, pad=1)
    bias(net, "conv")
    net.op("relu", ops.Activation("relu"))
    net.conv("score", 6, 1)
    net.op("softmax", ops.Softmax())
    return model_of(net.done())


def segmentation_loss(state: dict[str, torch.Tensor], x: np.ndarray, y: np.ndarray) -> torch.Tensor:
    h = functional.conv2d(
        torch.tensor(x).permute(0, 3, 1, 2), state["conv.weight"], state["conv.bias"], padding=1
    ).relu()
    return functional.cross_entropy(functional.conv2d(h, state["score.weight"]), torch.tensor(y))


@ON
def test_a_label_map(device: str, dtype: str, tolerance: float) -> None:
    rng = np.random.default_rng(0)
    net = compiled(segmentation(), device, dtype)
    assert net.label_shape == (5, 7)
    for n in (1, 3) if device == "cpu" else (3,):
        x, y = rng.standard_normal((n, 5, 7, 3)), rng.integers(0, 6, (n, 5, 7))
        state = torch_state(net)
        check_gradients(net, segmentation_loss(state, x, y), state, net.loss_and_grads(x, y), tolerance)


def test_training_and_evaluation_count_positions() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((24, 5, 7, 3)).astype(np.float32)
    y = (x[..., 0] > 0).astype(np.int64)
    net = compiled(segmentation())
    with torch.no_grad():
        want = segmentation_loss(torch_state(net), x.astype(np.float64), y).item()
    before = net.evaluate(x, y)
    assert before.loss == pytest.approx(want, rel=1e-6)
    assert before.accuracy == pytest.approx(float((net(x).argmax(-1) == y).mean()))
    history = net.fit(x, y, epochs=15, batch_size=8)
    assert history[-1].validation_accuracy == pytest.approx(net.evaluate(x, y).accuracy)
    assert history[-1].validation_accuracy > before.accuracy
    assert history[-1].accuracy <= 1
    assert net.last_output.shape == (8, 5, 7, 6)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(2, int), "target is 2, but 2 images need labels 2x5x7, one per position; for one label per image"),
        (np.zeros((2, 7, 5), int), "target is 2x7x5, but 2 images need labels 2x5x7, one per position"),
        (np.full((2, 5, 7), 6), "target[0, 0, 0] is 6, but there are 6 classes (0 to 5)"),
        (np.zeros((2, 5, 7)), "target holds float64; integer class labels are needed"),
    ],
)
def test_wrong_label_maps_are_one_sentence(y: np.ndarray, message: str) -> None:
    net = compiled(segmentation())
    x = np.zeros((2, 5, 7, 3))
    for call in (net.loss_and_grads, net.train_step, net.evaluate, net.fit):
        with pytest.raises(UsageError) as caught:
            call(x, y)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_output_of_one_pixel_takes_a_label_per_image() -> None:
    net = Builder(3, 3, 2)
    net.conv("score", 4, 3)
    network = compiled(model_of(net.done()))
    x, y = np.random.default_rng(0).standard_normal((3, 3, 3, 2)), np.array([0, 3, 1])
    assert network.loss_and_grads(x, y)[0] == network.loss_and_grads(x, y[:, None, None])[0]
    assert network.evaluate(x, y).loss == pytest.approx(network.loss_and_grads(x, y)[0])


# -- training heads -----------------------------------------------------------------------------------


def headed() -> Model:
    """A head with a batch norm and a layer of its own, and a second one on the first features."""
    net = Builder(6, 5, 3)
    net.conv("conv", 4, 3)
    features = net.op("relu", ops.Activation("relu"))
    net.conv("aux_conv", 3, 1)
    net.norm("aux_bn")
    net.op("aux_pool", ops.GlobalAvgPool())
    aux = net.op("aux_fc", ops.Linear(), net.param(linear_spec("aux_fc.weight", 5, 3), Element.REAL))
    net.last = features
    net.op("deep_pool", ops.GlobalAvgPool())
    deep = net.op("deep_fc", ops.Linear(), net.param(linear_spec("deep_fc.weight", 5, 4), Element.REAL))
    net.last = features
    net.op("flatten", ops.Flatten())
    net.op("fc", ops.Linear(), net.param(linear_spec("fc.weight", 5, 48), Element.REAL))
    bias(net, "fc")
    output = net.op("softmax", ops.Softmax())
    net.last = aux
    aux = net.op("aux_softmax", ops.Softmax())
    return model_of(net.done(output=output, aux=aux, deep=deep), [Head("aux", 0.3), Head("deep", 0.7)])


def headed_outputs(state: dict[str, torch.Tensor], x: np.ndarray) -> tuple[torch.Tensor, ...]:
    """Logits: the network's, the heads'."""
    h = functional.conv2d(torch.tensor(x).permute(0, 3, 1, 2), state["conv.weight"]).relu()
    a = functional.conv2d(h, state["aux_conv.weight"])
    a = functional.batch_norm(a, None, None, state["aux_bn.weight"], state["aux_bn.bias"], training=True)
    logits = functional.linear(h.flatten(1), state["fc.weight"], state["fc.bias"])
    aux = functional.linear(a.mean((2, 3)), state["aux_fc.weight"])
    return logits, aux, functional.linear(h.mean((2, 3)), state["deep_fc.weight"])


@ON
def test_heads_count_in_the_loss_alone(device: str, dtype: str, tolerance: float) -> None:
    rng = np.random.default_rng(2)
    net = compiled(headed(), device, dtype)
    x, y = rng.standard_normal((4, 6, 5, 3)), rng.integers(0, 5, 4)
    state = torch_state(net)
    losses = [functional.cross_entropy(logits, torch.tensor(y)) for logits in headed_outputs(state, x)]
    loss = losses[0] + 0.3 * losses[1] + 0.7 * losses[2]
    check_gradients(net, loss, state, net.loss_and_grads(x, y), tolerance)
    state = torch_state(net)
    logits, *_ = headed_outputs(state, x)
    want = torch.softmax(logits, 1)
    assert relative(net(x), want.detach().numpy()) <= tolerance
    before = net.state_dict()
    assert relative(net(x, training=True), want.detach().numpy()) <= tolerance
    np.testing.assert_array_equal(net.state_dict()["aux_bn.running_mean"], before["aux_bn.running_mean"])
    dy = rng.standard_normal((4, 5))
    (want * torch.tensor(dy)).sum().backward()
    _, grads = net.vjp(x, dy)
    for name, value in grads.items():
        assert relative(value, np.zeros(value.shape) if state[name].grad is None else state[name].grad.numpy()) <= (
            tolerance if state[name].grad is not None else 0
        ), name


def test_heads_are_no_part_of_other_plans() -> None:
    model = headed()
    for variant in ("infer", "forward", "vjp"):
        plan = compile_plan(model, variant, "sm_90", "float32")
        computed = {layer for step in plan.schedules[0].steps for layer in step.layers if step.inputs}
        assert not any(layer.startswith(("aux", "deep")) for layer in computed), variant
        assert plan.params.offset("aux_fc.weight") >= 0
    assert len(compile_plan(model, "loss", "sm_90", "float32").schedules[0].named(Space.OUTPUT)) == 2


@pytest.mark.parametrize("device", ["cpu", "interpret"])
def test_gradients_that_nothing_reaches_are_zero_in_poisoned_memory(device: str) -> None:
    net = compiled(headed(), device, "float32")
    x = np.ones((2, 6, 5, 3))
    net.loss_and_grads(x, np.zeros(2, int))
    net._session._shared[Space.GRADS][:] = 0xFF
    _, grads = net.vjp(x, np.ones((2, 5)))
    for name, value in grads.items():
        assert np.isfinite(value).all()
        assert not value.any() or not name.startswith(("aux", "deep")), name


def test_a_head_with_other_classes_is_refused() -> None:
    model = headed()
    model.graph.outputs["deep"] = model.graph["relu"].value()
    with pytest.raises(CnnError, match="head deep ends with 4x3x4, but hand with 5; both are trained on the same"):
        compiled(model).loss_and_grads(np.ones((1, 6, 5, 3)), np.zeros(1, int))


def test_verify_checks_heads_and_label_maps() -> None:
    for model in (headed(), segmentation(), distances()):
        groups = list(verify_model(model, open_device("cpu", "float32"), "float32", train=True))
        assert all(group.passed for group in groups), [group for group in groups if not group.passed]


# -- distances ----------------------------------------------------------------------------------------


CODES = np.random.default_rng(9).choice([-1.0, 1.0], (4, 6))


def distances() -> Model:
    net = Builder(3, 3, 2)
    net.op("flatten", ops.Flatten())
    net.op("fc", ops.Linear(), net.param(linear_spec("fc.weight", 6, 18), Element.REAL))
    net.op("tanh", ops.Activation("tanh"))
    codes = replace(linear_spec("rbf.codes", 4, 6), init=Init("values", values=tuple(CODES.ravel())), trainable=False)
    net.op("rbf", ops.Rbf(), net.param(codes))
    return model_of(net.done())


@ON
def test_cross_entropy_of_distances(device: str, dtype: str, tolerance: float) -> None:
    rng = np.random.default_rng(4)
    net = compiled(distances(), device, dtype)
    x, y = rng.standard_normal((5, 3, 3, 2)), rng.integers(0, 4, 5)
    state = torch_state(net)
    flat = torch.tensor(x).permute(0, 3, 1, 2).flatten(1)
    hidden = functional.linear(flat, state["fc.weight"]).tanh()
    far = (hidden[:, None] - torch.tensor(CODES)).square().sum(2)
    assert relative(net(x), far.detach().numpy()) <= tolerance
    np.testing.assert_allclose(net.scores(x), -net(x))
    loss = functional.cross_entropy(-far, torch.tensor(y))
    evaluated = net.evaluate(x, y)
    assert evaluated.loss == pytest.approx(loss.item(), rel=max(tolerance, 1e-6))
    assert evaluated.accuracy == float((far.argmin(1).numpy() == y).mean())
    check_gradients(net, loss, state, net.loss_and_grads(x, y), tolerance)
    net.train_step(x, y)
    assert relative(net.last_output, -far.detach().numpy()) <= tolerance
    if device == "cpu":
        assert net.fit(x, y, epochs=30)[-1].validation_accuracy == net.evaluate(x, y).accuracy > 0.5


def test_cnnc_run_shows_the_nearest_classes() -> None:
    far = np.array([[3.0, 1.0, 2.0, 9.0]])
    assert readable(far, nearest=True) == "image 0: class 1 (1.0000), class 2 (2.0000), class 0 (3.0000)\n"


def test_codes_can_not_be_trained() -> None:
    net = Builder(3)
    net.op("rbf", ops.Rbf(), net.param(linear_spec("rbf.codes", 4, 3)))
    with pytest.raises(CnnError, match="layer rbf: the codes of an RBF layer are fixed"):
        compiled(model_of(net.done())).loss_and_grads(np.ones((1, 3)), np.zeros(1, int))
